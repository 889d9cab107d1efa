/* fuzz_jid.c - octets as a JID, a password and text to escape: preparation changes nothing the
 * second time. */
#include "appliance/base/enc.h"
#include "xmpp/stream/jid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

typedef int prep_fn(struct arena *a, struct sl in, struct sl *out_r, struct err *e);

static void check_prep(struct arena *a, prep_fn *prep, struct sl in)
{
	struct sl out, again;
	struct err e;

	if (prep(a, in, &out, &e) < 0)
		return;
	check(out.n > 0 && utf8_valid(out));
	check(prep(a, out, &again, &e) == 0 && again.p == out.p && again.n == out.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sl in = sl_mk((const char *)data, size), esc, back;
	struct jid j, k;
	struct err e;

	if (size > 5000)
		return 0;
	struct arena *a = arena_new(4096, 4u << 20);
	check(a);
	if (jid_parse(a, in, &j, &e) == 0) {
		check(utf8_valid(j.full) && j.full.n <= JID_MAX && j.domain.n > 0);
		check(j.local.n <= JID_PART_MAX && j.domain.n <= JID_PART_MAX &&
		      j.resource.n <= JID_PART_MAX);
		check(jid_parse(a, j.full, &k, &e) == 0 && k.full.p == j.full.p && jid_eq(&j, &k));
		check(sl_eq(k.local, j.local) && sl_eq(k.domain, j.domain) &&
		      sl_eq(k.resource, j.resource));
	}
	check_prep(a, jid_prep_local, in);
	check_prep(a, jid_prep_domain, in);
	check_prep(a, jid_prep_resource, in);
	check_prep(a, precis_password, in);
	if (jid_escape_local(a, in, &esc) == 0) {
		for (const char *c = " \"&'/:<>@"; *c; c++)
			check(sl_find(esc, *c, 0) == esc.n);
		check(jid_unescape_local(a, esc, &back) == 0 && sl_eq(back, in));
	}
	arena_free(&a);
	return 0;
}
