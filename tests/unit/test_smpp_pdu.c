/* test_smpp_pdu.c - the SMPP codec: rules PDU-1 to PDU-9, LINK-7, STAT-n of docs/rules/smpp.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "appliance/base/clock.h"
#include "translators/sms/smpp_pdu.h"
#include "translators/sms/smpp_status.h"

static struct arena *arena;

static int setup(void **state)
{
	UNUSED(state);
	arena = arena_new(4096, 1u << 24);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	UNUSED(state);
	arena_free(&arena);
	return 0;
}

static uint64_t seed = 88172645463325252u;

static uint32_t rnd32(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

static const uint32_t commands[] = {
#define SMPP_PDU(name, command_id, ...) command_id,
#include "translators/sms/smpp_pdu.def"
};

/* Random values in every parameter there is. */
static struct sl random_octets(size_t most, bool nul)
{
	size_t n = rnd32((uint32_t)most + 1);
	char *p = arena_bytes(arena, n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)(rnd32(255) + !nul);
	return sl_mk(p, n);
}
#define FILL_U8(x, max)     p->x = (uint8_t)rnd32(256);
#define FILL_CSTR(x, max)   p->x = random_octets((max)-1, false);
#define FILL_SECRET(x, max) FILL_CSTR(x, max)
#define FILL_TEXT(x, max)   p->x = random_octets(max, true);

static void fill(struct smpp_pdu *p, uint32_t command_id, size_t tlvs)
{
	struct smpp_tlv *t = arena_zalloc(arena, (tlvs + 1) * sizeof(*t));

#define SMPP_FIELD(name, kind, max) FILL_##kind(name, max)
#include "translators/sms/smpp_pdu.def"
	p->command_id = command_id;
	p->command_status = command_id & SMPP_RESP && rnd32(3) == 0 ? rnd32(0x500) : 0;
	p->sequence_number = rnd32(0xffffffff);
	for (size_t i = 0; i < tlvs; i++)
		t[i] = (struct smpp_tlv){ (uint16_t)rnd32(0x10000), random_octets(30, true) };
	p->tlv = t;
	p->tlvs = tlvs;
}

/* Parameters of the PDU are equal, all others empty: the membership comes from the same rows. */
#define SAME(x, on) \
	check_same(#x, _Generic(a->x, struct sl : true, default : false), &a->x, &b->x, on);
#define F(x)       SAME(x, true)
#define FX(x, max) SAME(x, true)
#define E(x)       SAME(x, a->command_status == 0 || a->tlvs)

static void check_same(const char *name, bool string, const void *a, const void *b, bool on)
{
	struct sl none = SL_NULL;
	uint8_t zero = 0;
	bool ok = string ? sl_eq(*(const struct sl *)(on ? a : &none), *(const struct sl *)b)
			 : *(const uint8_t *)(on ? a : &zero) == *(const uint8_t *)b;

	if (!ok)
		fail_msg("%s differs", name);
}

static void check_fields(const struct smpp_pdu *a, const struct smpp_pdu *b)
{
	switch (a->command_id) {
#define SMPP_PDU(name, command_id, ...) \
	case command_id: \
		__VA_ARGS__ \
		break;
#include "translators/sms/smpp_pdu.def"
	default:
		fail();
	}
	assert_int_equal(a->command_id, b->command_id);
	assert_int_equal(a->command_status, b->command_status);
	assert_int_equal(a->sequence_number, b->sequence_number);
	assert_int_equal(a->tlvs, b->tlvs);
	for (size_t i = 0; i < a->tlvs; i++)
		assert_true(a->tlv[i].tag == b->tlv[i].tag && sl_eq(a->tlv[i].v, b->tlv[i].v));
}

/* Decode from a heap block of exactly n octets, so that a sanitizer sees the first one too many. */
static int decode_exact(struct sl in, size_t n, bool patch, struct smpp_pdu *p)
{
	char *exact = malloc(n ? n : 1);
	struct smpp_pdu got;

	if (n)
		memcpy(exact, in.p, n);
	if (patch && n >= 4) {
		exact[2] = (char)(n >> 8);
		exact[3] = (char)n;
	}
	int rc = smpp_pdu_decode(arena, sl_mk(exact, n), &got, NULL);
	*p = got;
	struct buf line;
	buf_init(&line, 1 << 20);
	if (rc == 0)
		smpp_pdu_dump(&line, &got, true);
	buf_free(&line);
	free(exact);
	return rc;
}

static struct sl encode(struct buf *b, const struct smpp_pdu *p)
{
	struct err e = { 0 };

	buf_reset(b);
	if (smpp_pdu_encode(b, p, &e) < 0)
		fail_msg("%s: %s", smpp_command_name(p->command_id), e.text);
	return buf_sl(b);
}

static void test_round_trip_and_prefixes(void **state)
{
	struct buf b, b2;

	UNUSED(state);
	buf_init(&b, SMPP_PDU_MAX);
	buf_init(&b2, SMPP_PDU_MAX);
	for (size_t i = 0; i < ARRAY_LEN(commands) * 40; i++) {
		struct smpp_pdu p = { 0 }, got;
		struct err e = { 0 };

		fill(&p, commands[i % ARRAY_LEN(commands)], i % 3 ? rnd32(6) : 0);
		struct sl wire = encode(&b, &p);
		if (smpp_pdu_decode(arena, wire, &got, &e) < 0)
			fail_msg("%s: %s", smpp_command_name(p.command_id), e.text);
		check_fields(&p, &got);
		assert_int_equal(got.glitches & ~(unsigned)SMPP_G_NO_BODY, 0);
		assert_true(sl_eq(wire, encode(&b2, &got)));
		assert_int_equal(smpp_frame(wire), wire.n);
		for (size_t n = 0; n < wire.n; n++) {
			assert_int_equal(smpp_frame(sl_sub(wire, 0, n)), 0);
			assert_int_equal(decode_exact(wire, n, false, &got), E_SYNTAX);
			decode_exact(wire, n, true, &got);
			if (n >= SMPP_HEAD_OCTETS) {
				assert_int_equal(got.sequence_number, p.sequence_number);
				assert_int_equal(got.command_id, p.command_id);
			}
		}
		arena_free(&arena);
		arena = arena_new(4096, 1u << 24);
	}
	buf_free(&b);
	buf_free(&b2);
}

/* A request with its length patched to any prefix is malformed, unless the cut is between TLVs. */
static void test_patched_prefixes_of_requests(void **state)
{
	struct smpp_pdu p = { .command_id = SMPP_submit_sm,
			      .source_addr = SL("100"),
			      .destination_addr = SL("15550100"),
			      .short_message = SL("hi there") };
	struct smpp_tlv t[] = { { SMPP_TLV_user_message_reference, SL("\x01\x02") },
				{ 0x1401, SL("abc") } };
	struct smpp_pdu got;
	struct buf b;

	UNUSED(state);
	buf_init(&b, SMPP_PDU_MAX);
	size_t bare = encode(&b, &p).n;
	p.tlv = t;
	p.tlvs = 2;
	struct sl wire = encode(&b, &p);
	for (size_t n = 0; n < wire.n; n++) {
		bool tail_is_zero = n == bare + 7; /* the next TLV's tag is 14 01 */
		bool whole = n == bare || n == bare + 6 || (tail_is_zero && wire.p[n - 1] == 0);

		assert_int_equal(decode_exact(wire, n, true, &got), whole ? 0 : E_SYNTAX);
		assert_int_equal(got.fault, whole      ? 0
					    : n < bare ? SMPP_ESME_RINVCMDLEN
						       : SMPP_ESME_RINVOPTPARSTREAM);
		if (!whole)
			assert_int_equal(got.destination_addr.n + got.tlvs, 0);
	}
	buf_free(&b);
}

/* Octets written by hand from the specification. */
static void test_known_octets(void **state)
{
	struct smpp_pdu p = { .command_id = SMPP_enquire_link, .sequence_number = 7 };
	struct smpp_pdu bind = { .command_id = SMPP_bind_transceiver,
				 .sequence_number = 1,
				 .system_id = SL("me"),
				 .password = SL("pw"),
				 .interface_version = 0x34 };
	struct smpp_pdu sm = { .command_id = SMPP_submit_sm,
			       .sequence_number = 2,
			       .source_addr = SL("1"),
			       .destination_addr = SL("2"),
			       .dest_addr_ton = 1,
			       .dest_addr_npi = 1,
			       .esm_class = 0x40,
			       .registered_delivery = 1,
			       .data_coding = 8,
			       .short_message = SL("\0h") };
	struct buf b;

	UNUSED(state);
	buf_init(&b, 1000);
	assert_true(sl_eq(encode(&b, &p), SL("\0\0\0\x10\0\0\0\x15\0\0\0\0\0\0\0\x07")));
	assert_true(sl_eq(encode(&b, &bind),
			  SL("\0\0\0\x1b\0\0\0\x09\0\0\0\0\0\0\0\x01me\0pw\0\0\x34\0\0\0")));
	assert_true(sl_eq(encode(&b, &sm), SL("\0\0\0\x25\0\0\0\x04\0\0\0\0\0\0\0\x02\0\0\0"
					      "1\0\x01\x01"
					      "2\0\x40\0\0\0\0\x01\0"
					      "\x08\0\x02\0h")));
	buf_free(&b);
}

/* PDU-5: an error response has no body where 3.4 says so. */
static void test_error_response_body(void **state)
{
	struct smpp_pdu p = { .command_id = SMPP_submit_sm_resp,
			      .command_status = SMPP_ESME_RTHROTTLED,
			      .message_id = SL("7") };
	struct buf b;

	UNUSED(state);
	buf_init(&b, 1000);
	assert_int_equal(encode(&b, &p).n, 16);
	p.command_status = 0;
	assert_int_equal(encode(&b, &p).n, 18);
	p.command_id = SMPP_deliver_sm_resp;
	p.command_status = SMPP_ESME_RX_T_APPN;
	p.message_id = SL_NULL;
	assert_int_equal(encode(&b, &p).n, 17);
	buf_free(&b);
}

static void check_decodes(struct sl wire, int rc, unsigned glitches, struct smpp_pdu *p)
{
	struct err e = { 0 };

	if (smpp_pdu_decode(arena, wire, p, &e) != rc)
		fail_msg("rc %d not %d: %s", e.code, rc, e.text);
	if (rc == 0)
		assert_int_equal(p->glitches, glitches);
}

/* PDU-3, PDU-4, PDU-6: what real centres send. */
static void test_liberal(void **state)
{
	struct smpp_pdu p;

	UNUSED(state);
	/* submit_sm_resp: no body with and without error; a body with an error; no NUL; vendor
	 * status; sequence 0. */
	check_decodes(SL("\0\0\0\x10\x80\0\0\x04\0\0\0\x58\0\0\0\x09"), 0, 0, &p);
	check_decodes(SL("\0\0\0\x10\x80\0\0\x04\0\0\0\0\0\0\0\x09"), 0, SMPP_G_NO_BODY, &p);
	check_decodes(SL("\0\0\0\x11\x80\0\0\x04\0\0\0\x58\0\0\0\x09\0"), 0, 0, &p);
	check_decodes(SL("\0\0\0\x12\x80\0\0\x04\0\0\0\0\0\0\0\x09"
			 "77"),
		      0, SMPP_G_NO_NUL, &p);
	assert_true(sl_eq(p.message_id, SL("77")));
	check_decodes(SL("\0\0\0\x10\x80\0\0\x04\0\0\x04\x12\0\0\0\0"), 0, 0, &p);
	assert_int_equal(p.command_status, 0x412);
	assert_int_equal(smpp_status_find(p.command_status)->cls, SMPP_CLASS_UNKNOWN);
	check_decodes(SL("\0\0\0\x10\x80\0\0\0\0\0\0\x03\0\0\0\0"), 0, 0, &p);
	/* A TLV in submit_sm_resp, and octets there that are none. */
	check_decodes(SL("\0\0\0\x17\x80\0\0\x04\0\0\0\0\0\0\0\x09"
			 "7\0\x04\x28\0\x01\x32"),
		      0, 0, &p);
	uint32_t v = 0;
	assert_true(smpp_tlv_uint(&p, SMPP_TLV_congestion_state, &v));
	assert_int_equal(v, 50);
	check_decodes(SL("\0\0\0\x15\x80\0\0\x04\0\0\0\0\0\0\0\x09"
			 "7\0\x04\x28\0"),
		      0, SMPP_G_TAIL, &p);
	/* deliver_sm_resp with an id; bind response without body; any version, TON and NPI. */
	check_decodes(SL("\0\0\0\x13\x80\0\0\x05\0\0\0\0\0\0\0\x09"
			 "ab\0"),
		      0, 0, &p);
	check_decodes(SL("\0\0\0\x10\x80\0\0\x09\0\0\0\x0e\0\0\0\x09"), 0, 0, &p);
	check_decodes(SL("\0\0\0\x17\0\0\0\x09\0\0\0\0\0\0\0\x09\0\0\0\x99\xff\xfe\0"), 0, 0, &p);
	assert_int_equal(p.interface_version, 0x99);
	assert_int_equal(p.addr_ton, 0xff);
	/* A NUL too many after a request is dropped; another octet is not. */
	check_decodes(SL("\0\0\0\x12\0\0\0\x15\0\0\0\0\0\0\0\x09\0\0"), 0, SMPP_G_TAIL, &p);
	check_decodes(SL("\0\0\0\x12\0\0\0\x15\0\0\0\0\0\0\0\x09\0\x01"), E_SYNTAX, 0, &p);
	assert_int_equal(p.fault, SMPP_ESME_RINVOPTPARSTREAM);
	/* Strings longer than 3.4 allows. */
	check_decodes(SL("\0\0\0\x24\0\0\0\x0b\0\0\0\0\0\0\0\x09"
			 "a system id too long\0pw\0"),
		      E_SYNTAX, 0, &p);
	check_decodes(SL("\0\0\0\x28\0\0\0\x0b\0\0\0\0\0\0\0\x09"
			 "a system id too long\0pw\0"),
		      0, SMPP_G_LONG, &p);
	assert_int_equal(p.system_id.n, 20);
}

static void test_refused(void **state)
{
	struct smpp_pdu p;

	UNUSED(state);
	check_decodes(SL("\0\0\0\x10\0\0\x01\x11\0\0\0\0\0\0\0\x09"), E_UNSUPPORTED, 0, &p);
	assert_int_equal(p.fault, SMPP_ESME_RINVCMDID);
	assert_int_equal(p.sequence_number, 9);
	check_decodes(SL(""), E_SYNTAX, 0, &p);
	check_decodes(SL("\0\0\0\x11\0\0\0\x15\0\0\0\0\0\0\0\x09"), E_SYNTAX, 0, &p);
}

static void test_frame(void **state)
{
	UNUSED(state);
	assert_int_equal(smpp_frame(SL("")), 0);
	assert_int_equal(smpp_frame(SL("\0\0\0")), 0);
	assert_int_equal(smpp_frame(SL("\0\0\0\x0f")), E_SYNTAX);
	assert_int_equal(smpp_frame(SL("GET ")), E_SYNTAX);
	assert_int_equal(smpp_frame(SL("\0\x01\x11\x70")), 0);
	assert_int_equal(smpp_frame(SL("\0\x01\x11\x71")), E_SYNTAX);
	assert_int_equal(smpp_frame(SL("\0\0\0\x10\0\0\0\x15\0\0\0\0\0\0\0\x09more")), 16);
}

/* 64 KiB of message_payload; 17,000 TLVs in time that grows with the size only. */
static void test_big(void **state)
{
	static char text[65535];
	struct smpp_tlv t = { SMPP_TLV_message_payload, sl_mk(text, sizeof(text)) };
	struct smpp_pdu p = { .command_id = SMPP_deliver_sm, .tlv = &t, .tlvs = 1 }, got;
	struct smpp_tlv many[17000] = { 0 };
	struct buf b;

	UNUSED(state);
	buf_init(&b, SMPP_PDU_MAX);
	memset(text, 'x', sizeof(text));
	struct sl wire = encode(&b, &p);
	check_decodes(wire, 0, 0, &got);
	assert_true(sl_eq(smpp_pdu_text(&got), t.v));
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i].tag = (uint16_t)i;
	p.tlv = many;
	p.tlvs = ARRAY_LEN(many);
	wire = encode(&b, &p);
	uint64_t t0 = clock_mono_us();
	for (int i = 0; i < 20; i++) {
		check_decodes(wire, 0, 0, &got);
		arena_free(&arena);
		arena = arena_new(4096, 1u << 24);
	}
	assert_true(clock_mono_us() - t0 < 2000000);
	buf_free(&b);
}

static void check_refused_encode(struct smpp_pdu p, int rc, const char *word)
{
	struct err e = { 0 };
	struct buf b;

	buf_init(&b, 1u << 20);
	buf_add(&b, SL("before"));
	assert_int_equal(smpp_pdu_encode(&b, &p, &e), rc);
	if (!strstr(e.text, word))
		fail_msg("\"%s\" does not name %s", e.text, word);
	assert_true(sl_eq(buf_sl(&b), SL("before")));
	buf_free(&b);
}

/* PDU-5: what we send keeps to the letter. */
static void test_encode_limits(void **state)
{
	static char big[70000];
	struct smpp_tlv t = { 1, sl_mk(big, 65536) };
	struct smpp_tlv two[] = { { 1, sl_mk(big, 40000) }, { 2, sl_mk(big, 40000) } };

	UNUSED(state);
	memset(big, '1', sizeof(big));
	check_refused_encode((struct smpp_pdu){ .command_id = 0x111 }, E_UNSUPPORTED, "0x00000111");
	check_refused_encode(
		(struct smpp_pdu){ .command_id = SMPP_submit_sm, .source_addr = sl_mk(big, 21) },
		E_TOOBIG, "source_addr");
	check_refused_encode(
		(struct smpp_pdu){ .command_id = SMPP_submit_sm, .short_message = sl_mk(big, 255) },
		E_TOOBIG, "short_message");
	check_refused_encode(
		(struct smpp_pdu){ .command_id = SMPP_submit_sm, .source_addr = SL("1\0") },
		E_SYNTAX, "source_addr");
	check_refused_encode(
		(struct smpp_pdu){ .command_id = SMPP_submit_sm, .tlv = &t, .tlvs = 1 }, E_TOOBIG,
		"TLV 0x0001");
	check_refused_encode(
		(struct smpp_pdu){ .command_id = SMPP_submit_sm, .tlv = two, .tlvs = 2 }, E_TOOBIG,
		"submit_sm of");
	struct buf b;
	struct err e;
	buf_init(&b, 20);
	assert_int_equal(
		smpp_pdu_encode(&b, &(struct smpp_pdu){ .command_id = SMPP_submit_sm }, &e),
		E_TOOBIG);
	assert_int_equal(b.n, 0);
}

static void test_tlv_values(void **state)
{
	struct smpp_tlv t[] = { { SMPP_TLV_message_state, SL("\x02") },
				{ SMPP_TLV_receipted_message_id, SL("ab\0\0") },
				{ SMPP_TLV_user_message_reference, SL("") },
				{ SMPP_TLV_source_port, SL("\0\0\x01\x02") },
				{ SMPP_TLV_source_port, SL("\x09") },
				{ SMPP_TLV_sar_total_segments, SL("\xff\0\0\0\x05") } };
	struct smpp_pdu p = { .tlv = t, .tlvs = ARRAY_LEN(t) };
	uint32_t v = 77;

	UNUSED(state);
	assert_true(smpp_tlv_uint(&p, SMPP_TLV_message_state, &v) && v == 2);
	assert_true(smpp_tlv_uint(&p, SMPP_TLV_source_port, &v) && v == 0x102);
	assert_true(smpp_tlv_uint(&p, SMPP_TLV_sar_total_segments, &v) && v == 5);
	assert_false(smpp_tlv_uint(&p, SMPP_TLV_user_message_reference, &v));
	assert_false(smpp_tlv_uint(&p, SMPP_TLV_display_time, &v));
	assert_true(sl_eq(smpp_tlv_cstr(&p, SMPP_TLV_receipted_message_id), SL("ab")));
	assert_int_equal(smpp_tlv_cstr(&p, SMPP_TLV_additional_status_info_text).n, 0);
	assert_int_equal(smpp_pdu_text(&p).n, 0);
}

static void check_dump(const struct smpp_pdu *p, bool show, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	smpp_pdu_dump(&b, p, show);
	if (!sl_eq(buf_sl(&b), sl_cstr(want)))
		fail_msg("got " SLFMT, SLARG(buf_sl(&b)));
	buf_free(&b);
}

static void test_dump(void **state)
{
	struct smpp_tlv t[] = { { SMPP_TLV_message_state, SL("\x02") },
				{ 0x1401, SL("\x0a\x0b") },
				{ SMPP_TLV_receipted_message_id, SL("77\0") },
				{ SMPP_TLV_message_payload, SL("secret") } };
	struct smpp_pdu p = { .command_id = SMPP_deliver_sm,
			      .sequence_number = 9,
			      .source_addr = SL("1555\"0"),
			      .esm_class = 4,
			      .short_message = SL("a\nb\xe9"),
			      .tlv = t,
			      .tlvs = 4 };
	struct smpp_pdu bind = { .command_id = SMPP_outbind,
				 .system_id = SL("smsc"),
				 .password = SL("hush") };
	struct smpp_pdu nack = { .command_id = 0x80000fff, .command_status = 3 };

	UNUSED(state);
	check_dump(
		&p, false,
		"deliver_sm seq=9 source_addr=\"1555\\x220\" esm_class=4 short_message=<4 octets> "
		"message_state=2 tlv_0x1401=0a0b receipted_message_id=\"77\" message_payload=<6 octets>");
	check_dump(
		&p, true,
		"deliver_sm seq=9 source_addr=\"1555\\x220\" esm_class=4 short_message=\"a\\x0ab\\xe9\" "
		"message_state=2 tlv_0x1401=0a0b receipted_message_id=\"77\" message_payload=\"secret\"");
	check_dump(&bind, true, "outbind seq=0 system_id=\"smsc\" password=***");
	check_dump(&nack, true, "command_0x80000fff seq=0 status=0x3");
}

static void test_dictionary(void **state)
{
	struct buf b;

	UNUSED(state);
	buf_init(&b, 1u << 16);
	assert_int_equal(smpp_pdu_dictionary(&b), 0);
	buf_addc(&b, '\0');
	const char *all = buf_sl(&b).p;
	assert_non_null(strstr(all, "\nsubmit_sm=\"\\x00\\x00\\x00\\x04\"\n"));
	assert_non_null(strstr(all, "\nESME_RTHROTTLED=\"\\x00\\x00\\x00\\x58\"\n"));
	assert_non_null(strstr(all, "\ntlv_message_payload=\"\\x04\\x24\"\n"));
	buf_free(&b);
	buf_init(&b, 50);
	assert_int_equal(smpp_pdu_dictionary(&b), E_TOOBIG);
	buf_free(&b);
}

static void test_statuses(void **state)
{
	static const uint32_t values[] = {
#define SMPP_STATUS(rule, value, name, class, condition, type, text) value,
#include "translators/sms/smpp_status.def"
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		const struct smpp_status *s = smpp_status_find(values[i]);
		char rule[16];

		assert_int_equal(s->value, values[i]);
		assert_true(i == 0 || values[i] > values[i - 1]);
		snprintf(rule, sizeof(rule), "STAT-%zu", i + 1);
		assert_string_equal(s->rule, rule);
		assert_true((s->cls == SMPP_CLASS_OK) == (s->condition == NULL));
	}
	assert_string_equal(smpp_status_find(0x58)->name, "ESME_RTHROTTLED");
	assert_string_equal(smpp_class_name(smpp_status_find(0x58)->cls), "throttled");
	assert_string_equal(smpp_status_find(0x400)->name, "vendor");
	assert_string_equal(smpp_status_find(0x4ff)->name, "vendor");
	assert_string_equal(smpp_status_find(0x500)->name, "reserved");
	assert_string_equal(smpp_status_find(0x10)->name, "reserved");
	assert_string_equal(smpp_command_name(SMPP_data_sm_resp), "data_sm_resp");
	assert_string_equal(smpp_command_name(0x111), "unknown");
}

static void test_no_memory(void **state)
{
	struct smpp_tlv t = { 1, SL("x") };
	struct smpp_pdu p = { .command_id = SMPP_submit_sm,
			      .sequence_number = 5,
			      .tlv = &t,
			      .tlvs = 1 },
			got;
	struct arena *small = arena_new(0, 8);
	struct buf b;

	UNUSED(state);
	buf_init(&b, 1000);
	assert_int_equal(smpp_pdu_decode(small, encode(&b, &p), &got, NULL), E_NOMEM);
	assert_int_equal(got.fault, SMPP_ESME_RSYSERR);
	assert_int_equal(got.sequence_number, 5);
	arena_free(&small);
	buf_free(&b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_round_trip_and_prefixes),
		T(test_patched_prefixes_of_requests),
		T(test_known_octets),
		T(test_error_response_body),
		T(test_liberal),
		T(test_refused),
		T(test_frame),
		T(test_big),
		T(test_encode_limits),
		T(test_tlv_values),
		T(test_dump),
		T(test_dictionary),
		T(test_statuses),
		T(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
