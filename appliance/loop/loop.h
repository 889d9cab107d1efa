/* loop.h - one event loop a thread: descriptors, timers, end-of-turn tasks, wake-up from others.
 *
 * Back ends: epoll and select behind one interface (both compiled when Kconfig says so; the same
 * tests run on both). Level-triggered. select refuses a descriptor >= FD_SETSIZE with E_LIMIT and a
 * text that names the limit. Everything here is called in the loop's own thread, except loop_wake
 * and loop_stop, which any thread may call. docs/loop.md tells the order of a turn and the lifetime
 * rules. */
#ifndef TANDEM_LOOP_LOOP_H
#define TANDEM_LOOP_LOOP_H

#include "appliance/base/base.h"
#include "appliance/base/list.h"

struct loop;

enum loop_backend { LOOP_BACKEND_DEFAULT, LOOP_BACKEND_EPOLL, LOOP_BACKEND_SELECT };
enum { LOOP_READ = 1, LOOP_WRITE = 2 }; /* errors and hang-ups are reported as both */

/* 0, E_UNSUPPORTED (back end not built in), E_NOMEM, E_IO. */
int loop_new(enum loop_backend b, struct loop **l_r, struct err *e);
void loop_free(struct loop **l); /* all descriptors, timers and tasks must be gone */
const char *loop_backend_name(const struct loop *l);
/* Descriptors from this number on cannot be opened, or not be waited for. */
int loop_fd_end(const struct loop *l);

/* Run turns until loop_stop. A turn: wait, descriptors, wake callback, timers, tasks (until none,
 * at most 8 rounds; the rest in the next turn, which does not sleep), then connections flush. */
void loop_run(struct loop *l);
/* One turn that waits at most max_wait_ms (0: poll). For tests and embedding. */
void loop_turn(struct loop *l, int max_wait_ms);
void loop_stop(struct loop *l); /* any thread */
void loop_wake(struct loop *l); /* any thread; many calls before a turn are one */
/* Called in each turn that a wake-up came before; what the waker did before loop_wake is seen. */
void loop_on_wake(struct loop *l, void (*fn)(void *arg), void *arg);

uint64_t loop_now_ms(const struct loop *l); /* monotonic, cached at the start of the turn */

/* Descriptors. The struct is embedded in its owner; zero it before first use. */
struct loop_fd {
	struct loop *loop; /* NULL when not added */
	int fd;
	unsigned want;
	uint32_t slot; /* back end's */
	void (*cb)(struct loop_fd *lf, unsigned ready);
};
/* 0, E_LIMIT (select, fd too high), E_NOMEM, E_IO. */
int loop_fd_add(struct loop *l, struct loop_fd *lf, int fd, unsigned want,
		void (*cb)(struct loop_fd *lf, unsigned ready), struct err *e);
/* 0: nothing is reported, not even a hang-up. */
void loop_fd_want(struct loop_fd *lf, unsigned want);
/* Does not close. Safe inside any callback, also for a descriptor with an event still pending this
 * turn: its callback is not called any more, and lf may be freed. */
void loop_fd_del(struct loop_fd *lf);

/* Timers: a hierarchical wheel, 1 ms slots; O(1) to set and clear. Zero before first use. Never
 * early: after_ms counts from the call, not from loop_now_ms. Setting an armed timer moves it. Set
 * to 0 inside a callback it fires in the next turn. */
struct loop_timer {
	struct list node;
	uint64_t due_ms;
	struct loop *loop; /* NULL when idle */
	void (*cb)(struct loop_timer *t);
};
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t after_ms,
		    void (*cb)(struct loop_timer *t));
void loop_timer_clear(struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
	return t->loop != NULL;
}

/* End-of-turn task, run once. A task queued twice before it runs is one. Zero before first use. May
 * be freed in its callback. */
struct loop_task {
	struct list node;
	struct loop *loop; /* NULL when idle */
	void (*cb)(struct loop_task *t);
};
void loop_defer(struct loop *l, struct loop_task *t, void (*cb)(struct loop_task *t));
void loop_task_clear(struct loop_task *t);

/* The thread's shared read buffer (64 KiB): valid until the callback that uses it returns. */
#define LOOP_SCRATCH_OCTETS 65536u
char *loop_scratch(struct loop *l);

struct loop_stats {
	uint64_t turns, fd_events, timer_events, wakes;
	uint32_t fds, timers;
};
struct loop_stats loop_stats(const struct loop *l);

#endif
