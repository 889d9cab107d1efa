/* supervisor.h - tandemd: the children, the configuration, the control socket.
 *
 * Opens nothing itself but the control socket. One loop, one thread, and nothing in it blocks but
 * reading the configuration file. */
#ifndef TANDEM_SUPERVISOR_SUPERVISOR_H
#define TANDEM_SUPERVISOR_SUPERVISOR_H

#include <limits.h>

#include "appliance/child/signals.h"
#include "appliance/supervisor/process.h"

#define SUPERVISOR_PROCESSES 2 /* at most; a build without translators has fewer */

struct supervisor_options {
	const char *config_path;
	const char *bin_dir; /* where the children's programs are; NULL: beside our own */
	bool fail_fast;      /* end when a child cannot serve at its first start */
};

struct supervisor {
	struct supervisor_options opt;
	char config_path[PATH_MAX]; /* absolute */
	char bin_dir[1024];
	const struct config *cfg, *first_cfg;
	uint64_t generation;
	struct loop *loop;
	struct signals signals;
	struct process process[SUPERVISOR_PROCESSES];
	int nprocesses;
	struct listener *listener;
	struct list conns; /* control connections */
	unsigned nconns;
	uint64_t started_ms; /* monotonic */
	bool stopping;
	int status; /* exit status */
	struct loop_task end_task;
	struct {
		uint64_t connections, refused_connections, requests, bad_frames, reloads, restarts;
	} count;
};

/* Read the configuration, start everything, run until stopped. The exit status. */
int supervisor_run(const struct supervisor_options *opt);
/* Begin the end: children are told, waited for, killed in the end; then the loop stops. */
void supervisor_stop(struct supervisor *s);
/* Read the configuration again and send it to the children. done is called once with what they did.
 */
struct reload_result {
	json_t *applied; /* keys */
	json_t *restart; /* {"core": [keys]} */
	struct err err;  /* code 0: all accepted */
};
int supervisor_reload(struct supervisor *s, void (*done)(void *arg, struct reload_result *r),
		      void *arg, struct err *e);
/* A process has become ready, could not serve or has ended, is gone for good. */
void supervisor_process_ready(struct supervisor *s, struct process *p);
void supervisor_process_failed(struct supervisor *s, struct process *p);
void supervisor_process_gone(struct supervisor *s);

/* control.c */
int control_open(struct supervisor *s, struct err *e);
void control_close(struct supervisor *s);

#endif
