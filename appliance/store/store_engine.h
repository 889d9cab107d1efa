/* store_engine.h - what an engine (sqlite/, mysql/) implements for store.c. Nobody else includes this.
 *
 * store.c owns threads, batching, groups and answers; an engine owns connections and SQL. Each thread has its
 * own connection; the writer's is the only one that begins transactions. */
#ifndef TANDEM_STORE_ENGINE_H
#define TANDEM_STORE_ENGINE_H

#include "appliance/store/store.h"

struct store_conn;

struct store_engine {
	const char *name;
	/* Open (and with migrate: create, check the version, migrate forward in one transaction). */
	int (*open)(const struct store_cfg *cfg, bool writer, struct store_conn **c_r, struct err *e);
	void (*close)(struct store_conn **c);
	int (*begin)(struct store_conn *c, struct err *e);
	int (*commit)(struct store_conn *c, struct err *e);   /* returns only when synced */
	void (*rollback)(struct store_conn *c);
	/* Execute one operation; results into op->arena. 0 or E_IO/E_NOMEM (the transaction is then rolled back). */
	int (*exec)(struct store_conn *c, struct store_op *op, struct err *e);
};

extern const struct store_engine store_engine_sqlite;

#endif
