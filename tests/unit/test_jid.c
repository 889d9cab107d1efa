/* test_jid.c - RFC 7622 addresses: the tables of section 3.5, each rule of PRECIS and IDNA that
 * they rest on, idempotence, limits, XEP-0106. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "appliance/base/enc.h"
#include "xmpp/stream/jid.h"
#include "xmpp/stream/precis.h"

static struct arena *arena;

static int setup(void **state)
{
	UNUSED(state);
	arena = arena_new(65536, 64u << 20);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	UNUSED(state);
	arena_free(&arena);
	return 0;
}

static void check_parts(const struct jid *j)
{
	struct jid s = jid_split(j->full);

	assert_true(sl_eq(s.local, j->local));
	assert_true(sl_eq(s.domain, j->domain));
	assert_true(sl_eq(s.resource, j->resource));
	assert_true(sl_eq(s.bare, j->bare));
	assert_ptr_equal(j->bare.p, j->full.p);
	assert_true(j->domain.p >= j->full.p && j->domain.p + j->domain.n <= j->full.p + j->full.n);
}

static void good(const char *in, const char *want)
{
	struct jid j, again;
	struct err e = { 0 };

	if (jid_parse(arena, sl_cstr(in), &j, &e) != 0)
		fail_msg("%s refused: %s", in, e.text);
	if (!sl_eq(j.full, sl_cstr(want)))
		fail_msg("%s: got " SLFMT " want %s", in, SLARG(j.full), want);
	check_parts(&j);
	/* What is normal stays, and is not copied. */
	if (jid_parse(arena, j.full, &again, &e) != 0)
		fail_msg("%s -> " SLFMT " refused: %s", in, SLARG(j.full), e.text);
	assert_true(jid_eq(&again, &j));
	assert_ptr_equal(again.full.p, j.full.p);
}

static void bad_sl(struct sl in, const char *why)
{
	struct jid j = JID_NULL;
	struct err e = { 0 };

	if (jid_parse(arena, in, &j, &e) != E_SYNTAX)
		fail_msg(SLFMT " taken (%s)", SLARG(in), why);
	assert_true(jid_is_null(&j));
	assert_non_null(e.clause);
	assert_true(e.text[0] != '\0');
}

static void bad(const char *in, const char *why)
{
	bad_sl(sl_cstr(in), why);
}

/* RFC 7622 section 3.5, tables 1 and 2. */
static void test_rfc_tables(void **state)
{
	UNUSED(state);
	good("juliet@example.com", "juliet@example.com");
	good("juliet@example.com/foo", "juliet@example.com/foo");
	good("juliet@example.com/foo bar", "juliet@example.com/foo bar");
	good("juliet@example.com/foo@bar", "juliet@example.com/foo@bar");
	good("foo\\20bar@example.com", "foo\\20bar@example.com");
	good("fussball@example.com", "fussball@example.com");
	good("fu\xc3\x9f"
	     "ball@example.com",
	     "fu\xc3\x9f"
	     "ball@example.com");
	good("\xcf\x80@example.com", "\xcf\x80@example.com");
	good("\xce\xa3@example.com/foo", "\xcf\x83@example.com/foo");
	good("\xcf\x83@example.com/foo", "\xcf\x83@example.com/foo");
	good("\xcf\x82@example.com/foo", "\xcf\x82@example.com/foo");
	good("king@example.com/\xe2\x99\x9a", "king@example.com/\xe2\x99\x9a");
	good("example.com", "example.com");
	good("example.com/foobar", "example.com/foobar");
	good("a.example.com/b@example.net", "a.example.com/b@example.net");

	bad("\"juliet\"@example.com", "quotation mark in the localpart");
	bad("foo bar@example.com", "space in the localpart");
	bad("juliet@example.com/", "empty resourcepart");
	bad("@example.com/", "empty localpart");
	bad("henry\xe2\x85\xa3@example.com", "compatibility decomposable");
	bad("\xe2\x99\x9a@example.com", "symbol in the localpart");
	bad("juliet@", "no domainpart");
	bad("/foobar", "no domainpart");
}

/* A localpart alone, given as UTF-8. */
static void local(const char *in, const char *want)
{
	char a[256], b[256];

	snprintf(a, sizeof(a), "%s@x.example/R", in);
	snprintf(b, sizeof(b), "%s@x.example/R", want);
	good(a, b);
}

static void local_bad(const char *in, const char *why)
{
	char a[256];

	snprintf(a, sizeof(a), "%s@x.example/R", in);
	bad(a, why);
}

static void test_local(void **state)
{
	UNUSED(state);
	local("JULIET", "juliet");
	local("a!#$%()*+,-.;=?[\\]^_`{|}~z", "a!#$%()*+,-.;=?[\\]^_`{|}~z");
	for (const char *c = "\"&':<> \x7f\x1f"; *c; c++) {
		char s[] = "a?b";
		s[1] = *c;
		local_bad(s, "excluded character");
	}
	bad("a@b@c/d", "two at-signs");
	local("\xef\xbc\xa1\xef\xbd\x82", "ab");           /* full-width A, b */
	local("\xef\xbd\xb6\xef\xbe\x9e", "\xe3\x82\xac"); /* half-width GA in two characters */
	local("e\xcc\x81", "\xc3\xa9");                    /* composed */
	local("\xc3\x89", "\xc3\xa9");                     /* E acute */
	local("\xc4\xb0", "i\xcc\x87");                    /* I with dot */
	local("\xce\x91\xce\xa3", "\xce\xb1\xcf\x82");     /* final sigma */
	local_bad("a\xef\xbc\xa0"
		  "b",
		  "full-width at-sign");
	local_bad("a\xef\xbc\x8f"
		  "b",
		  "full-width slash");
	local_bad("a\xe3\x80\x80"
		  "b",
		  "ideographic space");
	local_bad("\xe2\x84\xab", "Angstrom sign: compatibility");
	local_bad("\xc5\xbf", "long s: compatibility");
	local_bad("\xef\xac\x81", "fi ligature");
	local_bad("\xe2\x82\xac", "symbol");
	local_bad("\xe1\x84\x80\xe1\x85\xa1", "conjoining jamo");
	local_bad("a\xc2\xad"
		  "b",
		  "soft hyphen: ignorable");
	local_bad("\xef\xbf\xbe", "noncharacter");
	local_bad("\xee\x80\x80", "private use");
	local_bad("\xcd\xb8", "unassigned");
	local_bad("\xd9\x80", "tatweel");
}

static void test_context(void **state)
{
	UNUSED(state);
	local("l\xc2\xb7l", "l\xc2\xb7l");
	local_bad("a\xc2\xb7l", "middle dot not between l");
	local_bad("l\xc2\xb7", "middle dot at the end");
	local("\xcd\xb5\xce\xb1", "\xcd\xb5\xce\xb1");
	local_bad("\xce\xb1\xcd\xb5", "keraia not before Greek");
	local("\xd7\x90\xd7\xb3", "\xd7\x90\xd7\xb3");
	local("\xd7\x90\xd7\xb4", "\xd7\x90\xd7\xb4");
	local_bad("\xd7\xb3\xd7\x90", "geresh not after Hebrew");
	local("\xe3\x82\xa2\xe3\x83\xbb", "\xe3\x82\xa2\xe3\x83\xbb");
	local_bad("a\xe3\x83\xbb", "katakana dot without kana");
	local("\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8d\xe0\xa4\xb7",
	      "\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8d\xe0\xa4\xb7");
	local("\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8c\xe0\xa4\xb7",
	      "\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8c\xe0\xa4\xb7");
	local("\xd8\xa8\xe2\x80\x8c\xd8\xa8", "\xd8\xa8\xe2\x80\x8c\xd8\xa8");
	local_bad("a\xe2\x80\x8c"
		  "b",
		  "ZWNJ that joins nothing");
	local_bad("\xd8\xa7\xe2\x80\x8c\xd8\xa8", "ZWNJ after a letter that does not join");
	local_bad("\xd8\xa8\xe2\x80\x8d\xd8\xa8", "ZWJ without virama");
	local_bad("\xe2\x80\x8d", "ZWJ alone");
	local("\xd8\xa7\xd9\xa1\xd9\xa2", "\xd8\xa7\xd9\xa1\xd9\xa2");
	local("\xd8\xa7\xdb\xb1\xdb\xb2", "\xd8\xa7\xdb\xb1\xdb\xb2");
	local_bad("\xd8\xa7\xd9\xa1\xdb\xb2", "both kinds of Arabic digits");
}

static void test_bidi(void **state)
{
	UNUSED(state);
	local("\xd7\x90\xd7\x91", "\xd7\x90\xd7\x91");
	local("\xd7\x90"
	      "1",
	      "\xd7\x90"
	      "1");
	local("\xd7\x90-\xd7\x91", "\xd7\x90-\xd7\x91");
	local("\xd7\x90\xd6\xb0", "\xd7\x90\xd6\xb0"); /* ends with a mark */
	local_bad("\xd7\x90"
		  "a",
		  "left-to-right letter in right-to-left text");
	local_bad("a\xd7\x90", "right-to-left letter in left-to-right text");
	local_bad("1\xd7\x90", "begins with a digit");
	local_bad("\xd7\x90-", "ends with punctuation");
	local_bad("\xd9\xa1", "begins with an Arabic digit");
	local_bad("\xd8\xa7"
		  "1\xd9\xa1",
		  "European and Arabic digits");
	good("a@b/\xd7\x90"
	     "a",
	     "a@b/\xd7\x90"
	     "a"); /* no rule for resources */
}

static void test_resource(void **state)
{
	UNUSED(state);
	good("a@b/Foo", "a@b/Foo");
	good("b/a\"&':<>@/ z", "b/a\"&':<>@/ z");
	good("b/a\xc2\xa0"
	     "b\xe3\x80\x80"
	     "c",
	     "b/a b c");
	good("b/e\xcc\x81", "b/\xc3\xa9");
	good("b/\xe2\x84\xab", "b/\xc3\x85");
	good("b/\xef\xac\x81\xef\xbc\xa1",
	     "b/\xef\xac\x81\xef\xbc\xa1"); /* compatibility and width stay */
	good("b/\xf0\x9f\x91\x8d", "b/\xf0\x9f\x91\x8d");
	bad("b/a\tb", "control");
	bad("b/a\x7f", "control");
	bad("b/a\xc2\x85", "control");
	bad("b/a\xc2\xad", "ignorable");
	bad("b/\xef\xb8\x8f", "variation selector");
	bad("b/\xd9\x80", "tatweel");
	bad("b/\xe2\x80\xa8", "line separator");
	bad("b/\xf0\xbf\xbf\xbf", "noncharacter");
}

static void test_domain(void **state)
{
	UNUSED(state);
	good("EXAMPLE.Com", "example.com");
	good("example.com.", "example.com");
	good("a@example.com./r", "a@example.com/r");
	good("localhost", "localhost");
	good("192.0.2.1", "192.0.2.1");
	good("[::1]", "[::1]");
	good("a@[2001:DB8:0:0:0:0:0:1]/r", "a@[2001:db8::1]/r");
	good("b\xc3\xbc"
	     "cher.example",
	     "b\xc3\xbc"
	     "cher.example");
	good("B\xc3\x9c"
	     "CHER.example",
	     "b\xc3\xbc"
	     "cher.example");
	good("bu\xcc\x88"
	     "cher.example",
	     "b\xc3\xbc"
	     "cher.example");
	good("xn--bcher-kva.example", "b\xc3\xbc"
				      "cher.example");
	good("a@XN--BCHER-KVA.example", "a@b\xc3\xbc"
					"cher.example");
	good("fa\xc3\x9f.example", "fa\xc3\x9f.example");
	good("\xe6\x97\xa5\xe6\x9c\xac\xe3\x80\x82\xef\xbc\xaa\xef\xbc\xb0",
	     "\xe6\x97\xa5\xe6\x9c\xac.jp");
	good("\xe6\x97\xa5\xe3\x80\x82", "\xe6\x97\xa5");
	good("\xd7\x90\xd7\x91.example", "\xd7\x90\xd7\x91.example");
	bad("", "empty");
	bad(".", "empty label");
	bad("example.com..", "empty label");
	bad("example..com", "empty label");
	bad(".example.com", "empty label");
	bad("-a.example", "hyphen first");
	bad("a-.example", "hyphen last");
	bad("ab--cd.example", "reserved label");
	bad("a_b.example", "underscore");
	bad("a b.example", "space");
	bad("a\xc3\xbc_b.example", "underscore");
	bad("xn--a.example", "not an A-label");
	bad("xn--bcher-.example", "not an A-label");
	bad("xn--abc-.example", "A-label of ASCII");
	bad("xn--her-keq.example", "A-label of something that would be mapped");
	bad("::1", "IPv6 without brackets");
	bad("[::1", "no end");
	bad("[]", "empty literal");
	bad("[192.0.2.1]", "IPv4 in brackets");
	bad("[fe80::1%eth0]", "zone");
	bad("[::1]x", "text after the literal");
	bad("[::1\xc3\xa9]", "not an address");
	bad("\xd7\x90"
	    "a.example",
	    "Bidi rule");
	bad("a\xe2\x80\x8d"
	    "b.example",
	    "ZWJ");
	bad("\xe2\x99\x9a.example", "symbol");
}

static struct sl repeat(const char *unit, size_t times, const char *after)
{
	size_t n = strlen(unit);
	char *p = arena_alloc(arena, n * times + strlen(after) + 1);

	for (size_t i = 0; i < times; i++)
		memcpy(p + i * n, unit, n);
	memcpy(p + n * times, after, strlen(after) + 1);
	return sl_mk(p, n * times + strlen(after));
}

static void test_limits(void **state)
{
	struct jid j;
	struct sl label = repeat("a", 63, "");

	UNUSED(state);
	assert_int_equal(jid_parse(arena, repeat("a", 1023, "@b"), &j, NULL), 0);
	bad_sl(repeat("a", 1024, "@b"), "localpart of 1024");
	assert_int_equal(jid_parse(arena, repeat("\xef\xbc\xa1", 1023, "@b"), &j, NULL), 0);
	assert_int_equal(j.local.n, 1023);
	bad_sl(repeat("\xef\xbc\xa1", 1024, "@b"), "localpart of 1024 when mapped");
	bad_sl(repeat("\xef\xbc\xa1", 100000, "@b"), "localpart of 300000");
	bad_sl(repeat("\xc3\xa9", 512, "@b"), "localpart of 1024");
	struct sl res = arena_printf(arena, "b/" SLFMT, SLARG(repeat("a", 1023, "")));
	assert_int_equal(jid_parse(arena, res, &j, NULL), 0);
	bad_sl(arena_printf(arena, "b/" SLFMT, SLARG(repeat("a", 1024, ""))),
	       "resourcepart of 1024");
	bad_sl(arena_printf(arena, "b/" SLFMT, SLARG(repeat("\xe2\x82\xac", 342, ""))),
	       "resourcepart of 1026");
	assert_int_equal(jid_parse(arena, arena_printf(arena, SLFMT ".b", SLARG(label)), &j, NULL),
			 0);
	bad_sl(repeat("a", 64, ".b"), "label of 64");
	struct sl four = arena_printf(arena, SLFMT "." SLFMT "." SLFMT "." SLFMT, SLARG(label),
				      SLARG(label), SLARG(label), SLARG(sl_sub(label, 0, 61)));
	assert_int_equal(four.n, 253);
	assert_int_equal(jid_parse(arena, four, &j, NULL), 0);
	bad_sl(arena_printf(arena, SLFMT "a", SLARG(four)), "name of 254");
	bad_sl(repeat("\xc3\xbc", 60, ".b"), "A-label of more than 63");
	bad_sl(repeat("\xc3\xbc.", 60, "de"), "name of more than 253 as A-labels");
	assert_int_equal(jid_parse(arena, repeat("\xc3\xbc.", 30, "de"), &j, NULL), 0);
	bad_sl(repeat("\xc3\xbc", 100000, ".b"), "200 kB of domain");
}

static void test_not_utf8(void **state)
{
	static const char *const bytes[] = {
		"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
		bad_sl(arena_printf(arena, "a%s@b/c", bytes[i]), "localpart");
		bad_sl(arena_printf(arena, "a@b%s/c", bytes[i]), "domainpart");
		bad_sl(arena_printf(arena, "a@b/c%s", bytes[i]), "resourcepart");
	}
	bad_sl(SL("a\0@b"), "NUL");
	bad_sl(SL("b\0"), "NUL");
	bad_sl(SL("b\xc3\xbc\0x.de"), "NUL");
	bad_sl(SL("a@b/\0"), "NUL");
}

static void test_password(void **state)
{
	/* RFC 8265 section 4.3. */
	static const struct {
		const char *in, *want;
	} v[] = {
		{ "correct horse battery staple", "correct horse battery staple" },
		{ "Correct Horse Battery Staple", "Correct Horse Battery Staple" },
		{ "\xcf\x80\xc3\x9f\xc3\xa5", "\xcf\x80\xc3\x9f\xc3\xa5" },
		{ "Jack of \xe2\x99\xa6s", "Jack of \xe2\x99\xa6s" },
		{ "foo\xe1\x9a\x80"
		  "bar",
		  "foo bar" },
		{ "", NULL },
		{ "my cat is a \tby", NULL },
	};
	struct sl out;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		int rc = precis_password(arena, sl_cstr(v[i].in), &out, NULL);
		assert_int_equal(rc, v[i].want ? 0 : E_SYNTAX);
		if (v[i].want)
			assert_true(sl_eq(out, sl_cstr(v[i].want)));
	}
}

static void test_make(void **state)
{
	struct jid j, k;

	UNUSED(state);
	assert_int_equal(jid_make(arena, SL("a"), SL("b"), SL("c"), &j), 0);
	assert_true(sl_eq(j.full, SL("a@b/c")) && sl_eq(j.bare, SL("a@b")));
	check_parts(&j);
	assert_int_equal(jid_make(arena, SL_NULL, SL("b"), SL_NULL, &k), 0);
	assert_true(sl_eq(k.full, SL("b")) && jid_is_bare(&k) && !jid_is_bare(&j));
	check_parts(&k);
	assert_int_equal(jid_dup(arena, &j, &k), 0);
	assert_true(jid_eq(&j, &k) && jid_bare_eq(&j, &k) && j.full.p != k.full.p);
	assert_int_equal(jid_make(arena, SL("a"), SL("b"), SL_NULL, &k), 0);
	assert_true(!jid_eq(&j, &k) && jid_bare_eq(&j, &k));
	j = jid_split(SL("b/c@d/e"));
	assert_true(sl_eq(j.domain, SL("b")) && j.local.n == 0 && sl_eq(j.resource, SL("c@d/e")));
}

static void test_escape(void **state)
{
	/* XEP-0106, section 5 and the rules of 4. */
	static const struct {
		const char *text, *local;
	} v[] = {
		{ "space cadet", "space\\20cadet" },
		{ "call me \"ishmael\"", "call\\20me\\20\\22ishmael\\22" },
		{ "at&t guy", "at\\26t\\20guy" },
		{ "d'artagnan", "d\\27artagnan" },
		{ "/.fanboy", "\\2f.fanboy" },
		{ "::foo::", "\\3a\\3afoo\\3a\\3a" },
		{ "<foo>", "\\3cfoo\\3e" },
		{ "user@host", "user\\40host" },
		{ "c:\\net", "c\\3a\\net" },
		{ "c:\\\\net", "c\\3a\\\\net" },
		{ "c:\\cool stuff", "c\\3a\\cool\\20stuff" },
		{ "c:\\5commas", "c\\3a\\5c5commas" },
		{ "\\3and\\2is\\5@example.com", "\\5c3and\\2is\\5\\40example.com" },
		{ "plain", "plain" },
		{ "\\5c", "\\5c5c" },
		{ "a\\5C", "a\\5C" },
		{ "\xc3\xa9 x", "\xc3\xa9\\20x" },
	};
	struct sl out;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		assert_int_equal(jid_escape_local(arena, sl_cstr(v[i].text), &out), 0);
		if (!sl_eq(out, sl_cstr(v[i].local)))
			fail_msg("%s: " SLFMT, v[i].text, SLARG(out));
		assert_int_equal(jid_unescape_local(arena, out, &out), 0);
		if (!sl_eq(out, sl_cstr(v[i].text)))
			fail_msg("%s: back " SLFMT, v[i].text, SLARG(out));
	}
	assert_int_equal(jid_escape_local(arena, SL(" a"), &out), E_SYNTAX);
	assert_int_equal(jid_escape_local(arena, SL("a "), &out), E_SYNTAX);
	assert_int_equal(jid_unescape_local(arena, SL("a\\20\\zz\\2"), &out), 0);
	assert_true(sl_eq(out, SL("a \\zz\\2")));
}

/* Random addresses of characters that have something to do with a rule: what is taken is taken
 * again, unchanged. */
static void test_idempotent(void **state)
{
	static const uint32_t cps[] = {
		'a',    'Z',    '1',    '-',    '.',    '@',     '/',     ' ',     'l',    0xb7,
		0xc4,   0xdf,   0x130,  0x131,  0x149,  0x1c5,   0x300,   0x301,   0x307,  0x327,
		0x345,  0x375,  0x3a3,  0x3c2,  0x3c3,  0x390,   0x5d0,   0x5f3,   0x627,  0x628,
		0x640,  0x660,  0x6f0,  0x915,  0x93c,  0x94d,   0x958,   0xe33,   0x1100, 0x1161,
		0x1e9e, 0x1f80, 0x1fb3, 0x200c, 0x200d, 0x2126,  0x212a,  0x212b,  0x2c62, 0x3002,
		0x3007, 0x30a2, 0x30fb, 0x3099, 0xac00, 0xd55c,  0xfb01,  0xfb1f,  0xff0e, 0xff21,
		0xff41, 0xff71, 0xff76, 0xff9e, 0xffe8, 0x10400, 0x1d15e, 0x1f44d, 0xa0,   0x3000,
		0x345,  0x13a0, 0xab70, 0x10d0, 0x1c90, 0x1e921,
	};
	unsigned seed = 7, taken = 0;

	UNUSED(state);
	for (int round = 0; round < 60000; round++) {
		char text[256];
		size_t n = 0;
		struct jid j, k;
		struct err e = { 0 };
		for (int len = rand_r(&seed) % 9 + 1; len > 0; len--)
			n += utf8_put(cps[(size_t)rand_r(&seed) % ARRAY_LEN(cps)], text + n);
		if (rand_r(&seed) % 2) {
			memcpy(text + n, "@b/x", 4);
			n += 4;
		}
		if (jid_parse(arena, sl_mk(text, n), &j, &e) == 0) {
			taken++;
			if (jid_parse(arena, j.full, &k, &e) != 0 || !jid_eq(&j, &k) ||
			    k.full.p != j.full.p)
				fail_msg(SLFMT " -> " SLFMT ": %s", (int)n, text, SLARG(j.full),
					 e.text);
			check_parts(&j);
		}
		if (round % 1000 == 0) {
			arena_free(&arena);
			arena = arena_new(65536, 64u << 20);
		}
	}
	assert_true(taken > 2000);
}

static void test_no_memory(void **state)
{
	static const char *const in[] = { "A@b/c", "a@B/c", "\xc3\x89@b", "a@b\xc3\xbc.de/x",
					  "A@[0::1]/e\xcc\x81" };
	bool failed = false;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(in); i++) {
		int rc = E_NOMEM;
		for (size_t cap = 0; rc != 0 && cap < 200; cap++) {
			struct arena *a = arena_new(cap, cap);
			struct jid j = JID_NULL;
			rc = jid_parse(a, sl_cstr(in[i]), &j, NULL);
			assert_true(rc == 0 || rc == E_NOMEM);
			assert_true(rc == 0 || jid_is_null(&j));
			failed |= rc != 0;
			arena_free(&a);
		}
		assert_int_equal(rc, 0);
	}
	assert_true(failed);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rfc_tables), T(test_local),  T(test_context), T(test_bidi),
		T(test_resource),   T(test_domain), T(test_limits),  T(test_not_utf8),
		T(test_password),   T(test_make),   T(test_escape),  T(test_idempotent),
		T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
