/* bearer.c - the interface of bearer.h to the kinds of bearer_int.h. */
#include "translators/sms/bearer_int.h"

void bearer_stop(struct bearer *b, uint32_t drain_ms, uint32_t close_ms)
{
	b->vt->stop(b, drain_ms, close_ms);
}

bool bearer_stopped(const struct bearer *b)
{
	return b->vt->stopped(b);
}

void bearer_free_parts(struct bearer *b)
{
	b->vt->free_parts(b);
}

void bearer_free(struct bearer **b)
{
	if (*b)
		(*b)->vt->free(*b);
	*b = NULL;
}

int bearer_submit(struct bearer *b, const struct sms_part *p, uint64_t cookie)
{
	return b->vt->submit(b, p, cookie);
}

void bearer_answer(struct bearer *b, uint64_t token, int rc)
{
	b->vt->answer(b, token, rc);
}

const char *bearer_name(const struct bearer *b)
{
	return b->name;
}

bool bearer_up(const struct bearer *b)
{
	return b->vt->up(b);
}

unsigned bearer_room(const struct bearer *b)
{
	return b->vt->room(b);
}

unsigned bearer_encodings(const struct bearer *b)
{
	return b->encodings;
}

unsigned bearer_serves(const struct bearer *b, struct sl number)
{
	return b->vt->serves(b, number);
}

uint32_t bearer_cost(const struct bearer *b)
{
	return b->cost;
}

int bearer_key(const struct bearer *b, struct sl message_id, struct buf *dst)
{
	return b->vt->key(b, message_id, dst);
}

json_t *bearer_describe(const struct bearer *b)
{
	return b->vt->describe(b);
}

void bearer_enable(struct bearer *b, bool on)
{
	b->vt->enable(b, on);
}
