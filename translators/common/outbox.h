/* outbox.h - stanzas on their way from a translator to its XMPP server, until its h covers them
 * (CUST-9).
 *
 * A stanza is added in a store group together with the change that it follows from (outbox_op gives
 * the operation to chain). When the group is committed it is sent, in the order of the ids; at a
 * new stream everything that is still there is sent again, page by page, so memory stays bounded
 * however long the server was away. Thread: the loop's. */
#ifndef TANDEM_TRANSLATORS_OUTBOX_H
#define TANDEM_TRANSLATORS_OUTBOX_H

#include "appliance/store/store.h"
#include "translators/common/streams.h"
#include "translators/common/ids.h"

struct outbox;

int outbox_new(struct loop *l, struct store *s, struct ids *ids, struct outbox **o_r);
void outbox_free(struct outbox **o);
/* From the streams' callbacks: how many there are (1 at first), one is up or down, and what the
 * server has acknowledged on it. Each sends the stanzas of its conversations (streams_choose). */
void outbox_count(struct outbox *o, unsigned n);
void outbox_up(struct outbox *o, unsigned stream, struct component *c);
void outbox_down(struct outbox *o, unsigned stream);
void outbox_acked(struct outbox *o, unsigned stream, uint64_t cookie);

/* An operation that puts one stanza; not submitted yet: chain it (op.group_next) and store_submit
 * the chain's head. key: unique name of the event, or empty; id: from outbox_id (it is in the
 * stanza's origin-id). Texts are copied. committed: called when the transaction ended (rc 0 or
 * E_IO), before the stanza is sent; may be NULL. NULL: out of memory. */
struct store_op *outbox_op(struct outbox *o, uint64_t id, struct sl key, struct sl xml,
			   void (*committed)(void *arg, int rc), void *arg);
uint64_t outbox_id(struct outbox *o);
/* Stanzas that were committed and are not acknowledged, as far as this process knows. */
size_t outbox_in_flight(const struct outbox *o);

#endif
