/* tls.c - TLS contexts: versions, ciphers, certificates, ALPN, and self-signed certificates. See
 * tls.h.
 *
 * Memory decides some settings here, as there is one SSL object a connection: buffers are released
 * when they are empty, no session cache is kept on the server (tickets hold the state), one ticket
 * is sent. */
#include "appliance/loop/tls.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/tls_int.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

void tls_init(void)
{
	OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
}

const char *tls_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	return reason ? reason : "unknown reason";
}

static int tls_error(struct err *e, int code, const char *what)
{
	err_set(e, code, NULL, "%s: %s", what, tls_reason());
	ERR_clear_error();
	return code;
}

/* --- certificates and keys ------------------------------------------------------------------ */

static BIO *reader(struct sl pem)
{
	return pem.n > INT32_MAX ? NULL : BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.n);
}

/* No prompt on the terminal for an encrypted key: it is refused. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	UNUSED(buf);
	UNUSED(size);
	UNUSED(rwflag);
	UNUSED(arg);
	return -1;
}

static int use_chain(SSL_CTX *ctx, BIO *in)
{
	X509 *x = PEM_read_bio_X509(in, NULL, no_passphrase, NULL);
	int ok = x && SSL_CTX_use_certificate(ctx, x) == 1;

	X509_free(x);
	while (ok && (x = PEM_read_bio_X509(in, NULL, no_passphrase, NULL)) != NULL)
		if (SSL_CTX_add0_chain_cert(ctx, x) != 1) {
			X509_free(x);
			return E_SYNTAX;
		}
	if (!ok)
		return E_SYNTAX;
	/* The loop ended because no further block begins; anything else is a damaged one. */
	unsigned long end = ERR_peek_last_error();
	if (ERR_GET_LIB(end) != ERR_LIB_PEM || ERR_GET_REASON(end) != PEM_R_NO_START_LINE)
		return E_SYNTAX;
	ERR_clear_error();
	return 0;
}

static int use_key(SSL_CTX *ctx, struct sl key_pem, struct err *e)
{
	BIO *in = reader(key_pem);
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL) : NULL;
	int rc = 0;

	if (!key)
		rc = tls_error(e, E_SYNTAX, "private key");
	else if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		rc = tls_error(e, E_AUTH, "the private key does not match the certificate");
	EVP_PKEY_free(key);
	BIO_free(in);
	return rc;
}

static int use_cert(struct tls_ctx *t, struct sl cert_pem, struct sl key_pem, struct err *e)
{
	BIO *in = reader(cert_pem);
	int rc = in ? use_chain(t->ctx, in) : E_SYNTAX;

	BIO_free(in);
	if (rc < 0)
		return tls_error(e, rc, "certificate");
	rc = use_key(t->ctx, key_pem, e);
	if (rc == 0)
		t->end_point_n = tls_end_point_hash(SSL_CTX_get0_certificate(t->ctx), t->end_point);
	return rc;
}

unsigned tls_end_point_hash(X509 *cert, unsigned char out[EVP_MAX_MD_SIZE])
{
	int nid = NID_undef;
	unsigned n = 0;
	const EVP_MD *md;

	if (!cert || X509_get_signature_info(cert, &nid, NULL, NULL, NULL) != 1)
		return 0;
	if (nid == NID_md5 || nid == NID_sha1)
		nid = NID_sha256;
	md = EVP_get_digestbynid(nid);
	if (!md || X509_digest(cert, md, out, &n) != 1)
		return 0;
	return n;
}

/* --- contexts ------------------------------------------------------------------------------- */

static const char ciphers_tls12[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char groups[] = "X25519:P-256:P-384";

static int common_settings(SSL_CTX *ctx)
{
	static const unsigned char sid_ctx[] = "tandem";

	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_cipher_list(ctx, ciphers_tls12) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, groups) == 1 && SSL_CTX_set_num_tickets(ctx, 1) == 1 &&
	       SSL_CTX_set_session_id_context(ctx, sid_ctx, sizeof(sid_ctx) - 1) == 1;
}

static struct tls_ctx *ctx_new(const SSL_METHOD *method, struct err *e)
{
	struct tls_ctx *t = calloc(1, sizeof(*t));

	if (t)
		t->ctx = SSL_CTX_new(method);
	if (!t || !t->ctx || !common_settings(t->ctx)) {
		tls_error(e, E_NOMEM, "TLS context");
		if (t)
			SSL_CTX_free(t->ctx);
		free(t);
		return NULL;
	}
	t->refs = 1;
	return t;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void tls_ctx_unref(struct tls_ctx **tp)
{
	struct tls_ctx *t = *tp;

	*tp = NULL;
	if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	while (t->hosts) {
		struct tls_host *h = t->hosts;

		t->hosts = h->next;
		tls_ctx_unref(&h->ctx);
		free(h);
	}
	SSL_CTX_free(t->ctx);
	free(t->alpn);
	free(t);
}

/* A name that we do not have gets t's own certificate: the client will not like it, and says so. */
static int choose_host(SSL *ssl, int *alert, void *arg)
{
	const struct tls_ctx *t = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	UNUSED(alert);
	for (const struct tls_host *h = t->hosts; name && h; h = h->next) {
		if (strcasecmp(h->name, name) == 0) {
			SSL_set_SSL_CTX(ssl, h->ctx->ctx);
			break;
		}
	}
	return SSL_TLSEXT_ERR_OK;
}

int tls_ctx_add_host(struct tls_ctx *t, struct sl name, struct tls_ctx *host)
{
	struct tls_host *h = calloc(1, sizeof(*h) + name.n + 1);

	if (!h)
		return E_NOMEM;
	memcpy(h->name, name.p, name.n);
	h->ctx = tls_ctx_ref(host);
	h->next = t->hosts;
	t->hosts = h;
	SSL_CTX_set_tlsext_servername_callback(t->ctx, choose_host);
	SSL_CTX_set_tlsext_servername_arg(t->ctx, t);
	return 0;
}

/* RFC 7301 section 3.2: our order decides; a client that offers only others is refused with
 * no_application_protocol. A client that offers none is not asked. */
static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_n,
		       const unsigned char *in, unsigned in_n, void *arg)
{
	const struct tls_ctx *t = arg;
	unsigned char *sel = NULL;

	UNUSED(ssl);
	if (SSL_select_next_proto(&sel, out_n, t->alpn, t->alpn_n, in, in_n) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = sel;
	return SSL_TLSEXT_ERR_OK;
}

/* "a,b" to wire form. */
static int alpn_parse(struct tls_ctx *t, const char *list, struct err *e)
{
	struct sl rest = sl_cstr(list);

	t->alpn = malloc(rest.n + 1);
	if (!t->alpn)
		return err_set(e, E_NOMEM, NULL, "no memory for a TLS context");
	while (rest.n) {
		size_t n = sl_find(rest, ',', 0);

		if (n == 0 || n > 255)
			return err_set(e, E_SYNTAX, NULL, "ALPN list \"%s\"", list);
		t->alpn[t->alpn_n++] = (unsigned char)n;
		memcpy(t->alpn + t->alpn_n, rest.p, n);
		t->alpn_n += (unsigned)n;
		rest = sl_sub(rest, n + 1, rest.n);
	}
	return 0;
}

int tls_ctx_server(struct sl cert_pem, struct sl key_pem, const char *alpn, struct tls_ctx **t_r,
		   struct err *e)
{
	struct tls_ctx *t = ctx_new(TLS_server_method(), e);
	int rc;

	if (!t)
		return E_NOMEM;
	rc = use_cert(t, cert_pem, key_pem, e);
	if (rc == 0 && alpn)
		rc = alpn_parse(t, alpn, e);
	if (rc < 0) {
		tls_ctx_unref(&t);
		return rc;
	}
	if (t->alpn_n)
		SSL_CTX_set_alpn_select_cb(t->ctx, alpn_select, t);
	*t_r = t;
	return 0;
}

int64_t tls_ctx_valid_s(const struct tls_ctx *t)
{
	const X509 *x = SSL_CTX_get0_certificate(t->ctx);
	int days = 0, seconds = 0;

	if (!x || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)) != 1)
		return 0;
	return (int64_t)days * 86400 + seconds;
}

/* Read at once, as the folder that OpenSSL would look into later may be outside our chroot by then.
 */
static int load_system_trust(SSL_CTX *ctx, struct err *e)
{
	const char *own = getenv(X509_get_default_cert_file_env());
	const char *const places[] = {
		own,
		"/etc/ssl/certs/ca-certificates.crt", /* Debian */
		"/etc/pki/tls/certs/ca-bundle.crt",   /* Red Hat */
		X509_get_default_cert_file(),
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (places[i] && SSL_CTX_load_verify_file(ctx, places[i]) == 1) {
			ERR_clear_error();
			return 0;
		}
	ERR_clear_error();
	return err_set(e, E_NOTFOUND, NULL,
		       "no trust store of the system (package ca-certificates) and none given");
}

static int load_trust(SSL_CTX *ctx, struct sl ca_pem, struct err *e)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	BIO *in = reader(ca_pem);
	int n = 0;
	X509 *x;

	while (in && (x = PEM_read_bio_X509(in, NULL, no_passphrase, NULL)) != NULL) {
		n += X509_STORE_add_cert(store, x) == 1;
		X509_free(x);
	}
	BIO_free(in);
	if (n == 0)
		return tls_error(e, E_SYNTAX, "trust anchors");
	ERR_clear_error();
	return 0;
}

int tls_ctx_client(struct sl ca_pem, bool verify, struct sl cert_pem, struct sl key_pem,
		   struct tls_ctx **t_r, struct err *e)
{
	struct tls_ctx *t = ctx_new(TLS_client_method(), e);
	int rc = 0;

	if (!t)
		return E_NOMEM;
	t->verify = verify;
	if (verify) {
		SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
		rc = ca_pem.n ? load_trust(t->ctx, ca_pem, e) : load_system_trust(t->ctx, e);
	}
	if (rc == 0 && cert_pem.n)
		rc = use_cert(t, cert_pem, key_pem, e);
	if (rc < 0) {
		tls_ctx_unref(&t);
		return rc;
	}
	*t_r = t;
	return 0;
}

/* --- self-signed ---------------------------------------------------------------------------- */

static int add_ext(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	int ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(x, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return ok;
}

static bool is_address(const char *name)
{
	unsigned char b[16];

	return inet_pton(AF_INET, name, b) == 1 || inet_pton(AF_INET6, name, b) == 1;
}

/* A name goes into an extension's text form, where , and : and = mean something. */
static bool is_plain_name(const char *name)
{
	return *name && name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789.-_*")] == '\0';
}

/* subjectAltName for "a.example,192.0.2.1"; the first name into cn. */
static int names_to_san(const char *names, char *san, size_t cap, char cn[65], struct err *e)
{
	struct sl rest = sl_cstr(names);
	size_t at = 0;

	cn[0] = '\0';
	while (rest.n) {
		size_t n = sl_find(rest, ',', 0);
		char name[256];

		if (sl_to_cstr(sl_trim(sl_sub(rest, 0, n)), name, sizeof(name)) < 0 ||
		    (!is_address(name) && !is_plain_name(name)))
			return err_set(e, E_SYNTAX, NULL, "certificate name in \"%s\"", names);
		int put = snprintf(san + at, cap - at, "%s%s:%s", at ? "," : "",
				   is_address(name) ? "IP" : "DNS", name);
		if (put < 0 || (size_t)put >= cap - at)
			return err_set(e, E_TOOBIG, NULL, "too many certificate names");
		at += (size_t)put;
		if (!cn[0])
			snprintf(cn, 65, "%.64s", name);
		rest = sl_sub(rest, n + 1, rest.n);
	}
	return at ? 0 : err_set(e, E_SYNTAX, NULL, "no certificate name");
}

static int fill_cert(X509 *x, EVP_PKEY *key, unsigned days, const char *cn, const char *san)
{
	X509_NAME *name = X509_get_subject_name(x);
	uint64_t serial = rnd_u64() >> 1;

	return X509_set_version(x, X509_VERSION_3) == 1 &&
	       ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial | 1) == 1 &&
	       /* an hour back: the peer's clock may be behind ours */
	       X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
	       X509_time_adj_ex(X509_getm_notAfter(x), (int)days, 0, NULL) &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1,
					  -1, 0) == 1 &&
	       X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key) == 1 &&
	       add_ext(x, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_ext(x, NID_key_usage, "critical,digitalSignature") &&
	       add_ext(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
	       add_ext(x, NID_subject_key_identifier, "hash") &&
	       add_ext(x, NID_subject_alt_name, san) && X509_sign(x, key, EVP_sha256()) > 0;
}

static int write_pems(X509 *x, EVP_PKEY *key, char **cert_r, struct secret *key_r)
{
	BIO *c = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_secmem());
	char *cp = NULL, *kp = NULL;
	int rc = E_NOMEM;

	if (c && k && PEM_write_bio_X509(c, x) == 1 &&
	    PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) == 1) {
		long cn = BIO_get_mem_data(c, &cp), kn = BIO_get_mem_data(k, &kp);

		cp = sl_dup(sl_mk(cp, (size_t)cn));
		rc = cp ? secret_set(key_r, sl_mk(kp, (size_t)kn)) : E_NOMEM;
		if (rc == 0)
			*cert_r = cp;
		else
			free(cp);
		wipe(kp, (size_t)kn);
	}
	BIO_free(c);
	BIO_free(k);
	return rc;
}

int tls_self_signed(const char *names, unsigned days, char **cert_pem_r, struct secret *key_pem_r,
		    struct err *e)
{
	char san[2048], cn[65];
	EVP_PKEY *key = NULL;
	X509 *x = NULL;
	int rc = names_to_san(names, san, sizeof(san), cn, e);

	if (rc < 0)
		return rc;
	if (days == 0 || days > 36500)
		return err_set(e, E_RANGE, NULL, "a certificate is valid for 1 to 36500 days");
	key = EVP_EC_gen("P-256");
	x = X509_new();
	if (!key || !x || !fill_cert(x, key, days, cn, san))
		rc = tls_error(e, E_INTERNAL, "making a certificate");
	else if (write_pems(x, key, cert_pem_r, key_pem_r) < 0)
		rc = err_set(e, E_NOMEM, NULL, "no memory for a certificate");
	X509_free(x);
	EVP_PKEY_free(key);
	return rc;
}
