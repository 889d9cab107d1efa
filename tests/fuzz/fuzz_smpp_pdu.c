/* fuzz_smpp_pdu.c - octets as a stream of SMPP PDUs: framed, decoded, dumped; what decodes and can
 * be encoded must decode to the same parameters again. The dictionary comes from the codec's own
 * tables. */
#include "appliance/base/enc.h"
#include "translators/sms/receipt.h"
#include "translators/sms/smpp_sms.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char option[] = "-dict=/tmp/fuzz_smpp_pdu.XXXXXX";

static void remove_dictionary(void)
{
	unlink(option + 6);
}

/* Write the dictionary to a file of its own and add -dict= to the arguments. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char **args = calloc((size_t)*argc + 2, sizeof(*args));
	int fd = mkstemp(option + 6);
	struct buf dict;

	buf_init(&dict, 1u << 16);
	if (!args || fd < 0 || smpp_pdu_dictionary(&dict) < 0 ||
	    write(fd, buf_sl(&dict).p, dict.n) < 0)
		abort();
	close(fd);
	atexit(remove_dictionary);
	buf_free(&dict);
	memcpy(args, *argv, (size_t)*argc * sizeof(*args));
	args[(*argc)++] = option;
	*argv = args;
	return 0;
}

static void again(const struct smpp_pdu *p)
{
	struct arena *a = arena_new(1024, 1u << 22);
	struct smpp_pdu q;
	struct buf wire, one, two;

	buf_init(&wire, SMPP_PDU_MAX);
	buf_init(&one, 1u << 20);
	buf_init(&two, 1u << 20);
	if (smpp_pdu_encode(&wire, p, NULL) == 0) {
		if (smpp_pdu_decode(a, buf_sl(&wire), &q, NULL) < 0)
			abort();
		smpp_pdu_dump(&one, p, true);
		smpp_pdu_dump(&two, &q, true);
		if (!sl_eq(buf_sl(&one), buf_sl(&two)))
			abort();
	}
	buf_free(&wire);
	buf_free(&one);
	buf_free(&two);
	arena_free(&a);
}

/* What the link makes of a delivery, and back into a submit_sm where that is possible. */
static void as_message(struct arena *a, const struct smpp_pdu *p)
{
	struct smpp_sms_cfg cfg = { (enum smpp_alphabet)(p->protocol_id % 3),
				    SMPP_TON_AUTO,
				    SMPP_TON_AUTO,
				    SMPP_TON_AUTO,
				    SMPP_TON_AUTO,
				    SL("") };
	struct smpp_receipt r;
	struct smpp_pdu out;
	struct smpp_in m;
	struct sl text;

	smpp_receipt_read(a, p, &r);
	if (smpp_pdu_in(a, &cfg, p, &m) < 0)
		return;
	if (gsm_decode(a, m.body.enc, m.body.data, &text) == 0 && !utf8_valid(text))
		abort();
	struct smpp_out back = { .from = m.from, .to = m.to, .body = m.body };
	if (smpp_out_pdu(a, &cfg, &back, &out, NULL) == 0) {
		struct buf b;

		buf_init(&b, SMPP_PDU_MAX);
		if (smpp_pdu_encode(&b, &out, NULL) == E_SYNTAX)
			abort();
		buf_free(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sl in = sl_mk((const char *)data, size);
	int n;

	while ((n = smpp_frame(in)) > 0) {
		struct arena *a = arena_new(256, 1u << 20);
		struct smpp_pdu p;
		struct buf line;
		uint32_t v;

		buf_init(&line, 500);
		if (smpp_pdu_decode(a, sl_sub(in, 0, (size_t)n), &p, NULL) == 0) {
			smpp_tlv_uint(&p, SMPP_TLV_message_state, &v);
			smpp_tlv_cstr(&p, SMPP_TLV_receipted_message_id);
			as_message(a, &p);
			if (p.command_status == 0) /* error responses may lose their body */
				again(&p);
		} else if (p.fault == 0 || p.tlvs || p.short_message.n) {
			abort();
		}
		smpp_pdu_dump(&line, &p, false);
		buf_free(&line);
		arena_free(&a);
		in = sl_sub(in, (size_t)n, in.n);
	}
	return 0;
}
