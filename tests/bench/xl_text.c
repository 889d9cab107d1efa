/* xl_text.c - just enough XML: where an element ends, an attribute, a child's text; and base64. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/xl.h"

static const char *tag_end(const char *s, const char *end)
{
	char quote = 0;
	for (; s < end; s++) {
		if (quote)
			quote = *s == quote ? 0 : quote;
		else if (*s == '\'' || *s == '"')
			quote = *s;
		else if (*s == '>')
			return s;
	}
	return NULL;
}

const char *xl_element_end(const char *s, const char *end)
{
	for (int depth = 0;;) {
		s = memchr(s, '<', (size_t)(end - s));
		if (!s || end - s < 2)
			return NULL;
		const char *close = tag_end(s, end);
		if (!close)
			return NULL;
		if (s[1] == '/')
			depth--;
		else if (s[1] != '?' && close[-1] != '/')
			depth++;
		s = close + 1;
		if (depth <= 0)
			return s;
	}
}

bool xl_is(const char *s, size_t n, const char *name)
{
	size_t len = strlen(name);
	return n > len + 1 && s[0] == '<' && !memcmp(s + 1, name, len) &&
	       strchr(" />\t\r\n", s[1 + len]);
}

static bool copy(char *dst, size_t size, const char *s, size_t n)
{
	if (n >= size)
		return false;
	memcpy(dst, s, n);
	dst[n] = 0;
	return true;
}

bool xl_attribute(const char *s, size_t n, const char *name, char *dst, size_t size)
{
	const char *end = tag_end(s, s + n);
	size_t len = strlen(name);
	for (const char *p = s; end && p + len + 2 < end; p++) {
		if (*p != ' ' || memcmp(p + 1, name, len) || p[1 + len] != '=')
			continue;
		const char *value = p + len + 3;
		const char *stop = memchr(value, value[-1], (size_t)(end - value) + 1);
		return stop && copy(dst, size, value, (size_t)(stop - value));
	}
	return false;
}

bool xl_child_text(const char *s, size_t n, const char *name, char *dst, size_t size)
{
	char open[64];
	int len = snprintf(open, sizeof open, "<%s", name);
	const char *p = memmem(s, n, open, (size_t)len);
	if (!p)
		return false;
	const char *start = tag_end(p, s + n);
	const char *stop = start ? memchr(start, '<', (size_t)(s + n - start)) : NULL;
	return stop && copy(dst, size, start + 1, (size_t)(stop - start - 1));
}

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t xl_base64(const unsigned char *s, size_t n, char *dst)
{
	char *d = dst;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)s[i] << 16;
		if (i + 1 < n)
			v |= (uint32_t)s[i + 1] << 8;
		if (i + 2 < n)
			v |= s[i + 2];
		*d++ = letters[v >> 18];
		*d++ = letters[v >> 12 & 63];
		*d++ = i + 1 < n ? letters[v >> 6 & 63] : '=';
		*d++ = i + 2 < n ? letters[v & 63] : '=';
	}
	*d = 0;
	return (size_t)(d - dst);
}

size_t xl_unbase64(const char *s, size_t n, unsigned char *dst)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t out = 0;
	for (size_t i = 0; i < n && s[i] != '='; i++) {
		const char *at = strchr(letters, s[i]);
		if (!at)
			xl_die("bad base64 from the server");
		v = v << 6 | (uint32_t)(at - letters);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			dst[out++] = (unsigned char)(v >> bits);
		}
	}
	return out;
}
