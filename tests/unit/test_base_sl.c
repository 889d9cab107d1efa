/* test_base_sl.c - slices, numbers, error texts, secrets, lists. */
#include "appliance/base/base.h"
#include "appliance/base/list.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void compare(void **state)
{
	UNUSED(state);
	assert_true(sl_eq(SL("abc"), SL("abc")));
	assert_false(sl_eq(SL("abc"), SL("abd")));
	assert_false(sl_eq(SL("abc"), SL("ab")));
	assert_true(sl_eq(SL_NULL, SL("")));
	assert_true(sl_ieq(SL("AbZ@"), SL("aBz@")));
	assert_false(sl_ieq(SL("[@"), SL("{`")));
	assert_false(sl_ieq(SL("a"), SL("ab")));
	assert_true(sl_cmp(SL("a"), SL("b")) < 0);
	assert_true(sl_cmp(SL("b"), SL("a")) > 0);
	assert_true(sl_cmp(SL("a"), SL("aa")) < 0);
	assert_true(sl_cmp(SL("aa"), SL("a")) > 0);
	assert_int_equal(sl_cmp(SL_NULL, SL("")), 0);
	assert_true(sl_eq_const_time(SL("secret"), SL("secret")));
	assert_false(sl_eq_const_time(SL("secret"), SL("secreT")));
	assert_false(sl_eq_const_time(SL("secret"), SL("secre")));
	assert_false(sl_eq_const_time(SL_NULL, SL("x")));
	assert_true(sl_starts(SL("abc"), SL("ab")) && sl_starts(SL("abc"), SL_NULL));
	assert_false(sl_starts(SL("ab"), SL("abc")));
}

static void cut(void **state)
{
	UNUSED(state);
	assert_true(sl_eq(sl_sub(SL("hello"), 1, 3), SL("el")));
	assert_true(sl_eq(sl_sub(SL("hello"), 3, 99), SL("lo")));
	assert_int_equal(sl_sub(SL("hello"), 9, 99).n, 0);
	assert_int_equal(sl_sub(SL("hello"), 3, 2).n, 0);
	assert_int_equal(sl_sub(SL_NULL, 0, 5).n, 0);
	assert_int_equal(sl_find(SL("a,b,c"), ',', 0), 1);
	assert_int_equal(sl_find(SL("a,b,c"), ',', 2), 3);
	assert_int_equal(sl_find(SL("a,b,c"), ';', 0), 5);
	assert_int_equal(sl_find(SL_NULL, ';', 0), 0);
	assert_int_equal(sl_find(SL("ab"), 'a', 7), 2);
	assert_true(sl_eq(sl_trim(SL(" \t a b \r\n")), SL("a b")));
	assert_int_equal(sl_trim(SL(" \n")).n, 0);
	assert_int_equal(sl_trim(SL_NULL).n, 0);
	assert_int_equal(sl_cstr(NULL).n, 0);
}

static void numbers(void **state)
{
	uint64_t v = 7;

	UNUSED(state);
	assert_int_equal(sl_to_u64(SL("0"), 10, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(sl_to_u64(SL("18446744073709551615"), UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(sl_to_u64(SL("18446744073709551616"), UINT64_MAX, &v), E_RANGE);
	assert_int_equal(sl_to_u64(SL("99999999999999999999999"), UINT64_MAX, &v), E_RANGE);
	assert_int_equal(sl_to_u64(SL("11"), 10, &v), E_RANGE);
	assert_true(v == UINT64_MAX); /* untouched on error */
	static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "1x", "0x1" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(sl_to_u64(sl_cstr(bad[i]), 100, &v), E_SYNTAX);
}

static void copies(void **state)
{
	char four[4] = "zzz";

	UNUSED(state);
	assert_int_equal(sl_to_cstr(SL("abc"), four, sizeof(four)), 0);
	assert_string_equal(four, "abc");
	assert_int_equal(sl_to_cstr(SL("abcd"), four, sizeof(four)), E_TOOBIG);
	assert_string_equal(four, "");
	assert_int_equal(sl_to_cstr(SL_NULL, four, 1), 0);
	assert_int_equal(sl_to_cstr(SL_NULL, four, 0), E_TOOBIG);
	char *d = sl_dup(sl_mk("a\0b", 3));
	assert_memory_equal(d, "a\0b", 4);
	free(d);
	d = sl_dup(SL_NULL);
	assert_string_equal(d, "");
	free(d);
	base_fail_nth_alloc = 1;
	assert_null(sl_dup(SL("x")));
}

static void errors(void **state)
{
	struct err e = { 0, NULL, "" };
	char big[600];

	UNUSED(state);
	assert_int_equal(err_set(&e, E_SYNTAX, "RFC 1", "bad %s", "thing"), E_SYNTAX);
	assert_int_equal(e.code, E_SYNTAX);
	assert_string_equal(e.clause, "RFC 1");
	assert_string_equal(e.text, "bad thing");
	assert_int_equal(err_set(NULL, E_LIMIT, NULL, "x"), E_LIMIT);
	errno = ENOENT;
	assert_int_equal(err_errno(&e, E_IO, "open %s", "f"), E_IO);
	assert_string_equal(e.text, "open f: No such file or directory");
	assert_null(e.clause);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_errno(&e, E_IO, "%s", big);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_string_equal(e.text + ERR_TEXT_MAX - 5, " ...");
	for (size_t i = 0; i < sizeof(big) - 1; i++)
		big[i] = "word "[i % 5];
	err_set(&e, E_IO, NULL, "%s", big);
	assert_string_equal(e.text + strlen(e.text) - 9, " word ...");
	errno = ENOENT;
	err_errno(&e, E_IO, "%.500s", big);
	assert_string_equal(e.text + strlen(e.text) - 8, ": No ...");
	memset(big, 'x', sizeof(big) - 1);
	for (size_t i = 1; i + 1 < sizeof(big); i += 2)
		memcpy(big + i, "\xc3\xa9", 2);
	err_set(&e, E_IO, NULL, "%s", big);
	assert_memory_equal(e.text + strlen(e.text) - 6, "\xc3\xa9 ...", 6);
	assert_string_equal(e_name(0), "ok");
	assert_string_equal(e_name(E_NOMEM), "nomem");
	assert_string_equal(e_name(E_INTERNAL), "internal");
	assert_string_equal(e_name(E_INTERNAL - 1), "unknown");
	assert_string_equal(e_name(1), "unknown");
}

static void distances(void **state)
{
	char big[SL_DISTANCE_MAX + 1] = { 0 };

	UNUSED(state);
	assert_int_equal(sl_distance(SL("kitten"), SL("sitting")), 3);
	assert_int_equal(sl_distance(SL("listn_tls"), SL("listen_tls")), 1);
	assert_int_equal(sl_distance(SL("port"), SL("prot")), 2);
	assert_int_equal(sl_distance(SL("same"), SL("same")), 0);
	assert_int_equal(sl_distance(SL_NULL, SL("abc")), 3);
	assert_int_equal(sl_distance(SL("abc"), SL_NULL), 3);
	assert_int_equal(sl_distance(sl_mk(big, sizeof(big)), SL("a")), SL_DISTANCE_MAX);
	assert_int_equal(sl_distance(sl_mk(big, sizeof(big) - 1), SL_NULL), SL_DISTANCE_MAX);
}

static void secrets(void **state)
{
	struct secret s = { NULL, 0 };

	UNUSED(state);
	assert_int_equal(secret_set(&s, SL("one")), 0);
	assert_int_equal(secret_set(&s, SL("other")), 0);
	assert_true(sl_eq(sl_mk(s.p, s.n), SL("other")));
	base_fail_nth_alloc = 1;
	assert_int_equal(secret_set(&s, SL("third")), E_NOMEM);
	assert_true(sl_eq(sl_mk(s.p, s.n), SL("other")));
	secret_clear(&s);
	assert_null(s.p);
	secret_clear(&s);
	char w[8] = "abcdefg";
	wipe(w, sizeof(w));
	assert_memory_equal(w, "\0\0\0\0\0\0\0\0", 8);
}

struct item {
	struct list node;
	int v;
};

static void lists(void **state)
{
	struct list a, b;
	struct item it[6];
	int seen = 0;

	UNUSED(state);
	list_init(&a);
	list_init(&b);
	assert_true(list_empty(&a));
	assert_null(list_pop(&a));
	for (int i = 0; i < 6; i++) {
		it[i].v = i;
		list_init(&it[i].node);
		assert_false(list_linked(&it[i].node));
		list_append(i < 3 ? &a : &b, &it[i].node);
	}
	list_splice(&a, &b);
	list_splice(&a, &b);
	assert_true(list_empty(&b));
	LIST_FOREACH(n, tmp, &a) {
		assert_int_equal(LIST_ENTRY(n, struct item, node)->v, seen);
		if (seen++ == 2)
			list_remove(n);
	}
	assert_int_equal(seen, 6);
	assert_false(list_linked(&it[2].node));
	list_prepend(&a, &it[2].node);
	assert_ptr_equal(list_pop(&a), &it[2].node);
	assert_ptr_equal(list_pop(&a), &it[0].node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compare), cmocka_unit_test(cut),    cmocka_unit_test(numbers),
		cmocka_unit_test(copies),  cmocka_unit_test(errors), cmocka_unit_test(distances),
		cmocka_unit_test(secrets), cmocka_unit_test(lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
