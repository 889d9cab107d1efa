/* router.h - users, ownership and delivery. For services and the control commands; access uses
 * session.h. */
#ifndef TANDEM_XMPP_ROUTER_H
#define TANDEM_XMPP_ROUTER_H

#include "appliance/fsm/fsm.h"
#include "xmpp/router/session.h"

/* FAILED: the store could not answer; tried again at the next use. */
enum user_state { USER_LOADING, USER_READY, USER_ABSENT, USER_FAILED, USER_GONE };

struct roster;

extern const struct fsm_def user_fsm;

/* An account that is in use (has sessions, or has just been sent something). In its owner's table;
 * freed some time after its last use. Loading asks the store for account and roster; stanzas that
 * come meanwhile wait in order. */
struct user {
	struct fsm fsm; /* state is enum user_state */
	struct hnode hn;
	struct worker *w;
	struct jid jid;        /* bare; the text follows the struct */
	struct list sessions;  /* struct session.user_node, oldest first */
	struct roster *roster; /* services/roster.c; NULL until ready */
	struct pager *pager;   /* offline mail is being sent; usually NULL */
	struct list waiting;   /* what waits for the load */
	struct loop_timer idle;
	uint32_t refs; /* sessions, mail in flight, operations under way: not freed while > 0 */
	uint32_t mail_count; /* rows stored and not in flight: an estimate, for the limit */
	struct list seen; /* services/presence.c: contacts at components that were seen available */
	uint32_t unsettled; /* changes that wait for their commits: what the user sends waits behind
			       them */
	uint16_t nsessions, navailable;
	uint16_t nseen;
	bool seen_more; /* contacts that found no room there */
	bool used;      /* since the timer was set */
	bool mail_some; /* there may be such rows */
	bool stale;     /* load again when the load under way is done */
};
static inline bool user_ready(const struct user *u)
{
	return u->fsm.state == USER_READY;
}
static inline void user_hold(struct user *u)
{
	u->refs++;
}
void user_release(struct user *u); /* arms the idle timer with the last one; never frees at once */
/* The store failed in the middle of a change, or the account changed: load it anew. */
void user_reload(struct user *u);

/* The user of a bare JID of this worker, made (state LOADING) when it is not there. NULL: out of
 * memory. */
struct user *user_get(struct worker *w, struct sl bare);
struct user *user_find(struct worker *w, struct sl bare);
struct session *user_session(struct user *u, struct sl resource);

/* A stanza on its way to its recipient, with what is known of its row. */
struct item {
	struct stanza *st;
	uint64_t mail_id;     /* 0: no row */
	struct mail_row *row; /* a reference, or NULL: the row is committed (or there is none) */
};
void item_free(struct item *it);
void route_item(struct worker *w, struct item it_take); /* as route, below */

/* Route a sealed stanza to s->to, wherever it belongs; takes it. mail_id: its row, or 0. An
 * undeliverable stanza is answered to its sender by RFC 6121 8.5 and 6120 10; errors are dropped.
 * Any worker; keeps order per sender and recipient. */
void route(struct worker *w, struct stanza *st_take, uint64_t mail_id);
/* The same for what an account sends: behind its changes that wait for commits. */
void route_from(struct user *u, struct item it_take);
/* Answer a stanza with an error (no-op for those that must not be answered). */
void route_error(struct worker *w, const struct stanza *st, enum stanza_cond c, struct sl text);
/* A copy of st, which must be sealed, with other addresses (NULL: the same) for to: the children
 * are shared. */
void route_copy(struct worker *w, struct stanza *st, const struct jid *from, const struct jid *to);
/* A stanza that the store kept, sealed; it must have both addresses. E_SYNTAX, E_NOMEM. */
int stanza_restore(struct sl xml, struct stanza **st_r);
/* Seal and route a stanza that was built here: NULL and failures to seal are dropped. */
void route_new(struct worker *w, struct stanza *st_take);
/* The same for an answer to a session of u: delivered at once, where route would do it at the end
 * of the turn. */
void user_answer(struct user *u, struct stanza *st_take);
/* Deliver to one session, with its own trailing children. */
void session_send(struct session *s, struct stanza *st, struct sl extra);
void session_send_take(struct session *s, struct stanza *st_take);
/* A session became available with priority >= 0: offline mail goes to it (CUST-11). */
void deliver_flush(struct user *u);

/* ---- services (STYLE section 2) -------------------------------------------------------------- */

enum { SVC_PASS, SVC_HANDLED };
enum svc_target {
	SVC_TO_HOST,    /* to a served host's bare domain */
	SVC_TO_ACCOUNT, /* to a bare JID of ours (or no to), from anyone: user is ready */
	SVC_TO_SELF,    /* the same, but only from the account itself */
};

struct svc_ctx {
	struct worker *w;
	struct user *user;       /* SVC_TO_ACCOUNT, SVC_TO_SELF; else NULL */
	struct session *session; /* the sender's session when it is of this user and this worker;
				    may be NULL */
};

/* One row: an iq get or set whose payload is {ns, element}. The handler answers by route(), or
 * later; PASS lets the next row try. st is borrowed. */
struct svc_iq {
	enum svc_target target;
	enum stanza_type type; /* ST_GET or ST_SET */
	enum xml_ns ns;
	const char *element;
	int (*handle)(struct svc_ctx *c, struct stanza *st, struct xml_node *payload);
	const char *spec;
};

struct service {
	const char *name;
	const struct svc_iq *iq;             /* ends with a NULL handle; may be NULL */
	const char *const *features;         /* disco#info of hosts, NULL-terminated; may be NULL */
	const char *const *account_features; /* disco#info of accounts; may be NULL */
	/* Hooks; NULL: none. They run in the owner's worker. */
	int (*user_loaded)(
		struct user *u,
		const struct store_roster_load *roster); /* again after a reload; E_NOMEM */
	void (*user_freed)(struct user *u);
	void (*session_bound)(struct session *s);
	void (*session_ended)(struct session *s); /* still in user->sessions */
	/* The user is unsettled: route the item (taken) when what is under way is through. */
	int (*defer)(struct user *u, struct item it_take);
	int (*presence_out)(struct session *s, struct stanza *st); /* from the client; sealed */
	int (*presence_in)(struct user *u,
			   struct stanza *st); /* to the account's bare JID; sealed */
	void (*available)(struct session *s);  /* initial presence was sent */
	/* Nobody to deliver a message to that promises: HANDLED and *accept_r says whether it is to
	 * be kept. */
	int (*message_offline)(struct user *u, const struct stanza *st, bool *accept_r);
	/* Presence for one of the user's sessions alone passes by. */
	void (*presence_passed)(struct user *u, const struct stanza *st);
	/* A component's first stream is up; its last one has gone. For users with available
	 * sessions. */
	void (*component_up)(struct user *u, struct sl domain);
	void (*component_down)(struct user *u, struct sl domain);
};

struct service_table {
	const struct service *const
		*list; /* generated from Kconfig: services/registry.c; NULL-terminated */
};
/* Dispatch; used by the router. */
extern const struct service_table service_table;
int service_iq(const struct service_table *t, enum svc_target target, struct svc_ctx *c,
	       struct stanza *st);

#endif
