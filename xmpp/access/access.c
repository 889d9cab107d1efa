/* access.c - see access.h. */
#include "xmpp/access/access.h"

#include "appliance/base/log.h"
#include "xmpp/access/asession.h"
#include "xmpp/access/c2s.h"
#include "xmpp/access/component.h"

int access_new(const struct access_cfg *cfg, struct bus *bus, struct access **a_r, struct err *e)
{
	struct access *a = calloc(1, sizeof(*a));
	int rc;

	if (!a || addr_table_new(&a->addrs) != 0) {
		free(a);
		return err_set(e, E_NOMEM, NULL, "no memory for the access layer");
	}
	a->cfg = *cfg;
	a->bus = bus;
	rc = fsm_def_prepare(&as_fsm, e);
	if (rc == 0)
		rc = fsm_def_prepare(&c2s_fsm, e);
	if (rc == 0)
		rc = fsm_def_prepare(&comp_fsm, e);
	if (rc != 0) {
		access_free(&a);
		return rc;
	}
	access_bus_register(bus);
	*a_r = a;
	return 0;
}

void access_free(struct access **ap)
{
	struct access *a = *ap;

	if (!a)
		return;
	addr_table_free(&a->addrs);
	wipe(&a->cfg, sizeof(a->cfg));
	free(a);
	*ap = NULL;
}

int access_worker_init(struct access *a, struct worker *w, struct err *e)
{
	struct access_worker *aw = calloc(1, sizeof(*aw));

	if (!aw)
		return err_set(e, E_NOMEM, NULL, "no memory for the access layer");
	aw->shared = a;
	aw->w = w;
	list_init(&aw->sessions);
	list_init(&aw->unacked);
	htable_init(&aw->sm);
	w->access = aw;
	return 0;
}

static void stop_listening(struct access_worker *aw)
{
	while (aw->nlisteners)
		listener_free(&aw->listener[--aw->nlisteners].ln);
}

void access_worker_shutdown(struct worker *w)
{
	struct access_worker *aw = access_of(w);

	aw->stopping = true;
	stop_listening(aw);
	LIST_FOREACH(it, tmp, &w->conns) {
		struct stream *s = LIST_ENTRY(it, struct stream, node);

		s->kind->end(s, "system-shutdown", SL_NULL);
	}
	LIST_FOREACH(it, tmp, &aw->sessions) {
		struct asession *as = LIST_ENTRY(it, struct asession, node);

		if (as->f.state == AS_DETACHED)
			as_end(as, AS_END_BROKEN);
	}
}

bool access_worker_idle(const struct worker *w)
{
	const struct access_worker *aw = access_of(w);

	return aw->nstreams == 0 && aw->nsessions == 0;
}

void access_worker_free(struct worker *w)
{
	struct access_worker *aw = access_of(w);

	if (!aw)
		return;
	aw->stopping = true;
	stop_listening(aw);
	/* conn_kill reports from the loop: turn it until the last has gone. */
	LIST_FOREACH(it, tmp, &w->conns) {
		struct stream *s = LIST_ENTRY(it, struct stream, node);

		if (s->conn)
			conn_kill(s->conn);
	}
	for (unsigned i = 0; i < 100 && aw->nstreams; i++)
		loop_turn(w->loop, 0);
	LIST_FOREACH(it, tmp, &aw->sessions) {
		struct asession *as = LIST_ENTRY(it, struct asession, node);

		as_end(as, AS_END_BROKEN);
	}
	loop_timer_clear(&aw->unacked_timer);
	sm_places_free(aw);
	htable_free(&aw->sm);
	free(aw);
	w->access = NULL;
}

uint32_t access_worker_streams(const struct worker *w)
{
	return atomic_load_explicit(&access_of(w)->nstreams, memory_order_relaxed);
}

struct access_totals access_worker_totals(const struct worker *w)
{
	const struct access_worker *aw = access_of(w);
	uint32_t components = 0;

	LIST_FOREACH(it, tmp, &aw->sessions)
		components += LIST_ENTRY(it, struct asession, node)->is_component;
	return (struct access_totals){ .streams = aw->nstreams,
				       .sessions = aw->nsessions - components,
				       .components = components,
				       .detached = aw->ndetached };
}

void access_each_session(struct worker *w, void (*fn)(void *arg, const struct session *s),
			 void *arg)
{
	LIST_FOREACH(it, tmp, &access_of(w)->sessions) {
		const struct asession *as = LIST_ENTRY(it, struct asession, node);

		if (as->f.state == AS_ATTACHED || as->f.state == AS_DETACHED)
			fn(arg, &as->s);
	}
}

unsigned access_close_account(struct worker *w, struct sl bare, const char *stream_error,
			      struct sl text)
{
	struct access_worker *aw = access_of(w);
	unsigned n = 0;

	LIST_FOREACH(it, tmp, &aw->sessions) {
		struct asession *as = LIST_ENTRY(it, struct asession, node);

		if (as->is_component || !sl_eq(as->s.jid.bare, bare))
			continue;
		as->s.ops->close(&as->s, stream_error, text);
		n++;
	}
	return n;
}
