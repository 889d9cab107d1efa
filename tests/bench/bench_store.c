/* bench_store.c - what a message costs in the store: operations and CPU time of all threads of this
 * process.
 *
 *   bench_store [--path DIR] [--messages N] [--only WORD] [--kinds 1]
 *
 * mail    MAIL_PUT with duplicate mark and h, and, when it is answered, MAIL_DEL: two transitions.
 * queue   QUEUE_PUT, move to submitted, {part accepted, move}, {part delivered, move, OUTBOX_PUT},
 * OUTBOX_DEL.
 *
 * Closed loads keep a window of messages in flight, paced ones start them at a rate. The submitter
 * is a thread of this process and its time is counted; DIR is a file system with a real fsync or
 * the figures mean nothing. */
#include "tests/unit/store_rig.h"
#include "appliance/base/clock.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define STANZA_OCTETS 420u
#define BODY_OCTETS   120u

struct load {
	const char *name;
	unsigned owners, window, rate; /* rate 0: closed */
	void (*start)(struct load *l);
	enum store_schema schema;
	struct store_rig rig;
	uint64_t next_id;
	unsigned started, finished, total;
	char stanza[STANZA_OCTETS + 1];
};

static double cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_store: %s\n", what);
	exit(1);
}

/* ---- what each kind costs in the writer (--kinds) ---- */

static struct kind_cost {
	uint64_t n, ns;
} kind_cost[STORE_KIND_MAX];
static struct store_engine timed; /* SQLite with exec and commit timed */
static uint64_t commit_cpu_us;

static uint64_t thread_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Wall time: the thread's own clock costs a system call. */
static int timed_exec(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct timespec a, b;
	int rc;

	clock_gettime(CLOCK_MONOTONIC, &a);
	rc = store_engine_sqlite.exec(c, op, e);
	clock_gettime(CLOCK_MONOTONIC, &b);
	kind_cost[op->kind].n++;
	kind_cost[op->kind].ns +=
		(uint64_t)((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec);
	return rc;
}

static int timed_commit(struct store_conn *c, struct err *e)
{
	uint64_t start = thread_us();
	int rc = store_engine_sqlite.commit(c, e);

	commit_cpu_us += thread_us() - start;
	return rc;
}

static void print_kinds(unsigned messages)
{
	for (unsigned k = 0; k < STORE_KIND_MAX; k++)
		if (kind_cost[k].n)
			printf("  kind %2u: %8llu operations, %5.2f us each\n", k,
			       (unsigned long long)kind_cost[k].n,
			       (double)kind_cost[k].ns / 1e3 / (double)kind_cost[k].n);
	printf("  commit: %5.2f us CPU a message\n", (double)commit_cpu_us / messages);
}

/* ---- how long the first answer takes ---- */

static uint32_t *latency_us;
static unsigned latencies;

static void note_latency(uint64_t start_us)
{
	latency_us[latencies++] = (uint32_t)(clock_mono_us() - start_us);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void print_latency(void)
{
	qsort(latency_us, latencies, sizeof(*latency_us), by_value);
	printf("  first commit: p50 %.2f ms, p99 %.2f, p99.9 %.2f, worst %.2f\n",
	       latency_us[latencies / 2] / 1e3, latency_us[latencies / 100 * 99] / 1e3,
	       latency_us[latencies / 1000 * 999] / 1e3, latency_us[latencies - 1] / 1e3);
	latencies = 0;
}

/* ---- mail ---- */

struct mail {
	struct store_mail_put put;
	struct store_mail_del del;
	struct load *load;
	uint64_t id, start_us;
	char owner[40], sender[40], origin[40], sm[16];
};

static void mail_deleted(struct store_op *op)
{
	struct mail *m = op->arg;

	need(op->rc == 0, "MAIL_DEL failed");
	m->load->finished++;
	free(m);
}

static void mail_stored(struct store_op *op)
{
	struct mail *m = op->arg;

	need(op->rc == 0 && m->put.row_made_r, "MAIL_PUT failed");
	note_latency(m->start_us);
	m->del.id = &m->id;
	m->del.n = 1;
	store_op_init(&m->del.op, STORE_MAIL_DEL, mail_deleted, m);
	store_submit(m->load->rig.store, &m->del.op);
}

#define TEXT(buf, ...) sl_mk(buf, (size_t)snprintf(buf, sizeof(buf), __VA_ARGS__))

static void mail_start(struct load *l)
{
	struct mail *m = calloc(1, sizeof(*m));
	unsigned from = (unsigned)rand() % l->owners, to = (unsigned)rand() % l->owners;

	need(m != NULL, "out of memory");
	m->load = l;
	m->start_us = clock_mono_us();
	m->id = m->put.id = ++l->next_id;
	m->put.owner = TEXT(m->owner, "user%u@one.example", to);
	m->put.sender = TEXT(m->sender, "user%u@two.example", from);
	m->put.origin_id =
		TEXT(m->origin, "%08x-7c11-4e1b-9e1c-%012llx", from, (unsigned long long)m->id);
	m->put.stamp_ms = clock_wall_ms();
	m->put.stanza = sl_mk(l->stanza, STANZA_OCTETS);
	m->put.sm_id = TEXT(m->sm, "sm%08u", from);
	m->put.sm_h = (uint32_t)l->next_id;
	store_op_init(&m->put.op, STORE_MAIL_PUT, mail_stored, m);
	store_submit(l->rig.store, &m->put.op);
}

/* The sessions of the senders. */
static void mail_prepare(struct load *l)
{
	for (unsigned i = 0; i < l->owners; i++) {
		char id[16], owner[40];
		struct store_sm_put p = { .op = RIG_OP(STORE_SM_PUT),
					  .sm_id = TEXT(id, "sm%08u", i),
					  .owner = TEXT(owner, "user%u@two.example", i),
					  .resource = SL("phone"),
					  .now_ms = 1 };
		need(rig_do(&l->rig, &p.op) == 0, "SM_PUT failed");
	}
}

/* ---- queue ---- */

struct sms {
	struct store_queue_put put;
	struct store_queue_move move;
	struct store_queue_part_set part;
	struct store_queue_get get;
	struct store_outbox_put out;
	struct store_outbox_del del;
	struct load *load;
	uint64_t id, start_us;
	char number[24], custody[40], origin[40], message_id[24], key[40];
};

static void sms_gone(struct store_op *op)
{
	struct sms *s = op->arg;

	need(op->rc == 0, "OUTBOX_DEL failed");
	s->load->finished++;
	free(s);
}

static void ignore(struct store_op *op)
{
	need(op->rc == 0, "store failed");
}

static void sms_delivered(struct store_op *op)
{
	struct sms *s = op->arg;

	need(op->rc == 0, "OUTBOX_PUT failed");
	s->del.id = &s->id;
	s->del.n = 1;
	store_op_init(&s->del.op, STORE_OUTBOX_DEL, sms_gone, s);
	store_submit(s->load->rig.store, &s->del.op);
}

static void move_init(struct sms *s, unsigned state, void (*done)(struct store_op *op))
{
	s->move = (struct store_queue_move){ .id = s->id,
					     .state = (uint8_t)state,
					     .attempts = 1,
					     .changed_ms = clock_wall_ms(),
					     .link = SL("carrier-a") };
	store_op_init(&s->move.op, STORE_QUEUE_MOVE, done, s);
}

static void part_init(struct sms *s, unsigned state)
{
	s->part.part =
		(struct store_queue_part){ .entry = s->id, .number = 1, .state = (uint8_t)state };
	if (state != STORE_Q_SUBMITTED) {
		s->part.part.message_id =
			TEXT(s->message_id, "%08X", (unsigned)s->id * 2654435761u);
		s->part.part.key = TEXT(s->key, "carrier-a:%s", s->message_id);
	}
	store_op_init(&s->part.op, STORE_QUEUE_PART, ignore, s);
}

static void sms_found(struct store_op *op)
{
	struct sms *s = op->arg;

	need(op->rc == 0 && s->get.found_r && s->get.entry_r.id == s->id, "QUEUE_GET failed");
	store_op_fini(op);
	part_init(s, STORE_Q_DELIVERED);
	move_init(s, STORE_Q_DELIVERED, ignore);
	s->out.id = s->id;
	s->out.key = sl_cstr(s->key);
	s->out.stanza = sl_mk(s->load->stanza, STANZA_OCTETS);
	store_op_init(&s->out.op, STORE_OUTBOX_PUT, sms_delivered, s);
	s->part.op.group_next = &s->move.op;
	s->move.op.group_next = &s->out.op;
	store_submit(s->load->rig.store, &s->part.op);
}

static void sms_accepted(struct store_op *op)
{
	struct sms *s = op->arg;

	need(op->rc == 0, "move failed");
	s->get.key = sl_cstr(s->key);
	store_op_init(&s->get.op, STORE_QUEUE_GET, sms_found, s);
	store_submit(s->load->rig.store, &s->get.op);
}

static void sms_submitted(struct store_op *op)
{
	struct sms *s = op->arg;

	need(op->rc == 0, "move failed");
	part_init(s, STORE_Q_ACCEPTED);
	move_init(s, STORE_Q_ACCEPTED, sms_accepted);
	s->part.op.group_next = &s->move.op;
	store_submit(s->load->rig.store, &s->part.op);
}

static void sms_queued(struct store_op *op)
{
	struct sms *s = op->arg;

	need(op->rc == 0 && !s->put.duplicate_r, "QUEUE_PUT failed");
	note_latency(s->start_us);
	part_init(s, STORE_Q_SUBMITTED);
	move_init(s, STORE_Q_SUBMITTED, sms_submitted);
	s->part.op.group_next = &s->move.op;
	store_submit(s->load->rig.store, &s->part.op);
}

static void sms_start(struct load *l)
{
	struct sms *s = calloc(1, sizeof(*s));
	struct store_queue_entry *q;

	need(s != NULL, "out of memory");
	s->load = l;
	s->start_us = clock_mono_us();
	s->id = ++l->next_id;
	q = &s->put.entry;
	*q = (struct store_queue_entry){ .id = s->id, .parts = 1, .wants_receipt = true };
	q->custody_id = TEXT(s->custody, "1-%016llx", (unsigned long long)s->id);
	q->from_jid = SL("user123@one.example/phone");
	q->to_number = TEXT(s->number, "+1555%07u", (unsigned)rand() % l->owners);
	q->to_jid = SL("+15550000000@sms.one.example");
	q->from_number = SL("+15559999999");
	q->stanza_id = q->origin_id =
		TEXT(s->origin, "%08x-7c11-4e1b-9e1c-%012llx", 1u, (unsigned long long)s->id);
	q->body = sl_mk(l->stanza, BODY_OCTETS);
	q->stamp_ms = q->changed_ms = clock_wall_ms();
	q->expires_ms = q->stamp_ms + 86400000;
	store_op_init(&s->put.op, STORE_QUEUE_PUT, sms_queued, s);
	store_submit(l->rig.store, &s->put.op);
}

/* ---- driver ---- */

static unsigned due(const struct load *l, uint64_t start_us)
{
	uint64_t n;

	if (l->rate == 0)
		return l->finished + l->window < l->total ? l->finished + l->window : l->total;
	n = (clock_mono_us() - start_us) * l->rate / 1000000;
	return n < l->total ? (unsigned)n : l->total;
}

static void drive(struct load *l)
{
	uint64_t start_us = clock_mono_us();

	while (l->finished < l->total) {
		for (unsigned to = due(l, start_us); l->started < to; l->started++)
			l->start(l);
		loop_turn(l->rig.loop, l->rate ? 1 : 1000);
	}
}

static void run(struct load *l, unsigned messages, bool kinds)
{
	struct err e;
	double cpu, s;
	uint64_t start_us;
	struct store_stats before, after;

	l->total = l->rate && l->rate * 10 < messages ? l->rate * 10 : messages;
	memset(l->stanza, 'x', STANZA_OCTETS);
	rig_new(&l->rig, l->schema);
	timed = store_engine_sqlite;
	timed.exec = timed_exec;
	timed.commit = timed_commit;
	need((kinds ? rig_open_engine(&l->rig, &timed, &e) : rig_open(&l->rig, &e)) == 0,
	     "cannot open the store");
	if (l->schema == STORE_CORE)
		mail_prepare(l);
	memset(kind_cost, 0, sizeof(kind_cost));
	commit_cpu_us = 0;
	before = store_stats(l->rig.store);
	cpu = cpu_s();
	start_us = clock_mono_us();
	drive(l);
	s = (double)(clock_mono_us() - start_us) / 1e6;
	cpu = cpu_s() - cpu;
	after = store_stats(l->rig.store);
	double txn = (double)(after.transactions - before.transactions);
	printf("%-44s %8.0f msg/s  %5.2f CPU-s per 100,000  %6.1f ops/commit  commit %.2f ms, worst %.1f\n",
	       l->name, l->total / s, cpu / l->total * 1e5,
	       (double)(after.writes - before.writes) / txn,
	       (double)(after.commit_us_sum - before.commit_us_sum) / txn / 1e3,
	       (double)after.commit_us_max / 1e3);
	print_latency();
	if (kinds)
		print_kinds(l->total);
	rig_free(&l->rig);
}

static struct load loads[] = {
	{ .name = "mail put+del, 100 owners, window 2000",
	  .owners = 100,
	  .window = 2000,
	  .start = mail_start },
	{ .name = "mail put+del, 10,000 owners, window 2000",
	  .owners = 10000,
	  .window = 2000,
	  .start = mail_start },
	{ .name = "mail put+del, 10,000 owners, 5,000/s",
	  .owners = 10000,
	  .rate = 5000,
	  .start = mail_start },
	{ .name = "mail put+del, 10,000 owners, 1,000/s",
	  .owners = 10000,
	  .rate = 1000,
	  .start = mail_start },
	{ .name = "queue to delivered, 10,000 numbers, window 2000",
	  .owners = 10000,
	  .window = 2000,
	  .start = sms_start,
	  .schema = STORE_SMS },
	{ .name = "queue to delivered, 10,000 numbers, 5,000/s",
	  .owners = 10000,
	  .rate = 5000,
	  .start = sms_start,
	  .schema = STORE_SMS },
	{ .name = "queue to delivered, 10,000 numbers, 1,000/s",
	  .owners = 10000,
	  .rate = 1000,
	  .start = sms_start,
	  .schema = STORE_SMS },
};

int main(int argc, char **argv)
{
	unsigned messages = 100000;
	const char *only = "";
	bool kinds = false;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--messages") == 0)
			messages = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--only") == 0)
			only = argv[i + 1];
		else if (strcmp(argv[i], "--kinds") == 0)
			kinds = strcmp(argv[i + 1], "1") == 0;
		else if (strcmp(argv[i], "--path") == 0)
			setenv("TMPDIR", argv[i + 1], 1);
		else
			need(false,
			     "usage: bench_store [--path DIR] [--messages N] [--only WORD] [--kinds 1]");
	}
	latency_us = calloc(messages, sizeof(*latency_us));
	need(latency_us != NULL && messages >= 1000, "--messages: at least 1000");
	for (size_t i = 0; i < ARRAY_LEN(loads); i++)
		if (strstr(loads[i].name, only))
			run(&loads[i], messages, kinds);
	free(latency_us);
	return 0;
}
