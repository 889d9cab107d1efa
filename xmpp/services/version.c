/* version.c - XEP-0092. The operating system is not told. */
#include "xmpp/services/services.h"

#include "generated/version.h"

static int version(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct xml_node *q, *name, *ver;
	struct stanza *res = svc_result(st, NS_VERSION, SL("query"), &q);

	(void)payload;
	if (!res)
		return SVC_PASS;
	name = xml_add(res->arena, q, NS_VERSION, SL("name"));
	ver = xml_add(res->arena, q, NS_VERSION, SL("version"));
	xml_add_text(res->arena, name, SL("Tandem"));
	xml_add_text(res->arena, ver, SL(TANDEM_VERSION));
	route_new(c->w, res);
	return SVC_HANDLED;
}

static const struct svc_iq iqs[] = {
	{ SVC_TO_HOST, ST_GET, NS_VERSION, "query", version, "XEP-0092 2" },
	{ 0 },
};
static const char *const features[] = { "jabber:iq:version", NULL };

const struct service svc_version = { .name = "version", .iq = iqs, .features = features };
