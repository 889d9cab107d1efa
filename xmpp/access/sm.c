/* sm.c - see sm.h. */
#include "xmpp/access/sm.h"

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "xmpp/access/asession.h"
#include "xmpp/access/stream.h"

#define REQUEST_EVERY    8u     /* stanzas after which an <r/> goes out at the end of the turn */
#define REQUEST_AFTER_MS 200u   /* or after this long, when there were fewer */
#define ANSWER_WITHIN_MS 60000u /* whoever does not answer an <r/> for so long is gone */
#define SPARE_PLACES_MAX 1024u

static void timer_fired(struct loop_timer *t)
{
	sm_timer(container_of(t, struct asession, timer));
}

static void arm(struct asession *as, uint32_t ms)
{
	loop_timer_set(as->aw->w->loop, &as->timer, ms, timer_fired);
}

/* ---- the store
 * ----------------------------------------------------------------------------------- */

/* One row's write; its text is in the same allocation. */
struct sm_row {
	union {
		struct store_op op;
		struct store_sm_put put;
		struct store_sm_del del;
	} u;
	char text[];
};

static void row_done(struct store_op *op)
{
	struct sm_row *r = op->arg;

	/* A count that could not be written only costs a client the exact number: it is told none.
	 */
	if (op->rc != 0)
		log_ev(LOG_L_WARN, "sm.row_lost", KC("rc", e_name(op->rc)));
	store_op_fini(op);
	free(r);
}

static struct sl append(char **at, struct sl s)
{
	struct sl r = { *at, s.n };

	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return r;
}

static void row_put(struct asession *as)
{
	struct jid *j = &as->s.jid;
	struct sm_row *r = calloc(1, sizeof(*r) + SM_ID_OCTETS + j->full.n);
	char *at;

	if (!r)
		return;
	at = r->text;
	store_op_init(&r->u.op, STORE_SM_PUT, row_done, r);
	r->u.put.sm_id = append(&at, sl_mk(as->sm->id, SM_ID_OCTETS));
	r->u.put.owner = append(&at, j->bare);
	r->u.put.resource = append(&at, j->resource);
	r->u.put.h = as->sm->stored_h = as->sm->h;
	r->u.put.now_ms = clock_wall_ms();
	store_submit(as->aw->w->store, &r->u.op);
}

/* A message that is being committed brings a larger count, which this one must not overwrite. */
void sm_note_h(struct asession *as)
{
	const struct sm *sm = as->sm;

	if (!as->is_component && sm->resume_s && !sm->npending && sm->h != sm->stored_h)
		row_put(as);
}

static void row_del(struct asession *as)
{
	struct sm_row *r = calloc(1, sizeof(*r) + SM_ID_OCTETS);
	char *at;

	if (!r)
		return;
	at = r->text;
	store_op_init(&r->u.op, STORE_SM_DEL, row_done, r);
	r->u.del.sm_id = append(&at, sl_mk(as->sm->id, SM_ID_OCTETS));
	store_submit(as->aw->w->store, &r->u.op);
}

/* ---- what came in
 * -------------------------------------------------------------------------------- */

/* Counts retire in order (CUST-3). */
static void retire(struct asession *as)
{
	struct sm *sm = as->sm;
	bool some = false, congested = as_congested(as);

	while (!list_empty(&sm->places) && !sm->unstored) {
		struct sm_place *p = LIST_ENTRY(sm->places.next, struct sm_place, node);

		if (!p->committed)
			break;
		sm->h += 1 + p->after;
		sm->npending -= 1 + p->after;
		list_remove(&p->node);
		some = true;
		if (as->aw->nspare_places < SPARE_PLACES_MAX) {
			p->node.next = as->aw->spare_places ? &as->aw->spare_places->node : NULL;
			as->aw->spare_places = p;
			as->aw->nspare_places++;
		} else {
			free(p);
		}
	}
	if (some && sm->owed)
		as_todo(as, AS_TODO_ACK);
	if (congested && !as_congested(as) && as->stream)
		as_todo(as, AS_TODO_FLOW);
}

static void place_done(struct custody *c, int rc)
{
	struct sm_place *p = container_of(c, struct sm_place, c);
	struct asession *as = p->as;

	if (!as) {
		free(p);
		return;
	}
	if (rc != 0) {
		/* Neither this nor what came behind it will be counted (CUST-12). */
		as->sm->unstored = true;
		as_todo(as, AS_TODO_UNSTORED);
		list_remove(&p->node);
		free(p);
		return;
	}
	p->committed = true;
	if (c->stored)
		as->sm->stored_h = c->h;
	retire(as);
}

static struct sm_place *place_new(struct access_worker *aw)
{
	struct sm_place *p = aw->spare_places;

	if (!p)
		return malloc(sizeof(*p));
	aw->spare_places = p->node.next ? LIST_ENTRY(p->node.next, struct sm_place, node) : NULL;
	aw->nspare_places--;
	return p;
}

void sm_places_free(struct access_worker *aw)
{
	while (aw->nspare_places)
		free(place_new(aw));
}

int sm_count(struct asession *as, bool wait, struct custody **c_r)
{
	struct sm *sm = as->sm;
	struct sm_place *p;

	if (!wait) {
		if (list_empty(&sm->places)) {
			sm->h++;
		} else {
			LIST_ENTRY(sm->places.prev, struct sm_place, node)->after++;
			sm->npending++;
		}
		return 0;
	}
	p = place_new(as->aw);
	if (!p)
		return E_NOMEM;
	memcpy(p->sm_id, sm->id, SM_ID_OCTETS);
	p->as = as;
	p->aw = as->aw;
	p->after = 0;
	p->committed = false;
	sm->npending++;
	p->c = (struct custody){ .sm_id = sl_mk(p->sm_id, SM_ID_OCTETS),
				 .h = sm->h + sm->npending,
				 .done = place_done };
	list_append(&sm->places, &p->node);
	*c_r = &p->c;
	return 0;
}

/* ---- elements
 * ------------------------------------------------------------------------------------ */

int sm_h(const struct xml_node *n, uint32_t *h_r)
{
	uint64_t v;

	if (sl_to_u64(xml_attr(n, SL("h")), UINT32_MAX, &v) != 0)
		return E_SYNTAX;
	*h_r = (uint32_t)v;
	return 0;
}

void sm_failed(struct stream *s, const char *condition, bool has_h, uint32_t h)
{
	char text[256], count_text[32] = "";
	int n;

	if (has_h)
		snprintf(count_text, sizeof(count_text), " h='%u'", h);
	n = snprintf(
		text, sizeof(text),
		"<failed xmlns='urn:xmpp:sm:3'%s><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
		"</failed>",
		count_text, condition);
	stream_write(s, sl_mk(text, (size_t)n));
}

static bool match_id(const struct hnode *n, const void *key)
{
	const struct sm *sm = container_of(n, const struct sm, hn);

	return sl_eq(sl_mk(sm->id, SM_ID_OCTETS), *(const struct sl *)key);
}

struct asession *sm_find(const struct access_worker *aw, struct sl id)
{
	struct hnode *n = id.n == SM_ID_OCTETS ? htable_find(&aw->sm, hash_bytes(id), match_id, &id)
					       : NULL;

	return n ? container_of(n, struct sm, hn)->as : NULL;
}

static void write_enabled(struct asession *as)
{
	struct sm *sm = as->sm;
	char text[160];
	int n;

	if (sm->resume_s)
		n = snprintf(text, sizeof(text),
			     "<enabled xmlns='urn:xmpp:sm:3' id='%.*s' resume='true' max='%u'/>",
			     (int)SM_ID_OCTETS, sm->id, sm->resume_s);
	else
		n = snprintf(text, sizeof(text), "<enabled xmlns='urn:xmpp:sm:3'/>");
	stream_write(as->stream, sl_mk(text, (size_t)n));
}

bool sm_enable(struct asession *as, const struct xml_node *n, uint32_t resume_s)
{
	struct sl resume = xml_attr(n, SL("resume")), max = xml_attr(n, SL("max"));
	char id[SM_ID_OCTETS + 1];
	struct sm *sm;
	uint64_t v;

	if (as->sm) {
		sm_failed(as->stream, "unexpected-request", false, 0);
		return false;
	}
	sm = calloc(1, sizeof(*sm));
	rnd_token(id, SM_ID_OCTETS);
	if (!sm || htable_add(&as->aw->sm, &sm->hn, hash_bytes(sl_mk(id, SM_ID_OCTETS))) != 0) {
		free(sm);
		sm_failed(as->stream, "resource-constraint", false, 0);
		return false;
	}
	memcpy(sm->id, id, SM_ID_OCTETS);
	sm->as = as;
	list_init(&sm->places);
	sm->before = as->n;
	if (sl_eq(resume, SL("true")) || sl_eq(resume, SL("1")))
		sm->resume_s = max.n && sl_to_u64(max, UINT32_MAX, &v) == 0 && v < resume_s
				       ? (uint32_t)v
				       : resume_s;
	as->sm = sm;
	write_enabled(as);
	if (!as->is_component && sm->resume_s)
		row_put(as);
	return true;
}

static void write_ack(struct asession *as)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "<a xmlns='urn:xmpp:sm:3' h='%u'/>", as->sm->h);

	if (as->stream)
		stream_write(as->stream, sl_mk(text, (size_t)n));
	as->sm->owed = as->sm->npending != 0;
	sm_note_h(as);
}

int sm_peer_h(struct asession *as, uint32_t h)
{
	struct sm *sm = as->sm;
	uint32_t n = h - sm->peer_h;

	if (n > as->n - sm->before)
		return E_RANGE;
	sm->peer_h = h;
	as_acked(as, sm->before + n);
	sm->before = 0;
	return 0;
}

static const char *peer_acks(struct asession *as, const struct xml_node *n, struct buf *extra_r)
{
	struct sm *sm = as->sm;
	uint32_t h;

	if (sm_h(n, &h) != 0)
		return "invalid-xml";
	if (sm_peer_h(as, h) != 0) {
		buf_addf(extra_r,
			 "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='%u' send-count='%u'/>",
			 h, sm->peer_h + as->n - sm->before);
		return "undefined-condition";
	}
	sm->r_out = false;
	if (as->n)
		as_todo(as, AS_TODO_REQUEST);
	else
		loop_timer_clear(&as->timer);
	return NULL;
}

const char *sm_element(struct asession *as, const struct xml_node *n, struct buf *extra_r)
{
	if (xml_is(n, NS_SM, SL("resume"))) {
		sm_failed(as->stream, "unexpected-request", false, 0);
		return NULL;
	}
	if (!as->sm && (xml_is(n, NS_SM, SL("r")) || xml_is(n, NS_SM, SL("a")))) {
		sm_failed(as->stream, "unexpected-request", false, 0);
		return NULL;
	}
	if (xml_is(n, NS_SM, SL("r"))) {
		write_ack(as);
		return NULL;
	}
	if (xml_is(n, NS_SM, SL("a")))
		return peer_acks(as, n, extra_r);
	return "unsupported-stanza-type";
}

/* ---- asking
 * -------------------------------------------------------------------------------------- */

static void request(struct asession *as)
{
	stream_write(as->stream, SL("<r xmlns='urn:xmpp:sm:3'/>"));
	as->sm->r_out = true;
	as->sm->unrequested = 0;
	arm(as, ANSWER_WITHIN_MS);
}

void sm_turn(struct asession *as, uint8_t todo)
{
	struct sm *sm = as->sm;

	if (!as->stream)
		return;
	if (todo & AS_TODO_ACK)
		write_ack(as);
	if ((todo & AS_TODO_REQUEST) && !sm->r_out && as->n) {
		if (sm->unrequested >= REQUEST_EVERY)
			request(as);
		else if (!loop_timer_armed(&as->timer))
			arm(as, REQUEST_AFTER_MS);
	}
}

bool sm_timer(struct asession *as)
{
	if (!as->stream || !as->stream->conn)
		return false;
	if (as->sm->r_out) {
		log_ev(LOG_L_INFO, "sm.silent", KS("jid", as->s.jid.full));
		conn_kill(as->stream->conn);
		return true;
	}
	if (as->n)
		request(as);
	return false;
}

/* ---- resumption and the end
 * ----------------------------------------------------------------------- */

void sm_resumed(struct asession *as)
{
	struct sm *sm = as->sm;
	char text[128];
	int n = snprintf(text, sizeof(text),
			 "<resumed xmlns='urn:xmpp:sm:3' previd='%.*s' h='%u'/>", (int)SM_ID_OCTETS,
			 sm->id, sm->h);

	sm->owed = sm->npending != 0;
	sm->r_out = false;
	stream_write(as->stream, sl_mk(text, (size_t)n));
	sm_note_h(as);
	for (uint32_t i = 0; i < as->n; i++) {
		struct as_entry *e = as_entry(as, i);

		as_write(as, e->st, e->extra ? sl_mk(e->extra->p, e->extra->n) : SL_NULL);
	}
	sm->unrequested = as->n;
	if (as->n)
		as_todo(as, AS_TODO_REQUEST);
}

void sm_end(struct asession *as, bool keep)
{
	struct sm *sm = as->sm;
	struct list *l;
	bool pending = false;

	while ((l = list_pop(&sm->places))) {
		struct sm_place *p = LIST_ENTRY(l, struct sm_place, node);

		if (p->committed) {
			free(p);
		} else {
			p->as = NULL;
			pending = true;
		}
	}
	if (!as->is_component && sm->resume_s) {
		/* What is still being committed brings its own count, a larger one than that which
		 * has been answered: it must not be overwritten (CUST-2). */
		if (!keep)
			row_del(as);
		else if (!pending)
			row_put(as);
	}
	htable_del(&as->aw->sm, &sm->hn);
	free(sm);
	as->sm = NULL;
}
