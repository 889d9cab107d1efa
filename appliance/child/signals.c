/* signals.c - see signals.h. */
#include "appliance/child/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* The program's signal flags. */
static volatile sig_atomic_t got_term, got_hup, got_chld;
static volatile sig_atomic_t wake_fd = -1;

static void on_signal(int sig)
{
	int saved = errno;

	if (sig == SIGHUP)
		got_hup = 1;
	else if (sig == SIGCHLD)
		got_chld = 1;
	else
		got_term = 1;
	if (wake_fd >= 0) {
		ssize_t ignored = write((int)wake_fd, "s", 1);
		UNUSED(ignored);
	}
	errno = saved;
}

static void set(int sig, void (*fn)(int))
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = SA_RESTART };

	sigemptyset(&sa.sa_mask);
	if (sig == SIGCHLD)
		sa.sa_flags |= SA_NOCLDSTOP;
	sigaction(sig, &sa, NULL);
}

int signals_open(struct signals *s, enum signals_who who, struct err *e)
{
	sigset_t none;

	if (pipe(s->pipe) < 0)
		return err_errno(e, E_IO, "pipe");
	for (int i = 0; i < 2; i++) {
		fcntl(s->pipe[i], F_SETFD, FD_CLOEXEC);
		fcntl(s->pipe[i], F_SETFL, O_NONBLOCK);
	}
	s->open = true;
	wake_fd = s->pipe[1];
	set(SIGPIPE, SIG_IGN);
	set(SIGTERM, on_signal);
	set(SIGINT, who == SIGNALS_TANDEMD ? on_signal : SIG_IGN);
	set(SIGHUP, who == SIGNALS_TANDEMD ? on_signal : SIG_IGN);
	set(SIGCHLD, who == SIGNALS_TANDEMD ? on_signal : SIG_DFL);
	sigemptyset(&none); /* whoever started us may have blocked some */
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

static void readable(struct loop_fd *lf, unsigned ready)
{
	struct signals *s = container_of(lf, struct signals, lf);
	char drop[64];

	UNUSED(ready);
	while (read(s->pipe[0], drop, sizeof(drop)) > 0)
		;
	bool term = got_term != 0, hup = got_hup != 0, chld = got_chld != 0;
	/* Cleared after the pipe was emptied: a signal in between writes again. */
	if (term)
		got_term = 0;
	if (hup)
		got_hup = 0;
	if (chld)
		got_chld = 0;
	s->cb(s->arg, term, hup, chld);
}

int signals_attach(struct signals *s, struct loop *l,
		   void (*cb)(void *arg, bool term, bool hup, bool chld), void *arg, struct err *e)
{
	s->cb = cb;
	s->arg = arg;
	return loop_fd_add(l, &s->lf, s->pipe[0], LOOP_READ, readable, e);
}

void signals_wake(struct signals *s)
{
	ssize_t ignored = write(s->pipe[1], "w", 1);

	UNUSED(ignored);
}

void signals_close(struct signals *s)
{
	if (!s->open)
		return;
	wake_fd = -1;
	if (s->lf.loop)
		loop_fd_del(&s->lf);
	close(s->pipe[0]);
	close(s->pipe[1]);
	s->open = false;
}
