/* test_login.c - a login without a stream: what is refused and with what word, and that who does
 * not exist is refused as a wrong password is, in the same time. */
#include "tests/unit/access_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <time.h>

static enum login_result result;
static const char *condition;
static struct login *login;
static unsigned answers;

static void answered(void *owner, struct login *l)
{
	UNUSED(owner);
	result = login_result(l);
	condition = login_condition(l);
	answers++;
}

static int setup(void **state)
{
	UNUSED(state);
	log_set_level(LOG_L_ERROR);
	ar_new();
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	ar_free();
	return 0;
}

static void begin(struct sl mech)
{
	struct login_env env = { .w = &ar.w,
				 .cfg = ar.cfg,
				 .host = SL("localhost"),
				 .secret = SL("0123456789abcdef"),
				 .owner = &ar,
				 .answer = answered };

	answers = 0;
	condition = NULL;
	assert_int_equal(login_new(&env, mech, &login), 0);
}

/* "ok", "more", or the SASL error. */
static const char *say(struct sl data)
{
	const char *now = login_input(login, data);

	if (now)
		return now;
	answers = 0;
	ar_turn();
	assert_int_equal(answers, 1);
	return result == LOGIN_SUCCESS ? "ok" : result == LOGIN_CHALLENGE ? "more" : condition;
}

static void test_first_messages(void **state)
{
	static const struct {
		const char *mech;
		struct sl data;
		const char *want;
	} t[] = {
		{ "PLAIN", SL("\0alice\0wonder"), "ok" },
		{ "PLAIN", SL("alice@localhost\0alice\0wonder"), "ok" },
		{ "PLAIN", SL("Alice@LocalHost\0ALICE\0wonder"), "ok" },
		{ "PLAIN", SL("\0alice\0Wonder"), "not-authorized" },
		{ "PLAIN", SL("\0nobody\0wonder"), "not-authorized" },
		{ "PLAIN", SL("\0alice@localhost\0wonder"), "not-authorized" },
		{ "PLAIN", SL("\0alice\0won\x07"), "not-authorized" },
		{ "PLAIN", SL("bob@localhost\0alice\0wonder"), "invalid-authzid" },
		{ "PLAIN", SL("alice@other.test\0alice\0wonder"), "invalid-authzid" },
		{ "PLAIN", SL("alice@localhost/desk\0alice\0wonder"), "invalid-authzid" },
		{ "PLAIN", SL("localhost\0alice\0wonder"), "invalid-authzid" },
		{ "PLAIN", SL(""), "malformed-request" },
		{ "PLAIN", SL("\0alice"), "malformed-request" },
		{ "PLAIN", SL("\0alice\0"), "malformed-request" },
		{ "PLAIN", SL("\0\0wonder"), "malformed-request" },
		{ "PLAIN", SL("\0alice\0wonder\0"), "malformed-request" },
		{ "PLAIN", SL("\0alice\0\xff"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,,n=alice,r=x"), "more" },
		{ "SCRAM-SHA-1", SL("y,,n=alice,r=x"), "more" },
		{ "SCRAM-SHA-1", SL("n,a=alice@localhost,n=alice,r=x"), "more" },
		{ "SCRAM-SHA-1", SL("n,,n=nobody,r=x"), "more" },
		{ "SCRAM-SHA-1", SL("n,,n=a=2Cb=3D,r=x"), "more" },
		{ "SCRAM-SHA-1", SL("n,a=bob@localhost,n=alice,r=x"), "invalid-authzid" },
		{ "SCRAM-SHA-1", SL("n,,n=a=2,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,,n=a=40,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,,n=,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,,m=ext,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,b=x,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,,n=alice"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("x,,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("nn,,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("p=,,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("p=tls-exporter,,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1-PLUS", SL("n,,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1-PLUS", SL("p=tls-exporter,,n=alice,r=x"), "malformed-request" },
		{ "SCRAM-SHA-1", SL("n,,n=al\0ice,r=x"), "malformed-request" },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		begin(sl_cstr(t[i].mech));
		if (strcmp(say(t[i].data), t[i].want) != 0)
			fail_msg("%s '" SLFMT "': %s, not %s", t[i].mech, SLARG(t[i].data),
				 condition ? condition : "accepted", t[i].want);
		login_free(&login);
	}
}

static void test_mechanisms(void **state)
{
	UNUSED(state);
	assert_null(login_mech_refused(ar.cfg, LOGIN_TLS, SL("PLAIN")));
	assert_null(login_mech_refused(ar.cfg, 0, SL("SCRAM-SHA-1")));
	assert_string_equal(login_mech_refused(ar.cfg, 0, SL("PLAIN")), "encryption-required");
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_TLS, SL("EXTERNAL")), "invalid-mechanism");
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_TLS, SL("")), "invalid-mechanism");
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_TLS, SL("plain")), "invalid-mechanism");
	ar.cfg->mechanisms = SL("  SCRAM-SHA-512 ");
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_TLS, SL("SCRAM-SHA-1")),
			    "mechanism-too-weak");
	assert_null(login_mech_refused(ar.cfg, LOGIN_TLS, SL("SCRAM-SHA-512")));
	ar.cfg->tls_required = true;
	assert_string_equal(login_mech_refused(ar.cfg, 0, SL("SCRAM-SHA-512")),
			    "encryption-required");
}

/* A component: its own domain is the user, its secret the password (COMP-11, 12). */
static const char *component(struct sl mech, struct sl domain, struct sl secret, struct sl data)
{
	struct login_env env = { .w = &ar.w,
				 .cfg = ar.cfg,
				 .host = domain,
				 .secret = SL("0123456789abcdef"),
				 .component = true,
				 .password = secret,
				 .owner = &ar,
				 .answer = answered };
	const char *got;

	assert_int_equal(login_new(&env, mech, &login), 0);
	got = say(data);
	login_free(&login);
	return got;
}

static void test_component(void **state)
{
	static const struct {
		struct sl secret, data;
		const char *want;
	} t[] = {
		{ SL("s3cret"), SL("\0echo.localhost\0s3cret"), "ok" },
		{ SL("s3cret"), SL("echo.localhost\0Echo.LocalHost\0s3cret"), "ok" },
		{ SL("s3cret"), SL("\0echo.localhost\0s3cret "), "not-authorized" },
		{ SL("s3cret"), SL("\0other.localhost\0s3cret"), "not-authorized" },
		{ SL("s3cret"), SL("\0alice\0wonder"), "not-authorized" },
		{ SL("s3cret"), SL("a@echo.localhost\0echo.localhost\0s3cret"), "invalid-authzid" },
		{ SL("s3cret"), SL("other.localhost\0echo.localhost\0s3cret"), "invalid-authzid" },
		{ SL(""), SL("\0echo.localhost\0s3cret"), "not-authorized" },
		{ SL("bad\x07"), SL("\0echo.localhost\0bad\x07"), "not-authorized" },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_string_equal(
			component(SL("PLAIN"), SL("echo.localhost"), t[i].secret, t[i].data),
			t[i].want);
	assert_string_equal(component(SL("SCRAM-SHA-512"), SL("echo.localhost"), SL("s3cret"),
				      SL("n,a=echo.localhost,n=echo.localhost,r=x")),
			    "more");
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_TLS | LOGIN_COMPONENT,
					       SL("SCRAM-SHA-1")),
			    "mechanism-too-weak");
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_COMPONENT, SL("SCRAM-SHA-256")),
			    "encryption-required");
	ar.cfg->component_tls = COMPONENT_TLS_OPTIONAL;
	assert_null(login_mech_refused(ar.cfg, LOGIN_COMPONENT, SL("SCRAM-SHA-256")));
	assert_string_equal(login_mech_refused(ar.cfg, LOGIN_COMPONENT, SL("PLAIN")),
			    "encryption-required");
}

static uint64_t component_time(struct sl secret, struct sl mech, struct sl data)
{
	struct timespec from, to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	component(mech, SL("echo.localhost"), secret, data);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000u + (uint64_t)to.tv_nsec -
	       (uint64_t)from.tv_nsec;
}

/* The same work whether there is such a component or not, in both kinds of mechanism. */
static void test_component_time(void **state)
{
	static const struct {
		struct sl mech, data;
	} t[] = { { SL("PLAIN"), SL("\0echo.localhost\0guess") },
		  { SL("SCRAM-SHA-256"), SL("n,,n=echo.localhost,r=x") } };

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		uint64_t known = UINT64_MAX, unknown = UINT64_MAX, took;

		for (int n = 0; n < 20; n++) {
			took = component_time(SL("s3cret"), t[i].mech, t[i].data);
			known = took < known ? took : known;
			took = component_time(SL_NULL, t[i].mech, t[i].data);
			unknown = took < unknown ? took : unknown;
		}
		assert_true(known < unknown * 2 && unknown < known * 2);
	}
}

static void test_store_fails(void **state)
{
	UNUSED(state);
	ar.store_rc = E_IO;
	begin(SL("PLAIN"));
	assert_string_equal(say(SL("\0alice\0wonder")), "temporary-auth-failure");
	login_free(&login);
}

/* An account that lacks the verifier is refused like one that does not exist, not with another
 * word. */
static void test_missing_verifier(void **state)
{
	UNUSED(state);
	ar.verifier[SCRAM_SHA_512][0] = '\0';
	begin(SL("SCRAM-SHA-512"));
	assert_string_equal(say(SL("n,,n=alice,r=x")), "more");
	login_free(&login);
	begin(SL("PLAIN"));
	assert_string_equal(say(SL("\0alice\0wonder")), "ok");
	login_free(&login);
	ar.verifier[SCRAM_SHA_256][0] = '\0';
	begin(SL("PLAIN"));
	assert_string_equal(say(SL("\0alice\0wonder")), "ok"); /* by SHA-1 */
	login_free(&login);
	strncpy(ar.verifier[SCRAM_SHA_1], "nonsense", SCRAM_TEXT_MAX - 1);
	begin(SL("PLAIN"));
	assert_string_equal(say(SL("\0alice\0wonder")), "not-authorized");
	login_free(&login);
}

/* The stream goes away at any moment of a login. */
static void test_abandoned(void **state)
{
	UNUSED(state);
	begin(SL("SCRAM-SHA-1"));
	login_free(&login);
	begin(SL("SCRAM-SHA-1"));
	assert_null(login_input(login, SL("n,,n=alice,r=x")));
	login_free(&login); /* while the store is asked */
	ar_turn();
	begin(SL("SCRAM-SHA-1"));
	assert_null(login_input(login, SL("n,,n=alice,r=x")));
	ar_answer();
	login_free(&login); /* before a step */
	ar_turn();
	begin(SL("PLAIN"));
	assert_null(login_input(login, SL("\0alice\0wonder")));
	ar_answer();
	login_free(&login); /* while a thread derives */
	ar_turn();
	begin(SL("SCRAM-SHA-1"));
	assert_string_equal(say(SL("n,,n=alice,r=x")), "more");
	login_free(&login);
	begin(SL("PLAIN"));
	assert_null(login_input(login, SL("\0alice\0wonder")));
	ar_answer();
	ar.later[0].job->drop(ar.later[0].job); /* the worker is gone */
	ar.nlater = 0;
	assert_int_equal(answers, 0);
}

/* CPU time of the fastest of several: others have work here, too. */
static void faster(struct sl data, uint64_t *best)
{
	struct timespec from, to;
	uint64_t took;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	begin(SL("PLAIN"));
	assert_string_equal(say(data), "not-authorized");
	login_free(&login);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	took = (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000u + (uint64_t)to.tv_nsec -
	       (uint64_t)from.tv_nsec;
	if (took < *best)
		*best = took;
}

/* One derivation for a wrong password, for a name that is not there, for a name that cannot be.
 * Without it the answer would come sixteen times as soon. */
static void test_time(void **state)
{
	uint64_t wrong = UINT64_MAX, unknown = UINT64_MAX, never = UINT64_MAX;

	UNUSED(state);
	for (int i = 0; i < 20; i++) {
		faster(SL("\0alice\0guess"), &wrong);
		faster(SL("\0nobody\0guess"), &unknown);
		faster(SL("\0no/body\0guess"), &never);
	}
	print_message("refused after %llu, %llu, %llu us\n", (unsigned long long)wrong / 1000,
		      (unsigned long long)unknown / 1000, (unsigned long long)never / 1000);
	assert_true(wrong < unknown * 2 && unknown < wrong * 2);
	assert_true(wrong < never * 2 && never < wrong * 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_first_messages),   T(test_mechanisms), T(test_store_fails),
		T(test_missing_verifier), T(test_abandoned),  T(test_time),
		T(test_component),        T(test_component_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
