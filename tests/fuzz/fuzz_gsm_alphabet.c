/* fuzz_gsm_alphabet.c - octets as units of every coding, and as UTF-8 to be split: what decodes
 * must encode to something that decodes to the same text. */
#include "appliance/base/enc.h"
#include "hal/gsm/concat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void split_and_join(struct arena *a, struct sl text, struct gsm_split_cfg cfg)
{
	struct gsm_text t;
	struct gsm_body part[GSM_PARTS_MAX];
	struct sl back;

	if (gsm_split(a, text, &cfg, &t, NULL) < 0)
		return;
	for (unsigned i = 0; i < t.n; i++)
		part[i] = (struct gsm_body){ t.enc, t.part[i], { 0 } };
	check(gsm_join(a, part, t.n, &back) == 0 && sl_eq(back, text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct arena *a = arena_new(4096, 64 * size + 65536);
	struct sl in = sl_mk((const char *)data + 2, size - 2), text, septets, packed;
	struct gsm_split_cfg cfg = { data[0] & 7u, data[1], data[0] & 8 };

	for (int enc = GSM_ENC_7BIT; enc < GSM_ENC_OCTETS; enc++) {
		check(gsm_decode(a, (enum gsm_enc)enc, in, &text) == 0 && utf8_valid(text));
		split_and_join(a, text, cfg);
	}
	if (gsm_split(a, in, &cfg, &(struct gsm_text){ 0 }, NULL) == 0)
		check(utf8_valid(in));
	unsigned fill = data[0] >> 4 & 7u;
	if (fill < 7 && gsm7_unpack(a, in, in.n * 7 / 8, fill, &septets) == 0) {
		struct sl back;

		check(gsm7_pack(a, septets, fill, &packed) == 0);
		check(gsm7_unpack(a, packed, septets.n, fill, &back) == 0 && sl_eq(septets, back));
	}
	arena_free(&a);
	return 0;
}
