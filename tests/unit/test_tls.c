/* test_tls.c - TLS contexts and self-signed certificates. Streams are in test_conn_tls.c. */
#include "appliance/base/base.h"
#include "appliance/base/buf.h"
#include "appliance/loop/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char *cert, *other_cert;
static struct secret key, other_key;

static int group_setup(void **state)
{
	UNUSED(state);
	tls_init();
	return tls_self_signed("a.example", 1, &cert, &key, NULL) ||
	       tls_self_signed("b.example", 1, &other_cert, &other_key, NULL);
}

static int group_teardown(void **state)
{
	UNUSED(state);
	free(cert);
	free(other_cert);
	secret_clear(&key);
	secret_clear(&other_key);
	return 0;
}

static int server(struct sl c, struct sl k, const char *alpn, struct err *e)
{
	struct tls_ctx *t = NULL;
	int rc = tls_ctx_server(c, k, alpn, &t, e);

	if (rc < 0)
		assert_null(t);
	assert_int_equal(ERR_peek_error(),
			 0); /* nothing is left for the next one to stumble over */
	tls_ctx_unref(&t);
	return rc;
}

static struct sl key_sl(void)
{
	return sl_mk(key.p, key.n);
}

static void test_server_contexts(void **state)
{
	struct err e;
	struct buf chain;

	UNUSED(state);
	buf_init(&chain, 65536);
	assert_int_equal(server(sl_cstr(cert), key_sl(), NULL, &e), 0);
	assert_int_equal(server(sl_cstr(cert), key_sl(), "xmpp-client", &e), 0);
	assert_int_equal(server(sl_cstr(cert), key_sl(), "a,,b", &e), E_SYNTAX);
	/* leaf, then an intermediate */
	assert_int_equal(buf_add(&chain, sl_cstr(cert)), 0);
	assert_int_equal(buf_add(&chain, sl_cstr(other_cert)), 0);
	assert_int_equal(server(buf_sl(&chain), key_sl(), NULL, &e), 0);
	/* the intermediate is cut */
	assert_int_equal(server(sl_sub(buf_sl(&chain), 0, chain.n - 40), key_sl(), NULL, &e),
			 E_SYNTAX);
	buf_free(&chain);
	assert_int_equal(server(SL("nonsense"), key_sl(), NULL, &e), E_SYNTAX);
	assert_non_null(strstr(e.text, "certificate"));
	assert_int_equal(server(SL_NULL, key_sl(), NULL, &e), E_SYNTAX);
	assert_int_equal(server(sl_cstr(cert), SL("nonsense"), NULL, &e), E_SYNTAX);
	assert_non_null(strstr(e.text, "private key"));
	assert_int_equal(server(sl_cstr(cert), sl_mk(other_key.p, other_key.n), NULL, &e), E_AUTH);
	assert_non_null(strstr(e.text, "match"));
	for (size_t n = 0; n < strlen(cert) - 30; n += 7)
		assert_int_equal(server(sl_mk(cert, n), key_sl(), NULL, &e), E_SYNTAX);
}

/* A key behind a passphrase is refused; nothing asks on the terminal. */
static void test_encrypted_key(void **state)
{
	BIO *in = BIO_new_mem_buf(key.p, (int)key.n), *out = BIO_new(BIO_s_mem());
	EVP_PKEY *k = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
	unsigned char pass[] = "secret";
	struct err e;
	char *p;

	UNUSED(state);
	assert_int_equal(PEM_write_bio_PrivateKey(out, k, EVP_aes_128_cbc(), pass, 6, NULL, NULL),
			 1);
	long n = BIO_get_mem_data(out, &p);
	assert_int_equal(server(sl_cstr(cert), sl_mk(p, (size_t)n), NULL, &e), E_SYNTAX);
	EVP_PKEY_free(k);
	BIO_free(in);
	BIO_free(out);
}

static void test_client_contexts(void **state)
{
	struct tls_ctx *t = NULL, *second;
	struct err e;

	UNUSED(state);
	assert_int_equal(tls_ctx_client(SL_NULL, false, SL_NULL, SL_NULL, &t, &e), 0);
	tls_ctx_unref(&t);
	assert_null(t);
	tls_ctx_unref(&t); /* none: nothing happens */
	assert_int_equal(tls_ctx_client(sl_cstr(cert), true, SL_NULL, SL_NULL, &t, &e), 0);
	second = tls_ctx_ref(t);
	tls_ctx_unref(&t);
	tls_ctx_unref(&second);
	assert_int_equal(tls_ctx_client(sl_cstr(cert), true, sl_cstr(cert), key_sl(), &t, &e), 0);
	tls_ctx_unref(&t);
	assert_int_equal(tls_ctx_client(SL("x"), true, SL_NULL, SL_NULL, &t, &e), E_SYNTAX);
	assert_int_equal(tls_ctx_client(sl_cstr(cert), true, sl_cstr(cert), SL("x"), &t, &e),
			 E_SYNTAX);
	assert_int_equal(ERR_peek_error(), 0);
}

/* The system's store: from the file that SSL_CERT_FILE names, when there is one. */
static void test_system_trust(void **state)
{
	char path[] = "/tmp/tandem-tls-XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");
	struct tls_ctx *t = NULL;
	struct err e;

	UNUSED(state);
	fputs(cert, f);
	fclose(f);
	setenv("SSL_CERT_FILE", path, 1);
	assert_int_equal(tls_ctx_client(SL_NULL, true, SL_NULL, SL_NULL, &t, &e), 0);
	tls_ctx_unref(&t);
	unsetenv("SSL_CERT_FILE");
	remove(path);
}

static X509 *parse(const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);

	BIO_free(in);
	assert_non_null(x);
	return x;
}

static void test_self_signed(void **state)
{
	struct secret k = { 0 };
	struct err e;
	char *pem;
	X509 *x;

	UNUSED(state);
	assert_int_equal(
		tls_self_signed("im.example, *.im.example,192.0.2.1,2001:db8::1", 30, &pem, &k, &e),
		0);
	x = parse(pem);
	assert_int_equal(X509_check_host(x, "im.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(x, "sms.im.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(x, "example", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ip_asc(x, "192.0.2.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(x, "2001:db8::1", 0), 1);
	assert_int_equal(X509_check_ip_asc(x, "192.0.2.2", 0), 0);
	assert_true(X509_cmp_current_time(X509_get0_notBefore(x)) < 0);
	time_t in_29_days = time(NULL) + 29 * 86400, in_31_days = time(NULL) + 31 * 86400;
	assert_true(X509_cmp_time(X509_get0_notAfter(x), &in_29_days) > 0);
	assert_true(X509_cmp_time(X509_get0_notAfter(x), &in_31_days) < 0);
	assert_int_equal(X509_verify(x, X509_get0_pubkey(x)), 1);
	assert_int_equal(server(sl_cstr(pem), sl_mk(k.p, k.n), NULL, &e), 0);
	X509_free(x);
	free(pem);
	secret_clear(&k);
}

static void test_self_signed_refuses(void **state)
{
	struct secret k = { 0 };
	char *pem = NULL, many[4096];
	struct err e;

	UNUSED(state);
	assert_int_equal(tls_self_signed("", 30, &pem, &k, &e), E_SYNTAX);
	assert_int_equal(tls_self_signed("a,,b", 30, &pem, &k, &e), E_SYNTAX);
	/* a name must not become another kind of entry */
	assert_int_equal(tls_self_signed("a;DNS:evil", 30, &pem, &k, &e), E_SYNTAX);
	assert_int_equal(tls_self_signed("a\nb", 30, &pem, &k, &e), E_SYNTAX);
	assert_int_equal(tls_self_signed("a.example", 0, &pem, &k, &e), E_RANGE);
	memset(many, 'a', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	assert_int_equal(tls_self_signed(many, 30, &pem, &k, &e), E_SYNTAX);
	for (size_t i = 100; i < sizeof(many) - 1; i += 100)
		many[i] = ',';
	assert_int_equal(tls_self_signed(many, 30, &pem, &k, &e), E_TOOBIG);
	assert_null(pem);
	assert_null(k.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_contexts), cmocka_unit_test(test_encrypted_key),
		cmocka_unit_test(test_client_contexts), cmocka_unit_test(test_system_trust),
		cmocka_unit_test(test_self_signed),     cmocka_unit_test(test_self_signed_refuses),
	};

	return cmocka_run_group_tests_name("tls", tests, group_setup, group_teardown);
}
