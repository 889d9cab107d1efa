/* services.h - what the services share: the roster in memory, its changes, and the subscription
 * states. */
#ifndef TANDEM_XMPP_SERVICES_H
#define TANDEM_XMPP_SERVICES_H

#include "xmpp/router/router.h"

extern const struct service svc_roster, svc_presence, svc_session, svc_offline, svc_disco, svc_ping,
	svc_version, svc_time;

/* ---- subscription states (sub_table.c) ------------------------------------------------------- */

/* RFC 6121 A.1. */
enum sub_state {
	SUB_NONE,
	SUB_NONE_PO,
	SUB_NONE_PI,
	SUB_NONE_POPI,
	SUB_TO,
	SUB_TO_PI,
	SUB_FROM,
	SUB_FROM_PO,
	SUB_BOTH,
	SUB_STATES
};
/* A presence stanza about the subscription; out: from the user, in: from the contact. */
enum sub_event {
	OUT_SUBSCRIBE,
	OUT_UNSUBSCRIBE,
	OUT_SUBSCRIBED,
	OUT_UNSUBSCRIBED,
	IN_SUBSCRIBE,
	IN_UNSUBSCRIBE,
	IN_SUBSCRIBED,
	IN_UNSUBSCRIBED,
	SUB_EVENTS
};
enum {                /* what else a row says */
       SUB_PASS = 1,  /* outbound: route it to the contact; inbound: deliver it to the user */
       SUB_REPLY = 2, /* inbound: the server answers for the user (subscribe -> subscribed,
			 unsubscribe -> unsubscribed) */
       SUB_APPROVE =
	       4, /* outbound: only note (subscribed) or cancel (unsubscribed) a pre-approval */
       SUB_IF_APPROVED = 8, /* inbound subscribe: with a pre-approval the server answers and the
			       state is `approved` */
};
struct sub_row {
	uint8_t event, state, next, flags;
	uint8_t approved; /* the next state with SUB_IF_APPROVED */
	const char *spec;
};
extern const struct sub_row sub_rows[SUB_EVENTS * SUB_STATES];
const struct sub_row *sub_find(enum sub_event e, enum sub_state s);
static inline bool sub_to(enum sub_state s) /* the user gets the contact's presence */
{
	return s == SUB_TO || s == SUB_TO_PI || s == SUB_BOTH;
}
static inline bool sub_from(enum sub_state s) /* the contact gets the user's presence */
{
	return s == SUB_FROM || s == SUB_FROM_PO || s == SUB_BOTH;
}
static inline bool sub_pending_in(enum sub_state s)
{
	return s == SUB_NONE_PI || s == SUB_NONE_POPI || s == SUB_TO_PI;
}
static inline bool sub_ask(enum sub_state s)
{
	return s == SUB_NONE_PO || s == SUB_NONE_POPI || s == SUB_FROM_PO;
}

/* ---- the roster of a user in memory (roster_items.c) ----------------------------------------- */

/* One allocation an item. */
struct ritem {
	uint8_t state;  /* enum sub_state */
	bool in_roster; /* false: only a request is pending */
	bool approved;  /* pre-approval */
	uint16_t jid_n, name_n;
	uint32_t groups_n, request_n;
	char text[]; /* jid, name, groups (each with '\n'), pending request (XML) */
};
static inline struct sl ritem_jid(const struct ritem *i)
{
	return sl_mk(i->text, i->jid_n);
}
static inline struct sl ritem_name(const struct ritem *i)
{
	return sl_mk(i->text + i->jid_n, i->name_n);
}
static inline struct sl ritem_groups(const struct ritem *i)
{
	return sl_mk(i->text + i->jid_n + i->name_n, i->groups_n);
}
static inline struct sl ritem_request(const struct ritem *i)
{
	return sl_mk(i->text + i->jid_n + i->name_n + i->groups_n, i->request_n);
}

struct roster {
	uint32_t n, cap;
	struct ritem **item; /* by JID */
	struct list changes; /* struct change, in order: what waits for commits */
	bool broken; /* a change could not be stored: reloaded when the last one is through */
};

/* What an item is to be. */
struct ritem_edit {
	struct sl jid, name, groups, request;
	enum sub_state state;
	bool in_roster, approved;
};

/* A new item with the edit's content: not in the roster yet; NULL: out of memory. */
struct ritem *ritem_new(const struct ritem_edit *e);
int roster_set(struct roster *r, struct ritem *i_take); /* E_NOMEM: not taken */
void roster_unset(struct roster *r, struct sl jid);
int roster_loaded(struct user *u, const struct store_roster_load *l);
void roster_free(struct user *u);
uint8_t sub_shown(enum sub_state s); /* STORE_SUB_* */
/* Add <item/> to query. E_NOMEM. */
int roster_item_xml(struct arena *a, struct xml_node *query, const struct ritem_edit *e,
		    bool removed);
struct ritem *roster_find(const struct user *u, struct sl jid);
enum sub_state roster_state(const struct user *u, struct sl jid);
uint32_t roster_room(const struct user *u); /* items that may still be added */
/* As it is now, or a fresh one. The text is the item's. */
struct ritem_edit ritem_edit(const struct user *u, struct sl jid);

/* ---- changes (change.c) ---------------------------------------------------------------------- */

/* A change that waits for its commit; what is to be sent then is collected in it. Made before the
 * item is changed. */
struct change;
enum change_out {
	CH_ROUTE,     /* route the stanza */
	CH_ANSWER,    /* the same at once, to a session of the user: keeps its place among pushes */
	CH_AVAILABLE, /* deliver it to all available sessions */
	CH_INTERESTED, /* deliver it to all sessions that asked for the roster */
	CH_PUSH,       /* roster push (built here) */
	CH_PRESENCE,   /* send the presence of every available session to the JID */
	CH_GONE,       /* send unavailable presence of every available session to the JID */
	CH_CALL,       /* call fn(user, stanza) */
	CH_ITEM,       /* route the item */
};
struct change *change_new(struct user *u);
/* The stanza is taken (NULL marks the change as out of memory). */
void change_out(struct change *c, enum change_out what, struct stanza *st_take);
void change_out_jid(struct change *c, enum change_out what, struct sl jid);
void change_call(struct change *c, void (*fn)(struct user *u, struct stanza *st),
		 struct stanza *st);
/* If the commit fails, st is answered with internal-server-error. */
void change_blame(struct change *c, struct stanza *st);
/* Replace (or add) the item in memory; the change will store it and, if it is in the roster, push
 * it (with push). */
int change_put(struct change *c, const struct ritem_edit *e, bool push);
int change_del(struct change *c, struct sl jid, bool push);
/* Submit; what was collected is done when the store has answered, after what was submitted before.
 * Without a put or a del it only keeps the order. NULL is ignored. */
void change_submit(struct change *c);
void change_free(struct change *c);
/* Routes the item behind the changes that are under way. PASS: there are none, or no memory. */
int change_defer(struct user *u, struct item it_take);

/* ---- presence (presence.c) ------------------------------------------------------------------- */

void presence_send_current(struct user *u, struct sl to); /* of every available session */
void presence_send_gone(struct user *u, struct sl to); /* unavailable, of every available session */
bool presence_domain_served(struct worker *w, struct sl jid);
/* Subscription stanzas (subscription.c). */
void subscription_out(struct session *s, struct stanza *st);
void subscription_in(struct user *u, struct stanza *st);
void subscription_redeliver(struct session *s);

/* ---- answers (registry.c) -------------------------------------------------------------------- */

/* A handler: an empty result. */
int svc_empty_result(struct svc_ctx *c, struct stanza *st, struct xml_node *payload);

/* An iq result to st with an empty payload element {ns, name} in *node_r; NULL: out of memory. */
struct stanza *svc_result(const struct stanza *st, enum xml_ns ns, struct sl name,
			  struct xml_node **node_r);

#endif
