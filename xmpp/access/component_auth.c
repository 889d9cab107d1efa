/* component_auth.c - how a component proves itself: XEP-0114's handshake, SASL EXTERNAL over the
 * Unix socket, SASL with its secret over TCP (COMP-9 to COMP-12). See component.h. */
#include <openssl/evp.h>
#include <unistd.h>

#include "appliance/base/enc.h"
#include "appliance/base/log.h"
#include "xmpp/access/component.h"
#include "xmpp/access/negotiate.h"

/* ---- XEP-0114
 * ------------------------------------------------------------------------------------ */

bool comp_plain(const void *self, const void *ev)
{
	const struct comp *c = self;

	UNUSED(ev);
	return c->st.plain_header;
}

/* Lower-case hex of SHA-1(stream id, secret). The work is done for who has none, too. */
bool comp_handshake_ok(const void *self, const void *ev)
{
	const struct comp *c = self;
	struct sl secret = c->st.host->secret;
	struct arena *a = arena_new(256, 8192);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char digest[20];
	struct buf want;
	bool ok;

	buf_init(&want, 64);
	ok = a && md && EVP_DigestInit_ex(md, EVP_sha1(), NULL) == 1 &&
	     EVP_DigestUpdate(md, c->st.id, STREAM_ID_OCTETS) == 1 &&
	     EVP_DigestUpdate(md, secret.p, secret.n) == 1 &&
	     EVP_DigestFinal_ex(md, digest, NULL) == 1 &&
	     hex_encode(&want, sl_mk((const char *)digest, sizeof(digest))) == 0 &&
	     sl_eq_const_time(sl_trim(xml_text(a, ev)), buf_sl(&want));
	buf_free(&want);
	EVP_MD_CTX_free(md);
	arena_free(&a);
	return ok && secret.n && c->st.port != ACCESS_COMPONENT_UNIX;
}

/* It has said version='1.0' and means XEP-0114. */
int comp_act_0114(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->st.plain_header = true;
	return 0;
}

int comp_act_not_authorized(void *self, const void *ev)
{
	struct comp *c = self;
	char peer[CONN_ADDR_MAX] = "";

	count(c->st.w, CNT_AUTH_FAILED);
	conn_peer_text(c->st.conn, peer);
	log_ev(LOG_L_NOTICE, "component.refused", KS("domain", c->st.host->name), KC("peer", peer),
	       KC("known", c->st.host == &c->nobody ? "no" : "yes"));
	c->condition = "not-authorized";
	c->text = c->extra = SL_NULL;
	return comp_act_error(self, ev);
}

/* ---- EXTERNAL
 * ------------------------------------------------------------------------------------ */

bool comp_local(const void *self, const void *ev)
{
	const struct comp *c = self;

	UNUSED(ev);
	return c->st.port == ACCESS_COMPONENT_UNIX;
}

/* Whom the kernel says is at the other end; the identity asked for is none, or the domain. */
bool comp_external_ok(const void *self, const void *ev)
{
	const struct comp *c = self;
	const struct access_cfg *cfg = &access_of(c->st.w)->shared->cfg;
	struct arena *a = arena_new(512, 16384);
	struct sl text = a ? xml_text(a, ev) : SL_NULL;
	uint32_t uid;
	bool ok;
	struct buf b;

	buf_init(&b, 4096);
	ok = a && comp_local(c, NULL) && sl_eq(xml_attr(ev, SL("mechanism")), SL("EXTERNAL")) &&
	     (text.n == 0 || sl_eq(text, SL("=")) ||
	      (b64_decode(&b, text) == 0 && sl_eq(buf_sl(&b), c->st.host->name))) &&
	     conn_peer_uid(c->st.conn, &uid) == 0;
	if (ok && uid != 0 && uid != (uint32_t)geteuid()) {
		ok = false;
		for (unsigned i = 0; i < cfg->nuids; i++)
			ok = ok || cfg->uid[i] == uid;
	}
	buf_free(&b);
	arena_free(&a);
	return ok;
}

static void new_stream(struct comp *c)
{
	xml_stream_restart(c->st.xml);
	c->st.header_sent = false;
}

int comp_act_external(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->mechanism = "EXTERNAL";
	negotiate_data(&c->st, "success", false, SL_NULL);
	new_stream(c);
	return 0;
}

int comp_act_external_refused(void *self, const void *ev)
{
	struct comp *c = self;

	negotiate_failure(&c->st, "not-authorized");
	return comp_act_not_authorized(self, ev);
}

/* ---- SASL with the secret
 * ------------------------------------------------------------------------ */

static void answered(void *owner, struct login *l)
{
	struct comp *c = owner;

	switch (login_result(l)) {
	case LOGIN_CHALLENGE:
		fsm_event(&c->st.f, COMP_EV_CHALLENGE, NULL);
		break;
	case LOGIN_SUCCESS:
		fsm_event(&c->st.f, COMP_EV_SUCCESS, NULL);
		break;
	case LOGIN_FAILURE:
		c->sasl_error = login_condition(l);
		fsm_event(&c->st.f, COMP_EV_FAILURE, NULL);
		break;
	}
	if (c->st.f.state == COMP_MOVING)
		comp_depart(c);
	else
		stream_resume_input(&c->st);
}

/* What is wrong at once is raised as FAILURE. */
static void feed(struct comp *c, const struct xml_node *n)
{
	c->sasl_error = negotiate_feed(c->login, n);
	if (c->sasl_error)
		fsm_raise(&c->st.f, COMP_EV_FAILURE);
}

static const char *refusal(const struct comp *c, const struct xml_node *n)
{
	return login_mech_refused(c->st.cfg, LOGIN_COMPONENT | (comp_is_tls(c) ? LOGIN_TLS : 0),
				  xml_attr(n, SL("mechanism")));
}

bool comp_mech_ok(const void *self, const void *ev)
{
	return refusal(self, ev) == NULL;
}

bool comp_last_chance(const void *self, const void *ev)
{
	const struct comp *c = self;

	UNUSED(ev);
	return c->failures + 1u >= c->st.cfg->lim.auth_failures;
}

int comp_act_auth(void *self, const void *ev)
{
	struct comp *c = self;
	const struct xml_node *n = ev;
	struct login_env env = {
		.w = c->st.w,
		.cfg = c->st.cfg,
		.host = c->st.host->name,
		.conn = c->st.conn,
		.secret = sl_mk((const char *)access_of(c->st.w)->shared->cfg.secret,
				ACCESS_SECRET_OCTETS),
		.component = true,
		.password = c->st.host->secret,
		.owner = c,
		.answer = answered,
	};

	login_free(&c->login);
	if (login_new(&env, xml_attr(n, SL("mechanism")), &c->login) != 0) {
		c->sasl_error = "temporary-auth-failure";
		fsm_raise(&c->st.f, COMP_EV_FAILURE);
	} else if (!n->first) {
		fsm_raise(&c->st.f, COMP_EV_NEED); /* all our mechanisms want a first response */
	} else {
		feed(c, n);
	}
	return 0;
}

int comp_act_auth_refused(void *self, const void *ev)
{
	struct comp *c = self;

	c->failures++;
	negotiate_failure(&c->st, refusal(c, ev));
	return 0;
}

int comp_act_response(void *self, const void *ev)
{
	feed(self, ev);
	return 0;
}

int comp_act_abort(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->failures++;
	login_free(&c->login);
	negotiate_failure(&c->st, "aborted");
	return 0;
}

int comp_act_need(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	negotiate_data(&c->st, "challenge", false, SL_NULL);
	return 0;
}

int comp_act_challenge(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	negotiate_data(&c->st, "challenge", true, login_data(c->login));
	return 0;
}

int comp_act_success(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->mechanism = login_mech(c->login);
	negotiate_data(&c->st, "success", login_has_data(c->login), login_data(c->login));
	login_free(&c->login);
	count(c->st.w, CNT_AUTH_OK);
	log_ev(LOG_L_INFO, "auth.ok", KS("jid", c->st.host->name), KC("mechanism", c->mechanism));
	new_stream(c);
	return 0;
}

static void failed(struct comp *c)
{
	negotiate_failed(&c->st, c->login, c->sasl_error);
	c->failures++;
	login_free(&c->login);
}

int comp_act_failure(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	failed(c);
	negotiate_failure(&c->st, c->sasl_error);
	return 0;
}

/* From STEP (sasl_error is set), or from FEATURES (ev: an <auth/> that is refused). */
int comp_act_last_failure(void *self, const void *ev)
{
	struct comp *c = self;

	if (ev)
		c->sasl_error = refusal(c, ev);
	failed(c);
	negotiate_failure(&c->st, c->sasl_error);
	c->condition = "policy-violation";
	c->text = SL("too many failed logins");
	c->extra = SL_NULL;
	return comp_act_error(self, NULL);
}

/* An attempt that is given up has cost what any other does. */
int comp_act_last_abort(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->sasl_error = "aborted";
	return comp_act_last_failure(self, NULL);
}
