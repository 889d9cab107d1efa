/* addr.h - how many connections each address has, over all workers.
 *
 * IPv4 counts by address, IPv6 by /64 (one customer's network). Touched when a connection comes and
 * goes, not on the way of a stanza: so one lock for the process. */
#ifndef TANDEM_XMPP_ADDR_H
#define TANDEM_XMPP_ADDR_H

#include "appliance/base/base.h"

struct addr_table;
struct addr_slot; /* one address that has connections */

int addr_table_new(struct addr_table **t_r);
void addr_table_free(struct addr_table **t);
/* Who must not keep whom out is counted apart. */
enum addr_kind {
	ADDR_CLIENT,
	ADDR_COMPONENT,
	ADDR_OWN, /* our translators */
	ADDR_KINDS
};

/* Count the peer of fd among its kind. 0; E_LIMIT: it has per_addr_max already, or there are
 * total_max of the kind (0: no limit), and is not counted; E_NOMEM. A peer without an address (Unix
 * socket) counts in the total only. */
int addr_enter(struct addr_table *t, int fd, enum addr_kind kind, uint32_t per_addr_max,
	       uint32_t total_max, struct addr_slot **slot_r);
/* True: half of the connections have gone since there were most of them, so that it is worth while
 * to give their memory back to the system. */
bool addr_leave(struct addr_table *t, struct addr_slot *slot);

#endif
