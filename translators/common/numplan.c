/* numplan.c - see numplan.h. Two hash tables over one entry: by number, and by account (a chain,
 * oldest first). */
#include "translators/common/numplan.h"

#include "appliance/base/hash.h"
#include "appliance/base/list.h"

struct account {
	struct hnode hn;
	struct list numbers; /* struct entry.of, oldest first */
	char *jid;
	size_t n;
};

struct entry {
	struct hnode hn;
	struct list of;
	struct account *acc;
	char *number, *link;
};

struct numbers {
	struct htable by_number, by_jid;
};

static bool is_digits(struct sl s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n > 0;
}

/* Digits of in without visual separators; a leading '+' is kept. */
static int strip(struct sl in, char *dst, size_t cap, size_t *n_r, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < in.n; i++) {
		char c = in.p[i];
		bool digit = c >= '0' && c <= '9';
		if (c == ' ' || c == '-' || c == '.' || c == '(' || c == ')')
			continue;
		if (!digit && !(c == '+' && n == 0))
			return err_set(
				e, E_SYNTAX, "ADDR-3",
				"a number has digits only, with + in front for its country code");
		if (n + 1 >= cap)
			return err_set(e, E_SYNTAX, "ADDR-3", "a number has at most 15 digits");
		dst[n++] = c;
	}
	dst[n] = '\0';
	*n_r = n;
	return 0;
}

static int finish_e164(struct sl cc, struct sl rest, char dst[NUMBER_MAX], struct err *e)
{
	size_t n = cc.n + rest.n;

	if (n < 5 || n > 15)
		return err_set(e, E_SYNTAX, "ADDR-3",
			       "a number has 5 to 15 digits, this one has %zu", n);
	if ((cc.n ? cc.p[0] : rest.p[0]) == '0')
		return err_set(e, E_SYNTAX, "ADDR-3", "no country code begins with 0");
	snprintf(dst, NUMBER_MAX, "+%.*s%.*s", SLARG(cc), SLARG(rest));
	return 0;
}

int number_normalise(const struct numplan *np, struct sl in, char dst[NUMBER_MAX], struct err *e)
{
	char tmp[32];
	size_t n = 0;
	int rc = strip(in, tmp, sizeof(tmp), &n, e);

	if (rc < 0)
		return rc;
	struct sl s = sl_mk(tmp, n);
	if (n && tmp[0] == '+')
		return n > 1 ? finish_e164(SL_NULL, sl_sub(s, 1, n), dst, e)
			     : err_set(e, E_SYNTAX, "ADDR-3", "a + alone is no number");
	if (!is_digits(s))
		return err_set(e, E_SYNTAX, "ADDR-3", "an empty number");
	if (np->intl_prefix.n && sl_starts(s, np->intl_prefix) && n > np->intl_prefix.n)
		return finish_e164(SL_NULL, sl_sub(s, np->intl_prefix.n, n), dst, e);
	if (np->country_code.n && np->national_prefix.n && sl_starts(s, np->national_prefix) &&
	    n > 8)
		return finish_e164(np->country_code, sl_sub(s, np->national_prefix.n, n), dst, e);
	if (n >= 3 && n <= 8)
		return sl_to_cstr(s, dst, NUMBER_MAX);
	return err_set(e, E_SYNTAX, "ADDR-3", "write the number with + and its country code");
}

/* ---- table ---------------------------------------------------------------------------------- */

static bool entry_match(const struct hnode *h, const void *key)
{
	const struct entry *en = container_of(h, struct entry, hn);

	return sl_eq(sl_cstr(en->number), *(const struct sl *)key);
}

static bool account_match(const struct hnode *h, const void *key)
{
	const struct account *a = container_of(h, struct account, hn);
	const struct sl *k = key;

	return a->n == k->n && memcmp(a->jid, k->p, k->n) == 0;
}

static struct entry *find_entry(const struct numbers *n, struct sl number)
{
	struct hnode *h = htable_find(&n->by_number, hash_bytes(number), entry_match, &number);

	return h ? container_of(h, struct entry, hn) : NULL;
}

static struct account *find_account(const struct numbers *n, struct sl jid)
{
	struct hnode *h = htable_find(&n->by_jid, hash_bytes(jid), account_match, &jid);

	return h ? container_of(h, struct account, hn) : NULL;
}

int numbers_new(struct numbers **n_r)
{
	struct numbers *n = calloc(1, sizeof(*n));

	if (!n)
		return E_NOMEM;
	*n_r = n;
	return 0;
}

static void drop_entry(struct numbers *n, struct entry *en)
{
	struct account *a = en->acc;

	htable_del(&n->by_number, &en->hn);
	list_remove(&en->of);
	free(en->number);
	free(en->link);
	free(en);
	if (list_empty(&a->numbers)) {
		htable_del(&n->by_jid, &a->hn);
		free(a->jid);
		free(a);
	}
}

void numbers_free(struct numbers **np)
{
	struct numbers *n = *np;
	struct hnode *h;

	*np = NULL;
	if (!n)
		return;
	while ((h = htable_next(&n->by_number, NULL)))
		drop_entry(n, container_of(h, struct entry, hn));
	htable_free(&n->by_number);
	htable_free(&n->by_jid);
	free(n);
}

static struct account *get_account(struct numbers *n, struct sl jid)
{
	struct account *a = find_account(n, jid);

	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (!a || !(a->jid = sl_dup(jid))) {
		free(a);
		return NULL;
	}
	a->n = jid.n;
	list_init(&a->numbers);
	if (htable_add(&n->by_jid, &a->hn, hash_bytes(jid)) < 0) {
		free(a->jid);
		free(a);
		return NULL;
	}
	return a;
}

static void drop_if_unused(struct numbers *n, struct account *a)
{
	if (!list_empty(&a->numbers))
		return;
	htable_del(&n->by_jid, &a->hn);
	free(a->jid);
	free(a);
}

int numbers_set(struct numbers *n, struct sl number, struct sl jid, struct sl link)
{
	struct account *a = get_account(n, jid);
	struct entry *en = calloc(1, sizeof(*en)), *old = find_entry(n, number);

	if (!a || !en)
		goto nomem;
	en->number = sl_dup(number);
	en->link = sl_dup(link);
	if (!en->number || !en->link || htable_add(&n->by_number, &en->hn, hash_bytes(number)) < 0)
		goto nomem;
	en->acc = a;
	if (old && old->acc == a)
		list_insert_before(&old->of, &en->of); /* keeps its age */
	else
		list_append(&a->numbers, &en->of);
	if (old)
		drop_entry(n, old);
	return 0;
nomem:
	if (en) {
		free(en->number);
		free(en->link);
		free(en);
	}
	if (a)
		drop_if_unused(n, a);
	return E_NOMEM;
}

void numbers_del(struct numbers *n, struct sl number)
{
	struct entry *en = find_entry(n, number);

	if (en)
		drop_entry(n, en);
}

struct sl numbers_owner(const struct numbers *n, struct sl number)
{
	struct entry *en = find_entry(n, number);

	return en ? sl_mk(en->acc->jid, en->acc->n) : SL_NULL;
}

struct sl numbers_of(const struct numbers *n, struct sl jid, struct sl *link_r)
{
	struct account *a = find_account(n, jid);

	if (!a)
		return SL_NULL;
	struct entry *en = LIST_ENTRY(a->numbers.next, struct entry, of);
	if (link_r)
		*link_r = sl_cstr(en->link);
	return sl_cstr(en->number);
}

void numbers_each_of(const struct numbers *n, struct sl jid,
		     void (*fn)(void *arg, struct sl number, struct sl jid, struct sl link),
		     void *arg)
{
	struct account *a = find_account(n, jid);

	if (!a)
		return;
	LIST_FOREACH(it, tmp, &a->numbers)
	{
		struct entry *en = LIST_ENTRY(it, struct entry, of);
		fn(arg, sl_cstr(en->number), jid, sl_cstr(en->link));
	}
}

size_t numbers_count(const struct numbers *n)
{
	return n->by_number.n;
}
