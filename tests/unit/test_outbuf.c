/* test_outbuf.c - the output buffer against a plain array, its pool, and no memory. */
#include "appliance/base/arena.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/outbuf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void put(struct outbuf *b, struct outbuf_pool *pool, const char *src, size_t n)
{
	char *p = outbuf_reserve(b, pool, n);

	assert_non_null(p);
	memcpy(p, src, n);
	b->n += n;
}

static void test_model(void **state)
{
	static char data[8u << 20];
	struct outbuf_pool pool = { 0 };
	struct outbuf b = { 0 };
	size_t in = 0, out = 0;

	UNUSED(state);
	rnd_bytes(data, sizeof(data));
	while (in < sizeof(data)) {
		size_t n = rnd_u64() % (rnd_u64() % 16 ? 3000 : 200000);

		if (n > sizeof(data) - in)
			n = sizeof(data) - in;
		if (n)
			put(&b, &pool, data + in, n);
		in += n;
		assert_int_equal(b.n, in - out);
		if (b.n)
			assert_memory_equal(b.p + b.off, data + out, b.n);
		n = rnd_u64() % (b.n + 1);
		if (rnd_u64() % 4 == 0)
			n = b.n;
		outbuf_consume(&b, &pool, n);
		out += n;
		if (b.n == 0)
			assert_null(b.p);
	}
	outbuf_free(&b, &pool);
	outbuf_pool_free(&pool);
}

/* A burst of connections leaves no more than the pool's limit behind. */
static void test_pool_limit(void **state)
{
	enum { N = 300 };
	static struct outbuf b[N];
	struct outbuf_pool pool = { 0 };

	UNUSED(state);
	for (int i = 0; i < N; i++)
		put(&b[i], &pool, "x", 1);
	for (int i = 0; i < N; i++)
		outbuf_consume(&b[i], &pool, 1);
	assert_int_equal(pool.n_small, OUTBUF_POOL_SMALL);
	put(&b[0], &pool, "x", 1); /* and is used again */
	assert_int_equal(pool.n_small, OUTBUF_POOL_SMALL - 1);
	outbuf_free(&b[0], NULL);
	outbuf_pool_free(&pool);
	assert_null(pool.small);
}

static void test_no_memory(void **state)
{
	static char big[10000];
	struct outbuf_pool pool = { 0 };
	struct outbuf b = { 0 };

	UNUSED(state);
	put(&b, &pool, "abc", 3);
	base_fail_nth_alloc = 1;
	assert_null(outbuf_reserve(&b, &pool, sizeof(big)));
	assert_int_equal(b.n, 3);
	assert_memory_equal(b.p + b.off, "abc", 3);
	assert_null(outbuf_reserve(&b, &pool, SIZE_MAX - 2));
	base_fail_nth_alloc = 0;
	outbuf_free(&b, &pool);
	outbuf_pool_free(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_pool_limit),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests_name("outbuf", tests, NULL, NULL);
}
