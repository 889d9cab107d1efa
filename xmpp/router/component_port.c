/* component_port.c - streams of a component in other workers than its home (DESIGN section 5,
 * DELIV-11).
 *
 * The home, the worker that owns the domain, decides the order: it reads the rows, and chooses the
 * stream of each conversation (component.c). A stream of another worker is known there by a session
 * of its own kind, struct remote: what is delivered to it goes by the bus to the stream's worker,
 * the port, and the acknowledgement comes back the same way, in the very message. The order between
 * two workers is the bus's. A stream that ends says so behind its acknowledgements; what the home
 * thinks to be on its way there then was not acknowledged, and is sent again on other streams. */
#include "xmpp/router/component_int.h"

enum port_kind {
	PORT_UP,      /* to the home: a stream */
	PORT_DOWN,    /* to the home: it has gone */
	PORT_DRAINED, /* to the home: and the last that had come by it was routed */
	PORT_DELIVER, /* to the port */
	PORT_ACKED,   /* to the home: a PORT_DELIVER comes back */
	PORT_CLOSE    /* to the port */
};

struct port_msg {
	struct bus_msg m;
	enum port_kind kind;
	uint16_t port;  /* the stream's worker */
	uint64_t epoch; /* the stream's */
	struct item it; /* PORT_DELIVER */
	uint64_t mail_id;
	const char *error; /* PORT_CLOSE; static */
	size_t n;
	char name[];
};

/* At home: a stream of another worker. */
struct remote {
	struct session s;
	struct component *c;
	uint16_t port;
	struct list held; /* struct mail.node */
};

/* At the port: a stream of this worker. */
struct port {
	struct list node; /* router->ports */
	struct session *s;
	struct port_msg *down; /* made beforehand: it must not fail */
};

static void msg_free(struct bus_msg *m)
{
	struct port_msg *p = container_of(m, struct port_msg, m);

	if (p->it.st)
		item_free(&p->it);
	free(p);
}

static struct port_msg *msg_new(struct sl name, enum port_kind kind, uint64_t epoch)
{
	struct port_msg *p = calloc(1, sizeof(*p) + name.n);

	if (!p)
		return NULL;
	p->m.type = CORE_MSG_PORT;
	p->m.free = msg_free;
	p->kind = kind;
	p->epoch = epoch;
	p->n = name.n;
	if (name.n)
		memcpy(p->name, name.p, name.n);
	return p;
}

static void post(struct worker *w, uint16_t to, struct port_msg *p)
{
	p->m.to = (struct bus_addr){ .worker = to };
	bus_post(w->bus, &p->m);
}

static void post_home(struct component *c, struct port_msg *p)
{
	p->port = c->w->id;
	post(c->w, bus_owner(c->w->bus, component_name(c)), p);
}

/* ---- at the port
 * --------------------------------------------------------------------------------- */

int port_open(struct component *c, struct session *s)
{
	struct port *p = calloc(1, sizeof(*p));
	struct port_msg *up = msg_new(component_name(c), PORT_UP, s->epoch);

	if (p)
		p->down = msg_new(component_name(c), PORT_DOWN, s->epoch);
	if (!p || !up || !p->down) {
		if (p)
			free(p->down);
		free(up);
		free(p);
		return E_NOMEM;
	}
	p->s = s;
	list_append(&c->w->router->ports, &p->node);
	list_append(&c->sessions, &s->user_node);
	c->nsessions++;
	post_home(c, up);
	return 0;
}

void port_close(struct component *c, struct session *s)
{
	list_remove(&s->user_node);
	c->nsessions--;
	LIST_FOREACH(n, next, &c->w->router->ports) {
		struct port *p = LIST_ENTRY(n, struct port, node);

		if (p->s != s)
			continue;
		post_home(c, p->down);
		list_remove(&p->node);
		free(p);
		return;
	}
}

void port_drained(struct component *c)
{
	struct port_msg *p = msg_new(component_name(c), PORT_DRAINED, 0);

	if (p)
		post_home(c, p);
}

void component_port_acked(struct worker *w, struct mail *m)
{
	struct port_msg *p = m->port;

	m->port = NULL;
	p->kind = PORT_ACKED;
	post(w, p->m.from_worker, p);
}

void component_port_drop(struct mail *m)
{
	if (m->port)
		msg_free(&m->port->m);
	m->port = NULL;
}

static struct session *session_of(struct worker *w, uint64_t epoch)
{
	LIST_FOREACH(n, next, &w->router->ports) {
		struct port *p = LIST_ENTRY(n, struct port, node);

		if (p->s->epoch == epoch)
			return p->s;
	}
	return NULL;
}

/* The stream has gone: what has a row is with the home, which hears of that end; the rest finds
 * another stream by the home, or none. */
static void too_late(struct worker *w, struct port_msg *p)
{
	struct item it = p->it;

	p->it = (struct item){ 0 };
	if (p->mail_id)
		item_free(&it);
	else
		route_item(w, it);
	msg_free(&p->m);
}

static void deliver(struct worker *w, struct port_msg *p)
{
	struct session *s = session_of(w, p->epoch);
	struct stanza *st;
	char custody[80];
	struct sl extra = SL_NULL;
	struct mail *m = NULL;

	if (!s) {
		too_late(w, p);
		return;
	}
	if (p->mail_id)
		m = mail_new(w, p->mail_id, NULL, NULL, NULL);
	if (p->mail_id && !m) { /* with the stream it goes back to the home */
		s->ops->close(s, "resource-constraint", SL_NULL);
		msg_free(&p->m);
		return;
	}
	if (m && domain_has_custody(w, s->jid.domain))
		extra = custody_element(p->mail_id, custody, sizeof(custody));
	st = stanza_ref(p->it.st);
	item_free(&p->it);
	p->it = (struct item){ 0 };
	if (m)
		m->port = p;
	else
		msg_free(&p->m);
	s->ops->deliver(s, st, extra, m);
	if (m)
		mail_release(w, m);
	stanza_unref(&st);
}

static void close_stream(struct worker *w, struct port_msg *p)
{
	struct session *s = session_of(w, p->epoch);

	if (s)
		s->ops->close(s, p->error, SL_NULL);
	msg_free(&p->m);
}

/* ---- at home
 * ------------------------------------------------------------------------------------- */

static void remote_deliver(struct session *s, struct stanza *st, struct sl extra, struct mail *m)
{
	struct remote *r = container_of(s, struct remote, s);
	struct port_msg *p = msg_new(SL_NULL, PORT_DELIVER, s->epoch);

	UNUSED(extra); /* made there */
	if (!p) {
		if (!m && st->kind != STANZA_PRESENCE)
			route_error(s->w, st, SC_RESOURCE_CONSTRAINT, SL_NULL);
		return; /* a row waits */
	}
	p->it.st = stanza_ref(st);
	if (m) {
		p->mail_id = mail_id(m);
		mail_hold(m);
		list_append(&r->held, &m->node);
	}
	post(s->w, r->port, p);
}

static void remote_close(struct session *s, const char *stream_error, struct sl text)
{
	struct remote *r = container_of(s, struct remote, s);
	struct port_msg *p = msg_new(SL_NULL, PORT_CLOSE, s->epoch);

	UNUSED(text);
	if (!p)
		return;
	p->error = stream_error;
	post(s->w, r->port, p);
}

static const struct session_ops remote_ops = { .deliver = remote_deliver, .close = remote_close };

static void stream_up(struct worker *w, struct port_msg *p)
{
	struct component *c = component_get(w, sl_mk(p->name, p->n));
	struct remote *r = c && c->home ? calloc(1, sizeof(*r)) : NULL;

	if (!r) {
		p->kind = PORT_CLOSE;
		p->error = "resource-constraint";
		post(w, p->port, p);
		return;
	}
	session_init(&r->s);
	list_init(&r->held);
	r->c = c;
	r->port = p->port;
	r->s.ops = &remote_ops;
	r->s.w = w;
	r->s.jid = jid_split(component_name(c));
	r->s.epoch = p->epoch;
	component_stream_up(c, &r->s);
	msg_free(&p->m);
}

static struct remote *remote_of(struct component *c, uint64_t epoch)
{
	if (c)
		LIST_FOREACH(n, next, &c->sessions) {
			struct session *s = LIST_ENTRY(n, struct session, user_node);

			if (s->ops == &remote_ops && s->epoch == epoch)
				return container_of(s, struct remote, s);
		}
	return NULL;
}

static void let_go(struct remote *r)
{
	struct list *n;

	while ((n = list_pop(&r->held))) {
		struct mail *m = LIST_ENTRY(n, struct mail, node);

		mail_release(r->s.w, m);
	}
}

static void stream_down(struct worker *w, struct port_msg *p)
{
	struct component *c = component_find(w, sl_mk(p->name, p->n));
	struct remote *r = remote_of(c, p->epoch);

	if (r) {
		r->s.ending = true;
		let_go(r);
		component_stream_down(c, &r->s);
		free(r);
	}
	msg_free(&p->m);
}

static void acked(struct worker *w, struct port_msg *p)
{
	struct mail *m = mail_find(w, p->mail_id);

	if (m && m->comp && list_linked(&m->node)) {
		list_remove(&m->node);
		mail_acked(w, m);
	}
	msg_free(&p->m);
}

static void drained(struct worker *w, struct port_msg *p)
{
	struct component *c = component_find(w, sl_mk(p->name, p->n));

	if (c && c->home)
		component_drained(c);
	msg_free(&p->m);
}

void component_port_msg(void *worker, struct bus_msg *m)
{
	static void (*const handler[])(struct worker *w, struct port_msg *p) = {
		[PORT_UP] = stream_up,       [PORT_DOWN] = stream_down, [PORT_DRAINED] = drained,
		[PORT_DELIVER] = deliver,    [PORT_ACKED] = acked,      [PORT_CLOSE] = close_stream,
	};
	struct port_msg *p = container_of(m, struct port_msg, m);

	handler[p->kind](worker, p);
}

void component_ports_close(struct worker *w, struct component *c)
{
	struct list *n;

	while (c && (n = list_pop(&c->sessions))) {
		struct session *s = LIST_ENTRY(n, struct session, user_node);

		if (s->ops == &remote_ops)
			free(container_of(s, struct remote, s));
	}
	while (!c && (n = list_pop(&w->router->ports))) {
		free(LIST_ENTRY(n, struct port, node)->down);
		free(LIST_ENTRY(n, struct port, node));
	}
}
