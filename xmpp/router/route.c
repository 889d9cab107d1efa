/* route.c - where a stanza belongs: which worker, which kind of recipient (DELIV-1 to DELIV-3).
 *
 * What belongs to this worker goes through a ring that is emptied at the end of the turn: one order
 * for everything, no recursion, no allocation. What belongs to another goes by the bus. */
#include "xmpp/router/router_int.h"

#include "appliance/base/log.h"

#define RING_FIRST 256u

struct stanza_msg {
	struct bus_msg m;
	struct item it;
};

static void dispatch(struct worker *w, struct routed *r)
{
	if (r->it.st->kind == STANZA_MESSAGE)
		count(w, CNT_MESSAGES_ROUTED);
	switch (r->kind) {
	case ROUTE_ACCOUNT:
		user_item(w, &r->it);
		break;
	case ROUTE_COMPONENT:
		component_item(w, &r->it);
		break;
	case ROUTE_HOST:
		host_item(w, &r->it);
		break;
	}
}

static void drain(struct loop_task *t)
{
	struct router *r = container_of(t, struct router, drain);

	while (r->n) {
		struct routed now = r->ring[r->head & (r->cap - 1)];

		r->head++;
		r->n--;
		dispatch(r->w, &now);
	}
}

static int ring_grow(struct router *r)
{
	uint32_t cap = r->cap ? r->cap * 2 : RING_FIRST;
	struct routed *ring = malloc(cap * sizeof(*ring));

	if (!ring)
		return E_NOMEM;
	for (uint32_t i = 0; i < r->n; i++)
		ring[i] = r->ring[(r->head + i) & (r->cap - 1)];
	free(r->ring);
	r->ring = ring;
	r->cap = cap;
	r->head = 0;
	return 0;
}

static void ring_push(struct worker *w, struct item *it, enum route_kind kind)
{
	struct router *r = w->router;

	if (r->n == r->cap && ring_grow(r)) {
		/* a row stays in the store; without one the sender learns it by nothing: out of
		 * memory */
		item_free(it);
		return;
	}
	r->ring[(r->head + r->n++) & (r->cap - 1)] = (struct routed){ *it, kind };
	loop_defer(w->loop, &r->drain, drain);
}

static void msg_free(struct bus_msg *m)
{
	struct stanza_msg *sm = container_of(m, struct stanza_msg, m);

	item_free(&sm->it);
	free(sm);
}

static void post(struct worker *w, uint16_t owner, struct item *it)
{
	struct stanza_msg *sm = malloc(sizeof(*sm));

	if (!sm) {
		item_free(it);
		return;
	}
	*sm = (struct stanza_msg){
		.m = { .to = { .worker = owner }, .type = CORE_MSG_STANZA, .free = msg_free },
		.it = *it
	};
	bus_post(w->bus, &sm->m);
}

/* Who is it for, by the configuration of now? false: nobody whom we serve. */
static bool classify(struct worker *w, const struct stanza *st, enum route_kind *kind_r,
		     struct sl *key_r)
{
	const struct domain *d = jid_is_null(&st->to) ? NULL : core_domain(w->cfg, st->to.domain);

	if (!d)
		return false;
	if (d->kind == DOMAIN_COMPONENT) {
		*kind_r = ROUTE_COMPONENT;
		*key_r = st->to.domain;
	} else if (st->to.local.n) {
		*kind_r = ROUTE_ACCOUNT;
		*key_r = st->to.bare;
	} else {
		*kind_r = ROUTE_HOST;
		*key_r = SL_NULL;
	}
	return true;
}

void route_item(struct worker *w, struct item it)
{
	enum route_kind kind;
	struct sl key;
	uint16_t owner;

	if (!classify(w, it.st, &kind, &key)) {
		mail_bounce(w, &it, SC_REMOTE_SERVER_NOT_FOUND, SL_NULL);
		return;
	}
	owner = kind == ROUTE_HOST ? w->id : bus_owner(w->bus, key);
	if (owner == w->id)
		ring_push(w, &it, kind);
	else
		post(w, owner, &it);
}

void route_from(struct user *u, struct item it)
{
	if (u->unsettled)
		for (const struct service *const *s = u->w->services->list; *s; s++)
			if ((*s)->defer && (*s)->defer(u, it) == SVC_HANDLED)
				return;
	route_item(u->w, it);
}

/* A stanza from another worker: input from outside, so it is classified again. */
void route_msg(void *worker, struct bus_msg *m)
{
	struct stanza_msg *sm = container_of(m, struct stanza_msg, m);
	struct worker *w = worker;

	route_item(w, sm->it);
	free(sm);
}

void route(struct worker *w, struct stanza *st, uint64_t mail_id)
{
	route_item(w, (struct item){ .st = st, .mail_id = mail_id });
}

void route_new(struct worker *w, struct stanza *st)
{
	if (!st)
		return;
	if (jid_is_null(&st->to) || stanza_seal(st)) {
		stanza_unref(&st);
		return;
	}
	route(w, st, 0);
}

void route_error(struct worker *w, const struct stanza *st, enum stanza_cond c, struct sl text)
{
	struct stanza *reply = NULL;

	if (jid_is_null(&st->from) || stanza_error_reply(st, c, NULL, text, &reply) || !reply)
		return;
	count(w, CNT_STANZA_ERRORS);
	route_new(w, reply);
}

void route_copy(struct worker *w, struct stanza *st, const struct jid *from, const struct jid *to)
{
	struct stanza *copy;

	if (stanza_new(st->kind, st->type, from ? from : &st->from, to ? to : &st->to, st->id,
		       &copy))
		return;
	copy->head = arena_dup(copy->arena, st->head);
	copy->middle = arena_dup(copy->arena, st->middle);
	if ((st->head.n && !copy->head.n) || (st->middle.n && !copy->middle.n)) {
		stanza_unref(&copy);
		return;
	}
	copy->sealed = true;
	route(w, copy, 0);
}

/* ---- hosts ----------------------------------------------------------------------------------- */

/* DELIV-10: what is addressed to the host itself. */
void host_item(struct worker *w, struct item *it)
{
	struct stanza *st = it->st;
	struct svc_ctx c = { .w = w };

	switch (st->kind) {
	case STANZA_IQ:
		if (st->type != ST_GET && st->type != ST_SET)
			break;
		if (service_iq(w->services, SVC_TO_HOST, &c, st) == SVC_PASS)
			route_error(w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
		break;
	case STANZA_MESSAGE:
		if (it->mail_id)
			mail_bounce(w,
				    &(struct item){ stanza_ref(st), it->mail_id,
						    mail_row_ref(it->row) },
				    SC_SERVICE_UNAVAILABLE, SL_NULL);
		else
			route_error(w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
		break;
	default:
		if (st->type == ST_SUBSCRIBE && !jid_is_null(&st->from)) {
			struct stanza *no;
			struct jid from = jid_split(st->to.bare), to = jid_split(st->from.bare);

			if (!stanza_new(STANZA_PRESENCE, ST_UNSUBSCRIBED, &from, &to, st->id, &no))
				route_new(w, no);
		}
		break;
	}
	item_free(it);
}
