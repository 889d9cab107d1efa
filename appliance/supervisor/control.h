/* control.h - private to appliance/supervisor: requests that came over the control socket.
 *
 * A job is one open request. It outlives its connection: what was begun is finished (an account is
 * not left half made because someone pressed Ctrl-C), only nobody hears of it. */
#ifndef TANDEM_SUPERVISOR_CONTROL_H
#define TANDEM_SUPERVISOR_CONTROL_H

#include "appliance/ctl/commands.h"
#include "appliance/supervisor/supervisor.h"

struct control_conn;

struct job {
	struct list node;          /* in its connection's jobs */
	struct control_conn *conn; /* NULL: the asker has gone */
	struct supervisor *s;
	uint64_t id;
	const struct command *cmd;
	json_t *msg, *args; /* args is msg's */
	json_t *acc;        /* what the handler gathers */
	unsigned open;      /* asks that are out */
	struct ask *ask[SUPERVISOR_PROCESSES];
	bool cancelled;
	void (*on_cancel)(struct job *j); /* NULL: goes on to its end */
};

/* One of these ends the job; j is gone. */
void job_result(struct job *j, json_t *result_take);
void job_fail(struct job *j, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The first part of a command was done, a later one failed. done_take says what was done. */
void job_fail_done(struct job *j, const struct err *why, json_t *done_take, const char *text);
/* {"event": ...}; the event is stolen. */
void job_event(struct job *j, json_t *event_take);

/* NULL: not in this build. */
struct process *supervisor_process(struct supervisor *s, enum config_who who);
/* Ask one child for a job; on failure to ask the job has failed and is gone (< 0). */
int job_ask(struct job *j, enum config_who who, const char *command, json_t *args_take,
	    void (*done)(void *job, const json_t *result, const struct err *why));

/* handlers.c: what tandemd does itself. NULL: no handler. */
typedef void (*job_handler_fn)(struct job *j);
job_handler_fn handler_find(const struct command *c);

#endif
