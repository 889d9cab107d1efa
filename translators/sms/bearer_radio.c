/* bearer_radio.c - radios of hal/ as bearers of the queue. Today: the sim driver's handsets of the
 * configuration.
 *
 * Numbers go through as they are; the radio's references are the message ids. */
#include "appliance/base/clock.h"
#include "appliance/base/buf.h"
#include "hal/hal.h"
#include "translators/common/numplan.h"
#include "translators/sms/bearer_int.h"

struct radio {
	struct bearer b;
	struct hal_host host;
	struct hal_radio *radio;
	const struct config *cfg; /* the handsets' texts are its */
	struct hal_sim_handset *handset;
	const struct numplan *np;
	bool up, enabled;
	uint64_t since_ms, submitted, delivered, failed;
};

static struct radio *self_of(struct bearer *b)
{
	return (struct radio *)b;
}

static const struct radio *cself_of(const struct bearer *b)
{
	return (const struct radio *)b;
}

/* ---- from the radio
 * ----------------------------------------------------------------------------------- */

static void radio_state(void *arg, struct hal_radio *r, bool up, const char *why)
{
	struct radio *x = arg;

	UNUSED(r);
	UNUSED(why);
	x->up = up;
	x->since_ms = clock_wall_ms();
	x->b.ops->on_state(x->b.arg, &x->b);
}

static void sms_sent(void *arg, struct hal_radio *r, uint64_t cookie, enum hal_result res,
		     struct sl reference, const char *text)
{
	static const enum part_result map[] = { [HAL_OK] = PART_ACCEPTED,
						[HAL_TEMPORARY] = PART_TEMPORARY,
						[HAL_PERMANENT] = PART_PERMANENT,
						[HAL_AMBIGUOUS] = PART_AMBIGUOUS };
	struct radio *x = arg;
	struct part_outcome o = { .result = map[res],
				  .message_id = reference,
				  .condition = "recipient-unavailable",
				  .type = "cancel" };

	UNUSED(r);
	snprintf(o.text, sizeof(o.text), "%s", text);
	if (res != HAL_OK)
		x->failed++;
	x->b.ops->on_result(x->b.arg, &x->b, cookie, &o);
	x->b.ops->on_room(x->b.arg, &x->b);
}

static void sms_received(void *arg, struct hal_radio *r, uint64_t token, const struct hal_sms *m,
			 uint64_t sent_ms)
{
	struct radio *x = arg;
	char from[NUMBER_MAX], to[NUMBER_MAX];
	struct sms_in in = { .from = m->from, .to = m->to, .body = m->body, .sent_ms = sent_ms };

	UNUSED(r);
	if (number_normalise(x->np, m->from, from, NULL) == 0)
		in.from = sl_cstr(from);
	else
		in.from_alphanumeric = true;
	if (number_normalise(x->np, m->to, to, NULL) == 0)
		in.to = sl_cstr(to);
	x->b.ops->on_message(x->b.arg, &x->b, &in, token);
}

static int radio_key(const struct bearer *b, struct sl message_id, struct buf *dst)
{
	UNUSED(b);
	return buf_addf(dst, "radio\n%.*s", SLARG(message_id));
}

static void sms_report(void *arg, struct hal_radio *r, uint64_t token, struct sl reference,
		       enum hal_report what, const char *text)
{
	static const enum receipt_state map[] = { [HAL_REPORT_DELIVERED] = RECEIPT_DELIVERED,
						  [HAL_REPORT_FAILED] = RECEIPT_FAILED,
						  [HAL_REPORT_EXPIRED] = RECEIPT_EXPIRED };
	struct radio *x = arg;
	struct sms_receipt rc = { .nkeys = 1,
				  .state = map[what],
				  .condition = "recipient-unavailable" };
	struct buf key;

	UNUSED(r);
	buf_init(&key, 128);
	snprintf(rc.text, sizeof(rc.text), "%s", text);
	if (what == HAL_REPORT_DELIVERED)
		x->delivered++;
	else
		x->failed++;
	if (radio_key(&x->b, reference, &key) == 0) {
		rc.key[0] = buf_sl(&key);
		x->b.ops->on_receipt(x->b.arg, &x->b, &rc, token);
	}
	buf_free(&key);
}

/* ---- bearer
 * -------------------------------------------------------------------------------------------- */

/* The radio has nobody to take leave of, and answers what it holds by itself. */
static void radio_stop(struct bearer *b, uint32_t drain_ms, uint32_t close_ms)
{
	UNUSED(drain_ms);
	UNUSED(close_ms);
	self_of(b)->enabled = false;
	b->ops->on_state(b->arg, b);
}

static bool radio_stopped(const struct bearer *b)
{
	return !cself_of(b)->enabled;
}

static void radio_free_parts(struct bearer *b)
{
	struct radio *x = self_of(b);

	x->up = false;
	if (x->radio)
		x->radio->ops->close(&x->radio);
}

static void radio_free(struct bearer *b)
{
	struct radio *x = self_of(b);

	radio_free_parts(b);
	free(x->handset);
	config_unref(&x->cfg);
	free(x);
}

static int radio_submit(struct bearer *b, const struct sms_part *p, uint64_t cookie)
{
	struct radio *x = self_of(b);
	struct hal_sms m = { p->from, p->to, p->body, p->want_receipt, p->validity_s };
	int rc;

	if (!x->up || !x->enabled)
		return E_AGAIN;
	rc = x->radio->ops->sms_send(x->radio, &m, cookie);
	if (rc == 0)
		x->submitted++;
	return rc == E_NOTFOUND ? E_UNSUPPORTED : rc;
}

static void radio_answer(struct bearer *b, uint64_t token, int rc)
{
	struct radio *x = self_of(b);

	/* Nobody's number is an answer too: the network need not offer it again. */
	if (x->radio)
		x->radio->ops->sms_ack(x->radio, token, rc == 0 || rc == E_NOTFOUND);
}

static bool radio_up(const struct bearer *b)
{
	return cself_of(b)->up && cself_of(b)->enabled;
}

static unsigned radio_room(const struct bearer *b)
{
	const struct radio *x = cself_of(b);

	return radio_up(b) ? x->radio->ops->room(x->radio) : 0;
}

static unsigned radio_serves(const struct bearer *b, struct sl number)
{
	const struct radio *x = cself_of(b);

	return x->radio ? x->radio->ops->serves(x->radio, number) : 0;
}

static json_t *radio_describe(const struct bearer *b)
{
	const struct radio *x = cself_of(b);

	return json_pack("{s:s, s:s, s:s, s:i, s:s, s:b, s:s, s:I, s:i, s:i, s:I, s:I, s:I, s:s}",
			 "name", b->name, "type", "handset", "host", "", "port", 0, "system_id", "",
			 "enabled", x->enabled, "state", radio_up(b) ? "BOUND" : "CLOSED",
			 "since_ms", (json_int_t)x->since_ms, "window", 0, "in_flight", 0,
			 "submitted", (json_int_t)x->submitted, "delivered",
			 (json_int_t)x->delivered, "failed", (json_int_t)x->failed, "error", "");
}

static void radio_enable(struct bearer *b, bool on)
{
	struct radio *x = self_of(b);

	x->enabled = on;
	b->ops->on_state(b->arg, b);
}

static const struct bearer_vt radio_vt = { radio_stop, radio_stopped,  radio_free_parts,
					   radio_free, radio_submit,   radio_answer,
					   radio_up,   radio_room,     radio_serves,
					   radio_key,  radio_describe, radio_enable };

int bearer_radio_new(struct loop *l, const struct config *cfg, const struct numplan *np,
		     const struct bearer_ops *ops, void *arg, struct bearer **b_r, struct err *e)
{
	static const enum hal_sim_behaviour map[] = { [CONFIG_HANDSET_ANSWER] = HAL_SIM_ANSWER,
						      [CONFIG_HANDSET_REPORT] = HAL_SIM_REPORT,
						      [CONFIG_HANDSET_SILENT] = HAL_SIM_SILENT,
						      [CONFIG_HANDSET_REFUSE] = HAL_SIM_REFUSE,
						      [CONFIG_HANDSET_ABSENT] = HAL_SIM_ABSENT };
	struct radio *x = calloc(1, sizeof(*x));
	int rc;

	if (!x || !(x->handset = calloc(cfg->nhandset + 1, sizeof(*x->handset)))) {
		free(x);
		return err_set(e, E_NOMEM, NULL, "out of memory");
	}
	x->cfg = config_ref(cfg);
	for (uint32_t i = 0; i < cfg->nhandset; i++)
		x->handset[i] = (struct hal_sim_handset){ cfg->handset[i].name,
							  map[cfg->handset[i].behaviour],
							  cfg->handset[i].answer,
							  cfg->handset[i].delay_ms };
	x->b = (struct bearer){
		.vt = &radio_vt, .ops = ops, .arg = arg, .name = "handsets", .cost = 0
	};
	x->host = (struct hal_host){ l, x, radio_state, sms_sent, sms_received, sms_report };
	x->np = np;
	x->enabled = true;
	rc = hal_sim_open(&x->host, x->handset, cfg->nhandset, &x->radio, e);
	if (rc < 0) {
		radio_free(&x->b);
		return rc;
	}
	*b_r = &x->b;
	return 0;
}
