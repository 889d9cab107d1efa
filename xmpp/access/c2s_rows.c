/* c2s_rows.c - the life of a client's stream as a table. Actions are in c2s.c, c2s_sasl.c and
 * c2s_bound.c. */
#include "appliance/base/log.h"
#include "xmpp/access/c2s.h"

enum { T_LOGIN, C2S_TIMEOUTS };

static const struct fsm_timeout c2s_timeouts[C2S_TIMEOUTS] = {
	/* Counted from the accept, not from the state: c2s_timeout_ms. */
	[T_LOGIN] = { "unauthenticated", 60000, 1, 3600000, C2S_EV_TIMEOUT, "DESIGN 10" },
};

static const struct fsm_state c2s_states[C2S_STATES] = {
	[C2S_NEW] = { "NEW", false, FSM_NO_TIMER },
	[C2S_TLS] = { "TLS", false, T_LOGIN },
	[C2S_HEADER] = { "HEADER", false, T_LOGIN },
	[C2S_FEATURES] = { "FEATURES", false, T_LOGIN },
	[C2S_SASL] = { "SASL", false, T_LOGIN },
	[C2S_STEP] = { "STEP", false, T_LOGIN },
	[C2S_MOVING] = { "MOVING", false, FSM_NO_TIMER },
	[C2S_AUTHED_HEADER] = { "AUTHED_HEADER", false, T_LOGIN },
	[C2S_AUTHED] = { "AUTHED", false, T_LOGIN },
	[C2S_LOOKUP] = { "LOOKUP", false, FSM_NO_TIMER },
	[C2S_BINDING] = { "BINDING", false, FSM_NO_TIMER },
	[C2S_BOUND] = { "BOUND", false, FSM_NO_TIMER },
	[C2S_CLOSING] = { "CLOSING", false, FSM_NO_TIMER },
	[C2S_CLOSED] = { "CLOSED", true, FSM_NO_TIMER },
};

static const char *const c2s_events[C2S_EVENTS] = {
	[C2S_EV_PLAIN] = "PLAIN",       [C2S_EV_DIRECT] = "DIRECT",
	[C2S_EV_TLS_UP] = "TLS_UP",     [C2S_EV_HEADER] = "HEADER",
	[C2S_EV_STARTTLS] = "STARTTLS", [C2S_EV_AUTH] = "AUTH",
	[C2S_EV_RESPONSE] = "RESPONSE", [C2S_EV_ABORT] = "ABORT",
	[C2S_EV_NEED] = "NEED",         [C2S_EV_CHALLENGE] = "CHALLENGE",
	[C2S_EV_SUCCESS] = "SUCCESS",   [C2S_EV_FAILURE] = "FAILURE",
	[C2S_EV_ARRIVED] = "ARRIVED",   [C2S_EV_BIND] = "BIND",
	[C2S_EV_TAKEN] = "TAKEN",       [C2S_EV_REFUSED] = "REFUSED",
	[C2S_EV_RESUME] = "RESUME",     [C2S_EV_FAILED] = "FAILED",
	[C2S_EV_ERROR] = "ERROR",       [C2S_EV_CLOSE] = "CLOSE",
	[C2S_EV_END] = "END",           [C2S_EV_TIMEOUT] = "TIMEOUT",
	[C2S_EV_LOST] = "LOST",
};

#define ROW(st, ev, next, guard, act, spec) \
	{ \
		C2S_##st, C2S_EV_##ev, C2S_##next, guard, act, spec, false \
	}
#define ANY_ROW(ev, next, guard, act, spec) \
	{ \
		FSM_ANY, C2S_EV_##ev, C2S_##next, guard, act, spec, false \
	}

/* clang-format off */
static const struct fsm_row c2s_rows[] = {
	ROW(NEW, PLAIN, HEADER, NULL, NULL, "RFC 6120 4.2"),
	ROW(NEW, DIRECT, TLS, NULL, c2s_act_direct, "XEP-0368"),
	ROW(TLS, TLS_UP, HEADER, NULL, NULL, "RFC 6120 5.4.3.3"),
	ROW(HEADER, HEADER, FEATURES, NULL, c2s_act_features, "RFC 6120 4.3.2"),
	ROW(FEATURES, STARTTLS, TLS, c2s_can_starttls, c2s_act_proceed, "RFC 6120 5.4.2.3"),
	ROW(FEATURES, STARTTLS, CLOSING, NULL, c2s_act_tls_failure, "RFC 6120 5.4.2.2"),
	ROW(FEATURES, AUTH, STEP, c2s_mech_ok, c2s_act_auth, "RFC 6120 6.4.2"),
	ROW(FEATURES, AUTH, CLOSING, c2s_last_refusal, c2s_act_last_failure, "RFC 6120 6.4.5"),
	ROW(FEATURES, AUTH, FEATURES, NULL, c2s_act_auth_refused, "RFC 6120 6.5"),
	ROW(FEATURES, ABORT, CLOSING, c2s_last_failure, c2s_act_last_abort, "RFC 6120 6.4.5"),
	ROW(FEATURES, ABORT, FEATURES, NULL, c2s_act_abort, "RFC 6120 6.4.4"),
	ROW(SASL, RESPONSE, STEP, NULL, c2s_act_response, "RFC 6120 6.4.3"),
	ROW(SASL, ABORT, CLOSING, c2s_last_failure, c2s_act_last_abort, "RFC 6120 6.4.5"),
	ROW(SASL, ABORT, FEATURES, NULL, c2s_act_abort, "RFC 6120 6.4.4"),
	ROW(STEP, NEED, SASL, NULL, c2s_act_need, "RFC 6120 6.4.2"),
	ROW(STEP, CHALLENGE, SASL, NULL, c2s_act_challenge, "RFC 6120 6.4.3"),
	ROW(STEP, SUCCESS, MOVING, NULL, c2s_act_success, "RFC 6120 6.4.6"),
	ROW(STEP, FAILURE, CLOSING, c2s_last_failure, c2s_act_last_failure, "RFC 6120 6.4.5"),
	ROW(STEP, FAILURE, FEATURES, NULL, c2s_act_failure, "RFC 6120 6.4.5"),
	ROW(MOVING, ARRIVED, AUTHED_HEADER, NULL, NULL, "DESIGN 3"),
	ROW(AUTHED_HEADER, HEADER, AUTHED, NULL, c2s_act_authed_features, "RFC 6120 6.4.6"),
	ROW(AUTHED, BIND, BINDING, NULL, c2s_act_bind, "RFC 6120 7.6"),
	ROW(AUTHED, RESUME, BOUND, c2s_can_resume, c2s_act_resume, "XEP-0198 5"),
	ROW(AUTHED, RESUME, LOOKUP, NULL, c2s_act_lookup, "XEP-0198 5"),
	ROW(LOOKUP, FAILED, AUTHED, NULL, c2s_act_resume_failed, "CUST-2"),
	ROW(BINDING, TAKEN, BOUND, NULL, c2s_act_bound, "RFC 6120 7.6.1"),
	ROW(BINDING, REFUSED, AUTHED, NULL, c2s_act_bind_refused, "RFC 6120 7.6.2"),
	ROW(CLOSING, ERROR, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, CLOSE, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, END, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, FAILED, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, TLS_UP, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ANY_ROW(ERROR, CLOSING, NULL, c2s_act_error, "RFC 6120 4.9.1.1"),
	ANY_ROW(CLOSE, CLOSING, NULL, c2s_act_close, "RFC 6120 4.4"),
	ANY_ROW(END, CLOSING, NULL, c2s_act_end, "RFC 6120 4.4"),
	ANY_ROW(TIMEOUT, CLOSING, NULL, c2s_act_timeout, "DESIGN 10"),
	ANY_ROW(LOST, CLOSED, NULL, c2s_act_lost, "RFC 6120 4.6.2"),
};
/* clang-format on */

/* The protocol's own error for what does not fit the state. */
static void refuse(void *self, uint8_t state, uint8_t event)
{
	struct c2s *c = self;

	UNUSED(state);
	switch (event) {
	case C2S_EV_STARTTLS:
	case C2S_EV_AUTH:
	case C2S_EV_RESPONSE:
	case C2S_EV_ABORT:
		c2s_fail(c, "policy-violation", SL("not now"), SL_NULL);
		break;
	default:
		c2s_fail(c, "internal-server-error", SL_NULL, SL_NULL);
	}
}

static void arm(void *self, uint32_t ms)
{
	stream_arm(self, ms);
}

static uint32_t timeout_ms(const void *self, uint8_t i)
{
	UNUSED(i);
	return stream_login_ms(self);
}

static void done(void *self)
{
	c2s_free(self);
}

static struct fsm_index *c2s_index;

const struct fsm_def c2s_fsm = {
	.name = "c2s",
	.states = c2s_states,
	.nstates = C2S_STATES,
	.events = c2s_events,
	.nevents = C2S_EVENTS,
	.rows = c2s_rows,
	.nrows = ARRAY_LEN(c2s_rows),
	.start = C2S_NEW,
	.fault = C2S_CLOSING,
	.timeouts = c2s_timeouts,
	.ntimeouts = C2S_TIMEOUTS,
	.refuse = refuse,
	.arm = arm,
	.timeout_ms = timeout_ms,
	.done = done,
	.index = &c2s_index,
};
