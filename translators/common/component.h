/* component.h - the client end of the component seam (DESIGN section 5): a translator's stream to
 * its XMPP server.
 *
 * To our core: a Unix socket, a version 1.0 stream, SASL EXTERNAL, XEP-0198. To our core on another
 * box: TCP, STARTTLS or TLS from the first octet, SCRAM. To a foreign server: TCP and XEP-0114;
 * <enable/> is tried and timed out, because Prosody refuses it and ejabberd does not answer. The
 * life of the stream is a row table (rules COMP-n, docs/rules/component.md); it reconnects by
 * itself with back-off and jitter.
 *
 * Custody: each incoming stanza has a ticket; h covers it when the owner has called component_done
 * for it and all before it. Each outgoing stanza has a cookie; on_acked gives it back when the
 * server's h covers it (without XEP-0198: when the peer's TCP has the bytes). At a new stream
 * nothing is remembered: the owner sends its outbox again (CUST-9).
 *
 * Thread: the loop's. */
#ifndef TANDEM_TRANSLATORS_COMPONENT_H
#define TANDEM_TRANSLATORS_COMPONENT_H

#include "appliance/loop/loop.h"
#include "xmpp/stream/stanza.h"

struct component;

/* What the server may have been configured to let through (limits.component_stanza_octets), and
 * what it adds. A stanza that we refuse it would send again for ever; so would we one that we
 * cannot write. */
#define COMPONENT_STANZA_MAX ((16u << 20) + (64u << 10))

struct tls_ctx;

/* TLS over TCP (COMP-15, COMP-16). */
enum component_secure {
	COMPONENT_TLS_NEVER,   /* XEP-0114 in the clear */
	COMPONENT_TLS_OFFERED, /* STARTTLS and SASL where the server has them, else as NEVER */
	COMPONENT_TLS_ALWAYS,  /* STARTTLS, or no stream */
	COMPONENT_TLS_FIRST    /* from the first octet */
};

struct component_cfg { /* copied */
	struct sl domain;
	struct sl unix_path; /* set: our core */
	struct sl host;      /* else over TCP (numeric address or name) */
	uint16_t port;
	struct sl secret; /* XEP-0114 and SCRAM */
	enum component_secure secure;
	struct tls_ctx *tls_ctx; /* a client's, a reference is taken; needed unless NEVER */
	bool tls_verified;       /* tls_ctx checks the server's certificate */
	size_t out_octets;       /* output limit; 0: one stanza of the largest size and 4 MiB */
	uint32_t inflight_max; /* incoming stanzas without component_done before reading pauses; 0:
				  4096 */
};

struct component_ticket {
	uint32_t stream, seq;
};

struct component_ops {
	void (*on_up)(void *arg, bool custody);
	void (*on_down)(void *arg, const char *reason);
	/* Takes st (unsealed). Call component_done for t exactly once, any time. */
	void (*on_stanza)(void *arg, struct stanza *st_take, struct component_ticket t);
	void (*on_acked)(void *arg, uint64_t cookie);
};

struct resolver;

/* r: for host names; may be NULL with a Unix socket. Starts to connect at once. */
int component_new(struct loop *l, struct resolver *r, const struct component_cfg *cfg,
		  const struct component_ops *ops, void *arg, struct component **c_r,
		  struct err *e);
/* Closes the stream; no callbacks any more. */
void component_free(struct component **c);
bool component_is_up(const struct component *c);
/* xml: one complete stanza in the content namespace, borrowed. 0; E_STATE: not up; E_LIMIT: the
 * server does not read (the stream is reset, on_down follows). */
int component_send(struct component *c, struct sl xml, uint64_t cookie);
/* Also for a stanza without promise: cookie 0 is never reported. A ticket of an earlier stream is
 * ignored. */
void component_done(struct component *c, struct component_ticket t);
/* Instead of component_done: its custody cannot be taken. The stream is reset, and what h does not
 * cover comes again. */
void component_again(struct component *c, struct component_ticket t);
/* The server reads what we send: there is room for more than one large stanza. Wait for on_acked
 * otherwise. */
bool component_has_room(const struct component *c);
const char *component_state(const struct component *c);

struct fsm_def;
extern const struct fsm_def component_fsm;

#endif
