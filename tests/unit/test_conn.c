/* test_conn.c - plain streams and listeners; everything on each back end. TLS is in
 * test_conn_tls.c. */
#include "appliance/base/base.h"
#include "appliance/base/buf.h"
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static enum loop_backend backend;
static struct loop *loop;

/* One end under test. In every callback: are we inside a call of the owner? Then conn.h is broken.
 */
struct side {
	struct conn *c;
	struct buf in;
	size_t in_total;
	int datas, connected, drained, closed;
	bool acked; /* when it was closed */
	uint64_t unacked;
	size_t left;
	struct err why;
	void (*on_data)(struct side *s, struct sl d); /* instead of gathering */
	void (*on_connected)(struct side *s);
};
static bool in_call;

#define CALL(x) \
	do { \
		in_call = true; \
		x; \
		in_call = false; \
	} while (0)

static void s_data(void *self, struct sl d)
{
	struct side *s = self;

	assert_false(in_call);
	assert_int_equal(s->closed, 0);
	s->datas++;
	s->in_total += d.n;
	if (s->on_data)
		s->on_data(s, d);
	else
		assert_int_equal(buf_add(&s->in, d), 0);
}

static void s_connected(void *self)
{
	struct side *s = self;

	assert_false(in_call);
	s->connected++;
	if (s->on_connected)
		s->on_connected(s);
}

static void s_drained(void *self)
{
	assert_false(in_call);
	((struct side *)self)->drained++;
}

static void s_closed(void *self, const struct err *why)
{
	struct side *s = self;

	assert_false(in_call);
	assert_int_equal(s->closed, 0);
	s->closed++;
	s->why = *why;
	s->acked = conn_output_acked(s->c);
	s->unacked = conn_unacked_octets(s->c);
	s->left = conn_output_octets(s->c);
	s->c = NULL;
}

static const struct conn_ops side_ops = {
	.on_data = s_data,
	.on_connected = s_connected,
	.on_drained = s_drained,
	.on_closed = s_closed,
};

static int setup(void **state)
{
	UNUSED(state);
	in_call = false;
	return loop_new(backend, &loop, NULL);
}

static int teardown(void **state)
{
	struct loop_stats left = loop_stats(loop);

	UNUSED(state);
	/* after a failed test loop_free would abort and hide why */
	if (left.fds || left.timers)
		return -1;
	loop_free(&loop);
	return 0;
}

static void turns(int n)
{
	while (n--)
		loop_turn(loop, 0);
}

#define TURN_UNTIL(cond) \
	do { \
		uint64_t give_up = clock_mono_ms() + 5000; \
		while (!(cond) && clock_mono_ms() < give_up) \
			loop_turn(loop, 20); \
		assert_true(cond); \
	} while (0)

static void side_init(struct side *s)
{
	*s = (struct side){ 0 };
	buf_init(&s->in, 64u << 20);
}

static void side_end(struct side *s)
{
	if (s->c) {
		CALL(conn_kill(s->c));
		turns(1);
		assert_int_equal(s->closed, 1);
	}
	buf_free(&s->in);
}

/* A conn on one end of a socket pair, the bare other end for the test. */
static int side_on_pair(struct side *s, size_t out_max)
{
	int p[2];

	side_init(s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	assert_int_equal(conn_new(loop, p[0], &side_ops, s, out_max, &s->c, NULL), 0);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	return p[1];
}

static size_t read_all(int fd, char *dst, size_t cap)
{
	size_t n = 0;
	ssize_t r;

	while (n < cap && (r = read(fd, dst + n, cap - n)) > 0)
		n += (size_t)r;
	return n;
}

/* --- streams -------------------------------------------------------------------------------- */

static void test_echo(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	char b[16];

	UNUSED(state);
	assert_int_equal(write(fd, "hello", 5), 5);
	turns(1);
	assert_true(sl_eq(buf_sl(&s.in), SL("hello")));
	CALL(assert_int_equal(conn_write(s.c, SL("wor")), 0));
	CALL(assert_int_equal(conn_write2(s.c, SL("l"), SL("d")), 0));
	char *p = conn_write_reserve(s.c, 100);
	memcpy(p, "!?", 2);
	conn_write_commit(s.c, 1);
	assert_int_equal(conn_output_octets(s.c), 6);
	assert_int_equal(read_all(fd, b, sizeof(b)), 0); /* nothing before the end of the turn */
	turns(1);
	assert_int_equal(conn_output_octets(s.c), 0);
	assert_int_equal(read_all(fd, b, sizeof(b)), 6);
	assert_memory_equal(b, "world!", 6);
	CALL(conn_write(s.c, SL("now")); conn_flush(s.c));
	assert_int_equal(read_all(fd, b, sizeof(b)), 3);
	side_end(&s);
	assert_int_equal(s.why.code, 0);
	close(fd);
}

static void test_peer_closes(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);

	UNUSED(state);
	assert_int_equal(write(fd, "bye", 3), 3);
	close(fd);
	turns(3);
	assert_true(sl_eq(buf_sl(&s.in), SL("bye")));
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, E_CLOSED);
	side_end(&s);
}

/* The peer shuts its sending side and still reads: what we wrote must arrive before on_closed. */
static void test_half_close(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 4u << 20);
	static char big[1u << 20], got[1u << 20];
	size_t n = 0;

	UNUSED(state);
	memset(big, 'x', sizeof(big));
	CALL(assert_int_equal(conn_write(s.c, sl_mk(big, sizeof(big))), 0));
	turns(1);
	assert_true(conn_output_octets(s.c) > 0);
	shutdown(fd, SHUT_WR);
	turns(3);
	assert_int_equal(s.closed, 0);
	while (n < sizeof(big)) {
		n += read_all(fd, got + n, sizeof(got) - n);
		turns(1);
	}
	turns(2);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, E_CLOSED);
	side_end(&s);
	close(fd);
}

/* Writing to a peer that is gone: an error, no SIGPIPE (which would end this program). */
static void test_write_after_peer_gone(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);

	UNUSED(state);
	CALL(conn_read_pause(s.c));
	close(fd);
	CALL(conn_write(s.c, SL("x")));
	turns(2);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, E_CLOSED);
	assert_non_null(strstr(s.why.text, "write"));
	side_end(&s);
}

/* A read that did not fill the buffer ends the turn for this connection: no second read(2). */
static int more_to;

static void send_more(struct side *s, struct sl d)
{
	UNUSED(d);
	if (s->datas < 3)
		assert_int_equal(write(more_to, "more", 4), 4);
}

static void test_one_read_a_turn(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);

	UNUSED(state);
	more_to = fd;
	s.on_data = send_more;
	assert_int_equal(write(fd, "first", 5), 5);
	for (int i = 1; i <= 3; i++) {
		turns(1);
		assert_int_equal(s.datas, i);
	}
	side_end(&s);
	close(fd);
}

static void kill_in_data(struct side *s, struct sl d)
{
	UNUSED(d);
	CALL(conn_kill(s->c); conn_kill(s->c); conn_close(s->c, 100));
	assert_int_equal(s->closed, 0);
	CALL(assert_int_equal(conn_write(s->c, SL("x")), E_CLOSED));
	assert_null(conn_write_reserve(s->c, 1));
}

static void test_kill_in_callback(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	static char big[200000];

	UNUSED(state);
	s.on_data = kill_in_data;
	assert_true(write(fd, big, sizeof(big)) > 70000);
	turns(1);
	assert_int_equal(s.datas, 1);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, 0);
	side_end(&s);
	close(fd);
}

/* Output is flushed, our side shut, and the end waits for the peer's. */
static void test_close_graceful(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 4u << 20);
	static char big[1u << 20], got[1u << 20];
	size_t n = 0;
	char c;

	UNUSED(state);
	CALL(conn_write(s.c, sl_mk(big, sizeof(big))));
	CALL(conn_close(s.c, 5000));
	CALL(assert_int_equal(conn_write(s.c, SL("late")), E_CLOSED));
	assert_true(write(fd, "ignored", 7) == 7);
	while (n < sizeof(big)) {
		turns(1);
		n += read_all(fd, got + n, sizeof(got) - n);
	}
	turns(2);
	assert_int_equal(read(fd, &c, 1), 0); /* shut down */
	assert_int_equal(s.closed, 0);
	assert_int_equal(s.datas, 0);
	close(fd);
	turns(2);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, 0);
	side_end(&s);
}

/* The peer ended first, while our output was still going out: no waiting once it is out. */
static void test_close_after_peer(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 4u << 20);
	static char big[1u << 20], got[1u << 20];
	size_t n = 0;

	UNUSED(state);
	CALL(conn_write(s.c, sl_mk(big, sizeof(big))));
	CALL(conn_close(s.c, 60000));
	shutdown(fd, SHUT_WR);
	turns(3);
	assert_int_equal(s.closed, 0);
	while (n < sizeof(big)) {
		turns(1);
		n += read_all(fd, got + n, sizeof(got) - n);
	}
	turns(3);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, 0);
	side_end(&s);
	close(fd);
}

static void test_close_gives_up(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 4u << 20);
	static char big[1u << 20];

	UNUSED(state);
	CALL(conn_write(s.c, sl_mk(big, sizeof(big))));
	CALL(conn_close(s.c, 30));
	turns(3);
	assert_int_equal(s.closed, 0);
	TURN_UNTIL(s.closed);
	assert_int_equal(s.why.code, 0);
	side_end(&s);
	close(fd);
}

/* linger 0: what the kernel takes at once goes out, then it is over. */
static void test_close_now(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	char b[8];

	UNUSED(state);
	CALL(conn_write(s.c, SL("last")));
	CALL(conn_close(s.c, 0));
	TURN_UNTIL(s.closed);
	assert_int_equal(read_all(fd, b, sizeof(b)), 4);
	side_end(&s);
	close(fd);
}

/* A peer that does not read: the limit is met, nothing is lost or doubled, on_drained tells when
 * there is room again. */
/* What is larger than the limit goes when nothing else waits, and only then. */
static void test_larger_than_the_limit(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	static char got[2u << 20];
	size_t big = 1u << 20, n = 0;
	char *p;

	UNUSED(state);
	CALL(assert_int_equal(conn_write(s.c, SL("before")), 0));
	CALL(p = conn_write_reserve_hard(s.c, big));
	assert_non_null(p); /* "before" is with the kernel */
	memset(p, 'x', big);
	CALL(conn_write_commit(s.c, big));
	CALL(assert_null(conn_write_reserve_hard(s.c, 10)));
	for (int i = 0; i < 10000 && n < big + 6; i++) {
		n += read_all(fd, got + n, 50000);
		turns(1);
	}
	assert_int_equal(n, big + 6);
	assert_memory_equal(got, "beforexx", 8);
	CALL(p = conn_write_reserve_hard(s.c, 1001));
	assert_non_null(p);
	side_end(&s);
	close(fd);
}

static void test_slow_reader(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 100000), refused = 0, small = 4096;
	static char got[16u << 20];
	size_t sent = 0, n = 0;
	char line[1000];

	UNUSED(state);
	setsockopt(conn_fd(s.c), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	while (!refused) {
		for (size_t i = 0; i < sizeof(line); i++)
			line[i] = (char)('a' + (sent + i) % 23);
		CALL(refused = conn_write(s.c, sl_mk(line, sizeof(line))) == E_LIMIT);
		if (!refused)
			sent += sizeof(line);
		turns(sent % 7 == 0);
	}
	assert_true(conn_output_octets(s.c) > 99000 && conn_output_octets(s.c) <= 100000);
	CALL(assert_null(conn_write_reserve(s.c, 100001)));
	turns(5);
	s.drained = 0;
	for (int i = 0; i < 10000 && n < sent; i++) {
		n += read_all(fd, got + n, 5000);
		turns(1);
		assert_int_equal(s.drained, conn_output_octets(s.c) <= 50000);
	}
	assert_int_equal(n, sent);
	assert_int_equal(s.drained, 1);
	for (size_t i = 0; i < n; i++)
		if (got[i] != (char)('a' + i % 23))
			fail_msg("octet %zu is wrong", i);
	side_end(&s);
	close(fd);
}

static void test_pause(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);

	UNUSED(state);
	CALL(conn_read_pause(s.c));
	assert_int_equal(write(fd, "abc", 3), 3);
	turns(3);
	assert_int_equal(s.datas, 0);
	uint64_t t0 = clock_mono_ms();
	loop_turn(loop, 30); /* and does not spin */
	assert_true(clock_mono_ms() - t0 >= 29);
	CALL(conn_read_resume(s.c));
	assert_int_equal(s.datas, 0);
	turns(1);
	assert_true(sl_eq(buf_sl(&s.in), SL("abc")));
	side_end(&s);
	close(fd);
}

static void pause_in_data(struct side *s, struct sl d)
{
	UNUSED(d);
	CALL(conn_read_pause(s->c));
}

/* Pausing inside on_data stops at once, though the socket holds more. */
static void test_pause_in_data(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	static char big[150000];

	UNUSED(state);
	s.on_data = pause_in_data;
	ssize_t put = write(fd, big, sizeof(big));
	assert_true(put > 70000);
	turns(3);
	assert_int_equal(s.datas, 1);
	s.on_data = NULL;
	CALL(conn_read_resume(s.c));
	turns(3);
	assert_int_equal(s.in_total, put);
	side_end(&s);
	close(fd);
}

/* What had not left when the end came is known in the end. */
static void test_end_with_output(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000000), small = 4096;
	static char data[500000];

	UNUSED(state);
	setsockopt(conn_fd(s.c), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	CALL(assert_int_equal(conn_write(s.c, sl_mk(data, sizeof(data))), 0));
	turns(2);
	CALL(conn_kill(s.c));
	turns(1);
	assert_int_equal(s.closed, 1);
	assert_true(s.left > 0 && s.left < sizeof(data));
	assert_false(s.acked);
	side_end(&s);
	close(fd);
}

static void test_acked(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	char b[8];

	UNUSED(state);
	assert_true(conn_output_acked(s.c));
	CALL(conn_write(s.c, SL("x")));
	assert_false(conn_output_acked(s.c));
	turns(1);
	assert_false(conn_output_acked(s.c)); /* not read yet */
	assert_int_equal(read_all(fd, b, sizeof(b)), 1);
	assert_true(conn_output_acked(s.c));
	side_end(&s);
	close(fd);
}

static void test_peer_uid(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	uint32_t uid = 12345;
	char t[CONN_ADDR_MAX];

	UNUSED(state);
	assert_int_equal(conn_peer_uid(s.c, &uid), 0);
	assert_int_equal(uid, getuid());
	conn_peer_text(s.c, t);
	assert_string_equal(t, "unix");
	conn_peer_host(s.c, t);
	assert_string_equal(t, "unix");
	assert_ptr_equal(conn_loop(s.c), loop);
	assert_true(conn_fd(s.c) >= 0);
	side_end(&s);
	close(fd);
}

/* --- listeners and connecting --------------------------------------------------------------- */

struct server {
	struct listener *ln;
	struct side side[8];
	int n;
	int raw; /* >= 0: keep as a plain descriptor instead */
	bool free_in_accept;
};

static void accepted(void *arg, int fd)
{
	struct server *v = arg;

	if (v->free_in_accept) {
		close(fd);
		listener_free(&v->ln);
		v->n++;
		return;
	}
	side_init(&v->side[v->n]);
	assert_int_equal(
		conn_new(loop, fd, &side_ops, &v->side[v->n], 1u << 20, &v->side[v->n].c, NULL), 0);
	v->n++;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in6 sa;
	socklen_t n = sizeof(sa);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	return ntohs(sa.sin6_port); /* at the same place in sockaddr_in */
}

static uint16_t server_start(struct server *v, const char *addr)
{
	struct err e;
	int fd;

	*v = (struct server){ .raw = -1 };
	if (listen_open_tcp(addr, 0, 16, &fd, &e) < 0)
		fail_msg("%s", e.text);
	uint16_t port = port_of(fd);
	assert_int_equal(listener_new_fd(loop, fd, accepted, v, &v->ln, NULL), 0);
	return port;
}

static void server_end(struct server *v)
{
	listener_free(&v->ln);
	for (int i = 0; i < v->n && !v->free_in_accept; i++)
		side_end(&v->side[i]);
}

/* A list of numeric addresses, all with one port. */
static struct addrinfo *addr_list(const char *const *host, const uint16_t *port, size_t n)
{
	struct addrinfo hint = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	struct addrinfo *first = NULL, **at = &first;

	for (size_t i = 0; i < n; i++) {
		char service[8];

		snprintf(service, sizeof(service), "%u", port[i]);
		assert_int_equal(getaddrinfo(host[i], service, &hint, at), 0);
		at = &(*at)->ai_next;
	}
	return first;
}

static void connect_to(struct side *s, const char *host, uint16_t port)
{
	struct addrinfo *ai = addr_list(&host, &port, 1);

	side_init(s);
	CALL(assert_int_equal(conn_connect(loop, ai, 2000, &side_ops, s, 1u << 20, &s->c, NULL),
			      0));
	freeaddrinfo(ai);
}

static void tcp_exchange(const char *listen_on, const char *host, const char *expect)
{
	struct server v;
	uint16_t port = server_start(&v, listen_on);
	struct side s;
	char t[CONN_ADDR_MAX], want[CONN_ADDR_MAX];
	uint32_t uid;

	connect_to(&s, host, port);
	CALL(assert_int_equal(conn_write(s.c, SL("early")), 0)); /* before it is connected */
	TURN_UNTIL(s.connected && v.n == 1 && v.side[0].in_total == 5);
	CALL(conn_write(v.side[0].c, SL("answer")));
	TURN_UNTIL(s.in_total == 6);
	conn_peer_host(v.side[0].c, t);
	assert_string_equal(t, expect);
	conn_peer_text(s.c, t);
	snprintf(want, sizeof(want), strchr(expect, ':') ? "[%s]:%u" : "%s:%u", expect, port);
	assert_string_equal(t, want);
	assert_int_equal(conn_peer_uid(s.c, &uid), E_UNSUPPORTED);
	TURN_UNTIL(conn_output_acked(s.c) && conn_output_acked(v.side[0].c));
	side_end(&s);
	TURN_UNTIL(v.side[0].closed);
	assert_int_equal(v.side[0].why.code, E_CLOSED);
	server_end(&v);
}

/* After a reset nothing counts as read, though the peer's system had acknowledged it; and a connection that has ended
 * cannot move. */
static void test_reset(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct linger now = { 1, 0 };
	socklen_t len = sizeof(sa);
	int ln = socket(AF_INET, SOCK_STREAM, 0), fd;
	struct side s;

	UNUSED(state);
	assert_int_equal(bind(ln, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(ln, 1), 0);
	assert_int_equal(getsockname(ln, (struct sockaddr *)&sa, &len), 0);
	connect_to(&s, "127.0.0.1", ntohs(sa.sin_port));
	fd = accept(ln, NULL, NULL);
	TURN_UNTIL(s.connected);
	CALL(assert_int_equal(conn_write(s.c, SL("0123456789")), 0));
	TURN_UNTIL(conn_output_acked(s.c));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
	TURN_UNTIL(s.closed);
	assert_int_equal(s.unacked, 10);
	assert_false(s.acked);
	side_end(&s);
	close(ln);
	fd = side_on_pair(&s, 1000);
	CALL(conn_kill(s.c));
	CALL(assert_int_equal(conn_detach(s.c), E_STATE));
	turns(1);
	assert_int_equal(s.closed, 1);
	side_end(&s);
	close(fd);
}

static void test_tcp(void **state)
{
	UNUSED(state);
	tcp_exchange("127.0.0.1", "127.0.0.1", "127.0.0.1");
	tcp_exchange("::1", "::1", "::1");
	tcp_exchange("*", "127.0.0.1", "127.0.0.1");
	tcp_exchange("*", "::1", "::1");
}

/* A busy peer may be read several times a turn, but not more than 256 KiB. */
static size_t turn_now, turn_max;
static uint64_t turn_of;

static void count_turn(struct side *s, struct sl d)
{
	UNUSED(s);
	if (turn_of != loop_stats(loop).turns)
		turn_now = 0;
	turn_of = loop_stats(loop).turns;
	turn_now += d.n;
	if (turn_now > turn_max)
		turn_max = turn_now;
}

static void test_fairness(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	static char big[1u << 20];
	struct side s;
	int size = 4 << 20;

	UNUSED(state);
	turn_max = 0;
	connect_to(&s, "127.0.0.1", port);
	TURN_UNTIL(v.n == 1 && s.connected);
	v.side[0].on_data = count_turn;
	setsockopt(conn_fd(v.side[0].c), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(conn_fd(s.c), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (int i = 0; i < 100; i++) {
		conn_read_pause(v.side[0].c);
		conn_write(s.c, sl_mk(big, sizeof(big)));
		turns(3);
		conn_read_resume(v.side[0].c);
		turns(3);
	}
	TURN_UNTIL(conn_output_acked(s.c));
	assert_true(turn_max > LOOP_SCRATCH_OCTETS); /* or this proves nothing */
	assert_true(turn_max <= 256 * 1024);
	side_end(&s);
	server_end(&v);
}

static void test_refused(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	struct side s;

	UNUSED(state);
	listener_free(&v.ln); /* now nobody listens there */
	connect_to(&s, "127.0.0.1", port);
	TURN_UNTIL(s.closed);
	assert_int_equal(s.connected, 0);
	assert_int_equal(s.why.code, E_IO);
	assert_non_null(strstr(s.why.text, "127.0.0.1:"));
	assert_non_null(strstr(s.why.text, "refused"));
	side_end(&s);
}

/* A connect that fails at once is reported later, and closing it meanwhile does not hide why. */
static void test_fails_at_once(void **state)
{
	const char *host = "255.255.255.255";
	uint16_t port = 5222;
	struct addrinfo *ai = addr_list(&host, &port, 1);
	struct side s;

	UNUSED(state);
	side_init(&s);
	CALL(assert_int_equal(conn_connect(loop, ai, 2000, &side_ops, &s, 1000, &s.c, NULL), 0));
	freeaddrinfo(ai);
	assert_int_equal(s.closed, 0);
	CALL(conn_kill(s.c));
	turns(1);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, E_IO);
	assert_non_null(strstr(s.why.text, "255.255.255.255:5222"));
	side_end(&s);
}

/* The first address refuses, the second is of a family or network that fails at once, the third
 * answers. */
static void test_next_address(void **state)
{
	struct server v, gone;
	uint16_t port = server_start(&v, "127.0.0.1"), dead = server_start(&gone, "127.0.0.1");
	const char *host[3] = { "127.0.0.1", "255.255.255.255", "127.0.0.1" };
	uint16_t ports[3] = { dead, dead, port };
	struct addrinfo *ai = addr_list(host, ports, 3);
	struct side s;

	UNUSED(state);
	listener_free(&gone.ln);
	side_init(&s);
	CALL(conn_connect(loop, ai, 2000, &side_ops, &s, 1000, &s.c, NULL));
	freeaddrinfo(ai);
	CALL(conn_write(s.c, SL("hi")));
	TURN_UNTIL(s.connected && v.n && v.side[0].in_total == 2);
	side_end(&s);
	server_end(&v);
}

/* A listener whose queue is full drops our SYN: nobody answers, and the time runs out. */
static void test_connect_timeout(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int ln = socket(AF_INET, SOCK_STREAM, 0), fill[8];
	const char *host = "127.0.0.1";
	struct side s;
	uint16_t port;

	UNUSED(state);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(ln, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(ln, 0), 0);
	port = port_of(ln);
	sa.sin_port = htons(port);
	for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fill[i], (struct sockaddr *)&sa, sizeof(sa));
	}
	struct addrinfo *ai = addr_list(&host, &port, 1);
	side_init(&s);
	CALL(conn_connect(loop, ai, 100, &side_ops, &s, 1000, &s.c, NULL));
	freeaddrinfo(ai);
	uint64_t t0 = clock_mono_ms();
	TURN_UNTIL(s.closed);
	assert_true(clock_mono_ms() - t0 >= 99);
	assert_int_equal(s.connected, 0);
	assert_int_equal(s.why.code, E_TIMEOUT);
	side_end(&s);
	for (size_t i = 0; i < ARRAY_LEN(fill); i++)
		close(fill[i]);
	close(ln);
}

static void test_kill_while_connecting(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	struct side s;

	UNUSED(state);
	connect_to(&s, "127.0.0.1", port);
	CALL(conn_close(s.c, 1000));
	turns(2);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.why.code, 0);
	assert_int_equal(s.connected, 0);
	side_end(&s);
	server_end(&v);
}

static void kill_on_connected(struct side *s)
{
	CALL(conn_kill(s->c));
}

static void test_kill_on_connected(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	struct side s;

	UNUSED(state);
	connect_to(&s, "127.0.0.1", port);
	s.on_connected = kill_on_connected;
	CALL(conn_write(s.c, SL("never")));
	TURN_UNTIL(s.closed);
	side_end(&s);
	server_end(&v);
}

static void test_in_use(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	struct err e;
	char text[32];
	int fd;

	UNUSED(state);
	assert_int_equal(listen_open_tcp("127.0.0.1", port, 5, &fd, &e), E_EXISTS);
	snprintf(text, sizeof(text), "127.0.0.1:%u", port);
	assert_non_null(strstr(e.text, text));
	assert_int_equal(listen_open_tcp("not an address", 1, 5, &fd, &e), E_SYNTAX);
	assert_int_equal(listen_open_tcp("203.0.113.1", 0, 5, &fd, &e), E_IO);
	server_end(&v);
}

static char dir[] = "/tmp/tandem-conn-XXXXXX";

static void test_unix_listener(void **state)
{
	struct server v = { .raw = -1 };
	char path[64], long_path[200];
	struct stat st;
	struct side s;
	struct err e;
	int fd;

	UNUSED(state);
	snprintf(path, sizeof(path), "%s/sock", dir);
	assert_int_equal(listener_new_unix(loop, path, 0600, accepted, &v, &v.ln, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(listen_open_unix(path, 0600, &fd, &e),
			 E_EXISTS); /* alive: it accepts the probe */
	side_init(&s);
	CALL(assert_int_equal(conn_connect_unix(loop, path, &side_ops, &s, 1000, &s.c, &e), 0));
	TURN_UNTIL(s.connected && v.n == 2);
	CALL(conn_write(v.side[1].c, SL("ok")));
	TURN_UNTIL(s.in_total == 2);
	side_end(&s);
	server_end(&v);
	/* The file is still there, and stale: the next start takes its place. */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(listen_open_unix(path, 0660, &fd, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	close(fd);
	side_init(&s);
	CALL(assert_int_equal(conn_connect_unix(loop, path, &side_ops, &s, 1000, &s.c, &e), 0));
	TURN_UNTIL(s.closed);
	assert_int_equal(s.why.code, E_IO);
	unlink(path);
	/* A file that is no socket is not removed. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(listen_open_unix(path, 0600, &fd, &e), E_EXISTS);
	unlink(path);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = 0;
	assert_int_equal(listen_open_unix(long_path, 0600, &fd, &e), E_TOOBIG);
	assert_int_equal(conn_connect_unix(loop, long_path, &side_ops, &s, 1, &s.c, &e), E_TOOBIG);
}

static void test_listener_pause_and_free_inside(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	struct side a, b;

	UNUSED(state);
	listener_pause(v.ln);
	connect_to(&a, "127.0.0.1", port);
	TURN_UNTIL(a.connected); /* by the kernel's queue */
	turns(3);
	assert_int_equal(v.n, 0);
	v.free_in_accept = true;
	connect_to(&b, "127.0.0.1", port);
	TURN_UNTIL(b.connected);
	listener_resume(v.ln);
	TURN_UNTIL(v.n == 1);
	assert_null(v.ln);
	TURN_UNTIL(a.closed && b.closed);
	assert_int_equal(v.n, 1);
	side_end(&a);
	side_end(&b);
	server_end(&v);
}

static int warnings;

static void count_warning(void *arg, struct sl line)
{
	UNUSED(arg);
	if (memmem(line.p, line.n, "listener.resting", 16))
		warnings++;
}

/* No descriptor left: a warning, a rest without spinning, and then the waiting connection is
 * served. */
static void test_emfile(void **state)
{
	struct server v;
	uint16_t port = server_start(&v, "127.0.0.1");
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct rlimit old, few;
	int fd = socket(AF_INET, SOCK_STREAM, 0), top = dup(fd);

	UNUSED(state);
	close(top);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = (rlim_t)top;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	warnings = 0;
	log_capture(count_warning, NULL);
	uint64_t turns_before = loop_stats(loop).turns;
	uint64_t t0 = clock_mono_ms();
	for (int i = 0; i < 3; i++)
		loop_turn(loop, 50);
	log_capture(NULL, NULL);
	assert_true(clock_mono_ms() - t0 >= 90);
	UNUSED(turns_before);
	assert_int_equal(warnings, 1);
	assert_int_equal(v.n, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	TURN_UNTIL(v.n == 1);
	server_end(&v);
	close(fd);
}

/* --- moving house --------------------------------------------------------------------------- */

/* Detached inside its own on_data, attached to another loop of the same thread. */
static struct loop *second;

static void detach_in_data(struct side *s, struct sl d)
{
	assert_int_equal(buf_add(&s->in, d), 0);
	CALL(assert_int_equal(conn_write(s->c, SL("[moved]")), 0));
	CALL(assert_int_equal(conn_detach(s->c), 0));
	s->on_data = NULL;
}

static void test_move(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	char b[32];

	UNUSED(state);
	assert_int_equal(loop_new(backend, &second, NULL), 0);
	s.on_data = detach_in_data;
	assert_int_equal(write(fd, "one", 3), 3);
	turns(1);
	assert_null(conn_loop(s.c));
	CALL(assert_int_equal(conn_detach(s.c), E_STATE));
	CALL(assert_int_equal(conn_write(s.c, SL("x")), E_STATE));
	assert_int_equal(write(fd, "two", 3), 3);
	turns(2);
	assert_int_equal(read_all(fd, b, sizeof(b)), 0); /* nobody reads or writes it now */
	CALL(assert_int_equal(conn_attach(s.c, second, &side_ops, &s, NULL), 0));
	CALL(assert_int_equal(conn_attach(s.c, loop, &side_ops, &s, NULL), E_STATE));
	loop_turn(second, 0);
	assert_true(sl_eq(buf_sl(&s.in), SL("onetwo")));
	assert_int_equal(read_all(fd, b, sizeof(b)), 7);
	assert_ptr_equal(conn_loop(s.c), second);
	CALL(conn_detach(s.c));
	CALL(conn_drop(&s.c));
	assert_null(s.c);
	assert_int_equal(s.closed, 0);
	assert_int_equal(read(fd, b, 1), 0);
	side_end(&s);
	close(fd);
	loop_free(&second);
}

/* The same when the read had filled the buffer: the rest stays in the kernel for the new loop. */
static void test_move_in_mid_read(void **state)
{
	struct side s;
	int fd = side_on_pair(&s, 1000);
	static char big[150000];

	UNUSED(state);
	assert_int_equal(loop_new(backend, &second, NULL), 0);
	s.on_data = detach_in_data;
	ssize_t put = write(fd, big, sizeof(big));
	assert_true(put > 70000);
	turns(3);
	assert_int_equal(s.datas, 1);
	assert_int_equal(s.in_total, LOOP_SCRATCH_OCTETS);
	CALL(assert_int_equal(conn_attach(s.c, second, &side_ops, &s, NULL), 0));
	loop_turn(second, 0);
	assert_int_equal(s.in_total, put);
	CALL(conn_kill(s.c));
	loop_turn(second, 0);
	side_end(&s);
	close(fd);
	loop_free(&second);
}

/* --- all ------------------------------------------------------------------------------------ */

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run_all(enum loop_backend b, const char *name)
{
	const struct CMUnitTest tests[] = {
		T(test_echo),
		T(test_peer_closes),
		T(test_half_close),
		T(test_write_after_peer_gone),
		T(test_one_read_a_turn),
		T(test_kill_in_callback),
		T(test_close_graceful),
		T(test_close_after_peer),
		T(test_close_gives_up),
		T(test_close_now),
		T(test_larger_than_the_limit),
		T(test_slow_reader),
		T(test_pause),
		T(test_pause_in_data),
		T(test_end_with_output),
		T(test_acked),
		T(test_peer_uid),
		T(test_reset),
		T(test_tcp),
		T(test_fairness),
		T(test_refused),
		T(test_fails_at_once),
		T(test_next_address),
		T(test_connect_timeout),
		T(test_kill_while_connecting),
		T(test_kill_on_connected),
		T(test_in_use),
		T(test_unix_listener),
		T(test_listener_pause_and_free_inside),
		T(test_emfile),
		T(test_move),
		T(test_move_in_mid_read),
	};
	struct loop *l;
	int fds = count_fds(), failed;

	backend = b;
	if (loop_new(b, &l, NULL) == E_UNSUPPORTED)
		return 0;
	loop_free(&l);
	failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
	if (!failed && count_fds() != fds) {
		print_error("%d descriptors leaked\n", count_fds() - fds);
		failed = 1;
	}
	return failed;
}

int main(void)
{
	int failed;

	if (!mkdtemp(dir))
		return 1;
	failed = run_all(LOOP_BACKEND_EPOLL, "epoll");
	failed += run_all(LOOP_BACKEND_SELECT, "select");
	rmdir(dir);
	return failed;
}
