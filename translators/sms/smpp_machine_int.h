/* smpp_machine_int.h - between smpp_machine.c (the life of the session) and smpp_traffic.c (what
 * goes through it); nobody else includes it. */
#ifndef TANDEM_SMS_SMPP_MACHINE_INT_H
#define TANDEM_SMS_SMPP_MACHINE_INT_H

#include "translators/sms/smpp_machine.h"

#define SMM_NEVER UINT64_MAX

enum {
	EV_ENABLE,
	EV_DISABLE,
	EV_CONNECTED,
	EV_LOST,
	EV_TIMEOUT,
	EV_BIND_RESP,
	EV_OUTBIND,
	EV_UNBIND,
	EV_UNBIND_RESP,
	EV_DRAINED,
	EV_SILENT,
	EV_FRAMING,
	EV_COUNT,
};

struct smpp_request {
	struct list node;
	uint32_t seq;                 /* 0: the slot is free */
	uint64_t cookie, sent_ms, at; /* at: octets written on the connection before it */
};

struct smpp_delivery {
	uint32_t seq, command_id, generation;
	uint32_t next; /* free list */
	bool used;
};

static inline uint64_t smm_now(const struct smpp_machine *m)
{
	return m->ops->now_ms(m->arg);
}

static inline uint32_t smm_or(uint32_t v, uint32_t def)
{
	return v ? v : def;
}

static inline bool smm_in_session(const struct smpp_machine *m)
{
	return m->fsm.state == SMPP_ST_BOUND || m->fsm.state == SMPP_ST_DRAINING;
}

void smm_set_why(struct smpp_machine *m, const char *why);

/* A number that is not in flight. */
uint32_t smm_next_sequence(struct smpp_machine *m);
/* Octets written, or < 0. */
int smm_send(struct smpp_machine *m, const struct smpp_pdu *p, struct err *e);
/* A PDU that is head alone, or whose body is empty. */
void smm_answer(struct smpp_machine *m, uint32_t command_id, uint32_t seq, uint32_t status);
/* Result of every request in flight: LINK-4. */
void smm_fail_in_flight(struct smpp_machine *m);
void smm_forget_deliveries(struct smpp_machine *m);
/* Raise EV_DRAINED if nothing is waited for any more. */
void smm_check_drained(struct smpp_machine *m);
void smm_schedule_tick(struct smpp_machine *m);
void smm_stop_tick(struct smpp_machine *m);
/* Tell who waits for room, if there is some. */
void smm_tell_ready(struct smpp_machine *m);

#endif
