/* enc.c - see enc.h. */
#include "appliance/base/enc.h"

static const char b64_alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int b64_encode(struct buf *out, struct sl in)
{
	if (in.n == 0)
		return 0;
	char *d = buf_reserve(out, (in.n + 2) / 3 * 4);
	const unsigned char *s = (const unsigned char *)in.p;

	if (!d)
		return E_TOOBIG;
	for (size_t i = 0; i < in.n; i += 3) {
		size_t left = in.n - i;
		uint32_t v = (uint32_t)s[i] << 16 | (left > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
			     (left > 2 ? s[i + 2] : 0);
		*d++ = b64_alphabet[v >> 18];
		*d++ = b64_alphabet[v >> 12 & 63];
		*d++ = left > 1 ? b64_alphabet[v >> 6 & 63] : '=';
		*d++ = left > 2 ? b64_alphabet[v & 63] : '=';
	}
	buf_commit(out, (in.n + 2) / 3 * 4);
	return 0;
}

static int b64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int b64_decode(struct buf *out, struct sl in)
{
	if (in.n == 0)
		return 0;
	if (in.n % 4)
		return E_SYNTAX;
	size_t pad = in.p[in.n - 1] != '=' ? 0 : in.p[in.n - 2] != '=' ? 1 : 2;
	size_t n = in.n / 4 * 3 - pad;
	unsigned char *d = (unsigned char *)buf_reserve(out, n + pad);

	if (!d)
		return E_TOOBIG;
	for (size_t i = 0; i < in.n; i += 4) {
		uint32_t v = 0;
		for (size_t k = 0; k < 4; k++) {
			bool padding = i + k >= in.n - pad;
			int x = padding ? 0 : b64_value(in.p[i + k]);
			if (x < 0)
				return E_SYNTAX;
			v = v << 6 | (uint32_t)x;
		}
		if (i + 4 == in.n && pad && (v & ((1u << (8 * pad)) - 1)))
			return E_SYNTAX; /* bits behind the end */
		*d++ = (unsigned char)(v >> 16);
		*d++ = (unsigned char)(v >> 8);
		*d++ = (unsigned char)v;
	}
	buf_commit(out, n);
	return 0;
}

int hex_encode(struct buf *out, struct sl in)
{
	static const char digits[] = "0123456789abcdef";
	char *d = in.n ? buf_reserve(out, in.n * 2) : NULL;

	if (in.n == 0)
		return 0;
	if (!d)
		return E_TOOBIG;
	for (size_t i = 0; i < in.n; i++) {
		d[2 * i] = digits[(unsigned char)in.p[i] >> 4];
		d[2 * i + 1] = digits[(unsigned char)in.p[i] & 15];
	}
	buf_commit(out, in.n * 2);
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hex_decode(struct buf *out, struct sl in)
{
	if (in.n % 2)
		return E_SYNTAX;
	if (in.n == 0)
		return 0;
	char *d = buf_reserve(out, in.n / 2);
	if (!d)
		return E_TOOBIG;
	for (size_t i = 0; i < in.n; i += 2) {
		int hi = hex_value(in.p[i]), lo = hex_value(in.p[i + 1]);
		if (hi < 0 || lo < 0)
			return E_SYNTAX;
		d[i / 2] = (char)(hi << 4 | lo);
	}
	buf_commit(out, in.n / 2);
	return 0;
}

size_t utf8_next(struct sl s, uint32_t *cp_r)
{
	const unsigned char *p = (const unsigned char *)s.p;

	if (s.n == 0)
		return 0;
	if (p[0] < 0x80) {
		*cp_r = p[0];
		return 1;
	}
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t cp = p[0] & (0x7fu >> n);

	if (p[0] < 0xc2 || p[0] > 0xf4 || s.n < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3f);
	}
	if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	*cp_r = cp;
	return n;
}

size_t utf8_put(uint32_t cp, char dst[4])
{
	if (cp < 0x80) {
		dst[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		dst[0] = (char)(0xc0 | cp >> 6);
		dst[1] = (char)(0x80 | (cp & 0x3f));
		return 2;
	}
	if (cp < 0x10000) {
		if (cp >= 0xd800 && cp <= 0xdfff)
			return 0;
		dst[0] = (char)(0xe0 | cp >> 12);
		dst[1] = (char)(0x80 | (cp >> 6 & 0x3f));
		dst[2] = (char)(0x80 | (cp & 0x3f));
		return 3;
	}
	if (cp > 0x10ffff)
		return 0;
	dst[0] = (char)(0xf0 | cp >> 18);
	dst[1] = (char)(0x80 | (cp >> 12 & 0x3f));
	dst[2] = (char)(0x80 | (cp >> 6 & 0x3f));
	dst[3] = (char)(0x80 | (cp & 0x3f));
	return 4;
}

bool utf8_valid(struct sl s)
{
	while (s.n) {
		uint32_t cp;
		size_t n = utf8_next(s, &cp);
		if (n == 0)
			return false;
		s.p += n;
		s.n -= n;
	}
	return true;
}

struct sl utf8_prefix(struct sl s, size_t max)
{
	if (s.n <= max)
		return s;
	while (max && ((unsigned char)s.p[max] & 0xc0) == 0x80)
		max--;
	return sl_mk(s.p, max);
}
