/* conn_tls.c - TLS on a connection: handshake, records in and out, channel bindings.
 *
 * Ciphertext is read in one go into a buffer of the loop (64 KiB) and OpenSSL is fed from there, so
 * that many records cost one read(2) and a connection between two turns holds no buffer. What
 * OpenSSL has not taken when the owner pauses or moves the connection is kept with it ("left").
 * OpenSSL writes straight to the socket through our BIO, whose send(2) has MSG_NOSIGNAL; OpenSSL's
 * own would raise SIGPIPE. */
#include "appliance/loop/conn_int.h"
#include "appliance/loop/tls_int.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/ioctl.h>

#define RECORD_OCTETS 16384u /* plaintext of one record at most (RFC 8446 section 5.1) */

struct conn_tls {
	SSL *ssl;
	struct tls_ctx *ctx;
	char *left; /* ciphertext read and not yet fed */
	size_t left_n;
	size_t plain_n; /* octets of the output that go before the handshake, in the clear */
	int sys_errno;  /* of the last failed send */
	bool server : 1;
	bool done : 1;       /* handshake finished */
	bool closed : 1;     /* close_notify was sent */
	bool want_write : 1; /* OpenSSL has something to send that is not our output */
};

/* A loop's own: ciphertext on its way into the connection `owner`. */
struct tls_io {
	struct conn *owner;
	const char *p;
	size_t n;
	char in[LOOP_SCRATCH_OCTETS];
};

static void io_free(struct tls_io *io)
{
	free(io);
}

static struct tls_io *io_of(struct loop *l)
{
	if (!l->tls) {
		l->tls = calloc(1, sizeof(*l->tls));
		l->tls_free = io_free;
	}
	return l->tls;
}

int conn_tls_prepare_loop(struct loop *l)
{
	return io_of(l) ? 0 : E_NOMEM;
}

/* --- OpenSSL's way to the socket ------------------------------------------------------------ */

static int bio_read(BIO *b, char *dst, int n)
{
	struct conn *c = BIO_get_data(b);
	struct tls_io *io = c->loop->tls;

	BIO_clear_retry_flags(b);
	if (n <= 0 || io->owner != c || io->n == 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	size_t take = (size_t)n < io->n ? (size_t)n : io->n;
	memcpy(dst, io->p, take);
	io->p += take;
	io->n -= take;
	return (int)take;
}

static int bio_write(BIO *b, const char *src, int n)
{
	struct conn *c = BIO_get_data(b);
	ssize_t put;

	BIO_clear_retry_flags(b);
	do
		put = send(c->lf.fd, src, (size_t)n, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put >= 0) {
		c->sent += (uint64_t)put;
		return (int)put;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		BIO_set_retry_write(b);
	else
		c->tls->sys_errno = errno;
	return -1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	UNUSED(b);
	UNUSED(num);
	UNUSED(ptr);
	return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void method_make(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tandem conn");

	if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
	    BIO_meth_set_ctrl(m, bio_ctrl))
		method = m;
	else
		BIO_meth_free(m);
}

static BIO *bio_new(struct conn *c)
{
	static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
	BIO *b = NULL;

	if (CRYPTO_THREAD_run_once(&once, method_make) && method)
		b = BIO_new(method);
	if (b) {
		BIO_set_data(b, c);
		BIO_set_init(b, 1);
	}
	return b;
}

/* --- life ----------------------------------------------------------------------------------- */

void conn_tls_free(struct conn *c)
{
	struct conn_tls *t = c->tls;

	if (!t)
		return;
	SSL_free(t->ssl);
	tls_ctx_unref(&t->ctx);
	free(t->left);
	free(t);
	c->tls = NULL;
}

/* reason: tls_reason() from directly after the call that failed. */
static void tls_failed(struct conn *c, int ssl_error, const char *reason)
{
	struct conn_tls *t = c->tls;
	long verify = SSL_get_verify_result(t->ssl);
	int code = t->done ? E_IO : E_AUTH;

	if (ssl_error == SSL_ERROR_SYSCALL && t->sys_errno)
		conn_io_failed(c, t->sys_errno, "write");
	else if (!t->done && !t->server && verify != X509_V_OK)
		conn_fail(c, E_AUTH, 0, X509_verify_cert_error_string(verify));
	else
		conn_fail(c, code, 0, reason);
	ERR_clear_error();
}

static struct conn_tls *tls_new(struct conn *c, struct tls_ctx *ctx)
{
	struct conn_tls *t = calloc(1, sizeof(*t));
	BIO *b = bio_new(c);

	if (t)
		t->ssl = SSL_new(ctx->ctx);
	if (!t || !b || !t->ssl || !io_of(c->loop)) {
		if (t)
			SSL_free(t->ssl);
		BIO_free(b);
		free(t);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_bio(t->ssl, b, b);
	t->ctx = tls_ctx_ref(ctx);
	return t;
}

/* What was written before goes out before the handshake, in the clear (it answers <starttls/>). */
static int tls_start(struct conn *c, struct tls_ctx *ctx, struct err *e)
{
	int waiting = 0;

	if (!c->loop || c->state != CONN_OPEN || c->tls)
		return err_set(e, E_STATE, NULL, "TLS cannot start on this connection now");
	/* Nobody may send before our answer: this is an attempt to have plaintext taken as if it
	 * had come protected. On a connection that starts with TLS it is the ClientHello. */
	if (c->plain_in && (ioctl(c->lf.fd, FIONREAD, &waiting) < 0 || waiting > 0))
		return err_set(e, E_DENIED, "RFC 6120 5.4.3.3", "plaintext came after starttls");
	conn_flush(c);
	if (c->state != CONN_OPEN)
		return err_set(e, E_CLOSED, NULL, "the connection is gone");
	c->tls = tls_new(c, ctx);
	if (!c->tls)
		return err_set(e, E_NOMEM, NULL, "no memory for a TLS connection");
	c->tls->plain_n = c->out.n;
	return 0;
}

int conn_tls_server(struct conn *c, struct tls_ctx *ctx, struct err *e)
{
	int rc = tls_start(c, ctx, e);

	if (rc < 0)
		return rc;
	c->tls->server = true;
	SSL_set_accept_state(c->tls->ssl);
	return 0;
}

static int set_peer_name(struct conn_tls *t, const char *host)
{
	unsigned char b[16];

	if (inet_pton(AF_INET, host, b) == 1 || inet_pton(AF_INET6, host, b) == 1)
		return !t->ctx->verify ||
		       X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) == 1;
	if (SSL_set_tlsext_host_name(t->ssl, host) != 1)
		return false;
	SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return !t->ctx->verify || SSL_set1_host(t->ssl, host) == 1;
}

int conn_tls_client(struct conn *c, struct tls_ctx *ctx, const char *host, struct err *e)
{
	int rc = tls_start(c, ctx, e);

	if (rc < 0)
		return rc;
	SSL_set_connect_state(c->tls->ssl);
	if (!set_peer_name(c->tls, host)) {
		conn_tls_free(c);
		ERR_clear_error();
		return err_set(e, E_SYNTAX, NULL, "\"%s\" is no host name for TLS", host);
	}
	c->force_read = true; /* the handshake begins in conn_work */
	conn_work_later(c);
	return 0;
}

/* --- input ---------------------------------------------------------------------------------- */

/* Keep what OpenSSL has not taken, as the loop's buffer is for the next connection now. */
static int keep_rest(struct conn *c, struct tls_io *io)
{
	struct conn_tls *t = c->tls;

	if (io->owner != c)
		return 0;
	io->owner = NULL;
	if (io->n == 0)
		return 0;
	t->left = malloc(io->n);
	if (!t->left)
		return E_NOMEM;
	memcpy(t->left, io->p, io->n);
	t->left_n = io->n;
	return 0;
}

int conn_tls_detach(struct conn *c)
{
	if (!c->tls->done || c->tls->plain_n)
		return E_STATE;
	return keep_rest(c, c->loop->tls);
}

bool conn_tls_has_left(const struct conn *c)
{
	return c->tls_eof || c->tls->left_n > 0;
}

/* Still here, in the mood for more input? l->cur first: c may be gone. */
static bool goes_on(const struct loop *l, const struct conn *c)
{
	return l->cur == c && c->state == CONN_OPEN && !c->paused;
}

static void wait_to_write(struct conn *c)
{
	c->tls->want_write = true;
	loop_fd_want(&c->lf, c->lf.want | LOOP_WRITE);
}

static bool deliver(struct loop *l, struct conn *c, size_t *fill)
{
	size_t n = *fill;

	*fill = 0;
	if (n)
		c->ops->on_data(c->self, sl_mk(l->scratch, n));
	return goes_on(l, c);
}

/* Records that are there become one on_data, or a few when they are long. */
static void feed_data(struct loop *l, struct conn *c)
{
	SSL *ssl = c->tls->ssl;
	size_t fill = 0;
	int n;

	for (;;) {
		ERR_clear_error();
		n = SSL_read(ssl, l->scratch + fill, (int)(LOOP_SCRATCH_OCTETS - fill));
		if (n <= 0)
			break;
		fill += (size_t)n;
		if (fill > LOOP_SCRATCH_OCTETS - RECORD_OCTETS && !deliver(l, c, &fill))
			return;
	}
	int why = SSL_get_error(ssl, n);
	const char *reason = tls_reason();

	if (why == SSL_ERROR_WANT_WRITE) /* the answer to a key update */
		wait_to_write(c);
	c->tls_eof = why == SSL_ERROR_ZERO_RETURN;
	deliver(l, c, &fill);
	if (l->cur != c || why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return;
	if (why != SSL_ERROR_ZERO_RETURN)
		tls_failed(c, why, reason);
	else if (goes_on(l, c)) /* when paused, the end is reported when it goes on */
		conn_peer_ended(c);
}

/* True: finished, and the owner wants to go on. */
static bool feed_handshake(struct loop *l, struct conn *c)
{
	struct conn_tls *t = c->tls;
	int rc, why;

	ERR_clear_error();
	rc = SSL_do_handshake(t->ssl);
	if (rc == 1) {
		t->done = true;
		if (c->out.n)
			conn_work_later(c);
		if (c->ops->on_tls)
			c->ops->on_tls(c->self);
		return goes_on(l, c);
	}
	why = SSL_get_error(t->ssl, rc);
	if (why == SSL_ERROR_WANT_WRITE)
		wait_to_write(c);
	else if (why != SSL_ERROR_WANT_READ)
		tls_failed(c, why, tls_reason());
	return false;
}

static void feed(struct loop *l, struct conn *c, size_t n)
{
	struct tls_io *io = l->tls;

	io->owner = c;
	io->p = io->in;
	io->n = n;
	c->tls->want_write = false;
	if (c->tls->done || feed_handshake(l, c))
		feed_data(l, c);
	if (l->cur == c && keep_rest(c, io) < 0)
		conn_fail(c, E_NOMEM, 0, "no memory for input");
}

/* Take what was kept back into the loop's buffer. */
static size_t take_left(struct conn_tls *t, struct tls_io *io)
{
	size_t n = t->left_n;

	if (n)
		memcpy(io->in, t->left, n);
	free(t->left);
	t->left = NULL;
	t->left_n = 0;
	return n;
}

void conn_tls_input(struct conn *c)
{
	struct loop *l = c->loop;
	struct conn_tls *t = c->tls;
	struct tls_io *io = l->tls;
	size_t sum = 0, n;

	if (t->plain_n) { /* our answer is not out yet; see conn_tls_output */
		loop_fd_want(&c->lf, c->lf.want & ~(unsigned)LOOP_READ);
		return;
	}
	if (c->tls_eof) {
		conn_peer_ended(c);
		return;
	}
	if (t->left_n || !t->done || t->want_write) {
		feed(l, c, take_left(t, io));
		if (!goes_on(l, c))
			return;
	}
	do {
		n = conn_read_once(c, io->in);
		if (n == 0)
			return;
		sum += n;
		feed(l, c, n);
	} while (n == LOOP_SCRATCH_OCTETS && sum < CONN_TURN_OCTETS && goes_on(l, c));
}

/* --- output --------------------------------------------------------------------------------- */

/* The part that goes out in the clear; when it is out, input is welcome. */
static void output_plain_first(struct conn *c)
{
	struct conn_tls *t = c->tls;
	size_t before = c->out.n;

	conn_plain_output(c, t->plain_n);
	if (c->state == CONN_DEAD)
		return;
	t->plain_n -= before - c->out.n;
	if (t->plain_n)
		return;
	c->force_read = true;
	loop_fd_want(&c->lf, LOOP_READ);
	conn_work_later(c);
}

void conn_tls_output(struct conn *c)
{
	struct conn_tls *t = c->tls;

	if (t->plain_n) {
		output_plain_first(c);
		return;
	}
	while (c->out.n && t->done) {
		size_t n = c->out.n < RECORD_OCTETS ? c->out.n : RECORD_OCTETS;

		ERR_clear_error();
		int put = SSL_write(t->ssl, c->out.p + c->out.off, (int)n);
		if (put > 0) {
			outbuf_consume(&c->out, &c->loop->pool, (size_t)put);
			continue;
		}
		int why = SSL_get_error(t->ssl, put);
		if (why == SSL_ERROR_WANT_WRITE)
			loop_fd_want(&c->lf, c->lf.want | LOOP_WRITE);
		else
			tls_failed(c, why, tls_reason());
		return;
	}
}

bool conn_tls_ready(const struct conn *c)
{
	return c->tls->done;
}

bool conn_tls_wants_write(const struct conn *c)
{
	return c->tls->want_write;
}

bool conn_tls_goodbye(struct conn *c)
{
	struct conn_tls *t = c->tls;
	int rc;

	if (t->closed || !t->done)
		return true;
	ERR_clear_error();
	rc = SSL_shutdown(t->ssl);
	if (rc < 0 && SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_WRITE) {
		loop_fd_want(&c->lf, c->lf.want | LOOP_WRITE);
		return false;
	}
	ERR_clear_error();
	t->closed = true;
	return true;
}

/* --- what was agreed ------------------------------------------------------------------------ */

bool conn_is_tls(const struct conn *c)
{
	return c->tls && c->tls->done;
}

int conn_tls_info(const struct conn *c, struct conn_tls_info *i_r)
{
	const unsigned char *alpn;
	unsigned n;

	if (!conn_is_tls(c))
		return E_STATE;
	SSL_get0_alpn_selected(c->tls->ssl, &alpn, &n);
	*i_r = (struct conn_tls_info){
		.version = SSL_get_version(c->tls->ssl),
		.cipher = SSL_get_cipher_name(c->tls->ssl),
		.tls13 = SSL_version(c->tls->ssl) >= TLS1_3_VERSION,
		.alpn = sl_mk((const char *)alpn, n),
	};
	return 0;
}

int conn_tls_exporter(const struct conn *c, unsigned char out[32])
{
	static const char label[] = "EXPORTER-Channel-Binding";

	if (!conn_is_tls(c))
		return E_STATE;
	if (SSL_version(c->tls->ssl) < TLS1_3_VERSION)
		return E_UNSUPPORTED;
	if (SSL_export_keying_material(c->tls->ssl, out, 32, label, sizeof(label) - 1, NULL, 0,
				       0) != 1) {
		ERR_clear_error();
		return E_INTERNAL;
	}
	return 0;
}

int conn_tls_unique(const struct conn *c, unsigned char out[64], size_t *n_r)
{
	size_t n;

	if (!conn_is_tls(c))
		return E_STATE;
	/* The first Finished message: the client's, or in a resumed handshake the server's. */
	if (SSL_is_server(c->tls->ssl) == !SSL_session_reused(c->tls->ssl))
		n = SSL_get_peer_finished(c->tls->ssl, out, 64);
	else
		n = SSL_get_finished(c->tls->ssl, out, 64);
	if (n == 0 || n > 64)
		return E_UNSUPPORTED;
	*n_r = n;
	return 0;
}

int conn_tls_end_point(const struct conn *c, unsigned char out[64], size_t *n_r)
{
	const struct conn_tls *t = c->tls;
	unsigned char peer[EVP_MAX_MD_SIZE];
	const unsigned char *hash = peer;
	unsigned n;

	if (!conn_is_tls(c))
		return E_STATE;
	if (t->server && SSL_get_SSL_CTX(t->ssl) == t->ctx->ctx) {
		hash = t->ctx->end_point;
		n = t->ctx->end_point_n;
	} else if (t->server) { /* of another host, which the client named */
		n = tls_end_point_hash(SSL_get_certificate(t->ssl), peer);
	} else {
		n = tls_end_point_hash(SSL_get0_peer_certificate(t->ssl), peer);
	}
	if (n == 0)
		return E_UNSUPPORTED;
	memcpy(out, hash, n);
	*n_r = n;
	return 0;
}
