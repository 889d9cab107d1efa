/* cursor.h - wire readers and writers, big-endian, with a sticky error.
 *
 * After the first read past the end (or write past the capacity) every further call returns zero /
 * does nothing and `bad` stays set: a decoder reads all fields, then tests once. */
#ifndef TANDEM_BASE_CURSOR_H
#define TANDEM_BASE_CURSOR_H

#include "appliance/base/base.h"

struct rd {
	const unsigned char *p;
	size_t n;
	bool bad;
};

static inline struct rd rd_init(struct sl s)
{
	return (struct rd){ (const unsigned char *)s.p, s.n, false };
}
static inline bool rd_need(struct rd *r, size_t n)
{
	if (r->bad || r->n < n) {
		r->bad = true;
		return false;
	}
	return true;
}
static inline struct sl rd_bytes(struct rd *r, size_t n)
{
	if (!rd_need(r, n) || n == 0)
		return SL_NULL;
	struct sl s = { (const char *)r->p, n };
	r->p += n;
	r->n -= n;
	return s;
}
static inline uint8_t rd_u8(struct rd *r)
{
	if (!rd_need(r, 1))
		return 0;
	r->n--;
	return *r->p++;
}
static inline uint16_t rd_u16(struct rd *r)
{
	if (!rd_need(r, 2))
		return 0;
	uint16_t v = (uint16_t)(r->p[0] << 8 | r->p[1]);
	r->p += 2;
	r->n -= 2;
	return v;
}
static inline uint32_t rd_u32(struct rd *r)
{
	if (!rd_need(r, 4))
		return 0;
	uint32_t v = (uint32_t)r->p[0] << 24 | (uint32_t)r->p[1] << 16 | (uint32_t)r->p[2] << 8 |
		     r->p[3];
	r->p += 4;
	r->n -= 4;
	return v;
}
static inline uint64_t rd_u64(struct rd *r)
{
	uint64_t hi = rd_u32(r);

	return hi << 32 | rd_u32(r);
}
/* A NUL-terminated string of at most max octets including the NUL; the slice is without it. No NUL
 * within reach: bad. */
static inline struct sl rd_cstr(struct rd *r, size_t max)
{
	size_t lim = r->n < max ? r->n : max;
	const unsigned char *z = r->bad || lim == 0 ? NULL : memchr(r->p, 0, lim);

	if (!z) {
		r->bad = true;
		return SL_NULL;
	}
	struct sl s = { (const char *)r->p, (size_t)(z - r->p) };
	r->n -= s.n + 1;
	r->p = z + 1;
	return s;
}

struct wr {
	unsigned char *p;
	size_t n, cap;
	bool bad;
};

static inline struct wr wr_init(void *p, size_t cap)
{
	return (struct wr){ p, 0, cap, false };
}
static inline void wr_bytes(struct wr *w, struct sl s)
{
	if (w->bad || w->cap - w->n < s.n) {
		w->bad = true;
		return;
	}
	if (s.n)
		memcpy(w->p + w->n, s.p, s.n);
	w->n += s.n;
}
static inline void wr_u8(struct wr *w, unsigned v)
{
	char c = (char)v;

	wr_bytes(w, sl_mk(&c, 1));
}
static inline void wr_u16(struct wr *w, unsigned v)
{
	wr_u8(w, v >> 8 & 0xff);
	wr_u8(w, v & 0xff);
}
static inline void wr_u32(struct wr *w, uint32_t v)
{
	wr_u16(w, v >> 16);
	wr_u16(w, v & 0xffff);
}
static inline void wr_u64(struct wr *w, uint64_t v)
{
	wr_u32(w, (uint32_t)(v >> 32));
	wr_u32(w, (uint32_t)v);
}
static inline void wr_cstr(struct wr *w, struct sl s)
{
	if (s.n && memchr(s.p, 0, s.n)) {
		w->bad = true;
		return;
	}
	wr_bytes(w, s);
	wr_u8(w, 0);
}

#endif
