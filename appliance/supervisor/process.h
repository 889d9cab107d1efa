/* process.h - one child of tandemd: its life, and what is asked of it.
 *
 * The life is a machine (docs/fsm/child.md); starting, restarting with back-off, stopping, killing
 * what does not stop. A process has ended when it was reaped and its end of the socketpair is
 * closed: so its last words are always read. Everything runs in tandemd's one loop. */
#ifndef TANDEM_SUPERVISOR_PROCESS_H
#define TANDEM_SUPERVISOR_PROCESS_H

#include <jansson.h>
#include <sys/types.h>

#include "appliance/base/buf.h"
#include "appliance/base/list.h"
#include "appliance/config/config.h"
#include "appliance/fsm/fsm.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/loop.h"

struct supervisor;

struct process {
	struct fsm f; /* first */
	struct supervisor *sup;
	const char *name, *short_name; /* "tandem-core", "core" */
	enum config_who who;
	pid_t pid;
	bool reaped;
	int wait_status;
	struct conn *conn;
	struct buf in;
	struct list asks;
	uint64_t last_id;
	struct loop_timer timer;
	uint32_t backoff_ms;
	uint32_t restarts;
	uint64_t since_ms;        /* monotonic: of the present state */
	uint64_t generation;      /* of the configuration that it was sent last */
	json_t *listen;           /* what it said when it became ready */
	json_t *need_restart;     /* keys that a reload could not apply */
	char error[ERR_TEXT_MAX]; /* why it could not serve, or how it ended; "": all is well */
};

extern const struct fsm_def child_fsm;

void process_init(struct process *p, struct supervisor *sup, const char *name, enum config_who who);
void process_start(struct process *p);
void process_stop(struct process *p);
void process_restart(struct process *p);
bool process_ready(const struct process *p);
bool process_gone(const struct process *p);
/* waitpid said so. */
void process_reaped(struct process *p, int status);
void process_free(struct process *p);

/* One request to a child. Exactly one end: result (borrowed) or why. event: NULL, or called for
 * each event of a streaming command. */
struct ask {
	struct list node;
	struct process *p;
	uint64_t id;
	struct loop_timer timer;
	void (*done)(void *arg, const json_t *result, const struct err *why);
	void (*event)(void *arg, json_t *event);
	void *arg;
};
/* args_take: an object or NULL. NULL when the process is not ready (why: E_CLOSED), or out of
 * memory; done is not called then. wait_ms 0: no limit. done may be called from inside only in
 * later loop turns. */
struct ask *process_ask(struct process *p, const char *command, json_t *args_take, uint32_t wait_ms,
			void (*done)(void *arg, const json_t *result, const struct err *why),
			void (*event)(void *arg, json_t *event), void *arg, struct err *why);
/* The child is told; done is still called, with its answer or at the time-out. */
void ask_cancel(struct ask *a);

#endif
