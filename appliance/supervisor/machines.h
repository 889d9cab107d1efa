/* machines.h - every state machine of the product, for `make docs` and for the start-up check.
 *
 * The table (machines.c) is what a folder extends with one line when it gains a machine: export the
 * struct fsm_def under the name that its own header declares. */
#ifndef TANDEM_SUPERVISOR_MACHINES_H
#define TANDEM_SUPERVISOR_MACHINES_H

#include "appliance/fsm/fsm.h"

/* Ends with NULL. */
extern const struct fsm_def *const machines[];

/* Prepare and check all of them. 0, or the first defect. */
int machines_check(struct err *e);
/* Write NAME.dot and NAME.md of each machine and README.md (the index) into dir, which is made when
 * it is missing. check: write nothing, compare; E_STATE names the first file that differs. */
int machines_document(const char *dir, bool check, struct err *e);

#endif
