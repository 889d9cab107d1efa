/* fuzz_sasl.c - what a client says inside SASL, decoded: first and second message of every
 * mechanism, through Cyrus and around it. The first octet chooses the mechanism; NUL NUL NUL parts
 * the messages. */
#include "tests/unit/access_rig.h"

static unsigned answers;
static bool may_enter;

static void answered(void *owner, struct login *l)
{
	UNUSED(owner);
	if (login_result(l) == LOGIN_SUCCESS && !may_enter)
		abort();
	answers++;
}

/* The one way in that a fuzzer can find: PLAIN with the password of the rig (no proof of SCRAM can
 * be guessed). The seeds are a few mutations away from it. */
static bool says_password(struct sl first)
{
	struct sl end = SL("\0wonder");

	return first.n >= end.n && !memcmp(first.p + first.n - end.n, end.p, end.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct sl mechs[] = { SL("PLAIN"), SL("SCRAM-SHA-1"), SL("SCRAM-SHA-256"),
					   SL("SCRAM-SHA-512"), SL("SCRAM-SHA-1-PLUS") };
	static bool started;
	struct sl in = { (const char *)data + 1, n - 1 }, first, second;
	struct login *l;
	const char *cut;

	if (n < 1 || n > 20000)
		return 0;
	if (!started) {
		log_set_level(LOG_L_ERROR);
		ar_new();
		started = true;
	}
	if (login_new(&(struct login_env){ .w = &ar.w,
					   .cfg = ar.cfg,
					   .host = SL("localhost"),
					   .secret = SL("0123456789abcdef"),
					   .owner = &ar,
					   .answer = answered },
		      mechs[data[0] % ARRAY_LEN(mechs)], &l) != 0)
		return 0;
	cut = in.n ? memmem(in.p, in.n, "\0\0\0", 3) : NULL;
	first = cut ? sl_sub(in, 0, (size_t)(cut - in.p)) : in;
	second = cut ? sl_sub(in, first.n + 3, in.n) : SL_NULL;
	answers = 0;
	may_enter = data[0] % ARRAY_LEN(mechs) == 0 && says_password(first);
	if (!login_input(l, first)) {
		ar_turn();
		if (answers != 1)
			abort();
		if (login_result(l) == LOGIN_CHALLENGE && !login_input(l, second) && data[0] & 64)
			ar_turn();
	}
	login_free(&l); /* perhaps while a step is outstanding */
	ar_turn();
	return 0;
}
