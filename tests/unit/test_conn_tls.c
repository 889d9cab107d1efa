/* test_conn_tls.c - TLS streams; everything on each back end. The peer is another connection of
 * ours, with the test as the wire between them, or OpenSSL alone where ours would not misbehave. */
#include "appliance/base/base.h"
#include "appliance/base/buf.h"
#include "appliance/base/clock.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static enum loop_backend backend;
static struct loop *loop;
static bool in_call;

#define CALL(x) \
	do { \
		in_call = true; \
		x; \
		in_call = false; \
	} while (0)

struct side {
	struct conn *c;
	struct buf in;
	int datas, tls, drained, closed;
	struct err why;
	void (*on_data)(struct side *s, struct sl d);
	void (*on_tls)(struct side *s);
};

static void s_data(void *self, struct sl d)
{
	struct side *s = self;

	assert_false(in_call);
	assert_int_equal(s->closed, 0);
	s->datas++;
	assert_int_equal(buf_add(&s->in, d), 0);
	if (s->on_data)
		s->on_data(s, d);
}

static void s_tls(void *self)
{
	struct side *s = self;

	assert_false(in_call);
	s->tls++;
	if (s->on_tls)
		s->on_tls(s);
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
	s->c = NULL;
}

static const struct conn_ops side_ops = {
	.on_data = s_data,
	.on_tls = s_tls,
	.on_drained = s_drained,
	.on_closed = s_closed,
};

/* Two certificates, a server context of each, and clients that trust the first or nobody. */
static char *cert_a, *cert_b;
static struct secret key_a, key_b;
static struct tls_ctx *srv_a, *srv_b, *cli_a, *cli_any;

static struct sl key_sl(const struct secret *k)
{
	return sl_mk(k->p, k->n);
}

static void contexts_make(void)
{
	struct err e;

	tls_init();
	if (tls_self_signed("a.example,*.a.example,192.0.2.1,2001:db8::1", 30, &cert_a, &key_a,
			    &e) ||
	    tls_self_signed("b.example", 30, &cert_b, &key_b, &e) ||
	    tls_ctx_server(sl_cstr(cert_a), key_sl(&key_a), "xmpp-client,other", &srv_a, &e) ||
	    tls_ctx_server(sl_cstr(cert_b), key_sl(&key_b), NULL, &srv_b, &e) ||
	    tls_ctx_client(sl_cstr(cert_a), true, SL_NULL, SL_NULL, &cli_a, &e) ||
	    tls_ctx_client(SL_NULL, false, SL_NULL, SL_NULL, &cli_any, &e)) {
		print_error("%s\n", e.text);
		exit(1);
	}
}

static void contexts_free(void)
{
	tls_ctx_unref(&srv_a);
	tls_ctx_unref(&srv_b);
	tls_ctx_unref(&cli_a);
	tls_ctx_unref(&cli_any);
	free(cert_a);
	free(cert_b);
	secret_clear(&key_a);
	secret_clear(&key_b);
}

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
		uint64_t give_up = clock_mono_ms() + 10000; \
		while (!(cond) && clock_mono_ms() < give_up) \
			loop_turn(loop, 5); \
		assert_true(cond); \
	} while (0)

static void side_new(struct side *s, int fd, size_t out_max)
{
	*s = (struct side){ 0 };
	buf_init(&s->in, 64u << 20);
	assert_int_equal(conn_new(loop, fd, &side_ops, s, out_max, &s->c, NULL), 0);
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

static int side_on_pair(struct side *s)
{
	int p[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	side_new(s, p[0], 1u << 20);
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	return p[1];
}

static void pair_plain(struct side *a, struct side *b)
{
	int p[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	side_new(a, p[0], 1u << 20);
	side_new(b, p[1], 1u << 20);
}

static void start_tls(struct side *srv, struct tls_ctx *sctx, struct side *cli,
		      struct tls_ctx *cctx, const char *host)
{
	struct err e;

	CALL(assert_int_equal(conn_tls_server(srv->c, sctx, &e), 0));
	CALL(assert_int_equal(conn_tls_client(cli->c, cctx, host, &e), 0));
	assert_int_equal(srv->tls + cli->tls, 0);
}

static void pair_tls(struct side *srv, struct side *cli)
{
	pair_plain(srv, cli);
	start_tls(srv, srv_a, cli, cli_a, "a.example");
	TURN_UNTIL(srv->tls && cli->tls);
}

/* --- the ordinary way ----------------------------------------------------------------------- */

static void test_exchange(void **state)
{
	struct side srv, cli;
	struct conn_tls_info i;
	unsigned char x[64], y[64];
	size_t nx, ny;

	UNUSED(state);
	pair_plain(&srv, &cli);
	assert_int_equal(conn_tls_info(srv.c, &i), E_STATE);
	assert_int_equal(conn_tls_exporter(srv.c, x), E_STATE);
	assert_int_equal(conn_tls_end_point(srv.c, x, &nx), E_STATE);
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	assert_false(conn_is_tls(srv.c));
	CALL(conn_write(cli.c, SL("early"))); /* waits for the handshake */
	TURN_UNTIL(srv.tls && cli.tls && srv.in.n == 5);
	CALL(conn_write(srv.c, SL("answer")));
	TURN_UNTIL(cli.in.n == 6);
	assert_int_equal(srv.tls, 1);
	assert_int_equal(cli.tls, 1);
	assert_true(conn_is_tls(srv.c));
	assert_int_equal(conn_tls_info(srv.c, &i), 0);
	assert_string_equal(i.version, "TLSv1.3");
	assert_true(i.tls13);
	assert_int_equal(i.alpn.n, 0);
	assert_non_null(i.cipher);
	assert_int_equal(conn_tls_exporter(srv.c, x), 0);
	assert_int_equal(conn_tls_exporter(cli.c, y), 0);
	assert_memory_equal(x, y, 32);
	assert_int_equal(conn_tls_end_point(srv.c, x, &nx), 0);
	assert_int_equal(conn_tls_end_point(cli.c, y, &ny), 0);
	assert_int_equal(nx, 32);
	assert_int_equal(ny, 32);
	assert_memory_equal(x, y, 32);
	assert_int_equal(conn_tls_unique(srv.c, x, &nx), 0);
	assert_int_equal(conn_tls_unique(cli.c, y, &ny), 0);
	assert_int_equal(nx, ny);
	assert_memory_equal(x, y, nx);
	assert_int_equal(conn_tls_server(srv.c, srv_a, NULL), E_STATE); /* not twice */
	side_end(&cli);
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.why.code, E_CLOSED);
	side_end(&srv);
}

/* Graceful: all output, close_notify, then the end; the peer answers by closing. */
static void test_close(void **state)
{
	struct side srv, cli;
	static char big[1u << 19];

	UNUSED(state);
	pair_tls(&srv, &cli);
	CALL(conn_write(srv.c, sl_mk(big, sizeof(big))));
	CALL(conn_close(srv.c, 5000));
	TURN_UNTIL(cli.closed && srv.closed);
	assert_int_equal(cli.in.n, sizeof(big));
	assert_int_equal(cli.why.code, E_CLOSED);
	assert_int_equal(srv.why.code, 0);
	side_end(&srv);
	side_end(&cli);
}

static void check_verify(const char *host, struct tls_ctx *srv_ctx, bool good)
{
	struct side srv, cli;

	pair_plain(&srv, &cli);
	start_tls(&srv, srv_ctx, &cli, cli_a, host);
	TURN_UNTIL(good ? srv.tls && cli.tls : srv.closed && cli.closed);
	if (!good) {
		assert_int_equal(cli.why.code, E_AUTH);
		assert_int_equal(cli.tls, 0);
	}
	side_end(&srv);
	side_end(&cli);
}

static void test_verify(void **state)
{
	UNUSED(state);
	check_verify("a.example", srv_a, true);
	check_verify("x.a.example", srv_a, true);
	check_verify("192.0.2.1", srv_a, true);
	check_verify("2001:db8::1", srv_a, true);
	check_verify("b.example", srv_a, false);
	check_verify("192.0.2.2", srv_a, false);
	check_verify("a.example", srv_b, false); /* not trusted */
}

static void test_verify_says_why(void **state)
{
	struct side srv, cli;

	UNUSED(state);
	pair_plain(&srv, &cli);
	start_tls(&srv, srv_a, &cli, cli_a, "elsewhere.example");
	TURN_UNTIL(srv.closed && cli.closed);
	assert_non_null(strstr(cli.why.text, "ostname mismatch"));
	assert_int_equal(srv.why.code, E_AUTH); /* the client's alert */
	side_end(&srv);
	side_end(&cli);
}

/* The old context's connection lives on with the old certificate, a new one gets the new. */
static void test_reload(void **state)
{
	struct side s1, c1, s2, c2;
	struct tls_ctx *live;
	unsigned char old[64], now[64];
	size_t n;

	UNUSED(state);
	assert_int_equal(tls_ctx_server(sl_cstr(cert_a), key_sl(&key_a), NULL, &live, NULL), 0);
	pair_plain(&s1, &c1);
	start_tls(&s1, live, &c1, cli_any, "a.example");
	TURN_UNTIL(s1.tls && c1.tls);
	tls_ctx_unref(&live); /* the reload */
	assert_null(live);
	assert_int_equal(tls_ctx_server(sl_cstr(cert_b), key_sl(&key_b), NULL, &live, NULL), 0);
	pair_plain(&s2, &c2);
	start_tls(&s2, live, &c2, cli_any, "a.example");
	TURN_UNTIL(s2.tls && c2.tls);
	CALL(conn_write(c1.c, SL("still here")));
	TURN_UNTIL(s1.in.n == 10);
	assert_int_equal(conn_tls_end_point(c1.c, old, &n), 0);
	assert_int_equal(conn_tls_end_point(c2.c, now, &n), 0);
	assert_memory_not_equal(old, now, n);
	assert_int_equal(conn_tls_end_point(s1.c, now, &n), 0);
	assert_memory_equal(old, now, n);
	side_end(&s1);
	side_end(&c1);
	side_end(&s2);
	side_end(&c2);
	tls_ctx_unref(&live);
}

/* --- starttls ------------------------------------------------------------------------------- */

static void answer_starttls(struct side *s, struct sl d)
{
	struct err e;

	s->on_data = NULL;
	if (!sl_eq(d, SL("<starttls/>")))
		return;
	conn_write(s->c, SL("<proceed/>"));
	assert_int_equal(conn_tls_server(s->c, srv_a, &e), 0);
}

static void on_proceed(struct side *s, struct sl d)
{
	struct err e;

	if (sl_eq(d, SL("<proceed/>"))) {
		s->on_data = NULL;
		assert_int_equal(conn_tls_client(s->c, cli_a, "a.example", &e), 0);
	}
}

static void test_starttls(void **state)
{
	struct side srv, cli;

	UNUSED(state);
	pair_plain(&srv, &cli);
	srv.on_data = answer_starttls;
	cli.on_data = on_proceed;
	CALL(conn_write(cli.c, SL("<starttls/>")));
	TURN_UNTIL(srv.tls && cli.tls);
	CALL(conn_write(cli.c, SL("secret")));
	TURN_UNTIL(srv.in.n == 11 + 6);
	side_end(&srv);
	side_end(&cli);
}

/* The answer does not fit into the socket at first: it still goes before the handshake, in the
 * clear, and what is written after it is protected. */
static void test_starttls_answer_blocked(void **state)
{
	struct side srv, cli;
	static char filler[600000];
	int p[2];

	UNUSED(state);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	side_new(&srv, p[0], 1u << 20);
	CALL(conn_write(srv.c, sl_mk(filler, sizeof(filler))));
	turns(1);
	CALL(conn_write(srv.c, SL("<proceed/>")));
	turns(1);
	assert_true(conn_output_octets(srv.c) > 10);
	CALL(assert_int_equal(conn_tls_server(srv.c, srv_a, NULL), 0));
	CALL(conn_write(srv.c, SL("protected")));
	CALL(assert_int_equal(conn_detach(srv.c), E_STATE)); /* not in a handshake */
	side_new(&cli, p[1], 1u << 20);
	TURN_UNTIL(cli.in.n == sizeof(filler) + 10);
	turns(3);
	assert_int_equal(cli.in.n, sizeof(filler) + 10);
	assert_memory_equal(cli.in.p + cli.in.off + sizeof(filler), "<proceed/>", 10);
	CALL(assert_int_equal(conn_tls_client(cli.c, cli_a, "a.example", NULL), 0));
	TURN_UNTIL(cli.in.n == sizeof(filler) + 10 + 9);
	assert_int_equal(cli.tls, 1);
	side_end(&srv);
	side_end(&cli);
}

/* Bytes sent in the clear behind <starttls/> must not be taken as if they had come protected. */
static void test_starttls_injection(void **state)
{
	struct side srv;
	int fd = side_on_pair(&srv);
	struct err e;

	UNUSED(state);
	assert_int_equal(write(fd, "<starttls/>", 11), 11);
	turns(1);
	assert_int_equal(write(fd, "<iq/>", 5), 5);
	CALL(assert_int_equal(conn_tls_server(srv.c, srv_a, &e), E_DENIED));
	assert_non_null(strstr(e.text, "plaintext"));
	assert_false(conn_is_tls(srv.c));
	side_end(&srv);
	close(fd);
}

static void test_not_tls(void **state)
{
	struct side srv;
	int fd = side_on_pair(&srv);

	UNUSED(state);
	CALL(assert_int_equal(conn_tls_server(srv.c, srv_a, NULL), 0));
	assert_int_equal(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.why.code, E_AUTH);
	assert_int_equal(srv.datas, 0);
	side_end(&srv);
	close(fd);
}

static void test_gone_in_handshake(void **state)
{
	struct side srv, cli;

	UNUSED(state);
	pair_plain(&srv, &cli);
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	CALL(conn_write(cli.c, SL("can never go out")));
	CALL(conn_close(cli.c, 60000)); /* so this kills */
	TURN_UNTIL(srv.closed && cli.closed);
	assert_int_equal(cli.why.code, 0);
	assert_int_equal(srv.why.code, E_CLOSED);
	side_end(&srv);
	side_end(&cli);
}

/* --- what the owner does in callbacks ------------------------------------------------------- */

static void kill_self(struct side *s, struct sl d)
{
	UNUSED(d);
	CALL(conn_kill(s->c));
}

static void kill_on_tls(struct side *s)
{
	CALL(conn_kill(s->c));
}

static void test_kill_in_callbacks(void **state)
{
	struct side srv, cli;
	static char big[300000];

	UNUSED(state);
	pair_tls(&srv, &cli);
	srv.on_data = kill_self;
	CALL(conn_write(cli.c, sl_mk(big, sizeof(big))));
	TURN_UNTIL(srv.closed && cli.closed);
	assert_int_equal(srv.datas, 1);
	side_end(&srv);
	side_end(&cli);
	pair_plain(&srv, &cli);
	srv.on_tls = kill_on_tls;
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	TURN_UNTIL(srv.closed && cli.closed);
	assert_int_equal(srv.tls, 1);
	side_end(&srv);
	side_end(&cli);
}

static void pause_self(struct side *s, struct sl d)
{
	UNUSED(d);
	CALL(conn_read_pause(s->c));
}

/* Pausing stops at once though more ciphertext was read already; resuming goes on from there
 * without any new event from the kernel. */
static void test_pause(void **state)
{
	struct side srv, cli;
	static char big[500000];

	UNUSED(state);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i % 251);
	pair_tls(&srv, &cli);
	srv.on_data = pause_self;
	CALL(conn_write(cli.c, sl_mk(big, sizeof(big))));
	for (int i = 1; srv.in.n < sizeof(big); i++) {
		TURN_UNTIL(srv.datas == i);
		turns(4);
		assert_int_equal(srv.datas, i);
		CALL(conn_read_resume(srv.c));
	}
	assert_memory_equal(srv.in.p + srv.in.off, big, sizeof(big));
	/* The peer's end while paused is not lost either. */
	CALL(conn_read_pause(srv.c));
	CALL(conn_write(cli.c, SL("x")); conn_close(cli.c, 100));
	TURN_UNTIL(cli.closed);
	assert_int_equal(srv.closed, 0);
	srv.on_data = NULL;
	CALL(conn_read_resume(srv.c));
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.in.n, sizeof(big) + 1);
	assert_int_equal(srv.why.code, E_CLOSED);
	side_end(&srv);
	side_end(&cli);
}

static struct loop *second;

static void detach_self(struct side *s, struct sl d)
{
	UNUSED(d);
	s->on_data = NULL;
	CALL(assert_int_equal(conn_write(s->c, SL("moved")), 0));
	CALL(assert_int_equal(conn_detach(s->c), 0));
}

/* Moved out of its own on_data while records are read and not yet opened. */
static void test_move(void **state)
{
	struct side srv, cli;
	static char big[200000];

	UNUSED(state);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i % 251);
	assert_int_equal(loop_new(backend, &second, NULL), 0);
	pair_tls(&srv, &cli);
	srv.on_data = detach_self;
	CALL(conn_write(cli.c, sl_mk(big, sizeof(big))));
	TURN_UNTIL(srv.datas == 1);
	assert_null(conn_loop(srv.c));
	turns(5);
	assert_int_equal(srv.datas, 1);
	assert_true(srv.in.n < sizeof(big));
	assert_int_equal(cli.in.n, 0);
	CALL(assert_int_equal(conn_attach(srv.c, second, &side_ops, &srv, NULL), 0));
	while (srv.in.n < sizeof(big)) {
		loop_turn(second, 5);
		loop_turn(loop, 0);
	}
	assert_memory_equal(srv.in.p + srv.in.off, big, sizeof(big));
	TURN_UNTIL(cli.in.n == 5);
	CALL(assert_int_equal(conn_detach(srv.c), 0));
	conn_drop(&srv.c);
	TURN_UNTIL(cli.closed);
	side_end(&srv);
	side_end(&cli);
	loop_free(&second);
}

/* --- the wire ------------------------------------------------------------------------------- */

/* Carry up to n octets from a to b. */
static size_t carry(int a, int b, size_t n)
{
	char t[4096];
	ssize_t r = read(a, t, n < sizeof(t) ? n : sizeof(t));

	if (r <= 0)
		return 0;
	assert_int_equal(write(b, t, (size_t)r), r);
	return (size_t)r;
}

/* step 0: random pieces, else that many octets at a time. */
static void exchange_in_pieces(size_t step)
{
	struct side srv, cli;
	int a = side_on_pair(&srv), b = side_on_pair(&cli);
	char text[3000];

	rnd_bytes(text, sizeof(text));
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	for (int i = 0; cli.in.n < sizeof(text) || srv.in.n < sizeof(text); i++) {
		size_t n = step ? step : rnd_u64() % 200;

		if (cli.tls && srv.tls && conn_output_octets(cli.c) == 0 && i % 2)
			conn_flush(cli.c);
		if (i == 5) {
			CALL(conn_write(srv.c, sl_mk(text, sizeof(text))));
			CALL(conn_write(cli.c, sl_mk(text, sizeof(text))));
		}
		turns(1);
		carry(a, b, n);
		carry(b, a, n);
		assert_true(i < 1000000);
	}
	assert_memory_equal(cli.in.p + cli.in.off, text, sizeof(text));
	assert_memory_equal(srv.in.p + srv.in.off, text, sizeof(text));
	side_end(&srv);
	side_end(&cli);
	close(a);
	close(b);
}

static void test_pieces(void **state)
{
	UNUSED(state);
	exchange_in_pieces(1);
	exchange_in_pieces(7);
	for (int i = 0; i < 20; i++)
		exchange_in_pieces(0);
}

static void take_octets(int fd, size_t n)
{
	char t[4096];

	while (n) {
		ssize_t r = read(fd, t, n < sizeof(t) ? n : sizeof(t));

		if (r > 0)
			n -= (size_t)r;
		loop_turn(loop, 1);
	}
}

static void shuttle_until_tls(struct side *srv, int a, struct side *cli, int b)
{
	for (int i = 0; !srv->tls || !cli->tls; i++) {
		turns(1);
		carry(a, b, 4096);
		carry(b, a, 4096);
		assert_true(i < 1000);
	}
}

/* The kernel takes nothing when the server wants to answer the ClientHello: it goes on when it
 * does. */
static void test_handshake_blocked(void **state)
{
	struct side srv, cli;
	int a = side_on_pair(&srv), b = side_on_pair(&cli);
	size_t filler = 0;

	UNUSED(state);
	while (write(conn_fd(srv.c), "x", 1) == 1)
		filler++;
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	turns(1);
	assert_true(carry(b, a, 4096) > 100);
	turns(5);
	assert_int_equal(srv.closed, 0);
	take_octets(a, filler);
	shuttle_until_tls(&srv, a, &cli, b);
	side_end(&srv);
	side_end(&cli);
	close(a);
	close(b);
}

/* The ClientHello is there before our last words in the clear are out: it waits for them. */
static void test_early_client(void **state)
{
	struct side srv, cli;
	int a = side_on_pair(&srv), b = side_on_pair(&cli);
	static char filler[600000];

	UNUSED(state);
	CALL(conn_write(srv.c, sl_mk(filler, sizeof(filler))));
	turns(1);
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	turns(1);
	assert_true(carry(b, a, 4096) > 100);
	turns(5);
	assert_true(conn_output_octets(srv.c) > 0);
	uint64_t t0 = clock_mono_ms();
	loop_turn(loop, 30); /* and does not spin meanwhile */
	assert_true(clock_mono_ms() - t0 >= 29);
	take_octets(a, sizeof(filler));
	shuttle_until_tls(&srv, a, &cli, b);
	side_end(&srv);
	side_end(&cli);
	close(a);
	close(b);
}

/* A record changed on the way: an error, and nothing of it is delivered. */
static void test_changed_record(void **state)
{
	struct side srv, cli;
	int a = side_on_pair(&srv), b = side_on_pair(&cli);
	char t[4096];
	ssize_t n;

	UNUSED(state);
	start_tls(&srv, srv_a, &cli, cli_a, "a.example");
	while (!srv.tls || !cli.tls) {
		turns(1);
		carry(a, b, 4096);
		carry(b, a, 4096);
	}
	CALL(conn_write(cli.c, SL("attack at dawn")));
	turns(1);
	n = read(b, t, sizeof(t));
	assert_true(n > 20);
	t[n - 3] ^= 1;
	assert_int_equal(write(a, t, (size_t)n), n);
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.datas, 0);
	assert_int_equal(srv.why.code, E_IO);
	side_end(&srv);
	side_end(&cli);
	close(a);
	close(b);
}

/* Both sides send megabytes and read in fits: everything arrives once and in order. */
static void test_bulk(void **state)
{
	enum { TOTAL = 6 << 20 };
	struct side x[2];
	static char data[TOTAL];
	size_t sent[2] = { 0, 0 };

	UNUSED(state);
	rnd_bytes(data, sizeof(data));
	pair_tls(&x[0], &x[1]);
	for (int k = 0; k < 2; k++) {
		buf_init(&x[k].in, TOTAL);
		conn_set_output_max(x[k].c, 120000);
	}
	while (x[0].in.n < TOTAL || x[1].in.n < TOTAL) {
		for (int k = 0; k < 2; k++) {
			size_t n = rnd_u64() % 100000;

			if (n > TOTAL - sent[k])
				n = TOTAL - sent[k];
			if (conn_write(x[k].c, sl_mk(data + sent[k], n)) == 0)
				sent[k] += n;
			if (rnd_u64() % 8 == 0)
				conn_read_pause(x[k].c);
			if (rnd_u64() % 4 == 0)
				conn_read_resume(x[k].c);
		}
		turns(1);
		assert_int_equal(x[0].closed + x[1].closed, 0);
	}
	for (int k = 0; k < 2; k++)
		assert_memory_equal(x[k].in.p + x[k].in.off, data, TOTAL);
	assert_true(x[0].drained > 0);
	side_end(&x[0]);
	side_end(&x[1]);
}

/* The peer is gone, and we write: E_CLOSED or E_IO, no SIGPIPE. */
static void test_write_after_gone(void **state)
{
	struct side srv, cli;

	UNUSED(state);
	pair_tls(&srv, &cli);
	CALL(conn_read_pause(srv.c));
	side_end(&cli);
	CALL(conn_write(srv.c, SL("x")));
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.why.code, E_CLOSED);
	side_end(&srv);
}

/* --- against OpenSSL alone ------------------------------------------------------------------ */

struct raw {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
};

static void raw_new(struct raw *r, int fd, int max_version)
{
	r->fd = fd;
	r->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_security_level(r->ctx, 0);
	SSL_CTX_set_min_proto_version(r->ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(r->ctx, max_version);
	SSL_CTX_set_cipher_list(r->ctx, "ALL:@SECLEVEL=0");
	r->ssl = SSL_new(r->ctx);
	SSL_set_fd(r->ssl, fd);
	SSL_set_connect_state(r->ssl);
}

static void raw_end(struct raw *r)
{
	SSL_free(r->ssl);
	SSL_CTX_free(r->ctx);
	close(r->fd);
	ERR_clear_error();
}

/* 1: done; 0: refused. */
static int raw_handshake(struct raw *r)
{
	for (int i = 0; i < 1000; i++) {
		int rc = SSL_do_handshake(r->ssl);

		if (rc == 1)
			return 1;
		rc = SSL_get_error(r->ssl, rc);
		if (rc != SSL_ERROR_WANT_READ && rc != SSL_ERROR_WANT_WRITE)
			return 0;
		loop_turn(loop, 1);
	}
	return 0;
}

static int raw_read(struct raw *r, char *dst, int n)
{
	for (int i = 0; i < 1000; i++) {
		int rc = SSL_read(r->ssl, dst, n);

		if (rc > 0 || SSL_get_error(r->ssl, rc) != SSL_ERROR_WANT_READ)
			return rc;
		loop_turn(loop, 1);
	}
	return -1;
}

static void raw_server(struct side *srv, struct raw *r, int max_version)
{
	raw_new(r, side_on_pair(srv), max_version);
	CALL(assert_int_equal(conn_tls_server(srv->c, srv_a, NULL), 0));
}

static void test_tls12(void **state)
{
	struct side srv;
	struct raw r;
	struct conn_tls_info i;
	unsigned char x[64], y[64];
	size_t n;
	char b[8];

	UNUSED(state);
	raw_server(&srv, &r, TLS1_2_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	TURN_UNTIL(srv.tls);
	assert_int_equal(conn_tls_info(srv.c, &i), 0);
	assert_string_equal(i.version, "TLSv1.2");
	assert_false(i.tls13);
	assert_non_null(strstr(i.cipher, "ECDHE"));
	assert_int_equal(conn_tls_exporter(srv.c, x), E_UNSUPPORTED);
	assert_int_equal(conn_tls_end_point(srv.c, x, &n), 0);
	assert_int_equal(conn_tls_unique(srv.c, x, &n), 0);
	assert_int_equal(n, SSL_get_finished(r.ssl, y, sizeof(y))); /* the client's is the first */
	assert_memory_equal(x, y, n);
	assert_int_equal(SSL_write(r.ssl, "abc", 3), 3);
	TURN_UNTIL(srv.in.n == 3);
	CALL(conn_write(srv.c, SL("def")));
	assert_int_equal(raw_read(&r, b, sizeof(b)), 3);
	raw_end(&r);
	TURN_UNTIL(srv.closed);
	side_end(&srv);
}

static void test_tls11_refused(void **state)
{
	struct side srv;
	struct raw r;

	UNUSED(state);
	raw_server(&srv, &r, TLS1_1_VERSION);
	assert_int_equal(raw_handshake(&r), 0);
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.why.code, E_AUTH);
	assert_non_null(strstr(srv.why.text, "protocol"));
	assert_int_equal(srv.tls, 0);
	raw_end(&r);
	side_end(&srv);
}

static void test_weak_cipher_refused(void **state)
{
	struct side srv;
	struct raw r;

	UNUSED(state);
	raw_server(&srv, &r, TLS1_2_VERSION);
	assert_int_equal(SSL_set_cipher_list(r.ssl, "AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA"),
			 1);
	assert_int_equal(raw_handshake(&r), 0);
	TURN_UNTIL(srv.closed);
	raw_end(&r);
	side_end(&srv);
}

static void test_renegotiation_refused(void **state)
{
	struct side srv;
	struct raw r;
	char b[8];

	UNUSED(state);
	raw_server(&srv, &r, TLS1_2_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	TURN_UNTIL(srv.tls);
	assert_int_equal(SSL_renegotiate(r.ssl), 1);
	assert_int_equal(raw_handshake(&r), 0);
	assert_true(raw_read(&r, b, sizeof(b)) <= 0);
	assert_int_equal(srv.tls, 1);
	raw_end(&r);
	TURN_UNTIL(srv.closed);
	side_end(&srv);
}

static int alpn_handshake(const char *wire, unsigned n, struct sl expect)
{
	struct conn_tls_info i;
	struct side srv;
	struct raw r;
	int rc;

	raw_server(&srv, &r, TLS1_3_VERSION);
	if (n)
		SSL_set_alpn_protos(r.ssl, (const unsigned char *)wire, n);
	rc = raw_handshake(&r);
	turns(3);
	if (srv.c && conn_tls_info(srv.c, &i) == 0)
		assert_true(sl_eq(i.alpn, expect));
	else
		rc = 0;
	raw_end(&r);
	side_end(&srv);
	return rc;
}

static void test_alpn(void **state)
{
	UNUSED(state);
	assert_int_equal(alpn_handshake("\x0bxmpp-client", 12, SL("xmpp-client")), 1);
	assert_int_equal(alpn_handshake("\x02h2\x05other", 9, SL("other")), 1);
	assert_int_equal(alpn_handshake("", 0, SL_NULL), 1);
	assert_int_equal(alpn_handshake("\x02h2", 3, SL_NULL), 0);
}

static void test_key_update(void **state)
{
	struct side srv;
	struct raw r;
	char b[8];

	UNUSED(state);
	raw_server(&srv, &r, TLS1_3_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	for (size_t i = 1; i <= 5; i++) {
		assert_int_equal(SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_write(r.ssl, "x", 1), 1);
		TURN_UNTIL(srv.in.n == i);
		CALL(conn_write(srv.c, SL("y")));
		assert_int_equal(raw_read(&r, b, sizeof(b)), 1);
	}
	raw_end(&r);
	TURN_UNTIL(srv.closed);
	side_end(&srv);
}

static SSL_SESSION *ticket;

static int got_ticket(SSL *ssl, SSL_SESSION *s)
{
	UNUSED(ssl);
	SSL_SESSION_free(ticket);
	ticket = s;
	return 1;
}

/* A client that comes back with its ticket is spared the signature; the bindings still work. */
static void test_resumption(void **state)
{
	struct side srv;
	struct raw r;
	unsigned char x[64], y[64], z[64], own[64];
	char b[8];
	size_t n;

	UNUSED(state);
	ticket = NULL;
	for (int i = 0; i < 2; i++) {
		raw_server(&srv, &r, TLS1_3_VERSION);
		SSL_CTX_set_session_cache_mode(r.ctx,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(r.ctx, got_ticket);
		if (ticket)
			SSL_set_session(r.ssl, ticket);
		assert_int_equal(raw_handshake(&r), 1);
		TURN_UNTIL(srv.tls);
		CALL(conn_write(srv.c, SL("x")));
		assert_int_equal(raw_read(&r, b, 1), 1);
		assert_non_null(ticket);
		assert_int_equal(SSL_session_reused(r.ssl), i);
		assert_int_equal(conn_tls_exporter(srv.c, i ? y : x), 0);
		assert_int_equal(conn_tls_end_point(srv.c, z, &n), 0);
		assert_int_equal(conn_tls_unique(srv.c, z, &n), 0);
		if (i) /* resumed: the server's Finished is the first */
			assert_int_equal(n, SSL_get_peer_finished(r.ssl, own, sizeof(own)));
		else
			assert_int_equal(n, SSL_get_finished(r.ssl, own, sizeof(own)));
		assert_memory_equal(z, own, n);
		SSL_shutdown(r.ssl);
		raw_end(&r);
		TURN_UNTIL(srv.closed);
		side_end(&srv);
	}
	assert_memory_not_equal(x, y, 32);
	SSL_SESSION_free(ticket);
}

/* The end of TCP without close_notify is an end too. */
static void test_no_close_notify(void **state)
{
	struct side srv;
	struct raw r;

	UNUSED(state);
	raw_server(&srv, &r, TLS1_3_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	assert_int_equal(SSL_write(r.ssl, "last", 4), 4);
	raw_end(&r);
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.in.n, 4);
	assert_int_equal(srv.why.code, E_CLOSED);
	side_end(&srv);
}

/* close_notify in the same read as data at which the owner pauses: reported when it goes on, though
 * the peer keeps its TCP open. */
static void test_close_notify_while_paused(void **state)
{
	struct side srv;
	struct raw r;

	UNUSED(state);
	raw_server(&srv, &r, TLS1_3_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	TURN_UNTIL(srv.tls);
	srv.on_data = pause_self;
	assert_int_equal(SSL_write(r.ssl, "last", 4), 4);
	SSL_shutdown(r.ssl);
	TURN_UNTIL(srv.in.n == 4);
	turns(3);
	assert_int_equal(srv.closed, 0);
	CALL(conn_read_resume(srv.c));
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.why.code, E_CLOSED);
	raw_end(&r);
	side_end(&srv);
}

/* We say close_notify when we close, and answer the peer's. */
static void test_close_notify_seen(void **state)
{
	struct side srv;
	struct raw r;
	char b[8];

	UNUSED(state);
	raw_server(&srv, &r, TLS1_3_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	TURN_UNTIL(srv.tls);
	CALL(conn_write(srv.c, SL("bye")); conn_close(srv.c, 1000));
	assert_int_equal(raw_read(&r, b, sizeof(b)), 3);
	int rc = raw_read(&r, b, sizeof(b));
	assert_int_equal(SSL_get_error(r.ssl, rc), SSL_ERROR_ZERO_RETURN);
	raw_end(&r);
	TURN_UNTIL(srv.closed);
	side_end(&srv);
	raw_server(&srv, &r, TLS1_3_VERSION);
	assert_int_equal(raw_handshake(&r), 1);
	SSL_shutdown(r.ssl);
	TURN_UNTIL(srv.closed);
	assert_int_equal(srv.why.code, E_CLOSED);
	rc = raw_read(&r, b, sizeof(b));
	assert_int_equal(SSL_get_error(r.ssl, rc), SSL_ERROR_ZERO_RETURN);
	raw_end(&r);
	side_end(&srv);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run_all(enum loop_backend b, const char *name)
{
	const struct CMUnitTest tests[] = {
		T(test_exchange),
		T(test_close),
		T(test_verify),
		T(test_verify_says_why),
		T(test_reload),
		T(test_starttls),
		T(test_starttls_answer_blocked),
		T(test_starttls_injection),
		T(test_not_tls),
		T(test_gone_in_handshake),
		T(test_kill_in_callbacks),
		T(test_pause),
		T(test_move),
		T(test_pieces),
		T(test_handshake_blocked),
		T(test_early_client),
		T(test_changed_record),
		T(test_bulk),
		T(test_write_after_gone),
		T(test_tls12),
		T(test_tls11_refused),
		T(test_weak_cipher_refused),
		T(test_renegotiation_refused),
		T(test_alpn),
		T(test_key_update),
		T(test_resumption),
		T(test_no_close_notify),
		T(test_close_notify_while_paused),
		T(test_close_notify_seen),
	};
	struct loop *l;

	backend = b;
	if (loop_new(b, &l, NULL) == E_UNSUPPORTED)
		return 0;
	loop_free(&l);
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	int failed;

	contexts_make();
	failed = run_all(LOOP_BACKEND_EPOLL, "epoll");
	failed += run_all(LOOP_BACKEND_SELECT, "select");
	contexts_free();
	return failed;
}
