/* fsm.h - the row-table state-machine engine (STYLE section 3).
 *
 * The life of every stream, bind, login, link and call is a table of rows; nothing else assigns its
 * state. The machine is embedded in its object as FIRST member, so that guards and actions take the
 * object itself. The engine knows no loop: an object that has state timers gives def->arm.
 *
 * Run to completion: an event raised inside an action (fsm_raise) is queued and handled after it;
 * the events of one fsm_event call are drained before it returns. When a final state was entered
 * and the queue is drained, def->done is called, as the last thing, and may free the object. A
 * final state takes no FSM_ANY rows, and what is left in the queue without a row of that very state
 * is dropped in silence.
 *
 * Thread: an object belongs to one worker. fsm_def_prepare is called once a definition at start-up,
 * before threads. */
#ifndef TANDEM_FSM_FSM_H
#define TANDEM_FSM_FSM_H

#include "appliance/base/base.h"
#include "appliance/base/buf.h"

#define FSM_ANY       0xffu
#define FSM_NO_TIMER  0xffu
#define FSM_RAISE_MAX 8 /* events queued inside one run; more is a bug and takes the fault row */

struct fsm_row {
	uint8_t state, event, next; /* state may be FSM_ANY; next FSM_ANY: stay */
	bool (*guard)(const void *self, const void *ev); /* pure; NULL: always */
	int (*act)(void *self, const void *ev);          /* NULL: none; < 0: take def->fault */
	const char *spec;                                /* RFC clause or rule id; required */
	bool rearm; /* a row to the same state re-arms its timer */
};

struct fsm_state {
	const char *name;
	bool final;
	uint8_t timeout; /* index into def->timeouts, or FSM_NO_TIMER */
};

struct fsm_timeout {
	const char *name; /* configuration can set it under this name */
	uint32_t def_ms, min_ms, max_ms;
	uint8_t event; /* raised when it expires (by the object's timer, with fsm_event) */
	const char *spec;
};

struct fsm_index; /* built by fsm_def_prepare */

struct fsm_def {
	const char *name;
	const struct fsm_state *states;
	uint8_t nstates;
	const char *const *events; /* names */
	uint8_t nevents;
	const struct fsm_row *rows;
	uint16_t nrows;
	uint8_t start, fault;
	const struct fsm_timeout *timeouts; /* may be NULL */
	uint8_t ntimeouts;
	/* No row matches: answer with the protocol's own error. Required. The engine logs
	 * "fsm.refused" at debug level with both names and counts a glitch. */
	void (*refuse)(void *self, uint8_t state, uint8_t event);
	/* Arm the object's one state timer for ms, or disarm it (0). NULL if no state has a
	 * timeout. */
	void (*arm)(void *self, uint32_t ms);
	/* The configured value of timeout i; NULL: defaults. */
	uint32_t (*timeout_ms)(const void *self, uint8_t i);
	/* Called on every state change, before the action. NULL: none. For traces and counters. */
	void (*entered)(void *self, uint8_t from, uint8_t to);
	/* After a final state, queue drained. May free self. NULL: none. */
	void (*done)(void *self);
	struct fsm_index **index; /* a static pointer of the defining file; prepared once */
};

/* First member of the object. */
struct fsm {
	const struct fsm_def *def;
	uint8_t state;
	bool running, broken;
	uint8_t nraised, head;
	uint8_t raised[FSM_RAISE_MAX];
	uint32_t glitches;
};

/* Build the (state, event) index and check the table: every state reachable, every row has a spec
 * and can be taken (not hidden behind an unguarded one), no dead end but final states, nothing
 * leaves a final state, timers have an arm function, sane bounds and a row for their event. 0,
 * E_NOMEM, or E_INTERNAL with the reason. Idempotent. */
int fsm_def_prepare(const struct fsm_def *def, struct err *e);

/* self's first member is the fsm. Enters def->start (arming its timer); runs no action. */
void fsm_init(struct fsm *f, const struct fsm_def *def);

/* Handle one event (ev borrowed for the call). When called from inside an action it is an error of
 * ours (use fsm_raise): logged as fsm.broken, and the fault state is entered when the action
 * returns; so is a raise beyond FSM_RAISE_MAX. After return the object may be gone if a final state
 * was entered. */
void fsm_event(struct fsm *f, uint8_t event, const void *ev);
/* Queue an event without payload; handled after the running action. Outside a run: fsm_event(NULL).
 */
void fsm_raise(struct fsm *f, uint8_t event);

const char *fsm_state_name(const struct fsm *f);

/* Rows of this table that no event has taken yet in this process (for the coverage test). */
uint16_t fsm_rows_unhit(const struct fsm_def *def, uint16_t *rows_r, uint16_t max);

/* Printers for docs/fsm/: graphviz dot and a Markdown matrix states x events. 0, E_TOOBIG, E_NOMEM.
 */
/* fsm_print_matrix needs a prepared definition (E_STATE otherwise). */
int fsm_print_dot(const struct fsm_def *def, struct buf *out);
int fsm_print_matrix(const struct fsm_def *def, struct buf *out);

#endif
