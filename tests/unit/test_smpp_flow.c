/* test_smpp_flow.c - the rate of a link against a model of a centre: rules FLOW-2 to FLOW-5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "translators/sms/smpp_flow.h"

/* A centre with a token bucket, that answers after rtt_ms. */
struct centre {
	double rate, depth, tokens;
	uint32_t rtt_ms, accepted, refused;
};

struct answer {
	uint64_t due_ms, sent_ms;
	bool ok;
};

/* Send as much as flow and window allow for `seconds`; returns what the centre took after warm_s.
 */
static double use_of(struct centre c, uint32_t window, uint32_t seconds, uint32_t warm_s)
{
	static struct answer flight[1000];
	uint32_t head = 0, n = 0, taken = 0;
	struct smpp_flow f;

	smpp_flow_init(&f, &(struct smpp_flow_cfg){ 0 }, 1000);
	for (uint64_t now = 1000; now < 1000 + seconds * 1000u; now++) {
		c.tokens = c.tokens + c.rate / 1000 > c.depth ? c.depth : c.tokens + c.rate / 1000;
		for (; n && flight[head].due_ms <= now; head = (head + 1) % 1000, n--) {
			if (flight[head].ok)
				smpp_flow_accepted(&f, flight[head].sent_ms);
			else
				smpp_flow_throttled(&f, now, flight[head].sent_ms);
		}
		while (n < window && smpp_flow_room(&f, now) > 0) {
			bool ok = c.tokens > 0.999;

			smpp_flow_take(&f);
			c.tokens -= ok ? 1 : 0;
			taken += ok && now >= 1000 + warm_s * 1000u;
			flight[(head + n++) % 1000] = (struct answer){ now + c.rtt_ms, now, ok };
			if (c.rtt_ms == 0)
				break; /* one a millisecond is fast enough for a model */
		}
	}
	return taken / (c.rate * (seconds - warm_s));
}

/* FLOW-3: at least nine tenths of what the centre allows, whatever its bucket, the distance and the
 * window. */
static void test_uses_the_limit(void **state)
{
	static const double depths[] = { 1, 20, 200 };
	static const uint32_t rtts[] = { 1, 20 }, windows[] = { 10, 100 };

	UNUSED(state);
	for (size_t d = 0; d < ARRAY_LEN(depths); d++)
		for (size_t r = 0; r < ARRAY_LEN(rtts); r++)
			for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
				struct centre c = { .rate = 200,
						    .depth = depths[d],
						    .rtt_ms = rtts[r] };
				double use = use_of(c, windows[w], 120, 5);

				if (use < 0.9)
					fail_msg("depth %.0f rtt %u window %u: %.0f %%", c.depth,
						 c.rtt_ms, windows[w], use * 100);
			}
}

static void test_free_until_throttled(void **state)
{
	struct smpp_flow f;

	UNUSED(state);
	smpp_flow_init(&f, &(struct smpp_flow_cfg){ 0 }, 0);
	assert_int_equal(smpp_flow_room(&f, 0), SMPP_FLOW_UNLIMITED);
	for (int i = 0; i < 100; i++)
		smpp_flow_accepted(&f, 500);
	smpp_flow_throttled(&f, 1000, 900);
	assert_int_equal(smpp_flow_room(&f, 1000), 0);
	assert_int_equal(smpp_flow_wait_ms(&f, 1000), 50);
	assert_int_equal(smpp_flow_room(&f, 1049), 0);
	assert_int_not_equal(smpp_flow_room(&f, 1060), 0);
	assert_true(smpp_flow_room(&f, 2000) < 10);
	/* FLOW-4: a minute without complaint. */
	assert_int_equal(smpp_flow_room(&f, 61000), SMPP_FLOW_UNLIMITED);
}

/* FLOW-2: answers to what was sent before the decrease are the same complaint; later ones pause
 * longer. */
static void test_one_complaint(void **state)
{
	struct smpp_flow f;

	UNUSED(state);
	smpp_flow_init(&f, &(struct smpp_flow_cfg){ 0, 50, 300 }, 0);
	for (int i = 0; i < 100; i++)
		smpp_flow_accepted(&f, 900);
	smpp_flow_throttled(&f, 990, 980);
	double rate = f.rate;
	smpp_flow_throttled(&f, 1000, 985);
	smpp_flow_throttled(&f, 1000, 990);
	assert_true(f.rate == rate);
	assert_int_equal(f.paused_until_ms, 1040);
	smpp_flow_throttled(&f, 1100, 1060);
	assert_true(f.rate < rate);
	assert_int_equal(f.paused_until_ms, 1200);
	smpp_flow_throttled(&f, 1400, 1300);
	assert_int_equal(f.paused_until_ms, 1600);
	smpp_flow_throttled(&f, 2000, 1800);
	assert_int_equal(f.paused_until_ms, 2300);
	smpp_flow_accepted(&f, 2400);
	smpp_flow_throttled(&f, 2500, 2450);
	assert_int_equal(f.paused_until_ms, 2550);
	for (int i = 0; i < 50; i++)
		smpp_flow_throttled(&f, 3000u + (uint64_t)i * 100, 2990u + (uint64_t)i * 100);
	assert_true(f.rate >= 1);
}

static void near(double got, double want)
{
	if (got < want * 0.9999 || got > want * 1.0001)
		fail_msg("%f, not %f", got, want);
}

/* FLOW-2 to FLOW-4 by their figures. */
static void test_figures(void **state)
{
	struct smpp_flow f;

	UNUSED(state);
	smpp_flow_init(&f, &(struct smpp_flow_cfg){ 0 }, 1000);
	for (unsigned i = 0; i < 100; i++)
		smpp_flow_accepted(&f, 1000 + i * 10u);
	smpp_flow_throttled(&f, 2000, 2000);
	near(f.rate, 95); /* of 100 a second */
	assert_int_equal(smpp_flow_room(&f, 2049), 0);
	assert_int_equal(smpp_flow_wait_ms(&f, 2000), 50);
	smpp_flow_room(&f, 2999);
	near(f.rate, 95);
	smpp_flow_room(&f, 3000);
	near(f.rate, 104.5);
	smpp_flow_room(&f, 4000); /* beyond the complaint: steps that double */
	near(f.rate, 114.95);
	smpp_flow_room(&f, 5000);
	near(f.rate, 114.95 * 1.2);
	/* Nothing was taken since: not below the middle of the last good rate and this one. */
	smpp_flow_throttled(&f, 5001, 5001);
	near(f.rate, 0.95 * (114.95 + 114.95 * 1.2) / 2);
	assert_int_equal(smpp_flow_wait_ms(&f, 5001), 100);
	double near_it = f.rate;
	smpp_flow_room(&f, 6001);
	near(f.rate, near_it * 1.01);
	smpp_flow_room(&f, 5001 + 59999);
	assert_true(f.rate > 0);
	smpp_flow_room(&f, 5001 + 60000);
	assert_int_equal(smpp_flow_room(&f, 5001 + 60000), SMPP_FLOW_UNLIMITED);
	/* The first complaint of a quiet link: 20 a second, and 1 a second more at least. */
	smpp_flow_init(&f, &(struct smpp_flow_cfg){ 0 }, 1000);
	smpp_flow_throttled(&f, 2000, 2000);
	near(f.rate, 19);
	smpp_flow_room(&f, 3000);
	near(f.rate, 20.9);
}

/* FLOW-5: nor is it passed by what FLOW-4 allows. */
static void test_max_rate_while_growing(void **state)
{
	struct smpp_flow f;

	UNUSED(state);
	smpp_flow_init(&f, &(struct smpp_flow_cfg){ .max_rate = 25 }, 1000);
	smpp_flow_throttled(&f, 2000, 2000);
	near(smpp_flow_rate(&f), 19);
	for (uint64_t now = 2000; now < 30000; now += 100) {
		smpp_flow_room(&f, now);
		assert_true(smpp_flow_rate(&f) <= 25);
	}
	near(smpp_flow_rate(&f), 25);
}

/* FLOW-5: the configured rate. */
static void test_max_rate(void **state)
{
	struct smpp_flow f;
	unsigned sent = 0;

	UNUSED(state);
	smpp_flow_init(&f, &(struct smpp_flow_cfg){ .max_rate = 50 }, 0);
	for (uint64_t now = 0; now < 10000; now++)
		while (smpp_flow_room(&f, now)) {
			smpp_flow_take(&f);
			sent++;
		}
	assert_in_range(sent, 495, 505);
	assert_int_equal(smpp_flow_room(&f, 9999), 0);
	assert_in_range(smpp_flow_wait_ms(&f, 9999), 1, 21);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uses_the_limit),
		cmocka_unit_test(test_free_until_throttled),
		cmocka_unit_test(test_one_complaint),
		cmocka_unit_test(test_max_rate),
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_max_rate_while_growing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
