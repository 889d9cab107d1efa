/* smpp_flow.h - how fast a link sends: the centre's throttling answers turned into a rate.
 *
 * Additive increase, multiplicative decrease, with the rate that the centre really took as the
 * measure: a link is free until the first ESME_RTHROTTLED or ESME_RMSGQFUL, then keeps just below
 * what was accepted in the last second, and creeps up from there. Called by the machine; pure (time
 * is an argument). Rules FLOW-2 to FLOW-5 in docs/rules/smpp.md. */
#ifndef TANDEM_SMS_SMPP_FLOW_H
#define TANDEM_SMS_SMPP_FLOW_H

#include "appliance/base/base.h"

struct smpp_flow_cfg {
	uint32_t max_rate;     /* messages a second, 0: no limit of ours */
	uint32_t pause_min_ms; /* after a throttling answer; 0: 50 */
	uint32_t pause_max_ms; /* after several without a success between them; 0: 1000 */
};

struct smpp_flow {
	struct smpp_flow_cfg cfg;
	double rate;    /* messages a second; 0: free */
	double ceiling; /* rate at which the centre last complained */
	double good;    /* rate of the last whole second without complaint; 0: none since */
	double step;    /* growth in the next second, as a part of the rate */
	double tokens;
	uint32_t pause_ms; /* the next one */
	uint64_t filled_ms, grown_ms, paused_until_ms;
	uint64_t cut_ms; /* last decrease; 0: never */
	struct smpp_flow_span {
		uint64_t from_ms; /* of what was sent from here on ... */
		uint32_t taken;   /* ... the centre accepted so many */
	} span, span_before;      /* about a second each */
	uint64_t last_ms;         /* when the last accepted one was sent */
};

#define SMPP_FLOW_UNLIMITED UINT32_MAX

void smpp_flow_init(struct smpp_flow *f, const struct smpp_flow_cfg *cfg, uint64_t now_ms);
/* Messages that may be sent now; SMPP_FLOW_UNLIMITED: as many as the window takes. */
uint32_t smpp_flow_room(struct smpp_flow *f, uint64_t now_ms);
/* The rate in force; 0: none. */
double smpp_flow_rate(const struct smpp_flow *f);
/* One is sent. Only when there was room. */
void smpp_flow_take(struct smpp_flow *f);
/* When smpp_flow_room is 0: milliseconds until it is not, at least 1. */
uint32_t smpp_flow_wait_ms(const struct smpp_flow *f, uint64_t now_ms);
/* Answers to what was sent. */
void smpp_flow_accepted(struct smpp_flow *f, uint64_t sent_ms);
void smpp_flow_throttled(struct smpp_flow *f, uint64_t now_ms, uint64_t sent_ms);

#endif
