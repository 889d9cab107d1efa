/* secret.c - a password or secret: from standard input, from the terminal, or made up. See ctl.h.
 *
 * It goes into the request and nowhere else: never into argv, the environment or a log. */
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "appliance/base/rnd.h"
#include "appliance/ctl/ctl.h"

#define SECRET_MAX    1024
#define INVENTED_SIZE 20

static const struct command_arg *wanted(const struct command *cmd)
{
	for (const struct command_arg *a = cmd->arg; a->name; a++)
		if (a->cli == CLI_SECRET)
			return a;
	return NULL;
}

static int set(struct ctl *c, const char *name, const char *secret)
{
	json_t *v = json_string(secret);

	if (!v || !*secret) {
		json_decref(v);
		fprintf(stderr, "tandemctl: the %s is %s\n", name, v ? "empty" : "not UTF-8");
		return EXIT_USAGE;
	}
	json_object_set_new(c->args, name, v);
	return 0;
}

/* One line without its end. < 0: too long, or nothing there. */
static int read_line(FILE *f, char line[SECRET_MAX + 2])
{
	size_t n;

	if (!fgets(line, SECRET_MAX + 2, f))
		return E_CLOSED;
	n = strlen(line);
	if (n > SECRET_MAX)
		return E_TOOBIG;
	while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		line[--n] = '\0';
	return 0;
}

static int from_stdin(struct ctl *c, const char *name)
{
	char line[SECRET_MAX + 2];
	int rc = read_line(stdin, line);

	if (rc < 0)
		fprintf(stderr, "tandemctl: no %s on standard input\n", name);
	rc = rc < 0 ? EXIT_USAGE : set(c, name, line);
	wipe(line, sizeof(line));
	return rc;
}

static int ask(FILE *tty, const char *question, char line[SECRET_MAX + 2])
{
	struct termios was, now;
	int fd = fileno(tty), rc;

	if (tcgetattr(fd, &was) < 0)
		return E_IO;
	now = was;
	now.c_lflag &= ~(tcflag_t)ECHO;
	fprintf(stderr, "%s: ", question);
	/* Ctrl-C must not leave the terminal without echo: signals wait until it is back. */
	sigset_t block, old;
	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGTSTP);
	now.c_lflag &= ~(tcflag_t)ISIG;
	sigprocmask(SIG_BLOCK, &block, &old);
	tcsetattr(fd, TCSAFLUSH, &now);
	rc = read_line(tty, line);
	tcsetattr(fd, TCSAFLUSH, &was);
	sigprocmask(SIG_SETMASK, &old, NULL);
	fputc('\n', stderr);
	if (rc == 0 && strchr(line, 3)) /* Ctrl-C, as a character */
		rc = E_CLOSED;
	return rc;
}

static int from_terminal(struct ctl *c, const char *name, FILE *tty)
{
	char one[SECRET_MAX + 2], two[SECRET_MAX + 2];
	int rc = ask(tty, "Password", one);

	if (rc == 0)
		rc = ask(tty, "Again", two);
	if (rc < 0) {
		fputs("tandemctl: no password\n", stderr);
		rc = EXIT_USAGE;
	} else if (strcmp(one, two) != 0) {
		fputs("tandemctl: the two are not the same\n", stderr);
		rc = EXIT_USAGE;
	} else {
		rc = set(c, name, one);
	}
	wipe(one, sizeof(one));
	wipe(two, sizeof(two));
	return rc;
}

static int invent(struct ctl *c, const char *name, char **made_r)
{
	char *s = malloc(INVENTED_SIZE + 1);
	int rc;

	if (!s)
		return EXIT_REFUSED;
	rnd_token(s, INVENTED_SIZE);
	rc = set(c, name, s);
	if (rc == 0)
		*made_r = s;
	else
		free(s);
	return rc;
}

int secret_read(struct ctl *c, char **made_r)
{
	const struct command_arg *a = wanted(c->cmd);

	*made_r = NULL;
	if (!a)
		return 0;
	if (c->secret_from_stdin)
		return from_stdin(c, a->name);
	/* Only an account's password can be asked for or made up: other secrets are somebody
	 * else's. */
	if (strncmp(c->cmd->name, "user ", 5) != 0) {
		if (!a->required)
			return 0;
		fprintf(stderr, "tandemctl: --%s-stdin is missing\n", a->name);
		return EXIT_USAGE;
	}
	if (isatty(STDIN_FILENO))
		return from_terminal(c, a->name, stdin);
	return invent(c, a->name, made_r);
}
