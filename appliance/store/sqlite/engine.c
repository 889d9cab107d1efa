/* engine.c - the SQLite engine's slots: transactions, and one exec function a kind of operation in
 * a table. */
#include "appliance/store/sqlite/conn.h"
#include "appliance/store/sqlite/progress.h"

static exec_fn *const exec_table[STORE_KIND_MAX] = {
	[STORE_ACCOUNT_PUT] = sq_exec_account_put,
	[STORE_ACCOUNT_GET] = sq_exec_account_get,
	[STORE_ACCOUNT_DEL] = sq_exec_account_del,
	[STORE_ACCOUNT_LIST] = sq_exec_account_list,
	[STORE_ROSTER_LOAD] = sq_exec_roster_load,
	[STORE_ROSTER_PUT] = sq_exec_roster_put,
	[STORE_ROSTER_DEL] = sq_exec_roster_del,
	[STORE_MAIL_PUT] = sq_exec_mail_put,
	[STORE_MAIL_DEL] = sq_exec_mail_del,
	[STORE_MAIL_LOAD] = sq_exec_mail_load,
	[STORE_MAIL_COUNT] = sq_exec_mail_count,
	[STORE_MAIL_EXPIRED] = sq_exec_mail_expired,
	[STORE_MAIL_MAXID] = sq_exec_mail_maxid,
	[STORE_SM_PUT] = sq_exec_sm_put,
	[STORE_SM_GET] = sq_exec_sm_get,
	[STORE_SM_DEL] = sq_exec_sm_del,
	[STORE_SM_PURGE] = sq_exec_sm_purge,
	[STORE_SEEN_PURGE] = sq_exec_seen_purge,
	[STORE_COMPONENT_PUT] = sq_exec_component_put,
	[STORE_COMPONENT_DEL] = sq_exec_component_del,
	[STORE_COMPONENT_LIST] = sq_exec_component_list,
	[STORE_META_PUT] = sq_exec_meta_put,
	[STORE_META_GET] = sq_exec_meta_get,
	[STORE_NUMBER_PUT] = sq_exec_number_put,
	[STORE_NUMBER_DEL] = sq_exec_number_del,
	[STORE_NUMBER_LIST] = sq_exec_number_list,
	[STORE_LINK_PUT] = sq_exec_link_put,
	[STORE_LINK_DEL] = sq_exec_link_del,
	[STORE_LINK_LIST] = sq_exec_link_list,
	[STORE_QUEUE_PUT] = sq_exec_queue_put,
	[STORE_QUEUE_MOVE] = sq_exec_queue_move,
	[STORE_QUEUE_PART] = sq_exec_queue_part,
	[STORE_QUEUE_LOAD] = sq_exec_queue_load,
	[STORE_QUEUE_GET] = sq_exec_queue_get,
	[STORE_QUEUE_COUNT] = sq_exec_queue_count,
	[STORE_QUEUE_PURGE] = sq_exec_queue_purge,
	[STORE_OUTBOX_PUT] = sq_exec_outbox_put,
	[STORE_OUTBOX_DEL] = sq_exec_outbox_del,
	[STORE_OUTBOX_LOAD] = sq_exec_outbox_load,
	[STORE_FRAG_PUT] = sq_exec_frag_put,
	[STORE_FRAG_LOAD] = sq_exec_frag_load,
	[STORE_FRAG_DEL] = sq_exec_frag_del,
	[STORE_FRAG_JOIN] = sq_exec_frag_join,
	[STORE_FRAG_PURGE] = sq_exec_frag_purge,
};

static int run(struct store_conn *c, enum sql_id id, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);

	return st ? sq_st_run(c, st, e) : E_IO;
}

static int sqlite_begin(struct store_conn *c, struct err *e)
{
	return run(c, SQL_BEGIN_WRITE, e);
}

static int sqlite_commit(struct store_conn *c, struct err *e)
{
	int rc = c->sm ? sq_sm_flush(c, e) : 0;

	if (rc == 0)
		rc = sq_progress_flush(c, e);
	if (rc == 0 && c->seen)
		rc = sq_seen_flush(c, e);
	if (rc == 0)
		rc = run(c, SQL_COMMIT, e);
	if (rc == 0 && c->seen)
		sq_seen_committed(c->seen);
	return rc;
}

/* SQLite may have rolled back by itself (disk full), or begin may have failed. */
static void sqlite_rollback(struct store_conn *c)
{
	if (!sqlite3_get_autocommit(c->db))
		run(c, SQL_ROLLBACK, NULL);
	if (c->sm)
		sq_sm_buffer_reset(c->sm);
	if (c->seen)
		sq_seen_rollback(c->seen);
	if (c->progress)
		sq_progress_reset(c->progress);
	if (c->owners)
		sq_owners_rollback(c->owners);
}

/* The kinds of the core come first, then those of both, then the translators'. */
static bool kind_fits(enum store_schema schema, unsigned kind)
{
	if (kind >= STORE_KIND_MAX)
		return false;
	return schema == STORE_CORE ? kind < STORE_NUMBER_PUT : kind >= STORE_META_PUT;
}

static int sqlite_exec(struct store_conn *c, struct store_op *op, struct err *e)
{
	if (!kind_fits(c->schema, op->kind))
		return err_set(e, E_INTERNAL, NULL, "%s: operation %u is not of this schema",
			       c->path, op->kind);
	return exec_table[op->kind](c, op, e);
}

static void sqlite_stats(const struct store_conn *c, struct store_stats *st)
{
	if (c->seen)
		sq_seen_stats(c->seen, st);
}

const struct store_engine store_engine_sqlite = {
	.name = "sqlite",
	/* Every commit empties the page caches of all other connections. */
	.writer_reads = 1ull << STORE_QUEUE_GET,
	.open = sq_open,
	.close = sq_close,
	.begin = sqlite_begin,
	.commit = sqlite_commit,
	.rollback = sqlite_rollback,
	.exec = sqlite_exec,
	.stats = sqlite_stats,
};
