/* args.h - what child_args does, without a request: for tandemd, too. */
#ifndef TANDEM_CHILD_ARGS_H
#define TANDEM_CHILD_ARGS_H

#include "appliance/child/child.h"

/* args: an object. 0, or E_SYNTAX, E_RANGE, E_TOOBIG with the argument's name in the text. Nothing
 * is promised about value_r after an error. */
int args_take(json_t *args, const struct child_arg *a, size_t n, struct err *e);
/* One value; a->value_r may be NULL: only checked. */
int args_check_one(const struct child_arg *a, json_t *v, struct err *e);
const char *args_kind_name(enum child_arg_kind k);

#endif
