/* login_sasl.c - Cyrus SASL: process-wide set-up, our in-process auxprop plug-in, one step of a
 * login on an auth thread.
 *
 * Cyrus finds the login by the context of a callback: the plug-in's look-up has nothing else that
 * belongs to the connection. What was tried with 2.1.28 is in docs/access.md. */
#include "xmpp/access/login_int.h"

#include <pthread.h>
#include <sasl/saslplug.h>
#include <sasl/saslutil.h>

#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "xmpp/stream/jid.h"

typedef int (*sasl_proc)(void);

/* ---- process-wide
 * -------------------------------------------------------------------------------- */

static void *mutex_new(void)
{
	pthread_mutex_t *m = malloc(sizeof(*m));

	if (m)
		pthread_mutex_init(m, NULL);
	return m;
}

static int mutex_lock(void *m)
{
	return pthread_mutex_lock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static int mutex_unlock(void *m)
{
	return pthread_mutex_unlock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static void mutex_free(void *m)
{
	pthread_mutex_destroy(m);
	free(m);
}

static int option(void *context, const char *plugin, const char *name, const char **value_r,
		  unsigned *n_r)
{
	static const char *const options[][2] = {
		{ "auxprop_plugin", "tandem" },
		{ "pwcheck_method", "auxprop" },
		{ "mech_list", "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN" },
		{ "log_level", "1" },
	};

	UNUSED(context);
	UNUSED(plugin);
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (strcmp(name, options[i][0]) != 0)
			continue;
		*value_r = options[i][1];
		if (n_r)
			*n_r = (unsigned)strlen(*value_r);
		return SASL_OK;
	}
	return SASL_FAIL;
}

static int log_line(void *context, int level, const char *message)
{
	UNUSED(context);
	log_ev(level <= SASL_LOG_ERR ? LOG_L_INFO : LOG_L_DEBUG, "sasl.note", KC("text", message));
	return SASL_OK;
}

/* In place of Cyrus' own, which is a generator with 48 bits of state, seeded from /dev/urandom or,
 * inside a jail that has none, from the time and the process id: SCRAM's nonces come from here. */
void sasl_rand(sasl_rand_t *pool, char *p, unsigned n)
{
	UNUSED(pool);
	rnd_bytes(p, n);
}

/* ---- the auxprop plug-in
 * ------------------------------------------------------------------------- */

static struct login *login_of(sasl_server_params_t *sp)
{
	sasl_proc proc;
	void *context = NULL;

	if (sp->utils->getcallback(sp->utils->conn, SASL_CB_SERVER_USERDB_CHECKPASS,
				   (sasl_callback_ft *)&proc, &context) != SASL_OK)
		return NULL;
	return context;
}

/* Asked for "*authPassword" (authentication id), and without the star for the authorization id:
 * that look-up must succeed too, with nothing set. */
static int lookup(void *glob, sasl_server_params_t *sp, unsigned flags, const char *user,
		  unsigned n)
{
	struct login *l = login_of(sp);
	char text[SCRAM_TEXT_MAX];
	const struct propval *p;

	UNUSED(glob);
	UNUSED(user);
	UNUSED(n);
	/* A libsasl2 linked with -Bsymbolic would not see our sasl_rand. */
	if (!l || sp->utils->rand != sasl_rand)
		return SASL_FAIL;
	if ((flags & SASL_AUXPROP_AUTHZID) || l->plain)
		return SASL_OK;
	for (p = sp->utils->prop_get(sp->propctx); p && p->name; p++) {
		if (p->values || strcasecmp(p->name, "*authPassword") != 0)
			continue;
		scram_text(&l->verifier, text);
		sp->utils->prop_set(sp->propctx, p->name, text, -1);
		wipe(text, sizeof(text));
	}
	return SASL_OK;
}

static sasl_auxprop_plug_t plug = { .auxprop_lookup = lookup, .name = (char *)"tandem" };

static int plug_init(const sasl_utils_t *utils, int max_version, int *version_r,
		     sasl_auxprop_plug_t **plug_r, const char *name)
{
	UNUSED(utils);
	UNUSED(name);
	if (max_version < SASL_AUXPROP_PLUG_VERSION)
		return SASL_BADVERS;
	*version_r = SASL_AUXPROP_PLUG_VERSION;
	*plug_r = &plug;
	return SASL_OK;
}

int auth_global_init(struct err *e)
{
	/* Cyrus keeps the pointer. */
	static const sasl_callback_t global[] = {
		{ SASL_CB_GETOPT, (sasl_proc)(void (*)(void))option, NULL },
		{ SASL_CB_LOG, (sasl_proc)(void (*)(void))log_line, NULL },
		{ SASL_CB_LIST_END, NULL, NULL },
	};
	int rc;

	sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
	rc = sasl_auxprop_add_plugin("tandem", plug_init);
	if (rc == SASL_OK)
		rc = sasl_server_init(global, "tandem");
	if (rc != SASL_OK)
		return err_set(e, E_INTERNAL, NULL, "Cyrus SASL does not start: %s",
			       sasl_errstring(rc, NULL, NULL));
	return 0;
}

/* ---- a step
 * -------------------------------------------------------------------------------------- */

/* PLAIN: Cyrus has no password to compare with; derive and compare
 * (SASL_CB_SERVER_USERDB_CHECKPASS). */
static int check_password(sasl_conn_t *conn, void *context, const char *user, const char *pass,
			  unsigned n, struct propctx *props)
{
	struct login *l = context;
	struct arena *a = arena_new(1024, 64 * 1024);
	struct sl prepared;
	bool ok;

	UNUSED(conn);
	UNUSED(user);
	UNUSED(props);
	if (!a)
		return SASL_NOMEM;
	/* A password that cannot be prepared costs what any wrong one costs. */
	if (precis_password(a, sl_mk(pass, n), &prepared, NULL) != 0) {
		l->real = false;
		prepared = SL("");
	}
	ok = scram_check(&l->verifier, prepared) && l->real;
	if (prepared.p != pass && prepared.n)
		wipe((char *)(uintptr_t)prepared.p, prepared.n);
	arena_free(&a);
	return ok ? SASL_OK : SASL_BADAUTH;
}

/* The stream has checked the authorization identity before the first step (RFC 6120 6.3.8). */
static int proxy_policy(sasl_conn_t *conn, void *context, const char *requested, unsigned rlen,
			const char *auth, unsigned alen, const char *realm, unsigned ulen,
			struct propctx *props)
{
	UNUSED(conn);
	UNUSED(context);
	UNUSED(requested);
	UNUSED(rlen);
	UNUSED(auth);
	UNUSED(alen);
	UNUSED(realm);
	UNUSED(ulen);
	UNUSED(props);
	return SASL_OK;
}

/* A component's verifier is made of its secret, with the salt that an unknown one would have; for
 * an unknown one the same work is done, and no password fits. */
static int component_verifier(struct login *l)
{
	struct scram_verifier v = l->verifier;
	struct arena *a = arena_new(1024, 64 * 1024);
	struct sl password = sl_mk(l->password.p, l->password.n), prepared;
	int rc;

	if (!a)
		return E_NOMEM;
	l->real = password.n && l->name_ok;
	if (precis_password(a, password, &prepared, NULL) != 0) {
		l->real = false;
		prepared = SL("");
	}
	rc = scram_derive(v.hash, prepared, sl_mk((const char *)v.salt, v.nsalt), v.iterations, &v);
	if (rc == 0 && l->real)
		l->verifier = v;
	wipe(&v, sizeof(v));
	if (prepared.p != password.p && prepared.n)
		wipe((char *)(uintptr_t)prepared.p, prepared.n);
	arena_free(&a);
	return rc;
}

/* Take the stored verifier for this mechanism; for PLAIN the first in the order of preference. */
static void stored_verifier(struct login *l)
{
	static const enum scram_hash order[] = { SCRAM_SHA_256, SCRAM_SHA_1, SCRAM_SHA_512 };
	unsigned best = ARRAY_LEN(order);
	struct scram_verifier v;

	for (unsigned i = 0; i < STORE_VERIFIERS_MAX && l->get.found_r && l->name_ok; i++) {
		if (l->get.verifier_r[i].n == 0 || scram_parse(l->get.verifier_r[i], &v, NULL) != 0)
			continue;
		for (unsigned k = 0; k < best; k++) {
			if (v.hash != order[k] || (!l->plain && v.hash != l->hash))
				continue;
			best = k;
			l->verifier = v;
			l->real = true;
		}
	}
}

/* The made-up one is computed in any case, so that time tells nothing. */
static int choose_verifier(struct login *l)
{
	char name[2 * JID_PART_MAX + 2];
	int n = snprintf(name, sizeof(name), SLFMT "@" SLFMT, SLARG(l->user), SLARG(l->host));

	if (l->plain)
		l->hash = SCRAM_SHA_256;
	if (scram_fake(l->hash, l->secret, sl_mk(name, (size_t)n), l->cfg->scram_iterations,
		       &l->verifier) != 0)
		return E_INTERNAL;
	if (l->component)
		return component_verifier(l);
	stored_verifier(l);
	return 0;
}

static int open_conn(struct login *l)
{
	const sasl_security_properties_t sec = { .maxbufsize = 0,
						 .security_flags = SASL_SEC_NOANONYMOUS };
	sasl_ssf_t ssf = 256;
	char host[JID_PART_MAX + 1];
	int rc;

	if (choose_verifier(l) != 0 || sl_to_cstr(l->host, host, sizeof(host)) != 0)
		return SASL_FAIL;
	l->cb[0] = (sasl_callback_t){ SASL_CB_SERVER_USERDB_CHECKPASS,
				      (sasl_proc)(void (*)(void))check_password, l };
	l->cb[1] = (sasl_callback_t){ SASL_CB_PROXY_POLICY, (sasl_proc)(void (*)(void))proxy_policy,
				      l };
	l->cb[2] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
	rc = sasl_server_new("xmpp", host, NULL, NULL, NULL, l->cb, SASL_SUCCESS_DATA, &l->sasl);
	if (rc == SASL_OK)
		rc = sasl_setprop(l->sasl, SASL_SEC_PROPS, &sec);
	if (rc == SASL_OK && l->plain)
		rc = sasl_setprop(l->sasl, SASL_SSF_EXTERNAL, &ssf);
	if (rc == SASL_OK && l->cb_name) {
		l->binding = (sasl_channel_binding_t){ .name = l->cb_name,
						       .len = l->cb_octets,
						       .data = l->cb_data };
		rc = sasl_setprop(l->sasl, SASL_CHANNEL_BINDING, &l->binding);
	}
	return rc;
}

static const char *condition_of(int rc)
{
	switch (rc) {
	case SASL_BADPROT:
		return "malformed-request";
	case SASL_NOAUTHZ:
		return "invalid-authzid";
	case SASL_NOMECH:
		return "invalid-mechanism";
	case SASL_TOOWEAK:
	case SASL_ENCRYPT:
		return "mechanism-too-weak";
	case SASL_NOMEM:
	case SASL_UNAVAIL:
	case SASL_TRYAGAIN:
		return "temporary-auth-failure";
	default:
		return "not-authorized";
	}
}

/* On an auth thread. */
void login_run(struct auth_job *j)
{
	struct login *l = container_of(j, struct login, job);
	const char *out = NULL;
	unsigned n = 0;
	int rc = SASL_OK;

	if (!l->sasl) {
		rc = open_conn(l);
		if (rc == SASL_OK)
			rc = sasl_server_start(l->sasl, l->mech, l->input.p, (unsigned)l->input.n,
					       &out, &n);
	} else {
		rc = sasl_server_step(l->sasl, l->input.p, (unsigned)l->input.n, &out, &n);
	}
	wipe(l->input.p, l->input.n);
	l->out = sl_mk(out, out ? n : 0);
	l->result = rc == SASL_OK         ? LOGIN_SUCCESS
		    : rc == SASL_CONTINUE ? LOGIN_CHALLENGE
					  : LOGIN_FAILURE;
	/* A made-up verifier fits no proof; say so here too, because everything hangs on it. */
	if (l->result == LOGIN_SUCCESS && !l->real) {
		l->result = LOGIN_FAILURE;
		rc = SASL_BADAUTH;
	}
	if (l->result == LOGIN_FAILURE) {
		l->condition = condition_of(rc);
		log_ev(LOG_L_DEBUG, "auth.step", KC("mech", l->mech), KI("rc", rc),
		       KC("detail", l->sasl ? sasl_errdetail(l->sasl) : ""));
	}
}

void login_sasl_dispose(struct login *l)
{
	if (l->sasl)
		sasl_dispose(&l->sasl);
}
