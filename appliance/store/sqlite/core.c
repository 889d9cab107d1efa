/* core.c - accounts, rosters, components and facts (meta). */
#include "appliance/base/clock.h"
#include "appliance/store/sqlite/sqlite.h"

/* Bind two slices as parameters 1 and 2. NULL: e is set. */
static sqlite3_stmt *with2(struct store_conn *c, enum sql_id id, struct sl a, struct sl b,
			   struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (st) {
		sq_st_sl(c, st, 1, a);
		sq_st_sl(c, st, 2, b);
	}
	return st;
}

static sqlite3_stmt *with1(struct store_conn *c, enum sql_id id, struct sl a, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	if (st)
		sq_st_sl(c, st, 1, a);
	return st;
}

static int exists(struct store_conn *c, sqlite3_stmt *st, bool *there_r, struct err *e)
{
	int rc = st ? sq_st_step(c, st, e) : E_IO;

	if (rc < 0)
		return rc;
	*there_r = rc > 0;
	sq_st_reset(st);
	return 0;
}

/* ---- accounts ---------------------------------------------------------------------------------
 */

int sq_exec_account_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_account_put *p = (struct store_account_put *)op;
	sqlite3_stmt *st = with2(c, SQL_ACCOUNT_HAS, p->host, p->user, e);
	int rc = exists(c, st, &p->existed_r, e);

	if (rc < 0)
		return rc;
	if (p->existed_r ? p->create_only : p->update_only)
		return 0;
	st = with2(c, p->existed_r ? SQL_ACCOUNT_SET : SQL_ACCOUNT_ADD, p->host, p->user, e);
	if (!st)
		return E_IO;
	for (int i = 0; i < STORE_VERIFIERS_MAX; i++)
		sq_st_sl(c, st, 3 + i, p->verifier[i]);
	if (!p->existed_r)
		sq_st_u64(c, st, 3 + STORE_VERIFIERS_MAX, clock_wall_ms());
	return sq_st_run(c, st, e);
}

int sq_exec_account_get(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_account_get *p = (struct store_account_get *)op;
	struct arena *a = store_op_arena(op);
	sqlite3_stmt *st = with2(c, SQL_ACCOUNT_GET, p->host, p->user, e);
	int rc;

	p->found_r = false;
	if (!st)
		return E_IO;
	rc = a ? sq_st_step(c, st, e) : err_set(e, E_NOMEM, NULL, "out of memory for a result");
	if (rc <= 0)
		return rc;
	p->found_r = true;
	p->created_ms_r = sq_col_u64(st, 0);
	rc = 0;
	for (int i = 0; rc == 0 && i < STORE_VERIFIERS_MAX; i++)
		rc = sq_col_sl(a, st, 1 + i, &p->verifier_r[i], e);
	sq_st_reset(st);
	return rc;
}

static int del_owned(struct store_conn *c, uint64_t oid, struct err *e)
{
	static const enum sql_id ids[] = { SQL_ROSTER_DEL_OWNER, SQL_MAIL_DEL_OWNER,
					   SQL_SM_DEL_OWNER };
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(ids); i++) {
		sqlite3_stmt *st = sq_st_get(c, ids[i], e);
		if (!st)
			return E_IO;
		sq_st_u64(c, st, 1, oid);
		rc = sq_st_run(c, st, e);
	}
	return rc < 0 ? rc : sq_owner_del(c, oid, e);
}

int sq_exec_account_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_account_del *p = (struct store_account_del *)op;
	sqlite3_stmt *st = with2(c, SQL_ACCOUNT_DEL, p->host, p->user, e);
	uint64_t oid;
	int rc = st ? sq_st_run(c, st, e) : E_IO;

	if (rc < 0)
		return rc;
	p->existed_r = sq_st_changes(c) > 0;
	st = with2(c, SQL_OWNER_FIND, p->host, p->user, e);
	rc = st ? sq_st_step(c, st, e) : E_IO;
	if (rc <= 0)
		return rc;
	oid = sq_col_u64(st, 0);
	sq_st_reset(st);
	return del_owned(c, oid, e);
}

static int account_list_stmt(struct store_conn *c, const struct store_account_list *p,
			     sqlite3_stmt **st_r, struct err *e)
{
	sqlite3_stmt *st;

	if (p->host.n)
		st = with2(c, SQL_ACCOUNT_LIST_HOST, p->host, p->after_user, e);
	else
		st = with2(c, SQL_ACCOUNT_LIST, p->after_host, p->after_user, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 3, p->limit);
	*st_r = st;
	return 0;
}

int sq_exec_account_list(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_account_list *p = (struct store_account_list *)op;
	struct store_account_row *row;
	struct rows rows;
	sqlite3_stmt *st = NULL;
	int rc = sq_rows_init(&rows, op, e);

	p->row_r = NULL;
	p->n_r = 0;
	if (rc == 0)
		rc = account_list_stmt(c, p, &st, e);
	if (rc < 0)
		return rc;
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? sq_col_sl(rows.arena, st, 0, &row->host, e) : E_NOMEM;
		if (rc == 0)
			rc = sq_col_sl(rows.arena, st, 1, &row->user, e);
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}

/* ---- rosters ------------------------------------------------------------------------------------
 */

enum { ITEM_IN_ROSTER = 1, ITEM_ASK = 2, ITEM_PENDING_IN = 4, ITEM_APPROVED = 8 };

static unsigned item_flags(const struct store_roster_item *it)
{
	return (it->in_roster ? ITEM_IN_ROSTER : 0u) | (it->ask ? ITEM_ASK : 0u) |
	       (it->pending_in ? ITEM_PENDING_IN : 0u) | (it->approved ? ITEM_APPROVED : 0u);
}

static int item_of(struct arena *a, sqlite3_stmt *st, struct store_roster_item *it, struct err *e)
{
	uint64_t flags = sq_col_u64(st, 4);
	int rc = sq_col_sl(a, st, 0, &it->jid, e);

	if (rc == 0)
		rc = sq_col_sl(a, st, 1, &it->name, e);
	if (rc == 0)
		rc = sq_col_sl(a, st, 2, &it->groups, e);
	if (rc == 0)
		rc = sq_col_sl(a, st, 5, &it->request, e);
	it->subscription = (uint8_t)sq_col_u64(st, 3);
	it->in_roster = flags & ITEM_IN_ROSTER;
	it->ask = flags & ITEM_ASK;
	it->pending_in = flags & ITEM_PENDING_IN;
	it->approved = flags & ITEM_APPROVED;
	return rc;
}

int sq_exec_roster_load(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_roster_load *p = (struct store_roster_load *)op;
	struct store_roster_item *it;
	struct rows rows;
	sqlite3_stmt *st;
	uint64_t oid = 0;
	int rc = sq_rows_init(&rows, op, e);

	p->item_r = NULL;
	p->n_r = 0;
	if (rc == 0)
		rc = sq_owner_find(c, p->owner, &oid, e);
	if (rc < 0 || oid == 0)
		return rc;
	st = sq_st_get(c, SQL_ROSTER_LOAD, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, oid);
	while ((rc = sq_st_step(c, st, e)) > 0) {
		it = sq_rows_add(&rows, sizeof(*it), e);
		rc = it ? item_of(rows.arena, st, it, e) : E_NOMEM;
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	p->item_r = rows.p;
	p->n_r = rows.n;
	return rc;
}

int sq_exec_roster_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_roster_put *p = (struct store_roster_put *)op;
	sqlite3_stmt *st;
	uint64_t oid;
	int rc = sq_owner_make(c, p->owner, &oid, e);

	if (rc < 0)
		return rc;
	st = sq_st_get(c, SQL_ROSTER_PUT, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, oid);
	sq_st_sl(c, st, 2, p->item.jid);
	sq_st_sl(c, st, 3, p->item.name);
	sq_st_sl(c, st, 4, p->item.groups);
	sq_st_u64(c, st, 5, p->item.subscription);
	sq_st_u64(c, st, 6, item_flags(&p->item));
	sq_st_sl(c, st, 7, p->item.request);
	return sq_st_run(c, st, e);
}

int sq_exec_roster_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_roster_del *p = (struct store_roster_del *)op;
	sqlite3_stmt *st;
	uint64_t oid;
	int rc = sq_owner_find(c, p->owner, &oid, e);

	if (rc < 0 || oid == 0)
		return rc;
	st = sq_st_get(c, SQL_ROSTER_DEL, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, oid);
	sq_st_sl(c, st, 2, p->jid);
	return sq_st_run(c, st, e);
}

/* ---- components ---- */

int sq_exec_component_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_component_put *p = (struct store_component_put *)op;
	int rc = exists(c, with1(c, SQL_COMPONENT_HAS, p->domain, e), &p->existed_r, e);
	sqlite3_stmt *st;

	if (rc < 0)
		return rc;
	st = with2(c, SQL_COMPONENT_PUT, p->domain, p->secret, e);
	return st ? sq_st_run(c, st, e) : E_IO;
}

int sq_exec_component_del(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_component_del *p = (struct store_component_del *)op;
	sqlite3_stmt *st = with1(c, SQL_COMPONENT_DEL, p->domain, e);
	int rc = st ? sq_st_run(c, st, e) : E_IO;

	if (rc == 0)
		p->existed_r = sq_st_changes(c) > 0;
	return rc;
}

int sq_exec_component_list(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_component_list *p = (struct store_component_list *)op;
	struct store_component_row *row;
	struct rows rows;
	sqlite3_stmt *st = sq_st_get(c, SQL_COMPONENT_LIST, e);
	int rc = st ? sq_rows_init(&rows, op, e) : E_IO;

	p->row_r = NULL;
	p->n_r = 0;
	if (rc < 0)
		return rc;
	while ((rc = sq_st_step(c, st, e)) > 0) {
		row = sq_rows_add(&rows, sizeof(*row), e);
		rc = row ? sq_col_sl(rows.arena, st, 0, &row->domain, e) : E_NOMEM;
		if (rc == 0)
			rc = sq_col_sl(rows.arena, st, 1, &row->secret, e);
		if (rc < 0)
			break;
	}
	sq_st_reset(st);
	p->row_r = rows.p;
	p->n_r = rows.n;
	return rc;
}

/* ---- meta ---- */

int sq_exec_meta_put(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_meta_put *p = (struct store_meta_put *)op;
	sqlite3_stmt *st =
		with2(c, p->create_only ? SQL_META_ADD : SQL_META_PUT, p->key, p->value, e);

	return st ? sq_st_run(c, st, e) : E_IO;
}

int sq_exec_meta_get(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_meta_get *p = (struct store_meta_get *)op;
	struct arena *a = store_op_arena(op);
	sqlite3_stmt *st = with1(c, SQL_META_GET, p->key, e);
	int rc;

	p->found_r = false;
	if (!st)
		return E_IO;
	rc = a ? sq_st_step(c, st, e) : err_set(e, E_NOMEM, NULL, "out of memory for a result");
	if (rc <= 0)
		return rc;
	p->found_r = true;
	rc = sq_col_sl(a, st, 0, &p->value_r, e);
	sq_st_reset(st);
	return rc;
}
