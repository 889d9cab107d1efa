/* xmpp_client.c - see xmpp_client.h. */
#include "tests/unit/xmpp_client.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "appliance/base/enc.h"

#define IN_MAX (64u << 20)

static int fail(struct xc *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int fail(struct xc *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->error, sizeof(c->error), fmt, ap);
	va_end(ap);
	return -1;
}

void xc_init(struct xc *c)
{
	memset(c, 0, sizeof(*c));
	c->fd = -1;
	buf_init(&c->in, IN_MAX);
}

int xc_connect(struct xc *c, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	int on = 1;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&in, sizeof(in)) != 0)
		return fail(c, "cannot connect to port %u", port);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return 0;
}

int xc_connect_unix(struct xc *c, const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&un, sizeof(un)) != 0)
		return fail(c, "cannot connect to %s", path);
	return 0;
}

int xc_tls(struct xc *c, const char *alpn, bool max13)
{
	unsigned char list[64];
	size_t n = alpn ? strlen(alpn) : 0;

	c->ssl_ctx = SSL_CTX_new(TLS_client_method());
	if (!max13)
		SSL_CTX_set_max_proto_version(c->ssl_ctx, TLS1_2_VERSION);
	c->ssl = SSL_new(c->ssl_ctx);
	if (alpn && n < sizeof(list)) {
		list[0] = (unsigned char)n;
		memcpy(list + 1, alpn, n);
		SSL_set_alpn_protos(c->ssl, list, (unsigned)n + 1);
	}
	SSL_set_tlsext_host_name(c->ssl, c->sni ? c->sni : (char *)(uintptr_t) "localhost");
	SSL_set_fd(c->ssl, c->fd);
	if (SSL_connect(c->ssl) != 1)
		return fail(c, "TLS handshake failed");
	return 0;
}

static int send_piece(struct xc *c, struct sl s)
{
	while (s.n) {
		ssize_t n = c->ssl ? SSL_write(c->ssl, s.p, (int)s.n)
				   : send(c->fd, s.p, s.n, MSG_NOSIGNAL);

		if (n <= 0)
			return fail(c, "cannot send: the peer is gone");
		s = sl_sub(s, (size_t)n, s.n);
	}
	return 0;
}

int xc_send(struct xc *c, struct sl data)
{
	size_t n;

	while (data.n) {
		n = c->cut == XC_WHOLE    ? data.n
		    : c->cut == XC_OCTETS ? 1
					  : 1 + (size_t)rand_r(&c->seed) % 48;
		if (send_piece(c, sl_sub(data, 0, n)) != 0)
			return -1;
		data = sl_sub(data, n, data.n);
		if (c->cut != XC_WHOLE && data.n)
			usleep(c->cut == XC_OCTETS ? 30 : 100);
	}
	return 0;
}

int xc_more(struct xc *c, int wait_ms)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	char *at;
	ssize_t n;

	if (c->eof)
		return 0;
	if (!(c->ssl && SSL_pending(c->ssl)) && poll(&p, 1, wait_ms) <= 0)
		return fail(c, "nothing came for %d ms", wait_ms);
	at = buf_reserve(&c->in, 65536);
	if (!at)
		return fail(c, "too much came");
	n = c->ssl ? SSL_read(c->ssl, at, 65536) : recv(c->fd, at, 65536, 0);
	if (n <= 0) {
		c->eof = true;
		return 0;
	}
	buf_commit(&c->in, (size_t)n);
	return 1;
}

int xc_until(struct xc *c, const char *text, struct sl *upto_r)
{
	size_t n = strlen(text);
	int rc = 1;

	for (;;) {
		struct sl in = buf_sl(&c->in);
		char *at = in.n >= n ? memmem(in.p, in.n, text, n) : NULL;

		if (at) {
			size_t upto = (size_t)(at - in.p) + n;

			/* The bytes stay where they are until the next read. */
			if (upto_r)
				*upto_r = sl_mk(in.p, upto);
			c->in.off += upto;
			c->in.n -= upto;
			return 0;
		}
		if (rc <= 0)
			return fail(c, "wanted '%s', got '%.1600s'", text, in.n ? in.p : "");
		rc = xc_more(c, XC_WAIT_MS);
	}
}

void xc_close(struct xc *c)
{
	if (c->ssl)
		SSL_free(c->ssl);
	if (c->ssl_ctx)
		SSL_CTX_free(c->ssl_ctx);
	if (c->fd >= 0)
		close(c->fd);
	buf_free(&c->in);
	xc_init(c);
}

void xc_peer_name(struct xc *c, char *dst, size_t cap)
{
	X509 *cert = SSL_get1_peer_certificate(c->ssl);

	snprintf(dst, cap, "none");
	if (cert)
		X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, dst,
					  (int)cap);
	X509_free(cert);
}

/* ---- SCRAM ----------------------------------------------------------------------------------- */

struct scram {
	const EVP_MD *md;
	int octets;
	const char *name;
	char gs2[256], first[256];
	unsigned char cb[64];
	size_t ncb;
	char server_first[512], without_proof[1024];
	unsigned char salted[64], server_sig[64];
};

static int binding_data(struct xc *c, const char *type, struct scram *s)
{
	X509 *cert;
	unsigned n = 0;

	if (strcmp(type, "tls-exporter") == 0) {
		s->ncb = 32;
		return SSL_export_keying_material(c->ssl, s->cb, 32, "EXPORTER-Channel-Binding", 24,
						  (const unsigned char *)"", 0, 1) == 1
			       ? 0
			       : fail(c, "no exporter");
	}
	cert = SSL_get1_peer_certificate(c->ssl);
	if (!cert || X509_digest(cert, EVP_sha256(), s->cb, &n) != 1)
		return fail(c, "no certificate");
	X509_free(cert);
	s->ncb = n;
	return 0;
}

static void mac(const struct scram *s, const void *key, const char *text, unsigned char *out)
{
	unsigned n;

	HMAC(s->md, key, s->octets, (const unsigned char *)text, strlen(text), out, &n);
}

static int b64(const void *p, size_t n, char *dst)
{
	return EVP_EncodeBlock((unsigned char *)dst, p, (int)n);
}

/* Text of the element that the server sent, decoded. */
static int payload(struct sl xml, char *dst, size_t cap)
{
	size_t from = sl_find(xml, '>', 0) + 1, to = sl_find(xml, '<', from);
	struct buf b;
	int rc;

	buf_init(&b, cap - 1);
	rc = b64_decode(&b, sl_sub(xml, from, to));
	if (rc == 0) {
		memcpy(dst, buf_sl(&b).p ? buf_sl(&b).p : "", b.n);
		dst[b.n] = '\0';
	}
	buf_free(&b);
	return rc;
}

/* From the server's first message to ours that ends it. */
static int proof(struct xc *c, struct scram *s, const char *password, char *dst, size_t cap)
{
	char *r = strstr(s->server_first, "r="), *salt64 = strstr(s->server_first, ",s="),
	     *iter = strstr(s->server_first, ",i=");
	unsigned char salt[96], client_key[64], stored[64], sig[64], server_key[64];
	char auth[2048], cbind[512], proof64[128], raw[400];
	size_t ngs2 = strlen(s->gs2);
	int n;

	if (!r || !salt64 || !iter)
		return fail(c, "bad server-first '%s'", s->server_first);
	memcpy(raw, s->gs2, ngs2);
	memcpy(raw + ngs2, s->cb, s->ncb);
	b64(raw, ngs2 + s->ncb, cbind);
	*iter = *salt64 = '\0';
	n = EVP_DecodeBlock(salt, (unsigned char *)salt64 + 3, (int)strlen(salt64 + 3));
	for (size_t k = strlen(salt64 + 3); k && salt64[3 + k - 1] == '='; k--)
		n--;
	PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, n, (int)strtol(iter + 3, NULL, 10),
			  s->md, s->octets, s->salted);
	snprintf(s->without_proof, sizeof(s->without_proof), "c=%s,r=%s", cbind, r + 2);
	*iter = *salt64 = ',';
	snprintf(auth, sizeof(auth), "%s,%s,%s", s->first, s->server_first, s->without_proof);
	mac(s, s->salted, "Client Key", client_key);
	mac(s, s->salted, "Server Key", server_key);
	EVP_Digest(client_key, (size_t)s->octets, stored, NULL, s->md, NULL);
	mac(s, stored, auth, sig);
	mac(s, server_key, auth, s->server_sig);
	for (int i = 0; i < s->octets; i++)
		client_key[i] ^= sig[i];
	b64(client_key, (size_t)s->octets, proof64);
	snprintf(dst, cap, "%s,p=%s", s->without_proof, proof64);
	return 0;
}

static int say(struct xc *c, const char *before, const char *text, const char *after)
{
	char body[2048], all[4096];

	b64(text, strlen(text), body);
	snprintf(all, sizeof(all), "%s%s%s", before, body, after);
	return xc_send(c, sl_cstr(all));
}

static int heard(struct xc *c, const char *element, char *dst, size_t cap)
{
	struct sl xml;
	char end[32];

	snprintf(end, sizeof(end), "</%s>", element);
	for (;;) {
		struct sl in = buf_sl(&c->in);

		if (in.n &&
		    (memmem(in.p, in.n, "</failure>", 10) || memmem(in.p, in.n, end, strlen(end))))
			break;
		if (xc_more(c, XC_WAIT_MS) <= 0)
			return fail(c, "no answer to the login");
	}
	if (memmem(buf_sl(&c->in).p, c->in.n, "<failure", 8))
		return fail(c, SLFMT, SLARG(buf_sl(&c->in)));
	if (xc_until(c, end, &xml) != 0)
		return -1;
	return payload(xml, dst, cap) == 0 ? 0 : fail(c, "bad base64");
}

int xc_scram(struct xc *c, int hash, const char *binding, const char *user, const char *password)
{
	struct scram s = { .md = hash == 1     ? EVP_sha1()
				 : hash == 256 ? EVP_sha256()
					       : EVP_sha512(),
			   .octets = hash == 1 ? 20 : hash / 8 };
	char text[2048], open[256], sig[128], want[160];
	unsigned char nonce[12];
	char nonce64[32];

	RAND_bytes(nonce, sizeof(nonce));
	b64(nonce, sizeof(nonce), nonce64);
	if (binding && binding_data(c, binding, &s) != 0)
		return -1;
	if (binding)
		snprintf(s.gs2, sizeof(s.gs2), "p=%s,,", binding);
	else
		snprintf(s.gs2, sizeof(s.gs2), "n,,");
	snprintf(s.first, sizeof(s.first), "n=%s,r=%s", user, nonce64);
	snprintf(text, sizeof(text), "%s%s", s.gs2, s.first);
	snprintf(open, sizeof(open),
		 "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-%d%s'>", hash,
		 binding ? "-PLUS" : "");
	if (say(c, open, text, "</auth>") != 0 ||
	    heard(c, "challenge", s.server_first, sizeof(s.server_first)) != 0 ||
	    proof(c, &s, password, text, sizeof(text)) != 0 ||
	    say(c, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>", text, "</response>") !=
		    0 ||
	    heard(c, "success", text, sizeof(text)) != 0)
		return -1;
	b64(s.server_sig, (size_t)s.octets, sig);
	snprintf(want, sizeof(want), "v=%s", sig);
	return strcmp(text, want) == 0 ? 0 : fail(c, "the server's signature is wrong");
}

static int header(struct xc *c, const char *host)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
		 "xmlns:stream='http://etherx.jabber.org/streams'>",
		 host);
	return xc_send(c, sl_cstr(text)) == 0 ? xc_until(c, "</stream:features>", NULL) : -1;
}

int xc_login(struct xc *c, const char *host, const char *user, const char *password,
	     const char *resource, bool tls, char *jid, size_t cap)
{
	char text[512];
	struct sl answer;

	if (header(c, host) != 0)
		return -1;
	if (tls && (xc_send(c, SL("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")) != 0 ||
		    xc_until(c, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", NULL) != 0 ||
		    xc_tls(c, NULL, true) != 0 || header(c, host) != 0))
		return -1;
	if (xc_scram(c, 256, NULL, user, password) != 0 || header(c, host) != 0)
		return -1;
	snprintf(
		text, sizeof(text),
		"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>%s%s%s</bind></iq>",
		resource ? "<resource>" : "", resource ? resource : "",
		resource ? "</resource>" : "");
	if (xc_send(c, sl_cstr(text)) != 0 || xc_until(c, "</iq>", &answer) != 0)
		return -1;
	if (!memmem(answer.p, answer.n, "<jid>", 5))
		return fail(c, SLFMT, SLARG(answer));
	if (jid) {
		char *from = memmem(answer.p, answer.n, "<jid>", 5);
		struct sl rest = sl_sub(answer, (size_t)(from - answer.p) + 5, answer.n);

		sl_to_cstr(sl_sub(rest, 0, sl_find(rest, '<', 0)), jid, cap);
	}
	return 0;
}
