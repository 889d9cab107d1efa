/* test_base_wire.c - cursors on every truncated prefix; base64, hex and UTF-8. */
#include "appliance/base/cursor.h"
#include "appliance/base/enc.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static size_t write_all(unsigned char *dst, size_t cap, bool *bad_r)
{
	struct wr w = wr_init(dst, cap);

	wr_u8(&w, 0xab);
	wr_u16(&w, 0x1234);
	wr_u32(&w, 0xdeadbeef);
	wr_u64(&w, 0x0102030405060708ull);
	wr_cstr(&w, SL("text"));
	wr_cstr(&w, SL_NULL);
	wr_bytes(&w, SL("tail"));
	*bad_r = w.bad;
	return w.n;
}

struct fields {
	uint64_t a, b, c, d;
	struct sl s, empty, tail;
};

static bool read_all(struct sl in, struct fields *f)
{
	struct rd r = rd_init(in);

	f->a = rd_u8(&r);
	f->b = rd_u16(&r);
	f->c = rd_u32(&r);
	f->d = rd_u64(&r);
	f->s = rd_cstr(&r, 10);
	f->empty = rd_cstr(&r, 10);
	f->tail = rd_bytes(&r, 4);
	return !r.bad;
}

static void round_trip(void **state)
{
	unsigned char m[64];
	bool bad;
	size_t n = write_all(m, sizeof(m), &bad);
	struct fields f;

	UNUSED(state);
	assert_false(bad);
	assert_int_equal(n, 1 + 2 + 4 + 8 + 5 + 1 + 4);
	assert_true(read_all(sl_mk((char *)m, n), &f));
	assert_int_equal(f.a, 0xab);
	assert_int_equal(f.b, 0x1234);
	assert_int_equal(f.c, 0xdeadbeef);
	assert_true(f.d == 0x0102030405060708ull);
	assert_true(sl_eq(f.s, SL("text")) && f.empty.n == 0 && sl_eq(f.tail, SL("tail")));
}

static void every_prefix(void **state)
{
	unsigned char m[64];
	bool bad;
	size_t n = write_all(m, sizeof(m), &bad);

	UNUSED(state);
	for (size_t i = 0; i < n; i++) {
		struct fields f;
		unsigned char *cut =
			malloc(i ? i : 1); /* exact size: a sanitizer sees an over-read */
		memcpy(cut, m, i);
		assert_false(read_all(sl_mk((char *)cut, i), &f));
		free(cut);
		unsigned char *room = malloc(i ? i : 1);
		assert_true(write_all(room, i, &bad) <= i);
		assert_true(bad);
		free(room);
	}
}

static void sticky(void **state)
{
	struct rd r = rd_init(SL("abc"));
	unsigned char m[8];
	struct wr w = wr_init(m, sizeof(m));

	UNUSED(state);
	assert_int_equal(rd_u32(&r), 0);
	assert_true(r.bad);
	assert_int_equal(rd_u8(&r), 0); /* there would be octets, but the reader is broken */
	assert_int_equal(rd_bytes(&r, 1).n, 0);
	assert_int_equal(rd_cstr(&r, 3).n, 0);
	r = rd_init(sl_mk("abc\0", 4));
	assert_int_equal(rd_cstr(&r, 3).n, 0); /* the NUL is one too far */
	assert_true(r.bad);
	r = rd_init(sl_mk("abc\0", 4));
	assert_true(sl_eq(rd_cstr(&r, 4), SL("abc")));
	assert_int_equal(r.n, 0);
	r = rd_init(SL_NULL);
	assert_int_equal(rd_bytes(&r, 0).n, 0);
	assert_false(r.bad);
	assert_int_equal(rd_cstr(&r, 9).n, 0);
	assert_true(r.bad);
	wr_cstr(&w, sl_mk("a\0b", 3)); /* a NUL inside would be read as a shorter string */
	assert_true(w.bad);
	assert_int_equal(w.n, 0);
	wr_u8(&w, 1);
	assert_int_equal(w.n, 0);
}

static void check_b64(struct sl plain, struct sl coded)
{
	struct buf b;

	buf_init(&b, 1000);
	assert_int_equal(b64_encode(&b, plain), 0);
	assert_true(sl_eq(buf_sl(&b), coded));
	buf_free(&b);
	assert_int_equal(b64_decode(&b, coded), 0);
	assert_true(sl_eq(buf_sl(&b), plain));
	buf_free(&b);
}

static void base64(void **state)
{
	struct buf b;

	UNUSED(state);
	/* RFC 4648 section 10 */
	check_b64(SL_NULL, SL(""));
	check_b64(SL("f"), SL("Zg=="));
	check_b64(SL("fo"), SL("Zm8="));
	check_b64(SL("foo"), SL("Zm9v"));
	check_b64(SL("foob"), SL("Zm9vYg=="));
	check_b64(SL("fooba"), SL("Zm9vYmE="));
	check_b64(SL("foobar"), SL("Zm9vYmFy"));
	check_b64(SL("\xfb\xff\xfe"), SL("+//+"));
	static const char *const bad[] = {
		"Z",    "Zg",   "Zg=",    "Zg===", "====",     "=AAA", "Zh==",
		"Zm9=", "Zm 9", "Zm9v\n", "A===",  "Zg==Zg==", "Zm-_", "\xff\xff\xff\xff"
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		buf_init(&b, 1000);
		assert_int_equal(b64_decode(&b, sl_cstr(bad[i])), E_SYNTAX);
		assert_int_equal(b.n, 0);
		buf_free(&b);
	}
	buf_init(&b, 3);
	assert_int_equal(b64_encode(&b, SL("x")), E_TOOBIG);
	assert_int_equal(b64_decode(&b, SL("Zm9vYmFy")), E_TOOBIG);
	buf_free(&b);
}

static void hex(void **state)
{
	struct buf b;

	UNUSED(state);
	buf_init(&b, 100);
	assert_int_equal(hex_encode(&b, sl_mk("\x00\x7f\xff\xa5", 4)), 0);
	assert_true(sl_eq(buf_sl(&b), SL("007fffa5")));
	buf_reset(&b);
	assert_int_equal(hex_decode(&b, SL("007FffA5")), 0);
	assert_true(sl_eq(buf_sl(&b), sl_mk("\x00\x7f\xff\xa5", 4)));
	buf_reset(&b);
	assert_int_equal(hex_decode(&b, SL("0")), E_SYNTAX);
	assert_int_equal(hex_decode(&b, SL("0g")), E_SYNTAX);
	assert_int_equal(hex_decode(&b, SL("x0")), E_SYNTAX);
	assert_int_equal(b.n, 0);
	buf_free(&b);
}

static void utf8_round_trip(void **state)
{
	UNUSED(state);
	for (uint32_t cp = 0; cp < 0x110100; cp++) {
		char c[4];
		uint32_t back = 0;
		size_t n = utf8_put(cp, c);
		bool bad = (cp >= 0xd800 && cp <= 0xdfff) || cp > 0x10ffff;
		assert_int_equal(n == 0, bad);
		if (bad)
			continue;
		assert_int_equal(utf8_next(sl_mk(c, n), &back), n);
		assert_int_equal(back, cp);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(utf8_next(sl_mk(c, k), &back), 0);
	}
}

static void utf8_bad(void **state)
{
	static const char *const bad[] = { "\x80",
					   "\xc0\x80",
					   "\xc1\xbf",
					   "\xe0\x80\x80",
					   "\xed\xa0\x80",
					   "\xf0\x80\x80\x80",
					   "\xf4\x90\x80\x80",
					   "\xf5\x80\x80\x80",
					   "\xff",
					   "a\xc3" };

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(utf8_valid(sl_cstr(bad[i])));
	assert_true(utf8_valid(SL("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80")));
	assert_true(utf8_valid(SL_NULL));
	struct sl s = SL("a\xe2\x82\xac"
			 "b");
	assert_int_equal(utf8_prefix(s, 0).n, 0);
	assert_int_equal(utf8_prefix(s, 1).n, 1);
	assert_int_equal(utf8_prefix(s, 2).n, 1);
	assert_int_equal(utf8_prefix(s, 3).n, 1);
	assert_int_equal(utf8_prefix(s, 4).n, 4);
	assert_int_equal(utf8_prefix(s, 9).n, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip), cmocka_unit_test(every_prefix),
		cmocka_unit_test(sticky),     cmocka_unit_test(base64),
		cmocka_unit_test(hex),        cmocka_unit_test(utf8_round_trip),
		cmocka_unit_test(utf8_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
