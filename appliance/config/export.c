/* export.c - a configuration object as a document, and what differs between two. See config.h. */
#include "appliance/config/schema.h"

static json_t *list_json(const struct config_list *l)
{
	json_t *a = json_array();

	for (uint32_t i = 0; a && i < l->n; i++)
		if (json_array_append_new(a, json_stringn(l->v[i].p, l->v[i].n)) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

static json_t *value_json(const struct opt *o, const void *base)
{
	const void *v = (const char *)base + o->offset;

	switch (o->kind) {
	case OPT_STR:
	case OPT_FILE:
	case OPT_CONTENT:
		return json_stringn(((const struct sl *)v)->n ? ((const struct sl *)v)->p : "",
				    ((const struct sl *)v)->n);
	case OPT_BOOL:
		return json_boolean(*(const bool *)v);
	case OPT_UINT:
		return json_integer(*(const uint32_t *)v);
	case OPT_ENUM:
		return json_string(o->names[*(const uint32_t *)v]);
	case OPT_LIST:
		return list_json(v);
	}
	return NULL;
}

static int options_json(const struct section *s, const void *base, enum config_who who,
			json_t *into)
{
	for (size_t i = 0; i < s->nopt; i++)
		if ((s->opt[i].who & who) &&
		    json_object_set_new(into, s->opt[i].key, value_json(&s->opt[i], base)) < 0)
			return E_NOMEM;
	return 0;
}

static const char *element(const struct config *c, const struct section *s, uint32_t i)
{
	return *(const char *const *)((const char *)c + s->array) + i * s->size;
}

static uint32_t elements(const struct config *c, const struct section *s)
{
	return *(const uint32_t *)((const char *)c + s->count);
}

static struct sl title_of(const void *element)
{
	return *(const struct sl *)element;
}

static int titled_json(const struct config *c, const struct section *s, enum config_who who,
		       json_t *doc)
{
	json_t *a = json_array();

	if (json_object_set_new(doc, s->name, a) < 0)
		return E_NOMEM;
	for (uint32_t i = 0; i < elements(c, s); i++) {
		const void *el = element(c, s, i);
		json_t *o = json_object();
		if (json_array_append_new(a, o) < 0 ||
		    json_object_set_new(o, "name", json_stringn(title_of(el).p, title_of(el).n)) <
			    0 ||
		    options_json(s, el, who, o) < 0)
			return E_NOMEM;
	}
	return 0;
}

static int section_json(const struct config *c, const struct section *s, enum config_who who,
			json_t *doc)
{
	json_t *into = doc;

	if (!(s->who & who))
		return 0;
	if (s->titled)
		return titled_json(c, s, who, doc);
	if (*s->name) {
		into = json_object();
		if (json_object_set_new(doc, s->name, into) < 0)
			return E_NOMEM;
	}
	return options_json(s, c, who, into);
}

json_t *config_to_json(const struct config *c, enum config_who who)
{
	json_t *doc = json_object();
	int rc = doc ? 0 : E_NOMEM;

	for (size_t i = 0; rc == 0 && i < config_schema_n; i++)
		rc = section_json(c, &config_schema[i], who, doc);
	if (rc == 0)
		rc = json_object_set_new(doc, "generation",
					 json_integer((json_int_t)c->generation));
	if (rc < 0) {
		json_decref(doc);
		return NULL;
	}
	return doc;
}

/* ---- comparison ---- */

static bool same_list(const struct config_list *a, const struct config_list *b)
{
	bool same = a->n == b->n;

	for (uint32_t i = 0; same && i < a->n; i++)
		same = sl_eq(a->v[i], b->v[i]);
	return same;
}

static bool same_value(const struct opt *o, const void *a, const void *b)
{
	const void *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;

	switch (o->kind) {
	case OPT_STR:
	case OPT_FILE:
	case OPT_CONTENT:
		return sl_eq(*(const struct sl *)x, *(const struct sl *)y);
	case OPT_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case OPT_UINT:
	case OPT_ENUM:
		return *(const uint32_t *)x == *(const uint32_t *)y;
	case OPT_LIST:
		return same_list(x, y);
	}
	return false;
}

struct comparison {
	enum config_who who;
	void (*differs)(void *arg, const char *key, bool needs_restart);
	void *arg;
};

static void compare_plain(const struct comparison *cmp, const struct section *s,
			  const struct config *old, const struct config *now)
{
	char key[WHERE_MAX];

	for (size_t i = 0; i < s->nopt; i++) {
		const struct opt *o = &s->opt[i];
		if (!(o->who & cmp->who) || same_value(o, old, now))
			continue;
		snprintf(key, sizeof(key), "%s%s%s", s->name, *s->name ? "." : "", o->key);
		cmp->differs(cmp->arg, key, o->restart);
	}
}

static const void *find_title(const struct config *c, const struct section *s, struct sl title)
{
	for (uint32_t i = 0; i < elements(c, s); i++)
		if (sl_eq(title_of(element(c, s, i)), title))
			return element(c, s, i);
	return NULL;
}

/* Report an element of a that b has not (other NULL) or has otherwise. */
static void compare_element(const struct comparison *cmp, const struct section *s, const void *el,
			    const void *other)
{
	char key[WHERE_MAX];
	bool differs = !other, restart = !other && s->restart;

	for (size_t i = 0; other && i < s->nopt; i++)
		if ((s->opt[i].who & cmp->who) && !same_value(&s->opt[i], el, other)) {
			differs = true;
			restart = restart || s->opt[i].restart;
		}
	if (!differs)
		return;
	snprintf(key, sizeof(key), "%s[" SLFMT "]", s->name, SLARG(title_of(el)));
	cmp->differs(cmp->arg, key, restart);
}

static void compare_titled(const struct comparison *cmp, const struct section *s,
			   const struct config *old, const struct config *now)
{
	for (uint32_t i = 0; i < elements(now, s); i++) {
		const void *el = element(now, s, i);
		compare_element(cmp, s, el, find_title(old, s, title_of(el)));
	}
	for (uint32_t i = 0; i < elements(old, s); i++) {
		const void *el = element(old, s, i);
		if (!find_title(now, s, title_of(el)))
			compare_element(cmp, s, el, NULL);
	}
}

void config_compare(const struct config *old, const struct config *now, enum config_who who,
		    void (*differs)(void *arg, const char *key, bool needs_restart), void *arg)
{
	const struct comparison cmp = { who, differs, arg };

	for (size_t i = 0; i < config_schema_n; i++) {
		const struct section *s = &config_schema[i];
		if (!(s->who & who))
			continue;
		if (s->titled)
			compare_titled(&cmp, s, old, now);
		else
			compare_plain(&cmp, s, old, now);
	}
}
