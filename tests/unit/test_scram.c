/* test_scram.c - verifiers: derived as OpenSSL derives them, written, read, made up, checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>

#include "appliance/base/rnd.h"
#include "xmpp/access/pbkdf2.h"
#include "xmpp/access/scram.h"

static const EVP_MD *(*const mds[SCRAM_HASHES])(void) = { EVP_sha1, EVP_sha256, EVP_sha512 };

/* Every length of password around the block sizes, every length of salt. */
static void test_pbkdf2(void **state)
{
	unsigned char text[300], salt[64], got[64], want[64];

	UNUSED(state);
	rnd_bytes(text, sizeof(text));
	rnd_bytes(salt, sizeof(salt));
	for (unsigned h = 0; h < SCRAM_HASHES; h++) {
		size_t octets = scram_key_octets((enum scram_hash)h);

		for (size_t n = 0; n < sizeof(text); n += 7) {
			size_t ns = 1 + n % 64;
			uint32_t iter = 1 + (uint32_t)n % 5;

			pbkdf2((enum scram_hash)h, sl_mk((char *)text, n), sl_mk((char *)salt, ns),
			       iter, got);
			assert_int_equal(PKCS5_PBKDF2_HMAC((char *)text, (int)n, salt, (int)ns,
							   (int)iter, mds[h](), (int)octets, want),
					 1);
			assert_memory_equal(got, want, octets);
		}
	}
}

/* RFC 7677 section 3: user, pencil; the server's signature there follows from these keys. */
static void test_rfc7677(void **state)
{
	static const unsigned char salt[] = { 0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
					      0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81 };
	struct scram_verifier v;
	char text[SCRAM_TEXT_MAX];

	UNUSED(state);
	assert_int_equal(scram_derive(SCRAM_SHA_256, SL("pencil"),
				      sl_mk((const char *)salt, sizeof(salt)), 4096, &v),
			 0);
	scram_text(&v, text);
	assert_string_equal(text, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
				  "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
				  "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
}

static void test_text(void **state)
{
	struct scram_verifier v, w;
	char text[SCRAM_TEXT_MAX];
	struct err e;
	size_t n;

	UNUSED(state);
	for (unsigned h = 0; h < SCRAM_HASHES; h++) {
		assert_int_equal(scram_derive((enum scram_hash)h, SL("pw"), SL("0123456789abcdef"),
					      5000, &v),
				 0);
		n = scram_text(&v, text);
		assert_int_equal(n, strlen(text));
		assert_int_equal(scram_parse(sl_mk(text, n), &w, &e), 0);
		assert_int_equal(w.hash, h);
		assert_int_equal(w.iterations, 5000);
		assert_int_equal(w.nsalt, 16);
		assert_memory_equal(w.stored_key, v.stored_key, v.nkey);
		assert_memory_equal(w.server_key, v.server_key, v.nkey);
		assert_true(scram_check(&w, SL("pw")));
		assert_false(scram_check(&w, SL("pW")));
		assert_false(scram_check(&w, SL_NULL));
		/* No prefix of it is a verifier. */
		for (size_t k = 0; k < n; k++)
			assert_int_not_equal(scram_parse(sl_mk(text, k), &w, NULL), 0);
	}
}

static void test_bad_text(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} t[] = {
		{ "", E_SYNTAX },
		{ "SCRAM-SHA-256-PLUS$4096:AAAA$AAAA:AAAA", E_SYNTAX },
		{ "SCRAM-MD5$4096:AAAA$AAAA:AAAA", E_SYNTAX },
		{ "SCRAM-SHA-1$x:AAAA$AAAA:AAAA", E_SYNTAX },
		{ "SCRAM-SHA-1$4095:AAAA$AAAA:AAAA", E_RANGE },
		{ "SCRAM-SHA-1$1000001:AAAA$AAAA:AAAA", E_RANGE },
		{ "SCRAM-SHA-1$4096:$AAAA:AAAA", E_RANGE },
		{ "SCRAM-SHA-1$4096:AAAA$AAAA:AAAA", E_SYNTAX },
		{ "SCRAM-SHA-1$4096:AAAA$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE",
		  E_SYNTAX },
	};
	struct scram_verifier v;
	struct err e;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(scram_parse(sl_cstr(t[i].text), &v, &e), t[i].rc);
}

/* The same name: the same salt, for ever; another name or secret: another one. Nothing fits. */
static void test_fake(void **state)
{
	struct scram_verifier a, b, c, d;

	UNUSED(state);
	assert_int_equal(scram_fake(SCRAM_SHA_256, SL("secret"), SL("who@here"), 4096, &a), 0);
	assert_int_equal(scram_fake(SCRAM_SHA_256, SL("secret"), SL("who@here"), 4096, &b), 0);
	assert_int_equal(scram_fake(SCRAM_SHA_256, SL("secret"), SL("who@there"), 4096, &c), 0);
	assert_int_equal(scram_fake(SCRAM_SHA_256, SL("Secret"), SL("who@here"), 4096, &d), 0);
	assert_int_equal(a.nsalt, SCRAM_SALT_OCTETS);
	assert_memory_equal(a.salt, b.salt, a.nsalt);
	assert_memory_equal(a.stored_key, b.stored_key, a.nkey);
	assert_memory_not_equal(a.salt, c.salt, a.nsalt);
	assert_memory_not_equal(a.salt, d.salt, a.nsalt);
	assert_false(scram_check(&a, SL("")));
}

static void test_names(void **state)
{
	enum scram_hash h;
	bool plus;

	UNUSED(state);
	assert_int_equal(scram_hash_of(SL("SCRAM-SHA-512-PLUS"), &h, &plus), 0);
	assert_int_equal(h, SCRAM_SHA_512);
	assert_true(plus);
	assert_int_equal(scram_hash_of(SL("SCRAM-SHA-1"), &h, &plus), 0);
	assert_int_equal(h, SCRAM_SHA_1);
	assert_false(plus);
	assert_int_equal(scram_hash_of(SL("scram-sha-1"), &h, &plus), E_NOTFOUND);
	assert_int_equal(scram_hash_of(SL("PLAIN"), &h, &plus), E_NOTFOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pbkdf2), cmocka_unit_test(test_rfc7677),
		cmocka_unit_test(test_text),   cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_fake),   cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
