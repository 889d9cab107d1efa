/* fuzz_xml_stream.c - octets as a stream: fed whole and cut in pieces, with pauses, parking and
 * moves between pools, beside a stream of the same pool, they must give the same events; and what is read must survive being written
 * and read again, as a tree and as a stanza. */
#include "tests/unit/xml_recorder.h"
#include "xmpp/stream/stanza.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char head[] =
	"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a' version='1.0'>";

static void check(bool ok)
{
	if (!ok)
		abort();
}

static bool same_ns(enum xml_ns a, struct sl au, enum xml_ns b, struct sl bu)
{
	return a == b && (a != NS_OTHER || sl_eq(au, bu));
}

static void check_same(const struct xml_node *a, const struct xml_node *b, bool with_attrs)
{
	const struct xml_node *x = a->first, *y = b->first;
	const struct xml_attr *s = a->attrs, *t = b->attrs;

	check(sl_eq(a->name, b->name) && sl_eq(a->text, b->text) &&
	      same_ns(a->ns, a->ns_uri, b->ns, b->ns_uri));
	for (; with_attrs && s && t; s = s->next, t = t->next)
		check(sl_eq(s->name, t->name) && sl_eq(s->value, t->value) &&
		      same_ns(s->ns, s->ns_uri, t->ns, t->ns_uri));
	check(!with_attrs || (!s && !t));
	for (; x && y; x = x->next, y = y->next) {
		check(x->parent == a && y->parent == b);
		check_same(x, y, true);
	}
	check(!x && !y);
}

static struct arena *read_back(const struct buf *b, struct xml_node **n_r)
{
	struct arena *a = arena_new(4096, 64u << 20);

	check(a && xml_parse_one(a, buf_sl(b), n_r, NULL) == 0);
	return a;
}

static void as_stanza(struct arena *a, struct xml_node *copy, const struct xml_node *n)
{
	struct jid bad_addr = jid_split(SL("x@y/'&<"));
	struct buf b = { .max = 8u << 20 };
	struct xml_node *back;
	struct stanza *s;
	bool bad;

	if (stanza_take(a, copy, &s, &bad, NULL) < 0) {
		arena_free(&a);
		return;
	}
	(void)stanza_promises(s);
	check(stanza_seal(s) == 0 && stanza_wire(&b, s, &bad_addr, NULL, SL_NULL) == 0);
	struct arena *c = read_back(&b, &back);
	check_same(n, back, false);
	check(sl_eq(xml_attr(back, SL("from")), bad_addr.full) &&
	      sl_eq(xml_attr(back, SL("to")), s->to.full));
	check(sl_eq(xml_attr(back, SL("id")), xml_attr(n, SL("id"))));
	arena_free(&c);
	stanza_unref(&s);
	buf_free(&b);
}

static void look(const struct xml_node *n)
{
	struct buf b = { .max = 8u << 20 };
	struct xml_node *back;

	check(xml_write(&b, n, NS_STANZA) == 0);
	struct arena *a = read_back(&b, &back);
	check_same(n, back, true);
	as_stanza(a, back, n);
	buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct xml_limits lim = {
		.stanza_octets = 2000, .depth = 12, .attrs = 20, .nodes = 60
	};
	struct recorder whole, cut, near;
	struct sl in;
	unsigned seed, how;
	int rc = 0, near_rc = 0;

	if (size < 2)
		return 0;
	seed = data[0];
	how = data[1];
	in = sl_mk((const char *)data + 2, size - 2);
	check(recorder_init(&whole, &lim) == 0 && recorder_init(&cut, &lim) == 0);
	check(recorder_init(&near, &lim) == 0);
	xml_stream_move(near.x, cut.pool[0], &recorder_ops, &near);
	whole.look = look;
	cut.pause = how & 1;
	if (how & 8)
		check(recorder_feed(&whole, SL(head)) == 0 && recorder_feed(&cut, SL(head)) == 0 &&
		      recorder_feed(&near, SL(head)) == 0);
	int whole_rc = recorder_feed(&whole, in);
	for (size_t at = 0; at < in.n && rc == 0;) {
		size_t n = how & 16 ? 1 : (size_t)rand_r(&seed) % 40 + 1;
		rc = recorder_feed(&cut, sl_sub(in, at, at + n));
		if (how & 32 && near_rc == 0)
			near_rc = recorder_feed(&near, sl_sub(in, at, at + n));
		at += n;
		if (how & 2)
			xml_stream_park(cut.x);
		if (how & 4)
			xml_stream_move(cut.x, cut.pool[at & 1], &recorder_ops, &cut);
	}
	/* Part of a long token may still be put aside: up to the limit, where there is a verdict on
	 * all of it. */
	char tail[2100];
	memset(tail, 'x', sizeof(tail));
	if (whole_rc == 0)
		recorder_feed(&whole, sl_mk(tail, sizeof(tail)));
	if (rc == 0)
		recorder_feed(&cut, sl_mk(tail, sizeof(tail)));
	if (near_rc == 0 && how & 32)
		recorder_feed(&near, sl_mk(tail, sizeof(tail)));
	check(sl_eq(buf_sl(&whole.log), buf_sl(&cut.log)));
	check(!(how & 32) || sl_eq(buf_sl(&whole.log), buf_sl(&near.log)));
	recorder_free(&near);
	recorder_free(&whole);
	recorder_free(&cut);
	return 0;
}
