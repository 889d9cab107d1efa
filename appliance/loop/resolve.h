/* resolve.h - host names to addresses through c-ares, in the loop, never blocking. IPv4 and IPv6.
 *
 * resolver_new reads resolv.conf and the hosts file at once (before chroot). Numeric addresses,
 * names of the hosts file and "localhost" answer without a query (still asynchronously). */
#ifndef TANDEM_LOOP_RESOLVE_H
#define TANDEM_LOOP_RESOLVE_H

#include "appliance/base/base.h"
#include "appliance/loop/loop.h"

struct resolver;
struct addrinfo;

int resolver_new(struct loop *l, struct resolver **r_r, struct err *e);
/* Ask other servers than resolv.conf's ("192.0.2.53,[2001:db8::53]:5353"; NULL: those), and wait
 * try_ms, then twice that ... for `tries` times (default 2000 and 3). Only while no request is
 * under way. 0, E_SYNTAX, E_STATE, E_NOMEM. */
int resolver_tune(struct resolver *r, const char *servers, int try_ms, int tries, struct err *e);
/* Ends all requests: their callbacks get E_CLOSED before this returns. */
void resolver_free(struct resolver **r);

/* Ask for the addresses of host; the callback comes from the loop, once, not within this call.
 * addr  list owned by the resolver, valid during the callback (copy, or pass to conn_connect), with
 * port in each address; in the order in which to try them rc    0, E_NOTFOUND (no such name, or it
 * has no address), E_TIMEOUT, E_AGAIN (the name servers cannot be reached or fail), E_CLOSED,
 * E_NOMEM Returns a handle for resolve_cancel, valid until the callback, or NULL when out of
 * memory. */
struct resolve_req *resolve(struct resolver *r, const char *host, uint16_t port,
			    void (*cb)(void *arg, int rc, const struct addrinfo *addr), void *arg);
void resolve_cancel(struct resolve_req *q); /* the callback is not called */

#endif
