/* test_sms_queue.c - tandem-sms between a core and a bearer that the test plays: rules MSG, OUT,
 * MO, DLV, ADDR and CUST-8, CUST-9.
 *
 * The core's side is a Unix socket that speaks the component stream; the bearer's side replaces
 * bearer.c. The store is real. */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/resolve.h"
#include "appliance/store/store_engine.h"
#include "translators/sms/sms.h"

/* ---- the bearer
 * ------------------------------------------------------------------------------------ */

#define PARTS_MAX 256

struct bearer {
	const struct bearer_ops *ops;
	void *arg;
	bool up;
	unsigned window, in_flight;
	struct given {
		uint64_t cookie;
		char to[32], from[32];
		char text[256];
		struct gsm_concat concat;
		uint32_t validity_s;
		bool want_receipt, answered;
	} part[PARTS_MAX];
	unsigned n;
	struct {
		uint64_t token;
		int rc;
	} answer[PARTS_MAX];
	unsigned nanswers, limited, encodings;
	char name[32], prefix[32]; /* of the others */
	uint32_t cost;
};

static struct bearer fake, other[4];

int bearer_smpp_new(struct loop *l, struct resolver *r, const struct config_link *s,
		    const struct numplan *np, const struct bearer_ops *ops, void *arg,
		    struct bearer **b_r, struct err *e)
{
	UNUSED(l);
	UNUSED(r);
	UNUSED(np);
	UNUSED(e);
	for (unsigned i = 0; i < ARRAY_LEN(other) && !sl_eq(s->name, SL("fake")); i++) {
		if (other[i].name[0])
			continue;
		other[i] = (struct bearer){ .ops = ops, .arg = arg, .up = true, .window = 1 };
		other[i].cost = s->cost;
		snprintf(other[i].name, sizeof(other[i].name), SLFMT, SLARG(s->name));
		if (s->prefixes.n)
			snprintf(other[i].prefix, sizeof(other[i].prefix), SLFMT,
				 SLARG(s->prefixes.v[0]));
		*b_r = &other[i];
		return 0;
	}
	fake.ops = ops;
	fake.arg = arg;
	fake.in_flight = 0;
	*b_r = &fake;
	return 0;
}

int bearer_radio_new(struct loop *l, const struct config *cfg, const struct numplan *np,
		     const struct bearer_ops *ops, void *arg, struct bearer **b_r, struct err *e)
{
	UNUSED(l);
	UNUSED(cfg);
	UNUSED(np);
	UNUSED(ops);
	UNUSED(arg);
	UNUSED(b_r);
	return err_set(e, E_UNSUPPORTED, NULL, "none");
}

static void outcome(unsigned i, enum part_result r, const char *id)
{
	struct part_outcome o = { .result = r,
				  .message_id = sl_cstr(id),
				  .condition = r == PART_ACCEPTED ? NULL : "item-not-found",
				  .type = "modify",
				  .text = "invalid destination" };

	assert_false(fake.part[i].answered);
	fake.part[i].answered = true;
	fake.in_flight--;
	fake.ops->on_result(fake.arg, &fake, fake.part[i].cookie, &o);
	fake.ops->on_room(fake.arg, &fake);
}

void bearer_free_parts(struct bearer *b)
{
	b->up = false;
	for (unsigned i = 0; i < b->n; i++)
		if (!b->part[i].answered)
			outcome(i, PART_AMBIGUOUS, "");
}
void bearer_free(struct bearer **b)
{
	*b = NULL;
}
void bearer_stop(struct bearer *b, uint32_t drain_ms, uint32_t close_ms)
{
	UNUSED(drain_ms);
	UNUSED(close_ms);
	b->up = false;
	b->ops->on_state(b->arg, b);
}
bool bearer_stopped(const struct bearer *b)
{
	return b->in_flight == 0;
}
int bearer_submit(struct bearer *b, const struct sms_part *p, uint64_t cookie)
{
	if (!b->up || b->in_flight >= b->window)
		return E_AGAIN;
	assert_true(b->n < PARTS_MAX);
	struct given *g = &b->part[b->n++];
	struct arena *a = arena_new(1024, 65536);
	struct sl text;
	b->in_flight++;
	*g = (struct given){ .cookie = cookie,
			     .concat = p->body.concat,
			     .validity_s = p->validity_s,
			     .want_receipt = p->want_receipt };
	assert_int_equal(sl_to_cstr(p->to, g->to, sizeof(g->to)), 0);
	assert_int_equal(sl_to_cstr(p->from, g->from, sizeof(g->from)), 0);
	assert_int_equal(gsm_decode(a, p->body.enc, p->body.data, &text), 0);
	assert_int_equal(sl_to_cstr(text, g->text, sizeof(g->text)), 0);
	arena_free(&a);
	return 0;
}
void bearer_answer(struct bearer *b, uint64_t token, int rc)
{
	if (b->nanswers < PARTS_MAX) {
		b->answer[b->nanswers].token = token;
		b->answer[b->nanswers].rc = rc;
	}
	b->nanswers++;
	if (rc == E_LIMIT)
		b->limited++;
}
const char *bearer_name(const struct bearer *b)
{
	return b->name[0] ? b->name : "fake";
}
bool bearer_up(const struct bearer *b)
{
	return b->up;
}
unsigned bearer_room(const struct bearer *b)
{
	return b->up ? b->window - b->in_flight : 0;
}
unsigned bearer_encodings(const struct bearer *b)
{
	return b->encodings;
}
unsigned bearer_serves(const struct bearer *b, struct sl number)
{
	struct sl prefix = sl_cstr(b->prefix);

	if (sl_starts(number, SL("+999"))) /* no bearer serves these */
		return 0;
	return number.n && sl_starts(number, prefix) ? (unsigned)prefix.n + 1 : 0;
}
uint32_t bearer_cost(const struct bearer *b)
{
	return b->cost;
}
int bearer_key(const struct bearer *b, struct sl id, struct buf *dst)
{
	UNUSED(b);
	return buf_addf(dst, "fake\n%.*s", SLARG(id));
}
json_t *bearer_describe(const struct bearer *b)
{
	UNUSED(b);
	return json_object();
}
void bearer_enable(struct bearer *b, bool on)
{
	b->up = on;
}

/* ---- a store whose commits can be made to fail (the Kbuild wraps store_new), and that counts, of each kind of write,
 * those that began a transaction of their own ---- */

static atomic_uint loose[STORE_KIND_MAX];

static atomic_uint commits_to_fail;
static atomic_bool writer_waits; /* reads go on */
static struct store_engine engine;

static int begin_or_wait(struct store_conn *c, struct err *e)
{
	while (writer_waits)
		usleep(1000);
	return store_engine_sqlite.begin(c, e);
}

static int commit_or_fail(struct store_conn *c, struct err *e)
{
	if (commits_to_fail) {
		commits_to_fail--;
		return err_set(e, E_IO, NULL, "made to fail");
	}
	return store_engine_sqlite.commit(c, e);
}

static int exec_and_count(struct store_conn *c, struct store_op *op, struct err *e)
{
	static const struct store_op *next; /* the writer's */

	if (store_kind_writes((enum store_kind)op->kind)) {
		if (op != next)
			loose[op->kind]++;
		next = op->group_next;
	}
	return store_engine_sqlite.exec(c, op, e);
}

int __wrap_store_new(const struct store_cfg *c, struct bus *bus, struct store **s_r, struct err *e);
int __wrap_store_new(const struct store_cfg *c, struct bus *bus, struct store **s_r, struct err *e)
{
	engine = store_engine_sqlite;
	engine.begin = begin_or_wait;
	engine.commit = commit_or_fail;
	engine.exec = exec_and_count;
	return store_new_engine(&engine, c, bus, s_r, e);
}

/* ---- the core
 * --------------------------------------------------------------------------------------- */

static struct {
	struct listener *ln;
	struct conn *conn;
	struct buf in; /* what the component sent after <enable/> */
	bool up, ack_all;
	unsigned restarts;
	uint32_t received;
} core;

static struct sms_app *app;
static char dir[] = "/tmp/tandem-test-sms-XXXXXX";

static void core_say(const char *s)
{
	assert_int_equal(conn_write(core.conn, sl_cstr(s)), 0);
}

#define HEADER \
	"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s1' " \
	"from='sms.localhost' version='1.0'>"

static void core_data(void *self, struct sl d)
{
	UNUSED(self);
	assert_int_equal(buf_add(&core.in, d), 0);
	assert_int_equal(buf_addc(&core.in, '\0'), 0);
	const char *s = buf_sl(&core.in).p;
	if (core.up) {
		core.in.n--;
		return;
	}
	if (strstr(s, "<auth ")) {
		core_say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
	} else if (strstr(s, "<stream:stream")) {
		core_say(HEADER);
		core_say(
			core.restarts++ % 2
				? "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"
				: "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
				  "</stream:features>");
	} else if (strstr(s, "<enable ")) {
		core_say("<enabled xmlns='urn:xmpp:sm:3'/>");
		core.up = true;
	}
	buf_free(&core.in);
}

static void core_closed(void *self, const struct err *why)
{
	UNUSED(self);
	UNUSED(why);
	core.conn = NULL;
	core.up = false;
}

static const struct conn_ops core_conn_ops = { .on_data = core_data, .on_closed = core_closed };

static void core_accept(void *arg, int fd)
{
	struct sms_app *a = arg;

	core.up = false;
	buf_free(&core.in);
	assert_int_equal(conn_new(a->loop, fd, &core_conn_ops, NULL, 1u << 20, &core.conn, NULL),
			 0);
}

static void turns(unsigned n)
{
	while (n--)
		loop_turn(app->loop, 5);
}

static const char *core_text(void)
{
	char *p = buf_reserve(&core.in, 1);

	*p = '\0';
	return core.in.n ? buf_sl(&core.in).p : "";
}

/* Wait until what the component sent holds the text. */
static void core_expect(const char *what)
{
	for (int i = 0; i < 600; i++) {
		if (strstr(core_text(), what))
			return;
		loop_turn(app->loop, 5);
	}
	fail_msg("the component never sent %s; it sent: %s", what, core_text());
}

static unsigned occurrences(const char *what)
{
	unsigned n = 0;

	for (const char *p = core_text(); (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void wait_parts(unsigned n)
{
	for (int i = 0; i < 600 && fake.n < n; i++)
		loop_turn(app->loop, 5);
	assert_int_equal(fake.n, n);
}

/* ---- set-up
 * ------------------------------------------------------------------------------------------ */

static const struct config *cfg;
static bool frozen; /* clock_fake is on */

static void start(void)
{
	struct err e = { 0 };
	static struct sms_app a;

	a = (struct sms_app){ .cfg = config_ref(cfg) };
	app = &a;
	if (app_start(&a, &e) < 0)
		fail_msg("start: %s", e.text);
	fake.up = true;
	assert_int_equal(
		listener_new_unix(a.loop, "core.sock", 0600, core_accept, &a, &core.ln, &e), 0);
	for (int i = 0; i < 600 && !core.up; i++) {
		loop_turn(a.loop, 5);
		clock_fake_advance_ms(frozen ? 5 : 0);
	}
	assert_true(core.up);
	turns(3);
}

static void stop(void)
{
	if (core.conn)
		conn_kill(core.conn);
	turns(2);
	listener_free(&core.ln);
	app_finish(app);
	buf_free(&core.in);
	bus_free(&app->bus);
	loop_free(&app->loop);
	config_unref(&app->cfg);
}

/* kill -9: nothing is settled, nothing more is committed. */
static void crash(void)
{
	fake.ops = NULL;
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		app->bearer[i] = NULL;
	stop();
}

static const char *default_link = "";

static void configure(int max_parts)
{
	json_t *doc = json_pack(
		"{s:s, s:[{s:s}], s:[{s:s, s:s, s:i, s:s, s:s}], s:{s:s, s:s, s:s, s:i, s:i}}",
		"state_dir", "/tmp", "host", "name", "localhost", "link", "name", "fake", "host",
		"127.0.0.1", "port", 2775, "system_id", "x", "password", "y", "sms", "domain",
		"sms.localhost", "default_link", default_link, "country_code", "1", "max_parts",
		max_parts, "retry_min_seconds", 1);
	struct err e = { 0 };

	if (config_from_json(doc, CONFIG_SMS, &cfg, &e) < 0)
		fail_msg("config: %s", e.text);
	json_decref(doc);
}

static int set_up(void **state)
{
	UNUSED(state);
	configure(3);
	assert_int_equal(chdir(dir), 0);
	buf_init(&core.in, 1u << 20);
	memset(&fake, 0, sizeof(fake));
	for (unsigned i = 0; i < STORE_KIND_MAX; i++)
		loose[i] = 0;
	commits_to_fail = 0;
	fake.window = 10;
	core.restarts = 0;
	start();
	assert_int_equal(numbers_set(app->numbers, SL("+15550001"), SL("alice@localhost"), SL_NULL),
			 0);
	return 0;
}

static int tear_down(void **state)
{
	UNUSED(state);
	stop();
	clock_fake(false, 0, 0);
	frozen = false;
	config_unref(&cfg);
	unlink("sms.db");
	unlink("sms.db-wal");
	unlink("sms.db-shm");
	unlink("sms.db.lock");
	unlink("core.sock");
	return 0;
}

static void say_message(const char *custody, const char *id, const char *to, const char *body)
{
	char s[4096];

	snprintf(
		s, sizeof(s),
		"<message from='alice@localhost/phone' to='%s@sms.localhost' id='%s' type='chat'><body>%s</body><request "
		"xmlns='urn:xmpp:receipts'/><custody xmlns='urn:tandem:custody:0' id='%s'/></message>",
		to, id, body, custody);
	core_say(s);
}

static void wait_answers(unsigned n)
{
	for (int i = 0; i < 600 && fake.nanswers < n; i++)
		loop_turn(app->loop, 5);
	assert_int_equal(fake.nanswers, n);
}

static void got(struct store_op *op)
{
	*(bool *)op->arg = true;
}

/* What was submitted before is committed and answered, and so is what followed from that. */
static void settle_down(void)
{
	for (int i = 0; i < 4; i++) {
		bool done = false;
		struct store_meta_put m = { 0 };

		store_op_init(&m.op, STORE_META_PUT, got, &done);
		m.key = m.value = SL("x");
		store_submit(app->store, &m.op);
		while (!done)
			loop_turn(app->loop, 5);
		turns(2);
	}
}

/* The entry with this custody id, as the store has it. */
static struct store_queue_entry stored(const char *custody)
{
	bool done = false;
	struct store_queue_get g = { 0 };
	struct store_queue_entry q;

	store_op_init(&g.op, STORE_QUEUE_GET, got, &done);
	g.custody_id = sl_cstr(custody);
	store_submit(app->store, &g.op);
	while (!done)
		loop_turn(app->loop, 5);
	assert_int_equal(g.op.rc, 0);
	assert_true(g.found_r);
	q = g.entry_r;
	store_op_fini(&g.op);
	return q; /* its texts are gone */
}

/* What is stored of a message, by its custody id; the caller calls store_op_fini. */
static void get(struct store_queue_get *g, const char *custody)
{
	bool done = false;
	char key[64];

	snprintf(key, sizeof(key), "c%s", custody);
	memset(g, 0, sizeof(*g));
	store_op_init(&g->op, STORE_QUEUE_GET, got, &done);
	g->custody_id = sl_cstr(key);
	store_submit(app->store, &g->op);
	while (!done)
		loop_turn(app->loop, 5);
	assert_int_equal(g->op.rc, 0);
	assert_true(g->found_r);
}

static unsigned state_of(const char *custody)
{
	struct store_queue_get g;
	unsigned state;

	get(&g, custody);
	state = g.entry_r.state;
	store_op_fini(&g.op);
	return state;
}

static void restart(void)
{
	crash();
	fake.n = 0;
	fake.nanswers = 0;
	fake.in_flight = 0;
	core.restarts = 0;
	start();
	assert_int_equal(numbers_set(app->numbers, SL("+15550001"), SL("alice@localhost"), SL_NULL),
			 0);
}

/* From here on time stands still but for pass(). */
static void freeze(void)
{
	clock_fake(true, clock_mono_ms(), clock_wall_ms());
	frozen = true;
}

static void pass(uint64_t ms)
{
	clock_fake_advance_ms(ms);
	turns(4);
}

static void receipt(const char *key, enum receipt_state st, uint64_t token)
{
	struct sms_receipt r = { .key = { sl_cstr(key) }, .nkeys = 1, .state = st, .text = "as the network says" };

	fake.ops->on_receipt(fake.arg, &fake, &r, token);
}

/* ---- tests
 * ---------------------------------------------------------------------------------------------- */

static void test_out_and_receipt(void **state)
{
	UNUSED(state);
	say_message("1", "m1", "+15550100", "hello");
	wait_parts(1);
	assert_string_equal(fake.part[0].to, "+15550100");
	assert_string_equal(fake.part[0].from, "+15550001");
	assert_string_equal(fake.part[0].text, "hello");
	core_expect("<a xmlns='urn:xmpp:sm:3' h='1'/>");
	outcome(0, PART_ACCEPTED, "77");
	turns(5);
	struct sms_receipt r = { .key = { SL("fake\n77") },
				 .nkeys = 1,
				 .state = RECEIPT_DELIVERED };
	fake.ops->on_receipt(fake.arg, &fake, &r, 5);
	core_expect("<received xmlns='urn:xmpp:receipts' id='m1'/>");
	core_expect("to='alice@localhost/phone'");
	assert_int_equal(fake.nanswers, 1);
	assert_int_equal(fake.answer[0].token, 5);
	assert_int_equal(fake.answer[0].rc, 0);
	/* The outbox holds it until the core's h covers it. */
	core_say("<a xmlns='urn:xmpp:sm:3' h='1'/>");
	turns(10);
	assert_int_equal(outbox_in_flight(app->outbox), 0);
	/* A second final receipt changes nothing (DLV-3). */
	r.state = RECEIPT_FAILED;
	fake.ops->on_receipt(fake.arg, &fake, &r, 6);
	for (int i = 0; i < 200 && fake.nanswers < 2; i++)
		turns(1);
	assert_int_equal(fake.nanswers, 2);
	assert_int_equal(occurrences("type='error'"), 0);
	restart(); /* what the core has acknowledged is not sent again */
	turns(20);
	assert_int_equal(occurrences("<received "), 0);
}

/* CUST-9: on a new stream all is sent again, also without a restart. */
static void test_outbox_on_a_new_stream(void **state)
{
	UNUSED(state);
	say_message("52", "s2", "+15550109", "x");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "56");
	turns(5);
	receipt("fake\n56", RECEIPT_DELIVERED, 1);
	core_expect("id='s2'/>");
	core.restarts = 0;
	conn_kill(core.conn);
	turns(5);
	for (int i = 0; i < 600 && !core.up; i++)
		loop_turn(app->loop, 5);
	core_expect("<received xmlns='urn:xmpp:receipts' id='s2'/>");
}

/* An id that the outbox has already: the stanza gets another. */
static void test_outbox_id_is_taken(void **state)
{
	UNUSED(state);
	freeze();
	for (unsigned i = 0; i < 2; i++) {
		struct sms_in m = { .from = SL("+15550199"), .to = SL("+15550001"),
				    .body = { GSM_ENC_7BIT, i ? SL("two") : SL("one"), { 0 } } };
		uint64_t before = app->ids.last;

		fake.ops->on_message(fake.arg, &fake, &m, i);
		wait_answers(i + 1);
		assert_int_equal(fake.answer[i].rc, 0);
		core_expect(i ? "<body>two</body>" : "<body>one</body>");
		app->ids.last = before > (clock_wall_ms() << 20) - 1 ? before : (clock_wall_ms() << 20) - 1;
	}
	assert_int_equal(occurrences("<body>"), 2);
}

static void test_receipt_before_response(void **state)
{
	struct sms_receipt r = { .key = { SL("fake\nabc"), SL("fake\n88") },
				 .nkeys = 2,
				 .state = RECEIPT_DELIVERED };

	UNUSED(state);
	say_message("2", "m2", "+15550101", "early");
	wait_parts(1);
	fake.ops->on_receipt(fake.arg, &fake, &r, 9);
	turns(10);
	assert_int_equal(fake.nanswers, 0); /* DLV-2: waits */
	outcome(0, PART_ACCEPTED, "88");
	core_expect("<received xmlns='urn:xmpp:receipts' id='m2'/>");
	assert_int_equal(fake.nanswers, 1);
}

static void test_permanent(void **state)
{
	UNUSED(state);
	say_message("3", "m3", "+15550102", "x");
	wait_parts(1);
	outcome(0, PART_PERMANENT, "");
	core_expect("type='error'");
	core_expect("id='m3'");
	core_expect("<error type='modify'>");
	core_expect("<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>");
	core_expect("invalid destination");
}

static void test_temporary_is_retried(void **state)
{
	UNUSED(state);
	say_message("4", "m4", "+15550103", "again");
	wait_parts(1);
	outcome(0, PART_TEMPORARY, "");
	wait_parts(2); /* after retry_min_seconds */
	assert_string_equal(fake.part[1].text, "again");
	outcome(1, PART_ACCEPTED, "9");
	turns(5);
	assert_int_equal(occurrences("type='error'"), 0);
}

static void test_refusals(void **state)
{
	UNUSED(state);
	core_say(
		"<message from='bob@localhost/x' to='+15550100@sms.localhost' id='r1' type='chat'><body>no number</body></message>");
	core_expect("<not-allowed ");
	say_message("11", "r2", "frank", "no such number");
	core_expect("<item-not-found ");
	say_message("12", "r3", "+15550100", "");
	core_expect("<bad-request ");
	char longer[1400];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	say_message("13", "r4", "+15550100", longer);
	core_expect("<not-acceptable ");
	core_expect("h='4'/>");
	assert_int_equal(fake.n, 0);
	assert_int_equal(occurrences("type='error'"), 4);
}

static void test_custody_duplicate(void **state)
{
	UNUSED(state);
	say_message("21", "d1", "+15550104", "once");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "1");
	turns(5);
	say_message("21", "d1", "+15550104", "once");
	core_expect("h='2'/>");
	turns(10);
	assert_int_equal(fake.n, 1);
}

static void add_link(const char *name, const char *prefix, uint32_t cost)
{
	struct sl v = sl_cstr(prefix);
	struct config_link l = { .name = sl_cstr(name),
				 .prefixes = { &v, v.n ? 1 : 0 },
				 .cost = cost };

	assert_int_equal(app_bearer_add(app, &l, false, NULL), 0);
}

static const char *route(const char *number, const char *link)
{
	bool any = false;
	struct bearer *b = app_route(app, sl_cstr(number), sl_cstr(link), &any);

	return b ? bearer_name(b) : any ? "full" : "none";
}

static void with_default(const char *name)
{
	const struct config *old = cfg;

	default_link = name;
	configure(3);
	default_link = "";
	config_unref(&app->cfg);
	app->cfg = config_ref(cfg);
	config_unref(&old);
}

/* MSG-11. */
static void test_routes(void **state)
{
	UNUSED(state);
	fake.cost = 50; /* takes all */
	add_link("de", "+49", 9);
	add_link("berlin", "+4930", 10);
	add_link("berlin2", "+4930", 11);
	add_link("all", "", 60);
	assert_string_equal(route("+493012", ""), "berlin"); /* the longest, though dearer */
	assert_string_equal(route("+498912", ""), "de");
	assert_string_equal(route("+15550100", ""), "fake");
	assert_string_equal(route("+493012", "de"), "de");     /* the account's */
	assert_string_equal(route("+15550100", "de"), "fake"); /* which does not serve this one */
	other[1].in_flight = 1;
	assert_string_equal(route("+493012", ""), "berlin2");
	other[2].in_flight = 1;
	assert_string_equal(route("+493012", ""), "full"); /* not over one that fits less */
	other[1].up = other[2].up = false;
	assert_string_equal(route("+493012", ""), "de");
	with_default("all");
	assert_string_equal(route("+15550100", ""), "all"); /* though fake is cheaper */
	assert_string_equal(route("+493012", ""), "de");
	other[3].in_flight = 1;
	assert_string_equal(route("+15550100", ""), "full");
	other[3].up = false;
	assert_string_equal(route("+15550100", ""), "fake");
	fake.up = false;
	assert_string_equal(route("+15550100", ""), "none");
	with_default("de"); /* also what its prefixes do not begin */
	assert_string_equal(route("+15550100", ""), "de");
	for (unsigned i = 0; i < ARRAY_LEN(other); i++) {
		other[i].in_flight = 0;
		assert_int_equal(app_bearer_del(app, sl_cstr(other[i].name)), 0);
		other[i].name[0] = '\0';
	}
	assert_true(app_serves(app, SL("+15550100"))); /* fake, which is down */
}

static void test_order_in_conversation(void **state)
{
	UNUSED(state);
	say_message("31", "o1", "+15550105", "first");
	say_message("32", "o2", "+15550105", "second");
	say_message("33", "o3", "+15550106", "other");
	core_expect("h='3'/>");
	wait_parts(2);
	turns(20);
	assert_int_equal(fake.n,
			 2); /* MSG-5: the second waits for the first, not the other conversation */
	assert_string_equal(fake.part[0].text, "first");
	assert_string_equal(fake.part[1].text, "other");
	outcome(0, PART_TEMPORARY, "");
	turns(20);
	assert_int_equal(fake.n, 2);
	wait_parts(3);
	assert_string_equal(fake.part[2].text, "first");
	outcome(2, PART_ACCEPTED, "a");
	wait_parts(4);
	assert_string_equal(fake.part[3].text, "second");
	outcome(1, PART_ACCEPTED, "b");
	outcome(3, PART_ACCEPTED, "c");
	turns(5);
}

static void test_crash_between_submit_and_answer(void **state)
{
	UNUSED(state);
	say_message("41", "c1", "+15550107", "maybe twice");
	wait_parts(1);
	core_expect("h='1'/>");
	crash();
	fake.n = 0;
	core.restarts = 0;
	start();
	wait_parts(1); /* MSG-7: sent again */
	assert_string_equal(fake.part[0].text, "maybe twice");
	assert_int_equal(app->counter[SMS_CNT_OUT_AMBIGUOUS], 1);
	outcome(0, PART_ACCEPTED, "z");
	turns(5);
}

static void answer_late(struct loop_timer *t)
{
	UNUSED(t);
	outcome(0, PART_ACCEPTED, "late");
}

/* LINK-9: what the network says while we stop is kept, and what it was not given is no riddle. */
static void test_stop_waits_for_answers(void **state)
{
	struct loop_timer t = { 0 };
	char text[400];

	UNUSED(state);
	fake.window = 1;
	memset(text, 'd', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	say_message("45", "w1", "+15550107", text); /* three parts, one is handed over */
	wait_parts(1);
	core_expect("h='1'/>");
	app_stop(app);
	loop_timer_set(app->loop, &t, 300, answer_late);
	loop_run(app->loop);
	assert_true(fake.part[0].answered);
	crash();
	fake.n = 0;
	fake.window = 10;
	core.restarts = 0;
	start();
	wait_parts(2); /* the rest */
	assert_int_equal(fake.part[0].concat.seq, 2);
	assert_int_equal(fake.part[1].concat.seq, 3);
	outcome(0, PART_ACCEPTED, "l2");
	outcome(1, PART_ACCEPTED, "l3");
	settle_down();
	assert_int_equal(app->counter[SMS_CNT_OUT_AMBIGUOUS], 0);
	assert_false(stored("c45").ambiguous);
	assert_int_equal(stored("c45").state, STORE_Q_ACCEPTED);
}

static void put_number(const char *number)
{
	bool done = false;
	struct store_number_put p = { 0 };

	store_op_init(&p.op, STORE_NUMBER_PUT, got, &done);
	p.number = sl_cstr(number);
	p.jid = SL("carol@localhost");
	store_submit(app->store, &p.op);
	while (!done)
		loop_turn(app->loop, 5);
	store_op_fini(&p.op);
}

/* ADDR-2: the oldest number is the sender, also after a restart. */
static void test_oldest_number(void **state)
{
	UNUSED(state);
	put_number("+15559999");
	put_number("+15550003");
	crash();
	core.restarts = 0;
	start();
	assert_true(sl_eq(numbers_of(app->numbers, SL("carol@localhost"), NULL), SL("+15559999")));
}

static void test_outbox_survives(void **state)
{
	struct sms_receipt r = { .key = { SL("fake\n55") },
				 .nkeys = 1,
				 .state = RECEIPT_DELIVERED };

	UNUSED(state);
	say_message("51", "s1", "+15550108", "x");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "55");
	turns(5);
	fake.ops->on_receipt(fake.arg, &fake, &r, 1);
	core_expect("id='s1'/>");
	crash(); /* the core never acknowledged */
	fake.n = 0;
	core.restarts = 0;
	start();
	core_expect("<received xmlns='urn:xmpp:receipts' id='s1'/>"); /* CUST-9 */
}

static struct sms_in incoming(const char *text, struct gsm_concat c)
{
	return (struct sms_in){ .from = SL("+15550199"),
				.to = SL("+15550001"),
				.body = { GSM_ENC_7BIT, sl_cstr(text), c } };
}

static void test_in(void **state)
{
	struct sms_in m = incoming("hi <there>", (struct gsm_concat){ 0 });

	UNUSED(state);
	fake.ops->on_message(fake.arg, &fake, &m, 3);
	assert_int_equal(fake.nanswers, 0); /* MO-1: not before the commit */
	core_expect("<body>hi &lt;there&gt;</body>");
	core_expect("from='+15550199@sms.localhost'");
	core_expect("to='alice@localhost'");
	assert_int_equal(fake.nanswers, 1);
	assert_int_equal(fake.answer[0].rc, 0);
	m.to = SL("+15550777");
	fake.ops->on_message(fake.arg, &fake, &m, 4);
	assert_int_equal(fake.answer[1].rc, E_NOTFOUND); /* MO-2 */
}

static void test_in_long(void **state)
{
	struct sms_in a = incoming("one ", (struct gsm_concat){ 7, 3, 1, false }),
		      b = incoming("two ", (struct gsm_concat){ 7, 3, 2, false }),
		      c = incoming("three", (struct gsm_concat){ 7, 3, 3, false });

	UNUSED(state);
	fake.ops->on_message(fake.arg, &fake, &c, 1);
	fake.ops->on_message(fake.arg, &fake, &a, 2);
	fake.ops->on_message(fake.arg, &fake, &a, 3); /* MO-4 */
	for (int i = 0; i < 200 && fake.nanswers < 3; i++)
		turns(1);
	assert_int_equal(fake.nanswers, 3);
	crash(); /* MO-3: the fragments were answered, so they must survive */
	core.restarts = 0;
	fake.nanswers = 0;
	start();
	assert_int_equal(numbers_set(app->numbers, SL("+15550001"), SL("alice@localhost"), SL_NULL),
			 0);
	fake.ops->on_message(fake.arg, &fake, &b, 4);
	core_expect("<body>one two three</body>");
	assert_int_equal(occurrences("<body>"), 1);
}

/* MO-4: a copy of a fragment, after its message went, is no new message. */
static void test_in_fragment_again(void **state)
{
	struct sms_in a = incoming("one ", (struct gsm_concat){ 9, 2, 1, false }),
		      b = incoming("two", (struct gsm_concat){ 9, 2, 2, false }),
		      c = incoming("new", (struct gsm_concat){ 9, 2, 2, false }),
		      d = incoming("quite ", (struct gsm_concat){ 9, 2, 1, false });

	UNUSED(state);
	fake.ops->on_message(fake.arg, &fake, &a, 1);
	fake.ops->on_message(fake.arg, &fake, &b, 2);
	core_expect("<body>one two</body>");
	fake.ops->on_message(fake.arg, &fake, &b, 3);
	settle_down();
	assert_int_equal(fake.nanswers, 3);
	assert_int_equal(fake.answer[2].rc, 0);
	assert_int_equal(app->counter[SMS_CNT_IN_COPIES], 1);
	in_sweep(app->in, clock_wall_ms() + 700000);
	settle_down();
	assert_int_equal(occurrences("<body>"), 1);
	/* Other octets under the same reference are another message. */
	fake.ops->on_message(fake.arg, &fake, &c, 4);
	fake.ops->on_message(fake.arg, &fake, &d, 5);
	core_expect("<body>quite new</body>");
}

/* MO-3: the last fragment comes while what is there is being delivered. */
static void test_in_fragment_in_the_sweep(void **state)
{
	struct sms_in a = incoming("one ", (struct gsm_concat){ 10, 2, 1, false }),
		      b = incoming("two", (struct gsm_concat){ 10, 2, 2, false });
	uint64_t later = clock_wall_ms() + 700000;

	UNUSED(state);
	fake.ops->on_message(fake.arg, &fake, &a, 1);
	settle_down();
	writer_waits = true;
	in_sweep(app->in, later);
	fake.ops->on_message(fake.arg, &fake, &b, 2);
	turns(20); /* the group is read, and its message waits for the writer */
	writer_waits = false;
	core_expect("part 2 of 2 missing");
	settle_down();
	in_sweep(app->in, later);
	core_expect("two");
}

static void test_multipart_receipts(void **state)
{
	char text[200];
	struct sms_receipt r = { .nkeys = 1, .state = RECEIPT_DELIVERED };

	UNUSED(state);
	memset(text, 'b', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	say_message("61", "p1", "+15550109", text);
	wait_parts(2);
	assert_int_equal(fake.part[0].concat.total, 2);
	assert_int_equal(fake.part[1].concat.seq, 2);
	outcome(0, PART_ACCEPTED, "x1");
	outcome(1, PART_ACCEPTED, "x2");
	turns(5);
	r.key[0] = SL("fake\nx1");
	fake.ops->on_receipt(fake.arg, &fake, &r, 1);
	r.key[0] = SL("fake\nx2");
	fake.ops->on_receipt(fake.arg, &fake, &r, 2);
	core_expect("<received xmlns='urn:xmpp:receipts' id='p1'/>");
	turns(20);
	assert_int_equal(occurrences("<received "), 1);
	assert_int_equal(fake.nanswers, 2);
}

/* Each receipt is answered, also when those before it left nothing for it to do (DLV-3). */
static void test_copies_of_a_receipt(void **state)
{
	struct sms_receipt r = { .key = { SL("fake\nd1") },
				 .nkeys = 1,
				 .state = RECEIPT_DELIVERED };

	UNUSED(state);
	say_message("62", "p2", "+15550109", "x");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "d1");
	turns(5);
	commits_to_fail = 1; /* and the counters count what was committed */
	for (unsigned i = 0; i < 5; i++)
		fake.ops->on_receipt(fake.arg, &fake, &r, i);
	for (int i = 0; i < 600 && fake.nanswers < 5; i++)
		turns(1);
	assert_int_equal(fake.nanswers, 5);
	core_expect("<received xmlns='urn:xmpp:receipts' id='p2'/>");
	assert_int_equal(occurrences("<received "), 1);
	assert_int_equal(app->counter[SMS_CNT_OUT_DELIVERED], 1);
	assert_int_equal(commits_to_fail, 0);
}

/* DLV-4: the store is slower than the network: what is in work is bounded, and the rest refused. */
static void test_flood_of_receipts(void **state)
{
	struct sms_receipt r = { .key = { SL("fake\nnone") },
				 .nkeys = 1,
				 .state = RECEIPT_DELIVERED };
	const unsigned n = 20000;

	UNUSED(state);
	for (unsigned i = 0; i < n; i++)
		fake.ops->on_receipt(fake.arg, &fake, &r, i);
	assert_int_equal(fake.limited, n - 16384);
	assert_int_equal(fake.nanswers, fake.limited);
	assert_int_equal(app->counter[SMS_CNT_RECEIPT_REFUSED], fake.limited);
	for (uint64_t end = clock_mono_ms() + 60000; fake.nanswers < n && clock_mono_ms() < end;)
		turns(1);
	assert_int_equal(fake.nanswers, n);
	fake.ops->on_receipt(fake.arg, &fake, &r, n);
	turns(20);
	assert_int_equal(fake.nanswers, n + 1);
	assert_int_equal(fake.limited, n - 16384);
}

static void put_entry(struct store_queue_put *p, uint64_t id, uint64_t changed_ms,
		      enum store_queue_state state, bool *done)
{
	store_op_init(&p->op, STORE_QUEUE_PUT, got, done);
	p->entry = (struct store_queue_entry){ .id = id,
					       .from_jid = SL("alice@localhost/phone"),
					       .to_jid = SL("+15550114@sms.localhost"),
					       .from_number = SL("+15550001"),
					       .to_number = SL("+15550114"),
					       .stanza_id = SL("old"),
					       .body = SL("x"),
					       .stamp_ms = 1,
					       .changed_ms = changed_ms,
					       .expires_ms = 1,
					       .state = (uint8_t)state,
					       .parts = 1 };
	store_submit(app->store, &p->op);
}

static void put_accepted(uint64_t id, uint64_t changed_ms)
{
	bool done = false;
	struct store_queue_put p = { 0 };

	put_entry(&p, id, changed_ms, STORE_Q_ACCEPTED, &done);
	while (!done)
		loop_turn(app->loop, 5);
	assert_int_equal(p.op.rc, 0);
	assert_false(p.id_taken_r);
}

/* Old records go, however many they are; what is on its way stays. */
static void test_old_records(void **state)
{
	enum { N = 4500 };
	struct store_queue_put *p = calloc(N, sizeof(*p));
	struct store_queue_count c = { 0 };
	bool done = false;

	UNUSED(state);
	for (unsigned i = 0; i < N; i++)
		put_entry(&p[i], i + 1, 1, STORE_Q_DELIVERED, &done);
	put_accepted(N + 1, clock_wall_ms());
	free(p);
	app_keep_house(app);
	settle_down();
	done = false;
	store_op_init(&c.op, STORE_QUEUE_COUNT, got, &done);
	store_submit(app->store, &c.op);
	while (!done)
		loop_turn(app->loop, 5);
	assert_int_equal(c.n_r[STORE_Q_DELIVERED], 0);
	assert_int_equal(c.n_r[STORE_Q_ACCEPTED], 1);
}

/* Accepted messages whose receipt is overdue are found behind any number of others. */
static void test_no_receipt_comes(void **state)
{
	uint64_t now = clock_wall_ms();

	UNUSED(state);
	for (unsigned i = 1; i <= 450; i++)
		put_accepted(i, now);
	for (unsigned i = 451; i <= 700; i++)
		put_accepted(i, 1);
	outcome_settle(app->outcome);
	for (int i = 0; i < 600 && occurrences("never said") < 250; i++)
		turns(1);
	turns(5);
	assert_int_equal(occurrences("<remote-server-timeout "), 250);
	assert_int_equal(app->counter[SMS_CNT_OUT_EXPIRED], 250);
	outcome_settle(app->outcome);
	turns(10);
	assert_int_equal(app->counter[SMS_CNT_OUT_EXPIRED], 250);
}

static void come_up(void)
{
	fake.up = true;
	fake.ops->on_state(fake.arg, &fake);
}

static void test_commit_of_submit_fails(void **state)
{
	UNUSED(state);
	fake.up = false;
	say_message("71", "f1", "+15550110", "after the disk");
	core_expect("h='1'/>");
	turns(5);
	commits_to_fail = 1;
	come_up();
	wait_parts(1);
	assert_int_equal(commits_to_fail, 0);
	outcome(0, PART_ACCEPTED, "f");
	turns(5);
}

static void drop_it(void *arg, uint64_t id)
{
	UNUSED(arg);
	assert_int_equal(out_drop(app->out, id), 0);
}

static void test_commit_of_end_fails(void **state)
{
	UNUSED(state);
	fake.up = false;
	say_message("72", "f2", "+15550111", "dropped");
	core_expect("h='1'/>");
	turns(5);
	commits_to_fail = 1;
	out_each_queued(app->out, drop_it, NULL);
	core_expect("<gone ");
	assert_int_equal(commits_to_fail, 0);
	assert_int_equal(fake.n, 0);
}

static void test_commit_of_refusal_fails(void **state)
{
	UNUSED(state);
	unsigned before = core.restarts;
	commits_to_fail = 1;
	say_message("73", "f3", "frank", "no number");
	for (int i = 0; i < 600 && core.restarts < before + 2; i++)
		loop_turn(app->loop, 5);
	assert_int_equal(core.restarts, before + 2); /* so that the core sends it again */
}

static void test_queued_text_that_is_too_long_by_now(void **state)
{
	char text[400];

	UNUSED(state);
	memset(text, 'c', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	fake.up = false;
	say_message("81", "l1", "+15550113", text);
	say_message("82", "l2", "+15550113", "short");
	core_expect("h='2'/>");
	crash();
	config_unref(&cfg);
	configure(1);
	core.restarts = 0;
	fake.n = 0;
	commits_to_fail = 2;
	start();
	core_expect("<not-acceptable "); /* MSG-3 */
	core_expect("id='l1'");
	assert_int_equal(stored("c81").state, STORE_Q_FAILED);
	wait_parts(1);
	assert_string_equal(fake.part[0].text, "short");
	outcome(0, PART_ACCEPTED, "s");
	turns(5);
	assert_int_equal(app->counter[SMS_CNT_OUT_FAILED], 1);
}

static void deliver_parts(unsigned n)
{
	static const char *const id[] = { "k0", "k1", "k2" };
	struct sms_receipt r = { .nkeys = 1, .state = RECEIPT_DELIVERED };
	char key[32];

	wait_parts(n);
	for (unsigned i = 0; i < n; i++)
		outcome(i, PART_ACCEPTED, id[i]);
	settle_down();
	for (unsigned i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "fake\n%s", id[i]);
		r.key[0] = sl_cstr(key);
		fake.ops->on_receipt(fake.arg, &fake, &r, i);
	}
	settle_down();
}

/* MSG-13. */
static void test_cut_in_another_way(void **state)
{
	char text[151];

	UNUSED(state);
	memset(text, 'e', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	fake.up = false;
	fake.encodings = GSM_ENC_BIT(GSM_ENC_UCS2);
	say_message("83", "x1", "+15550115", text); /* three parts */
	core_expect("h='1'/>");
	fake.encodings = 0;
	restart();
	deliver_parts(1);
	core_expect("<received xmlns='urn:xmpp:receipts' id='x1'/>");
	assert_int_equal(stored("c83").parts, 1);
	fake.up = false;
	say_message("84", "x2", "+15550115", text); /* one */
	core_expect("h='1'/>");
	fake.encodings = GSM_ENC_BIT(GSM_ENC_UCS2);
	restart();
	assert_false(stored("c84").ambiguous);
	deliver_parts(3);
	core_expect("<received xmlns='urn:xmpp:receipts' id='x2'/>");
	assert_int_equal(stored("c84").parts, 3);
	fake.encodings = 0;
}

static void test_in_binary_parts(void **state)
{
	struct sms_in a = incoming("\1\2", (struct gsm_concat){ 8, 2, 1, false }),
		      b = incoming("\3\4", (struct gsm_concat){ 8, 2, 2, false });

	UNUSED(state);
	a.body.enc = b.body.enc = GSM_ENC_OCTETS;
	fake.ops->on_message(fake.arg, &fake, &a, 1);
	fake.ops->on_message(fake.arg, &fake, &b, 2);
	core_expect("<body>[binary message]</body>");
}

static void test_in_odd_senders(void **state)
{
	static const char *const from[] = { " x", "\xc2\xa7", "a\001", "\xff", "" };
	struct sms_in m = incoming("hi", (struct gsm_concat){ 0 });

	UNUSED(state);
	m.from_alphanumeric = true;
	for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
		m.from = sl_cstr(from[i]);
		fake.ops->on_message(fake.arg, &fake, &m, i);
	}
	for (int i = 0; i < 200 && occurrences("from='unknown@sms.localhost'") < 5; i++)
		turns(1);
	assert_int_equal(occurrences("from='unknown@sms.localhost'"), 5);
	assert_int_equal(fake.nanswers, 5);
	for (unsigned i = 0; i < fake.nanswers; i++)
		assert_int_equal(fake.answer[i].rc, 0);
}

static void test_text_that_is_no_xml(void **state)
{
	struct sms_receipt r = { .key = { SL("fake\n66") },
				 .nkeys = 1,
				 .state = RECEIPT_FAILED,
				 .text = "error \001\xff.\xef\xbf\xbf." };

	UNUSED(state);
	say_message("74", "f4", "+15550112", "x");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "66");
	turns(5);
	fake.ops->on_receipt(fake.arg, &fake, &r, 1);
	core_expect("error \xef\xbf\xbd?.???.");
}

/* MSG-4, MSG-5: a message that nobody took in time, and the sender hears of it. */
static void test_expires(void **state)
{
	UNUSED(state);
	fake.up = false;
	say_message("81", "e1", "+15550120", "too late");
	core_expect("h='1'/>");
	freeze();
	pass(71 * 3600000u);
	assert_int_equal(occurrences("type='error'"), 0);
	for (unsigned i = 0; i < 3; i++)
		pass(3600000);
	core_expect("<remote-server-timeout ");
	core_expect("<error type='wait'>");
	core_expect("id='e1'");
	assert_int_equal(app->counter[SMS_CNT_OUT_EXPIRED], 1);
	assert_int_equal(app->counter[SMS_CNT_OUT_FAILED], 0);
	assert_int_equal(state_of("81"), STORE_Q_EXPIRED);
	assert_int_equal(loose[STORE_OUTBOX_PUT], 0); /* OUT-3 */
}

/* MSG-1, CUST-8: not acknowledged before it is committed, and that is tried again. */
static void test_put_fails(void **state)
{
	UNUSED(state);
	commits_to_fail = 1;
	say_message("82", "p1", "+15550121", "after the disk");
	turns(20);
	assert_int_equal(commits_to_fail, 0);
	assert_int_equal(occurrences("h='1'"), 0);
	assert_int_equal(fake.n, 0);
	core_expect("h='1'/>");
	wait_parts(1);
}

/* The clock went back over a restart: an id that is there already is not taken for the same message. */
static void test_id_is_taken(void **state)
{
	struct store_queue_get g;

	UNUSED(state);
	freeze();
	say_message("83", "i1", "+15550122", "one");
	core_expect("h='1'/>");
	get(&g, "83");
	app->ids.last = g.entry_r.id - 1;
	store_op_fini(&g.op);
	say_message("84", "i2", "+15550123", "two");
	core_expect("h='2'/>");
	wait_parts(2);
	assert_string_equal(fake.part[1].text, "two");
	outcome(1, PART_ACCEPTED, "t");
	turns(5);
	assert_int_equal(state_of("84"), STORE_Q_ACCEPTED);
	assert_int_equal(state_of("83"), STORE_Q_SUBMITTED);
}

/* After a restart ids go on above what is there, whatever the clock says. */
static void test_ids_go_on(void **state)
{
	struct store_queue_get g;

	UNUSED(state);
	fake.up = false;
	say_message("85", "i3", "+15550124", "one");
	core_expect("h='1'/>");
	get(&g, "85");
	clock_fake(true, clock_mono_ms(), 1000000);
	frozen = true;
	restart();
	turns(10);
	assert_true(app->ids.last >= g.entry_r.id);
	store_op_fini(&g.op);
}

/* MSG-10 */
static void test_quota(void **state)
{
	UNUSED(state);
	((struct config *)(uintptr_t)cfg)->sms.messages_per_minute = 2;
	freeze();
	say_message("86", "q1", "+15550125", "1");
	say_message("87", "q2", "+15550126", "2");
	say_message("88", "q3", "+15550127", "3");
	core_expect("<error type='wait'><policy-violation ");
	core_expect("id='q3'");
	wait_parts(2);
	pass(30000);
	say_message("89", "q4", "+15550128", "4");
	wait_parts(3);
	assert_int_equal(occurrences("type='error'"), 1);
}

static void say_from(const char *from, const char *to, const char *type, const char *rest)
{
	char s[2048];

	snprintf(s, sizeof(s), "<message from='%s' to='%s' type='%s'%s</message>", from, to, type, rest);
	core_say(s);
}

/* MSG-2, MSG-9: what is not for a telephone, or for none that we reach. */
static void test_not_for_a_phone(void **state)
{
	static const char *const ignored[] = { "<active xmlns='http://jabber.org/protocol/chatstates'/>",
					       "<received xmlns='urn:xmpp:receipts' id='x'/>" };
	const char *alice = "alice@localhost/phone", *phone = "+15550130@sms.localhost";

	UNUSED(state);
	say_from(alice, phone, "groupchat", " id='g1'><body>x</body>");
	core_expect("<feature-not-implemented ");
	say_from(alice, phone, "headline", " id='g2'><body>x</body>");
	for (int i = 0; i < 200 && occurrences("<feature-not-implemented ") < 2; i++)
		turns(1);
	assert_int_equal(occurrences("<feature-not-implemented "), 2);
	say_from(alice, "+99912345@sms.localhost", "chat", " id='g3'><body>x</body>");
	core_expect("No link of this gateway reaches that number.");
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
		char s[256];
		snprintf(s, sizeof(s), ">%s", ignored[i]);
		say_from(alice, phone, "chat", s);
	}
	say_from(alice, phone, "error", " id='g4'><body>x</body>");
	core_expect("h='6'/>");
	turns(10);
	assert_int_equal(fake.n, 0);
	assert_int_equal(occurrences("type='error'"), 3);
	/* To the domain itself; sent again by the core, it is refused once (CUST-8, OUT-3). */
	for (unsigned i = 0; i < 2; i++)
		say_from(alice, "sms.localhost", "chat",
			 " id='g5'><body>x</body><custody xmlns='urn:tandem:custody:0' id='7'/>");
	core_expect("Write to a telephone number");
	core_expect("h='8'/>");
	turns(10);
	assert_int_equal(occurrences("Write to a telephone number"), 1);
}

/* OUT-1: who did not ask for a receipt gets none; OUT-2: but hears of a failure (MSG-8). */
static void test_receipt_not_asked_for(void **state)
{
	UNUSED(state);
	say_from("alice@localhost/phone", "+15550131@sms.localhost", "chat",
		 " id='n1'><body>x</body><custody xmlns='urn:tandem:custody:0' id='91'/>");
	say_from("alice@localhost/phone", "+15550132@sms.localhost", "chat",
		 " id='n2'><body>y</body><custody xmlns='urn:tandem:custody:0' id='92'/>");
	wait_parts(2);
	assert_true(fake.part[0].want_receipt && fake.part[1].want_receipt);
	outcome(0, PART_ACCEPTED, "n1");
	outcome(1, PART_ACCEPTED, "n2");
	turns(5);
	receipt("fake\nn1", RECEIPT_DELIVERED, 1);
	receipt("fake\nn2", RECEIPT_FAILED, 2);
	wait_answers(2);
	core_expect("id='n2'");
	assert_int_equal(occurrences("<received "), 0);
	assert_int_equal(occurrences("type='error'"), 1);
	assert_int_equal(state_of("91"), STORE_Q_DELIVERED);
	assert_int_equal(state_of("92"), STORE_Q_FAILED);
}

static void say_long(const char *custody, const char *id, const char *to, unsigned n)
{
	char text[460];

	memset(text, 'w', n);
	text[n] = '\0';
	say_message(custody, id, to, text);
}

/* MSG-6: only the parts that were not accepted go again. */
static void test_parts_again(void **state)
{
	struct store_queue_get g;

	UNUSED(state);
	say_long("93", "l1", "+15550133", 400);
	wait_parts(3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fake.part[i].concat.seq, i + 1);
		assert_int_equal(fake.part[i].concat.total, 3);
		assert_int_equal(fake.part[i].concat.ref, fake.part[0].concat.ref);
		assert_in_range(fake.part[i].validity_s, 71 * 3600, 72 * 3600);
	}
	outcome(0, PART_ACCEPTED, "l1");
	outcome(1, PART_TEMPORARY, "");
	outcome(2, PART_ACCEPTED, "l3");
	wait_parts(4);
	assert_int_equal(fake.part[3].concat.seq, 2);
	assert_int_equal(fake.part[3].concat.ref, fake.part[0].concat.ref);
	outcome(3, PART_ACCEPTED, "l2");
	turns(5);
	get(&g, "93");
	assert_int_equal(g.entry_r.attempts, 1);
	assert_int_equal(g.entry_r.state, STORE_Q_ACCEPTED);
	assert_false(g.entry_r.ambiguous);
	store_op_fini(&g.op);
	assert_int_equal(loose[STORE_QUEUE_PART], 0); /* MSG-4: each with its entry */
	say_long("94", "l2", "+15550133", 300);
	wait_parts(6);
	assert_int_not_equal(fake.part[4].concat.ref, fake.part[0].concat.ref);
}

/* MSG-6: the pauses double, and survive a restart. */
static void test_back_off(void **state)
{
	UNUSED(state);
	freeze();
	say_message("95", "b1", "+15550134", "later");
	wait_parts(1);
	outcome(0, PART_TEMPORARY, "");
	turns(5);
	pass(900);
	assert_int_equal(fake.n, 1);
	pass(200);
	wait_parts(2);
	outcome(1, PART_TEMPORARY, "");
	turns(5);
	pass(1900);
	assert_int_equal(fake.n, 2);
	pass(200);
	wait_parts(3);
	outcome(2, PART_TEMPORARY, "");
	turns(5);
	restart();
	assert_int_equal(fake.n, 0);
	pass(3400);
	assert_int_equal(fake.n, 0);
	pass(600);
	wait_parts(1);
	outcome(0, PART_TEMPORARY, "");
	turns(5);
	pass(7500);
	assert_int_equal(fake.n, 1);
	pass(600);
	wait_parts(2);
	/* throttled: a second, and no attempt */
	outcome(1, PART_THROTTLED, "");
	turns(5);
	pass(900);
	assert_int_equal(fake.n, 2);
	pass(200);
	wait_parts(3);
}

/* MSG-6: never longer than retry_max_seconds. */
static void test_back_off_is_bounded(void **state)
{
	UNUSED(state);
	((struct config *)(uintptr_t)cfg)->sms.retry_max_seconds = 3;
	freeze();
	say_message("96", "b2", "+15550135", "later");
	for (unsigned i = 1; i < 6; i++) {
		wait_parts(i);
		outcome(i - 1, PART_TEMPORARY, "");
		turns(5);
		pass(3100);
	}
	wait_parts(6);
}

/* MSG-7: a part that was handed over and not answered when the process died is ambiguous, for good. */
static void test_ambiguous_parts(void **state)
{
	struct store_queue_get g;

	UNUSED(state);
	say_long("97", "a1", "+15550136", 300);
	wait_parts(2);
	outcome(0, PART_ACCEPTED, "a1");
	turns(5);
	restart();
	wait_parts(1);
	assert_int_equal(fake.part[0].concat.seq, 2);
	for (unsigned round = 0; round < 2; round++) {
		get(&g, "97");
		assert_true(g.entry_r.ambiguous);
		assert_int_equal(g.nparts_r, 2);
		assert_false(g.part_r[0].ambiguous);
		assert_true(g.part_r[1].ambiguous);
		store_op_fini(&g.op);
		if (round == 0) {
			outcome(0, PART_ACCEPTED, "a2");
			turns(5);
			receipt("fake\na1", RECEIPT_DELIVERED, 1);
			receipt("fake\na2", RECEIPT_DELIVERED, 2);
			core_expect("<received xmlns='urn:xmpp:receipts' id='a1'/>");
		}
	}
}

/* MSG-7: and so when the link died. */
static void test_ambiguous_link(void **state)
{
	struct store_queue_get g;

	UNUSED(state);
	say_message("98", "a3", "+15550137", "x");
	wait_parts(1);
	outcome(0, PART_AMBIGUOUS, "");
	wait_parts(2);
	outcome(1, PART_ACCEPTED, "a3");
	turns(5);
	get(&g, "98");
	assert_true(g.entry_r.ambiguous && g.part_r[0].ambiguous);
	assert_int_equal(g.entry_r.attempts, 0);
	store_op_fini(&g.op);
	say_message("99", "a4", "+15550138", "y");
	wait_parts(3);
	outcome(2, PART_UNSENT, "");
	wait_parts(4);
	outcome(3, PART_ACCEPTED, "a4");
	turns(5);
	get(&g, "99");
	assert_false(g.entry_r.ambiguous || g.part_r[0].ambiguous);
	store_op_fini(&g.op);
}

/* MSG-1: from a server without custody a message is known by (from, origin-id); its custody ids mean nothing. */
static void test_without_custody(void **state)
{
	UNUSED(state);
	app->core_custody = false;
	say_from("alice@localhost/phone", "+15550140@sms.localhost", "chat",
		 " id='w1'><body>once</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>");
	say_from("alice@localhost/other", "+15550140@sms.localhost", "chat",
		 " id='w1'><body>once</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>");
	say_from("alice@localhost/phone", "+15550141@sms.localhost", "chat",
		 " id='w2'><body>a</body><custody xmlns='urn:tandem:custody:0' id='1'/>");
	say_from("alice@localhost/phone", "+15550142@sms.localhost", "chat",
		 " id='w3'><body>b</body><custody xmlns='urn:tandem:custody:0' id='1'/>");
	core_expect("h='4'/>");
	wait_parts(3);
	turns(20);
	assert_int_equal(fake.n, 3);
	assert_int_equal(app->counter[SMS_CNT_OUT_DUPLICATE], 1);
}

/* MSG-4: no more is SUBMITTED than the bearer has room for; a message longer than the window goes, too. */
static void test_window(void **state)
{
	UNUSED(state);
	fake.window = 2;
	for (unsigned i = 0; i < 4; i++) {
		char n[16], to[32];
		snprintf(n, sizeof(n), "10%u", i);
		snprintf(to, sizeof(to), "+1555015%04u", i);
		say_message(n, n, to, "x");
	}
	core_expect("h='4'/>");
	wait_parts(2);
	turns(10);
	assert_int_equal(state_of("101"), STORE_Q_SUBMITTED);
	assert_int_equal(state_of("102"), STORE_Q_QUEUED);
	assert_int_equal(state_of("103"), STORE_Q_QUEUED);
	outcome(0, PART_ACCEPTED, "w0");
	wait_parts(3);
	for (unsigned i = 1; i < 4; i++) {
		wait_parts(i < 2 ? 3 : 4);
		outcome(i, PART_ACCEPTED, "");
	}
	say_long("104", "104", "+15550160", 400);
	wait_parts(6);
	outcome(4, PART_ACCEPTED, "");
	outcome(5, PART_ACCEPTED, "");
	wait_parts(7);
	assert_int_equal(fake.part[6].concat.seq, 3);
}

/* DLV-3, DLR-8: intermediate states change nothing for the sender; any of the keys may be the one. */
static void test_intermediate(void **state)
{
	struct sms_receipt r = { .key = { SL("fake\nother"), SL("fake\nk1") },
				 .nkeys = 2,
				 .state = RECEIPT_DELIVERED };

	UNUSED(state);
	say_message("110", "k1", "+15550143", "x");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "k1");
	turns(5);
	receipt("fake\nk1", RECEIPT_INTERMEDIATE, 1);
	wait_answers(1);
	turns(5);
	assert_int_equal(state_of("110"), STORE_Q_ACCEPTED);
	assert_int_equal(occurrences("<message"), 0);
	fake.ops->on_receipt(fake.arg, &fake, &r, 2);
	core_expect("<received xmlns='urn:xmpp:receipts' id='k1'/>");
	core_expect("from='+15550143@sms.localhost' to='alice@localhost/phone'");
	wait_answers(2);
	assert_int_equal(loose[STORE_OUTBOX_PUT], 0); /* OUT-3 */
	assert_int_equal(app->counter[SMS_CNT_OUT_DELIVERED], 1);
}

/* MSG-4: one part failed, so the message did; it is said once. */
static void test_part_fails(void **state)
{
	UNUSED(state);
	say_long("111", "k2", "+15550144", 300);
	wait_parts(2);
	outcome(0, PART_ACCEPTED, "f1");
	outcome(1, PART_ACCEPTED, "f2");
	turns(5);
	receipt("fake\nf1", RECEIPT_FAILED, 1);
	wait_answers(1);
	core_expect("type='error'");
	core_expect("as the network says");
	receipt("fake\nf2", RECEIPT_DELIVERED, 2);
	wait_answers(2);
	turns(10);
	assert_int_equal(state_of("111"), STORE_Q_FAILED);
	assert_int_equal(occurrences("<received "), 0);
	assert_int_equal(occurrences("type='error'"), 1);
}

/* OUT-2: refused by the network in one part, the message has failed. */
static void test_permanent_part(void **state)
{
	UNUSED(state);
	say_long("112", "k3", "+15550145", 300);
	wait_parts(2);
	outcome(0, PART_ACCEPTED, "g1");
	turns(5);
	assert_int_equal(state_of("112"), STORE_Q_SUBMITTED);
	outcome(1, PART_PERMANENT, "");
	core_expect("<item-not-found ");
	turns(5);
	assert_int_equal(state_of("112"), STORE_Q_FAILED);
	assert_int_equal(app->counter[SMS_CNT_OUT_FAILED], 1);
	assert_int_equal(app->counter[SMS_CNT_OUT_EXPIRED], 0);
	assert_int_equal(loose[STORE_OUTBOX_PUT], 0);
}

/* DLV-2: a receipt for nothing is answered at once, or after 5 s when an answer of a bearer is outstanding. */
static void test_unmatched(void **state)
{
	UNUSED(state);
	freeze();
	receipt("fake\nnobody", RECEIPT_DELIVERED, 1);
	wait_answers(1);
	assert_int_equal(fake.answer[0].rc, 0);
	assert_int_equal(app->counter[SMS_CNT_RECEIPT_UNMATCHED], 1);
	say_message("113", "u1", "+15550146", "x");
	wait_parts(1);
	receipt("fake\nearly", RECEIPT_DELIVERED, 2);
	turns(5);
	pass(4900);
	assert_int_equal(fake.nanswers, 1);
	pass(200);
	wait_answers(2);
	assert_int_equal(fake.answer[1].rc, 0);
	assert_int_equal(app->counter[SMS_CNT_RECEIPT_UNMATCHED], 2);
	outcome(0, PART_ACCEPTED, "early"); /* too late for it */
	turns(10);
	assert_int_equal(occurrences("<received "), 0);
}

/* DLV-1: answered when the new state is committed, not before. */
static void test_commit_of_receipt_fails(void **state)
{
	UNUSED(state);
	say_message("114", "u2", "+15550147", "x");
	wait_parts(1);
	outcome(0, PART_ACCEPTED, "u2");
	turns(5);
	commits_to_fail = 1;
	receipt("fake\nu2", RECEIPT_DELIVERED, 1);
	turns(20);
	assert_int_equal(commits_to_fail, 0);
	assert_int_equal(fake.nanswers, 0);
	assert_int_equal(occurrences("<received "), 0);
	wait_answers(1);
	core_expect("<received ");
	turns(5);
	assert_int_equal(occurrences("<received "), 1);
}

/* MO-1, MO-3: what could not be committed is offered again by the network. */
static void test_commit_of_in_fails(void **state)
{
	struct sms_in m = incoming("whole", (struct gsm_concat){ 0 }),
		      part = incoming("part", (struct gsm_concat){ 9, 2, 1, false });

	UNUSED(state);
	commits_to_fail = 1;
	fake.ops->on_message(fake.arg, &fake, &m, 1);
	wait_answers(1);
	assert_int_equal(fake.answer[0].rc, E_AGAIN);
	commits_to_fail = 1;
	fake.ops->on_message(fake.arg, &fake, &part, 2);
	wait_answers(2);
	assert_int_equal(fake.answer[1].rc, E_AGAIN);
	turns(10);
	assert_int_equal(occurrences("<body>"), 0);
	assert_int_equal(app->counter[SMS_CNT_IN_MESSAGES], 0);
	fake.ops->on_message(fake.arg, &fake, &m, 3);
	wait_answers(3);
	assert_int_equal(fake.answer[2].rc, 0);
	core_expect("<body>whole</body>");
}

/* MO-5 */
static void test_in_time_stamp(void **state)
{
	struct sms_in m = incoming("old", (struct gsm_concat){ 0 });

	UNUSED(state);
	freeze();
	m.sent_ms = clock_wall_ms() - 61000;
	fake.ops->on_message(fake.arg, &fake, &m, 1);
	core_expect("<body>old</body><delay xmlns='urn:xmpp:delay' from='sms.localhost' stamp='20");
	m = incoming("new", (struct gsm_concat){ 0 });
	m.sent_ms = clock_wall_ms() - 59000;
	fake.ops->on_message(fake.arg, &fake, &m, 2);
	m = incoming("bare", (struct gsm_concat){ 0 });
	fake.ops->on_message(fake.arg, &fake, &m, 3);
	core_expect("<body>bare</body>");
	assert_int_equal(occurrences("<delay "), 1);
}

/* MO-3: ten minutes after the last fragment what is there is delivered, with a note in the gap; once. */
static void test_in_partial(void **state)
{
	struct sms_in a = incoming("one ", (struct gsm_concat){ 7, 3, 1, false }),
		      c = incoming(" three", (struct gsm_concat){ 7, 3, 3, false });

	UNUSED(state);
	freeze();
	fake.ops->on_message(fake.arg, &fake, &a, 1);
	wait_answers(1);
	pass(300000);
	fake.ops->on_message(fake.arg, &fake, &c, 2);
	wait_answers(2);
	for (unsigned i = 0; i < 39; i++)
		pass(15000);
	assert_int_equal(occurrences("<body>"), 0);
	for (unsigned i = 0; i < 3; i++)
		pass(15000);
	core_expect("<body>one [part 2 of 3 missing] three</body>");
	turns(5);
	assert_int_equal(app->counter[SMS_CNT_IN_PARTIAL], 1);
	assert_int_equal(loose[STORE_FRAG_JOIN], 0); /* with the message, in one transaction */
	for (unsigned i = 0; i < 50; i++)
		pass(15000);
	assert_int_equal(occurrences("<body>"), 1);
}

/* MO-3: at the start only what is complete is delivered. */
static void test_in_recover(void **state)
{
	struct sms_in a = incoming("one ", (struct gsm_concat){ 7, 2, 1, false }),
		      b = incoming("two", (struct gsm_concat){ 7, 2, 2, false });

	UNUSED(state);
	fake.ops->on_message(fake.arg, &fake, &a, 1);
	wait_answers(1);
	restart();
	turns(20);
	assert_int_equal(occurrences("<body>"), 0);
	fake.ops->on_message(fake.arg, &fake, &b, 1);
	core_expect("<body>one two</body>");
}

/* TEXT-18: parts of different senders, or with references of another width, are not of one message. */
static void test_in_same_reference(void **state)
{
	struct sms_in a = incoming("a1", (struct gsm_concat){ 7, 2, 1, false }),
		      b = incoming("b2", (struct gsm_concat){ 7, 2, 2, true }),
		      c = incoming("c2", (struct gsm_concat){ 7, 2, 2, false }),
		      d = incoming("d2", (struct gsm_concat){ 7, 3, 2, false }),
		      e = incoming("e2", (struct gsm_concat){ 8, 2, 2, false });

	UNUSED(state);
	c.from = SL("+15550198");
	fake.ops->on_message(fake.arg, &fake, &a, 1);
	fake.ops->on_message(fake.arg, &fake, &b, 2);
	fake.ops->on_message(fake.arg, &fake, &c, 3);
	fake.ops->on_message(fake.arg, &fake, &d, 4);
	fake.ops->on_message(fake.arg, &fake, &e, 5);
	wait_answers(5);
	turns(20);
	assert_int_equal(occurrences("<body>"), 0);
	c = incoming("c1", (struct gsm_concat){ 7, 2, 1, false });
	c.from = SL("+15550198");
	fake.ops->on_message(fake.arg, &fake, &c, 6);
	core_expect("<body>c1c2</body>");
	core_expect("from='+15550198@sms.localhost'");
	assert_int_equal(occurrences("<body>"), 1);
}

/* GW-1, GW-2: what the gateway and its numbers say of themselves. */
static void test_gateway(void **state)
{
	static const struct {
		const char *in, *out;
	} talk[] = {
		{ "<iq type='get' to='sms.localhost' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
		  "<identity category='gateway' type='sms' name='SMS'/>" },
		{ "<iq type='get' to='+15550100@sms.localhost' id='2'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
		  "<identity category='client' type='sms'/>" },
		{ "<iq type='get' to='sms.localhost' id='3'><query xmlns='http://jabber.org/protocol/disco#info' node='n'/></iq>",
		  "<item-not-found " },
		{ "<iq type='get' to='sms.localhost' id='4'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>",
		  "<iq type='result' from='sms.localhost' to='alice@localhost/phone' id='4'><query xmlns='http://jabber.org/protocol/disco#items'/>" },
		{ "<iq type='get' to='+15550100@sms.localhost' id='5'><ping xmlns='urn:xmpp:ping'/></iq>",
		  "<iq type='result' from='+15550100@sms.localhost' to='alice@localhost/phone' id='5'></iq>" },
		{ "<iq type='get' to='sms.localhost' id='6'><query xmlns='jabber:iq:version'/></iq>",
		  "<name>Tandem SMS</name>" },
		{ "<iq type='get' to='+15550100@sms.localhost' id='7'><query xmlns='jabber:iq:version'/></iq>",
		  "id='7'><error type='cancel'><service-unavailable " },
		{ "<iq type='set' to='sms.localhost' id='8'><ping xmlns='urn:xmpp:ping'/></iq>",
		  "id='8'><error type='cancel'><service-unavailable " },
		{ "<presence type='subscribe' to='+15550100@sms.localhost'/>",
		  "<presence type='subscribed' from='+15550100@sms.localhost' to='alice@localhost'/><presence from='+15550100@sms.localhost' to='alice@localhost'/>" },
		{ "<presence type='subscribe' to='frank@sms.localhost'/>",
		  "<presence type='unsubscribed' from='frank@sms.localhost'" },
		{ "<presence type='probe' to='+15550101@sms.localhost'/>", "<presence from='+15550101@sms.localhost'" },
		{ "<presence type='unsubscribe' to='+15550102@sms.localhost'/>",
		  "<presence type='unsubscribed' from='+15550102@sms.localhost'" },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(talk); i++) {
		char s[512];
		size_t at = strcspn(talk[i].in, " ");
		snprintf(s, sizeof(s), "%.*s from='alice@localhost/phone'%s", (int)at, talk[i].in, talk[i].in + at);
		core_say(s);
		core_expect(talk[i].out);
	}
	core_say("<iq type='result' to='sms.localhost' from='alice@localhost/phone' id='9'/>"
		 "<presence to='+15550103@sms.localhost' from='alice@localhost/phone'/>"
		 "<presence type='probe' to='frank@sms.localhost' from='alice@localhost/phone'/>");
	core_expect("h='15'/>");
	turns(10);
	assert_int_equal(occurrences("id='9'"), 0);
	assert_int_equal(occurrences("+15550103"), 0);
	assert_int_equal(occurrences("<presence from='frank"), 0);
	assert_int_equal(fake.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_out_and_receipt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_receipt_before_response, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_permanent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_temporary_is_retried, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_custody_duplicate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_routes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_order_in_conversation, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_crash_between_submit_and_answer, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_stop_waits_for_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_oldest_number, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_outbox_survives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_outbox_on_a_new_stream, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_outbox_id_is_taken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_long, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_fragment_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_fragment_in_the_sweep, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_multipart_receipts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_copies_of_a_receipt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flood_of_receipts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_old_records, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_receipt_comes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commit_of_submit_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commit_of_end_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commit_of_refusal_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cut_in_another_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_binary_parts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_queued_text_that_is_too_long_by_now, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_in_odd_senders, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_text_that_is_no_xml, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_expires, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_put_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_id_is_taken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ids_go_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_quota, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_for_a_phone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_receipt_not_asked_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_parts_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_back_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_back_off_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ambiguous_parts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ambiguous_link, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_without_custody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_window, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_intermediate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_part_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_permanent_part, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unmatched, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commit_of_receipt_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commit_of_in_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_time_stamp, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_partial, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_recover, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_in_same_reference, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_gateway, set_up, tear_down),
	};

	rnd_init();
	hash_key_init();
	log_set_level(LOG_L_ERROR);
	if (!mkdtemp(dir))
		return 1;
	int failed = cmocka_run_group_tests_name("sms_queue", tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
