/* test_scram_client.c - the client's side of SCRAM against challenges that it must not answer, and
 * against the server's side of the same. What a real server says to it is in
 * test_component_link.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "appliance/base/rnd.h"
#include "translators/common/scram_client.h"

static struct scram_client *client(const char *mech, char flag, const char *user)
{
	struct scram_binding b = { .flag = flag, .name = "tls-exporter", .data = "0123", .n = 4 };
	struct scram_client *c = NULL;

	assert_int_equal(scram_client_new(sl_cstr(mech), sl_cstr(user), SL("secret"), &b, &c), 0);
	return c;
}

static void test_first(void **state)
{
	struct scram_binding b = { .flag = 'n' };
	struct scram_client *c = client("SCRAM-SHA-512-PLUS", 'p', "sms.example");

	UNUSED(state);
	assert_true(sl_starts(scram_client_first(c), SL("p=tls-exporter,,n=sms.example,r=")));
	scram_client_free(&c);
	c = client("SCRAM-SHA-256", 'y', "a,b=c");
	assert_true(sl_starts(scram_client_first(c), SL("y,,n=a=2Cb=3Dc,r=")));
	scram_client_free(&c);
	assert_int_equal(scram_client_new(SL("SCRAM-SHA-1"), SL("a"), SL("b"), &b, &c),
			 E_UNSUPPORTED);
	b.flag = 'p';
	assert_int_equal(scram_client_new(SL("SCRAM-SHA-256"), SL("a"), SL("b"), &b, &c),
			 E_UNSUPPORTED);
}

/* $ stands for the client's nonce. */
static int answer(const char *pattern)
{
	struct scram_client *c = client("SCRAM-SHA-256", 'n', "sms.example");
	struct sl first = scram_client_first(c), nonce, out;
	const char *cut = strchr(pattern, '$');
	char text[512];
	int rc, n;

	nonce = sl_sub(first, sl_find(first, 'r', 10) + 2, first.n);
	if (cut)
		n = snprintf(text, sizeof(text), "%.*s" SLFMT "%s", (int)(cut - pattern), pattern,
			     SLARG(nonce), cut + 1);
	else
		n = snprintf(text, sizeof(text), "%s", pattern);
	rc = scram_client_final(c, sl_mk(text, (size_t)n), &out);
	if (rc == 0)
		assert_int_equal(scram_client_final(c, sl_mk(text, (size_t)n), &out), E_STATE);
	assert_false(scram_client_verify(c, SL("v=")));
	assert_false(scram_client_verify(c, SL("e=other-error")));
	assert_false(scram_client_verify(c, SL("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")));
	scram_client_free(&c);
	return rc;
}

static void test_challenges(void **state)
{
	static const struct {
		const char *said;
		int rc;
	} t[] = {
		{ "r=$x,s=c2FsdA==,i=4096", 0 },
		{ "r=$x,s=c2FsdA==,i=4096,ext=1", 0 },
		{ "r=$,s=c2FsdA==,i=4096", E_AUTH },
		{ "r=x$,s=c2FsdA==,i=4096", E_AUTH },
		{ "r=,s=c2FsdA==,i=4096", E_AUTH },
		{ "r=$x,s=c2FsdA==,i=4095", E_RANGE },
		{ "r=$x,s=c2FsdA==,i=1000001", E_RANGE },
		{ "r=$x,s=c2FsdA==,i=-1", E_SYNTAX },
		{ "r=$x,s=c2FsdA==,i=99999999999", E_SYNTAX },
		{ "r=$x,s=,i=4096", E_SYNTAX },
		{ "r=$x,s=!,i=4096", E_SYNTAX },
		{ "m=x,r=$x,s=c2FsdA==,i=4096", E_SYNTAX },
		{ "r=$x,s=c2FsdA==", E_SYNTAX },
		{ "", E_SYNTAX },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		if (answer(t[i].said) != t[i].rc)
			fail_msg("%s: not %d", t[i].said, t[i].rc);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_first),
					    cmocka_unit_test(test_challenges) };

	rnd_init();
	return cmocka_run_group_tests_name("scram_client", tests, NULL, NULL);
}
