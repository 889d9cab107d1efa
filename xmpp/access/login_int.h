/* login_int.h - what login.c and login_sasl.c share. Nobody else includes it. */
#ifndef TANDEM_XMPP_LOGIN_INT_H
#define TANDEM_XMPP_LOGIN_INT_H

#include <sasl/sasl.h>

#include "appliance/base/arena.h"
#include "xmpp/access/auth.h"
#include "xmpp/access/login.h"
#include "xmpp/access/scram.h"

#define LOGIN_INPUT_MAX 8192u
#define LOGIN_CALLBACKS 3u

/* While busy (the store or an auth thread has it) the worker touches owner and conn only, and those
 * are touched by the worker only. */
struct login {
	struct auth_job job;
	struct loop_task task;
	struct store_account_get get;
	struct worker *w;
	const struct core_config *cfg;
	const struct conn *conn;
	void *owner; /* NULL: the stream is gone */
	void (*answer)(void *owner, struct login *l);
	struct arena *arena; /* holds the login itself */
	bool busy;

	char mech[24];
	enum scram_hash hash;
	bool plain, plus;
	bool component; /* the verifier is made of password, not fetched */
	struct secret password;
	bool name_ok; /* the name can be an account's */
	struct sl host, user, asked;
	struct sl secret;
	struct secret input; /* the client's message: PLAIN holds the password */

	sasl_conn_t *sasl;
	sasl_callback_t cb[LOGIN_CALLBACKS];
	sasl_channel_binding_t binding;
	const char *cb_name;
	unsigned char cb_data[64];
	size_t cb_octets;
	struct scram_verifier verifier; /* real or made up */
	bool real;

	enum login_result result;
	const char *condition;
	struct sl out; /* Cyrus's, until the next step */
};

void login_run(struct auth_job *j);
void login_sasl_dispose(struct login *l);

#endif
