/* timer.c - the hierarchical timer wheel behind loop_timer_*. See loop_int.h for its shape.
 *
 * A timer sits in the lowest level that reaches its time. When the wheel comes to a multiple of a
 * level's slot width, the slot that begins there is sorted into the levels below ("cascade").
 * Bitmaps of occupied slots give the next time at which anything happens, so that an idle wheel
 * costs nothing and a jump of the clock does not walk the slots between. */
#include "appliance/base/clock.h"
#include "appliance/loop/loop_int.h"

static unsigned level_shift(unsigned level)
{
	return 8 + 6 * (level - 1);
}

static unsigned level_first(unsigned level)
{
	return 256 + 64 * (level - 1);
}

void wheel_init(struct wheel *w, uint64_t now_ms)
{
	memset(w->bits0, 0, sizeof(w->bits0));
	memset(w->bits, 0, sizeof(w->bits));
	for (size_t i = 0; i < WHEEL_SLOTS; i++)
		list_init(&w->slot[i]);
	list_init(&w->due);
	w->base_ms = now_ms;
	w->n = 0;
}

static void mark(struct wheel *w, size_t slot, bool on)
{
	uint64_t *word = slot < 256 ? &w->bits0[slot / 64] : &w->bits[1 + (slot - 256) / 64];
	uint64_t bit = (uint64_t)1 << slot % 64;

	*word = on ? *word | bit : *word & ~bit;
}

static size_t slot_for(const struct wheel *w, uint64_t due_ms)
{
	uint64_t delta = due_ms - w->base_ms;
	unsigned level = 1;

	if (delta < 256)
		return due_ms & 255;
	while (level < WHEEL_LEVELS - 1 && delta >= (uint64_t)1 << level_shift(level + 1))
		level++;
	return level_first(level) + (due_ms >> level_shift(level) & 63);
}

static void put(struct wheel *w, struct loop_timer *t)
{
	if (t->due_ms < w->base_ms) {
		list_append(&w->due, &t->node);
		return;
	}
	size_t i = slot_for(w, t->due_ms);
	list_append(&w->slot[i], &t->node);
	mark(w, i, true);
}

/* Distance from bit `from` to the first set bit, going round. bits is not 0. */
static unsigned ring_distance(uint64_t bits, unsigned from)
{
	uint64_t r = from ? bits >> from | bits << (64 - from) : bits;

	return (unsigned)__builtin_ctzll(r);
}

static uint64_t next0(const struct wheel *w)
{
	unsigned from = w->base_ms & 255, word = from / 64;
	uint64_t m = w->bits0[word] & ~(uint64_t)0 << from % 64;

	for (unsigned k = 0; k <= 4; k++) {
		if (m) {
			unsigned s = word * 64 + (unsigned)__builtin_ctzll(m);

			return w->base_ms + ((s - from) & 255);
		}
		word = (word + 1) & 3;
		m = w->bits0[word];
	}
	return UINT64_MAX;
}

static uint64_t next_cascade(const struct wheel *w, unsigned level)
{
	unsigned shift = level_shift(level);
	bool aligned = (w->base_ms & (((uint64_t)1 << shift) - 1)) == 0;
	uint64_t pos = (w->base_ms >> shift) + (aligned ? 0 : 1);

	if (!w->bits[level])
		return UINT64_MAX;
	return (pos + ring_distance(w->bits[level], pos & 63)) << shift;
}

static uint64_t next_slot(const struct wheel *w)
{
	uint64_t best = next0(w);

	for (unsigned level = 1; level < WHEEL_LEVELS; level++) {
		uint64_t t = next_cascade(w, level);

		if (t < best)
			best = t;
	}
	return best;
}

uint64_t wheel_next(const struct wheel *w)
{
	return list_empty(&w->due) ? next_slot(w) : 0;
}

static void cascade(struct wheel *w, unsigned level)
{
	size_t i = level_first(level) + (w->base_ms >> level_shift(level) & 63);
	struct list todo, *n;

	list_init(&todo);
	list_splice(&todo, &w->slot[i]);
	mark(w, i, false);
	while ((n = list_pop(&todo)) != NULL)
		put(w, LIST_ENTRY(n, struct loop_timer, node));
}

/* Run the millisecond base_ms. */
static void step(struct wheel *w)
{
	size_t i = w->base_ms & 255;

	for (unsigned level = 1; level < WHEEL_LEVELS; level++) {
		if (w->base_ms & (((uint64_t)1 << level_shift(level)) - 1))
			break;
		cascade(w, level);
	}
	list_splice(&w->due, &w->slot[i]);
	mark(w, i, false);
	w->base_ms++;
}

void wheel_run(struct wheel *w, uint64_t now_ms)
{
	while (w->base_ms <= now_ms) {
		uint64_t t = next_slot(w);

		if (t > now_ms) {
			w->base_ms = now_ms + 1;
			return;
		}
		w->base_ms = t;
		step(w);
	}
}

/* The slot's bit must follow, or the loop would wake for an empty slot. A node whose two neighbours
 * are one is alone with its list head, and the head's address is the slot's number. */
static void unlink_timer(struct wheel *w, struct loop_timer *t)
{
	uintptr_t head = (uintptr_t)t->node.next, first = (uintptr_t)w->slot;

	if (t->node.next == t->node.prev && head >= first && head < first + sizeof(w->slot))
		mark(w, (head - first) / sizeof(w->slot[0]), false);
	list_remove(&t->node);
}

void loop_timer_clear(struct loop_timer *t)
{
	if (!t->loop)
		return;
	unlink_timer(&t->loop->wheel, t);
	t->loop->wheel.n--;
	t->loop = NULL;
}

/* Counted from the real time, not from the time cached at the start of the turn, and rounded up: a
 * long turn must not make a timer fire early. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t after_ms,
		    void (*cb)(struct loop_timer *t))
{
	uint64_t now_us = clock_mono_us(), now_ms = (now_us + 999) / 1000;

	loop_timer_clear(t);
	if (l->wheel.n == 0)
		l->wheel.base_ms = now_us / 1000; /* an empty wheel is not turned */
	t->due_ms = after_ms > UINT64_MAX / 2 ? UINT64_MAX / 2 : now_ms + after_ms;
	t->cb = cb;
	t->loop = l;
	l->wheel.n++;
	put(&l->wheel, t);
}
