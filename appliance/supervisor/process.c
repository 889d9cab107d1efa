/* process.c - the life of a child. See process.h. */
#include "appliance/supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "appliance/base/log.h"
#include "appliance/child/child.h"
#include "appliance/child/frame.h"
#include "appliance/supervisor/supervisor.h"

#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS   30000u
#define SHORT_LIFE_MS    5000u /* who served for longer is not in a crash loop: no doubling */
#define OUT_MAX_OCTETS   (32u << 20)

enum { DOWN, STARTING, READY, ENDING, BACKOFF, RESTARTING, STOPPING, GONE, STATES };
enum { START, ANSWERED, REFUSED, HANGUP, ENDED, STOP, RESTART, LATE, STABLE, DUE, EVENTS };
enum { T_START, T_STABLE, T_ENDING, T_STOP, T_BACKOFF, TIMEOUTS };

static int act_spawn(void *self, const void *ev);
static int act_ready(void *self, const void *ev);
static int act_refused(void *self, const void *ev);
static int act_kill(void *self, const void *ev);
static int act_ended(void *self, const void *ev);
static int act_respawn(void *self, const void *ev);
static int act_ask_stop(void *self, const void *ev);
static int act_stable(void *self, const void *ev);
static int act_gone(void *self, const void *ev);

static const struct fsm_state states[STATES] = {
	[DOWN] = { "DOWN", false, FSM_NO_TIMER },    [STARTING] = { "STARTING", false, T_START },
	[READY] = { "READY", false, T_STABLE },      [ENDING] = { "ENDING", false, T_ENDING },
	[BACKOFF] = { "BACKOFF", false, T_BACKOFF }, [RESTARTING] = { "RESTARTING", false, T_STOP },
	[STOPPING] = { "STOPPING", false, T_STOP },  [GONE] = { "GONE", true, FSM_NO_TIMER },
};

static const char *const events[EVENTS] = { "START", "ANSWERED", "REFUSED", "HANGUP", "ENDED",
					    "STOP",  "RESTART",  "LATE",    "STABLE", "DUE" };

static const struct fsm_timeout timeouts[TIMEOUTS] = {
	[T_START] = { "start", 60000, 1000, 600000, LATE, "CHILD-3" },
	[T_STABLE] = { "stable", 60000, 1000, 600000, STABLE, "CHILD-5" },
	[T_ENDING] = { "ending", 10000, 100, 600000, LATE, "CHILD-6" },
	[T_STOP] = { "stop", 15000, 100, 600000, LATE, "CHILD-7" },
	[T_BACKOFF] = { "backoff", BACKOFF_FIRST_MS, 1, BACKOFF_MAX_MS, DUE, "CHILD-4" },
};

/* docs/rules/child.md has the CHILD rules. */
/* clang-format off */
static const struct fsm_row rows[] = {
	/* state      event     next         guard act           spec       rearm */
	{ DOWN,       START,    STARTING,    NULL, act_spawn,    "CHILD-1", false },
	{ DOWN,       STOP,     GONE,        NULL, act_gone,     "CHILD-7", false },
	{ STARTING,   ANSWERED, READY,       NULL, act_ready,    "CHILD-2", false },
	{ STARTING,   REFUSED,  ENDING,      NULL, act_refused,  "CHILD-3", false },
	{ STARTING,   LATE,     ENDING,      NULL, act_kill,     "CHILD-3", false },
	{ STARTING,   HANGUP,   ENDING,      NULL, NULL,         "CHILD-6", false },
	{ STARTING,   ENDED,    BACKOFF,     NULL, act_ended,    "CHILD-4", false },
	{ STARTING,   STOP,     STOPPING,    NULL, act_ask_stop, "CHILD-7", false },
	{ STARTING,   RESTART,  RESTARTING,  NULL, act_ask_stop, "CHILD-8", false },
	{ READY,      STABLE,   READY,       NULL, act_stable,   "CHILD-5", false },
	{ READY,      HANGUP,   ENDING,      NULL, NULL,         "CHILD-6", false },
	{ READY,      ENDED,    BACKOFF,     NULL, act_ended,    "CHILD-4", false },
	{ READY,      STOP,     STOPPING,    NULL, act_ask_stop, "CHILD-7", false },
	{ READY,      RESTART,  RESTARTING,  NULL, act_ask_stop, "CHILD-8", false },
	{ ENDING,     ENDED,    BACKOFF,     NULL, act_ended,    "CHILD-4", false },
	{ ENDING,     LATE,     ENDING,      NULL, act_kill,     "CHILD-6", true  },
	{ ENDING,     STOP,     STOPPING,    NULL, NULL,         "CHILD-7", false },
	{ ENDING,     RESTART,  RESTARTING,  NULL, NULL,         "CHILD-8", false },
	{ BACKOFF,    DUE,      STARTING,    NULL, act_respawn,  "CHILD-4", false },
	{ BACKOFF,    RESTART,  STARTING,    NULL, act_respawn,  "CHILD-8", false },
	{ BACKOFF,    STOP,     GONE,        NULL, act_gone,     "CHILD-7", false },
	{ RESTARTING, ENDED,    STARTING,    NULL, act_respawn,  "CHILD-8", false },
	{ RESTARTING, LATE,     RESTARTING,  NULL, act_kill,     "CHILD-7", true  },
	{ RESTARTING, RESTART,  RESTARTING,  NULL, NULL,         "CHILD-8", false },
	{ RESTARTING, STOP,     STOPPING,    NULL, NULL,         "CHILD-7", false },
	{ STOPPING,   ENDED,    GONE,        NULL, act_gone,     "CHILD-7", false },
	{ STOPPING,   LATE,     STOPPING,    NULL, act_kill,     "CHILD-7", true  },
	{ STOPPING,   STOP,     STOPPING,    NULL, NULL,         "CHILD-7", false },
	/* Late news of one that is on its way out. */
	{ FSM_ANY,    ANSWERED, FSM_ANY,     NULL, NULL,         "CHILD-6", false },
	{ FSM_ANY,    REFUSED,  FSM_ANY,     NULL, NULL,         "CHILD-6", false },
	{ FSM_ANY,    HANGUP,   FSM_ANY,     NULL, NULL,         "CHILD-6", false },
};
/* clang-format on */

static struct fsm_index *child_index;

static void on_timer(struct loop_timer *t)
{
	struct process *p = container_of(t, struct process, timer);

	fsm_event(&p->f, timeouts[states[p->f.state].timeout].event, NULL);
}

static void arm(void *self, uint32_t ms)
{
	struct process *p = self;

	if (ms)
		loop_timer_set(p->sup->loop, &p->timer, ms, on_timer);
	else
		loop_timer_clear(&p->timer);
}

static uint32_t timeout_ms(const void *self, uint8_t i)
{
	const struct process *p = self;

	if (i == T_BACKOFF)
		return p->backoff_ms;
	return i == T_STOP ? p->sup->cfg->stop_seconds * 1000 : timeouts[i].def_ms;
}

static void refuse(void *self, uint8_t state, uint8_t event)
{
	const struct process *p = self;

	log_ev(LOG_L_WARN, "child.event.unexpected", KC("process", p->name),
	       KC("state", states[state].name), KC("event", event < EVENTS ? events[event] : "?"));
}

static void entered(void *self, uint8_t from, uint8_t to)
{
	struct process *p = self;

	log_ev(LOG_L_DEBUG, "child.state", KC("process", p->name), KC("from", states[from].name),
	       KC("to", states[to].name));
	p->since_ms = loop_now_ms(p->sup->loop);
}

const struct fsm_def child_fsm = {
	.name = "child",
	.states = states,
	.nstates = STATES,
	.events = events,
	.nevents = EVENTS,
	.rows = rows,
	.nrows = ARRAY_LEN(rows),
	.start = DOWN,
	.fault = BACKOFF,
	.timeouts = timeouts,
	.ntimeouts = TIMEOUTS,
	.refuse = refuse,
	.arm = arm,
	.timeout_ms = timeout_ms,
	.entered = entered,
	.index = &child_index,
};

/* ---- asking ---- */

static void ask_end(struct ask *a, const json_t *result, const struct err *why)
{
	loop_timer_clear(&a->timer);
	list_remove(&a->node);
	a->done(a->arg, result, why);
	free(a);
}

static void ask_late(struct loop_timer *t)
{
	struct ask *a = container_of(t, struct ask, timer);
	struct err e;

	err_set(&e, E_TIMEOUT, NULL, "%s did not answer in time", a->p->name);
	ask_end(a, NULL, &e);
}

static int send_msg(struct process *p, json_t *msg)
{
	struct buf b;
	int rc = msg && p->conn ? 0 : E_CLOSED;

	buf_init(&b, FRAME_CHILD_MAX + 4);
	if (rc == 0)
		rc = frame_put(&b, msg, FRAME_CHILD_MAX);
	if (rc == 0)
		rc = conn_write(p->conn, buf_sl(&b));
	json_decref(msg);
	frame_buf_free(&b);
	return rc;
}

static struct ask *ask(struct process *p, const char *command, json_t *args, uint32_t wait_ms,
		       void (*done)(void *, const json_t *, const struct err *),
		       void (*event)(void *, json_t *), void *arg, struct err *why)
{
	struct ask *a = calloc(1, sizeof(*a));
	json_t *msg = json_pack("{s:I,s:s,s:o}", "id", (json_int_t)++p->last_id, "command", command,
				"args", args ? args : json_object());
	int rc = a ? send_msg(p, msg) : E_NOMEM;

	if (!a)
		json_decref(msg);
	if (rc < 0) {
		free(a);
		err_set(why, rc, NULL, "%s cannot be asked: %s", p->name, e_name(rc));
		return NULL;
	}
	a->p = p;
	a->id = p->last_id;
	a->done = done;
	a->event = event;
	a->arg = arg;
	list_init(&a->node);
	list_append(&p->asks, &a->node);
	if (wait_ms)
		loop_timer_set(p->sup->loop, &a->timer, wait_ms, ask_late);
	return a;
}

struct ask *process_ask(struct process *p, const char *command, json_t *args, uint32_t wait_ms,
			void (*done)(void *, const json_t *, const struct err *),
			void (*event)(void *, json_t *), void *arg, struct err *why)
{
	if (p->f.state != READY) {
		json_decref(args);
		err_set(why, E_CLOSED, NULL, "%s is not running (%s)", p->name,
			fsm_state_name(&p->f));
		return NULL;
	}
	return ask(p, command, args, wait_ms, done, event, arg, why);
}

void ask_cancel(struct ask *a)
{
	a->event = NULL;
	send_msg(a->p, json_pack("{s:I}", "cancel", (json_int_t)a->id));
	/* A child that says nothing more must not keep the request for ever. */
	loop_timer_set(a->p->sup->loop, &a->timer, 5000, ask_late);
}

static void fail_asks(struct process *p)
{
	struct err e;

	err_set(&e, E_CLOSED, NULL, "%s ended before it answered: the outcome is unknown", p->name);
	while (!list_empty(&p->asks))
		ask_end(LIST_ENTRY(p->asks.next, struct ask, node), NULL, &e);
}

/* ---- what it says ---- */

static void error_from(const json_t *error, struct err *e)
{
	const char *code = json_string_value(json_object_get(error, "code"));
	const char *text = json_string_value(json_object_get(error, "text"));

	err_set(e, frame_error_code(code ? code : ""), NULL, "%s", text ? text : "failed");
}

static void on_msg(struct process *p, json_t *msg)
{
	uint64_t id = frame_id(msg);
	json_t *event = json_object_get(msg, "event"), *result = json_object_get(msg, "result");
	struct err e = { 0, NULL, "" };

	LIST_FOREACH(n, next, &p->asks)
	{
		struct ask *a = LIST_ENTRY(n, struct ask, node);
		if (a->id != id)
			continue;
		if (event) {
			if (a->event)
				a->event(a->arg, event);
			return;
		}
		if (!result)
			error_from(json_object_get(msg, "error"), &e);
		ask_end(a, result, result ? NULL : &e);
		return;
	}
	/* The answer to something that had timed out, or was never asked. */
	log_ev(LOG_L_DEBUG, "child.answer.unasked", KC("process", p->name), KU("id", id));
}

static void on_data(void *self, struct sl data)
{
	struct process *p = self;
	struct err e = { 0, NULL, "" };
	json_t *msg;
	int rc = buf_add(&p->in, data);

	if (rc < 0)
		err_set(&e, rc, NULL, "frame too large");
	while (rc >= 0 && p->conn && (rc = frame_take(&p->in, FRAME_CHILD_MAX, &msg, &e)) > 0) {
		on_msg(p, msg);
		json_decref(msg);
	}
	if (rc < 0 && p->conn) {
		log_ev(LOG_L_ERROR, "child.frame.bad", KC("process", p->name), KE(&e));
		conn_kill(p->conn);
	}
}

/* Reaped and closed: now everything that it had to say has been read. */
static void maybe_ended(struct process *p)
{
	bool served = p->f.state == READY &&
		      loop_now_ms(p->sup->loop) - p->since_ms >= SHORT_LIFE_MS;

	if (p->reaped && !p->conn && p->pid) {
		p->pid = 0;
		if (p->backoff_ms == 0)
			p->backoff_ms = BACKOFF_FIRST_MS;
		else if (!served)
			p->backoff_ms = p->backoff_ms < BACKOFF_MAX_MS / 2 ? p->backoff_ms * 2
									   : BACKOFF_MAX_MS;
		fsm_event(&p->f, ENDED, NULL);
	}
}

static void on_closed(void *self, const struct err *why)
{
	struct process *p = self;

	UNUSED(why);
	p->conn = NULL;
	frame_buf_free(&p->in);
	fail_asks(p);
	if (!p->reaped)
		fsm_event(&p->f, HANGUP, NULL);
	maybe_ended(p);
}

static const struct conn_ops conn_ops = { .on_data = on_data, .on_closed = on_closed };

void process_reaped(struct process *p, int status)
{
	p->reaped = true;
	p->wait_status = status;
	maybe_ended(p);
}

/* ---- actions ---- */

static void on_configured(void *arg, const json_t *result, const struct err *why)
{
	struct process *p = arg;

	if (why) {
		if (why->code != E_CLOSED)
			snprintf(p->error, sizeof(p->error), "%s", why->text);
		if (p->conn)
			fsm_event(&p->f, REFUSED, why);
		return;
	}
	json_decref(p->listen);
	p->listen = json_deep_copy(json_object_get(result, "listen"));
	fsm_event(&p->f, ANSWERED, NULL);
}

/* The environment of a child: what a program needs to run and to be tested with, and nothing that
 * the operator's shell happens to hold. The loader's variables are as trusted as our own start. */
static char **clean_environment(char **space, size_t max)
{
	static const char *const keep[] = {
		"PATH=",         "TZ=",           "LANG=",         "LC_",
		"LD_",           "TANDEM_",       "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
		"LSAN_OPTIONS=", "TSAN_OPTIONS=", "SASL_",         "OPENSSL_",
		"GLIBC_TUNABLES="
	};
	size_t n = 0;

	for (char **v = environ; v && *v && n + 1 < max; v++)
		for (size_t i = 0; i < ARRAY_LEN(keep); i++)
			if (strncmp(*v, keep[i], strlen(keep[i])) == 0) {
				space[n++] = *v;
				break;
			}
	space[n] = NULL;
	return space;
}

/* Between fork and exec: only calls that are safe there. */
static void become_child(const char *path, const char *name, int fd, pid_t parent)
{
	char *env[64], *argv[] = { (char *)(uintptr_t)name, NULL };
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	if (fd == CHILD_FD)
		fcntl(fd, F_SETFD, 0);
	else
		dup2(fd, CHILD_FD);
	for (long i = CHILD_FD + 1, n = sysconf(_SC_OPEN_MAX); i < n && i < 65536; i++)
		close((int)i);
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent)
		_exit(1); /* tandemd died in between */
	execve(path, argv, clean_environment(env, ARRAY_LEN(env)));
	_exit(127);
}

static int spawn(struct process *p, struct err *e)
{
	int fd[2];
	char path[PATH_MAX];
	pid_t parent = getpid();

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", p->sup->bin_dir, p->name) >= sizeof(path))
		return err_set(e, E_TOOBIG, NULL, "path too long");
	if (access(path, X_OK) < 0)
		return err_errno(e, E_NOTFOUND, "%s", path);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
		return err_errno(e, E_IO, "socketpair");
	fcntl(fd[0], F_SETFD, FD_CLOEXEC);
	fcntl(fd[1], F_SETFD, FD_CLOEXEC);
	p->pid = fork();
	if (p->pid == 0)
		become_child(path, p->name, fd[1], parent);
	close(fd[1]);
	if (p->pid < 0) {
		p->pid = 0;
		close(fd[0]);
		return err_errno(e, E_IO, "fork");
	}
	p->reaped = false;
	p->error[0] = '\0';
	int rc = conn_new(p->sup->loop, fd[0], &conn_ops, p, OUT_MAX_OCTETS, &p->conn, e);
	if (rc < 0)
		p->pid = 0; /* it finds its end closed, and ends */
	return rc;
}

static int act_spawn(void *self, const void *ev)
{
	struct process *p = self;
	struct err e = { 0, NULL, "" };
	int rc = spawn(p, &e);

	UNUSED(ev);
	if (rc == 0) {
		p->generation = p->sup->cfg->generation;
		if (!ask(p, "config", config_to_json(p->sup->cfg, p->who), 0, on_configured, NULL,
			 p, &e))
			rc = e.code;
	}
	if (rc < 0) {
		snprintf(p->error, sizeof(p->error), "%s", e.text);
		log_ev(LOG_L_ERROR, "child.start.failed", KC("process", p->name), KE(&e));
		p->backoff_ms = BACKOFF_MAX_MS;
		supervisor_process_failed(p->sup, p);
		return rc;
	}
	log_ev(LOG_L_INFO, "child.started", KC("process", p->name), KI("pid", p->pid));
	return 0;
}

static int act_respawn(void *self, const void *ev)
{
	struct process *p = self;

	p->restarts++;
	p->sup->count.restarts++;
	return act_spawn(self, ev);
}

static int act_ready(void *self, const void *ev)
{
	struct process *p = self;

	UNUSED(ev);
	p->error[0] = '\0';
	json_decref(p->need_restart);
	p->need_restart = NULL;
	log_ev(LOG_L_NOTICE, "child.ready", KC("process", p->name), KI("pid", p->pid));
	supervisor_process_ready(p->sup, p);
	return 0;
}

static int act_refused(void *self, const void *ev)
{
	struct process *p = self;

	log_ev(LOG_L_ERROR, "child.cannot.serve", KC("process", p->name),
	       KE((const struct err *)ev));
	supervisor_process_failed(p->sup, p);
	return 0;
}

static int act_kill(void *self, const void *ev)
{
	struct process *p = self;

	UNUSED(ev);
	log_ev(LOG_L_ERROR, "child.killed", KC("process", p->name), KI("pid", p->pid),
	       KC("state", fsm_state_name(&p->f)));
	if (p->pid > 0 && !p->reaped)
		kill(p->pid, SIGKILL);
	return 0;
}

static void describe_end(struct process *p)
{
	int st = p->wait_status;

	if (*p->error)
		return;
	if (WIFSIGNALED(st))
		snprintf(p->error, sizeof(p->error), "ended by signal %d", WTERMSIG(st));
	else
		snprintf(p->error, sizeof(p->error), "ended with status %d", WEXITSTATUS(st));
}

static int act_ended(void *self, const void *ev)
{
	struct process *p = self;

	UNUSED(ev);
	describe_end(p);
	log_ev(LOG_L_ERROR, "child.ended", KC("process", p->name), KC("why", p->error),
	       KU("restart_in_ms", p->backoff_ms));
	supervisor_process_failed(p->sup, p);
	return 0;
}

static int act_ask_stop(void *self, const void *ev)
{
	struct process *p = self;

	UNUSED(ev);
	if (send_msg(p, json_pack("{s:I,s:s}", "id", (json_int_t)++p->last_id, "command", "stop")) <
		    0 &&
	    p->pid > 0)
		kill(p->pid, SIGTERM);
	return 0;
}

static int act_stable(void *self, const void *ev)
{
	UNUSED(ev);
	((struct process *)self)->backoff_ms = 0;
	return 0;
}

static int act_gone(void *self, const void *ev)
{
	struct process *p = self;

	UNUSED(ev);
	log_ev(LOG_L_INFO, "child.gone", KC("process", p->name));
	supervisor_process_gone(p->sup);
	return 0;
}

/* ---- from outside ---- */

void process_init(struct process *p, struct supervisor *sup, const char *name, enum config_who who)
{
	*p = (struct process){ .sup = sup, .name = name, .who = who };
	p->short_name = strchr(name, '-') + 1;
	buf_init(&p->in, FRAME_CHILD_MAX + 4);
	list_init(&p->asks);
	fsm_init(&p->f, &child_fsm);
}

void process_start(struct process *p)
{
	fsm_event(&p->f, START, NULL);
}

void process_stop(struct process *p)
{
	if (!process_gone(p))
		fsm_event(&p->f, STOP, NULL);
}

void process_restart(struct process *p)
{
	fsm_event(&p->f, RESTART, NULL);
}

bool process_ready(const struct process *p)
{
	return p->f.state == READY;
}

bool process_gone(const struct process *p)
{
	return p->f.state == GONE;
}

void process_free(struct process *p)
{
	loop_timer_clear(&p->timer);
	json_decref(p->listen);
	json_decref(p->need_restart);
	frame_buf_free(&p->in);
}
