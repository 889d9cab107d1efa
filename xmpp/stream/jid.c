/* jid.c - XMPP addresses. See jid.h; RFC 7622 section 3, XEP-0106.
 *
 * ASCII addresses (nearly all) are checked with one table and never reach the Unicode libraries. */
#include "xmpp/stream/jid.h"

#include <arpa/inet.h>
#include <idn2.h>

#include "appliance/base/buf.h"
#include "xmpp/stream/precis.h"

#define DNS_LABEL_MAX 63u
#define DNS_NAME_MAX  253u
#define RAW_PART_MAX  (4u * JID_PART_MAX) /* preparation may shorten, but not that much */

enum { C_LOCAL = 1, C_DOMAIN = 2, C_RESOURCE = 4, C_UPPER = 8 };

/* What each ASCII character is allowed in. */
#define V3 (C_LOCAL | C_DOMAIN | C_RESOURCE)
#define VL (C_LOCAL | C_RESOURCE)
#define VR C_RESOURCE
#define VU (V3 | C_UPPER)
static const uint8_t class[128] = {
	[' '] = VR,  ['!'] = VL, ['"'] = VR, ['#'] = VL, ['$'] = VL,  ['%'] = VL, ['&'] = VR,
	['\''] = VR, ['('] = VL, [')'] = VL, ['*'] = VL, ['+'] = VL,  [','] = VL, ['-'] = V3,
	['.'] = V3,  ['/'] = VR, ['0'] = V3, ['1'] = V3, ['2'] = V3,  ['3'] = V3, ['4'] = V3,
	['5'] = V3,  ['6'] = V3, ['7'] = V3, ['8'] = V3, ['9'] = V3,  [':'] = VR, [';'] = VL,
	['<'] = VR,  ['='] = VL, ['>'] = VR, ['?'] = VL, ['@'] = VR,  ['A'] = VU, ['B'] = VU,
	['C'] = VU,  ['D'] = VU, ['E'] = VU, ['F'] = VU, ['G'] = VU,  ['H'] = VU, ['I'] = VU,
	['J'] = VU,  ['K'] = VU, ['L'] = VU, ['M'] = VU, ['N'] = VU,  ['O'] = VU, ['P'] = VU,
	['Q'] = VU,  ['R'] = VU, ['S'] = VU, ['T'] = VU, ['U'] = VU,  ['V'] = VU, ['W'] = VU,
	['X'] = VU,  ['Y'] = VU, ['Z'] = VU, ['['] = VL, ['\\'] = VL, [']'] = VL, ['^'] = VL,
	['_'] = VL,  ['`'] = VL, ['a'] = V3, ['b'] = V3, ['c'] = V3,  ['d'] = V3, ['e'] = V3,
	['f'] = V3,  ['g'] = V3, ['h'] = V3, ['i'] = V3, ['j'] = V3,  ['k'] = V3, ['l'] = V3,
	['m'] = V3,  ['n'] = V3, ['o'] = V3, ['p'] = V3, ['q'] = V3,  ['r'] = V3, ['s'] = V3,
	['t'] = V3,  ['u'] = V3, ['v'] = V3, ['w'] = V3, ['x'] = V3,  ['y'] = V3, ['z'] = V3,
	['{'] = VL,  ['|'] = VL, ['}'] = VL, ['~'] = VL,
};

enum scan { SCAN_OK, SCAN_UPPER, SCAN_WIDE, SCAN_BAD };

/* SCAN_OK: ASCII and right as it is; SCAN_UPPER: after lowering; SCAN_WIDE: not ASCII; SCAN_BAD: at
 * *bad_r. */
static enum scan scan_ascii(struct sl s, unsigned want, char *bad_r)
{
	unsigned all = want, any = 0, wide = 0;

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		wide |= c & 0x80u;
		all &= class[c & 0x7f];
		any |= class[c & 0x7f];
	}
	if (wide)
		return SCAN_WIDE;
	if (all == want)
		return any & C_UPPER ? SCAN_UPPER : SCAN_OK;
	for (size_t i = 0; i < s.n; i++)
		if (!(class[s.p[i] & 0x7f] & want)) {
			*bad_r = s.p[i];
			break;
		}
	return SCAN_BAD;
}

static int malformed(struct err *e, const char *clause, const char *part, const char *why)
{
	return err_set(e, E_SYNTAX, clause, "%s: %s", part, why);
}

static int bad_char(struct err *e, const char *clause, const char *part, char c)
{
	return err_set(e, E_SYNTAX, clause, "%s: character 0x%02x is not allowed", part,
		       (unsigned char)c);
}

static int lower_ascii(struct arena *a, struct sl in, struct sl *out_r)
{
	char *p = arena_bytes(a, in.n);

	if (!p)
		return E_NOMEM;
	for (size_t i = 0; i < in.n; i++)
		p[i] = in.p[i] >= 'A' && in.p[i] <= 'Z' ? (char)(in.p[i] + 32) : in.p[i];
	*out_r = sl_mk(p, in.n);
	return 0;
}

static int check_size(struct sl s, const char *clause, const char *part, struct err *e)
{
	if (s.n == 0)
		return malformed(e, clause, part, "empty");
	return s.n > JID_PART_MAX ? malformed(e, clause, part, "longer than 1023 octets") : 0;
}

/* Say which part it was. */
static int in_part(struct err *e, const char *part, int rc)
{
	if (rc == E_SYNTAX && e) {
		char why[ERR_TEXT_MAX];
		memcpy(why, e->text, sizeof(why));
		err_set(e, rc, e->clause, "%s: %.100s", part, why);
	}
	return rc;
}

#define LOCAL_CLAUSE    "RFC 7622 3.3"
#define DOMAIN_CLAUSE   "RFC 7622 3.2"
#define RESOURCE_CLAUSE "RFC 7622 3.4"

int jid_prep_local(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	struct sl out = in;
	char bad = 0;
	int rc = 0;

	if (in.n > RAW_PART_MAX)
		return check_size(in, LOCAL_CLAUSE, "localpart", e);
	enum scan k = scan_ascii(in, C_LOCAL, &bad);
	if (k == SCAN_BAD && in.n)
		return bad_char(e, LOCAL_CLAUSE, "localpart", bad);
	if (k == SCAN_UPPER)
		rc = lower_ascii(a, in, &out);
	if (k == SCAN_WIDE) {
		rc = in_part(e, "localpart",
			     precis_enforce(a, PRECIS_USERNAME_CASE_MAPPED, in, &out, e));
		/* Full-width forms of the excluded characters have become them. */
		for (size_t i = 0; rc == 0 && i < out.n; i++)
			if (!(out.p[i] & 0x80) && !(class[(unsigned char)out.p[i]] & C_LOCAL))
				rc = bad_char(e, LOCAL_CLAUSE, "localpart", out.p[i]);
	}
	if (rc == 0)
		rc = check_size(out, LOCAL_CLAUSE, "localpart", e);
	if (rc == 0)
		*out_r = out;
	return rc;
}

int jid_prep_resource(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	struct sl out = in;
	char bad = 0;
	int rc = 0;

	if (in.n > RAW_PART_MAX)
		return check_size(in, RESOURCE_CLAUSE, "resourcepart", e);
	enum scan k = scan_ascii(in, C_RESOURCE, &bad);
	if (k == SCAN_BAD && in.n)
		return bad_char(e, RESOURCE_CLAUSE, "resourcepart", bad);
	if (k == SCAN_WIDE)
		rc = in_part(e, "resourcepart",
			     precis_enforce(a, PRECIS_OPAQUE_STRING, in, &out, e));
	if (rc == 0)
		rc = check_size(out, RESOURCE_CLAUSE, "resourcepart", e);
	if (rc == 0)
		*out_r = out;
	return rc;
}

/* ---- domain ---------------------------------------------------------------------------------- */

/* "[::1]" and such, to the form of RFC 5952. */
static int prep_ipv6(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	char text[INET6_ADDRSTRLEN + 2];
	struct in6_addr addr;

	if (in.n < 4 || in.p[in.n - 1] != ']' ||
	    sl_to_cstr(sl_sub(in, 1, in.n - 1), text, INET6_ADDRSTRLEN) < 0 ||
	    strlen(text) != in.n - 2 || inet_pton(AF_INET6, text, &addr) != 1)
		return malformed(e, DOMAIN_CLAUSE, "domainpart", "not an IPv6 address");
	text[0] = '[';
	if (!inet_ntop(AF_INET6, &addr, text + 1, INET6_ADDRSTRLEN))
		return malformed(e, DOMAIN_CLAUSE, "domainpart", "not an IPv6 address");
	size_t n = strlen(text);
	text[n++] = ']';
	if (sl_eq(in, sl_mk(text, n))) {
		*out_r = in;
		return 0;
	}
	*out_r = arena_dup(a, sl_mk(text, n));
	return out_r->p ? 0 : E_NOMEM;
}

static int check_label(struct sl l, struct err *e)
{
	size_t wide = 0;

	for (size_t i = 0; i < l.n; i++) {
		wide += l.p[i] & 0x80 ? 1 : 0;
		if (!(l.p[i] & 0x80) && !(class[(unsigned char)l.p[i]] & C_DOMAIN))
			return bad_char(e, DOMAIN_CLAUSE, "domainpart", l.p[i]);
	}
	if (l.n == 0)
		return malformed(e, DOMAIN_CLAUSE, "domainpart", "empty label");
	if (!wide && l.n > DNS_LABEL_MAX)
		return malformed(e, DOMAIN_CLAUSE, "domainpart", "label longer than 63 octets");
	if (l.p[0] == '-' || l.p[l.n - 1] == '-')
		return malformed(e, DOMAIN_CLAUSE, "domainpart", "hyphen at the edge of a label");
	if (l.n >= 4 && l.p[2] == '-' && l.p[3] == '-' &&
	    (wide || !sl_ieq(sl_sub(l, 0, 2), SL("xn"))))
		return malformed(e, DOMAIN_CLAUSE, "domainpart", "reserved label");
	return 0;
}

/* Labels: what is ASCII in them is letters, digits and hyphens. *a_label_r: one begins with "xn--".
 */
static int check_labels(struct sl s, bool *a_label_r, struct err *e)
{
	size_t end;
	int rc;

	*a_label_r = false;
	for (size_t at = 0; at <= s.n; at = end + 1) {
		end = sl_find(s, '.', at);
		struct sl l = sl_sub(s, at, end);
		rc = check_label(l, e);
		if (rc < 0)
			return rc;
		*a_label_r |= l.n >= 4 && l.p[2] == '-' && l.p[3] == '-';
	}
	return 0;
}

static bool all_ascii(struct sl s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] & 0x80)
			return false;
	return true;
}

static int idn_error(int idn, struct err *e)
{
	if (idn == IDN2_MALLOC)
		return E_NOMEM;
	return malformed(e, DOMAIN_CLAUSE, "domainpart", idn2_strerror(idn));
}

/* A decoded A-label must be what its U-label would have been mapped to. (The libraries' Unicode
 * versions differ.) */
static int check_mapped(struct sl u, struct err *e)
{
	struct arena *a = arena_new(512, 16384);
	struct sl mapped;
	int rc = a ? precis_map_domain(a, u, &mapped, e) : E_NOMEM;

	if (rc == 0 && !sl_eq(mapped, u))
		rc = malformed(e, DOMAIN_CLAUSE, "domainpart", "an A-label that is none");
	arena_free(&a);
	return rc;
}

/* One label, mapped already, that has something of IDNA in it. Append its U-label to out, its
 * A-label's size to *octets. The registration test of libidn2 is the one that knows every rule of
 * RFC 5891 (its lookups, with UTS 46, let pass and even silently drop characters). */
static int idn_label(struct buf *out, size_t *octets, struct sl l, struct err *e)
{
	char *text = sl_dup(l), *u = NULL;
	uint8_t *ascii = NULL;
	bool decode = all_ascii(l);
	int rc = 0, idn = IDN2_OK;

	if (!text)
		return E_NOMEM;
	if (decode)
		idn = idn2_to_unicode_8z8z(text, &u, 0);
	if (idn == IDN2_OK && decode && (!u || all_ascii(sl_cstr(u))))
		rc = malformed(e, DOMAIN_CLAUSE, "domainpart", "an A-label that is none");
	else if (idn == IDN2_OK)
		idn = idn2_register_u8((uint8_t *)(decode ? u : text),
				       (uint8_t *)(decode ? text : NULL), &ascii, 0);
	if (rc == 0 && idn != IDN2_OK)
		rc = idn_error(idn, e);
	if (rc == 0 && decode)
		rc = check_mapped(sl_cstr(u), e);
	if (rc == 0) {
		*octets += strlen((char *)ascii) + 1;
		rc = buf_add(out, sl_cstr(decode ? u : text));
	}
	idn2_free(u);
	idn2_free(ascii);
	free(text);
	return rc;
}

static int idn_labels(struct buf *out, struct sl s, struct err *e)
{
	size_t octets = 0, end;
	int rc = 0;

	for (size_t at = 0; rc == 0 && at <= s.n; at = end + 1) {
		end = sl_find(s, '.', at);
		struct sl l = sl_sub(s, at, end);
		if (at)
			rc = buf_addc(out, '.');
		if (rc == 0)
			rc = check_label(l, e);
		if (rc < 0)
			break;
		if (!all_ascii(l) || (l.n >= 4 && l.p[2] == '-' && l.p[3] == '-')) {
			rc = idn_label(out, &octets, l, e);
		} else {
			octets += l.n + 1;
			rc = buf_add(out, l);
		}
	}
	if (rc == 0 && octets - 1 > DNS_NAME_MAX)
		rc = malformed(e, DOMAIN_CLAUSE, "domainpart", "longer than a domain name can be");
	return rc;
}

/* One final dot, if something is in front of it (RFC 7622 3.2). */
static struct sl strip_dot(struct sl s)
{
	return s.n > 1 && s.p[s.n - 1] == '.' ? sl_sub(s, 0, s.n - 1) : s;
}

/* To U-labels. */
static int prep_idn(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	struct buf out = { .max = RAW_PART_MAX };
	struct sl mapped;
	int rc = in_part(e, "domainpart", precis_map_domain(a, in, &mapped, e));

	if (rc < 0)
		return rc;
	rc = idn_labels(&out, strip_dot(mapped), e);
	if (rc == 0 && sl_eq(buf_sl(&out), in))
		*out_r = in;
	else if (rc == 0) {
		*out_r = arena_dup(a, buf_sl(&out));
		rc = out_r->p ? 0 : E_NOMEM;
	}
	buf_free(&out);
	return rc == E_TOOBIG ? malformed(e, DOMAIN_CLAUSE, "domainpart",
					  "longer than a domain name can be")
			      : rc;
}

int jid_prep_domain(struct arena *a, struct sl in, struct sl *out_r, struct err *e)
{
	struct sl out;
	bool a_label = false;
	char bad = 0;
	int rc;

	if (in.n == 0 || in.n > RAW_PART_MAX)
		return check_size(in, DOMAIN_CLAUSE, "domainpart", e);
	if (in.p[0] == '[')
		return prep_ipv6(a, in, out_r, e);
	enum scan k = scan_ascii(in, C_DOMAIN, &bad);
	if (k == SCAN_BAD)
		return bad_char(e, DOMAIN_CLAUSE, "domainpart", bad);
	out = k == SCAN_WIDE ? in : strip_dot(in);
	if (k != SCAN_WIDE && out.n > DNS_NAME_MAX)
		return malformed(e, DOMAIN_CLAUSE, "domainpart",
				 "longer than a domain name can be");
	rc = k == SCAN_WIDE ? 0 : check_labels(out, &a_label, e);
	if (rc == 0 && (k == SCAN_WIDE || a_label))
		rc = prep_idn(a, out, &out, e);
	else if (rc == 0 && k == SCAN_UPPER)
		rc = lower_ascii(a, out, &out);
	if (rc == 0)
		rc = check_size(out, DOMAIN_CLAUSE, "domainpart", e);
	if (rc == 0)
		*out_r = out;
	return rc;
}

/* ---- whole addresses ------------------------------------------------------------------------- */

/* First the resource is cut off at the first slash, then the localpart at the first at-sign (RFC
 * 7622 3.2, 3.5). */
struct jid jid_split(struct sl s)
{
	size_t slash = sl_find(s, '/', 0);
	struct jid j = { .full = s,
			 .bare = sl_sub(s, 0, slash),
			 .resource = sl_sub(s, slash + 1, s.n) };
	size_t at = sl_find(j.bare, '@', 0);

	if (at < j.bare.n) {
		j.local = sl_sub(s, 0, at);
		j.domain = sl_sub(j.bare, at + 1, j.bare.n);
	} else {
		j.domain = j.bare;
	}
	return j;
}

int jid_make(struct arena *a, struct sl local, struct sl domain, struct sl resource,
	     struct jid *j_r)
{
	size_t bare = domain.n + (local.n ? local.n + 1 : 0);
	size_t n = bare + (resource.n ? resource.n + 1 : 0);
	char *p = arena_bytes(a, n), *d = p;

	if (!p)
		return E_NOMEM;
	struct jid j = { .full = { p, n }, .bare = { p, bare } };
	if (local.n) {
		memcpy(d, local.p, local.n);
		j.local = sl_mk(d, local.n);
		d += local.n;
		*d++ = '@';
	}
	memcpy(d, domain.p, domain.n);
	j.domain = sl_mk(d, domain.n);
	d += domain.n;
	if (resource.n) {
		*d++ = '/';
		memcpy(d, resource.p, resource.n);
		j.resource = sl_mk(d, resource.n);
	}
	*j_r = j;
	return 0;
}

int jid_parse(struct arena *a, struct sl in, struct jid *j_r, struct err *e)
{
	struct jid raw = jid_split(in);
	struct sl local = SL_NULL, domain = SL_NULL, resource = SL_NULL;
	bool has_local = raw.domain.n != raw.bare.n, has_resource = raw.bare.n != in.n;
	int rc = 0;

	if (has_local)
		rc = jid_prep_local(a, raw.local, &local, e);
	if (rc == 0)
		rc = jid_prep_domain(a, raw.domain, &domain, e);
	if (rc == 0 && has_resource)
		rc = jid_prep_resource(a, raw.resource, &resource, e);
	if (rc < 0)
		return rc;
	if (local.p == raw.local.p && domain.p == raw.domain.p && domain.n == raw.domain.n &&
	    resource.p == raw.resource.p) {
		*j_r = raw;
		return 0;
	}
	return jid_make(a, local, domain, resource, j_r);
}

int jid_dup(struct arena *a, const struct jid *j, struct jid *j_r)
{
	return jid_make(a, j->local, j->domain, j->resource, j_r);
}

/* ---- XEP-0106 -------------------------------------------------------------------------------- */

static const char escaped[] = " \"&'/:<>@\\";
static const char hex[] = "0123456789abcdef";

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character that the escape sequence at s[i] stands for, or 0. */
static char escape_at(struct sl s, size_t i)
{
	if (s.n - i < 3 || s.p[i] != '\\')
		return 0;
	int hi = hex_digit(s.p[i + 1]), lo = hex_digit(s.p[i + 2]);
	if (hi < 0 || lo < 0)
		return 0;
	char c = (char)(hi << 4 | lo);
	return c && strchr(escaped, c) ? c : '\0';
}

static bool must_escape(struct sl s, size_t i)
{
	if (s.p[i] == '\\')
		return escape_at(s, i);
	return s.p[i] && strchr(escaped, s.p[i]);
}

int jid_escape_local(struct arena *a, struct sl in, struct sl *out_r)
{
	size_t n = in.n;

	if (in.n && (in.p[0] == ' ' || in.p[in.n - 1] == ' '))
		return E_SYNTAX;
	for (size_t i = 0; i < in.n; i++)
		n += must_escape(in, i) ? 2 : 0;
	if (n == in.n) {
		*out_r = in;
		return 0;
	}
	char *p = arena_bytes(a, n), *d = p;
	if (!p)
		return E_NOMEM;
	for (size_t i = 0; i < in.n; i++) {
		if (!must_escape(in, i)) {
			*d++ = in.p[i];
			continue;
		}
		*d++ = '\\';
		*d++ = hex[(unsigned char)in.p[i] >> 4];
		*d++ = hex[in.p[i] & 15];
	}
	*out_r = sl_mk(p, n);
	return 0;
}

int jid_unescape_local(struct arena *a, struct sl in, struct sl *out_r)
{
	char *p, *d;

	if (sl_find(in, '\\', 0) == in.n) {
		*out_r = in;
		return 0;
	}
	p = d = arena_bytes(a, in.n);
	if (!p)
		return E_NOMEM;
	for (size_t i = 0; i < in.n; i++) {
		char c = escape_at(in, i);
		*d++ = c ? c : in.p[i];
		if (c)
			i += 2;
	}
	*out_r = sl_mk(p, (size_t)(d - p));
	return 0;
}
