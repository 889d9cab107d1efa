/* test_fsm.c - the engine on a small turnstile, the checker on one defect after the other, the
 * printers. */
#include "appliance/fsm/fsm.h"
#include "appliance/base/log.h"
#include "appliance/fsm/fsm_index.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LOCKED, OPEN, BROKEN, GONE, NSTATES };
enum { COIN, PUSH, KICK, LATE, CLOSE, NEVENTS };

struct gate {
	struct fsm f;
	int allow;  /* what the guard says */
	int act_rc; /* what the action returns */
	char trail[200];
	uint32_t armed_ms, arms;
	uint32_t configured_ms;
	int refused_state, refused_event, done;
	int raise_n; /* PUSH: events to raise from the action */
	uint8_t raise_what;
	int then, unlock_raises; /* PUSH: one more event; COIN: an event (0: none) */
	bool misuse;
	bool *freed;
};

static void note(void *self, const char *what)
{
	struct gate *g = self;
	size_t n = strlen(g->trail);

	snprintf(g->trail + n, sizeof(g->trail) - n, "%s:%s ", what, fsm_state_name(&g->f));
}

static bool allowed(const void *self, const void *ev)
{
	UNUSED(ev);
	return ((const struct gate *)self)->allow != 0;
}

static int unlock(void *self, const void *ev)
{
	note(self, ev ? (const char *)ev : "unlock");
	if (((struct gate *)self)->unlock_raises)
		fsm_raise(&((struct gate *)self)->f, (uint8_t)((struct gate *)self)->unlock_raises);
	return ((struct gate *)self)->act_rc;
}

static int buzz(void *self, const void *ev)
{
	UNUSED(ev);
	note(self, "buzz");
	return 0;
}

static int pass(void *self, const void *ev)
{
	struct gate *g = self;

	UNUSED(ev);
	note(self, "pass");
	for (int i = 0; i < g->raise_n; i++)
		fsm_raise(&g->f, g->raise_what);
	if (g->then)
		fsm_raise(&g->f, (uint8_t)g->then);
	if (g->misuse)
		fsm_event(&g->f, COIN, NULL);
	note(self, "passed");
	return 0;
}

static void refuse(void *self, uint8_t state, uint8_t event)
{
	struct gate *g = self;

	g->refused_state = state;
	g->refused_event = event;
}

static void arm(void *self, uint32_t ms)
{
	struct gate *g = self;

	g->armed_ms = ms;
	g->arms++;
}

static uint32_t configured(const void *self, uint8_t i)
{
	UNUSED(i);
	return ((const struct gate *)self)->configured_ms;
}

static void entered(void *self, uint8_t from, uint8_t to)
{
	char s[16];

	snprintf(s, sizeof(s), "%u>%u", from, to);
	note(self, s);
}

static void done(void *self)
{
	struct gate *g = self;

	g->done++;
	if (g->freed) {
		*g->freed = true;
		free(g);
	}
}

static const struct fsm_state states[] = {
	[LOCKED] = { "LOCKED", false, FSM_NO_TIMER },
	[OPEN] = { "OPEN", false, 0 },
	[BROKEN] = { "BROKEN", false, FSM_NO_TIMER },
	[GONE] = { "GONE", true, FSM_NO_TIMER },
};
static const char *const events[] = { "COIN", "PUSH", "KICK", "LATE", "CLOSE" };
static const struct fsm_timeout timeouts[] = { { "open_ms", 5000, 100, 60000, LATE, "GATE-9" } };

static const struct fsm_row rows[] = {
	/* state    event  next     guard    act     spec      */
	{ FSM_ANY, KICK, BROKEN, NULL, buzz, "GATE-4", false },
	{ LOCKED, COIN, OPEN, allowed, unlock, "GATE-1", false },
	{ LOCKED, COIN, LOCKED, NULL, buzz, "GATE-2", false },
	{ OPEN, COIN, OPEN, NULL, NULL, "GATE-3", true },
	{ OPEN, PUSH, LOCKED, NULL, pass, "GATE-3", false },
	{ OPEN, LATE, LOCKED, NULL, NULL, "GATE-3", false },
	{ BROKEN, KICK, FSM_ANY, allowed, unlock, "GATE-5", false },
	{ FSM_ANY, CLOSE, GONE, NULL, NULL, "GATE-6", false },
};

static struct fsm_index *gate_index;
static const struct fsm_def gate_def = {
	.name = "gate",
	.states = states,
	.nstates = NSTATES,
	.events = events,
	.nevents = NEVENTS,
	.rows = rows,
	.nrows = ARRAY_LEN(rows),
	.start = LOCKED,
	.fault = BROKEN,
	.timeouts = timeouts,
	.ntimeouts = 1,
	.refuse = refuse,
	.arm = arm,
	.timeout_ms = configured,
	.entered = entered,
	.done = done,
	.index = &gate_index,
};

static struct gate gate_new(void)
{
	struct gate g = { .configured_ms = 5000, .refused_state = -1, .refused_event = -1 };
	struct err e = { 0, NULL, "" };

	if (fsm_def_prepare(&gate_def, &e) < 0)
		fail_msg("%s", e.text);
	fsm_init(&g.f, &gate_def);
	return g;
}

static void first_true_guard_wins(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	assert_int_equal(g.arms, 0);
	fsm_event(&g.f, COIN, NULL);
	assert_string_equal(g.trail, "buzz:LOCKED ");
	g.allow = 1;
	fsm_event(&g.f, COIN, "euro");
	/* entered first, then the action runs in the new state with the event's payload */
	assert_string_equal(g.trail, "buzz:LOCKED 0>1:OPEN euro:OPEN ");
	assert_int_equal(g.armed_ms, 5000);
}

static void own_rows_before_any(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	fsm_event(&g.f, KICK, NULL);
	assert_string_equal(g.trail, "0>2:BROKEN buzz:BROKEN ");
	g.trail[0] = '\0';
	g.allow = 1;
	fsm_event(&g.f, KICK, "own");
	assert_string_equal(g.trail, "own:BROKEN ");
	g.allow = 0;
	fsm_event(&g.f, KICK, "own");
	assert_string_equal(g.trail, "own:BROKEN buzz:BROKEN ");
}

static void timers(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	fsm_event(&g.f, COIN, NULL);
	assert_int_equal(g.arms, 1);
	g.configured_ms = 7000;
	fsm_event(&g.f, COIN, NULL); /* marked rearm */
	assert_int_equal(g.arms, 2);
	assert_int_equal(g.armed_ms, 7000);
	g.configured_ms = 1; /* below the table's minimum */
	fsm_event(&g.f, COIN, NULL);
	assert_int_equal(g.armed_ms, 100);
	g.configured_ms = 99999999;
	fsm_event(&g.f, COIN, NULL);
	assert_int_equal(g.armed_ms, 60000);
	fsm_event(&g.f, LATE, NULL);
	assert_int_equal(g.armed_ms, 0);
	assert_int_equal(g.arms, 5);
	fsm_event(&g.f, KICK, NULL); /* neither state has a timer: no call */
	fsm_event(&g.f, KICK, NULL); /* to itself, not marked */
	assert_int_equal(g.arms, 5);
}

static void failing_action_enters_fault(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	g.act_rc = E_NOMEM;
	fsm_event(&g.f, COIN, NULL);
	assert_string_equal(g.trail, "0>1:OPEN unlock:OPEN 1>2:BROKEN ");
	assert_int_equal(g.armed_ms, 0);
}

static void refusals(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	fsm_event(&g.f, PUSH, NULL);
	assert_int_equal(g.refused_state, LOCKED);
	assert_int_equal(g.refused_event, PUSH);
	assert_int_equal(g.f.glitches, 1);
	fsm_event(&g.f, 200, NULL); /* no such event: refused, no crash */
	assert_int_equal(g.refused_event, 200);
	assert_int_equal(g.f.glitches, 2);
	assert_string_equal(g.trail, "");
}

static void raised_events_wait(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	fsm_event(&g.f, COIN, NULL);
	g.trail[0] = '\0';
	g.raise_n = 2;
	g.raise_what = COIN;
	fsm_event(&g.f, PUSH, NULL);
	assert_string_equal(g.trail, "1>0:LOCKED pass:LOCKED passed:LOCKED 0>1:OPEN unlock:OPEN ");
	fsm_raise(&g.f, LATE); /* outside a run: at once */
	assert_int_equal(g.f.state, LOCKED);
	assert_int_equal(g.f.glitches, 0);
}

/* What is raised while a raised event is handled comes behind those that wait. */
static void raised_events_keep_their_order(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	fsm_event(&g.f, COIN, NULL);
	g.trail[0] = '\0';
	g.raise_n = 1;
	g.raise_what = COIN;
	g.then = KICK;
	g.unlock_raises = LATE;
	fsm_event(&g.f, PUSH, NULL);
	assert_string_equal(g.trail, "1>0:LOCKED pass:LOCKED passed:LOCKED 0>1:OPEN unlock:OPEN 1>2:BROKEN buzz:BROKEN ");
	assert_int_equal(g.refused_state, BROKEN);
	assert_int_equal(g.refused_event, LATE);
	assert_int_equal(g.f.glitches, 1);
}

static void raise_queue_wraps(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	for (int i = 0; i < 20; i++) { /* the ring's head is somewhere else each time */
		if (g.f.state == LOCKED)
			fsm_event(&g.f, COIN, NULL);
		g.raise_n = i % FSM_RAISE_MAX + 1;
		g.raise_what = COIN;
		fsm_event(&g.f, PUSH, NULL);
		assert_int_equal(g.f.state, OPEN);
		assert_int_equal(g.f.nraised, 0);
		g.trail[0] = '\0';
	}
	assert_int_equal(g.f.glitches, 0);
}

static void too_many_raised(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	fsm_event(&g.f, COIN, NULL);
	g.raise_n = FSM_RAISE_MAX + 1;
	g.raise_what = COIN;
	fsm_event(&g.f, PUSH, NULL);
	assert_int_equal(g.f.state, BROKEN);
	assert_int_equal(g.f.nraised, 0);
	assert_int_equal(g.f.glitches, 1); /* nor was any of them handled */
}

static void event_inside_a_run(void **state)
{
	struct gate g = gate_new();

	UNUSED(state);
	g.allow = 1;
	fsm_event(&g.f, COIN, NULL);
	g.misuse = true;
	g.trail[0] = '\0';
	fsm_event(&g.f, PUSH, NULL);
	assert_string_equal(g.trail, "1>0:LOCKED pass:LOCKED passed:LOCKED 0>2:BROKEN ");
	assert_false(g.f.running);
}

static void final_state_drains_then_done(void **state)
{
	struct gate g = gate_new();
	bool freed = false;

	UNUSED(state);
	g.allow = 1;
	fsm_event(&g.f, COIN, NULL);
	g.raise_n = 3; /* CLOSE, CLOSE, CLOSE: the last two concern nobody */
	g.raise_what = CLOSE;
	fsm_event(&g.f, PUSH, NULL);
	assert_int_equal(g.f.state, GONE);
	assert_int_equal(g.done, 1);
	assert_int_equal(g.f.glitches, 0);
	fsm_event(&g.f, KICK,
		  NULL); /* FSM_ANY does not leave a final state; nor is done called again */
	assert_int_equal(g.f.state, GONE);
	assert_int_equal(g.f.glitches, 1);
	assert_int_equal(g.done, 1);

	struct gate *heap = malloc(sizeof(*heap));
	*heap = gate_new();
	heap->freed = &freed;
	fsm_event(&heap->f, CLOSE, NULL); /* done frees it; a sanitizer sees a later access */
	assert_true(freed);
}

static void coverage(void **state)
{
	uint16_t row[ARRAY_LEN(rows)];

	UNUSED(state);
	/* The tests before this took every row. */
	assert_int_equal(fsm_rows_unhit(&gate_def, row, ARRAY_LEN(row)), 0);

	static struct fsm_index *fresh;
	struct fsm_def d = gate_def;
	struct gate g = { .configured_ms = 5000 };
	d.index = &fresh;
	assert_int_equal(fsm_def_prepare(&d, NULL), 0);
	assert_int_equal(fsm_def_prepare(&d, NULL), 0);
	assert_int_equal(fsm_rows_unhit(&d, row, 2), 8);
	fsm_init(&g.f, &d);
	fsm_event(&g.f, COIN, NULL);
	assert_int_equal(fsm_rows_unhit(&d, row, 3), 7);
	assert_int_equal(row[0], 0);
	assert_int_equal(row[1], 1);
	assert_int_equal(row[2], 3);
}

/* ---- the checker ---- */

static struct fsm_index *no_index;

static void defect(struct fsm_def d, const char *want)
{
	struct err e = { 0, NULL, "" };

	d.index = &no_index;
	assert_int_equal(fsm_def_prepare(&d, &e), E_INTERNAL);
	if (!strstr(e.text, want))
		fail_msg("wanted \"%s\" in: %s", want, e.text);
	assert_null(no_index);
}

static void defect_row(unsigned i, struct fsm_row r, const char *want)
{
	struct fsm_row changed[ARRAY_LEN(rows)];
	struct fsm_def d = gate_def;

	memcpy(changed, rows, sizeof(rows));
	changed[i] = r;
	d.rows = changed;
	defect(d, want);
}

static void defect_state(unsigned i, struct fsm_state s, const char *want)
{
	struct fsm_state changed[NSTATES];
	struct fsm_def d = gate_def;

	memcpy(changed, states, sizeof(states));
	changed[i] = s;
	d.states = changed;
	defect(d, want);
}

static void defect_timeout(struct fsm_timeout t, const char *want)
{
	struct fsm_def d = gate_def;

	d.timeouts = &t;
	defect(d, want);
}

/* A state that only failing actions lead to is reached. */
static void checker_fault(void **state)
{
	static const struct fsm_row few[] = {
		{ LOCKED, COIN, OPEN, NULL, unlock, "GATE-1", false },
		{ OPEN, PUSH, LOCKED, NULL, NULL, "GATE-3", false },
		{ OPEN, LATE, LOCKED, NULL, NULL, "GATE-3", false },
		{ FSM_ANY, CLOSE, GONE, NULL, NULL, "GATE-6", false },
	};
	static struct fsm_index *index;
	struct fsm_row none[ARRAY_LEN(few)];
	struct fsm_def d = gate_def;
	struct err e = { 0, NULL, "" };

	UNUSED(state);
	d.rows = few;
	d.nrows = ARRAY_LEN(few);
	d.index = &index;
	assert_int_equal(fsm_def_prepare(&d, &e), 0);
	fsm_index_free(&index);
	memcpy(none, few, sizeof(few));
	none[0].act = NULL;
	d.rows = none;
	defect(d, "BROKEN is never reached");
}

static void checker_shape(void **state)
{
	struct fsm_def d = gate_def;
	const char *unnamed[] = { "COIN", "PUSH", "", "LATE", "CLOSE" };

	UNUSED(state);
	d.refuse = NULL;
	defect(d, "no refuse function");
	d = gate_def;
	d.name = NULL;
	defect(d, "missing");
	d = gate_def;
	d.rows = NULL;
	defect(d, "missing");
	d = gate_def;
	d.nrows = 0;
	defect(d, "no states, events or rows");
	d = gate_def;
	d.start = NSTATES;
	defect(d, "start or fault");
	d = gate_def;
	d.fault = NSTATES;
	defect(d, "start or fault");
	d = gate_def;
	d.events = unnamed;
	defect(d, "event 2 has no name");
	d = gate_def;
	d.arm = NULL;
	defect(d, "no arm function");
	d = gate_def;
	d.ntimeouts = 0;
	defect(d, "unknown timeout");
}

static void checker_rows(void **state)
{
	UNUSED(state);
	defect_row(1, (struct fsm_row){ NSTATES, COIN, OPEN, NULL, NULL, "X", false },
		   "row 1: state or event out");
	defect_row(1, (struct fsm_row){ LOCKED, NEVENTS, OPEN, NULL, NULL, "X", false },
		   "row 1: state or event out");
	defect_row(1, (struct fsm_row){ LOCKED, COIN, NSTATES, NULL, NULL, "X", false },
		   "row 1: state or event out");
	defect_row(1, (struct fsm_row){ LOCKED, COIN, OPEN, NULL, NULL, NULL, false },
		   "row 1 has no spec");
	defect_row(1, (struct fsm_row){ LOCKED, COIN, OPEN, NULL, NULL, "", false },
		   "row 1 has no spec");
	/* without its guard row 1 hides row 2 */
	defect_row(1, (struct fsm_row){ LOCKED, COIN, OPEN, NULL, NULL, "X", false },
		   "row 2 (spec GATE-2) can never");
	defect_row(2, (struct fsm_row){ GONE, COIN, OPEN, NULL, NULL, "X", false },
		   "leaves the final state GONE");
	/* nothing goes to OPEN any more */
	defect_row(1, (struct fsm_row){ LOCKED, COIN, BROKEN, allowed, NULL, "X", false },
		   "OPEN is never reached");
}

static void checker_states(void **state)
{
	static const struct fsm_row trap[] = {
		{ LOCKED, COIN, OPEN, NULL, NULL, "X", false },
		{ OPEN, PUSH, OPEN, NULL, NULL, "X", false },
	};
	struct fsm_state two[] = { { "LOCKED", false, FSM_NO_TIMER },
				   { "OPEN", false, FSM_NO_TIMER } };
	struct fsm_def d = gate_def;

	UNUSED(state);
	d.rows = trap;
	d.nrows = 2;
	d.states = two;
	d.nstates = 2;
	d.fault = OPEN;
	defect(d, "OPEN is a dead end");
	two[1].final = true;
	static struct fsm_index *trap_index;
	d.index = &trap_index;
	assert_int_equal(fsm_def_prepare(&d, NULL), 0);
	defect_state(OPEN, (struct fsm_state){ "", false, 0 }, "state 1 has no name");
	defect_state(OPEN, (struct fsm_state){ "OPEN", false, 7 }, "unknown timeout");
	defect_state(GONE, (struct fsm_state){ "GONE", true, 0 }, "final state GONE has a timeout");
	defect_state(BROKEN, (struct fsm_state){ "BROKEN", false, 0 },
		     "no row for its timeout's event LATE");
	defect_timeout((struct fsm_timeout){ "open_ms", 50, 100, 60000, LATE, "X" },
		       "min <= default");
	defect_timeout((struct fsm_timeout){ "open_ms", 90000, 100, 60000, LATE, "X" },
		       "min <= default");
	defect_timeout((struct fsm_timeout){ "open_ms", 5, 0, 60000, LATE, "X" }, "0 < min");
	defect_timeout((struct fsm_timeout){ "open_ms", 5000, 100, 60000, NEVENTS, "X" },
		       "known event");
	defect_timeout((struct fsm_timeout){ "open_ms", 5000, 100, 60000, LATE, NULL }, "a spec");
	defect_timeout((struct fsm_timeout){ NULL, 5000, 100, 60000, LATE, "X" }, "lacks a name");
}

/* ---- the printers ---- */

static const char dot_golden[] =
	"digraph \"gate\" {\n"
	"\trankdir=LR;\n"
	"\tnode [shape=box, style=rounded];\n"
	"\tlabel=\"a failing action enters BROKEN\";\n"
	"\t\"LOCKED\" [label=\"LOCKED\", style=\"rounded,bold\"];\n"
	"\t\"OPEN\" [label=\"OPEN\\nopen_ms 5000 ms: LATE\"];\n"
	"\t\"BROKEN\" [label=\"BROKEN\"];\n"
	"\t\"GONE\" [label=\"GONE\", peripheries=2];\n"
	"\t\"any state\" [shape=plaintext];\n"
	"\t\"any state\" -> \"BROKEN\" [label=\"KICK\\nGATE-4\", style=dashed];\n"
	"\t\"LOCKED\" -> \"OPEN\" [label=\"COIN [if]\\nGATE-1\"];\n"
	"\t\"LOCKED\" -> \"LOCKED\" [label=\"COIN\\nGATE-2\"];\n"
	"\t\"OPEN\" -> \"OPEN\" [label=\"COIN (rearm)\\nGATE-3\"];\n"
	"\t\"OPEN\" -> \"LOCKED\" [label=\"PUSH\\nGATE-3\"];\n"
	"\t\"OPEN\" -> \"LOCKED\" [label=\"LATE\\nGATE-3\"];\n"
	"\t\"BROKEN\" -> \"BROKEN\" [label=\"KICK [if]\\nGATE-5\"];\n"
	"\t\"any state\" -> \"GONE\" [label=\"CLOSE\\nGATE-6\", style=dashed];\n"
	"}\n";

static const char matrix_golden[] =
	"# gate\n"
	"\n"
	"Starts in LOCKED; a failing action enters BROKEN. `-`: refused.\n"
	"\n"
	"| state | COIN | PUSH | KICK | LATE | CLOSE |\n"
	"|---|---|---|---|---|---|\n"
	"| LOCKED | if: OPEN (GATE-1)<br>stay (GATE-2) | - | BROKEN (GATE-4) | - | GONE "
	"(GATE-6) |\n"
	"| OPEN | stay (GATE-3) | LOCKED (GATE-3) | BROKEN (GATE-4) | LOCKED (GATE-3) | GONE "
	"(GATE-6) |\n"
	"| BROKEN | - | - | if: stay (GATE-5)<br>stay (GATE-4) | - | GONE (GATE-6) |\n"
	"| GONE (final) | - | - | - | - | - |\n"
	"\n"
	"| timeout | default ms | min | max | event | spec | states |\n"
	"|---|---|---|---|---|---|---|\n"
	"| open_ms | 5000 | 100 | 60000 | LATE | GATE-9 | OPEN |\n";

static void printers(void **state)
{
	struct buf b;

	UNUSED(state);
	assert_int_equal(fsm_def_prepare(&gate_def, NULL), 0);
	buf_init(&b, 10000);
	assert_int_equal(fsm_print_dot(&gate_def, &b), 0);
	buf_addc(&b, '\0');
	assert_string_equal(buf_sl(&b).p, dot_golden);
	buf_reset(&b);
	assert_int_equal(fsm_print_matrix(&gate_def, &b), 0);
	buf_addc(&b, '\0');
	assert_string_equal(buf_sl(&b).p, matrix_golden);
	buf_free(&b);
	buf_init(&b, 100);
	assert_int_equal(fsm_print_dot(&gate_def, &b), E_TOOBIG);
	assert_int_equal(fsm_print_matrix(&gate_def, &b), E_TOOBIG);
	buf_free(&b);
	struct fsm_def d = gate_def;
	d.index = &no_index;
	assert_int_equal(fsm_print_matrix(&d, &b), E_STATE);
}

static void quiet(void *arg, struct sl line)
{
	UNUSED(arg);
	UNUSED(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_true_guard_wins),
		cmocka_unit_test(own_rows_before_any),
		cmocka_unit_test(timers),
		cmocka_unit_test(failing_action_enters_fault),
		cmocka_unit_test(refusals),
		cmocka_unit_test(raised_events_wait),
		cmocka_unit_test(raised_events_keep_their_order),
		cmocka_unit_test(raise_queue_wraps),
		cmocka_unit_test(too_many_raised),
		cmocka_unit_test(event_inside_a_run),
		cmocka_unit_test(final_state_drains_then_done),
		cmocka_unit_test(coverage),
		cmocka_unit_test(checker_shape),
		cmocka_unit_test(checker_fault),
		cmocka_unit_test(checker_rows),
		cmocka_unit_test(checker_states),
		cmocka_unit_test(printers),
	};

	log_capture(quiet, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
