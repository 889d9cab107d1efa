/* sms.h - tandem-sms: the parts of one translator process and what they ask of each other.
 *
 *   gateway.c   stanzas in: iq, presence, and which messages are for the queue
 *   out.c       MSG-n: message -> entry -> parts -> bearer
 *   outcome.c   OUT-n, DLV-n: results and receipts -> state, and the stanza that tells the sender
 *   in.c        MO-n: short message -> stanza
 *   app.c       start, bearers, configuration, stop;  control.c  the commands of
 * docs/control-protocol.md
 *
 * One loop, one thread; a bus with one worker for the store's answers. */
#ifndef TANDEM_SMS_SMS_H
#define TANDEM_SMS_SMS_H

#include "appliance/base/clock.h"
#include "appliance/base/hash.h"
#include "appliance/config/config.h"
#include "appliance/loop/loop.h"
#include "appliance/store/store.h"
#include "translators/common/streams.h"
#include "translators/common/ids.h"
#include "translators/common/numplan.h"
#include "translators/common/outbox.h"
#include "translators/common/quota.h"
#include "translators/sms/bearer.h"

#define SMS_BEARERS_MAX 64

struct resolver;
struct child;
struct child_command;

enum sms_counter {
#define X(id, name, help) id,
#include "translators/sms/counters.def"
#undef X
	SMS_CNT_MAX
};

struct sms_app {
	struct loop *loop;
	struct bus *bus;
	struct store *store;
	struct resolver *resolver;
	const struct config *cfg;
	struct numplan np;
	struct numbers *numbers;
	struct streams *core;
	bool core_custody;
	struct outbox *outbox;
	struct quota *quota;
	struct ids ids;
	struct bearer *bearer[SMS_BEARERS_MAX];
	bool bearer_from_config[SMS_BEARERS_MAX];
	unsigned nbearers;
	struct out *out;
	struct outcome *outcome;
	struct in *in;
	struct child *child;
	uint64_t counter[SMS_CNT_MAX];
	bool stopping, purging;
	struct store_queue_purge purge;
	struct loop_timer purge_timer, stop_timer;
	uint64_t stop_since_ms;
	struct list traces; /* control.c */
};

#define sms_count(app, c) ((app)->counter[(c)]++)

/* ---- out.c ---------------------------------------------------------------------------------- */

struct entry; /* out_int.h: a message in work (QUEUED or SUBMITTED) */

int out_new(struct sms_app *a, struct out **o_r);
void out_free(struct out **o);
/* At start: read QUEUED and SUBMITTED back; those SUBMITTED become ambiguous (MSG-7). */
void out_recover(struct out *o);
/* A message stanza for a number (MSG-1..3, ADDR-n). Answers t when it is committed, or when the
 * refusal is. Takes st. */
void out_message(struct out *o, struct stanza *st_take, struct component_ticket t);
void out_pump(struct out *o);    /* bearers have room, or entries became ready */
void out_unstall(struct out *o); /* a bearer or a route changed: what had none is tried again */
unsigned out_open_parts(const struct out *o); /* handed to bearers and not answered */
/* No entry is SUBMITTED or being committed: a stop now leaves nothing ambiguous. */
bool out_settled(const struct out *o);
void out_result(struct out *o, struct bearer *b, uint64_t cookie, const struct part_outcome *r);
/* A part with this key was accepted, and that is being committed now (outcome_key_known follows).
 */
bool out_has_key(const struct out *o, struct sl key);
/* For the commands: 0, E_NOTFOUND (not in memory), E_STATE. */
int out_retry(struct out *o, uint64_t id);
int out_drop(struct out *o, uint64_t id);
void out_each_queued(struct out *o, void (*fn)(void *arg, uint64_t id), void *arg);
/* A bearer is about to be freed: nothing may point to it afterwards. Its parts in flight were
 * answered before. */
void out_forget_bearer(struct out *o, struct bearer *b);

/* ---- outcome.c ------------------------------------------------------------------------------- */

int outcome_new(struct sms_app *a, struct outcome **o_r);
void outcome_free(struct outcome **o);
/* DLV-n. */
void outcome_receipt(struct outcome *o, struct bearer *b, const struct sms_receipt *r,
		     uint64_t token);
/* A part was accepted under this key and that is committed: a receipt may be waiting for it. */
void outcome_key_known(struct outcome *o, struct sl key);
void outcome_forget_bearer(struct outcome *o, const struct bearer *b);
/* Messages that were accepted and whose receipt did not come within sms.receipt_hours: EXPIRED, the
 * sender is told. Called now and then. */
void outcome_settle(struct outcome *o);
/* OUT-1, OUT-2: an operation to chain; event: "rcpt" or "err" (part of the origin-id). NULL: out of
 * memory. */
struct store_op *outcome_receipt_op(struct sms_app *a, const struct store_queue_entry *q);
struct store_op *outcome_error_op(struct sms_app *a, const struct store_queue_entry *q,
				  const char *condition, const char *type, const char *text);
/* A refusal of a stanza that never became an entry; t is answered when it is committed. key:
 * CUST-8's id or empty. */
void outcome_refuse(struct sms_app *a, const struct stanza *st, struct sl key,
		    const char *condition, const char *type, const char *text,
		    struct component_ticket t);

/* ---- in.c -------------------------------------------------------------------------------------
 */

int in_new(struct sms_app *a, struct in **i_r);
void in_free(struct in **i);
void in_recover(struct in *i);
/* What was waited for long enough by now_ms is delivered (MO-3). Called now and then by itself. */
void in_sweep(struct in *i, uint64_t now_ms);
void in_message(struct in *i, struct bearer *b, const struct sms_in *m, uint64_t token);

/* ---- gateway.c ---------------------------------------------------------------------------------
 */

void gateway_stanza(struct sms_app *a, struct stanza *st_take, struct component_ticket t);

/* ---- app.c --------------------------------------------------------------------------------------
 */

/* After a->cfg is set and the working folder is the state folder: loop, store, tables, bearers, the
 * stream to the core. */
int app_start(struct sms_app *a, struct err *e);
/* What is due now and then: receipts that never came, old records. */
void app_keep_house(struct sms_app *a);
/* Nothing is sent any more; the loop is stopped when the links have taken leave and what they said
 * is committed, or after STOP_WAIT_MS. */
void app_stop(struct sms_app *a);
/* After the loop: settles what is in flight, commits, frees. The loop and bus stay. */
void app_finish(struct sms_app *a);
/* The bearer for a number (MSG-11). link: the account's, or that of the last try; empty: none.
 * NULL: none now. any_r: one that serves the number is up. */
struct bearer *app_route(struct sms_app *a, struct sl number, struct sl link, bool *any_r);
/* What all bearers that serve the number can carry (bits for gsm_split_cfg.encs), so that a text is
 * cut once; 0: the default. */
unsigned app_encodings(const struct sms_app *a, struct sl number);
/* Some bearer serves it, up or not. */
bool app_serves(const struct sms_app *a, struct sl number);
struct bearer *app_bearer(struct sms_app *a, struct sl name);
unsigned app_bearer_slot(const struct sms_app *a, const struct bearer *b);
int app_bearer_add(struct sms_app *a, const struct config_link *l, bool from_config, struct err *e);
int app_bearer_del(struct sms_app *a, struct sl name);
void sms_commit_failed(struct sms_app *a, const char *what); /* counts, logs */

/* ---- control.c
 * ----------------------------------------------------------------------------------- */

const struct child_command *sms_commands(void);
/* For `tandemctl trace`: one line to each trace of this account or number. Cheap when there is
 * none. */
void sms_trace_line(struct sms_app *a, struct sl jid, struct sl number, const char *line);
#define sms_tracing(a) (!list_empty(&(a)->traces))

#endif
