/* fsm_print.c - a machine as a graphviz drawing and as a Markdown matrix, for docs/fsm/. See fsm.h.
 *
 * Both are made from the rows alone and are deterministic, so that CI can compare them. */
#include "appliance/fsm/fsm_index.h"

#define TRY(call) \
	do { \
		int rc_ = (call); \
		if (rc_ < 0) \
			return rc_; \
	} while (0)

static bool fault_possible(const struct fsm_def *d)
{
	for (uint16_t i = 0; i < d->nrows; i++)
		if (d->rows[i].act)
			return true;
	return false;
}

static int dot_state(const struct fsm_def *d, uint8_t s, struct buf *out)
{
	const struct fsm_state *st = &d->states[s];

	TRY(buf_addf(out, "\t\"%s\" [label=\"%s", st->name, st->name));
	if (st->timeout != FSM_NO_TIMER) {
		const struct fsm_timeout *t = &d->timeouts[st->timeout];
		TRY(buf_addf(out, "\\n%s %u ms: %s", t->name, t->def_ms, d->events[t->event]));
	}
	TRY(buf_add(out, SL("\"")));
	if (st->final)
		TRY(buf_add(out, SL(", peripheries=2")));
	if (s == d->start)
		TRY(buf_add(out, SL(", style=\"rounded,bold\"")));
	return buf_add(out, SL("];\n"));
}

static int dot_row(const struct fsm_def *d, const struct fsm_row *r, struct buf *out)
{
	const char *from = r->state == FSM_ANY ? "any state" : d->states[r->state].name;
	const char *to = r->next == FSM_ANY ? from : d->states[r->next].name;

	return buf_addf(out, "\t\"%s\" -> \"%s\" [label=\"%s%s%s\\n%s\"%s];\n", from, to,
			d->events[r->event], r->guard ? " [if]" : "", r->rearm ? " (rearm)" : "",
			r->spec, r->state == FSM_ANY ? ", style=dashed" : "");
}

int fsm_print_dot(const struct fsm_def *d, struct buf *out)
{
	bool any = false;

	TRY(buf_addf(out, "digraph \"%s\" {\n\trankdir=LR;\n\tnode [shape=box, style=rounded];\n",
		     d->name));
	if (fault_possible(d))
		TRY(buf_addf(out, "\tlabel=\"a failing action enters %s\";\n",
			     d->states[d->fault].name));
	for (uint8_t s = 0; s < d->nstates; s++)
		TRY(dot_state(d, s, out));
	for (uint16_t i = 0; i < d->nrows; i++)
		any = any || d->rows[i].state == FSM_ANY;
	if (any)
		TRY(buf_add(out, SL("\t\"any state\" [shape=plaintext];\n")));
	for (uint16_t i = 0; i < d->nrows; i++)
		TRY(dot_row(d, &d->rows[i], out));
	return buf_add(out, SL("}\n"));
}

static int matrix_cell(const struct fsm_def *d, uint8_t s, uint8_t ev, struct buf *out)
{
	const struct fsm_index *x = *d->index;
	size_t cell = (size_t)s * d->nevents + ev;

	if (x->first[cell] == x->first[cell + 1])
		return buf_add(out, SL(" - |"));
	for (uint32_t k = x->first[cell]; k < x->first[cell + 1]; k++) {
		const struct fsm_row *r = &d->rows[x->order[k]];
		uint8_t to = fsm_row_next(r, s);
		TRY(buf_addf(out, "%s%s%s (%s)", k > x->first[cell] ? "<br>" : " ",
			     r->guard ? "if: " : "", to == s ? "stay" : d->states[to].name,
			     r->spec));
	}
	return buf_add(out, SL(" |"));
}

static int matrix_timeouts(const struct fsm_def *d, struct buf *out)
{
	if (d->ntimeouts == 0)
		return 0;
	TRY(buf_add(out, SL("\n| timeout | default ms | min | max | event | spec | states |\n"
			    "|---|---|---|---|---|---|---|\n")));
	for (uint8_t i = 0; i < d->ntimeouts; i++) {
		const struct fsm_timeout *t = &d->timeouts[i];
		TRY(buf_addf(out, "| %s | %u | %u | %u | %s | %s |", t->name, t->def_ms, t->min_ms,
			     t->max_ms, d->events[t->event], t->spec));
		for (uint8_t s = 0; s < d->nstates; s++)
			if (d->states[s].timeout == i)
				TRY(buf_addf(out, " %s", d->states[s].name));
		TRY(buf_add(out, SL(" |\n")));
	}
	return 0;
}

int fsm_print_matrix(const struct fsm_def *d, struct buf *out)
{
	if (!*d->index)
		return E_STATE;
	TRY(buf_addf(out,
		     "# %s\n\nStarts in %s; a failing action enters %s. `-`: refused.\n\n| state |",
		     d->name, d->states[d->start].name, d->states[d->fault].name));
	for (uint8_t ev = 0; ev < d->nevents; ev++)
		TRY(buf_addf(out, " %s |", d->events[ev]));
	TRY(buf_add(out, SL("\n|---|")));
	for (uint8_t ev = 0; ev < d->nevents; ev++)
		TRY(buf_add(out, SL("---|")));
	TRY(buf_addc(out, '\n'));
	for (uint8_t s = 0; s < d->nstates; s++) {
		TRY(buf_addf(out, "| %s%s |", d->states[s].name,
			     d->states[s].final ? " (final)" : ""));
		for (uint8_t ev = 0; ev < d->nevents; ev++)
			TRY(matrix_cell(d, s, ev, out));
		TRY(buf_addc(out, '\n'));
	}
	return matrix_timeouts(d, out);
}
