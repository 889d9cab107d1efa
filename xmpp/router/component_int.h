/* component_int.h - a component in a worker: what component.c (the home of its domain: which
 * stream, which rows) and component_port.c (streams in other workers) share. Nobody else includes
 * it. */
#ifndef TANDEM_XMPP_COMPONENT_INT_H
#define TANDEM_XMPP_COMPONENT_INT_H

#include "xmpp/router/router_int.h"

#define COMPONENT_SLOTS 256u

/* Conversations that share a hash keep to one stream as long as something of theirs is on its way
 * there. */
struct slot {
	struct session *s; /* NULL: chosen when something comes */
	uint32_t inflight; /* mail */
	uint32_t rowless_s; /* a message without row was sent (loop seconds; 0: never) */
};

struct component {
	struct hnode hn;
	struct worker *w;
	struct list sessions; /* struct session.user_node; at home: also those of other workers */
	unsigned nsessions;
	bool home; /* this worker owns the domain; otherwise the rest is not used */
	struct pager pager;
	struct slot slot[COMPONENT_SLOTS];
	size_t n;
	char name[];
};

static inline struct sl component_name(const struct component *c)
{
	return sl_mk(c->name, c->n);
}

struct component *component_find(struct worker *w, struct sl name);
struct component *component_get(struct worker *w, struct sl name); /* NULL: no memory */

/* At home: a stream came, or went (what it held has been handed back). */
void component_stream_up(struct component *c, struct session *s);
void component_stream_down(struct component *c, struct session *s);

/* Not at home: the same of a stream of this worker. E_NOMEM. */
int port_open(struct component *c, struct session *s);
void port_close(struct component *c, struct session *s);
void port_drained(struct component *c);
/* At the end: the remote streams that a component knows; with c NULL the worker's own ports. */
void component_ports_close(struct worker *w, struct component *c);

/* CUST-8: <custody/> with the row's id. */
struct sl custody_element(uint64_t id, char *dst, size_t cap);

#endif
