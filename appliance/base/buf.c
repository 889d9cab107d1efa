/* buf.c - bounded growable buffer. See buf.h. */
#include "appliance/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_free(struct buf *b)
{
	free(b->p);
	b->p = NULL;
	b->off = b->n = b->cap = 0;
}

static int buf_grow(struct buf *b, size_t need)
{
	/* Move down only when enough was consumed to pay for the move: a peer that reads a few
	 * bytes at a time must not make every append cost the whole buffer. */
	if (b->off >= b->n / 4 && b->n + need <= b->cap) {
		if (b->off)
			memmove(b->p, b->p + b->off, b->n);
		b->off = 0;
		return 0;
	}
	size_t cap = b->cap ? b->cap : 256;
	while (cap < b->n + need || cap - need < b->off + b->n)
		cap *= 2;
	char *p = base_malloc(cap);
	if (!p)
		return E_NOMEM;
	if (b->n)
		memcpy(p, b->p + b->off, b->n);
	free(b->p);
	b->p = p;
	b->off = 0;
	b->cap = cap;
	return 0;
}

static int buf_room(struct buf *b, size_t n)
{
	if (n > b->max || b->n > b->max - n)
		return E_TOOBIG;
	if (b->off + b->n + n <= b->cap)
		return 0;
	return buf_grow(b, n);
}

char *buf_reserve(struct buf *b, size_t n)
{
	if (buf_room(b, n) < 0 || (!b->p && buf_grow(b, n ? n : 1) < 0))
		return NULL;
	return b->p + b->off + b->n;
}

void buf_commit(struct buf *b, size_t n)
{
	b->n += n;
}

int buf_add(struct buf *b, struct sl s)
{
	int rc;

	if (s.n == 0)
		return 0;
	rc = buf_room(b, s.n);
	if (rc < 0)
		return rc;
	memcpy(b->p + b->off + b->n, s.p, s.n);
	b->n += s.n;
	return 0;
}

int buf_addc(struct buf *b, char c)
{
	return buf_add(b, sl_mk(&c, 1));
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return E_SYNTAX;
	if (n == 0)
		return 0;
	if ((size_t)n > b->max || b->n > b->max - (size_t)n)
		return E_TOOBIG;
	/* One byte past the text for vsnprintf's terminator; it is not counted against max. */
	if (b->off + b->n + (size_t)n + 1 > b->cap && buf_grow(b, (size_t)n + 1) < 0)
		return E_NOMEM;
	va_start(ap, fmt);
	vsnprintf(b->p + b->off + b->n, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n >= b->n) {
		buf_free(b);
		return;
	}
	b->off += n;
	b->n -= n;
}

void buf_reset(struct buf *b)
{
	b->off = b->n = 0;
}
