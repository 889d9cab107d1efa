/* main.c - fsm-print [--check] DIR: the pages of all state machines (make docs, and CI's
 * comparison). */
#include "appliance/supervisor/machines.h"

int main(int argc, char **argv)
{
	struct err e = { 0, NULL, "" };
	bool check = argc == 3 && strcmp(argv[1], "--check") == 0;

	if (argc != 2 && !check) {
		fputs("usage: fsm-print [--check] DIR\n", stderr);
		return 2;
	}
	if (machines_document(argv[argc - 1], check, &e) < 0) {
		fprintf(stderr, "fsm-print: %s\n", e.text);
		return 1;
	}
	return 0;
}
