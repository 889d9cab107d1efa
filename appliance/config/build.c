/* build.c - a configuration object from a document, and back. See config.h.
 *
 * Every path ends here: the file is turned into a document first (load.c), so that the file and the
 * socketpair go through the same checks. */
#include "appliance/config/schema.h"

#include <stdarg.h>
#include <stdatomic.h>

#include "appliance/base/arena.h"

#define CONFIG_MAX_OCTETS (16u << 20)

struct config_mem {
	_Atomic uint32_t refs;
	struct arena *arena;
};

struct build {
	struct arena *a;
	struct config *c;
	enum config_who who;
	char *where; /* WHERE_MAX */
	struct err *e;
};

static int no_memory(struct build *b)
{
	return err_set(b->e, E_NOMEM, NULL, "out of memory, or a configuration beyond all measure");
}

static void PRINTF_LIKE(2, 3) at(struct build *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->where, WHERE_MAX, fmt, ap);
	va_end(ap);
}

static void at_opt(struct build *b, const struct section *s, const char *title, const char *key)
{
	if (s->titled)
		at(b, "%s[%s].%s", s->name, title, key);
	else
		at(b, "%s%s%s", s->name, *s->name ? "." : "", key);
}

/* ---- values ---- */

static int keep(struct build *b, struct sl v, struct sl *dst)
{
	char *p = arena_bytes(b->a, v.n + 1);

	if (!p)
		return no_memory(b);
	if (v.n)
		memcpy(p, v.p, v.n);
	p[v.n] = '\0';
	*dst = sl_mk(p, v.n);
	return 0;
}

static struct sl json_sl(const json_t *j)
{
	return sl_mk(json_string_value(j), json_string_length(j));
}

static int set_text(struct build *b, const struct opt *o, const json_t *j, struct sl *dst)
{
	int rc;

	if (!json_is_string(j))
		return err_set(b->e, E_SYNTAX, NULL, "must be a text");
	rc = schema_check_text(o, json_sl(j), b->e);
	return rc < 0 ? rc : keep(b, json_sl(j), dst);
}

static int set_list(struct build *b, const struct opt *o, const json_t *j, struct config_list *dst)
{
	size_t n = json_array_size(j);

	if (!json_is_array(j))
		return err_set(b->e, E_SYNTAX, NULL, "must be a list of texts");
	if (n < o->min || n > o->max)
		return err_set(b->e, E_RANGE, NULL, "has %zu members: from %u to %u are possible",
			       n, o->min, o->max);
	dst->v = arena_zalloc(b->a, n * sizeof(*dst->v));
	if (!dst->v)
		return no_memory(b);
	for (size_t i = 0; i < n; i++) {
		int rc = set_text(b, o, json_array_get(j, i), &dst->v[i]);
		if (rc < 0)
			return rc;
		for (size_t k = 0; k < i; k++)
			if (sl_eq(dst->v[k], dst->v[i]))
				return err_set(b->e, E_EXISTS, NULL, "\"" SLFMT "\" is there twice",
					       SLARG(sl_sub(dst->v[i], 0, 60)));
	}
	dst->n = (uint32_t)n;
	return 0;
}

static int set_uint(struct build *b, const struct opt *o, const json_t *j, uint32_t *dst)
{
	if (!json_is_integer(j) || json_integer_value(j) < 0)
		return err_set(b->e, E_SYNTAX, NULL, "must be a number");
	int rc = schema_check_uint(o, (uint64_t)json_integer_value(j), b->e);
	if (rc == 0)
		*dst = (uint32_t)json_integer_value(j);
	return rc;
}

static int set_value(struct build *b, const struct opt *o, const json_t *j, void *base)
{
	void *dst = (char *)base + o->offset;

	switch (o->kind) {
	case OPT_STR:
	case OPT_FILE:
	case OPT_CONTENT:
		return set_text(b, o, j, dst);
	case OPT_BOOL:
		if (!json_is_boolean(j))
			return err_set(b->e, E_SYNTAX, NULL, "must be true or false");
		*(bool *)dst = json_is_true(j);
		return 0;
	case OPT_UINT:
		return set_uint(b, o, j, dst);
	case OPT_ENUM:
		if (!json_is_string(j))
			return err_set(b->e, E_SYNTAX, NULL, "must be a word");
		return schema_enum(o, json_sl(j), dst, b->e);
	case OPT_LIST:
		return set_list(b, o, j, dst);
	}
	return err_set(b->e, E_INTERNAL, NULL, "unknown kind of option");
}

static int default_list(struct build *b, const struct opt *o, struct config_list *dst)
{
	struct sl t = sl_cstr(o->def_text);
	json_t *j = json_array();
	int rc;

	for (size_t i = 0, end; j && i < t.n; i = end + 1) {
		end = sl_find(t, ' ', i);
		struct sl w = sl_sub(t, i, end);
		if (json_array_append_new(j, json_stringn(w.p, w.n)) < 0) {
			json_decref(j);
			return no_memory(b);
		}
	}
	rc = j ? set_list(b, o, j, dst) : no_memory(b);
	json_decref(j);
	return rc;
}

static int set_default(struct build *b, const struct opt *o, void *base)
{
	void *dst = (char *)base + o->offset;

	switch (o->kind) {
	case OPT_STR:
	case OPT_FILE:
	case OPT_CONTENT:
		return keep(b, sl_cstr(o->def_text), dst);
	case OPT_BOOL:
		*(bool *)dst = o->def != 0;
		return 0;
	case OPT_UINT:
	case OPT_ENUM:
		*(uint32_t *)dst = o->def;
		return 0;
	case OPT_LIST:
		return default_list(b, o, dst);
	}
	return 0;
}

/* ---- sections ---- */

static int set_option(struct build *b, const struct section *s, const struct opt *o,
		      const json_t *from, void *base, const char *title)
{
	const json_t *j = o->who & b->who ? json_object_get(from, o->key) : NULL;

	at_opt(b, s, title, o->key);
	if (j)
		return set_value(b, o, j, base);
	if (o->required && (o->who & b->who))
		return err_set(b->e, E_NOTFOUND, NULL, "is missing");
	return set_default(b, o, base);
}

/* Names that the schema does not know, or that are not for this process. */
static int refuse_unknown(struct build *b, const struct section *s, const json_t *from,
			  const char *title)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)from, key, v)
	{
		const struct opt *o = schema_opt(s, key);
		bool section = !*s->name && schema_section(key) && *key;
		if ((o && (o->who & b->who)) || section || (s->titled && strcmp(key, "name") == 0))
			continue;
		if (!*s->name && strcmp(key, "generation") == 0)
			continue;
		at_opt(b, s, title, key);
		return err_set(b->e, E_SYNTAX, NULL, "unknown option");
	}
	return 0;
}

static int build_options(struct build *b, const struct section *s, const json_t *from, void *base,
			 const char *title)
{
	int rc = refuse_unknown(b, s, from, title);

	for (size_t i = 0; rc == 0 && i < s->nopt; i++)
		rc = set_option(b, s, &s->opt[i], from, base, title);
	return rc;
}

static int build_titled_one(struct build *b, const struct section *s, const json_t *from,
			    void *base)
{
	const json_t *name = json_object_get(from, "name");
	struct sl *title = base; /* every titled struct begins with its name */
	int rc;

	at(b, "%s[?].name", s->name);
	if (!json_is_object(from) || !json_is_string(name))
		return err_set(b->e, E_SYNTAX, NULL, "must be an object with a name");
	at(b, "%s[%.200s]", s->name, json_string_value(name));
	rc = s->check_title(json_sl(name), b->e);
	if (rc == 0)
		rc = keep(b, json_sl(name), title);
	return rc < 0 ? rc : build_options(b, s, from, base, title->p);
}

static int build_titled(struct build *b, const struct section *s, const json_t *from)
{
	size_t n = from ? json_array_size(from) : 0;
	char *all;

	at(b, "%s", s->name);
	if (from && !json_is_array(from))
		return err_set(b->e, E_SYNTAX, NULL, "must be a list of objects");
	if (n > s->max)
		return err_set(b->e, E_LIMIT, NULL, "%zu of them: at most %u are possible", n,
			       s->max);
	all = arena_zalloc(b->a, n * s->size);
	if (!all)
		return no_memory(b);
	for (size_t i = 0; i < n; i++) {
		int rc = build_titled_one(b, s, json_array_get(from, i), all + i * s->size);
		if (rc < 0)
			return rc;
	}
	*(void **)((char *)b->c + s->array) = all;
	*(uint32_t *)((char *)b->c + s->count) = (uint32_t)n;
	return 0;
}

static int build_section(struct build *b, const struct section *s, const json_t *doc)
{
	const json_t *from = *s->name ? json_object_get(doc, s->name) : doc;
	json_t *none = NULL;
	int rc;

	if (!(s->who & b->who) && from) {
		at(b, "%s", s->name);
		return err_set(b->e, E_SYNTAX, NULL, "is not for this process");
	}
	if (s->titled)
		return build_titled(b, s, from);
	at(b, "%s", s->name);
	if (from && !json_is_object(from))
		return err_set(b->e, E_SYNTAX, NULL, "must be an object");
	if (!from)
		from = none = json_object();
	rc = from ? build_options(b, s, from, b->c, "") : no_memory(b);
	json_decref(none);
	return rc;
}

static int build_generation(struct build *b, const json_t *doc)
{
	const json_t *g = json_object_get(doc, "generation");

	at(b, "generation");
	if (!g)
		return 0;
	if (!json_is_integer(g) || json_integer_value(g) < 0)
		return err_set(b->e, E_SYNTAX, NULL, "must be a number");
	b->c->generation = (uint64_t)json_integer_value(g);
	return 0;
}

static int build_all(struct build *b, const json_t *doc)
{
	int rc;

	if (!json_is_object(doc))
		return err_set(b->e, E_SYNTAX, NULL, "the configuration must be an object");
	rc = build_generation(b, doc);
	for (size_t i = 0; rc == 0 && i < config_schema_n; i++)
		rc = build_section(b, &config_schema[i], doc);
	if (rc == 0)
		rc = config_check(b->c, b->who, b->where, b->e);
	return rc;
}

int config_build(const json_t *doc, enum config_who who, const struct config **c_r,
		 char where[WHERE_MAX], struct err *e)
{
	struct build b = { .who = who, .where = where, .e = e };
	struct config_mem *m;
	int rc;

	where[0] = '\0';
	b.a = arena_new(16384, CONFIG_MAX_OCTETS);
	if (!b.a)
		return no_memory(&b);
	b.c = arena_new_obj(b.a, struct config);
	m = arena_new_obj(b.a, struct config_mem);
	if (!b.c || !m) {
		arena_free(&b.a);
		return no_memory(&b);
	}
	atomic_init(&m->refs, 1);
	m->arena = b.a;
	b.c->mem = m;
	rc = build_all(&b, doc);
	if (rc < 0) {
		arena_wipe_free(&b.a);
		return rc;
	}
	*c_r = b.c;
	return 0;
}

int config_from_json(const json_t *doc, enum config_who who, const struct config **c_r,
		     struct err *e)
{
	char where[WHERE_MAX];
	struct err why = { 0, NULL, "" };
	int rc = config_build(doc, who, c_r, where, &why);

	if (rc < 0)
		err_set(e, rc, why.clause, "%s: %s", *where ? where : "configuration",
			why.text);
	return rc;
}

const struct config *config_ref(const struct config *c)
{
	atomic_fetch_add_explicit(&c->mem->refs, 1, memory_order_relaxed);
	return c;
}

void config_unref(const struct config **cp)
{
	const struct config *c = *cp;

	*cp = NULL;
	if (!c || atomic_fetch_sub_explicit(&c->mem->refs, 1, memory_order_acq_rel) != 1)
		return;
	struct arena *a = c->mem->arena;
	arena_wipe_free(&a);
}

/* ---- a link alone ---- */

struct lone_link {
	struct config_link link; /* first */
	struct arena *arena;
};

int config_link_from_json(const json_t *settings, struct config_link **l_r, struct err *e)
{
	const struct section *s = schema_section("link");
	char where[WHERE_MAX] = "";
	struct err why = { 0, NULL, "" };
	struct build b = { .who = CONFIG_SMS, .where = where, .e = &why };
	struct lone_link *l;
	int rc;

	b.a = arena_new(2048, CONFIG_MAX_OCTETS);
	l = b.a ? arena_new_obj(b.a, struct lone_link) : NULL;
	if (!l) {
		arena_free(&b.a);
		return err_set(e, E_NOMEM, NULL, "out of memory");
	}
	l->arena = b.a;
	rc = build_titled_one(&b, s, settings, &l->link);
	if (rc == 0)
		rc = config_check_link(&l->link, where, &why);
	if (rc < 0) {
		err_set(e, rc, why.clause, "%s: %s", where, why.text);
		arena_wipe_free(&b.a);
		return rc;
	}
	*l_r = &l->link;
	return 0;
}

static int copy_text(struct arena *a, struct sl *s)
{
	char *p = arena_bytes(a, s->n + 1);

	if (!p)
		return E_NOMEM;
	if (s->n)
		memcpy(p, s->p, s->n);
	p[s->n] = '\0';
	*s = sl_mk(p, s->n);
	return 0;
}

int config_link_copy(const struct config_link *from, struct config_link **l_r, struct err *e)
{
	struct arena *a = arena_new(2048, CONFIG_MAX_OCTETS);
	struct lone_link *l = a ? arena_new_obj(a, struct lone_link) : NULL;
	struct sl *v = l ? arena_zalloc(a, (from->prefixes.n + 1) * sizeof(*v)) : NULL;
	int rc = v ? 0 : E_NOMEM;

	if (rc == 0) {
		struct config_link *c = &l->link;
		*c = *from;
		struct sl *text[] = { &c->name, &c->host, &c->system_id, &c->password_file,
				      &c->password, &c->system_type, &c->ca_file, &c->ca };
		l->arena = a;
		for (size_t i = 0; i < ARRAY_LEN(text) && rc == 0; i++)
			rc = copy_text(a, text[i]);
		for (uint32_t i = 0; i < from->prefixes.n && rc == 0; i++) {
			v[i] = from->prefixes.v[i];
			rc = copy_text(a, &v[i]);
		}
		c->prefixes.v = v;
	}
	if (rc < 0) {
		if (a)
			arena_wipe_free(&a);
		return err_set(e, E_NOMEM, NULL, "out of memory");
	}
	*l_r = &l->link;
	return 0;
}

void config_link_free(struct config_link **lp)
{
	struct lone_link *l = (struct lone_link *)*lp;

	*lp = NULL;
	if (l) {
		struct arena *a = l->arena;
		arena_wipe_free(&a);
	}
}
