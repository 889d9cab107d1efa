/* child.c - a child's end of the socketpair: configuration, requests, the end. See child.h.
 *
 * Answers may come from any thread. They are encoded there, appended to one queue under a lock, and
 * a pipe wakes the control loop, which writes them out. This is the control path: no stanza passes
 * here. */
#include "appliance/child/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/list.h"
#include "appliance/base/log.h"
#include "appliance/child/args.h"
#include "appliance/child/frame.h"
#include "appliance/child/jail.h"
#include "appliance/child/signals.h"
#include "appliance/loop/conn.h"

#define OUT_MAX_OCTETS   (32u << 20)
#define EVENT_MAX_OCTETS (1u << 20) /* more waiting than this: events are dropped */
#define CONFIG_WAIT_MS   30000
#define FLUSH_WAIT_MS    2000

struct child_req {
	struct list node;
	struct child *c;
	uint64_t id;
	json_t *msg; /* holds args */
	_Atomic bool cancelled;
};

struct child {
	const struct child_def *def;
	void *self;
	const struct config *cfg, *first_cfg;
	uint64_t first_id, stop_id;
	bool ready, stopping;
	struct loop *loop;
	struct conn *conn;
	struct buf in;
	struct signals signals;
	struct loop_task first_look;
	int lock_fd;          /* of the state folder */
	pthread_mutex_t lock; /* out, reqs */
	struct buf out;
	struct list reqs;
};

/* ---- sending: any thread
 * ------------------------------------------------------------------------- */

static void send_msg(struct child *c, json_t *msg, bool droppable, int *rc_r)
{
	int rc = msg ? 0 : E_NOMEM;

	pthread_mutex_lock(&c->lock);
	if (rc == 0 && droppable && c->out.n > EVENT_MAX_OCTETS)
		rc = E_CLOSED;
	if (rc == 0)
		rc = frame_put(&c->out, msg, FRAME_CHILD_MAX);
	pthread_mutex_unlock(&c->lock);
	json_decref(msg);
	if (rc == 0)
		signals_wake(&c->signals);
	if (rc_r)
		*rc_r = rc;
}

static void answer(struct child *c, uint64_t id, json_t *msg)
{
	int rc;

	send_msg(c, msg, false, &rc);
	if (rc < 0) {
		log_ev(LOG_L_ERROR, "child.answer.lost", KU("id", id), KC("code", e_name(rc)));
		send_msg(c, frame_error(id, rc, "the answer is too large"), false, NULL);
	}
}

static void req_end(struct child_req *r)
{
	pthread_mutex_lock(&r->c->lock);
	list_remove(&r->node);
	pthread_mutex_unlock(&r->c->lock);
	json_decref(r->msg);
	free(r);
}

void child_answer(struct child_req *r, json_t *result)
{
	answer(r->c, r->id, frame_result(r->id, result));
	req_end(r);
}

void child_fail(struct child_req *r, int code, const char *fmt, ...)
{
	struct err e;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&e, code, NULL, fmt, ap);
	va_end(ap);
	answer(r->c, r->id, frame_error(r->id, code, e.text));
	req_end(r);
}

int child_event(struct child_req *r, json_t *event)
{
	int rc;

	if (atomic_load_explicit(&r->cancelled, memory_order_relaxed)) {
		json_decref(event);
		return E_CLOSED;
	}
	send_msg(r->c, json_pack("{s:I,s:o}", "id", (json_int_t)r->id, "event", event), true, &rc);
	return rc;
}

bool child_cancelled(const struct child_req *r)
{
	return atomic_load_explicit(&r->cancelled, memory_order_relaxed);
}

/* ---- the loop's side
 * --------------------------------------------------------------------------------- */

static void stop(struct child *c)
{
	if (c->stopping)
		return;
	c->stopping = true;
	log_ev(LOG_L_NOTICE, "child.stopping");
	c->def->stop(c->self);
}

static void flush_out(struct child *c)
{
	pthread_mutex_lock(&c->lock);
	/* E_LIMIT: tandemd does not read; on_drained comes back here. */
	if (c->out.n && (!c->conn || conn_write(c->conn, buf_sl(&c->out)) == 0))
		frame_buf_free(&c->out);
	pthread_mutex_unlock(&c->lock);
}

static void on_signals(void *arg, bool term, bool hup, bool chld)
{
	struct child *c = arg;

	UNUSED(hup);
	UNUSED(chld);
	flush_out(c);
	if (term)
		stop(c);
}

struct changes {
	json_t *applied, *restart;
};

static void add_applied(void *arg, const char *key, bool restart)
{
	if (!restart)
		json_array_append_new(((struct changes *)arg)->applied, json_string(key));
}

static void add_restart(void *arg, const char *key, bool restart)
{
	if (restart)
		json_array_append_new(((struct changes *)arg)->restart, json_string(key));
}

struct child_settle {
	struct child_req *r;
	struct changes ch;
};

void child_settled(struct child_settle *s, int rc)
{
	if (rc < 0) {
		json_decref(s->ch.applied);
		json_decref(s->ch.restart);
		log_ev(LOG_L_ERROR, "config.unsettled", KC("err", e_name(rc)));
		child_fail(s->r, rc, "the configuration is right, but could not be applied: %s",
			   e_name(rc));
	} else {
		child_answer(s->r, json_pack("{s:o,s:o}", "applied", s->ch.applied, "restart",
					     s->ch.restart));
	}
	free(s);
}

static void answer_reload(struct child *c, struct child_req *r, struct changes ch)
{
	struct child_settle *s = malloc(sizeof(*s));

	if (!s) {
		json_decref(ch.applied);
		json_decref(ch.restart);
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	*s = (struct child_settle){ r, ch };
	if (c->def->settle)
		c->def->settle(c->self, s);
	else
		child_settled(s, 0);
}

/* What needs a restart is compared with what the process started with, not with the last reload. */
static void reload(struct child *c, struct child_req *r, const json_t *args)
{
	struct changes ch = { json_array(), json_array() };
	const struct config *now;
	struct err e = { 0, NULL, "" };
	int rc = config_from_json(args, c->def->who, &now, &e);

	if (rc == 0) {
		rc = c->def->reload(c->self, config_ref(now), &e);
		if (rc < 0)
			config_unref(&now);
	}
	if (rc < 0) {
		json_decref(ch.applied);
		json_decref(ch.restart);
		log_ev(LOG_L_ERROR, "config.refused", KE(&e));
		child_fail(r, rc, "%s", e.text);
		return;
	}
	config_compare(c->cfg, now, c->def->who, add_applied, &ch);
	config_compare(c->first_cfg, now, c->def->who, add_restart, &ch);
	if (now->log_level != c->cfg->log_level)
		log_set_level((enum log_level)now->log_level);
	log_ev(LOG_L_NOTICE, "config.applied", KU("generation", now->generation),
	       KU("changes", json_array_size(ch.applied)),
	       KU("need_restart", json_array_size(ch.restart)));
	config_unref(&c->cfg);
	c->cfg = now;
	answer_reload(c, r, ch);
}

int child_args(struct child_req *r, const struct child_arg *a, size_t n)
{
	struct err e = { 0, NULL, "" };
	int rc = args_take(json_object_get(r->msg, "args"), a, n, &e);

	if (rc < 0)
		child_fail(r, rc, "%s", e.text);
	return rc;
}

static void set_log_level(struct child_req *r)
{
	struct sl name = SL_NULL;
	const struct child_arg a[] = { { "level", CHILD_STR, false, 10, &name } };
	enum log_level l = log_get_level();

	if (child_args(r, a, ARRAY_LEN(a)) < 0)
		return;
	if (name.n && log_level_parse(name, &l) < 0) {
		child_fail(r, E_SYNTAX, "level: error, warn, notice, info or debug");
		return;
	}
	log_set_level(l);
	child_answer(r, json_pack("{s:s}", "level", log_level_name(l)));
}

static void dispatch(struct child *c, struct child_req *r, const char *command, json_t *args)
{
	if (strcmp(command, "config") == 0) {
		reload(c, r, args);
		return;
	}
	if (strcmp(command, "log.level") == 0) {
		set_log_level(r);
		return;
	}
	for (const struct child_command *k = c->def->commands; k && k->name; k++)
		if (strcmp(k->name, command) == 0) {
			k->handle(c->self, r, args);
			return;
		}
	child_fail(r, E_UNSUPPORTED, "%s does not know the command %.60s", c->def->name, command);
}

/* Takes msg. */
static void on_request(struct child *c, json_t *msg)
{
	const char *command = json_string_value(json_object_get(msg, "command"));
	json_t *args = json_object_get(msg, "args");
	uint64_t id = frame_id(msg);

	if (strcmp(command, "stop") == 0) {
		c->stop_id = id;
		json_decref(msg);
		stop(c);
		return;
	}
	if (!args) {
		args = json_object();
		json_object_set_new(msg, "args", args);
	}
	struct child_req *r = json_is_object(args) ? calloc(1, sizeof(*r)) : NULL;
	if (!r) {
		answer(c, id, frame_error(id, E_SYNTAX, "args must be an object"));
		json_decref(msg);
		return;
	}
	r->c = c;
	r->id = id;
	r->msg = msg; /* all of it: another thread may drop the last reference at any time */
	pthread_mutex_lock(&c->lock);
	list_init(&r->node);
	list_append(&c->reqs, &r->node);
	pthread_mutex_unlock(&c->lock);
	dispatch(c, r, command, args);
}

static void on_cancel(struct child *c, uint64_t id)
{
	pthread_mutex_lock(&c->lock);
	LIST_FOREACH(n, next, &c->reqs)
	{
		struct child_req *r = LIST_ENTRY(n, struct child_req, node);
		if (r->id == id)
			atomic_store_explicit(&r->cancelled, true, memory_order_relaxed);
	}
	pthread_mutex_unlock(&c->lock);
}

/* Takes msg. */
static void on_msg(struct child *c, json_t *msg)
{
	const json_t *cancel = json_object_get(msg, "cancel");

	if (!cancel && frame_id(msg) && json_is_string(json_object_get(msg, "command"))) {
		on_request(c, msg);
		return;
	}
	if (cancel)
		on_cancel(c, (uint64_t)json_integer_value(cancel));
	else
		log_ev(LOG_L_ERROR, "child.message.strange");
	json_decref(msg);
}

static void take_msgs(struct child *c)
{
	struct err e;
	json_t *msg;
	int rc;

	while ((rc = frame_take(&c->in, FRAME_CHILD_MAX, &msg, &e)) > 0)
		on_msg(c, msg);
	if (rc < 0) {
		log_ev(LOG_L_ERROR, "child.frame.bad", KE(&e));
		if (c->conn)
			conn_kill(c->conn);
	}
}

static void on_data(void *self, struct sl data)
{
	struct child *c = self;

	if (buf_add(&c->in, data) < 0) {
		log_ev(LOG_L_ERROR, "child.frame.toobig");
		conn_kill(c->conn);
		return;
	}
	take_msgs(c);
}

static void on_drained(void *self)
{
	flush_out(self);
}

static void on_closed(void *self, const struct err *why)
{
	struct child *c = self;

	UNUSED(why);
	c->conn = NULL;
	if (!c->stopping)
		log_ev(LOG_L_WARN, "child.orphaned");
	stop(c);
}

static const struct conn_ops ops = {
	.on_data = on_data,
	.on_drained = on_drained,
	.on_closed = on_closed,
};

/* ---- start
 * ---------------------------------------------------------------------------------------------- */

/* The first frame, with the loop not there yet. */
static int wait_config(struct child *c, json_t **msg_r, struct err *e)
{
	char chunk[4096];
	int rc;

	while ((rc = frame_take(&c->in, FRAME_CHILD_MAX, msg_r, e)) == 0) {
		struct pollfd p = { .fd = CHILD_FD, .events = POLLIN };
		int n = poll(&p, 1, CONFIG_WAIT_MS);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return err_set(e, E_TIMEOUT, NULL, "no configuration from tandemd");
		ssize_t got = read(CHILD_FD, chunk, sizeof(chunk));
		if (got <= 0)
			return err_set(e, E_CLOSED, NULL, "tandemd has gone");
		rc = buf_add(&c->in, sl_mk(chunk, (size_t)got));
		wipe(chunk, sizeof(chunk));
		if (rc < 0)
			return err_set(e, rc, NULL, "configuration too large");
	}
	return rc < 0 ? rc : 0;
}

static int first_config(struct child *c, json_t *msg, struct err *e)
{
	const char *command = json_string_value(json_object_get(msg, "command"));
	int rc;

	c->first_id = frame_id(msg);
	if (!command || strcmp(command, "config") != 0 || c->first_id == 0)
		return err_set(e, E_STATE, NULL, "the first request is not a configuration");
	rc = config_from_json(json_object_get(msg, "args"), c->def->who, &c->cfg, e);
	if (rc < 0)
		return rc;
	c->first_cfg = config_ref(c->cfg);
	return 0;
}

static int check_fd(const char *name, struct err *e)
{
	int type;
	socklen_t n = sizeof(type);

	if (getsockopt(CHILD_FD, SOL_SOCKET, SO_TYPE, &type, &n) < 0)
		return err_set(e, E_STATE, NULL,
			       "%s is not meant to be started by hand: tandemd starts it", name);
	fcntl(CHILD_FD, F_SETFD, FD_CLOEXEC);
	return 0;
}

static struct child *child_new(const struct child_def *def, void *self)
{
	struct child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->def = def;
	c->self = self;
	c->lock_fd = -1;
	buf_init(&c->in, FRAME_CHILD_MAX + 4);
	buf_init(&c->out, OUT_MAX_OCTETS);
	list_init(&c->reqs);
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

/* As many descriptors as we may have: the usual limit (1024) is the one of a program for people. */
static void raise_fd_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur != r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r); /* if that fails, fewer have to do */
	}
}

int child_start(const struct child_def *def, void *self, struct child **c_r, struct err *e)
{
	struct child *c;
	json_t *msg = NULL;
	int rc;

	frame_init();
	log_open(def->name, false);
	raise_fd_limit();
	rc = check_fd(def->name, e);
	if (rc < 0)
		return rc;
	c = child_new(def, self);
	if (!c)
		return err_set(e, E_NOMEM, NULL, "out of memory");
	rc = signals_open(&c->signals, SIGNALS_CHILD, e);
	if (rc == 0)
		rc = wait_config(c, &msg, e);
	if (rc == 0)
		rc = first_config(c, msg, e);
	if (rc == 0)
		rc = jail_lock(c->cfg, def->who, &c->lock_fd, e);
	json_decref(msg);
	if (rc < 0) {
		child_failed(c, e);
		child_free(&c);
		return rc;
	}
	if (c->cfg->syslog)
		log_open(def->name, true);
	log_set_level((enum log_level)c->cfg->log_level);
	*c_r = c;
	return 0;
}

const struct config *child_config(const struct child *c)
{
	return c->cfg;
}

static void look(struct loop_task *t)
{
	take_msgs(container_of(t, struct child, first_look));
}

int child_attach(struct child *c, struct loop *l, struct err *e)
{
	int rc = signals_attach(&c->signals, l, on_signals, c, e);

	if (rc == 0)
		rc = conn_new(l, CHILD_FD, &ops, c, OUT_MAX_OCTETS, &c->conn, e);
	if (rc < 0)
		return rc;
	c->loop = l;
	/* What came behind the configuration is looked at when the loop runs, not before. */
	loop_defer(l, &c->first_look, look);
	return 0;
}

void child_ready(struct child *c, json_t *listen)
{
	json_t *result = json_object();

	c->ready = true;
	json_object_set_new(result, "listen", listen ? listen : json_array());
	answer(c, c->first_id, frame_result(c->first_id, result));
	log_ev(LOG_L_NOTICE, "child.ready");
}

/* Everything that waits, before it returns: through the connection where there is one, or straight
 * to the descriptor. Gives up after FLUSH_WAIT_MS without progress: tandemd may be the one that
 * hangs. */
static void write_out(struct child *c)
{
	uint64_t until = clock_mono_ms() + FLUSH_WAIT_MS;

	while (c->conn && (c->out.n || conn_output_octets(c->conn)) && clock_mono_ms() < until) {
		flush_out(c);
		loop_turn(c->loop, 10);
	}
	while (!c->loop && c->out.n) {
		struct pollfd p = { .fd = CHILD_FD, .events = POLLOUT };
		struct sl s = buf_sl(&c->out);
		if (poll(&p, 1, FLUSH_WAIT_MS) <= 0)
			return;
		ssize_t n = send(CHILD_FD, s.p, s.n, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return;
		if (n > 0)
			buf_consume(&c->out, (size_t)n);
	}
}

void child_failed(struct child *c, const struct err *why)
{
	log_ev(LOG_L_ERROR, "child.failed", KE(why));
	if (c->ready || c->first_id == 0)
		return;
	answer(c, c->first_id, frame_error(c->first_id, why->code, why->text));
	write_out(c);
}

void child_free(struct child **cp)
{
	struct child *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	/* This answer says that everything is committed. */
	if (c->stop_id)
		answer(c, c->stop_id, frame_result(c->stop_id, NULL));
	write_out(c);
	c->stopping = true;
	if (c->conn)
		conn_kill(c->conn);
	while (c->conn)
		loop_turn(c->loop, 10);
	loop_task_clear(&c->first_look);
	signals_close(&c->signals);
	/* Requests that were never answered: their handlers are gone with the loop. */
	for (struct list *n; (n = list_pop(&c->reqs)) != NULL;) {
		struct child_req *r = LIST_ENTRY(n, struct child_req, node);
		json_decref(r->msg);
		free(r);
	}
	config_unref(&c->cfg);
	config_unref(&c->first_cfg);
	frame_buf_free(&c->in);
	frame_buf_free(&c->out);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
