/* offline.c - XEP-0160: which messages are kept for an account that nobody takes them for. The
 * keeping itself, and the delivery at the next login, are the router's (docs/custody.md, CUST-6 and
 * CUST-11). */
#include "xmpp/services/services.h"

static int message_offline(struct user *u, const struct stanza *st, bool *accept_r)
{
	(void)st;
	*accept_r = u->mail_count < u->w->cfg->lim.mail_per_user;
	return SVC_HANDLED;
}

static const char *const features[] = { "msgoffline", NULL };

const struct service svc_offline = {
	.name = "offline",
	.features = features,
	.message_offline = message_offline,
};
