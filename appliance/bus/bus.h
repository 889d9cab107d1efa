/* bus.h - the software bus: messages between entities, wherever they live (DESIGN section 3).
 *
 * One address form, one call. Links: the same worker (a local queue, handled at the end of the
 * turn, so there is no recursion), another worker of this process (its mailbox: many producers, one
 * consumer, lock-free, woken once per batch), another node (step 7; today E_UNSUPPORTED). Threads
 * that are no worker (store, auth pool) may post too. Order is kept between one sender thread and
 * one worker.
 *
 * A receiver treats what it gets as input from outside: entity gone or epoch old means: drop or
 * bounce. */
#ifndef TANDEM_BUS_BUS_H
#define TANDEM_BUS_BUS_H

#include "appliance/base/base.h"
#include "appliance/loop/loop.h"

#define BUS_NODE_SELF   0u
#define BUS_MAX_WORKERS 64u

struct bus_addr {
	uint16_t node; /* BUS_NODE_SELF, or another node's number */
	uint16_t worker;
	uint32_t epoch;  /* generation of the entity; 0: any */
	uint64_t entity; /* a slot or hash that means something to the handler of this type */
};

/* Message types are handed out in one table of the program (xmpp/core/core.h), below this. */
#define BUS_TYPE_MAX 64u

/* First member of every message. Owned by the bus from bus_post until the handler gets it, then by
 * the handler, which must release it (m->free(m) unless it keeps it). */
struct bus_msg {
	struct bus_msg *next;
	struct bus_addr to;
	uint16_t type;
	uint16_t from_worker;            /* filled by the bus; BUS_MAX_WORKERS: not a worker */
	void (*free)(struct bus_msg *m); /* releases m and what it holds; called when it cannot be
					    delivered */
};

struct bus;

typedef void (*bus_handler_fn)(void *worker_arg, struct bus_msg *m_take);

int bus_new(uint16_t workers, struct bus **b_r, struct err *e);
void bus_free(struct bus **b); /* workers stopped; undelivered messages are freed */
/* Before the workers start: which loop serves worker w, and the argument that its handlers get. */
int bus_attach(struct bus *b, uint16_t w, struct loop *l, void *worker_arg, struct err *e);
/* Worker w ends: called in its own thread while its loop still exists. What is undelivered is
 * freed; later posts get E_CLOSED. Free the loop only after every thread that may post has stopped
 * (a push that came just before may still be about to wake it). */
void bus_detach(struct bus *b, uint16_t w);
/* The thread that runs worker w says so itself (once), so that bus_post knows the sender. */
void bus_enter(struct bus *b, uint16_t w);
/* The worker that this thread said it is, or BUS_MAX_WORKERS. */
uint16_t bus_self(const struct bus *b);
/* Before the workers start. A type without a handler cannot be posted (E_RANGE). */
void bus_on(struct bus *b, uint16_t type, bus_handler_fn fn);
uint16_t bus_workers(const struct bus *b);
/* What bus_attach was given for worker w: for what others may read of it. NULL: it is gone. */
void *bus_worker_arg(const struct bus *b, uint16_t w);

/* Never blocks; takes m in any case (on error it is freed). 0, E_RANGE (no such worker or type),
 * E_UNSUPPORTED (another node), E_CLOSED (worker gone). */
int bus_post(struct bus *b, struct bus_msg *m_take);

/* Which worker owns a bare JID (or any owning key): keyed hash, the same in the whole process. */
uint16_t bus_owner(const struct bus *b, struct sl bare_jid);

/* What worker w got: from itself, from other threads, and in how many batches the latter came. */
struct bus_stats {
	uint64_t posted_local, posted_remote, batches;
};
struct bus_stats bus_stats(const struct bus *b, uint16_t w);

#endif
