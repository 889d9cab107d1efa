/* trace.c - see trace.h. */
#include "xmpp/access/trace.h"

void trace_add(struct worker *w, struct trace_table *t)
{
	t->next = w->trace;
	w->trace = t;
}

void trace_del(struct worker *w, struct trace_table *t)
{
	for (struct trace_table **at = &w->trace; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			return;
		}
	}
}

static bool match(const struct trace_table *t, const struct jid *j)
{
	if (t->bare.n)
		return sl_eq(j->bare, t->bare);
	return t->local.n && sl_eq(j->local, t->local);
}

/* A slice as an argument of %.*s, cut to max octets; "-" when it is empty. */
#define CUT(s, max) (s).n == 0 ? 1 : (s).n > (max) ? (int)(max) : (int)(s).n, (s).n ? (s).p : "-"

void trace_stanza(struct worker *w, const char *dir, const struct jid *own, const struct stanza *st)
{
	struct sl type = xml_attr(st->root, SL("type"));
	char line[512];
	int n = 0;

	for (struct trace_table *t = w->trace; t; t = t->next) {
		if (!match(t, own) && !match(t, &st->from) && !match(t, &st->to))
			continue;
		if (n == 0)
			n = snprintf(
				line, sizeof(line),
				"ev=stanza.%s session=%.*s kind=%.*s type=%.*s from=%.*s to=%.*s "
				"id=%.*s",
				dir, CUT(own->full, 96), CUT(st->root->name, 10), CUT(type, 16),
				CUT(st->from.full, 96), CUT(st->to.full, 96), CUT(st->id, 48));
		t->line(t->arg, sl_mk(line, (size_t)n));
	}
}
