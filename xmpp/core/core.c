/* core.c - see core.h. */
#include "xmpp/core/core.h"

#include <pthread.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/tls.h"
#include "xmpp/access/auth.h"
#include "xmpp/router/router.h"

#define DRAIN_TICK_MS 10u
#define DRAIN_MAX_MS  8000u
#define SPARE_PARSERS 16u
#define LAST_TURNS    20u

enum phase { PHASE_START, PHASE_SERVE, PHASE_DRAIN, PHASE_STOP, PHASE_CLOSED };

struct core_worker {
	struct worker w;
	struct core *core;
	pthread_t thread;
	struct loop_timer drain;
	uint64_t drain_until_ms;
	bool started;
};

struct core {
	struct bus *bus;
	struct store *store;
	struct auth_pool *auth;
	struct access *access;
	const struct core_config *base; /* as the operator configured it */
	const struct core_config *cfg;  /* with the components added by command */
	struct core_setup setup;
	char *store_path;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum phase phase; /* under the lock when it is waited for */
	unsigned nready, ndrained, nthreads;
	int start_rc;
	_Atomic bool stop_asked;
	struct core_ask poke; /* wakes worker 0 to look at all this; one under way at most */
	_Atomic bool poked;
	uint16_t nworkers;
	struct core_worker worker[];
};

/* ---- small things
 * -------------------------------------------------------------------------------- */

struct worker *core_worker(struct core *c, uint16_t i)
{
	return &c->worker[i].w;
}

uint16_t core_workers(const struct core *c)
{
	return c->nworkers;
}

struct loop *core_loop(struct core *c)
{
	return c->worker[0].w.loop;
}

const struct core_config *core_base_config(const struct core *c)
{
	return c->base;
}

int core_global_init(struct err *e)
{
	rnd_init();
	hash_key_init();
	tls_init();
	return auth_global_init(e);
}

/* ---- asking
 * -------------------------------------------------------------------------------------- */

static void ask_dropped(struct bus_msg *m)
{
	struct core_ask *a = container_of(m, struct core_ask, msg);

	a->done(a);
}

static void ask_post(struct core_ask *a, struct bus *bus, uint16_t to)
{
	a->msg.to = (struct bus_addr){ .node = BUS_NODE_SELF, .worker = to };
	bus_post(bus, &a->msg);
}

/* CORE_MSG_CONTROL. Also the last hop, back in worker 0, comes here. */
static void on_ask(void *worker_arg, struct bus_msg *m_take)
{
	struct core_ask *a = container_of(m_take, struct core_ask, msg);
	struct worker *w = worker_arg;

	if (a->at == bus_workers(w->bus)) {
		a->done(a);
		return;
	}
	a->ask(a, w);
	a->at++;
	ask_post(a, w->bus, a->at < bus_workers(w->bus) ? a->at : 0);
}

void core_ask(struct core *c, struct core_ask *a)
{
	a->msg.type = CORE_MSG_CONTROL;
	a->msg.free = ask_dropped;
	a->at = 0;
	ask_post(a, c->bus, 0);
}

/* Any thread: something that concerns all workers has come about. */
static void poke(struct core *c)
{
	if (!atomic_exchange(&c->poked, true))
		ask_post(&c->poke, c->bus, 0);
}

/* ---- snapshots
 * ----------------------------------------------------------------------------------- */

struct snapshot_msg {
	struct bus_msg msg;
	const struct core_config *cfg;
};

static void snapshot_free(struct bus_msg *m)
{
	struct snapshot_msg *sm = container_of(m, struct snapshot_msg, msg);

	core_config_unref(sm->cfg);
	free(sm);
}

static void on_snapshot(void *worker_arg, struct bus_msg *m_take)
{
	struct snapshot_msg *sm = container_of(m_take, struct snapshot_msg, msg);
	struct worker *w = worker_arg;
	const struct core_config *old = w->cfg;

	w->cfg = sm->cfg;
	sm->cfg = NULL;
	core_config_unref(old);
	snapshot_free(m_take);
}

static int publish(struct core *c, const struct core_config *cfg_take)
{
	const struct core_config *old = c->cfg;
	int rc = 0;

	c->cfg = cfg_take;
	for (uint16_t i = 0; i < c->nworkers; i++) {
		struct snapshot_msg *m = calloc(1, sizeof(*m));

		if (!m) {
			log_ev(LOG_L_ERROR, "core.snapshot_lost", KU("worker", i));
			rc = E_NOMEM;
			continue;
		}
		m->cfg = core_config_ref(cfg_take);
		m->msg.type = CORE_MSG_SNAPSHOT;
		m->msg.to = (struct bus_addr){ .node = BUS_NODE_SELF, .worker = i };
		m->msg.free = snapshot_free;
		bus_post(c->bus, &m->msg);
	}
	core_config_unref(old);
	return rc;
}

/* base with the components of the store. */
static int merged(const struct core_config *base, const struct store_component_list *l,
		  const struct core_config **r)
{
	struct core_config *c;
	int rc = core_config_copy(base, &c);

	for (unsigned i = 0; rc == 0 && i < l->n_r; i++) {
		struct domain d = { .name = l->row_r[i].domain,
				    .secret = l->row_r[i].secret,
				    .kind = DOMAIN_COMPONENT };

		if (!core_domain(c, d.name)) /* what the configuration says goes first */
			rc = core_config_add_domain(c, &d);
	}
	if (rc == 0)
		*r = c;
	else
		core_config_unref(c);
	return rc;
}

struct refresh {
	struct store_component_list list;
	struct core_ask ask; /* goes behind the snapshots: in each worker it finds the new one */
	int rc;
	struct core *c;
	void (*done)(void *arg, int rc);
	void *arg;
};

static void asked_nothing(struct core_ask *a, struct worker *w)
{
	UNUSED(a);
	UNUSED(w);
}

static void everywhere(struct core_ask *a)
{
	struct refresh *f = container_of(a, struct refresh, ask);

	f->done(f->arg, f->rc);
	free(f);
}

static void refreshed(struct store_op *op)
{
	struct refresh *f = op->arg;
	const struct core_config *cfg;
	int rc = op->rc;

	if (rc == 0)
		rc = merged(f->c->base, &f->list, &cfg);
	if (rc == 0)
		rc = publish(f->c, cfg);
	store_op_fini(op);
	f->rc = rc;
	f->ask.ask = asked_nothing;
	f->ask.done = everywhere;
	core_ask(f->c, &f->ask);
}

void core_components_changed(struct core *c, void (*done)(void *arg, int rc), void *arg)
{
	struct refresh *f = calloc(1, sizeof(*f));

	if (!f) {
		done(arg, E_NOMEM);
		return;
	}
	f->c = c;
	f->done = done;
	f->arg = arg;
	store_op_init(&f->list.op, STORE_COMPONENT_LIST, refreshed, f);
	store_submit(c->store, &f->list.op);
}

void core_reload(struct core *c, const struct core_config *cfg)
{
	core_config_unref(c->base);
	c->base = core_config_ref(cfg);
}

/* ---- a worker
 * ------------------------------------------------------------------------------------ */

static void set_phase(struct core *c, enum phase p)
{
	pthread_mutex_lock(&c->lock);
	c->phase = p;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static void start_failed(struct core *c, int rc)
{
	pthread_mutex_lock(&c->lock);
	if (c->start_rc == 0)
		c->start_rc = rc;
	pthread_mutex_unlock(&c->lock);
	poke(c);
}

static void router_ready(struct worker *w, int rc)
{
	struct core *c = container_of(w, struct core_worker, w)->core;

	if (rc != 0) {
		start_failed(c, rc);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->nready++;
	pthread_mutex_unlock(&c->lock);
	poke(c);
}

/* In the worker's thread. */
static int worker_open(struct core_worker *cw)
{
	struct err e = { 0 };
	int rc = access_worker_init(cw->core->access, &cw->w, &e);

	if (rc == 0)
		rc = router_open(&cw->w, router_ready, &e);
	if (rc != 0) {
		log_ev(LOG_L_ERROR, "core.worker_failed", KU("worker", cw->w.id), KE(&e));
		start_failed(cw->core, rc);
	}
	return rc;
}

/* The store is closed: what it answered still comes, then the worker's tables go. */
static void worker_close(struct core_worker *cw)
{
	for (unsigned i = 0; i < LAST_TURNS; i++)
		loop_turn(cw->w.loop, 0);
	access_worker_free(&cw->w);
	router_close(&cw->w);
	bus_detach(cw->core->bus, cw->w.id);
}

static void *worker_thread(void *arg)
{
	struct core_worker *cw = arg;
	struct core *c = cw->core;

	bus_enter(c->bus, cw->w.id);
	worker_open(cw);
	loop_run(cw->w.loop);
	pthread_mutex_lock(&c->lock);
	while (c->phase != PHASE_CLOSED)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	worker_close(cw);
	return NULL;
}

static int worker_init(struct core *c, uint16_t i, struct err *e)
{
	struct core_worker *cw = &c->worker[i];
	struct worker *w = &cw->w;
	int rc;

	cw->core = c;
	w->id = i;
	w->bus = c->bus;
	w->services = &service_table;
	w->cfg = core_config_ref(c->cfg);
	list_init(&w->conns);
	htable_init(&w->users);
	htable_init(&w->components);
	rc = loop_new(c->setup.backend, &w->loop, e);
	if (rc == 0)
		rc = bus_attach(c->bus, i, w->loop, w, e);
	if (rc == 0 && xml_pool_new(&w->xml, SPARE_PARSERS) != 0)
		rc = err_set(e, E_NOMEM, NULL, "no memory for a worker");
	return rc;
}

static void worker_fini(struct core_worker *cw)
{
	struct worker *w = &cw->w;

	loop_timer_clear(&cw->drain);
	xml_pool_free(&w->xml);
	htable_free(&w->users);
	htable_free(&w->components);
	core_config_unref(w->cfg);
	if (w->loop)
		loop_free(&w->loop);
}

/* ---- the end
 * ------------------------------------------------------------------------------------- */

static void drain_tick(struct loop_timer *t)
{
	struct core_worker *cw = container_of(t, struct core_worker, drain);
	struct core *c = cw->core;

	if (!access_worker_idle(&cw->w) && loop_now_ms(cw->w.loop) < cw->drain_until_ms) {
		loop_timer_set(cw->w.loop, t, DRAIN_TICK_MS, drain_tick);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->ndrained++;
	pthread_mutex_unlock(&c->lock);
	poke(c);
}

static void drain(struct core_ask *a, struct worker *w)
{
	struct core_worker *cw = container_of(w, struct core_worker, w);

	UNUSED(a);
	access_worker_shutdown(w);
	cw->drain_until_ms = loop_now_ms(w->loop) + DRAIN_MAX_MS;
	drain_tick(&cw->drain);
}

static void free_ask(struct core_ask *a)
{
	free(a);
}

static void begin_drain(struct core *c)
{
	struct core_ask *a = calloc(1, sizeof(*a));

	c->phase = PHASE_DRAIN;
	if (!a) {
		loop_stop(c->worker[0].w.loop);
		return;
	}
	a->ask = drain;
	a->done = free_ask;
	core_ask(c, a);
}

static void serve(struct core *c)
{
	struct err e = { 0 };
	int rc = 0;

	c->phase = PHASE_SERVE;
	while (c->setup.nlisten && rc == 0) {
		struct core_listen *l = &c->setup.listen[--c->setup.nlisten];

		rc = access_listen(&c->worker[0].w, l->port, l->fd, &e);
	}
	if (rc != 0) {
		log_ev(LOG_L_ERROR, "core.listen_failed", KE(&e));
		start_failed(c, rc);
	} else if (c->setup.ready) {
		c->setup.ready(c->setup.arg, 0);
	}
}

/* Worker 0 was poked. */
static void look(struct core_ask *a)
{
	struct core *c = container_of(a, struct core, poke);
	bool all_ready, all_drained, failed;

	atomic_store(&c->poked, false);
	pthread_mutex_lock(&c->lock);
	all_ready = c->nready == c->nworkers;
	all_drained = c->ndrained == c->nworkers;
	failed = c->start_rc != 0;
	pthread_mutex_unlock(&c->lock);
	if (c->phase == PHASE_START && failed) {
		if (c->setup.ready)
			c->setup.ready(c->setup.arg, c->start_rc);
		begin_drain(c);
	} else if (c->phase == PHASE_START && all_ready) {
		serve(c);
	}
	if (c->phase <= PHASE_SERVE && (atomic_load(&c->stop_asked) || failed))
		begin_drain(c);
	if (c->phase == PHASE_DRAIN && all_drained)
		loop_stop(c->worker[0].w.loop);
}

void core_stop(struct core *c)
{
	atomic_store(&c->stop_asked, true);
	poke(c);
}

static void stop_threads(struct core *c)
{
	for (uint16_t i = 1; i < c->nworkers; i++)
		loop_stop(c->worker[i].w.loop);
	/* Everything that was submitted is committed before this returns. */
	auth_pool_free(&c->auth);
	store_close(c->store);
	set_phase(c, PHASE_CLOSED);
	for (uint16_t i = 1; i < c->nworkers; i++)
		if (c->worker[i].started)
			pthread_join(c->worker[i].thread, NULL);
	worker_close(&c->worker[0]);
}

int core_run(struct core *c)
{
	int rc = 0;

	for (uint16_t i = 1; i < c->nworkers && rc == 0; i++) {
		rc = pthread_create(&c->worker[i].thread, NULL, worker_thread, &c->worker[i]);
		c->worker[i].started = rc == 0;
	}
	if (rc != 0) {
		log_ev(LOG_L_ERROR, "core.thread_failed", KC("error", strerror(rc)));
		start_failed(c, E_IO);
	} else {
		worker_open(&c->worker[0]);
	}
	loop_run(c->worker[0].w.loop);
	stop_threads(c);
	return c->start_rc;
}

/* ---- start
 * --------------------------------------------------------------------------------------- */

static void answered(struct store_op *op)
{
	*(bool *)op->arg = true;
}

/* Wait for one operation, before the workers run. */
static int store_wait(struct core *c, struct store_op *op)
{
	bool done = false;

	op->arg = &done;
	store_submit(c->store, op);
	while (!done)
		loop_turn(c->worker[0].w.loop, 50);
	return op->rc;
}

/* The secret that makes up verifiers: made once, kept for ever (scram.h). */
static int load_secret(struct core *c, unsigned char secret[ACCESS_SECRET_OCTETS])
{
	struct store_meta_put put;
	struct store_meta_get get;
	int rc;

	rnd_bytes(secret, ACCESS_SECRET_OCTETS);
	memset(&put, 0, sizeof(put));
	memset(&get, 0, sizeof(get));
	store_op_init(&put.op, STORE_META_PUT, answered, NULL);
	put.key = SL("auth-secret");
	put.value = sl_mk((const char *)secret, ACCESS_SECRET_OCTETS);
	put.create_only = true;
	rc = store_wait(c, &put.op);
	store_op_fini(&put.op);
	if (rc != 0)
		return rc;
	store_op_init(&get.op, STORE_META_GET, answered, NULL);
	get.key = SL("auth-secret");
	rc = store_wait(c, &get.op);
	if (rc == 0 && get.found_r && get.value_r.n == ACCESS_SECRET_OCTETS)
		memcpy(secret, get.value_r.p, ACCESS_SECRET_OCTETS);
	else if (rc == 0)
		rc = E_INTERNAL;
	store_op_fini(&get.op);
	return rc;
}

static int load_components(struct core *c)
{
	struct store_component_list l;
	const struct core_config *cfg;
	int rc;

	memset(&l, 0, sizeof(l));
	store_op_init(&l.op, STORE_COMPONENT_LIST, answered, NULL);
	rc = store_wait(c, &l.op);
	if (rc == 0)
		rc = merged(c->base, &l, &cfg);
	store_op_fini(&l.op);
	if (rc != 0)
		return rc;
	core_config_unref(c->cfg);
	c->cfg = cfg;
	for (uint16_t i = 0; i < c->nworkers; i++) {
		core_config_unref(c->worker[i].w.cfg);
		c->worker[i].w.cfg = core_config_ref(cfg);
	}
	return 0;
}

static int open_store(struct core *c, struct err *e)
{
	struct store_cfg cfg = { .engine = "sqlite",
				 .path = c->store_path,
				 .schema = STORE_CORE,
				 .readers = 2,
				 .sync_off = c->setup.store_sync_off };
	int rc = store_new(&cfg, c->bus, &c->store, e);

	for (uint16_t i = 0; i < c->nworkers; i++)
		c->worker[i].w.store = c->store;
	return rc;
}

static int open_access(struct core *c, struct err *e)
{
	struct access_cfg cfg = { .nuids = c->setup.nuids };
	unsigned threads = c->setup.auth_threads ? c->setup.auth_threads
			   : c->nworkers < 2     ? 2
						 : c->nworkers;
	int rc;

	memcpy(cfg.uid, c->setup.uid, sizeof(cfg.uid));
	rc = load_secret(c, cfg.secret);
	if (rc == 0)
		rc = load_components(c);
	if (rc != 0)
		return err_set(e, rc, NULL, "the store does not answer");
	rc = access_new(&cfg, c->bus, &c->access, e);
	wipe(&cfg, sizeof(cfg));
	if (rc == 0)
		rc = auth_pool_new(threads, c->bus, &c->auth, e);
	for (uint16_t i = 0; rc == 0 && i < c->nworkers; i++)
		c->worker[i].w.auth = c->auth;
	return rc;
}

static void poke_dropped(struct bus_msg *m)
{
	UNUSED(m);
}

static int start(struct core *c, struct err *e)
{
	int rc = bus_new(c->nworkers, &c->bus, e);

	for (uint16_t i = 0; rc == 0 && i < c->nworkers; i++)
		rc = worker_init(c, i, e);
	if (rc != 0)
		return rc;
	bus_on(c->bus, CORE_MSG_CONTROL, on_ask);
	bus_on(c->bus, CORE_MSG_SNAPSHOT, on_snapshot);
	router_bus_init(c->bus);
	bus_enter(c->bus, 0);
	rc = open_store(c, e);
	return rc == 0 ? open_access(c, e) : rc;
}

int core_new(const struct core_setup *s, struct core **c_r, struct err *e)
{
	uint16_t n = s->workers ? s->workers : 1;
	struct core *c = calloc(1, sizeof(*c) + n * sizeof(c->worker[0]));
	int rc;

	if (!c || !(c->store_path = sl_dup(sl_cstr(s->store_path)))) {
		for (unsigned i = 0; i < s->nlisten; i++)
			close(s->listen[i].fd);
		free(c);
		return err_set(e, E_NOMEM, NULL, "no memory");
	}
	c->setup = *s;
	c->poke = (struct core_ask){ .msg = { .type = CORE_MSG_CONTROL, .free = poke_dropped },
				     .at = n,
				     .done = look };
	c->nworkers = n;
	c->base = core_config_ref(s->cfg);
	c->cfg = core_config_ref(s->cfg);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	rc = start(c, e);
	if (rc != 0) {
		core_free(&c);
		return rc;
	}
	*c_r = c;
	return 0;
}

void core_free(struct core **cp)
{
	struct core *c = *cp;

	if (!c)
		return;
	while (c->setup.nlisten)
		close(c->setup.listen[--c->setup.nlisten].fd);
	auth_pool_free(&c->auth);
	store_free(&c->store);
	if (c->bus)
		bus_free(&c->bus);
	for (uint16_t i = 0; i < c->nworkers; i++)
		worker_fini(&c->worker[i]);
	access_free(&c->access);
	core_config_unref(c->base);
	core_config_unref(c->cfg);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c->store_path);
	free(c);
	*cp = NULL;
}
