/* test_numplan.c - numbers, their owners (ADDR-1 to ADDR-4), and quotas (MSG-10). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "translators/common/numplan.h"
#include "translators/common/quota.h"

static const struct numplan germany = { SL("49"), SL("00"), SL("0") },
			    none = { SL(""), SL("00"), SL("0") };

static void good(const struct numplan *np, const char *in, const char *out)
{
	char dst[NUMBER_MAX];
	struct err e = { 0 };

	if (number_normalise(np, sl_cstr(in), dst, &e) < 0)
		fail_msg("%s refused: %s", in, e.text);
	assert_string_equal(dst, out);
}

static void bad(const struct numplan *np, const char *in)
{
	char dst[NUMBER_MAX];
	struct err e = { 0 };

	if (number_normalise(np, sl_cstr(in), dst, &e) == 0)
		fail_msg("%s became %s", in, dst);
	assert_int_equal(e.code, E_SYNTAX);
	assert_true(e.text[0]);
}

static void test_normalise(void **state)
{
	UNUSED(state);
	good(&none, "+15551234567", "+15551234567");
	good(&none, "+1 (555) 123-45.67", "+15551234567");
	good(&none, "0015551234567", "+15551234567");
	good(&germany, "030 123456789", "+4930123456789");
	good(&germany, "0049301234567", "+49301234567");
	good(&none, "12345", "12345");
	good(&none, "110", "110");
	good(&none, "+12345", "+12345");
	good(&none, "+123456789012345", "+123456789012345");
	good(&none, "12345678", "12345678");
	good(&germany, "01234567", "01234567"); /* eight digits: a short code */
	good(&germany, "012345678", "+4912345678");
	bad(&none, "123456789");
	bad(&none, "");
	bad(&none, "+");
	bad(&none, "+1234");
	bad(&none, "+1234567890123456");
	bad(&none, "+0123456");
	bad(&none, "12");
	bad(&none, "5551234567");
	bad(&none, "frank");
	bad(&none, "1+555");
	bad(&none, "++15551234567");
	bad(&none, "+1555123456789012345678901234567890");
	bad(&none, "00");
	bad(&germany, "00015551234567");
}

static void test_owners(void **state)
{
	struct numbers *n;
	struct sl link = SL_NULL;

	UNUSED(state);
	assert_int_equal(numbers_new(&n), 0);
	assert_int_equal(numbers_set(n, SL("+100001"), SL("a@x"), SL("l1")), 0);
	assert_int_equal(numbers_set(n, SL("+100002"), SL("a@x"), SL("")), 0);
	assert_int_equal(numbers_set(n, SL("+100003"), SL("a@y"), SL("")), 0);
	assert_true(sl_eq(numbers_owner(n, SL("+100002")), SL("a@x")));
	assert_true(sl_eq(numbers_owner(n, SL("+100003")), SL("a@y")));
	assert_int_equal(numbers_owner(n, SL("+100004")).n, 0);
	assert_true(sl_eq(numbers_of(n, SL("a@x"), &link), SL("+100001"))); /* the oldest */
	assert_true(sl_eq(link, SL("l1")));
	/* Set again: keeps its age; moved: leaves the old owner. */
	assert_int_equal(numbers_set(n, SL("+100001"), SL("a@x"), SL("l2")), 0);
	assert_true(sl_eq(numbers_of(n, SL("a@x"), &link), SL("+100001")));
	assert_true(sl_eq(link, SL("l2")));
	assert_int_equal(numbers_set(n, SL("+100001"), SL("b@x"), SL("")), 0);
	assert_true(sl_eq(numbers_of(n, SL("a@x"), NULL), SL("+100002")));
	assert_int_equal(numbers_count(n), 3);
	numbers_del(n, SL("+100002"));
	numbers_del(n, SL("+100002"));
	assert_int_equal(numbers_of(n, SL("a@x"), NULL).n, 0);
	assert_int_equal(numbers_count(n), 2);
	numbers_free(&n);
	assert_null(n);
}

static void test_many(void **state)
{
	struct numbers *n;
	char number[32], jid[32];

	UNUSED(state);
	assert_int_equal(numbers_new(&n), 0);
	for (int i = 0; i < 20000; i++) {
		snprintf(number, sizeof(number), "+1%07d", i);
		snprintf(jid, sizeof(jid), "u%d@x", i / 2);
		assert_int_equal(numbers_set(n, sl_cstr(number), sl_cstr(jid), SL_NULL), 0);
	}
	for (int i = 0; i < 20000; i += 2) {
		snprintf(number, sizeof(number), "+1%07d", i);
		numbers_del(n, sl_cstr(number));
		snprintf(jid, sizeof(jid), "u%d@x", i / 2);
		snprintf(number, sizeof(number), "+1%07d", i + 1);
		assert_true(sl_eq(numbers_of(n, sl_cstr(jid), NULL), sl_cstr(number)));
	}
	numbers_free(&n);
}

static void test_quota(void **state)
{
	struct quota *q;

	UNUSED(state);
	assert_int_equal(quota_new(&q), 0);
	for (int i = 0; i < 6; i++)
		assert_true(quota_take(q, SL("a"), 6, 1000));
	assert_false(quota_take(q, SL("a"), 6, 1000));
	assert_true(quota_take(q, SL("b"), 6, 1000));
	assert_false(quota_take(q, SL("a"), 6, 10999)); /* a tenth of a minute is one token */
	assert_true(quota_take(q, SL("a"), 6, 11000));
	assert_false(quota_take(q, SL("a"), 6, 11000));
	assert_true(quota_take(q, SL("a"), 0, 11000)); /* no limit */
	/* What is swept is forgotten; whoever spoke in this minute is not. */
	for (int i = 0; i < 6; i++)
		assert_true(quota_take(q, SL("c"), 6, 20000));
	quota_sweep(q, 25000);
	assert_false(quota_take(q, SL("c"), 6, 25000));
	/* Silence is not saved up. */
	for (int i = 0; i < 6; i++)
		assert_true(quota_take(q, SL("c"), 6, 190000));
	assert_false(quota_take(q, SL("c"), 6, 190000));
	quota_sweep(q, 200000);
	for (int i = 0; i < 6; i++)
		assert_true(quota_take(q, SL("a"), 6, 200000));
	assert_false(quota_take(q, SL("a"), 6, 200000));
	quota_free(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_normalise),
		cmocka_unit_test(test_owners),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_quota),
	};

	return cmocka_run_group_tests_name("numplan", tests, NULL, NULL);
}
