/* clock.h - time. Timers use the monotonic clock only; the wall clock is for stamps. */
#ifndef TANDEM_BASE_CLOCK_H
#define TANDEM_BASE_CLOCK_H

#include "appliance/base/base.h"

uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
uint64_t clock_wall_ms(void); /* since 1970-01-01 UTC */

/* "2026-11-24T22:48:19.123Z" (XEP-0082) and a NUL into dst[25]. */
#define CLOCK_STAMP_MAX 25
void clock_stamp(uint64_t wall_ms, char dst[CLOCK_STAMP_MAX]);

/* Tests: freeze all clocks at these values (advance with clock_fake_advance_ms); false: real again.
 */
void clock_fake(bool on, uint64_t mono_ms, uint64_t wall_ms);
void clock_fake_advance_ms(uint64_t ms);

#endif
