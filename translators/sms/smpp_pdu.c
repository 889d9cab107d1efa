/* smpp_pdu.c - see smpp_pdu.h. The tables made from smpp_pdu.def drive everything here. */
#include "translators/sms/smpp_pdu.h"
#include "appliance/base/cursor.h"
#include "translators/sms/smpp_status.h"

#include <inttypes.h>

enum kind { KIND_U8, KIND_CSTR, KIND_SECRET, KIND_TEXT, KIND_UINT, KIND_OCTETS };

struct smpp_field {
	const char *name;
	uint16_t offset;
	uint8_t kind;
	uint8_t max; /* octets that we send, without the NUL */
	bool not_on_error;
};

struct smpp_def {
	const char *name;
	uint32_t command_id;
	const struct smpp_field *field;
	size_t fields;
};

struct tlv_def {
	const char *name;
	uint16_t tag;
	uint8_t kind;
};

/* clang-format off */
/* Kind and usual length of each parameter, for the F rows. */
enum {
#define SMPP_FIELD(name, kind, max) \
	kind_##name = KIND_##kind, max_##name = (max) - (KIND_##kind != KIND_TEXT),
#include "translators/sms/smpp_pdu.def"
};

#define ROW(x, max, on_error) { #x, offsetof(struct smpp_pdu, x), kind_##x, max, on_error },
#define F(x)                  ROW(x, max_##x, false)
#define FX(x, max)            ROW(x, (max) - 1, false)
#define E(x)                  ROW(x, max_##x, true)
#define SMPP_PDU(name, command_id, ...) \
	static const struct smpp_field fields_##name[] = { __VA_ARGS__ };
#include "translators/sms/smpp_pdu.def"

enum {
#define SMPP_PDU(name, command_id, ...) ORD_##name,
#include "translators/sms/smpp_pdu.def"
};

static const struct smpp_def defs[] = {
#define SMPP_PDU(name, command_id, ...) \
	{ #name, command_id, fields_##name, ARRAY_LEN(fields_##name) },
#include "translators/sms/smpp_pdu.def"
};

static const struct tlv_def tlv_defs[] = {
#define SMPP_TLV(name, tag, kind) { #name, tag, KIND_##kind },
#include "translators/sms/smpp_pdu.def"
};

/* clang-format on */

static const struct smpp_def *def_find(uint32_t command_id)
{
	switch (command_id) {
#define SMPP_PDU(name, id, ...) \
	case id: \
		return &defs[ORD_##name];
#include "translators/sms/smpp_pdu.def"
	default:
		return NULL;
	}
}

const char *smpp_command_name(uint32_t command_id)
{
	const struct smpp_def *d = def_find(command_id);

	return d ? d->name : "unknown";
}

static struct sl *str_at(struct smpp_pdu *p, const struct smpp_field *f)
{
	return (struct sl *)(void *)((char *)p + f->offset);
}
static struct sl str_of(const struct smpp_pdu *p, const struct smpp_field *f)
{
	return *(const struct sl *)(const void *)((const char *)p + f->offset);
}
static uint8_t u8_of(const struct smpp_pdu *p, const struct smpp_field *f)
{
	return *((const uint8_t *)p + f->offset);
}

/* Decoding */

int smpp_frame(struct sl in)
{
	struct rd r = rd_init(in);
	uint32_t n = rd_u32(&r);

	if (r.bad)
		return 0;
	if (n < SMPP_HEAD_OCTETS || n > SMPP_PDU_MAX)
		return E_SYNTAX;
	return in.n < n ? 0 : (int)n;
}

/* PDU-3: a response may end before its body does, and its last string may lack the NUL. */
static struct sl read_cstr(struct rd *r, struct smpp_pdu *p, const struct smpp_field *f)
{
	struct rd before = *r;
	struct sl s = rd_cstr(r, SMPP_CSTR_MAX + 1);

	if (r->bad && p->command_id & SMPP_RESP && before.n <= SMPP_CSTR_MAX) {
		*r = before;
		s = rd_bytes(r, r->n);
		p->glitches |= SMPP_G_NO_NUL;
	}
	if (s.n > f->max)
		p->glitches |= SMPP_G_LONG;
	return s;
}

static void read_field(struct rd *r, struct smpp_pdu *p, const struct smpp_field *f)
{
	switch (f->kind) {
	case KIND_U8:
		*((uint8_t *)p + f->offset) = rd_u8(r);
		break;
	case KIND_TEXT:
		*str_at(p, f) = rd_bytes(r, rd_u8(r));
		break;
	default:
		*str_at(p, f) = read_cstr(r, p, f);
		break;
	}
}

static bool all_zero(const struct rd *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->p[i])
			return false;
	return true;
}

/* Count the TLVs and check that they fill the rest. -1: they do not. */
static long count_tlvs(struct rd r, struct smpp_pdu *p)
{
	long n = 0;

	for (; r.n >= 4; n++) {
		rd_u16(&r);
		rd_bytes(&r, rd_u16(&r));
		if (r.bad)
			return -1;
	}
	if (r.n && !all_zero(&r))
		return -1;
	if (r.n)
		p->glitches |= SMPP_G_TAIL;
	return n;
}

static int read_tlvs(struct arena *a, struct rd *r, struct smpp_pdu *p, struct err *e)
{
	long n = count_tlvs(*r, p);

	if (n < 0 && p->command_id & SMPP_RESP) {
		p->glitches |= SMPP_G_TAIL;
		return 0;
	}
	if (n < 0) {
		p->fault = SMPP_ESME_RINVOPTPARSTREAM;
		return err_set(e, E_SYNTAX, "PDU-4", "%s: TLVs pass the end of the PDU",
			       p->def->name);
	}
	if (n == 0)
		return 0;
	struct smpp_tlv *t = arena_alloc(a, (size_t)n * sizeof(*t));
	if (!t) {
		p->fault = SMPP_ESME_RSYSERR;
		return err_set(e, E_NOMEM, NULL, "%s: no memory for %ld TLVs", p->def->name, n);
	}
	for (long i = 0; i < n; i++) {
		t[i].tag = rd_u16(r);
		t[i].v = rd_bytes(r, rd_u16(r));
	}
	p->tlv = t;
	p->tlvs = (size_t)n;
	return 0;
}

static int read_head(struct rd *r, size_t octets, struct smpp_pdu *p, struct err *e)
{
	uint32_t length = rd_u32(r);

	p->command_id = rd_u32(r);
	p->command_status = rd_u32(r);
	p->sequence_number = rd_u32(r);
	p->def = def_find(p->command_id);
	p->fault = SMPP_ESME_RINVCMDLEN;
	if (r->bad || length != octets || length > SMPP_PDU_MAX)
		return err_set(e, E_SYNTAX, "PDU-1", "command_length %" PRIu32 " for %zu octets",
			       length, octets);
	if (!p->def) {
		p->fault = SMPP_ESME_RINVCMDID;
		return err_set(e, E_UNSUPPORTED, "PDU-2", "unknown command id 0x%08" PRIx32,
			       p->command_id);
	}
	return 0;
}

static int read_body(struct rd *r, struct smpp_pdu *p, struct err *e)
{
	const struct smpp_def *d = p->def;

	for (size_t i = 0; i < d->fields; i++) {
		if (r->n == 0 && p->command_id & SMPP_RESP) {
			if (p->command_status == 0)
				p->glitches |= SMPP_G_NO_BODY;
			return 0;
		}
		read_field(r, p, &d->field[i]);
		if (r->bad)
			return err_set(e, E_SYNTAX, "PDU-1", "%s: %s passes the end of the PDU",
				       d->name, d->field[i].name);
	}
	return 0;
}

int smpp_pdu_decode(struct arena *a, struct sl in, struct smpp_pdu *p, struct err *e)
{
	struct rd r = rd_init(in);

	memset(p, 0, sizeof(*p));
	int rc = read_head(&r, in.n, p, e);
	if (rc == 0)
		rc = read_body(&r, p, e);
	if (rc == 0)
		rc = read_tlvs(a, &r, p, e);
	if (rc == 0) {
		p->fault = 0;
		return 0;
	}
	struct smpp_pdu head = { .command_id = p->command_id,
				 .command_status = p->command_status,
				 .sequence_number = p->sequence_number,
				 .def = p->def,
				 .fault = p->fault };
	*p = head;
	return rc;
}

/* Encoding */

static bool skipped(const struct smpp_pdu *p, const struct smpp_field *f)
{
	return f->not_on_error && p->command_status != 0 && p->tlvs == 0;
}

static int check_field(const struct smpp_def *d, const struct smpp_pdu *p,
		       const struct smpp_field *f, size_t *n, struct err *e)
{
	struct sl s;

	if (f->kind == KIND_U8) {
		*n += 1;
		return 0;
	}
	s = str_of(p, f);
	if (s.n > f->max)
		return err_set(e, E_TOOBIG, "PDU-5", "%s: %s of %zu octets, at most %u are allowed",
			       d->name, f->name, s.n, f->max);
	if (f->kind != KIND_TEXT && s.n && memchr(s.p, 0, s.n))
		return err_set(e, E_SYNTAX, "PDU-5", "%s: NUL within %s", d->name, f->name);
	*n += s.n + 1;
	return 0;
}

/* Size of the whole PDU, all limits checked. */
static int check_pdu(const struct smpp_def *d, const struct smpp_pdu *p, size_t *octets_r,
		     struct err *e)
{
	size_t n = SMPP_HEAD_OCTETS;

	for (size_t i = 0; i < d->fields; i++) {
		int rc = skipped(p, &d->field[i]) ? 0 : check_field(d, p, &d->field[i], &n, e);

		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < p->tlvs; i++) {
		if (p->tlv[i].v.n > UINT16_MAX)
			return err_set(e, E_TOOBIG, "PDU-5", "%s: TLV 0x%04x of %zu octets",
				       d->name, p->tlv[i].tag, p->tlv[i].v.n);
		n += 4 + p->tlv[i].v.n;
	}
	if (n > SMPP_PDU_MAX)
		return err_set(e, E_TOOBIG, "PDU-5", "%s of %zu octets", d->name, n);
	*octets_r = n;
	return 0;
}

static void write_field(struct wr *w, const struct smpp_pdu *p, const struct smpp_field *f)
{
	if (f->kind == KIND_U8) {
		wr_u8(w, u8_of(p, f));
	} else if (f->kind == KIND_TEXT) {
		struct sl s = str_of(p, f);

		wr_u8(w, (unsigned)s.n);
		wr_bytes(w, s);
	} else {
		wr_bytes(w, str_of(p, f));
		wr_u8(w, 0);
	}
}

int smpp_pdu_encode(struct buf *out, const struct smpp_pdu *p, struct err *e)
{
	const struct smpp_def *d = def_find(p->command_id);
	size_t octets = 0;

	if (!d)
		return err_set(e, E_UNSUPPORTED, "PDU-2", "unknown command id 0x%08" PRIx32,
			       p->command_id);
	int rc = check_pdu(d, p, &octets, e);
	if (rc < 0)
		return rc;
	if (octets > out->max - out->n)
		return err_set(e, E_TOOBIG, NULL, "%s: no room for %zu octets", d->name, octets);
	char *q = buf_reserve(out, octets);
	if (!q)
		return err_set(e, E_NOMEM, NULL, "%s: no memory for %zu octets", d->name, octets);
	struct wr w = wr_init(q, octets);
	wr_u32(&w, (uint32_t)octets);
	wr_u32(&w, p->command_id);
	wr_u32(&w, p->command_status);
	wr_u32(&w, p->sequence_number);
	for (size_t i = 0; i < d->fields; i++)
		if (!skipped(p, &d->field[i]))
			write_field(&w, p, &d->field[i]);
	for (size_t i = 0; i < p->tlvs; i++) {
		wr_u16(&w, p->tlv[i].tag);
		wr_u16(&w, (unsigned)p->tlv[i].v.n);
		wr_bytes(&w, p->tlv[i].v);
	}
	buf_commit(out, octets);
	return 0;
}

/* Looking at a decoded PDU */

const struct smpp_tlv *smpp_tlv_find(const struct smpp_pdu *p, uint16_t tag)
{
	for (size_t i = 0; i < p->tlvs; i++)
		if (p->tlv[i].tag == tag)
			return &p->tlv[i];
	return NULL;
}

static uint32_t octets_uint(struct sl s)
{
	uint32_t v = 0;

	for (size_t i = 0; i < s.n; i++)
		v = v << 8 | (unsigned char)s.p[i];
	return v;
}

bool smpp_tlv_uint(const struct smpp_pdu *p, uint16_t tag, uint32_t *v_r)
{
	const struct smpp_tlv *t = smpp_tlv_find(p, tag);

	if (!t || t->v.n == 0)
		return false;
	*v_r = octets_uint(t->v);
	return true;
}

static struct sl cut_nuls(struct sl s)
{
	while (s.n && s.p[s.n - 1] == '\0')
		s.n--;
	return s;
}

struct sl smpp_tlv_cstr(const struct smpp_pdu *p, uint16_t tag)
{
	const struct smpp_tlv *t = smpp_tlv_find(p, tag);

	return t ? cut_nuls(t->v) : SL_NULL;
}

struct sl smpp_pdu_text(const struct smpp_pdu *p)
{
	const struct smpp_tlv *t;

	if (p->short_message.n)
		return p->short_message;
	t = smpp_tlv_find(p, SMPP_TLV_message_payload);
	return t ? t->v : SL_NULL;
}

/* Dump and dictionary */

static const struct tlv_def *tlv_def_find(uint16_t tag)
{
	for (size_t i = 0; i < ARRAY_LEN(tlv_defs); i++)
		if (tlv_defs[i].tag == tag)
			return &tlv_defs[i];
	return NULL;
}

static void dump_quoted(struct buf *out, struct sl s)
{
	buf_addc(out, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < ' ' || c >= 0x7f || c == '"' || c == '\\')
			buf_addf(out, "\\x%02x", c);
		else
			buf_addc(out, (char)c);
	}
	buf_addc(out, '"');
}

static void dump_value(struct buf *out, uint8_t kind, struct sl s, bool show_text)
{
	if (kind == KIND_SECRET)
		buf_add(out, SL("***"));
	else if (kind == KIND_UINT && s.n <= 4)
		buf_addf(out, "%" PRIu32, octets_uint(s));
	else if (kind == KIND_CSTR || (kind == KIND_TEXT && show_text))
		dump_quoted(out, s);
	else if (kind == KIND_TEXT)
		buf_addf(out, "<%zu octets>", s.n);
	else
		for (size_t i = 0; i < s.n; i++)
			buf_addf(out, "%02x", (unsigned char)s.p[i]);
}

static void dump_field(struct buf *out, const struct smpp_pdu *p, const struct smpp_field *f,
		       bool show_text)
{
	if (f->kind == KIND_U8) {
		if (u8_of(p, f))
			buf_addf(out, " %s=%u", f->name, u8_of(p, f));
	} else if (str_of(p, f).n) {
		buf_addf(out, " %s=", f->name);
		dump_value(out, f->kind, str_of(p, f), show_text);
	}
}

static void dump_tlv(struct buf *out, const struct smpp_tlv *t, bool show_text)
{
	const struct tlv_def *d = tlv_def_find(t->tag);

	if (d)
		buf_addf(out, " %s=", d->name);
	else
		buf_addf(out, " tlv_0x%04x=", t->tag);
	dump_value(out, d ? d->kind : KIND_OCTETS,
		   d && d->kind == KIND_CSTR ? cut_nuls(t->v) : t->v, show_text);
}

void smpp_pdu_dump(struct buf *out, const struct smpp_pdu *p, bool show_text)
{
	const struct smpp_def *d = def_find(p->command_id);

	if (d)
		buf_add(out, sl_cstr(d->name));
	else
		buf_addf(out, "command_0x%08" PRIx32, p->command_id);
	buf_addf(out, " seq=%" PRIu32, p->sequence_number);
	if (p->command_status || p->command_id & SMPP_RESP)
		buf_addf(out, " status=0x%" PRIx32, p->command_status);
	for (size_t i = 0; d && i < d->fields; i++)
		dump_field(out, p, &d->field[i], show_text);
	for (size_t i = 0; i < p->tlvs; i++)
		dump_tlv(out, &p->tlv[i], show_text);
}

static int dict_number(struct buf *out, const char *prefix, const char *name, uint32_t v,
		       int octets)
{
	int rc = buf_addf(out, "%s%s=\"", prefix, name);

	while (rc == 0 && octets-- > 0)
		rc = buf_addf(out, "\\x%02x", v >> 8 * octets & 0xff);
	return rc < 0 ? rc : buf_add(out, SL("\"\n"));
}

int smpp_pdu_dictionary(struct buf *out)
{
	const struct smpp_status *st;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(defs); i++)
		rc = dict_number(out, "", defs[i].name, defs[i].command_id, 4);
	for (size_t i = 0; rc == 0 && (st = smpp_status_at(i)); i++)
		rc = dict_number(out, "", st->name, st->value, 4);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(tlv_defs); i++)
		rc = dict_number(out, "tlv_", tlv_defs[i].name, tlv_defs[i].tag, 2);
	return rc;
}
