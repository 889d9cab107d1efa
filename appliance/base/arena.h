/* arena.h - memory for one stanza, PDU or session: many small allocations, freed as one.
 *
 * Blocks come from malloc in growing sizes; the sum never passes the cap (allocation then returns
 * NULL: out of memory fails that stanza, not the worker). arena_new puts the arena itself at the
 * head of its first block, so that one small stanza is one malloc. Not thread-safe; hand over
 * whole.
 *
 * Disadvantages, so that you know: nothing can be freed alone, and realloc copies. */
#ifndef TANDEM_BASE_ARENA_H
#define TANDEM_BASE_ARENA_H

#include "appliance/base/base.h"

struct arena;

/* first: octets usable before a second malloc; cap: most octets ever. NULL when out of memory. */
struct arena *arena_new(size_t first, size_t cap);
void arena_free(struct arena **a);
/* The same for one that held secrets: wiped first. */
void arena_wipe_free(struct arena **a);

/* 16-octet aligned, not zeroed. NULL: cap or memory. */
void *arena_alloc(struct arena *a, size_t n) __attribute__((malloc));
void *arena_zalloc(struct arena *a, size_t n) __attribute__((malloc));
/* Byte-aligned: for text that lies end to end. */
char *arena_bytes(struct arena *a, size_t n) __attribute__((malloc));
/* Copy of s in a; SL_NULL with n == 0 on failure (test p when s.n > 0). */
struct sl arena_dup(struct arena *a, struct sl s);
struct sl arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Octets handed out so far. */
size_t arena_used(const struct arena *a);
/* Memory that it has taken from the system. */
size_t arena_memory(const struct arena *a);
/* False: n octets more are beyond the cap. True says nothing about memory. */
bool arena_may_hold(const struct arena *a, size_t n);

#define arena_new_obj(a, type) ((type *)arena_zalloc((a), sizeof(type)))

#endif
