/* import.h - one line of an import file. See import.c. */
#ifndef TANDEM_CTL_IMPORT_H
#define TANDEM_CTL_IMPORT_H

#include <jansson.h>

#include "appliance/base/base.h"

struct import_line {
	struct sl jid, secret, number; /* slices of the line */
	bool verifiers;
};

/* 1: an account; 0: nothing in this line; E_SYNTAX. */
int import_parse(struct sl line, struct import_line *l, struct err *e);
/* As a member of "users"; NULL: not UTF-8, or out of memory. New reference. */
json_t *import_json(const struct import_line *l);

#endif
