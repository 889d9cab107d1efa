/* hint.c - what a word that is no option was meant to be. See schema.h. */
#include "appliance/config/schema.h"

static void nearer(struct sl word, const char *name, const char **best, unsigned *away)
{
	unsigned d = sl_distance(word, sl_cstr(name));

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

const char *schema_nearest(const struct section *s, struct sl word)
{
	unsigned away = (unsigned)(word.n / 3) + 2;
	const char *best = NULL;

	for (size_t k = 0; k < s->nopt; k++)
		if (s->opt[k].kind != OPT_CONTENT)
			nearer(word, s->opt[k].key, &best, &away);
	for (size_t i = 0; !*s->name && i < config_schema_n; i++)
		if (*config_schema[i].name)
			nearer(word, config_schema[i].name, &best, &away);
	return best;
}

void schema_hint(const struct section *s, struct sl word, char *dst, size_t cap)
{
	const struct section *other = owner(word);
	const char *best = schema_nearest(s, word);

	*dst = '\0';
	if (*s->name && (is_section(word) || (other && !*other->name)))
		snprintf(dst, cap, "; it belongs to the top of the file: is the } of %s missing?",
			 s->name);
	else if (other && *other->name)
		snprintf(dst, cap, "; %s { } has one", other->name);
	else if (best)
		snprintf(dst, cap, "; did you mean %s?", best);
}
