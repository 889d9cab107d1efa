/* change.c - changes of a roster that wait for their commit (ROST-7, PRES-9).
 *
 * A change is made in memory at once and submitted; what it causes (the answer, pushes, presence)
 * is collected in it and done when it is committed, in the order of the changes. Should a commit
 * fail, what depends on it is answered with an error and the user is loaded again. */
#include "xmpp/services/services.h"

#include "appliance/base/log.h"

#define CHANGE_OCTETS (4u << 20)

struct out {
	struct out *next;
	enum change_out what;
	struct stanza *st;
	struct sl jid;
	void (*fn)(struct user *u, struct stanza *st);
	struct item it;
};

struct change {
	struct list node;
	struct user *u;
	struct arena *a;
	struct out *first, **last;
	struct stanza *blame;
	struct ritem_edit push; /* what CH_PUSH shows; text in a */
	bool removed;           /* ... is gone */
	bool oom, done;
	int rc;
	enum { CH_NONE, CH_PUT, CH_DEL } kind;
	struct store_roster_put put;
	struct store_roster_del del;
};

struct change *change_new(struct user *u)
{
	struct arena *a = arena_new(1536, CHANGE_OCTETS);
	struct change *c = a ? arena_new_obj(a, struct change) : NULL;

	if (!c) {
		arena_free(&a);
		return NULL;
	}
	c->u = u;
	c->a = a;
	c->last = &c->first;
	user_hold(u);
	return c;
}

void change_free(struct change *c)
{
	struct arena *a = c->a;

	for (struct out *o = c->first; o; o = o->next) {
		stanza_unref(&o->st);
		item_free(&o->it);
	}
	stanza_unref(&c->blame);
	user_release(c->u);
	arena_free(&a);
}

static struct out *out_add(struct change *c, enum change_out what)
{
	struct out *o = c ? arena_new_obj(c->a, struct out) : NULL;

	if (!o) {
		if (c)
			c->oom = true;
		return NULL;
	}
	o->what = what;
	*c->last = o;
	c->last = &o->next;
	return o;
}

void change_out(struct change *c, enum change_out what, struct stanza *st)
{
	struct out *o = st ? out_add(c, what) : NULL;

	if (o)
		o->st = st;
	else
		stanza_unref(&st);
	if (!o && c)
		c->oom = true;
}

void change_out_jid(struct change *c, enum change_out what, struct sl jid)
{
	struct out *o = out_add(c, what);

	if (o)
		o->jid = arena_dup(c->a, jid);
}

void change_call(struct change *c, void (*fn)(struct user *u, struct stanza *st), struct stanza *st)
{
	struct out *o = out_add(c, CH_CALL);

	if (!o)
		return;
	o->fn = fn;
	o->st = stanza_ref(st);
}

void change_blame(struct change *c, struct stanza *st)
{
	if (c)
		c->blame = stanza_ref(st);
}

/* Text of an edit often lies in the item that it is going to replace. */
static int edit_copy(struct arena *a, const struct ritem_edit *e, struct ritem_edit *copy_r)
{
	struct ritem_edit c = *e;

	c.jid = arena_dup(a, e->jid);
	c.name = arena_dup(a, e->name);
	c.groups = arena_dup(a, e->groups);
	c.request = arena_dup(a, e->request);
	if (c.jid.n != e->jid.n || c.name.n != e->name.n || c.groups.n != e->groups.n ||
	    c.request.n != e->request.n)
		return E_NOMEM;
	*copy_r = c;
	return 0;
}

int change_put(struct change *c, const struct ritem_edit *e, bool push)
{
	struct ritem_edit p;
	struct ritem *i;

	if (!c || c->oom || edit_copy(c->a, e, &p))
		return E_NOMEM;
	i = ritem_new(&p);
	if (!i)
		return E_NOMEM;
	if (push && p.in_roster && !out_add(c, CH_PUSH)) {
		free(i);
		return E_NOMEM;
	}
	if (roster_set(c->u->roster, i)) {
		free(i);
		return E_NOMEM;
	}
	c->push = p;
	c->kind = CH_PUT;
	c->put.owner = c->u->jid.bare;
	c->put.item = (struct store_roster_item){ .jid = p.jid,
						  .name = p.name,
						  .groups = p.groups,
						  .subscription = sub_shown(p.state),
						  .in_roster = p.in_roster,
						  .ask = sub_ask(p.state),
						  .pending_in = sub_pending_in(p.state),
						  .approved = p.approved,
						  .request = p.request };
	return 0;
}

int change_del(struct change *c, struct sl jid, bool push)
{
	struct ritem_edit e = { .jid = jid };

	if (!c || c->oom || edit_copy(c->a, &e, &c->push))
		return E_NOMEM;
	if (push && !out_add(c, CH_PUSH))
		return E_NOMEM;
	c->removed = true;
	c->kind = CH_DEL;
	c->del.owner = c->u->jid.bare;
	c->del.jid = c->push.jid;
	roster_unset(c->u->roster, c->push.jid);
	return 0;
}

/* ---- what a change causes -------------------------------------------------------------------- */

/* ROST-5: to every session that asked for the roster. */
static void push(struct user *u, const struct ritem_edit *e, bool removed)
{
	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);
		struct stanza *st;
		char id[32];
		int len;

		if (!s->interested || s->ending)
			continue;
		len = snprintf(id, sizeof(id), "push-%llu", (unsigned long long)++u->w->push_id);
		if (stanza_new(STANZA_IQ, ST_SET, NULL, &s->jid, sl_mk(id, (size_t)len), &st))
			continue;
		struct xml_node *q = xml_add(st->arena, st->root, NS_ROSTER, SL("query"));

		if (!q || roster_item_xml(st->arena, q, e, removed) || stanza_seal(st))
			stanza_unref(&st);
		else
			session_send_take(s, st);
	}
}

static void to_sessions(struct user *u, struct stanza *st, bool interested)
{
	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (!s->ending && (interested ? s->interested : s->presence != NULL))
			session_send(s, st, SL_NULL);
	}
}

/* Behind a change that was not stored (USER-4): the roster in memory is wrong until it is loaded
 * again. Presence comes again then; who asked for the roster asks again. */
static void call_later(struct user *u, struct out *o)
{
	if (o->st->kind == STANZA_PRESENCE)
		route_item(u->w, (struct item){ .st = stanza_ref(o->st) });
	else
		route_error(u->w, o->st, SC_INTERNAL_SERVER_ERROR,
			    SL("a change before it could not be stored"));
}

static void perform(struct change *c, struct out *o)
{
	struct user *u = c->u;

	switch (o->what) {
	case CH_ROUTE:
		route_new(u->w, o->st);
		o->st = NULL;
		break;
	case CH_ANSWER:
		user_answer(u, o->st);
		o->st = NULL;
		break;
	case CH_AVAILABLE:
		to_sessions(u, o->st, false);
		break;
	case CH_INTERESTED:
		to_sessions(u, o->st, true);
		break;
	case CH_PUSH:
		push(u, &c->push, c->removed);
		break;
	case CH_PRESENCE:
		presence_send_current(u, o->jid);
		break;
	case CH_GONE:
		presence_send_gone(u, o->jid);
		break;
	case CH_CALL:
		if (u->roster->broken)
			call_later(u, o);
		else
			o->fn(u, o->st);
		break;
	case CH_ITEM:
		route_item(u->w, o->it);
		o->it = (struct item){ 0 };
		break;
	}
}

static void run_changes(struct user *u)
{
	struct roster *r = u->roster;

	while (!list_empty(&r->changes)) {
		struct change *c = LIST_ENTRY(r->changes.next, struct change, node);

		if (!c->done)
			return;
		list_remove(&c->node);
		u->unsettled--;
		if (c->rc == 0) {
			for (struct out *o = c->first; o; o = o->next)
				perform(c, o);
		} else {
			r->broken = true;
			if (c->blame)
				route_error(u->w, c->blame, SC_INTERNAL_SERVER_ERROR,
					    SL("the change could not be stored"));
		}
		change_free(c);
	}
	if (r->broken) {
		r->broken = false;
		user_reload(u);
	}
}

static void change_done(struct store_op *op)
{
	struct change *c = op->arg;
	struct user *u = c->u;

	c->done = true;
	c->rc = op->rc;
	if (op->rc) {
		count(u->w, CNT_STORE_FAILED);
		log_ev(LOG_L_ERROR, "roster.store.failed", KS("user", u->jid.bare),
		       KC("err", e_name(op->rc)));
	}
	store_op_fini(op);
	user_hold(u);
	run_changes(u);
	user_release(u);
}

void change_submit(struct change *c)
{
	struct user *u;

	if (!c)
		return;
	u = c->u;
	list_append(&u->roster->changes, &c->node);
	u->unsettled++;
	if (c->kind == CH_PUT) {
		struct store_roster_put p = c->put;

		store_op_init(&c->put.op, STORE_ROSTER_PUT, change_done, c);
		c->put.owner = p.owner;
		c->put.item = p.item;
		store_submit(u->w->store, &c->put.op);
	} else if (c->kind == CH_DEL) {
		store_op_init(&c->del.op, STORE_ROSTER_DEL, change_done, c);
		store_submit(u->w->store, &c->del.op);
	} else {
		c->done = true;
		run_changes(u);
	}
}

/* DELIV-3: the order of what the user sends. */
int change_defer(struct user *u, struct item it)
{
	struct change *c = list_empty(&u->roster->changes) ? NULL : change_new(u);
	struct out *o = c ? out_add(c, CH_ITEM) : NULL;

	if (!o) {
		if (c)
			change_free(c);
		return SVC_PASS;
	}
	o->it = it;
	change_submit(c);
	return SVC_HANDLED;
}
