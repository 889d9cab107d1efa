/* test_child.c - a child's library against a tandemd that this program plays: configuration,
 * answers from several threads, events, cancelling, the end; and the jail. Also under TSan. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "appliance/base/log.h"
#include "appliance/child/child.h"
#include "appliance/child/frame.h"
#include "appliance/ctl/client.h"

#define THREADS 4

static char dir[64]; /* of one test */

/* ---- the child ---- */

struct mine {
	struct child *child;
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct child_req *todo[400];
	unsigned n;
	bool end;
};

static void queue(void *self, struct child_req *r, json_t *args)
{
	struct mine *m = self;

	UNUSED(args);
	pthread_mutex_lock(&m->lock);
	m->todo[m->n++] = r;
	pthread_cond_signal(&m->work);
	pthread_mutex_unlock(&m->lock);
}

static void *worker(void *arg)
{
	struct mine *m = arg;

	pthread_mutex_lock(&m->lock);
	for (;;) {
		while (!m->n && !m->end)
			pthread_cond_wait(&m->work, &m->lock);
		if (!m->n)
			break;
		struct child_req *r = m->todo[--m->n];
		pthread_mutex_unlock(&m->lock);
		for (int i = 0; i < 3; i++)
			child_event(r, json_pack("{s:i}", "n", i));
		if (child_cancelled(r))
			child_fail(r, E_CLOSED, "cancelled");
		else
			child_answer(r, json_pack("{s:b}", "thread", 1));
		pthread_mutex_lock(&m->lock);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

static struct child_req *kept;

static void keep(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	kept = r;
}

static void release(void *self, struct child_req *r, json_t *args)
{
	UNUSED(self);
	UNUSED(args);
	child_answer(kept, json_pack("{s:b}", "cancelled", child_cancelled(kept)));
	child_answer(r, NULL);
}

static const struct child_command table[] = {
	{ "queue", queue },
	{ "keep", keep },
	{ "release", release },
	{ NULL, NULL },
};

static uint32_t parts;

static int reload(void *self, const struct config *cfg, struct err *e)
{
	UNUSED(self);
	UNUSED(e);
	parts = cfg->sms.max_parts;
	config_unref(&cfg);
	return 0;
}

static struct child_settle *unsettled;
static struct loop_timer settle_timer;

static void settle_now(struct loop_timer *t)
{
	UNUSED(t);
	child_settled(unsettled, parts == 66 ? E_IO : 0);
}

/* It takes a while until the new configuration is in force. */
static void settle(void *self, struct child_settle *s)
{
	unsettled = s;
	loop_timer_set(((struct mine *)self)->loop, &settle_timer, 20, settle_now);
}

static void stop(void *self)
{
	loop_stop(((struct mine *)self)->loop);
}

static const struct child_def def = {
	.name = "tandem-test",
	.who = CONFIG_SMS,
	.commands = table,
	.reload = reload,
	.settle = settle,
	.stop = stop
};

static int child_main(void)
{
	struct mine m = { .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER };
	pthread_t t[THREADS];
	struct err e = { 0, NULL, "" };

	if (child_start(&def, &m, &m.child, &e) < 0)
		return 1;
	if (loop_new(LOOP_BACKEND_DEFAULT, &m.loop, &e) < 0 ||
	    child_attach(m.child, m.loop, &e) < 0)
		return 2;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, worker, &m);
	child_ready(m.child, NULL);
	loop_run(m.loop);
	pthread_mutex_lock(&m.lock);
	m.end = true;
	pthread_cond_broadcast(&m.work);
	pthread_mutex_unlock(&m.lock);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	child_free(&m.child);
	loop_free(&m.loop);
	return 0;
}

/* ---- our side ---- */

static struct client tandemd;
static pid_t pid;

static void launch(void)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	pid = fork();
	if (pid == 0) {
		close(fd[0]);
		if (fd[1] != CHILD_FD)
			dup2(fd[1], CHILD_FD);
		int null = open("/dev/null", O_WRONLY);
		if (!getenv("V"))
			dup2(null, STDERR_FILENO);
		_exit(child_main());
	}
	close(fd[1]);
	tandemd = (struct client){ .fd = fd[0] };
	buf_init(&tandemd.in, FRAME_CONTROL_MAX + 4);
}

static int end_status(void)
{
	int status;

	client_close(&tandemd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static json_t *config_doc(const char *more)
{
	char text[300];
	json_t *doc;

	snprintf(text, sizeof(text),
		 "{\"host\":[{\"name\":\"a.test\"}],\"log_level\":\"error\","
		 "\"state_dir\":\"%s/state\"%s}",
		 dir, more);
	doc = json_loads(text, 0, NULL);
	assert_non_null(doc);
	return doc;
}

static json_t *call(const char *command, json_t *args)
{
	struct err e = { 0, NULL, "" };
	json_t *answer = NULL;

	if (client_call(&tandemd, command, args, 10000, &answer, &e) < 0)
		fail_msg("%s: %s", command, e.text);
	return answer;
}

static void start(void)
{
	launch();
	json_t *a = call("config", config_doc(""));
	assert_true(json_is_array(json_object_get(json_object_get(a, "result"), "listen")));
	json_decref(a);
}

static const char *code_of(const json_t *answer)
{
	const char *c =
		json_string_value(json_object_get(json_object_get(answer, "error"), "code"));

	return c ? c : "none";
}

static void answers_from_threads(void **state)
{
	struct err e;
	unsigned events = 0, results = 0;
	bool answered[401] = { false };

	UNUSED(state);
	start();
	for (int i = 0; i < 200; i++)
		assert_true(client_send(&tandemd, "queue", NULL, &e) > 0);
	while (results < 200) {
		json_t *m;
		assert_int_equal(client_receive(&tandemd, 10000, &m, &e), 0);
		uint64_t id = frame_id(m);
		assert_true(id > 1 && id < 400);
		assert_false(answered[id]); /* nothing after the answer */
		if (json_object_get(m, "event")) {
			events++;
		} else {
			assert_non_null(json_object_get(m, "result"));
			answered[id] = true;
			results++;
		}
		json_decref(m);
	}
	assert_int_equal(events, 600);
	json_t *a = call("stop", NULL);
	assert_non_null(json_object_get(a, "result"));
	json_decref(a);
	assert_int_equal(end_status(), 0);
}

static void cancelling(void **state)
{
	struct err e;
	json_t *m;

	UNUSED(state);
	start();
	uint64_t id = client_send(&tandemd, "keep", NULL, &e);
	assert_int_equal(client_cancel(&tandemd, id, &e), 0);
	client_send(&tandemd, "release", NULL, &e);
	assert_int_equal(client_receive(&tandemd, 10000, &m, &e), 0);
	assert_int_equal(frame_id(m), id);
	assert_true(json_is_true(json_object_get(json_object_get(m, "result"), "cancelled")));
	json_decref(m);
	assert_int_equal(end_status(), 0); /* the end of file is enough to end it */
}

static void strange_requests(void **state)
{
	UNUSED(state);
	start();
	json_t *a = call("dance", NULL);
	assert_string_equal(code_of(a), "unsupported");
	json_decref(a);
	a = call("log.level", json_pack("{s:s}", "level", "loud"));
	assert_string_equal(code_of(a), "syntax");
	json_decref(a);
	a = call("log.level", json_pack("{s:s}", "colour", "red"));
	assert_string_equal(code_of(a), "syntax");
	json_decref(a);
	a = call("log.level", json_pack("{s:s}", "level", "debug"));
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(a, "result"), "level")), "debug");
	json_decref(a);
	a = call("config", config_doc(",\"limits\":{}"));
	assert_string_equal(code_of(a), "syntax"); /* not for this process */
	json_decref(a);
	a = call("config", config_doc(",\"sms\":{\"max_parts\":3,\"domain\":\"s.test\"}"));
	json_t *r = json_object_get(a, "result");
	assert_string_equal(json_string_value(json_array_get(json_object_get(r, "applied"), 0)),
			    "sms.max_parts");
	assert_string_equal(json_string_value(json_array_get(json_object_get(r, "restart"), 0)),
			    "sms.domain");
	json_decref(a);
	a = call("config", config_doc(",\"sms\":{\"max_parts\":66}"));
	assert_string_equal(code_of(a), "io"); /* it is right, and does not get into force */
	json_decref(a);
	assert_int_equal(end_status(), 0);
}

static void bad_start(void **state)
{
	UNUSED(state);
	launch();
	json_t *a = call("status", NULL);
	assert_string_equal(code_of(a), "state");
	json_decref(a);
	assert_int_equal(end_status(), 1);
	launch();
	a = call("config", json_object());
	assert_string_equal(code_of(a), "state"); /* no host */
	json_decref(a);
	assert_int_equal(end_status(), 1);
	launch();
	assert_int_equal(end_status(), 1); /* tandemd gone before it said anything */
	launch();
	kill(pid, SIGKILL);
	assert_int_equal(end_status(), 128 + SIGKILL);
}

static void garbage_from_tandemd(void **state)
{
	UNUSED(state);
	start();
	assert_int_equal(write(tandemd.fd, "\377\377\377\377garbage", 11), 11);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid); /* it commits and exits */
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	client_close(&tandemd);
}

static void terminated(void **state)
{
	UNUSED(state);
	start();
	kill(pid, SIGINT); /* Ctrl-C on the terminal is tandemd's business */
	usleep(100000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGTERM);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	client_close(&tandemd);
}

/* ---- the jail ---- */

static const struct config *jail_config(void)
{
	const struct config *c = NULL;
	struct err e = { 0, NULL, "" };
	json_t *doc = config_doc("");
	char path[100];

	snprintf(path, sizeof(path), "%s/closed/state", dir);
	json_object_set_new(doc, "state_dir", json_string(path));
	json_object_set_new(doc, "run_as",
			    json_pack("{s:s,s:s,s:i}", "core_user", "", "sms_user", "no-such-user",
				      "first_uid", 61184));
	if (config_from_json(doc, CONFIG_SMS, &c, &e) < 0)
		fail_msg("%s", e.text);
	json_decref(doc);
	return c;
}

/* In a process of its own. 0, or the number of what is wrong. */
static int in_jail(bool root)
{
	const struct config *c = jail_config();
	struct err e = { 0, NULL, "" };
	struct stat st;
	char cwd[200], sock[200];
	uint32_t uid, gid;

	if (!root && setuid(65534) < 0)
		return 1;
	jail_user(c, CONFIG_SMS, &uid, &gid);
	if (uid != (root ? 61185u : 65534u))
		return 2;
	if (jail_core_socket(c, CONFIG_SMS, sock, sizeof(sock), &e) < 0 ||
	    !strstr(sock, "/sms/core.sock"))
		return 3;
	if (jail_enter(c, CONFIG_SMS, true, &e) < 0)
		return 4;
	if (!getcwd(cwd, sizeof(cwd)) || (root && strcmp(cwd, "/") != 0))
		return 5;
	if (geteuid() != uid || getuid() != uid || (root && getegid() != gid))
		return 6;
	if (setuid(0) == 0 || (root && getgroups(0, NULL) != 1))
		return 7;
	if (stat(".", &st) < 0 || st.st_uid != uid || (st.st_mode & 0777) != 0700)
		return 8;
	if (access("/etc/hosts", R_OK) == 0 ? access("etc/hosts", R_OK) < 0 : root)
		return 9;
	int fd = open("state.db", O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return 10;
	if (root && access("/bin", F_OK) == 0)
		return 11;
	config_unref(&c);
	return 0;
}

static void try_jail(bool root)
{
	int status;
	pid_t p = fork();

	if (p == 0) {
		int null = open("/dev/null", O_WRONLY);
		if (!getenv("V"))
			dup2(null, STDERR_FILENO);
		_exit(in_jail(root));
	}
	assert_int_equal(waitpid(p, &status, 0), p);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void jails(void **state)
{
	char path[100];
	bool root = geteuid() == 0;

	UNUSED(state);
	snprintf(path, sizeof(path), "%s/closed", dir);
	assert_int_equal(mkdir(path, 0700), 0); /* as a home is */
	if (root)
		try_jail(true);
	/* The same folder for an ordinary user: what belongs to another is refused or given by
	 * root. */
	if (root) {
		char cmd[200];
		snprintf(cmd, sizeof(cmd), "%s/closed/state/sms/state.db", dir);
		assert_int_equal(unlink(cmd), 0);
		static const char *const etc[] = { "resolv.conf", "hosts", "nsswitch.conf",
						   "services" };
		for (size_t i = 0; i < ARRAY_LEN(etc); i++) {
			snprintf(cmd, sizeof(cmd), "%s/closed/state/sms/etc/%s", dir, etc[i]);
			unlink(cmd);
		}
		static const char *const folders[] = { "closed/state/sms/etc", "closed/state/sms",
						       "closed/state" };
		for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
			snprintf(cmd, sizeof(cmd), "%s/%s", dir, folders[i]);
			assert_int_equal(rmdir(cmd), 0);
		}
		assert_int_equal(chown(dir, 65534, 65534), 0);
		assert_int_equal(chown(path, 65534, 65534), 0);
		try_jail(false);
	}
}

static int make_dir(void **state)
{
	UNUSED(state);
	snprintf(dir, sizeof(dir), "/tmp/test_child.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = { "closed/state/sms/etc/resolv.conf",
					     "closed/state/sms/etc/hosts",
					     "closed/state/sms/etc/nsswitch.conf",
					     "closed/state/sms/etc/services",
					     "closed/state/sms/etc",
					     "closed/state/sms/state.db",
					     "closed/state/sms",
					     "closed/state",
					     "closed",
					     "state/sms/lock",
					     "state/sms",
					     "state",
					     "" };
	char path[200];

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		remove(path);
	}
	return 0;
}

/* ---- one process a folder ---- */

static void successor_waits(void **state)
{
	struct err e;
	json_t *m;

	UNUSED(state);
	start();
	struct client first = tandemd;
	pid_t first_pid = pid;
	launch();
	assert_true(client_send(&tandemd, "config", config_doc(""), &e) > 0);
	assert_int_equal(client_receive(&tandemd, 500, &m, &e), E_TIMEOUT);
	close(first.fd); /* the first one's tandemd dies */
	assert_int_equal(client_receive(&tandemd, 10000, &m, &e), 0);
	assert_non_null(json_object_get(m, "result"));
	json_decref(m);
	assert_int_equal(waitpid(first_pid, NULL, 0), first_pid);
	assert_int_equal(end_status(), 0);
}

#define HERE(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HERE(answers_from_threads), HERE(cancelling),
		HERE(strange_requests),     HERE(bad_start),
		HERE(garbage_from_tandemd), HERE(terminated),
		HERE(successor_waits),      HERE(jails),
	};

	frame_init();
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
