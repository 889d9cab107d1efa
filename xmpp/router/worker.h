/* worker.h - one worker of tandem-core: its loop, tables and services (DESIGN section 3).
 *
 * Workers share nothing but the bus, the store, and immutable snapshots (configuration, the table
 * of served domains). Every bare JID belongs to one worker (bus_owner); its struct user lives there
 * and is touched by that worker alone. Everything in this file is called in the worker's own thread
 * unless it says otherwise. */
#ifndef TANDEM_XMPP_WORKER_H
#define TANDEM_XMPP_WORKER_H

#include <stdatomic.h>

#include "appliance/base/arena.h"
#include "appliance/base/hash.h"
#include "appliance/base/list.h"
#include "appliance/bus/bus.h"
#include "appliance/loop/loop.h"
#include "appliance/store/store.h"
#include "xmpp/stream/stanza.h"

struct tls_ctx;
struct auth_pool;
struct service_table;

/* Message types on tandem-core's bus. BUS_TYPE_STORE_DONE is 1. */
enum {
	CORE_MSG_STANZA = 2, /* route.c: a stanza for an entity of this worker */
	CORE_MSG_CONN,       /* access: a new descriptor, or a connection that moves house */
	CORE_MSG_AUTH,       /* access: an answer of the auth pool */
	CORE_MSG_CONTROL,   /* core: part of a control command (list sessions, close, counters, ...)
			     */
	CORE_MSG_SNAPSHOT,  /* core: new configuration or domain table */
	CORE_MSG_ACCOUNT,   /* user.c: an account was made, changed or removed */
	CORE_MSG_EXPIRED,   /* expire.c: a row of an owner of this worker expired */
	CORE_MSG_COMPONENT, /* component.c: a component's first stream is up, or its last one gone
			     */
};

/* What the operator set, as one immutable, reference-counted snapshot that all workers share; made
 * from the configuration document (appliance/config). Reload publishes a new one to each worker. */
struct core_limits {
	struct xml_limits preauth, bound,
		component;     /* stanza size before and after login, on component streams */
	struct xml_limits own; /* of our translators: room for what they say about a stanza */
	uint32_t conns;        /* of all listeners together; 0: no limit */
	uint32_t conns_per_addr;
	uint32_t unauth_s;                  /* seconds until a login must be complete */
	uint32_t auth_failures;             /* per connection */
	uint32_t stanza_rate, stanza_burst; /* stanzas a second a session, token bucket; 0: none */
	uint32_t octet_rate; /* octets a second a session, enforced by pausing reads; 0: none */
	size_t out_octets;   /* output buffer of a connection */
	uint32_t sm_queue;   /* unacknowledged stanzas a session */
	uint32_t sm_resume_s;
	uint32_t mail_per_user;      /* offline messages */
	uint64_t mail_expiry_s;      /* 0: never */
	uint32_t component_expiry_s; /* a message waits this long for our own translator */
	uint32_t roster_items;
	uint32_t sessions_per_user;
	uint32_t seen_window_s; /* duplicate marks are kept this long */
};

enum domain_kind { DOMAIN_HOST, DOMAIN_COMPONENT };

struct domain { /* a domain that we serve */
	struct hnode hn;
	struct sl name;
	enum domain_kind kind;
	struct tls_ctx *tls; /* hosts */
	struct sl secret;    /* components over TCP; empty: none */
	bool custody;        /* components: ours - messages wait in the journal while it is away */
	bool local_only;     /* only over the Unix socket with SASL EXTERNAL */
};

/* What TLS is to a component's version='1.0' stream over TCP. OFF: none, and no such streams: every
 * component speaks XEP-0114, whatever its header says. */
enum component_tls { COMPONENT_TLS_REQUIRED, COMPONENT_TLS_OPTIONAL, COMPONENT_TLS_OFF };

struct core_config {
	_Atomic uint32_t refs;
	struct core_limits lim;
	struct htable domains; /* struct domain */
	/* Where TLS comes first: knows all hosts by name. A reference of the snapshot's; may be
	 * NULL. */
	struct tls_ctx *tls_first;
	bool tls_required; /* c2s */
	enum component_tls component_tls;
	uint32_t scram_iterations;
	struct sl mechanisms; /* space-separated, offered in this order */
	struct arena *arena;  /* all text above */
};
const struct domain *core_domain(const struct core_config *c, struct sl name);
const struct core_config *core_config_ref(const struct core_config *c);
void core_config_unref(const struct core_config *c);
/* Building one, before it is published: empty with one reference and default limits; then domains,
 * whose text is copied (of tls a reference is taken). E_NOMEM, E_EXISTS. */
int core_config_new(struct core_config **c_r);
int core_config_add_domain(struct core_config *c, const struct domain *d);
/* A copy to build on, with one reference. E_NOMEM. */
int core_config_copy(const struct core_config *from, struct core_config **c_r);

enum core_counter { /* per worker; summed for tandemctl counters; names in counters.def */
#define X(id, name, help) id,
#include "xmpp/router/counters.def"
#undef X
		    CNT_MAX
};

struct worker {
	uint16_t id;
	struct loop *loop;
	struct bus *bus;
	struct store *store;
	struct auth_pool *auth;
	struct xml_pool *xml;
	const struct service_table *services;
	const struct core_config *cfg;     /* current snapshot; take a reference to keep one */
	struct htable users;               /* struct user, by bare JID */
	struct htable components;          /* struct component, by domain */
	struct list conns;                 /* access: all streams of this worker */
	uint64_t last_id;                  /* worker_new_id */
	_Atomic uint64_t put_id;           /* the last of a submitted row; read by others */
	uint64_t push_id;                  /* of iqs that we ask: roster pushes */
	_Atomic uint64_t counter[CNT_MAX]; /* written here, read by others, relaxed */
	struct router *router;             /* router's own state */
	struct trace_table *trace;         /* JIDs being traced, usually NULL */
	void *access;                      /* access layer's per-worker state */
};

static inline void count(struct worker *w, enum core_counter c)
{
	atomic_store_explicit(&w->counter[c],
			      atomic_load_explicit(&w->counter[c], memory_order_relaxed) + 1,
			      memory_order_relaxed);
}
/* Time-sortable, growing in this worker: milliseconds << 22 | worker << 16 | counter. Survives a
 * clock that steps back (goes on from the last), also over a restart (floor from the store's
 * largest id). */
uint64_t worker_new_id(struct worker *w);
/* Which worker made an id. */
static inline uint16_t worker_of_id(uint64_t id)
{
	return (uint16_t)(id >> 16 & 63);
}
/* Submit the write of a row with a new id. The store commits a worker's rows in the order of their
 * ids; between workers the order of ids says nothing. */
void worker_put(struct worker *w, struct store_op *op, uint64_t id);
/* The next ids are above this one, which the store has. */
void worker_id_floor(struct worker *w, uint64_t id);

/* ---- the router's life in a worker ----------------------------------------------------------- */

/* Once a bus, before the workers start: the handlers of the router's message types. */
void router_bus_init(struct bus *b);
/* In the worker's thread, when loop, bus, store, services and cfg are set. Asks the store for the
 * largest row id, so that new ids are above it; ready (may be NULL) is called when the worker may
 * take stanzas: rc 0 or E_IO. Worker 0 also runs the expiry and purge tasks. E_NOMEM. */
int router_open(struct worker *w, void (*ready)(struct worker *w, int rc), struct err *e);
/* The loop has run its last turn and the store is closed: frees users, queues and tables. Sessions
 * must be gone. */
void router_close(struct worker *w);
/* An account was made, got new credentials, or was removed (any worker's thread): its owner forgets
 * what it knew and, if removed, ends its sessions. */
void router_account_changed(struct worker *w, struct sl bare, bool removed);

#endif
