/* supervisor.c - tandemd as a whole: start, reload, stop. See supervisor.h. */
#include "appliance/supervisor/supervisor.h"

#include <errno.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/hash.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/child/frame.h"
#include "appliance/supervisor/machines.h"

static const struct {
	const char *name;
	enum config_who who;
} programs[] = {
	{ "tandem-core", CONFIG_CORE },
#ifdef CONFIG_TRANSLATOR_SMS
	{ "tandem-sms", CONFIG_SMS },
#endif
};

/* ---- the end ---- */

static void end_loop(struct loop_task *t)
{
	loop_stop(container_of(t, struct supervisor, end_task)->loop);
}

void supervisor_process_gone(struct supervisor *s)
{
	for (int i = 0; i < s->nprocesses; i++)
		if (!process_gone(&s->process[i]))
			return;
	/* A task: answers that wait for the end of the turn are still written. */
	loop_defer(s->loop, &s->end_task, end_loop);
}

void supervisor_stop(struct supervisor *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	log_ev(LOG_L_NOTICE, "tandemd.stopping");
	for (int i = 0; i < s->nprocesses; i++)
		process_stop(&s->process[i]);
}

void supervisor_process_ready(struct supervisor *s, struct process *p)
{
	UNUSED(p);
	for (int i = 0; i < s->nprocesses; i++)
		if (!process_ready(&s->process[i]))
			return;
	log_ev(LOG_L_NOTICE, "tandemd.ready", KU("after_ms", loop_now_ms(s->loop) - s->started_ms));
}

static void fail_task(struct loop_task *t)
{
	supervisor_stop(container_of(t, struct supervisor, end_task));
}

void supervisor_process_failed(struct supervisor *s, struct process *p)
{
	if (!s->opt.fail_fast || s->stopping || p->restarts > 0 || p->listen)
		return;
	fprintf(stderr, "%s cannot serve: %s\n", p->name, p->error);
	s->status = 1;
	loop_defer(s->loop, &s->end_task, fail_task); /* not from inside the machine's own action */
}

/* ---- reload ---- */

struct reload {
	struct supervisor *s;
	unsigned open;
	struct reload_result r;
	void (*done)(void *arg, struct reload_result *r);
	void *arg;
};

struct reload_part {
	struct reload *all;
	struct process *p;
};

static void reload_end_part(struct reload *all)
{
	if (--all->open)
		return;
	log_ev(all->r.err.code ? LOG_L_ERROR : LOG_L_NOTICE, "config.reloaded",
	       KU("generation", all->s->generation), KU("applied", json_array_size(all->r.applied)),
	       KU("need_restart_in", json_object_size(all->r.restart)), KE(&all->r.err));
	all->done(all->arg, &all->r);
	json_decref(all->r.applied);
	json_decref(all->r.restart);
	free(all);
}

static void reload_note(struct reload *all, struct process *p, json_t *restart)
{
	json_decref(p->need_restart);
	p->need_restart = json_array_size(restart) ? json_incref(restart) : NULL;
	if (p->need_restart)
		json_object_set(all->r.restart, p->short_name, restart);
}

static void reload_answered(void *arg, const json_t *result, const struct err *why)
{
	struct reload_part *part = arg;
	struct reload *all = part->all;
	size_t i;
	json_t *key;

	if (why && all->r.err.code == 0)
		err_set(&all->r.err, why->code, NULL, "%s: %s", part->p->name, why->text);
	if (result) {
		json_array_foreach(json_object_get(result, "applied"), i, key)
			json_array_append(all->r.applied, key);
		reload_note(all, part->p, json_object_get(result, "restart"));
	}
	free(part);
	reload_end_part(all);
}

static void reload_process(struct reload *all, struct process *p)
{
	struct err why = { 0, NULL, "" };
	struct reload_part *part;

	if (!process_ready(p))
		return; /* it gets the new one when it starts */
	part = calloc(1, sizeof(*part));
	if (!part)
		return;
	part->all = all;
	part->p = p;
	all->open++;
	p->generation = all->s->generation;
	if (!process_ask(p, "config", config_to_json(all->s->cfg, p->who), 30000, reload_answered,
			 NULL, part, &why))
		reload_answered(part, NULL, &why);
}

static void add_own(void *arg, const char *key, bool restart)
{
	struct reload *all = arg;

	if (!restart)
		return;
	json_t *own = json_object_get(all->r.restart, "tandemd");
	if (!own) {
		own = json_array();
		json_object_set_new(all->r.restart, "tandemd", own);
	}
	json_array_append_new(own, json_string(key));
}

static int load(struct supervisor *s, const struct config **c_r, struct err *e)
{
	int rc = config_load(s->config_path, c_r, e);

	if (rc == 0) /* the one moment in which it is not yet shared */
		((struct config *)(uintptr_t)*c_r)->generation = ++s->generation;
	return rc;
}

int supervisor_reload(struct supervisor *s, void (*done)(void *arg, struct reload_result *r),
		      void *arg, struct err *e)
{
	const struct config *now;
	struct reload *all;
	int rc = load(s, &now, e);

	if (rc < 0)
		return rc;
	all = calloc(1, sizeof(*all));
	if (!all) {
		config_unref(&now);
		return err_set(e, E_NOMEM, NULL, "out of memory");
	}
	*all = (struct reload){ .s = s, .open = 1, .done = done, .arg = arg };
	all->r.applied = json_array();
	all->r.restart = json_object();
	config_unref(&s->cfg);
	s->cfg = now;
	s->count.reloads++;
	log_set_level((enum log_level)now->log_level);
	config_compare(s->first_cfg, now, CONFIG_TANDEMD, add_own, all);
	for (int i = 0; i < s->nprocesses; i++)
		reload_process(all, &s->process[i]);
	reload_end_part(all);
	return 0;
}

static void reload_logged(void *arg, struct reload_result *r)
{
	UNUSED(arg);
	UNUSED(r); /* supervisor_reload has logged it */
}

/* ---- signals ---- */

static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < s->nprocesses; i++)
			if (s->process[i].pid == pid)
				process_reaped(&s->process[i], status);
}

static void on_signals(void *arg, bool term, bool hup, bool chld)
{
	struct supervisor *s = arg;
	struct err e = { 0, NULL, "" };

	if (chld)
		reap(s);
	if (hup && !s->stopping && supervisor_reload(s, reload_logged, NULL, &e) < 0)
		log_ev(LOG_L_ERROR, "config.refused", KE(&e));
	if (term)
		supervisor_stop(s);
}

/* ---- start ---- */

static int find_paths(struct supervisor *s, struct err *e)
{
	ssize_t n;

	if (!realpath(s->opt.config_path, s->config_path))
		return err_errno(e, E_NOTFOUND, "cannot read %s", s->opt.config_path);
	if (s->opt.bin_dir)
		return sl_to_cstr(sl_cstr(s->opt.bin_dir), s->bin_dir, sizeof(s->bin_dir));
	n = readlink("/proc/self/exe", s->bin_dir, sizeof(s->bin_dir) - 1);
	if (n <= 0)
		return err_errno(e, E_IO, "/proc/self/exe");
	s->bin_dir[n] = '\0';
	char *slash = strrchr(s->bin_dir, '/');
	if (slash)
		*slash = '\0';
	return 0;
}

static int start(struct supervisor *s, struct err *e)
{
	static const enum loop_backend backend[] = { LOOP_BACKEND_DEFAULT, LOOP_BACKEND_EPOLL,
						     LOOP_BACKEND_SELECT };
	int rc = machines_check(e);

	if (rc == 0)
		rc = load(s, &s->cfg, e);
	if (rc < 0)
		return rc;
	s->first_cfg = config_ref(s->cfg);
	log_open("tandemd", s->cfg->syslog);
	log_set_level((enum log_level)s->cfg->log_level);
	rc = loop_new(backend[s->cfg->event_backend], &s->loop, e);
	if (rc == 0)
		rc = signals_open(&s->signals, SIGNALS_TANDEMD, e);
	if (rc == 0)
		rc = signals_attach(&s->signals, s->loop, on_signals, s, e);
	if (rc == 0)
		rc = control_open(s, e);
	if (rc < 0)
		return rc;
	s->started_ms = loop_now_ms(s->loop);
	s->nprocesses = (int)ARRAY_LEN(programs);
	for (int i = 0; i < s->nprocesses; i++)
		process_init(&s->process[i], s, programs[i].name, programs[i].who);
	for (int i = 0; i < s->nprocesses; i++)
		process_start(&s->process[i]);
	return 0;
}

static void finish(struct supervisor *s)
{
	if (s->loop) {
		control_close(s);
		for (int i = 0; i < s->nprocesses; i++)
			process_free(&s->process[i]);
		signals_close(&s->signals);
		loop_task_clear(&s->end_task);
		loop_free(&s->loop);
	}
	config_unref(&s->cfg);
	config_unref(&s->first_cfg);
}

int supervisor_run(const struct supervisor_options *opt)
{
	struct supervisor s = { .opt = *opt };
	struct err e = { 0, NULL, "" };
	int rc;

	list_init(&s.conns);
	frame_init();
	rnd_init();
	hash_key_init();
	rc = find_paths(&s, &e);
	if (rc == 0)
		rc = start(&s, &e);
	if (rc == 0) {
		log_ev(LOG_L_NOTICE, "tandemd.started", KI("pid", getpid()),
		       KC("config", s.config_path));
		loop_run(s.loop);
		log_ev(LOG_L_NOTICE, "tandemd.stopped", KI("status", s.status));
	} else {
		fprintf(stderr, "tandemd: %s\n", e.text);
		s.status = 1;
	}
	finish(&s);
	return s.status;
}
