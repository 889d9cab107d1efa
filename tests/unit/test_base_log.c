/* test_base_log.c - log lines: order, escaping, cutting, levels; stamps and the fake clock. */
#include "appliance/base/clock.h"
#include "appliance/base/log.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char line[4096];
static unsigned lines;

static void keep(void *arg, struct sl s)
{
	UNUSED(arg);
	lines++;
	assert_int_equal(sl_to_cstr(s, line, sizeof(line)), 0);
}

static int setup(void **state)
{
	UNUSED(state);
	log_capture(keep, NULL);
	log_open("tandem-test", false);
	log_set_level(LOG_L_INFO);
	clock_fake(true, 1000, 1795560499123ull);
	lines = 0;
	line[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	log_capture(NULL, NULL);
	clock_fake(false, 0, 0);
	return 0;
}

static void whole_line(void **state)
{
	struct err e;

	UNUSED(state);
	err_set(&e, E_SYNTAX, "BIND-2", "bad password");
	log_ev(LOG_L_WARN, "smpp.bind.refused", KC("link", "carrier-a"), KI("status", -13),
	       KU("n", UINT64_MAX), KE(&e));
	assert_string_equal(
		line,
		"2026-11-24T22:48:19.123Z warn tandem-test ev=smpp.bind.refused link=carrier-a "
		"status=-13 n=18446744073709551615 err=\"bad password\" rule=BIND-2");
	log_ev(LOG_L_INFO, "empty");
	assert_string_equal(line, "2026-11-24T22:48:19.123Z info tandem-test ev=empty");
}

static void value_is(struct sl v, const char *want)
{
	char all[4096];

	log_ev(LOG_L_INFO, "x", KS("v", v));
	snprintf(all, sizeof(all), "2026-11-24T22:48:19.123Z info tandem-test ev=x v=%s", want);
	assert_string_equal(line, all);
}

static void escaping(void **state)
{
	UNUSED(state);
	value_is(SL("plain-1.2:3/4"), "plain-1.2:3/4");
	value_is(SL_NULL, "\"\"");
	value_is(SL("two words"), "\"two words\"");
	value_is(SL("a=b"), "\"a=b\"");
	value_is(SL("quo\"te\\"), "\"quo\\\"te\\\\\"");
	value_is(SL("x\nev=forged level=9"), "\"x\\x0aev=forged level=9\"");
	value_is(sl_mk("a\0b", 3), "\"a\\x00b\"");
	value_is(SL("\x1b[2J\x7f"), "\"\\x1b[2J\\x7f\"");
	value_is(SL("gr\xc3\xbcn"), "\"gr\xc3\xbcn\"");
	value_is(SL("\xc2\x9b"
		    "1m"),
		 "\"\\xc2\\x9b1m\""); /* C1 control: terminals act on it */
	value_is(SL("\xff\xc3"), "\"\\xff\\xc3\"");
}

static void cutting(void **state)
{
	static char big[5000];

	UNUSED(state);
	memset(big, 'b', sizeof(big));
	log_ev(LOG_L_INFO, "x", KS("v", sl_mk(big, sizeof(big))), KC("w", "lost"));
	assert_true(strlen(line) < 2048);
	assert_string_equal(line + strlen(line) - 4, "b...");
	memset(big, '\n', sizeof(big));
	log_ev(LOG_L_INFO, "x", KS("v", sl_mk(big, sizeof(big))));
	assert_true(strlen(line) < 2048);
	assert_null(strchr(line, '\n'));
}

static void levels(void **state)
{
	enum log_level l = LOG_L_ERROR;

	UNUSED(state);
	log_ev(LOG_L_DEBUG, "no");
	assert_int_equal(lines, 0);
	log_set_level(LOG_L_DEBUG);
	log_ev(LOG_L_DEBUG, "yes");
	assert_int_equal(lines, 1);
	log_set_level(LOG_L_ERROR);
	log_ev(LOG_L_WARN, "no");
	assert_int_equal(lines, 1);
	for (int i = LOG_L_ERROR; i <= LOG_L_DEBUG; i++) {
		assert_int_equal(log_level_parse(sl_cstr(log_level_name((enum log_level)i)), &l),
				 0);
		assert_int_equal(l, i);
	}
	assert_int_equal(log_level_parse(SL("loud"), &l), E_NOTFOUND);
	assert_int_equal(log_level_parse(SL(""), &l), E_NOTFOUND);
}

static void no_error_is_none(void **state)
{
	struct err none = { 0, NULL, "" };

	UNUSED(state);
	log_ev(LOG_L_INFO, "x", KE(&none));
	assert_non_null(strstr(line, " err=none"));
	log_ev(LOG_L_INFO, "x", KE(NULL));
	assert_non_null(strstr(line, " err=none"));
}

static void stamps(void **state)
{
	char s[CLOCK_STAMP_MAX];

	UNUSED(state);
	clock_stamp(0, s);
	assert_string_equal(s, "1970-01-01T00:00:00.000Z");
	clock_stamp(951782399999ull, s);
	assert_string_equal(s, "2000-02-28T23:59:59.999Z");
	clock_stamp(951782400000ull, s);
	assert_string_equal(s, "2000-02-29T00:00:00.000Z");
	clock_stamp(4102444800001ull, s);
	assert_string_equal(s, "2100-01-01T00:00:00.001Z");
	clock_stamp(UINT64_MAX / 2, s); /* nonsense stays in its buffer */
	assert_int_equal(strlen(s), 24);
	assert_int_equal(clock_mono_ms(), 1000);
	assert_int_equal(clock_mono_us(), 1000000);
	clock_fake_advance_ms(5);
	assert_int_equal(clock_mono_ms(), 1005);
	assert_true(clock_wall_ms() == 1795560499128ull);
	clock_fake(false, 0, 0);
	uint64_t a = clock_mono_us();
	assert_true(clock_mono_us() >= a);
	assert_true(clock_wall_ms() > 1700000000000ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_line, setup, teardown),
		cmocka_unit_test_setup_teardown(escaping, setup, teardown),
		cmocka_unit_test_setup_teardown(cutting, setup, teardown),
		cmocka_unit_test_setup_teardown(levels, setup, teardown),
		cmocka_unit_test_setup_teardown(no_error_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(stamps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
