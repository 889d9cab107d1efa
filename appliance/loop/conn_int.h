/* conn_int.h - what conn.c, conn_connect.c and conn_tls.c share; nobody else includes it. */
#ifndef TANDEM_LOOP_CONN_INT_H
#define TANDEM_LOOP_CONN_INT_H

#include "appliance/loop/conn.h"
#include "appliance/loop/loop_int.h"

#include <sys/socket.h>

/* Most octets that one connection reads in one turn. */
#define CONN_TURN_OCTETS (256u * 1024u)
/* How long output may still drain after the peer has closed its side. */
#define CONN_EOF_LINGER_MS 10000u

enum conn_state {
	CONN_CONNECTING,
	CONN_OPEN,
	CONN_EOF,     /* peer sent its last byte; our output still goes out */
	CONN_CLOSING, /* conn_close: output still goes out, input is thrown away */
	CONN_LINGER,  /* our side is shut down; waiting for the peer's end */
	CONN_DEAD,    /* descriptor closed; on_closed is due */
};

/* The peer's address, kept because the kernel forgets it when the connection breaks. */
struct conn_peer {
	uint8_t family; /* AF_*, 0: unknown */
	uint16_t port;
	uint32_t scope;
	unsigned char addr[16];
};

struct conn_addr {
	socklen_t len;
	struct sockaddr_storage ss;
};

/* What only a connection that connects or lingers needs. */
struct conn_aux {
	struct conn *c;
	struct loop_timer timer;
	uint32_t timeout_ms;
	struct err err; /* last failure of a connect */
	size_t n, next;
	struct conn_addr addr[];
};

struct conn {
	struct loop_fd lf;
	struct loop_task work;
	struct loop *loop; /* NULL: detached */
	const struct conn_ops *ops;
	void *self;
	struct conn_tls *tls; /* NULL: plain */
	struct conn_aux *aux;
	struct outbuf out;
	size_t out_max;
	uint64_t end_unacked; /* conn_unacked_octets when the descriptor was closed */
	size_t end_out;       /* conn_output_octets then: thrown away */
	uint64_t sent;        /* octets that the system has taken, TLS overhead included */
	const char *why_text; /* static */
	int why_errno;
	int8_t why_code;
	uint8_t state;
	bool paused : 1;
	bool high : 1;        /* on_drained is owed once the output is below half */
	bool say_drained : 1; /* it is: for conn_work to report */
	bool tls_eof : 1;     /* close_notify came */
	bool plain_in : 1;    /* something was read in the clear */
	bool eof : 1;         /* the peer's last byte was read */
	bool force_read : 1;  /* bytes may wait that no event will tell of */
	struct conn_peer peer;
};

struct conn *conn_alloc(struct loop *l, const struct conn_ops *ops, void *self, size_t out_max);
struct conn_aux *conn_aux_new(struct conn *c, size_t n_addr);
void conn_aux_free(struct conn *c);
void conn_peer_set(struct conn *c, const struct sockaddr *sa);
void conn_tune(int fd, int family);

/* The life ends: the descriptor is closed now, on_closed follows from the loop. text is static;
 * sys_errno 0: none. Does nothing when already dead. */
void conn_fail(struct conn *c, int code, int sys_errno, const char *text);
void conn_work_later(struct conn *c);
void conn_ready(struct loop_fd *lf, unsigned ready);
/* The peer's last byte was read, or its close_notify. */
void conn_peer_ended(struct conn *c);
void conn_io_failed(struct conn *c, int sys_errno, const char *text);
/* One read(2) into dst of LOOP_SCRATCH_OCTETS. 0: nothing there, the end, or a failure; both are
 * dealt with. */
size_t conn_read_once(struct conn *c, char *dst);
/* One send(2) of at most max octets of the output; the rest waits for LOOP_WRITE. */
void conn_plain_output(struct conn *c, size_t max);

/* conn_connect.c */
void conn_connect_ready(struct conn *c);

/* conn_tls.c; all but the last with c->tls set */
void conn_tls_input(struct conn *c); /* owner's callbacks: l->cur as in conn.c */
void conn_tls_output(struct conn *c);
bool conn_tls_ready(const struct conn *c);       /* handshake done */
bool conn_tls_has_left(const struct conn *c);    /* input that no event will tell of */
bool conn_tls_wants_write(const struct conn *c); /* for its own needs: input must run */
bool conn_tls_goodbye(struct conn *c);     /* send close_notify; false: waits for LOOP_WRITE */
int conn_tls_detach(struct conn *c);       /* 0, E_STATE (handshake), E_NOMEM */
int conn_tls_prepare_loop(struct loop *l); /* 0, E_NOMEM */
void conn_tls_free(struct conn *c);        /* also when there is none */

#endif
