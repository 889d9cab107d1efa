/* Presence and subscriptions: rules PRES-1 to PRES-14 (docs/rules/xmpp.md), and every row of RFC 6121 appendix A. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/router_harness.h"
#include "xmpp/services/services.h"

static struct rh *begin(unsigned workers)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", "carol@localhost", NULL };
	struct rh *h = rh_new(workers);

	rh_accounts(h, jids);
	return h;
}

/* ---- the tables ------------------------------------------------------------------------------ */

static const char *const names[SUB_STATES] = { "N", "NO", "NI", "NOI", "T", "TI", "F", "FO", "B" };

/* Appendix A once more, as the RFC's own columns: existing state, '+' if the stanza is routed (outbound) or delivered
 * (inbound), the new state, '*' if the server answers for the user. */
static const char *const appendix[SUB_EVENTS] = {
	[OUT_SUBSCRIBE] = "N+NO NO+NO NI+NOI NOI+NOI T+T TI+TI F+FO FO+FO B+B",
	[OUT_UNSUBSCRIBE] = "N+N NO+N NI+NI NOI+NI T+N TI+NI F+F FO+F B+F",
	[OUT_SUBSCRIBED] = "N-N NO-NO NI+F NOI+FO T-T TI+B F-F FO-FO B-B",
	[OUT_UNSUBSCRIBED] = "N-N NO-NO NI+N NOI+NO T-T TI+T F+N FO+NO B+T",
	[IN_SUBSCRIBE] = "N+NI NO+NOI NI-NI NOI-NOI T+TI TI-TI F-F* FO-FO* B-B*",
	[IN_UNSUBSCRIBE] = "N-N NO-NO NI+N* NOI+NO* T-T TI+T* F+N* FO+NO* B+T*",
	[IN_SUBSCRIBED] = "N-N NO+T NI-NI NOI+TI T-T TI-TI F-F FO+B B-B",
	[IN_UNSUBSCRIBED] = "N-N NO+N NI-NI NOI+NI T+N TI+NI F-F FO+F B+F",
};
static const char *const types[SUB_EVENTS] = { "subscribe", "unsubscribe", "subscribed", "unsubscribed",
					       "subscribe", "unsubscribe", "subscribed", "unsubscribed" };

static void test_table_is_the_rfc(void **state)
{
	(void)state;
	for (unsigned e = 0; e < SUB_EVENTS; e++) {
		char got[256];
		size_t n = 0;

		for (unsigned s = 0; s < SUB_STATES; s++) {
			const struct sub_row *r = sub_find((enum sub_event)e, (enum sub_state)s);

			assert_non_null(r);
			assert_non_null(r->spec);
			n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%s%c%s%s", s ? " " : "", names[s],
					      r->flags & SUB_PASS ? '+' : '-', names[r->next],
					      r->flags & SUB_REPLY ? "*" : "");
		}
		assert_string_equal(got, appendix[e]);
	}
}

/* ---- every row through the router ------------------------------------------------------------ */

static struct store_roster_item item_in(enum sub_state s, bool approved)
{
	return (struct store_roster_item){
		.jid = SL("c@irc.localhost"),
		.subscription = (uint8_t)((sub_to(s) ? 1 : 0) + (sub_from(s) ? 2 : 0)),
		.in_roster = s != SUB_NONE_PI,
		.ask = sub_ask(s),
		.pending_in = sub_pending_in(s),
		.approved = approved,
		.request = sub_pending_in(s) ?
				   SL("<presence from='c@irc.localhost' to='u@localhost' type='subscribe'/>") :
				   SL_NULL,
	};
}

static void roster_put(struct rh *h, const char *owner, const struct store_roster_item *i)
{
	struct store_roster_put p = { .op.kind = STORE_ROSTER_PUT, .owner = sl_cstr(owner), .item = *i };

	rh_put(h, &p);
}

/* What is stored of the contact: one of names, or "-" when there is no item. */
static const char *stored(struct rh *h, const char *owner, bool *approved_r)
{
	const char *name = "-";
	struct store_roster_load l;

	*approved_r = false;
	rh_roster(h, owner, &l);
	for (unsigned i = 0; i < l.n_r; i++) {
		const struct store_roster_item *it = &l.item_r[i];

		if (!sl_eq(it->jid, SL("c@irc.localhost")))
			continue;
		*approved_r = it->approved;
		for (unsigned s = 0; s < SUB_STATES; s++) {
			struct store_roster_item want = item_in((enum sub_state)s, false);

			if (want.subscription == it->subscription && want.ask == it->ask &&
			    want.pending_in == it->pending_in)
				name = names[s];
		}
	}
	store_op_fini(&l.op);
	return name;
}

#define PRESENCE_FROM_U "<presence from='u%u@localhost/a' to='c@irc.localhost'/>"

static void check_row(struct rh *h, unsigned n, const struct sub_row *r, bool approved)
{
	const char *type = types[r->event];
	bool out = r->event <= OUT_UNSUBSCRIBED, answered = r->flags & SUB_REPLY, pass = r->flags & SUB_PASS;
	enum sub_state old = (enum sub_state)r->state, now = (enum sub_state)r->next;
	struct store_roster_item it = item_in(old, approved);
	char jid[64], s[1024];
	bool is_approved;

	if (approved && r->flags & SUB_IF_APPROVED) {
		pass = false;
		answered = true;
		now = (enum sub_state)r->approved;
	}
	snprintf(jid, sizeof(jid), "u%u@localhost", n);
	rh_account(h, jid);
	if (old != SUB_NONE || approved)
		roster_put(h, jid, &it);
	snprintf(s, sizeof(s),
		 "login u%u/a\n"
		 "u%u/a > <iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>\n"
		 "u%u/a > <presence/>\n"
		 "clear u%u/a\nclear irc.localhost\n",
		 n, n, n, n);
	RH_RUN(h, s);
	if (out)
		snprintf(s, sizeof(s), "u%u/a > <presence to='c@irc.localhost' type='%s' id='x'/>\n", n, type);
	else
		snprintf(s, sizeof(s), "irc.localhost > <presence from='c@irc.localhost' to='%s' type='%s' id='x'/>\n",
			 jid, type);
	RH_RUN(h, s);
	if (out && pass) {
		snprintf(s, sizeof(s), "irc.localhost < <presence from='%s' to='c@irc.localhost' type='%s' id='x'/>\n",
			 jid, type);
		RH_RUN(h, s);
	} else if (pass) {
		snprintf(s, sizeof(s), "u%u/a < <presence from='c@irc.localhost' type='%s' id='x'/>\n", n, type);
		RH_RUN(h, s);
	}
	if (sub_to(old) != sub_to(now) || sub_from(old) != sub_from(now) || sub_ask(old) != sub_ask(now)) {
		static const char *const shown[] = { "none", "to", "from", "both" };

		snprintf(s, sizeof(s),
			 "u%u/a < <iq type='set'><query xmlns='jabber:iq:roster'><item jid='c@irc.localhost' subscription='%s'/></query></iq>\n",
			 n, shown[(sub_to(now) ? 1 : 0) + (sub_from(now) ? 2 : 0)]);
		RH_RUN(h, s);
	}
	if (answered) {
		snprintf(s, sizeof(s), "irc.localhost < <presence from='%s' to='c@irc.localhost' type='%sd'/>\n", jid,
			 strcmp(type, "subscribe") == 0 ? "subscribe" : "unsubscribe");
		RH_RUN(h, s);
	}
	if (sub_from(now) && !sub_from(old))
		snprintf(s, sizeof(s), "irc.localhost < <presence from='u%u@localhost/a'/>\n", n);
	else if (sub_from(old) && !sub_from(now))
		snprintf(s, sizeof(s), "irc.localhost < <presence from='u%u@localhost/a' type='unavailable'/>\n", n);
	else
		s[0] = '\0';
	RH_RUN(h, s);
	if (r->flags & SUB_APPROVE && r->event == OUT_SUBSCRIBED)
		snprintf(s, sizeof(s), "u%u/a < <iq type='set'><query xmlns='jabber:iq:roster'><item approved='true'/></query></iq>\n", n);
	else if (r->flags & SUB_APPROVE && approved)
		snprintf(s, sizeof(s), "u%u/a < <iq type='set'><query xmlns='jabber:iq:roster'/></iq>\n", n);
	else
		s[0] = '\0';
	RH_RUN(h, s);
	snprintf(s, sizeof(s), "irc.localhost -\nu%u/a -\n", n);
	RH_RUN(h, s);
	const char *name = stored(h, jid, &is_approved);
	if (strcmp(name, "-") != 0 || now != SUB_NONE)
		assert_string_equal(name, names[now]);
	if (r->flags & SUB_APPROVE)
		assert_int_equal(is_approved, r->event == OUT_SUBSCRIBED);
	snprintf(s, sizeof(s), "end u%u/a\nclear irc.localhost\n", n);
	RH_RUN(h, s);
}

static void every_row(unsigned workers, bool approved)
{
	struct rh *h = begin(workers);

	RH_RUN(h, "attach irc.localhost\n");
	for (unsigned i = 0; i < SUB_EVENTS * SUB_STATES; i++)
		if (!approved || sub_rows[i].flags & (SUB_IF_APPROVED | SUB_APPROVE))
			check_row(h, i, &sub_rows[i], approved && sub_rows[i].event != OUT_SUBSCRIBED);
	rh_free(&h);
}

static void test_every_row(void **state)
{
	(void)state;
	every_row(1, false);
}

static void test_every_row_two_workers(void **state)
{
	(void)state;
	every_row(2, false);
}

static void test_preapproval(void **state)
{
	(void)state;
	every_row(1, true);
}

/* ---- conversations --------------------------------------------------------------------------- */

#define ROSTER(s) s " > <iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>\n" s " < <iq type='result' id='r'/>\n"

static const char befriend[] =
	"login alice/a\nlogin bob/b\n" ROSTER("alice/a") ROSTER("bob/b")
	"alice/a > <presence/>\nbob/b > <presence/>\nclear alice/a\nclear bob/b\n"
	"alice/a > <presence to='bob@localhost' type='subscribe'/>\n"
	"bob/b < <presence from='alice@localhost' to='bob@localhost' type='subscribe'/>\n"
	"bob/b > <presence to='alice@localhost' type='subscribed'/>\n"
	"bob/b ~ <iq type='set'><query xmlns='jabber:iq:roster'><item jid='alice@localhost' subscription='from'/></query></iq>\n"
	"alice/a ~ <presence from='bob@localhost' type='subscribed'/>\n"
	"alice/a ~ <iq type='set'><query xmlns='jabber:iq:roster'><item jid='bob@localhost' subscription='to'/></query></iq>\n"
	"alice/a ~ <presence from='bob@localhost/b'/>\n"
	"bob/b > <presence to='alice@localhost' type='subscribe'/>\n"
	"alice/a > <presence to='bob@localhost' type='subscribed'/>\n"
	"bob/b ~ <presence from='alice@localhost/a'/>\n"
	"clear alice/a\nclear bob/b\n";

/* PRES-1, 3, 4: initial presence, probes, updates, unavailable, the end of a session. */
static void test_broadcast(void **state)
{
	for (unsigned workers = 1; workers <= 2; workers++) {
		struct rh *h = begin(workers);

		(void)state;
		RH_RUN(h, befriend);
		RH_RUN(h, "bob/b > <presence><show>away</show></presence>\n"
			  "alice/a < <presence from='bob@localhost/b'><show>away</show></presence>\n"
			  "login alice/z\n"
			  "alice/z > <presence/>\n"
			  "alice/z ~ <presence from='alice@localhost/z' to='alice@localhost/z'/>\n"
			  "alice/z ~ <presence from='alice@localhost/a'/>\n"
			  "alice/z ~ <presence from='bob@localhost/b' to='alice@localhost/z'><show>away</show></presence>\n"
			  "alice/z -\n"
			  "alice/a < <presence from='alice@localhost/z'/>\n"
			  "alice/a -\n"
			  "bob/b ~ <presence from='alice@localhost/z'/>\n"
			  "end alice/z\n"
			  "bob/b ~ <presence from='alice@localhost/z' type='unavailable'/>\n"
			  "alice/a < <presence from='alice@localhost/z' type='unavailable'/>\n"
			  "clear bob/b\n"
			  "bob/b > <presence type='unavailable'><status>gone</status></presence>\n"
			  "alice/a < <presence from='bob@localhost/b' type='unavailable'><status>gone</status></presence>\n"
			  "bob/b -\n"
			  "end bob/b\n"
			  "alice/a -\n"
			  /* PRES-6: nobody there */
			  "login alice/y\nalice/y > <presence/>\n"
			  "alice/y ~ <presence from='bob@localhost' type='unavailable'/>\n");
		rh_free(&h);
	}
}

static void contact_put(struct rh *h, const char *owner, const char *jid, unsigned subscription, bool ask)
{
	struct store_roster_item it = { .jid = sl_cstr(jid), .subscription = (uint8_t)subscription,
					.in_roster = true, .ask = ask };

	roster_put(h, owner, &it);
}

/* PRES-1, 3, 4, 13: who is told, and who is asked: by subscription, and only the first time. */
static void test_only_subscribers(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	contact_put(h, "alice@localhost", "none@irc.localhost", STORE_SUB_NONE, true);
	contact_put(h, "alice@localhost", "to@irc.localhost", STORE_SUB_TO, false);
	contact_put(h, "alice@localhost", "from@irc.localhost", STORE_SUB_FROM, true);
	contact_put(h, "alice@localhost", "both@irc.localhost", STORE_SUB_BOTH, false);
	contact_put(h, "alice@localhost", "both@example.com", STORE_SUB_BOTH, false);
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\n"
		  "alice/a > <presence/>\n"
		  "irc.localhost ~ <presence from='alice@localhost/a' to='from@irc.localhost'/>\n"
		  "irc.localhost ~ <presence from='alice@localhost/a' to='both@irc.localhost'/>\n"
		  "irc.localhost ~ <presence from='alice@localhost/a' to='to@irc.localhost' type='probe'/>\n"
		  "irc.localhost ~ <presence from='alice@localhost/a' to='both@irc.localhost' type='probe'/>\n"
		  "irc.localhost -\n"
		  "alice/a < <presence from='alice@localhost/a'/>\n"
		  "alice/a -\n"
		  "login alice/z\nalice/z > <presence/>\nclear alice/z\nclear alice/a\nclear irc.localhost\n"
		  "alice/a > <presence><show>dnd</show></presence>\n"
		  "irc.localhost ~ <presence to='from@irc.localhost'><show>dnd</show></presence>\n"
		  "irc.localhost ~ <presence to='both@irc.localhost'><show>dnd</show></presence>\n"
		  "irc.localhost -\n"
		  "alice/a < <presence from='alice@localhost/a'/>\n"
		  "alice/a -\n"
		  "alice/z < <presence from='alice@localhost/a'/>\n"
		  "alice/a > <presence type='unavailable'/>\n"
		  "irc.localhost ~ <presence type='unavailable' to='from@irc.localhost'/>\n"
		  "irc.localhost ~ <presence type='unavailable' to='both@irc.localhost'/>\n"
		  "irc.localhost -\n"
		  "alice/a -\n"
		  "alice/z < <presence type='unavailable' from='alice@localhost/a'/>\n"
		  "alice/z -\n");
	rh_free(&h);
}

/* PRES-14: and when a component comes back. */
static void test_component_asks_only_subscribers(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	contact_put(h, "alice@localhost", "none@irc.localhost", STORE_SUB_NONE, false);
	contact_put(h, "alice@localhost", "to@irc.localhost", STORE_SUB_TO, false);
	contact_put(h, "alice@localhost", "from@irc.localhost", STORE_SUB_FROM, false);
	contact_put(h, "alice@localhost", "both@gw.localhost", STORE_SUB_BOTH, false);
	RH_RUN(h, "login alice/a\nalice/a > <presence/>\nlogin alice/mute\nclear alice/a\n"
		  "attach irc.localhost\n"
		  "irc.localhost ~ <presence from='alice@localhost/a' to='from@irc.localhost'/>\n"
		  "irc.localhost ~ <presence from='alice@localhost/a' to='to@irc.localhost' type='probe'/>\n"
		  "irc.localhost -\n"
		  "attach irc.localhost#2\n"
		  "irc.localhost -\nirc.localhost#2 -\nalice/a -\n");
	rh_free(&h);
}

/* PRES-2 */
static void test_priority(void **state)
{
	static const char *const good[] = { "127", "+5", " 0 ", "-0" }, *const bad[] = { "128", "-129", "", "1.5" };
	struct rh *h = begin(1);
	char s[256];

	(void)state;
	RH_RUN(h, "login alice/a\n");
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		snprintf(s, sizeof(s), "alice/a > <presence><priority>%s</priority></presence>\nalice/a < <presence/>\n",
			 good[i]);
		RH_RUN(h, s);
		assert_int_equal(rh_session(h, "alice/a")->priority, i == 0 ? 127 : i == 1 ? 5 : 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(s, sizeof(s),
			 "alice/a > <presence><priority>%s</priority></presence>\nalice/a < <presence type='error'/>\n",
			 bad[i]);
		RH_RUN(h, s);
		assert_int_equal(rh_session(h, "alice/a")->priority, 0);
	}
	RH_RUN(h, "alice/a > <presence><priority>200</priority></presence>\n"
		  "alice/a < <presence type='error'><error><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"
		  "alice/a > <presence><priority>-x</priority></presence>\n"
		  "alice/a < <presence type='error'/>\n"
		  "alice/a > <presence><priority>-128</priority></presence>\n"
		  "alice/a < <presence/>\n");
	assert_int_equal(rh_session(h, "alice/a")->priority, -128);
	rh_free(&h);
}

/* PRES-8 */
static void test_directed(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/b\nlogin carol/c\n"
		  "bob/b > <presence/>\ncarol/c > <presence/>\nclear bob/b\nclear carol/c\n"
		  "alice/a > <presence to='bob@localhost/b'/>\n"
		  "alice/a > <presence to='carol@localhost'/>\n"
		  "bob/b < <presence from='alice@localhost/a'/>\n"
		  "carol/c < <presence from='alice@localhost/a'/>\n"
		  "alice/a > <presence to='carol@localhost' type='unavailable'/>\n"
		  "carol/c < <presence from='alice@localhost/a' type='unavailable'/>\n"
		  "end alice/a\n"
		  "bob/b < <presence from='alice@localhost/a' type='unavailable'/>\n"
		  "carol/c -\nbob/b -\n");
	rh_free(&h);
}

/* PRES-8: a subscriber gets the unavailable presence once, and so does who had it directed twice. */
static void test_directed_once(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	contact_put(h, "alice@localhost", "from@irc.localhost", STORE_SUB_FROM, false);
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\n"
		  "alice/a > <presence to='x@irc.localhost/1'/>\n"
		  "alice/a > <presence to='x@irc.localhost/1'><show>away</show></presence>\n"
		  "alice/a > <presence to='from@irc.localhost/2'/>\n"
		  "alice/a > <presence/>\n"
		  "clear irc.localhost\n"
		  "end alice/a\n"
		  "irc.localhost ~ <presence type='unavailable' from='alice@localhost/a' to='x@irc.localhost/1'/>\n"
		  "irc.localhost ~ <presence type='unavailable' from='alice@localhost/a' to='from@irc.localhost'/>\n"
		  "irc.localhost -\n"
		  /* who became a subscriber only later is told once, too */
		  "login alice/b\n"
		  "alice/b > <presence to='late@irc.localhost'/>\n"
		  "alice/b > <presence/>\n"
		  "irc.localhost > <presence from='late@irc.localhost' to='alice@localhost' type='subscribe'/>\n"
		  "settle\n"
		  "alice/b > <presence to='late@irc.localhost' type='subscribed'/>\n"
		  "clear irc.localhost\n"
		  "alice/b > <presence type='unavailable'/>\n"
		  "irc.localhost ~ <presence type='unavailable' to='late@irc.localhost'/>\n"
		  "irc.localhost ~ <presence type='unavailable' to='from@irc.localhost'/>\n"
		  "irc.localhost -\n");
	rh_free(&h);
}

static void test_directed_is_bounded(void **state)
{
	struct rh *h = begin(1);
	char line[128];

	(void)state;
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\n");
	for (unsigned i = 0; i < 500; i++) {
		snprintf(line, sizeof(line), "alice/a > <presence to='r%u@irc.localhost/n'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "alice/a -\n"
		  "alice/a > <presence to='r500@irc.localhost/n'/>\n"
		  "alice/a < <presence type='error'><error><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n");
	assert_int_equal(rh_inbox(h, "irc.localhost"), 500);
	RH_RUN(h, "clear irc.localhost\nend alice/a\n");
	assert_int_equal(rh_inbox(h, "irc.localhost"), 500);
	/* Those who were told that it has ended make room. */
	RH_RUN(h, "login alice/b\n");
	for (unsigned i = 0; i < 510; i++)
		RH_RUN(h, "alice/b > <presence to='r@irc.localhost/n'/>\n"
			  "alice/b > <presence to='r@irc.localhost/n' type='unavailable'/>\n");
	RH_RUN(h, "alice/b -\n");
	rh_free(&h);
}

/* USER-4: a contact hears that its request could not be stored. */
static void test_request_not_stored(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\nalice/a > <presence/>\nclear alice/a\n"
		  "fail 1\n"
		  "irc.localhost > <presence from='c@irc.localhost' to='alice@localhost' type='subscribe' id='s'/>\n"
		  "irc.localhost < <presence type='error' id='s' from='alice@localhost' to='c@irc.localhost'><error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"
		  "heal\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* PRES-6, PRES-7: a probe from somebody who may not know, and for an account that is not there, get the same answer. */
static void test_probe(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach irc.localhost\n"
		  "irc.localhost > <presence from='x@irc.localhost' to='alice@localhost' type='probe'/>\n"
		  "irc.localhost < <presence from='alice@localhost' to='x@irc.localhost' type='unsubscribed'/>\n"
		  "irc.localhost > <presence from='x@irc.localhost' to='nobody@localhost' type='probe'/>\n"
		  "irc.localhost < <presence from='nobody@localhost' to='x@irc.localhost' type='unsubscribed'/>\n");
	rh_free(&h);
}

/* PRES-6: the account itself may ask, on which it needs no subscription. */
static void test_own_probe(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin alice/z\n"
		  "alice/z > <presence to='alice@localhost' type='probe'/>\n"
		  "alice/z < <presence from='alice@localhost' type='unavailable'/>\n"
		  "alice/a > <presence><show>xa</show></presence>\nclear alice/a\n"
		  "alice/z -\n"
		  "alice/z > <presence to='alice@localhost' type='probe'/>\n"
		  "alice/z < <presence from='alice@localhost/a'><show>xa</show></presence>\n"
		  "alice/z -\nalice/a -\n");
	rh_free(&h);
}

/* PRES-5: whatever their priority, but no session that is not available. */
static void test_presence_to_the_bare_jid(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/neg\nlogin bob/0\nlogin bob/mute\n"
		  "bob/neg > <presence><priority>-1</priority></presence>\n"
		  "bob/0 > <presence/>\n"
		  "clear bob/neg\nclear bob/0\n"
		  "alice/a > <presence to='bob@localhost'/>\n"
		  "bob/neg < <presence from='alice@localhost/a'/>\n"
		  "bob/0 < <presence from='alice@localhost/a'/>\n"
		  "bob/mute -\n");
	rh_free(&h);
}

/* PRES-11: only what can be kept whole is taken. */
static void test_long_request(void **state)
{
	struct rh *h = begin(1);
	char *s = malloc(8192), text[5001];

	(void)state;
	memset(text, 't', sizeof(text));
	RH_RUN(h, "login alice/a\nalice/a > <presence/>\nclear alice/a\n");
	for (int n = 3500; n <= 5000; n += 1500) {
		snprintf(s, 8192,
			 "alice/a > <presence to='%s@localhost' type='subscribe' id='s'><status>%.*s</status></presence>\nsettle\n",
			 n < 4096 ? "bob" : "carol", n, text);
		RH_RUN(h, s);
	}
	RH_RUN(h, "alice/a < <presence type='error' from='carol@localhost' id='s'><error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"
		  "alice/a -\n"
		  "login bob/b\nbob/b > <presence/>\nbob/b ~ <presence type='subscribe'/>\n"
		  "login carol/c\ncarol/c > <presence/>\ncarol/c ! <presence type='subscribe'/>\n");
	free(s);
	rh_free(&h);
}

/* RFC 6121 3.1: a subscription to oneself is none. */
static void test_subscribe_to_oneself(void **state)
{
	static const char *const all[] = { "subscribe", "subscribed", "unsubscribe", "unsubscribed" };
	struct rh *h = begin(1);
	char s[256];

	(void)state;
	RH_RUN(h, "login alice/a\n" ROSTER("alice/a") "alice/a > <presence/>\nclear alice/a\n");
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		snprintf(s, sizeof(s), "alice/a > <presence to='alice@localhost' type='%s'/>\nalice/a -\n", all[i]);
		RH_RUN(h, s);
	}
	assert_int_equal(user_find(&h->w[0], SL("alice@localhost"))->roster->n, 0);
	rh_free(&h);
}

/* PRES-12: taken back once a contact has been approved, too; a later request is asked about again. */
static void test_approval_ends(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach irc.localhost\nlogin alice/a\n" ROSTER("alice/a")
		  "alice/a > <presence/>\nclear alice/a\n"
		  "alice/a > <presence to='c@irc.localhost' type='subscribed'/>\n"
		  "alice/a < <iq type='set'><query xmlns='jabber:iq:roster'><item approved='true'/></query></iq>\n"
		  "irc.localhost > <presence from='c@irc.localhost' to='alice@localhost' type='subscribe'/>\n"
		  "irc.localhost ~ <presence type='subscribed'/>\n"
		  "clear alice/a\nclear irc.localhost\n"
		  "alice/a > <presence to='c@irc.localhost' type='unsubscribed'/>\n"
		  "irc.localhost ~ <presence type='unsubscribed'/>\n"
		  "clear alice/a\nclear irc.localhost\n"
		  "irc.localhost > <presence from='c@irc.localhost' to='alice@localhost' type='subscribe'/>\n"
		  "alice/a < <presence type='subscribe'/>\n"
		  "irc.localhost -\n");
	rh_free(&h);
}

/* RFC 6121 3.1.6, 3.1.3: answers go to those who asked for the roster, requests to those who are available. */
static void test_who_is_told(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach irc.localhost\nlogin alice/roster\nlogin alice/there\n" ROSTER("alice/roster")
		  "alice/there > <presence/>\nclear alice/there\n"
		  "alice/roster > <presence to='c@irc.localhost' type='subscribe'/>\n"
		  "clear alice/roster\nclear irc.localhost\n"
		  "irc.localhost > <presence from='c@irc.localhost/full' to='alice@localhost' type='subscribed'/>\n"
		  "alice/roster < <presence from='c@irc.localhost' type='subscribed'/>\n"
		  "alice/roster < <iq type='set'/>\n"
		  "alice/there -\n"
		  "irc.localhost > <presence from='c@irc.localhost' to='alice@localhost' type='subscribe'/>\n"
		  "alice/there < <presence from='c@irc.localhost' type='subscribe'/>\n"
		  "alice/roster -\nalice/there -\n");
	rh_free(&h);
}

/* PRES-11: a request waits until it is answered, over a restart too, with what it said. */
static void test_request_waits(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <presence to='bob@localhost' type='subscribe' id='s1'><status>it is me</status></presence>\n"
		  "settle\n");
	rh_restart(h);
	RH_RUN(h, "login bob/b\n"
		  "bob/b > <presence/>\n"
		  "bob/b ~ <presence from='alice@localhost' type='subscribe' id='s1'><status>it is me</status></presence>\n"
		  "bob/b ~ <presence/>\n"
		  ROSTER("bob/b")
		  "login bob/c\n"
		  "bob/c > <presence/>\n"
		  "bob/c ~ <presence from='alice@localhost' type='subscribe' id='s1'/>\n"
		  "bob/b > <presence to='alice@localhost' type='unsubscribed'/>\n"
		  "settle\n"
		  "login bob/d\n"
		  "bob/d > <presence/>\n"
		  "bob/d ! <presence type='subscribe'/>\n");
	rh_free(&h);
}

/* PRES-9: nothing is said before it is stored; what could not be stored did not happen. */
static void test_subscription_waits_for_the_commit(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/b\n" ROSTER("alice/a") "bob/b > <presence/>\nclear bob/b\n"
		  "hold\n"
		  "alice/a > <presence to='bob@localhost' type='subscribe'/>\n"
		  "alice/a -\nbob/b -\n"
		  "release\n"
		  "alice/a ~ <iq type='set'><query xmlns='jabber:iq:roster'><item jid='bob@localhost' subscription='none' ask='subscribe'/></query></iq>\n"
		  "bob/b < <presence type='subscribe'/>\n"
		  "fail 1\n"
		  "alice/a > <presence to='carol@localhost' type='subscribe' id='f'/>\n"
		  "alice/a < <presence type='error' id='f'><error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"
		  "heal\n"
		  "alice/a > <iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>\n"
		  "alice/a < <iq type='result' id='g'><query xmlns='jabber:iq:roster'><item jid='bob@localhost'/></query></iq>\n");
	assert_int_equal(user_find(&h->w[0], SL("alice@localhost"))->roster->n, 1);
	rh_free(&h);
}

/* DELIV-3, PRES-10: what follows a subscription stanza does not overtake it, though that waits for commits. */
static void test_order_behind_a_commit(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "login alice/a\nlogin bob/b\n" ROSTER("alice/a") ROSTER("bob/b") "bob/b > <presence/>\nclear bob/b\n"
		  "alice/a > <presence/>\nalice/a < <presence/>\n"
		  "hold\n"
		  "alice/a > <presence to='bob@localhost' type='subscribe'/>\n"
		  "alice/a > <message to='bob@localhost' type='chat' id='m'><body>let me in</body></message>\n"
		  "alice/a > <iq to='bob@localhost/b' type='get' id='i'><ping xmlns='urn:xmpp:ping'/></iq>\n"
		  "alice/a > <presence to='bob@localhost/b'/>\n"
		  "bob/b -\n"
		  "release\n"
		  "bob/b ~ <message type='chat' id='m'/>\n"
		  "bob/b ~ <iq type='get' id='i'/>\n"
		  "bob/b ~ <presence from='alice@localhost/a'/>\n"
		  "bob/b ~ <presence type='subscribe' from='alice@localhost'/>\n"
		  "bob/b > <presence to='alice@localhost' type='subscribed'/>\n"
		  "alice/a ~ <presence type='subscribed' from='bob@localhost'/>\n"
		  "alice/a ~ <iq type='set'/>\n"
		  "alice/a ~ <iq type='set'/>\n"
		  "alice/a < <presence from='bob@localhost/b'/>\n"
		  "clear bob/b\n"
		  "bob/b > <presence to='alice@localhost' type='unsubscribed'/>\n"
		  "alice/a < <presence type='unsubscribed'/>\n"
		  "alice/a < <iq type='set'/>\n"
		  "alice/a < <presence type='unavailable' from='bob@localhost/b'/>\n");
	rh_free(&h);
}

/* PRES-13: unknown domains: a request is answered, broadcasts are not. */
static void test_unknown_domain(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > <presence/>\n"
		  "alice/a < <presence/>\n"
		  "alice/a > <presence to='x@example.com' type='subscribe'/>\n"
		  "alice/a < <presence type='error' from='x@example.com'><error><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"
		  "alice/a > <presence><show>away</show></presence>\n"
		  "alice/a < <presence/>\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* PRES-14 */
static void test_component_comes_back(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\n"
		  "login alice/a\nalice/a > <presence/>\n"
		  "alice/a > <presence to='+1@gw.localhost' type='subscribe'/>\n"
		  "gw.localhost < <presence type='subscribe' from='alice@localhost'/>\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost' type='subscribed'/>\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost' type='subscribe'/>\n"
		  "alice/a ~ <presence type='subscribe'/>\n"
		  "alice/a > <presence to='+1@gw.localhost' type='subscribed'/>\n"
		  "gw.localhost ~ <presence from='alice@localhost/a'/>\n"
		  "detach gw.localhost\n"
		  "attach gw.localhost sm\n"
		  "gw.localhost ~ <presence from='alice@localhost/a' to='+1@gw.localhost'/>\n"
		  "gw.localhost ~ <presence from='alice@localhost/a' to='+1@gw.localhost' type='probe'/>\n");
	rh_free(&h);
}

/* PRES-15: contacts at a component that goes are unavailable, to those who saw them, each resource. */
static void test_component_goes(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nattach gw.localhost#2 sm\n"
		  "login alice/a\nalice/a > <presence/>\nlogin bob/b\nbob/b > <presence/>\n"
		  "alice/a > <presence to='+1@gw.localhost' type='subscribe'/>\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost' type='subscribed'/>\n"
		  "alice/a > <presence to='+2@gw.localhost' type='subscribe'/>\n"
		  "gw.localhost > <presence from='+2@gw.localhost' to='alice@localhost' type='subscribed'/>\n"
		  "settle\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost'/>\n"
		  "gw.localhost > <presence from='+1@gw.localhost/x' to='alice@localhost/a'/>\n"
		  "gw.localhost > <presence from='+2@gw.localhost' to='alice@localhost'/>\n"
		  "gw.localhost > <presence from='+2@gw.localhost' to='alice@localhost' type='unavailable'/>\n"
		  /* no contact of his */
		  "gw.localhost > <presence from='+1@gw.localhost' to='bob@localhost'/>\n"
		  "settle\nclear alice/a\nclear bob/b\n"
		  "detach gw.localhost#2\n"
		  "alice/a -\n"
		  "detach gw.localhost\n"
		  "alice/a ~ <presence type='unavailable' from='+1@gw.localhost'/>\n"
		  "alice/a ~ <presence type='unavailable' from='+1@gw.localhost/x'/>\n"
		  "alice/a -\nbob/b -\n"
		  "attach gw.localhost sm\n"
		  "gw.localhost ~ <presence from='alice@localhost/a' to='+1@gw.localhost' type='probe'/>\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost/a'/>\n"
		  "alice/a < <presence from='+1@gw.localhost'/>\n"
		  /* who is away does not see it */
		  "alice/a > <presence type='unavailable'/>\nsettle\nclear alice/a\n"
		  "alice/a > <presence/>\nsettle\nclear alice/a\n"
		  "detach gw.localhost\n"
		  "alice/a -\n");
	rh_free(&h);
}

/* PRES-15: presence that waited for a commit when the component went is taken back, too. */
static void test_component_goes_behind_a_commit(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach gw.localhost\n"
		  "login alice/a\nalice/a > <presence/>\n"
		  "alice/a > <presence to='+1@gw.localhost' type='subscribe'/>\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost' type='subscribed'/>\n"
		  "settle\nclear alice/a\n"
		  "hold\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='+2@gw.localhost' type='chat' id='1'><body>x</body></message>\n"
		  "gw.localhost > <presence from='+1@gw.localhost' to='alice@localhost'/>\n"
		  "detach gw.localhost\n"
		  "alice/a -\n"
		  "release\n"
		  "alice/a < <presence from='+1@gw.localhost'/>\n"
		  "alice/a < <presence type='unavailable' from='+1@gw.localhost'/>\n"
		  "alice/a -\n");
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_is_the_rfc),
		cmocka_unit_test(test_every_row),
		cmocka_unit_test(test_every_row_two_workers),
		cmocka_unit_test(test_preapproval),
		cmocka_unit_test(test_broadcast),
		cmocka_unit_test(test_only_subscribers),
		cmocka_unit_test(test_component_asks_only_subscribers),
		cmocka_unit_test(test_priority),
		cmocka_unit_test(test_directed),
		cmocka_unit_test(test_directed_once),
		cmocka_unit_test(test_directed_is_bounded),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_request_not_stored),
		cmocka_unit_test(test_own_probe),
		cmocka_unit_test(test_presence_to_the_bare_jid),
		cmocka_unit_test(test_long_request),
		cmocka_unit_test(test_subscribe_to_oneself),
		cmocka_unit_test(test_approval_ends),
		cmocka_unit_test(test_who_is_told),
		cmocka_unit_test(test_request_waits),
		cmocka_unit_test(test_subscription_waits_for_the_commit),
		cmocka_unit_test(test_order_behind_a_commit),
		cmocka_unit_test(test_unknown_domain),
		cmocka_unit_test(test_component_comes_back),
		cmocka_unit_test(test_component_goes),
		cmocka_unit_test(test_component_goes_behind_a_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
