/* router_int.h - what the files of xmpp/router share. Nobody else includes this (tests apart). */
#ifndef TANDEM_XMPP_ROUTER_INT_H
#define TANDEM_XMPP_ROUTER_INT_H

#include "xmpp/router/router.h"

struct pager;
struct component;

/* ---- rows under way to the store (mail.c) ---------------------------------------------------- */

/* A row that is being written. Made in the sender's worker; its recipient may be in another one and
 * acknowledge before the commit: then the row need not be made (skip_row), and whichever of the two
 * comes last sees to its deletion. */
enum row_state { ROW_PENDING, ROW_ACKED, ROW_DONE, ROW_FAILED };

struct mail_row {
	struct store_mail_put put;
	_Atomic uint32_t refs;
	_Atomic uint8_t state; /* enum row_state */
	struct worker *w;      /* the writer */
	struct stanza *st;     /* owns the text of owner and sender */
	struct custody *c;     /* or NULL */
	void (*committed)(struct mail_row *r, int rc, void *arg);
	void *arg;
	struct user *user; /* held until done, or NULL */
	char text[];       /* sm_id, then the stanza */
};

/* Serialise st (sealed) into a new row for owner and submit it. c may be NULL. st is referenced.
 * NULL: out of memory. */
struct mail_row *mail_row_write(struct worker *w, struct stanza *st, struct sl owner,
				struct custody *c, struct sl origin, uint64_t expires_ms,
				void (*committed)(struct mail_row *r, int rc, void *arg),
				void *arg);
struct mail_row *mail_row_ref(struct mail_row *r);
void mail_row_unref(struct mail_row **r);

/* ---- mail in flight -------------------------------------------------------------------------- */

struct mail {
	struct list node; /* of the graveyard or the spare list */
	struct hnode hn;  /* in router->mails, by id */
	uint64_t id;
	struct mail_row *row; /* while it may not be committed */
	struct user *user;    /* the recipient: one of the two */
	struct component *comp;
	uint32_t holders; /* sessions that hold it */
	bool done;        /* acknowledged: the row is being deleted */
	bool paged;       /* counts in the pager's window */
	bool deleting;    /* the batch refers to it */
	uint32_t octets;  /* of memory, when paged */
	uint32_t grave_s; /* in the graveyard until (loop seconds) */
};

/* holders is 1: the caller's; end with mail_release. NULL: out of memory. */
struct mail *mail_new(struct worker *w, uint64_t id, struct mail_row *row, struct user *u,
		      struct component *c);
struct mail *mail_find(struct worker *w, uint64_t id);
/* Delete the row of something that nobody needs (any more). */
void mail_drop(struct worker *w, struct item *it_take);
/* CUST-10: answer with an error in one transaction; without a row: route_error. Takes the item. */
void mail_bounce(struct worker *w, struct item *it_take, enum stanza_cond c, struct sl text);
/* CUST-6: nobody takes it; keep it (its row's id), or refuse it (0). Takes the item. */
uint64_t mail_offline(struct user *u, struct item *it_take);
/* One more row of the user's is stored and not in flight. */
static inline void mail_noted(struct user *u)
{
	u->mail_count++;
	u->mail_some = true;
}
void mail_flush_deletes(struct worker *w);

/* ---- paging rows from the store to sessions (pager.c) ---------------------------------------- */

#define PAGER_PAGE   64u  /* rows read at once */
#define PAGER_WINDOW 256u /* rows offered and not acknowledged, at most */
#define PAGER_LATE   64u  /* stanzas kept in memory that came meanwhile */
/* And no more than this of memory, or one: a stanza may take thousands of times what usual ones do.
 */
#define PAGER_OCTETS      (4u << 20) /* offered; and once more for those that came meanwhile */
#define PAGER_PAGE_OCTETS (1u << 20) /* read at once: octets of text */

struct pager_ops {
	/* Deliver; takes the item; stamp_ms 0: not from the store (came meanwhile). */
	void (*offer)(void *self, struct item *it_take, uint64_t stamp_ms);
	/* Somebody to offer to? */
	bool (*open)(void *self);
	/* What came meanwhile must go to the store, if it has no row. */
	void (*keep)(void *self, struct item *it_take);
	/* When memory is full, what waits in it is kept, too: rounds are long, and pages in the
	 * middle of one would bring what is kept now before it. */
	bool spill_late;
	/* It has come to rest: everything was offered (complete), or nobody is there. May free it
	 * if it is not busy. */
	void (*idle)(void *self, bool complete);
};

struct pager {
	struct worker *w;
	const struct pager_ops *ops;
	void *self;
	struct sl owner;
	uint64_t after; /* rows up to here were offered */
	/* Of each worker: the last row that it had submitted when the round began. Newer ones come
	 * by the bus, and not before older ones of the same sender. */
	uint64_t low[BUS_MAX_WORKERS];
	uint32_t inflight;
	size_t octets, late_octets; /* memory of what is in flight, of what is late */
	uint16_t nlate;
	bool active, loading, again;
	bool spilled; /* something was left to the store meanwhile */
	struct list late; /* struct late */
	struct loop_timer retry;
	struct store_mail_del barrier;
	struct store_mail_load load;
};

void pager_init(struct pager *p, struct worker *w, struct sl owner, const struct pager_ops *ops,
		void *self);
/* Offer all rows that are not in flight, oldest first. While active it is told to begin again. */
void pager_start(struct pager *p);
/* A stanza that came for the owner: true: the pager has taken it (it waits its turn). */
bool pager_take(struct pager *p, struct item *it);
/* m's stanza is delivered from here on. */
void pager_offered(struct pager *p, struct mail *m, const struct stanza *st);
void pager_settled(struct pager *p, uint32_t octets); /* acknowledged or handed back */
bool pager_full(const struct pager *p);
/* Nobody is left to offer to: what waits goes to the store. */
void pager_stop(struct pager *p);
void pager_close(struct pager *p);      /* at the end: drops what waits */
bool pager_busy(const struct pager *p); /* a read is under way: must not be freed */

/* ---- the router's state in a worker ---------------------------------------------------------- */

enum route_kind { ROUTE_ACCOUNT, ROUTE_COMPONENT, ROUTE_HOST };

struct mail_batch;

struct router {
	struct worker *w;
	struct routed {
		struct item it;
		enum route_kind kind;
	} * ring;
	uint32_t head, n, cap; /* cap is a power of two */
	struct loop_task drain, deletes;
	uint32_t nabsent; /* users that are known not to exist */
	struct htable mails;
	struct list graves[2]; /* struct mail, oldest first: short and long */
	struct list spare;
	uint32_t nspare;
	struct mail_batch *batch;
	struct list inbounds;  /* struct inbound */
	struct expire *expire; /* worker 0 */
	struct loop_timer tick;
	void (*ready)(struct worker *w, int rc);
	struct store_mail_maxid maxid;
};

/* Take the item. */
void host_item(struct worker *w, struct item *it);
void user_item(struct worker *w, struct item *it);
void component_item(struct worker *w, struct item *it);

/* deliver.c: the user is ready. Takes the item. */
void deliver_item(struct user *u, struct item *it);
/* Offer to available sessions by the rules for a bare JID; false: nobody (the item is untouched).
 */
bool deliver_bare(struct user *u, struct item *it, struct sl extra, bool paged);
bool deliver_possible(const struct user *u);
void deliver_pager_gc(struct user *u);

void inbound_ready(struct session *s, struct stanza *st_take, struct custody *c);
/* c: a component's stream, or NULL. What was taken and waits is still routed. */
void inbound_session_ended(struct session *s, struct component *c);
void inbound_close(struct router *r);
/* user.c: wait for the load. false: no memory. */
bool user_wait_bind(struct user *u, struct session *s, void (*bound)(struct session *s, int rc));
void user_wait_inbound(struct session *s, struct stanza *st_take, struct custody *c);
void user_wait_forget(struct user *u, const struct session *s); /* it has ended */
void session_bind_now(struct user *u, struct session *s, void (*bound)(struct session *s, int rc));

void component_mail_settled(struct component *c, uint32_t octets);
/* The last stanza of a stream that has ended was routed: it may have been presence. */
void component_drained(struct component *c);
bool domain_has_custody(const struct worker *w, struct sl domain);

void user_account_msg(void *worker, struct bus_msg *m);
void expire_msg(void *worker, struct bus_msg *m);
void component_msg(void *worker, struct bus_msg *m);
void route_msg(void *worker, struct bus_msg *m);
int expire_open(struct router *r);
void expire_now(struct router *r); /* a round at once (tests) */
void expire_close(struct router *r);
void component_close_all(struct worker *w);
void user_close_all(struct worker *w);
void graves_purge(struct router *r, bool all);
void mail_close(struct router *r);

#endif
