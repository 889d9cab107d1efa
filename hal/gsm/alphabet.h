/* alphabet.h - the character codings of short messages, to and from UTF-8.
 *
 * GSM 7-bit default alphabet with its extension table (3GPP TS 23.038 section 6.2.1), UCS-2 (read
 * and written as UTF-16BE, so that characters beyond U+FFFF survive) and Latin-1. Shared by the
 * SMPP translator and the radio drivers; pure functions, results live in the caller's arena.
 *
 * "Units" are what a coding counts in: septets (stored one an octet, high bit 0, as SMPP carries
 * them), UTF-16BE code units (two octets each) and octets. Rules TEXT-1 to TEXT-9 in
 * docs/rules/sms-text.md. */
#ifndef TANDEM_HAL_GSM_ALPHABET_H
#define TANDEM_HAL_GSM_ALPHABET_H

#include "appliance/base/arena.h"

enum gsm_enc {
	GSM_ENC_7BIT,   /* default alphabet, unpacked septets */
	GSM_ENC_LATIN1, /* ISO 8859-1 */
	GSM_ENC_UCS2,   /* UTF-16BE */
	GSM_ENC_OCTETS, /* binary: never text */
};
#define GSM_ENC_BIT(e) (1u << (e))

/* Lower-case name ("gsm7", "latin1", "ucs2", "octets"). */
const char *gsm_enc_name(enum gsm_enc enc);

/* True for a character that XML 1.0 can carry; all others are removed both ways (TEXT-1). */
bool gsm_char_ok(uint32_t cp);

/* Units that cp costs in enc: 0 if enc cannot express it. */
unsigned gsm_char_units(enum gsm_enc enc, uint32_t cp);

/* UTF-8 text to units.
 * utf8     borrowed; characters that XML forbids are left out
 * units_r  allocated in a; untouched on error
 * Returns 0, E_SYNTAX (not UTF-8), E_UNSUPPORTED (a character that enc lacks), E_NOMEM. */
int gsm_encode(struct arena *a, enum gsm_enc enc, struct sl utf8, struct sl *units_r);

/* Units to UTF-8 that XML can carry. Nothing in the input is an error (TEXT-2 to TEXT-6 say what
 * becomes of what is odd); the result lies in a. Returns 0, E_UNSUPPORTED (GSM_ENC_OCTETS),
 * E_NOMEM. */
int gsm_decode(struct arena *a, enum gsm_enc enc, struct sl units, struct sl *utf8_r);

/* Septets to the packed form of TS 23.038 section 6.1.2.1, preceded by fill zero bits (0-6: what
 * aligns the text after a user data header, see gsm7_fill). Returns 0, E_NOMEM. */
int gsm7_pack(struct arena *a, struct sl septets, unsigned fill, struct sl *octets_r);
/* The way back. septets is the count (the length octet says it: spare bits cannot be told from
 * '@'). Returns 0, E_SYNTAX (fewer octets than septets need), E_NOMEM. */
int gsm7_unpack(struct arena *a, struct sl octets, size_t septets, unsigned fill,
		struct sl *septets_r);

/* Fill bits after a user data header of udh_octets, its length octet counted. */
static inline unsigned gsm7_fill(size_t udh_octets)
{
	return (7u - (unsigned)(udh_octets * 8u % 7u)) % 7u;
}
static inline size_t gsm7_packed_octets(size_t septets, unsigned fill)
{
	return septets ? (septets * 7u + fill + 7u) / 8u : 0;
}

#endif
