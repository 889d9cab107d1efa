/* schema.h - private to appliance/config: the table that says what a configuration is. */
#ifndef TANDEM_CONFIG_SCHEMA_H
#define TANDEM_CONFIG_SCHEMA_H

#include "appliance/config/config.h"

enum opt_kind {
	OPT_STR,     /* struct sl; min, max: octets */
	OPT_BOOL,    /* bool */
	OPT_UINT,    /* uint32_t */
	OPT_ENUM,    /* uint32_t: index into names */
	OPT_LIST,    /* struct config_list; min, max: members */
	OPT_FILE,    /* struct sl: a path; tandemd reads it into the option named content */
	OPT_CONTENT, /* struct sl: only in the document, never in the file */
};

/* A value's own syntax; e gets the reason without the option's name. */
typedef int (*opt_check_fn)(struct sl v, struct err *e);

struct opt {
	const char *key;
	enum opt_kind kind;
	size_t offset; /* in struct config, or in the struct of a titled section */
	uint8_t who;
	bool restart;
	bool required;            /* in a titled section */
	uint32_t def, min, max;   /* def of UINT, BOOL, ENUM */
	const char *def_text;     /* of STR; of LIST: words separated by spaces */
	const char *const *names; /* ENUM, ends with NULL */
	opt_check_fn check;       /* STR, CONTENT and each member of a LIST; NULL: any */
	const char *content;      /* FILE: key of the CONTENT option */
	bool secret;        /* FILE: must not be readable by everyone; CONTENT: a line end is cut */
	const char *sample; /* shown in the sample as a line that is in force */
	const char *help;
};

struct section {
	const char *name; /* "": the top of the file */
	const struct opt *opt;
	size_t nopt;
	uint8_t who;
	bool titled;
	bool restart;              /* titled: adding or removing one */
	size_t array, count, size; /* titled: offsets of pointer and number in struct config */
	uint32_t max;              /* titled: most of them */
	opt_check_fn check_title;
	const char *sample_title;
	bool sample_on; /* the sample has one in force, not commented out */
	const char *help;
};

extern const struct section config_schema[];
extern const size_t config_schema_n;

const struct section *schema_section(const char *name);
const struct opt *schema_opt(const struct section *s, const char *key);
/* The checks that need no other option. */
int schema_check_uint(const struct opt *o, uint64_t v, struct err *e);
int schema_check_text(const struct opt *o, struct sl v, struct err *e);
int schema_enum(const struct opt *o, struct sl v, uint32_t *v_r, struct err *e);

/* The same for a value as text; of a list: one member. */
int schema_check_value(const struct opt *o, struct sl v, struct err *e);
/* NULL: not UTF-8, or out of memory. v has passed schema_check_value; not for lists. */
json_t *schema_value_json(const struct opt *o, struct sl v);
/* The option of s, or the section at the top, that is nearly called so; NULL: none is. */
const char *schema_nearest(const struct section *s, struct sl word);
/* dst: "; did you mean ...?" for a word that is no option of s, or "". */
void schema_hint(const struct section *s, struct sl word, char *dst, size_t cap);

/* Build from a document. where: the key that an error is about, "section.key" or
 * "section[title].key". */
#define WHERE_MAX 400
int config_build(const json_t *doc, enum config_who who, const struct config **c_r,
		 char where[WHERE_MAX], struct err *e);
/* config_load on a text. name: for messages; dir: what relative paths are relative to. */
int config_load_text(struct sl text, const char *name, struct sl dir, const struct config **c_r,
		     struct err *e);
/* Settings that contradict each other. */
int config_check(const struct config *c, enum config_who who, char where[WHERE_MAX], struct err *e);
int config_check_link(const struct config_link *l, char where[WHERE_MAX], struct err *e);

#endif
