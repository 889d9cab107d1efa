/* base.c - slices, error codes, secrets. See base.h. */
#include "appliance/base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

unsigned base_fail_nth_alloc;

static bool fail_now(void)
{
	return base_fail_nth_alloc && --base_fail_nth_alloc == 0;
}

void *base_malloc(size_t n)
{
	return fail_now() ? NULL : malloc(n);
}

void *base_calloc(size_t count, size_t n)
{
	return fail_now() ? NULL : calloc(count, n);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool sl_ieq(struct sl a, struct sl b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (lower(a.p[i]) != lower(b.p[i]))
			return false;
	return true;
}

int sl_cmp(struct sl a, struct sl b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int c = n ? memcmp(a.p, b.p, n) : 0;

	if (c)
		return c;
	return a.n < b.n ? -1 : a.n > b.n;
}

size_t sl_find(struct sl s, char c, size_t from)
{
	if (from >= s.n)
		return s.n;
	const char *q = memchr(s.p + from, c, s.n - from);

	return q ? (size_t)(q - s.p) : s.n;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

unsigned sl_distance(struct sl a, struct sl b)
{
	unsigned row[SL_DISTANCE_MAX + 1];

	if (a.n > SL_DISTANCE_MAX || b.n > SL_DISTANCE_MAX)
		return SL_DISTANCE_MAX;
	for (unsigned k = 0; k <= b.n; k++)
		row[k] = k;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned k = 1; k <= b.n; k++) {
			unsigned best = diagonal + (a.p[i - 1] != b.p[k - 1]);

			diagonal = row[k];
			if (row[k] + 1 < best)
				best = row[k] + 1;
			if (row[k - 1] + 1 < best)
				best = row[k - 1] + 1;
			row[k] = best;
		}
	}
	return row[b.n];
}

struct sl sl_trim(struct sl s)
{
	while (s.n && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

int sl_to_u64(struct sl s, uint64_t max, uint64_t *v_r)
{
	uint64_t v = 0;

	if (s.n == 0)
		return E_SYNTAX;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return E_SYNTAX;
		unsigned d = (unsigned)(s.p[i] - '0');
		if (v > (UINT64_MAX - d) / 10)
			return E_RANGE;
		v = v * 10 + d;
	}
	if (v > max)
		return E_RANGE;
	*v_r = v;
	return 0;
}

int sl_to_cstr(struct sl s, char *dst, size_t cap)
{
	if (s.n >= cap) {
		if (cap)
			dst[0] = '\0';
		return E_TOOBIG;
	}
	if (s.n)
		memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return 0;
}

char *sl_dup(struct sl s)
{
	char *p = base_malloc(s.n + 1);

	if (!p)
		return NULL;
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return p;
}

bool sl_eq_const_time(struct sl a, struct sl b)
{
	unsigned char d = a.n != b.n;

	for (size_t i = 0; i < a.n && i < b.n; i++)
		d = (unsigned char)(d | (a.p[i] ^ b.p[i]));
	return d == 0;
}

static const char *const e_names[] = {
	"ok",          "nomem", "syntax",  "toobig", "range",    "notfound", "exists",
	"denied",      "auth",  "again",   "closed", "io",       "timeout",  "state",
	"unsupported", "limit", "version", "busy",   "internal",
};

const char *e_name(int code)
{
	if (code > 0 || -code >= (int)ARRAY_LEN(e_names))
		return "unknown";
	return e_names[-code];
}

/* A text that did not fit ends after a whole word, and shows that it was cut. */
static void err_cut(struct err *e)
{
	static const char mark[] = " ...";
	size_t n = sizeof(e->text) - sizeof(mark), word = n;

	while (word > n / 2 && e->text[word] != ' ')
		word--;
	if (word > n / 2)
		n = word;
	else
		while (n > n / 2 && ((unsigned char)e->text[n] & 0xc0) == 0x80)
			n--;
	memcpy(e->text + n, mark, sizeof(mark));
}

int err_vset(struct err *e, int code, const char *clause, const char *fmt, va_list ap)
{
	if (!e)
		return code;
	e->code = code;
	e->clause = clause;
	if (vsnprintf(e->text, sizeof(e->text), fmt, ap) >= (int)sizeof(e->text))
		err_cut(e);
	return code;
}

int err_set(struct err *e, int code, const char *clause, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(e, code, clause, fmt, ap);
	va_end(ap);
	return code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
	int saved = errno;

	if (!e)
		return code;
	va_list ap;

	e->code = code;
	e->clause = NULL;
	va_start(ap, fmt);
	int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(e->text))
		n += snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s", strerror(saved));
	if (n >= (int)sizeof(e->text))
		err_cut(e);
	errno = saved;
	return code;
}

void wipe(void *p, size_t n)
{
	volatile unsigned char *q = p;

	while (n--)
		*q++ = 0;
}

int secret_set(struct secret *s, struct sl value)
{
	char *p = sl_dup(value);

	if (!p)
		return E_NOMEM;
	secret_clear(s);
	s->p = p;
	s->n = value.n;
	return 0;
}

void secret_clear(struct secret *s)
{
	if (s->p) {
		wipe(s->p, s->n);
		free(s->p);
	}
	s->p = NULL;
	s->n = 0;
}
