/* user.c - the accounts that are in use: loading, binding resources, forgetting (architecture.md
 * section 4). */
#include "xmpp/router/router_int.h"

#include "appliance/base/log.h"

#define IDLE_MS   60000u
#define ABSENT_MS 10000u
/* With many of them remembered, somebody makes names up: the next ones are forgotten soon. */
#define ABSENT_MANY    4096u
#define ABSENT_SOON_MS 100u

enum user_event { EV_LOADED, EV_NOTFOUND, EV_FAILED, EV_RELOAD, EV_REMOVED, EV_IDLE, EV_MAX };

enum waiting_kind { WAIT_ITEM, WAIT_INBOUND, WAIT_BIND };

struct waiting {
	struct list node;
	enum waiting_kind kind;
	struct item it;    /* WAIT_ITEM; WAIT_INBOUND: st */
	struct session *s; /* WAIT_INBOUND, WAIT_BIND; NULL: it has ended */
	struct custody *c;
	void (*bound)(struct session *s, int rc);
};

struct user_load {
	struct store_account_get acc;
	struct store_roster_load ros;
	struct store_mail_count cnt;
	struct user *u;
	unsigned left;
	int rc;
};

static void idle_arm(struct user *u);

/* ---- loading --------------------------------------------------------------------------------- */

/* What waits may have its row among those that were counted, or not: then the limit gives way by as
 * much, rather than refuse what there is room for. */
static void mail_counted(struct user *u, uint64_t n)
{
	uint64_t waiting = 0;

	LIST_FOREACH(w, next, &u->waiting)
		waiting += LIST_ENTRY(w, struct waiting, node)->it.mail_id != 0;
	u->mail_some = n > 0;
	n = n > waiting ? n - waiting : 0;
	u->mail_count = (uint32_t)(n < UINT32_MAX / 2 ? n : UINT32_MAX / 2);
}

static void load_finish(struct user_load *l)
{
	struct user *u = l->u;
	int rc = l->rc;

	u->refs--;
	if (rc == 0 && !l->acc.found_r)
		rc = E_NOTFOUND;
	if (rc == 0) {
		for (const struct service *const *s = u->w->services->list; *s && !rc; s++)
			if ((*s)->user_loaded)
				rc = (*s)->user_loaded(u, &l->ros);
		mail_counted(u, l->cnt.n_r);
	}
	store_op_fini(&l->acc.op);
	store_op_fini(&l->ros.op);
	store_op_fini(&l->cnt.op);
	free(l);
	if (u->stale && rc != E_NOTFOUND)
		fsm_event(&u->fsm, EV_RELOAD, NULL);
	else
		fsm_event(&u->fsm,
			  rc == 0            ? EV_LOADED
			  : rc == E_NOTFOUND ? EV_NOTFOUND
					     : EV_FAILED,
			  &rc);
}

static void load_done(struct store_op *op)
{
	struct user_load *l = op->arg;

	if (op->rc) {
		l->rc = op->rc;
		count(l->u->w, CNT_STORE_FAILED);
	}
	if (--l->left == 0)
		load_finish(l);
}

static int load_start(struct user *u)
{
	struct user_load *l = calloc(1, sizeof(*l));

	u->stale = false;
	if (!l)
		return E_NOMEM;
	l->u = u;
	l->left = 3;
	user_hold(u);
	store_op_init(&l->acc.op, STORE_ACCOUNT_GET, load_done, l);
	l->acc.host = u->jid.domain;
	l->acc.user = u->jid.local;
	store_op_init(&l->ros.op, STORE_ROSTER_LOAD, load_done, l);
	l->ros.owner = u->jid.bare;
	store_op_init(&l->cnt.op, STORE_MAIL_COUNT, load_done, l);
	l->cnt.owner = u->jid.bare;
	store_submit(u->w->store, &l->acc.op);
	store_submit(u->w->store, &l->ros.op);
	store_submit(u->w->store, &l->cnt.op);
	return 0;
}

/* ---- what waited ----------------------------------------------------------------------------- */

static void absent_item(struct worker *w, struct item *it);

static void waited_one(struct user *u, struct waiting *wt, int rc)
{
	switch (wt->kind) {
	case WAIT_ITEM:
		if (rc == 0)
			deliver_item(u, &wt->it);
		else if (rc == E_NOTFOUND)
			absent_item(u->w, &wt->it);
		else if (wt->it.mail_id)
			item_free(&wt->it); /* its row waits */
		else
			mail_bounce(u->w, &wt->it, SC_INTERNAL_SERVER_ERROR, SL_NULL);
		break;
	case WAIT_INBOUND:
		if (wt->s && rc == 0) {
			inbound_ready(wt->s, wt->it.st, wt->c);
			wt->it.st = NULL;
		} else if (wt->c) {
			wt->c->done(wt->c, E_IO);
		}
		item_free(&wt->it);
		break;
	case WAIT_BIND:
		if (!wt->s)
			break;
		u->refs--;
		if (rc == 0)
			session_bind_now(u, wt->s, wt->bound);
		else {
			wt->s->user = NULL;
			wt->bound(wt->s, rc);
		}
		break;
	}
	free(wt);
}

static void waited(struct user *u, int rc)
{
	struct list *n;

	while ((n = list_pop(&u->waiting)))
		waited_one(u, LIST_ENTRY(n, struct waiting, node), rc);
}

static struct waiting *wait_add(struct user *u, enum waiting_kind kind)
{
	struct waiting *wt = calloc(1, sizeof(*wt));

	if (!wt)
		return NULL;
	wt->kind = kind;
	list_append(&u->waiting, &wt->node);
	return wt;
}

/* ---- the machine ----------------------------------------------------------------------------- */

static int act_ready(void *self, const void *ev)
{
	struct user *u = self;

	(void)ev;
	waited(u, 0);
	idle_arm(u);
	return 0;
}

static int act_absent(void *self, const void *ev)
{
	struct user *u = self;

	(void)ev;
	LIST_FOREACH(n, next, &u->sessions)
		LIST_ENTRY(n, struct session, user_node)
			->ops->close(LIST_ENTRY(n, struct session, user_node), "not-authorized",
				     SL("the account was removed"));
	waited(u, E_NOTFOUND);
	idle_arm(u);
	return 0;
}

static int act_failed(void *self, const void *ev)
{
	struct user *u = self;

	LIST_FOREACH(n, next, &u->sessions)
		LIST_ENTRY(n, struct session, user_node)
			->ops->close(LIST_ENTRY(n, struct session, user_node),
				     "internal-server-error",
				     SL("the account could not be loaded"));
	waited(u, ev ? *(const int *)ev : E_IO);
	idle_arm(u);
	return 0;
}

static int act_load(void *self, const void *ev)
{
	struct user *u = self;

	(void)ev;
	if (load_start(u)) {
		int rc = E_NOMEM;

		return act_failed(u, &rc), -1;
	}
	return 0;
}

static int act_stale(void *self, const void *ev)
{
	(void)ev;
	((struct user *)self)->stale = true;
	return 0;
}

static bool unused(const void *self, const void *ev)
{
	const struct user *u = self;

	(void)ev;
	return u->refs == 0 && list_empty(&u->waiting);
}

static bool unused_since(const void *self, const void *ev)
{
	return unused(self, ev) && !((const struct user *)self)->used;
}

static int act_again(void *self, const void *ev)
{
	(void)ev;
	idle_arm(self);
	return 0;
}

static const struct fsm_row rows[] = {
	/* state        event        next          guard         act         spec */
	{ USER_LOADING, EV_LOADED, USER_READY, NULL, act_ready, "USER-1", false },
	{ USER_LOADING, EV_NOTFOUND, USER_ABSENT, NULL, act_absent, "USER-2", false },
	{ USER_LOADING, EV_FAILED, USER_FAILED, NULL, act_failed, "USER-3", false },
	{ USER_LOADING, EV_RELOAD, USER_LOADING, NULL, act_load, "USER-4", false },
	{ USER_LOADING, EV_REMOVED, USER_LOADING, NULL, act_stale, "USER-4", false },
	{ USER_LOADING, EV_IDLE, USER_LOADING, NULL, act_again, "USER-6", false },
	{ USER_READY, EV_RELOAD, USER_LOADING, NULL, act_load, "USER-4", false },
	{ USER_READY, EV_REMOVED, USER_ABSENT, NULL, act_absent, "USER-5", false },
	{ USER_READY, EV_IDLE, USER_GONE, unused_since, NULL, "USER-6", false },
	{ USER_READY, EV_IDLE, USER_READY, NULL, act_again, "USER-6", false },
	{ USER_ABSENT, EV_RELOAD, USER_LOADING, NULL, act_load, "USER-7", false },
	{ USER_ABSENT, EV_REMOVED, USER_ABSENT, NULL, NULL, "USER-5", false },
	{ USER_ABSENT, EV_IDLE, USER_GONE, unused, NULL, "USER-6", false },
	{ USER_ABSENT, EV_IDLE, USER_ABSENT, NULL, act_again, "USER-6", false },
	{ USER_FAILED, EV_RELOAD, USER_LOADING, NULL, act_load, "USER-7", false },
	{ USER_FAILED, EV_REMOVED, USER_ABSENT, NULL, NULL, "USER-5", false },
	{ USER_FAILED, EV_IDLE, USER_GONE, unused, NULL, "USER-6", false },
	{ USER_FAILED, EV_IDLE, USER_FAILED, NULL, act_again, "USER-6", false },
};

static const struct fsm_state states[] = {
	[USER_LOADING] = { "LOADING", false, FSM_NO_TIMER },
	[USER_READY] = { "READY", false, FSM_NO_TIMER },
	[USER_ABSENT] = { "ABSENT", false, FSM_NO_TIMER },
	[USER_FAILED] = { "FAILED", false, FSM_NO_TIMER },
	[USER_GONE] = { "GONE", true, FSM_NO_TIMER },
};
static const char *const events[] = {
	[EV_LOADED] = "loaded", [EV_NOTFOUND] = "notfound", [EV_FAILED] = "failed",
	[EV_RELOAD] = "reload", [EV_REMOVED] = "removed",   [EV_IDLE] = "idle",
};

static void user_free(struct user *u)
{
	for (const struct service *const *s = u->w->services->list; *s; s++)
		if ((*s)->user_freed)
			(*s)->user_freed(u);
	loop_timer_clear(&u->idle);
	if (u->pager)
		pager_close(u->pager);
	free(u->pager);
	free(u);
}

static void gone(void *self)
{
	struct user *u = self;

	htable_del(&u->w->users, &u->hn);
	user_free(u);
}

static void entered(void *self, uint8_t from, uint8_t to)
{
	struct router *r = ((struct user *)self)->w->router;

	r->nabsent += (uint32_t)(to == USER_ABSENT) - (uint32_t)(from == USER_ABSENT);
}

static void refuse(void *self, uint8_t state, uint8_t event)
{
	struct user *u = self;

	log_ev(LOG_L_WARN, "user.refused", KS("user", u->jid.bare), KC("state", states[state].name),
	       KC("event", events[event]));
}

static struct fsm_index *user_index;
const struct fsm_def user_fsm = {
	.name = "user",
	.states = states,
	.nstates = ARRAY_LEN(states),
	.events = events,
	.nevents = EV_MAX,
	.rows = rows,
	.nrows = ARRAY_LEN(rows),
	.start = USER_LOADING,
	.fault = USER_FAILED,
	.entered = entered,
	.refuse = refuse,
	.done = gone,
	.index = &user_index,
};

/* ---- users in use ---------------------------------------------------------------------------- */

static void idle_cb(struct loop_timer *t)
{
	fsm_event(&container_of(t, struct user, idle)->fsm, EV_IDLE, NULL);
}

static void idle_arm(struct user *u)
{
	bool many = u->fsm.state == USER_ABSENT && u->w->router->nabsent > ABSENT_MANY;
	uint32_t ms = user_ready(u) ? IDLE_MS : many ? ABSENT_SOON_MS : ABSENT_MS;

	u->used = false;
	loop_timer_set(u->w->loop, &u->idle, ms, idle_cb);
}

void user_release(struct user *u)
{
	u->refs--;
	u->used = true;
}

static bool user_match(const struct hnode *n, const void *key)
{
	return sl_eq(container_of(n, const struct user, hn)->jid.bare, *(const struct sl *)key);
}

struct user *user_find(struct worker *w, struct sl bare)
{
	struct hnode *n = htable_find(&w->users, hash_bytes(bare), user_match, &bare);

	return n ? container_of(n, struct user, hn) : NULL;
}

static struct user *user_new(struct worker *w, struct sl bare)
{
	struct user *u = calloc(1, sizeof(*u) + bare.n);
	char *text;

	if (!u)
		return NULL;
	text = (char *)(u + 1);
	memcpy(text, bare.p, bare.n);
	u->jid = jid_split(sl_mk(text, bare.n));
	u->w = w;
	list_init(&u->sessions);
	list_init(&u->seen);
	list_init(&u->waiting);
	fsm_init(&u->fsm, &user_fsm);
	if (htable_add(&w->users, &u->hn, hash_bytes(bare))) {
		free(u);
		return NULL;
	}
	return u;
}

struct user *user_get(struct worker *w, struct sl bare)
{
	struct user *u = user_find(w, bare);

	if (u) {
		u->used = true;
		return u;
	}
	u = user_new(w, bare);
	if (u && load_start(u)) {
		htable_del(&w->users, &u->hn);
		free(u);
		return NULL;
	}
	if (u)
		idle_arm(u);
	return u;
}

struct session *user_session(struct user *u, struct sl resource)
{
	LIST_FOREACH(n, next, &u->sessions) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (sl_eq(s->jid.resource, resource) && !s->ending)
			return s;
	}
	return NULL;
}

void user_reload(struct user *u)
{
	fsm_raise(&u->fsm, EV_RELOAD);
}

/* DELIV-9: for an account that does not exist. Answers as for one whose owner is away and keeps
 * nothing. */
static void absent_item(struct worker *w, struct item *it)
{
	struct stanza *st = it->st;

	if (st->kind == STANZA_MESSAGE) {
		mail_bounce(w, it, SC_SERVICE_UNAVAILABLE, SL_NULL);
		return;
	}
	if (st->kind == STANZA_IQ && (st->type == ST_GET || st->type == ST_SET)) {
		struct svc_ctx c = { .w = w };

		if (st->to.resource.n ||
		    service_iq(w->services, SVC_TO_ACCOUNT, &c, st) == SVC_PASS)
			route_error(w, st, SC_SERVICE_UNAVAILABLE, SL_NULL);
	} else if (st->kind == STANZA_PRESENCE &&
		   (st->type == ST_PROBE || st->type == ST_SUBSCRIBE) && !jid_is_null(&st->from)) {
		struct jid from = jid_split(st->to.bare), to = jid_split(st->from.bare);
		struct stanza *no;

		if (!stanza_new(STANZA_PRESENCE, ST_UNSUBSCRIBED, &from, &to, SL_NULL, &no))
			route_new(w, no);
	}
	item_free(it);
}

void user_item(struct worker *w, struct item *it)
{
	struct user *u = user_get(w, it->st->to.bare);
	struct waiting *wt;

	if (u && user_ready(u)) {
		deliver_item(u, it);
		return;
	}
	if (u && u->fsm.state == USER_ABSENT) {
		absent_item(w, it);
		return;
	}
	if (u && u->fsm.state == USER_FAILED)
		fsm_raise(&u->fsm, EV_RELOAD);
	wt = u && u->fsm.state == USER_LOADING ? wait_add(u, WAIT_ITEM) : NULL;
	if (wt)
		wt->it = *it;
	else
		mail_bounce(w, it, SC_RESOURCE_CONSTRAINT, SL_NULL);
}

/* ---- waiting for the load -------------------------------------------------------------------- */

bool user_wait_bind(struct user *u, struct session *s, void (*bound)(struct session *s, int rc))
{
	struct waiting *wt;

	if (u->fsm.state != USER_LOADING) /* it logged in, so it must be there now */
		fsm_raise(&u->fsm, EV_RELOAD);
	wt = u->fsm.state == USER_LOADING ? wait_add(u, WAIT_BIND) : NULL;
	if (!wt)
		return false;
	wt->s = s;
	wt->bound = bound;
	s->user = u;
	user_hold(u);
	return true;
}

void user_wait_inbound(struct session *s, struct stanza *st, struct custody *c)
{
	struct user *u = s->user;
	struct waiting *wt = u->fsm.state == USER_LOADING ? wait_add(u, WAIT_INBOUND) : NULL;

	if (!wt) { /* the account is gone: the stream is being closed */
		stanza_unref(&st);
		if (c)
			c->done(c, E_IO);
		return;
	}
	wt->it.st = st;
	wt->s = s;
	wt->c = c;
}

void user_wait_forget(struct user *u, const struct session *s)
{
	LIST_FOREACH(n, next, &u->waiting) {
		struct waiting *wt = LIST_ENTRY(n, struct waiting, node);

		if (wt->s == s)
			wt->s = NULL;
	}
}

/* ---- accounts that change -------------------------------------------------------------------- */

struct account_msg {
	struct bus_msg m;
	bool removed;
	size_t n;
	char bare[];
};

static void account_free(struct bus_msg *m)
{
	free(container_of(m, struct account_msg, m));
}

void router_account_changed(struct worker *w, struct sl bare, bool removed)
{
	struct account_msg *am = malloc(sizeof(*am) + bare.n);

	if (!am)
		return;
	*am = (struct account_msg){ .m = { .to = { .worker = bus_owner(w->bus, bare) },
					   .type = CORE_MSG_ACCOUNT,
					   .free = account_free },
				    .removed = removed,
				    .n = bare.n };
	memcpy(am->bare, bare.p, bare.n);
	bus_post(w->bus, &am->m);
}

void user_account_msg(void *worker, struct bus_msg *m)
{
	struct account_msg *am = container_of(m, struct account_msg, m);
	struct user *u = user_find(worker, sl_mk(am->bare, am->n));

	if (u && am->removed)
		fsm_raise(&u->fsm, EV_REMOVED);
	else if (u && u->fsm.state == USER_ABSENT)
		fsm_raise(&u->fsm, EV_RELOAD);
	free(am);
}

void user_close_all(struct worker *w)
{
	struct hnode *n = htable_next(&w->users, NULL);

	while (n) {
		struct user *u = container_of(n, struct user, hn);
		struct list *p;

		n = htable_next(&w->users, n);
		while ((p = list_pop(&u->waiting))) {
			item_free(&LIST_ENTRY(p, struct waiting, node)->it);
			free(LIST_ENTRY(p, struct waiting, node));
		}
		user_free(u);
	}
}
