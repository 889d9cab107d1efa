/* outcome.c - what became of a message: receipts of the network to states (DLV-n), states to
 * stanzas for the sender (OUT-n).
 *
 * A receipt is matched by the key that the parts table holds. One work of an entry is done at a
 * time
 * (`busy`), because two parts' receipts that both read the old state would both find the message
 * unfinished; the others of that entry are its followers, and look again when it ends. Messages
 * whose receipt never came go the same way, so that none meets its receipt half-way. */
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "translators/sms/sms.h"

#define UNMATCHED_MS  5000u
#define UNMATCHED_MAX 10000u
#define WORKS_MAX     16384u /* receipts in work; each has some 700 octets */
#define RETRY_MS      1000u
#define SETTLE_PAGE   200u

struct settle;

struct work {             /* one receipt on its way, or an entry that gets none */
	struct list node; /* in outcome->unmatched, ->looking or ->retrying, or a follower */
	struct outcome *o;
	struct settle *settle; /* no receipt: time is up */
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
	struct list followers; /* while busy */
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
	struct list looking;   /* the store is asked */
	struct list retrying;  /* the store failed; their timers run */
	unsigned nunmatched, nworks;
	struct settle *settling;
	uint64_t known; /* counts outcome_key_known */
};

/* A pass through the accepted entries, a page at a time. */
struct settle {
	struct store_queue_load load;
	struct outcome *o;
	unsigned open; /* works of this page */
	bool more;
};

static void look_up(struct work *w);
static void settle_page(struct settle *s);

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

static struct work *work_new(struct outcome *o)
{
	struct work *w = o->nworks < WORKS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return NULL;
	o->nworks++;
	w->o = o;
	w->known_then = o->known;
	list_init(&w->node);
	list_init(&w->followers);
	return w;
}

/* Nothing is woken. */
static void release(struct work *w)
{
	w->o->nworks--;
	loop_timer_clear(&w->timer);
	for (unsigned i = 0; i < w->nkeys; i++)
		free(w->key[i]);
	free(w);
}

/* Its entry is free again: all that waited for it look again, in their order. */
static void no_longer_busy(struct work *w)
{
	struct list *n;

	if (!w->busy)
		return;
	htable_del(&w->o->busy, &w->hn);
	w->busy = false;
	while ((n = list_pop(&w->followers))) {
		struct work *f = LIST_ENTRY(n, struct work, node);
		f->tried = 0;
		look_up(f);
	}
}

static void work_free(struct work *w)
{
	struct settle *s = w->settle;

	no_longer_busy(w);
	if (list_linked(&w->node))
		list_remove(&w->node);
	release(w);
	if (s && --s->open == 0)
		settle_page(s);
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
	no_longer_busy(w);
	list_append(&w->o->retrying, &w->node);
	loop_timer_set(w->o->a->loop, &w->timer, RETRY_MS, on_retry);
}

static void give_up(struct work *w)
{
	if (w->settle) { /* the entry is gone */
		work_free(w);
		return;
	}
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

static bool is_final(uint8_t s)
{
	return s >= STORE_Q_DELIVERED;
}

static void count_end(struct sms_app *a, uint8_t state)
{
	sms_count(a, state == STORE_Q_DELIVERED ? SMS_CNT_OUT_DELIVERED
		     : state == STORE_Q_FAILED  ? SMS_CNT_OUT_FAILED
						: SMS_CNT_OUT_EXPIRED);
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
	if (w->rc == 0) {
		if (is_final(w->move.state)) /* 0: the message did not move */
			count_end(w->o->a, w->move.state);
		answer(w, 0);
	} else if (w->rc == E_CLOSED)
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

/* The stanza of an end. *op_r NULL: none is wanted. */
static int tell(struct work *w, const struct store_queue_entry *q, uint8_t state,
		struct store_op **op_r)
{
	struct sms_app *a = w->o->a;
	char text[200];

	*op_r = NULL;
	if (state == STORE_Q_DELIVERED && !q->wants_receipt)
		return 0;
	snprintf(text, sizeof(text), "The message was not delivered: %s.", w->text);
	if (state == STORE_Q_DELIVERED)
		*op_r = outcome_receipt_op(a, q);
	else if (w->settle)
		*op_r = outcome_error_op(
			a, q, "remote-server-timeout", "wait",
			"The network took the message, but never said whether it was delivered.");
	else
		*op_r = outcome_error_op(a, q,
					 w->condition ? w->condition : "recipient-unavailable",
					 state == STORE_Q_FAILED ? "cancel" : "wait", text);
	return *op_r ? 0 : E_NOMEM;
}

static void fill_move(struct work *w, const struct store_queue_entry *q, uint8_t state)
{
	store_op_init(&w->move.op, STORE_QUEUE_MOVE, committed, w);
	w->move.id = q->id;
	w->move.state = state;
	w->move.attempts = q->attempts;
	w->move.ambiguous = q->ambiguous;
	w->move.changed_ms = clock_wall_ms();
	w->move.link = q->link;
	w->move.error = state == STORE_Q_DELIVERED ? SL_NULL : sl_cstr(w->text);
	w->move.ref = q->ref;
}

static void apply(struct work *w)
{
	struct store_queue_get *g = &w->get;
	const struct store_queue_entry *q = &g->entry_r;
	const struct store_queue_part *p = NULL;
	struct store_op *told = NULL;
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
	if (whole != q->state && is_final(whole) && tell(w, q, whole, &told) < 0) {
		store_op_fini(&g->op);
		later(w);
		return;
	}
	w->rc = 0;
	w->open = 1;
	w->move.state = 0;
	store_op_init(&w->part.op, STORE_QUEUE_PART, committed, w);
	w->part.part = *p;
	w->part.part.state = now;
	w->part.changed_ms = clock_wall_ms();
	if (whole != q->state) {
		fill_move(w, q, whole);
		w->part.op.group_next = &w->move.op;
		w->move.op.group_next = told;
		w->open = 2;
	}
	store_submit(w->o->a->store, &w->part.op);
}

static bool overdue(const struct outcome *o, uint64_t since_ms)
{
	return since_ms + o->a->cfg->sms.receipt_hours * 3600000ull < clock_wall_ms();
}

/* DLV-5: no receipt came for it, as far as is known by now. */
static void settle_one(struct work *w)
{
	const struct store_queue_entry *q = &w->get.entry_r;
	struct store_op *told;

	if (q->state != STORE_Q_ACCEPTED || !overdue(w->o, q->changed_ms) ||
	    tell(w, q, STORE_Q_EXPIRED, &told) < 0) { /* the next pass comes by again */
		store_op_fini(&w->get.op);
		work_free(w);
		return;
	}
	w->rc = 0;
	w->open = 1;
	fill_move(w, q, STORE_Q_EXPIRED);
	w->move.op.group_next = told;
	store_submit(w->o->a->store, &w->move.op);
}

/* Its entry was found: work on it, or wait until whoever does has ended. */
static void start_work(struct work *w)
{
	struct outcome *o = w->o;
	const struct store_queue_entry *q = &w->get.entry_r;
	struct work *first;

	w->entry = q->id;
	first = busy_find(o, w->entry);
	if (first) {
		store_op_fini(&w->get.op);
		list_append(&first->followers, &w->node);
		return;
	}
	w->busy = htable_add(&o->busy, &w->hn, w->entry) == 0;
	if (!w->busy) {
		store_op_fini(&w->get.op);
		later(w);
		return;
	}
	if (w->settle) {
		settle_one(w);
		return;
	}
	if (sms_tracing(o->a)) {
		char line[200];
		snprintf(line, sizeof(line), "receipt for message %llu: %s",
			 (unsigned long long)w->entry, w->text);
		sms_trace_line(o->a, q->from_jid, q->to_number, line);
	}
	apply(w);
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
		if (w->settle) {
			give_up(w);
		} else if (++w->tried < w->nkeys) {
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
	start_work(w);
}

/* DLV-1: by (link, canonical id). */
static void look_up(struct work *w)
{
	store_op_init(&w->get.op, STORE_QUEUE_GET, found, w);
	w->get.id = w->settle ? w->entry : 0;
	w->get.custody_id = SL_NULL;
	w->get.key = w->settle ? SL_NULL : sl_cstr(w->key[w->tried]);
	list_append(&w->o->looking, &w->node);
	store_submit(w->o->a->store, &w->get.op);
}

void outcome_receipt(struct outcome *o, struct bearer *b, const struct sms_receipt *r,
		     uint64_t token)
{
	struct work *w = work_new(o);
	bool early = false;

	sms_count(o->a, SMS_CNT_RECEIPTS);
	if (!w) { /* DLV-4 */
		sms_count(o->a, SMS_CNT_RECEIPT_REFUSED);
		bearer_answer(b, token, E_LIMIT);
		return;
	}
	w->bearer = b;
	w->token = token;
	w->state = r->state;
	w->condition = r->condition;
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
	forget(&o->looking, b);
	forget(&o->retrying, b);
	for (struct hnode *h = htable_next(&o->busy, NULL); h; h = htable_next(&o->busy, h)) {
		struct work *w = container_of(h, struct work, hn);
		if (w->bearer == b)
			w->bearer = NULL;
		forget(&w->followers, b);
	}
}

/* ---- no receipt came
 * ------------------------------------------------------------------------------------ */

static void settle_end(struct settle *s)
{
	s->o->settling = NULL;
	free(s);
}

static void settle_loaded(struct store_op *op)
{
	struct settle *s = op->arg;
	struct store_queue_load *l = &s->load;
	bool full = op->rc == 0 && l->n_r == SETTLE_PAGE;

	s->open = 1;
	s->more = full;
	for (unsigned i = 0; op->rc == 0 && i < l->n_r; i++) {
		const struct store_queue_entry *q = &l->entry_r[i];
		l->after = q->id;
		if (!overdue(s->o,
			     q->stamp_ms)) { /* so are all after it: ids are in order of age */
			s->more = false;
			break;
		}
		if (!overdue(s->o, q->changed_ms))
			continue;
		struct work *w = work_new(s->o);
		if (!w)
			break;
		w->settle = s;
		w->entry = q->id;
		snprintf(w->text, sizeof(w->text), "no delivery receipt");
		s->open++;
		look_up(w);
	}
	store_op_fini(op);
	if (--s->open == 0)
		settle_page(s);
}

/* The page before is done with. */
static void settle_page(struct settle *s)
{
	if (!s->more) {
		settle_end(s);
		return;
	}
	uint64_t after = s->load.after;
	store_op_init(&s->load.op, STORE_QUEUE_LOAD, settle_loaded, s);
	s->load.states = 1u << STORE_Q_ACCEPTED;
	s->load.after = after;
	s->load.limit = SETTLE_PAGE;
	store_submit(s->o->a->store, &s->load.op);
}

void outcome_settle(struct outcome *o)
{
	if (o->settling || !(o->settling = calloc(1, sizeof(*o->settling))))
		return;
	o->settling->o = o;
	o->settling->more = true;
	settle_page(o->settling);
}

int outcome_new(struct sms_app *a, struct outcome **o_r)
{
	struct outcome *o = calloc(1, sizeof(*o));

	if (!o)
		return E_NOMEM;
	o->a = a;
	list_init(&o->unmatched);
	list_init(&o->looking);
	list_init(&o->retrying);
	*o_r = o;
	return 0;
}

static void free_list(struct list *l)
{
	struct list *n;

	while ((n = list_pop(l)))
		release(LIST_ENTRY(n, struct work, node));
}

void outcome_free(struct outcome **op)
{
	struct outcome *o = *op;

	*op = NULL;
	if (!o)
		return;
	free_list(&o->unmatched);
	free_list(&o->retrying);
	if (o->settling) /* some of its works were to be tried again */
		store_op_fini(&o->settling->load.op);
	free(o->settling);
	htable_free(&o->busy);
	free(o);
}
