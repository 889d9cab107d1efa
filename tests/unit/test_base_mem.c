/* test_base_mem.c - bounded buffers and arenas, with the n-th allocation failing for every n. */
#include "appliance/base/arena.h"
#include "appliance/base/buf.h"
#include "appliance/base/rnd.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void buf_limit(void **state)
{
	struct buf b;

	UNUSED(state);
	buf_init(&b, 10);
	assert_int_equal(buf_sl(&b).n, 0);
	assert_int_equal(buf_add(&b, SL("12345678")), 0);
	assert_int_equal(buf_add(&b, SL("abc")), E_TOOBIG);
	assert_true(sl_eq(buf_sl(&b), SL("12345678")));
	assert_int_equal(buf_addf(&b, "%d", 123), E_TOOBIG);
	assert_int_equal(buf_addf(&b, "%d%s", 1, ""), 0);
	assert_int_equal(buf_addc(&b, 'x'), 0);
	assert_int_equal(buf_addc(&b, 'y'), E_TOOBIG);
	assert_int_equal(buf_addf(&b, "%s", ""), 0);
	assert_int_equal(buf_add(&b, SL_NULL), 0);
	assert_true(sl_eq(buf_sl(&b), SL("123456781x")));
	assert_null(buf_reserve(&b, 1));
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_consume(&b, 4);
	assert_true(sl_eq(buf_sl(&b), SL("56781x")));
	assert_int_equal(buf_add(&b, SL("ABCD")), 0);
	assert_true(sl_eq(buf_sl(&b), SL("56781xABCD")));
	buf_consume(&b, 99);
	assert_null(b.p); /* an empty buffer holds no memory */
	char *p = buf_reserve(&b, 3);
	assert_non_null(p);
	p[0] = 'q';
	buf_commit(&b, 1);
	assert_true(sl_eq(buf_sl(&b), SL("q")));
	buf_reset(&b);
	assert_int_equal(b.n, 0);
	assert_non_null(b.p);
	buf_free(&b);
	assert_int_equal(b.max, 10);
}

/* Against a plain array as the model. */
static void buf_model(void **state)
{
	static char model[40000];
	size_t n = 0;
	struct buf b;
	unsigned seed = 4711;

	UNUSED(state);
	buf_init(&b, 20000);
	for (int i = 0; i < 20000; i++) {
		char chunk[300];
		size_t k = (size_t)rand_r(&seed) % sizeof(chunk);
		memset(chunk, 'a' + i % 26, sizeof(chunk));
		if (rand_r(&seed) % 2) {
			int rc = buf_add(&b, sl_mk(chunk, k));
			assert_int_equal(rc, n + k > 20000 && k ? E_TOOBIG : 0);
			if (rc == 0) {
				memcpy(model + n, chunk, k);
				n += k;
			}
		} else {
			k = k > n ? n : k;
			buf_consume(&b, k);
			memmove(model, model + k, n - k);
			n -= k;
		}
		assert_true(sl_eq(buf_sl(&b), sl_mk(model, n)));
		assert_true(b.cap <= 4 * 20000);
	}
	buf_free(&b);
}

static void buf_out_of_memory(void **state)
{
	struct buf b;

	UNUSED(state);
	buf_init(&b, 5000);
	base_fail_nth_alloc = 1;
	assert_int_equal(buf_add(&b, SL("x")), E_NOMEM);
	assert_int_equal(buf_add(&b, SL("x")), 0);
	base_fail_nth_alloc = 1;
	assert_int_equal(buf_addf(&b, "%1000d", 1), E_NOMEM);
	assert_true(sl_eq(buf_sl(&b), SL("x")));
	base_fail_nth_alloc = 1;
	assert_null(buf_reserve(&b, 1000));
	assert_int_equal(buf_addf(&b, "%1000d", 1), 0);
	assert_int_equal(b.n, 1001);
	buf_free(&b);
	base_fail_nth_alloc = 0;
}

static void arena_basics(void **state)
{
	struct arena *a = arena_new(64, 100000);

	UNUSED(state);
	assert_non_null(a);
	for (size_t i = 0; i < 200; i++) {
		char *p = arena_alloc(a, i);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		memset(p, 0xff, i);
		char *z = arena_zalloc(a, 33);
		for (size_t k = 0; k < 33; k++)
			assert_int_equal(z[k], 0);
	}
	char *x = arena_bytes(a, 3), *y = arena_bytes(a, 3);
	assert_ptr_equal(y, x + 3);
	struct sl d = arena_dup(a, SL("copy"));
	assert_true(sl_eq(d, SL("copy")));
	assert_non_null(arena_dup(a, SL_NULL).p);
	assert_true(sl_eq(arena_printf(a, "%s-%d", "n", 5), SL("n-5")));
	assert_true(arena_used(a) > 200 * 33);
	arena_free(&a);
	assert_null(a);
	arena_free(&a);
}

static void arena_cap(void **state)
{
	struct arena *a = arena_new(100, 1000);
	size_t got = 0;

	UNUSED(state);
	assert_null(arena_alloc(a, 1001));
	assert_null(arena_alloc(a, SIZE_MAX));
	assert_null(arena_alloc(a, SIZE_MAX - 20));
	while (arena_alloc(a, 16))
		got += 16;
	assert_true(got >= 700 && got <= 1000);
	assert_int_equal(arena_dup(a, SL("0123456789012345")).n, 0);
	assert_null(arena_printf(a, "%100d", 1).p);
	arena_free(&a);
}

/* What a parser does: fail each allocation in turn, until none fails any more. */
static void arena_fail_nth(void **state)
{
	UNUSED(state);
	for (unsigned nth = 1;; nth++) {
		base_fail_nth_alloc = nth;
		struct arena *a = arena_new(32, 1 << 20);
		bool ok = a != NULL;
		for (int i = 0; ok && i < 50; i++)
			ok = arena_alloc(a, 200) != NULL;
		arena_free(&a);
		if (ok) {
			assert_true(nth > 3);
			assert_true(base_fail_nth_alloc > 0);
			break;
		}
		assert_int_equal(base_fail_nth_alloc, 0);
	}
	base_fail_nth_alloc = 0;
}

static void random_octets(void **state)
{
	unsigned char a[600] = { 0 }, b[600] = { 0 };
	char t[33];

	UNUSED(state);
	rnd_bytes(a, sizeof(a));
	rnd_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_true(rnd_u64() != rnd_u64());
	rnd_token(t, 32);
	assert_int_equal(strlen(t), 32);
	assert_int_equal(strspn(t, "abcdefghijkmnpqrstuvwxyz23456789"), 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_limit),         cmocka_unit_test(buf_model),
		cmocka_unit_test(buf_out_of_memory), cmocka_unit_test(arena_basics),
		cmocka_unit_test(arena_cap),         cmocka_unit_test(arena_fail_nth),
		cmocka_unit_test(random_octets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
