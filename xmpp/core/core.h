/* core.h - tandem-core: its workers, from start to end.
 *
 * Worker 0 runs in the thread that calls core_run; the others have threads of their own. core_new
 * opens what needs the process's state folder (it is called after the jail, with listeners opened
 * before). The configuration document is not known here: core_config.c makes a struct core_config
 * and the rest of a struct core_setup of it, tests fill them by hand. */
#ifndef TANDEM_XMPP_CORE_H
#define TANDEM_XMPP_CORE_H

#include "xmpp/access/access.h"
#include "xmpp/router/worker.h"

#define CORE_LISTEN_MAX 32u

struct core;

struct core_listen {
	enum access_port port;
	int fd;
};

struct core_setup {
	const struct core_config *cfg; /* first snapshot; core takes its own reference */
	const char *store_path;        /* database file */
	bool store_sync_off;           /* tests only */
	uint16_t workers;              /* 1..BUS_MAX_WORKERS */
	unsigned auth_threads;         /* 0: as many as workers, at least 2 */
	enum loop_backend backend;
	uint32_t uid[ACCESS_UIDS_MAX]; /* see access.h */
	unsigned nuids;
	struct core_listen listen[CORE_LISTEN_MAX]; /* core owns the descriptors from core_new on,
						       also when it fails */
	unsigned nlisten;
	/* In worker 0's thread, when all workers serve, or the start failed (the loop ends then).
	 * May be NULL. */
	void (*ready)(void *arg, int rc);
	void *arg;
};

/* Libraries: random source, hash key, TLS, SASL. Once, before threads and jail. */
int core_global_init(struct err *e);

/* Opens the store (and migrates it), makes the workers. The calling thread becomes worker 0's: it
 * must also call core_run and core_free. */
int core_new(const struct core_setup *s, struct core **c_r, struct err *e);
/* Serve until core_stop. Returns when every stream has been told, every session is gone, and
 * everything is committed. 0; or the error that the start ended with. */
int core_run(struct core *c);
void core_stop(struct core *c); /* any thread */
void core_free(struct core **c);

struct worker *core_worker(struct core *c, uint16_t i);
uint16_t core_workers(const struct core *c);
struct loop *core_loop(struct core *c); /* worker 0's: exists from core_new on */

/* A new configuration, from worker 0's thread: what the next core_components_changed publishes,
 * with the components that were added by command. */
void core_reload(struct core *c, const struct core_config *cfg);
/* The snapshot that was given by core_new or core_reload, without the components added by command.
 */
const struct core_config *core_base_config(const struct core *c);
/* The component table of the store, or the configuration, changed: publish a snapshot with both,
 * and call done when every worker works with it. Worker 0's thread. */
void core_components_changed(struct core *c, void (*done)(void *arg, int rc), void *arg);

/* ---- asking the workers
 * ----------------------------------------------------------------------------- */

/* A question that goes from worker to worker, in order, and ends in worker 0. Everything it needs
 * is in the struct that embeds it. */
struct core_ask {
	struct bus_msg msg; /* first */
	uint16_t at;
	void (*ask)(struct core_ask *a, struct worker *w); /* in each worker */
	void (*done)(struct core_ask *a);                  /* in worker 0; owns a again */
};
/* From worker 0's thread. done is always called, except when the process is ending: then drop. */
void core_ask(struct core *c, struct core_ask *a);

#endif
