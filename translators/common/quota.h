/* quota.h - how many messages an account may send in a minute: a token bucket for each key, in
 * memory.
 *
 * A full bucket is forgotten by quota_sweep, so memory follows the accounts that are sending. One
 * thread. */
#ifndef TANDEM_TRANSLATORS_QUOTA_H
#define TANDEM_TRANSLATORS_QUOTA_H

#include "appliance/base/base.h"

struct quota;

int quota_new(struct quota **q_r);
void quota_free(struct quota **q);
/* Take one of per_minute (which is also the burst); false: none left. 0 per minute, or out of
 * memory: no limit. */
bool quota_take(struct quota *q, struct sl key, uint32_t per_minute, uint64_t now_ms);
/* Forget who has sent nothing for a minute. */
void quota_sweep(struct quota *q, uint64_t now_ms);

#endif
