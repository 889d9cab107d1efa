/* access_rig.h - the access layer alone, in one thread, with a router, a store and an auth pool of
 * the test's own: nothing is random, nothing waits, everything happens in ar_turn. For tests of
 * machines, of memory, and for fuzzing.
 *
 * It defines the functions that those modules would (so that theirs are not linked): a program
 * includes it in one file only. */
#ifndef TANDEM_TESTS_UNIT_ACCESS_RIG_H
#define TANDEM_TESTS_UNIT_ACCESS_RIG_H

#include <sys/socket.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/tls.h"
#include "xmpp/access/auth.h"
#include "xmpp/access/c2s.h"
#include "xmpp/access/component.h"
#include "xmpp/access/login_int.h"

#define AR_LATER_MAX 4096

/* What has been asked of store and auth pool and not been answered. */
struct ar_later {
	struct store_op *op;
	struct auth_job *job;
};

static struct ar {
	struct loop *loop;
	struct bus *bus;
	struct access *access;
	struct core_config *cfg;
	struct worker w;
	char verifier[SCRAM_HASHES][SCRAM_TEXT_MAX];
	struct ar_later later[AR_LATER_MAX];
	unsigned nlater;
	struct custody *held[AR_LATER_MAX]; /* places whose commit the test has not given yet */
	unsigned nheld;
	bool hold;      /* commits wait */
	bool echo;      /* stanzas come back to the session that sent them */
	bool hold_bind; /* session_bind does not answer */
	int bind_rc, store_rc;
	uint32_t sm_put_h;  /* of the last STORE_SM_PUT */
	unsigned nsm_put, nsm_del;
	struct sl sm_owner; /* STORE_SM_GET finds a session of this account, with h 7 */
	struct session *last, *binding;
	void (*bound)(struct session *s, int rc);
	unsigned ninbound, nundelivered, nended, nbound, nmail_acked, nattached, ndetached;
} ar;

/* ---- the router's part ----------------------------------------------------------------------- */

struct mail {
	uint64_t id;
	unsigned holders;
};

void session_init(struct session *s)
{
	list_init(&s->user_node);
	list_init(&s->directed);
}

void session_bind(struct session *s, void (*bound)(struct session *s, int rc))
{
	if (ar.hold_bind) {
		ar.binding = s;
		ar.bound = bound;
		return;
	}
	if (ar.bind_rc == 0) {
		ar.last = s;
		ar.nbound++;
	}
	bound(s, ar.bind_rc);
}

void session_undelivered(struct session *s, struct stanza *st, struct mail *m)
{
	UNUSED(s);
	UNUSED(st);
	UNUSED(m);
	ar.nundelivered++;
}

void session_ended(struct session *s)
{
	ar.nended++;
	if (ar.last == s)
		ar.last = NULL;
	if (ar.binding == s)
		ar.binding = NULL;
}

void router_inbound(struct session *s, struct stanza *st_take, struct custody *c)
{
	ar.ninbound++;
	if (c && ar.hold && ar.nheld < AR_LATER_MAX)
		ar.held[ar.nheld++] = c;
	else if (c)
		c->done(c, 0);
	if (ar.echo && stanza_seal(st_take) == 0)
		s->ops->deliver(s, st_take, SL_NULL, NULL);
	stanza_unref(&st_take);
}

void component_attach(struct session *s)
{
	ar.last = s;
	ar.nattached++;
}

void component_detach(struct session *s)
{
	ar.ndetached++;
	if (ar.last == s)
		ar.last = NULL;
}

void mail_hold(struct mail *m)
{
	m->holders++;
}

void mail_acked(struct worker *w, struct mail *m)
{
	UNUSED(w);
	m->holders--;
	ar.nmail_acked++;
}

uint64_t mail_id(const struct mail *m)
{
	return m->id;
}

/* ---- the store's and the auth pool's part ------------------------------------------------------
 */

void store_op_init(struct store_op *op, enum store_kind kind, void (*done)(struct store_op *op),
		   void *arg)
{
	op->kind = (uint16_t)kind;
	op->done = done;
	op->arg = arg;
}

void store_op_fini(struct store_op *op)
{
	arena_free(&op->arena);
}

void store_submit(struct store *s, struct store_op *op)
{
	UNUSED(s);
	if (ar.nlater == AR_LATER_MAX)
		abort();
	ar.later[ar.nlater++] = (struct ar_later){ .op = op };
}

void auth_submit(struct auth_pool *p, struct auth_job *j)
{
	UNUSED(p);
	if (ar.nlater == AR_LATER_MAX)
		abort();
	ar.later[ar.nlater++] = (struct ar_later){ .job = j };
}

static void ar_store(struct store_op *op)
{
	struct store_account_get *get = container_of(op, struct store_account_get, op);
	struct store_sm_get *sm = container_of(op, struct store_sm_get, op);

	op->rc = ar.store_rc;
	if (op->kind == STORE_SM_PUT)
		ar.sm_put_h = container_of(op, struct store_sm_put, op)->h;
	ar.nsm_put += op->kind == STORE_SM_PUT;
	ar.nsm_del += op->kind == STORE_SM_DEL;
	if (op->kind == STORE_ACCOUNT_GET && sl_eq(get->user, SL("alice"))) {
		get->found_r = true;
		for (unsigned i = 0; i < SCRAM_HASHES; i++)
			get->verifier_r[i] = sl_cstr(ar.verifier[i]);
	}
	if (op->kind == STORE_SM_GET && ar.sm_owner.n) {
		sm->found_r = true;
		sm->owner_r = ar.sm_owner;
		sm->h_r = 7;
	}
	op->done(op);
}

/* Answers all that was asked before the call. */
static bool ar_answer(void)
{
	unsigned n = ar.nlater;
	struct ar_later now[64];

	if (n > 64)
		n = 64;
	memcpy(now, ar.later, n * sizeof(now[0]));
	ar.nlater -= n;
	memmove(ar.later, ar.later + n, ar.nlater * sizeof(now[0]));
	for (unsigned i = 0; i < n; i++) {
		if (now[i].op) {
			ar_store(now[i].op);
		} else {
			now[i].job->run(now[i].job);
			now[i].job->done(now[i].job);
		}
	}
	return n != 0;
}

/* ---- the rig -----------------------------------------------------------------------------------
 */

static void ar_turns(unsigned n)
{
	while (n--)
		loop_turn(ar.loop, 0);
}

/* Until nothing is going on. */
static void ar_turn(void)
{
	do
		ar_turns(3);
	while (ar_answer());
	ar_turns(2);
}

/* Commits that were held: give them with rc. */
__attribute__((unused)) static void ar_commit(int rc)
{
	unsigned n = ar.nheld;

	ar.nheld = 0;
	for (unsigned i = 0; i < n; i++)
		ar.held[i]->done(ar.held[i], rc);
}

static void ar_domain(const char *name, enum domain_kind kind, const char *secret,
		      struct tls_ctx *tls)
{
	struct domain d = { .name = sl_cstr(name),
			    .kind = kind,
			    .secret = sl_cstr(secret),
			    .tls = tls,
			    .custody = !secret };

	if (core_config_add_domain(ar.cfg, &d) != 0)
		abort();
}

static void ar_new(void)
{
	struct access_cfg cfg = { .secret = { 1 } };
	static bool global;
	struct secret key = { 0 };
	struct tls_ctx *tls = NULL;
	char *cert;
	struct err e;

	memset(&ar, 0, sizeof(ar));
	if (!global) {
		rnd_init();
		hash_key_init();
		tls_init();
		if (auth_global_init(&e) != 0)
			abort();
	}
	global = true;
	if (core_config_new(&ar.cfg) != 0 || bus_new(1, &ar.bus, &e) != 0 ||
	    loop_new(LOOP_BACKEND_DEFAULT, &ar.loop, &e) != 0 ||
	    bus_attach(ar.bus, 0, ar.loop, &ar.w, &e) != 0 || xml_pool_new(&ar.w.xml, 8) != 0 ||
	    tls_self_signed("localhost", 3650, &cert, &key, &e) != 0 ||
	    tls_ctx_server(sl_cstr(cert), sl_mk(key.p, key.n), "xmpp-client", &tls, &e) != 0)
		abort();
	ar.cfg->tls_required = false;
	ar.cfg->mechanisms = SL("SCRAM-SHA-512-PLUS SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS "
				"SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN");
	ar_domain("localhost", DOMAIN_HOST, NULL, tls);
	ar_domain("echo.localhost", DOMAIN_COMPONENT, "secret", NULL);
	ar_domain("sms.localhost", DOMAIN_COMPONENT, NULL, NULL);
	tls_ctx_unref(&tls);
	free(cert);
	secret_clear(&key);
	for (unsigned h = 0; h < SCRAM_HASHES; h++) {
		struct scram_verifier v;

		scram_derive((enum scram_hash)h, SL("wonder"), SL("0123456789abcdef"), 4096, &v);
		scram_text(&v, ar.verifier[h]);
	}
	bus_enter(ar.bus, 0);
	ar.w.loop = ar.loop;
	ar.w.bus = ar.bus;
	ar.w.cfg = core_config_ref(ar.cfg);
	list_init(&ar.w.conns);
	if (access_new(&cfg, ar.bus, &ar.access, &e) != 0 ||
	    access_worker_init(ar.access, &ar.w, &e) != 0)
		abort();
}

__attribute__((unused)) static void ar_free(void)
{
	ar_turn();
	ar_commit(0);
	access_worker_free(&ar.w);
	ar_turn();
	access_free(&ar.access);
	xml_pool_free(&ar.w.xml);
	core_config_unref(ar.w.cfg);
	core_config_unref(ar.cfg);
	bus_detach(ar.bus, 0);
	bus_free(&ar.bus);
	loop_free(&ar.loop);
}

/* A peer of this port; its stream is the newest of the worker. Returns the peer's descriptor. */
__attribute__((unused)) static int ar_connect(enum access_port port, struct stream **s_r)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0 || access_adopt(&ar.w, port, fd[0]) != 0)
		abort();
	ar_turns(1);
	*s_r = list_empty(&ar.w.conns) ? NULL : LIST_ENTRY(ar.w.conns.prev, struct stream, node);
	return fd[1];
}

__attribute__((unused)) static void ar_send(int fd, struct sl data)
{
	ssize_t n = send(fd, data.p, data.n, MSG_NOSIGNAL | MSG_DONTWAIT);

	UNUSED(n);
}

/* What has come, as a string; valid until the next call. */
__attribute__((unused)) static const char *ar_recv(int fd)
{
	static char text[262144];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

__attribute__((unused)) static const char *ar_talk(int fd, const char *text)
{
	ar_send(fd, sl_cstr(text));
	ar_turn();
	return ar_recv(fd);
}

#define AR_OPEN \
	"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' " \
	"xmlns:stream='http://etherx.jabber.org/streams'>"
#define AR_COPEN \
	"<stream:stream to='echo.localhost' xmlns='jabber:component:accept' " \
	"xmlns:stream='http://etherx.jabber.org/streams'>"
#define AR_C1OPEN \
	"<stream:stream to='echo.localhost' version='1.0' xmlns='jabber:component:accept' " \
	"xmlns:stream='http://etherx.jabber.org/streams'>"
#define AR_UOPEN \
	"<stream:stream to='sms.localhost' version='1.0' xmlns='jabber:component:accept' " \
	"xmlns:stream='http://etherx.jabber.org/streams'>"

/* As if alice had logged in: her stream waits for the header after that. */
__attribute__((unused)) static void ar_authed(struct c2s *c)
{
	c->bare = sl_dup(SL("alice@localhost"));
	c->mechanism = "TEST";
	c->st.f.state = C2S_AUTHED_HEADER;
	xml_stream_restart(c->st.xml);
	c->st.header_sent = false;
	stream_arm(&c->st, 0);
}

/* A client of alice with a bound resource. */
__attribute__((unused)) static int ar_bound(struct c2s **c_r)
{
	struct stream *s;
	int fd = ar_connect(ACCESS_C2S, &s);

	*c_r = container_of(s, struct c2s, st);
	ar_talk(fd, AR_OPEN);
	ar_authed(*c_r);
	ar_talk(fd, AR_OPEN);
	ar_talk(fd, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
	return fd;
}

#endif
