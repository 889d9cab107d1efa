/* test_store.c - every kind of operation with its results, on the SQLite engine (store.h). Groups,
 * failures, threads and migrations are in test_store_write.c and test_store_open.c. */
#include "tests/unit/store_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define assert_sl(s, lit) assert_true(sl_eq((s), SL(lit)))
#define DO(op_)           assert_int_equal(rig_do(r, &(op_).op), 0)

static int setup_schema(void **state, enum store_schema schema)
{
	struct store_rig *r = malloc(sizeof(*r));
	struct err e;

	rig_new(r, schema);
	assert_int_equal(rig_open(r, &e), 0);
	*state = r;
	return 0;
}

static int setup_core(void **state)
{
	return setup_schema(state, STORE_CORE);
}

static int setup_sms(void **state)
{
	return setup_schema(state, STORE_SMS);
}

static int teardown(void **state)
{
	rig_free(*state);
	free(*state);
	return 0;
}

/* ---- accounts ---- */

static struct store_account_put account(struct sl host, struct sl user)
{
	return (struct store_account_put){ .op = RIG_OP(STORE_ACCOUNT_PUT),
					   .host = host,
					   .user = user,
					   .verifier = { SL("v-one"), SL("v-two") } };
}

static void test_account_put_get(void **state)
{
	struct store_rig *r = *state;
	struct store_account_put p = account(SL("a.example"), SL("ann"));
	struct store_account_get g = { .op = RIG_OP(STORE_ACCOUNT_GET),
				       .host = SL("a.example"),
				       .user = SL("ann") };

	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
	DO(p);
	assert_false(p.existed_r);
	DO(g);
	assert_true(g.found_r);
	assert_sl(g.verifier_r[0], "v-one");
	assert_sl(g.verifier_r[1], "v-two");
	assert_int_equal(g.verifier_r[2].n, 0);
	assert_true(g.created_ms_r > 1000);
	store_op_fini(&g.op);
	/* the same node in another virtual host is somebody else */
	g.host = SL("b.example");
	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
}

static void test_account_only(void **state)
{
	struct store_rig *r = *state;
	struct store_account_put p = account(SL("h"), SL("u"));
	struct store_account_get g = { .op = RIG_OP(STORE_ACCOUNT_GET),
				       .host = SL("h"),
				       .user = SL("u") };

	p.update_only = true;
	DO(p);
	assert_false(p.existed_r);
	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
	p.update_only = false;
	DO(p);
	p.verifier[0] = SL("changed");
	p.verifier[1] = SL_NULL;
	p.create_only = true;
	DO(p);
	assert_true(p.existed_r);
	DO(g);
	assert_sl(g.verifier_r[0], "v-one");
	store_op_fini(&g.op);
	p.create_only = false;
	p.update_only = true;
	DO(p);
	assert_true(p.existed_r);
	DO(g);
	assert_sl(g.verifier_r[0], "changed");
	assert_int_equal(g.verifier_r[1].n, 0);
	store_op_fini(&g.op);
}

static void test_account_list(void **state)
{
	struct store_rig *r = *state;
	static const struct sl who[][2] = { { SL("b"), SL("x") },
					    { SL("a"), SL("z") },
					    { SL("a"), SL("y") } };
	struct store_account_list l = { .op = RIG_OP(STORE_ACCOUNT_LIST), .limit = 2 };

	for (size_t i = 0; i < ARRAY_LEN(who); i++) {
		struct store_account_put p = account(who[i][0], who[i][1]);
		DO(p);
	}
	DO(l);
	assert_int_equal(l.n_r, 2);
	assert_sl(l.row_r[0].user, "y");
	assert_sl(l.row_r[1].user, "z");
	store_op_fini(&l.op);
	l.after_host = SL("a");
	l.after_user = SL("z");
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.row_r[0].host, "b");
	store_op_fini(&l.op);
	l.host = SL("a");
	l.after_user = SL("y");
	l.limit = 100;
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.row_r[0].user, "z");
	store_op_fini(&l.op);
}

static void put_mail(struct store_rig *r, uint64_t id, struct sl owner, uint64_t expires_ms)
{
	struct store_mail_put p = { .op = RIG_OP(STORE_MAIL_PUT),
				    .id = id,
				    .owner = owner,
				    .sender = SL("s@h"),
				    .stamp_ms = id,
				    .expires_ms = expires_ms,
				    .stanza = SL("<message/>") };
	DO(p);
	assert_true(p.row_made_r);
}

static unsigned mail_of(struct store_rig *r, struct sl owner)
{
	struct store_mail_count n = { .op = RIG_OP(STORE_MAIL_COUNT), .owner = owner };

	DO(n);
	return (unsigned)n.n_r;
}

static void test_account_del(void **state)
{
	struct store_rig *r = *state;
	struct store_account_put p = account(SL("h"), SL("u"));
	struct store_roster_put ro = { .op = RIG_OP(STORE_ROSTER_PUT),
				       .owner = SL("u@h"),
				       .item = { .jid = SL("x@y") } };
	struct store_sm_put sm = { .op = RIG_OP(STORE_SM_PUT),
				   .sm_id = SL("s1"),
				   .owner = SL("u@h"),
				   .resource = SL("r") };
	struct store_account_del d = { .op = RIG_OP(STORE_ACCOUNT_DEL),
				       .host = SL("h"),
				       .user = SL("u") };
	struct store_roster_load rl = { .op = RIG_OP(STORE_ROSTER_LOAD), .owner = SL("u@h") };
	struct store_sm_get sg = { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("s1") };

	DO(p);
	DO(ro);
	DO(sm);
	put_mail(r, 1, SL("u@h"), 0);
	put_mail(r, 2, SL("u@other"), 0);
	DO(d);
	assert_true(d.existed_r);
	DO(rl);
	assert_int_equal(rl.n_r, 0);
	store_op_fini(&rl.op);
	DO(sg);
	assert_false(sg.found_r);
	store_op_fini(&sg.op);
	assert_int_equal(mail_of(r, SL("u@h")), 0);
	assert_int_equal(mail_of(r, SL("u@other")), 1);
	DO(d);
	assert_false(d.existed_r);
	/* the number of the owner is used again: nobody inherits */
	put_mail(r, 3, SL("new@h"), 0);
	assert_int_equal(mail_of(r, SL("new@h")), 1);
	assert_int_equal(mail_of(r, SL("u@h")), 0);
}

/* ---- roster ---- */

static void test_roster(void **state)
{
	struct store_rig *r = *state;
	struct store_roster_put p = { .op = RIG_OP(STORE_ROSTER_PUT),
				      .owner = SL("u@h"),
				      .item = { .jid = SL("x@y"),
						.name = SL("X"),
						.groups = SL("Friends\nWork\n"),
						.subscription = STORE_SUB_FROM,
						.in_roster = true,
						.ask = true,
						.pending_in = true,
						.approved = true,
						.request = SL("<presence type='subscribe'/>") } };
	struct store_roster_load l = { .op = RIG_OP(STORE_ROSTER_LOAD), .owner = SL("u@h") };
	struct store_roster_del d = { .op = RIG_OP(STORE_ROSTER_DEL),
				      .owner = SL("u@h"),
				      .jid = SL("x@y") };

	DO(d); /* nobody there: fine */
	DO(p);
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.item_r[0].jid, "x@y");
	assert_sl(l.item_r[0].name, "X");
	assert_sl(l.item_r[0].groups, "Friends\nWork\n");
	assert_sl(l.item_r[0].request, "<presence type='subscribe'/>");
	assert_int_equal(l.item_r[0].subscription, STORE_SUB_FROM);
	assert_true(l.item_r[0].in_roster && l.item_r[0].ask && l.item_r[0].pending_in &&
		    l.item_r[0].approved);
	store_op_fini(&l.op);
	p.item = (struct store_roster_item){ .jid = SL("x@y"),
					     .subscription = STORE_SUB_BOTH,
					     .pending_in = true };
	DO(p);
	p.item.jid = SL("a@y");
	DO(p);
	DO(l);
	assert_int_equal(l.n_r, 2);
	assert_sl(l.item_r[0].jid, "a@y");
	assert_int_equal(l.item_r[1].subscription, STORE_SUB_BOTH);
	assert_int_equal(l.item_r[1].name.n, 0);
	assert_false(l.item_r[1].in_roster || l.item_r[1].ask || l.item_r[1].approved);
	assert_true(l.item_r[1].pending_in);
	store_op_fini(&l.op);
	DO(d);
	DO(l);
	assert_int_equal(l.n_r, 1);
	store_op_fini(&l.op);
}

/* ---- mail ---- */

static void test_mail_load(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_load l = { .op = RIG_OP(STORE_MAIL_LOAD),
				     .owner = SL("u@h"),
				     .limit = 2 };
	const uint64_t ids[] = { 10, 20 };
	struct store_mail_del d = { .op = RIG_OP(STORE_MAIL_DEL), .id = ids, .n = 2 };
	struct store_mail_maxid m = { .op = RIG_OP(STORE_MAIL_MAXID) };

	DO(m);
	assert_int_equal(m.id_r, 0);
	put_mail(r, 30, SL("u@h"), 0);
	put_mail(r, 10, SL("u@h"), 77);
	put_mail(r, 15, SL("sms.h"), 0);
	put_mail(r, 20, SL("u@h"), 0);
	DO(l);
	assert_int_equal(l.n_r, 2);
	assert_int_equal(l.row_r[0].id, 10);
	assert_int_equal(l.row_r[0].stamp_ms, 10);
	assert_int_equal(l.row_r[0].expires_ms, 77);
	assert_sl(l.row_r[0].owner, "u@h");
	assert_sl(l.row_r[0].sender, "s@h");
	assert_sl(l.row_r[0].stanza, "<message/>");
	assert_int_equal(l.row_r[1].id, 20);
	assert_true(l.more_r);
	store_op_fini(&l.op);
	l.octets = 1; /* one row in any case */
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_true(l.more_r);
	store_op_fini(&l.op);
	l.octets = 1000;
	l.after = 20;
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_int_equal(l.row_r[0].id, 30);
	assert_false(l.more_r);
	store_op_fini(&l.op);
	DO(d);
	DO(d); /* again: fine */
	assert_int_equal(mail_of(r, SL("u@h")), 1);
	assert_int_equal(mail_of(r, SL("sms.h")), 1);
	assert_int_equal(mail_of(r, SL_NULL), 2);
	assert_int_equal(mail_of(r, SL("nobody@h")), 0);
	DO(m);
	assert_int_equal(m.id_r, 30);
}

static void test_mail_expired(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_expired x = { .op = RIG_OP(STORE_MAIL_EXPIRED),
					.now_ms = 99,
					.limit = 10 };

	put_mail(r, 1, SL("sms.h"), 100);
	put_mail(r, 2, SL("u@h"), 99);
	put_mail(r, 3, SL("sms.h"), 50);
	put_mail(r, 4, SL("u@h"), 0);
	DO(x);
	assert_int_equal(x.n_r, 2);
	assert_int_equal(x.row_r[0].id, 3);
	assert_sl(x.row_r[0].owner, "sms.h");
	assert_sl(x.row_r[1].owner, "u@h");
	store_op_fini(&x.op);
	x.limit = 1;
	DO(x);
	assert_int_equal(x.n_r, 1);
	store_op_fini(&x.op);
}

static void test_mail_id_taken(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_put p = { .op = RIG_OP(STORE_MAIL_PUT),
				    .id = 5,
				    .owner = SL("u@h"),
				    .sender = SL("s@h"),
				    .origin_id = SL("o1"),
				    .stanza = SL("<a/>") };

	put_mail(r, 5, SL("v@h"), 0);
	DO(p);
	assert_true(p.id_taken_r);
	assert_false(p.row_made_r || p.duplicate_r);
	p.id = 6; /* and its duplicate mark was not kept */
	DO(p);
	assert_true(p.row_made_r);
	assert_false(p.id_taken_r || p.duplicate_r);
	assert_int_equal(mail_of(r, SL("v@h")), 1);
}

static void test_mail_skip_row(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_put p = { .op = RIG_OP(STORE_MAIL_PUT),
				    .id = 5,
				    .owner = SL("u@h"),
				    .sender = SL("s@h"),
				    .origin_id = SL("o1"),
				    .stanza = SL("<a/>"),
				    .sm_id = SL("sm"),
				    .sm_h = 7 };
	struct store_sm_put sm = {
		.op = RIG_OP(STORE_SM_PUT), .sm_id = SL("sm"), .owner = SL("s@h"), .h = 1
	};
	struct store_sm_get g = { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("sm") };

	DO(sm);
	p.skip_row = true;
	DO(p);
	assert_false(p.row_made_r || p.duplicate_r);
	assert_int_equal(mail_of(r, SL("u@h")), 0);
	DO(g);
	assert_int_equal(g.h_r, 7);
	store_op_fini(&g.op);
	p.skip_row = false;
	DO(p);
	assert_true(p.duplicate_r);
	assert_int_equal(mail_of(r, SL("u@h")), 0);
}

static bool is_duplicate(struct store_rig *r, uint64_t id, struct sl sender, struct sl origin,
			 uint64_t stamp_ms)
{
	struct store_mail_put p = { .op = RIG_OP(STORE_MAIL_PUT),
				    .id = id,
				    .owner = SL("u@h"),
				    .sender = sender,
				    .origin_id = origin,
				    .stamp_ms = stamp_ms,
				    .stanza = SL("<a/>") };
	DO(p);
	assert_true(p.row_made_r != p.duplicate_r);
	return p.duplicate_r;
}

static void test_seen(void **state)
{
	struct store_rig *r = *state;
	struct store_seen_purge x = { .op = RIG_OP(STORE_SEEN_PURGE),
				      .before_ms = 200,
				      .limit = 100 };
	struct err e;

	assert_false(is_duplicate(r, 1, SL("a@h"), SL("o"), 100));
	assert_true(is_duplicate(r, 2, SL("a@h"), SL("o"), 101));
	assert_false(is_duplicate(r, 3, SL("a@h"), SL("p"), 102));
	assert_false(is_duplicate(r, 4, SL("b@h"), SL("o"), 200));
	assert_false(is_duplicate(r, 5, SL("a@ho"), SL(""), 201)); /* no origin id: never */
	assert_false(is_duplicate(r, 6, SL("a@ho"), SL(""), 202));
	assert_false(is_duplicate(r, 7, SL("b@"), SL("ho"), 203)); /* the same octets end to end */
	rig_close(r);
	assert_int_equal(rig_open(r, &e), 0);
	assert_true(is_duplicate(r, 10, SL("a@h"), SL("o"), 204));
	assert_true(is_duplicate(r, 11, SL("a@h"), SL("p"), 204));
	assert_int_equal(store_stats(r->store).seen_now, 4);
	DO(x);
	assert_int_equal(x.n_r, 2);
	assert_false(is_duplicate(r, 12, SL("a@h"), SL("o"), 205));
	assert_true(is_duplicate(r, 13, SL("a@h"), SL("o"), 205));
	assert_true(is_duplicate(r, 14, SL("b@h"), SL("o"), 205));
	DO(x);
	assert_int_equal(x.n_r, 0);
	assert_int_equal(store_stats(r->store).seen_forgotten, 0);
}

/* Enough marks for every table of the index to grow several times. */
static void test_seen_many(void **state)
{
	struct store_rig *r = *state;
	enum { N = 20000 };
	static char name[N][12];

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < N; i += 100) {
			struct store_mail_put p[100] = { 0 };
			for (unsigned k = 0; k < 100; k++) {
				int n = snprintf(name[i + k], sizeof(name[0]), "o%u", i + k);
				p[k] = (struct store_mail_put){ .op = RIG_OP(STORE_MAIL_PUT),
								.id = i + k + 1,
								.owner = SL("u@h"),
								.sender = SL("a@h"),
								.skip_row = true,
								.origin_id = sl_mk(name[i + k],
										   (size_t)n) };
				p[k].op.group_next = k < 99 ? &p[k + 1].op : NULL;
			}
			DO(p[0]);
			for (unsigned k = 0; k < 100; k++)
				assert_int_equal(p[k].duplicate_r, round);
		}
	assert_int_equal(store_stats(r->store).seen_now, N);
	assert_int_equal(rig_sql(r, "SELECT sum(n) FROM seen"), N);
}

/* ---- XEP-0198 ---- */

static void test_sm(void **state)
{
	struct store_rig *r = *state;
	struct store_sm_put p = { .op = RIG_OP(STORE_SM_PUT),
				  .sm_id = SL("s1"),
				  .owner = SL("u@h"),
				  .resource = SL("phone"),
				  .h = 0xfffffffe,
				  .now_ms = 100 };
	struct store_sm_get g = { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("s1") };
	struct store_sm_purge x = { .op = RIG_OP(STORE_SM_PURGE), .before_ms = 150, .limit = 10 };
	struct store_sm_del d = { .op = RIG_OP(STORE_SM_DEL), .sm_id = SL("s1") };
	struct store_mail_put m = { .op = RIG_OP(STORE_MAIL_PUT),
				    .id = 5,
				    .owner = SL("u@h"),
				    .sender = SL("s@h"),
				    .stanza = SL("<a/>"),
				    .sm_id = SL("s1"),
				    .sm_h = 3,
				    .stamp_ms = 160 };

	DO(p);
	DO(g);
	assert_true(g.found_r);
	assert_sl(g.owner_r, "u@h");
	assert_sl(g.resource_r, "phone");
	assert_int_equal(g.h_r, 0xfffffffe);
	store_op_fini(&g.op);
	DO(m);
	DO(g);
	assert_int_equal(g.h_r, 3);
	store_op_fini(&g.op);
	DO(x); /* touched by the mail */
	assert_int_equal(x.n_r, 0);
	x.before_ms = 161;
	DO(x);
	assert_int_equal(x.n_r, 1);
	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
	DO(p);
	DO(d);
	DO(d);
	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
}

/* Within one transaction: the highest h (which wraps), in the order of what happened. */
static void test_sm_coalesce(void **state)
{
	struct store_rig *r = *state;
	struct store_sm_put p = {
		.op = RIG_OP(STORE_SM_PUT), .sm_id = SL("s1"), .owner = SL("u@h"), .h = 0xfffffff0
	};
	struct store_sm_get g[2] = { { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("s1") },
				     { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("s1") } };
	struct store_mail_put m[4];
	const uint32_t h[4] = { 0xfffffff5, 0xffffffff, 2, 1 };

	for (unsigned i = 0; i < 4; i++) {
		m[i] = (struct store_mail_put){ .op = RIG_OP(STORE_MAIL_PUT),
						.id = i + 1,
						.owner = SL("u@h"),
						.sender = SL("s@h"),
						.stanza = SL("<a/>"),
						.sm_id = SL("s1"),
						.sm_h = h[i] };
		m[i].op.group_next = i < 3 ? &m[i + 1].op : &g[0].op;
	}
	p.op.group_next = &m[0].op;
	DO(p);
	assert_int_equal(g[0].h_r, 2);
	store_op_fini(&g[0].op);
	DO(g[1]);
	assert_int_equal(g[1].h_r, 2);
	store_op_fini(&g[1].op);
	/* a put after the mail is newer than the mail's h */
	m[0].id = 9;
	m[0].sm_h = 50;
	m[0].op.group_next = &p.op;
	p.op.group_next = NULL;
	p.h = 40;
	DO(m[0]);
	DO(g[1]);
	assert_int_equal(g[1].h_r, 40);
	store_op_fini(&g[1].op);
}

/* ---- components, meta ---- */

static void test_component(void **state)
{
	struct store_rig *r = *state;
	struct store_component_put p = { .op = RIG_OP(STORE_COMPONENT_PUT),
					 .domain = SL("sms.h"),
					 .secret = SL("s") };
	struct store_component_del d = { .op = RIG_OP(STORE_COMPONENT_DEL), .domain = SL("sms.h") };
	struct store_component_list l = { .op = RIG_OP(STORE_COMPONENT_LIST) };

	DO(p);
	assert_false(p.existed_r);
	p.secret = SL("t");
	DO(p);
	assert_true(p.existed_r);
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.row_r[0].domain, "sms.h");
	assert_sl(l.row_r[0].secret, "t");
	store_op_fini(&l.op);
	DO(d);
	assert_true(d.existed_r);
	DO(d);
	assert_false(d.existed_r);
}

static void test_meta(void **state)
{
	struct store_rig *r = *state;
	struct store_meta_put p = { .op = RIG_OP(STORE_META_PUT),
				    .key = SL("k"),
				    .value = SL("1") };
	struct store_meta_get g = { .op = RIG_OP(STORE_META_GET), .key = SL("k") };

	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
	DO(p);
	p.value = SL("2");
	p.create_only = true;
	DO(p);
	DO(g);
	assert_sl(g.value_r, "1");
	store_op_fini(&g.op);
	p.create_only = false;
	DO(p);
	DO(g);
	assert_true(g.found_r);
	assert_sl(g.value_r, "2");
	store_op_fini(&g.op);
}

/* ---- translators ---- */

static void test_number(void **state)
{
	struct store_rig *r = *state;
	struct store_number_put p = { .op = RIG_OP(STORE_NUMBER_PUT),
				      .number = SL("+15550100"),
				      .jid = SL("a@h"),
				      .link = SL("l1") };
	struct store_number_list l = { .op = RIG_OP(STORE_NUMBER_LIST), .limit = 10 };
	struct store_number_del d = { .op = RIG_OP(STORE_NUMBER_DEL), .number = SL("+15550100") };

	DO(p);
	store_op_fini(&p.op);
	assert_false(p.taken_r);
	p.link = SL("l2");
	DO(p);
	store_op_fini(&p.op);
	assert_false(p.taken_r);
	p.jid = SL("b@h");
	DO(p);
	assert_true(p.taken_r);
	assert_sl(p.taken_by_r, "a@h");
	store_op_fini(&p.op);
	p.number = SL("+15550101");
	DO(p);
	store_op_fini(&p.op);
	p.number = SL("+15550002"); /* the youngest */
	DO(p);
	store_op_fini(&p.op);
	DO(l);
	assert_int_equal(l.n_r, 3);
	assert_sl(l.row_r[2].number, "+15550002");
	l.after = l.row_r[1].age;
	assert_sl(l.row_r[0].number, "+15550100");
	assert_sl(l.row_r[0].jid, "a@h");
	assert_sl(l.row_r[0].link, "l2");
	store_op_fini(&l.op);
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.row_r[0].number, "+15550002");
	store_op_fini(&l.op);
	DO(d);
	assert_int_equal(d.n_r, 1);
	d.number = SL_NULL;
	d.jid = SL("b@h");
	DO(d);
	assert_int_equal(d.n_r, 2);
}

static void test_link(void **state)
{
	struct store_rig *r = *state;
	struct store_link_put p = { .op = RIG_OP(STORE_LINK_PUT),
				    .name = SL("l"),
				    .settings = SL("{\"a\":1}") };
	struct store_link_list l = { .op = RIG_OP(STORE_LINK_LIST) };
	struct store_link_del d = { .op = RIG_OP(STORE_LINK_DEL), .name = SL("l") };

	DO(p);
	assert_false(p.existed_r);
	p.settings = SL("{}");
	DO(p);
	assert_true(p.existed_r);
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.row_r[0].settings, "{}");
	store_op_fini(&l.op);
	DO(d);
	assert_true(d.existed_r);
	DO(d);
	assert_false(d.existed_r);
}

static struct store_queue_put queue_entry(uint64_t id, struct sl custody)
{
	return (struct store_queue_put){ .op = RIG_OP(STORE_QUEUE_PUT),
					 .entry = { .id = id,
						    .custody_id = custody,
						    .from_jid = SL("a@h/r"),
						    .to_jid = SL("+1@sms.h"),
						    .from_number = SL("+2"),
						    .to_number = SL("+1"),
						    .stanza_id = SL("m1"),
						    .origin_id = SL("o1"),
						    .thread = SL("t"),
						    .body = SL("h\303\251llo"),
						    .link = SL("l"),
						    .stamp_ms = 11,
						    .not_before_ms = 12,
						    .expires_ms = 13,
						    .changed_ms = 14,
						    .parts = 2,
						    .attempts = 3,
						    .wants_receipt = true,
						    .error = SL("e"),
						    .ref = 0xffffffff } };
}

static void check_entry(const struct store_queue_entry *q)
{
	assert_sl(q->custody_id, "c1");
	assert_sl(q->from_jid, "a@h/r");
	assert_sl(q->to_jid, "+1@sms.h");
	assert_sl(q->from_number, "+2");
	assert_sl(q->to_number, "+1");
	assert_sl(q->stanza_id, "m1");
	assert_sl(q->origin_id, "o1");
	assert_sl(q->thread, "t");
	assert_sl(q->body, "h\303\251llo");
	assert_sl(q->link, "l");
	assert_sl(q->error, "e");
	assert_int_equal(q->stamp_ms, 11);
	assert_int_equal(q->not_before_ms, 12);
	assert_int_equal(q->expires_ms, 13);
	assert_int_equal(q->changed_ms, 14);
	assert_int_equal(q->parts, 2);
	assert_int_equal(q->attempts, 3);
	assert_true(q->wants_receipt && !q->ambiguous);
	assert_int_equal(q->ref, 0xffffffff);
}

static void test_queue_put_get(void **state)
{
	struct store_rig *r = *state;
	struct store_queue_put p = queue_entry(1, SL("c1"));
	struct store_queue_get g = { .op = RIG_OP(STORE_QUEUE_GET), .id = 1 };

	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
	DO(p);
	assert_false(p.duplicate_r || p.id_taken_r);
	DO(g);
	assert_true(g.found_r);
	assert_int_equal(g.entry_r.id, 1);
	check_entry(&g.entry_r);
	assert_int_equal(g.nparts_r, 2);
	assert_int_equal(g.part_r[1].number, 2);
	assert_int_equal(g.part_r[1].state, STORE_Q_QUEUED);
	store_op_fini(&g.op);
	g.id = 0;
	g.custody_id = SL("c1");
	DO(g);
	assert_true(g.found_r);
	store_op_fini(&g.op);
	p.entry.id = 2;
	DO(p);
	assert_true(p.duplicate_r && !p.id_taken_r);
	p.entry.id = 1;
	p.entry.custody_id = SL("c2");
	DO(p);
	assert_true(!p.duplicate_r && p.id_taken_r);
	p.entry.id = 3; /* no custody id: no duplicate check */
	p.entry.custody_id = SL_NULL;
	DO(p);
	p.entry.id = 4;
	p.entry.state = STORE_Q_SUBMITTED;
	DO(p);
	assert_false(p.duplicate_r || p.id_taken_r);
	g.custody_id = SL_NULL;
	g.id = 4;
	DO(g);
	assert_int_equal(g.part_r[0].state, STORE_Q_SUBMITTED);
	store_op_fini(&g.op);
}

static void move(struct store_rig *r, uint64_t id, unsigned state, uint64_t changed_ms)
{
	struct store_queue_move m = { .op = RIG_OP(STORE_QUEUE_MOVE),
				      .id = id,
				      .state = (uint8_t)state,
				      .attempts = 9,
				      .ambiguous = true,
				      .not_before_ms = 21,
				      .changed_ms = changed_ms,
				      .link = SL("l9"),
				      .error = SL("e9"),
				      .ref = 7 };
	DO(m);
}

static void test_queue_move(void **state)
{
	struct store_rig *r = *state;
	struct store_queue_put p = queue_entry(1, SL("c1"));
	struct store_queue_get g = { .op = RIG_OP(STORE_QUEUE_GET), .id = 1 };
	const uint8_t walk[] = { STORE_Q_SUBMITTED, STORE_Q_ACCEPTED, STORE_Q_DELIVERED,
				 STORE_Q_QUEUED,    STORE_Q_FAILED,   STORE_Q_EXPIRED,
				 STORE_Q_SUBMITTED };

	DO(p);
	for (size_t i = 0; i < ARRAY_LEN(walk); i++) {
		struct store_queue_count n = { .op = RIG_OP(STORE_QUEUE_COUNT) };
		struct store_queue_load l = { .op = RIG_OP(STORE_QUEUE_LOAD),
					      .states = 1u << walk[i],
					      .limit = 10 };
		move(r, 1, walk[i], 100 + i);
		DO(g);
		assert_int_equal(g.entry_r.state, walk[i]);
		assert_int_equal(g.entry_r.attempts, 9);
		assert_true(g.entry_r.ambiguous && g.entry_r.wants_receipt);
		assert_int_equal(g.entry_r.not_before_ms, 21);
		assert_int_equal(g.entry_r.changed_ms, 100 + i);
		assert_sl(g.entry_r.link, "l9");
		assert_sl(g.entry_r.error, "e9");
		assert_int_equal(g.entry_r.ref, 7);
		store_op_fini(&g.op);
		DO(n);
		for (unsigned s = 0; s < STORE_Q_STATES; s++)
			assert_int_equal(n.n_r[s], s == walk[i]);
		DO(l);
		assert_int_equal(l.n_r, 1);
		store_op_fini(&l.op);
	}
	move(r, 99, STORE_Q_FAILED, 1); /* not there: fine */
}

static void test_queue_part(void **state)
{
	struct store_rig *r = *state;
	struct store_queue_put p = queue_entry(1, SL("c1"));
	struct store_queue_part_set s = { .op = RIG_OP(STORE_QUEUE_PART),
					  .part = { .entry = 1,
						    .number = 2,
						    .state = STORE_Q_ACCEPTED,
						    .message_id = SL("77"),
						    .key = SL("l:77") } };
	struct store_queue_get g = { .op = RIG_OP(STORE_QUEUE_GET), .key = SL("l:77") };

	DO(p);
	DO(s);
	DO(g);
	assert_true(g.found_r);
	check_entry(&g.entry_r);
	assert_int_equal(g.nparts_r, 2);
	assert_int_equal(g.part_r[0].entry, 1);
	assert_int_equal(g.part_r[0].number, 1);
	assert_int_equal(g.part_r[0].state, STORE_Q_QUEUED);
	assert_int_equal(g.part_r[1].state, STORE_Q_ACCEPTED);
	assert_sl(g.part_r[1].message_id, "77");
	assert_sl(g.part_r[1].key, "l:77");
	store_op_fini(&g.op);
	s.part.ambiguous = true;
	s.part.state = STORE_Q_DELIVERED;
	DO(s);
	DO(g); /* a delivered part is not looked for any more */
	assert_false(g.found_r);
	store_op_fini(&g.op);
	s.part.state = STORE_Q_FAILED;
	DO(s);
	/* a later entry with the same key is the one that a receipt means */
	p.entry.id = 2;
	p.entry.custody_id = SL("c2");
	DO(p);
	s.part.entry = 2;
	DO(s);
	DO(g);
	assert_int_equal(g.entry_r.id, 2);
	assert_true(g.part_r[1].ambiguous);
	store_op_fini(&g.op);
	g.key = SL("l:78");
	DO(g);
	assert_false(g.found_r);
	store_op_fini(&g.op);
}

/* One transaction: moves and parts of entries in every order, as if each had been written at once.
 */
static void chain(struct store_op **tail, struct store_op *op)
{
	(*tail)->group_next = op;
	*tail = op;
}

static struct store_queue_move move_to(uint64_t id, unsigned state)
{
	return (struct store_queue_move){ .op = RIG_OP(STORE_QUEUE_MOVE),
					  .id = id,
					  .state = (uint8_t)state,
					  .changed_ms = 100 + state,
					  .link = SL("l9") };
}

static struct store_queue_part_set part_to(uint64_t id, uint8_t number, unsigned state,
					   struct sl key)
{
	return (struct store_queue_part_set){ .op = RIG_OP(STORE_QUEUE_PART),
					      .part = { .entry = id,
							.number = number,
							.state = (uint8_t)state,
							.message_id = key,
							.key = key } };
}

static void check_gathered(struct store_rig *r, uint64_t id, unsigned state, unsigned part_state,
			   bool by_key)
{
	struct store_queue_get g = { .op = RIG_OP(STORE_QUEUE_GET), .id = id };
	struct store_queue_get k = { .op = RIG_OP(STORE_QUEUE_GET), .key = SL("k1") };

	DO(g);
	assert_int_equal(g.entry_r.state, state);
	assert_int_equal(g.entry_r.changed_ms, 100 + state);
	assert_int_equal(g.part_r[0].state, part_state);
	assert_sl(g.part_r[0].key, "k1");
	assert_sl(g.part_r[0].message_id, "k1");
	store_op_fini(&g.op);
	DO(k);
	assert_int_equal(k.found_r, by_key);
	if (by_key)
		assert_int_equal(k.entry_r.id, id);
	store_op_fini(&k.op);
}

static void check_counts(struct store_rig *r, unsigned accepted, unsigned delivered)
{
	struct store_queue_count n = { .op = RIG_OP(STORE_QUEUE_COUNT) };

	DO(n);
	assert_int_equal(n.n_r[STORE_Q_ACCEPTED], accepted);
	assert_int_equal(n.n_r[STORE_Q_DELIVERED], delivered);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM progress WHERE open<>(state<3)"), 0);
}

static void test_queue_gathered(void **state)
{
	struct store_rig *r = *state;
	struct store_queue_put p = queue_entry(1, SL("c1"));
	struct store_queue_move m[3] = { move_to(1, STORE_Q_SUBMITTED),
					 move_to(1, STORE_Q_ACCEPTED),
					 move_to(1, STORE_Q_ACCEPTED) };
	struct store_queue_part_set s[3] = { part_to(1, 1, STORE_Q_SUBMITTED, SL_NULL),
					     part_to(1, 1, STORE_Q_ACCEPTED, SL("k1")),
					     part_to(1, 2, STORE_Q_ACCEPTED, SL("k2")) };
	struct store_queue_count n = { .op = RIG_OP(STORE_QUEUE_COUNT) };
	struct store_op *tail = &p.op;

	chain(&tail, &s[0].op);
	chain(&tail, &m[0].op);
	chain(&tail, &n.op); /* and a read between sees what came before it */
	chain(&tail, &m[1].op);
	chain(&tail, &s[1].op);
	chain(&tail, &s[2].op);
	DO(p);
	assert_int_equal(n.n_r[STORE_Q_SUBMITTED], 1);
	check_gathered(r, 1, STORE_Q_ACCEPTED, STORE_Q_ACCEPTED, true);
	check_counts(r, 1, 0);
	/* delivered in one step, then taken up again, then delivered: parts before moves and after
	 */
	for (unsigned i = 0; i < 2; i++) {
		s[0] = part_to(1, 1, STORE_Q_DELIVERED, SL("k1"));
		m[0] = move_to(1, STORE_Q_DELIVERED);
		s[0].op.group_next = &m[0].op;
		DO(s[0]);
		check_gathered(r, 1, STORE_Q_DELIVERED, STORE_Q_DELIVERED, false);
		check_counts(r, 0, 1);
		s[0] = part_to(1, 1, STORE_Q_ACCEPTED, SL("k1"));
		m[0] = move_to(1, STORE_Q_ACCEPTED);
		m[0].op.group_next = &s[0].op;
		s[0].op.group_next = NULL;
		DO(m[0]);
		check_gathered(r, 1, STORE_Q_ACCEPTED, STORE_Q_ACCEPTED, true);
		check_counts(r, 1, 0);
	}
	/* a change of an entry that was not there is not one of the entry that is made next */
	m[0] = move_to(2, STORE_Q_FAILED);
	p = queue_entry(2, SL("c2"));
	m[0].op.group_next = &p.op;
	DO(m[0]);
	check_counts(r, 1, 0);
	assert_int_equal(rig_sql(r, "SELECT state FROM progress WHERE id=2"), STORE_Q_QUEUED);
}

/* So many entries in one transaction that the buffer of changes grows. */
static void test_queue_many(void **state)
{
	struct store_rig *r = *state;
	enum { N = 700 };
	static struct store_queue_put p[N];
	static struct store_queue_move m[N];
	struct store_op *tail;

	for (unsigned i = 0; i < N; i++) {
		p[i] = queue_entry((uint64_t)(i + 1) << 22, SL_NULL);
		m[i] = move_to((uint64_t)(i + 1) << 22, i % STORE_Q_STATES);
	}
	tail = &p[0].op;
	for (unsigned i = 1; i < N; i++)
		chain(&tail, &p[i].op);
	for (unsigned i = 0; i < N; i++)
		chain(&tail, &m[i].op);
	DO(p[0]);
	for (unsigned i = 0; i < STORE_Q_STATES; i++) {
		char sql[100];
		snprintf(sql, sizeof(sql),
			 "SELECT count(*) FROM progress WHERE state=%u AND ((id>>22)-1)%%6=%u", i,
			 i);
		assert_int_equal(rig_sql(r, sql), N / STORE_Q_STATES + (i < N % STORE_Q_STATES));
	}
}

static void test_queue_load(void **state)
{
	struct store_rig *r = *state;
	struct store_queue_load l = { .op = RIG_OP(STORE_QUEUE_LOAD),
				      .limit = 3,
				      .states = 1u << STORE_Q_QUEUED | 1u << STORE_Q_ACCEPTED };
	struct store_queue_count n = { .op = RIG_OP(STORE_QUEUE_COUNT) };

	for (uint64_t id = 1; id <= 12; id++) {
		struct store_queue_put p = queue_entry(id, SL_NULL);
		p.entry.state = (uint8_t)(id % STORE_Q_STATES);
		p.entry.parts = (uint8_t)(id % 3);
		DO(p);
	}
	DO(l); /* states 0 and 2: ids 2, 6, 8, 12 */
	assert_int_equal(l.n_r, 3);
	assert_int_equal(l.entry_r[0].id, 2);
	assert_int_equal(l.entry_r[1].id, 6);
	assert_int_equal(l.entry_r[2].id, 8);
	assert_int_equal(l.nparts_r, 4);
	assert_int_equal(l.part_r[2].entry, 8);
	store_op_fini(&l.op);
	l.after = 8;
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_int_equal(l.entry_r[0].id, 12);
	store_op_fini(&l.op);
	l.after = 0;
	l.limit = 100;
	l.states = ~0u;
	DO(l);
	assert_int_equal(l.n_r, 12);
	store_op_fini(&l.op);
	DO(n);
	for (unsigned s = 0; s < STORE_Q_STATES; s++)
		assert_int_equal(n.n_r[s], 2);
}

static void test_queue_purge(void **state)
{
	struct store_rig *r = *state;
	struct store_queue_purge x = { .op = RIG_OP(STORE_QUEUE_PURGE),
				       .before_ms = 500,
				       .limit = 2 };
	struct store_queue_part_set s = { .op = RIG_OP(STORE_QUEUE_PART),
					  .part = { .entry = 1, .number = 2, .key = SL("k") } };
	struct store_queue_get g = { .op = RIG_OP(STORE_QUEUE_GET), .key = SL("k") };

	for (uint64_t id = 1; id <= 5; id++) {
		struct store_queue_put p = queue_entry(id, SL_NULL);
		DO(p);
		if (id < 5)
			move(r, id, STORE_Q_DELIVERED, id == 4 ? 500 : 100 + id);
	}
	DO(s);
	s.part.entry = 4;
	DO(s);
	DO(x);
	assert_int_equal(x.n_r, 2);
	DO(g);
	assert_int_equal(g.entry_r.id, 4);
	store_op_fini(&g.op);
	DO(x);
	assert_int_equal(x.n_r, 1); /* 4 is not old enough, 5 not finished */
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM queue"), 2);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM progress"), 2);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM part"), 1);
}

static void test_outbox(void **state)
{
	struct store_rig *r = *state;
	struct store_outbox_put p = {
		.op = RIG_OP(STORE_OUTBOX_PUT), .id = 1, .key = SL("k"), .stanza = SL("<m/>")
	};
	struct store_outbox_load l = { .op = RIG_OP(STORE_OUTBOX_LOAD), .limit = 10 };
	const uint64_t ids[] = { 1, 3 };
	struct store_outbox_del d = { .op = RIG_OP(STORE_OUTBOX_DEL), .id = ids, .n = 2 };

	DO(p);
	assert_false(p.duplicate_r || p.id_taken_r);
	p.id = 2;
	DO(p);
	assert_true(p.duplicate_r && !p.id_taken_r);
	p.key = SL_NULL;
	DO(p);
	p.id = 3;
	DO(p);
	assert_false(p.duplicate_r || p.id_taken_r);
	DO(p);
	assert_true(!p.duplicate_r && p.id_taken_r);
	l.after = 1;
	DO(l);
	assert_int_equal(l.n_r, 2);
	assert_int_equal(l.row_r[0].id, 2);
	assert_sl(l.row_r[0].stanza, "<m/>");
	store_op_fini(&l.op);
	DO(d);
	l.after = 0;
	DO(l);
	assert_int_equal(l.n_r, 1);
	store_op_fini(&l.op);
	p.key = SL("k"); /* the key is free again once its stanza is gone */
	p.id = 4;
	DO(p);
	assert_false(p.duplicate_r);
}

static void test_frag(void **state)
{
	struct store_rig *r = *state;
	struct store_frag_put p = { .op = RIG_OP(STORE_FRAG_PUT),
				    .group = SL("g1"),
				    .number = 2,
				    .total = 3,
				    .stamp_ms = 100,
				    .meta = SL("{}"),
				    .payload = { "\0\1\0", 3 } };
	struct store_frag_load l = { .op = RIG_OP(STORE_FRAG_LOAD), .group = SL("g1") };
	struct store_frag_del d = { .op = RIG_OP(STORE_FRAG_DEL), .group = SL("g1") };

	DO(p);
	assert_int_equal(p.have_r, 1);
	DO(p);
	assert_int_equal(p.have_r, 1);
	p.number = 1;
	p.stamp_ms = 200;
	DO(p);
	assert_int_equal(p.have_r, 2);
	p.group = SL("g2");
	p.stamp_ms = 50;
	DO(p);
	assert_int_equal(p.have_r, 1);
	DO(l);
	assert_int_equal(l.n_r, 2);
	assert_int_equal(l.row_r[0].number, 1);
	assert_int_equal(l.row_r[0].total, 3);
	assert_int_equal(l.row_r[0].stamp_ms, 200);
	assert_sl(l.row_r[0].meta, "{}");
	assert_sl(l.row_r[0].group, "g1");
	assert_sl(l.row_r[1].payload, "\0\1\0");
	store_op_fini(&l.op);
	l.group = SL_NULL;
	l.before_ms = 150; /* g1 got something at 200 */
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_sl(l.row_r[0].group, "g2");
	store_op_fini(&l.op);
	l.before_ms = 0;
	DO(l);
	assert_int_equal(l.n_r, 3);
	store_op_fini(&l.op);
	DO(d);
	DO(l);
	assert_int_equal(l.n_r, 1);
	store_op_fini(&l.op);
}

/* Only what was joined is marked as such, and known as a copy for the time that is asked for. */
static void test_frag_joined(void **state)
{
	struct store_rig *r = *state;
	static const uint8_t two[] = { 1, 2 };
	struct store_frag_put p = { .op = RIG_OP(STORE_FRAG_PUT),
				    .group = SL("g1"),
				    .number = 1,
				    .total = 3,
				    .stamp_ms = 100,
				    .payload = SL("one") };
	struct store_frag_load l = { .op = RIG_OP(STORE_FRAG_LOAD), .group = SL("g1") };
	struct store_frag_join j = { .op = RIG_OP(STORE_FRAG_JOIN),
				     .group = SL("g1"),
				     .number = two,
				     .n = 2,
				     .now_ms = 500 };
	struct store_frag_purge x = { .op = RIG_OP(STORE_FRAG_PURGE),
				      .before_ms = 500,
				      .limit = 10 };

	DO(p);
	p.number = 2;
	p.payload = SL("two");
	DO(p);
	p.number = 3;
	p.payload = SL("three"); /* comes after the load whose result is joined */
	DO(p);
	assert_int_equal(p.have_r, 3);
	DO(j);
	DO(l);
	assert_int_equal(l.n_r, 1);
	assert_int_equal(l.row_r[0].number, 3);
	store_op_fini(&l.op);
	p.number = 2;
	p.payload = SL("two");
	p.joined_since_ms = 500;
	DO(p);
	assert_true(p.joined_r);
	p.payload = SL("another");
	DO(p);
	assert_false(p.joined_r);
	assert_int_equal(p.have_r, 2);
	p.number = 1;
	p.payload = SL("one");
	p.joined_since_ms = 501; /* too long ago */
	DO(p);
	assert_false(p.joined_r);
	assert_int_equal(p.have_r, 3);
	j.n = 1;
	DO(j);
	DO(x);
	assert_int_equal(x.n_r, 0);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM frag"), 3);
	x.before_ms = 501;
	DO(x);
	assert_int_equal(x.n_r, 1);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM frag"), 2);
}

#define CORE(f) cmocka_unit_test_setup_teardown(f, setup_core, teardown)
#define SMS(f)  cmocka_unit_test_setup_teardown(f, setup_sms, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CORE(test_account_put_get),
		CORE(test_account_only),
		CORE(test_account_list),
		CORE(test_account_del),
		CORE(test_roster),
		CORE(test_mail_load),
		CORE(test_mail_expired),
		CORE(test_mail_id_taken),
		CORE(test_mail_skip_row),
		CORE(test_seen),
		CORE(test_seen_many),
		CORE(test_sm),
		CORE(test_sm_coalesce),
		CORE(test_component),
		CORE(test_meta),
		SMS(test_meta),
		SMS(test_number),
		SMS(test_link),
		SMS(test_queue_put_get),
		SMS(test_queue_move),
		SMS(test_queue_part),
		SMS(test_queue_gathered),
		SMS(test_queue_many),
		SMS(test_queue_load),
		SMS(test_queue_purge),
		SMS(test_outbox),
		SMS(test_frag),
		SMS(test_frag_joined),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
