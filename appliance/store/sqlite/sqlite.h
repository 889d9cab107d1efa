/* sqlite.h - inside the SQLite engine: the connection, its statements and the helpers of the exec
 * functions.
 *
 * Nobody outside this folder includes it. One connection belongs to one thread; only the writer's
 * has owner cache, duplicate marks and h buffer. */
#ifndef TANDEM_STORE_SQLITE_SQLITE_H
#define TANDEM_STORE_SQLITE_SQLITE_H

#include "appliance/store/sqlite/sql.h"
#include "appliance/store/store_engine.h"

#include <sqlite3.h>

struct owners;
struct seen;
struct sm_buffer;
struct checkpointer;
struct progress;

struct store_conn {
	sqlite3 *db;
	enum store_schema schema;
	bool writer;
	bool bind_failed; /* sticky until the next step */
	int lock_fd;      /* writer: held open, -1 otherwise */
	const char *path; /* the store's */
	struct owners *owners;
	struct seen *seen;
	struct sm_buffer *sm;
	struct progress *progress;
	struct checkpointer *checkpointer;
	sqlite3_stmt *stmt[SQL_MAX];
};

/* ---- stmt.c: statements ---- */

/* E_NOMEM, or E_IO with SQLite's words; rc is SQLite's (extended) result code. */
int sq_db_error(struct store_conn *c, int rc, const char *what, struct err *e);
/* Run statements that are no prepared ones (set-up, migrations). 0, E_IO, E_NOMEM. */
int sq_db_exec(struct store_conn *c, const char *sql, struct err *e);
/* First column of the first row as a number. */
int sq_db_exec_u64(struct store_conn *c, const char *sql, uint64_t *v_r, struct err *e);

/* A prepared statement of the connection's cache, reset, or NULL with e set. */
sqlite3_stmt *sq_st_get(struct store_conn *c, enum sql_id id, struct err *e);
/* Bind parameter i (from 1). The slice stays borrowed until the statement is used again. A failure
 * shows at the next st_step. */
void sq_st_sl(struct store_conn *c, sqlite3_stmt *st, int i, struct sl s);
void sq_st_blob(struct store_conn *c, sqlite3_stmt *st, int i, struct sl s);
void sq_st_u64(struct store_conn *c, sqlite3_stmt *st, int i, uint64_t v);
/* 1: a row is there; 0: done (and reset); < 0: failed (and reset). */
int sq_st_step(struct store_conn *c, sqlite3_stmt *st, struct err *e);
/* Step a statement without result to its end. 0 or < 0. */
int sq_st_run(struct store_conn *c, sqlite3_stmt *st, struct err *e);
void sq_st_reset(sqlite3_stmt *st);
/* Rows that the last sq_st_run changed. */
unsigned sq_st_changes(const struct store_conn *c);

/* Columns of the row, from 0. sq_col_sl copies into a: 0 or E_NOMEM with e set. */
uint64_t sq_col_u64(sqlite3_stmt *st, int i);
int sq_col_sl(struct arena *a, sqlite3_stmt *st, int i, struct sl *s_r, struct err *e);
/* Borrowed until the next step. */
struct sl sq_col_peek(sqlite3_stmt *st, int i);

/* A growing array of results in an op's arena. */
struct rows {
	struct arena *arena;
	void *p;
	unsigned n, cap;
};
/* A zeroed new element of size octets at the end, or NULL with e set. */
void *sq_rows_add(struct rows *r, size_t size, struct err *e);
/* The op's arena in a new array. 0 or E_NOMEM. */
int sq_rows_init(struct rows *r, struct store_op *op, struct err *e);

/* Reads that take several statements see one state: begins a read transaction unless one is open.
 */
int sq_read_begin(struct store_conn *c, bool *began_r, struct err *e);
void sq_read_end(struct store_conn *c, bool began);

/* ---- migrate.c, schema.c ---- */

struct migration_list {
	const char *name;        /* of the schema, for people */
	uint32_t application_id; /* marks the file as ours and of this schema */
	const char *const *sql;  /* sql[i] leads from version i to i + 1 */
	unsigned n;
};
extern const struct migration_list sq_migrations[];

/* Bring the file to version list->n, all steps in one transaction. 0, E_VERSION, E_IO, E_NOMEM. */
int sq_migrate(struct store_conn *c, const struct migration_list *list, struct err *e);

/* ---- owner.c: numbers for bare JIDs ---- */

/* Rows refer to their owner by a number: keys are short, and the virtual host is a column of its
 * own. */
int sq_owners_new(struct owners **o_r);
void sq_owners_free(struct owners **o);
/* The transaction is undone: forget what it may have added. */
void sq_owners_rollback(struct owners *o);
/* *oid_r is 0 if there is no such owner. */
int sq_owner_find(struct store_conn *c, struct sl bare, uint64_t *oid_r, struct err *e);
int sq_owner_make(struct store_conn *c, struct sl bare, uint64_t *oid_r, struct err *e);
int sq_owner_del(struct store_conn *c, uint64_t oid, struct err *e);
/* "node@host" of an owner row (host, node) in a. */
int sq_owner_jid(struct arena *a, struct sl host, struct sl node, struct sl *bare_r, struct err *e);

/* ---- seen.c: duplicate marks ---- */

int sq_seen_new(struct store_conn *c, uint32_t max, struct err *e);
void sq_seen_free(struct seen **s);
/* Is (sender, origin) committed, or in this transaction? */
int sq_seen_find(struct store_conn *c, struct sl sender, struct sl origin, bool *found_r,
		 struct err *e);
/* The pair that sq_seen_find was asked about last becomes part of this transaction. */
int sq_seen_add(struct store_conn *c, uint64_t stamp_ms, struct err *e);
int sq_seen_flush(struct store_conn *c, struct err *e); /* before commit */
void sq_seen_committed(struct seen *s);
void sq_seen_rollback(struct seen *s);
int sq_seen_purge(struct store_conn *c, uint64_t before_ms, unsigned limit, unsigned *n_r,
		  struct err *e);
void sq_seen_stats(const struct seen *s, struct store_stats *st);

/* ---- sm.c: XEP-0198 state, h gathered for the commit ---- */

int sq_sm_buffer_new(struct sm_buffer **b_r);
void sq_sm_buffer_free(struct sm_buffer **b);
/* Note h for the commit; sm_id stays borrowed until then. */
int sq_sm_note(struct store_conn *c, struct sl sm_id, uint32_t h, uint64_t stamp_ms, struct err *e);
int sq_sm_flush(struct store_conn *c, struct err *e);
void sq_sm_buffer_reset(struct sm_buffer *b);

/* ---- checkpoint.c: the write-ahead log into the file, beside the writer ---- */

int sq_checkpointer_new(struct store_conn *c, const struct store_cfg *cfg, struct err *e);
void sq_checkpointer_free(struct checkpointer **k);

/* ---- exec functions, one a kind ---- */

typedef int exec_fn(struct store_conn *c, struct store_op *op, struct err *e);

exec_fn sq_exec_account_put, sq_exec_account_get, sq_exec_account_del, sq_exec_account_list;
exec_fn sq_exec_roster_load, sq_exec_roster_put, sq_exec_roster_del;
exec_fn sq_exec_component_put, sq_exec_component_del, sq_exec_component_list;
exec_fn sq_exec_meta_put, sq_exec_meta_get;
exec_fn sq_exec_mail_put, sq_exec_mail_del, sq_exec_mail_load, sq_exec_mail_count,
	sq_exec_mail_expired;
exec_fn sq_exec_mail_maxid, sq_exec_seen_purge;
exec_fn sq_exec_sm_put, sq_exec_sm_get, sq_exec_sm_del, sq_exec_sm_purge;
exec_fn sq_exec_number_put, sq_exec_number_del, sq_exec_number_list;
exec_fn sq_exec_link_put, sq_exec_link_del, sq_exec_link_list;
exec_fn sq_exec_queue_put, sq_exec_queue_move, sq_exec_queue_part, sq_exec_queue_load,
	sq_exec_queue_get;
exec_fn sq_exec_queue_count, sq_exec_queue_purge;
exec_fn sq_exec_outbox_put, sq_exec_outbox_del, sq_exec_outbox_load;
exec_fn sq_exec_frag_put, sq_exec_frag_load, sq_exec_frag_del, sq_exec_frag_join,
	sq_exec_frag_purge;

#endif
