/* xml_ns.c - the namespaces and names that the product knows, found by hash. See xml.h.
 *
 * Both tables are filled once, before main() (library initialisation in the sense of STYLE section
 * 9), and only read from then on. The hash takes the length and eight octets, so a look-up costs a
 * few nanoseconds whatever the length; what a peer chooses never enters the tables, so it cannot
 * make them slow. */
#include "xmpp/stream/xml_priv.h"

#define NS_SLOTS   256u
#define NAME_SLOTS 1024u

static const struct sl ns_uris[NS_MAX] = {
#define X(id, uri) [id] = { uri, sizeof(uri) - 1 },
#include "xmpp/stream/xml_ns.def"
#undef X
};

static const struct sl names[] = {
#define X(name) { #name, sizeof(#name) - 1 },
#include "xmpp/stream/xml_names.def"
#undef X
};

_Static_assert(NS_MAX < NS_SLOTS / 2, "make NS_SLOTS larger");
_Static_assert(ARRAY_LEN(names) < NAME_SLOTS / 2, "make NAME_SLOTS larger");

static uint8_t ns_slot[NS_SLOTS];      /* enum xml_ns; 0: empty */
static uint16_t name_slot[NAME_SLOTS]; /* index in names + 1; 0: empty */

static inline uint32_t load32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static inline uint64_t load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* Length and last eight octets (fewer: all of them, overlapping), mixed; the high bits are good. */
static inline uint64_t mix(const char *p, size_t n)
{
	uint64_t v;

	if (n >= 8)
		v = load64(p + n - 8);
	else if (n >= 4)
		v = load32(p) | (uint64_t)load32(p + n - 4) << 32;
	else if (n)
		v = (unsigned char)p[0] | (uint64_t)(unsigned char)p[n / 2] << 8 |
		    (uint64_t)(unsigned char)p[n - 1] << 16;
	else
		v = 0;
	return (v ^ n * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
}

static inline bool same(struct sl a, struct sl b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

__attribute__((constructor)) static void fill_tables(void)
{
	for (unsigned i = NS_NONE + 1; i < NS_OTHER; i++) {
		size_t k = mix(ns_uris[i].p, ns_uris[i].n) >> 56;
		while (ns_slot[k % NS_SLOTS])
			k++;
		ns_slot[k % NS_SLOTS] = (uint8_t)i;
	}
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		size_t k = mix(names[i].p, names[i].n) >> 54;
		while (name_slot[k % NAME_SLOTS])
			k++;
		name_slot[k % NAME_SLOTS] = (uint16_t)(i + 1);
	}
}

struct sl xml_ns_uri(enum xml_ns ns)
{
	if (ns <= NS_NONE || ns >= NS_OTHER || ns == NS_STANZA)
		return SL_NULL;
	return ns_uris[ns];
}

enum xml_ns xml_ns_find(struct sl uri)
{
	if (uri.n == 0)
		return NS_NONE;
	for (size_t k = mix(uri.p, uri.n) >> 56; ns_slot[k % NS_SLOTS]; k++)
		if (same(ns_uris[ns_slot[k % NS_SLOTS]], uri))
			return (enum xml_ns)ns_slot[k % NS_SLOTS];
	if (sl_eq(uri, SL("jabber:server")) || sl_eq(uri, SL("jabber:component:accept")))
		return NS_STANZA;
	return NS_OTHER;
}

struct sl xml_name_intern(struct sl name)
{
	if (name.n == 0)
		return SL_NULL;
	for (size_t k = mix(name.p, name.n) >> 54; name_slot[k % NAME_SLOTS]; k++)
		if (same(names[name_slot[k % NAME_SLOTS] - 1], name))
			return names[name_slot[k % NAME_SLOTS] - 1];
	return SL_NULL;
}
