/* roster.c - the roster iqs: RFC 6121 section 2 (rules ROST-n). The items are in roster_items.c,
 * what happens when a change is committed in change.c. */
#include "xmpp/services/services.h"

#define NAME_MAX_OCTETS JID_PART_MAX
#define GROUPS_MAX      100u

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

		if (it->in_roster && roster_item_xml(res->arena, q, &e, false))
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
	.user_loaded = roster_loaded,
	.user_freed = roster_free,
	.defer = change_defer,
};
