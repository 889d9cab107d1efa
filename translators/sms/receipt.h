/* receipt.h - delivery receipts: what an SMS centre says became of a message, and which message it
 * means.
 *
 * SMPP 3.4 appendix B gives a text form that every vendor writes in another way, and TLVs that some
 * add. Called by the link for every deliver_sm and data_sm whose esm_class says receipt. Pure; any
 * thread. Rules DLR-1 to DLR-8 and, the states,
 * DLR-10 to DLR-19 in docs/rules/smpp.md.
 *
 * Matching is by one string compare. Centres write the id of a submit_sm_resp in another way in the
 * receipt: other case, leading zeros, hexadecimal here and decimal there. So the id of a
 * submit_sm_resp is stored as its one canonical key (smpp_id_key: DLR-7), and a receipt has a few
 * candidate keys (smpp_receipt_keys: DLR-8), to be looked up in order: at most SMPP_RECEIPT_KEYS
 * look-ups in an index, however many messages wait.
 *
 * With ids that are counters, another message's id may equal a converted candidate ("10" is sixteen
 * in hexadecimal). The canonical form comes first in the list, so a centre that writes its ids
 * alike both times is never misread; for one that does convert, compare the receipt's number with
 * the message's, and keep the form that matched (`form`) as the link's preference. */
#ifndef TANDEM_SMS_RECEIPT_H
#define TANDEM_SMS_RECEIPT_H

#include "translators/sms/smpp_pdu.h"

/* clang-format off */
enum smpp_state {
#define SMPP_STATE(rule, value, name, words, outcome, condition, type, text) \
	SMPP_STATE_##name = (value),
#include "translators/sms/smpp_state.def"
};
/* clang-format on */

enum smpp_outcome {
	SMPP_OUTCOME_PENDING, /* not final */
	SMPP_OUTCOME_DELIVERED,
	SMPP_OUTCOME_FAILED,
	SMPP_OUTCOME_EXPIRED,
};

struct smpp_message_state {
	const char *rule; /* "DLR-n" */
	enum smpp_state value;
	const char *name; /* "DELIVERED" */
	const char *words;
	enum smpp_outcome outcome;
	const char *condition; /* failed, expired: RFC 6120 condition and type for the sender */
	const char *type;
	const char *text; /* for a person */
};

/* NULL: no such state. */
const struct smpp_message_state *smpp_state_find(uint32_t value);
/* A word of a receipt's text ("DELIVRD"); NULL: none that we know. */
const struct smpp_message_state *smpp_state_parse(struct sl word);

struct smpp_receipt {
	struct sl id;      /* of the TLV, else of the text; empty: none */
	struct sl id_text; /* of the text, when there is a TLV too and it differs */
	const struct smpp_message_state *state; /* NULL: none that can be read */
	struct sl err;                          /* "err:" of the text, as it is */
	bool has_network_error;
	uint8_t network_type; /* 1 ANSI-136, 2 IS-95, 3 GSM, ... */
	uint16_t network_error;
	uint64_t submit_s, done_s; /* Unix time of the text's dates taken as UTC (they carry no
				      zone); 0: none */
	struct sl text;            /* first octets of the message, as the centre quotes them */
};

/* esm_class says receipt or intermediate notification, or a receipted_message_id is there (DLR-1).
 */
bool smpp_is_receipt(const struct smpp_pdu *p);

/* Read a receipt.
 * a    takes the text when it is not 8-bit (UCS-2 receipts)
 * r_r  slices of the PDU or of a; untouched on error
 * Returns 0, E_NOTFOUND (neither an id nor a state can be read), E_NOMEM. */
int smpp_receipt_read(struct arena *a, const struct smpp_pdu *p, struct smpp_receipt *r_r);

/* The text form alone. Adds to *r what is found and not set yet. */
void smpp_receipt_text(struct sl text, struct smpp_receipt *r);

enum smpp_id_form {
	SMPP_ID_SAME,   /* as in the submit_sm_resp, but for case and leading zeros */
	SMPP_ID_TO_HEX, /* the receipt has the decimal form of a hexadecimal id */
	SMPP_ID_TO_DEC, /* the receipt has the hexadecimal form of a decimal id */
};

#define SMPP_ID_MAX SMPP_CSTR_MAX
struct smpp_id_key {
	enum smpp_id_form form;
	uint8_t n;
	char s[SMPP_ID_MAX + 1]; /* n octets and a NUL */
};
static inline struct sl smpp_id_sl(const struct smpp_id_key *k)
{
	return sl_mk(k->s, k->n);
}

/* The canonical key of a message id (DLR-7). Returns 0, E_SYNTAX (empty), E_TOOBIG. */
int smpp_id_key(struct sl id, struct smpp_id_key *key_r);

/* Candidates of a receipt, no two alike, most likely first. Returns how many. */
#define SMPP_RECEIPT_KEYS 4
unsigned smpp_receipt_keys(const struct smpp_receipt *r, struct smpp_id_key key[SMPP_RECEIPT_KEYS]);

#endif
