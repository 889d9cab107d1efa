/* xmpp_client.h - the client's end of a stream, for tests: a blocking socket, TLS on demand, SCRAM.
 * It sends and receives text and knows nothing else of XMPP.
 *
 * Nothing here waits longer than XC_WAIT_MS; failures are returned, with the reason in c->error. */
#ifndef TANDEM_TESTS_UNIT_XMPP_CLIENT_H
#define TANDEM_TESTS_UNIT_XMPP_CLIENT_H

#include "appliance/base/base.h"
#include "appliance/base/buf.h"

#define XC_WAIT_MS 5000

enum xc_cut { XC_WHOLE, XC_OCTETS, XC_RANDOM }; /* how what is sent is cut into writes */

struct xc {
	int fd;
	void *ssl, *ssl_ctx; /* OpenSSL's */
	struct buf in;       /* received, not yet taken */
	bool eof;
	char *sni; /* NULL: "localhost" */
	enum xc_cut cut;
	unsigned seed;
	char error[2048];
};

void xc_init(struct xc *c);
int xc_connect(struct xc *c, uint16_t port);
int xc_connect_unix(struct xc *c, const char *path);
/* alpn: protocol to offer, or NULL. max13: false stops at TLS 1.2. */
int xc_tls(struct xc *c, const char *alpn, bool max13);
int xc_send(struct xc *c, struct sl data);
/* Wait for more input: > 0, 0 at the end of file, < 0 (time-out). */
int xc_more(struct xc *c, int wait_ms);
/* Read until text occurs; *upto_r (may be NULL) gets everything up to its end, valid until the next
 * call that reads; that is taken from the input by the next xc_until. */
int xc_until(struct xc *c, const char *text, struct sl *upto_r);
void xc_close(struct xc *c); /* at once */
/* The name in the server's certificate. */
void xc_peer_name(struct xc *c, char *dst, size_t cap);

/* SCRAM exchange inside <auth/>, <challenge/>, <response/>, <success/> or <failure/>: the outcome
 * is what the server said last. hash 1, 256 or 512. binding: NULL, "tls-exporter" or
 * "tls-server-end-point" (-PLUS). 0: success, and the server's signature was right. */
int xc_scram(struct xc *c, int hash, const char *binding, const char *user, const char *password);

/* Header, features, optional STARTTLS and all, up to a bound resource. Returns 0 with the full JID
 * in jid (when not NULL). */
int xc_login(struct xc *c, const char *host, const char *user, const char *password,
	     const char *resource, bool tls, char *jid, size_t cap);

#endif
