/* in.c - short messages become stanzas (MO-n). Nothing is answered to the network before it is
 * committed.
 *
 * Fragments of long messages are in the store alone: whoever sends many of them costs disk, for the
 * ten minutes that they are waited for and ten more in which copies of them are known as such, and
 * no memory. */
#include "appliance/base/clock.h"
#include "appliance/base/enc.h"
#include "appliance/base/log.h"
#include "translators/sms/sms.h"

#define GROUP_WAIT_MS 600000u /* MO-3 */
#define SWEEP_MS      15000u
#define SWEEP_ROWS    5000u /* read at once; the rest at the next sweep */
#define PURGE_ROWS    5000u
#define OLD_ENOUGH_MS 60000u /* MO-5 */
#define BINARY_TEXT   "[binary message]"

struct in {
	struct sms_app *a;
	struct htable joining;
	struct store_frag_load sweep;
	struct store_frag_purge purge;
	struct loop_timer timer;
	bool sweeping, purging;
};

struct answer { /* who waits for a commit */
	struct sms_app *a;
	struct bearer *bearer;
	char name[65];
	uint64_t token;
};

/* The bearer may have gone meanwhile. */
static void answer_bearer(struct sms_app *a, const char *name, struct bearer *b, uint64_t token,
			  int rc)
{
	if (b && app_bearer(a, sl_cstr(name)) == b)
		bearer_answer(b, token, rc);
}

static void put_committed(void *arg, int rc)
{
	struct answer *w = arg;

	if (rc == 0)
		sms_count(w->a, SMS_CNT_IN_MESSAGES);
	else if (rc != E_CLOSED)
		sms_commit_failed(w->a, "in");
	answer_bearer(w->a, w->name, w->bearer, w->token, rc == 0 ? 0 : E_AGAIN);
	free(w);
}

static int add_from(struct buf *b, struct sms_app *a, struct sl from, bool alphanumeric)
{
	struct arena *ar = arena_new(512, 8192);
	struct sl local = from;
	struct sl prepared = SL_NULL;
	int rc = ar ? 0 : E_NOMEM;

	/* What no address can hold must not reach the core, which would end the stream for it. */
	if (rc == 0 && alphanumeric && jid_escape_local(ar, from, &local) < 0)
		local = SL_NULL;
	if (rc == 0 && (local.n == 0 || jid_prep_local(ar, local, &prepared, NULL) < 0))
		prepared = SL("unknown");
	if (rc == 0)
		rc = xml_write_escaped(b, prepared);
	rc |= buf_addc(b, '@');
	rc |= xml_write_escaped(b, a->cfg->sms.domain);
	arena_free(&ar);
	return rc;
}

static int build(struct buf *b, struct sms_app *a, const struct sms_in *m, struct sl owner,
		 struct sl text, uint64_t id)
{
	uint64_t now = clock_wall_ms();
	int rc = buf_add(b, SL("<message type='chat' from='"));

	rc |= add_from(b, a, m->from, m->from_alphanumeric);
	rc |= buf_add(b, SL("' to='"));
	rc |= xml_write_escaped(b, owner);
	rc |= buf_addf(b, "' id='m%llx'><body>", (unsigned long long)id);
	rc |= xml_write_escaped(b, text);
	rc |= buf_add(b, SL("</body>"));
	if (m->sent_ms && m->sent_ms + OLD_ENOUGH_MS < now) {
		char stamp[CLOCK_STAMP_MAX];
		clock_stamp(m->sent_ms, stamp);
		rc |= buf_add(b, SL("<delay xmlns='urn:xmpp:delay' from='"));
		rc |= xml_write_escaped(b, a->cfg->sms.domain);
		rc |= buf_addf(b, "' stamp='%s'/>", stamp);
	}
	rc |= buf_addf(b, "<origin-id xmlns='urn:xmpp:sid:0' id='m%llx'/></message>",
		       (unsigned long long)id);
	return rc;
}

/* One whole message to its owner. NULL: out of memory, committed is not called. */
static struct store_op *message_op(struct in *in, const struct sms_in *m, struct sl owner,
				   struct sl text, void (*committed)(void *arg, int rc), void *arg)
{
	struct sms_app *a = in->a;
	uint64_t id = outbox_id(a->outbox);
	struct store_op *op = NULL;
	struct buf xml;

	buf_init(&xml, 1u << 20);
	if (build(&xml, a, m, owner, text, id) == 0)
		op = outbox_op(a->outbox, id, SL_NULL, buf_sl(&xml), committed, arg);
	buf_free(&xml);
	return op;
}

static int post(struct in *in, struct bearer *b, uint64_t token, const struct sms_in *m,
		struct sl owner, struct sl text)
{
	struct answer *w = calloc(1, sizeof(*w));
	struct store_op *op = w ? message_op(in, m, owner, text, put_committed, w) : NULL;

	if (!op) {
		free(w);
		return E_NOMEM;
	}
	w->a = in->a;
	w->bearer = b;
	w->token = token;
	snprintf(w->name, sizeof(w->name), "%s", bearer_name(b));
	store_submit(in->a->store, op);
	return 0;
}

/* ---- fragments ---- */

/* One group of fragments being put together: read from the store, joined, posted; what was read,
 * and nothing else, is marked as joined in the transaction of the message. */
struct joining {
	struct hnode hn; /* in in->joining until that is committed: one at a time for a group */
	struct in *in;
	struct store_frag_load load;
	struct store_frag_join join;
	char *key;
	bool partial; /* deliver what is there (MO-3) */
	unsigned total, have, open;
	uint8_t number[GSM_PARTS_MAX]; /* of what is there */
	int rc;
};

static bool joining_match(const struct hnode *h, const void *key)
{
	return sl_eq(sl_cstr(container_of(h, struct joining, hn)->key), *(const struct sl *)key);
}

static void joining_free(struct joining *j)
{
	htable_del(&j->in->joining, &j->hn);
	store_op_fini(&j->load.op);
	free(j->key);
	free(j);
}

/* "ENC ALPHA SENT TO FROM" of a stored fragment; FROM may have spaces. */
static bool parse_meta(struct sl meta, enum gsm_enc *enc_r, struct sms_in *m)
{
	struct sl field[4];
	uint64_t v[3];
	size_t at = 0;

	for (unsigned i = 0; i < 4; i++) {
		size_t end = sl_find(meta, ' ', at);
		if (end >= meta.n)
			return false;
		field[i] = sl_sub(meta, at, end);
		at = end + 1;
	}
	if (sl_to_u64(field[0], GSM_ENC_OCTETS, &v[0]) < 0 || sl_to_u64(field[1], 1, &v[1]) < 0 ||
	    sl_to_u64(field[2], UINT64_MAX, &v[2]) < 0)
		return false;
	*enc_r = (enum gsm_enc)v[0];
	m->from_alphanumeric = v[1] != 0;
	m->sent_ms = v[2];
	m->to = field[3];
	m->from = sl_sub(meta, at, meta.n);
	return true;
}

/* The text of a group, with a note in each gap; have_r: pieces that were there. */
static int join(struct arena *ar, const struct gsm_body *part, unsigned total, unsigned have,
		struct sl *text_r)
{
	struct buf b;
	int rc = 0;

	if (have == total) {
		rc = gsm_join(ar, part, total, text_r);
		if (rc == E_UNSUPPORTED)
			*text_r = SL(BINARY_TEXT);
		return rc == E_UNSUPPORTED ? 0 : rc;
	}
	buf_init(&b, 1u << 20);
	for (unsigned i = 0; i < total && rc == 0; i++) {
		struct sl t = SL_NULL;
		if (part[i].data.p)
			rc = gsm_join(ar, &part[i], 1, &t);
		if (rc == E_UNSUPPORTED) {
			rc = 0;
			t = SL(BINARY_TEXT);
		}
		if (rc == 0)
			rc = part[i].data.p ? buf_add(&b, t)
					    : buf_addf(&b, "[part %u of %u missing]", i + 1, total);
	}
	if (rc == 0)
		*text_r = arena_dup(ar, buf_sl(&b));
	buf_free(&b);
	return rc;
}

static void place_parts(struct joining *j, struct gsm_body *part, struct sms_in *m)
{
	const struct store_frag_load *l = &j->load;

	for (unsigned i = 0; i < l->n_r && j->have < ARRAY_LEN(j->number); i++) {
		const struct store_frag_row *r = &l->row_r[i];
		enum gsm_enc enc;
		if (r->number < 1 || r->number > r->total || !parse_meta(r->meta, &enc, m))
			continue;
		j->total = r->total;
		j->number[j->have++] = r->number;
		part[r->number - 1].enc = enc;
		part[r->number - 1].data = r->payload.p ? r->payload : SL("");
	}
}

struct discard {
	struct store_frag_del op;
	char group[];
};

static void discarded(struct store_op *op)
{
	struct discard *d = op->arg;

	store_op_fini(op);
	free(d);
}

/* Fragments that nobody is to have; without memory the next sweep comes here again. */
static void discard_group(struct in *in, struct sl group)
{
	struct discard *d = calloc(1, sizeof(*d) + group.n + 1);

	if (!d)
		return;
	memcpy(d->group, group.p, group.n);
	store_op_init(&d->op.op, STORE_FRAG_DEL, discarded, d);
	d->op.group = sl_mk(d->group, group.n);
	store_submit(in->a->store, &d->op.op);
}

static void joined(struct joining *j, int rc)
{
	struct sms_app *a = j->in->a;

	if (rc < 0)
		j->rc = rc;
	if (--j->open)
		return;
	if (j->rc == 0) {
		sms_count(a, SMS_CNT_IN_MESSAGES);
		if (j->have < j->total)
			sms_count(a, SMS_CNT_IN_PARTIAL);
	} else if (j->rc != E_CLOSED) {
		sms_commit_failed(a, "in"); /* the sweep tries again */
	}
	joining_free(j);
}

static void joined_put(void *arg, int rc)
{
	joined(arg, rc);
}

static void joined_marked(struct store_op *op)
{
	joined(op->arg, op->rc);
}

/* false: out of memory, the sweep tries again. */
static bool post_joined(struct joining *j, const struct sms_in *m, struct sl owner, struct sl text)
{
	struct store_op *op = message_op(j->in, m, owner, text, joined_put, j);

	if (!op)
		return false;
	j->open = 2;
	store_op_init(&j->join.op, STORE_FRAG_JOIN, joined_marked, j);
	j->join.group = sl_cstr(j->key);
	j->join.number = j->number;
	j->join.n = j->have;
	j->join.now_ms = clock_wall_ms();
	op->group_next = &j->join.op;
	store_submit(j->in->a->store, op);
	return true;
}

static void joining_loaded(struct store_op *op)
{
	struct joining *j = op->arg;
	struct in *in = j->in;
	struct sms_app *a = in->a;
	struct gsm_body part[GSM_PARTS_MAX] = { { 0 } };
	struct sms_in m = { 0 };
	struct arena *ar = arena_new(1024, 1u << 20);
	struct sl owner = SL_NULL, text = SL_NULL;
	bool posted = false;

	if (op->rc == 0)
		place_parts(j, part, &m);
	if (j->have)
		owner = numbers_owner(a->numbers, m.to);
	if (ar && owner.n && (j->have == j->total || j->partial) &&
	    join(ar, part, j->total, j->have, &text) == 0) {
		posted = post_joined(j, &m, owner, text);
	} else if (j->have && owner.n == 0) { /* the number was taken away meanwhile */
		sms_count(a, SMS_CNT_IN_NOBODY);
		log_ev(LOG_L_WARN, "sms.in.nobody", KS("to", m.to));
		discard_group(in, sl_cstr(j->key));
	}
	arena_free(&ar);
	store_op_fini(op);
	if (!posted)
		joining_free(j);
}

static void join_group(struct in *in, struct sl key, bool partial)
{
	struct joining *j;

	if (htable_find(&in->joining, hash_bytes(key), joining_match, &key))
		return;
	j = calloc(1, sizeof(*j));
	if (!j || !(j->key = sl_dup(key)) ||
	    htable_add(&in->joining, &j->hn, hash_bytes(key)) < 0) {
		if (j)
			free(j->key);
		free(j);
		return; /* the sweep tries again */
	}
	j->in = in;
	j->partial = partial;
	store_op_init(&j->load.op, STORE_FRAG_LOAD, joining_loaded, j);
	j->load.group = sl_cstr(j->key);
	store_submit(in->a->store, &j->load.op);
}

struct frag {
	struct store_frag_put op;
	struct in *in;
	struct bearer *bearer;
	uint64_t token;
	char name[65], meta[256];
	char *payload, *key;
};

static void frag_free(struct frag *f)
{
	free(f->payload);
	free(f->key);
	free(f);
}

static void frag_committed(struct store_op *op)
{
	struct frag *f = op->arg;
	struct sms_app *a = f->in->a;
	int rc = op->rc;

	answer_bearer(a, f->name, f->bearer, f->token, rc == 0 ? 0 : E_AGAIN);
	if (rc == 0 && f->op.joined_r) /* MO-4 */
		sms_count(a, SMS_CNT_IN_COPIES);
	else if (rc == 0 && f->op.have_r >= f->op.total)
		join_group(f->in, sl_cstr(f->key), false);
	else if (rc < 0 && rc != E_CLOSED)
		sms_commit_failed(a, "in.fragment");
	store_op_fini(op);
	frag_free(f);
}

static void fragment(struct in *in, struct bearer *b, const struct sms_in *m, uint64_t token)
{
	const struct gsm_concat *c = &m->body.concat;
	struct frag *f = calloc(1, sizeof(*f));
	uint64_t now = clock_wall_ms();
	char key[256];
	int n = snprintf(key, sizeof(key), "%s\n%.*s\n%.*s\n%u/%u%s", bearer_name(b),
			 SLARG(m->from), SLARG(m->to), c->ref, c->total, c->ref16 ? "w" : "");

	sms_count(in->a, SMS_CNT_IN_FRAGMENTS);
	if (!f || n < 0 || (size_t)n >= sizeof(key) || !(f->payload = sl_dup(m->body.data)) ||
	    !(f->key = sl_dup(sl_cstr(key)))) {
		if (f)
			frag_free(f);
		bearer_answer(b, token, E_AGAIN);
		return;
	}
	snprintf(f->name, sizeof(f->name), "%s", bearer_name(b));
	snprintf(f->meta, sizeof(f->meta), "%d %d %llu %.*s %.*s", (int)m->body.enc,
		 m->from_alphanumeric, (unsigned long long)m->sent_ms, SLARG(m->to),
		 SLARG(m->from));
	f->in = in;
	f->bearer = b;
	f->token = token;
	store_op_init(&f->op.op, STORE_FRAG_PUT, frag_committed, f);
	f->op.group = sl_cstr(f->key);
	f->op.number = c->seq;
	f->op.total = c->total;
	f->op.stamp_ms = now;
	f->op.joined_since_ms = now > GROUP_WAIT_MS ? now - GROUP_WAIT_MS : 0;
	f->op.meta = sl_cstr(f->meta);
	f->op.payload = sl_mk(f->payload, m->body.data.n);
	store_submit(in->a->store, &f->op.op);
}

/* MO-3: groups that got nothing for the waiting time; and at the start, those that are complete. */
static void swept(struct store_op *op)
{
	struct in *in = op->arg;
	const struct store_frag_load *l = &in->sweep;
	bool partial = l->before_ms != 0;

	in->sweeping = false;
	for (unsigned i = 0; op->rc == 0 && i < l->n_r; i++) {
		unsigned have = 1;
		while (i + 1 < l->n_r && sl_eq(l->row_r[i + 1].group, l->row_r[i].group)) {
			have++;
			i++;
		}
		if (partial || have == l->row_r[i].total)
			join_group(in, l->row_r[i].group, partial);
	}
	store_op_fini(op);
}

static void sweep(struct in *in, uint64_t before_ms)
{
	if (in->sweeping)
		return;
	in->sweeping = true;
	store_op_init(&in->sweep.op, STORE_FRAG_LOAD, swept, in);
	in->sweep.group = SL_NULL;
	in->sweep.before_ms = before_ms;
	in->sweep.limit = SWEEP_ROWS;
	store_submit(in->a->store, &in->sweep.op);
}

void in_recover(struct in *in)
{
	sweep(in, 0);
}

static void purge(struct in *in, uint64_t before_ms);

static void purged(struct store_op *op)
{
	struct in *in = op->arg;
	bool more = op->rc == 0 && in->purge.n_r == PURGE_ROWS;

	in->purging = false;
	store_op_fini(op);
	if (more)
		purge(in, in->purge.before_ms);
}

static void purge(struct in *in, uint64_t before_ms)
{
	if (in->purging)
		return;
	in->purging = true;
	store_op_init(&in->purge.op, STORE_FRAG_PURGE, purged, in);
	in->purge.before_ms = before_ms;
	in->purge.limit = PURGE_ROWS;
	store_submit(in->a->store, &in->purge.op);
}

void in_sweep(struct in *in, uint64_t now_ms)
{
	uint64_t before = now_ms > GROUP_WAIT_MS ? now_ms - GROUP_WAIT_MS : 1;

	sweep(in, before);
	purge(in, before);
}

static void on_sweep(struct loop_timer *t)
{
	struct in *in = container_of(t, struct in, timer);

	loop_timer_set(in->a->loop, t, SWEEP_MS, on_sweep);
	in_sweep(in, clock_wall_ms());
}

/* ---- whole messages
 * --------------------------------------------------------------------------------- */

void in_message(struct in *in, struct bearer *b, const struct sms_in *m, uint64_t token)
{
	struct sms_app *a = in->a;
	struct sl owner = numbers_owner(a->numbers, m->to), text = SL_NULL;
	const struct gsm_concat *c = &m->body.concat;

	if (sms_tracing(a)) {
		char line[160];
		snprintf(line, sizeof(line), "short message from %.*s to %.*s", SLARG(m->from),
			 SLARG(m->to));
		sms_trace_line(a, owner, m->from, line);
	}
	if (owner.n == 0) { /* MO-2 */
		sms_count(a, SMS_CNT_IN_NOBODY);
		log_ev(LOG_L_WARN, "sms.in.nobody", KC("link", bearer_name(b)), KS("to", m->to),
		       KS("from", m->from));
		bearer_answer(b, token, E_NOTFOUND);
		return;
	}
	if (c->total > 1 && c->seq >= 1 && c->seq <= c->total) {
		fragment(in, b, m, token);
		return;
	}
	struct arena *ar = arena_new(1024, 1u << 20);
	int rc = ar ? gsm_join(ar, &m->body, 1, &text) : E_NOMEM;
	if (rc == E_UNSUPPORTED) {
		rc = 0;
		text = SL(BINARY_TEXT);
	}
	if (rc == 0)
		rc = post(in, b, token, m, owner, text);
	arena_free(&ar);
	if (rc < 0)
		bearer_answer(b, token, E_AGAIN);
}

int in_new(struct sms_app *a, struct in **i_r)
{
	struct in *in = calloc(1, sizeof(*in));

	if (!in)
		return E_NOMEM;
	in->a = a;
	loop_timer_set(a->loop, &in->timer, SWEEP_MS, on_sweep);
	*i_r = in;
	return 0;
}

void in_free(struct in **ip)
{
	struct in *in = *ip;

	*ip = NULL;
	if (!in)
		return;
	loop_timer_clear(&in->timer);
	htable_free(&in->joining);
	free(in);
}
