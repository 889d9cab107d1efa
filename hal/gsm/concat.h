/* concat.h - long texts: splitting into parts, the user data header that numbers them, and joining.
 *
 * 3GPP TS 23.040 section 9.2.3.24 (user data header, concatenation with 8- and 16-bit reference).
 * Used by the SMPP translator and the radio drivers; pure functions, results live in the caller's
 * arena. Rules TEXT-10 to TEXT-19 in docs/rules/sms-text.md. */
#ifndef TANDEM_HAL_GSM_CONCAT_H
#define TANDEM_HAL_GSM_CONCAT_H

#include "hal/gsm/alphabet.h"

#define GSM_USER_DATA_OCTETS  140 /* what one message holds: 160 septets, 70 UTF-16 units */
#define GSM_PARTS_DEFAULT     10
#define GSM_PARTS_MAX         255
#define GSM_UDH_CONCAT_OCTETS 7 /* most that gsm_udh_build writes */

/* Where a part belongs. total 0: the message is not concatenated. */
struct gsm_concat {
	uint16_t ref;
	uint8_t total, seq; /* seq from 1 */
	bool ref16;
};

/* The user data of one message or part, without its header. */
struct gsm_body {
	enum gsm_enc enc;
	struct sl data; /* units */
	struct gsm_concat concat;
};

/* Further bits of gsm_split_cfg.encs, for a bearer that turns septets into octets of a default
 * alphabet of its own: GSM_ENC_7BIT then only for texts whose characters are in that one too
 * (TEXT-20). */
#define GSM_7BIT_AS_LATIN1 0x100u
#define GSM_7BIT_AS_ASCII  0x200u

struct gsm_split_cfg {
	unsigned encs;      /* GSM_ENC_BIT of each coding that the bearer takes; 0: 7BIT and UCS2 */
	unsigned max_parts; /* 1 to GSM_PARTS_MAX; 0: GSM_PARTS_DEFAULT */
	bool ref16;         /* leave room for a 16-bit reference (152 septets, 66 units a part) */
};

struct gsm_text {
	enum gsm_enc enc;
	unsigned n;      /* parts, at least 1 */
	struct sl *part; /* units of each, without header */
};

/* Units that one message (total 1) or each part of several holds: 160/153/152 septets, 70/67/66
 * UTF-16 units, 140/134/133 octets. */
size_t gsm_part_units(enum gsm_enc enc, bool many, bool ref16);

/* Choose the coding that needs fewest parts (7-bit before Latin-1 before UCS-2 when equal) and cut
 * the text (TEXT-10 to TEXT-13). An empty text is one empty part. utf8    borrowed for the call
 * text_r  allocated in a; untouched on error
 * Returns 0, E_SYNTAX (not UTF-8), E_UNSUPPORTED (no coding allowed by cfg has all characters),
 * E_TOOBIG (more than max_parts), E_NOMEM. */
int gsm_split(struct arena *a, struct sl utf8, const struct gsm_split_cfg *cfg,
	      struct gsm_text *text_r, struct err *e);

/* Parts in order to UTF-8. Neighbours of the same coding are joined before they are decoded, so
 * that a pair which another system cut in two becomes whole again (TEXT-14). Binary parts are
 * refused. Returns 0, E_UNSUPPORTED, E_NOMEM. */
int gsm_join(struct arena *a, const struct gsm_body *part, size_t n, struct sl *utf8_r);

/* One information element of a header. */
struct gsm_ie {
	uint8_t id;
	struct sl data;
};

struct gsm_udh {
	struct gsm_concat concat; /* total 0: none, or one that is to be ignored */
	struct sl ies;            /* all elements, for gsm_ie_next */
};

/* Take the header off user data that starts with its length octet (TEXT-15 to TEXT-17).
 * ud       borrowed; the results are slices of it
 * rest_r   what follows the header
 * Returns 0, or E_SYNTAX: the length octet passes the end, or an element passes the header; outputs
 * untouched. */
int gsm_udh_parse(struct sl ud, struct gsm_udh *udh_r, struct sl *rest_r);

/* Next element: true, and *ies moves on; false at the end (or when the rest is malformed). */
bool gsm_ie_next(struct sl *ies, struct gsm_ie *ie_r);

/* Header for c into dst, length octet first. Returns its octets: 0 when c->total is 0, else 6 or 7.
 */
size_t gsm_udh_build(const struct gsm_concat *c, uint8_t dst[GSM_UDH_CONCAT_OCTETS]);

#endif
