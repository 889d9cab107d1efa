/* modes.c - what xmppload can measure: messages between pairs, delay at a rate, idle sessions,
 * logins. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tests/bench/xl.h"

static struct {
	struct xl_conn **conn;
	uint64_t received, sent, target, cpu_at;
	struct samples delay, ack;
	uint64_t *ack_at; /* per connection a ring of send times, for <a/> */
	bool timing;
} m;

#define ACK_RING 4096

static struct xl_conn **table(unsigned n)
{
	struct xl_conn **t = calloc(n, sizeof(struct xl_conn *));
	if (!t)
		xl_die("out of memory");
	return t;
}

static void nothing_ready(struct xl_conn *c)
{
	(void)c;
}

static void nothing_stanza(struct xl_conn *c, const char *s, size_t n)
{
	(void)c;
	(void)s;
	(void)n;
}

static const struct xl_ops quiet = { nothing_ready, nothing_stanza };

/* Let answers to logins come in before anything is measured. */
static void settle(unsigned ms)
{
	for (uint64_t end = xl_now_ns() + ms * 1000000ull; xl_now_ns() < end;)
		xl_turn(50);
}

/* About 184 octets on the wire, as a client with a random id sends it. The time is in the id. */
static void message(struct xl_conn *c, struct xl_conn *to)
{
	static const char filler[] = "The quick brown fox jumps over the lazy dog and then sleeps. "
				     "The quick brown fox jumps over the lazy dog and then sleeps.";
	char s[1024];
	char id[32];
	snprintf(id, sizeof id, "t%llu", (unsigned long long)xl_now_ns());
	int fixed = snprintf(s, sizeof s,
			     "<message to='%s' type='chat' id='%s'><body></body></message>",
			     to->jid, id);
	int fill = (int)xl_opt.octets - fixed;
	fill = fill < 1 ? 1 : fill > (int)sizeof filler - 1 ? (int)sizeof filler - 1 : fill;
	int n = snprintf(s, sizeof s,
			 "<message to='%s' type='chat' id='%s'><body>%.*s</body></message>",
			 to->jid, id, fill, filler);
	xl_write(c, s, (size_t)n);
	c->sent++;
	m.sent++;
}

static struct xl_conn *partner(struct xl_conn *c)
{
	return m.conn[c->index ^ 1];
}

/* ---- pairs: each message received is answered by one ------------------------------------------
 */

static void pairs_stanza(struct xl_conn *c, const char *s, size_t n)
{
	if (!xl_is(s, n, "message"))
		return;
	m.received++;
	if (m.sent < m.target)
		message(c, partner(c));
	/* As clients do: ask now and then, so that the server may forget. */
	if (xl_opt.sm && c->sent % 16 == 0)
		xl_write(c, "<r xmlns='urn:xmpp:sm:3'/>", 26);
}

static const struct xl_ops pairs_ops = { nothing_ready, pairs_stanza };

static void pairs_run(uint64_t messages)
{
	m.received = m.sent = 0;
	m.target = messages;
	for (unsigned w = 0; w < xl_opt.window; w++)
		for (unsigned i = 0; i < 2 * xl_opt.pairs; i += 2)
			message(m.conn[i], m.conn[i + 1]);
	uint64_t moved = xl_now_ns();
	for (uint64_t last = 0; m.received < m.sent || m.sent < m.target;) {
		xl_turn(1000);
		if (m.received != last)
			moved = xl_now_ns();
		last = m.received;
		if (xl_now_ns() - moved > 20000000000u)
			xl_die("nothing came for 20 s; %llu of %llu messages were received",
			       (unsigned long long)m.received, (unsigned long long)m.sent);
	}
}

int mode_pairs(void)
{
	unsigned n = 2 * xl_opt.pairs;
	m.conn = table(n);
	if (xl_opt.raw)
		xl_opt.parallel =
			1; /* the relay joins the connections in the order in which they come */
	xl_open(n, &pairs_ops, m.conn);
	if (xl_opt.raw)
		for (unsigned i = 0; i < n; i++)
			snprintf(m.conn[i]->jid, sizeof m.conn[i]->jid, "u%u@%s/r", i,
				 xl_opt.domain);
	settle(300);
	pairs_run((uint64_t)xl_opt.pairs * xl_opt.window * 4);
	double cpu = proc_cpu_s(xl_opt.pid, xl_opt.npid);
	uint64_t start = xl_now_ns();
	pairs_run(xl_opt.messages);
	double seconds = (double)(xl_now_ns() - start) / 1e9;
	cpu = proc_cpu_s(xl_opt.pid, xl_opt.npid) - cpu;
	printf("{\"messages\": %llu, \"seconds\": %.3f, \"per_second\": %.0f, \"cpu_s\": %.3f, "
	       "\"cpu_s_per_100k\": %.3f}\n",
	       (unsigned long long)m.received, seconds, (double)m.received / seconds, cpu,
	       cpu * 1e5 / (double)m.received);
	return 0;
}

/* ---- latency: messages at a steady rate -------------------------------------------------------
 */

static unsigned latency_turn;

static void latency_tick(int fd)
{
	uint64_t due;
	if (read(fd, &due, sizeof due) != (ssize_t)sizeof due)
		return;
	for (; due; due--) {
		unsigned pair = latency_turn++ % xl_opt.pairs;
		struct xl_conn *c = m.conn[2 * pair];
		if (xl_opt.sm)
			m.ack_at[c->index / 2 * ACK_RING + c->sent % ACK_RING] = xl_now_ns();
		message(c, m.conn[2 * pair + 1]);
		if (xl_opt.sm)
			xl_write(c, "<r xmlns='urn:xmpp:sm:3'/>", 26);
	}
}

static void latency_ack(struct xl_conn *c, const char *s, size_t n)
{
	char h[16];
	if (!xl_attribute(s, n, "h", h, sizeof h))
		xl_die("<a/> without h");
	uint32_t count = (uint32_t)strtoul(h, NULL, 10);
	uint64_t now = xl_now_ns();
	for (; c->acked != count; c->acked++) {
		uint64_t at = m.ack_at[c->index / 2 * ACK_RING + c->acked % ACK_RING];
		if (m.timing && at)
			samples_add(&m.ack, now - at);
	}
}

static void latency_stanza(struct xl_conn *c, const char *s, size_t n)
{
	char id[32];
	if (xl_is(s, n, "a")) {
		if (!(c->index & 1))
			latency_ack(c, s, n);
		return;
	}
	if (!xl_is(s, n, "message") || !xl_attribute(s, n, "id", id, sizeof id) || id[0] != 't')
		return;
	m.received++;
	if (m.timing)
		samples_add(&m.delay, xl_now_ns() - strtoull(id + 1, NULL, 10));
}

static const struct xl_ops latency_ops = { nothing_ready, latency_stanza };

static void latency_for(unsigned seconds)
{
	for (uint64_t end = xl_now_ns() + seconds * 1000000000ull; xl_now_ns() < end;)
		xl_turn(10);
}

int mode_latency(void)
{
	unsigned n = 2 * xl_opt.pairs;
	m.conn = table(n);
	m.ack_at = calloc((size_t)xl_opt.pairs * ACK_RING, sizeof *m.ack_at);
	if (!m.ack_at)
		xl_die("out of memory");
	xl_open(n, &latency_ops, m.conn);
	settle(300);
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct itimerspec t = { { 0, 1000000000 / (long)xl_opt.rate }, { 0, 1000000 } };
	if (fd < 0 || timerfd_settime(fd, 0, &t, NULL))
		xl_die("no timer");
	xl_watch(fd, latency_tick);
	latency_for(1); /* warm */
	m.timing = true;
	uint64_t sent = m.sent;
	double cpu = proc_cpu_s(xl_opt.pid, xl_opt.npid);
	latency_for(xl_opt.seconds);
	cpu = proc_cpu_s(xl_opt.pid, xl_opt.npid) - cpu;
	sent = m.sent - sent;
	printf("{\"rate\": %.0f, \"received\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, "
	       "\"ack_p50_ms\": %.3f, \"ack_p99_ms\": %.3f, \"cpu_s_per_100k\": %.3f}\n",
	       (double)sent / xl_opt.seconds, m.delay.n, samples_ms(&m.delay, 50),
	       samples_ms(&m.delay, 99), samples_ms(&m.delay, 100), samples_ms(&m.ack, 50),
	       samples_ms(&m.ack, 99), cpu * 1e5 / (double)(sent ? sent : 1));
	return 0;
}

/* ---- idle: memory of a session that does nothing ----------------------------------------------
 */

/* Until memory has stopped falling: servers collect their rubbish some seconds later. */
static uint64_t rss_settled(unsigned least_s, unsigned most_s)
{
	uint64_t start = xl_now_ns(), since = start, low = UINT64_MAX;
	for (;;) {
		settle(500);
		uint64_t rss = proc_rss_octets(xl_opt.pid, xl_opt.npid), now = xl_now_ns();
		if (rss < low - low / 100)
			since = now;
		if (rss < low)
			low = rss;
		if ((now - start > least_s * 1000000000ull && now - since > 3000000000u) ||
		    now - start > most_s * 1000000000ull)
			return rss;
	}
}

int mode_idle(void)
{
	unsigned first = xl_opt.first_user, all = xl_opt.sessions, warm = all / 10;
	xl_opt.presence = true;
	xl_open(warm, &quiet,
		NULL); /* pools, tables and code pages are there before the base is taken */
	uint64_t base = rss_settled(3, 10);
	xl_opt.first_user = first + warm;
	xl_open(all, &quiet, NULL);
	uint64_t rss = rss_settled(xl_opt.seconds, xl_opt.seconds + 15);
	printf("{\"sessions\": %u, \"base_mib\": %.1f, \"rss_mib\": %.1f, \"kib_per_session\": %.2f}\n",
	       all, (double)base / 1048576, (double)rss / 1048576,
	       ((double)rss - (double)base) / 1024 / all);
	return 0;
}

/* ---- login: authenticate and bind, again and again --------------------------------------------
 */

static unsigned logins_done, logins_begun;

static void login_ready(struct xl_conn *c);
static const struct xl_ops login_ops = { login_ready, nothing_stanza };

static void login_ready(struct xl_conn *c)
{
	logins_done++;
	xl_writef(c, "</stream:stream>");
	c->leaving = true;
}

static void logins(unsigned n)
{
	struct xl_conn **open = table(xl_opt.parallel);
	logins_done = logins_begun = 0;
	uint64_t deadline = xl_now_ns() + 120000000000u;
	while (logins_done < n) {
		for (unsigned i = 0; i < xl_opt.parallel; i++) {
			if (open[i] && open[i]->state == XL_CLOSED) {
				free(open[i]);
				open[i] = NULL;
			}
			if (!open[i] && logins_begun < n) {
				unsigned user = xl_opt.first_user + logins_begun % xl_opt.sessions;
				open[i] = xl_connect(i, user, &login_ops, NULL);
				logins_begun++;
			}
		}
		xl_turn(1000);
		if (xl_now_ns() > deadline)
			xl_die("%u of %u logins in 120 s", logins_done, n);
	}
	xl_turn(0);
	for (unsigned i = 0; i < xl_opt.parallel; i++)
		free(open[i]);
	free(open);
	settle(500);
}

int mode_login(void)
{
	xl_opt.presence = false;
	logins(xl_opt.sessions); /* the client has stretched all passwords, the server has met all
				    users */
	double cpu = proc_cpu_s(xl_opt.pid, xl_opt.npid);
	uint64_t start = xl_now_ns();
	logins(xl_opt.messages);
	double seconds = (double)(xl_now_ns() - start) / 1e9 - 0.5;
	cpu = proc_cpu_s(xl_opt.pid, xl_opt.npid) - cpu;
	printf("{\"logins\": %u, \"per_second\": %.0f, \"cpu_ms\": %.3f}\n", xl_opt.messages,
	       xl_opt.messages / seconds, cpu * 1e3 / xl_opt.messages);
	return 0;
}

/* ---- register: make accounts (XEP-0077) -------------------------------------------------------
 */

static void registered(struct xl_conn *c)
{
	c->leaving = true;
	xl_writef(c, "</stream:stream>");
}

static const struct xl_ops register_ops = { registered, nothing_stanza };

int mode_register(void)
{
	xl_opt.registering = true;
	xl_opt.presence = false;
	uint64_t start = xl_now_ns();
	xl_open(xl_opt.sessions, &register_ops, NULL);
	xl_turn(0);
	printf("{\"registered\": %u, \"seconds\": %.1f}\n", xl_opt.sessions,
	       (double)(xl_now_ns() - start) / 1e9);
	return 0;
}
