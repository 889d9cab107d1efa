/* conn.h - a buffered byte stream over TCP or a Unix socket, plain or TLS, owned by one loop.
 *
 * Reads go through the loop's shared scratch buffer: an idle connection holds no read buffer.
 * Writes are gathered in one bounded buffer and flushed once at the end of the turn, after all
 * tasks (one write, or one TLS record per 16 KiB); the buffer is given back when it is empty. A
 * connection may move between loops (conn_detach, conn_attach).
 *
 * Lifetime: the constructors give a conn; on_closed is called exactly once, always from the loop
 * (never inside a conn_* call of the owner), after which the conn is gone. conn_close and conn_kill
 * lead there too. Only conn_drop ends one without on_closed. No call raises SIGPIPE. */
#ifndef TANDEM_LOOP_CONN_H
#define TANDEM_LOOP_CONN_H

#include "appliance/base/base.h"
#include "appliance/loop/loop.h"

struct conn;
struct tls_ctx;
struct addrinfo;

struct conn_ops {
	/* Bytes came; data is borrowed for the call, and lies in loop_scratch. More may follow in
	 * the same turn (bounded by fairness: at most 256 KiB a connection a turn). May call any
	 * conn_ function, also conn_kill and conn_detach. Required. */
	void (*on_data)(void *self, struct sl data);
	/* Outgoing connect succeeded. NULL for accepted connections. */
	void (*on_connected)(void *self);
	/* TLS handshake done; conn_tls_info tells what was agreed. NULL: not interested. */
	void (*on_tls)(void *self);
	/* The output buffer fell to half of its limit or less after it had been above that, or
	 * after conn_write had returned E_LIMIT. NULL: not interested. */
	void (*on_drained)(void *self);
	/* Gone. why->code: 0 we closed, E_CLOSED peer closed or reset, E_IO (also a refused
	 * connect), E_TIMEOUT (connect), E_AUTH (TLS handshake or verification), E_NOMEM. The conn
	 * must not be used after this returns; until then only the calls that ask (conn_peer_text
	 * ...). Required. */
	void (*on_closed)(void *self, const struct err *why);
};

/* Take over a connected descriptor (accepted, or one end of a socketpair). Sets it non-blocking,
 * close-on-exec and, for TCP, TCP_NODELAY.
 * out_max  limit of the output buffer in octets
 * Returns 0, E_NOMEM, E_IO, E_LIMIT (select back end); on error fd is closed. */
int conn_new(struct loop *l, int fd, const struct conn_ops *ops, void *self, size_t out_max,
	     struct conn **c_r, struct err *e);
/* Start an outgoing connection; the result comes by on_connected or on_closed. What is written
 * before that goes out after it. addr        as from resolve.h, borrowed for the call; tried in
 * turn until one connects timeout_ms  for each address Returns 0, E_NOTFOUND (empty list), E_NOMEM.
 */
int conn_connect(struct loop *l, const struct addrinfo *addr, uint32_t timeout_ms,
		 const struct conn_ops *ops, void *self, size_t out_max, struct conn **c_r,
		 struct err *e);
/* The same for a Unix socket. 0, E_TOOBIG (path), E_NOMEM. */
int conn_connect_unix(struct loop *l, const char *path, const struct conn_ops *ops, void *self,
		      size_t out_max, struct conn **c_r, struct err *e);

/* Change who hears of it (after a hand-over between layers). */
void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *self);

/* Append to the output; flushed at the end of the turn. 0; E_LIMIT (nothing appended: the peer does
 * not read; detach or drop it); E_CLOSED (closing or gone); E_STATE (detached); E_NOMEM. */
int conn_write(struct conn *c, struct sl data);
int conn_write2(struct conn *c, struct sl a, struct sl b); /* both or nothing */
/* Room for n octets written in place (NULL: limit, memory or closed); then conn_write_commit(n or
 * less) before any other call for c. */
char *conn_write_reserve(struct conn *c, size_t n);
/* The same, but what waits is written first if the limit is in the way, and what is larger than the
 * limit by itself may be the only thing that waits. */
char *conn_write_reserve_hard(struct conn *c, size_t n);
void conn_write_commit(struct conn *c, size_t n);
void conn_flush(struct conn *c);                 /* now instead of at the end of the turn */
size_t conn_output_octets(const struct conn *c); /* not yet given to the kernel */
void conn_set_output_max(struct conn *c, size_t out_max);
/* How far the stream has come, in octets on the wire: handed to the system since the beginning, and
 * of these what the peer's TCP has not acknowledged. So what was written when conn_output_octets
 * was 0 and conn_sent_octets was S has arrived when sent - unacked >= S. */
uint64_t conn_sent_octets(const struct conn *c);
uint64_t conn_unacked_octets(const struct conn *c);
/* Everything written so far was acknowledged by the peer's TCP (the kernel's queue and our buffer
 * are empty). A Unix socket counts as acknowledged when its buffer was read. One system call. These
 * may also be asked inside on_closed: how it was when the descriptor was closed. */
bool conn_output_acked(const struct conn *c);

/* Stop and go on reading (back-pressure). A paused connection does not see the peer's end before it
 * goes on, but still notices errors on write. Pausing costs a system call only if bytes come. */
void conn_read_pause(struct conn *c);
void conn_read_resume(struct conn *c);

/* TLS. What was written before still goes out in the clear; what is written from now on waits for
 * the end of the handshake. On failure of the handshake: on_closed with E_AUTH.
 *
 * Server: the handshake starts with the next bytes. No plaintext may stand behind the one that
 * asked for TLS (STARTTLS command injection): the caller checks that nothing follows <starttls/> in
 * its on_data, conn_tls_server refuses when the kernel holds more. On a connection that starts with
 * TLS, call it before anything is read. Client: starts at once; host is for SNI and the certificate
 * check (ctx says whether to verify). 0, E_STATE (not open, or TLS already), E_DENIED (plaintext
 * pending), E_SYNTAX (host), E_CLOSED, E_NOMEM. On error nothing has changed; a caller of E_DENIED
 * ends the connection. */
int conn_tls_server(struct conn *c, struct tls_ctx *ctx, struct err *e);
int conn_tls_client(struct conn *c, struct tls_ctx *ctx, const char *host, struct err *e);

struct conn_tls_info {
	const char *version, *cipher; /* static */
	bool tls13;
	struct sl alpn; /* borrowed from the connection */
};
/* After on_tls. */
bool conn_is_tls(const struct conn *c);
int conn_tls_info(const struct conn *c, struct conn_tls_info *i_r); /* 0, E_STATE */
/* Channel bindings. exporter: RFC 9266, 32 octets, TLS 1.3 only (E_UNSUPPORTED otherwise).
 * end_point: RFC 5929, hash of the server's certificate (ours, or on a client the peer's); *n_r
 * octets (<= 64) into out; E_UNSUPPORTED when the certificate's signature has no hash (Ed25519).
 * E_STATE: no TLS. */
int conn_tls_exporter(const struct conn *c, unsigned char out[32]);
/* RFC 5929 tls-unique, <= 64 octets. For TLS 1.3 no standard defines it, but clients built on
 * Python's ssl module send the first Finished all the same, and refuse to log in otherwise; it
 * binds as well there. Never offered first. E_STATE: no TLS. */
int conn_tls_unique(const struct conn *c, unsigned char out[64], size_t *n_r);
int conn_tls_end_point(const struct conn *c, unsigned char out[64], size_t *n_r);

/* Flush what is there, then close (TLS close_notify, shutdown, wait for the peer's end); gives up
 * after linger_ms. Input is thrown away from now on. */
void conn_close(struct conn *c, uint32_t linger_ms);
/* Close now, dropping output. */
void conn_kill(struct conn *c);

/* Moving house: takes the connection out of its loop. Until conn_attach in the other loop's thread
 * nothing reads or writes it; unsent output and TLS state with its pending bytes go with it.
 * Allowed inside its own callbacks, as the owner's last touch of c there. 0, E_STATE (connecting,
 * in a TLS handshake, closing, or the peer has ended), E_NOMEM. */
int conn_detach(struct conn *c);
/* attach forces one read attempt (in the loop, not within this call); ops and self are set anew. 0,
 * E_STATE, E_LIMIT, E_IO, E_NOMEM: c is still detached, try elsewhere or conn_drop it. */
int conn_attach(struct conn *c, struct loop *l, const struct conn_ops *ops, void *self,
		struct err *e);
/* Close and free a connection that is detached and finds no new loop (attach failed, message
 * undeliverable). Any thread; no callback. */
void conn_drop(struct conn **c);

/* Who is there; known also after the connection broke. "192.0.2.1:5222", "[2001:db8::1]:5222",
 * "unix". An IPv4 peer of a dual-stack listener is shown as IPv4. */
#define CONN_ADDR_MAX 64
void conn_peer_text(const struct conn *c, char dst[CONN_ADDR_MAX]);
void conn_peer_host(const struct conn *c, char dst[CONN_ADDR_MAX]); /* no port: for limits */
/* Unix sockets: SO_PEERCRED. 0, E_UNSUPPORTED (not a Unix socket), E_IO. */
int conn_peer_uid(const struct conn *c, uint32_t *uid_r);
int conn_fd(const struct conn *c);            /* -1 when gone */
struct loop *conn_loop(const struct conn *c); /* NULL: detached */

/* Listeners: accept as many as are there (at most 64 a turn) and hand each fd, non-blocking and
 * close-on-exec, to the callback, which owns it and may free the listener. When descriptors or
 * memory run out, accepting rests for a second, with a warning in the log. */
struct listener;
int listener_new_tcp(struct loop *l, const char *addr, uint16_t port, int backlog,
		     void (*on_accept)(void *arg, int fd), void *arg, struct listener **ln_r,
		     struct err *e);
int listener_new_unix(struct loop *l, const char *path, unsigned mode,
		      void (*on_accept)(void *arg, int fd), void *arg, struct listener **ln_r,
		      struct err *e);
/* Adopt a listening descriptor opened earlier (before dropping rights). On error fd is closed. */
int listener_new_fd(struct loop *l, int fd, void (*on_accept)(void *arg, int fd), void *arg,
		    struct listener **ln_r, struct err *e);
void listener_pause(struct listener *ln);
void listener_resume(struct listener *ln);
void listener_free(struct listener **ln);
/* Open and bind only (no loop yet). addr is numeric; "*" is every IPv4 and IPv6 address (one
 * dual-stack socket; plain IPv4 where the host has no IPv6). 0, E_EXISTS with a text that names
 * address and port when it is in use, E_SYNTAX (addr), E_DENIED (port below 1024), E_IO. */
int listen_open_tcp(const char *addr, uint16_t port, int backlog, int *fd_r, struct err *e);
/* Removes a stale socket first; nobody can connect before the mode is set. 0, E_EXISTS (a running
 * program listens there, or path is no socket), E_TOOBIG (path), E_IO. */
int listen_open_unix(const char *path, unsigned mode, int *fd_r, struct err *e);

#endif
