/* test_move.c - connections move to their account's worker after the login, with all that came
 * pipelined: bind, presence and messages, plain and TLS, several workers at once. Made for TSan. */
#include "tests/unit/core_rig.h"
#include "tests/unit/xmpp_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <unistd.h>

#define USERS    8
#define ROUNDS   4
#define MESSAGES 20

static struct core_rig rig;

static int setup(void **state)
{
	char name[16];

	UNUSED(state);
	core_rig_new(&rig, false);
	rig.workers = 4;
	for (int i = 0; i < USERS; i++) {
		snprintf(name, sizeof(name), "user%d", i);
		core_rig_account(&rig, "localhost", name, "pw");
	}
	core_rig_start(&rig);
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	core_rig_free(&rig);
	return 0;
}

static const char open_text[] = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
				"xmlns:stream='http://etherx.jabber.org/streams'>";

struct client {
	pthread_t thread;
	int number;
	bool tls;
	char error[2400];
};

#define TRY(call) \
	do { \
		if ((call) != 0) { \
			snprintf(k->error, sizeof(k->error), "%s: %s", #call, c.error); \
			goto out; \
		} \
	} while (0)

/* Everything after the login in one piece: header, bind, presence, messages to its right
 * neighbour's bare JID and to itself, the end. */
static int pipeline(struct xc *c, int number, bool sm)
{
	struct buf b;
	int rc;

	buf_init(&b, 1u << 20);
	buf_addf(&b,
		 "%s<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
		 open_text);
	if (sm)
		buf_addf(&b, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
	buf_addf(&b, "<presence/>");
	for (int i = 0; i < MESSAGES; i++)
		buf_addf(
			&b,
			"<message to='user%d@localhost' type='chat' id='%d'><body>x</body></message>",
			i % 2 ? number : (number + 1) % USERS, i);
	buf_addf(&b, "<iq type='get' id='last' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
	rc = xc_send(c, buf_sl(&b));
	buf_free(&b);
	return rc;
}

static void *client(void *arg)
{
	struct client *k = arg;
	char user[16];
	struct xc c;

	snprintf(user, sizeof(user), "user%d", k->number);
	for (int round = 0; round < ROUNDS; round++) {
		xc_init(&c);
		TRY(xc_connect(&c, rig.port[k->tls ? ACCESS_C2S_TLS : ACCESS_C2S]));
		if (k->tls)
			TRY(xc_tls(&c, "xmpp-client", true));
		TRY(xc_send(&c, sl_cstr(open_text)));
		TRY(xc_until(&c, "</stream:features>", NULL));
		TRY(xc_scram(&c, round % 2 ? 1 : 256, NULL, user, "pw"));
		TRY(pipeline(&c, k->number, round % 2));
		TRY(xc_until(&c, "<jid>", NULL));
		TRY(xc_until(&c, "id='last'", NULL));
		if (round < ROUNDS - 1) {
			TRY(xc_send(&c, SL("</stream:stream>")));
			TRY(xc_until(&c, "</stream:stream>", NULL));
		}
		xc_close(&c);
	}
	return NULL;
out:
	xc_close(&c);
	return NULL;
}

static void run_all(bool mixed_tls)
{
	struct client k[USERS] = { 0 };

	for (int i = 0; i < USERS; i++) {
		k[i].number = i;
		k[i].tls = mixed_tls && i % 2;
		assert_int_equal(pthread_create(&k[i].thread, NULL, client, &k[i]), 0);
	}
	for (int i = 0; i < USERS; i++)
		pthread_join(k[i].thread, NULL);
	for (int i = 0; i < USERS; i++)
		if (k[i].error[0])
			fail_msg("user%d: %s", i, k[i].error);
}

static void test_plain(void **state)
{
	UNUSED(state);
	run_all(false);
}

static void test_tls(void **state)
{
	UNUSED(state);
	run_all(true);
}

/* The clients go away in every state; nothing is left. */
static void test_abandoned(void **state)
{
	struct xc c;

	UNUSED(state);
	for (int i = 0; i < 40; i++) {
		xc_init(&c);
		assert_int_equal(xc_connect(&c, rig.port[ACCESS_C2S]), 0);
		if (i % 5 >= 1)
			xc_send(&c, sl_cstr(open_text));
		if (i % 5 >= 2)
			xc_until(&c, "</stream:features>", NULL);
		if (i % 5 == 3)
			xc_send(&c,
				SL("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' "
				   "mechanism='SCRAM-SHA-1'>biwsbj11c2VyMCxyPWFiY2RlZg==</auth>"));
		if (i % 5 == 4 && xc_scram(&c, 1, NULL, "user1", "pw") == 0)
			pipeline(&c, 1, true);
		xc_close(&c);
	}
	for (int i = 0; i < 500; i++) {
		uint32_t n = 0;

		for (uint16_t w = 0; w < rig.workers; w++)
			n += access_worker_streams(core_worker(rig.core, w));
		if (n == 0)
			return;
		usleep(10000);
	}
	fail_msg("streams are left");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_abandoned),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
