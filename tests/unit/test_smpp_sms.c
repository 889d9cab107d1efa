/* test_smpp_sms.c - short messages to and from SMPP parameters: rules TEXT-20 to TEXT-27. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "translators/sms/smpp_sms.h"

static struct arena *arena;
static const struct smpp_sms_cfg cfg = { SMPP_ALPHABET_GSM7, SMPP_TON_AUTO, SMPP_TON_AUTO,
					 SMPP_TON_AUTO,      SMPP_TON_AUTO, SL("") };

static int setup(void **state)
{
	UNUSED(state);
	arena = arena_new(4096, 1u << 20);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	UNUSED(state);
	arena_free(&arena);
	return 0;
}

static struct smpp_pdu out(const struct smpp_sms_cfg *c, struct smpp_out m)
{
	struct smpp_pdu p;
	struct err e = { 0 };

	if (smpp_out_pdu(arena, c, &m, &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static struct smpp_out hi(const char *from, const char *to)
{
	return (struct smpp_out){ .from = sl_cstr(from),
				  .to = sl_cstr(to),
				  .body = { GSM_ENC_7BIT, SL("hi"), { 0 } } };
}

static void check_address(const char *from, int ton, int npi, const char *text)
{
	struct smpp_pdu p = out(&cfg, hi(from, "+15550100"));

	assert_int_equal(p.source_addr_ton, ton);
	assert_int_equal(p.source_addr_npi, npi);
	assert_true(sl_eq(p.source_addr, sl_cstr(text)));
	assert_int_equal(p.dest_addr_ton, 1);
	assert_int_equal(p.dest_addr_npi, 1);
	assert_true(sl_eq(p.destination_addr, SL("15550100")));
}

/* TEXT-21. */
static void test_addresses_out(void **state)
{
	struct smpp_sms_cfg fixed = cfg;
	struct smpp_pdu p;

	UNUSED(state);
	check_address("+4930123456", 1, 1, "4930123456");
	check_address("12345", 0, 1, "12345");
	check_address("Tandem", 5, 0, "Tandem");
	check_address("", 0, 0, "");
	fixed.source_ton = 3;
	fixed.dest_npi = 0;
	p = out(&fixed, hi("12345", "+15550100"));
	assert_int_equal(p.source_addr_ton, 3);
	assert_int_equal(p.dest_addr_npi, 0);
	assert_int_equal(
		smpp_out_pdu(arena, &cfg, &(struct smpp_out){ .to = SL("alice") }, &p, NULL),
		E_SYNTAX);
	assert_int_equal(smpp_out_pdu(arena, &cfg, &(struct smpp_out){ .to = SL("+") }, &p, NULL),
			 E_SYNTAX);
	assert_int_equal(smpp_out_pdu(arena, &cfg, &(struct smpp_out){ .to = SL("") }, &p, NULL),
			 E_SYNTAX);
	struct smpp_out m = hi("TwelveLetter", "1");
	assert_int_equal(smpp_out_pdu(arena, &cfg, &m, &p, NULL), E_TOOBIG);
	m = hi("1", "+123456789012345678901");
	assert_int_equal(smpp_out_pdu(arena, &cfg, &m, &p, NULL), E_TOOBIG);
}

/* TEXT-22, TEXT-20. */
static void test_coding_out(void **state)
{
	struct smpp_sms_cfg c = cfg;
	struct smpp_out m = hi("", "1");
	struct smpp_pdu p;

	UNUSED(state);
	assert_int_equal(out(&c, m).data_coding, 0);
	m.body = (struct gsm_body){ GSM_ENC_UCS2, SL("\0h"), { 0 } };
	assert_int_equal(out(&c, m).data_coding, 8);
	m.body.enc = GSM_ENC_LATIN1;
	assert_int_equal(out(&c, m).data_coding, 3);
	m.body.enc = GSM_ENC_OCTETS;
	assert_int_equal(out(&c, m).data_coding, 4);
	m.body = (struct gsm_body){ GSM_ENC_7BIT, SL("\x00\x1b\x3c\x05"), { 0 } }; /* @ [ e acute */
	assert_true(sl_eq(out(&c, m).short_message, m.body.data));
	assert_int_equal(smpp_encodings(&c), 5);
	c.alphabet = SMPP_ALPHABET_LATIN1;
	p = out(&c, m);
	assert_true(sl_eq(p.short_message, SL("@[\xe9")));
	assert_int_equal(p.data_coding, 0);
	assert_int_equal(smpp_encodings(&c), 5 | GSM_7BIT_AS_LATIN1);
	c.alphabet = SMPP_ALPHABET_ASCII;
	assert_int_equal(smpp_out_pdu(arena, &c, &m, &p, NULL), E_UNSUPPORTED);
	m.body.data = SL("\x00\x1b\x3c");
	assert_true(sl_eq(out(&c, m).short_message, SL("@[")));
	m.body.data = SL("\x1b\x65"); /* euro */
	assert_int_equal(smpp_out_pdu(arena, &c, &m, &p, NULL), E_UNSUPPORTED);
	assert_int_equal(smpp_encodings(&c), 5 | GSM_7BIT_AS_ASCII);
}

/* TEXT-23, TEXT-24. */
static void test_body_and_options(void **state)
{
	static char big[300];
	struct smpp_out m = hi("", "1");
	struct smpp_pdu p;

	UNUSED(state);
	m.body.concat = (struct gsm_concat){ 0x12a, 3, 2, false };
	p = out(&cfg, m);
	assert_true(sl_eq(p.short_message, SL("\x05\x00\x03\x2a\x03\x02hi")));
	assert_int_equal(p.esm_class, 0x40);
	m.body.concat.ref16 = true;
	assert_true(sl_eq(out(&cfg, m).short_message, SL("\x06\x08\x04\x01\x2a\x03\x02hi")));
	m.body.concat.total = 1;
	assert_int_equal(out(&cfg, m).esm_class, 0);
	m.body.data = sl_mk(big, 254);
	assert_int_equal(out(&cfg, m).short_message.n, 254);
	m.body.data = sl_mk(big, 255);
	p = out(&cfg, m);
	assert_int_equal(p.short_message.n, 0);
	assert_int_equal(smpp_pdu_text(&p).n, 255);
	assert_int_equal(p.registered_delivery, 0);
	assert_int_equal(p.validity_period.n, 0);
	m.want_receipt = true;
	m.priority = 2;
	m.validity_s = 2 * 86400 + 3 * 3600 + 4 * 60 + 5;
	p = out(&cfg, m);
	assert_int_equal(p.registered_delivery, 1);
	assert_int_equal(p.priority_flag, 2);
	assert_true(sl_eq(p.validity_period, SL("000002030405000R")));
	m.validity_s = UINT32_MAX;
	assert_true(sl_eq(out(&cfg, m).validity_period, SL("000030000000000R")));
}

static struct smpp_in in(const struct smpp_sms_cfg *c, struct smpp_pdu p)
{
	struct smpp_in m;

	assert_int_equal(smpp_pdu_in(arena, c, &p, &m), 0);
	return m;
}

/* TEXT-25. */
static void test_coding_in(void **state)
{
	static const struct {
		uint8_t dcs;
		enum gsm_enc enc;
	} want[] = {
		{ 0x00, GSM_ENC_7BIT },   { 0x01, GSM_ENC_LATIN1 }, { 0x02, GSM_ENC_OCTETS },
		{ 0x03, GSM_ENC_LATIN1 }, { 0x04, GSM_ENC_OCTETS }, { 0x05, GSM_ENC_OCTETS },
		{ 0x08, GSM_ENC_UCS2 },   { 0x10, GSM_ENC_7BIT },   { 0x14, GSM_ENC_OCTETS },
		{ 0x18, GSM_ENC_UCS2 },   { 0x38, GSM_ENC_OCTETS },   { 0x40, GSM_ENC_OCTETS },
		{ 0xc8, GSM_ENC_7BIT },   { 0xe0, GSM_ENC_UCS2 },   { 0xf0, GSM_ENC_7BIT },
		{ 0xf4, GSM_ENC_OCTETS },
	};
	struct smpp_sms_cfg latin1 = cfg;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(in(&cfg, (struct smpp_pdu){ .data_coding = want[i].dcs }).body.enc,
				 want[i].enc);
	latin1.alphabet = SMPP_ALPHABET_LATIN1;
	assert_int_equal(in(&latin1, (struct smpp_pdu){ 0 }).body.enc, GSM_ENC_LATIN1);
}

/* TEXT-26, TEXT-17. */
static void test_concat_in(void **state)
{
	struct smpp_tlv sar[] = { { SMPP_TLV_sar_msg_ref_num, SL("\x12\x34") },
				  { SMPP_TLV_sar_total_segments, SL("\x03") },
				  { SMPP_TLV_sar_segment_seqnum, SL("\x02") } };
	struct smpp_pdu p = { .esm_class = 0x40,
			      .short_message = SL("\x05\x00\x03\x2a\x03\x02hi") };
	struct smpp_in m = in(&cfg, p);

	UNUSED(state);
	assert_int_equal(m.body.concat.ref, 0x2a);
	assert_int_equal(m.body.concat.seq, 2);
	assert_true(sl_eq(m.body.data, SL("hi")));
	p.esm_class = 0;
	m = in(&cfg, p);
	assert_int_equal(m.body.concat.total, 0);
	assert_int_equal(m.body.data.n, 8);
	p.esm_class = 0x40;
	p.short_message = SL("\x09\x00\x03\x2a\x03\x02hi"); /* passes the end: taken whole */
	m = in(&cfg, p);
	assert_int_equal(m.body.concat.total, 0);
	assert_int_equal(m.body.data.n, 8);
	p = (struct smpp_pdu){ .short_message = SL("hi"), .tlv = sar, .tlvs = 3 };
	m = in(&cfg, p);
	assert_int_equal(m.body.concat.ref, 0x1234);
	assert_int_equal(m.body.concat.total, 3);
	assert_true(m.body.concat.ref16);
	sar[2].v = SL("\x04");
	assert_int_equal(in(&cfg, p).body.concat.total, 0);
	p.tlvs = 2;
	assert_int_equal(in(&cfg, p).body.concat.total, 0);
}

static void check_from(uint8_t ton, struct sl addr, const char *want, bool letters)
{
	struct smpp_in m = in(&cfg, (struct smpp_pdu){ .source_addr_ton = ton,
						       .source_addr = addr,
						       .dest_addr_ton = ton,
						       .destination_addr = addr });

	assert_true(sl_eq(m.from, sl_cstr(want)));
	assert_true(sl_eq(m.to, sl_cstr(want)));
	assert_int_equal(m.from_alphanumeric, letters);
}

/* TEXT-27. */
static void test_addresses_in(void **state)
{
	UNUSED(state);
	check_from(1, SL("15550100"), "+15550100", false);
	check_from(1, SL("+15550100"), "+15550100", false);
	check_from(0, SL("015550100"), "015550100", false);
	check_from(5, SL("Bank"), "Bank", true);
	check_from(5, SL("12345"), "12345", true);
	check_from(0, SL("Caf\xe9"), "Café", true);
	check_from(1, SL(""), "", false);
}

static void test_no_memory(void **state)
{
	struct arena *none = arena_new(0, 0);
	struct smpp_out m = hi("", "1");
	struct smpp_pdu p = { .source_addr_ton = 1, .source_addr = SL("1") };
	struct smpp_in i;

	UNUSED(state);
	assert_int_equal(smpp_pdu_in(none, &cfg, &p, &i), E_NOMEM);
	m.validity_s = 1;
	assert_int_equal(smpp_out_pdu(none, &cfg, &m, &p, NULL), E_NOMEM);
	m.body.concat.total = 2;
	assert_int_equal(smpp_out_pdu(none, &cfg, &m, &p, NULL), E_NOMEM);
	arena_free(&none);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_addresses_out), T(test_coding_out), T(test_body_and_options),
		T(test_coding_in),     T(test_concat_in),  T(test_addresses_in),
		T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
