/* bounce.c - what nobody takes: answered with an error in the transaction that deletes its row
 * (CUST-10), or kept as offline mail (CUST-6). */
#include "xmpp/router/router_int.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

/* ---- CUST-10 --------------------------------------------------------------------------------- */

struct bounce {
	struct store_mail_del del;
	struct store_mail_put put;
	struct worker *w;
	struct stanza *reply;
	uint64_t id;
	char text[];
};

static void bounce_del_done(struct store_op *op)
{
	store_op_fini(op);
}

static void bounce_put_done(struct store_op *op)
{
	struct bounce *b = container_of(op, struct bounce, put.op);

	if (op->rc == 0 && b->put.id_taken_r) { /* the row is gone: its answer must not be */
		b->put.id = worker_new_id(b->w);
		worker_put(b->w, op, b->put.id);
		return;
	}
	if (op->rc == 0) {
		count(b->w, CNT_MAIL_BOUNCED);
		route(b->w, b->reply, b->put.id);
		b->reply = NULL;
	} else {
		count(b->w, CNT_STORE_FAILED);
		log_ev(LOG_L_ERROR, "mail.bounce.failed", KU("row", b->id),
		       KC("err", e_name(op->rc)));
	}
	store_op_fini(op);
	stanza_unref(&b->reply);
	free(b);
}

static struct bounce *bounce_new(struct worker *w, struct stanza *reply, uint64_t id,
				 struct sl owner)
{
	struct bounce *b = malloc(sizeof(*b) + stanza_wire_max(reply, NULL, NULL, SL_NULL));

	if (!b)
		return NULL;
	memset(b, 0, sizeof(*b));
	b->w = w;
	b->reply = reply;
	b->id = id;
	store_op_init(&b->del.op, STORE_MAIL_DEL, bounce_del_done, NULL);
	store_op_init(&b->put.op, STORE_MAIL_PUT, bounce_put_done, NULL);
	b->del.id = &b->id;
	b->del.n = 1;
	b->del.op.group_next = &b->put.op;
	atomic_init(&b->put.skip_row, false);
	b->put.id = worker_new_id(w);
	b->put.owner = owner;
	b->put.sender = reply->from.bare;
	b->put.stamp_ms = clock_wall_ms();
	b->put.stanza = sl_mk(b->text, stanza_wire_put(reply, NULL, NULL, SL_NULL, b->text));
	return b;
}

/* Whose row the answer to st is; empty: nobody's whom we serve. */
static struct sl answer_owner(struct worker *w, const struct stanza *reply)
{
	const struct domain *d = core_domain(w->cfg, reply->to.domain);

	if (!d)
		return SL_NULL;
	if (d->kind == DOMAIN_COMPONENT)
		return d->custody ? reply->to.domain : SL_NULL;
	return reply->to.local.n ? reply->to.bare : SL_NULL;
}

void mail_bounce(struct worker *w, struct item *it, enum stanza_cond c, struct sl text)
{
	struct stanza *reply = NULL;
	struct bounce *b;

	if (!it->mail_id) {
		route_error(w, it->st, c, text);
		item_free(it);
		return;
	}
	if (stanza_error_reply(it->st, c, NULL, text, &reply) || !reply || stanza_seal(reply) ||
	    !answer_owner(w, reply).n) {
		if (reply && reply->sealed)
			route(w, stanza_ref(reply), 0);
		stanza_unref(&reply);
		mail_drop(w, it);
		return;
	}
	count(w, CNT_STANZA_ERRORS);
	b = bounce_new(w, reply, it->mail_id, answer_owner(w, reply));
	if (b)
		worker_put(w, &b->del.op, b->put.id);
	else
		stanza_unref(&reply); /* the row stays; its expiry answers it */
	item_free(it);
}

/* ---- CUST-6 ---------------------------------------------------------------------------------- */

static void offline_committed(struct mail_row *r, int rc, void *arg)
{
	(void)arg;
	if (rc)
		route_error(r->w, r->st, SC_INTERNAL_SERVER_ERROR,
			    SL("the message could not be stored"));
}

/* Write a row for what has none. 0: out of memory (answered). */
static uint64_t offline_write(struct user *u, struct stanza *st)
{
	uint64_t expiry_s = u->w->cfg->lim.mail_expiry_s;
	struct mail_row *r = mail_row_write(u->w, st, u->jid.bare, NULL, SL_NULL,
					    expiry_s ? clock_wall_ms() + expiry_s * 1000 : 0,
					    offline_committed, NULL);
	uint64_t id;

	if (!r) {
		route_error(u->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		return 0;
	}
	/* owner is the user's text, which lives until the row is done */
	user_hold(u);
	r->user = u;
	id = r->put.id;
	mail_row_unref(&r);
	mail_noted(u);
	return id;
}

/* false in *handled_r: there is no service that keeps messages. */
static bool offline_accepts(struct user *u, const struct stanza *st, bool *handled_r)
{
	bool accept = false;

	*handled_r = false;
	for (const struct service *const *s = u->w->services->list; *s; s++)
		if ((*s)->message_offline && (*s)->message_offline(u, st, &accept) == SVC_HANDLED) {
			*handled_r = true;
			return accept;
		}
	return false;
}

uint64_t mail_offline(struct user *u, struct item *it)
{
	bool handled, accept;
	uint64_t id = it->mail_id;

	/* The outcome that a sender waits for is kept whatever the limits are: it cannot be
	 * answered. */
	accept = (id && it->st->type == ST_ERROR) || offline_accepts(u, it->st, &handled);
	if (!accept) {
		if (handled)
			count(u->w, CNT_OFFLINE_FULL);
		mail_bounce(u->w, it, SC_SERVICE_UNAVAILABLE,
			    handled ? SL("the recipient's offline store is full") : SL_NULL);
		return 0;
	}
	if (id)
		mail_noted(u);
	else
		id = offline_write(u, it->st);
	item_free(it);
	return id;
}
