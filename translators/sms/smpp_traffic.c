/* smpp_traffic.c - what goes through a session: requests and their window, deliveries and their
 * answers, the dispatch by command id, and what is due with time. See smpp_machine.h; the session's
 * life is in smpp_machine.c. */
#include "appliance/base/log.h"
#include "translators/sms/smpp_machine_int.h"
#include "translators/sms/smpp_status.h"

/* ---- sending ---- */

uint32_t smm_next_sequence(struct smpp_machine *m)
{
	do
		m->sequence = m->sequence >= SMPP_SEQ_MAX ? 1 : m->sequence + 1;
	while (m->request[m->sequence & m->request_mask].seq);
	return m->sequence;
}

int smm_send(struct smpp_machine *m, const struct smpp_pdu *p, struct err *e)
{
	int n = m->ops->send(m->arg, p, e);

	if (n > 0)
		m->written += (uint64_t)n;
	return n;
}

void smm_answer(struct smpp_machine *m, uint32_t command_id, uint32_t seq, uint32_t status)
{
	struct smpp_pdu p = { .command_id = command_id,
			      .command_status = status,
			      .sequence_number = seq };

	smm_send(m, &p, NULL);
}

static void glitch(struct smpp_machine *m, const char *rule, const char *what,
		   const struct smpp_pdu *p)
{
	m->counts.glitches++;
	log_ev(LOG_L_DEBUG, "smpp.glitch", KS("link", m->cfg->name), KC("rule", rule),
	       KC("what", what), KC("command", p ? smpp_command_name(p->command_id) : "none"),
	       KU("seq", p ? p->sequence_number : 0), KU("status", p ? p->command_status : 0));
}

/* ---- the tick: what is due in a session ---- */

static void want_tick(struct smpp_machine *m, uint64_t due_ms)
{
	uint64_t t = smm_now(m);

	if (due_ms >= m->tick_ms)
		return;
	m->tick_ms = due_ms;
	m->ops->arm_tick(m->arg, due_ms > t ? (uint32_t)(due_ms - t) : 1);
}

void smm_stop_tick(struct smpp_machine *m)
{
	m->ops->arm_tick(m->arg, 0);
	m->tick_ms = SMM_NEVER;
}

static struct smpp_request *oldest(const struct smpp_machine *m)
{
	return list_empty(&m->order) ? NULL : LIST_ENTRY(m->order.next, struct smpp_request, node);
}

static uint32_t response_ms(const struct smpp_machine *m)
{
	return smm_or(m->cfg->response_ms, 60000);
}

static uint64_t enquire_due(const struct smpp_machine *m)
{
	if (m->enquire_seq)
		return m->enquire_sent_ms + smm_or(m->cfg->enquire_answer_ms, 10000);
	return m->heard_ms + smm_or(m->cfg->enquire_ms, 30000);
}

void smm_schedule_tick(struct smpp_machine *m)
{
	uint64_t t = smm_now(m), due = enquire_due(m);
	const struct smpp_request *r = oldest(m);

	if (r && r->sent_ms + response_ms(m) < due)
		due = r->sent_ms + response_ms(m);
	if (m->cfg->inactivity_ms && m->heard_ms + m->cfg->inactivity_ms < due)
		due = m->heard_ms + m->cfg->inactivity_ms;
	if (m->full && m->in_flight < m->window && smpp_flow_room(&m->flow, t) == 0 &&
	    t + smpp_flow_wait_ms(&m->flow, t) < due)
		due = t + smpp_flow_wait_ms(&m->flow, t);
	m->tick_ms = SMM_NEVER;
	want_tick(m, due);
}

uint32_t smpp_machine_room(struct smpp_machine *m)
{
	uint32_t window = m->window - m->in_flight, flow;

	if (m->fsm.state != SMPP_ST_BOUND || window == 0 || m->cfg->bind == SMPP_bind_receiver)
		return 0;
	flow = smpp_flow_room(&m->flow, smm_now(m));
	return flow < window ? flow : window;
}

void smm_tell_ready(struct smpp_machine *m)
{
	if (!m->full || smpp_machine_room(m) == 0)
		return;
	m->full = false;
	m->ops->ready(m->arg);
}

void smpp_machine_writable(struct smpp_machine *m)
{
	smm_tell_ready(m);
}

/* After room shrank: remember that somebody waits, and when the rate allows the next. */
static void note_full(struct smpp_machine *m)
{
	uint64_t t = smm_now(m);

	if (smpp_machine_room(m))
		return;
	m->full = true;
	if (m->in_flight < m->window)
		want_tick(m, t + smpp_flow_wait_ms(&m->flow, t));
}

/* ---- requests of ours ---- */

static void count_result(struct smpp_counts *c, enum smpp_result r, uint32_t status)
{
	if (r == SMPP_RESULT_ACCEPTED)
		c->accepted++;
	else if (r == SMPP_RESULT_UNSENT)
		c->unsent++;
	else if (r == SMPP_RESULT_AMBIGUOUS)
		c->ambiguous++;
	else if (smpp_status_find(status)->cls == SMPP_CLASS_THROTTLED)
		c->throttled++;
	else
		c->refused++;
}

static void finish(struct smpp_machine *m, struct smpp_request *r, enum smpp_result result,
		   uint32_t status, struct sl message_id)
{
	uint64_t cookie = r->cookie;

	list_remove(&r->node);
	r->seq = 0;
	m->in_flight--;
	count_result(&m->counts, result, status);
	m->ops->result(m->arg, cookie, result, status, message_id);
}

/* LINK-4: every request in flight has its result before the link tries again. */
void smm_fail_in_flight(struct smpp_machine *m)
{
	uint64_t sent = m->written - m->ops->unsent(m->arg);
	struct smpp_request *r;

	while ((r = oldest(m)))
		finish(m, r, r->at >= sent ? SMPP_RESULT_UNSENT : SMPP_RESULT_AMBIGUOUS, 0,
		       SL_NULL);
}

void smm_check_drained(struct smpp_machine *m)
{
	if (m->fsm.state == SMPP_ST_DRAINING && m->in_flight == 0 && m->unanswered == 0)
		fsm_raise(&m->fsm, EV_DRAINED);
}

int smpp_machine_submit(struct smpp_machine *m, struct smpp_pdu *p, uint64_t cookie, struct err *e)
{
	if (smpp_machine_room(m) == 0) {
		if (m->fsm.state == SMPP_ST_BOUND)
			note_full(m);
		return E_AGAIN;
	}
	p->sequence_number = smm_next_sequence(m);
	uint64_t at = m->written;
	int n = smm_send(m, p, e);
	if (n < 0) {
		m->full = m->full || n == E_AGAIN;
		return n;
	}
	struct smpp_request *r = &m->request[p->sequence_number & m->request_mask];
	*r = (struct smpp_request){
		.seq = p->sequence_number, .cookie = cookie, .sent_ms = smm_now(m), .at = at
	};
	list_init(&r->node);
	list_append(&m->order, &r->node);
	m->in_flight++;
	m->counts.submitted++;
	smpp_flow_take(&m->flow);
	want_tick(m, r->sent_ms + response_ms(m));
	note_full(m);
	return 0;
}

static struct smpp_request *request_of(struct smpp_machine *m, const struct smpp_pdu *p)
{
	struct smpp_request *r = &m->request[p->sequence_number & m->request_mask];

	return p->sequence_number && r->seq == p->sequence_number ? r : NULL;
}

static void on_answer(struct smpp_machine *m, const struct smpp_pdu *p)
{
	struct smpp_request *r = request_of(m, p);
	bool ok = p->command_status == 0 && p->command_id != SMPP_generic_nack;
	/* A nack that names no error is one all the same. */
	uint32_t status = ok || p->command_status ? p->command_status : SMPP_ESME_RSYSERR;

	if (!r) {
		m->counts.late++;
		glitch(m, "FLOW-7", "answer to nothing in flight", p);
		return;
	}
	if (ok)
		smpp_flow_accepted(&m->flow, r->sent_ms);
	else if (smpp_status_find(status)->cls == SMPP_CLASS_THROTTLED)
		smpp_flow_throttled(&m->flow, smm_now(m), r->sent_ms);
	finish(m, r, ok ? SMPP_RESULT_ACCEPTED : SMPP_RESULT_REFUSED, status, p->message_id);
	smm_check_drained(m);
	if (m->fsm.state == SMPP_ST_BOUND) {
		note_full(m);
		smm_tell_ready(m);
	}
}

/* ---- deliveries ---- */

static uint64_t token_of(const struct smpp_machine *m, uint32_t i)
{
	return (uint64_t)m->epoch << 32 | (uint64_t)(m->delivery[i].generation & 0xffff) << 16 | i;
}

void smm_forget_deliveries(struct smpp_machine *m)
{
	for (uint32_t i = 0; i < m->deliveries; i++) {
		m->delivery[i].used = false;
		m->delivery[i].next = i + 1;
	}
	m->free_delivery = 0;
	m->unanswered = 0;
}

static void on_deliver(struct smpp_machine *m, const struct smpp_pdu *p)
{
	uint32_t i = m->free_delivery;

	if (m->fsm.state != SMPP_ST_BOUND || i == m->deliveries) {
		m->counts.deliver_refused++;
		smm_answer(m, p->command_id | SMPP_RESP, p->sequence_number,
			   smm_in_session(m) ? SMPP_ESME_RX_T_APPN : SMPP_ESME_RINVBNDSTS);
		return;
	}
	struct smpp_delivery *d = &m->delivery[i];
	m->free_delivery = d->next;
	*d = (struct smpp_delivery){ p->sequence_number, p->command_id, d->generation + 1, 0,
				     true };
	m->unanswered++;
	m->counts.delivered++;
	m->ops->deliver(m->arg, p, token_of(m, i));
}

int smpp_machine_deliver_done(struct smpp_machine *m, uint64_t token, uint32_t status)
{
	uint32_t i = token & 0xffff;

	if (i >= m->deliveries || !m->delivery[i].used || token_of(m, i) != token)
		return E_NOTFOUND;
	struct smpp_delivery *d = &m->delivery[i];
	d->used = false;
	d->next = m->free_delivery;
	m->free_delivery = i;
	m->unanswered--;
	smm_answer(m, d->command_id | SMPP_RESP, d->seq, status);
	smm_check_drained(m);
	return 0;
}

/* ---- PDUs in ---- */

/* A request that only an SMS centre takes, or that nobody knows (PDU-7, PDU-8). */
static void on_wrong_request(struct smpp_machine *m, const struct smpp_pdu *p)
{
	glitch(m, "PDU-8", "request to an ESME", p);
	smm_answer(m, p->command_id | SMPP_RESP, p->sequence_number, SMPP_ESME_RINVBNDSTS);
}

static void on_enquire_answer(struct smpp_machine *m)
{
	m->enquire_seq = 0;
	if (smm_in_session(m))
		want_tick(m, enquire_due(m)); /* may be before the answer was due */
}

static void on_response(struct smpp_machine *m, const struct smpp_pdu *p)
{
	bool nack = p->command_id == SMPP_generic_nack;

	if (p->command_id == SMPP_enquire_link_resp ||
	    (nack && m->enquire_seq && p->sequence_number == m->enquire_seq))
		on_enquire_answer(m); /* a centre that has no enquire_link is alive too */
	else if (nack && m->fsm.state == SMPP_ST_OPEN)
		fsm_event(&m->fsm, EV_BIND_RESP, p);
	else if (nack && m->fsm.state == SMPP_ST_UNBINDING && !request_of(m, p))
		fsm_event(&m->fsm, EV_UNBIND_RESP, p);
	else
		on_answer(m, p);
}

void smpp_machine_pdu(struct smpp_machine *m, const struct smpp_pdu *p)
{
	m->heard_ms = smm_now(m);
	if (p->glitches)
		glitch(m, "PDU-3", "odd PDU", p);
	switch (p->command_id) {
	case SMPP_submit_sm_resp:
	case SMPP_data_sm_resp:
	case SMPP_query_sm_resp:
	case SMPP_cancel_sm_resp:
	case SMPP_replace_sm_resp:
	case SMPP_generic_nack:
	case SMPP_enquire_link_resp:
		on_response(m, p);
		break;
	case SMPP_deliver_sm:
	case SMPP_data_sm:
		on_deliver(m, p);
		break;
	case SMPP_enquire_link:
		smm_answer(m, SMPP_enquire_link_resp, p->sequence_number, 0);
		break;
	case SMPP_bind_transceiver_resp:
	case SMPP_bind_transmitter_resp:
	case SMPP_bind_receiver_resp:
		fsm_event(&m->fsm, EV_BIND_RESP, p);
		break;
	case SMPP_unbind:
		fsm_event(&m->fsm, EV_UNBIND, p);
		break;
	case SMPP_unbind_resp:
		fsm_event(&m->fsm, EV_UNBIND_RESP, p);
		break;
	case SMPP_outbind:
		fsm_event(&m->fsm, EV_OUTBIND, p);
		break;
	case SMPP_alert_notification: /* PDU-9 */
		break;
	case SMPP_deliver_sm_resp:
		glitch(m, "PDU-8", "response that nobody asked for", p);
		break;
	default:
		on_wrong_request(m, p);
		break;
	}
}

/* PDU-7: requests are answered with an error, responses never. */
void smpp_machine_malformed(struct smpp_machine *m, const struct smpp_pdu *p)
{
	struct smpp_request *r = request_of(m, p);

	m->heard_ms = smm_now(m);
	m->counts.malformed++;
	glitch(m, "PDU-7", "malformed PDU", p);
	if (p->command_id & SMPP_RESP) {
		/* The head can be read: it tells accepted from refused, though not the id. */
		if (r && p->def)
			smpp_machine_pdu(m, p);
	} else if (p->def && p->command_id != SMPP_outbind &&
		   p->command_id != SMPP_alert_notification) {
		smm_answer(m, p->command_id | SMPP_RESP, p->sequence_number, p->fault);
	} else if (!p->def) {
		smm_answer(m, SMPP_generic_nack, p->sequence_number, p->fault);
	}
}

/* ---- time ---- */

/* FLOW-8: an answer that does not come is not waited for without end. */
static void expire_requests(struct smpp_machine *m, uint64_t t)
{
	struct smpp_request *r;

	while ((r = oldest(m)) && r->sent_ms + response_ms(m) <= t)
		finish(m, r, SMPP_RESULT_AMBIGUOUS, 0, SL_NULL);
	smm_check_drained(m);
}

/* LINK-3: whatever is heard proves that the peer lives, not the answer alone. False: it does not.
 */
static bool check_alive(struct smpp_machine *m, uint64_t t)
{
	if (m->cfg->inactivity_ms && t >= m->heard_ms + m->cfg->inactivity_ms) {
		smm_set_why(m, "nothing heard for the inactivity time");
		return false;
	}
	if (t < enquire_due(m))
		return true;
	if (m->enquire_seq && m->heard_ms < m->enquire_sent_ms) {
		smm_set_why(m, "no answer to enquire_link");
		return false;
	}
	m->enquire_seq = 0;
	if (t < enquire_due(m))
		return true;
	struct smpp_pdu p = { .command_id = SMPP_enquire_link,
			      .sequence_number = smm_next_sequence(m) };
	m->enquire_seq = p.sequence_number;
	m->enquire_sent_ms = t;
	m->counts.enquires++;
	smm_send(m, &p, NULL);
	return true;
}

void smpp_machine_tick(struct smpp_machine *m)
{
	uint64_t t = smm_now(m);

	m->tick_ms = SMM_NEVER;
	if (!smm_in_session(m))
		return;
	if (!check_alive(m, t)) {
		fsm_event(&m->fsm, EV_SILENT, NULL);
		return;
	}
	expire_requests(m, t);
	if (!smm_in_session(m))
		return;
	smm_tell_ready(m);
	if (smm_in_session(m))
		smm_schedule_tick(m);
}
