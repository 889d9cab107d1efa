/* xml_read.c - expat's events become element trees, each in one arena. See xml_stream_priv.h.
 *
 * Expat keeps every element, attribute and prefix name that it has seen for its life. `odd`
 * estimates what names outside our own table have cost; over a limit the parser is replaced between
 * two stanzas, by the same means as an idle stream is parked: a fresh parser that has read a header
 * with the same declarations. */
#include "xmpp/stream/xml_stream_priv.h"

#define FIRST_OCTETS 1264u /* with what stanza_take and stanza_seal add, a small stanza fits */
#define ODD_MAX      (64u << 10)

/* ---- failure --------------------------------------------------------------------------------- */

void xs_fail(struct xml_stream *x, int code, const char *clause, const char *text)
{
	if (x->fail)
		return;
	x->fail = code;
	x->fail_clause = clause;
	x->fail_text = text;
	if (x->p)
		XML_StopParser(x->p, XML_FALSE);
}

void xs_fail_nomem(struct xml_stream *x)
{
	xs_fail(x, E_NOMEM, "resource-constraint", "out of memory, or the stanza is too complex");
}

void xs_fail_limit(struct xml_stream *x, const char *text)
{
	xs_fail(x, E_LIMIT, "policy-violation", text);
}

static void fail_text(struct xml_stream *x)
{
	xs_fail(x, E_SYNTAX, "bad-format", "text between stanzas");
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
static struct xml_node *make_element(struct xml_stream *x, const XML_Char *name,
				     const XML_Char **atts)
{
	struct qname q, aq[ATTRS_ON_STACK];
	struct sl av[ATTRS_ON_STACK];
	size_t n = 0, octets;

	while (atts[2 * n])
		n++;
	if (n > x->lim->attrs) {
		xs_fail_limit(x, "too many attributes");
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
		xs_fail_nomem(x);
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
size_t xs_count_space(struct sl s)
{
	size_t i = 0;

	while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\n' || s.p[i] == '\t' || s.p[i] == '\r'))
		i++;
	return i;
}

unsigned long xs_event_end(const struct xml_stream *x)
{
	return (unsigned long)XML_GetCurrentByteIndex(x->p) +
	       (unsigned long)XML_GetCurrentByteCount(x->p);
}

/* What expat has been given and has not taken into account yet. */
struct sl xs_unparsed(const struct xml_stream *x)
{
	int off = 0, size = 0;
	const char *p = x->p ? XML_GetInputContext(x->p, &off, &size) : NULL;
	size_t n = x->fed - x->mark;

	return p && (size_t)size >= n ? sl_mk(p + (size_t)size - n, n) : SL_NULL;
}

static bool text_between(const struct xml_stream *x)
{
	struct sl s = xs_unparsed(x);
	size_t space = xs_count_space(s);

	return x->level == 1 && space < s.n && s.p[space] != '<';
}

void xs_check_between(struct xml_stream *x)
{
	if (text_between(x))
		fail_text(x);
}

/* ---- the root -------------------------------------------------------------------------------- */

/* Declarations of the root, gathered by on_ns until its start tag is complete. They lie in x->a as
 * attributes of a node that x->cur points at: name = prefix, value = URI. */
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
		xs_fail_nomem(x);
	else if (++x->nodes > x->lim->attrs + 8)
		xs_fail_limit(x, "too many namespace declarations");
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
		if (tag.p[i] == '>' || tag.p[i] == '/' || xs_count_space(sl_sub(tag, i, i + 1)))
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

static void put_header(struct xml_out *w, const struct xml_node *decls, struct sl prefix,
		       struct sl name)
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

static int save_header(struct xml_stream *x, const struct xml_node *decls,
		       const struct xml_node *root)
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
		xs_fail(x, E_CLOSED, "undefined-condition", "freed");
	} else if (rc < 0) {
		xs_fail(x, rc, "undefined-condition", "stopped");
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

	if (!x->a)
		x->a = arena_new(1024, 4u * x->lim->stanza_octets + 4096u);
	if (!x->a) {
		xs_fail_nomem(x);
		return;
	}
	root = make_element(x, name, atts);
	if (!root)
		return;
	if (save_header(x, decls, root) < 0) {
		xs_fail_nomem(x);
		return;
	}
	struct arena *a = x->a;
	x->a = NULL;
	x->cur = NULL;
	x->level = 1;
	x->open = true;
	x->mark = xs_event_end(x);
	XML_SetXmlDeclHandler(x->p, NULL);
	XML_SetStartDoctypeDeclHandler(x->p, NULL);
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
		x->a = arena_new(FIRST_OCTETS, 16u * (size_t)x->lim->stanza_octets + 4096u);
	if (!x->a)
		xs_fail_nomem(x);
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
		xs_fail_limit(x, "elements nested too deeply");
	else if (++x->nodes > x->lim->nodes)
		xs_fail_limit(x, "too many elements in a stanza");
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
	unsigned long end = xs_event_end(x);

	if (end - x->mark > x->lim->stanza_octets) {
		xs_fail_limit(x, "stanza too large");
		return;
	}
	if (end - x->mark > XS_KEEP_OCTETS)
		x->big = true;
	x->stanza_octets = (uint32_t)(end - x->mark);
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
			xs_fail_nomem(x);
		return;
	}
	if (++x->nodes > x->lim->nodes) {
		xs_fail_limit(x, "too many elements in a stanza");
		return;
	}
	struct xml_node *t = arena_alloc(x->a, sizeof(*t) + n);
	if (!t) {
		xs_fail_nomem(x);
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
	else if (xs_count_space(sl_mk(s, (size_t)len)) != (size_t)len || text_between(x))
		fail_text(x); /* white space, but not by reference */
	else
		x->mark = xs_event_end(x);
}

static void XMLCALL on_cdata(void *ud)
{
	struct xml_stream *x = ud;

	if (x->level <= 1)
		fail_text(x); /* even if there is only white space in it */
}

static void restricted(void *ud, const char *what)
{
	xs_fail(ud, E_SYNTAX, "restricted-xml", what);
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

static void XMLCALL on_doctype(void *ud, const XML_Char *name, const XML_Char *sys,
			       const XML_Char *pub, int internal)
{
	UNUSED(name);
	UNUSED(sys);
	UNUSED(pub);
	UNUSED(internal);
	restricted(ud, "document type declaration");
}

static void XMLCALL on_decl(void *ud, const XML_Char *version, const XML_Char *encoding,
			    int standalone)
{
	UNUSED(standalone);
	if (version && !sl_eq(sl_cstr(version), SL("1.0")))
		restricted(ud, "XML version other than 1.0");
	else if (encoding && !sl_ieq(sl_cstr(encoding), SL("UTF-8")))
		xs_fail(ud, E_SYNTAX, "unsupported-encoding", "encoding other than UTF-8");
}

void xs_install(struct xml_stream *x)
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

/* ---- errors of expat ------------------------------------------------------------------------- */

static const char *expat_clause(const struct xml_stream *x, enum XML_Error code,
				const char **text_r)
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
		/* A declaration inside the root: to expat just an odd token, whose position is
		 * behind the "<!". */
		p = XML_GetInputContext(x->p, &off, &size);
		if (p && off >= 2 && off < size && p[off - 2] == '<' && p[off - 1] == '!' &&
		    p[off] >= 'A' && p[off] <= 'Z') {
			*text_r = "declaration";
			return "restricted-xml";
		}
		return "not-well-formed";
	default:
		return "not-well-formed";
	}
}

void xs_expat_failed(struct xml_stream *x)
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
	xs_fail(x, code == XML_ERROR_NO_MEMORY ? E_NOMEM : E_SYNTAX, clause, text);
}
