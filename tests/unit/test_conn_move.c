/* test_conn_move.c - connections that move between loops in different threads while bytes are in
 * flight, plain and TLS. Run under TSan too.
 *
 * Two worker threads each run a loop. A connection echoes what it gets and asks to be moved now and
 * then, in the middle of its own on_data; it travels through the other worker's mailbox as the
 * product does it. The test's own thread is the client: it writes a pipelined stream and checks the
 * echo. */
#include "appliance/base/base.h"
#include "appliance/base/clock.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/tls.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define CONNS  6
#define OCTETS (200u * 1024u)
#define WINDOW 3000u /* many small reads, so many moves */

struct worker {
	pthread_t thread;
	struct loop *loop;
	pthread_mutex_t lock;
	struct mover *mail; /* arrived, newest first */
	_Atomic bool stop;
	int here;
};

/* A connection on the server's side. */
struct mover {
	struct conn *c;
	struct worker *at;
	struct mover *next;
	uint64_t seen;
	unsigned moves, seed;
	bool gone;
};

static enum loop_backend backend;
static struct worker worker[2];
static struct tls_ctx *srv, *cli;
static _Atomic unsigned total_moves, total_gone;

static void post(struct worker *w, struct mover *m)
{
	pthread_mutex_lock(&w->lock);
	m->next = w->mail;
	w->mail = m;
	pthread_mutex_unlock(&w->lock);
	loop_wake(w->loop);
}

/* Every move but the first leaves from inside on_data, with the echo unsent and more bytes under
 * way. */
static void m_data(void *self, struct sl d)
{
	struct mover *m = self;
	struct worker *to = m->at == &worker[0] ? &worker[1] : &worker[0];

	if (m->at->loop != conn_loop(m->c))
		abort();
	m->seen += d.n;
	if (conn_write(m->c, d) < 0)
		abort(); /* the limit is above all that the test sends */
	m->seed = m->seed * 1103515245u + 12345u;
	if ((m->seed >> 16) % 4 != 0 || conn_detach(m->c) < 0)
		return;
	m->at->here--;
	m->moves++;
	atomic_fetch_add(&total_moves, 1);
	post(to, m); /* from here on it is the other thread's */
}

static void m_tls(void *self)
{
	UNUSED(self);
}

static void m_closed(void *self, const struct err *why)
{
	struct mover *m = self;

	if (why->code != E_CLOSED)
		abort();
	m->at->here--;
	m->gone = true;
	atomic_fetch_add(&total_gone, 1);
}

static const struct conn_ops mover_ops = {
	.on_data = m_data,
	.on_tls = m_tls,
	.on_closed = m_closed,
};

static void take_mail(void *arg)
{
	struct worker *w = arg;
	struct mover *m;

	pthread_mutex_lock(&w->lock);
	m = w->mail;
	w->mail = NULL;
	pthread_mutex_unlock(&w->lock);
	while (m) {
		struct mover *next = m->next;

		m->at = w;
		w->here++;
		if (conn_attach(m->c, w->loop, &mover_ops, m, NULL) < 0)
			abort();
		m = next;
	}
	if (atomic_load(&w->stop) && w->here == 0)
		loop_stop(w->loop);
}

static void *work(void *arg)
{
	loop_run(((struct worker *)arg)->loop);
	return NULL;
}

static void workers_start(void)
{
	for (int i = 0; i < 2; i++) {
		worker[i] = (struct worker){ .lock = PTHREAD_MUTEX_INITIALIZER };
		assert_int_equal(loop_new(backend, &worker[i].loop, NULL), 0);
		loop_on_wake(worker[i].loop, take_mail, &worker[i]);
		pthread_create(&worker[i].thread, NULL, work, &worker[i]);
	}
}

static void workers_end(void)
{
	for (int i = 0; i < 2; i++) {
		atomic_store(&worker[i].stop, true);
		loop_wake(worker[i].loop);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(worker[i].thread, NULL);
		loop_free(&worker[i].loop);
	}
}

/* --- the client's side ---------------------------------------------------------------------- */

struct client {
	struct conn *c;
	uint64_t sent, got;
	bool tls;
	int closed;
};

static char byte_at(uint64_t i)
{
	return (char)(i % 251);
}

static void c_data(void *self, struct sl d)
{
	struct client *x = self;

	for (size_t i = 0; i < d.n; i++)
		if (d.p[i] != byte_at(x->got + i))
			fail_msg("octet %zu of the echo is wrong", (size_t)x->got + i);
	x->got += d.n;
}

static void c_tls(void *self)
{
	((struct client *)self)->tls = true;
}

static void c_closed(void *self, const struct err *why)
{
	UNUSED(why);
	((struct client *)self)->closed++;
}

static const struct conn_ops client_ops = {
	.on_data = c_data,
	.on_tls = c_tls,
	.on_closed = c_closed,
};

/* A few stanza-sized pieces without waiting for their echo. */
static void send_some(struct client *x)
{
	char piece[700];

	while (x->sent < OCTETS && x->sent - x->got < WINDOW) {
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = byte_at(x->sent + i);
		if (conn_write(x->c, sl_mk(piece, sizeof(piece))) < 0)
			return;
		x->sent += sizeof(piece);
	}
}

static void client_start(struct loop *l, struct client *x, struct mover *m, bool tls, unsigned seed)
{
	int p[2];

	*x = (struct client){ 0 };
	*m = (struct mover){ .seed = seed };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	assert_int_equal(conn_new(l, p[0], &client_ops, x, 1u << 20, &x->c, NULL), 0);
	/* The server's end begins in this thread and moves after the handshake. */
	assert_int_equal(conn_new(l, p[1], &mover_ops, m, 4u << 20, &m->c, NULL), 0);
	if (!tls)
		return;
	assert_int_equal(conn_tls_server(m->c, srv, NULL), 0);
	assert_int_equal(conn_tls_client(x->c, cli, "move.example", NULL), 0);
	while (!x->tls || !conn_is_tls(m->c))
		loop_turn(l, 10);
}

static bool all_echoed(const struct client *x)
{
	for (int i = 0; i < CONNS; i++)
		if (x[i].sent < OCTETS || x[i].got < x[i].sent)
			return false;
	return true;
}

static void move_about(bool tls)
{
	static struct client x[CONNS];
	static struct mover m[CONNS];
	struct loop *l;
	uint64_t give_up = clock_mono_ms() + 60000;

	atomic_store(&total_moves, 0);
	atomic_store(&total_gone, 0);
	assert_int_equal(loop_new(backend, &l, NULL), 0);
	workers_start();
	for (int i = 0; i < CONNS; i++) {
		client_start(l, &x[i], &m[i], tls, (unsigned)i);
		send_some(&x[i]); /* pipelined: already on the way when it moves */
		conn_flush(x[i].c);
		assert_int_equal(conn_detach(m[i].c), 0);
		post(&worker[i % 2], &m[i]);
	}
	while (!all_echoed(x) && clock_mono_ms() < give_up) {
		for (int i = 0; i < CONNS; i++)
			send_some(&x[i]);
		loop_turn(l, 5);
	}
	assert_true(all_echoed(x));
	assert_true(atomic_load(&total_moves) > 8 * CONNS);
	for (int i = 0; i < CONNS; i++)
		conn_close(x[i].c, 100);
	while (atomic_load(&total_gone) < CONNS && clock_mono_ms() < give_up)
		loop_turn(l, 5);
	workers_end();
	for (int i = 0; i < CONNS; i++) {
		while (!x[i].closed)
			loop_turn(l, 5);
		assert_true(m[i].gone);
		assert_int_equal(m[i].seen, x[i].sent);
	}
	loop_free(&l);
}

static void test_plain(void **state)
{
	UNUSED(state);
	move_about(false);
}

static void test_tls(void **state)
{
	UNUSED(state);
	move_about(true);
}

static int run_all(enum loop_backend b, const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_tls),
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
	struct secret key = { 0 };
	char *cert;
	int failed;

	tls_init();
	if (tls_self_signed("move.example", 2, &cert, &key, NULL) < 0 ||
	    tls_ctx_server(sl_cstr(cert), sl_mk(key.p, key.n), NULL, &srv, NULL) < 0 ||
	    tls_ctx_client(sl_cstr(cert), true, SL_NULL, SL_NULL, &cli, NULL) < 0)
		return 1;
	failed = run_all(LOOP_BACKEND_EPOLL, "epoll");
	failed += run_all(LOOP_BACKEND_SELECT, "select");
	tls_ctx_unref(&srv);
	tls_ctx_unref(&cli);
	free(cert);
	secret_clear(&key);
	return failed;
}
