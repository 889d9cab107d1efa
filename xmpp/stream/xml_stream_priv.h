/* xml_stream_priv.h - what the files of the stream parser share: xml_stream.c (feeding, life),
 * xml_read.c (expat's events to trees), xml_token.c (long tokens). Nobody else includes it. */
#ifndef TANDEM_XMPP_XML_STREAM_PRIV_H
#define TANDEM_XMPP_XML_STREAM_PRIV_H

#include <expat.h>

#include "xmpp/stream/xml_priv.h"

#define XS_KEEP_OCTETS \
	(16u << 10) /* a parser that has seen a larger stanza is not kept as a spare */
#define SEP '\x01'  /* cannot occur in XML, not even as a character reference */

enum token { TOKEN_SHORT, TOKEN_TAG, TOKEN_REFERENCE, TOKEN_COMMENT, TOKEN_PI, TOKEN_OTHER };

struct xml_stream {
	XML_Parser p; /* NULL: parked, or nothing fed yet */
	struct xml_pool *pool;
	const struct xml_limits *lim;
	const struct xml_stream_ops *ops;
	void *self;
	struct arena *a;      /* of the stanza being read */
	struct xml_node *cur; /* innermost open element; NULL between stanzas */
	char *text_end;       /* where the last text node may grow in place; NULL: it may not */
	unsigned long fed, mark;
	uint64_t octets;
	struct buf *held; /* not given to expat yet: came while paused. NULL: nothing */
	char *header;     /* to prime a parser with, when it is not common_header */
	const char *fail_clause, *fail_text;
	int fail;                      /* error code; 0: none */
	uint32_t level, nodes, odd;    /* level: open elements, the root included */
	uint32_t stanza_octets;        /* of the last stanza */
	bool open, closed;             /* the root's start tag, end tag has been read */
	bool paused;                   /* as the owner asked */
	bool suspended;                /* expat holds octets that it has not parsed */
	bool busy, dead, want_restart; /* inside a call; freed, restarted in a callback */
	bool recycle, big;             /* replace the parser now; do not keep it as a spare */
	bool given_arena;              /* xml_parse_one */
	uint8_t token;                 /* enum token: what long token is unfinished */
	char token_mark;               /* in it: the open quote, or the octet before */
};

/* xml_read.c */
void xs_install(struct xml_stream *x); /* the handlers of x->p */
/* Note an error, unless there is one, and stop expat. */
void xs_fail(struct xml_stream *x, int code, const char *clause, const char *text);
void xs_fail_nomem(struct xml_stream *x);
void xs_fail_limit(struct xml_stream *x, const char *text);
void xs_expat_failed(struct xml_stream *x); /* the same for an error of expat's */
/* Fail if something other than an element begins between two stanzas. */
void xs_check_between(struct xml_stream *x);
/* Octets of white space at the front. */
size_t xs_count_space(struct sl s);
/* Where the event that expat reports, or reported last, ends, in octets given to it. */
unsigned long xs_event_end(const struct xml_stream *x);
/* What expat has been given behind x->mark. */
struct sl xs_unparsed(const struct xml_stream *x);

/* xml_token.c */
void xs_token_note(struct xml_stream *x);
bool xs_token_defer(struct xml_stream *x, struct sl d);

/* xml_stream.c */
struct sl xs_held(const struct xml_stream *x);
void xs_hold(struct xml_stream *x, struct sl d); /* may xs_fail */

#endif
