/* outbox.c - see outbox.h.
 *
 * Each stream reads for itself and leaves out what belongs to others. While `reading` pages are
 * being read in id order; what is committed meanwhile is found by the
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

/* What goes over one stream. */
struct lane {
	struct outbox *o;
	struct component *to;
	uint64_t cursor; /* all of ours up to here were sent on this stream */
	size_t in_flight;
	bool reading, behind;
	struct store_outbox_load load;
	struct loop_timer retry;
};

struct outbox {
	struct loop *loop;
	struct store *store;
	struct ids *ids;
	unsigned n;
	struct lane lane[STREAMS_MAX];
	bool closing;
	struct loop_task del_task;
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

static void read_page(struct lane *l);

static bool is_ours(const struct lane *l, struct sl xml)
{
	return &l->o->lane[streams_choose(xml, l->o->n)] == l;
}

static bool send_one(struct lane *l, uint64_t id, struct sl xml)
{
	if (component_send(l->to, xml, id) < 0)
		return false;
	l->in_flight++;
	if (id > l->cursor)
		l->cursor = id;
	return true;
}

/* true: all of it was sent. */
static bool send_page(struct lane *l)
{
	for (unsigned i = 0; i < l->load.n_r && l->to; i++) {
		const struct store_outbox_row *row = &l->load.row_r[i];

		ids_floor(l->o->ids, row->id);
		if (!is_ours(l, row->stanza))
			l->cursor = row->id;
		else if (!component_has_room(l->to) || !send_one(l, row->id, row->stanza))
			return false; /* the acknowledgements of these bring the rest */
	}
	return true;
}

static void page_done(struct store_op *op)
{
	struct lane *l = op->arg;
	bool again = l->behind || l->load.n_r == PAGE;

	l->reading = false;
	if (op->rc < 0 && l->to) {
		l->behind = true;
		loop_timer_set(l->o->loop, &l->retry, RETRY_MS, l->retry.cb);
	} else if (op->rc == 0 && l->to && l->load.after == l->cursor) {
		l->behind = !send_page(l) || again;
	}
	store_op_fini(op);
	if (l->behind && l->to && op->rc == 0 && !l->o->closing)
		read_page(l);
}

static void read_page(struct lane *l)
{
	l->behind = true;
	if (l->reading || !l->to || l->in_flight >= IN_FLIGHT_MAX ||
	    (l->in_flight && !component_has_room(l->to)))
		return;
	l->reading = true;
	l->behind = false;
	store_op_init(&l->load.op, STORE_OUTBOX_LOAD, page_done, l);
	l->load.after = l->cursor;
	l->load.limit = PAGE;
	store_submit(l->o->store, &l->load.op);
}

static void on_retry(struct loop_timer *t)
{
	struct lane *l = container_of(t, struct lane, retry);

	if (l->to)
		read_page(l);
}

int outbox_new(struct loop *l, struct store *s, struct ids *ids, struct outbox **o_r)
{
	struct outbox *o = calloc(1, sizeof(*o));

	if (!o)
		return E_NOMEM;
	o->loop = l;
	o->store = s;
	o->ids = ids;
	o->n = 1;
	for (unsigned i = 0; i < STREAMS_MAX; i++) {
		o->lane[i].o = o;
		o->lane[i].retry.cb = on_retry;
	}
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
	for (unsigned i = 0; i < STREAMS_MAX; i++)
		loop_timer_clear(&o->lane[i].retry);
	free(o->del);
	free(o);
}

void outbox_count(struct outbox *o, unsigned n)
{
	o->n = n;
}

void outbox_up(struct outbox *o, unsigned stream, struct component *c)
{
	struct lane *l = &o->lane[stream];

	l->to = c;
	l->cursor = 0;
	l->in_flight = 0;
	read_page(l);
}

void outbox_down(struct outbox *o, unsigned stream)
{
	struct lane *l = &o->lane[stream];

	l->to = NULL;
	l->in_flight = 0;
	loop_timer_clear(&l->retry);
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

void outbox_acked(struct outbox *o, unsigned stream, uint64_t cookie)
{
	struct lane *l = &o->lane[stream];

	if (l->in_flight)
		l->in_flight--;
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
	if (l->behind && l->in_flight < IN_FLIGHT_MAX / 2)
		read_page(l);
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
	struct lane *l = &o->lane[streams_choose(xml, o->n)];

	if (op->rc == 0 && p->op.id_taken_r) { /* the clock went back over a restart */
		p->op.id = ids_next(o->ids);
		op->group_next = NULL; /* the others of its group are committed */
		store_submit(o->store, op);
		return;
	}
	if (p->committed)
		p->committed(p->arg, op->rc);
	if (op->rc == 0 && !p->op.duplicate_r && l->to) {
		bool at_once = !l->reading && !l->behind && l->in_flight < IN_FLIGHT_MAX &&
			       component_has_room(l->to);
		if (at_once || p->op.id <= l->cursor)
			send_one(l, p->op.id, xml);
		else
			read_page(l);
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
	size_t n = 0;

	for (unsigned i = 0; i < STREAMS_MAX; i++)
		n += o->lane[i].in_flight;
	return n;
}
