/* stanza.c - stanzas: made from a parsed tree or from nothing, sealed, written for each recipient.
 * See stanza.h. */
#include "xmpp/stream/stanza.h"

#include "appliance/base/enc.h"
#include "xmpp/stream/xml_priv.h"

#define NEW_OCTETS 976u        /* first block of a stanza of ours */
#define NEW_CAP    (64u << 20) /* ours may hold stored ones; their own limits apply to them */
#define SEAL_TRY   1024u

static const struct {
	struct sl tag;
} kinds[] = {
	[STANZA_MESSAGE] = { { "message", 7 } },
	[STANZA_PRESENCE] = { { "presence", 8 } },
	[STANZA_IQ] = { { "iq", 2 } },
};

static const struct {
	struct sl name;
	uint8_t kinds; /* bit per enum stanza_kind */
} types[] = {
	[ST_NONE] = { { NULL, 0 }, 0 },
	[ST_NORMAL] = { { "normal", 6 }, 1u << STANZA_MESSAGE },
	[ST_CHAT] = { { "chat", 4 }, 1u << STANZA_MESSAGE },
	[ST_GROUPCHAT] = { { "groupchat", 9 }, 1u << STANZA_MESSAGE },
	[ST_HEADLINE] = { { "headline", 8 }, 1u << STANZA_MESSAGE },
	[ST_UNAVAILABLE] = { { "unavailable", 11 }, 1u << STANZA_PRESENCE },
	[ST_SUBSCRIBE] = { { "subscribe", 9 }, 1u << STANZA_PRESENCE },
	[ST_SUBSCRIBED] = { { "subscribed", 10 }, 1u << STANZA_PRESENCE },
	[ST_UNSUBSCRIBE] = { { "unsubscribe", 11 }, 1u << STANZA_PRESENCE },
	[ST_UNSUBSCRIBED] = { { "unsubscribed", 12 }, 1u << STANZA_PRESENCE },
	[ST_PROBE] = { { "probe", 5 }, 1u << STANZA_PRESENCE },
	[ST_GET] = { { "get", 3 }, 1u << STANZA_IQ },
	[ST_SET] = { { "set", 3 }, 1u << STANZA_IQ },
	[ST_RESULT] = { { "result", 6 }, 1u << STANZA_IQ },
	[ST_ERROR] = { { "error", 5 },
		       1u << STANZA_MESSAGE | 1u << STANZA_PRESENCE | 1u << STANZA_IQ },
};

static enum stanza_kind kind_of(const struct xml_node *root)
{
	if (root->ns != NS_STANZA)
		return STANZA_NONE;
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++)
		if (sl_eq(root->name, kinds[k].tag))
			return (enum stanza_kind)k;
	return STANZA_NONE;
}

static enum stanza_type type_of(enum stanza_kind k, struct sl v)
{
	for (unsigned t = ST_NORMAL; t < ARRAY_LEN(types); t++)
		if (types[t].kinds >> k & 1 && sl_eq(v, types[t].name))
			return (enum stanza_type)t;
	return ST_UNKNOWN;
}

static int take_jid(struct stanza *s, struct sl v, struct jid *j_r, bool *bad_r, struct err *e)
{
	int rc = jid_parse(s->arena, v, j_r, e);

	if (rc == E_SYNTAX) {
		*bad_r = true;
		*j_r = JID_NULL;
		return 0;
	}
	return rc;
}

int stanza_take(struct arena *a, struct xml_node *root, struct stanza **s_r, bool *jid_bad_r,
		struct err *e)
{
	enum stanza_kind k = kind_of(root);
	bool bad = false;
	int rc = 0;

	if (k == STANZA_NONE)
		return err_set(e, E_SYNTAX, "RFC 6120 4.9.3.24", "not a stanza: " SLFMT,
			       SLARG(utf8_prefix(root->name, 64)));
	struct stanza *s = arena_new_obj(a, struct stanza);
	if (!s)
		return err_set(e, E_NOMEM, NULL, "out of memory");
	atomic_init(&s->refs, 1);
	s->kind = (uint8_t)k;
	s->type = ST_NONE;
	s->arena = a;
	s->root = root;
	for (const struct xml_attr *t = root->attrs; t && rc == 0; t = t->next) {
		if (t->ns != NS_NONE)
			continue;
		if (sl_eq(t->name, SL("to")))
			rc = take_jid(s, t->value, &s->to, &bad, e);
		else if (sl_eq(t->name, SL("from")))
			rc = take_jid(s, t->value, &s->from, &bad, e);
		else if (sl_eq(t->name, SL("id")))
			s->id = t->value;
		else if (sl_eq(t->name, SL("type")))
			s->type = (uint8_t)type_of(k, t->value);
	}
	if (rc < 0)
		return rc;
	*jid_bad_r = bad;
	*s_r = s;
	return 0;
}

static int set_address(struct stanza *s, struct sl name, const struct jid *j, struct jid *slot)
{
	struct jid copy = JID_NULL;

	if (!j || jid_is_null(j)) {
		xml_unset(s->root, name);
		*slot = JID_NULL;
		return 0;
	}
	if (jid_dup(s->arena, j, &copy) < 0 || !xml_set(s->arena, s->root, name, copy.full))
		return E_NOMEM;
	*slot = copy;
	return 0;
}

int stanza_set_from(struct stanza *s, const struct jid *from)
{
	return set_address(s, SL("from"), from, &s->from);
}

int stanza_set_to(struct stanza *s, const struct jid *to)
{
	return set_address(s, SL("to"), to, &s->to);
}

int stanza_new(enum stanza_kind k, enum stanza_type t, const struct jid *from, const struct jid *to,
	       struct sl id, struct stanza **s_r)
{
	struct arena *a = arena_new(NEW_OCTETS, NEW_CAP);
	struct stanza *s = a ? arena_new_obj(a, struct stanza) : NULL;

	if (!s)
		goto nomem;
	atomic_init(&s->refs, 1);
	s->kind = (uint8_t)k;
	s->type = (uint8_t)t;
	s->arena = a;
	s->root = xml_new(a, NS_STANZA, kinds[k].tag);
	if (!s->root || stanza_set_from(s, from) < 0 || stanza_set_to(s, to) < 0)
		goto nomem;
	if (id.n) {
		s->id = arena_dup(a, id);
		if (!s->id.p || !xml_set(a, s->root, SL("id"), s->id))
			goto nomem;
	}
	if (t != ST_NONE && t < ARRAY_LEN(types) && !xml_set(a, s->root, SL("type"), types[t].name))
		goto nomem;
	*s_r = s;
	return 0;
nomem:
	arena_free(&a);
	return E_NOMEM;
}

/* head and middle in one go; they lie end to end. Returns the room needed, *head_r: the head's part
 * of it. */
static size_t serialise(const struct stanza *s, char *dst, size_t cap, size_t *head_r)
{
	struct xml_out w;

	xml_out_init(&w, dst, cap);
	xml_out_attrs(&w, s->root, true);
	*head_r = w.need;
	xml_out_children(&w, s->root);
	return w.need;
}

int stanza_seal(struct stanza *s)
{
	char try[SEAL_TRY], *p;
	size_t n, head;

	if (s->sealed)
		return 0;
	n = serialise(s, try, sizeof(try), &head);
	p = arena_bytes(s->arena, n);
	if (!p)
		return arena_may_hold(s->arena, n) ? E_NOMEM : E_TOOBIG;
	if (n <= sizeof(try))
		memcpy(p, try, n);
	else
		serialise(s, p, n, &head);
	s->head = sl_mk(p, head);
	s->middle = sl_mk(p + head, n - head);
	s->sealed = true;
	return 0;
}

size_t stanza_memory(const struct stanza *s)
{
	return arena_memory(s->arena);
}

struct stanza *stanza_ref(struct stanza *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void stanza_unref(struct stanza **sp)
{
	struct stanza *s = *sp;

	*sp = NULL;
	/* acq_rel and no fence: TSan does not know fences */
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	struct arena *a = s->arena;
	arena_free(&a);
}

/* ---- wire ------------------------------------------------------------------------------------ */

static void put_address(struct xml_out *w, const char *lead, size_t lead_n, struct sl jid)
{
	if (!jid.n)
		return;
	xml_out_put(w, lead, lead_n);
	xml_out_value(w, jid);
	XML_OUT_LIT(w, "'");
}

#define PUT_ADDRESS(w, lead, jid) put_address((w), (lead), sizeof(lead) - 1, (jid))

static void put_wire(struct xml_out *w, const struct stanza *s, const struct jid *from,
		     const struct jid *to, struct sl extra)
{
	struct sl tag = kinds[s->kind].tag;

	XML_OUT_LIT(w, "<");
	xml_out_sl(w, tag);
	PUT_ADDRESS(w, " to='", (to ? to : &s->to)->full);
	PUT_ADDRESS(w, " from='", (from ? from : &s->from)->full);
	xml_out_sl(w, s->head);
	if (s->middle.n + extra.n == 0) {
		XML_OUT_LIT(w, "/>");
		return;
	}
	XML_OUT_LIT(w, ">");
	xml_out_sl(w, s->middle);
	xml_out_sl(w, extra);
	XML_OUT_LIT(w, "</");
	xml_out_sl(w, tag);
	XML_OUT_LIT(w, ">");
}

/* Everything but the addresses, which escaping may make six times as long. */
#define WIRE_FRAME (sizeof("<presence to='' from=''></presence>") - 1)

size_t stanza_wire_max(const struct stanza *s, const struct jid *from, const struct jid *to,
		       struct sl extra)
{
	return WIRE_FRAME + s->head.n + s->middle.n + extra.n +
	       6 * ((to ? to : &s->to)->full.n + (from ? from : &s->from)->full.n);
}

size_t stanza_wire_put(const struct stanza *s, const struct jid *from, const struct jid *to,
		       struct sl extra, char *dst)
{
	struct xml_out w;

	xml_out_init(&w, dst, stanza_wire_max(s, from, to, extra));
	put_wire(&w, s, from, to, extra);
	return w.need;
}

int stanza_wire(struct buf *out, const struct stanza *s, const struct jid *from,
		const struct jid *to, struct sl extra)
{
	struct xml_out w;
	size_t room = stanza_wire_max(s, from, to, extra);
	char *dst = buf_reserve(out, room);

	if (!dst) { /* perhaps the bound was too generous */
		xml_out_init(&w, NULL, 0);
		put_wire(&w, s, from, to, extra);
		room = w.need;
		dst = buf_reserve(out, room);
	}
	if (!dst)
		return room > out->max || out->n > out->max - room ? E_TOOBIG : E_NOMEM;
	xml_out_init(&w, dst, room);
	put_wire(&w, s, from, to, extra);
	buf_commit(out, w.need);
	return 0;
}

/* ---- what a message promises ----------------------------------------------------------------- */

static bool worth_storing(const struct xml_node *c)
{
	switch (c->ns) {
	case NS_CHATSTATES:
	case NS_MARKERS:
	case NS_HINTS:
	case NS_SID:
	case NS_DELAY:
	case NS_NICK:
		return false;
	case NS_STANZA:
		return !sl_eq(c->name, SL("thread"));
	default:
		return true;
	}
}

bool stanza_promises(const struct stanza *s)
{
	bool worth = false;

	if (s->kind != STANZA_MESSAGE || s->type == ST_HEADLINE || s->type == ST_GROUPCHAT ||
	    s->type == ST_ERROR)
		return false;
	for (const struct xml_node *c = xml_first_element(s->root); c; c = xml_next_element(c)) {
		if (xml_is(c, NS_HINTS, SL("no-store")))
			return false;
		worth |= worth_storing(c) || xml_is(c, NS_HINTS, SL("store"));
	}
	return worth;
}

struct sl stanza_origin_id(const struct stanza *s)
{
	return xml_attr(xml_child(s->root, NS_SID, SL("origin-id")), SL("id"));
}
