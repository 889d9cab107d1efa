/* arena.c - see arena.h. */
#include "appliance/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct block {
	struct block *next;
	size_t size;
};

struct arena {
	char *cur, *end;
	struct block *more;
	size_t used, total, cap, first;
};

#define ALIGN 16u
#define HEAD  ((sizeof(struct arena) + ALIGN - 1) & ~(size_t)(ALIGN - 1))
#define BHEAD ALIGN

struct arena *arena_new(size_t first, size_t cap)
{
	struct arena *a = base_malloc(HEAD + first);

	if (!a)
		return NULL;
	a->cur = (char *)a + HEAD;
	a->end = a->cur + first;
	a->more = NULL;
	a->used = 0;
	a->total = first;
	a->first = first;
	a->cap = cap < first ? first : cap;
	return a;
}

void arena_free(struct arena **ap)
{
	struct arena *a = *ap;

	*ap = NULL;
	if (!a)
		return;
	for (struct block *b = a->more; b;) {
		struct block *next = b->next;
		free(b);
		b = next;
	}
	free(a);
}

void arena_wipe_free(struct arena **ap)
{
	struct arena *a = *ap;

	if (a) {
		for (struct block *b = a->more; b; b = b->next)
			wipe((char *)b + BHEAD, b->size);
		wipe((char *)a + HEAD, a->first);
	}
	arena_free(ap);
}

static char *more(struct arena *a, size_t n)
{
	size_t size = a->total < 512 ? 512 : a->total;

	if (size < n + ALIGN)
		size = n + ALIGN;
	if (size > a->cap - a->total)
		size = a->cap - a->total;
	if (size < n + ALIGN)
		return NULL;
	struct block *b = base_malloc(BHEAD + size);
	if (!b)
		return NULL;
	b->next = a->more;
	b->size = size;
	a->more = b;
	a->total += size;
	a->cur = (char *)b + BHEAD;
	a->end = a->cur + size;
	return a->cur;
}

static char *take(struct arena *a, size_t n, size_t align)
{
	size_t pad = (align - ((uintptr_t)a->cur & (align - 1))) & (align - 1);

	if ((size_t)(a->end - a->cur) < pad || (size_t)(a->end - a->cur) - pad < n) {
		if (n > a->cap || !more(a, n))
			return NULL;
		pad = 0;
	}
	char *p = a->cur + pad;
	a->cur = p + n;
	a->used += n + pad;
	return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
	return take(a, n, ALIGN);
}

void *arena_zalloc(struct arena *a, size_t n)
{
	void *p = take(a, n, ALIGN);

	if (p)
		memset(p, 0, n);
	return p;
}

char *arena_bytes(struct arena *a, size_t n)
{
	return take(a, n, 1);
}

struct sl arena_dup(struct arena *a, struct sl s)
{
	if (s.n == 0)
		return SL("");
	char *p = arena_bytes(a, s.n);

	if (!p)
		return SL_NULL;
	memcpy(p, s.p, s.n);
	return sl_mk(p, s.n);
}

struct sl arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return SL_NULL;
	char *p = arena_bytes(a, (size_t)n + 1);
	if (!p)
		return SL_NULL;
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return sl_mk(p, (size_t)n);
}

size_t arena_used(const struct arena *a)
{
	return a->used;
}

bool arena_may_hold(const struct arena *a, size_t n)
{
	return n <= (size_t)(a->end - a->cur) || n + ALIGN <= a->cap - a->total;
}

size_t arena_memory(const struct arena *a)
{
	return HEAD + a->total;
}
