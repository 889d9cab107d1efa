/* tandemd.h - the command line of tandemd. */
#ifndef TANDEM_SUPERVISOR_TANDEMD_H
#define TANDEM_SUPERVISOR_TANDEMD_H

/* The exit status: 0 stopped as asked (or --check passed), 1 could not serve, 2 wrong usage. */
int tandemd_main(int argc, char **argv);

#endif
