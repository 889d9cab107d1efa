/* trace.h - tandemctl trace: a line for each stanza of one JID or number that enters or leaves a
 * stream. What is said is who, whom, kind, type and id: never the text.
 *
 * worker.trace is the list of a worker's watches, usually NULL, so that the way of a stanza pays
 * one test for it. */
#ifndef TANDEM_XMPP_TRACE_H
#define TANDEM_XMPP_TRACE_H

#include "xmpp/router/worker.h"

struct trace_table { /* one watch */
	struct trace_table *next;
	struct sl bare;                          /* a JID, */
	struct sl local;                         /* or the node part of any (a telephone number) */
	void (*line)(void *arg, struct sl line); /* in the worker's thread */
	void *arg;
};

void trace_add(struct worker *w, struct trace_table *t);
void trace_del(struct worker *w, struct trace_table *t);
/* Called with w->trace set. dir: "in" or "out"; own: the session's JID. */
void trace_stanza(struct worker *w, const char *dir, const struct jid *own,
		  const struct stanza *st);

#endif
