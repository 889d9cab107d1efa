/* samples.c - times that were measured, and their percentiles. */
#include <stdlib.h>

#include "tests/bench/xl.h"

void samples_add(struct samples *s, uint64_t v)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 4096;
		s->v = realloc(s->v, s->cap * sizeof *s->v);
		if (!s->v)
			xl_die("out of memory");
	}
	s->v[s->n++] = v;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

double samples_ms(struct samples *s, double percentile)
{
	if (!s->n)
		return -1;
	qsort(s->v, s->n, sizeof *s->v, compare);
	size_t at = (size_t)((double)s->n * percentile / 100.0);
	return (double)s->v[at < s->n ? at : s->n - 1] / 1e6;
}
