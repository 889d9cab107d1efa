/* stream.c - see stream.h. */
#include "xmpp/access/stream.h"
#include "xmpp/access/asession.h"

#include <malloc.h>

#include "appliance/base/log.h"
#include "appliance/base/rnd.h"

#define LINGER_MS          3000u
#define LINGER_STOPPING_MS 500u
/* A pause that a rate limit asks for is cut into pieces of this, so that a new limit is felt soon.
 */
#define RATE_PAUSE_MAX_MS 1000u
/* A stream that keeps a parser between stanzas, because its header is an unusual one, gives it back
 * when it has been silent for this long. */
#define PARK_AFTER_MS 2000u

/* ---- parser and connection callbacks
 * ------------------------------------------------------------- */

static int x_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct stream *s = self;

	return s->kind->on_open(s, root, content_ns);
}

static int x_element(void *self, struct arena *a_take, struct xml_node *n)
{
	struct stream *s = self;

	return s->kind->on_element(s, a_take, n);
}

static void x_close(void *self)
{
	struct stream *s = self;

	s->kind->on_close(s);
}

static const struct xml_stream_ops parser_ops = { .on_open = x_open,
						  .on_element = x_element,
						  .on_close = x_close };

static void idle_timer(struct loop_timer *t)
{
	struct stream *s = container_of(t, struct stream, timer);
	uint64_t idle = loop_now_ms(s->w->loop) - s->in_ms;

	if (s->throttled) {
		s->throttled = false;
		stream_resume_input(s);
		return;
	}
	if (idle < PARK_AFTER_MS)
		loop_timer_set(s->w->loop, &s->timer, PARK_AFTER_MS - idle, idle_timer);
	else
		xml_stream_park(s->xml);
}

/* A fed piece is done with: what came of it? */
static void fed(struct stream *s, int rc, const struct err *e)
{
	s->feeding = false;
	if (s->as && !xml_stream_parked(s->xml) && !loop_timer_armed(&s->timer))
		loop_timer_set(s->w->loop, &s->timer, PARK_AFTER_MS, idle_timer);
	if (rc == XML_PAUSE) {
		s->paused = true;
		conn_read_pause(s->conn);
		if (s->kind->paused)
			s->kind->paused(s);
	} else if (rc < 0) {
		s->kind->xml_error(s, e->clause ? e->clause : "undefined-condition", e->text);
	} else if (s->kind->rated && s->as && s->conn && stream_over_rate(s, 0)) {
		/* Octets that complete no stanza count as well. */
		s->paused = true;
		conn_read_pause(s->conn);
	}
}

static void on_data(void *self, struct sl data)
{
	struct stream *s = self;
	struct err e = { 0 };

	s->in_ms = loop_now_ms(s->w->loop);
	s->octet_tokens -= (int64_t)data.n * 1000;
	s->feeding = true;
	fed(s, xml_stream_feed(s->xml, data, &e), &e);
}

static void on_tls(void *self)
{
	struct stream *s = self;

	s->kind->tls_up(s);
}

static void on_closed(void *self, const struct err *why)
{
	struct stream *s = self;

	if (s->as)
		as_note_acked(s->as); /* the last chance to ask */
	s->conn = NULL;
	s->kind->lost(s, why);
}

static void on_drained(void *self)
{
	struct stream *s = self;

	if (s->kind->drained)
		s->kind->drained(s);
}

static const struct conn_ops stream_conn_ops = {
	.on_data = on_data,
	.on_tls = on_tls,
	.on_drained = on_drained,
	.on_closed = on_closed,
};

/* ---- life
 * ---------------------------------------------------------------------------------------- */

static void enter_worker(struct stream *s, struct worker *w)
{
	s->w = w;
	list_append(&w->conns, &s->node);
	access_of(w)->nstreams++;
}

static void leave_worker(struct stream *s)
{
	loop_timer_clear(&s->timer);
	if (list_linked(&s->node)) {
		list_remove(&s->node);
		access_of(s->w)->nstreams--;
	}
}

static void release(struct stream *s)
{
	xml_stream_free(&s->xml);
	/* What a flood has left behind lies in holes between what stays. */
	if (s->counted && addr_leave(access_of(s->w)->shared->addrs, s->addr))
		malloc_trim(0);
	s->counted = false;
	core_config_unref(s->cfg);
	s->cfg = NULL;
}

int stream_start(struct stream *s, struct worker *w, int fd, size_t out_max,
		 const struct xml_limits *lim, struct err *e)
{
	int rc;

	list_init(&s->node);
	s->cfg = core_config_ref(w->cfg);
	s->w = w;
	rc = conn_new(w->loop, fd, &stream_conn_ops, s, out_max, &s->conn, e);
	if (rc == 0) {
		rc = xml_stream_new(w->xml, lim, &parser_ops, s, &s->xml);
		if (rc != 0) {
			err_set(e, rc, NULL, "no parser for a stream");
			conn_detach(s->conn);
			conn_drop(&s->conn);
		}
	}
	if (rc != 0) {
		release(s);
		return rc;
	}
	s->in_ms = s->tokens_ms = loop_now_ms(w->loop);
	s->deadline_ms = s->in_ms + (uint64_t)s->cfg->lim.unauth_s * 1000;
	s->stanza_tokens = (int64_t)s->cfg->lim.stanza_burst * 1000;
	s->octet_tokens = (int64_t)s->cfg->lim.octet_rate * 1000;
	enter_worker(s, w);
	return 0;
}

void stream_finish(struct stream *s)
{
	leave_worker(s);
	release(s);
}

void stream_drop(struct stream *s)
{
	if (s->conn)
		conn_drop(&s->conn);
	release(s);
}

int stream_detach(struct stream *s)
{
	int rc = s->conn ? conn_detach(s->conn) : E_STATE;

	if (rc == 0)
		leave_worker(s);
	return rc;
}

int stream_attach(struct stream *s, struct worker *w, struct err *e)
{
	int rc = conn_attach(s->conn, w->loop, &stream_conn_ops, s, e);

	if (rc != 0)
		return rc;
	xml_stream_move(s->xml, w->xml, &parser_ops, s);
	enter_worker(s, w);
	s->in_ms = loop_now_ms(w->loop);
	return 0;
}

/* ---- output
 * -------------------------------------------------------------------------------------- */

void stream_write(struct stream *s, struct sl data)
{
	if (s->conn && conn_write(s->conn, data) == E_LIMIT)
		s->kind->overflow(s);
}

static void attr(struct buf *b, const char *name, struct sl value)
{
	if (value.n == 0)
		return;
	buf_addf(b, " %s='", name);
	xml_write_escaped(b, value);
	buf_addc(b, '\'');
}

void stream_write_header(struct stream *s, struct sl from, struct sl to)
{
	struct buf b;

	rnd_token(s->id, STREAM_ID_OCTETS);
	buf_init(&b, 32768);
	buf_add(&b, SL("<?xml version='1.0'?><stream:stream xmlns='"));
	buf_add(&b, s->kind->content_ns);
	buf_add(&b, SL("' xmlns:stream='http://etherx.jabber.org/streams'"));
	attr(&b, "id", sl_cstr(s->id));
	attr(&b, "from", from);
	attr(&b, "to", to);
	buf_add(&b, s->plain_header ? SL(" xml:lang='en'>") : SL(" version='1.0' xml:lang='en'>"));
	stream_write(s, buf_sl(&b));
	buf_free(&b);
	s->header_sent = true;
}

/* The name for a header before we know whom the peer wants: our first host (RFC 6120 4.9.1.2 asks
 * for one that is authoritative). */
static struct sl any_host(const struct stream *s)
{
	const struct hnode *n = NULL;

	if (s->host)
		return s->host->name;
	while ((n = htable_next(&s->cfg->domains, n))) {
		const struct domain *d = container_of(n, const struct domain, hn);

		if (d->kind == DOMAIN_HOST)
			return d->name;
	}
	return SL_NULL;
}

struct tls_ctx *stream_any_tls(const struct stream *s)
{
	const struct hnode *n = NULL;

	if (s->cfg->tls_first)
		return s->cfg->tls_first;
	while ((n = htable_next(&s->cfg->domains, n))) {
		const struct domain *d = container_of(n, const struct domain, hn);

		if (d->kind == DOMAIN_HOST && d->tls)
			return d->tls;
	}
	return NULL;
}

void stream_write_error(struct stream *s, const char *condition, struct sl text, struct sl extra)
{
	struct buf b;
	char peer[CONN_ADDR_MAX] = "";

	if (!s->conn)
		return;
	count(s->w, CNT_STREAM_ERRORS);
	conn_peer_text(s->conn, peer);
	log_ev(LOG_L_INFO, "stream.error", KC("kind", s->kind->name), KC("peer", peer),
	       KC("condition", condition), KS("text", text));
	if (!s->header_sent)
		stream_write_header(s, any_host(s), SL_NULL);
	buf_init(&b, 8192);
	buf_addf(&b, "<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", condition);
	if (text.n) {
		buf_add(&b, SL("<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>"));
		xml_write_escaped(&b, text);
		buf_add(&b, SL("</text>"));
	}
	buf_add(&b, extra);
	buf_add(&b, SL("</stream:error></stream:stream>"));
	/* This must still go out when the output is full to its limit. */
	conn_set_output_max(s->conn, s->cfg->lim.out_octets + 16384);
	conn_write(s->conn, buf_sl(&b));
	buf_free(&b);
}

void stream_write_end(struct stream *s)
{
	if (!s->conn)
		return;
	if (!s->header_sent)
		stream_write_header(s, any_host(s), SL_NULL);
	conn_set_output_max(s->conn, s->cfg->lim.out_octets + 16384);
	conn_write(s->conn, SL("</stream:stream>"));
}

uint32_t stream_linger_ms(const struct stream *s)
{
	return access_of(s->w)->stopping ? LINGER_STOPPING_MS : LINGER_MS;
}

/* ---- input
 * --------------------------------------------------------------------------------------- */

void stream_resume_input(struct stream *s)
{
	struct err e = { 0 };

	if (!s->paused || !s->conn)
		return;
	s->paused = false;
	conn_read_resume(s->conn);
	s->feeding = true;
	fed(s, xml_stream_resume(s->xml, &e), &e);
}

static int64_t refill(int64_t tokens, uint64_t ms, uint32_t rate, uint64_t burst)
{
	int64_t full = (int64_t)burst * 1000;

	tokens += (int64_t)(ms * rate);
	return tokens > full ? full : tokens;
}

bool stream_over_rate(struct stream *s, uint32_t stanzas)
{
	const struct core_limits *lim = &s->cfg->lim;
	uint64_t now = loop_now_ms(s->w->loop), ms = now - s->tokens_ms, wait = 0;

	if (lim->stanza_rate == 0 && lim->octet_rate == 0)
		return false;
	if (ms) {
		if (ms > 60000)
			ms = 60000;
		s->tokens_ms = now;
		s->stanza_tokens =
			refill(s->stanza_tokens, ms, lim->stanza_rate, lim->stanza_burst);
		s->octet_tokens = refill(s->octet_tokens, ms, lim->octet_rate, lim->octet_rate);
	}
	s->stanza_tokens -= (int64_t)stanzas * 1000;
	if (lim->stanza_rate && s->stanza_tokens < 0)
		wait = (uint64_t)-s->stanza_tokens / lim->stanza_rate + 1;
	if (lim->octet_rate && s->octet_tokens < 0 &&
	    (uint64_t)-s->octet_tokens / lim->octet_rate + 1 > wait)
		wait = (uint64_t)-s->octet_tokens / lim->octet_rate + 1;
	if (wait == 0)
		return false;
	count(s->w, CNT_LIMIT_RATE);
	s->throttled = true;
	loop_timer_set(s->w->loop, &s->timer, wait < RATE_PAUSE_MAX_MS ? wait : RATE_PAUSE_MAX_MS,
		       idle_timer);
	return true;
}

uint32_t stream_login_ms(const struct stream *s)
{
	uint64_t now = loop_now_ms(s->w->loop);

	return s->deadline_ms > now ? (uint32_t)(s->deadline_ms - now) : 1;
}

static void state_timer(struct loop_timer *t)
{
	struct stream *s = container_of(t, struct stream, timer);
	const struct fsm_def *def = s->f.def;
	uint8_t i = def->states[s->f.state].timeout;

	if (i != FSM_NO_TIMER)
		fsm_event(&s->f, def->timeouts[i].event, NULL);
}

void stream_arm(struct stream *s, uint32_t ms)
{
	if (ms)
		loop_timer_set(s->w->loop, &s->timer, ms, state_timer);
	else
		loop_timer_clear(&s->timer);
}

/* ---- headers
 * ------------------------------------------------------------------------------------- */

bool stream_version_ok(struct sl v)
{
	size_t dot = sl_find(v, '.', 0);
	uint64_t major, minor;

	return sl_to_u64(sl_sub(v, 0, dot), 1000000, &major) == 0 &&
	       sl_to_u64(sl_sub(v, dot + 1, v.n), 1000000, &minor) == 0 && major >= 1;
}

const char *stream_header_check(const struct stream *s, const struct xml_node *root,
				struct sl content_ns)
{
	struct sl version = xml_attr(root, SL("version"));

	if (!sl_eq(root->name, SL("stream")))
		return root->ns == NS_STREAM ? "bad-format" : "invalid-namespace";
	if (root->ns != NS_STREAM || !sl_eq(content_ns, s->kind->content_ns))
		return "invalid-namespace";
	if (!s->plain_header && !stream_version_ok(version))
		return "unsupported-version";
	return NULL;
}
