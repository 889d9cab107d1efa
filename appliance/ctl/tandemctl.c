/* tandemctl.c - one command, one answer. See ctl.h. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/child/frame.h"
#include "appliance/ctl/ctl.h"

int ctl_complain(const struct ctl *c, int status, const struct err *e)
{
	if (c->json) {
		json_t *o = frame_error(0, e->code, e->text);
		json_dumpf(o, stdout, JSON_INDENT(1));
		putchar('\n');
		json_decref(o);
	}
	fprintf(stderr, "tandemctl: %s\n", e->text);
	return status;
}

int ctl_connect(struct ctl *c)
{
	struct err e = { 0, NULL, "" };

	return client_open(&c->client, c->control, &e) < 0 ? ctl_complain(c, EXIT_UNREACHED, &e)
							   : 0;
}

static int error_status(const json_t *error)
{
	const char *code = json_string_value(json_object_get(error, "code"));

	if (json_object_get(error, "done"))
		return EXIT_PARTLY;
	return code && (strcmp(code, "timeout") == 0) ? EXIT_UNKNOWN : EXIT_REFUSED;
}

int ctl_show(struct ctl *c, const json_t *answer)
{
	const json_t *result = json_object_get(answer, "result"),
		     *error = json_object_get(answer, "error");
	const char *text = json_string_value(json_object_get(error, "text"));

	if (c->json) {
		/* A result alone; an error in its envelope, so that it cannot be taken for one. */
		if (result)
			json_dumpf(result, stdout, JSON_INDENT(1));
		else
			fprintf(stdout, "{\"error\": "), json_dumpf(error, stdout, JSON_INDENT(1)),
				fputc('}', stdout);
		putchar('\n');
	} else if (result) {
		print_result(c->cmd, result);
	}
	if (result)
		return EXIT_DONE;
	fprintf(stderr, "tandemctl: %s\n", text ? text : "failed");
	return error_status(error);
}

/* ---- status --wait ---- */

static int once(struct ctl *c, json_t **answer_r, struct err *e)
{
	int rc = client_open(&c->client, c->control, e);

	if (rc == 0)
		rc = client_call(&c->client, "status", NULL, 10000, answer_r, e);
	client_close(&c->client);
	return rc;
}

static int wait_ready(struct ctl *c, uint64_t seconds)
{
	uint64_t until = clock_mono_ms() + seconds * 1000;
	struct err e = { 0, NULL, "" };
	json_t *answer = NULL;

	for (;;) {
		int rc = once(c, &answer, &e);
		bool ready =
			rc == 0 &&
			json_is_true(json_object_get(json_object_get(answer, "result"), "ready"));
		if (ready || clock_mono_ms() >= until) {
			int status = rc < 0 ? ctl_complain(c, EXIT_UNREACHED, &e)
					    : ctl_show(c, answer);
			json_decref(answer);
			return ready || status ? status : EXIT_REFUSED;
		}
		json_decref(answer);
		answer = NULL;
		usleep(50000);
	}
}

/* ---- trace ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	UNUSED(sig);
	interrupted = 1;
}

static void show_event(const struct ctl *c, const json_t *event)
{
	char stamp[CLOCK_STAMP_MAX];
	const char *process = json_string_value(json_object_get(event, "process"));
	const char *line = json_string_value(json_object_get(event, "line"));

	if (c->json) {
		json_dumpf(event, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		clock_stamp((uint64_t)json_integer_value(json_object_get(event, "time_ms")), stamp);
		printf("%s %-5s %s\n", stamp, process ? process : "", line ? line : "");
	}
	fflush(stdout);
}

static int stream(struct ctl *c, struct err *e)
{
	struct sigaction sa = { .sa_handler = on_interrupt }; /* no SA_RESTART: poll returns */
	uint64_t id;
	json_t *msg;
	bool cancelled = false;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	id = client_send(&c->client, c->cmd->name, json_incref(c->args), e);
	if (id == 0)
		return ctl_complain(c, EXIT_UNKNOWN, e);
	for (;;) {
		if (interrupted && !cancelled) {
			cancelled = true;
			client_cancel(&c->client, id, e);
		}
		int rc = client_receive(&c->client, cancelled ? 6000 : -1, &msg, e);
		if (rc == E_AGAIN)
			continue;
		if (rc < 0)
			return ctl_complain(c, EXIT_UNKNOWN, e);
		const json_t *event = json_object_get(msg, "event");
		int status = event ? 0 : ctl_show(c, msg);
		if (event)
			show_event(c, event);
		json_decref(msg);
		if (!event)
			return status;
	}
}

/* ---- everything else ---- */

static int call(struct ctl *c)
{
	struct err e = { 0, NULL, "" };
	char *made = NULL;
	json_t *answer;
	int rc = secret_read(c, &made);

	if (rc == 0)
		rc = ctl_connect(c);
	if (rc == 0 && c->cmd->streams) {
		rc = stream(c, &e);
	} else if (rc == 0) {
		if (client_call(&c->client, c->cmd->name, json_incref(c->args),
				(int)c->cmd->wait_ms + 5000, &answer, &e) < 0) {
			rc = ctl_complain(c, EXIT_UNKNOWN, &e);
		} else {
			json_t *result = json_object_get(answer, "result");
			bool kept = result ||
				    json_object_get(json_object_get(answer, "error"), "done");
			if (made && kept && c->json)
				json_object_set_new(result, "password", json_string(made));
			rc = ctl_show(c, answer);
			if (made && kept && !(c->json && result))
				printf("password: %s\n", made);
			json_decref(answer);
		}
	}
	if (made)
		wipe(made, strlen(made));
	free(made);
	return rc;
}

static int run(struct ctl *c)
{
	const json_t *wait = json_object_get(c->args, "wait");

	if (c->cmd->target == CMD_LOCAL)
		return local_run(c);
	if (strcmp(c->cmd->name, "user import") == 0)
		return import_run(c);
	if (wait)
		return wait_ready(c, (uint64_t)json_integer_value(wait));
	return call(c);
}

int tandemctl_main(int argc, char **argv)
{
	struct ctl c = { .client = { .fd = -1 } };
	int rc;

	frame_init();
	rc = cmdline_parse(&c, argc, argv);
	rc = rc ? rc - 1 : run(&c);
	client_close(&c.client);
	json_decref(c.args);
	if (fflush(stdout) != 0 && rc == 0)
		rc = EXIT_REFUSED;
	return rc;
}
