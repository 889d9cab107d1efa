/* xml_write.c - trees to bytes. See xml.h.
 *
 * Elements are written with default-namespace declarations only, and only where the namespace
 * changes; attributes in a namespace get a prefix that is declared on the same element. Whatever
 * prefixes the sender used are gone. Line ends and tabs that XML would normalise away are written
 * as character references, so that parsing gives the same tree again; characters that XML cannot
 * carry become U+FFFD. */
#include "xmpp/stream/xml_priv.h"

#include <stdio.h>

#define CONTENT_URI "jabber:client"

enum esc { ESC_NO, ESC_AMP, ESC_LT, ESC_GT, ESC_APOS, ESC_QUOT, ESC_CR, ESC_LF, ESC_TAB, ESC_BAD };

static const struct sl esc_text[] = {
	[ESC_AMP] = { "&amp;", 5 },        [ESC_LT] = { "&lt;", 4 },
	[ESC_GT] = { "&gt;", 4 },          [ESC_APOS] = { "&apos;", 6 },
	[ESC_QUOT] = { "&quot;", 6 },      [ESC_CR] = { "&#13;", 5 },
	[ESC_LF] = { "&#10;", 5 },         [ESC_TAB] = { "&#9;", 4 },
	[ESC_BAD] = { "\xef\xbf\xbd", 3 },
};

#define ESC_CONTROLS \
	[0] = ESC_BAD, [1] = ESC_BAD, [2] = ESC_BAD, [3] = ESC_BAD, [4] = ESC_BAD, [5] = ESC_BAD, \
	[6] = ESC_BAD, [7] = ESC_BAD, [8] = ESC_BAD, [0xb] = ESC_BAD, [0xc] = ESC_BAD, \
	['\r'] = ESC_CR, [0xe] = ESC_BAD, [0xf] = ESC_BAD, [0x10] = ESC_BAD, [0x11] = ESC_BAD, \
	[0x12] = ESC_BAD, [0x13] = ESC_BAD, [0x14] = ESC_BAD, [0x15] = ESC_BAD, [0x16] = ESC_BAD, \
	[0x17] = ESC_BAD, [0x18] = ESC_BAD, [0x19] = ESC_BAD, [0x1a] = ESC_BAD, [0x1b] = ESC_BAD, \
	[0x1c] = ESC_BAD, [0x1d] = ESC_BAD, [0x1e] = ESC_BAD, [0x1f] = ESC_BAD

static const uint8_t class_text[256] = {
	ESC_CONTROLS,
	['&'] = ESC_AMP,
	['<'] = ESC_LT,
	['>'] = ESC_GT,
};
static const uint8_t class_value[256] = {
	ESC_CONTROLS,      ['&'] = ESC_AMP,  ['<'] = ESC_LT,  ['>'] = ESC_GT,
	['\''] = ESC_APOS, ['"'] = ESC_QUOT, ['\n'] = ESC_LF, ['\t'] = ESC_TAB,
};
static const uint8_t class_any[256] = {
	ESC_CONTROLS,   ['&'] = ESC_AMP,   ['<'] = ESC_LT,
	['>'] = ESC_GT, ['\''] = ESC_APOS, ['"'] = ESC_QUOT,
};

#define EACH(c)     (0x0101010101010101ull * (c))
#define ANY_ZERO(v) (((v)-EACH(1)) & ~(v)&EACH(0x80))

/* Eight octets at once: none of them is in any of the classes. */
static inline bool all_plain(const char *p)
{
	uint64_t v, bad;

	memcpy(&v, p, 8);
	bad = (v - EACH(0x20)) & ~v & EACH(0x80);    /* a control character */
	bad |= ANY_ZERO((v | EACH(1)) ^ EACH('\'')); /* ' or & */
	bad |= ANY_ZERO((v | EACH(2)) ^ EACH('>'));  /* < or > */
	bad |= ANY_ZERO(v ^ EACH('"'));
	return !bad;
}

static void put_escaped(struct xml_out *w, struct sl s, const uint8_t *class)
{
	size_t run = 0;

	for (size_t i = 0; i < s.n; i++) {
		while (s.n - i >= 8 && all_plain(s.p + i))
			i += 8;
		if (i == s.n)
			break;
		unsigned c = class[(unsigned char)s.p[i]];
		if (c == ESC_NO)
			continue;
		xml_out_put(w, s.p + run, i - run);
		xml_out_sl(w, esc_text[c]);
		run = i + 1;
	}
	if (run < s.n)
		xml_out_put(w, s.p + run, s.n - run);
}

void xml_out_value(struct xml_out *w, struct sl s)
{
	put_escaped(w, s, class_value);
}

void xml_out_text(struct xml_out *w, struct sl s)
{
	put_escaped(w, s, class_text);
}

static struct sl uri_of(enum xml_ns ns, struct sl other)
{
	if (ns == NS_OTHER)
		return other;
	return ns == NS_STANZA ? SL(CONTENT_URI) : xml_ns_uri(ns);
}

static void put_attr_prefixed(struct xml_out *w, const struct xml_attr *t, unsigned nth)
{
	char prefix[16];
	size_t n = (size_t)snprintf(prefix, sizeof(prefix), "ns%u", nth);

	XML_OUT_LIT(w, " xmlns:");
	xml_out_put(w, prefix, n);
	XML_OUT_LIT(w, "='");
	xml_out_value(w, uri_of(t->ns, t->ns_uri));
	XML_OUT_LIT(w, "' ");
	xml_out_put(w, prefix, n);
	XML_OUT_LIT(w, ":");
}

static bool is_address(const struct xml_attr *t)
{
	return t->ns == NS_NONE && (sl_eq(t->name, SL("to")) || sl_eq(t->name, SL("from")));
}

void xml_out_attrs(struct xml_out *w, const struct xml_node *n, bool skip_addresses)
{
	unsigned prefixes = 0;

	for (const struct xml_attr *t = n->attrs; t; t = t->next) {
		if (skip_addresses && is_address(t))
			continue;
		if (t->ns == NS_NONE)
			XML_OUT_LIT(w, " ");
		else if (t->ns == NS_XML)
			XML_OUT_LIT(w, " xml:");
		else
			put_attr_prefixed(w, t, prefixes++);
		xml_out_sl(w, t->name);
		XML_OUT_LIT(w, "='");
		xml_out_value(w, t->value);
		XML_OUT_LIT(w, "'");
	}
}

/* The default namespace in force. */
struct scope {
	enum xml_ns ns;
	struct sl uri; /* when NS_OTHER */
};

static void put_node(struct xml_out *w, const struct xml_node *n, struct scope in, bool top);

static void put_children(struct xml_out *w, const struct xml_node *n, struct scope in)
{
	for (const struct xml_node *c = n->first; c; c = c->next)
		put_node(w, c, in, false);
}

/* Elements that have a prefix: stream features and errors, because clients expect it; and those in
 * the namespace of xml:lang, which must not be made the default. */
static struct sl prefix_of(const struct xml_node *n, bool top)
{
	if (n->ns == NS_XML)
		return SL("xml:");
	return top && n->ns == NS_STREAM ? SL("stream:") : SL_NULL;
}

static void put_node(struct xml_out *w, const struct xml_node *n, struct scope in, bool top)
{
	if (n->name.n == 0) {
		xml_out_text(w, n->text);
		return;
	}
	struct sl prefix = prefix_of(n, top);
	XML_OUT_LIT(w, "<");
	xml_out_sl(w, prefix);
	xml_out_sl(w, n->name);
	if (!prefix.n && (n->ns != in.ns || (n->ns == NS_OTHER && !sl_eq(n->ns_uri, in.uri)))) {
		in = (struct scope){ n->ns, n->ns_uri };
		XML_OUT_LIT(w, " xmlns='");
		xml_out_value(w, uri_of(n->ns, n->ns_uri));
		XML_OUT_LIT(w, "'");
	}
	xml_out_attrs(w, n, false);
	if (!n->first) {
		XML_OUT_LIT(w, "/>");
		return;
	}
	XML_OUT_LIT(w, ">");
	put_children(w, n, in);
	XML_OUT_LIT(w, "</");
	xml_out_sl(w, prefix);
	xml_out_sl(w, n->name);
	XML_OUT_LIT(w, ">");
}

void xml_out_children(struct xml_out *w, const struct xml_node *n)
{
	put_children(w, n, (struct scope){ NS_STANZA, SL_NULL });
}

#define FIRST_TRY 512u

int xml_write(struct buf *out, const struct xml_node *n, enum xml_ns parent_ns)
{
	struct scope in = { parent_ns == NS_STREAM ? NS_STANZA : parent_ns, SL_NULL };
	char try[FIRST_TRY];
	struct xml_out w;

	xml_out_init(&w, try, sizeof(try));
	put_node(&w, n, in, true);
	if (w.need <= sizeof(try))
		return buf_add(out, sl_mk(try, w.need));
	size_t need = w.need;
	char *dst = buf_reserve(out, need);
	if (!dst)
		return need > out->max || out->n > out->max - need ? E_TOOBIG : E_NOMEM;
	xml_out_init(&w, dst, need);
	put_node(&w, n, in, true);
	buf_commit(out, need);
	return 0;
}

int xml_write_escaped(struct buf *out, struct sl text)
{
	struct xml_out w;

	xml_out_init(&w, NULL, 0);
	put_escaped(&w, text, class_any);
	size_t need = w.need;
	if (need == 0)
		return 0;
	char *dst = buf_reserve(out, need);
	if (!dst)
		return need > out->max || out->n > out->max - need ? E_TOOBIG : E_NOMEM;
	xml_out_init(&w, dst, need);
	put_escaped(&w, text, class_any);
	buf_commit(out, need);
	return 0;
}
