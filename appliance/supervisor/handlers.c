/* handlers.c - the commands that tandemd does itself, or by asking several processes. See
 * control.h.
 *
 * Commands with two parts do the one first whose failure leaves nothing behind. */
#include "appliance/supervisor/control.h"

#include <unistd.h>

#include "appliance/base/log.h"
#include "generated/version.h"

static const char *str(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* An object with those members of args that are there. */
static json_t *pick(const json_t *args, const char *const *keys)
{
	json_t *o = json_object();

	for (; *keys; keys++) {
		json_t *v = json_object_get(args, *keys);
		if (v)
			json_object_set(o, *keys, v);
	}
	return o;
}

#define PICK(args, ...) pick(args, (const char *const[]){ __VA_ARGS__, NULL })

static json_t *copy(const json_t *v)
{
	return json_deep_copy(v);
}

/* ---- user add: the account, then its number ---- */

static void user_number_set(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;

	if (why) {
		job_fail_done(j, why, json_pack("{s:O}", "jid", json_object_get(j->acc, "jid")),
			      "the account was made, but it has no number");
		return;
	}
	json_object_set(j->acc, "number", json_object_get(result, "number"));
	job_result(j, json_incref(j->acc));
}

static void user_added(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;
	json_t *number = json_object_get(j->args, "number");

	if (why) {
		job_fail(j, why->code, "%s", why->text);
		return;
	}
	j->acc = copy(result);
	if (!number) {
		job_result(j, json_incref(j->acc));
		return;
	}
	job_ask(j, CONFIG_SMS, "number.set",
		json_pack("{s:O,s:O}", "jid", json_object_get(result, "jid"), "number", number),
		user_number_set);
}

static void user_add(struct job *j)
{
	if (!str(j->args, "password") == !json_object_get(j->args, "verifiers")) {
		job_fail(j, E_SYNTAX, "either password or verifiers must be there");
		return;
	}
	/* Do not make half of it when the other half is not possible anyway. */
	struct process *sms = supervisor_process(j->s, CONFIG_SMS);
	if (json_object_get(j->args, "number") && !(sms && process_ready(sms))) {
		job_fail(j, sms ? E_CLOSED : E_UNSUPPORTED,
			 "%s: no account was made, because its number could not be set",
			 sms ? "tandem-sms is not running" : "this build has no SMS translator");
		return;
	}
	job_ask(j, CONFIG_CORE, "user.add", PICK(j->args, "jid", "password", "verifiers"),
		user_added);
}

/* ---- user delete: the numbers, then the account ---- */

static void user_deleted(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;

	if (why && json_integer_value(json_object_get(j->acc, "numbers")) > 0) {
		job_fail_done(j, why, copy(j->acc),
			      "its numbers were taken away, but the account was not deleted");
		return;
	}
	if (why) {
		job_fail(j, why->code, "%s", why->text);
		return;
	}
	json_object_set(j->acc, "jid", json_object_get(result, "jid"));
	job_result(j, json_incref(j->acc));
}

static void user_numbers_cleared(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;

	if (why) {
		job_fail(j, why->code, "nothing was deleted: %s", why->text);
		return;
	}
	j->acc = copy(result);
	job_ask(j, CONFIG_CORE, "user.delete", PICK(j->args, "jid"), user_deleted);
}

static void user_delete(struct job *j)
{
	if (!supervisor_process(j->s, CONFIG_SMS)) { /* so there are no numbers */
		j->acc = json_pack("{s:i}", "numbers", 0);
		job_ask(j, CONFIG_CORE, "user.delete", PICK(j->args, "jid"), user_deleted);
		return;
	}
	job_ask(j, CONFIG_SMS, "number.clear", PICK(j->args, "jid"), user_numbers_cleared);
}

/* ---- user number: is there such an account? then the number ---- */

static void number_done(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;

	if (why)
		job_fail(j, why->code, "%s", why->text);
	else
		job_result(j, copy(result));
}

static void number_account_known(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;
	const char *number = str(j->args, "number");
	json_t *args;

	if (why) {
		job_fail(j, why->code, "%s", why->text);
		return;
	}
	args = *number ? PICK(j->args, "number", "link") : json_object();
	json_object_set(args, "jid", json_object_get(result, "jid"));
	job_ask(j, CONFIG_SMS, *number ? "number.set" : "number.clear", args, number_done);
}

static void user_number(struct job *j)
{
	job_ask(j, CONFIG_CORE, "user.get", PICK(j->args, "jid"), number_account_known);
}

/* ---- user list: accounts, with their numbers beside them ---- */

static void list_numbers(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;
	json_t *users = json_object_get(j->acc, "users"), *u, *n;
	size_t i, k;

	/* Without tandem-sms the accounts are still worth showing. */
	json_array_foreach(users, i, u)
	{
		json_t *mine = json_array();
		json_array_foreach(
			json_object_get(result, "numbers"), k,
			n) if (json_equal(json_object_get(n, "jid"), json_object_get(u, "jid")))
			json_array_append(mine, json_object_get(n, "number"));
		json_object_set_new(u, "numbers", why ? json_null() : mine);
		if (why)
			json_decref(mine);
	}
	job_result(j, json_incref(j->acc));
}

static void list_users(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;
	json_t *jids = json_array(), *u;
	size_t i;

	if (why) {
		json_decref(jids);
		job_fail(j, why->code, "%s", why->text);
		return;
	}
	j->acc = copy(result);
	json_array_foreach(json_object_get(j->acc, "users"), i, u)
		json_array_append(jids, json_object_get(u, "jid"));
	job_ask(j, CONFIG_SMS, "number.get", json_pack("{s:o}", "jids", jids), list_numbers);
}

static void user_list(struct job *j)
{
	json_t *args = PICK(j->args, "host", "after", "limit");

	if (!json_object_get(args, "limit"))
		json_object_set_new(args, "limit", json_integer(100));
	job_ask(j, CONFIG_CORE, "user.list", args, list_users);
}

/* ---- user import: accounts, then the numbers of those that are there now ---- */

static void import_numbers_set(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;

	if (why) {
		job_fail_done(j, why, copy(j->acc),
			      "accounts were imported, but not their numbers");
		return;
	}
	json_object_set(j->acc, "numbers", json_object_get(result, "added"));
	json_array_extend(json_object_get(j->acc, "refused"), json_object_get(result, "refused"));
	job_result(j, json_incref(j->acc));
}

static bool was_refused(const json_t *refused, const char *jid)
{
	size_t i;
	json_t *r;

	json_array_foreach(refused, i, r)
	{
		const char *other = str(r, "jid");
		if (other && jid && strcmp(other, jid) == 0)
			return true;
	}
	return false;
}

static void import_users_added(void *arg, const json_t *result, const struct err *why)
{
	struct job *j = arg;
	json_t *numbers, *u, *refused;
	size_t i;

	if (why) {
		job_fail(j, why->code, "%s", why->text);
		return;
	}
	j->acc = copy(result);
	refused = json_object_get(j->acc, "refused");
	if (!json_is_array(refused)) {
		refused = json_array();
		json_object_set_new(j->acc, "refused", refused);
	}
	numbers = json_array();
	json_array_foreach(json_object_get(j->args, "users"), i,
			   u) if (json_object_get(u, "number") &&
				  !was_refused(refused, str(u, "jid")))
		json_array_append_new(numbers, PICK(u, "jid", "number"));
	json_object_set_new(j->acc, "numbers", json_integer(0));
	if (json_array_size(numbers) == 0) {
		json_decref(numbers);
		job_result(j, json_incref(j->acc));
		return;
	}
	u = json_pack("{s:o}", "numbers", numbers);
	if (json_is_true(json_object_get(j->args, "replace")))
		json_object_set_new(u, "replace", json_true());
	job_ask(j, CONFIG_SMS, "number.import", u, import_numbers_set);
}

static void user_import(struct job *j)
{
	json_t *users = json_array(), *u, *args;
	size_t i;

	json_array_foreach(json_object_get(j->args, "users"), i, u)
	{
		if (!str(u, "jid")) {
			json_decref(users);
			job_fail(j, E_SYNTAX, "users: member %zu has no jid", i + 1);
			return;
		}
		json_array_append_new(users, PICK(u, "jid", "password", "verifiers"));
	}
	args = json_pack("{s:o}", "users", users);
	if (json_is_true(json_object_get(j->args, "replace")))
		json_object_set_new(args, "replace", json_true());
	job_ask(j, CONFIG_CORE, "user.import", args, import_users_added);
}

/* ---- links ---- */

static void link_enable(struct job *j)
{
	json_t *args = PICK(j->args, "name");

	json_object_set_new(args, "enabled",
			    json_boolean(strcmp(j->cmd->name, "link enable") == 0));
	job_ask(j, CONFIG_SMS, "link.enable", args, number_done);
}

/* ---- status ---- */

static json_t *process_json(const struct process *p)
{
	return json_pack("{s:s,s:i,s:i,s:s,s:I,s:O,s:s}", "name", p->name, "pid", (int)p->pid,
			 "restarts", (int)p->restarts, "state", fsm_state_name(&p->f), "uptime_s",
			 (json_int_t)(process_ready(p)
					      ? (loop_now_ms(p->sup->loop) - p->since_ms) / 1000
					      : 0),
			 "listen", p->listen && process_ready(p) ? p->listen : json_null(), "error",
			 p->error);
}

static json_t *status_json(struct supervisor *s)
{
	json_t *processes = json_array(), *restart = json_object(), *hosts = json_array();
	bool ready = true;

	for (int i = 0; i < s->nprocesses; i++) {
		struct process *p = &s->process[i];
		ready = ready && process_ready(p);
		json_array_append_new(processes, process_json(p));
		if (p->need_restart)
			json_object_set(restart, p->short_name, p->need_restart);
	}
	for (uint32_t i = 0; i < s->cfg->nhost; i++)
		json_array_append_new(hosts, json_string(s->cfg->host[i].name.p));
	return json_pack("{s:s,s:b,s:i,s:I,s:I,s:s,s:o,s:o,s:o}", "version", TANDEM_VERSION,
			 "ready", ready, "pid", (int)getpid(), "uptime_s",
			 (json_int_t)((loop_now_ms(s->loop) - s->started_ms) / 1000), "generation",
			 (json_int_t)s->generation, "config", s->config_path, "hosts", hosts,
			 "restart_needed", restart, "processes", processes);
}

/* An ask of one of several processes: which one answers? */
struct part {
	struct job *j;
	struct process *p;
};

static void fan_in(struct job *j)
{
	if (--j->open == 0)
		job_result(j, json_incref(j->acc));
}

static void status_part(void *arg, const json_t *result, const struct err *why)
{
	struct part *part = arg;

	if (!why)
		json_object_set(part->j->acc, part->p->short_name, (json_t *)(uintptr_t)result);
	fan_in(part->j);
	free(part);
}

static bool process_wanted(const struct job *j, const char *short_name, const char *name)
{
	const char *want = str(j->args, "process");

	return !want || strcmp(want, short_name) == 0 || strcmp(want, name) == 0;
}

/* Ask every process that is ready and wanted. The job has one open part of its own until fan_in. */
static void fan_out(struct job *j, const char *command, const json_t *args, uint32_t wait_ms,
		    void (*done)(void *, const json_t *, const struct err *))
{
	struct err why;

	for (int i = 0; i < j->s->nprocesses; i++) {
		struct process *p = &j->s->process[i];
		struct part *part;
		if (!process_ready(p) || !process_wanted(j, p->short_name, p->name))
			continue;
		part = calloc(1, sizeof(*part));
		if (!part)
			continue;
		part->j = j;
		part->p = p;
		j->open++;
		if (!process_ask(p, command, copy(args), wait_ms, done, NULL, part, &why)) {
			j->open--;
			free(part);
		}
	}
}

static void status(struct job *j)
{
	j->acc = status_json(j->s);
	j->open = 1;
	fan_out(j, "status", NULL, 2000, status_part);
	fan_in(j);
}

/* ---- counters, log-level ---- */

static bool check_process(struct job *j)
{
	bool known = process_wanted(j, "tandemd", "tandemd");

	for (int i = 0; i < j->s->nprocesses; i++)
		known = known ||
			process_wanted(j, j->s->process[i].short_name, j->s->process[i].name);
	if (!known)
		job_fail(j, E_NOTFOUND, "there is no process %.40s: tandemd, core or sms",
			 str(j->args, "process"));
	return known;
}

static void counters_part(void *arg, const json_t *result, const struct err *why)
{
	struct part *part = arg;
	json_t *all = json_object_get(part->j->acc, "counters");

	if (why)
		json_object_set_new(all, part->p->short_name, json_null());
	else
		json_object_set(all, part->p->short_name, (json_t *)(uintptr_t)result);
	fan_in(part->j);
	free(part);
}

static json_t *own_counters(const struct supervisor *s)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "tandemd.control.connections",
			 (json_int_t)s->count.connections, "tandemd.control.refused",
			 (json_int_t)s->count.refused_connections, "tandemd.control.requests",
			 (json_int_t)s->count.requests, "tandemd.control.bad_frames",
			 (json_int_t)s->count.bad_frames, "tandemd.reloads",
			 (json_int_t)s->count.reloads, "tandemd.restarts",
			 (json_int_t)s->count.restarts);
}

static void counters(struct job *j)
{
	json_t *all;

	if (!check_process(j))
		return;
	all = json_object();
	if (process_wanted(j, "tandemd", "tandemd"))
		json_object_set_new(all, "tandemd", own_counters(j->s));
	j->acc = json_pack("{s:o}", "counters", all);
	j->open = 1;
	fan_out(j, "counters", NULL, j->cmd->wait_ms, counters_part);
	fan_in(j);
}

static void level_part(void *arg, const json_t *result, const struct err *why)
{
	struct part *part = arg;
	json_t *all = json_object_get(part->j->acc, "levels");

	if (!why)
		json_object_set(all, part->p->short_name, json_object_get(result, "level"));
	fan_in(part->j);
	free(part);
}

static void log_level(struct job *j)
{
	const char *level = str(j->args, "level");
	enum log_level l = log_get_level();
	json_t *all, *args;

	if (!check_process(j))
		return;
	if (level && log_level_parse(sl_cstr(level), &l) < 0) {
		job_fail(j, E_SYNTAX, "level: error, warn, notice, info or debug");
		return;
	}
	all = json_object();
	if (process_wanted(j, "tandemd", "tandemd")) {
		log_set_level(l);
		json_object_set_new(all, "tandemd", json_string(log_level_name(l)));
	}
	j->acc = json_pack("{s:o}", "levels", all);
	j->open = 1;
	args = PICK(j->args, "level");
	fan_out(j, "log.level", args, j->cmd->wait_ms, level_part);
	json_decref(args);
	fan_in(j);
}

/* ---- trace: both processes, at once, until the time is over or nobody listens ---- */

static void trace_event(struct job *j, int i, json_t *event)
{
	json_t *e = copy(event);

	json_object_set_new(e, "process", json_string(j->s->process[i].short_name));
	job_event(j, e);
}

static void trace_event_0(void *arg, json_t *event)
{
	trace_event(arg, 0, event);
}

static void trace_event_1(void *arg, json_t *event)
{
	trace_event(arg, 1, event);
}

static void trace_done(struct job *j, int i, const json_t *result, const struct err *why)
{
	json_int_t lines = json_integer_value(json_object_get(j->acc, "lines")) +
			   json_integer_value(json_object_get(result, "lines"));

	j->ask[i] = NULL;
	json_object_set_new(j->acc, "lines", json_integer(lines));
	if (why)
		json_object_set_new(j->acc, "error", json_string(why->text));
	if (--j->open > 0)
		return;
	const char *error = str(j->acc, "error");
	if (error && lines == 0 && !j->cancelled)
		job_fail(j, E_CLOSED, "%s", error);
	else
		job_result(j, json_pack("{s:I}", "lines", lines));
}

static void trace_done_0(void *arg, const json_t *result, const struct err *why)
{
	trace_done(arg, 0, result, why);
}

static void trace_done_1(void *arg, const json_t *result, const struct err *why)
{
	trace_done(arg, 1, result, why);
}

static void trace_cancel(struct job *j)
{
	for (int i = 0; i < j->s->nprocesses; i++)
		if (j->ask[i])
			ask_cancel(j->ask[i]);
}

static bool is_number(const char *who)
{
	return *who && strspn(who, "+0123456789") == strlen(who);
}

static void trace(struct job *j)
{
	static void (*const done[])(void *, const json_t *, const struct err *) = { trace_done_0,
										    trace_done_1 };
	static void (*const event[])(void *, json_t *) = { trace_event_0, trace_event_1 };
	json_t *seconds = json_object_get(j->args, "seconds");
	json_int_t n = seconds ? json_integer_value(seconds) : 60;
	const char *who = str(j->args, "who");
	struct err why = { 0, NULL, "" };

	j->acc = json_object();
	j->on_cancel = trace_cancel;
	for (int i = 0; i < j->s->nprocesses; i++) {
		json_t *args = json_pack("{s:s,s:I}", is_number(who) ? "number" : "jid", who,
					 "seconds", n);
		j->ask[i] = process_ask(&j->s->process[i], "trace", args,
					(uint32_t)(n * 1000 + 10000), done[i], event[i], j, &why);
		if (j->ask[i])
			j->open++;
	}
	if (j->open == 0)
		job_fail(j, why.code, "%s", why.text);
}

/* ---- reload, restart, stop, help ---- */

static void reload_done(void *arg, struct reload_result *r)
{
	struct job *j = arg;
	json_t *done = json_pack("{s:I,s:O,s:O}", "generation", (json_int_t)j->s->generation,
				 "applied", r->applied, "restart", r->restart);

	if (r->err.code)
		job_fail_done(j, &r->err, done, "not every process took the new configuration");
	else
		job_result(j, done);
}

static void reload(struct job *j)
{
	struct err e = { 0, NULL, "" };

	if (supervisor_reload(j->s, reload_done, j, &e) < 0)
		job_fail(j, e.code, "%s", e.text);
}

static void restart(struct job *j)
{
	for (int i = 0; i < j->s->nprocesses; i++) {
		struct process *p = &j->s->process[i];
		if (!process_wanted(j, p->short_name, p->name))
			continue;
		process_restart(p);
		job_result(j, json_pack("{s:s}", "process", p->name));
		return;
	}
	job_fail(j, E_NOTFOUND, "there is no process %.40s: core or sms", str(j->args, "process"));
}

static void stop(struct job *j)
{
	struct supervisor *s = j->s;

	job_result(j, NULL);
	supervisor_stop(s);
}

static void help(struct job *j)
{
	json_t *all = json_array();

	for (size_t i = 0; i < commands_n; i++) {
		const struct command *c = &commands[i];
		json_t *args = json_array();
		if (c->target == CMD_LOCAL) {
			json_decref(args);
			continue;
		}
		for (const struct command_arg *a = c->arg; a->name; a++)
			json_array_append_new(args,
					      json_pack("{s:s,s:b,s:s}", "name", a->name,
							"required", a->required, "help", a->help));
		json_array_append_new(all, json_pack("{s:s,s:s,s:o}", "name", c->name, "help",
						     c->help, "args", args));
	}
	job_result(j, json_pack("{s:o}", "commands", all));
}

static const struct {
	const char *name;
	job_handler_fn fn;
} handlers[] = {
	{ "status", status },
	{ "user add", user_add },
	{ "user delete", user_delete },
	{ "user number", user_number },
	{ "user list", user_list },
	{ "user import", user_import },
	{ "link enable", link_enable },
	{ "link disable", link_enable },
	{ "counters", counters },
	{ "log-level", log_level },
	{ "trace", trace },
	{ "reload", reload },
	{ "restart", restart },
	{ "stop", stop },
	{ "help", help },
};

job_handler_fn handler_find(const struct command *c)
{
	for (size_t i = 0; c->target == CMD_TANDEMD && i < ARRAY_LEN(handlers); i++)
		if (strcmp(handlers[i].name, c->name) == 0)
			return handlers[i].fn;
	return NULL;
}
