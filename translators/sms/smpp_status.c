/* smpp_status.c - see smpp_status.h. */
#include "translators/sms/smpp_status.h"

/* clang-format off */
static const struct smpp_status statuses[] = {
#define SMPP_STATUS(rule, value, name, cls, condition, type, text)                                 \
	{ rule, value, #name, SMPP_CLASS_##cls, condition, type, text },
#include "translators/sms/smpp_status.def"
};
/* clang-format on */

static const struct smpp_status vendor_status = {
	"STAT-60",
	0x400,
	"vendor",
	SMPP_CLASS_UNKNOWN,
	"undefined-condition",
	"wait",
	"error of the message centre's own (0x400 to 0x4ff)",
};
static const struct smpp_status reserved_status = {
	"STAT-61",
	0xffffffff,
	"reserved",
	SMPP_CLASS_UNKNOWN,
	"undefined-condition",
	"wait",
	"error that SMPP does not define",
};

const struct smpp_status *smpp_status_at(size_t i)
{
	return i < ARRAY_LEN(statuses) ? &statuses[i] : NULL;
}

const struct smpp_status *smpp_status_find(uint32_t status)
{
	size_t lo = 0, hi = ARRAY_LEN(statuses);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (statuses[mid].value == status)
			return &statuses[mid];
		if (statuses[mid].value < status)
			lo = mid + 1;
		else
			hi = mid;
	}
	return status >= 0x400 && status <= 0x4ff ? &vendor_status : &reserved_status;
}

const char *smpp_class_name(enum smpp_class c)
{
	static const char *const names[] = { "ok",        "temporary", "throttled",
					     "permanent", "bind",      "unknown" };

	return names[c];
}
