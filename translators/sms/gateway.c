/* gateway.c - every stanza from the core: messages go to the queue, iq and presence are answered
 * (GW-n). */
#include "appliance/base/log.h"
#include "translators/sms/sms.h"

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "0.1.0"
#endif

/* Stanzas that promise nothing go straight to the stream: cookie 0. */
static void send(struct sms_app *a, struct buf *b, int rc)
{
	if (rc == 0 && a->core)
		streams_send(a->core, buf_sl(b), 0);
	buf_free(b);
}

static int attr(struct buf *b, const char *name, struct sl value)
{
	int rc = buf_addf(b, " %s='", name);

	rc |= xml_write_escaped(b, value);
	rc |= buf_addc(b, '\'');
	return rc;
}

/* <iq type='...' from to id> as an answer to st. */
static int iq_head(struct buf *b, const struct stanza *st, const char *type)
{
	int rc;

	buf_init(b, COMPONENT_STANZA_MAX);
	rc = buf_addf(b, "<iq type='%s'", type);
	rc |= attr(b, "from", st->to.full);
	rc |= attr(b, "to", st->from.full);
	rc |= attr(b, "id", st->id);
	rc |= buf_addc(b, '>');
	return rc;
}

static void answer_error(struct sms_app *a, const struct stanza *st, const char *type,
			 const char *condition)
{
	struct buf b;
	int rc = iq_head(&b, st, "error");

	rc |= buf_addf(
		&b,
		"<error type='%s'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
		type, condition);
	send(a, &b, rc);
}

static const char features_domain[] =
	"<identity category='gateway' type='sms' name='SMS'/>"
	"<feature var='http://jabber.org/protocol/disco#info'/>"
	"<feature var='http://jabber.org/protocol/disco#items'/>"
	"<feature var='urn:xmpp:ping'/><feature var='jabber:iq:version'/>";
static const char features_number[] =
	"<identity category='client' type='sms'/>"
	"<feature var='http://jabber.org/protocol/disco#info'/>"
	"<feature var='urn:xmpp:receipts'/><feature var='urn:xmpp:ping'/>";

/* GW-1 */
static void disco_info(struct sms_app *a, const struct stanza *st, struct xml_node *query)
{
	struct buf b;
	struct sl node = xml_attr(query, SL("node"));
	int rc;

	if (node.n) {
		answer_error(a, st, "cancel", "item-not-found");
		return;
	}
	rc = iq_head(&b, st, "result");
	rc |= buf_addf(&b, "<query xmlns='http://jabber.org/protocol/disco#info'>%s</query></iq>",
		       st->to.local.n ? features_number : features_domain);
	send(a, &b, rc);
}

static void simple_result(struct sms_app *a, const struct stanza *st, const char *payload)
{
	struct buf b;
	int rc = iq_head(&b, st, "result");

	rc |= buf_add(&b, sl_cstr(payload));
	rc |= buf_add(&b, SL("</iq>"));
	send(a, &b, rc);
}

static void iq(struct sms_app *a, struct stanza *st)
{
	struct xml_node *p = xml_first_element(st->root);

	if (st->type != ST_GET && st->type != ST_SET)
		return;
	if (!p || xml_child_next(p, NS_OTHER, SL_NULL))
		answer_error(a, st, "modify", "bad-request");
	else if (st->type == ST_GET && xml_is(p, NS_DISCO_INFO, SL("query")))
		disco_info(a, st, p);
	else if (st->type == ST_GET && xml_is(p, NS_DISCO_ITEMS, SL("query")))
		simple_result(a, st, "<query xmlns='http://jabber.org/protocol/disco#items'/>");
	else if (st->type == ST_GET && xml_is(p, NS_PING, SL("ping")))
		simple_result(a, st, "");
	else if (st->type == ST_GET && xml_is(p, NS_VERSION, SL("query")) && st->to.local.n == 0)
		simple_result(
			a, st,
			"<query xmlns='jabber:iq:version'><name>Tandem SMS</name>"
			"<version>" TANDEM_VERSION "</version></query>");
	else
		answer_error(a, st, "cancel", "service-unavailable");
}

static void presence_to(struct sms_app *a, const struct stanza *st, const char *type)
{
	struct buf b;
	int rc;

	buf_init(&b, 8192);
	rc = buf_add(&b, SL("<presence"));
	if (type)
		rc |= buf_addf(&b, " type='%s'", type);
	rc |= attr(&b, "from", st->to.bare);
	rc |= attr(&b, "to", st->from.bare);
	rc |= buf_add(&b, SL("/>"));
	send(a, &b, rc);
}

/* GW-2. A number that does not parse has no presence. */
static void presence(struct sms_app *a, struct stanza *st)
{
	char number[NUMBER_MAX];
	bool known = st->to.local.n == 0 ||
		     number_normalise(&a->np, st->to.local, number, NULL) == 0;

	switch (st->type) {
	case ST_SUBSCRIBE:
		presence_to(a, st, known ? "subscribed" : "unsubscribed");
		if (known)
			presence_to(a, st, NULL);
		break;
	case ST_PROBE:
		if (known)
			presence_to(a, st, NULL);
		break;
	case ST_UNSUBSCRIBE:
		presence_to(a, st, "unsubscribed");
		break;
	default:
		break;
	}
}

void gateway_stanza(struct sms_app *a, struct stanza *st, struct component_ticket t)
{
	bool is_message = st->kind == STANZA_MESSAGE && st->type != ST_ERROR;

	if (is_message && xml_child(st->root, NS_STANZA, SL("body"))) {
		out_message(a->out, st, t);
		return;
	}
	if (st->kind == STANZA_IQ)
		iq(a, st);
	else if (st->kind == STANZA_PRESENCE)
		presence(a, st);
	streams_done(a->core, t); /* MSG-2: nothing here that must be kept */
	stanza_unref(&st);
}
