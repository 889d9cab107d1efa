/* test_hal_sim.c - the simulated handsets: what each kind does, and that the network forgets
 * nothing when its process dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "appliance/base/buf.h"
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "hal/hal.h"

#define DELAY_MS 20u

static const struct hal_sim_handset handsets[] = {
	{ SL("+15550100"), HAL_SIM_ANSWER, SL("You wrote: %s"), DELAY_MS },
	{ SL("+15550101"), HAL_SIM_REPORT, SL(""), DELAY_MS },
	{ SL("+15550102"), HAL_SIM_SILENT, SL(""), DELAY_MS },
	{ SL("+15550103"), HAL_SIM_REFUSE, SL(""), DELAY_MS },
	{ SL("+15550104"), HAL_SIM_ABSENT, SL(""), DELAY_MS },
};

static struct {
	char folder[64];
	struct loop *loop;
	struct hal_host host;
	struct hal_radio *radio;
	bool up, ack, refuse_first;
	unsigned sent, received, reports;
	enum hal_result result;
	char reference[40], report_reference[40];
	enum hal_report report;
	uint64_t report_token, message_token;
	struct arena *arena;
	struct gsm_body part[16];
	char from[40], to[40];
} w;

static void on_state(void *arg, struct hal_radio *r, bool up, const char *why)
{
	UNUSED(arg);
	UNUSED(r);
	UNUSED(why);
	w.up = up;
}

static void on_sent(void *arg, struct hal_radio *r, uint64_t cookie, enum hal_result res,
		    struct sl ref, const char *text)
{
	UNUSED(arg);
	UNUSED(r);
	UNUSED(text);
	assert_int_equal(cookie, 100 + w.sent);
	w.sent++;
	w.result = res;
	sl_to_cstr(ref, w.reference, sizeof(w.reference));
}

static void on_received(void *arg, struct hal_radio *r, uint64_t token, const struct hal_sms *m,
			uint64_t sent_ms)
{
	unsigned i = m->body.concat.total ? m->body.concat.seq - 1u : 0;

	UNUSED(arg);
	assert_true(sent_ms > 0 && i < ARRAY_LEN(w.part));
	w.part[i] = m->body;
	w.part[i].data = arena_dup(w.arena, m->body.data);
	w.received++;
	w.message_token = token;
	sl_to_cstr(m->from, w.from, sizeof(w.from));
	sl_to_cstr(m->to, w.to, sizeof(w.to));
	if (w.refuse_first && w.received == 1)
		r->ops->sms_ack(r, token, false);
	else if (w.ack)
		r->ops->sms_ack(r, token, true);
}

static void on_report(void *arg, struct hal_radio *r, uint64_t token, struct sl ref,
		      enum hal_report what, const char *text)
{
	UNUSED(arg);
	UNUSED(text);
	w.reports++;
	w.report = what;
	w.report_token = token;
	sl_to_cstr(ref, w.report_reference, sizeof(w.report_reference));
	if (w.ack)
		r->ops->sms_ack(r, token, true);
}

static void open_radio(void)
{
	struct err e = { 0 };

	if (hal_sim_open(&w.host, handsets, ARRAY_LEN(handsets), &w.radio, &e) < 0)
		fail_msg("%s", e.text);
}

static int setup(void **state)
{
	UNUSED(state);
	memset(&w, 0, sizeof(w));
	log_set_level(LOG_L_ERROR);
	snprintf(w.folder, sizeof(w.folder), "/tmp/test_hal_sim.XXXXXX");
	if (!mkdtemp(w.folder) || chdir(w.folder) < 0 ||
	    loop_new(LOOP_BACKEND_DEFAULT, &w.loop, NULL) < 0)
		return -1;
	w.arena = arena_new(4096, 1u << 22);
	w.host = (struct hal_host){ w.loop, NULL, on_state, on_sent, on_received, on_report };
	w.ack = true;
	open_radio();
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	if (w.radio)
		w.radio->ops->close(&w.radio);
	loop_free(&w.loop);
	arena_free(&w.arena);
	unlink("sim-network.journal");
	return chdir("/") < 0 || rmdir(w.folder) < 0;
}

#define UNTIL(cond) \
	do { \
		uint64_t end = clock_mono_ms() + 4000; \
		while (!(cond) && clock_mono_ms() < end) \
			loop_turn(w.loop, 5); \
		if (!(cond)) \
			fail_msg("never: %s", #cond); \
	} while (0)

static void turns(unsigned ms)
{
	uint64_t end = clock_mono_ms() + ms;

	while (clock_mono_ms() < end)
		loop_turn(w.loop, 5);
}

static int send_part(const char *to, struct gsm_body body, uint32_t validity_s)
{
	static uint64_t cookie;
	struct hal_sms m = { SL("+15550199"), sl_cstr(to), body, true, validity_s };

	cookie = 100 + w.sent;
	return w.radio->ops->sms_send(w.radio, &m, cookie);
}

static int say(const char *to, const char *text)
{
	return send_part(to, (struct gsm_body){ GSM_ENC_7BIT, sl_cstr(text), { 0 } }, 1);
}

static void restart(void)
{
	w.radio->ops->close(&w.radio);
	assert_null(w.radio);
	open_radio();
}

static void test_report(void **state)
{
	UNUSED(state);
	UNTIL(w.up);
	assert_int_equal(w.radio->ops->serves(w.radio, SL("+15550101")), 10);
	assert_int_equal(w.radio->ops->serves(w.radio, SL("+15550999")), 0);
	assert_true(w.radio->ops->room(w.radio) > 0);
	assert_int_equal(say("+15550999", "hi"), E_NOTFOUND);
	assert_int_equal(say("+15550101", "hi"), 0);
	assert_int_equal(w.sent, 0); /* the completion comes after the sync, from the loop */
	UNTIL(w.sent == 1 && w.reports == 1);
	assert_int_equal(w.result, HAL_OK);
	assert_string_equal(w.reference, w.report_reference);
	assert_int_equal(w.report, HAL_REPORT_DELIVERED);
	restart();
	turns(100);
	assert_int_equal(w.reports, 1); /* acknowledged: not offered again */
	assert_int_equal(w.received, 0);
}

static void test_kinds(void **state)
{
	UNUSED(state);
	assert_int_equal(say("+15550103", "hi"), 0);
	UNTIL(w.reports == 1);
	assert_int_equal(w.report, HAL_REPORT_FAILED);
	assert_int_equal(say("+15550102", "hi"), 0);
	UNTIL(w.sent == 2);
	turns(100);
	assert_int_equal(w.reports, 1);
	uint64_t t0 = clock_mono_ms();
	assert_int_equal(say("+15550104", "hi"), 0);
	UNTIL(w.reports == 2);
	assert_int_equal(w.report, HAL_REPORT_EXPIRED);
	assert_true(clock_mono_ms() - t0 >= 990);
}

/* The answer to a long text of emoji: parts sent out of order, one of them twice; the whole comes
 * back. */
static void test_long_answer(void **state)
{
	struct gsm_split_cfg cfg = { 0 };
	struct gsm_text t;
	struct sl text, got;
	struct buf b;

	UNUSED(state);
	buf_init(&b, 4096);
	for (int i = 0; i < 80; i++)
		buf_add(&b, SL("😀ü"));
	text = arena_dup(w.arena, buf_sl(&b));
	buf_free(&b);
	assert_int_equal(gsm_split(w.arena, text, &cfg, &t, NULL), 0);
	assert_int_equal(t.n, 4);
	static const unsigned order[] = { 2, 0, 2, 3, 1 };
	for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
		struct gsm_body body = { t.enc,
					 t.part[order[i]],
					 { 7, (uint8_t)t.n, (uint8_t)(order[i] + 1), false } };

		assert_int_equal(w.received, 0);
		assert_int_equal(send_part("+15550100", body, 60), 0);
		UNTIL(w.sent == i + 1);
		if (i == 2)
			restart(); /* parts that wait survive too */
	}
	UNTIL(w.received == 4);
	assert_int_equal(gsm_join(w.arena, w.part, 4, &got), 0);
	assert_true(sl_eq(got, arena_printf(w.arena, "You wrote: " SLFMT, SLARG(text))));
	assert_string_equal(w.from, "+15550100");
	assert_string_equal(w.to, "+15550199");
	turns(100);
	assert_int_equal(w.received, 4);
}

/* What was not acknowledged is offered again: after a refusal, and after a restart. */
static void test_offered_again(void **state)
{
	UNUSED(state);
	w.refuse_first = true;
	assert_int_equal(say("+15550100", "hi"), 0);
	UNTIL(w.received == 1 && w.reports == 1);
	UNTIL(w.received == 2);
	w.ack = w.refuse_first = false;
	assert_int_equal(say("+15550100", "again"), 0);
	UNTIL(w.received == 3 && w.reports == 2);
	uint64_t message = w.message_token, report = w.report_token;
	restart();
	UNTIL(w.received == 4 && w.reports == 3);
	assert_true(w.message_token == message && w.report_token == report);
	w.radio->ops->sms_ack(w.radio, message, true);
	w.radio->ops->sms_ack(w.radio, report, true);
	w.radio->ops->sms_ack(w.radio, 12345, true); /* nobody's */
	restart();
	turns(100);
	assert_int_equal(w.received, 4);
	assert_int_equal(w.reports, 3);
}

/* A line that the power cut in two, and one that makes no sense. */
static void test_damaged_journal(void **state)
{
	UNUSED(state);
	w.ack = false;
	assert_int_equal(say("+15550101", "hi"), 0);
	UNTIL(w.reports == 1);
	w.radio->ops->close(&w.radio);
	int fd = open("sim-network.journal", O_WRONLY | O_APPEND);
	static const char junk[] =
		"E 1 X 1 1 a b c 1 1 1 1 1 -\nE 99999999999999999999\nnonsense\nD 1\nE 7 R 5 0 +1 +1 ab 0 0";
	assert_int_equal(write(fd, junk, sizeof(junk) - 1), sizeof(junk) - 1);
	close(fd);
	open_radio();
	UNTIL(w.reports == 2);
	turns(100);
	assert_int_equal(w.reports, 2);
	assert_int_equal(w.received, 0);
}

static void test_close_completes(void **state)
{
	UNUSED(state);
	assert_int_equal(say("+15550101", "hi"), 0);
	w.radio->ops->close(&w.radio);
	assert_int_equal(w.sent, 1);
	open_radio();
	UNTIL(w.reports == 1);
	assert_string_equal(w.reference, w.report_reference);
}

/* Many that wait: finding one stays quick. */
static void test_many(void **state)
{
	UNUSED(state);
	w.ack = true;
	uint64_t t0 = clock_mono_ms();
	for (unsigned i = 0; i < 5000; i++) {
		while (w.radio->ops->room(w.radio) == 0)
			loop_turn(w.loop, 0);
		struct hal_sms m = {
			SL("+15550199"), SL("+15550101"), { GSM_ENC_7BIT, SL("x"), { 0 } }, true, 1
		};

		w.sent = 0; /* cookies all 100: one at a time is not the point here */
		assert_int_equal(w.radio->ops->sms_send(w.radio, &m, 100), 0);
		loop_turn(w.loop, 0);
	}
	UNTIL(w.reports == 5000);
	assert_true(clock_mono_ms() - t0 < 60000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_report),        T(test_kinds),           T(test_long_answer),
		T(test_offered_again), T(test_damaged_journal), T(test_close_completes),
		T(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
