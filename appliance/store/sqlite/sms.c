/* sms.c - what the SMS translator keeps beside its queue: numbers, links, fragments of long
 * messages. */
#include "appliance/store/sqlite/sqlite.h"

/* ---- numbers ---- */

/* Whose is it? Empty: nobody's. */
static int number_owner(struct store_conn *c, struct store_number_put *p, struct sl *jid_r,
			struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_NUMBER_GET, e);
	struct arena *a = store_op_arena(&p->op);
	int rc;

	*jid_r = SL_NULL;
	if (!st)
		return E_IO;
	if (!a)
		return err_set(e, E_NOMEM, NULL, "out of memory for a result");
	sq_st_sl(c, st, 1, p->number);
	rc = sq_st_step(c, st, e);
	if (rc <= 0)
		return rc;
	rc = sq_col_sl(a, st, 0, jid_r, e);
	sq_st_reset(st);
	return rc;
}

int sq_exec_number_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_number_put *p = (struct store_number_put *)op;
	sqlite3_stmt *st;
	struct sl jid;
	int rc = number_owner(c, p, &jid, e);

	if (rc < 0)
		return rc;
	p->taken_r = jid.n && !sl_eq(jid, p->jid);
	p->taken_by_r = p->taken_r ? jid : SL_NULL;
	if (p->taken_r)
		return 0;
	st = sq_st_get(c, SQL_NUMBER_PUT, e);
	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->number);
	sq_st_sl(c, st, 2, p->jid);
	sq_st_sl(c, st, 3, p->link);
	return sq_st_run(c, st, e);
}

int sq_exec_number_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_number_del *p = (struct store_number_del *)op;
	sqlite3_stmt *st = sq_st_get(c, p->number.n ? SQL_NUMBER_DEL : SQL_NUMBER_DEL_JID, e);
	int rc;

	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->number.n ? p->number : p->jid);
	rc = sq_st_run(c, st, e);
	p->n_r = rc == 0 ? sq_st_changes(c) : 0;
	return rc;
}

int sq_exec_number_list(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_number_list *p = (struct store_number_list *)op;
	struct store_number_row *row;
	struct rows rows;
	sqlite3_stmt *st = sq_st_get(c, SQL_NUMBER_LIST, e);
	int rc = st ? sq_rows_init(&rows, op, e) : E_IO;

	p->row_r = NULL;
	p->n_r = 0;
	if (rc < 0)
		return rc;
	sq_st_u64(c, st, 1, p->after);
	sq_st_u64(c, st, 2, p->limit);
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? sq_col_sl(rows.arena, st, 1, &row->number, e) : E_NOMEM;
		if (rc == 0)
			rc = sq_col_sl(rows.arena, st, 2, &row->jid, e);
		if (rc == 0)
			rc = sq_col_sl(rows.arena, st, 3, &row->link, e);
		if (rc < 0)
			break;
		row->age = sq_col_u64(st, 0);
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}

/* ---- links ---- */

int sq_exec_link_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_link_put *p = (struct store_link_put *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_LINK_HAS, e);
	int rc;

	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->name);
	rc = sq_st_step(c, st, e);
	if (rc < 0)
		return rc;
	p->existed_r = rc > 0;
	sq_st_reset(st);
	st = sq_st_get(c, SQL_LINK_PUT, e);
	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->name);
	sq_st_sl(c, st, 2, p->settings);
	return sq_st_run(c, st, e);
}

int sq_exec_link_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_link_del *p = (struct store_link_del *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_LINK_DEL, e);
	int rc;

	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->name);
	rc = sq_st_run(c, st, e);
	if (rc == 0)
		p->existed_r = sq_st_changes(c) > 0;
	return rc;
}

int sq_exec_link_list(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_link_list *p = (struct store_link_list *)op;
	struct store_link_row *row;
	struct rows rows;
	sqlite3_stmt *st = sq_st_get(c, SQL_LINK_LIST, e);
	int rc = st ? sq_rows_init(&rows, op, e) : E_IO;

	p->row_r = NULL;
	p->n_r = 0;
	if (rc < 0)
		return rc;
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? sq_col_sl(rows.arena, st, 0, &row->name, e) : E_NOMEM;
		if (rc == 0)
			rc = sq_col_sl(rows.arena, st, 1, &row->settings, e);
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}

/* ---- fragments ---- */

static int frag_joined(struct store_conn *c, struct store_frag_put *p, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_FRAG_JOINED, e);
	int rc;

	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->group);
	sq_st_u64(c, st, 2, p->number);
	sq_st_blob(c, st, 3, p->payload);
	sq_st_u64(c, st, 4, p->joined_since_ms);
	rc = sq_st_step(c, st, e);
	if (rc < 0)
		return rc;
	p->joined_r = rc > 0;
	sq_st_reset(st);
	return 0;
}

int sq_exec_frag_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_frag_put *p = (struct store_frag_put *)op;
	int rc = frag_joined(c, p, e);
	sqlite3_stmt *st;

	p->have_r = 0;
	if (rc < 0 || p->joined_r)
		return rc;
	st = sq_st_get(c, SQL_FRAG_PUT, e);
	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->group);
	sq_st_u64(c, st, 2, p->number);
	sq_st_u64(c, st, 3, p->total);
	sq_st_u64(c, st, 4, p->stamp_ms);
	sq_st_sl(c, st, 5, p->meta);
	sq_st_blob(c, st, 6, p->payload);
	rc = sq_st_run(c, st, e);
	if (rc < 0)
		return rc;
	st = sq_st_get(c, SQL_FRAG_COUNT, e);
	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->group);
	rc = sq_st_step(c, st, e);
	if (rc <= 0)
		return rc;
	p->have_r = (unsigned)sq_col_u64(st, 0);
	sq_st_reset(st);
	return 0;
}

static int frag_of(struct arena *a, sqlite3_stmt *st, struct store_frag_row *row, struct err *e)
{
	int rc = sq_col_sl(a, st, 0, &row->group, e);

	if (rc == 0)
		rc = sq_col_sl(a, st, 1, &row->meta, e);
	if (rc == 0)
		rc = sq_col_sl(a, st, 2, &row->payload, e);
	row->number = (uint8_t)sq_col_u64(st, 3);
	row->total = (uint8_t)sq_col_u64(st, 4);
	row->stamp_ms = sq_col_u64(st, 5);
	return rc;
}

int sq_exec_frag_load(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_frag_load *p = (struct store_frag_load *)op;
	struct store_frag_row *row;
	struct rows rows;
	sqlite3_stmt *st = sq_st_get(c, p->group.n ? SQL_FRAG_LOAD : SQL_FRAG_LOAD_OLD, e);
	int rc = st ? sq_rows_init(&rows, op, e) : E_IO;

	p->row_r = NULL;
	p->n_r = 0;
	if (rc < 0)
		return rc;
	if (p->group.n)
		sq_st_sl(c, st, 1, p->group);
	else {
		sq_st_u64(c, st, 1, p->before_ms);
		sq_st_u64(c, st, 2, p->limit ? p->limit : UINT32_MAX);
	}
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? frag_of(rows.arena, st, row, e) : E_NOMEM;
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}

int sq_exec_frag_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_frag_del *p = (struct store_frag_del *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_FRAG_DEL, e);

	if (!st)
		return E_IO;
	sq_st_sl(c, st, 1, p->group);
	return sq_st_run(c, st, e);
}

int sq_exec_frag_join(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_frag_join *p = (struct store_frag_join *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_FRAG_JOIN, e);
	int rc = st ? 0 : E_IO;

	for (unsigned i = 0; rc == 0 && i < p->n; i++) {
		sq_st_sl(c, st, 1, p->group);
		sq_st_u64(c, st, 2, p->number[i]);
		sq_st_u64(c, st, 3, p->now_ms);
		rc = sq_st_run(c, st, e);
	}
	return rc;
}

int sq_exec_frag_purge(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_frag_purge *p = (struct store_frag_purge *)op;
	sqlite3_stmt *st = sq_st_get(c, SQL_FRAG_PURGE, e);
	int rc;

	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, p->before_ms);
	sq_st_u64(c, st, 2, p->limit);
	rc = sq_st_run(c, st, e);
	p->n_r = rc == 0 ? sq_st_changes(c) : 0;
	return rc;
}
