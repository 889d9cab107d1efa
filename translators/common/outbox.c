/* outbox.c - see outbox.h.
 *
 * While `reading` pages are being read in id order; what is committed meanwhile is found by the
 * next page, because ids grow in the order of submission and the store commits in that order. When
 * a page comes back short and nothing was committed since it was asked for, the outbox is caught up
 * and committed stanzas are sent at once. */
#include "translators/common/outbox.h"

#include "appliance/base/enc.h"
#include "appliance/base/log.h"

#define PAGE          200u
#define IN_FLIGHT_MAX 2000u /* more is left in the store until acknowledgements come */
#define RETRY_MS      1000u
#define DEL_MAX       512u

struct outbox {
	struct loop *loop;
	struct store *store;
	struct ids *ids;
	struct component *to;
	uint64_t cursor; /* all up to here were sent on this stream */
	size_t in_flight;
	bool reading, behind, closing;
	struct store_outbox_load load;
	struct loop_task del_task;
	struct loop_timer retry;
	uint64_t *del;
	unsigned ndel, del_cap, dels_open;
};

struct put {
	struct store_outbox_put op;
	struct outbox *o;
	char *key, *xml;
	void (*committed)(void *arg, int rc);
	void *arg;
};

struct del {
	struct store_outbox_del op;
	struct outbox *o;
	uint64_t id[];
};

static void read_page(struct outbox *o);

static bool send_one(struct outbox *o, uint64_t id, struct sl xml)
{
	if (component_send(o->to, xml, id) < 0)
		return false;
	o->in_flight++;
	if (id > o->cursor)
		o->cursor = id;
	return true;
}

static void page_done(struct store_op *op)
{
	struct outbox *o = op->arg;
	struct store_outbox_load *l = &o->load;
	bool again = o->behind || l->n_r == PAGE;

	o->reading = false;
	if (op->rc < 0 && o->to) {
		o->behind = true;
		loop_timer_set(o->loop, &o->retry, RETRY_MS, o->retry.cb);
	} else if (op->rc == 0 && o->to && l->after == o->cursor) {
		for (unsigned i = 0; i < l->n_r && o->to; i++) {
			ids_floor(o->ids, l->row_r[i].id);
			if (!component_has_room(o->to) ||
			    !send_one(o, l->row_r[i].id, l->row_r[i].stanza)) {
				again = true; /* the acknowledgements of these bring the rest */
				break;
			}
		}
		o->behind = again;
	}
	store_op_fini(op);
	if (o->behind && o->to && op->rc == 0 && !o->closing)
		read_page(o);
}

static void read_page(struct outbox *o)
{
	o->behind = true;
	if (o->reading || !o->to || o->in_flight >= IN_FLIGHT_MAX ||
	    (o->in_flight && !component_has_room(o->to)))
		return;
	o->reading = true;
	o->behind = false;
	store_op_init(&o->load.op, STORE_OUTBOX_LOAD, page_done, o);
	o->load.after = o->cursor;
	o->load.limit = PAGE;
	store_submit(o->store, &o->load.op);
}

static void on_retry(struct loop_timer *t)
{
	struct outbox *o = container_of(t, struct outbox, retry);

	if (o->to)
		read_page(o);
}

int outbox_new(struct loop *l, struct store *s, struct ids *ids, struct outbox **o_r)
{
	struct outbox *o = calloc(1, sizeof(*o));

	if (!o)
		return E_NOMEM;
	o->loop = l;
	o->store = s;
	o->ids = ids;
	o->retry.cb = on_retry;
	*o_r = o;
	return 0;
}

void outbox_free(struct outbox **op)
{
	struct outbox *o = *op;

	*op = NULL;
	if (!o)
		return;
	loop_task_clear(&o->del_task);
	loop_timer_clear(&o->retry);
	free(o->del);
	free(o);
}

void outbox_up(struct outbox *o, struct component *c)
{
	o->to = c;
	o->cursor = 0;
	o->in_flight = 0;
	read_page(o);
}

void outbox_down(struct outbox *o)
{
	o->to = NULL;
	o->in_flight = 0;
	loop_timer_clear(&o->retry);
}

static void del_done(struct store_op *op)
{
	struct del *d = op->arg;

	/* A row that could not be deleted is sent again at the next stream; its origin-id makes
	 * that harmless. */
	if (op->rc < 0)
		log_ev(LOG_L_ERROR, "outbox.delete.failed", KI("rows", d->op.n));
	d->o->dels_open--;
	store_op_fini(op);
	free(d);
}

static void flush_dels(struct loop_task *t)
{
	struct outbox *o = container_of(t, struct outbox, del_task);
	struct del *d = o->ndel ? malloc(sizeof(*d) + o->ndel * sizeof(uint64_t)) : NULL;

	if (!d)
		return;
	memset(d, 0, sizeof(*d));
	store_op_init(&d->op.op, STORE_OUTBOX_DEL, del_done, d);
	memcpy(d->id, o->del, o->ndel * sizeof(uint64_t));
	d->op.id = d->id;
	d->op.n = o->ndel;
	d->o = o;
	o->ndel = 0;
	o->dels_open++;
	store_submit(o->store, &d->op.op);
}

void outbox_acked(struct outbox *o, uint64_t cookie)
{
	if (o->in_flight)
		o->in_flight--;
	if (o->ndel == o->del_cap) {
		unsigned cap = o->del_cap ? o->del_cap * 2 : 64;
		uint64_t *p = realloc(o->del, cap * sizeof(*p));
		if (!p)
			return;
		o->del = p;
		o->del_cap = cap;
	}
	o->del[o->ndel++] = cookie;
	if (o->ndel >= DEL_MAX)
		flush_dels(&o->del_task);
	else
		loop_defer(o->loop, &o->del_task, flush_dels);
	if (o->behind && o->in_flight < IN_FLIGHT_MAX / 2)
		read_page(o);
}

uint64_t outbox_id(struct outbox *o)
{
	return ids_next(o->ids);
}

static void put_done(struct store_op *op)
{
	struct put *p = op->arg;
	struct outbox *o = p->o;
	struct sl xml = p->op.stanza;

	if (op->rc == 0 && p->op.id_taken_r) { /* the clock went back over a restart */
		p->op.id = ids_next(o->ids);
		op->group_next = NULL; /* the others of its group are committed */
		store_submit(o->store, op);
		return;
	}
	if (p->committed)
		p->committed(p->arg, op->rc);
	if (op->rc == 0 && !p->op.duplicate_r && o->to) {
		bool at_once = !o->reading && !o->behind && o->in_flight < IN_FLIGHT_MAX &&
			       component_has_room(o->to);
		if (at_once || p->op.id <= o->cursor)
			send_one(o, p->op.id, xml);
		else
			read_page(o);
	}
	store_op_fini(op);
	free(p->key);
	free(p->xml);
	free(p);
}

/* Texts come from other networks. One octet that is not XML would end the stream each time it is
 * sent, for ever; it becomes a question mark. Markup is ASCII, so whole stanzas can be treated. */
static void make_legal(char *p, size_t n)
{
	for (size_t i = 0; i < n;) {
		uint32_t cp = (unsigned char)p[i];
		size_t used = cp < 0x80 ? 1 : utf8_next(sl_mk(p + i, n - i), &cp);
		bool ok = used && (cp >= 0x20 || cp == '\t' || cp == '\n' || cp == '\r') &&
			  cp != 0xfffe && cp != 0xffff && (cp < 0xd800 || cp > 0xdfff);

		if (!used)
			used = 1;
		if (!ok)
			memset(p + i, '?', used);
		i += used;
	}
}

struct store_op *outbox_op(struct outbox *o, uint64_t id, struct sl key, struct sl xml,
			   void (*committed)(void *arg, int rc), void *arg)
{
	struct put *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->key = sl_dup(key);
	p->xml = sl_dup(xml);
	if (!p->key || !p->xml) {
		free(p->key);
		free(p->xml);
		free(p);
		return NULL;
	}
	store_op_init(&p->op.op, STORE_OUTBOX_PUT, put_done, p);
	p->op.id = id;
	p->op.key = sl_mk(p->key, key.n);
	p->op.stanza = sl_mk(p->xml, xml.n);
	make_legal(p->xml, xml.n);
	p->o = o;
	p->committed = committed;
	p->arg = arg;
	return &p->op.op;
}

size_t outbox_in_flight(const struct outbox *o)
{
	return o->in_flight;
}
