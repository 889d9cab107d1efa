/* out.c - messages become queue entries (MSG-1..5), and the part of the queue that is in memory.
 *
 * An entry in memory is in its conversation's list; only the oldest of a conversation is handed to
 * a bearer. When more than OUT_MEMORY_MAX are waiting, new ones are committed and forgotten
 * ("spilling"), and read back in the order of their ids when there is room: the same way in which
 * the queue is read at start. */
#include "translators/sms/out_int.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"

#define NAME_OCTETS_MAX 1024u

struct put {
	struct store_queue_put op;
	struct entry *en;
};

/* ---- tables -------------------------------------------------------------------------------------
 */

static uint64_t id_hash(uint64_t id)
{
	return hash_bytes(sl_mk((const char *)&id, sizeof(id)));
}

static bool id_match(const struct hnode *h, const void *key)
{
	return container_of(h, struct entry, by_id)->q.id == *(const uint64_t *)key;
}

static struct entry *find_id(const struct out *o, uint64_t id)
{
	struct hnode *h = htable_find(&o->by_id, id_hash(id), id_match, &id);

	return h ? container_of(h, struct entry, by_id) : NULL;
}

static bool conv_match(const struct hnode *h, const void *key)
{
	const struct conv *c = container_of(h, struct conv, hn);
	const struct sl *k = key;

	return c->n == k->n && memcmp(c->key, k->p, k->n) == 0;
}

static struct sl bare_of(struct sl jid)
{
	return sl_sub(jid, 0, sl_find(jid, '/', 0));
}

static struct conv *conv_get(struct out *o, const struct store_queue_entry *q)
{
	struct sl bare = bare_of(q->from_jid);
	char tmp[JID_MAX + NUMBER_MAX + 2];
	int n = snprintf(tmp, sizeof(tmp), "%.*s\n%.*s", SLARG(bare), SLARG(q->to_number));
	struct sl key = sl_mk(tmp, (size_t)n < sizeof(tmp) ? (size_t)n : sizeof(tmp) - 1);
	struct hnode *h = htable_find(&o->convs, hash_bytes(key), conv_match, &key);

	if (h)
		return container_of(h, struct conv, hn);
	struct conv *c = malloc(sizeof(*c) + key.n);
	if (!c)
		return NULL;
	list_init(&c->entries);
	c->n = key.n;
	memcpy(c->key, key.p, key.n);
	if (htable_add(&o->convs, &c->hn, hash_bytes(key)) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

static void conv_put(struct out *o, struct conv *c)
{
	if (!list_empty(&c->entries))
		return;
	htable_del(&o->convs, &c->hn);
	free(c);
}

/* ---- entries
 * ------------------------------------------------------------------------------------- */

bool entry_is_head(const struct entry *en)
{
	return en->conv->entries.next == &en->conv_node;
}

void entry_set_where(struct entry *en, enum entry_where w)
{
	struct out *o = en->out;

	if (en->where != AT_NOWHERE)
		list_remove(&en->node);
	en->where = (uint8_t)w;
	if (w == AT_READY)
		list_append(&o->ready, &en->node);
	else if (w == AT_SENDING)
		list_append(&o->sending, &en->node);
	else if (w == AT_STALLED)
		list_append(&o->stalled, &en->node);
}

static bool copy_texts(struct entry *en, const struct store_queue_entry *q)
{
	struct sl *const to[] = { &en->q.custody_id,  &en->q.from_jid,  &en->q.to_jid,
				  &en->q.from_number, &en->q.to_number, &en->q.stanza_id,
				  &en->q.origin_id,   &en->q.thread,    &en->q.body,
				  &en->q.link,        &en->q.error };
	const struct sl from[] = { q->custody_id, q->from_jid,  q->to_jid,    q->from_number,
				   q->to_number,  q->stanza_id, q->origin_id, q->thread,
				   q->body,       q->link,      q->error };

	for (size_t i = 0; i < ARRAY_LEN(to); i++) {
		*to[i] = arena_dup(en->arena, from[i]);
		if (!to[i]->p)
			return false;
	}
	return true;
}

struct entry *entry_new(struct out *o, const struct store_queue_entry *q, bool known, struct err *e)
{
	struct gsm_split_cfg sc = { .encs = app_encodings(o->a, q->to_number),
				    .max_parts = o->a->cfg->sms.max_parts };
	struct entry *en = calloc(1, sizeof(*en));
	int rc = E_NOMEM;

	if (!en || !(en->arena = arena_new(1024 + q->body.n * 3, (1u << 16) + q->body.n * 16)))
		goto fail;
	en->out = o;
	en->q = *q;
	list_init(&en->node);
	list_init(&en->conv_node);
	if (!copy_texts(en, q))
		goto fail;
	rc = gsm_split(en->arena, en->q.body, &sc, &en->text, e);
	en->misfit = known && rc < 0 && rc != E_NOMEM;
	if (en->misfit)
		en->text.n = 0;
	else if (rc < 0)
		goto fail;
	rc = E_NOMEM;
	en->q.parts = (uint8_t)en->text.n;
	en->part = arena_zalloc(en->arena, en->text.n * sizeof(*en->part));
	if ((!en->part && en->text.n) || !(en->conv = conv_get(o, &en->q)))
		goto fail;
	for (unsigned i = 0; i < en->text.n; i++)
		en->part[i].en = en;
	if (htable_add(&o->by_id, &en->by_id, id_hash(q->id)) < 0) {
		conv_put(o, en->conv);
		goto fail;
	}
	list_append(&en->conv->entries, &en->conv_node);
	o->n++;
	return en;
fail:
	if (rc == E_NOMEM)
		err_set(e, E_NOMEM, NULL, "out of memory");
	if (en)
		arena_free(&en->arena);
	free(en);
	return NULL;
}

/* Out of memory and lists; the next of its conversation gets its turn. */
void entry_free(struct entry *en)
{
	struct out *o = en->out;
	struct conv *c = en->conv;
	struct entry *next = NULL;

	entry_set_where(en, AT_NOWHERE);
	entry_release(en);
	loop_timer_clear(&en->timer);
	htable_del(&o->by_id, &en->by_id);
	for (unsigned i = 0; i < en->text.n; i++)
		if (en->part[i].key.n)
			htable_del(&o->keys, &en->part[i].by_key);
	list_remove(&en->conv_node);
	if (!list_empty(&c->entries))
		next = LIST_ENTRY(c->entries.next, struct entry, conv_node);
	conv_put(o, c);
	arena_free(&en->arena);
	free(en);
	o->n--;
	if (o->closing)
		return;
	if (next && next->q.state == STORE_Q_QUEUED && !next->committing)
		entry_wait(next);
	if (o->spilling && o->n < OUT_MEMORY_MAX / 2)
		out_load_more(o);
}

static void on_entry_timer(struct loop_timer *t)
{
	entry_wait(container_of(t, struct entry, timer));
}

void entry_wait(struct entry *en)
{
	uint64_t now = clock_wall_ms();

	entry_set_where(en, AT_NOWHERE);
	if (now >= en->q.expires_ms) {
		entry_expire(en);
		return;
	}
	if (en->q.not_before_ms <= now && entry_is_head(en)) {
		entry_set_where(en, AT_READY);
		out_pump(en->out);
	}
	uint64_t due = en->q.not_before_ms > now && en->q.not_before_ms < en->q.expires_ms
			       ? en->q.not_before_ms
			       : en->q.expires_ms;
	loop_timer_set(en->out->a->loop, &en->timer, due - now > 86400000u ? 86400000u : due - now,
		       on_entry_timer);
}

/* ---- from the core
 * ------------------------------------------------------------------------------- */

void entry_trace(const struct entry *en, const char *what)
{
	char line[256];

	if (!sms_tracing(en->out->a))
		return;
	snprintf(line, sizeof(line), "message %llu to %.*s (%u parts): %s %s",
		 (unsigned long long)en->q.id, SLARG(en->q.to_number), en->text.n, what,
		 en->reason);
	sms_trace_line(en->out->a, en->q.from_jid, en->q.to_number, line);
}

static void submit_put(struct entry *en);

static void on_put_again(struct loop_timer *t)
{
	submit_put(container_of(t, struct entry, timer));
}

/* The table has slots already, so adding to it cannot fail. */
static void new_id(struct entry *en)
{
	struct out *o = en->out;

	htable_del(&o->by_id, &en->by_id);
	en->q.id = ids_next(&o->a->ids);
	(void)htable_add(&o->by_id, &en->by_id, id_hash(en->q.id));
}

static void put_done(struct store_op *op)
{
	struct put *p = op->arg;
	struct entry *en = p->en;
	struct sms_app *a = en->out->a;
	int rc = op->rc;
	bool dup = p->op.duplicate_r, taken = rc == 0 && p->op.id_taken_r;

	store_op_fini(op);
	free(p);
	en->committing = false;
	if (taken) { /* the clock went back over a restart: nothing was kept */
		new_id(en);
		submit_put(en);
		return;
	}
	if (rc == E_CLOSED) {
		entry_free(en);
		return;
	}
	if (rc < 0) { /* not in custody: not acknowledged; the disk may come back */
		sms_commit_failed(a, "queue.put");
		en->committing = true;
		loop_timer_set(a->loop, &en->timer, 1000, on_put_again);
		return;
	}
	if (en->has_ticket)
		streams_done(a->core, en->ticket);
	entry_trace(en, dup ? "a copy of what is queued; dropped" : "queued");
	sms_count(a, dup ? SMS_CNT_OUT_DUPLICATE : SMS_CNT_OUT_QUEUED);
	/* A page read after the commit, or after a later entry's, has gone past it: it stays. */
	if (en->spilled && en->q.id <= en->out->cursor)
		en->spilled = false;
	if (dup || en->spilled) {
		if (en->spilled && !dup) {
			en->out->spilling = true;
			out_load_more(en->out);
		}
		entry_free(en);
	} else if (en->q.state == STORE_Q_SUBMITTED) {
		entry_submit_committed(en);
	} else {
		entry_wait(en);
	}
}

static void submit_put(struct entry *en)
{
	struct put *p = calloc(1, sizeof(*p));

	en->committing = true;
	if (!p) {
		loop_timer_set(en->out->a->loop, &en->timer, 1000, on_put_again);
		return;
	}
	p->en = en;
	p->op.entry = en->q;
	store_op_init(&p->op.op, STORE_QUEUE_PUT, put_done, p);
	store_submit(en->out->a->store, &p->op.op);
}

/* MSG-4's first step is saved where the bearer has room already: the entry is committed as
 * SUBMITTED. */
static void try_direct(struct entry *en)
{
	struct out *o = en->out;
	bool any;
	struct bearer *b = o->spilling || !entry_is_head(en)
				   ? NULL
				   : app_route(o->a, en->q.to_number, en->q.link, &any);

	if (!b)
		return;
	unsigned slot = app_bearer_slot(o->a, b);
	if (bearer_room(b) < o->reserved[slot] + en->text.n)
		return;
	o->reserved[slot] += en->text.n;
	en->reserved = en->text.n;
	en->bearer = b;
	en->q.state = STORE_Q_SUBMITTED;
	en->q.link = sl_cstr(bearer_name(b));
	en->q.ref = o->ref++;
	for (unsigned i = 0; i < en->text.n; i++)
		en->part[i].state = STORE_Q_SUBMITTED;
}

static bool wants_receipt(const struct stanza *st)
{
	return xml_child(st->root, NS_RECEIPTS, SL("request")) != NULL;
}

/* The queue's unique key for a stanza: the core's custody id; else (from, origin-id); else none. */
static struct sl custody_key(struct sms_app *a, struct arena *ar, const struct stanza *st)
{
	struct xml_node *c = a->core_custody ? xml_child(st->root, NS_CUSTODY, SL("custody"))
					     : NULL;
	struct sl id = c ? xml_attr(c, SL("id")) : SL_NULL, origin = stanza_origin_id(st);

	if (id.n)
		return arena_printf(ar, "c%.*s", SLARG(id));
	return origin.n ? arena_printf(ar, "o%.*s\n%.*s", SLARG(st->from.bare), SLARG(origin))
			: SL_NULL;
}

static void take(struct out *o, struct stanza *st, const struct store_queue_entry *q,
		 struct component_ticket t)
{
	struct sms_app *a = o->a;
	struct err e = { 0 };
	struct entry *en = entry_new(o, q, false, &e);

	if (!en && e.code == E_NOMEM) {
		outcome_refuse(a, st, q->custody_id, "resource-constraint", "wait",
			       "the gateway is out of memory; try again", t);
	} else if (!en) {
		char text[ERR_TEXT_MAX + 40];
		if (e.code == E_TOOBIG)
			snprintf(text, sizeof(text),
				 "This text needs more than %u short messages; shorten it.",
				 a->cfg->sms.max_parts);
		else
			snprintf(text, sizeof(text), "This text cannot be sent: %s.", e.text);
		sms_count(a, SMS_CNT_OUT_REFUSED);
		outcome_refuse(a, st, q->custody_id, "not-acceptable", "modify", text,
			       t); /* MSG-3 */
	} else if (en->text.n == 1 && en->text.part[0].n == 0) {
		entry_free(en);
		sms_count(a, SMS_CNT_OUT_REFUSED);
		outcome_refuse(a, st, q->custody_id, "bad-request", "modify",
			       "An SMS needs a text.", t); /* MSG-2 */
	} else {
		en->ticket = t;
		en->has_ticket = true;
		if (!o->spilling && o->n > OUT_MEMORY_MAX) {
			o->spilling = true;
			o->cursor = en->q.id - 1;
		}
		en->spilled = o->spilling;
		try_direct(en);
		submit_put(en);
	}
	stanza_unref(&st);
}

/* MSG-12: what the queue keeps beside the text. */
static bool names_too_long(const struct stanza *st, struct sl thread)
{
	return st->id.n > NAME_OCTETS_MAX || thread.n > NAME_OCTETS_MAX ||
	       stanza_origin_id(st).n > NAME_OCTETS_MAX;
}

void out_message(struct out *o, struct stanza *st, struct component_ticket t)
{
	struct sms_app *a = o->a;
	struct xml_node *body = xml_child(st->root, NS_STANZA, SL("body")),
			*thread_node = xml_child(st->root, NS_STANZA, SL("thread"));
	struct sl thread = thread_node ? xml_text(st->arena, thread_node) : SL_NULL;
	char to[NUMBER_MAX];
	struct err e = { 0 };
	struct sl link = SL_NULL;
	uint64_t now = clock_wall_ms();
	const char *why = NULL, *cond = NULL, *type = "cancel";
	struct sl key = custody_key(a, st->arena, st),
		  from = numbers_of(a->numbers, st->from.bare, &link);
	char text[ERR_TEXT_MAX + 40];

	if (st->type == ST_GROUPCHAT || st->type == ST_HEADLINE) {
		cond = "feature-not-implemented";
		why = "Only chat messages can be sent to a telephone.";
	} else if (st->to.local.n == 0) {
		cond = "item-not-found";
		why = "Write to a telephone number, for example +15551234567@ and this domain.";
	} else if (names_too_long(st, thread)) {
		cond = "policy-violation"; /* MSG-12 */
		type = "modify";
		why = "The id or the thread of this message is too long.";
	} else if (number_normalise(&a->np, st->to.local, to, &e) < 0) {
		cond = "item-not-found";
		snprintf(text, sizeof(text), "This is no telephone number: %s.", e.text);
		why = text;
	} else if (!app_serves(a, sl_cstr(to))) {
		cond = "item-not-found"; /* MSG-9 */
		why = "No link of this gateway reaches that number.";
	} else if (from.n == 0) {
		cond = "not-allowed";
		why = "Your account has no telephone number. Ask your administrator for one.";
	} else if (!quota_take(a->quota, st->from.bare, a->cfg->sms.messages_per_minute,
			       clock_mono_ms())) {
		cond = "policy-violation"; /* MSG-10 */
		type = "wait";
		why = "Too many messages in a minute; wait a little.";
	}
	if (cond) {
		sms_count(a, SMS_CNT_OUT_REFUSED);
		outcome_refuse(a, st, key, cond, type, why, t);
		stanza_unref(&st);
		return;
	}
	struct store_queue_entry q = {
		.id = ids_next(&a->ids),
		.custody_id = key,
		.from_jid = st->from.full,
		.to_jid = st->to.full,
		.from_number = from,
		.to_number = sl_cstr(to),
		.stanza_id = st->id,
		.origin_id = stanza_origin_id(st),
		.thread = thread,
		.body = xml_text(st->arena, body),
		.link = link,
		.stamp_ms = now,
		.changed_ms = now,
		.expires_ms = now + (uint64_t)a->cfg->sms.expiry_hours * 3600000u,
		.state = STORE_Q_QUEUED,
		.wants_receipt = wants_receipt(st),
	};
	take(o, st, &q, t);
}

/* ---- reading back
 * ---------------------------------------------------------------------------------- */

/* What is stored of the parts. */
static void take_parts(struct entry *en, const struct store_queue_part *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct out_part *part = p[i].number >= 1 && p[i].number <= en->text.n
						? &en->part[p[i].number - 1]
						: NULL;
		if (!part)
			continue;
		part->state = p[i].state;
		part->ambiguous = p[i].ambiguous;
		part->message_id = arena_dup(en->arena, p[i].message_id);
	}
}

/* MSG-13: links take other codings than before. What was sent of the old cut fits no part of the
 * new one, so all of it goes, under a reference of its own. */
static void recut(struct entry *en, const struct store_queue_part *p, unsigned n)
{
	en->recut = true;
	en->q.ref = en->out->ref++;
	for (unsigned i = 0; i < n; i++)
		en->q.ambiguous |= p[i].state != STORE_Q_QUEUED;
	for (unsigned i = 0; i < en->text.n; i++)
		en->part[i].changed = true;
}

/* Returns 0, E_NOMEM: it has to be read again. */
static int adopt(struct out *o, const struct store_queue_entry *q, const struct store_queue_part *p,
		 unsigned n)
{
	struct err e = { 0 };

	if (find_id(o, q->id))
		return 0;
	struct entry *en = entry_new(o, q, true, &e);
	if (!en)
		return E_NOMEM;
	if (!en->misfit && en->text.n != q->parts)
		recut(en, p, n);
	else
		take_parts(en, p, n);
	if (en->misfit) {
		en->q.ambiguous |= q->state == STORE_Q_SUBMITTED;
		entry_evaluate(en);
	} else if (q->state == STORE_Q_SUBMITTED) {
		/* MSG-7: the process ended between handing over and the answer. */
		for (unsigned i = 0; i < en->text.n; i++)
			if (en->part[i].state == STORE_Q_SUBMITTED)
				en->part[i].ambiguous = en->part[i].changed = en->unanswered = true;
		en->next_part = en->text.n;
		entry_evaluate(en);
	} else {
		entry_wait(en);
	}
	return 0;
}

static void on_load_timer(struct loop_timer *t)
{
	out_load_more(container_of(t, struct out, load_timer));
}

static void load_done(struct store_op *op)
{
	struct out *o = op->arg;
	struct store_queue_load *l = &o->load;
	const struct store_queue_part *p = l->part_r;
	unsigned left = l->nparts_r;
	int rc = op->rc;

	for (unsigned i = 0; rc == 0 && i < l->n_r; i++) {
		unsigned n = 0;
		while (n < left && p[n].entry == l->entry_r[i].id)
			n++;
		ids_floor(&o->a->ids, l->entry_r[i].id);
		rc = adopt(o, &l->entry_r[i], p, n);
		if (rc == 0)
			o->cursor = l->entry_r[i].id;
		p += n;
		left -= n;
	}
	if (rc < 0) {
		o->loading = false;
		store_op_fini(op);
		if (rc != E_CLOSED)
			loop_timer_set(o->a->loop, &o->load_timer, 1000, on_load_timer);
		return;
	}
	bool more = l->n_r == OUT_PAGE || o->behind;
	store_op_fini(op);
	o->loading = false;
	if (!more)
		o->spilling = false; /* everything is in memory: new entries need not wait for their
					turn in the store */
	else if (o->n < OUT_MEMORY_MAX)
		out_load_more(o);
}

void out_load_more(struct out *o)
{
	o->behind = true;
	if (o->loading || o->n >= OUT_MEMORY_MAX)
		return;
	o->loading = true;
	o->behind = false;
	store_op_init(&o->load.op, STORE_QUEUE_LOAD, load_done, o);
	o->load.states = 1u << STORE_Q_QUEUED | 1u << STORE_Q_SUBMITTED;
	o->load.after = o->cursor;
	o->load.limit = OUT_PAGE;
	store_submit(o->a->store, &o->load.op);
}

void out_recover(struct out *o)
{
	o->spilling = true;
	o->cursor = 0;
	out_load_more(o);
}

/* ---- life, commands
 * -------------------------------------------------------------------------------- */

int out_new(struct sms_app *a, struct out **o_r)
{
	struct out *o = calloc(1, sizeof(*o));

	if (!o)
		return E_NOMEM;
	o->a = a;
	o->ref = (uint16_t)ids_next(&a->ids);
	list_init(&o->ready);
	list_init(&o->sending);
	list_init(&o->stalled);
	*o_r = o;
	return 0;
}

void out_free(struct out **op)
{
	struct out *o = *op;
	struct hnode *h;

	*op = NULL;
	if (!o)
		return;
	o->closing = true;
	while ((h = htable_next(&o->by_id, NULL)))
		entry_free(container_of(h, struct entry, by_id));
	loop_task_clear(&o->pump);
	loop_timer_clear(&o->load_timer);
	htable_free(&o->by_id);
	htable_free(&o->convs);
	htable_free(&o->keys);
	free(o);
}

int out_retry(struct out *o, uint64_t id)
{
	struct entry *en = find_id(o, id);

	if (!en)
		return E_NOTFOUND;
	if (en->q.state != STORE_Q_QUEUED || en->committing)
		return E_STATE;
	en->q.not_before_ms = 0;
	entry_wait(en);
	return 0;
}

int out_drop(struct out *o, uint64_t id)
{
	struct entry *en = find_id(o, id);

	if (!en)
		return E_NOTFOUND;
	if (en->q.state != STORE_Q_QUEUED || en->committing)
		return E_STATE;
	en->drop = true;
	entry_evaluate(en);
	return 0;
}

void out_each_queued(struct out *o, void (*fn)(void *arg, uint64_t id), void *arg)
{
	for (struct hnode *h = htable_next(&o->by_id, NULL); h; h = htable_next(&o->by_id, h)) {
		struct entry *en = container_of(h, struct entry, by_id);
		if (en->q.state == STORE_Q_QUEUED)
			fn(arg, en->q.id);
	}
}
