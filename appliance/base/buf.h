/* buf.h - a growable byte buffer with a maximum that is set when it is made.
 *
 * An append that would pass the maximum fails with E_TOOBIG and leaves the buffer as it was (so a
 * peer that makes us grow meets a limit, not the out-of-memory killer). Consumption from the front
 * is O(1) amortised. A zeroed struct with max set is a valid empty buffer that holds no memory. */
#ifndef TANDEM_BASE_BUF_H
#define TANDEM_BASE_BUF_H

#include "appliance/base/base.h"

struct buf {
	char *p;    /* allocation, NULL when empty */
	size_t off; /* first live byte */
	size_t n;   /* live bytes */
	size_t cap; /* size of the allocation */
	size_t max; /* live bytes never pass this */
};

static inline void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}
void buf_free(struct buf *b); /* releases memory, keeps max */
static inline struct sl buf_sl(const struct buf *b)
{
	return b->n ? (struct sl){ b->p + b->off, b->n } : SL_NULL;
}
/* Room for n more bytes at the end; returns where to write, or NULL (max, or out of memory). Follow
 * with buf_commit. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
int buf_add(struct buf *b, struct sl s); /* 0, E_TOOBIG, E_NOMEM */
int buf_addc(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_consume(struct buf *b,
		 size_t n);    /* from the front; frees the memory when it becomes empty */
void buf_reset(struct buf *b); /* empty, keeps the allocation */

#endif
