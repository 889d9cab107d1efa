/* expire.c - worker 0's tasks: rows whose time has passed are answered (CUST-10), and old XEP-0198
 * states and duplicate marks are forgotten. */
#include "xmpp/router/router_int.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

#define EVERY_MS   10000u
#define ROWS       256u
#define PURGE_ROWS 1000u
/* A client may come back after a crash of ours long after its session would have timed out, and is
 * then told the exact count; a day is long enough. */
#define SM_KEEP_S 86400u

struct expire {
	struct router *r;
	struct loop_timer timer;
	uint32_t left; /* rows of the last round that are on their way: read past them */
	bool expiring, sm_busy, seen_busy;
	struct store_mail_expired rows;
	struct store_sm_purge sm;
	struct store_seen_purge seen;
};

struct expired_msg {
	struct bus_msg m;
	uint64_t id;
	struct stanza *st;
};

static void expired_free(struct bus_msg *m)
{
	struct expired_msg *em = container_of(m, struct expired_msg, m);

	stanza_unref(&em->st);
	free(em);
}

/* There is room for another offline message of this account now. */
static void forget_one(struct worker *w, const struct stanza *st)
{
	struct user *u = user_find(w, st->to.bare);

	if (u && user_ready(u) && u->mail_count)
		u->mail_count--;
}

/* In the worker that owns the recipient: what is on its way there is left alone. */
void expire_msg(void *worker, struct bus_msg *m)
{
	struct expired_msg *em = container_of(m, struct expired_msg, m);
	struct worker *w = worker;
	struct item it = { .st = em->st, .mail_id = em->id };
	const struct domain *d = core_domain(w->cfg, em->st->to.domain);

	em->st = NULL;
	if (mail_find(w, it.mail_id)) {
		item_free(&it);
		free(em);
		return;
	}
	forget_one(w, it.st);
	if (d && d->kind == DOMAIN_COMPONENT)
		mail_bounce(w, &it, SC_REMOTE_SERVER_TIMEOUT,
			    SL("the gateway was away for too long"));
	else
		mail_bounce(w, &it, SC_RECIPIENT_UNAVAILABLE,
			    SL("the message expired before it was fetched"));
	free(em);
}

static void expire_row(struct worker *w, const struct store_mail_row *row)
{
	struct expired_msg *em = calloc(1, sizeof(*em));

	if (!em)
		return;
	if (stanza_restore(row->stanza, &em->st)) {
		log_ev(LOG_L_ERROR, "mail.row.unreadable", KU("row", row->id),
		       KS("owner", row->owner));
		free(em);
		return;
	}
	em->id = row->id;
	em->m = (struct bus_msg){ .to = { .worker = bus_owner(w->bus, row->owner) },
				  .type = CORE_MSG_EXPIRED,
				  .free = expired_free };
	bus_post(w->bus, &em->m);
}

static void rows_done(struct store_op *op)
{
	struct expire *x = op->arg;

	x->expiring = false;
	for (unsigned i = 0; op->rc == 0 && i < x->rows.n_r; i++)
		expire_row(x->r->w, &x->rows.row_r[i]);
	/* what is in flight is found again next time: look further than that */
	x->left = op->rc ? 0 : x->rows.n_r;
	store_op_fini(op);
}

static void purge(struct expire *x);

static void sm_done(struct store_op *op)
{
	struct expire *x = op->arg;
	bool more = op->rc == 0 && x->sm.n_r == PURGE_ROWS;

	store_op_fini(op);
	x->sm_busy = false;
	if (more)
		purge(x);
}

static void seen_done(struct store_op *op)
{
	struct expire *x = op->arg;
	bool more = op->rc == 0 && x->seen.n_r == PURGE_ROWS;

	store_op_fini(op);
	x->seen_busy = false;
	if (more)
		purge(x);
}

static void purge(struct expire *x)
{
	struct worker *w = x->r->w;
	uint64_t now = clock_wall_ms(), sm_s = SM_KEEP_S,
		 seen_ms = (uint64_t)w->cfg->lim.seen_window_s * 1000;

	if (w->cfg->lim.sm_resume_s > sm_s)
		sm_s = w->cfg->lim.sm_resume_s;
	if (!x->sm_busy && now > sm_s * 1000) {
		x->sm_busy = true;
		store_op_init(&x->sm.op, STORE_SM_PURGE, sm_done, x);
		x->sm.before_ms = now - sm_s * 1000;
		x->sm.limit = PURGE_ROWS;
		store_submit(w->store, &x->sm.op);
	}
	if (!x->seen_busy && now > seen_ms) {
		x->seen_busy = true;
		store_op_init(&x->seen.op, STORE_SEEN_PURGE, seen_done, x);
		x->seen.before_ms = now - seen_ms;
		x->seen.limit = PURGE_ROWS;
		store_submit(w->store, &x->seen.op);
	}
}

static void round_(struct loop_timer *t)
{
	struct expire *x = container_of(t, struct expire, timer);
	struct worker *w = x->r->w;

	loop_timer_set(w->loop, t, EVERY_MS, round_);
	purge(x);
	if (x->expiring)
		return;
	x->expiring = true;
	store_op_init(&x->rows.op, STORE_MAIL_EXPIRED, rows_done, x);
	x->rows.now_ms = clock_wall_ms();
	x->rows.limit = ROWS + x->left;
	store_submit(w->store, &x->rows.op);
}

void expire_now(struct router *r)
{
	round_(&r->expire->timer);
}

int expire_open(struct router *r)
{
	struct expire *x = calloc(1, sizeof(*x));

	if (!x)
		return E_NOMEM;
	x->r = r;
	r->expire = x;
	loop_timer_set(r->w->loop, &x->timer, EVERY_MS, round_);
	return 0;
}

void expire_close(struct router *r)
{
	if (!r->expire)
		return;
	loop_timer_clear(&r->expire->timer);
	free(r->expire);
	r->expire = NULL;
}
