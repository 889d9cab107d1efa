/* cmdline.c - the command line and the help, from the table of commands. See ctl.h. */
#include <getopt.h>

#include "appliance/ctl/ctl.h"
#include "generated/version.h"

#define DEFAULT_CONTROL "/run/tandem/control"

void cmdline_help(FILE *out)
{
	fputs("usage: tandemctl [--control PATH] [--json] COMMAND [ARGUMENTS]\n"
	      "\n"
	      "  --control PATH  tandemd's control socket ($TANDEM_CONTROL, or " DEFAULT_CONTROL
	      ")\n"
	      "  --json          print the answer as JSON\n"
	      "  --help          this text; after a command: what it takes\n"
	      "  --version       print the version\n"
	      "\n"
	      "Commands:\n",
	      out);
	for (size_t i = 0; i < commands_n; i++) {
		struct sl help = sl_cstr(commands[i].help);
		fprintf(out, "  %-24s" SLFMT "\n", commands[i].name,
			SLARG(sl_sub(help, 0, sl_find(help, '\n', 0))));
	}
	fputs("\n"
	      "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 tandemd cannot be "
	      "reached,\n"
	      "4 partly done, 5 no answer: the outcome is unknown.\n",
	      out);
}

static void option_text(const struct command_arg *a, char *dst, size_t cap)
{
	char name[64];
	size_t i = 0;

	for (; a->name[i] && i + 1 < sizeof(name); i++)
		name[i] = a->name[i] == '_' ? '-' : a->name[i];
	name[i] = '\0';
	switch (a->cli) {
	case CLI_POSITIONAL:
		snprintf(dst, cap, "%s", a->value);
		break;
	case CLI_OPTION:
		snprintf(dst, cap, "--%s %s", name, a->value);
		break;
	case CLI_FLAG:
		snprintf(dst, cap, "--%s", name);
		break;
	case CLI_SECRET:
		snprintf(dst, cap, "--%s-stdin", name);
		break;
	case CLI_HIDDEN:
		*dst = '\0';
		break;
	}
}

static void usage_line(FILE *out, const struct command *cmd)
{
	char text[100];

	fprintf(out, "tandemctl %s", cmd->name);
	for (const struct command_arg *a = cmd->arg; a->name; a++) {
		option_text(a, text, sizeof(text));
		if (*text)
			fprintf(out, a->required ? " %s" : " [%s]", text);
	}
	if (cmd->more_args)
		fputs(" [--OPTION VALUE]...", out);
	fputc('\n', out);
}

static void indented(FILE *out, const char *first, const char *next, const char *text)
{
	struct sl t = sl_cstr(text);

	for (size_t i = 0, end; i < t.n; i = end + 1) {
		end = sl_find(t, '\n', i);
		fprintf(out, "%s" SLFMT "\n", i ? next : first, SLARG(sl_sub(t, i, end)));
	}
}

void cmdline_help_command(FILE *out, const struct command *cmd)
{
	char text[100], first[160];

	fputs("usage: ", out);
	usage_line(out, cmd);
	fputc('\n', out);
	indented(out, "", "", cmd->help);
	for (const struct command_arg *a = cmd->arg; a->name; a++) {
		option_text(a, text, sizeof(text));
		if (!*text)
			continue;
		snprintf(first, sizeof(first), "  %-22s", text);
		indented(out, first, "                        ", a->help);
	}
}

void cmdline_document(FILE *out)
{
	fputs("# tandemctl\n\nMade by `tandemctl commands` from appliance/ctl/commands.c; do "
	      "not edit.\n\n```\n",
	      out);
	cmdline_help(out);
	fputs("```\n", out);
	for (size_t i = 0; i < commands_n; i++) {
		fprintf(out, "\n## %s\n\n```\n", commands[i].name);
		cmdline_help_command(out, &commands[i]);
		fputs("```\n", out);
	}
}

static int bad_usage(const struct ctl *c, const char *what, const char *arg)
{
	fprintf(stderr, "tandemctl: %s%s\nTry: tandemctl %s%s--help\n", what, arg,
		c->cmd ? c->cmd->name : "", c->cmd ? " " : "");
	return EXIT_USAGE + 1;
}

/* ---- one argument ---- */

static json_t *value_of(const struct command_arg *a, const char *text)
{
	struct sl t = sl_cstr(text);
	uint64_t n;

	switch (a->kind) {
	case CHILD_STR:
		/* A word that cannot be a number, but says that there is none. */
		if (strcmp(a->name, "number") == 0 && strcmp(text, "none") == 0)
			return json_string("");
		return json_string(text);
	case CHILD_UINT:
		return sl_to_u64(t, a->max, &n) == 0 ? json_integer((json_int_t)n) : NULL;
	case CHILD_BOOL:
		return json_true();
	case CHILD_ARRAY:
		return json_pack("[s]", text);
	}
	return NULL;
}

static int set_arg(struct ctl *c, const struct command_arg *a, const char *text)
{
	json_t *old = json_object_get(c->args, a->name), *v = value_of(a, text);

	if (!v)
		return bad_usage(
			c, a->kind == CHILD_UINT ? "not a number, or too large: " : "not UTF-8: ",
			text);
	if (a->kind == CHILD_ARRAY && old) {
		json_array_extend(old, v);
		json_decref(v);
		return 0;
	}
	json_object_set_new(c->args, a->name, v);
	return 0;
}

/* --some-name -> some_name */
static int option_name(const char *text, char *dst, size_t cap)
{
	if (sl_to_cstr(sl_cstr(text + 2), dst, cap) < 0)
		return E_TOOBIG;
	for (char *p = dst; *p; p++)
		if (*p == '-')
			*p = '_';
	return 0;
}

static const struct command_arg *find_option(const struct command *cmd, const char *name)
{
	char secret[80];

	for (const struct command_arg *a = cmd->arg; a->name; a++) {
		snprintf(secret, sizeof(secret), "%s_stdin", a->name);
		if (a->cli == CLI_SECRET ? strcmp(name, secret) == 0
					 : (a->cli == CLI_OPTION || a->cli == CLI_FLAG) &&
						   strcmp(name, a->name) == 0)
			return a;
	}
	return NULL;
}

/* A setting of a link, whose type the configuration's schema knows. */
static int set_setting(struct ctl *c, const char *name, const char *text)
{
	struct err e = { 0, NULL, "" };
	json_t *v = config_option_json("link", name, sl_cstr(text), &e);

	if (!v)
		return bad_usage(c, e.text, "");
	json_object_set_new(c->args, name, v);
	return 0;
}

/* Returns how many words were used, or -(exit status + 1). */
static int parse_option(struct ctl *c, const char *word, const char *next)
{
	char name[80];
	const struct command_arg *a;

	if (option_name(word, name, sizeof(name)) < 0)
		return -bad_usage(c, "unknown option ", word);
	for (a = c->cmd->arg; a->name; a++)
		if (a->cli == CLI_SECRET && strcmp(a->name, name) == 0)
			return -bad_usage(
				c,
				"a secret is not for the command line, where everyone can "
				"read it: --",
				strcmp(name, "secret") == 0 ? "secret-stdin" : "password-stdin");
	a = find_option(c->cmd, name);
	if (a && a->cli == CLI_SECRET) {
		c->secret_from_stdin = true;
		return 1;
	}
	if (a && a->cli == CLI_FLAG)
		return set_arg(c, a, "") ? -(EXIT_USAGE + 1) : 1;
	if (!a && !c->cmd->more_args)
		return -bad_usage(c, "unknown option ", word);
	if (!next)
		return -bad_usage(c, "a value is missing behind ", word);
	int rc = a ? set_arg(c, a, next) : set_setting(c, name, next);
	return rc ? -rc : 2;
}

static const struct command_arg *positional(const struct command *cmd, unsigned n)
{
	const struct command_arg *last = NULL;

	for (const struct command_arg *a = cmd->arg; a->name; a++) {
		if (a->cli != CLI_POSITIONAL)
			continue;
		last = a;
		if (n-- == 0)
			return a;
	}
	return last && last->kind == CHILD_ARRAY ? last : NULL;
}

static int parse_args(struct ctl *c, int argc, char **argv)
{
	unsigned npos = 0;
	bool only_pos = false;

	for (int i = 0; i < argc;) {
		if (!only_pos && strcmp(argv[i], "--") == 0) {
			only_pos = true;
			i++;
		} else if (!only_pos && strcmp(argv[i], "--help") == 0) {
			cmdline_help_command(stdout, c->cmd);
			return EXIT_DONE + 1;
		} else if (!only_pos && strcmp(argv[i], "--json") == 0) {
			c->json = true;
			i++;
		} else if (!only_pos && strncmp(argv[i], "--", 2) == 0) {
			int used = parse_option(c, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
			if (used < 0)
				return -used;
			i += used;
		} else {
			const struct command_arg *a = positional(c->cmd, npos++);
			if (!a)
				return bad_usage(c, "one argument too many: ", argv[i]);
			int rc = set_arg(c, a, argv[i++]);
			if (rc)
				return rc;
		}
	}
	for (const struct command_arg *a = c->cmd->arg; a->name; a++)
		if (a->required && (a->cli == CLI_POSITIONAL || a->cli == CLI_OPTION) &&
		    !json_object_get(c->args, a->name)) {
			fprintf(stderr, "tandemctl: %s%s is missing\n",
				a->cli == CLI_OPTION ? "--" : "", a->name);
			cmdline_help_command(stderr, c->cmd);
			return EXIT_USAGE + 1;
		}
	return 0;
}

/* The longest command that the words begin with. Returns the number of its words, 0: none. */
static int find_command(struct ctl *c, int argc, char **argv)
{
	char two[100];

	if (argc > 1 && snprintf(two, sizeof(two), "%.40s %.40s", argv[0], argv[1]) > 0)
		c->cmd = command_find(sl_cstr(two));
	if (c->cmd)
		return 2;
	c->cmd = argc > 0 ? command_find(sl_cstr(argv[0])) : NULL;
	if (!c->cmd && argc > 0 && strcmp(argv[0], "links") == 0)
		c->cmd = command_find(SL("link list"));
	return c->cmd ? 1 : 0;
}

/* The commands of a group ("user"); false: there is no such group. */
static bool group_help(FILE *out, const char *word)
{
	size_t n = strlen(word);
	bool any = false;

	for (size_t i = 0; i < commands_n; i++)
		if (strncmp(commands[i].name, word, n) == 0 && commands[i].name[n] == ' ') {
			usage_line(out, &commands[i]);
			any = true;
		}
	return any;
}

static int unknown_command(const struct ctl *c, int argc, char **argv)
{
	char typed[100], text[200];
	const char *best = NULL;
	unsigned away = SL_DISTANCE_MAX;

	if (group_help(argc > 1 && strcmp(argv[1], "--help") == 0 ? stdout : stderr, argv[0]))
		return argc > 1 && strcmp(argv[1], "--help") == 0 ? EXIT_DONE + 1 : EXIT_USAGE + 1;
	for (size_t i = 0; i < commands_n; i++) {
		bool two = strchr(commands[i].name, ' ') && argc > 1;
		unsigned d;

		snprintf(typed, sizeof(typed), "%.40s%s%.40s", argv[0], two ? " " : "",
			 two ? argv[1] : "");
		d = sl_distance(sl_cstr(typed), sl_cstr(commands[i].name));
		if (d < away && d <= strlen(typed) / 3) {
			away = d;
			best = commands[i].name;
		}
	}
	snprintf(text, sizeof(text), "unknown command %.80s%s%s", argv[0],
		 best ? "; did you mean " : "", best ? best : "");
	return bad_usage(c, text, "");
}

int cmdline_parse(struct ctl *c, int argc, char **argv)
{
	const char *env = getenv("TANDEM_CONTROL");
	int i = 1, used;

	c->control = env && *env ? env : DEFAULT_CONTROL;
	c->args = json_object();
	for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			c->json = true;
		} else if (strcmp(argv[i], "--control") == 0 && i + 1 < argc) {
			c->control = argv[++i];
		} else if (strcmp(argv[i], "--help") == 0) {
			cmdline_help(stdout);
			return EXIT_DONE + 1;
		} else if (strcmp(argv[i], "--version") == 0) {
			puts("tandemctl " TANDEM_VERSION);
			return EXIT_DONE + 1;
		} else {
			return bad_usage(c, "unknown option ", argv[i]);
		}
	}
	if (i == argc) {
		cmdline_help(stderr);
		return EXIT_USAGE + 1;
	}
	used = find_command(c, argc - i, argv + i);
	if (used == 0)
		return unknown_command(c, argc - i, argv + i);
	return parse_args(c, argc - i - used, argv + i + used);
}
