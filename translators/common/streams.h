/* streams.h - the streams of a component to its server: one, or as many as our core takes, so that
 * neither side has all the work of a component in one thread (DESIGN section 5, COMP-19).
 *
 * The first stream learns how many the server takes; then the others are opened. What we send goes
 * by a hash of the conversation, always the same stream for the same one; while that stream is
 * away the conversation waits. What the core sends may come on any: it keeps the order. Each
 * stream has an XEP-0198 state of its own. Thread: the loop's. */
#ifndef TANDEM_TRANSLATORS_STREAMS_H
#define TANDEM_TRANSLATORS_STREAMS_H

#include "translators/common/component.h"

#define STREAMS_MAX 8u

struct streams;

struct streams_ops {
	/* How many there are from now on; none is up. Before the first on_up, and when it changes.
	 */
	void (*on_count)(void *arg, unsigned n);
	/* As in component_ops, with the stream's number. */
	void (*on_up)(void *arg, unsigned stream, struct component *c, bool custody);
	void (*on_down)(void *arg, unsigned stream, const char *reason);
	void (*on_stanza)(void *arg, struct stanza *st_take, struct component_ticket t);
	void (*on_acked)(void *arg, unsigned stream, uint64_t cookie);
};

/* cfg->index is not looked at. most: no more streams than this (1..STREAMS_MAX). */
int streams_new(struct loop *l, struct resolver *r, const struct component_cfg *cfg, unsigned most,
		const struct streams_ops *ops, void *arg, struct streams **s_r, struct err *e);
void streams_free(struct streams **s);
bool streams_up(const struct streams *s); /* all of them */
unsigned streams_count(const struct streams *s);
/* The stream of a stanza's conversation, of n: both bare JIDs, from its text. */
unsigned streams_choose(struct sl xml, unsigned n);
/* Where it belongs; as component_send. */
int streams_send(struct streams *s, struct sl xml, uint64_t cookie);
void streams_done(struct streams *s, struct component_ticket t);
void streams_again(struct streams *s, struct component_ticket t);

#endif
