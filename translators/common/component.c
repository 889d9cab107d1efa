/* component.c - see component.h. The row table is component_rows; what the rows do is below it. */
#include "translators/common/component.h"

#include <netdb.h>

#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/resolve.h"
#include "appliance/loop/tls.h"
#include "translators/common/component_int.h"
#include "translators/common/scram_client.h"

#define STREAM_NS_ACCEPT "jabber:component:accept"
#define BACKOFF_MIN_MS   200u
#define BACKOFF_MAX_MS   10000u
#define TCP_ACK_FIRST_MS 2u
#define TCP_ACK_POLL_MS  50u
#define ASK_AGAIN_MS     500u /* COMP-18 */

static void read_more(struct component *c);
static void tcp_acked(struct component *c);
static void stream_drop(struct component *c);

/* ---- actions --------------------------------------------------------------------------------- */

static const struct conn_ops conn_ops;
static const struct xml_stream_ops xml_ops;
static const struct xml_limits limits = {
	.stanza_octets = COMPONENT_STANZA_MAX, .depth = 1010, .attrs = 1010, .nodes = 65536
};

static void resolved(void *arg, int rc, const struct addrinfo *addr)
{
	struct component *c = arg;

	c->query = NULL;
	if (rc == 0)
		rc = conn_connect(c->loop, addr, 5000, &conn_ops, c, c->out_octets, &c->conn, NULL);
	if (rc < 0) {
		c->why = "cannot find the XMPP server";
		fsm_event(&c->fsm, EV_LOST, NULL);
	}
}

static int act_connect(void *self, const void *ev)
{
	struct component *c = self;
	struct err e = { 0 };

	UNUSED(ev);
	if (c->unix_path) {
		if (conn_connect_unix(c->loop, c->unix_path, &conn_ops, c, c->out_octets, &c->conn,
				      &e) == 0)
			return 0;
		c->why = "cannot connect to the core's socket";
		return -1;
	}
	c->query = resolve(c->resolver, c->host, c->port, resolved, c);
	return c->query ? 0 : -1;
}

static int act_open(void *self, const void *ev)
{
	UNUSED(ev);
	return component_open_stream(self);
}

static int act_restart(void *self, const void *ev)
{
	struct component *c = self;
	int rc = component_act_success(c, ev);

	if (rc < 0)
		return rc;
	xml_stream_restart(c->xml);
	return component_open_stream(c);
}

static int act_enable(void *self, const void *ev)
{
	struct component *c = self;
	const struct xml_node *streams =
		c->fsm.state == ST_ENABLE && ev ? xml_child(ev, NS_STREAMS, SL("streams")) : NULL;
	uint64_t max;

	c->streams = 1;
	if (sl_to_u64(xml_attr(streams, SL("max")), UINT8_MAX, &max) == 0 && max > 0)
		c->streams = (unsigned)max;
	return conn_write(c->conn, SL("<enable xmlns='urn:xmpp:sm:3'/>"));
}

static void on_tcp_ack_timer(struct loop_timer *t);

static int go_up(struct component *c, bool custody)
{
	c->custody = custody;
	c->was_up = true;
	c->backoff_ms = BACKOFF_MIN_MS;
	c->h = c->in_seq = c->acked = 0;
	log_ev(LOG_L_INFO, "component.up", KC("domain", c->domain),
	       KC("custody", custody ? "yes" : "no"));
	if (!custody)
		loop_timer_set(c->loop, &c->tcp_ack, TCP_ACK_POLL_MS, on_tcp_ack_timer);
	c->ops->on_up(c->arg, custody);
	return 0;
}

static int act_up_sm(void *self, const void *ev)
{
	UNUSED(ev);
	return go_up(self, true);
}

static int act_up_plain(void *self, const void *ev)
{
	UNUSED(ev);
	return go_up(self, false);
}

static int act_refused(void *self, const void *ev)
{
	struct component *c = self;

	UNUSED(ev);
	log_ev(LOG_L_ERROR, "component.refused", KC("domain", c->domain),
	       KC("hint", "check the component's domain and secret (tandemctl component list)"));
	c->why = "refused";
	return -1;
}

/* Whatever leads to BACKOFF or STOPPED - a loss, a time-out, an action that failed - ends the
 * stream here. */
static void entered(void *self, uint8_t from, uint8_t to)
{
	struct component *c = self;

	UNUSED(from);
	if (to == ST_STOPPED && c->conn)
		conn_write(c->conn, SL("</stream:stream>"));
	if (to == ST_BACKOFF || to == ST_STOPPED)
		stream_drop(c);
}

/* ---- the machine ------------------------------------------------------------------------------
 */

static const struct fsm_row component_rows[] = {
	/* state            event           next              guard act            spec      rearm
	 */
	{ ST_BACKOFF, EV_TIMEOUT, ST_CONNECTING, NULL, act_connect, "COMP-1", false },
	{ ST_BACKOFF, EV_RETRY, ST_CONNECTING, NULL, act_connect, "COMP-1", false },
	{ ST_CONNECTING, EV_CONNECTED, ST_TLS, component_tls_first, component_act_direct, "COMP-15",
	  false },
	{ ST_CONNECTING, EV_CONNECTED, ST_HEADER, NULL, act_open, "COMP-2", false },
	{ ST_TLS, EV_TLS_UP, ST_HEADER, NULL, act_open, "COMP-15", false },
	{ ST_HEADER, EV_HEADER_SASL, ST_FEATURES, NULL, NULL, "COMP-3", false },
	{ ST_HEADER, EV_HEADER_0114, ST_HANDSHAKE, component_may_0114, component_act_handshake,
	  "XEP-0114 2", false },
	{ ST_HEADER, EV_HEADER_0114, ST_BACKOFF, NULL, component_act_insecure, "COMP-16", false },
	{ ST_FEATURES, EV_FEATURES, ST_STARTTLS, component_wants_tls, component_act_starttls,
	  "COMP-15", false },
	{ ST_FEATURES, EV_FEATURES, ST_AUTH, component_can_auth, component_act_auth, "COMP-3",
	  false },
	{ ST_FEATURES, EV_FEATURES, ST_HANDSHAKE, component_may_0114, component_act_handshake,
	  "COMP-17", false },
	{ ST_FEATURES, EV_FEATURES, ST_BACKOFF, NULL, component_act_insecure, "COMP-16", false },
	{ ST_FEATURES, EV_TIMEOUT, ST_HANDSHAKE, component_may_0114, component_act_handshake,
	  "COMP-17", false },
	{ ST_STARTTLS, EV_PROCEED, ST_TLS, NULL, component_act_proceed, "COMP-15", false },
	{ ST_AUTH, EV_CHALLENGE, ST_AUTH, NULL, component_act_response, "COMP-3", true },
	{ ST_AUTH, EV_SUCCESS, ST_BIND_HEADER, NULL, act_restart, "COMP-3", false },
	{ ST_AUTH, EV_REFUSED, ST_BACKOFF, NULL, act_refused, "COMP-4", false },
	{ ST_BIND_HEADER, EV_HEADER_SASL, ST_BIND_FEATURES, NULL, NULL, "COMP-3", false },
	{ ST_BIND_FEATURES, EV_FEATURES, ST_ENABLE, NULL, act_enable, "XEP-0198 3", false },
	{ ST_HANDSHAKE, EV_HANDSHAKE, ST_ENABLE, NULL, act_enable, "COMP-5", false },
	{ ST_HANDSHAKE, EV_REFUSED, ST_BACKOFF, NULL, act_refused, "COMP-4", false },
	{ ST_ENABLE, EV_ENABLED, ST_UP, NULL, act_up_sm, "XEP-0198 3", false },
	{ ST_ENABLE, EV_NO_SM, ST_UP, NULL, act_up_plain, "COMP-5", false },
	{ ST_ENABLE, EV_TIMEOUT, ST_UP, NULL, act_up_plain, "COMP-5", false },
	{ ST_BACKOFF, EV_LOST, ST_BACKOFF, NULL, NULL, "COMP-6", true },
	{ FSM_ANY, EV_LOST, ST_BACKOFF, NULL, NULL, "COMP-6", false },
	{ FSM_ANY, EV_TIMEOUT, ST_BACKOFF, NULL, NULL, "COMP-7", false },
	{ FSM_ANY, EV_STOP, ST_STOPPED, NULL, NULL, "COMP-8", false },
};

enum { T_BACKOFF, T_CONNECT, T_STEP, T_FEATURES, T_ENABLE };

static const struct fsm_timeout component_timeouts[] = {
	[T_BACKOFF] = { "component_backoff", BACKOFF_MIN_MS, 1, BACKOFF_MAX_MS * 2, EV_TIMEOUT,
			"COMP-1" },
	[T_CONNECT] = { "component_connect", 15000, 1000, 120000, EV_TIMEOUT, "COMP-7" },
	[T_STEP] = { "component_step", 15000, 1000, 120000, EV_TIMEOUT, "COMP-7" },
	[T_FEATURES] = { "component_features", 3000, 100, 60000, EV_TIMEOUT, "COMP-17" },
	[T_ENABLE] = { "component_enable", 3000, 100, 60000, EV_TIMEOUT, "COMP-5" },
};

static const struct fsm_state component_states[] = {
	[ST_BACKOFF] = { "BACKOFF", false, T_BACKOFF },
	[ST_CONNECTING] = { "CONNECTING", false, T_CONNECT },
	[ST_TLS] = { "TLS", false, T_STEP },
	[ST_HEADER] = { "HEADER", false, T_STEP },
	[ST_FEATURES] = { "FEATURES", false, T_FEATURES },
	[ST_STARTTLS] = { "STARTTLS", false, T_STEP },
	[ST_AUTH] = { "AUTH", false, T_STEP },
	[ST_HANDSHAKE] = { "HANDSHAKE", false, T_STEP },
	[ST_BIND_HEADER] = { "BIND_HEADER", false, T_STEP },
	[ST_BIND_FEATURES] = { "BIND_FEATURES", false, T_STEP },
	[ST_ENABLE] = { "ENABLE", false, T_ENABLE },
	[ST_UP] = { "UP", false, FSM_NO_TIMER },
	[ST_STOPPED] = { "STOPPED", true, FSM_NO_TIMER },
};

static const char *const component_events[] = {
	[EV_RETRY] = "RETRY",
	[EV_CONNECTED] = "CONNECTED",
	[EV_TLS_UP] = "TLS_UP",
	[EV_HEADER_SASL] = "HEADER_SASL",
	[EV_HEADER_0114] = "HEADER_0114",
	[EV_FEATURES] = "FEATURES",
	[EV_PROCEED] = "PROCEED",
	[EV_CHALLENGE] = "CHALLENGE",
	[EV_SUCCESS] = "SUCCESS",
	[EV_REFUSED] = "REFUSED",
	[EV_HANDSHAKE] = "HANDSHAKE",
	[EV_ENABLED] = "ENABLED",
	[EV_NO_SM] = "NO_SM",
	[EV_LOST] = "LOST",
	[EV_TIMEOUT] = "TIMEOUT",
	[EV_STOP] = "STOP",
};

/* The server sent something that this state does not expect: drop the stream, try again. */
static void refuse(void *self, uint8_t state, uint8_t event)
{
	struct component *c = self;

	UNUSED(state);
	if (event != EV_RETRY && event != EV_STOP && c->conn)
		conn_kill(c->conn);
}

static void on_timer(struct loop_timer *t)
{
	struct component *c = container_of(t, struct component, timer);

	fsm_event(&c->fsm, EV_TIMEOUT, NULL);
}

static void arm(void *self, uint32_t ms)
{
	struct component *c = self;

	if (ms)
		loop_timer_set(c->loop, &c->timer, ms, on_timer);
	else
		loop_timer_clear(&c->timer);
}

/* The back-off doubles each time it is entered, with jitter of +-25 %. */
static uint32_t timeout_ms(const void *self, uint8_t i)
{
	const struct component *c = self;

	if (i != T_BACKOFF)
		return component_timeouts[i].def_ms;
	return c->backoff_ms - c->backoff_ms / 4 + (uint32_t)(rnd_u64() % (c->backoff_ms / 2 + 1));
}

static struct fsm_index *component_index;

const struct fsm_def component_fsm = {
	.name = "component_client",
	.states = component_states,
	.nstates = ARRAY_LEN(component_states),
	.events = component_events,
	.nevents = ARRAY_LEN(component_events),
	.rows = component_rows,
	.nrows = ARRAY_LEN(component_rows),
	.start = ST_BACKOFF,
	.fault = ST_BACKOFF,
	.timeouts = component_timeouts,
	.ntimeouts = ARRAY_LEN(component_timeouts),
	.refuse = refuse,
	.arm = arm,
	.timeout_ms = timeout_ms,
	.entered = entered,
	.index = &component_index,
};

/* ---- stream ------------------------------------------------------------------------------------
 */

/* COMP-19 */
static int put_index(const struct component *c, struct buf *out)
{
	if (!c->index)
		return 0;
	return buf_addf(out, "' xmlns:t='urn:tandem:streams:0' t:index='%u", (unsigned)c->index);
}

int component_open_stream(struct component *c)
{
	struct buf out;
	int rc = 0;

	if (!c->xml)
		rc = xml_stream_new(c->pool, &limits, &xml_ops, c, &c->xml);
	buf_init(&out, 4096);
	if (rc == 0)
		rc = buf_add(&out, SL("<?xml version='1.0'?><stream:stream xmlns='" STREAM_NS_ACCEPT
				      "' xmlns:stream='http://etherx.jabber.org/streams' to='"));
	if (rc == 0)
		rc = xml_write_escaped(&out, sl_cstr(c->domain));
	if (rc == 0)
		rc = put_index(c, &out);
	if (rc == 0)
		rc = buf_add(&out, c->unix_path || c->secure != COMPONENT_TLS_NEVER
					   ? SL("' version='1.0'>")
					   : SL("'>"));
	if (rc == 0)
		rc = conn_write(c->conn, buf_sl(&out));
	buf_free(&out);
	return rc;
}

/* Everything of the present stream goes; its stanzas are the owner's to send again. */
static void stream_drop(struct component *c)
{
	struct conn *conn = c->conn;

	c->stream++;
	c->conn = NULL;
	if (c->query) {
		resolve_cancel(c->query);
		c->query = NULL;
	}
	if (conn) {
		conn_set_ops(conn, &conn_ops, NULL);
		conn_close(conn, 1000);
	}
	scram_client_free(&c->scram);
	c->tls_due = false;
	c->paused = c->ack_due = c->request_due = c->request_out = false;
	loop_timer_clear(&c->tcp_ack);
	loop_task_clear(&c->ack_task);
	buf_free(&c->done);
	buf_free(&c->sent);
	c->backoff_ms = c->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : c->backoff_ms * 2;
	if (c->was_up) {
		c->was_up = false;
		log_ev(LOG_L_WARN, "component.down", KC("domain", c->domain),
		       KC("reason", c->why ? c->why : "closed"));
		c->ops->on_down(c->arg, c->why ? c->why : "closed");
	}
}

/* The parser cannot be freed inside its own callbacks: it goes when the next stream begins or at
 * the end. */
static void conn_connected(void *self)
{
	struct component *c = self;

	if (!c)
		return;
	xml_stream_free(&c->xml);
	c->why = NULL;
	fsm_event(&c->fsm, EV_CONNECTED, NULL);
}

static void conn_tls(void *self)
{
	struct component *c = self;

	if (!c)
		return;
	xml_stream_free(&c->xml);
	fsm_event(&c->fsm, EV_TLS_UP, NULL);
}

static void conn_data(void *self, struct sl data)
{
	struct component *c = self;
	struct err e = { 0 };
	struct conn *conn;

	if (!c || !c->xml)
		return;
	conn = c->conn;
	if (xml_stream_feed(c->xml, data, &e) < 0 && c->conn == conn && conn) {
		c->why = "bad XML from the server";
		conn_kill(conn);
	} else if (c->conn == conn) {
		read_more(c);
	}
}

/* Go on after a pause by the parser (restart after SASL, STARTTLS). */
static void read_more(struct component *c)
{
	struct err e = { 0 };

	if (c->tls_due) {
		c->tls_due = false;
		if (component_begin_tls(c) < 0)
			conn_kill(c->conn);
		return;
	}
	while (c->conn && c->xml && xml_stream_unread(c->xml)) {
		int rc = xml_stream_resume(c->xml, &e);
		if (rc == XML_PAUSE)
			continue;
		if (rc < 0 && c->conn)
			conn_kill(c->conn);
		return;
	}
}

static void conn_closed(void *self, const struct err *why)
{
	struct component *c = self;

	if (!c)
		return;
	if (c->fsm.state == ST_UP && !c->custody)
		tcp_acked(c); /* the last chance to ask */
	c->conn = NULL;
	if (why->code && !c->why)
		c->why = "connection lost";
	fsm_event(&c->fsm, EV_LOST, NULL);
}

static const struct conn_ops conn_ops = {
	.on_data = conn_data,
	.on_connected = conn_connected,
	.on_tls = conn_tls,
	.on_closed = conn_closed,
};

static int on_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct component *c = self;
	bool v1 = (c->unix_path || c->secure != COMPONENT_TLS_NEVER) &&
		  sl_eq(xml_attr(root, SL("version")), SL("1.0"));

	if (!sl_eq(content_ns, SL(STREAM_NS_ACCEPT)))
		return -1;
	free(c->id);
	c->id = sl_dup(xml_attr(root, SL("id")));
	if (!c->id)
		return -1;
	fsm_event(&c->fsm, v1 ? EV_HEADER_SASL : EV_HEADER_0114, NULL);
	return c->conn ? 0 : -1;
}

/* ---- XEP-0198 -----------------------------------------------------------------------------------
 */

static void flush_acks(struct loop_task *t)
{
	struct component *c = container_of(t, struct component, ack_task);
	char tmp[64];

	if (!c->conn || !c->custody)
		return;
	if (c->ack_due) {
		int n = snprintf(tmp, sizeof(tmp), "<a xmlns='urn:xmpp:sm:3' h='%u'/>", c->h);
		conn_write(c->conn, sl_mk(tmp, (size_t)n));
	}
	if (c->request_due && !c->request_out) {
		conn_write(c->conn, SL("<r xmlns='urn:xmpp:sm:3'/>"));
		c->request_out = true;
		c->request_due = false;
	}
	c->ack_due = false;
}

/* The server has answered without news, and was silent since. */
static void on_ask_timer(struct loop_timer *t)
{
	struct component *c = container_of(t, struct component, tcp_ack);

	if (!c->conn || !c->sent.n || c->request_out)
		return;
	c->request_due = true;
	loop_defer(c->loop, &c->ack_task, flush_acks);
}

static int take_ack(struct component *c, const struct xml_node *n)
{
	uint64_t h;

	if (sl_to_u64(xml_attr(n, SL("h")), UINT32_MAX, &h) < 0)
		return -1;
	uint32_t covered = (uint32_t)h - c->acked;
	if (covered > c->sent.n / sizeof(struct sent)) {
		c->why = "the server acknowledged more than was sent";
		return -1;
	}
	c->request_out = false;
	uint32_t stream = c->stream;
	for (uint32_t i = 0; i < covered && c->stream == stream; i++) {
		struct sent s;
		memcpy(&s, buf_sl(&c->sent).p, sizeof(s));
		buf_consume(&c->sent, sizeof(s));
		c->acked++;
		if (s.cookie)
			c->ops->on_acked(c->arg, s.cookie);
	}
	/* Our core sends <a/> unasked when it has stored what we asked about (CUST-3). Asking again
	 * at once would go round in circles for as long as a commit takes. */
	if (c->stream == stream && c->sent.n) {
		if (covered)
			c->request_due = true;
		else
			loop_timer_set(c->loop, &c->tcp_ack, ASK_AGAIN_MS, on_ask_timer);
	}
	if (c->request_due)
		loop_defer(c->loop, &c->ack_task, flush_acks);
	return 0;
}

/* Without XEP-0198: what the peer's TCP has is delivered, as far as one can know. */
static void tcp_acked(struct component *c)
{
	uint32_t stream = c->stream;
	struct sent s;

	if (!c->sent.n || !conn_output_acked(c->conn))
		return;
	while (c->stream == stream && c->sent.n) {
		memcpy(&s, buf_sl(&c->sent).p, sizeof(s));
		buf_consume(&c->sent, sizeof(s));
		if (s.cookie)
			c->ops->on_acked(c->arg, s.cookie);
	}
}

static void on_tcp_ack_timer(struct loop_timer *t)
{
	struct component *c = container_of(t, struct component, tcp_ack);
	uint32_t stream = c->stream;

	if (!c->conn)
		return;
	tcp_acked(c);
	if (c->stream == stream && c->conn)
		loop_timer_set(c->loop, t, TCP_ACK_POLL_MS, on_tcp_ack_timer);
}

static int on_sm_element(struct component *c, const struct xml_node *n)
{
	if (c->fsm.state == ST_ENABLE) {
		bool on = sl_eq(n->name, SL("enabled"));
		fsm_event(&c->fsm, on ? EV_ENABLED : EV_NO_SM, NULL);
		return c->conn ? 0 : -1;
	}
	if (!c->custody)
		return 0;
	if (sl_eq(n->name, SL("r"))) {
		c->ack_due = true;
		loop_defer(c->loop, &c->ack_task, flush_acks);
		return 0;
	}
	return sl_eq(n->name, SL("a")) ? take_ack(c, n) : 0;
}

static int on_stanza(struct component *c, struct arena *a, struct xml_node *n)
{
	struct stanza *st = NULL;
	bool jid_bad = false;
	struct err e = { 0 };

	if (c->fsm.state != ST_UP || stanza_take(a, n, &st, &jid_bad, &e) < 0) {
		arena_free(&a);
		c->why = "unexpected element from the server";
		return -1;
	}
	c->in_seq++;
	struct component_ticket t = { c->stream, c->in_seq, c->index };
	if (c->custody && buf_addc(&c->done, 0) < 0) {
		stanza_unref(&st);
		return -1;
	}
	if (jid_bad) {
		stanza_unref(&st);
		component_done(c, t);
		return 0;
	}
	if (c->custody && c->done.n >= c->inflight_max && !c->paused) {
		c->paused = true;
		conn_read_pause(c->conn);
	}
	uint32_t stream = c->stream;
	c->ops->on_stanza(c->arg, st, t);
	return c->stream == stream && c->conn ? 0 : -1;
}

/* The event of an element before the stream is established; false: it has none. */
static bool event_of(const struct component *c, const struct xml_node *n, uint8_t *event_r)
{
	if (xml_is(n, NS_STANZA, SL("handshake")))
		*event_r = EV_HANDSHAKE;
	else if (xml_is(n, NS_STREAM, SL("features")))
		*event_r = EV_FEATURES;
	else if (xml_is(n, NS_STREAM, SL("error")))
		*event_r = c->fsm.state == ST_HANDSHAKE ? EV_REFUSED : EV_LOST;
	else if (n->ns == NS_TLS)
		*event_r = sl_eq(n->name, SL("proceed")) ? EV_PROCEED : EV_LOST;
	else if (xml_is(n, NS_SASL, SL("challenge")))
		*event_r = EV_CHALLENGE;
	else if (n->ns == NS_SASL)
		*event_r = sl_eq(n->name, SL("success")) ? EV_SUCCESS : EV_REFUSED;
	else
		return false;
	return true;
}

static int on_element(void *self, struct arena *a, struct xml_node *n)
{
	struct component *c = self;
	bool stop;
	uint8_t event = 0;
	int rc = 0;

	if (event_of(c, n, &event)) {
		stop = event == EV_SUCCESS || event == EV_PROCEED;
		fsm_event(&c->fsm, event, n);
		rc = !c->conn ? -1 : stop ? XML_PAUSE : 0;
	} else if (n->ns == NS_STANZA) {
		return on_stanza(c, a, n);
	} else if (n->ns == NS_SM) {
		rc = on_sm_element(c, n);
	}
	arena_free(&a);
	return rc;
}

static void on_close(void *self)
{
	struct component *c = self;

	if (c->conn)
		conn_kill(c->conn);
}

static const struct xml_stream_ops xml_ops = { on_open, on_element, on_close };

void component_done(struct component *c, struct component_ticket t)
{
	if (t.stream != c->stream || !c->custody || !c->conn)
		return;
	uint32_t i = t.seq - c->h - 1;
	if (i >= c->done.n)
		return;
	c->done.p[c->done.off + i] = 1;
	if (i)
		return;
	uint32_t n = 0;
	while (n < c->done.n && c->done.p[c->done.off + n])
		n++;
	buf_consume(&c->done, n);
	c->h += n;
	c->ack_due = true;
	loop_defer(c->loop, &c->ack_task, flush_acks);
	if (c->paused && c->done.n < c->inflight_max / 2) {
		c->paused = false;
		conn_read_resume(c->conn);
	}
}

void component_again(struct component *c, struct component_ticket t)
{
	if (t.stream != c->stream || !c->conn)
		return;
	c->why = "a stanza could not be taken";
	conn_kill(c->conn);
}

int component_send(struct component *c, struct sl xml, uint64_t cookie)
{
	struct sent s = { cookie };

	if (c->fsm.state != ST_UP || !c->conn)
		return E_STATE;
	if (buf_add(&c->sent, sl_mk((const char *)&s, sizeof(s))) < 0 ||
	    conn_write(c->conn, xml) < 0) {
		c->why = "the server does not read";
		conn_kill(c->conn);
		return E_LIMIT;
	}
	/* The sooner it is known, the less comes twice after a loss. */
	if (!c->custody && c->sent.n == sizeof(s))
		loop_timer_set(c->loop, &c->tcp_ack, TCP_ACK_FIRST_MS, on_tcp_ack_timer);
	if (c->custody && !c->request_out) {
		c->request_due = true;
		loop_defer(c->loop, &c->ack_task, flush_acks);
	}
	return 0;
}

/* ---- life
 * ---------------------------------------------------------------------------------------- */

static int copy_cfg(struct component *c, const struct component_cfg *cfg)
{
	c->domain = sl_dup(cfg->domain);
	c->unix_path = cfg->unix_path.n ? sl_dup(cfg->unix_path) : NULL;
	c->host = sl_dup(cfg->host);
	c->port = cfg->port;
	c->index = cfg->index;
	c->secure = cfg->secure;
	c->tls_ctx = cfg->tls_ctx ? tls_ctx_ref(cfg->tls_ctx) : NULL;
	c->tls_verified = cfg->tls_verified;
	c->out_octets = cfg->out_octets ? cfg->out_octets : COMPONENT_STANZA_MAX + (4u << 20);
	c->inflight_max = cfg->inflight_max ? cfg->inflight_max : 4096;
	if (!c->domain || !c->host || (cfg->unix_path.n && !c->unix_path) ||
	    secret_set(&c->secret, cfg->secret) < 0)
		return E_NOMEM;
	return 0;
}

int component_new(struct loop *l, struct resolver *r, const struct component_cfg *cfg,
		  const struct component_ops *ops, void *arg, struct component **c_r, struct err *e)
{
	struct component *c = calloc(1, sizeof(*c));
	int rc = fsm_def_prepare(&component_fsm, e);

	if (!c)
		return err_set(e, E_NOMEM, NULL, "out of memory");
	c->loop = l;
	c->resolver = r;
	c->ops = ops;
	c->arg = arg;
	c->backoff_ms = BACKOFF_MIN_MS / 2;
	buf_init(&c->done, 1u << 20);
	buf_init(&c->sent, 64u << 20);
	if (rc == 0)
		rc = copy_cfg(c, cfg);
	if (rc == 0)
		rc = xml_pool_new(&c->pool, 1);
	fsm_init(&c->fsm, &component_fsm);
	c->backoff_ms =
		BACKOFF_MIN_MS; /* COMP-1: after the first loss; the start waited for half of it */
	if (rc < 0) {
		component_free(&c);
		return rc;
	}
	*c_r = c;
	return 0;
}

void component_free(struct component **cp)
{
	struct component *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	c->was_up = false;
	if (c->fsm.def)
		fsm_event(&c->fsm, EV_STOP, NULL);
	xml_stream_free(&c->xml);
	xml_pool_free(&c->pool);
	loop_timer_clear(&c->timer);
	free(c->domain);
	free(c->unix_path);
	free(c->host);
	free(c->id);
	tls_ctx_unref(&c->tls_ctx);
	secret_clear(&c->secret);
	free(c);
}

bool component_is_up(const struct component *c)
{
	return c->fsm.state == ST_UP;
}

bool component_has_room(const struct component *c)
{
	return c->conn && conn_output_octets(c->conn) < c->out_octets / 4;
}

const char *component_state(const struct component *c)
{
	return fsm_state_name(&c->fsm);
}

unsigned component_streams(const struct component *c)
{
	return c->streams ? c->streams : 1;
}
