/* resolve.h - host names to addresses through c-ares, in the loop, never blocking. IPv4 and IPv6.
 *
 * resolver_new reads resolv.conf and the hosts file at once (before chroot). Numeric addresses answer
 * without a query (still asynchronously). */
#ifndef TANDEM_LOOP_RESOLVE_H
#define TANDEM_LOOP_RESOLVE_H

#include "appliance/base/base.h"
#include "appliance/loop/loop.h"

struct resolver;
struct addrinfo;

int resolver_new(struct loop *l, struct resolver **r_r, struct err *e);
void resolver_free(struct resolver **r); /* cancels; callbacks get E_CLOSED */
/* addr: list owned by the resolver, valid during the callback (copy, or pass to conn_connect). rc 0, E_NOTFOUND,
 * E_TIMEOUT, E_CLOSED. Returns a handle for resolve_cancel, or NULL when out of memory. */
struct resolve_req *resolve(struct resolver *r, const char *host, uint16_t port,
			    void (*cb)(void *arg, int rc, const struct addrinfo *addr), void *arg);
void resolve_cancel(struct resolve_req *q); /* the callback is not called */

#endif
