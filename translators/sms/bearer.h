/* bearer.h - what carries short messages for the queue: an SMPP link, or a radio of hal/.
 *
 * One interface, two implementations (bearer_smpp.c, bearer_radio.c). A bearer keeps nothing: every
 * part that it was given gets exactly one result, and what comes in is offered until it is
 * answered. Thread: the loop's. */
#ifndef TANDEM_SMS_BEARER_H
#define TANDEM_SMS_BEARER_H

#include <jansson.h>

#include "appliance/config/config.h"
#include "appliance/loop/loop.h"
#include "hal/gsm/concat.h"

struct bearer;
struct resolver;

struct sms_part {             /* borrowed for bearer_submit */
	struct sl from, to;   /* numbers with '+', or short codes */
	struct gsm_body body; /* coding, units, place in a concatenated message */
	bool want_receipt;
	uint32_t validity_s; /* 0: the network's default */
};

enum part_result {
	PART_ACCEPTED,  /* message id follows */
	PART_TEMPORARY, /* not now */
	PART_THROTTLED, /* not so fast: no attempt is counted */
	PART_PERMANENT, /* never */
	PART_UNSENT,    /* the link went away before it was sent */
	PART_AMBIGUOUS  /* sent, not answered: MSG-7 */
};

struct part_outcome {
	enum part_result result;
	struct sl message_id; /* PART_ACCEPTED: as the network gave it */
	/* else: the stanza error condition and its type, static strings of smpp_status.c's table */
	const char *condition, *type;
	char text[96]; /* else: the network's reason */
};

enum receipt_state { RECEIPT_INTERMEDIATE, RECEIPT_DELIVERED, RECEIPT_FAILED, RECEIPT_EXPIRED };

#define RECEIPT_KEYS 4
struct sms_receipt {                 /* borrowed for on_receipt */
	struct sl key[RECEIPT_KEYS]; /* canonical keys of the message id, most likely first */
	unsigned nkeys;
	enum receipt_state state;
	const char *condition; /* failed, expired */
	char text[96];
};

struct sms_in { /* borrowed for on_message */
	struct sl from,
		to; /* normalised where they are numbers; else the alphanumeric sender as it is */
	bool from_alphanumeric;
	struct gsm_body body; /* data without user data header */
	uint64_t sent_ms;     /* the network's stamp, wall clock; 0: none */
};

/* Answers to what came in: 0 done; else the reason (E_NOTFOUND: nobody has the number; E_AGAIN: try
 * later; others: refused). */
struct bearer_ops {
	void (*on_state)(void *arg, struct bearer *b); /* up or down: bearer_up tells */
	void (*on_room)(void *arg, struct bearer *b);  /* it can take parts again */
	void (*on_result)(void *arg, struct bearer *b, uint64_t cookie,
			  const struct part_outcome *o);
	void (*on_message)(void *arg, struct bearer *b, const struct sms_in *m, uint64_t token);
	void (*on_receipt)(void *arg, struct bearer *b, const struct sms_receipt *r,
			   uint64_t token);
};

/* settings borrowed. number: the plan to normalise addresses with. */
struct numplan;
int bearer_smpp_new(struct loop *l, struct resolver *r, const struct config_link *settings,
		    const struct numplan *np, const struct bearer_ops *ops, void *arg,
		    struct bearer **b_r, struct err *e);
int bearer_radio_new(struct loop *l, const struct config *cfg, const struct numplan *np,
		     const struct bearer_ops *ops, void *arg, struct bearer **b_r, struct err *e);
/* The process ends: nothing is sent any more, answers are waited for up to drain_ms, then the
 * network is told and up to close_ms given to agree. bearer_stopped says when that is over. */
void bearer_stop(struct bearer *b, uint32_t drain_ms, uint32_t close_ms);
bool bearer_stopped(const struct bearer *b);
/* Stops it: parts in flight get PART_AMBIGUOUS or PART_UNSENT before it returns; bearer_submit
 * refuses from now on. */
void bearer_free_parts(struct bearer *b);
/* No callbacks any more. */
void bearer_free(struct bearer **b);

/* 0; E_AGAIN (no room, or down: on_room or on_state follows); E_UNSUPPORTED, E_SYNTAX (this part
 * cannot be sent: permanent). */
int bearer_submit(struct bearer *b, const struct sms_part *p, uint64_t cookie);
/* The answer to on_message and on_receipt, once a token; late answers to a link that was lost
 * meanwhile are ignored. */
void bearer_answer(struct bearer *b, uint64_t token, int rc);
const char *bearer_name(const struct bearer *b);
bool bearer_up(const struct bearer *b);
unsigned bearer_room(const struct bearer *b);      /* parts it would take now; 0 when down */
unsigned bearer_encodings(const struct bearer *b); /* GSM_ENC_BIT of what it takes */
unsigned bearer_serves(
	const struct bearer *b,
	struct sl number); /* length of the longest matching prefix + 1; 0: not this number */
uint32_t bearer_cost(const struct bearer *b);
/* The key under which a part's message id is stored and found: "link\n" and the canonical id. Into
 * dst. */
int bearer_key(const struct bearer *b, struct sl message_id, struct buf *dst);
json_t *bearer_describe(const struct bearer *b); /* a row of link.list */
void bearer_enable(struct bearer *b, bool on);

#endif
