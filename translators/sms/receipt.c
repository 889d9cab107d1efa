/* receipt.c - see receipt.h. */
#include "translators/sms/receipt.h"
#include "appliance/base/cursor.h"
#include "hal/gsm/alphabet.h"

#include <inttypes.h>

/* clang-format off */
static const struct smpp_message_state states[] = {
#define SMPP_STATE(rule, value, name, words, outcome, condition, type, text) \
	{ rule, SMPP_STATE_##name, #name, words, SMPP_OUTCOME_##outcome, condition, type, text },
#include "translators/sms/smpp_state.def"
};
/* clang-format on */

const struct smpp_message_state *smpp_state_find(uint32_t value)
{
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (states[i].value == value)
			return &states[i];
	return NULL;
}

static bool word_in(struct sl words, struct sl word)
{
	for (size_t at = 0, end; at < words.n; at = end + 1) {
		end = sl_find(words, ' ', at);
		if (sl_ieq(sl_sub(words, at, end), word))
			return true;
	}
	return false;
}

const struct smpp_message_state *smpp_state_parse(struct sl word)
{
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (word_in(sl_cstr(states[i].words), word))
			return &states[i];
	return NULL;
}

/* The text form (DLR-2 to DLR-5) */

enum key { K_ID, K_SUB, K_DLVRD, K_SUBMIT, K_DONE, K_STAT, K_ERR, K_TEXT, K_NONE };

/* A blank in a name stands for any of " _-", or for nothing. */
static const struct {
	const char *name;
	enum key key;
} key_names[] = {
	{ "id", K_ID },          { "msgid", K_ID },    { "message id", K_ID },
	{ "sub", K_SUB },        { "dlvrd", K_DLVRD }, { "submit date", K_SUBMIT },
	{ "done date", K_DONE }, { "stat", K_STAT },   { "status", K_STAT },
	{ "err", K_ERR },        { "error", K_ERR },   { "text", K_TEXT },
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0';
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static size_t skip_blanks(struct sl s, size_t at)
{
	while (at < s.n && is_blank(s.p[at]))
		at++;
	return at;
}

/* Octets of s from at that are `name` and a colon; 0: they are not. */
static size_t match_name(struct sl s, size_t at, const char *name)
{
	size_t i = at;

	for (; *name; name++) {
		if (*name == ' ') {
			if (i < s.n && (is_blank(s.p[i]) || s.p[i] == '_' || s.p[i] == '-'))
				i++;
		} else if (i < s.n && (s.p[i] | 0x20) == *name) {
			i++;
		} else {
			return 0;
		}
	}
	i = skip_blanks(s, i);
	return i < s.n && s.p[i] == ':' ? i + 1 - at : 0;
}

static enum key match_key(struct sl s, size_t at, size_t *octets_r)
{
	if (at && is_word(s.p[at - 1]))
		return K_NONE;
	for (size_t i = 0; i < ARRAY_LEN(key_names); i++) {
		size_t n = match_name(s, at, key_names[i].name);

		if (n) {
			*octets_r = n;
			return key_names[i].key;
		}
	}
	return K_NONE;
}

static uint64_t two(struct sl s, size_t at)
{
	return (uint64_t)(s.p[at] - '0') * 10 + (uint64_t)(s.p[at + 1] - '0');
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static uint64_t days_of(uint64_t y, uint64_t m, uint64_t d)
{
	uint64_t march = (m + 9) % 12;

	y -= m <= 2;
	return y * 365 + y / 4 - y / 100 + y / 400 + (march * 153 + 2) / 5 + d - 1 - 719468;
}

/* YYMMDDhhmm, YYMMDDhhmmss or YYYYMMDDhhmmss; 0: something else. */
static uint64_t read_date(struct sl s)
{
	uint64_t century = 20;

	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return 0;
	if (s.n == 14) {
		century = two(s, 0);
		s = sl_sub(s, 2, s.n);
	}
	if ((s.n != 10 && s.n != 12) || century < 20)
		return 0;
	uint64_t m = two(s, 2), d = two(s, 4), h = two(s, 6), min = two(s, 8),
		 sec = s.n == 12 ? two(s, 10) : 0;
	if (m < 1 || m > 12 || d < 1 || d > 31 || h > 23 || min > 59 || sec > 60)
		return 0;
	return days_of(century * 100 + two(s, 0), m, d) * 86400 + h * 3600 + min * 60 + sec;
}

static void keep(struct sl *field, struct sl v)
{
	if (field->n == 0)
		*field = v;
}

static void take_value(struct smpp_receipt *r, enum key key, struct sl v)
{
	if (key == K_ID)
		keep(&r->id, v);
	else if (key == K_STAT && !r->state)
		r->state = smpp_state_parse(v);
	else if (key == K_ERR)
		keep(&r->err, v);
	else if (key == K_SUBMIT && !r->submit_s)
		r->submit_s = read_date(v);
	else if (key == K_DONE && !r->done_s)
		r->done_s = read_date(v);
}

static size_t value_end(struct sl s, size_t at)
{
	while (at < s.n && !is_blank(s.p[at]) && s.p[at] != ',' && s.p[at] != ';')
		at++;
	return at;
}

void smpp_receipt_text(struct sl s, struct smpp_receipt *r)
{
	size_t n = 0;

	for (size_t at = 0; at < s.n;) {
		enum key key = match_key(s, at, &n);

		if (key == K_NONE) {
			at++;
			continue;
		}
		at += n;
		if (key == K_TEXT) {
			/* DLR-5: what the centre quotes may imitate fields; it only fills in what
			 * is missing. */
			keep(&r->text, sl_sub(s, at, s.n));
			if (r->id.n && r->state)
				return;
			continue;
		}
		size_t from = skip_blanks(s, at);
		if (match_key(s, from, &n) != K_NONE)
			continue; /* no value: the next field follows */
		at = value_end(s, from);
		take_value(r, key, sl_sub(s, from, at));
	}
}

/* The whole receipt */

bool smpp_is_receipt(const struct smpp_pdu *p)
{
	unsigned type = p->esm_class & SMPP_ESM_TYPE_MASK;

	return type == SMPP_ESM_RECEIPT || type == SMPP_ESM_INTERMEDIATE ||
	       smpp_tlv_find(p, SMPP_TLV_receipted_message_id);
}

static void read_network_error(const struct smpp_pdu *p, struct smpp_receipt *r)
{
	const struct smpp_tlv *t = smpp_tlv_find(p, SMPP_TLV_network_error_code);
	struct rd in = rd_init(t ? t->v : SL_NULL);

	r->network_type = rd_u8(&in);
	r->network_error = rd_u16(&in);
	r->has_network_error = !in.bad;
	if (in.bad)
		r->network_type = 0;
}

int smpp_receipt_read(struct arena *a, const struct smpp_pdu *p, struct smpp_receipt *r_r)
{
	struct smpp_receipt text = { 0 }, r;
	struct sl s = smpp_pdu_text(p), id = smpp_tlv_cstr(p, SMPP_TLV_receipted_message_id);
	uint32_t state;

	if ((p->data_coding & 0x0f) == 8 && p->data_coding < 0x10 &&
	    gsm_decode(a, GSM_ENC_UCS2, s, &s) < 0)
		return E_NOMEM;
	smpp_receipt_text(s, &text);
	r = text;
	if (id.n) {
		r.id = id;
		r.id_text = sl_eq(id, text.id) ? SL_NULL : text.id;
	}
	if (smpp_tlv_uint(p, SMPP_TLV_message_state, &state) && smpp_state_find(state))
		r.state = smpp_state_find(state);
	read_network_error(p, &r);
	if (r.id.n == 0 && !r.state)
		return E_NOTFOUND;
	*r_r = r;
	return 0;
}

/* Message ids */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool all_digits(const char *s, size_t n, int base)
{
	for (size_t i = 0; i < n; i++)
		if (hex_digit(s[i]) < 0 || hex_digit(s[i]) >= base)
			return false;
	return n > 0;
}

/* 8-4-4-4-12. */
static bool is_uuid(const char *s, size_t n)
{
	if (n != 36)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-' : hex_digit(s[i]) < 0)
			return false;
	}
	return true;
}

static size_t drop_dashes(char *s, size_t n)
{
	size_t w = 0;

	for (size_t i = 0; i < n; i++)
		if (s[i] != '-')
			s[w++] = s[i];
	return w;
}

int smpp_id_key(struct sl id, struct smpp_id_key *key_r)
{
	char s[SMPP_ID_MAX];
	size_t n, zeros = 0;

	id = sl_trim(id);
	if (id.n == 0)
		return E_SYNTAX;
	if (id.n > SMPP_ID_MAX)
		return E_TOOBIG;
	for (n = 0; n < id.n; n++)
		s[n] = (char)(id.p[n] >= 'A' && id.p[n] <= 'Z' ? id.p[n] + 32 : id.p[n]);
	if (is_uuid(s, n))
		n = drop_dashes(s, n);
	if (n > 2 && s[0] == '0' && s[1] == 'x' && all_digits(s + 2, n - 2, 16))
		zeros = 2;
	while (zeros + 1 < n && s[zeros] == '0')
		zeros++;
	key_r->form = SMPP_ID_SAME;
	key_r->n = (uint8_t)(n - zeros);
	memcpy(key_r->s, s + zeros, n - zeros);
	key_r->s[n - zeros] = '\0';
	return 0;
}

static void add_key(struct smpp_id_key *key, unsigned *n, const struct smpp_id_key *k)
{
	for (unsigned i = 0; i < *n; i++)
		if (sl_eq(smpp_id_sl(&key[i]), smpp_id_sl(k)))
			return;
	if (*n < SMPP_RECEIPT_KEYS)
		key[(*n)++] = *k;
}

/* The same number written to the other base; false: it is no number of 64 bits. */
static bool convert(const struct smpp_id_key *k, int from, enum smpp_id_form form,
		    struct smpp_id_key *k_r)
{
	uint64_t v = 0;

	if (!all_digits(k->s, k->n, from))
		return false;
	for (size_t i = 0; i < k->n; i++) {
		uint64_t d = (uint64_t)hex_digit(k->s[i]);

		if (v > (UINT64_MAX - d) / (uint64_t)from)
			return false;
		v = v * (uint64_t)from + d;
	}
	int n = snprintf(k_r->s, sizeof(k_r->s), from == 10 ? "%" PRIx64 : "%" PRIu64, v);
	k_r->n = (uint8_t)n;
	k_r->form = form;
	return true;
}

unsigned smpp_receipt_keys(const struct smpp_receipt *r, struct smpp_id_key key[SMPP_RECEIPT_KEYS])
{
	struct smpp_id_key same[2], other;
	unsigned n = 0, ids = 0;

	ids += smpp_id_key(r->id, &same[ids]) == 0;
	ids += smpp_id_key(r->id_text, &same[ids]) == 0;
	for (unsigned i = 0; i < ids; i++)
		add_key(key, &n, &same[i]);
	for (unsigned i = 0; i < ids; i++) {
		if (convert(&same[i], 10, SMPP_ID_TO_HEX, &other))
			add_key(key, &n, &other);
		if (convert(&same[i], 16, SMPP_ID_TO_DEC, &other))
			add_key(key, &n, &other);
	}
	return n;
}
