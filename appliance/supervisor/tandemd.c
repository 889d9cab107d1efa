/* tandemd.c - the command line. See tandemd.h. */
#include "appliance/supervisor/tandemd.h"

#include <getopt.h>

#include "appliance/supervisor/supervisor.h"
#include "generated/version.h"

static const char usage[] =
	"usage: tandemd [--config FILE] [--check] [--fail-fast] [--bin-dir DIR]\n"
	"\n"
	"Starts Tandem's processes, restarts what dies, and answers tandemctl. Stays in the\n"
	"foreground; logs to standard error, or to syslog when the configuration says so.\n"
	"\n"
	"  --config FILE   the configuration (/etc/tandem/tandem.conf)\n"
	"  --check         only check it: 0 when it is good\n"
	"  --fail-fast     end with status 1 when a process cannot serve at its first start,\n"
	"                  instead of trying again\n"
	"  --bin-dir DIR   where tandem-core and tandem-sms are (beside tandemd)\n"
	"  --version       print the version\n"
	"\n"
	"SIGTERM and SIGINT stop cleanly, SIGHUP reads the configuration again.\n";

static int check(const char *path)
{
	const struct config *c;
	struct err e = { 0, NULL, "" };

	if (config_load(path, &c, &e) < 0) {
		fprintf(stderr, "tandemd: %s\n", e.text);
		return 1;
	}
	config_unref(&c);
	return 0;
}

int tandemd_main(int argc, char **argv)
{
	enum { OPT_CONFIG = 256, OPT_CHECK, OPT_FAIL_FAST, OPT_BIN_DIR, OPT_HELP, OPT_VERSION };
	static const struct option options[] = {
		{ "config", required_argument, NULL, OPT_CONFIG },
		{ "check", no_argument, NULL, OPT_CHECK },
		{ "fail-fast", no_argument, NULL, OPT_FAIL_FAST },
		{ "bin-dir", required_argument, NULL, OPT_BIN_DIR },
		{ "help", no_argument, NULL, OPT_HELP },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	struct supervisor_options o = { .config_path = "/etc/tandem/tandem.conf" };
	bool only_check = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case OPT_CONFIG:
			o.config_path = optarg;
			break;
		case OPT_CHECK:
			only_check = true;
			break;
		case OPT_FAIL_FAST:
			o.fail_fast = true;
			break;
		case OPT_BIN_DIR:
			o.bin_dir = optarg;
			break;
		case OPT_HELP:
			fputs(usage, stdout);
			return 0;
		case OPT_VERSION:
			puts("tandemd " TANDEM_VERSION);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	if (optind < argc) {
		fputs(usage, stderr);
		return 2;
	}
	return only_check ? check(o.config_path) : supervisor_run(&o);
}
