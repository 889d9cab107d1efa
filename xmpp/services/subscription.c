/* subscription.c - RFC 6121 section 3: presence stanzas that manage subscriptions, by the table of
 * appendix A (sub_table.c; rules PRES-9 to PRES-12). */
#include "xmpp/services/services.h"

#define REQUEST_MAX 4096u /* octets of a stored request */

static bool event_of(uint8_t type, bool out, enum sub_event *e_r)
{
	switch (type) {
	case ST_SUBSCRIBE:
		*e_r = out ? OUT_SUBSCRIBE : IN_SUBSCRIBE;
		return true;
	case ST_UNSUBSCRIBE:
		*e_r = out ? OUT_UNSUBSCRIBE : IN_UNSUBSCRIBE;
		return true;
	case ST_SUBSCRIBED:
		*e_r = out ? OUT_SUBSCRIBED : IN_SUBSCRIBED;
		return true;
	case ST_UNSUBSCRIBED:
		*e_r = out ? OUT_UNSUBSCRIBED : IN_UNSUBSCRIBED;
		return true;
	default:
		return false;
	}
}

/* What a client sees of a state in a roster push. */
static bool shows_the_same(enum sub_state a, enum sub_state b)
{
	return sub_to(a) == sub_to(b) && sub_from(a) == sub_from(b) && sub_ask(a) == sub_ask(b);
}

/* A sealed copy from one bare JID to another (RFC 6121 3.1.2: the server stamps and strips). */
static struct stanza *readdress(struct stanza *st, struct sl from, struct sl to)
{
	struct jid f = jid_split(from), t = jid_split(to);
	struct stanza *c;

	if (stanza_new(STANZA_PRESENCE, (enum stanza_type)st->type, &f, &t, st->id, &c))
		return NULL;
	c->head = arena_dup(c->arena, st->head);
	c->middle = arena_dup(c->arena, st->middle);
	if (c->head.n != st->head.n || c->middle.n != st->middle.n)
		stanza_unref(&c);
	else
		c->sealed = true;
	return c;
}

static struct stanza *reply(enum stanza_type t, const struct user *u, const struct jid *contact)
{
	struct stanza *st;

	return stanza_new(STANZA_PRESENCE, t, &u->jid, contact, SL_NULL, &st) ? NULL : st;
}

/* Store the item in its new state, or forget it when nothing is left of it. */
static int apply(struct change *c, struct user *u, const struct ritem_edit *e, bool push)
{
	if (!e->in_roster && e->state == SUB_NONE && !e->approved)
		return roster_find(u, e->jid) ? change_del(c, e->jid, false) : 0;
	return change_put(c, e, push);
}

/* ---- from the client ------------------------------------------------------------------------- */

/* PRES-12: RFC 6121 3.4: approve before asked, or take that back. */
static void preapprove(struct session *s, struct stanza *st, struct sl contact, bool approve)
{
	struct user *u = s->user;
	struct ritem_edit e = ritem_edit(u, contact);
	struct change *c;

	if (e.approved == approve)
		return;
	c = change_new(u);
	e.approved = approve;
	e.in_roster = e.in_roster || approve;
	if (!c || apply(c, u, &e, true)) {
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		if (c)
			change_free(c);
		return;
	}
	change_blame(c, st);
	change_submit(c);
}

static void out_change(struct session *s, struct stanza *st, struct sl contact,
		       const struct sub_row *row)
{
	struct user *u = s->user;
	struct ritem_edit e = ritem_edit(u, contact);
	enum sub_state old = (enum sub_state)row->state, now = (enum sub_state)row->next;
	bool push = !shows_the_same(old, now) || (!e.in_roster && now != SUB_NONE);
	struct change *c = change_new(u);

	e.state = now;
	if (!sub_pending_in(now))
		e.request = SL_NULL;
	e.in_roster = e.in_roster || row->event == OUT_SUBSCRIBE || row->event == OUT_SUBSCRIBED;
	if (row->event == OUT_UNSUBSCRIBED)
		e.approved = false;
	if (c && row->flags & SUB_PASS)
		change_out(c, CH_ROUTE, readdress(st, u->jid.bare, contact));
	if (!c || (old != now && apply(c, u, &e, push))) {
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		if (c)
			change_free(c);
		return;
	}
	if (!sub_from(old) && sub_from(now))
		change_out_jid(c, CH_PRESENCE, contact);
	else if (sub_from(old) && !sub_from(now))
		change_out_jid(c, CH_GONE, contact);
	change_blame(c, st);
	change_submit(c);
}

void subscription_out(struct session *s, struct stanza *st)
{
	struct user *u = s->user;
	const struct sub_row *row;
	enum sub_event e;

	if (jid_is_null(&st->to) || sl_eq(st->to.bare, u->jid.bare) ||
	    !event_of(st->type, true, &e))
		return;
	row = sub_find(e, roster_state(u, st->to.bare));
	if (!row)
		return;
	if (row->flags & SUB_APPROVE)
		preapprove(s, st, st->to.bare, e == OUT_SUBSCRIBED);
	else if (e == OUT_SUBSCRIBE && !roster_find(u, st->to.bare) && !roster_room(u))
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL("the roster is full"));
	else if (row->flags & SUB_PASS || row->next != row->state)
		out_change(s, st, st->to.bare, row);
}

/* ---- from the contact ------------------------------------------------------------------------ */

/* The request as text in the change's stanza; false: too big to keep. */
static bool request_text(struct stanza *copy, struct sl *text_r)
{
	size_t max = stanza_wire_max(copy, NULL, NULL, SL_NULL);
	char *p = arena_bytes(copy->arena, max);

	if (!p)
		return false;
	*text_r = sl_mk(p, stanza_wire_put(copy, NULL, NULL, SL_NULL, p));
	return text_r->n <= REQUEST_MAX;
}

static int in_item(struct change *c, struct user *u, struct stanza *copy, const struct sub_row *row,
		   enum sub_state now)
{
	struct ritem_edit e = ritem_edit(u, copy->from.bare);

	e.state = now;
	if (!sub_pending_in(now))
		e.request = SL_NULL;
	else if (row->event == IN_SUBSCRIBE && !request_text(copy, &e.request))
		return E_TOOBIG;
	return apply(c, u, &e, !shows_the_same((enum sub_state)row->state, now));
}

static void in_refuse(struct user *u, struct stanza *st, struct change *c, int rc)
{
	if (rc == E_TOOBIG)
		route_error(u->w, st, SC_POLICY_VIOLATION,
			    SL("the request is too long to be kept"));
	else
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
	if (c)
		change_free(c);
}

/* PRES-10: the order of RFC 6121 3.1.6, 3.2.3, 3.3.3: the stanza, the push, presence, the answer.
 */
static void in_change(struct user *u, struct stanza *st, const struct sub_row *row,
		      enum sub_state now, bool pass, enum stanza_type answer)
{
	struct stanza *copy = readdress(st, st->from.bare, u->jid.bare);
	struct change *c = copy ? change_new(u) : NULL;
	enum sub_state old = (enum sub_state)row->state;
	int rc = c ? 0 : E_NOMEM;

	if (!rc && pass)
		change_out(c, row->event == IN_SUBSCRIBE ? CH_AVAILABLE : CH_INTERESTED,
			   stanza_ref(copy));
	if (!rc && now != old)
		rc = in_item(c, u, copy, row, now);
	if (rc) {
		in_refuse(u, st, c, rc);
		stanza_unref(&copy);
		return;
	}
	if (answer != ST_NONE)
		change_out(c, CH_ROUTE, reply(answer, u, &copy->from));
	if (sub_from(old) && !sub_from(now))
		change_out_jid(c, CH_GONE, copy->from.bare);
	else if (!sub_from(old) && sub_from(now))
		change_out_jid(c, CH_PRESENCE, copy->from.bare);
	change_blame(c, st);
	change_submit(c);
	stanza_unref(&copy);
}

void subscription_in(struct user *u, struct stanza *st)
{
	const struct ritem *item = roster_find(u, st->from.bare);
	const struct sub_row *row;
	enum stanza_type answer = ST_NONE;
	enum sub_event e;
	bool pass;

	if (sl_eq(st->from.bare, u->jid.bare) || !event_of(st->type, false, &e))
		return;
	row = sub_find(e, item ? (enum sub_state)item->state : SUB_NONE);
	if (!row)
		return;
	pass = row->flags & SUB_PASS;
	if (row->flags & SUB_REPLY)
		answer = e == IN_SUBSCRIBE ? ST_SUBSCRIBED : ST_UNSUBSCRIBED;
	if (row->flags & SUB_IF_APPROVED && item && item->approved)
		in_change(u, st, row, (enum sub_state)row->approved, false, ST_SUBSCRIBED);
	else if (e == IN_SUBSCRIBE && pass && !item && !roster_room(u))
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL("too many requests are pending"));
	else if (pass || answer != ST_NONE || row->next != row->state)
		in_change(u, st, row, (enum sub_state)row->next, pass, answer);
}

/* PRES-11: a request that nobody has answered is shown to each session that becomes available. */
void subscription_redeliver(struct session *s)
{
	struct roster *r = s->user->roster;

	for (uint32_t i = 0; i < r->n; i++) {
		struct sl text = ritem_request(r->item[i]);
		struct stanza *st;

		if (!text.n || !sub_pending_in((enum sub_state)r->item[i]->state) ||
		    stanza_restore(text, &st))
			continue;
		session_send_take(s, st);
	}
}
