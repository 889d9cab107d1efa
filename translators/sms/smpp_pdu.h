/* smpp_pdu.h - SMPP 3.4 octets to struct and back (SMPP Protocol Specification v3.4, issue 1.2).
 *
 * A codec and nothing else: no sockets, no text, no session. The link frames its input with
 * smpp_frame and decodes each PDU; decoded strings are slices of the input. Liberal in what it
 * takes, because real centres waver (docs/rules/smpp.md, PDU-1 to PDU-9): odd but readable input is
 * counted in `glitches`; what it sends keeps to the letter. All functions are pure and safe in any
 * thread. */
#ifndef TANDEM_SMS_SMPP_PDU_H
#define TANDEM_SMS_SMPP_PDU_H

#include "appliance/base/arena.h"
#include "appliance/base/buf.h"

#define SMPP_HEAD_OCTETS 16
#define SMPP_PDU_MAX     70000 /* a 64 KiB message_payload and room for all else */
#define SMPP_CSTR_MAX    255   /* longest C-octet string that is taken from a peer */
#define SMPP_SHORT_MAX   254   /* longest short_message that is sent */
#define SMPP_SEQ_MAX     0x7fffffffu

#define SMPP_RESP 0x80000000u /* set in the command id of a response */
/* clang-format off */
enum smpp_command {
#define SMPP_PDU(name, command_id, ...) SMPP_##name = command_id,
#include "translators/sms/smpp_pdu.def"
};

enum smpp_tlv_tag {
#define SMPP_TLV(name, tag, kind) SMPP_TLV_##name = tag,
#include "translators/sms/smpp_pdu.def"
};
/* clang-format on */

/* esm_class, registered_delivery: the bits that the translator looks at. */
#define SMPP_ESM_TYPE_MASK    0x3c
#define SMPP_ESM_RECEIPT      0x04
#define SMPP_ESM_INTERMEDIATE 0x20
#define SMPP_ESM_UDHI         0x40
#define SMPP_REGISTERED_FINAL 0x01

struct smpp_tlv {
	uint16_t tag;
	struct sl v;
};

/* What was odd about a PDU that was taken all the same. */
enum smpp_glitch {
	SMPP_G_LONG = 0x01,    /* a string longer than 3.4 allows */
	SMPP_G_NO_BODY = 0x02, /* a response without (all of) its body */
	SMPP_G_NO_NUL = 0x04,  /* a response's string without its NUL */
	SMPP_G_TAIL = 0x08,    /* octets at the end that are no TLV */
};

#define SMPP_T_CSTR   struct sl
#define SMPP_T_SECRET struct sl
#define SMPP_T_TEXT   struct sl
#define SMPP_T_U8     uint8_t

struct smpp_def;

/* Every parameter of every PDU has one member, so that code which treats submit_sm, deliver_sm and
 * data_sm alike reads the same names. Members that the PDU lacks are empty. */
struct smpp_pdu {
	uint32_t command_id, command_status, sequence_number;
	unsigned glitches;          /* decode only */
	uint32_t fault;             /* decode failed: the command_status to answer with */
	const struct smpp_def *def; /* decode only; NULL: unknown command id */
	const struct smpp_tlv *tlv; /* in order of appearance */
	size_t tlvs;
/* clang-format off */
#define SMPP_FIELD(name, kind, max) SMPP_T_##kind name;
#include "translators/sms/smpp_pdu.def"
	/* clang-format on */
};

/* Octets of the PDU that buffered input starts with.
 * Returns > 0 (as many are there), 0 (more input is needed), E_SYNTAX: command_length is below 16
 * or above SMPP_PDU_MAX, so framing is lost for good (LINK-7). */
int smpp_frame(struct sl in);

/* Decode one whole PDU.
 * a      takes the TLV list (16 + 8 octets each); unused when there are none
 * in     borrowed; must outlive *pdu_r, whose strings are slices of it
 * pdu_r  overwritten; on error only the header members, def and fault are set
 * Returns 0, E_SYNTAX (malformed; in differs from command_length), E_UNSUPPORTED (unknown command
 * id), E_NOMEM. Linear in the size of the PDU. */
int smpp_pdu_decode(struct arena *a, struct sl in, struct smpp_pdu *pdu_r, struct err *e);

/* Append the octets of p; its command_id says which members count. A response that 3.4 defines
 * without a body on error gets none. Returns 0, E_UNSUPPORTED (unknown command id), E_TOOBIG (a
 * parameter longer than 3.4 allows, or out is full), E_SYNTAX (NUL within a string), E_NOMEM; out
 * is unchanged on error. */
int smpp_pdu_encode(struct buf *out, const struct smpp_pdu *p, struct err *e);

/* Append one line for logs: name, sequence, status and all parameters that are not empty. Passwords
 * are never shown, message texts only with show_text (debug level). Cut silently when out is full.
 */
void smpp_pdu_dump(struct buf *out, const struct smpp_pdu *p, bool show_text);

/* Append a libFuzzer dictionary of command ids, statuses and TLV tags. 0, E_TOOBIG, E_NOMEM. */
int smpp_pdu_dictionary(struct buf *out);

/* "submit_sm"; "unknown" for a command id that has no row. */
const char *smpp_command_name(uint32_t command_id);

/* First TLV with this tag, or NULL. */
const struct smpp_tlv *smpp_tlv_find(const struct smpp_pdu *p, uint16_t tag);
/* Its value as a big-endian number, whatever its length (1 to 4 octets; longer ones count by their
 * last four). False: there is none, or it is empty. */
bool smpp_tlv_uint(const struct smpp_pdu *p, uint16_t tag, uint32_t *v_r);
/* Its value as text, without the NUL (or NULs) at the end; empty when there is none. */
struct sl smpp_tlv_cstr(const struct smpp_pdu *p, uint16_t tag);

/* Message text of submit_sm, deliver_sm, data_sm: short_message, or message_payload when that is
 * empty. */
struct sl smpp_pdu_text(const struct smpp_pdu *p);

#endif
