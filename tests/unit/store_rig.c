/* store_rig.c - see store_rig.h. A failure of the rig itself ends the program: there is nothing to
 * test then. */
#include "tests/unit/store_rig.h"
#include "appliance/loop/loop.h"

#include <dirent.h>
#include <sqlite3.h>
#include <unistd.h>

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "store rig: %s: %s\n", what, e && e->code ? e->text : "failed");
	exit(2);
}

void rig_new(struct store_rig *r, enum store_schema schema)
{
	const char *tmp = getenv("TMPDIR");
	struct err e = { 0 };

	memset(r, 0, sizeof(*r));
	snprintf(r->dir, sizeof(r->dir), "%s/tandem-store-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(r->dir))
		die(r->dir, NULL);
	snprintf(r->path, sizeof(r->path), "%s/s.db", r->dir);
	r->cfg = (struct store_cfg){
		.engine = "sqlite", .path = r->path, .schema = schema, .readers = 1
	};
	if (bus_new(1, &r->bus, &e) < 0 || loop_new(LOOP_BACKEND_DEFAULT, &r->loop, &e) < 0 ||
	    bus_attach(r->bus, 0, r->loop, r, &e) < 0)
		die("bus", &e);
	bus_enter(r->bus, 0);
}

static void remove_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;
	char name[512];

	while (d && (de = readdir(d))) {
		snprintf(name, sizeof(name), "%s/%s", path, de->d_name);
		if (de->d_name[0] != '.')
			unlink(name);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

void rig_free(struct store_rig *r)
{
	rig_close(r);
	bus_detach(r->bus, 0);
	bus_free(&r->bus);
	loop_free(&r->loop);
	remove_dir(r->dir);
}

int rig_open(struct store_rig *r, struct err *e)
{
	return store_new(&r->cfg, r->bus, &r->store, e);
}

int rig_open_engine(struct store_rig *r, const struct store_engine *engine, struct err *e)
{
	return store_new_engine(engine, &r->cfg, r->bus, &r->store, e);
}

void rig_close(struct store_rig *r)
{
	store_free(&r->store);
}

void rig_turn(struct store_rig *r)
{
	loop_turn(r->loop, 1000);
}

static void on_done(struct store_op *op)
{
	unsigned *left = op->arg;

	--*left;
}

int rig_do(struct store_rig *r, struct store_op *op)
{
	unsigned left = 0;

	for (struct store_op *o = op; o; o = o->group_next, left++) {
		struct store_op *next = o->group_next;
		store_op_init(o, (enum store_kind)o->kind, on_done, &left);
		o->group_next = next;
	}
	store_submit(r->store, op);
	while (left)
		rig_turn(r);
	return op->rc;
}

int64_t rig_sql(struct store_rig *r, const char *sql)
{
	struct err e = { 0 };
	sqlite3 *db;
	sqlite3_stmt *st = NULL;
	int64_t v = 0;

	if (sqlite3_open(r->path, &db) != SQLITE_OK)
		die("open", NULL);
	sqlite3_busy_timeout(db, 5000);
	while (*sql && sqlite3_prepare_v2(db, sql, -1, &st, &sql) == SQLITE_OK) {
		int rc;
		while ((rc = sqlite3_step(st)) == SQLITE_ROW)
			v = sqlite3_column_int64(st, 0);
		if (st && rc != SQLITE_DONE)
			break;
		sqlite3_finalize(st);
		st = NULL;
	}
	if (*sql || st)
		die(sqlite3_errmsg(db), &e);
	sqlite3_close(db);
	return v;
}
