/* component_auth.c - how the component client makes its stream safe and proves who it is: STARTTLS,
 * SASL (EXTERNAL to our core's Unix socket, SCRAM over TCP), XEP-0114's handshake. See component.h;
 * rules COMP-3, COMP-15 to COMP-17. */
#include <openssl/evp.h>

#include "appliance/base/enc.h"
#include "appliance/base/log.h"
#include "appliance/loop/tls.h"
#include "translators/common/component_int.h"
#include "translators/common/scram_client.h"

static bool is_tls(const struct component *c)
{
	return c->conn && conn_is_tls(c->conn);
}

static bool must_be_safe(const struct component *c)
{
	return c->secure == COMPONENT_TLS_ALWAYS || c->secure == COMPONENT_TLS_FIRST;
}

/* ---- TLS
 * ----------------------------------------------------------------------------------------- */

bool component_tls_first(const void *self, const void *ev)
{
	const struct component *c = self;

	UNUSED(ev);
	return !c->unix_path && c->secure == COMPONENT_TLS_FIRST;
}

static int start_tls(struct component *c)
{
	struct err e = { 0 };

	if (!c->tls_ctx)
		err_set(&e, E_STATE, NULL, "no TLS context");
	else if (conn_tls_client(c->conn, c->tls_ctx, c->host, &e) == 0)
		return 0;
	log_ev(LOG_L_ERROR, "component.tls_failed", KC("domain", c->domain), KE(&e));
	c->why = "TLS cannot be begun";
	return e.code;
}

int component_act_direct(void *self, const void *ev)
{
	UNUSED(ev);
	return start_tls(self);
}

bool component_wants_tls(const void *self, const void *ev)
{
	const struct component *c = self;

	return !c->unix_path && c->tls_ctx && !is_tls(c) && xml_child(ev, NS_TLS, SL("starttls"));
}

int component_act_starttls(void *self, const void *ev)
{
	struct component *c = self;

	UNUSED(ev);
	return conn_write(c->conn, SL("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
}

int component_act_proceed(void *self, const void *ev)
{
	struct component *c = self;

	UNUSED(ev);
	c->tls_due = true; /* when the parser has stopped: component_begin_tls */
	return 0;
}

int component_begin_tls(struct component *c)
{
	if (xml_stream_unread(c->xml)) {
		c->why = "something came with <proceed/>"; /* it may be somebody else's words */
		return E_DENIED;
	}
	return start_tls(c);
}

/* ---- SASL
 * ---------------------------------------------------------------------------------------- */

static bool offers(const struct xml_node *mechanisms, struct sl name)
{
	struct arena *a = arena_new(256, 8192);
	const struct xml_node *n = mechanisms ? xml_child(mechanisms, NS_SASL, SL("mechanism"))
					      : NULL;
	bool found = false;

	for (; a && n && !found; n = xml_child_next(n, NS_SASL, SL("mechanism")))
		found = sl_eq(sl_trim(xml_text(a, n)), name);
	arena_free(&a);
	return found;
}

/* The strongest that both have; SL_NULL: none that may be used (COMP-16). Without -PLUS, a server
 * whose certificate nobody checks has not proved that it is at the other end of this TLS. */
static struct sl choose(const struct component *c, const struct xml_node *features)
{
	static const struct sl plus[] = { SL("SCRAM-SHA-512-PLUS"), SL("SCRAM-SHA-256-PLUS") };
	static const struct sl bare[] = { SL("SCRAM-SHA-512"), SL("SCRAM-SHA-256") };
	const struct xml_node *m = xml_child(features, NS_SASL, SL("mechanisms"));

	if (c->unix_path)
		return offers(m, SL("EXTERNAL")) ? SL("EXTERNAL") : SL_NULL;
	for (size_t i = 0; is_tls(c) && i < ARRAY_LEN(plus); i++)
		if (offers(m, plus[i]))
			return plus[i];
	if (must_be_safe(c) && !(is_tls(c) && c->tls_verified))
		return SL_NULL;
	for (size_t i = 0; i < ARRAY_LEN(bare); i++)
		if (offers(m, bare[i]))
			return bare[i];
	return SL_NULL;
}

bool component_can_auth(const void *self, const void *ev)
{
	return choose(self, ev).n != 0;
}

static int send_data(struct component *c, const char *open, struct sl data, const char *close)
{
	struct buf b;
	int rc;

	buf_init(&b, 16384);
	rc = buf_add(&b, sl_cstr(open));
	if (rc == 0)
		rc = data.n ? b64_encode(&b, data) : buf_addc(&b, '=');
	if (rc == 0)
		rc = buf_add(&b, sl_cstr(close));
	if (rc == 0)
		rc = conn_write(c->conn, buf_sl(&b));
	buf_free(&b);
	return rc;
}

static bool is_plus(struct sl mech)
{
	return mech.n > strlen("SCRAM-SHA-512");
}

static int channel_binding(const struct component *c, struct scram_binding *b)
{
	b->flag = 'p';
	if (conn_tls_exporter(c->conn, b->data) == 0) {
		b->name = "tls-exporter";
		b->n = 32;
		return 0;
	}
	b->name = "tls-server-end-point";
	return conn_tls_end_point(c->conn, b->data, &b->n);
}

int component_act_auth(void *self, const void *ev)
{
	struct component *c = self;
	struct sl mech = choose(c, ev), first;
	struct scram_binding b = { .flag = is_tls(c) ? 'y' : 'n' };
	char open[128];
	int rc = 0;

	if (c->unix_path)
		return conn_write(c->conn, SL("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' "
					      "mechanism='EXTERNAL'>=</auth>"));
	if (is_plus(mech))
		rc = channel_binding(c, &b);
	scram_client_free(&c->scram);
	if (rc == 0)
		rc = scram_client_new(mech, sl_cstr(c->domain),
				      sl_mk(c->secret.p, c->secret.n), &b, &c->scram);
	if (rc != 0)
		return rc;
	first = scram_client_first(c->scram);
	snprintf(open, sizeof(open),
		 "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='" SLFMT "'>",
		 SLARG(mech));
	return send_data(c, open, first, "</auth>");
}

/* The decoded text of an element. */
static int data_of(const struct xml_node *n, struct buf *b)
{
	struct arena *a = arena_new(1024, 65536);
	struct sl text = a ? xml_text(a, n) : SL_NULL;
	int rc = !a ? E_NOMEM : sl_eq(text, SL("=")) ? 0 : b64_decode(b, text);

	arena_free(&a);
	return rc;
}

int component_act_response(void *self, const void *ev)
{
	struct component *c = self;
	struct sl final = SL_NULL;
	struct buf b;
	int rc;

	buf_init(&b, 16384);
	rc = data_of(ev, &b);
	if (rc == 0)
		rc = c->scram ? scram_client_final(c->scram, buf_sl(&b), &final) : E_STATE;
	if (rc == 0)
		rc = send_data(c, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>", final,
			       "</response>");
	else
		c->why = "the server's SCRAM challenge is wrong";
	buf_free(&b);
	return rc;
}

/* The server must prove, too, that it knows the secret. */
int component_act_success(void *self, const void *ev)
{
	struct component *c = self;
	struct buf b;
	int rc;

	if (c->unix_path)
		return 0;
	buf_init(&b, 16384);
	rc = data_of(ev, &b);
	if (rc == 0 && (!c->scram || !scram_client_verify(c->scram, buf_sl(&b))))
		rc = E_AUTH;
	buf_free(&b);
	scram_client_free(&c->scram);
	if (rc != 0) {
		c->why = "the server does not know the secret";
		log_ev(LOG_L_ERROR, "component.impostor", KC("domain", c->domain));
	}
	return rc;
}

/* ---- XEP-0114
 * ------------------------------------------------------------------------------------ */

bool component_may_0114(const void *self, const void *ev)
{
	const struct component *c = self;

	UNUSED(ev);
	return !c->unix_path && (!must_be_safe(c) || (is_tls(c) && c->tls_verified));
}

/* Hex of SHA-1(stream id, secret). */
int component_act_handshake(void *self, const void *ev)
{
	struct component *c = self;
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	struct buf out;
	int rc = -1;

	UNUSED(ev);
	buf_init(&out, 256);
	if (m && EVP_DigestInit_ex(m, EVP_sha1(), NULL) == 1 &&
	    EVP_DigestUpdate(m, c->id, strlen(c->id)) == 1 &&
	    EVP_DigestUpdate(m, c->secret.p, c->secret.n) == 1 &&
	    EVP_DigestFinal_ex(m, md, &n) == 1 && buf_add(&out, SL("<handshake>")) == 0 &&
	    hex_encode(&out, sl_mk((const char *)md, n)) == 0 &&
	    buf_add(&out, SL("</handshake>")) == 0)
		rc = conn_write(c->conn, buf_sl(&out));
	EVP_MD_CTX_free(m);
	buf_free(&out);
	return rc;
}

int component_act_insecure(void *self, const void *ev)
{
	struct component *c = self;

	UNUSED(ev);
	log_ev(LOG_L_ERROR, "component.insecure", KC("domain", c->domain), KC("host", c->host),
	       KC("tls", is_tls(c) ? "yes" : "no"),
	       KC("hint", "the server offers no login that is safe enough: see docs/guide.md"));
	c->why = "the server offers no safe login";
	return -1;
}
