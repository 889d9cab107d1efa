/* test_smpp_receipt.c - delivery receipts and message ids: rules DLR-1 to DLR-8 and the states,
 * DLR-10 to DLR-19, of docs/rules/smpp.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "appliance/base/clock.h"
#include "translators/sms/receipt.h"

static struct arena *arena;

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

static void check_text(const char *text, const char *id, int st, const char *err, uint64_t submit,
		       uint64_t done, const char *quoted)
{
	struct smpp_receipt r = { 0 };
	size_t n = strlen(text);
	char *exact = malloc(n + 1);

	memcpy(exact, text, n);
	for (size_t cut = 0; cut < n; cut++) { /* every prefix, in a block of its own size */
		char *part = malloc(cut ? cut : 1);

		memcpy(part, text, cut);
		struct smpp_receipt ignored = { 0 };
		smpp_receipt_text(sl_mk(part, cut), &ignored);
		free(part);
	}
	smpp_receipt_text(sl_mk(exact, n), &r);
	if (!sl_eq(r.id, sl_cstr(id)) || !sl_eq(r.err, sl_cstr(err)) ||
	    !sl_eq(r.text, sl_cstr(quoted)))
		fail_msg("%s: id " SLFMT " err " SLFMT " text " SLFMT, text, SLARG(r.id),
			 SLARG(r.err), SLARG(r.text));
	assert_int_equal(r.state ? (int)r.state->value : -1, st);
	assert_int_equal(r.submit_s, submit);
	assert_int_equal(r.done_s, done);
	free(exact);
}

#define T1 1217615400u /* 2008-08-01 18:30 UTC */

/* DLR-2 to DLR-5. */
static void test_dialects(void **state)
{
	UNUSED(state);
	check_text(
		"id:0123456789 sub:001 dlvrd:001 submit date:0808011830 done date:0808011830 stat:DELIVRD "
		"err:000 Text:Hello you",
		"0123456789", SMPP_STATE_DELIVERED, "000", T1, T1, "Hello you");
	check_text("id:77 stat:DELIVRD", "77", SMPP_STATE_DELIVERED, "", 0, 0, "");
	check_text("ID:77 STAT:delivered", "77", SMPP_STATE_DELIVERED, "", 0, 0, "");
	check_text("stat:EXPIRED err:12 id: a1b2", "a1b2", SMPP_STATE_EXPIRED, "12", 0, 0, "");
	check_text(
		"id:1\nsub:1\nsubmit_date:080801183000\ndone-date:20080801183001\nstatus:UNDELIV\nerror:0x27\n",
		"1", SMPP_STATE_UNDELIVERABLE, "0x27", T1, T1 + 1, "");
	check_text("msgid:5,stat:REJECTD,err:8;text:", "5", SMPP_STATE_REJECTED, "8", 0, 0, "");
	check_text(
		"id:9 sub:001 dlvrd:000 submitdate:0808011830 donedate: stat:ENROUTE err: text:x",
		"9", SMPP_STATE_ENROUTE, "", T1, 0, "x");
	check_text("Your message id : 9 has stat : ACCEPTD.", "9", -1, "", 0, 0, "");
	check_text("id:f47ac10b-58cc-4372-a567-0e02b2c3d479 stat:DELIVRD",
		   "f47ac10b-58cc-4372-a567-0e02b2c3d479", SMPP_STATE_DELIVERED, "", 0, 0, "");
	/* The quoted text in the middle; it fills in what is missing, no more. */
	check_text("id:1 stat:UNDELIV err:1 text:id:2 stat:DELIVRD", "1", SMPP_STATE_UNDELIVERABLE,
		   "1", 0, 0, "id:2 stat:DELIVRD");
	check_text("id:1 text:hello stat:DELIVRD", "1", SMPP_STATE_DELIVERED, "", 0, 0,
		   "hello stat:DELIVRD");
	check_text("stat:UNDELIV text:id:2 stat:DELIVRD", "2", SMPP_STATE_UNDELIVERABLE, "", 0, 0,
		   "id:2 stat:DELIVRD");
	check_text("id:1 stat:DELIVRD text:err:5 done date:0808011830", "1", SMPP_STATE_DELIVERED, "", 0, 0,
		   "err:5 done date:0808011830");
	check_text("stat:DELIVRD stat:REJECTD id:1 id:2", "1", SMPP_STATE_DELIVERED, "", 0, 0, "");
	/* Nothing of use, hidden words, bad dates. */
	check_text("Hello, is this valid: no", "", -1, "", 0, 0, "");
	check_text("paid:7 substat:DELIVRD", "", -1, "", 0, 0, "");
	check_text("id:1 submit date:0813011830 done date:080801183 stat:WHATEVER", "1", -1, "", 0,
		   0, "");
	check_text("", "", -1, "", 0, 0, "");
	check_text("id", "", -1, "", 0, 0, "");
	check_text("id:", "", -1, "", 0, 0, "");
	check_text("submit date:0002291200", "", -1, "", 951825600, 0, "");
}

static void test_states(void **state)
{
	UNUSED(state);
	for (uint32_t v = 0; v <= 9; v++) {
		const struct smpp_message_state *s = smpp_state_find(v);

		assert_int_equal(s->value, v);
		assert_true((s->outcome >= SMPP_OUTCOME_FAILED) == (s->condition != NULL));
		assert_ptr_equal(smpp_state_parse(sl_sub(sl_cstr(s->words), 0,
							 sl_find(sl_cstr(s->words), ' ', 0))),
				 s);
	}
	assert_null(smpp_state_find(10));
	assert_null(smpp_state_parse(SL("")));
	assert_null(smpp_state_parse(SL("deliv")));
	assert_null(smpp_state_parse(SL("undeliv undelivered")));
}

static void check_read(const struct smpp_pdu *p, int rc, const char *id, const char *id_text,
		       int st)
{
	struct smpp_receipt r = { .id = SL("untouched") };

	assert_int_equal(smpp_receipt_read(arena, p, &r), rc);
	if (!sl_eq(r.id, sl_cstr(rc ? "untouched" : id)) || !sl_eq(r.id_text, sl_cstr(id_text)))
		fail_msg("id " SLFMT " " SLFMT, SLARG(r.id), SLARG(r.id_text));
	assert_int_equal(r.state ? (int)r.state->value : -1, st);
}

/* DLR-1, DLR-6: TLVs before text. */
static void test_tlvs(void **state)
{
	struct smpp_tlv t[] = { { SMPP_TLV_receipted_message_id, SL("4d2\0") },
				{ SMPP_TLV_message_state, SL("\x05") },
				{ SMPP_TLV_network_error_code, SL("\x03\x00\x1b") } };
	struct smpp_pdu p = { .esm_class = SMPP_ESM_RECEIPT,
			      .short_message = SL("id:1234 stat:DELIVRD") };
	struct smpp_receipt r = { 0 };

	UNUSED(state);
	check_read(&p, 0, "1234", "", SMPP_STATE_DELIVERED);
	p.tlv = t;
	p.tlvs = 3;
	check_read(&p, 0, "4d2", "1234", SMPP_STATE_UNDELIVERABLE);
	assert_int_equal(smpp_receipt_read(arena, &p, &r), 0);
	assert_true(r.has_network_error && r.network_type == 3 && r.network_error == 27);
	p.short_message = SL("anything");
	check_read(&p, 0, "4d2", "", SMPP_STATE_UNDELIVERABLE);
	t[1].v = SL("\x63"); /* a state that does not exist */
	p.short_message = SL("stat:DELIVRD");
	check_read(&p, 0, "4d2", "", SMPP_STATE_DELIVERED);
	p.tlvs = 0;
	p.short_message = SL("hello");
	check_read(&p, E_NOTFOUND, "", "", -1);
	/* In UCS-2, in message_payload. */
	struct smpp_tlv payload = { SMPP_TLV_message_payload,
				    SL("\0i\0d\0:\0"
				       "7\0 \0s\0t\0a\0t\0:\0D\0E\0L\0I\0V\0R\0D") };
	p = (struct smpp_pdu){
		.esm_class = SMPP_ESM_INTERMEDIATE, .data_coding = 8, .tlv = &payload, .tlvs = 1
	};
	check_read(&p, 0, "7", "", SMPP_STATE_DELIVERED);
	struct arena *none = arena_new(0, 0);
	assert_int_equal(smpp_receipt_read(none, &p, &r), E_NOMEM);
	arena_free(&none);
}

static void test_is_receipt(void **state)
{
	struct smpp_tlv t = { SMPP_TLV_receipted_message_id, SL("1") };

	UNUSED(state);
	assert_true(smpp_is_receipt(&(struct smpp_pdu){ .esm_class = 0x04 }));
	assert_true(smpp_is_receipt(&(struct smpp_pdu){ .esm_class = 0x44 }));
	assert_true(smpp_is_receipt(&(struct smpp_pdu){ .esm_class = 0x20 }));
	assert_true(smpp_is_receipt(&(struct smpp_pdu){ .tlv = &t, .tlvs = 1 }));
	assert_false(smpp_is_receipt(
		&(struct smpp_pdu){ .esm_class = 0x40, .short_message = SL("id:1 stat:DELIVRD") }));
	assert_false(smpp_is_receipt(&(struct smpp_pdu){ .esm_class = 0x08 }));
}

static void check_key(struct sl id, const char *want)
{
	struct smpp_id_key k;

	assert_int_equal(smpp_id_key(id, &k), 0);
	assert_string_equal(k.s, want);
	assert_int_equal(k.n, strlen(want));
}

/* DLR-7. */
static void test_canonical_key(void **state)
{
	static char big[300];
	struct smpp_id_key k;

	UNUSED(state);
	check_key(SL("77"), "77");
	check_key(SL("0000077"), "77");
	check_key(SL("000"), "0");
	check_key(SL(" 00AbCd\n"), "abcd");
	check_key(SL("0x1F"), "1f");
	check_key(SL("0xyz"), "xyz");
	check_key(SL("F47AC10B-58CC-4372-A567-0E02B2C3D479"), "f47ac10b58cc4372a5670e02b2c3d479");
	check_key(SL("f47ac10b-58cc-4372-a567"), "f47ac10b-58cc-4372-a567");
	assert_int_equal(smpp_id_key(SL(""), &k), E_SYNTAX);
	assert_int_equal(smpp_id_key(SL("  "), &k), E_SYNTAX);
	memset(big, '1', sizeof(big));
	assert_int_equal(smpp_id_key(sl_mk(big, 255), &k), 0);
	assert_int_equal(smpp_id_key(sl_mk(big, 256), &k), E_TOOBIG);
}

static void check_match(const char *submitted, const char *receipt, enum smpp_id_form form)
{
	struct smpp_receipt r = { .id = sl_cstr(receipt) };
	struct smpp_id_key stored, key[SMPP_RECEIPT_KEYS];
	unsigned n = smpp_receipt_keys(&r, key);

	assert_int_equal(smpp_id_key(sl_cstr(submitted), &stored), 0);
	for (unsigned i = 0; i < n; i++)
		if (sl_eq(smpp_id_sl(&key[i]), smpp_id_sl(&stored))) {
			assert_int_equal(key[i].form, form);
			return;
		}
	fail_msg("%s does not find %s", receipt, submitted);
}

/* DLR-8: what carriers do to ids. */
static void test_candidates(void **state)
{
	struct smpp_receipt r = { .id = SL("zz"), .id_text = SL("ZZ") };
	struct smpp_id_key key[SMPP_RECEIPT_KEYS];

	UNUSED(state);
	check_match("77", "0000000077", SMPP_ID_SAME);
	check_match("0000000077", "77", SMPP_ID_SAME);
	check_match("ABCDEF", "abcdef", SMPP_ID_SAME);
	check_match("4D2", "1234", SMPP_ID_TO_HEX);
	check_match("4d2", "0000001234", SMPP_ID_TO_HEX);
	check_match("1234", "4D2", SMPP_ID_TO_DEC);
	check_match("1234", "000004D2", SMPP_ID_TO_DEC);
	check_match("ffffffffffffffff", "18446744073709551615", SMPP_ID_TO_HEX);
	check_match("18446744073709551615", "FFFFFFFFFFFFFFFF", SMPP_ID_TO_DEC);
	assert_int_equal(smpp_receipt_keys(&r, key), 1);
	r.id = SL("18446744073709551616");
	r.id_text = SL("");
	assert_int_equal(smpp_receipt_keys(&r, key), 1); /* beyond 64 bits in both bases */
	r.id = SL("10");
	assert_int_equal(smpp_receipt_keys(&r, key), 3);
	assert_string_equal(key[0].s, "10");
	assert_string_equal(key[1].s, "a");
	assert_string_equal(key[2].s, "16");
	r.id_text = SL("x");
	assert_int_equal(smpp_receipt_keys(&r, key), 4);
	assert_string_equal(key[1].s, "x");
	r.id = r.id_text = SL_NULL;
	assert_int_equal(smpp_receipt_keys(&r, key), 0);
}

/* Hostile text: time in proportion to its size. */
static void test_linear(void **state)
{
	static char text[65535];
	struct smpp_receipt r = { 0 };
	static const char *const fill[] = { "id ", "text:", " ", "id: ", "submit date", "id:" };

	UNUSED(state);
	uint64_t t0 = clock_mono_us();
	for (size_t f = 0; f < ARRAY_LEN(fill); f++) {
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = fill[f][i % strlen(fill[f])];
		smpp_receipt_text(sl_mk(text, sizeof(text)), &r);
		text[0] = 'i', text[1] = 'd';
		memset(text + 2, ' ', sizeof(text) - 2);
		smpp_receipt_text(sl_mk(text, sizeof(text)), &r);
	}
	assert_true(clock_mono_us() - t0 < 1000000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_dialects),      T(test_states),     T(test_tlvs),   T(test_is_receipt),
		T(test_canonical_key), T(test_candidates), T(test_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
