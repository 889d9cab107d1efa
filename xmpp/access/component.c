/* component.c - see component.h. */
#include "xmpp/access/component.h"

#include <openssl/evp.h>
#include <unistd.h>

#include "appliance/base/enc.h"
#include "appliance/base/log.h"

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

/* The component that the header names, if it may connect here. */
static const char *header_host(struct comp *c, const struct xml_node *root)
{
	const struct domain *d = core_domain(c->st.cfg, xml_attr(root, SL("to")));
	bool local = c->st.port == ACCESS_COMPONENT_UNIX;

	if (!d || d->kind != DOMAIN_COMPONENT || (!local && (d->local_only || d->secret.n == 0)))
		return "host-unknown";
	if (c->st.host && d != c->st.host)
		return "invalid-from";
	c->st.host = d;
	return NULL;
}

static int on_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct comp *c = self;
	const char *bad = stream_header_check(&c->st, root, content_ns);

	if (verdict(c) < 0)
		return E_CLOSED;
	if (!bad)
		bad = header_host(c, root);
	if (bad)
		comp_fail(c, bad, SL_NULL);
	else
		fsm_event(&c->st.f, COMP_EV_HEADER, root);
	return verdict(c);
}

static int early_element(struct comp *c, struct xml_node *n)
{
	if (xml_is(n, NS_STANZA, SL("handshake")))
		fsm_event(&c->st.f, COMP_EV_HANDSHAKE, n);
	else if (xml_is(n, NS_SASL, SL("auth")))
		fsm_event(&c->st.f, COMP_EV_AUTH, n);
	else if (xml_is(n, NS_SM, SL("enable")) && c->st.f.state == COMP_AUTHED)
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

/* The credentials were good; the parser has stopped, so another worker may have the stream. */
static void paused(struct stream *s)
{
	uint16_t owner;

	if (s->f.state != COMP_MOVING)
		return;
	owner = bus_owner(s->w->bus, s->host->name);
	if (owner == s->w->id)
		s->kind->arrived(s);
	else if (access_move(s, owner) != 0)
		conn_kill(s->conn);
}

static void tls_up(struct stream *s)
{
	fsm_event(&s->f, COMP_EV_TLS_UP, NULL);
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
	stream_drop(s);
	free(comp_of(s));
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
	stream_finish(&c->st);
	free(c);
}

/* ---- guards and actions
 * -------------------------------------------------------------------------- */

bool comp_plain(const void *self, const void *ev)
{
	const struct comp *c = self;

	UNUSED(ev);
	return c->st.plain_header;
}

/* Lower-case hex of SHA-1(stream id, secret). */
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
	return ok;
}

/* SASL EXTERNAL: whom the kernel says is at the other end; the identity asked for is none, or the
 * domain. */
bool comp_auth_ok(const void *self, const void *ev)
{
	const struct comp *c = self;
	const struct access_cfg *cfg = &access_of(c->st.w)->shared->cfg;
	struct arena *a = arena_new(512, 16384);
	struct sl text = a ? xml_text(a, ev) : SL_NULL;
	uint32_t uid;
	bool ok;
	struct buf b;

	buf_init(&b, 4096);
	ok = a && sl_eq(xml_attr(ev, SL("mechanism")), SL("EXTERNAL")) &&
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

int comp_act_direct(void *self, const void *ev)
{
	struct comp *c = self;
	struct tls_ctx *ctx = stream_any_tls(&c->st);
	struct err e = { 0 };

	UNUSED(ev);
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

int comp_act_features(void *self, const void *ev)
{
	comp_act_header(self, ev);
	stream_write(self,
		     SL("<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
			"<mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"));
	return 0;
}

int comp_act_authed_features(void *self, const void *ev)
{
	comp_act_header(self, ev);
	stream_write(self, SL("<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"));
	return 0;
}

int comp_act_not_authorized(void *self, const void *ev)
{
	struct comp *c = self;

	count(c->st.w, CNT_AUTH_FAILED);
	log_ev(LOG_L_NOTICE, "component.refused", KS("domain", c->st.host->name));
	c->condition = "not-authorized";
	c->text = c->extra = SL_NULL;
	return comp_act_error(self, ev);
}

int comp_act_auth(void *self, const void *ev)
{
	struct comp *c = self;

	UNUSED(ev);
	stream_write(&c->st, SL("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"));
	xml_stream_restart(c->st.xml);
	c->st.header_sent = false;
	return 0;
}

int comp_act_auth_refused(void *self, const void *ev)
{
	struct comp *c = self;

	stream_write(&c->st,
		     SL("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/>"
			"</failure>"));
	return comp_act_not_authorized(self, ev);
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
	if (as_new(&c->st, c->st.host->name, true, as_r) == 0)
		return 0;
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
