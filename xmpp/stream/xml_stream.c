/* xml_stream.c - the incremental stream parser: expat underneath, element trees in arenas above.
 * See xml.h.
 *
 * Positions are counted in octets given to the present expat parser (`fed`); `mark` is where the
 * last thing that belongs to no stanza ended, so `fed - mark` is what the stanza being read (or a
 * partial token) has cost so far. Never more than the limit and one octet is given to expat beyond
 * `mark`: what a limit says does not depend on how TCP cut the bytes, and a huge token is refused
 * before expat has scanned it again and again (re-parse deferral, its own defence, is off because
 * it withholds complete stanzas; see xml_token.c). */
#include "appliance/base/hash.h"
#include "appliance/base/rnd.h"
#include "xmpp/stream/xml_stream_priv.h"

#define PIECE_OCTETS 4096u       /* given to expat at once: bounds its buffer */
#define KEEP_ODD     (16u << 10) /* a parser with more names than that is not kept as a spare */
#define ONE_OCTETS   (16u << 20) /* xml_parse_one */
#define ONE_DEPTH    1024u /* limits.depth is at most 1000 */

/* In Debian 12 the symbol is there but, depending on the revision, not its prototype; older ones
 * have neither. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser p, XML_Bool on) __attribute__((weak));
#pragma GCC diagnostic pop

static const char common_header[] =
	"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/* A parser that stands between two stanzas of a stream with the common header. Nothing in it
 * belongs to the stream it was used for, so it goes on with any other. */
struct ready {
	XML_Parser p;
	unsigned long fed;
	uint32_t odd;
};

struct xml_pool {
	XML_Parser *spare; /* to be reset */
	struct ready *ready;
	unsigned n, nready, max; /* max: of each */
	unsigned long salt;
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
	p->ready = spare_max ? base_malloc(spare_max * sizeof(*p->ready)) : NULL;
	if (spare_max && (!p->spare || !p->ready)) {
		xml_pool_free(&p);
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
	while (p->nready)
		XML_ParserFree(p->ready[--p->nready].p);
	free(p->spare);
	free(p->ready);
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
	bool keep = !x->big && x->odd <= KEEP_ODD && x->fed - x->mark <= XS_KEEP_OCTETS;

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

static bool take_ready(struct xml_stream *x)
{
	struct ready r;

	if (!x->open || x->header || x->pool->nready == 0)
		return false;
	r = x->pool->ready[--x->pool->nready];
	x->p = r.p;
	x->fed = x->mark = r.fed;
	x->odd = r.odd;
	XML_SetUserData(x->p, x);
	return true;
}

/* Between two stanzas: let the next stream of the worker have the parser, while it is warm. */
static void lend(struct xml_stream *x)
{
	struct xml_pool *pool = x->pool;

	if (!x->p || x->level != 1 || x->fed != x->mark || x->header || x->suspended)
		return;
	if (pool->nready == pool->max || x->big || x->odd > KEEP_ODD) {
		parser_put(x);
		return;
	}
	pool->ready[pool->nready++] = (struct ready){ x->p, x->fed, x->odd };
	x->p = NULL;
	x->fed = x->mark = 0;
	x->odd = 0;
}

/* A parser for x: fresh, or (stream open) primed with the declarations of its header. */
static int take_parser(struct xml_stream *x)
{
	const char *h = x->header ? x->header : common_header;

	if (take_ready(x))
		return 0;
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
	xs_install(x);
	return 0;
}

/* ---- feeding --------------------------------------------------------------------------------- */

struct sl xs_held(const struct xml_stream *x)
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

void xs_hold(struct xml_stream *x, struct sl d)
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
		xs_fail_limit(x, "too much sent while paused");
	else if (rc < 0)
		xs_fail_nomem(x);
}

static void consume_held(struct xml_stream *x, size_t n)
{
	if (n == x->held->n)
		drop_held(x);
	else
		buf_consume(x->held, n);
}

/* What expat has been given and has not yet parsed goes in front of what is held. */
static int take_rest(struct xml_stream *x)
{
	struct sl rest = xs_unparsed(x), behind = xs_held(x);
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
		xs_fail_nomem(x);
		return;
	}
	if (!x->paused)
		drop_held(x);
	reset(x);
}

/* After expat returned: note what happened. 0 go on, XML_PAUSE, < 0 failed or closed (then nothing
 * more is read). */
static int settle(struct xml_stream *x, enum XML_Status st)
{
	if (st == XML_STATUS_ERROR)
		xs_expat_failed(x);
	if (!x->suspended && x->fed != x->mark)
		xs_check_between(x);
	if (!x->suspended && !x->closed && x->fed - x->mark > x->lim->stanza_octets)
		xs_fail_limit(x, x->open ? "stanza too large" : "stream header too large");
	if (x->recycle && !x->fail) {
		x->recycle = false;
		if (take_rest(x) < 0)
			xs_fail_nomem(x);
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
	return x->fed == x->mark && (x->level == 1 || x->fed == 0) ? xs_count_space(d) : 0;
}

/* The first octets of a stream tell encodings apart that expat, told UTF-8, would only call
 * malformed. */
static void check_start(struct xml_stream *x, struct sl d)
{
	unsigned char c0 = (unsigned char)(x->fed == 0 ? d.p[0] : '<');
	unsigned char c1 = (unsigned char)(x->fed == 1 ? d.p[0] : d.n > 1 ? d.p[1] : '?');

	if (x->open || x->fed > 1)
		return;
	if (c0 == 0 || c0 >= 0xfe || (c0 == '<' && c1 == 0))
		xs_fail(x, E_SYNTAX, "unsupported-encoding", "encoding other than UTF-8");
	else if (c0 != '<')
		xs_fail(x, E_SYNTAX, "not-well-formed", "not XML");
}

/* Give expat the front of d; returns how much of it was taken. */
static size_t step(struct xml_stream *x, struct sl d, enum XML_Status *st_r)
{
	size_t room = (size_t)(x->lim->stanza_octets + 1ul - (x->fed - x->mark));
	size_t n = (x->fed - x->mark) / 2; /* more for a long stanza: it may be one token */

	*st_r = XML_STATUS_OK;
	check_start(x, d);
	if (!x->fail && !x->p && take_parser(x) < 0)
		xs_fail_nomem(x);
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

	if (x->token && xs_token_defer(x, d))
		return 0;
	if (x->suspended) {
		x->suspended = false;
		rc = settle(x, XML_ResumeParser(x->p));
	}
	while (rc == 0 && (x->held || d.n)) {
		bool from_held = x->held;
		struct sl in = from_held ? xs_held(x) : d;
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
	if (rc == 0) {
		xs_token_note(x);
		lend(x);
	}
	if (rc != XML_PAUSE)
		return rc;
	xs_hold(x, d);
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
	xs_hold(x, data);
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
	struct sl in = x->suspended ? xs_unparsed(x) : SL_NULL,
		  behind = x->paused ? xs_held(x) : SL_NULL;
	size_t space = xs_count_space(in);

	return space < in.n ? in.n - space + behind.n : behind.n - xs_count_space(behind);
}

/* ---- life ------------------------------------------------------------------------------------ */

int xml_stream_new(struct xml_pool *p, const struct xml_limits *lim,
		   const struct xml_stream_ops *ops, void *self, struct xml_stream **x_r)
{
	struct xml_stream *x = base_malloc(sizeof(*x));

	if (!x)
		return E_NOMEM;
	*x = (struct xml_stream){ .pool = p, .lim = lim, .ops = ops, .self = self };
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

bool xml_stream_parked(const struct xml_stream *x)
{
	return !x->p;
}

void xml_stream_move(struct xml_stream *x, struct xml_pool *p, const struct xml_stream_ops *ops,
		     void *self)
{
	x->pool = p;
	x->ops = ops;
	x->self = self;
}

void xml_stream_set_limits(struct xml_stream *x, const struct xml_limits *lim)
{
	x->lim = lim;
}

uint32_t xml_stream_stanza_octets(const struct xml_stream *x)
{
	return x->stanza_octets;
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
	struct xml_stream x = { .pool = &pool,
				.lim = &lim,
				.ops = &ops,
				.self = &n,
				.a = a,
				.given_arena = true,
				.open = true,
				.level = 1 };
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
