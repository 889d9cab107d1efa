/* ctl.h - private to appliance/ctl: one run of tandemctl. */
#ifndef TANDEM_CTL_CTL_H
#define TANDEM_CTL_CTL_H

#include "appliance/ctl/client.h"
#include "appliance/ctl/commands.h"

/* docs/control-protocol.md, "Exit status of tandemctl". */
enum {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHED = 3,
	EXIT_PARTLY = 4,
	EXIT_UNKNOWN = 5
};

struct ctl {
	const char *control; /* path of the socket */
	bool json;
	const struct command *cmd;
	json_t *args;           /* from the command line */
	bool secret_from_stdin; /* --password-stdin was given */
	struct client client;
};

/* The exit status. */
int tandemctl_main(int argc, char **argv);

/* cmdline.c: fill cmd and args. 0, or an exit status + 1 (help was printed: EXIT_DONE + 1). */
int cmdline_parse(struct ctl *c, int argc, char **argv);
void cmdline_help(FILE *out);
void cmdline_help_command(FILE *out, const struct command *cmd);
/* docs/tandemctl.md */
void cmdline_document(FILE *out);

/* secret.c: read the secret that the command wants into args, or ask for it, or make one up.
 * made_r: the invented one (shown once; wipe and free it), or NULL. 0 or an exit status. */
int secret_read(struct ctl *c, char **made_r);

/* print.c: a result for people. */
void print_result(const struct command *cmd, const json_t *result);

/* local.c: commands without tandemd. */
int local_run(struct ctl *c);

/* import.c */
int import_run(struct ctl *c);

/* Connect, or say why not and return EXIT_UNREACHED. */
int ctl_connect(struct ctl *c);
/* Print an answer, as text or JSON. The exit status. */
int ctl_show(struct ctl *c, const json_t *answer);
int ctl_complain(const struct ctl *c, int status, const struct err *e);

#endif
