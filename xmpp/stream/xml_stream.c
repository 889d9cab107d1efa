/* xml_stream.c - the incremental stream parser: expat underneath, element trees in arenas above. See xml.h.
 *
 * Positions are counted in octets given to the present expat parser (`fed`); `mark` is where the last thing
 * that belongs to no stanza ended, so `fed - mark` is what the stanza being read (or a partial token) has cost
 * so far. Never more than the limit and one octet is given to expat beyond `mark`: what a limit says does not
 * depend on how TCP cut the bytes, and a huge token is refused before expat has scanned it again and again
 * (re-parse deferral, its own defence, is off because it withholds complete stanzas).
 *
 * Expat keeps every element, attribute and prefix name that it has seen for its life. `odd` estimates
 * what names outside our own table have cost; over a limit the parser is replaced between two stanzas, by the same
 * means as an idle stream is parked: a fresh parser that has read a header with the same declarations. */
#include <expat.h>
#include <limits.h>

#include "appliance/base/hash.h"
#include "appliance/base/rnd.h"
#include "xmpp/stream/xml_priv.h"

#define SEP          '\x01' /* cannot occur in XML, not even as a character reference */
#define PIECE_OCTETS 4096u  /* given to expat at once: bounds its buffer */
#define LONG_TOKEN   1024u  /* octets of an unfinished token from which on feeding is put off */
#define KEEP_ODD     (16u << 10)
#define ODD_MAX      (64u << 10)
#define KEEP_OCTETS  (16u << 10) /* a parser that has seen a larger stanza is not kept as a spare */
#define FIRST_HINT   1264u /* with what stanza_take and stanza_seal add, a small stanza fits */
#define ONE_OCTETS   (16u << 20) /* xml_parse_one */
#define ONE_DEPTH    512u

/* In Debian 12 the symbol is there but, depending on the revision, not its prototype; older ones have neither. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser p, XML_Bool on) __attribute__((weak));
#pragma GCC diagnostic pop

static const char common_header[] = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

enum token { TOKEN_SHORT, TOKEN_TAG, TOKEN_REFERENCE, TOKEN_COMMENT, TOKEN_PI, TOKEN_OTHER };

struct xml_pool {
	XML_Parser *spare;
	unsigned n, max;
	unsigned long salt;
};

struct xml_stream {
	XML_Parser p; /* NULL: parked, or nothing fed yet */
	struct xml_pool *pool;
	const struct xml_limits *lim;
	const struct xml_stream_ops *ops;
	void *self;
	struct arena *a;       /* of the stanza being read */
	struct xml_node *cur;  /* innermost open element; NULL between stanzas */
	char *text_end;        /* where the last text node may grow in place; NULL: it may not */
	unsigned long fed, mark;
	uint64_t octets;
	struct buf *held;      /* not given to expat yet: came while paused. NULL: nothing */
	char *header;          /* to prime a parser with, when it is not common_header */
	const char *fail_clause, *fail_text;
	int16_t fail;          /* error code; 0: none */
	uint16_t first_hint;   /* octets that a stanza of this stream usually takes */
	uint32_t level, nodes, odd; /* level: open elements, the root included */
	bool open, closed;     /* the root's start tag, end tag has been read */
	bool paused, suspended; /* asked for by the owner; expat holds octets that it has not parsed */
	bool busy, dead, want_restart; /* inside a call; freed, restarted in a callback */
	bool recycle, big;     /* replace the parser now; do not keep it as a spare */
	bool given_arena;      /* xml_parse_one */
	uint8_t token;         /* enum token: what long token is unfinished */
	char token_mark;       /* in it: the open quote, or the octet before */
};

/* ---- memory ---------------------------------------------------------------------------------- */

static void *mem_realloc(void *p, size_t n)
{
	if (base_fail_nth_alloc && --base_fail_nth_alloc == 0)
		return NULL;
	return realloc(p, n);
}

static const XML_Memory_Handling_Suite memory = { base_malloc, mem_realloc, free };

int xml_pool_new(struct xml_pool **p_r, unsigned spare_max)
{
	struct xml_pool *p = base_malloc(sizeof(*p));

	if (!p)
		return E_NOMEM;
	*p = (struct xml_pool){ .max = spare_max };
	p->spare = spare_max ? base_malloc(spare_max * sizeof(*p->spare)) : NULL;
	if (spare_max && !p->spare) {
		free(p);
		return E_NOMEM;
	}
	rnd_bytes(&p->salt, sizeof(p->salt));
	p->salt |= 1; /* 0 would make expat ask the kernel for one each time */
	*p_r = p;
	return 0;
}

void xml_pool_free(struct xml_pool **pp)
{
	struct xml_pool *p = *pp;

	*pp = NULL;
	if (!p)
		return;
	while (p->n)
		XML_ParserFree(p->spare[--p->n]);
	free(p->spare);
	free(p);
}

static XML_Parser parser_get(struct xml_pool *pool)
{
	static const XML_Char sep[] = { SEP, 0 };
	XML_Parser p = NULL;

	if (pool->n) {
		p = pool->spare[--pool->n];
		if (!XML_ParserReset(p, "UTF-8")) {
			XML_ParserFree(p);
			p = NULL;
		}
	}
	if (!p)
		p = XML_ParserCreate_MM("UTF-8", &memory, sep);
	if (!p)
		return NULL;
	if (XML_SetReparseDeferralEnabled)
		XML_SetReparseDeferralEnabled(p, XML_FALSE);
	XML_SetHashSalt(p, pool->salt);
	return p;
}

static void parser_put(struct xml_stream *x)
{
	XML_Parser p = x->p;
	bool keep = !x->big && x->odd <= KEEP_ODD && x->fed - x->mark <= KEEP_OCTETS;

	x->p = NULL;
	x->fed = x->mark = 0;
	x->token = TOKEN_SHORT;
	x->suspended = false;
	if (!p)
		return;
	if (keep && x->pool->n < x->pool->max)
		x->pool->spare[x->pool->n++] = p;
	else
		XML_ParserFree(p);
	x->big = false;
	x->odd = 0;
}

/* ---- failure --------------------------------------------------------------------------------- */

static void fail(struct xml_stream *x, int code, const char *clause, const char *text)
{
	if (x->fail)
		return;
	x->fail = (int16_t)code;
	x->fail_clause = clause;
	x->fail_text = text;
	if (x->p)
		XML_StopParser(x->p, XML_FALSE);
}

static void fail_nomem(struct xml_stream *x)
{
	fail(x, E_NOMEM, "resource-constraint", "out of memory, or the stanza is too complex");
}

static void fail_limit(struct xml_stream *x, const char *text)
{
	fail(x, E_LIMIT, "policy-violation", text);
}

static void fail_text(struct xml_stream *x)
{
	fail(x, E_SYNTAX, "bad-format", "text between stanzas");
}

/* ---- tree ------------------------------------------------------------------------------------ */

/* Text of expat's "uri SEP name" form. */
struct qname {
	struct sl uri, name, known; /* known: static copy of name, or empty */
	enum xml_ns ns;
};

static void split_name(struct xml_stream *x, const XML_Char *s, struct qname *q)
{
	static const char client[] = "jabber:client\x01";
	const char *sep;

	if (strncmp(s, client, sizeof(client) - 1) == 0) { /* most elements */
		q->uri = SL_NULL;
		q->ns = NS_STANZA;
		s += sizeof(client) - 1;
	} else if ((sep = strchr(s, SEP))) {
		q->uri = sl_mk(s, (size_t)(sep - s));
		q->ns = xml_ns_find(q->uri);
		s = sep + 1;
	} else {
		q->uri = SL_NULL;
		q->ns = NS_NONE;
	}
	q->name = sl_cstr(s);
	q->known = xml_name_intern(q->name);
	if (!q->known.n)
		x->odd += 64 + 2 * (uint32_t)q->name.n;
	if (q->ns == NS_OTHER)
		x->odd += 16;
}

static struct sl pack(char **at, struct sl s)
{
	struct sl r = { *at, s.n };

	memcpy(*at, s.p, s.n);
	*at += s.n;
	return r;
}

static size_t name_octets(const struct qname *q)
{
	return (q->known.n ? 0 : q->name.n) + (q->ns == NS_OTHER ? q->uri.n : 0);
}

static void put_name(char **at, const struct qname *q, struct sl *name_r, struct sl *uri_r)
{
	*name_r = q->known.n ? q->known : pack(at, q->name);
	*uri_r = q->ns == NS_OTHER ? pack(at, q->uri) : SL_NULL;
}

#define ATTRS_ON_STACK 16u

/* The element with its attributes and their text: one allocation. */
static struct xml_node *make_element(struct xml_stream *x, const XML_Char *name, const XML_Char **atts)
{
	struct qname q, aq[ATTRS_ON_STACK];
	struct sl av[ATTRS_ON_STACK];
	size_t n = 0, octets;

	while (atts[2 * n])
		n++;
	if (n > x->lim->attrs) {
		fail_limit(x, "too many attributes");
		return NULL;
	}
	split_name(x, name, &q);
	octets = name_octets(&q);
	for (size_t i = 0; i < n; i++) {
		struct qname t;
		split_name(x, atts[2 * i], &t);
		struct sl v = sl_cstr(atts[2 * i + 1]);
		octets += name_octets(&t) + v.n;
		if (i < ATTRS_ON_STACK) {
			aq[i] = t;
			av[i] = v;
		}
	}
	struct xml_node *e = arena_alloc(x->a, sizeof(*e) + n * sizeof(struct xml_attr) + octets);
	if (!e) {
		fail_nomem(x);
		return NULL;
	}
	struct xml_attr *ea = (struct xml_attr *)(e + 1);
	char *at = (char *)(ea + n);
	*e = (struct xml_node){ .ns = q.ns, .attrs = n ? ea : NULL };
	put_name(&at, &q, &e->name, &e->ns_uri);
	for (size_t i = 0; i < n; i++) {
		if (i >= ATTRS_ON_STACK) {
			split_name(x, atts[2 * i], &aq[0]);
			aq[i % ATTRS_ON_STACK] = aq[0];
			av[i % ATTRS_ON_STACK] = sl_cstr(atts[2 * i + 1]);
		}
		struct qname *t = &aq[i % ATTRS_ON_STACK];
		ea[i].next = i + 1 < n ? &ea[i + 1] : NULL;
		ea[i].ns = t->ns;
		put_name(&at, t, &ea[i].name, &ea[i].ns_uri);
		ea[i].value = pack(&at, av[i % ATTRS_ON_STACK]);
	}
	return e;
}

/* Octets of white space at the front. */
static size_t count_space(struct sl s)
{
	size_t i = 0;

	while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\n' || s.p[i] == '\t' || s.p[i] == '\r'))
		i++;
	return i;
}

static unsigned long event_end(const struct xml_stream *x)
{
	return (unsigned long)XML_GetCurrentByteIndex(x->p) + (unsigned long)XML_GetCurrentByteCount(x->p);
}

/* What expat has been given and has not taken into account yet. */
static struct sl unparsed(const struct xml_stream *x)
{
	int off = 0, size = 0;
	const char *p = x->p ? XML_GetInputContext(x->p, &off, &size) : NULL;
	size_t n = x->fed - x->mark;

	return p && (size_t)size >= n ? sl_mk(p + (size_t)size - n, n) : SL_NULL;
}

static bool text_between(const struct xml_stream *x)
{
	struct sl s = unparsed(x);
	size_t space = count_space(s);

	return x->level == 1 && space < s.n && s.p[space] != '<';
}

/* ---- the root -------------------------------------------------------------------------------- */

/* Declarations of the root, gathered by on_ns until its start tag is complete. They lie in x->a as attributes of a
 * node that x->cur points at: name = prefix, value = URI. */
static void XMLCALL on_root_ns(void *ud, const XML_Char *prefix, const XML_Char *uri)
{
	struct xml_stream *x = ud;
	struct sl p = sl_cstr(prefix), u = sl_cstr(uri);

	if (x->fail)
		return;
	if (!x->a)
		x->a = arena_new(1024, 4u * x->lim->stanza_octets + 4096u);
	if (x->a && !x->cur)
		x->cur = xml_new(x->a, NS_NONE, SL("ns"));
	p = x->cur ? arena_dup(x->a, p) : SL_NULL;
	u = x->cur ? arena_dup(x->a, u) : SL_NULL;
	if (!p.p || !u.p || !xml_set(x->a, x->cur, p, u))
		fail_nomem(x);
	else if (++x->nodes > x->lim->attrs + 8)
		fail_limit(x, "too many namespace declarations");
}

/* The prefix of the root element as it was written; expat does not say. */
static struct sl root_prefix(const struct xml_stream *x)
{
	int off = 0, size = 0;
	const char *p = XML_GetInputContext(x->p, &off, &size);
	struct sl tag;

	if (!p || off >= size || p[off] != '<')
		return SL_NULL;
	tag = sl_mk(p + off + 1, (size_t)(size - off) - 1);
	for (size_t i = 0; i < tag.n; i++) {
		if (tag.p[i] == ':')
			return sl_sub(tag, 0, i);
		if (tag.p[i] == '>' || tag.p[i] == '/' || count_space(sl_sub(tag, i, i + 1)))
			break;
	}
	return SL_NULL;
}

static bool header_is_common(const struct xml_node *decls, struct sl prefix, struct sl name)
{
	size_t n = 0;

	for (const struct xml_attr *t = decls ? decls->attrs : NULL; t; t = t->next)
		n++;
	return n == 2 && sl_eq(prefix, SL("stream")) && sl_eq(name, SL("stream")) &&
	       sl_eq(xml_attr(decls, SL("")), SL("jabber:client")) &&
	       sl_eq(xml_attr(decls, SL("stream")), xml_ns_uri(NS_STREAM));
}

static void put_header(struct xml_out *w, const struct xml_node *decls, struct sl prefix, struct sl name)
{
	XML_OUT_LIT(w, "<");
	xml_out_sl(w, prefix);
	if (prefix.n)
		XML_OUT_LIT(w, ":");
	xml_out_sl(w, name);
	for (const struct xml_attr *t = decls ? decls->attrs : NULL; t; t = t->next) {
		XML_OUT_LIT(w, " xmlns");
		if (t->name.n)
			XML_OUT_LIT(w, ":");
		xml_out_sl(w, t->name);
		XML_OUT_LIT(w, "='");
		xml_out_value(w, t->value);
		XML_OUT_LIT(w, "'");
	}
	XML_OUT_LIT(w, ">");
}

static int save_header(struct xml_stream *x, const struct xml_node *decls, const struct xml_node *root)
{
	struct sl prefix = root_prefix(x);
	struct xml_out w;

	if (header_is_common(decls, prefix, root->name))
		return 0;
	xml_out_init(&w, NULL, 0);
	put_header(&w, decls, prefix, root->name);
	size_t n = w.need;
	x->header = base_malloc(n + 1);
	if (!x->header)
		return E_NOMEM;
	xml_out_init(&w, x->header, n);
	put_header(&w, decls, prefix, root->name);
	x->header[n] = '\0';
	return 0;
}

static void after_callback(struct xml_stream *x, int rc)
{
	if (x->dead) {
		fail(x, E_CLOSED, "undefined-condition", "freed");
	} else if (rc < 0) {
		fail(x, rc < INT16_MIN ? E_INTERNAL : rc, "undefined-condition", "stopped");
	} else if (rc == XML_PAUSE || x->want_restart) {
		x->paused = x->suspended = true;
		XML_StopParser(x->p, XML_TRUE);
	} else if (x->odd > ODD_MAX) {
		x->recycle = x->suspended = true;
		XML_StopParser(x->p, XML_TRUE);
	}
}

static void open_root(struct xml_stream *x, const XML_Char *name, const XML_Char **atts)
{
	struct xml_node *decls = x->cur, *root;

	XML_SetStartNamespaceDeclHandler(x->p, NULL);
	if (!x->a)
		x->a = arena_new(1024, 4u * x->lim->stanza_octets + 4096u);
	if (!x->a) {
		fail_nomem(x);
		return;
	}
	root = make_element(x, name, atts);
	if (!root)
		return;
	if (save_header(x, decls, root) < 0) {
		fail_nomem(x);
		return;
	}
	struct arena *a = x->a;
	x->a = NULL;
	x->cur = NULL;
	x->level = 1;
	x->open = true;
	x->mark = event_end(x);
	int rc = x->ops->on_open(x->self, root, decls ? xml_attr(decls, SL("")) : SL_NULL);
	arena_free(&a);
	after_callback(x, rc);
}

/* ---- expat's handlers ------------------------------------------------------------------------ */

static void XMLCALL on_ns(void *ud, const XML_Char *prefix, const XML_Char *uri)
{
	struct xml_stream *x = ud;

	if (!x->open)
		on_root_ns(ud, prefix, uri);
	else if (prefix)
		x->odd += 200 + 2 * (uint32_t)strlen(prefix);
}

static bool begin_stanza(struct xml_stream *x)
{
	x->mark = (unsigned long)XML_GetCurrentByteIndex(x->p);
	x->nodes = 0;
	if (!x->given_arena)
		x->a = arena_new(x->first_hint, 16u * (size_t)x->lim->stanza_octets + 4096u);
	if (!x->a)
		fail_nomem(x);
	return x->a;
}

static void XMLCALL on_start(void *ud, const XML_Char *name, const XML_Char **atts)
{
	struct xml_stream *x = ud;

	if (x->fail)
		return;
	if (x->level == 0) {
		open_root(x, name, atts);
		return;
	}
	if (x->level == 1 && !begin_stanza(x))
		return;
	if (x->level > x->lim->depth)
		fail_limit(x, "elements nested too deeply");
	else if (++x->nodes > x->lim->nodes)
		fail_limit(x, "too many elements in a stanza");
	if (x->fail)
		return;
	struct xml_node *e = make_element(x, name, atts);
	if (!e)
		return;
	xml_append(x->cur, e);
	x->cur = e;
	x->text_end = NULL;
	x->level++;
}

static void deliver(struct xml_stream *x)
{
	struct arena *a = x->a;
	struct xml_node *n = x->cur;
	unsigned long end = event_end(x);

	if (end - x->mark > x->lim->stanza_octets) {
		fail_limit(x, "stanza too large");
		return;
	}
	if (end - x->mark > KEEP_OCTETS)
		x->big = true;
	x->mark = end;
	if (!x->given_arena)
		x->a = NULL;
	x->cur = NULL;
	x->text_end = NULL;
	after_callback(x, x->ops->on_element(x->self, a, n));
}

static void XMLCALL on_end(void *ud, const XML_Char *name)
{
	struct xml_stream *x = ud;

	UNUSED(name);
	if (x->fail)
		return;
	x->level--;
	x->text_end = NULL;
	if (x->level == 0) {
		x->closed = true;
		XML_StopParser(x->p, XML_FALSE);
		x->ops->on_close(x->self);
	} else if (x->level == 1) {
		deliver(x);
	} else {
		x->cur = x->cur->parent;
	}
}

/* Text that came in several pieces (line ends, references) becomes one node. */
static bool grow_text(struct xml_stream *x, const char *s, size_t n)
{
	struct xml_node *t = x->cur->last;
	char *p = arena_bytes(x->a, n);

	if (!p)
		return false;
	if (p != x->text_end) {
		p = arena_bytes(x->a, t->text.n + n);
		if (!p)
			return false;
		memcpy(p, t->text.p, t->text.n);
		t->text.p = p;
		p += t->text.n;
	}
	memcpy(p, s, n);
	t->text.n += n;
	x->text_end = p + n;
	return true;
}

static void stanza_text(struct xml_stream *x, const char *s, size_t n)
{
	if (x->text_end) {
		if (!grow_text(x, s, n))
			fail_nomem(x);
		return;
	}
	if (++x->nodes > x->lim->nodes) {
		fail_limit(x, "too many elements in a stanza");
		return;
	}
	struct xml_node *t = arena_alloc(x->a, sizeof(*t) + n);
	if (!t) {
		fail_nomem(x);
		return;
	}
	char *p = (char *)(t + 1);
	memcpy(p, s, n);
	*t = (struct xml_node){ .text = { p, n } };
	x->text_end = p + n;
	xml_append(x->cur, t);
}

static void XMLCALL on_text(void *ud, const XML_Char *s, int len)
{
	struct xml_stream *x = ud;

	if (x->fail || len <= 0)
		return;
	if (x->level > 1)
		stanza_text(x, s, (size_t)len);
	else if (count_space(sl_mk(s, (size_t)len)) != (size_t)len || text_between(x))
		fail_text(x); /* white space, but not by reference */
	else
		x->mark = event_end(x);
}

static void XMLCALL on_cdata(void *ud)
{
	struct xml_stream *x = ud;

	if (x->level <= 1)
		fail_text(x); /* even if there is only white space in it */
}

static void restricted(void *ud, const char *what)
{
	fail(ud, E_SYNTAX, "restricted-xml", what);
}

static void XMLCALL on_comment(void *ud, const XML_Char *s)
{
	UNUSED(s);
	restricted(ud, "comment");
}

static void XMLCALL on_pi(void *ud, const XML_Char *target, const XML_Char *data)
{
	UNUSED(target);
	UNUSED(data);
	restricted(ud, "processing instruction");
}

static void XMLCALL on_doctype(void *ud, const XML_Char *name, const XML_Char *sys, const XML_Char *pub, int internal)
{
	UNUSED(name);
	UNUSED(sys);
	UNUSED(pub);
	UNUSED(internal);
	restricted(ud, "document type declaration");
}

static void XMLCALL on_decl(void *ud, const XML_Char *version, const XML_Char *encoding, int standalone)
{
	UNUSED(standalone);
	if (version && !sl_eq(sl_cstr(version), SL("1.0")))
		restricted(ud, "XML version other than 1.0");
	else if (encoding && !sl_ieq(sl_cstr(encoding), SL("UTF-8")))
		fail(ud, E_SYNTAX, "unsupported-encoding", "encoding other than UTF-8");
}

static void install(struct xml_stream *x)
{
	XML_SetUserData(x->p, x);
	XML_SetElementHandler(x->p, on_start, on_end);
	XML_SetCharacterDataHandler(x->p, on_text);
	XML_SetStartCdataSectionHandler(x->p, on_cdata);
	XML_SetCommentHandler(x->p, on_comment);
	XML_SetProcessingInstructionHandler(x->p, on_pi);
	XML_SetStartNamespaceDeclHandler(x->p, on_ns);
	if (!x->open) {
		XML_SetXmlDeclHandler(x->p, on_decl);
		XML_SetStartDoctypeDeclHandler(x->p, on_doctype);
	}
}

/* A parser for x: fresh, or (stream open) primed with the declarations of its header. */
static int take_parser(struct xml_stream *x)
{
	const char *h = x->header ? x->header : common_header;

	x->p = parser_get(x->pool);
	if (!x->p)
		return E_NOMEM;
	x->fed = x->mark = 0;
	if (x->open) {
		x->fed = x->mark = strlen(h);
		if (XML_Parse(x->p, h, (int)x->fed, 0) != XML_STATUS_OK) {
			parser_put(x);
			return E_NOMEM;
		}
	}
	install(x);
	return 0;
}

/* ---- feeding --------------------------------------------------------------------------------- */

static const char *expat_clause(const struct xml_stream *x, enum XML_Error code, const char **text_r)
{
	int off = 0, size = 0;
	const char *p;

	*text_r = XML_ErrorString(code);
	switch (code) {
	case XML_ERROR_NO_MEMORY:
		return "resource-constraint";
	case XML_ERROR_UNDEFINED_ENTITY:
	case XML_ERROR_RECURSIVE_ENTITY_REF:
	case XML_ERROR_BINARY_ENTITY_REF:
	case XML_ERROR_ATTRIBUTE_EXTERNAL_ENTITY_REF:
		return "restricted-xml";
	case XML_ERROR_UNKNOWN_ENCODING:
	case XML_ERROR_INCORRECT_ENCODING:
		return "unsupported-encoding";
	case XML_ERROR_UNBOUND_PREFIX:
		return "bad-namespace-prefix";
	case XML_ERROR_INVALID_TOKEN:
		/* A declaration inside the root: to expat just an odd token, whose position is behind the "<!". */
		p = XML_GetInputContext(x->p, &off, &size);
		if (p && off >= 2 && off < size && p[off - 2] == '<' && p[off - 1] == '!' && p[off] >= 'A' && p[off] <= 'Z') {
			*text_r = "declaration";
			return "restricted-xml";
		}
		return "not-well-formed";
	default:
		return "not-well-formed";
	}
}

static void expat_failed(struct xml_stream *x)
{
	enum XML_Error code = XML_GetErrorCode(x->p);
	const char *text, *clause;

	if (x->fail || x->closed)
		return;
	if (text_between(x)) {
		fail_text(x); /* expat may have met an error in the text before it reported it */
		return;
	}
	clause = expat_clause(x, code, &text);
	fail(x, code == XML_ERROR_NO_MEMORY ? E_NOMEM : E_SYNTAX, clause, text);
}

static struct sl held(const struct xml_stream *x)
{
	return x->held ? buf_sl(x->held) : SL_NULL;
}

static void drop_held(struct xml_stream *x)
{
	if (x->held)
		buf_free(x->held);
	free(x->held);
	x->held = NULL;
}

static void hold(struct xml_stream *x, struct sl d)
{
	int rc = 0;

	if (d.n == 0)
		return;
	if (!x->held) {
		x->held = base_malloc(sizeof(*x->held));
		if (x->held)
			buf_init(x->held, XML_HELD_MAX);
	}
	rc = x->held ? buf_add(x->held, d) : E_NOMEM;
	if (rc == E_TOOBIG)
		fail_limit(x, "too much sent while paused");
	else if (rc < 0)
		fail_nomem(x);
}

static void consume_held(struct xml_stream *x, size_t n)
{
	if (n == x->held->n)
		drop_held(x);
	else
		buf_consume(x->held, n);
}

/* ---- long tokens: expat scans an unfinished token again from its beginning with each call. So when one is long,
 * what comes is held until it can end the token or is a quarter of it: then the work is linear, and a complete
 * element is still delivered with its last octet. */

static enum token token_kind(struct sl t)
{
	if (t.p[0] == '&')
		return TOKEN_REFERENCE;
	if (t.p[0] != '<')
		return TOKEN_OTHER;
	return t.p[1] == '?' ? TOKEN_PI : t.p[1] != '!' ? TOKEN_TAG : t.p[2] == '-' ? TOKEN_COMMENT : TOKEN_OTHER;
}

/* More of the token; true if it may end in there. */
static bool token_scan(struct xml_stream *x, struct sl d)
{
	bool end = false;

	for (size_t i = 0; i < d.n; i++) {
		char c = d.p[i];
		switch (x->token) {
		case TOKEN_TAG:
			if (x->token_mark == c)
				x->token_mark = 0;
			else if (!x->token_mark && (c == '\'' || c == '"'))
				x->token_mark = c;
			else
				end |= c == '>' && !x->token_mark;
			break;
		case TOKEN_COMMENT:
		case TOKEN_PI:
			end |= c == '>' && x->token_mark == (x->token == TOKEN_PI ? '?' : '-');
			x->token_mark = c;
			break;
		case TOKEN_REFERENCE:
			end |= c == ';';
			break;
		default:
			break;
		}
	}
	return end;
}

/* After all that is there has been parsed: is there an unfinished long token? */
static void token_note(struct xml_stream *x)
{
	unsigned long n = x->p && x->fed != x->mark ? x->fed - event_end(x) : 0;
	struct sl in = n >= LONG_TOKEN ? unparsed(x) : SL_NULL;

	x->token = TOKEN_SHORT;
	if (in.n < n || n < LONG_TOKEN)
		return;
	in = sl_sub(in, in.n - n, in.n);
	x->token = (uint8_t)token_kind(in);
	x->token_mark = 0;
	token_scan(x, sl_sub(in, 1, in.n));
}

/* True if d has been put aside. */
static bool token_defer(struct xml_stream *x, struct sl d)
{
	unsigned long token = x->fed - event_end(x);
	size_t n = held(x).n + d.n, enough = token / 4 < XML_HELD_MAX / 2 ? token / 4 : XML_HELD_MAX / 2;

	if (token_scan(x, d) || n >= enough || x->fed - x->mark + n > x->lim->stanza_octets)
		return false;
	hold(x, d);
	return !x->fail;
}

/* What expat has been given and has not yet parsed goes in front of what is held. */
static int take_rest(struct xml_stream *x)
{
	struct sl rest = unparsed(x), behind = held(x);
	struct buf *b;

	if (x->fed == x->mark)
		return 0;
	b = rest.n ? base_malloc(sizeof(*b)) : NULL;
	if (!b)
		return E_NOMEM;
	buf_init(b, rest.n + XML_HELD_MAX);
	if (buf_add(b, rest) < 0 || buf_add(b, behind) < 0) {
		buf_free(b);
		free(b);
		return E_NOMEM;
	}
	drop_held(x);
	x->held = b;
	return 0;
}

static void drop_stanza(struct xml_stream *x)
{
	if (!x->given_arena)
		arena_free(&x->a);
	x->a = NULL;
	x->cur = NULL;
	x->text_end = NULL;
}

/* As new, but for what is held. */
static void reset(struct xml_stream *x)
{
	parser_put(x);
	drop_stanza(x);
	free(x->header);
	x->header = NULL;
	x->level = x->nodes = 0;
	x->fail = 0;
	x->open = x->closed = x->recycle = x->want_restart = false;
}

static void restart(struct xml_stream *x)
{
	if (x->suspended && take_rest(x) < 0) {
		reset(x);
		fail_nomem(x);
		return;
	}
	if (!x->paused)
		drop_held(x);
	reset(x);
}

/* After expat returned: note what happened. 0 go on, XML_PAUSE, < 0 failed or closed (then nothing more is read). */
static int settle(struct xml_stream *x, enum XML_Status st)
{
	if (st == XML_STATUS_ERROR)
		expat_failed(x);
	if (!x->suspended && !x->closed && x->fed - x->mark > x->lim->stanza_octets)
		fail_limit(x, x->open ? "stanza too large" : "stream header too large");
	if (x->recycle && !x->fail) {
		x->recycle = false;
		if (take_rest(x) < 0)
			fail_nomem(x);
		else
			parser_put(x);
	}
	if (x->fail || x->closed) {
		parser_put(x);
		drop_stanza(x);
		drop_held(x);
		return x->fail ? x->fail : E_CLOSED;
	}
	return x->paused ? XML_PAUSE : 0;
}

/* Skip white space where it belongs to nothing. A parked stream stays parked. */
static size_t leading_space(const struct xml_stream *x, struct sl d)
{
	return x->fed == x->mark && (x->level == 1 || x->fed == 0) ? count_space(d) : 0;
}

/* The first octets of a stream tell encodings apart that expat, told UTF-8, would only call malformed. */
static void check_start(struct xml_stream *x, struct sl d)
{
	unsigned char c0 = (unsigned char)(x->fed == 0 ? d.p[0] : '<');
	unsigned char c1 = (unsigned char)(x->fed == 1 ? d.p[0] : d.n > 1 ? d.p[1] : '?');

	if (x->open || x->fed > 1)
		return;
	if (c0 == 0 || c0 >= 0xfe || (c0 == '<' && c1 == 0))
		fail(x, E_SYNTAX, "unsupported-encoding", "encoding other than UTF-8");
	else if (c0 != '<')
		fail(x, E_SYNTAX, "not-well-formed", "not XML");
}

/* Give expat the front of d; returns how much of it was taken. */
static size_t step(struct xml_stream *x, struct sl d, enum XML_Status *st_r)
{
	size_t room = (size_t)(x->lim->stanza_octets + 1ul - (x->fed - x->mark));
	size_t n = (x->fed - x->mark) / 2; /* more for a long stanza: it may be one token */

	*st_r = XML_STATUS_OK;
	check_start(x, d);
	if (!x->fail && !x->p && take_parser(x) < 0)
		fail_nomem(x);
	if (x->fail)
		return 0;
	if (n < PIECE_OCTETS)
		n = PIECE_OCTETS;
	if (n > room)
		n = room;
	if (n > d.n)
		n = d.n;
	x->fed += n;
	*st_r = XML_Parse(x->p, d.p, (int)n, 0);
	return n;
}

/* Parse what is held, then d. 0, XML_PAUSE (the rest of d is then held), < 0. */
static int run(struct xml_stream *x, struct sl d)
{
	enum XML_Status st;
	int rc = 0;

	if (x->token && token_defer(x, d))
		return 0;

	if (x->suspended) {
		x->suspended = false;
		rc = settle(x, XML_ResumeParser(x->p));
	}
	while (rc == 0 && (x->held || d.n)) {
		bool from_held = x->held;
		struct sl in = from_held ? held(x) : d;
		size_t n = leading_space(x, in);
		st = XML_STATUS_OK;
		if (n < in.n)
			n += step(x, sl_sub(in, n, in.n), &st);
		x->octets += n;
		if (from_held)
			consume_held(x, n);
		else
			d = sl_sub(d, n, d.n);
		rc = settle(x, st);
	}
	if (rc == 0)
		token_note(x);
	if (rc != XML_PAUSE)
		return rc;
	hold(x, d);
	return x->fail ? settle(x, XML_STATUS_OK) : rc;
}

static void destroy(struct xml_stream *x)
{
	reset(x);
	drop_held(x);
	free(x);
}

static int run_guarded(struct xml_stream *x, struct sl d, struct err *e)
{
	int rc;

	x->busy = true;
	rc = run(x, d);
	x->busy = false;
	if (x->dead) {
		destroy(x);
		return err_set(e, E_CLOSED, "undefined-condition", "freed");
	}
	if (rc < 0 && x->closed && !x->fail)
		rc = 0;
	if (rc < 0)
		err_set(e, x->fail, x->fail_clause, "%s", x->fail_text);
	if (x->want_restart)
		restart(x);
	return rc;
}

int xml_stream_feed(struct xml_stream *x, struct sl data, struct err *e)
{
	if (x->busy)
		return err_set(e, E_STATE, "internal-server-error", "fed inside a callback");
	if (x->fail)
		return err_set(e, x->fail, x->fail_clause, "%s", x->fail_text);
	if (x->closed)
		return 0;
	if (!x->paused)
		return run_guarded(x, data, e);
	hold(x, data);
	if (!x->fail)
		return XML_PAUSE;
	settle(x, XML_STATUS_OK);
	return err_set(e, x->fail, x->fail_clause, "%s", x->fail_text);
}

int xml_stream_resume(struct xml_stream *x, struct err *e)
{
	if (x->busy || !x->paused)
		return 0;
	if (x->fail)
		return err_set(e, x->fail, x->fail_clause, "%s", x->fail_text);
	x->paused = false;
	return run_guarded(x, SL_NULL, e);
}

bool xml_stream_paused(const struct xml_stream *x)
{
	return x->paused;
}

void xml_stream_restart(struct xml_stream *x)
{
	if (x->busy)
		x->want_restart = true;
	else
		restart(x);
}

size_t xml_stream_unread(const struct xml_stream *x)
{
	struct sl in = x->suspended ? unparsed(x) : SL_NULL, behind = x->paused ? held(x) : SL_NULL;
	size_t space = count_space(in);

	return space < in.n ? in.n - space + behind.n : behind.n - count_space(behind);
}

/* ---- life ------------------------------------------------------------------------------------ */

int xml_stream_new(struct xml_pool *p, const struct xml_limits *lim, const struct xml_stream_ops *ops, void *self,
		   struct xml_stream **x_r)
{
	struct xml_stream *x = base_malloc(sizeof(*x));

	if (!x)
		return E_NOMEM;
	*x = (struct xml_stream){ .pool = p, .lim = lim, .ops = ops, .self = self, .first_hint = FIRST_HINT };
	*x_r = x;
	return 0;
}

void xml_stream_free(struct xml_stream **xp)
{
	struct xml_stream *x = *xp;

	*xp = NULL;
	if (!x)
		return;
	if (x->busy)
		x->dead = true;
	else
		destroy(x);
}

bool xml_stream_park(struct xml_stream *x)
{
	if (!x->p)
		return true;
	if (x->busy || x->paused || x->fail || x->level != 1 || x->fed != x->mark)
		return false;
	parser_put(x);
	return true;
}

void xml_stream_move(struct xml_stream *x, struct xml_pool *p, const struct xml_stream_ops *ops, void *self)
{
	x->pool = p;
	x->ops = ops;
	x->self = self;
}

void xml_stream_set_limits(struct xml_stream *x, const struct xml_limits *lim)
{
	x->lim = lim;
}

uint64_t xml_stream_octets(const struct xml_stream *x)
{
	return x->octets;
}

/* ---- one element ----------------------------------------------------------------------------- */

static int one_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	UNUSED(self);
	UNUSED(root);
	UNUSED(content_ns);
	return E_SYNTAX; /* never called: the stream is open */
}

static int one_element(void *self, struct arena *a, struct xml_node *n)
{
	struct xml_node **n_r = self;

	UNUSED(a);
	if (*n_r)
		return E_SYNTAX;
	*n_r = n;
	return 0;
}

static void one_close(void *self)
{
	*(struct xml_node **)self = NULL;
}

int xml_parse_one(struct arena *a, struct sl text, struct xml_node **n_r, struct err *e)
{
	static const struct xml_limits lim = { ONE_OCTETS, ONE_DEPTH, ONE_OCTETS, ONE_OCTETS };
	static const struct xml_stream_ops ops = { one_open, one_element, one_close };
	struct xml_pool pool = { .salt = (unsigned long)hash_bytes(SL("xml_parse_one")) | 1 };
	struct xml_node *n = NULL;
	struct xml_stream x = { .pool = &pool, .lim = &lim, .ops = &ops, .self = &n, .a = a, .given_arena = true,
				.open = true, .level = 1 };
	int rc = xml_stream_feed(&x, text, e);
	bool whole = x.fed == x.mark && !x.closed;

	reset(&x);
	if (rc < 0)
		return rc == E_NOMEM ? E_NOMEM : E_SYNTAX;
	if (!n || !whole)
		return err_set(e, E_SYNTAX, NULL, "not one whole XML element");
	*n_r = n;
	return 0;
}
