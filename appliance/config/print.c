/* print.c - the documented sample and the reference page, made from the schema. See config.h. */
#include "appliance/config/schema.h"

#include "appliance/base/buf.h"

#define TRY(call) \
	do { \
		int rc_ = (call); \
		if (rc_ < 0) \
			return rc_; \
	} while (0)

/* Each line of a help text behind a prefix. */
static int print_help(struct buf *out, const char *prefix, const char *help)
{
	struct sl t = sl_cstr(help);

	for (size_t i = 0, end; i < t.n; i = end + 1) {
		end = sl_find(t, '\n', i);
		TRY(buf_addf(out, "%s" SLFMT "\n", prefix, SLARG(sl_sub(t, i, end))));
	}
	return 0;
}

static int print_list(struct buf *out, const char *words)
{
	struct sl t = sl_cstr(words);

	TRY(buf_addc(out, '{'));
	for (size_t i = 0, end; i < t.n; i = end + 1) {
		end = sl_find(t, ' ', i);
		TRY(buf_addf(out, "%s\"" SLFMT "\"", i ? ", " : "", SLARG(sl_sub(t, i, end))));
	}
	return buf_addc(out, '}');
}

static int print_default(struct buf *out, const struct opt *o)
{
	switch (o->kind) {
	case OPT_BOOL:
		return buf_addf(out, "%s", o->def ? "true" : "false");
	case OPT_UINT:
		return buf_addf(out, "%u", o->def);
	case OPT_ENUM:
		return buf_addf(out, "%s", o->names[o->def]);
	case OPT_LIST:
		return print_list(out, o->def_text);
	default:
		return buf_addf(out, "\"%s\"", o->def_text ? o->def_text : "");
	}
}

static int print_range(struct buf *out, const struct opt *o)
{
	switch (o->kind) {
	case OPT_BOOL:
		return buf_add(out, SL("true or false"));
	case OPT_UINT:
		return buf_addf(out, "%u to %u", o->min, o->max);
	case OPT_ENUM:
		for (size_t i = 0; o->names[i]; i++)
			TRY(buf_addf(out, "%s%s", i ? ", " : "", o->names[i]));
		return 0;
	case OPT_LIST:
		return buf_addf(out, "list of at most %u texts", o->max);
	case OPT_FILE:
		return buf_add(out, SL("path of a file"));
	default:
		return buf_addf(out, "text of at most %u octets", o->max);
	}
}

/* ---- tandem.conf.sample
 * -------------------------------------------------------------------------- */

static int sample_opt(struct buf *out, const struct section *s, const struct opt *o)
{
	const char *indent = *s->name ? "\t" : "";
	bool on = o->sample && s->titled && s->sample_on;
	char prefix[8];

	snprintf(prefix, sizeof(prefix), "%s# ", indent);
	TRY(print_help(out, prefix, o->help));
	if (o->kind == OPT_UINT || o->kind == OPT_ENUM) {
		TRY(buf_addf(out, "%s# (", indent));
		TRY(print_range(out, o));
		TRY(buf_addf(out, "%s)\n", o->restart ? "; a change needs a restart" : ""));
	}
	TRY(buf_addf(out, "%s%s%s = ", indent, on ? "" : "#", o->key));
	if (o->sample)
		TRY(buf_addf(out, "\"%s\"", o->sample));
	else
		TRY(print_default(out, o));
	return buf_addc(out, '\n');
}

static int sample_section(struct buf *out, const struct section *s)
{
	/* A titled section that is only an example is commented out as a whole. */
	const char *off = s->titled && !s->sample_on ? "#" : "";

	TRY(print_help(out, "# ", s->help));
	if (s->titled)
		TRY(buf_addf(out, "%s%s \"%s\" {\n", off, s->name, s->sample_title));
	else if (*s->name)
		TRY(buf_addf(out, "%s {\n", s->name));
	for (size_t i = 0; i < s->nopt; i++)
		if (s->opt[i].kind != OPT_CONTENT)
			TRY(sample_opt(out, s, &s->opt[i]));
	if (*s->name)
		TRY(buf_addf(out, "%s}\n", off));
	return 0;
}

int config_print_sample(struct buf *out)
{
	for (size_t i = 0; i < config_schema_n; i++) {
		if (i)
			TRY(buf_addc(out, '\n'));
		TRY(sample_section(out, &config_schema[i]));
	}
	return 0;
}

/* ---- docs/configuration.md
 * ----------------------------------------------------------------------- */

static int reference_opt(struct buf *out, const struct opt *o)
{
	TRY(buf_addf(out, "| `%s` | ", o->key));
	TRY(print_range(out, o));
	TRY(buf_add(out, SL(" | ")));
	if (o->required) {
		TRY(buf_add(out, SL("must be there")));
	} else if (o->kind != OPT_FILE) {
		TRY(buf_addc(out, '`'));
		TRY(print_default(out, o));
		TRY(buf_addc(out, '`'));
	}
	TRY(buf_addf(out, " | %s | ", o->restart ? "restart" : "reload"));
	for (const char *p = o->help; *p; p++)
		TRY(buf_addc(out, *p == '\n' ? ' ' : *p));
	return buf_add(out, SL(" |\n"));
}

int config_print_reference(struct buf *out)
{
	TRY(buf_add(out,
		    SL("# tandem.conf\n\n"
		       "Made by `tandemctl config reference` from appliance/config/schema.c; do "
		       "not edit.\n\n"
		       "The syntax is libconfuse's: `key = value`, `section { ... }`, `section "
		       "\"title\" { ... }`, lists in braces, comments with `#`.\n"
		       "`\"${NAME}\"` is replaced by the environment variable. Relative paths are "
		       "relative to the file.\n"
		       "\"reload\": a change is applied by `tandemctl reload` or SIGHUP; "
		       "\"restart\": it needs `tandemctl restart` or a new start.\n")));
	for (size_t i = 0; i < config_schema_n; i++) {
		const struct section *s = &config_schema[i];
		if (!*s->name)
			TRY(buf_add(out, SL("\n## Top of the file\n\n")));
		else if (s->titled)
			TRY(buf_addf(out, "\n## %s \"%s\"\n\n%s\n\n", s->name, s->sample_title,
				     s->help));
		else
			TRY(buf_addf(out, "\n## %s\n\n%s\n\n", s->name, s->help));
		TRY(buf_add(out, SL("| option | values | default | change | meaning |\n"
				    "|---|---|---|---|---|\n")));
		for (size_t k = 0; k < s->nopt; k++)
			if (s->opt[k].kind != OPT_CONTENT)
				TRY(reference_opt(out, &s->opt[k]));
	}
	return 0;
}
