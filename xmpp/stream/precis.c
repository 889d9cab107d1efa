/* precis.c - PRECIS profiles UsernameCaseMapped and OpaqueString. See precis.h and jid.h
 * (precis_password).
 *
 * The derived property of a code point is computed from libunistring's character data by the
 * algorithm of RFC 8264 section 8, not from the IANA table, so it follows the library's Unicode
 * version. Contextual rules are RFC 5892 appendix A, the Bidi rule is RFC 5893 section 2. Strings
 * are short (jid.c checks), so everything works on an array of code points. */
#include "xmpp/stream/precis.h"

#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>
#include <unistr.h>

#include "appliance/base/enc.h"
#include "xmpp/stream/jid.h"

#define ROUNDS 4 /* RFC 8264 section 7 */

enum prop { PVALID, FREE_PVAL, CONTEXTJ, CONTEXTO, DISALLOWED, UNASSIGNED };

/* RFC 8264 9.6. */
static bool exception(uint32_t c, enum prop *p_r)
{
	static const uint32_t valid[] = { 0xdf, 0x3c2, 0x6fd, 0x6fe, 0xf0b, 0x3007 };
	static const uint32_t context[] = { 0xb7, 0x375, 0x5f3, 0x5f4, 0x30fb };
	static const uint32_t never[] = { 0x640,  0x7fa,  0x302e, 0x302f, 0x3031,
					  0x3032, 0x3033, 0x3034, 0x3035, 0x303b };

	for (size_t i = 0; i < ARRAY_LEN(valid); i++)
		if (c == valid[i])
			return *p_r = PVALID, true;
	for (size_t i = 0; i < ARRAY_LEN(context); i++)
		if (c == context[i])
			return *p_r = CONTEXTO, true;
	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (c == never[i])
			return *p_r = DISALLOWED, true;
	if ((c >= 0x660 && c <= 0x669) || (c >= 0x6f0 && c <= 0x6f9))
		return *p_r = CONTEXTO, true;
	return false;
}

static bool old_hangul_jamo(uint32_t c)
{
	return (c >= 0x1100 && c <= 0x11ff) || (c >= 0xa960 && c <= 0xa97c) ||
	       (c >= 0xd7b0 && c <= 0xd7c6) || (c >= 0xd7cb && c <= 0xd7fb);
}

static bool has_compat(uint32_t c)
{
	uint32_t buf[32];
	size_t n = ARRAY_LEN(buf);
	uint32_t *r = u32_normalize(UNINORM_NFKC, &c, 1, buf, &n);
	bool same = r && n == 1 && r[0] == c;

	if (r && r != buf)
		free(r);
	return !same;
}

static bool in_categories(uint32_t c, uint32_t mask)
{
	return uc_is_general_category_withtable(c, mask);
}

/* RFC 8264 section 8. */
static enum prop property(uint32_t c)
{
	enum prop p;

	if (exception(c, &p))
		return p;
	if (in_categories(c, UC_CATEGORY_MASK_Cn) && !uc_is_property_not_a_character(c))
		return UNASSIGNED;
	if (c >= 0x21 && c <= 0x7e)
		return PVALID;
	if (c == 0x200c || c == 0x200d)
		return CONTEXTJ;
	if (old_hangul_jamo(c) || uc_is_property_default_ignorable_code_point(c) ||
	    uc_is_property_not_a_character(c) || in_categories(c, UC_CATEGORY_MASK_Cc))
		return DISALLOWED;
	if (has_compat(c))
		return FREE_PVAL;
	if (in_categories(c, UC_CATEGORY_MASK_Ll | UC_CATEGORY_MASK_Lu | UC_CATEGORY_MASK_Lo |
				     UC_CATEGORY_MASK_Nd | UC_CATEGORY_MASK_Lm |
				     UC_CATEGORY_MASK_Mn | UC_CATEGORY_MASK_Mc))
		return PVALID;
	if (in_categories(c, UC_CATEGORY_MASK_Lt | UC_CATEGORY_MASK_Nl | UC_CATEGORY_MASK_No |
				     UC_CATEGORY_MASK_Me | UC_CATEGORY_MASK_Zs |
				     UC_CATEGORY_MASK_S | UC_CATEGORY_MASK_P))
		return FREE_PVAL;
	return DISALLOWED;
}

/* ---- contextual rules (RFC 5892 appendix A) -------------------------------------------------- */

static bool after_virama(const uint32_t *s, size_t i)
{
	return i > 0 && uc_combining_class(s[i - 1]) == UC_CCC_VR;
}

/* A.1: (Joining_Type:{L,D})(T)* ZWNJ (T)*(Joining_Type:{R,D}) */
static bool joins_around(const uint32_t *s, size_t n, size_t i)
{
	size_t l = i, r = i + 1;

	while (l > 0 && uc_joining_type(s[l - 1]) == UC_JOINING_TYPE_T)
		l--;
	while (r < n && uc_joining_type(s[r]) == UC_JOINING_TYPE_T)
		r++;
	if (l == 0 || r == n)
		return false;
	int lt = uc_joining_type(s[l - 1]), rt = uc_joining_type(s[r]);
	return (lt == UC_JOINING_TYPE_L || lt == UC_JOINING_TYPE_D) &&
	       (rt == UC_JOINING_TYPE_R || rt == UC_JOINING_TYPE_D);
}

static bool is_script(uint32_t c, const char *name)
{
	const uc_script_t *s = uc_script(c);

	return s && strcmp(s->name, name) == 0;
}

static bool any_kana_or_han(const uint32_t *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_script(s[i], "Hiragana") || is_script(s[i], "Katakana") ||
		    is_script(s[i], "Han"))
			return true;
	return false;
}

static bool any_between(const uint32_t *s, size_t n, uint32_t lo, uint32_t hi)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] >= lo && s[i] <= hi)
			return true;
	return false;
}

static bool context_ok(const uint32_t *s, size_t n, size_t i)
{
	switch (s[i]) {
	case 0x200c:
		return after_virama(s, i) || joins_around(s, n, i);
	case 0x200d:
		return after_virama(s, i);
	case 0xb7:
		return i > 0 && i + 1 < n && s[i - 1] == 'l' && s[i + 1] == 'l';
	case 0x375:
		return i + 1 < n && is_script(s[i + 1], "Greek");
	case 0x5f3:
	case 0x5f4:
		return i > 0 && is_script(s[i - 1], "Hebrew");
	case 0x30fb:
		return any_kana_or_han(s, n);
	default: /* the two sets of Arabic digits do not mix */
		return s[i] <= 0x669 ? !any_between(s, n, 0x6f0, 0x6f9)
				     : !any_between(s, n, 0x660, 0x669);
	}
}

static int check_class(const uint32_t *s, size_t n, bool freeform, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		enum prop p = property(s[i]);
		if (p == PVALID || (p == FREE_PVAL && freeform))
			continue;
		if ((p == CONTEXTJ || p == CONTEXTO) && context_ok(s, n, i))
			continue;
		return err_set(e, E_SYNTAX, freeform ? "RFC 8264 4.3" : "RFC 8264 4.2",
			       "character U+%04X is not allowed%s", (unsigned)s[i],
			       p == UNASSIGNED                  ? " (unassigned)"
			       : p == CONTEXTJ || p == CONTEXTO ? " here"
								: "");
	}
	return 0;
}

/* ---- the Bidi rule (RFC 5893 section 2) ------------------------------------------------------ */

#define B(x) (1ull << (x))

static uint64_t bidi_bit(uint32_t c)
{
	int k = uc_bidi_class(c);

	return k >= 0 && k < 64 ? B(k) : 0;
}

static bool bidi_ok(const uint32_t *s, size_t n)
{
	const uint64_t rtl_chars = B(UC_BIDI_R) | B(UC_BIDI_AL) | B(UC_BIDI_AN);
	const uint64_t weak = B(UC_BIDI_EN) | B(UC_BIDI_ES) | B(UC_BIDI_CS) | B(UC_BIDI_ET) |
			      B(UC_BIDI_ON) | B(UC_BIDI_BN) | B(UC_BIDI_NSM);
	uint64_t seen = 0, first, last;

	for (size_t i = 0; i < n; i++)
		seen |= bidi_bit(s[i]);
	if (!(seen & rtl_chars))
		return true;
	while (n > 1 && bidi_bit(s[n - 1]) == B(UC_BIDI_NSM))
		n--;
	first = bidi_bit(s[0]);
	last = bidi_bit(s[n - 1]);
	if (first & (B(UC_BIDI_R) | B(UC_BIDI_AL)))
		return !(seen & ~(rtl_chars | weak)) && (last & (rtl_chars | B(UC_BIDI_EN))) &&
		       (seen & (B(UC_BIDI_EN) | B(UC_BIDI_AN))) != (B(UC_BIDI_EN) | B(UC_BIDI_AN));
	return false; /* left-to-right text has none of these characters; no text may begin
			 otherwise */
}

/* ---- profiles -------------------------------------------------------------------------------- */

/* A string of code points, from malloc. */
struct cps {
	uint32_t *p;
	size_t n;
};

static int take_result(struct cps *s, uint32_t *p, size_t n)
{
	if (!p)
		return E_NOMEM;
	free(s->p);
	s->p = p;
	s->n = n;
	return 0;
}

/* Full-width and half-width characters become their decompositions (RFC 8264 5.2.1). */
static void map_width(struct cps *s)
{
	for (size_t i = 0; i < s->n; i++) {
		ucs4_t d[UC_DECOMPOSITION_MAX_LENGTH];
		int tag = 0;
		if (s->p[i] < 0x80)
			continue;
		int n = uc_decomposition(s->p[i], &tag, d);
		if (n == 1 && (tag == UC_DECOMP_WIDE || tag == UC_DECOMP_NARROW))
			s->p[i] = d[0];
	}
}

static void map_spaces(struct cps *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->p[i] >= 0x80 && in_categories(s->p[i], UC_CATEGORY_MASK_Zs))
			s->p[i] = ' ';
}

static int lower(struct cps *s)
{
	size_t n = 0;
	uint32_t *p = u32_tolower(s->p, s->n, NULL, NULL, NULL, &n);

	return take_result(s, p, n);
}

static int compose(struct cps *s)
{
	size_t n = 0;
	uint32_t *p = u32_normalize(UNINORM_NFC, s->p, s->n, NULL, &n);

	return take_result(s, p, n);
}

static int enforce_once(enum precis_profile prof, struct cps *s, struct err *e)
{
	bool user = prof == PRECIS_USERNAME_CASE_MAPPED;
	int rc;

	if (user) {
		map_width(s);
		rc = check_class(s->p, s->n, false, e);
		if (rc == 0)
			rc = lower(s);
	} else {
		rc = check_class(s->p, s->n, true, e);
		map_spaces(s);
	}
	if (rc == 0)
		rc = compose(s);
	if (rc < 0)
		return rc;
	if (s->n == 0)
		return err_set(e, E_SYNTAX, "RFC 8265 3.1", "empty");
	if (user && !bidi_ok(s->p, s->n))
		return err_set(e, E_SYNTAX, "RFC 5893 2", "mixes directions");
	return check_class(s->p, s->n, !user, e);
}

static int to_cps(struct sl in, struct cps *s_r, struct err *e)
{
	uint32_t *p;

	if (!utf8_valid(in))
		return err_set(e, E_SYNTAX, "RFC 3629", "not UTF-8");
	if (in.n == 0)
		return err_set(e, E_SYNTAX, "RFC 8265 3.1", "empty");
	p = base_malloc(in.n * sizeof(*p));
	if (!p)
		return E_NOMEM;
	s_r->p = p;
	s_r->n = 0;
	while (in.n) {
		size_t k = utf8_next(in, &p[s_r->n++]);
		in = sl_sub(in, k, in.n);
	}
	return 0;
}

static int from_cps(struct arena *a, const struct cps *s, struct sl in, struct sl *out_r)
{
	char tmp[4];
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += utf8_put(s->p[i], tmp);
	char *p = arena_bytes(a, n), *d = p;
	if (!p)
		return E_NOMEM;
	for (size_t i = 0; i < s->n; i++) {
		size_t k = utf8_put(s->p[i], tmp);
		memcpy(d, tmp, k);
		d += k;
	}
	*out_r = sl_eq(in, sl_mk(p, n)) ? in : sl_mk(p, n);
	return 0;
}

static bool same_cps(const struct cps *a, const struct cps *b)
{
	return a->n == b->n && memcmp(a->p, b->p, a->n * sizeof(*a->p)) == 0;
}

int precis_enforce(struct arena *a, enum precis_profile prof, struct sl in, struct sl *out_r,
		   struct err *e)
{
	struct cps s = { 0 }, before = { 0 };
	bool stable = false;
	int rc = to_cps(in, &s, e);

	for (int round = 0; rc == 0 && !stable; round++) {
		if (round == ROUNDS) {
			rc = err_set(e, E_SYNTAX, "RFC 8264 7",
				     "preparation does not come to an end");
			break;
		}
		uint32_t *copy = base_malloc(s.n * sizeof(*copy));
		if (copy)
			memcpy(copy, s.p, s.n * sizeof(*copy));
		rc = take_result(&before, copy, s.n);
		if (rc == 0)
			rc = enforce_once(prof, &s, e);
		stable = rc == 0 && same_cps(&s, &before);
	}
	if (rc == 0)
		rc = from_cps(a, &s, in, out_r);
	if (s.p)
		wipe(s.p, s.n * sizeof(*s.p)); /* it may be a password */
	free(s.p);
	free(before.p);
	return rc;
}

int precis_map_domain(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	struct cps s = { 0 };
	int rc = to_cps(in, &s, e);

	if (rc == 0) {
		map_width(&s);
		for (size_t i = 0; i < s.n; i++)
			if (s.p[i] == 0x3002)
				s.p[i] = '.';
		rc = lower(&s);
	}
	if (rc == 0)
		rc = compose(&s);
	if (rc == 0)
		rc = from_cps(a, &s, in, out_r);
	free(s.p);
	return rc;
}

/* Printable ASCII is right as it is. */
static bool plain_ascii(struct sl s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e)
			return false;
	return s.n;
}

int precis_password(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	if (plain_ascii(in)) {
		*out_r = in;
		return 0;
	}
	return precis_enforce(a, PRECIS_OPAQUE_STRING, in, out_r, e);
}
