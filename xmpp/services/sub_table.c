/* sub_table.c - RFC 6121 appendix A.2 and A.3: what a server does with presence stanzas that manage
 * subscriptions, as a table. Used by subscription.c; tested row by row. */
#include "xmpp/services/services.h"

#define P SUB_PASS
#define R SUB_REPLY
#define A SUB_APPROVE
#define I (SUB_PASS | SUB_IF_APPROVED)

/* clang-format off */
const struct sub_row sub_rows[SUB_EVENTS * SUB_STATES] = {
	/* event           existing       new            flags approved     spec */
	{ OUT_SUBSCRIBE,    SUB_NONE,      SUB_NONE_PO,   P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_NONE_PO,   SUB_NONE_PO,   P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_NONE_PI,   SUB_NONE_POPI, P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_NONE_POPI, SUB_NONE_POPI, P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_TO,        SUB_TO,        P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_TO_PI,     SUB_TO_PI,     P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_FROM,      SUB_FROM_PO,   P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_FROM_PO,   SUB_FROM_PO,   P,    0,           "A.2.1" },
	{ OUT_SUBSCRIBE,    SUB_BOTH,      SUB_BOTH,      P,    0,           "A.2.1" },

	{ OUT_UNSUBSCRIBE,  SUB_NONE,      SUB_NONE,      P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_NONE_PO,   SUB_NONE,      P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_NONE_PI,   SUB_NONE_PI,   P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_NONE_POPI, SUB_NONE_PI,   P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_TO,        SUB_NONE,      P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_TO_PI,     SUB_NONE_PI,   P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_FROM,      SUB_FROM,      P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_FROM_PO,   SUB_FROM,      P,    0,           "A.2.2" },
	{ OUT_UNSUBSCRIBE,  SUB_BOTH,      SUB_FROM,      P,    0,           "A.2.2" },

	{ OUT_SUBSCRIBED,   SUB_NONE,      SUB_NONE,      A,    0,           "A.2.3, 3.4.2" },
	{ OUT_SUBSCRIBED,   SUB_NONE_PO,   SUB_NONE_PO,   A,    0,           "A.2.3, 3.4.2" },
	{ OUT_SUBSCRIBED,   SUB_NONE_PI,   SUB_FROM,      P,    0,           "A.2.3" },
	{ OUT_SUBSCRIBED,   SUB_NONE_POPI, SUB_FROM_PO,   P,    0,           "A.2.3" },
	{ OUT_SUBSCRIBED,   SUB_TO,        SUB_TO,        A,    0,           "A.2.3, 3.4.2" },
	{ OUT_SUBSCRIBED,   SUB_TO_PI,     SUB_BOTH,      P,    0,           "A.2.3" },
	{ OUT_SUBSCRIBED,   SUB_FROM,      SUB_FROM,      0,    0,           "A.2.3" },
	{ OUT_SUBSCRIBED,   SUB_FROM_PO,   SUB_FROM_PO,   0,    0,           "A.2.3" },
	{ OUT_SUBSCRIBED,   SUB_BOTH,      SUB_BOTH,      0,    0,           "A.2.3" },

	{ OUT_UNSUBSCRIBED, SUB_NONE,      SUB_NONE,      A,    0,           "A.2.4, 3.4.3" },
	{ OUT_UNSUBSCRIBED, SUB_NONE_PO,   SUB_NONE_PO,   A,    0,           "A.2.4, 3.4.3" },
	{ OUT_UNSUBSCRIBED, SUB_NONE_PI,   SUB_NONE,      P,    0,           "A.2.4" },
	{ OUT_UNSUBSCRIBED, SUB_NONE_POPI, SUB_NONE_PO,   P,    0,           "A.2.4" },
	{ OUT_UNSUBSCRIBED, SUB_TO,        SUB_TO,        A,    0,           "A.2.4, 3.4.3" },
	{ OUT_UNSUBSCRIBED, SUB_TO_PI,     SUB_TO,        P,    0,           "A.2.4" },
	{ OUT_UNSUBSCRIBED, SUB_FROM,      SUB_NONE,      P,    0,           "A.2.4" },
	{ OUT_UNSUBSCRIBED, SUB_FROM_PO,   SUB_NONE_PO,   P,    0,           "A.2.4" },
	{ OUT_UNSUBSCRIBED, SUB_BOTH,      SUB_TO,        P,    0,           "A.2.4" },

	{ IN_SUBSCRIBE,     SUB_NONE,      SUB_NONE_PI,   I,    SUB_FROM,    "A.3.1, 3.4.2" },
	{ IN_SUBSCRIBE,     SUB_NONE_PO,   SUB_NONE_POPI, I,    SUB_FROM_PO, "A.3.1, 3.4.2" },
	{ IN_SUBSCRIBE,     SUB_NONE_PI,   SUB_NONE_PI,   0,    0,           "A.3.1" },
	{ IN_SUBSCRIBE,     SUB_NONE_POPI, SUB_NONE_POPI, 0,    0,           "A.3.1" },
	{ IN_SUBSCRIBE,     SUB_TO,        SUB_TO_PI,     I,    SUB_BOTH,    "A.3.1, 3.4.2" },
	{ IN_SUBSCRIBE,     SUB_TO_PI,     SUB_TO_PI,     0,    0,           "A.3.1" },
	{ IN_SUBSCRIBE,     SUB_FROM,      SUB_FROM,      R,    0,           "A.3.1" },
	{ IN_SUBSCRIBE,     SUB_FROM_PO,   SUB_FROM_PO,   R,    0,           "A.3.1" },
	{ IN_SUBSCRIBE,     SUB_BOTH,      SUB_BOTH,      R,    0,           "A.3.1" },

	{ IN_UNSUBSCRIBE,   SUB_NONE,      SUB_NONE,      0,    0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_NONE_PO,   SUB_NONE_PO,   0,    0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_NONE_PI,   SUB_NONE,      P | R, 0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_NONE_POPI, SUB_NONE_PO,   P | R, 0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_TO,        SUB_TO,        0,    0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_TO_PI,     SUB_TO,        P | R, 0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_FROM,      SUB_NONE,      P | R, 0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_FROM_PO,   SUB_NONE_PO,   P | R, 0,           "A.3.2" },
	{ IN_UNSUBSCRIBE,   SUB_BOTH,      SUB_TO,        P | R, 0,           "A.3.2" },

	{ IN_SUBSCRIBED,    SUB_NONE,      SUB_NONE,      0,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_NONE_PO,   SUB_TO,        P,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_NONE_PI,   SUB_NONE_PI,   0,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_NONE_POPI, SUB_TO_PI,     P,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_TO,        SUB_TO,        0,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_TO_PI,     SUB_TO_PI,     0,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_FROM,      SUB_FROM,      0,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_FROM_PO,   SUB_BOTH,      P,    0,           "A.3.3" },
	{ IN_SUBSCRIBED,    SUB_BOTH,      SUB_BOTH,      0,    0,           "A.3.3" },

	{ IN_UNSUBSCRIBED,  SUB_NONE,      SUB_NONE,      0,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_NONE_PO,   SUB_NONE,      P,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_NONE_PI,   SUB_NONE_PI,   0,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_NONE_POPI, SUB_NONE_PI,   P,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_TO,        SUB_NONE,      P,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_TO_PI,     SUB_NONE_PI,   P,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_FROM,      SUB_FROM,      0,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_FROM_PO,   SUB_FROM,      P,    0,           "A.3.4" },
	{ IN_UNSUBSCRIBED,  SUB_BOTH,      SUB_FROM,      P,    0,           "A.3.4" },
};
/* clang-format on */

const struct sub_row *sub_find(enum sub_event e, enum sub_state s)
{
	const struct sub_row *r = &sub_rows[(unsigned)e * SUB_STATES + (unsigned)s];

	return r->event == e && r->state == s ? r : NULL;
}
