/* precis.h - PRECIS string preparation (RFC 8264, 8265) for JIDs and passwords; jid.c is its user.
 */
#ifndef TANDEM_XMPP_PRECIS_H
#define TANDEM_XMPP_PRECIS_H

#include "appliance/base/arena.h"
#include "appliance/base/base.h"

enum precis_profile {
	PRECIS_USERNAME_CASE_MAPPED, /* RFC 8265 3.3 */
	PRECIS_OPAQUE_STRING,        /* RFC 8265 4.2 */
};

/* Enforce a profile, again and again until nothing changes (RFC 8264 7: at most four times). *out_r
 * is `in` itself when it was right already, else lies in a. 0; E_SYNTAX with the reason; E_NOMEM.
 * Thread: any. */
int precis_enforce(struct arena *a, enum precis_profile prof, struct sl in, struct sl *out_r,
		   struct err *e);

/* The mapping of RFC 5895 for domain names: lower case, width, NFC; the ideographic full stop
 * becomes a dot. Checks nothing but UTF-8. *out_r in a. 0, E_SYNTAX, E_NOMEM. */
int precis_map_domain(struct arena *a, struct sl in, struct sl *out_r, struct err *e);

#endif
