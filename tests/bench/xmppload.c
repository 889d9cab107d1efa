/* xmppload.c - the XMPP load generator: xmppload MODE --option VALUE ...; prints one JSON object.
 *
 *	pairs     N pairs, W messages on their way in each; processor time per 100,000 messages
 *	latency   messages at a rate: delay to the receiver, and to the server's acknowledgement
 *	idle      N sessions that announce presence and do nothing: memory of each
 *	login     authenticate and bind, again and again
 *	sms       messages to many telephone numbers
 *	register  make accounts by XEP-0077
 *
 * Processor time and memory are those of the process trees below the --pid options. Users are made
 *from
 * --user-format (u%u) and --first-user; all have the same password. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/xl.h"

enum option_kind { TEXT, NUMBER, FLAG };
static const struct {
	const char *name;
	enum option_kind kind;
	void *value;
} options[] = {
	{ "host", TEXT, &xl_opt.host },
	{ "port", NUMBER, &xl_opt.port },
	{ "domain", TEXT, &xl_opt.domain },
	{ "password", TEXT, &xl_opt.password },
	{ "mechanism", TEXT, &xl_opt.mechanism },
	{ "user-format", TEXT, &xl_opt.user_format },
	{ "resource", TEXT, &xl_opt.resource },
	{ "sms-domain", TEXT, &xl_opt.sms_domain },
	{ "first-user", NUMBER, &xl_opt.first_user },
	{ "parallel", NUMBER, &xl_opt.parallel },
	{ "pairs", NUMBER, &xl_opt.pairs },
	{ "window", NUMBER, &xl_opt.window },
	{ "messages", NUMBER, &xl_opt.messages },
	{ "rate", NUMBER, &xl_opt.rate },
	{ "seconds", NUMBER, &xl_opt.seconds },
	{ "sessions", NUMBER, &xl_opt.sessions },
	{ "numbers", NUMBER, &xl_opt.numbers },
	{ "octets", NUMBER, &xl_opt.octets },
	{ "sm", FLAG, &xl_opt.sm },
	{ "raw", FLAG, &xl_opt.raw },
	{ "presence", FLAG, &xl_opt.presence },
};
#define NOPTIONS (sizeof options / sizeof *options)

static const struct {
	const char *name;
	int (*run)(void);
} modes[] = {
	{ "pairs", mode_pairs }, { "latency", mode_latency }, { "idle", mode_idle },
	{ "login", mode_login }, { "sms", mode_sms },         { "register", mode_register },
};

static void set(const char *name, const char *value)
{
	if (!strcmp(name, "pid")) {
		if (xl_opt.npid == sizeof xl_opt.pid / sizeof *xl_opt.pid)
			xl_die("too many --pid");
		xl_opt.pid[xl_opt.npid++] = (int)strtol(value, NULL, 10);
		return;
	}
	if (!strcmp(name, "tls")) {
		xl_opt.tls = !strcmp(value, "direct")     ? XL_DIRECT
			     : !strcmp(value, "starttls") ? XL_STARTTLS
							  : XL_PLAIN;
		return;
	}
	for (size_t i = 0; i < NOPTIONS; i++) {
		if (strcmp(options[i].name, name))
			continue;
		if (options[i].kind == TEXT)
			*(const char **)options[i].value = value;
		else if (options[i].kind == NUMBER)
			*(unsigned *)options[i].value = (unsigned)strtoul(value, NULL, 10);
		else
			*(bool *)options[i].value = true;
		return;
	}
	xl_die("unknown option --%s", name);
}

static bool is_flag(const char *name)
{
	for (size_t i = 0; i < NOPTIONS; i++)
		if (!strcmp(options[i].name, name))
			return options[i].kind == FLAG;
	return false;
}

int main(int argc, char **argv)
{
	xl_opt = (struct xl_options){ .host = "127.0.0.1",
				      .domain = "localhost",
				      .password = "secret",
				      .mechanism = "SCRAM-SHA-1",
				      .user_format = "u%u",
				      .resource = "r",
				      .sms_domain = "sms.localhost",
				      .port = 5222,
				      .parallel = 20,
				      .pairs = 50,
				      .window = 16,
				      .messages = 100000,
				      .rate = 1000,
				      .seconds = 5,
				      .sessions = 1000,
				      .numbers = 10000,
				      .octets = 184 };
	if (argc < 2)
		xl_die("usage: xmppload MODE --option VALUE ...");
	for (int i = 2; i < argc; i++) {
		if (strncmp(argv[i], "--", 2))
			xl_die("not an option: %s", argv[i]);
		const char *name = argv[i] + 2;
		if (is_flag(name))
			set(name, NULL);
		else if (++i < argc)
			set(name, argv[i]);
		else
			xl_die("--%s needs a value", name);
	}
	xl_init();
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (!strcmp(modes[i].name, argv[1]))
			return modes[i].run();
	xl_die("unknown mode %s", argv[1]);
}
