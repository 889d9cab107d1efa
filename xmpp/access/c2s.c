/* c2s.c - a client's stream: what parser and connection report, headers, features, the ends. See
 * c2s.h. */
#include "xmpp/access/c2s.h"

#include <unistd.h>

#include "appliance/base/log.h"
#include "appliance/loop/tls.h"
#include "xmpp/access/negotiate.h"

static const struct stream_kind c2s_kind;

static struct c2s *c2s_of(struct stream *s)
{
	return container_of(s, struct c2s, st);
}

bool c2s_is_tls(const struct c2s *c)
{
	return c->st.conn && conn_is_tls(c->st.conn);
}

int c2s_verdict(const struct c2s *c)
{
	switch (c->st.f.state) {
	case C2S_CLOSING:
	case C2S_CLOSED:
		return E_CLOSED;
	case C2S_TLS:
	case C2S_STEP:
	case C2S_MOVING:
	case C2S_LOOKUP:
	case C2S_BINDING:
		return XML_PAUSE;
	default:
		return 0;
	}
}

void c2s_fail(struct c2s *c, const char *condition, struct sl text, struct sl extra)
{
	if (c->st.as)
		as_note_acked(c->st.as); /* before our words are outstanding */
	c->error = (struct c2s_error){ condition, text, extra };
	fsm_raise(&c->st.f, C2S_EV_ERROR);
}

/* ---- parser
 * -------------------------------------------------------------------------------------- */

/* Whom the client wants (RFC 6120 4.7.2); sets st.host. */
static const char *header_host(struct c2s *c, const struct xml_node *root)
{
	struct sl to = xml_attr(root, SL("to")), name;
	const struct domain *d;
	struct arena *a;

	if (to.n == 0)
		return "improper-addressing";
	d = core_domain(c->st.cfg, to);
	if (!d && (a = arena_new(512, 16384))) {
		if (jid_prep_domain(a, to, &name, NULL) == 0)
			d = core_domain(c->st.cfg, name);
		arena_free(&a);
	}
	if (!d || d->kind != DOMAIN_HOST || (c->bare && d != c->st.host))
		return "host-unknown";
	c->st.host = d;
	return NULL;
}

/* 4.7.1: whose stream it is, if it says. Before the login that is not known, and there are clients
 * that name their host here; after it, the name of somebody else is refused. */
static const char *header_from(const struct c2s *c, const struct xml_node *root)
{
	struct sl from = xml_attr(root, SL("from"));
	struct arena *a;
	struct jid j;
	bool other;

	if (from.n == 0 || !c->bare)
		return NULL;
	a = arena_new(512, 16384);
	if (!a)
		return "resource-constraint";
	other = jid_parse(a, from, &j, NULL) == 0 && j.local.n &&
		!sl_eq(j.bare, sl_cstr(c->bare));
	arena_free(&a);
	return other ? "invalid-from" : NULL;
}

static int on_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct c2s *c = self;
	const char *bad, *bad_host;

	if (c2s_verdict(c) < 0)
		return E_CLOSED;
	bad_host = header_host(c, root); /* first: an error should come from whom it wanted */
	bad = stream_header_check(&c->st, root, content_ns);
	if (!bad)
		bad = bad_host;
	if (!bad)
		bad = header_from(c, root);
	if (bad)
		c2s_fail(c, bad, SL_NULL, SL_NULL);
	else
		fsm_event(&c->st.f, C2S_EV_HEADER, root);
	return c2s_verdict(c);
}

static const char *unexpected(const struct xml_node *n)
{
	bool stanza = n->ns == NS_STANZA &&
		      (sl_eq(n->name, SL("message")) || sl_eq(n->name, SL("presence")) ||
		       sl_eq(n->name, SL("iq")));

	return stanza ? "not-authorized" : "unsupported-stanza-type";
}

/* First-level elements before login. */
static int early_element(struct c2s *c, struct xml_node *n)
{
	static const struct {
		enum xml_ns ns;
		struct sl name;
		uint8_t event;
	} known[] = {
		{ NS_TLS, SL("starttls"), C2S_EV_STARTTLS },
		{ NS_SASL, SL("auth"), C2S_EV_AUTH },
		{ NS_SASL, SL("response"), C2S_EV_RESPONSE },
		{ NS_SASL, SL("abort"), C2S_EV_ABORT },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!xml_is(n, known[i].ns, known[i].name))
			continue;
		fsm_event(&c->st.f, known[i].event, n);
		return c2s_verdict(c);
	}
	c2s_fail(c, unexpected(n), SL_NULL, SL_NULL);
	return c2s_verdict(c);
}

static int on_element(void *self, struct arena *a_take, struct xml_node *n)
{
	struct c2s *c = self;
	int rc = E_CLOSED;

	if (c->st.f.state == C2S_BOUND)
		return c2s_bound_element(c, a_take, n);
	if (c->st.f.state == C2S_AUTHED)
		return c2s_authed_element(c, a_take, n);
	if (c2s_verdict(c) >= 0)
		rc = early_element(c, n);
	arena_free(&a_take);
	return rc;
}

static void on_close(void *self)
{
	struct c2s *c = self;

	if (c->st.as)
		as_note_acked(c->st.as); /* before our own closing tag is outstanding */
	fsm_event(&c->st.f, C2S_EV_CLOSE, NULL);
}

static void xml_error(struct stream *s, const char *condition, const char *text)
{
	struct c2s *c = c2s_of(s);

	if (s->f.state == C2S_CLOSING || s->f.state == C2S_CLOSED)
		return; /* it stopped because we said so */
	if (strcmp(condition, "policy-violation") == 0)
		count(s->w, CNT_LIMIT_STANZA);
	c2s_fail(c, condition, sl_cstr(text), SL_NULL);
}

/* The parser has stopped behind <starttls/>. */
static void paused(struct stream *s)
{
	struct c2s *c = c2s_of(s);
	int rc;

	if (!c->tls_waits)
		return;
	c->tls_waits = false;
	rc = negotiate_tls(s, s->host->tls);
	c->handshake = rc == 0;
	if (rc == E_DENIED)
		c2s_fail(c, "policy-violation",
			 SL("nothing may follow <starttls/> before the handshake"), SL_NULL);
}

/* ---- connection
 * ---------------------------------------------------------------------------------- */

static void tls_up(struct stream *s)
{
	c2s_of(s)->handshake = false;
	fsm_event(&s->f, C2S_EV_TLS_UP, NULL);
	stream_resume_input(s);
}

static void lost(struct stream *s, const struct err *why)
{
	log_ev(LOG_L_DEBUG, "c2s.lost", KC("state", fsm_state_name(&s->f)), KE(why));
	fsm_event(&s->f, C2S_EV_LOST, NULL);
}

static void arrived(struct stream *s)
{
	fsm_event(&s->f, C2S_EV_ARRIVED, NULL);
	stream_resume_input(s);
}

static void end(struct stream *s, const char *condition, struct sl text)
{
	struct c2s *c = c2s_of(s);

	c->error = (struct c2s_error){ condition, text, SL_NULL };
	fsm_raise(&s->f, C2S_EV_END);
}

static void overflow(struct stream *s)
{
	if (s->as)
		as_todo(s->as, AS_TODO_OVERFLOW);
	else
		conn_kill(s->conn);
}

static void drop(struct stream *s)
{
	struct c2s *c = c2s_of(s);

	stream_drop(s);
	free(c->bare);
	free(c);
}

static const struct stream_kind c2s_kind = {
	.name = "c2s",
	.content_ns = SL("jabber:client"),
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
	.drop = drop,
	.rated = true,
};

/* ---- life
 * ---------------------------------------------------------------------------------------- */

int c2s_accept(struct worker *w, enum access_port port, int fd, struct addr_slot *addr,
	       struct err *e)
{
	struct c2s *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		close(fd);
		addr_leave(access_of(w)->shared->addrs, addr);
		return err_set(e, E_NOMEM, NULL, "no memory for a stream");
	}
	c->st.kind = &c2s_kind;
	c->st.port = (uint8_t)port;
	c->st.addr = addr;
	c->st.counted = true;
	rc = stream_start(&c->st, w, fd, w->cfg->lim.out_octets, &w->cfg->lim.preauth, e);
	if (rc != 0) {
		free(c);
		return rc;
	}
	count(w, CNT_C2S_ACCEPTED);
	fsm_init(&c->st.f, &c2s_fsm);
	fsm_event(&c->st.f, port == ACCESS_C2S_TLS ? C2S_EV_DIRECT : C2S_EV_PLAIN, NULL);
	return 0;
}

void c2s_free(struct c2s *c)
{
	login_free(&c->login);
	c2s_lookup_forget(c);
	stanza_unref(&c->bind_iq);
	stream_finish(&c->st);
	free(c->bare);
	free(c);
}

/* Login succeeded: to the account's worker. Outside of the machine, because from access_move on
 * another thread has the stream. */
void c2s_depart(struct c2s *c)
{
	struct stream *s = &c->st;
	uint16_t owner = bus_owner(s->w->bus, sl_cstr(c->bare));

	if (owner == s->w->id)
		arrived(s);
	else if (access_move(s, owner) != 0)
		conn_kill(s->conn); /* it is going already */
}

/* ---- actions
 * ------------------------------------------------------------------------------------- */

int c2s_act_direct(void *self, const void *ev)
{
	struct c2s *c = self;
	struct tls_ctx *ctx = stream_any_tls(&c->st);
	struct err e = { 0 };

	UNUSED(ev);
	c->handshake = true;
	if (ctx && conn_tls_server(c->st.conn, ctx, &e) == 0)
		return 0;
	log_ev(LOG_L_WARN, "c2s.tls_failed", KE(&e));
	conn_kill(c->st.conn);
	return E_AUTH;
}

int c2s_act_features(void *self, const void *ev)
{
	struct c2s *c = self;
	bool tls = c2s_is_tls(c), required = c->st.cfg->tls_required;
	struct buf b;

	stream_write_header(&c->st, c->st.host->name, xml_attr(ev, SL("from")));
	buf_init(&b, 8192);
	buf_add(&b, SL("<stream:features>"));
	if (c2s_can_starttls(c, NULL)) {
		buf_add(&b, SL("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"));
		buf_add(&b, required ? SL("<required/></starttls>") : SL("</starttls>"));
	}
	if (tls || !required)
		negotiate_mechanisms(&c->st, tls ? LOGIN_TLS : 0, &b);
	buf_add(&b, SL("</stream:features>"));
	stream_write(&c->st, buf_sl(&b));
	buf_free(&b);
	return 0;
}

int c2s_act_authed_features(void *self, const void *ev)
{
	struct c2s *c = self;

	stream_write_header(&c->st, c->st.host->name, xml_attr(ev, SL("from")));
	xml_stream_set_limits(c->st.xml, &c->st.cfg->lim.bound);
	stream_write(&c->st,
		     SL("<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
			"<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>"
			"<sm xmlns='urn:xmpp:sm:3'/><sub xmlns='urn:xmpp:features:pre-approval'/>"
			"</stream:features>"));
	return 0;
}

bool c2s_can_starttls(const void *self, const void *ev)
{
	const struct c2s *c = self;

	UNUSED(ev);
	return !c2s_is_tls(c) && c->st.host->tls;
}

int c2s_act_proceed(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	c->tls_waits = true; /* <proceed/> follows when the parser has stopped: paused() */
	return 0;
}

int c2s_act_tls_failure(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	stream_write(&c->st, SL("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
	return c2s_act_close(self, ev);
}

/* The stream is over: what it carried ends, what is written goes out, the connection follows. */
static int close_down(struct c2s *c, enum as_end how)
{
	login_free(&c->login);
	c2s_lookup_forget(c);
	if (c->st.as)
		as_end(c->st.as, how);
	if (c->st.conn)
		conn_close(c->st.conn, stream_linger_ms(&c->st));
	return 0;
}

int c2s_act_error(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	stream_write_error(&c->st, c->error.condition, c->error.text, c->error.extra);
	return close_down(c, AS_END_BROKEN);
}

int c2s_act_close(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	stream_write_end(&c->st);
	return close_down(c, AS_END_ORDERLY);
}

int c2s_act_end(void *self, const void *ev)
{
	struct c2s *c = self;

	if (!c->error.condition)
		return c2s_act_close(self, ev);
	return c2s_act_error(self, ev);
}

int c2s_act_timeout(void *self, const void *ev)
{
	struct c2s *c = self;

	count(c->st.w, CNT_C2S_REFUSED);
	if (c->handshake) {
		conn_kill(c->st.conn);
		return 0;
	}
	c->error = (struct c2s_error){ "connection-timeout", SL("login took too long"), SL_NULL };
	return c2s_act_error(self, ev);
}

int c2s_act_lost(void *self, const void *ev)
{
	struct c2s *c = self;

	UNUSED(ev);
	if (c->st.as)
		as_lost(c->st.as);
	return 0;
}
