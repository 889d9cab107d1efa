/* bench_router.c - what routing costs inside a worker, and what an idle session costs in memory.
 *
 *   bench_router    prints ns a message (parsed, and parsed and routed) and octets a session */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>

#include "appliance/base/clock.h"
#include "tests/unit/router_harness.h"
#include "xmpp/services/services.h"

#define MESSAGES 400000u
#define BATCH    16u
#define SESSIONS 2000u

static unsigned got;

static void deliver(struct session *s, struct stanza *st, struct sl extra, struct mail *m)
{
	(void)s;
	(void)st;
	(void)extra;
	(void)m;
	got++;
}

static void no_close(struct session *s, const char *stream_error, struct sl text)
{
	(void)s;
	(void)stream_error;
	(void)text;
}

static const struct session_ops ops = { .deliver = deliver, .close = no_close };

struct bench_session {
	struct session s;
	char jid[64];
	bool bound;
};

static void bound(struct session *s, int rc)
{
	if (rc)
		abort();
	container_of(s, struct bench_session, s)->bound = true;
}

static struct stanza *parse(struct sl xml)
{
	struct arena *a = arena_new(1200, 65536);
	struct xml_node *n;
	struct stanza *st;
	bool bad;

	if (xml_parse_one(a, arena_dup(a, xml), &n, NULL) || stanza_take(a, n, &st, &bad, NULL))
		abort();
	return st;
}

static void bind_one(struct rh *h, struct bench_session *b, const char *name)
{
	snprintf(b->jid, sizeof(b->jid), "%s@localhost", name);
	rh_account(h, b->jid);
	snprintf(b->jid, sizeof(b->jid), "%s@localhost/resource", name);
	b->s.ops = &ops;
	b->s.w = &h->w[0];
	b->s.jid = jid_split(sl_cstr(b->jid));
	session_init(&b->s);
	session_bind(&b->s, bound);
	while (!b->bound)
		rh_turn(h, 1);
	router_inbound(&b->s, parse(SL("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' "
				       "node='https://client.example/' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>")),
		       NULL);
	rh_turn(h, 0);
}

/* The stanzas are made before, so that the difference is the router's alone. */
static double route_ns(struct rh *h, struct session *s, struct sl xml)
{
	static struct stanza *st[BATCH];
	uint64_t us = 0;

	for (unsigned i = 0; i < MESSAGES / BATCH; i++) {
		for (unsigned k = 0; k < BATCH; k++) {
			st[k] = parse(xml);
			stanza_set_from(st[k], &s->jid);
			if (stanza_seal(st[k]))
				abort();
		}
		uint64_t start = clock_mono_us();
		for (unsigned k = 0; k < BATCH; k++)
			router_inbound(s, st[k], NULL);
		rh_turn(h, 0);
		us += clock_mono_us() - start;
	}
	return (double)us * 1000 / MESSAGES;
}

static double empty_turn_ns(struct rh *h)
{
	uint64_t start = clock_mono_us();

	for (unsigned i = 0; i < MESSAGES / BATCH; i++)
		rh_turn(h, 0);
	return (double)(clock_mono_us() - start) * 1000 / MESSAGES;
}

static void bench_route(struct rh *h)
{
	static struct bench_session a, b;
	struct sl xml = SL("<message to='bob@localhost' type='chat' id='abcdefgh'><body>hello there, how are "
			   "you today?</body></message>");
	double with, turn;

	bind_one(h, &a, "alice");
	bind_one(h, &b, "bob");
	got = 0;
	turn = empty_turn_ns(h);
	with = route_ns(h, &a.s, xml);
	if (got != MESSAGES)
		abort();
	printf("route: %.0f ns a message (%u a turn; of it %.0f ns for the turn itself)\n", with, BATCH, turn);
	session_ended(&a.s);
	session_ended(&b.s);
}

static void bench_memory(struct rh *h)
{
	struct bench_session *b = calloc(SESSIONS, sizeof(*b));
	char name[32];
	size_t before, after;

	rh_settle(h);
	before = mallinfo2().uordblks;
	for (unsigned i = 0; i < SESSIONS; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		bind_one(h, &b[i], name);
	}
	rh_settle(h);
	after = mallinfo2().uordblks;
	printf("memory: %zu octets a session with presence and an empty roster beside its own struct (%zu); "
	       "struct user %zu, struct roster %zu, struct ritem %zu\n",
	       (after - before) / SESSIONS, sizeof(struct session), sizeof(struct user), sizeof(struct roster),
	       sizeof(struct ritem));
	for (unsigned i = 0; i < SESSIONS; i++)
		session_ended(&b[i].s);
	rh_settle(h);
	free(b);
}

int main(void)
{
	struct rh *h = rh_new(1);

	bench_route(h);
	bench_memory(h);
	rh_free(&h);
	return 0;
}
