/* negotiate.h - what the streams of clients and of components have in common before they are
 * established (RFC 6120 sections 5 and 6): STARTTLS, and the XML and base64 around login.h. The
 * machines themselves are c2s_rows.c and component_rows.c. */
#ifndef TANDEM_XMPP_NEGOTIATE_H
#define TANDEM_XMPP_NEGOTIATE_H

#include "xmpp/access/login.h"
#include "xmpp/access/stream.h"

struct tls_ctx;

/* The parser has stopped behind <starttls/>: <proceed/> and the handshake. 0; E_DENIED: something
 * came with it (5.4.3.3), or somebody in the middle could put words into the peer's mouth: the
 * caller ends the stream with policy-violation; other errors: the connection has been killed. */
int negotiate_tls(struct stream *s, struct tls_ctx *ctx);

/* <mechanisms/>, and the channel bindings where there is TLS. how: LOGIN_TLS, LOGIN_COMPONENT. */
void negotiate_mechanisms(const struct stream *s, unsigned how, struct buf *b);
/* <challenge/> or <success/>. */
void negotiate_data(struct stream *s, const char *element, bool has_data, struct sl data);
void negotiate_failure(struct stream *s, const char *condition);
/* The text of <auth/> or <response/>, decoded, to the login. NULL: its answer comes by and by; else
 * the SASL error, at once. */
const char *negotiate_feed(struct login *l, const struct xml_node *n);
/* A login failed: counted and logged. l may be NULL. */
void negotiate_failed(struct stream *s, const struct login *l, const char *condition);

#endif
