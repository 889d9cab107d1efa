/* test_supervisor.c - tandemd with dummy children: start, restart, back-off, reload, ends of all
 * kinds; the control socket with good and bad frames.
 *
 * This program is its own children: when it is called tandem-core or tandem-sms it plays one. A
 * child does what the arguments of some command say (dummy_commands). tandemd runs in a forked
 * process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/child/child.h"
#include "appliance/child/frame.h"
#include "appliance/ctl/client.h"
#include "appliance/supervisor/machines.h"
#include "appliance/supervisor/supervisor.h"

/* ---- the dummy child ---- */

struct dummy {
	struct child *child;
	struct loop *loop;
	struct child_req *traced;
	struct loop_timer tick;
	unsigned lines;
	char dir[PATH_MAX]; /* of the state */
};

/* Is there a file of that name in the state folder? Tests switch behaviours with them. */
static bool flag(const struct dummy *d, const char *name)
{
	char path[PATH_MAX + 40];

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	return access(path, F_OK) == 0;
}

static void note(const struct dummy *d, const char *name)
{
	char path[PATH_MAX + 40];

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0644);
	if (fd >= 0)
		close(fd);
}

static void say_pid(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	child_answer(r, json_pack("{s:i}", "pid", (int)getpid()));
}

static void crash(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(r);
	UNUSED(args);
	raise(SIGKILL);
}

static void user_add(void *self, struct child_req *r, json_t *args)
{
	struct sl jid = SL_NULL, password = SL_NULL;
	json_t *verifiers = NULL;
	const struct child_arg a[] = {
		{ "jid", CHILD_STR, true, 100, &jid },
		{ "password", CHILD_STR, false, 100, &password },
		{ "verifiers", CHILD_ARRAY, false, 4, &verifiers },
	};

	UNUSED(self);
	UNUSED(args);
	if (child_args(r, a, ARRAY_LEN(a)) < 0)
		return;
	if (sl_starts(jid, SL("old@")))
		child_fail(r, E_EXISTS, "there is " SLFMT " already", SLARG(jid));
	else
		child_answer(r, json_pack("{s:s%}", "jid", jid.p, jid.n));
}

static void number_set(void *self, struct child_req *r, json_t *args)
{
	const char *number = json_string_value(json_object_get(args, "number"));

	UNUSED(self);
	if (strcmp(number, "+1") == 0)
		child_fail(r, E_EXISTS, "+1 belongs to somebody else");
	else
		child_answer(r, json_incref(args));
}

static void one_number(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	child_answer(r, json_pack("{s:i}", "numbers", 1));
}

static void no_account(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	child_fail(r, E_NOTFOUND, "no such account");
}

static void user_list(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	child_answer(r, json_pack("{s:[{s:s},{s:s}]}", "users", "jid", "a@x", "jid", "b@x"));
}

static void number_get(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	child_answer(r, json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "numbers", "jid", "b@x", "number",
				  "+1", "jid", "b@x", "number", "+2"));
}

static void user_import(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	child_answer(r, json_pack("{s:i,s:[{s:s,s:s,s:s}]}", "added",
				  (int)json_array_size(json_object_get(args, "users")) - 1,
				  "refused", "jid", "bad@x", "code", "syntax", "text", "no"));
}

static void number_import(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	child_answer(r,
		     json_pack("{s:i,s:[]}", "added",
			       (int)json_array_size(json_object_get(args, "numbers")), "refused"));
}

static void tick(struct loop_timer *t)
{
	struct dummy *d = container_of(t, struct dummy, tick);

	if (child_cancelled(d->traced)) {
		note(d, "trace-cancelled");
		child_answer(d->traced, json_pack("{s:i}", "lines", (int)d->lines));
		return;
	}
	d->lines++;
	child_event(d->traced, json_pack("{s:I,s:s}", "time_ms", (json_int_t)clock_wall_ms(),
					 "line", "hello"));
	loop_timer_set(d->loop, &d->tick, 5, tick);
}

static void trace(void *self, struct child_req *r, json_t *args)
{
	struct dummy *d = self;

	UNUSED(args);
	d->traced = r;
	loop_timer_set(d->loop, &d->tick, 1, tick);
}

static void silent(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(r);
	UNUSED(args);
}

static void large(void *self, struct child_req *r, json_t *args)
{
	char *text = malloc(FRAME_CONTROL_MAX + 1000);

	UNUSED(self);
	UNUSED(args);
	memset(text, 'x', FRAME_CONTROL_MAX + 999);
	text[FRAME_CONTROL_MAX + 999] = '\0';
	child_answer(r, json_pack("{s:s}", "text", text));
	free(text);
}

static void hang_now(struct loop_timer *t)
{
	UNUSED(t);
	signal(SIGTERM, SIG_IGN);
	for (;;)
		pause();
}

static void hang(void *self, struct child_req *r, json_t *args)
{
	struct dummy *d = self;

	UNUSED(args);
	child_answer(r, NULL);
	loop_timer_set(d->loop, &d->tick, 50, hang_now);
}

static const struct child_command dummy_commands[] = {
	{ "status", say_pid },
	{ "sessions", say_pid },
	{ "counters", say_pid },
	{ "component.delete", crash },
	{ "user.add", user_add },
	{ "number.set", number_set },
	{ "number.clear", one_number },
	{ "user.delete", no_account },
	{ "user.list", user_list },
	{ "number.get", number_get },
	{ "user.import", user_import },
	{ "number.import", number_import },
	{ "trace", trace },
	{ "queue.drop", silent },
	{ "component.list", large },
	{ "link.list", say_pid },
	{ "link.delete", hang },
	{ NULL, NULL },
};

static int dummy_reload(void *self, const struct config *cfg, struct err *e)
{
	struct dummy *d = self;

	if (flag(d, "refuse-reload"))
		return err_set(e, E_STATE, NULL, "not today");
	config_unref(&cfg);
	return 0;
}

static void dummy_stop(void *self)
{
	struct dummy *d = self;

	loop_timer_clear(&d->tick);
	loop_stop(d->loop);
}

static int dummy_main(const char *name)
{
	bool core = strcmp(name, "tandem-core") == 0;
	const struct child_def def = { .name = core ? "tandem-core" : "tandem-sms",
				       .who = core ? CONFIG_CORE : CONFIG_SMS,
				       .commands = dummy_commands,
				       .reload = dummy_reload,
				       .stop = dummy_stop };
	struct dummy d = { .child = NULL };
	struct err e = { 0, NULL, "" };

	if (child_start(&def, &d, &d.child, &e) < 0)
		return 1;
	snprintf(d.dir, sizeof(d.dir), "%s", child_config(d.child)->state_dir.p);
	if (getenv("HOME"))
		note(&d, "environment-not-clean");
	if (core && flag(&d, "crash-at-start"))
		raise(SIGSEGV);
	if (core && flag(&d, "cannot-serve")) {
		err_set(&e, E_EXISTS, NULL, "port 5222 is in use");
		child_failed(d.child, &e);
		child_free(&d.child);
		return 1;
	}
	if (loop_new(LOOP_BACKEND_DEFAULT, &d.loop, &e) < 0 ||
	    child_attach(d.child, d.loop, &e) < 0)
		return 1;
	child_ready(d.child, json_pack("[{s:s,s:s}]", "name", "c2s", "address", "127.0.0.1:5222"));
	loop_run(d.loop);
	note(&d, core ? "committed-core" : "committed-sms");
	child_free(&d.child);
	loop_free(&d.loop);
	return 0;
}

/* ---- tandemd under test ---- */

static char dir[64], conf[128], sock[100];
static pid_t tandemd;
static struct client client;

static void path_in(char dst[256], const char *name)
{
	snprintf(dst, 256, "%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
	char path[256];

	path_in(path, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(path, 0600);
}

static bool there(const char *name)
{
	char path[256];

	path_in(path, name);
	return access(path, F_OK) == 0;
}

static void write_conf(const char *more)
{
	char text[2000];

	snprintf(text, sizeof(text),
		 "state_dir = \"%s\"\ncontrol_socket = \"%s\"\nlog_level = error\n"
		 "host \"a.test\" { certificate_file = crt key_file = key }\n%s",
		 dir, sock, more);
	put("t.conf", text);
}

static int setup(void **state)
{
	char exe[PATH_MAX], path[256];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	UNUSED(state);
	assert_true(n > 0);
	exe[n] = '\0';
	snprintf(dir, sizeof(dir), "/tmp/test_supervisor.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(conf, sizeof(conf), "%s/t.conf", dir);
	snprintf(sock, sizeof(sock), "%s/control", dir);
	put("crt", "-----BEGIN CERTIFICATE-----\n");
	put("key", "-----BEGIN PRIVATE KEY-----\n");
	write_conf("");
	path_in(path, "tandem-core");
	assert_int_equal(symlink(exe, path), 0);
	path_in(path, "tandem-sms");
	assert_int_equal(symlink(exe, path), 0);
	client.fd = -1;
	return 0;
}

static void launch(bool fail_fast)
{
	tandemd = fork();
	if (tandemd == 0) {
		const struct supervisor_options o = { conf, dir, fail_fast };
		setenv("HOME", "/nowhere", 1);
		int null = open("/dev/null", O_WRONLY);
		if (!getenv("V") && dup2(null, STDERR_FILENO) < 0)
			_exit(99);
		_exit(supervisor_run(&o));
	}
	assert_true(tandemd > 0);
}

static json_t *call(const char *command, json_t *args)
{
	struct err e = { 0, NULL, "" };
	json_t *answer = NULL;

	if (client.fd < 0 && client_open(&client, sock, &e) < 0)
		return NULL;
	if (client_call(&client, command, args, 20000, &answer, &e) < 0) {
		client_close(&client);
		return NULL;
	}
	return answer;
}

/* The answer's result must be there; returned as a new reference. */
static json_t *good(const char *command, json_t *args)
{
	json_t *answer = call(command, args), *result = json_object_get(answer, "result");

	if (!result)
		fail_msg("%s: %s", command,
			 answer ? json_string_value(
					  json_object_get(json_object_get(answer, "error"), "text"))
				: "no answer");
	json_incref(result);
	json_decref(answer);
	return result;
}

static void bad(const char *command, json_t *args, const char *code, const char *text)
{
	json_t *answer = call(command, args), *error = json_object_get(answer, "error");

	assert_non_null(error);
	assert_string_equal(json_string_value(json_object_get(error, "code")), code);
	if (!strstr(json_string_value(json_object_get(error, "text")), text))
		fail_msg("wanted \"%s\" in \"%s\"", text,
			 json_string_value(json_object_get(error, "text")));
	json_decref(answer);
}

struct view {
	bool ready;
	int pid[2], restarts[2];
	char state[2][20], error[2][ERR_TEXT_MAX];
};

static bool look(struct view *v)
{
	json_t *answer = call("status", NULL), *r = json_object_get(answer, "result");

	memset(v, 0, sizeof(*v));
	if (!r) {
		json_decref(answer);
		return false;
	}
	v->ready = json_is_true(json_object_get(r, "ready"));
	for (size_t i = 0; i < 2; i++) {
		json_t *p = json_array_get(json_object_get(r, "processes"), i);
		v->pid[i] = (int)json_integer_value(json_object_get(p, "pid"));
		v->restarts[i] = (int)json_integer_value(json_object_get(p, "restarts"));
		snprintf(v->state[i], 20, "%s", json_string_value(json_object_get(p, "state")));
		snprintf(v->error[i], ERR_TEXT_MAX, "%s",
			 json_string_value(json_object_get(p, "error")));
	}
	json_decref(answer);
	return true;
}

static struct view wait_ready(int restarts_of_core)
{
	struct view v;

	for (int i = 0; i < 1000; i++) {
		if (look(&v) && v.ready && v.restarts[0] >= restarts_of_core)
			return v;
		usleep(10000);
	}
	fail_msg("tandemd does not become ready: core %s (%s), sms %s (%s)", v.state[0], v.error[0],
		 v.state[1], v.error[1]);
	return v;
}

/* Exit status of tandemd, which must end by itself. */
static int wait_end(void)
{
	int status;

	for (int i = 0; i < 2000; i++) {
		pid_t p = waitpid(tandemd, &status, WNOHANG);
		if (p == tandemd) {
			tandemd = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		usleep(10000);
	}
	fail_msg("tandemd does not end");
	return -1;
}

static bool wait_dead(int pid)
{
	for (int i = 0; i < 500; i++) {
		if (kill(pid, 0) < 0 && errno == ESRCH)
			return true;
		usleep(10000);
	}
	return false;
}

static int teardown(void **state)
{
	static const char *const names[] = { "tandem-core",
					     "tandem-sms",
					     "crt",
					     "key",
					     "t.conf",
					     "control",
					     "committed-core",
					     "committed-sms",
					     "crash-at-start",
					     "cannot-serve",
					     "refuse-reload",
					     "trace-cancelled",
					     "core/lock",
					     "core",
					     "sms/lock",
					     "sms",
					     "environment-not-clean" };
	char path[256];

	UNUSED(state);
	client_close(&client);
	if (tandemd > 0) {
		kill(tandemd, SIGTERM);
		wait_end();
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		path_in(path, names[i]);
		remove(path);
	}
	return rmdir(dir);
}

/* ---- life ---- */

static void start_and_stop(void **state)
{
	UNUSED(state);
	launch(false);
	struct view v = wait_ready(0);
	assert_true(v.pid[0] > 0 && v.pid[1] > 0 && v.pid[0] != v.pid[1]);
	assert_string_equal(v.state[0], "READY");
	assert_false(there("environment-not-clean"));
	struct stat st;
	assert_int_equal(stat(sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	kill(tandemd, SIGTERM);
	assert_int_equal(wait_end(), 0);
	assert_true(there("committed-core") && there("committed-sms"));
	assert_true(wait_dead(v.pid[0]) && wait_dead(v.pid[1]));
	assert_false(there("control"));
}

static void stop_by_command(void **state)
{
	UNUSED(state);
	launch(false);
	wait_ready(0);
	json_decref(good("stop", NULL));
	assert_int_equal(wait_end(), 0);
	assert_true(there("committed-core") && there("committed-sms"));
}

static void killed_children_come_back(void **state)
{
	UNUSED(state);
	launch(false);
	struct view was = wait_ready(0), v;
	kill(was.pid[0], SIGKILL);
	v = wait_ready(1);
	assert_int_equal(v.restarts[0], 1);
	assert_int_equal(v.restarts[1], 0);
	assert_int_equal(v.pid[1], was.pid[1]);
	assert_int_not_equal(v.pid[0], was.pid[0]);
	kill(v.pid[1], SIGKILL);
	for (int i = 0; i < 500 && (!look(&v) || v.restarts[1] < 1 || !v.ready); i++)
		usleep(10000);
	assert_int_equal(v.restarts[1], 1);
	assert_string_equal(v.error[1], "");
}

static void request_to_a_dying_child(void **state)
{
	UNUSED(state);
	launch(false);
	wait_ready(0);
	bad("component delete", json_pack("{s:s}", "domain", "x"), "closed", "outcome is unknown");
	wait_ready(1);
}

static void back_off_doubles(void **state)
{
	struct view v;

	UNUSED(state);
	put("crash-at-start", "");
	launch(false);
	uint64_t t0 = clock_mono_ms();
	for (int i = 0; i < 3000 && (!look(&v) || v.restarts[0] < 5); i++)
		usleep(10000);
	/* 100 + 200 + 400 + 800 + 1600 ms lie before the fifth restart; 500 would be without doubling, and the rest is
	 * what the crashes take */
	assert_in_range(clock_mono_ms() - t0, 3100, 30000);
	assert_false(v.ready);
	assert_string_equal(v.state[1], "READY"); /* the other one serves */
	if (*v.error[0])
		assert_string_equal(v.error[0], "ended by signal 11");
	bad("sessions", NULL, "closed", "not running");
	char path[256];
	path_in(path, "crash-at-start");
	for (int i = 0; i < 1000 && (!look(&v) || strcmp(v.state[0], "BACKOFF") != 0); i++)
		usleep(2000);
	assert_string_equal(v.state[0], "BACKOFF");
	unlink(path);
	json_decref(good("restart", json_pack("{s:s}", "process", "core"))); /* need not wait: CHILD-8 */
	assert_true(look(&v));
	assert_string_not_equal(v.state[0], "BACKOFF");
	wait_ready(6);
}

static void fail_fast(void **state)
{
	UNUSED(state);
	put("cannot-serve", "");
	launch(true);
	assert_int_equal(wait_end(), 1);
	put("crash-at-start", "");
	launch(true);
	assert_int_equal(wait_end(), 1);
}

static void why_it_cannot_serve(void **state)
{
	struct view v;

	UNUSED(state);
	put("cannot-serve", "");
	launch(false);
	for (int i = 0; i < 1000 && (!look(&v) || strcmp(v.state[0], "BACKOFF") != 0); i++)
		usleep(5000);
	assert_string_equal(v.error[0], "port 5222 is in use");
	kill(tandemd, SIGTERM);
	assert_int_equal(wait_end(), 0);
}

static void children_die_with_tandemd(void **state)
{
	UNUSED(state);
	launch(false);
	struct view v = wait_ready(0);
	client_close(&client);
	kill(tandemd, SIGKILL);
	assert_int_equal(wait_end(), 128 + SIGKILL);
	assert_true(wait_dead(v.pid[0]) && wait_dead(v.pid[1]));
	assert_true(there("committed-core") && there("committed-sms"));
	/* The stale socket is no obstacle. */
	launch(false);
	wait_ready(0);
}

static void two_at_once(void **state)
{
	UNUSED(state);
	launch(false);
	wait_ready(0);
	pid_t first = tandemd;
	launch(false);
	assert_int_equal(wait_end(), 1);
	tandemd = first;
	wait_ready(0);
}

static void a_hanging_child_is_killed(void **state)
{
	UNUSED(state);
	write_conf("stop_seconds = 1\n");
	launch(false);
	wait_ready(0);
	json_decref(
		good("link delete", json_pack("{s:s}", "name", "x"))); /* tandem-sms hangs now */
	usleep(200000);
	uint64_t t0 = clock_mono_ms();
	kill(tandemd, SIGTERM);
	assert_int_equal(wait_end(), 0);
	assert_in_range(clock_mono_ms() - t0, 900, 6000);
}

/* ---- reload ---- */

static void reload(void **state)
{
	UNUSED(state);
	launch(false);
	wait_ready(0);
	write_conf("limits { depth = 33 }\nworkers = 2\n");
	json_t *r = good("reload", NULL);
	assert_int_equal(json_integer_value(json_object_get(r, "generation")), 2);
	assert_string_equal(json_string_value(json_array_get(json_object_get(r, "applied"), 0)),
			    "limits.depth");
	json_t *core = json_object_get(json_object_get(r, "restart"), "core");
	assert_string_equal(json_string_value(json_array_get(core, 0)), "workers");
	assert_null(json_object_get(json_object_get(r, "restart"), "sms"));
	json_decref(r);
	r = good("reload", NULL); /* nothing new, but the restart is still due */
	assert_int_equal(json_array_size(json_object_get(r, "applied")), 0);
	core = json_object_get(json_object_get(r, "restart"), "core");
	assert_int_equal(json_array_size(core), 1);
	json_decref(r);
	json_decref(good("restart", json_pack("{s:s}", "process", "core")));
	wait_ready(1);
	r = good("reload", NULL);
	assert_int_equal(json_object_size(json_object_get(r, "restart")), 0);
	json_decref(r);

	write_conf("limits { depth = 3 }\n");
	bad("reload", NULL, "syntax", "t.conf:5: limits.depth: 3 is out of range");
	put("refuse-reload", "");
	write_conf("limits { depth = 34 }\n");
	bad("reload", NULL, "state", "not every process took the new configuration: tandem-");
	wait_ready(1);
}

static void reload_by_signal(void **state)
{
	json_t *r;

	UNUSED(state);
	launch(false);
	wait_ready(0);
	kill(tandemd, SIGHUP);
	for (int i = 0; i < 500; i++) {
		r = good("status", NULL);
		json_int_t g = json_integer_value(json_object_get(r, "generation"));
		json_decref(r);
		if (g == 2)
			return;
		usleep(10000);
	}
	fail_msg("SIGHUP did nothing");
}

/* ---- commands ---- */

static void commands_in_parts(void **state)
{
	UNUSED(state);
	launch(false);
	wait_ready(0);
	json_t *r = good("user add",
			 json_pack("{s:s,s:s,s:s}", "jid", "n@x", "password", "p", "number", "+5"));
	assert_string_equal(json_string_value(json_object_get(r, "number")), "+5");
	json_decref(r);
	bad("user add", json_pack("{s:s,s:s,s:s}", "jid", "old@x", "password", "p", "number", "+5"),
	    "exists", "there is old@x already");
	bad("user add", json_pack("{s:s,s:s,s:s}", "jid", "n@x", "password", "p", "number", "+1"),
	    "exists", "the account was made, but it has no number: +1 belongs");
	bad("user add", json_pack("{s:s}", "jid", "n@x"), "syntax", "either password or verifiers");
	bad("user delete", json_pack("{s:s}", "jid", "n@x"), "notfound",
	    "its numbers were taken away, but the account was not deleted");
	r = good("user list", NULL);
	json_t *b = json_array_get(json_object_get(r, "users"), 1);
	assert_int_equal(json_array_size(json_object_get(b, "numbers")), 2);
	assert_int_equal(json_array_size(json_object_get(
				 json_array_get(json_object_get(r, "users"), 0), "numbers")),
			 0);
	json_decref(r);
	r = good("user import",
		 json_pack("{s:[{s:s,s:s,s:s},{s:s,s:s,s:s},{s:s,s:s}]}", "users", "jid", "bad@x",
			   "password", "p", "number", "+7", "jid", "c@x", "password", "p", "number",
			   "+8", "jid", "d@x", "password", "p"));
	assert_int_equal(json_integer_value(json_object_get(r, "added")), 2);
	assert_int_equal(json_integer_value(json_object_get(r, "numbers")),
			 1); /* not of the refused one */
	json_decref(r);
	r = good("counters", NULL);
	assert_true(json_integer_value(json_object_get(
			    json_object_get(json_object_get(r, "counters"), "tandemd"),
			    "tandemd.control.requests")) > 5);
	assert_non_null(json_object_get(json_object_get(r, "counters"), "sms"));
	json_decref(r);
	r = good("log-level", json_pack("{s:s,s:s}", "level", "error", "process", "sms"));
	assert_string_equal(json_string_value(json_object_get(json_object_get(r, "levels"), "sms")),
			    "error");
	assert_null(json_object_get(json_object_get(r, "levels"), "core"));
	json_decref(r);
	bad("log-level", json_pack("{s:s}", "level", "loud"), "syntax", "level");
	bad("counters", json_pack("{s:s}", "process", "x"), "notfound", "no process");
	bad("component list", NULL, "toobig", "too large");
	bad("status", json_pack("{s:i}", "colour", 5), "syntax", "unknown argument colour");
	bad("link list", json_pack("{s:i}", "colour", 5), "syntax", "unknown argument colour");
	bad("queue show", json_pack("{s:i}", "message", 5), "syntax", "message must be a text");
	bad("dance", NULL, "unsupported", "unknown command: dance");
	bad("config check", NULL, "unsupported", "unknown command");
	r = good("help", NULL);
	assert_true(json_array_size(json_object_get(r, "commands")) > 20);
	json_decref(r);
}

static void tracing(void **state)
{
	struct err e;
	json_t *msg;
	int core = 0, sms = 0;

	UNUSED(state);
	launch(false);
	wait_ready(0);
	uint64_t id = client_send(&client, "trace", json_pack("{s:s}", "who", "a@x"), &e);
	while (core < 3 || sms < 3) {
		assert_int_equal(client_receive(&client, 5000, &msg, &e), 0);
		const char *p = json_string_value(
			json_object_get(json_object_get(msg, "event"), "process"));
		assert_non_null(p);
		*(strcmp(p, "core") == 0 ? &core : &sms) += 1;
		json_decref(msg);
	}
	assert_int_equal(client_cancel(&client, id, &e), 0);
	for (;;) {
		assert_int_equal(client_receive(&client, 5000, &msg, &e), 0);
		json_t *r = json_object_get(msg, "result");
		if (r)
			assert_true(json_integer_value(json_object_get(r, "lines")) >= core + sms);
		bool end = r != NULL;
		json_decref(msg);
		if (end)
			break;
	}
	char path[256];
	path_in(path, "trace-cancelled");
	assert_int_equal(unlink(path), 0);
	/* Who just goes away cancels, too. */
	client_send(&client, "trace", json_pack("{s:s}", "who", "+1555"), &e);
	assert_int_equal(client_receive(&client, 5000, &msg, &e), 0);
	json_decref(msg);
	client_close(&client);
	for (int i = 0; i < 500 && !there("trace-cancelled"); i++)
		usleep(10000);
	assert_true(there("trace-cancelled"));
	wait_ready(0);
}

/* ---- the socket ---- */

static int raw_connect(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", sock);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	struct timeval tv = { .tv_sec = 5 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

/* Octets in, an error with that code and the end out. */
static void strange(const void *octets, size_t n, const char *code)
{
	int fd = raw_connect();
	char text[4096];
	size_t got = 0;
	ssize_t k;

	assert_int_equal(write(fd, octets, n), n);
	while ((k = read(fd, text + got, sizeof(text) - 1 - got)) > 0)
		got += (size_t)k;
	assert_int_equal(k, 0); /* closed, not timed out */
	assert_true(got > 4);
	text[got] = '\0';
	assert_non_null(strstr(text + 4, code));
	close(fd);
}

static void bad_frames(void **state)
{
	static char big[70000];
	struct err e;
	json_t *msg;

	UNUSED(state);
	launch(false);
	wait_ready(0);
	strange("\0\0\0\0", 4, "toobig");
	strange("\377\377\377\377", 4, "toobig");
	strange("\0\20\0\1", 4, "toobig");
	strange("\0\0\0\3abc", 7, "syntax");
	strange("\0\0\0\2[]", 6, "syntax");
	strange("\0\0\0\2{}", 6, "syntax");
	strange("\0\0\0\15{\"a\":1,\"a\":2}", 17, "syntax");
	strange("\0\0\0\4{}{}", 8, "syntax");
	strange("GET / HTTP/1.0\r\n\r\n", 18, "toobig");
	memset(big, '[', sizeof(big));
	memcpy(big, "\0\1\0\0", 4);
	strange(big, 65540, "syntax"); /* deep nesting */
	/* cut off in the middle: nothing happens */
	int fd = raw_connect();
	assert_int_equal(write(fd, "\0\0\1\0{", 5), 5);
	close(fd);
	/* one octet at a time, and several requests in one write */
	const char two[] = "\0\0\0\x1b{\"id\":7,\"command\":\"status\"}\0\0\0\x19{\"id\":8,"
			   "\"command\":\"help\"}";
	fd = raw_connect();
	for (size_t i = 0; i < sizeof(two) - 1; i++)
		assert_int_equal(write(fd, two + i, 1), 1);
	struct client c = { .fd = fd };
	buf_init(&c.in, FRAME_CONTROL_MAX + 4);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(client_receive(&c, 5000, &msg, &e), 0);
		assert_non_null(json_object_get(msg, "result"));
		json_decref(msg);
	}
	client_close(&c);
	wait_ready(0);
}

static void limits(void **state)
{
	int fds[40];
	struct err e;
	json_t *msg;
	unsigned refused = 0, waiting = 0;

	UNUSED(state);
	launch(false);
	wait_ready(0);
	for (int i = 0; i < 40; i++)
		fds[i] = raw_connect();
	for (int i = 0; i < 40; i++) {
		struct client c = { .fd = fds[i] };
		buf_init(&c.in, FRAME_CONTROL_MAX + 4);
		if (client_receive(&c, i < 31 ? 0 : 2000, &msg, &e) == 0) {
			assert_string_equal(json_string_value(json_object_get(
						    json_object_get(msg, "error"), "code")),
					    "limit");
			json_decref(msg);
			refused++;
		}
		client_close(&c);
	}
	assert_int_equal(refused, 9); /* ours is the 32nd */
	for (int i = 0; i < 100; i++)
		client_send(&client, "queue drop", NULL, &e);
	while (waiting + 64 < 100) {
		assert_int_equal(client_receive(&client, 5000, &msg, &e), 0);
		assert_non_null(strstr(
			json_string_value(json_object_get(json_object_get(msg, "error"), "text")),
			"too many open requests"));
		json_decref(msg);
		waiting++;
	}
	client_close(&client);
	wait_ready(0);
}

/* ---- the tables ---- */

static void tables(void **state)
{
	struct err e = { 0, NULL, "" };

	UNUSED(state);
	if (machines_check(&e) < 0)
		fail_msg("%s", e.text);
}

#define LIVE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	const struct CMUnitTest tests[] = {
		LIVE(start_and_stop),
		LIVE(stop_by_command),
		LIVE(killed_children_come_back),
		LIVE(request_to_a_dying_child),
		LIVE(back_off_doubles),
		LIVE(fail_fast),
		LIVE(why_it_cannot_serve),
		LIVE(children_die_with_tandemd),
		LIVE(two_at_once),
		LIVE(reload),
		LIVE(reload_by_signal),
		LIVE(commands_in_parts),
		LIVE(tracing),
		LIVE(bad_frames),
		LIVE(limits),
		LIVE(a_hanging_child_is_killed),
		cmocka_unit_test(tables),
	};

	UNUSED(argc);
	if (strncmp(name, "tandem-", 7) == 0)
		return dummy_main(name);
	frame_init();
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
