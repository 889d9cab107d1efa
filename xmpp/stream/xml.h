/* xml.h - XML elements as a tree in an arena, and the incremental stream parser (expat) that makes
 * them.
 *
 * The three content namespaces (jabber:client, jabber:server, jabber:component:accept) are one
 * namespace here, NS_STANZA, so that a stanza crosses from one kind of stream to another by writing
 * it anew. Text is UTF-8 and unescaped in the tree. DTDs, entity declarations, comments and
 * processing instructions are refused (restricted-xml); so is XML 1.1 and anything but UTF-8
 * (unsupported-encoding). */
#ifndef TANDEM_XMPP_XML_H
#define TANDEM_XMPP_XML_H

#include "appliance/base/arena.h"
#include "appliance/base/base.h"
#include "appliance/base/buf.h"

/* Namespaces that the product knows, from the table in xml_ns.def: X(NS_ROSTER, "jabber:iq:roster")
 * ... */
enum xml_ns {
	NS_NONE, /* no namespace */
#define X(id, uri) id,
#include "xmpp/stream/xml_ns.def"
#undef X
	NS_OTHER, /* some URI that is not in the table: compare node->ns_uri */
	NS_MAX
};
struct sl xml_ns_uri(enum xml_ns ns); /* SL_NULL for NS_NONE, NS_OTHER, NS_STANZA */
enum xml_ns xml_ns_find(struct sl uri);

struct xml_attr {
	struct xml_attr *next;
	enum xml_ns ns;   /* NS_NONE for plain attributes, NS_XML for xml:lang */
	struct sl ns_uri; /* when ns is NS_OTHER */
	struct sl name, value;
};

struct xml_node {
	struct xml_node *next, *parent;
	struct xml_node *first, *last; /* children, elements and text alike */
	struct xml_attr *attrs;
	enum xml_ns ns;
	struct sl ns_uri; /* when ns is NS_OTHER */
	struct sl name;   /* empty: a text node */
	struct sl text;   /* text nodes only */
};

/* Reading. All return borrowed slices of the tree; SL_NULL / NULL when not there. */
struct sl xml_attr(const struct xml_node *n, struct sl name);
struct xml_node *xml_child(const struct xml_node *n, enum xml_ns ns,
			   struct sl name); /* empty name: any */
struct xml_node *xml_child_next(const struct xml_node *after, enum xml_ns ns, struct sl name);
struct xml_node *xml_first_element(const struct xml_node *n);
struct xml_node *xml_next_element(const struct xml_node *n); /* sibling */
static inline bool xml_is(const struct xml_node *n, enum xml_ns ns, struct sl name)
{
	return n && n->ns == ns && sl_eq(n->name, name);
}
/* Text of the element (its direct text children, joined in a when there are several). */
struct sl xml_text(struct arena *a, const struct xml_node *n);

/* Building (in the arena of the tree to be). NULL when out of memory; the builders accept NULL and
 * pass it on, so that a chain is tested once at its end. Slices are borrowed, not copied: they must
 * live as long. */
struct xml_node *xml_new(struct arena *a, enum xml_ns ns, struct sl name);
struct xml_node *xml_add(struct arena *a, struct xml_node *parent, enum xml_ns ns, struct sl name);
struct xml_node *xml_add_text(struct arena *a, struct xml_node *parent,
			      struct sl text); /* returns parent */
struct xml_node *xml_set(struct arena *a, struct xml_node *n, struct sl name,
			 struct sl value);          /* returns n */
void xml_unset(struct xml_node *n, struct sl name); /* remove an attribute, if it is there */
void xml_append(struct xml_node *parent,
		struct xml_node *child); /* child must be of the same or a longer life */
void xml_unlink(struct xml_node *child);

/* Writing: n and all below, where parent_ns is the default namespace in force: NS_STANZA directly
 * inside a stream or a stanza (NS_STREAM is taken as the same), NS_NONE for a document of its own.
 * If n itself is in NS_STREAM it gets the prefix "stream:", which the stream header declares. An
 * NS_STANZA element inside another namespace (a forwarded message) declares jabber:client. 0,
 * E_TOOBIG, E_NOMEM; then out is unchanged. */
int xml_write(struct buf *out, const struct xml_node *n, enum xml_ns parent_ns);
int xml_write_escaped(struct buf *out,
		      struct sl text); /* & < > ' ", and control characters that XML lacks */

/* ---- the stream parser --------------------------------------------------------------------- */

struct xml_limits {
	uint32_t stanza_octets; /* bytes on the wire of one first-level element */
	uint32_t depth;         /* of elements below the stream root */
	uint32_t attrs;         /* per element */
	uint32_t nodes;         /* per stanza */
};

struct xml_stream; /* one parser */
struct xml_pool;   /* a worker's expat parsers that no stream holds */

struct xml_stream_ops {
	/* The stream header: root has attributes and namespace, no children; lives during the call.
	 * content_ns: the default namespace it declared. Return < 0 to stop. */
	int (*on_open)(void *self, const struct xml_node *root, struct sl content_ns);
	/* A complete first-level element; a and the tree are handed over (arena_free when done).
	 * Return < 0 to stop for good, XML_PAUSE to stop after this element (xml_stream_resume goes
	 * on), 0 to go on. */
	int (*on_element)(void *self, struct arena *a_take, struct xml_node *n);
	void (*on_close)(void *self); /* </stream:stream> */
};
#define XML_PAUSE 1

int xml_pool_new(struct xml_pool **p_r, unsigned spare_max);
void xml_pool_free(struct xml_pool **p);

/* lim, ops: borrowed for the life of the stream. Any callback may free the stream; feed or resume
 * then ends with E_CLOSED and the memory is released as they return. E_NOMEM. */
int xml_stream_new(struct xml_pool *p, const struct xml_limits *lim,
		   const struct xml_stream_ops *ops, void *self, struct xml_stream **x_r);
void xml_stream_free(struct xml_stream **x);
/* Feed bytes. 0, or < 0 with e->code and e->clause = the stream error's element name:
 * "not-well-formed", "restricted-xml", "unsupported-encoding", "policy-violation" (limit; text says
 * which), "bad-namespace-prefix", "bad-format" (text between stanzas), "resource-constraint"
 * (memory), "undefined-condition" (the callback stopped it; e->code is what it returned).
 * XML_PAUSE: paused; the rest is kept inside, and so is what is fed while paused (up to
 * XML_HELD_MAX octets: policy-violation). After an error every further feed gives the same error;
 * after the closing tag of the root everything is ignored. The result does not depend on how the
 * bytes are split (only an error inside an unfinished token of over 1 KiB may be found later). */
#define XML_HELD_MAX (1u << 20)
int xml_stream_feed(struct xml_stream *x, struct sl data, struct err *e);
int xml_stream_resume(struct xml_stream *x, struct err *e);
bool xml_stream_paused(const struct xml_stream *x);
/* A new stream begins (after STARTTLS or SASL): the old stream's state is forgotten. Allowed inside
 * on_element when it returns XML_PAUSE or < 0 (takes effect when feed returns). Bytes that came
 * after the element that paused are kept and are the beginning of the new stream (a client may
 * pipeline); xml_stream_resume goes on with them. A paused stream stays paused. */
void xml_stream_restart(struct xml_stream *x);
/* Octets fed but not parsed yet, because of a pause. After <starttls/> there must be none: the
 * caller checks (after the call that paused has returned). White space does not count. */
size_t xml_stream_unread(const struct xml_stream *x);
/* Give the parser back to the pool if there is no partial token and the stream is between stanzas
 * (true), to save memory while idle; the next feed takes one and primes it with the stream header.
 * A stream whose header declares what nearly all do (jabber:client, and the prefix stream) does so
 * by itself after every feed: its parser goes on, as it is, with another stream of the pool. */
bool xml_stream_park(struct xml_stream *x);
bool xml_stream_parked(const struct xml_stream *x); /* it has no parser now */
/* To another worker: its pool, and whom to call from now on. Paused or not, between any two octets;
 * not in a callback. The hand-over itself (a mailbox) must order the memory. */
void xml_stream_move(struct xml_stream *x, struct xml_pool *p, const struct xml_stream_ops *ops,
		     void *self);
void xml_stream_set_limits(struct xml_stream *x,
			   const struct xml_limits *lim); /* lim must outlive x */
/* Bytes consumed since the stream began: for traffic counters. */
uint64_t xml_stream_octets(const struct xml_stream *x);

/* What the element that on_element is called with (or was, last) took on the wire. */
uint32_t xml_stream_stanza_octets(const struct xml_stream *x);

/* Parse one stored element (from our own store, or a control command) into a. If it declares no
 * namespace it is in NS_STANZA. The same XML is refused as on a stream. 0, E_SYNTAX, E_NOMEM. */
int xml_parse_one(struct arena *a, struct sl text, struct xml_node **n_r, struct err *e);

#endif
