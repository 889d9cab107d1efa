/* concat.c - see concat.h. */
#include "hal/gsm/concat.h"
#include "appliance/base/cursor.h"
#include "appliance/base/enc.h"

#include <unigbrk.h>

#define IE_CONCAT_8  0x00
#define IE_CONCAT_16 0x08
#define UDH_8        6
#define UDH_16       7

static const enum gsm_enc by_preference[] = { GSM_ENC_7BIT, GSM_ENC_LATIN1, GSM_ENC_UCS2 };

size_t gsm_part_units(enum gsm_enc enc, bool many, bool ref16)
{
	size_t octets = GSM_USER_DATA_OCTETS - (many ? ref16 ? UDH_16 : UDH_8 : 0);

	return enc == GSM_ENC_7BIT ? octets * 8 / 7 : enc == GSM_ENC_UCS2 ? octets / 2 : octets;
}

static size_t units_in(enum gsm_enc enc, struct sl units)
{
	return enc == GSM_ENC_UCS2 ? units.n / 2 : units.n;
}

/* Copy without the characters that XML forbids; the text itself when it has none. */
static int clean(struct arena *a, struct sl in, struct sl *out_r)
{
	size_t drop = 0, w = 0;
	uint32_t cp;

	for (size_t i = 0, n; i < in.n; i += n) {
		n = utf8_next(sl_sub(in, i, in.n), &cp);
		if (n == 0)
			return E_SYNTAX;
		drop += gsm_char_ok(cp) ? 0 : n;
	}
	if (drop == 0) {
		*out_r = in;
		return 0;
	}
	char *p = arena_bytes(a, in.n - drop);
	if (!p)
		return E_NOMEM;
	for (size_t i = 0, n; i < in.n; i += n) {
		n = utf8_next(sl_sub(in, i, in.n), &cp);
		if (gsm_char_ok(cp)) {
			memcpy(p + w, in.p + i, n);
			w += n;
		}
	}
	*out_r = sl_mk(p, w);
	return 0;
}

struct cutter {
	struct arena *a;
	struct sl utf8; /* cleaned */
	char *breaks;   /* one an octet of utf8: nonzero where a grapheme cluster starts; made on
			   demand */
	unsigned max_parts;
	bool ref16;
	uint32_t past_7bit; /* the first code point that septets may not stand for */
};

static int find_breaks(struct cutter *c)
{
	if (c->breaks)
		return 0;
	c->breaks = arena_bytes(c->a, c->utf8.n);
	if (!c->breaks)
		return E_NOMEM;
	u8_grapheme_breaks((const uint8_t *)c->utf8.p, c->utf8.n, c->breaks);
	return 0;
}

/* Cut at the last cluster boundary that fits; within a cluster that alone passes the limit, at the
 * last character. Writes the ends of the parts, in units. Returns the number of parts, or E_TOOBIG.
 */
static int cut(const struct cutter *c, enum gsm_enc enc, size_t limit, size_t *end)
{
	size_t used = 0, start = 0, cluster = 0;
	int parts = 0;

	for (size_t i = 0, n; i < c->utf8.n; i += n) {
		uint32_t cp = 0;

		n = utf8_next(sl_sub(c->utf8, i, c->utf8.n), &cp);
		unsigned cost = gsm_char_units(enc, cp);
		if (c->breaks[i])
			cluster = used;
		while (used + cost - start > limit) {
			if ((unsigned)parts + 1 >= c->max_parts)
				return E_TOOBIG;
			start = end[parts++] = cluster > start ? cluster : used;
		}
		used += cost;
	}
	end[parts++] = used;
	return parts;
}

static bool all_below(struct sl utf8, uint32_t limit)
{
	uint32_t cp;

	for (size_t i = 0, n; i < utf8.n; i += n) {
		n = utf8_next(sl_sub(utf8, i, utf8.n), &cp);
		if (cp >= limit)
			return false;
	}
	return true;
}

/* Split in one coding. Returns 0, E_UNSUPPORTED, E_TOOBIG, E_NOMEM. */
static int split_as(struct cutter *c, enum gsm_enc enc, struct gsm_text *text_r)
{
	size_t end[GSM_PARTS_MAX], width = enc == GSM_ENC_UCS2 ? 2 : 1;
	struct sl units;
	int parts = 1, rc;

	if (enc == GSM_ENC_7BIT && c->past_7bit != UINT32_MAX && !all_below(c->utf8, c->past_7bit))
		return E_UNSUPPORTED;
	rc = gsm_encode(c->a, enc, c->utf8, &units);
	if (rc < 0)
		return rc;
	end[0] = units_in(enc, units);
	if (end[0] > gsm_part_units(enc, false, false)) {
		size_t limit = gsm_part_units(enc, true, c->ref16);

		if (end[0] > limit * c->max_parts)
			return E_TOOBIG;
		rc = find_breaks(c);
		if (rc < 0)
			return rc;
		parts = cut(c, enc, limit, end);
		if (parts < 0)
			return parts;
	}
	struct sl *part = arena_alloc(c->a, (size_t)parts * sizeof(*part));
	if (!part)
		return E_NOMEM;
	for (int i = 0; i < parts; i++)
		part[i] = sl_sub(units, i ? end[i - 1] * width : 0, end[i] * width);
	*text_r = (struct gsm_text){ enc, (unsigned)parts, part };
	return 0;
}

int gsm_split(struct arena *a, struct sl utf8, const struct gsm_split_cfg *cfg,
	      struct gsm_text *text_r, struct err *e)
{
	unsigned encs = cfg->encs ? cfg->encs
				  : GSM_ENC_BIT(GSM_ENC_7BIT) | GSM_ENC_BIT(GSM_ENC_UCS2);
	struct cutter c = { a,
			    SL_NULL,
			    NULL,
			    cfg->max_parts ? cfg->max_parts : GSM_PARTS_DEFAULT,
			    cfg->ref16,
			    cfg->encs & GSM_7BIT_AS_ASCII    ? 0x80
			    : cfg->encs & GSM_7BIT_AS_LATIN1 ? 0x100
							     : UINT32_MAX };
	struct gsm_text best = { GSM_ENC_OCTETS, 0, NULL };
	bool too_long = false;
	int rc = clean(a, utf8, &c.utf8);

	if (c.max_parts > GSM_PARTS_MAX)
		c.max_parts = GSM_PARTS_MAX;
	if (rc == E_SYNTAX)
		return err_set(e, rc, "TEXT-1", "the text is not UTF-8");
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(by_preference) && best.n != 1; i++) {
		struct gsm_text t = { 0 };

		if (!(encs & GSM_ENC_BIT(by_preference[i])) ||
		    (best.n && by_preference[i] == GSM_ENC_UCS2))
			continue; /* what 7-bit or Latin-1 can express never takes fewer parts as
				     UCS-2 */
		rc = split_as(&c, by_preference[i], &t);
		if (rc == 0 && (best.n == 0 || t.n < best.n))
			best = t;
		too_long |= rc == E_TOOBIG;
		if (rc == E_TOOBIG || rc == E_UNSUPPORTED)
			rc = 0;
	}
	if (rc < 0)
		return err_set(e, rc, NULL, "no memory to split a text of %zu octets", utf8.n);
	if (best.n == 0 && too_long)
		return err_set(e, E_TOOBIG, "TEXT-13", "the text needs more than %u parts",
			       c.max_parts);
	if (best.n == 0)
		return err_set(e, E_UNSUPPORTED, "TEXT-10",
			       "no coding that this bearer takes has every character");
	*text_r = best;
	return 0;
}

int gsm_join(struct arena *a, const struct gsm_body *part, size_t n, struct sl *utf8_r)
{
	size_t most = 0, in_n = 0, w = 0;

	for (size_t i = 0; i < n; i++)
		most += part[i].data.n;
	char *in = arena_bytes(a, most), *out = arena_bytes(a, most * 2 + 4 * n);
	if (!in || !out)
		return E_NOMEM;
	for (size_t i = 0; i < n; i++) {
		struct sl text;

		if (part[i].data.n)
			memcpy(in + in_n, part[i].data.p, part[i].data.n);
		in_n += part[i].data.n;
		if (i + 1 < n && part[i + 1].enc == part[i].enc)
			continue;
		int rc = gsm_decode(a, part[i].enc, sl_mk(in, in_n), &text);
		if (rc < 0)
			return rc;
		memcpy(out + w, text.p, text.n);
		w += text.n;
		in_n = 0;
	}
	*utf8_r = sl_mk(out, w);
	return 0;
}

bool gsm_ie_next(struct sl *ies, struct gsm_ie *ie_r)
{
	struct rd r = rd_init(*ies);
	uint8_t id = rd_u8(&r);
	struct sl data = rd_bytes(&r, rd_u8(&r));

	if (r.bad)
		return false;
	*ie_r = (struct gsm_ie){ id, data };
	*ies = sl_mk((const char *)r.p, r.n);
	return true;
}

static void take_concat(const struct gsm_ie *ie, struct gsm_concat *c)
{
	struct rd r = rd_init(ie->data);
	bool ref16 = ie->id == IE_CONCAT_16;

	if (ie->id != IE_CONCAT_8 && !ref16)
		return;
	uint16_t ref = ref16 ? rd_u16(&r) : rd_u8(&r);
	uint8_t total = rd_u8(&r), seq = rd_u8(&r);
	if (!r.bad && total > 0 && seq > 0 && seq <= total)
		*c = (struct gsm_concat){ ref, total, seq, ref16 };
}

int gsm_udh_parse(struct sl ud, struct gsm_udh *udh_r, struct sl *rest_r)
{
	struct rd r = rd_init(ud);
	struct sl ies = rd_bytes(&r, rd_u8(&r)), walk = ies;
	struct gsm_udh udh = { .ies = ies };
	struct gsm_ie ie;

	while (gsm_ie_next(&walk, &ie))
		take_concat(&ie, &udh.concat);
	if (r.bad || walk.n)
		return E_SYNTAX;
	*udh_r = udh;
	*rest_r = sl_mk((const char *)r.p, r.n);
	return 0;
}

size_t gsm_udh_build(const struct gsm_concat *c, uint8_t dst[GSM_UDH_CONCAT_OCTETS])
{
	struct wr w = wr_init(dst, GSM_UDH_CONCAT_OCTETS);

	if (c->total == 0)
		return 0;
	wr_u8(&w, c->ref16 ? UDH_16 - 1 : UDH_8 - 1);
	wr_u8(&w, c->ref16 ? IE_CONCAT_16 : IE_CONCAT_8);
	wr_u8(&w, c->ref16 ? 4 : 3);
	if (c->ref16)
		wr_u8(&w, c->ref >> 8);
	wr_u8(&w, c->ref & 0xff);
	wr_u8(&w, c->total);
	wr_u8(&w, c->seq);
	return w.n;
}
