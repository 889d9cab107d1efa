/* ping.c - XEP-0199. */
#include "xmpp/services/services.h"

static const struct svc_iq iqs[] = {
	{ SVC_TO_HOST, ST_GET, NS_PING, "ping", svc_empty_result, "XEP-0199 4.2" },
	{ SVC_TO_ACCOUNT, ST_GET, NS_PING, "ping", svc_empty_result, "XEP-0199 4.2" },
	{ 0 },
};
static const char *const features[] = { "urn:xmpp:ping", NULL };

const struct service svc_ping = { .name = "ping", .iq = iqs, .features = features };
