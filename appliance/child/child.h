/* child.h - what a child of tandemd has in common: start, jail, control requests, the end.
 *
 * tandemd starts a child with one end of a socketpair as descriptor 3 and speaks
 * docs/control-protocol.md over it. A program's main does:
 *
 *   child_start(&def, self, &c, &e)   blocks until the configuration came; child_config(c) has it
 *   ... open listeners, store, TLS, resolver; child_jail(c, ...) ; make loops ...
 *   child_attach(c, loop, &e)         from now on requests come in this loop's thread
 *   child_ready(c, listen_take)       "the process serves": answers the first config request
 *   loop_run(loop)
 *   child_free(&c)                    after everything is committed: answers an open stop, closes;
 * the loop must still be there, with everything else gone from it
 *
 * If something fails before child_ready: child_failed(c, &e), then exit non-zero. The end of
 * tandemd (end of file), its stop request and SIGTERM all lead to def->stop, once. SIGINT is
 * ignored: on a terminal Ctrl-C reaches the whole group, but tandemd decides. The kernel kills us
 * with SIGTERM when tandemd dies where it can (PR_SET_PDEATHSIG), and the end of file says so in
 * any case. */
#ifndef TANDEM_CHILD_CHILD_H
#define TANDEM_CHILD_CHILD_H

#include <jansson.h>

#include "appliance/base/base.h"
#include "appliance/config/config.h"
#include "appliance/loop/loop.h"

#define CHILD_FD 3

struct child;
struct child_req;
struct child_settle;

/* A command of this program. args: an object, borrowed until the request is answered. The handler
 * answers now or later, exactly once, from any thread: child_answer or child_fail. Runs in the
 * control loop's thread. */
struct child_command {
	const char *name; /* "user.add" */
	void (*handle)(void *self, struct child_req *r, json_t *args);
};

struct child_def {
	const char *name; /* "tandem-core": log name, too */
	enum config_who who;
	const struct child_command *commands; /* ends with a NULL name */
	/* A new configuration; cfg is a reference of the callee's (config_unref). The library has
	 * compared old and new and tells what needs a restart; apply the rest. 0, or < 0 with e:
	 * refused, old one stays. Required. */
	int (*reload)(void *self, const struct config *cfg_take, struct err *e);
	/* After reload returned 0: call child_settled when every part of the process works with the
	 * new configuration; the request is answered then. NULL: it does already. */
	void (*settle)(void *self, struct child_settle *s);
	/* Commit and leave the loop (loop_stop). Called once. Required. */
	void (*stop)(void *self);
};

/* Sets the log up, checks descriptor 3, waits for the configuration (30 s), and locks the state
 * folder (a predecessor may still be committing: 20 s). E_STATE: not started by tandemd (text says
 * so); E_TIMEOUT; E_BUSY: the folder is in use; E_SYNTAX and others: configuration refused (tandemd
 * was told). */
int child_start(const struct child_def *def, void *self, struct child **c_r, struct err *e);
const struct config *child_config(const struct child *c);
int child_attach(struct child *c, struct loop *l, struct err *e);
/* listen_take: array of {"name", "address"} or NULL; stolen. Once, after child_attach. */
void child_ready(struct child *c, json_t *listen_take);
/* Tells tandemd why this process cannot serve; written before it returns. */
void child_failed(struct child *c, const struct err *why);
void child_free(struct child **c);

/* ---- requests: any thread ---- */

/* Both end the request: r is gone. Values are stolen; result NULL means {}. */
void child_answer(struct child_req *r, json_t *result_take);
void child_fail(struct child_req *r, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* One event of a streaming command. E_CLOSED: cancelled, or tandemd does not keep up (the event is
 * dropped): finish soon with child_answer. */
int child_event(struct child_req *r, json_t *event_take);
bool child_cancelled(const struct child_req *r);

/* Ends a reload that settle was called for. rc < 0: it did not come about. The control loop's
 * thread. */
void child_settled(struct child_settle *s, int rc);

/* ---- arguments ---- */

/* What a handler expects, one row a member: anything else in args is refused with a clear text. */
enum child_arg_kind { CHILD_STR, CHILD_UINT, CHILD_BOOL, CHILD_ARRAY };
struct child_arg {
	const char *name;
	enum child_arg_kind kind;
	bool required;
	uint64_t max;  /* octets of a string, value of a number, members of an array */
	void *value_r; /* struct sl, uint64_t, bool, json_t * (borrowed); left alone when missing */
};
/* 0, or the request has been failed and is gone (E_SYNTAX, E_RANGE, E_TOOBIG). */
int child_args(struct child_req *r, const struct child_arg *a, size_t n);

/* ---- jail ---- */

/* Chroot into the process's own folder (state_dir/core, state_dir/sms), own user, no new
 * privileges, not dumpable. The folder is made, and given to the user, when needed. resolver: copy
 * resolv.conf, hosts, nsswitch.conf and services into it, for looking up names later. What an
 * ordinary user cannot do is logged as ev=jail.partial with the list, and is no error; as root it
 * is one. Afterwards the working folder is that folder in any case: open state files by relative
 * paths, after this. Before threads. */
int jail_enter(const struct config *cfg, enum config_who who, bool resolver, struct err *e);
/* The user that a process becomes there: the configured one, or first_uid and following where it
 * does not exist; ourselves when we are not root. For checking peers on Unix sockets. */
void jail_user(const struct config *cfg, enum config_who who, uint32_t *uid_r, uint32_t *gid_r);
/* tandem-core listens for a translator's component stream inside the translator's folder, because
 * that is all that the translator can see. dst: the path before the jail (state_dir/sms/core.sock;
 * the folder is made); the translator connects to JAIL_CORE_SOCKET. The socket needs mode 0666 (the
 * folder is 0700 and the translator's). 0, E_TOOBIG, E_IO. */
#define JAIL_CORE_SOCKET "core.sock"
int jail_core_socket(const struct config *cfg, enum config_who translator, char *dst, size_t cap,
		     struct err *e);

#endif
