/* asession.h - the access layer's side of struct session: what the router delivers to, and how it
 * is made sure that the peer got it.
 *
 * It outlives streams: a session with XEP-0198 resumption waits, detached, for another one.
 * Everything that was delivered and is not acknowledged is in one ring. With XEP-0198 that is every
 * stanza, acknowledged by the peer's h; without, it is every message that promises, acknowledged
 * when its bytes were (CUST-7). */
#ifndef TANDEM_XMPP_ASESSION_H
#define TANDEM_XMPP_ASESSION_H

#include "appliance/fsm/fsm.h"
#include "xmpp/access/access_int.h"
#include "xmpp/router/session.h"

struct stream;
struct sm;

enum as_state { AS_BINDING, AS_ATTACHED, AS_DETACHED, AS_ENDED, AS_STATES };
enum as_event {
	AS_EV_BOUND,   /* the router took it */
	AS_EV_REFUSED, /* it did not */
	AS_EV_LOST,    /* the stream is gone */
	AS_EV_RESUMED, /* another stream takes over; ev: struct as_resume */
	AS_EV_EXPIRED, /* nobody came back */
	AS_EV_END,     /* orderly end */
	AS_EVENTS
};
extern const struct fsm_def as_fsm;

/* How a session ended, for what happens to its count in the store. */
enum as_end { AS_END_ORDERLY, AS_END_BROKEN };

struct as_extra { /* serialised children that only this recipient gets */
	size_t n;
	char p[];
};

struct as_entry { /* delivered, not acknowledged */
	struct stanza *st;
	struct mail *m;
	struct as_extra *extra;
	uint32_t octets; /* memory of st */
};

struct asession {
	struct fsm f; /* first */
	struct session s;
	struct access_worker *aw;
	struct stream *stream;         /* NULL: nobody is connected */
	const struct core_config *cfg; /* a reference */
	struct list node;              /* access_worker.sessions */
	struct list unacked_node;      /* access_worker.unacked */
	struct as_entry *ring;
	uint32_t head, n, cap; /* cap: 0 or a power of two */
	size_t octets;         /* memory of the stanzas in it */
	bool marked;           /* without XEP-0198: the mark_n oldest ... */
	uint32_t mark_n;
	uint64_t mark_octets;  /* ... lie before this octet of the stream */
	uint32_t unwritten;    /* the newest, that the output did not take */
	struct sm *sm;         /* NULL: no XEP-0198 */
	struct loop_task task; /* at the end of the turn: what todo says */
	uint8_t todo;          /* AS_TODO_* */
	uint8_t bind_rc;       /* of AS_EV_REFUSED, as -E_* */
	bool is_component;
	uint8_t index;         /* of a component's streams */
	bool held;             /* the router does not want more of it now */
	bool broken;           /* the end is not orderly: the count stays in the store */
	const char *mechanism; /* of the login; static */
	const char *end_error; /* stream error of a close that was asked for; static */
	char *end_text;
	void (*bound)(struct stream *s, int rc); /* tells the stream how the bind went */
	struct loop_timer timer;                 /* resumption, acknowledgement requests */
	char text[];                             /* the JID */
};

enum {
	AS_TODO_ACK = 1,       /* <a/> is owed */
	AS_TODO_REQUEST = 2,   /* stanzas were sent: <r/>? */
	AS_TODO_CLOSE = 4,     /* the router asked for the end */
	AS_TODO_OVERFLOW = 8,  /* the connection's output is full */
	AS_TODO_QUEUE = 16,    /* too many unacknowledged stanzas, or no memory for more */
	AS_TODO_FLOW = 64,     /* the reason not to read has gone */
	AS_TODO_UNSTORED = 32, /* the store could not commit (CUST-12) */
};

/* jid: prepared, its text is copied. E_NOMEM. Its machine is in BINDING; stream is set. */
int as_new(struct stream *s, struct sl jid, bool is_component, struct asession **as_r);
/* Ask the router; bound(stream, rc) says how it went, perhaps at once. On refusal the session is
 * gone then. */
void as_bind(struct asession *as, void (*bound)(struct stream *s, int rc));
/* Its stream is gone, or the stream closes in good order: may free the session. */
void as_lost(struct asession *as);
void as_end(struct asession *as, enum as_end how);
/* A stanza from the peer: counted, and to the router. Takes st. False: no memory for its place in
 * the count; st is gone and the stream must end. */
bool as_inbound(struct asession *as, struct stanza *st_take);
/* A stanza of the access layer itself (an error, an iq result) to the peer. Takes st (sealed here).
 */
void as_reply(struct asession *as, struct stanza *st_take);
/* The output of a component has room again. */
void as_drained(struct asession *as);
/* NULL, or what is wrong with a stanza's form (RFC 6120 8.2.3, RFC 6121 4.7.1): bad-request. */
const char *as_form_error(const struct stanza *st);
void as_todo(struct asession *as, uint8_t what);
/* Too many stanzas wait for their commit: the stream should not be read now. */
bool as_congested(const struct asession *as);

/* A session without XEP-0198: all that was written is acknowledged if the peer's TCP has it now
 * (CUST-7). */
void as_note_acked(struct asession *as);
/* The n oldest are acknowledged. */
void as_acked(struct asession *as, uint32_t n);
/* Write an entry of the ring (resumption). False: the output did not take it. */
bool as_write(struct asession *as, struct stanza *st, struct sl extra);
struct as_entry *as_entry(const struct asession *as, uint32_t i);

#endif
