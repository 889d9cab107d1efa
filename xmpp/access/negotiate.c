/* negotiate.c - see negotiate.h. */
#include "xmpp/access/negotiate.h"

#include "appliance/base/enc.h"
#include "appliance/base/log.h"
#include "appliance/loop/tls.h"

int negotiate_tls(struct stream *s, struct tls_ctx *ctx)
{
	struct err e = { 0 };
	int rc;

	if (xml_stream_unread(s->xml) != 0)
		return E_DENIED;
	stream_write(s, SL("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
	s->header_sent = false;
	xml_stream_restart(s->xml);
	rc = conn_tls_server(s->conn, ctx, &e);
	if (rc != 0) {
		log_ev(LOG_L_INFO, "stream.tls_failed", KC("kind", s->kind->name), KE(&e));
		conn_kill(s->conn);
		return E_CLOSED;
	}
	conn_read_resume(s->conn); /* the parser goes on when TLS is up */
	return 0;
}

static void put_mech(void *arg, struct sl mech)
{
	buf_addf(arg, "<mechanism>" SLFMT "</mechanism>", SLARG(mech));
}

void negotiate_mechanisms(const struct stream *s, unsigned how, struct buf *b)
{
	struct conn_tls_info info;

	buf_add(b, SL("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"));
	login_mechanisms(s->cfg, how, put_mech, b);
	buf_add(b, SL("</mechanisms>"));
	if (!(how & LOGIN_TLS))
		return;
	buf_add(b, SL("<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>"));
	if (conn_tls_info(s->conn, &info) == 0 && info.tls13)
		buf_add(b, SL("<channel-binding type='tls-exporter'/>"));
	buf_add(b, SL("<channel-binding type='tls-server-end-point'/></sasl-channel-binding>"));
}

void negotiate_failure(struct stream *s, const char *condition)
{
	char text[256];
	int n = snprintf(text, sizeof(text),
			 "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><%s/></failure>",
			 condition);

	stream_write(s, sl_mk(text, (size_t)n));
}

void negotiate_data(struct stream *s, const char *element, bool has_data, struct sl data)
{
	struct buf b;

	buf_init(&b, 16384);
	buf_addf(&b, "<%s xmlns='urn:ietf:params:xml:ns:xmpp-sasl'", element);
	if (!has_data) {
		buf_add(&b, SL("/>"));
	} else {
		buf_addc(&b, '>');
		if (data.n == 0)
			buf_addc(&b, '=');
		else
			b64_encode(&b, data);
		buf_addf(&b, "</%s>", element);
	}
	stream_write(s, buf_sl(&b));
	buf_free(&b);
}

const char *negotiate_feed(struct login *l, const struct xml_node *n)
{
	struct arena *a = arena_new(1024, 65536);
	struct sl text = a ? xml_text(a, n) : SL_NULL;
	const char *bad;
	struct buf b;

	buf_init(&b, 16384);
	if (!sl_eq(text, SL("=")) && b64_decode(&b, text) != 0)
		bad = "incorrect-encoding";
	else
		bad = login_input(l, buf_sl(&b));
	wipe(b.p, b.cap);
	buf_free(&b);
	arena_free(&a);
	return bad;
}

/* Errors that are the peer's mistake or bad luck say nothing about a guess. */
static bool is_guess(const char *condition)
{
	return strcmp(condition, "not-authorized") == 0 ||
	       strcmp(condition, "invalid-authzid") == 0;
}

void negotiate_failed(struct stream *s, const struct login *l, const char *condition)
{
	char peer[CONN_ADDR_MAX] = "";

	conn_peer_text(s->conn, peer);
	count(s->w, CNT_AUTH_FAILED);
	log_ev(LOG_L_NOTICE, "auth.failed", KC("peer", peer), KS("host", s->host->name),
	       KS("user", l ? login_user(l) : SL_NULL), KC("condition", condition),
	       KC("guess", is_guess(condition) ? "yes" : "no"));
}
