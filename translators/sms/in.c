/* in.c - short messages become stanzas (MO-n). Nothing is answered to the network before it is
 * committed.
 *
 * Fragments of long messages are kept in memory as well as in the store; the store has them for the
 * next start. */
#include "appliance/base/clock.h"
#include "appliance/base/enc.h"
#include "appliance/base/log.h"
#include "translators/sms/sms.h"

#define GROUP_WAIT_MS 600000u /* MO-3 */
#define GROUP_TRY_MS  10000u
#define GROUPS_MAX    10000u
#define OLD_ENOUGH_MS 60000u /* MO-5 */

struct group { /* fragments of one long message */
	struct hnode hn;
	char *key;
	struct in *in;
	struct sl from, to; /* in arena */
	bool from_alphanumeric;
	uint64_t sent_ms, since_ms;
	uint8_t total, have, committing;
	bool finishing;
	struct gsm_body *part; /* total of them; data NULL: missing */
	struct arena *arena;
	struct loop_timer timer;
};

struct in {
	struct sms_app *a;
	struct htable groups;
	struct store_frag_load load;
};

struct answer { /* who waits for a commit */
	struct sms_app *a;
	struct bearer *bearer;
	char name[64];
	uint64_t token;
	struct group *group; /* goes when the commit is good */
	struct store_frag_del del;
	unsigned open;
	int rc;
};

static void group_free(struct group *g);

/* The bearer may have gone meanwhile. */
static void answer_bearer(struct sms_app *a, const char *name, struct bearer *b, uint64_t token,
			  int rc)
{
	if (b && app_bearer(a, sl_cstr(name)) == b)
		bearer_answer(b, token, rc);
}

static void answered(struct answer *w, int rc)
{
	if (rc < 0)
		w->rc = rc;
	if (--w->open)
		return;
	if (w->rc == 0)
		sms_count(w->a, SMS_CNT_IN_MESSAGES);
	else if (w->rc != E_CLOSED)
		sms_commit_failed(w->a, "in");
	answer_bearer(w->a, w->name, w->bearer, w->token, w->rc == 0 ? 0 : E_AGAIN);
	if (w->group) {
		w->group->finishing = false;
		if (w->rc == 0)
			group_free(w->group);
		else if (w->rc != E_CLOSED)
			loop_timer_set(w->a->loop, &w->group->timer, GROUP_TRY_MS,
				       w->group->timer.cb);
	}
	free(w);
}

static void put_committed(void *arg, int rc)
{
	answered(arg, rc);
}

static void del_committed(struct store_op *op)
{
	struct answer *w = op->arg;
	int rc = op->rc;

	store_op_fini(op);
	answered(w, rc);
}

static int add_from(struct buf *b, struct sms_app *a, struct sl from, bool alphanumeric)
{
	struct arena *ar = arena_new(512, 8192);
	struct sl local = from;
	int rc = ar ? 0 : E_NOMEM;

	if (rc == 0 && alphanumeric)
		rc = jid_escape_local(ar, from, &local);
	if (rc == 0)
		rc = xml_write_escaped(b, local.n ? local : SL("unknown"));
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

/* One whole message to its owner: the outbox row, and with a group the deletion of its fragments,
 * in one transaction. */
static int post(struct in *in, struct bearer *b, uint64_t token, const struct sms_in *m,
		struct sl owner, struct sl text, struct group *g)
{
	struct sms_app *a = in->a;
	struct answer *w = calloc(1, sizeof(*w));
	uint64_t id = outbox_id(a->outbox);
	struct store_op *op = NULL;
	struct buf xml;

	buf_init(&xml, 1u << 20);
	if (w && build(&xml, a, m, owner, text, id) == 0)
		op = outbox_op(a->outbox, id, SL_NULL, buf_sl(&xml), put_committed, w);
	buf_free(&xml);
	if (!op) {
		free(w);
		return E_NOMEM;
	}
	w->a = a;
	w->bearer = b;
	w->token = token;
	w->open = 1;
	snprintf(w->name, sizeof(w->name), "%s", b ? bearer_name(b) : "");
	if (g) {
		g->finishing = true;
		w->group = g;
		w->open = 2;
		store_op_init(&w->del.op, STORE_FRAG_DEL, del_committed, w);
		w->del.group = sl_cstr(g->key);
		op->group_next = &w->del.op;
	}
	store_submit(a->store, op);
	return 0;
}

/* ---- fragments
 * ------------------------------------------------------------------------------------ */

static bool group_match(const struct hnode *h, const void *key)
{
	return sl_eq(sl_cstr(container_of(h, struct group, hn)->key), *(const struct sl *)key);
}

static struct group *group_find(struct in *in, struct sl key)
{
	struct hnode *h = htable_find(&in->groups, hash_bytes(key), group_match, &key);

	return h ? container_of(h, struct group, hn) : NULL;
}

static void group_free(struct group *g)
{
	htable_del(&g->in->groups, &g->hn);
	loop_timer_clear(&g->timer);
	arena_free(&g->arena);
	free(g->key);
	free(g);
}

static int group_text(struct arena *ar, const struct group *g, struct sl *text_r)
{
	struct buf b;
	int rc = 0;

	if (g->have == g->total)
		return gsm_join(ar, g->part, g->total, text_r);
	buf_init(&b, 1u << 20);
	for (unsigned i = 0; i < g->total && rc == 0; i++) {
		struct sl t = SL_NULL;
		if (g->part[i].data.p)
			rc = gsm_join(ar, &g->part[i], 1, &t);
		if (rc == 0)
			rc = g->part[i].data.p
				     ? buf_add(&b, t)
				     : buf_addf(&b, "[part %u of %u missing]", i + 1, g->total);
	}
	if (rc == 0)
		*text_r = arena_dup(ar, buf_sl(&b));
	buf_free(&b);
	return rc;
}

static void group_deliver(struct group *g)
{
	struct in *in = g->in;
	struct arena *ar = arena_new(1024, 1u << 20);
	struct sl owner = numbers_owner(in->a->numbers, g->to), text = SL_NULL;
	struct sms_in m = { .from = g->from,
			    .to = g->to,
			    .from_alphanumeric = g->from_alphanumeric,
			    .sent_ms = g->sent_ms };
	int rc = ar ? group_text(ar, g, &text) : E_NOMEM;

	if (g->have < g->total)
		sms_count(in->a, SMS_CNT_IN_PARTIAL);
	if (owner.n == 0) { /* the number was taken away meanwhile */
		sms_count(in->a, SMS_CNT_IN_NOBODY);
		log_ev(LOG_L_WARN, "sms.in.nobody", KS("to", g->to));
	}
	if (rc == 0 && owner.n)
		rc = post(in, NULL, 0, &m, owner, text, g);
	arena_free(&ar);
	if (rc < 0 || owner.n == 0)
		loop_timer_set(in->a->loop, &g->timer, GROUP_WAIT_MS, g->timer.cb);
}

static void on_group_timer(struct loop_timer *t)
{
	struct group *g = container_of(t, struct group, timer);

	if (!g->finishing && !g->committing)
		group_deliver(g);
	else
		loop_timer_set(g->in->a->loop, t, GROUP_TRY_MS, on_group_timer);
}

static struct group *group_new(struct in *in, struct sl key, uint8_t total)
{
	struct group *g = in->groups.n < GROUPS_MAX ? calloc(1, sizeof(*g)) : NULL;

	if (!g)
		return NULL;
	g->in = in;
	g->key = sl_dup(key);
	g->total = total;
	g->arena = arena_new(512 + total * sizeof(struct gsm_body), 1u << 17);
	g->part = g->arena ? arena_zalloc(g->arena, total * sizeof(struct gsm_body)) : NULL;
	if (!g->key || !g->part || htable_add(&in->groups, &g->hn, hash_bytes(key)) < 0) {
		arena_free(&g->arena);
		free(g->key);
		free(g);
		return NULL;
	}
	g->timer.cb = on_group_timer;
	g->since_ms = clock_wall_ms();
	loop_timer_set(in->a->loop, &g->timer, GROUP_WAIT_MS, on_group_timer);
	return g;
}

static bool group_add(struct group *g, uint8_t number, enum gsm_enc enc, struct sl data)
{
	struct gsm_body *p = &g->part[number - 1];

	if (p->data.p)
		return true; /* MO-4 */
	struct sl copy = arena_dup(g->arena, data);
	if (!copy.p)
		return false;
	p->enc = enc;
	p->data = copy;
	g->have++;
	return true;
}

struct frag {
	struct store_frag_put op;
	struct sms_app *a;
	struct group *group;
	struct bearer *bearer;
	uint64_t token;
	char name[64], meta[256];
	char *payload, *key;
};

static void frag_committed(struct store_op *op)
{
	struct frag *f = op->arg;
	struct group *g = f->group;
	int rc = op->rc;

	store_op_fini(op);
	g->committing--;
	answer_bearer(f->a, f->name, f->bearer, f->token, rc == 0 ? 0 : E_AGAIN);
	if (rc == 0 && g->have == g->total && !g->committing && !g->finishing)
		group_deliver(g);
	else if (rc < 0 && rc != E_CLOSED)
		sms_commit_failed(f->a, "in.fragment");
	free(f->payload);
	free(f->key);
	free(f);
}

static void fragment(struct in *in, struct bearer *b, const struct sms_in *m, uint64_t token)
{
	const struct gsm_concat *c = &m->body.concat;
	struct frag *f = calloc(1, sizeof(*f));
	char key[256];
	int n = snprintf(key, sizeof(key), "%s\n%.*s\n%.*s\n%u/%u%s", bearer_name(b),
			 SLARG(m->from), SLARG(m->to), c->ref, c->total, c->ref16 ? "w" : "");
	struct sl k = sl_mk(key, (size_t)n < sizeof(key) ? (size_t)n : sizeof(key) - 1);
	struct group *g = group_find(in, k);

	sms_count(in->a, SMS_CNT_IN_FRAGMENTS);
	if (f && !g && (g = group_new(in, k, c->total))) {
		g->from = arena_dup(g->arena, m->from);
		g->to = arena_dup(g->arena, m->to);
		g->from_alphanumeric = m->from_alphanumeric;
		g->sent_ms = m->sent_ms;
	}
	if (!f || !g || g->finishing || !(f->payload = sl_dup(m->body.data)) ||
	    !(f->key = sl_dup(k)) || !group_add(g, c->seq, m->body.enc, m->body.data)) {
		if (f) {
			free(f->payload);
			free(f->key);
		}
		free(f);
		bearer_answer(b, token, E_AGAIN);
		return;
	}
	snprintf(f->name, sizeof(f->name), "%s", bearer_name(b));
	snprintf(f->meta, sizeof(f->meta), "%d %d %llu %.*s %.*s", (int)m->body.enc,
		 m->from_alphanumeric, (unsigned long long)m->sent_ms, SLARG(m->to),
		 SLARG(m->from));
	f->a = in->a;
	f->group = g;
	f->bearer = b;
	f->token = token;
	store_op_init(&f->op.op, STORE_FRAG_PUT, frag_committed, f);
	f->op.group = sl_mk(f->key, k.n);
	f->op.number = c->seq;
	f->op.total = c->total;
	f->op.stamp_ms = clock_wall_ms();
	f->op.meta = sl_cstr(f->meta);
	f->op.payload = sl_mk(f->payload, m->body.data.n);
	g->committing++;
	store_submit(in->a->store, &f->op.op);
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

static void recover_one(struct in *in, const struct store_frag_row *r)
{
	struct sms_in m = { 0 };
	enum gsm_enc enc;
	struct group *g = group_find(in, r->group);

	if (r->total < 2 || r->number < 1 || r->number > r->total || !parse_meta(r->meta, &enc, &m))
		return;
	if (!g && (g = group_new(in, r->group, r->total))) {
		g->from = arena_dup(g->arena, m.from);
		g->to = arena_dup(g->arena, m.to);
		g->from_alphanumeric = m.from_alphanumeric;
		g->sent_ms = m.sent_ms;
	}
	if (g && r->number <= g->total)
		group_add(g, r->number, enc, r->payload);
}

static void on_recovered(struct store_op *op)
{
	struct in *in = op->arg;

	for (unsigned i = 0; op->rc == 0 && i < in->load.n_r; i++)
		recover_one(in, &in->load.row_r[i]);
	store_op_fini(op);
	for (struct hnode *h = htable_next(&in->groups, NULL); h; h = htable_next(&in->groups, h)) {
		struct group *g = container_of(h, struct group, hn);
		if (g->have == g->total && !g->finishing)
			loop_timer_set(in->a->loop, &g->timer, 1, on_group_timer);
	}
}

void in_recover(struct in *in)
{
	store_op_init(&in->load.op, STORE_FRAG_LOAD, on_recovered, in);
	in->load.group = SL_NULL;
	in->load.before_ms = 0;
	store_submit(in->a->store, &in->load.op);
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
		text = SL("[binary message]");
	}
	if (rc == 0)
		rc = post(in, b, token, m, owner, text, NULL);
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
	*i_r = in;
	return 0;
}

void in_free(struct in **ip)
{
	struct in *in = *ip;
	struct hnode *h;

	*ip = NULL;
	if (!in)
		return;
	while ((h = htable_next(&in->groups, NULL)))
		group_free(container_of(h, struct group, hn));
	htable_free(&in->groups);
	free(in);
}
