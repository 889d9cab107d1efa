/* test_component_link.c - our component client against our core over TCP and the Unix socket: every
 * way of TLS and login, custody, and what must be refused (COMP-9 to COMP-17). */
#include "tests/unit/core_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "appliance/base/log.h"
#include "appliance/loop/resolve.h"
#include "appliance/loop/tls.h"
#include "translators/common/component.h"

static struct core_rig rig;

static struct {
	struct loop *loop;
	struct resolver *resolver;
	struct component *c;
	struct tls_ctx *tls;
	bool up, custody;
	unsigned nstanzas, nacked;
	char last[64];
	char logged[4096];
} t;

static void on_up(void *arg, bool custody)
{
	UNUSED(arg);
	t.up = true;
	t.custody = custody;
}

static void on_down(void *arg, const char *reason)
{
	UNUSED(arg);
	UNUSED(reason);
	t.up = false;
}

static void on_stanza(void *arg, struct stanza *st, struct component_ticket k)
{
	UNUSED(arg);
	t.nstanzas++;
	assert_int_equal(sl_to_cstr(st->id, t.last, sizeof(t.last)), 0);
	stanza_unref(&st);
	component_done(t.c, k);
}

static void on_acked(void *arg, uint64_t cookie)
{
	UNUSED(arg);
	UNUSED(cookie);
	t.nacked++;
}

static const struct component_ops ops = { on_up, on_down, on_stanza, on_acked };

static void keep_line(void *arg, struct sl line)
{
	size_t n = strlen(t.logged);

	UNUSED(arg);
	if (n + line.n + 2 < sizeof(t.logged))
		snprintf(t.logged + n, sizeof(t.logged) - n, SLFMT "\n", SLARG(line));
}

static int set_up(void **state)
{
	UNUSED(state);
	memset(&t, 0, sizeof(t));
	core_rig_new(&rig, false);
	core_rig_account(&rig, "localhost", "alice", "wonder");
	assert_int_equal(loop_new(LOOP_BACKEND_DEFAULT, &t.loop, NULL), 0);
	assert_int_equal(resolver_new(t.loop, &t.resolver, NULL), 0);
	assert_int_equal(tls_ctx_client(SL_NULL, false, SL_NULL, SL_NULL, &t.tls, NULL), 0);
	return 0;
}

static void disconnect(void)
{
	component_free(&t.c);
	for (unsigned i = 0; i < 20; i++)
		loop_turn(t.loop, 5);
	t.up = false;
}

static int tear_down(void **state)
{
	UNUSED(state);
	disconnect();
	log_capture(NULL, NULL);
	tls_ctx_unref(&t.tls);
	resolver_free(&t.resolver);
	loop_free(&t.loop);
	core_rig_free(&rig);
	return 0;
}

static void until(const bool *flag)
{
	for (unsigned i = 0; i < 2000 && !*flag; i++)
		loop_turn(t.loop, 5);
	assert_true(*flag);
}

static void connect_to(enum access_port port, enum component_secure how, struct sl domain,
		       struct sl secret)
{
	struct component_cfg cfg = { .domain = domain,
				     .host = SL("127.0.0.1"),
				     .port = rig.port[port],
				     .secret = secret,
				     .secure = how,
				     .tls_ctx = t.tls };

	if (port == ACCESS_COMPONENT_UNIX)
		cfg.unix_path = sl_cstr(rig.unix_path);
	t.logged[0] = '\0';
	assert_int_equal(component_new(t.loop, t.resolver, &cfg, &ops, NULL, &t.c, NULL), 0);
}

/* One message there and back: from the component to itself, by way of the core. */
static void round_trip(const char *domain)
{
	static unsigned number;
	char xml[256], id[32];
	unsigned n = t.nstanzas, acked = t.nacked;
	int len;

	snprintf(id, sizeof(id), "r%u", ++number);
	len = snprintf(xml, sizeof(xml),
		       "<message from='%s' to='x@%s' id='%s'><body>x</body></message>", domain,
		       domain, id);
	assert_int_equal(component_send(t.c, sl_mk(xml, (size_t)len), number), 0);
	for (unsigned i = 0; i < 2000 && (t.nstanzas == n || t.nacked == acked); i++)
		loop_turn(t.loop, 5);
	assert_int_equal(t.nstanzas, n + 1);
	assert_int_equal(t.nacked, acked + 1);
	assert_string_equal(t.last, id);
}

static const char *mechanism(void)
{
	const char *at = strstr(t.logged, " mechanism=");
	static char name[32];

	assert_non_null(at);
	assert_int_equal(sscanf(at, " mechanism=%31[A-Z0-9-]", name), 1);
	return name;
}

static void test_ways(void **state)
{
	static const struct {
		enum access_port port;
		enum component_secure how;
		enum component_tls server;
		const char *mechanism; /* NULL: XEP-0114 */
	} way[] = {
		{ ACCESS_COMPONENT, COMPONENT_TLS_ALWAYS, COMPONENT_TLS_REQUIRED,
		  "SCRAM-SHA-512-PLUS" },
		{ ACCESS_COMPONENT, COMPONENT_TLS_OFFERED, COMPONENT_TLS_REQUIRED,
		  "SCRAM-SHA-512-PLUS" },
		{ ACCESS_COMPONENT, COMPONENT_TLS_OFFERED, COMPONENT_TLS_OPTIONAL,
		  "SCRAM-SHA-512-PLUS" },
		{ ACCESS_COMPONENT_TLS, COMPONENT_TLS_FIRST, COMPONENT_TLS_REQUIRED,
		  "SCRAM-SHA-512-PLUS" },
		{ ACCESS_COMPONENT, COMPONENT_TLS_OFFERED, COMPONENT_TLS_OFF, NULL },
		{ ACCESS_COMPONENT, COMPONENT_TLS_NEVER, COMPONENT_TLS_REQUIRED, NULL },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(way); i++) {
		rig.cfg->component_tls = way[i].server;
		core_rig_start(&rig);
		log_set_level(LOG_L_INFO);
		log_capture(keep_line, NULL);
		connect_to(way[i].port, way[i].how, SL("far.localhost"), SL("distance"));
		until(&t.up);
		assert_int_equal(t.custody, way[i].mechanism != NULL);
		if (way[i].mechanism)
			assert_string_equal(mechanism(), way[i].mechanism);
		else
			assert_null(strstr(t.logged, "mechanism="));
		round_trip("far.localhost");
		disconnect();
		core_rig_stop(&rig);
	}
}

/* Without -PLUS: by what the client has been told, or not at all (COMP-16). */
static void test_without_binding(void **state)
{
	UNUSED(state);
	rig.cfg->mechanisms = SL("SCRAM-SHA-256 PLAIN");
	core_rig_start(&rig);
	log_set_level(LOG_L_INFO);
	log_capture(keep_line, NULL);
	connect_to(ACCESS_COMPONENT, COMPONENT_TLS_OFFERED, SL("far.localhost"), SL("distance"));
	until(&t.up);
	assert_string_equal(mechanism(), "SCRAM-SHA-256");
	round_trip("far.localhost");
	disconnect();
	connect_to(ACCESS_COMPONENT, COMPONENT_TLS_ALWAYS, SL("far.localhost"), SL("distance"));
	for (unsigned i = 0; i < 400 && !strstr(t.logged, "component.insecure"); i++)
		loop_turn(t.loop, 5);
	assert_non_null(strstr(t.logged, "component.insecure"));
	assert_false(t.up);
	assert_null(strstr(t.logged, "ev=auth"));
}

static void refused(enum access_port port, enum component_secure how, const char *domain,
		    const char *secret, const char *event)
{
	connect_to(port, how, sl_cstr(domain), sl_cstr(secret));
	for (unsigned i = 0; i < 800 && !strstr(t.logged, event); i++)
		loop_turn(t.loop, 5);
	if (!strstr(t.logged, event))
		fail_msg("%s: no %s in\n%s", domain, event, t.logged);
	assert_false(t.up);
	disconnect();
}

static void test_refused(void **state)
{
	UNUSED(state);
	core_rig_start(&rig);
	log_set_level(LOG_L_INFO);
	log_capture(keep_line, NULL);
	refused(ACCESS_COMPONENT, COMPONENT_TLS_ALWAYS, "far.localhost", "guess",
		"ev=component.refused");
	refused(ACCESS_COMPONENT, COMPONENT_TLS_ALWAYS, "nobody.localhost", "distance",
		"ev=component.refused");
	refused(ACCESS_COMPONENT, COMPONENT_TLS_ALWAYS, "sms.localhost", "distance",
		"ev=component.refused");
	refused(ACCESS_COMPONENT, COMPONENT_TLS_NEVER, "far.localhost", "guess",
		"ev=component.refused");
	core_rig_stop(&rig);
	/* No TLS where it must be. */
	rig.cfg->component_tls = COMPONENT_TLS_OFF;
	core_rig_start(&rig);
	refused(ACCESS_COMPONENT, COMPONENT_TLS_ALWAYS, "far.localhost", "distance",
		"ev=component.insecure");
}

static void test_unix(void **state)
{
	UNUSED(state);
	core_rig_start(&rig);
	connect_to(ACCESS_COMPONENT_UNIX, COMPONENT_TLS_NEVER, SL("sms.localhost"), SL_NULL);
	until(&t.up);
	assert_true(t.custody);
	round_trip("sms.localhost");
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_ways), T(test_without_binding), T(test_refused),
					    T(test_unix) };

	log_set_level(LOG_L_ERROR);
	return cmocka_run_group_tests_name("component_link", tests, NULL, NULL);
}
