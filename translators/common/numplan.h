/* numplan.h - telephone numbers: normalisation to E.164 and the table of which account owns which.
 *
 * Pure and in memory; the owner keeps it in step with the store (STORE_NUMBER_*). One thread.
 * Rules ADDR-1 to ADDR-4 (docs/rules/sms.md). */
#ifndef TANDEM_TRANSLATORS_NUMPLAN_H
#define TANDEM_TRANSLATORS_NUMPLAN_H

#include "appliance/base/arena.h"
#include "appliance/base/base.h"

/* How numbers are dialled here. Digits only; empty: the form is not understood. */
struct numplan {
	struct sl country_code;    /* "1", "49": for numbers that begin with the national prefix */
	struct sl intl_prefix;     /* "00", "011" */
	struct sl national_prefix; /* "0", "1" */
};

#define NUMBER_MAX 21 /* '+', 15 digits of E.164, room for longer service numbers, and a NUL */

/* Normalise what a person or a network wrote. Result, NUL-terminated, in dst: "+" and 5 to 15
 * digits, or a short code of 3 to 8 digits without "+". E_SYNTAX: no number (the reason in e). Rule
 * ADDR-1. */
int number_normalise(const struct numplan *np, struct sl in, char dst[NUMBER_MAX], struct err *e);

struct numbers; /* the table */

int numbers_new(struct numbers **n_r);
void numbers_free(struct numbers **n);
/* number and jid normalised; copied. A number that is there is replaced. 0, E_NOMEM. */
int numbers_set(struct numbers *n, struct sl number, struct sl jid, struct sl link);
void numbers_del(struct numbers *n, struct sl number);
/* The owner's bare JID, or SL_NULL. Borrowed until the next change. */
struct sl numbers_owner(const struct numbers *n, struct sl number);
/* The account's oldest number and (if link_r) the link that it is bound to. SL_NULL: none. Rule
 * ADDR-2. */
struct sl numbers_of(const struct numbers *n, struct sl jid, struct sl *link_r);
void numbers_each_of(const struct numbers *n, struct sl jid,
		     void (*fn)(void *arg, struct sl number, struct sl jid, struct sl link),
		     void *arg);
size_t numbers_count(const struct numbers *n);

#endif
