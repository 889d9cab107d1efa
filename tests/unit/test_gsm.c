/* test_gsm.c - hal/gsm: alphabets, splitting, user data headers. Rules TEXT-1 to TEXT-17. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "appliance/base/enc.h"
#include "hal/gsm/concat.h"

#include <unigbrk.h>

#define BUDGET (1u << 22)

static struct arena *arena;

static int setup(void **state)
{
	UNUSED(state);
	arena = arena_new(65536, BUDGET);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	UNUSED(state);
	arena_free(&arena);
	return 0;
}

static void check_sl(struct sl got, struct sl want)
{
	if (!sl_eq(got, want))
		fail_msg("got \"" SLFMT "\" want \"" SLFMT "\"", SLARG(got), SLARG(want));
}

static void check_decode(enum gsm_enc enc, struct sl units, struct sl want)
{
	struct sl got;

	assert_int_equal(gsm_decode(arena, enc, units, &got), 0);
	check_sl(got, want);
}

static void check_both(enum gsm_enc enc, struct sl text, struct sl units)
{
	struct sl got;

	assert_int_equal(gsm_encode(arena, enc, text, &got), 0);
	assert_true(sl_eq(got, units));
	check_decode(enc, units, text);
}

/* The table of TS 23.038 section 6.2.1, in order. */
static const char main_table[] = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ" /* 00-1a */
				 "ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
				 "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

static void test_default_alphabet(void **state)
{
	char all[127];
	size_t n = 0;

	UNUSED(state);
	for (int i = 0; i < 128; i++)
		if (i != 0x1b)
			all[n++] = (char)i;
	check_both(GSM_ENC_7BIT, sl_cstr(main_table), sl_mk(all, n));
}

static void test_extension_table(void **state)
{
	UNUSED(state);
	check_both(GSM_ENC_7BIT, SL("^{}\\[~]|€"),
		   SL("\x1b\x14\x1b\x28\x1b\x29\x1b\x2f\x1b\x3c\x1b\x3d\x1b\x3e\x1b\x40\x1b\x65"));
}

/* TEXT-2, TEXT-3: unknown escapes, page break, second escape, lone escape, eighth bit. */
static void test_odd_septets(void **state)
{
	UNUSED(state);
	check_decode(GSM_ENC_7BIT,
		     SL("a\x1b\x0a"
			"b"),
		     SL("a\nb"));
	check_decode(GSM_ENC_7BIT,
		     SL("a\x1b\x1b"
			"b"),
		     SL("a b"));
	check_decode(GSM_ENC_7BIT,
		     SL("a\x1b"
			"b"),
		     SL("ab"));
	check_decode(GSM_ENC_7BIT,
		     SL("a\x1b\x00"
			"b"),
		     SL("a@b"));
	check_decode(GSM_ENC_7BIT, SL("ab\x1b"), SL("ab "));
	check_decode(GSM_ENC_7BIT, SL("a\x1b\xe9"), SL("a é"));
	check_decode(GSM_ENC_7BIT, SL("\xe9"), SL("é"));
	check_decode(GSM_ENC_7BIT, SL(""), SL(""));
}

static void test_not_in_alphabet(void **state)
{
	static const char *const no[] = { "ç", "`", "\t", "я", "😀", "ΐ", "α", "ÿ" };
	struct sl out = SL("untouched");

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_int_equal(gsm_encode(arena, GSM_ENC_7BIT, sl_cstr(no[i]), &out),
				 E_UNSUPPORTED);
	assert_int_equal(gsm_encode(arena, GSM_ENC_LATIN1, SL("€"), &out), E_UNSUPPORTED);
	assert_int_equal(gsm_encode(arena, GSM_ENC_7BIT, SL("a\xc3"), &out), E_SYNTAX);
	assert_int_equal(gsm_encode(arena, GSM_ENC_UCS2, SL("\xed\xa0\x80"), &out), E_SYNTAX);
	assert_int_equal(gsm_encode(arena, GSM_ENC_OCTETS, SL("a"), &out), E_UNSUPPORTED);
	assert_int_equal(gsm_decode(arena, GSM_ENC_OCTETS, SL("a"), &out), E_UNSUPPORTED);
	check_sl(out, SL("untouched"));
}

static void test_ucs2(void **state)
{
	UNUSED(state);
	check_both(GSM_ENC_UCS2, SL("aя€"), SL("\0a\x04\x4f\x20\xac"));
	check_both(GSM_ENC_UCS2, SL("😀\U0010FFFD"), SL("\xd8\x3d\xde\x00\xdb\xff\xdf\xfd"));
	/* TEXT-4: an odd octet, lone surrogates, non-characters; TEXT-5: swapped octets are marked.
	 */
	check_decode(GSM_ENC_UCS2, SL("\0a\0"), SL("a"));
	check_decode(GSM_ENC_UCS2, SL("\0a\xd8\x3d\0b"), SL("ab"));
	check_decode(GSM_ENC_UCS2, SL("\0a\xde\x00\0b\xd8\x3d"), SL("ab"));
	check_decode(GSM_ENC_UCS2, SL("\xd8\x3d\xd8\x3d\xde\x00"), SL("😀"));
	check_decode(GSM_ENC_UCS2, SL("\0a\xff\xff\xff\xfe"), SL("a"));
	check_decode(GSM_ENC_UCS2,
		     SL("\xff\xfe"
			"a\0\x3d\xd8\x00\xde"),
		     SL("a😀"));
}

/* TEXT-1: both ways. */
static void test_forbidden_characters(void **state)
{
	struct sl out;

	UNUSED(state);
	check_decode(GSM_ENC_UCS2, SL("\0a\0\0\0\x01\0\x0b\0\x1f\0\t\0b"), SL("a\tb"));
	check_decode(GSM_ENC_LATIN1, SL("a\x01\x0b\x7f\xe9"), SL("a\x7fé"));
	assert_int_equal(gsm_encode(arena, GSM_ENC_7BIT,
				    SL("a\x01\x0c"
				       "b"),
				    &out),
			 0);
	check_sl(out, SL("ab"));
	assert_int_equal(gsm_encode(arena, GSM_ENC_UCS2,
				    SL("\xef\xbf\xbf"
				       "b"),
				    &out),
			 0);
	assert_true(sl_eq(out, SL("\0b")));
}

static void test_latin1(void **state)
{
	UNUSED(state);
	check_both(GSM_ENC_LATIN1, SL("naïve ç"), SL("na\xefve \xe7"));
}

static void test_packing(void **state)
{
	struct sl out, back;

	UNUSED(state);
	/* "hellohello": the well-known example. */
	assert_int_equal(gsm7_pack(arena, SL("hellohello"), 0, &out), 0);
	assert_true(sl_eq(out, SL("\xe8\x32\x9b\xfd\x46\x97\xd9\xec\x37")));
	assert_int_equal(gsm7_fill(6), 1);
	assert_int_equal(gsm7_fill(7), 0);
	for (unsigned fill = 0; fill < 7; fill++)
		for (size_t n = 0; n <= 160; n++) {
			char s[160];

			for (size_t i = 0; i < n; i++)
				s[i] = (char)((i * 37 + n) & 0x7f);
			assert_int_equal(gsm7_pack(arena, sl_mk(s, n), fill, &out), 0);
			assert_int_equal(out.n, gsm7_packed_octets(n, fill));
			assert_int_equal(gsm7_unpack(arena, out, n, fill, &back), 0);
			assert_true(sl_eq(back, sl_mk(s, n)));
			for (size_t cut = 0; cut < out.n; cut++)
				assert_int_equal(
					gsm7_unpack(arena, sl_sub(out, 0, cut), n, fill, &back),
					n ? E_SYNTAX : 0);
			arena_free(&arena);
			arena = arena_new(65536, BUDGET);
		}
	assert_int_equal(gsm7_unpack(arena, SL("ab"), SIZE_MAX, 0, &back), E_SYNTAX);
}

static struct gsm_text split(struct sl text, struct gsm_split_cfg cfg)
{
	struct gsm_text t = { 0 };
	struct err e = { 0 };

	if (gsm_split(arena, text, &cfg, &t, &e) < 0)
		fail_msg("split: %s", e.text);
	return t;
}

static struct sl repeat(const char *s, size_t n)
{
	size_t len = strlen(s);
	char *p = arena_bytes(arena, len * n);

	for (size_t i = 0; i < n; i++)
		memcpy(p + i * len, s, len);
	return sl_mk(p, len * n);
}

static void check_split(struct sl text, enum gsm_enc enc, unsigned n, size_t first_octets)
{
	struct gsm_text t = split(text, (struct gsm_split_cfg){ 0 });

	assert_int_equal(t.enc, enc);
	assert_int_equal(t.n, n);
	assert_int_equal(t.part[0].n, first_octets);
}

/* TEXT-10, TEXT-11. */
static void test_split_limits(void **state)
{
	UNUSED(state);
	check_split(SL(""), GSM_ENC_7BIT, 1, 0);
	check_split(repeat("a", 160), GSM_ENC_7BIT, 1, 160);
	check_split(repeat("a", 161), GSM_ENC_7BIT, 2, 153);
	check_split(repeat("a", 306), GSM_ENC_7BIT, 2, 153);
	check_split(repeat("a", 307), GSM_ENC_7BIT, 3, 153);
	check_split(repeat("я", 70), GSM_ENC_UCS2, 1, 140);
	check_split(repeat("я", 71), GSM_ENC_UCS2, 2, 134);
	check_split(repeat("я", 135), GSM_ENC_UCS2, 3, 134);
	assert_int_equal(split(repeat("a", 161), (struct gsm_split_cfg){ .ref16 = true }).part[0].n,
			 152);
	assert_int_equal(split(repeat("я", 71), (struct gsm_split_cfg){ .ref16 = true }).part[0].n,
			 132);
	/* The fewest parts win: 160 "[" are two septets each, but one octet of Latin-1. */
	struct gsm_split_cfg all = { .encs = 7 };
	assert_int_equal(split(repeat("[", 130), all).enc, GSM_ENC_LATIN1);
	assert_int_equal(split(repeat("ç", 130), all).enc, GSM_ENC_LATIN1);
	assert_int_equal(split(repeat("a", 130), all).enc, GSM_ENC_7BIT);
	assert_int_equal(split(SL("a"), all).enc, GSM_ENC_7BIT);
	assert_int_equal(split(SL("é"), all).enc, GSM_ENC_7BIT);
	/* TEXT-1: what no text may have is not cut into parts, either. */
	check_sl(split(SL("a\x01"
			  "b"),
		       all)
			 .part[0],
		 SL("ab"));
}

/* TEXT-20: a bearer whose default alphabet is not GSM's. */
static void test_split_other_default(void **state)
{
	struct gsm_split_cfg latin1 = { .encs = 5 | GSM_7BIT_AS_LATIN1 };
	struct gsm_split_cfg ascii = { .encs = 5 | GSM_7BIT_AS_ASCII };

	UNUSED(state);
	assert_int_equal(split(SL("[a]"), latin1).enc, GSM_ENC_7BIT);
	assert_int_equal(split(SL("é"), latin1).enc, GSM_ENC_7BIT);
	assert_int_equal(split(SL("€"), latin1).enc, GSM_ENC_UCS2);
	assert_int_equal(split(SL("Δ"), latin1).enc, GSM_ENC_UCS2);
	assert_int_equal(split(SL("[a]"), ascii).enc, GSM_ENC_7BIT);
	assert_int_equal(split(SL("é"), ascii).enc, GSM_ENC_UCS2);
}

/* TEXT-12: what must not be cut. */
static void test_split_keeps_together(void **state)
{
	UNUSED(state);
	/* 152 septets, then an escape pair. */
	struct sl text = arena_printf(arena, SLFMT "€" SLFMT, SLARG(repeat("a", 152)),
				      SLARG(repeat("b", 20)));
	check_split(text, GSM_ENC_7BIT, 2, 152);
	/* 50 emoji: 67 units would end in the middle of the 34th. */
	check_split(repeat("😀", 50), GSM_ENC_UCS2, 2, 132);
	/* A family of 11 units at 60: moves whole to the second part. */
	text = arena_printf(arena, SLFMT "👨‍👩‍👧‍👦" SLFMT, SLARG(repeat("я", 60)),
			    SLARG(repeat("я", 20)));
	check_split(text, GSM_ENC_UCS2, 2, 120);
	/* e + combining acute at the edge; a flag (two regional indicators) at the edge. */
	text = arena_printf(arena, SLFMT "e\u0301" SLFMT, SLARG(repeat("я", 66)),
			    SLARG(repeat("я", 20)));
	check_split(text, GSM_ENC_UCS2, 2, 132);
	text = arena_printf(arena, SLFMT "🇫🇷" SLFMT, SLARG(repeat("я", 64)),
			    SLARG(repeat("я", 20)));
	check_split(text, GSM_ENC_UCS2, 2, 128);
	/* A cluster that no part can hold is cut between characters. */
	text = arena_printf(arena, "ae" SLFMT, SLARG(repeat("\u0301", 100)));
	check_split(text, GSM_ENC_UCS2, 3, 2);
	/* The same with a pair that passes the limit by one unit after the cluster was moved. */
	text = arena_printf(arena, "ae" SLFMT SLFMT, SLARG(repeat("\u0301", 65)),
			    SLARG(repeat("\U000E0100", 9)));
	struct gsm_text t = split(text, (struct gsm_split_cfg){ 0 });
	for (unsigned i = 0; i < t.n; i++)
		assert_true(t.part[i].n <= 134);
}

/* TEXT-13. */
static void test_split_too_long(void **state)
{
	struct gsm_split_cfg cfg = { 0 };
	struct gsm_text t = { .n = 77 };
	struct err e;

	UNUSED(state);
	assert_int_equal(split(repeat("a", 1530), cfg).n, 10);
	assert_int_equal(gsm_split(arena, repeat("a", 1531), &cfg, &t, &e), E_TOOBIG);
	assert_string_equal(e.clause, "TEXT-13");
	/* Fits by count of units, not by what can be cut. */
	cfg.max_parts = 2;
	assert_int_equal(gsm_split(arena, repeat("😀", 67), &cfg, &t, &e), E_TOOBIG);
	cfg.max_parts = 255;
	assert_int_equal(split(repeat("a", 255 * 153), cfg).n, 255);
	assert_int_equal(gsm_split(arena, repeat("a", 255 * 153 + 1), &cfg, &t, &e), E_TOOBIG);
	assert_int_equal(gsm_split(arena, SL("\xff"), &cfg, &t, &e), E_SYNTAX);
	cfg.encs = GSM_ENC_BIT(GSM_ENC_7BIT);
	assert_int_equal(gsm_split(arena, SL("я"), &cfg, &t, &e), E_UNSUPPORTED);
	assert_int_equal(t.n, 77);
}

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint32_t rnd32(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

static uint32_t any_char(void)
{
	uint32_t cp;

	do
		cp = rnd32(0x110000);
	while (!gsm_char_ok(cp));
	return cp;
}

/* Texts that lean to what is hard: escapes, clusters, pairs. */
static struct sl random_text(void)
{
	static const char *const hard[] = {
		"€",      "[",        "😀",       "👨‍👩‍👧‍👦",
		"🇫🇷",     "🇩🇪",       "e\u0301", "\u0301",
		"\u200d", "👍🏽", "\r\n",    "\r",
		"\n",     "\t",       "각",      "न्",
		"я",      "Ω",        "ç",       "@",
		"한"
	};
	size_t chars = rnd32(400), mode = rnd32(4);
	char *p = arena_bytes(arena, chars * 32 + 1), *q = p;

	for (size_t i = 0; i < chars; i++) {
		if (mode == 0 || (mode == 1 && rnd32(20))) {
			*q++ = (char)('a' + rnd32(26));
		} else if (mode < 3 || rnd32(2)) {
			const char *s = hard[rnd32(mode == 1 ? 2 : ARRAY_LEN(hard))];

			memcpy(q, s, strlen(s));
			q += strlen(s);
		} else {
			q += utf8_put(any_char(), q);
		}
	}
	return sl_mk(p, (size_t)(q - p));
}

/* True if a cut at octet `at` of text is at a cluster boundary, or within a cluster that no part
 * can hold. */
static bool cut_allowed(struct sl text, const char *breaks, size_t at, enum gsm_enc enc,
			size_t limit)
{
	size_t from = at, units = 0;

	if (breaks[at])
		return true;
	while (!breaks[from])
		from--;
	for (size_t i = from, n; i < text.n && (i == from || !breaks[i]); i += n) {
		uint32_t cp = 0;

		n = utf8_next(sl_sub(text, i, text.n), &cp);
		units += gsm_char_units(enc, cp);
	}
	return units > limit;
}

static void check_parts(struct sl text, const struct gsm_text *t, bool ref16)
{
	size_t limit = gsm_part_units(t->enc, t->n > 1, ref16), at = 0;
	char *breaks = arena_bytes(arena, text.n + 1);

	u8_grapheme_breaks((const uint8_t *)text.p, text.n, breaks);
	for (unsigned i = 0; i < t->n; i++) {
		struct sl alone;

		assert_true(t->part[i].n / (t->enc == GSM_ENC_UCS2 ? 2 : 1) <= limit);
		assert_true(t->n == 1 || t->part[i].n > 0);
		if (i)
			assert_true(cut_allowed(text, breaks, at, t->enc, limit));
		assert_int_equal(gsm_decode(arena, t->enc, t->part[i], &alone), 0);
		check_sl(alone, sl_sub(text, at, at + alone.n));
		at += alone.n;
	}
	assert_int_equal(at, text.n);
}

/* Send the parts with their headers in random order; put them together by what the headers say. */
static void check_any_order(struct sl text, const struct gsm_text *t, bool ref16)
{
	struct gsm_body got[GSM_PARTS_MAX];
	struct sl wire[GSM_PARTS_MAX], back;

	for (unsigned i = 0; i < t->n; i++) {
		uint8_t udh[GSM_UDH_CONCAT_OCTETS];
		struct gsm_concat c = { (uint16_t)(ref16 ? 0xabcd : 0xcd), (uint8_t)t->n,
					(uint8_t)(i + 1), ref16 };
		size_t h = gsm_udh_build(&c, udh);
		char *p = arena_bytes(arena, h + t->part[i].n);

		assert_true(h + gsm7_packed_octets(t->part[i].n, 0) <= 140 ||
			    t->enc != GSM_ENC_7BIT);
		assert_true(h + t->part[i].n <= 140 || t->enc == GSM_ENC_7BIT);
		memcpy(p, udh, h);
		if (t->part[i].n)
			memcpy(p + h, t->part[i].p, t->part[i].n);
		wire[i] = sl_mk(p, h + t->part[i].n);
	}
	for (unsigned left = t->n; left; left--) {
		unsigned pick = rnd32(left);
		struct gsm_udh udh;
		struct sl data;

		assert_int_equal(gsm_udh_parse(wire[pick], &udh, &data), 0);
		assert_int_equal(udh.concat.total, t->n);
		assert_int_equal(udh.concat.ref, ref16 ? 0xabcd : 0xcd);
		got[udh.concat.seq - 1] = (struct gsm_body){ t->enc, data, udh.concat };
		wire[pick] = wire[left - 1];
	}
	assert_int_equal(gsm_join(arena, got, t->n, &back), 0);
	check_sl(back, text);
}

/* TEXT-19: any valid text in, the same text out, whatever the coding, the splitting, the order. */
static void test_property_same_text(void **state)
{
	UNUSED(state);
	for (int i = 0; i < 4000; i++) {
		struct sl text = random_text();

		for (unsigned encs = 4; encs < 8; encs++) {
			bool ref16 = rnd32(2);
			struct gsm_text t = split(text, (struct gsm_split_cfg){ encs, 255, ref16 });

			check_parts(text, &t, ref16);
			if (t.n > 1)
				check_any_order(text, &t, ref16);
		}
		arena_free(&arena);
		arena = arena_new(65536, BUDGET);
	}
}

/* TEXT-14: pairs that another system cut are whole after joining. */
static void test_join_foreign_cuts(void **state)
{
	struct gsm_body parts[] = {
		{ GSM_ENC_UCS2, SL("\0a\xd8\x3d"), { 0 } },
		{ GSM_ENC_UCS2, SL("\xde\x00\0b"), { 0 } },
		{ GSM_ENC_7BIT, SL("c\x1b"), { 0 } },
		{ GSM_ENC_7BIT,
		  SL("\x65"
		     "d"),
		  { 0 } },
		{ GSM_ENC_LATIN1, SL("\xe7"), { 0 } },
	};
	struct sl out = SL("untouched");

	UNUSED(state);
	assert_int_equal(gsm_join(arena, parts, ARRAY_LEN(parts), &out), 0);
	check_sl(out, SL("a😀bc€dç"));
	parts[2].enc = GSM_ENC_OCTETS;
	assert_int_equal(gsm_join(arena, parts, ARRAY_LEN(parts), &out), E_UNSUPPORTED);
	assert_int_equal(gsm_join(arena, NULL, 0, &out), 0);
	assert_int_equal(out.n, 0);
}

static void check_udh(struct sl ud, int rc, struct gsm_concat want, size_t rest_n)
{
	struct gsm_udh udh = { 0 };
	struct sl rest = SL_NULL;

	assert_int_equal(gsm_udh_parse(ud, &udh, &rest), rc);
	assert_int_equal(udh.concat.ref, want.ref);
	assert_int_equal(udh.concat.total, want.total);
	assert_int_equal(udh.concat.seq, want.seq);
	assert_int_equal(udh.concat.ref16, want.ref16);
	assert_int_equal(rest.n, rest_n);
}

/* TEXT-15 to TEXT-17. */
static void test_udh(void **state)
{
	struct gsm_concat none = { 0 };

	UNUSED(state);
	check_udh(SL("\x05\x00\x03\x2a\x03\x02hi"), 0, (struct gsm_concat){ 0x2a, 3, 2, false }, 2);
	check_udh(SL("\x06\x08\x04\x12\x34\x03\x01hi"), 0,
		  (struct gsm_concat){ 0x1234, 3, 1, true }, 2);
	check_udh(SL("\x00hi"), 0, none, 2);
	/* Other elements before and after: ports, a language table. */
	check_udh(SL("\x0e\x05\x04\x15\x8a\x00\x00\x00\x03\x01\x02\x01\x24\x01\x01x"), 0,
		  (struct gsm_concat){ 1, 2, 1, false }, 1);
	/* Numbers that make no sense are ignored; of two that do, the last counts. */
	check_udh(SL("\x05\x00\x03\x2a\x00\x00"), 0, none, 0);
	check_udh(SL("\x05\x00\x03\x2a\x03\x04"), 0, none, 0);
	check_udh(SL("\x05\x00\x03\x2a\x03\x00"), 0, none, 0);
	check_udh(SL("\x04\x00\x02\x2a\x03"), 0, none, 0);
	check_udh(SL("\x0b\x00\x03\x2a\x03\x02\x08\x04\x12\x34\x05\x04"), 0,
		  (struct gsm_concat){ 0x1234, 5, 4, true }, 0);
	/* Malformed: beyond the end, element beyond the header, half an element. */
	check_udh(SL(""), E_SYNTAX, none, 0);
	check_udh(SL("\x05\x00\x03\x2a\x03"), E_SYNTAX, none, 0);
	check_udh(SL("\x05\x00\x04\x2a\x03\x02\x01"), E_SYNTAX, none, 0);
	check_udh(SL("\x06\x00\x03\x2a\x03\x02\x01"), E_SYNTAX, none, 0);
}

static void test_udh_prefixes(void **state)
{
	static const char good[] = "\x0e\x05\x04\x15\x8a\x00\x00\x00\x03\x01\x02\x01\x24\x01\x01";
	struct gsm_udh udh;
	struct gsm_ie ie;
	struct sl rest;
	unsigned n = 0;

	UNUSED(state);
	for (size_t cut = 0; cut < sizeof(good) - 1; cut++) {
		char *exact = malloc(cut ? cut : 1);

		memcpy(exact, good, cut);
		assert_int_equal(gsm_udh_parse(sl_mk(exact, cut), &udh, &rest), E_SYNTAX);
		free(exact);
	}
	assert_int_equal(gsm_udh_parse(sl_mk(good, sizeof(good) - 1), &udh, &rest), 0);
	while (gsm_ie_next(&udh.ies, &ie))
		n++;
	assert_int_equal(n, 3);
}

/* Every allocation fails once: an error, no crash, outputs untouched. */
static void test_no_memory(void **state)
{
	struct gsm_split_cfg cfg = { .encs = 7, .max_parts = 255 };

	UNUSED(state);
	for (unsigned nth = 1;; nth++) {
		struct arena *a = arena_new(0, BUDGET);
		struct sl text = SL("\x01"), back = SL_NULL;
		struct gsm_text t = { .n = 99 };
		struct gsm_body body;
		int rc;

		text = repeat("[😀e\u0301\x01", 90);
		base_fail_nth_alloc = nth;
		rc = gsm_split(a, text, &cfg, &t, NULL);
		if (rc == 0) {
			body = (struct gsm_body){ t.enc, t.part[0], { 0 } };
			rc = gsm_join(a, &body, 1, &back);
		} else {
			assert_int_equal(t.n, 99);
		}
		bool done = base_fail_nth_alloc != 0;
		base_fail_nth_alloc = 0;
		assert_int_equal(rc, done ? 0 : E_NOMEM);
		arena_free(&a);
		if (done)
			return;
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_default_alphabet),
		T(test_extension_table),
		T(test_odd_septets),
		T(test_not_in_alphabet),
		T(test_ucs2),
		T(test_forbidden_characters),
		T(test_latin1),
		T(test_packing),
		T(test_split_limits),
		T(test_split_other_default),
		T(test_split_keeps_together),
		T(test_split_too_long),
		T(test_property_same_text),
		T(test_join_foreign_cuts),
		T(test_udh),
		T(test_udh_prefixes),
		T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
