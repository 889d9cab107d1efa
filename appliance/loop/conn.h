/* conn.h - a buffered byte stream over TCP or a Unix socket, plain or TLS, owned by one loop.
 *
 * Reads go through the loop's shared scratch buffer: an idle connection holds no read buffer. Writes are
 * gathered in one bounded buffer and flushed once at the end of the turn (one write, or one TLS record);
 * the buffer is freed when it is empty. A connection may move between loops (conn_detach/attach).
 *
 * Lifetime: conn_* constructors give a conn; on_closed is called exactly once, always from the loop (never
 * inside a conn_* call of the owner), after which the conn is gone. conn_close/conn_kill lead there too. */
#ifndef TANDEM_LOOP_CONN_H
#define TANDEM_LOOP_CONN_H

#include "appliance/base/base.h"
#include "appliance/loop/loop.h"

struct conn;
struct tls_ctx;
struct addrinfo;

struct conn_ops {
	/* Bytes came; data is borrowed for the call. More may follow in the same turn (bounded by fairness:
	 * at most 256 KiB a connection a turn). May call any conn_ function. Required. */
	void (*on_data)(void *self, struct sl data);
	/* Outgoing connect succeeded. NULL for accepted connections. */
	void (*on_connected)(void *self);
	/* TLS handshake done; conn_tls_info tells what was agreed. NULL if TLS is never used. */
	void (*on_tls)(void *self);
	/* The output buffer fell below half of its limit after conn_write had returned E_LIMIT or
	 * conn_output_octets was above it. NULL: not interested. */
	void (*on_drained)(void *self);
	/* Gone. why->code: 0 we closed, E_CLOSED peer closed, E_IO, E_TIMEOUT (connect), E_AUTH (TLS
	 * verification or handshake). The conn must not be used any more. Required. */
	void (*on_closed)(void *self, const struct err *why);
};

/* Take over a connected descriptor (accepted, or one end of a socketpair). Sets it non-blocking and, for
 * TCP, TCP_NODELAY. out_max: limit of the output buffer in octets. On error fd is closed. */
int conn_new(struct loop *l, int fd, const struct conn_ops *ops, void *self, size_t out_max,
	     struct conn **c_r, struct err *e);
/* Start an outgoing connection; result by on_connected or on_closed. addr as from resolve.h (first of the
 * list that connects, tried in turn) - borrowed for the call. timeout_ms is for each address. */
int conn_connect(struct loop *l, const struct addrinfo *addr, uint32_t timeout_ms, const struct conn_ops *ops,
		 void *self, size_t out_max, struct conn **c_r, struct err *e);
int conn_connect_unix(struct loop *l, const char *path, const struct conn_ops *ops, void *self, size_t out_max,
		      struct conn **c_r, struct err *e);

/* Change who hears of it (after a hand-over between layers). */
void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *self);

/* Append to the output. 0; E_LIMIT (nothing appended: the peer does not read; detach or drop it); E_CLOSED;
 * E_NOMEM. Flushed at the end of the turn. */
int conn_write(struct conn *c, struct sl data);
int conn_write2(struct conn *c, struct sl a, struct sl b); /* both or nothing */
/* Room for n octets written in place (NULL: limit or closed); then conn_write_commit(n or less). */
char *conn_write_reserve(struct conn *c, size_t n);
void conn_write_commit(struct conn *c, size_t n);
void conn_flush(struct conn *c); /* now instead of at the end of the turn */
size_t conn_output_octets(const struct conn *c); /* not yet given to the kernel */
void conn_set_output_max(struct conn *c, size_t out_max);
/* Everything written so far was acknowledged by the peer's TCP (SIOCOUTQ is 0 and our buffer is empty). A
 * Unix socket counts as acknowledged when its buffer was read. */
bool conn_output_acked(const struct conn *c);

/* Stop and go on reading (back-pressure; paused connections still notice errors on write). */
void conn_read_pause(struct conn *c);
void conn_read_resume(struct conn *c);

/* TLS. Server: the handshake starts with the next bytes; bytes that came before it in the same read than
 * the caller has consumed must not exist (STARTTLS command injection: the caller checks that nothing
 * followed <starttls/>; conn refuses pending plaintext itself). Client: starts at once; host is for SNI and
 * certificate check (ctx says whether to verify). */
int conn_tls_server(struct conn *c, struct tls_ctx *ctx, struct err *e);
int conn_tls_client(struct conn *c, struct tls_ctx *ctx, const char *host, struct err *e);

struct conn_tls_info {
	const char *version, *cipher; /* static */
	bool tls13;
	struct sl alpn;               /* borrowed from the connection */
};
bool conn_is_tls(const struct conn *c);
int conn_tls_info(const struct conn *c, struct conn_tls_info *i_r);
/* Channel bindings. exporter: RFC 9266, 32 octets, TLS 1.3 only (E_UNSUPPORTED otherwise). end_point: RFC
 * 5929 hash of our server certificate; *n_r octets (<= 64) into out. */
int conn_tls_exporter(const struct conn *c, unsigned char out[32]);
int conn_tls_end_point(const struct conn *c, unsigned char out[64], size_t *n_r);

/* Flush what is there, then close (TLS close_notify, shutdown); gives up after linger_ms. */
void conn_close(struct conn *c, uint32_t linger_ms);
/* Close now, dropping output. */
void conn_kill(struct conn *c);

/* Moving house: takes the connection out of its loop. Until conn_attach in the other loop's thread nothing
 * reads or writes it; unsent output and TLS state go with it. attach forces one read attempt. ops and self
 * are set anew by attach. Never during a TLS handshake (E_STATE). */
int conn_detach(struct conn *c);
int conn_attach(struct conn *c, struct loop *l, const struct conn_ops *ops, void *self, struct err *e);
/* Close and free a connection that is detached and finds no new loop (attach failed, message undeliverable).
 * Any thread; no callback. */
void conn_drop(struct conn **c);

/* Who is there. Unix peers: E_UNSUPPORTED for addr text "unix". */
#define CONN_ADDR_MAX 64
void conn_peer_text(const struct conn *c, char dst[CONN_ADDR_MAX]); /* "192.0.2.1:5222", "[2001:db8::1]:5222", "unix" */
void conn_peer_host(const struct conn *c, char dst[CONN_ADDR_MAX]); /* without port; for per-address limits */
int conn_peer_uid(const struct conn *c, uint32_t *uid_r);           /* Unix sockets: SO_PEERCRED */
int conn_fd(const struct conn *c);
struct loop *conn_loop(const struct conn *c);

/* Listeners: accept as many as are there (bounded per turn) and hand each fd to the callback, which owns it.
 * On EMFILE accepts stop for a second with a warning. */
struct listener;
int listener_new_tcp(struct loop *l, const char *addr, uint16_t port, int backlog,
		     void (*on_accept)(void *arg, int fd), void *arg, struct listener **ln_r, struct err *e);
/* Removes a stale socket first; mode is chmod'ed. */
int listener_new_unix(struct loop *l, const char *path, unsigned mode, void (*on_accept)(void *arg, int fd), void *arg,
		      struct listener **ln_r, struct err *e);
/* Adopt a listening descriptor opened earlier (before dropping rights). */
int listener_new_fd(struct loop *l, int fd, void (*on_accept)(void *arg, int fd), void *arg, struct listener **ln_r, struct err *e);
void listener_pause(struct listener *ln);
void listener_resume(struct listener *ln);
void listener_free(struct listener **ln);
/* Open and bind only (no loop yet). "*" is every IPv4 and IPv6 address (one dual-stack socket; plain IPv4
 * where the host has no IPv6). E_EXISTS with a text that names address and port when it is in use. */
int listen_open_tcp(const char *addr, uint16_t port, int backlog, int *fd_r, struct err *e);
int listen_open_unix(const char *path, unsigned mode, int *fd_r, struct err *e);

#endif
