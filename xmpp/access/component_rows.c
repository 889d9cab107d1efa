/* component_rows.c - the life of a component's stream as a table. Actions are in component.c. */
#include "xmpp/access/component.h"

enum { T_LOGIN, COMP_TIMEOUTS };

static const struct fsm_timeout comp_timeouts[COMP_TIMEOUTS] = {
	[T_LOGIN] = { "component-unauthenticated", 60000, 1, 3600000, COMP_EV_TIMEOUT,
		      "DESIGN 10" },
};

static const struct fsm_state comp_states[COMP_STATES] = {
	[COMP_NEW] = { "NEW", false, FSM_NO_TIMER },
	[COMP_TLS] = { "TLS", false, T_LOGIN },
	[COMP_HEADER] = { "HEADER", false, T_LOGIN },
	[COMP_HANDSHAKE] = { "HANDSHAKE", false, T_LOGIN },
	[COMP_FEATURES] = { "FEATURES", false, T_LOGIN },
	[COMP_SASL] = { "SASL", false, T_LOGIN },
	[COMP_STEP] = { "STEP", false, T_LOGIN },
	[COMP_MOVING] = { "MOVING", false, FSM_NO_TIMER },
	[COMP_AUTHED_HEADER] = { "AUTHED_HEADER", false, T_LOGIN },
	[COMP_AUTHED] = { "AUTHED", false, T_LOGIN },
	[COMP_UP] = { "UP", false, FSM_NO_TIMER },
	[COMP_CLOSING] = { "CLOSING", false, FSM_NO_TIMER },
	[COMP_CLOSED] = { "CLOSED", true, FSM_NO_TIMER },
};

static const char *const comp_events[COMP_EVENTS] = {
	[COMP_EV_PLAIN] = "PLAIN",         [COMP_EV_DIRECT] = "DIRECT",
	[COMP_EV_TLS_UP] = "TLS_UP",       [COMP_EV_HEADER] = "HEADER",
	[COMP_EV_HANDSHAKE] = "HANDSHAKE", [COMP_EV_STARTTLS] = "STARTTLS",
	[COMP_EV_AUTH] = "AUTH",           [COMP_EV_RESPONSE] = "RESPONSE",
	[COMP_EV_ABORT] = "ABORT",         [COMP_EV_NEED] = "NEED",
	[COMP_EV_CHALLENGE] = "CHALLENGE", [COMP_EV_SUCCESS] = "SUCCESS",
	[COMP_EV_FAILURE] = "FAILURE",     [COMP_EV_ARRIVED] = "ARRIVED",
	[COMP_EV_ENABLE] = "ENABLE",       [COMP_EV_STANZA] = "STANZA",
	[COMP_EV_ERROR] = "ERROR",         [COMP_EV_CLOSE] = "CLOSE",
	[COMP_EV_END] = "END",             [COMP_EV_TIMEOUT] = "TIMEOUT",
	[COMP_EV_LOST] = "LOST",
};

#define ROW(st, ev, next, guard, act, spec) \
	{ \
		COMP_##st, COMP_EV_##ev, COMP_##next, guard, act, spec, false \
	}
#define ANY_ROW(ev, next, guard, act, spec) \
	{ \
		FSM_ANY, COMP_EV_##ev, COMP_##next, guard, act, spec, false \
	}

/* clang-format off */
static const struct fsm_row comp_rows[] = {
	ROW(NEW, PLAIN, HEADER, NULL, NULL, "XEP-0114 3"),
	ROW(NEW, DIRECT, TLS, NULL, comp_act_direct, "DESIGN 5"),
	ROW(TLS, TLS_UP, HEADER, NULL, comp_act_secure, "COMP-10"),
	ROW(HEADER, HEADER, HANDSHAKE, comp_plain, comp_act_header, "XEP-0114 3"),
	ROW(HEADER, HEADER, FEATURES, NULL, comp_act_features, "DESIGN 5"),
	ROW(HANDSHAKE, HANDSHAKE, MOVING, comp_handshake_ok, NULL, "XEP-0114 3"),
	ROW(HANDSHAKE, HANDSHAKE, CLOSING, NULL, comp_act_not_authorized, "XEP-0114 3"),
	ROW(FEATURES, HANDSHAKE, MOVING, comp_handshake_ok, comp_act_0114, "COMP-9"),
	ROW(FEATURES, HANDSHAKE, CLOSING, NULL, comp_act_not_authorized, "XEP-0114 3"),
	ROW(FEATURES, STARTTLS, TLS, comp_can_starttls, comp_act_proceed, "COMP-10"),
	ROW(FEATURES, STARTTLS, CLOSING, NULL, comp_act_tls_failure, "RFC 6120 5.4.2.2"),
	ROW(FEATURES, AUTH, MOVING, comp_external_ok, comp_act_external, "RFC 6120 6.4.6"),
	ROW(FEATURES, AUTH, CLOSING, comp_local, comp_act_external_refused, "RFC 6120 6.4.5"),
	ROW(FEATURES, AUTH, STEP, comp_mech_ok, comp_act_auth, "COMP-11"),
	ROW(FEATURES, AUTH, CLOSING, comp_last_chance, comp_act_last_failure, "RFC 6120 6.4.5"),
	ROW(FEATURES, AUTH, FEATURES, NULL, comp_act_auth_refused, "RFC 6120 6.5"),
	ROW(FEATURES, ABORT, CLOSING, comp_last_chance, comp_act_last_abort, "RFC 6120 6.4.5"),
	ROW(FEATURES, ABORT, FEATURES, NULL, comp_act_abort, "RFC 6120 6.4.4"),
	ROW(SASL, RESPONSE, STEP, NULL, comp_act_response, "RFC 6120 6.4.3"),
	ROW(SASL, ABORT, CLOSING, comp_last_chance, comp_act_last_abort, "RFC 6120 6.4.5"),
	ROW(SASL, ABORT, FEATURES, NULL, comp_act_abort, "RFC 6120 6.4.4"),
	ROW(STEP, NEED, SASL, NULL, comp_act_need, "RFC 6120 6.4.2"),
	ROW(STEP, CHALLENGE, SASL, NULL, comp_act_challenge, "RFC 6120 6.4.3"),
	ROW(STEP, SUCCESS, MOVING, NULL, comp_act_success, "RFC 6120 6.4.6"),
	ROW(STEP, FAILURE, CLOSING, comp_last_chance, comp_act_last_failure, "RFC 6120 6.4.5"),
	ROW(STEP, FAILURE, FEATURES, NULL, comp_act_failure, "RFC 6120 6.4.5"),
	ROW(MOVING, ARRIVED, UP, comp_plain, comp_act_handshake, "XEP-0114 3"),
	ROW(MOVING, ARRIVED, AUTHED_HEADER, NULL, NULL, "DESIGN 3"),
	ROW(AUTHED_HEADER, HEADER, AUTHED, NULL, comp_act_authed_features, "RFC 6120 6.4.6"),
	ROW(AUTHED, ENABLE, UP, NULL, comp_act_enable, "CUST-8"),
	ROW(AUTHED, STANZA, UP, NULL, comp_act_up, "DESIGN 5"),
	ROW(CLOSING, ERROR, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, CLOSE, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, END, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ROW(CLOSING, TLS_UP, CLOSING, NULL, NULL, "RFC 6120 4.4"),
	ANY_ROW(ERROR, CLOSING, NULL, comp_act_error, "RFC 6120 4.9.1.1"),
	ANY_ROW(CLOSE, CLOSING, NULL, comp_act_close, "RFC 6120 4.4"),
	ANY_ROW(END, CLOSING, NULL, comp_act_error, "RFC 6120 4.4"),
	ANY_ROW(TIMEOUT, CLOSING, NULL, comp_act_timeout, "DESIGN 10"),
	ANY_ROW(LOST, CLOSED, NULL, comp_act_lost, "RFC 6120 4.6.2"),
};
/* clang-format on */

static void refuse(void *self, uint8_t state, uint8_t event)
{
	UNUSED(state);
	comp_fail(self, event == COMP_EV_ARRIVED ? "internal-server-error" : "policy-violation",
		  SL("not now"));
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
	comp_free(self);
}

static struct fsm_index *comp_index;

const struct fsm_def comp_fsm = {
	.name = "component",
	.states = comp_states,
	.nstates = COMP_STATES,
	.events = comp_events,
	.nevents = COMP_EVENTS,
	.rows = comp_rows,
	.nrows = ARRAY_LEN(comp_rows),
	.start = COMP_NEW,
	.fault = COMP_CLOSING,
	.timeouts = comp_timeouts,
	.ntimeouts = COMP_TIMEOUTS,
	.refuse = refuse,
	.arm = arm,
	.timeout_ms = timeout_ms,
	.done = done,
	.index = &comp_index,
};
