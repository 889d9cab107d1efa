/* store_engine.h - what an engine (sqlite/, mysql/) implements for store.c. Nobody else includes
 * this.
 *
 * store.c owns threads, batching, groups and answers; an engine owns connections and SQL. Each
 * thread has its own connection; the writer's is the only one that begins transactions. */
#ifndef TANDEM_STORE_ENGINE_H
#define TANDEM_STORE_ENGINE_H

#include "appliance/store/store.h"

struct store_conn;

struct store_engine {
	const char *name;
	/* Bit 1 << kind: a read that the writer executes among its writes, because its cache is
	 * warm there and a reader's is not. May be 0. */
	uint64_t writer_reads;
	/* Open; the writer's creates the file, checks its version and migrates it forward. */
	int (*open)(const struct store_cfg *cfg, bool writer, struct store_conn **c_r,
		    struct err *e);
	void (*close)(struct store_conn **c);
	int (*begin)(struct store_conn *c, struct err *e);
	int (*commit)(struct store_conn *c, struct err *e); /* returns only when synced */
	void (*rollback)(struct store_conn *c);
	/* Execute one operation; results into op->arena. 0 or E_IO/E_NOMEM (the transaction is then
	 * rolled back). */
	int (*exec)(struct store_conn *c, struct store_op *op, struct err *e);
	/* Add what the engine counts itself. The writer's connection; any thread, also while others
	 * run. */
	void (*stats)(const struct store_conn *c, struct store_stats *st);
};

/* All slots are required. Between begin and commit the slices of every executed operation stay
 * valid, so an engine may put off a write until commit. After a failed exec or commit, rollback is
 * called. exec of a read runs on a reader's connection without begin, or (in a group) on the
 * writer's inside its transaction. */

_Static_assert(STORE_KIND_MAX <= 64, "writer_reads has a bit for each kind");

extern const struct store_engine store_engine_sqlite;

/* store_new with an engine that is not in the table (tests wrap one). */
int store_new_engine(const struct store_engine *engine, const struct store_cfg *cfg,
		     struct bus *bus, struct store **s_r, struct err *e);
/* Does this kind of operation change data? */
bool store_kind_writes(enum store_kind k);
/* Arena of the operation's results, made when first needed. NULL: out of memory. */
struct arena *store_op_arena(struct store_op *op);

#endif
