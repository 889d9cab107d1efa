/* test_smpp_oracle.c - libsmpp34 as a second opinion: what we encode it decodes to the same fields,
 * it encodes those fields to the same octets, and what it encodes we decode. Within its limits:
 * known TON, NPI and statuses, sequence 1 and up, at most 8 TLVs of 1,000 octets, short_message of
 * 253; it has no data_sm source over 20. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "translators/sms/smpp_pdu.h"
#include "translators/sms/smpp_status.h"

#include <libsmpp34/smpp34.h>
#include <libsmpp34/smpp34_structs.h>
#include <libsmpp34/smpp34_params.h>

#undef F
#undef TLV

static struct arena *arena;
static uint64_t seed = 362436069u;

static uint32_t rnd32(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

static struct sl random_text(size_t most)
{
	size_t n = rnd32((uint32_t)most + 1);
	char *p = arena_bytes(arena, n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)(' ' + rnd32(95));
	return sl_mk(p, n);
}

#define PICK(...) \
	((const uint32_t[]){ __VA_ARGS__ })[rnd32(ARRAY_LEN(((const uint32_t[]){ __VA_ARGS__ })))]

static void fill(struct smpp_pdu *p, uint32_t command_id)
{
#define FILL_U8(x, max)             p->x = (uint8_t)rnd32(256);
#define FILL_CSTR(x, max)           p->x = random_text((max)-1);
#define FILL_SECRET(x, max)         FILL_CSTR(x, max)
#define FILL_TEXT(x, max)           p->x = random_text((max)-1);
#define SMPP_FIELD(name, kind, max) FILL_##kind(name, max)
#include "translators/sms/smpp_pdu.def"
	p->command_id = command_id;
	p->command_status = 0;
	p->sequence_number = 1 + rnd32(SMPP_SEQ_MAX);
	p->interface_version = 0x34;
	p->addr_ton = (uint8_t)rnd32(7);
	p->source_addr_ton = (uint8_t)rnd32(7);
	p->dest_addr_ton = (uint8_t)rnd32(7);
	p->esme_addr_ton = (uint8_t)rnd32(7);
	p->addr_npi = (uint8_t)PICK(0, 1, 3, 4, 6, 8, 9, 10, 14, 18);
	p->source_addr_npi = (uint8_t)PICK(0, 1, 3, 4, 6, 8, 9, 10, 14, 18);
	p->dest_addr_npi = (uint8_t)PICK(0, 1, 3, 4, 6, 8, 9, 10, 14, 18);
	p->esme_addr_npi = (uint8_t)PICK(0, 1, 3, 4, 6, 8, 9, 10, 14, 18);
	if (command_id == SMPP_deliver_sm)
		p->schedule_delivery_time = p->validity_period = SL_NULL;
	if (command_id == SMPP_deliver_sm_resp)
		p->message_id = SL_NULL;
	if (command_id & SMPP_RESP && command_id != SMPP_deliver_sm_resp && rnd32(3) == 0) {
		p->command_status =
			PICK(SMPP_ESME_RTHROTTLED, SMPP_ESME_RINVDSTADR, SMPP_ESME_RSYSERR);
		p->message_id = command_id == SMPP_submit_sm_resp ? SL_NULL : p->message_id;
	}
}

static void add_tlvs(struct smpp_pdu *p)
{
	size_t n = rnd32(9);
	struct smpp_tlv *t = arena_alloc(arena, (n + 1) * sizeof(*t));

	for (size_t i = 0; i < n; i++)
		t[i] = (struct smpp_tlv){ (uint16_t)(0x1400 + rnd32(0x2000)), random_text(1000) };
	p->tlv = t;
	p->tlvs = n;
}

/* Compare one parameter of ours with the member of the same name in theirs. */
static void same(const char *name, bool string, const void *ours, const void *theirs)
{
	struct sl s = string ? *(const struct sl *)ours : SL_NULL;
	bool text = strcmp(name, "short_message") == 0;

	if (!string)
		assert_int_equal(*(const uint8_t *)ours, *(const uint8_t *)theirs);
	else if ((s.n && memcmp(s.p, theirs, s.n) != 0) ||
		 (!text && ((const char *)theirs)[s.n] != '\0'))
		fail_msg("%s differs", name);
}

#define F(x)       same(#x, _Generic(p->x, struct sl : true, default : false), &p->x, &t->x);
#define FX(x, max) F(x)
#define E(x)       F(x)

struct theirs {
	uint32_t length, id, status, seq;
	char rest[65536];
};

static void compare(const struct smpp_pdu *p, const void *theirs)
{
	const struct theirs *head = theirs;

	assert_int_equal(p->command_id, head->id);
	assert_int_equal(p->command_status, head->status);
	assert_int_equal(p->sequence_number, head->seq);
#define SMPP_PDU(name, id_, ...) \
	if (p->command_id == id_) { \
		const struct name##_t *t = theirs; \
		UNUSED(t); \
		__VA_ARGS__ \
	}
#include "translators/sms/smpp_pdu.def"
}

/* Its unpack builds the list backwards, its pack writes it in list order. */
static void compare_tlvs(const struct smpp_pdu *p, const tlv_t *t, bool backwards)
{
	for (size_t i = 0; i < p->tlvs; i++, t = t->next) {
		const struct smpp_tlv *o = &p->tlv[backwards ? p->tlvs - 1 - i : i];

		assert_non_null(t);
		assert_int_equal(t->tag, o->tag);
		assert_int_equal(t->length, o->v.n);
		assert_memory_equal(t->value.octet, o->v.p ? o->v.p : "", t->length);
	}
	assert_null(t);
}

static tlv_t *tlvs_of(void *theirs, uint32_t command_id)
{
	switch (command_id) {
	case SMPP_submit_sm:
		return ((submit_sm_t *)theirs)->tlv;
	case SMPP_deliver_sm:
		return ((deliver_sm_t *)theirs)->tlv;
	case SMPP_data_sm:
		return ((data_sm_t *)theirs)->tlv;
	}
	return NULL;
}

static bool takes_tlvs(uint32_t id)
{
	return id == SMPP_submit_sm || id == SMPP_deliver_sm || id == SMPP_data_sm;
}

static void there_and_back(uint32_t command_id)
{
	static struct theirs theirs;
	static uint8_t packed[20000];
	struct smpp_pdu p = { 0 }, got;
	struct err e = { 0 };
	struct buf b;
	int n = 0;

	buf_init(&b, SMPP_PDU_MAX);
	fill(&p, command_id);
	if (takes_tlvs(command_id))
		add_tlvs(&p);
	if (smpp_pdu_encode(&b, &p, &e) < 0)
		fail_msg("%s", e.text);
	struct sl wire = buf_sl(&b);
	buf_addc(&b, '\0'); /* guard for its string reader */
	wire.p = buf_sl(&b).p;
	memset(&theirs, 0, sizeof(theirs));
	if (smpp34_unpack2(&theirs, (const uint8_t *)wire.p, (int)wire.n) != 0)
		fail_msg("%s refused: %s", smpp_command_name(command_id), smpp34_strerror);
	compare(&p, &theirs);
	compare_tlvs(&p, tlvs_of(&theirs, command_id), true);
	if (smpp34_pack2(packed, sizeof(packed), &n, &theirs) != 0)
		fail_msg("%s not packed: %s", smpp_command_name(command_id), smpp34_strerror);
	assert_int_equal(n, wire.n);
	if (p.tlvs < 2)
		assert_memory_equal(packed, wire.p, wire.n);
	assert_int_equal(smpp_pdu_decode(arena, sl_mk((char *)packed, (size_t)n), &got, &e), 0);
	assert_int_equal(got.glitches & ~(unsigned)SMPP_G_NO_BODY, 0);
	compare(&got, &theirs);
	compare_tlvs(&got, tlvs_of(&theirs, command_id), false);
	destroy_tlv(tlvs_of(&theirs, command_id));
	buf_free(&b);
}

static void test_every_pdu(void **state)
{
	static const uint32_t commands[] = {
#define SMPP_PDU(name, command_id, ...) command_id,
#include "translators/sms/smpp_pdu.def"
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(commands) * 200; i++) {
		uint32_t id = commands[i % ARRAY_LEN(commands)];

		arena = arena_new(65536, 1u << 22);
		there_and_back(id);
		arena_free(&arena);
	}
}

/* The other way round: their struct, their octets, our decoder. */
static void test_their_submit_sm(void **state)
{
	submit_sm_t t = { .command_id = SUBMIT_SM,
			  .sequence_number = 77,
			  .source_addr_ton = 5,
			  .dest_addr_ton = 1,
			  .dest_addr_npi = 1,
			  .registered_delivery = 1,
			  .data_coding = 8,
			  .sm_length = 4 };
	tlv_t ref = { .tag = TLVID_user_message_reference, .length = 2, .value.val16 = 0x1234 };
	uint8_t wire[1000];
	struct smpp_pdu p;
	uint32_t v = 0;
	int n = 0;

	UNUSED(state);
	arena = arena_new(4096, 65536);
	memcpy(t.source_addr, "Tandem", 7);
	memcpy(t.destination_addr, "15550100", 9);
	memcpy(t.short_message, "\0a\0b", 4);
	build_tlv(&t.tlv, &ref);
	assert_int_equal(smpp34_pack2(wire, sizeof(wire), &n, &t), 0);
	destroy_tlv(t.tlv);
	assert_int_equal(smpp_pdu_decode(arena, sl_mk((char *)wire, (size_t)n), &p, NULL), 0);
	compare(&p, &t);
	assert_true(sl_eq(p.short_message, SL("\0a\0b")));
	assert_true(smpp_tlv_uint(&p, SMPP_TLV_user_message_reference, &v) && v == 0x1234);
	arena_free(&arena);
}

/* The numbers that have names are the same numbers. */
static void test_constants(void **state)
{
	UNUSED(state);
#define SAME_STATUS(n) assert_int_equal(n, SMPP_##n);
	SAME_STATUS(ESME_RINVMSGLEN)
	SAME_STATUS(ESME_RALYBND)
	SAME_STATUS(ESME_RINVDSTADR) SAME_STATUS(ESME_RMSGQFUL) SAME_STATUS(
		ESME_RSUBMITFAIL) SAME_STATUS(ESME_RTHROTTLED) SAME_STATUS(ESME_RX_T_APPN)
		SAME_STATUS(ESME_RX_P_APPN) SAME_STATUS(ESME_RX_R_APPN) SAME_STATUS(
			ESME_RINVSCHED) SAME_STATUS(ESME_RINVEXPIRY) SAME_STATUS(ESME_RINVDFTMSGID)
			SAME_STATUS(ESME_RINVOPTPARSTREAM) SAME_STATUS(
				ESME_RDELIVERYFAILURE) SAME_STATUS(ESME_RUNKNOWNERR)
#define SAME_TLV(n) assert_int_equal(TLVID_##n, SMPP_TLV_##n);
				SAME_TLV(message_payload) SAME_TLV(receipted_message_id) SAME_TLV(
					message_state) SAME_TLV(network_error_code)
					SAME_TLV(sar_msg_ref_num) SAME_TLV(sar_total_segments)
						SAME_TLV(sar_segment_seqnum) SAME_TLV(
							ussd_service_op) SAME_TLV(its_session_info)
							SAME_TLV(user_message_reference)
								SAME_TLV(callback_num)
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pdu),
		cmocka_unit_test(test_their_submit_sm),
		cmocka_unit_test(test_constants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
