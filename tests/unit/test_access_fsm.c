/* test_access_fsm.c - the machines of the access layer from their tables: checked, every row taken,
 * every refused pair refused with the protocol's own error. */
#include "tests/unit/access_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <openssl/evp.h>

static int setup(void **state)
{
	UNUSED(state);
	log_set_level(LOG_L_ERROR);
	ar_new();
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	ar_free();
	return 0;
}

static bool has_row(const struct fsm_def *d, uint8_t state, uint8_t event)
{
	for (unsigned i = 0; i < d->nrows; i++)
		if (d->rows[i].event == event &&
		    (d->rows[i].state == state ||
		     (d->rows[i].state == FSM_ANY && !d->states[state].final)))
			return true;
	return false;
}

static void test_tables(void **state)
{
	struct err e = { 0 };

	UNUSED(state);
	if (fsm_def_prepare(&c2s_fsm, &e) || fsm_def_prepare(&comp_fsm, &e) ||
	    fsm_def_prepare(&as_fsm, &e))
		fail_msg("%s", e.text);
}

/* A pair without a row ends the stream with a stream error; in CLOSING nothing more is said. */
static void refused_pair(const struct fsm_def *d, enum access_port port, uint8_t st, uint8_t ev,
			 uint8_t closing, const char *open)
{
	struct stream *s;
	int fd = ar_connect(port, &s);
	const char *said;

	ar_talk(fd, open);
	s->f.state = st;
	fsm_event(&s->f, ev, NULL);
	assert_int_equal(s->f.glitches, 1);
	assert_int_equal(s->f.state, closing);
	ar_turn();
	said = ar_recv(fd);
	if (st == closing)
		assert_null(strstr(said, "<stream:error>"));
	else if (!strstr(said, "</stream:error></stream:stream>"))
		fail_msg("%s in %s: '%s'", d->events[ev], d->states[st].name, said);
	close(fd);
	ar_turn();
}

static void refused(const struct fsm_def *d, enum access_port port, uint8_t closing,
		    const char *open)
{
	unsigned n = 0;

	for (uint8_t st = 0; st < d->nstates; st++) {
		for (uint8_t ev = 0; ev < d->nevents; ev++) {
			if (d->states[st].final || has_row(d, st, ev))
				continue;
			refused_pair(d, port, st, ev, closing, open);
			n++;
		}
	}
	assert_true(n > 50);
}

static void test_refused_c2s(void **state)
{
	UNUSED(state);
	refused(&c2s_fsm, ACCESS_C2S, C2S_CLOSING, AR_OPEN);
}

static void test_refused_component(void **state)
{
	UNUSED(state);
	refused(&comp_fsm, ACCESS_COMPONENT, COMP_CLOSING, AR_COPEN);
}

/* A session has no protocol of its own: it stays what it is. */
static void test_refused_session(void **state)
{
	struct c2s *c;
	int fd;

	UNUSED(state);
	for (uint8_t st = 0; st < AS_ENDED; st++) {
		for (uint8_t ev = 0; ev < AS_EVENTS; ev++) {
			struct asession *as;

			if (has_row(&as_fsm, st, ev))
				continue;
			fd = ar_bound(&c);
			as = c->st.as;
			as->f.state = st;
			fsm_event(&as->f, ev, NULL);
			assert_int_equal(as->f.state, st);
			assert_int_equal(as->f.glitches, 1);
			as->f.state = AS_ATTACHED;
			close(fd);
			ar_turn();
		}
	}
}

/* ---- every row, by conversations ------------------------------------------------------------- */

static void said(int fd, const char *text, const char *want)
{
	const char *got = ar_talk(fd, text);

	if (!got || !strstr(got, want))
		fail_msg("to '%s' came '%s', not '%s'", text, got ? got : "", want);
}

#define SASL_NS "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
#define TLS_NS  "xmlns='urn:ietf:params:xml:ns:xmpp-tls'"

static int open_c2s(struct stream **s)
{
	int fd = ar_connect(ACCESS_C2S, s);

	said(fd, AR_OPEN, "</stream:features>");
	return fd;
}

static void c2s_before_login(void)
{
	struct stream *s;
	int fd = ar_connect(ACCESS_C2S_TLS, &s); /* DIRECT */

	close(fd);
	ar_turn();
	fd = open_c2s(&s);
	said(fd, "<starttls " TLS_NS "/>", "<proceed");
	fsm_event(&s->f, C2S_EV_TLS_UP, NULL);
	close(fd);
	ar_turn();
	fd = open_c2s(&s);
	s->host = core_domain(ar.cfg, SL("echo.localhost")); /* has no certificate */
	said(fd, "<starttls " TLS_NS "/>", "<failure " TLS_NS "/></stream:stream>");
	close(fd);
	ar_turn();
	fd = open_c2s(&s);
	said(fd, "<auth " SASL_NS " mechanism='X'/>", "<invalid-mechanism/>");
	said(fd, "<abort " SASL_NS "/>", "<aborted/>");
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-1'/>", "<challenge");
	said(fd, "<abort " SASL_NS "/>", "<aborted/>");
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPWE=</auth>",
	     "<challenge");
	((struct c2s *)(void *)s)->failures = 0;
	said(fd, "<response " SASL_NS ">Yz1iaXdzLHI9YSxwPWE=</response>", "<failure");
	((struct c2s *)(void *)s)->failures = 4;
	said(fd, "<auth " SASL_NS " mechanism='X'/>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_c2s(&s);
	((struct c2s *)(void *)s)->failures = 4;
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-1'>!</auth>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_c2s(&s);
	((struct c2s *)(void *)s)->failures = 4;
	said(fd, "<abort " SASL_NS "/>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_c2s(&s);
	((struct c2s *)(void *)s)->failures = 4;
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-1'/>", "<challenge");
	said(fd, "<abort " SASL_NS "/>", "<policy-violation");
	close(fd);
	ar_turn();
}

/* The last steps of a login need a real proof; the events are given by hand. */
static void c2s_login(void)
{
	struct stream *s;
	int fd = open_c2s(&s);
	struct c2s *c = container_of(s, struct c2s, st);

	s->f.state = C2S_STEP;
	assert_int_equal(login_new(&(struct login_env){ .w = &ar.w,
							.cfg = ar.cfg,
							.host = SL("localhost"),
							.owner = c },
				   SL("PLAIN"), &c->login),
			 0);
	c->login->user = SL("alice");
	fsm_event(&s->f, C2S_EV_SUCCESS, NULL);
	assert_int_equal(s->f.state, C2S_MOVING);
	c2s_depart(c);
	assert_int_equal(s->f.state, C2S_AUTHED_HEADER);
	ar_recv(fd);
	said(fd, AR_OPEN, "<bind");
	close(fd);
	ar_turn();
}

static const char bind_iq[] =
	"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";

static int authed(struct c2s **c_r)
{
	struct stream *s;
	int fd = open_c2s(&s);

	*c_r = container_of(s, struct c2s, st);
	ar_authed(*c_r);
	said(fd, AR_OPEN, "<bind");
	return fd;
}

static void c2s_after_login(void)
{
	struct c2s *c;
	char text[256];
	int fd = authed(&c), other;

	ar.bind_rc = E_LIMIT;
	said(fd, bind_iq, "<resource-constraint");
	ar.bind_rc = 0;
	said(fd, "<resume xmlns='urn:xmpp:sm:3' h='0' previd='123456789012345678901234'/>",
	     "<failed");
	said(fd, bind_iq, "<jid>alice@localhost/");
	said(fd, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<enabled");
	snprintf(text, sizeof(text), "<resume xmlns='urn:xmpp:sm:3' h='0' previd='%.24s'/>",
		 c->st.as->sm->id);
	other = authed(&c);
	said(other, text, "<resumed"); /* from an attached session */
	assert_non_null(strstr(ar_recv(fd), "<conflict"));
	close(fd);
	close(other);
	ar_turn();
	assert_int_equal(access_worker_totals(&ar.w).detached, 1);
	fd = authed(&c);
	said(fd, text, "<resumed"); /* from a detached one */
	close(fd);
	ar_turn();
	clock_fake_advance_ms(400000);
	ar_turn();
	assert_int_equal(access_worker_totals(&ar.w).sessions, 0); /* expired */
}

static void c2s_ends(void)
{
	struct c2s *c;
	struct stream *s;
	int fd = open_c2s(&s);

	said(fd, "<presence/>", "<not-authorized");
	close(fd);
	ar_turn();

	for (uint8_t ev = 0; ev < C2S_EVENTS; ev++) { /* what comes while closing is not heard */
		if (!has_row(&c2s_fsm, C2S_CLOSING, ev) || ev == C2S_EV_LOST ||
		    ev == C2S_EV_TIMEOUT)
			continue;
		fd = open_c2s(&s);
		fsm_event(&s->f, C2S_EV_CLOSE, NULL);
		fsm_event(&s->f, ev, NULL);
		assert_int_equal(s->f.state, C2S_CLOSING);
		close(fd);
		ar_turn();
	}
	fd = ar_bound(&c); /* the router ends it; with and without an error */
	c->st.as->s.ops->close(&c->st.as->s, NULL, SL_NULL);
	ar_turn();
	assert_string_equal(ar_recv(fd), "</stream:stream>");
	close(fd);
	fd = ar_bound(&c);
	c->st.as->s.ops->close(&c->st.as->s, "conflict", SL("x"));
	ar_turn();
	assert_non_null(strstr(ar_recv(fd), "<conflict"));
	close(fd);
	ar.hold_bind = true; /* gone while the router is being asked */
	fd = authed(&c);
	ar_talk(fd, bind_iq);
	close(fd);
	fsm_event(&c->st.f, C2S_EV_END, NULL);
	ar_turn();
	fd = authed(&c);
	ar_talk(fd, bind_iq);
	conn_kill(c->st.conn);
	ar_turn();
	close(fd);
	ar.hold_bind = false;
	fd = ar_connect(ACCESS_C2S, &s); /* TIMEOUT */
	clock_fake_advance_ms(100000);
	ar_turn();
	assert_non_null(strstr(ar_recv(fd), "<connection-timeout"));
	close(fd);
	ar_turn();
}

static void sessions_end_detached(void)
{
	struct c2s *c;
	struct asession *as;
	int fd = ar_bound(&c);

	said(fd, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<enabled");
	as = c->st.as;
	close(fd);
	ar_turn();
	assert_int_equal(as->f.state, AS_DETACHED);
	as->s.ops->close(&as->s, "conflict", SL_NULL);
	ar_turn();
	assert_int_equal(access_worker_totals(&ar.w).sessions, 0);
}

/* XEP-0114 3: hex of SHA-1(stream id, secret). */
static void handshake(const struct stream *s, char dst[128])
{
	unsigned char d[20];
	char text[64], hex[41];

	snprintf(text, sizeof(text), "%ssecret", s->id);
	EVP_Digest(text, strlen(text), d, NULL, EVP_sha1(), NULL);
	for (int i = 0; i < 20; i++)
		snprintf(hex + 2 * i, 3, "%02x", d[i]);
	snprintf(dst, 128, "<handshake>%s</handshake>", hex);
}

static int open_component(struct stream **s)
{
	int fd = ar_connect(ACCESS_COMPONENT, s);

	said(fd, AR_C1OPEN, "</stream:features>");
	return fd;
}

/* Streams of version 1.0 over TCP. */
static void component_sasl(void)
{
	struct stream *s;
	char text[128];
	int fd = open_component(&s);

	said(fd, "<starttls " TLS_NS "/>", "<proceed");
	fsm_event(&s->f, COMP_EV_TLS_UP, NULL);
	close(fd);
	ar_turn();
	fd = open_component(&s);
	s->port = ACCESS_COMPONENT_TLS; /* as if TLS had come first */
	said(fd, "<starttls " TLS_NS "/>", "<failure " TLS_NS "/></stream:stream>");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	handshake(s, text);
	said(fd, text, "<handshake/>");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	said(fd, "<handshake>x</handshake>", "<not-authorized");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	said(fd, "<auth " SASL_NS " mechanism='X'/>", "<encryption-required/>");
	ar.cfg->component_tls = COMPONENT_TLS_OPTIONAL;
	said(fd, "<auth " SASL_NS " mechanism='X'/>", "<invalid-mechanism/>");
	said(fd, "<abort " SASL_NS "/>", "<aborted/>");
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-256'/>", "<challenge");
	said(fd, "<abort " SASL_NS "/>", "<aborted/>");
	/* n,,n=echo.localhost,r=a */
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-256'>biwsbj1lY2hvLmxvY2FsaG9zdCxyPWE=</auth>",
	     "<challenge");
	((struct comp *)(void *)s)->failures = 0;
	said(fd, "<response " SASL_NS ">Yz1iaXdzLHI9YSxwPWE=</response>", "<failure");
	((struct comp *)(void *)s)->failures = 4;
	said(fd, "<auth " SASL_NS " mechanism='X'/>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	((struct comp *)(void *)s)->failures = 4;
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-256'>!</auth>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	((struct comp *)(void *)s)->failures = 4;
	said(fd, "<abort " SASL_NS "/>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	((struct comp *)(void *)s)->failures = 4;
	said(fd, "<auth " SASL_NS " mechanism='SCRAM-SHA-256'/>", "<challenge");
	said(fd, "<abort " SASL_NS "/>", "<policy-violation");
	close(fd);
	ar_turn();
	fd = open_component(&s);
	s->f.state = COMP_STEP; /* the last step needs a real proof: by hand */
	assert_int_equal(login_new(&(struct login_env){ .w = &ar.w,
							.cfg = ar.cfg,
							.host = SL("echo.localhost"),
							.component = true,
							.owner = s },
				   SL("PLAIN"), &((struct comp *)(void *)s)->login),
			 0);
	fsm_event(&s->f, COMP_EV_SUCCESS, NULL);
	assert_int_equal(s->f.state, COMP_MOVING);
	comp_depart((struct comp *)(void *)s);
	ar_recv(fd);
	said(fd, AR_C1OPEN, "<sm ");
	close(fd);
	ar_turn();
	ar.cfg->component_tls = COMPONENT_TLS_REQUIRED;
}

static void component_rows(void)
{
	struct stream *s;
	char text[128];
	int fd = ar_connect(ACCESS_COMPONENT_TLS, &s);

	fsm_event(&s->f, COMP_EV_TLS_UP, NULL);
	close(fd);
	ar_turn();
	fd = ar_connect(ACCESS_COMPONENT, &s);
	said(fd, AR_COPEN, "<stream:stream");
	said(fd, "<handshake>x</handshake>", "<not-authorized");
	close(fd);
	fd = ar_connect(ACCESS_COMPONENT, &s);
	said(fd, AR_COPEN, "<stream:stream");
	handshake(s, text);
	said(fd, text, "<handshake/>");
	said(fd, "<presence from='x.localhost' to='alice@localhost'/>", "<invalid-from");
	close(fd);
	ar_turn();
	fd = ar_connect(ACCESS_COMPONENT, &s);
	said(fd, AR_COPEN, "<stream:stream");
	said(fd, "</stream:stream>", "</stream:stream>");
	close(fd);
	ar_turn();
	for (int enable = 0; enable < 2; enable++) {
		fd = ar_connect(ACCESS_COMPONENT_UNIX, &s);
		said(fd, AR_UOPEN, "EXTERNAL");
		said(fd, "<auth " SASL_NS " mechanism='EXTERNAL'>=</auth>", "<success");
		said(fd, AR_UOPEN, "<sm ");
		if (enable)
			said(fd, "<enable xmlns='urn:xmpp:sm:3'/>", "<enabled");
		else
			said(fd, "<presence from='sms.localhost' to='alice@localhost'/>", "");
		assert_int_equal(s->f.state, COMP_UP);
		close(fd);
		ar_turn();
	}
	fd = ar_connect(ACCESS_COMPONENT_UNIX, &s);
	said(fd, AR_UOPEN, "EXTERNAL");
	said(fd, "<auth " SASL_NS " mechanism='PLAIN'>=</auth>", "<not-authorized");
	close(fd);
	for (uint8_t ev = 0; ev < COMP_EVENTS; ev++) {
		if (!has_row(&comp_fsm, COMP_CLOSING, ev) || ev == COMP_EV_LOST ||
		    ev == COMP_EV_TIMEOUT)
			continue;
		fd = ar_connect(ACCESS_COMPONENT, &s);
		said(fd, AR_COPEN, "<stream:stream");
		s->kind->end(s, "reset", SL_NULL);
		fsm_event(&s->f, ev, NULL);
		close(fd);
		ar_turn();
	}
	fd = ar_connect(ACCESS_COMPONENT, &s);
	clock_fake_advance_ms(100000);
	ar_turn();
	assert_non_null(strstr(ar_recv(fd), "<connection-timeout"));
	close(fd);
	ar_turn();
}

static void all_hit(const struct fsm_def *d)
{
	uint16_t rows[64], n = fsm_rows_unhit(d, rows, ARRAY_LEN(rows));
	char text[2048] = "";
	size_t at = 0;

	for (uint16_t i = 0; i < n && i < ARRAY_LEN(rows); i++) {
		const struct fsm_row *r = &d->rows[rows[i]];

		at += (size_t)snprintf(text + at, sizeof(text) - at, " %s/%s(%u)",
				       r->state == FSM_ANY ? "*" : d->states[r->state].name,
				       d->events[r->event], rows[i]);
	}
	if (n)
		fail_msg("%s: rows that were not taken:%s", d->name, text);
}

static void test_rows(void **state)
{
	UNUSED(state);
	clock_fake(true, 1000000, 1700000000000);
	c2s_before_login();
	c2s_login();
	c2s_after_login();
	c2s_ends();
	sessions_end_detached();
	component_sasl();
	component_rows();
	clock_fake(false, 0, 0);
	all_hit(&c2s_fsm);
	all_hit(&comp_fsm);
	all_hit(&as_fsm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test_setup_teardown(test_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_c2s, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_component, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_session, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
