/* hash.c - SipHash-1-3 (Aumasson, Bernstein) and the intrusive table. See hash.h. */
#include "appliance/base/hash.h"
#include "appliance/base/rnd.h"

#include <stdlib.h>

static uint64_t key0 = 0x0706050403020100ull, key1 = 0x0f0e0d0c0b0a0908ull;
static bool key_drawn;

void hash_key_init(void)
{
	uint64_t k[2];

	if (key_drawn)
		return;
	rnd_bytes(k, sizeof(k));
	key0 = k[0];
	key1 = k[1];
	key_drawn = true;
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = ROTL(v[1], 13) ^ v[0];
	v[0] = ROTL(v[0], 32);
	v[2] += v[3];
	v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTL(v[1], 17) ^ v[2];
	v[2] = ROTL(v[2], 32);
}

static uint64_t sip13(uint64_t k0, uint64_t k1, struct sl s)
{
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull,
			  k0 ^ 0x6c7967656e657261ull, k1 ^ 0x7465646279746573ull };
	size_t i = 0;
	uint64_t m;

	for (; i + 8 <= s.n; i += 8) {
		memcpy(&m, s.p + i, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	m = (uint64_t)s.n << 56;
	for (unsigned shift = 0; i < s.n; i++, shift += 8)
		m |= (uint64_t)(unsigned char)s.p[i] << shift;
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_bytes(struct sl s)
{
	return sip13(key0, key1, s);
}

uint64_t hash_more(uint64_t h, struct sl s)
{
	return sip13(key0 ^ h, key1, s);
}

void htable_init(struct htable *t)
{
	*t = (struct htable){ 0 };
}

void htable_free(struct htable *t)
{
	free(t->slot);
	htable_init(t);
}

static void resize(struct htable *t, size_t slots)
{
	struct hnode **slot = base_calloc(slots, sizeof(*slot));

	if (!slot)
		return;
	for (size_t i = 0; t->slot && i <= t->mask; i++)
		for (struct hnode *n = t->slot[i]; n;) {
			struct hnode *next = n->next;
			n->next = slot[n->hash & (slots - 1)];
			slot[n->hash & (slots - 1)] = n;
			n = next;
		}
	free(t->slot);
	t->slot = slot;
	t->mask = slots - 1;
}

int htable_add(struct htable *t, struct hnode *n, uint64_t hash)
{
	if (!t->slot)
		resize(t, 16);
	else if (t->n > t->mask)
		resize(t, (t->mask + 1) * 2);
	if (!t->slot)
		return E_NOMEM;
	n->hash = hash;
	n->next = t->slot[hash & t->mask];
	t->slot[hash & t->mask] = n;
	t->n++;
	return 0;
}

struct hnode *htable_find(const struct htable *t, uint64_t hash, hmatch_fn match, const void *key)
{
	if (!t->slot)
		return NULL;
	for (struct hnode *n = t->slot[hash & t->mask]; n; n = n->next)
		if (n->hash == hash && match(n, key))
			return n;
	return NULL;
}

void htable_del(struct htable *t, struct hnode *n)
{
	for (struct hnode **pp = &t->slot[n->hash & t->mask]; *pp; pp = &(*pp)->next)
		if (*pp == n) {
			*pp = n->next;
			n->next = NULL;
			t->n--;
			return;
		}
}

struct hnode *htable_next(const struct htable *t, const struct hnode *n)
{
	size_t i = 0;

	if (!t->slot)
		return NULL;
	if (n) {
		if (n->next)
			return n->next;
		i = (n->hash & t->mask) + 1;
	}
	for (; i <= t->mask; i++)
		if (t->slot[i])
			return t->slot[i];
	return NULL;
}
