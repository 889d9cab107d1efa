/* access_int.h - what the files of the access layer share. Nobody outside includes it. */
#ifndef TANDEM_XMPP_ACCESS_INT_H
#define TANDEM_XMPP_ACCESS_INT_H

#include <pthread.h>

#include "appliance/loop/conn.h"
#include "xmpp/access/access.h"
#include "xmpp/access/addr.h"
#include "xmpp/access/sm.h"

#define ACCESS_LISTENERS_MAX 32u

struct stream;

struct access {
	struct access_cfg cfg;
	struct addr_table *addrs;
	struct bus *bus;
};

struct access_listener {
	struct worker *w;
	enum access_port port;
	struct listener *ln;
};

/* One worker's part: w->access. */
struct access_worker {
	struct access *shared;
	struct worker *w;
	uint16_t next_worker; /* worker 0: who gets the next descriptor */
	bool stopping;
	_Atomic uint32_t nstreams; /* read by others, too */
	uint32_t nsessions, ndetached;
	struct list sessions; /* struct asession.node: all of them */
	struct htable sm;     /* struct asession by XEP-0198 id */
	struct list unacked;  /* struct asession.unacked_node: wait for TCP's acknowledgement */
	struct loop_timer unacked_timer;
	struct sm_place *spare_places;
	unsigned nspare_places;
	unsigned nlisteners;
	struct access_listener listener[ACCESS_LISTENERS_MAX];
};

static inline struct access_worker *access_of(const struct worker *w)
{
	return w->access;
}

/* accept.c: a stream that was detached from its worker and is on its way to another
 * (CORE_MSG_CONN). */
int access_move(struct stream *s, uint16_t to_worker);
void access_bus_register(struct bus *bus);

#endif
