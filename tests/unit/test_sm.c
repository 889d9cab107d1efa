/* test_sm.c - XEP-0198 against a router and a store that do what the test says: the order in which
 * counts retire, commits that fail, counts that wrap, peers that are silent, sessions that end with
 * everything under way. Rules CUST-2, CUST-3, CUST-7, CUST-12. */
#include "tests/unit/access_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SM "xmlns='urn:xmpp:sm:3'"

static struct c2s *c;
static int fd;

static int setup(void **state)
{
	UNUSED(state);
	log_set_level(LOG_L_ERROR);
	clock_fake(true, 1000000, 1700000000000);
	ar_new();
	fd = ar_bound(&c);
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	close(fd);
	ar_free();
	clock_fake(false, 0, 0);
	return 0;
}

static void heard(const char *text, const char *want)
{
	const char *got = ar_talk(fd, text);

	if (strcmp(got, want) != 0)
		fail_msg("to '%s' came '%s', not '%s'", text, got, want);
}

static void enable(void)
{
	const char *got = ar_talk(fd, "<enable " SM " resume='true'/>");

	assert_non_null(strstr(got, "<enabled"));
}

static const char message[] = "<message to='bob@localhost' type='chat'><body>x</body></message>";

/* Presence behind a message that waits for its commit waits, too. */
static void test_order(void **state)
{
	UNUSED(state);
	enable();
	heard("<presence/>", "");
	heard("<r " SM "/>", "<a " SM " h='1'/>");
	ar.hold = true;
	heard(message, "");
	heard("<presence/><presence/>", "");
	heard(message, "");
	heard("<presence/>", "");
	heard("<r " SM "/>", "<a " SM " h='1'/>");
	/* The second commit alone changes nothing. */
	ar.held[1]->done(ar.held[1], 0);
	ar_turn();
	assert_string_equal(ar_recv(fd), "");
	heard("<r " SM "/>", "<a " SM " h='1'/>");
	/* With the first all six retire, and the answer that was owed follows, once. */
	ar.held[0]->done(ar.held[0], 0);
	ar.nheld = 0;
	ar_turn();
	assert_string_equal(ar_recv(fd), "<a " SM " h='6'/>");
	ar.hold = false;
	heard(message, "");
	heard("<r " SM "/>", "<a " SM " h='7'/>");
}

/* The place carries the count that the commit writes (CUST-2). */
static void test_count_of_place(void **state)
{
	UNUSED(state);
	enable();
	ar.hold = true;
	heard("<presence/>", "");
	heard(message, "");
	heard("<presence/>", "");
	heard(message, "");
	assert_int_equal(ar.nheld, 2);
	assert_int_equal(ar.held[0]->h, 2);
	assert_int_equal(ar.held[1]->h, 4);
	assert_int_equal(ar.held[0]->sm_id.n, SM_ID_OCTETS);
	ar_commit(0);
}

/* CUST-2: a count that was told does not become less by a crash; a message under way brings its own,
 * which is not overwritten. */
static void test_count_told(void **state)
{
	UNUSED(state);
	enable();
	heard("<presence/>", "");
	assert_int_equal(ar.sm_put_h, 0);
	heard("<r " SM "/>", "<a " SM " h='1'/>");
	assert_int_equal(ar.sm_put_h, 1);
	ar.sm_put_h = 99;
	heard("<r " SM "/>", "<a " SM " h='1'/>");
	assert_int_equal(ar.sm_put_h, 99); /* it is there */
	ar.hold = true;
	heard("<presence/>", "");
	heard(message, "");
	heard("<r " SM "/>", "<a " SM " h='2'/>");
	assert_int_equal(ar.sm_put_h, 99);
	ar.held[0]->stored = true;
	ar_commit(0);
	ar_turn();
	assert_string_equal(ar_recv(fd), "<a " SM " h='3'/>");
	assert_int_equal(ar.sm_put_h, 99); /* the message has written it */
	heard(message, "");
	ar_commit(0); /* it had no row, and brought nothing */
	heard("<r " SM "/>", "<a " SM " h='4'/>");
	assert_int_equal(ar.sm_put_h, 4);
	ar.hold = false;
	heard("<presence/>", "");
	conn_kill(c->st.conn);
	ar_turn();
	assert_int_equal(ar.sm_put_h, 5);
}

/* CUST-12: nothing is acknowledged; the stream ends; what committed later in the same turn does not
 * count either. */
static void test_commit_fails(void **state)
{
	const char *got;

	UNUSED(state);
	enable();
	heard("<presence/>", "");
	ar.hold = true;
	heard(message, "");
	heard(message, "");
	heard("<r " SM "/>", "<a " SM " h='1'/>");
	ar.held[0]->done(ar.held[0], E_IO);
	ar.held[1]->done(ar.held[1], 0);
	ar.nheld = 0;
	ar_turn();
	got = ar_recv(fd);
	assert_non_null(strstr(got, "<internal-server-error"));
	assert_null(strstr(got, "<a "));
	assert_int_equal(ar.nended, 1);
	assert_int_equal(ar.sm_put_h, 1); /* the presence before them */
}

static void test_ends_before_commit(void **state)
{
	UNUSED(state);
	enable();
	ar.hold = true;
	heard(message, "");
	heard(message, "");
	heard("</stream:stream>", "</stream:stream>");
	assert_int_equal(ar.nended, 1);
	ar_commit(0); /* must find nothing of the session */
	ar_turn();
}

/* Modulo 2^32, both ways. */
static void test_wrap(void **state)
{
	UNUSED(state);
	enable();
	c->st.as->sm->h = UINT32_MAX - 1;
	c->st.as->sm->peer_h = UINT32_MAX;
	heard("<presence/>", "");
	ar.hold = true;
	heard(message, "");
	assert_int_equal(ar.held[0]->h, 0);
	heard("<presence/>", "");
	heard("<r " SM "/>", "<a " SM " h='4294967295'/>");
	ar_commit(0);
	ar_turn();
	assert_string_equal(ar_recv(fd), "<a " SM " h='1'/>");
	ar.hold = false;
	ar.echo = true;
	ar_talk(fd, "<presence/><presence/>");
	heard("<a " SM " h='2'/>", "<stream:error><undefined-condition "
				   "xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
				   "<handled-count-too-high " SM " h='2' send-count='1'/>"
				   "</stream:error></stream:stream>");
}

static void test_wrap_ok(void **state)
{
	UNUSED(state);
	enable();
	c->st.as->sm->peer_h = UINT32_MAX;
	ar.echo = true;
	ar_talk(fd, "<presence/><presence/>");
	assert_int_equal(c->st.as->n, 2);
	heard("<a " SM " h='0'/>", "");
	assert_int_equal(c->st.as->n, 1);
	heard("<a " SM " h='1'/>", "");
	assert_int_equal(c->st.as->n, 0);
}

/* Not more than one <r/> is out; a few stanzas wait for a moment, many do not. */
static void test_requests(void **state)
{
	const char *got;

	UNUSED(state);
	enable();
	ar.echo = true;
	got = ar_talk(fd, "<presence/>");
	assert_null(strstr(got, "<r "));
	clock_fake_advance_ms(300);
	ar_turn();
	assert_string_equal(ar_recv(fd), "<r " SM "/>");
	for (int i = 0; i < 20; i++)
		assert_null(strstr(ar_talk(fd, "<presence/>"), "<r "));
	heard("<a " SM " h='21'/>", "");
	got = ar_talk(fd, "<presence/><presence/><presence/><presence/><presence/><presence/>"
			  "<presence/><presence/>");
	assert_non_null(strstr(got, "<r " SM "/>"));
	heard("<a " SM " h='29'/>", "");
	/* Silence is not death while nothing was asked, and is when something was. */
	clock_fake_advance_ms(600000);
	ar_turn();
	assert_non_null(c->st.conn);
	ar_talk(fd, "<presence/>");
	clock_fake_advance_ms(300);
	ar_turn();
	clock_fake_advance_ms(61000);
	ar_turn();
	assert_int_equal(access_worker_totals(&ar.w).detached, 1);
}

/* A sender that is far ahead of the commits is not read, and goes on when they have come. */
static void test_congestion(void **state)
{
	UNUSED(state);
	enable();
	ar.hold = true;
	for (int i = 0; i < 2100; i++)
		ar_talk(fd, message);
	assert_int_equal(ar.nheld, 2000);
	ar_commit(0);
	ar_turn();
	ar_turn();
	assert_int_equal(ar.ninbound, 2100);
	ar_commit(0);
	heard("<r " SM "/>", "<a " SM " h='2100'/>");
}

/* The router may ask for a pause, too. */
static void test_flow(void **state)
{
	UNUSED(state);
	c->st.as->s.ops->flow(&c->st.as->s, true);
	ar_talk(fd, message);
	ar_talk(fd, message);
	assert_int_equal(ar.ninbound, 1); /* one to notice */
	c->st.as->s.ops->flow(&c->st.as->s, false);
	ar_turn();
	assert_int_equal(ar.ninbound, 2);
}

static void deliver(struct mail *m)
{
	struct stanza *st;

	assert_int_equal(stanza_new(STANZA_MESSAGE, ST_CHAT, NULL, NULL, SL("d"), &st), 0);
	xml_add_text(st->arena, xml_add(st->arena, st->root, NS_STANZA, SL("body")), SL("x"));
	assert_int_equal(stanza_seal(st), 0);
	ar.last->ops->deliver(ar.last, st, SL("<x xmlns='y'/>"), m);
	stanza_unref(&st);
}

/* Another connection on which this account has logged in. */
static int authed(const char *bare)
{
	struct stream *s;
	int other = ar_connect(ACCESS_C2S, &s);
	struct c2s *d = container_of(s, struct c2s, st);

	ar_talk(other, AR_OPEN);
	ar_authed(d);
	free(d->bare);
	d->bare = sl_dup(sl_cstr(bare));
	ar_talk(other, AR_OPEN);
	return other;
}

static const char *resume(int other, const char *id, unsigned h)
{
	char text[256];

	snprintf(text, sizeof(text), "<resume " SM " h='%u' previd='%.24s'/>", h, id);
	return ar_talk(other, text);
}

#define NOT_FOUND "<failed " SM "><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"

/* Nobody gets a session that is another account's, or that is not to be resumed. */
static void test_not_yours(void **state)
{
	struct mail m = { .id = 1 };
	int other;

	UNUSED(state);
	heard("<enable " SM "/>", "<enabled " SM "/>");
	other = authed("alice@localhost");
	assert_string_equal(resume(other, c->st.as->sm->id, 0), NOT_FOUND);
	assert_non_null(c->st.conn);
	close(other);
	close(fd);
	ar_turn();
	fd = ar_bound(&c);
	enable();
	deliver(&m);
	other = authed("bob@localhost");
	assert_string_equal(resume(other, c->st.as->sm->id, 0), NOT_FOUND);
	assert_int_equal(m.holders, 1);
	conn_kill(c->st.conn);
	ar_turn();
	assert_int_equal(access_worker_totals(&ar.w).detached, 1);
	assert_int_equal(ar.nmail_acked, 0);
	close(other);
}

/* What was delivered before the counts began is not in them, and goes with the first that comes. */
static void test_enabled_late(void **state)
{
	struct mail m[3] = { { .id = 1 }, { .id = 2 }, { .id = 3 } };

	UNUSED(state);
	deliver(&m[0]);
	deliver(&m[1]);
	enable();
	deliver(&m[2]);
	ar_turn();
	ar_recv(fd);
	assert_int_equal(ar.nmail_acked, 0);
	heard("<a " SM " h='1'/>", "");
	assert_int_equal(ar.nmail_acked, 3);
	deliver(&m[0]);
	ar_turn();
	ar_recv(fd);
	heard("<a " SM " h='2'/>", "");
	assert_int_equal(ar.nmail_acked, 4);
}

static void test_enabled_late_too_high(void **state)
{
	struct mail m[2] = { { .id = 1 }, { .id = 2 } };

	UNUSED(state);
	deliver(&m[0]);
	enable();
	deliver(&m[1]);
	ar_turn();
	ar_recv(fd);
	heard("<a " SM " h='2'/>", "<stream:error><undefined-condition "
				   "xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
				   "<handled-count-too-high " SM " h='2' send-count='1'/>"
				   "</stream:error></stream:stream>");
	assert_int_equal(ar.nmail_acked, 0);
}

/* Or when the peer's TCP has it. */
static void test_enabled_late_by_tcp(void **state)
{
	struct mail m = { .id = 1 };

	UNUSED(state);
	deliver(&m);
	ar_send(fd, SL("<enable " SM " resume='true'/>"));
	ar_turns(3);
	clock_fake_advance_ms(100);
	ar_turns(3);
	assert_int_equal(ar.nmail_acked, 0); /* not read */
	ar_recv(fd);
	clock_fake_advance_ms(100);
	ar_turns(3);
	assert_int_equal(ar.nmail_acked, 1);
}

/* The eighth stanza asks at once. */
static void test_eight(void **state)
{
	UNUSED(state);
	enable();
	ar.echo = true;
	for (unsigned i = 0; i < 7; i++)
		assert_null(strstr(ar_talk(fd, "<presence/>"), "<r "));
	assert_non_null(strstr(ar_talk(fd, "<presence/>"), "<r " SM "/>"));
}

/* CUST-3: a resumption tells what is committed, and the rest when it is; and asks again. */
static void test_resume_under_way(void **state)
{
	struct mail m = { .id = 1 };
	char id[SM_ID_OCTETS + 1] = "";
	const char *got;
	int other;

	UNUSED(state);
	enable();
	memcpy(id, c->st.as->sm->id, SM_ID_OCTETS);
	deliver(&m);
	ar_turn();
	clock_fake_advance_ms(300);
	ar_turn();
	assert_non_null(strstr(ar_recv(fd), "<r "));
	ar.hold = true;
	heard(message, "");
	heard(message, "");
	other = authed("alice@localhost");
	got = resume(other, id, 0);
	assert_non_null(strstr(got, "<resumed "));
	assert_non_null(strstr(got, "h='0'"));
	assert_non_null(strstr(ar_recv(fd), "<conflict "));
	clock_fake_advance_ms(300);
	ar_turn();
	assert_string_equal(ar_recv(other), "<r " SM "/>");
	ar_commit(0);
	ar_turn();
	assert_string_equal(ar_recv(other), "<a " SM " h='2'/>");
	close(other);
	ar_turn();
}

/* CUST-2: what the store knows of a session: its count while it may come back, nothing once it has said goodbye, and
 * never less than what was committed with its last stanzas. */
static void test_stored_count(void **state)
{
	unsigned before;

	UNUSED(state);
	heard("<enable " SM "/>", "<enabled " SM "/>");
	heard("</stream:stream>", "</stream:stream>");
	assert_int_equal(ar.nsm_put + ar.nsm_del, 0);
	close(fd);
	fd = ar_bound(&c);
	enable();
	assert_int_equal(ar.nsm_put, 1);
	heard("<presence/>", "");
	heard("</stream:stream>", "</stream:stream>");
	assert_int_equal(ar.nsm_del, 1);
	close(fd);
	fd = ar_bound(&c);
	enable();
	heard("<presence/><presence/>", "");
	conn_kill(c->st.conn);
	ar_turn();
	before = ar.nsm_put;
	clock_fake_advance_ms(301000);
	ar_turn();
	assert_int_equal(ar.nended, 3);
	assert_int_equal(ar.nsm_put, before + 1);
	assert_int_equal(ar.sm_put_h, 2);
	close(fd);
	fd = ar_bound(&c);
	enable();
	ar.hold = true;
	heard(message, "");
	conn_kill(c->st.conn);
	ar_turn();
	before = ar.nsm_put;
	clock_fake_advance_ms(301000);
	ar_turn();
	assert_int_equal(ar.nended, 4);
	assert_int_equal(ar.nsm_put, before); /* the commit brings its own */
	assert_int_equal(ar.nsm_del, 1);
	ar_commit(0);
}

static void test_resumption_time(void **state)
{
	UNUSED(state);
	assert_non_null(strstr(ar_talk(fd, "<enable " SM " resume='1' max='10'/>"), " max='10'/>"));
	conn_kill(c->st.conn);
	ar_turn();
	clock_fake_advance_ms(9900);
	ar_turn();
	assert_int_equal(ar.nended, 0);
	clock_fake_advance_ms(200);
	ar_turn();
	assert_int_equal(ar.nended, 1);
	close(fd);
	fd = ar_bound(&c);
	assert_non_null(strstr(ar_talk(fd, "<enable " SM " resume='true' max='5000'/>"), " max='300'/>"));
}

/* limits sm_queue, to the stanza. */
static void test_queue_limit(void **state)
{
	struct mail m[4] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 } };

	UNUSED(state);
	ar.cfg->lim.sm_queue = 3;
	enable();
	for (unsigned i = 0; i < 3; i++)
		deliver(&m[i]);
	ar_turn();
	assert_int_equal(ar.nended, 0);
	deliver(&m[3]);
	ar_turn();
	assert_int_equal(ar.nended, 1);
	assert_int_equal(ar.nundelivered, 4);
	assert_non_null(strstr(ar_recv(fd), "<policy-violation"));
}

/* CUST-7: a promise without a row is handed back, too; what was read before the end is not. */
static void test_promise_without_row(void **state)
{
	struct mail m = { .id = 1 };

	UNUSED(state);
	deliver(NULL);
	ar_turns(2);
	close(fd);
	fd = -1;
	ar_turn();
	assert_int_equal(ar.nended, 1);
	assert_int_equal(ar.nundelivered, 1);
	fd = ar_bound(&c);
	deliver(&m);
	ar_turns(2);
	ar_recv(fd);
	close(fd); /* before anybody looked */
	fd = -1;
	ar_turn();
	assert_int_equal(ar.nended, 2);
	assert_int_equal(ar.nundelivered, 1);
	assert_int_equal(ar.nmail_acked, 1);
}

/* CUST-7: what came when the connection was already lost was never written, so TCP has not
 * acknowledged it, whatever it says of all that was. */
static void test_not_written(void **state)
{
	struct mail m[3] = { { .id = 1 }, { .id = 2 }, { .id = 3 } };

	UNUSED(state);
	deliver(&m[0]);
	ar_turns(2);
	ar_recv(fd);
	conn_kill(c->st.conn);
	deliver(&m[1]);
	deliver(&m[2]);
	ar_turn();
	assert_int_equal(ar.nended, 1);
	assert_int_equal(ar.nmail_acked, 1);
	assert_int_equal(ar.nundelivered, 2);
}

/* A session that is being closed does not wait to be resumed when its connection goes first. */
static void test_closed_and_lost(void **state)
{
	UNUSED(state);
	enable();
	ar.last->ops->close(ar.last, "conflict", SL_NULL);
	conn_kill(c->st.conn);
	ar_turn();
	assert_int_equal(access_worker_totals(&ar.w).detached, 0);
	assert_int_equal(ar.nended, 1);
}

/* RFC 6120 7.6.2: why a resource cannot be bound. */
static void test_bind_refused(void **state)
{
	static const struct {
		int rc;
		const char *condition;
	} cases[] = {
		{ E_NOTFOUND, "<not-allowed " },    { E_LIMIT, "<resource-constraint " },
		{ E_NOMEM, "<resource-constraint " }, { E_EXISTS, "<conflict " },
		{ E_IO, "<internal-server-error " },
	};
	int other = authed("alice@localhost");

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *got;

		ar.bind_rc = cases[i].rc;
		got = ar_talk(other, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
		assert_non_null(strstr(got, "type='error'"));
		assert_non_null(strstr(got, cases[i].condition));
	}
	close(other);
	ar_turn();
}

/* Mail is held until the peer's count covers it, is written again on the next stream with its own
 * children, and goes back when the session ends. */
static void test_mail(void **state)
{
	struct mail m[3] = { { .id = 1 }, { .id = 2 }, { .id = 3 } };
	char text[256];
	const char *got;
	int other;

	UNUSED(state);
	enable();
	for (int i = 0; i < 3; i++)
		deliver(&m[i]);
	ar_turn();
	ar_recv(fd);
	assert_int_equal(m[0].holders + m[1].holders + m[2].holders, 3);
	heard("<a " SM " h='1'/>", "");
	assert_int_equal(ar.nmail_acked, 1);
	assert_int_equal(m[0].holders, 0);
	snprintf(text, sizeof(text), "<resume " SM " h='2' previd='%.24s'/>", c->st.as->sm->id);
	conn_kill(c->st.conn);
	ar_turn();
	other = authed("alice@localhost");
	got = ar_talk(other, text);
	assert_int_equal(ar.nmail_acked, 2);
	assert_non_null(strstr(got, "<resumed "));
	assert_non_null(strstr(got, "<body>x</body><x xmlns='y'/></message>"));
	assert_null(strstr(strstr(got, "</message>") + 1, "<message"));
	ar_talk(other, "</stream:stream>");
	assert_int_equal(ar.nundelivered, 1);
	assert_int_equal(ar.nended, 1);
	close(other);
	ar_turn();
}

/* Without XEP-0198: acknowledged when the peer has read it; handed back when it has not. */
static void test_mail_by_tcp(void **state)
{
	struct mail m[2] = { { .id = 1 }, { .id = 2 } };

	UNUSED(state);
	deliver(&m[0]);
	ar_turn();
	ar_recv(fd);
	clock_fake_advance_ms(100);
	ar_turn();
	assert_int_equal(ar.nmail_acked, 1);
	deliver(&m[1]);
	ar_turns(1);
	clock_fake_advance_ms(100);
	ar_turns(2);
	assert_int_equal(ar.nmail_acked, 1); /* written and not read */
	close(fd);
	fd = -1;
	ar_turn();
	assert_int_equal(ar.nundelivered, 1);
	assert_int_equal(ar.nended, 1);
}

static void test_enable_without_resume(void **state)
{
	UNUSED(state);
	heard("<enable " SM "/>", "<enabled " SM "/>");
	close(fd);
	fd = -1;
	ar_turn();
	assert_int_equal(atomic_load(&ar.w.counter[CNT_SM_DETACHED]), 0);
	assert_int_equal(access_worker_totals(&ar.w).sessions, 0);
	assert_int_equal(ar.nended, 1);
}

static void test_bad_attributes(void **state)
{
	UNUSED(state);
	enable();
	ar_talk(fd, "<a " SM " h='-1'/>");
	assert_int_equal(c->st.f.state, C2S_CLOSING);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_order),          T(test_count_of_place), T(test_count_told),
		T(test_commit_fails),   T(test_ends_before_commit),
		T(test_wrap),           T(test_wrap_ok),
		T(test_requests),       T(test_congestion),
		T(test_flow),           T(test_mail),
		T(test_mail_by_tcp),    T(test_enable_without_resume),
		T(test_bad_attributes), T(test_not_yours),
		T(test_enabled_late),   T(test_enabled_late_too_high),
		T(test_eight),          T(test_enabled_late_by_tcp),
		T(test_stored_count),   T(test_resume_under_way),
		T(test_queue_limit),    T(test_resumption_time),
		T(test_closed_and_lost), T(test_promise_without_row),
		T(test_bind_refused),    T(test_not_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
