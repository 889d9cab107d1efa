/* smpp_link.c - see smpp_link.h. Sockets and timers only: what to do is the machine's to decide. */
#include "translators/sms/smpp_link.h"
#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/resolve.h"
#include "appliance/loop/tls.h"
#include "translators/sms/smpp_status.h"

#define OUTPUT_MAX    (1u << 20)
#define INPUT_MAX     (SMPP_PDU_MAX + LOOP_SCRATCH_OCTETS)
#define PDU_ARENA     1024
#define PDU_ARENA_MAX (1u << 20)
#define CLOSE_LINGER  2000

struct smpp_link {
	struct smpp_machine m;
	struct smpp_link_cfg cfg;
	struct loop *loop;
	struct resolver *resolver;
	const struct smpp_link_ops *ops;
	void *arg;
	struct arena *texts; /* the strings of cfg */
	char *host;
	struct resolve_req *query;
	struct conn *conn;
	struct buf in, out;      /* a PDU that is not complete yet; the PDU being sent */
	struct arena *pdu_arena; /* of the PDU being handled */
	struct loop_timer state_timer, tick_timer;
	struct loop_task ready_task;
};

/* ---- connection ---- */

static void orphan_data(void *self, struct sl data)
{
	UNUSED(self);
	UNUSED(data);
}

static void orphan_closed(void *self, const struct err *why)
{
	UNUSED(self);
	UNUSED(why);
}

/* A connection that the link has let go of, and that only has to end. */
static const struct conn_ops orphan_ops = { .on_data = orphan_data, .on_closed = orphan_closed };

static void let_go(struct smpp_link *l, bool flush)
{
	struct conn *c = l->conn;

	if (l->query)
		resolve_cancel(l->query);
	l->query = NULL;
	l->conn = NULL;
	buf_free(&l->in);
	if (!c)
		return;
	conn_set_ops(c, &orphan_ops, NULL);
	if (flush)
		conn_close(c, CLOSE_LINGER);
	else
		conn_kill(c);
}

static void handle_pdu(struct smpp_link *l, struct sl octets)
{
	struct arena *a = arena_new(PDU_ARENA, PDU_ARENA_MAX);
	struct smpp_pdu p;
	struct err e = { 0 };

	if (!a) {
		smpp_machine_lost(&l->m, "out of memory");
		let_go(l, false);
		return;
	}
	l->pdu_arena = a;
	if (smpp_pdu_decode(a, octets, &p, &e) == 0) {
		smpp_machine_pdu(&l->m, &p);
	} else {
		log_ev(LOG_L_INFO, "smpp.malformed", KS("link", l->cfg.session.name), KE(&e));
		smpp_machine_malformed(&l->m, &p);
	}
	l->pdu_arena = NULL;
	arena_free(&a);
}

/* Handle the whole PDUs at the start of in; returns the octets that they took. Stops when the
 * connection goes. */
static size_t handle_input(struct smpp_link *l, struct sl in)
{
	struct conn *c = l->conn;
	size_t at = 0;

	while (l->conn == c) {
		int n = smpp_frame(sl_sub(in, at, in.n));

		if (n < 0)
			smpp_machine_framing_lost(&l->m);
		if (n <= 0)
			break;
		handle_pdu(l, sl_sub(in, at, at + (size_t)n));
		at += (size_t)n;
	}
	return at;
}

static void on_data(void *self, struct sl data)
{
	struct smpp_link *l = self;
	struct conn *c = l->conn;
	size_t used;

	if (l->in.n == 0) {
		used = handle_input(l, data);
		data = sl_sub(data, used, data.n);
		if (l->conn == c && buf_add(&l->in, data) < 0) {
			smpp_machine_lost(&l->m, "out of memory");
			let_go(l, false);
		}
		return;
	}
	/* The buffer is taken away from the link meanwhile: it may let go of the connection. */
	struct buf in = l->in;
	buf_init(&l->in, INPUT_MAX);
	if (buf_add(&in, data) < 0) {
		buf_free(&in);
		smpp_machine_lost(&l->m, "out of memory");
		let_go(l, false);
		return;
	}
	used = handle_input(l, buf_sl(&in));
	if (l->conn == c) {
		buf_consume(&in, used);
		l->in = in;
	} else {
		buf_free(&in);
	}
}

static void on_connected(void *self)
{
	struct smpp_link *l = self;
	struct err e = { 0 };

	if (!l->cfg.tls) {
		smpp_machine_connected(&l->m);
	} else if (conn_tls_client(l->conn, l->cfg.tls, l->host, &e) < 0) {
		let_go(l, false);
		smpp_machine_lost(&l->m, e.text);
	}
}

static void on_tls(void *self)
{
	struct smpp_link *l = self;

	smpp_machine_connected(&l->m);
}

static void on_drained(void *self)
{
	struct smpp_link *l = self;

	smpp_machine_writable(&l->m);
}

static void on_closed(void *self, const struct err *why)
{
	struct smpp_link *l = self;

	l->conn = NULL;
	buf_free(&l->in);
	smpp_machine_lost(&l->m, why->text[0] ? why->text : "closed by the SMS centre");
}

static const struct conn_ops conn_ops = { .on_data = on_data,
					  .on_connected = on_connected,
					  .on_tls = on_tls,
					  .on_drained = on_drained,
					  .on_closed = on_closed };

static void on_resolved(void *arg, int rc, const struct addrinfo *addr)
{
	struct smpp_link *l = arg;
	struct err e = { 0 };
	uint32_t ms = l->cfg.session.connect_ms ? l->cfg.session.connect_ms : 30000;

	l->query = NULL;
	if (rc < 0)
		err_set(&e, rc, "LINK-1", "%s cannot be resolved: %s", l->host, e_name(rc));
	else
		rc = conn_connect(l->loop, addr, ms, &conn_ops, l, OUTPUT_MAX, &l->conn, &e);
	if (rc < 0)
		smpp_machine_lost(&l->m, e.text);
}

/* ---- what the machine asks for ---- */

static uint64_t op_now(void *arg)
{
	struct smpp_link *l = arg;

	return loop_now_ms(l->loop);
}

static uint32_t op_random(void *arg, uint32_t below)
{
	UNUSED(arg);
	return (uint32_t)(rnd_u64() % below);
}

static void op_connect(void *arg)
{
	struct smpp_link *l = arg;

	l->query = resolve(l->resolver, l->host, l->cfg.port, on_resolved, l);
	if (!l->query)
		smpp_machine_lost(&l->m, "out of memory");
}

static void op_disconnect(void *arg, bool flush)
{
	let_go(arg, flush);
}

/* log event: "smpp.out", "smpp.in" */
static void trace_pdu(struct smpp_link *l, const char *event, const struct smpp_pdu *p)
{
	struct buf line;

	if (!log_on(LOG_L_DEBUG))
		return;
	buf_init(&line, 1500);
	smpp_pdu_dump(&line, p, true);
	log_ev(LOG_L_DEBUG, event, KS("link", l->cfg.session.name), KS("pdu", buf_sl(&line)));
	buf_free(&line);
}

static int op_send(void *arg, const struct smpp_pdu *p, struct err *e)
{
	struct smpp_link *l = arg;
	int rc;

	if (!l->conn)
		return E_AGAIN;
	trace_pdu(l, "smpp.out", p);
	buf_reset(&l->out);
	rc = smpp_pdu_encode(&l->out, p, e);
	if (rc < 0)
		return rc;
	rc = conn_write(l->conn, buf_sl(&l->out));
	if (rc == E_LIMIT && p->command_id != SMPP_submit_sm) {
		/* Answers cannot wait: a peer that reads none of a megabyte is gone. */
		log_ev(LOG_L_WARN, "smpp.unread", KS("link", l->cfg.session.name));
		conn_kill(l->conn);
	}
	return rc < 0 ? E_AGAIN : (int)l->out.n;
}

static size_t op_unsent(void *arg)
{
	struct smpp_link *l = arg;

	return l->conn ? conn_output_octets(l->conn) : 0;
}

static void on_state_timer(struct loop_timer *t)
{
	smpp_machine_state_timeout(&container_of(t, struct smpp_link, state_timer)->m);
}

static void on_tick_timer(struct loop_timer *t)
{
	smpp_machine_tick(&container_of(t, struct smpp_link, tick_timer)->m);
}

static void arm(struct smpp_link *l, struct loop_timer *t, uint32_t ms,
		void (*cb)(struct loop_timer *))
{
	if (ms)
		loop_timer_set(l->loop, t, ms, cb);
	else
		loop_timer_clear(t);
}

static void op_arm_state(void *arg, uint32_t ms)
{
	struct smpp_link *l = arg;

	arm(l, &l->state_timer, ms, on_state_timer);
}

static void op_arm_tick(void *arg, uint32_t ms)
{
	struct smpp_link *l = arg;

	arm(l, &l->tick_timer, ms, on_tick_timer);
}

static void op_state(void *arg, bool up, const char *why)
{
	struct smpp_link *l = arg;

	l->ops->on_state(l->arg, l, up, why);
}

static void on_ready_task(struct loop_task *t)
{
	struct smpp_link *l = container_of(t, struct smpp_link, ready_task);

	if (smpp_machine_up(&l->m))
		l->ops->on_ready(l->arg, l);
}

static void op_ready(void *arg)
{
	struct smpp_link *l = arg;

	loop_defer(l->loop, &l->ready_task, on_ready_task);
}

static void op_result(void *arg, uint64_t cookie, enum smpp_result r, uint32_t status, struct sl id)
{
	struct smpp_link *l = arg;

	l->ops->on_submit_result(l->arg, l, cookie, r, status, id);
}

static void give_receipt(struct smpp_link *l, const struct smpp_pdu *p, uint64_t token)
{
	struct smpp_receipt r;
	int rc = smpp_receipt_read(l->pdu_arena, p, &r);

	if (rc == 0) {
		l->ops->on_receipt(l->arg, l, &r, token);
		return;
	}
	/* One that cannot be read will not be more readable the second time. */
	log_ev(LOG_L_WARN, "smpp.receipt.unreadable", KS("link", l->cfg.session.name),
	       KS("from", p->source_addr));
	smpp_machine_deliver_done(&l->m, token,
				  rc == E_NOMEM ? SMPP_ESME_RX_T_APPN : SMPP_ESME_ROK);
}

static void op_deliver(void *arg, const struct smpp_pdu *p, uint64_t token)
{
	struct smpp_link *l = arg;
	struct smpp_in m;

	trace_pdu(l, "smpp.in", p);
	if (smpp_is_receipt(p))
		give_receipt(l, p, token);
	else if (smpp_pdu_in(l->pdu_arena, &l->cfg.sms, p, &m) == 0)
		l->ops->on_deliver(l->arg, l, &m, token);
	else
		smpp_machine_deliver_done(&l->m, token, SMPP_ESME_RX_T_APPN);
}

static const struct smpp_machine_ops machine_ops = {
	.now_ms = op_now,
	.random = op_random,
	.connect = op_connect,
	.disconnect = op_disconnect,
	.send = op_send,
	.unsent = op_unsent,
	.arm_state = op_arm_state,
	.arm_tick = op_arm_tick,
	.state = op_state,
	.ready = op_ready,
	.result = op_result,
	.deliver = op_deliver,
};

/* ---- public ---- */

/* Copy the texts of the configuration; the password lies in the same arena and is wiped at the end.
 */
static int copy_cfg(struct smpp_link *l, const struct smpp_link_cfg *cfg)
{
	struct sl *texts[] = { &l->cfg.session.name,          &l->cfg.session.system_id,
			       &l->cfg.session.password,      &l->cfg.session.system_type,
			       &l->cfg.session.address_range, &l->cfg.sms.service_type };

	l->cfg = *cfg;
	l->cfg.tls = NULL;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		*texts[i] = arena_dup(l->texts, *texts[i]);
		if (!texts[i]->p)
			return E_NOMEM;
	}
	l->host = sl_dup(cfg->host);
	if (!l->host)
		return E_NOMEM;
	if (cfg->tls)
		l->cfg.tls = tls_ctx_ref(cfg->tls);
	return 0;
}

static void destroy(struct smpp_link *l)
{
	if (l->cfg.session.password.n)
		wipe((char *)(uintptr_t)l->cfg.session.password.p, l->cfg.session.password.n);
	if (l->cfg.tls)
		tls_ctx_unref(&l->cfg.tls);
	arena_free(&l->texts);
	buf_free(&l->in);
	buf_free(&l->out);
	free(l->host);
	free(l);
}

int smpp_link_new(struct loop *loop, struct resolver *r, const struct smpp_link_cfg *cfg,
		  const struct smpp_link_ops *ops, void *arg, struct smpp_link **l_r, struct err *e)
{
	int rc = fsm_def_prepare(&smpp_machine_def, e);

	if (rc < 0)
		return rc;
	struct smpp_link *l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, E_NOMEM, NULL, "no memory for a link");
	l->loop = loop;
	l->resolver = r;
	l->ops = ops;
	l->arg = arg;
	l->texts = arena_new(512, 1u << 16);
	buf_init(&l->in, INPUT_MAX);
	buf_init(&l->out, SMPP_PDU_MAX);
	rc = l->texts ? copy_cfg(l, cfg) : E_NOMEM;
	if (rc < 0)
		err_set(e, rc, NULL, "no memory for a link");
	else
		rc = smpp_machine_init(&l->m, &l->cfg.session, &machine_ops, l, e);
	if (rc < 0) {
		destroy(l);
		return rc;
	}
	*l_r = l;
	return 0;
}

void smpp_link_free(struct smpp_link **lp)
{
	struct smpp_link *l = *lp;

	*lp = NULL;
	if (!l)
		return;
	smpp_machine_free(&l->m);
	let_go(l, true);
	loop_task_clear(&l->ready_task);
	destroy(l);
}

void smpp_link_enable(struct smpp_link *l, bool on)
{
	smpp_machine_enable(&l->m, on);
}

void smpp_link_stop(struct smpp_link *l, uint32_t drain_ms, uint32_t unbind_ms)
{
	l->cfg.session.drain_ms = drain_ms;
	l->cfg.session.unbind_ms = unbind_ms;
	smpp_machine_enable(&l->m, false);
}

bool smpp_link_closed(const struct smpp_link *l)
{
	return l->m.fsm.state == SMPP_ST_CLOSED;
}

int smpp_link_submit(struct smpp_link *l, const struct smpp_out *m, uint64_t cookie, struct err *e)
{
	struct arena *a;
	struct smpp_pdu p;
	int rc;

	if (smpp_machine_room(&l->m) == 0)
		return smpp_machine_submit(&l->m, NULL, cookie, e);
	a = arena_new(PDU_ARENA, PDU_ARENA_MAX);
	if (!a)
		return err_set(e, E_NOMEM, NULL, "no memory for a submit_sm");
	rc = smpp_out_pdu(a, &l->cfg.sms, m, &p, e);
	if (rc == 0)
		rc = smpp_machine_submit(&l->m, &p, cookie, e);
	arena_free(&a);
	return rc;
}

uint32_t smpp_link_room(struct smpp_link *l)
{
	return smpp_machine_room(&l->m);
}

int smpp_link_deliver_done(struct smpp_link *l, uint64_t token, uint32_t status)
{
	return smpp_machine_deliver_done(&l->m, token, status);
}

bool smpp_link_up(const struct smpp_link *l)
{
	return smpp_machine_up(&l->m);
}

const char *smpp_link_state(const struct smpp_link *l)
{
	return fsm_state_name(&l->m.fsm);
}

const char *smpp_link_why(const struct smpp_link *l)
{
	return l->m.why;
}

const struct smpp_counts *smpp_link_counts(const struct smpp_link *l)
{
	return &l->m.counts;
}

double smpp_link_rate(const struct smpp_link *l)
{
	return smpp_flow_rate(&l->m.flow);
}

uint32_t smpp_link_in_flight(const struct smpp_link *l)
{
	return l->m.in_flight;
}

unsigned smpp_link_encodings(const struct smpp_link *l)
{
	return smpp_encodings(&l->cfg.sms);
}

void smpp_link_peer(const struct smpp_link *l, char dst[64])
{
	dst[0] = '\0';
	if (l->conn)
		conn_peer_text(l->conn, dst);
}
