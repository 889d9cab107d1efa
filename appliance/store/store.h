/* store.h - the only way to data (DESIGN section 8): asynchronous operations, answers by the bus.
 *
 * A program fills an operation (a struct whose first member is struct store_op), submits it from a
 * worker, and gets it back in that worker through op->done, in submission order for writes. Nothing
 * here blocks a worker. Writes of all workers are gathered: one writer thread, one transaction for
 * what has come together, one fsync, then all their answers. Reads run on reader threads
 * (some, where that is cheaper, among the writes) and see everything whose write was answered
 * before the read was submitted.
 *
 * Custody (section 4): when a write is answered with rc 0 it is committed and synced. If a
 * transaction cannot be committed all its operations are answered with E_IO and none of them
 * happened.
 *
 * Groups: operations chained through op.group_next are executed in one transaction in chain order
 * (they are answered one by one). No operation fails for its data: "not there" and "already there"
 * are results, not errors, so a group never half-happens.
 *
 * Memory: the submitter owns the operation and every slice in it from submit until done, when it
 * owns them again; results live in op->arena, created by the store when a result needs it and freed
 * by store_op_fini. Strings of JIDs are normalised by the caller. Thread: submit in a bus worker
 * only.
 *
 * Engines (sqlite/, later mysql/) implement struct store_engine in store_engine.h; no SQL anywhere
 * else. */
#ifndef TANDEM_STORE_STORE_H
#define TANDEM_STORE_STORE_H

#include "appliance/base/arena.h"
#include "appliance/base/base.h"
#include "appliance/bus/bus.h"

struct store;

#define BUS_TYPE_STORE_DONE 1u /* handled by the store itself: store_new registers it */

/* Which schema a process has; each process has its own database file (or schema). */
enum store_schema { STORE_CORE, STORE_SMS };

struct store_cfg {
	const char *engine; /* "sqlite" */
	const char *path;   /* database file */
	enum store_schema schema;
	unsigned readers;   /* reader threads, 1..8 */
	unsigned batch_max; /* operations in one transaction, default 2000 */
	/* Duplicate marks kept at most (each costs some 12 octets of memory, 16 on disk), default
	 * 8,000,000. Beyond it the oldest are forgotten before their age, which is counted and
	 * logged. */
	uint32_t seen_max;
	bool sync_off; /* tests only: prove that the power-cut test notices */
};

/* Opens, migrates forward in a transaction, starts the threads. E_VERSION: the schema is newer than
 * this program (text says both versions and what to do). E_BUSY: another process has the file.
 * E_UNSUPPORTED: no such engine. E_RANGE: cfg. E_NOMEM. E_IO otherwise, also for a file that is
 * damaged or not ours. Call it before the workers run (it sets the bus's handler); relative paths
 * are fine, also after chroot. */
int store_new(const struct store_cfg *cfg, struct bus *bus, struct store **s_r, struct err *e);
/* Commits what was submitted and stops the threads; may be called again. The answers come with the
 * next loop turns, E_CLOSED to what could not be done and to all that is submitted from now on. */
void store_close(struct store *s);
/* store_close, and frees. Unanswered operations are answered
 * E_CLOSED by the next loop turns, or their msg.free is called if the bus is gone. */
void store_free(struct store **s);

enum store_kind {
	/* core */
	STORE_ACCOUNT_PUT,
	STORE_ACCOUNT_GET,
	STORE_ACCOUNT_DEL,
	STORE_ACCOUNT_LIST,
	STORE_ROSTER_LOAD,
	STORE_ROSTER_PUT,
	STORE_ROSTER_DEL,
	STORE_MAIL_PUT,
	STORE_MAIL_DEL,
	STORE_MAIL_LOAD,
	STORE_MAIL_COUNT,
	STORE_MAIL_EXPIRED,
	STORE_MAIL_MAXID,
	STORE_SM_PUT,
	STORE_SM_GET,
	STORE_SM_DEL,
	STORE_SM_PURGE,
	STORE_SEEN_PURGE,
	STORE_COMPONENT_PUT,
	STORE_COMPONENT_DEL,
	STORE_COMPONENT_LIST,
	STORE_META_PUT,
	STORE_META_GET,
	/* translators */
	STORE_NUMBER_PUT,
	STORE_NUMBER_DEL,
	STORE_NUMBER_LIST,
	STORE_LINK_PUT,
	STORE_LINK_DEL,
	STORE_LINK_LIST,
	STORE_QUEUE_PUT,
	STORE_QUEUE_MOVE,
	STORE_QUEUE_PART,
	STORE_QUEUE_LOAD,
	STORE_QUEUE_GET,
	STORE_QUEUE_COUNT,
	STORE_QUEUE_PURGE,
	STORE_OUTBOX_PUT,
	STORE_OUTBOX_DEL,
	STORE_OUTBOX_LOAD,
	STORE_FRAG_PUT,
	STORE_FRAG_LOAD,
	STORE_FRAG_DEL,
	STORE_FRAG_JOIN,
	STORE_FRAG_PURGE,
	STORE_KIND_MAX
};

struct store_op {
	struct bus_msg msg; /* the bus's; to.worker is filled by store_submit */
	uint16_t kind;      /* enum store_kind */
	int rc; /* answer: 0, E_IO, E_CLOSED; a read: also E_NOMEM (its result is too big) */
	struct store_op *group_next;       /* same transaction; NULL ends */
	void (*done)(struct store_op *op); /* in the submitting worker; frees op or reuses it */
	void *arg;                         /* the submitter's */
	struct arena *arena;               /* results */
	struct store_op *qnext;            /* the store's */
};

/* Zeroed op of a kind; msg.free calls the given done with rc E_CLOSED when the bus cannot deliver.
 */
void store_op_init(struct store_op *op, enum store_kind kind, void (*done)(struct store_op *op),
		   void *arg);
/* Free the results (not the op). */
void store_op_fini(struct store_op *op);
/* Never blocks. Always answered through done, also when the store is closing. */
void store_submit(struct store *s, struct store_op *op);

struct store_stats {
	uint64_t writes, reads, transactions, failed;
	uint64_t commit_us_sum, commit_us_max;
	uint64_t seen_forgotten;       /* duplicate marks that went before their age, see
					  store_cfg.seen_max */
	uint32_t queue_now, queue_max; /* writes */
	uint32_t seen_now;
};
/* Any thread. */
struct store_stats store_stats(const struct store *s);

/* ---- accounts (core) ---- */

/* One credential: "SCRAM-SHA-256$ITER:base64(salt)$base64(StoredKey):base64(ServerKey)". Never a
 * password. */
#define STORE_VERIFIERS_MAX 4

struct store_account_put {
	struct store_op op;
	struct sl host, user;                    /* node part and domain, normalised */
	struct sl verifier[STORE_VERIFIERS_MAX]; /* unused ones empty; replaces all */
	bool create_only; /* true: existing account is left alone, existed_r says so */
	bool update_only; /* true: a missing account is not made */
	bool existed_r;
};
struct store_account_get {
	struct store_op op;
	struct sl host, user;
	bool found_r;
	struct sl verifier_r[STORE_VERIFIERS_MAX];
	uint64_t created_ms_r;
};
struct store_account_del { /* with roster, mail, stream-management state and all else of the account
			    */
	struct store_op op;
	struct sl host, user;
	bool existed_r;
};
struct store_account_list {
	struct store_op op;
	struct sl host,
		after_user; /* order by user; empty: from the start. Empty host: all hosts */
	struct sl after_host;
	unsigned limit;
	struct store_account_row {
		struct sl host, user;
	} * row_r;
	unsigned n_r;
};

/* ---- roster (core) ---- */

enum { STORE_SUB_NONE, STORE_SUB_TO, STORE_SUB_FROM, STORE_SUB_BOTH };

struct store_roster_item {
	struct sl jid, name;
	struct sl groups;     /* group names, each followed by '\n' (a group name has none: XML text
				 normalised) */
	uint8_t subscription; /* STORE_SUB_* */
	bool in_roster; /* false: only a pending request in (RFC 6121 "None + Pending In" without
			   item) */
	bool ask;       /* pending out */
	bool pending_in;
	bool approved;     /* pre-approval */
	struct sl request; /* the pending <presence type=subscribe/> stanza, XML */
};
struct store_roster_load {
	struct store_op op;
	struct sl owner; /* bare JID */
	struct store_roster_item *item_r;
	unsigned n_r;
};
struct store_roster_put {
	struct store_op op;
	struct sl owner;
	struct store_roster_item item;
};
struct store_roster_del {
	struct store_op op;
	struct sl owner, jid;
};

/* ---- mail: the journal, the offline store and the queues of components, in one table ---- */

/* A row is a stanza in our custody that its owner has not acknowledged. What a session has not
 * acknowledged when it ends is thereby offline mail, and a component's rows are its queue: no state
 * moves. ids are made by the owner's worker: (milliseconds << 22 | worker << 16 | counter), always
 * growing for one owner, so that an archive can page by them. */
struct store_mail_put {
	struct store_op op;
	uint64_t id;
	struct sl owner;               /* bare JID of an account, or a component's domain */
	struct sl sender;              /* bare JID */
	struct sl origin_id;           /* XEP-0359; empty: no duplicate check */
	uint64_t stamp_ms, expires_ms; /* expires 0: never */
	struct sl stanza;              /* XML in jabber:client / component namespace, as received */
	_Atomic bool skip_row; /* set by the worker at any time before done: the recipient has
				* acknowledged, so only the duplicate mark and h are kept */
	/* XEP-0198 state of the sender's session that this commit carries; sm_id empty: none. In
	 * one transaction only the highest h of an sm_id is written. */
	struct sl sm_id;
	uint32_t sm_h;
	bool duplicate_r; /* (sender, origin_id) had been committed before: no row was made */
	bool id_taken_r;  /* the id exists (the clock went back): nothing was kept, submit with
			     another id */
	bool row_made_r;
};
struct store_mail_del {
	struct store_op op;
	const uint64_t *id;
	unsigned n;
};
struct store_mail_row {
	uint64_t id, stamp_ms, expires_ms;
	struct sl owner, sender, stanza;
};
struct store_mail_load { /* rows of owner with id > after, ascending */
	struct store_op op;
	struct sl owner;
	uint64_t after;
	unsigned limit;
	size_t octets; /* of stanzas; the row with which they are reached is the last; 0: no limit
			*/
	struct store_mail_row *row_r;
	unsigned n_r;
	bool more_r; /* a limit was reached: there may be more */
};
struct store_mail_count {
	struct store_op op;
	struct sl owner; /* empty: all */
	uint64_t n_r;
};
struct store_mail_expired { /* rows whose expiry passed */
	struct store_op op;
	uint64_t now_ms;
	unsigned limit;
	struct store_mail_row *row_r;
	unsigned n_r;
};
struct store_mail_maxid {
	struct store_op op;
	uint64_t id_r;
};
struct store_seen_purge { /* forget duplicate marks older than this, in the portions of their
			     transactions */
	struct store_op op;
	uint64_t before_ms;
	unsigned limit,
		n_r; /* marks; at least one portion if there is one, so n_r may pass the limit */
};

/* ---- XEP-0198 (core) ---- */

struct store_sm_put {
	struct store_op op;
	struct sl sm_id, owner, resource;
	uint32_t h;
	uint64_t now_ms;
};
struct store_sm_get {
	struct store_op op;
	struct sl sm_id;
	bool found_r;
	struct sl owner_r, resource_r;
	uint32_t h_r;
};
struct store_sm_del {
	struct store_op op;
	struct sl sm_id;
};
struct store_sm_purge {
	struct store_op op;
	uint64_t before_ms;
	unsigned limit, n_r;
};

/* ---- components and facts (core), meta (both) ---- */

struct store_component_put {
	struct store_op op;
	struct sl domain, secret;
	bool existed_r;
};
struct store_component_del {
	struct store_op op;
	struct sl domain;
	bool existed_r;
};
struct store_component_list {
	struct store_op op;
	struct store_component_row {
		struct sl domain, secret;
	} * row_r;
	unsigned n_r;
};
struct store_meta_put {
	struct store_op op;
	struct sl key, value;
	bool create_only; /* keep an existing value */
};
struct store_meta_get {
	struct store_op op;
	struct sl key, value_r;
	bool found_r;
};

/* ---- translators ---- */

struct store_number_put { /* one account may have several numbers; a number has one account */
	struct store_op op;
	struct sl number; /* E.164 with '+' */
	struct sl jid;    /* bare JID */
	struct sl link;   /* preferred link, or empty */
	bool taken_r;     /* belongs to another account: nothing changed (taken_by_r) */
	struct sl taken_by_r;
};
struct store_number_del { /* by number, or all numbers of a JID */
	struct store_op op;
	struct sl number, jid;
	unsigned n_r;
};
struct store_number_list {
	struct store_op op;
	uint64_t after; /* by age, the oldest first; 0: from the start */
	unsigned limit;
	struct store_number_row {
		uint64_t age; /* grows with each new number; one that is put again keeps it */
		struct sl number, jid, link;
	} * row_r;
	unsigned n_r;
};

struct store_link_put {
	struct store_op op;
	struct sl name, settings; /* JSON, with the password: the file is ours alone (0600) */
	bool existed_r;
};
struct store_link_del {
	struct store_op op;
	struct sl name;
	bool existed_r;
};
struct store_link_list {
	struct store_op op;
	struct store_link_row {
		struct sl name, settings;
	} * row_r;
	unsigned n_r;
};

/* A translator's queue (DESIGN section 4). One entry a message; parts move on their own. */
enum store_queue_state {
	STORE_Q_QUEUED,
	STORE_Q_SUBMITTED,
	STORE_Q_ACCEPTED,
	STORE_Q_DELIVERED,
	STORE_Q_FAILED,
	STORE_Q_EXPIRED,
	STORE_Q_STATES
};

struct store_queue_entry {
	uint64_t id;          /* time-sortable, made by the translator */
	struct sl custody_id; /* the core's stamp; unique; empty when the peer server gives none */
	struct sl from_jid, to_jid; /* full JID of the sender; to as addressed */
	struct sl from_number, to_number;
	struct sl stanza_id, origin_id, thread;
	struct sl body; /* UTF-8 */
	struct sl link; /* assigned bearer, or empty */
	uint64_t stamp_ms, not_before_ms, expires_ms, changed_ms;
	uint8_t state; /* enum store_queue_state; of a message in parts: that of the least advanced
			  part */
	uint8_t parts, attempts;
	bool wants_receipt;
	bool ambiguous;  /* may have been sent twice or not at all: the record says so */
	struct sl error; /* last error, for people */
	uint32_t ref;    /* concatenation reference, fixed at first submission */
};
struct store_queue_part {
	uint64_t entry;
	uint8_t number; /* from 1 */
	uint8_t state;
	bool ambiguous;
	struct sl message_id; /* as the SMSC gave it */
	struct sl key;        /* canonical key of link and message id; receipts are matched by it */
};
struct store_queue_put { /* entry with its parts rows (n = entry.parts), states as given */
	struct store_op op;
	struct store_queue_entry entry;
	bool duplicate_r; /* custody_id was there: nothing changed */
	bool id_taken_r;  /* id was there: nothing changed, submit with another */
};
struct store_queue_move { /* set state, link, attempts, not_before, ambiguous, error, ref, changed
			     of an entry */
	struct store_op op;
	uint64_t id;
	uint8_t state, attempts;
	uint8_t parts; /* 0: as they are; else it is cut into so many now */
	bool ambiguous;
	uint64_t not_before_ms, changed_ms;
	struct sl link, error;
	uint32_t ref;
};
struct store_queue_part_set {
	struct store_op op; /* STORE_QUEUE_PART: insert or replace one part's row */
	struct store_queue_part part;
	uint64_t changed_ms;
};
struct store_queue_load { /* entries in one of the states (bit mask), id > after, ascending, with
			     parts */
	struct store_op op;
	unsigned states; /* 1u << enum store_queue_state */
	uint64_t after;
	unsigned limit;
	struct store_queue_entry *entry_r;
	unsigned n_r;
	struct store_queue_part *part_r; /* of all these entries, by (entry, number) */
	unsigned nparts_r;
};
/* By id, or by custody id (id 0), or by part key (both empty: the newest entry with such a part; a
 * part that is delivered is not found by its key any more, as another receipt for it would say
 * nothing new). */
struct store_queue_get {
	struct store_op op;
	uint64_t id;
	struct sl custody_id, key;
	bool found_r;
	struct store_queue_entry entry_r;
	struct store_queue_part *part_r;
	unsigned nparts_r;
};
struct store_queue_count {
	struct store_op op;
	uint64_t n_r[STORE_Q_STATES];
};
struct store_queue_purge { /* finished entries changed before */
	struct store_op op;
	uint64_t before_ms;
	unsigned limit, n_r;
};

/* Stanzas on their way from a translator to the core, until the core's h covers them. */
struct store_outbox_put {
	struct store_op op;
	uint64_t id;   /* growing */
	struct sl key; /* unique where not empty: the same event twice makes one stanza */
	struct sl stanza;
	bool duplicate_r; /* key was there: nothing changed */
	bool id_taken_r;  /* id was there: nothing changed, submit with another */
};
struct store_outbox_del {
	struct store_op op;
	const uint64_t *id;
	unsigned n;
};
struct store_outbox_load {
	struct store_op op;
	uint64_t after;
	unsigned limit;
	struct store_outbox_row {
		uint64_t id;
		struct sl stanza;
	} * row_r;
	unsigned n_r;
};

/* Fragments of a long message coming in, committed before the SMSC gets its deliver_sm_resp. Those
 * of a message that was put together stay for a while as what was joined: loads pass them over. */
struct store_frag_put {
	struct store_op op;
	struct sl group; /* link, source, destination, reference, total: one key */
	uint8_t number, total;
	uint64_t stamp_ms;
	struct sl meta;    /* JSON: addresses, coding */
	struct sl payload; /* octets */
	/* The same octets under the same number that were joined at this time or later are known
	 * as a copy. */
	uint64_t joined_since_ms;
	bool joined_r;   /* so it was: nothing changed */
	unsigned have_r; /* fragments of the group now there, without those joined */
};
struct store_frag_load { /* of one group, or (group empty) all groups with nothing since before_ms,
			    or all (0) */
	struct store_op op;
	struct sl group;
	uint64_t before_ms;
	unsigned limit; /* rows; 0: no limit */
	struct store_frag_row {
		struct sl group, meta, payload;
		uint8_t number, total;
		uint64_t stamp_ms;
	} * row_r;
	unsigned n_r;
};
struct store_frag_del { /* the whole group, with what was joined */
	struct store_op op;
	struct sl group;
};
struct store_frag_join { /* these are in a message now; others of the group are not touched */
	struct store_op op;
	struct sl group;
	const uint8_t *number;
	unsigned n;
	uint64_t now_ms;
};
struct store_frag_purge { /* forget what was joined before */
	struct store_op op;
	uint64_t before_ms;
	unsigned limit, n_r;
};

#endif
