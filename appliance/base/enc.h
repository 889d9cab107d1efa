/* enc.h - base64 (RFC 4648 section 4, padded), hex and UTF-8 helpers. */
#ifndef TANDEM_BASE_ENC_H
#define TANDEM_BASE_ENC_H

#include "appliance/base/arena.h"
#include "appliance/base/buf.h"

/* Appends. 0, E_TOOBIG, E_NOMEM. */
int b64_encode(struct buf *out, struct sl in);
/* Strict: no white space, padding required. 0, E_SYNTAX, E_TOOBIG, E_NOMEM. */
int b64_decode(struct buf *out, struct sl in);
int hex_encode(struct buf *out, struct sl in); /* lower case */
int hex_decode(struct buf *out, struct sl in); /* either case */

/* Decode one code point at s.p; returns its octets (1-4), or 0 if s is empty or not valid UTF-8
 * (overlong forms, surrogates and > U+10FFFF are not valid). */
size_t utf8_next(struct sl s, uint32_t *cp_r);
/* Octets written (1-4) into dst[4], or 0 for a surrogate or > U+10FFFF. */
size_t utf8_put(uint32_t cp, char dst[4]);
bool utf8_valid(struct sl s);
/* Longest prefix of s of at most max octets that does not cut a code point. */
struct sl utf8_prefix(struct sl s, size_t max);

#endif
