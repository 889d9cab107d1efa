/* conn_connect.c - outgoing connections: the addresses of a list in turn, each with its own time.
 */
#include "appliance/loop/conn_int.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

static void try_next(struct conn *c);

/* The text of the last address's failure becomes on_closed's. */
static void note_failure(struct conn *c, int code, int sys_errno)
{
	char peer[CONN_ADDR_MAX];

	conn_peer_text(c, peer);
	if (code == E_TIMEOUT)
		err_set(&c->aux->err, code, NULL, "connect to %s: no answer in %u ms", peer,
			c->aux->timeout_ms);
	else
		err_set(&c->aux->err, code, NULL, "connect to %s: %s", peer, strerror(sys_errno));
}

static void drop_attempt(struct conn *c)
{
	loop_timer_clear(&c->aux->timer);
	loop_fd_del(&c->lf);
	if (c->lf.fd >= 0)
		close(c->lf.fd);
	c->lf.fd = -1;
}

static void attempt_timeout(struct loop_timer *t)
{
	struct conn *c = container_of(t, struct conn_aux, timer)->c;

	note_failure(c, E_TIMEOUT, 0);
	drop_attempt(c);
	try_next(c);
}

/* A connect to a free port of our own host may meet itself (simultaneous open); that is not a peer.
 */
static bool met_itself(int fd)
{
	struct sockaddr_storage a, b;
	socklen_t na = sizeof(a), nb = sizeof(b);

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	if (getsockname(fd, (struct sockaddr *)&a, &na) < 0 ||
	    getpeername(fd, (struct sockaddr *)&b, &nb) < 0)
		return false;
	return a.ss_family != AF_UNIX && na == nb && memcmp(&a, &b, na) == 0;
}

/* 0: under way (a connect that succeeds at once is reported by the next event too); < 0: try
 * another. */
static int attempt(struct conn *c, const struct conn_addr *a)
{
	struct err e = { 0 };
	int fd, rc;

	conn_peer_set(c, (const struct sockaddr *)&a->ss);
	fd = sys_socket(a->ss.ss_family, SOCK_STREAM);
	if (fd < 0) {
		note_failure(c, E_IO, errno);
		return E_IO;
	}
	conn_tune(fd, a->ss.ss_family);
	rc = connect(fd, (const struct sockaddr *)&a->ss, a->len);
	if (rc < 0 && errno != EINPROGRESS && errno != EINTR) {
		note_failure(c, E_IO, errno);
		close(fd);
		return E_IO;
	}
	c->lf.fd = fd;
	if (loop_fd_add(c->loop, &c->lf, fd, LOOP_WRITE, conn_ready, &e) < 0) {
		c->aux->err = e;
		drop_attempt(c);
		return e.code;
	}
	loop_timer_set(c->loop, &c->aux->timer, c->aux->timeout_ms, attempt_timeout);
	return 0;
}

static void try_next(struct conn *c)
{
	struct conn_aux *x = c->aux;

	while (x->next < x->n)
		if (attempt(c, &x->addr[x->next++]) == 0)
			return;
	conn_fail(c, x->err.code, 0, NULL);
}

void conn_connect_ready(struct conn *c)
{
	int sys_errno = 0;
	socklen_t len = sizeof(sys_errno);

	if (getsockopt(c->lf.fd, SOL_SOCKET, SO_ERROR, &sys_errno, &len) < 0)
		sys_errno = errno;
	if (!sys_errno && met_itself(c->lf.fd))
		sys_errno = ECONNREFUSED;
	if (sys_errno) {
		note_failure(c, E_IO, sys_errno);
		drop_attempt(c);
		try_next(c);
		return;
	}
	conn_aux_free(c);
	c->state = CONN_OPEN;
	loop_fd_want(&c->lf, LOOP_READ);
	if (c->out.n)
		conn_work_later(c);
	if (c->ops->on_connected)
		c->ops->on_connected(c->self);
}

static size_t list_length(const struct addrinfo *a)
{
	size_t n = 0;

	for (; a; a = a->ai_next)
		if (a->ai_addrlen <= sizeof(struct sockaddr_storage))
			n++;
	return n;
}

int conn_connect(struct loop *l, const struct addrinfo *addr, uint32_t timeout_ms,
		 const struct conn_ops *ops, void *self, size_t out_max, struct conn **c_r,
		 struct err *e)
{
	size_t n = list_length(addr), i = 0;
	struct conn *c;

	if (n == 0)
		return err_set(e, E_NOTFOUND, NULL, "no address to connect to");
	c = conn_alloc(l, ops, self, out_max);
	if (!c || !conn_aux_new(c, n)) {
		free(c);
		return err_set(e, E_NOMEM, NULL, "no memory for a connection");
	}
	c->aux->timeout_ms = timeout_ms;
	c->aux->n = n;
	for (; addr; addr = addr->ai_next) {
		if (addr->ai_addrlen > sizeof(struct sockaddr_storage))
			continue;
		c->aux->addr[i].len = addr->ai_addrlen;
		memcpy(&c->aux->addr[i++].ss, addr->ai_addr, addr->ai_addrlen);
	}
	c->state = CONN_CONNECTING;
	*c_r = c;
	try_next(c);
	return 0;
}

int conn_connect_unix(struct loop *l, const char *path, const struct conn_ops *ops, void *self,
		      size_t out_max, struct conn **c_r, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct addrinfo ai = { .ai_family = AF_UNIX, .ai_addrlen = sizeof(un) };

	if (sl_to_cstr(sl_cstr(path), un.sun_path, sizeof(un.sun_path)) < 0)
		return err_set(e, E_TOOBIG, NULL, "socket path %s is longer than %zu octets", path,
			       sizeof(un.sun_path) - 1);
	ai.ai_addr = (struct sockaddr *)&un;
	return conn_connect(l, &ai, 10000, ops, self, out_max, c_r, e);
}
