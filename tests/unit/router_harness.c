/* router_harness.c - see router_harness.h. A failure of the harness itself ends the program. */
#include "tests/unit/router_harness.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "appliance/store/store_engine.h"

#define SETTLE_ROUNDS 4u
#define WAIT_MS       2000

/* ---- an engine whose commits can be held or made to fail ------------------------------------- */

static struct {
	pthread_mutex_t m;
	pthread_cond_t c;
	bool hold, hold_load, hold_count;
	unsigned fail;
} gate = { .m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER };

static int gate_commit(struct store_conn *c, struct err *e)
{
	bool fail;

	pthread_mutex_lock(&gate.m);
	while (gate.hold)
		pthread_cond_wait(&gate.c, &gate.m);
	fail = gate.fail > 0;
	if (fail)
		gate.fail--;
	pthread_mutex_unlock(&gate.m);
	return fail ? err_set(e, E_IO, NULL, "made to fail") : store_engine_sqlite.commit(c, e);
}

static void gate_wait(const bool *flag)
{
	pthread_mutex_lock(&gate.m);
	while (*flag)
		pthread_cond_wait(&gate.c, &gate.m);
	pthread_mutex_unlock(&gate.m);
}

static int gate_exec(struct store_conn *c, struct store_op *op, struct err *e)
{
	int rc;

	if (op->kind == STORE_MAIL_COUNT && ((struct store_mail_count *)op)->owner.n)
		gate_wait(&gate.hold_count);
	rc = store_engine_sqlite.exec(c, op, e);
	if (op->kind == STORE_MAIL_LOAD)
		gate_wait(&gate.hold_load);
	return rc;
}

static void gate_hold_reads(bool load, bool counts)
{
	pthread_mutex_lock(&gate.m);
	gate.hold_load = load;
	gate.hold_count = counts;
	pthread_mutex_unlock(&gate.m);
}

static void gate_set(bool hold, unsigned fail)
{
	pthread_mutex_lock(&gate.m);
	gate.hold_load = gate.hold_count = false;
	gate.hold = hold;
	gate.fail = fail;
	pthread_cond_broadcast(&gate.c);
	pthread_mutex_unlock(&gate.m);
}

/* ---- sessions that record -------------------------------------------------------------------- */

struct delivered {
	struct list node;
	struct arena *a;
	struct xml_node *root;
	char *text;
};

struct held_mail {
	struct list node;
	struct mail *m;
	struct stanza *st;
};

struct place {
	struct list node;
	struct custody c;
	struct fake *f;
	bool done;
	int rc;
};

struct fake {
	struct session s;
	struct list node;
	struct rh *h;
	char name[128], jid[256];
	bool sm, component, bound, gone, stopped;
	int bound_rc;
	const char *closed;
	struct list inbox, mail, places;
	unsigned ninbox;
	uint32_t sent, count;
	char sm_id[32];
};

static void die(const char *what)
{
	fprintf(stderr, "router harness: %s\n", what);
	exit(2);
}

bool rh_inside;

static void record(struct session *s, struct stanza *st, struct sl extra, struct mail *m)
{
	struct fake *f = container_of(s, struct fake, s);
	struct delivered *d = calloc(1, sizeof(*d));
	struct buf b;
	struct err e = { 0 };

	buf_init(&b, 1u << 20);
	if (!d || stanza_wire(&b, st, NULL, NULL, extra))
		die("deliver");
	d->text = sl_dup(buf_sl(&b));
	d->a = arena_new(4096, 16u << 20);
	if (xml_parse_one(d->a, sl_cstr(d->text), &d->root, &e)) {
		fprintf(stderr, "%s\n%s\n", d->text, e.text);
		die("what was delivered is not well-formed");
	}
	buf_free(&b);
	list_append(&f->inbox, &d->node);
	f->ninbox++;
	if (m) {
		struct held_mail *hm = calloc(1, sizeof(*hm));

		mail_hold(m);
		hm->m = m;
		hm->st = stanza_ref(st);
		list_append(&f->mail, &hm->node);
	}
}

static void fake_deliver(struct session *s, struct stanza *st, struct sl extra, struct mail *m)
{
	bool inside = rh_inside;

	rh_inside = false;
	record(s, st, extra, m);
	rh_inside = inside;
}

static void fake_close(struct session *s, const char *stream_error, struct sl text)
{
	(void)text;
	container_of(s, struct fake, s)->closed = stream_error ? stream_error : "";
}

static void fake_flow(struct session *s, bool stop)
{
	container_of(s, struct fake, s)->stopped = stop;
}

static const struct session_ops fake_ops = { .deliver = fake_deliver, .close = fake_close, .flow = fake_flow };

static void delivered_free(struct fake *f, struct delivered *d)
{
	list_remove(&d->node);
	f->ninbox--;
	arena_free(&d->a);
	free(d->text);
	free(d);
}

static void inbox_clear(struct fake *f)
{
	LIST_FOREACH (n, next, &f->inbox)
		delivered_free(f, LIST_ENTRY(n, struct delivered, node));
}

static struct fake *fake_find(struct rh *h, struct sl name)
{
	LIST_FOREACH (n, next, &h->fakes)
		if (sl_eq(sl_cstr(LIST_ENTRY(n, struct fake, node)->name), name))
			return LIST_ENTRY(n, struct fake, node);
	return NULL;
}

static struct fake *fake_get(struct rh *h, struct sl name)
{
	struct fake *f = fake_find(h, name);

	if (!f)
		fail_msg("%s: no session is called " SLFMT, h->where, SLARG(name));
	return f;
}

/* ---- turns ----------------------------------------------------------------------------------- */

void rh_turn(struct rh *h, int wait_ms)
{
	for (unsigned i = 0; i < h->nworkers; i++) {
		bus_enter(h->bus, (uint16_t)i);
		rh_inside = true;
		loop_turn(h->loop[i], i == 0 ? wait_ms : 0);
		rh_inside = false;
	}
	bus_enter(h->bus, 0);
}

static void do_done(struct store_op *op)
{
	*(bool *)op->arg = true;
}

static int rh_do(struct rh *h, struct store_op *op)
{
	bool done = false;

	store_op_init(op, (enum store_kind)op->kind, do_done, &done);
	bus_enter(h->bus, 0);
	store_submit(h->store, op);
	while (!done)
		rh_turn(h, 1);
	return op->rc;
}

/* Writes and reads are answered in order: what was submitted before has been answered when these are. */
void rh_settle(struct rh *h)
{
	for (unsigned i = 0; i < SETTLE_ROUNDS; i++) {
		struct store_mail_count cnt = { .op.kind = STORE_MAIL_COUNT };

		if (!gate.hold) {
			struct store_mail_del del = { .op.kind = STORE_MAIL_DEL };

			rh_do(h, &del.op);
			store_op_fini(&del.op);
		}
		rh_do(h, &cnt.op);
		store_op_fini(&cnt.op);
		for (unsigned t = 0; t < 3; t++)
			rh_turn(h, 0);
	}
}

uint64_t rh_rows(struct rh *h, const char *owner)
{
	struct store_mail_load l = { .op.kind = STORE_MAIL_LOAD };
	bool done = false;
	uint64_t n;

	store_op_init(&l.op, STORE_MAIL_LOAD, do_done, &done);
	l.owner = sl_cstr(owner);
	l.limit = 10000;
	store_submit(h->store, &l.op);
	while (!done)
		rh_turn(h, 1);
	n = l.n_r;
	store_op_fini(&l.op);
	return n;
}

void rh_sm_begin(struct rh *h, const char *name, char id[32])
{
	struct fake *f = fake_get(h, sl_cstr(name));
	struct store_sm_put p;
	bool done = false;

	store_op_init(&p.op, STORE_SM_PUT, do_done, &done);
	p.sm_id = sl_cstr(f->sm_id);
	p.owner = f->s.jid.bare;
	p.resource = f->s.jid.resource;
	p.h = 0;
	p.now_ms = 1;
	snprintf(id, 32, "%s", f->sm_id);
	store_submit(h->store, &p.op);
	while (!done)
		rh_turn(h, 1);
	store_op_fini(&p.op);
}

void rh_sm_get(struct rh *h, const char *id, struct store_sm_get *g)
{
	bool done = false;

	memset(g, 0, sizeof(*g));
	store_op_init(&g->op, STORE_SM_GET, do_done, &done);
	g->sm_id = sl_cstr(id);
	store_submit(h->store, &g->op);
	while (!done)
		rh_turn(h, 1);
}

void rh_write(struct rh *h, struct store_op *op)
{
	if (rh_do(h, op))
		die("a write of the test's own");
	store_op_fini(op);
}

void rh_put(struct rh *h, struct store_roster_put *p)
{
	struct store_roster_put q;
	bool done = false;

	store_op_init(&q.op, STORE_ROSTER_PUT, do_done, &done);
	q.owner = p->owner;
	q.item = p->item;
	store_submit(h->store, &q.op);
	while (!done)
		rh_turn(h, 1);
	store_op_fini(&q.op);
}

void rh_roster(struct rh *h, const char *owner, struct store_roster_load *l)
{
	bool done = false;

	rh_settle(h);
	memset(l, 0, sizeof(*l));
	store_op_init(&l->op, STORE_ROSTER_LOAD, do_done, &done);
	l->owner = sl_cstr(owner);
	store_submit(h->store, &l->op);
	while (!done)
		rh_turn(h, 1);
}

void rh_expire(struct rh *h, unsigned ms)
{
	usleep(ms * 1000);
	bus_enter(h->bus, 0);
	expire_now(h->w[0].router);
	rh_settle(h);
}

uint64_t rh_counter(const struct rh *h, enum core_counter c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < h->nworkers; i++)
		n += atomic_load(&h->w[i].counter[c]);
	return n;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void ready(struct worker *w, int rc)
{
	struct rh *h = container_of(w, struct rh, w[w->id]);

	if (rc)
		die("the worker is not ready");
	h->ready++;
}

static void add_domain(struct rh *h, const char *name, enum domain_kind kind, bool custody)
{
	struct domain d = { .name = sl_cstr(name), .kind = kind, .custody = custody };

	if (core_config_add_domain(h->cfg, &d))
		die("domain");
}

static void start(struct rh *h)
{
	static struct store_engine engine;
	struct store_cfg cfg = { .engine = "sqlite", .path = h->path, .schema = STORE_CORE, .readers = h->readers };
	struct err e = { 0 };

	engine = store_engine_sqlite;
	engine.commit = gate_commit;
	engine.exec = gate_exec;
	if (bus_new((uint16_t)h->nworkers, &h->bus, &e))
		die(e.text);
	router_bus_init(h->bus);
	if (store_new_engine(&engine, &cfg, h->bus, &h->store, &e))
		die(e.text);
	h->ready = 0;
	for (unsigned i = 0; i < h->nworkers; i++) {
		struct worker *w = &h->w[i];

		memset(w, 0, sizeof(*w));
		w->id = (uint16_t)i;
		w->bus = h->bus;
		w->store = h->store;
		w->services = &service_table;
		w->cfg = h->cfg;
		list_init(&w->conns);
		if (loop_new(LOOP_BACKEND_DEFAULT, &h->loop[i], &e) ||
		    bus_attach(h->bus, (uint16_t)i, h->loop[i], w, &e))
			die(e.text);
		w->loop = h->loop[i];
		bus_enter(h->bus, (uint16_t)i);
		if (router_open(w, ready, &e))
			die(e.text);
	}
	while (h->ready < h->nworkers)
		rh_turn(h, 1);
}

struct rh *rh_new(unsigned workers)
{
	struct rh *h = calloc(1, sizeof(*h));
	const char *tmp = getenv("TMPDIR");
	struct err e = { 0 };

	if (!h)
		die("memory");
	if (fsm_def_prepare(&user_fsm, &e))
		die(e.text);
	h->nworkers = workers;
	h->readers = 1;
	list_init(&h->fakes);
	snprintf(h->dir, sizeof(h->dir), "%s/tandem-router-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(h->dir) || core_config_new(&h->cfg))
		die("folder");
	snprintf(h->path, sizeof(h->path), "%s/core.db", h->dir);
	add_domain(h, "localhost", DOMAIN_HOST, false);
	add_domain(h, "gw.localhost", DOMAIN_COMPONENT, true);
	add_domain(h, "irc.localhost", DOMAIN_COMPONENT, false);
	gate_set(false, 0);
	start(h);
	return h;
}

static void fake_free(struct fake *f)
{
	list_remove(&f->node);
	inbox_clear(f);
	LIST_FOREACH (n, next, &f->mail) {
		struct held_mail *hm = LIST_ENTRY(n, struct held_mail, node);

		stanza_unref(&hm->st);
		free(hm);
	}
	LIST_FOREACH (n, next, &f->places)
		free(LIST_ENTRY(n, struct place, node));
	free(f);
}

static void stop(struct rh *h)
{
	gate_set(false, 0);
	store_close(h->store);
	for (unsigned t = 0; t < 5; t++)
		rh_turn(h, 0);
	for (unsigned i = 0; i < h->nworkers; i++) {
		bus_enter(h->bus, (uint16_t)i);
		router_close(&h->w[i]);
	}
	for (unsigned i = 0; i < h->nworkers; i++) {
		bus_enter(h->bus, (uint16_t)i);
		bus_detach(h->bus, (uint16_t)i);
	}
	store_free(&h->store);
	bus_free(&h->bus);
	for (unsigned i = 0; i < h->nworkers; i++)
		loop_free(&h->loop[i]);
	LIST_FOREACH (n, next, &h->fakes) {
		struct fake *f = LIST_ENTRY(n, struct fake, node);

		stanza_unref(&f->s.presence);
		LIST_FOREACH (d, dnext, &f->s.directed)
			free(d);
		fake_free(f);
	}
}

void rh_restart(struct rh *h)
{
	stop(h);
	start(h);
}

void rh_free(struct rh **hp)
{
	struct rh *h = *hp;
	DIR *d;
	struct dirent *de;
	char name[512];

	*hp = NULL;
	stop(h);
	core_config_unref(h->cfg);
	d = opendir(h->dir);
	while (d && (de = readdir(d))) {
		snprintf(name, sizeof(name), "%s/%s", h->dir, de->d_name);
		if (de->d_name[0] != '.')
			unlink(name);
	}
	if (d)
		closedir(d);
	rmdir(h->dir);
	free(h);
}

void rh_account(struct rh *h, const char *jid)
{
	struct jid j = jid_split(sl_cstr(jid));
	struct store_account_put p = { .op.kind = STORE_ACCOUNT_PUT };
	bool done = false;

	store_op_init(&p.op, STORE_ACCOUNT_PUT, do_done, &done);
	p.host = j.domain;
	p.user = j.local;
	p.verifier[0] = SL("SCRAM-SHA-1$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
	store_submit(h->store, &p.op);
	while (!done)
		rh_turn(h, 1);
	if (p.op.rc)
		die("account");
	store_op_fini(&p.op);
}

/* ---- the actions ----------------------------------------------------------------------------- */

static struct worker *worker_of(struct rh *h, struct sl key)
{
	return &h->w[bus_owner(h->bus, key)];
}

static void enter(struct fake *f)
{
	bus_enter(f->h->bus, f->s.w->id);
}

static struct fake *fake_new(struct rh *h, struct sl name, const char *jid, bool sm)
{
	static uint64_t epoch;
	struct fake *f = calloc(1, sizeof(*f));

	if (!f || fake_find(h, name))
		die("a session of that name exists");
	f->h = h;
	sl_to_cstr(name, f->name, sizeof(f->name));
	sl_to_cstr(sl_cstr(jid), f->jid, sizeof(f->jid));
	f->sm = sm;
	list_init(&f->inbox);
	list_init(&f->mail);
	list_init(&f->places);
	list_append(&h->fakes, &f->node);
	f->s.ops = &fake_ops;
	f->s.jid = jid_split(sl_cstr(f->jid));
	f->s.w = worker_of(h, f->s.jid.bare);
	f->s.epoch = ++epoch;
	snprintf(f->sm_id, sizeof(f->sm_id), "sm-%llu", (unsigned long long)epoch);
	session_init(&f->s);
	return f;
}

static void on_bound(struct session *s, int rc)
{
	struct fake *f = container_of(s, struct fake, s);

	f->bound = true;
	f->bound_rc = rc;
}

static void login_as(struct rh *h, struct sl name, const char *jid, bool sm)
{
	struct fake *f = fake_new(h, name, jid, sm);

	enter(f);
	rh_inside = true;
	session_bind(&f->s, on_bound);
	rh_inside = false;
	for (int i = 0; i < WAIT_MS && !f->bound; i++)
		rh_turn(h, 1);
	if (!f->bound)
		fail_msg("%s: no answer to the bind", h->where);
	if (f->bound_rc)
		f->s.user = NULL;
}

static void login(struct rh *h, struct sl name, bool sm)
{
	size_t slash = sl_find(name, '/', 0);
	char jid[256];

	snprintf(jid, sizeof(jid), SLFMT "@localhost" SLFMT, SLARG(sl_sub(name, 0, slash)),
		 SLARG(sl_sub(name, slash, name.n)));
	login_as(h, name, jid, sm);
}

void rh_login_as(struct rh *h, const char *name, const char *jid)
{
	login_as(h, sl_cstr(name), jid, false);
}

static unsigned number(struct rh *h, struct sl text);

static void attach(struct rh *h, struct sl name, bool sm)
{
	size_t plus = sl_find(name, '+', 0);
	char jid[256];
	struct fake *f;

	sl_to_cstr(sl_sub(name, 0, sl_find(name, '#', 0)), jid, sizeof(jid)); /* gw.localhost#2: a second stream */
	f = fake_new(h, name, jid, sm);
	f->component = true;
	if (plus < name.n) /* gw.localhost#+1: in the worker after its home */
		f->s.w = &h->w[(f->s.w->id + number(h, sl_sub(name, plus + 1, name.n))) % h->nworkers];
	enter(f);
	rh_inside = true;
	component_attach(&f->s);
	rh_inside = false;
}

static void place_done(struct custody *c, int rc)
{
	struct place *p = container_of(c, struct place, c);
	struct fake *f = p->f;

	assert_false(p->done);
	p->done = true;
	p->rc = rc;
	LIST_FOREACH (n, next, &f->places) {
		struct place *q = LIST_ENTRY(n, struct place, node);

		if (!q->done || q->rc)
			break;
		f->count = q->c.h;
		list_remove(&q->node);
		free(q);
	}
	if (rc)
		f->closed = "internal-server-error";
}

static struct custody *place_for(struct fake *f, const struct stanza *st)
{
	bool promises = f->component ? st->kind == STANZA_MESSAGE : stanza_promises(st);
	struct place *p;

	if (!f->sm)
		return NULL;
	p = calloc(1, sizeof(*p));
	p->f = f;
	p->c = (struct custody){ .sm_id = sl_cstr(f->sm_id), .h = ++f->sent, .done = place_done };
	list_append(&f->places, &p->node);
	if (!promises)
		place_done(&p->c, 0);
	return promises ? &p->c : NULL;
}

void rh_forgiving(struct rh *h, bool on)
{
	h->forgiving = on;
}

static void send_xml(struct fake *f, struct sl xml)
{
	if (f->h->forgiving && !f->component && !f->s.user)
		return;
	struct arena *a = arena_new(2048, 16u << 20);
	struct xml_node *n;
	struct stanza *st = NULL;
	struct err e = { 0 };
	bool bad = false;

	if (xml_parse_one(a, arena_dup(a, xml), &n, &e) || stanza_take(a, n, &st, &bad, &e) || bad)
		fail_msg("%s: cannot send: %s", f->h->where, e.text);
	enter(f);
	struct custody *c = place_for(f, st);
	rh_inside = true;
	router_inbound(&f->s, st, c);
	rh_inside = false;
	rh_turn(f->h, 0);
}

static void ack(struct fake *f, unsigned n)
{
	enter(f);
	while (n-- && !list_empty(&f->mail)) {
		struct held_mail *hm = LIST_ENTRY(list_pop(&f->mail), struct held_mail, node);

		rh_inside = true;
		mail_acked(f->s.w, hm->m);
		rh_inside = false;
		stanza_unref(&hm->st);
		free(hm);
	}
	rh_turn(f->h, 0);
}

static void end(struct fake *f)
{
	struct list *n;

	enter(f);
	while ((n = list_pop(&f->mail))) {
		struct held_mail *hm = LIST_ENTRY(n, struct held_mail, node);

		rh_inside = true;
		session_undelivered(&f->s, hm->st, hm->m);
		rh_inside = false;
		stanza_unref(&hm->st);
		free(hm);
	}
	rh_inside = true;
	if (f->component)
		component_detach(&f->s);
	else if (f->s.user)
		session_ended(&f->s);
	rh_inside = false;
	rh_settle(f->h); /* its places are told */
	fake_free(f);
}

/* ---- matching -------------------------------------------------------------------------------- */

static bool matches(struct arena *a, const struct xml_node *want, const struct xml_node *got);

static bool value_matches(struct sl want, struct sl got)
{
	return sl_eq(want, SL("*")) ? got.n > 0 : sl_eq(want, got);
}

static bool attrs_match(const struct xml_node *want, const struct xml_node *got)
{
	for (const struct xml_attr *t = want->attrs; t; t = t->next)
		if (t->ns == NS_NONE && !sl_eq(t->name, SL("xmlns")) &&
		    !value_matches(t->value, xml_attr(got, t->name)))
			return false;
	/* a stanza's type that is not asked for must not be there */
	return xml_attr(want, SL("type")).n || !xml_attr(got, SL("type")).n || want->parent;
}

static bool children_match(struct arena *a, const struct xml_node *want, const struct xml_node *got)
{
	struct xml_node *from = got->first;

	for (struct xml_node *w = xml_first_element(want); w; w = xml_next_element(w)) {
		while (from && !(from->name.n && matches(a, w, from)))
			from = from->next;
		if (!from)
			return false;
		from = from->next;
	}
	return true;
}

static bool matches(struct arena *a, const struct xml_node *want, const struct xml_node *got)
{
	struct sl text = sl_trim(xml_text(a, want));

	return want->ns == got->ns && sl_eq(want->ns_uri, got->ns_uri) && sl_eq(want->name, got->name) &&
	       attrs_match(want, got) && (!text.n || value_matches(text, sl_trim(xml_text(a, got)))) &&
	       children_match(a, want, got);
}

static struct delivered *look(struct fake *f, struct sl xml, bool first_only)
{
	struct arena *a = arena_new(2048, 16u << 20);
	struct delivered *found = NULL;
	struct xml_node *want;
	struct err e = { 0 };

	if (xml_parse_one(a, xml, &want, &e))
		fail_msg("%s: the expectation is not well-formed: %s", f->h->where, e.text);
	LIST_FOREACH (n, next, &f->inbox) {
		struct delivered *d = LIST_ENTRY(n, struct delivered, node);

		if (matches(a, want, d->root)) {
			found = d;
			break;
		}
		if (first_only)
			break;
	}
	arena_free(&a);
	return found;
}

static void show_inbox(const struct fake *f)
{
	fprintf(stderr, "inbox of %s:\n", f->name);
	LIST_FOREACH (n, next, &f->inbox)
		fprintf(stderr, "  %s\n", LIST_ENTRY(n, struct delivered, node)->text);
}

static void expect(struct fake *f, struct sl xml, bool first_only)
{
	struct delivered *d = NULL;

	for (int i = 0; i < 50 && !(d = look(f, xml, first_only)); i++) {
		if (first_only && !list_empty(&f->inbox))
			break;
		rh_settle(f->h);
	}
	if (!d) {
		show_inbox(f);
		fail_msg("%s: %s did not get " SLFMT, f->h->where, f->name, SLARG(xml));
	}
	delivered_free(f, d);
}

static void expect_not(struct fake *f, struct sl xml)
{
	rh_settle(f->h);
	if (!look(f, xml, false))
		return;
	show_inbox(f);
	fail_msg("%s: %s got " SLFMT, f->h->where, f->name, SLARG(xml));
}

static void expect_nothing(struct fake *f)
{
	rh_settle(f->h);
	if (list_empty(&f->inbox))
		return;
	show_inbox(f);
	fail_msg("%s: %s got more than was expected", f->h->where, f->name);
}

/* ---- the script ------------------------------------------------------------------------------ */

static struct sl word(struct sl *line)
{
	struct sl s = sl_trim(*line);
	size_t end = sl_find(s, ' ', 0);

	*line = sl_trim(sl_sub(s, end, s.n));
	return sl_sub(s, 0, end);
}

static unsigned number(struct rh *h, struct sl s)
{
	uint64_t v;

	if (sl_to_u64(s, 1000000, &v))
		fail_msg("%s: a number is missing", h->where);
	return (unsigned)v;
}

static void expect_h(struct rh *h, struct sl line)
{
	struct fake *f = fake_get(h, word(&line));
	unsigned want = number(h, line);

	rh_settle(h);
	if (f->count != want)
		fail_msg("%s: h of %s is %u, not %u", h->where, f->name, f->count, want);
}

static void expect_rows(struct rh *h, struct sl line)
{
	struct sl owner = word(&line);
	unsigned want = number(h, line);
	char name[256];
	uint64_t got;

	rh_settle(h);
	sl_to_cstr(owner, name, sizeof(name));
	got = rh_rows(h, name);
	if (got != want)
		fail_msg("%s: %s has %u rows, not %u", h->where, name, (unsigned)got, want);
}

static void act_on(struct rh *h, struct sl name, struct sl line)
{
	struct fake *f = fake_get(h, name);
	struct sl op = word(&line);

	if (sl_eq(op, SL(">")))
		send_xml(f, line);
	else if (sl_eq(op, SL("<")))
		expect(f, line, true);
	else if (sl_eq(op, SL("~")))
		expect(f, line, false);
	else if (sl_eq(op, SL("!")))
		expect_not(f, line);
	else if (sl_eq(op, SL("-")))
		expect_nothing(f);
	else
		fail_msg("%s: what is " SLFMT "?", h->where, SLARG(op));
}

static bool act_store(struct rh *h, struct sl verb, struct sl line)
{
	if (sl_eq(verb, SL("hold")) && line.n)
		gate_hold_reads(sl_eq(line, SL("load")), sl_eq(line, SL("count")));
	else if (sl_eq(verb, SL("hold")))
		gate_set(true, 0);
	else if (sl_eq(verb, SL("release")) || sl_eq(verb, SL("heal")))
		gate_set(false, 0);
	else if (sl_eq(verb, SL("fail")))
		gate_set(false, number(h, line));
	else if (sl_eq(verb, SL("rows")))
		expect_rows(h, line);
	else if (sl_eq(verb, SL("settle")))
		rh_settle(h);
	else
		return false;
	return true;
}

static void act(struct rh *h, struct sl line)
{
	struct sl verb = word(&line);
	struct sl rest = line;

	if (!verb.n || verb.p[0] == '#' || act_store(h, verb, line))
		return;
	if (sl_eq(verb, SL("login"))) {
		struct sl name = word(&rest);

		login(h, name, sl_eq(rest, SL("sm")));
	} else if (sl_eq(verb, SL("attach"))) {
		struct sl name = word(&rest);

		attach(h, name, sl_eq(rest, SL("sm")));
	} else if (sl_eq(verb, SL("clear"))) {
		rh_settle(h);
		inbox_clear(fake_get(h, rest));
	} else if (sl_eq(verb, SL("ack"))) {
		struct sl name = word(&rest);

		rh_settle(h);
		ack(fake_get(h, name), rest.n ? number(h, rest) : UINT32_MAX);
	} else if (sl_eq(verb, SL("end")) || sl_eq(verb, SL("detach"))) {
		end(fake_get(h, rest));
	} else if (sl_eq(verb, SL("h"))) {
		expect_h(h, rest);
	} else {
		act_on(h, verb, rest);
	}
}

void rh_run_at(struct rh *h, const char *file, int line, const char *script)
{
	struct sl rest = sl_cstr(script);
	int n = 0;

	while (rest.n) {
		size_t end = sl_find(rest, '\n', 0);

		snprintf(h->where, sizeof(h->where), "%s:%d, line %d of the script", file, line, ++n);
		act(h, sl_trim(sl_sub(rest, 0, end)));
		rest = sl_sub(rest, end + 1, rest.n);
	}
}

void rh_accounts(struct rh *h, const char *const *jids)
{
	for (; *jids; jids++)
		rh_account(h, *jids);
}

struct session *rh_session(struct rh *h, const char *name)
{
	return &fake_get(h, sl_cstr(name))->s;
}

bool rh_read(struct rh *h, const char *name, unsigned at, char id[32])
{
	struct fake *f = fake_get(h, sl_cstr(name));

	LIST_FOREACH (n, next, &f->inbox)
		if (at-- == 0) {
			sl_to_cstr(xml_attr(LIST_ENTRY(n, struct delivered, node)->root, SL("id")), id, 32);
			return true;
		}
	return false;
}

void rh_forget(struct rh *h, const char *name, unsigned count)
{
	struct fake *f = fake_get(h, sl_cstr(name));

	while (count-- && !list_empty(&f->inbox))
		delivered_free(f, LIST_ENTRY(f->inbox.next, struct delivered, node));
}

unsigned rh_inbox(struct rh *h, const char *name)
{
	rh_settle(h);
	return fake_get(h, sl_cstr(name))->ninbox;
}

const char *rh_closed(struct rh *h, const char *name)
{
	return fake_get(h, sl_cstr(name))->closed;
}

bool rh_stopped(struct rh *h, const char *name)
{
	return fake_get(h, sl_cstr(name))->stopped;
}

int rh_bound_rc(struct rh *h, const char *name)
{
	return fake_get(h, sl_cstr(name))->bound_rc;
}
