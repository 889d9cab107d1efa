/* smpp_sms.h - a short message as the layers above know it, to and from the parameters of SMPP.
 *
 * Addresses, data_coding, the user data header or sar TLVs, validity. The texts themselves are
 * hal/gsm's business. Called by the link; pure. Rules TEXT-21 to TEXT-27 in docs/rules/sms-text.md.
 */
#ifndef TANDEM_SMS_SMPP_SMS_H
#define TANDEM_SMS_SMPP_SMS_H

#include "hal/gsm/concat.h"
#include "translators/sms/smpp_pdu.h"

/* What data_coding 0 is to the centre. */
enum smpp_alphabet { SMPP_ALPHABET_GSM7, SMPP_ALPHABET_LATIN1, SMPP_ALPHABET_ASCII };

#define SMPP_TON_AUTO 255 /* type of number and numbering plan follow from the address */

struct smpp_sms_cfg {
	enum smpp_alphabet alphabet;
	uint8_t source_ton, source_npi, dest_ton, dest_npi; /* or SMPP_TON_AUTO */
	struct sl service_type;
};

/* One message, or one part of a long one, to send. */
struct smpp_out {
	struct sl from, to; /* "+15550100", "12345", or (from) letters */
	struct gsm_body
		body; /* data is units, without a user data header; concat says which part it is */
	bool want_receipt;
	uint8_t priority;
	uint32_t validity_s; /* 0: the centre's default; at most 30 days are asked for */
};

/* One message, or one part, that came. Slices of the PDU or of the arena. */
struct smpp_in {
	struct sl from, to; /* with '+' where the centre says international; else as they came */
	bool from_alphanumeric;
	struct gsm_body body; /* GSM_ENC_OCTETS: binary, or a coding that is not known */
	uint8_t data_coding;
	uint8_t protocol_id;
};

/* GSM_ENC_BIT and GSM_7BIT_AS_ bits of what can be sent: for gsm_split_cfg.encs. */
unsigned smpp_encodings(const struct smpp_sms_cfg *cfg);

/* Fill *p (a submit_sm).
 * a    takes header and text where they have to be joined or coded anew
 * p    overwritten; slices of *m and of a
 * Returns 0, E_UNSUPPORTED (a coding that this link cannot carry), E_SYNTAX (no recipient),
 * E_TOOBIG (an address longer than SMPP allows), E_NOMEM. */
int smpp_out_pdu(struct arena *a, const struct smpp_sms_cfg *cfg, const struct smpp_out *m,
		 struct smpp_pdu *p, struct err *e);

/* Read a deliver_sm or data_sm that is no receipt. Returns 0, E_NOMEM; *m_r untouched then. */
int smpp_pdu_in(struct arena *a, const struct smpp_sms_cfg *cfg, const struct smpp_pdu *p,
		struct smpp_in *m_r);

#endif
