/* play.h - the player of conversation scripts (README.md has their language). */
#ifndef TANDEM_TESTS_SCRIPTS_PLAY_H
#define TANDEM_TESTS_SCRIPTS_PLAY_H

#include "appliance/base/base.h"

/* Returns the exit status. */
int play_all(int n, char **paths);

/* ---- pattern.c ---- */

#define VARS_MAX 64
struct vars {
	unsigned n;
	struct {
		char name[32];
		char value[2048];
	} v[VARS_MAX];
};
const char *var_get(const struct vars *vs, struct sl name);
int var_set(struct vars *vs, struct sl name, struct sl value);
/* $name replaced by its value. E_NOTFOUND, E_TOOBIG. */
int var_expand(const struct vars *vs, struct sl in, char *dst, size_t cap, size_t *n_r);

/* Does in begin with pattern? $name is taken if it has no value yet, up to the next character of
 * the pattern; * is any text. > 0: yes, so many octets of in; 0: perhaps, when more has come; < 0:
 * no. */
long pattern_match(struct vars *vs, struct sl pattern, struct sl in);

#endif
