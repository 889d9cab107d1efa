/* tls.h - TLS contexts (OpenSSL 3): TLS 1.2 or later, safe ciphers, buffers released when idle.
 *
 * A tls_ctx is reference-counted and safe to use from several threads; connections keep the one
 * that they started with, so a certificate reload swaps the context for new handshakes and drops
 * nobody. PEM texts are passed in, not paths: the process may be in a chroot by then. */
#ifndef TANDEM_LOOP_TLS_H
#define TANDEM_LOOP_TLS_H

#include "appliance/base/base.h"

struct tls_ctx;

void tls_init(void); /* once, before threads and chroot */

/* A server's context.
 * cert_pem  leaf first, then intermediates
 * key_pem   not behind a passphrase
 * alpn      names separated by commas, or NULL; a client that offers ALPN with none of them is
 * refused, one that offers none is not Returns 0, E_SYNTAX (PEM, alpn), E_AUTH (key does not
 * match), E_NOMEM. */
int tls_ctx_server(struct sl cert_pem, struct sl key_pem, const char *alpn, struct tls_ctx **t_r,
		   struct err *e);
/* A client's context.
 * ca_pem    trust anchors; SL_NULL: the system's store, read now
 * verify    false: encrypt only, ca_pem is not looked at (a warning is the caller's duty)
 * cert/key  may be SL_NULL
 * Returns 0, E_SYNTAX, E_AUTH (key does not match), E_NOTFOUND (no system store), E_NOMEM. */
int tls_ctx_client(struct sl ca_pem, bool verify, struct sl cert_pem, struct sl key_pem,
		   struct tls_ctx **t_r, struct err *e);
/* A client that names this host in its handshake (SNI, RFC 6066) gets host's certificate instead of
 * t's. A reference to host is taken. Before t is used. E_NOMEM. */
int tls_ctx_add_host(struct tls_ctx *t, struct sl name, struct tls_ctx *host);
/* Seconds from now to the end of the context's own certificate; negative: it has passed. 0: none.
 */
int64_t tls_ctx_valid_s(const struct tls_ctx *t);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *t);
void tls_ctx_unref(struct tls_ctx **t);

/* Self-signed ECDSA P-256 certificate for the names (comma-separated DNS names and addresses),
 * valid for `days`. Texts are malloc'ed, owned by the caller; the key is wiped by secret_clear
 * (*key_pem_r must be empty or a valid secret). 0, E_SYNTAX (names), E_TOOBIG, E_RANGE (days),
 * E_NOMEM, E_INTERNAL. */
int tls_self_signed(const char *names, unsigned days, char **cert_pem_r, struct secret *key_pem_r,
		    struct err *e);

#endif
