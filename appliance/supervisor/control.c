/* control.c - the control socket: connections, frames, requests. See control.h.
 *
 * A peer that breaks the rules gets an error message and is closed; one that does not read is
 * closed; none of them can hold tandemd up. */
#include "appliance/supervisor/control.h"

#include <grp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/base/log.h"
#include "appliance/child/frame.h"

#define CONNS_MAX      32u
#define JOBS_MAX       64u
#define OUT_MAX_OCTETS (4u << 20)
#define IDLE_MS        600000u
#define LINGER_MS      2000u

struct control_conn {
	struct list node;
	struct supervisor *s;
	struct conn *conn;
	struct buf in;
	struct list jobs;
	unsigned njobs;
	struct loop_timer idle;
	bool closing;
};

/* ---- connections ---- */

static void on_idle(struct loop_timer *t)
{
	conn_close(container_of(t, struct control_conn, idle)->conn, LINGER_MS);
}

static void conn_touch(struct control_conn *cc)
{
	if (cc->njobs)
		loop_timer_clear(&cc->idle);
	else if (!cc->closing)
		loop_timer_set(cc->s->loop, &cc->idle, IDLE_MS, on_idle);
}

static void send_msg(struct control_conn *cc, json_t *msg)
{
	struct buf b;
	int rc;

	buf_init(&b, FRAME_CONTROL_MAX + 4);
	rc = msg ? frame_put(&b, msg, FRAME_CONTROL_MAX) : E_NOMEM;
	if (rc < 0 && msg) {
		json_t *sorry =
			frame_error(frame_id(msg), rc, "the answer is too large: ask for less");
		if (sorry)
			rc = frame_put(&b, sorry, FRAME_CONTROL_MAX);
		json_decref(sorry);
	}
	if (rc == 0)
		rc = conn_write(cc->conn, buf_sl(&b));
	json_decref(msg);
	frame_buf_free(&b);
	if (rc < 0) {
		log_ev(LOG_L_WARN, "control.closed", KC("why", "does not read its answers"));
		conn_kill(cc->conn);
	}
}

/* Say why, then close: the peer does not speak our language. */
static void hang_up(struct control_conn *cc, int code, const char *text)
{
	if (cc->closing)
		return;
	log_ev(LOG_L_WARN, "control.refused", KC("code", e_name(code)), KC("why", text));
	send_msg(cc, frame_error(0, code, text));
	cc->closing = true;
	loop_timer_clear(&cc->idle);
	conn_close(cc->conn, LINGER_MS);
}

/* ---- jobs ---- */

static void job_end(struct job *j)
{
	struct control_conn *cc = j->conn;

	list_remove(&j->node);
	if (cc) {
		cc->njobs--;
		conn_touch(cc);
	}
	json_decref(j->msg);
	json_decref(j->acc);
	free(j);
}

void job_result(struct job *j, json_t *result)
{
	if (j->conn)
		send_msg(j->conn, frame_result(j->id, result));
	else
		json_decref(result);
	job_end(j);
}

void job_fail(struct job *j, int code, const char *fmt, ...)
{
	struct err e;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&e, code, NULL, fmt, ap);
	va_end(ap);
	if (j->conn)
		send_msg(j->conn, frame_error(j->id, code, e.text));
	job_end(j);
}

void job_fail_done(struct job *j, const struct err *why, json_t *done, const char *text)
{
	struct err all;
	json_t *msg;

	err_set(&all, why->code, why->clause, "%s: %s", text, why->text);
	msg = frame_error(j->id, why->code, all.text);
	if (msg)
		json_object_set_new(json_object_get(msg, "error"), "done", done);
	else
		json_decref(done);
	if (j->conn)
		send_msg(j->conn, msg);
	else
		json_decref(msg);
	job_end(j);
}

void job_event(struct job *j, json_t *event)
{
	if (j->conn && !j->conn->closing)
		send_msg(j->conn, json_pack("{s:I,s:o}", "id", (json_int_t)j->id, "event", event));
	else
		json_decref(event);
}

struct process *supervisor_process(struct supervisor *s, enum config_who who)
{
	for (int i = 0; i < s->nprocesses; i++)
		if (s->process[i].who == who)
			return &s->process[i];
	return NULL;
}

int job_ask(struct job *j, enum config_who who, const char *command, json_t *args,
	    void (*done)(void *, const json_t *, const struct err *))
{
	struct err why = { 0, NULL, "" };
	struct process *p = supervisor_process(j->s, who);

	if (!p) {
		json_decref(args);
		err_set(&why, E_UNSUPPORTED, NULL, "this build has no SMS translator");
	} else if (process_ask(p, command, args, j->cmd->wait_ms, done, NULL, j, &why)) {
		return 0;
	}
	done(j, NULL, &why);
	return why.code;
}

static void forwarded(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;

	if (why)
		job_fail(j, why->code, "%s", why->text);
	else
		job_result(j, json_incref((json_t *)(uintptr_t)result));
}

static void job_run(struct job *j)
{
	job_handler_fn h = handler_find(j->cmd);

	if (h)
		h(j);
	else if (j->cmd->child)
		job_ask(j, j->cmd->target == CMD_CORE ? CONFIG_CORE : CONFIG_SMS, j->cmd->child,
			json_incref(j->args), forwarded);
	else
		job_fail(j, E_UNSUPPORTED, "%s is not a command for tandemd", j->cmd->name);
}

static void job_cancel(struct job *j)
{
	if (j->cancelled || !j->on_cancel)
		return;
	j->cancelled = true;
	j->on_cancel(j);
}

/* ---- messages ---- */

static void refuse_request(struct control_conn *cc, uint64_t id, int code, const char *fmt,
			   const char *arg)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%.150s", fmt, arg);
	send_msg(cc, frame_error(id, code, text));
}

static struct job *job_new(struct control_conn *cc, json_t *msg, const struct command *cmd)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->conn = cc;
	j->s = cc->s;
	j->id = frame_id(msg);
	j->cmd = cmd;
	j->msg = json_incref(msg);
	j->args = json_object_get(msg, "args");
	list_init(&j->node);
	list_append(&cc->jobs, &j->node);
	cc->njobs++;
	conn_touch(cc);
	return j;
}

static void on_request(struct control_conn *cc, json_t *msg, const char *name)
{
	const struct command *cmd = command_find(sl_cstr(name));
	struct err e = { 0, NULL, "" };
	uint64_t id = frame_id(msg);
	json_t *args = json_object_get(msg, "args");
	struct job *j;

	cc->s->count.requests++;
	if (!cmd || cmd->target == CMD_LOCAL) {
		refuse_request(cc, id, E_UNSUPPORTED, "unknown command: ", name);
		return;
	}
	if (!args) {
		args = json_object();
		json_object_set_new(msg, "args", args);
	}
	if (!json_is_object(args)) {
		refuse_request(cc, id, E_SYNTAX, "args must be an object", "");
		return;
	}
	if (command_check(cmd, args, &e) < 0) {
		refuse_request(cc, id, e.code, "", e.text);
		return;
	}
	LIST_FOREACH(n, next, &cc->jobs)
		if (LIST_ENTRY(n, struct job, node)->id == id) {
			refuse_request(cc, id, E_EXISTS, "this id is in use", "");
			return;
		}
	j = cc->njobs < JOBS_MAX ? job_new(cc, msg, cmd) : NULL;
	if (!j) {
		refuse_request(cc, id, E_LIMIT, "too many open requests", "");
		return;
	}
	log_ev(LOG_L_INFO, "control.request", KC("command", cmd->name));
	job_run(j);
}

static void on_cancel(struct control_conn *cc, uint64_t id)
{
	LIST_FOREACH(n, next, &cc->jobs) {
		struct job *j = LIST_ENTRY(n, struct job, node);
		if (j->id == id) {
			job_cancel(j);
			return;
		}
	}
}

static void on_msg(struct control_conn *cc, json_t *msg)
{
	const char *name = json_string_value(json_object_get(msg, "command"));
	const json_t *cancel = json_object_get(msg, "cancel");

	if (json_is_integer(cancel))
		on_cancel(cc, (uint64_t)json_integer_value(cancel));
	else if (name && frame_id(msg))
		on_request(cc, msg, name);
	else
		hang_up(cc, E_SYNTAX, "a request has an id (a positive integer) and a command");
}

static void on_data(void *self, struct sl data)
{
	struct control_conn *cc = self;
	struct err e = { 0, NULL, "" };
	json_t *msg;
	int rc = 1;

	if (cc->closing)
		return;
	while (data.n && rc >= 0 && !cc->closing) {
		/* No more than one frame is kept, however much came at once. */
		size_t room = cc->in.max - cc->in.n;
		struct sl part = sl_sub(data, 0, room);
		rc = buf_add(&cc->in, part);
		data = sl_sub(data, part.n, data.n);
		while (rc >= 0 && !cc->closing &&
		       (rc = frame_take(&cc->in, FRAME_CONTROL_MAX, &msg, &e)) > 0) {
			on_msg(cc, msg);
			json_decref(msg);
		}
	}
	conn_touch(cc);
	if (rc < 0) {
		cc->s->count.bad_frames++;
		hang_up(cc, rc, rc == E_NOMEM ? "out of memory" : e.text);
	}
}

static void on_closed(void *self, const struct err *why)
{
	struct control_conn *cc = self;

	UNUSED(why);
	loop_timer_clear(&cc->idle);
	for (struct list *n; (n = list_pop(&cc->jobs)) != NULL;) {
		struct job *j = LIST_ENTRY(n, struct job, node);
		j->conn = NULL;
		job_cancel(j);
	}
	list_remove(&cc->node);
	cc->s->nconns--;
	frame_buf_free(&cc->in);
	free(cc);
}

static const struct conn_ops ops = { .on_data = on_data, .on_closed = on_closed };

/* ---- the socket ---- */

static void refuse_conn(struct supervisor *s, int fd)
{
	struct buf b;
	json_t *msg = frame_error(0, E_LIMIT, "too many control connections");

	s->count.refused_connections++;
	buf_init(&b, 4096);
	if (msg && frame_put(&b, msg, FRAME_CONTROL_MAX) == 0) {
		ssize_t ignored = write(fd, buf_sl(&b).p, b.n); /* fits into the socket's buffer */
		UNUSED(ignored);
	}
	json_decref(msg);
	buf_free(&b);
	close(fd);
}

static void on_accept(void *arg, int fd)
{
	struct supervisor *s = arg;
	struct err e = { 0, NULL, "" };
	struct control_conn *cc;

	s->count.connections++;
	if (s->nconns >= CONNS_MAX) {
		refuse_conn(s, fd);
		return;
	}
	cc = calloc(1, sizeof(*cc));
	if (!cc) {
		close(fd);
		return;
	}
	cc->s = s;
	buf_init(&cc->in, FRAME_CONTROL_MAX + 4);
	list_init(&cc->jobs);
	list_init(&cc->node);
	if (conn_new(s->loop, fd, &ops, cc, OUT_MAX_OCTETS, &cc->conn, &e) < 0) {
		log_ev(LOG_L_WARN, "control.refused", KE(&e));
		free(cc);
		return;
	}
	list_append(&s->conns, &cc->node);
	s->nconns++;
	conn_touch(cc);
}

/* The folder of the socket, when it is missing: /run is empty after a boot. */
static void make_folder(const char *socket_path)
{
	char dir[128];
	const char *slash = strrchr(socket_path, '/');

	if (slash &&
	    sl_to_cstr(sl_mk(socket_path, (size_t)(slash - socket_path)), dir, sizeof(dir)) == 0 &&
	    *dir)
		mkdir(dir, 0755); /* if that fails, listening says why */
}

int control_open(struct supervisor *s, struct err *e)
{
	const char *path = s->cfg->control_socket.p, *group = s->cfg->control_group.p;
	const struct group *gr = *group ? getgrnam(group) : NULL;
	struct err why = { 0, NULL, "" };
	int rc;

	if (*group && !gr)
		return err_set(e, E_NOTFOUND, NULL, "control_group: there is no group %s", group);
	make_folder(path);
	rc = listener_new_unix(s->loop, path, gr ? 0660 : 0600, on_accept, s, &s->listener, &why);
	if (rc < 0)
		err_set(e, rc, why.clause, "%s%s", why.text,
			rc == E_EXISTS ? ": a tandemd with this control_socket; see it with "
					 "tandemctl status, end it with tandemctl stop"
				       : "");
	if (rc == 0 && gr && chown(path, (uid_t)-1, gr->gr_gid) < 0)
		rc = err_errno(e, E_IO, "cannot give %.100s to group %.40s", path, group);
	return rc;
}

void control_close(struct supervisor *s)
{
	if (!s->listener)
		return;
	listener_free(&s->listener);
	unlink(s->cfg->control_socket.p);
	LIST_FOREACH(n, next, &s->conns)
		conn_close(LIST_ENTRY(n, struct control_conn, node)->conn, 500);
	while (!list_empty(&s->conns))
		loop_turn(s->loop, 50);
}
