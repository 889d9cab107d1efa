/* test_streams.c - several streams of one component, in several workers: DELIV-11, and the order of
 * each conversation whatever streams come and go (docs/custody.md, CUST-13). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "appliance/base/clock.h"
#include "tests/unit/router_harness.h"

static struct rh *begin(unsigned workers)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", NULL };
	struct rh *h = rh_new(workers);

	rh_accounts(h, jids);
	return h;
}

static void say(struct rh *h, unsigned to, unsigned n)
{
	char line[256];

	snprintf(line, sizeof(line),
		 "alice/a > <message to='+%u@gw.localhost' type='chat' id='%u-%u'><body>x</body></message>\n", to, to, n);
	RH_RUN(h, line);
}

/* Both streams get their part; what the other worker's peer acknowledges is deleted. */
static void test_both(void **state)
{
	struct rh *h = begin(2);
	unsigned one, two;

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nattach gw.localhost#+1 sm\nlogin alice/a\n");
	for (unsigned to = 0; to < 40; to++)
		say(h, to, 0);
	RH_RUN(h, "settle\n");
	one = rh_inbox(h, "gw.localhost");
	two = rh_inbox(h, "gw.localhost#+1");
	assert_int_equal(one + two, 40);
	assert_in_range(one, 5, 35);
	RH_RUN(h, "gw.localhost#+1 < <message type='chat' id='*'><custody xmlns='urn:tandem:custody:0' id='*'/></message>\n"
		  "ack gw.localhost#+1\nsettle\n");
	assert_int_equal(rh_rows(h, "gw.localhost"), one);
	RH_RUN(h, "ack gw.localhost\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* What has no row, to a stream of another worker; and when none is there. */
static void test_rowless(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "attach gw.localhost#+1 sm\nlogin alice/a\n"
		  "alice/a > <iq type='get' to='gw.localhost' id='1'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "gw.localhost#+1 < <iq type='get' id='1'/>\n"
		  "gw.localhost#+1 > <iq type='result' from='gw.localhost' to='alice@localhost/a' id='1'/>\n"
		  "alice/a < <iq type='result' id='1'/>\n"
		  "detach gw.localhost#+1\nsettle\n"
		  "alice/a > <iq type='get' to='gw.localhost' id='2'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='2'/>\n");
	say(h, 1, 0);
	RH_RUN(h, "alice/a -\nrows gw.localhost 1\n"
		  "attach gw.localhost#+1 sm\n"
		  "gw.localhost#+1 < <message type='chat' id='1-0'/>\n"
		  "ack gw.localhost#+1\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* A stream comes: a conversation with something on its way stays where it is. */
static void test_comes(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nlogin alice/a\n");
	for (unsigned to = 0; to < 20; to++)
		say(h, to, 0);
	RH_RUN(h, "settle\nattach gw.localhost#+1 sm\nsettle\n");
	for (unsigned to = 0; to < 20; to++)
		say(h, to, 1);
	RH_RUN(h, "settle\n");
	assert_int_equal(rh_inbox(h, "gw.localhost"), 40);
	RH_RUN(h, "ack gw.localhost\nclear gw.localhost\nsettle\n");
	for (unsigned to = 0; to < 20; to++)
		say(h, to, 2);
	RH_RUN(h, "settle\n");
	assert_in_range(rh_inbox(h, "gw.localhost#+1"), 3, 17); /* now they may move */
	rh_free(&h);
}

/* A stream goes with what was not acknowledged: that comes on another one, before anything newer. */
static void test_goes(void **state)
{
	struct rh *h = begin(2);
	char line[128];

	(void)state;
	RH_RUN(h, "attach gw.localhost#+1 sm\nlogin alice/a\n");
	for (unsigned n = 0; n < 10; n++)
		say(h, 7, n);
	RH_RUN(h, "settle\nack gw.localhost#+1 2\nattach gw.localhost sm\nsettle\n");
	say(h, 7, 10);
	RH_RUN(h, "settle\ngw.localhost -\ndetach gw.localhost#+1\n");
	say(h, 7, 11);
	for (unsigned n = 2; n < 12; n++) {
		snprintf(line, sizeof(line), "gw.localhost < <message type='chat' id='7-%u'/>\n", n);
		RH_RUN(h, line);
	}
	RH_RUN(h, "gw.localhost -\nack gw.localhost\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-13: rows of two workers, whose ids grow each for itself: a page that another worker's ids have taken further does
 * not bring a later message before an earlier one of the same sender. */
static void test_ids_of_two_workers(void **state)
{
	struct rh *h = rh_new(2);
	char line[256], one[16], other[16], jid[64];
	uint16_t home[2] = { 0 };

	(void)state;
	h->readers = 2;
	rh_restart(h);
	for (unsigned i = 0; i == 0 || home[1] == home[0]; i++) { /* the first that lives elsewhere */
		snprintf(i ? other : one, 16, "u%u", i);
		snprintf(jid, sizeof(jid), "u%u@localhost", i);
		rh_account(h, jid);
		home[i > 0] = bus_owner(h->bus, sl_cstr(jid));
		if (i == 0)
			home[1] = home[0];
	}
	snprintf(line, sizeof(line), "login %s/x\nlogin %s/x\n", one, other);
	RH_RUN(h, line);
	/* Its clock is ahead. */
	h->w[home[1]].last_id = (clock_wall_ms() + 1000) << 22 | (uint64_t)home[1] << 16;
	for (unsigned i = 0; i < PAGER_PAGE; i++) {
		snprintf(line, sizeof(line),
			 "%s/x > <message to='+9@gw.localhost' type='chat' id='w%u'><body>x</body></message>\n", other, i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\nhold load\nattach gw.localhost sm\nsettle\n");
	snprintf(line, sizeof(line), "%s/x > <message to='+1@gw.localhost' type='chat' id='first'><body>x</body></message>\nsettle\n",
		 one);
	RH_RUN(h, line);
	usleep(1200000);
	snprintf(line, sizeof(line), "%s/x > <message to='+1@gw.localhost' type='chat' id='second'><body>x</body></message>\nsettle\n",
		 one);
	RH_RUN(h, line);
	RH_RUN(h, "release\nsettle\n");
	for (unsigned i = 0; i < 100 && rh_inbox(h, "gw.localhost") < PAGER_PAGE + 2; i++)
		RH_RUN(h, "settle\n");
	rh_forget(h, "gw.localhost", PAGER_PAGE);
	RH_RUN(h, "gw.localhost < <message type='chat' id='first'/>\n"
		  "gw.localhost < <message type='chat' id='second'/>\ngw.localhost -\n"
		  "ack gw.localhost\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* ---- at random ------------------------------------------------------------------------------- */

#define STREAMS 4u
#define TALKS   12u

static const char *const stream[STREAMS] = { "gw.localhost", "gw.localhost#+1", "gw.localhost#+2", "gw.localhost#+3" };
static unsigned said[TALKS], done[TALKS]; /* sent; acknowledged */
static bool up[STREAMS];

static void command(struct rh *h, const char *verb, const char *name, const char *more)
{
	char line[128];

	snprintf(line, sizeof(line), "%s %s%s\n", verb, name, more);
	RH_RUN(h, line);
}

static unsigned arrived(struct rh *h)
{
	unsigned n = 0;

	for (unsigned s = 0; s < STREAMS; s++)
		n += up[s] ? rh_inbox(h, stream[s]) : 0;
	return n;
}

/* Each conversation is on one stream, without a gap and in order, from the first that was not acknowledged on. */
static void check(struct rh *h)
{
	unsigned next[TALKS], on[TALKS], talk, n, waiting = 0;
	char id[32];
	bool any = false;

	for (talk = 0; talk < TALKS; talk++)
		waiting += said[talk] - done[talk];
	for (unsigned i = 0; i < 50 && arrived(h) < waiting; i++)
		RH_RUN(h, "settle\n");
	memcpy(next, done, sizeof(next));
	memset(on, 0xff, sizeof(on));
	for (unsigned s = 0; s < STREAMS; s++) {
		any |= up[s];
		for (unsigned i = 0; up[s] && rh_read(h, stream[s], i, id); i++) {
			assert_int_equal(sscanf(id, "%u-%u", &talk, &n), 2);
			if (n != next[talk])
				fail_msg("%s on %s: %u was expected", id, stream[s], next[talk]);
			if (on[talk] != UINT32_MAX && on[talk] != s)
				fail_msg("%s is on %s and on %s", id, stream[s], stream[on[talk]]);
			on[talk] = s;
			next[talk]++;
		}
	}
	for (talk = 0; any && talk < TALKS; talk++)
		if (next[talk] != said[talk])
			fail_msg("%u-%u has not come (%u rows)", talk, next[talk],
				 (unsigned)rh_rows(h, "gw.localhost"));
}

static void acknowledge(struct rh *h, unsigned s, unsigned count)
{
	unsigned talk, n;
	char id[32], more[16];

	RH_RUN(h, "settle\n");
	if (count > rh_inbox(h, stream[s]))
		count = rh_inbox(h, stream[s]);
	for (unsigned i = 0; i < count && rh_read(h, stream[s], i, id); i++) {
		assert_int_equal(sscanf(id, "%u-%u", &talk, &n), 2);
		done[talk]++;
	}
	if (!count)
		return;
	snprintf(more, sizeof(more), " %u", count);
	command(h, "ack", stream[s], more);
	rh_forget(h, stream[s], count);
}

static void step(struct rh *h, unsigned r)
{
	unsigned s = r / 16 % STREAMS, talk = r / 64 % TALKS;

	switch (r % 16) {
	case 0:
	case 1:
		command(h, up[s] ? "detach" : "attach", stream[s], up[s] ? "" : " sm");
		up[s] = !up[s];
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		if (up[s])
			acknowledge(h, s, 1 + r / 1024 % 8);
		break;
	default:
		say(h, talk, said[talk]++);
	}
}

static void test_random(void **state)
{
	struct rh *h = begin(4);
	uint64_t x = 88172645463325252u;

	(void)state;
	RH_RUN(h, "login alice/a\n");
	for (unsigned i = 0; i < 600; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		step(h, (unsigned)(x >> 20));
		if (i % 3 == 0) { /* not always at rest */
			RH_RUN(h, "settle\n");
			check(h);
		}
	}
	for (unsigned s = 0; s < STREAMS; s++)
		if (!up[s]) {
			command(h, "attach", stream[s], " sm");
			up[s] = true;
		}
	for (unsigned i = 0; i < 20; i++) {
		RH_RUN(h, "settle\n");
		check(h);
		for (unsigned s = 0; s < STREAMS; s++)
			acknowledge(h, s, 1000);
	}
	RH_RUN(h, "rows gw.localhost 0\n");
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both),  cmocka_unit_test(test_rowless), cmocka_unit_test(test_comes),
		cmocka_unit_test(test_goes),  cmocka_unit_test(test_ids_of_two_workers),  cmocka_unit_test(test_random),
	};

	hash_key_init();
	return cmocka_run_group_tests_name("streams", tests, NULL, NULL);
}
