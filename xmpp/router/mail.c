/* mail.c - custody: rows on their way to the store, mail in flight to sessions, deletions, answers
 * to what cannot be delivered. The rules are those of docs/custody.md. */
#include "xmpp/router/router_int.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

#define SPARE_MAX 1024u
#define GRAVE_SHORT_S \
	3u /* acknowledged before the commit: the writer deletes the row a moment later */
#define GRAVE_LONG_S 30u /* came from a page: the stanza itself may still be on the bus */
#define BATCH_MAX    256u

struct mail_batch {
	struct store_mail_del del;
	struct worker *w;
	uint64_t id[BATCH_MAX];
	struct mail *mail[BATCH_MAX]; /* or NULL: only the row */
};

void item_free(struct item *it)
{
	mail_row_unref(&it->row);
	stanza_unref(&it->st);
	it->mail_id = 0;
}

/* ---- rows under way -------------------------------------------------------------------------- */

struct mail_row *mail_row_ref(struct mail_row *r)
{
	if (r)
		atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void mail_row_unref(struct mail_row **rp)
{
	struct mail_row *r = *rp;

	*rp = NULL;
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return;
	stanza_unref(&r->st);
	free(r);
}

static void delete_id(struct worker *w, uint64_t id, struct mail *m);

/* What became of a row. Its id being there already is a failure: the stanza may be on its way under
 * it, and an acknowledgement must not delete somebody else's row. The floor of new ids
 * (router_open) makes that impossible as long as the database is ours alone. */
static int row_result(struct mail_row *r, int rc)
{
	if (rc == 0 && r->put.id_taken_r)
		rc = E_EXISTS;
	if (rc == 0) {
		count(r->w, r->put.duplicate_r ? CNT_MAIL_DUPLICATE : CNT_MAIL_STORED);
		return 0;
	}
	count(r->w, CNT_STORE_FAILED);
	log_ev(LOG_L_ERROR, "mail.put.failed", KS("owner", r->put.owner), KU("row", r->put.id),
	       KC("err", e_name(rc)));
	return E_IO;
}

static void row_done(struct store_op *op)
{
	struct mail_row *r = container_of(op, struct mail_row, put.op);
	int rc = row_result(r, op->rc);
	uint8_t was = atomic_exchange_explicit(&r->state, rc ? ROW_FAILED : ROW_DONE,
					       memory_order_acq_rel);

	store_op_fini(op);
	if (rc == 0 && was == ROW_ACKED && r->put.row_made_r)
		delete_id(r->w, r->put.id, NULL);
	if (r->c) {
		r->c->stored = rc == 0;
		r->c->done(r->c, rc);
	}
	if (r->committed)
		r->committed(r, rc, r->arg);
	if (r->user)
		user_release(r->user);
	mail_row_unref(&r);
}

static struct mail_row *row_new(struct stanza *st, struct sl sm_id)
{
	size_t max = stanza_wire_max(st, NULL, NULL, SL_NULL);
	struct mail_row *r = malloc(sizeof(*r) + sm_id.n + max);

	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	atomic_init(&r->refs, 1);
	atomic_init(&r->state, ROW_PENDING);
	store_op_init(&r->put.op, STORE_MAIL_PUT, row_done, NULL);
	atomic_init(&r->put.skip_row, false);
	if (sm_id.n)
		memcpy(r->text, sm_id.p, sm_id.n);
	r->put.sm_id = sl_mk(r->text, sm_id.n);
	r->put.stanza = sl_mk(r->text + sm_id.n,
			      stanza_wire_put(st, NULL, NULL, SL_NULL, r->text + sm_id.n));
	r->st = stanza_ref(st);
	return r;
}

struct mail_row *mail_row_write(struct worker *w, struct stanza *st, struct sl owner,
				struct custody *c, struct sl origin, uint64_t expires_ms,
				void (*committed)(struct mail_row *r, int rc, void *arg), void *arg)
{
	struct mail_row *r = row_new(st, c ? c->sm_id : SL_NULL);

	if (!r)
		return NULL;
	r->w = w;
	r->c = c;
	r->committed = committed;
	r->arg = arg;
	r->put.id = worker_new_id(w);
	r->put.owner = owner;
	r->put.sender = st->from.bare;
	r->put.origin_id = origin;
	r->put.stamp_ms = clock_wall_ms();
	r->put.expires_ms = expires_ms;
	r->put.sm_h = c ? c->h : 0;
	mail_row_ref(r); /* the store's */
	worker_put(w, &r->put.op, r->put.id);
	return r;
}

/* What was let in can be read again: elements of four octets take a hundred in memory, and names of
 * namespaces are repeated; so this is what the parser allows the largest stanza that can be
 * configured, for the tree, and as much as there is for the texts. */
#define RESTORE_TREE_OCTETS (16u * (16u << 20))

int stanza_restore(struct sl xml, struct stanza **st_r)
{
	struct arena *a = arena_new(xml.n * 2 + 1024, xml.n * 3 + RESTORE_TREE_OCTETS);
	struct xml_node *n;
	struct stanza *st = NULL;
	bool jid_bad = false;
	struct sl text;
	int rc;

	if (!a)
		return E_NOMEM;
	text = arena_dup(a, xml);
	rc = text.n ? xml_parse_one(a, text, &n, NULL) : E_NOMEM;
	if (!rc)
		rc = stanza_take(a, n, &st, &jid_bad, NULL);
	if (rc) {
		arena_free(&a);
		return rc;
	}
	if (jid_bad || jid_is_null(&st->to) || jid_is_null(&st->from))
		rc = E_SYNTAX;
	else
		rc = stanza_seal(st);
	if (rc)
		stanza_unref(&st);
	else
		*st_r = st;
	return rc;
}

/* ---- mail in flight -------------------------------------------------------------------------- */

static uint64_t id_hash(uint64_t id)
{
	id ^= id >> 29;
	id *= 0xbf58476d1ce4e5b9ull;
	return id ^ id >> 32;
}

static bool id_match(const struct hnode *n, const void *key)
{
	return container_of(n, const struct mail, hn)->id == *(const uint64_t *)key;
}

uint64_t mail_id(const struct mail *m)
{
	return m->id;
}

struct mail *mail_find(struct worker *w, uint64_t id)
{
	struct hnode *n = w->router->mails.n
				  ? htable_find(&w->router->mails, id_hash(id), id_match, &id)
				  : NULL;

	return n ? container_of(n, struct mail, hn) : NULL;
}

struct mail *mail_new(struct worker *w, uint64_t id, struct mail_row *row, struct user *u,
		      struct component *c)
{
	struct router *r = w->router;
	struct list *n = list_pop(&r->spare);
	struct mail *m = n ? LIST_ENTRY(n, struct mail, node) : malloc(sizeof(*m));

	if (!m)
		return NULL;
	if (n)
		r->nspare--;
	*m = (struct mail){ .id = id, .user = u, .comp = c, .holders = 1 };
	list_init(&m->node);
	if (htable_add(&r->mails, &m->hn, id_hash(id))) {
		free(m);
		return NULL;
	}
	m->row = mail_row_ref(row);
	if (u)
		user_hold(u);
	return m;
}

static void mail_free(struct worker *w, struct mail *m)
{
	struct router *r = w->router;

	htable_del(&r->mails, &m->hn);
	mail_row_unref(&m->row);
	if (r->nspare >= SPARE_MAX) {
		free(m);
		return;
	}
	r->nspare++;
	list_append(&r->spare, &m->node);
}

/* It is no longer on its way: tell the recipient, once. */
static void settle(struct mail *m)
{
	struct user *u = m->user;
	struct component *c = m->comp;

	m->user = NULL;
	m->comp = NULL;
	if (u) {
		if (!m->done)
			mail_noted(u);
		if (m->paged && u->pager) {
			pager_settled(u->pager, m->octets);
			deliver_pager_gc(u);
		}
		user_release(u);
	} else if (c) {
		component_mail_settled(c, m->octets);
	}
}

static void bury(struct worker *w, struct mail *m, unsigned which)
{
	m->grave_s =
		(uint32_t)(loop_now_ms(w->loop) / 1000) + (which ? GRAVE_LONG_S : GRAVE_SHORT_S);
	list_append(&w->router->graves[which], &m->node);
}

void graves_purge(struct router *r, bool all)
{
	uint32_t now_s = (uint32_t)(loop_now_ms(r->w->loop) / 1000);

	for (unsigned g = 0; g < 2; g++)
		while (!list_empty(&r->graves[g])) {
			struct mail *m = LIST_ENTRY(r->graves[g].next, struct mail, node);

			if (!all && (int32_t)(m->grave_s - now_s) > 0)
				break;
			list_remove(&m->node);
			mail_free(r->w, m);
		}
}

/* Nobody holds it and it is not in a batch: what becomes of the object? A row that may yet be seen
 * in a page, or whose stanza may yet arrive, is remembered for a while, so that it is not delivered
 * twice. */
static void retire(struct worker *w, struct mail *m)
{
	settle(m);
	if (m->done && m->row)
		bury(w, m, 0);
	else if (m->done && m->paged && (m->id >> 22) + GRAVE_LONG_S * 1000 > clock_wall_ms())
		bury(w, m, 1);
	else
		mail_free(w, m);
}

void mail_hold(struct mail *m)
{
	m->holders++;
}

void mail_release(struct worker *w, struct mail *m)
{
	if (--m->holders == 0 && !m->deleting)
		retire(w, m);
}

void mail_acked(struct worker *w, struct mail *m)
{
	if (!m->done) {
		uint8_t was = ROW_DONE;

		m->done = true;
		count(w, CNT_MAIL_DELETED);
		if (m->row) {
			atomic_store_explicit(&m->row->put.skip_row, true, memory_order_relaxed);
			was = atomic_exchange_explicit(&m->row->state, ROW_ACKED,
						       memory_order_acq_rel);
		}
		if (was != ROW_PENDING) {
			mail_row_unref(&m->row);
			if (was == ROW_DONE)
				delete_id(w, m->id, m);
		}
	}
	mail_release(w, m);
}

/* ---- deletions, batched per turn ------------------------------------------------------------- */

static void batch_done(struct store_op *op)
{
	struct mail_batch *b = container_of(op, struct mail_batch, del.op);

	if (op->rc && op->rc != E_CLOSED) {
		count(b->w, CNT_STORE_FAILED);
		log_ev(LOG_L_ERROR, "mail.del.failed", KU("rows", b->del.n),
		       KC("err", e_name(op->rc)));
	}
	for (unsigned i = 0; i < b->del.n; i++) {
		struct mail *m = b->mail[i];

		if (!m)
			continue;
		m->deleting = false;
		if (m->holders == 0)
			retire(b->w, m);
	}
	store_op_fini(op);
	free(b);
}

void mail_flush_deletes(struct worker *w)
{
	struct mail_batch *b = w->router->batch;

	if (!b)
		return;
	w->router->batch = NULL;
	store_submit(w->store, &b->del.op);
}

static void deletes_task(struct loop_task *t)
{
	mail_flush_deletes(container_of(t, struct router, deletes)->w);
}

/* m may be NULL. Without memory the row stays: it is delivered again after the next start, not
 * lost. */
static void delete_id(struct worker *w, uint64_t id, struct mail *m)
{
	struct router *r = w->router;
	struct mail_batch *b = r->batch;

	if (!b) {
		b = malloc(sizeof(*b));
		if (!b)
			return;
		store_op_init(&b->del.op, STORE_MAIL_DEL, batch_done, NULL);
		b->w = w;
		b->del.id = b->id;
		b->del.n = 0;
		r->batch = b;
		loop_defer(w->loop, &r->deletes, deletes_task);
	}
	b->id[b->del.n] = id;
	b->mail[b->del.n++] = m;
	if (m)
		m->deleting = true;
	if (b->del.n == BATCH_MAX)
		mail_flush_deletes(w);
}

void mail_drop(struct worker *w, struct item *it)
{
	uint8_t was = ROW_DONE;

	if (it->row) {
		atomic_store_explicit(&it->row->put.skip_row, true, memory_order_relaxed);
		was = atomic_exchange_explicit(&it->row->state, ROW_ACKED, memory_order_acq_rel);
	}
	if (it->mail_id && was == ROW_DONE)
		delete_id(w, it->mail_id, NULL);
	item_free(it);
}

/* The store is closed and users are going: nothing is told to anybody any more. */
void mail_close(struct router *r)
{
	struct list *n;
	struct hnode *h = htable_next(&r->mails, NULL);

	free(r->batch);
	r->batch = NULL;
	while (h) {
		struct mail *m = container_of(h, struct mail, hn);

		h = htable_next(&r->mails, h);
		mail_row_unref(&m->row);
		free(m);
	}
	while ((n = list_pop(&r->spare)))
		free(LIST_ENTRY(n, struct mail, node));
	htable_free(&r->mails);
}
