/* roster_items.c - the roster of a user in memory: a sorted array of items, each one allocation.
 * Loaded with the user; changed by change.c only. */
#include "xmpp/services/services.h"

static const char *const sub_names[] = { "none", "to", "from", "both" };

uint8_t sub_shown(enum sub_state s)
{
	return (uint8_t)((sub_to(s) ? 1 : 0) + (sub_from(s) ? 2 : 0)); /* STORE_SUB_* */
}

/* ---- items ----------------------------------------------------------------------------------- */

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

struct ritem *ritem_new(const struct ritem_edit *e)
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

int roster_set(struct roster *r, struct ritem *i)
{
	bool found;
	uint32_t at = position(r, ritem_jid(i), &found);

	if (found) {
		free(r->item[at]);
		r->item[at] = i;
		return 0;
	}
	if (r->n == r->cap) {
		uint32_t cap = r->cap < 4 ? 4 : r->cap + r->cap / 2; /* it may be 1: as loaded */
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

void roster_unset(struct roster *r, struct sl jid)
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

void roster_free(struct user *u)
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

int roster_loaded(struct user *u, const struct store_roster_load *l)
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

/* ---- as XML ---------------------------------------------------------------------------------- */

int roster_item_xml(struct arena *a, struct xml_node *query, const struct ritem_edit *e,
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
