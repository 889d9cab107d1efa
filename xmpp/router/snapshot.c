/* snapshot.c - the configuration snapshot that workers share, and ids that grow: what the access
 * layer needs of the router without its users and queues. See worker.h. */
#include "xmpp/router/worker.h"

#include "appliance/base/clock.h"
#include "appliance/loop/tls.h"

#define ID_MS_SHIFT     22
#define ID_WORKER_SHIFT 16
#define CONFIG_OCTETS   (64u << 20)

static uint64_t id_make(const struct worker *w, uint64_t ms)
{
	return ms << ID_MS_SHIFT | (uint64_t)w->id << ID_WORKER_SHIFT;
}

uint64_t worker_new_id(struct worker *w)
{
	uint64_t ms = clock_wall_ms(), last_ms = w->last_id >> ID_MS_SHIFT;

	if (ms > last_ms)
		w->last_id = id_make(w, ms);
	else if ((w->last_id & 0xffff) == 0xffff)
		w->last_id = id_make(w, last_ms + 1);
	else
		w->last_id++;
	return w->last_id;
}

void worker_put(struct worker *w, struct store_op *op, uint64_t id)
{
	store_submit(w->store, op);
	atomic_store_explicit(&w->put_id, id, memory_order_release);
}

void worker_id_floor(struct worker *w, uint64_t id)
{
	if (id >> ID_MS_SHIFT >= w->last_id >> ID_MS_SHIFT)
		w->last_id = id_make(w, id >> ID_MS_SHIFT) | 0xffff;
	atomic_store_explicit(&w->put_id, w->last_id, memory_order_release);
}

/* ---- configuration --------------------------------------------------------------------------- */

static const struct core_limits default_limits = {
	.preauth = { .stanza_octets = 16384, .depth = 16, .attrs = 32, .nodes = 256 },
	.bound = { .stanza_octets = 262144, .depth = 64, .attrs = 64, .nodes = 8192 },
	.component = { .stanza_octets = 524288, .depth = 64, .attrs = 64, .nodes = 16384 },
	.own = { .stanza_octets = 589824, .depth = 64, .attrs = 64, .nodes = 16384 },
	.conns_per_addr = 1000,
	.unauth_s = 30,
	.auth_failures = 5,
	.stanza_rate = 0,
	.stanza_burst = 0,
	.octet_rate = 0,
	.out_octets = 4u << 20,
	.sm_queue = 2000,
	.sm_resume_s = 300,
	.mail_per_user = 1000,
	.mail_expiry_s = 0,
	.component_expiry_s = 86400,
	.roster_items = 5000,
	.sessions_per_user = 20,
	.seen_window_s = 7 * 86400,
};

int core_config_new(struct core_config **c_r)
{
	struct arena *a = arena_new(1024, CONFIG_OCTETS);
	struct core_config *c = a ? arena_new_obj(a, struct core_config) : NULL;

	if (!c) {
		arena_free(&a);
		return E_NOMEM;
	}
	atomic_init(&c->refs, 1);
	c->arena = a;
	c->lim = default_limits;
	c->tls_required = true;
	c->scram_iterations = 4096;
	htable_init(&c->domains);
	*c_r = c;
	return 0;
}

static bool domain_match(const struct hnode *n, const void *key)
{
	return sl_eq(container_of(n, const struct domain, hn)->name, *(const struct sl *)key);
}

const struct domain *core_domain(const struct core_config *c, struct sl name)
{
	struct hnode *n = htable_find(&c->domains, hash_bytes(name), domain_match, &name);

	return n ? container_of(n, struct domain, hn) : NULL;
}

int core_config_add_domain(struct core_config *c, const struct domain *d)
{
	struct domain *copy;

	if (core_domain(c, d->name))
		return E_EXISTS;
	copy = arena_new_obj(c->arena, struct domain);
	if (!copy)
		return E_NOMEM;
	*copy = *d;
	copy->name = arena_dup(c->arena, d->name);
	copy->secret = arena_dup(c->arena, d->secret);
	if (!copy->name.n || (d->secret.n && !copy->secret.n))
		return E_NOMEM;
	if (htable_add(&c->domains, &copy->hn, hash_bytes(copy->name)) != 0)
		return E_NOMEM;
	copy->tls = d->tls ? tls_ctx_ref(d->tls) : NULL;
	return 0;
}

int core_config_copy(const struct core_config *from, struct core_config **c_r)
{
	const struct hnode *n = NULL;
	struct core_config *c;
	int rc = core_config_new(&c);

	if (rc != 0)
		return rc;
	c->lim = from->lim;
	c->tls_required = from->tls_required;
	c->component_tls = from->component_tls;
	c->scram_iterations = from->scram_iterations;
	c->tls_first = from->tls_first ? tls_ctx_ref(from->tls_first) : NULL;
	c->mechanisms = arena_dup(c->arena, from->mechanisms);
	if (from->mechanisms.n && !c->mechanisms.n)
		rc = E_NOMEM;
	while (rc == 0 && (n = htable_next(&from->domains, n)))
		rc = core_config_add_domain(c, container_of(n, const struct domain, hn));
	if (rc == 0)
		*c_r = c;
	else
		core_config_unref(c);
	return rc;
}

const struct core_config *core_config_ref(const struct core_config *c)
{
	struct core_config *mutable_c = (struct core_config *)(uintptr_t)c;

	atomic_fetch_add_explicit(&mutable_c->refs, 1, memory_order_relaxed);
	return c;
}

void core_config_unref(const struct core_config *c)
{
	struct core_config *mutable_c = (struct core_config *)(uintptr_t)c;

	if (!c || atomic_fetch_sub_explicit(&mutable_c->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (struct hnode *n = NULL; (n = htable_next(&mutable_c->domains, n));)
		tls_ctx_unref(&container_of(n, struct domain, hn)->tls);
	tls_ctx_unref(&mutable_c->tls_first);
	htable_free(&mutable_c->domains);
	struct arena *a = mutable_c->arena;
	arena_free(&a);
}
