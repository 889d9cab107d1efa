/* fuzz_smpp_pdu.c - octets as a stream of SMPP PDUs: framed, decoded, dumped; what decodes and can
 * be encoded must decode to the same parameters again. The dictionary comes from the codec's own
 * tables. */
#include "translators/sms/smpp_pdu.h"

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
