/* registry.c - the services of this build, in the order in which they are asked. A new service is a
 * file and a line. */
#include "xmpp/services/services.h"

static const struct service *const list[] = {
	&svc_roster,  &svc_presence, &svc_session,
#ifdef CONFIG_SVC_OFFLINE
	&svc_offline,
#endif
#ifdef CONFIG_SVC_DISCO
	&svc_disco,
#endif
#ifdef CONFIG_SVC_PING
	&svc_ping,
#endif
#ifdef CONFIG_SVC_VERSION
	&svc_version,
#endif
#ifdef CONFIG_SVC_TIME
	&svc_time,
#endif
	NULL,
};

const struct service_table service_table = { .list = list };

struct stanza *svc_result(const struct stanza *st, enum xml_ns ns, struct sl name,
			  struct xml_node **node_r)
{
	struct stanza *res;

	if (stanza_iq_result(st, &res))
		return NULL;
	*node_r = xml_add(res->arena, res->root, ns, name);
	if (!*node_r)
		stanza_unref(&res);
	return res;
}

int svc_empty_result(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct stanza *res;

	(void)payload;
	if (!stanza_iq_result(st, &res))
		route_new(c->w, res);
	return SVC_HANDLED;
}
