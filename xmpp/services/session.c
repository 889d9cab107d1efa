/* session.c - the session iq of RFC 3921 section 3: it does nothing, and older clients insist on
 * it. */
#include "xmpp/services/services.h"

static const struct svc_iq iqs[] = {
	{ SVC_TO_HOST, ST_SET, NS_SESSION, "session", svc_empty_result, "RFC 3921 3" },
	{ SVC_TO_SELF, ST_SET, NS_SESSION, "session", svc_empty_result, "RFC 3921 3" },
	{ 0 },
};

const struct service svc_session = { .name = "session", .iq = iqs };
