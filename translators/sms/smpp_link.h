/* smpp_link.h - one link to an SMS centre: the session machine with a connection, a resolver and
 * timers.
 *
 * For the queue above it (through a bearer): submit, results, deliveries that are answered after
 * the commit, receipts. Keeps nothing: each message that was taken gets exactly one result, also
 * when the link is freed. Thread: the loop's. Rules in docs/rules/smpp.md. */
#ifndef TANDEM_SMS_SMPP_LINK_H
#define TANDEM_SMS_SMPP_LINK_H

#include "appliance/loop/loop.h"
#include "translators/sms/receipt.h"
#include "translators/sms/smpp_machine.h"
#include "translators/sms/smpp_sms.h"

struct resolver;
struct tls_ctx;
struct smpp_link;

/* Copied by smpp_link_new. */
struct smpp_link_cfg {
	struct smpp_cfg session;
	struct smpp_sms_cfg sms;
	struct sl host;
	uint16_t port;
	struct tls_ctx *tls; /* NULL: plain; the link takes a reference */
};

/* None may free the link. All but on_state may submit. */
struct smpp_link_ops {
	/* Bound, or not any more. why: "" or a reason, borrowed. */
	void (*on_state)(void *arg, struct smpp_link *l, bool up, const char *why);
	/* It can take messages again; once a turn at most. */
	void (*on_ready)(void *arg, struct smpp_link *l);
	/* status and message_id as the centre gave them; smpp_status_find(status) explains a
	 * refusal. */
	void (*on_submit_result)(void *arg, struct smpp_link *l, uint64_t cookie,
				 enum smpp_result r, uint32_t status, struct sl message_id);
	/* smpp_link_deliver_done(token) follows, from inside or later. m is borrowed. */
	void (*on_deliver)(void *arg, struct smpp_link *l, const struct smpp_in *m, uint64_t token);
	void (*on_receipt)(void *arg, struct smpp_link *l, const struct smpp_receipt *r,
			   uint64_t token);
};

/* Made disabled: smpp_link_enable connects. r, ops and arg are borrowed for the link's life.
 * Returns 0, E_RANGE, E_INTERNAL (the machine's table), E_NOMEM. */
int smpp_link_new(struct loop *loop, struct resolver *r, const struct smpp_link_cfg *cfg,
		  const struct smpp_link_ops *ops, void *arg, struct smpp_link **l_r,
		  struct err *e);
/* What is in flight gets its result before it returns; no other callbacks. Not from inside one. */
void smpp_link_free(struct smpp_link **l);

/* false: answers are waited for, then unbind and close (LINK-8); smpp_link_closed tells when. */
void smpp_link_enable(struct smpp_link *l, bool on);
bool smpp_link_closed(const struct smpp_link *l);
/* The same for good, with other times than the configured ones (LINK-9). */
void smpp_link_stop(struct smpp_link *l, uint32_t drain_ms, uint32_t unbind_ms);

/* Send one message or part. Returns 0: one on_submit_result follows. E_AGAIN: not bound, window
 * full or too fast; on_ready or on_state follows. E_UNSUPPORTED, E_SYNTAX, E_TOOBIG: it can never
 * be sent. E_NOMEM. */
int smpp_link_submit(struct smpp_link *l, const struct smpp_out *m, uint64_t cookie, struct err *e);
uint32_t smpp_link_room(struct smpp_link *l);
/* status 0 (SMPP_ESME_ROK) or the error to answer with. Returns 0, E_NOTFOUND (answered, or of a
 * lost session). */
int smpp_link_deliver_done(struct smpp_link *l, uint64_t token, uint32_t status);

bool smpp_link_up(const struct smpp_link *l);
const char *smpp_link_state(const struct smpp_link *l); /* "BOUND" */
const char *smpp_link_why(const struct smpp_link *l);   /* why it is not bound; "" */
const struct smpp_counts *smpp_link_counts(const struct smpp_link *l);
double smpp_link_rate(const struct smpp_link *l); /* messages a second in force; 0: no limit */
uint32_t smpp_link_in_flight(const struct smpp_link *l);
unsigned smpp_link_encodings(const struct smpp_link *l);
/* "192.0.2.1:2775", or "" while not connected. */
void smpp_link_peer(const struct smpp_link *l, char dst[64]);

#endif
