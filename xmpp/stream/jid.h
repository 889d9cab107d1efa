/* jid.h - XMPP addresses (RFC 7622): parsed, prepared and compared as slices.
 *
 * A struct jid is one run of normalised text, "local@domain/resource", with slices into it.
 * Preparation is PRECIS (RFC 8264/8265/7622): UsernameCaseMapped for the localpart with the RFC
 * 7622 exclusions, IDNA2008 (libidn2) or an IP literal for the domain (lower case, no trailing
 * dot), OpaqueString for the resource; each part 1..1023 octets. ASCII takes a fast path without
 * the libraries. Two JIDs are equal when their text is. Thread: any; no state. */
#ifndef TANDEM_XMPP_JID_H
#define TANDEM_XMPP_JID_H

#include "appliance/base/arena.h"
#include "appliance/base/base.h"

#define JID_PART_MAX 1023u
#define JID_MAX      (3u * JID_PART_MAX + 2u)

struct jid {
	struct sl full;     /* all of it */
	struct sl bare;     /* without the resource: prefix of full */
	struct sl local;    /* may be empty (absent) */
	struct sl domain;   /* never empty in a valid JID */
	struct sl resource; /* may be empty (absent) */
};

#define JID_NULL ((struct jid){ .full = SL_NULL })

static inline bool jid_is_null(const struct jid *j)
{
	return j->full.n == 0;
}
static inline bool jid_is_bare(const struct jid *j)
{
	return j->resource.n == 0;
}

/* Parse and prepare. The text of *j_r is `in` itself when it is already normal (then it is
 * borrowed), else lies in a. 0; E_SYNTAX with the reason (the stanza error is jid-malformed);
 * E_NOMEM. */
int jid_parse(struct arena *a, struct sl in, struct jid *j_r, struct err *e);
/* From parts that are already prepared; text in a. E_NOMEM. Empty local/resource: absent. */
int jid_make(struct arena *a, struct sl local, struct sl domain, struct sl resource,
	     struct jid *j_r);
/* Prepare one part alone. */
int jid_prep_local(struct arena *a, struct sl in, struct sl *out_r, struct err *e);
int jid_prep_domain(struct arena *a, struct sl in, struct sl *out_r, struct err *e);
int jid_prep_resource(struct arena *a, struct sl in, struct sl *out_r, struct err *e);
/* Split text that is known to be normal (from our own store): no preparation. */
struct jid jid_split(struct sl normal);
/* Deep copy of the text into a. */
int jid_dup(struct arena *a, const struct jid *j, struct jid *j_r);
static inline bool jid_eq(const struct jid *a, const struct jid *b)
{
	return sl_eq(a->full, b->full);
}
static inline bool jid_bare_eq(const struct jid *a, const struct jid *b)
{
	return sl_eq(a->bare, b->bare);
}

/* SASLprep-like preparation of a password (OpaqueString, RFC 8265 4.2). */
int precis_password(struct arena *a, struct sl in, struct sl *out_r, struct err *e);

/* XEP-0106. Escape a foreign address into a localpart, and back. */
int jid_escape_local(struct arena *a, struct sl in, struct sl *out_r);
int jid_unescape_local(struct arena *a, struct sl in, struct sl *out_r);

#endif
