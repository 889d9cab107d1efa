/* fsm_index.h - private to appliance/fsm: what fsm_def_prepare builds. */
#ifndef TANDEM_FSM_FSM_INDEX_H
#define TANDEM_FSM_FSM_INDEX_H

#include "appliance/fsm/fsm.h"

/* Cell c = state * nevents + event holds the rows order[first[c] .. first[c + 1]). */
struct fsm_index {
	uint32_t *first;
	uint16_t *order;
	uint32_t norder;
	bool *live;           /* the row is in some cell */
	_Atomic uint8_t *hit; /* the row was taken in this process */
};

uint8_t fsm_row_next(const struct fsm_row *r, uint8_t state);
void fsm_index_free(struct fsm_index **x);

#endif
