/* xml_recorder.h - a stream parser whose events are written down as text, so that ways of feeding
 * it can be compared: "O<root .../>" "E<element/>" "C" and, at the end, "!stream-error". */
#ifndef TANDEM_TESTS_XML_RECORDER_H
#define TANDEM_TESTS_XML_RECORDER_H

#include "xmpp/stream/xml.h"

struct recorder {
	struct buf log;
	struct xml_pool *pool[2];
	struct xml_stream *x;
	bool pause;         /* at every stanza */
	bool out_of_memory; /* the log itself ran into it */
	int stop_after;     /* elements; then on_element returns E_DENIED. 0: never */
	unsigned elements;
	size_t arena_used;                      /* by the last element */
	void (*look)(const struct xml_node *n); /* at each element; may be NULL */
};

extern const struct xml_stream_ops recorder_ops;
extern const struct xml_limits recorder_limits;

int recorder_init(struct recorder *r, const struct xml_limits *lim); /* 0, E_NOMEM */
void recorder_free(struct recorder *r);
/* Feed, resuming as often as it pauses. Writes "!clause" behind the log when it fails. */
int recorder_feed(struct recorder *r, struct sl data);

#endif
