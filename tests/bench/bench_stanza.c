/* bench_stanza.c - what a stanza costs from octets to octets, in CPU time of one thread, and what a
 * stream costs in memory.
 *
 *   bench_stanza [--rounds N] [--only WORD]
 *
 * "whole" is what a router does: parse, take, set from, seal, write once. The medians of 9 runs are
 * printed. */
#include "xmpp/stream/stanza.h"

#include <malloc.h>
#include <time.h>

#define RUNS 9u

static const char head[] =
	"<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' "
	"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
/* 184 octets */
static const char chat[] =
	"<message to='bob0017@localhost/bench' type='chat' id='m000001-17'><body>The quick brown "
	"fox jumps over the lazy dog, then sits down and has a cup of tea with the dog now</body></message>";
/* 327 octets */
static const char chat3[] =
	"<message to='bob0017@localhost/bench' type='chat' id='m000001-17'><body>The quick brown fox jumps over the "
	"lazy dog.</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>"
	"<origin-id xmlns='urn:xmpp:sid:0' id='0a1b2c3d4e5f60718293a4b5c6d7e8f901234567890123456789abcdef01'/></message>";
static const char presence[] =
	"<presence><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' "
	"node='https://example.org' ver='q07IKJEyjvHSyhy//CH0CxmKi8w='/></presence>";

static struct xml_pool *pool;
static struct xml_stream *stream;
static const struct xml_limits limits = {
	.stanza_octets = 256u << 10, .depth = 64, .attrs = 64, .nodes = 2000
};
static struct buf out = { .max = 1u << 20 };
static struct jid alice;
static enum { TREE, TAKE, SEAL, WIRE } depth;
static size_t arena_octets;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_stanza: %s\n", what);
	exit(1);
}

static double cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int on_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	UNUSED(self);
	UNUSED(root);
	UNUSED(content_ns);
	return 0;
}

static int on_element(void *self, struct arena *a, struct xml_node *n)
{
	struct stanza *s;
	bool bad;

	UNUSED(self);
	if (depth == TREE) {
		arena_octets = arena_used(a);
		arena_free(&a);
		return 0;
	}
	if (stanza_take(a, n, &s, &bad, NULL) < 0)
		return E_INTERNAL;
	int rc = stanza_set_from(s, &alice);
	if (rc == 0 && depth >= SEAL)
		rc = stanza_seal(s);
	if (rc == 0 && depth >= WIRE)
		rc = stanza_wire(&out, s, NULL, NULL, SL_NULL);
	arena_octets = arena_used(s->arena);
	buf_reset(&out);
	stanza_unref(&s);
	return rc;
}

static void on_close(void *self)
{
	UNUSED(self);
}

static const struct xml_stream_ops ops = { on_open, on_element, on_close };

static void open_stream(void)
{
	need(xml_stream_new(pool, &limits, &ops, NULL, &stream) == 0 &&
		     xml_stream_feed(stream, sl_cstr(head), NULL) == 0,
	     "cannot open a stream");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static const char *only;
static unsigned rounds = 20000;

/* Median cost in microseconds of one of `per` things that fn does. */
static void measure(const char *name, unsigned per, void (*fn)(const void *arg), const void *arg)
{
	double us[RUNS];

	if (only && !strstr(name, only))
		return;
	open_stream();
	for (unsigned r = 0; r < RUNS; r++) {
		double t0 = cpu_us();
		for (unsigned i = 0; i < rounds / per + 1; i++)
			fn(arg);
		us[r] = (cpu_us() - t0) / ((rounds / per + 1) * per);
	}
	xml_stream_free(&stream);
	qsort(us, RUNS, sizeof(us[0]), by_value);
	printf("%-34s %7.3f us", name, us[RUNS / 2]);
	if (arena_octets)
		printf("   %zu octets of arena", arena_octets);
	printf("\n");
	arena_octets = 0;
}

static void feed(const void *arg)
{
	need(xml_stream_feed(stream, *(const struct sl *)arg, NULL) == 0, "feed failed");
}

static void park_and_feed(const void *arg)
{
	need(xml_stream_park(stream), "cannot park");
	feed(arg);
}

static void begin_and_end(const void *arg)
{
	struct xml_stream *x;

	UNUSED(arg);
	need(xml_stream_new(pool, &limits, &ops, NULL, &x) == 0 &&
		     xml_stream_feed(x, sl_cstr(head), NULL) == 0,
	     "stream failed");
	xml_stream_free(&x);
}

static void parse_jid(const void *arg)
{
	char mem[256];
	struct arena *a = (struct arena *)(void *)mem; /* never used: the JID is normal */
	struct jid j;

	need(jid_parse(a, *(const struct sl *)arg, &j, NULL) == 0, "JID refused");
}

static void parse_jid_arena(const void *arg)
{
	struct arena *a = arena_new(512, 4096);
	struct jid j;

	need(a && jid_parse(a, *(const struct sl *)arg, &j, NULL) == 0, "JID refused");
	arena_free(&a);
}

static void parse_one(const void *arg)
{
	struct arena *a = arena_new(976, 1u << 20);
	struct xml_node *n;

	need(a && xml_parse_one(a, *(const struct sl *)arg, &n, NULL) == 0, "parse_one failed");
	arena_free(&a);
}

static struct sl repeated(struct sl s, unsigned times)
{
	char *p = malloc(s.n * times);

	need(p, "memory");
	for (unsigned i = 0; i < times; i++)
		memcpy(p + i * s.n, s.p, s.n);
	return sl_mk(p, s.n * times);
}

static void stanzas(void)
{
	static const char *const steps[] = { "tree", "take", "seal", "whole" };
	const struct {
		const char *name;
		struct sl text;
	} texts[] = { { "184", SL(chat) }, { "327", SL(chat3) }, { "presence", SL(presence) } };
	char name[64];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		for (depth = TREE; depth <= WIRE; depth++) {
			snprintf(name, sizeof(name), "stanza %s %s", texts[i].name, steps[depth]);
			measure(name, 1, feed, &texts[i].text);
		}
	depth = WIRE;
	struct sl batch = repeated(SL(chat), 20);
	measure("stanza 184 whole, 20 at once", 20, feed, &batch);
	measure("stanza 184 whole, parked before", 1, park_and_feed, &texts[0].text);
	free((char *)batch.p);
	struct sl big = repeated(
		SL("The quick brown fox jumps over the lazy dog; then it has some tea.\n"), 956);
	struct buf b = { .max = 1u << 20 };
	need(buf_addf(&b, "<message to='a@b'><body>" SLFMT "</body></message>", SLARG(big)) == 0,
	     "memory");
	struct sl text = buf_sl(&b);
	unsigned saved = rounds;
	rounds = rounds / 100;
	measure("stanza 64 kB whole", 1, feed, &text);
	rounds = saved;
	free((char *)big.p);
	buf_free(&b);
}

static size_t heap(void)
{
	return mallinfo2().uordblks + mallinfo2().hblkhd;
}

static void memory(void)
{
	enum { N = 4000 };
	static struct xml_stream *x[N];
	struct xml_pool *p;
	size_t before;

	need(xml_pool_new(&p, 0) == 0, "memory");
	before = heap();
	for (int i = 0; i < N; i++)
		need(xml_stream_new(p, &limits, &ops, NULL, &x[i]) == 0, "memory");
	printf("a stream before its first octet     %zu octets\n", (heap() - before) / N);
	for (int i = 0; i < N; i++)
		need(xml_stream_feed(x[i], sl_cstr(head), NULL) == 0 &&
			     xml_stream_feed(x[i], SL(chat), NULL) == 0,
		     "feed");
	printf("a stream with its parser            %zu octets\n", (heap() - before) / N);
	for (int i = 0; i < N; i++)
		need(xml_stream_park(x[i]), "park");
	printf("a parked stream                     %zu octets\n", (heap() - before) / N);
	for (int i = 0; i < N; i++)
		xml_stream_free(&x[i]);
	xml_pool_free(&p);
}

int main(int argc, char **argv)
{
	struct sl ascii = SL("bob0017@localhost/bench"), upper = SL("Bob0017@localhost/bench"),
		  wide = SL("b\xc3\xb6"
			    "b@localhost/bench"),
		  one = SL(chat);

	for (int i = 1; i < argc; i++) {
		uint64_t v;
		if (i + 1 < argc && strcmp(argv[i], "--only") == 0)
			only = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0 &&
			 sl_to_u64(sl_cstr(argv[i + 1]), 1u << 30, &v) == 0)
			rounds = (unsigned)v, i++;
		else
			return fprintf(stderr, "usage: bench_stanza [--rounds N] [--only WORD]\n"),
			       2;
	}
	alice = jid_split(SL("alice017@localhost/bench"));
	need(xml_pool_new(&pool, 8) == 0, "memory");
	stanzas();
	measure("stream begins and ends", 1, begin_and_end, NULL);
	measure("jid ASCII", 1, parse_jid, &ascii);
	measure("jid to lower", 1, parse_jid_arena, &upper);
	measure("jid Unicode", 1, parse_jid_arena, &wide);
	measure("parse one, 184", 1, parse_one, &one);
	if (!only || strstr("memory", only))
		memory();
	xml_pool_free(&pool);
	buf_free(&out);
	return 0;
}
