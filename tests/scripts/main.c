/* main.c - runs conversation scripts against a whole tandem-core in this process: xmpp-scripts
 * FILE...
 *
 * Each script runs three times: what the peers send goes out whole, one octet at a time, and cut at
 * random. TAP on standard output. The language is in tests/scripts/README.md. */
#include "tests/scripts/play.h"

int main(int argc, char **argv)
{
	return play_all(argc - 1, argv + 1);
}
