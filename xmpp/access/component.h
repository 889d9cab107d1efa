/* component.h - a component's stream: XEP-0114, and the stream of our own translators (DESIGN
 * section 5).
 *
 * XEP-0114 over TCP, with TLS or without: header, <handshake/>, stanzas. A header with
 * version='1.0' begins a stream like a client's, in the same namespace: STARTTLS, SASL with the
 * domain as user name and the component's secret as password, a new header, XEP-0198 without
 * resumption (the rows are sent again on a new stream, CUST-8). Over the Unix socket: the same,
 * with SASL EXTERNAL from the socket's peer credentials. The stream moves to the worker that owns
 * the domain; a newer stream of the same domain replaces the older one. Rules COMP-9 to COMP-14
 * (docs/rules/component.md).
 *
 * component.c has what parser and connection report, headers and ends; component_auth.c how a
 * component proves itself; component_rows.c the table. */
#ifndef TANDEM_XMPP_COMPONENT_H
#define TANDEM_XMPP_COMPONENT_H

#include "xmpp/access/asession.h"
#include "xmpp/access/stream.h"

enum comp_state {
	COMP_NEW,
	COMP_TLS,
	COMP_HEADER,
	COMP_HANDSHAKE, /* XEP-0114: waiting for <handshake/> */
	COMP_FEATURES,  /* 1.0: STARTTLS and SASL are offered */
	COMP_SASL,      /* a challenge is out */
	COMP_STEP,      /* the login is being worked at */
	COMP_MOVING,
	COMP_AUTHED_HEADER, /* 1.0 */
	COMP_AUTHED,        /* 1.0: XEP-0198 is offered */
	COMP_UP,
	COMP_CLOSING,
	COMP_CLOSED,
	COMP_STATES
};

enum comp_event {
	COMP_EV_PLAIN,
	COMP_EV_DIRECT,
	COMP_EV_TLS_UP,
	COMP_EV_HEADER,    /* ev: the root */
	COMP_EV_HANDSHAKE, /* ev: the element, here and below */
	COMP_EV_STARTTLS,
	COMP_EV_AUTH,
	COMP_EV_RESPONSE,
	COMP_EV_ABORT,
	COMP_EV_NEED, /* no initial response: ask for it */
	COMP_EV_CHALLENGE,
	COMP_EV_SUCCESS,
	COMP_EV_FAILURE,
	COMP_EV_ARRIVED,
	COMP_EV_ENABLE, /* <enable/> */
	COMP_EV_STANZA, /* the first one, without <enable/> */
	COMP_EV_ERROR,
	COMP_EV_CLOSE,
	COMP_EV_END,
	COMP_EV_TIMEOUT,
	COMP_EV_LOST,
	COMP_EVENTS
};

extern const struct fsm_def comp_fsm;

struct comp {
	struct stream st;      /* first; its first member is the machine */
	const char *condition; /* of the ERROR or END event; NULL: normal end */
	struct sl text, extra;
	struct login *login;
	const char *sasl_error; /* of COMP_EV_FAILURE */
	const char *mechanism;
	struct domain nobody; /* st.host when there is no such component; owns its name */
	uint8_t failures;
	bool tls_waits; /* <starttls/> came, the parser has not stopped behind it yet */
	bool handshake; /* TLS is being negotiated: nothing can be said */
};

/* A descriptor that was accepted; it is counted in addr. Takes fd. */
int comp_accept(struct worker *w, enum access_port port, int fd, struct addr_slot *addr,
		struct err *e);

/* ---- between the files of component
 * -------------------------------------------------------------- */

void comp_fail(struct comp *c, const char *condition, struct sl text);
void comp_depart(struct comp *c);
void comp_free(struct comp *c);
bool comp_is_tls(const struct comp *c);

bool comp_plain(const void *self, const void *ev);
bool comp_handshake_ok(const void *self, const void *ev);
bool comp_local(const void *self, const void *ev);
bool comp_external_ok(const void *self, const void *ev);
bool comp_mech_ok(const void *self, const void *ev);
bool comp_last_chance(const void *self, const void *ev);
bool comp_can_starttls(const void *self, const void *ev);
int comp_act_direct(void *self, const void *ev);
int comp_act_header(void *self, const void *ev);
int comp_act_features(void *self, const void *ev);
int comp_act_proceed(void *self, const void *ev);
int comp_act_tls_failure(void *self, const void *ev);
int comp_act_secure(void *self, const void *ev);
int comp_act_0114(void *self, const void *ev);
int comp_act_handshake(void *self, const void *ev);
int comp_act_not_authorized(void *self, const void *ev);
int comp_act_external(void *self, const void *ev);
int comp_act_external_refused(void *self, const void *ev);
int comp_act_auth(void *self, const void *ev);
int comp_act_auth_refused(void *self, const void *ev);
int comp_act_response(void *self, const void *ev);
int comp_act_abort(void *self, const void *ev);
int comp_act_need(void *self, const void *ev);
int comp_act_challenge(void *self, const void *ev);
int comp_act_success(void *self, const void *ev);
int comp_act_failure(void *self, const void *ev);
int comp_act_last_failure(void *self, const void *ev);
int comp_act_last_abort(void *self, const void *ev);
int comp_act_up(void *self, const void *ev);
int comp_act_authed_features(void *self, const void *ev);
int comp_act_enable(void *self, const void *ev);
int comp_act_error(void *self, const void *ev);
int comp_act_close(void *self, const void *ev);
int comp_act_timeout(void *self, const void *ev);
int comp_act_lost(void *self, const void *ev);

#endif
