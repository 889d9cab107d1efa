/* bearer_smpp.c - an SMPP link (smpp_link.h) as a bearer of the queue: configuration, addresses,
 * statuses and receipts in the queue's terms. */
#include "appliance/base/buf.h"
#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/loop/tls.h"
#include "translators/common/numplan.h"
#include "translators/sms/bearer_int.h"
#include "translators/sms/receipt.h"
#include "translators/sms/smpp_link.h"
#include "translators/sms/smpp_status.h"

struct smpp {
	struct bearer b;
	struct smpp_link *link;
	struct config_link *cfg; /* our copy */
	const struct numplan *np;
	bool enabled, closing;
	uint64_t since_ms;
};

static struct smpp *self_of(struct bearer *b)
{
	return (struct smpp *)b;
}

static const struct smpp *cself_of(const struct bearer *b)
{
	return (const struct smpp *)b;
}

/* ---- from the link
 * --------------------------------------------------------------------------------------- */

static void on_state(void *arg, struct smpp_link *l, bool up, const char *why)
{
	struct smpp *x = arg;

	UNUSED(l);
	x->since_ms = clock_wall_ms();
	log_ev(up ? LOG_L_NOTICE : LOG_L_WARN, up ? "sms.link.up" : "sms.link.down",
	       KC("link", x->b.name), KC("reason", why));
	if (!x->closing)
		x->b.ops->on_state(x->b.arg, &x->b);
}

static void on_ready(void *arg, struct smpp_link *l)
{
	struct smpp *x = arg;

	UNUSED(l);
	if (!x->closing)
		x->b.ops->on_room(x->b.arg, &x->b);
}

static enum part_result refused(uint32_t status)
{
	switch (smpp_status_find(status)->cls) {
	case SMPP_CLASS_THROTTLED:
		return PART_THROTTLED;
	case SMPP_CLASS_PERMANENT:
		return PART_PERMANENT;
	case SMPP_CLASS_OK:
	case SMPP_CLASS_TEMPORARY:
	case SMPP_CLASS_BIND:
	case SMPP_CLASS_UNKNOWN:
		break;
	}
	return PART_TEMPORARY;
}

static void on_submit_result(void *arg, struct smpp_link *l, uint64_t cookie, enum smpp_result r,
			     uint32_t status, struct sl message_id)
{
	struct smpp *x = arg;
	struct part_outcome o = { .message_id = message_id };

	UNUSED(l);
	switch (r) {
	case SMPP_RESULT_ACCEPTED:
		o.result = PART_ACCEPTED;
		break;
	case SMPP_RESULT_REFUSED:
		o.result = refused(status);
		o.condition = smpp_status_find(status)->condition;
		o.type = smpp_status_find(status)->type;
		snprintf(o.text, sizeof(o.text), "%s (%s, 0x%x)", smpp_status_find(status)->text,
			 smpp_status_find(status)->name, status);
		break;
	case SMPP_RESULT_UNSENT:
		o.result = PART_UNSENT;
		break;
	case SMPP_RESULT_AMBIGUOUS:
		o.result = PART_AMBIGUOUS;
		break;
	}
	x->b.ops->on_result(x->b.arg, &x->b, cookie, &o);
}

/* TEXT-28: by the number plan, or with the + that many centres leave out. */
static bool address(const struct smpp *x, struct sl s, char dst[NUMBER_MAX])
{
	char plus[NUMBER_MAX];

	if (number_normalise(x->np, s, dst, NULL) == 0)
		return true;
	if (s.n <= 8 || s.n >= NUMBER_MAX - 1)
		return false;
	snprintf(plus, sizeof(plus), "+%.*s", SLARG(s));
	return number_normalise(x->np, sl_cstr(plus), dst, NULL) == 0;
}

static void on_deliver(void *arg, struct smpp_link *l, const struct smpp_in *m, uint64_t token)
{
	struct smpp *x = arg;
	char from[NUMBER_MAX], to[NUMBER_MAX];
	struct sms_in in = { .from = m->from,
			     .to = m->to,
			     .from_alphanumeric = m->from_alphanumeric,
			     .body = m->body };

	UNUSED(l);
	if (!m->from_alphanumeric && address(x, m->from, from))
		in.from = sl_cstr(from);
	else
		in.from_alphanumeric = true;
	if (address(x, m->to, to))
		in.to = sl_cstr(to);
	x->b.ops->on_message(x->b.arg, &x->b, &in, token);
}

static int key_into(const struct smpp *x, struct sl canonical, struct buf *dst)
{
	return buf_addf(dst, "%s\n%.*s", x->b.name, SLARG(canonical));
}

static void receipt_words(const struct smpp_receipt *r, struct sms_receipt *out)
{
	const struct smpp_message_state *s = r->state;

	out->state = !s || s->outcome == SMPP_OUTCOME_PENDING ? RECEIPT_INTERMEDIATE
		     : s->outcome == SMPP_OUTCOME_DELIVERED   ? RECEIPT_DELIVERED
		     : s->outcome == SMPP_OUTCOME_EXPIRED     ? RECEIPT_EXPIRED
							      : RECEIPT_FAILED;
	out->condition = s ? s->condition : NULL;
	if (!s)
		snprintf(out->text, sizeof(out->text), "a receipt without a state");
	else if (r->err.n && r->err.n <= 8)
		snprintf(out->text, sizeof(out->text), "%s (%s, network error %.*s)",
			 s->text ? s->text : "delivered", s->name, SLARG(r->err));
	else
		snprintf(out->text, sizeof(out->text), "%s (%s)", s->text ? s->text : "delivered",
			 s->name);
}

static void on_receipt(void *arg, struct smpp_link *l, const struct smpp_receipt *r, uint64_t token)
{
	struct smpp *x = arg;
	struct smpp_id_key key[SMPP_RECEIPT_KEYS];
	struct sms_receipt out = { 0 };
	struct buf b;
	size_t at[SMPP_RECEIPT_KEYS + 1] = { 0 };
	unsigned n = smpp_receipt_keys(r, key);

	UNUSED(l);
	if (n > RECEIPT_KEYS)
		n = RECEIPT_KEYS;
	buf_init(&b, 4096);
	for (unsigned i = 0; i < n; i++) {
		if (key_into(x, smpp_id_sl(&key[i]), &b) < 0)
			n = i;
		at[i + 1] = b.n;
	}
	for (unsigned i = 0; i < n; i++)
		out.key[i] = sl_sub(buf_sl(&b), at[i], at[i + 1]);
	out.nkeys = n;
	receipt_words(r, &out);
	x->b.ops->on_receipt(x->b.arg, &x->b, &out, token);
	buf_free(&b);
}

static const struct smpp_link_ops link_ops = { on_state, on_ready, on_submit_result, on_deliver,
					       on_receipt };

/* ---- bearer
 * ------------------------------------------------------------------------------------------------
 */

static void smpp_stop(struct bearer *b, uint32_t drain_ms, uint32_t close_ms)
{
	smpp_link_stop(self_of(b)->link, drain_ms, close_ms);
}

static bool smpp_stopped(const struct bearer *b)
{
	return smpp_link_closed(cself_of(b)->link);
}

static void smpp_free_parts(struct bearer *b)
{
	struct smpp *x = self_of(b);

	x->closing = true;
	if (x->link)
		smpp_link_free(&x->link);
}

static void smpp_free(struct bearer *b)
{
	struct smpp *x = self_of(b);

	smpp_free_parts(b);
	config_link_free(&x->cfg);
	free(x);
}

static int smpp_submit(struct bearer *b, const struct sms_part *p, uint64_t cookie)
{
	struct smpp *x = self_of(b);
	struct smpp_out m = { .from = p->from,
			      .to = p->to,
			      .body = p->body,
			      .want_receipt = p->want_receipt,
			      .validity_s = p->validity_s };
	struct err e = { 0 };
	int rc = x->link ? smpp_link_submit(x->link, &m, cookie, &e) : E_AGAIN;

	return rc == E_NOMEM ? E_AGAIN : rc;
}

static void smpp_answer(struct bearer *b, uint64_t token, int rc)
{
	struct smpp *x = self_of(b);
	uint32_t status = rc == 0            ? SMPP_ESME_ROK
			  : rc == E_NOTFOUND ? SMPP_ESME_RINVDSTADR
					     : SMPP_ESME_RX_T_APPN;

	if (x->link)
		smpp_link_deliver_done(x->link, token, status);
}

static bool smpp_up(const struct bearer *b)
{
	const struct smpp *x = cself_of(b);

	return x->link && !x->closing && smpp_link_up(x->link);
}

static unsigned smpp_room(const struct bearer *b)
{
	const struct smpp *x = cself_of(b);

	return smpp_up(b) ? smpp_link_room(x->link) : 0;
}

static unsigned smpp_serves(const struct bearer *b, struct sl number)
{
	const struct config_link *c = cself_of(b)->cfg;
	unsigned best = c->prefixes.n ? 0 : 1;

	for (uint32_t i = 0; i < c->prefixes.n; i++)
		if (sl_starts(number, c->prefixes.v[i]) && c->prefixes.v[i].n + 1 > best)
			best = (unsigned)c->prefixes.v[i].n + 1;
	return best;
}

static int smpp_key(const struct bearer *b, struct sl message_id, struct buf *dst)
{
	struct smpp_id_key key;
	int rc = smpp_id_key(message_id, &key);

	return rc < 0 ? rc : key_into(cself_of(b), smpp_id_sl(&key), dst);
}

static json_t *smpp_describe(const struct bearer *b)
{
	const struct smpp *x = cself_of(b);
	const struct smpp_counts *n = smpp_link_counts(x->link);
	json_t *o = json_pack(
		"{s:s, s:s, s:s, s:i, s:s, s:b, s:s, s:I, s:i, s:i, s:I, s:I, s:I, s:s}", "name",
		b->name, "type", "smpp", "host", x->cfg->host.p, "port", (int)x->cfg->port,
		"system_id", x->cfg->system_id.p, "enabled", x->enabled, "state",
		smpp_link_state(x->link), "since_ms", (json_int_t)x->since_ms, "window",
		(int)x->cfg->window, "in_flight", (int)smpp_link_in_flight(x->link), "submitted",
		(json_int_t)n->submitted, "delivered", (json_int_t)n->delivered, "failed",
		(json_int_t)n->refused, "error", smpp_link_why(x->link));

	if (o)
		json_object_set_new(o, "rate", json_real(smpp_link_rate(x->link)));
	return o;
}

static void smpp_enable(struct bearer *b, bool on)
{
	struct smpp *x = self_of(b);

	x->enabled = on;
	smpp_link_enable(x->link, on);
}

static const struct bearer_vt smpp_vt = { smpp_stop,   smpp_stopped, smpp_free_parts, smpp_free,
					  smpp_submit, smpp_answer,  smpp_up,         smpp_room,
					  smpp_serves, smpp_key,     smpp_describe,   smpp_enable };

/* ---- configuration
 * -------------------------------------------------------------------------------------------- */

static void session_cfg(const struct config_link *c, struct smpp_link_cfg *l)
{
	static const enum smpp_alphabet alphabets[] = {
		[CONFIG_ALPHABET_GSM7] = SMPP_ALPHABET_GSM7,
		[CONFIG_ALPHABET_LATIN1] = SMPP_ALPHABET_LATIN1,
		[CONFIG_ALPHABET_ASCII] = SMPP_ALPHABET_ASCII
	};

	*l = (struct smpp_link_cfg){
		.session = { .name = c->name,
			     .system_id = c->system_id,
			     .password = c->password,
			     .system_type = c->system_type,
			     .window = c->window,
			     .session_init_ms = c->bind_seconds * 1000u,
			     .response_ms = c->response_seconds * 1000u,
			     .enquire_ms = c->enquire_link_seconds * 1000u,
			     .inactivity_ms = c->inactivity_seconds * 1000u,
			     .backoff_min_ms = c->reconnect_min_seconds * 1000u,
			     .backoff_max_ms = c->reconnect_max_seconds * 1000u,
			     .flow = { .max_rate = c->rate,
				       .pause_max_ms = c->throttle_seconds * 1000u } },
		.sms = { .alphabet = alphabets[c->alphabet],
			 .source_ton = (uint8_t)c->source_ton,
			 .source_npi = (uint8_t)c->source_npi,
			 .dest_ton = (uint8_t)c->destination_ton,
			 .dest_npi = (uint8_t)c->destination_npi },
		.host = c->host,
		.port = (uint16_t)c->port,
	};
}

int bearer_smpp_new(struct loop *l, struct resolver *r, const struct config_link *settings,
		    const struct numplan *np, const struct bearer_ops *ops, void *arg,
		    struct bearer **b_r, struct err *e)
{
	struct smpp *x = calloc(1, sizeof(*x));
	struct smpp_link_cfg lc;
	struct tls_ctx *tls = NULL;
	int rc;

	if (!x)
		return err_set(e, E_NOMEM, NULL, "out of memory");
	x->b = (struct bearer){ .vt = &smpp_vt, .ops = ops, .arg = arg, .cost = settings->cost };
	rc = sl_to_cstr(settings->name, x->b.name, sizeof(x->b.name));
	if (rc == 0)
		rc = config_link_copy(settings, &x->cfg, e);
	if (rc == 0 && settings->tls != CONFIG_LINK_TLS_OFF)
		rc = tls_ctx_client(settings->ca, settings->tls == CONFIG_LINK_TLS_VERIFY, SL_NULL,
				    SL_NULL, &tls, e);
	if (rc == 0) {
		session_cfg(x->cfg, &lc);
		lc.tls = tls;
		x->np = np;
		rc = smpp_link_new(l, r, &lc, &link_ops, x, &x->link, e);
	}
	if (tls)
		tls_ctx_unref(&tls);
	if (rc < 0) {
		smpp_free(&x->b);
		return rc;
	}
	x->b.encodings = smpp_link_encodings(x->link);
	x->enabled = settings->enabled;
	x->since_ms = clock_wall_ms();
	smpp_link_enable(x->link, x->enabled);
	*b_r = &x->b;
	return 0;
}
