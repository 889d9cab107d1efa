/* alphabet.c - see alphabet.h. The two tables of TS 23.038 are written once, as lists, from which
 * both directions are made. */
#include "hal/gsm/alphabet.h"
#include "appliance/base/enc.h"

#define ESC 0x1bu

/* clang-format off */
/* X(septet, code point): default alphabet, characters below U+0100. */
#define MAIN_LOW(X) \
	X(0x00, 0x40) X(0x01, 0xa3) X(0x02, 0x24) X(0x03, 0xa5) X(0x04, 0xe8) X(0x05, 0xe9) \
	X(0x06, 0xf9) X(0x07, 0xec) X(0x08, 0xf2) X(0x09, 0xc7) X(0x0a, 0x0a) X(0x0b, 0xd8) \
	X(0x0c, 0xf8) X(0x0d, 0x0d) X(0x0e, 0xc5) X(0x0f, 0xe5) X(0x11, 0x5f) X(0x1c, 0xc6) \
	X(0x1d, 0xe6) X(0x1e, 0xdf) X(0x1f, 0xc9) X(0x20, 0x20) X(0x21, 0x21) X(0x22, 0x22) \
	X(0x23, 0x23) X(0x24, 0xa4) X(0x25, 0x25) X(0x26, 0x26) X(0x27, 0x27) X(0x28, 0x28) \
	X(0x29, 0x29) X(0x2a, 0x2a) X(0x2b, 0x2b) X(0x2c, 0x2c) X(0x2d, 0x2d) X(0x2e, 0x2e) \
	X(0x2f, 0x2f) X(0x30, 0x30) X(0x31, 0x31) X(0x32, 0x32) X(0x33, 0x33) X(0x34, 0x34) \
	X(0x35, 0x35) X(0x36, 0x36) X(0x37, 0x37) X(0x38, 0x38) X(0x39, 0x39) X(0x3a, 0x3a) \
	X(0x3b, 0x3b) X(0x3c, 0x3c) X(0x3d, 0x3d) X(0x3e, 0x3e) X(0x3f, 0x3f) X(0x40, 0xa1) \
	X(0x41, 0x41) X(0x42, 0x42) X(0x43, 0x43) X(0x44, 0x44) X(0x45, 0x45) X(0x46, 0x46) \
	X(0x47, 0x47) X(0x48, 0x48) X(0x49, 0x49) X(0x4a, 0x4a) X(0x4b, 0x4b) X(0x4c, 0x4c) \
	X(0x4d, 0x4d) X(0x4e, 0x4e) X(0x4f, 0x4f) X(0x50, 0x50) X(0x51, 0x51) X(0x52, 0x52) \
	X(0x53, 0x53) X(0x54, 0x54) X(0x55, 0x55) X(0x56, 0x56) X(0x57, 0x57) X(0x58, 0x58) \
	X(0x59, 0x59) X(0x5a, 0x5a) X(0x5b, 0xc4) X(0x5c, 0xd6) X(0x5d, 0xd1) X(0x5e, 0xdc) \
	X(0x5f, 0xa7) X(0x60, 0xbf) X(0x61, 0x61) X(0x62, 0x62) X(0x63, 0x63) X(0x64, 0x64) \
	X(0x65, 0x65) X(0x66, 0x66) X(0x67, 0x67) X(0x68, 0x68) X(0x69, 0x69) X(0x6a, 0x6a) \
	X(0x6b, 0x6b) X(0x6c, 0x6c) X(0x6d, 0x6d) X(0x6e, 0x6e) X(0x6f, 0x6f) X(0x70, 0x70) \
	X(0x71, 0x71) X(0x72, 0x72) X(0x73, 0x73) X(0x74, 0x74) X(0x75, 0x75) X(0x76, 0x76) \
	X(0x77, 0x77) X(0x78, 0x78) X(0x79, 0x79) X(0x7a, 0x7a) X(0x7b, 0xe4) X(0x7c, 0xf6) \
	X(0x7d, 0xf1) X(0x7e, 0xfc) X(0x7f, 0xe0)

/* Default alphabet, the Greek capitals that Latin lacks. */
#define MAIN_GREEK(X) \
	X(0x10, 0x394) X(0x12, 0x3a6) X(0x13, 0x393) X(0x14, 0x39b) X(0x15, 0x3a9) X(0x16, 0x3a0) \
	X(0x17, 0x3a8) X(0x18, 0x3a3) X(0x19, 0x398) X(0x1a, 0x39e)

/* Extension table, characters below U+0100; the euro sign is handled by name. */
#define EXT_LOW(X) \
	X(0x14, 0x5e) X(0x28, 0x7b) X(0x29, 0x7d) X(0x2f, 0x5c) X(0x3c, 0x5b) X(0x3d, 0x7e) \
	X(0x3e, 0x5d) X(0x40, 0x7c)
#define EURO_SEPTET 0x65u
#define EURO_CP     0x20acu

#define FORWARD(s, c)  [s] = c,
#define REVERSE(s, c)  [c] = (s) + 1u,
#define REVERSE_X(s, c) [c] = (ESC << 8 | (s)) + 1u,
#define GREEK(s, c)    [(c) - 0x390] = (s) + 1u,

/* Septet to code point; 0 (no septet means U+0000): none. */
static const uint16_t main_cp[128] = { MAIN_LOW(FORWARD) MAIN_GREEK(FORWARD) };
static const uint16_t ext_cp[128] = { EXT_LOW(FORWARD)[EURO_SEPTET] = EURO_CP };

/* Code point to septet + 1, or to ESC << 8 | septet, + 1; 0: not in the alphabet. */
static const uint16_t low_septet[256] = { MAIN_LOW(REVERSE) EXT_LOW(REVERSE_X) };
static const uint16_t greek_septet[0x20] = { MAIN_GREEK(GREEK) };
/* clang-format on */

const char *gsm_enc_name(enum gsm_enc enc)
{
	static const char *const names[] = { "gsm7", "latin1", "ucs2", "octets" };

	return names[enc];
}

bool gsm_char_ok(uint32_t cp)
{
	if (cp < 0x20)
		return cp == '\t' || cp == '\n' || cp == '\r';
	return cp < 0xd800 || (cp >= 0xe000 && cp < 0xfffe) || (cp >= 0x10000 && cp < 0x110000);
}

/* Septet, or ESC << 8 | septet, plus 1; 0 if there is none. */
static unsigned septet_of(uint32_t cp)
{
	if (cp < 256)
		return low_septet[cp];
	if (cp >= 0x390 && cp < 0x3b0)
		return greek_septet[cp - 0x390];
	return cp == EURO_CP ? (ESC << 8 | EURO_SEPTET) + 1u : 0;
}

unsigned gsm_char_units(enum gsm_enc enc, uint32_t cp)
{
	unsigned s;

	switch (enc) {
	case GSM_ENC_7BIT:
		s = septet_of(cp);
		return s == 0 ? 0 : s > 256 ? 2 : 1;
	case GSM_ENC_LATIN1:
		return cp < 256;
	case GSM_ENC_UCS2:
		return cp < 0x10000 ? 1 : 2;
	case GSM_ENC_OCTETS:
		break;
	}
	return 0;
}

/* Next character that XML allows; 0 at the end, E_SYNTAX on bad UTF-8, else 1. */
static int next_char(struct sl *in, uint32_t *cp_r)
{
	while (in->n) {
		size_t n = 1;
		uint32_t cp = (unsigned char)in->p[0];

		if (cp >= 0x80) {
			n = utf8_next(*in, &cp);
			if (n == 0)
				return E_SYNTAX;
		}
		in->p += n;
		in->n -= n;
		if (gsm_char_ok(cp)) {
			*cp_r = cp;
			return 1;
		}
	}
	return 0;
}

static char *put_char(char *q, enum gsm_enc enc, uint32_t cp)
{
	if (enc == GSM_ENC_7BIT) {
		unsigned s = septet_of(cp) - 1u;

		if (s > 0xff)
			*q++ = (char)ESC;
		*q++ = (char)(s & 0x7f);
	} else if (enc == GSM_ENC_LATIN1) {
		*q++ = (char)cp;
	} else {
		if (cp >= 0x10000) {
			uint32_t hi = 0xd7c0 + (cp >> 10);

			*q++ = (char)(hi >> 8);
			*q++ = (char)hi;
			cp = 0xdc00 | (cp & 0x3ff);
		}
		*q++ = (char)(cp >> 8);
		*q++ = (char)cp;
	}
	return q;
}

int gsm_encode(struct arena *a, enum gsm_enc enc, struct sl utf8, struct sl *units_r)
{
	size_t octets = 0;
	uint32_t cp;
	struct sl in = utf8;
	int rc;

	while ((rc = next_char(&in, &cp)) > 0) {
		unsigned u = gsm_char_units(enc, cp);

		if (u == 0)
			return E_UNSUPPORTED;
		octets += enc == GSM_ENC_UCS2 ? 2 * u : u;
	}
	if (rc < 0)
		return rc;
	char *p = arena_bytes(a, octets), *q = p;
	if (!p)
		return E_NOMEM;
	for (in = utf8; next_char(&in, &cp) > 0;)
		q = put_char(q, enc, cp);
	*units_r = sl_mk(p, octets);
	return 0;
}

static char *put_utf8(char *q, uint32_t cp)
{
	return gsm_char_ok(cp) ? q + utf8_put(cp, q) : q;
}

/* TEXT-2, TEXT-3. */
static char *decode_7bit(char *q, struct sl in)
{
	for (size_t i = 0; i < in.n; i++) {
		unsigned c = (unsigned char)in.p[i];
		uint32_t cp;

		if (c > 0x7f) {
			cp = c;
		} else if (c != ESC) {
			cp = main_cp[c];
		} else if (i + 1 == in.n || (unsigned char)in.p[i + 1] > 0x7f) {
			cp = ' ';
		} else {
			unsigned x = (unsigned char)in.p[++i];

			/* Page break is not in ext_cp: it falls back to 0x0a, a line feed, as it
			 * should. */
			cp = x == ESC ? ' ' : ext_cp[x] ? ext_cp[x] : main_cp[x];
		}
		q = put_utf8(q, cp);
	}
	return q;
}

static char *decode_latin1(char *q, struct sl in)
{
	for (size_t i = 0; i < in.n; i++)
		q = put_utf8(q, (unsigned char)in.p[i]);
	return q;
}

static uint32_t unit_at(struct sl in, size_t i, bool swap)
{
	unsigned a = (unsigned char)in.p[i], b = (unsigned char)in.p[i + 1];

	return swap ? b << 8 | a : a << 8 | b;
}

/* TEXT-4, TEXT-5. */
static char *decode_utf16(char *q, struct sl in)
{
	bool swap = in.n >= 2 && unit_at(in, 0, false) == 0xfffe;

	for (size_t i = swap ? 2 : 0; i + 1 < in.n; i += 2) {
		uint32_t cp = unit_at(in, i, swap);

		if (cp >= 0xd800 && cp < 0xdc00 && i + 3 < in.n) {
			uint32_t lo = unit_at(in, i + 2, swap);

			if (lo >= 0xdc00 && lo < 0xe000) {
				cp = 0x10000 + ((cp & 0x3ff) << 10 | (lo & 0x3ff));
				i += 2;
			}
		}
		q = put_utf8(q, cp);
	}
	return q;
}

int gsm_decode(struct arena *a, enum gsm_enc enc, struct sl units, struct sl *utf8_r)
{
	static char *(*const decoder[])(char *, struct sl) = {
		[GSM_ENC_7BIT] = decode_7bit,
		[GSM_ENC_LATIN1] = decode_latin1,
		[GSM_ENC_UCS2] = decode_utf16,
	};

	if (enc == GSM_ENC_OCTETS)
		return E_UNSUPPORTED;
	/* The most that comes out: two octets a septet (the euro takes three, from two septets; "a
	 * high octet and ESC at the end" takes 2 + 1), two a Latin-1 octet, three a UTF-16 unit.
	 * One more than utf8_put may touch at the end. */
	char *p = arena_bytes(a, units.n * 2 + 4);
	if (!p)
		return E_NOMEM;
	*utf8_r = sl_mk(p, (size_t)(decoder[enc](p, units) - p));
	return 0;
}

int gsm7_pack(struct arena *a, struct sl septets, unsigned fill, struct sl *octets_r)
{
	size_t octets = gsm7_packed_octets(septets.n, fill), o = 0;
	unsigned acc = 0, bits = fill;
	char *p = arena_bytes(a, octets);

	if (!p)
		return E_NOMEM;
	for (size_t i = 0; i < septets.n; i++) {
		acc |= ((unsigned char)septets.p[i] & 0x7fu) << bits;
		bits += 7;
		for (; bits >= 8; bits -= 8, acc >>= 8)
			p[o++] = (char)acc;
	}
	if (o < octets)
		p[o++] = (char)acc;
	*octets_r = sl_mk(p, o);
	return 0;
}

int gsm7_unpack(struct arena *a, struct sl octets, size_t septets, unsigned fill,
		struct sl *septets_r)
{
	if (octets.n < SIZE_MAX / 8 &&
	    (septets > octets.n * 8 / 7 || gsm7_packed_octets(septets, fill) > octets.n))
		return E_SYNTAX;
	char *p = arena_bytes(a, septets);
	if (!p)
		return E_NOMEM;
	size_t bit = fill;
	for (size_t i = 0; i < septets; i++, bit += 7) {
		size_t at = bit / 8;
		unsigned w = (unsigned char)octets.p[at];

		if (at + 1 < octets.n)
			w |= (unsigned)(unsigned char)octets.p[at + 1] << 8;
		p[i] = (char)(w >> bit % 8 & 0x7f);
	}
	*septets_r = sl_mk(p, septets);
	return 0;
}
