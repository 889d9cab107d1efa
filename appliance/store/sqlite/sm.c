/* sm.c - XEP-0198 state. Every message carries the h of its sender's session; within one
 * transaction only the last h of a session matters, so they are gathered here and written before
 * the commit. */
#include "appliance/base/hash.h"
#include "appliance/store/sqlite/sqlite.h"

#define FIRST_SLOTS 256u /* a power of two */

struct note {
	struct sl sm_id; /* borrowed from the operation until the transaction ends */
	uint64_t hash, stamp_ms;
	uint32_t h;
	bool dead; /* put or deleted since */
};

/* Open addressing: slot[] holds note numbers + 1. */
struct sm_buffer {
	struct note *note;
	uint32_t *slot;
	uint32_t n, slots;
};

static int buffer_alloc(struct sm_buffer *b, uint32_t slots)
{
	struct note *note = base_malloc(sizeof(*note) * (slots / 2));
	uint32_t *slot = base_calloc(slots, sizeof(*slot));

	if (!note || !slot) {
		free(note);
		free(slot);
		return E_NOMEM;
	}
	b->note = note;
	b->slot = slot;
	b->slots = slots;
	return 0;
}

int sq_sm_buffer_new(struct sm_buffer **b_r)
{
	struct sm_buffer *b = base_calloc(1, sizeof(*b));

	if (!b || buffer_alloc(b, FIRST_SLOTS) < 0) {
		free(b);
		return E_NOMEM;
	}
	*b_r = b;
	return 0;
}

void sq_sm_buffer_free(struct sm_buffer **bp)
{
	struct sm_buffer *b = *bp;

	*bp = NULL;
	if (!b)
		return;
	free(b->note);
	free(b->slot);
	free(b);
}

void sq_sm_buffer_reset(struct sm_buffer *b)
{
	if (b->n)
		memset(b->slot, 0, sizeof(*b->slot) * b->slots);
	b->n = 0;
}

static uint32_t *find_slot(struct sm_buffer *b, struct sl sm_id, uint64_t hash)
{
	uint32_t i = (uint32_t)hash & (b->slots - 1);

	while (b->slot[i]) {
		const struct note *n = &b->note[b->slot[i] - 1];
		if (n->hash == hash && sl_eq(n->sm_id, sm_id))
			break;
		i = (i + 1) & (b->slots - 1);
	}
	return &b->slot[i];
}

static int grow(struct sm_buffer *b)
{
	struct sm_buffer old = *b;

	if (buffer_alloc(b, old.slots * 2) < 0)
		return E_NOMEM;
	memcpy(b->note, old.note, sizeof(*b->note) * old.n);
	for (uint32_t i = 0; i < b->n; i++)
		*find_slot(b, b->note[i].sm_id, b->note[i].hash) = i + 1;
	free(old.note);
	free(old.slot);
	return 0;
}

int sq_sm_note(struct store_conn *c, struct sl sm_id, uint32_t h, uint64_t stamp_ms, struct err *e)
{
	struct sm_buffer *b = c->sm;
	uint64_t hash = hash_bytes(sm_id);
	uint32_t *slot = find_slot(b, sm_id, hash);
	struct note *n;

	if (!*slot && b->n == b->slots / 2) {
		if (grow(b) < 0)
			return err_set(e, E_NOMEM, NULL, "out of memory for session states");
		slot = find_slot(b, sm_id, hash);
	}
	if (!*slot) {
		b->note[b->n++] = (struct note){ sm_id, hash, stamp_ms, h, false };
		*slot = b->n;
		return 0;
	}
	n = &b->note[*slot - 1];
	if (n->dead || (int32_t)(h - n->h) > 0) /* h wraps at 2^32 (XEP-0198 section 4) */
		n->h = h;
	if (n->dead || stamp_ms > n->stamp_ms)
		n->stamp_ms = stamp_ms;
	n->dead = false;
	return 0;
}

/* What was noted before a put or delete of the same session is void. */
static void forget(struct store_conn *c, struct sl sm_id)
{
	uint32_t slot = *find_slot(c->sm, sm_id, hash_bytes(sm_id));

	if (slot)
		c->sm->note[slot - 1].dead = true;
}

int sq_sm_flush(struct store_conn *c, struct err *e)
{
	struct sm_buffer *b = c->sm;
	sqlite3_stmt *st;
	int rc = 0;

	if (b->n == 0)
		return 0;
	st = sq_st_get(c, SQL_SM_H, e);
	if (!st)
		return E_IO;
	for (uint32_t i = 0; rc == 0 && i < b->n; i++) {
		const struct note *n = &b->note[i];
		if (n->dead)
			continue;
		sq_st_sl(c, st, 1, n->sm_id);
		sq_st_u64(c, st, 2, n->h);
		sq_st_u64(c, st, 3, n->stamp_ms);
		rc = sq_st_run(c, st, e);
	}
	sq_sm_buffer_reset(b);
	return rc;
}

int sq_exec_sm_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_sm_put *p = (struct store_sm_put *)op;
	sqlite3_stmt *st;
	uint64_t oid;
	int rc = sq_owner_make(c, p->owner, &oid, e);

	if (rc < 0)
		return rc;
	st = sq_st_get(c, SQL_SM_PUT, e);
	if (!st)
		return E_IO;
	forget(c, p->sm_id);
	sq_st_sl(c, st, 1, p->sm_id);
	sq_st_u64(c, st, 2, oid);
	sq_st_sl(c, st, 3, p->resource);
	sq_st_u64(c, st, 4, p->h);
	sq_st_u64(c, st, 5, p->now_ms);
	return sq_st_run(c, st, e);
}

/* In a group, what the transaction has noted must be seen. */
static int flush_own(struct store_conn *c, struct err *e)
{
	return c->sm ? sq_sm_flush(c, e) : 0;
}

int sq_exec_sm_get(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_sm_get *p = (struct store_sm_get *)op;
	struct arena *a = store_op_arena(op);
	sqlite3_stmt *st;
	int rc = a ? flush_own(c, e) : err_set(e, E_NOMEM, NULL, "out of memory for a result");

	p->found_r = false;
	if (rc < 0)
		return rc;
	st = sq_st_get(c, SQL_SM_GET, e);
	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->sm_id);
	rc = sq_st_step(c, st, e);
	if (rc <= 0)
		return rc;
	p->found_r = true;
	p->h_r = (uint32_t)sq_col_u64(st, 0);
	rc = sq_col_sl(a, st, 1, &p->resource_r, e);
	if (rc == 0)
		rc = sq_owner_jid(a, sq_col_peek(st, 2), sq_col_peek(st, 3), &p->owner_r, e);
	sq_st_reset(st);
	return rc;
}

int sq_exec_sm_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_sm_del *p = (struct store_sm_del *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_SM_DEL, e);

	if (!st)
		return E_IO;
	forget(c, p->sm_id);
	sq_st_sl(c, st, 1, p->sm_id);
	return sq_st_run(c, st, e);
}

int sq_exec_sm_purge(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_sm_purge *p = (struct store_sm_purge *)op;
	sqlite3_stmt *st;
	int rc = flush_own(c, e);

	if (rc < 0)
		return rc;
	st = sq_st_get(c, SQL_SM_PURGE, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->before_ms);
	sq_st_u64(c, st, 2, p->limit);
	rc = sq_st_run(c, st, e);
	p->n_r = rc < 0 ? 0 : sq_st_changes(c);
	return rc;
}
