/* Rosters: rules ROST-1 to ROST-7 (docs/rules/xmpp.md), RFC 6121 section 2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/router_harness.h"
#include "xmpp/services/services.h"

static struct rh *begin(void)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", NULL };
	struct rh *h = rh_new(1);

	rh_accounts(h, jids);
	return h;
}

#define GET(id) "<iq type='get' id='" id "'><query xmlns='jabber:iq:roster'/></iq>"
#define SET(id, items) "<iq type='set' id='" id "'><query xmlns='jabber:iq:roster'>" items "</query></iq>"
#define RESULT(id, items) "<iq type='result' id='" id "'><query xmlns='jabber:iq:roster'>" items "</query></iq>"
#define PUSH(item) "<iq type='set' id='*'><query xmlns='jabber:iq:roster'>" item "</query></iq>"
#define ERROR(id, cond)                                                                      \
	"<iq type='error' id='" id "'><error><" cond                                         \
	" xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"

/* ROST-1, ROST-3, ROST-5 */
static void test_set_and_get(void **state)
{
	struct rh *h = begin();

	(void)state;
	RH_RUN(h, "login alice/a\nlogin alice/b\nlogin alice/c\n"
		  "alice/a > " GET("1") "\n"
		  "alice/a < " RESULT("1", "") "\n"
		  "alice/b > " GET("1") "\n"
		  "alice/b < <iq type='result'/>\n"
		  "alice/c > " SET("2", "<item jid='Bob@localhost' name='Bob' subscription='both' ask='subscribe'><group>Friends</group><group>Work &amp; Co</group></item>") "\n"
		  "alice/a < " PUSH("<item jid='bob@localhost' name='Bob' subscription='none'><group>Friends</group><group>Work &amp; Co</group></item>") "\n"
		  "alice/b < " PUSH("<item jid='bob@localhost'/>") "\n"
		  "alice/c < <iq type='result' id='2' to='alice@localhost/c'/>\n"
		  "alice/c -\n"
		  "alice/a > <iq type='result' id='push-1'/>\n"
		  "alice/a > " SET("3", "<item jid='bob@localhost' name='Robert'/>") "\n"
		  "alice/a < " PUSH("<item jid='bob@localhost' name='Robert' subscription='none'/>") "\n"
		  "alice/a < <iq type='result' id='3'/>\n"
		  "alice/a -\n");
	rh_restart(h);
	RH_RUN(h, "login alice/a\n"
		  "alice/a > " GET("1") "\n"
		  "alice/a < " RESULT("1", "<item jid='bob@localhost' name='Robert' subscription='none'/>") "\n"
		  "alice/a > " SET("4", "<item jid='bob@localhost' subscription='remove'/>") "\n"
		  "alice/a < " PUSH("<item jid='bob@localhost' subscription='remove'/>") "\n"
		  "alice/a < <iq type='result' id='4'/>\n"
		  "alice/a -\n");
	rh_restart(h);
	RH_RUN(h, "login alice/a\n"
		  "alice/a > " GET("1") "\n"
		  "alice/a < " RESULT("1", "") "\n");
	assert_int_equal(user_find(&h->w[0], SL("alice@localhost"))->roster->n, 0);
	rh_free(&h);
}

/* ROST-3: the conditions of RFC 6121 2.3.3, 2.5.3. */
static void test_errors(void **state)
{
	struct rh *h = begin();
	static const struct {
		const char *items, *cond;
	} cases[] = {
		{ "", "bad-request" },
		{ "<item/>", "bad-request" },
		{ "<item jid=''/>", "bad-request" },
		{ "<item jid='a@localhost'/><item jid='b@localhost'/>", "bad-request" },
		{ "<item jid='a@localhost/res'/>", "bad-request" },
		{ "<item jid='a@@localhost'/>", "jid-malformed" },
		{ "<item jid='alice@localhost'/>", "not-allowed" },
		{ "<item jid='b@localhost'><group/></item>", "not-acceptable" },
		{ "<item jid='b@localhost'><group>x</group><group>x</group></item>", "bad-request" },
		{ "<item jid='nobody@localhost' subscription='remove'/>", "item-not-found" },
	};
	char s[1024];

	(void)state;
	RH_RUN(h, "login alice/a\nalice/a > " GET("1") "\nalice/a < <iq type='result'/>\n");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(s, sizeof(s),
			 "alice/a > <iq type='set' id='e'><query xmlns='jabber:iq:roster'>%s</query></iq>\n"
			 "alice/a < <iq type='error' id='e'><error><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>\n"
			 "alice/a -\n",
			 cases[i].items, cases[i].cond);
		RH_RUN(h, s);
	}
	rh_free(&h);
}

static void test_long_names(void **state)
{
	struct rh *h = begin();
	char *s = malloc(8192), name[1100];

	(void)state;
	memset(name, 'n', sizeof(name));
	RH_RUN(h, "login alice/a\n");
	for (unsigned n = 1023; n <= 1024; n++) {
		const char *want = n > 1023 ? "error' id='e'><error><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>" : "result' id='e'/>";

		snprintf(s, 8192, "alice/a > <iq type='set' id='e'><query xmlns='jabber:iq:roster'><item jid='b@localhost' name='%.*s'/></query></iq>\nalice/a < <iq type='%s\n", (int)n, name, want);
		RH_RUN(h, s);
		snprintf(s, 8192, "alice/a > <iq type='set' id='e'><query xmlns='jabber:iq:roster'><item jid='b@localhost'><group>%.*s</group></item></query></iq>\nalice/a < <iq type='%s\n", (int)n, name, want);
		RH_RUN(h, s);
	}
	free(s);
	rh_free(&h);
}

/* ROST-3: up to 100 groups; what would break their list in the store becomes a space. */
static void test_groups(void **state)
{
	struct rh *h = begin();
	char *s = malloc(16384);

	(void)state;
	RH_RUN(h, "login alice/a\nalice/a > " GET("1") "\nalice/a < <iq type='result'/>\n");
	for (unsigned groups = 100; groups <= 101; groups++) {
		size_t n = (size_t)snprintf(s, 16384, "alice/a > <iq type='set' id='e'><query xmlns='jabber:iq:roster'><item jid='b@localhost'>");

		for (unsigned i = 0; i < groups; i++)
			n += (size_t)snprintf(s + n, 16384 - n, "<group>g%u</group>", i);
		snprintf(s + n, 16384 - n, "</item></query></iq>\n");
		RH_RUN(h, s);
		if (groups == 100)
			RH_RUN(h, "alice/a < " PUSH("<item jid='b@localhost'><group>g0</group><group>g99</group></item>") "\n"
				  "alice/a < <iq type='result' id='e'/>\n");
		else
			RH_RUN(h, "alice/a < " ERROR("e", "not-acceptable") "\n");
	}
	free(s);
	RH_RUN(h, "alice/a > " SET("2", "<item jid='b@localhost'><group>tab&#9;here</group><group>line&#10;here</group><group>return&#13;here</group></item>") "\n"
		  "alice/a < " PUSH("<item jid='b@localhost'><group>tab here</group><group>line here</group><group>return here</group></item>") "\n"
		  "alice/a < <iq type='result' id='2'/>\n");
	rh_restart(h);
	RH_RUN(h, "login alice/a\nalice/a > " GET("3") "\n"
		  "alice/a < " RESULT("3", "<item jid='b@localhost'><group>tab here</group><group>line here</group><group>return here</group></item>") "\n");
	rh_free(&h);
}

static unsigned stored_items(struct rh *h, const char *owner)
{
	struct store_roster_load l;
	unsigned n;

	rh_roster(h, owner, &l);
	n = l.n_r;
	store_op_fini(&l.op);
	return n;
}

/* ROST-1, ROST-4: a pending request is no item; once it is refused nothing is left of it. */
static void test_pending_is_no_item(void **state)
{
	struct rh *h = begin();

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/b\n"
		  "alice/a > " GET("1") "\nalice/a < <iq type='result'/>\n"
		  "bob/b > <presence to='alice@localhost' type='subscribe'/>\n"
		  "settle\n"
		  "alice/a > " GET("2") "\n"
		  "alice/a < <iq type='result' id='2'/>\n"
		  "alice/a -\n");
	assert_int_equal(stored_items(h, "alice@localhost"), 1);
	rh_restart(h);
	RH_RUN(h, "login alice/a\nalice/a > " GET("3") "\n");
	RH_RUN(h, "alice/a ! " RESULT("3", "<item jid='bob@localhost'/>") "\n"
		  "alice/a < <iq type='result' id='3'/>\n"
		  "alice/a > " SET("4", "<item jid='bob@localhost' subscription='remove'/>") "\n"
		  "alice/a < " ERROR("4", "item-not-found") "\n"
		  "alice/a > <presence to='bob@localhost' type='unsubscribed'/>\n"
		  "settle\n"
		  "alice/a -\n");
	assert_int_equal(stored_items(h, "alice@localhost"), 0);
	assert_int_equal(user_find(&h->w[0], SL("alice@localhost"))->roster->n, 0);
	rh_free(&h);
}

/* ROST-4: what the contact is told, in each state of the item. */
static void test_remove_in_each_state(void **state)
{
	static const struct {
		const char *jid;
		unsigned sub;
		bool ask, in, unsubscribe, unsubscribed, gone;
	} cases[] = {
		{ "n@irc.localhost", STORE_SUB_NONE, false, false, false, false, false },
		{ "no@irc.localhost", STORE_SUB_NONE, true, false, true, false, false },
		{ "ni@irc.localhost", STORE_SUB_NONE, false, true, false, true, false },
		{ "t@irc.localhost", STORE_SUB_TO, false, false, true, false, false },
		{ "ti@irc.localhost", STORE_SUB_TO, false, true, true, true, false },
		{ "f@irc.localhost", STORE_SUB_FROM, false, false, false, true, true },
		{ "fo@irc.localhost", STORE_SUB_FROM, true, false, true, true, true },
		{ "b@irc.localhost", STORE_SUB_BOTH, false, false, true, true, true },
	};
	struct rh *h = begin();
	char s[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct store_roster_put p = { .op.kind = STORE_ROSTER_PUT, .owner = SL("alice@localhost") };

		p.item = (struct store_roster_item){ .jid = sl_cstr(cases[i].jid),
						     .subscription = (uint8_t)cases[i].sub,
						     .in_roster = true,
						     .ask = cases[i].ask,
						     .pending_in = cases[i].in };
		rh_put(h, &p);
	}
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\nalice/a > <presence/>\nclear alice/a\nclear irc.localhost\n");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(s, sizeof(s),
			 "alice/a > <iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='%s' subscription='remove'/></query></iq>\n"
			 "alice/a < <iq type='result' id='r'/>\n", cases[i].jid);
		RH_RUN(h, s);
		snprintf(s, sizeof(s), "irc.localhost %s <presence from='alice@localhost' to='%s' type='unsubscribe'/>\n",
			 cases[i].unsubscribe ? "<" : "!", cases[i].jid);
		RH_RUN(h, s);
		snprintf(s, sizeof(s), "irc.localhost %s <presence from='alice@localhost' to='%s' type='unsubscribed'/>\n",
			 cases[i].unsubscribed ? "<" : "!", cases[i].jid);
		RH_RUN(h, s);
		snprintf(s, sizeof(s), "irc.localhost %s <presence from='alice@localhost/a' to='%s' type='unavailable'/>\nirc.localhost -\n",
			 cases[i].gone ? "<" : "!", cases[i].jid);
		RH_RUN(h, s);
	}
	assert_int_equal(stored_items(h, "alice@localhost"), 0);
	rh_free(&h);
}

/* ROST-6 */
static void test_limit(void **state)
{
	struct rh *h = begin();

	(void)state;
	h->cfg->lim.roster_items = 2;
	RH_RUN(h, "login alice/a\nlogin bob/b\n"
		  "alice/a > " SET("1", "<item jid='x1@localhost'/>") "\n"
		  "alice/a > " SET("2", "<item jid='x2@localhost'/>") "\n"
		  "alice/a > " SET("3", "<item jid='x3@localhost'/>") "\n"
		  "alice/a > " SET("4", "<item jid='x2@localhost' name='again'/>") "\n"
		  "alice/a ~ <iq type='result' id='1'/>\n"
		  "alice/a ~ <iq type='result' id='2'/>\n"
		  "alice/a ~ " ERROR("3", "resource-constraint") "\n"
		  "alice/a ~ <iq type='result' id='4'/>\n"
		  "alice/a > <presence to='x4@localhost' type='subscribe'/>\n"
		  "alice/a < <presence type='error'><error><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"
		  "bob/b > <presence/>\nbob/b < <presence/>\n"
		  "bob/b > <presence to='alice@localhost' type='subscribe'/>\n"
		  "bob/b < <presence type='error' from='alice@localhost'><error><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n");
	rh_free(&h);
}

/* ROST-2: somebody else's roster, whether the account exists or not. */
static void test_not_yours(void **state)
{
	struct rh *h = begin();

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <iq type='get' id='1' to='bob@localhost'><query xmlns='jabber:iq:roster'/></iq>\n"
		  "alice/a < " ERROR("1", "forbidden") "\n"
		  "alice/a > <iq type='set' id='2' to='nobody@localhost'><query xmlns='jabber:iq:roster'><item jid='x@localhost'/></query></iq>\n"
		  "alice/a < " ERROR("2", "forbidden") "\n"
		  "alice/a > <iq type='get' id='3' to='alice@localhost'><query xmlns='jabber:iq:roster'/></iq>\n"
		  "alice/a < <iq type='result' id='3'/>\n");
	rh_free(&h);
}

/* ROST-4: the subscriptions end with the item. */
static void test_remove_ends_subscriptions(void **state)
{
	struct rh *h = begin();

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/b\n"
		  "alice/a > " GET("1") "\nalice/a < <iq type='result'/>\n"
		  "bob/b > " GET("1") "\nbob/b < <iq type='result'/>\n"
		  "alice/a > <presence/>\nbob/b > <presence/>\n"
		  "alice/a > <presence to='bob@localhost' type='subscribe'/>\n"
		  "settle\n"
		  "bob/b > <presence to='alice@localhost' type='subscribed'/>\n"
		  "settle\n"
		  "bob/b > <presence to='alice@localhost' type='subscribe'/>\n"
		  "settle\n"
		  "alice/a > <presence to='bob@localhost' type='subscribed'/>\n"
		  "clear alice/a\nclear bob/b\n"
		  "alice/a > " SET("2", "<item jid='bob@localhost' subscription='remove'/>") "\n"
		  "alice/a < " PUSH("<item jid='bob@localhost' subscription='remove'/>") "\n"
		  "alice/a < <iq type='result' id='2'/>\n"
		  "bob/b < <presence from='alice@localhost' type='unsubscribe'/>\n"
		  "bob/b < " PUSH("<item jid='alice@localhost' subscription='to'/>") "\n"
		  "bob/b < <presence from='alice@localhost' type='unsubscribed'/>\n"
		  "bob/b < " PUSH("<item jid='alice@localhost' subscription='none'/>") "\n"
		  "bob/b < <presence from='alice@localhost/a' type='unavailable'/>\n"
		  "bob/b -\n"
		  "alice/a ~ <presence from='bob@localhost/b' type='unavailable'/>\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* ROST-7: no answer and no push before the commit; in order; and nothing of what failed stays in memory. */
static void test_waits_for_the_commit(void **state)
{
	struct rh *h = begin();

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > " GET("1") "\nalice/a < <iq type='result'/>\n"
		  "hold\n"
		  "alice/a > " SET("2", "<item jid='x@localhost'/>") "\n"
		  "alice/a > " GET("3") "\n"
		  "alice/a > " SET("4", "<item jid='x@localhost' subscription='remove'/>") "\n"
		  "alice/a -\n"
		  "release\n"
		  "alice/a < " PUSH("<item jid='x@localhost'/>") "\n"
		  "alice/a < <iq type='result' id='2'/>\n"
		  "alice/a < <iq type='result' id='3'/>\n"
		  "alice/a < " PUSH("<item jid='x@localhost' subscription='remove'/>") "\n"
		  "alice/a < <iq type='result' id='4'/>\n"
		  "alice/a -\n"
		  "fail 1\n"
		  "alice/a > " SET("5", "<item jid='y@localhost'/>") "\n"
		  "alice/a < " ERROR("5", "internal-server-error") "\n"
		  "heal\n"
		  "alice/a > " GET("6") "\n"
		  "alice/a < " RESULT("6", "") "\n"
		  "alice/a -\n");
	assert_int_equal(user_find(&h->w[0], SL("alice@localhost"))->roster->n, 0);
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_get),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_pending_is_no_item),
		cmocka_unit_test(test_remove_in_each_state),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_not_yours),
		cmocka_unit_test(test_remove_ends_subscriptions),
		cmocka_unit_test(test_waits_for_the_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
