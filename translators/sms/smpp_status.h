/* smpp_status.h - command_status: one table (smpp_status.def) for logs, retry decisions and XMPP
 * errors.
 *
 * Rules STAT-n in docs/rules/smpp.md. Pure; any thread. */
#ifndef TANDEM_SMS_SMPP_STATUS_H
#define TANDEM_SMS_SMPP_STATUS_H

#include "appliance/base/base.h"

enum smpp_class {
	SMPP_CLASS_OK,
	SMPP_CLASS_TEMPORARY, /* the same message may succeed later */
	SMPP_CLASS_THROTTLED, /* slow down, then the same message again */
	SMPP_CLASS_PERMANENT, /* this message never succeeds */
	SMPP_CLASS_BIND,      /* the session is at fault, not the message */
	SMPP_CLASS_UNKNOWN,   /* reserved and vendor values: as temporary, but few times */
};

/* clang-format off */
enum {
#define SMPP_STATUS(rule, value, name, class, condition, type, text) SMPP_##name = (value),
#include "translators/sms/smpp_status.def"
};
/* clang-format on */

struct smpp_status {
	const char *rule; /* "STAT-n" in docs/rules/smpp.md */
	uint32_t value;
	const char *name; /* "ESME_RTHROTTLED" */
	enum smpp_class cls;
	const char *condition; /* RFC 6120 stanza error condition and type for the sender, when all
				  tries failed */
	const char *type;
	const char *text; /* for a person */
};

/* Rows of the table, in order of value; NULL after the last. */
const struct smpp_status *smpp_status_at(size_t i);
/* Row of a status; never NULL: values without a row get the row for vendor or reserved values. */
const struct smpp_status *smpp_status_find(uint32_t status);
/* "throttled" and so on. */
const char *smpp_class_name(enum smpp_class c);

#endif
