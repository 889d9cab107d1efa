/* bus.c - see bus.h.
 *
 * A mailbox is a stack that producers push on with one compare-and-swap and that its worker takes
 * whole and turns round: what one sender pushed first is handled first. Only the push on an empty
 * stack wakes the worker. A worker that is gone has the CLOSED mark as its head, so that a late
 * push sees it. Messages of a worker to itself go through a plain queue that is handled at the end
 * of the turn. */
#include "appliance/bus/bus.h"
#include "appliance/base/hash.h"

#include <stdatomic.h>

struct mailbox {
	_Alignas(64) _Atomic(struct bus_msg *) head;
	_Alignas(64) struct loop *loop;
	struct bus *bus;
	void *arg;
	struct bus_msg *local_first, **local_last;
	struct loop_task local_task;
	_Atomic uint64_t got_local, got_remote, batches;
	uint16_t number;
};

struct bus {
	uint16_t workers;
	bus_handler_fn handler[BUS_TYPE_MAX];
	struct mailbox *box;
	void *box_mem;
};

static struct bus_msg closed_mark;
#define CLOSED (&closed_mark)

/* Which worker of which bus this thread is. */
static __thread struct bus *my_bus;
static __thread uint16_t my_worker;

static void add_relaxed(_Atomic uint64_t *n, uint64_t by)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

int bus_new(uint16_t workers, struct bus **b_r, struct err *e)
{
	if (workers == 0 || workers > BUS_MAX_WORKERS)
		return err_set(e, E_RANGE, NULL, "%u workers: from 1 to %u are possible", workers,
			       BUS_MAX_WORKERS);
	struct bus *b = calloc(1, sizeof(*b));
	char *mem = calloc(1, sizeof(struct mailbox) * workers + 63);

	if (!b || !mem) {
		free(b);
		free(mem);
		return err_set(e, E_NOMEM, NULL, "out of memory for the bus");
	}
	b->workers = workers;
	b->box_mem = mem;
	b->box = (struct mailbox *)(((uintptr_t)mem + 63) & ~(uintptr_t)63);
	for (uint16_t w = 0; w < workers; w++) {
		struct mailbox *m = &b->box[w];
		atomic_init(&m->head, CLOSED);
		m->bus = b;
		m->local_last = &m->local_first;
		m->number = w;
	}
	*b_r = b;
	return 0;
}

static void free_chain(struct bus_msg *m)
{
	while (m) {
		struct bus_msg *next = m->next;
		m->next = NULL;
		m->free(m);
		m = next;
	}
}

static struct bus_msg *take_local(struct mailbox *box)
{
	struct bus_msg *m = box->local_first;

	box->local_first = NULL;
	box->local_last = &box->local_first;
	return m;
}

static void shut(struct mailbox *box)
{
	struct bus_msg *m = atomic_exchange_explicit(&box->head, CLOSED, memory_order_acquire);

	if (m != CLOSED)
		free_chain(m);
	/* free() of a message may post again, to this worker too: those are refused by CLOSED or
	 * freed here. */
	while (box->local_first)
		free_chain(take_local(box));
	loop_task_clear(&box->local_task);
}

void bus_free(struct bus **bp)
{
	struct bus *b = *bp;

	*bp = NULL;
	if (!b)
		return;
	for (uint16_t w = 0; w < b->workers; w++)
		shut(&b->box[w]);
	if (my_bus == b)
		my_bus = NULL;
	free(b->box_mem);
	free(b);
}

static void dispatch(struct mailbox *box, struct bus_msg *m)
{
	while (m) {
		struct bus_msg *next = m->next;
		m->next = NULL;
		box->bus->handler[m->type](box->arg, m);
		m = next;
	}
}

static struct bus_msg *turn_round(struct bus_msg *m, uint64_t *n_r)
{
	struct bus_msg *out = NULL;

	for (*n_r = 0; m; ++*n_r) {
		struct bus_msg *next = m->next;
		m->next = out;
		out = m;
		m = next;
	}
	return out;
}

static void on_wake(void *arg)
{
	struct mailbox *box = arg;
	struct bus_msg *head = atomic_load_explicit(&box->head, memory_order_relaxed);
	uint64_t n;

	if (!head || head == CLOSED)
		return;
	struct bus_msg *m =
		turn_round(atomic_exchange_explicit(&box->head, NULL, memory_order_acquire), &n);
	add_relaxed(&box->got_remote, n);
	add_relaxed(&box->batches, 1);
	dispatch(box, m);
}

static void on_local(struct loop_task *t)
{
	struct mailbox *box = container_of(t, struct mailbox, local_task);

	dispatch(box, take_local(box));
}

int bus_attach(struct bus *b, uint16_t w, struct loop *l, void *worker_arg, struct err *e)
{
	if (w >= b->workers)
		return err_set(e, E_RANGE, NULL, "no worker %u on the bus", w);
	if (atomic_load_explicit(&b->box[w].head, memory_order_relaxed) != CLOSED)
		return err_set(e, E_EXISTS, NULL, "worker %u is attached already", w);
	b->box[w].loop = l;
	b->box[w].arg = worker_arg;
	atomic_store_explicit(&b->box[w].head, NULL, memory_order_release);
	loop_on_wake(l, on_wake, &b->box[w]);
	return 0;
}

void bus_detach(struct bus *b, uint16_t w)
{
	if (w < b->workers)
		shut(&b->box[w]);
}

void bus_enter(struct bus *b, uint16_t w)
{
	my_bus = b;
	my_worker = w;
}

uint16_t bus_self(const struct bus *b)
{
	return my_bus == b ? my_worker : BUS_MAX_WORKERS;
}

void bus_on(struct bus *b, uint16_t type, bus_handler_fn fn)
{
	if (type < BUS_TYPE_MAX)
		b->handler[type] = fn;
}

uint16_t bus_workers(const struct bus *b)
{
	return b->workers;
}

static int post_local(struct mailbox *box, struct bus_msg *m)
{
	if (atomic_load_explicit(&box->head, memory_order_relaxed) == CLOSED) {
		m->free(m);
		return E_CLOSED;
	}
	*box->local_last = m;
	box->local_last = &m->next;
	add_relaxed(&box->got_local, 1);
	loop_defer(box->loop, &box->local_task, on_local);
	return 0;
}

static int post_remote(struct mailbox *box, struct bus_msg *m)
{
	struct bus_msg *head = atomic_load_explicit(&box->head, memory_order_relaxed);

	do {
		if (head == CLOSED) {
			m->next = NULL;
			m->free(m);
			return E_CLOSED;
		}
		m->next = head;
	} while (!atomic_compare_exchange_weak_explicit(&box->head, &head, m, memory_order_acq_rel,
							memory_order_relaxed));
	if (!head)
		loop_wake(box->loop);
	return 0;
}

int bus_post(struct bus *b, struct bus_msg *m)
{
	int rc = 0;

	if (m->to.node != BUS_NODE_SELF)
		rc = E_UNSUPPORTED;
	else if (m->to.worker >= b->workers || m->type >= BUS_TYPE_MAX || !b->handler[m->type])
		rc = E_RANGE;
	if (rc < 0) {
		m->free(m);
		return rc;
	}
	struct mailbox *box = &b->box[m->to.worker];
	m->next = NULL;
	m->from_worker = my_bus == b ? my_worker : BUS_MAX_WORKERS;
	if (m->from_worker == box->number)
		return post_local(box, m);
	return post_remote(box, m);
}

void *bus_worker_arg(const struct bus *b, uint16_t w)
{
	return w < b->workers ? b->box[w].arg : NULL;
}

uint16_t bus_owner(const struct bus *b, struct sl bare_jid)
{
	return (uint16_t)(hash_bytes(bare_jid) % b->workers);
}

struct bus_stats bus_stats(const struct bus *b, uint16_t w)
{
	struct bus_stats s = { 0, 0, 0 };

	if (w >= b->workers)
		return s;
	const struct mailbox *box = &b->box[w];
	s.posted_local = atomic_load_explicit(&box->got_local, memory_order_relaxed);
	s.posted_remote = atomic_load_explicit(&box->got_remote, memory_order_relaxed);
	s.batches = atomic_load_explicit(&box->batches, memory_order_relaxed);
	return s;
}
