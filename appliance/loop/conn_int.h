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
	const char *why_text; /* static */
	int why_errno;
	int8_t why_code;
	uint8_t state;
	bool paused : 1;
	bool high : 1;        /* on_drained is owed once the output is below half */
	bool say_drained : 1; /* it is: for conn_work to report */
	bool eof : 1;         /* the peer's last byte was read */
	bool force_read : 1;  /* bytes may wait that no event will tell of */
	struct conn_peer peer;
};

struct conn *conn_alloc(struct loop *l, const struct conn_ops *ops, void *self, size_t out_max);
struct conn_aux *conn_aux_new(struct conn *c, size_t n_addr);
void conn_aux_free(struct conn *c);
void conn_peer_set(struct conn *c, const struct sockaddr *sa);
void conn_tune(int fd, int family);

/* The life ends: the descriptor is closed now, on_closed follows from the loop. text is static; sys_errno 0:
 * none. Does nothing when already dead. */
void conn_fail(struct conn *c, int code, int sys_errno, const char *text);
void conn_work_later(struct conn *c);
void conn_ready(struct loop_fd *lf, unsigned ready);

/* conn_connect.c */
void conn_connect_ready(struct conn *c);

#endif
