/* xl.c - connections of the load generator: epoll, plain and TLS, gathered output. */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/xl.h"

struct xl_options xl_opt;
unsigned xl_nready;

static int ep;
static SSL_CTX *tls;
static struct addrinfo *address;
static char scratch[1 << 18];
static struct xl_conn **dirty;
static size_t ndirty, cdirty;
static struct watch {
	int fd;
	void (*on_input)(int fd);
} watch;

void xl_die(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("xmppload: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

uint64_t xl_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void xl_init(void)
{
	struct rlimit r;
	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0)
		xl_die("epoll: %s", strerror(errno));
	char port[16];
	snprintf(port, sizeof port, "%u", xl_opt.port);
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	if (getaddrinfo(xl_opt.host, port, &hints, &address))
		xl_die("no address for %s", xl_opt.host);
	if (xl_opt.tls == XL_PLAIN)
		return;
	tls = SSL_CTX_new(TLS_client_method());
	if (!tls)
		xl_die("OpenSSL does not start");
	SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void interest(struct xl_conn *c, bool out)
{
	if (c->want_out == out)
		return;
	struct epoll_event ev = { .events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0u),
				  .data.ptr = c };
	c->want_out = out;
	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

struct xl_conn *xl_connect(unsigned index, unsigned user, const struct xl_ops *ops, void *self)
{
	struct xl_conn *c = calloc(1, sizeof *c);
	if (!c)
		xl_die("out of memory");
	c->index = index;
	c->user = user;
	c->ops = ops;
	c->self = self;
	c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		xl_die("socket: %s", strerror(errno));
	int one = 1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(c->fd, address->ai_addr, address->ai_addrlen) && errno != EINPROGRESS)
		xl_die("connect to %s:%u: %s", xl_opt.host, xl_opt.port, strerror(errno));
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	c->want_out = true;
	epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
	return c;
}

void xl_close(struct xl_conn *c)
{
	if (c->ssl)
		SSL_free(c->ssl);
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c->scram_first);
	c->in = c->out = c->scram_first = NULL;
	c->nin = c->nout = c->cin = c->cout = 0;
	c->state = XL_CLOSED;
}

void xl_write(struct xl_conn *c, const char *s, size_t n)
{
	if (c->nout + n > c->cout) {
		c->cout = (c->nout + n) * 2;
		c->out = realloc(c->out, c->cout);
		if (!c->out)
			xl_die("out of memory");
	}
	memcpy(c->out + c->nout, s, n);
	c->nout += n;
	if (c->dirty)
		return;
	c->dirty = true;
	if (ndirty == cdirty) {
		cdirty = cdirty ? cdirty * 2 : 64;
		dirty = realloc(dirty, cdirty * sizeof(struct xl_conn *));
		if (!dirty)
			xl_die("out of memory");
	}
	dirty[ndirty++] = c;
}

void xl_writef(struct xl_conn *c, const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof text)
		xl_die("stanza too long");
	xl_write(c, text, (size_t)n);
}

/* > 0: octets; 0: would block. */
static size_t transport_write(struct xl_conn *c)
{
	if (!c->ssl) {
		ssize_t n = write(c->fd, c->out, c->nout);
		if (n >= 0)
			return (size_t)n;
		if (errno == EAGAIN)
			return 0;
		xl_die("connection %u: write: %s", c->index, strerror(errno));
	}
	int n = SSL_write(c->ssl, c->out, (int)c->nout);
	if (n > 0)
		return (size_t)n;
	int why = SSL_get_error(c->ssl, n);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return 0;
	xl_die("connection %u: TLS write error %d", c->index, why);
}

static void flush(struct xl_conn *c)
{
	if (c->state == XL_CLOSED || c->state == XL_CONNECTING || c->state == XL_HANDSHAKE)
		return;
	while (c->nout) {
		size_t n = transport_write(c);
		if (!n)
			break;
		c->nout -= n;
		memmove(c->out, c->out + n, c->nout);
	}
	interest(c, c->nout > 0);
	if (!c->nout && c->cout > 65536) {
		free(c->out);
		c->out = NULL;
		c->cout = 0;
	}
}

static void flush_dirty(void)
{
	for (size_t i = 0; i < ndirty; i++) {
		struct xl_conn *c = dirty[i];
		c->dirty = false;
		flush(c);
		if (c->leaving && !c->nout && c->state != XL_CLOSED)
			xl_close(c);
	}
	ndirty = 0;
}

static void established(struct xl_conn *c)
{
	c->tls_done = c->ssl != NULL;
	if (xl_opt.raw) {
		c->state = XL_READY;
		xl_nready++;
		c->ops->on_ready(c);
	} else {
		xl_login_start(c);
	}
}

static void handshake(struct xl_conn *c)
{
	int n = SSL_connect(c->ssl);
	if (n == 1) {
		interest(c, false);
		established(c);
		return;
	}
	int why = SSL_get_error(c->ssl, n);
	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		xl_die("connection %u: TLS handshake: %s", c->index,
		       ERR_error_string(ERR_get_error(), NULL));
	interest(c, why == SSL_ERROR_WANT_WRITE);
}

void xl_start_tls(struct xl_conn *c)
{
	SSL *s = SSL_new(tls);
	if (!s || !SSL_set_fd(s, c->fd))
		xl_die("OpenSSL: out of memory");
	SSL_set_tlsext_host_name(s, xl_opt.domain);
	if (xl_opt.tls == XL_DIRECT)
		SSL_set_alpn_protos(s, (const unsigned char *)"\013xmpp-client", 12);
	c->ssl = s;
	c->state = XL_HANDSHAKE;
	handshake(c);
}

static void connected(struct xl_conn *c)
{
	int error = 0;
	socklen_t len = sizeof error;
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		xl_die("connection %u to %s:%u: %s", c->index, xl_opt.host, xl_opt.port,
		       strerror(error));
	interest(c, false);
	if (xl_opt.tls == XL_DIRECT)
		xl_start_tls(c);
	else
		established(c);
}

/* 0: nothing there. */
static size_t transport_read(struct xl_conn *c, char *dst, size_t size)
{
	if (!c->ssl) {
		ssize_t n = read(c->fd, dst, size);
		if (n > 0)
			return (size_t)n;
		if (n < 0 && errno == EAGAIN)
			return 0;
		xl_die("connection %u (user %u): %s", c->index, c->user,
		       n ? strerror(errno) : "closed by the server");
	}
	int n = SSL_read(c->ssl, dst, (int)size);
	if (n > 0)
		return (size_t)n;
	int why = SSL_get_error(c->ssl, n);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return 0;
	xl_die("connection %u (user %u): TLS read error %d", c->index, c->user, why);
}

static void one_element(struct xl_conn *c, const char *s, size_t n)
{
	if (xl_is(s, n, "stream:error") || (n > 8 && !memcmp(s, "</stream", 8)))
		xl_die("connection %u (user %u): %.*s", c->index, c->user, (int)n, s);
	if (c->state != XL_READY) {
		xl_login_stanza(c, s, n);
		return;
	}
	if (xl_is(s, n, "r")) {
		xl_writef(c, "<a xmlns='urn:xmpp:sm:3' h='%u'/>", c->h_in);
		return;
	}
	if (!xl_is(s, n, "a"))
		c->h_in++;
	c->ops->on_stanza(c, s, n);
}

static void elements(struct xl_conn *c, char *s, size_t n)
{
	const char *p = s, *end = s + n;
	while (p < end && c->state != XL_CLOSED && c->state != XL_HANDSHAKE) {
		if (*p == ' ' || *p == '\n' || *p == '\r') {
			p++;
			continue;
		}
		if (end - p > 1 && p[1] == '?') {
			const char *close = memchr(p, '>', (size_t)(end - p));
			if (!close)
				break;
			p = close + 1;
			continue;
		}
		bool header = end - p > 13 && !memcmp(p, "<stream:stream", 14);
		const char *stop = header ? memchr(p, '>', (size_t)(end - p))
					  : xl_element_end(p, end);
		if (!stop)
			break;
		if (header)
			stop++;
		else
			one_element(c, p, (size_t)(stop - p));
		p = stop;
	}
	if (c->state == XL_CLOSED)
		return;
	size_t left = (size_t)(end - p);
	if (left > c->cin) {
		c->cin = left + 1024;
		free(c->in);
		c->in = malloc(c->cin);
		if (!c->in)
			xl_die("out of memory");
	}
	if (left)
		memcpy(c->in, p, left);
	c->nin = left;
}

static void input(struct xl_conn *c)
{
	for (int i = 0; i < 16; i++) {
		size_t have = c->nin;
		if (have >= sizeof scratch)
			xl_die("connection %u: a stanza of more than %zu octets", c->index, have);
		if (have)
			memcpy(scratch, c->in, have);
		size_t n = transport_read(c, scratch + have, sizeof scratch - have);
		if (!n)
			return;
		elements(c, scratch, have + n);
		/* SSL_read would complete a handshake that has just begun, unnoticed. */
		if (c->state == XL_CLOSED || c->state == XL_HANDSHAKE ||
		    (!c->ssl && have + n < sizeof scratch))
			return;
	}
}

/* Nothing moves: which connections are not in, and where do they stand? */
static void __attribute__((noreturn))
stuck(struct xl_conn *const *conn, unsigned opened, unsigned in, unsigned n)
{
	for (unsigned i = 0; i < opened; i++)
		if (conn[i]->state < XL_READY)
			fprintf(stderr,
				"xmppload: connection %u (user %u), state %d: %zu octets read, %zu to write\n",
				conn[i]->index, conn[i]->user, conn[i]->state, conn[i]->nin,
				conn[i]->nout);
	xl_die("no login in 30 s; %u of %u are in", in, n);
}

void xl_open(unsigned n, const struct xl_ops *ops, struct xl_conn **conn_r)
{
	struct xl_conn **conn = conn_r ? conn_r : calloc(n, sizeof(struct xl_conn *));
	unsigned before = xl_nready, opened = 0;
	uint64_t moved = xl_now_ns();
	if (!conn)
		xl_die("out of memory");
	for (unsigned last = 0; xl_nready - before < n;) {
		while (opened < n && opened - (xl_nready - before) < xl_opt.parallel) {
			struct xl_conn *c =
				xl_connect(opened, xl_opt.first_user + opened, ops, NULL);
			conn[opened++] = c;
		}
		xl_turn(1000);
		if (xl_nready != last)
			moved = xl_now_ns();
		last = xl_nready;
		if (xl_now_ns() - moved > 30000000000u)
			stuck(conn, opened, xl_nready - before, n);
	}
	if (!conn_r)
		free(conn);
}

void xl_watch(int fd, void (*on_input)(int fd))
{
	watch = (struct watch){ fd, on_input };
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &watch };
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

void xl_turn(int timeout_ms)
{
	struct epoll_event ev[256];
	flush_dirty();
	int n = epoll_wait(ep, ev, 256, timeout_ms);
	for (int i = 0; i < n; i++) {
		if (ev[i].data.ptr == &watch) {
			watch.on_input(watch.fd);
			continue;
		}
		struct xl_conn *c = ev[i].data.ptr;
		if (c->state == XL_CLOSED)
			continue;
		if (c->state == XL_CONNECTING) {
			connected(c);
			continue;
		}
		if (c->state == XL_HANDSHAKE) {
			handshake(c);
			continue;
		}
		if (ev[i].events & EPOLLOUT)
			flush(c);
		if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			input(c);
	}
	flush_dirty();
}
