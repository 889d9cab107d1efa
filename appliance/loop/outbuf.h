/* outbuf.h - a connection's pending output, made of chunks that a loop keeps for its connections.
 *
 * Output lives for a moment: from conn_write to the flush at the end of the turn. So an empty
 * outbuf holds no memory, and the two usual sizes come from a small pool of the loop instead of
 * malloc. The maximum is the caller's to check (conn.c). Used by appliance/loop only. */
#ifndef TANDEM_LOOP_OUTBUF_H
#define TANDEM_LOOP_OUTBUF_H

#include "appliance/base/base.h"

#define OUTBUF_SMALL_OCTETS 4096u
#define OUTBUF_LARGE_OCTETS 32768u

struct outbuf_chunk {
	struct outbuf_chunk *next;
};

/* At most OUTBUF_POOL_SMALL and _LARGE free chunks are kept, the rest goes back to malloc. */
#define OUTBUF_POOL_SMALL 128u
#define OUTBUF_POOL_LARGE 8u

struct outbuf_pool {
	struct outbuf_chunk *small, *large;
	unsigned n_small, n_large;
};

struct outbuf {
	char *p;
	size_t off, n, cap;
};

/* Where n more octets may be written, or NULL (out of memory; the buffer is as before). */
char *outbuf_reserve(struct outbuf *b, struct outbuf_pool *pool, size_t n);
/* Drop n octets from the front; gives the memory back when nothing is left. */
void outbuf_consume(struct outbuf *b, struct outbuf_pool *pool, size_t n);
/* pool NULL: plain free. */
void outbuf_free(struct outbuf *b, struct outbuf_pool *pool);
void outbuf_pool_free(struct outbuf_pool *pool);

#endif
