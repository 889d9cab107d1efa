/* deliver.c - which sessions of an account get a stanza: RFC 6121 section 8.5 as a table (rules
 * DELIV-5 to DELIV-9). */
#include "xmpp/router/router_int.h"

#include "appliance/base/clock.h"

/* What becomes of a message. */
enum fate {
	F_TOP,   /* to the available sessions of the highest priority, at least 0 */
	F_ALL,   /* to all available sessions of priority 0 or more */
	F_KEEP,  /* offline store, or an error if it promises nothing that could be kept */
	F_ERROR, /* service-unavailable */
	F_IGNORE,
};

/* RFC 6121 8.5.4, table 1, for what does not match a session by its full JID. */
struct fate_row {
	uint8_t bare_some, bare_none; /* to the bare JID; sessions of priority >= 0: some, none */
	uint8_t full_some, full_none; /* to a resource that is not there */
	const char *spec;
};
static const struct fate_row fates[] = {
	[ST_NORMAL] = { F_TOP, F_KEEP, F_ERROR, F_ERROR, "DELIV-5, RFC 6121 8.5.2.1.1, 8.5.3.2.1" },
	[ST_CHAT] = { F_TOP, F_KEEP, F_TOP, F_KEEP, "DELIV-6, RFC 6121 8.5.3.2.1" },
	[ST_GROUPCHAT] = { F_ERROR, F_ERROR, F_ERROR, F_ERROR, "DELIV-7, RFC 6121 8.5.2.1.1" },
	[ST_HEADLINE] = { F_ALL, F_IGNORE, F_ERROR, F_ERROR, "DELIV-7, RFC 6121 8.5.2.2.1" },
	[ST_ERROR] = { F_IGNORE, F_IGNORE, F_IGNORE, F_IGNORE, "DELIV-7, RFC 6121 8.5.2.1.1" },
};

static bool takes_bare(const struct session *s)
{
	return s->presence && s->priority >= 0 && !s->ending;
}

bool deliver_possible(const struct user *u)
{
	LIST_FOREACH(n, next, &u->sessions)
		if (takes_bare(LIST_ENTRY(n, struct session, user_node)))
			return true;
	return false;
}

static int8_t top_priority(const struct user *u)
{
	int8_t top = -1;

	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (takes_bare(s) && s->priority > top)
			top = s->priority;
	}
	return top;
}

/* Deliver to one, or (only NULL) to all whose priority is at least min. The item is used up. */
static void offer(struct user *u, struct item *it, struct session *only, int8_t min,
		  struct sl extra, bool paged)
{
	struct mail *m = NULL;

	if (it->mail_id) {
		m = mail_new(u->w, it->mail_id, it->row, u, NULL);
		if (!m) { /* no memory: its row is offline mail */
			mail_noted(u);
			item_free(it);
			return;
		}
		if (paged)
			pager_offered(u->pager, m, it->st);
	}
	if (only) {
		only->ops->deliver(only, it->st, extra, m);
	} else {
		LIST_FOREACH(n, next, &u->sessions) {
			struct session *s = LIST_ENTRY(n, struct session, user_node);

			if (takes_bare(s) && s->priority >= min)
				s->ops->deliver(s, it->st, extra, m);
		}
	}
	if (m)
		mail_release(u->w, m);
	item_free(it);
}

bool deliver_bare(struct user *u, struct item *it, struct sl extra, bool paged)
{
	int8_t top = top_priority(u);

	if (top < 0)
		return false;
	offer(u, it, NULL, top, extra, paged);
	return true;
}

static enum fate message_fate(struct user *u, const struct item *it)
{
	uint8_t type = it->st->type < ARRAY_LEN(fates) && fates[it->st->type].spec ? it->st->type
										   : ST_NORMAL;
	bool some = top_priority(u) >= 0, bare = jid_is_bare(&it->st->to);

	/* DELIV-8: the outcome that a sender waits for reaches another session of his, or waits for
	 * the next. */
	if (it->mail_id && (type == ST_ERROR || domain_has_custody(u->w, it->st->from.domain)) &&
	    type != ST_GROUPCHAT && type != ST_HEADLINE)
		return some ? F_TOP : F_KEEP;
	if (bare)
		return some ? fates[type].bare_some : fates[type].bare_none;
	return some ? fates[type].full_some : fates[type].full_none;
}

static void deliver_message(struct user *u, struct item *it)
{
	struct session *s = it->st->to.resource.n ? user_session(u, it->st->to.resource) : NULL;

	if (s) {
		offer(u, it, s, 0, SL_NULL, false);
		return;
	}
	switch (message_fate(u, it)) {
	case F_TOP:
		deliver_bare(u, it, SL_NULL, false);
		return;
	case F_ALL:
		offer(u, it, NULL, 0, SL_NULL, false);
		return;
	case F_KEEP:
		if (it->mail_id || stanza_promises(it->st)) {
			mail_offline(u, it);
			return;
		}
		item_free(it); /* a chat state and the like: nothing to keep, nothing to answer */
		return;
	case F_ERROR:
		mail_bounce(u->w, it, SC_SERVICE_UNAVAILABLE, SL_NULL);
		return;
	case F_IGNORE:
		mail_drop(u->w, it);
		return;
	}
}

static int presence_in(struct user *u, struct stanza *st)
{
	for (const struct service *const *s = u->w->services->list; *s; s++)
		if ((*s)->presence_in && (*s)->presence_in(u, st) == SVC_HANDLED)
			return SVC_HANDLED;
	return SVC_PASS;
}

static void presence_passed(struct user *u, const struct stanza *st)
{
	for (const struct service *const *s = u->w->services->list; *s; s++)
		if ((*s)->presence_passed)
			(*s)->presence_passed(u, st);
}

static void deliver_presence(struct user *u, struct item *it)
{
	struct stanza *st = it->st;
	struct session *s;

	if (st->to.resource.n &&
	    (st->type == ST_NONE || st->type == ST_UNAVAILABLE || st->type == ST_ERROR)) {
		s = user_session(u, st->to.resource);
		presence_passed(u, st);
		if (s)
			session_send(s, st, SL_NULL);
	} else {
		presence_in(u, st);
	}
	item_free(it);
}

static void deliver_iq(struct user *u, struct item *it)
{
	struct stanza *st = it->st;
	struct session *s = st->to.resource.n ? user_session(u, st->to.resource) : NULL;

	if (s) {
		session_send(s, st, SL_NULL);
	} else if (st->type == ST_GET || st->type == ST_SET) {
		struct svc_ctx c = { .w = u->w, .user = u };

		if (st->to.resource.n ||
		    service_iq(u->w->services, SVC_TO_ACCOUNT, &c, st) == SVC_PASS)
			route_error(u->w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
	}
	item_free(it);
}

void deliver_item(struct user *u, struct item *it)
{
	switch (it->st->kind) {
	case STANZA_MESSAGE:
		if (it->mail_id && mail_find(u->w, it->mail_id))
			item_free(it); /* a page has brought it already */
		else if (!u->pager || !pager_take(u->pager, it))
			deliver_message(u, it);
		break;
	case STANZA_PRESENCE:
		deliver_presence(u, it);
		break;
	default:
		deliver_iq(u, it);
		break;
	}
}

void user_answer(struct user *u, struct stanza *st)
{
	struct item it = { .st = st };

	if (!st || stanza_seal(st))
		stanza_unref(&st);
	else if (user_ready(u) && sl_eq(st->to.bare, u->jid.bare))
		deliver_item(u, &it);
	else
		route_item(u->w, it);
}

/* ---- offline mail (CUST-11) ------------------------------------------------------------------ */

/* XEP-0203, from the host that kept it. */
static struct sl delay_element(const struct user *u, uint64_t stamp_ms, char *dst, size_t cap)
{
	char stamp[CLOCK_STAMP_MAX];
	int n;

	clock_stamp(stamp_ms, stamp);
	n = snprintf(dst, cap, "<delay xmlns='urn:xmpp:delay' from='" SLFMT "' stamp='%s'/>",
		     SLARG(u->jid.domain), stamp);
	return n > 0 && (size_t)n < cap ? sl_mk(dst, (size_t)n) : SL_NULL;
}

static void flush_offer(void *self, struct item *it, uint64_t stamp_ms)
{
	struct user *u = self;
	char delay[JID_PART_MAX + 128];

	if (!stamp_ms) {
		deliver_message(u, it);
		return;
	}
	if (deliver_bare(u, it, delay_element(u, stamp_ms, delay, sizeof(delay)), true))
		return;
	mail_noted(u);
	item_free(it);
}

static bool flush_open(void *self)
{
	return deliver_possible(self);
}

static void flush_keep(void *self, struct item *it)
{
	struct user *u = self;

	if (it->mail_id) {
		mail_noted(u);
		item_free(it);
	} else if (stanza_promises(it->st)) {
		mail_offline(u, it);
	} else {
		item_free(it);
	}
}

void deliver_pager_gc(struct user *u)
{
	struct pager *p = u->pager;

	if (!p || p->active || p->inflight || pager_busy(p))
		return;
	u->pager = NULL;
	free(p);
	user_release(u);
}

static void flush_idle(void *self, bool complete)
{
	struct user *u = self;

	if (complete) {
		u->mail_count = 0;
		u->mail_some = false;
	}
	deliver_pager_gc(u);
}

static const struct pager_ops flush_ops = {
	.offer = flush_offer,
	.open = flush_open,
	.keep = flush_keep,
	.idle = flush_idle,
};

void deliver_flush(struct user *u)
{
	if (!u->mail_some || !deliver_possible(u))
		return;
	if (!u->pager) {
		u->pager = malloc(sizeof(*u->pager));
		if (!u->pager)
			return; /* at the next session's presence */
		pager_init(u->pager, u->w, u->jid.bare, &flush_ops, u);
		user_hold(u);
	}
	pager_start(u->pager);
}

/* ---- what a session hands back (CUST-7) ------------------------------------------------------ */

static void undelivered_message(struct session *s, struct stanza *st)
{
	struct user *u = s->user;
	struct item it = { .st = stanza_ref(st) };

	if (!stanza_promises(st))
		item_free(&it);
	else if (!deliver_bare(u, &it, SL_NULL, false))
		mail_offline(u, &it);
}

/* Its row is there; offer it to the user's other sessions, else it stays as offline mail. */
static void undelivered_mail(struct session *s, struct stanza *st, struct mail *m)
{
	struct user *u = s->user;
	int8_t top = m->done || m->holders > 1 ? -1 : top_priority(u);

	if (top >= 0)
		LIST_FOREACH(n, next, &u->sessions) {
			struct session *o = LIST_ENTRY(n, struct session, user_node);

			if (takes_bare(o) && o->priority == top)
				o->ops->deliver(o, st, SL_NULL, m);
		}
	mail_release(s->w, m);
}

void session_undelivered(struct session *s, struct stanza *st, struct mail *m)
{
	s->ending = true;
	if (s->user && m)
		undelivered_mail(s, st, m);
	else if (m)
		mail_release(s->w, m); /* a component's: sent again on its next stream */
	else if (st->kind == STANZA_IQ)
		route_error(s->w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
	else if (st->kind == STANZA_MESSAGE && s->user)
		undelivered_message(s, st);
	else if (st->kind == STANZA_MESSAGE)
		route_error(s->w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
}

void session_send(struct session *s, struct stanza *st, struct sl extra)
{
	s->ops->deliver(s, st, extra, NULL);
}

void session_send_take(struct session *s, struct stanza *st)
{
	s->ops->deliver(s, st, SL_NULL, NULL);
	stanza_unref(&st);
}
