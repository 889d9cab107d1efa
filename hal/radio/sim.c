/* sim.c - the sim radio: a small telephone network of simulated handsets inside the process, for
 * trying things out and for tests.
 *
 * What it has accepted and what it has to hand in (reports, answers) is in a journal file, written
 * and synced at the end of the turn, before a send is completed: like a real network it forgets
 * nothing when our process is killed. The sync blocks the loop for a moment, which a lab can bear.
 * Lines: "E ..." an event that is to be offered, or a fragment that waits for its others; "D ID" it
 * is done. The file is written anew when it has grown far beyond what is alive. */
#include "hal/hal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/enc.h"
#include "appliance/base/hash.h"
#include "appliance/base/log.h"

#define JOURNAL       "sim-network.journal"
#define AGAIN_MS      5000u /* an event that was offered and not acknowledged */
#define REFUSED_MS    1000u
#define ROOM          200u
#define EVENTS_MAX    100000u
#define NUMBER_OCTETS 32u

enum kind { EV_REPORT = 'R', EV_MESSAGE = 'M', EV_FRAGMENT = 'F' };

struct event {
	struct hnode hn;
	struct loop_timer timer;
	struct sim *sim;
	uint64_t id, due_ms; /* wall clock */
	char kind;
	uint8_t report; /* enum hal_report */
	char from[NUMBER_OCTETS], to[NUMBER_OCTETS], reference[24];
	struct gsm_body body; /* data follows the struct */
	bool offering;
	char data[];
};

struct sent {
	struct list node;
	uint64_t cookie;
	char reference[24];
};

struct sim {
	struct hal_radio radio;
	const struct hal_sim_handset *handset;
	unsigned n;
	struct htable events;
	struct list sent; /* completions that wait for the sync */
	unsigned nsent;
	struct loop_task flush;
	struct loop_timer hello;
	struct buf out;
	int fd;
	uint64_t size, last_id;
};

static void on_event_timer(struct loop_timer *t);

/* ---- journal
 * ----------------------------------------------------------------------------------------- */

static int put_event(struct buf *b, const struct event *ev)
{
	const struct gsm_body *body = &ev->body;
	int rc = buf_addf(b, "E %" PRIu64 " %c %" PRIu64 " %u %s %s %s %d %u %u %u %d ", ev->id,
			  ev->kind, ev->due_ms, ev->report, ev->from, ev->to,
			  ev->reference[0] ? ev->reference : "-", (int)body->enc, body->concat.ref,
			  body->concat.total, body->concat.seq, body->concat.ref16);

	rc |= body->data.n ? hex_encode(b, body->data) : buf_addc(b, '-');
	rc |= buf_addc(b, '\n');
	return rc;
}

static int write_all(int fd, struct sl s)
{
	while (s.n) {
		ssize_t w = write(fd, s.p, s.n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return E_IO;
		s.p += w;
		s.n -= (size_t)w;
	}
	return 0;
}

static void complete(struct sim *s, enum hal_result res, const char *text)
{
	struct list *n;

	while ((n = list_pop(&s->sent))) {
		struct sent *c = LIST_ENTRY(n, struct sent, node);
		s->nsent--;
		s->radio.host->sms_sent(s->radio.host->arg, &s->radio, c->cookie, res,
					sl_cstr(c->reference), text);
		free(c);
	}
}

/* All that is alive into a new file, which then takes the old one's place. */
static int rewrite(struct sim *s)
{
	struct buf b;
	int rc = 0, fd = open(JOURNAL ".new", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		return E_IO;
	buf_init(&b, 256u << 20);
	for (struct hnode *h = htable_next(&s->events, NULL); h && rc == 0;
	     h = htable_next(&s->events, h))
		rc = put_event(&b, container_of(h, struct event, hn));
	if (rc == 0)
		rc = write_all(fd, buf_sl(&b));
	if (rc == 0 && (fdatasync(fd) < 0 || rename(JOURNAL ".new", JOURNAL) < 0))
		rc = E_IO;
	int dir = rc == 0 ? open(".", O_RDONLY) : -1;
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
	if (rc == 0) {
		if (s->fd >= 0)
			close(s->fd);
		s->fd = fd;
		s->size = b.n;
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	} else {
		close(fd);
	}
	buf_free(&b);
	return rc;
}

static void flush(struct loop_task *t)
{
	struct sim *s = container_of(t, struct sim, flush);
	int rc = write_all(s->fd, buf_sl(&s->out));

	if (rc == 0 && fdatasync(s->fd) < 0)
		rc = E_IO;
	s->size += s->out.n;
	buf_free(&s->out);
	if (rc < 0)
		log_ev(LOG_L_ERROR, "hal.sim.journal",
		       KC("hint",
			  "the simulated network cannot write its file; is the disk full?"));
	complete(s, rc == 0 ? HAL_OK : HAL_AMBIGUOUS,
		 rc == 0 ? "" : "the simulated network cannot write its journal");
	if (s->size > (1u << 20) + 4096u * (uint64_t)s->events.n)
		rewrite(s);
}

/* ---- events
 * ------------------------------------------------------------------------------------------- */

/* Ids are times: their low bits alone are no hash. */
static uint64_t hash_id(uint64_t id)
{
	return hash_bytes(sl_mk((const char *)&id, sizeof(id)));
}

static struct event *event_new(struct sim *s, char kind, struct sl from, struct sl to,
			       const struct gsm_body *body, uint32_t delay_ms)
{
	struct event *ev = s->events.n < EVENTS_MAX
				   ? calloc(1, sizeof(*ev) + (body ? body->data.n : 0))
				   : NULL;
	uint64_t now = clock_wall_ms();

	if (!ev || sl_to_cstr(from, ev->from, sizeof(ev->from)) < 0 ||
	    sl_to_cstr(to, ev->to, sizeof(ev->to)) < 0)
		goto fail;
	s->last_id = (now << 20) > s->last_id ? now << 20 : s->last_id + 1;
	ev->sim = s;
	ev->id = s->last_id;
	ev->kind = kind;
	ev->due_ms = now + delay_ms;
	if (body) {
		ev->body = *body;
		if (body->data.n)
			memcpy(ev->data, body->data.p, body->data.n);
		ev->body.data = sl_mk(ev->data, body->data.n);
	}
	if (htable_add(&s->events, &ev->hn, hash_id(ev->id)) < 0)
		goto fail;
	return ev;
fail:
	free(ev);
	return NULL;
}

static void event_free(struct event *ev)
{
	htable_del(&ev->sim->events, &ev->hn);
	loop_timer_clear(&ev->timer);
	free(ev);
}

static void event_start(struct event *ev)
{
	uint64_t now = clock_wall_ms();

	if (ev->kind != EV_FRAGMENT)
		loop_timer_set(ev->sim->radio.host->loop, &ev->timer,
			       ev->due_ms > now ? ev->due_ms - now : 0, on_event_timer);
}

static void event_done(struct event *ev)
{
	struct sim *s = ev->sim;

	/* Without memory for the line it is offered once more after the next start. */
	buf_addf(&s->out, "D %" PRIu64 "\n", ev->id);
	loop_defer(s->radio.host->loop, &s->flush, flush);
	event_free(ev);
}

static bool event_match(const struct hnode *h, const void *key)
{
	return container_of(h, struct event, hn)->id == *(const uint64_t *)key;
}

static void on_event_timer(struct loop_timer *t)
{
	static const char *const texts[] = { "delivered", "the handset refused the message",
					     "the handset was not reached" };
	struct event *ev = container_of(t, struct event, timer);
	struct sim *s = ev->sim;
	const struct hal_host *h = s->radio.host;

	loop_timer_set(h->loop, t, AGAIN_MS, on_event_timer);
	if (ev->kind == EV_REPORT) {
		h->sms_report(h->arg, &s->radio, ev->id, sl_cstr(ev->reference),
			      (enum hal_report)ev->report, texts[ev->report]);
	} else {
		struct hal_sms m = { .from = sl_cstr(ev->from),
				     .to = sl_cstr(ev->to),
				     .body = ev->body };
		h->sms_received(h->arg, &s->radio, ev->id, &m, ev->due_ms);
	}
}

static void sim_sms_ack(struct hal_radio *r, uint64_t token, bool ok)
{
	struct sim *s = (struct sim *)r;
	struct hnode *h = htable_find(&s->events, hash_id(token), event_match, &token);
	struct event *ev = h ? container_of(h, struct event, hn) : NULL;

	if (!ev)
		return;
	if (ok)
		event_done(ev);
	else
		loop_timer_set(r->host->loop, &ev->timer, REFUSED_MS, on_event_timer);
}

/* ---- what a handset does
 * --------------------------------------------------------------------------------- */

static const struct hal_sim_handset *find(const struct sim *s, struct sl number)
{
	for (unsigned i = 0; i < s->n; i++)
		if (sl_eq(s->handset[i].number, number))
			return &s->handset[i];
	return NULL;
}

static int journal_event(struct sim *s, struct event *ev)
{
	int rc = ev ? put_event(&s->out, ev) : E_NOMEM;

	if (rc < 0 && ev)
		event_free(ev);
	return rc;
}

/* The handset's text with what it got in place of %s, sent in as many parts as it needs. */
static int answer(struct sim *s, const struct hal_sim_handset *h, struct sl to, struct sl text)
{
	struct gsm_split_cfg cfg = { .max_parts = GSM_PARTS_MAX };
	struct arena *a = arena_new(1024, 1u << 20);
	struct gsm_text parts;
	struct buf b;
	const char *pct = h->answer.n ? memmem(h->answer.p, h->answer.n, "%s", 2) : NULL;
	size_t at = pct ? (size_t)(pct - h->answer.p) : h->answer.n;
	int rc;

	buf_init(&b, 65536);
	rc = buf_add(&b, sl_sub(h->answer, 0, at));
	if (rc == 0 && pct)
		rc = buf_add(&b, text);
	if (rc == 0 && pct)
		rc = buf_add(&b, sl_sub(h->answer, at + 2, h->answer.n));
	if (rc == 0)
		rc = a ? gsm_split(a, buf_sl(&b), &cfg, &parts, NULL) : E_NOMEM;
	for (unsigned i = 0; rc == 0 && i < parts.n; i++) {
		struct gsm_body body = { .enc = parts.enc, .data = parts.part[i] };
		if (parts.n > 1)
			body.concat = (struct gsm_concat){ (uint16_t)(s->last_id & 0xff),
							   (uint8_t)parts.n, (uint8_t)(i + 1),
							   false };
		struct event *ev = event_new(s, EV_MESSAGE, h->number, to, &body, h->delay_ms);
		rc = journal_event(s, ev);
		if (rc == 0)
			event_start(ev);
	}
	buf_free(&b);
	arena_free(&a);
	return rc;
}

static bool same_message(const struct event *ev, const struct hal_sms *m)
{
	const struct gsm_concat *a = &ev->body.concat, *b = &m->body.concat;

	return ev->kind == EV_FRAGMENT && sl_eq(sl_cstr(ev->from), m->from) &&
	       sl_eq(sl_cstr(ev->to), m->to) && a->ref == b->ref && a->total == b->total &&
	       a->ref16 == b->ref16;
}

/* Take a part. true: the message is complete, and part[] (total of them) has its pieces; the last
 * is m's own. */
static bool collect(struct sim *s, const struct hal_sms *m, struct gsm_body part[GSM_PARTS_MAX],
		    int *rc_r)
{
	const struct gsm_concat *c = &m->body.concat;
	unsigned have = 1;
	struct event *ev;

	memset(part, 0, sizeof(part[0]) * c->total);
	part[c->seq - 1] = m->body;
	for (struct hnode *h = htable_next(&s->events, NULL); h; h = htable_next(&s->events, h)) {
		ev = container_of(h, struct event, hn);
		if (!same_message(ev, m) || part[ev->body.concat.seq - 1].concat.total)
			continue;
		part[ev->body.concat.seq - 1] = ev->body;
		have++;
	}
	if (have == c->total)
		return true;
	ev = event_new(s, EV_FRAGMENT, m->from, m->to, &m->body, 0);
	*rc_r = journal_event(s, ev);
	return false;
}

static void drop_fragments(struct sim *s, const struct hal_sms *m)
{
	struct hnode *h = htable_next(&s->events, NULL), *next;

	for (; h; h = next) {
		struct event *ev = container_of(h, struct event, hn);
		next = htable_next(&s->events, h);
		if (same_message(ev, m))
			event_done(ev);
	}
}

static int receive(struct sim *s, const struct hal_sim_handset *h, const struct hal_sms *m)
{
	struct gsm_body part[GSM_PARTS_MAX];
	struct arena *a;
	struct sl text;
	bool many = m->body.concat.total > 1, whole;
	int rc = 0;

	if (h->behaviour != HAL_SIM_ANSWER)
		return 0;
	part[0] = m->body;
	whole = !many || collect(s, m, part, &rc);
	if (!whole)
		return rc;
	a = arena_new(1024, 1u << 20);
	rc = a ? gsm_join(a, part, many ? m->body.concat.total : 1, &text) : E_NOMEM;
	if (rc == 0)
		rc = answer(s, h, m->from, text);
	else if (rc == E_UNSUPPORTED) /* binary: nothing to say */
		rc = 0;
	arena_free(&a);
	if (rc == 0 && many)
		drop_fragments(s, m);
	return rc;
}

static int report(struct sim *s, const struct hal_sim_handset *h, const struct hal_sms *m,
		  const char *reference)
{
	uint32_t delay = h->behaviour == HAL_SIM_ABSENT
				 ? (m->validity_s > 86400u ? 86400u : m->validity_s) * 1000u
				 : h->delay_ms;
	struct event *ev;
	int rc;

	if (!m->want_report || h->behaviour == HAL_SIM_SILENT)
		return 0;
	ev = event_new(s, EV_REPORT, m->from, m->to, NULL, delay);
	if (!ev)
		return E_NOMEM;
	ev->report = h->behaviour == HAL_SIM_REFUSE   ? HAL_REPORT_FAILED
		     : h->behaviour == HAL_SIM_ABSENT ? HAL_REPORT_EXPIRED
						      : HAL_REPORT_DELIVERED;
	snprintf(ev->reference, sizeof(ev->reference), "%s", reference);
	rc = journal_event(s, ev);
	if (rc == 0)
		event_start(ev);
	return rc;
}

static int sim_sms_send(struct hal_radio *r, const struct hal_sms *m, uint64_t cookie)
{
	struct sim *s = (struct sim *)r;
	const struct hal_sim_handset *h = find(s, m->to);
	struct sent *c;

	if (!h)
		return E_NOTFOUND;
	if (s->nsent >= ROOM || s->events.n + GSM_PARTS_MAX > EVENTS_MAX)
		return E_AGAIN;
	c = calloc(1, sizeof(*c));
	if (!c)
		return E_AGAIN;
	s->last_id++;
	c->cookie = cookie;
	snprintf(c->reference, sizeof(c->reference), "%" PRIx64, s->last_id);
	if (report(s, h, m, c->reference) < 0 || receive(s, h, m) < 0) {
		free(c);
		return E_AGAIN;
	}
	list_append(&s->sent, &c->node);
	s->nsent++;
	loop_defer(r->host->loop, &s->flush, flush);
	return 0;
}

static unsigned sim_serves(const struct hal_radio *r, struct sl number)
{
	return find((const struct sim *)r, number) ? (unsigned)number.n + 1 : 0;
}

static unsigned sim_room(const struct hal_radio *r)
{
	const struct sim *s = (const struct sim *)r;

	return s->nsent < ROOM ? ROOM - s->nsent : 0;
}

/* ---- life
 * ---------------------------------------------------------------------------------------------- */

static void sim_close(struct hal_radio **r)
{
	struct sim *s = (struct sim *)*r;
	struct hnode *h;

	*r = NULL;
	if (s->nsent || s->out.n)
		flush(&s->flush);
	loop_task_clear(&s->flush);
	loop_timer_clear(&s->hello);
	while ((h = htable_next(&s->events, NULL)))
		event_free(container_of(h, struct event, hn));
	htable_free(&s->events);
	buf_free(&s->out);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

/* One "E" line of the journal; the fields are ours, but a file can be damaged. */
static void read_event(struct sim *s, const char *line)
{
	unsigned long long id, due;
	unsigned report_kind, ref, total, seq;
	int enc, ref16, used = 0;
	char kind, from[NUMBER_OCTETS], to[NUMBER_OCTETS], reference[24];
	struct buf data;
	struct event *ev;

	if (sscanf(line, "E %llu %c %llu %u %31s %31s %23s %d %u %u %u %d %n", &id, &kind, &due,
		   &report_kind, from, to, reference, &enc, &ref, &total, &seq, &ref16,
		   &used) != 12 ||
	    used == 0)
		return;
	if (!strchr("RMF", kind) || report_kind > HAL_REPORT_EXPIRED || enc < 0 ||
	    enc > GSM_ENC_OCTETS || total > 255 || seq > total || (total && !seq) || ref > 65535)
		return;
	buf_init(&data, 65536);
	struct sl hex = sl_cstr(line + used);
	if (sl_eq(hex, SL("-")) || hex_decode(&data, hex) == 0) {
		struct gsm_body body = { .enc = (enum gsm_enc)enc,
					 .data = buf_sl(&data),
					 .concat = { (uint16_t)ref, (uint8_t)total, (uint8_t)seq,
						     ref16 != 0 } };
		ev = event_new(s, kind, sl_cstr(from), sl_cstr(to), &body, 0);
		if (ev) {
			htable_del(&s->events, &ev->hn);
			ev->id = id;
			ev->due_ms = due;
			ev->report = (uint8_t)report_kind;
			snprintf(ev->reference, sizeof(ev->reference), "%s", reference);
			if (htable_add(&s->events, &ev->hn, hash_id(ev->id)) < 0)
				free(ev);
			if (id > s->last_id)
				s->last_id = id;
		}
	}
	buf_free(&data);
}

static int read_journal(struct sim *s, struct err *e)
{
	FILE *f = fopen(JOURNAL, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (!f)
		return errno == ENOENT ? 0 : err_errno(e, E_IO, "cannot read " JOURNAL);
	while ((n = getline(&line, &cap, f)) > 0) {
		unsigned long long id;
		if (line[n - 1] != '\n')
			break; /* cut by a power loss: it was not synced, so nothing was said of it
				*/
		line[n - 1] = '\0';
		if (line[0] == 'E') {
			read_event(s, line);
		} else if (sscanf(line, "D %llu", &id) == 1) {
			uint64_t key = id;
			struct hnode *h = htable_find(&s->events, hash_id(key), event_match, &key);
			if (h)
				event_free(container_of(h, struct event, hn));
		}
	}
	free(line);
	fclose(f);
	return 0;
}

static const struct hal_radio_ops sim_ops = {
	.abi = HAL_ABI,
	.size = sizeof(struct hal_radio_ops),
	.name = "sim",
	.sms_send = sim_sms_send,
	.sms_ack = sim_sms_ack,
	.serves = sim_serves,
	.room = sim_room,
	.close = sim_close,
};

static void on_hello(struct loop_timer *t)
{
	struct sim *s = container_of(t, struct sim, hello);

	s->radio.host->radio_state(s->radio.host->arg, &s->radio, true, "");
}

int hal_sim_open(const struct hal_host *host, const struct hal_sim_handset *h, unsigned n,
		 struct hal_radio **r_r, struct err *e)
{
	struct sim *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, E_NOMEM, NULL, "out of memory");
	s->radio = (struct hal_radio){ &sim_ops, host };
	s->handset = h;
	s->n = n;
	s->fd = -1;
	list_init(&s->sent);
	buf_init(&s->out, 64u << 20);
	rc = read_journal(s, e);
	if (rc == 0 && rewrite(s) < 0)
		rc = err_errno(e, E_IO, "cannot write " JOURNAL);
	if (rc < 0) {
		struct hal_radio *r = &s->radio;
		sim_close(&r);
		return rc;
	}
	for (struct hnode *hn = htable_next(&s->events, NULL); hn; hn = htable_next(&s->events, hn))
		event_start(container_of(hn, struct event, hn));
	loop_timer_set(host->loop, &s->hello, 0, on_hello);
	*r_r = &s->radio;
	return 0;
}
