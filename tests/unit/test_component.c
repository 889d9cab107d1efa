/* test_component.c - the component client against a server that the test plays: both kinds of
 * stream, XEP-0198 arithmetic, loss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/fsm/fsm.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/resolve.h"
#include "appliance/loop/tls.h"
#include "translators/common/component.h"

static struct {
	struct loop *loop;
	struct resolver *resolver;
	struct component *c;
	struct listener *ln;
	struct conn *conn;
	struct buf in;
	const char *after_header, *after_handshake, *after_enable, *after_auth;
	const char *version; /* in the server's header */
	struct tls_ctx *tls;
	bool up, custody;
	unsigned ups, downs, connects;
	uint64_t acked[16];
	unsigned nacked;
	struct component_ticket ticket[16];
	unsigned nstanzas;
	char first_id[16];
} t;

static void say(const char *s)
{
	assert_int_equal(conn_write(t.conn, sl_cstr(s)), 0);
}

static bool take(const char *what)
{
	char *p = buf_reserve(&t.in, 1);

	*p = '\0';
	if (t.in.n == 0 || !strstr(buf_sl(&t.in).p, what))
		return false;
	buf_free(&t.in);
	return true;
}

static void data(void *self, struct sl d)
{
	UNUSED(self);
	assert_int_equal(buf_add(&t.in, d), 0);
	if (t.after_header && take("<stream:stream")) {
		say("<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' "
		    "from='sms.example' id='3BF96D32'");
		say(t.version);
		say(t.after_header);
	} else if (t.after_handshake && take("</handshake>")) {
		say(t.after_handshake);
	} else if (t.after_auth && (take("</auth>") || take("<starttls "))) {
		say(t.after_auth);
	} else if (t.after_enable && take("<enable ")) {
		say(t.after_enable);
	}
}

static void closed(void *self, const struct err *why)
{
	UNUSED(self);
	UNUSED(why);
	t.conn = NULL;
}

static const struct conn_ops server_ops = { .on_data = data, .on_closed = closed };

static void accepted(void *arg, int fd)
{
	UNUSED(arg);
	t.connects++;
	buf_free(&t.in);
	assert_int_equal(conn_new(t.loop, fd, &server_ops, NULL, 1u << 20, &t.conn, NULL), 0);
}

static void on_up(void *arg, bool custody)
{
	UNUSED(arg);
	t.up = true;
	t.custody = custody;
	t.ups++;
}
static void on_down(void *arg, const char *reason)
{
	UNUSED(arg);
	assert_non_null(reason);
	t.up = false;
	t.downs++;
}
static void on_stanza(void *arg, struct stanza *st, struct component_ticket k)
{
	UNUSED(arg);
	if (t.nstanzas == 0)
		assert_int_equal(sl_to_cstr(st->id, t.first_id, sizeof(t.first_id)), 0);
	t.ticket[t.nstanzas++] = k;
	stanza_unref(&st);
}
static void on_acked(void *arg, uint64_t cookie)
{
	UNUSED(arg);
	t.acked[t.nacked++] = cookie;
}

static const struct component_ops ops = { on_up, on_down, on_stanza, on_acked };

static void turns(unsigned n)
{
	while (n--)
		loop_turn(t.loop, 5);
}

static void until(const bool *flag, bool value)
{
	for (int i = 0; i < 2000 && *flag != value; i++)
		loop_turn(t.loop, 5);
	assert_int_equal(*flag, value);
}

static void expect(const char *what)
{
	for (int i = 0; i < 1200; i++) {
		if (take(what))
			return;
		loop_turn(t.loop, 5);
	}
	fail_msg("never came: %s", what);
}

static int set_up_with(enum component_secure secure)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t n = sizeof(sa);
	int fd;

	memset(&t, 0, sizeof(t));
	t.version = ">";
	buf_init(&t.in, 1u << 20);
	assert_int_equal(loop_new(LOOP_BACKEND_DEFAULT, &t.loop, NULL), 0);
	assert_int_equal(resolver_new(t.loop, &t.resolver, NULL), 0);
	assert_int_equal(listen_open_tcp("127.0.0.1", 0, 8, &fd, NULL), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	assert_int_equal(listener_new_fd(t.loop, fd, accepted, NULL, &t.ln, NULL), 0);
	struct component_cfg cfg = { .domain = SL("sms.example"),
				     .host = SL("127.0.0.1"),
				     .port = ntohs(sa.sin_port),
				     .secret = SL("test"),
				     .secure = secure,
				     .inflight_max = 4 };
	assert_int_equal(tls_ctx_client(SL_NULL, false, SL_NULL, SL_NULL, &t.tls, NULL), 0);
	cfg.tls_ctx = t.tls;
	t.after_header = "";
	t.after_handshake = "<handshake/>";
	assert_int_equal(component_new(t.loop, t.resolver, &cfg, &ops, NULL, &t.c, NULL), 0);
	return 0;
}

static int set_up(void **state)
{
	UNUSED(state);
	return set_up_with(COMPONENT_TLS_NEVER);
}

static int set_up_offered(void **state)
{
	UNUSED(state);
	set_up_with(COMPONENT_TLS_OFFERED);
	t.version = " version='1.0'>";
	return 0;
}

static int set_up_always(void **state)
{
	UNUSED(state);
	set_up_with(COMPONENT_TLS_ALWAYS);
	t.version = " version='1.0'>";
	return 0;
}

static int tear_down(void **state)
{
	UNUSED(state);
	component_free(&t.c);
	tls_ctx_unref(&t.tls);
	log_capture(NULL, NULL);
	if (t.conn)
		conn_kill(t.conn);
	turns(5);
	listener_free(&t.ln);
	resolver_free(&t.resolver);
	buf_free(&t.in);
	loop_free(&t.loop);
	return 0;
}

/* The example of XEP-0114 section 2: id 3BF96D32, secret "test". */
static void test_handshake_digest(void **state)
{
	UNUSED(state);
	t.after_handshake = NULL;
	expect("<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>");
}

static void test_without_sm(void **state)
{
	UNUSED(state);
	t.after_enable = "<failed xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	assert_false(t.custody);
	assert_int_equal(component_send(t.c, SL("<presence/>"), 7), 0);
	for (int i = 0; i < 200 && t.nacked == 0; i++)
		turns(1);
	assert_int_equal(t.nacked, 1); /* COMP-5: the peer's TCP has it */
	assert_int_equal(t.acked[0], 7);
}

/* It ends in good order, and its TCP had everything. */
static void test_acked_at_the_end(void **state)
{
	UNUSED(state);
	t.after_enable = "<failed xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	assert_int_equal(component_send(t.c, SL("<presence/>"), 7), 0);
	expect("<presence/>");
	say("</stream:stream>");
	until(&t.up, false);
	assert_int_equal(t.nacked, 1);
}

static void test_enable_not_answered(void **state)
{
	UNUSED(state);
	until(&t.up, true); /* after 3 s */
	assert_false(t.custody);
}

static void test_acknowledgements(void **state)
{
	UNUSED(state);
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	assert_true(t.custody);
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(component_send(t.c, SL("<message/>"), i), 0);
	expect("<r xmlns='urn:xmpp:sm:3'/>");
	say("<a xmlns='urn:xmpp:sm:3' h='2'/>");
	for (int i = 0; i < 200 && t.nacked < 2; i++)
		turns(1);
	assert_int_equal(t.nacked, 2);
	assert_int_equal(t.acked[1], 2);
	/* h counts in order, whatever order the owner finishes in. */
	say("<message id='a'/><message id='b'/><message id='c'/>");
	for (int i = 0; i < 200 && t.nstanzas < 3; i++)
		turns(1);
	assert_string_equal(t.first_id, "a");
	component_done(t.c, t.ticket[2]);
	component_done(t.c, t.ticket[1]);
	say("<r xmlns='urn:xmpp:sm:3'/>");
	expect("h='0'/>");
	component_done(t.c, t.ticket[0]);
	expect("<a xmlns='urn:xmpp:sm:3' h='3'/>");
	component_done(t.c, t.ticket[0]); /* twice is harmless */
	/* More acknowledged than was sent: the stream is worth nothing. */
	say("<a xmlns='urn:xmpp:sm:3' h='9'/>");
	until(&t.up, false);
}

/* An answer without news is not followed by another question at once, but by one soon. */
static void test_asks_again(void **state)
{
	uint64_t asked;

	UNUSED(state);
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	assert_int_equal(component_send(t.c, SL("<message/>"), 1), 0);
	expect("<r xmlns='urn:xmpp:sm:3'/>");
	say("<a xmlns='urn:xmpp:sm:3' h='0'/>");
	asked = clock_mono_ms();
	expect("<r xmlns='urn:xmpp:sm:3'/>");
	assert_true(clock_mono_ms() - asked >= 400);
	say("<a xmlns='urn:xmpp:sm:3' h='1'/>");
	for (int i = 0; i < 200 && t.nacked < 1; i++)
		turns(1);
	assert_int_equal(t.nacked, 1);
}

static void test_pauses_when_the_owner_is_slow(void **state)
{
	UNUSED(state);
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	for (int i = 0; i < 8; i++) {
		say("<message/>");
		turns(3);
	}
	turns(20);
	assert_int_equal(t.nstanzas, 4); /* inflight_max */
	for (int i = 0; i < 4; i++)
		component_done(t.c, t.ticket[i]);
	for (int i = 0; i < 200 && t.nstanzas < 8; i++)
		turns(1);
	assert_int_equal(t.nstanzas, 8);
}

static void test_loss_and_return(void **state)
{
	UNUSED(state);
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	say("<message/>");
	for (int i = 0; i < 200 && t.nstanzas < 1; i++)
		turns(1);
	conn_kill(t.conn);
	until(&t.up, false);
	assert_int_equal(component_send(t.c, SL("<message/>"), 1), E_STATE);
	until(&t.up, true);
	assert_int_equal(t.ups, 2);
	component_done(t.c, t.ticket[0]); /* of the old stream: ignored */
	say("<r xmlns='urn:xmpp:sm:3'/>");
	expect("h='0'/>");
	/* COMP-6: counts begin anew, and old tickets stand for none of them. */
	say("<message/>");
	for (int i = 0; i < 200 && t.nstanzas < 2; i++)
		turns(1);
	component_done(t.c, t.ticket[0]);
	say("<r xmlns='urn:xmpp:sm:3'/>");
	expect("h='0'/>");
	component_done(t.c, t.ticket[1]);
	expect("h='1'/>");
}

/* COMP-8 */
static void test_stopped(void **state)
{
	UNUSED(state);
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	component_free(&t.c);
	expect("</stream:stream>");
}

static void ignore_line(void *arg, struct sl line)
{
	UNUSED(arg);
	UNUSED(line);
}

/* Milliseconds of a clock that we turn until the next connection. */
static unsigned until_connect(void)
{
	unsigned before = t.connects, ms = 0;

	while (t.connects == before && ms < 30000) {
		ms += 25;
		clock_fake_advance_ms(25);
		for (unsigned i = 0; i < 4; i++)
			loop_turn(t.loop, 0);
	}
	turns(3);
	return ms;
}

/* COMP-1: 0.2 s doubling to 10 s, a quarter either way; from the beginning once it was up. */
static void test_back_off(void **state)
{
	unsigned odd = 0;

	UNUSED(state);
	log_capture(ignore_line, NULL);
	clock_fake(true, clock_mono_ms(), clock_wall_ms());
	t.after_handshake = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
	until_connect();
	for (unsigned i = 0, want = 200; i < 9; i++, want = want * 2 > 10000 ? 10000 : want * 2) {
		unsigned got = until_connect();

		assert_in_range(got, want * 3 / 4, want * 5 / 4 + 100);
		odd += got < want - want / 20 || got > want + want / 20 + 100;
	}
	assert_true(odd > 0);
	t.after_handshake = "<handshake/>";
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until_connect();
	until(&t.up, true);
	conn_kill(t.conn);
	until(&t.up, false);
	assert_in_range(until_connect(), 150, 350);
	clock_fake(false, 0, 0);
	log_capture(NULL, NULL);
}

/* COMP-7: a server that says nothing. */
static void test_silent_server(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	clock_fake(true, clock_mono_ms(), clock_wall_ms());
	t.after_header = NULL;
	until_connect();
	for (unsigned i = 0; i < 14; i++) {
		clock_fake_advance_ms(1000);
		turns(2);
	}
	assert_non_null(t.conn);
	clock_fake_advance_ms(1500);
	turns(4);
	assert_null(t.conn);
	assert_true(until_connect() < 1000);
	clock_fake(false, 0, 0);
	log_capture(NULL, NULL);
}

static void test_refused(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL); /* it complains, as it should */
	t.after_handshake =
		"<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
	for (int i = 0; i < 2000 && t.connects < 3; i++)
		turns(1);
	assert_true(t.connects >= 3); /* COMP-4: tried again */
	assert_int_equal(t.ups, 0);
	log_capture(NULL, NULL);
}

/* ---- what a server may not do to a client that wants more than XEP-0114 ---------------------- */

#define SCRAM_FEATURES \
	"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" \
	"<mechanism>SCRAM-SHA-256</mechanism></mechanisms></stream:features>"
#define TLS_FEATURES \
	"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"

static void tries_again(unsigned times)
{
	for (int i = 0; i < 3000 && t.connects < times; i++)
		turns(1);
	assert_true(t.connects >= times);
	assert_int_equal(t.ups, 0);
}

/* COMP-17: says 1.0, and has no features (ejabberd). */
static void test_no_features(void **state)
{
	uint64_t from = clock_mono_ms();

	UNUSED(state);
	t.after_handshake = NULL;
	expect("<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>");
	assert_true(clock_mono_ms() - from >= 2500);
}

/* The same where it would not be safe (COMP-16). */
static void test_no_features_insecure(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	tries_again(2);
}

static void test_useless_features(void **state)
{
	UNUSED(state);
	t.after_header = "<stream:features/>";
	t.after_handshake = NULL;
	expect("<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>");
}

static void test_0114_insecure(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	t.version = ">";
	tries_again(3);
}

/* It lets everybody in, and cannot prove that it knows the secret. */
static void test_impostor(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	t.after_header = SCRAM_FEATURES;
	t.after_auth = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
	tries_again(3);
	t.after_auth = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj1BQUFB</success>";
	tries_again(5);
}

static void test_bad_challenge(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	t.after_header = SCRAM_FEATURES;
	t.after_auth = "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>!</challenge>";
	tries_again(3);
}

/* Words of somebody in the middle, in one piece with <proceed/>. */
static void test_injection(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	t.after_header = TLS_FEATURES;
	t.after_auth = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" SCRAM_FEATURES;
	tries_again(3);
	assert_false(take("\x16\x03")); /* no handshake was begun */
}

static void test_starttls_refused(void **state)
{
	UNUSED(state);
	log_capture(ignore_line, NULL);
	t.after_header = TLS_FEATURES;
	t.after_auth = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
	tries_again(3);
}

static void test_garbage(void **state)
{
	UNUSED(state);
	t.after_enable = "<enabled xmlns='urn:xmpp:sm:3'/>";
	until(&t.up, true);
	say("<message></presence>");
	until(&t.up, false);
	until(&t.up, true);
	say("<!DOCTYPE x>");
	until(&t.up, false);
}

static void test_table(void **state)
{
	struct err e = { 0 };

	UNUSED(state);
	if (fsm_def_prepare(&component_fsm, &e) < 0)
		fail_msg("%s", e.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test_setup_teardown(test_handshake_digest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_without_sm, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_acked_at_the_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_enable_not_answered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_acknowledgements, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_asks_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pauses_when_the_owner_is_slow, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_loss_and_return, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stopped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_back_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_silent_server, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_garbage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_features, set_up_offered, tear_down),
		cmocka_unit_test_setup_teardown(test_no_features_insecure, set_up_always,
						tear_down),
		cmocka_unit_test_setup_teardown(test_useless_features, set_up_offered, tear_down),
		cmocka_unit_test_setup_teardown(test_0114_insecure, set_up_always, tear_down),
		cmocka_unit_test_setup_teardown(test_impostor, set_up_offered, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_challenge, set_up_offered, tear_down),
		cmocka_unit_test_setup_teardown(test_injection, set_up_offered, tear_down),
		cmocka_unit_test_setup_teardown(test_starttls_refused, set_up_offered, tear_down),
	};

	rnd_init();
	tls_init();
	log_set_level(LOG_L_ERROR);
	return cmocka_run_group_tests_name("component", tests, NULL, NULL);
}
