/* scram.c - see scram.h. RFC 5802 section 3: SaltedPassword := Hi(password, salt, i); ClientKey :=
 * HMAC(SaltedPassword, "Client Key"); StoredKey := H(ClientKey); ServerKey := HMAC(SaltedPassword,
 * "Server Key"). */
#include "xmpp/access/scram.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "appliance/base/enc.h"
#include "xmpp/access/pbkdf2.h"

static const struct {
	struct sl name, plus;
	const EVP_MD *(*md)(void);
	size_t octets;
} hashes[SCRAM_HASHES] = {
	[SCRAM_SHA_1] = { SL("SCRAM-SHA-1"), SL("SCRAM-SHA-1-PLUS"), EVP_sha1, 20 },
	[SCRAM_SHA_256] = { SL("SCRAM-SHA-256"), SL("SCRAM-SHA-256-PLUS"), EVP_sha256, 32 },
	[SCRAM_SHA_512] = { SL("SCRAM-SHA-512"), SL("SCRAM-SHA-512-PLUS"), EVP_sha512, 64 },
};

struct sl scram_name(enum scram_hash h)
{
	return hashes[h].name;
}

const char *scram_mechanism(enum scram_hash h, bool plus)
{
	return plus ? hashes[h].plus.p : hashes[h].name.p;
}

size_t scram_key_octets(enum scram_hash h)
{
	return hashes[h].octets;
}

int scram_hash_of(struct sl mechanism, enum scram_hash *h_r, bool *plus_r)
{
	for (unsigned i = 0; i < SCRAM_HASHES; i++) {
		bool plus = sl_eq(mechanism, hashes[i].plus);

		if (!plus && !sl_eq(mechanism, hashes[i].name))
			continue;
		*h_r = (enum scram_hash)i;
		if (plus_r)
			*plus_r = plus;
		return 0;
	}
	return E_NOTFOUND;
}

static bool hmac(const EVP_MD *md, struct sl key, struct sl data, unsigned char *out)
{
	unsigned n;

	return HMAC(md, key.p, (int)key.n, (const unsigned char *)data.p, data.n, out, &n) != NULL;
}

int scram_derive(enum scram_hash h, struct sl password, struct sl salt, uint32_t iterations,
		 struct scram_verifier *v_r)
{
	const EVP_MD *md = hashes[h].md();
	int n = (int)hashes[h].octets;
	struct scram_verifier v = {
		.hash = h, .iterations = iterations, .nsalt = salt.n, .nkey = (size_t)n
	};
	unsigned char salted[SCRAM_KEY_MAX], client[SCRAM_KEY_MAX];
	struct sl key = { (const char *)salted, (size_t)n };
	bool ok;

	if (salt.n == 0 || salt.n > sizeof(v.salt) || password.n > 4096)
		return E_RANGE;
	memcpy(v.salt, salt.p, salt.n);
	pbkdf2(h, password, salt, iterations, salted);
	ok = hmac(md, key, SL("Client Key"), client) &&
	     EVP_Digest(client, (size_t)n, v.stored_key, NULL, md, NULL) == 1 &&
	     hmac(md, key, SL("Server Key"), v.server_key);
	wipe(salted, sizeof(salted));
	wipe(client, sizeof(client));
	if (!ok)
		return E_INTERNAL;
	*v_r = v;
	return 0;
}

/* One labelled value from the server's secret. */
static bool fake_value(struct sl secret, const char *label, enum scram_hash h, struct sl name,
		       unsigned char *out)
{
	char text[16 + 1024];
	struct sl data = { text, 0 };

	data.n = (size_t)snprintf(text, sizeof(text), "%s %u %.*s", label, (unsigned)h,
				  (int)(name.n > 1000 ? 1000 : name.n), name.p ? name.p : "");
	return hmac(EVP_sha512(), secret, data, out);
}

int scram_fake(enum scram_hash h, struct sl secret, struct sl name, uint32_t iterations,
	       struct scram_verifier *v_r)
{
	struct scram_verifier v = { .hash = h,
				    .iterations = iterations,
				    .nsalt = SCRAM_SALT_OCTETS,
				    .nkey = hashes[h].octets };
	unsigned char salt[SCRAM_KEY_MAX];

	if (!fake_value(secret, "salt", h, name, salt) ||
	    !fake_value(secret, "stored", h, name, v.stored_key) ||
	    !fake_value(secret, "server", h, name, v.server_key))
		return E_INTERNAL;
	memcpy(v.salt, salt, SCRAM_SALT_OCTETS);
	*v_r = v;
	return 0;
}

bool scram_check(const struct scram_verifier *v, struct sl password)
{
	struct scram_verifier got;
	struct sl salt = { (const char *)v->salt, v->nsalt };
	bool same;

	if (scram_derive(v->hash, password, salt, v->iterations, &got) != 0)
		return false;
	same = sl_eq_const_time(sl_mk((const char *)got.stored_key, got.nkey),
				sl_mk((const char *)v->stored_key, v->nkey));
	wipe(&got, sizeof(got));
	return same;
}

size_t scram_text(const struct scram_verifier *v, char dst[SCRAM_TEXT_MAX])
{
	unsigned char salt[96], stored[96], server[96]; /* base64 of 64 octets: 88 and a NUL */

	EVP_EncodeBlock(salt, v->salt, (int)v->nsalt);
	EVP_EncodeBlock(stored, v->stored_key, (int)v->nkey);
	EVP_EncodeBlock(server, v->server_key, (int)v->nkey);
	return (size_t)snprintf(dst, SCRAM_TEXT_MAX, "%s$%u:%s$%s:%s", hashes[v->hash].name.p,
				v->iterations, (char *)salt, (char *)stored, (char *)server);
}

/* The field of s from *at up to stop (or the end); *at goes behind it. */
static struct sl field(struct sl s, size_t *at, char stop)
{
	size_t end = sl_find(s, stop, *at);
	struct sl f = sl_sub(s, *at, end);

	*at = end < s.n ? end + 1 : s.n;
	return f;
}

static int binary(struct sl b64, unsigned char *dst, size_t cap, size_t *n_r)
{
	struct buf b;
	int rc;

	buf_init(&b, cap + 3); /* the decoder reserves whole groups */
	rc = b64_decode(&b, b64);
	if (rc == 0 && b.n > cap)
		rc = E_TOOBIG;
	if (rc == 0) {
		*n_r = b.n;
		if (b.n)
			memcpy(dst, buf_sl(&b).p, b.n);
	}
	buf_free(&b);
	return rc;
}

int scram_parse(struct sl text, struct scram_verifier *v_r, struct err *e)
{
	struct scram_verifier v = { 0 };
	uint64_t iter;
	size_t at = 0, nserver = 0;
	struct sl name = field(text, &at, '$'), it = field(text, &at, ':'),
		  salt = field(text, &at, '$');
	struct sl stored = field(text, &at, ':'), server = sl_sub(text, at, text.n);
	bool plus = true;

	if (scram_hash_of(name, &v.hash, &plus) != 0 || plus)
		return err_set(e, E_SYNTAX, "RFC 5803 3",
			       "not a SCRAM verifier of a known mechanism");
	if (sl_to_u64(it, UINT32_MAX, &iter) != 0)
		return err_set(e, E_SYNTAX, "RFC 5803 3", "the iteration count is no number");
	if (iter < SCRAM_ITER_MIN || iter > SCRAM_ITER_MAX)
		return err_set(e, E_RANGE, "RFC 7677 4",
			       "%llu iterations: from %u to %u are allowed",
			       (unsigned long long)iter, SCRAM_ITER_MIN, SCRAM_ITER_MAX);
	v.iterations = (uint32_t)iter;
	if (binary(salt, v.salt, sizeof(v.salt), &v.nsalt) != 0 || v.nsalt == 0)
		return err_set(e, E_RANGE, "RFC 5803 3",
			       "the salt is not base64 of 1 to 64 octets");
	if (binary(stored, v.stored_key, sizeof(v.stored_key), &v.nkey) != 0 ||
	    binary(server, v.server_key, sizeof(v.server_key), &nserver) != 0 ||
	    v.nkey != hashes[v.hash].octets || nserver != v.nkey)
		return err_set(e, E_SYNTAX, "RFC 5803 3",
			       "StoredKey and ServerKey are not base64 of %zu octets",
			       hashes[v.hash].octets);
	*v_r = v;
	return 0;
}
