/* select.c - the select back end: works everywhere, for descriptors below FD_SETSIZE.
 *
 * A descriptor at or above FD_SETSIZE would write past an fd_set, so it is refused when it is
 * added. */
#include "appliance/loop/loop_int.h"

#include <sys/select.h>

struct sel {
	int top;               /* highest descriptor added, or -1 */
	int n;                 /* result of the last wait */
	fd_set rd, wr;         /* wanted */
	fd_set rd_now, wr_now; /* ready; a removed descriptor is cleared here too */
	struct loop_fd *lf[FD_SETSIZE];
};

static int sel_open(struct loop *l, struct err *e)
{
	struct sel *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, E_NOMEM, NULL, "no memory for an event loop");
	s->top = -1;
	l->bs = s;
	return 0;
}

static void sel_close(struct loop *l)
{
	free(l->bs);
	l->bs = NULL;
}

static void sel_want(struct loop *l, struct loop_fd *lf)
{
	struct sel *s = l->bs;

	if (lf->want & LOOP_READ)
		FD_SET(lf->fd, &s->rd);
	else
		FD_CLR(lf->fd, &s->rd);
	if (lf->want & LOOP_WRITE)
		FD_SET(lf->fd, &s->wr);
	else
		FD_CLR(lf->fd, &s->wr);
}

static int sel_add(struct loop *l, struct loop_fd *lf, struct err *e)
{
	struct sel *s = l->bs;

	if (lf->fd < 0 || lf->fd >= FD_SETSIZE)
		return err_set(e, E_LIMIT, NULL,
			       "descriptor %d: select() cannot watch descriptors of %d and above "
			       "(FD_SETSIZE); use the epoll back end for more connections",
			       lf->fd, FD_SETSIZE);
	if (s->lf[lf->fd])
		return err_set(e, E_EXISTS, NULL, "descriptor %d is watched already", lf->fd);
	s->lf[lf->fd] = lf;
	if (lf->fd > s->top)
		s->top = lf->fd;
	sel_want(l, lf);
	return 0;
}

static void sel_del(struct loop *l, struct loop_fd *lf)
{
	struct sel *s = l->bs;

	FD_CLR(lf->fd, &s->rd);
	FD_CLR(lf->fd, &s->wr);
	FD_CLR(lf->fd, &s->rd_now);
	FD_CLR(lf->fd, &s->wr_now);
	s->lf[lf->fd] = NULL;
	while (s->top >= 0 && !s->lf[s->top])
		s->top--;
}

static void sel_wait(struct loop *l, int timeout_ms)
{
	struct sel *s = l->bs;
	struct timeval tv = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };

	s->rd_now = s->rd;
	s->wr_now = s->wr;
	s->n = select(s->top + 1, &s->rd_now, &s->wr_now, NULL, timeout_ms < 0 ? NULL : &tv);
	if (s->n < 0)
		s->n = 0;
}

static void sel_dispatch(struct loop *l)
{
	struct sel *s = l->bs;
	int top = s->top;

	for (int fd = 0; s->n > 0 && fd <= top; fd++) {
		bool r = FD_ISSET(fd, &s->rd_now), w = FD_ISSET(fd, &s->wr_now);
		struct loop_fd *lf = s->lf[fd];
		unsigned ready = (r ? LOOP_READ : 0u) | (w ? LOOP_WRITE : 0u);

		if (!ready || !lf)
			continue;
		FD_CLR(fd, &s->rd_now);
		FD_CLR(fd, &s->wr_now);
		ready &= lf->want;
		if (!ready)
			continue;
		l->stats.fd_events++;
		lf->cb(lf, ready);
	}
	s->n = 0;
}

const struct loop_ops loop_select_ops = {
	.name = "select",
	.id = LOOP_BACKEND_SELECT,
	.fd_end = FD_SETSIZE,
	.open = sel_open,
	.close = sel_close,
	.add = sel_add,
	.want = sel_want,
	.del = sel_del,
	.wait = sel_wait,
	.dispatch = sel_dispatch,
};
