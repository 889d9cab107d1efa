/* test_loop.c - turns, descriptors, timers, tasks, wake-up; everything on each back end. */
#include "appliance/base/base.h"
#include "appliance/base/clock.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static enum loop_backend backend;
static struct loop *loop;

static int setup(void **state)
{
	struct err e;

	UNUSED(state);
	if (loop_new(backend, &loop, &e) < 0) {
		print_error("%s\n", e.text);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	struct loop_stats left = loop_stats(loop);

	UNUSED(state);
	/* after a failed test loop_free would abort and hide why */
	if (left.fds || left.timers)
		return -1;
	loop_free(&loop);
	clock_fake(false, 0, 0);
	return 0;
}

static int setup_fake(void **state)
{
	clock_fake(true, 1000, 0);
	return setup(state);
}

/* --- descriptors ---------------------------------------------------------------------------- */

struct end {
	struct loop_fd lf;
	int fd, calls;
	unsigned ready;
	struct end *victim; /* removed (and freed, if heap) by the callback */
};

static void end_ready(struct loop_fd *lf, unsigned ready)
{
	struct end *x = container_of(lf, struct end, lf);

	x->calls++;
	x->ready = ready;
	if (x->victim) {
		loop_fd_del(&x->victim->lf);
		x->victim = NULL;
	}
}

static void pair(int p[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
}

static void add(struct end *x, int fd, unsigned want)
{
	struct err e;

	*x = (struct end){ .fd = fd };
	assert_int_equal(loop_fd_add(loop, &x->lf, fd, want, end_ready, &e), 0);
}

static void test_fd_ready(void **state)
{
	struct end a;
	int p[2];

	UNUSED(state);
	pair(p);
	add(&a, p[0], LOOP_READ);
	loop_turn(loop, 0);
	assert_int_equal(a.calls, 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	loop_turn(loop, 1000);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.ready, LOOP_READ);
	loop_turn(loop, 0); /* level-triggered: still there */
	assert_int_equal(a.calls, 2);
	loop_fd_want(&a.lf, 0);
	loop_turn(loop, 0);
	assert_int_equal(a.calls, 2);
	loop_fd_want(&a.lf, LOOP_READ | LOOP_WRITE);
	loop_turn(loop, 1000);
	assert_int_equal(a.ready, LOOP_READ | LOOP_WRITE);
	assert_int_equal(loop_stats(loop).fds, 1);
	loop_fd_del(&a.lf);
	loop_fd_del(&a.lf);
	loop_turn(loop, 0);
	assert_int_equal(a.calls, 3);
	assert_int_equal(loop_stats(loop).fds, 0);
	close(p[0]);
	close(p[1]);
}

static void test_hangup_seen_and_not_spun_on(void **state)
{
	struct end a;
	int p[2];

	UNUSED(state);
	pair(p);
	add(&a, p[0], LOOP_READ);
	close(p[1]);
	loop_turn(loop, 1000);
	assert_int_equal(a.calls, 1);
	assert_true(a.ready & LOOP_READ);
	/* Nobody wants anything: a hang-up must not be reported, and must not keep the loop awake
	 * (a turn or two may return early). */
	loop_fd_want(&a.lf, 0);
	uint64_t t0 = clock_mono_ms();
	for (int i = 0; i < 4; i++)
		loop_turn(loop, 20);
	assert_int_equal(a.calls, 1);
	assert_true(clock_mono_ms() - t0 >= 40);
	loop_fd_want(&a.lf, LOOP_READ);
	loop_turn(loop, 1000);
	assert_int_equal(a.calls, 2);
	loop_fd_del(&a.lf);
	close(p[0]);
}

/* Both are ready in one batch; whichever comes first removes the other. */
static void test_del_of_pending(void **state)
{
	struct end a, b;
	int p[2], q[2];

	UNUSED(state);
	pair(p);
	pair(q);
	add(&a, p[0], LOOP_READ);
	add(&b, q[0], LOOP_READ);
	a.victim = &b;
	b.victim = &a;
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(write(q[1], "x", 1), 1);
	loop_turn(loop, 1000);
	assert_int_equal(a.calls + b.calls, 1);
	loop_turn(loop, 0);
	assert_int_equal(a.calls + b.calls, 2); /* the survivor again */
	loop_fd_del(&a.lf);
	loop_fd_del(&b.lf);
	close(p[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
}

/* The first callback closes the other's descriptor and opens a new one that gets the same number;
 * the event pending for the old one must not reach the new owner. */
struct reuse {
	struct end x;
	struct reuse *other;
	struct end *fresh;
	int fresh_peer;
};

static void reuse_ready(struct loop_fd *lf, unsigned ready)
{
	struct reuse *r = container_of(lf, struct reuse, x.lf);
	struct end *old = &r->other->x;
	int p[2], fd;
	struct err e;

	UNUSED(ready);
	r->x.calls++;
	if (!old->lf.loop)
		return;
	fd = old->lf.fd;
	loop_fd_del(&old->lf);
	close(fd);
	pair(p);
	if (p[1] == fd) {
		p[1] = p[0];
		p[0] = fd;
	}
	assert_int_equal(p[0], fd);
	r->fresh_peer = p[1];
	assert_int_equal(loop_fd_add(loop, &r->fresh->lf, fd, LOOP_READ, end_ready, &e), 0);
	loop_fd_want(lf, 0);
}

static void test_number_reused_in_turn(void **state)
{
	struct end fresh = { .calls = 0 };
	struct reuse a = { .fresh = &fresh }, b = { .fresh = &fresh };
	struct reuse *r;
	int p[2], q[2];
	struct err e;

	UNUSED(state);
	pair(p);
	pair(q);
	a.other = &b;
	b.other = &a;
	assert_int_equal(loop_fd_add(loop, &a.x.lf, p[0], LOOP_READ, reuse_ready, &e), 0);
	assert_int_equal(loop_fd_add(loop, &b.x.lf, q[0], LOOP_READ, reuse_ready, &e), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_int_equal(write(q[1], "x", 1), 1);
	loop_turn(loop, 1000);
	assert_int_equal(a.x.calls + b.x.calls, 1);
	loop_turn(loop, 0);
	assert_int_equal(fresh.calls, 0);
	r = a.x.calls ? &a : &b;
	assert_int_equal(write(r->fresh_peer, "x", 1), 1);
	loop_turn(loop, 1000);
	assert_int_equal(fresh.calls, 1);
	loop_fd_del(&fresh.lf);
	loop_fd_del(&r->x.lf);
	close(fresh.lf.fd);
	close(r->fresh_peer);
	close(r->x.lf.fd);
	close(p[1]);
	close(q[1]);
}

/* 1,100 descriptors: epoll takes them, select refuses those from FD_SETSIZE on and says so. */
static void test_many_descriptors(void **state)
{
	enum { N = 1100 };
	static struct end x[N];
	static int other[N];
	struct rlimit rl;
	struct err e;
	int refused = 0, calls = 0;

	UNUSED(state);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	if (rl.rlim_cur < 2 * N + 64) {
		rl.rlim_cur = 2 * N + 64;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	}
	for (int i = 0; i < N; i++) {
		int p[2];

		pair(p);
		x[i] = (struct end){ .fd = p[0] };
		other[i] = p[1];
		int rc = loop_fd_add(loop, &x[i].lf, p[0], LOOP_READ, end_ready, &e);
		if (rc < 0) {
			refused++;
			assert_int_equal(backend, LOOP_BACKEND_SELECT);
			assert_true(p[0] >= FD_SETSIZE);
			assert_int_equal(rc, E_LIMIT);
			assert_non_null(strstr(e.text, "FD_SETSIZE"));
			assert_non_null(strstr(e.text, "1024"));
		}
		assert_int_equal(write(p[1], "x", 1), 1);
	}
	assert_true(backend == LOOP_BACKEND_SELECT ? refused > 500 : refused == 0);
	for (int i = 0; i < 8; i++)
		loop_turn(loop, 0);
	for (int i = 0; i < N; i++) {
		calls += x[i].calls > 0;
		loop_fd_del(&x[i].lf);
		close(x[i].fd);
		close(other[i]);
	}
	assert_int_equal(calls, N - refused);
}

/* --- tasks ---------------------------------------------------------------------------------- */

struct job {
	struct loop_task t;
	int runs, again;
	struct job *queue;
};

static void job_run(struct loop_task *t)
{
	struct job *j = container_of(t, struct job, t);

	j->runs++;
	if (j->again > 0) {
		j->again--;
		loop_defer(loop, t, job_run);
	}
	if (j->queue)
		loop_defer(loop, &j->queue->t, job_run);
}

static void test_tasks(void **state)
{
	struct job a = { .runs = 0 }, b = { .runs = 0 }, c = { .runs = 0 };

	UNUSED(state);
	a.queue = &b;
	loop_defer(loop, &a.t, job_run);
	loop_defer(loop, &a.t, job_run); /* twice is once */
	loop_defer(loop, &c.t, job_run);
	loop_task_clear(&c.t);
	loop_turn(loop, 1000); /* does not sleep */
	assert_int_equal(a.runs, 1);
	assert_int_equal(b.runs, 1); /* queued by a task: the same turn */
	assert_int_equal(c.runs, 0);
}

static void test_endless_task_starves_nobody(void **state)
{
	struct job j = { .again = 1000000 };
	struct end a;
	int p[2];

	UNUSED(state);
	pair(p);
	add(&a, p[0], LOOP_READ);
	assert_int_equal(write(p[1], "x", 1), 1);
	loop_defer(loop, &j.t, job_run);
	for (int i = 0; i < 10; i++)
		loop_turn(loop, 1000);
	assert_int_equal(a.calls, 10);
	assert_true(j.runs >= 10 && j.runs < 1000);
	loop_task_clear(&j.t);
	loop_fd_del(&a.lf);
	close(p[0]);
	close(p[1]);
}

/* --- timers --------------------------------------------------------------------------------- */

struct tick {
	struct loop_timer t;
	uint64_t set_ms, after_ms, fired_ms;
	int fired;
	uint64_t again_ms; /* set anew by the callback */
	struct tick *kill; /* cleared by the callback */
};

static void tick_fire(struct loop_timer *t)
{
	struct tick *k = container_of(t, struct tick, t);

	assert_false(loop_timer_armed(t));
	k->fired++;
	k->fired_ms = clock_mono_ms();
	if (k->again_ms)
		loop_timer_set(loop, t, k->again_ms, tick_fire);
	if (k->kill)
		loop_timer_clear(&k->kill->t);
}

static void test_timer_basic(void **state)
{
	struct tick a = { .fired = 0 }, b = { .again_ms = 10 }, c = { .fired = 0 };

	UNUSED(state);
	loop_timer_set(loop, &a.t, 100, tick_fire);
	loop_timer_set(loop, &b.t, 10, tick_fire);
	loop_timer_set(loop, &c.t, 0, tick_fire);
	assert_int_equal(loop_stats(loop).timers, 3);
	loop_turn(loop, 0);
	assert_int_equal(c.fired, 1);
	clock_fake_advance_ms(9);
	loop_turn(loop, 0);
	assert_int_equal(b.fired, 0);
	clock_fake_advance_ms(1);
	loop_turn(loop, 0);
	assert_int_equal(b.fired, 1);
	clock_fake_advance_ms(89);
	loop_turn(loop, 0);
	assert_int_equal(a.fired, 0);
	assert_int_equal(b.fired, 2); /* re-armed from the time at which it ran */
	clock_fake_advance_ms(1);
	loop_turn(loop, 0);
	assert_int_equal(a.fired, 1);
	b.again_ms = 0;
	loop_timer_clear(&b.t);
	loop_timer_clear(&b.t);
	assert_int_equal(loop_stats(loop).timers, 0);
}

/* A callback clears another timer that is due in the same turn, and sets itself to 0 without end.
 */
static void test_timer_in_callbacks(void **state)
{
	struct tick a = { .fired = 0 }, b = { .fired = 0 };

	UNUSED(state);
	a.kill = &b;
	b.kill = &a;
	loop_timer_set(loop, &a.t, 5, tick_fire);
	loop_timer_set(loop, &b.t, 5, tick_fire);
	clock_fake_advance_ms(5);
	loop_turn(loop, 0);
	assert_int_equal(a.fired + b.fired, 1);
	assert_int_equal(loop_stats(loop).timers, 0);
}

static void zero_fire(struct loop_timer *t)
{
	struct tick *k = container_of(t, struct tick, t);

	k->fired++;
	loop_timer_set(loop, t, 0, zero_fire);
}

static void test_timer_zero_again(void **state)
{
	struct tick k = { .fired = 0 };

	UNUSED(state);
	loop_timer_set(loop, &k.t, 0, zero_fire);
	for (int i = 0; i < 5; i++)
		loop_turn(loop, -1);
	assert_int_equal(k.fired, 5);
	loop_timer_clear(&k.t);
}

/* The longest timers: past the last level, and "never". */
static void test_timer_far(void **state)
{
	struct tick a = { .fired = 0 }, b = { .fired = 0 };
	const uint64_t far = (uint64_t)3 << 33;

	UNUSED(state);
	loop_timer_set(loop, &a.t, far, tick_fire);
	loop_timer_set(loop, &b.t, UINT64_MAX, tick_fire);
	clock_fake_advance_ms(far - 1);
	loop_turn(loop, 0);
	assert_int_equal(a.fired, 0);
	clock_fake_advance_ms(1);
	loop_turn(loop, 0);
	assert_int_equal(a.fired, 1);
	assert_int_equal(b.fired, 0);
	loop_timer_clear(&b.t);
}

static uint64_t random_span(void)
{
	unsigned bits = (unsigned)(rnd_u64() % 35);

	return rnd_u64() & (((uint64_t)1 << bits) - 1);
}

/* After each advance exactly those timers have fired whose time has come, says a plain list. */
static void check_model(struct tick *k, size_t n, uint64_t now)
{
	uint32_t armed = 0;

	for (size_t i = 0; i < n; i++) {
		bool due = k[i].set_ms + k[i].after_ms <= now;

		if (k[i].fired == 0 && !loop_timer_armed(&k[i].t))
			continue; /* was cleared */
		if (due)
			assert_int_equal(k[i].fired, 1);
		else
			assert_int_equal(k[i].fired, 0);
		assert_int_equal(loop_timer_armed(&k[i].t), !due);
		armed += !due;
	}
	assert_int_equal(loop_stats(loop).timers, armed);
}

static void test_timer_model(void **state)
{
	enum { N = 300 };
	static struct tick k[N];

	UNUSED(state);
	memset(k, 0, sizeof(k));
	for (int round = 0; round < 3000; round++) {
		for (int j = 0; j < 8; j++) {
			struct tick *x = &k[rnd_u64() % N];

			x->fired = 0;
			if (rnd_u64() % 4 == 0) {
				loop_timer_clear(&x->t);
				continue;
			}
			x->set_ms = clock_mono_ms();
			x->after_ms = random_span();
			loop_timer_set(loop, &x->t, x->after_ms, tick_fire);
		}
		clock_fake_advance_ms(random_span() >> 4);
		loop_turn(loop, 0);
		check_model(k, N, clock_mono_ms());
	}
	for (size_t i = 0; i < N; i++)
		loop_timer_clear(&k[i].t);
}

/* Exact to the millisecond when the clock goes on by one, across every level's boundary. */
static void test_timer_each_ms(void **state)
{
	enum { N = 64 };
	static struct tick k[N];

	UNUSED(state);
	memset(k, 0, sizeof(k));
	clock_fake(true, ((uint64_t)1 << 20) - 700, 0);
	for (size_t i = 0; i < N; i++) {
		k[i].set_ms = clock_mono_ms();
		k[i].after_ms = rnd_u64() % 20000;
		loop_timer_set(loop, &k[i].t, k[i].after_ms, tick_fire);
	}
	for (int ms = 0; ms < 20000; ms++) {
		clock_fake_advance_ms(1);
		loop_turn(loop, 0);
	}
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(k[i].fired, 1);
		assert_true(k[i].fired_ms == k[i].set_ms + k[i].after_ms ||
			    (k[i].after_ms == 0 && k[i].fired_ms == k[i].set_ms + 1));
	}
}

/* Where one level of the wheel ends and the next begins; with and without another timer that keeps the wheel going. */
static void test_timer_edges(void **state)
{
	struct tick other = { .fired = 0 };

	UNUSED(state);
	for (unsigned kept = 0; kept < 2; kept++) {
		if (kept)
			loop_timer_set(loop, &other.t, (uint64_t)1 << 40, tick_fire);
		for (unsigned exp = 8; exp <= 32; exp += 6)
			for (int d = -3; d <= 3; d++) {
				uint64_t after = ((uint64_t)1 << exp) + (uint64_t)(int64_t)d;
				struct tick k = { .fired = 0 };

				loop_turn(loop, 0);
				loop_timer_set(loop, &k.t, after, tick_fire);
				loop_turn(loop, 0);
				clock_fake_advance_ms(after - 1);
				loop_turn(loop, 0);
				assert_int_equal(k.fired, 0);
				clock_fake_advance_ms(1);
				loop_turn(loop, 0);
				assert_int_equal(k.fired, 1);
			}
	}
	loop_timer_clear(&other.t);
}

/* A timer that is due already is not slept on, whatever else is in the wheel. */
static void test_timer_due_is_not_slept_on(void **state)
{
	struct tick k = { .fired = 0 }, other = { .fired = 0 };
	time_t begun = time(NULL);

	UNUSED(state);
	loop_timer_set(loop, &other.t, 3600000, tick_fire);
	loop_timer_set(loop, &k.t, 0, zero_fire);
	for (int i = 1; i <= 3; i++) {
		loop_turn(loop, 30000);
		assert_int_equal(k.fired, i);
	}
	assert_true(time(NULL) - begun < 30);
	loop_timer_clear(&k.t);
	loop_timer_clear(&other.t);
}

static void early_fire(struct loop_timer *t)
{
	struct tick *k = container_of(t, struct tick, t);

	k->fired++;
	k->fired_ms = clock_mono_us();
}

/* The real clock: a timer set late in a long turn is counted from then; and the loop sleeps till it
 * is due, not much longer. */
static void slow_task(struct loop_task *t)
{
	struct tick *k = (struct tick *)(void *)((struct job *)(void *)t)->queue;

	usleep(30000);
	k->set_ms = clock_mono_us();
	loop_timer_set(loop, &k->t, 20, early_fire);
}

static void test_timer_never_early(void **state)
{
	struct tick k = { .fired = 0 };
	struct job j = { .queue = (struct job *)(void *)&k };

	UNUSED(state);
	loop_defer(loop, &j.t, slow_task);
	while (!k.fired)
		loop_turn(loop, -1);
	assert_true(k.fired_ms - k.set_ms >= 20000);
	assert_true(k.fired_ms - k.set_ms < 2000000);
	assert_true(loop_stats(loop).turns < 10);
	/* and not by a part of a millisecond */
	for (unsigned i = 0; i < 60; i++) {
		usleep(i * 37 % 1000);
		k.fired = 0;
		k.set_ms = clock_mono_us();
		loop_timer_set(loop, &k.t, i % 4, early_fire);
		while (!k.fired)
			loop_turn(loop, 0);
		assert_true(k.fired_ms - k.set_ms >= i % 4 * 1000);
	}
	/* due before the loop comes to wait */
	k.fired = 0;
	loop_timer_set(loop, &k.t, 3, early_fire);
	usleep(20000);
	k.set_ms = clock_mono_us();
	loop_turn(loop, 10000);
	assert_int_equal(k.fired, 1);
	assert_true(k.fired_ms - k.set_ms < 5000000);
}

/* --- wake-up -------------------------------------------------------------------------------- */

static _Atomic unsigned posted;
static unsigned seen, wakes;

static void on_wake(void *arg)
{
	UNUSED(arg);
	wakes++;
	seen = posted;
	if (seen == 20000)
		loop_stop(loop);
}

static void *waker(void *arg)
{
	UNUSED(arg);
	for (int i = 0; i < 10000; i++) {
		posted++;
		loop_wake(loop);
		if (i % 64 == 0)
			usleep(10);
	}
	return NULL;
}

static void test_wake(void **state)
{
	pthread_t a, b;

	UNUSED(state);
	posted = seen = wakes = 0;
	loop_on_wake(loop, on_wake, NULL);
	pthread_create(&a, NULL, waker, NULL);
	pthread_create(&b, NULL, waker, NULL);
	loop_run(loop); /* a lost wake-up would hang here */
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	assert_int_equal(seen, 20000);
	assert_true(wakes <= 20000);
	assert_int_equal(loop_stats(loop).wakes, wakes);
}

static void test_wake_coalesces(void **state)
{
	UNUSED(state);
	posted = seen = wakes = 0;
	loop_on_wake(loop, on_wake, NULL);
	for (int i = 0; i < 5; i++)
		loop_wake(loop);
	loop_turn(loop, -1);
	assert_int_equal(wakes, 1);
	loop_turn(loop, 0);
	assert_int_equal(wakes, 1);
}

static void test_stop_before_run(void **state)
{
	UNUSED(state);
	loop_stop(loop);
	loop_run(loop);
}

#define T(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TF(f) cmocka_unit_test_setup_teardown(f, setup_fake, teardown)

static int run_all(enum loop_backend b, const char *name)
{
	const struct CMUnitTest tests[] = {
		T(test_fd_ready),
		T(test_hangup_seen_and_not_spun_on),
		T(test_del_of_pending),
		T(test_number_reused_in_turn),
		T(test_many_descriptors),
		T(test_tasks),
		T(test_endless_task_starves_nobody),
		TF(test_timer_basic),
		TF(test_timer_in_callbacks),
		TF(test_timer_zero_again),
		TF(test_timer_far),
		TF(test_timer_model),
		TF(test_timer_each_ms),
		TF(test_timer_edges),
		TF(test_timer_due_is_not_slept_on),
		T(test_timer_never_early),
		T(test_wake),
		T(test_wake_coalesces),
		T(test_stop_before_run),
	};
	struct loop *l;

	backend = b;
	if (loop_new(b, &l, NULL) == E_UNSUPPORTED)
		return 0; /* not in this configuration */
	assert_string_equal(loop_backend_name(l), name);
	loop_free(&l);
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	int failed = run_all(LOOP_BACKEND_EPOLL, "epoll");

	return failed + run_all(LOOP_BACKEND_SELECT, "select");
}
