/* relay.c - the floor of the messages benchmark: a relay that only moves bytes.
 *
 * relay: listens on a free port of 127.0.0.1, which it prints, and joins connections two by two in
 * the order in which they come. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int partner[65536];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int listener(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&a, &len))
		fail("listen");
	printf("%u\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static void add(int ep, int fd)
{
	static int alone = -1;
	int one = 1;
	if (fd < 0 || fd >= (int)(sizeof partner / sizeof *partner))
		fail("accept");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (alone < 0) {
		alone = fd;
	} else {
		partner[fd] = alone;
		partner[alone] = fd;
		alone = -1;
	}
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void move(int fd)
{
	static char buf[65536];
	ssize_t n = recv(fd, buf, sizeof buf, 0);
	if (n <= 0) {
		close(fd);
		return;
	}
	for (ssize_t at = 0; at < n;) {
		ssize_t w = send(partner[fd], buf + at, (size_t)(n - at), MSG_NOSIGNAL);
		if (w < 0)
			return;
		at += w;
	}
}

int main(void)
{
	struct rlimit r;
	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	int ep = epoll_create1(0), ln = listener();
	struct epoll_event ev[256] = { { .events = EPOLLIN, .data.fd = ln } };
	epoll_ctl(ep, EPOLL_CTL_ADD, ln, ev);
	for (;;) {
		int n = epoll_wait(ep, ev, 256, -1);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == ln)
				add(ep, accept(ln, NULL, NULL));
			else
				move(ev[i].data.fd);
		}
	}
}
