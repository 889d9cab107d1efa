/* test_resolve.c - the resolver against a name server of the test, and the hosts file's parser. */
#include "appliance/base/base.h"
#include "appliance/base/clock.h"
#include "appliance/base/cursor.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/hosts.h"
#include "appliance/loop/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static enum loop_backend backend;
static struct loop *loop;
static struct resolver *resolver;

/* --- a name server -------------------------------------------------------------------------- */

static struct loop_fd server;
static int queries;

enum { TYPE_A = 1, TYPE_AAAA = 28 };

/* The question's name as "a.b"; its octets on the wire. */
static size_t read_name(struct sl q, char *dst)
{
	size_t at = 0, n = 0;

	while (at < q.n && q.p[at]) {
		size_t len = (unsigned char)q.p[at++];

		memcpy(dst + n, q.p + at, len);
		n += len;
		dst[n++] = '.';
		at += len;
	}
	dst[n ? n - 1 : 0] = '\0';
	return at + 1;
}

static void answer(struct wr *w, unsigned type, const char *name)
{
	static const unsigned char v4[4] = { 192, 0, 2, 7 };
	static const unsigned char v6[16] = { 0x20, 1, 0x0d, 0xb8, [15] = 7 };
	bool is4 = type == TYPE_A;

	UNUSED(name);
	wr_u16(w, 0xc00c); /* the question's name */
	wr_u16(w, type);
	wr_u16(w, 1);
	wr_u32(w, 60);
	wr_u16(w, is4 ? 4 : 16);
	wr_bytes(w, is4 ? sl_mk((const char *)v4, 4) : sl_mk((const char *)v6, 16));
}

static void reply(struct sl q, const struct sockaddr_in *to)
{
	char name[256], out[512];
	size_t qn = read_name(sl_sub(q, 12, q.n), name) + 4;
	unsigned type = (unsigned char)q.p[12 + qn - 3];
	struct wr w = wr_init(out, sizeof(out));
	unsigned flags = 0x8180, answers = 1;

	if (strncmp(name, "dead", 4) == 0)
		return;
	if (strncmp(name, "nx", 2) == 0) {
		flags |= 3;
		answers = 0;
	} else if (strncmp(name, "fail", 4) == 0) {
		flags |= 2;
		answers = 0;
	} else if (strncmp(name, "empty", 5) == 0 ||
		   (strncmp(name, "v4", 2) == 0 && type != TYPE_A) ||
		   (strncmp(name, "v6", 2) == 0 && type != TYPE_AAAA)) {
		answers = 0;
	}
	wr_bytes(&w, sl_sub(q, 0, 2));
	wr_u16(&w, flags);
	wr_u16(&w, 1);
	wr_u16(&w, answers);
	wr_u32(&w, 0);
	wr_bytes(&w, sl_sub(q, 12, 12 + qn));
	if (answers)
		answer(&w, type, name);
	assert_false(w.bad);
	sendto(server.fd, out, w.n, 0, (const struct sockaddr *)to, sizeof(*to));
}

static void server_ready(struct loop_fd *lf, unsigned ready)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char q[512];
	ssize_t n = recvfrom(lf->fd, q, sizeof(q), 0, (struct sockaddr *)&from, &len);

	UNUSED(ready);
	queries++;
	if (n > 16)
		reply(sl_mk(q, (size_t)n), &from);
}

static int setup(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t n = sizeof(sa);
	char where[64];
	struct err e;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	UNUSED(state);
	queries = 0;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
		return -1;
	snprintf(where, sizeof(where), "127.0.0.1:%u", ntohs(sa.sin_port));
	if (loop_new(backend, &loop, &e) < 0 ||
	    loop_fd_add(loop, &server, fd, LOOP_READ, server_ready, &e) < 0 ||
	    resolver_new(loop, &resolver, &e) < 0 ||
	    resolver_tune(resolver, where, 150, 2, &e) < 0) {
		print_error("%s\n", e.text);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	resolver_free(&resolver);
	loop_fd_del(&server);
	close(server.fd);
	loop_free(&loop);
	return 0;
}

/* --- requests ------------------------------------------------------------------------------- */

struct ask {
	int calls, rc, v4, v6;
	char first[INET6_ADDRSTRLEN];
	uint16_t port;
	bool free_resolver;
};

static bool in_call;

static void got(void *arg, int rc, const struct addrinfo *addr)
{
	struct ask *a = arg;

	assert_false(in_call);
	a->calls++;
	a->rc = rc;
	if (rc < 0)
		assert_null(addr);
	for (; addr; addr = addr->ai_next) {
		const void *sa = addr->ai_addr;
		const struct sockaddr_in *in = sa;
		const struct sockaddr_in6 *in6 = sa;
		bool is4 = addr->ai_family == AF_INET;

		a->v4 += is4;
		a->v6 += !is4;
		a->port = ntohs(is4 ? in->sin_port : in6->sin6_port);
		if (!a->first[0])
			inet_ntop(addr->ai_family,
				  is4 ? (const void *)&in->sin_addr : &in6->sin6_addr, a->first,
				  sizeof(a->first));
	}
	if (a->free_resolver)
		resolver_free(&resolver);
}

static struct resolve_req *ask_for(struct ask *a, const char *host)
{
	struct resolve_req *q;

	*a = (struct ask){ 0 };
	in_call = true;
	q = resolve(resolver, host, 5269, got, a);
	in_call = false;
	assert_non_null(q);
	assert_int_equal(a->calls, 0);
	return q;
}

static void wait_for(struct ask *a)
{
	uint64_t give_up = clock_mono_ms() + 5000;

	while (!a->calls && clock_mono_ms() < give_up)
		loop_turn(loop, 20);
	assert_int_equal(a->calls, 1);
}

static void check(const char *host, int rc, int v4, int v6)
{
	struct ask a;

	ask_for(&a, host);
	wait_for(&a);
	assert_int_equal(a.rc, rc);
	assert_int_equal(a.v4, v4);
	assert_int_equal(a.v6, v6);
	if (rc == 0)
		assert_int_equal(a.port, 5269);
}

static void test_known_without_query(void **state)
{
	struct ask a;

	UNUSED(state);
	check("192.0.2.1", 0, 1, 0);
	check("2001:db8::1", 0, 0, 1);
	ask_for(&a, "localhost");
	wait_for(&a);
	assert_int_equal(a.rc, 0);
	assert_true(a.v4 + a.v6 >= 1);
	assert_true(strcmp(a.first, "127.0.0.1") == 0 || strcmp(a.first, "::1") == 0);
	check("", E_NOTFOUND, 0, 0);
	char name[400];
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	check(name, E_NOTFOUND, 0, 0);
	assert_int_equal(queries, 0);
}

static void test_answers(void **state)
{
	UNUSED(state);
	check("both.test.", 0, 1, 1);
	check("v4.test.", 0, 1, 0);
	check("v6.test.", 0, 0, 1);
	check("nx.test.", E_NOTFOUND, 0, 0);
	check("empty.test.", E_NOTFOUND, 0, 0);
	assert_true(queries >= 10);
}

static void test_failures(void **state)
{
	struct ask a;

	UNUSED(state);
	check("fail.test.", E_AGAIN, 0, 0);
	uint64_t t0 = clock_mono_ms();
	ask_for(&a, "dead.test.");
	wait_for(&a);
	assert_int_equal(a.rc, E_TIMEOUT);
	assert_true(clock_mono_ms() - t0 >= 150);
	/* And the resolver still works. */
	check("v4.test.", 0, 1, 0);
}

static void test_many_at_once(void **state)
{
	static struct ask a[100];

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(a); i++)
		ask_for(&a[i], i % 2 ? "both.test." : "192.0.2.1");
	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		wait_for(&a[i]);
		assert_int_equal(a[i].rc, 0);
	}
}

static void test_cancel(void **state)
{
	struct ask a, b, c;

	UNUSED(state);
	resolve_cancel(ask_for(&a, "both.test."));
	resolve_cancel(ask_for(&b, "192.0.2.1"));
	ask_for(&c, "v6.test.");
	wait_for(&c);
	for (int i = 0; i < 5; i++)
		loop_turn(loop, 10);
	assert_int_equal(a.calls, 0);
	assert_int_equal(b.calls, 0);
}

static void test_free_with_requests(void **state)
{
	struct ask a, b, c;
	struct err e;

	UNUSED(state);
	ask_for(&a, "dead.test.");
	ask_for(&b, "192.0.2.1");
	resolve_cancel(ask_for(&c, "dead.test."));
	assert_int_equal(resolver_tune(resolver, NULL, 100, 1, &e), E_STATE);
	resolver_free(&resolver);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.rc, E_CLOSED);
	assert_int_equal(b.calls, 1);
	assert_int_equal(b.rc, E_CLOSED);
	assert_int_equal(c.calls, 0);
	loop_turn(loop, 0);
}

static void test_free_in_callback(void **state)
{
	struct ask a, b;

	UNUSED(state);
	ask_for(&a, "v4.test.");
	a.free_resolver = true;
	ask_for(&b, "dead.test.");
	wait_for(&a);
	assert_null(resolver);
	assert_int_equal(b.calls, 1);
	assert_int_equal(b.rc, E_CLOSED);
}

static void test_tune_refuses(void **state)
{
	struct err e;

	UNUSED(state);
	assert_true(resolver_tune(resolver, "not a server", 100, 1, &e) < 0);
	check("v4.test.", 0, 1, 0); /* the old setting holds */
}

/* --- the hosts file ------------------------------------------------------------------------- */

static void test_hosts(void **state)
{
	static const char text[] = "127.0.0.1\tlocalhost Loghost # comment\n"
				   "# 192.0.2.9 no\n"
				   "\n"
				   "::1 localhost\r\n"
				   "nonsense here\n"
				   "192.0.2.300 bad\n"
				   "2001:db8::5   core.EXAMPLE  core\n"
				   "192.0.2.5 core"; /* no newline */
	const struct host_addr *a;
	struct hosts h;

	UNUSED(state);
	assert_int_equal(hosts_parse(&h, SL(text)), 0);
	a = hosts_find(&h, SL("LOCALHOST"));
	assert_non_null(a);
	assert_int_equal(a->family, AF_INET);
	assert_non_null(a->next);
	assert_int_equal(a->next->family, AF_INET6);
	assert_null(a->next->next);
	assert_non_null(hosts_find(&h, SL("loghost")));
	a = hosts_find(&h, SL("core"));
	assert_non_null(a);
	assert_int_equal(a->family, AF_INET6);
	assert_int_equal(a->next->family, AF_INET);
	assert_int_equal(a->next->addr[3], 5);
	assert_non_null(hosts_find(&h, SL("core.example")));
	assert_null(hosts_find(&h, SL("no")));
	assert_null(hosts_find(&h, SL("here")));
	assert_null(hosts_find(&h, SL("bad")));
	assert_null(hosts_find(&h, SL("comment")));
	assert_null(hosts_find(&h, SL_NULL));
	hosts_free(&h);
	for (size_t n = 0; n < sizeof(text); n++) {
		assert_int_equal(hosts_parse(&h, sl_mk(text, n)), 0);
		hosts_free(&h);
	}
	assert_int_equal(hosts_read(&h, "/nonexistent/hosts", NULL), 0);
	assert_null(hosts_find(&h, SL("localhost")));
	hosts_free(&h);
	assert_int_equal(hosts_read(&h, "/", NULL), E_IO);
}

static void test_hosts_out_of_memory(void **state)
{
	static const char text[] = "192.0.2.1 a b c\n192.0.2.2 a\n";
	struct hosts h;
	int failures = 0;

	UNUSED(state);
	for (unsigned n = 1; n < 50; n++) {
		base_fail_nth_alloc = n;
		int rc = hosts_parse(&h, SL(text));
		base_fail_nth_alloc = 0;
		if (rc == 0)
			hosts_free(&h);
		else
			assert_int_equal(rc, E_NOMEM);
		failures += rc < 0;
	}
	assert_true(failures > 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run_all(enum loop_backend b, const char *name)
{
	const struct CMUnitTest tests[] = {
		T(test_known_without_query),
		T(test_answers),
		T(test_failures),
		T(test_many_at_once),
		T(test_cancel),
		T(test_free_with_requests),
		T(test_free_in_callback),
		T(test_tune_refuses),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_hosts_out_of_memory),
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
	int failed = run_all(LOOP_BACKEND_EPOLL, "epoll");

	return failed + run_all(LOOP_BACKEND_SELECT, "select");
}
