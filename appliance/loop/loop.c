/* loop.c - the turn: wait, descriptors, wake-up, timers, tasks, late tasks. See loop.h. */
#include "appliance/loop/loop.h"
#include "appliance/base/clock.h"
#include "appliance/loop/loop_int.h"

#include <assert.h>
#include <limits.h>

static const struct loop_ops *const backends[] = {
#ifdef CONFIG_LOOP_DEFAULT_SELECT
	&loop_select_ops,
#endif
#ifdef CONFIG_LOOP_EPOLL
	&loop_epoll_ops,
#endif
#if defined(CONFIG_LOOP_SELECT) && !defined(CONFIG_LOOP_DEFAULT_SELECT)
	&loop_select_ops,
#endif
};

/* Rounds of tasks that one turn runs at most: a task that queues itself again and again must not
 * keep the descriptors waiting. What is left goes on in the next turn, which then only polls. */
#define TASK_ROUNDS 8
#define LATE_ROUNDS 4

static const struct loop_ops *backend_find(enum loop_backend b)
{
	if (b == LOOP_BACKEND_DEFAULT)
		return backends[0];
	for (size_t i = 0; i < ARRAY_LEN(backends); i++)
		if (backends[i]->id == b)
			return backends[i];
	return NULL;
}

static void wake_ready(struct loop_fd *lf, unsigned ready)
{
	UNUSED(ready);
	sys_wake_drain(&lf->loop->wake);
}

static int wake_open(struct loop *l, struct err *e)
{
	int rc;

	if (sys_wake_open(&l->wake) < 0)
		return err_errno(e, E_IO, "wake-up channel");
	rc = loop_fd_add(l, &l->wake_lf, l->wake.r, LOOP_READ, wake_ready, e);
	if (rc < 0)
		sys_wake_close(&l->wake);
	return rc;
}

static int loop_open(struct loop *l, struct err *e)
{
	int rc;

	l->scratch = malloc(LOOP_SCRATCH_OCTETS);
	if (!l->scratch)
		return err_set(e, E_NOMEM, NULL, "no memory for an event loop");
	rc = l->ops->open(l, e);
	if (rc < 0)
		return rc;
	rc = wake_open(l, e);
	if (rc < 0)
		l->ops->close(l);
	return rc;
}

int loop_new(enum loop_backend b, struct loop **l_r, struct err *e)
{
	const struct loop_ops *ops = backend_find(b);
	struct loop *l;
	int rc;

	if (!ops)
		return err_set(e, E_UNSUPPORTED, NULL, "this event back end was not built in");
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, E_NOMEM, NULL, "no memory for an event loop");
	l->ops = ops;
	l->now_ms = clock_mono_ms();
	list_init(&l->tasks);
	list_init(&l->late);
	wheel_init(&l->wheel, l->now_ms);
	rc = loop_open(l, e);
	if (rc < 0) {
		free(l->scratch);
		free(l);
		return rc;
	}
	*l_r = l;
	return 0;
}

void loop_free(struct loop **lp)
{
	struct loop *l = *lp;

	if (!l)
		return;
	loop_fd_del(&l->wake_lf);
	assert(l->stats.fds == 0 && l->wheel.n == 0);
	assert(list_empty(&l->tasks) && list_empty(&l->late));
	sys_wake_close(&l->wake);
	l->ops->close(l);
	if (l->tls_free)
		l->tls_free(l->tls);
	outbuf_pool_free(&l->pool);
	free(l->scratch);
	free(l);
	*lp = NULL;
}

const char *loop_backend_name(const struct loop *l)
{
	return l->ops->name;
}

int loop_fd_end(const struct loop *l)
{
	int end = sys_fd_end();

	return end < l->ops->fd_end ? end : l->ops->fd_end;
}

uint64_t loop_now_ms(const struct loop *l)
{
	return l->now_ms;
}

char *loop_scratch(struct loop *l)
{
	return l->scratch;
}

struct loop_stats loop_stats(const struct loop *l)
{
	struct loop_stats s = l->stats;

	s.fds--; /* our own wake-up channel */
	s.timers = l->wheel.n;
	return s;
}

/* --- descriptors ---------------------------------------------------------------------------- */

int loop_fd_add(struct loop *l, struct loop_fd *lf, int fd, unsigned want,
		void (*cb)(struct loop_fd *lf, unsigned ready), struct err *e)
{
	int rc;

	lf->fd = fd;
	lf->want = want;
	lf->cb = cb;
	rc = l->ops->add(l, lf, e);
	if (rc < 0)
		return rc;
	lf->loop = l;
	l->stats.fds++;
	return 0;
}

void loop_fd_want(struct loop_fd *lf, unsigned want)
{
	if (!lf->loop || lf->want == want)
		return;
	lf->want = want;
	lf->loop->ops->want(lf->loop, lf);
}

void loop_fd_del(struct loop_fd *lf)
{
	if (!lf->loop)
		return;
	lf->loop->ops->del(lf->loop, lf);
	lf->loop->stats.fds--;
	lf->loop = NULL;
}

/* --- tasks ---------------------------------------------------------------------------------- */

static void defer(struct loop *l, struct list *q, struct loop_task *t,
		  void (*cb)(struct loop_task *t))
{
	t->cb = cb;
	if (t->loop)
		return;
	t->loop = l;
	list_append(q, &t->node);
}

void loop_defer(struct loop *l, struct loop_task *t, void (*cb)(struct loop_task *t))
{
	defer(l, &l->tasks, t, cb);
}

void loop_defer_late(struct loop *l, struct loop_task *t, void (*cb)(struct loop_task *t))
{
	defer(l, &l->late, t, cb);
}

void loop_task_clear(struct loop_task *t)
{
	if (!t->loop)
		return;
	list_remove(&t->node);
	t->loop = NULL;
}

/* What was queued when we came; what these queue waits for the next round. */
static void run_round(struct list *q)
{
	struct list todo, *n;

	list_init(&todo);
	list_splice(&todo, q);
	while ((n = list_pop(&todo)) != NULL) {
		struct loop_task *t = LIST_ENTRY(n, struct loop_task, node);

		t->loop = NULL;
		t->cb(t);
	}
}

/* Connections flush after all tasks, so that what a turn writes to one of them is one write. */
static void run_tasks(struct loop *l)
{
	for (int late = 0; late < LATE_ROUNDS; late++) {
		for (int round = 0; round < TASK_ROUNDS && !list_empty(&l->tasks); round++)
			run_round(&l->tasks);
		if (list_empty(&l->late))
			return;
		run_round(&l->late);
	}
}

/* --- the turn ------------------------------------------------------------------------------- */

static void run_timers(struct loop *l)
{
	struct list todo, *n;

	wheel_run(&l->wheel, l->now_ms);
	list_init(&todo);
	list_splice(&todo, &l->wheel.due);
	while ((n = list_pop(&todo)) != NULL) {
		struct loop_timer *t = LIST_ENTRY(n, struct loop_timer, node);

		t->loop = NULL;
		l->wheel.n--;
		l->stats.timer_events++;
		t->cb(t);
	}
}

static int wait_ms(const struct loop *l, int max_wait_ms)
{
	uint64_t next, now_us, ms;

	if (!list_empty(&l->tasks) || !list_empty(&l->late))
		return 0;
	if (max_wait_ms == 0 || l->wheel.n == 0)
		return max_wait_ms;
	next = wheel_next(&l->wheel);
	if (next == UINT64_MAX)
		return max_wait_ms;
	now_us = clock_mono_us();
	if (next <= now_us / 1000)
		return 0;
	ms = next - now_us / 1000;
	if (max_wait_ms >= 0 && ms > (uint64_t)max_wait_ms)
		return max_wait_ms;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* A wake-up while the loop is busy costs no system call: it sees `woken` before it sleeps. */
static void wait_for_events(struct loop *l, int max_wait_ms)
{
	int ms = wait_ms(l, max_wait_ms);

	if (ms == 0) {
		l->ops->wait(l, 0);
		return;
	}
	atomic_store(&l->sleeping, true);
	l->ops->wait(l, atomic_load(&l->woken) ? 0 : ms);
	atomic_store(&l->sleeping, false);
}

void loop_turn(struct loop *l, int max_wait_ms)
{
	wait_for_events(l, max_wait_ms);
	l->now_ms = clock_mono_ms();
	l->stats.turns++;
	l->ops->dispatch(l);
	if (atomic_load_explicit(&l->woken, memory_order_relaxed) &&
	    atomic_exchange(&l->woken, false)) {
		l->stats.wakes++;
		if (l->on_wake)
			l->on_wake(l->on_wake_arg);
	}
	if (l->wheel.n)
		run_timers(l);
	run_tasks(l);
}

void loop_run(struct loop *l)
{
	while (!atomic_load(&l->stop))
		loop_turn(l, -1);
	atomic_store(&l->stop, false);
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stop, true);
	loop_wake(l);
}

void loop_wake(struct loop *l)
{
	if (atomic_exchange(&l->woken, true))
		return;
	if (atomic_load(&l->sleeping))
		sys_wake_ring(&l->wake);
}

void loop_on_wake(struct loop *l, void (*fn)(void *arg), void *arg)
{
	l->on_wake = fn;
	l->on_wake_arg = arg;
}
