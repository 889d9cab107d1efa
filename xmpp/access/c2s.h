/* c2s.h - a client's stream (RFC 6120): its life is the machine in c2s_rows.c.
 *
 * c2s.c     headers, features, what the parser and the connection report
 * c2s_sasl.c   the login's XML
 * c2s_bound.c  binding, resumption, stanzas
 * c2s_rows.c   the table */
#ifndef TANDEM_XMPP_C2S_H
#define TANDEM_XMPP_C2S_H

#include "xmpp/access/asession.h"
#include "xmpp/access/login.h"
#include "xmpp/access/stream.h"

enum c2s_state {
	C2S_NEW,
	C2S_TLS,           /* handshake */
	C2S_HEADER,        /* waiting for a header, before login */
	C2S_FEATURES,      /* features are out, before login */
	C2S_SASL,          /* waiting for a response */
	C2S_STEP,          /* a login step is outstanding */
	C2S_MOVING,        /* on the way to the account's worker */
	C2S_AUTHED_HEADER, /* waiting for a header, after login */
	C2S_AUTHED,        /* features are out, after login */
	C2S_LOOKUP,        /* the store is asked about a session to resume */
	C2S_BINDING,       /* the router is asked */
	C2S_BOUND,
	C2S_CLOSING, /* our end tag is out */
	C2S_CLOSED,
	C2S_STATES
};

enum c2s_event {
	C2S_EV_PLAIN,  /* accepted where STARTTLS is spoken */
	C2S_EV_DIRECT, /* accepted where TLS comes first */
	C2S_EV_TLS_UP,
	C2S_EV_HEADER, /* ev: the root */
	C2S_EV_STARTTLS,
	C2S_EV_AUTH, /* ev: the element, here and below */
	C2S_EV_RESPONSE,
	C2S_EV_ABORT,
	C2S_EV_NEED,      /* the mechanism waits for the client's first message */
	C2S_EV_CHALLENGE, /* the login's answers */
	C2S_EV_SUCCESS,
	C2S_EV_FAILURE,
	C2S_EV_ARRIVED, /* in the account's worker */
	C2S_EV_BIND,    /* ev: struct stanza */
	C2S_EV_TAKEN,   /* the router's answers */
	C2S_EV_REFUSED,
	C2S_EV_RESUME, /* ev: the element */
	C2S_EV_FAILED, /* there is nothing to resume */
	C2S_EV_ERROR,  /* c->error says which */
	C2S_EV_CLOSE,  /* the client's end tag */
	C2S_EV_END,    /* we want to end; c->error, or without one */
	C2S_EV_TIMEOUT,
	C2S_EV_LOST,
	C2S_EVENTS
};

struct c2s_error {
	const char *condition; /* NULL: normal end */
	struct sl text, extra; /* borrowed for the event */
};

struct c2s {
	struct stream st; /* first; its first member is the machine */
	struct login *login;
	char *bare; /* after login; NUL-terminated */
	const char *mechanism;
	const char *sasl_error; /* of C2S_EV_FAILURE */
	struct stanza *bind_iq; /* while BINDING */
	struct c2s_lookup *lookup;
	struct c2s_error error;
	int bind_rc;
	uint8_t failures;
	bool tls_waits; /* <starttls/> came, the parser has not stopped behind it yet */
	bool handshake; /* TLS is being negotiated: nothing can be said */
};

extern const struct fsm_def c2s_fsm;

/* A descriptor that was accepted; it is counted in addr. Takes fd. */
int c2s_accept(struct worker *w, enum access_port port, int fd, struct addr_slot *addr,
	       struct err *e);

/* ---- between the files of c2s
 * ---------------------------------------------------------------------- */

/* What on_element returns in the state that it led to. */
int c2s_verdict(const struct c2s *c);
/* End the stream with an error, from outside the machine or from inside an action. */
void c2s_fail(struct c2s *c, const char *condition, struct sl text, struct sl extra);
bool c2s_is_tls(const struct c2s *c);
void c2s_depart(struct c2s *c);
void c2s_free(struct c2s *c);

/* Actions. */
int c2s_act_direct(void *self, const void *ev);
int c2s_act_features(void *self, const void *ev);
int c2s_act_proceed(void *self, const void *ev);
int c2s_act_tls_failure(void *self, const void *ev);
int c2s_act_authed_features(void *self, const void *ev);
int c2s_act_error(void *self, const void *ev);
int c2s_act_close(void *self, const void *ev);
int c2s_act_end(void *self, const void *ev);
int c2s_act_timeout(void *self, const void *ev);
int c2s_act_lost(void *self, const void *ev);
bool c2s_can_starttls(const void *self, const void *ev);

int c2s_act_auth(void *self, const void *ev);
int c2s_act_auth_refused(void *self, const void *ev);
int c2s_act_response(void *self, const void *ev);
int c2s_act_abort(void *self, const void *ev);
int c2s_act_need(void *self, const void *ev);
int c2s_act_challenge(void *self, const void *ev);
int c2s_act_success(void *self, const void *ev);
int c2s_act_failure(void *self, const void *ev);
int c2s_act_last_failure(void *self, const void *ev);
int c2s_act_last_abort(void *self, const void *ev);
bool c2s_mech_ok(const void *self, const void *ev);
bool c2s_last_refusal(const void *self, const void *ev);
bool c2s_last_failure(const void *self, const void *ev);

int c2s_act_bind(void *self, const void *ev);
int c2s_act_bound(void *self, const void *ev);
int c2s_act_bind_refused(void *self, const void *ev);
int c2s_act_resume(void *self, const void *ev);
int c2s_act_lookup(void *self, const void *ev);
int c2s_act_resume_failed(void *self, const void *ev);
bool c2s_can_resume(const void *self, const void *ev);
void c2s_lookup_forget(struct c2s *c);

/* First-level elements after login. Take a. */
int c2s_authed_element(struct c2s *c, struct arena *a_take, struct xml_node *n);
int c2s_bound_element(struct c2s *c, struct arena *a_take, struct xml_node *n);

#endif
