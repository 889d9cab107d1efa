/* fuzz_smpp_receipt.c - octets as the text of a receipt and as a message id: every slice lies in
 * the input, a canonical key is its own canonical key, and the id of a receipt finds a message
 * submitted under the same id. */
#include "translators/sms/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct sl in, struct sl part)
{
	if (part.n && (part.p < in.p || part.p + part.n > in.p + in.n))
		abort();
}

static void check_keys(const struct smpp_receipt *r)
{
	struct smpp_id_key key[SMPP_RECEIPT_KEYS], mine, again;
	unsigned n = smpp_receipt_keys(r, key);

	if (smpp_id_key(r->id, &mine) == 0) {
		if (n == 0 || !sl_eq(smpp_id_sl(&key[0]), smpp_id_sl(&mine)))
			abort();
	}
	for (unsigned i = 0; i < n; i++) {
		if (key[i].n == 0 || key[i].n > SMPP_ID_MAX || key[i].s[key[i].n])
			abort();
		if (key[i].form != SMPP_ID_SAME &&
		    (smpp_id_key(smpp_id_sl(&key[i]), &again) < 0 ||
		     !sl_eq(smpp_id_sl(&again), smpp_id_sl(&key[i]))))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sl in = sl_mk((const char *)data, size);
	struct smpp_tlv t = { SMPP_TLV_receipted_message_id, sl_sub(in, 0, size ? data[0] : 0) };
	struct smpp_pdu p = { .esm_class = SMPP_ESM_RECEIPT,
			      .short_message = in,
			      .tlv = &t,
			      .tlvs = size & 1,
			      .data_coding = size & 2 ? 8 : 0 };
	struct arena *a = arena_new(256, 4 * size + 4096);
	struct smpp_receipt r = { 0 };

	smpp_receipt_text(in, &r);
	inside(in, r.id);
	inside(in, r.err);
	inside(in, r.text);
	check_keys(&r);
	if (smpp_receipt_read(a, &p, &r) == 0)
		check_keys(&r);
	arena_free(&a);
	return 0;
}
