/* pattern.c - variables and patterns of conversation scripts. See play.h. */
#include "tests/scripts/play.h"

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static struct sl name_at(struct sl s, size_t at)
{
	size_t end = at;

	while (end < s.n && name_char(s.p[end]))
		end++;
	return sl_sub(s, at, end);
}

const char *var_get(const struct vars *vs, struct sl name)
{
	for (unsigned i = 0; i < vs->n; i++)
		if (sl_eq(sl_cstr(vs->v[i].name), name))
			return vs->v[i].value;
	return NULL;
}

int var_set(struct vars *vs, struct sl name, struct sl value)
{
	unsigned i = 0;

	while (i < vs->n && !sl_eq(sl_cstr(vs->v[i].name), name))
		i++;
	if (i == VARS_MAX || sl_to_cstr(name, vs->v[i].name, sizeof(vs->v[i].name)) != 0 ||
	    sl_to_cstr(value, vs->v[i].value, sizeof(vs->v[i].value)) != 0)
		return E_TOOBIG;
	if (i == vs->n)
		vs->n++;
	return 0;
}

int var_expand(const struct vars *vs, struct sl in, char *dst, size_t cap, size_t *n_r)
{
	size_t n = 0;

	for (size_t i = 0; i < in.n; i++) {
		struct sl add = sl_sub(in, i, i + 1), name;

		if (in.p[i] == '$') {
			name = name_at(in, i + 1);
			add = sl_cstr(var_get(vs, name));
			if (!add.p)
				return E_NOTFOUND;
			i += name.n;
		}
		if (n + add.n >= cap)
			return E_TOOBIG;
		memcpy(dst + n, add.p, add.n);
		n += add.n;
	}
	dst[n] = '\0';
	*n_r = n;
	return 0;
}

/* A variable at pattern.p[*pat]: its known value must follow, or it takes up to the next character.
 */
static long match_var(struct vars *vs, struct sl pattern, size_t *pat, struct sl in, size_t at)
{
	struct sl name = name_at(pattern, *pat + 1), rest = sl_sub(in, at, in.n);
	struct sl known = sl_cstr(var_get(vs, name));
	size_t end;

	*pat += 1 + name.n;
	if (known.p) {
		if (rest.n < known.n)
			return sl_starts(known, rest) ? 0 : -1;
		return sl_starts(rest, known) ? (long)known.n + 1 : -1;
	}
	end = *pat < pattern.n ? sl_find(rest, pattern.p[*pat], 0) : rest.n;
	if (end == rest.n && *pat < pattern.n)
		return 0;
	return var_set(vs, name, sl_sub(rest, 0, end)) == 0 ? (long)end + 1 : -1;
}

static long match_from(struct vars *vs, struct sl pattern, size_t pat, struct sl in, size_t at);

static long match_any(struct vars *vs, struct sl pattern, size_t pat, struct sl in, size_t at)
{
	for (; at <= in.n; at++) {
		struct vars *copy = malloc(sizeof(*copy));
		long rc;

		*copy = *vs;
		rc = match_from(copy, pattern, pat, in, at);
		if (rc > 0)
			*vs = *copy;
		free(copy);
		if (rc > 0)
			return rc;
	}
	return 0;
}

static long match_from(struct vars *vs, struct sl pattern, size_t pat, struct sl in, size_t at)
{
	while (pat < pattern.n) {
		if (pattern.p[pat] == '*')
			return match_any(vs, pattern, pat + 1, in, at);
		if (pattern.p[pat] == '$') {
			long n = match_var(vs, pattern, &pat, in, at);

			if (n <= 0)
				return n;
			at += (size_t)n - 1;
			continue;
		}
		if (at == in.n)
			return 0;
		if (in.p[at] != pattern.p[pat])
			return -1;
		at++;
		pat++;
	}
	return at ? (long)at : 1;
}

long pattern_match(struct vars *vs, struct sl pattern, struct sl in)
{
	struct vars *copy = malloc(sizeof(*copy));
	long rc;

	*copy = *vs;
	rc = match_from(copy, pattern, 0, in, 0);
	if (rc > 0)
		*vs = *copy;
	free(copy);
	return rc;
}
