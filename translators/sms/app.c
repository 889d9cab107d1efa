/* app.c - tandem-sms: start, bearers, routes, configuration, stop. */
#include "translators/sms/app.h"

#include <unistd.h>

#include "appliance/base/log.h"
#include "appliance/base/rnd.h"
#include "appliance/child/child.h"
#include "appliance/loop/resolve.h"
#include "appliance/loop/tls.h"
#include "translators/sms/sms.h"

#define STOP_DRAIN_MS  1500u /* for the answers to what was sent */
#define STOP_UNBIND_MS 500u  /* and for the one to unbind */
#define STOP_WAIT_MS   2500u /* with the commits of what they say */
#define STOP_POLL_MS   20u
#define NUMBERS_PAGE   1000u
#define PURGE_EVERY_MS 60000u
#define PURGE_ROWS     2000u

/* ---- bearers ----------------------------------------------------------------------------------
 */

unsigned app_bearer_slot(const struct sms_app *a, const struct bearer *b)
{
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (a->bearer[i] == b)
			return i;
	return 0;
}

struct bearer *app_bearer(struct sms_app *a, struct sl name)
{
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (a->bearer[i] && sl_eq(sl_cstr(bearer_name(a->bearer[i])), name))
			return a->bearer[i];
	return NULL;
}

static bool is_default(const struct sms_app *a, const struct bearer *b)
{
	struct sl name = a->cfg->sms.default_link;

	return name.n && sl_eq(sl_cstr(bearer_name(b)), name);
}

/* How well b fits the number: bearer_serves, or as one that takes all numbers. 0: not at all. */
static unsigned fit(const struct sms_app *a, const struct bearer *b, struct sl number)
{
	unsigned len = b ? bearer_serves(b, number) : 0;

	return len == 0 && b && is_default(a, b) ? 1 : len;
}

/* The cheapest with room of those that fit so well; the default link decides where no prefix did.
 */
static struct bearer *cheapest(struct sms_app *a, struct sl number, unsigned len)
{
	struct bearer *best = NULL;

	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++) {
		struct bearer *b = a->bearer[i];
		if (fit(a, b, number) != len || !bearer_up(b))
			continue;
		if (len == 1 && is_default(a, b))
			return bearer_room(b) ? b : NULL;
		if (bearer_room(b) && (!best || bearer_cost(b) < bearer_cost(best)))
			best = b;
	}
	return best;
}

struct bearer *app_route(struct sms_app *a, struct sl number, struct sl link, bool *any_r)
{
	unsigned longest = 0;

	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++) {
		struct bearer *b = a->bearer[i];
		unsigned len = fit(a, b, number);
		if (len == 0 || !bearer_up(b))
			continue;
		if (link.n && sl_eq(sl_cstr(bearer_name(b)), link)) {
			*any_r = true;
			return bearer_room(b) ? b : NULL;
		}
		if (len > longest)
			longest = len;
	}
	*any_r = longest > 0;
	return longest ? cheapest(a, number, longest) : NULL;
}

unsigned app_encodings(const struct sms_app *a, struct sl number)
{
	unsigned encs = ~0u, any = 0;

	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (fit(a, a->bearer[i], number) && bearer_encodings(a->bearer[i])) {
			encs &= bearer_encodings(a->bearer[i]);
			any = 1;
		}
	return any ? encs : 0;
}

bool app_serves(const struct sms_app *a, struct sl number)
{
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (fit(a, a->bearer[i], number))
			return true;
	return false;
}

static void on_state(void *arg, struct bearer *b)
{
	struct sms_app *a = arg;

	UNUSED(b);
	out_unstall(a->out);
}

static void on_room(void *arg, struct bearer *b)
{
	struct sms_app *a = arg;

	UNUSED(b);
	out_pump(a->out);
}

static void on_result(void *arg, struct bearer *b, uint64_t cookie, const struct part_outcome *o)
{
	struct sms_app *a = arg;

	out_result(a->out, b, cookie, o);
}

static void on_message(void *arg, struct bearer *b, const struct sms_in *m, uint64_t token)
{
	struct sms_app *a = arg;

	in_message(a->in, b, m, token);
}

static void on_receipt(void *arg, struct bearer *b, const struct sms_receipt *r, uint64_t token)
{
	struct sms_app *a = arg;

	outcome_receipt(a->outcome, b, r, token);
}

/* A configuration without any bearer has no use for them. */
static const struct bearer_ops bearer_ops __attribute__((unused)) = {
	on_state, on_room, on_result, on_message, on_receipt,
};

static int bearer_slot_new(struct sms_app *a, struct sl name, unsigned *slot_r, struct err *e)
{
	if (name.n && app_bearer(a, name))
		return err_set(e, E_EXISTS, NULL, "there is a link %.*s already", SLARG(name));
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (!a->bearer[i]) {
			*slot_r = i;
			return 0;
		}
	return err_set(e, E_LIMIT, NULL, "at most %d links", SMS_BEARERS_MAX);
}

#ifdef CONFIG_SMS_SMPP
static int link_new(struct sms_app *a, const struct config_link *l, struct bearer **b_r,
		    struct err *e)
{
	return bearer_smpp_new(a->loop, a->resolver, l, &a->np, &bearer_ops, a, b_r, e);
}
#else
static int link_new(struct sms_app *a, const struct config_link *l, struct bearer **b_r,
		    struct err *e)
{
	UNUSED(a);
	UNUSED(b_r);
	return err_set(e, E_UNSUPPORTED, NULL, "link %.*s: SMPP is not built in", SLARG(l->name));
}
#endif

int app_bearer_add(struct sms_app *a, const struct config_link *l, bool from_config, struct err *e)
{
	unsigned slot = 0;
	int rc = bearer_slot_new(a, l->name, &slot, e);

	if (rc == 0)
		rc = link_new(a, l, &a->bearer[slot], e);
	if (rc == 0) {
		a->bearer_from_config[slot] = from_config;
		a->nbearers++;
	}
	return rc;
}

static void bearer_drop(struct sms_app *a, unsigned slot)
{
	struct bearer *b = a->bearer[slot];

	bearer_free_parts(b); /* every part gets its result while the bearer is still known */
	out_forget_bearer(a->out, b);
	outcome_forget_bearer(a->outcome, b);
	a->bearer[slot] = NULL;
	a->nbearers--;
	bearer_free(&b);
}

int app_bearer_del(struct sms_app *a, struct sl name)
{
	struct bearer *b = app_bearer(a, name);

	if (!b)
		return E_NOTFOUND;
	unsigned slot = app_bearer_slot(a, b);
	if (a->bearer_from_config[slot])
		return E_DENIED;
	bearer_drop(a, slot);
	return 0;
}

#ifdef CONFIG_SMS_RADIO
static int add_radio(struct sms_app *a, struct err *e)
{
	unsigned slot = 0;
	int rc;

	if (a->cfg->nhandset == 0)
		return 0;
	rc = bearer_slot_new(a, SL_NULL, &slot, e);
	if (rc == 0)
		rc = bearer_radio_new(a->loop, a->cfg, &a->np, &bearer_ops, a, &a->bearer[slot], e);
	if (rc == 0) {
		a->bearer_from_config[slot] = true;
		a->nbearers++;
	}
	return rc;
}
#else
static int add_radio(struct sms_app *a, struct err *e)
{
	UNUSED(a);
	UNUSED(e);
	return 0;
}
#endif

static int add_config_bearers(struct sms_app *a, struct err *e)
{
	int rc = 0;

	for (uint32_t i = 0; i < a->cfg->nlink && rc == 0; i++)
		rc = app_bearer_add(a, &a->cfg->link[i], true, e);
	return rc ? rc : add_radio(a, e);
}

/* The default link may be added later; until then somebody should know. */
static void check_default(struct sms_app *a)
{
	struct sl name = a->cfg->sms.default_link;

	if (name.n && !app_bearer(a, name))
		log_ev(LOG_L_WARN, "sms.default_link.unknown", KS("link", name));
}

/* ---- the core's side
 * ------------------------------------------------------------------------------ */

static void core_count(void *arg, unsigned n)
{
	struct sms_app *a = arg;

	outbox_count(a->outbox, n);
}

static void core_up(void *arg, unsigned stream, struct component *c, bool custody)
{
	struct sms_app *a = arg;

	a->core_custody = custody;
	outbox_up(a->outbox, stream, c);
}

static void core_down(void *arg, unsigned stream, const char *reason)
{
	struct sms_app *a = arg;

	UNUSED(reason);
	outbox_down(a->outbox, stream);
}

static void core_stanza(void *arg, struct stanza *st, struct component_ticket t)
{
	gateway_stanza(arg, st, t);
}

static void core_acked(void *arg, unsigned stream, uint64_t cookie)
{
	struct sms_app *a = arg;

	outbox_acked(a->outbox, stream, cookie);
}

static const struct streams_ops core_ops = { core_count, core_up, core_down, core_stanza,
					     core_acked };

static enum component_secure secure_of(uint32_t setting)
{
	switch (setting) {
	case CONFIG_SERVER_TLS_REQUIRED:
		return COMPONENT_TLS_ALWAYS;
	case CONFIG_SERVER_TLS_DIRECT:
		return COMPONENT_TLS_FIRST;
	case CONFIG_SERVER_TLS_OFF:
		return COMPONENT_TLS_NEVER;
	default:
		return COMPONENT_TLS_OFFERED;
	}
}

/* Another server than our own core (COMP-15, COMP-16). host: room for its name. */
static int other_server(struct sms_app *a, struct component_cfg *c, char host[CONFIG_HOST_MAX],
			struct err *e)
{
	int rc = config_split_address(a->cfg->sms.server, host, &c->port);

	if (rc < 0)
		return err_set(e, rc, NULL, "sms.server: not an address");
	c->unix_path = SL_NULL;
	c->host = sl_cstr(host);
	c->secret = a->cfg->sms.server_secret;
	c->secure = secure_of(a->cfg->sms.server_tls);
	c->tls_verified = a->cfg->sms.server_ca.n != 0;
	if (c->secure == COMPONENT_TLS_NEVER)
		return 0;
	return tls_ctx_client(a->cfg->sms.server_ca, c->tls_verified, SL_NULL, SL_NULL, &c->tls_ctx,
			      e);
}

static int connect_core(struct sms_app *a, struct err *e)
{
	struct component_cfg c = { .domain = a->cfg->sms.domain,
				   .unix_path = SL(JAIL_CORE_SOCKET) };
	char host[CONFIG_HOST_MAX];
	unsigned most = a->cfg->sms.streams ? a->cfg->sms.streams : STREAMS_MAX;
	int rc = a->cfg->sms.server.n ? other_server(a, &c, host, e) : 0;

	if (rc == 0)
		rc = streams_new(a->loop, a->resolver, &c, most, &core_ops, a, &a->core, e);
	tls_ctx_unref(&c.tls_ctx);
	return rc;
}

/* ---- start
 * ------------------------------------------------------------------------------------------ */

static void set_numplan(struct sms_app *a)
{
	a->np = (struct numplan){ a->cfg->sms.country_code, a->cfg->sms.international_prefix,
				  a->cfg->sms.national_prefix };
}

void sms_commit_failed(struct sms_app *a, const char *what)
{
	sms_count(a, SMS_CNT_STORE_FAILED);
	log_ev(LOG_L_ERROR, "sms.commit.failed", KC("what", what),
	       KC("hint", "is the disk full? it is tried again"));
}

/* Wait for one operation while starting: nothing else runs yet. */
static void sync_done(struct store_op *op)
{
	*(bool *)op->arg = true;
}

static int store_sync(struct sms_app *a, struct store_op *op, enum store_kind kind, struct err *e)
{
	bool done = false;

	store_op_init(op, kind, sync_done, &done);
	store_submit(a->store, op);
	while (!done)
		loop_turn(a->loop, 1000);
	return op->rc < 0 ? err_set(e, op->rc, NULL, "cannot read the database") : 0;
}

static int load_numbers(struct sms_app *a, struct err *e)
{
	uint64_t after = 0;
	unsigned n;

	do {
		struct store_number_list op = { .after = after, .limit = NUMBERS_PAGE };
		int rc = store_sync(a, &op.op, STORE_NUMBER_LIST, e);
		n = rc == 0 ? op.n_r : 0;
		for (unsigned i = 0; i < n && rc == 0; i++)
			rc = numbers_set(a->numbers, op.row_r[i].number, op.row_r[i].jid,
					 op.row_r[i].link);
		if (n)
			after = op.row_r[n - 1].age;
		store_op_fini(&op.op);
		if (rc < 0)
			return rc;
	} while (n == NUMBERS_PAGE);
	return 0;
}

/* Links that were added by command. A setting that this version refuses is logged, not fatal. */
static int load_links(struct sms_app *a, struct err *e)
{
	struct store_link_list op = { 0 };
	int rc = store_sync(a, &op.op, STORE_LINK_LIST, e);

	for (unsigned i = 0; rc == 0 && i < op.n_r; i++) {
		struct config_link *l = NULL;
		struct err le = { 0 };
		json_error_t je;
		json_t *j = json_loadb(op.row_r[i].settings.p, op.row_r[i].settings.n, 0, &je);
		if (!j || config_link_from_json(j, &l, &le) < 0 ||
		    app_bearer_add(a, l, false, &le) < 0)
			log_ev(LOG_L_ERROR, "sms.link.ignored", KS("link", op.row_r[i].name),
			       KE(&le));
		config_link_free(&l);
		json_decref(j);
	}
	store_op_fini(&op.op);
	return rc;
}

int app_start(struct sms_app *a, struct err *e)
{
	set_numplan(a);
	if (!a->traces.next)
		list_init(&a->traces);
	struct store_cfg sc = {
		.engine = "sqlite", .path = "sms.db", .schema = STORE_SMS, .readers = 2
	};
	int rc = loop_new((enum loop_backend)a->cfg->event_backend, &a->loop, e);

	if (rc == 0)
		rc = bus_new(1, &a->bus, e);
	if (rc == 0)
		rc = bus_attach(a->bus, 0, a->loop, a, e);
	if (rc == 0) {
		bus_enter(a->bus, 0);
		rc = store_new(&sc, a->bus, &a->store, e);
	}
	if (rc == 0)
		rc = resolver_new(a->loop, &a->resolver, e);
	if (rc == 0 &&
	    (numbers_new(&a->numbers) < 0 || quota_new(&a->quota) < 0 || out_new(a, &a->out) < 0 ||
	     outcome_new(a, &a->outcome) < 0 || in_new(a, &a->in) < 0 ||
	     outbox_new(a->loop, a->store, &a->ids, &a->outbox) < 0))
		rc = err_set(e, E_NOMEM, NULL, "out of memory");
	if (rc == 0)
		rc = load_numbers(a, e);
	if (rc == 0)
		rc = add_config_bearers(a, e);
	if (rc == 0)
		rc = load_links(a, e);
	if (rc < 0)
		return rc;
	check_default(a);
	out_recover(a->out);
	in_recover(a->in);
	return connect_core(a, e);
}

/* ---- record keeping
 * ------------------------------------------------------------------------------------ */

static void purge(struct sms_app *a);

/* In portions, so that others' commits come between them. */
static void purged(struct store_op *op)
{
	struct sms_app *a = op->arg;
	bool more = op->rc == 0 && a->purge.n_r == PURGE_ROWS;

	a->purging = false;
	store_op_fini(op);
	if (more)
		purge(a);
}

static void purge(struct sms_app *a)
{
	uint64_t keep = (uint64_t)a->cfg->sms.keep_days * 86400000u, now = clock_wall_ms();

	if (a->purging || keep > now)
		return;
	a->purging = true;
	store_op_init(&a->purge.op, STORE_QUEUE_PURGE, purged, a);
	a->purge.before_ms = now - keep;
	a->purge.limit = PURGE_ROWS;
	store_submit(a->store, &a->purge.op);
}

void app_keep_house(struct sms_app *a)
{
	outcome_settle(a->outcome);
	quota_sweep(a->quota, clock_mono_ms());
	purge(a);
}

static void on_purge(struct loop_timer *t)
{
	struct sms_app *a = container_of(t, struct sms_app, purge_timer);

	loop_timer_set(a->loop, t, PURGE_EVERY_MS, on_purge);
	app_keep_house(a);
}

/* ---- reload, stop
 * --------------------------------------------------------------------------------------- */

struct diff {
	struct sms_app *a;
	const struct config *now;
	bool radio;
};

static const struct config_link *find_link(const struct config *c, struct sl name)
{
	for (uint32_t i = 0; i < c->nlink; i++)
		if (sl_eq(c->link[i].name, name))
			return &c->link[i];
	return NULL;
}

/* "link[NAME]" differs: the bearer is made anew; its parts in flight are settled by MSG-7. */
static void differs(void *arg, const char *key, bool needs_restart)
{
	struct diff *d = arg;
	struct sl k = sl_cstr(key);
	struct err e = { 0 };

	UNUSED(needs_restart);
	if (!sl_starts(k, SL("link[")) || k.n < 7)
		return;
	struct sl name = sl_sub(k, 5, sl_find(k, ']', 5));
	struct bearer *b = app_bearer(d->a, name);
	const struct config_link *l = find_link(d->now, name);
	if (b && d->a->bearer_from_config[app_bearer_slot(d->a, b)])
		bearer_drop(d->a, app_bearer_slot(d->a, b));
	if (l && app_bearer_add(d->a, l, true, &e) < 0)
		log_ev(LOG_L_ERROR, "sms.link.ignored", KS("link", name), KE(&e));
}

static int on_reload(void *self, const struct config *cfg, struct err *e)
{
	struct sms_app *a = self;
	struct diff d = { a, cfg, false };
	const struct config *old = a->cfg;

	UNUSED(e);
	a->cfg = cfg;
	set_numplan(a);
	config_compare(old, cfg, CONFIG_SMS, differs, &d);
	config_unref(&old);
	check_default(a);
	out_unstall(a->out);
	return 0;
}

static bool stopped(const struct sms_app *a)
{
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (a->bearer[i] && !bearer_stopped(a->bearer[i]))
			return false;
	return out_settled(a->out);
}

/* The answers of what is in flight are worth a short wait: each one saved is no ambiguous message.
 */
static void on_stop_poll(struct loop_timer *t)
{
	struct sms_app *a = container_of(t, struct sms_app, stop_timer);
	bool in_time = clock_mono_ms() - a->stop_since_ms < STOP_WAIT_MS;

	if (in_time && !stopped(a)) {
		loop_timer_set(a->loop, t, STOP_POLL_MS, on_stop_poll);
		return;
	}
	log_ev(LOG_L_NOTICE, "sms.stopped", KC("settled", in_time ? "yes" : "no"),
	       KU("unanswered", out_open_parts(a->out)));
	loop_stop(a->loop);
}

void app_stop(struct sms_app *a)
{
	a->stopping = true;
	a->stop_since_ms = clock_mono_ms();
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (a->bearer[i])
			bearer_stop(a->bearer[i], STOP_DRAIN_MS, STOP_UNBIND_MS);
	loop_timer_set(a->loop, &a->stop_timer, 1, on_stop_poll);
}

static void on_stop(void *self)
{
	app_stop(self);
}

void app_finish(struct sms_app *a)
{
	for (unsigned i = 0; i < SMS_BEARERS_MAX; i++)
		if (a->bearer[i])
			bearer_drop(a, i);
	if (a->store)
		store_close(a->store);
	for (int i = 0; a->loop && i < 10; i++)
		loop_turn(a->loop, 0);
	streams_free(&a->core);
	for (int i = 0; a->loop && i < 3; i++)
		loop_turn(a->loop, 0);
	outcome_free(&a->outcome);
	out_free(&a->out);
	in_free(&a->in);
	outbox_free(&a->outbox);
	numbers_free(&a->numbers);
	quota_free(&a->quota);
	store_free(&a->store);
	if (a->resolver)
		resolver_free(&a->resolver);
	loop_timer_clear(&a->purge_timer);
}

int sms_main(int argc, char **argv)
{
	static struct sms_app app;
	struct sms_app *a = &app;
	struct child_def def = { .name = "tandem-sms",
				 .who = CONFIG_SMS,
				 .commands = sms_commands(),
				 .reload = on_reload,
				 .stop = on_stop };
	struct err e = { 0 };

	if (argc > 1) {
		printf("tandem-sms is started by tandemd and takes no arguments (%s).\n", argv[1]);
		return 2;
	}
	rnd_init();
	hash_key_init();
	tls_init();
	if (child_start(&def, a, &a->child, &e) < 0) {
		fprintf(stderr, "tandem-sms: %s\n", e.text);
		return 1;
	}
	a->cfg = config_ref(child_config(a->child));
	int rc = jail_enter(a->cfg, CONFIG_SMS, true, &e);
	if (rc == 0)
		rc = app_start(a, &e);
	if (rc == 0)
		rc = child_attach(a->child, a->loop, &e);
	if (rc < 0) {
		log_ev(LOG_L_ERROR, "sms.start.failed", KE(&e));
		child_failed(a->child, &e);
		return 1;
	}
	loop_timer_set(a->loop, &a->purge_timer, PURGE_EVERY_MS, on_purge);
	child_ready(a->child, NULL);
	loop_run(a->loop);
	app_finish(a);
	child_free(&a->child);
	return 0;
}
