/* scram.h - SCRAM verifiers (RFC 5802, RFC 7677): made from a password, made up for an unknown
 * user, checked.
 *
 * A verifier is the text that the store keeps: "SCRAM-SHA-256$ITER:base64(salt)$base64(StoredKey):
 * base64(ServerKey)". Deriving one costs milliseconds (PBKDF2): on an auth thread only, never in a
 * worker. Thread: any; no state. */
#ifndef TANDEM_XMPP_SCRAM_H
#define TANDEM_XMPP_SCRAM_H

#include "appliance/base/base.h"

enum scram_hash { SCRAM_SHA_1, SCRAM_SHA_256, SCRAM_SHA_512, SCRAM_HASHES };

#define SCRAM_SALT_OCTETS 16u
#define SCRAM_KEY_MAX     64u
#define SCRAM_ITER_MIN    4096u
#define SCRAM_ITER_MAX    1000000u
#define SCRAM_TEXT_MAX    320u /* longest verifier text that we make, with its NUL */

struct scram_verifier {
	enum scram_hash hash;
	uint32_t iterations;
	size_t nsalt, nkey;
	unsigned char salt[64];
	unsigned char stored_key[SCRAM_KEY_MAX], server_key[SCRAM_KEY_MAX];
};

/* "SCRAM-SHA-256" and so on, without -PLUS. */
struct sl scram_name(enum scram_hash h);
const char *scram_mechanism(enum scram_hash h, bool plus); /* static */
size_t scram_key_octets(enum scram_hash h);
/* The hash of a mechanism name, with or without -PLUS (*plus_r). E_NOTFOUND: no SCRAM mechanism of
 * ours. */
int scram_hash_of(struct sl mechanism, enum scram_hash *h_r, bool *plus_r);

/* Derive from a password that was prepared by precis_password. Slow. 0, E_INTERNAL. */
int scram_derive(enum scram_hash h, struct sl password, struct sl salt, uint32_t iterations,
		 struct scram_verifier *v_r);
/* The verifier of a user who does not exist: the same for the same name as long as the secret
 * lives, and of the same shape as a real one. No password fits it. name: lower-case bare JID or
 * whatever was asked for. */
int scram_fake(enum scram_hash h, struct sl secret, struct sl name, uint32_t iterations,
	       struct scram_verifier *v_r);
/* Does the password fit? Compares without a data-dependent branch. Slow. */
bool scram_check(const struct scram_verifier *v, struct sl password);

/* Text form into dst, NUL-terminated. Returns its length. */
size_t scram_text(const struct scram_verifier *v, char dst[SCRAM_TEXT_MAX]);
/* 0; E_SYNTAX; E_RANGE (iterations outside SCRAM_ITER_*; salt of no octets, or too long). */
int scram_parse(struct sl text, struct scram_verifier *v_r, struct err *e);

#endif
