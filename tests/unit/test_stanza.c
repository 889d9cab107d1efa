/* test_stanza.c - stanzas: taken from a tree, changed, sealed, written for several recipients;
 * answers; custody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "xmpp/stream/stanza.h"

/* The arena goes over to the stanza. */
static struct stanza *take(const char *text, bool *bad_r)
{
	struct arena *a = arena_new(512, 1u << 20);
	struct xml_node *n;
	struct stanza *s = NULL;
	struct err e = { 0 };

	assert_non_null(a);
	if (xml_parse_one(a, sl_cstr(text), &n, &e) < 0)
		fail_msg("%s: %s", text, e.text);
	*bad_r = false;
	if (stanza_take(a, n, &s, bad_r, &e) < 0)
		arena_free(&a);
	return s;
}

static struct stanza *taken(const char *text)
{
	bool bad;
	struct stanza *s = take(text, &bad);

	assert_non_null(s);
	assert_false(bad);
	return s;
}

static void check_wire(const struct stanza *s, const struct jid *from, const struct jid *to,
		       struct sl extra, const char *want)
{
	struct buf out = { .max = 65536 };
	char *tight;

	assert_int_equal(stanza_wire(&out, s, from, to, extra), 0);
	if (!sl_eq(buf_sl(&out), sl_cstr(want)))
		fail_msg("\n got  " SLFMT "\n want %s", SLARG(buf_sl(&out)), want);
	assert_true(out.n <= stanza_wire_max(s, from, to, extra));
	tight = malloc(stanza_wire_max(s, from, to, extra));
	assert_int_equal(stanza_wire_put(s, from, to, extra, tight), out.n);
	assert_memory_equal(tight, want, out.n);
	free(tight);
	/* A buffer that has just the room it takes. */
	size_t n = out.n;
	buf_free(&out);
	out.max = n;
	assert_int_equal(stanza_wire(&out, s, from, to, extra), 0);
	buf_free(&out);
	out.max = n - 1;
	assert_int_equal(stanza_wire(&out, s, from, to, extra), E_TOOBIG);
	assert_int_equal(out.n, 0);
	buf_free(&out);
}

static void check_sealed(struct stanza *s, const char *want)
{
	assert_int_equal(stanza_seal(s), 0);
	const char *middle = s->middle.p;
	assert_int_equal(stanza_seal(s), 0);
	assert_ptr_equal(s->middle.p, middle);
	check_wire(s, NULL, NULL, SL_NULL, want);
	stanza_unref(&s);
	assert_null(s);
}

static void test_take(void **state)
{
	static const struct {
		const char *in;
		enum stanza_kind kind;
		enum stanza_type type;
	} v[] = {
		{ "<message/>", STANZA_MESSAGE, ST_NONE },
		{ "<message type='normal'/>", STANZA_MESSAGE, ST_NORMAL },
		{ "<message type='chat'/>", STANZA_MESSAGE, ST_CHAT },
		{ "<message type='groupchat'/>", STANZA_MESSAGE, ST_GROUPCHAT },
		{ "<message type='headline'/>", STANZA_MESSAGE, ST_HEADLINE },
		{ "<message type='error'/>", STANZA_MESSAGE, ST_ERROR },
		{ "<message type='get'/>", STANZA_MESSAGE, ST_UNKNOWN },
		{ "<message type=''/>", STANZA_MESSAGE, ST_UNKNOWN },
		{ "<presence/>", STANZA_PRESENCE, ST_NONE },
		{ "<presence type='unavailable'/>", STANZA_PRESENCE, ST_UNAVAILABLE },
		{ "<presence type='subscribe'/>", STANZA_PRESENCE, ST_SUBSCRIBE },
		{ "<presence type='subscribed'/>", STANZA_PRESENCE, ST_SUBSCRIBED },
		{ "<presence type='unsubscribe'/>", STANZA_PRESENCE, ST_UNSUBSCRIBE },
		{ "<presence type='unsubscribed'/>", STANZA_PRESENCE, ST_UNSUBSCRIBED },
		{ "<presence type='probe'/>", STANZA_PRESENCE, ST_PROBE },
		{ "<presence type='error'/>", STANZA_PRESENCE, ST_ERROR },
		{ "<presence type='chat'/>", STANZA_PRESENCE, ST_UNKNOWN },
		{ "<iq type='get'/>", STANZA_IQ, ST_GET },
		{ "<iq type='set'/>", STANZA_IQ, ST_SET },
		{ "<iq type='result'/>", STANZA_IQ, ST_RESULT },
		{ "<iq type='error'/>", STANZA_IQ, ST_ERROR },
		{ "<iq/>", STANZA_IQ, ST_NONE },
		{ "<iq type='GET'/>", STANZA_IQ, ST_UNKNOWN },
	};
	bool bad;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		struct stanza *s = taken(v[i].in);
		assert_int_equal(s->kind, v[i].kind);
		assert_int_equal(s->type, v[i].type);
		check_sealed(s, v[i].in);
	}
	assert_null(take("<msg/>", &bad));
	assert_null(take("<message xmlns='u'/>", &bad));
	assert_null(take("<r xmlns='urn:xmpp:sm:3'/>", &bad));
}

static void test_addresses(void **state)
{
	struct stanza *s = taken(
		"<message id='i' to='B@c/D' x='1' type='chat' from='a@c' xml:lang='en'><body>x</body></message>");
	struct jid other = jid_split(SL("o@p/'<&")), none = JID_NULL;
	bool bad;

	UNUSED(state);
	assert_true(sl_eq(s->to.full, SL("b@c/D")) && sl_eq(s->from.full, SL("a@c")) &&
		    sl_eq(s->id, SL("i")));
	assert_int_equal(stanza_seal(s), 0);
	check_wire(
		s, NULL, NULL, SL_NULL,
		"<message to='b@c/D' from='a@c' id='i' x='1' type='chat' xml:lang='en'><body>x</body></message>");
	check_wire(
		s, &other, NULL, SL("<e/>"),
		"<message to='b@c/D' from='o@p/&apos;&lt;&amp;' id='i' x='1' type='chat' xml:lang='en'>"
		"<body>x</body><e/></message>");
	check_wire(
		s, &none, &other, SL_NULL,
		"<message to='o@p/&apos;&lt;&amp;' id='i' x='1' type='chat' xml:lang='en'><body>x</body></message>");
	stanza_unref(&s);

	s = taken("<presence from='old@x'/>");
	assert_int_equal(stanza_set_from(s, &other), 0);
	assert_int_equal(stanza_set_to(s, &other), 0);
	assert_true(s->from.full.p != other.full.p);
	assert_true(sl_eq(xml_attr(s->root, SL("from")), other.full));
	assert_int_equal(stanza_set_to(s, NULL), 0);
	assert_true(jid_is_null(&s->to) && xml_attr(s->root, SL("to")).n == 0);
	assert_int_equal(stanza_seal(s), 0);
	check_wire(s, NULL, NULL, SL_NULL, "<presence from='o@p/&apos;&lt;&amp;'/>");
	check_wire(s, NULL, NULL, SL("<e/>"),
		   "<presence from='o@p/&apos;&lt;&amp;'><e/></presence>");
	stanza_unref(&s);

	s = take("<iq to='a b@c' from='x@y'/>", &bad);
	assert_true(bad && jid_is_null(&s->to) && sl_eq(s->from.full, SL("x@y")));
	stanza_unref(&s);
	s = take("<iq to='a@c' from=''/>", &bad);
	assert_true(bad && jid_is_null(&s->from));
	stanza_unref(&s);
	/* Only plain attributes are addresses. */
	s = taken("<iq p:to='a b@c' xmlns:p='u' type='get'/>");
	assert_true(jid_is_null(&s->to));
	check_sealed(s, "<iq xmlns:ns0='u' ns0:to='a b@c' type='get'/>");
}

static void test_children(void **state)
{
	UNUSED(state);
	check_sealed(
		taken("<message xmlns='jabber:server'><body>&lt;</body>t<p:x xmlns:p='u' p:a='1'><body "
		      "xmlns='jabber:client'/></p:x></message>"),
		"<message><body>&lt;</body>t<x xmlns='u' xmlns:ns0='u' ns0:a='1'><body xmlns='jabber:client'/></x></message>");
	/* Inside a stanza nothing may lean on the stream's prefixes. */
	check_sealed(taken("<iq><stream:error/></iq>"),
		     "<iq><error xmlns='http://etherx.jabber.org/streams'/></iq>");
	struct stanza *s = taken("<message><body>a</body></message>");
	xml_add_text(s->arena, xml_add(s->arena, s->root, NS_DELAY, SL("delay")), SL("x&y"));
	xml_unlink(xml_child(s->root, NS_STANZA, SL("body")));
	check_sealed(s, "<message><delay xmlns='urn:xmpp:delay'>x&amp;y</delay></message>");
}

static void test_long(void **state)
{
	UNUSED(state);
	for (size_t n = 900; n < 5000; n += 97) {
		char *in = malloc(n + 64), *p = in;
		p += snprintf(in, n + 64, "<message><body>");
		memset(p, 'x', n);
		snprintf(p + n, 40, "</body></message>");
		check_sealed(taken(in), in);
		free(in);
	}
}

static void test_new(void **state)
{
	struct jid a = jid_split(SL("a@b/c")), d = jid_split(SL("d"));
	struct stanza *s, *t;

	UNUSED(state);
	assert_int_equal(stanza_new(STANZA_IQ, ST_SET, &a, &d, SL("1'"), &s), 0);
	xml_add(s->arena, s->root, NS_ROSTER, SL("query"));
	t = stanza_ref(s);
	stanza_unref(&t);
	check_sealed(
		s,
		"<iq to='d' from='a@b/c' id='1&apos;' type='set'><query xmlns='jabber:iq:roster'/></iq>");
	assert_int_equal(stanza_new(STANZA_PRESENCE, ST_NONE, NULL, &JID_NULL, SL_NULL, &s), 0);
	check_sealed(s, "<presence/>");
}

static void test_errors(void **state)
{
	struct stanza *
		s = taken(
		       "<message type='chat' id='1' to='b@c' from='a@c/r'><body>x</body></message>"),
	       *r;

	UNUSED(state);
	assert_int_equal(stanza_error_reply(s, SC_SERVICE_UNAVAILABLE, NULL, SL_NULL, &r), 0);
	check_sealed(
		r,
		"<message to='a@c/r' from='b@c' id='1' type='error'><error type='cancel'><service-unavailable "
		"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>");
	assert_int_equal(stanza_error_reply(s, SC_RESOURCE_CONSTRAINT, "cancel", SL("full <"), &r),
			 0);
	stanza_unref(&s); /* the answer holds nothing of it */
	check_sealed(
		r,
		"<message to='a@c/r' from='b@c' id='1' type='error'><error type='cancel'><resource-constraint "
		"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>"
		"full &lt;</text></error></message>");
	s = taken("<iq type='result' id='1'/>");
	assert_int_equal(stanza_error_reply(s, SC_BAD_REQUEST, NULL, SL_NULL, &r), 0);
	assert_null(r);
	stanza_unref(&s);
	s = taken("<presence type='error'/>");
	assert_int_equal(stanza_error_reply(s, SC_BAD_REQUEST, NULL, SL_NULL, &r), 0);
	assert_null(r);
	stanza_unref(&s);
	s = taken("<iq type='get' id='9' from='a@b/c'><ping xmlns='urn:xmpp:ping'/></iq>");
	assert_int_equal(stanza_iq_result(s, &r), 0);
	check_sealed(r, "<iq to='a@b/c' id='9' type='result'/>");
	stanza_unref(&s);
	for (int c = 0; c < SC_MAX; c++) {
		struct sl type = sl_cstr(stanza_cond_type((enum stanza_cond)c));
		assert_true(stanza_cond_name((enum stanza_cond)c).n > 3);
		assert_true(sl_eq(type, SL("cancel")) || sl_eq(type, SL("wait")) ||
			    sl_eq(type, SL("modify")) || sl_eq(type, SL("auth")));
	}
}

static void test_promises(void **state)
{
	static const struct {
		const char *in;
		bool promises;
	} v[] = {
		{ "<message type='chat'><body>x</body></message>", true },
		{ "<message><body>x</body></message>", true },
		{ "<message type='odd'><body>x</body></message>", true },
		{ "<message type='normal'><subject>x</subject></message>", true },
		{ "<message type='chat'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>",
		  false },
		{ "<message type='headline'><body>x</body></message>", false },
		{ "<message type='groupchat'><body>x</body></message>", false },
		{ "<message type='error'><body>x</body></message>", false },
		{ "<message type='chat'/>", false },
		{ "<message type='chat'>text</message>", false },
		{ "<message type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/><thread>1</thread>"
		  "<no-copy xmlns='urn:xmpp:hints'/><origin-id xmlns='urn:xmpp:sid:0' id='1'/></message>",
		  false },
		{ "<message type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/>"
		  "<store xmlns='urn:xmpp:hints'/></message>",
		  true },
		{ "<message type='chat'><received xmlns='urn:xmpp:receipts' id='1'/></message>",
		  true },
		{ "<message type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/></message>",
		  false },
		{ "<message type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>"
		  "<store xmlns='urn:xmpp:hints'/></message>",
		  true },
		{ "<message><x xmlns='jabber:x:conference' jid='r@s'/></message>", true },
		{ "<presence><status>x</status></presence>", false },
		{ "<iq type='set'><x xmlns='u'/></iq>", false },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		struct stanza *s = taken(v[i].in);
		if (stanza_promises(s) != v[i].promises)
			fail_msg("%s", v[i].in);
		stanza_unref(&s);
	}
	struct stanza *s = taken("<message><origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>");
	assert_true(sl_eq(stanza_origin_id(s), SL("o1")));
	stanza_unref(&s);
	s = taken("<message id='x'/>");
	assert_int_equal(stanza_origin_id(s).n, 0);
	stanza_unref(&s);
}

/* Every allocation fails once: E_NOMEM, nothing lost, nothing half done. */
static void test_no_memory(void **state)
{
	struct jid a = jid_split(SL("a@b/c"));
	bool ended = false;
	char id[600];

	UNUSED(state);
	memset(id, 'i', sizeof(id));
	for (unsigned nth = 1; !ended; nth++) {
		struct stanza *s = NULL, *r = NULL;
		base_fail_nth_alloc = nth;
		int rc = stanza_new(STANZA_MESSAGE, ST_CHAT, &a, &a, sl_mk(id, sizeof(id)), &s);
		if (rc == 0)
			rc = stanza_set_from(s, &a);
		if (rc == 0)
			rc = stanza_seal(s);
		if (rc == 0)
			rc = stanza_error_reply(s, SC_GONE, NULL, sl_mk(id, sizeof(id)), &r);
		if (rc == 0)
			rc = stanza_seal(r);
		ended = base_fail_nth_alloc != 0;
		base_fail_nth_alloc = 0;
		assert_int_equal(rc, ended ? 0 : E_NOMEM);
		stanza_unref(&s);
		stanza_unref(&r);
		assert_true(nth < 100);
	}
	/* A tree in an arena that is nearly full. */
	for (size_t cap = 200, rc = 1; rc != 0; cap += 8) {
		struct arena *ar = arena_new(cap, cap);
		struct xml_node *n;
		struct stanza *s;
		bool bad = false;
		rc = 1;
		if (xml_parse_one(ar, SL("<message to='A@b' id='1'><body>b</body></message>"), &n,
				  NULL) == 0 &&
		    stanza_take(ar, n, &s, &bad, NULL) == 0) {
			assert_false(bad);
			rc = stanza_seal(s) < 0;
			stanza_unref(&s);
		} else {
			arena_free(&ar);
		}
		assert_true(cap < 4096);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_take),     cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_children), cmocka_unit_test(test_long),
		cmocka_unit_test(test_new),      cmocka_unit_test(test_errors),
		cmocka_unit_test(test_promises), cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
