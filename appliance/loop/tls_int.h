/* tls_int.h - what tls.c and conn_tls.c share. Only appliance/loop sees OpenSSL's stream headers.
 */
#ifndef TANDEM_LOOP_TLS_INT_H
#define TANDEM_LOOP_TLS_INT_H

#include "appliance/loop/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

/* A certificate for clients that name this host (SNI). */
struct tls_host {
	struct tls_host *next;
	struct tls_ctx *ctx; /* a reference */
	char name[];
};

struct tls_ctx {
	_Atomic unsigned refs;
	SSL_CTX *ctx;
	bool verify; /* client: the host name is checked */
	/* In wire form: length, name, length, name ...; alpn_n 0: none. */
	unsigned char *alpn;
	unsigned alpn_n;
	/* RFC 5929 hash of our own certificate; 0 octets: none is defined for it. */
	unsigned char end_point[EVP_MAX_MD_SIZE];
	unsigned end_point_n;
	struct tls_host *hosts;
};

/* RFC 5929 section 4.1: the hash of the certificate's signature, but SHA-256 for MD5 and SHA-1.
 * Octets in out, 0: not defined (a signature without a separate hash). */
unsigned tls_end_point_hash(X509 *cert, unsigned char out[EVP_MAX_MD_SIZE]);

/* The reason of the newest error in OpenSSL's queue, static; never NULL. */
const char *tls_reason(void);

#endif
