/* fsm.c - the row-table engine and its checker. See fsm.h; the printers are in fsm_print.c.
 *
 * fsm_def_prepare turns the rows into one list a (state, event) cell: the rows of that very state
 * first, then the FSM_ANY rows, cut after the first row without a guard. A row that is in no cell
 * can never be taken, which the checker reports. Final states take no FSM_ANY rows: nothing leaves
 * them. */
#include "appliance/fsm/fsm.h"
#include "appliance/base/log.h"
#include "appliance/fsm/fsm_index.h"

#include <stdatomic.h>

uint8_t fsm_row_next(const struct fsm_row *r, uint8_t state)
{
	return r->next == FSM_ANY ? state : r->next;
}

/* ---- the checker ---- */

static bool has_text(const char *s)
{
	return s && *s;
}

static int check_shape(const struct fsm_def *d, struct err *e)
{
	if (!has_text(d->name) || !d->states || !d->events || !d->rows || !d->index)
		return err_set(e, E_INTERNAL, "FSM",
			       "machine %s: name, states, events, rows or index missing",
			       d->name ? d->name : "?");
	if (!d->refuse)
		return err_set(e, E_INTERNAL, "FSM", "machine %s: no refuse function", d->name);
	if (d->nstates == 0 || d->nstates >= FSM_ANY || d->nevents == 0 || d->nrows == 0)
		return err_set(e, E_INTERNAL, "FSM", "machine %s: no states, events or rows",
			       d->name);
	if (d->start >= d->nstates || d->fault >= d->nstates)
		return err_set(e, E_INTERNAL, "FSM",
			       "machine %s: start or fault state out of range", d->name);
	for (uint8_t i = 0; i < d->nevents; i++)
		if (!has_text(d->events[i]))
			return err_set(e, E_INTERNAL, "FSM", "machine %s: event %u has no name",
				       d->name, i);
	return 0;
}

static int check_timeouts(const struct fsm_def *d, struct err *e)
{
	for (uint8_t i = 0; i < d->ntimeouts; i++) {
		const struct fsm_timeout *t = &d->timeouts[i];
		if (!has_text(t->name) || !has_text(t->spec) || t->event >= d->nevents)
			return err_set(
				e, E_INTERNAL, "FSM",
				"machine %s: timeout %u lacks a name, a spec or a known event",
				d->name, i);
		if (t->min_ms == 0 || t->min_ms > t->def_ms || t->def_ms > t->max_ms)
			return err_set(e, E_INTERNAL, "FSM",
				       "machine %s: timeout %s: not 0 < min <= default <= max",
				       d->name, t->name);
	}
	return 0;
}

static bool row_matches(const struct fsm_def *d, const struct fsm_row *r, uint8_t state)
{
	return r->state == state || (r->state == FSM_ANY && !d->states[state].final);
}

static bool state_takes(const struct fsm_def *d, uint8_t state, uint8_t event)
{
	for (uint16_t i = 0; i < d->nrows; i++)
		if (d->rows[i].event == event && row_matches(d, &d->rows[i], state))
			return true;
	return false;
}

static int check_state(const struct fsm_def *d, uint8_t s, struct err *e)
{
	const struct fsm_state *st = &d->states[s];

	if (!has_text(st->name))
		return err_set(e, E_INTERNAL, "FSM", "machine %s: state %u has no name", d->name,
			       s);
	if (st->timeout == FSM_NO_TIMER)
		return 0;
	if (st->final)
		return err_set(e, E_INTERNAL, "FSM", "machine %s: final state %s has a timeout",
			       d->name, st->name);
	if (st->timeout >= d->ntimeouts || !d->arm)
		return err_set(e, E_INTERNAL, "FSM",
			       "machine %s: state %s: unknown timeout, or no arm function", d->name,
			       st->name);
	if (!state_takes(d, s, d->timeouts[st->timeout].event))
		return err_set(e, E_INTERNAL, "FSM",
			       "machine %s: state %s has no row for its timeout's event %s",
			       d->name, st->name, d->events[d->timeouts[st->timeout].event]);
	return 0;
}

static int check_row(const struct fsm_def *d, uint16_t i, struct err *e)
{
	const struct fsm_row *r = &d->rows[i];

	if ((r->state != FSM_ANY && r->state >= d->nstates) || r->event >= d->nevents ||
	    (r->next != FSM_ANY && r->next >= d->nstates))
		return err_set(e, E_INTERNAL, "FSM",
			       "machine %s: row %u: state or event out of range", d->name, i);
	if (!has_text(r->spec))
		return err_set(e, E_INTERNAL, "FSM", "machine %s: row %u has no spec", d->name, i);
	if (r->state != FSM_ANY && d->states[r->state].final &&
	    !d->states[fsm_row_next(r, r->state)].final)
		return err_set(e, E_INTERNAL, "FSM", "machine %s: row %u leaves the final state %s",
			       d->name, i, d->states[r->state].name);
	return 0;
}

/* Mark what a row out of a reached state enters. True if something new was reached. */
static bool spread(const struct fsm_def *d, const struct fsm_row *r, bool *reached)
{
	bool more = false;

	for (uint8_t s = 0; s < d->nstates; s++) {
		if (!reached[s] || !row_matches(d, r, s))
			continue;
		uint8_t to = fsm_row_next(r, s);
		more = more || !reached[to] || (r->act && !reached[d->fault]);
		reached[to] = true;
		if (r->act)
			reached[d->fault] = true;
	}
	return more;
}

static int check_reach(const struct fsm_def *d, struct err *e)
{
	bool reached[FSM_ANY] = { false };
	bool more = true;

	reached[d->start] = true;
	while (more) {
		more = false;
		for (uint16_t i = 0; i < d->nrows; i++)
			more = spread(d, &d->rows[i], reached) || more;
	}
	for (uint8_t s = 0; s < d->nstates; s++)
		if (!reached[s])
			return err_set(e, E_INTERNAL, "FSM",
				       "machine %s: state %s is never reached", d->name,
				       d->states[s].name);
	return 0;
}

static int check_exits(const struct fsm_def *d, struct err *e)
{
	for (uint8_t s = 0; s < d->nstates; s++) {
		bool exit = d->states[s].final;
		for (uint16_t i = 0; i < d->nrows && !exit; i++)
			exit = row_matches(d, &d->rows[i], s) && fsm_row_next(&d->rows[i], s) != s;
		if (!exit)
			return err_set(e, E_INTERNAL, "FSM",
				       "machine %s: state %s is a dead end but not final", d->name,
				       d->states[s].name);
	}
	return 0;
}

static int check(const struct fsm_def *d, struct err *e)
{
	int rc = check_shape(d, e);

	if (rc == 0)
		rc = check_timeouts(d, e);
	for (uint16_t i = 0; rc == 0 && i < d->nrows; i++)
		rc = check_row(d, i, e);
	for (uint8_t s = 0; rc == 0 && s < d->nstates; s++)
		rc = check_state(d, s, e);
	if (rc == 0)
		rc = check_reach(d, e);
	if (rc == 0)
		rc = check_exits(d, e);
	return rc;
}

/* ---- the index ---- */

/* Append the rows of one cell that come from [state] (a state or FSM_ANY). False: an unguarded row
 * ended the cell. */
static bool fill_cell(const struct fsm_def *d, struct fsm_index *x, uint8_t state, uint8_t event)
{
	for (uint16_t i = 0; i < d->nrows; i++) {
		if (d->rows[i].state != state || d->rows[i].event != event)
			continue;
		x->order[x->norder++] = i;
		x->live[i] = true;
		if (!d->rows[i].guard)
			return false;
	}
	return true;
}

static struct fsm_index *index_new(const struct fsm_def *d)
{
	size_t cells = (size_t)d->nstates * d->nevents;
	struct fsm_index *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->first = calloc(cells + 1, sizeof(*x->first));
	x->order = calloc((size_t)d->nrows * d->nstates, sizeof(*x->order));
	x->live = calloc(d->nrows, sizeof(*x->live));
	x->hit = calloc(d->nrows, sizeof(*x->hit));
	if (!x->first || !x->order || !x->live || !x->hit) {
		fsm_index_free(&x);
		return NULL;
	}
	return x;
}

void fsm_index_free(struct fsm_index **xp)
{
	struct fsm_index *x = *xp;

	*xp = NULL;
	if (!x)
		return;
	free(x->first);
	free(x->order);
	free(x->live);
	free(x->hit);
	free(x);
}

int fsm_def_prepare(const struct fsm_def *d, struct err *e)
{
	int rc;

	if (d->index && *d->index)
		return 0;
	rc = check(d, e);
	if (rc < 0)
		return rc;
	struct fsm_index *x = index_new(d);
	if (!x)
		return err_set(e, E_NOMEM, "FSM", "machine %s: out of memory for its index",
			       d->name);
	for (uint8_t s = 0; s < d->nstates; s++)
		for (uint8_t ev = 0; ev < d->nevents; ev++) {
			x->first[(size_t)s * d->nevents + ev] = x->norder;
			if (fill_cell(d, x, s, ev) && !d->states[s].final)
				fill_cell(d, x, FSM_ANY, ev);
		}
	x->first[(size_t)d->nstates * d->nevents] = x->norder;
	for (uint16_t i = 0; i < d->nrows; i++)
		if (!x->live[i]) {
			fsm_index_free(&x);
			return err_set(e, E_INTERNAL, "FSM",
				       "machine %s: row %u (spec %s) can never be taken: rows "
				       "before it match always",
				       d->name, i, d->rows[i].spec);
		}
	*d->index = x;
	return 0;
}

/* ---- running ---- */

static void arm_state_timer(struct fsm *f)
{
	const struct fsm_def *d = f->def;
	uint8_t i = d->states[f->state].timeout;

	if (!d->arm)
		return;
	if (i == FSM_NO_TIMER) {
		d->arm(f, 0);
		return;
	}
	uint32_t ms = d->timeout_ms ? d->timeout_ms(f, i) : d->timeouts[i].def_ms;
	if (ms < d->timeouts[i].min_ms)
		ms = d->timeouts[i].min_ms;
	if (ms > d->timeouts[i].max_ms)
		ms = d->timeouts[i].max_ms;
	d->arm(f, ms);
}

void fsm_init(struct fsm *f, const struct fsm_def *def)
{
	*f = (struct fsm){ .def = def, .state = def->start };
	if (def->states[f->state].timeout != FSM_NO_TIMER)
		arm_state_timer(f);
}

static void enter(struct fsm *f, uint8_t to)
{
	const struct fsm_def *d = f->def;
	uint8_t from = f->state;

	if (to == from)
		return;
	f->state = to;
	if (d->states[from].timeout != FSM_NO_TIMER || d->states[to].timeout != FSM_NO_TIMER)
		arm_state_timer(f);
	if (d->entered)
		d->entered(f, from, to);
}

static const char *event_name(const struct fsm_def *d, uint8_t event)
{
	return event < d->nevents ? d->events[event] : "?";
}

static void take_row(struct fsm *f, uint16_t i, const void *ev)
{
	const struct fsm_row *r = &f->def->rows[i];
	_Atomic uint8_t *hit = &(*f->def->index)->hit[i];

	/* Read first: workers share the flag, and an unconditional store would bounce its cache
	 * line. */
	if (!atomic_load_explicit(hit, memory_order_relaxed))
		atomic_store_explicit(hit, 1, memory_order_relaxed);
	uint8_t to = fsm_row_next(r, f->state);
	if (to == f->state && r->rearm)
		arm_state_timer(f);
	enter(f, to);
	if (r->act && r->act(f, ev) < 0)
		enter(f, f->def->fault);
}

static void refuse(struct fsm *f, uint8_t event)
{
	f->glitches++;
	log_ev(LOG_L_DEBUG, "fsm.refused", KC("machine", f->def->name),
	       KC("state", fsm_state_name(f)), KC("event", event_name(f->def, event)));
	f->def->refuse(f, f->state, event);
}

static void handle(struct fsm *f, uint8_t event, const void *ev, bool drain)
{
	const struct fsm_def *d = f->def;
	const struct fsm_index *x = *d->index;

	if (event < d->nevents) {
		size_t cell = (size_t)f->state * d->nevents + event;
		for (uint32_t k = x->first[cell]; k < x->first[cell + 1]; k++) {
			const struct fsm_row *r = &d->rows[x->order[k]];
			if (!r->guard || r->guard(f, ev)) {
				take_row(f, x->order[k], ev);
				return;
			}
		}
	}
	/* What an action raised before it entered a final state concerns nobody any more. */
	if (drain && d->states[f->state].final)
		return;
	refuse(f, event);
}

/* A mistake of ours inside an action: the machine goes to its fault state when the action returns.
 */
static void break_run(struct fsm *f, const char *what, uint8_t event)
{
	f->broken = true;
	f->glitches++;
	log_ev(LOG_L_ERROR, "fsm.broken", KC("machine", f->def->name),
	       KC("state", fsm_state_name(f)), KC("event", event_name(f->def, event)),
	       KC("why", what));
}

static void check_broken(struct fsm *f)
{
	if (!f->broken)
		return;
	f->broken = false;
	f->nraised = 0;
	if (!f->def->states[f->state].final)
		enter(f, f->def->fault);
}

void fsm_event(struct fsm *f, uint8_t event, const void *ev)
{
	if (f->running) {
		break_run(f, "fsm_event inside a run", event);
		return;
	}
	bool was_final = f->def->states[f->state].final;
	f->running = true;
	handle(f, event, ev, false);
	check_broken(f);
	while (f->nraised) {
		uint8_t next = f->raised[f->head];
		f->head = (uint8_t)((f->head + 1) % FSM_RAISE_MAX);
		f->nraised--;
		handle(f, next, NULL, true);
		check_broken(f);
	}
	f->running = false;
	if (!was_final && f->def->states[f->state].final && f->def->done)
		f->def->done(f);
}

void fsm_raise(struct fsm *f, uint8_t event)
{
	if (!f->running) {
		fsm_event(f, event, NULL);
		return;
	}
	if (f->nraised == FSM_RAISE_MAX) {
		break_run(f, "too many events raised in one run", event);
		return;
	}
	f->raised[(f->head + f->nraised) % FSM_RAISE_MAX] = event;
	f->nraised++;
}

const char *fsm_state_name(const struct fsm *f)
{
	return f->def->states[f->state].name;
}

uint16_t fsm_rows_unhit(const struct fsm_def *def, uint16_t *rows_r, uint16_t max)
{
	uint16_t n = 0;

	for (uint16_t i = 0; i < def->nrows; i++)
		if (!atomic_load_explicit(&(*def->index)->hit[i], memory_order_relaxed)) {
			if (n < max)
				rows_r[n] = i;
			n++;
		}
	return n;
}
