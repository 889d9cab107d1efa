/* bearer_int.h - what a kind of bearer (bearer_smpp.c, bearer_radio.c) fills in for bearer.c.
 * Nobody else includes it. */
#ifndef TANDEM_SMS_BEARER_INT_H
#define TANDEM_SMS_BEARER_INT_H

#include "translators/sms/bearer.h"

/* Every slot is required; the contracts are those of bearer.h. */
struct bearer_vt {
	void (*stop)(struct bearer *b, uint32_t drain_ms, uint32_t close_ms);
	bool (*stopped)(const struct bearer *b);
	void (*free_parts)(struct bearer *b);
	void (*free)(struct bearer *b);
	int (*submit)(struct bearer *b, const struct sms_part *p, uint64_t cookie);
	void (*answer)(struct bearer *b, uint64_t token, int rc);
	bool (*up)(const struct bearer *b);
	unsigned (*room)(const struct bearer *b);
	unsigned (*serves)(const struct bearer *b, struct sl number);
	int (*key)(const struct bearer *b, struct sl message_id, struct buf *dst);
	json_t *(*describe)(const struct bearer *b);
	void (*enable)(struct bearer *b, bool on);
};

struct bearer { /* first member of each kind */
	const struct bearer_vt *vt;
	const struct bearer_ops *ops;
	void *arg;
	char name[65];
	uint32_t cost;
	unsigned encodings;
};

#endif
