/* store.c - see store.h: the threads, the queues, grouped commits and the answers.
 *
 * Writes: submitters push on a stack with one compare-and-swap; the writer takes it whole, turns it
 * round and executes until nothing more has come (or batch_max), commits once and answers all.
 * While it waits for the disk the next batch gathers by itself, so there is no artificial delay. A
 * submitter makes a system call only when the writer sleeps. Reads: a plain queue and a condition
 * for the reader threads.
 *
 * The stack's head is CLOSED once the writer has ended; a submitter that meets it answers for
 * itself. */
#include "appliance/store/store_engine.h"
#include "appliance/base/clock.h"
#include "appliance/base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define READERS_MAX   8u
#define BATCH_DEFAULT 2000u
#define SEEN_DEFAULT  8000000u
#define RESULT_FIRST  1024u
#define RESULT_MAX    (64u << 20)
#define STACK_OCTETS  (512u << 10)
#define LOG_EVERY_MS  1000u

static const struct store_engine *const engines[] = {
#ifdef CONFIG_STORE_SQLITE
	&store_engine_sqlite,
#endif
	NULL,
};

struct fifo {
	struct store_op *first, **last;
};

struct reader {
	pthread_t thread;
	struct store *store;
	struct store_conn *conn;
};

struct store {
	const struct store_engine *engine;
	struct store_cfg cfg;
	char *path;
	struct bus *bus;
	struct store_conn *conn;
	pthread_t writer;
	bool writer_runs;
	unsigned readers_run;
	uint64_t logged_ms; /* writer only */

	_Alignas(64) _Atomic(struct store_op *) head;
	_Alignas(64) _Atomic bool asleep;
	_Atomic bool closing;
	pthread_mutex_t w_mutex;
	pthread_cond_t w_cond;

	pthread_mutex_t r_mutex;
	pthread_cond_t r_cond;
	struct fifo reads;
	unsigned r_idle;
	bool r_closed;
	struct reader reader[READERS_MAX];

	_Atomic uint64_t writes, n_reads, transactions, failed, commit_us_sum, commit_us_max;
	_Atomic uint32_t queue_now, queue_max;
};

static struct store_op closed_mark;
#define CLOSED (&closed_mark)

/* ---- operations ---- */

static const bool kind_writes[STORE_KIND_MAX] = {
	[STORE_ACCOUNT_PUT] = true, [STORE_ACCOUNT_DEL] = true,   [STORE_ROSTER_PUT] = true,
	[STORE_ROSTER_DEL] = true,  [STORE_MAIL_PUT] = true,      [STORE_MAIL_DEL] = true,
	[STORE_SM_PUT] = true,      [STORE_SM_DEL] = true,        [STORE_SM_PURGE] = true,
	[STORE_SEEN_PURGE] = true,  [STORE_COMPONENT_PUT] = true, [STORE_COMPONENT_DEL] = true,
	[STORE_META_PUT] = true,    [STORE_NUMBER_PUT] = true,    [STORE_NUMBER_DEL] = true,
	[STORE_LINK_PUT] = true,    [STORE_LINK_DEL] = true,      [STORE_QUEUE_PUT] = true,
	[STORE_QUEUE_MOVE] = true,  [STORE_QUEUE_PART] = true,    [STORE_QUEUE_PURGE] = true,
	[STORE_OUTBOX_PUT] = true,  [STORE_OUTBOX_DEL] = true,    [STORE_FRAG_PUT] = true,
	[STORE_FRAG_DEL] = true,    [STORE_FRAG_JOIN] = true,     [STORE_FRAG_PURGE] = true,
};

bool store_kind_writes(enum store_kind k)
{
	return k < STORE_KIND_MAX && kind_writes[k];
}

static void op_undeliverable(struct bus_msg *m)
{
	struct store_op *op = container_of(m, struct store_op, msg);

	op->rc = E_CLOSED;
	op->done(op);
}

void store_op_init(struct store_op *op, enum store_kind kind, void (*done)(struct store_op *op),
		   void *arg)
{
	*op = (struct store_op){ .kind = (uint16_t)kind, .done = done, .arg = arg };
	op->msg.free = op_undeliverable;
	op->msg.type = BUS_TYPE_STORE_DONE;
}

void store_op_fini(struct store_op *op)
{
	arena_free(&op->arena);
}

struct arena *store_op_arena(struct store_op *op)
{
	if (!op->arena)
		op->arena = arena_new(RESULT_FIRST, RESULT_MAX);
	return op->arena;
}

static void on_done(void *worker_arg, struct bus_msg *m)
{
	struct store_op *op = container_of(m, struct store_op, msg);

	UNUSED(worker_arg);
	op->done(op);
}

/* After the post op belongs to its submitter, who may have freed it. */
static void answer(struct store *s, struct store_op *op, int rc)
{
	op->rc = rc;
	bus_post(s->bus, &op->msg);
}

static void answer_group(struct store *s, struct store_op *op, int rc)
{
	while (op) {
		struct store_op *next = op->group_next;
		answer(s, op, rc);
		op = next;
	}
}

/* ---- submission ---- */

static void fifo_init(struct fifo *f)
{
	f->first = NULL;
	f->last = &f->first;
}

static void fifo_add(struct fifo *f, struct store_op *op)
{
	op->qnext = NULL;
	*f->last = op;
	f->last = &op->qnext;
}

static struct store_op *fifo_pop(struct fifo *f)
{
	struct store_op *op = f->first;

	if (!op)
		return NULL;
	f->first = op->qnext;
	if (!f->first)
		f->last = &f->first;
	return op;
}

static void count_queued(struct store *s, uint32_t n)
{
	uint32_t now = atomic_fetch_add_explicit(&s->queue_now, n, memory_order_relaxed) + n;
	uint32_t max = atomic_load_explicit(&s->queue_max, memory_order_relaxed);

	while (now > max &&
	       !atomic_compare_exchange_weak_explicit(&s->queue_max, &max, now,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

static void wake_writer(struct store *s)
{
	pthread_mutex_lock(&s->w_mutex);
	pthread_cond_signal(&s->w_cond);
	pthread_mutex_unlock(&s->w_mutex);
}

static void submit_write(struct store *s, struct store_op *op, uint32_t n)
{
	struct store_op *head = atomic_load_explicit(&s->head, memory_order_relaxed);

	count_queued(s, n);
	do {
		if (head == CLOSED) {
			atomic_fetch_sub_explicit(&s->queue_now, n, memory_order_relaxed);
			answer_group(s, op, E_CLOSED);
			return;
		}
		op->qnext = head;
		/* seq_cst against `asleep`: either we see the writer asleep or it sees our push. */
	} while (!atomic_compare_exchange_weak(&s->head, &head, op));
	if (!head && atomic_load(&s->asleep))
		wake_writer(s);
}

static void submit_read(struct store *s, struct store_op *op)
{
	bool closed, wake = false;

	pthread_mutex_lock(&s->r_mutex);
	closed = s->r_closed;
	if (!closed) {
		fifo_add(&s->reads, op);
		wake = s->r_idle > 0;
	}
	pthread_mutex_unlock(&s->r_mutex);
	if (closed)
		answer(s, op, E_CLOSED);
	else if (wake)
		pthread_cond_signal(&s->r_cond);
}

static bool for_writer(const struct store *s, unsigned kind)
{
	return store_kind_writes((enum store_kind)kind) ||
	       (kind < STORE_KIND_MAX && s->engine->writer_reads >> kind & 1);
}

void store_submit(struct store *s, struct store_op *op)
{
	uint16_t worker = bus_self(s->bus);
	uint32_t n = 0;

	for (struct store_op *o = op; o; o = o->group_next, n++) {
		o->msg.to = (struct bus_addr){ .node = BUS_NODE_SELF, .worker = worker };
		o->msg.type = BUS_TYPE_STORE_DONE;
	}
	if (n > 1 || for_writer(s, op->kind))
		submit_write(s, op, n);
	else
		submit_read(s, op);
}

/* ---- the writer ---- */

/* Everything that was pushed, oldest first, to the end of f. */
static void take_new(struct store *s, struct fifo *f)
{
	struct store_op *op, *turned = NULL;

	if (!atomic_load_explicit(&s->head, memory_order_relaxed))
		return;
	op = atomic_exchange_explicit(&s->head, NULL, memory_order_acquire);
	while (op) {
		struct store_op *next = op->qnext;
		op->qnext = turned;
		turned = op;
		op = next;
	}
	while (turned) {
		struct store_op *next = turned->qnext;
		fifo_add(f, turned);
		turned = next;
	}
}

/* false: closing, and nothing is left. */
static bool writer_sleep(struct store *s)
{
	struct store_op *none = NULL;

	pthread_mutex_lock(&s->w_mutex);
	atomic_store(&s->asleep, true);
	while (!atomic_load(&s->head) && !atomic_load(&s->closing))
		pthread_cond_wait(&s->w_cond, &s->w_mutex);
	atomic_store(&s->asleep, false);
	pthread_mutex_unlock(&s->w_mutex);
	if (!atomic_load(&s->closing))
		return true;
	return !atomic_compare_exchange_strong(&s->head, &none, CLOSED);
}

static uint32_t group_size(const struct store_op *op)
{
	uint32_t n = 0;

	for (; op; op = op->group_next)
		n++;
	return n;
}

static int exec_group(struct store *s, struct store_op *op, struct err *e)
{
	int rc = 0;

	for (; op && rc == 0; op = op->group_next)
		rc = s->engine->exec(s->conn, op, e);
	return rc;
}

/* Execute what is pending and what comes meanwhile, up to batch_max operations; groups stay whole.
 * What was taken from pending is in *batch, in order, whatever happened. */
static int exec_batch(struct store *s, struct fifo *pending, struct fifo *batch, uint32_t *n_r,
		      struct err *e)
{
	int rc = s->engine->begin(s->conn, e);
	uint32_t n = 0;

	while (n < s->cfg.batch_max) {
		struct store_op *op = fifo_pop(pending);
		if (!op) {
			take_new(s, pending);
			op = fifo_pop(pending);
		}
		if (!op)
			break;
		fifo_add(batch, op);
		n += group_size(op);
		if (rc == 0)
			rc = exec_group(s, op, e);
	}
	*n_r = n;
	return rc;
}

static int commit_batch(struct store *s, struct err *e)
{
	uint64_t start = clock_mono_us(), us;
	int rc = s->engine->commit(s->conn, e);

	if (rc < 0)
		return rc;
	us = clock_mono_us() - start;
	atomic_fetch_add_explicit(&s->transactions, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->commit_us_sum, us, memory_order_relaxed);
	if (us > atomic_load_explicit(&s->commit_us_max, memory_order_relaxed))
		atomic_store_explicit(&s->commit_us_max, us, memory_order_relaxed);
	return 0;
}

/* A full disk fails thousands of batches a second: say so once a second, with the sum. */
static void report_failure(struct store *s, uint32_t n, const struct err *e)
{
	uint64_t now = clock_mono_ms();
	uint64_t failed = atomic_fetch_add_explicit(&s->failed, n, memory_order_relaxed) + n;

	if (s->logged_ms && now - s->logged_ms < LOG_EVERY_MS)
		return;
	s->logged_ms = now ? now : 1;
	log_ev(LOG_L_ERROR, "store.commit.failed", KC("path", s->path), KU("ops", n),
	       KU("failed_sum", failed), KE(e));
}

static void run_batch(struct store *s, struct fifo *pending)
{
	struct err e = { 0 };
	struct fifo batch;
	struct store_op *op;
	uint32_t n;
	int rc;

	fifo_init(&batch);
	rc = exec_batch(s, pending, &batch, &n, &e);
	if (rc == 0)
		rc = commit_batch(s, &e);
	if (rc < 0) {
		s->engine->rollback(s->conn);
		report_failure(s, n, &e);
	}
	atomic_fetch_add_explicit(&s->writes, n, memory_order_relaxed);
	atomic_fetch_sub_explicit(&s->queue_now, n, memory_order_relaxed);
	while ((op = fifo_pop(&batch)))
		answer_group(s, op, rc < 0 ? E_IO : 0);
}

static void *writer_main(void *arg)
{
	struct store *s = arg;
	struct fifo pending;

	fifo_init(&pending);
	for (;;) {
		take_new(s, &pending);
		if (pending.first)
			run_batch(s, &pending);
		else if (!writer_sleep(s))
			return NULL;
	}
}

/* ---- readers ---- */

static struct store_op *next_read(struct store *s)
{
	struct store_op *op;

	pthread_mutex_lock(&s->r_mutex);
	while (!(op = fifo_pop(&s->reads)) && !s->r_closed) {
		s->r_idle++;
		pthread_cond_wait(&s->r_cond, &s->r_mutex);
		s->r_idle--;
	}
	pthread_mutex_unlock(&s->r_mutex);
	return op;
}

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	struct store *s = r->store;
	struct store_op *op;

	while ((op = next_read(s))) {
		struct err e = { 0 };
		int rc = s->engine->exec(r->conn, op, &e);
		atomic_fetch_add_explicit(&s->n_reads, 1, memory_order_relaxed);
		if (rc < 0) {
			atomic_fetch_add_explicit(&s->failed, 1, memory_order_relaxed);
			log_ev(LOG_L_ERROR, "store.read.failed", KC("path", s->path),
			       KU("kind", op->kind), KE(&e));
		}
		answer(s, op, rc == 0 || rc == E_NOMEM ? rc : E_IO);
	}
	return NULL;
}

/* ---- life ---- */

static int start_thread(pthread_t *t, void *(*fn)(void *), void *arg, struct err *e)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_OCTETS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(t, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return rc ? err_set(e, E_IO, NULL, "cannot start a store thread: %s", strerror(rc)) : 0;
}

static int start_threads(struct store *s, struct err *e)
{
	int rc = start_thread(&s->writer, writer_main, s, e);

	if (rc < 0)
		return rc;
	s->writer_runs = true;
	for (unsigned i = 0; i < s->cfg.readers; i++) {
		rc = start_thread(&s->reader[i].thread, reader_main, &s->reader[i], e);
		if (rc < 0)
			return rc;
		s->readers_run++;
	}
	return 0;
}

static int open_conns(struct store *s, struct err *e)
{
	int rc = s->engine->open(&s->cfg, true, &s->conn, e);

	for (unsigned i = 0; rc == 0 && i < s->cfg.readers; i++) {
		s->reader[i].store = s;
		rc = s->engine->open(&s->cfg, false, &s->reader[i].conn, e);
	}
	return rc;
}

static int check_cfg(const struct store_cfg *cfg, struct err *e)
{
	if (!cfg->path || !*cfg->path)
		return err_set(e, E_RANGE, NULL, "the store has no path");
	if (cfg->readers < 1 || cfg->readers > READERS_MAX)
		return err_set(e, E_RANGE, NULL, "%u store readers: from 1 to %u are possible",
			       cfg->readers, READERS_MAX);
	return 0;
}

static struct store *store_alloc(const struct store_engine *engine, const struct store_cfg *cfg,
				 struct bus *bus)
{
	void *mem;
	struct store *s;

	if (posix_memalign(&mem, 64, sizeof(*s)))
		return NULL;
	s = memset(mem, 0, sizeof(*s));
	s->path = sl_dup(sl_cstr(cfg->path));
	if (!s->path) {
		free(s);
		return NULL;
	}
	s->engine = engine;
	s->bus = bus;
	s->cfg = *cfg;
	s->cfg.path = s->path;
	if (s->cfg.batch_max == 0)
		s->cfg.batch_max = BATCH_DEFAULT;
	if (s->cfg.seen_max == 0)
		s->cfg.seen_max = SEEN_DEFAULT;
	pthread_mutex_init(&s->w_mutex, NULL);
	pthread_cond_init(&s->w_cond, NULL);
	pthread_mutex_init(&s->r_mutex, NULL);
	pthread_cond_init(&s->r_cond, NULL);
	fifo_init(&s->reads);
	return s;
}

int store_new_engine(const struct store_engine *engine, const struct store_cfg *cfg,
		     struct bus *bus, struct store **s_r, struct err *e)
{
	int rc = check_cfg(cfg, e);
	struct store *s;

	if (rc < 0)
		return rc;
	s = store_alloc(engine, cfg, bus);
	if (!s)
		return err_set(e, E_NOMEM, NULL, "out of memory for the store");
	rc = open_conns(s, e);
	if (rc == 0)
		rc = start_threads(s, e);
	if (rc < 0) {
		store_free(&s);
		return rc;
	}
	bus_on(bus, BUS_TYPE_STORE_DONE, on_done);
	*s_r = s;
	return 0;
}

int store_new(const struct store_cfg *cfg, struct bus *bus, struct store **s_r, struct err *e)
{
	for (size_t i = 0; engines[i]; i++)
		if (cfg->engine && strcmp(engines[i]->name, cfg->engine) == 0)
			return store_new_engine(engines[i], cfg, bus, s_r, e);
	return err_set(e, E_UNSUPPORTED, NULL, "no store engine \"%s\" in this build",
		       cfg->engine ? cfg->engine : "");
}

void store_close(struct store *s)
{
	atomic_store(&s->closing, true);
	wake_writer(s);
	if (s->writer_runs)
		pthread_join(s->writer, NULL);
	s->writer_runs = false;
	pthread_mutex_lock(&s->r_mutex);
	s->r_closed = true;
	pthread_cond_broadcast(&s->r_cond);
	pthread_mutex_unlock(&s->r_mutex);
	for (unsigned i = 0; i < s->readers_run; i++)
		pthread_join(s->reader[i].thread, NULL);
	s->readers_run = 0;
}

void store_free(struct store **sp)
{
	struct store *s = *sp;

	*sp = NULL;
	if (!s)
		return;
	store_close(s);
	for (unsigned i = 0; i < s->cfg.readers; i++)
		if (s->reader[i].conn)
			s->engine->close(&s->reader[i].conn);
	if (s->conn)
		s->engine->close(&s->conn);
	pthread_mutex_destroy(&s->w_mutex);
	pthread_cond_destroy(&s->w_cond);
	pthread_mutex_destroy(&s->r_mutex);
	pthread_cond_destroy(&s->r_cond);
	free(s->path);
	free(s);
}

struct store_stats store_stats(const struct store *s)
{
	struct store_stats st = {
		.writes = s->writes,
		.reads = s->n_reads,
		.transactions = s->transactions,
		.failed = s->failed,
		.commit_us_sum = s->commit_us_sum,
		.commit_us_max = s->commit_us_max,
		.queue_now = s->queue_now,
		.queue_max = s->queue_max,
	};

	s->engine->stats(s->conn, &st);
	return st;
}
