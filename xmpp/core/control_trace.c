/* control_trace.c - tandemctl trace: watches in all workers for some time, lines as events. */
#include "appliance/base/clock.h"
#include "xmpp/access/trace.h"
#include "xmpp/core/program.h"

#define SECONDS_MAX 3600u
#define CHECK_MS    500u /* how soon a cancelled trace ends */

struct trace_cmd {
	struct core_ask ask; /* first */
	struct program *p;
	struct child_req *r;
	struct loop_timer timer;
	uint64_t until_ms;
	bool on;
	_Atomic uint64_t lines;
	char text[2 * JID_PART_MAX + 2];
	struct trace_table watch[]; /* one a worker */
};

static void line(void *arg, struct sl text)
{
	struct trace_cmd *t = arg;

	atomic_fetch_add_explicit(&t->lines, 1, memory_order_relaxed);
	child_event(t->r, json_pack("{s:I,s:s%}", "time_ms", (json_int_t)clock_wall_ms(), "line",
				    text.p, text.n));
}

static void on_ask(struct core_ask *a, struct worker *w)
{
	struct trace_cmd *t = container_of(a, struct trace_cmd, ask);

	if (t->on)
		trace_add(w, &t->watch[w->id]);
	else
		trace_del(w, &t->watch[w->id]);
}

static void tick(struct loop_timer *timer)
{
	struct trace_cmd *t = container_of(timer, struct trace_cmd, timer);
	struct loop *l = core_loop(t->p->core);

	if (!t->p->stopping && !child_cancelled(t->r) && loop_now_ms(l) < t->until_ms) {
		loop_timer_set(l, timer, CHECK_MS, tick);
		return;
	}
	t->on = false;
	core_ask(t->p->core, &t->ask);
}

static void asked(struct core_ask *a)
{
	struct trace_cmd *t = container_of(a, struct trace_cmd, ask);

	if (t->on) {
		tick(&t->timer);
		return;
	}
	child_answer(t->r, json_pack("{s:I}", "lines", (json_int_t)atomic_load(&t->lines)));
	free(t);
}

void control_trace(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct sl jid = SL_NULL, number = SL_NULL;
	uint64_t seconds = 60;
	const struct child_arg expected[] = {
		{ "jid", CHILD_STR, false, 2 * JID_PART_MAX, &jid },
		{ "number", CHILD_STR, false, 64, &number },
		{ "seconds", CHILD_UINT, false, SECONDS_MAX, &seconds },
	};
	struct arena *a = NULL;
	struct trace_cmd *t;
	struct jid j = JID_NULL;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	t = calloc(1, sizeof(*t) + core_workers(p->core) * sizeof(t->watch[0]));
	a = arena_new(1024, 16384);
	if (!t || !a || (jid.n != 0) == (number.n != 0) ||
	    (jid.n && jid_parse(a, jid, &j, NULL) != 0)) {
		child_fail(r, t && a ? E_SYNTAX : E_NOMEM, "one JID or one number is needed");
		arena_free(&a);
		free(t);
		return;
	}
	t->p = p;
	t->r = r;
	t->on = true;
	sl_to_cstr(jid.n ? j.bare : number, t->text, sizeof(t->text));
	arena_free(&a);
	for (uint16_t i = 0; i < core_workers(p->core); i++) {
		struct sl text = sl_cstr(t->text);

		t->watch[i] = (struct trace_table){ .line = line, .arg = t };
		*(jid.n ? &t->watch[i].bare : &t->watch[i].local) = text;
	}
	t->until_ms = loop_now_ms(core_loop(p->core)) + seconds * 1000;
	t->ask.ask = on_ask;
	t->ask.done = asked;
	core_ask(p->core, &t->ask);
}
