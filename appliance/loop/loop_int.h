/* loop_int.h - what the files of appliance/loop share; nobody else includes it. */
#ifndef TANDEM_LOOP_LOOP_INT_H
#define TANDEM_LOOP_LOOP_INT_H

#include "appliance/loop/loop.h"
#include "appliance/loop/outbuf.h"
#include "appliance/loop/sys.h"

#include <stdatomic.h>

/* One way of waiting for descriptors. The registry is in loop.c, chosen by Kconfig. */
struct loop_ops {
	const char *name;
	enum loop_backend id;
	int fd_end; /* the first descriptor that it cannot take */
	/* Sets l->bs. 0 or E_*. */
	int (*open)(struct loop *l, struct err *e);
	void (*close)(struct loop *l);
	/* lf->fd and lf->want are set; may use lf->slot. */
	int (*add)(struct loop *l, struct loop_fd *lf, struct err *e);
	/* lf->want was changed. Cannot fail: nothing new has to be allocated. */
	void (*want)(struct loop *l, struct loop_fd *lf);
	/* Afterwards no pending event may reach lf, and fd may be closed and used anew at once. */
	void (*del)(struct loop *l, struct loop_fd *lf);
	/* Wait and remember what is ready (timeout < 0: for ever); then call the callbacks. */
	void (*wait)(struct loop *l, int timeout_ms);
	void (*dispatch)(struct loop *l);
};

extern const struct loop_ops loop_epoll_ops, loop_select_ops;

/* Level 0: 256 slots of 1 ms; levels 1 to 4: 64 slots of 2^8, 2^14, 2^20, 2^26 ms. A timer beyond
 * 2^32 ms waits in the farthest slot and is sorted in again when that comes round. */
#define WHEEL_LEVELS 5
#define WHEEL_SLOTS  (256 + 4 * 64)

struct wheel {
	uint64_t base_ms;                      /* the first millisecond that was not run yet */
	uint64_t bits0[4], bits[WHEEL_LEVELS]; /* which slots hold timers; bits[0] unused */
	struct list slot[WHEEL_SLOTS];
	struct list due; /* expired, to be called; in order */
	uint32_t n;
};

struct loop {
	const struct loop_ops *ops;
	void *bs; /* back end's state */
	uint64_t now_ms;
	struct list tasks, late; /* late: connections that flush or report, after all tasks */
	/* The connection whose owner is being called; NULL when it left the loop meanwhile. Only
	 * this may be looked at after a callback: the connection may be in another thread by then.
	 */
	struct conn *cur;
	struct outbuf_pool pool;
	char *scratch;
	struct tls_io *tls; /* conn_tls.c's, made on first use */
	void (*tls_free)(struct tls_io *t);

	struct sys_wake wake;
	struct loop_fd wake_lf;
	void (*on_wake)(void *arg);
	void *on_wake_arg;
	_Atomic bool woken, sleeping, stop;

	struct wheel wheel;
	struct loop_stats stats;
};

/* As loop_defer, but in the phase after the tasks. */
void loop_defer_late(struct loop *l, struct loop_task *t, void (*cb)(struct loop_task *t));

void wheel_init(struct wheel *w, uint64_t now_ms);
/* Earliest time at which wheel_run has something to do; UINT64_MAX: never. */
uint64_t wheel_next(const struct wheel *w);
/* Move all that is due at now_ms to w->due. */
void wheel_run(struct wheel *w, uint64_t now_ms);

#endif
