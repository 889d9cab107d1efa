/* Workers in threads of their own: sessions that message, subscribe, come and go across workers. Run under TSan. Every
 * message that was counted arrives, once and in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "tests/unit/router_harness.h"

#define WORKERS  2u
#define USERS    6u /* a worker */
#define MESSAGES 150u
#define SUBSCRIBES (MESSAGES / 40u) /* a user; the other one has approved, or approves */

struct mt;

struct mt_place {
	struct custody c;
	struct mt_user *u;
};

struct mt_user {
	struct session s;
	struct mt *t;
	char jid[80], bare[64], sm_id[16];
	unsigned worker, number, sent, counted;
	unsigned next[WORKERS * USERS]; /* from each sender, the next message number */
	bool bound;
	struct list mail;
	struct loop_task ack, send;
	struct mt_place place[MESSAGES];
};

struct mt_mail {
	struct list node;
	struct mail *m;
};

struct mt {
	struct mt_user user[WORKERS * USERS];
	_Atomic unsigned bound, counted, got, acked, wrong, subscribed, stopped;
};

static struct mt *mt;

static void run_acks(struct loop_task *t)
{
	struct mt_user *u = container_of(t, struct mt_user, ack);
	struct list *n;

	while ((n = list_pop(&u->mail))) {
		struct mt_mail *mm = LIST_ENTRY(n, struct mt_mail, node);

		mail_acked(u->s.w, mm->m);
		free(mm);
		atomic_fetch_add(&u->t->acked, 1);
	}
}

static void deliver(struct session *s, struct stanza *st, struct sl extra, struct mail *m)
{
	struct mt_user *u = container_of(s, struct mt_user, s);
	uint64_t from, number;

	(void)extra;
	if (st->kind == STANZA_PRESENCE && st->type == ST_SUBSCRIBED)
		atomic_fetch_add(&u->t->subscribed, 1);
	if (st->kind != STANZA_MESSAGE)
		return;
	sl_to_u64(sl_sub(st->id, 0, sl_find(st->id, '-', 0)), WORKERS * USERS - 1, &from);
	sl_to_u64(sl_sub(st->id, sl_find(st->id, '-', 0) + 1, st->id.n), MESSAGES * 10, &number);
	if (number != u->next[from])
		atomic_fetch_add(&u->t->wrong, 1);
	u->next[from]++;
	atomic_fetch_add(&u->t->got, 1);
	if (m) {
		struct mt_mail *mm = calloc(1, sizeof(*mm));

		mail_hold(m);
		mm->m = m;
		list_append(&u->mail, &mm->node);
		loop_defer(s->w->loop, &u->ack, run_acks);
	}
}

static void closed(struct session *s, const char *stream_error, struct sl text)
{
	(void)stream_error;
	(void)text;
	atomic_fetch_add(&container_of(s, struct mt_user, s)->t->wrong, 1);
}

static const struct session_ops ops = { .deliver = deliver, .close = closed };

static void counted(struct custody *c, int rc)
{
	struct mt_user *u = container_of(c, struct mt_place, c)->u;

	if (rc || c->h != ++u->counted)
		atomic_fetch_add(&u->t->wrong, 1);
	atomic_fetch_add(&u->t->counted, 1);
}

static void send_xml(struct mt_user *u, const char *xml, struct custody *c)
{
	struct stanza *st;
	struct xml_node *n;
	struct arena *a = arena_new(1024, 65536);
	bool bad;

	if (xml_parse_one(a, arena_dup(a, sl_cstr(xml)), &n, NULL) || stanza_take(a, n, &st, &bad, NULL))
		abort();
	router_inbound(&u->s, st, c);
}

/* One message a turn, to everybody in turn; every fifth waits for its commit (CUST-5). */
static void send_some(struct loop_task *t)
{
	struct mt_user *u = container_of(t, struct mt_user, send);
	unsigned to = (u->number + 1 + u->sent % (WORKERS * USERS - 1)) % (WORKERS * USERS);
	struct mt_place *p = &u->place[u->sent];
	char xml[512], origin[96] = "";

	if (u->sent % 5 == 0)
		snprintf(origin, sizeof(origin), "<origin-id xmlns='urn:xmpp:sid:0' id='%u-%u'/>", u->number, u->sent);
	snprintf(xml, sizeof(xml), "<message to='%s' type='chat' id='%u-%u'><body>x</body>%s</message>",
		 u->t->user[to].bare, u->number, u->sent / (WORKERS * USERS - 1), origin);
	p->u = u;
	p->c = (struct custody){ .sm_id = sl_cstr(u->sm_id), .h = ++u->sent, .done = counted };
	send_xml(u, xml, &p->c);
	if (u->sent % 40 == 0) {
		snprintf(xml, sizeof(xml), "<presence to='%s' type='subscribe'/>", u->t->user[to].bare);
		send_xml(u, xml, NULL);
		/* the one who subscribes to this one */
		to = (2 * u->number + WORKERS * USERS - to) % (WORKERS * USERS);
		snprintf(xml, sizeof(xml), "<presence to='%s' type='subscribed'/>", u->t->user[to].bare);
		send_xml(u, xml, NULL);
	}
}

static void bound(struct session *s, int rc)
{
	struct mt_user *u = container_of(s, struct mt_user, s);

	if (rc)
		atomic_fetch_add(&u->t->wrong, 1);
	u->bound = true;
	send_xml(u, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>", NULL);
	send_xml(u, "<presence/>", NULL);
	atomic_fetch_add(&u->t->bound, 1);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct mt *t = mt;
	unsigned all = WORKERS * USERS;

	bus_enter(w->bus, w->id);
	for (unsigned i = 0; i < all; i++)
		if (t->user[i].worker == w->id)
			session_bind(&t->user[i].s, bound);
	while (atomic_load(&t->bound) < all)
		loop_turn(w->loop, 1);
	for (unsigned n = 0; n < MESSAGES; n++) {
		for (unsigned i = 0; i < all; i++)
			if (t->user[i].worker == w->id)
				loop_defer(w->loop, &t->user[i].send, send_some);
		loop_turn(w->loop, 0);
	}
	for (unsigned i = 0; i < 20000 && (atomic_load(&t->counted) < all * MESSAGES ||
					   atomic_load(&t->acked) < all * MESSAGES ||
					   atomic_load(&t->subscribed) < all * SUBSCRIBES);
	     i++)
		loop_turn(w->loop, 1);
	/* sessions end while the others still work */
	for (unsigned i = 0; i < all; i++)
		if (t->user[i].worker == w->id)
			session_ended(&t->user[i].s);
	atomic_fetch_add(&t->stopped, 1);
	while (atomic_load(&t->stopped) < WORKERS)
		loop_turn(w->loop, 1);
	for (unsigned i = 0; i < 50; i++)
		loop_turn(w->loop, 1);
	return NULL;
}

static void test_workers(void **state)
{
	struct rh *h = rh_new(WORKERS);
	struct mt *t = calloc(1, sizeof(*t));
	pthread_t thread[WORKERS];
	unsigned all = WORKERS * USERS, have[WORKERS] = { 0 }, n = 0;

	(void)state;
	for (unsigned i = 0; n < all; i++) {
		struct mt_user *u = &t->user[n];

		snprintf(u->bare, sizeof(u->bare), "u%u@localhost", i);
		snprintf(u->jid, sizeof(u->jid), "u%u@localhost/r", i);
		u->worker = bus_owner(h->bus, sl_cstr(u->bare));
		if (have[u->worker] == USERS)
			continue;
		have[u->worker]++;
		rh_account(h, u->bare);
		snprintf(u->sm_id, sizeof(u->sm_id), "sm%u", n);
		u->number = n++;
		u->t = t;
		u->s.ops = &ops;
		u->s.w = &h->w[u->worker];
		list_init(&u->mail);
		u->s.jid = jid_split(sl_cstr(u->jid));
		session_init(&u->s);
	}
	mt = t;
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, worker_main, &h->w[i]), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	bus_enter(h->bus, 0);
	rh_settle(h); /* deletions may still be under way */
	assert_int_equal(t->wrong, 0);
	assert_int_equal(t->counted, all * MESSAGES);
	assert_int_equal(t->got, all * MESSAGES);
	assert_int_equal(t->acked, all * MESSAGES);
	assert_int_equal(t->subscribed, all * SUBSCRIBES);
	for (unsigned i = 0; i < all; i++)
		assert_int_equal(rh_rows(h, t->user[i].bare), 0);
	rh_free(&h);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
