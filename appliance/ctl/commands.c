/* commands.c - the table of commands. See commands.h and docs/control-protocol.md. */
#include "appliance/ctl/commands.h"

#include "appliance/child/args.h"

#define JID_MAX    3071u
#define NUMBER_MAX 32u
#define SECRET_MAX 1024u
#define WAIT       30000u
#define NO_ARGS \
	{ \
		{ \
			.name = NULL \
		} \
	}

#define JID_ARG \
	{ \
		"jid", "JID", CHILD_STR, CLI_POSITIONAL, true, JID_MAX, \
			"The account, user@domain." \
	}
#define PASSWORD_ARG \
	{ \
		"password", "", CHILD_STR, CLI_SECRET, false, SECRET_MAX, \
			"The password is the first line of standard input. Without: asked " \
			"for on a terminal,\n" \
			"else made at random and shown once." \
	}
#define VERIFIERS_ARG \
	{ \
		"verifiers", "", CHILD_ARRAY, CLI_HIDDEN, false, 4, \
			"SCRAM verifiers instead of a password." \
	}
#define LIMIT_ARG \
	{ \
		"limit", "N", CHILD_UINT, CLI_OPTION, false, 1000, "At most so many (100)." \
	}
#define AFTER_ARG \
	{ \
		"after", "KEY", CHILD_STR, CLI_OPTION, false, JID_MAX, \
			"Go on behind this one (\"next\")." \
	}
#define LINK_ARG \
	{ \
		"name", "NAME", CHILD_STR, CLI_POSITIONAL, true, 64, "The link." \
	}
#define DOMAIN_ARG \
	{ \
		"domain", "DOMAIN", CHILD_STR, CLI_POSITIONAL, true, 1023, \
			"The component's domain." \
	}
#define MESSAGES_ARGS \
	{ "messages", "ID...", CHILD_ARRAY, CLI_POSITIONAL, false, 1000, "The messages." }, \
	{ \
		"all", "", CHILD_BOOL, CLI_FLAG, false, 0, "All that qualify." \
	}
#define PROCESS_ARG(r, c, h) \
	{ \
		"process", "PROCESS", CHILD_STR, c, r, 32, h \
	}

const struct command commands[] = {
	{ "status",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "The processes, what they listen on, sessions, links and queue.",
	  { { "wait", "SECONDS", CHILD_UINT, CLI_OPTION, false, 3600,
	      "Wait until every process is ready." } } },

	{ "user add",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Make an account.",
	  { JID_ARG,
	    { "number", "+E164", CHILD_STR, CLI_OPTION, false, NUMBER_MAX,
	      "Its telephone number: SMS to it come to the account, and the account may send." },
	    PASSWORD_ARG,
	    VERIFIERS_ARG } },
	{ "user delete",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Delete an account with its contacts, messages and numbers.",
	  { JID_ARG } },
	{ "user password",
	  "user.password",
	  CMD_CORE,
	  false,
	  false,
	  WAIT,
	  "Set a new password; sessions of the account are ended.",
	  { JID_ARG, PASSWORD_ARG, VERIFIERS_ARG } },
	{ "user number",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Give an account a number, or take its numbers away.",
	  { JID_ARG,
	    { "number", "+E164", CHILD_STR, CLI_POSITIONAL, true, NUMBER_MAX,
	      "The number; none takes all away." },
	    { "link", "NAME", CHILD_STR, CLI_OPTION, false, 64,
	      "Send over this link if possible." } } },
	{ "user list",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Accounts with their numbers.",
	  { { "host", "DOMAIN", CHILD_STR, CLI_POSITIONAL, false, 1023, "Only of this host." },
	    AFTER_ARG,
	    LIMIT_ARG } },
	{ "user import",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  300000,
	  "Make many accounts from a file.\n"
	  "One a line: JID, password or verifiers, number, separated by tabs (or commas). Empty\n"
	  "lines and lines with # are skipped; - reads standard input. Verifiers:\n"
	  "SCRAM-SHA-256$ITER:SALT$STORED:SERVER, several with spaces between them.",
	  { { "file", "FILE", CHILD_STR, CLI_POSITIONAL, false, 4096, "The file." },
	    { "users", "", CHILD_ARRAY, CLI_HIDDEN, true, 1000, "The accounts." },
	    { "replace", "", CHILD_BOOL, CLI_FLAG, false, 0,
	      "Change accounts that exist, instead of refusing them." } } },

	{ "sessions",
	  "sessions",
	  CMD_CORE,
	  false,
	  false,
	  WAIT,
	  "Who is logged in.",
	  { { "jid", "JID", CHILD_STR, CLI_POSITIONAL, false, JID_MAX, "Only this account." },
	    LIMIT_ARG } },

	{ "link list", "link.list", CMD_SMS, false, false, WAIT, "The SMS links and their states.",
	  NO_ARGS },
	{ "link add",
	  "link.add",
	  CMD_SMS,
	  false,
	  true,
	  WAIT,
	  "Add a link to an SMS centre and connect.\n"
	  "Further options are those of a link section in tandem.conf (--window 20, --tls "
	  "verify, --prefixes +1,+44, ...).",
	  { LINK_ARG,
	    { "host", "HOST", CHILD_STR, CLI_OPTION, true, 253,
	      "The SMS centre's name or address." },
	    { "port", "PORT", CHILD_UINT, CLI_OPTION, false, 65535, "Its port (2775)." },
	    { "system_id", "ID", CHILD_STR, CLI_OPTION, true, 15, "Our name there." },
	    { "password", "", CHILD_STR, CLI_SECRET, false, SECRET_MAX,
	      "The password is the first line of standard input." } } },
	{ "link delete",
	  "link.delete",
	  CMD_SMS,
	  false,
	  false,
	  WAIT,
	  "Close a link that was added, and forget it.",
	  { LINK_ARG } },
	{ "link enable",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Connect a disabled link.",
	  { LINK_ARG } },
	{ "link disable",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Close a link and leave it closed; its messages go over others or wait.",
	  { LINK_ARG } },

	{ "component list", "component.list", CMD_CORE, false, false, WAIT,
	  "External components and whether they are connected.", NO_ARGS },
	{ "component add",
	  "component.add",
	  CMD_CORE,
	  false,
	  false,
	  WAIT,
	  "Let an external component (XEP-0114) connect.",
	  { DOMAIN_ARG,
	    { "secret", "", CHILD_STR, CLI_SECRET, true, SECRET_MAX,
	      "The secret is the first line of standard input." } } },
	{ "component delete",
	  "component.delete",
	  CMD_CORE,
	  false,
	  false,
	  WAIT,
	  "Disconnect a component that was added, and forget it.",
	  { DOMAIN_ARG } },

	{ "queue list",
	  "queue.list",
	  CMD_SMS,
	  false,
	  false,
	  WAIT,
	  "Messages of the SMS translator.",
	  { { "state", "STATE", CHILD_STR, CLI_OPTION, false, 16,
	      "queued, submitted, accepted, delivered, failed or expired." },
	    { "number", "+E164", CHILD_STR, CLI_OPTION, false, NUMBER_MAX,
	      "To or from this number." },
	    AFTER_ARG,
	    LIMIT_ARG } },
	{ "queue show",
	  "queue.show",
	  CMD_SMS,
	  false,
	  false,
	  WAIT,
	  "All about one message.",
	  { { "message", "ID", CHILD_STR, CLI_POSITIONAL, true, 32, "The message." } } },
	{ "queue retry",
	  "queue.retry",
	  CMD_SMS,
	  false,
	  false,
	  WAIT,
	  "Try now what waits; queue again what failed.",
	  { MESSAGES_ARGS } },
	{ "queue drop",
	  "queue.drop",
	  CMD_SMS,
	  false,
	  false,
	  WAIT,
	  "Give up messages that no SMS centre has accepted; their senders are told.",
	  { MESSAGES_ARGS } },

	{ "counters",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "What has been counted since the start.",
	  { PROCESS_ARG(false, CLI_POSITIONAL, "Only of tandemd, core or sms.") } },
	{ "log-level",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Show or set how much is logged, until the next start.",
	  { { "level", "LEVEL", CHILD_STR, CLI_POSITIONAL, false, 10,
	      "error, warn, notice, info or debug." },
	    PROCESS_ARG(false, CLI_OPTION, "Only of tandemd, core or sms.") } },
	{ "trace",
	  NULL,
	  CMD_TANDEMD,
	  true,
	  false,
	  WAIT,
	  "Show what happens to one account or one number, as it happens.",
	  { { "who", "JID|NUMBER", CHILD_STR, CLI_POSITIONAL, true, JID_MAX, "Whom to follow." },
	    { "seconds", "N", CHILD_UINT, CLI_OPTION, false, 3600, "For so long (60)." } } },

	{ "reload", NULL, CMD_TANDEMD, false, false, 60000,
	  "Read tandem.conf again, apply it, and say what needs a restart.", NO_ARGS },
	{ "restart",
	  NULL,
	  CMD_TANDEMD,
	  false,
	  false,
	  WAIT,
	  "Stop and start one process.",
	  { PROCESS_ARG(true, CLI_POSITIONAL, "core or sms.") } },
	{ "stop", NULL, CMD_TANDEMD, false, false, WAIT, "Stop everything cleanly.", NO_ARGS },
	{ "help", NULL, CMD_TANDEMD, false, false, WAIT, "The commands that this tandemd knows.",
	  NO_ARGS },

	{ "config check",
	  NULL,
	  CMD_LOCAL,
	  false,
	  false,
	  0,
	  "Check a configuration file and the files that it names. Needs no tandemd.",
	  { { "file", "FILE", CHILD_STR, CLI_POSITIONAL, false, 4096,
	      "The file (/etc/tandem/tandem.conf)." } } },
	{ "config sample", NULL, CMD_LOCAL, false, false, 0, "Print a documented tandem.conf.",
	  NO_ARGS },
	{ "config reference", NULL, CMD_LOCAL, false, false, 0,
	  "Print docs/configuration.md: every option.", NO_ARGS },
	{ "certificate self-signed",
	  NULL,
	  CMD_LOCAL,
	  false,
	  false,
	  0,
	  "Make a key and a self-signed certificate, to try things out. Files that exist are kept.",
	  { { "names", "NAMES", CHILD_STR, CLI_POSITIONAL, true, 1024,
	      "Host names and addresses, separated by commas." },
	    { "certificate", "FILE", CHILD_STR, CLI_OPTION, true, 4096,
	      "Where the certificate goes." },
	    { "key", "FILE", CHILD_STR, CLI_OPTION, true, 4096, "Where the key goes (mode 0600)." },
	    { "days", "N", CHILD_UINT, CLI_OPTION, false, 36500, "Valid for so long (3650)." } } },
	{ "commands", NULL, CMD_LOCAL, false, false, 0,
	  "Print docs/tandemctl.md: every command and its options.", NO_ARGS },
};
const size_t commands_n = ARRAY_LEN(commands);

const struct command *command_find(struct sl name)
{
	for (size_t i = 0; i < commands_n; i++)
		if (sl_eq(name, sl_cstr(commands[i].name)))
			return &commands[i];
	return NULL;
}

static const struct command_arg *arg_find(const struct command *c, const char *name)
{
	for (const struct command_arg *a = c->arg; a->name; a++)
		if (strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

int command_check(const struct command *c, const json_t *args, struct err *e)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)args, name, v)
	{
		const struct command_arg *a = arg_find(c, name);
		if (!a && !c->more_args)
			return err_set(e, E_SYNTAX, NULL, "unknown argument %.60s", name);
		if (!a)
			continue;
		struct child_arg one = { a->name, a->kind, a->required, a->max, NULL };
		int rc = args_check_one(&one, v, e);
		if (rc < 0)
			return rc;
	}
	for (const struct command_arg *a = c->arg; a->name; a++)
		if (a->required && !json_object_get(args, a->name))
			return err_set(e, E_SYNTAX, NULL, "%s is missing", a->name);
	return 0;
}
