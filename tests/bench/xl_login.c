/* xl_login.c - from the first stream header to a bound resource (RFC 6120, SCRAM: RFC 5802, RFC
 * 7677, XEP-0198). Also XEP-0077, to make accounts on servers that have no quicker way. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/xl.h"

/* A password that was stretched once: all accounts of a benchmark may have the same salt, and the
 * client's share of the work is not what is measured. */
struct stretched {
	unsigned char salt[64], key[EVP_MAX_MD_SIZE];
	size_t nsalt;
	int iterations;
};
#define STRETCHED_MAX 4096
static struct stretched *stretched[STRETCHED_MAX];

static const EVP_MD *digest(void)
{
	if (strstr(xl_opt.mechanism, "SHA-512"))
		return EVP_sha512();
	return strstr(xl_opt.mechanism, "SHA-256") ? EVP_sha256() : EVP_sha1();
}

static const unsigned char *stretch(const unsigned char *salt, size_t nsalt, int iterations)
{
	uint32_t slot = (uint32_t)iterations;
	for (size_t i = 0; i < nsalt; i++)
		slot = slot * 31 + salt[i];
	struct stretched **at = &stretched[slot % STRETCHED_MAX];
	if (!*at && !(*at = calloc(1, sizeof **at)))
		xl_die("out of memory");
	struct stretched *s = *at;
	if (s->nsalt == nsalt && s->iterations == iterations && !memcmp(s->salt, salt, nsalt))
		return s->key;
	if (nsalt > sizeof s->salt)
		xl_die("salt of %zu octets", nsalt);
	memcpy(s->salt, salt, nsalt);
	s->nsalt = nsalt;
	s->iterations = iterations;
	PKCS5_PBKDF2_HMAC(xl_opt.password, (int)strlen(xl_opt.password), salt, (int)nsalt,
			  iterations, digest(), EVP_MD_size(digest()), s->key);
	return s->key;
}

static void header(struct xl_conn *c)
{
	xl_writef(c,
		  "<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
		  "xmlns:stream='http://etherx.jabber.org/streams'>",
		  xl_opt.domain);
}

void xl_login_start(struct xl_conn *c)
{
	c->state = XL_FEATURES;
	c->nin = 0;
	header(c);
}

static void user_name(struct xl_conn *c, char *dst, size_t size)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(dst, size, xl_opt.user_format, c->user);
#pragma GCC diagnostic pop
}

static void send_auth(struct xl_conn *c, const char *text, size_t n, bool first)
{
	char b64[2048];
	xl_base64((const unsigned char *)text, n, b64);
	if (first)
		xl_writef(c,
			  "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>",
			  xl_opt.mechanism, b64);
	else
		xl_writef(c, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>",
			  b64);
}

static void authenticate(struct xl_conn *c)
{
	char user[64], text[256];
	user_name(c, user, sizeof user);
	c->state = XL_SASL;
	if (!strcmp(xl_opt.mechanism, "PLAIN")) {
		int n = snprintf(text, sizeof text, "%c%s%c%s", 0, user, 0, xl_opt.password);
		send_auth(c, text, (size_t)n, true);
		return;
	}
	int n = snprintf(text, sizeof text, "n,,n=%s,r=n%08x%08x", user, c->index * 2654435761u,
			 (unsigned)xl_now_ns());
	free(c->scram_first);
	c->scram_first = strdup(text + 3);
	send_auth(c, text, (size_t)n, true);
}

static void hmac(const unsigned char *key, size_t nkey, const char *s, size_t n, unsigned char *dst)
{
	unsigned len;
	HMAC(digest(), key, (int)nkey, (const unsigned char *)s, n, dst, &len);
}

static void challenge(struct xl_conn *c, const char *s, size_t n)
{
	char b64[2048], text[1600], final[2048], proof64[128], nonce[512], salt64[128];
	unsigned char salt[128], client_key[64], stored[64], signature[64];
	int iterations;
	if (!xl_child_text(s, n, "challenge", b64, sizeof b64))
		xl_die("bad challenge");
	size_t len = xl_unbase64(b64, strlen(b64), (unsigned char *)text);
	text[len] = 0;
	if (sscanf(text, "r=%511[^,],s=%127[^,],i=%d", nonce, salt64, &iterations) != 3)
		xl_die("bad challenge: %s", text);
	size_t size = (size_t)EVP_MD_size(digest());
	const unsigned char *key =
		stretch(salt, xl_unbase64(salt64, strlen(salt64), salt), iterations);
	hmac(key, size, "Client Key", 10, client_key);
	EVP_Digest(client_key, size, stored, NULL, digest(), NULL);
	int nf = snprintf(final, sizeof final, "c=biws,r=%s", nonce);
	char auth[4096];
	int na = snprintf(auth, sizeof auth, "%s,%s,%s", c->scram_first, text, final);
	hmac(stored, size, auth, (size_t)na, signature);
	for (size_t i = 0; i < size; i++)
		client_key[i] ^= signature[i];
	xl_base64(client_key, size, proof64);
	nf += snprintf(final + nf, sizeof final - (size_t)nf, ",p=%s", proof64);
	send_auth(c, final, (size_t)nf, false);
}

static void ready(struct xl_conn *c)
{
	c->state = XL_READY;
	c->h_in = 0;
	free(c->scram_first);
	c->scram_first = NULL;
	if (xl_opt.presence) {
		xl_writef(c, "<presence/>");
		c->sent++;
	}
	xl_nready++;
	c->ops->on_ready(c);
}

static void bound(struct xl_conn *c, const char *s, size_t n)
{
	if (xl_opt.registering) {
		char type[16];
		if (!xl_attribute(s, n, "type", type, sizeof type) || strcmp(type, "result"))
			xl_die("not registered: %.*s", (int)n, s);
		ready(c);
		return;
	}
	if (!xl_child_text(s, n, "jid", c->jid, sizeof c->jid))
		xl_die("connection %u: no JID bound: %.*s", c->index, (int)n, s);
	if (xl_opt.sm) {
		xl_writef(c, "<enable xmlns='urn:xmpp:sm:3'/>");
		c->state = XL_ENABLING;
	} else {
		ready(c);
	}
}

static void features(struct xl_conn *c)
{
	if (c->state == XL_BOUND_FEATURES) {
		c->state = XL_BINDING;
		xl_writef(c,
			  "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
			  "<resource>%s</resource></bind></iq>",
			  xl_opt.resource);
	} else if (xl_opt.tls == XL_STARTTLS && !c->tls_done) {
		c->state = XL_STARTING_TLS;
		xl_writef(c, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
	} else if (xl_opt.registering) {
		char user[64];
		user_name(c, user, sizeof user);
		c->state = XL_BINDING;
		xl_writef(
			c,
			"<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>%s</username>"
			"<password>%s</password></query></iq>",
			user, xl_opt.password);
	} else {
		authenticate(c);
	}
}

void xl_login_stanza(struct xl_conn *c, const char *s, size_t n)
{
	if (xl_is(s, n, "stream:features")) {
		features(c);
	} else if (c->state == XL_STARTING_TLS && xl_is(s, n, "proceed")) {
		xl_start_tls(c);
	} else if (c->state == XL_SASL && xl_is(s, n, "challenge")) {
		challenge(c, s, n);
	} else if (c->state == XL_SASL && xl_is(s, n, "success")) {
		c->state = XL_BOUND_FEATURES;
		header(c);
	} else if (c->state == XL_BINDING && xl_is(s, n, "iq")) {
		bound(c, s, n);
	} else if (c->state == XL_ENABLING && xl_is(s, n, "enabled")) {
		ready(c);
	} else if (!(c->state == XL_ENABLING && xl_is(s, n, "presence"))) {
		xl_die("connection %u (user %u): unexpected: %.*s", c->index, c->user, (int)n, s);
	}
}
