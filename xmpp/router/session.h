/* session.h - the seam between the access layer (streams) and the router (users).
 *
 * A session is what can be delivered to: a bound resource of a client (attached to a stream, or
 * detached and waiting for XEP-0198 resumption), or a component's stream. The access layer owns it
 * and its reliability (the XEP-0198 queue, or waiting for TCP's acknowledgement); the router owns
 * what it means to a user. All in the worker that owns the bare JID (or the component's domain). */
#ifndef TANDEM_XMPP_SESSION_H
#define TANDEM_XMPP_SESSION_H

#include "xmpp/router/worker.h"

struct user;
struct session;

/* A message on its way to sessions of this worker whose row is in the store (id != 0). One object
 * however many sessions hold it. The row is deleted when the first of them acknowledges; what all
 * of them failed to deliver stays as offline mail. Made and freed by router/mail.c; opaque to
 * access. */
struct mail;

/* A place in the sender's XEP-0198 count that waits for custody. Embedded in the access layer's own
 * entry; the router calls done exactly once. */
struct custody {
	struct sl sm_id; /* goes into the commit; empty: the sender has no XEP-0198 */
	uint32_t h;      /* the sender's count including this stanza */
	bool stored;     /* h is in the store: set by the router before done */
	/* 0: committed (or nothing to commit: then perhaps from inside router_inbound); E_IO: could
	 * not be stored - the access layer ends the stream with internal-server-error and does not
	 * count it. Must not call session_ended from inside. Also called for a session that has
	 * ended meanwhile: c lives until done. */
	void (*done)(struct custody *c, int rc);
};

struct session_ops {
	/* Take a stanza for delivery. st is borrowed (take a reference to keep). extra: serialised
	 * children for this recipient only, borrowed. m: NULL, or mail in custody: call mail_hold
	 * when queued, then mail_acked when the peer has it, or hand it back by session_ended.
	 * Never fails: what cannot be written is queued, handed back, or ends the stream (later,
	 * from the loop). Required. */
	void (*deliver)(struct session *s, struct stanza *st, struct sl extra, struct mail *m);
	/* End the stream with a stream error (NULL: normal close). The session ends by and by
	 * (session_ended). Required. */
	void (*close)(struct session *s, const char *stream_error, struct sl text);
	/* Stop (true) or go on (false) reading from the peer: the router holds too much of this
	 * session that waits for commits. NULL: not interested. */
	void (*flow)(struct session *s, bool stop);
	/* One line about it for tandemctl sessions: appends JSON members ("peer": ..., "tls": ...,
	 * "sm": ...). */
	void (*describe)(const struct session *s, struct buf *json);
};

struct session {
	struct list user_node; /* in user->sessions */
	const struct session_ops *ops;
	struct worker *w;
	struct user *user; /* NULL: a component's stream */
	struct jid jid; /* full JID (component: its domain), set before session_bind; text owned by
			 * the access layer */
	uint64_t epoch; /* unique in the process: guards late bus messages */
	uint64_t since_ms; /* wall clock of the bind */
	/* Presence, kept by services/presence.c. */
	struct stanza *presence; /* last available presence, sealed; NULL: unavailable */
	struct list directed;    /* JIDs that got directed presence (bounded) */
	int8_t priority;
	bool interested;   /* asked for the roster */
	bool mail_flushed; /* offline mail was offered */
	/* The router's own. */
	bool ending; /* hands back what it holds: nothing new is delivered to it */
	uint16_t ndirected;
	struct inbound *inbound; /* stanzas that wait for a commit, usually NULL */
};
/* Before session_bind or component_attach: zero, with ops, w, jid, epoch and since_ms set; the
 * lists are made here. */
void session_init(struct session *s);

/* ---- called by the access layer -------------------------------------------------------------- */

/* A resource is to be bound: the user is loaded (account, roster), conflicts are resolved (same
 * resource: the older session is closed with <conflict/>, RFC 6120 7.7.2.2 option 3... the newer
 * wins), limits checked. The answer comes by the callback, perhaps at once: rc 0; E_NOTFOUND
 * (account gone); E_LIMIT (sessions_per_user); E_IO (store); E_NOMEM. s->jid is what is bound.
 * session_ended before the answer withdraws the request: no callback then. */
void session_bind(struct session *s, void (*bound)(struct session *s, int rc));
/* Gone for good (stream closed without XEP-0198, time-out, unbind): unavailable presence is sent to
 * who knows it. Call once, after handing back what was not delivered with session_undelivered,
 * oldest first. */
void session_undelivered(struct session *s, struct stanza *st, struct mail *m);
void session_ended(struct session *s);
/* Find a session of this worker by owner and epoch, for resumption (access keeps its own table by
 * sm id). */

/* A stanza from a client's bound session, or from a component (then from is checked against its
 * domain by access). Takes st (unsealed; from is stamped here for clients). c: NULL, or the place
 * in the count that waits. The router keeps the order of what one session sends. Rules DELIV-1 to
 * DELIV-4, CUST-1 to CUST-5. */
void router_inbound(struct session *s, struct stanza *st_take, struct custody *c);

/* A component's stream is up or gone. */
void component_attach(struct session *s);
void component_detach(struct session *s);

/* ---- mail (router/mail.c), called by access for what it holds -------------------------------- */

uint64_t mail_id(const struct mail *m);
void mail_hold(struct mail *m); /* one more session holds it */
void mail_acked(struct worker *w,
		struct mail *m); /* this holder delivered it: delete the row (batched per turn) */
void mail_release(struct worker *w,
		  struct mail *m); /* this holder gives up without delivery (router's use) */

#endif
