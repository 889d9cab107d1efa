/* scram_client.c - see scram_client.h. */
#include "translators/common/scram_client.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "appliance/base/arena.h"
#include "appliance/base/enc.h"
#include "appliance/base/rnd.h"
#include "xmpp/stream/jid.h"

#define NONCE_OCTETS 24u

struct scram_client {
	const EVP_MD *md;
	size_t nkey;
	struct arena *arena;
	struct secret password; /* prepared */
	struct sl gs2, first_bare;
	struct sl binding; /* gs2 header and channel binding, base64 */
	struct sl first;
	char nonce[NONCE_OCTETS + 1];
	struct buf final;
	unsigned char server_signature[EVP_MAX_MD_SIZE];
	bool answered, proved;
};

/* RFC 5802 5.1: a comma and an equals sign are written =2C and =3D. */
static struct sl saslname(struct arena *a, struct sl in)
{
	char *p = arena_bytes(a, in.n * 3 + 1);
	size_t n = 0;

	for (size_t i = 0; p && i < in.n; i++) {
		if (in.p[i] == ',' || in.p[i] == '=') {
			memcpy(p + n, in.p[i] == ',' ? "=2C" : "=3D", 3);
			n += 3;
		} else {
			p[n++] = in.p[i];
		}
	}
	return sl_mk(p, p ? n : 0);
}

static int base64(struct arena *a, struct sl raw, struct sl *out_r)
{
	struct buf b;
	int rc;

	buf_init(&b, 4096);
	rc = b64_encode(&b, raw);
	if (rc == 0) {
		*out_r = arena_dup(a, buf_sl(&b));
		rc = out_r->p ? 0 : E_NOMEM;
	}
	buf_free(&b);
	return rc;
}

static int first_message(struct scram_client *c, struct sl user, const struct scram_binding *b)
{
	struct sl raw, name = saslname(c->arena, user);
	char *p;

	rnd_token(c->nonce, NONCE_OCTETS);
	c->gs2 = b->flag == 'p' ? arena_printf(c->arena, "p=%s,,", b->name)
				: arena_printf(c->arena, "%c,,", b->flag);
	c->first_bare = arena_printf(c->arena, "n=" SLFMT ",r=%s", SLARG(name), c->nonce);
	c->first = arena_printf(c->arena, SLFMT SLFMT, SLARG(c->gs2), SLARG(c->first_bare));
	p = arena_bytes(c->arena, c->gs2.n + b->n + 1);
	if (!name.n || !c->gs2.n || !c->first_bare.n || !c->first.n || !p)
		return E_NOMEM;
	memcpy(p, c->gs2.p, c->gs2.n);
	if (b->flag == 'p')
		memcpy(p + c->gs2.n, b->data, b->n);
	raw = sl_mk(p, c->gs2.n + (b->flag == 'p' ? b->n : 0));
	return base64(c->arena, raw, &c->binding);
}

static int prepare_password(struct scram_client *c, struct sl password)
{
	struct arena *a = arena_new(1024, 64 * 1024);
	struct sl prepared;
	int rc = a ? precis_password(a, password, &prepared, NULL) : E_NOMEM;

	if (rc == 0)
		rc = secret_set(&c->password, prepared);
	if (rc == 0 && prepared.p != password.p && prepared.n)
		wipe((char *)(uintptr_t)prepared.p, prepared.n);
	arena_free(&a);
	return rc;
}

int scram_client_new(struct sl mech, struct sl user, struct sl password,
		     const struct scram_binding *b, struct scram_client **c_r)
{
	struct sl plain = b->flag == 'p' && mech.n > 5 ? sl_sub(mech, 0, mech.n - 5) : mech;
	struct scram_client *c;
	int rc;

	if (b->flag == 'p' && !sl_eq(sl_sub(mech, plain.n, mech.n), SL("-PLUS")))
		return E_UNSUPPORTED;
	if (!sl_eq(plain, SL("SCRAM-SHA-256")) && !sl_eq(plain, SL("SCRAM-SHA-512")))
		return E_UNSUPPORTED;
	c = calloc(1, sizeof(*c));
	if (!c)
		return E_NOMEM;
	c->md = sl_eq(plain, SL("SCRAM-SHA-256")) ? EVP_sha256() : EVP_sha512();
	c->nkey = (size_t)EVP_MD_get_size(c->md);
	c->arena = arena_new(1024, 16 * 1024);
	buf_init(&c->final, 8192);
	rc = c->arena ? prepare_password(c, password) : E_NOMEM;
	if (rc == 0)
		rc = first_message(c, user, b);
	if (rc != 0) {
		scram_client_free(&c);
		return rc;
	}
	*c_r = c;
	return 0;
}

struct sl scram_client_first(const struct scram_client *c)
{
	return c->first;
}

/* The value of "k=value" at the front of *s; what is behind its comma stays. */
static bool attribute(struct sl *s, char k, struct sl *value_r)
{
	size_t end = sl_find(*s, ',', 0);

	if (s->n < 2 || s->p[0] != k || s->p[1] != '=')
		return false;
	*value_r = sl_sub(*s, 2, end);
	*s = sl_sub(*s, end < s->n ? end + 1 : s->n, s->n);
	return true;
}

struct challenge {
	struct sl nonce;
	struct buf salt;
	uint64_t iterations;
};

/* "r=...,s=...,i=..." (an extension before it, "m=", must be refused). */
static int read_challenge(const struct scram_client *c, struct sl in, struct challenge *k)
{
	struct sl salt, iterations;

	if (!attribute(&in, 'r', &k->nonce) || !attribute(&in, 's', &salt) ||
	    !attribute(&in, 'i', &iterations) || b64_decode(&k->salt, salt) != 0 ||
	    k->salt.n == 0 || sl_to_u64(iterations, UINT32_MAX, &k->iterations) != 0)
		return E_SYNTAX;
	if (!sl_starts(k->nonce, sl_cstr(c->nonce)) || k->nonce.n == NONCE_OCTETS)
		return E_AUTH;
	return k->iterations < SCRAM_CLIENT_ITER_MIN || k->iterations > SCRAM_CLIENT_ITER_MAX
		       ? E_RANGE
		       : 0;
}

static bool hmac(const struct scram_client *c, const unsigned char *key, struct sl data,
		 unsigned char out[EVP_MAX_MD_SIZE])
{
	return HMAC(c->md, key, (int)c->nkey, (const unsigned char *)data.p, data.n, out, NULL) !=
	       NULL;
}

/* ClientProof, and the ServerSignature that is to come. */
static int prove(struct scram_client *c, const struct challenge *k, struct sl auth_message,
		 unsigned char proof[EVP_MAX_MD_SIZE])
{
	unsigned char salted[EVP_MAX_MD_SIZE], key[EVP_MAX_MD_SIZE], stored[EVP_MAX_MD_SIZE],
		signature[EVP_MAX_MD_SIZE];
	struct sl salt = buf_sl(&k->salt);
	bool ok = PKCS5_PBKDF2_HMAC(c->password.p, (int)c->password.n,
				    (const unsigned char *)salt.p, (int)salt.n, (int)k->iterations,
				    c->md, (int)c->nkey, salted) == 1 &&
		  hmac(c, salted, SL("Client Key"), key) &&
		  EVP_Digest(key, c->nkey, stored, NULL, c->md, NULL) == 1 &&
		  hmac(c, stored, auth_message, signature);

	for (size_t i = 0; ok && i < c->nkey; i++)
		proof[i] = key[i] ^ signature[i];
	ok = ok && hmac(c, salted, SL("Server Key"), key) &&
	     hmac(c, key, auth_message, c->server_signature);
	wipe(salted, sizeof(salted));
	wipe(key, sizeof(key));
	wipe(stored, sizeof(stored));
	return ok ? 0 : E_INTERNAL;
}

int scram_client_final(struct scram_client *c, struct sl server_first, struct sl *final_r)
{
	struct challenge k = { 0 };
	unsigned char proof[EVP_MAX_MD_SIZE];
	struct buf message;
	int rc;

	if (c->answered)
		return E_STATE;
	c->answered = true;
	buf_init(&k.salt, 4096);
	buf_init(&message, 16384);
	rc = read_challenge(c, server_first, &k);
	if (rc == 0)
		rc = buf_addf(&c->final, "c=" SLFMT ",r=" SLFMT, SLARG(c->binding), SLARG(k.nonce));
	if (rc == 0)
		rc = buf_addf(&message, SLFMT "," SLFMT "," SLFMT, SLARG(c->first_bare),
			      SLARG(server_first), SLARG(buf_sl(&c->final)));
	if (rc == 0)
		rc = prove(c, &k, buf_sl(&message), proof);
	if (rc == 0)
		rc = buf_add(&c->final, SL(",p="));
	if (rc == 0)
		rc = b64_encode(&c->final, sl_mk((const char *)proof, c->nkey));
	if (rc == 0) {
		c->proved = true;
		*final_r = buf_sl(&c->final);
	}
	buf_free(&k.salt);
	buf_free(&message);
	return rc;
}

bool scram_client_verify(const struct scram_client *c, struct sl server_final)
{
	struct sl value;
	struct buf b;
	bool ok;

	buf_init(&b, 256);
	ok = c->proved && attribute(&server_final, 'v', &value) &&
	     b64_decode(&b, value) == 0 &&
	     sl_eq_const_time(buf_sl(&b), sl_mk((const char *)c->server_signature, c->nkey));
	buf_free(&b);
	return ok;
}

void scram_client_free(struct scram_client **cp)
{
	struct scram_client *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	secret_clear(&c->password);
	wipe(c->server_signature, sizeof(c->server_signature));
	buf_free(&c->final);
	arena_free(&c->arena);
	free(c);
}
