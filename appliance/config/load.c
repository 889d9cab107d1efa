/* load.c - tandem.conf through libconfuse into a document, then through the checks. See config.h.
 *
 * libconfuse gives the syntax and the position; types, ranges and names come from schema.c. To it
 * every value is a text, so that what is wrong is said in our words; its callback has no room for a
 * pointer of ours, hence the thread-local one during a load. The line of every option is kept,
 * because some mistakes show only when everything has been read. */
#include "appliance/config/schema.h"

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/base/buf.h"

/* A list that was not set; something that no file can contain. */
#define UNSET      "\001"
#define UNSET_LIST "{\"\001\"}"

/* Put behind the text: libconfuse takes the end of the file for the end of every open section, and
 * of an open comment. If this is not found at the top, something was not closed. */
#define END "end-of-configuration"

#define OPTS_MAX 40
#define TEXT_MAX (1u << 20)

struct load {
	const char *name; /* of the file, for messages */
	const char *text; /* its content */
	struct sl dir;    /* what relative paths are relative to */
	json_t *lines;    /* "limits.depth": 12 */
	json_t *doc;
	struct err *e;
	bool failed; /* the first error counts */
};

static __thread struct load *loading;

static void say(struct load *l, int code, int line, const char *text)
{
	if (l->failed)
		return;
	l->failed = true;
	if (line > 0)
		err_set(l->e, code, NULL, "%s:%d: %s", l->name, line, text);
	else
		err_set(l->e, code, NULL, "%s: %s", l->name, text);
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

/* Does the line have that word, outside of a comment? */
static bool has_word(struct sl line, struct sl word)
{
	line = sl_sub(line, 0, sl_find(line, '#', 0));
	for (size_t i = 0; i + word.n <= line.n; i++)
		if (sl_eq(sl_sub(line, i, i + word.n), word) &&
		    (i == 0 || !is_word(line.p[i - 1])) &&
		    (i + word.n == line.n || !is_word(line.p[i + word.n])))
			return true;
	return false;
}

/* libconfuse looks at what follows before it hands out an option, so its line may be that of the
 * next thing in the file: the option itself is in the last line before that has its name (or, for a
 * member of a list, the value). */
static int line_with(const struct load *l, struct sl word, int reported)
{
	struct sl text = sl_cstr(l->text);
	int line = 1, found = reported;

	for (size_t i = 0, end; i < text.n && line <= reported; i = end + 1, line++) {
		end = sl_find(text, '\n', i);
		if (word.n && has_word(sl_sub(text, i, end), word))
			found = line;
	}
	return found;
}

/* ---- the tree for libconfuse ---- */

static const struct section *section_of(const cfg_t *cfg)
{
	const struct section *s = schema_section(cfg->name);

	return s ? s : schema_section("");
}

/* The word of libconfuse's "no such option 'WORD'"; otherwise empty. */
static struct sl unknown_word(const char *message)
{
	static const char head[] = "no such option '";
	struct sl name = sl_cstr(message);

	if (!sl_starts(name, SL(head)))
		return SL_NULL;
	name = sl_sub(name, sizeof(head) - 1, name.n);
	return sl_sub(name, 0, sl_find(name, '\'', 0));
}

static void say_unknown(const cfg_t *cfg, struct sl word)
{
	const struct section *s = section_of(cfg);
	char hint[120];
	struct err e;

	schema_hint(s, word, hint, sizeof(hint));
	err_set(&e, E_SYNTAX, NULL, "no such option '" SLFMT "'%s%s%s", SLARG(word),
		*s->name ? " in " : "", s->name, hint);
	say(loading, E_SYNTAX, line_with(loading, word, cfg->line), e.text);
}

static void on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	struct err e;

/* The format is libconfuse's, or ours through cfg_error. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	err_vset(&e, E_SYNTAX, NULL, fmt, ap);
#pragma GCC diagnostic pop
	if (strstr(e.text, "'" END "'"))
		err_set(&e, E_SYNTAX, NULL, "a section is not closed: } is missing");
	if (cfg && unknown_word(e.text).n)
		say_unknown(cfg, unknown_word(e.text));
	else
		say(loading, E_SYNTAX, cfg ? cfg->line : 0, e.text);
}

static void key_of(const cfg_t *cfg, const char *opt, char key[WHERE_MAX])
{
	const struct section *s = section_of(cfg);

	if (s->titled)
		snprintf(key, WHERE_MAX, "%s[%.253s].%s", s->name, cfg->title ? cfg->title : "",
			 opt);
	else
		snprintf(key, WHERE_MAX, "%s%s%s", s->name, *s->name ? "." : "", opt);
}

static int set_line(const char *key, int line)
{
	return json_object_set_new(loading->lines, key, json_integer(line));
}

static int refuse_value(int line, const char *key, const char *why)
{
	struct err e;

	err_set(&e, E_SYNTAX, NULL, "%s: %s", key, why);
	say(loading, E_SYNTAX, line, e.text);
	return -1;
}

/* One value was read: of an option, or a member of a list. */
static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	const struct opt *o = schema_opt(section_of(cfg), opt->name);
	struct err why = { 0, NULL, "" };
	char key[WHERE_MAX], twice[60];
	int line;

	*(const char **)result = value;
	if (strcmp(value, UNSET) == 0)
		return 0;
	line = line_with(loading, sl_cstr(o->kind == OPT_LIST ? value : opt->name), cfg->line);
	key_of(cfg, opt->name, key);
	const json_t *before = json_object_get(loading->lines, key);
	/* The value has its place already when this is called: the first of a list is number 1. */
	if (before && (o->kind != OPT_LIST || cfg_opt_size(opt) <= 1)) {
		int first = (int)json_integer_value(before);
		if (first >= line) /* this line was what libconfuse looked at then */
			first = line_with(loading, sl_cstr(opt->name), line - 1);
		snprintf(twice, sizeof(twice), "is set twice, first in line %d", first);
		return refuse_value(line, key, twice);
	}
	if (set_line(key, line) < 0)
		return refuse_value(line, key, "out of memory, or not UTF-8");
	if (strchr(value, '\n'))
		return refuse_value(line, key, "goes on in the next line: is a \" missing?");
	if (schema_check_value(o, sl_cstr(value), &why) < 0)
		return refuse_value(line, key, why.text);
	return 0;
}

/* A section has ended: its line is where mistakes about it as a whole are reported. */
static int on_section(cfg_t *cfg, cfg_opt_t *opt)
{
	cfg_t *sec = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
	const struct section *s = schema_section(opt->name);
	struct err why = { 0, NULL, "" };
	char key[WHERE_MAX];

	if (!sec || !s)
		return 0;
	if (!s->titled)
		return set_line(s->name, cfg->line) < 0 ? -1 : 0;
	snprintf(key, sizeof(key), "%s[%.253s]", s->name, sec->title ? sec->title : "");
	if (s->check_title(sl_cstr(sec->title), &why) < 0) {
		cfg_error(cfg, "%s: %s", key, why.text);
		return -1;
	}
	return set_line(key, cfg->line) < 0 ? -1 : 0;
}

static void fill_opts(const struct section *s, cfg_opt_t *dst, size_t *n)
{
	for (size_t i = 0; i < s->nopt; i++) {
		const struct opt *o = &s->opt[i];
		if (o->kind == OPT_CONTENT)
			continue;
		if (o->kind == OPT_LIST)
			dst[(*n)++] =
				(cfg_opt_t)CFG_STR_LIST_CB(o->key, UNSET_LIST, CFGF_NONE, on_value);
		else
			dst[(*n)++] = (cfg_opt_t)CFG_STR_CB(o->key, UNSET, CFGF_NONE, on_value);
	}
}

struct tree {
	cfg_opt_t top[OPTS_MAX];
	cfg_opt_t sub[16][OPTS_MAX];
};

/* libconfuse copies the arrays, so they live for one call. */
static cfg_t *tree_new(void)
{
	struct tree *t = base_calloc(1, sizeof(*t));
	size_t n = 0;

	if (!t)
		return NULL;
	for (size_t i = 0; i < config_schema_n; i++) {
		const struct section *s = &config_schema[i];
		size_t k = 0;
		if (!*s->name) {
			fill_opts(s, t->top, &n);
			continue;
		}
		fill_opts(s, t->sub[i], &k);
		t->sub[i][k] = (cfg_opt_t)CFG_END();
		t->top[n++] = (cfg_opt_t)CFG_SEC(
			s->name, t->sub[i],
			s->titled ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : CFGF_NONE);
	}
	t->top[n++] = (cfg_opt_t)CFG_STR(END, UNSET, CFGF_NONE);
	t->top[n] = (cfg_opt_t)CFG_END();
	cfg_t *cfg = cfg_init(t->top, CFGF_NONE);
	free(t);
	if (!cfg)
		return NULL;
	cfg_set_error_function(cfg, on_error);
	for (size_t i = 0; i < config_schema_n; i++)
		if (*config_schema[i].name)
			cfg_set_validate_func(cfg, config_schema[i].name, on_section);
	return cfg;
}

/* ---- files that it names ---- */

static int read_all(struct load *l, int fd, const char *path, const struct opt *file,
		    const struct opt *content, struct buf *b)
{
	struct stat st;
	char chunk[4096];
	ssize_t n = 0;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(l->e, E_IO, NULL, "%s: not a plain file", path);
	if (file->secret && (st.st_mode & 0007))
		return err_set(l->e, E_DENIED, NULL, "%s can be read by everyone: chmod 640 it",
			       path);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		if (buf_add(b, sl_mk(chunk, (size_t)n)) < 0)
			return err_set(l->e, E_TOOBIG, NULL, "%s: more than %u octets", path,
				       content->max);
	wipe(chunk, sizeof(chunk));
	if (n < 0)
		return err_errno(l->e, E_IO, "%s", path);
	return 0;
}

static int read_content(struct load *l, const char *path, const struct opt *file,
			const struct opt *content, struct buf *b)
{
	/* Not blocking: it might be a FIFO. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	int rc;

	if (fd < 0 && errno == ENOENT && !content->secret)
		return err_set(l->e, E_NOTFOUND, NULL,
			       "cannot read %s: No such file or directory; to try things out: "
			       "tandemctl certificate self-signed",
			       path);
	if (fd < 0)
		return err_errno(l->e, E_NOTFOUND, "cannot read %s", path);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	rc = read_all(l, fd, path, file, content, b);
	close(fd);
	struct sl v = buf_sl(b);
	while (content->secret && v.n && (v.p[v.n - 1] == '\n' || v.p[v.n - 1] == '\r')) {
		v.n--;
		b->n--;
	}
	if (rc == 0 && b->n == 0)
		rc = err_set(l->e, E_SYNTAX, NULL, "%s is empty", path);
	if (rc == 0)
		rc = schema_check_text(content, buf_sl(b), l->e);
	return rc;
}

/* Put the file's content beside its path in the document. */
static int add_content(struct load *l, const struct section *s, const struct opt *o, json_t *into)
{
	const char *path = json_string_value(json_object_get(into, o->key));
	const struct opt *content = schema_opt(s, o->content);
	char full[PATH_MAX];
	struct buf b;
	int rc;

	if (!path || !*path)
		return 0;
	if (*path == '/')
		rc = snprintf(full, sizeof(full), "%s", path);
	else
		rc = snprintf(full, sizeof(full), SLFMT "/%s", SLARG(l->dir), path);
	if (rc < 0 || (size_t)rc >= sizeof(full))
		return err_set(l->e, E_TOOBIG, NULL, "path too long");
	buf_init(&b, content->max + 2); /* a line end that will be cut */
	rc = read_content(l, full, o, content, &b);
	if (rc == 0 &&
	    json_object_set_new(into, o->content, json_stringn(buf_sl(&b).p, buf_sl(&b).n)) < 0)
		rc = err_set(l->e, E_SYNTAX, NULL, "%s is not a text in UTF-8", full);
	wipe(b.p, b.cap);
	buf_free(&b);
	return rc;
}

/* ---- from libconfuse's tree to the document
 * ------------------------------------------------------- */

static json_t *list_value(cfg_t *cfg, const struct opt *o)
{
	json_t *a = json_array();
	unsigned n = cfg_size(cfg, o->key);

	for (unsigned i = 0; a && i < n; i++) {
		const char *v = cfg_getnstr(cfg, o->key, i);
		if (strcmp(v, UNSET) != 0)
			json_array_append_new(a, json_string(v));
	}
	return a;
}

static bool is_unset(cfg_t *cfg, const struct opt *o)
{
	return cfg_size(cfg, o->key) == 1 && strcmp(cfg_getnstr(cfg, o->key, 0), UNSET) == 0;
}

static json_t *typed_value(cfg_t *cfg, const struct opt *o)
{
	return o->kind == OPT_LIST ? list_value(cfg, o)
				   : schema_value_json(o, sl_cstr(cfg_getstr(cfg, o->key)));
}

static int line_of(const struct load *l, const char *where)
{
	return (int)json_integer_value(json_object_get(l->lines, where));
}

/* A reason without a place gets its place. */
static int placed(struct load *l, int rc, const char *where)
{
	struct err e;
	const char *dot = strrchr(where, '.');
	char outer[WHERE_MAX];
	int line = line_of(l, where);

	if (line == 0 && dot) { /* the option is not there: the section's line */
		snprintf(outer, sizeof(outer), "%.*s", (int)(dot - where), where);
		line = line_of(l, outer);
	}
	err_set(&e, rc, NULL, "%s%s%s", where, *where ? ": " : "", l->e->text);
	say(l, rc, line, e.text);
	return rc;
}

static int options_to_json(struct load *l, const struct section *s, cfg_t *cfg, json_t *into)
{
	char key[WHERE_MAX];

	for (size_t i = 0; i < s->nopt; i++) {
		const struct opt *o = &s->opt[i];
		if (o->kind == OPT_CONTENT || is_unset(cfg, o))
			continue;
		key_of(cfg, o->key, key);
		if (json_object_set_new(into, o->key, typed_value(cfg, o)) < 0) {
			err_set(l->e, E_SYNTAX, NULL, "not UTF-8");
			return placed(l, E_SYNTAX, key);
		}
		int rc = o->kind == OPT_FILE ? add_content(l, s, o, into) : 0;
		if (rc < 0)
			return placed(l, rc, key);
	}
	return 0;
}

static int titled_to_json(struct load *l, const struct section *s, cfg_t *cfg)
{
	json_t *a = json_array();

	if (json_object_set_new(l->doc, s->name, a) < 0)
		return E_NOMEM;
	for (unsigned i = 0; i < cfg_size(cfg, s->name); i++) {
		cfg_t *sec = cfg_getnsec(cfg, s->name, i);
		json_t *o = json_object();
		if (json_array_append_new(a, o) < 0 ||
		    json_object_set_new(o, "name", json_string(cfg_title(sec))) < 0)
			return E_NOMEM;
		int rc = options_to_json(l, s, sec, o);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int to_json(struct load *l, cfg_t *cfg)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < config_schema_n; i++) {
		const struct section *s = &config_schema[i];
		if (!*s->name) {
			rc = options_to_json(l, s, cfg, l->doc);
		} else if (s->titled) {
			rc = titled_to_json(l, s, cfg);
		} else {
			json_t *o = json_object();
			rc = json_object_set_new(l->doc, s->name, o);
			if (rc == 0)
				rc = options_to_json(l, s, cfg_getsec(cfg, s->name), o);
		}
	}
	if (rc < 0 && !l->failed)
		say(l, E_NOMEM, 0, "out of memory");
	return rc;
}

/* ---- all of it
 * ------------------------------------------------------------------------------------ */

static int parse(struct load *l)
{
	cfg_t *cfg = tree_new();
	int rc;

	if (!cfg)
		return err_set(l->e, E_NOMEM, NULL, "out of memory");
	rc = cfg_parse_buf(cfg, l->text) == CFG_SUCCESS ? 0 : E_SYNTAX;
	if (rc == 0 && strcmp(cfg_getstr(cfg, END), "yes") != 0)
		rc = E_SYNTAX;
	if (rc < 0)
		say(l, E_SYNTAX, cfg->line, "a comment or a quotation is not closed");
	else
		rc = to_json(l, cfg);
	cfg_free(cfg);
	return rc;
}

static int build(struct load *l, const struct config **c_r)
{
	char where[WHERE_MAX];
	int rc;

	l->doc = json_object();
	l->lines = json_object();
	if (!l->doc || !l->lines)
		return err_set(l->e, E_NOMEM, NULL, "out of memory");
	loading = l;
	rc = parse(l);
	loading = NULL;
	if (rc == 0) {
		rc = config_build(l->doc, CONFIG_ALL, c_r, where, l->e);
		if (rc < 0)
			placed(l, rc, where);
	}
	return rc;
}

int config_load_text(struct sl text, const char *name, struct sl dir, const struct config **c_r,
		     struct err *e)
{
	struct err local = { 0, NULL, "" };
	struct load l = { .name = name, .dir = dir, .e = e ? e : &local };
	struct buf b;
	int rc;

	if (text.n && memchr(text.p, 0, text.n))
		return err_set(e, E_SYNTAX, NULL, "%s: not a text: it has a NUL octet", name);
	buf_init(&b, TEXT_MAX + 64);
	if (buf_add(&b, text) < 0 || buf_add(&b, SL("\n" END " = yes\n\0")) < 0)
		rc = err_set(e, E_TOOBIG, NULL, "%s: more than %u octets", name, TEXT_MAX);
	else {
		l.text = b.p;
		rc = build(&l, c_r);
	}
	buf_free(&b);
	json_decref(l.doc);
	json_decref(l.lines);
	return rc;
}

static int read_text(FILE *f, const char *path, struct buf *b, struct err *e)
{
	char chunk[4096];
	size_t n;

	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		if (buf_add(b, sl_mk(chunk, n)) < 0)
			return err_set(e, E_TOOBIG, NULL, "%s: more than %u octets", path,
				       TEXT_MAX);
	if (ferror(f))
		return err_errno(e, E_IO, "cannot read %s", path);
	return 0;
}

/* Plain files only: tandemd, which reads it again at each reload, would wait for what a FIFO's
 * other end has to say. */
static int open_text(const char *path, FILE **f_r, struct err *e)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int rc = 0;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, E_NOTFOUND, NULL,
			       "cannot read %s: No such file or directory; tandemctl config sample "
			       "prints one to begin with",
			       path);
	if (fd < 0)
		return err_errno(e, E_NOTFOUND, "cannot read %s", path);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (fstat(fd, &st) < 0)
		rc = err_errno(e, E_IO, "cannot read %s", path);
	else if (!S_ISREG(st.st_mode))
		rc = err_set(e, E_IO, NULL, "cannot read %s: not a plain file", path);
	else if (!(*f_r = fdopen(fd, "r")))
		rc = err_errno(e, E_NOMEM, "cannot read %s", path);
	if (rc < 0)
		close(fd);
	return rc;
}

int config_load(const char *path, const struct config **c_r, struct err *e)
{
	struct sl dir = sl_cstr(path);
	FILE *f = NULL;
	struct buf b;
	int rc = open_text(path, &f, e);

	if (rc < 0)
		return rc;
	while (dir.n && dir.p[dir.n - 1] != '/')
		dir.n--;
	buf_init(&b, TEXT_MAX);
	rc = read_text(f, path, &b, e);
	if (rc == 0)
		rc = config_load_text(buf_sl(&b), path,
				      dir.n > 1 ? sl_sub(dir, 0, dir.n - 1)
				      : dir.n   ? dir
						: SL("."),
				      c_r, e);
	buf_free(&b);
	fclose(f);
	return rc;
}
