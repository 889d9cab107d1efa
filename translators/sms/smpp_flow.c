/* smpp_flow.c - see smpp_flow.h. */
#include "translators/sms/smpp_flow.h"

#define RATE_MOST    100000.0 /* beyond it the link is free again */
#define RATE_FLOOR   1.0      /* messages a second */
#define RATE_FIRST   20.0     /* least guess at the first complaint */
#define CUT          0.95     /* of what the centre took */
#define CUT_MOST     0.5      /* never below this part of the old rate in one step */
#define GROW_FAR     0.10     /* a second, while well below the last complaint */
#define GROW_NEAR    0.01     /* about there; doubles every second beyond it */
#define GROW_MOST    0.5
#define GROW_LEAST   1.0    /* messages a second */
#define FORGIVE_MS   60000u /* without complaint: free again */
#define PAUSE_MIN_MS 50u
#define PAUSE_MAX_MS 1000u
#define SPAN_MS      1000u
#define DEPTH_S      0.01 /* how much of a second's messages may go at once */

void smpp_flow_init(struct smpp_flow *f, const struct smpp_flow_cfg *cfg, uint64_t now_ms)
{
	*f = (struct smpp_flow){ .cfg = *cfg, .filled_ms = now_ms, .grown_ms = now_ms };
	f->span.from_ms = f->span_before.from_ms = f->last_ms = now_ms;
	if (f->cfg.pause_min_ms == 0)
		f->cfg.pause_min_ms = PAUSE_MIN_MS;
	if (f->cfg.pause_max_ms == 0)
		f->cfg.pause_max_ms = PAUSE_MAX_MS;
	if (f->cfg.pause_max_ms < f->cfg.pause_min_ms)
		f->cfg.pause_max_ms = f->cfg.pause_min_ms;
	f->pause_ms = f->cfg.pause_min_ms;
	f->tokens = 1;
}

double smpp_flow_rate(const struct smpp_flow *f)
{
	double max = f->cfg.max_rate;

	return f->rate > 0 && (max == 0 || f->rate < max) ? f->rate : max;
}

static double depth_of(double rate)
{
	return rate * DEPTH_S < 1 ? 1 : rate * DEPTH_S;
}

/* FLOW-4: increase once a second, forgive after a minute. */
static void grow(struct smpp_flow *f, uint64_t now_ms)
{
	if (f->rate == 0)
		return;
	if (now_ms - f->cut_ms >= FORGIVE_MS || f->rate > RATE_MOST) {
		f->rate = 0;
		return;
	}
	for (; now_ms - f->grown_ms >= 1000; f->grown_ms += 1000) {
		f->good = f->rate;
		double more = f->rate * (f->rate < f->ceiling * CUT ? GROW_FAR : f->step);

		if (f->rate >= f->ceiling)
			f->step = f->step * 2 < GROW_MOST ? f->step * 2 : GROW_MOST;
		f->rate += more > GROW_LEAST ? more : GROW_LEAST;
		if (f->rate > RATE_MOST * 2)
			f->rate = RATE_MOST * 2;
	}
}

uint32_t smpp_flow_room(struct smpp_flow *f, uint64_t now_ms)
{
	grow(f, now_ms);
	if (now_ms < f->paused_until_ms)
		return 0;
	double rate = smpp_flow_rate(f), depth = depth_of(rate);
	if (rate == 0)
		return SMPP_FLOW_UNLIMITED;
	f->tokens += rate * (double)(now_ms > f->filled_ms ? now_ms - f->filled_ms : 0) / 1000;
	f->filled_ms = now_ms;
	if (f->tokens > depth)
		f->tokens = depth;
	return (uint32_t)f->tokens;
}

void smpp_flow_take(struct smpp_flow *f)
{
	f->tokens -= 1;
	if (f->tokens < 0)
		f->tokens = 0;
}

uint32_t smpp_flow_wait_ms(const struct smpp_flow *f, uint64_t now_ms)
{
	double rate = smpp_flow_rate(f);
	uint64_t pause = now_ms < f->paused_until_ms ? f->paused_until_ms - now_ms : 0;
	double tokens = rate > 0 && f->tokens < 1 ? (1 - f->tokens) * 1000 / rate : 0;
	uint64_t wait = pause > (uint64_t)tokens + 1 ? pause : (uint64_t)tokens + 1;

	return wait > UINT32_MAX ? UINT32_MAX : (uint32_t)wait;
}

static void restart_spans(struct smpp_flow *f, uint64_t from_ms)
{
	f->span = f->span_before = (struct smpp_flow_span){ from_ms, 0 };
	f->last_ms = from_ms;
}

void smpp_flow_accepted(struct smpp_flow *f, uint64_t sent_ms)
{
	f->pause_ms = f->cfg.pause_min_ms;
	if (sent_ms < f->span_before.from_ms)
		return; /* of before the last pause */
	if (sent_ms - f->last_ms > SPAN_MS && sent_ms > f->last_ms)
		restart_spans(f, sent_ms); /* idle time says nothing about the centre */
	if (sent_ms > f->last_ms)
		f->last_ms = sent_ms;
	if (sent_ms - f->span.from_ms >= SPAN_MS && sent_ms > f->span.from_ms) {
		f->span_before = f->span;
		f->span = (struct smpp_flow_span){ sent_ms, 0 };
	}
	f->span.taken++;
}

/* What the centre took of the messages sent in the last one or two seconds. */
static double goodput(const struct smpp_flow *f, uint64_t sent_ms)
{
	uint64_t from = f->span_before.from_ms;
	uint32_t taken = f->span.taken + (f->span.from_ms != from ? f->span_before.taken : 0);

	return taken * 1000.0 / (sent_ms > from ? (double)(sent_ms - from) : 1);
}

/* FLOW-2, FLOW-3. */
void smpp_flow_throttled(struct smpp_flow *f, uint64_t now_ms, uint64_t sent_ms)
{
	if (f->cut_ms && sent_ms <= f->cut_ms)
		return; /* sent before the last decrease: the same complaint */
	bool first = f->rate <= 0;
	double took = goodput(f, sent_ms), most = first ? took + RATE_FIRST : f->rate;
	double least = first ? RATE_FIRST : f->good > 0 ? (f->good + most) / 2 : most * CUT_MOST;
	f->ceiling = took > most ? most : took < least ? least : took;
	f->rate = f->ceiling * CUT > RATE_FLOOR ? f->ceiling * CUT : RATE_FLOOR;
	f->good = 0;
	f->step = first ? GROW_FAR : GROW_NEAR;
	f->cut_ms = f->grown_ms = now_ms;
	f->tokens = 0;
	f->paused_until_ms = f->filled_ms = now_ms + f->pause_ms;
	f->pause_ms = f->pause_ms * 2 < f->cfg.pause_max_ms ? f->pause_ms * 2 : f->cfg.pause_max_ms;
	restart_spans(f, f->paused_until_ms);
}
