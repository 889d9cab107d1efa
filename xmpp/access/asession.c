/* asession.c - see asession.h. The machine of a session, its ring of what is not acknowledged, and
 * what the router calls. */
#include "xmpp/access/asession.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "xmpp/access/stream.h"
#include "xmpp/access/trace.h"

#define RING_MIN         8u
#define RING_KEEP        64u /* a larger ring is given back when it is empty */
#define UNACKED_FIRST_MS 2u
#define UNACKED_POLL_MS  25u
#define PLACES_MAX \
	2000u /* stanzas of one session that wait for their commit before its stream is not read \
	       */

/* Memory of what is not acknowledged, beside the number of stanzas: a few of the largest are as
 * much as thousands of usual ones. More than a pager has under way (PAGER_OCTETS) and one stanza;
 * four times what may wait in the output; and this much for each stanza of sm_queue. */
#define RING_OCTETS        (16u << 20)
#define RING_STANZA_OCTETS 4096u
#define RING_COMP_OCTETS   (64u << 20)

static const struct session_ops as_ops;

/* ---- the ring ---- */

struct as_entry *as_entry(const struct asession *as, uint32_t i)
{
	return &as->ring[(as->head + i) & (as->cap - 1)];
}

static bool ring_grow(struct asession *as)
{
	uint32_t cap = as->cap ? as->cap * 2 : RING_MIN;
	struct as_entry *ring = malloc(cap * sizeof(*ring));

	if (!ring)
		return false;
	for (uint32_t i = 0; i < as->n; i++)
		ring[i] = *as_entry(as, i);
	free(as->ring);
	as->ring = ring;
	as->head = 0;
	as->cap = cap;
	return true;
}

static void ring_shrink(struct asession *as)
{
	if (as->n || as->cap <= RING_KEEP)
		return;
	free(as->ring);
	as->ring = NULL;
	as->head = as->cap = 0;
}

static bool ring_full(const struct asession *as)
{
	const struct core_limits *lim = &as->cfg->lim;

	if (as->is_component)
		return as->octets > RING_COMP_OCTETS;
	return (as->sm && as->n > lim->sm_queue) ||
	       as->octets > RING_OCTETS + 4 * lim->out_octets +
				    (size_t)lim->sm_queue * RING_STANZA_OCTETS;
}

/* The oldest leaves the ring. */
static struct as_entry ring_pop(struct asession *as)
{
	struct as_entry e = *as_entry(as, 0);

	as->head = (as->head + 1) & (as->cap - 1);
	as->n--;
	as->octets -= e.octets;
	return e;
}

/* Without memory the session ends (AS_TODO_QUEUE) and this one goes back at once. */
static void ring_push(struct asession *as, struct stanza *st, struct sl extra, struct mail *m)
{
	struct as_entry *e;
	struct as_extra *x = NULL;

	if (m)
		mail_hold(m);
	if (as->n == as->cap && !ring_grow(as)) {
		as_todo(as, AS_TODO_QUEUE);
		session_undelivered(&as->s, st, m);
		return;
	}
	if (extra.n && (x = malloc(sizeof(*x) + extra.n))) {
		x->n = extra.n;
		memcpy(x->p, extra.p, extra.n);
	}
	e = as_entry(as, as->n++);
	*e = (struct as_entry){
		.st = stanza_ref(st), .m = m, .extra = x, .octets = (uint32_t)stanza_memory(st)
	};
	as->octets += e->octets;
	if ((extra.n && !x) || ring_full(as))
		as_todo(as, AS_TODO_QUEUE);
}

static void entry_free(struct as_entry *e)
{
	stanza_unref(&e->st);
	free(e->extra);
}

void as_acked(struct asession *as, uint32_t n)
{
	struct as_entry e;

	if (n > as->n)
		n = as->n;
	while (n--) {
		e = ring_pop(as);
		if (e.m)
			mail_acked(as->aw->w, e.m);
		entry_free(&e);
	}
	ring_shrink(as);
}

/* What the peer did not get goes back to the router, oldest first. */
static void hand_back(struct asession *as)
{
	struct as_entry e;

	while (as->n) {
		e = ring_pop(as);
		session_undelivered(&as->s, e.st, e.m);
		entry_free(&e);
	}
}

/* ---- acknowledgement by TCP (sessions without XEP-0198) ---- */

static uint32_t written(const struct asession *as)
{
	return as->n > as->unwritten ? as->n - as->unwritten : 0;
}

/* A stream that never rests is acknowledged too: what was written when the output is empty lies
 * before the octet that was handed over last. */
static void tcp_progress(struct asession *as, struct conn *c)
{
	for (unsigned i = 0; i < 2; i++) {
		if (as->marked && conn_sent_octets(c) - conn_unacked_octets(c) >= as->mark_octets) {
			as->marked = false;
			as_acked(as, as->mark_n);
		}
		if (as->marked || written(as) == 0 || conn_output_octets(c))
			return;
		as->marked = true;
		as->mark_n = written(as);
		as->mark_octets = conn_sent_octets(c);
	}
}

/* Entries from before XEP-0198 was enabled, and of sessions without it. */
static bool tcp_watched(struct asession *as)
{
	struct conn *c = as->stream ? as->stream->conn : NULL;

	if (!c)
		return true;
	if (as->sm) {
		if (!conn_output_acked(c))
			return true;
		as_acked(as, as->sm->before);
		as->sm->before = 0;
		return false;
	}
	tcp_progress(as, c);
	return as->n > 0;
}

static void unacked_poll(struct loop_timer *t)
{
	struct access_worker *aw = container_of(t, struct access_worker, unacked_timer);

	LIST_FOREACH(it, tmp, &aw->unacked) {
		struct asession *as = LIST_ENTRY(it, struct asession, unacked_node);

		if (!tcp_watched(as))
			list_remove(&as->unacked_node);
	}
	if (!list_empty(&aw->unacked))
		loop_timer_set(aw->w->loop, t, UNACKED_POLL_MS, unacked_poll);
}

static void watch(struct asession *as, bool has_row)
{
	struct access_worker *aw = as->aw;

	if (list_linked(&as->unacked_node))
		return;
	list_append(&aw->unacked, &as->unacked_node);
	/* Near peers have it in a moment: the sooner a row goes, the less comes twice after a
	 * reset. */
	if (!loop_timer_armed(&aw->unacked_timer))
		loop_timer_set(aw->w->loop, &aw->unacked_timer,
			       has_row ? UNACKED_FIRST_MS : UNACKED_POLL_MS, unacked_poll);
}

/* ---- what the router calls ---- */

bool as_write(struct asession *as, struct stanza *st, struct sl extra)
{
	struct conn *c = as->stream ? as->stream->conn : NULL;
	size_t max = stanza_wire_max(st, NULL, NULL, extra);
	char *p;

	if (!c || (as->todo & (AS_TODO_OVERFLOW | AS_TODO_CLOSE)))
		return false;
	p = as->unwritten ? NULL : conn_write_reserve_hard(c, max);
	if (p)
		conn_write_commit(c, stanza_wire_put(st, NULL, NULL, extra, p));
	else if (as->is_component && as->sm)
		as->unwritten++; /* it is in the ring: as_drained goes on */
	else
		as_todo(as, AS_TODO_OVERFLOW);
	return p != NULL;
}

void as_drained(struct asession *as)
{
	uint32_t n = as->unwritten;

	as->unwritten = 0;
	for (; n && !as->unwritten; n--) {
		struct as_entry *e = as_entry(as, as->n - n);

		as_write(as, e->st, e->extra ? sl_mk(e->extra->p, e->extra->n) : SL_NULL);
	}
	as->unwritten += n;
}

static void deliver(struct session *s, struct stanza *st, struct sl extra, struct mail *m)
{
	struct asession *as = container_of(s, struct asession, s);
	bool watched = false;

	count(as->aw->w, CNT_STANZAS_OUT);
	if (as->aw->w->trace)
		trace_stanza(as->aw->w, "out", &as->s.jid, st);
	if (as->sm) {
		ring_push(as, st, extra, m);
		as->sm->unrequested++;
		as_todo(as, AS_TODO_REQUEST);
	} else if (m || stanza_promises(st)) {
		ring_push(as, st, extra, m);
		watch(as, m != NULL);
		watched = true;
	}
	/* What could not be written, TCP does not acknowledge: its stream ends. */
	if (!as_write(as, st, extra) && watched)
		as->unwritten++;
}

static void close_asked(struct session *s, const char *stream_error, struct sl text)
{
	struct asession *as = container_of(s, struct asession, s);

	if (as->todo & AS_TODO_CLOSE)
		return;
	as->end_error = stream_error;
	free(as->end_text);
	as->end_text = text.n ? sl_dup(text) : NULL;
	as_todo(as, AS_TODO_CLOSE);
}

static void flow(struct session *s, bool stop)
{
	struct asession *as = container_of(s, struct asession, s);

	as->held = stop;
	if (!stop)
		as_todo(as, AS_TODO_FLOW);
}

static void describe(const struct session *s, struct buf *json)
{
	const struct asession *as = container_of(s, const struct asession, s);
	const struct conn *c = as->stream ? as->stream->conn : NULL;
	struct conn_tls_info info;
	char peer[CONN_ADDR_MAX] = "";

	if (c)
		conn_peer_text(c, peer);
	buf_addf(json,
		 "\"peer\": \"%s\", \"mechanism\": \"%s\", \"tls\": \"%s\", \"sm\": %s, "
		 "\"queue\": %u, \"attached\": %s",
		 peer, as->mechanism ? as->mechanism : "",
		 c && conn_is_tls(c) && conn_tls_info(c, &info) == 0 ? info.version : "",
		 as->sm ? "true" : "false", as->n, c ? "true" : "false");
}

static const struct session_ops as_ops = {
	.deliver = deliver, .close = close_asked, .flow = flow, .describe = describe
};

/* ---- end of turn ---- */

/* The connection does not take more: with resumption the client may come back for it. */
static void overflowed(struct asession *as)
{
	struct stream *s = as->stream;

	count(as->aw->w, CNT_LIMIT_OUTPUT);
	if (as->sm && as->sm->resume_s && s && s->conn)
		conn_kill(s->conn);
	else if (s)
		s->kind->end(s, "policy-violation", SL("you do not read what is sent to you"));
}

static void run_todo(struct loop_task *t)
{
	struct asession *as = container_of(t, struct asession, task);
	struct stream *s = as->stream;
	uint8_t todo = as->todo;
	const char *error = NULL;
	struct sl text = SL_NULL;

	as->todo = 0;
	if (todo & AS_TODO_CLOSE) {
		error = as->end_error;
		text = sl_cstr(as->end_text);
	} else if (todo & AS_TODO_UNSTORED) {
		error = "internal-server-error";
		text = SL("your messages cannot be stored");
	} else if (todo & AS_TODO_QUEUE) {
		count(as->aw->w, CNT_LIMIT_OUTPUT);
		error = "policy-violation";
		text = SL("too many stanzas wait for your acknowledgement");
	} else if (todo & AS_TODO_OVERFLOW) {
		overflowed(as);
		return;
	} else {
		if (as->sm)
			sm_turn(as, todo);
		if (s && s->paused && !s->throttled && !as_congested(as))
			stream_resume_input(s);
		return;
	}
	as->broken = error != NULL;
	if (s)
		s->kind->end(s, error, text);
	else
		fsm_event(&as->f, AS_EV_END, NULL);
}

void as_todo(struct asession *as, uint8_t what)
{
	as->todo |= what;
	loop_defer(as->aw->w->loop, &as->task, run_todo);
}

/* ---- the machine ---- */

static struct asession *self_of(void *self)
{
	return self;
}

static void timer_fired(struct loop_timer *t)
{
	struct asession *as = container_of(t, struct asession, timer);

	if (as->f.state == AS_DETACHED)
		fsm_event(&as->f, AS_EV_EXPIRED, NULL);
	else
		sm_timer(as);
}

static int tell_bound(struct asession *as, int rc)
{
	struct stream *s = as->stream;

	if (rc != 0 && s)
		s->as = NULL;
	if (s && as->bound)
		as->bound(s, rc);
	return 0;
}

static int act_bound(void *self, const void *ev)
{
	UNUSED(ev);
	return tell_bound(self_of(self), 0);
}

static int act_refused(void *self, const void *ev)
{
	struct asession *as = self;

	UNUSED(ev);
	tell_bound(as, -(int)as->bind_rc);
	return 0;
}

static void stop_io(struct asession *as)
{
	if (as->stream)
		as->stream->as = NULL;
	as->stream = NULL;
	list_remove(&as->unacked_node);
	loop_task_clear(&as->task);
	loop_timer_clear(&as->timer);
	as->todo = 0;
}

void as_note_acked(struct asession *as)
{
	if (!as->sm && as->n && as->stream && as->stream->conn)
		tcp_progress(as, as->stream->conn);
}

/* Gone for good. What TCP has acknowledged by now counts as delivered. */
static int act_end(void *self, const void *ev)
{
	struct asession *as = self;
	struct stream *s = as->stream;

	UNUSED(ev);
	if (s && s->conn)
		conn_flush(s->conn);
	as_note_acked(as);
	stop_io(as);
	if (as->sm)
		sm_end(as, as->broken);
	hand_back(as);
	if (as->is_component)
		component_detach(&as->s);
	else
		session_ended(&as->s);
	return 0;
}

static bool resumes(const void *self, const void *ev)
{
	const struct asession *as = self;

	UNUSED(ev);
	return as->sm && as->sm->resume_s && !as->broken && !as->aw->stopping &&
	       !(as->todo & (AS_TODO_CLOSE | AS_TODO_QUEUE | AS_TODO_UNSTORED));
}

static int act_detach(void *self, const void *ev)
{
	struct asession *as = self;

	UNUSED(ev);
	stop_io(as);
	as->sm->r_out = false;
	sm_note_h(as);
	as->aw->ndetached++;
	count(as->aw->w, CNT_SM_DETACHED);
	loop_timer_set(as->aw->w->loop, &as->timer, (uint64_t)as->sm->resume_s * 1000, timer_fired);
	log_ev(LOG_L_INFO, "session.detached", KS("jid", as->s.jid.full), KU("queue", as->n));
	return 0;
}

static int act_expire(void *self, const void *ev)
{
	struct asession *as = self;

	count(as->aw->w, CNT_SM_EXPIRED);
	as->broken = true;
	return act_end(self, ev);
}

/* ev: the stream that takes over. */
static int act_resume(void *self, const void *ev)
{
	struct asession *as = self;
	struct stream *s = (struct stream *)(uintptr_t)ev, *old = as->stream;

	if (old) {
		old->as = NULL;
		as->stream = NULL;
		old->kind->end(old, "conflict", SL("resumed by another connection"));
	}
	loop_timer_clear(&as->timer);
	as->unwritten = 0;
	as->stream = s;
	s->as = as;
	core_config_unref(as->cfg);
	as->cfg = core_config_ref(s->cfg);
	count(as->aw->w, CNT_SM_RESUMED);
	return 0;
}

static void entered(void *self, uint8_t from, uint8_t to)
{
	struct asession *as = self;

	UNUSED(to);
	if (from == AS_DETACHED)
		as->aw->ndetached--;
}

static void refuse(void *self, uint8_t state, uint8_t event)
{
	struct asession *as = self;

	log_ev(LOG_L_WARN, "session.refused", KS("jid", as->s.jid.full),
	       KC("state", as_fsm.states[state].name), KC("event", as_fsm.events[event]));
}

static void done(void *self)
{
	struct asession *as = self;

	stop_io(as);
	list_remove(&as->node);
	as->aw->nsessions--;
	free(as->ring);
	free(as->end_text);
	core_config_unref(as->cfg);
	free(as);
}

static const struct fsm_state as_states[AS_STATES] = {
	[AS_BINDING] = { "BINDING", false, FSM_NO_TIMER },
	[AS_ATTACHED] = { "ATTACHED", false, FSM_NO_TIMER },
	[AS_DETACHED] = { "DETACHED", false, FSM_NO_TIMER },
	[AS_ENDED] = { "ENDED", true, FSM_NO_TIMER },
};

static const char *const as_events[AS_EVENTS] = {
	[AS_EV_BOUND] = "BOUND",     [AS_EV_REFUSED] = "REFUSED", [AS_EV_LOST] = "LOST",
	[AS_EV_RESUMED] = "RESUMED", [AS_EV_EXPIRED] = "EXPIRED", [AS_EV_END] = "END",
};

/* clang-format off */
static const struct fsm_row as_rows[] = {
	/* state       event          next         guard    act          spec */
	{ AS_BINDING,  AS_EV_BOUND,   AS_ATTACHED, NULL,    act_bound,   "RFC 6120 7.6.1", false },
	{ AS_BINDING,  AS_EV_REFUSED, AS_ENDED,    NULL,    act_refused, "RFC 6120 7.6.2", false },
	{ AS_BINDING,  AS_EV_LOST,    AS_ENDED,    NULL,    act_end,     "RFC 6120 7.1", false },
	{ AS_BINDING,  AS_EV_END,     AS_ENDED,    NULL,    act_end,     "RFC 6120 7.1", false },
	{ AS_ATTACHED, AS_EV_LOST,    AS_DETACHED, resumes, act_detach,  "XEP-0198 5", false },
	{ AS_ATTACHED, AS_EV_LOST,    AS_ENDED,    NULL,    act_end,     "CUST-7", false },
	{ AS_ATTACHED, AS_EV_END,     AS_ENDED,    NULL,    act_end,     "CUST-7", false },
	{ AS_ATTACHED, AS_EV_RESUMED, AS_ATTACHED, NULL,    act_resume,  "XEP-0198 5", false },
	{ AS_DETACHED, AS_EV_RESUMED, AS_ATTACHED, NULL,    act_resume,  "XEP-0198 5", false },
	{ AS_DETACHED, AS_EV_EXPIRED, AS_ENDED,    NULL,    act_expire,  "CUST-7", false },
	{ AS_DETACHED, AS_EV_END,     AS_ENDED,    NULL,    act_end,     "CUST-7", false },
};
/* clang-format on */

static struct fsm_index *as_index;

const struct fsm_def as_fsm = {
	.name = "session",
	.states = as_states,
	.nstates = AS_STATES,
	.events = as_events,
	.nevents = AS_EVENTS,
	.rows = as_rows,
	.nrows = ARRAY_LEN(as_rows),
	.start = AS_BINDING,
	.fault = AS_ENDED,
	.refuse = refuse,
	.entered = entered,
	.done = done,
	.index = &as_index,
};

/* ---- what streams call ---- */

int as_new(struct stream *s, struct sl jid, bool is_component, struct asession **as_r)
{
	struct access_worker *aw = access_of(s->w);
	struct asession *as = calloc(1, sizeof(*as) + jid.n + 1);

	if (!as)
		return E_NOMEM;
	memcpy(as->text, jid.p, jid.n);
	as->aw = aw;
	as->stream = s;
	as->cfg = core_config_ref(s->cfg);
	as->is_component = is_component;
	list_init(&as->unacked_node);
	list_append(&aw->sessions, &as->node);
	aw->nsessions++;
	as->s.ops = &as_ops;
	as->s.w = s->w;
	as->s.jid = jid_split(sl_mk(as->text, jid.n));
	as->s.epoch = worker_new_id(s->w);
	as->s.since_ms = clock_wall_ms();
	session_init(&as->s);
	fsm_init(&as->f, &as_fsm);
	s->as = as;
	*as_r = as;
	return 0;
}

static void router_bound(struct session *s, int rc)
{
	struct asession *as = container_of(s, struct asession, s);

	as->bind_rc = (uint8_t)-rc;
	fsm_event(&as->f, rc == 0 ? AS_EV_BOUND : AS_EV_REFUSED, NULL);
}

void as_bind(struct asession *as, void (*bound)(struct stream *s, int rc))
{
	as->bound = bound;
	if (as->is_component) {
		fsm_event(&as->f, AS_EV_BOUND, NULL);
		component_attach(&as->s);
	} else {
		session_bind(&as->s, router_bound);
	}
}

void as_lost(struct asession *as)
{
	fsm_event(&as->f, AS_EV_LOST, NULL);
}

void as_end(struct asession *as, enum as_end how)
{
	if (how == AS_END_BROKEN)
		as->broken = true;
	fsm_event(&as->f, AS_EV_END, NULL);
}

bool as_inbound(struct asession *as, struct stanza *st_take)
{
	struct custody *c = NULL;
	bool wait;

	count(as->aw->w, CNT_STANZAS_IN);
	if (as->aw->w->trace)
		trace_stanza(as->aw->w, "in", &as->s.jid, st_take);
	if (as->sm) {
		wait = stanza_promises(st_take) ||
		       (as->is_component && st_take->kind == STANZA_MESSAGE);
		if (sm_count(as, wait, &c) != 0) {
			stanza_unref(&st_take);
			return false;
		}
	}
	router_inbound(&as->s, st_take, c);
	return true;
}

const char *as_form_error(const struct stanza *st)
{
	const struct xml_node *first;

	if (st->kind == STANZA_PRESENCE)
		return st->type == ST_UNKNOWN ? "no such presence type" : NULL;
	if (st->kind != STANZA_IQ)
		return NULL;
	if (st->id.n == 0)
		return "an iq needs an id";
	if (st->type == ST_UNKNOWN || st->type == ST_NONE)
		return "no such iq type";
	if (st->type != ST_GET && st->type != ST_SET)
		return NULL;
	first = xml_first_element(st->root);
	return first && !xml_child_next(first, NS_NONE, SL_NULL) ? NULL
								 : "an iq has exactly one payload";
}

void as_reply(struct asession *as, struct stanza *st_take)
{
	if (stanza_seal(st_take) == 0)
		deliver(&as->s, st_take, SL_NULL, NULL);
	stanza_unref(&st_take);
}

bool as_congested(const struct asession *as)
{
	return as->held || (as->sm && as->sm->npending >= PLACES_MAX);
}
