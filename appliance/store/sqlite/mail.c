/* mail.c - the journal of messages in custody (see docs/store.md for its life). */
#include "appliance/store/sqlite/sqlite.h"

#include <stdatomic.h>

static int insert(struct store_conn *c, struct store_mail_put *p, struct err *e)
{
	sqlite3_stmt *st;
	uint64_t oid;
	int rc = sq_owner_make(c, p->owner, &oid, e);

	if (rc < 0)
		return rc;
	st = sq_st_get(c, SQL_MAIL_PUT, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->id);
	sq_st_u64(c, st, 2, oid);
	sq_st_u64(c, st, 3, p->stamp_ms);
	sq_st_u64(c, st, 4, p->expires_ms);
	sq_st_sl(c, st, 5, p->sender);
	sq_st_sl(c, st, 6, p->stanza);
	rc = sq_st_run(c, st, e);
	if (rc < 0)
		return rc;
	p->row_made_r = sq_st_changes(c) > 0;
	p->id_taken_r = !p->row_made_r;
	return 0;
}

/* The row comes before the mark: with its id taken nothing at all is kept. */
int sq_exec_mail_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_mail_put *p = (struct store_mail_put *)op;
	int rc = 0;

	p->duplicate_r = p->id_taken_r = p->row_made_r = false;
	if (p->origin_id.n)
		rc = sq_seen_find(c, p->sender, p->origin_id, &p->duplicate_r, e);
	if (rc == 0 && !p->duplicate_r && !atomic_load(&p->skip_row))
		rc = insert(c, p, e);
	if (rc < 0 || p->id_taken_r)
		return rc;
	if (p->origin_id.n && !p->duplicate_r)
		rc = sq_seen_add(c, p->stamp_ms, e);
	if (rc == 0 && p->sm_id.n)
		rc = sq_sm_note(c, p->sm_id, p->sm_h, p->stamp_ms, e);
	return rc;
}

int sq_exec_mail_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_mail_del *p = (struct store_mail_del *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_MAIL_DEL, e);
	int rc = st ? 0 : E_IO;

	for (unsigned i = 0; rc == 0 && i < p->n; i++) {
		sq_st_u64(c, st, 1, p->id[i]);
		rc = sq_st_run(c, st, e);
	}
	return rc;
}

static int row_of(struct arena *a, sqlite3_stmt *st, struct store_mail_row *row, struct err *e)
{
	int rc;

	row->id = sq_col_u64(st, 0);
	row->stamp_ms = sq_col_u64(st, 1);
	row->expires_ms = sq_col_u64(st, 2);
	rc = sq_col_sl(a, st, 3, &row->sender, e);
	return rc < 0 ? rc : sq_col_sl(a, st, 4, &row->stanza, e);
}

int sq_exec_mail_load(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_mail_load *p = (struct store_mail_load *)op;
	struct store_mail_row *row;
	struct rows rows;
	struct sl owner;
	sqlite3_stmt *st;
	uint64_t oid;
	size_t octets = 0;
	int rc = sq_rows_init(&rows, op, e);

	p->row_r = NULL;
	p->n_r = 0;
	p->more_r = false;
	if (rc == 0)
		rc = sq_owner_find(c, p->owner, &oid, e);
	if (rc < 0 || oid == 0)
		return rc;
	owner = arena_dup(rows.arena, p->owner);
	st = sq_st_get(c, SQL_MAIL_LOAD, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, oid);
	sq_st_u64(c, st, 2, p->after);
	sq_st_u64(c, st, 3, p->limit);
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? row_of(rows.arena, st, row, e) : E_NOMEM;
		if (rc < 0)
			break;
		row->owner = owner;
		octets += row->stanza.n;
		if (p->octets && octets >= p->octets) {
			rc = 0;
			break;
		}
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	p->more_r = rows.n == p->limit || (p->octets && octets >= p->octets);
	return rc;
}

static int first_u64(struct store_conn *c, sqlite3_stmt *st, uint64_t *v_r, struct err *e)
{
	int rc = sq_st_step(c, st, e);

	if (rc <= 0)
		return rc;
	*v_r = sq_col_u64(st, 0);
	sq_st_reset(st);
	return 0;
}

int sq_exec_mail_count(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_mail_count *p = (struct store_mail_count *)op;
	sqlite3_stmt *st = sq_st_get(c, p->owner.n ? SQL_MAIL_COUNT : SQL_MAIL_COUNT_ALL, e);
	uint64_t oid;
	int rc = st ? 0 : E_IO;

	p->n_r = 0;
	if (rc == 0 && p->owner.n) {
		rc = sq_owner_find(c, p->owner, &oid, e);
		if (rc < 0 || oid == 0)
			return rc;
		sq_st_u64(c, st, 1, oid);
	}
	return rc < 0 ? rc : first_u64(c, st, &p->n_r, e);
}

int sq_exec_mail_maxid(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_mail_maxid *p = (struct store_mail_maxid *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_MAIL_MAXID, e);

	p->id_r = 0;
	return st ? first_u64(c, st, &p->id_r, e) : E_IO;
}

int sq_exec_mail_expired(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_mail_expired *p = (struct store_mail_expired *)op;
	struct store_mail_row *row;
	struct rows rows;
	sqlite3_stmt *st = sq_st_get(c, SQL_MAIL_EXPIRED, e);
	int rc = st ? sq_rows_init(&rows, op, e) : E_IO;

	p->row_r = NULL;
	p->n_r = 0;
	if (rc < 0)
		return rc;
	sq_st_u64(c, st, 1, p->now_ms);
	sq_st_u64(c, st, 2, p->limit);
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? row_of(rows.arena, st, row, e) : E_NOMEM;
		if (rc == 0)
			rc = sq_owner_jid(rows.arena, sq_col_peek(st, 5), sq_col_peek(st, 6),
					  &row->owner, e);
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}
