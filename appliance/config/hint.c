/* hint.c - what a word that is no option was meant to be. See schema.h. */
#include "appliance/config/schema.h"

#define WORD_MAX 40u

/* How many letters must change, be left out or put in (Levenshtein); words over WORD_MAX: many. */
static unsigned distance(struct sl a, struct sl b)
{
	unsigned row[WORD_MAX + 1];

	if (a.n > WORD_MAX || b.n > WORD_MAX)
		return WORD_MAX;
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

static void nearer(struct sl word, const char *name, const char **best, unsigned *away)
{
	unsigned d = distance(word, sl_cstr(name));

	if (d < *away) {
		*away = d;
		*best = name;
	}
}

/* The section that has such an option; titled ones count too. */
static const struct section *owner(struct sl word)
{
	for (size_t i = 0; i < config_schema_n; i++)
		for (size_t k = 0; k < config_schema[i].nopt; k++)
			if (sl_eq(sl_cstr(config_schema[i].opt[k].key), word))
				return &config_schema[i];
	return NULL;
}

static bool is_section(struct sl word)
{
	for (size_t i = 0; i < config_schema_n; i++)
		if (*config_schema[i].name && sl_eq(sl_cstr(config_schema[i].name), word))
			return true;
	return false;
}

void schema_hint(const struct section *s, struct sl word, char *dst, size_t cap)
{
	const struct section *other = owner(word);
	unsigned away = (unsigned)(word.n / 3) + 1;
	const char *best = NULL;

	*dst = '\0';
	for (size_t k = 0; k < s->nopt; k++)
		if (s->opt[k].kind != OPT_CONTENT)
			nearer(word, s->opt[k].key, &best, &away);
	for (size_t i = 0; !*s->name && i < config_schema_n; i++)
		if (*config_schema[i].name)
			nearer(word, config_schema[i].name, &best, &away);
	if (*s->name && (is_section(word) || (other && !*other->name)))
		snprintf(dst, cap, "; it belongs to the top of the file: is the } of %s missing?",
			 s->name);
	else if (other && *other->name)
		snprintf(dst, cap, "; %s { } has one", other->name);
	else if (best)
		snprintf(dst, cap, "; did you mean %s?", best);
}
