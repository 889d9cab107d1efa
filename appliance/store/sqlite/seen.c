/* seen.c - duplicate marks: has this (sender, origin id) been committed before?
 *
 * A mark is a keyed 128-bit hash of the pair. Each transaction appends its marks as one row of
 * table seen (seq, stamp, blob of 16 octets a mark): nothing random is written, and forgetting by
 * age deletes the oldest rows. The index is in memory, in the writer alone: 8 octets a mark, {32
 * bits of the mark, low 32 bits of seq}, in 64 tables that grow one by one, so that no growth holds
 * up a commit. A hit is proved by looking the mark up in the row it names, so an entry may be stale
 * (its row purged, or its transaction undone): it is dropped when its table is next rebuilt.
 *
 * A random index on disk instead would write a page of 4,096 octets per message once it is large.
 */
#include "appliance/base/log.h"
#include "appliance/store/sqlite/sqlite.h"

#include <stdatomic.h>

#define MARK        16u
#define TABLES      64u
#define FIRST_SLOTS 64u /* a power of two */
#define PENDING_MIN 256u

struct mark {
	uint64_t a, b;
};

struct entry {
	uint32_t bits; /* 0: empty */
	uint32_t seq;
};

struct table {
	struct entry *slot;
	uint32_t slots, used;
};

struct seen {
	uint64_t key[2];
	struct table table[TABLES];
	uint64_t seq;       /* of the transaction that is open */
	uint64_t min_seq;   /* older rows are purged, in committed state */
	uint64_t purged_to; /* by this transaction: becomes min_seq */
	uint64_t stamp_ms;  /* the newest of this transaction */
	struct mark asked;  /* by sq_seen_find */
	struct mark *pending;
	uint32_t n, cap;
	uint32_t max;
	_Atomic uint32_t live; /* committed marks */
	uint32_t gone;         /* purged by this transaction */
	uint32_t forced;       /* of these: before their age */
	_Atomic uint64_t forgotten;
	bool warned;
};

/* ---- the hash: SipHash-1-3 with 128 bits of output ---- */

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = ROTL(v[1], 13) ^ v[0];
	v[0] = ROTL(v[0], 32);
	v[2] += v[3];
	v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTL(v[1], 17) ^ v[2];
	v[2] = ROTL(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
}

/* Each slice is followed by its length, so no two pairs give the same words. */
static void sip_slice(uint64_t v[4], struct sl s)
{
	uint64_t m;

	for (; s.n >= 8; s = sl_sub(s, 8, s.n)) {
		memcpy(&m, s.p, 8);
		sip_word(v, m);
	}
	m = 0;
	if (s.n)
		memcpy(&m, s.p, s.n);
	sip_word(v, m);
}

static struct mark mark_of(const struct seen *s, struct sl sender, struct sl origin)
{
	uint64_t v[4] = { s->key[0] ^ 0x736f6d6570736575ull, s->key[1] ^ 0x646f72616e646f83ull,
			  s->key[0] ^ 0x6c7967656e657261ull, s->key[1] ^ 0x7465646279746573ull };
	struct mark m;

	sip_word(v, sender.n);
	sip_slice(v, sender);
	sip_word(v, origin.n);
	sip_slice(v, origin);
	v[2] ^= 0xee;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	m.a = v[0] ^ v[1] ^ v[2] ^ v[3];
	v[1] ^= 0xdd;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	m.b = v[0] ^ v[1] ^ v[2] ^ v[3];
	return m;
}

static uint32_t bits_of(const struct mark *m)
{
	uint32_t bits = (uint32_t)(m->b >> 32);

	return bits ? bits : 1;
}

/* ---- the index ---- */

static struct table *table_of(struct seen *s, const struct mark *m)
{
	return &s->table[m->a & (TABLES - 1)];
}

/* Low words of live seqs: those within [min_seq, seq]. */
static bool maybe_live(const struct seen *s, uint32_t seq)
{
	return (uint32_t)s->seq - seq <= (uint32_t)(s->seq - s->min_seq);
}

static uint64_t whole_seq(const struct seen *s, uint32_t low)
{
	return s->seq - ((uint32_t)s->seq - low);
}

/* Where the entry's probing starts needs bits that the entry does not keep, so a table is addressed
 * by the kept bits alone: they are as random as any. */
static void table_put(struct table *t, struct entry en)
{
	uint32_t i = en.bits & (t->slots - 1);

	while (t->slot[i].bits)
		i = (i + 1) & (t->slots - 1);
	t->slot[i] = en;
	t->used++;
}

static int rebuild(const struct seen *s, struct table *t)
{
	struct table old = *t;
	uint32_t live = 0, slots = FIRST_SLOTS;

	for (uint32_t i = 0; i < old.slots; i++)
		live += old.slot[i].bits && maybe_live(s, old.slot[i].seq);
	while (slots < live * 2 + 2)
		slots *= 2;
	t->slot = base_calloc(slots, sizeof(*t->slot));
	if (!t->slot) {
		*t = old;
		return E_NOMEM;
	}
	t->slots = slots;
	t->used = 0;
	for (uint32_t i = 0; i < old.slots; i++)
		if (old.slot[i].bits && maybe_live(s, old.slot[i].seq))
			table_put(t, old.slot[i]);
	free(old.slot);
	return 0;
}

/* A table without room is full only when it cannot be rebuilt: then a few last slots may still be
 * taken. */
static int index_add(struct seen *s, const struct mark *m, uint64_t seq)
{
	struct table *t = table_of(s, m);

	if (t->used >= t->slots - t->slots / 4 && rebuild(s, t) < 0 && t->used + 8 >= t->slots)
		return E_NOMEM;
	table_put(t, (struct entry){ bits_of(m), (uint32_t)seq });
	return 0;
}

static bool blob_has(struct sl blob, const struct mark *m)
{
	for (size_t i = 0; i + MARK <= blob.n; i += MARK)
		if (memcmp(blob.p + i, m, MARK) == 0)
			return true;
	return false;
}

/* 1: the row has it; 0: not; < 0. */
static int row_has(struct store_conn *c, uint64_t seq, const struct mark *m, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_SEEN_GET, e);
	int rc;

	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, seq);
	rc = sq_st_step(c, st, e);
	if (rc <= 0)
		return rc;
	rc = blob_has(sq_col_peek(st, 0), m);
	sq_st_reset(st);
	return rc;
}

static bool pending_has(const struct seen *s, const struct mark *m)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (memcmp(&s->pending[i], m, MARK) == 0)
			return true;
	return false;
}

static int find(struct store_conn *c, const struct mark *m, bool *found_r, struct err *e)
{
	struct seen *s = c->seen;
	const struct table *t = table_of(s, m);
	uint32_t bits = bits_of(m);

	*found_r = false;
	if (t->slots == 0)
		return 0;
	for (uint32_t i = bits & (t->slots - 1); t->slot[i].bits; i = (i + 1) & (t->slots - 1)) {
		int rc = 0;
		if (t->slot[i].bits != bits || !maybe_live(s, t->slot[i].seq))
			continue;
		uint64_t seq = whole_seq(s, t->slot[i].seq);
		if (seq == s->seq)
			rc = pending_has(s, m);
		else
			rc = row_has(c, seq, m, e);
		if (rc < 0)
			return rc;
		if (rc > 0) {
			*found_r = true;
			return 0;
		}
	}
	return 0;
}

/* ---- transactions ---- */

static int pending_add(struct seen *s, const struct mark *m)
{
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : PENDING_MIN;
		struct mark *p = base_malloc(sizeof(*p) * cap);
		if (!p)
			return E_NOMEM;
		if (s->n)
			memcpy(p, s->pending, sizeof(*p) * s->n);
		free(s->pending);
		s->pending = p;
		s->cap = cap;
	}
	s->pending[s->n++] = *m;
	return 0;
}

int sq_seen_find(struct store_conn *c, struct sl sender, struct sl origin, bool *found_r,
		 struct err *e)
{
	c->seen->asked = mark_of(c->seen, sender, origin);
	return find(c, &c->seen->asked, found_r, e);
}

int sq_seen_add(struct store_conn *c, uint64_t stamp_ms, struct err *e)
{
	struct seen *s = c->seen;

	if (pending_add(s, &s->asked) < 0 || index_add(s, &s->asked, s->seq) < 0)
		return err_set(e, E_NOMEM, NULL, "out of memory for duplicate marks");
	if (stamp_ms > s->stamp_ms)
		s->stamp_ms = stamp_ms;
	return 0;
}

/* Delete the oldest rows that are older than before_ms, until want marks are gone. */
static int drop_oldest(struct store_conn *c, uint64_t before_ms, uint32_t want, uint32_t *n_r,
		       struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_SEEN_OLDEST, e);
	uint64_t last = 0;
	uint32_t n = 0;
	int rc;

	if (!st)
		return E_IO;
	while (n < want && (rc = sq_st_step(c, st, e)) > 0) {
		if (sq_col_u64(st, 1) >= before_ms)
			break;
		last = sq_col_u64(st, 0);
		n += (uint32_t)sq_col_u64(st, 2);
	}
	sq_st_reset(st);
	*n_r = n;
	if (n == 0)
		return 0;
	st = sq_st_get(c, SQL_SEEN_DEL, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, last);
	rc = sq_st_run(c, st, e);
	if (rc == 0) {
		c->seen->purged_to = last + 1;
		c->seen->gone += n;
	}
	return rc;
}

int sq_seen_purge(struct store_conn *c, uint64_t before_ms, unsigned limit, unsigned *n_r,
		  struct err *e)
{
	uint32_t n = 0;
	int rc = drop_oldest(c, before_ms, limit, &n, e);

	*n_r = n;
	return rc;
}

static int keep_max(struct store_conn *c, struct err *e)
{
	struct seen *s = c->seen;
	uint32_t total = s->live - s->gone + s->n, n = 0;
	int rc;

	if (total <= s->max)
		return 0;
	rc = drop_oldest(c, UINT64_MAX, total - s->max, &n, e);
	s->forced += n;
	return rc;
}

int sq_seen_flush(struct store_conn *c, struct err *e)
{
	struct seen *s = c->seen;
	sqlite3_stmt *st;
	int rc = keep_max(c, e);

	if (rc < 0 || s->n == 0)
		return rc;
	st = sq_st_get(c, SQL_SEEN_ADD, e);
	if (!st)
		return E_IO;
	sq_st_u64(c, st, 1, s->seq);
	sq_st_u64(c, st, 2, s->stamp_ms);
	sq_st_u64(c, st, 3, s->n);
	sq_st_blob(c, st, 4, sl_mk((const char *)s->pending, (size_t)s->n * MARK));
	return sq_st_run(c, st, e);
}

static void next_transaction(struct seen *s)
{
	if (s->n)
		s->seq++; /* entries of an undone transaction must not look like those of the next
			   */
	s->n = 0;
	s->stamp_ms = 0;
	s->purged_to = 0;
	s->gone = 0;
	s->forced = 0;
}

void sq_seen_committed(struct seen *s)
{
	atomic_store_explicit(&s->live, s->live - s->gone + s->n, memory_order_relaxed);
	if (s->purged_to)
		s->min_seq = s->purged_to;
	if (s->forced) {
		s->forgotten += s->forced;
		if (!s->warned)
			log_ev(LOG_L_WARN, "store.seen.full", KU("max", s->max));
		s->warned = true;
	}
	next_transaction(s);
}

void sq_seen_rollback(struct seen *s)
{
	next_transaction(s);
}

void sq_seen_stats(const struct seen *s, struct store_stats *st)
{
	st->seen_now = s->live;
	st->seen_forgotten = s->forgotten;
}

/* ---- life ---- */

static int load_key(struct store_conn *c, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_SEEN_KEY, e);
	struct sl k;
	int rc = st ? sq_st_step(c, st, e) : E_IO;

	if (rc < 0)
		return rc;
	k = rc > 0 ? sq_col_peek(st, 0) : SL_NULL;
	if (k.n == sizeof(c->seen->key))
		memcpy(c->seen->key, k.p, sizeof(c->seen->key));
	sq_st_reset(st);
	return k.n == sizeof(c->seen->key)
		       ? 0
		       : err_set(e, E_IO, NULL, "%s is damaged: no mark key", c->path);
}

static int load_row(struct seen *s, uint64_t seq, struct sl blob)
{
	struct mark m;
	int rc = 0;

	s->seq = seq;
	for (size_t i = 0; rc == 0 && i + MARK <= blob.n; i += MARK) {
		memcpy(&m, blob.p + i, MARK);
		rc = index_add(s, &m, seq);
		s->live++;
	}
	return rc;
}

static int load_marks(struct store_conn *c, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_SEEN_ALL, e);
	struct seen *s = c->seen;
	int rc = st ? 0 : E_IO;

	s->min_seq = 0;
	while (rc == 0 && (rc = sq_st_step(c, st, e)) > 0) {
		if (s->min_seq == 0)
			s->min_seq = sq_col_u64(st, 0);
		rc = load_row(s, sq_col_u64(st, 0), sq_col_peek(st, 1));
		if (rc < 0) {
			sq_st_reset(st);
			err_set(e, rc, NULL, "out of memory for duplicate marks");
		}
	}
	s->seq++;
	if (s->min_seq == 0)
		s->min_seq = s->seq;
	return rc;
}

int sq_seen_new(struct store_conn *c, uint32_t max, struct err *e)
{
	struct seen *s = base_calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, E_NOMEM, NULL, "out of memory for duplicate marks");
	c->seen = s;
	s->max = max;
	rc = load_key(c, e);
	return rc < 0 ? rc : load_marks(c, e);
}

void sq_seen_free(struct seen **sp)
{
	struct seen *s = *sp;

	*sp = NULL;
	if (!s)
		return;
	for (unsigned i = 0; i < TABLES; i++)
		free(s->table[i].slot);
	free(s->pending);
	free(s);
}

int sq_exec_seen_purge(struct store_conn *c, struct store_op *op, struct err *e)
{
	struct store_seen_purge *p = (struct store_seen_purge *)op;

	return sq_seen_purge(c, p->before_ms, p->limit, &p->n_r, e);
}
