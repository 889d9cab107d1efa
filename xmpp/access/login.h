/* login.h - one SASL login of a client's or component's stream (RFC 6120 section 6): Cyrus SASL,
 * verifiers from the store, or made of a component's secret. Steps of SCRAM run in the worker,
 * between two stanzas; what derives from a password or a component's secret on the auth pool.
 *
 * The stream decodes base64 and writes the XML; a login takes the decoded data and answers later,
 * in the same worker, by the callback. The first message is read here before Cyrus sees it: it
 * names the user, whose verifier is fetched before the first step, and the channel binding, which
 * Cyrus must be told first. Who does not exist gets a made-up verifier (scram_fake) and is refused
 * at the same step, in the same time, as a wrong password. */
#ifndef TANDEM_XMPP_LOGIN_H
#define TANDEM_XMPP_LOGIN_H

#include "appliance/loop/conn.h"
#include "xmpp/router/worker.h"

struct login;

/* How a stream logs in: what is offered depends on it. */
enum {
	LOGIN_TLS = 1,      /* inside TLS */
	LOGIN_COMPONENT = 2 /* a component: SHA-1 is not offered, and TLS is wanted as configured
			       for components */
};

enum login_result { LOGIN_CHALLENGE, LOGIN_SUCCESS, LOGIN_FAILURE };

struct login_env {
	struct worker *w;
	const struct core_config *cfg; /* borrowed for the login's life */
	struct sl host;                /* the domain of the account; copied */
	const struct conn
		*conn;    /* borrowed during calls of the worker only; for channel bindings */
	struct sl secret; /* for the verifiers of unknown users; outlives the login */
	/* A component's login: host is the domain, the only user, and the password is this one
	 * (copied). Empty with component: nobody has this domain; refused as a wrong one is. */
	bool component;
	struct sl password;
	void *owner;
	void (*answer)(void *owner,
		       struct login *l); /* see login_result and so on; may free the login */
};

/* The mechanism list of a stream: each that is configured and allowed now is given to fn in order.
 */
void login_mechanisms(const struct core_config *cfg, unsigned how,
		      void (*fn)(void *arg, struct sl mech), void *arg);
/* NULL, or the SASL error of RFC 6120 6.5 for choosing this mechanism now. */
const char *login_mech_refused(const struct core_config *cfg, unsigned how, struct sl mech);

/* mech was not refused. E_NOMEM. */
int login_new(const struct login_env *env, struct sl mech, struct login **l_r);
/* The client's next message (an absent initial response is answered by the stream with an empty
 * challenge and does not come here). NULL: the answer comes by the callback; else the SASL error,
 * at once. */
const char *login_input(struct login *l, struct sl data);
/* Also while a step is outstanding: then it finishes unheard and is freed. */
void login_free(struct login **l);

/* Valid inside the callback. */
enum login_result login_result(const struct login *l);
struct sl login_data(const struct login *l); /* challenge, or additional data with success */
bool login_has_data(const struct login *l);
const char *login_condition(const struct login *l); /* with failure */
struct sl login_user(const struct login *l); /* normalised localpart; lives as long as the login */
const char *login_mech(const struct login *l); /* static */

#endif
