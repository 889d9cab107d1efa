/* store_rig.h - a store with a bus of one worker, which is the test's own thread. For tests and
 * benchmarks.
 *
 * rig_new makes a folder of its own; rig_open and rig_close may be called again and again on its
 * file. */
#ifndef TANDEM_TESTS_UNIT_STORE_RIG_H
#define TANDEM_TESTS_UNIT_STORE_RIG_H

#include "appliance/store/store_engine.h"

struct store_rig {
	struct bus *bus;
	struct loop *loop;
	struct store *store;
	struct store_cfg cfg;
	char dir[128];
	char path[160];
};

/* Folder, bus and loop; cfg has defaults (one reader) that the test may change before rig_open. */
void rig_new(struct store_rig *r, enum store_schema schema);
/* Closes, and removes the folder. */
void rig_free(struct store_rig *r);
int rig_open(struct store_rig *r, struct err *e);
int rig_open_engine(struct store_rig *r, const struct store_engine *engine, struct err *e);
void rig_close(struct store_rig *r);

/* Submit op (its done and arg are the rig's) and wait for the answer of it and its group. Returns
 * op->rc. */
int rig_do(struct store_rig *r, struct store_op *op);
/* An initialised operation for rig_do. */
#define RIG_OP(kind_) \
	{ \
		.kind = (kind_) \
	}

/* One turn of the loop. */
void rig_turn(struct store_rig *r);
/* Run SQL on the file with a connection of its own; a number comes back if it is a query. */
int64_t rig_sql(struct store_rig *r, const char *sql);

#endif
