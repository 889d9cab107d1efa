/* c2s_sasl.c - SASL negotiation of a client's stream (RFC 6120 section 6). */
#include "appliance/base/log.h"
#include "xmpp/access/c2s.h"
#include "xmpp/access/negotiate.h"

static void answered(void *owner, struct login *l)
{
	struct c2s *c = owner;

	switch (login_result(l)) {
	case LOGIN_CHALLENGE:
		fsm_event(&c->st.f, C2S_EV_CHALLENGE, NULL);
		break;
	case LOGIN_SUCCESS:
		fsm_event(&c->st.f, C2S_EV_SUCCESS, NULL);
		break;
	case LOGIN_FAILURE:
		c->sasl_error = login_condition(l);
		fsm_event(&c->st.f, C2S_EV_FAILURE, NULL);
		break;
	}
	if (c->st.f.state == C2S_MOVING)
		c2s_depart(c);
	else
		stream_resume_input(&c->st);
}

/* What is wrong at once is raised as FAILURE. */
static void feed(struct c2s *c, const struct xml_node *n)
{
	c->sasl_error = negotiate_feed(c->login, n);
	if (c->sasl_error)
		fsm_raise(&c->st.f, C2S_EV_FAILURE);
}

/* Why this <auth/> is refused before it begins; NULL: it is not. */
static const char *refusal(const struct c2s *c, const struct xml_node *n)
{
	return login_mech_refused(c->st.cfg, c2s_is_tls(c) ? LOGIN_TLS : 0,
				  xml_attr(n, SL("mechanism")));
}

bool c2s_mech_ok(const void *self, const void *ev)
{
	return refusal(self, ev) == NULL;
}

static bool last_chance(const struct c2s *c)
{
	return c->failures + 1u >= c->st.cfg->lim.auth_failures;
}

bool c2s_last_refusal(const void *self, const void *ev)
{
	UNUSED(ev);
	return last_chance(self);
}

bool c2s_last_failure(const void *self, const void *ev)
{
	UNUSED(ev);
	return last_chance(self);
}

int c2s_act_auth(void *self, const void *ev)
{
	struct c2s *c = self;
	const struct xml_node *n = ev;
	struct login_env env = {
		.w = c->st.w,
		.cfg = c->st.cfg,
		.host = c->st.host->name,
		.conn = c->st.conn,
		.secret = sl_mk((const char *)access_of(c->st.w)->shared->cfg.secret,
				ACCESS_SECRET_OCTETS),
		.owner = c,
		.answer = answered,
	};

	login_free(&c->login);
	if (login_new(&env, xml_attr(n, SL("mechanism")), &c->login) != 0) {
		c->sasl_error = "temporary-auth-failure";
		fsm_raise(&c->st.f, C2S_EV_FAILURE);
	} else if (!n->first) {
		fsm_raise(&c->st.f,
			  C2S_EV_NEED); /* no initial response: all our mechanisms want one */
	} else {
		feed(c, n);
	}
	return 0;
}

int c2s_act_response(void *self, const void *ev)
{
	feed(self, ev);
	return 0;
}

int c2s_act_need(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	negotiate_data(&c->st, "challenge", false, SL_NULL);
	return 0;
}

int c2s_act_challenge(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	negotiate_data(&c->st, "challenge", true, login_data(c->login));
	return 0;
}

int c2s_act_auth_refused(void *self, const void *ev)
{
	struct c2s *c = self;

	c->failures++;
	negotiate_failure(&c->st, refusal(c, ev));
	return 0;
}

int c2s_act_abort(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	c->failures++;
	login_free(&c->login);
	negotiate_failure(&c->st, "aborted");
	return 0;
}

static void failed(struct c2s *c)
{
	negotiate_failed(&c->st, c->login, c->sasl_error);
	c->failures++;
	login_free(&c->login);
}

int c2s_act_failure(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	failed(c);
	negotiate_failure(&c->st, c->sasl_error);
	return 0;
}

/* From STEP (sasl_error is set), or from FEATURES (ev: an <auth/> that is refused). */
int c2s_act_last_failure(void *self, const void *ev)
{
	struct c2s *c = self;

	if (ev)
		c->sasl_error = refusal(c, ev);
	failed(c);
	negotiate_failure(&c->st, c->sasl_error);
	c->error = (struct c2s_error){ "policy-violation", SL("too many failed logins"), SL_NULL };
	return c2s_act_error(self, NULL);
}

/* An attempt that is given up has cost what any other does. */
int c2s_act_last_abort(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	c->sasl_error = "aborted";
	return c2s_act_last_failure(self, NULL);
}

int c2s_act_success(void *self, const void *ev)
{
	struct c2s *c = self;
	struct sl user = login_user(c->login), host = c->st.host->name;

	UNUSED(ev);
	c->bare = malloc(user.n + host.n + 2);
	if (!c->bare) {
		conn_kill(c->st.conn);
		return E_NOMEM;
	}
	snprintf(c->bare, user.n + host.n + 2, SLFMT "@" SLFMT, SLARG(user), SLARG(host));
	c->mechanism = login_mech(c->login);
	negotiate_data(&c->st, "success", login_has_data(c->login), login_data(c->login));
	login_free(&c->login);
	count(c->st.w, CNT_AUTH_OK);
	log_ev(LOG_L_INFO, "auth.ok", KC("jid", c->bare), KC("mechanism", c->mechanism));
	xml_stream_restart(c->st.xml);
	c->st.header_sent = false;
	return 0;
}
