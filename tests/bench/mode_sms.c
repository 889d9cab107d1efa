/* mode_sms.c - chat messages to many telephone numbers, as fast as the server takes them.
 *
 * With --sm a sender has at most --window messages that the server has not acknowledged; without it
 * TCP alone holds it back. Says when the first was sent (CLOCK_MONOTONIC), so that whoever runs the
 * SMSC can tell how long it took until the last was answered there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/xl.h"

static uint64_t sent, errors;
static uint64_t acked;

static void ready(struct xl_conn *c)
{
	(void)c;
}

static void fill(struct xl_conn *c)
{
	unsigned room = xl_opt.window - (c->sent - c->acked);
	if (!xl_opt.sm)
		room = c->nout < 65536 ? 64 : 0;
	for (unsigned i = 0; i < room && sent < xl_opt.messages; i++) {
		/* A stride that is prime to the count visits all numbers in a scattered order. */
		unsigned number = (unsigned)(sent * 7919 % xl_opt.numbers);
		xl_writef(
			c,
			"<message to='+1555%07u@%s' type='chat' id='s%llu'><body>Message %llu: the "
			"quick brown fox jumps over the lazy dog, and over the lazy dog it "
			"jumps again.</body></message>",
			number, xl_opt.sms_domain, (unsigned long long)sent,
			(unsigned long long)sent);
		sent++;
		c->sent++;
		if (xl_opt.sm && c->sent % 32 == 0)
			xl_write(c, "<r xmlns='urn:xmpp:sm:3'/>", 26);
	}
}

static void stanza(struct xl_conn *c, const char *s, size_t n)
{
	char text[256];
	if (xl_is(s, n, "a") && xl_attribute(s, n, "h", text, sizeof text)) {
		uint32_t h = (uint32_t)strtoul(text, NULL, 10);
		acked += h - c->acked;
		c->acked = h;
		fill(c);
	} else if (xl_is(s, n, "message") && xl_attribute(s, n, "type", text, sizeof text) &&
		   !strcmp(text, "error")) {
		if (!errors++)
			fprintf(stderr, "xmppload: %.*s\n", (int)n, s);
	}
}

static const struct xl_ops ops = { ready, stanza };

int mode_sms(void)
{
	struct xl_conn **conn = calloc(xl_opt.sessions, sizeof(struct xl_conn *));
	if (!conn)
		xl_die("out of memory");
	xl_open(xl_opt.sessions, &ops, conn);
	uint64_t start = xl_now_ns(), told = 0;
	bool asked = false;
	for (;;) {
		for (unsigned i = 0; i < xl_opt.sessions; i++)
			fill(conn[i]);
		if (sent == xl_opt.messages && xl_opt.sm && !asked) {
			asked = true;
			for (unsigned i = 0; i < xl_opt.sessions; i++)
				xl_write(conn[i], "<r xmlns='urn:xmpp:sm:3'/>", 26);
		}
		xl_turn(100);
		size_t waiting = 0;
		for (unsigned i = 0; i < xl_opt.sessions; i++)
			waiting += conn[i]->nout + (xl_opt.sm ? conn[i]->sent - conn[i]->acked : 0);
		if (!told && sent == xl_opt.messages && !waiting)
			break;
		if (xl_now_ns() - start > 180000000000u)
			xl_die("after 180 s: %llu sent, %llu acknowledged",
			       (unsigned long long)sent, (unsigned long long)acked);
	}
	double seconds = (double)(xl_now_ns() - start) / 1e9;
	printf("{\"start_ns\": %llu, \"sent\": %llu, \"acked\": %llu, \"errors\": %llu, \"seconds\": %.3f}\n",
	       (unsigned long long)start, (unsigned long long)sent, (unsigned long long)acked,
	       (unsigned long long)errors, seconds);
	fflush(stdout);
	/* Stay until the caller has seen the last answer at the SMSC. */
	char c;
	while (fread(&c, 1, 1, stdin) == 1)
		;
	return errors ? 1 : 0;
}
