/* smpp_machine.c - the life of a session; see smpp_machine.h. What goes through it is in
 * smpp_traffic.c. */
#include "translators/sms/smpp_machine.h"
#include "appliance/base/log.h"
#include "translators/sms/smpp_machine_int.h"
#include "translators/sms/smpp_status.h"

#include <inttypes.h>

#define HELD_MS        10000u /* a session that lived so long ends the back-off (LINK-11) */
#define ATTEMPTS_MAX   16u
#define UNANSWERED_DEF 50u

enum { TO_CONNECT, TO_BIND, TO_DRAIN, TO_UNBIND, TO_BACKOFF, TO_REFUSED };

const char *smpp_result_name(enum smpp_result r)
{
	static const char *const names[] = { "accepted", "refused", "unsent", "ambiguous" };

	return names[r];
}

void smm_set_why(struct smpp_machine *m, const char *why)
{
	snprintf(m->why, sizeof(m->why), "%s", why);
}

void smpp_machine_framing_lost(struct smpp_machine *m)
{
	fsm_event(&m->fsm, EV_FRAMING, NULL);
}

void smpp_machine_state_timeout(struct smpp_machine *m)
{
	fsm_event(&m->fsm, EV_TIMEOUT, NULL);
}

void smpp_machine_connected(struct smpp_machine *m)
{
	fsm_raise(&m->fsm, EV_CONNECTED);
}

void smpp_machine_lost(struct smpp_machine *m, const char *why)
{
	smm_set_why(m, why);
	fsm_raise(&m->fsm, EV_LOST);
}

void smpp_machine_enable(struct smpp_machine *m, bool on)
{
	if (on == m->wanted)
		return;
	m->wanted = on;
	fsm_raise(&m->fsm, on ? EV_ENABLE : EV_DISABLE);
}

/* ---- the life of the session ---- */

static int act_connect(void *self, const void *ev)
{
	struct smpp_machine *m = self;

	UNUSED(ev);
	m->counts.connects++;
	m->bound_ms = 0;
	m->attempts += m->attempts < ATTEMPTS_MAX;
	m->ops->connect(m->arg);
	return 0;
}

static int act_bind(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_cfg *c = m->cfg;
	struct err e = { 0 };
	struct smpp_pdu p = { .command_id = smm_or(c->bind, SMPP_bind_transceiver),
			      .sequence_number = smm_next_sequence(m),
			      .system_id = c->system_id,
			      .password = c->password,
			      .system_type = c->system_type,
			      .interface_version = c->interface_version ? c->interface_version
									: 0x34,
			      .addr_ton = c->addr_ton,
			      .addr_npi = c->addr_npi,
			      .address_range = c->address_range };

	UNUSED(ev);
	m->written = 0;
	m->heard_ms = smm_now(m);
	if (smm_send(m, &p, &e) > 0)
		return 0;
	smm_set_why(m, e.code ? e.text : "the bind could not be sent");
	log_ev(LOG_L_ERROR, "smpp.bind.unsent", KS("link", c->name), KC("why", m->why));
	m->ops->disconnect(m->arg, false);
	return -1;
}

static bool bind_ok(const void *self, const void *ev)
{
	const struct smpp_pdu *p = ev;

	UNUSED(self);
	return p->command_status == 0 && p->command_id != SMPP_generic_nack;
}

/* Statuses that stay until somebody changes the configuration. */
static bool bind_denied(const void *self, const void *ev)
{
	uint32_t status = ((const struct smpp_pdu *)ev)->command_status;

	UNUSED(self);
	return status == SMPP_ESME_RINVPASWD || status == SMPP_ESME_RINVSYSID ||
	       status == SMPP_ESME_RINVSYSTYP || status == SMPP_ESME_RPROHIBITED;
}

static int act_bound(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_pdu *p = ev;
	uint32_t version = 0;

	smpp_tlv_uint(p, SMPP_TLV_sc_interface_version, &version);
	m->bound_ms = m->heard_ms = smm_now(m);
	m->enquire_seq = 0;
	m->epoch++;
	m->counts.binds++;
	m->full = true;
	smm_forget_deliveries(m);
	smm_set_why(m, "");
	log_ev(LOG_L_NOTICE, "smpp.bound", KS("link", m->cfg->name), KS("smsc", p->system_id),
	       KU("version", version));
	smm_schedule_tick(m);
	m->ops->state(m->arg, true, "");
	smm_tell_ready(m);
	return 0;
}

static int act_bind_refused(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_pdu *p = ev;
	const struct smpp_status *s = smpp_status_find(p->command_status);

	m->counts.binds_refused++;
	snprintf(m->why, sizeof(m->why), "bind refused: %s (0x%" PRIx32 " %s)", s->text,
		 p->command_status, s->name);
	log_ev(LOG_L_WARN, "smpp.bind.refused", KS("link", m->cfg->name),
	       KU("status", p->command_status), KC("why", m->why));
	m->ops->disconnect(m->arg, false);
	return 0;
}

/* The connection never became a session. */
static int act_give_up(void *self, const void *ev)
{
	struct smpp_machine *m = self;

	UNUSED(ev);
	log_ev(LOG_L_WARN, "smpp.connect.failed", KS("link", m->cfg->name), KC("why", m->why),
	       KU("attempts", m->attempts));
	m->ops->disconnect(m->arg, false);
	return 0;
}

static int act_no_connection(void *self, const void *ev)
{
	smm_set_why(self, "no connection in time");
	return act_give_up(self, ev);
}

static int act_no_bind_resp(void *self, const void *ev)
{
	smm_set_why(self, "no answer to bind");
	return act_give_up(self, ev);
}

/* The session is over, for whatever reason (m->why). */
static void end_session(struct smpp_machine *m, bool flush)
{
	if (smm_now(m) - m->bound_ms >= HELD_MS)
		m->attempts = 0;
	m->epoch++;
	m->counts.lost++;
	m->full = false;
	smm_forget_deliveries(m);
	smm_stop_tick(m);
	log_ev(LOG_L_WARN, "smpp.lost", KS("link", m->cfg->name), KC("why", m->why),
	       KU("in_flight", m->in_flight));
	smm_fail_in_flight(m);
	m->ops->disconnect(m->arg, flush);
	m->ops->state(m->arg, false, m->why);
}

static int act_lost(void *self, const void *ev)
{
	UNUSED(ev);
	end_session(self, false);
	return 0;
}

static int act_peer_unbinds(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_pdu *p = ev;

	smm_set_why(m, "the SMS centre unbound");
	smm_answer(m, SMPP_unbind_resp, p->sequence_number, 0);
	end_session(m, true);
	return 0;
}

static int act_unbind_in_open(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_pdu *p = ev;

	smm_set_why(m, "the SMS centre unbound");
	smm_answer(m, SMPP_unbind_resp, p->sequence_number, 0);
	m->ops->disconnect(m->arg, true);
	return 0;
}

static int act_framing(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	bool session = m->bound_ms != 0;

	UNUSED(ev);
	smm_set_why(m, "broken command_length");
	smm_answer(m, SMPP_generic_nack, 0, SMPP_ESME_RINVCMDLEN);
	if (session)
		end_session(m, true);
	else
		m->ops->disconnect(m->arg, true);
	return 0;
}

static int act_outbind(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_pdu *p = ev;

	log_ev(LOG_L_INFO, "smpp.outbind", KS("link", m->cfg->name), KS("smsc", p->system_id));
	return 0;
}

/* LINK-8: no new messages; the answers to the old ones are still wanted. */
static int act_drain(void *self, const void *ev)
{
	struct smpp_machine *m = self;

	UNUSED(ev);
	smm_set_why(m, "closed by the operator");
	m->ops->state(m->arg, false, m->why);
	smm_check_drained(m);
	return 0;
}

static int act_resume(void *self, const void *ev)
{
	struct smpp_machine *m = self;

	UNUSED(ev);
	smm_set_why(m, "");
	m->full = true;
	m->ops->state(m->arg, true, "");
	smm_tell_ready(m);
	return 0;
}

static int act_unbind(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	struct smpp_pdu p = { .command_id = SMPP_unbind, .sequence_number = smm_next_sequence(m) };

	UNUSED(ev);
	smm_stop_tick(m);
	smm_send(m, &p, NULL);
	return 0;
}

/* Out of UNBINDING, or out of a session that was to end anyway. */
static int act_closed(void *self, const void *ev)
{
	struct smpp_machine *m = self;

	UNUSED(ev);
	smm_set_why(m, "closed by the operator");
	log_ev(LOG_L_NOTICE, "smpp.closed", KS("link", m->cfg->name));
	m->epoch++;
	smm_forget_deliveries(m);
	smm_stop_tick(m);
	m->attempts = 0;
	smm_fail_in_flight(m);
	m->ops->disconnect(m->arg, true);
	if (m->wanted)
		fsm_raise(&m->fsm, EV_ENABLE); /* changed their mind meanwhile */
	return 0;
}

static int act_closed_by_peer(void *self, const void *ev)
{
	struct smpp_machine *m = self;
	const struct smpp_pdu *p = ev;

	smm_answer(m, SMPP_unbind_resp, p->sequence_number, 0);
	return act_closed(self, ev);
}

static void refuse(void *self, uint8_t state, uint8_t event)
{
	struct smpp_machine *m = self;

	m->counts.glitches++;
	log_ev(LOG_L_INFO, "smpp.unexpected", KS("link", m->cfg->name),
	       KC("state", smpp_machine_def.states[state].name),
	       KC("event", smpp_machine_def.events[event]));
}

static void arm(void *self, uint32_t ms)
{
	struct smpp_machine *m = self;

	m->ops->arm_state(m->arg, ms);
}

/* LINK-2: doubling from the least to the most, and somewhere in the upper half of that. */
static uint32_t backoff_ms(const struct smpp_machine *m)
{
	uint64_t least = smm_or(m->cfg->backoff_min_ms, 1000);
	uint64_t most = smm_or(m->cfg->backoff_max_ms, 60000);
	bool held = m->bound_ms && smm_now(m) - m->bound_ms >= HELD_MS;
	unsigned doublings = m->attempts && !held ? m->attempts - 1 : 0;
	uint64_t ms = least << doublings;

	if (ms > most)
		ms = most;
	return (uint32_t)(ms - ms / 2) + m->ops->random(m->arg, (uint32_t)(ms / 2) + 1);
}

static uint32_t timeout_ms(const void *self, uint8_t i)
{
	const struct smpp_machine *m = self;
	const struct smpp_cfg *c = m->cfg;

	switch (i) {
	case TO_CONNECT:
		return smm_or(c->connect_ms, 30000);
	case TO_BIND:
		return smm_or(c->session_init_ms, 30000);
	case TO_DRAIN:
		return smm_or(c->drain_ms, 5000);
	case TO_UNBIND:
		return smm_or(c->unbind_ms, 5000);
	case TO_REFUSED:
		return smm_or(c->refused_ms, 60000);
	default:
		return backoff_ms(m);
	}
}

static const struct fsm_state states[] = {
	[SMPP_ST_CLOSED] = { "CLOSED", false, FSM_NO_TIMER },
	[SMPP_ST_CONNECTING] = { "CONNECTING", false, TO_CONNECT },
	[SMPP_ST_OPEN] = { "OPEN", false, TO_BIND },
	[SMPP_ST_BOUND] = { "BOUND", false, FSM_NO_TIMER },
	[SMPP_ST_DRAINING] = { "DRAINING", false, TO_DRAIN },
	[SMPP_ST_UNBINDING] = { "UNBINDING", false, TO_UNBIND },
	[SMPP_ST_BACKOFF] = { "BACKOFF", false, TO_BACKOFF },
	[SMPP_ST_REFUSED] = { "REFUSED", false, TO_REFUSED },
};

static const char *const events[] = {
	"ENABLE",  "DISABLE", "CONNECTED",   "LOST",    "TIMEOUT", "BIND_RESP",
	"OUTBIND", "UNBIND",  "UNBIND_RESP", "DRAINED", "SILENT",  "FRAMING",
};

static const struct fsm_timeout timeouts[] = {
	[TO_CONNECT] = { "connect", 30000, 1, 600000, EV_TIMEOUT, "LINK-2" },
	[TO_BIND] = { "session_init", 30000, 1, 600000, EV_TIMEOUT, "BIND-5" },
	[TO_DRAIN] = { "drain", 5000, 1, 600000, EV_TIMEOUT, "LINK-8" },
	[TO_UNBIND] = { "unbind", 5000, 1, 600000, EV_TIMEOUT, "LINK-9" },
	[TO_BACKOFF] = { "reconnect", 1000, 1, 3600000, EV_TIMEOUT, "LINK-2" },
	[TO_REFUSED] = { "refused", 60000, 1, 3600000, EV_TIMEOUT, "BIND-4" },
};

/* clang-format off */
#define ROW(state, event, next, guard, act, spec) \
	{ SMPP_ST_##state, EV_##event, SMPP_ST_##next, guard, act, spec, false }

static const struct fsm_row rows[] = {
	/*  state       event        next        guard        act                 spec */
	ROW(CLOSED,     ENABLE,      CONNECTING, NULL,        act_connect,        "LINK-1"),
	ROW(CLOSED,     DISABLE,     CLOSED,     NULL,        NULL,               "LINK-9"),

	ROW(CONNECTING, CONNECTED,   OPEN,       NULL,        act_bind,           "BIND-1"),
	ROW(CONNECTING, LOST,        BACKOFF,    NULL,        act_give_up,        "LINK-2"),
	ROW(CONNECTING, TIMEOUT,     BACKOFF,    NULL,        act_no_connection,  "LINK-2"),
	ROW(CONNECTING, DISABLE,     CLOSED,     NULL,        act_closed,         "LINK-9"),

	ROW(OPEN,       BIND_RESP,   BOUND,      bind_ok,     act_bound,          "BIND-2"),
	ROW(OPEN,       BIND_RESP,   REFUSED,    bind_denied, act_bind_refused,   "BIND-4"),
	ROW(OPEN,       BIND_RESP,   BACKOFF,    NULL,        act_bind_refused,   "BIND-3"),
	ROW(OPEN,       OUTBIND,     OPEN,       NULL,        act_outbind,        "BIND-6"),
	ROW(OPEN,       TIMEOUT,     BACKOFF,    NULL,        act_no_bind_resp,   "BIND-5"),
	ROW(OPEN,       LOST,        BACKOFF,    NULL,        act_give_up,        "LINK-2"),
	ROW(OPEN,       UNBIND,      BACKOFF,    NULL,        act_unbind_in_open, "LINK-6"),
	ROW(OPEN,       FRAMING,     BACKOFF,    NULL,        act_framing,        "LINK-7"),
	ROW(OPEN,       DISABLE,     CLOSED,     NULL,        act_closed,         "LINK-9"),

	ROW(BOUND,      LOST,        BACKOFF,    NULL,        act_lost,           "LINK-4"),
	ROW(BOUND,      SILENT,      BACKOFF,    NULL,        act_lost,           "LINK-3"),
	ROW(BOUND,      UNBIND,      BACKOFF,    NULL,        act_peer_unbinds,   "LINK-6"),
	ROW(BOUND,      FRAMING,     BACKOFF,    NULL,        act_framing,        "LINK-7"),
	ROW(BOUND,      OUTBIND,     BOUND,      NULL,        act_outbind,        "BIND-6"),
	ROW(BOUND,      DISABLE,     DRAINING,   NULL,        act_drain,          "LINK-8"),

	ROW(DRAINING,   DRAINED,     UNBINDING,  NULL,        act_unbind,         "LINK-8"),
	ROW(DRAINING,   TIMEOUT,     UNBINDING,  NULL,        act_unbind,         "LINK-8"),
	ROW(DRAINING,   ENABLE,      BOUND,      NULL,        act_resume,         "LINK-8"),
	ROW(DRAINING,   LOST,        CLOSED,     NULL,        act_closed,         "LINK-9"),
	ROW(DRAINING,   SILENT,      CLOSED,     NULL,        act_closed,         "LINK-9"),
	ROW(DRAINING,   FRAMING,     CLOSED,     NULL,        act_closed,         "LINK-7"),
	ROW(DRAINING,   UNBIND,      CLOSED,     NULL,        act_closed_by_peer, "LINK-6"),

	ROW(UNBINDING,  UNBIND_RESP, CLOSED,     NULL,        act_closed,         "LINK-9"),
	ROW(UNBINDING,  TIMEOUT,     CLOSED,     NULL,        act_closed,         "LINK-9"),
	ROW(UNBINDING,  LOST,        CLOSED,     NULL,        act_closed,         "LINK-9"),
	ROW(UNBINDING,  FRAMING,     CLOSED,     NULL,        act_closed,         "LINK-7"),
	ROW(UNBINDING,  UNBIND,      CLOSED,     NULL,        act_closed_by_peer, "LINK-6"),
	ROW(UNBINDING,  ENABLE,      UNBINDING,  NULL,        NULL,               "LINK-9"),
	ROW(UNBINDING,  DISABLE,     UNBINDING,  NULL,        NULL,               "LINK-9"),

	ROW(BACKOFF,    TIMEOUT,     CONNECTING, NULL,        act_connect,        "LINK-2"),
	ROW(BACKOFF,    DISABLE,     CLOSED,     NULL,        act_closed,         "LINK-9"),
	ROW(REFUSED,    TIMEOUT,     CONNECTING, NULL,        act_connect,        "BIND-4"),
	ROW(REFUSED,    DISABLE,     CLOSED,     NULL,        act_closed,         "LINK-9"),
};
/* clang-format on */

static struct fsm_index *machine_index;

const struct fsm_def smpp_machine_def = {
	.name = "smpp_link",
	.states = states,
	.nstates = ARRAY_LEN(states),
	.events = events,
	.nevents = EV_COUNT,
	.rows = rows,
	.nrows = ARRAY_LEN(rows),
	.start = SMPP_ST_CLOSED,
	.fault = SMPP_ST_BACKOFF,
	.timeouts = timeouts,
	.ntimeouts = ARRAY_LEN(timeouts),
	.refuse = refuse,
	.arm = arm,
	.timeout_ms = timeout_ms,
	.index = &machine_index,
};

int smpp_machine_init(struct smpp_machine *m, const struct smpp_cfg *cfg,
		      const struct smpp_machine_ops *ops, void *arg, struct err *e)
{
	uint32_t window = smm_or(cfg->window, SMPP_WINDOW_DEFAULT), slots = 16;
	uint32_t deliveries = smm_or(cfg->unanswered, UNANSWERED_DEF);

	memset(m, 0, sizeof(*m));
	if (window > SMPP_WINDOW_MAX || deliveries > SMPP_WINDOW_MAX)
		return err_set(e, E_RANGE, "FLOW-1", "link " SLFMT ": a window over %d",
			       SLARG(cfg->name), SMPP_WINDOW_MAX);
	while (slots < window * 2)
		slots *= 2;
	m->request = calloc(slots, sizeof(*m->request));
	m->delivery = calloc(deliveries, sizeof(*m->delivery));
	if (!m->request || !m->delivery) {
		free(m->request);
		free(m->delivery);
		return err_set(e, E_NOMEM, NULL, "link " SLFMT ": no memory", SLARG(cfg->name));
	}
	m->request_mask = slots - 1;
	m->window = window;
	m->deliveries = deliveries;
	m->cfg = cfg;
	m->ops = ops;
	m->arg = arg;
	m->tick_ms = SMM_NEVER;
	list_init(&m->order);
	smpp_flow_init(&m->flow, &cfg->flow, ops->now_ms(arg));
	smm_forget_deliveries(m);
	smm_set_why(m, "not enabled");
	fsm_init(&m->fsm, &smpp_machine_def);
	return 0;
}

void smpp_machine_free(struct smpp_machine *m)
{
	if (!m->request)
		return;
	m->ops->arm_state(m->arg, 0);
	m->ops->arm_tick(m->arg, 0);
	smm_fail_in_flight(m);
	if (smm_in_session(m)) {
		struct smpp_pdu p = { .command_id = SMPP_unbind,
				      .sequence_number = smm_next_sequence(m) };

		smm_send(m, &p, NULL); /* nobody waits for the answer */
	}
	free(m->request);
	free(m->delivery);
	memset(m, 0, sizeof(*m));
}
