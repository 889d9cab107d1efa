/* epoll.c - the epoll back end, level-triggered.
 *
 * An event carries a slot number and the slot's generation, not a pointer: when a descriptor is
 * removed its slot's generation moves on, and an event that is still in the batch no longer
 * matches, whoever uses the descriptor number or the memory by then. */
#include "appliance/loop/loop_int.h"

#include <sys/epoll.h>

#define BATCH 256

struct slot {
	struct loop_fd *lf; /* NULL: free */
	uint32_t gen;
	uint32_t next_free;
};

#define NO_SLOT UINT32_MAX

struct ep {
	int fd;
	int n; /* events of this turn */
	struct slot *slot;
	uint32_t cap, free;
	struct epoll_event ev[BATCH];
};

static int ep_open(struct loop *l, struct err *e)
{
	struct ep *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, E_NOMEM, NULL, "no memory for an event loop");
	p->fd = sys_epoll_create();
	if (p->fd < 0) {
		free(p);
		return err_errno(e, E_IO, "epoll_create");
	}
	p->free = NO_SLOT;
	l->bs = p;
	return 0;
}

static void ep_close(struct loop *l)
{
	struct ep *p = l->bs;

	close(p->fd);
	free(p->slot);
	free(p);
	l->bs = NULL;
}

static int grow(struct ep *p)
{
	uint32_t cap = p->cap ? p->cap * 2 : 64;
	struct slot *s;

	if (cap <= p->cap)
		return E_NOMEM;
	s = realloc(p->slot, cap * sizeof(*s));
	if (!s)
		return E_NOMEM;
	p->slot = s;
	for (uint32_t i = cap; i-- > p->cap;) {
		s[i] = (struct slot){ .next_free = p->free };
		p->free = i;
	}
	p->cap = cap;
	return 0;
}

static int control(struct ep *p, int op, const struct loop_fd *lf)
{
	struct epoll_event ev = { 0 };

	if (lf->want & LOOP_READ)
		ev.events |= EPOLLIN;
	if (lf->want & LOOP_WRITE)
		ev.events |= EPOLLOUT;
	/* Errors and hang-ups cannot be masked; edge-triggered, one that nobody wants comes once
	 * and does not keep the loop spinning. */
	if (!lf->want)
		ev.events = EPOLLET;
	ev.data.u64 = (uint64_t)p->slot[lf->slot].gen << 32 | lf->slot;
	return epoll_ctl(p->fd, op, lf->fd, &ev);
}

static int ep_add(struct loop *l, struct loop_fd *lf, struct err *e)
{
	struct ep *p = l->bs;

	if (p->free == NO_SLOT && grow(p) < 0)
		return err_set(e, E_NOMEM, NULL, "no memory for one more descriptor");
	lf->slot = p->free;
	if (control(p, EPOLL_CTL_ADD, lf) < 0)
		return err_errno(e, E_IO, "epoll_ctl for descriptor %d", lf->fd);
	p->free = p->slot[lf->slot].next_free;
	p->slot[lf->slot].lf = lf;
	return 0;
}

static void ep_want(struct loop *l, struct loop_fd *lf)
{
	control(l->bs, EPOLL_CTL_MOD, lf);
}

static void ep_del(struct loop *l, struct loop_fd *lf)
{
	struct ep *p = l->bs;
	struct slot *s = &p->slot[lf->slot];
	struct epoll_event ev = { 0 }; /* kernels before 2.6.9 want one */

	epoll_ctl(p->fd, EPOLL_CTL_DEL, lf->fd, &ev);
	s->lf = NULL;
	s->gen++;
	s->next_free = p->free;
	p->free = lf->slot;
}

static void ep_wait(struct loop *l, int timeout_ms)
{
	struct ep *p = l->bs;

	p->n = epoll_wait(p->fd, p->ev, BATCH, timeout_ms);
	if (p->n < 0)
		p->n = 0; /* EINTR: a turn without events */
}

static void ep_dispatch(struct loop *l)
{
	struct ep *p = l->bs;

	for (int i = 0; i < p->n; i++) {
		uint32_t slot = (uint32_t)p->ev[i].data.u64;
		uint32_t gen = (uint32_t)(p->ev[i].data.u64 >> 32), got = p->ev[i].events;
		struct loop_fd *lf = p->slot[slot].lf;
		unsigned ready = 0;

		if (!lf || p->slot[slot].gen != gen || !lf->want)
			continue;
		if (got & EPOLLIN)
			ready |= LOOP_READ;
		if (got & EPOLLOUT)
			ready |= LOOP_WRITE;
		ready &= lf->want;
		if (got & (EPOLLERR | EPOLLHUP))
			ready = LOOP_READ | LOOP_WRITE;
		if (!ready)
			continue;
		l->stats.fd_events++;
		lf->cb(lf, ready);
	}
	p->n = 0;
}

const struct loop_ops loop_epoll_ops = {
	.name = "epoll",
	.id = LOOP_BACKEND_EPOLL,
	.fd_end = INT_MAX,
	.open = ep_open,
	.close = ep_close,
	.add = ep_add,
	.want = ep_want,
	.del = ep_del,
	.wait = ep_wait,
	.dispatch = ep_dispatch,
};
