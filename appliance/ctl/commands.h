/* commands.h - every command of tandemctl, in one table.
 *
 * tandemd checks arguments and dispatches by it, tandemctl parses its command line and prints its
 * help by it, and docs/tandemctl.md is made from it. To add one: a row in commands.c; in tandemd a
 * handler when the target is CMD_TANDEMD (supervisor/handlers.c); in tandemctl a printer if the
 * plain one will not do. */
#ifndef TANDEM_CTL_COMMANDS_H
#define TANDEM_CTL_COMMANDS_H

#include "appliance/child/child.h"

enum command_target {
	CMD_TANDEMD, /* tandemd has a handler: itself, or several processes */
	CMD_CORE,    /* passed on to one child, whose answer is the answer */
	CMD_SMS,
	CMD_LOCAL, /* tandemctl alone, without tandemd */
};

enum command_cli {
	CLI_POSITIONAL, /* in the order of the table */
	CLI_OPTION,     /* --name VALUE */
	CLI_FLAG,       /* --name */
	CLI_SECRET,     /* --name-stdin: one line from standard input; never in argv */
	CLI_HIDDEN,     /* tandemctl fills it in, or it is for programs only */
};

struct command_arg {
	const char *name;  /* in "args"; on the command line with - for _ */
	const char *value; /* what the help calls it: "JID" */
	enum child_arg_kind kind;
	enum command_cli cli;
	bool required;
	uint64_t max; /* as in struct child_arg */
	const char *help;
};

#define COMMAND_ARGS_MAX 10

struct command {
	const char *name;  /* "user add" */
	const char *child; /* the child's name for it; NULL with CMD_TANDEMD and CMD_LOCAL */
	enum command_target target;
	bool streams;
	bool more_args;   /* further arguments are passed on unchecked: the settings of a link */
	uint32_t wait_ms; /* for an answer */
	const char *help;
	struct command_arg arg[COMMAND_ARGS_MAX]; /* ends with a NULL name */
};

extern const struct command commands[];
extern const size_t commands_n;

const struct command *command_find(struct sl name);
/* 0, or what is wrong with args (an object). */
int command_check(const struct command *c, const json_t *args, struct err *e);

#endif
