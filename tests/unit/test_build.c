/* The build itself: what every translation unit is compiled with.
 * Also the smallest example of a unit program: one file, one cmocka group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "generated/version.h"

static void test_language_is_c17(void **state)
{
	(void)state;
	assert_true(__STDC_VERSION__ >= 201710L);
}

static void test_version_is_set(void **state)
{
	(void)state;
	assert_true(strlen(TANDEM_VERSION) > 0);
}

/* One target and one default back end, whatever the configuration. */
static void test_choices_are_exclusive(void **state)
{
	int targets = 0, backends = 0;

	(void)state;
#ifdef CONFIG_TARGET_MODERN
	targets++;
#endif
#ifdef CONFIG_TARGET_RHEL_AS4
	targets++;
#endif
#ifdef CONFIG_LOOP_DEFAULT_EPOLL
	backends++;
#endif
#ifdef CONFIG_LOOP_DEFAULT_SELECT
	backends++;
#endif
	assert_int_equal(targets, 1);
	assert_int_equal(backends, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_language_is_c17),
		cmocka_unit_test(test_version_is_set),
		cmocka_unit_test(test_choices_are_exclusive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
