/* owner.c - short numbers for bare JIDs. The writer keeps those it has met lately in a
 * direct-mapped cache: an entry is replaced by the next JID of its slot, and compared in full
 * before use. */
#include "appliance/base/hash.h"
#include "appliance/store/sqlite/sqlite.h"

#define CACHE_SLOTS 16384u /* a power of two */

struct entry {
	char *bare;
	uint32_t n;
	uint64_t oid;
};

struct owners {
	bool added; /* in this transaction */
	struct entry slot[CACHE_SLOTS];
};

int sq_owners_new(struct owners **o_r)
{
	struct owners *o = base_calloc(1, sizeof(*o));

	if (!o)
		return E_NOMEM;
	*o_r = o;
	return 0;
}

static void forget_all(struct owners *o)
{
	for (unsigned i = 0; i < CACHE_SLOTS; i++) {
		free(o->slot[i].bare);
		o->slot[i] = (struct entry){ 0 };
	}
	o->added = false;
}

void sq_owners_free(struct owners **op)
{
	if (*op)
		forget_all(*op);
	free(*op);
	*op = NULL;
}

void sq_owners_rollback(struct owners *o)
{
	if (o->added)
		forget_all(o);
}

static struct entry *slot_of(struct owners *o, struct sl bare)
{
	return &o->slot[hash_bytes(bare) & (CACHE_SLOTS - 1)];
}

/* Without memory there is just no entry. */
static void remember(struct owners *o, struct sl bare, uint64_t oid)
{
	struct entry *en = slot_of(o, bare);

	free(en->bare);
	*en = (struct entry){ .bare = sl_dup(bare), .n = (uint32_t)bare.n, .oid = oid };
}

static void split(struct sl bare, struct sl *node_r, struct sl *host_r)
{
	size_t at = sl_find(bare, '@', 0);

	*node_r = at < bare.n ? sl_sub(bare, 0, at) : SL_NULL;
	*host_r = at < bare.n ? sl_sub(bare, at + 1, bare.n) : bare;
}

static int bind_jid(struct store_conn *c, enum sql_id id, struct sl bare, sqlite3_stmt **st_r,
		    struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, id, e);
	struct sl node, host;

	if (!st)
		return E_IO;
	split(bare, &node, &host);
	sq_st_sl(c, st, 1, host);
	sq_st_sl(c, st, 2, node);
	*st_r = st;
	return 0;
}

int sq_owner_find(struct store_conn *c, struct sl bare, uint64_t *oid_r, struct err *e)
{
	sqlite3_stmt *st;
	int rc;

	if (c->owners) {
		struct entry *en = slot_of(c->owners, bare);
		if (en->bare && sl_eq(sl_mk(en->bare, en->n), bare)) {
			*oid_r = en->oid;
			return 0;
		}
	}
	rc = bind_jid(c, SQL_OWNER_FIND, bare, &st, e);
	if (rc == 0)
		rc = sq_st_step(c, st, e);
	if (rc < 0)
		return rc;
	*oid_r = rc ? sq_col_u64(st, 0) : 0;
	sq_st_reset(st);
	if (rc && c->owners)
		remember(c->owners, bare, *oid_r);
	return 0;
}

int sq_owner_make(struct store_conn *c, struct sl bare, uint64_t *oid_r, struct err *e)
{
	sqlite3_stmt *st;
	int rc = sq_owner_find(c, bare, oid_r, e);

	if (rc < 0 || *oid_r)
		return rc;
	rc = bind_jid(c, SQL_OWNER_ADD, bare, &st, e);
	if (rc == 0)
		rc = sq_st_run(c, st, e);
	if (rc < 0)
		return rc;
	*oid_r = (uint64_t)sqlite3_last_insert_rowid(c->db);
	if (c->owners) {
		remember(c->owners, bare, *oid_r);
		c->owners->added = true;
	}
	return 0;
}

int sq_owner_del(struct store_conn *c, uint64_t oid, struct err *e)
{
	sqlite3_stmt *st = sq_st_get(c, SQL_OWNER_DEL, e);

	if (!st)
		return E_IO;
	if (c->owners)
		forget_all(c->owners);
	sq_st_u64(c, st, 1, oid);
	return sq_st_run(c, st, e);
}

int sq_owner_jid(struct arena *a, struct sl host, struct sl node, struct sl *bare_r, struct err *e)
{
	*bare_r = node.n ? arena_printf(a, SLFMT "@" SLFMT, SLARG(node), SLARG(host))
			 : arena_dup(a, host);
	return bare_r->p ? 0 : err_set(e, E_NOMEM, NULL, "the result is too big");
}
