/* conn.c - buffered streams: reading, writing, closing, moving between loops. See conn.h.
 *
 * Reports to the owner come from the loop only: an event (conn_ready) or the late phase of a turn
 * (conn_work). After a report the connection may be closed, in another loop or in another thread,
 * so nothing but l->cur may be looked at before that is known. */
#include "appliance/loop/conn.h"
#include "appliance/loop/conn_int.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/un.h>

static void conn_work(struct loop_task *t);

/* --- life ----------------------------------------------------------------------------------- */

struct conn *conn_alloc(struct loop *l, const struct conn_ops *ops, void *self, size_t out_max)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->loop = l;
	c->lf.fd = -1;
	c->ops = ops;
	c->self = self;
	c->out_max = out_max;
	return c;
}

struct conn_aux *conn_aux_new(struct conn *c, size_t n_addr)
{
	assert(!c->aux);
	c->aux = calloc(1, sizeof(*c->aux) + n_addr * sizeof(c->aux->addr[0]));
	if (c->aux)
		c->aux->c = c;
	return c->aux;
}

void conn_aux_free(struct conn *c)
{
	if (!c->aux)
		return;
	loop_timer_clear(&c->aux->timer);
	free(c->aux);
	c->aux = NULL;
}

/* Small stanzas must not wait for the peer's ACK; for other families there is nothing to tune. */
void conn_tune(int fd, int family)
{
	int on = 1;

	if (family == AF_INET || family == AF_INET6)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void peer_from_socket(struct conn *c, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(&ss, 0, sizeof(ss));
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		conn_peer_set(c, (const struct sockaddr *)&ss);
}

int conn_new(struct loop *l, int fd, const struct conn_ops *ops, void *self, size_t out_max,
	     struct conn **c_r, struct err *e)
{
	struct conn *c = conn_alloc(l, ops, self, out_max);
	int rc;

	if (!c) {
		close(fd);
		return err_set(e, E_NOMEM, NULL, "no memory for a connection");
	}
	if (sys_fd_prepare(fd) < 0)
		rc = err_errno(e, E_IO, "descriptor %d", fd);
	else
		rc = loop_fd_add(l, &c->lf, fd, LOOP_READ, conn_ready, e);
	if (rc < 0) {
		close(fd);
		free(c);
		return rc;
	}
	peer_from_socket(c, fd);
	conn_tune(fd, c->peer.family);
	c->state = CONN_OPEN;
	*c_r = c;
	return 0;
}

void conn_work_later(struct conn *c)
{
	loop_defer_late(c->loop, &c->work, conn_work);
}

static void close_fd(struct conn *c)
{
	loop_fd_del(&c->lf);
	if (c->lf.fd >= 0)
		close(c->lf.fd);
	c->lf.fd = -1;
}

void conn_fail(struct conn *c, int code, int sys_errno, const char *text)
{
	if (c->state == CONN_DEAD)
		return;
	/* A reset means that the peer's program did not read everything that its system had. */
	c->end_unacked = sys_errno == ECONNRESET ? c->sent : conn_unacked_octets(c);
	c->end_out = c->out.n;
	c->state = CONN_DEAD;
	c->why_code = (int8_t)code;
	c->why_errno = sys_errno;
	c->why_text = text;
	close_fd(c);
	outbuf_free(&c->out, &c->loop->pool);
	if (c->aux)
		loop_timer_clear(&c->aux->timer);
	conn_work_later(c);
}

static void conn_bury(struct conn *c)
{
	struct err why = { .code = c->why_code };

	if (c->aux && c->aux->err.code)
		why = c->aux->err;
	else if (c->why_errno)
		err_set(&why, c->why_code, NULL, "%s: %s", c->why_text, strerror(c->why_errno));
	else if (c->why_text)
		err_set(&why, c->why_code, NULL, "%s", c->why_text);
	c->ops->on_closed(c->self, &why);
	conn_tls_free(c);
	conn_aux_free(c);
	free(c);
}

void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *self)
{
	c->ops = ops;
	c->self = self;
}

int conn_fd(const struct conn *c)
{
	return c->lf.fd;
}

struct loop *conn_loop(const struct conn *c)
{
	return c->loop;
}

/* --- writing -------------------------------------------------------------------------------- */

static bool writable_state(const struct conn *c)
{
	return c->loop &&
	       (c->state == CONN_OPEN || c->state == CONN_EOF || c->state == CONN_CONNECTING);
}

void conn_io_failed(struct conn *c, int sys_errno, const char *text)
{
	bool gone = sys_errno == ECONNRESET || sys_errno == EPIPE;

	conn_fail(c, gone ? E_CLOSED : E_IO, sys_errno, text);
}

static void linger_over(struct loop_timer *t)
{
	struct conn *c = container_of(t, struct conn_aux, timer)->c;

	if (c->state == CONN_EOF)
		conn_fail(c, E_CLOSED, 0, "peer closed and did not read our output");
	else
		conn_fail(c, 0, 0, NULL);
}

static bool linger_start(struct conn *c, uint32_t linger_ms)
{
	if (!c->aux && !conn_aux_new(c, 0))
		return false;
	loop_timer_set(c->loop, &c->aux->timer, linger_ms, linger_over);
	return true;
}

/* All output is with the kernel: go on with closing, if we are. */
static void output_empty(struct conn *c)
{
	if (!c->tls || !conn_tls_wants_write(c))
		loop_fd_want(&c->lf, c->lf.want & ~(unsigned)LOOP_WRITE);
	if (c->state == CONN_EOF) {
		if (c->tls)
			conn_tls_goodbye(c);
		conn_fail(c, E_CLOSED, 0, "peer closed");
	} else if (c->state == CONN_CLOSING) {
		if (c->tls && !conn_tls_goodbye(c))
			return;
		shutdown(c->lf.fd, SHUT_WR);
		c->state = CONN_LINGER;
		if (c->eof)
			conn_fail(c, 0, 0, NULL);
	}
}

/* One send a call: what the kernel does not take now waits for LOOP_WRITE. */
void conn_plain_output(struct conn *c, size_t max)
{
	size_t want = c->out.n < max ? c->out.n : max;
	ssize_t n;

	do
		n = send(c->lf.fd, c->out.p + c->out.off, want, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
		conn_io_failed(c, errno, "write");
		return;
	}
	if (n > 0) {
		c->sent += (uint64_t)n;
		outbuf_consume(&c->out, &c->loop->pool, (size_t)n);
	}
	if (c->out.n)
		loop_fd_want(&c->lf, c->lf.want | LOOP_WRITE);
}

static void output(struct conn *c)
{
	if (c->state == CONN_DEAD || c->state == CONN_CONNECTING)
		return;
	if (c->tls)
		conn_tls_output(c);
	else if (c->out.n)
		conn_plain_output(c, SIZE_MAX);
	if (c->state == CONN_DEAD)
		return;
	if (c->high && c->out.n <= c->out_max / 2) {
		c->high = false;
		c->say_drained = true;
	}
	if (c->out.n == 0)
		output_empty(c);
}

static void say_drained(struct conn *c)
{
	if (!c->say_drained || !writable_state(c))
		return;
	c->say_drained = false;
	if (c->ops->on_drained)
		c->ops->on_drained(c->self);
}

char *conn_write_reserve(struct conn *c, size_t n)
{
	if (!writable_state(c))
		return NULL;
	if (n > c->out_max || c->out.n > c->out_max - n) {
		c->high = true;
		return NULL;
	}
	return outbuf_reserve(&c->out, &c->loop->pool, n);
}

char *conn_write_reserve_hard(struct conn *c, size_t n)
{
	char *p = conn_write_reserve(c, n);

	if (p || !writable_state(c))
		return p;
	conn_flush(c);
	if (!writable_state(c))
		return NULL;
	return c->out.n ? conn_write_reserve(c, n) : outbuf_reserve(&c->out, &c->loop->pool, n);
}

void conn_write_commit(struct conn *c, size_t n)
{
	if (n == 0)
		return;
	c->out.n += n;
	if (c->out.n > c->out_max / 2)
		c->high = true;
	if (!(c->lf.want & LOOP_WRITE))
		conn_work_later(c);
}

int conn_write2(struct conn *c, struct sl a, struct sl b)
{
	char *p;

	if (!writable_state(c))
		return c->loop ? E_CLOSED : E_STATE;
	if (a.n + b.n == 0)
		return 0;
	p = conn_write_reserve(c, a.n + b.n);
	if (!p)
		return c->out.n + a.n + b.n > c->out_max ? E_LIMIT : E_NOMEM;
	if (a.n)
		memcpy(p, a.p, a.n);
	if (b.n)
		memcpy(p + a.n, b.p, b.n);
	conn_write_commit(c, a.n + b.n);
	return 0;
}

int conn_write(struct conn *c, struct sl data)
{
	return conn_write2(c, data, SL_NULL);
}

void conn_flush(struct conn *c)
{
	if (!c->loop || (c->lf.want & LOOP_WRITE))
		return;
	output(c);
	if (c->say_drained)
		conn_work_later(c);
}

size_t conn_output_octets(const struct conn *c)
{
	return c->state == CONN_DEAD ? c->end_out : c->out.n;
}

void conn_set_output_max(struct conn *c, size_t out_max)
{
	c->out_max = out_max;
}

uint64_t conn_sent_octets(const struct conn *c)
{
	return c->sent;
}

uint64_t conn_unacked_octets(const struct conn *c)
{
	int left = 0;

	if (c->state == CONN_DEAD)
		return c->end_unacked;
	/* Not known: as if nothing had arrived. */
	if (c->lf.fd < 0 || ioctl(c->lf.fd, TIOCOUTQ, &left) < 0 || left < 0)
		return c->sent;
	return (uint64_t)left;
}

bool conn_output_acked(const struct conn *c)
{
	int left = 0;

	if (c->state == CONN_DEAD)
		return c->end_out == 0 && c->end_unacked == 0;
	if (c->out.n || c->lf.fd < 0)
		return false;
	return ioctl(c->lf.fd, TIOCOUTQ, &left) == 0 && left == 0;
}

/* --- reading -------------------------------------------------------------------------------- */

void conn_peer_ended(struct conn *c)
{
	c->eof = true;
	loop_fd_want(&c->lf, c->lf.want & ~(unsigned)LOOP_READ);
	if (c->state == CONN_LINGER) {
		conn_fail(c, 0, 0, NULL);
	} else if (c->state == CONN_OPEN) {
		c->state = CONN_EOF;
		if (c->out.n == 0)
			output_empty(c);
		else if (!linger_start(c, CONN_EOF_LINGER_MS))
			conn_fail(c, E_CLOSED, 0, "peer closed");
	}
}

/* One read(2) of up to LOOP_SCRATCH_OCTETS. > 0: octets in scratch; 0: nothing (or the end, or
 * failed). */
size_t conn_read_once(struct conn *c, char *dst)
{
	ssize_t n;

	do
		n = recv(c->lf.fd, dst, LOOP_SCRATCH_OCTETS, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (size_t)n;
	if (n == 0)
		conn_peer_ended(c);
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		conn_io_failed(c, errno, "read");
	return 0;
}

static bool discards(const struct conn *c)
{
	return c->state == CONN_CLOSING || c->state == CONN_LINGER;
}

/* A read that did not fill the buffer has emptied the socket: the next one waits for the next
 * event. */
static void plain_input(struct conn *c)
{
	struct loop *l = c->loop;
	size_t sum = 0, n;

	do {
		n = conn_read_once(c, l->scratch);
		if (n == 0)
			return;
		sum += n;
		if (!discards(c)) {
			c->plain_in = true;
			c->ops->on_data(c->self, sl_mk(l->scratch, n));
			if (l->cur != c || c->state == CONN_DEAD || c->paused || c->tls)
				return;
		}
	} while (n == LOOP_SCRATCH_OCTETS && sum < CONN_TURN_OCTETS);
}

/* False: c left this loop and must not be touched. */
static bool input(struct conn *c)
{
	struct loop *l = c->loop;
	bool here;

	l->cur = c;
	if (c->tls && !discards(c))
		conn_tls_input(c);
	else
		plain_input(c);
	here = l->cur == c;
	l->cur = NULL;
	return here;
}

void conn_read_pause(struct conn *c)
{
	c->paused = true;
}

/* Pausing costs a system call only when bytes do come meanwhile (conn_ready). */
void conn_read_resume(struct conn *c)
{
	c->paused = false;
	if (!c->loop || c->state != CONN_OPEN)
		return;
	loop_fd_want(&c->lf, c->lf.want | LOOP_READ);
	if (c->tls && conn_tls_has_left(c))
		c->force_read = true;
	if (c->force_read)
		conn_work_later(c);
}

/* --- events --------------------------------------------------------------------------------- */

void conn_ready(struct loop_fd *lf, unsigned ready)
{
	struct conn *c = container_of(lf, struct conn, lf);

	if (c->state == CONN_CONNECTING) {
		conn_connect_ready(c);
		return;
	}
	if ((ready & LOOP_READ) && (lf->want & LOOP_READ)) {
		if (c->paused && !discards(c))
			loop_fd_want(lf, lf->want & ~(unsigned)LOOP_READ);
		else if (!input(c))
			return;
	}
	if (ready & LOOP_WRITE) {
		if (c->tls && conn_tls_wants_write(c) && c->state == CONN_OPEN && !input(c))
			return;
		output(c);
		say_drained(c);
	}
}

static void conn_work(struct loop_task *t)
{
	struct conn *c = container_of(t, struct conn, work);

	if (c->state == CONN_DEAD) {
		conn_bury(c);
		return;
	}
	if (c->force_read && !c->paused && c->state == CONN_OPEN) {
		c->force_read = false;
		if (!input(c))
			return;
	}
	if (!(c->lf.want & LOOP_WRITE))
		output(c);
	say_drained(c);
}

/* --- closing -------------------------------------------------------------------------------- */

void conn_close(struct conn *c, uint32_t linger_ms)
{
	if (c->state == CONN_DEAD)
		return;
	if (c->state == CONN_CONNECTING || (c->tls && !conn_tls_ready(c)) ||
	    !linger_start(c, linger_ms)) {
		conn_kill(c);
		return;
	}
	if (c->state == CONN_LINGER || c->state == CONN_CLOSING)
		return; /* only the time is new */
	c->state = CONN_CLOSING;
	if (!c->eof)
		loop_fd_want(&c->lf, c->lf.want | LOOP_READ);
	conn_work_later(c);
}

void conn_kill(struct conn *c)
{
	if (c->state != CONN_DEAD && c->aux)
		c->aux->err.code = 0;
	conn_fail(c, 0, 0, NULL);
}

/* --- moving house --------------------------------------------------------------------------- */

int conn_detach(struct conn *c)
{
	struct loop *l = c->loop;
	int rc = 0;

	if (!l || c->state != CONN_OPEN)
		return E_STATE;
	if (c->tls)
		rc = conn_tls_detach(c);
	if (rc < 0)
		return rc;
	loop_fd_del(&c->lf);
	loop_task_clear(&c->work);
	if (l->cur == c)
		l->cur = NULL;
	c->loop = NULL;
	return 0;
}

int conn_attach(struct conn *c, struct loop *l, const struct conn_ops *ops, void *self,
		struct err *e)
{
	int rc;

	if (c->loop)
		return err_set(e, E_STATE, NULL, "the connection is in a loop already");
	if (c->tls && conn_tls_prepare_loop(l) < 0)
		return err_set(e, E_NOMEM, NULL, "no memory for TLS in this loop");
	rc = loop_fd_add(l, &c->lf, c->lf.fd, LOOP_READ, conn_ready, e);
	if (rc < 0)
		return rc;
	c->loop = l;
	c->ops = ops;
	c->self = self;
	c->force_read = true;
	conn_work_later(c);
	return 0;
}

void conn_drop(struct conn **cp)
{
	struct conn *c = *cp;

	if (!c)
		return;
	assert(!c->loop);
	close(c->lf.fd);
	outbuf_free(&c->out, NULL);
	conn_tls_free(c);
	conn_aux_free(c);
	free(c);
	*cp = NULL;
}
