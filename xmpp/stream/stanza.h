/* stanza.h - a message, presence or iq: parsed once, checked once, then immutable and shared.
 *
 * Life: stanza_take wraps a tree that the parser made; its owner may still set from/to and strip or
 * add children; stanza_seal serialises the children once and makes it immutable; from then on it is
 * passed by reference count, between workers too. Each recipient gets its own start tag before, and
 * its own trailing children after, the shared middle. */
#ifndef TANDEM_XMPP_STANZA_H
#define TANDEM_XMPP_STANZA_H

#include <stdatomic.h>

#include "xmpp/stream/jid.h"
#include "xmpp/stream/xml.h"

enum stanza_kind { STANZA_MESSAGE, STANZA_PRESENCE, STANZA_IQ, STANZA_NONE };

enum stanza_type {
	ST_NONE, /* no type attribute (presence: available) */
	/* message */ ST_NORMAL,
	ST_CHAT,
	ST_GROUPCHAT,
	ST_HEADLINE,
	/* presence */ ST_UNAVAILABLE,
	ST_SUBSCRIBE,
	ST_SUBSCRIBED,
	ST_UNSUBSCRIBE,
	ST_UNSUBSCRIBED,
	ST_PROBE,
	/* iq */ ST_GET,
	ST_SET,
	ST_RESULT,
	/* all */ ST_ERROR,
	ST_UNKNOWN /* a type that the RFC does not have: message -> normal; presence, iq ->
		      bad-request */
};

struct stanza {
	_Atomic uint32_t refs;
	bool sealed;
	uint8_t kind, type; /* enum stanza_kind, stanza_type */
	struct arena *arena;
	struct xml_node *root;
	struct jid from, to; /* parsed; null when absent */
	struct sl id;
	struct sl head;   /* after seal: attributes but to and from, serialised, with a space before
			     each */
	struct sl middle; /* after seal: children, serialised */
	uint32_t wire_octets; /* as it came in (set by who read it); 0 for our own */
};

/* Wrap a first-level element; takes the arena. 0 and *s_r; E_SYNTAX: not a stanza (kind
 * STANZA_NONE; the caller answers unsupported-stanza-type); a malformed to or from gives 0 with
 * *jid_bad_r set, the reason in e and that JID null (the stanza error is jid-malformed). E_NOMEM.
 * On error the arena is still the caller's. */
int stanza_take(struct arena *a_take, struct xml_node *root, struct stanza **s_r, bool *jid_bad_r,
		struct err *e);
/* A new one of ours, with its own arena; everything is copied. Null jids and empty id: absent.
 * Build children with xml_add(s->arena, s->root, ...). E_NOMEM. */
int stanza_new(enum stanza_kind k, enum stanza_type t, const struct jid *from, const struct jid *to,
	       struct sl id, struct stanza **s_r);
/* Before seal. The JID is copied; NULL or null: removed. The attribute in the tree follows. 0,
 * E_NOMEM. */
int stanza_set_from(struct stanza *s, const struct jid *from);
int stanza_set_to(struct stanza *s, const struct jid *to);
/* Serialise; nothing may change from here on. 0 (also when it is sealed already); E_TOOBIG: that
 * would be beyond the cap of its arena; E_NOMEM. */
int stanza_seal(struct stanza *s);
/* Any thread; the last reference frees. */
struct stanza *stanza_ref(struct stanza *s);
void stanza_unref(struct stanza **s);

/* Memory that it takes: what it was read from is a fraction of it. */
size_t stanza_memory(const struct stanza *s);

/* Serialise for one recipient. to/from NULL: as in the stanza; a null JID: none. extra: serialised
 * children that only this recipient gets, after the middle. Sealed only. stanza_wire_max gives an
 * upper bound of what stanza_wire_put writes (and returns). stanza_wire appends to out: 0,
 * E_TOOBIG, E_NOMEM. */
size_t stanza_wire_max(const struct stanza *s, const struct jid *from, const struct jid *to,
		       struct sl extra);
size_t stanza_wire_put(const struct stanza *s, const struct jid *from, const struct jid *to,
		       struct sl extra, char *dst);
int stanza_wire(struct buf *out, const struct stanza *s, const struct jid *from,
		const struct jid *to, struct sl extra);

/* ---- errors ---------------------------------------------------------------------------------- */

/* RFC 6120 8.3.3, with the error type that each one usually has. */
enum stanza_cond {
	SC_BAD_REQUEST,
	SC_CONFLICT,
	SC_FEATURE_NOT_IMPLEMENTED,
	SC_FORBIDDEN,
	SC_GONE,
	SC_INTERNAL_SERVER_ERROR,
	SC_ITEM_NOT_FOUND,
	SC_JID_MALFORMED,
	SC_NOT_ACCEPTABLE,
	SC_NOT_ALLOWED,
	SC_NOT_AUTHORIZED,
	SC_POLICY_VIOLATION,
	SC_RECIPIENT_UNAVAILABLE,
	SC_REDIRECT,
	SC_REGISTRATION_REQUIRED,
	SC_REMOTE_SERVER_NOT_FOUND,
	SC_REMOTE_SERVER_TIMEOUT,
	SC_RESOURCE_CONSTRAINT,
	SC_SERVICE_UNAVAILABLE,
	SC_SUBSCRIPTION_REQUIRED,
	SC_UNDEFINED_CONDITION,
	SC_UNEXPECTED_REQUEST,
	SC_MAX
};
struct sl stanza_cond_name(enum stanza_cond c);
const char *stanza_cond_type(enum stanza_cond c); /* "cancel", "wait", "modify", "auth" */
/* The error answer to s: same kind, id, to and from swapped, type error, condition and (if any)
 * text; the original children are not echoed. 0 with *s_r NULL when s must not be answered (an
 * error, or an iq result). type NULL: the usual. Not sealed yet, so that the caller may add an
 * application condition (to xml_child(root, NS_STANZA, "error")). E_NOMEM. */
int stanza_error_reply(const struct stanza *s, enum stanza_cond c, const char *type, struct sl text,
		       struct stanza **s_r);
/* An iq result to s, not sealed: the payload, if any, goes below (*s_r)->root, built in
 * (*s_r)->arena. E_NOMEM. */
int stanza_iq_result(const struct stanza *s, struct stanza **s_r);

/* ---- what a message promises (DESIGN section 4) ------------------------------------------------
 */

/* True for what the server must take custody of: messages of type normal or chat (an unknown type
 * is normal; headline, groupchat and error promise nothing) without <no-store/>, that have <store/>
 * or a child worth storing. Not worth it alone: chat states, chat markers (XEP-0333 adds <store/>
 * to those that matter), hints, ids, delays, threads and nicknames. XEP-0160, XEP-0334, XEP-0085.
 */
bool stanza_promises(const struct stanza *s);
/* The XEP-0359 origin-id, or empty. */
struct sl stanza_origin_id(const struct stanza *s);

#endif
