/* control_user.c - accounts: add, get, password, delete, list, import (docs/control-protocol.md).
 *
 * Verifiers are derived on the auth pool as bulk work, behind all logins. One struct account_job is
 * one account's way: prepared here, perhaps derived, then written; its owner is told how it went.
 */
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "xmpp/access/auth.h"
#include "xmpp/access/scram.h"
#include "xmpp/core/program.h"
#include "xmpp/router/router.h"

#define IMPORT_MAX 1000u
#define LIST_MAX   1000u
/* Derivations that wait: beyond this an import is told to come again. */
#define BACKLOG_MAX  20000u
#define PASSWORD_MAX 1023u

struct import;

struct account_job {
	struct auth_job job; /* first */
	struct store_account_put put;
	struct program *p;
	void (*done)(struct account_job *j); /* rc, text and put say how it went; frees it */
	struct child_req *r;                 /* of one account's command */
	struct import *import;               /* or of an import */
	struct arena *arena;                 /* holds the job */
	struct jid jid;
	struct secret password;
	bool hash[SCRAM_HASHES]; /* to be derived */
	uint32_t iterations;
	bool change; /* user.password */
	int rc;
	struct err e;
};

/* ---- one account ----------------------------------------------------------------------------- */

static void job_free(struct account_job *j)
{
	struct arena *a = j->arena;

	secret_clear(&j->password);
	store_op_fini(&j->put.op);
	arena_free(&a);
}

static void job_written(struct store_op *op)
{
	struct account_job *j = op->arg;

	j->rc = op->rc;
	if (op->rc != 0)
		err_set(&j->e, op->rc, NULL, "the store did not take it");
	j->done(j);
}

static void job_write(struct account_job *j)
{
	store_submit(core_worker(j->p->core, 0)->store, &j->put.op);
}

/* On an auth thread. */
static void job_derive(struct auth_job *a)
{
	struct account_job *j = container_of(a, struct account_job, job);
	unsigned char salt[SCRAM_SALT_OCTETS];
	struct scram_verifier v;
	unsigned n = 0;

	for (unsigned h = 0; h < SCRAM_HASHES && j->rc == 0; h++) {
		char *text = arena_bytes(j->arena, SCRAM_TEXT_MAX);

		if (!j->hash[h])
			continue;
		rnd_bytes(salt, sizeof(salt));
		j->rc = text ? scram_derive((enum scram_hash)h, sl_mk(j->password.p, j->password.n),
					    sl_mk((const char *)salt, sizeof(salt)), j->iterations,
					    &v)
			     : E_NOMEM;
		if (j->rc == 0)
			j->put.verifier[n++] = sl_mk(text, scram_text(&v, text));
	}
	secret_clear(&j->password);
}

static void job_derived(struct auth_job *a)
{
	struct account_job *j = container_of(a, struct account_job, job);

	if (j->rc == 0) {
		job_write(j);
		return;
	}
	err_set(&j->e, j->rc, NULL, "the password could not be hashed");
	j->done(j);
}

static void job_dropped(struct auth_job *a)
{
	job_free(container_of(a, struct account_job, job));
}

/* Which verifiers a password needs: those of the mechanisms that are offered. */
static void needed_hashes(const struct core_config *cfg, bool hash[SCRAM_HASHES])
{
	struct sl list = cfg->mechanisms;
	enum scram_hash h;
	bool any = false;
	size_t end;

	for (size_t at = 0; at < list.n; at = end + 1) {
		end = sl_find(list, ' ', at);
		if (scram_hash_of(sl_sub(list, at, end), &h, NULL) == 0)
			hash[h] = any = true;
	}
	if (!any)
		hash[SCRAM_SHA_256] = true; /* PLAIN is checked against it */
}

static int parse_jid(struct program *p, struct arena *a, struct sl text, struct jid *j_r,
		     struct err *e)
{
	struct jid j;
	const struct domain *d;

	if (jid_parse(a, text, &j, e) != 0)
		return E_SYNTAX;
	if (j.local.n == 0 || j.resource.n)
		return err_set(e, E_SYNTAX, NULL, "an account is name@host");
	d = core_domain(core_worker(p->core, 0)->cfg, j.domain);
	if (!d || d->kind != DOMAIN_HOST)
		return err_set(e, E_NOTFOUND, NULL, "\"" SLFMT "\" is no host of this server",
			       SLARG(j.domain));
	return jid_dup(a, &j, j_r);
}

static int take_password(struct account_job *j, struct sl password)
{
	struct sl prepared;

	if (password.n == 0 || precis_password(j->arena, password, &prepared, &j->e) != 0)
		return err_set(&j->e, E_SYNTAX, "RFC 8265 4.2",
			       "the password is empty or has characters "
			       "that no password may have");
	needed_hashes(core_worker(j->p->core, 0)->cfg, j->hash);
	j->iterations = core_worker(j->p->core, 0)->cfg->scram_iterations;
	return secret_set(&j->password, prepared);
}

static int take_verifiers(struct account_job *j, const json_t *list)
{
	struct scram_verifier v;
	const json_t *one;
	size_t i;

	if (json_array_size(list) == 0 || json_array_size(list) > STORE_VERIFIERS_MAX)
		return err_set(&j->e, E_SYNTAX, NULL, "1 to %u verifiers", STORE_VERIFIERS_MAX);
	json_array_foreach(list, i, one)
	{
		struct sl text = { json_string_value(one), json_string_length(one) };
		int rc = json_is_string(one)
				 ? scram_parse(text, &v, &j->e)
				 : err_set(&j->e, E_SYNTAX, NULL, "a verifier is a string");

		if (rc != 0)
			return rc;
		j->put.verifier[i] = arena_dup(j->arena, text);
		if (!j->put.verifier[i].n)
			return err_set(&j->e, E_NOMEM, NULL, "no memory");
	}
	return 0;
}

/* A job for a JID with a password or verifiers. NULL: no memory. j->rc != 0: it is refused, with
 * j->e. */
static struct account_job *job_new(struct program *p, struct sl jid, struct sl password,
				   const json_t *verifiers)
{
	struct arena *a = arena_new(2048, 65536);
	struct account_job *j = a ? arena_new_obj(a, struct account_job) : NULL;

	if (!j) {
		arena_free(&a);
		return NULL;
	}
	j->arena = a;
	j->p = p;
	store_op_init(&j->put.op, STORE_ACCOUNT_PUT, job_written, j);
	j->rc = parse_jid(p, a, jid, &j->jid, &j->e);
	if (j->rc == 0 && (password.p != NULL) == (verifiers != NULL))
		j->rc = err_set(&j->e, E_SYNTAX, NULL, "either a password or verifiers");
	if (j->rc == 0)
		j->rc = verifiers ? take_verifiers(j, verifiers) : take_password(j, password);
	j->put.host = j->jid.domain;
	j->put.user = j->jid.local;
	return j;
}

static void job_go(struct account_job *j, void (*done)(struct account_job *j))
{
	j->done = done;
	if (!j->password.p) {
		job_write(j);
		return;
	}
	j->job.run = job_derive;
	j->job.done = job_derived;
	j->job.drop = job_dropped;
	j->job.bulk = true;
	j->job.worker = 0;
	auth_submit(core_worker(j->p->core, 0)->auth, &j->job);
}

/* ---- ending sessions ------------------------------------------------------------------------- */

struct ending {
	struct core_ask ask; /* first */
	char bare[2 * JID_PART_MAX + 2];
	const char *text;
};

static void ending_ask(struct core_ask *a, struct worker *w)
{
	struct ending *x = container_of(a, struct ending, ask);

	access_close_account(w, sl_cstr(x->bare), "not-authorized", sl_cstr(x->text));
}

static void ending_done(struct core_ask *a)
{
	free(container_of(a, struct ending, ask));
}

static void end_sessions(struct program *p, struct sl bare, const char *text)
{
	struct ending *x = calloc(1, sizeof(*x));

	if (!x || sl_to_cstr(bare, x->bare, sizeof(x->bare)) != 0) {
		free(x);
		return;
	}
	x->text = text;
	x->ask.ask = ending_ask;
	x->ask.done = ending_done;
	core_ask(p->core, &x->ask);
}

/* ---- user.add, user.password ------------------------------------------------------------------
 */

static void answer_jid(struct child_req *r, struct sl jid)
{
	child_answer(r, json_pack("{s:s%}", "jid", jid.p, jid.n));
}

static void account_done(struct account_job *j)
{
	if (j->rc != 0) {
		child_fail(j->r, j->rc, "%s", j->e.text);
	} else if (j->change && !j->put.existed_r) {
		child_fail(j->r, E_NOTFOUND, "there is no account " SLFMT, SLARG(j->jid.bare));
	} else if (!j->change && j->put.existed_r) {
		child_fail(j->r, E_EXISTS, "the account " SLFMT " exists already",
			   SLARG(j->jid.bare));
	} else {
		router_account_changed(core_worker(j->p->core, 0), j->jid.bare, false);
		if (j->change)
			end_sessions(j->p, j->jid.bare, "the password was changed");
		log_ev(LOG_L_NOTICE, j->change ? "account.password" : "account.added",
		       KS("jid", j->jid.bare));
		answer_jid(j->r, j->jid.bare);
	}
	job_free(j);
}

static void account_command(struct program *p, struct child_req *r, bool change)
{
	struct sl jid = SL_NULL, password = SL_NULL;
	json_t *verifiers = NULL;
	const struct child_arg expected[] = {
		{ "jid", CHILD_STR, true, JID_MAX, &jid },
		{ "password", CHILD_STR, false, PASSWORD_MAX, &password },
		{ "verifiers", CHILD_ARRAY, false, STORE_VERIFIERS_MAX, &verifiers },
	};
	struct account_job *j;

	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	j = job_new(p, jid, password, verifiers);
	if (!j) {
		child_fail(r, E_NOMEM, "no memory");
		return;
	}
	j->r = r;
	j->change = change;
	j->put.create_only = !change;
	j->put.update_only = change;
	if (j->rc == 0) {
		job_go(j, account_done);
		return;
	}
	child_fail(r, j->rc, "%s", j->e.text);
	job_free(j);
}

void control_user_add(void *self, struct child_req *r, json_t *args)
{
	UNUSED(args);
	account_command(self, r, false);
}

void control_user_password(void *self, struct child_req *r, json_t *args)
{
	UNUSED(args);
	account_command(self, r, true);
}

/* ---- user.import ------------------------------------------------------------------------------
 */

struct import {
	struct program *p;
	struct child_req *r;
	json_t *refused;
	uint64_t added, updated;
	unsigned left; /* jobs under way, and one while they are being made */
	bool replace;
};

static void import_refuse(struct import *m, struct sl jid, int rc, const char *text)
{
	json_array_append_new(m->refused, json_pack("{s:s%,s:s,s:s}", "jid", jid.p ? jid.p : "",
						    jid.n, "code", e_name(rc), "text", text));
}

static void import_part(struct import *m)
{
	if (--m->left)
		return;
	log_ev(LOG_L_NOTICE, "account.imported", KU("added", m->added), KU("updated", m->updated),
	       KU("refused", json_array_size(m->refused)));
	child_answer(m->r, json_pack("{s:I,s:I,s:o}", "added", (json_int_t)m->added, "updated",
				     (json_int_t)m->updated, "refused", m->refused));
	free(m);
}

static void import_done(struct account_job *j)
{
	struct import *m = j->import;

	if (j->rc != 0) {
		import_refuse(m, j->jid.bare, j->rc, j->e.text);
	} else if (!j->put.existed_r) {
		m->added++;
		router_account_changed(core_worker(j->p->core, 0), j->jid.bare, false);
	} else if (m->replace) {
		m->updated++;
		router_account_changed(core_worker(j->p->core, 0), j->jid.bare, false);
		end_sessions(j->p, j->jid.bare, "the password was changed");
	} else {
		import_refuse(m, j->jid.bare, E_EXISTS, "there is such an account");
	}
	job_free(j);
	import_part(m);
}

static struct sl member(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_string(v) ? sl_mk(json_string_value(v), json_string_length(v)) : SL_NULL;
}

static void import_one(struct import *m, const json_t *o)
{
	struct sl jid = member(o, "jid"), password = member(o, "password");
	struct account_job *j = job_new(m->p, jid, password, json_object_get(o, "verifiers"));

	if (!j) {
		import_refuse(m, jid, E_NOMEM, "no memory");
		return;
	}
	if (j->rc != 0 || password.n > PASSWORD_MAX) {
		import_refuse(m, jid, j->rc ? j->rc : E_TOOBIG,
			      j->rc ? j->e.text : "the password is too long");
		job_free(j);
		return;
	}
	j->import = m;
	j->put.create_only = !m->replace;
	m->left++;
	job_go(j, import_done);
}

void control_user_import(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	json_t *users = NULL, *one;
	bool replace = false;
	const struct child_arg expected[] = {
		{ "users", CHILD_ARRAY, true, IMPORT_MAX, &users },
		{ "replace", CHILD_BOOL, false, 0, &replace },
	};
	struct import *m;
	size_t i;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	if (auth_backlog(core_worker(p->core, 0)->auth) > BACKLOG_MAX) {
		child_fail(r, E_BUSY, "too many passwords wait to be hashed: send fewer at once");
		return;
	}
	m = calloc(1, sizeof(*m));
	if (!m) {
		child_fail(r, E_NOMEM, "no memory");
		return;
	}
	*m = (struct import){
		.p = p, .r = r, .refused = json_array(), .left = 1, .replace = replace
	};
	json_array_foreach(users, i, one) import_one(m, one);
	import_part(m);
}

/* ---- user.get, user.delete, user.list ----------------------------------------------------------
 */

/* A question about accounts: the store first, then the workers about who is online. */
struct lookup {
	struct core_ask ask; /* first */
	union {
		struct store_op op;
		struct store_account_get get;
		struct store_account_del del;
		struct store_account_list list;
	} u;
	struct program *p;
	struct child_req *r;
	struct arena *arena;
	struct jid jid;
	uint32_t *online; /* one a row */
};

static void lookup_free(struct lookup *l)
{
	struct arena *a = l->arena;

	store_op_fini(&l->u.op);
	arena_free(&a);
}

static struct lookup *lookup_new(struct program *p, struct child_req *r, enum store_kind kind,
				 void (*done)(struct store_op *op))
{
	struct arena *a = arena_new(2048, 1u << 20);
	struct lookup *l = a ? arena_new_obj(a, struct lookup) : NULL;

	if (!l) {
		arena_free(&a);
		child_fail(r, E_NOMEM, "no memory");
		return NULL;
	}
	l->arena = a;
	l->p = p;
	l->r = r;
	store_op_init(&l->u.op, kind, done, l);
	return l;
}

/* For a command whose only argument is a JID. NULL: it has been answered. */
static struct lookup *jid_lookup(struct program *p, struct child_req *r, enum store_kind kind,
				 void (*done)(struct store_op *op))
{
	struct sl jid = SL_NULL;
	const struct child_arg expected[] = { { "jid", CHILD_STR, true, JID_MAX, &jid } };
	struct err e = { 0 };
	struct lookup *l;
	int rc;

	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return NULL;
	l = lookup_new(p, r, kind, done);
	if (!l)
		return NULL;
	rc = parse_jid(p, l->arena, jid, &l->jid, &e);
	if (rc == 0)
		return l;
	child_fail(r, rc, "%s", e.text);
	lookup_free(l);
	return NULL;
}

static uint32_t online(struct worker *w, struct sl bare)
{
	struct user *u = bus_owner(w->bus, bare) == w->id ? user_find(w, bare) : NULL;

	return u ? u->nsessions : 0;
}

static void get_ask(struct core_ask *a, struct worker *w)
{
	struct lookup *l = container_of(a, struct lookup, ask);

	l->online[0] += online(w, l->jid.bare);
}

static void get_done(struct core_ask *a)
{
	struct lookup *l = container_of(a, struct lookup, ask);

	child_answer(l->r, json_pack("{s:s%,s:I,s:I}", "jid", l->jid.bare.p, l->jid.bare.n,
				     "created_ms", (json_int_t)l->u.get.created_ms_r, "online",
				     (json_int_t)l->online[0]));
	lookup_free(l);
}

static bool lookup_failed(struct lookup *l, bool there)
{
	if (l->u.op.rc != 0)
		child_fail(l->r, l->u.op.rc, "the store does not answer");
	else if (!there)
		child_fail(l->r, E_NOTFOUND, "there is no account " SLFMT, SLARG(l->jid.bare));
	else
		return false;
	lookup_free(l);
	return true;
}

static void got(struct store_op *op)
{
	struct lookup *l = op->arg;

	if (lookup_failed(l, l->u.get.found_r))
		return;
	l->online = arena_zalloc(l->arena, sizeof(*l->online));
	if (!l->online) {
		child_fail(l->r, E_NOMEM, "no memory");
		lookup_free(l);
		return;
	}
	l->ask.ask = get_ask;
	l->ask.done = get_done;
	core_ask(l->p->core, &l->ask);
}

void control_user_get(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct lookup *l = jid_lookup(p, r, STORE_ACCOUNT_GET, got);

	UNUSED(args);
	if (!l)
		return;
	l->u.get.host = l->jid.domain;
	l->u.get.user = l->jid.local;
	store_submit(core_worker(p->core, 0)->store, &l->u.op);
}

static void deleted(struct store_op *op)
{
	struct lookup *l = op->arg;

	if (lookup_failed(l, l->u.del.existed_r))
		return;
	router_account_changed(core_worker(l->p->core, 0), l->jid.bare, true);
	log_ev(LOG_L_NOTICE, "account.deleted", KS("jid", l->jid.bare));
	answer_jid(l->r, l->jid.bare);
	lookup_free(l);
}

void control_user_delete(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct lookup *l = jid_lookup(p, r, STORE_ACCOUNT_DEL, deleted);

	UNUSED(args);
	if (!l)
		return;
	l->u.del.host = l->jid.domain;
	l->u.del.user = l->jid.local;
	store_submit(core_worker(p->core, 0)->store, &l->u.op);
}

static struct sl row_jid(struct arena *a, const struct store_account_row *row)
{
	return arena_printf(a, SLFMT "@" SLFMT, SLARG(row->user), SLARG(row->host));
}

static void list_ask(struct core_ask *a, struct worker *w)
{
	struct lookup *l = container_of(a, struct lookup, ask);

	for (unsigned i = 0; i < l->u.list.n_r; i++)
		l->online[i] += online(w, row_jid(l->arena, &l->u.list.row_r[i]));
}

static void list_done(struct core_ask *a)
{
	struct lookup *l = container_of(a, struct lookup, ask);
	json_t *users = json_array(), *o;
	struct sl jid = SL_NULL;

	for (unsigned i = 0; i < l->u.list.n_r; i++) {
		jid = row_jid(l->arena, &l->u.list.row_r[i]);
		json_array_append_new(users, json_pack("{s:s%,s:I}", "jid", jid.p ? jid.p : "",
						       jid.n, "online", (json_int_t)l->online[i]));
	}
	o = json_pack("{s:o}", "users", users);
	if (l->u.list.n_r == l->u.list.limit && jid.n)
		json_object_set_new(o, "next", json_stringn(jid.p, jid.n));
	child_answer(l->r, o);
	lookup_free(l);
}

static void listed(struct store_op *op)
{
	struct lookup *l = op->arg;

	if (lookup_failed(l, true))
		return;
	l->online = arena_zalloc(l->arena, (l->u.list.n_r + 1) * sizeof(*l->online));
	if (!l->online) {
		child_fail(l->r, E_NOMEM, "no memory");
		lookup_free(l);
		return;
	}
	l->ask.ask = list_ask;
	l->ask.done = list_done;
	core_ask(l->p->core, &l->ask);
}

void control_user_list(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct sl host = SL_NULL, after = SL_NULL;
	uint64_t limit = 100;
	const struct child_arg expected[] = {
		{ "host", CHILD_STR, false, JID_PART_MAX, &host },
		{ "after", CHILD_STR, false, JID_MAX, &after },
		{ "limit", CHILD_UINT, false, LIST_MAX, &limit },
	};
	struct lookup *l;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	l = lookup_new(p, r, STORE_ACCOUNT_LIST, listed);
	if (!l)
		return;
	if ((host.n && jid_prep_domain(l->arena, host, &l->u.list.host, NULL) != 0) ||
	    (after.n && jid_parse(l->arena, after, &l->jid, NULL) != 0)) {
		child_fail(r, E_SYNTAX, "not a host, or not a JID");
		lookup_free(l);
		return;
	}
	/* Prepared text may be the argument itself, which is only borrowed. */
	l->u.list.host = arena_dup(l->arena, l->u.list.host);
	l->u.list.after_user = arena_dup(l->arena, l->jid.local);
	l->u.list.after_host = arena_dup(l->arena, l->jid.domain);
	l->u.list.limit = limit ? (unsigned)limit : 1;
	store_submit(core_worker(p->core, 0)->store, &l->u.op);
}
