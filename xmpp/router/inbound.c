/* inbound.c - what a session sends: checked, stamped, put into custody, and routed in the order in
 * which it came.
 *
 * A message that must be committed before it is routed (CUST-4, CUST-5) is held, and everything of
 * the same session behind it: the queue `struct inbound` exists only then. It outlives its session:
 * what was taken is routed. */
#include "xmpp/router/router_int.h"

#include "appliance/base/clock.h"

#define HELD_STOP 1000u /* the session is told to stop reading */
#define HELD_GO   500u

struct held {
	struct list node;
	struct inbound *q;
	struct item it;
	struct custody *c; /* to be told when it is routed; NULL: nothing, or the row tells */
	bool ready, drop;
};

struct inbound {
	struct list node;  /* router->inbounds */
	struct list q;     /* struct held */
	struct session *s; /* NULL: it has ended */
	struct component *comp; /* whose stream has ended */
	struct worker *w;
	uint32_t n;
	bool stopped;
};

/* ---- routing one ----------------------------------------------------------------------------- */

static bool own_bare(const struct session *s, const struct jid *to)
{
	return jid_is_null(to) || (jid_is_bare(to) && sl_eq(to->bare, s->jid.bare));
}

static void iq_self(struct session *s, struct item *it)
{
	struct svc_ctx c = { .w = s->w, .user = s->user, .session = s };
	struct stanza *st = it->st;

	if (st->type == ST_GET || st->type == ST_SET) {
		if (service_iq(s->w->services, SVC_TO_SELF, &c, st) == SVC_PASS &&
		    service_iq(s->w->services, SVC_TO_ACCOUNT, &c, st) == SVC_PASS)
			route_error(s->w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
	}
	item_free(it);
}

static void presence_out(struct session *s, struct item *it)
{
	for (const struct service *const *svc = s->w->services->list; *svc; svc++)
		if ((*svc)->presence_out && (*svc)->presence_out(s, it->st) == SVC_HANDLED)
			break;
	item_free(it);
}

/* s: NULL when the session has ended meanwhile. */
static void forward(struct worker *w, struct session *s, struct item *it)
{
	bool client = s && s->user;

	if (client && it->st->kind == STANZA_PRESENCE)
		presence_out(s, it);
	else if (client && it->st->kind == STANZA_IQ && own_bare(s, &it->st->to))
		iq_self(s, it);
	else if (jid_is_null(&it->st->to))
		item_free(it); /* broadcast presence of a session that is gone, or a component's
				  mistake */
	else if (client)
		route_from(s->user, *it);
	else
		route_item(w, *it);
}

/* ---- holding --------------------------------------------------------------------------------- */

static struct inbound *queue_of(struct session *s)
{
	struct inbound *q = s->inbound;

	if (q)
		return q;
	q = calloc(1, sizeof(*q));
	if (!q)
		return NULL;
	q->s = s;
	q->w = s->w;
	list_init(&q->q);
	list_append(&s->w->router->inbounds, &q->node);
	s->inbound = q;
	return q;
}

static void flow(struct inbound *q)
{
	if (!q->s || !q->s->ops->flow)
		return;
	if (!q->stopped && q->n >= HELD_STOP) {
		q->stopped = true;
		q->s->ops->flow(q->s, true);
	} else if (q->stopped && q->n <= HELD_GO) {
		q->stopped = false;
		q->s->ops->flow(q->s, false);
	}
}

static void queue_drain(struct inbound *q)
{
	while (!list_empty(&q->q)) {
		struct held *h = LIST_ENTRY(q->q.next, struct held, node);

		if (!h->ready)
			break;
		list_remove(&h->node);
		q->n--;
		if (h->drop)
			item_free(&h->it);
		else
			forward(q->w, q->s, &h->it);
		if (h->c)
			h->c->done(h->c, 0);
		free(h);
	}
	flow(q);
	if (!list_empty(&q->q))
		return;
	if (q->s)
		q->s->inbound = NULL;
	if (q->comp)
		component_drained(q->comp);
	list_remove(&q->node);
	free(q);
}

static struct held *hold(struct session *s, struct item *it)
{
	struct inbound *q = queue_of(s);
	struct held *h = q ? calloc(1, sizeof(*h)) : NULL;

	if (!h)
		return NULL;
	h->q = q;
	h->it = *it;
	q->n++;
	list_append(&q->q, &h->node);
	flow(q);
	return h;
}

static void held_committed(struct mail_row *r, int rc, void *arg)
{
	struct held *h = arg;

	if (!h) /* was routed at once */
		return;
	h->ready = true;
	if (rc) {
		h->drop = true;
		if (!r->c) /* a sender without XEP-0198 learns it this way */
			route_error(r->w, r->st, SC_INTERNAL_SERVER_ERROR,
				    SL("the message could not be stored"));
	} else if (r->put.duplicate_r) {
		h->drop = true;
	} else {
		mail_row_unref(&h->it.row); /* committed: nothing to wait for */
	}
	queue_drain(h->q);
}

/* ---- custody --------------------------------------------------------------------------------- */

struct plan {
	bool row, hold;
	struct sl owner, origin;
	uint64_t expires_ms;
};

bool domain_has_custody(const struct worker *w, struct sl name)
{
	const struct domain *d = core_domain(w->cfg, name);

	return d && d->kind == DOMAIN_COMPONENT && d->custody;
}

/* CUST-1: does it get a row, and must it wait for it? */
static struct plan make_plan(struct session *s, const struct stanza *st, const struct custody *c)
{
	const struct core_limits *lim = &s->w->cfg->lim;
	const struct domain *d;
	struct plan p = { 0 };
	bool ours = !s->user && domain_has_custody(s->w, s->jid.domain), sm = c && c->sm_id.n;
	uint64_t life_s;

	if (st->kind != STANZA_MESSAGE || !(ours || stanza_promises(st)))
		return p;
	d = core_domain(s->w->cfg, st->to.domain);
	if (!d || (d->kind == DOMAIN_HOST && !st->to.local.n))
		return p;
	if (d->kind == DOMAIN_COMPONENT) {
		p.row = p.hold = sm || d->custody;
		p.owner = d->name;
		life_s = lim->component_expiry_s;
	} else {
		p.row = sm;
		p.owner = st->to.bare;
		life_s = lim->mail_expiry_s;
	}
	if (sm)
		p.origin = stanza_origin_id(st);
	p.hold = p.hold || (p.row && p.origin.n);
	p.expires_ms = life_s ? clock_wall_ms() + life_s * 1000 : 0;
	return p;
}

static void refuse_custody(struct session *s, struct item *it, struct custody *c)
{
	if (c)
		c->done(c, E_IO);
	else
		route_error(s->w, it->st, SC_RESOURCE_CONSTRAINT, SL_NULL);
	item_free(it);
}

static void take_custody(struct session *s, struct item *it, struct custody *c,
			 const struct plan *p)
{
	struct held *h = NULL;

	if (p->hold || s->inbound) {
		h = hold(s, it);
		if (!h) {
			refuse_custody(s, it, c);
			return;
		}
	}
	it->row = mail_row_write(s->w, it->st, p->owner, c, p->origin, p->expires_ms,
				 held_committed, p->hold ? h : NULL);
	if (!it->row && h) {
		h->ready = h->drop = true;
		if (c)
			c->done(c, E_IO);
		else
			route_error(s->w, it->st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		queue_drain(h->q);
	} else if (!it->row) {
		refuse_custody(s, it, c);
	} else if (h) {
		h->it.row = it->row;
		h->it.mail_id = it->row->put.id;
		h->ready = !p->hold;
	} else {
		it->mail_id = it->row->put.id;
		forward(s->w, s, it);
	}
}

static void no_custody(struct session *s, struct item *it, struct custody *c)
{
	struct held *h;

	if (!s->inbound) {
		forward(s->w, s, it);
		if (c)
			c->done(c, 0);
		return;
	}
	h = hold(s, it);
	if (!h) {
		refuse_custody(s, it, c);
		return;
	}
	h->c = c;
	h->ready = true;
}

/* ---- what comes from the access layer -------------------------------------------------------- */

/* DELIV-4: what RFC 6120 8 asks of a stanza. */
static bool well_formed(const struct stanza *st)
{
	struct xml_node *child;

	if (st->kind == STANZA_PRESENCE)
		return st->type != ST_UNKNOWN;
	if (st->kind != STANZA_IQ)
		return true;
	if (st->type == ST_UNKNOWN || st->type == ST_NONE || !st->id.n)
		return false;
	if (st->type != ST_GET && st->type != ST_SET)
		return true;
	child = xml_first_element(st->root);
	return child && !xml_next_element(child);
}

static int stamp(struct session *s, struct stanza *st)
{
	struct jid bare;
	int rc;

	if (!s->user)
		return 0;
	rc = stanza_set_from(st, &s->jid);
	if (rc || st->kind != STANZA_MESSAGE || !jid_is_null(&st->to))
		return rc;
	bare = jid_split(s->jid.bare); /* RFC 6120 10.3.1 */
	return stanza_set_to(st, &bare);
}

/* CUST-8: only we stamp custody ids. One that a peer made up would pass for ours at the component,
 * which drops what comes twice under one id. */
static void strip_custody(struct stanza *st)
{
	struct xml_node *n;

	while ((n = xml_child(st->root, NS_CUSTODY, SL_NULL)))
		xml_unlink(n);
}

/* Answered with an error, which settles it. */
static void refuse(struct session *s, struct item *it, struct custody *c, enum stanza_cond cond,
		   struct sl text)
{
	route_error(s->w, it->st, cond, text);
	item_free(it);
	if (c)
		c->done(c, 0);
}

/* DELIV-12: short forms (a quote, a prefix) are long when we write them, and no output, journal or
 * translator has to cope with more than the largest stanza. */
static bool fits(const struct session *s, const struct stanza *st)
{
	const struct core_limits *lim = &s->w->cfg->lim;
	bool ours = !s->user && domain_has_custody(s->w, s->jid.domain);

	return stanza_wire_max(st, NULL, NULL, SL_NULL) <=
	       (ours ? lim->own : lim->component).stanza_octets;
}

void inbound_ready(struct session *s, struct stanza *st, struct custody *c)
{
	struct item it = { .st = st };
	struct plan p;
	int rc;

	strip_custody(st);
	rc = stamp(s, st);
	if (rc == 0)
		rc = stanza_seal(st);
	if (rc == E_TOOBIG || (rc == 0 && !fits(s, st))) {
		count(s->w, CNT_LIMIT_STANZA);
		refuse(s, &it, c, SC_POLICY_VIOLATION, SL("too large when it is written out"));
		return;
	}
	if (rc) {
		refuse_custody(s, &it, c);
		return;
	}
	if (!well_formed(st) || (jid_is_null(&st->to) && !s->user)) {
		refuse(s, &it, c, SC_BAD_REQUEST, SL_NULL);
		return;
	}
	p = make_plan(s, st, c);
	if (p.row)
		take_custody(s, &it, c, &p);
	else
		no_custody(s, &it, c);
}

void router_inbound(struct session *s, struct stanza *st, struct custody *c)
{
	if (s->user && !user_ready(s->user))
		user_wait_inbound(s, st, c);
	else
		inbound_ready(s, st, c);
}

void inbound_session_ended(struct session *s, struct component *c)
{
	if (!s->inbound)
		return;
	s->inbound->s = NULL;
	s->inbound->comp = c;
	s->inbound = NULL;
}

void inbound_close(struct router *r)
{
	struct list *n, *m;

	while ((n = list_pop(&r->inbounds))) {
		struct inbound *q = LIST_ENTRY(n, struct inbound, node);

		while ((m = list_pop(&q->q))) {
			item_free(&LIST_ENTRY(m, struct held, node)->it);
			free(LIST_ENTRY(m, struct held, node));
		}
		free(q);
	}
}
