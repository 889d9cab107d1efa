/* clock.c - see clock.h. */
#include "appliance/base/clock.h"

#include <stdio.h>
#include <time.h>

static bool fake;
static uint64_t fake_mono, fake_wall;

static uint64_t read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t clock_mono_us(void)
{
	return fake ? fake_mono * 1000u : read_us(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
	return fake ? fake_mono : read_us(CLOCK_MONOTONIC) / 1000u;
}

uint64_t clock_wall_ms(void)
{
	return fake ? fake_wall : read_us(CLOCK_REALTIME) / 1000u;
}

void clock_stamp(uint64_t wall_ms, char dst[CLOCK_STAMP_MAX])
{
	time_t t = (time_t)(wall_ms / 1000u);
	struct tm tm;

	gmtime_r(&t, &tm);
	int year = tm.tm_year + 1900;
	if (year < 0 || year > 9999)
		year = 9999;
	snprintf(dst, CLOCK_STAMP_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
		 (unsigned)year % 10000u, (unsigned)(tm.tm_mon + 1) % 100u,
		 (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
		 (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u,
		 (unsigned)(wall_ms % 1000u));
}

void clock_fake(bool on, uint64_t mono_ms, uint64_t wall_ms)
{
	fake = on;
	fake_mono = mono_ms;
	fake_wall = wall_ms;
}

void clock_fake_advance_ms(uint64_t ms)
{
	fake_mono += ms;
	fake_wall += ms;
}
