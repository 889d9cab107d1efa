/* test_store_write.c - what store.c promises whatever the engine: groups, batches, order, failures,
 * threads.
 *
 * The engine is SQLite behind two test doubles: an engine that fails or waits where it is told, and
 * an SQLite VFS whose disk fills up or whose sync fails. */
#include "appliance/base/log.h"
#include "appliance/loop/loop.h"
#include "tests/unit/store_rig.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <cmocka.h>

#define DO(op_) assert_int_equal(rig_do(r, &(op_).op), 0)

/* ---- an engine that fails or waits ---- */

static _Atomic int fail_exec_in, fail_begin, fail_commit; /* fail_exec_in n: the n-th from now */
static _Atomic bool hold_commit;
static sem_t held, go_on;
static struct store_engine faulty;

static int faulty_begin(struct store_conn *c, struct err *e)
{
	if (fail_begin)
		return err_set(e, E_IO, NULL, "injected begin");
	return store_engine_sqlite.begin(c, e);
}

static int faulty_exec(struct store_conn *c, struct store_op *op, struct err *e)
{
	if (fail_exec_in && atomic_fetch_sub(&fail_exec_in, 1) == 1)
		return err_set(e, E_IO, NULL, "injected exec");
	return store_engine_sqlite.exec(c, op, e);
}

static int faulty_commit(struct store_conn *c, struct err *e)
{
	if (hold_commit) {
		sem_post(&held);
		sem_wait(&go_on);
	}
	if (fail_commit)
		return err_set(e, E_IO, NULL, "injected commit");
	return store_engine_sqlite.commit(c, e);
}

static struct store_rig rig;

static int setup_schema(void **state, enum store_schema schema, unsigned batch_max)
{
	struct err e;

	faulty = store_engine_sqlite;
	faulty.begin = faulty_begin;
	faulty.exec = faulty_exec;
	faulty.commit = faulty_commit;
	fail_exec_in = fail_begin = fail_commit = 0;
	hold_commit = false;
	sem_init(&held, 0, 0);
	sem_init(&go_on, 0, 0);
	rig_new(&rig, schema);
	rig.cfg.batch_max = batch_max;
	*state = &rig;
	return rig_open_engine(&rig, &faulty, &e);
}

static int setup(void **state)
{
	return setup_schema(state, STORE_CORE, 0);
}

static int setup_small_batch(void **state)
{
	return setup_schema(state, STORE_CORE, 4);
}

static int teardown(void **state)
{
	rig_free(*state);
	return 0;
}

static unsigned mail_count(struct store_rig *r)
{
	struct store_mail_count n = { .op = RIG_OP(STORE_MAIL_COUNT) };

	DO(n);
	return (unsigned)n.n_r;
}

static struct store_mail_put mail(uint64_t id)
{
	return (struct store_mail_put){ .op = RIG_OP(STORE_MAIL_PUT),
					.id = id,
					.owner = SL("u@h"),
					.sender = SL("s@h"),
					.stanza = SL("<a/>") };
}

/* A group of mail puts and, at its end, one SM_PUT. */
struct group {
	struct store_mail_put m[3];
	struct store_sm_put sm;
};

static struct store_op *group_init(struct group *g, uint64_t id)
{
	for (unsigned i = 0; i < 3; i++) {
		g->m[i] = mail(id + i);
		g->m[i].op.group_next = i < 2 ? &g->m[i + 1].op : &g->sm.op;
	}
	g->sm = (struct store_sm_put){ .op = RIG_OP(STORE_SM_PUT),
				       .sm_id = SL("sm"),
				       .owner = SL("u@h") };
	return &g->m[0].op;
}

static bool sm_there(struct store_rig *r)
{
	struct store_sm_get g = { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("sm") };

	DO(g);
	store_op_fini(&g.op);
	return g.found_r;
}

/* ---- groups and failures ---- */

static void test_group_atomic(void **state)
{
	struct store_rig *r = *state;
	struct group g;

	for (int nth = 1; nth <= 4; nth++) {
		fail_exec_in = nth;
		rig_do(r, group_init(&g, 1));
		fail_exec_in = 0;
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(g.m[i].op.rc, E_IO);
		assert_int_equal(g.sm.op.rc, E_IO);
		assert_int_equal(mail_count(r), 0);
		assert_false(sm_there(r));
	}
	assert_int_equal(store_stats(r->store).failed, 16);
	assert_int_equal(rig_do(r, group_init(&g, 1)), 0);
	assert_int_equal(mail_count(r), 3);
	assert_true(sm_there(r));
}

/* A group that reads sees what it wrote; a group of reads only is one transaction too. */
static void test_group_reads(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_put m = mail(7);
	struct store_mail_load l = { .op = RIG_OP(STORE_MAIL_LOAD),
				     .owner = SL("u@h"),
				     .limit = 5 };
	struct store_mail_count n = { .op = RIG_OP(STORE_MAIL_COUNT), .owner = SL("u@h") };
	struct store_mail_maxid x = { .op = RIG_OP(STORE_MAIL_MAXID) };

	m.op.group_next = &l.op;
	DO(m);
	assert_int_equal(l.n_r, 1);
	assert_int_equal(l.row_r[0].id, 7);
	store_op_fini(&l.op);
	n.op.group_next = &x.op;
	DO(n);
	assert_int_equal(n.n_r, 1);
	assert_int_equal(x.id_r, 7);
}

static void fails_then_works(struct store_rig *r, _Atomic int *fault)
{
	struct store_mail_put m = mail(1);
	struct store_mail_load l = { .op = RIG_OP(STORE_MAIL_LOAD),
				     .owner = SL("u@h"),
				     .limit = 5 };

	m.origin_id = SL("o1");
	*fault = 1;
	assert_int_equal(rig_do(r, &m.op), E_IO);
	*fault = 0;
	assert_int_equal(mail_count(r), 0);
	/* its duplicate mark and the number of its new owner are undone too */
	assert_int_equal(rig_do(r, &m.op), 0);
	assert_true(m.row_made_r && !m.duplicate_r);
	DO(l);
	assert_int_equal(l.n_r, 1);
	store_op_fini(&l.op);
	m.id = 2;
	DO(m);
	assert_true(m.duplicate_r);
}

static void test_begin_fails(void **state)
{
	fails_then_works(*state, &fail_begin);
}

static void test_commit_fails(void **state)
{
	fails_then_works(*state, &fail_commit);
}

/* What a failed transaction noted for a session's h is forgotten. */
static void test_commit_fails_sm(void **state)
{
	struct store_rig *r = *state;
	struct store_sm_put p = { .op = RIG_OP(STORE_SM_PUT),
				  .sm_id = SL("sm"),
				  .owner = SL("u@h") };
	struct store_sm_get g = { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("sm") };
	struct store_mail_put m = mail(1);

	DO(p);
	m.sm_id = SL("sm");
	m.sm_h = 50;
	fail_commit = 1;
	assert_int_equal(rig_do(r, &m.op), E_IO);
	fail_commit = 0;
	m.id = 2;
	m.sm_h = 3;
	DO(m);
	DO(g);
	assert_int_equal(g.h_r, 3);
	store_op_fini(&g.op);
}

/* A mark that was forgotten in a transaction that failed is still known. */
static void test_purge_fails(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_put m = mail(1);
	struct store_seen_purge x = { .op = RIG_OP(STORE_SEEN_PURGE),
				      .before_ms = 1000,
				      .limit = 9 };

	m.origin_id = SL("o1");
	DO(m);
	fail_commit = 1;
	assert_int_equal(rig_do(r, &x.op), E_IO);
	fail_commit = 0;
	m.id = 2;
	DO(m);
	assert_true(m.duplicate_r);
	assert_int_equal(store_stats(r->store).seen_now, 1);
	DO(x);
	assert_int_equal(store_stats(r->store).seen_now, 0);
	DO(m);
	assert_false(m.duplicate_r);
}

/* ---- batches and order ---- */

struct burst {
	unsigned answered, failed;
	uint64_t last_id;
	bool in_order;
};

static void burst_done(struct store_op *op)
{
	struct burst *b = op->arg;
	struct store_mail_put *m = (struct store_mail_put *)op;

	b->in_order &= m->id > b->last_id;
	b->last_id = m->id;
	b->answered++;
	b->failed += op->rc < 0;
	free(m);
}

static void burst_submit(struct store_rig *r, struct burst *b, uint64_t from, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct store_mail_put *m = malloc(sizeof(*m));
		assert_non_null(m);
		*m = mail(from + i);
		store_op_init(&m->op, STORE_MAIL_PUT, burst_done, b);
		store_submit(r->store, &m->op);
	}
}

static void burst_wait(struct store_rig *r, struct burst *b, unsigned n)
{
	while (b->answered < n)
		rig_turn(r);
}

/* What comes while a commit waits for the disk is one transaction. */
static void test_batch_gathers(void **state)
{
	struct store_rig *r = *state;
	struct burst b = { .in_order = true };

	hold_commit = true;
	burst_submit(r, &b, 1, 1);
	sem_wait(&held);
	burst_submit(r, &b, 2, 500);
	assert_int_equal(store_stats(r->store).queue_now, 501);
	hold_commit = false;
	sem_post(&go_on);
	burst_wait(r, &b, 501);
	assert_int_equal(store_stats(r->store).transactions, 2);
	assert_int_equal(store_stats(r->store).writes, 501);
	assert_int_equal(store_stats(r->store).queue_max, 501);
	assert_int_equal(store_stats(r->store).queue_now, 0);
	assert_true(b.in_order);
	assert_int_equal(b.failed, 0);
	assert_int_equal(mail_count(r), 501);
}

/* batch_max 4: ten operations held back are three transactions; a group of four or more stays
 * whole. */
static void test_batch_max(void **state)
{
	struct store_rig *r = *state;
	struct burst b = { .in_order = true };
	struct store_mail_put m[9];

	hold_commit = true;
	burst_submit(r, &b, 1, 1);
	sem_wait(&held);
	burst_submit(r, &b, 2, 10);
	hold_commit = false;
	sem_post(&go_on);
	burst_wait(r, &b, 11);
	assert_int_equal(store_stats(r->store).transactions, 4);
	assert_true(b.in_order);
	for (unsigned i = 0; i < ARRAY_LEN(m); i++) {
		m[i] = mail(100 + i);
		m[i].op.group_next = i + 1 < ARRAY_LEN(m) ? &m[i + 1].op : NULL;
	}
	DO(m[0]);
	assert_int_equal(store_stats(r->store).transactions, 5);
}

/* A failing batch is answered whole and in order, and what was queued behind it is not touched by
 * it. */
static void test_batch_fails(void **state)
{
	struct store_rig *r = *state;
	struct burst b = { .in_order = true };

	hold_commit = true;
	burst_submit(r, &b, 1, 4);
	sem_wait(&held);
	burst_submit(r, &b, 10, 8);
	hold_commit = false;
	fail_exec_in = 2;
	sem_post(&go_on);
	burst_wait(r, &b, 12);
	assert_true(b.in_order);
	assert_int_equal(b.failed, 4);
	assert_int_equal(mail_count(r), 8);
}

/* ---- closing ---- */

static void test_close_commits(void **state)
{
	struct store_rig *r = *state;
	struct burst b = { .in_order = true };
	struct err e;

	burst_submit(r, &b, 1, 1000);
	rig_close(r);
	burst_wait(r, &b, 1000);
	assert_int_equal(b.failed, 0);
	assert_int_equal(rig_open(r, &e), 0);
	assert_int_equal(mail_count(r), 1000);
}

/* What comes after the close is answered too, reads and writes, as often as it is closed. */
static void test_closed(void **state)
{
	struct store_rig *r = *state;
	struct burst before = { .in_order = true }, after = { .in_order = true };
	struct store_mail_count count = { .op = RIG_OP(STORE_MAIL_COUNT) };

	burst_submit(r, &before, 1, 100);
	store_close(r->store);
	burst_submit(r, &after, 101, 100);
	assert_int_equal(rig_do(r, &count.op), E_CLOSED);
	burst_wait(r, &before, 100);
	burst_wait(r, &after, 100);
	assert_int_equal(before.failed, 0);
	assert_int_equal(after.failed, 100);
	store_close(r->store);
}

/* The bus is gone before the answers were taken: done is called all the same, so that nothing
 * leaks. */
static void test_bus_gone(void **state)
{
	struct store_rig *r = *state;
	struct burst b = { .in_order = true };

	burst_submit(r, &b, 1, 10);
	rig_close(r);
	assert_int_equal(b.answered, 0);
	bus_detach(r->bus, 0);
	assert_int_equal(b.answered, 10);
	assert_int_equal(b.failed, 10);
}

/* ---- duplicate marks have a limit ---- */

static void test_seen_max(void **state)
{
	struct store_rig *r = *state;
	struct err e;
	char name[8];

	rig_close(r);
	r->cfg.seen_max = 100;
	assert_int_equal(rig_open(r, &e), 0);
	for (unsigned i = 0; i < 250; i++) {
		struct store_mail_put m = mail(i + 1);
		m.origin_id = sl_mk(name, (size_t)snprintf(name, sizeof(name), "o%u", i));
		DO(m);
		assert_false(m.duplicate_r);
	}
	assert_int_equal(store_stats(r->store).seen_now, 100);
	assert_int_equal(store_stats(r->store).seen_forgotten, 150);
	for (unsigned i = 0; i < 250; i += 249) {
		struct store_mail_put m = mail(1000 + i);
		m.origin_id = sl_mk(name, (size_t)snprintf(name, sizeof(name), "o%u", 249 - i));
		DO(m);
		assert_int_equal(m.duplicate_r, i == 0);
	}
}

/* ---- the write-ahead log ---- */

/* 100 MB of mail: the log is copied away beside the writer and starts again, again and again. */
static void test_log_bounded(void **state)
{
	struct store_rig *r = *state;
	enum { ROUNDS = 500, N = 50 };
	static char stanza[4000];
	struct stat st;
	char wal[200];
	off_t largest = 0;

	memset(stanza, 'x', sizeof(stanza));
	snprintf(wal, sizeof(wal), "%s-wal", r->path);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct store_mail_put m[N];
		for (unsigned k = 0; k < N; k++) {
			m[k] = mail(1 + i * N + k);
			m[k].stanza = sl_mk(stanza, sizeof(stanza));
			m[k].op.group_next = k + 1 < N ? &m[k + 1].op : NULL;
		}
		DO(m[0]);
		if (stat(wal, &st) == 0 && st.st_size > largest)
			largest = st.st_size;
	}
	assert_int_equal(mail_count(r), ROUNDS * N);
	assert_true(largest > 1 << 20);
	assert_true(largest < 70 << 20); /* 16,000 pages and one transaction */
	assert_int_equal(stat(r->path, &st), 0);
	assert_true(st.st_size > 30 << 20);
}

/* ---- a disk that fails ---- */

struct bad_file {
	sqlite3_file base;
	sqlite3_file *real;
};

static _Atomic int disk_rc, sync_rc;
static sqlite3_vfs bad_vfs, *real_vfs;
static sqlite3_io_methods bad_io;

#define REAL(f) (((struct bad_file *)(f))->real)

static int bad_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	return disk_rc ? disk_rc : REAL(f)->pMethods->xWrite(REAL(f), p, n, at);
}

static int bad_sync(sqlite3_file *f, int flags)
{
	return sync_rc ? sync_rc : REAL(f)->pMethods->xSync(REAL(f), flags);
}

static int bad_close(sqlite3_file *f)
{
	int rc = REAL(f)->pMethods->xClose(REAL(f));

	free(REAL(f));
	return rc;
}

static int bad_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return REAL(f)->pMethods->xRead(REAL(f), p, n, at);
}

static int bad_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	return REAL(f)->pMethods->xTruncate(REAL(f), n);
}

static int bad_size(sqlite3_file *f, sqlite3_int64 *n)
{
	return REAL(f)->pMethods->xFileSize(REAL(f), n);
}

static int bad_lock(sqlite3_file *f, int l)
{
	return REAL(f)->pMethods->xLock(REAL(f), l);
}

static int bad_unlock(sqlite3_file *f, int l)
{
	return REAL(f)->pMethods->xUnlock(REAL(f), l);
}

static int bad_check(sqlite3_file *f, int *r)
{
	return REAL(f)->pMethods->xCheckReservedLock(REAL(f), r);
}

static int bad_control(sqlite3_file *f, int op, void *arg)
{
	return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}

static int bad_sector(sqlite3_file *f)
{
	return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int bad_caps(sqlite3_file *f)
{
	return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

static int bad_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p)
{
	return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, p);
}

static int bad_shm_lock(sqlite3_file *f, int from, int n, int flags)
{
	return REAL(f)->pMethods->xShmLock(REAL(f), from, n, flags);
}

static void bad_shm_barrier(sqlite3_file *f)
{
	REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int bad_shm_unmap(sqlite3_file *f, int del)
{
	return REAL(f)->pMethods->xShmUnmap(REAL(f), del);
}

static int bad_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	sqlite3_file *real = calloc(1, (size_t)real_vfs->szOsFile);
	int rc = real ? real_vfs->xOpen(real_vfs, name, real, flags, out) : SQLITE_NOMEM;

	UNUSED(v);
	f->pMethods = NULL;
	if (rc != SQLITE_OK) {
		free(real);
		return rc;
	}
	((struct bad_file *)f)->real = real;
	f->pMethods = &bad_io;
	return SQLITE_OK;
}

static int setup_disk(void **state)
{
	real_vfs = sqlite3_vfs_find(NULL);
	bad_vfs = *real_vfs;
	bad_vfs.zName = "bad";
	bad_vfs.szOsFile = sizeof(struct bad_file);
	bad_vfs.xOpen = bad_open;
	bad_io = (sqlite3_io_methods){
		2,        bad_close,   bad_read,     bad_write,       bad_truncate,  bad_sync,
		bad_size, bad_lock,    bad_unlock,   bad_check,       bad_control,   bad_sector,
		bad_caps, bad_shm_map, bad_shm_lock, bad_shm_barrier, bad_shm_unmap, NULL,
		NULL
	};
	sqlite3_vfs_register(&bad_vfs, 1);
	return setup(state);
}

static int teardown_disk(void **state)
{
	disk_rc = sync_rc = 0;
	teardown(state);
	sqlite3_vfs_register(real_vfs, 1);
	return 0;
}

static _Atomic unsigned failures_logged;

static void count_failures(void *arg, struct sl line)
{
	char text[2100];

	UNUSED(arg);
	if (sl_to_cstr(line, text, sizeof(text)) == 0 && strstr(text, "ev=store.commit.failed"))
		failures_logged++;
}

static void disk_fails(struct store_rig *r, _Atomic int *fault, int code)
{
	struct store_mail_put m = mail(1), n = mail(2);

	failures_logged = 0;
	log_capture(count_failures, NULL);
	m.origin_id = SL("o1");
	n.origin_id = SL("o2");
	DO(m);
	*fault = code;
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_do(r, &n.op), E_IO);
	*fault = 0;
	log_capture(NULL, NULL);
	assert_int_equal(failures_logged, 1); /* and not one a batch */
	assert_int_equal(store_stats(r->store).failed, 3);
	assert_int_equal(mail_count(r), 1);
	DO(n);
	assert_true(n.row_made_r);
	assert_int_equal(mail_count(r), 2);
	DO(m);
	assert_true(m.duplicate_r);
	assert_int_equal(rig_sql(r, "PRAGMA integrity_check; SELECT count(*) FROM mail"), 2);
}

static void test_disk_full(void **state)
{
	disk_fails(*state, &disk_rc, SQLITE_FULL);
}

static void test_write_fails(void **state)
{
	disk_fails(*state, &disk_rc, SQLITE_IOERR_WRITE);
}

static void test_sync_fails(void **state)
{
	disk_fails(*state, &sync_rc, SQLITE_IOERR_FSYNC);
}

/* ---- many workers ---- */

#define WORKERS 4
#define EACH    1500

struct worker {
	pthread_t thread;
	struct loop *loop;
	struct bus *bus;
	struct store *store;
	uint16_t number;
	unsigned puts, dels, reads, wrong;
	uint64_t next, last;
};

struct round {
	struct store_mail_put put;
	struct store_mail_load load;
	struct store_mail_del del;
	struct worker *w;
	char owner[16];
};

static void round_deleted(struct store_op *op)
{
	struct round *x = op->arg;

	x->w->wrong += op->rc != 0;
	if (++x->w->dels == EACH)
		loop_stop(x->w->loop);
	free(x);
}

/* The read was submitted after the write was answered: it must see it. */
static void round_loaded(struct store_op *op)
{
	struct round *x = op->arg;

	x->w->wrong += op->rc != 0 || x->load.n_r != 1 || x->load.row_r[0].id != x->put.id;
	x->w->reads++;
	store_op_fini(op);
	x->del.id = &x->put.id;
	x->del.n = 1;
	store_op_init(&x->del.op, STORE_MAIL_DEL, round_deleted, x);
	store_submit(x->w->store, &x->del.op);
}

static void round_put(struct store_op *op)
{
	struct round *x = op->arg;
	struct worker *w = x->w;

	w->wrong += op->rc != 0 || !x->put.row_made_r || x->put.id <= w->last ||
		    bus_self(w->bus) != w->number;
	w->last = x->put.id;
	w->puts++;
	x->load.owner = x->put.owner;
	x->load.after = x->put.id - 1;
	x->load.limit = 1;
	store_op_init(&x->load.op, STORE_MAIL_LOAD, round_loaded, x);
	store_submit(w->store, &x->load.op);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	bus_enter(w->bus, w->number);
	for (unsigned i = 0; i < EACH; i++) {
		struct round *x = calloc(1, sizeof(*x));
		x->w = w;
		x->put.id = w->next++;
		x->put.owner = sl_mk(
			x->owner, (size_t)snprintf(x->owner, sizeof(x->owner), "w%u@h", w->number));
		x->put.sender = SL("s@h");
		x->put.stanza = SL("<a/>");
		store_op_init(&x->put.op, STORE_MAIL_PUT, round_put, x);
		store_submit(w->store, &x->put.op);
		if (i % 64 == 0)
			loop_turn(w->loop, 0);
	}
	loop_run(w->loop);
	return NULL;
}

static void test_many_workers(void **state)
{
	struct store_rig *r = *state; /* its bus has one worker: only path and engine are used */
	struct worker w[WORKERS];
	struct store *store;
	struct bus *bus;
	struct err e;

	rig_close(r);
	r->cfg.readers = 3;
	assert_int_equal(bus_new(WORKERS, &bus, &e), 0);
	assert_int_equal(store_new(&r->cfg, bus, &store, &e), 0);
	for (uint16_t i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){
			.bus = bus, .store = store, .number = i, .next = 1 + i * 100000u
		};
		assert_int_equal(loop_new(LOOP_BACKEND_DEFAULT, &w[i].loop, &e), 0);
		assert_int_equal(bus_attach(bus, i, w[i].loop, &w[i], &e), 0);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_create(&w[i].thread, NULL, worker_main, &w[i]);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(w[i].thread, NULL);
	assert_int_equal(store_stats(store).writes, 2 * WORKERS * EACH);
	assert_int_equal(store_stats(store).reads, WORKERS * EACH);
	assert_int_equal(store_stats(store).failed, 0);
	store_free(&store);
	for (uint16_t i = 0; i < WORKERS; i++) {
		assert_int_equal(w[i].wrong, 0);
		assert_int_equal(w[i].reads, EACH);
		bus_detach(bus, i);
	}
	bus_free(&bus);
	for (unsigned i = 0; i < WORKERS; i++)
		loop_free(&w[i].loop);
	assert_int_equal(rig_open(r, &e), 0);
	assert_int_equal(mail_count(r), 0);
}

/* Who takes the last answers may still submit: reads, writes and groups are answered, and nothing
 * is written. */
static void test_submit_after_close(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_put put = { .op = RIG_OP(STORE_MAIL_PUT),
				      .id = 7,
				      .owner = SL("a@h"),
				      .sender = SL("s@h"),
				      .stanza = SL("<a/>") };
	struct store_mail_del del = { .op = RIG_OP(STORE_MAIL_DEL) };
	struct store_mail_load load = { .op = RIG_OP(STORE_MAIL_LOAD),
					.owner = SL("a@h"),
					.limit = 1 };
	struct err e;

	store_close(r->store);
	store_close(r->store);
	put.op.group_next = &del.op;
	assert_int_equal(rig_do(r, &put.op), E_CLOSED);
	assert_int_equal(del.op.rc, E_CLOSED);
	assert_int_equal(rig_do(r, &load.op), E_CLOSED);
	rig_close(r);
	assert_int_equal(rig_open(r, &e), 0);
	assert_int_equal(mail_count(r), 0);
}

#define T(f)    cmocka_unit_test_setup_teardown(f, setup, teardown)
#define T4(f)   cmocka_unit_test_setup_teardown(f, setup_small_batch, teardown)
#define DISK(f) cmocka_unit_test_setup_teardown(f, setup_disk, teardown_disk)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_group_atomic),       T(test_group_reads),     T(test_begin_fails),
		T(test_commit_fails),       T(test_commit_fails_sm), T(test_purge_fails),
		T(test_batch_gathers),      T4(test_batch_max),      T4(test_batch_fails),
		T(test_submit_after_close), T(test_close_commits),   T(test_closed),
		T(test_bus_gone),           T(test_seen_max),        T(test_log_bounded),
		DISK(test_disk_full),       DISK(test_write_fails),  DISK(test_sync_fails),
		T(test_many_workers),
	};

	return cmocka_run_group_tests_name("store write", tests, NULL, NULL);
}
