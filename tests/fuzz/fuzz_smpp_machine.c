/* fuzz_smpp_machine.c - octets as a story of one session: operator, network, time, upper layer, and
 * the peer's PDUs. Whatever happens: one result for each message that was taken, never more in
 * flight than the window, no PDU to a connection that is not there, and the machine always gets out
 * again. */
#include "appliance/base/cursor.h"
#include "appliance/base/log.h"
#include "translators/sms/smpp_machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WINDOW     4u
#define UNANSWERED 3u

static struct world {
	struct smpp_machine m;
	uint64_t now_ms, state_due, tick_due;
	bool connecting, connected, up;
	uint64_t next_cookie, taken, results;
	uint64_t token[UNANSWERED + 1];
	unsigned tokens;
	bool send_fails, answer_at_once;
} w;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static uint64_t op_now(void *arg)
{
	UNUSED(arg);
	return w.now_ms;
}
static uint32_t op_random(void *arg, uint32_t below)
{
	UNUSED(arg);
	check(below > 0);
	return below / 2;
}
static void op_connect(void *arg)
{
	UNUSED(arg);
	check(!w.connecting && !w.connected);
	w.connecting = true;
}
static void op_disconnect(void *arg, bool flush)
{
	UNUSED(arg);
	UNUSED(flush);
	w.connecting = w.connected = false;
}
static int op_send(void *arg, const struct smpp_pdu *p, struct err *e)
{
	UNUSED(arg);
	UNUSED(e);
	check(w.connected && p->command_id != 0);
	return w.send_fails ? E_AGAIN : 16;
}
static size_t op_unsent(void *arg)
{
	UNUSED(arg);
	return w.now_ms % 3 ? 0 : 16;
}
static void op_arm_state(void *arg, uint32_t ms)
{
	UNUSED(arg);
	w.state_due = ms ? w.now_ms + ms : UINT64_MAX;
}
static void op_arm_tick(void *arg, uint32_t ms)
{
	UNUSED(arg);
	w.tick_due = ms ? w.now_ms + ms : UINT64_MAX;
}
static void op_state(void *arg, bool up, const char *why)
{
	UNUSED(arg);
	check(w.up != up && why);
	w.up = up;
}
static void op_ready(void *arg)
{
	UNUSED(arg);
	check(smpp_machine_room(&w.m) > 0);
}
static void op_result(void *arg, uint64_t cookie, enum smpp_result r, uint32_t status, struct sl id)
{
	UNUSED(arg);
	UNUSED(id);
	check(cookie < w.next_cookie);
	check(r != SMPP_RESULT_REFUSED || status != 0);
	w.results++;
}
static void op_deliver(void *arg, const struct smpp_pdu *p, uint64_t token)
{
	UNUSED(arg);
	UNUSED(p);
	if (w.answer_at_once)
		check(smpp_machine_deliver_done(&w.m, token, 0) == 0);
	else
		w.token[w.tokens++ % ARRAY_LEN(w.token)] = token;
}

static const struct smpp_machine_ops ops = {
	op_now,       op_random,   op_connect, op_disconnect, op_send,   op_unsent,
	op_arm_state, op_arm_tick, op_state,   op_ready,      op_result, op_deliver,
};

static void pass(uint64_t ms)
{
	uint64_t end = w.now_ms + ms;

	for (unsigned n = 0; w.state_due <= end || w.tick_due <= end; n++) {
		bool state = w.state_due <= w.tick_due;

		check(n < 100000); /* no timer that fires without end */
		w.now_ms = state ? w.state_due : w.tick_due;
		*(state ? &w.state_due : &w.tick_due) = UINT64_MAX;
		if (state)
			smpp_machine_state_timeout(&w.m);
		else
			smpp_machine_tick(&w.m);
	}
	w.now_ms = end;
}

static void pdu_in(struct rd *r)
{
	static const uint32_t commands[] = {
#define SMPP_PDU(name, command_id, ...) command_id,
#include "translators/sms/smpp_pdu.def"
	};
	uint8_t which = rd_u8(r), seq = rd_u8(r), status = rd_u8(r);
	struct smpp_pdu p = { .command_id = commands[which % ARRAY_LEN(commands)],
			      .command_status = status,
			      .sequence_number = seq < 128 ? seq : w.m.sequence - (seq & 7),
			      .glitches = which & 1,
			      .fault = 2,
			      .message_id = SL("1") };

	if (!w.connected)
		return;
	if (seq % 16 == 15)
		smpp_machine_malformed(&w.m, &p);
	else
		smpp_machine_pdu(&w.m, &p);
}

static void submit(void)
{
	struct smpp_pdu p = { .command_id = SMPP_submit_sm };
	uint32_t room = smpp_machine_room(&w.m);
	int rc = smpp_machine_submit(&w.m, &p, w.next_cookie++, NULL);

	check(rc == 0 || rc == E_AGAIN);
	check(rc < 0 || room > 0);
	w.taken += rc == 0;
}

static void step(uint8_t what, struct rd *r)
{
	switch (what % 12) {
	case 0:
	case 1:
		smpp_machine_enable(&w.m, what % 12 == 0);
		break;
	case 2:
		if (w.connecting) {
			w.connected = !(w.connecting = false);
			smpp_machine_connected(&w.m);
		}
		break;
	case 3:
		if (w.connecting || w.connected) {
			w.connecting = w.connected = false;
			smpp_machine_lost(&w.m, "lost");
		}
		break;
	case 4:
		pass((uint64_t)rd_u8(r) * rd_u8(r));
		break;
	case 5:
		if (w.connected)
			smpp_machine_framing_lost(&w.m);
		break;
	case 6:
	case 7:
		submit();
		break;
	case 8:
		smpp_machine_deliver_done(&w.m, w.token[rd_u8(r) % ARRAY_LEN(w.token)], 0);
		break;
	case 9:
		w.send_fails = what & 0x80;
		w.answer_at_once = what & 0x40;
		break;
	default:
		pdu_in(r);
		break;
	}
	check(w.m.in_flight <= WINDOW && w.m.unanswered <= UNANSWERED);
	check(w.taken == w.results + w.m.in_flight);
	check(w.up == smpp_machine_up(&w.m));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd r = rd_init(sl_mk((const char *)data, size));
	struct smpp_cfg cfg = { .window = WINDOW,
				.unanswered = UNANSWERED,
				.inactivity_ms = size & 1 ? 90000 : 0 };

	log_set_level(LOG_L_ERROR);
	memset(&w, 0, sizeof(w));
	w.now_ms = 1;
	w.state_due = w.tick_due = UINT64_MAX;
	if (fsm_def_prepare(&smpp_machine_def, NULL) < 0 ||
	    smpp_machine_init(&w.m, &cfg, &ops, &w, NULL) < 0)
		abort();
	while (r.n && !r.bad)
		step(rd_u8(&r), &r);
	/* It always comes to rest, with nothing owed. */
	w.send_fails = false;
	smpp_machine_enable(&w.m, false);
	pass(60000);
	check(w.m.fsm.state == SMPP_ST_CLOSED && w.taken == w.results && !w.connected);
	smpp_machine_free(&w.m);
	return 0;
}
