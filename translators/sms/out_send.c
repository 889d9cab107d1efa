/* out_send.c - entries meet bearers: SUBMITTED is committed, parts are handed over, answers become
 * states (MSG-4..9).
 *
 * One commit of an entry at a time: what changes meanwhile sets `again`. A part that a bearer holds
 * points back to its entry, so an entry is never freed while parts are open. */
#include "translators/sms/out_int.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

#define RETRY_UNSENT_MS    200u
#define RETRY_THROTTLED_MS 1000u
#define RETRY_COMMIT_MS    1000u

struct move {
	struct store_queue_move move;
	struct entry *en;
	unsigned open;
	int rc;
	void (*done)(struct entry *en, int rc);
	char error[128];
	struct store_queue_part_set part[];
};

static void finish(struct entry *en, int rc);

/* ---- commits
 * ------------------------------------------------------------------------------------- */

static void move_answered(struct store_op *op)
{
	struct move *m = op->arg;

	if (op->rc < 0)
		m->rc = op->rc;
	store_op_fini(op);
	if (--m->open)
		return;
	struct entry *en = m->en;
	void (*done)(struct entry *, int) = m->done;
	int rc = m->rc;
	free(m);
	en->committing = false;
	done(en, rc);
}

static void on_again_timer(struct loop_timer *t)
{
	struct entry *en = container_of(t, struct entry, timer);

	en->committing = false;
	finish(en, 0);
}

static void chain(struct store_op **tail, struct store_op *op)
{
	(*tail)->group_next = op;
	*tail = op;
}

/* Write the entry's state and the parts that changed in one transaction, with an outcome to send
 * (may be NULL). */
static void commit(struct entry *en, struct store_op *outcome,
		   void (*done)(struct entry *en, int rc))
{
	struct sms_app *a = en->out->a;
	struct move *m = calloc(1, sizeof(*m) + en->text.n * sizeof(m->part[0]));
	struct store_op *tail;

	en->committing = true;
	if (!m) {
		if (outcome) {
			outcome->rc = E_IO;
			outcome->done(outcome);
		}
		loop_timer_set(a->loop, &en->timer, 1000, on_again_timer);
		return;
	}
	en->q.changed_ms = clock_wall_ms();
	m->en = en;
	m->done = done;
	snprintf(m->error, sizeof(m->error), "%s", en->reason);
	store_op_init(&m->move.op, STORE_QUEUE_MOVE, move_answered, m);
	m->move.id = en->q.id;
	m->move.state = en->q.state;
	m->move.attempts = en->q.attempts;
	m->move.ambiguous = en->q.ambiguous;
	m->move.not_before_ms = en->q.not_before_ms;
	m->move.changed_ms = en->q.changed_ms;
	m->move.link = en->q.link;
	m->move.error = sl_cstr(m->error);
	m->move.ref = en->q.ref;
	m->move.parts = en->recut ? (uint8_t)en->text.n : 0;
	m->open = 1;
	tail = &m->move.op;
	for (unsigned i = 0; i < en->text.n; i++) {
		struct out_part *p = &en->part[i];
		if (!p->changed)
			continue;
		p->changed = false;
		struct store_queue_part_set *set = &m->part[i];
		store_op_init(&set->op, STORE_QUEUE_PART, move_answered, m);
		set->part = (struct store_queue_part){ en->q.id,     (uint8_t)(i + 1), p->state,
						       p->ambiguous, p->message_id,    p->key };
		set->changed_ms = en->q.changed_ms;
		m->open++;
		chain(&tail, &set->op);
	}
	if (outcome)
		chain(&tail, outcome);
	store_submit(a->store, &m->move.op);
}

/* ---- handing over
 * --------------------------------------------------------------------------------- */

void entry_release(struct entry *en)
{
	if (en->reserved && en->bearer)
		en->out->reserved[app_bearer_slot(en->out->a, en->bearer)] -= en->reserved;
	en->reserved = 0;
}

static void note_outcome(struct entry *en, const char *condition, const char *type,
			 const char *text)
{
	en->condition = condition;
	en->type = type;
	snprintf(en->reason, sizeof(en->reason), "%s", text);
}

static int hand_part(struct entry *en, unsigned i)
{
	struct sms_part p = {
		.from = en->q.from_number,
		.to = en->q.to_number,
		.body = { .enc = en->text.enc, .data = en->text.part[i] },
		.want_receipt = true, /* MSG-8 */
	};
	uint64_t now = clock_wall_ms();

	if (en->q.expires_ms > now)
		p.validity_s = (uint32_t)((en->q.expires_ms - now + 999) / 1000);
	if (en->text.n > 1)
		p.body.concat = (struct gsm_concat){ (uint16_t)(en->q.ref & 0xff),
						     (uint8_t)en->text.n, (uint8_t)(i + 1), false };
	return bearer_submit(en->bearer, &p, (uint64_t)(uintptr_t)&en->part[i]);
}

/* Parts that are left, as far as the bearer has room. */
static void hand_over(struct entry *en)
{
	struct sms_app *a = en->out->a;

	while (en->next_part < en->text.n) {
		struct out_part *p = &en->part[en->next_part];
		if (p->state == STORE_Q_SUBMITTED) {
			bool up = en->bearer && bearer_up(en->bearer);
			int rc = up ? hand_part(en, en->next_part) : E_CLOSED;
			if (rc == E_AGAIN && bearer_up(en->bearer))
				return; /* stays in o->sending */
			if (en->reserved) {
				en->reserved--;
				en->out->reserved[app_bearer_slot(a, en->bearer)]--;
			}
			if (rc == 0) {
				en->open++;
				en->out->open++;
				sms_count(a, SMS_CNT_OUT_PARTS);
			} else if (rc == E_AGAIN || rc == E_CLOSED) {
				en->unsent = true;
			} else {
				en->permanent = true;
				note_outcome(en, "not-acceptable", "modify",
					     "this bearer cannot carry the message");
			}
		}
		en->next_part++;
	}
	entry_set_where(en, AT_NOWHERE);
	entry_evaluate(en);
}

void entry_submit_committed(struct entry *en)
{
	en->next_part = en->open = 0;
	en->permanent = en->temporary = en->throttled = en->unsent = en->unanswered = false;
	loop_timer_clear(&en->timer);
	entry_set_where(en, AT_SENDING);
	out_pump(en->out);
}

/* The store still has it QUEUED, and so has it here; nothing was handed over. */
static void submit_failed(struct entry *en, int rc)
{
	entry_release(en);
	en->bearer = NULL;
	if (rc == E_CLOSED)
		return; /* stopping: out_free takes it */
	sms_commit_failed(en->out->a, "queue.move");
	for (unsigned i = 0; i < en->text.n; i++)
		if (en->part[i].state == STORE_Q_SUBMITTED) {
			en->part[i].state = STORE_Q_QUEUED;
			en->part[i].changed = true;
		}
	en->q.state = STORE_Q_QUEUED;
	en->q.not_before_ms = clock_wall_ms() + RETRY_COMMIT_MS;
	if (en->drop)
		entry_evaluate(en);
	else
		entry_wait(en);
}

static void submit_done(struct entry *en, int rc)
{
	if (rc < 0) {
		submit_failed(en, rc);
		return;
	}
	entry_submit_committed(en);
}

/* QUEUED -> SUBMITTED on bearer b, which has room for it. */
static void start_submit(struct entry *en, struct bearer *b)
{
	struct out *o = en->out;
	unsigned n = 0;

	loop_timer_clear(&en->timer);
	entry_set_where(en, AT_NOWHERE);
	for (unsigned i = 0; i < en->text.n; i++) {
		struct out_part *p = &en->part[i];
		if (p->state == STORE_Q_ACCEPTED)
			continue;
		p->state = STORE_Q_SUBMITTED;
		p->changed = true;
		n++;
	}
	en->bearer = b;
	en->reserved = n;
	o->reserved[app_bearer_slot(o->a, b)] += n;
	en->q.state = STORE_Q_SUBMITTED;
	if (!sl_eq(en->q.link, sl_cstr(bearer_name(b)))) /* each copy stays in the arena */
		en->q.link = arena_dup(en->arena, sl_cstr(bearer_name(b)));
	if (en->q.attempts == 0 && en->q.ref == 0)
		en->q.ref = o->ref++;
	commit(en, NULL, submit_done);
}

static unsigned wanted(const struct entry *en)
{
	unsigned n = 0;

	for (unsigned i = 0; i < en->text.n; i++)
		n += en->part[i].state != STORE_Q_ACCEPTED;
	/* A message longer than the window is taken when the window is empty of reservations. */
	return n;
}

static bool any_room(const struct out *o)
{
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++) {
		const struct bearer *b = o->a->bearer[i];
		if (b && bearer_room(b) > o->reserved[i])
			return true;
	}
	return false;
}

static void pump(struct loop_task *t)
{
	struct out *o = container_of(t, struct out, pump);
	struct sms_app *a = o->a;

	LIST_FOREACH(it, tmp, &o->sending)
		hand_over(LIST_ENTRY(it, struct entry, node));
	LIST_FOREACH(it, tmp, &o->ready) {
		struct entry *en = LIST_ENTRY(it, struct entry, node);
		bool any = false;
		struct bearer *b = app_route(a, en->q.to_number, en->q.link, &any);
		if (a->stopping)
			break;
		if (!b && !any) { /* MSG-9 */
			entry_set_where(en, AT_STALLED);
			continue;
		}
		if (!b && !any_room(o))
			break;
		if (!b)
			continue;
		unsigned room = bearer_room(b), used = o->reserved[app_bearer_slot(a, b)],
			 n = wanted(en);
		if (room >= used + n || (used == 0 && room > 0))
			start_submit(en, b);
		else if (a->nbearers == 1)
			break;
	}
}

void out_unstall(struct out *o)
{
	struct list *n;

	while ((n = list_pop(&o->stalled))) {
		struct entry *en = LIST_ENTRY(n, struct entry, node);
		en->where = AT_NOWHERE;
		entry_set_where(en, AT_READY);
	}
	out_pump(o);
}

void out_pump(struct out *o)
{
	loop_defer(o->a->loop, &o->pump, pump);
}

/* ---- answers
 * --------------------------------------------------------------------------------------- */

static void part_accepted(struct entry *en, struct out_part *p, const struct part_outcome *r)
{
	struct buf key;

	p->state = STORE_Q_ACCEPTED;
	p->changed = true;
	p->message_id = arena_dup(en->arena, r->message_id);
	buf_init(&key, 512);
	if (p->key.n == 0 && en->bearer && bearer_key(en->bearer, r->message_id, &key) == 0) {
		p->key = arena_dup(en->arena, buf_sl(&key));
		if (p->key.n && htable_add(&en->out->keys, &p->by_key, hash_bytes(p->key)) < 0)
			p->key = SL_NULL;
	}
	buf_free(&key);
}

void out_result(struct out *o, struct bearer *b, uint64_t cookie, const struct part_outcome *r)
{
	struct out_part *p = (struct out_part *)(uintptr_t)cookie;
	struct entry *en = p->en;

	UNUSED(b);
	en->open--;
	o->open--;
	bool refused = r->result == PART_TEMPORARY || r->result == PART_THROTTLED ||
		       r->result == PART_PERMANENT;

	if (refused && !en->permanent) /* of several parts the one that decides is what is told */
		note_outcome(en, r->condition, r->type, r->text);
	switch (r->result) {
	case PART_ACCEPTED:
		part_accepted(en, p, r);
		break;
	case PART_TEMPORARY:
		en->temporary = true;
		break;
	case PART_THROTTLED:
		en->throttled = true;
		break;
	case PART_PERMANENT:
		en->permanent = true;
		break;
	case PART_UNSENT:
		en->unsent = true;
		break;
	case PART_AMBIGUOUS:
		en->unanswered = true;
		p->ambiguous = p->changed = true;
		break;
	}
	entry_evaluate(en);
}

static void ended(struct entry *en, int rc)
{
	bool expired = en->q.state == STORE_Q_EXPIRED;

	if (rc < 0) {
		finish(en, rc);
		return;
	}
	sms_count(en->out->a, expired ? SMS_CNT_OUT_EXPIRED : SMS_CNT_OUT_FAILED);
	entry_trace(en, expired ? "expired" : "failed");
	entry_free(en);
}

static void end_entry(struct entry *en, uint8_t state, const char *condition, const char *type,
		      const char *text)
{
	struct sms_app *a = en->out->a;
	struct store_op *op = outcome_error_op(a, &en->q, condition, type, text);

	if (!op) { /* no memory: the sender must learn it, so try again */
		en->committing = true;
		loop_timer_set(a->loop, &en->timer, 1000, on_again_timer);
		return;
	}
	en->ended_in = en->q.state;
	en->q.state = state;
	if (!en->reason[0])
		snprintf(en->reason, sizeof(en->reason), "%s", text);
	commit(en, op, ended);
}

void entry_expire(struct entry *en)
{
	char text[200];

	if (en->committing || en->q.state != STORE_Q_QUEUED) {
		en->again = true;
		return;
	}
	snprintf(text, sizeof(text), "The message could not be sent in time%s%s.",
		 en->reason[0] ? ": " : "", en->reason);
	end_entry(en, STORE_Q_EXPIRED, "remote-server-timeout", "wait", text);
}

static void accepted_done(struct entry *en, int rc)
{
	struct sms_app *a = en->out->a;
	struct sl keys[GSM_PARTS_MAX];
	unsigned n = en->text.n < ARRAY_LEN(keys) ? en->text.n : ARRAY_LEN(keys);
	struct arena *ar = en->arena;

	if (rc < 0) {
		finish(en, rc);
		return;
	}
	sms_count(a, SMS_CNT_OUT_ACCEPTED);
	entry_trace(en, "accepted by the network");
	for (unsigned i = 0; i < n; i++)
		keys[i] = en->part[i].key;
	/* The entry leaves memory, its texts only after the receipts that wait for these keys were
	 * told. */
	en->arena = NULL;
	entry_free(en);
	for (unsigned i = 0; i < n; i++)
		outcome_key_known(a->outcome, keys[i]);
	arena_free(&ar);
}

static void requeued(struct entry *en, int rc)
{
	if (rc < 0)
		finish(en, rc);
	else if (en->again || en->drop) {
		en->again = false;
		entry_evaluate(en);
	} else
		entry_wait(en);
}

/* Back-off of MSG-6: doubling with the attempts. */
static uint64_t backoff_ms(const struct entry *en)
{
	const struct config *c = en->out->a->cfg;
	uint64_t ms = (uint64_t)c->sms.retry_min_seconds * 1000u;

	for (unsigned i = 1; i < en->q.attempts && ms < (uint64_t)c->sms.retry_max_seconds * 1000u;
	     i++)
		ms *= 2;
	return ms > (uint64_t)c->sms.retry_max_seconds * 1000u
		       ? (uint64_t)c->sms.retry_max_seconds * 1000u
		       : ms;
}

static void requeue(struct entry *en)
{
	struct sms_app *a = en->out->a;
	uint64_t delay = RETRY_UNSENT_MS;

	if (en->temporary && en->q.attempts < UINT8_MAX)
		en->q.attempts++;
	if (en->temporary)
		delay = backoff_ms(en);
	else if (en->throttled)
		delay = RETRY_THROTTLED_MS;
	if (en->unanswered) {
		en->q.ambiguous = true;
		sms_count(a, SMS_CNT_OUT_AMBIGUOUS);
		log_ev(LOG_L_WARN, "sms.out.ambiguous", KU("message", en->q.id),
		       KS("link", en->q.link), KS("to", en->q.to_number));
	}
	sms_count(a, SMS_CNT_OUT_RETRIED);
	entry_trace(en, "queued again");
	for (unsigned i = 0; i < en->text.n; i++)
		if (en->part[i].state != STORE_Q_ACCEPTED) {
			en->part[i].state = STORE_Q_QUEUED;
			en->part[i].changed = true;
		}
	en->q.state = STORE_Q_QUEUED;
	en->q.not_before_ms = clock_wall_ms() + delay;
	en->permanent = en->temporary = en->throttled = en->unsent = en->unanswered = false;
	commit(en, NULL, requeued);
}

static void part_done(struct entry *en, int rc)
{
	finish(en, rc);
}

/* MSG-3, of one that was taken under another configuration. */
static void end_misfit(struct entry *en)
{
	char text[160];

	snprintf(text, sizeof(text),
		 "This text needs more than %u short messages by now; shorten it.",
		 en->out->a->cfg->sms.max_parts);
	end_entry(en, STORE_Q_FAILED, "not-acceptable", "modify", text);
}

/* All that can follow from what is known of an entry; called after every answer and every commit.
 */
void entry_evaluate(struct entry *en)
{
	bool all_accepted = true, changed = false;

	if (en->committing) {
		en->again = true;
		return;
	}
	en->again = false;
	for (unsigned i = 0; i < en->text.n; i++) {
		all_accepted &= en->part[i].state == STORE_Q_ACCEPTED;
		changed |= en->part[i].changed;
	}
	if (en->misfit) {
		end_misfit(en);
		return;
	}
	if (en->drop && en->q.state == STORE_Q_QUEUED) {
		end_entry(en, STORE_Q_FAILED, "gone", "cancel",
			  "The operator removed the message from the queue.");
		return;
	}
	if (en->q.state != STORE_Q_SUBMITTED)
		return;
	if (en->open || en->next_part < en->text.n) {
		if (changed)
			commit(en, NULL, part_done);
		return;
	}
	entry_release(en);
	en->bearer = NULL;
	if (all_accepted) {
		en->q.state = STORE_Q_ACCEPTED;
		commit(en, NULL, accepted_done);
	} else if (en->permanent) {
		char text[200];
		snprintf(text, sizeof(text), "The network refused the message: %s.", en->reason);
		end_entry(en, STORE_Q_FAILED, en->condition ? en->condition : "undefined-condition",
			  en->type ? en->type : "cancel", text);
	} else {
		requeue(en);
	}
}

/* A commit ended that leads nowhere by itself, or failed: then everything is still to be written.
 */
static void finish(struct entry *en, int rc)
{
	struct sms_app *a = en->out->a;

	if (rc == E_CLOSED)
		return; /* stopping: out_free takes it */
	if (rc < 0) {
		sms_commit_failed(a, "queue.move");
		for (unsigned i = 0; i < en->text.n; i++)
			en->part[i].changed = true;
		if (en->q.state == STORE_Q_ACCEPTED)
			en->q.state = STORE_Q_SUBMITTED;
		else if (en->q.state > STORE_Q_ACCEPTED)
			en->q.state = en->ended_in;
		en->committing = true;
		loop_timer_set(a->loop, &en->timer, 1000, on_again_timer);
		return;
	}
	entry_evaluate(en);
	if (!en->committing && en->q.state == STORE_Q_QUEUED)
		entry_wait(en);
}

static bool key_match(const struct hnode *h, const void *key)
{
	return sl_eq(container_of(h, struct out_part, by_key)->key, *(const struct sl *)key);
}

unsigned out_open_parts(const struct out *o)
{
	return o->open;
}

bool out_settled(const struct out *o)
{
	for (struct hnode *h = htable_next(&o->by_id, NULL); h; h = htable_next(&o->by_id, h)) {
		const struct entry *en = container_of(h, struct entry, by_id);
		if (en->committing || en->q.state == STORE_Q_SUBMITTED)
			return false;
	}
	return true;
}

bool out_has_key(const struct out *o, struct sl key)
{
	return htable_find(&o->keys, hash_bytes(key), key_match, &key) != NULL;
}

/* Also of entries whose SUBMITTED is being committed: what they had in mind is gone. */
void out_forget_bearer(struct out *o, struct bearer *b)
{
	for (struct hnode *h = htable_next(&o->by_id, NULL); h; h = htable_next(&o->by_id, h)) {
		struct entry *en = container_of(h, struct entry, by_id);
		if (en->bearer != b)
			continue;
		entry_release(en);
		en->bearer = NULL;
		if (en->where != AT_SENDING)
			continue;
		en->unsent = true;
		en->next_part = en->text.n;
		entry_set_where(en, AT_NOWHERE);
		entry_evaluate(en);
	}
}
