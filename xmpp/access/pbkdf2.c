/* pbkdf2.c - see pbkdf2.h. RFC 8018 5.2 with one block; RFC 2104. */
#define OPENSSL_SUPPRESS_DEPRECATED /* the compression functions have no other name */
#include "xmpp/access/pbkdf2.h"

#include <openssl/sha.h>

#define WORDS_MAX 8u
#define BLOCK_MAX 128u

/* A chaining value: 32-bit words, or 64-bit ones of SHA-512. */
union chain {
	uint32_t w[WORDS_MAX];
	uint64_t d[WORDS_MAX];
};

struct kind {
	size_t block, octets, word;
	void (*init)(union chain *c);
	void (*compress)(union chain *c, const unsigned char *block);
	void (*digest)(struct sl in, unsigned char *out);
};

static void init_1(union chain *c)
{
	SHA_CTX x;

	SHA1_Init(&x);
	c->w[0] = x.h0;
	c->w[1] = x.h1;
	c->w[2] = x.h2;
	c->w[3] = x.h3;
	c->w[4] = x.h4;
}

static void compress_1(union chain *c, const unsigned char *block)
{
	SHA_CTX x = { .h0 = c->w[0], .h1 = c->w[1], .h2 = c->w[2], .h3 = c->w[3], .h4 = c->w[4] };

	SHA1_Transform(&x, block);
	c->w[0] = x.h0;
	c->w[1] = x.h1;
	c->w[2] = x.h2;
	c->w[3] = x.h3;
	c->w[4] = x.h4;
}

static void digest_1(struct sl in, unsigned char *out)
{
	SHA1((const unsigned char *)in.p, in.n, out);
}

static void init_256(union chain *c)
{
	SHA256_CTX x;

	SHA256_Init(&x);
	memcpy(c->w, x.h, sizeof(x.h));
}

static void compress_256(union chain *c, const unsigned char *block)
{
	SHA256_CTX x;

	memcpy(x.h, c->w, sizeof(x.h));
	SHA256_Transform(&x, block);
	memcpy(c->w, x.h, sizeof(x.h));
}

static void digest_256(struct sl in, unsigned char *out)
{
	SHA256((const unsigned char *)in.p, in.n, out);
}

static void init_512(union chain *c)
{
	SHA512_CTX x;

	SHA512_Init(&x);
	memcpy(c->d, x.h, sizeof(x.h));
}

static void compress_512(union chain *c, const unsigned char *block)
{
	SHA512_CTX x;

	memcpy(x.h, c->d, sizeof(x.h));
	SHA512_Transform(&x, block);
	memcpy(c->d, x.h, sizeof(x.h));
}

static void digest_512(struct sl in, unsigned char *out)
{
	SHA512((const unsigned char *)in.p, in.n, out);
}

static const struct kind kinds[SCRAM_HASHES] = {
	[SCRAM_SHA_1] = { 64, 20, 4, init_1, compress_1, digest_1 },
	[SCRAM_SHA_256] = { 64, 32, 4, init_256, compress_256, digest_256 },
	[SCRAM_SHA_512] = { 128, 64, 8, init_512, compress_512, digest_512 },
};

static void put_be(unsigned char *p, uint64_t v, size_t n)
{
	while (n--) {
		p[n] = (unsigned char)(v & 0xff);
		v >>= 8;
	}
}

static void chain_put(const struct kind *k, const union chain *c, unsigned char *out)
{
	for (size_t i = 0; i < k->octets / k->word; i++)
		put_be(out + i * k->word, k->word == 4 ? c->w[i] : c->d[i], k->word);
}

/* The chaining value after the key, masked. */
static void keyed(const struct kind *k, const unsigned char *key, unsigned char mask,
		  union chain *c)
{
	unsigned char block[BLOCK_MAX];

	for (size_t i = 0; i < k->block; i++)
		block[i] = key[i] ^ mask;
	k->init(c);
	k->compress(c, block);
	wipe(block, sizeof(block));
}

/* Lay the end of a message of n octets behind the key's block: padding and length. The message and
 * its padding must fit in one block, or two (n is then too long for one: first is compressed here).
 */
static void finish(const struct kind *k, union chain *c, const unsigned char *msg, size_t n)
{
	unsigned char block[2 * BLOCK_MAX] = { 0 };
	size_t tail = k->word * 2, blocks = n + 1 + tail <= k->block ? 1 : 2;

	memcpy(block, msg, n);
	block[n] = 0x80;
	put_be(block + blocks * k->block - 8, (k->block + n) * 8, 8);
	for (size_t i = 0; i < blocks; i++)
		k->compress(c, block + i * k->block);
}

void pbkdf2(enum scram_hash h, struct sl password, struct sl salt, uint32_t iterations,
	    unsigned char *out)
{
	const struct kind *k = &kinds[h];
	unsigned char key[BLOCK_MAX] = { 0 }, msg[64 + 4], u[BLOCK_MAX] = { 0 };
	union chain inner, outer, c;

	if (password.n > k->block)
		k->digest(password, key);
	else if (password.n)
		memcpy(key, password.p, password.n);
	keyed(k, key, 0x36, &inner);
	keyed(k, key, 0x5c, &outer);
	memcpy(msg, salt.p, salt.n);
	put_be(msg + salt.n, 1, 4);
	c = inner;
	finish(k, &c, msg, salt.n + 4);
	chain_put(k, &c, u);
	/* From here on every message is one digest behind the key: one block with a fixed end. */
	u[k->octets] = 0x80;
	put_be(u + k->block - 8, (k->block + k->octets) * 8, 8);
	memset(out, 0, k->octets);
	for (uint32_t i = 0; i < iterations; i++) {
		if (i) {
			c = inner;
			k->compress(&c, u);
			chain_put(k, &c, u);
		}
		c = outer;
		k->compress(&c, u);
		chain_put(k, &c, u);
		for (size_t b = 0; b < k->octets; b++)
			out[b] ^= u[b];
	}
	wipe(key, sizeof(key));
	wipe(u, sizeof(u));
	wipe(&inner, sizeof(inner));
	wipe(&outer, sizeof(outer));
	wipe(&c, sizeof(c));
}
