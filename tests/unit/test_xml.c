/* test_xml.c - the stream parser and the tree: every document whole, octet by octet, split at random, parked,
 * paused and moved at every point; limits; allocation failures; writing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/xml_recorder.h"

#define HEAD_TEXT \
	"<stream:stream to='a.example' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
#define HEAD_EVENT                                                                                        \
	"O<stream:stream to='a.example' version='1.0'/>[jabber:client]"
#define C " xmlns='jabber:client'"

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
	{ "<message xmlns='jabber:server'><body>s</body></message>", "E<message" C "><body>s</body></message>" },
	{ "<x:message xmlns:x='jabber:component:accept' xmlns:p='jabber:client'><p:body/></x:message>",
	  "E<message" C "><body/></message>" },
	{ "<m xml:lang='de' p:a='1' p:b='2' q:a='3' c='4' xmlns:p='u:p' xmlns:q='jabber:iq:roster'/>",
	  "E<m" C " xml:lang='de' xmlns:ns0='u:p' ns0:a='1' xmlns:ns1='u:p' ns1:b='2' xmlns:ns2='jabber:iq:roster' "
	  "ns2:a='3' c='4'/>" },
	{ "<m><p:x xmlns:p='u'><p:y/><z/><p:y xmlns='v'><w/></p:y></p:x></m>",
	  "E<m" C "><x xmlns='u'><y/><z" C "/><y><w xmlns='v'/></y></x></m>" },
	{ "<m>&lt;&amp;&gt;&quot;&apos;&#65;&#x20AC;</m>", "E<m" C ">&lt;&amp;&gt;\"'A\xe2\x82\xac</m>" },
	{ "<m a='&lt;&amp;&gt;&quot;&apos;&#10;&#9;&#13;x\ny'/>",
	  "E<m" C " a='&lt;&amp;&gt;&quot;&apos;&#10;&#9;&#13;x y'/>" },
	{ "<m>a\r\nb\rc&#13;d\ne</m>", "E<m" C ">a\nb\nc&#13;d\ne</m>" },
	{ "<m><![CDATA[<b>&amp;]] >]]>x</m>", "E<m" C ">&lt;b&gt;&amp;amp;]] &gt;x</m>" },
	{ "<m>a<b/>c<b/> </m>", "E<m" C ">a<b/>c<b/> </m>" },
	{ "<m>\xf0\x9f\x98\x80\xc3\xa9</m>", "E<m" C ">\xf0\x9f\x98\x80\xc3\xa9</m>" },
	{ "<xml:m/>", "E<xml:m/>" },
	{ "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>f</body></message>"
	  "</forwarded></message>",
	  "E<message" C "><forwarded xmlns='urn:xmpp:forward:0'><message" C "><body>f</body></message>"
	  "</forwarded></message>" },
	{ "<stream:features><a xmlns='u'/></stream:features>", "E<stream:features><a xmlns='u'/></stream:features>" },
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
	{ "<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n" HEAD_TEXT "<a/>", HEAD_EVENT "E<a" C "/>" },
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
	  "O<stream:stream/>[http://etherx.jabber.org/streams]E<message" C "><body/></message>E<stream:features/>C" },
	{ "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='x'>"
	  "<handshake>0a</handshake><presence from='x'/>",
	  "O<stream:stream to='x'/>[jabber:component:accept]E<handshake" C ">0a</handshake>E<presence" C " from='x'/>" },
	{ "<stream:stream\n xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' "
	  "xmlns='jabber:server' xmlns:q=\"a&amp;'b\"><db:result to='x'/><q:z/></stream:stream>",
	  "O<stream:stream/>[jabber:server]E<result xmlns='jabber:server:dialback' to='x'/>E<z "
	  "xmlns='a&amp;&apos;b'/>C" },
	{ "<stream:stream xmlns='jabber:client'>", "!bad-namespace-prefix" },
	{ "<a/>", "O<a/>[]C" },
};

enum { HOW_PARK = 1, HOW_PAUSE = 2, HOW_MOVE = 4 };

/* Feed in pieces of `size` octets, 0: of random size. */
static void run(const struct doc *d, const char *head_in, const char *head_out, size_t size, unsigned how, unsigned seed)
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
		fail_msg("%s\n got  " SLFMT "\n want " SLFMT "\n (pieces of %zu, how %u)", d->in, SLARG(buf_sl(&r.log)),
			 SLARG(buf_sl(&want)), size, how);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stanzas),
		cmocka_unit_test(test_documents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
