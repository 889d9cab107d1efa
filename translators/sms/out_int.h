/* out_int.h - what out.c (entries) and out_send.c (bearers, commits) share. Nobody else includes
 * it. */
#ifndef TANDEM_SMS_OUT_INT_H
#define TANDEM_SMS_OUT_INT_H

#include "translators/sms/sms.h"

/* Entries in memory at most; the rest of the queue stays in the store and is read in order of age.
 */
#define OUT_MEMORY_MAX 20000u
#define OUT_PAGE       1000u

struct conv { /* sender's bare JID and destination: MSG-5 */
	struct hnode hn;
	struct list entries;
	size_t n;
	char key[];
};

struct out_part {
	struct entry *en;
	struct hnode by_key;       /* in out->keys while key is set and the entry is in memory */
	uint8_t state;             /* enum store_queue_state */
	bool ambiguous, changed;   /* changed: its row is older than this */
	struct sl message_id, key; /* in the entry's arena */
};

/* What an entry waits for; one place at a time. */
enum entry_where { AT_NOWHERE, AT_READY, AT_SENDING, AT_STALLED };

struct entry {
	struct hnode by_id;
	struct list conv_node; /* in its conversation, oldest first */
	struct list node;      /* in out->ready, ->sending or ->stalled */
	uint8_t where;         /* enum entry_where */
	struct conv *conv;
	struct out *out;
	struct arena *arena; /* texts */
	struct store_queue_entry q;
	struct out_part *part;
	struct gsm_text text;
	struct bearer *bearer;    /* while SUBMITTED and parts are to be handed over or open */
	unsigned next_part, open; /* next to hand over; handed over and not answered */
	unsigned reserved;        /* places in the bearer's window that are kept for it */
	uint8_t ended_in;         /* the state before the end whose commit is under way */
	bool committing, again;   /* a commit is under way; and something changed meanwhile */
	bool spilled;             /* only to be committed, then read again in its turn */
	/* what the answers were since the last submission */
	bool permanent, temporary, throttled, unsent, unanswered;
	const char *condition, *type;
	char reason[128];
	struct loop_timer timer;
	struct component_ticket ticket;
	bool has_ticket, drop;
	bool recut;  /* read back, and cut into another number of parts than before */
	bool misfit; /* read back, and cannot be cut any more: only to be ended (MSG-3) */
};

struct out {
	struct sms_app *a;
	struct htable by_id, convs, keys;
	struct list ready, sending, stalled;
	size_t n;
	struct loop_task pump;
	struct loop_timer load_timer;
	struct store_queue_load load;
	uint64_t cursor; /* what is in memory or finished has an id up to here, while spilling */
	bool spilling, loading, behind, closing;
	uint16_t ref;
	unsigned open; /* parts handed over and not answered */
	unsigned reserved[SMS_BEARERS_MAX];
};

/* out.c */
/* Copies; splits the text. NULL: E_NOMEM; and where not taken before (`known`), whatever gsm_split
 * says: one that we have already becomes a misfit. */
struct entry *entry_new(struct out *o, const struct store_queue_entry *q, bool known,
			struct err *e);
void entry_free(struct entry *en);
bool entry_is_head(const struct entry *en);
void entry_set_where(struct entry *en, enum entry_where w);
void entry_wait(
	struct entry *en); /* QUEUED: arm the timer for not_before or expiry, or make it ready */
void out_load_more(struct out *o);
void entry_trace(const struct entry *en, const char *what);

/* out_send.c */
void entry_submit_committed(struct entry *en);
void entry_evaluate(struct entry *en);
void entry_release(struct entry *en); /* gives back its places in the bearer's window */
void entry_expire(struct entry *en);

#endif
