/* hash.h - keyed hash (SipHash-1-3) and an intrusive chained hash table.
 *
 * The key is drawn once at start (hash_key_init), so that a peer cannot aim at one bucket. The same
 * hash decides which worker owns a JID (DESIGN section 3). The table never frees nodes. */
#ifndef TANDEM_BASE_HASH_H
#define TANDEM_BASE_HASH_H

#include "appliance/base/base.h"

/* Draw the process-wide key from the system's random source; idempotent. Before any thread starts.
 */
void hash_key_init(void);
uint64_t hash_bytes(struct sl s);
/* Mix another slice into a hash: hash_more(hash_bytes(a), b). */
uint64_t hash_more(uint64_t h, struct sl s);

struct hnode {
	struct hnode *next;
	uint64_t hash;
};

struct htable {
	struct hnode **slot;
	size_t n, mask; /* entries; slots - 1 (0: no slots yet) */
};

typedef bool (*hmatch_fn)(const struct hnode *n, const void *key);

void htable_init(struct htable *t);
void htable_free(struct htable *t); /* frees the slots, not the nodes */
/* 0 or E_NOMEM (only when the very first slots cannot be had; later growth failure only slows). */
int htable_add(struct htable *t, struct hnode *n, uint64_t hash);
struct hnode *htable_find(const struct htable *t, uint64_t hash, hmatch_fn match, const void *key);
/* n must be in t. */
void htable_del(struct htable *t, struct hnode *n);
/* Iterate: start with NULL. The returned node may be deleted before the next call only if you take
 * its successor first; adding during iteration is not allowed. */
struct hnode *htable_next(const struct htable *t, const struct hnode *n);

#endif
