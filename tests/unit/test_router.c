/* Routing and delivery: rules DELIV-1 to DELIV-10, USER-1 to USER-7 (docs/rules/xmpp.md), and the small services. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "appliance/base/clock.h"
#include "tests/unit/router_harness.h"

static struct rh *begin(unsigned workers)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", "carol@localhost", "dave@localhost",
					    NULL };
	struct rh *h = rh_new(workers);

	rh_accounts(h, jids);
	return h;
}

#define ERROR(cond) "<error><" cond " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"

static void test_chat_between_users(void **state)
{
	for (unsigned workers = 1; workers <= 3; workers++) {
		struct rh *h = begin(workers);

		(void)state;
		RH_RUN(h, "login alice/a\nlogin bob/b\nlogin carol/c\nlogin dave/d\n"
			  "bob/b > <presence/>\ncarol/c > <presence/>\ndave/d > <presence/>\n"
			  "clear bob/b\nclear carol/c\nclear dave/d\n"
			  /* DELIV-1: from is stamped, whatever the client says */
			  "alice/a > <message from='bob@localhost' to='bob@localhost' type='chat' id='1'><body>1</body></message>\n"
			  "alice/a > <message to='carol@localhost' type='chat'><body>2</body></message>\n"
			  "alice/a > <message to='dave@localhost' type='chat'><body>3</body></message>\n"
			  "bob/b < <message from='alice@localhost/a' to='bob@localhost' type='chat' id='1'><body>1</body></message>\n"
			  "carol/c < <message type='chat'><body>2</body></message>\n"
			  "dave/d < <message type='chat'><body>3</body></message>\n"
			  "bob/b -\nalice/a -\n"
			  "rows bob@localhost 0\n");
		rh_free(&h);
	}
}

/* The order of a conversation, between workers too. */
static void test_order(void **state)
{
	struct rh *h = begin(2);
	char line[256];

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\nbob/b > <presence/>\nclear bob/b\n");
	for (unsigned i = 0; i < 300; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		if (i % 7 == 3)
			snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='o%u'/></message>\n", i, i);
		RH_RUN(h, line);
	}
	for (unsigned i = 0; i < 300; i++) {
		snprintf(line, sizeof(line), "bob/b < <message type='chat' id='%u'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "h alice/a 300\n");
	rh_free(&h);
}

/* ---- the delivery table, RFC 6121 8.5.4 ------------------------------------------------------ */

enum { D_NOBODY, D_TOP, D_ALL, D_ERROR, D_STORED, D_NOTHING };

/* bob has: 0: no session; 1: only one of priority -1; 2: -1, 1, 5, 5. */
static void delivery_case(const char *type, const char *to, unsigned sessions, int want)
{
	struct rh *h = begin(1);
	char s[512];

	RH_RUN(h, "login alice/a\nalice/a > <presence/>\nclear alice/a\n");
	if (sessions >= 1)
		RH_RUN(h, "login bob/neg\nbob/neg > <presence><priority>-1</priority></presence>\n");
	if (sessions >= 2)
		RH_RUN(h, "login bob/low\nbob/low > <presence><priority>1</priority></presence>\n"
			  "login bob/t1\nbob/t1 > <presence><priority>5</priority></presence>\n"
			  "login bob/t2\nbob/t2 > <presence><priority>5</priority></presence>\n"
			  "login bob/mute\n"
			  "clear bob/low\nclear bob/t1\nclear bob/t2\n");
	if (sessions >= 1)
		RH_RUN(h, "clear bob/neg\n");
	snprintf(s, sizeof(s), "alice/a > <message to='%s'%s%s%s id='m'><body>x</body></message>\nsettle\n", to,
		 *type ? " type='" : "", type, *type ? "'" : "");
	RH_RUN(h, s);
	if (sessions >= 2) {
		unsigned top = want == D_TOP || want == D_ALL;

		assert_int_equal(rh_inbox(h, "bob/t1"), top);
		assert_int_equal(rh_inbox(h, "bob/t2"), top);
		assert_int_equal(rh_inbox(h, "bob/low"), want == D_ALL);
		assert_int_equal(rh_inbox(h, "bob/mute"), 0);
	}
	if (sessions >= 1)
		assert_int_equal(rh_inbox(h, "bob/neg"), 0);
	assert_int_equal(rh_inbox(h, "alice/a"), want == D_ERROR);
	assert_int_equal(rh_rows(h, "bob@localhost"), want == D_STORED);
	if (want == D_ERROR)
		RH_RUN(h, "alice/a < <message type='error' id='m'>" ERROR("service-unavailable") "</message>\n");
	rh_free(&h);
}

static void test_delivery_table(void **state)
{
	static const struct {
		const char *type, *to;
		int none, negative, some;
	} cases[] = {
		{ "", "bob@localhost", D_STORED, D_STORED, D_TOP },
		{ "normal", "bob@localhost", D_STORED, D_STORED, D_TOP },
		{ "strange", "bob@localhost", D_STORED, D_STORED, D_TOP },
		{ "chat", "bob@localhost", D_STORED, D_STORED, D_TOP },
		{ "groupchat", "bob@localhost", D_ERROR, D_ERROR, D_ERROR },
		{ "headline", "bob@localhost", D_NOTHING, D_NOTHING, D_ALL },
		{ "error", "bob@localhost", D_NOTHING, D_NOTHING, D_NOTHING },
		{ "", "bob@localhost/none", D_ERROR, D_ERROR, D_ERROR },
		{ "chat", "bob@localhost/none", D_STORED, D_STORED, D_TOP },
		{ "groupchat", "bob@localhost/none", D_ERROR, D_ERROR, D_ERROR },
		{ "headline", "bob@localhost/none", D_ERROR, D_ERROR, D_ERROR },
		{ "error", "bob@localhost/none", D_NOTHING, D_NOTHING, D_NOTHING },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		delivery_case(cases[i].type, cases[i].to, 0, cases[i].none);
		delivery_case(cases[i].type, cases[i].to, 1, cases[i].negative);
		delivery_case(cases[i].type, cases[i].to, 2, cases[i].some);
	}
}

/* DELIV-5: a full JID that matches gets everything, whatever its priority or presence. */
static void test_full_jid(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/neg\nlogin bob/mute\n"
		  "bob/neg > <presence><priority>-1</priority></presence>\nclear bob/neg\n"
		  "alice/a > <message to='bob@localhost/neg' type='chat'><body>1</body></message>\n"
		  "alice/a > <message to='bob@localhost/mute' type='groupchat'><body>2</body></message>\n"
		  "alice/a > <message to='bob@localhost/mute' type='error'/>\n"
		  "alice/a > <presence to='bob@localhost/mute'/>\n"
		  "alice/a > <presence to='bob@localhost/none'/>\n"
		  "alice/a > <iq to='bob@localhost/mute' type='get' id='q'><query xmlns='jabber:iq:version'/></iq>\n"
		  "bob/neg < <message type='chat'><body>1</body></message>\n"
		  "bob/mute < <message type='groupchat'/>\n"
		  "bob/mute < <message type='error'/>\n"
		  "bob/mute < <presence/>\n"
		  "bob/mute < <iq from='alice@localhost/a' type='get' id='q'/>\n"
		  "bob/mute > <iq to='alice@localhost/a' type='result' id='q'/>\n"
		  "alice/a < <iq from='bob@localhost/mute' type='result' id='q'/>\n"
		  "alice/a > <iq to='bob@localhost/none' type='get' id='n'><query xmlns='jabber:iq:version'/></iq>\n"
		  "alice/a < <iq from='bob@localhost/none' type='error' id='n'>" ERROR("service-unavailable") "</iq>\n"
		  /* not by the account, which would answer this for its bare JID */
		  "alice/a > <iq to='bob@localhost/none' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq from='bob@localhost/none' type='error' id='p'>" ERROR("service-unavailable") "</iq>\n"
		  "alice/a > <iq to='bob@localhost/none' type='result' id='n'/>\n"
		  "alice/a -\nbob/neg -\nbob/mute -\n");
	rh_free(&h);
}

/* DELIV-2, 9, 10: domains that are not ours, accounts that are not there, the host itself. */
static void test_nowhere(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <message to='x@example.com' id='1'><body>x</body></message>\n"
		  "alice/a < <message type='error' id='1' from='x@example.com'>" ERROR("remote-server-not-found") "</message>\n"
		  "alice/a > <iq to='example.com' type='get' id='2'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='2'>" ERROR("remote-server-not-found") "</iq>\n"
		  "alice/a > <message to='nobody@localhost' id='3'><body>x</body></message>\n"
		  "alice/a < <message type='error' id='3'>" ERROR("service-unavailable") "</message>\n"
		  "alice/a > <iq to='nobody@localhost' type='get' id='4'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='4'>" ERROR("service-unavailable") "</iq>\n"
		  "alice/a > <presence to='nobody@localhost'/>\n"
		  "alice/a > <message to='localhost' id='5'><body>x</body></message>\n"
		  "alice/a < <message type='error' id='5' from='localhost'>" ERROR("service-unavailable") "</message>\n"
		  "alice/a > <message to='nobody@localhost' type='error' id='6'/>\n"
		  "alice/a > <iq to='nobody@localhost' type='result' id='7'/>\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* DELIV-10, DELIV-11: a subscription to the host is refused; a component that is not there. */
static void test_host_and_absent_component(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nalice/a > <presence/>\n"
		  "alice/a > <iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>\n"
		  "clear alice/a\n"
		  "alice/a > <presence to='localhost' type='subscribe'/>\n"
		  "alice/a ~ <presence from='localhost' type='unsubscribed'/>\n"
		  "clear alice/a\n"
		  "alice/a > <presence to='localhost'/>\n"
		  "alice/a > <presence to='x@irc.localhost'/>\n"
		  "alice/a -\n"
		  "alice/a > <message to='x@irc.localhost' id='1'><body>x</body></message>\n"
		  "alice/a < <message type='error' id='1'>" ERROR("service-unavailable") "</message>\n"
		  "alice/a > <iq to='x@irc.localhost' type='get' id='2'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='2'>" ERROR("service-unavailable") "</iq>\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* DELIV-11: of several streams a conversation keeps to one, whichever session of the user speaks. */
static void test_streams_of_a_component(void **state)
{
	struct rh *h = begin(1);
	unsigned before = 0, ones = 0, n = 30;
	char line[256];

	(void)state;
	RH_RUN(h, "attach irc.localhost\nattach irc.localhost#2\nlogin alice/a\nlogin alice/b\n");
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 4; k++) {
			snprintf(line, sizeof(line), "alice/%c > <message to='x%u@irc.localhost' type='chat'><body>x</body></message>\n",
				 k % 2 ? 'a' : 'b', i);
			RH_RUN(h, line);
		}
		unsigned got = rh_inbox(h, "irc.localhost") - before;

		assert_true(got == 0 || got == 4);
		before += got;
		ones += got == 4;
	}
	assert_in_range(ones, 1, n - 1);
	assert_int_equal(rh_inbox(h, "irc.localhost") + rh_inbox(h, "irc.localhost#2"), n * 4);
	rh_free(&h);
}

/* DELIV-3: no address: the own account. */
static void test_to_self(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin alice/b\nalice/b > <presence/>\nclear alice/b\n"
		  "alice/a > <message type='chat'><body>note</body></message>\n"
		  "alice/b < <message from='alice@localhost/a' to='alice@localhost' type='chat'><body>note</body></message>\n"
		  "alice/a > <iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='result' id='1'/>\n"
		  "alice/a > <iq to='alice@localhost' type='get' id='2'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='result' id='2' from='alice@localhost'/>\n"
		  "alice/a > <iq type='get' id='3'><nothing xmlns='urn:example'/></iq>\n"
		  "alice/a < <iq type='error' id='3'>" ERROR("service-unavailable") "</iq>\n"
		  "alice/a > <iq type='result' id='4'/>\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* DELIV-4 */
static void test_malformed(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <iq to='localhost' type='get' id='1'/>\n"
		  "alice/a < <iq type='error' id='1'>" ERROR("bad-request") "</iq>\n"
		  "alice/a > <iq to='localhost' type='get' id='2'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='2'>" ERROR("bad-request") "</iq>\n"
		  "alice/a > <iq to='localhost' type='what' id='3'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='3'>" ERROR("bad-request") "</iq>\n"
		  "alice/a > <iq to='localhost' type='get'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error'>" ERROR("bad-request") "</iq>\n"
		  "alice/a > <iq to='localhost' id='4'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='4'>" ERROR("bad-request") "</iq>\n"
		  "alice/a > <presence type='strange'/>\n"
		  "alice/a < <presence type='error'>" ERROR("bad-request") "</presence>\n"
		  "alice/a -\n"
		  /* a component has no account that a missing address could mean */
		  "attach irc.localhost\n"
		  "irc.localhost > <message from='x@irc.localhost' id='5'><body>x</body></message>\n"
		  "irc.localhost < <message type='error' id='5' to='x@irc.localhost'>" ERROR("bad-request") "</message>\n"
		  "irc.localhost -\n");
	rh_free(&h);
}

static void test_services(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <iq to='localhost' type='get' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>\n"
		  "alice/a < <iq type='result' id='1' from='localhost'><query xmlns='http://jabber.org/protocol/disco#info'><identity category='server' type='im'/><feature var='http://jabber.org/protocol/disco#info'/><feature var='msgoffline'/><feature var='urn:xmpp:ping'/></query></iq>\n"
		  "alice/a > <iq to='localhost' type='get' id='2'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>\n"
		  "alice/a < <iq type='result' id='2'><query xmlns='http://jabber.org/protocol/disco#items'><item jid='*'/><item jid='*'/></query></iq>\n"
		  "alice/a > <iq to='localhost' type='get' id='3'><query xmlns='http://jabber.org/protocol/disco#info' node='x'/></iq>\n"
		  "alice/a < <iq type='error' id='3'>" ERROR("item-not-found") "</iq>\n"
		  "alice/a > <iq to='bob@localhost' type='get' id='4'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>\n"
		  "alice/a < <iq type='error' id='4'>" ERROR("service-unavailable") "</iq>\n"
		  "alice/a > <iq to='alice@localhost' type='get' id='5'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>\n"
		  "alice/a < <iq type='result' id='5'><query xmlns='http://jabber.org/protocol/disco#info'><identity category='account' type='registered'/></query></iq>\n"
		  "alice/a > <iq to='localhost' type='get' id='6'><query xmlns='jabber:iq:version'/></iq>\n"
		  "alice/a < <iq type='result' id='6'><query xmlns='jabber:iq:version'><name>Tandem</name><version>*</version></query></iq>\n"
		  "alice/a > <iq to='localhost' type='get' id='7'><time xmlns='urn:xmpp:time'/></iq>\n"
		  "alice/a < <iq type='result' id='7'><time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>*</utc></time></iq>\n"
		  "alice/a > <iq to='localhost' type='get' id='8'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='result' id='8'/>\n"
		  "alice/a > <iq type='set' id='9'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>\n"
		  "alice/a < <iq type='result' id='9'/>\n"
		  "alice/a > <iq to='localhost' type='set' id='10'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='error' id='10'>" ERROR("service-unavailable") "</iq>\n");
	rh_free(&h);
}

/* ---- sessions and users ---------------------------------------------------------------------- */

/* RFC 6120 7.7.2.2: the newer session wins; contacts see the old one go before the new one comes. */
static void test_conflict(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nalice/a > <presence/>\n"
		  "login alice/z\nalice/z > <presence/>\nclear alice/z\n");
	/* a second session of the same name in the harness: bind by hand */
	rh_login_as(h, "second", "alice@localhost/a");
	assert_int_equal(rh_bound_rc(h, "second"), 0);
	assert_string_equal(rh_closed(h, "alice/a"), "conflict");
	RH_RUN(h, "alice/z < <presence from='alice@localhost/a' type='unavailable'/>\n"
		  "second > <presence/>\n"
		  "alice/z < <presence from='alice@localhost/a'/>\n"
		  "end alice/a\n"
		  "alice/z -\n"
		  "alice/z > <message to='alice@localhost/a' type='chat'><body>x</body></message>\n"
		  "second ~ <message type='chat'/>\n");
	rh_free(&h);
}

static void test_session_limit(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->cfg->lim.sessions_per_user = 2;
	RH_RUN(h, "login alice/a\nlogin alice/b\nlogin alice/c\n");
	assert_int_equal(rh_bound_rc(h, "alice/b"), 0);
	assert_int_equal(rh_bound_rc(h, "alice/c"), E_LIMIT);
	RH_RUN(h, "end alice/a\nlogin alice/d\n");
	assert_int_equal(rh_bound_rc(h, "alice/d"), 0);
	rh_free(&h);
}

/* USER-2: a login for an account that is not there; USER-5: an account that is removed. */
static void test_accounts(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login nobody/a\n");
	assert_int_equal(rh_bound_rc(h, "nobody/a"), E_NOTFOUND);
	rh_account(h, "nobody@localhost");
	RH_RUN(h, "login nobody/b\n");
	assert_int_equal(rh_bound_rc(h, "nobody/b"), 0);
	router_account_changed(&h->w[0], SL("nobody@localhost"), true);
	rh_settle(h);
	assert_string_equal(rh_closed(h, "nobody/b"), "not-authorized");
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <message to='nobody@localhost' id='1' type='chat'><body>x</body></message>\n"
		  "alice/a < <message type='error' id='1'/>\n"
		  "end nobody/b\n");
	router_account_changed(&h->w[0], SL("nobody@localhost"), false);
	RH_RUN(h, "settle\n"
		  "alice/a > <message to='nobody@localhost' id='2' type='chat'><body>x</body></message>\n"
		  "alice/a -\n"
		  "rows nobody@localhost 1\n");
	rh_free(&h);
}

/* Everything that comes while an account is loaded waits, in order. */
static void test_waits_for_the_load(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <message to='bob@localhost' type='chat' id='1'><body>x</body></message>\n"
		  "alice/a > <message to='bob@localhost' type='chat' id='2'><body>x</body></message>\n"
		  "alice/a > <iq to='bob@localhost' type='get' id='3'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a < <iq type='result' id='3'/>\n"
		  "rows bob@localhost 2\n");
	rh_free(&h);
}

/* USER-1, USER-4: while the session's own user is loaded again, what it sends waits; and what waited behind the change
 * that was not stored does not see it. */
static void test_waits_for_its_own_load(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->readers = 2;
	rh_restart(h);
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\n"
		  "alice/a > <presence/>\nclear alice/a\n"
		  "irc.localhost > <presence from='x@irc.localhost' to='alice@localhost' type='subscribe'/>\n"
		  "clear alice/a\n"
		  "hold\n"
		  "alice/a > <presence to='x@irc.localhost' type='subscribed' id='1'/>\n"
		  "alice/a > <iq type='get' id='2'><query xmlns='jabber:iq:roster'/></iq>\n"
		  "irc.localhost > <presence from='x@irc.localhost' to='alice@localhost' type='probe'/>\n"
		  "irc.localhost > <presence from='x@irc.localhost' to='alice@localhost'/>\n"
		  "fail 1\nhold count\n"
		  "settle\n"
		  "alice/a > <iq type='get' id='3'><query xmlns='jabber:iq:roster'/></iq>\n"
		  "alice/a -\nirc.localhost -\n"
		  "release\n"
		  "alice/a < <presence type='error' id='1'>" ERROR("internal-server-error") "</presence>\n"
		  "alice/a < <iq type='error' id='2'>" ERROR("internal-server-error") "</iq>\n"
		  "alice/a ~ <presence from='x@irc.localhost'/>\n"
		  "alice/a ! <iq type='result' id='3'><query xmlns='jabber:iq:roster'><item/></query></iq>\n"
		  "alice/a < <iq type='result' id='3'/>\n"
		  "alice/a -\n"
		  "irc.localhost < <presence from='alice@localhost' type='unsubscribed'/>\n"
		  "irc.localhost -\n");
	rh_free(&h);
}

/* USER-6: a user that nobody needs is forgotten; one with a session is not. */
static void test_idle_users_go(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <message to='bob@localhost' type='chat'><body>x</body></message>\n"
		  "alice/a > <message to='nobody@localhost' type='error'/>\n"
		  "settle\n");
	assert_int_equal(h->w[0].users.n, 3);
	clock_fake(true, clock_mono_ms(), clock_wall_ms());
	for (unsigned i = 0; i < 40; i++) {
		clock_fake_advance_ms(5000);
		rh_turn(h, 0);
	}
	assert_int_equal(h->w[0].users.n, 1);
	clock_fake(false, 0, 0);
	rh_free(&h);
}

/* USER-2: names that somebody makes up are not remembered without end. */
static void test_made_up_users_go(void **state)
{
	struct rh *h = begin(1);
	char line[100];

	(void)state;
	RH_RUN(h, "login alice/a\n");
	for (unsigned i = 0; i < 4500; i++) {
		snprintf(line, sizeof(line),
			 "alice/a > <message to='made%u@localhost' type='error'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\n");
	clock_fake(true, clock_mono_ms(), clock_wall_ms());
	for (unsigned i = 0; i < 3; i++) {
		clock_fake_advance_ms(100);
		rh_turn(h, 0);
	}
	assert_in_range(h->w[0].users.n, 1, 4097);
	clock_fake(false, 0, 0);
	rh_free(&h);
}

static void test_machine_is_sound(void **state)
{
	struct err e = { 0 };

	(void)state;
	if (fsm_def_prepare(&user_fsm, &e))
		fail_msg("%s", e.text);
}

/* Ids grow, also when the clock steps back, and are above what the store has. */
static void test_ids(void **state)
{
	struct rh *h = begin(2);
	uint64_t last = 0;

	(void)state;
	clock_fake(true, 1000, 1000000);
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t id = worker_new_id(&h->w[1]);

		assert_true(id > last);
		assert_int_equal(id >> 16 & 63, 1);
		last = id;
		if (i == 1000)
			clock_fake(true, 1000, 999000);
	}
	clock_fake(false, 0, 0);
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <message to='bob@localhost' type='chat'><body>x</body></message>\n"
		  "settle\n");
	last = h->w[0].last_id > h->w[1].last_id ? h->w[0].last_id : h->w[1].last_id;
	clock_fake(true, clock_mono_ms(), 5000);
	rh_restart(h);
	assert_true(worker_new_id(&h->w[0]) >> 22 >= last >> 22);
	assert_true(worker_new_id(&h->w[1]) >> 22 >= last >> 22);
	clock_fake(false, 0, 0);
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine_is_sound),
		cmocka_unit_test(test_chat_between_users),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_delivery_table),
		cmocka_unit_test(test_full_jid),
		cmocka_unit_test(test_nowhere),
		cmocka_unit_test(test_host_and_absent_component),
		cmocka_unit_test(test_streams_of_a_component),
		cmocka_unit_test(test_to_self),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_services),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_session_limit),
		cmocka_unit_test(test_accounts),
		cmocka_unit_test(test_waits_for_the_load),
		cmocka_unit_test(test_waits_for_its_own_load),
		cmocka_unit_test(test_idle_users_go),
		cmocka_unit_test(test_made_up_users_go),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
