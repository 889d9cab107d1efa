/* queue.c - a translator's queue and its outbox (see docs/store.md for the life of an entry).
 *
 * What a message is (table queue) is written once; what becomes of it (table progress, with its
 * first part) is short and changes often; table part has the further parts of long messages. Column
 * `open` says whether the entry is still on its way: it changes only at the end (and when a
 * finished entry is taken up again), so that a move between open states touches no index. A further
 * part that has never been set has no row: it is queued. */
#include "appliance/store/sqlite/progress.h"

#define OPEN_STATES (1u << STORE_Q_QUEUED | 1u << STORE_Q_SUBMITTED | 1u << STORE_Q_ACCEPTED)

/* ---- put, move, part ---- */

static int part_write(struct store_conn *c, enum sql_id id, const struct store_queue_part *p,
		      struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->entry);
	sq_st_u64(c, st, 2, p->number);
	sq_st_u64(c, st, 3, p->state);
	sq_st_u64(c, st, 4, p->ambiguous);
	sq_st_sl(c, st, 5, p->message_id);
	sq_st_sl(c, st, 6, p->key);
	return sq_st_run(c, st, e);
}

static void bind_entry(struct store_conn *c, sqlite3_stmt *st, const struct store_queue_entry *q)
{
	const uint64_t number[] = { q->id, q->parts, q->wants_receipt, q->stamp_ms, q->expires_ms };
	const struct sl text[] = { q->custody_id,  q->from_jid,  q->to_jid,
				   q->from_number, q->to_number, q->stanza_id,
				   q->origin_id,   q->thread,    q->body };
	int i = 1;

	for (size_t k = 0; k < ARRAY_LEN(number); k++)
		sq_st_u64(c, st, i++, number[k]);
	for (size_t k = 0; k < ARRAY_LEN(text); k++)
		sq_st_sl(c, st, i++, text[k]);
}

static int progress_put(struct store_conn *c, const struct store_queue_entry *q, struct err *e)
{
	const uint64_t number[] = { q->id,         sq_queue_open(q->state),
				    q->state,      q->attempts,
				    q->ambiguous,  q->not_before_ms,
				    q->changed_ms, q->ref };
	sqlite3_stmt *st = sq_st_get(c, SQL_PROGRESS_PUT, e);
	int i = 1;

	if (!st)
		return E_IO;
	for (size_t k = 0; k < ARRAY_LEN(number); k++)
		sq_st_u64(c, st, i++, number[k]);
	sq_st_sl(c, st, i++, q->link);
	sq_st_sl(c, st, i++, q->error);
	sq_st_u64(c, st, i++, q->state);
	sq_st_u64(c, st, i, q->ambiguous);
	return sq_st_run(c, st, e);
}

/* An insert changed nothing: was it the unique text (id finds it) or the number that was there? */
static int conflict(struct store_conn *c, enum sql_id id, struct sl text, bool *duplicate_r,
		    bool *id_taken_r, struct err *e)
{
	sqlite3_stmt *st = text.n ? sq_st_get(c, id, e) : NULL;
	int rc = 0;

	if (text.n && !st)
		return E_IO;
	if (st) {
		sq_st_sl(c, st, 1, text);
		rc = sq_st_step(c, st, e);
		if (rc < 0)
			return rc;
		sq_st_reset(st);
	}
	*duplicate_r = rc > 0;
	*id_taken_r = rc == 0;
	return 0;
}

int sq_exec_queue_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_queue_put *p = (struct store_queue_put *)op;
	const struct store_queue_entry *q = &p->entry;
	sqlite3_stmt *st = sq_st_get(c, SQL_QUEUE_PUT, e);
	int rc = st ? sq_progress_flush_of(c, q->id, e) : E_IO;

	p->duplicate_r = p->id_taken_r = false;
	if (rc < 0)
		return rc;
	bind_entry(c, st, q);
	rc = sq_st_run(c, st, e);
	if (rc < 0)
		return rc;
	if (sq_st_changes(c) == 0)
		return conflict(c, SQL_QUEUE_GET_CUSTODY, q->custody_id, &p->duplicate_r,
				&p->id_taken_r, e);
	rc = progress_put(c, q, e);
	for (unsigned i = 2; rc == 0 && q->state != STORE_Q_QUEUED && i <= q->parts; i++) {
		struct store_queue_part part = { .entry = q->id,
						 .number = (uint8_t)i,
						 .state = q->state,
						 .ambiguous = q->ambiguous };
		rc = part_write(c, SQL_PART_SET, &part, e);
	}
	return rc;
}

static int set_parts(struct store_conn *c, const struct store_queue_move *m, struct err *e)
{
	static const enum sql_id ids[] = { SQL_QUEUE_PARTS, SQL_PART_CUT };
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(ids); i++) {
		sqlite3_stmt *st = sq_st_get(c, ids[i], e);
		if (!st)
			return E_IO;
		sq_st_u64(c, st, 1, m->id);
		sq_st_u64(c, st, 2, m->parts);
		rc = sq_st_run(c, st, e);
	}
	return rc;
}

int sq_exec_queue_move(struct store_conn *c, struct store_op *op, struct err *e)
{
	const struct store_queue_move *m = (struct store_queue_move *)op;
	int rc = m->parts ? set_parts(c, m, e) : 0;

	return rc ? rc : sq_progress_move(c, m, e);
}

int sq_exec_queue_part(struct store_conn *c, struct store_op *op, struct err *e)
{
	const struct store_queue_part *p = &((struct store_queue_part_set *)op)->part;
	int rc;

	if (p->number == 1)
		return sq_progress_part(c, p, e);
	rc = part_write(c, SQL_PART_STATE, p, e);
	if (rc < 0 || sq_st_changes(c) > 0)
		return rc;
	return part_write(c, SQL_PART_SET, p, e);
}

/* ---- load, get ---- */

static int texts_of(struct arena *a, sqlite3_stmt *st, int from, struct sl *const *text, size_t n,
		    struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = sq_col_sl(a, st, from + (int)i, text[i], e);
	return rc;
}

/* Columns SQL_QUEUE_COLS; the first part to the end of parts. */
static int entry_of(sqlite3_stmt *st, struct store_queue_entry *q, struct rows *parts,
		    struct err *e)
{
	struct sl *const text[] = { &q->custody_id, &q->from_jid,  &q->to_jid,    &q->from_number,
				    &q->to_number,  &q->stanza_id, &q->origin_id, &q->thread,
				    &q->body,       &q->link,      &q->error };
	struct store_queue_part *p;
	int rc;

	q->id = sq_col_u64(st, 0);
	q->state = (uint8_t)sq_col_u64(st, 1);
	q->parts = (uint8_t)sq_col_u64(st, 2);
	q->attempts = (uint8_t)sq_col_u64(st, 3);
	q->ambiguous = sq_col_u64(st, 4) != 0;
	q->wants_receipt = sq_col_u64(st, 5) != 0;
	q->stamp_ms = sq_col_u64(st, 6);
	q->not_before_ms = sq_col_u64(st, 7);
	q->expires_ms = sq_col_u64(st, 8);
	q->changed_ms = sq_col_u64(st, 9);
	q->ref = (uint32_t)sq_col_u64(st, 10);
	rc = texts_of(parts->arena, st, 11, text, ARRAY_LEN(text), e);
	if (rc < 0 || q->parts == 0)
		return rc;
	p = sq_rows_add(parts, sizeof(*p), e);
	if (!p)
		return E_NOMEM;
	p->entry = q->id;
	p->number = 1;
	p->state = (uint8_t)sq_col_u64(st, 22);
	p->ambiguous = sq_col_u64(st, 23) != 0;
	return texts_of(parts->arena, st, 24, (struct sl *const[]){ &p->message_id, &p->key }, 2,
			e);
}

static int part_of(struct arena *a, sqlite3_stmt *st, struct store_queue_part *p, struct err *e)
{
	p->state = (uint8_t)sq_col_u64(st, 1);
	p->ambiguous = sq_col_u64(st, 2) != 0;
	return texts_of(a, st, 3, (struct sl *const[]){ &p->message_id, &p->key }, 2, e);
}

/* The further parts of an entry to the end of parts: those that have a row, and the queued ones
 * that have none. */
static int further_parts(struct store_conn *c, const struct store_queue_entry *q,
			 struct rows *parts, struct err *e)
{
	struct store_queue_part *p;
	unsigned first = parts->n;
	sqlite3_stmt *st;
	int rc = 0;

	if (q->parts < 2)
		return 0;
	for (unsigned i = 2; i <= q->parts; i++) {
		p = sq_rows_add(parts, sizeof(*p), e);
		if (!p)
			return E_NOMEM;
		p->entry = q->id;
		p->number = (uint8_t)i;
	}
	st = sq_st_get(c, SQL_PART_LOAD, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, q->id);
	p = (struct store_queue_part *)parts->p + first;
	while ((rc = sq_st_step(c, st, e)) > 0) {
		uint64_t number = sq_col_u64(st, 0);
		if (number < 2 || number > q->parts)
			continue;
		rc = part_of(parts->arena, st, &p[number - 2], e);
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	return rc;
}

static int load_entries(struct store_conn *c, const struct store_queue_load *p, struct rows *rows,
			struct rows *parts, struct err *e)
{
	bool open_only = !(p->states & ~OPEN_STATES);
	sqlite3_stmt *st = sq_st_get(c, open_only ? SQL_QUEUE_LOAD_OPEN : SQL_QUEUE_LOAD, e);
	struct store_queue_entry *q;
	int rc;

	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->after);
	sq_st_u64(c, st, 2, p->states);
	sq_st_u64(c, st, 3, p->limit);
	while ((rc = sq_st_step(c, st, e)) > 0) {
		q = sq_rows_add(rows, sizeof(*q), e);
		rc = q ? entry_of(st, q, parts, e) : E_NOMEM;
		if (rc == 0)
			rc = further_parts(c, q, parts, e);
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	return rc;
}

int sq_exec_queue_load(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_queue_load *p = (struct store_queue_load *)op;
	struct rows rows, parts;
	int rc = sq_progress_flush(c, e);

	p->entry_r = NULL;
	p->part_r = NULL;
	p->n_r = p->nparts_r = 0;
	if (rc == 0)
		rc = sq_rows_init(&rows, op, e);
	if (rc == 0)
		rc = sq_rows_init(&parts, op, e);
	if (rc == 0)
		rc = load_entries(c, p, &rows, &parts, e);
	if (rc < 0)
		return rc;
	p->entry_r = rows.p;
	p->n_r = rows.n;
	p->part_r = parts.p;
	p->nparts_r = parts.n;
	return 0;
}

static sqlite3_stmt *get_stmt(struct store_conn *c, const struct store_queue_get *p, struct err *e)
{
	bool by_custody = p->id == 0 && p->custody_id.n;
	enum sql_id id = p->id        ? SQL_QUEUE_GET
			 : by_custody ? SQL_QUEUE_GET_CUSTODY
				      : SQL_QUEUE_GET_KEY;
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (!st)
		return NULL;
	if (p->id)
		sq_st_u64(c, st, 1, p->id);
	else
		sq_st_sl(c, st, 1, by_custody ? p->custody_id : p->key);
	return st;
}

/* The further parts are read before the first statement ends, so both see one state. */
int sq_exec_queue_get(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_queue_get *p = (struct store_queue_get *)op;
	struct rows parts;
	sqlite3_stmt *st;
	int rc = sq_progress_flush(c, e);

	p->found_r = false;
	p->part_r = NULL;
	p->nparts_r = 0;
	if (rc == 0)
		rc = sq_rows_init(&parts, op, e);
	if (rc < 0)
		return rc;
	st = get_stmt(c, p, e);
	rc = st ? sq_st_step(c, st, e) : E_IO;
	if (rc <= 0)
		return rc;
	rc = entry_of(st, &p->entry_r, &parts, e);
	if (rc == 0)
		rc = further_parts(c, &p->entry_r, &parts, e);
	sq_st_reset(st);
	if (rc < 0)
		return rc;
	p->found_r = true;
	p->part_r = parts.p;
	p->nparts_r = parts.n;
	return 0;
}

/* ---- count, purge ---- */

static int count(struct store_conn *c, enum sql_id id, uint64_t *n_r, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);
	int rc;

	if (!st)
		return E_IO;
	while ((rc = sq_st_step(c, st, e)) > 0)
		if (sq_col_u64(st, 0) < STORE_Q_STATES)
			n_r[sq_col_u64(st, 0)] = sq_col_u64(st, 1);
	return rc;
}

int sq_exec_queue_count(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_queue_count *p = (struct store_queue_count *)op;
	bool began;
	int rc = sq_progress_flush(c, e);

	memset(p->n_r, 0, sizeof(p->n_r));
	if (rc == 0)
		rc = sq_read_begin(c, &began, e);
	if (rc < 0)
		return rc;
	rc = count(c, SQL_QUEUE_COUNT_OPEN, p->n_r, e);
	if (rc == 0)
		rc = count(c, SQL_QUEUE_COUNT_DONE, p->n_r, e);
	sq_read_end(c, began);
	return rc;
}

static int del_entry(struct store_conn *c, uint64_t id, struct err *e)
{
	static const enum sql_id ids[] = { SQL_PART_DEL, SQL_PROGRESS_DEL, SQL_QUEUE_DEL };
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(ids); i++) {
		sqlite3_stmt *st = sq_st_get(c, ids[i], e);
		if (!st)
			return E_IO;
		sq_st_u64(c, st, 1, id);
		rc = sq_st_run(c, st, e);
	}
	return rc;
}

int sq_exec_queue_purge(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_queue_purge *p = (struct store_queue_purge *)op;
	sqlite3_stmt *st;
	int rc = sq_progress_flush(c, e);

	/* One by one: a statement that reads an index must not see it shrink. */
	for (p->n_r = 0; rc == 0 && p->n_r < p->limit; p->n_r++) {
		uint64_t id;
		st = sq_st_get(c, SQL_QUEUE_OLD, e);
		if (!st)
			return E_IO;
		sq_st_u64(c, st, 1, p->before_ms);
		rc = sq_st_step(c, st, e);
		if (rc <= 0)
			break;
		id = sq_col_u64(st, 0);
		sq_st_reset(st);
		rc = del_entry(c, id, e);
		if (rc < 0)
			break;
	}
	return rc;
}

/* ---- outbox ---- */

int sq_exec_outbox_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_outbox_put *p = (struct store_outbox_put *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_OUTBOX_PUT, e);
	int rc;

	p->duplicate_r = p->id_taken_r = false;
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->id);
	sq_st_sl(c, st, 2, p->key);
	sq_st_sl(c, st, 3, p->stanza);
	rc = sq_st_run(c, st, e);
	if (rc < 0 || sq_st_changes(c) > 0)
		return rc;
	return conflict(c, SQL_OUTBOX_HAS, p->key, &p->duplicate_r, &p->id_taken_r, e);
}

int sq_exec_outbox_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_outbox_del *p = (struct store_outbox_del *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_OUTBOX_DEL, e);
	int rc = st ? 0 : E_IO;

	for (unsigned i = 0; rc == 0 && i < p->n; i++) {
		sq_st_u64(c, st, 1, p->id[i]);
		rc = sq_st_run(c, st, e);
	}
	return rc;
}

int sq_exec_outbox_load(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_outbox_load *p = (struct store_outbox_load *)op;
	struct store_outbox_row *row;
	struct rows rows;
	sqlite3_stmt *st = sq_st_get(c, SQL_OUTBOX_LOAD, e);
	int rc = st ? sq_rows_init(&rows, op, e) : E_IO;

	p->row_r = NULL;
	p->n_r = 0;
	if (rc < 0)
		return rc;
	sq_st_u64(c, st, 1, p->after);
	sq_st_u64(c, st, 2, p->limit);
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? sq_col_sl(rows.arena, st, 1, &row->stanza, e) : E_NOMEM;
		if (rc < 0)
			break;
		row->id = sq_col_u64(st, 0);
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}
