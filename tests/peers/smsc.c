/* smsc.c - an SMS centre for tests and benchmarks: it answers, and it remembers.
 *
 *	smsc [--port N] [--log FILE] [--password TEXT] [--NAME VALUE ...]
 *
 * Prints the port, then takes commands on standard input, one a line, each answered by one line:
 *
 *	stats			counts, as JSON
 *	set NAME VALUE		a setting, see settings[]
 *	reset			break all connections
 *	mo FROM TO DCS ESM HEX	a short message to a bound client, until it is answered
 *	raw HEX			octets to all bound connections
 *
 * Every submit_sm is a line in the log before it is answered, tab-separated: "submit", time in ns,
 * connection, message id, source, destination, esm_class, data_coding, registered_delivery, status,
 * user data in hex (message_payload when that was used). Every mobile-originated message is a line
 * when it is sent ("sent") and when it is answered ("mo"): time, connection, source, destination,
 * status, hex. The log is appended to, so that it survives kill -9 and a restart.
 *
 * It is not Tandem's code: a fault of our codec is not hidden by being made twice. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	GENERIC_NACK = 0x80000000,
	BIND_RECEIVER = 1,
	BIND_TRANSMITTER = 2,
	SUBMIT_SM = 4,
	DELIVER_SM = 5,
	UNBIND = 6,
	BIND_TRANSCEIVER = 9,
	ENQUIRE_LINK = 0x15
};
#define RESP 0x80000000u
enum { ROK = 0, RINVCMDID = 3, RINVBNDSTS = 4, RINVPASWD = 0x0e, RTHROTTLED = 0x58 };
enum { TAG_PAYLOAD = 0x0424, TAG_RECEIPTED_ID = 0x001e, TAG_STATE = 0x0427 };

/* What can be set, on the command line and while it runs. */
static uint64_t delay_ms, limit, burst = 1, reset_every, mute, dlr, dlr_ms, dlr_tlv, id_hex,
				 dlr_hex, dlr_fail, fail_status, fail_every, bind_status, dlr_first,
				 port;
static const struct {
	const char *name;
	uint64_t *value;
} settings[] = {
	{ "delay-ms", &delay_ms },       /* before a submit_sm is answered */
	{ "limit", &limit },             /* submits a second; above: ESME_RTHROTTLED. 0: none */
	{ "burst", &burst },             /* depth of that bucket */
	{ "reset-every", &reset_every }, /* break the connection at every n-th submit, unanswered */
	{ "mute", &mute },               /* take submits (they are logged) and do not answer */
	{ "dlr", &dlr },                 /* 1: a receipt for who asked; 2: for everybody */
	{ "dlr-ms", &dlr_ms },           /* after so long */
	{ "dlr-tlv", &dlr_tlv },         /* 1: in TLVs instead of text; 2: both */
	{ "dlr-first", &dlr_first },     /* the receipt overtakes the answer */
	{ "dlr-fail", &dlr_fail },       /* receipts say UNDELIV */
	{ "id-hex", &id_hex },           /* message ids in answers are hexadecimal */
	{ "dlr-hex", &dlr_hex },         /* and in receipts */
	{ "fail-status", &fail_status }, /* status of answers, with fail-every n of each n-th */
	{ "fail-every", &fail_every },
	{ "bind-status", &bind_status },
	{ "port", &port },
};
#define NSETTINGS (sizeof settings / sizeof *settings)

struct conn {
	int fd;
	unsigned number;
	bool bound, receives, closing;
	uint32_t seq;
	uint8_t *in, *out;
	size_t nin, nout, cout;
};

struct due { /* something to send later: an answer or a receipt */
	uint64_t at_ns;
	struct due *next;
	unsigned conn;
	struct mo *mo; /* a receipt instead of an answer */
	size_t n;
	uint8_t data[];
};

struct mo { /* a deliver_sm that is not answered yet */
	struct mo *next;
	uint32_t seq;
	unsigned conn; /* where it is on its way; 0: nowhere */
	bool receipt;
	char source[24], destination[24];
	size_t n, text_at, text_n;
	uint8_t data[]; /* the body of the PDU */
};

struct smsc {
	struct conn *conn[1024];
	unsigned nconn, numbered;
	struct due *due, *due_last;
	struct mo *mo, **mo_end;
	char log[65536];
	size_t nlog;
	int log_fd, ep;
	const char *password;
	uint64_t next_id;
	double tokens;
	uint64_t tokens_at;
	uint64_t submits, answered, accepted, throttled, failed, receipts, receipts_ok,
		receipts_bad, mo_ok, mo_bad, binds, bad_binds, enquiries, malformed, resets,
		last_answer_ns, first_submit_ns, max_open, open;
};
static struct smsc s = { .log_fd = -1, .mo_end = &s.mo };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* ---- log ----------------------------------------------------------------------------------------
 */

static void log_flush(void)
{
	if (s.log_fd >= 0 && s.nlog && write(s.log_fd, s.log, s.nlog) != (ssize_t)s.nlog)
		die("log");
	s.nlog = 0;
}

static void log_hex(const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		s.log[s.nlog++] = digits[p[i] >> 4];
		s.log[s.nlog++] = digits[p[i] & 15];
	}
	s.log[s.nlog++] = '\n';
}

/* Room for a line with n octets in hex. */
static void log_room(size_t n)
{
	if (s.nlog + 2 * n + 512 > sizeof s.log)
		log_flush();
}

/* ---- connections --------------------------------------------------------------------------------
 */

static void out(struct conn *c, const uint8_t *p, size_t n)
{
	if (c->nout + n > c->cout) {
		c->cout = (c->nout + n) * 2;
		c->out = realloc(c->out, c->cout);
		if (!c->out)
			die("memory");
	}
	memcpy(c->out + c->nout, p, n);
	c->nout += n;
}

static void pdu(struct conn *c, uint32_t id, uint32_t status, uint32_t seq, const void *body,
		size_t n)
{
	uint8_t head[16];
	put32(head, (uint32_t)(16 + n));
	put32(head + 4, id);
	put32(head + 8, status);
	put32(head + 12, seq);
	out(c, head, 16);
	if (n)
		out(c, body, n);
}

static void due_add(struct due *d)
{
	struct due **at = &s.due;
	if (s.due && s.due_last->at_ns <= d->at_ns)
		at = &s.due_last->next; /* mostly they come in order */
	while (*at && (*at)->at_ns <= d->at_ns)
		at = &(*at)->next;
	d->next = *at;
	*at = d;
	if (!d->next)
		s.due_last = d;
}

static struct due *due_new(uint64_t ms, size_t n)
{
	struct due *d = calloc(1, sizeof *d + n);
	if (!d)
		die("memory");
	d->at_ns = now_ns() + ms * 1000000u;
	d->n = n;
	return d;
}

static void later(unsigned conn, uint64_t ms, uint32_t id, uint32_t status, uint32_t seq,
		  const void *body, size_t n)
{
	struct due *d = due_new(ms, 16 + n);
	d->conn = conn;
	put32(d->data, (uint32_t)(16 + n));
	put32(d->data + 4, id);
	put32(d->data + 8, status);
	put32(d->data + 12, seq);
	if (n)
		memcpy(d->data + 16, body, n);
	due_add(d);
}

static void later_mo(struct mo *m, uint64_t ms)
{
	struct due *d = due_new(ms, 0);
	d->mo = m;
	due_add(d);
}

static struct conn *conn_by_number(unsigned number)
{
	for (unsigned i = 0; i < s.nconn; i++)
		if (s.conn[i]->number == number)
			return s.conn[i];
	return NULL;
}

static struct conn *receiver(void)
{
	for (unsigned i = s.nconn; i-- > 0;)
		if (s.conn[i]->bound && s.conn[i]->receives && !s.conn[i]->closing)
			return s.conn[i];
	return NULL;
}

static void drop(struct conn *c)
{
	struct linger hard = { 1, 0 };
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	close(c->fd);
	for (struct mo *m = s.mo; m; m = m->next)
		if (m->conn == c->number)
			m->conn = 0;
	for (unsigned i = 0; i < s.nconn; i++)
		if (s.conn[i] == c)
			s.conn[i] = s.conn[--s.nconn];
	free(c->in);
	free(c->out);
	free(c);
}

/* ---- reading PDUs -------------------------------------------------------------------------------
 */

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static const char *cstring(struct reader *r)
{
	const uint8_t *nul = r->p < r->end ? memchr(r->p, 0, (size_t)(r->end - r->p)) : NULL;
	if (!nul) {
		r->bad = true;
		return "";
	}
	const char *text = (const char *)r->p;
	r->p = nul + 1;
	return text;
}

static unsigned octet(struct reader *r)
{
	if (r->p >= r->end) {
		r->bad = true;
		return 0;
	}
	return *r->p++;
}

struct submit {
	const char *source, *destination;
	unsigned esm, registered, dcs;
	const uint8_t *data;
	size_t n;
};

static bool submit_read(const uint8_t *p, size_t n, struct submit *m)
{
	struct reader r = { p, p + n, false };
	cstring(&r); /* service_type */
	octet(&r);
	octet(&r);
	m->source = cstring(&r);
	octet(&r);
	octet(&r);
	m->destination = cstring(&r);
	m->esm = octet(&r);
	octet(&r); /* protocol_id, priority */
	octet(&r);
	cstring(&r); /* schedule, validity */
	cstring(&r);
	m->registered = octet(&r);
	octet(&r);
	m->dcs = octet(&r);
	octet(&r);
	m->n = octet(&r);
	m->data = r.p;
	if (r.bad || m->n > (size_t)(r.end - r.p))
		return false;
	r.p += m->n;
	while (r.end - r.p >= 4) {
		unsigned tag = (unsigned)r.p[0] << 8 | r.p[1];
		size_t len = (size_t)r.p[2] << 8 | r.p[3];
		r.p += 4;
		if (len > (size_t)(r.end - r.p))
			return false;
		if (tag == TAG_PAYLOAD) {
			m->data = r.p;
			m->n = len;
		}
		r.p += len;
	}
	return r.p == r.end;
}

/* ---- receipts and mobile-originated messages ----------------------------------------------------
 */

#define DELIVER_WINDOW 50

static size_t deliver_body(uint8_t *b, const char *source, const char *destination, unsigned esm,
			   unsigned dcs, const uint8_t *text, size_t n)
{
	size_t at = 0;
	b[at++] = 0;
	b[at++] = 1;
	b[at++] = 1;
	at += (size_t)sprintf((char *)b + at, "%s", source) + 1;
	b[at++] = 1;
	b[at++] = 1;
	at += (size_t)sprintf((char *)b + at, "%s", destination) + 1;
	b[at++] = (uint8_t)esm;
	memset(b + at, 0, 6); /* protocol_id, priority, schedule, validity, registered, replace */
	at += 6;
	b[at++] = (uint8_t)dcs;
	b[at++] = 0;
	b[at++] = (uint8_t)n;
	memcpy(b + at, text, n);
	return at + n;
}

static void log_deliver(const char *what, const struct conn *c, const struct mo *m, uint32_t status)
{
	log_room(m->text_n);
	s.nlog += (size_t)sprintf(s.log + s.nlog, "%s\t%" PRIu64 "\t%u\t%s\t%s\t%u\t", what,
				  now_ns(), c->number, m->source, m->destination, status);
	log_hex(m->data + m->text_at, m->text_n);
}

static void mo_send(void)
{
	struct conn *c = receiver();
	unsigned flying = 0;
	for (struct mo *m = s.mo; c && m && flying++ < DELIVER_WINDOW; m = m->next) {
		if (m->conn)
			continue;
		m->seq = ++c->seq;
		m->conn = c->number;
		s.receipts += m->receipt;
		if (!m->receipt)
			log_deliver("sent", c, m, 0);
		pdu(c, DELIVER_SM, 0, m->seq, m->data, m->n);
	}
}

static void mo_queue(struct mo *m)
{
	*s.mo_end = m;
	s.mo_end = &m->next;
	mo_send();
}

static struct mo *mo_new(const char *source, const char *destination, unsigned esm, unsigned dcs,
			 const uint8_t *text, size_t n)
{
	struct mo *m = calloc(1, sizeof *m + 512);
	if (!m)
		die("memory");
	snprintf(m->source, sizeof m->source, "%s", source);
	snprintf(m->destination, sizeof m->destination, "%s", destination);
	m->n = deliver_body(m->data, m->source, m->destination, esm, dcs, text, n);
	m->text_at = m->n - n;
	m->text_n = n;
	return m;
}

static void deliver_answered(struct conn *c, uint32_t seq, uint32_t status)
{
	for (struct mo **at = &s.mo; *at; at = &(*at)->next) {
		struct mo *m = *at;
		if (m->conn != c->number || m->seq != seq)
			continue;
		if (m->receipt) {
			*(status ? &s.receipts_bad : &s.receipts_ok) += 1;
		} else {
			log_deliver("mo", c, m, status);
			*(status ? &s.mo_bad : &s.mo_ok) += 1;
		}
		if (s.mo_end == &m->next)
			s.mo_end = at;
		*at = m->next; /* a refusal is final here */
		free(m);
		return;
	}
	s.malformed++;
}

static void receipt(const struct submit *m, uint64_t id)
{
	char text[160], shown[24];
	const char *stat = dlr_fail ? "UNDELIV" : "DELIVRD";
	snprintf(shown, sizeof shown, dlr_hex ? "%" PRIX64 : "%010" PRIu64, id);
	int n = snprintf(
		text, sizeof text,
		"id:%s sub:001 dlvrd:%03d submit date:2611241200 done date:2611241201 stat:%s "
		"err:%03d text:",
		shown, dlr_fail ? 0 : 1, stat, dlr_fail ? 5 : 0);
	struct mo *r = mo_new(m->destination, m->source, 4, 0, (uint8_t *)text,
			      dlr_tlv == 1 ? 0 : (size_t)n);
	r->receipt = true;
	if (dlr_tlv) {
		size_t k = strlen(shown) + 1;
		uint8_t head[] = { TAG_RECEIPTED_ID >> 8, TAG_RECEIPTED_ID & 255, 0, (uint8_t)k };
		memcpy(r->data + r->n, head, 4);
		memcpy(r->data + r->n + 4, shown, k);
		r->n += 4 + k;
		uint8_t state[] = { TAG_STATE >> 8, TAG_STATE & 255, 0, 1, dlr_fail ? 5 : 2 };
		memcpy(r->data + r->n, state, 5);
		r->n += 5;
	}
	if (dlr_first)
		mo_queue(r);
	else
		later_mo(r, dlr_ms + delay_ms);
}

/* ---- submit_sm ----------------------------------------------------------------------------------
 */

static bool throttled(void)
{
	if (!limit)
		return false;
	uint64_t now = now_ns();
	s.tokens += (double)(now - s.tokens_at) / 1e9 * (double)limit;
	s.tokens_at = now;
	if (s.tokens > (double)burst)
		s.tokens = (double)burst;
	if (s.tokens < 1)
		return true;
	s.tokens -= 1;
	return false;
}

static uint32_t submit_status(const struct conn *c)
{
	if (!c->bound)
		return RINVBNDSTS;
	if (throttled()) {
		s.throttled++;
		return RTHROTTLED;
	}
	if (fail_status && (!fail_every || s.submits % fail_every == 0)) {
		s.failed++;
		return (uint32_t)fail_status;
	}
	return ROK;
}

static void submit(struct conn *c, uint32_t seq, const uint8_t *p, size_t n)
{
	struct submit m;
	char id[24];
	if (!submit_read(p, n, &m)) {
		s.malformed++;
		pdu(c, SUBMIT_SM | RESP, 8, seq, NULL, 0);
		return;
	}
	if (!s.submits++)
		s.first_submit_ns = now_ns();
	uint32_t status = submit_status(c);
	uint64_t number = status ? 0 : s.next_id++;
	snprintf(id, sizeof id, id_hex ? "%" PRIX64 : "%" PRIu64, number);
	log_room(m.n);
	s.nlog += (size_t)sprintf(s.log + s.nlog,
				  "submit\t%" PRIu64 "\t%u\t%s\t%.20s\t%.20s\t%u\t%u\t%u\t%u\t",
				  now_ns(), c->number, status ? "-" : id, m.source, m.destination,
				  m.esm, m.dcs, m.registered, status);
	log_hex(m.data, m.n);
	if (reset_every && s.submits % reset_every == 0) {
		c->closing = true;
		s.resets++;
		return;
	}
	if (mute)
		return;
	if (!status && dlr_first && (dlr == 2 || (dlr && m.registered & 3)))
		receipt(&m, number);
	size_t len = status ? 0 : strlen(id) + 1;
	if (delay_ms)
		later(c->number, delay_ms, SUBMIT_SM | RESP, status, seq, id, len);
	else
		pdu(c, SUBMIT_SM | RESP, status, seq, id, len);
	if (!delay_ms) {
		s.answered++;
		s.last_answer_ns = now_ns();
	}
	s.accepted += status == ROK;
	if (++s.open > s.max_open)
		s.max_open = s.open;
	if (!delay_ms)
		s.open--;
	if (!status && !dlr_first && (dlr == 2 || (dlr && m.registered & 3)))
		receipt(&m, number);
}

static void bind_request(struct conn *c, uint32_t id, uint32_t seq, const uint8_t *p, size_t n)
{
	struct reader r = { p, p + n, false };
	cstring(&r);
	const char *password = cstring(&r);
	uint32_t status = bind_status ? (uint32_t)bind_status
			  : r.bad || (s.password && strcmp(password, s.password)) ? RINVPASWD
										  : ROK;
	pdu(c, id | RESP, status, seq, "smsc", status ? 0 : 5);
	*(status ? &s.bad_binds : &s.binds) += 1;
	c->bound = !status;
	c->receives = id != BIND_TRANSMITTER;
	if (status)
		c->closing = true;
}

static void handle(struct conn *c, const uint8_t *p, size_t n)
{
	uint32_t id = get32(p + 4), status = get32(p + 8), seq = get32(p + 12);
	switch (id) {
	case SUBMIT_SM:
		submit(c, seq, p + 16, n - 16);
		return;
	case BIND_RECEIVER:
	case BIND_TRANSMITTER:
	case BIND_TRANSCEIVER:
		bind_request(c, id, seq, p + 16, n - 16);
		return;
	case ENQUIRE_LINK:
		s.enquiries++;
		pdu(c, ENQUIRE_LINK | RESP, ROK, seq, NULL, 0);
		return;
	case UNBIND:
		pdu(c, UNBIND | RESP, ROK, seq, NULL, 0);
		c->closing = true;
		return;
	case DELIVER_SM | RESP:
		deliver_answered(c, seq, status);
		return;
	case ENQUIRE_LINK | RESP:
	case UNBIND | RESP:
		return;
	default:
		s.malformed++;
		pdu(c, GENERIC_NACK, RINVCMDID, seq, NULL, 0);
	}
}

/* ---- loop ---------------------------------------------------------------------------------------
 */

static bool flush(struct conn *c)
{
	while (c->nout) {
		ssize_t n = send(c->fd, c->out, c->nout, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		c->nout -= (size_t)n;
		memmove(c->out, c->out + n, c->nout);
	}
	return true;
}

#define IN_MAX 131072

/* false: the connection is over */
static bool input(struct conn *c)
{
	ssize_t got = recv(c->fd, c->in + c->nin, IN_MAX - c->nin, 0);
	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	c->nin += (size_t)got;
	size_t at = 0;
	while (c->nin - at >= 16 && !c->closing) {
		size_t n = get32(c->in + at);
		if (n < 16 || n > IN_MAX) {
			s.malformed++;
			return false;
		}
		if (c->nin - at < n)
			break;
		handle(c, c->in + at, n);
		at += n;
	}
	c->nin -= at;
	memmove(c->in, c->in + at, c->nin);
	log_flush();
	mo_send();
	return flush(c) && !c->closing;
}

static void accept_one(int ln)
{
	int fd = accept4(ln, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
	if (fd < 0)
		return;
	struct conn *c = calloc(1, sizeof *c);
	if (!c || !(c->in = malloc(IN_MAX)) || s.nconn == sizeof s.conn / sizeof *s.conn)
		die("connections");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	c->fd = fd;
	c->number = ++s.numbered;
	s.conn[s.nconn++] = c;
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = c->number };
	epoll_ctl(s.ep, EPOLL_CTL_ADD, fd, &ev);
}

/* Send what is due; milliseconds until the next, or -1. */
static int run_due(void)
{
	uint64_t now = now_ns();
	while (s.due && s.due->at_ns <= now) {
		struct due *d = s.due;
		struct conn *c = d->mo ? NULL : conn_by_number(d->conn);
		s.due = d->next;
		if (d->mo)
			mo_queue(d->mo);
		if (!d->mo)
			s.open--;
		if (c) {
			s.answered++;
			s.last_answer_ns = now;
			out(c, d->data, d->n);
		}
		free(d);
	}
	return s.due ? (int)((s.due->at_ns - now) / 1000000 + 1) : -1;
}

/* ---- commands -----------------------------------------------------------------------------------
 */

static void stats(void)
{
	uint64_t waiting = 0, bound = 0;
	for (struct mo *m = s.mo; m; m = m->next)
		waiting++;
	for (unsigned i = 0; i < s.nconn; i++)
		bound += s.conn[i]->bound;
	printf("{\"submits\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"accepted\": %" PRIu64
	       ", \"throttled\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"receipts\": %" PRIu64
	       ", \"receipts_ok\": %" PRIu64 ", \"receipts_bad\": %" PRIu64 ", \"mo_ok\": %" PRIu64
	       ", \"mo_bad\": %" PRIu64 ", \"mo_waiting\": %" PRIu64 ", \"bound\": %" PRIu64
	       ", \"binds\": %" PRIu64 ", \"bad_binds\": %" PRIu64 ", \"enquiries\": %" PRIu64
	       ", \"malformed\": %" PRIu64 ", \"resets\": %" PRIu64 ", \"max_open\": %" PRIu64
	       ", \"first_submit_ns\": %" PRIu64 ", \"last_answer_ns\": %" PRIu64 "}\n",
	       s.submits, s.answered, s.accepted, s.throttled, s.failed, s.receipts, s.receipts_ok,
	       s.receipts_bad, s.mo_ok, s.mo_bad, waiting, bound, s.binds, s.bad_binds, s.enquiries,
	       s.malformed, s.resets, s.max_open, s.first_submit_ns, s.last_answer_ns);
}

static bool set(const char *name, const char *value)
{
	for (size_t i = 0; i < NSETTINGS; i++)
		if (!strcmp(settings[i].name, name)) {
			*settings[i].value = strtoull(value, NULL, 0);
			s.tokens_at = now_ns();
			return true;
		}
	return false;
}

static size_t unhex(const char *hex, uint8_t *dst, size_t size)
{
	size_t n = 0;
	for (unsigned v; n < size && sscanf(hex, "%2x", &v) == 1; hex += 2)
		dst[n++] = (uint8_t)v;
	return n;
}

static void raw(const char *hex)
{
	static uint8_t data[65536];
	size_t n = unhex(hex, data, sizeof data);
	for (unsigned i = 0; i < s.nconn; i++)
		out(s.conn[i], data, n);
}

static void command(char *line)
{
	static char hex[131073];
	char a[64], b[64];
	unsigned dcs, esm;
	hex[0] = 0;
	if (!strcmp(line, "stats")) {
		stats();
	} else if (sscanf(line, "set %63s %63s", a, b) == 2) {
		puts(set(a, b) ? "ok" : "unknown setting");
	} else if (!strcmp(line, "reset")) {
		while (s.nconn)
			drop(s.conn[0]);
		puts("ok");
	} else if (sscanf(line, "mo %20s %20s %u %u %508s", a, b, &dcs, &esm, hex) >= 4) {
		uint8_t text[254];
		mo_queue(mo_new(a, b, esm, dcs, text, unhex(hex, text, sizeof text)));
		puts("ok");
	} else if (sscanf(line, "raw %131072s", hex) == 1) {
		raw(hex);
		puts("ok");
	} else {
		puts("unknown command");
	}
	fflush(stdout);
}

/* false: standard input has ended, and so do we. */
static bool commands(void)
{
	static char line[140000];
	static size_t n;
	ssize_t got = read(0, line + n, sizeof line - n - 1);
	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	n += (size_t)got;
	for (char *nl; (nl = memchr(line, '\n', n));) {
		*nl = 0;
		command(line);
		n -= (size_t)(nl + 1 - line);
		memmove(line, nl + 1, n);
	}
	return true;
}

static int listener(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof a;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024) ||
	    getsockname(fd, (struct sockaddr *)&a, &len))
		die("listen");
	printf("%u\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static void arguments(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *name = argv[i] + 2;
		if (!strcmp(name, "log"))
			s.log_fd =
				open(argv[i + 1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		else if (!strcmp(name, "password"))
			s.password = argv[i + 1];
		else if (!set(name, argv[i + 1])) {
			fprintf(stderr, "smsc: unknown option %s\n", argv[i]);
			exit(2);
		}
	}
}

static void turn(int ln)
{
	struct epoll_event ev[64];
	int wait = run_due();
	log_flush();
	for (unsigned i = 0; i < s.nconn; i++)
		flush(s.conn[i]);
	int n = epoll_wait(s.ep, ev, 64, wait);
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == UINT32_MAX) {
			if (!commands())
				exit(0);
		} else if (ev[i].data.u32 == 0) {
			accept_one(ln);
		} else {
			struct conn *c = conn_by_number(ev[i].data.u32);
			if (c && !input(c)) {
				log_flush();
				flush(c);
				drop(c);
			}
		}
	}
	for (unsigned i = 0; i < s.nconn; i++)
		flush(s.conn[i]);
}

int main(int argc, char **argv)
{
	/* Ids of one run are not those of another: it may be killed and started again. */
	s.next_id = (uint64_t)time(NULL) % 100000000 * 10000 + 1;
	arguments(argc, argv);
	s.ep = epoll_create1(EPOLL_CLOEXEC);
	int ln = listener();
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 0 };
	epoll_ctl(s.ep, EPOLL_CTL_ADD, ln, &ev);
	ev.data.u32 = UINT32_MAX;
	epoll_ctl(s.ep, EPOLL_CTL_ADD, 0, &ev);
	for (;;)
		turn(ln);
}
