/* c2s_bound.c - a client's stream after login: resource binding (RFC 6120 section 7), resumption
 * (XEP-0198 section 5), stanzas (RFC 6120 section 8). */
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "xmpp/access/c2s.h"

#define RESOURCE_OCTETS 16u

/* ---- answers
 * ------------------------------------------------------------------------------------- */

/* To the client, whether a session is there or not. Takes st. */
static void reply(struct c2s *c, struct stanza *st_take)
{
	struct buf b;

	if (c->st.as && c->st.f.state == C2S_BOUND) {
		as_reply(c->st.as, st_take);
		return;
	}
	buf_init(&b, 65536);
	if (stanza_seal(st_take) == 0 && stanza_wire(&b, st_take, NULL, NULL, SL_NULL) == 0)
		stream_write(&c->st, buf_sl(&b));
	buf_free(&b);
	stanza_unref(&st_take);
}

static void reply_error(struct c2s *c, const struct stanza *st, enum stanza_cond cond,
			const char *text)
{
	struct stanza *r = NULL;

	count(c->st.w, CNT_STANZA_ERRORS);
	if (stanza_error_reply(st, cond, NULL, sl_cstr(text), &r) == 0 && r)
		reply(c, r);
}

/* ---- binding
 * ------------------------------------------------------------------------------------- */

static const struct xml_node *iq_payload(const struct stanza *st, enum xml_ns ns, struct sl name)
{
	const struct xml_node *n = xml_first_element(st->root);

	return st->kind == STANZA_IQ && st->type == ST_SET && xml_is(n, ns, name) ? n : NULL;
}

static void bound(struct stream *s, int rc)
{
	struct c2s *c = container_of(s, struct c2s, st);

	c->bind_rc = rc;
	fsm_raise(&s->f, rc == 0 ? C2S_EV_TAKEN : C2S_EV_REFUSED);
	if (!s->feeding)
		stream_resume_input(s);
}

/* The resource that the client asks for, prepared; or one of ours. NULL text: it asks for nonsense.
 */
static struct sl resource_of(struct c2s *c, struct arena *a)
{
	const struct xml_node *bind = iq_payload(c->bind_iq, NS_BIND, SL("bind"));
	const struct xml_node *n = bind ? xml_child(bind, NS_BIND, SL("resource")) : NULL;
	struct sl asked = n ? xml_text(a, n) : SL_NULL, out;
	char *token;

	if (asked.n)
		return jid_prep_resource(a, asked, &out, NULL) == 0 ? out : SL_NULL;
	token = arena_bytes(a, RESOURCE_OCTETS + 1);
	if (!token)
		return SL_NULL;
	rnd_token(token, RESOURCE_OCTETS);
	return sl_mk(token, RESOURCE_OCTETS);
}

int c2s_act_bind(void *self, const void *ev)
{
	struct c2s *c = self;
	struct arena *a = arena_new(1024, 16384);
	struct asession *as = NULL;
	struct sl resource, full;

	c->bind_iq = stanza_ref((struct stanza *)(uintptr_t)ev);
	c->bind_rc = E_SYNTAX;
	resource = a ? resource_of(c, a) : SL_NULL;
	if (resource.n) {
		c->bind_rc = E_NOMEM;
		full = arena_printf(a, "%s/" SLFMT, c->bare, SLARG(resource));
		if (full.n && as_new(&c->st, full, false, &as) == 0) {
			as->mechanism = c->mechanism;
			as_bind(as, bound);
		}
	}
	arena_free(&a);
	if (!as)
		fsm_raise(&c->st.f, C2S_EV_REFUSED);
	return 0;
}

int c2s_act_bound(void *self, const void *ev)
{
	struct c2s *c = self;
	struct stanza *r = NULL;
	struct xml_node *n;

	UNUSED(ev);
	count(c->st.w, CNT_SESSIONS_BOUND);
	log_ev(LOG_L_INFO, "session.bound", KS("jid", c->st.as->s.jid.full));
	if (stanza_iq_result(c->bind_iq, &r) == 0) {
		n = xml_add(r->arena, r->root, NS_BIND, SL("bind"));
		n = xml_add(r->arena, n, NS_BIND, SL("jid"));
		xml_add_text(r->arena, n, c->st.as->s.jid.full);
		reply(c, r);
	}
	stanza_unref(&c->bind_iq);
	return 0;
}

int c2s_act_bind_refused(void *self, const void *ev)
{
	static const struct {
		int rc;
		enum stanza_cond cond;
		const char *text;
	} answers[] = {
		{ E_SYNTAX, SC_BAD_REQUEST, "not a resource" },
		{ E_NOTFOUND, SC_NOT_ALLOWED, "the account is gone" },
		{ E_LIMIT, SC_RESOURCE_CONSTRAINT, "too many sessions" },
		{ E_NOMEM, SC_RESOURCE_CONSTRAINT, "no memory" },
		{ E_EXISTS, SC_CONFLICT, NULL },
	};
	struct c2s *c = self;
	size_t i = 0;

	UNUSED(ev);
	while (i < ARRAY_LEN(answers) && answers[i].rc != c->bind_rc)
		i++;
	if (i < ARRAY_LEN(answers))
		reply_error(c, c->bind_iq, answers[i].cond, answers[i].text);
	else
		reply_error(c, c->bind_iq, SC_INTERNAL_SERVER_ERROR, NULL);
	stanza_unref(&c->bind_iq);
	return 0;
}

/* ---- resumption
 * ---------------------------------------------------------------------------------- */

static struct asession *resumable(const struct c2s *c, const struct xml_node *n)
{
	struct asession *as = sm_find(access_of(c->st.w), xml_attr(n, SL("previd")));

	if (!as || !as->sm->resume_s || !sl_eq(as->s.jid.bare, sl_cstr(c->bare)))
		return NULL;
	return as->f.state == AS_ATTACHED || as->f.state == AS_DETACHED ? as : NULL;
}

bool c2s_can_resume(const void *self, const void *ev)
{
	return resumable(self, ev) != NULL;
}

int c2s_act_resume(void *self, const void *ev)
{
	struct c2s *c = self;
	struct asession *as = resumable(c, ev);
	char text[160];
	uint32_t h;
	int n;

	if (sm_h(ev, &h) != 0) {
		c2s_fail(c, "invalid-xml", SL("h is missing"), SL_NULL);
		return 0;
	}
	if (sm_peer_h(as, h) != 0) {
		n = snprintf(
			text, sizeof(text),
			"<handled-count-too-high xmlns='urn:xmpp:sm:3' h='%u' send-count='%u'/>", h,
			as->sm->peer_h + as->n - as->sm->before);
		c->error = (struct c2s_error){ "undefined-condition", SL_NULL,
					       sl_mk(text, (size_t)n) };
		c2s_act_error(self, NULL);
		return E_RANGE; /* to CLOSING */
	}
	fsm_event(&as->f, AS_EV_RESUMED, &c->st);
	log_ev(LOG_L_INFO, "session.resumed", KS("jid", as->s.jid.full), KU("queue", as->n));
	sm_resumed(as);
	return 0;
}

/* The store is asked about a session that this process does not know (any more). Outlives the
 * stream. */
struct c2s_lookup {
	struct store_sm_get get;
	struct c2s *c; /* NULL: gone */
	char id[SM_ID_OCTETS];
};

void c2s_lookup_forget(struct c2s *c)
{
	if (c->lookup)
		c->lookup->c = NULL;
	c->lookup = NULL;
}

static void looked_up(struct store_op *op)
{
	struct c2s_lookup *l = op->arg;
	struct c2s *c = l->c;

	if (c) {
		fsm_event(&c->st.f, C2S_EV_FAILED, l);
		stream_resume_input(&c->st);
	}
	store_op_fini(op);
	free(l);
}

int c2s_act_lookup(void *self, const void *ev)
{
	struct c2s *c = self;
	struct sl id = xml_attr(ev, SL("previd"));
	struct c2s_lookup *l = id.n == SM_ID_OCTETS ? calloc(1, sizeof(*l)) : NULL;

	if (!l) {
		fsm_raise(&c->st.f, C2S_EV_FAILED);
		return 0;
	}
	memcpy(l->id, id.p, SM_ID_OCTETS);
	l->c = c;
	c->lookup = l;
	store_op_init(&l->get.op, STORE_SM_GET, looked_up, l);
	l->get.sm_id = sl_mk(l->id, SM_ID_OCTETS);
	store_submit(c->st.w->store, &l->get.op);
	return 0;
}

/* What it had counted is still known: the client sends again what came after (CUST-2). */
int c2s_act_resume_failed(void *self, const void *ev)
{
	struct c2s *c = self;
	const struct c2s_lookup *l = ev;
	bool own = l && l->get.op.rc == 0 && l->get.found_r &&
		   sl_eq(l->get.owner_r, sl_cstr(c->bare));

	sm_failed(&c->st, "item-not-found", own, own ? l->get.h_r : 0);
	c->lookup = NULL;
	return 0;
}

/* ---- elements
 * ------------------------------------------------------------------------------------ */

/* A stanza before there is a resource: only <bind/> (RFC 6120 7.1). Takes a. */
static int bind_request(struct c2s *c, struct arena *a_take, struct xml_node *n)
{
	struct stanza *st = NULL;
	bool jid_bad = false;

	if (stanza_take(a_take, n, &st, &jid_bad, NULL) != 0) {
		arena_free(&a_take);
		c2s_fail(c, "unsupported-stanza-type", SL_NULL, SL_NULL);
		return c2s_verdict(c);
	}
	if (!iq_payload(st, NS_BIND, SL("bind")))
		c2s_fail(c, "not-authorized", SL("bind a resource first"), SL_NULL);
	else if (st->id.n == 0)
		reply_error(c, st, SC_BAD_REQUEST, "an iq needs an id");
	else
		fsm_event(&c->st.f, C2S_EV_BIND, st);
	stanza_unref(&st);
	return c2s_verdict(c);
}

int c2s_authed_element(struct c2s *c, struct arena *a_take, struct xml_node *n)
{
	if (n->ns == NS_STANZA)
		return bind_request(c, a_take, n);
	if (xml_is(n, NS_SM, SL("resume")))
		fsm_event(&c->st.f, C2S_EV_RESUME, n);
	else if (n->ns == NS_SM)
		sm_failed(&c->st, "unexpected-request", false, 0);
	else if (n->ns == NS_SASL || n->ns == NS_TLS)
		c2s_fail(c, "policy-violation", SL("not now"), SL_NULL);
	else
		c2s_fail(c, "unsupported-stanza-type", SL_NULL, SL_NULL);
	arena_free(&a_take);
	return c2s_verdict(c);
}

static int sm_nonza(struct c2s *c, struct arena *a_take, struct xml_node *n)
{
	const char *error = NULL;
	struct buf extra;

	buf_init(&extra, 256);
	if (xml_is(n, NS_SM, SL("enable")))
		sm_enable(c->st.as, n, c->st.cfg->lim.sm_resume_s);
	else
		error = sm_element(c->st.as, n, &extra);
	if (error)
		c2s_fail(c, error, SL_NULL, buf_sl(&extra));
	buf_free(&extra);
	arena_free(&a_take);
	if (c->st.f.state == C2S_BOUND && stream_over_rate(&c->st, 1))
		return XML_PAUSE;
	return c2s_verdict(c);
}

/* 8.1.2.1: `from` may be left out, or must be the client itself. */
static bool from_ok(const struct c2s *c, const struct stanza *st)
{
	const struct jid *own = &c->st.as->s.jid;

	return jid_is_null(&st->from) || jid_eq(&st->from, own) || sl_eq(st->from.full, own->bare);
}

/* Binding again, and the session request that old clients send: about this connection, so answered
 * here. */
static bool own_iq(struct c2s *c, const struct stanza *st)
{
	struct stanza *r = NULL;

	if (iq_payload(st, NS_BIND, SL("bind"))) {
		reply_error(c, st, SC_NOT_ALLOWED, "a resource is bound");
		return true;
	}
	if (!iq_payload(st, NS_SESSION, SL("session")))
		return false;
	if (stanza_iq_result(st, &r) == 0)
		reply(c, r);
	return true;
}

/* What the access layer answers itself is counted as handled (XEP-0198 4). */
static void answered_here(struct c2s *c)
{
	struct custody *none = NULL;

	count(c->st.w, CNT_STANZAS_IN);
	if (c->st.as->sm)
		sm_count(c->st.as, false, &none);
}

/* True: it was routed or answered. */
static void stanza_in(struct c2s *c, struct stanza *st, bool jid_bad)
{
	struct asession *as = c->st.as;
	const char *wrong;

	if (!from_ok(c, st)) {
		c2s_fail(c, "invalid-from", SL_NULL, SL_NULL);
		stanza_unref(&st);
		return;
	}
	wrong = jid_bad ? NULL : as_form_error(st);
	if (!jid_bad && !wrong && !(st->kind == STANZA_IQ && own_iq(c, st))) {
		if (!as_inbound(as, st))
			c2s_fail(c, "resource-constraint", SL_NULL, SL_NULL);
		return;
	}
	if (jid_bad)
		reply_error(c, st, SC_JID_MALFORMED, NULL);
	else if (wrong)
		reply_error(c, st, SC_BAD_REQUEST, wrong);
	answered_here(c);
	stanza_unref(&st);
}

int c2s_bound_element(struct c2s *c, struct arena *a_take, struct xml_node *n)
{
	struct stanza *st = NULL;
	bool jid_bad = false;
	int rc;

	if (n->ns == NS_SM)
		return sm_nonza(c, a_take, n);
	rc = n->ns == NS_STANZA ? stanza_take(a_take, n, &st, &jid_bad, NULL) : E_SYNTAX;
	if (rc != 0) {
		arena_free(&a_take);
		c2s_fail(c, rc == E_NOMEM ? "resource-constraint" : "unsupported-stanza-type",
			 SL_NULL, SL_NULL);
		return c2s_verdict(c);
	}
	stanza_in(c, st, jid_bad);
	if (c->st.f.state == C2S_BOUND && (stream_over_rate(&c->st, 1) || as_congested(c->st.as)))
		return XML_PAUSE;
	return c2s_verdict(c);
}
