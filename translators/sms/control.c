/* control.c - the commands that tandemd passes on (docs/control-protocol.md, "tandem-sms"). */
#include <inttypes.h>

#include "appliance/base/log.h"
#include "appliance/child/child.h"
#include "translators/sms/sms.h"

static const char *const state_names[STORE_Q_STATES] = { "queued",    "submitted", "accepted",
							 "delivered", "failed",    "expired" };

static json_t *js(struct sl s)
{
	return json_stringn_nocheck(s.p ? s.p : "", s.n);
}

/* ---- numbers
 * ------------------------------------------------------------------------------------- */

struct number_req {
	struct store_number_put put;
	struct store_number_del del;
	struct sms_app *a;
	struct child_req *r;
	char number[NUMBER_MAX], *jid, *link;
};

static void number_req_free(struct number_req *n)
{
	free(n->jid);
	free(n->link);
	free(n);
}

static struct number_req *number_req_new(struct sms_app *a, struct child_req *r, struct sl jid,
					 struct sl link)
{
	struct number_req *n = calloc(1, sizeof(*n));
	struct arena *ar = arena_new(512, 16384);
	struct jid j;
	struct err e = { 0 };

	if (!n || !ar || jid_parse(ar, jid, &j, &e) < 0 || !(n->jid = sl_dup(j.bare)) ||
	    !(n->link = sl_dup(link))) {
		child_fail(r, e.code ? E_SYNTAX : E_NOMEM, "%s", e.code ? e.text : "out of memory");
		arena_free(&ar);
		if (n)
			number_req_free(n);
		return NULL;
	}
	arena_free(&ar);
	n->a = a;
	n->r = r;
	return n;
}

static void number_put_done(struct store_op *op)
{
	struct number_req *n = op->arg;

	if (op->rc < 0)
		child_fail(n->r, op->rc, "the number could not be stored");
	else if (n->put.taken_r)
		child_fail(n->r, E_EXISTS, "%s belongs to %.*s", n->number,
			   SLARG(n->put.taken_by_r));
	else if (numbers_set(n->a->numbers, sl_cstr(n->number), sl_cstr(n->jid), sl_cstr(n->link)) <
		 0)
		child_fail(n->r, E_NOMEM, "out of memory");
	else
		child_answer(n->r, json_pack("{s:s, s:s}", "jid", n->jid, "number", n->number));
	store_op_fini(op);
	number_req_free(n);
}

static void number_set(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl jid = SL_NULL, number = SL_NULL, link = SL_NULL;
	struct err e = { 0 };
	const struct child_arg spec[] = { { "jid", CHILD_STR, true, JID_MAX, &jid },
					  { "number", CHILD_STR, true, 64, &number },
					  { "link", CHILD_STR, false, 64, &link } };
	struct number_req *n;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	n = number_req_new(a, r, jid, link);
	if (!n)
		return;
	if (number_normalise(&a->np, number, n->number, &e) < 0) {
		child_fail(r, E_SYNTAX, "%s", e.text);
		number_req_free(n);
		return;
	}
	store_op_init(&n->put.op, STORE_NUMBER_PUT, number_put_done, n);
	n->put.number = sl_cstr(n->number);
	n->put.jid = sl_cstr(n->jid);
	n->put.link = sl_cstr(n->link);
	store_submit(a->store, &n->put.op);
}

static void number_del_done(struct store_op *op)
{
	struct number_req *n = op->arg;

	if (op->rc < 0) {
		child_fail(n->r, op->rc, "the numbers could not be deleted");
	} else {
		char number[NUMBER_MAX];
		struct sl s;
		while ((s = numbers_of(n->a->numbers, sl_cstr(n->jid), NULL)).n) {
			sl_to_cstr(s, number, sizeof(number));
			numbers_del(n->a->numbers, sl_cstr(number));
		}
		child_answer(n->r,
			     json_pack("{s:s, s:i}", "jid", n->jid, "numbers", (int)n->del.n_r));
	}
	store_op_fini(op);
	number_req_free(n);
}

static void number_clear(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl jid = SL_NULL;
	const struct child_arg spec[] = { { "jid", CHILD_STR, true, JID_MAX, &jid } };
	struct number_req *n;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0 || !(n = number_req_new(a, r, jid, SL_NULL)))
		return;
	store_op_init(&n->del.op, STORE_NUMBER_DEL, number_del_done, n);
	n->del.jid = sl_cstr(n->jid);
	store_submit(a->store, &n->del.op);
}

static json_t *number_row(struct sl number, struct sl jid, struct sl link)
{
	json_t *o = json_object();

	json_object_set_new(o, "number", js(number));
	json_object_set_new(o, "jid", js(jid));
	if (link.n)
		json_object_set_new(o, "link", js(link));
	return o;
}

struct number_collect {
	json_t *rows;
	struct sl jid;
};

static void collect_number(void *arg, struct sl number, struct sl jid, struct sl link)
{
	struct number_collect *c = arg;

	json_array_append_new(c->rows, number_row(number, jid, link));
}

static void number_get(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	json_t *jids = NULL, *j, *rows;
	size_t i;
	const struct child_arg spec[] = { { "jids", CHILD_ARRAY, true, 1000, &jids } };

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	rows = json_array();
	json_array_foreach(jids, i, j)
	{
		struct number_collect c = { rows, sl_cstr(json_string_value(j)) };
		numbers_each_of(a->numbers, c.jid, collect_number, &c);
	}
	child_answer(r, json_pack("{s:o}", "numbers", rows));
}

/* An import: all rows in one store group, answered together. */
struct import {
	struct sms_app *a;
	struct child_req *r;
	json_t *refused;
	unsigned open, added;
	bool submitted;
	struct import_row {
		struct store_number_put put;
		struct import *im;
		char number[NUMBER_MAX], *jid;
	} row[];
};

static void refuse_row(json_t *refused, const char *jid, const char *code, const char *text)
{
	json_array_append_new(refused,
			      json_pack("{s:s, s:s, s:s}", "jid", jid, "code", code, "text", text));
}

static void import_check(struct import *im)
{
	if (im->open || !im->submitted)
		return;
	child_answer(im->r,
		     json_pack("{s:i, s:o}", "added", (int)im->added, "refused", im->refused));
	free(im);
}

static void import_row_done(struct store_op *op)
{
	struct import_row *row = op->arg;
	struct import *im = row->im;
	char text[128];

	if (op->rc < 0) {
		refuse_row(im->refused, row->jid, e_name(op->rc), "could not be stored");
	} else if (row->put.taken_r) {
		snprintf(text, sizeof(text), "%s belongs to %.*s", row->number,
			 SLARG(row->put.taken_by_r));
		refuse_row(im->refused, row->jid, "exists", text);
	} else if (numbers_set(im->a->numbers, sl_cstr(row->number), sl_cstr(row->jid), SL_NULL) ==
		   0) {
		im->added++;
	}
	store_op_fini(op);
	free(row->jid);
	im->open--;
	import_check(im);
}

static bool import_prepare(struct sms_app *a, struct import_row *row, json_t *j, json_t *refused)
{
	const char *jid = json_string_value(json_object_get(j, "jid")),
		   *number = json_string_value(json_object_get(j, "number"));
	struct arena *ar = arena_new(512, 16384);
	struct jid parsed;
	struct err e = { 0 };
	bool ok = jid && number && ar && jid_parse(ar, sl_cstr(jid), &parsed, &e) == 0 &&
		  number_normalise(&a->np, sl_cstr(number), row->number, &e) == 0 &&
		  (row->jid = sl_dup(parsed.bare)) != NULL;

	if (!ok)
		refuse_row(refused, jid ? jid : "", "syntax",
			   e.code ? e.text : "jid and number are needed");
	arena_free(&ar);
	return ok;
}

static void number_import(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	json_t *numbers = NULL, *j;
	bool replace = false;
	size_t i;
	const struct child_arg spec[] = { { "numbers", CHILD_ARRAY, true, 1000, &numbers },
					  { "replace", CHILD_BOOL, false, 1, &replace } };
	struct import *im;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	im = calloc(1, sizeof(*im) + json_array_size(numbers) * sizeof(im->row[0]));
	if (!im) {
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	im->a = a;
	im->r = r;
	im->refused = json_array();
	json_array_foreach(numbers, i, j)
	{
		struct import_row *row = &im->row[i];
		row->im = im;
		if (!import_prepare(a, row, j, im->refused))
			continue;
		im->open++;
		store_op_init(&row->put.op, STORE_NUMBER_PUT, import_row_done, row);
		row->put.number = sl_cstr(row->number);
		row->put.jid = sl_cstr(row->jid);
		store_submit(a->store, &row->put.op);
	}
	im->submitted = true;
	import_check(im);
}

/* ---- links
 * ----------------------------------------------------------------------------------------- */

static void link_list(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	json_t *rows = json_array();

	UNUSED(args);
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++) {
		json_t *d = a->bearer[i] ? bearer_describe(a->bearer[i]) : NULL;
		if (!d)
			continue;
		json_object_set_new(d, "source",
				    json_string(a->bearer_from_config[i] ? "config" : "command"));
		json_array_append_new(rows, d);
	}
	child_answer(r, json_pack("{s:o}", "links", rows));
}

struct link_req {
	struct store_link_put put;
	struct store_link_del del;
	struct sms_app *a;
	struct child_req *r;
	struct config_link *link;
	char *settings, *name;
};

static void link_req_free(struct link_req *l)
{
	config_link_free(&l->link);
	if (l->settings)
		wipe(l->settings, strlen(l->settings));
	free(l->settings);
	free(l->name);
	free(l);
}

static void link_put_done(struct store_op *op)
{
	struct link_req *l = op->arg;
	struct err e = { 0 };

	if (op->rc < 0)
		child_fail(l->r, op->rc, "the link could not be stored");
	else if (app_bearer_add(l->a, l->link, false, &e) < 0)
		child_fail(l->r, e.code, "%s", e.text);
	else
		child_answer(l->r, json_pack("{s:s}", "name", l->name));
	store_op_fini(op);
	link_req_free(l);
}

static void link_add(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct link_req *l = calloc(1, sizeof(*l));
	struct err e = { 0 };

	if (!l) {
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	if (config_link_from_json(args, &l->link, &e) < 0) {
		child_fail(r, e.code, "%s", e.text);
		link_req_free(l);
		return;
	}
	l->a = a;
	l->r = r;
	l->name = sl_dup(l->link->name);
	l->settings = json_dumps(args, JSON_COMPACT);
	if (!l->name || !l->settings || app_bearer(a, l->link->name)) {
		child_fail(r, l->name && l->settings ? E_EXISTS : E_NOMEM,
			   "there is a link %s already", l->name ? l->name : "");
		link_req_free(l);
		return;
	}
	store_op_init(&l->put.op, STORE_LINK_PUT, link_put_done, l);
	l->put.name = sl_cstr(l->name);
	l->put.settings = sl_cstr(l->settings);
	store_submit(a->store, &l->put.op);
}

static void link_del_done(struct store_op *op)
{
	struct link_req *l = op->arg;

	if (op->rc < 0) {
		child_fail(l->r, op->rc, "the link could not be deleted");
	} else {
		app_bearer_del(l->a, sl_cstr(l->name));
		child_answer(l->r, json_pack("{s:s}", "name", l->name));
	}
	store_op_fini(op);
	link_req_free(l);
}

static void link_delete(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl name = SL_NULL;
	const struct child_arg spec[] = { { "name", CHILD_STR, true, 64, &name } };
	struct link_req *l;
	struct bearer *b;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	b = app_bearer(a, name);
	if (!b) {
		child_fail(r, E_NOTFOUND, "there is no link %.*s", SLARG(name));
		return;
	}
	if (a->bearer_from_config[app_bearer_slot(a, b)]) {
		child_fail(r, E_DENIED,
			   "the link %.*s is in tandem.conf: delete it there, then reload",
			   SLARG(name));
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l || !(l->name = sl_dup(name))) {
		free(l);
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	l->a = a;
	l->r = r;
	store_op_init(&l->del.op, STORE_LINK_DEL, link_del_done, l);
	l->del.name = sl_cstr(l->name);
	store_submit(a->store, &l->del.op);
}

static void link_enable(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl name = SL_NULL;
	bool enabled = true;
	const struct child_arg spec[] = { { "name", CHILD_STR, true, 64, &name },
					  { "enabled", CHILD_BOOL, true, 1, &enabled } };
	struct bearer *b;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	b = app_bearer(a, name);
	if (!b) {
		child_fail(r, E_NOTFOUND, "there is no link %.*s", SLARG(name));
		return;
	}
	bearer_enable(b, enabled);
	child_answer(r, json_pack("{s:o, s:b}", "name", js(name), "enabled", enabled));
}

/* ---- queue
 * ------------------------------------------------------------------------------------------ */

static json_t *message_row(const struct store_queue_entry *q)
{
	char id[24];
	json_t *o = json_object();

	snprintf(id, sizeof(id), "%" PRIu64, q->id);
	json_object_set_new(o, "message", json_string(id));
	json_object_set_new(
		o, "state",
		json_string(q->state < STORE_Q_STATES ? state_names[q->state] : "unknown"));
	json_object_set_new(o, "from", js(q->from_jid));
	json_object_set_new(o, "to", js(q->to_jid));
	json_object_set_new(o, "from_number", js(q->from_number));
	json_object_set_new(o, "to_number", js(q->to_number));
	json_object_set_new(o, "link", js(q->link));
	json_object_set_new(o, "attempts", json_integer(q->attempts));
	json_object_set_new(o, "parts", json_integer(q->parts));
	json_object_set_new(o, "created_ms", json_integer((json_int_t)q->stamp_ms));
	json_object_set_new(o, "next_ms", json_integer((json_int_t)q->not_before_ms));
	json_object_set_new(o, "expires_ms", json_integer((json_int_t)q->expires_ms));
	json_object_set_new(o, "changed_ms", json_integer((json_int_t)q->changed_ms));
	json_object_set_new(o, "ambiguous", json_boolean(q->ambiguous));
	json_object_set_new(o, "error", js(q->error));
	return o;
}

#define QUEUE_PAGE 500u

struct queue_req {
	struct store_queue_load load;
	struct store_queue_count count;
	struct store_queue_get get;
	struct sms_app *a;
	struct child_req *r;
	json_t *rows;
	uint64_t limit;
	char number[64];
	uint64_t last;
	bool more;
};

static void queue_count_done(struct store_op *op)
{
	struct queue_req *q = op->arg;
	json_t *counts = json_object(), *res;
	char next[24];

	for (unsigned i = 0; i < STORE_Q_STATES; i++)
		json_object_set_new(counts, state_names[i],
				    json_integer((json_int_t)q->count.n_r[i]));
	res = json_pack("{s:o, s:o}", "messages", q->rows, "counts", counts);
	if (q->more) {
		snprintf(next, sizeof(next), "%" PRIu64, q->last);
		json_object_set_new(res, "next", json_string(next));
	}
	child_answer(q->r, res);
	store_op_fini(op);
	free(q);
}

static bool has_number(const struct store_queue_entry *e, struct sl number)
{
	return number.n == 0 || sl_eq(e->to_number, number) || sl_eq(e->from_number, number);
}

static void queue_load_done(struct store_op *op)
{
	struct queue_req *q = op->arg;
	unsigned i, n = op->rc == 0 ? q->load.n_r : 0;

	if (op->rc < 0) {
		child_fail(q->r, op->rc, "the queue could not be read");
		json_decref(q->rows);
		store_op_fini(op);
		free(q);
		return;
	}
	for (i = 0; i < n && json_array_size(q->rows) < q->limit; i++) {
		q->last = q->load.entry_r[i].id;
		if (has_number(&q->load.entry_r[i], sl_cstr(q->number)))
			json_array_append_new(q->rows, message_row(&q->load.entry_r[i]));
	}
	q->more = i < n || n == QUEUE_PAGE;
	bool again = n == QUEUE_PAGE && json_array_size(q->rows) < q->limit;
	store_op_fini(op);
	if (again) {
		store_op_init(&q->load.op, STORE_QUEUE_LOAD, queue_load_done, q);
		q->load.after = q->last;
		store_submit(q->a->store, &q->load.op);
		return;
	}
	store_op_init(&q->count.op, STORE_QUEUE_COUNT, queue_count_done, q);
	store_submit(q->a->store, &q->count.op);
}

static int state_mask(struct sl name, unsigned *mask_r)
{
	if (name.n == 0) {
		*mask_r = (1u << STORE_Q_STATES) - 1;
		return 0;
	}
	for (unsigned i = 0; i < STORE_Q_STATES; i++)
		if (sl_eq(name, sl_cstr(state_names[i]))) {
			*mask_r = 1u << i;
			return 0;
		}
	return E_SYNTAX;
}

static void queue_list(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl state = SL_NULL, number = SL_NULL, after = SL_NULL;
	uint64_t limit = 100, from = 0;
	unsigned mask = 0;
	char norm[NUMBER_MAX] = "";
	const struct child_arg spec[] = { { "state", CHILD_STR, false, 16, &state },
					  { "number", CHILD_STR, false, 40, &number },
					  { "after", CHILD_STR, false, 20, &after },
					  { "limit", CHILD_UINT, false, 1000, &limit } };
	struct queue_req *q;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	if (state_mask(state, &mask) < 0 || (after.n && sl_to_u64(after, UINT64_MAX, &from) < 0) ||
	    (number.n && number_normalise(&a->np, number, norm, NULL) < 0)) {
		child_fail(
			r, E_SYNTAX,
			"state is one of queued, submitted, accepted, delivered, failed, expired; "
			"after is a message id");
		return;
	}
	q = calloc(1, sizeof(*q));
	if (!q || !(q->rows = json_array())) {
		free(q);
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	q->a = a;
	q->r = r;
	q->limit = limit;
	snprintf(q->number, sizeof(q->number), "%s", norm);
	store_op_init(&q->load.op, STORE_QUEUE_LOAD, queue_load_done, q);
	q->load.states = mask;
	q->load.after = from;
	q->load.limit = QUEUE_PAGE;
	store_submit(a->store, &q->load.op);
}

static void queue_show_done(struct store_op *op)
{
	struct queue_req *q = op->arg;
	json_t *m, *parts;

	if (op->rc < 0 || !q->get.found_r) {
		child_fail(q->r, op->rc < 0 ? op->rc : E_NOTFOUND,
			   "there is no such message in the queue or its record");
	} else {
		m = message_row(&q->get.entry_r);
		parts = json_array();
		for (unsigned i = 0; i < q->get.nparts_r; i++) {
			const struct store_queue_part *p = &q->get.part_r[i];
			json_array_append_new(parts, json_pack("{s:i, s:s, s:o, s:b}", "number",
							       (int)p->number, "state",
							       p->state < STORE_Q_STATES
								       ? state_names[p->state]
								       : "unknown",
							       "message_id", js(p->message_id),
							       "ambiguous", p->ambiguous));
		}
		json_object_set_new(m, "parts", parts);
		child_answer(q->r, json_pack("{s:o}", "message", m));
	}
	store_op_fini(op);
	free(q);
}

static void queue_show(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl message = SL_NULL;
	uint64_t id = 0;
	const struct child_arg spec[] = { { "message", CHILD_STR, true, 20, &message } };
	struct queue_req *q;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	if (sl_to_u64(message, UINT64_MAX, &id) < 0 || id == 0) {
		child_fail(r, E_SYNTAX, "a message id is a number: see queue list");
		return;
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	q->a = a;
	q->r = r;
	store_op_init(&q->get.op, STORE_QUEUE_GET, queue_show_done, q);
	q->get.id = id;
	store_submit(a->store, &q->get.op);
}

/* Ids to change: those named, or all in memory. */
struct ids_list {
	uint64_t *v;
	size_t n, cap;
};

static void add_id(void *arg, uint64_t id)
{
	struct ids_list *l = arg;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		uint64_t *p = realloc(l->v, cap * sizeof(*p));
		if (!p)
			return;
		l->v = p;
		l->cap = cap;
	}
	l->v[l->n++] = id;
}

static void queue_change(struct sms_app *a, struct child_req *r,
			 int (*change)(struct out *o, uint64_t id), const char *cannot)
{
	json_t *messages = NULL, *m, *refused;
	bool all = false;
	const struct child_arg spec[] = { { "messages", CHILD_ARRAY, false, 1000, &messages },
					  { "all", CHILD_BOOL, false, 1, &all } };
	struct ids_list ids = { 0 };
	unsigned changed = 0;
	size_t i;

	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	refused = json_array();
	if (all)
		out_each_queued(a->out, add_id, &ids);
	json_array_foreach(messages, i, m)
	{
		uint64_t id;
		if (sl_to_u64(sl_cstr(json_string_value(m)), UINT64_MAX, &id) == 0)
			add_id(&ids, id);
		else
			json_array_append_new(refused,
					      json_pack("{s:O, s:s, s:s}", "message", m, "code",
							"syntax", "text", "not a message id"));
	}
	for (i = 0; i < ids.n; i++) {
		char text[24];
		int rc = change(a->out, ids.v[i]);
		snprintf(text, sizeof(text), "%" PRIu64, ids.v[i]);
		changed += rc == 0;
		if (rc < 0 && !all)
			json_array_append_new(refused,
					      json_pack("{s:s, s:s, s:s}", "message", text, "code",
							e_name(rc), "text", cannot));
	}
	free(ids.v);
	child_answer(r, json_pack("{s:i, s:o}", "changed", (int)changed, "refused", refused));
}

static void queue_retry(void *self, struct child_req *r, json_t *args)
{
	UNUSED(args);
	queue_change(self, r, out_retry, "it is not waiting");
}

static void queue_drop(void *self, struct child_req *r, json_t *args)
{
	UNUSED(args);
	queue_change(self, r, out_drop,
		     "it is not waiting: what a network has cannot be taken back");
}

/* ---- status, counters, trace
 * ------------------------------------------------------------------------- */

static const char *const counter_names[] = {
#define X(id, name, help) [id] = name,
#include "translators/sms/counters.def"
#undef X
};

static void counters(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct store_stats st = store_stats(a->store);
	json_t *o = json_object();

	UNUSED(args);
	for (unsigned i = 0; i < SMS_CNT_MAX; i++)
		json_object_set_new(o, counter_names[i], json_integer((json_int_t)a->counter[i]));
	json_object_set_new(o, "sms.store.writes", json_integer((json_int_t)st.writes));
	json_object_set_new(o, "sms.store.transactions", json_integer((json_int_t)st.transactions));
	json_object_set_new(o, "sms.store.commit_us_max",
			    json_integer((json_int_t)st.commit_us_max));
	child_answer(r, o);
}

static void status_done(struct store_op *op)
{
	struct queue_req *q = op->arg;
	struct sms_app *a = q->a;
	unsigned up = 0;

	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		up += a->bearer[i] && bearer_up(a->bearer[i]);
	child_answer(q->r, json_pack("{s:i, s:i, s:s, s:i, s:{s:I, s:I, s:I}}", "links_bound",
				     (int)up, "links", (int)a->nbearers, "core",
				     streams_up(a->core) ? "up" : "down", "numbers",
				     (int)numbers_count(a->numbers), "queue", "queued",
				     (json_int_t)q->count.n_r[STORE_Q_QUEUED], "submitted",
				     (json_int_t)q->count.n_r[STORE_Q_SUBMITTED], "accepted",
				     (json_int_t)q->count.n_r[STORE_Q_ACCEPTED]));
	store_op_fini(op);
	free(q);
}

static void status(void *self, struct child_req *r, json_t *args)
{
	struct queue_req *q = calloc(1, sizeof(*q));

	UNUSED(args);
	if (!q) {
		child_fail(r, E_NOMEM, "out of memory");
		return;
	}
	q->a = self;
	q->r = r;
	store_op_init(&q->count.op, STORE_QUEUE_COUNT, status_done, q);
	store_submit(q->a->store, &q->count.op);
}

struct trace {
	struct list node;
	struct child_req *r;
	struct loop_timer timer;
	char *jid;
	char number[NUMBER_MAX];
	unsigned lines;
};

static void trace_end(struct trace *t)
{
	list_remove(&t->node);
	loop_timer_clear(&t->timer);
	child_answer(t->r, json_pack("{s:i}", "lines", (int)t->lines));
	free(t->jid);
	free(t);
}

static void on_trace_timer(struct loop_timer *tm)
{
	trace_end(container_of(tm, struct trace, timer));
}

void sms_trace_line(struct sms_app *a, struct sl jid, struct sl number, const char *line)
{
	struct sl bare = sl_sub(jid, 0, sl_find(jid, '/', 0));

	LIST_FOREACH(it, tmp, &a->traces) {
		struct trace *t = LIST_ENTRY(it, struct trace, node);
		bool hit = t->jid ? sl_eq(sl_cstr(t->jid), bare)
				  : sl_eq(sl_cstr(t->number), number);
		if (!hit)
			continue;
		t->lines++;
		if (child_cancelled(t->r) ||
		    child_event(t->r, json_pack("{s:I, s:s}", "time_ms",
						(json_int_t)clock_wall_ms(), "line", line)) < 0)
			trace_end(t);
	}
}

static void trace(void *self, struct child_req *r, json_t *args)
{
	struct sms_app *a = self;
	struct sl jid = SL_NULL, number = SL_NULL;
	uint64_t seconds = 60;
	const struct child_arg spec[] = { { "jid", CHILD_STR, false, JID_MAX, &jid },
					  { "number", CHILD_STR, false, 64, &number },
					  { "seconds", CHILD_UINT, false, 3600, &seconds } };
	struct trace *t;

	UNUSED(args);
	if (child_args(r, spec, ARRAY_LEN(spec)) < 0)
		return;
	t = calloc(1, sizeof(*t));
	if (!t || (jid.n && !(t->jid = sl_dup(jid))) ||
	    (!jid.n && number_normalise(&a->np, number, t->number, NULL) < 0)) {
		if (t)
			free(t->jid);
		free(t);
		child_fail(r, E_SYNTAX, "a bare JID or a number is needed");
		return;
	}
	t->r = r;
	list_append(&a->traces, &t->node);
	loop_timer_set(a->loop, &t->timer, seconds * 1000u, on_trace_timer);
}

const struct child_command *sms_commands(void)
{
	static const struct child_command table[] = {
		{ "status", status },
		{ "counters", counters },
		{ "trace", trace },
		{ "number.set", number_set },
		{ "number.clear", number_clear },
		{ "number.get", number_get },
		{ "number.import", number_import },
		{ "link.list", link_list },
		{ "link.add", link_add },
		{ "link.delete", link_delete },
		{ "link.enable", link_enable },
		{ "queue.list", queue_list },
		{ "queue.show", queue_show },
		{ "queue.retry", queue_retry },
		{ "queue.drop", queue_drop },
		{ NULL, NULL },
	};

	return table;
}
