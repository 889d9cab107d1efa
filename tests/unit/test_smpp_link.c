/* test_smpp_link.c - a link over real sockets against a small SMS centre in the same loop: plain
 * and TLS, whole and octet by octet. Rules BIND-n, LINK-n, FLOW-6 of docs/rules/smpp.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/resolve.h"
#include "appliance/loop/tls.h"
#include "translators/sms/smpp_link.h"
#include "translators/sms/smpp_status.h"

static struct {
	struct loop *loop;
	struct resolver *resolver;
	struct listener *listener;
	uint16_t port;
	/* the centre */
	struct conn *conn;
	struct tls_ctx *server_tls, *client_tls;
	struct buf in;
	struct arena *arena;
	unsigned binds, submits, resps, nacks, enquires, unbinds, accepts;
	uint32_t bind_status, submit_status, last_seq, last_resp_status, last_nack_status;
	bool mute, silent_submits;
	char texts[4][200];
	/* the upper layer */
	struct smpp_link *link;
	unsigned ups, downs, readies, results, accepted, ambiguous, unsent, refused;
	unsigned delivers, receipts;
	uint64_t token;
	char id[65], text[300], from[40], why[200], receipt_key[300];
	enum smpp_state state;
	bool answer_now;
	uint32_t answer_status;
	uint64_t todo;
} w;

/* ---- the centre ---- */

static void centre_send(const struct smpp_pdu *p)
{
	struct buf b;
	struct err e = { 0 };

	buf_init(&b, SMPP_PDU_MAX);
	if (smpp_pdu_encode(&b, p, &e) < 0)
		fail_msg("%s", e.text);
	conn_write(w.conn, buf_sl(&b));
	buf_free(&b);
}

static void centre_answer(const struct smpp_pdu *p)
{
	struct smpp_pdu r = { .command_id = p->command_id | SMPP_RESP,
			      .sequence_number = p->sequence_number };
	char id[16];

	switch (p->command_id) {
	case SMPP_bind_transceiver:
		w.binds++;
		r.command_status = w.bind_status;
		r.system_id = SL("centre");
		assert_true(sl_eq(p->system_id, SL("tandem")) && sl_eq(p->password, SL("secret")));
		break;
	case SMPP_submit_sm:
		snprintf(id, sizeof(id), "ID%u", w.submits);
		sl_to_cstr(p->short_message, w.texts[w.submits++ % 4], sizeof(w.texts[0]));
		w.last_seq = p->sequence_number;
		if (w.silent_submits)
			return;
		r.command_status = w.submit_status;
		r.message_id = sl_cstr(id);
		break;
	case SMPP_enquire_link:
		w.enquires++;
		break;
	case SMPP_unbind:
		w.unbinds++;
		break;
	case SMPP_deliver_sm_resp:
		w.resps++;
		w.last_seq = p->sequence_number;
		w.last_resp_status = p->command_status;
		return;
	case SMPP_generic_nack:
		w.nacks++;
		w.last_nack_status = p->command_status;
		return;
	default:
		return;
	}
	if (!w.mute)
		centre_send(&r);
}

static void centre_data(void *self, struct sl data)
{
	int n;

	UNUSED(self);
	buf_add(&w.in, data);
	while ((n = smpp_frame(buf_sl(&w.in))) > 0) {
		struct smpp_pdu p;

		assert_int_equal(
			smpp_pdu_decode(w.arena, sl_sub(buf_sl(&w.in), 0, (size_t)n), &p, NULL), 0);
		centre_answer(&p);
		buf_consume(&w.in, (size_t)n);
	}
	assert_int_equal(n, 0);
}

static void centre_closed(void *self, const struct err *why)
{
	UNUSED(self);
	UNUSED(why);
	w.conn = NULL;
	buf_free(&w.in);
}

static void centre_tls(void *self)
{
	UNUSED(self);
}

static const struct conn_ops centre_ops = { .on_data = centre_data,
					    .on_tls = centre_tls,
					    .on_closed = centre_closed };

static void on_accept(void *arg, int fd)
{
	UNUSED(arg);
	w.accepts++;
	assert_null(w.conn);
	assert_int_equal(conn_new(w.loop, fd, &centre_ops, NULL, 1u << 20, &w.conn, NULL), 0);
	if (w.server_tls)
		assert_int_equal(conn_tls_server(w.conn, w.server_tls, NULL), 0);
}

/* ---- the upper layer ---- */

static void submit_more(void)
{
	struct smpp_out m = { .from = SL("+15550199"),
			      .to = SL("+15550100"),
			      .body = { GSM_ENC_7BIT, SL("hello"), { 0 } },
			      .want_receipt = true };

	while (w.todo && smpp_link_submit(w.link, &m, w.todo, NULL) == 0)
		w.todo--;
}

static void up_state(void *arg, struct smpp_link *l, bool up, const char *why)
{
	UNUSED(arg);
	assert_ptr_equal(l, w.link);
	assert_int_equal(up, smpp_link_up(l));
	w.ups += up;
	w.downs += !up;
	snprintf(w.why, sizeof(w.why), "%s", why);
}
static void up_ready(void *arg, struct smpp_link *l)
{
	UNUSED(arg);
	assert_true(smpp_link_room(l) > 0);
	w.readies++;
	submit_more();
}
static void up_result(void *arg, struct smpp_link *l, uint64_t cookie, enum smpp_result r,
		      uint32_t status, struct sl id)
{
	UNUSED(arg);
	UNUSED(l);
	UNUSED(cookie);
	w.results++;
	w.accepted += r == SMPP_RESULT_ACCEPTED;
	w.refused += r == SMPP_RESULT_REFUSED;
	w.ambiguous += r == SMPP_RESULT_AMBIGUOUS;
	w.unsent += r == SMPP_RESULT_UNSENT;
	assert_int_equal(r == SMPP_RESULT_REFUSED, status != 0);
	sl_to_cstr(id, w.id, sizeof(w.id));
}
static void up_deliver(void *arg, struct smpp_link *l, const struct smpp_in *m, uint64_t token)
{
	struct arena *a = arena_new(1024, 1u << 20);
	struct sl text;

	UNUSED(arg);
	w.delivers++;
	w.token = token;
	assert_int_equal(gsm_decode(a, m->body.enc, m->body.data, &text), 0);
	sl_to_cstr(text, w.text, sizeof(w.text));
	sl_to_cstr(m->from, w.from, sizeof(w.from));
	arena_free(&a);
	if (w.answer_now)
		assert_int_equal(smpp_link_deliver_done(l, token, w.answer_status), 0);
}
static void up_receipt(void *arg, struct smpp_link *l, const struct smpp_receipt *r, uint64_t token)
{
	struct smpp_id_key key[SMPP_RECEIPT_KEYS];

	UNUSED(arg);
	assert_true(smpp_receipt_keys(r, key) > 0);
	snprintf(w.receipt_key, sizeof(w.receipt_key), "%s", key[0].s);
	w.state = r->state->value;
	w.receipts++;
	w.token = token;
	if (w.answer_now)
		assert_int_equal(smpp_link_deliver_done(l, token, w.answer_status), 0);
}

static const struct smpp_link_ops ops = { up_state, up_ready, up_result, up_deliver, up_receipt };

/* ---- the rig ---- */

static struct smpp_link_cfg cfg_of(void)
{
	return (struct smpp_link_cfg){
		.session = { .name = SL("test"),
			     .system_id = SL("tandem"),
			     .password = SL("secret"),
			     .window = 10,
			     .backoff_min_ms = 20,
			     .backoff_max_ms = 40,
			     .refused_ms = 50,
			     .drain_ms = 200,
			     .unbind_ms = 200,
			     .connect_ms = 2000,
			     .session_init_ms = 2000 },
		.sms = { SMPP_ALPHABET_GSM7, SMPP_TON_AUTO, SMPP_TON_AUTO, SMPP_TON_AUTO,
			 SMPP_TON_AUTO, SL("") },
		.host = SL("localhost"),
		.port = w.port,
	};
}

static void make_link(const struct smpp_link_cfg *cfg)
{
	struct err e = { 0 };

	if (smpp_link_new(w.loop, w.resolver, cfg, &ops, NULL, &w.link, &e) < 0)
		fail_msg("%s", e.text);
}

static int setup(void **state)
{
	struct sockaddr_in sa;
	socklen_t n = sizeof(sa);
	int fd;

	UNUSED(state);
	memset(&w, 0, sizeof(w));
	log_set_level(LOG_L_ERROR);
	buf_init(&w.in, 1u << 20);
	w.arena = arena_new(4096, 1u << 24);
	w.answer_now = true;
	assert_int_equal(loop_new(LOOP_BACKEND_DEFAULT, &w.loop, NULL), 0);
	assert_int_equal(resolver_new(w.loop, &w.resolver, NULL), 0);
	assert_int_equal(listen_open_tcp("127.0.0.1", 0, 8, &fd, NULL), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	w.port = ntohs(sa.sin_port);
	assert_int_equal(listener_new_fd(w.loop, fd, on_accept, NULL, &w.listener, NULL), 0);
	struct smpp_link_cfg cfg = cfg_of();
	make_link(&cfg);
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	smpp_link_free(&w.link);
	listener_free(&w.listener);
	resolver_free(&w.resolver);
	if (w.conn)
		conn_kill(w.conn);
	for (int i = 0; i < 50; i++)
		loop_turn(w.loop, 1);
	loop_free(&w.loop);
	tls_ctx_unref(&w.server_tls);
	tls_ctx_unref(&w.client_tls);
	arena_free(&w.arena);
	buf_free(&w.in);
	return 0;
}

/* Turn the loop until the condition holds; at most 5 s. */
#define UNTIL(cond) \
	do { \
		uint64_t end = clock_mono_ms() + 5000; \
		while (!(cond) && clock_mono_ms() < end) \
			loop_turn(w.loop, 10); \
		if (!(cond)) \
			fail_msg("never: %s (%s, %s)", #cond, smpp_link_state(w.link), \
				 smpp_link_why(w.link)); \
	} while (0)

static void turns(unsigned ms)
{
	uint64_t end = clock_mono_ms() + ms;

	while (clock_mono_ms() < end)
		loop_turn(w.loop, 5);
}

static void bound(void)
{
	smpp_link_enable(w.link, true);
	UNTIL(smpp_link_up(w.link));
}

static void test_bind_submit_unbind(void **state)
{
	char peer[64];

	UNUSED(state);
	w.todo = 1000;
	bound();
	UNTIL(w.results == 1000);
	assert_int_equal(w.accepted, 1000);
	assert_int_equal(w.submits, 1000);
	assert_string_equal(w.id, "ID999");
	assert_string_equal(w.texts[0], "hello");
	smpp_link_peer(w.link, peer);
	assert_non_null(strstr(peer, "127.0.0.1:"));
	assert_int_equal(smpp_link_encodings(w.link), 5);
	smpp_link_enable(w.link, false);
	UNTIL(smpp_link_closed(w.link));
	assert_int_equal(w.unbinds, 1);
	UNTIL(!w.conn);
	assert_int_equal(w.ups, 1);
	assert_int_equal(w.downs, 1);
}

static void deliver(const char *text, uint8_t esm_class, uint32_t seq)
{
	struct smpp_pdu p = { .command_id = SMPP_deliver_sm,
			      .sequence_number = seq,
			      .esm_class = esm_class,
			      .source_addr_ton = 1,
			      .source_addr = SL("15550100"),
			      .destination_addr = SL("15550199"),
			      .short_message = sl_cstr(text) };

	centre_send(&p);
}

/* FLOW-6: the answer comes when the upper layer gives it. */
static void test_deliver_and_receipt(void **state)
{
	UNUSED(state);
	bound();
	deliver("hello there", 0, 70);
	UNTIL(w.resps == 1);
	assert_string_equal(w.text, "hello there");
	assert_string_equal(w.from, "+15550100");
	assert_int_equal(w.last_seq, 70);
	deliver("id:00ID5 stat:DELIVRD", 4, 71);
	UNTIL(w.resps == 2);
	assert_int_equal(w.receipts, 1);
	assert_string_equal(w.receipt_key, "id5");
	assert_int_equal(w.state, SMPP_STATE_DELIVERED);
	w.answer_now = false;
	deliver("later", 0, 72);
	UNTIL(w.delivers == 2);
	turns(50);
	assert_int_equal(w.resps, 2);
	assert_int_equal(smpp_link_deliver_done(w.link, w.token, SMPP_ESME_RINVDSTADR), 0);
	assert_int_equal(smpp_link_deliver_done(w.link, w.token, 0), E_NOTFOUND);
	UNTIL(w.resps == 3);
	assert_int_equal(w.last_resp_status, SMPP_ESME_RINVDSTADR);
	/* A receipt that says nothing is answered and dropped. */
	deliver("what?", 4, 73);
	UNTIL(w.resps == 4);
	assert_int_equal(w.last_resp_status, 0);
	assert_int_equal(w.receipts, 1);
}

/* Input cut anywhere, and several PDUs at once. */
static void test_octet_by_octet(void **state)
{
	struct smpp_pdu p = { .command_id = SMPP_deliver_sm,
			      .sequence_number = 1,
			      .source_addr = SL("1"),
			      .destination_addr = SL("2"),
			      .short_message = SL("cut") };
	struct buf b;

	UNUSED(state);
	buf_init(&b, 4096);
	bound();
	for (int i = 0; i < 3; i++)
		assert_int_equal(smpp_pdu_encode(&b, &p, NULL), 0);
	for (size_t i = 0; i < b.n; i++) {
		conn_write(w.conn, sl_sub(buf_sl(&b), i, i + 1));
		conn_flush(w.conn);
		loop_turn(w.loop, 0);
		loop_turn(w.loop, 1);
	}
	UNTIL(w.resps == 3);
	assert_int_equal(w.delivers, 3);
	buf_free(&b);
}

/* A message_payload of 64 KiB, far beyond one read. */
static void test_big_pdu(void **state)
{
	static char text[65000];
	struct smpp_tlv t = { SMPP_TLV_message_payload, sl_mk(text, sizeof(text)) };
	struct smpp_pdu p = {
		.command_id = SMPP_deliver_sm, .sequence_number = 5, .tlv = &t, .tlvs = 1
	};

	UNUSED(state);
	memset(text, 'x', sizeof(text));
	bound();
	centre_send(&p);
	deliver("after", 0, 6);
	UNTIL(w.resps == 2);
	assert_string_equal(w.text, "after");
	assert_int_equal(w.delivers, 2);
}

/* LINK-7. */
static void test_framing(void **state)
{
	UNUSED(state);
	bound();
	w.silent_submits = true;
	w.todo = 3;
	submit_more();
	UNTIL(w.submits == 3);
	conn_write(w.conn, SL("\0\0\0\x05garbage"));
	UNTIL(w.nacks == 1);
	assert_int_equal(w.last_nack_status, SMPP_ESME_RINVCMDLEN);
	UNTIL(w.ambiguous == 3);
	UNTIL(w.binds == 2 && smpp_link_up(w.link));
}

/* LINK-2, LINK-4: the connection goes in the middle of traffic; it comes back and goes on. */
static void test_reset_in_traffic(void **state)
{
	UNUSED(state);
	w.todo = 500;
	bound();
	for (unsigned i = 1; i <= 5; i++) {
		UNTIL(w.submits >= i * 50);
		conn_kill(w.conn);
		UNTIL(w.binds == i + 1);
	}
	UNTIL(w.results == 500);
	assert_int_equal(w.accepted + w.ambiguous + w.unsent, 500);
	assert_true(w.ambiguous <= 5 * 10);
	assert_true(w.accepted >= 450);
	assert_int_equal(w.ups, 6);
}

static void test_nobody_listens(void **state)
{
	struct smpp_link_cfg cfg = cfg_of();

	UNUSED(state);
	smpp_link_free(&w.link);
	cfg.port = 1;
	make_link(&cfg);
	smpp_link_enable(w.link, true);
	UNTIL(smpp_link_counts(w.link)->connects >= 3);
	assert_non_null(strstr(smpp_link_why(w.link), "refused"));
	smpp_link_free(&w.link);
	cfg.host = SL("no-such-host.invalid");
	make_link(&cfg);
	smpp_link_enable(w.link, true);
	turns(20);
	smpp_link_free(&w.link);
	cfg = cfg_of();
	make_link(&cfg);
	bound();
}

static void test_refused_bind(void **state)
{
	UNUSED(state);
	w.bind_status = SMPP_ESME_RINVPASWD;
	smpp_link_enable(w.link, true);
	UNTIL(w.binds == 1 && strcmp(smpp_link_state(w.link), "REFUSED") == 0);
	assert_non_null(strstr(smpp_link_why(w.link), "RINVPASWD"));
	w.bind_status = 0;
	UNTIL(smpp_link_up(w.link));
}

static void test_free_in_traffic(void **state)
{
	UNUSED(state);
	w.silent_submits = true;
	w.todo = 7;
	bound();
	UNTIL(w.submits == 7);
	smpp_link_free(&w.link);
	assert_int_equal(w.results, 7);
	assert_int_equal(w.ambiguous, 7);
	assert_int_equal(w.downs, 0);
	for (int i = 0; i < 100 && !w.unbinds; i++)
		loop_turn(w.loop, 5);
	assert_int_equal(w.unbinds, 1);
}

static void test_bad_messages(void **state)
{
	struct smpp_out m = { .to = SL("nobody") };
	struct err e;

	UNUSED(state);
	assert_int_equal(smpp_link_submit(w.link, &m, 1, &e), E_AGAIN);
	bound();
	assert_int_equal(smpp_link_submit(w.link, &m, 1, &e), E_SYNTAX);
	m.to = SL("+1234567890123456789012345");
	assert_int_equal(smpp_link_submit(w.link, &m, 1, &e), E_TOOBIG);
	assert_int_equal(smpp_link_in_flight(w.link), 0);
	struct smpp_link_cfg cfg = cfg_of();
	struct smpp_link *l;
	cfg.session.window = 5000;
	assert_int_equal(smpp_link_new(w.loop, w.resolver, &cfg, &ops, NULL, &l, &e), E_RANGE);
}

static void test_tls(void **state)
{
	struct smpp_link_cfg cfg = cfg_of();
	struct secret key = { 0 };
	char *cert = NULL;

	UNUSED(state);
	tls_init();
	assert_int_equal(tls_self_signed("localhost", 1, &cert, &key, NULL), 0);
	assert_int_equal(
		tls_ctx_server(sl_cstr(cert), sl_mk(key.p, key.n), NULL, &w.server_tls, NULL), 0);
	assert_int_equal(tls_ctx_client(sl_cstr(cert), true, SL_NULL, SL_NULL, &w.client_tls, NULL),
			 0);
	free(cert);
	secret_clear(&key);
	smpp_link_free(&w.link);
	cfg.tls = w.client_tls;
	make_link(&cfg);
	w.todo = 100;
	bound();
	UNTIL(w.accepted == 100);
	deliver("over TLS", 0, 9);
	UNTIL(w.resps == 1);
	assert_string_equal(w.text, "over TLS");
}

/* Messages a second over loopback, both ends in this thread: no assertion, a line for who measures.
 */
static void test_speed(void **state)
{
	UNUSED(state);
	bound();
	w.todo = 50000;
	uint64_t t0 = clock_mono_us();
	submit_more();
	while (w.results < 50000 && clock_mono_us() - t0 < 20000000)
		loop_turn(w.loop, 10);
	assert_int_equal(w.results, 50000);
	print_message("window 10: %.0f messages a second\n",
		      50000e6 / (double)(clock_mono_us() - t0));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_bind_submit_unbind),
		T(test_deliver_and_receipt),
		T(test_octet_by_octet),
		T(test_big_pdu),
		T(test_framing),
		T(test_reset_in_traffic),
		T(test_nobody_listens),
		T(test_refused_bind),
		T(test_free_in_traffic),
		T(test_bad_messages),
		T(test_tls),
		T(test_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
