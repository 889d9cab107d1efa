/* router.h - users, ownership and delivery. For services and the control commands; access uses session.h. */
#ifndef TANDEM_XMPP_ROUTER_H
#define TANDEM_XMPP_ROUTER_H

#include "xmpp/router/session.h"

enum user_state { USER_LOADING, USER_READY, USER_ABSENT };

struct roster;

/* An account that is in use (has sessions, or has just been sent something). In its owner's table; freed some time
 * after its last use. Loading asks the store for account and roster; stanzas that come meanwhile wait in order. */
struct user {
	struct hnode hn;
	struct jid jid;              /* bare */
	struct worker *w;
	uint8_t state;               /* enum user_state; fsm in user.c */
	struct list sessions;        /* struct session.user_node, oldest first */
	unsigned nsessions, navailable;
	struct roster *roster;       /* services/roster.c; NULL until ready */
	struct list mail;            /* struct mail in flight */
	struct list waiting;         /* stanzas that wait for the load */
	struct loop_timer idle;
	uint32_t mail_count;         /* rows known to be stored and not in flight: an estimate for the limit */
};

/* The user of a bare JID of this worker, made (state LOADING) when it is not there. NULL: out of memory. */
struct user *user_get(struct worker *w, struct sl bare);
struct user *user_find(struct worker *w, struct sl bare);
struct session *user_session(struct user *u, struct sl resource);

/* Route a sealed stanza to s->to, wherever it belongs; takes it. mail_id: its row, or 0. An undeliverable stanza is
 * answered to its sender by RFC 6121 8.5 and 6120 10; errors are dropped. Any worker; keeps order per sender and
 * recipient. */
void route(struct worker *w, struct stanza *st_take, uint64_t mail_id);
/* Answer a stanza with an error (no-op for those that must not be answered). */
void route_error(struct worker *w, const struct stanza *st, enum stanza_cond c, struct sl text);
/* Deliver to one session, with its own trailing children. */
void session_send(struct session *s, struct stanza *st, struct sl extra);
void session_send_take(struct session *s, struct stanza *st_take);

/* ---- services (STYLE section 2) ---------------------------------------------------------------- */

enum { SVC_PASS, SVC_HANDLED };
enum svc_target {
	SVC_TO_HOST,      /* to a served host's bare domain */
	SVC_TO_ACCOUNT,   /* to a bare JID of ours (or no to), from anyone: user is ready */
	SVC_TO_SELF,      /* the same, but only from the account itself */
};

struct svc_ctx {
	struct worker *w;
	struct user *user;           /* SVC_TO_ACCOUNT, SVC_TO_SELF; else NULL */
	struct session *session;     /* the sender's session when it is of this user and this worker; may be NULL */
};

/* One row: an iq get or set whose payload is {ns, element}. The handler answers by route(), or later; PASS lets the next
 * row try. st is borrowed. */
struct svc_iq {
	enum svc_target target;
	enum stanza_type type;       /* ST_GET or ST_SET */
	enum xml_ns ns;
	const char *element;
	int (*handle)(struct svc_ctx *c, struct stanza *st, struct xml_node *payload);
	const char *spec;
};

struct service {
	const char *name;
	const struct svc_iq *iq;     /* ends with a NULL handle; may be NULL */
	const char *const *features; /* disco#info of hosts, NULL-terminated; may be NULL */
	const char *const *account_features; /* disco#info of accounts; may be NULL */
	/* Hooks; NULL: none. They run in the owner's worker. */
	void (*user_loaded)(struct user *u, const struct store_roster_load *roster);
	void (*user_freed)(struct user *u);
	void (*session_bound)(struct session *s);
	void (*session_ended)(struct session *s);           /* still in user->sessions */
	int (*presence_out)(struct session *s, struct stanza *st); /* from the client; sealed */
	int (*presence_in)(struct user *u, struct stanza *st);     /* to the account's bare JID; sealed */
	void (*available)(struct session *s);               /* initial presence was sent */
	int (*message_offline)(struct user *u, struct stanza *st, uint64_t mail_id); /* nobody to deliver to */
};

struct service_table {
	const struct service *const *list; /* generated from Kconfig: services/registry.c; NULL-terminated */
};
/* Dispatch; used by the router. */
int service_iq(const struct service_table *t, enum svc_target target, struct svc_ctx *c, struct stanza *st);

#endif
