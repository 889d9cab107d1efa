/* control_component.c - components (docs/control-protocol.md): those of the configuration, and
 * those that were added by command and live in the store. */
#include "appliance/base/log.h"
#include "xmpp/core/program.h"
#include "xmpp/router/router.h"

#define SECRET_MAX 1023u

struct comp_cmd {
	struct core_ask ask; /* first */
	union {
		struct store_op op;
		struct store_component_put put;
		struct store_component_del del;
		struct store_mail_count count;
	} u;
	struct program *p;
	struct child_req *r;
	struct arena *arena;
	struct sl domain, secret;
	json_t *list; /* component.list */
	size_t at;    /* of which one the mail is being counted */
};

static void cmd_free(struct comp_cmd *c)
{
	struct arena *a = c->arena;

	store_op_fini(&c->u.op);
	json_decref(c->list);
	if (c->secret.n)
		wipe((char *)(uintptr_t)c->secret.p, c->secret.n);
	arena_free(&a);
}

static struct comp_cmd *cmd_new(struct program *p, struct child_req *r)
{
	struct arena *a = arena_new(2048, 65536);
	struct comp_cmd *c = a ? arena_new_obj(a, struct comp_cmd) : NULL;

	if (!c) {
		arena_free(&a);
		child_fail(r, E_NOMEM, "no memory");
		return NULL;
	}
	c->arena = a;
	c->p = p;
	c->r = r;
	return c;
}

static void answer_domain(struct comp_cmd *c)
{
	child_answer(c->r, json_pack("{s:s%}", "domain", c->domain.p, c->domain.n));
	cmd_free(c);
}

/* The snapshot with the change is published. */
static void published(void *arg, int rc)
{
	struct comp_cmd *c = arg;

	if (rc == 0) {
		answer_domain(c);
		return;
	}
	child_fail(c->r, rc, "it is stored, but takes effect at the next start only");
	cmd_free(c);
}

/* ---- add ---------------------------------------------------------------------------------------
 */

static void added(struct store_op *op)
{
	struct comp_cmd *c = op->arg;

	if (op->rc != 0) {
		child_fail(c->r, op->rc, "the store did not take it");
		cmd_free(c);
		return;
	}
	log_ev(LOG_L_NOTICE, "component.added", KS("domain", c->domain));
	core_components_changed(c->p->core, published, c);
}

void control_component_add(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct sl domain = SL_NULL, secret = SL_NULL;
	const struct child_arg expected[] = {
		{ "domain", CHILD_STR, true, JID_PART_MAX, &domain },
		{ "secret", CHILD_STR, true, SECRET_MAX, &secret },
	};
	struct comp_cmd *c;
	struct sl name;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	c = cmd_new(p, r);
	if (!c)
		return;
	if (jid_prep_domain(c->arena, domain, &name, NULL) != 0 || secret.n == 0) {
		child_fail(r, E_SYNTAX, secret.n ? "not a domain" : "the secret is empty");
		cmd_free(c);
		return;
	}
	if (core_domain(core_worker(p->core, 0)->cfg, name)) {
		child_fail(r, E_EXISTS, "\"" SLFMT "\" is served already", SLARG(name));
		cmd_free(c);
		return;
	}
	c->domain = arena_dup(c->arena, name);
	c->secret = arena_dup(c->arena, secret);
	store_op_init(&c->u.op, STORE_COMPONENT_PUT, added, c);
	c->u.put.domain = c->domain;
	c->u.put.secret = c->secret;
	store_submit(core_worker(p->core, 0)->store, &c->u.op);
}

/* ---- delete ------------------------------------------------------------------------------------
 */

static void end_stream(void *arg, const struct session *s)
{
	struct comp_cmd *c = arg;

	if (!s->user && sl_eq(s->jid.full, c->domain))
		s->ops->close((struct session *)(uintptr_t)s, "host-gone", SL_NULL);
}

static void delete_ask(struct core_ask *a, struct worker *w)
{
	access_each_session(w, end_stream, container_of(a, struct comp_cmd, ask));
}

static void delete_asked(struct core_ask *a)
{
	struct comp_cmd *c = container_of(a, struct comp_cmd, ask);

	core_components_changed(c->p->core, published, c);
}

static void deleted(struct store_op *op)
{
	struct comp_cmd *c = op->arg;

	if (op->rc != 0 || !c->u.del.existed_r) {
		child_fail(c->r, op->rc ? op->rc : E_NOTFOUND,
			   op->rc ? "the store did not take it" : "there is no such component");
		cmd_free(c);
		return;
	}
	log_ev(LOG_L_NOTICE, "component.deleted", KS("domain", c->domain));
	c->ask.ask = delete_ask;
	c->ask.done = delete_asked;
	core_ask(c->p->core, &c->ask);
}

void control_component_delete(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	struct sl domain = SL_NULL, name;
	const struct child_arg expected[] = { { "domain", CHILD_STR, true, JID_PART_MAX,
						&domain } };
	struct comp_cmd *c;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, expected, ARRAY_LEN(expected)) != 0)
		return;
	c = cmd_new(p, r);
	if (!c)
		return;
	if (jid_prep_domain(c->arena, domain, &name, NULL) != 0) {
		child_fail(r, E_SYNTAX, "not a domain");
		cmd_free(c);
		return;
	}
	if (core_domain(core_base_config(p->core), name)) {
		child_fail(r, E_DENIED, "\"" SLFMT "\" is in the configuration file", SLARG(name));
		cmd_free(c);
		return;
	}
	c->domain = arena_dup(c->arena, name);
	store_op_init(&c->u.op, STORE_COMPONENT_DEL, deleted, c);
	c->u.del.domain = c->domain;
	store_submit(core_worker(p->core, 0)->store, &c->u.op);
}

/* ---- list --------------------------------------------------------------------------------------
 */

static void count_stream(void *arg, const struct session *s)
{
	struct comp_cmd *c = arg;
	json_t *o;
	size_t i;

	if (s->user)
		return;
	json_array_foreach(c->list, i, o)
	{
		json_t *d = json_object_get(o, "domain"), *n = json_object_get(o, "streams");

		if (sl_eq(s->jid.full, sl_mk(json_string_value(d), json_string_length(d))))
			json_integer_set(n, json_integer_value(n) + 1);
	}
}

static void list_ask(struct core_ask *a, struct worker *w)
{
	access_each_session(w, count_stream, container_of(a, struct comp_cmd, ask));
}

static void count_next(struct comp_cmd *c);

static void counted(struct store_op *op)
{
	struct comp_cmd *c = op->arg;
	json_t *o = json_array_get(c->list, c->at++);

	json_object_set_new(o, "waiting",
			    json_integer(op->rc == 0 ? (json_int_t)c->u.count.n_r : 0));
	store_op_fini(op);
	count_next(c);
}

static void count_next(struct comp_cmd *c)
{
	json_t *d = json_object_get(json_array_get(c->list, c->at), "domain");

	memset(&c->u, 0, sizeof(c->u));
	if (!d || c->p->stopping) {
		child_answer(c->r, json_pack("{s:O}", "components", c->list));
		cmd_free(c);
		return;
	}
	store_op_init(&c->u.op, STORE_MAIL_COUNT, counted, c);
	c->u.count.owner = sl_mk(json_string_value(d), json_string_length(d));
	store_submit(core_worker(c->p->core, 0)->store, &c->u.op);
}

static void list_asked(struct core_ask *a)
{
	count_next(container_of(a, struct comp_cmd, ask));
}

void control_component_list(void *self, struct child_req *r, json_t *args)
{
	struct program *p = self;
	const struct core_config *now = core_worker(p->core, 0)->cfg;
	struct comp_cmd *c;

	UNUSED(args);
	if (control_refused(p, r) || child_args(r, NULL, 0) != 0)
		return;
	c = cmd_new(p, r);
	if (!c)
		return;
	c->list = json_array();
	for (struct hnode *n = NULL; (n = htable_next(&now->domains, n));) {
		const struct domain *d = container_of(n, const struct domain, hn);
		bool fixed = core_domain(core_base_config(p->core), d->name) != NULL;

		if (d->kind != DOMAIN_COMPONENT)
			continue;
		json_array_append_new(c->list,
				      json_pack("{s:s%,s:b,s:s,s:I,s:I}", "domain", d->name.p,
						d->name.n, "ours", d->local_only, "source",
						fixed ? "config" : "command", "streams",
						(json_int_t)0, "waiting", (json_int_t)0));
	}
	c->ask.ask = list_ask;
	c->ask.done = list_asked;
	core_ask(p->core, &c->ask);
}
