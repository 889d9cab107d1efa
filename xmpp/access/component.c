/* component.c - see component.h. */
#include "xmpp/access/component.h"

#include <unistd.h>

#include "appliance/base/log.h"
#include "xmpp/access/negotiate.h"

/* A component's queue is in its ring anyway; this only bounds what is serialised ahead. */
#define OUT_OCTETS (1024u * 1024u)

static struct comp *comp_of(struct stream *s)
{
	return container_of(s, struct comp, st);
}

static int verdict(const struct comp *c)
{
	switch (c->st.f.state) {
	case COMP_CLOSING:
	case COMP_CLOSED:
		return E_CLOSED;
	case COMP_MOVING:
	case COMP_STEP:
	case COMP_TLS:
		return XML_PAUSE;
	default:
		return 0;
	}
}

void comp_fail(struct comp *c, const char *condition, struct sl text)
{
	if (c->st.as)
		as_note_acked(c->st.as); /* before our words are outstanding */
	c->condition = condition;
	c->text = text;
	c->extra = SL_NULL;
	fsm_raise(&c->st.f, COMP_EV_ERROR);
}

/* ---- stanzas
 * ------------------------------------------------------------------------------------- */

static void reply_error(struct comp *c, const struct stanza *st, enum stanza_cond cond,
			const char *text)
{
	struct custody *none = NULL;
	struct stanza *r = NULL;

	count(c->st.w, CNT_STANZA_ERRORS);
	count(c->st.w, CNT_STANZAS_IN);
	if (stanza_error_reply(st, cond, NULL, sl_cstr(text), &r) == 0 && r)
		as_reply(c->st.as, r);
	if (c->st.as->sm)
		sm_count(c->st.as, false, &none);
}

/* XEP-0114 3: both addresses, and `from` of its own domain. */
static void stanza_in(struct comp *c, struct stanza *st, bool jid_bad)
{
	const char *wrong = as_form_error(st);
	struct sl to = xml_attr(st->root, SL("to"));

	if (xml_attr(st->root, SL("from")).n == 0 || to.n == 0)
		comp_fail(c, "improper-addressing", SL_NULL);
	else if (!sl_eq(st->from.domain, c->st.host->name))
		comp_fail(c, "invalid-from", SL_NULL);
	else if (jid_bad)
		reply_error(c, st, SC_JID_MALFORMED, NULL);
	else if (wrong)
		reply_error(c, st, SC_BAD_REQUEST, wrong);
	else if (as_inbound(c->st.as, st))
		return;
	else {
		comp_fail(c, "resource-constraint", SL_NULL);
		return;
	}
	stanza_unref(&st);
}

static int stanza_element(struct comp *c, struct arena *a_take, struct xml_node *n)
{
	struct stanza *st = NULL;
	bool jid_bad = false;
	int rc = n->ns == NS_STANZA ? stanza_take(a_take, n, &st, &jid_bad, NULL) : E_SYNTAX;

	if (rc != 0) {
		arena_free(&a_take);
		comp_fail(c, rc == E_NOMEM ? "resource-constraint" : "unsupported-stanza-type",
			  SL_NULL);
		return verdict(c);
	}
	stanza_in(c, st, jid_bad);
	if (c->st.f.state == COMP_UP && as_congested(c->st.as))
		return XML_PAUSE;
	return verdict(c);
}

static void sm_nonza(struct comp *c, struct xml_node *n)
{
	const char *error = NULL;
	struct buf extra;

	buf_init(&extra, 256);
	if (xml_is(n, NS_SM, SL("enable")))
		sm_failed(&c->st, "unexpected-request", false, 0);
	else
		error = sm_element(c->st.as, n, &extra);
	if (error) {
		c->condition = error;
		c->text = SL_NULL;
		c->extra = buf_sl(&extra);
		fsm_raise(&c->st.f, COMP_EV_ERROR);
	}
	buf_free(&extra);
}

/* ---- parser
 * -------------------------------------------------------------------------------------- */

static bool may_connect(const struct comp *c, const struct domain *d)
{
	if (!d || d->kind != DOMAIN_COMPONENT)
		return false;
	return c->st.port == ACCESS_COMPONENT_UNIX || (!d->local_only && d->secret.n);
}

/* COMP-12: over TCP nobody learns by the header who is a component here. */
static const char *stranger(struct comp *c, struct sl to)
{
	struct arena *a = arena_new(512, 16384);
	struct sl name = SL_NULL;
	const char *bad = NULL;

	if (!a || jid_prep_domain(a, to, &name, NULL) != 0)
		bad = "host-unknown";
	else if (c->nobody.name.n && !sl_eq(c->nobody.name, name))
		bad = "invalid-from";
	else if (!c->nobody.name.n)
		c->nobody.name = sl_mk(sl_dup(name), name.n);
	arena_free(&a);
	if (!bad && !c->nobody.name.p)
		bad = "resource-constraint";
	c->st.host = bad ? c->st.host : &c->nobody;
	return bad;
}

/* The component that the header names, if it may connect here. */
static const char *header_host(struct comp *c, const struct xml_node *root)
{
	struct sl to = xml_attr(root, SL("to"));
	const struct domain *d = core_domain(c->st.cfg, to);
	bool known = may_connect(c, d);

	if (c->st.host && (c->st.host == &c->nobody ? known : d != c->st.host))
		return "invalid-from";
	if (!known)
		return c->st.port == ACCESS_COMPONENT_UNIX ? "host-unknown" : stranger(c, to);
	c->st.host = d;
	return NULL;
}

/* COMP-9: which kind of stream, as long as nobody is logged in. */
static void choose_kind(struct comp *c, const struct xml_node *root)
{
	if (c->st.f.state != COMP_HEADER || c->st.port == ACCESS_COMPONENT_UNIX)
		return;
	c->st.plain_header = c->st.cfg->component_tls == COMPONENT_TLS_OFF ||
			     !stream_version_ok(xml_attr(root, SL("version")));
}

static int on_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct comp *c = self;
	const char *bad;

	if (verdict(c) < 0)
		return E_CLOSED;
	choose_kind(c, root);
	bad = stream_header_check(&c->st, root, content_ns);
	if (!bad)
		bad = header_host(c, root);
	if (bad)
		comp_fail(c, bad, SL_NULL);
	else
		fsm_event(&c->st.f, COMP_EV_HEADER, root);
	return verdict(c);
}

/* First-level elements before the stream is established. */
static int early_element(struct comp *c, struct xml_node *n)
{
	static const struct {
		enum xml_ns ns;
		struct sl name;
		uint8_t event;
	} known[] = {
		{ NS_STANZA, SL("handshake"), COMP_EV_HANDSHAKE },
		{ NS_TLS, SL("starttls"), COMP_EV_STARTTLS },
		{ NS_SASL, SL("auth"), COMP_EV_AUTH },
		{ NS_SASL, SL("response"), COMP_EV_RESPONSE },
		{ NS_SASL, SL("abort"), COMP_EV_ABORT },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!xml_is(n, known[i].ns, known[i].name))
			continue;
		fsm_event(&c->st.f, known[i].event, n);
		return verdict(c);
	}
	if (xml_is(n, NS_SM, SL("enable")) && c->st.f.state == COMP_AUTHED)
		fsm_event(&c->st.f, COMP_EV_ENABLE, n);
	else
		comp_fail(c, n->ns == NS_STANZA ? "not-authorized" : "unsupported-stanza-type",
			  SL_NULL);
	return verdict(c);
}

static int on_element(void *self, struct arena *a_take, struct xml_node *n)
{
	struct comp *c = self;
	int rc = E_CLOSED;

	if (c->st.f.state == COMP_AUTHED && n->ns == NS_STANZA)
		fsm_event(&c->st.f, COMP_EV_STANZA, n);
	if (c->st.f.state == COMP_UP && n->ns != NS_SM)
		return stanza_element(c, a_take, n);
	if (c->st.f.state == COMP_UP) {
		sm_nonza(c, n);
		rc = verdict(c);
	} else if (verdict(c) >= 0) {
		rc = early_element(c, n);
	}
	arena_free(&a_take);
	return rc;
}

static void on_close(void *self)
{
	struct comp *c = self;

	if (c->st.as)
		as_note_acked(c->st.as);
	fsm_event(&c->st.f, COMP_EV_CLOSE, NULL);
}

static void xml_error(struct stream *s, const char *condition, const char *text)
{
	if (s->f.state == COMP_CLOSING || s->f.state == COMP_CLOSED)
		return;
	if (strcmp(condition, "policy-violation") == 0)
		count(s->w, CNT_LIMIT_STANZA);
	comp_fail(comp_of(s), condition, sl_cstr(text));
}

/* ---- connection
 * ---------------------------------------------------------------------------------- */

/* The credentials were good: to the worker that owns the domain. Outside of the machine, because
 * from access_move on another thread has the stream. */
void comp_depart(struct comp *c)
{
	struct stream *s = &c->st;
	uint16_t owner = bus_owner(s->w->bus, s->host->name);

	if (owner == s->w->id)
		s->kind->arrived(s);
	else if (access_move(s, owner) != 0)
		conn_kill(s->conn);
}

/* The parser has stopped. */
static void paused(struct stream *s)
{
	struct comp *c = comp_of(s);
	int rc;

	if (s->f.state == COMP_MOVING) {
		comp_depart(c); /* it may be another thread's now */
		return;
	}
	if (!c->tls_waits)
		return;
	c->tls_waits = false;
	rc = negotiate_tls(s, stream_any_tls(s));
	c->handshake = rc == 0;
	if (rc == E_DENIED)
		comp_fail(c, "policy-violation",
			  SL("nothing may follow <starttls/> before the handshake"));
}

static void tls_up(struct stream *s)
{
	fsm_event(&s->f, COMP_EV_TLS_UP, NULL);
	stream_resume_input(s);
}

static void lost(struct stream *s, const struct err *why)
{
	log_ev(LOG_L_INFO, "component.lost", KS("domain", s->host ? s->host->name : SL_NULL),
	       KC("state", fsm_state_name(&s->f)), KE(why));
	fsm_event(&s->f, COMP_EV_LOST, NULL);
}

static void arrived(struct stream *s)
{
	fsm_event(&s->f, COMP_EV_ARRIVED, NULL);
	stream_resume_input(s);
}

static void end(struct stream *s, const char *condition, struct sl text)
{
	struct comp *c = comp_of(s);

	c->condition = condition;
	c->text = text;
	c->extra = SL_NULL;
	fsm_raise(&s->f, COMP_EV_END);
}

static void overflow(struct stream *s)
{
	if (s->as)
		as_todo(s->as, AS_TODO_OVERFLOW);
	else
		conn_kill(s->conn);
}

static void drained(struct stream *s)
{
	if (s->as)
		as_drained(s->as);
}

static void drop(struct stream *s)
{
	struct comp *c = comp_of(s);

	stream_drop(s);
	free((char *)(uintptr_t)c->nobody.name.p);
	free(c);
}

static const struct stream_kind comp_kind = {
	.name = "component",
	.content_ns = SL("jabber:component:accept"),
	.on_open = on_open,
	.on_element = on_element,
	.on_close = on_close,
	.tls_up = tls_up,
	.lost = lost,
	.xml_error = xml_error,
	.paused = paused,
	.arrived = arrived,
	.end = end,
	.overflow = overflow,
	.drained = drained,
	.drop = drop,
};

int comp_accept(struct worker *w, enum access_port port, int fd, struct addr_slot *addr,
		struct err *e)
{
	struct comp *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		close(fd);
		addr_leave(access_of(w)->shared->addrs, addr);
		return err_set(e, E_NOMEM, NULL, "no memory for a stream");
	}
	c->st.kind = &comp_kind;
	c->st.port = (uint8_t)port;
	c->st.addr = addr;
	c->st.counted = true;
	c->st.plain_header = port != ACCESS_COMPONENT_UNIX;
	rc = stream_start(&c->st, w, fd, OUT_OCTETS, &w->cfg->lim.preauth, e);
	if (rc != 0) {
		free(c);
		return rc;
	}
	fsm_init(&c->st.f, &comp_fsm);
	fsm_event(&c->st.f, port == ACCESS_COMPONENT_TLS ? COMP_EV_DIRECT : COMP_EV_PLAIN, NULL);
	return 0;
}

void comp_free(struct comp *c)
{
	login_free(&c->login);
	stream_finish(&c->st);
	free((char *)(uintptr_t)c->nobody.name.p);
	free(c);
}

/* ---- guards and actions
 * -------------------------------------------------------------------------- */

bool comp_is_tls(const struct comp *c)
{
	return c->st.conn && conn_is_tls(c->st.conn);
}

int comp_act_direct(void *self, const void *ev)
{
	struct comp *c = self;
	struct tls_ctx *ctx = stream_any_tls(&c->st);
	struct err e = { 0 };

	UNUSED(ev);
	c->handshake = true;
	if (ctx && conn_tls_server(c->st.conn, ctx, &e) == 0)
		return 0;
	log_ev(LOG_L_WARN, "component.tls_failed", KE(&e));
	conn_kill(c->st.conn);
	return E_AUTH;
}

int comp_act_header(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	stream_write_header(&c->st, c->st.host->name, SL_NULL);
	return 0;
}

bool comp_can_starttls(const void *self, const void *ev)
{
	const struct comp *c = self;

	UNUSED(ev);
	return c->st.port == ACCESS_COMPONENT && !comp_is_tls(c) && stream_any_tls(&c->st);
}

int comp_act_features(void *self, const void *ev)
{
	struct comp *c = self;
	bool tls = comp_is_tls(c), required = c->st.cfg->component_tls == COMPONENT_TLS_REQUIRED;
	struct buf b;

	comp_act_header(self, ev);
	buf_init(&b, 8192);
	buf_add(&b, SL("<stream:features>"));
	if (comp_can_starttls(c, NULL)) {
		buf_add(&b, SL("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"));
		buf_add(&b, required ? SL("<required/></starttls>") : SL("</starttls>"));
	}
	if (comp_local(c, NULL))
		buf_add(&b, SL("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
			       "<mechanism>EXTERNAL</mechanism></mechanisms>"));
	else if (tls || !required)
		negotiate_mechanisms(&c->st, LOGIN_COMPONENT | (tls ? LOGIN_TLS : 0), &b);
	buf_add(&b, SL("</stream:features>"));
	stream_write(&c->st, buf_sl(&b));
	buf_free(&b);
	return 0;
}

int comp_act_proceed(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->tls_waits = true; /* <proceed/> follows when the parser has stopped: paused() */
	return 0;
}

int comp_act_secure(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	c->handshake = false;
	return 0;
}

int comp_act_tls_failure(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	stream_write(&c->st, SL("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
	return comp_act_close(self, ev);
}

int comp_act_authed_features(void *self, const void *ev)
{
	comp_act_header(self, ev);
	stream_write(self, SL("<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"));
	return 0;
}

/* A newer stream of the same domain replaces the older. */
static void replace_older(struct comp *c)
{
	struct access_worker *aw = access_of(c->st.w);

	LIST_FOREACH(it, tmp, &aw->sessions) {
		struct asession *as = LIST_ENTRY(it, struct asession, node);

		if (as->is_component && as->stream && sl_eq(as->s.jid.domain, c->st.host->name))
			as->stream->kind->end(as->stream, "conflict",
					      SL("replaced by a newer stream"));
	}
}

static int session_new(struct comp *c, struct asession **as_r)
{
	replace_older(c);
	xml_stream_set_limits(c->st.xml, c->st.port == ACCESS_COMPONENT_UNIX
						 ? &c->st.cfg->lim.own
						 : &c->st.cfg->lim.component);
	if (as_new(&c->st, c->st.host->name, true, as_r) == 0) {
		(*as_r)->mechanism = c->mechanism;
		return 0;
	}
	conn_kill(c->st.conn);
	return E_NOMEM;
}

static void now_up(struct comp *c)
{
	log_ev(LOG_L_NOTICE, "component.up", KS("domain", c->st.host->name),
	       KC("sm", c->st.as->sm ? "yes" : "no"));
	as_bind(c->st.as, NULL);
}

int comp_act_up(void *self, const void *ev)
{
	struct comp *c = self;
	struct asession *as;

	UNUSED(ev);
	if (session_new(c, &as) != 0)
		return E_NOMEM;
	now_up(c);
	return 0;
}

int comp_act_handshake(void *self, const void *ev)
{
	struct comp *c = self;

	stream_write(&c->st, SL("<handshake/>"));
	return comp_act_up(self, ev);
}

/* Everything that comes through the session from now on is counted, so it is attached only then. */
int comp_act_enable(void *self, const void *ev)
{
	struct comp *c = self;
	struct asession *as;

	if (session_new(c, &as) != 0)
		return E_NOMEM;
	sm_enable(as, ev, 0);
	now_up(c);
	return 0;
}

static int close_down(struct comp *c, enum as_end how)
{
	login_free(&c->login);
	if (c->st.as)
		as_end(c->st.as, how);
	if (c->st.conn)
		conn_close(c->st.conn, stream_linger_ms(&c->st));
	return 0;
}

int comp_act_close(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	stream_write_end(&c->st);
	return close_down(c, AS_END_ORDERLY);
}

int comp_act_error(void *self, const void *ev)
{
	struct comp *c = self;

	if (!c->condition)
		return comp_act_close(self, ev);
	stream_write_error(&c->st, c->condition, c->text, c->extra);
	return close_down(c, AS_END_BROKEN);
}

int comp_act_timeout(void *self, const void *ev)
{
	struct comp *c = self;

	if (c->handshake) {
		conn_kill(c->st.conn);
		return 0;
	}
	c->condition = "connection-timeout";
	c->text = c->extra = SL_NULL;
	return comp_act_error(self, ev);
}

int comp_act_lost(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	if (c->st.as)
		as_lost(c->st.as);
	return 0;
}
