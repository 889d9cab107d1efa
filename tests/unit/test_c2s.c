/* test_c2s.c - a client's way in, over plain TCP and TLS, with every mechanism. */
#include "appliance/base/log.h"
#include "tests/unit/core_rig.h"
#include "tests/unit/xmpp_client.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct core_rig rig;

static int setup(void **state)
{
	UNUSED(state);
	if (getenv("DEBUG"))
		log_set_level(LOG_L_DEBUG);
	core_rig_new(&rig, false);
	core_rig_account(&rig, "localhost", "alice", "wonder");
	core_rig_account(&rig, "localhost", "bob", "build");
	core_rig_account(&rig, "other.test", "alice", "wonder");
	core_rig_start(&rig);
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	core_rig_free(&rig);
	return 0;
}

#define OK(c, call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s: %s", #call, (c)->error); \
	} while (0)

static void login_and_message(bool tls)
{
	struct xc a, b;
	struct sl got;
	char jid[128], text[256];

	xc_init(&a);
	xc_init(&b);
	OK(&a, xc_connect(&a, rig.port[ACCESS_C2S]));
	OK(&b, xc_connect(&b, rig.port[ACCESS_C2S]));
	OK(&a, xc_login(&a, "localhost", "alice", "wonder", "one", tls, jid, sizeof(jid)));
	assert_string_equal(jid, "alice@localhost/one");
	OK(&b, xc_login(&b, "localhost", "bob", "build", NULL, tls, jid, sizeof(jid)));
	snprintf(text, sizeof(text),
		 "<message to='%s' id='m1' type='chat'><body>hi</body></message>", jid);
	OK(&a, xc_send(&a, sl_cstr(text)));
	OK(&b, xc_until(&b, "</message>", &got));
	assert_non_null(memmem(got.p, got.n, "from='alice@localhost/one'", 26));
	OK(&a, xc_send(&a, SL("</stream:stream>")));
	OK(&a, xc_until(&a, "</stream:stream>", NULL));
	assert_int_equal(xc_more(&a, 1000), 0);
	xc_close(&a);
	xc_close(&b);
}

static void test_plain_tcp(void **state)
{
	UNUSED(state);
	login_and_message(false);
}

static void test_starttls(void **state)
{
	UNUSED(state);
	login_and_message(true);
}

static void open_direct(struct xc *c, bool max13)
{
	xc_init(c);
	OK(c, xc_connect(c, rig.port[ACCESS_C2S_TLS]));
	OK(c, xc_tls(c, "xmpp-client", max13));
	OK(c, xc_send(c, SL("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
			    "xmlns:stream='http://etherx.jabber.org/streams'>")));
	OK(c, xc_until(c, "</stream:features>", NULL));
}

static void test_mechanisms(void **state)
{
	static const struct {
		int hash;
		const char *binding;
		bool max13;
	} t[] = {
		{ 1, NULL, true },
		{ 256, NULL, true },
		{ 512, NULL, true },
		{ 1, "tls-exporter", true },
		{ 256, "tls-exporter", true },
		{ 512, "tls-exporter", true },
		{ 256, "tls-server-end-point", true },
		{ 1, "tls-server-end-point", false },
		{ 512, "tls-server-end-point", false },
	};
	struct xc c;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		open_direct(&c, t[i].max13);
		OK(&c, xc_scram(&c, t[i].hash, t[i].binding, "alice", "wonder"));
		xc_close(&c);
	}
}

/* Where TLS comes first, each host has its own certificate, and channel bindings are to that one.
 */
static void test_sni(void **state)
{
	static const char *const hosts[] = { "localhost", "other.test", "nowhere.test" };
	char name[128], open[256];
	struct xc c;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		bool known = i < 2;

		xc_init(&c);
		c.sni = (char *)(uintptr_t)hosts[i];
		OK(&c, xc_connect(&c, rig.port[ACCESS_C2S_TLS]));
		OK(&c, xc_tls(&c, "xmpp-client", true));
		xc_peer_name(&c, name, sizeof(name));
		assert_string_equal(name, known ? hosts[i] : "localhost");
		snprintf(open, sizeof(open),
			 "<stream:stream to='%s' version='1.0' xmlns='jabber:client' "
			 "xmlns:stream='http://etherx.jabber.org/streams'>",
			 hosts[i]);
		OK(&c, xc_send(&c, sl_cstr(open)));
		OK(&c, xc_until(&c, known ? "</stream:features>" : "<host-unknown", NULL));
		if (known)
			OK(&c, xc_scram(&c, 256, "tls-server-end-point", "alice", "wonder"));
		xc_close(&c);
	}
}

static void test_wrong_password(void **state)
{
	static const char *const names[] = { "alice", "nobody" };
	struct xc c;

	UNUSED(state);
	for (size_t i = 0; i < 2; i++) {
		open_direct(&c, true);
		assert_int_not_equal(xc_scram(&c, 256, NULL, names[i], "guess"), 0);
		assert_non_null(strstr(c.error, "<not-authorized/>"));
		xc_close(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_tcp),      cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_mechanisms),     cmocka_unit_test(test_sni),
		cmocka_unit_test(test_wrong_password),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
