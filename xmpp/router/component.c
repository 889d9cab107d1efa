/* component.c - a component as a recipient: its streams, and the rows that wait for it (CUST-8).
 *
 * The store is its queue: a row's stanza is sent at once while the component keeps up, and
 * otherwise read again later, a page at a time, as its acknowledgements come. */
#include "xmpp/router/router_int.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

struct component {
	struct hnode hn;
	struct worker *w;
	struct list sessions; /* struct session.user_node */
	unsigned nsessions;
	struct pager pager;
	size_t n;
	char name[];
};

static struct sl name_of(const struct component *c)
{
	return sl_mk(c->name, c->n);
}

static bool comp_match(const struct hnode *n, const void *key)
{
	return sl_eq(name_of(container_of(n, const struct component, hn)), *(const struct sl *)key);
}

static struct component *comp_find(struct worker *w, struct sl name)
{
	struct hnode *n = htable_find(&w->components, hash_bytes(name), comp_match, &name);

	return n ? container_of(n, struct component, hn) : NULL;
}

/* Several streams: a conversation keeps to one. */
static struct session *stream_for(struct component *c, const struct stanza *st)
{
	uint64_t pick = 0;

	if (list_empty(&c->sessions))
		return NULL;
	if (c->nsessions > 1) /* DELIV-11 */
		pick = hash_more(hash_bytes(st->from.bare), st->to.bare) % c->nsessions;
	LIST_FOREACH(n, next, &c->sessions)
		if (pick-- == 0)
			return LIST_ENTRY(n, struct session, user_node);
	return NULL;
}

/* CUST-8: <custody/> with the row's id. */
static struct sl custody_element(uint64_t id, char *dst, size_t cap)
{
	int n = snprintf(dst, cap, "<custody xmlns='urn:tandem:custody:0' id='%llu'/>",
			 (unsigned long long)id);

	return sl_mk(dst, (size_t)n);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Without a row: to a stream, or answered. */
static void pass(struct worker *w, struct component *c, struct item *it)
{
	struct session *s = c ? stream_for(c, it->st) : NULL;

	if (s)
		session_send(s, it->st, SL_NULL);
	else if (it->st->kind != STANZA_PRESENCE)
		route_error(w, it->st, SC_SERVICE_UNAVAILABLE,
			    SL("the component is not connected"));
	item_free(it);
}

static void offer(void *self, struct item *it, uint64_t stamp_ms)
{
	struct component *c = self;
	struct session *s = stream_for(c, it->st);
	char custody[80];
	struct mail *m;

	(void)stamp_ms;
	if (!it->mail_id) {
		pass(c->w, c, it);
		return;
	}
	m = s ? mail_new(c->w, it->mail_id, it->row, NULL, c) : NULL;
	if (m) {
		pager_offered(&c->pager, m, it->st);
		s->ops->deliver(s, it->st,
				domain_has_custody(c->w, name_of(c))
					? custody_element(it->mail_id, custody, sizeof(custody))
					: SL_NULL,
				m);
		mail_release(c->w, m);
	}
	item_free(it); /* without a stream or memory its row waits */
}

static bool open_(void *self)
{
	return !list_empty(&((struct component *)self)->sessions);
}

static void kept(struct mail_row *r, int rc, void *arg)
{
	UNUSED(arg);
	if (rc)
		route_error(r->w, r->st, SC_INTERNAL_SERVER_ERROR,
			    SL("the message could not be stored"));
}

/* It has no row, and may not overtake what waits in the store (DELIV-3): it gets one, or is
 * answered. */
static void keep_rowless(struct component *c, struct item *it)
{
	const struct core_limits *lim = &c->w->cfg->lim;
	bool worth = stanza_promises(it->st) || it->st->type == ST_ERROR;
	struct mail_row *row = NULL;

	if (worth)
		row = mail_row_write(c->w, it->st, name_of(c), NULL, SL_NULL,
				     clock_wall_ms() + lim->component_expiry_s * 1000ull, kept,
				     NULL);
	if (!row)
		route_error(c->w, it->st, SC_RESOURCE_CONSTRAINT,
			    SL("the component does not keep up"));
	mail_row_unref(&row);
	item_free(it);
}

static void keep(void *self, struct item *it)
{
	struct component *c = self;

	if (it->mail_id)
		item_free(it);
	else if (open_(c))
		keep_rowless(c, it);
	else
		pass(c->w, c, it); /* answered: nobody is there */
}

static void idle(void *self, bool complete)
{
	(void)self;
	(void)complete;
}

static const struct pager_ops comp_pager = {
	.offer = offer, .open = open_, .keep = keep, .idle = idle, .spill_late = true
};

void component_mail_settled(struct component *c, uint32_t octets)
{
	pager_settled(&c->pager, octets);
}

/* A committed row's stanza has come. */
static void row_item(struct worker *w, struct component *c, struct item *it)
{
	if (!c || list_empty(&c->sessions)) {
		if (domain_has_custody(w, it->st->to.domain))
			item_free(it); /* its row waits */
		else
			mail_bounce(w, it, SC_SERVICE_UNAVAILABLE,
				    SL("the component is not connected"));
		return;
	}
	if (mail_find(w, it->mail_id)) {
		item_free(it);
		return;
	}
	if (pager_take(&c->pager, it))
		return;
	if (pager_full(&c->pager)) { /* it does not keep up: from the store, later */
		item_free(it);
		pager_start(&c->pager);
		return;
	}
	offer(c, it, 0);
}

void component_item(struct worker *w, struct item *it)
{
	struct component *c = comp_find(w, it->st->to.domain);

	if (it->mail_id)
		row_item(w, c, it);
	else if (!c || it->st->kind != STANZA_MESSAGE || !pager_take(&c->pager, it))
		pass(w, c, it);
}

/* ---- streams --------------------------------------------------------------------------------- */

static struct component *comp_get(struct worker *w, struct sl name)
{
	struct component *c = comp_find(w, name);

	if (c)
		return c;
	c = calloc(1, sizeof(*c) + name.n);
	if (!c)
		return NULL;
	c->w = w;
	c->n = name.n;
	memcpy(c->name, name.p, name.n);
	list_init(&c->sessions);
	pager_init(&c->pager, w, name_of(c), &comp_pager, c);
	if (htable_add(&w->components, &c->hn, hash_bytes(name))) {
		free(c);
		return NULL;
	}
	return c;
}

struct comp_msg {
	struct bus_msg m;
	bool up;
	size_t n;
	char name[];
};

static void comp_msg_free(struct bus_msg *m)
{
	free(container_of(m, struct comp_msg, m));
}

/* To every worker: its first stream is up (PRES-14), or its last one has gone (PRES-15). */
static void announce(struct component *c)
{
	for (uint16_t i = 0; i < bus_workers(c->w->bus); i++) {
		struct comp_msg *cm = malloc(sizeof(*cm) + c->n);

		if (!cm)
			return;
		*cm = (struct comp_msg){ .m = { .to = { .worker = i },
						.type = CORE_MSG_COMPONENT,
						.free = comp_msg_free },
					 .up = c->nsessions != 0,
					 .n = c->n };
		memcpy(cm->name, c->name, c->n);
		bus_post(c->w->bus, &cm->m);
	}
}

void component_msg(void *worker, struct bus_msg *m)
{
	struct comp_msg *cm = container_of(m, struct comp_msg, m);
	struct sl domain = sl_mk(cm->name, cm->n);
	struct worker *w = worker;

	for (struct hnode *n = htable_next(&w->users, NULL); n; n = htable_next(&w->users, n)) {
		struct user *u = container_of(n, struct user, hn);

		if (!user_ready(u) || !u->navailable)
			continue;
		for (const struct service *const *s = w->services->list; *s; s++) {
			if (cm->up && (*s)->component_up)
				(*s)->component_up(u, domain);
			if (!cm->up && (*s)->component_down)
				(*s)->component_down(u, domain);
		}
	}
	free(cm);
}

void component_attach(struct session *s)
{
	struct component *c = comp_get(s->w, s->jid.domain);

	if (!c) {
		s->ops->close(s, "resource-constraint", SL_NULL);
		return;
	}
	list_append(&c->sessions, &s->user_node);
	c->nsessions++;
	count(s->w, CNT_COMPONENT_UP);
	log_ev(LOG_L_INFO, "component.up", KS("domain", name_of(c)), KU("streams", c->nsessions));
	pager_start(&c->pager);
	if (c->nsessions == 1)
		announce(c);
}

void component_detach(struct session *s)
{
	struct component *c = comp_find(s->w, s->jid.domain);

	inbound_session_ended(s, c);
	if (!c || !list_linked(&s->user_node))
		return;
	list_remove(&s->user_node);
	c->nsessions--;
	log_ev(LOG_L_INFO, "component.down", KS("domain", name_of(c)), KU("streams", c->nsessions));
	if (list_empty(&c->sessions)) {
		if (c->pager.active)
			pager_stop(&c->pager);
		announce(c);
	} else { /* what this stream had goes to the others */
		pager_start(&c->pager);
	}
}

void component_drained(struct component *c)
{
	if (list_empty(&c->sessions))
		announce(c);
}

void component_close_all(struct worker *w)
{
	struct hnode *n = htable_next(&w->components, NULL);

	while (n) {
		struct component *c = container_of(n, struct component, hn);

		n = htable_next(&w->components, n);
		pager_close(&c->pager);
		free(c);
	}
}
