/* smpp_sms.c - see smpp_sms.h. */
#include "translators/sms/smpp_sms.h"

#define TON_INTERNATIONAL 1
#define TON_ALPHANUMERIC  5
#define NPI_E164          1
#define ADDRESS_MAX       20
#define ALPHANUMERIC_MAX  11
#define VALIDITY_MAX_S    (30u * 86400)

#define DCS_DEFAULT 0x00
#define DCS_ASCII   0x01
#define DCS_LATIN1  0x03
#define DCS_OCTETS  0x04
#define DCS_UCS2    0x08

unsigned smpp_encodings(const struct smpp_sms_cfg *cfg)
{
	unsigned encs = GSM_ENC_BIT(GSM_ENC_7BIT) | GSM_ENC_BIT(GSM_ENC_UCS2);

	if (cfg->alphabet == SMPP_ALPHABET_LATIN1)
		encs |= GSM_7BIT_AS_LATIN1;
	if (cfg->alphabet == SMPP_ALPHABET_ASCII)
		encs |= GSM_7BIT_AS_ASCII;
	return encs;
}

/* ---- out ---- */

static bool all_digits(struct sl s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n > 0;
}

struct address {
	uint8_t ton, npi;
	struct sl text;
};

/* TEXT-21. */
static int address_out(struct sl s, uint8_t ton, uint8_t npi, bool letters, struct address *a_r,
		       struct err *e)
{
	struct address a = { 0, NPI_E164, s };

	if (s.n && s.p[0] == '+') {
		a.text = sl_sub(s, 1, s.n);
		a.ton = TON_INTERNATIONAL;
	}
	if (!all_digits(a.text)) {
		if (!letters || s.n == 0)
			return err_set(e, E_SYNTAX, "TEXT-21", "\"" SLFMT "\" is no number",
				       SLARG(s));
		a = (struct address){ TON_ALPHANUMERIC, 0, s };
	}
	if (a.text.n > (a.ton == TON_ALPHANUMERIC ? ALPHANUMERIC_MAX : ADDRESS_MAX))
		return err_set(e, E_TOOBIG, "TEXT-21", "\"" SLFMT "\" is too long an address",
			       SLARG(s));
	a.ton = ton == SMPP_TON_AUTO ? a.ton : ton;
	a.npi = npi == SMPP_TON_AUTO ? a.npi : npi;
	*a_r = a;
	return 0;
}

/* TEXT-20: septets as octets of the centre's own default alphabet. */
static int as_default(struct arena *a, enum smpp_alphabet alphabet, struct sl septets,
		      struct sl *out_r)
{
	struct sl text, out;
	int rc = gsm_decode(a, GSM_ENC_7BIT, septets, &text);

	if (rc == 0)
		rc = gsm_encode(a, GSM_ENC_LATIN1, text, &out);
	for (size_t i = 0; rc == 0 && alphabet == SMPP_ALPHABET_ASCII && i < out.n; i++)
		if ((unsigned char)out.p[i] > 0x7f)
			rc = E_UNSUPPORTED;
	if (rc == 0)
		*out_r = out;
	return rc;
}

/* TEXT-22. */
static int coding_out(struct arena *a, const struct smpp_sms_cfg *cfg, const struct gsm_body *b,
		      uint8_t *dcs_r, struct sl *data_r)
{
	*data_r = b->data;
	switch (b->enc) {
	case GSM_ENC_7BIT:
		*dcs_r = DCS_DEFAULT;
		if (cfg->alphabet != SMPP_ALPHABET_GSM7)
			return as_default(a, cfg->alphabet, b->data, data_r);
		return 0;
	case GSM_ENC_LATIN1:
		*dcs_r = DCS_LATIN1;
		return 0;
	case GSM_ENC_UCS2:
		*dcs_r = DCS_UCS2;
		return 0;
	case GSM_ENC_OCTETS:
		*dcs_r = DCS_OCTETS;
		return 0;
	}
	return E_UNSUPPORTED;
}

/* TEXT-23. */
static int body_out(struct arena *a, const struct gsm_concat *c, struct sl data, struct smpp_pdu *p)
{
	uint8_t udh[GSM_UDH_CONCAT_OCTETS];
	size_t n = c->total > 1 ? gsm_udh_build(c, udh) : 0;

	if (n) {
		char *q = arena_bytes(a, n + data.n);

		if (!q)
			return E_NOMEM;
		memcpy(q, udh, n);
		if (data.n)
			memcpy(q + n, data.p, data.n);
		data = sl_mk(q, n + data.n);
		p->esm_class = SMPP_ESM_UDHI;
	}
	if (data.n <= SMPP_SHORT_MAX) {
		p->short_message = data;
		return 0;
	}
	struct smpp_tlv *t = arena_alloc(a, sizeof(*t));
	if (!t)
		return E_NOMEM;
	*t = (struct smpp_tlv){ SMPP_TLV_message_payload, data };
	p->tlv = t;
	p->tlvs = 1;
	return 0;
}

/* TEXT-24: relative form, "000002030405000R" is two days, 3:04:05. */
static int validity_out(struct arena *a, uint32_t s, struct smpp_pdu *p)
{
	if (s == 0)
		return 0;
	if (s > VALIDITY_MAX_S)
		s = VALIDITY_MAX_S;
	p->validity_period = arena_printf(a, "0000%02u%02u%02u%02u000R", s / 86400, s / 3600 % 24,
					  s / 60 % 60, s % 60);
	return p->validity_period.n ? 0 : E_NOMEM;
}

int smpp_out_pdu(struct arena *a, const struct smpp_sms_cfg *cfg, const struct smpp_out *m,
		 struct smpp_pdu *p, struct err *e)
{
	struct address from = { 0 }, to;
	struct sl data;
	int rc;

	*p = (struct smpp_pdu){ .command_id = SMPP_submit_sm,
				.service_type = cfg->service_type,
				.priority_flag = m->priority,
				.registered_delivery = m->want_receipt ? SMPP_REGISTERED_FINAL
								       : 0 };
	rc = address_out(m->to, cfg->dest_ton, cfg->dest_npi, false, &to, e);
	if (rc == 0 && m->from.n)
		rc = address_out(m->from, cfg->source_ton, cfg->source_npi, true, &from, e);
	if (rc < 0)
		return rc;
	p->source_addr_ton = from.ton;
	p->source_addr_npi = from.npi;
	p->source_addr = from.text;
	p->dest_addr_ton = to.ton;
	p->dest_addr_npi = to.npi;
	p->destination_addr = to.text;
	rc = coding_out(a, cfg, &m->body, &p->data_coding, &data);
	if (rc == E_UNSUPPORTED)
		return err_set(e, rc, "TEXT-20",
			       "the text has characters that the link cannot carry");
	if (rc == 0)
		rc = body_out(a, &m->body.concat, data, p);
	if (rc == 0)
		rc = validity_out(a, m->validity_s, p);
	return rc < 0 ? err_set(e, rc, NULL, "no memory for a submit_sm") : 0;
}

/* ---- in ---- */

/* TEXT-25. */
static enum gsm_enc coding_in(const struct smpp_sms_cfg *cfg, uint8_t dcs)
{
	static const enum gsm_enc general[] = { GSM_ENC_7BIT, GSM_ENC_OCTETS, GSM_ENC_UCS2,
						GSM_ENC_OCTETS };

	if (dcs == DCS_DEFAULT)
		return cfg->alphabet == SMPP_ALPHABET_GSM7 ? GSM_ENC_7BIT : GSM_ENC_LATIN1;
	if (dcs == DCS_ASCII || dcs == DCS_LATIN1)
		return GSM_ENC_LATIN1;
	if (dcs == DCS_UCS2)
		return GSM_ENC_UCS2;
	if (dcs >= 0x20 && dcs < 0x40) /* compressed */
		return GSM_ENC_OCTETS;
	if (dcs >= 0x10 && dcs < 0x20)
		return general[dcs >> 2 & 3];
	if (dcs >= 0xc0 && dcs < 0xe0)
		return GSM_ENC_7BIT;
	if (dcs >= 0xe0 && dcs < 0xf0)
		return GSM_ENC_UCS2;
	if (dcs >= 0xf0)
		return dcs & 0x04 ? GSM_ENC_OCTETS : GSM_ENC_7BIT;
	return GSM_ENC_OCTETS;
}

/* TEXT-26: the header, or else the sar TLVs. */
static void concat_in(const struct smpp_pdu *p, struct gsm_body *b)
{
	uint32_t ref, total, seq;
	struct gsm_udh udh;

	if (p->esm_class & SMPP_ESM_UDHI && gsm_udh_parse(b->data, &udh, &b->data) == 0)
		b->concat = udh.concat;
	if (b->concat.total == 0 && smpp_tlv_uint(p, SMPP_TLV_sar_msg_ref_num, &ref) &&
	    smpp_tlv_uint(p, SMPP_TLV_sar_total_segments, &total) &&
	    smpp_tlv_uint(p, SMPP_TLV_sar_segment_seqnum, &seq) && total <= 255 && seq > 0 &&
	    seq <= total)
		b->concat =
			(struct gsm_concat){ (uint16_t)ref, (uint8_t)total, (uint8_t)seq, true };
}

/* TEXT-27. */
static int address_in(struct arena *a, uint8_t ton, struct sl s, bool *letters_r, struct sl *out_r)
{
	bool plus = s.n && s.p[0] == '+';
	bool digits = all_digits(plus ? sl_sub(s, 1, s.n) : s);

	*letters_r = s.n && (ton == TON_ALPHANUMERIC || !digits);
	*out_r = s;
	if (*letters_r)
		return gsm_decode(a, GSM_ENC_LATIN1, s, out_r);
	if (ton != TON_INTERNATIONAL || plus || s.n == 0)
		return 0;
	*out_r = arena_printf(a, "+" SLFMT, SLARG(s));
	return out_r->n ? 0 : E_NOMEM;
}

int smpp_pdu_in(struct arena *a, const struct smpp_sms_cfg *cfg, const struct smpp_pdu *p,
		struct smpp_in *m_r)
{
	struct smpp_in m = { .data_coding = p->data_coding, .protocol_id = p->protocol_id };
	bool ignored;

	m.body.enc = coding_in(cfg, p->data_coding);
	m.body.data = smpp_pdu_text(p);
	concat_in(p, &m.body);
	if (address_in(a, p->source_addr_ton, p->source_addr, &m.from_alphanumeric, &m.from) < 0 ||
	    address_in(a, p->dest_addr_ton, p->destination_addr, &ignored, &m.to) < 0)
		return E_NOMEM;
	*m_r = m;
	return 0;
}
