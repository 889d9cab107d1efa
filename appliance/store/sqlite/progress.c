/* progress.c - changes of queue entries, gathered for the commit. A move and the part that caused
 * it come together, mostly in one group, and often a later move follows in the same transaction:
 * each sets all its fields, so per entry the last move and the last state of its first part are
 * written, in one statement. */
#include "appliance/store/sqlite/progress.h"

#define FIRST_SLOTS 256u /* a power of two */

/* Borrowed from the operations until the transaction ends. */
struct change {
	uint64_t id;
	const struct store_queue_move *move;
	const struct store_queue_part *part;
};

/* Open addressing: slot[] holds change numbers + 1. */
struct progress {
	struct change *change;
	uint32_t *slot;
	uint32_t n, slots;
};

static int alloc(struct progress *b, uint32_t slots)
{
	struct change *change = base_malloc(sizeof(*change) * (slots / 2));
	uint32_t *slot = base_calloc(slots, sizeof(*slot));

	if (!change || !slot) {
		free(change);
		free(slot);
		return E_NOMEM;
	}
	b->change = change;
	b->slot = slot;
	b->slots = slots;
	return 0;
}

int sq_progress_new(struct progress **b_r)
{
	struct progress *b = base_calloc(1, sizeof(*b));

	if (!b || alloc(b, FIRST_SLOTS) < 0) {
		free(b);
		return E_NOMEM;
	}
	*b_r = b;
	return 0;
}

void sq_progress_free(struct progress **bp)
{
	struct progress *b = *bp;

	*bp = NULL;
	if (!b)
		return;
	free(b->change);
	free(b->slot);
	free(b);
}

void sq_progress_reset(struct progress *b)
{
	if (b->n)
		memset(b->slot, 0, sizeof(*b->slot) * b->slots);
	b->n = 0;
}

/* Ids count up by the millisecond and within it: both ends of them vary. */
static uint32_t *find_slot(struct progress *b, uint64_t id)
{
	uint32_t i = (uint32_t)((id ^ id >> 22) * 0x9e3779b97f4a7c15ull >> 32) & (b->slots - 1);

	while (b->slot[i] && b->change[b->slot[i] - 1].id != id)
		i = (i + 1) & (b->slots - 1);
	return &b->slot[i];
}

static int grow(struct progress *b)
{
	struct progress old = *b;

	if (alloc(b, old.slots * 2) < 0)
		return E_NOMEM;
	memcpy(b->change, old.change, sizeof(*b->change) * old.n);
	for (uint32_t i = 0; i < b->n; i++)
		*find_slot(b, b->change[i].id) = i + 1;
	free(old.change);
	free(old.slot);
	return 0;
}

static struct change *change_of(struct store_conn *c, uint64_t id, struct err *e)
{
	struct progress *b = c->progress;
	uint32_t *slot = find_slot(b, id);

	if (!*slot && b->n == b->slots / 2) {
		if (grow(b) < 0) {
			err_set(e, E_NOMEM, NULL, "out of memory for queue changes");
			return NULL;
		}
		slot = find_slot(b, id);
	}
	if (!*slot) {
		b->change[b->n++] = (struct change){ .id = id };
		*slot = b->n;
	}
	return &b->change[*slot - 1];
}

int sq_progress_move(struct store_conn *c, const struct store_queue_move *m, struct err *e)
{
	struct change *ch = change_of(c, m->id, e);

	if (!ch)
		return E_NOMEM;
	ch->move = m;
	return 0;
}

int sq_progress_part(struct store_conn *c, const struct store_queue_part *p, struct err *e)
{
	struct change *ch = change_of(c, p->entry, e);

	if (!ch)
		return E_NOMEM;
	ch->part = p;
	return 0;
}

/* ---- writing ---- */

static void bind_move(struct store_conn *c, sqlite3_stmt *st, const struct store_queue_move *m)
{
	sq_st_u64(c, st, 1, m->id);
	sq_st_u64(c, st, 2, m->state);
	sq_st_u64(c, st, 3, m->attempts);
	sq_st_u64(c, st, 4, m->ambiguous);
	sq_st_u64(c, st, 5, m->not_before_ms);
	sq_st_u64(c, st, 6, m->changed_ms);
	sq_st_u64(c, st, 7, m->ref);
	sq_st_sl(c, st, 8, m->link);
	sq_st_sl(c, st, 9, m->error);
}

static void bind_part(struct store_conn *c, sqlite3_stmt *st, const struct store_queue_part *p,
		      int from)
{
	sq_st_u64(c, st, from, p->state);
	sq_st_u64(c, st, from + 1, p->ambiguous);
	sq_st_sl(c, st, from + 2, p->message_id);
	sq_st_sl(c, st, from + 3, p->key);
}

/* 1: the entry was there in the state that the statement asks for. */
static int run(struct store_conn *c, sqlite3_stmt *st, struct err *e)
{
	int rc = sq_st_run(c, st, e);

	return rc < 0 ? rc : sq_st_changes(c) > 0;
}

static int run_move(struct store_conn *c, enum sql_id id, const struct store_queue_move *m,
		    struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (!st)
		return E_IO;
	bind_move(c, st, m);
	if (id == SQL_PROGRESS_SET_OPEN)
		sq_st_u64(c, st, 10, sq_queue_open(m->state));
	return run(c, st, e);
}

static int run_part(struct store_conn *c, enum sql_id id, const struct store_queue_part *p,
		    struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->entry);
	bind_part(c, st, p, 2);
	return run(c, st, e);
}

static int run_both(struct store_conn *c, enum sql_id id, const struct change *ch, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (!st)
		return E_IO;
	bind_move(c, st, ch->move);
	sq_st_u64(c, st, 10, sq_queue_open(ch->move->state));
	bind_part(c, st, ch->part, 11);
	return run(c, st, e);
}

/* The second form: the end, or a finished entry that is taken up again. */
static int write_move(struct store_conn *c, const struct store_queue_move *m, struct err *e)
{
	int rc = sq_queue_open(m->state) ? run_move(c, SQL_PROGRESS_SET, m, e) : 0;

	return rc ? rc : run_move(c, SQL_PROGRESS_SET_OPEN, m, e);
}

/* Mostly only the state of a part is new, which leaves the index of keys alone. */
static int write_part(struct store_conn *c, const struct store_queue_part *p, struct err *e)
{
	int rc = run_part(c, SQL_FIRST_STATE, p, e);

	return rc ? rc : run_part(c, SQL_FIRST_SET, p, e);
}

/* The key is new when the part is accepted; `open` changes at the end. */
static int write_change(struct store_conn *c, const struct change *ch, struct err *e)
{
	int rc = 0;

	if (ch->move && ch->part) {
		rc = run_both(c,
			      !sq_queue_open(ch->move->state)       ? SQL_BOTH_STATE_OPEN
			      : ch->part->state == STORE_Q_ACCEPTED ? SQL_BOTH_KEY
								    : SQL_BOTH_STATE,
			      ch, e);
		if (rc)
			return rc;
	}
	if (ch->part)
		rc = write_part(c, ch->part, e);
	if (rc >= 0 && ch->move)
		rc = write_move(c, ch->move, e);
	return rc;
}

int sq_progress_flush(struct store_conn *c, struct err *e)
{
	struct progress *b = c->progress;
	int rc = 0;

	if (!b || b->n == 0)
		return 0;
	for (uint32_t i = 0; rc >= 0 && i < b->n; i++)
		rc = write_change(c, &b->change[i], e);
	sq_progress_reset(b);
	return rc < 0 ? rc : 0;
}

int sq_progress_flush_of(struct store_conn *c, uint64_t id, struct err *e)
{
	return c->progress->n && *find_slot(c->progress, id) ? sq_progress_flush(c, e) : 0;
}
