/* stream.h - what every XMPP stream has, whoever is at the other end: connection, parser, headers,
 * stream errors, back-pressure, the way to another worker (RFC 6120 section 4).
 *
 * A kind (c2s.c, component.c) embeds struct stream as first member; its machine is the stream's
 * first member. The stream is freed by its machine's done, which runs when the connection is gone
 * (conn's on_closed), so never inside a callback of the parser. */
#ifndef TANDEM_XMPP_STREAM_H
#define TANDEM_XMPP_STREAM_H

#include "appliance/fsm/fsm.h"
#include "appliance/loop/conn.h"
#include "xmpp/access/access_int.h"

struct stream;
struct asession;

struct stream_kind {
	const char *name; /* for logs: "c2s" */
	struct sl content_ns;
	/* Parser callbacks, as in xml.h. Required. */
	int (*on_open)(void *self, const struct xml_node *root, struct sl content_ns);
	int (*on_element)(void *self, struct arena *a_take, struct xml_node *n);
	void (*on_close)(void *self);
	/* Events of the connection. Required, but tls_up when the kind has no TLS. */
	void (*tls_up)(struct stream *s);
	void (*lost)(struct stream *s, const struct err *why);
	/* The parser failed: condition is the stream error's name. Required. */
	void (*xml_error)(struct stream *s, const char *condition, const char *text);
	/* The parser paused because on_element said so; whatever was fed is consumed or kept. May
	 * be NULL. */
	void (*paused)(struct stream *s);
	/* It came from another worker (s->w is the new one, the connection is attached). Required.
	 */
	void (*arrived)(struct stream *s);
	/* Ask the peer to go: stream error (NULL: normal close). Required. */
	void (*end)(struct stream *s, const char *condition, struct sl text);
	/* The connection's output is full. Required. */
	void (*overflow)(struct stream *s);
	/* It has room again. May be NULL. */
	void (*drained)(struct stream *s);
	/* It finds no worker any more: free it without callbacks. Required. */
	void (*drop)(struct stream *s);
	bool rated; /* the rate limits apply once a session is bound */
};

#define STREAM_ID_OCTETS 20u

struct stream {
	struct fsm f; /* first */
	const struct stream_kind *kind;
	struct worker *w;
	const struct core_config *cfg; /* a reference */
	struct conn *conn;             /* NULL: gone */
	struct xml_stream *xml;
	struct list node; /* worker.conns */
	struct loop_timer
		timer;       /* the state's; in an established state: back-pressure and parking */
	struct asession *as; /* bound session, or NULL */
	struct addr_slot *addr;    /* counted in the table of addresses */
	const struct domain *host; /* whom the peer wants to talk to; of cfg */
	uint64_t deadline_ms;      /* login must be complete */
	uint64_t in_ms;            /* when bytes came last */
	/* Token buckets (limits stanza_rate, octet_rate): what is left, in thousandths. */
	int64_t stanza_tokens, octet_tokens;
	uint64_t tokens_ms;
	char id[STREAM_ID_OCTETS + 1];
	uint8_t port;      /* enum access_port */
	bool header_sent;  /* on the present stream */
	bool plain_header; /* XEP-0114: no version, no features */
	bool feeding;      /* inside the parser */
	bool paused;       /* the parser is paused and the connection not read */
	bool throttled;    /* by a rate limit: the timer goes on */
	bool counted;      /* in the table of addresses and in nstreams */
};

/* Make what all kinds share, around a descriptor of this worker. s is zeroed and owned by the kind.
 * On error fd is closed, all is released and s may be freed. kind, port, addr and counted are set
 * by the caller before. */
int stream_start(struct stream *s, struct worker *w, int fd, size_t out_max,
		 const struct xml_limits *lim, struct err *e);
/* Releases all of it (the connection must be gone). */
void stream_finish(struct stream *s);

/* Append to the output. A full output is reported by kind->overflow, later from the session's task,
 * or here. */
void stream_write(struct stream *s, struct sl data);
/* Our header; a fresh id. from/to: empty to leave out. */
void stream_write_header(struct stream *s, struct sl from, struct sl to);
/* <stream:error/> (with our header before it when there was none) and the end tag. extra:
 * serialised application-specific condition, or empty. */
void stream_write_error(struct stream *s, const char *condition, struct sl text, struct sl extra);
void stream_write_end(struct stream *s);

/* How long the peer may take to close its side: less when we are going. */
uint32_t stream_linger_ms(const struct stream *s);

/* Go on reading after a pause, when the reason for it has gone. May run parser callbacks. Not
 * inside them. */
void stream_resume_input(struct stream *s);
/* Charge octets or stanzas against the limits. True: over; the caller pauses, and the stream goes
 * on by itself. */
bool stream_over_rate(struct stream *s, uint32_t stanzas);
/* Milliseconds until the login must be complete, at least 1. */
uint32_t stream_login_ms(const struct stream *s);

/* What arms the state timers of both machines. */
void stream_arm(struct stream *s, uint32_t ms);

/* Whose certificate, before the peer has said whom it wants: the first host that has one; or NULL.
 */
struct tls_ctx *stream_any_tls(const struct stream *s);

/* "1.0" or any later version with the same major number or a greater one (RFC 6120 4.7.5): we
 * answer 1.0. */
bool stream_version_ok(struct sl version);
/* Common checks of a header (RFC 6120 4.7, 4.8, 4.9.3): NULL, or the stream error. */
const char *stream_header_check(const struct stream *s, const struct xml_node *root,
				struct sl content_ns);

/* Out of this worker, and into another: see access_move. E_STATE: it cannot move (TLS handshake,
 * connection gone). */
int stream_detach(struct stream *s);
int stream_attach(struct stream *s, struct worker *w, struct err *e);
/* A stream whose worker never came: any thread; frees connection and parser. */
void stream_drop(struct stream *s);

#endif
