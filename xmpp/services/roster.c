/* roster.c - the roster: RFC 6121 section 2 (rules ROST-n). The items in memory, their changes, and
 * the iqs.
 *
 * A change is made in memory at once and submitted; what it causes (the answer, pushes, presence)
 * is sent when it is committed, in the order of the changes. Should a commit fail, the user is
 * loaded again. */
#include "xmpp/services/services.h"

#include "appliance/base/log.h"

#define NAME_MAX_OCTETS JID_PART_MAX
#define GROUPS_MAX      100u
#define CHANGE_OCTETS   (4u << 20)

static const char *const sub_names[] = { "none", "to", "from", "both" };

static uint8_t sub_shown(enum sub_state s)
{
	return (uint8_t)((sub_to(s) ? 1 : 0) + (sub_from(s) ? 2 : 0)); /* STORE_SUB_* */
}

/* ---- items in memory ------------------------------------------------------------------------- */

static uint32_t position(const struct roster *r, struct sl jid, bool *found_r)
{
	uint32_t lo = 0, hi = r->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = sl_cmp(ritem_jid(r->item[mid]), jid);

		if (c == 0) {
			*found_r = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*found_r = false;
	return lo;
}

struct ritem *roster_find(const struct user *u, struct sl jid)
{
	bool found;
	uint32_t at;

	if (!u->roster)
		return NULL;
	at = position(u->roster, jid, &found);
	return found ? u->roster->item[at] : NULL;
}

enum sub_state roster_state(const struct user *u, struct sl jid)
{
	const struct ritem *i = roster_find(u, jid);

	return i ? (enum sub_state)i->state : SUB_NONE;
}

uint32_t roster_room(const struct user *u)
{
	uint32_t max = u->w->cfg->lim.roster_items;

	return u->roster->n < max ? max - u->roster->n : 0;
}

static void copy_text(char **p, struct sl s)
{
	if (s.n)
		memcpy(*p, s.p, s.n);
	*p += s.n;
}

static struct ritem *ritem_new(const struct ritem_edit *e)
{
	size_t n = e->jid.n + e->name.n + e->groups.n + e->request.n;
	struct ritem *i = malloc(sizeof(*i) + n);
	char *p;

	if (!i)
		return NULL;
	*i = (struct ritem){ .state = (uint8_t)e->state,
			     .in_roster = e->in_roster,
			     .approved = e->approved,
			     .jid_n = (uint16_t)e->jid.n,
			     .name_n = (uint16_t)e->name.n,
			     .groups_n = (uint32_t)e->groups.n,
			     .request_n = (uint32_t)e->request.n };
	p = i->text;
	copy_text(&p, e->jid);
	copy_text(&p, e->name);
	copy_text(&p, e->groups);
	copy_text(&p, e->request);
	return i;
}

static int roster_set(struct roster *r, struct ritem *i)
{
	bool found;
	uint32_t at = position(r, ritem_jid(i), &found);

	if (found) {
		free(r->item[at]);
		r->item[at] = i;
		return 0;
	}
	if (r->n == r->cap) {
		uint32_t cap = r->cap ? r->cap + r->cap / 2 : 4;
		struct ritem **item = realloc(r->item, cap * sizeof(struct ritem *));

		if (!item)
			return E_NOMEM;
		r->item = item;
		r->cap = cap;
	}
	memmove(r->item + at + 1, r->item + at, (r->n - at) * sizeof(struct ritem *));
	r->item[at] = i;
	r->n++;
	return 0;
}

static void roster_unset(struct roster *r, struct sl jid)
{
	bool found;
	uint32_t at = position(r, jid, &found);

	if (!found)
		return;
	free(r->item[at]);
	r->n--;
	memmove(r->item + at, r->item + at + 1, (r->n - at) * sizeof(struct ritem *));
}

struct ritem_edit ritem_edit(const struct user *u, struct sl jid)
{
	const struct ritem *i = roster_find(u, jid);

	if (!i)
		return (struct ritem_edit){ .jid = jid, .state = SUB_NONE };
	return (struct ritem_edit){ .jid = jid,
				    .name = ritem_name(i),
				    .groups = ritem_groups(i),
				    .request = ritem_request(i),
				    .state = (enum sub_state)i->state,
				    .in_roster = i->in_roster,
				    .approved = i->approved };
}

/* ---- from and to the store ------------------------------------------------------------------- */

static enum sub_state state_of(const struct store_roster_item *s)
{
	static const uint8_t map[4][4] = {
		/* shown                  -         ask           pending in     both */
		[STORE_SUB_NONE] = { SUB_NONE, SUB_NONE_PO, SUB_NONE_PI, SUB_NONE_POPI },
		[STORE_SUB_TO] = { SUB_TO, SUB_TO, SUB_TO_PI, SUB_TO_PI },
		[STORE_SUB_FROM] = { SUB_FROM, SUB_FROM_PO, SUB_FROM, SUB_FROM_PO },
		[STORE_SUB_BOTH] = { SUB_BOTH, SUB_BOTH, SUB_BOTH, SUB_BOTH },
	};

	return (enum sub_state)map[s->subscription & 3][(s->ask ? 1 : 0) + (s->pending_in ? 2 : 0)];
}

static void roster_clear(struct roster *r)
{
	for (uint32_t i = 0; i < r->n; i++)
		free(r->item[i]);
	free(r->item);
	r->item = NULL;
	r->n = r->cap = 0;
}

static void roster_free(struct user *u)
{
	if (!u->roster)
		return;
	roster_clear(u->roster);
	free(u->roster);
	u->roster = NULL;
}

static int load_item(struct roster *r, const struct store_roster_item *s)
{
	struct ritem_edit e = { .jid = s->jid,
				.name = s->name,
				.groups = s->groups,
				.request = s->request,
				.state = state_of(s),
				.in_roster = s->in_roster,
				.approved = s->approved };
	struct ritem *i;

	if (!s->jid.n || s->jid.n > JID_MAX || s->name.n > UINT16_MAX)
		return 0;
	i = ritem_new(&e);
	if (!i)
		return E_NOMEM;
	if (roster_set(r, i)) {
		free(i);
		return E_NOMEM;
	}
	return 0;
}

static int user_loaded(struct user *u, const struct store_roster_load *l)
{
	int rc = 0;

	if (u->roster) { /* again; changes may still be under way */
		roster_clear(u->roster);
	} else {
		u->roster = calloc(1, sizeof(*u->roster));
		if (!u->roster)
			return E_NOMEM;
		list_init(&u->roster->changes);
	}
	if (l->n_r) {
		u->roster->item = malloc(l->n_r * sizeof(struct ritem *));
		if (!u->roster->item)
			return E_NOMEM;
		u->roster->cap = l->n_r;
	}
	for (unsigned i = 0; i < l->n_r && !rc; i++)
		rc = load_item(u->roster, &l->item_r[i]);
	return rc;
}

/* ---- changes --------------------------------------------------------------------------------- */

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

static int add_item(struct arena *a, struct xml_node *query, const struct ritem_edit *e,
		    bool removed)
{
	struct xml_node *item = xml_add(a, query, NS_ROSTER, SL("item"));
	struct sl rest = e->groups;

	item = xml_set(a, item, SL("jid"), e->jid);
	if (removed)
		return xml_set(a, item, SL("subscription"), SL("remove")) ? 0 : E_NOMEM;
	if (e->name.n)
		item = xml_set(a, item, SL("name"), e->name);
	item = xml_set(a, item, SL("subscription"), sl_cstr(sub_names[sub_shown(e->state)]));
	if (sub_ask(e->state))
		item = xml_set(a, item, SL("ask"), SL("subscribe"));
	if (e->approved)
		item = xml_set(a, item, SL("approved"), SL("true"));
	while (item && rest.n) {
		size_t end = sl_find(rest, '\n', 0);
		struct xml_node *g = xml_add(a, item, NS_ROSTER, SL("group"));

		if (!xml_add_text(a, g, sl_sub(rest, 0, end)))
			return E_NOMEM;
		rest = sl_sub(rest, end + 1, rest.n);
	}
	return item ? 0 : E_NOMEM;
}

/* ROST-5: to every session that asked for the roster. */
static void push(struct user *u, const struct ritem_edit *e, bool removed)
{
	LIST_FOREACH(n, next, &u->sessions)
	{
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

		if (!q || add_item(st->arena, q, e, removed) || stanza_seal(st))
			stanza_unref(&st);
		else
			session_send_take(s, st);
	}
}

static void to_sessions(struct user *u, struct stanza *st, bool interested)
{
	LIST_FOREACH(n, next, &u->sessions)
	{
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (!s->ending && (interested ? s->interested : s->presence != NULL))
			session_send(s, st, SL_NULL);
	}
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
static int defer(struct user *u, struct item it)
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

/* ---- the iqs --------------------------------------------------------------------------------- */

/* ROST-1 */
static void send_roster(struct user *u, struct stanza *st)
{
	struct xml_node *q;
	struct stanza *res = svc_result(st, NS_ROSTER, SL("query"), &q);

	for (uint32_t i = 0; res && i < u->roster->n; i++) {
		const struct ritem *it = u->roster->item[i];
		struct ritem_edit e = { .jid = ritem_jid(it),
					.name = ritem_name(it),
					.groups = ritem_groups(it),
					.state = (enum sub_state)it->state,
					.approved = it->approved };

		if (it->in_roster && add_item(res->arena, q, &e, false))
			stanza_unref(&res);
	}
	if (res)
		user_answer(u, res);
	else
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
}

static int iq_get(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct change *ch = change_new(c->user);

	(void)payload;
	if (!ch) {
		route_error(c->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		return SVC_HANDLED;
	}
	if (c->session)
		c->session->interested = true;
	change_call(ch, send_roster, st);
	change_submit(ch);
	return SVC_HANDLED;
}

static bool group_given(struct sl groups, struct sl g)
{
	while (groups.n) {
		size_t end = sl_find(groups, '\n', 0);

		if (sl_eq(sl_sub(groups, 0, end), g))
			return true;
		groups = sl_sub(groups, end + 1, groups.n);
	}
	return false;
}

/* ROST-3: the groups as one text. 0, or the condition to answer with. */
static int parse_groups(struct arena *a, const struct xml_node *item, struct sl *groups_r)
{
	size_t room = 0, n = 0;
	unsigned count_groups = 0;
	char *text;

	for (struct xml_node *g = xml_child(item, NS_ROSTER, SL("group")); g;
	     g = xml_child_next(g, NS_ROSTER, SL("group"))) {
		struct sl t = xml_text(a, g);

		if (!t.n || t.n > NAME_MAX_OCTETS || ++count_groups > GROUPS_MAX)
			return SC_NOT_ACCEPTABLE;
		room += t.n + 1;
	}
	text = arena_bytes(a, room + 1);
	if (!text)
		return SC_RESOURCE_CONSTRAINT;
	for (struct xml_node *g = xml_child(item, NS_ROSTER, SL("group")); g;
	     g = xml_child_next(g, NS_ROSTER, SL("group"))) {
		struct sl t = xml_text(a, g);
		size_t at = n;

		for (size_t i = 0; i < t.n; i++)
			text[n++] = t.p[i] == '\n' || t.p[i] == '\r' || t.p[i] == '\t' ? ' '
										       : t.p[i];
		if (group_given(sl_mk(text, at), sl_mk(text + at, n - at)))
			return SC_BAD_REQUEST;
		text[n++] = '\n';
	}
	*groups_r = sl_mk(text, n);
	return -1;
}

static void set_result(struct change *ch, struct stanza *st)
{
	struct stanza *res;

	if (stanza_iq_result(st, &res))
		res = NULL;
	change_out(ch, CH_ANSWER, res);
}

/* A stanza about the subscription that the server sends for the user. */
static void tell(struct change *ch, struct user *u, enum stanza_type t, struct sl jid)
{
	struct jid to = jid_split(jid);
	struct stanza *st;

	if (stanza_new(STANZA_PRESENCE, t, &u->jid, &to, SL_NULL, &st))
		st = NULL;
	change_out(ch, CH_ROUTE, st);
}

/* ROST-4: RFC 6121 2.5.2: the subscriptions end with the item. -1, or the condition to answer with.
 */
static int remove_item(struct change *ch, struct user *u, struct stanza *st, struct sl jid)
{
	const struct ritem *i = roster_find(u, jid);
	enum sub_state s;

	if (!i || !i->in_roster)
		return SC_ITEM_NOT_FOUND;
	s = (enum sub_state)i->state;
	if (change_del(ch, jid, true))
		return SC_RESOURCE_CONSTRAINT;
	set_result(ch, st);
	if (sub_to(s) || sub_ask(s))
		tell(ch, u, ST_UNSUBSCRIBE, jid);
	if (sub_from(s) || sub_pending_in(s))
		tell(ch, u, ST_UNSUBSCRIBED, jid);
	if (sub_from(s))
		change_out_jid(ch, CH_GONE, jid);
	return -1;
}

static int set_item(struct change *ch, struct user *u, struct stanza *st,
		    const struct xml_node *item, const struct jid *jid)
{
	struct ritem_edit e = ritem_edit(u, jid->full);
	struct sl name = xml_attr(item, SL("name"));
	int cond;

	if (sl_eq(xml_attr(item, SL("subscription")), SL("remove")))
		return remove_item(ch, u, st, jid->full);
	if (sl_eq(jid->full, u->jid.bare))
		return SC_NOT_ALLOWED;
	if (name.n > NAME_MAX_OCTETS)
		return SC_NOT_ACCEPTABLE;
	cond = parse_groups(st->arena, item, &e.groups);
	if (cond >= 0)
		return cond;
	if (!roster_find(u, jid->full) && !roster_room(u))
		return SC_RESOURCE_CONSTRAINT;
	e.name = name;
	e.in_roster = true;
	if (change_put(ch, &e, true))
		return SC_RESOURCE_CONSTRAINT;
	set_result(ch, st);
	return -1;
}

/* RFC 6121 2.3.3. -1, or the condition. */
static int check_set(struct stanza *st, struct xml_node *payload, struct xml_node **item_r,
		     struct jid *jid_r)
{
	struct xml_node *item = xml_child(payload, NS_ROSTER, SL("item"));
	struct sl jid = xml_attr(item, SL("jid"));

	if (!item || xml_child_next(item, NS_ROSTER, SL("item")) || !jid.n)
		return SC_BAD_REQUEST;
	if (jid_parse(st->arena, jid, jid_r, NULL))
		return SC_JID_MALFORMED;
	if (!jid_is_bare(jid_r))
		return SC_BAD_REQUEST;
	*item_r = item;
	return -1;
}

static int iq_set(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct change *ch = change_new(c->user);
	struct xml_node *item;
	struct jid jid;
	int cond = ch ? check_set(st, payload, &item, &jid) : SC_RESOURCE_CONSTRAINT;

	if (cond < 0)
		cond = set_item(ch, c->user, st, item, &jid);
	if (cond >= 0) {
		route_error(c->w, st, (enum stanza_cond)cond, SL_NULL);
		if (ch)
			change_free(ch);
		return SVC_HANDLED;
	}
	change_blame(ch, st);
	change_submit(ch);
	return SVC_HANDLED;
}

static const struct svc_iq iqs[] = {
	{ SVC_TO_SELF, ST_GET, NS_ROSTER, "query", iq_get, "ROST-1" },
	{ SVC_TO_SELF, ST_SET, NS_ROSTER, "query", iq_set, "ROST-3" },
	{ 0 },
};

const struct service svc_roster = {
	.name = "roster",
	.iq = iqs,
	.user_loaded = user_loaded,
	.user_freed = roster_free,
	.defer = defer,
};
