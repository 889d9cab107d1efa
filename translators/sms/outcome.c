/* outcome.c - what became of a message: receipts of the network to states (DLV-n), states to
 * stanzas for the sender (OUT-n).
 *
 * A receipt is matched by the key that the parts table holds. One receipt of an entry is worked on
 * at a time (`busy`), because two parts' receipts that both read the old state would both find the
 * message unfinished. */
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "translators/sms/sms.h"

#define UNMATCHED_MS  5000u
#define UNMATCHED_MAX 10000u
#define RETRY_MS      1000u

struct work {             /* one receipt on its way */
	struct list node; /* in outcome->waiting, ->unmatched or ->queued */
	struct outcome *o;
	struct bearer *bearer;
	uint64_t token;
	unsigned nkeys, tried;
	char *key[RECEIPT_KEYS];
	enum receipt_state state;
	const char *condition;
	char text[96];
	uint64_t known_then; /* outcome->known when the look-up began */
	uint64_t entry;      /* once known: in outcome->busy */
	struct hnode hn;
	bool busy;
	struct loop_timer timer;
	struct store_queue_get get;
	struct store_queue_part_set part;
	struct store_queue_move move;
	unsigned open;
	int rc;
};

struct outcome {
	struct sms_app *a;
	struct htable busy;    /* struct work by entry id */
	struct list unmatched; /* DLV-2 */
	struct list queued;    /* wait for another receipt of the same entry */
	struct list looking;   /* the store is asked */
	struct list retrying;  /* the store failed; their timers run */
	unsigned nunmatched;
	bool settling;
	uint64_t known; /* counts outcome_key_known */
};

static void look_up(struct work *w);

/* ---- stanzas for the sender
 * ------------------------------------------------------------------------ */

/* OUT-4: always to the full JID that sent. */
static int head(struct buf *b, struct sl to, struct sl from, struct sl id, const char *type)
{
	int rc = buf_add(b, SL("<message"));

	if (type)
		rc |= buf_addf(b, " type='%s'", type);
	rc |= buf_add(b, SL(" from='"));
	rc |= xml_write_escaped(b, from);
	rc |= buf_add(b, SL("' to='"));
	rc |= xml_write_escaped(b, to);
	rc |= buf_add(b, SL("' id='"));
	rc |= xml_write_escaped(b, id);
	rc |= buf_add(b, SL("'>"));
	return rc;
}

/* OUT-3: made from the entry and the event, so a second copy is known as one. */
static int origin(struct buf *b, struct sl id)
{
	int rc = buf_add(b, SL("<origin-id xmlns='urn:xmpp:sid:0' id='"));

	rc |= xml_write_escaped(b, id);
	rc |= buf_add(b, SL("'/></message>"));
	return rc;
}

static struct store_op *op_of(struct sms_app *a, int rc, struct buf *xml, struct sl key,
			      void (*committed)(void *, int), void *arg)
{
	struct store_op *op =
		rc ? NULL
		   : outbox_op(a->outbox, outbox_id(a->outbox), key, buf_sl(xml), committed, arg);

	buf_free(xml);
	return op;
}

struct store_op *outcome_receipt_op(struct sms_app *a, const struct store_queue_entry *q)
{
	char event[48];
	struct buf b;
	int rc;

	snprintf(event, sizeof(event), "q%llx.rcpt", (unsigned long long)q->id);
	buf_init(&b, COMPONENT_STANZA_MAX);
	rc = head(&b, q->from_jid, q->to_jid, sl_cstr(event), NULL);
	rc |= buf_add(&b, SL("<received xmlns='urn:xmpp:receipts' id='"));
	rc |= xml_write_escaped(&b, q->stanza_id);
	rc |= buf_add(&b, SL("'/>"));
	rc |= origin(&b, sl_cstr(event));
	return op_of(a, rc, &b, sl_cstr(event), NULL, NULL);
}

static int error_body(struct buf *b, const char *condition, const char *type, const char *text)
{
	int rc = buf_addf(b, "<error type='%s'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>",
			  type, condition);

	rc |= buf_add(b, SL("<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>"));
	rc |= xml_write_escaped(b, sl_cstr(text));
	rc |= buf_add(b, SL("</text></error>"));
	return rc;
}

struct store_op *outcome_error_op(struct sms_app *a, const struct store_queue_entry *q,
				  const char *condition, const char *type, const char *text)
{
	char event[48];
	struct buf b;
	int rc;

	snprintf(event, sizeof(event), "q%llx.err", (unsigned long long)q->id);
	buf_init(&b, COMPONENT_STANZA_MAX);
	rc = head(&b, q->from_jid, q->to_jid, q->stanza_id, "error");
	rc |= error_body(&b, condition, type, text);
	rc |= origin(&b, sl_cstr(event));
	return op_of(a, rc, &b, sl_cstr(event), NULL, NULL);
}

struct refusal {
	struct sms_app *a;
	struct component_ticket t;
};

static void refusal_committed(void *arg, int rc)
{
	struct refusal *r = arg;

	/* Not committed: not acknowledged. h cannot pass it, so the core is made to send it again.
	 */
	if (rc == 0) {
		component_done(r->a->core, r->t);
	} else if (rc != E_CLOSED) {
		sms_commit_failed(r->a, "outbox.refusal");
		component_again(r->a->core, r->t);
	}
	free(r);
}

void outcome_refuse(struct sms_app *a, const struct stanza *st, struct sl key,
		    const char *condition, const char *type, const char *text,
		    struct component_ticket t)
{
	struct refusal *r = malloc(sizeof(*r));
	struct store_op *op = NULL;
	char name[160];
	struct buf b;
	int rc;

	if (key.n && key.n < 140)
		snprintf(name, sizeof(name), "r%.*s", SLARG(key));
	else
		snprintf(name, sizeof(name), "r%llx", (unsigned long long)ids_next(&a->ids));
	buf_init(&b, COMPONENT_STANZA_MAX);
	rc = head(&b, st->from.full, st->to.full, st->id, "error");
	rc |= error_body(&b, condition, type, text);
	rc |= origin(&b, sl_cstr(name));
	if (r) {
		r->a = a;
		r->t = t;
		op = op_of(a, rc, &b, sl_cstr(name), refusal_committed, r);
	} else {
		buf_free(&b);
	}
	if (op) {
		store_submit(a->store, op);
	} else {
		free(r);
		component_again(a->core, t);
	}
}

/* ---- receipts
 * ---------------------------------------------------------------------------------------- */

static bool busy_match(const struct hnode *h, const void *key)
{
	return container_of(h, struct work, hn)->entry == *(const uint64_t *)key;
}

static struct work *busy_find(const struct outcome *o, uint64_t entry)
{
	struct hnode *h = htable_find(&o->busy, entry, busy_match, &entry);

	return h ? container_of(h, struct work, hn) : NULL;
}

static void work_free(struct work *w)
{
	struct outcome *o = w->o;
	uint64_t entry = w->entry;
	bool was_busy = w->busy;

	if (w->busy)
		htable_del(&o->busy, &w->hn);
	if (list_linked(&w->node))
		list_remove(&w->node);
	loop_timer_clear(&w->timer);
	for (unsigned i = 0; i < w->nkeys; i++)
		free(w->key[i]);
	free(w);
	if (!was_busy)
		return;
	LIST_FOREACH(it, tmp, &o->queued) {
		struct work *q = LIST_ENTRY(it, struct work, node);
		if (q->entry != entry)
			continue;
		list_remove(&q->node);
		q->tried = 0;
		look_up(q);
		return;
	}
}

static void answer(struct work *w, int rc)
{
	if (w->bearer)
		bearer_answer(w->bearer, w->token, rc);
	work_free(w);
}

static void on_retry(struct loop_timer *t)
{
	struct work *w = container_of(t, struct work, timer);

	list_remove(&w->node);
	w->tried = 0;
	look_up(w);
}

static void later(struct work *w)
{
	if (w->busy) {
		htable_del(&w->o->busy, &w->hn);
		w->busy = false;
	}
	list_append(&w->o->retrying, &w->node);
	loop_timer_set(w->o->a->loop, &w->timer, RETRY_MS, on_retry);
}

static void give_up(struct work *w)
{
	sms_count(w->o->a, SMS_CNT_RECEIPT_UNMATCHED);
	log_ev(LOG_L_INFO, "sms.receipt.unmatched", KC("id", w->nkeys ? w->key[0] : ""));
	answer(w, 0);
}

static void on_unmatched(struct loop_timer *t)
{
	struct work *w = container_of(t, struct work, timer);

	w->o->nunmatched--;
	give_up(w);
}

/* DLV-2: it may be early, if there is anything that it could be early for. */
static void unmatched(struct work *w, bool early)
{
	struct outcome *o = w->o;

	for (unsigned i = 0; i < w->nkeys; i++) /* accepted, the commit is under way */
		early |= out_has_key(o->a->out, sl_cstr(w->key[i]));
	if (!early && out_open_parts(o->a->out) == 0) {
		give_up(w);
		return;
	}
	if (o->nunmatched >= UNMATCHED_MAX) {
		struct work *oldest = LIST_ENTRY(o->unmatched.next, struct work, node);
		loop_timer_clear(&oldest->timer);
		on_unmatched(&oldest->timer);
	}
	o->nunmatched++;
	list_append(&o->unmatched, &w->node);
	loop_timer_set(o->a->loop, &w->timer, UNMATCHED_MS, on_unmatched);
}

void outcome_key_known(struct outcome *o, struct sl key)
{
	o->known++;
	LIST_FOREACH(it, tmp, &o->unmatched) {
		struct work *w = LIST_ENTRY(it, struct work, node);
		for (unsigned i = 0; i < w->nkeys; i++) {
			if (!sl_eq(sl_cstr(w->key[i]), key))
				continue;
			loop_timer_clear(&w->timer);
			list_remove(&w->node);
			o->nunmatched--;
			w->tried = i;
			look_up(w);
			break;
		}
	}
}

static void committed(struct store_op *op)
{
	struct work *w = op->arg;

	if (op->rc < 0)
		w->rc = op->rc;
	store_op_fini(op);
	if (--w->open)
		return;
	store_op_fini(&w->get.op);
	if (w->rc == 0)
		answer(w, 0);
	else if (w->rc == E_CLOSED)
		work_free(w);
	else {
		sms_commit_failed(w->o->a, "receipt");
		later(w);
	}
}

static uint8_t state_of(enum receipt_state s)
{
	return s == RECEIPT_DELIVERED ? STORE_Q_DELIVERED
	       : s == RECEIPT_FAILED  ? STORE_Q_FAILED
				      : STORE_Q_EXPIRED;
}

static bool is_final(uint8_t s)
{
	return s >= STORE_Q_DELIVERED;
}

/* The message's state once part `number` is in `now`: failed as soon as one part failed, delivered
 * when all are. */
static uint8_t combine(const struct work *w, uint8_t number, uint8_t now)
{
	const struct store_queue_get *g = &w->get;

	if (now != STORE_Q_DELIVERED)
		return now;
	for (unsigned i = 0; i < g->nparts_r; i++)
		if (g->part_r[i].number != number && g->part_r[i].state != STORE_Q_DELIVERED)
			return STORE_Q_ACCEPTED;
	return STORE_Q_DELIVERED;
}

static struct store_op *tell(struct work *w, const struct store_queue_entry *q, uint8_t state)
{
	struct sms_app *a = w->o->a;
	char text[200];

	if (state == STORE_Q_DELIVERED) {
		sms_count(a, SMS_CNT_OUT_DELIVERED);
		return q->wants_receipt ? outcome_receipt_op(a, q) : NULL;
	}
	sms_count(a, state == STORE_Q_FAILED ? SMS_CNT_OUT_FAILED : SMS_CNT_OUT_EXPIRED);
	snprintf(text, sizeof(text), "The message was not delivered: %s.", w->text);
	return outcome_error_op(a, q, w->condition ? w->condition : "recipient-unavailable",
				state == STORE_Q_FAILED ? "cancel" : "wait", text);
}

static void apply(struct work *w)
{
	struct store_queue_get *g = &w->get;
	const struct store_queue_entry *q = &g->entry_r;
	const struct store_queue_part *p = NULL;
	uint8_t now = state_of(w->state), whole;

	for (unsigned i = 0; i < g->nparts_r; i++)
		if (sl_eq(g->part_r[i].key, sl_cstr(w->key[w->tried])))
			p = &g->part_r[i];
	if (!p || w->state == RECEIPT_INTERMEDIATE || is_final(p->state)) { /* DLV-3 */
		store_op_fini(&g->op);
		answer(w, 0);
		return;
	}
	whole = is_final(q->state) ? q->state : combine(w, p->number, now);
	w->rc = 0;
	w->open = 1;
	store_op_init(&w->part.op, STORE_QUEUE_PART, committed, w);
	w->part.part = *p;
	w->part.part.state = now;
	w->part.changed_ms = clock_wall_ms();
	if (whole != q->state) {
		store_op_init(&w->move.op, STORE_QUEUE_MOVE, committed, w);
		w->move.id = q->id;
		w->move.state = whole;
		w->move.attempts = q->attempts;
		w->move.ambiguous = q->ambiguous;
		w->move.changed_ms = w->part.changed_ms;
		w->move.link = q->link;
		w->move.error = whole == STORE_Q_DELIVERED ? SL_NULL : sl_cstr(w->text);
		w->move.ref = q->ref;
		w->part.op.group_next = &w->move.op;
		w->open = 2;
		if (is_final(whole))
			w->move.op.group_next = tell(w, q, whole);
	}
	store_submit(w->o->a->store, &w->part.op);
}

static void found(struct store_op *op)
{
	struct work *w = op->arg;
	struct outcome *o = w->o;
	struct store_queue_get *g = &w->get;

	list_remove(&w->node);
	if (op->rc < 0) {
		store_op_fini(op);
		if (op->rc == E_CLOSED)
			work_free(w);
		else
			later(w);
		return;
	}
	if (!g->found_r) {
		store_op_fini(op);
		if (++w->tried < w->nkeys) {
			look_up(w);
		} else if (w->known_then != o->known) { /* committed while we looked */
			w->tried = 0;
			w->known_then = o->known;
			look_up(w);
		} else {
			unmatched(w, false);
		}
		return;
	}
	w->entry = g->entry_r.id;
	if (busy_find(o, w->entry)) {
		store_op_fini(op);
		list_append(&o->queued, &w->node);
		return;
	}
	if (sms_tracing(o->a)) {
		char line[200];
		snprintf(line, sizeof(line), "receipt for message %llu: %s",
			 (unsigned long long)w->entry, w->text);
		sms_trace_line(o->a, g->entry_r.from_jid, g->entry_r.to_number, line);
	}
	w->busy = htable_add(&o->busy, &w->hn, w->entry) == 0;
	apply(w);
}

/* DLV-1: by (link, canonical id). */
static void look_up(struct work *w)
{
	store_op_init(&w->get.op, STORE_QUEUE_GET, found, w);
	w->get.id = 0;
	w->get.custody_id = SL_NULL;
	w->get.key = sl_cstr(w->key[w->tried]);
	list_append(&w->o->looking, &w->node);
	store_submit(w->o->a->store, &w->get.op);
}

void outcome_receipt(struct outcome *o, struct bearer *b, const struct sms_receipt *r,
		     uint64_t token)
{
	struct work *w = calloc(1, sizeof(*w));
	bool early = false;

	sms_count(o->a, SMS_CNT_RECEIPTS);
	if (!w) {
		bearer_answer(b, token, E_AGAIN);
		return;
	}
	w->o = o;
	w->bearer = b;
	w->token = token;
	w->known_then = o->known;
	w->state = r->state;
	w->condition = r->condition;
	list_init(&w->node);
	snprintf(w->text, sizeof(w->text), "%s", r->text);
	for (unsigned i = 0; i < r->nkeys && i < RECEIPT_KEYS; i++) {
		w->key[i] = sl_dup(r->key[i]);
		if (!w->key[i])
			break;
		w->nkeys++;
		early |= out_has_key(o->a->out, r->key[i]);
	}
	if (w->nkeys == 0 || early) /* accepted, but not committed yet: outcome_key_known comes */
		unmatched(w, early);
	else
		look_up(w);
}

/* The link is gone: its answers are not wanted any more, what the receipts say is. */
static void forget(struct list *l, const struct bearer *b)
{
	LIST_FOREACH(it, tmp, l) {
		struct work *w = LIST_ENTRY(it, struct work, node);
		if (w->bearer == b)
			w->bearer = NULL;
	}
}

void outcome_forget_bearer(struct outcome *o, const struct bearer *b)
{
	forget(&o->unmatched, b);
	forget(&o->queued, b);
	forget(&o->looking, b);
	forget(&o->retrying, b);
	for (struct hnode *h = htable_next(&o->busy, NULL); h; h = htable_next(&o->busy, h)) {
		struct work *w = container_of(h, struct work, hn);
		if (w->bearer == b)
			w->bearer = NULL;
	}
}

/* ---- no receipt came
 * ------------------------------------------------------------------------------------ */

#define SETTLE_PAGE 200u

struct settle {
	struct store_queue_load load;
	struct outcome *o;
	unsigned open;
	struct store_queue_move move[SETTLE_PAGE];
};

static void settled(struct store_op *op)
{
	struct settle *s = op->arg;

	if (op->rc == 0)
		sms_count(s->o->a, SMS_CNT_OUT_EXPIRED);
	store_op_fini(op);
	if (--s->open)
		return;
	s->o->settling = false;
	store_op_fini(&s->load.op);
	free(s);
}

static void settle_one(struct settle *s, const struct store_queue_entry *q,
		       struct store_queue_move *m, uint64_t now)
{
	struct sms_app *a = s->o->a;
	struct store_op *tell = outcome_error_op(
		a, q, "remote-server-timeout", "wait",
		"The network took the message, but never said whether it was delivered.");

	if (!tell)
		return;
	store_op_init(&m->op, STORE_QUEUE_MOVE, settled, s);
	m->id = q->id;
	m->state = STORE_Q_EXPIRED;
	m->attempts = q->attempts;
	m->ambiguous = q->ambiguous;
	m->changed_ms = now;
	m->link = q->link;
	m->error = SL("no delivery receipt");
	m->ref = q->ref;
	m->op.group_next = tell;
	s->open++;
	store_submit(a->store, &m->op);
}

static void settle_loaded(struct store_op *op)
{
	struct settle *s = op->arg;
	uint64_t now = clock_wall_ms(), hours = s->o->a->cfg->sms.receipt_hours;

	s->open = 1;
	for (unsigned i = 0; op->rc == 0 && i < s->load.n_r; i++) {
		const struct store_queue_entry *q = &s->load.entry_r[i];
		if (q->changed_ms + hours * 3600000u < now && !busy_find(s->o, q->id))
			settle_one(s, q, &s->move[i], now);
	}
	if (--s->open)
		return;
	s->o->settling = false;
	store_op_fini(op);
	free(s);
}

void outcome_settle(struct outcome *o)
{
	struct settle *s = o->settling ? NULL : calloc(1, sizeof(*s));

	if (!s)
		return;
	s->o = o;
	o->settling = true;
	store_op_init(&s->load.op, STORE_QUEUE_LOAD, settle_loaded, s);
	s->load.states = 1u << STORE_Q_ACCEPTED;
	s->load.limit = SETTLE_PAGE;
	store_submit(o->a->store, &s->load.op);
}

int outcome_new(struct sms_app *a, struct outcome **o_r)
{
	struct outcome *o = calloc(1, sizeof(*o));

	if (!o)
		return E_NOMEM;
	o->a = a;
	list_init(&o->unmatched);
	list_init(&o->queued);
	list_init(&o->looking);
	list_init(&o->retrying);
	*o_r = o;
	return 0;
}

static void free_list(struct list *l)
{
	struct list *n;

	while ((n = list_pop(l))) {
		struct work *w = LIST_ENTRY(n, struct work, node);
		loop_timer_clear(&w->timer);
		for (unsigned i = 0; i < w->nkeys; i++)
			free(w->key[i]);
		free(w);
	}
}

void outcome_free(struct outcome **op)
{
	struct outcome *o = *op;

	*op = NULL;
	if (!o)
		return;
	free_list(&o->unmatched);
	free_list(&o->queued);
	free_list(&o->retrying);
	htable_free(&o->busy);
	free(o);
}
