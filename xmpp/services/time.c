/* time.c - XEP-0202. The box keeps UTC. */
#include "xmpp/services/services.h"

#include "appliance/base/clock.h"

static int entity_time(struct svc_ctx *c, struct stanza *st, struct xml_node *payload)
{
	struct xml_node *t, *tzo, *utc;
	struct stanza *res = svc_result(st, NS_TIME, SL("time"), &t);
	char stamp[CLOCK_STAMP_MAX];

	(void)payload;
	if (!res)
		return SVC_PASS;
	clock_stamp(clock_wall_ms(), stamp);
	tzo = xml_add(res->arena, t, NS_TIME, SL("tzo"));
	utc = xml_add(res->arena, t, NS_TIME, SL("utc"));
	xml_add_text(res->arena, tzo, SL("+00:00"));
	/* Whole seconds: some clients do not read fractions here. */
	snprintf(stamp + 19, sizeof(stamp) - 19, "Z");
	xml_add_text(res->arena, utc, sl_cstr(stamp));
	route_new(c->w, res);
	return SVC_HANDLED;
}

static const struct svc_iq iqs[] = {
	{ SVC_TO_HOST, ST_GET, NS_TIME, "time", entity_time, "XEP-0202 3" },
	{ 0 },
};
static const char *const features[] = { "urn:xmpp:time", NULL };

const struct service svc_time = { .name = "time", .iq = iqs, .features = features };
