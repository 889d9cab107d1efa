/* service.c - dispatch of iqs to the services' rows (router.h). */
#include "xmpp/router/router_int.h"

static bool same_account(const struct svc_ctx *c, const struct stanza *st)
{
	return c->user && !jid_is_null(&st->from) && sl_eq(st->from.bare, c->user->jid.bare);
}

static bool row_matches(const struct svc_iq *r, const struct stanza *st,
			const struct xml_node *payload)
{
	return r->type == st->type && r->ns == payload->ns &&
	       sl_eq(payload->name, sl_cstr(r->element));
}

static int one_service(const struct service *s, enum svc_target target, struct svc_ctx *c,
		       struct stanza *st, struct xml_node *payload)
{
	for (const struct svc_iq *r = s->iq; r && r->handle; r++) {
		if (!row_matches(r, st, payload))
			continue;
		/* ROST-2: to somebody else's account, whether it exists or not */
		if (target == SVC_TO_ACCOUNT && r->target == SVC_TO_SELF && !same_account(c, st)) {
			route_error(c->w, st, SC_FORBIDDEN, SL_NULL);
			return SVC_HANDLED;
		}
		if (target == SVC_TO_ACCOUNT && !c->user)
			continue;
		if ((r->target == target ||
		     (r->target == SVC_TO_SELF && target == SVC_TO_ACCOUNT)) &&
		    r->handle(c, st, payload) == SVC_HANDLED)
			return SVC_HANDLED;
	}
	return SVC_PASS;
}

int service_iq(const struct service_table *t, enum svc_target target, struct svc_ctx *c,
	       struct stanza *st)
{
	struct xml_node *payload = xml_first_element(st->root);

	if (!payload)
		return SVC_PASS;
	for (const struct service *const *s = t->list; *s; s++)
		if (one_service(*s, target, c, st, payload) == SVC_HANDLED)
			return SVC_HANDLED;
	return SVC_PASS;
}
