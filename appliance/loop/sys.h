/* sys.h - the system calls that differ between targets, behind one name each.
 *
 * CONFIG_SYS_EVENTFD, CONFIG_SYS_ACCEPT4 and CONFIG_SYS_EPOLL_CREATE1 (Kconfig; all off for
 * TARGET_RHEL_AS4, kernel 2.6.9 and glibc 2.3.4) choose the newer call; without them only calls and
 * flags of that age are compiled in. The difference that remains is a moment in which a fork in
 * another thread could inherit a descriptor; our processes fork before they start threads. */
#ifndef TANDEM_LOOP_SYS_H
#define TANDEM_LOOP_SYS_H

#include "appliance/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef CONFIG_SYS_EVENTFD
#include <sys/eventfd.h>
#endif
#ifdef CONFIG_SYS_EPOLL_CREATE1
#include <sys/epoll.h>
#endif

/* Non-blocking and close-on-exec. 0, or -1 with errno. */
static inline int sys_fd_prepare(int fd)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0)
		return -1;
	if (!(fl & O_NONBLOCK) && fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0)
		return -1;
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 : 0;
}

/* The same, for a descriptor that was just made: closed on failure. Returns fd or -1. */
static inline int sys_fd_fresh(int fd)
{
	if (fd >= 0 && sys_fd_prepare(fd) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* Descriptors from this number on cannot be opened by this process. */
static inline int sys_fd_end(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int)r.rlim_cur;
}

/* A wake-up channel: poll r for reading, ring w. They are one descriptor where eventfd exists. */
struct sys_wake {
	int r, w;
};

#ifdef CONFIG_SYS_EVENTFD
static inline int sys_wake_open(struct sys_wake *k)
{
	k->r = k->w = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return k->r < 0 ? -1 : 0;
}
#else
static inline int sys_wake_open(struct sys_wake *k)
{
	int p[2];

	if (pipe(p) < 0)
		return -1;
	if (sys_fd_prepare(p[0]) < 0 || sys_fd_prepare(p[1]) < 0) {
		close(p[0]);
		close(p[1]);
		return -1;
	}
	k->r = p[0];
	k->w = p[1];
	return 0;
}
#endif

static inline void sys_wake_close(struct sys_wake *k)
{
	close(k->r);
	if (k->w != k->r)
		close(k->w);
	k->r = k->w = -1;
}

/* A full pipe is as good as a ring: the reader is already awake. */
static inline void sys_wake_ring(const struct sys_wake *k)
{
	const uint64_t one = 1;
	ssize_t n;

	do
		n = write(k->w, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

static inline void sys_wake_drain(const struct sys_wake *k)
{
	char b[256];
	ssize_t n;

	do
		n = read(k->r, b, sizeof(b));
	while ((n < 0 && errno == EINTR) || n == (ssize_t)sizeof(b));
}

/* accept, non-blocking and close-on-exec. fd, or -1 with errno. */
#ifdef CONFIG_SYS_ACCEPT4
static inline int sys_accept(int fd)
{
	return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static inline int sys_socket(int family, int type)
{
	return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}
#else
static inline int sys_accept(int fd)
{
	return sys_fd_fresh(accept(fd, NULL, NULL));
}

static inline int sys_socket(int family, int type)
{
	return sys_fd_fresh(socket(family, type, 0));
}
#endif

#ifdef CONFIG_SYS_EPOLL_CREATE1
#define sys_epoll_create() epoll_create1(EPOLL_CLOEXEC)
#else
#define sys_epoll_create() sys_fd_fresh(epoll_create(64))
#endif

#endif
