/* worker.c - the router's life in a worker. See worker.h. */
#include "xmpp/router/router_int.h"

#include "appliance/base/log.h"

/* ---- the router's life ----------------------------------------------------------------------- */

void router_bus_init(struct bus *b)
{
	struct err e = { 0 };

	if (fsm_def_prepare(&user_fsm, &e) != 0) {
		log_ev(LOG_L_ERROR, "router.fsm", KE(&e));
		abort();
	}
	bus_on(b, CORE_MSG_STANZA, route_msg);
	bus_on(b, CORE_MSG_ACCOUNT, user_account_msg);
	bus_on(b, CORE_MSG_EXPIRED, expire_msg);
	bus_on(b, CORE_MSG_COMPONENT, component_msg);
	bus_on(b, CORE_MSG_PORT, component_port_msg);
}

static void maxid_done(struct store_op *op)
{
	struct store_mail_maxid *m = container_of(op, struct store_mail_maxid, op);
	struct router *r = op->arg;
	int rc = op->rc;

	if (rc == 0)
		worker_id_floor(r->w, m->id_r);
	store_op_fini(op);
	if (rc)
		log_ev(LOG_L_ERROR, "router.maxid.failed", KU("worker", r->w->id),
		       KC("err", e_name(rc)));
	if (r->ready)
		r->ready(r->w, rc);
}

static void tick(struct loop_timer *t)
{
	struct router *r = container_of(t, struct router, tick);

	graves_purge(r, false);
	loop_timer_set(r->w->loop, t, 1000, tick);
}

int router_open(struct worker *w, void (*ready)(struct worker *w, int rc), struct err *e)
{
	struct router *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(e, E_NOMEM, NULL, "no memory for the router");
	r->w = w;
	r->ready = ready;
	list_init(&r->graves[0]);
	list_init(&r->graves[1]);
	list_init(&r->spare);
	list_init(&r->inbounds);
	list_init(&r->ports);
	htable_init(&r->mails);
	htable_init(&w->users);
	htable_init(&w->components);
	w->router = r;
	if (w->id == 0 && expire_open(r)) {
		free(r);
		w->router = NULL;
		return err_set(e, E_NOMEM, NULL, "no memory for the expiry task");
	}
	loop_timer_set(w->loop, &r->tick, 1000, tick);
	store_op_init(&r->maxid.op, STORE_MAIL_MAXID, maxid_done, r);
	store_submit(w->store, &r->maxid.op);
	return 0;
}

void router_close(struct worker *w)
{
	struct router *r = w->router;

	if (!r)
		return;
	loop_timer_clear(&r->tick);
	loop_task_clear(&r->drain);
	loop_task_clear(&r->deletes);
	expire_close(r);
	inbound_close(r);
	for (; r->n; r->n--) {
		item_free(&r->ring[r->head & (r->cap - 1)].it);
		r->head++;
	}
	free(r->ring);
	component_close_all(w);
	user_close_all(w);
	mail_close(r);
	htable_free(&w->users);
	htable_free(&w->components);
	free(r);
	w->router = NULL;
}
