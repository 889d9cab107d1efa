/* test_ctl.c - frames, the table of commands, the command line, lines of an import. */
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "appliance/child/frame.h"
#include "appliance/ctl/ctl.h"
#include "appliance/ctl/import.h"
#include "appliance/supervisor/control.h"

/* ---- frames ---- */

static void frame_round_trip(void **state)
{
	struct buf b;
	struct err e;
	json_t *msg = json_pack("{s:i,s:s}", "id", 7, "command", "status"), *back = NULL;

	UNUSED(state);
	buf_init(&b, 1000);
	assert_int_equal(frame_put(&b, msg, 100), 0);
	assert_int_equal(frame_put(&b, msg, 100), 0);
	assert_int_equal(frame_put(&b, msg, 10), E_TOOBIG);
	size_t one = b.n / 2;
	/* every prefix: nothing yet */
	for (size_t i = 0; i < one; i++) {
		struct buf part;
		buf_init(&part, 1000);
		buf_add(&part, sl_sub(buf_sl(&b), 0, i));
		assert_int_equal(frame_take(&part, 100, &back, &e), 0);
		frame_buf_free(&part);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(frame_take(&b, 100, &back, &e), 1);
		assert_true(json_equal(msg, back));
		json_decref(back);
	}
	assert_int_equal(frame_take(&b, 100, &back, &e), 0);
	assert_int_equal(b.n, 0);
	assert_int_equal(frame_id(msg), 7);
	json_object_set_new(msg, "id", json_integer(-1));
	assert_int_equal(frame_id(msg), 0);
	json_decref(msg);
	frame_buf_free(&b);
}

static void frame_errors(void **state)
{
	json_t *m = frame_error(5, E_EXISTS, "there");
	char *t = json_dumps(m, JSON_COMPACT);

	UNUSED(state);
	assert_string_equal(t, "{\"id\":5,\"error\":{\"code\":\"exists\",\"text\":\"there\"}}");
	free(t);
	json_decref(m);
	m = frame_error(0, E_SYNTAX, "\xff not UTF-8");
	t = json_dumps(m, JSON_COMPACT);
	assert_string_equal(t, "{\"error\":{\"code\":\"syntax\",\"text\":\"syntax\"}}");
	free(t);
	json_decref(m);
	for (int c = E_NOMEM; c >= E_INTERNAL; c--)
		assert_int_equal(frame_error_code(e_name(c)), c);
	assert_int_equal(frame_error_code("ok"), E_INTERNAL);
	assert_int_equal(frame_error_code("no such"), E_INTERNAL);
}

/* ---- the table ---- */

static void every_command_is_whole(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < commands_n; i++) {
		const struct command *c = &commands[i];
		unsigned n = 0;
		assert_non_null(c->help);
		assert_ptr_equal(command_find(sl_cstr(c->name)), c); /* no name twice */
		assert_true((c->target == CMD_CORE || c->target == CMD_SMS) == (c->child != NULL));
		assert_true((c->target == CMD_TANDEMD) == (handler_find(c) != NULL));
		for (const struct command_arg *a = c->arg; a->name; a++, n++) {
			assert_non_null(a->help);
			assert_true(a->kind == CHILD_BOOL || a->max > 0);
			assert_true(a->cli != CLI_FLAG || a->kind == CHILD_BOOL);
		}
		assert_true(n < COMMAND_ARGS_MAX);
	}
	assert_null(command_find(SL("user")));
	assert_null(command_find(SL("")));
}

/* ---- the command line ---- */

static struct ctl ctl;

static int parse(const char *line)
{
	static char text[1000];
	char *argv[40] = { "tandemctl" };
	int argc = 1;

	json_decref(ctl.args);
	memset(&ctl, 0, sizeof(ctl));
	snprintf(text, sizeof(text), "%s", line);
	for (char *p = text; *p;) {
		argv[argc++] = p;
		p += strcspn(p, " ");
		if (*p)
			*p++ = '\0';
	}
	return cmdline_parse(&ctl, argc, argv);
}

static void parsed(const char *line, const char *command, const char *args)
{
	char *got;

	assert_int_equal(parse(line), 0);
	assert_string_equal(ctl.cmd->name, command);
	got = json_dumps(ctl.args, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(got, args);
	free(got);
}

static void command_lines(void **state)
{
	UNUSED(state);
	parsed("status", "status", "{}");
	assert_string_equal(ctl.control, "/run/tandem/control");
	parsed("--control /x/y --json status", "status", "{}");
	assert_string_equal(ctl.control, "/x/y");
	assert_true(ctl.json);
	parsed("link list --json", "link list", "{}");
	assert_true(ctl.json);
	parsed("links", "link list", "{}");
	parsed("user add a@b --number +1555 --password-stdin", "user add",
	       "{\"jid\":\"a@b\",\"number\":\"+1555\"}");
	assert_true(ctl.secret_from_stdin);
	parsed("user add --number +1555 a@b", "user add", "{\"jid\":\"a@b\",\"number\":\"+1555\"}");
	assert_false(ctl.secret_from_stdin);
	parsed("user number a@b none", "user number", "{\"jid\":\"a@b\",\"number\":\"\"}");
	parsed("user import FILE --replace", "user import", "{\"file\":\"FILE\",\"replace\":true}");
	parsed("link add carrier --host h --port 2776 --system-id me --password-stdin", "link add",
	       "{\"host\":\"h\",\"name\":\"carrier\",\"port\":2776,\"system_id\":\"me\"}");
	assert_true(ctl.secret_from_stdin);
	parsed("link add c --host h --system-id m --window 5 --tls verify --prefixes +1,+44 "
	       "--enabled no",
	       "link add",
	       "{\"enabled\":false,\"host\":\"h\",\"name\":\"c\",\"prefixes\":[\"+1\",\"+44\"],"
	       "\"system_id\":\"m\",\"tls\":\"verify\",\"window\":5}");
	parsed("component add irc.x --secret-stdin", "component add", "{\"domain\":\"irc.x\"}");
	parsed("queue retry 1 2 3", "queue retry", "{\"messages\":[\"1\",\"2\",\"3\"]}");
	parsed("queue drop --all", "queue drop", "{\"all\":true}");
	parsed("trace a@b --seconds 5", "trace", "{\"seconds\":5,\"who\":\"a@b\"}");
	parsed("sessions -- --odd", "sessions", "{\"jid\":\"--odd\"}");
	parsed("config check t.conf", "config check", "{\"file\":\"t.conf\"}");
}

static void bad_command_lines(void **state)
{
	static const char *const bad[] = {
		"",
		"dance",
		"user",
		"user dance",
		"--colour status",
		"status --colour red",
		"user add",
		"user add a@b c@d",
		"user add a@b --number",
		"user add a@b --password x",
		"link add c --host h",
		"link add c --host h --system-id m --password x",
		"link add c --host h --system-id m --window x",
		"link add c --host h --system-id m --window 100000",
		"link add c --host h --system-id m --colour x",
		"link add c --host h --port 99999 --system-id m",
		"link add c --host h --system-id m --prefixes 44",
		"link add c --host h --system-id m --password-file x",
		"component add",
		"trace a --seconds 1e3",
		"queue show",
		"stop now",
		"component add x --secret y",
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (parse(bad[i]) != EXIT_USAGE + 1)
			fail_msg("accepted: tandemctl %s", bad[i]);
	assert_int_equal(parse("--help"), EXIT_DONE + 1);
	assert_int_equal(parse("user add --help"), EXIT_DONE + 1);
	assert_int_equal(parse("user --help"), EXIT_DONE + 1);
	assert_int_equal(parse("--version"), EXIT_DONE + 1);
	json_decref(ctl.args);
	memset(&ctl, 0, sizeof(ctl));
}

static void checked_args(void **state)
{
	static const struct {
		const char *command, *args;
		int rc;
	} cases[] = {
		{ "status", "{}", 0 },
		{ "status", "{\"x\":1}", E_SYNTAX },
		{ "user add", "{\"jid\":\"a\"}", 0 },
		{ "user add", "{}", E_SYNTAX },
		{ "user add", "{\"jid\":5}", E_SYNTAX },
		{ "user import", "{\"users\":{}}", E_SYNTAX },
		{ "sessions", "{\"limit\":1001}", E_RANGE },
		{ "sessions", "{\"limit\":-1}", E_SYNTAX },
		{ "queue drop", "{\"all\":1}", E_SYNTAX },
		{ "link add", "{\"name\":\"n\",\"host\":\"h\",\"system_id\":\"s\",\"window\":5}",
		  0 },
		{ "link add", "{\"name\":\"n\",\"host\":\"h\"}", E_SYNTAX },
		{ "log-level", "{\"level\":\"debugdebugdebug\"}", E_TOOBIG },
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *args = json_loads(cases[i].args, 0, NULL);
		struct err e;
		assert_int_equal(command_check(command_find(sl_cstr(cases[i].command)), args, &e),
				 cases[i].rc);
		json_decref(args);
	}
}

/* ---- import ---- */

static void imports(const char *line, const char *json)
{
	struct import_line l;
	struct err e;
	int rc = import_parse(sl_cstr(line), &l, &e);
	char *got;
	json_t *o;

	if (!json) {
		assert_int_equal(rc, E_SYNTAX);
		return;
	}
	if (!*json) {
		assert_int_equal(rc, 0);
		return;
	}
	assert_int_equal(rc, 1);
	o = import_json(&l);
	got = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(got, json);
	free(got);
	json_decref(o);
}

static void import_lines(void **state)
{
	static const char with_number[] =
		"{\"jid\":\"a@b\",\"number\":\"+155\",\"password\":\"pw\"}";
	static const char without[] = "{\"jid\":\"a@b\",\"password\":\"pw\"}";

	UNUSED(state);
	imports("a@b\tpw\t+155\n", with_number);
	imports("a@b,pw,+155\r\n", with_number);
	imports("a@b pw +155", with_number);
	imports("a@b, pw, +155\n", with_number);
	imports("a@b\tpw\n", without);
	imports("a@b\tpw\t\n", without);
	imports("a@b,pw,\n", without);
	imports("a@b pw", without);
	imports("a@b\t p w,x \t+155",
		"{\"jid\":\"a@b\",\"number\":\"+155\",\"password\":\" p w,x \"}");
	imports("a@b,p,w,+155", "{\"jid\":\"a@b\",\"number\":\"+155\",\"password\":\"p,w\"}");
	imports("a@b,p,w", "{\"jid\":\"a@b\",\"password\":\"p,w\"}");
	imports("a@b,12345", "{\"jid\":\"a@b\",\"password\":\"12345\"}");
	imports("a@b\tSCRAM-SHA-1$4096:c2FsdA==$c3RvcmVk:c2VydmVy\t155",
		"{\"jid\":\"a@b\",\"number\":\"155\","
		"\"verifiers\":[\"SCRAM-SHA-1$4096:c2FsdA==$c3RvcmVk:c2VydmVy\"]}");
	imports("a@b,SCRAM-SHA-1$1:a$b:c SCRAM-SHA-256$1:a$b:c,+155",
		"{\"jid\":\"a@b\",\"number\":\"+155\",\"verifiers\":[\"SCRAM-SHA-1$1:a$b:c\","
		"\"SCRAM-SHA-256$1:a$b:c\"]}");
	imports("\n", "");
	imports("   # a comment\n", "");
	imports("", "");
	imports("a@b", NULL);
	imports("a@b\t\t+155", NULL);
	imports("\tpw", NULL);
	imports("a@b\tpw\tx55", NULL);
	struct import_line l;
	struct err e;
	assert_int_equal(import_parse(SL("a@b\t\xff\xfe"), &l, &e), 1);
	assert_null(import_json(&l));
}

/* ---- the page ---- */

static void page(void **state)
{
	static char want[60000], got[60000];
	FILE *f = fopen("docs/tandemctl.md", "r"), *t = tmpfile();

	UNUSED(state);
	assert_non_null(f);
	want[fread(want, 1, sizeof(want) - 1, f)] = '\0';
	fclose(f);
	cmdline_document(t);
	rewind(t);
	got[fread(got, 1, sizeof(got) - 1, t)] = '\0';
	fclose(t);
	if (strcmp(want, got) != 0)
		fail_msg("docs/tandemctl.md is not what the table says: tandemctl commands "
			 "makes it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_round_trip),       cmocka_unit_test(frame_errors),
		cmocka_unit_test(every_command_is_whole), cmocka_unit_test(command_lines),
		cmocka_unit_test(bad_command_lines),      cmocka_unit_test(checked_args),
		cmocka_unit_test(import_lines),           cmocka_unit_test(page),
	};

	unsetenv("TANDEM_CONTROL");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
