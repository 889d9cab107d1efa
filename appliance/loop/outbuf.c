/* outbuf.c - see outbuf.h. */
#include "appliance/loop/outbuf.h"
#include "appliance/base/arena.h"

static char *chunk_take(struct outbuf_chunk **list, unsigned *n)
{
	struct outbuf_chunk *c = *list;

	*list = c->next;
	--*n;
	return (char *)c;
}

static char *chunk_get(struct outbuf_pool *pool, size_t cap)
{
	if (base_fail_nth_alloc && --base_fail_nth_alloc == 0)
		return NULL;
	if (cap == OUTBUF_SMALL_OCTETS && pool->small)
		return chunk_take(&pool->small, &pool->n_small);
	if (cap == OUTBUF_LARGE_OCTETS && pool->large)
		return chunk_take(&pool->large, &pool->n_large);
	return malloc(cap);
}

static bool chunk_keep(struct outbuf_chunk **list, unsigned *n, unsigned max, char *p)
{
	struct outbuf_chunk *c = (struct outbuf_chunk *)(void *)p;

	if (*n >= max)
		return false;
	c->next = *list;
	*list = c;
	++*n;
	return true;
}

static void chunk_put(struct outbuf_pool *pool, char *p, size_t cap)
{
	if (!p)
		return;
	if (pool && cap == OUTBUF_SMALL_OCTETS &&
	    chunk_keep(&pool->small, &pool->n_small, OUTBUF_POOL_SMALL, p))
		return;
	if (pool && cap == OUTBUF_LARGE_OCTETS &&
	    chunk_keep(&pool->large, &pool->n_large, OUTBUF_POOL_LARGE, p))
		return;
	free(p);
}

static int grow(struct outbuf *b, struct outbuf_pool *pool, size_t need)
{
	size_t cap = OUTBUF_SMALL_OCTETS;
	char *p;

	while (cap < need)
		cap = cap < OUTBUF_LARGE_OCTETS ? OUTBUF_LARGE_OCTETS : cap * 2;
	p = chunk_get(pool, cap);
	if (!p)
		return E_NOMEM;
	if (b->n)
		memcpy(p, b->p + b->off, b->n);
	chunk_put(pool, b->p, b->cap);
	b->p = p;
	b->off = 0;
	b->cap = cap;
	return 0;
}

char *outbuf_reserve(struct outbuf *b, struct outbuf_pool *pool, size_t n)
{
	if (n > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
		return NULL;
	if (b->p && b->off + b->n + n <= b->cap)
		return b->p + b->off + b->n;
	/* Moving the rest down is worth it when at least as much was sent as is left. */
	if (b->p && b->off >= b->n && b->n + n <= b->cap) {
		memcpy(b->p, b->p + b->off, b->n);
		b->off = 0;
		return b->p + b->n;
	}
	if (grow(b, pool, b->n + n) < 0)
		return NULL;
	return b->p + b->n;
}

void outbuf_consume(struct outbuf *b, struct outbuf_pool *pool, size_t n)
{
	if (n >= b->n) {
		outbuf_free(b, pool);
		return;
	}
	b->off += n;
	b->n -= n;
}

void outbuf_free(struct outbuf *b, struct outbuf_pool *pool)
{
	chunk_put(pool, b->p, b->cap);
	*b = (struct outbuf){ 0 };
}

static void list_free(struct outbuf_chunk *c)
{
	while (c) {
		struct outbuf_chunk *next = c->next;

		free(c);
		c = next;
	}
}

void outbuf_pool_free(struct outbuf_pool *pool)
{
	list_free(pool->small);
	list_free(pool->large);
	*pool = (struct outbuf_pool){ 0 };
}
