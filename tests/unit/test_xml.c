/* test_xml.c - the stream parser and the tree: every document whole, octet by octet, split at
 * random, parked, paused and moved at every point; limits; allocation failures; writing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <time.h>

#include "tests/unit/xml_recorder.h"

#define SLI(lit) \
	{ \
		(lit), sizeof(lit) - 1 \
	}
#define HEAD_TEXT \
	"<stream:stream to='a.example' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
#define HEAD_EVENT "O<stream:stream to='a.example' version='1.0'/>[jabber:client]"
#define C          " xmlns='jabber:client'"

struct doc {
	const char *in, *out;
};

/* Input behind HEAD_TEXT, and what must come out behind HEAD_EVENT. */
static const struct doc stanzas[] = {
	{ "", "" },
	{ "<presence/>", "E<presence" C "/>" },
	{ "<message to='b@c' type='chat'><body>hi</body></message>",
	  "E<message" C " to='b@c' type='chat'><body>hi</body></message>" },
	{ " \n\t<iq id='1'/>\r\n <iq id='2'/>  ", "E<iq" C " id='1'/>E<iq" C " id='2'/>" },
	{ "<a xmlns='u'/>", "E<a xmlns='u'/>" },
	{ "<a xmlns=''/>", "E<a/>" },
	{ "<a xmlns=''><b xmlns='jabber:client'/></a>", "E<a><b" C "/></a>" },
	{ "<message xmlns='jabber:server'><body>s</body></message>",
	  "E<message" C "><body>s</body></message>" },
	{ "<x:message xmlns:x='jabber:component:accept' xmlns:p='jabber:client'><p:body/></x:message>",
	  "E<message" C "><body/></message>" },
	{ "<m xml:lang='de' p:a='1' p:b='2' q:a='3' c='4' xmlns:p='u:p' xmlns:q='jabber:iq:roster'/>",
	  "E<m" C
	  " xml:lang='de' xmlns:ns0='u:p' ns0:a='1' xmlns:ns1='u:p' ns1:b='2' xmlns:ns2='jabber:iq:roster' "
	  "ns2:a='3' c='4'/>" },
	{ "<m><p:x xmlns:p='u'><p:y/><z/><p:y xmlns='v'><w/></p:y></p:x></m>",
	  "E<m" C "><x xmlns='u'><y/><z" C "/><y><w xmlns='v'/></y></x></m>" },
	{ "<m>&lt;&amp;&gt;&quot;&apos;&#65;&#x20AC;</m>",
	  "E<m" C ">&lt;&amp;&gt;\"'A\xe2\x82\xac</m>" },
	{ "<m a='&lt;&amp;&gt;&quot;&apos;&#10;&#9;&#13;x\ny'/>",
	  "E<m" C " a='&lt;&amp;&gt;&quot;&apos;&#10;&#9;&#13;x y'/>" },
	{ "<m>a\r\nb\rc&#13;d\ne</m>", "E<m" C ">a\nb\nc&#13;d\ne</m>" },
	{ "<m><![CDATA[<b>&amp;]] >]]>x</m>", "E<m" C ">&lt;b&gt;&amp;amp;]] &gt;x</m>" },
	{ "<m>a<b/>c<b/> </m>", "E<m" C ">a<b/>c<b/> </m>" },
	{ "<m>\xf0\x9f\x98\x80\xc3\xa9</m>", "E<m" C ">\xf0\x9f\x98\x80\xc3\xa9</m>" },
	{ "<xml:m/>", "E<xml:m/>" },
	{ "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>f</body></message>"
	  "</forwarded></message>",
	  "E<message" C "><forwarded xmlns='urn:xmpp:forward:0'><message" C
	  "><body>f</body></message>"
	  "</forwarded></message>" },
	{ "<stream:features><a xmlns='u'/></stream:features>",
	  "E<stream:features><a xmlns='u'/></stream:features>" },
	{ "<presence/></stream:stream>", "E<presence" C "/>C" },
	{ "</stream:stream>", "C" },
	{ "</stream:stream>\n<junk", "C" },
	{ "<presence/></stream:strean>", "E<presence" C "/>!not-well-formed" },
	{ "<a>x", "" },
	{ "<a>x</b>", "!not-well-formed" },
	{ "<a b='1' b='2'/>", "!not-well-formed" },
	{ "<a b='<'/>", "!not-well-formed" },
	{ "<a>\xff</a>", "!not-well-formed" },
	{ "<a>\xc0\x80</a>", "!not-well-formed" },
	{ "<a>\xed\xa0\x80</a>", "!not-well-formed" },
	{ "<a>&#1;</a>", "!not-well-formed" },
	{ "<a>\x01</a>", "!not-well-formed" },
	{ "<a>]]></a>", "!not-well-formed" },
	{ "<p:a/>", "!bad-namespace-prefix" },
	{ "<a p:b=''/>", "!bad-namespace-prefix" },
	{ "<a xmlns:p=''/>", "!not-well-formed" },
	{ "<presence/>text", "E<presence" C "/>!bad-format" },
	{ "  x<presence/>", "!bad-format" },
	{ "&lt;", "!bad-format" },
	{ "<![CDATA[x]]>", "!bad-format" },
	{ "<![CDATA[ ]]>", "!bad-format" },
	{ "<![CDATA[]]><a/>", "!bad-format" },
	{ " &#10;<a/>", "!bad-format" },
	{ " x]]>", "!bad-format" },
	{ "<a/> &", "E<a" C "/>!bad-format" },
	{ "\xc3", "!bad-format" },
	{ "<!-- c -->", "!restricted-xml" },
	{ "<a><!-- c --></a>", "!restricted-xml" },
	{ "<?pi data?>", "!restricted-xml" },
	{ "<a><?pi data?></a>", "!restricted-xml" },
	{ "<a>&foo;</a>", "!restricted-xml" },
	{ "<a b='&foo;'/>", "!restricted-xml" },
	{ "<!DOCTYPE a>", "!restricted-xml" },
	{ "<a><!ENTITY b 'c'></a>", "!restricted-xml" },
	{ "<?xml version='1.0'?>", "!not-well-formed" },
	{ "<presence/><a><b></a>", "E<presence" C "/>!not-well-formed" },
};

/* Whole documents. */
static const struct doc documents[] = {
	{ "<?xml version='1.0'?>" HEAD_TEXT, HEAD_EVENT },
	{ "<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n" HEAD_TEXT "<a/>",
	  HEAD_EVENT "E<a" C "/>" },
	{ "\n <?xml version='1.0' encoding='UTF-8'?>" HEAD_TEXT "<a/>", HEAD_EVENT "E<a" C "/>" },
	{ "<?xml version='1.1'?>" HEAD_TEXT, "!restricted-xml" },
	{ "<?xml version='1.0' encoding='ISO-8859-1'?>" HEAD_TEXT, "!unsupported-encoding" },
	{ "<?xml version='1.0' encoding='UTF-16'?>" HEAD_TEXT, "!unsupported-encoding" },
	{ "\xff\xfe<", "!unsupported-encoding" },
	{ "\xfe\xff", "!unsupported-encoding" },
	{ "\xef\xbb\xbf" HEAD_TEXT, "!not-well-formed" },
	{ "GET / HTTP/1.1\r\n\r\n", "!not-well-formed" },
	{ "<!DOCTYPE a [<!ENTITY x 'y'>]><a/>", "!restricted-xml" },
	{ "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "!restricted-xml" },
	{ "<!-- c -->" HEAD_TEXT, "!restricted-xml" },
	{ "<?a b?>" HEAD_TEXT, "!restricted-xml" },
	{ "<stream><a/></stream>", "O<stream/>[]E<a/>C" },
	{ "<s:stream xmlns='u:v' xmlns:s='http://etherx.jabber.org/streams' id='&lt;'><a/><s:error/></s:stream>",
	  "O<stream:stream id='&lt;'/>[u:v]E<a xmlns='u:v'/>E<stream:error/>C" },
	{ "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:server'><c:message><c:body/></c:message>"
	  "<features/></stream>",
	  "O<stream:stream/>[http://etherx.jabber.org/streams]E<message" C
	  "><body/></message>E<stream:features/>C" },
	{ "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='x'>"
	  "<handshake>0a</handshake><presence from='x'/>",
	  "O<stream:stream to='x'/>[jabber:component:accept]E<handshake" C
	  ">0a</handshake>E<presence" C " from='x'/>" },
	{ "<stream:stream\n xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' "
	  "xmlns='jabber:server' xmlns:q=\"a&amp;'b\"><db:result to='x'/><q:z/></stream:stream>",
	  "O<stream:stream/>[jabber:server]E<result xmlns='jabber:server:dialback' to='x'/>E<z "
	  "xmlns='a&amp;&apos;b'/>C" },
	{ "<stream:stream xmlns='jabber:client'>", "!bad-namespace-prefix" },
	{ "<a/>", "O<a/>[]C" },
};

enum { HOW_PARK = 1, HOW_PAUSE = 2, HOW_MOVE = 4 };

/* Feed in pieces of `size` octets, 0: of random size. */
static void run(const struct doc *d, const char *head_in, const char *head_out, size_t size,
		unsigned how, unsigned seed)
{
	struct recorder r;
	struct buf in = { .max = 1u << 20 }, want = { .max = 1u << 20 };
	int rc = 0;

	assert_int_equal(recorder_init(&r, &recorder_limits), 0);
	r.pause = how & HOW_PAUSE;
	assert_int_equal(buf_add(&in, sl_cstr(head_in)), 0);
	assert_int_equal(buf_add(&in, sl_cstr(d->in)), 0);
	assert_int_equal(buf_add(&want, sl_cstr(head_out)), 0);
	assert_int_equal(buf_add(&want, sl_cstr(d->out)), 0);
	for (size_t at = 0; at < in.n && rc == 0;) {
		size_t n = size ? size : (size_t)rand_r(&seed) % 7 + 1;
		rc = recorder_feed(&r, sl_sub(buf_sl(&in), at, at + n));
		at += n;
		if (how & HOW_PARK)
			xml_stream_park(r.x);
		if (how & HOW_MOVE)
			xml_stream_move(r.x, r.pool[at & 1], &recorder_ops, &r);
	}
	if (!sl_eq(buf_sl(&r.log), buf_sl(&want)))
		fail_msg("%s\n got  " SLFMT "\n want " SLFMT "\n (pieces of %zu, how %u)", d->in,
			 SLARG(buf_sl(&r.log)), SLARG(buf_sl(&want)), size, how);
	assert_false(r.out_of_memory);
	recorder_free(&r);
	buf_free(&in);
	buf_free(&want);
}

static void run_all_ways(const struct doc *d, const char *head_in, const char *head_out)
{
	for (unsigned how = 0; how < 8; how++) {
		run(d, head_in, head_out, 1u << 20, how, 0);
		run(d, head_in, head_out, 1, how, 0);
		for (unsigned seed = 1; seed < 6; seed++)
			run(d, head_in, head_out, 0, how, seed);
	}
}

static void test_stanzas(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(stanzas); i++)
		run_all_ways(&stanzas[i], HEAD_TEXT, HEAD_EVENT);
}

static void test_documents(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(documents); i++)
		run_all_ways(&documents[i], "", "");
}

/* ---- two streams of one pool ------------------------------------------------------------------
 */

static void check_pair(const struct doc *da, const struct doc *db, unsigned seed)
{
	const struct doc *d[2] = { da, db };
	struct recorder r[2];
	size_t at[2] = { 0, 0 };
	bool failed[2] = { false, false };

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(recorder_init(&r[i], &recorder_limits), 0);
	xml_stream_move(r[1].x, r[0].pool[0], &recorder_ops, &r[1]);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(recorder_feed(&r[i], SL(HEAD_TEXT)), 0);
	while (at[0] < strlen(d[0]->in) || at[1] < strlen(d[1]->in)) {
		unsigned i = (unsigned)rand_r(&seed) & 1;
		size_t n = (size_t)rand_r(&seed) % 5 + 1;

		if (!failed[i])
			failed[i] = recorder_feed(&r[i], sl_sub(sl_cstr(d[i]->in), at[i],
								at[i] + n)) < 0;
		at[i] += n;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct buf want = { .max = 1u << 20 };

		assert_int_equal(buf_addf(&want, "%s%s", HEAD_EVENT, d[i]->out), 0);
		if (!sl_eq(buf_sl(&r[i].log), buf_sl(&want)))
			fail_msg("%s\n got  " SLFMT "\n beside %s", d[i]->in,
				 SLARG(buf_sl(&r[i].log)), d[!i]->in);
		buf_free(&want);
	}
	recorder_free(&r[1]);
	recorder_free(&r[0]);
}

/* Between stanzas a parser goes from stream to stream: nothing of one may be seen in the other. */
static void test_shared_parsers(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(stanzas); i++)
		for (size_t j = 0; j < ARRAY_LEN(stanzas); j++)
			check_pair(&stanzas[i], &stanzas[j], (unsigned)(i * 100 + j));
}

/* Who holds a parser: a stream inside a stanza or a token, and one with an unusual header. */
static void test_holds_parser(void **state)
{
	static const struct {
		const char *head, *in;
		bool parked;
	} v[] = {
		{ HEAD_TEXT, "", true },
		{ HEAD_TEXT, "<presence/>", true },
		{ HEAD_TEXT, "<presence/> ", true },
		{ HEAD_TEXT, "<presence", false },
		{ HEAD_TEXT, "<message><body/>", false },
		{ HEAD_TEXT, "<presence/><", false },
		{ "<stream xmlns='u'>", "<presence/>", false },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		struct recorder r;

		assert_int_equal(recorder_init(&r, &recorder_limits), 0);
		assert_int_equal(recorder_feed(&r, sl_cstr(v[i].head)), 0);
		assert_int_equal(recorder_feed(&r, sl_cstr(v[i].in)), 0);
		assert_int_equal(xml_stream_parked(r.x), v[i].parked);
		recorder_free(&r);
	}
}

/* ---- limits ---------------------------------------------------------------------------------- */

static char *text_of(size_t n, char c)
{
	char *p = malloc(n + 1);

	assert_non_null(p);
	memset(p, c, n);
	p[n] = '\0';
	return p;
}

/* A document against limits, whole and octet by octet; want: what comes behind the header's event.
 */
static void limited(const struct xml_limits *lim, struct sl in, const char *want)
{
	for (int whole = 0; whole < 2; whole++) {
		struct recorder r;
		int rc = 0;
		assert_int_equal(recorder_init(&r, lim), 0);
		assert_int_equal(recorder_feed(&r, SL(HEAD_TEXT)), 0);
		buf_reset(&r.log);
		for (size_t i = 0; rc == 0 && i < in.n; i += whole ? in.n : 1)
			rc = recorder_feed(&r, sl_sub(in, i, whole ? in.n : i + 1));
		if (!sl_eq(buf_sl(&r.log), sl_cstr(want)))
			fail_msg(SLFMT "\n got  " SLFMT "\n want %s", SLARG(sl_sub(in, 0, 200)),
				 SLARG(sl_sub(buf_sl(&r.log), 0, 300)), want);
		recorder_free(&r);
	}
}

static void test_limit_octets(void **state)
{
	const struct xml_limits lim = { .stanza_octets = 120, .depth = 4, .attrs = 3, .nodes = 6 };
	char *x = text_of(400, 'x');
	char s[512];

	UNUSED(state);
	for (int n = 100; n < 140; n++) { /* <a>...</a>: n octets, alone and behind others */
		int len = snprintf(s, sizeof(s), "<b/> \n<a>%.*s</a><c/>", n - 7, x);
		char want[512];
		if (n <= 120)
			snprintf(want, sizeof(want), "E<b" C "/>E<a" C ">%.*s</a>E<c" C "/>", n - 7,
				 x);
		limited(&lim, sl_mk(s, (size_t)len),
			n <= 120 ? want : "E<b" C "/>!policy-violation");
	}
	/* An unfinished token of any kind counts too. */
	static const char *const begin[] = { "<",     "<a ",   "<a b='",
					     "<a>",   "<a>&#", "<a><![CDATA[",
					     "<!-- ", "</",    "<a xmlns:" };
	for (size_t i = 0; i < ARRAY_LEN(begin); i++) {
		int len =
			snprintf(s, sizeof(s), "%s%.*s", begin[i], 120 - (int)strlen(begin[i]), x);
		if (strcmp(begin[i], "<a>&#") != 0)
			limited(&lim, sl_mk(s, (size_t)len), "");
		len = snprintf(s, sizeof(s), "%s%.*s", begin[i], 300, x);
		limited(&lim, sl_mk(s, (size_t)len),
			strcmp(begin[i], "<a>&#") == 0 ? "!not-well-formed" : "!policy-violation");
	}
	/* What is behind the limit is not looked at. */
	int len = snprintf(s, sizeof(s), "<a>%.*s\xff", 120 - 3 + 1, x);
	limited(&lim, sl_mk(s, (size_t)len), "!policy-violation");
	len = snprintf(s, sizeof(s), "<a>%.*s\xff", 120 - 3, x);
	limited(&lim, sl_mk(s, (size_t)len), "!not-well-formed");
	/* White space between stanzas does not count. */
	char *sp = text_of(5000, ' ');
	limited(&lim, sl_cstr(sp), "");
	free(sp);
	free(x);
}

static void test_limit_header(void **state)
{
	const struct xml_limits lim = { .stanza_octets = 200, .depth = 4, .attrs = 3, .nodes = 6 };
	static const char *const in[] = {
		"<stream:stream id='",
		"<stream:stream",
		"<?xml version='1.0'?>                  <a id='",
	};
	char *x = text_of(400, 'x'), s[600];

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(in); i++)
		for (int whole = 0; whole < 2; whole++) {
			struct recorder r;
			int rc = 0;
			snprintf(s, sizeof(s), "%s%.300s", in[i], x);
			assert_int_equal(recorder_init(&r, &lim), 0);
			for (size_t at = 0; rc == 0 && s[at]; at += whole ? strlen(s) : 1)
				rc = recorder_feed(&r, whole ? sl_cstr(s) : sl_mk(s + at, 1));
			assert_true(sl_eq(buf_sl(&r.log), SL("!policy-violation")));
			recorder_free(&r);
		}
	free(x);
}

static void test_limit_shape(void **state)
{
	const struct xml_limits lim = { .stanza_octets = 1000, .depth = 4, .attrs = 3, .nodes = 6 };

	UNUSED(state);
	limited(&lim, SL("<a><b><c><d/></c></b></a>"), "E<a" C "><b><c><d/></c></b></a>");
	limited(&lim, SL("<a><b><c><d><e/></d></c></b></a>"), "!policy-violation");
	limited(&lim, SL("<a b='' c='' d=''/>"), "E<a" C " b='' c='' d=''/>");
	limited(&lim, SL("<a b='' c='' d='' e=''/>"), "!policy-violation");
	limited(&lim, SL("<a><b/>x<c/>y<d/></a>"), "E<a" C "><b/>x<c/>y<d/></a>");
	limited(&lim, SL("<a><b/>x<c/>y<d/>z</a>"), "!policy-violation");
	limited(&lim, SL("<a><b/><b/><b/><b/><b/><b/></a>"), "!policy-violation");
	limited(&lim, SL("<a>1\n2\n3\n4\n5\n6\n7\n8</a>"), "E<a" C ">1\n2\n3\n4\n5\n6\n7\n8</a>");
}

/* Many attributes: more than make_element keeps on its stack. */
static void test_many_attrs(void **state)
{
	const struct xml_limits lim = {
		.stanza_octets = 100000, .depth = 4, .attrs = 100, .nodes = 6
	};
	struct buf in = { .max = 1u << 20 }, want = { .max = 1u << 20 };

	UNUSED(state);
	for (int n = 14; n <= 100; n += n < 34 ? 1 : 33) {
		buf_reset(&in);
		buf_reset(&want);
		buf_addf(&in, "<a");
		buf_addf(&want, "E<a" C);
		for (int i = 0; i < n; i++) {
			buf_addf(&in, " attr%d='value %d'", i, i);
			buf_addf(&want, " attr%d='value %d'", i, i);
		}
		buf_addf(&in, "/>");
		buf_addf(&want, "/>");
		assert_int_equal(buf_addc(&want, '\0'), 0);
		limited(&lim, buf_sl(&in), buf_sl(&want).p);
	}
	buf_free(&in);
	buf_free(&want);
}

/* ---- pause, restart, free ----------------------------------------------------------------------
 */

struct script {
	struct xml_stream *x;
	int elements, closed, opened;
	size_t last_octets;
	int (*act)(struct script *s);
	struct buf names;
};

static int script_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct script *s = self;

	UNUSED(root);
	UNUSED(content_ns);
	s->opened++;
	return 0;
}

static int script_element(void *self, struct arena *a, struct xml_node *n)
{
	struct script *s = self;

	buf_add(&s->names, n->name);
	s->last_octets = xml_stream_stanza_octets(s->x);
	arena_free(&a);
	s->elements++;
	return s->act ? s->act(s) : 0;
}

static void script_close(void *self)
{
	((struct script *)self)->closed++;
}

static const struct xml_stream_ops script_ops = { script_open, script_element, script_close };

static struct xml_pool *script_begin(struct script *s, int (*act)(struct script *))
{
	struct xml_pool *p;

	*s = (struct script){ .act = act, .names = { .max = 4096 } };
	assert_int_equal(xml_pool_new(&p, 4), 0);
	assert_int_equal(xml_stream_new(p, &recorder_limits, &script_ops, s, &s->x), 0);
	return p;
}

static void script_end(struct script *s, struct xml_pool *p)
{
	xml_stream_free(&s->x);
	xml_pool_free(&p);
	buf_free(&s->names);
}

static int act_pause(struct script *s)
{
	UNUSED(s);
	return XML_PAUSE;
}

static void check_names(struct script *s, const char *want)
{
	if (!sl_eq(buf_sl(&s->names), sl_cstr(want)))
		fail_msg("got " SLFMT " want %s", SLARG(buf_sl(&s->names)), want);
}

static void test_pause(void **state)
{
	struct script s;
	struct xml_pool *p = script_begin(&s, act_pause);

	UNUSED(state);
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<a/> <b/><c/>"), NULL), XML_PAUSE);
	assert_true(xml_stream_paused(s.x));
	check_names(&s, "a");
	assert_int_equal(xml_stream_unread(s.x), 9 - 1);
	assert_false(xml_stream_park(s.x));
	assert_int_equal(xml_stream_feed(s.x, SL("<d"), NULL), XML_PAUSE);
	assert_int_equal(xml_stream_unread(s.x), 10);
	assert_int_equal(xml_stream_resume(s.x, NULL), XML_PAUSE);
	check_names(&s, "ab");
	assert_int_equal(s.last_octets, 4);
	assert_int_equal(xml_stream_feed(s.x, SL("/></stream:stream>"), NULL), XML_PAUSE);
	assert_int_equal(xml_stream_resume(s.x, NULL), XML_PAUSE);
	assert_int_equal(xml_stream_resume(s.x, NULL), XML_PAUSE);
	check_names(&s, "abcd");
	assert_int_equal(s.closed, 0);
	assert_int_equal(xml_stream_resume(s.x, NULL), 0);
	assert_int_equal(s.closed, 1);
	assert_false(xml_stream_paused(s.x));
	assert_int_equal(xml_stream_resume(s.x, NULL), 0);
	assert_int_equal(xml_stream_octets(s.x),
			 sizeof(HEAD_TEXT "<a/> <b/><c/><d/></stream:stream>") - 1);
	script_end(&s, p);
}

static void test_held_limit(void **state)
{
	struct script s;
	struct xml_pool *p = script_begin(&s, act_pause);
	char *sp = text_of(1u << 16, ' ');
	struct err e = { 0 };
	int rc = xml_stream_feed(s.x, SL(HEAD_TEXT "<a/>"), NULL), n = 0;

	UNUSED(state);
	while (rc == XML_PAUSE && n++ < 100)
		rc = xml_stream_feed(s.x, sl_mk(sp, 1u << 16), &e);
	assert_int_equal(rc, E_LIMIT);
	assert_int_equal(n, (XML_HELD_MAX >> 16) + 1);
	assert_string_equal(e.clause, "policy-violation");
	assert_int_equal(xml_stream_resume(s.x, &e), E_LIMIT);
	free(sp);
	script_end(&s, p);
}

static int act_restart(struct script *s)
{
	xml_stream_restart(s->x);
	s->act = NULL;
	return XML_PAUSE;
}

/* Everything behind the element belongs to the new stream; nothing of the old one is left. */
static void test_restart(void **state)
{
	static const char in[] =
		"<?xml version='1.0'?>" HEAD_TEXT "<p:a xmlns:p='u'/>"
		"\n<?xml version='1.0'?><stream:stream xmlns:stream='v'><b/></stream:stream>";

	UNUSED(state);
	for (size_t cut = 1; cut < sizeof(in); cut++) {
		struct script s;
		struct xml_pool *p = script_begin(&s, act_restart);
		int rc = xml_stream_feed(s.x, sl_mk(in, cut), NULL);
		if (rc == XML_PAUSE)
			rc = xml_stream_resume(s.x, NULL);
		assert_int_equal(rc, 0);
		rc = xml_stream_feed(s.x, sl_mk(in + cut, sizeof(in) - 1 - cut), NULL);
		if (rc == XML_PAUSE)
			rc = xml_stream_resume(s.x, NULL);
		assert_int_equal(rc, 0);
		check_names(&s, "ab");
		assert_int_equal(s.opened, 2);
		assert_int_equal(s.closed, 1);
		script_end(&s, p);
	}
}

static void test_restart_outside(void **state)
{
	struct script s;
	struct xml_pool *p = script_begin(&s, act_pause);

	UNUSED(state);
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<starttls/>\r\n"), NULL), XML_PAUSE);
	assert_int_equal(xml_stream_unread(s.x), 0);
	xml_stream_restart(s.x);
	assert_true(xml_stream_paused(s.x));
	assert_int_equal(xml_stream_resume(s.x, NULL), 0);
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<a/><b/>"), NULL), XML_PAUSE);
	assert_int_equal(xml_stream_unread(s.x), 4);
	xml_stream_restart(s.x);
	assert_int_equal(xml_stream_unread(s.x), 4);
	assert_int_equal(xml_stream_resume(s.x, NULL), 0); /* <b/> is the root now */
	assert_int_equal(s.opened, 3);
	assert_int_equal(s.closed, 1);
	/* After an error or a close, a restart makes it usable again. */
	xml_stream_restart(s.x);
	assert_int_equal(xml_stream_feed(s.x, SL("junk"), NULL), E_SYNTAX);
	assert_int_equal(xml_stream_feed(s.x, SL("junk"), NULL), E_SYNTAX);
	xml_stream_restart(s.x);
	s.act = NULL;
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<z/>"), NULL), 0);
	check_names(&s, "starttlsaz");
	script_end(&s, p);
}

static int act_free(struct script *s)
{
	xml_stream_free(&s->x);
	return 0;
}

static int act_stop(struct script *s)
{
	UNUSED(s);
	return E_DENIED;
}

static int act_feed(struct script *s)
{
	assert_int_equal(xml_stream_feed(s->x, SL("<z/>"), NULL), E_STATE);
	assert_false(xml_stream_park(s->x));
	return 0;
}

static void test_callbacks(void **state)
{
	struct script s;
	struct err e = { 0 };
	struct xml_pool *p = script_begin(&s, act_free);

	UNUSED(state);
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<a/><b/>"), &e), E_CLOSED);
	assert_null(s.x);
	check_names(&s, "a");
	script_end(&s, p);

	p = script_begin(&s, act_stop);
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<a/><b/>"), &e), E_DENIED);
	assert_string_equal(e.clause, "undefined-condition");
	assert_int_equal(xml_stream_feed(s.x, SL("<c/>"), &e), E_DENIED);
	check_names(&s, "a");
	script_end(&s, p);

	p = script_begin(&s, act_feed);
	assert_int_equal(xml_stream_feed(s.x, SL(HEAD_TEXT "<a/><b/>"), &e), 0);
	check_names(&s, "ab");
	script_end(&s, p);
}

/* ---- long tokens -------------------------------------------------------------------------------
 */

static double cpu_s(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

/* A long token octet by octet: its element is there with its last octet, and the work is not
 * quadratic (which would be minutes; 200 kB of this take milliseconds). */
static void test_long_token(void **state)
{
	static const struct {
		const char *begin;
		char fill;
		const char *end, *want;
	} v[] = {
		{ "<a b='", 'x', "'/>", NULL },
		{ "<a b='", '>', "'/>", NULL },
		{ "<a b=\"", '\'', "\"/>", NULL },
		{ "<a ", ' ', "/>", NULL },
		{ "<a>y</a", '\n', ">", NULL },
		{ "<a", 'a', "/>", NULL },
		{ "<a>&", 'e', ";", "!restricted-xml" },
		{ "<!--", '>', "-->", "!restricted-xml" },
		{ "<?pi ", '>', "?>", "!restricted-xml" },
		{ "<a>", 'x', "</a>", NULL },
		{ "<a><![CDATA[", '>', "]]></a>", NULL },
		{ "<a>", '\n', "</a>", NULL },
	};
	static const struct xml_limits lim = {
		.stanza_octets = 256u << 10, .depth = 4, .attrs = 4, .nodes = 100
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		for (size_t size = 900; size < 200000; size = size < 1300 ? size + 50 : size * 3) {
			struct recorder r;
			char *fill = text_of(size, v[i].fill);
			double t0 = cpu_s();
			int rc = 0;
			assert_int_equal(recorder_init(&r, &lim), 0);
			assert_int_equal(recorder_feed(&r, SL(HEAD_TEXT)), 0);
			assert_int_equal(recorder_feed(&r, sl_cstr(v[i].begin)), 0);
			buf_reset(&r.log);
			for (size_t k = 0; k < size && rc == 0; k++)
				rc = recorder_feed(&r, sl_mk(fill + k, 1));
			if (rc != 0 || r.log.n != 0)
				fail_msg("%s %zu: " SLFMT, v[i].begin, size,
					 SLARG(sl_sub(buf_sl(&r.log), 0, 99)));
			for (const char *c = v[i].end; *c && rc == 0; c++)
				rc = recorder_feed(&r, sl_mk(c, 1));
			if (v[i].want ? !sl_eq(buf_sl(&r.log), sl_cstr(v[i].want))
				      : r.log.n == 0 || r.log.p[0] != 'E')
				fail_msg("%s %zu: " SLFMT, v[i].begin, size,
					 SLARG(sl_sub(buf_sl(&r.log), 0, 99)));
			assert_true(cpu_s() - t0 < 2);
			recorder_free(&r);
			free(fill);
		}
}

/* A restart inside a long token: nothing of what was put aside reaches the new stream. */
static void test_long_token_restart(void **state)
{
	struct recorder r;
	int n;

	UNUSED(state);
	assert_int_equal(recorder_init(&r, &recorder_limits), 0);
	assert_int_equal(recorder_feed(&r, SL(HEAD_TEXT "<a b='")), 0);
	for (n = 0; n < 2003; n++)
		assert_int_equal(recorder_feed(&r, SL("x")), 0);
	xml_stream_restart(r.x);
	buf_reset(&r.log);
	assert_int_equal(recorder_feed(&r, SL("<a><b/></a>")), 0);
	assert_true(sl_eq(buf_sl(&r.log), SL("O<a/>[]E<b/>C")));
	recorder_free(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Names that only a hostile peer sends do not stay in the parser: the stream goes on, the heap does
 * not grow. */
static void odd_names(const char *before, const char *after, const char *want)
{
	struct recorder r;
	char s[256];
	size_t heap = mallinfo2().uordblks; /* 0 under a sanitizer */

	assert_int_equal(recorder_init(&r, &recorder_limits), 0);
	assert_int_equal(recorder_feed(&r, SL(HEAD_TEXT)), 0);
	for (int i = 0; i < 20000; i++) {
		int n = snprintf(s, sizeof(s), "<presence/>%s%d%s", before, i, after);
		int cut = i % n;
		buf_reset(&r.log);
		assert_int_equal(recorder_feed(&r, sl_mk(s, (size_t)cut)), 0);
		assert_int_equal(recorder_feed(&r, sl_mk(s + cut, (size_t)(n - cut))), 0);
		assert_true(sl_starts(buf_sl(&r.log), SL("E<presence" C "/>E")));
		assert_true(sl_starts(
			sl_sub(buf_sl(&r.log), sizeof("E<presence" C "/>E") - 1, SIZE_MAX),
			sl_cstr(want)));
		assert_true(mallinfo2().uordblks - heap < 200u << 10);
	}
	recorder_free(&r);
}

static void test_odd_names(void **state)
{
	UNUSED(state);
	odd_names("<x", "/>", "<x");
	odd_names("<presence x", "=''/>", "<presence" C " x");
	odd_names("<presence xmlns:x", "='u'/>", "<presence" C "/>");
	odd_names("<presence xmlns='u", "'/>", "<presence xmlns='u");
}

/* UTF-16, with and without a mark, in either order; cut anywhere. */
static void test_utf16(void **state)
{
	static const struct sl in[] = { SLI("<\0a\0/\0>\0"), SLI("\0<\0a\0/\0>"),
					SLI("\xff\xfe<\0a\0"), SLI("\xfe\xff\0<\0a") };

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(in); i++)
		for (size_t cut = 0; cut < in[i].n; cut++) {
			struct recorder r;
			assert_int_equal(recorder_init(&r, &recorder_limits), 0);
			if (recorder_feed(&r, sl_sub(in[i], 0, cut)) == 0)
				recorder_feed(&r, sl_sub(in[i], cut, in[i].n));
			assert_true(sl_eq(buf_sl(&r.log), SL("!unsupported-encoding")));
			recorder_free(&r);
		}
}

/* Fail the n-th allocation for every n: an error of that stream, never a crash or a leak; and the
 * same stream, started again, works. */
static void test_no_memory(void **state)
{
	static const char in[] = HEAD_TEXT "<a b='1' odd='2'><c>text\ntext</c><odd/></a><?";
	bool ended = false;

	UNUSED(state);
	for (unsigned nth = 1; !ended && nth < 5000; nth++) {
		for (int how = 0; how < 4; how++) {
			struct recorder r;
			int rc;
			base_fail_nth_alloc = nth;
			rc = recorder_init(&r, &recorder_limits);
			if (rc < 0) {
				assert_int_equal(rc, E_NOMEM);
				base_fail_nth_alloc = 0;
				continue;
			}
			r.pause = how & 1;
			for (size_t at = 0; rc == 0 && at < sizeof(in) - 1;
			     at += how & 2 ? 7 : sizeof(in)) {
				rc = recorder_feed(&r, sl_sub(sl_mk(in, sizeof(in) - 1), at,
							      how & 2 ? at + 7 : sizeof(in)));
				xml_stream_park(r.x);
			}
			ended = base_fail_nth_alloc != 0;
			base_fail_nth_alloc = 0;
			assert_true(rc == 0 || rc == E_NOMEM || r.out_of_memory);
			assert_true(
				rc == E_NOMEM || r.out_of_memory ||
				sl_eq(buf_sl(&r.log),
				      SL(HEAD_EVENT "E<a" C
						    " b='1' odd='2'><c>text\ntext</c><odd/></a>")));
			xml_stream_restart(r.x);
			buf_reset(&r.log);
			assert_int_equal(recorder_feed(&r, SL("<a/>")), 0);
			assert_true(sl_eq(buf_sl(&r.log), SL("O<a/>[]C")));
			recorder_free(&r);
		}
	}
	assert_true(ended);
}

static void test_parse_one(void **state)
{
	static const struct doc v[] = {
		{ "<message to='a'><body>&lt;</body></message>",
		  "<message" C " to='a'><body>&lt;</body></message>" },
		{ " <a xmlns='u'/>\n", "<a xmlns='u'/>" },
		{ "<stream:error/>", "<stream:error/>" },
		{ "", NULL },
		{ "<a>", NULL },
		{ "<a/><b/>", NULL },
		{ "<a/>x", NULL },
		{ "<a/><", NULL },
		{ "<a/></stream:stream>", NULL },
		{ "</stream:stream>", NULL },
		{ "<!-- --><a/>", NULL },
		{ "<?xml version='1.0'?><a/>", NULL },
		{ "<p:a/>", NULL },
		{ "<a>\xff</a>", NULL },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		struct arena *a = arena_new(256, 65536);
		struct xml_node *n = NULL;
		struct err e = { 0 };
		struct buf out = { .max = 4096 };
		int rc = xml_parse_one(a, sl_cstr(v[i].in), &n, &e);
		if (rc != (v[i].out ? 0 : E_SYNTAX))
			fail_msg("%s: %d %s", v[i].in, rc, e.text);
		assert_int_equal(rc, v[i].out ? 0 : E_SYNTAX);
		if (v[i].out) {
			assert_int_equal(xml_write(&out, n, NS_NONE), 0);
			assert_true(sl_eq(buf_sl(&out), sl_cstr(v[i].out)));
		} else {
			assert_null(n);
			assert_true(e.text[0] != '\0');
		}
		buf_free(&out);
		arena_free(&a);
	}
	struct arena *a = arena_new(64, 64);
	struct xml_node *n;
	assert_int_equal(xml_parse_one(a, SL("<message><body>hi</body></message>"), &n, NULL),
			 E_NOMEM);
	arena_free(&a);
}

/* ---- trees and writing ----------------------------------------------------------------------- */

static void test_tree(void **state)
{
	struct arena *a = arena_new(4096, 65536);
	struct xml_node *m = xml_new(a, NS_STANZA, SL("message")), *b, *c;
	struct buf out = { .max = 4096 };

	UNUSED(state);
	b = xml_add(a, m, NS_STANZA, SL("body"));
	xml_add_text(a, b, SL("a<"));
	xml_add_text(a, b, SL("b\x01\r"));
	c = xml_add(a, m, NS_RECEIPTS, SL("request"));
	assert_ptr_equal(xml_set(a, xml_set(a, m, SL("id"), SL("'")), SL("to"), SL("x")), m);
	assert_int_equal(xml_write(&out, m, NS_STANZA), 0);
	assert_true(sl_eq(buf_sl(&out),
			  SL("<message id='&apos;' to='x'><body>a&lt;b\xef\xbf\xbd&#13;</body>"
			     "<request xmlns='urn:xmpp:receipts'/></message>")));
	assert_ptr_equal(xml_first_element(m), b);
	assert_ptr_equal(xml_next_element(b), c);
	assert_null(xml_next_element(c));
	assert_ptr_equal(xml_child(m, NS_RECEIPTS, SL_NULL), c);
	assert_null(xml_child(m, NS_RECEIPTS, SL("received")));
	assert_null(xml_child(m, NS_STANZA, SL("request")));
	assert_null(xml_child_next(c, NS_RECEIPTS, SL_NULL));
	assert_true(sl_eq(xml_text(a, b), SL("a<b\x01\r")));
	assert_true(xml_text(a, c).n == 0);
	xml_unlink(b);
	assert_ptr_equal(m->first, c);
	xml_append(m, b);
	assert_ptr_equal(m->last, b);
	xml_unlink(b);
	assert_ptr_equal(m->last, c);
	xml_unlink(c);
	assert_null(m->first);
	assert_null(m->last);
	xml_unset(m, SL("id"));
	xml_unset(m, SL("none"));
	assert_true(xml_attr(m, SL("id")).n == 0 && sl_eq(xml_attr(m, SL("to")), SL("x")));
	xml_set(a, m, SL("to"), SL("y"));
	assert_true(sl_eq(xml_attr(m, SL("to")), SL("y")));
	/* Nothing there: passed on. */
	assert_null(xml_set(a, xml_add_text(a, xml_add(a, NULL, NS_NONE, SL("x")), SL("y")),
			    SL("a"), SL("b")));
	assert_null(xml_child(NULL, NS_NONE, SL_NULL));
	assert_true(xml_attr(NULL, SL("x")).n == 0);
	assert_false(xml_is(NULL, NS_NONE, SL_NULL));
	out.max = out.n + 3;
	size_t before = out.n;
	assert_int_equal(xml_write(&out, m, NS_STANZA), E_TOOBIG);
	assert_int_equal(xml_write_escaped(&out, SL("&")), E_TOOBIG);
	assert_int_equal(out.n, before);
	buf_reset(&out);
	out.max = 4096;
	assert_int_equal(xml_write_escaped(&out, SL("a&<>'\"\n\t\x02")), 0);
	assert_true(sl_eq(buf_sl(&out), SL("a&amp;&lt;&gt;&apos;&quot;\n\t\xef\xbf\xbd")));
	buf_free(&out);
	arena_free(&a);
}

/* Every character that matters at every place of a word, as text and as a value. */
static void test_write_places(void **state)
{
	static const char *const text[][3] = {
		/* character, as text, as a value */
		{ "&", "&amp;", "&amp;" },
		{ "<", "&lt;", "&lt;" },
		{ ">", "&gt;", "&gt;" },
		{ "'", "'", "&apos;" },
		{ "\"", "\"", "&quot;" },
		{ "\n", "\n", "&#10;" },
		{ "\t", "\t", "&#9;" },
		{ "\r", "&#13;", "&#13;" },
		{ "\x1f", "\xef\xbf\xbd", "\xef\xbf\xbd" },
		{ "\x7f", "\x7f", "\x7f" },
		{ "\x80", "\x80", "\x80" },
		{ "%", "%", "%" },
		{ "=", "=", "=" },
		{ "\x02", "\xef\xbf\xbd", "\xef\xbf\xbd" },
	};
	struct arena *a = arena_new(4096, 1u << 20);
	struct buf out = { .max = 4096 }, want = { .max = 4096 };

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(text); i++)
		for (int at = 0; at < 20; at++) {
			struct sl s = arena_printf(a, "%.*s%s%.*s", at,
						   "abcdefghijklmnopqrstuvwxyz", text[i][0],
						   20 - at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
			struct xml_node *m = xml_set(a, xml_new(a, NS_NONE, SL("m")), SL("v"), s);
			xml_add_text(a, m, s);
			buf_reset(&out);
			buf_reset(&want);
			assert_int_equal(xml_write(&out, m, NS_NONE), 0);
			for (int k = 2; k > 0; k--)
				assert_int_equal(buf_addf(&want, "%s%.*s%s%.*s",
							  k == 2 ? "<m v='" : "'>", at,
							  "abcdefghijklmnopqrstuvwxyz", text[i][k],
							  20 - at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
						 0);
			assert_int_equal(buf_add(&want, SL("</m>")), 0);
			if (!sl_eq(buf_sl(&out), buf_sl(&want)))
				fail_msg("got " SLFMT " want " SLFMT, SLARG(buf_sl(&out)),
					 SLARG(buf_sl(&want)));
		}
	buf_free(&out);
	buf_free(&want);
	arena_free(&a);
}

/* Longer than the writer's first try. */
static void test_write_long(void **state)
{
	struct arena *a = arena_new(4096, 1u << 20);
	struct buf out = { .max = 1u << 20 };

	UNUSED(state);
	for (size_t n = 400; n < 5000; n += 37) {
		char *t = text_of(n, '&');
		struct xml_node *m = xml_new(a, NS_NONE, SL("m")), *back;
		xml_add_text(a, m, sl_mk(t, n));
		buf_reset(&out);
		assert_int_equal(xml_write(&out, m, NS_STANZA), 0);
		assert_int_equal(out.n, 5 * n + sizeof("<m xmlns=''></m>") - 1);
		assert_int_equal(xml_parse_one(a, buf_sl(&out), &back, NULL), 0);
		assert_true(sl_eq(xml_text(a, back), sl_mk(t, n)));
		free(t);
		arena_free(&a);
		a = arena_new(4096, 1u << 20);
	}
	buf_free(&out);
	arena_free(&a);
}

static void test_namespaces(void **state)
{
	UNUSED(state);
	for (int i = NS_NONE + 1; i < NS_OTHER; i++) {
		struct sl uri = xml_ns_uri((enum xml_ns)i);
		if (i != NS_STANZA)
			assert_int_equal(xml_ns_find(uri), i);
		else
			assert_int_equal(uri.n, 0);
	}
	assert_int_equal(xml_ns_find(SL("jabber:client")), NS_STANZA);
	assert_int_equal(xml_ns_find(SL("jabber:server")), NS_STANZA);
	assert_int_equal(xml_ns_find(SL("jabber:component:accept")), NS_STANZA);
	assert_int_equal(xml_ns_find(SL("jabber:clien")), NS_OTHER);
	assert_int_equal(xml_ns_find(SL("Jabber:client")), NS_OTHER);
	assert_int_equal(xml_ns_find(SL("")), NS_NONE);
	assert_int_equal(xml_ns_uri(NS_OTHER).n + xml_ns_uri(NS_NONE).n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stanzas),
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_shared_parsers),
		cmocka_unit_test(test_holds_parser),
		cmocka_unit_test(test_limit_octets),
		cmocka_unit_test(test_limit_header),
		cmocka_unit_test(test_limit_shape),
		cmocka_unit_test(test_many_attrs),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_held_limit),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_outside),
		cmocka_unit_test(test_callbacks),
		cmocka_unit_test(test_long_token),
		cmocka_unit_test(test_long_token_restart),
		cmocka_unit_test(test_odd_names),
		cmocka_unit_test(test_utf16),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_parse_one),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_write_places),
		cmocka_unit_test(test_write_long),
		cmocka_unit_test(test_write_places),
		cmocka_unit_test(test_namespaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
