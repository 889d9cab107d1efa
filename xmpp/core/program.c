/* program.c - see program.h. */
#include "xmpp/core/program.h"

#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

static int reload(void *self, const struct config *cfg_take, struct err *e)
{
	struct program *p = self;
	const struct core_config *cc;
	int rc = core_config_from(cfg_take, &cc, e);

	config_unref(&cfg_take);
	if (rc != 0)
		return rc;
	core_reload(p->core, cc);
	core_config_unref(cc);
	return 0;
}

static void settled(void *arg, int rc)
{
	child_settled(arg, rc);
}

static void settle(void *self, struct child_settle *s)
{
	struct program *p = self;

	core_components_changed(p->core, settled, s);
}

static void stop(void *self)
{
	struct program *p = self;

	p->stopping = true;
	core_stop(p->core);
}

static const struct child_def child_def = {
	.name = "tandem-core",
	.who = CONFIG_CORE,
	.commands = core_commands,
	.reload = reload,
	.settle = settle,
	.stop = stop,
};

/* All workers serve, or the start failed. */
static void ready(void *arg, int rc)
{
	struct program *p = arg;
	struct err e = { 0 };

	if (rc != 0) {
		err_set(&e, rc, NULL, "the workers do not start: %s", e_name(rc));
		child_failed(p->child, &e);
		return;
	}
	child_ready(p->child, p->listening);
	p->listening = NULL;
	log_ev(LOG_L_NOTICE, "core.ready", KU("workers", core_workers(p->core)));
}

static void close_listeners(struct core_setup *s)
{
	while (s->nlisten)
		close(s->listen[--s->nlisten].fd);
}

/* The configuration allows more than the system does: said once, not found out under load. */
static void check_fd_limit(struct core *c, const struct config *cfg)
{
	int end = loop_fd_end(core_loop(c));

	if (cfg->limits.connections >= (uint32_t)end)
		log_ev(LOG_L_NOTICE, "core.few_descriptors", KI("descriptors", end),
		       KU("connections", cfg->limits.connections));
}

/* Everything up to the point where the loop can run. */
static int prepare(struct program *p, struct err *e)
{
	const struct config *cfg = child_config(p->child);
	struct core_setup s = { .store_path = "core.db", .ready = ready, .arg = p };
	int rc;

	p->listening = json_array();
	rc = core_global_init(e);
	if (rc == 0)
		rc = core_config_from(cfg, &s.cfg, e);
	if (rc == 0)
		rc = core_setup_from(cfg, &s, p->listening, e);
	if (rc == 0)
		rc = jail_enter(cfg, CONFIG_CORE, false, e);
	if (rc == 0)
		rc = core_new(&s, &p->core, e);
	else
		close_listeners(&s);
	core_config_unref(s.cfg);
	if (rc == 0)
		rc = child_attach(p->child, core_loop(p->core), e);
	if (rc == 0)
		check_fd_limit(p->core, cfg);
	return rc;
}

int program_main(void)
{
	struct program p = { .started_ms = clock_mono_ms() };
	struct err e = { 0 };
	int rc = child_start(&child_def, &p, &p.child, &e);

	if (rc != 0) {
		log_ev(LOG_L_ERROR, "core.start", KE(&e));
		return 1;
	}
	rc = prepare(&p, &e);
	if (rc != 0) {
		log_ev(LOG_L_ERROR, "core.start", KE(&e));
		child_failed(p.child, &e);
	} else {
		rc = core_run(p.core);
		log_ev(LOG_L_NOTICE, "core.stopped");
	}
	json_decref(p.listening);
	child_free(&p.child);
	core_free(&p.core);
	return rc == 0 ? 0 : 1;
}
