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

/* Mail is held until the peer's count covers it, is written again on the next stream with its own
 * children, and goes back when the session ends. */
static void test_mail(void **state)
{
	struct mail m[3] = { { .id = 1 }, { .id = 2 }, { .id = 3 } };
	struct stream *s;
	struct c2s *d;
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
	other = ar_connect(ACCESS_C2S, &s);
	d = container_of(s, struct c2s, st);
	ar_talk(other, AR_OPEN);
	ar_authed(d);
	ar_talk(other, AR_OPEN);
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
		T(test_bad_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
