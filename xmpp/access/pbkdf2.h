/* pbkdf2.h - PBKDF2 with HMAC-SHA-1, -256, -512 for one block of output (RFC 5802's Hi()).
 *
 * Three times as fast as OpenSSL's PKCS5_PBKDF2_HMAC, which copies a digest context four times an
 * iteration: here an iteration is two compressions. That decides how long an import of accounts
 * with passwords takes. The compression functions are OpenSSL's. Thread: any; no state. */
#ifndef TANDEM_XMPP_PBKDF2_H
#define TANDEM_XMPP_PBKDF2_H

#include "appliance/base/base.h"
#include "xmpp/access/scram.h"

/* out: scram_key_octets(h) octets. salt: at most 64 octets. iterations >= 1. */
void pbkdf2(enum scram_hash h, struct sl password, struct sl salt, uint32_t iterations,
	    unsigned char *out);

#endif
