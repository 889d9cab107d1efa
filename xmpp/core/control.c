/* control.c - control commands of tandem-core (docs/control-protocol.md): status, counters,
 * sessions. Everything runs in worker 0's thread and goes to the other workers as a question
 * (core_ask). */
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "xmpp/access/asession.h"
#include "xmpp/core/program.h"
#include "xmpp/router/router.h"

#define SESSIONS_MAX 10000u

bool control_refused(struct program *p, struct child_req *r)
{
	if (!p->stopping)
		return false;
	child_fail(r, E_CLOSED, "tandem-core is stopping");
	return true;
}

/* ---- status ---------------------------------------------------------------------------------- */

struct status {
	struct core_ask ask; /* first */
	struct store_mail_count mail;
	struct program *p;
	struct child_req *r;
	struct access_totals sum;
	uint32_t online;
};

static void status_ask(struct core_ask *a, struct worker *w)
{
	struct status *s = container_of(a, struct status, ask);
	struct access_totals t = access_worker_totals(w);

	s->sum.streams += t.streams;
	s->sum.sessions += t.sessions;
	s->sum.components += t.components;
	s->sum.detached += t.detached;
	for (struct hnode *n = NULL; (n = htable_next(&w->users, n));)
		s->online += container_of(n, struct user, hn)->nsessions != 0;
}

static void status_counted(struct store_op *op)
{
	struct status *s = op->arg;

	child_answer(s->r,
		     json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "workers",
			       core_workers(s->p->core), "connections", (json_int_t)s->sum.streams,
			       "sessions", (json_int_t)s->sum.sessions, "components",
			       (json_int_t)s->sum.components, "detached",
			       (json_int_t)s->sum.detached, "accounts_online",
			       (json_int_t)s->online, "mail",
			       (json_int_t)(op->rc == 0 ? s->mail.n_r : 0), "uptime_s",
			       (json_int_t)((clock_mono_ms() - s->p->started_ms) / 1000)));
	store_op_fini(op);
	free(s);
}

static void status_done(struct core_ask *a)
{
	struct status *s = container_of(a, struct status, ask);

	if (control_refused(s->p, s->r)) {
		free(s);
		return;
	}
	store_op_init(&s->mail.op, STORE_MAIL_COUNT, status_counted, s);
	store_submit(core_worker(s->p->core, 0)->store, &s->mail.op);
}

static void status(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct status *s;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, NULL, 0) != 0)
		return;
	s = calloc(1, sizeof(*s));
	if (!s) {
		child_fail(r, E_NOMEM, "no memory");
		return;
	}
	s->p = p;
	s->r = r;
	s->ask.ask = status_ask;
	s->ask.done = status_done;
	core_ask(p->core, &s->ask);
}

/* ---- counters -------------------------------------------------------------------------------- */

static void set_counter(json_t *o, const char *name, uint64_t v)
{
	char key[64];

	snprintf(key, sizeof(key), "core.%s", name);
	for (char *c = key; *c; c++)
		if (*c == '_')
			*c = '.';
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void counters(void *self, struct child_req *r, json_t *args)
{
	static const char *const names[CNT_MAX] = {
#define X(id, name, help) [id] = (name),
#include "xmpp/router/counters.def"
#undef X
	};
	struct program *p = self;
	json_t *o;
	struct store_stats st;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, NULL, 0) != 0)
		return;
	o = json_object();
	for (unsigned k = 0; k < CNT_MAX; k++) {
		uint64_t sum = 0;

		for (uint16_t i = 0; i < core_workers(p->core); i++)
			sum += atomic_load_explicit(&core_worker(p->core, i)->counter[k],
						    memory_order_relaxed);
		set_counter(o, names[k], sum);
	}
	st = store_stats(core_worker(p->core, 0)->store);
	set_counter(o, "store_writes", st.writes);
	set_counter(o, "store_reads", st.reads);
	set_counter(o, "store_transactions", st.transactions);
	set_counter(o, "store_rollbacks", st.failed);
	set_counter(o, "store_commit_us_sum", st.commit_us_sum);
	set_counter(o, "store_commit_us_max", st.commit_us_max);
	set_counter(o, "store_queue", st.queue_now);
	child_answer(r, o);
}

/* ---- sessions -------------------------------------------------------------------------------- */

struct sessions {
	struct core_ask ask; /* first */
	struct program *p;
	struct child_req *r;
	json_t *list;
	uint64_t limit, total;
	char bare[2 * JID_PART_MAX + 2];
};

/* One worker at a time has the list, so it needs no lock. */
static void one_session(void *arg, const struct session *s)
{
	struct sessions *q = arg;
	struct buf b;
	json_t *o = NULL;

	if (q->bare[0] && !sl_eq(s->jid.bare, sl_cstr(q->bare)))
		return;
	q->total++;
	if (json_array_size(q->list) >= q->limit)
		return;
	buf_init(&b, 4096);
	buf_addc(&b, '{');
	s->ops->describe(s, &b);
	buf_addc(&b, '}');
	o = json_loadb(buf_sl(&b).p, b.n, 0, NULL);
	buf_free(&b);
	if (!o)
		return;
	json_object_set_new(o, "jid", json_stringn(s->jid.full.p, s->jid.full.n));
	json_object_set_new(o, "priority", json_integer(s->priority));
	json_object_set_new(o, "available", json_boolean(s->presence != NULL));
	json_object_set_new(o, "since_ms", json_integer((json_int_t)s->since_ms));
	json_array_append_new(q->list, o);
}

static void sessions_ask(struct core_ask *a, struct worker *w)
{
	access_each_session(w, one_session, container_of(a, struct sessions, ask));
}

static void sessions_done(struct core_ask *a)
{
	struct sessions *q = container_of(a, struct sessions, ask);

	child_answer(q->r,
		     json_pack("{s:o,s:I}", "sessions", q->list, "total", (json_int_t)q->total));
	free(q);
}

static void sessions(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct sl jid = SL_NULL;
	uint64_t limit = 1000;
	const struct child_arg expected[] = {
		{ "jid", CHILD_STR, false, JID_MAX, &jid },
		{ "limit", CHILD_UINT, false, SESSIONS_MAX, &limit },
	};
	struct arena *a = NULL;
	struct sessions *q;
	struct jid j = JID_NULL;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	q = calloc(1, sizeof(*q));
	a = arena_new(1024, 16384);
	if (!q || !a || (jid.n && jid_parse(a, jid, &j, NULL) != 0)) {
		child_fail(r, q && a ? E_SYNTAX : E_NOMEM, q && a ? "not a JID" : "no memory");
		free(q);
		arena_free(&a);
		return;
	}
	sl_to_cstr(j.bare, q->bare, sizeof(q->bare));
	arena_free(&a);
	q->p = p;
	q->r = r;
	q->limit = limit;
	q->list = json_array();
	q->ask.ask = sessions_ask;
	q->ask.done = sessions_done;
	core_ask(p->core, &q->ask);
}

const struct child_command core_commands[] = {
	{ "status", status },
	{ "counters", counters },
	{ "sessions", sessions },
	{ "user.add", control_user_add },
	{ "user.get", control_user_get },
	{ "user.password", control_user_password },
	{ "user.delete", control_user_delete },
	{ "user.list", control_user_list },
	{ "user.import", control_user_import },
	{ "component.list", control_component_list },
	{ "component.add", control_component_add },
	{ "component.delete", control_component_delete },
	{ "trace", control_trace },
	{ NULL, NULL },
};
