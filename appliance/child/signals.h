/* signals.h - SIGTERM, SIGHUP and SIGCHLD as events of a loop, and a wake-up from other threads.
 *
 * A handler sets a flag and writes to a pipe (the self-pipe trick works on every target). One
 * struct signals a process: the flags and the descriptor are the program's signal flags (base.h).
 */
#ifndef TANDEM_CHILD_SIGNALS_H
#define TANDEM_CHILD_SIGNALS_H

#include "appliance/base/base.h"
#include "appliance/loop/loop.h"

enum signals_who {
	SIGNALS_CHILD,   /* TERM is an event; INT, HUP and PIPE are ignored: tandemd decides */
	SIGNALS_TANDEMD, /* TERM and INT are one event, HUP and CHLD too; PIPE is ignored */
};

struct signals {
	int pipe[2];
	bool open;
	struct loop_fd lf;
	void (*cb)(void *arg, bool term, bool hup, bool chld);
	void *arg;
};

int signals_open(struct signals *s, enum signals_who who, struct err *e);
/* cb: from the loop, after a signal or signals_wake (then all may be false). */
int signals_attach(struct signals *s, struct loop *l,
		   void (*cb)(void *arg, bool term, bool hup, bool chld), void *arg, struct err *e);
void signals_wake(struct signals *s); /* any thread */
void signals_close(struct signals *s);

#endif
