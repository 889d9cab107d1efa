/* xl.h - the XMPP load generator's own small client, shared by the modes of xmppload.
 *
 * It knows nothing of Tandem's code, so that a fault there is not hidden by using it on both sides:
 * raw sockets, epoll, a scanner that only finds where a stanza ends, and OpenSSL where TLS is asked
 * for. One thread, all connections in one table. Every error ends the program: a benchmark with a
 * failed connection has no result. */
#ifndef TANDEM_TESTS_BENCH_XL_H
#define TANDEM_TESTS_BENCH_XL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum xl_tls { XL_PLAIN, XL_STARTTLS, XL_DIRECT };

struct xl_options {
	const char *host, *domain, *password, *mechanism, *user_format, *resource;
	unsigned port;
	enum xl_tls tls;
	bool sm;          /* XEP-0198 */
	bool raw;         /* no XMPP at all: for a relay that only moves bytes */
	bool registering; /* XEP-0077 instead of a login */
	bool presence;    /* announce ourselves after binding */
	unsigned first_user;
	unsigned parallel; /* logins at once */
	unsigned pairs, window, messages, rate, seconds, sessions, numbers, octets;
	const char *sms_domain;
	unsigned npid;
	int pid[16]; /* roots of the process trees that are measured */
};

enum xl_state {
	XL_CONNECTING,
	XL_HANDSHAKE,
	XL_FEATURES,
	XL_STARTING_TLS,
	XL_SASL,
	XL_BOUND_FEATURES,
	XL_BINDING,
	XL_ENABLING,
	XL_READY,
	XL_CLOSED
};

struct xl_conn;
/* What a mode wants to hear of a connection; may be changed at any time. */
struct xl_ops {
	void (*on_ready)(struct xl_conn *c);
	/* One stanza (message, presence, iq, or an XEP-0198 element), complete; borrowed. */
	void (*on_stanza)(struct xl_conn *c, const char *s, size_t n);
};

struct xl_conn {
	int fd;
	void *ssl;
	enum xl_state state;
	const struct xl_ops *ops;
	void *self;
	unsigned index, user;
	bool dirty, want_out, tls_done;
	bool leaving; /* close when all is written */
	char *in, *out;
	size_t nin, cin, nout, cout;
	char jid[128];
	char *scram_first; /* client-first-message-bare, while SASL runs */
	uint32_t h_in;     /* stanzas received since <enabled/> */
	uint32_t sent, acked;
};

/* xl.c */
extern struct xl_options xl_opt;
extern unsigned xl_nready;
void xl_init(void);
struct xl_conn *xl_connect(unsigned index, unsigned user, const struct xl_ops *ops, void *self);
void xl_write(struct xl_conn *c, const char *s, size_t n);
void xl_writef(struct xl_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void xl_close(struct xl_conn *c);
/* One turn: waits at most timeout_ms (-1: without end), handles what came, writes what is due. */
void xl_turn(int timeout_ms);
/* An extra descriptor in the same epoll: on_input is called when it is readable. */
void xl_watch(int fd, void (*on_input)(int fd));
void xl_start_tls(struct xl_conn *c);
/* Open n connections, users first_user ..., at most xl_opt.parallel at once; returns when all are
 * ready. conn_r: NULL, or room for n pointers. */
void xl_open(unsigned n, const struct xl_ops *ops, struct xl_conn **conn_r);
void xl_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
uint64_t xl_now_ns(void);

/* xl_login.c: everything up to XL_READY. */
void xl_login_start(struct xl_conn *c);
void xl_login_stanza(struct xl_conn *c, const char *s, size_t n);

/* xl_text.c */
/* Where the element that starts at s ends; NULL: not complete. */
const char *xl_element_end(const char *s, const char *end);
bool xl_is(const char *s, size_t n, const char *name);
/* Value of an attribute of the first tag; false: it has none. */
bool xl_attribute(const char *s, size_t n, const char *name, char *dst, size_t size);
/* Text of the first element called name anywhere in s. */
bool xl_child_text(const char *s, size_t n, const char *name, char *dst, size_t size);
size_t xl_base64(const unsigned char *s, size_t n, char *dst);
size_t xl_unbase64(const char *s, size_t n, unsigned char *dst);

/* proc.c: what whole process trees have used. */
double proc_cpu_s(const int *root, unsigned n);
uint64_t proc_rss_octets(const int *root, unsigned n);

/* samples.c: percentiles of times. */
struct samples {
	uint64_t *v;
	size_t n, cap;
};
void samples_add(struct samples *s, uint64_t v);
double samples_ms(struct samples *s, double percentile); /* sorts */

/* modes.c. Each prints one JSON object. */
int mode_pairs(void);
int mode_latency(void);
int mode_idle(void);
int mode_login(void);
int mode_register(void);
int mode_sms(void); /* mode_sms.c */

#endif
