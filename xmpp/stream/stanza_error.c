/* stanza_error.c - error and result answers (RFC 6120 8.2.3, 8.3). See stanza.h. */
#include "xmpp/stream/stanza.h"

static const struct {
	struct sl name;
	const char *type;
} conds[SC_MAX] = {
#define C(id, name, type) [id] = { { name, sizeof(name) - 1 }, type }
	C(SC_BAD_REQUEST, "bad-request", "modify"),
	C(SC_CONFLICT, "conflict", "cancel"),
	C(SC_FEATURE_NOT_IMPLEMENTED, "feature-not-implemented", "cancel"),
	C(SC_FORBIDDEN, "forbidden", "auth"),
	C(SC_GONE, "gone", "cancel"),
	C(SC_INTERNAL_SERVER_ERROR, "internal-server-error", "cancel"),
	C(SC_ITEM_NOT_FOUND, "item-not-found", "cancel"),
	C(SC_JID_MALFORMED, "jid-malformed", "modify"),
	C(SC_NOT_ACCEPTABLE, "not-acceptable", "modify"),
	C(SC_NOT_ALLOWED, "not-allowed", "cancel"),
	C(SC_NOT_AUTHORIZED, "not-authorized", "auth"),
	C(SC_POLICY_VIOLATION, "policy-violation", "modify"),
	C(SC_RECIPIENT_UNAVAILABLE, "recipient-unavailable", "wait"),
	C(SC_REDIRECT, "redirect", "modify"),
	C(SC_REGISTRATION_REQUIRED, "registration-required", "auth"),
	C(SC_REMOTE_SERVER_NOT_FOUND, "remote-server-not-found", "cancel"),
	C(SC_REMOTE_SERVER_TIMEOUT, "remote-server-timeout", "wait"),
	C(SC_RESOURCE_CONSTRAINT, "resource-constraint", "wait"),
	C(SC_SERVICE_UNAVAILABLE, "service-unavailable", "cancel"),
	C(SC_SUBSCRIPTION_REQUIRED, "subscription-required", "auth"),
	C(SC_UNDEFINED_CONDITION, "undefined-condition", "cancel"),
	C(SC_UNEXPECTED_REQUEST, "unexpected-request", "wait"),
#undef C
};

struct sl stanza_cond_name(enum stanza_cond c)
{
	return c < SC_MAX ? conds[c].name : conds[SC_UNDEFINED_CONDITION].name;
}

const char *stanza_cond_type(enum stanza_cond c)
{
	return c < SC_MAX ? conds[c].type : conds[SC_UNDEFINED_CONDITION].type;
}

int stanza_error_reply(const struct stanza *s, enum stanza_cond c, const char *type, struct sl text,
		       struct stanza **s_r)
{
	struct stanza *r;
	struct arena *a;
	struct xml_node *err, *t;
	struct sl etype;
	int rc;

	if (s->type == ST_ERROR || (s->kind == STANZA_IQ && s->type == ST_RESULT)) {
		*s_r = NULL;
		return 0;
	}
	rc = stanza_new((enum stanza_kind)s->kind, ST_ERROR, &s->to, &s->from, s->id, &r);
	if (rc < 0)
		return rc;
	a = r->arena;
	err = xml_add(a, r->root, NS_STANZA, SL("error"));
	etype = arena_dup(a, sl_cstr(type ? type : stanza_cond_type(c)));
	if (!etype.p || !xml_set(a, err, SL("type"), etype) ||
	    !xml_add(a, err, NS_STANZA_ERR, stanza_cond_name(c)))
		goto nomem;
	if (text.n) {
		text = arena_dup(a, text);
		t = text.p ? xml_add(a, err, NS_STANZA_ERR, SL("text")) : NULL;
		if (!xml_add_text(a, t, text))
			goto nomem;
	}
	*s_r = r;
	return 0;
nomem:
	stanza_unref(&r);
	return E_NOMEM;
}

int stanza_iq_result(const struct stanza *s, struct stanza **s_r)
{
	return stanza_new(STANZA_IQ, ST_RESULT, &s->to, &s->from, s->id, s_r);
}
