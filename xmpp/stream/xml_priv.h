/* xml_priv.h - what the files of the XML code share and nobody else needs. */
#ifndef TANDEM_XMPP_XML_PRIV_H
#define TANDEM_XMPP_XML_PRIV_H

#include "xmpp/stream/xml.h"

/* A well-known element or attribute name as a slice of static storage; SL_NULL if it is not one. */
struct sl xml_name_intern(struct sl name);

/* A bounded writer: what does not fit is counted but not written, so that one pass either writes
 * all or says how much room it needs. */
struct xml_out {
	char *p, *end;
	size_t need;
};

static inline void xml_out_init(struct xml_out *w, char *dst, size_t cap)
{
	w->p = dst;
	w->end = dst ? dst + cap : dst;
	w->need = 0;
}

static inline void xml_out_put(struct xml_out *w, const char *s, size_t n)
{
	w->need += n;
	if (n > (size_t)(w->end - w->p)) {
		w->end = w->p; /* nothing behind a gap */
		return;
	}
	if (n) {
		memcpy(w->p, s, n);
		w->p += n;
	}
}

#define XML_OUT_LIT(w, lit) xml_out_put((w), (lit), sizeof(lit) - 1)

static inline void xml_out_sl(struct xml_out *w, struct sl s)
{
	xml_out_put(w, s.p, s.n);
}

/* As the value of an attribute in single quotes; as text between tags. */
void xml_out_value(struct xml_out *w, struct sl s);
void xml_out_text(struct xml_out *w, struct sl s);
/* All attributes of n but plain "to" and "from" if skip_addresses; with the declarations that they
 * need. */
void xml_out_attrs(struct xml_out *w, const struct xml_node *n, bool skip_addresses);
/* The children of n, inside the default namespace NS_STANZA. */
void xml_out_children(struct xml_out *w, const struct xml_node *n);

#endif
