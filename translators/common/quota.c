/* quota.c - see quota.h. Tokens are counted in 60,000ths, so that a millisecond adds per_minute of
 * them. */
#include "translators/common/quota.h"

#include "appliance/base/hash.h"

#define TOKEN 60000u

struct bucket {
	struct hnode hn;
	uint64_t at_ms, tokens;
	size_t n;
	char key[];
};

struct quota {
	struct htable buckets;
};

static bool match(const struct hnode *h, const void *key)
{
	const struct bucket *b = container_of(h, struct bucket, hn);
	const struct sl *k = key;

	return b->n == k->n && memcmp(b->key, k->p, k->n) == 0;
}

int quota_new(struct quota **q_r)
{
	struct quota *q = calloc(1, sizeof(*q));

	if (!q)
		return E_NOMEM;
	*q_r = q;
	return 0;
}

void quota_free(struct quota **qp)
{
	struct quota *q = *qp;
	struct hnode *h;

	*qp = NULL;
	if (!q)
		return;
	while ((h = htable_next(&q->buckets, NULL))) {
		htable_del(&q->buckets, h);
		free(container_of(h, struct bucket, hn));
	}
	htable_free(&q->buckets);
	free(q);
}

static struct bucket *get(struct quota *q, struct sl key, uint32_t per_minute, uint64_t now_ms)
{
	struct hnode *h = htable_find(&q->buckets, hash_bytes(key), match, &key);
	struct bucket *b = h ? container_of(h, struct bucket, hn) : malloc(sizeof(*b) + key.n);

	if (h || !b)
		return b;
	b->at_ms = now_ms;
	b->tokens = (uint64_t)per_minute * TOKEN;
	b->n = key.n;
	if (key.n)
		memcpy(b->key, key.p, key.n);
	if (htable_add(&q->buckets, &b->hn, hash_bytes(key)) < 0) {
		free(b);
		return NULL;
	}
	return b;
}

bool quota_take(struct quota *q, struct sl key, uint32_t per_minute, uint64_t now_ms)
{
	struct bucket *b = per_minute ? get(q, key, per_minute, now_ms) : NULL;
	uint64_t full = (uint64_t)per_minute * TOKEN;

	if (!b)
		return true;
	if (now_ms > b->at_ms)
		b->tokens += (now_ms - b->at_ms) * per_minute;
	if (b->tokens > full)
		b->tokens = full;
	b->at_ms = now_ms;
	if (b->tokens < TOKEN)
		return false;
	b->tokens -= TOKEN;
	return true;
}

void quota_sweep(struct quota *q, uint64_t now_ms)
{
	struct hnode *h = htable_next(&q->buckets, NULL), *next;

	for (; h; h = next) {
		struct bucket *b = container_of(h, struct bucket, hn);
		next = htable_next(&q->buckets, h);
		if (now_ms > b->at_ms + 60000u) {
			htable_del(&q->buckets, h);
			free(b);
		}
	}
}
