/* sm.h - XEP-0198 version 3: counts, acknowledgements, resumption.
 *
 * Two counts modulo 2^32. Ours of what came in (h) counts a message when it is in custody and
 * anything else when it was routed; counts retire in order (CUST-3): a stanza behind one that waits
 * for its commit waits too. The peer's count acknowledges what asession.h keeps in its ring. */
#ifndef TANDEM_XMPP_SM_H
#define TANDEM_XMPP_SM_H

#include "xmpp/router/session.h"

struct asession;
struct access_worker;
struct stream;

#define SM_ID_OCTETS 24u

/* A place in the count that waits for custody, and how many stanzas came behind it that wait for
 * nothing but it. It outlives the session when the commit does. */
struct sm_place {
	struct custody c;    /* first: what the router calls back with */
	struct list node;    /* in sm.places */
	struct asession *as; /* NULL: the session is gone */
	struct access_worker *aw;
	uint32_t after;
	bool committed;
	char sm_id[SM_ID_OCTETS];
};

struct sm {
	struct hnode hn; /* access_worker.sm */
	struct asession *as;
	struct list places; /* struct sm_place, oldest first */
	uint32_t npending;  /* stanzas received and not in h */
	uint32_t h;         /* what we acknowledge */
	uint32_t stored_h;  /* as much of it as the store was given */
	uint32_t peer_h;    /* what the peer has acknowledged */
	uint32_t before;    /* entries of the ring from before <enable/>: any acknowledgement covers
			       them */
	uint32_t unrequested; /* stanzas sent since the last <r/> */
	uint32_t resume_s;    /* 0: no resumption */
	bool r_out;           /* an <r/> waits for its answer */
	bool unstored;        /* a commit failed: h stands still, the stream ends */
	bool owed; /* <r/> was answered with less than had come: <a/> follows the commit */
	char id[SM_ID_OCTETS];
};

/* <enable/>: answered; resume_s: how long we would wait (0: no resumption). False: it was refused
 * (answered, too). */
bool sm_enable(struct asession *as, const struct xml_node *n, uint32_t resume_s);
/* <r/>, <a/> and whatever else of the namespace comes in an established stream. NULL, or the stream
 * error (with *extra_r: its application-specific condition in scratch). */
const char *sm_element(struct asession *as, const struct xml_node *n, struct buf *extra_r);
/* A stanza came. wait: it needs a place that waits for custody, in *c_r. E_NOMEM. */
int sm_count(struct asession *as, bool wait, struct custody **c_r);
/* End of turn: owed <a/>, wanted <r/>. */
void sm_turn(struct asession *as, uint8_t todo);
/* The peer's count. E_RANGE: more than was sent. */
int sm_peer_h(struct asession *as, uint32_t h);
/* The timer of an attached session: asks, or finds that the peer does not answer. True: it is gone.
 */
bool sm_timer(struct asession *as);
/* The answer to <resume/>: <resumed/>, then everything again that the peer has not counted. */
void sm_resumed(struct asession *as);
/* Gives the store a count that it has not got with a message: what was acknowledged must not become
 * less by a crash (CUST-2). Called when the count was told, and when the connection is lost. */
void sm_note_h(struct asession *as);
/* The session ends: places are orphaned; the count is kept in the store (broken) or deleted. */
void sm_end(struct asession *as, bool keep);
/* The session with this id, or NULL. */
struct asession *sm_find(const struct access_worker *aw, struct sl id);
/* <failed/> with an optional h. condition: a stanza error's name. */
void sm_failed(struct stream *s, const char *condition, bool has_h, uint32_t h);
/* h of an attribute: 0, or E_SYNTAX. */
int sm_h(const struct xml_node *n, uint32_t *h_r);

/* A worker's spare places. */
void sm_places_free(struct access_worker *aw);

#endif
