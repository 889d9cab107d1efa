/* test_bus.c - mailboxes with real threads and loops: order per sender, wakes, ends. Also under
 * TSan. */
#include "appliance/bus/bus.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "appliance/base/hash.h"

#define WORKERS   3u
#define OUTSIDERS 2u
#define EACH      20000u /* messages of each sender to each worker */

enum { T_COUNT = 5, T_PING, T_STOP };

static _Atomic unsigned alive; /* messages allocated and not freed */

struct note {
	struct bus_msg m; /* first */
	uint32_t sender, seq;
};

static void note_free(struct bus_msg *m)
{
	atomic_fetch_sub(&alive, 1);
	free(m);
}

static struct bus_msg *note_new(uint16_t to, uint16_t type, uint32_t sender, uint32_t seq)
{
	struct note *n = calloc(1, sizeof(*n));

	atomic_fetch_add(&alive, 1);
	n->m.to.worker = to;
	n->m.type = type;
	n->m.free = note_free;
	n->sender = sender;
	n->seq = seq;
	return &n->m;
}

struct worker {
	uint16_t id;
	struct bus *bus;
	struct loop *loop;
	pthread_t thread;
	uint32_t next[WORKERS + OUTSIDERS]; /* what must come next from each sender */
	uint32_t got, wrong;
	uint32_t sent; /* as a sender: seq of the next round */
	struct loop_task pump;
	char order[200];
	unsigned depth, deepest;
};

static struct worker workers[WORKERS];

/* ---- many to many
 * -------------------------------------------------------------------------------- */

static void on_count(void *arg, struct bus_msg *m)
{
	struct worker *w = arg;
	struct note *n = (struct note *)m;
	uint16_t from = n->sender < WORKERS ? (uint16_t)n->sender : (uint16_t)BUS_MAX_WORKERS;

	if (n->seq != w->next[n->sender] || m->from_worker != from || m->to.worker != w->id)
		w->wrong++;
	w->next[n->sender] = n->seq + 1;
	w->got++;
	m->free(m);
	if (w->got == EACH * (WORKERS + OUTSIDERS))
		loop_stop(w->loop);
}

static void pump(struct loop_task *t)
{
	struct worker *w = container_of(t, struct worker, pump);

	for (unsigned i = 0; i < 100 && w->sent < EACH; i++, w->sent++)
		for (uint16_t to = 0; to < WORKERS; to++)
			bus_post(w->bus, note_new(to, T_COUNT, w->id, w->sent));
	if (w->sent < EACH)
		loop_defer(w->loop, &w->pump, pump);
}

static void *run_worker(void *arg)
{
	struct worker *w = arg;

	bus_enter(w->bus, w->id);
	loop_defer(w->loop, &w->pump, pump);
	loop_run(w->loop);
	return NULL;
}

struct outsider {
	struct bus *bus;
	uint32_t sender;
	pthread_t thread;
};

static void *run_outsider(void *arg)
{
	struct outsider *o = arg;

	for (uint32_t i = 0; i < EACH; i++)
		for (uint16_t to = 0; to < WORKERS; to++)
			bus_post(o->bus, note_new(to, T_COUNT, o->sender, i));
	return NULL;
}

static struct bus *bus_make(uint16_t n)
{
	struct bus *b = NULL;
	struct err e = { 0, NULL, "" };

	memset(workers, 0, sizeof(workers));
	if (bus_new(n, &b, &e) < 0)
		fail_msg("%s", e.text);
	for (uint16_t i = 0; i < n; i++) {
		workers[i].id = i;
		workers[i].bus = b;
		if (loop_new(LOOP_BACKEND_DEFAULT, &workers[i].loop, &e) < 0 ||
		    bus_attach(b, i, workers[i].loop, &workers[i], &e) < 0)
			fail_msg("%s", e.text);
	}
	return b;
}

static void bus_end(struct bus *b, uint16_t n)
{
	bus_free(&b);
	for (uint16_t i = 0; i < n; i++)
		loop_free(&workers[i].loop);
	assert_int_equal(atomic_load(&alive), 0);
}

static void many_to_many(void **state)
{
	struct bus *b = bus_make(WORKERS);
	struct outsider out[OUTSIDERS];

	UNUSED(state);
	bus_on(b, T_COUNT, on_count);
	for (uint16_t i = 0; i < WORKERS; i++)
		pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
	for (uint32_t i = 0; i < OUTSIDERS; i++) {
		out[i] = (struct outsider){ .bus = b, .sender = WORKERS + i };
		pthread_create(&out[i].thread, NULL, run_outsider, &out[i]);
	}
	for (uint32_t i = 0; i < OUTSIDERS; i++)
		pthread_join(out[i].thread, NULL);
	for (uint16_t i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	for (uint16_t i = 0; i < WORKERS; i++) {
		struct bus_stats s = bus_stats(b, i);
		assert_int_equal(workers[i].wrong, 0);
		assert_int_equal(workers[i].got, EACH * (WORKERS + OUTSIDERS));
		assert_int_equal(s.posted_local, EACH);
		assert_int_equal(s.posted_remote, EACH * (WORKERS + OUTSIDERS - 1));
		assert_true(s.batches > 0 && s.batches <= s.posted_remote);
	}
	bus_end(b, WORKERS);
}

/* ---- one wake a batch
 * ------------------------------------------------------------------------------ */

static void on_append(void *arg, struct bus_msg *m)
{
	struct worker *w = arg;
	struct note *n = (struct note *)m;
	size_t len = strlen(w->order);

	snprintf(w->order + len, sizeof(w->order) - len, "%u ", n->seq);
	m->free(m);
}

static void one_wake_a_batch(void **state)
{
	struct bus *b = bus_make(1);

	UNUSED(state);
	bus_on(b, T_COUNT, on_append);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(bus_post(b, note_new(0, T_COUNT, 0, i % 10)), 0);
	uint64_t wakes = loop_stats(workers[0].loop).wakes;
	loop_turn(workers[0].loop, 1000);
	assert_int_equal(bus_stats(b, 0).batches, 1);
	assert_int_equal(bus_stats(b, 0).posted_remote, 50);
	assert_true(loop_stats(workers[0].loop).wakes - wakes <= 1);
	assert_int_equal(strlen(workers[0].order), 100);
	assert_memory_equal(workers[0].order, "0 1 2 3 4 5 6 7 8 9 0 1 ", 24);
	loop_turn(workers[0].loop, 0); /* nothing is left, nothing is done twice */
	assert_int_equal(strlen(workers[0].order), 100);
	bus_end(b, 1);
}

/* ---- to itself: at the end of the turn, no recursion
 * -------------------------------------------------- */

static void on_ping(void *arg, struct bus_msg *m)
{
	struct worker *w = arg;
	struct note *n = (struct note *)m;

	if (++w->depth > w->deepest)
		w->deepest = w->depth;
	if (n->seq < 20)
		bus_post(w->bus, note_new(w->id, T_PING, w->id, n->seq + 1));
	on_append(w, m);
	w->depth--;
}

static void local_queue(void **state)
{
	struct bus *b = bus_make(1);

	UNUSED(state);
	bus_on(b, T_PING, on_ping);
	bus_enter(b, 0);
	bus_post(b, note_new(0, T_PING, 0, 18));
	bus_post(b, note_new(0, T_PING, 0, 20));
	assert_string_equal(workers[0].order, "");
	for (int i = 0; i < 10; i++)
		loop_turn(workers[0].loop, 0);
	assert_string_equal(workers[0].order, "18 20 19 20 ");
	assert_int_equal(workers[0].deepest, 1);
	assert_int_equal(bus_stats(b, 0).posted_local, 4);
	assert_int_equal(bus_stats(b, 0).posted_remote, 0);
	bus_end(b, 1);
}

/* ---- what cannot be delivered
 * --------------------------------------------------------------------------- */

static void refusals(void **state)
{
	struct bus *b = bus_make(2);
	struct bus_msg *m;

	UNUSED(state);
	bus_on(b, T_COUNT, on_append);
	assert_int_equal(bus_post(b, note_new(2, T_COUNT, 0, 0)), E_RANGE);
	assert_int_equal(bus_post(b, note_new(0, T_PING, 0, 0)), E_RANGE); /* no handler */
	assert_int_equal(bus_post(b, note_new(0, 200, 0, 0)), E_RANGE);
	m = note_new(0, T_COUNT, 0, 0);
	m->to.node = 7;
	assert_int_equal(bus_post(b, m), E_UNSUPPORTED);
	assert_int_equal(atomic_load(&alive), 0); /* taken in any case */

	assert_int_equal(bus_post(b, note_new(1, T_COUNT, 0, 1)), 0);
	bus_detach(b, 1);
	assert_int_equal(atomic_load(&alive), 0);
	assert_int_equal(bus_post(b, note_new(1, T_COUNT, 0, 2)), E_CLOSED);
	bus_enter(b, 0);
	assert_int_equal(bus_post(b, note_new(1, T_COUNT, 0, 2)), E_CLOSED);
	assert_int_equal(bus_post(b, note_new(0, T_COUNT, 0, 3)), 0);
	bus_detach(b, 0);
	assert_int_equal(bus_post(b, note_new(0, T_COUNT, 0, 3)), E_CLOSED);
	assert_int_equal(atomic_load(&alive), 0);
	bus_end(b, 2);
}

static void undelivered_is_freed(void **state)
{
	struct bus *b = bus_make(2);

	UNUSED(state);
	bus_on(b, T_COUNT, on_append);
	bus_enter(b, 0);
	for (uint32_t i = 0; i < 5; i++) {
		bus_post(b, note_new(0, T_COUNT, 0, i)); /* local queue */
		bus_post(b, note_new(1, T_COUNT, 0, i)); /* mailbox */
	}
	assert_int_equal(atomic_load(&alive), 10);
	bus_end(b, 2);
}

static void making_one(void **state)
{
	struct bus *b = NULL;
	struct loop *l;
	struct err e;

	UNUSED(state);
	assert_int_equal(bus_new(0, &b, &e), E_RANGE);
	assert_int_equal(bus_new(BUS_MAX_WORKERS + 1, &b, &e), E_RANGE);
	assert_null(b);
	assert_int_equal(bus_new(2, &b, &e), 0);
	assert_int_equal(bus_workers(b), 2);
	bus_on(b, T_COUNT, on_append);
	assert_int_equal(bus_post(b, note_new(0, T_COUNT, 0, 0)), E_CLOSED); /* not attached yet */
	assert_int_equal(loop_new(LOOP_BACKEND_DEFAULT, &l, &e), 0);
	assert_int_equal(bus_attach(b, 2, l, NULL, &e), E_RANGE);
	assert_int_equal(bus_attach(b, 1, l, NULL, &e), 0);
	assert_int_equal(bus_attach(b, 1, l, NULL, &e), E_EXISTS);
	bus_free(&b);
	bus_free(&b);
	loop_free(&l);
}

static void owners(void **state)
{
	struct bus *b = NULL;
	unsigned n[4] = { 0 };
	char jid[40];

	UNUSED(state);
	assert_int_equal(bus_new(4, &b, NULL), 0);
	for (unsigned i = 0; i < 4000; i++) {
		snprintf(jid, sizeof(jid), "user%u@example.com", i);
		uint16_t w = bus_owner(b, sl_cstr(jid));
		assert_true(w < 4);
		assert_int_equal(w, bus_owner(b, sl_cstr(jid)));
		n[w]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(n[i], 850, 1150);
	bus_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_to_many),
		cmocka_unit_test(one_wake_a_batch),
		cmocka_unit_test(local_queue),
		cmocka_unit_test(refusals),
		cmocka_unit_test(undelivered_is_freed),
		cmocka_unit_test(making_one),
		cmocka_unit_test(owners),
	};

	hash_key_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
