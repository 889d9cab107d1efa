/* login.c - a login: the worker's side. First messages, channel binding, the verifier's way from
 * the store. The auth thread's side is login_sasl.c. */
#include "xmpp/access/login_int.h"

#include "appliance/base/enc.h"
#include "appliance/base/log.h"
#include "xmpp/stream/jid.h"

static const struct sl mech_plain = SL("PLAIN");

static bool mech_known(struct sl mech, bool *needs_tls_r)
{
	enum scram_hash h;

	if (scram_hash_of(mech, &h, needs_tls_r) == 0)
		return true;
	*needs_tls_r = true;
	return sl_eq(mech, mech_plain);
}

static struct sl next_word(struct sl *list)
{
	size_t from = 0, end;
	struct sl word;

	while (from < list->n && list->p[from] == ' ')
		from++;
	end = sl_find(*list, ' ', from);
	word = sl_sub(*list, from, end);
	*list = sl_sub(*list, end, list->n);
	return word;
}

/* Can this mechanism be chosen at all on such a stream? */
static bool mech_here(struct sl mech, unsigned how, bool *needs_tls_r)
{
	enum scram_hash h;

	if (!mech_known(mech, needs_tls_r))
		return false;
	return !(how & LOGIN_COMPONENT) || scram_hash_of(mech, &h, NULL) != 0 || h != SCRAM_SHA_1;
}

void login_mechanisms(const struct core_config *cfg, unsigned how,
		      void (*fn)(void *arg, struct sl mech), void *arg)
{
	struct sl list = cfg->mechanisms, word;
	bool needs_tls;

	while ((word = next_word(&list)).n)
		if (mech_here(word, how, &needs_tls) && ((how & LOGIN_TLS) || !needs_tls))
			fn(arg, word);
}

const char *login_mech_refused(const struct core_config *cfg, unsigned how, struct sl mech)
{
	bool tls = how & LOGIN_TLS, needs_tls;
	struct sl list = cfg->mechanisms, word;

	if (!tls && ((how & LOGIN_COMPONENT) ? cfg->component_tls != COMPONENT_TLS_OPTIONAL
					     : cfg->tls_required))
		return "encryption-required";
	while ((word = next_word(&list)).n) {
		if (!sl_eq(word, mech) || !mech_here(word, how, &needs_tls))
			continue;
		return needs_tls && !tls ? "encryption-required" : NULL;
	}
	/* What we know and the operator left out is too weak for this server; the rest does not
	 * exist. */
	return mech_known(mech, &needs_tls) ? "mechanism-too-weak" : "invalid-mechanism";
}

static bool plus_offered(const struct login *l)
{
	struct sl list = l->cfg->mechanisms, word;
	enum scram_hash h;
	bool plus;

	while ((word = next_word(&list)).n)
		if (scram_hash_of(word, &h, &plus) == 0 && plus &&
		    (!l->component || h != SCRAM_SHA_1))
			return true;
	return false;
}

/* ---- first messages
 * ------------------------------------------------------------------------------ */

/* RFC 5802 saslname: =2C is a comma, =3D an equals sign, no other "=". */
static int saslname(struct arena *a, struct sl in, struct sl *out_r)
{
	char *p = arena_bytes(a, in.n ? in.n : 1);
	size_t n = 0;

	if (!p)
		return E_NOMEM;
	for (size_t i = 0; i < in.n; i++) {
		if (in.p[i] != '=') {
			p[n++] = in.p[i];
			continue;
		}
		if (sl_eq(sl_sub(in, i, i + 3), SL("=2C")))
			p[n++] = ',';
		else if (sl_eq(sl_sub(in, i, i + 3), SL("=3D")))
			p[n++] = '=';
		else
			return E_SYNTAX;
		i += 2;
	}
	*out_r = sl_mk(p, n);
	return 0;
}

struct first {
	char flag;         /* gs2-cbind-flag: n, y, p; 0: PLAIN */
	struct sl binding; /* with p */
	struct sl authzid, authcid;
};

/* gs2-header and the name: "p=tls-exporter,a=who,n=user,r=nonce" (RFC 5802 section 7). */
static int first_scram(struct arena *a, struct sl in, struct first *f)
{
	size_t c1 = sl_find(in, ',', 0), c2 = sl_find(in, ',', c1 + 1),
	       c3 = sl_find(in, ',', c2 + 1);
	struct sl flag = sl_sub(in, 0, c1), az = sl_sub(in, c1 + 1, c2),
		  name = sl_sub(in, c2 + 1, c3);

	if (c3 >= in.n || flag.n == 0 || !utf8_valid(in) || memchr(in.p, 0, in.n))
		return E_SYNTAX;
	f->flag = flag.p[0];
	if (f->flag == 'p' && flag.n > 2 && flag.p[1] == '=')
		f->binding = sl_sub(flag, 2, flag.n);
	else if ((f->flag != 'n' && f->flag != 'y') || flag.n != 1)
		return E_SYNTAX;
	if (az.n &&
	    (!sl_starts(az, SL("a=")) || saslname(a, sl_sub(az, 2, az.n), &f->authzid) != 0))
		return E_SYNTAX;
	if (!sl_starts(name, SL("n=")) || saslname(a, sl_sub(name, 2, name.n), &f->authcid) != 0)
		return E_SYNTAX;
	return f->authcid.n ? 0 : E_SYNTAX;
}

/* "authzid NUL authcid NUL password" (RFC 4616). */
static int first_plain(struct sl in, struct first *f)
{
	size_t z1 = sl_find(in, 0, 0), z2 = sl_find(in, 0, z1 + 1);

	if (z2 >= in.n || sl_find(in, 0, z2 + 1) < in.n || !utf8_valid(in))
		return E_SYNTAX;
	f->authzid = sl_sub(in, 0, z1);
	f->authcid = sl_sub(in, z1 + 1, z2);
	if (f->authcid.n == 0 || z2 + 1 == in.n || in.n > 3 * JID_PART_MAX + 2)
		return E_SYNTAX;
	return 0;
}

/* RFC 6120 6.3.8: only one's own bare JID may be asked for. */
static bool authzid_ok(struct login *l, struct sl authzid)
{
	struct jid j;

	if (authzid.n == 0)
		return true;
	if (l->component)
		return sl_eq(authzid, l->host);
	return jid_parse(l->arena, authzid, &j, NULL) == 0 && jid_is_bare(&j) &&
	       sl_eq(j.local, l->user) && sl_eq(j.domain, l->host);
}

/* The binding must be known to Cyrus before the first step, and is one type a connection. */
static const char *set_binding(struct login *l, const struct first *f)
{
	bool tls = l->conn && conn_is_tls(l->conn);
	struct sl type = f->binding;

	/* It could, and believes that we cannot: right, or somebody has changed our list (RFC 5802
	 * section 6). Cyrus does not look. */
	if (f->flag == 'y')
		return tls && plus_offered(l) ? "not-authorized" : NULL;
	if (f->flag == 'n')
		return NULL;
	if (!tls)
		return "malformed-request";
	if (sl_eq(type, SL("tls-exporter"))) {
		if (conn_tls_exporter(l->conn, l->cb_data) == 0) {
			l->cb_octets = 32;
			l->cb_name = "tls-exporter";
		}
	} else if (sl_eq(type, SL("tls-unique"))) {
		if (conn_tls_unique(l->conn, l->cb_data, &l->cb_octets) == 0)
			l->cb_name = "tls-unique";
	} else if (sl_eq(type, SL("tls-server-end-point"))) {
		if (conn_tls_end_point(l->conn, l->cb_data, &l->cb_octets) == 0)
			l->cb_name = "tls-server-end-point";
	}
	return l->cb_name ? NULL : "not-authorized";
}

static const char *first_message(struct login *l, struct sl data)
{
	struct first f = { 0 };
	const char *cond;
	int rc = l->plain ? first_plain(data, &f) : first_scram(l->arena, data, &f);

	if (rc != 0 || (!l->plain && (f.flag == 'p') != l->plus))
		return "malformed-request";
	if (!l->plain && (cond = set_binding(l, &f)))
		return cond;
	l->asked = arena_dup(l->arena, f.authcid);
	if (l->asked.p == NULL)
		return "temporary-auth-failure";
	if (l->component)
		l->name_ok = jid_prep_domain(l->arena, l->asked, &l->user, NULL) == 0 &&
			     sl_eq(l->user, l->host);
	else
		l->name_ok =
			jid_prep_local(l->arena, l->asked, &l->user, NULL) == 0 && l->user.n;
	if (!l->name_ok)
		l->user = l->asked; /* refused as an unknown user is */
	if (!authzid_ok(l, f.authzid))
		return "invalid-authzid";
	return NULL;
}

/* ---- the way
 * ------------------------------------------------------------------------------------- */

static void answer(struct login *l, enum login_result r, const char *condition)
{
	l->busy = false;
	if (!l->owner) {
		login_free(&l);
		return;
	}
	l->result = r;
	l->condition = condition;
	l->answer(l->owner, l);
}

static void stepped(struct auth_job *j)
{
	struct login *l = container_of(j, struct login, job);

	answer(l, l->result, l->condition);
}

static void dropped(struct auth_job *j)
{
	struct login *l = container_of(j, struct login, job);

	l->busy = false;
	login_free(&l);
}

static void step_here(struct loop_task *t)
{
	struct login *l = container_of(t, struct login, task);

	login_run(&l->job);
	answer(l, l->result, l->condition);
}

/* A step of SCRAM costs a few hash blocks: less than sending it to a thread and back. A password,
 * or the secret of a component, costs milliseconds. */
static void step(struct login *l)
{
	if (!l->plain && !l->component) {
		loop_defer(l->w->loop, &l->task, step_here);
		return;
	}
	l->job.run = login_run;
	l->job.done = stepped;
	l->job.drop = dropped;
	l->job.worker = l->w->id;
	auth_submit(l->w->auth, &l->job);
}

static void fetched(struct store_op *op)
{
	struct login *l = op->arg;

	if (op->rc != 0) {
		count(l->w, CNT_STORE_FAILED);
		answer(l, LOGIN_FAILURE, "temporary-auth-failure");
		return;
	}
	if (!l->owner) {
		answer(l, LOGIN_FAILURE, NULL);
		return;
	}
	step(l);
}

/* Who cannot exist is looked up all the same: it takes the same time. */
static void fetch(struct login *l)
{
	store_op_init(&l->get.op, STORE_ACCOUNT_GET, fetched, l);
	l->get.host = l->host;
	l->get.user = l->user;
	store_submit(l->w->store, &l->get.op);
}

const char *login_input(struct login *l, struct sl data)
{
	const char *cond;
	bool first = l->input.p == NULL;

	secret_clear(&l->input);
	if (data.n > LOGIN_INPUT_MAX)
		return "malformed-request";
	/* An empty secret has no memory: keep one octet so that "first" stays known. */
	if (secret_set(&l->input, data.n ? data : SL("")) != 0)
		return "temporary-auth-failure";
	if (first && (cond = first_message(l, data)))
		return cond;
	l->busy = true;
	if (first && !l->component)
		fetch(l);
	else
		step(l);
	return NULL;
}

int login_new(const struct login_env *env, struct sl mech, struct login **l_r)
{
	struct arena *a = arena_new(2048, 32 * 1024);
	struct login *l = a ? arena_new_obj(a, struct login) : NULL;

	if (!l || sl_to_cstr(mech, l->mech, sizeof(l->mech)) != 0) {
		arena_free(&a);
		return E_NOMEM;
	}
	l->arena = a;
	l->w = env->w;
	l->cfg = core_config_ref(env->cfg);
	l->conn = env->conn;
	l->owner = env->owner;
	l->answer = env->answer;
	l->secret = env->secret;
	l->plain = scram_hash_of(mech, &l->hash, &l->plus) != 0;
	l->component = env->component;
	l->host = arena_dup(a, env->host);
	if (!l->host.p || secret_set(&l->password, env->password) != 0) {
		login_free(&l);
		return E_NOMEM;
	}
	*l_r = l;
	return 0;
}

void login_free(struct login **lp)
{
	struct login *l = *lp;

	if (!l)
		return;
	*lp = NULL;
	l->owner = NULL;
	l->conn = NULL;
	if (l->busy && !l->task.loop)
		return; /* freed when the answer comes */
	loop_task_clear(&l->task);
	login_sasl_dispose(l);
	secret_clear(&l->input);
	secret_clear(&l->password);
	store_op_fini(&l->get.op);
	core_config_unref(l->cfg);
	wipe(l->cb_data, sizeof(l->cb_data));
	arena_free(&l->arena);
}

enum login_result login_result(const struct login *l)
{
	return l->result;
}

struct sl login_data(const struct login *l)
{
	return l->out;
}

bool login_has_data(const struct login *l)
{
	return l->out.p != NULL;
}

const char *login_condition(const struct login *l)
{
	return l->condition;
}

struct sl login_user(const struct login *l)
{
	return l->user;
}

const char *login_mech(const struct login *l)
{
	return l->plain ? mech_plain.p : scram_mechanism(l->hash, l->plus);
}
