/* xml_token.c - long tokens on a stream. See xml_stream_priv.h.
 *
 * Expat scans an unfinished token again from its beginning with each call. So when one is long,
 * what comes is put aside until it can end the token or is a quarter of it: then the work is
 * linear, and a complete element is still delivered with its last octet (which expat's own way,
 * re-parse deferral, does not do). */
#include "xmpp/stream/xml_stream_priv.h"

#define LONG_TOKEN 1024u /* octets of an unfinished token from which on feeding is put off */

static enum token token_kind(struct sl t)
{
	if (t.p[0] == '&')
		return TOKEN_REFERENCE;
	if (t.p[0] != '<')
		return TOKEN_OTHER;
	return t.p[1] == '?'   ? TOKEN_PI
	       : t.p[1] != '!' ? TOKEN_TAG
	       : t.p[2] == '-' ? TOKEN_COMMENT
			       : TOKEN_OTHER;
}

/* More of the token; true if it may end in there. */
static bool token_scan(struct xml_stream *x, struct sl d)
{
	bool end = false;

	for (size_t i = 0; i < d.n; i++) {
		char c = d.p[i];
		switch (x->token) {
		case TOKEN_TAG:
			if (x->token_mark == c)
				x->token_mark = 0;
			else if (!x->token_mark && (c == '\'' || c == '"'))
				x->token_mark = c;
			else
				end |= c == '>' && !x->token_mark;
			break;
		case TOKEN_COMMENT:
		case TOKEN_PI:
			end |= c == '>' && x->token_mark == (x->token == TOKEN_PI ? '?' : '-');
			x->token_mark = c;
			break;
		case TOKEN_REFERENCE:
			end |= c == ';';
			break;
		default:
			break;
		}
	}
	return end;
}

/* After all that is there has been parsed: is there an unfinished long token? */
void xs_token_note(struct xml_stream *x)
{
	unsigned long n = x->p && x->fed != x->mark ? x->fed - xs_event_end(x) : 0;
	struct sl in = n >= LONG_TOKEN ? xs_unparsed(x) : SL_NULL;

	x->token = TOKEN_SHORT;
	if (in.n < n || n < LONG_TOKEN)
		return;
	in = sl_sub(in, in.n - n, in.n);
	x->token = (uint8_t)token_kind(in);
	x->token_mark = 0;
	token_scan(x, sl_sub(in, 1, in.n));
}

/* True if d has been put aside. */
bool xs_token_defer(struct xml_stream *x, struct sl d)
{
	unsigned long token = x->fed - xs_event_end(x);
	size_t n = xs_held(x).n + d.n,
	       enough = token / 4 < XML_HELD_MAX / 2 ? token / 4 : XML_HELD_MAX / 2;

	if (token_scan(x, d) || n >= enough || x->fed - x->mark + n > x->lim->stanza_octets)
		return false;
	xs_hold(x, d);
	return !x->fail;
}
