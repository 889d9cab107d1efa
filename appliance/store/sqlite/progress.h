/* progress.h - changes of queue entries within a transaction (see progress.c). */
#ifndef TANDEM_STORE_SQLITE_PROGRESS_H
#define TANDEM_STORE_SQLITE_PROGRESS_H

#include "appliance/store/sqlite/sqlite.h"

/* Is an entry in this state still on its way? */
static inline bool sq_queue_open(unsigned state)
{
	return state == STORE_Q_QUEUED || state == STORE_Q_SUBMITTED || state == STORE_Q_ACCEPTED;
}

int sq_progress_new(struct progress **b_r);
void sq_progress_free(struct progress **b);
/* Note a move, or a state of part 1; borrowed until the transaction ends. */
int sq_progress_move(struct store_conn *c, const struct store_queue_move *m, struct err *e);
int sq_progress_part(struct store_conn *c, const struct store_queue_part *p, struct err *e);
/* Write what was noted: before a commit, and before the transaction itself reads or adds entries.
 */
int sq_progress_flush(struct store_conn *c, struct err *e);
/* The same if anything was noted for this entry. */
int sq_progress_flush_of(struct store_conn *c, uint64_t id, struct err *e);
void sq_progress_reset(struct progress *b);

#endif
