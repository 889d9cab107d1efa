/* presence.c - RFC 6121 section 4: what clients broadcast, direct and probe, and what comes in
 * (rules PRES-n). Subscriptions are in subscription.c. */
#include "xmpp/services/services.h"

#define DIRECTED_MAX 500u
#define SEEN_MAX     2000u

struct directed {
	struct list node;
	size_t n;
	char jid[];
};

/* ---- sending --------------------------------------------------------------------------------- */

/* PRES-13: no error for every contact of a domain that we do not know, at each change. */
bool presence_domain_served(struct worker *w, struct sl jid)
{
	struct jid j = jid_split(jid);

	return core_domain(w->cfg, j.domain) != NULL;
}

static void send_to(struct session *s, struct stanza *st, struct sl to)
{
	struct jid j = jid_split(to);

	route_copy(s->w, st, NULL, &j);
}

void presence_send_current(struct user *u, struct sl to)
{
	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (s->presence)
			send_to(s, s->presence, to);
	}
}

static struct stanza *simple(enum stanza_type t, const struct jid *from, const struct jid *to)
{
	struct stanza *st;

	return stanza_new(STANZA_PRESENCE, t, from, to, SL_NULL, &st) ? NULL : st;
}

void presence_send_gone(struct user *u, struct sl to)
{
	struct jid j = jid_split(to);

	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (s->presence)
			route_new(u->w, simple(ST_UNAVAILABLE, &s->jid, &j));
	}
}

/* To everybody who gets the user's presence. */
static void to_contacts(struct session *s, struct stanza *st)
{
	struct roster *r = s->user->roster;

	for (uint32_t i = 0; i < r->n; i++) {
		struct sl jid = ritem_jid(r->item[i]);

		if (sub_from((enum sub_state)r->item[i]->state) &&
		    presence_domain_served(s->w, jid))
			send_to(s, st, jid);
	}
}

/* PRES-3: the user's available sessions see it too, this one among them. */
static void to_own(struct session *s, struct stanza *st)
{
	LIST_FOREACH(n, next, &s->user->sessions) {
		struct session *o = LIST_ENTRY(n, struct session, user_node);

		if (o->presence && !o->ending)
			route_copy(s->w, st, NULL, &o->jid);
	}
}

/* ---- directed presence ----------------------------------------------------------------------- */

static struct directed *directed_find(struct session *s, struct sl jid)
{
	LIST_FOREACH(n, next, &s->directed) {
		struct directed *d = LIST_ENTRY(n, struct directed, node);

		if (sl_eq(sl_mk(d->jid, d->n), jid))
			return d;
	}
	return NULL;
}

static void directed_del(struct session *s, struct directed *d)
{
	if (!d)
		return;
	list_remove(&d->node);
	s->ndirected--;
	free(d);
}

/* false: no room for one more. */
static bool directed_add(struct session *s, struct sl jid)
{
	struct directed *d;

	if (directed_find(s, jid))
		return true;
	d = s->ndirected < DIRECTED_MAX ? malloc(sizeof(*d) + jid.n) : NULL;
	if (!d)
		return false;
	d->n = jid.n;
	memcpy(d->jid, jid.p, jid.n);
	list_append(&s->directed, &d->node);
	s->ndirected++;
	return true;
}

/* Unavailable presence to those who had it directed; the list is empty then. st NULL: only forget.
 */
static void directed_end(struct session *s, struct stanza *st)
{
	LIST_FOREACH(n, next, &s->directed) {
		struct directed *d = LIST_ENTRY(n, struct directed, node);
		struct jid j = jid_split(sl_mk(d->jid, d->n));

		if (st && !sub_from(roster_state(s->user, j.bare)))
			send_to(s, st, j.full);
		directed_del(s, d);
	}
}

/* PRES-8 */
static void direct(struct session *s, struct stanza *st)
{
	if (st->type == ST_UNAVAILABLE)
		directed_del(s, directed_find(s, st->to.full));
	else if (!sub_from(roster_state(s->user, st->to.bare)) && !directed_add(s, st->to.full)) {
		route_error(s->w, st, SC_RESOURCE_CONSTRAINT, SL("too many directed presences"));
		return;
	}
	route_from(s->user, (struct item){ .st = stanza_ref(st) });
}

/* ---- contacts at components (PRES-15)
 * --------------------------------------------------------------- */

/* A component that goes cannot say that its contacts go with it: so it is kept who of them was seen
 * available, by full JID. */
struct seen {
	struct list node;
	size_t n;
	char jid[];
};

static struct sl seen_jid(const struct seen *e)
{
	return sl_mk(e->jid, e->n);
}

static void seen_del(struct user *u, struct seen *e)
{
	list_remove(&e->node);
	u->nseen--;
	free(e);
}

static void seen_clear(struct user *u)
{
	LIST_FOREACH(n, next, &u->seen)
		seen_del(u, LIST_ENTRY(n, struct seen, node));
	u->seen_more = false;
}

static struct seen *seen_find(struct user *u, struct sl jid)
{
	LIST_FOREACH(n, next, &u->seen) {
		struct seen *e = LIST_ENTRY(n, struct seen, node);

		if (sl_eq(seen_jid(e), jid))
			return e;
	}
	return NULL;
}

static void seen_add(struct user *u, struct sl jid)
{
	struct seen *e;

	if (seen_find(u, jid))
		return;
	e = u->nseen < SEEN_MAX ? malloc(sizeof(*e) + jid.n) : NULL;
	if (!e) {
		u->seen_more = true;
		return;
	}
	e->n = jid.n;
	memcpy(e->jid, jid.p, jid.n);
	list_append(&u->seen, &e->node);
	u->nseen++;
}

/* Presence for the account or for one of its sessions has come. */
static void note_seen(struct user *u, const struct stanza *st)
{
	const struct domain *d = core_domain(u->w->cfg, st->from.domain);
	struct seen *e;

	if (!d || d->kind != DOMAIN_COMPONENT || !u->navailable ||
	    !sub_to(roster_state(u, st->from.bare)))
		return;
	if (st->type == ST_NONE)
		seen_add(u, st->from.full);
	else if ((st->type == ST_UNAVAILABLE || st->type == ST_ERROR) &&
		 (e = seen_find(u, st->from.full)))
		seen_del(u, e);
}

static void to_available(struct user *u, enum stanza_type type, const struct jid *from)
{
	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (s->presence && !s->ending)
			route_new(u->w, simple(type, from, &s->jid));
	}
}

static void component_down(struct user *u, struct sl domain)
{
	LIST_FOREACH(n, next, &u->seen) {
		struct seen *e = LIST_ENTRY(n, struct seen, node);
		struct jid j = jid_split(seen_jid(e));

		if (!sl_eq(j.domain, domain))
			continue;
		to_available(u, ST_UNAVAILABLE, &j);
		seen_del(u, e);
	}
	for (uint32_t i = 0; u->seen_more && i < u->roster->n; i++) {
		struct jid j = jid_split(ritem_jid(u->roster->item[i]));

		if (sl_eq(j.domain, domain) && sub_to((enum sub_state)u->roster->item[i]->state))
			to_available(u, ST_UNAVAILABLE, &j);
	}
}

/* ---- the client's own presence --------------------------------------------------------------- */

/* What is kept of a session's presence while it is idle: no more than its text. */
static struct stanza *compact(const struct stanza *st, const struct jid *from)
{
	size_t n = sizeof(struct stanza) + sizeof(struct xml_node) + from->full.n + st->head.n +
		   st->middle.n + st->id.n + 96;
	struct arena *a = arena_new(n, n + 4096);
	struct stanza *c = a ? arena_new_obj(a, struct stanza) : NULL;

	if (!c || !(c->root = xml_new(a, NS_STANZA, SL("presence"))) || jid_dup(a, from, &c->from))
		goto fail;
	atomic_init(&c->refs, 1);
	c->kind = STANZA_PRESENCE;
	c->type = ST_NONE;
	c->arena = a;
	c->id = arena_dup(a, st->id);
	c->head = arena_dup(a, st->head);
	c->middle = arena_dup(a, st->middle);
	if (c->id.n != st->id.n || c->head.n != st->head.n || c->middle.n != st->middle.n)
		goto fail;
	c->sealed = true;
	return c;
fail:
	arena_free(&a);
	return NULL;
}

/* PRES-2: RFC 6121 4.7.2.3. false: not a number from -128 to 127. */
static bool priority_of(struct stanza *st, int8_t *p_r)
{
	struct xml_node *n = xml_child(st->root, NS_STANZA, SL("priority"));
	struct sl t = sl_trim(xml_text(st->arena, n));
	bool minus = t.n && t.p[0] == '-';
	uint64_t v;

	*p_r = 0;
	if (!n)
		return true;
	if (sl_to_u64(minus || (t.n && t.p[0] == '+') ? sl_sub(t, 1, t.n) : t, minus ? 128 : 127,
		      &v))
		return false;
	*p_r = (int8_t)(minus ? -(int)v : (int)v);
	return true;
}

/* PRES-4 */
static void probe_contacts(struct session *s)
{
	struct roster *r = s->user->roster;

	for (uint32_t i = 0; i < r->n; i++) {
		struct sl jid = ritem_jid(r->item[i]);
		struct jid j = jid_split(jid);

		if (sub_to((enum sub_state)r->item[i]->state) && presence_domain_served(s->w, jid))
			route_new(s->w, simple(ST_PROBE, &s->jid, &j));
	}
}

/* The presence of the user's other sessions. */
static void learn_own(struct session *s)
{
	LIST_FOREACH(n, next, &s->user->sessions) {
		struct session *o = LIST_ENTRY(n, struct session, user_node);

		if (o != s && o->presence)
			route_copy(s->w, o->presence, NULL, &s->jid);
	}
}

static void available_hooks(struct session *s)
{
	for (const struct service *const *svc = s->w->services->list; *svc; svc++)
		if ((*svc)->available)
			(*svc)->available(s);
}

/* CUST-11 */
static void want_mail(struct session *s)
{
	if (s->priority < 0 || s->mail_flushed)
		return;
	s->mail_flushed = true;
	deliver_flush(s->user);
}

static void available(struct session *s, struct stanza *st)
{
	bool first = !s->presence;
	struct stanza *keep;
	int8_t priority;

	if (!priority_of(st, &priority)) {
		route_error(s->w, st, SC_BAD_REQUEST, SL("priority is a number from -128 to 127"));
		return;
	}
	keep = compact(st, &s->jid);
	if (!keep) {
		route_error(s->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		return;
	}
	stanza_unref(&s->presence);
	s->presence = keep;
	s->priority = priority;
	if (first)
		s->user->navailable++;
	to_contacts(s, keep);
	to_own(s, keep);
	if (first) {
		learn_own(s);
		probe_contacts(s);
		subscription_redeliver(s);
		available_hooks(s);
	}
	want_mail(s);
}

static void one_less(struct user *u)
{
	if (--u->navailable == 0)
		seen_clear(u);
}

/* st: the client's own stanza, or one of ours. Sealed. */
static void unavailable(struct session *s, struct stanza *st)
{
	if (s->presence) {
		stanza_unref(&s->presence);
		one_less(s->user);
		to_contacts(s, st);
		to_own(s, st);
	}
	s->mail_flushed = false;
	directed_end(s, st);
}

static void presence_ended(struct session *s)
{
	struct stanza *st = s->presence || s->ndirected ? simple(ST_UNAVAILABLE, &s->jid, NULL)
							: NULL;

	if (st && !stanza_seal(st))
		unavailable(s, st);
	directed_end(s, NULL);
	if (s->presence) { /* no memory to tell anybody */
		stanza_unref(&s->presence);
		one_less(s->user);
	}
	stanza_unref(&st);
}

static int presence_out(struct session *s, struct stanza *st)
{
	switch (st->type) {
	case ST_NONE:
		if (jid_is_null(&st->to))
			available(s, st);
		else
			direct(s, st);
		break;
	case ST_UNAVAILABLE:
		if (jid_is_null(&st->to))
			unavailable(s, st);
		else
			direct(s, st);
		break;
	case ST_SUBSCRIBE:
	case ST_SUBSCRIBED:
	case ST_UNSUBSCRIBE:
	case ST_UNSUBSCRIBED:
		subscription_out(s, st);
		break;
	default: /* a probe or an error; without an address it says nothing */
		if (!jid_is_null(&st->to))
			route_from(s->user, (struct item){ .st = stanza_ref(st) });
		break;
	}
	return SVC_HANDLED;
}

/* ---- presence to the account ----------------------------------------------------------------- */

/* PRES-6: RFC 6121 4.3.2. */
static void probed(struct user *u, const struct stanza *st)
{
	struct jid to = st->from;
	bool self = sl_eq(st->from.bare, u->jid.bare);

	if (!self && !sub_from(roster_state(u, st->from.bare))) {
		to = jid_split(st->from.bare);
		route_new(u->w, simple(ST_UNSUBSCRIBED, &u->jid, &to));
	} else if (!u->navailable) {
		route_new(u->w, simple(ST_UNAVAILABLE, &u->jid, &to));
	} else {
		presence_send_current(u, to.full);
	}
}

static void presence_in_now(struct user *u, struct stanza *st)
{
	switch (st->type) {
	case ST_NONE:
	case ST_UNAVAILABLE:
	case ST_ERROR:
		note_seen(u, st);
		/* PRES-5: to every available session, whatever its priority */
		LIST_FOREACH(n, next, &u->sessions) {
			struct session *s = LIST_ENTRY(n, struct session, user_node);

			if (s->presence && !s->ending)
				session_send(s, st, SL_NULL);
		}
		break;
	case ST_PROBE:
		probed(u, st);
		break;
	default:
		subscription_in(u, st);
		break;
	}
}

/* PRES-10: behind the subscription changes that came before it and wait for their commits. */
static int presence_in(struct user *u, struct stanza *st)
{
	struct change *c;

	if (jid_is_null(&st->from))
		return SVC_HANDLED;
	c = u->unsettled && (st->type == ST_NONE || st->type == ST_UNAVAILABLE ||
			     st->type == ST_PROBE)
		    ? change_new(u)
		    : NULL;
	if (c) {
		change_call(c, presence_in_now, st);
		change_submit(c);
	} else {
		presence_in_now(u, st);
	}
	return SVC_HANDLED;
}

/* PRES-14: a component is back and knows nothing: its contacts are asked, and told, anew. */
static void component_up(struct user *u, struct sl domain)
{
	for (uint32_t i = 0; i < u->roster->n; i++) {
		const struct ritem *it = u->roster->item[i];
		struct jid j = jid_split(ritem_jid(it));

		if (!sl_eq(j.domain, domain))
			continue;
		if (sub_from((enum sub_state)it->state))
			presence_send_current(u, j.full);
		LIST_FOREACH(n, next, &u->sessions) {
			struct session *s = LIST_ENTRY(n, struct session, user_node);

			if (s->presence && sub_to((enum sub_state)it->state))
				route_new(u->w, simple(ST_PROBE, &s->jid, &j));
		}
	}
}

const struct service svc_presence = {
	.name = "presence",
	.session_ended = presence_ended,
	.presence_out = presence_out,
	.presence_in = presence_in,
	.presence_passed = note_seen,
	.component_up = component_up,
	.component_down = component_down,
	.user_freed = seen_clear,
};
