/* component_int.h - what component.c (the machine, XEP-0198) and component_auth.c (TLS, SASL, the
 * handshake) share. Nobody else includes it. */
#ifndef TANDEM_TRANSLATORS_COMPONENT_INT_H
#define TANDEM_TRANSLATORS_COMPONENT_INT_H

#include "appliance/fsm/fsm.h"
#include "appliance/loop/conn.h"
#include "translators/common/component.h"

struct scram_client;

enum {
	ST_BACKOFF,
	ST_CONNECTING,
	ST_TLS,
	ST_HEADER,
	ST_FEATURES,
	ST_STARTTLS,
	ST_AUTH,
	ST_HANDSHAKE,
	ST_BIND_HEADER,
	ST_BIND_FEATURES,
	ST_ENABLE,
	ST_UP,
	ST_STOPPED
};
enum {
	EV_RETRY,
	EV_CONNECTED,
	EV_TLS_UP,
	EV_HEADER_SASL,
	EV_HEADER_0114,
	EV_FEATURES, /* ev: the element */
	EV_PROCEED,
	EV_CHALLENGE, /* ev: the element, also of SUCCESS */
	EV_SUCCESS,
	EV_REFUSED,
	EV_HANDSHAKE,
	EV_ENABLED,
	EV_NO_SM,
	EV_LOST,
	EV_TIMEOUT,
	EV_STOP
};

struct sent {
	uint64_t cookie;
};

struct component {
	struct fsm fsm;
	struct loop *loop;
	struct resolver *resolver;
	struct resolve_req *query;
	const struct component_ops *ops;
	void *arg;
	char *domain, *unix_path, *host;
	uint16_t port;
	struct secret secret;
	enum component_secure secure;
	struct tls_ctx *tls_ctx;
	bool tls_verified;
	bool tls_due; /* <proceed/> came, the parser has not stopped behind it yet */
	struct scram_client *scram;
	char *id; /* of the stream */
	size_t out_octets;
	uint32_t inflight_max;
	struct conn *conn;
	struct xml_pool *pool;
	struct xml_stream *xml;
	struct loop_timer timer, tcp_ack;
	struct loop_task ack_task;
	uint32_t backoff_ms;
	uint32_t stream; /* generation: tickets of older ones are ignored */
	bool custody, was_up, paused;
	bool ack_due, request_due, request_out;
	/* incoming: done flags of stanzas h+1 ... in_seq, one octet each */
	uint32_t h, in_seq;
	struct buf done;
	/* outgoing: cookies of stanzas acked+1 ..., in order */
	uint32_t acked;
	struct buf sent;
	const char *why;
};

int component_open_stream(struct component *c);

bool component_tls_first(const void *self, const void *ev);
bool component_wants_tls(const void *self, const void *ev);
bool component_can_auth(const void *self, const void *ev);
bool component_may_0114(const void *self, const void *ev);
int component_act_direct(void *self, const void *ev);
int component_act_starttls(void *self, const void *ev);
int component_act_proceed(void *self, const void *ev);
int component_act_auth(void *self, const void *ev);
int component_act_response(void *self, const void *ev);
int component_act_success(void *self, const void *ev);
int component_act_handshake(void *self, const void *ev);
int component_act_insecure(void *self, const void *ev);
/* The parser has stopped behind <proceed/>. < 0: the connection must go. */
int component_begin_tls(struct component *c);

#endif
