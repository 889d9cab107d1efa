/* pager.c - rows go from the store to sessions a page at a time, no more than a window
 * unacknowledged (CUST-8, CUST-11).
 *
 * Used for the offline mail of an account and for the queue of a component. While it is active,
 * stanzas that come for the same owner wait behind it: the first few in memory, the others as rows,
 * from where the next round takes them (`spilled`). Every round begins with a barrier, an empty
 * write: the store executes writes in order, so that the read after it sees every row that was
 * submitted before. Rows in flight are skipped; so nothing is sent twice. Rows that were submitted
 * after it are left out: their stanzas come by the bus. */
#include "xmpp/router/router_int.h"

#include "appliance/base/log.h"

#define RETRY_MS 1000u

struct late {
	struct list node;
	struct item it;
};

static void next_page(struct pager *p);

void pager_init(struct pager *p, struct worker *w, struct sl owner, const struct pager_ops *ops,
		void *self)
{
	*p = (struct pager){ .w = w, .ops = ops, .self = self, .owner = owner };
	list_init(&p->late);
}

bool pager_busy(const struct pager *p)
{
	return p->loading;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static void barrier_done(struct store_op *op)
{
	struct pager *p = op->arg;

	store_op_fini(op);
	p->loading = false;
	if (p->active)
		next_page(p);
	else
		p->ops->idle(p->self, false);
}

/* What this round leaves out: rows that are submitted from now on. */
static void set_low(struct pager *p)
{
	for (uint16_t i = 0; i < bus_workers(p->w->bus); i++) {
		const struct worker *o = bus_worker_arg(p->w->bus, i);

		p->low[i] = o ? atomic_load_explicit(&o->put_id, memory_order_acquire) : 0;
	}
	p->spilled = false;
}

/* Begin a round: barrier, then pages. While something waits in memory the round leaves out what the
 * one before did: what was put into the store behind it must not come first. */
static void round_begin(struct pager *p)
{
	if (list_empty(&p->late))
		set_low(p);
	/* From the first row on: what is on its way by the bus may have a smaller id than anything
	 * that has come, and a page must not bring its successors. */
	p->after = 0;
	p->loading = true;
	store_op_init(&p->barrier.op, STORE_MAIL_DEL, barrier_done, p);
	p->barrier.id = NULL;
	p->barrier.n = 0;
	store_submit(p->w->store, &p->barrier.op);
}

void pager_start(struct pager *p)
{
	p->after = 0;
	if (p->loading) {
		p->again = true; /* what is being read may begin too late: read again */
	} else if (!p->active) {
		p->active = true;
		round_begin(p);
	} else if (!loop_timer_armed(&p->retry)) {
		next_page(p);
	}
	p->active = true;
}

static void late_gone(struct pager *p, const struct late *l)
{
	p->nlate--;
	p->late_octets -= stanza_memory(l->it.st);
}

static void late_flush(struct pager *p)
{
	struct list *n;

	while ((n = list_pop(&p->late))) {
		struct late *l = LIST_ENTRY(n, struct late, node);

		late_gone(p, l);
		if (l->it.mail_id && mail_find(p->w, l->it.mail_id))
			item_free(&l->it);
		else
			p->ops->offer(p->self, &l->it, 0);
		free(l);
	}
}

/* The last page was short: everything in the store was offered. */
static void round_end(struct pager *p)
{
	late_flush(p);
	if (p->spilled) {
		round_begin(p);
		return;
	}
	p->active = false;
	p->ops->idle(p->self, true);
}

static void retry(struct loop_timer *t)
{
	struct pager *p = container_of(t, struct pager, retry);

	if (p->active && !p->loading)
		round_begin(p);
}

/* It was written after the round began: its stanza comes, behind what is older. A page could bring
 * it before an older row of the same sender whose id another worker's has passed. */
static bool is_new(const struct pager *p, uint64_t id)
{
	uint16_t from = worker_of_id(id);

	return from < bus_workers(p->w->bus) && id > p->low[from];
}

/* E_NOMEM: not now. */
static int offer_row(struct pager *p, const struct store_mail_row *row)
{
	struct item it = { .mail_id = row->id };
	int rc;

	if (mail_find(p->w, row->id) || is_new(p, row->id))
		return 0;
	rc = stanza_restore(row->stanza, &it.st);
	if (rc == E_NOMEM)
		return rc;
	if (rc)
		log_ev(LOG_L_ERROR, "mail.row.unreadable", KU("row", row->id),
		       KS("owner", row->owner));
	else
		p->ops->offer(p->self, &it, row->stamp_ms);
	return 0;
}

static void retry_later(struct pager *p)
{
	loop_timer_set(p->w->loop, &p->retry, RETRY_MS, retry);
}

/* Offers what was read. 0, or E_NOMEM: go on from there later. */
static int offer_page(struct pager *p, const struct store_mail_load *l, bool *last_r)
{
	unsigned i = 0;
	int rc = 0;

	while (i < l->n_r && p->active && p->ops->open(p->self) && !pager_full(p) && rc == 0) {
		rc = offer_row(p, &l->row_r[i]);
		if (rc == 0)
			p->after = l->row_r[i++].id;
	}
	*last_r = i == l->n_r && !l->more_r; /* what did not fit is read again */
	return rc;
}

static void page_done(struct store_op *op)
{
	struct pager *p = op->arg;
	bool again = p->again, last = false;
	int rc = op->rc;

	p->loading = false;
	p->again = false;
	if (rc)
		count(p->w, CNT_STORE_FAILED);
	else if (!again)
		rc = offer_page(p, &p->load, &last);
	store_op_fini(op);
	if (!p->active)
		p->ops->idle(p->self, false);
	else if (!p->ops->open(p->self))
		pager_stop(p);
	else if (rc && rc != E_CLOSED)
		retry_later(p);
	else if (again)
		round_begin(p);
	else if (last)
		round_end(p);
	else
		next_page(p);
}

static void next_page(struct pager *p)
{
	if (!p->active || p->loading)
		return;
	if (!p->ops->open(p->self)) {
		pager_stop(p);
		return;
	}
	if (p->inflight + PAGER_PAGE > PAGER_WINDOW || pager_full(p))
		return; /* pager_settled goes on */
	p->loading = true;
	p->again = false;
	store_op_init(&p->load.op, STORE_MAIL_LOAD, page_done, p);
	p->load.owner = p->owner;
	p->load.after = p->after;
	p->load.limit = PAGER_PAGE;
	p->load.octets = PAGER_PAGE_OCTETS;
	store_submit(p->w->store, &p->load.op);
}

/* ---- what comes meanwhile -------------------------------------------------------------------- */

/* No more fit into memory. Those that came before go to the store first, or a page would bring
 * what comes now before them. */
static void late_spill(struct pager *p)
{
	LIST_FOREACH(n, next, &p->late) {
		struct late *l = LIST_ENTRY(n, struct late, node);

		list_remove(&l->node);
		late_gone(p, l);
		p->ops->keep(p->self, &l->it);
		free(l);
	}
}

bool pager_take(struct pager *p, struct item *it)
{
	struct late *l;

	if (!p->active)
		return false;
	if (!p->spilled && p->nlate < PAGER_LATE && p->late_octets < PAGER_OCTETS &&
	    (l = malloc(sizeof(*l)))) {
		p->late_octets += stanza_memory(it->st);
		l->it = *it;
		*it = (struct item){ 0 };
		p->nlate++;
		list_append(&p->late, &l->node);
		return true;
	}
	if (!p->spilled && p->ops->spill_late)
		late_spill(p);
	p->spilled = true;
	p->ops->keep(p->self, it);
	return true;
}

bool pager_full(const struct pager *p)
{
	return p->inflight >= PAGER_WINDOW || p->octets >= PAGER_OCTETS;
}

void pager_offered(struct pager *p, struct mail *m, const struct stanza *st)
{
	m->paged = true;
	m->octets = (uint32_t)stanza_memory(st);
	p->octets += m->octets;
	p->inflight++;
}

void pager_settled(struct pager *p, uint32_t octets)
{
	p->octets -= octets;
	p->inflight--;
	if (p->active && !p->loading && !loop_timer_armed(&p->retry))
		next_page(p);
}

void pager_close(struct pager *p)
{
	struct list *n;

	loop_timer_clear(&p->retry);
	while ((n = list_pop(&p->late))) {
		item_free(&LIST_ENTRY(n, struct late, node)->it);
		free(LIST_ENTRY(n, struct late, node));
	}
}

void pager_stop(struct pager *p)
{
	struct list *n;

	p->active = false;
	p->again = false;
	p->spilled = false;
	loop_timer_clear(&p->retry);
	while ((n = list_pop(&p->late))) {
		struct late *l = LIST_ENTRY(n, struct late, node);

		late_gone(p, l);
		p->ops->keep(p->self, &l->it);
		free(l);
	}
	p->ops->idle(p->self, false);
}
