/* test_store_open.c - opening a store: new, again, by two, damaged, newer, and migrations from
 * every version. */
#include "appliance/store/sqlite/sqlite.h"
#include "tests/unit/store_rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define DO(op_) assert_int_equal(rig_do(r, &(op_).op), 0)

static struct store_rig rig;

static int setup_core(void **state)
{
	rig_new(&rig, STORE_CORE);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	rig_free(*state);
	base_fail_nth_alloc = 0;
	return 0;
}

static void open_ok(struct store_rig *r)
{
	struct err e = { 0 };

	if (rig_open(r, &e) < 0)
		fail_msg("%s", e.text);
}

static void open_refused(struct store_rig *r, int code, const char *word)
{
	struct err e = { 0 };

	assert_int_equal(rig_open(r, &e), code);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, word))
		fail_msg("\"%s\" is not in: %s", word, e.text);
	assert_null(r->store);
}

static void put_meta(struct store_rig *r, struct sl key, struct sl value)
{
	struct store_meta_put p = { .op = RIG_OP(STORE_META_PUT), .key = key, .value = value };

	DO(p);
}

static bool meta_is(struct store_rig *r, struct sl key, struct sl value)
{
	struct store_meta_get g = { .op = RIG_OP(STORE_META_GET), .key = key };
	bool same;

	DO(g);
	same = g.found_r && sl_eq(g.value_r, value);
	store_op_fini(&g.op);
	return same;
}

/* ---- configuration ---- */

static void test_bad_cfg(void **state)
{
	struct store_rig *r = *state;

	r->cfg.engine = "nosuch";
	open_refused(r, E_UNSUPPORTED, "nosuch");
	r->cfg.engine = "sqlite";
	r->cfg.readers = 0;
	open_refused(r, E_RANGE, "readers");
	r->cfg.readers = 9;
	open_refused(r, E_RANGE, "readers");
	r->cfg.readers = 1;
	r->cfg.path = "/nonexistent/folder/s.db";
	open_refused(r, E_IO, "/nonexistent/folder/s.db");
	r->cfg.path = "";
	open_refused(r, E_RANGE, "path");
}

static void test_settings(void **state)
{
	struct store_rig *r = *state;

	struct stat st;
	char wal[200];

	open_ok(r);
	put_meta(r, SL("k"), SL("v"));
	assert_true(meta_is(r, SL("k"), SL("v")));
	snprintf(wal, sizeof(wal), "%s-wal", r->path);
	assert_int_equal(stat(r->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(wal, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	rig_close(r);
	open_ok(r);
	assert_true(meta_is(r, SL("k"), SL("v")));
	assert_int_equal(rig_sql(r, "PRAGMA user_version"), sq_migrations[STORE_CORE].n);
	assert_int_equal(rig_sql(r, "PRAGMA application_id"), 0x54444d43);
	assert_int_equal(rig_sql(r, "SELECT length(k) FROM seen_key"), 16);
}

static void test_relative_path(void **state)
{
	struct store_rig *r = *state;
	char cwd[512];

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(r->dir), 0);
	r->cfg.path = "s.db";
	open_ok(r);
	put_meta(r, SL("k"), SL("v"));
	rig_close(r);
	assert_int_equal(chdir(cwd), 0);
	assert_int_equal(access(r->path, R_OK), 0);
}

/* ---- one process ---- */

static void test_second_refused(void **state)
{
	struct store_rig *r = *state, again = *r;
	pid_t pid;
	int status;

	open_ok(r);
	again.store = NULL;
	open_refused(&again, E_BUSY, "in use");
	pid = fork();
	if (pid == 0) {
		struct err e = { 0 };
		int rc = rig_open(&again, &e);
		_exit(rc == E_BUSY && strstr(e.text, "pid") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	put_meta(r, SL("k"), SL("v"));
}

/* kill -9 of the holder: the next may start at once, and what was answered is there. */
static void test_after_kill(void **state)
{
	struct store_rig *r = *state;
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		open_ok(r);
		put_meta(r, SL("k"), SL("v"));
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	open_refused(r, E_BUSY, "in use");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	open_ok(r);
	assert_true(meta_is(r, SL("k"), SL("v")));
	close(ready[0]);
	close(ready[1]);
}

/* ---- not ours, damaged, newer ---- */

static void write_file(const char *path, off_t at, const char *text, size_t n)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, n, at), n);
	close(fd);
}

static void test_not_a_database(void **state)
{
	struct store_rig *r = *state;
	char junk[8192];

	memset(junk, 'j', sizeof(junk));
	write_file(r->path, 0, junk, sizeof(junk));
	open_refused(r, E_IO, "not a database");
}

static void test_damaged(void **state)
{
	struct store_rig *r = *state;
	char junk[3000];

	open_ok(r);
	rig_close(r); /* which empties the log */
	memset(junk, 0xff, sizeof(junk));
	write_file(r->path, 100, junk, sizeof(junk));
	open_refused(r, E_IO, "damaged");
}

static void test_foreign(void **state)
{
	struct store_rig *r = *state;

	rig_sql(r, "CREATE TABLE somebody(x)");
	open_refused(r, E_IO, "not a \"core\" store");
}

static void test_other_schema(void **state)
{
	struct store_rig *r = *state;

	open_ok(r);
	rig_close(r);
	r->cfg.schema = STORE_SMS;
	open_refused(r, E_IO, "not a \"sms\" store");
}

static void test_newer(void **state)
{
	struct store_rig *r = *state;

	open_ok(r);
	rig_close(r);
	rig_sql(r, "PRAGMA user_version=99");
	open_refused(r, E_VERSION, "99");
	assert_int_equal(rig_sql(r, "PRAGMA user_version"), 99);
}

/* An operation of the other schema is our own mistake: refused, nothing else harmed. */
static void test_kind_of_other_schema(void **state)
{
	struct store_rig *r = *state;
	struct store_outbox_put p = { .op = RIG_OP(STORE_OUTBOX_PUT),
				      .id = 1,
				      .stanza = SL("<m/>") };
	struct store_queue_count n = { .op = RIG_OP(STORE_QUEUE_COUNT) };

	open_ok(r);
	assert_int_equal(rig_do(r, &p.op), E_IO);
	assert_int_equal(rig_do(r, &n.op), E_IO);
	put_meta(r, SL("k"), SL("v"));
}

/* ---- migrations ---- */

static const char *const steps3[] = {
	"CREATE TABLE t(a TEXT NOT NULL); INSERT INTO t VALUES('one')",
	"ALTER TABLE t ADD COLUMN b TEXT NOT NULL DEFAULT 'two'",
	"UPDATE t SET b='three'",
};
static const char *const steps_bad[] = {
	"CREATE TABLE t(a TEXT NOT NULL); INSERT INTO t VALUES('one')",
	"DELETE FROM t; ALTER TABLE t ADD COLUMN c TEXT NOT NULL DEFAULT 'x'",
	"INSERT INTO nosuch VALUES(1)",
};

static int migrate(struct store_rig *r, const char *const *sql, unsigned n, struct err *e)
{
	const struct migration_list list = { "test", 0x54444d58, sql, n };
	struct store_conn c = { .path = r->path };
	int rc;

	assert_int_equal(sqlite3_open(r->path, &c.db), SQLITE_OK);
	rc = sq_migrate(&c, &list, e);
	sqlite3_close(c.db);
	return rc;
}

static void test_migrate_steps(void **state)
{
	struct store_rig *r = *state;
	struct err e;

	assert_int_equal(migrate(r, steps3, 1, &e), 0);
	assert_int_equal(rig_sql(r, "PRAGMA user_version"), 1);
	assert_int_equal(migrate(r, steps3, 1, &e), 0);
	assert_int_equal(migrate(r, steps3, 3, &e), 0);
	assert_int_equal(rig_sql(r, "PRAGMA user_version"), 3);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM t WHERE a='one' AND b='three'"), 1);
	assert_int_equal(migrate(r, steps3, 2, &e), E_VERSION);
}

static void test_migrate_fails_whole(void **state)
{
	struct store_rig *r = *state;
	struct err e;

	assert_int_equal(migrate(r, steps_bad, 1, &e), 0);
	assert_int_equal(migrate(r, steps_bad, 3, &e), E_IO);
	assert_non_null(strstr(e.text, "nosuch"));
	assert_int_equal(rig_sql(r, "PRAGMA user_version"), 1);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM t WHERE a='one'"), 1);
	assert_int_equal(rig_sql(r, "SELECT count(*) FROM pragma_table_info('t')"), 1);
	assert_int_equal(migrate(r, steps_bad, 2, &e), 0); /* the good step is still possible */
}

/* tests/fixtures/store/NAME-V.sql is a dump of a file of version V with data in it. */
static void load_fixture(struct store_rig *r, const char *name, unsigned version)
{
	char path[128], *text;
	FILE *f;
	long n;

	snprintf(path, sizeof(path), "tests/fixtures/store/%s-%u.sql", name, version);
	f = fopen(path, "r");
	if (!f)
		fail_msg("%s is missing: every version needs its fixture", path);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	text = calloc(1, (size_t)n + 1);
	assert_int_equal(fread(text, 1, (size_t)n, f), n);
	fclose(f);
	rig_sql(r, text);
	free(text);
	assert_int_equal(rig_sql(r, "PRAGMA user_version"), version);
}

static void check_core(struct store_rig *r)
{
	struct store_account_get a = { .op = RIG_OP(STORE_ACCOUNT_GET),
				       .host = SL("one.example"),
				       .user = SL("ann") };
	struct store_mail_load m = { .op = RIG_OP(STORE_MAIL_LOAD),
				     .owner = SL("ann@one.example"),
				     .limit = 10 };
	struct store_sm_get s = { .op = RIG_OP(STORE_SM_GET), .sm_id = SL("sm1") };
	struct store_mail_put p = { .op = RIG_OP(STORE_MAIL_PUT),
				    .id = 2000,
				    .owner = SL("ann@one.example"),
				    .sender = SL("bob@one.example"),
				    .origin_id = SL("o1"),
				    .stanza = SL("<x/>") };

	DO(a);
	assert_true(a.found_r && sl_starts(a.verifier_r[0], SL("SCRAM-SHA-256$4096:")));
	assert_int_equal(a.created_ms_r, 1764000000000);
	store_op_fini(&a.op);
	DO(m);
	assert_int_equal(m.n_r, 1);
	assert_int_equal(m.row_r[0].id, 1000);
	assert_true(sl_eq(m.row_r[0].sender, SL("bob@one.example")));
	store_op_fini(&m.op);
	DO(s);
	assert_true(s.found_r && s.h_r == 7 && sl_eq(s.owner_r, SL("bob@one.example")));
	store_op_fini(&s.op);
	DO(p);
	assert_true(p.duplicate_r);
	assert_true(meta_is(r, SL("site"), SL("north")));
}

static void check_sms(struct store_rig *r)
{
	struct store_queue_load q = { .op = RIG_OP(STORE_QUEUE_LOAD),
				      .limit = 10,
				      .states = 1u << STORE_Q_ACCEPTED };
	struct store_number_list n = { .op = RIG_OP(STORE_NUMBER_LIST), .limit = 10 };
	struct store_outbox_load o = { .op = RIG_OP(STORE_OUTBOX_LOAD), .limit = 10 };
	struct store_frag_load f = { .op = RIG_OP(STORE_FRAG_LOAD) };

	DO(f);
	assert_int_equal(f.n_r, 1);
	assert_true(sl_eq(f.row_r[0].payload, SL("abc")));
	store_op_fini(&f.op);
	DO(q);
	assert_int_equal(q.n_r, 1);
	assert_int_equal(q.entry_r[0].id, 500);
	assert_int_equal(q.nparts_r, 2);
	assert_true(sl_eq(q.part_r[0].key, SL("carrier-a:77")));
	assert_true(sl_eq(q.part_r[1].message_id, SL("78")));
	store_op_fini(&q.op);
	DO(n);
	assert_int_equal(n.n_r, 1);
	assert_true(sl_eq(n.row_r[0].jid, SL("ann@one.example")));
	store_op_fini(&n.op);
	DO(o);
	assert_int_equal(o.n_r, 1);
	store_op_fini(&o.op);
	assert_true(meta_is(r, SL("site"), SL("north")));
}

static void migrate_all(enum store_schema schema, void (*check)(struct store_rig *r))
{
	const struct migration_list *list = &sq_migrations[schema];

	for (unsigned v = 1; v <= list->n; v++) {
		struct store_rig r;
		rig_new(&r, schema);
		load_fixture(&r, list->name, v);
		open_ok(&r);
		assert_int_equal(rig_sql(&r, "PRAGMA user_version"), list->n);
		check(&r);
		rig_free(&r);
	}
}

static void test_fixtures(void **state)
{
	UNUSED(state);
	migrate_all(STORE_CORE, check_core);
	migrate_all(STORE_SMS, check_sms);
}

/* ---- out of memory ---- */

static void test_oom_open(void **state)
{
	struct store_rig *r = *state;
	struct err e;
	unsigned n;
	int rc = E_NOMEM;

	for (n = 1; rc != 0; n++) {
		base_fail_nth_alloc = n;
		rc = rig_open(r, &e);
		base_fail_nth_alloc = 0;
		if (rc < 0)
			assert_int_equal(rc, E_NOMEM);
		assert_true(n < 100);
	}
	assert_true(n > 5);
	put_meta(r, SL("k"), SL("v"));
}

/* A write that meets no memory takes its whole transaction with it, or does without (a cache); the
 * next one is fine. */
static void test_oom_write(void **state)
{
	struct store_rig *r = *state;
	struct store_mail_count count = { .op = RIG_OP(STORE_MAIL_COUNT) };
	unsigned stored = 0, failed = 0;

	open_ok(r);
	for (unsigned n = 2; n < 8;
	     n++) { /* the first is a cache entry, the second the first mark */
		char origin[2] = { (char)('0' + n), '\0' };
		struct store_mail_put p = { .op = RIG_OP(STORE_MAIL_PUT),
					    .id = n,
					    .owner = sl_cstr(origin),
					    .sender = SL("s@h"),
					    .origin_id = sl_cstr(origin),
					    .stanza = SL("<a/>") };
		base_fail_nth_alloc = n;
		int rc = rig_do(r, &p.op);
		base_fail_nth_alloc = 0;
		assert_true(rc == 0 || rc == E_IO);
		if (rc < 0) {
			failed++;
			DO(p);
		}
		assert_true(p.row_made_r && !p.duplicate_r);
		stored++;
		DO(count);
		assert_int_equal(count.n_r, stored);
	}
	assert_true(failed > 0);
}

static void test_oom_read(void **state)
{
	struct store_rig *r = *state;
	struct store_meta_get g = { .op = RIG_OP(STORE_META_GET), .key = SL("k") };

	open_ok(r);
	put_meta(r, SL("k"), SL("v"));
	base_fail_nth_alloc = 1;
	assert_int_equal(rig_do(r, &g.op), E_NOMEM);
	base_fail_nth_alloc = 0;
	store_op_fini(&g.op);
	assert_true(meta_is(r, SL("k"), SL("v")));
}

#define CORE(f) cmocka_unit_test_setup_teardown(f, setup_core, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CORE(test_bad_cfg),
		CORE(test_settings),
		CORE(test_relative_path),
		CORE(test_second_refused),
		CORE(test_after_kill),
		CORE(test_not_a_database),
		CORE(test_damaged),
		CORE(test_foreign),
		CORE(test_other_schema),
		CORE(test_newer),
		CORE(test_kind_of_other_schema),
		CORE(test_migrate_steps),
		CORE(test_migrate_fails_whole),
		cmocka_unit_test(test_fixtures),
		CORE(test_oom_open),
		CORE(test_oom_write),
		CORE(test_oom_read),
	};

	return cmocka_run_group_tests_name("store open", tests, NULL, NULL);
}
