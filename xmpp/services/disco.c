/* disco.c - XEP-0030 for hosts and accounts. What there is to tell comes from the registry. */
#include "xmpp/services/services.h"

static void identity(struct stanza *res, struct xml_node *q, struct sl category, struct sl type,
		     struct sl name)
{
	struct xml_node *n = xml_add(res->arena, q, NS_DISCO_INFO, SL("identity"));

	n = xml_set(res->arena, n, SL("category"), category);
	n = xml_set(res->arena, n, SL("type"), type);
	if (name.n)
		xml_set(res->arena, n, SL("name"), name);
}

static void feature(struct stanza *res, struct xml_node *q, const char *var)
{
	xml_set(res->arena, xml_add(res->arena, q, NS_DISCO_INFO, SL("feature")), SL("var"),
		sl_cstr(var));
}

static void features(struct worker *w, struct stanza *res, struct xml_node *q, bool account)
{
	feature(res, q, "http://jabber.org/protocol/disco#info");
	feature(res, q, "http://jabber.org/protocol/disco#items");
	for (const struct service *const *s = w->services->list; *s; s++) {
		const char *const *f = account ? (*s)->account_features : (*s)->features;

		for (; f && *f; f++)
			feature(res, q, *f);
	}
}

/* true: answered; we have no nodes. */
static bool has_node(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	if (!xml_attr(payload, SL("node")).n)
		return false;
	route_error(c->w, st, SC_ITEM_NOT_FOUND, SL_NULL);
	return true;
}

/* An account tells only who may know its presence (XEP-0030 8, RFC 6121 11). */
static bool may_know(const struct svc_ctx *c, const struct stanza *st)
{
	return sl_eq(st->from.bare, c->user->jid.bare) ||
	       sub_from(roster_state(c->user, st->from.bare));
}

static int host_info(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct xml_node *q;
	struct stanza *res;

	if (has_node(c, st, payload))
		return SVC_HANDLED;
	res = svc_result(st, NS_DISCO_INFO, SL("query"), &q);
	if (!res)
		return SVC_PASS;
	identity(res, q, SL("server"), SL("im"), SL("Tandem"));
	features(c->w, res, q, false);
	route_new(c->w, res);
	return SVC_HANDLED;
}

static int host_items(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	const struct htable *t = &c->w->cfg->domains;
	struct xml_node *q;
	struct stanza *res;

	if (has_node(c, st, payload))
		return SVC_HANDLED;
	res = svc_result(st, NS_DISCO_ITEMS, SL("query"), &q);
	if (!res)
		return SVC_PASS;
	for (struct hnode *n = htable_next(t, NULL); n; n = htable_next(t, n)) {
		const struct domain *d = container_of(n, struct domain, hn);

		if (d->kind == DOMAIN_COMPONENT)
			xml_set(res->arena, xml_add(res->arena, q, NS_DISCO_ITEMS, SL("item")),
				SL("jid"), d->name);
	}
	route_new(c->w, res);
	return SVC_HANDLED;
}

static int account_info(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct xml_node *q;
	struct stanza *res;

	if (!may_know(c, st))
		return SVC_PASS;
	if (has_node(c, st, payload))
		return SVC_HANDLED;
	res = svc_result(st, NS_DISCO_INFO, SL("query"), &q);
	if (!res)
		return SVC_PASS;
	identity(res, q, SL("account"), SL("registered"), SL_NULL);
	features(c->w, res, q, true);
	route_new(c->w, res);
	return SVC_HANDLED;
}

static int account_items(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct xml_node *q;
	struct stanza *res;

	if (!may_know(c, st))
		return SVC_PASS;
	if (has_node(c, st, payload))
		return SVC_HANDLED;
	res = svc_result(st, NS_DISCO_ITEMS, SL("query"), &q);
	if (!res)
		return SVC_PASS;
	route_new(c->w, res);
	return SVC_HANDLED;
}

static const struct svc_iq iqs[] = {
	{ SVC_TO_HOST, ST_GET, NS_DISCO_INFO, "query", host_info, "XEP-0030 3" },
	{ SVC_TO_HOST, ST_GET, NS_DISCO_ITEMS, "query", host_items, "XEP-0030 4" },
	{ SVC_TO_ACCOUNT, ST_GET, NS_DISCO_INFO, "query", account_info, "XEP-0030 8" },
	{ SVC_TO_ACCOUNT, ST_GET, NS_DISCO_ITEMS, "query", account_items, "XEP-0030 8" },
	{ 0 },
};

const struct service svc_disco = { .name = "disco", .iq = iqs };
