/* ids.h - time-sortable 64-bit ids of a translator's queue and outbox: milliseconds << 20 |
 * counter, always growing, also when the clock steps back; after a restart ids_floor sets the
 * least. One thread. */
#ifndef TANDEM_TRANSLATORS_IDS_H
#define TANDEM_TRANSLATORS_IDS_H

#include "appliance/base/clock.h"

struct ids {
	uint64_t last;
};

static inline uint64_t ids_next(struct ids *g)
{
	uint64_t now = clock_wall_ms() << 20;

	g->last = now > g->last ? now : g->last + 1;
	return g->last;
}
static inline void ids_floor(struct ids *g, uint64_t id)
{
	if (id > g->last)
		g->last = id;
}
static inline uint64_t ids_ms(uint64_t id)
{
	return id >> 20;
}

#endif
