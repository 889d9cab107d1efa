/* Custody: rules CUST-1 to CUST-12 (docs/custody.md), each with a conversation that fails when the rule is broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/clock.h"
#include "tests/unit/router_harness.h"

static struct rh *begin(unsigned workers)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", "carol@localhost", NULL };
	struct rh *h = rh_new(workers);

	rh_accounts(h, jids);
	return h;
}

#define MSG(to, n) "<message to='" to "' type='chat' id='" n "'><body>" n "</body></message>"
#define OMSG(to, n)                                                                                        \
	"<message to='" to "' type='chat' id='" n "'><body>" n                                             \
	"</body><origin-id xmlns='urn:xmpp:sid:0' id='o" n "'/></message>"
#define GOT(n) "<message type='chat' id='" n "'><body>" n "</body></message>"
#define ON(s, p) s " > <presence><priority>" p "</priority></presence>\nclear " s "\n"

/* CUST-1, CUST-3, CUST-4: the row is written before; h waits for the commit; delivery inside does not. */
static void test_h_waits_for_the_commit(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "hold\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "bob/b < " GOT("1") "\n"
		  "h alice/a 0\n"
		  "release\n"
		  "h alice/a 1\n"
		  "rows bob@localhost 1\n"
		  "ack bob/b\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-3: what promises nothing counts at once, but not before what came before it. */
static void test_counts_retire_in_order(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\n"
		  "alice/a > <presence/>\n"
		  "h alice/a 1\n"
		  "hold\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "alice/a > <presence/>\n"
		  "h alice/a 1\n"
		  "release\n"
		  "h alice/a 3\n");
	rh_free(&h);
}

static void expect_sm(struct rh *h, const char *id, bool found, uint32_t count)
{
	struct store_sm_get g;

	rh_sm_get(h, id, &g);
	assert_int_equal(g.found_r, found);
	if (found)
		assert_int_equal(g.h_r, count);
	store_op_fini(&g.op);
}

/* CUST-2: id and count are in the same transaction; kill -9 loses nothing that was counted. */
static void test_h_is_committed_with_the_row(void **state)
{
	struct rh *h = begin(1);
	char id[32];

	(void)state;
	RH_RUN(h, "login alice/a sm\n");
	rh_sm_begin(h, "alice/a", id);
	RH_RUN(h, "alice/a > <presence/>\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("bob@localhost", "2") "\n"
		  "h alice/a 3\n"
		  "fail 100\n"
		  "alice/a > " MSG("bob@localhost", "3") "\n"
		  "h alice/a 3\n"
		  "heal\n");
	rh_restart(h);
	expect_sm(h, id, true, 3);
	RH_RUN(h, "rows bob@localhost 2\n"
		  "login bob/b\n"
		  "bob/b > <presence/>\n"
		  "bob/b < <presence/>\n"
		  "bob/b < " GOT("1") "\n"
		  "bob/b < " GOT("2") "\n"
		  "bob/b -\n");
	rh_free(&h);
}

/* CUST-4: what leaves the box waits for the commit, and then has its row's id. */
static void test_component_waits_for_the_commit(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\n"
		  "login alice/a\n"
		  "hold\n"
		  "alice/a > " MSG("+15550100@gw.localhost", "1") "\n"
		  "alice/a > <message to='+15550100@gw.localhost' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>\n"
		  "gw.localhost -\n"
		  "release\n"
		  "gw.localhost < <message type='chat' id='1'><body>1</body><custody xmlns='urn:tandem:custody:0' id='*'/></message>\n"
		  "gw.localhost < <message type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>\n"
		  "gw.localhost -\n"
		  "rows gw.localhost 1\n"
		  "ack gw.localhost\n"
		  "rows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-5: an origin-id waits for the commit, everything behind it too, and a duplicate is dropped but counted. */
static void test_duplicates(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "hold\n"
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("bob@localhost", "2") "\n"
		  "alice/a > <presence to='bob@localhost'/>\n"
		  "bob/b -\n"
		  "release\n"
		  "bob/b < " GOT("1") "\n"
		  "bob/b < " GOT("2") "\n"
		  "bob/b < <presence from='alice@localhost/a'/>\n"
		  "h alice/a 3\n"
		  "ack bob/b\n"
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("bob@localhost", "2") "\n"
		  "bob/b < " GOT("2") "\n"
		  "bob/b -\n"
		  "h alice/a 5\n");
	assert_int_equal(rh_counter(h, CNT_MAIL_DUPLICATE), 1);
	rh_restart(h);
	RH_RUN(h, "login alice/a sm\nlogin bob/b\nbob/b > <presence/>\n"
		  "bob/b ~ " GOT("2") "\n"
		  "clear bob/b\n"
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "bob/b -\n"
		  "h alice/a 1\n");
	rh_free(&h);
}

/* CUST-5: the sender is the account, whichever of its sessions sends again; without XEP-0198 nothing is dropped. */
static void test_duplicates_of_another_session(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin carol/c\nlogin bob/b\n" ON("bob/b", "0")
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "bob/b < " GOT("1") "\n"
		  "end alice/a\n"
		  "login alice/other sm\n"
		  "alice/other > " OMSG("bob@localhost", "1") "\n"
		  "alice/other > " OMSG("bob@localhost", "2") "\n"
		  "h alice/other 2\n"
		  "bob/b < " GOT("2") "\n"
		  "bob/b -\n"
		  "carol/c > " OMSG("bob@localhost", "1") "\n"
		  "carol/c > " OMSG("bob@localhost", "1") "\n"
		  "bob/b < <message from='carol@localhost/c' type='chat' id='1'/>\n"
		  "bob/b < <message from='carol@localhost/c' type='chat' id='1'/>\n"
		  "attach gw.localhost sm\n"
		  "carol/c > " OMSG("+1@gw.localhost", "1") "\n"
		  "carol/c > " OMSG("+1@gw.localhost", "1") "\n"
		  "gw.localhost < " GOT("1") "\n"
		  "gw.localhost < " GOT("1") "\n");
	rh_free(&h);
}

static void row_put(struct rh *h, uint64_t id, const char *owner, const char *xml)
{
	struct store_mail_put p = { .op.kind = STORE_MAIL_PUT };

	p.id = id;
	p.owner = sl_cstr(owner);
	p.sender = SL("carol@localhost");
	p.stamp_ms = clock_wall_ms();
	p.stanza = sl_cstr(xml);
	rh_write(h, &p.op);
	assert_true(p.row_made_r);
}

/* CUST-12: a row whose id is somebody else's was not made: not counted, and the other stays. */
static void test_id_is_taken(void **state)
{
	struct rh *h = begin(1);
	struct worker *w = &h->w[0];

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0"));
	w->last_id = (clock_wall_ms() + 3600000) << 22; /* for an hour, ids come from here on */
	row_put(h, w->last_id + 1, "carol@localhost",
		"<message from='bob@localhost/b' to='carol@localhost' type='chat' id='kept'><body>x</body></message>");
	RH_RUN(h, "alice/a > " MSG("bob@localhost", "1") "\n"
		  "h alice/a 0\n"
		  "ack bob/b\n"
		  "rows carol@localhost 1\n");
	assert_string_equal(rh_closed(h, "alice/a"), "internal-server-error");
	rh_free(&h);
}

/* A row that cannot be read is passed over; what is behind it is delivered. */
static void test_unreadable_rows(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	row_put(h, 1001, "bob@localhost", "this is not XML");
	row_put(h, 1002, "bob@localhost", "<message from='carol@localhost/c' type='chat'><body>no to</body></message>");
	row_put(h, 1003, "bob@localhost", "<message to='bob@localhost' type='chat'><body>no from</body></message>");
	row_put(h, 1005, "bob@localhost", "<message from='carol@localhost/c' to='@localhost' id='3' type='chat'/>");
	row_put(h, 1006, "bob@localhost",
		"<message from='carol@localhost/c' to='bob@localhost' type='chat' id='good'><body>x</body></message>");
	RH_RUN(h, "login bob/b\nbob/b > <presence/>\nbob/b < <presence/>\n"
		  "bob/b ~ <message type='chat' id='good'/>\n"
		  "bob/b ! <message type='chat' id='3'/>\n"
		  "bob/b ! <message type='chat'><body>no to</body></message>\n"
		  "bob/b ! <message type='chat'><body>no from</body></message>\n");
	rh_free(&h);
}

/* More acknowledgements in one turn than a deletion takes. */
static void test_many_acks(void **state)
{
	struct rh *h = begin(1);
	char line[256];

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0"));
	for (unsigned i = 0; i < 600; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "rows bob@localhost 600\nack bob/b\nrows bob@localhost 0\n");
	rh_free(&h);
}

/* DELIV-7 with a row: what is dropped leaves none behind. */
static void test_dropped_rows_go(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='alice@localhost' type='headline' id='1'><body>x</body></message>\n"
		  "h gw.localhost 1\n"
		  "rows alice@localhost 0\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='alice@localhost' type='headline' id='1'><body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>\n"
		  "rows alice@localhost 0\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='nobody@localhost' type='error' id='2'><body>x</body></message>\n"
		  "h gw.localhost 3\n"
		  "rows nobody@localhost 0\n"
		  "gw.localhost -\n");
	rh_free(&h);
}

/* DELIV-8: what a component of ours sends to a chat room that is none is answered, not kept. */
static void test_groupchat_of_a_component(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='alice@localhost' type='groupchat' id='1'><body>x</body></message>\n"
		  "gw.localhost < <message type='error' id='1'><error><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "h gw.localhost 1\n"
		  "rows alice@localhost 0\n");
	rh_free(&h);
}

/* DELIV-8, CUST-10: an error that has a row waits for its sender, who is away. */
static void test_error_waits(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->cfg->lim.mail_expiry_s = 1;
	RH_RUN(h, "login alice/a sm\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "h alice/a 1\n"
		  "end alice/a\n");
	h->cfg->lim.mail_expiry_s = 0;
	rh_expire(h, 1100);
	RH_RUN(h, "rows bob@localhost 0\n"
		  "rows alice@localhost 1\n"
		  "login alice/b\nalice/b > <presence/>\nalice/b < <presence/>\n"
		  "alice/b < <message type='error' id='1'><error><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "ack alice/b\n"
		  "rows alice@localhost 0\n");
	rh_free(&h);
}

/* CUST-5: a session that waits for too many commits is told to stop, and to go on; its order holds, however many come
 * at once. */
static void test_held_in_order(void **state)
{
	struct rh *h = begin(1);
	char line[256];

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "hold\n"
		  "alice/a > " OMSG("bob@localhost", "first") "\n");
	for (unsigned i = 0; i < 1100; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		assert_int_equal(rh_stopped(h, "alice/a"), i >= 999);
		RH_RUN(h, line);
	}
	RH_RUN(h, "bob/b -\nrelease\nsettle\nbob/b < " GOT("first") "\n");
	assert_false(rh_stopped(h, "alice/a"));
	for (unsigned i = 0; i < 1100; i++) {
		snprintf(line, sizeof(line), "bob/b < <message type='chat' id='%u'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "bob/b -\nh alice/a 1101\n");
	rh_free(&h);
}

/* CUST-8: only a component with custody is given the ids; a row that a page has brought is not sent again by the bus. */
static void test_component_once(void **state)
{
	struct rh *h = begin(1);
	struct stanza *st;
	uint64_t id;

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nattach irc.localhost\nlogin alice/a sm\n"
		  "alice/a > " MSG("x@irc.localhost", "1") "\n"
		  "irc.localhost ! <message type='chat'><custody xmlns='urn:tandem:custody:0'/></message>\n"
		  "irc.localhost < " GOT("1") "\n"
		  "alice/a > " MSG("+1@gw.localhost", "2") "\n"
		  "gw.localhost < " GOT("2") "\n");
	id = h->w[0].last_id;
	assert_int_equal(stanza_restore(SL("<message from='alice@localhost/a' to='+1@gw.localhost' id='2' type='chat'><body>2</body></message>"), &st), 0);
	route(&h->w[0], st, id);
	RH_RUN(h, "gw.localhost -\nack gw.localhost\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-8: what a lost stream had goes to the component's others; none of it twice. */
static void test_component_stream_lost(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned one, two;

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nattach gw.localhost#2 sm\nlogin alice/a\n");
	for (unsigned i = 0; i < 40; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='+%u@gw.localhost' type='chat' id='%u'><body>x</body></message>\n", i, i);
		RH_RUN(h, line);
	}
	one = rh_inbox(h, "gw.localhost");
	two = rh_inbox(h, "gw.localhost#2");
	assert_true(one > 0 && two > 0);
	assert_int_equal(one + two, 40);
	RH_RUN(h, "detach gw.localhost#2\n");
	assert_int_equal(rh_inbox(h, "gw.localhost"), 40);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(line, sizeof(line), "gw.localhost ~ <message type='chat' id='%u'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "ack gw.localhost\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-10: what is in flight does not hide what is not, however much it is. */
static void test_expiry_behind_much(void **state)
{
	struct rh *h = begin(1);
	char line[256];

	(void)state;
	h->cfg->lim.mail_expiry_s = 1;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0"));
	for (unsigned i = 0; i < 256; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "alice/a > " MSG("carol@localhost", "last") "\nsettle\n");
	h->cfg->lim.mail_expiry_s = 0;
	rh_expire(h, 1100);
	rh_expire(h, 0);
	RH_RUN(h, "alice/a < <message type='error' id='last'/>\nalice/a -\n"
		  "rows bob@localhost 256\nrows carol@localhost 0\n");
	rh_free(&h);
}

static void sm_put(struct rh *h, const char *id, uint64_t now_ms)
{
	struct store_sm_put p = { .op.kind = STORE_SM_PUT };

	p.sm_id = sl_cstr(id);
	p.owner = SL("alice@localhost");
	p.resource = SL("a");
	p.h = 4;
	p.now_ms = now_ms;
	rh_write(h, &p.op);
}

/* CUST-2, CUST-5: counts and duplicate marks are kept for their time, and not for ever. */
static void test_purge(void **state)
{
	struct rh *h = begin(1);
	const uint64_t day = 86400000, now = clock_wall_ms();

	(void)state;
	sm_put(h, "sm-new", now);
	sm_put(h, "sm-23h", now - day + 3600000);
	sm_put(h, "sm-2d", now - 2 * day);
	sm_put(h, "sm-4d", now - 4 * day);
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "bob/b < " GOT("1") "\n");
	h->cfg->lim.sm_resume_s = 3 * 86400;
	rh_expire(h, 0);
	expect_sm(h, "sm-new", true, 4);
	expect_sm(h, "sm-23h", true, 4);
	expect_sm(h, "sm-2d", true, 4);
	expect_sm(h, "sm-4d", false, 0);
	h->cfg->lim.sm_resume_s = 600;
	rh_expire(h, 0);
	expect_sm(h, "sm-23h", true, 4);
	expect_sm(h, "sm-2d", false, 0);
	RH_RUN(h, "alice/a > " OMSG("bob@localhost", "1") "\nbob/b -\n");
	rh_free(&h);
}

static uint64_t seen_left(struct rh *h)
{
	struct store_mail_put p = { .op.kind = STORE_MAIL_PUT, .id = 77, .owner = SL("bob@localhost"),
				    .sender = SL("alice@localhost"), .origin_id = SL("o1"), .stanza = SL("<x/>") };

	p.skip_row = true;
	rh_write(h, &p.op);
	return p.duplicate_r;
}

/* CUST-5: the window in which duplicates are known ends. */
static void test_seen_window(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->cfg->lim.seen_window_s = 1;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "settle\n");
	rh_expire(h, 10);
	assert_true(seen_left(h));
	rh_expire(h, 1100);
	assert_false(seen_left(h));
	rh_free(&h);
}

/* CUST-10: the row of an answer gets another id when its own is taken; the answer is not lost. */
static void test_bounce_id_is_taken(void **state)
{
	struct rh *h = begin(1);
	struct worker *w = &h->w[0];

	(void)state;
	RH_RUN(h, "login alice/a sm\n");
	w->last_id = (clock_wall_ms() + 3600000) << 22;
	row_put(h, w->last_id + 2, "carol@localhost",
		"<message from='bob@localhost/b' to='carol@localhost' type='chat' id='kept'><body>x</body></message>");
	RH_RUN(h, "alice/a > " MSG("nobody@localhost", "1") "\n"
		  "alice/a < <message type='error' id='1'/>\n"
		  "rows nobody@localhost 0\n"
		  "rows alice@localhost 1\n"
		  "rows carol@localhost 1\n"
		  "ack alice/a\n"
		  "rows alice@localhost 0\n"
		  "rows carol@localhost 1\n");
	rh_free(&h);
}

/* CUST-10: a component's sender gets its answer as a row, too. */
static void test_bounce_to_component(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='nobody@localhost' type='chat' id='1'><body>x</body></message>\n"
		  "gw.localhost < <message type='error' id='1' to='+1@gw.localhost'><custody xmlns='urn:tandem:custody:0' id='*'/></message>\n"
		  "rows gw.localhost 1\n"
		  "detach gw.localhost\n"
		  "attach gw.localhost sm\n"
		  "gw.localhost < <message type='error' id='1'/>\n"
		  "ack gw.localhost\n"
		  "rows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-6, DELIV-8: an error is kept whatever the limit is; and who is not in custody hears that a message was not. */
static void test_offline_exceptions(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->cfg->lim.mail_per_user = 1;
	h->cfg->lim.mail_expiry_s = 1;
	RH_RUN(h, "login alice/a sm\nlogin carol/c\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "h alice/a 1\n"
		  "end alice/a\n");
	h->cfg->lim.mail_expiry_s = 0;
	RH_RUN(h, "carol/c > " MSG("alice@localhost", "full") "\nrows alice@localhost 1\n");
	rh_expire(h, 1100);
	RH_RUN(h, "rows alice@localhost 2\n"
		  "fail 1\n"
		  "carol/c > " MSG("bob@localhost", "2") "\n"
		  "carol/c < <message type='error' id='2'><error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "heal\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-11: mail waits for a session with priority >= 0, also when it is the same session later; and what comes while
 * it is away goes to it when it is back. */
static void test_flush_by_priority(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login carol/c\n"
		  "carol/c > " MSG("bob@localhost", "1") "\n"
		  "login bob/b\n"
		  "bob/b > <presence><priority>-1</priority></presence>\n"
		  "bob/b < <presence/>\n"
		  "bob/b -\n"
		  "bob/b > <presence><priority>0</priority></presence>\n"
		  "bob/b < <presence/>\n"
		  "bob/b < <message id='1' type='chat'><delay xmlns='urn:xmpp:delay'/></message>\n"
		  "ack bob/b\n"
		  "bob/b > <presence type='unavailable'/>\n"
		  "carol/c > " MSG("bob@localhost", "2") "\n"
		  "rows bob@localhost 1\n"
		  "bob/b > <presence/>\n"
		  "bob/b < <presence/>\n"
		  "bob/b < <message id='2' type='chat'><delay xmlns='urn:xmpp:delay'/></message>\n"
		  "bob/b -\n");
	rh_free(&h);
}

/* CUST-6: nobody there: the sender's row is offline mail; for a sender without XEP-0198 one is written. */
static void test_offline(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin carol/c\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "settle\n"
		  "carol/c > " MSG("bob@localhost", "2") "\n"
		  "rows bob@localhost 2\n"
		  "alice/a > <message to='bob@localhost' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>\n"
		  "rows bob@localhost 2\n"
		  "alice/a -\n"
		  "carol/c -\n"
		  "login bob/b\n"
		  "bob/b > <presence/>\n"
		  "bob/b < <presence/>\n"
		  "bob/b < <message id='1' type='chat' from='alice@localhost/a'><body>1</body><delay xmlns='urn:xmpp:delay' from='localhost' stamp='*'/></message>\n"
		  "bob/b < <message id='2' type='chat' from='carol@localhost/c'><body>2</body><delay xmlns='urn:xmpp:delay' stamp='*'/></message>\n"
		  "bob/b -\n"
		  "rows bob@localhost 2\n"
		  "ack bob/b\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-6: delivered to several sessions, the row goes with the first acknowledgement. */
static void test_first_ack_deletes(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/1\nlogin bob/2\n" ON("bob/1", "0") ON("bob/2", "0") "clear bob/1\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "bob/1 < " GOT("1") "\n"
		  "bob/2 < " GOT("1") "\n"
		  "rows bob@localhost 1\n"
		  "ack bob/2\n"
		  "rows bob@localhost 0\n"
		  "end bob/1\n"
		  "bob/2 ! " GOT("1") "\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-7: handed back by one while another has it: that one will acknowledge it. And not to those of less priority. */
static void test_undelivered_to_whom(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/1\nlogin bob/2\nlogin bob/3\nlogin bob/4\n"
		  ON("bob/1", "5") ON("bob/2", "5") ON("bob/3", "3") ON("bob/4", "1")
		  "clear bob/1\nclear bob/2\nclear bob/3\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "bob/1 < " GOT("1") "\nbob/2 < " GOT("1") "\n"
		  "end bob/1\n"
		  "bob/2 ! " GOT("1") "\n"
		  "bob/3 ! " GOT("1") "\n"
		  "end bob/2\n"
		  "bob/3 ~ " GOT("1") "\n"
		  "bob/4 ! " GOT("1") "\n"
		  "rows bob@localhost 1\n"
		  "ack bob/3\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* XEP-0198 4: an iq that did not arrive is answered, so nobody waits for ever; a headline is gone. */
static void test_undelivered_iq(void **state)
{
	static const char *const texts[] = {
		"<iq from='carol@localhost/c' to='bob@localhost/b' type='get' id='q'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<iq from='carol@localhost/c' to='bob@localhost/b' type='result' id='r'/>",
		"<message from='carol@localhost/c' to='bob@localhost/b' type='headline'><body>news</body></message>",
		"<presence from='carol@localhost/c' to='bob@localhost/b'/>",
	};
	struct rh *h = begin(1);
	struct stanza *st;

	(void)state;
	RH_RUN(h, "login carol/c\nlogin bob/b\n");
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(stanza_restore(sl_cstr(texts[i]), &st), 0);
		session_undelivered(rh_session(h, "bob/b"), st, NULL);
		stanza_unref(&st);
	}
	RH_RUN(h, "carol/c < <iq from='bob@localhost/b' type='error' id='q'><error><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>\n"
		  "carol/c -\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-7: what a session did not acknowledge goes to another session, or becomes offline mail. */
static void test_undelivered(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin bob/1\nlogin bob/2\n" ON("bob/1", "5") ON("bob/2", "1") "clear bob/1\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("bob@localhost", "2") "\n"
		  "settle\n"
		  "bob/2 -\n"
		  "ack bob/1 1\n"
		  "end bob/1\n"
		  "bob/2 ~ " GOT("2") "\n"
		  "bob/2 ! " GOT("1") "\n"
		  "rows bob@localhost 1\n"
		  "end bob/2\n"
		  "rows bob@localhost 1\n"
		  "login bob/3\n"
		  "bob/3 > <presence/>\n"
		  "bob/3 ~ <message id='2' type='chat'><delay xmlns='urn:xmpp:delay'/></message>\n"
		  "bob/3 ! " GOT("1") "\n");
	rh_free(&h);
}

/* CUST-7: a promise without a row gets one when it is handed back. */
static void test_undelivered_without_a_row(void **state)
{
	struct rh *h = begin(1);
	struct stanza *st;

	(void)state;
	RH_RUN(h, "login bob/b\n" ON("bob/b", "0"));
	assert_int_equal(stanza_restore(SL("<message from='carol@localhost/c' to='bob@localhost' id='9' type='chat'><body>9</body></message>"), &st), 0);
	session_undelivered(rh_session(h, "bob/b"), st, NULL);
	stanza_unref(&st);
	RH_RUN(h, "end bob/b\n"
		  "rows bob@localhost 1\n"
		  "login bob/c\nbob/c > <presence/>\n"
		  "bob/c ~ " GOT("9") "\n");
	rh_free(&h);
}

/* CUST-8: rows have their id; a new stream gets all again, oldest first, with the same ids. */
static void test_component_resend(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > " MSG("+1@gw.localhost", "1") "\n"
		  "alice/a > " MSG("+1@gw.localhost", "2") "\n"
		  "rows gw.localhost 2\n"
		  "attach gw.localhost sm\n"
		  "alice/a > " MSG("+1@gw.localhost", "3") "\n"
		  "gw.localhost < " GOT("1") "\n"
		  "gw.localhost < " GOT("2") "\n"
		  "gw.localhost < " GOT("3") "\n"
		  "gw.localhost -\n"
		  "ack gw.localhost 1\n"
		  "detach gw.localhost\n"
		  "alice/a > " MSG("+1@gw.localhost", "4") "\n"
		  "rows gw.localhost 3\n"
		  "attach gw.localhost sm\n"
		  "gw.localhost < " GOT("2") "\n"
		  "gw.localhost < " GOT("3") "\n"
		  "gw.localhost < " GOT("4") "\n"
		  "gw.localhost -\n"
		  "ack gw.localhost\n"
		  "rows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-8: a custody id that a client made up does not reach the component. */
static void test_forged_custody(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nattach irc.localhost\nlogin alice/a\n"
		  "alice/a > <message to='+1@gw.localhost' type='chat' id='1'><custody xmlns='urn:tandem:custody:0' id='666'/><body>x</body><custody xmlns='urn:tandem:custody:0' id='666'/></message>\n"
		  "gw.localhost ! <message type='chat'><custody xmlns='urn:tandem:custody:0' id='666'/></message>\n"
		  "gw.localhost < <message type='chat' id='1'><custody xmlns='urn:tandem:custody:0' id='*'/></message>\n"
		  "alice/a > <message to='x@irc.localhost' type='chat' id='2'><custody xmlns='urn:tandem:custody:0' id='666'/><body>x</body></message>\n"
		  "irc.localhost ! <message type='chat'><custody xmlns='urn:tandem:custody:0'/></message>\n"
		  "irc.localhost < <message type='chat' id='2'/>\n");
	rh_free(&h);
}

/* CUST-8: many rows are sent a window at a time, in order, and what comes meanwhile comes after. */
static void test_component_window(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned got, total = PAGER_WINDOW * 3;

	(void)state;
	RH_RUN(h, "login alice/a\n");
	for (unsigned i = 0; i < total; i++) {
		snprintf(line, sizeof(line),
			 "alice/a > <message to='+1@gw.localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\nattach gw.localhost sm\nsettle\n");
	got = rh_inbox(h, "gw.localhost");
	assert_in_range(got, PAGER_PAGE, PAGER_WINDOW);
	for (unsigned i = total; i < total + PAGER_LATE * 2; i++) {
		snprintf(line, sizeof(line),
			 "alice/a > <message to='+1@gw.localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	total += PAGER_LATE * 2;
	for (unsigned i = 0; i < total; i++) {
		snprintf(line, sizeof(line), "gw.localhost < <message type='chat' id='%u'/>\nack gw.localhost 1\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "gw.localhost -\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-9: a component's events are told apart by their origin-id; errors and receipts are promises too. */
static void test_component_outbox(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='alice@localhost/gone' id='r1'><received xmlns='urn:xmpp:receipts' id='m1'/><origin-id xmlns='urn:xmpp:sid:0' id='e1'/></message>\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='alice@localhost/gone' type='error' id='m2'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error><origin-id xmlns='urn:xmpp:sid:0' id='e2'/></message>\n"
		  "h gw.localhost 2\n"
		  "rows alice@localhost 2\n"
		  "gw.localhost > <message from='+1@gw.localhost' to='alice@localhost/gone' id='r1'><received xmlns='urn:xmpp:receipts' id='m1'/><origin-id xmlns='urn:xmpp:sid:0' id='e1'/></message>\n"
		  "h gw.localhost 3\n"
		  "rows alice@localhost 2\n"
		  "gw.localhost -\n"
		  "login alice/a\n"
		  "alice/a > <presence/>\n"
		  "alice/a ~ <message id='r1'><received xmlns='urn:xmpp:receipts' id='m1'/></message>\n"
		  "alice/a ~ <message id='m2' type='error'/>\n"
		  "ack alice/a\n"
		  "rows alice@localhost 0\n");
	rh_free(&h);
}

/* CUST-10: no such account: the row goes and the error is a row of the sender, in one transaction. */
static void test_bounce(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\n" ON("alice/a", "0")
		  "alice/a > " MSG("nobody@localhost", "1") "\n"
		  "alice/a < <message type='error' id='1' from='nobody@localhost' to='alice@localhost/a'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "rows nobody@localhost 0\n"
		  "rows alice@localhost 1\n"
		  "end alice/a\n"
		  "login alice/b\n"
		  "alice/b > <presence/>\n"
		  "alice/b ~ <message type='error' id='1'/>\n"
		  "ack alice/b\n"
		  "rows alice@localhost 0\n");
	rh_free(&h);
}

static void test_offline_limit(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->cfg->lim.mail_per_user = 2;
	RH_RUN(h, "login alice/a sm\nlogin carol/c\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("bob@localhost", "2") "\n"
		  "alice/a > " MSG("bob@localhost", "3") "\n"
		  "carol/c > " MSG("bob@localhost", "4") "\n"
		  "alice/a < <message type='error' id='3'><error><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "carol/c < <message type='error' id='4'/>\n"
		  "rows bob@localhost 2\n");
	assert_int_equal(rh_counter(h, CNT_OFFLINE_FULL), 2);
	rh_free(&h);
}

/* CUST-10: the component was away for too long. */
static void test_expiry(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	h->cfg->lim.component_expiry_s = 1;
	RH_RUN(h, "login alice/a\n"
		  "alice/a > " MSG("+1@gw.localhost", "1") "\n"
		  "rows gw.localhost 1\n");
	rh_expire(h, 100);
	RH_RUN(h, "rows gw.localhost 1\nalice/a -\n");
	rh_expire(h, 1000);
	RH_RUN(h, "alice/a < <message type='error' id='1' from='+1@gw.localhost'><error><remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "rows gw.localhost 0\n");
	rh_free(&h);
}

/* CUST-11: the first session with priority >= 0 gets it, oldest first, before anything newer; no other gets it. */
static void test_flush(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned n = PAGER_PAGE * 2 + 5;

	(void)state;
	RH_RUN(h, "login alice/a sm\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "login bob/neg\nbob/neg > <presence><priority>-1</priority></presence>\nclear bob/neg\n"
		  "login bob/b\n"
		  "bob/b > <presence/>\n"
		  "alice/a > <message to='bob@localhost' type='chat' id='new'><body>x</body></message>\n"
		  "login bob/c\n"
		  "bob/c > <presence/>\n"
		  "bob/b < <presence from='bob@localhost/b'/>\n"
		  "bob/b < <presence from='bob@localhost/neg'/>\n"
		  "bob/b ~ <presence from='bob@localhost/c'/>\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "bob/b < <message type='chat' id='%u'><delay xmlns='urn:xmpp:delay'/></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "bob/b < <message type='chat' id='new'/>\n"
		  "bob/b -\n"
		  "bob/neg ! <message type='chat'/>\n"
		  "ack bob/b\n"
		  "rows bob@localhost 0\n"
		  "end bob/b\nend bob/c\n"
		  "login bob/d\n"
		  "bob/d > <presence/>\n"
		  "bob/d ! <message type='chat'/>\n");
	rh_free(&h);
}

/* CUST-11: a flush that is broken off goes on at the next session, without loss and without doubles. */
static void test_flush_broken_off(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned n = PAGER_WINDOW + 100;

	(void)state;
	RH_RUN(h, "login alice/a sm\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "alice/a > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "login bob/b\nbob/b > <presence/>\nbob/b < <presence/>\nsettle\n"
		  "alice/a > <message to='bob@localhost' type='chat' id='meanwhile'><body>x</body></message>\n"
		  "ack bob/b 10\n"
		  "end bob/b\n"
		  "login bob/c\nbob/c > <presence/>\nbob/c < <presence/>\n");
	for (unsigned i = 10; i < n; i++) {
		snprintf(line, sizeof(line), "bob/c < <message type='chat' id='%u'/>\nack bob/c 1\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "bob/c < <message type='chat' id='meanwhile'/>\nbob/c -\nack bob/c\nrows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-11: what comes while the last page is read is delivered behind it, however much it is. */
static void test_flush_race(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned n = PAGER_LATE + 20;

	(void)state;
	h->readers = 2;
	rh_restart(h);
	RH_RUN(h, "login alice/a sm\nlogin carol/c\n"
		  "alice/a > " MSG("bob@localhost", "old") "\n"
		  "rows bob@localhost 1\n"
		  "login bob/b\n"
		  "hold load\n"
		  "bob/b > <presence/>\nbob/b < <presence/>\nsettle\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "%s > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n",
			 i % 3 ? "alice/a" : "carol/c", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\nbob/b -\nrelease\n"
		  "bob/b < <message type='chat' id='old'><delay xmlns='urn:xmpp:delay'/></message>\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "bob/b < <message type='chat' id='%u'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "bob/b -\nack bob/b\nrows bob@localhost 0\nalice/a -\ncarol/c -\n");
	rh_free(&h);
}

/* CUST-11, DELIV-3: a round that begins again does not bring what was put into the store before what
 * still waits in memory. */
static void test_flush_again(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned n = PAGER_LATE + 20;

	(void)state;
	h->readers = 2;
	rh_restart(h);
	RH_RUN(h, "login alice/a sm\nlogin carol/c\n"
		  "alice/a > " MSG("bob@localhost", "old") "\n"
		  "rows bob@localhost 1\n"
		  "login bob/b\nlogin bob/c\n"
		  "hold load\n"
		  "bob/b > <presence><priority>5</priority></presence>\nbob/b < <presence/>\nsettle\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line),
			 "carol/c > <message to='bob@localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\nbob/b -\n"
		  "bob/c > <presence/>\n"
		  "bob/b < <presence/>\nrelease\n"
		  "bob/b < <message type='chat' id='old'><delay xmlns='urn:xmpp:delay'/></message>\n");
	for (unsigned i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "bob/b < <message type='chat' id='%u'/>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "bob/b -\nack bob/b\nrows bob@localhost 0\ncarol/c -\n");
	rh_free(&h);
}

/* What promises nothing and came behind a page whose session went: dropped; the rest is kept. */
static void test_flush_stops(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->readers = 2;
	rh_restart(h);
	RH_RUN(h, "login alice/a sm\nlogin carol/c\n"
		  "alice/a > " MSG("bob@localhost", "old") "\n"
		  "rows bob@localhost 1\n"
		  "login bob/b\n"
		  "hold load\n"
		  "bob/b > <presence/>\nbob/b < <presence/>\nsettle\n"
		  "carol/c > <message to='bob@localhost' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>\n"
		  "carol/c > " MSG("bob@localhost", "2") "\n"
		  "end bob/b\n"
		  "release\n");
	/* the reader that was held answers when it comes to run */
	for (unsigned i = 0; i < 1000 && rh_rows(h, "bob@localhost") < 2; i++) {
		usleep(5000);
		rh_settle(h);
	}
	RH_RUN(h, "rows bob@localhost 2\n"
		  "carol/c -\n"
		  "login bob/c\nbob/c > <presence/>\nbob/c < <presence/>\n"
		  "bob/c < " GOT("old") "\nbob/c < " GOT("2") "\nbob/c -\n");
	rh_free(&h);
}

/* The same row by a page and by the bus: once, also when it has been acknowledged meanwhile. */
static void test_page_and_stanza(void **state)
{
	struct rh *h = begin(1);
	struct stanza *st;
	uint64_t id;

	(void)state;
	RH_RUN(h, "login alice/a sm\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "settle\n"
		  "login bob/b\nbob/b > <presence/>\nbob/b < <presence/>\n"
		  "bob/b < " GOT("1") "\n");
	id = h->w[0].last_id;
	assert_int_equal(stanza_restore(SL("<message from='alice@localhost/a' to='bob@localhost' id='1' type='chat'><body>1</body></message>"), &st), 0);
	route(&h->w[0], stanza_ref(st), id);
	usleep(60000); /* the bus may be slow */
	RH_RUN(h, "bob/b -\nack bob/b\nrows bob@localhost 0\n");
	route(&h->w[0], st, id);
	RH_RUN(h, "bob/b -\n");
	rh_free(&h);
}

/* A component that does not acknowledge gets a window and no more; the rest follows from the store. */
static void test_component_stalls(void **state)
{
	struct rh *h = begin(1);
	char line[256];
	unsigned total = PAGER_WINDOW + PAGER_LATE + 50;

	(void)state;
	RH_RUN(h, "attach gw.localhost sm\nlogin alice/a\nsettle\n");
	for (unsigned i = 0; i < total; i++) {
		snprintf(line, sizeof(line),
			 "alice/a > <message to='+1@gw.localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	assert_int_equal(rh_inbox(h, "gw.localhost"), PAGER_WINDOW);
	for (unsigned i = 0; i < total; i++) {
		snprintf(line, sizeof(line), "gw.localhost < <message type='chat' id='%u'/>\nack gw.localhost 1\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "gw.localhost -\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* DELIV-3: what has no row does not overtake a component's backlog, however long it is. */
static void test_backlog_keeps_order(void **state)
{
	struct rh *h = begin(1);
	char line[256], id[32];
	unsigned total = PAGER_WINDOW + 50, more = PAGER_LATE + 50;

	(void)state;
	RH_RUN(h, "attach irc.localhost sm\nlogin alice/a sm\nlogin alice/b\nsettle\n");
	rh_sm_begin(h, "alice/a", id);
	for (unsigned i = 0; i < total; i++) { /* have rows: alice/a has XEP-0198 */
		snprintf(line, sizeof(line),
			 "alice/a > <message to='x@irc.localhost' type='chat' id='%u'><body>x</body></message>\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\n");
	for (unsigned i = total; i < total + more; i++) { /* have none */
		snprintf(line, sizeof(line),
			 "alice/b > <message to='x@irc.localhost' type='%s' id='%u'><body>x</body></message>\n",
			 i % 7 ? "chat" : "error", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "settle\n");
	assert_int_equal(rh_inbox(h, "irc.localhost"), PAGER_WINDOW);
	/* What promises nothing is not stored, and does not overtake either. */
	RH_RUN(h, "alice/b > <message to='x@irc.localhost' type='chat' id='s'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>\n"
		  "alice/b < <message type='error' id='s'><error><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n");
	for (unsigned i = 0; i < total + more; i++) {
		snprintf(line, sizeof(line), "irc.localhost < <message type='*' id='%u'/>\nack irc.localhost 1\n", i);
		RH_RUN(h, line);
	}
	RH_RUN(h, "irc.localhost -\nalice/b -\nrows irc.localhost 0\n");
	rh_free(&h);
}

/* DELIV-3: rows of two workers, whose ids grow each for itself: a page that another worker's ids have taken further does
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
	for (unsigned i = 0; i < PAGER_PAGE; i++)
		RH_RUN(h, "gw.localhost < <message type='chat' id='*'/>\n");
	RH_RUN(h, "gw.localhost < <message type='chat' id='first'/>\n"
		  "gw.localhost < <message type='chat' id='second'/>\ngw.localhost -\n"
		  "ack gw.localhost\nrows gw.localhost 0\n");
	rh_free(&h);
}

/* Rows that were counted while their stanzas waited for the load are not counted twice. */
static void test_count_race(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->readers = 2;
	rh_restart(h);
	h->cfg->lim.mail_per_user = 2;
	RH_RUN(h, "login alice/a sm\n"
		  "hold count\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("bob@localhost", "2") "\n"
		  "settle\n"
		  "release\n"
		  "alice/a -\n"
		  "rows bob@localhost 2\n"
		  "alice/a > " MSG("bob@localhost", "3") "\n"
		  "alice/a < <message type='error' id='3'/>\n"
		  "rows bob@localhost 2\n");
	rh_free(&h);
}

/* CUST-10: what is on its way does not expire. */
static void test_no_expiry_in_flight(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	h->cfg->lim.mail_expiry_s = 1;
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "alice/a > " MSG("bob@localhost", "1") "\n"
		  "alice/a > " MSG("carol@localhost", "2") "\n"
		  "bob/b < " GOT("1") "\n");
	rh_expire(h, 1100);
	RH_RUN(h, "alice/a < <message type='error' id='2'><error><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "alice/a -\n"
		  "rows bob@localhost 1\n"
		  "ack bob/b\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

/* CUST-12: the store cannot commit: nothing is counted and the stream is ended. */
static void test_store_fails(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a sm\nlogin carol/c\nlogin bob/b\n" ON("bob/b", "0")
		  "fail 1\n"
		  "alice/a > " OMSG("bob@localhost", "1") "\n"
		  "h alice/a 0\n"
		  "bob/b -\n"
		  "heal\n");
	assert_string_equal(rh_closed(h, "alice/a"), "internal-server-error");
	RH_RUN(h, "fail 1\n"
		  "carol/c > " MSG("+1@gw.localhost", "2") "\n"
		  "carol/c < <message type='error' id='2'><error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
		  "heal\n"
		  "rows gw.localhost 0\n");
	rh_free(&h);
}

/* An acknowledgement that is faster than the commit: the row is not made, or goes again. */
static void test_ack_before_commit(void **state)
{
	struct rh *h = begin(2);
	const struct worker *sender;
	uint64_t id[2];

	(void)state;
	/* what was acknowledged is remembered for seconds, which may be too short for a busy machine */
	clock_fake(true, clock_mono_ms(), clock_wall_ms());
	RH_RUN(h, "login alice/a sm\nlogin bob/b\n" ON("bob/b", "0")
		  "hold\n"
		  "alice/a > " MSG("bob@localhost", "1") "\n");
	sender = rh_session(h, "alice/a")->w;
	id[0] = sender->last_id;
	RH_RUN(h, "alice/a > " MSG("bob@localhost", "2") "\n");
	id[1] = sender->last_id;
	RH_RUN(h, "bob/b < " GOT("1") "\n"
		  "bob/b < " GOT("2") "\n"
		  "ack bob/b\n");
	/* until the writer has deleted them no page may bring them again */
	for (unsigned i = 0; i < 2; i++)
		assert_non_null(mail_find(rh_session(h, "bob/b")->w, id[i]));
	RH_RUN(h, "release\n"
		  "h alice/a 2\n"
		  "settle\n"
		  "rows bob@localhost 0\n");
	clock_fake(false, 0, 0);
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_h_waits_for_the_commit),
		cmocka_unit_test(test_counts_retire_in_order),
		cmocka_unit_test(test_h_is_committed_with_the_row),
		cmocka_unit_test(test_component_waits_for_the_commit),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_duplicates_of_another_session),
		cmocka_unit_test(test_id_is_taken),
		cmocka_unit_test(test_unreadable_rows),
		cmocka_unit_test(test_many_acks),
		cmocka_unit_test(test_dropped_rows_go),
		cmocka_unit_test(test_groupchat_of_a_component),
		cmocka_unit_test(test_error_waits),
		cmocka_unit_test(test_held_in_order),
		cmocka_unit_test(test_component_once),
		cmocka_unit_test(test_component_stream_lost),
		cmocka_unit_test(test_expiry_behind_much),
		cmocka_unit_test(test_purge),
		cmocka_unit_test(test_seen_window),
		cmocka_unit_test(test_bounce_id_is_taken),
		cmocka_unit_test(test_bounce_to_component),
		cmocka_unit_test(test_offline_exceptions),
		cmocka_unit_test(test_flush_by_priority),
		cmocka_unit_test(test_offline),
		cmocka_unit_test(test_first_ack_deletes),
		cmocka_unit_test(test_undelivered),
		cmocka_unit_test(test_undelivered_to_whom),
		cmocka_unit_test(test_undelivered_iq),
		cmocka_unit_test(test_undelivered_without_a_row),
		cmocka_unit_test(test_component_resend),
		cmocka_unit_test(test_forged_custody),
		cmocka_unit_test(test_component_window),
		cmocka_unit_test(test_component_outbox),
		cmocka_unit_test(test_bounce),
		cmocka_unit_test(test_offline_limit),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_flush_broken_off),
		cmocka_unit_test(test_flush_race),
		cmocka_unit_test(test_flush_again),
		cmocka_unit_test(test_flush_stops),
		cmocka_unit_test(test_page_and_stanza),
		cmocka_unit_test(test_component_stalls),
		cmocka_unit_test(test_backlog_keeps_order),
		cmocka_unit_test(test_ids_of_two_workers),
		cmocka_unit_test(test_count_race),
		cmocka_unit_test(test_no_expiry_in_flight),
		cmocka_unit_test(test_store_fails),
		cmocka_unit_test(test_ack_before_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
