/* test_smpp_machine.c - the SMPP session without a network: every row, every refused pair, the
 * traffic. Rules BIND-n, LINK-n, FLOW-n, PDU-7, PDU-8 of docs/rules/smpp.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "translators/sms/smpp_machine.h"
#include "translators/sms/smpp_status.h"

/* The world around the machine: a clock, a connection, an upper layer. */
struct world {
	struct smpp_machine m;
	struct smpp_cfg cfg;
	uint64_t now_ms;
	bool up, connecting, connected;
	unsigned connects, disconnects, flushes, readies, states, results, sent;
	uint32_t state_ms, tick_ms;
	uint64_t state_due, tick_due;
	uint32_t sent_command[64], sent_seq[64], sent_status[64];
	uint8_t version;
	int send_rc;
	size_t unsent;
	struct {
		uint64_t cookie;
		enum smpp_result r;
		uint32_t status;
		char id[32];
	} result[64];
	uint64_t token[64];
	unsigned tokens;
	bool answer_at_once, submit_in_result;
	unsigned results_when_down;
	char why[ERR_TEXT_MAX];
};

static struct world w;

static uint64_t op_now(void *arg)
{
	return ((struct world *)arg)->now_ms;
}

static uint32_t op_random(void *arg, uint32_t below)
{
	UNUSED(arg);
	return below - 1;
}

static void op_connect(void *arg)
{
	struct world *x = arg;

	assert_false(x->connecting || x->connected);
	x->connecting = true;
	x->connects++;
}

static void op_disconnect(void *arg, bool flush)
{
	struct world *x = arg;

	x->connecting = x->connected = false;
	x->disconnects++;
	x->flushes += flush;
}

static int op_send(void *arg, const struct smpp_pdu *p, struct err *e)
{
	struct world *x = arg;

	if (x->send_rc < 0)
		return err_set(e, x->send_rc, NULL, "no");
	assert_true(x->connected);
	x->sent_command[x->sent % 64] = p->command_id;
	x->version = p->interface_version;
	x->sent_seq[x->sent % 64] = p->sequence_number;
	x->sent_status[x->sent++ % 64] = p->command_status;
	return 100;
}

static size_t op_unsent(void *arg)
{
	return ((struct world *)arg)->unsent;
}

static void op_arm_state(void *arg, uint32_t ms)
{
	struct world *x = arg;

	x->state_ms = ms;
	x->state_due = ms ? x->now_ms + ms : UINT64_MAX;
}

static void op_arm_tick(void *arg, uint32_t ms)
{
	struct world *x = arg;

	x->tick_ms = ms;
	x->tick_due = ms ? x->now_ms + ms : UINT64_MAX;
}

static void op_state(void *arg, bool up, const char *why)
{
	struct world *x = arg;

	assert_true(x->up != up);
	x->up = up;
	x->states++;
	snprintf(x->why, sizeof(x->why), "%s", why);
}

static void op_ready(void *arg)
{
	((struct world *)arg)->readies++;
}

static void op_result(void *arg, uint64_t cookie, enum smpp_result r, uint32_t status, struct sl id)
{
	struct world *x = arg;
	unsigned i = x->results++ % 64;

	x->result[i].cookie = cookie;
	x->result[i].r = r;
	x->result[i].status = status;
	sl_to_cstr(id, x->result[i].id, sizeof(x->result[i].id));
	if (x->submit_in_result) {
		struct smpp_pdu p = { .command_id = SMPP_submit_sm };

		x->submit_in_result = false;
		smpp_machine_submit(&x->m, &p, 999, NULL);
	}
}

static void op_deliver(void *arg, const struct smpp_pdu *p, uint64_t token)
{
	struct world *x = arg;

	UNUSED(p);
	x->token[x->tokens++ % 64] = token;
	if (x->answer_at_once)
		assert_int_equal(smpp_machine_deliver_done(&x->m, token, 0), 0);
}

static const struct smpp_machine_ops ops = {
	op_now,       op_random,   op_connect, op_disconnect, op_send,   op_unsent,
	op_arm_state, op_arm_tick, op_state,   op_ready,      op_result, op_deliver,
};

static int setup(void **state)
{
	UNUSED(state);
	memset(&w, 0, sizeof(w));
	w.now_ms = 1000000;
	w.state_due = w.tick_due = UINT64_MAX;
	w.cfg = (struct smpp_cfg){
		.name = SL("test"), .system_id = SL("me"), .window = 3, .unanswered = 2
	};
	return fsm_def_prepare(&smpp_machine_def, NULL) < 0 ||
	       smpp_machine_init(&w.m, &w.cfg, &ops, &w, NULL) < 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	smpp_machine_free(&w.m);
	return 0;
}

/* Let time pass, with the timers that fall due. */
static void pass(uint64_t ms)
{
	uint64_t end = w.now_ms + ms;

	while (w.state_due <= end || w.tick_due <= end) {
		bool state = w.state_due <= w.tick_due;

		w.now_ms = state ? w.state_due : w.tick_due;
		if (state) {
			w.state_due = UINT64_MAX;
			smpp_machine_state_timeout(&w.m);
		} else {
			w.tick_due = UINT64_MAX;
			smpp_machine_tick(&w.m);
		}
	}
	w.now_ms = end;
}

static void receive_with(uint32_t command_id, uint32_t seq, uint32_t status, struct sl id)
{
	struct smpp_pdu p = { .command_id = command_id,
			      .sequence_number = seq,
			      .command_status = status,
			      .message_id = id };

	smpp_machine_pdu(&w.m, &p);
}

static void receive(uint32_t command_id, uint32_t seq, uint32_t status)
{
	receive_with(command_id, seq, status, SL_NULL);
}

static void connected(void)
{
	assert_true(w.connecting);
	w.connecting = false;
	w.connected = true;
	smpp_machine_connected(&w.m);
}

static void lost(void)
{
	w.connecting = w.connected = false;
	smpp_machine_lost(&w.m, "reset by peer");
}

static uint32_t last_command(void)
{
	return w.sent ? w.sent_command[(w.sent - 1) % 64] : 0;
}
static uint32_t last_seq(void)
{
	return w.sent_seq[(w.sent - 1) % 64];
}
static uint32_t last_status(void)
{
	return w.sent_status[(w.sent - 1) % 64];
}

static int submit(uint64_t cookie)
{
	struct smpp_pdu p = { .command_id = SMPP_submit_sm };

	return smpp_machine_submit(&w.m, &p, cookie, NULL);
}

static void go(uint8_t state)
{
	switch (state) {
	case SMPP_ST_CONNECTING:
		smpp_machine_enable(&w.m, true);
		break;
	case SMPP_ST_OPEN:
		go(SMPP_ST_CONNECTING);
		connected();
		break;
	case SMPP_ST_BOUND:
		go(SMPP_ST_OPEN);
		receive(SMPP_bind_transceiver_resp, last_seq(), 0);
		break;
	case SMPP_ST_DRAINING:
		go(SMPP_ST_BOUND);
		assert_int_equal(submit(1), 0);
		smpp_machine_enable(&w.m, false);
		break;
	case SMPP_ST_UNBINDING:
		go(SMPP_ST_BOUND);
		smpp_machine_enable(&w.m, false);
		break;
	case SMPP_ST_BACKOFF:
		go(SMPP_ST_CONNECTING);
		lost();
		break;
	case SMPP_ST_REFUSED:
		go(SMPP_ST_OPEN);
		receive(SMPP_bind_transceiver_resp, last_seq(), SMPP_ESME_RINVPASWD);
		break;
	}
	assert_int_equal(w.m.fsm.state, state);
}

/* Fire event number ev with a payload that its rows can read. */
static void fire(uint8_t ev, const struct smpp_pdu *p)
{
	if (strcmp(smpp_machine_def.events[ev], "LOST") == 0)
		w.connecting = w.connected = false;
	if (strcmp(smpp_machine_def.events[ev], "CONNECTED") == 0 && w.connecting)
		w.connected = !(w.connecting = false);
	if (strcmp(smpp_machine_def.events[ev], "DISABLE") == 0)
		w.m.wanted = false; /* as smpp_machine_enable does */
	fsm_event(&w.m.fsm, ev, p);
}

/* The first row that takes (state, event) for a BIND_RESP with this status: by the table itself. */
static const struct fsm_row *row_for(uint8_t state, uint8_t ev, const struct smpp_pdu *p)
{
	for (uint16_t i = 0; i < smpp_machine_def.nrows; i++) {
		const struct fsm_row *r = &smpp_machine_def.rows[i];

		if (r->state == state && r->event == ev && (!r->guard || r->guard(&w.m, p)))
			return r;
	}
	return NULL;
}

static void check_pair(uint8_t state, uint8_t ev, const struct smpp_pdu *p)
{
	void *none = NULL;

	setup(&none);
	go(state);
	if (state == SMPP_ST_BOUND)
		submit(1); /* so that DRAINING is not left at once */
	const struct fsm_row *r = row_for(state, ev, p);
	uint64_t glitches = w.m.counts.glitches;

	fire(ev, p);
	if (w.up != (w.m.fsm.state == SMPP_ST_BOUND) || w.m.counts.glitches - glitches != !r)
		fail_msg("%s %s: up %d, %d glitches", smpp_machine_def.states[state].name,
			 smpp_machine_def.events[ev], w.up, (int)(w.m.counts.glitches - glitches));
	if (r) {
		assert_int_equal(w.m.fsm.state, r->next);
		assert_true((r->next == SMPP_ST_BACKOFF || r->next == SMPP_ST_REFUSED ||
			     r->next == SMPP_ST_CLOSED) == !(w.connecting || w.connected));
	} else {
		assert_int_equal(w.m.fsm.state, state);
	}
	teardown(&none);
}

/* Every row, every refused pair, and no row that nothing takes. */
static void test_every_pair(void **state)
{
	static const uint32_t statuses[] = { 0, SMPP_ESME_RINVPASWD, SMPP_ESME_RALYBND };
	uint16_t rows[64];

	UNUSED(state);
	smpp_machine_free(&w.m);
	for (uint8_t s = 0; s < smpp_machine_def.nstates; s++)
		for (uint8_t ev = 0; ev < smpp_machine_def.nevents; ev++)
			for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
				struct smpp_pdu p = { .command_id = SMPP_bind_transceiver_resp,
						      .command_status = statuses[i],
						      .sequence_number = 1 };

				check_pair(s, ev, &p);
			}
	if (fsm_rows_unhit(&smpp_machine_def, rows, ARRAY_LEN(rows)))
		fail_msg("row %u is taken by nothing", rows[0]);
	setup(state);
}

/* BIND-1, BIND-2. */
static void test_bind(void **state)
{
	UNUSED(state);
	smpp_machine_enable(&w.m, true);
	smpp_machine_enable(&w.m, true);
	assert_int_equal(w.connects, 1);
	assert_int_equal(submit(1), E_AGAIN);
	connected();
	assert_int_equal(last_command(), SMPP_bind_transceiver);
	assert_int_equal(submit(1), E_AGAIN);
	receive(SMPP_bind_transceiver_resp, last_seq(), 0);
	assert_true(w.up && smpp_machine_up(&w.m));
	assert_int_equal(w.readies, 1);
	assert_int_equal(smpp_machine_room(&w.m), 3);
	assert_int_equal(submit(1), 0);
}

/* BIND-3, BIND-4: what a refusal means for the next try. */
static void test_bind_refused(void **state)
{
	UNUSED(state);
	go(SMPP_ST_OPEN);
	receive(SMPP_bind_transceiver_resp, 0, SMPP_ESME_RALYBND); /* sequence 0, as some send */
	assert_int_equal(w.m.fsm.state, SMPP_ST_BACKOFF);
	assert_int_equal(w.state_ms, 1000);
	assert_non_null(strstr(w.m.why, "ESME_RALYBND"));
	pass(1000);
	connected();
	receive(SMPP_generic_nack, last_seq(), 0); /* a nack, whatever its status */
	assert_int_equal(w.m.fsm.state, SMPP_ST_BACKOFF);
	assert_int_equal(w.state_ms, 2000);
	pass(2000);
	connected();
	receive(SMPP_bind_transceiver_resp, last_seq(), SMPP_ESME_RINVPASWD);
	assert_int_equal(w.m.fsm.state, SMPP_ST_REFUSED);
	assert_int_equal(w.state_ms, 60000);
	assert_int_equal(w.m.counts.binds_refused, 3);
	assert_int_equal(w.states, 0);
}

/* LINK-2, LINK-11: doubling, the ceiling, and a session that held. */
static void test_backoff(void **state)
{
	static const uint32_t want[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };

	UNUSED(state);
	smpp_machine_enable(&w.m, true);
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		lost();
		assert_int_equal(w.state_ms, want[i]);
		pass(want[i]);
		assert_int_equal(w.connects, i + 2);
	}
	connected();
	receive(SMPP_bind_transceiver_resp, last_seq(), 0);
	pass(9000);
	lost();
	assert_int_equal(w.state_ms, 60000); /* it did not hold */
	pass(60000);
	connected();
	receive(SMPP_bind_transceiver_resp, last_seq(), 0);
	pass(10000);
	lost();
	assert_int_equal(w.state_ms, 1000);
	pass(1000);
	lost();
	assert_int_equal(w.state_ms, 1000);
}

static void test_no_bind_answer(void **state)
{
	UNUSED(state);
	go(SMPP_ST_CONNECTING);
	pass(30000);
	assert_string_equal(w.m.why, "no connection in time");
	pass(1000);
	connected();
	pass(30000);
	assert_string_equal(w.m.why, "no answer to bind");
	assert_int_equal(w.m.fsm.state, SMPP_ST_BACKOFF);
	pass(2000);
	w.send_rc = E_TOOBIG; /* a bind that cannot be encoded */
	connected();
	assert_int_equal(w.m.fsm.state, SMPP_ST_BACKOFF);
	assert_false(w.connected);
}

/* FLOW-1: the window, answers in any order, one result each. */
static void test_window(void **state)
{
	uint32_t seq[3];

	UNUSED(state);
	go(SMPP_ST_BOUND);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(submit(100 + i), 0);
		seq[i] = last_seq();
	}
	assert_int_equal(submit(103), E_AGAIN);
	assert_int_equal(w.readies, 1);
	receive_with(SMPP_submit_sm_resp, seq[2], 0, SL("id2"));
	assert_int_equal(w.readies, 2);
	assert_int_equal(w.result[0].cookie, 102);
	assert_string_equal(w.result[0].id, "id2");
	receive(SMPP_submit_sm_resp, seq[0], SMPP_ESME_RINVDSTADR);
	assert_int_equal(w.result[1].cookie, 100);
	assert_int_equal(w.result[1].r, SMPP_RESULT_REFUSED);
	assert_int_equal(w.result[1].status, SMPP_ESME_RINVDSTADR);
	assert_int_equal(w.readies, 2); /* nobody asked since */
	receive(SMPP_generic_nack, seq[1], 0);
	assert_int_equal(w.result[2].r, SMPP_RESULT_REFUSED);
	assert_int_equal(w.result[2].status, SMPP_ESME_RSYSERR);
	/* FLOW-7: a second answer, a foreign number, 0. */
	receive(SMPP_submit_sm_resp, seq[1], 0);
	receive(SMPP_submit_sm_resp, 77777, 0);
	receive(SMPP_submit_sm_resp, 0, 0);
	assert_int_equal(w.results, 3);
	assert_int_equal(w.m.counts.late, 3);
	assert_int_equal(smpp_machine_room(&w.m), 3);
}

/* Numbers go on round the slots while an old request is still unanswered, and wrap at 0x7fffffff.
 */
static void test_sequence_numbers(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	w.m.sequence = SMPP_SEQ_MAX - 20;
	assert_int_equal(submit(1), 0);
	uint32_t old = last_seq();
	for (uint64_t i = 0; i < 200; i++) {
		assert_int_equal(submit(1000 + i), 0);
		assert_int_not_equal(last_seq(), old);
		assert_in_range(last_seq(), 1, SMPP_SEQ_MAX);
		receive(SMPP_submit_sm_resp, last_seq(), 0);
		assert_int_equal(w.result[(w.results - 1) % 64].cookie, 1000 + i);
	}
	unsigned results = w.results;
	receive(SMPP_submit_sm_resp, old + w.m.request_mask + 1,
		0); /* the same slot, another number */
	assert_int_equal(w.results, results);
	receive(SMPP_submit_sm_resp, old, 0);
	assert_int_equal(w.result[(w.results - 1) % 64].cookie, 1);
}

/* LINK-4: the loss of a link; what had left and what had not. */
static void test_lost(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	submit(1);
	submit(2);
	submit(3);
	w.submit_in_result = true; /* the upper layer tries again at once: not now */
	lost();
	assert_int_equal(w.results, 3);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(w.result[i].cookie, i + 1);
		assert_int_equal(w.result[i].r, SMPP_RESULT_AMBIGUOUS);
	}
	assert_false(w.up);
	assert_string_equal(w.why, "reset by peer");
	pass(1000);
	connected();
	receive(SMPP_bind_transceiver_resp, last_seq(), 0);
	submit(4);
	submit(5);
	w.unsent = 150; /* the second, and half of the first, are still here */
	pass(30000);
	assert_int_equal(last_command(), SMPP_enquire_link);
	w.unsent = 250;
	pass(10000);
	assert_string_equal(w.why, "no answer to enquire_link");
	assert_int_equal(w.result[3].r, SMPP_RESULT_AMBIGUOUS);
	assert_int_equal(w.result[4].r, SMPP_RESULT_UNSENT);
	assert_int_equal(w.m.counts.ambiguous, 4);
	assert_int_equal(w.m.counts.unsent, 1);
}

/* LINK-3. */
static void test_enquire_link(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	for (int i = 0; i < 5; i++) {
		pass(30000);
		assert_int_equal(last_command(), SMPP_enquire_link);
		receive(SMPP_enquire_link_resp, last_seq(), 0);
	}
	assert_int_equal(w.m.counts.enquires, 5);
	/* A centre without it says generic_nack, and lives. */
	pass(30000);
	receive(SMPP_generic_nack, last_seq(), SMPP_ESME_RINVCMDID);
	/* Any other PDU proves that it lives as well. */
	pass(30000);
	pass(5000);
	receive(SMPP_enquire_link, 5, 0);
	assert_int_equal(last_command(), SMPP_enquire_link_resp);
	assert_int_equal(last_seq(), 5);
	pass(5000);
	assert_true(w.up);
	pass(25000);
	assert_int_equal(last_command(), SMPP_enquire_link);
	assert_true(w.up);
	pass(10000);
	assert_false(w.up);
}

/* Asked more often than an answer may take. */
static void test_enquire_often(void **state)
{
	UNUSED(state);
	w.cfg.enquire_ms = 1000;
	go(SMPP_ST_BOUND);
	for (unsigned i = 1; i <= 5; i++) {
		pass(1000);
		assert_int_equal(w.m.counts.enquires, i);
		receive(SMPP_enquire_link_resp, last_seq(), 0);
	}
	receive(SMPP_enquire_link_resp, 7, 0);
	pass(999);
	assert_int_equal(w.m.counts.enquires, 5);
}

static void test_inactivity(void **state)
{
	UNUSED(state);
	w.cfg.inactivity_ms = 20000;
	go(SMPP_ST_BOUND);
	pass(15000);
	receive(SMPP_alert_notification, 1, 0);
	pass(15000);
	assert_true(w.up);
	pass(5000);
	assert_false(w.up);
}

/* FLOW-8. */
static void test_no_answer(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	submit(1);
	pass(40000 - 1);
	receive(SMPP_enquire_link, 1, 0);
	submit(2);
	uint32_t second = last_seq();
	pass(20001);
	assert_int_equal(w.results, 1);
	assert_int_equal(w.result[0].r, SMPP_RESULT_AMBIGUOUS);
	assert_true(w.up);
	receive(SMPP_submit_sm_resp, second, 0);
	assert_int_equal(w.result[1].r, SMPP_RESULT_ACCEPTED);
	assert_int_equal(smpp_machine_room(&w.m), 3);
}

/* FLOW-2: the pause after a throttling answer, and that it ends by itself. */
static void test_throttled(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	for (uint64_t i = 0; i < 100; i++) {
		submit(i);
		pass(10);
		receive(SMPP_submit_sm_resp, last_seq(), 0);
	}
	submit(100);
	pass(10);
	receive(SMPP_submit_sm_resp, last_seq(), SMPP_ESME_RTHROTTLED);
	unsigned readies = w.readies;
	assert_int_equal(w.m.counts.throttled, 1);
	assert_int_equal(w.result[(w.results - 1) % 64].status, SMPP_ESME_RTHROTTLED);
	assert_int_equal(smpp_machine_room(&w.m), 0);
	assert_int_equal(submit(101), E_AGAIN);
	pass(49);
	assert_int_equal(w.readies, readies);
	pass(20);
	assert_int_equal(w.readies, readies + 1);
	assert_int_equal(submit(101), 0);
}

/* FLOW-6: answers of ours come after the commit; their number is bounded; tokens of a lost session
 * are void. */
static void test_deliveries(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	receive(SMPP_deliver_sm, 10, 0);
	receive(SMPP_data_sm, 11, 0);
	assert_int_equal(w.tokens, 2);
	unsigned sent = w.sent;
	receive(SMPP_deliver_sm, 12, 0);
	assert_int_equal(w.tokens, 2);
	assert_int_equal(w.sent, sent + 1);
	assert_int_equal(last_command(), SMPP_deliver_sm_resp);
	assert_int_equal(last_seq(), 12);
	assert_int_equal(last_status(), SMPP_ESME_RX_T_APPN);
	assert_int_equal(smpp_machine_deliver_done(&w.m, w.token[1], SMPP_ESME_RINVDSTADR), 0);
	assert_int_equal(last_command(), SMPP_data_sm_resp);
	assert_int_equal(last_seq(), 11);
	assert_int_equal(last_status(), SMPP_ESME_RINVDSTADR);
	assert_int_equal(smpp_machine_deliver_done(&w.m, w.token[1], 0), E_NOTFOUND);
	receive(SMPP_deliver_sm, 13, 0); /* the slot is free again; the old token stays void */
	assert_int_equal(w.tokens, 3);
	assert_int_equal(smpp_machine_deliver_done(&w.m, w.token[1], 0), E_NOTFOUND);
	assert_int_equal(smpp_machine_deliver_done(&w.m, 0, 0), E_NOTFOUND);
	assert_int_equal(smpp_machine_deliver_done(&w.m, UINT64_MAX, 0), E_NOTFOUND);
	lost();
	sent = w.sent;
	assert_int_equal(smpp_machine_deliver_done(&w.m, w.token[0], 0), E_NOTFOUND);
	pass(1000);
	connected();
	receive(SMPP_bind_transceiver_resp, last_seq(), 0);
	assert_int_equal(smpp_machine_deliver_done(&w.m, w.token[0], 0), E_NOTFOUND);
	w.answer_at_once = true;
	receive(SMPP_deliver_sm, 14, 0);
	assert_int_equal(last_seq(), 14);
	assert_int_equal(last_status(), 0);
	assert_int_equal(w.m.unanswered, 0);
}

static void test_deliver_before_bind(void **state)
{
	UNUSED(state);
	go(SMPP_ST_OPEN);
	receive(SMPP_deliver_sm, 9, 0);
	assert_int_equal(last_command(), SMPP_deliver_sm_resp);
	assert_int_equal(last_status(), SMPP_ESME_RINVBNDSTS);
	assert_int_equal(w.tokens, 0);
}

/* PDU-7, PDU-8. */
static void test_wrong_pdus(void **state)
{
	struct smpp_pdu p = { .command_id = 0x111,
			      .sequence_number = 5,
			      .fault = SMPP_ESME_RINVCMDID };

	UNUSED(state);
	go(SMPP_ST_BOUND);
	smpp_machine_malformed(&w.m, &p);
	assert_int_equal(last_command(), SMPP_generic_nack);
	assert_int_equal(last_status(), SMPP_ESME_RINVCMDID);
	p.command_id = SMPP_deliver_sm;
	p.fault = SMPP_ESME_RINVCMDLEN;
	p.def = (const void *)&p; /* any: it is known */
	smpp_machine_malformed(&w.m, &p);
	assert_int_equal(last_command(), SMPP_deliver_sm_resp);
	assert_int_equal(last_seq(), 5);
	receive(SMPP_submit_sm, 6, 0);
	assert_int_equal(last_command(), SMPP_submit_sm_resp);
	assert_int_equal(last_status(), SMPP_ESME_RINVBNDSTS);
	unsigned sent = w.sent;
	p.command_id = SMPP_submit_sm_resp; /* a response is never answered */
	smpp_machine_malformed(&w.m, &p);
	receive(SMPP_deliver_sm_resp, 8, 0);
	receive(SMPP_bind_transceiver_resp, 8, 0);
	assert_int_equal(w.sent, sent);
	assert_true(w.up);
	/* One that belongs to a request counts by its head. */
	submit(1);
	p.sequence_number = last_seq();
	smpp_machine_malformed(&w.m, &p);
	assert_int_equal(w.results, 1);
	assert_int_equal(w.result[0].r, SMPP_RESULT_ACCEPTED);
	assert_string_equal(w.result[0].id, "");
}

/* The table once more, as the rules have it: for each event the state that follows, "-": refused. */
static void test_table_is_the_rules(void **state)
{
	enum { CL, CO, OP, BO, DR, UN, BA, RE, NO = 99 };
	static const uint8_t next[][12] = {
		/*       ENA DIS CON LOS TIM BRE OUT UNB URE DRA SIL FRA */
		[CL] = { CO, CL, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO },
		[CO] = { NO, CL, OP, BA, BA, NO, NO, NO, NO, NO, NO, NO },
		[OP] = { NO, CL, NO, BA, BA, BO, OP, BA, NO, NO, NO, BA },
		[BO] = { NO, DR, NO, BA, NO, NO, BO, BA, NO, NO, BA, BA },
		[DR] = { BO, NO, NO, CL, UN, NO, NO, CL, NO, UN, CL, CL },
		[UN] = { UN, UN, NO, CL, CL, NO, NO, CL, CL, NO, NO, CL },
		[BA] = { NO, CL, NO, NO, CO, NO, NO, NO, NO, NO, NO, NO },
		[RE] = { NO, CL, NO, NO, CO, NO, NO, NO, NO, NO, NO, NO },
	};
	struct smpp_pdu ok = { .command_id = SMPP_bind_transceiver_resp };

	UNUSED(state);
	assert_int_equal(smpp_machine_def.nstates, ARRAY_LEN(next));
	assert_int_equal(smpp_machine_def.nevents, ARRAY_LEN(next[0]));
	for (uint8_t s = 0; s < smpp_machine_def.nstates; s++)
		for (uint8_t e = 0; e < smpp_machine_def.nevents; e++) {
			const struct fsm_row *r = row_for(s, e, &ok);

			if ((r ? r->next : NO) != next[s][e])
				fail_msg("%s %s", smpp_machine_def.states[s].name, smpp_machine_def.events[e]);
		}
}

/* BIND-1, BIND-3, BIND-4: what is sent, and which refusals need somebody to change something. */
static void test_bind_statuses(void **state)
{
	static const struct {
		uint32_t status;
		uint8_t next;
	} cases[] = {
		{ SMPP_ESME_RINVPASWD, SMPP_ST_REFUSED }, { SMPP_ESME_RINVSYSID, SMPP_ST_REFUSED },
		{ SMPP_ESME_RINVSYSTYP, SMPP_ST_REFUSED }, { SMPP_ESME_RPROHIBITED, SMPP_ST_REFUSED },
		{ SMPP_ESME_RALYBND, SMPP_ST_BACKOFF }, { SMPP_ESME_RBINDFAIL, SMPP_ST_BACKOFF },
		{ SMPP_ESME_RSYSERR, SMPP_ST_BACKOFF },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		teardown(state);
		setup(state);
		go(SMPP_ST_OPEN);
		assert_int_equal(last_command(), SMPP_bind_transceiver);
		assert_int_equal(w.version, 0x34);
		receive(SMPP_bind_transceiver_resp, last_seq(), cases[i].status);
		assert_int_equal(w.m.fsm.state, cases[i].next);
	}
}

/* LINK-4: the boundary between what had left and what had not falls between two requests. */
static void test_lost_between_requests(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(submit(i), 0);
	w.unsent = 100; /* just the last */
	lost();
	assert_int_equal(w.results, 3);
	assert_int_equal(w.result[0].r, SMPP_RESULT_AMBIGUOUS);
	assert_int_equal(w.result[1].r, SMPP_RESULT_AMBIGUOUS);
	assert_int_equal(w.result[2].r, SMPP_RESULT_UNSENT);
}

/* LINK-3, PDU-9: a nack answers an enquire_link; an alert_notification is nothing odd. */
static void test_nothing_odd(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	pass(30000);
	assert_int_equal(last_command(), SMPP_enquire_link);
	receive(SMPP_generic_nack, last_seq(), SMPP_ESME_RINVCMDID);
	unsigned sent = w.sent;
	receive(SMPP_alert_notification, 9, 0);
	assert_int_equal(w.sent, sent);
	assert_int_equal(w.m.counts.late, 0);
	assert_int_equal(w.m.counts.glitches, 0);
	pass(29999);
	assert_int_equal(w.sent, sent);
	pass(2);
	assert_int_equal(last_command(), SMPP_enquire_link);
}

/* FLOW-5: what was sent is taken from the bucket. */
static void test_rate(void **state)
{
	smpp_machine_free(&w.m);
	w.cfg.flow.max_rate = 100;
	assert_int_equal(smpp_machine_init(&w.m, &w.cfg, &ops, &w, NULL), 0);
	UNUSED(state);
	go(SMPP_ST_BOUND);
	assert_int_equal(submit(1), 0);
	assert_int_equal(submit(2), E_AGAIN);
	pass(11);
	assert_int_equal(submit(2), 0);
	assert_int_equal(submit(3), E_AGAIN);
}

/* LINK-6, LINK-7. */
static void test_ends_by_peer(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	submit(1);
	receive(SMPP_unbind, 44, 0);
	assert_int_equal(last_command(), SMPP_unbind_resp);
	assert_int_equal(w.result[0].r, SMPP_RESULT_AMBIGUOUS);
	assert_int_equal(w.flushes, 1);
	pass(1000);
	connected();
	receive(SMPP_bind_transceiver_resp, last_seq(), 0);
	unsigned sent = w.sent;
	smpp_machine_framing_lost(&w.m);
	assert_int_equal(w.sent, sent + 1);
	assert_int_equal(last_command(), SMPP_generic_nack);
	assert_int_equal(last_seq(), 0);
	assert_int_equal(last_status(), SMPP_ESME_RINVCMDLEN);
	assert_int_equal(w.m.fsm.state, SMPP_ST_BACKOFF);
	assert_false(w.connected);
}

/* LINK-8, LINK-9: a clean end. */
static void test_shutdown(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	submit(1);
	uint32_t seq = last_seq();
	receive(SMPP_deliver_sm, 10, 0);
	smpp_machine_enable(&w.m, false);
	assert_int_equal(w.m.fsm.state, SMPP_ST_DRAINING);
	assert_false(w.up);
	assert_int_equal(submit(2), E_AGAIN);
	receive(SMPP_deliver_sm, 11, 0);
	assert_int_equal(last_status(), SMPP_ESME_RX_T_APPN);
	receive(SMPP_submit_sm_resp, seq, 0);
	assert_int_equal(w.result[0].r, SMPP_RESULT_ACCEPTED);
	assert_int_equal(w.m.fsm.state, SMPP_ST_DRAINING);
	smpp_machine_deliver_done(&w.m, w.token[0], 0);
	assert_int_equal(w.m.fsm.state, SMPP_ST_UNBINDING);
	assert_int_equal(last_command(), SMPP_unbind);
	receive(SMPP_unbind_resp, last_seq(), 0);
	assert_int_equal(w.m.fsm.state, SMPP_ST_CLOSED);
	assert_int_equal(w.tick_due, UINT64_MAX);
	smpp_machine_enable(&w.m, true);
	assert_int_equal(w.connects, 2);
}

static void test_shutdown_without_answers(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	submit(1);
	uint32_t seq = last_seq();
	submit(2);
	smpp_machine_enable(&w.m, false);
	pass(5000);
	assert_int_equal(w.m.fsm.state, SMPP_ST_UNBINDING);
	receive(SMPP_submit_sm_resp, seq, 0); /* late, and still welcome */
	assert_int_equal(w.result[0].r, SMPP_RESULT_ACCEPTED);
	smpp_machine_enable(&w.m, true);
	pass(5000);
	assert_int_equal(w.result[1].r, SMPP_RESULT_AMBIGUOUS);
	assert_int_equal(w.m.fsm.state, SMPP_ST_CONNECTING); /* enabled again meanwhile */
}

static void test_resume_while_draining(void **state)
{
	UNUSED(state);
	go(SMPP_ST_DRAINING);
	smpp_machine_enable(&w.m, true);
	assert_true(w.up);
	assert_int_equal(submit(2), 0);
	assert_int_equal(w.connects, 1);
}

static void test_send_fails(void **state)
{
	UNUSED(state);
	go(SMPP_ST_BOUND);
	w.send_rc = E_TOOBIG;
	assert_int_equal(submit(1), E_TOOBIG);
	w.send_rc = E_AGAIN;
	assert_int_equal(submit(1), E_AGAIN);
	assert_int_equal(w.m.in_flight, 0);
	w.send_rc = 0;
	assert_int_equal(submit(1), 0);
	assert_int_equal(w.results, 0);
}

static void test_receiver_does_not_submit(void **state)
{
	UNUSED(state);
	w.cfg.bind = SMPP_bind_receiver;
	go(SMPP_ST_BOUND);
	assert_int_equal(w.sent_command[0], SMPP_bind_receiver);
	assert_int_equal(smpp_machine_room(&w.m), 0);
	assert_int_equal(submit(1), E_AGAIN);
}

static void test_free_reports(void **state)
{
	struct smpp_machine bad;
	struct smpp_cfg cfg = { .window = 1001 };
	struct err e;

	UNUSED(state);
	go(SMPP_ST_BOUND);
	submit(7);
	smpp_machine_free(&w.m);
	assert_int_equal(w.results, 1);
	assert_int_equal(w.result[0].r, SMPP_RESULT_AMBIGUOUS);
	assert_int_equal(last_command(), SMPP_unbind);
	assert_int_equal(smpp_machine_init(&bad, &cfg, &ops, &w, &e), E_RANGE);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_every_pair),
		T(test_table_is_the_rules),
		T(test_bind_statuses),
		T(test_lost_between_requests),
		T(test_nothing_odd),
		T(test_rate),
		T(test_bind),
		T(test_bind_refused),
		T(test_backoff),
		T(test_no_bind_answer),
		T(test_window),
		T(test_sequence_numbers),
		T(test_lost),
		T(test_enquire_link),
		T(test_enquire_often),
		T(test_inactivity),
		T(test_no_answer),
		T(test_throttled),
		T(test_deliveries),
		T(test_deliver_before_bind),
		T(test_wrong_pdus),
		T(test_ends_by_peer),
		T(test_shutdown),
		T(test_shutdown_without_answers),
		T(test_resume_while_draining),
		T(test_send_fails),
		T(test_receiver_does_not_submit),
		T(test_free_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
