/* stmt.c - prepared statements, binding, columns and result arrays. See sqlite.h. */
#include "appliance/store/sqlite/sqlite.h"

#define SQL_TEXT(name, text) text,
static const char *const sql_text[SQL_MAX] = { SQL_LIST(SQL_TEXT) };
#undef SQL_TEXT

#define ROWS_FIRST 8u

int sq_db_error(struct store_conn *c, int rc, const char *what, struct err *e)
{
	if ((rc & 0xff) == SQLITE_NOMEM)
		return err_set(e, E_NOMEM, NULL, "%s: out of memory: %.60s", c->path, what);
	return err_set(e, E_IO, NULL, "%s: %s (%d): %.60s", c->path,
		       c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc), rc, what);
}

int sq_db_exec(struct store_conn *c, const char *sql, struct err *e)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sq_db_error(c, rc, sql, e);
}

int sq_db_exec_u64(struct store_conn *c, const char *sql, uint64_t *v_r, struct err *e)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);

	if (rc != SQLITE_OK)
		return sq_db_error(c, rc, sql, e);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*v_r = sq_col_u64(st, 0);
	int bad = rc == SQLITE_ROW ? 0 : sq_db_error(c, rc, sql, e);
	sqlite3_finalize(st);
	return bad;
}

sqlite3_stmt *sq_st_get(struct store_conn *c, enum sql_id id, struct err *e)
{
	int rc;

	if (c->stmt[id])
		return c->stmt[id];
	rc = sqlite3_prepare_v3(c->db, sql_text[id], -1, SQLITE_PREPARE_PERSISTENT, &c->stmt[id],
				NULL);
	if (rc != SQLITE_OK) {
		sq_db_error(c, rc, sql_text[id], e);
		return NULL;
	}
	return c->stmt[id];
}

void sq_st_sl(struct store_conn *c, sqlite3_stmt *st, int i, struct sl s)
{
	if (sqlite3_bind_text64(st, i, s.p ? s.p : "", s.n, SQLITE_STATIC, SQLITE_UTF8) !=
	    SQLITE_OK)
		c->bind_failed = true;
}

void sq_st_blob(struct store_conn *c, sqlite3_stmt *st, int i, struct sl s)
{
	if (sqlite3_bind_blob64(st, i, s.p ? s.p : "", s.n, SQLITE_STATIC) != SQLITE_OK)
		c->bind_failed = true;
}

/* Our numbers are times and ids below 2^63; beyond it they would sort as negative. */
void sq_st_u64(struct store_conn *c, sqlite3_stmt *st, int i, uint64_t v)
{
	if (v > INT64_MAX)
		v = INT64_MAX;
	if (sqlite3_bind_int64(st, i, (sqlite3_int64)v) != SQLITE_OK)
		c->bind_failed = true;
}

int sq_st_step(struct store_conn *c, sqlite3_stmt *st, struct err *e)
{
	int rc;

	if (c->bind_failed) {
		c->bind_failed = false;
		sqlite3_reset(st);
		return err_set(e, E_IO, NULL, "%s: a value cannot be stored: %.60s", c->path,
			       sqlite3_sql(st));
	}
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		return 1;
	rc = rc == SQLITE_DONE ? 0 : sq_db_error(c, rc, sqlite3_sql(st), e);
	sqlite3_reset(st);
	return rc;
}

int sq_st_run(struct store_conn *c, sqlite3_stmt *st, struct err *e)
{
	int rc = sq_st_step(c, st, e);

	if (rc > 0) {
		sqlite3_reset(st);
		rc = 0;
	}
	return rc;
}

void sq_st_reset(sqlite3_stmt *st)
{
	sqlite3_reset(st);
}

unsigned sq_st_changes(const struct store_conn *c)
{
	return (unsigned)sqlite3_changes(c->db);
}

uint64_t sq_col_u64(sqlite3_stmt *st, int i)
{
	return (uint64_t)sqlite3_column_int64(st, i);
}

struct sl sq_col_peek(sqlite3_stmt *st, int i)
{
	const char *p = sqlite3_column_blob(st, i);

	return sl_mk(p, (size_t)sqlite3_column_bytes(st, i));
}

int sq_col_sl(struct arena *a, sqlite3_stmt *st, int i, struct sl *s_r, struct err *e)
{
	struct sl s = sq_col_peek(st, i), copy;

	if (s.n == 0) {
		*s_r = SL_NULL;
		return 0;
	}
	copy = s.p ? arena_dup(a, s) : SL_NULL;
	if (!copy.p)
		return err_set(e, E_NOMEM, NULL, "the result is too big");
	*s_r = copy;
	return 0;
}

int sq_rows_init(struct rows *r, struct store_op *op, struct err *e)
{
	*r = (struct rows){ .arena = store_op_arena(op) };
	return r->arena ? 0 : err_set(e, E_NOMEM, NULL, "out of memory for a result");
}

void *sq_rows_add(struct rows *r, size_t size, struct err *e)
{
	if (r->n == r->cap) {
		unsigned cap = r->cap ? r->cap * 2 : ROWS_FIRST;
		void *p = arena_zalloc(r->arena, cap * size);
		if (!p) {
			err_set(e, E_NOMEM, NULL, "the result is too big");
			return NULL;
		}
		if (r->n)
			memcpy(p, r->p, r->n * size);
		r->p = p;
		r->cap = cap;
	}
	return (char *)r->p + size * r->n++;
}

int sq_read_begin(struct store_conn *c, bool *began_r, struct err *e)
{
	sqlite3_stmt *st;
	int rc;

	*began_r = false;
	if (!sqlite3_get_autocommit(c->db))
		return 0;
	st = sq_st_get(c, SQL_BEGIN_READ, e);
	rc = st ? sq_st_run(c, st, e) : E_IO;
	*began_r = rc == 0;
	return rc;
}

void sq_read_end(struct store_conn *c, bool began)
{
	sqlite3_stmt *st = began ? sq_st_get(c, SQL_COMMIT, NULL) : NULL;

	if (st)
		sq_st_run(c, st, NULL);
}
