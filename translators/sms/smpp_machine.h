/* smpp_machine.h - the life of one SMPP session as an ESME, and the traffic in it. No sockets, no
 * clock of its own: events in, decisions out through an ops table.
 *
 * smpp_link.c feeds it (connected, lost, PDUs, timers) and carries out what it decides. The life of
 * the session is a row table (rows cite docs/rules/smpp.md: BIND-n, LINK-n); traffic of a bound
 * session is dispatched by command id (FLOW-n, PDU-n). Thread: the loop's. */
#ifndef TANDEM_SMS_SMPP_MACHINE_H
#define TANDEM_SMS_SMPP_MACHINE_H

#include "appliance/base/list.h"
#include "appliance/fsm/fsm.h"
#include "translators/sms/smpp_flow.h"
#include "translators/sms/smpp_pdu.h"

#define SMPP_WINDOW_MAX     1000
#define SMPP_WINDOW_DEFAULT 10

/* Borrowed for the machine's life. Zero means the default where one is named. */
struct smpp_cfg {
	struct sl name; /* of the link, for logs */
	uint32_t bind;  /* SMPP_bind_transceiver (default), _transmitter or _receiver */
	struct sl system_id, password, system_type, address_range;
	uint8_t interface_version; /* 0x34 */
	uint8_t addr_ton, addr_npi;
	uint32_t window;            /* submit_sm without answer: 10, at most SMPP_WINDOW_MAX */
	uint32_t unanswered;        /* deliver_sm that we have not answered yet: 50, at most
				       SMPP_WINDOW_MAX */
	uint32_t connect_ms;        /* resolving, TCP and TLS together: 30 s */
	uint32_t session_init_ms;   /* bind to bind_resp: 30 s */
	uint32_t response_ms;       /* of a submit_sm: 60 s */
	uint32_t enquire_ms;        /* silence before an enquire_link: 30 s */
	uint32_t enquire_answer_ms; /* 10 s */
	uint32_t inactivity_ms;     /* nothing received at all: the session is dropped; 0: never */
	uint32_t drain_ms;          /* answers that are waited for before unbind: 5 s */
	uint32_t unbind_ms;         /* 5 s */
	uint32_t backoff_min_ms, backoff_max_ms; /* 1 s, 60 s */
	uint32_t refused_ms;                     /* after wrong credentials: 60 s */
	struct smpp_flow_cfg flow;
};

enum smpp_result {
	SMPP_RESULT_ACCEPTED,  /* message_id is set */
	SMPP_RESULT_REFUSED,   /* status says why (smpp_status_find) */
	SMPP_RESULT_UNSENT,    /* the link was lost before a single octet left */
	SMPP_RESULT_AMBIGUOUS, /* sent, and the answer never came */
};
const char *smpp_result_name(enum smpp_result r);

/* What the machine asks of its owner. None may free the machine or call a function of it, unless
 * said so. */
struct smpp_machine_ops {
	uint64_t (*now_ms)(void *arg);
	uint32_t (*random)(void *arg, uint32_t below); /* for jitter; below > 0 */
	/* Connect; answer later, or from inside, with smpp_machine_connected or smpp_machine_lost.
	 */
	void (*connect)(void *arg);
	/* Drop the connection, after its output if flush. No event follows from it. */
	void (*disconnect)(void *arg, bool flush);
	/* Octets written (> 0); < 0: E_AGAIN (no room, or closed), or the encoder's error. */
	int (*send)(void *arg, const struct smpp_pdu *p, struct err *e);
	/* Octets of the connection's output that the system has certainly not taken yet; 0 if
	 * unknown. */
	size_t (*unsent)(void *arg);
	/* Call smpp_machine_state_timeout / smpp_machine_tick after ms; 0: never. Replaces the
	 * earlier one. */
	void (*arm_state)(void *arg, uint32_t ms);
	void (*arm_tick)(void *arg, uint32_t ms);
	/* Bound, or not any more (why is borrowed). May call smpp_machine_enable. */
	void (*state)(void *arg, bool up, const char *why);
	/* There is room again after smpp_machine_submit said E_AGAIN, or filled the window. May
	 * submit. */
	void (*ready)(void *arg);
	/* The one result of a submitted message. message_id is borrowed. May submit. */
	void (*result)(void *arg, uint64_t cookie, enum smpp_result r, uint32_t status,
		       struct sl message_id);
	/* A deliver_sm or data_sm; p is borrowed. smpp_machine_deliver_done(token) follows, from
	 * inside or later. */
	void (*deliver)(void *arg, const struct smpp_pdu *p, uint64_t token);
};

struct smpp_counts {
	uint64_t submitted, accepted, refused, throttled, unsent, ambiguous, late;
	uint64_t delivered, deliver_refused;
	uint64_t connects, binds, binds_refused, lost, enquires, glitches, malformed;
};

struct smpp_request;
struct smpp_delivery;

struct smpp_machine {
	struct fsm fsm;
	const struct smpp_cfg *cfg;
	const struct smpp_machine_ops *ops;
	void *arg;
	struct smpp_flow flow;
	struct smpp_counts counts;
	struct smpp_request *request; /* slots, found by sequence_number & request_mask */
	uint32_t request_mask, window, in_flight;
	struct list order; /* requests in flight, oldest first */
	struct smpp_delivery *delivery;
	uint32_t deliveries, free_delivery, unanswered;
	uint32_t epoch;       /* counts sessions: tokens of an old one are void */
	uint32_t sequence;    /* last used */
	uint32_t enquire_seq; /* outstanding enquire_link; 0: none */
	uint64_t enquire_sent_ms, heard_ms, bound_ms, tick_ms, written;
	unsigned attempts;      /* connects since the last session that held */
	bool full;              /* somebody waits for room */
	bool wanted;            /* enabled by the operator */
	char why[ERR_TEXT_MAX]; /* why it is not bound */
};

enum {
	SMPP_ST_CLOSED,
	SMPP_ST_CONNECTING,
	SMPP_ST_OPEN,
	SMPP_ST_BOUND,
	SMPP_ST_DRAINING,
	SMPP_ST_UNBINDING,
	SMPP_ST_BACKOFF,
	SMPP_ST_REFUSED,
};

extern const struct fsm_def smpp_machine_def;

/* Zeroes *m and allocates its tables. fsm_def_prepare(&smpp_machine_def) must have been called.
 * cfg, ops and arg are borrowed. Returns 0, E_RANGE (window), E_NOMEM. */
int smpp_machine_init(struct smpp_machine *m, const struct smpp_cfg *cfg,
		      const struct smpp_machine_ops *ops, void *arg, struct err *e);
/* Results of what is in flight are reported first, and a session gets an unbind; then no op is
 * called any more. Not from inside an op. */
void smpp_machine_free(struct smpp_machine *m);

/* The operator's will. false: answers are waited for, then unbind. */
void smpp_machine_enable(struct smpp_machine *m, bool on);

void smpp_machine_connected(struct smpp_machine *m);
void smpp_machine_lost(struct smpp_machine *m, const char *why);
void smpp_machine_state_timeout(struct smpp_machine *m);
void smpp_machine_tick(struct smpp_machine *m);
/* The connection's output drained: whoever met E_AGAIN may try again. */
void smpp_machine_writable(struct smpp_machine *m);
/* smpp_frame said E_SYNTAX. */
void smpp_machine_framing_lost(struct smpp_machine *m);
/* A PDU that was decoded; and one that was not (its head and fault are set). After either the
 * connection may have been dropped. */
void smpp_machine_pdu(struct smpp_machine *m, const struct smpp_pdu *p);
void smpp_machine_malformed(struct smpp_machine *m, const struct smpp_pdu *p);

/* Send a request; its sequence_number is set here. Exactly one result follows if this returns 0.
 * Returns 0, E_AGAIN (not bound, window full, too fast: ready follows), E_TOOBIG, E_SYNTAX (it
 * cannot be encoded). */
int smpp_machine_submit(struct smpp_machine *m, struct smpp_pdu *p, uint64_t cookie, struct err *e);
/* Messages that it would take now. */
uint32_t smpp_machine_room(struct smpp_machine *m);
/* Answer a delivery. Returns 0, E_NOTFOUND (answered already, or its session is over). */
int smpp_machine_deliver_done(struct smpp_machine *m, uint64_t token, uint32_t status);

static inline bool smpp_machine_up(const struct smpp_machine *m)
{
	return m->fsm.state == SMPP_ST_BOUND;
}

#endif
