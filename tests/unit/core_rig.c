/* core_rig.c - see core_rig.h. */
#include "tests/unit/core_rig.h"

#include <arpa/inet.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/tls.h"
#include "xmpp/access/scram.h"

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "core rig: %s: %s\n", what, e && e->code ? e->text : "failed");
	exit(2);
}

static void add_domain(struct core_rig *r, const struct domain *d)
{
	if (core_config_add_domain(r->cfg, d) != 0)
		die("domain", NULL);
}

static struct tls_ctx *certificate(const char *name)
{
	struct tls_ctx *tls = NULL;
	struct secret key = { 0 };
	char *cert;
	struct err e = { 0 };

	if (tls_self_signed(name, 30, &cert, &key, &e) != 0 ||
	    tls_ctx_server(sl_cstr(cert), sl_mk(key.p, key.n), "xmpp-client", &tls, &e) != 0)
		die("certificate", &e);
	free(cert);
	secret_clear(&key);
	return tls;
}

static void hosts(struct core_rig *r)
{
	struct tls_ctx *one = certificate("localhost"), *two = certificate("other.test");

	add_domain(r, &(struct domain){ .name = SL("localhost"), .tls = one });
	add_domain(r, &(struct domain){ .name = SL("other.test"), .tls = two });
	if (tls_ctx_add_host(one, SL("other.test"), two) != 0)
		die("certificate", NULL);
	r->cfg->tls_first = tls_ctx_ref(one);
	tls_ctx_unref(&one);
	tls_ctx_unref(&two);
}

void core_rig_new(struct core_rig *r, bool tls_required)
{
	static bool global;
	struct err e = { 0 };

	if (!global && core_global_init(&e) != 0)
		die("libraries", &e);
	global = true;
	memset(r, 0, sizeof(*r));
	rig_new(&r->store, STORE_CORE);
	r->workers = 2;
	if (core_config_new(&r->cfg) != 0)
		die("configuration", NULL);
	r->cfg->tls_required = tls_required;
	r->cfg->mechanisms = SL("SCRAM-SHA-512-PLUS SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS "
				"SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN");
	hosts(r);
	add_domain(r, &(struct domain){ .name = SL("sms.localhost"),
					.kind = DOMAIN_COMPONENT,
					.custody = true,
					.local_only = true });
	add_domain(r, &(struct domain){ .name = SL("echo.localhost"),
					.kind = DOMAIN_COMPONENT,
					.secret = SL("secret") });
	add_domain(r, &(struct domain){ .name = SL("far.localhost"),
					.kind = DOMAIN_COMPONENT,
					.secret = SL("distance"),
					.custody = true });
}

void core_rig_verifiers(struct core_rig *r, const char *host, const char *user,
			const struct sl *verifier, unsigned n)
{
	struct store_account_put put;
	struct err e = { 0 };

	if (rig_open(&r->store, &e) != 0)
		die("store", &e);
	memset(&put, 0, sizeof(put));
	store_op_init(&put.op, STORE_ACCOUNT_PUT, NULL, NULL);
	put.host = sl_cstr(host);
	put.user = sl_cstr(user);
	for (unsigned i = 0; i < n; i++)
		put.verifier[i] = verifier[i];
	if (rig_do(&r->store, &put.op) != 0)
		die("account", NULL);
	store_op_fini(&put.op);
	rig_close(&r->store);
}

void core_rig_account(struct core_rig *r, const char *host, const char *user, const char *password)
{
	char text[SCRAM_HASHES][SCRAM_TEXT_MAX];
	struct sl verifier[SCRAM_HASHES];
	struct scram_verifier v;
	char salt[SCRAM_SALT_OCTETS];

	for (unsigned i = 0; i < SCRAM_HASHES; i++) {
		rnd_bytes(salt, sizeof(salt));
		if (scram_derive((enum scram_hash)i, sl_cstr(password), sl_mk(salt, sizeof(salt)),
				 4096, &v) != 0)
			die("verifier", NULL);
		verifier[i] = sl_mk(text[i], scram_text(&v, text[i]));
	}
	core_rig_verifiers(r, host, user, verifier, SCRAM_HASHES);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in in;
	socklen_t n = sizeof(in);

	memset(&in, 0, sizeof(in));
	if (getsockname(fd, (struct sockaddr *)&in, &n) != 0)
		die("getsockname", NULL);
	return ntohs(in.sin_port);
}

static void listen_on(struct core_rig *r, struct core_setup *s, enum access_port port)
{
	struct core_listen *l = &s->listen[s->nlisten++];
	struct err e = { 0 };
	int rc;

	l->port = port;
	if (port == ACCESS_COMPONENT_UNIX)
		rc = listen_open_unix(r->unix_path, 0600, &l->fd, &e);
	else
		rc = listen_open_tcp("127.0.0.1", 0, 128, &l->fd, &e);
	if (rc != 0)
		die("listen", &e);
	if (port != ACCESS_COMPONENT_UNIX)
		r->port[port] = port_of(l->fd);
}

struct start {
	struct core_rig *r;
	struct core_setup setup;
	sem_t done;
	int rc;
};

static void ready(void *arg, int rc)
{
	struct start *s = arg;

	s->rc = rc;
	s->setup.arg = NULL;
	sem_post(&s->done);
}

static void *core_thread(void *arg)
{
	struct start *s = arg;
	struct core_rig *r = s->r;
	struct err e = { 0 };

	if (core_new(&s->setup, &r->core, &e) != 0)
		die("core", &e);
	core_run(r->core);
	core_free(&r->core);
	return NULL;
}

void core_rig_start(struct core_rig *r)
{
	struct start s = { .r = r };

	snprintf(r->unix_path, sizeof(r->unix_path), "%s/core.sock", r->store.dir);
	s.setup = (struct core_setup){
		.cfg = r->cfg,
		.store_path = r->store.path,
		.workers = r->workers,
		.ready = ready,
		.arg = &s,
	};
	for (unsigned p = 0; p < ACCESS_PORTS; p++)
		listen_on(r, &s.setup, (enum access_port)p);
	sem_init(&s.done, 0, 0);
	if (pthread_create(&r->thread, NULL, core_thread, &s) != 0)
		die("thread", NULL);
	sem_wait(&s.done);
	sem_destroy(&s.done);
	if (s.rc != 0)
		die("start", NULL);
	r->running = true;
}

void core_rig_stop(struct core_rig *r)
{
	if (!r->running)
		return;
	core_stop(r->core);
	pthread_join(r->thread, NULL);
	r->running = false;
}

void core_rig_free(struct core_rig *r)
{
	core_rig_stop(r);
	core_config_unref(r->cfg);
	rig_free(&r->store);
}

uint64_t core_rig_count(struct core_rig *r, enum core_counter c)
{
	uint64_t n = 0;

	for (uint16_t i = 0; i < r->workers; i++)
		n += atomic_load_explicit(&core_worker(r->core, i)->counter[c],
					  memory_order_relaxed);
	return n;
}
