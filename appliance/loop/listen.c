/* listen.c - listening sockets: opening them (as root, before a loop exists) and accepting. */
#include "appliance/base/log.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/loop_int.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Accepts a turn: a flood of connections must not keep the established ones waiting. */
#define ACCEPTS_A_TURN 64
#define EMFILE_REST_MS 1000u

struct listener {
	struct loop_fd lf;
	struct loop_timer rest; /* armed while accepting rests after EMFILE */
	struct loop *loop;
	bool paused;
	bool accepting, freed; /* freed inside on_accept: acceptable() ends it */
	void (*on_accept)(void *arg, int fd);
	void *arg;
};

/* --- opening -------------------------------------------------------------------------------- */

static void address_text(const char *addr, uint16_t port, char *dst, size_t cap)
{
	snprintf(dst, cap, strchr(addr, ':') ? "[%s]:%u" : "%s:%u", addr, (unsigned)port);
}

static int bind_and_listen(int fd, const struct sockaddr *sa, socklen_t len, int backlog)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -1;
	if (bind(fd, sa, len) < 0)
		return -1;
	return listen(fd, backlog);
}

static int open_one(const struct sockaddr *sa, socklen_t len, bool v6only, int backlog)
{
	int fd = sys_socket(sa->sa_family, SOCK_STREAM), only = v6only, saved;

	if (fd < 0)
		return -1;
	if (sa->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
		goto fail;
	if (bind_and_listen(fd, sa, len, backlog) < 0)
		goto fail;
	return fd;
fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int open_any(uint16_t port, int backlog)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = open_one((struct sockaddr *)&any6, sizeof(any6), false, backlog);

	if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		fd = open_one((struct sockaddr *)&any4, sizeof(any4), false, backlog);
	return fd;
}

static int open_numeric(const char *addr, uint16_t port, int backlog, int *fd_r, struct err *e)
{
	struct addrinfo hint = { .ai_flags = AI_NUMERICHOST | AI_PASSIVE,
				 .ai_socktype = SOCK_STREAM };
	struct addrinfo *ai;
	char service[8];

	snprintf(service, sizeof(service), "%u", (unsigned)port);
	if (getaddrinfo(addr, service, &hint, &ai) != 0)
		return err_set(e, E_SYNTAX, NULL,
			       "\"%s\" is no IPv4 or IPv6 address (\"*\" means all)", addr);
	*fd_r = open_one(ai->ai_addr, ai->ai_addrlen, true, backlog);
	freeaddrinfo(ai);
	return 0;
}

int listen_open_tcp(const char *addr, uint16_t port, int backlog, int *fd_r, struct err *e)
{
	char text[CONN_ADDR_MAX];
	int fd = -1, rc;

	if (strcmp(addr, "*") == 0) {
		fd = open_any(port, backlog);
	} else {
		rc = open_numeric(addr, port, backlog, &fd, e);
		if (rc < 0)
			return rc;
	}
	address_text(addr, port, text, sizeof(text));
	if (fd < 0 && errno == EADDRINUSE)
		return err_set(e, E_EXISTS, NULL, "cannot listen on %s: in use by another program",
			       text);
	if (fd < 0 && errno == EACCES)
		return err_set(
			e, E_DENIED, NULL,
			"cannot listen on %s: Permission denied: a port below 1024 needs root",
			text);
	if (fd < 0)
		return err_errno(e, E_IO, "cannot listen on %s", text);
	*fd_r = fd;
	return 0;
}

/* 0: nothing is at path (any more). */
static int remove_stale(const char *path, const struct sockaddr_un *un, struct err *e)
{
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, E_IO, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, E_EXISTS, NULL, "%s exists and is no socket", path);
	fd = sys_socket(AF_UNIX, SOCK_STREAM);
	if (fd < 0)
		return err_errno(e, E_IO, "socket");
	rc = connect(fd, (const struct sockaddr *)un, sizeof(*un));
	if (rc < 0 && errno == ECONNREFUSED)
		rc = unlink(path) < 0 ? err_errno(e, E_IO, "cannot remove %s", path) : 0;
	else
		rc = err_set(e, E_EXISTS, NULL, "%s is in use by a running program", path);
	close(fd);
	return rc;
}

int listen_open_unix(const char *path, unsigned mode, int *fd_r, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd, rc;

	if (sl_to_cstr(sl_cstr(path), un.sun_path, sizeof(un.sun_path)) < 0)
		return err_set(e, E_TOOBIG, NULL, "socket path %s is longer than %zu octets", path,
			       sizeof(un.sun_path) - 1);
	rc = remove_stale(path, &un, e);
	if (rc < 0)
		return rc;
	fd = sys_socket(AF_UNIX, SOCK_STREAM);
	if (fd < 0)
		return err_errno(e, E_IO, "socket");
	/* Nobody can connect before listen(), so there is no moment with a wrong mode. */
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || chmod(path, (mode_t)mode) < 0 ||
	    listen(fd, 128) < 0) {
		rc = err_errno(e, E_IO, "cannot listen on %s", path);
		close(fd);
		return rc;
	}
	*fd_r = fd;
	return 0;
}

/* --- accepting ------------------------------------------------------------------------------ */

static void want(struct listener *ln)
{
	bool on = !ln->paused && !loop_timer_armed(&ln->rest);

	loop_fd_want(&ln->lf, on ? LOOP_READ : 0);
}

static void rest_over(struct loop_timer *t)
{
	want(container_of(t, struct listener, rest));
}

static bool out_of_something(int sys_errno)
{
	return sys_errno == EMFILE || sys_errno == ENFILE || sys_errno == ENOBUFS ||
	       sys_errno == ENOMEM;
}

static void rest_a_while(struct listener *ln, int sys_errno)
{
	log_ev(LOG_L_WARN, "listener.resting", KC("cause", strerror(sys_errno)),
	       KI("fd", ln->lf.fd), KU("ms", EMFILE_REST_MS));
	loop_timer_set(ln->loop, &ln->rest, EMFILE_REST_MS, rest_over);
	want(ln);
}

static void release(struct listener *ln)
{
	loop_timer_clear(&ln->rest);
	loop_fd_del(&ln->lf);
	close(ln->lf.fd);
	free(ln);
}

/* False: there is nothing more to accept now. */
static bool accept_one(struct listener *ln)
{
	int fd = sys_accept(ln->lf.fd);

	if (fd >= 0) {
		ln->on_accept(ln->arg, fd);
		return true;
	}
	if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
		return true; /* that one is gone, there may be more */
	if (out_of_something(errno))
		rest_a_while(ln, errno);
	return false;
}

static void acceptable(struct loop_fd *lf, unsigned ready)
{
	struct listener *ln = container_of(lf, struct listener, lf);
	int left = ACCEPTS_A_TURN;

	UNUSED(ready);
	ln->accepting = true;
	while (left-- && !ln->freed && !ln->paused && accept_one(ln))
		;
	ln->accepting = false;
	if (ln->freed)
		release(ln);
}

int listener_new_fd(struct loop *l, int fd, void (*on_accept)(void *arg, int fd), void *arg,
		    struct listener **ln_r, struct err *e)
{
	struct listener *ln = calloc(1, sizeof(*ln));
	int rc;

	if (!ln) {
		close(fd);
		return err_set(e, E_NOMEM, NULL, "no memory for a listener");
	}
	ln->loop = l;
	ln->on_accept = on_accept;
	ln->arg = arg;
	if (sys_fd_prepare(fd) < 0)
		rc = err_errno(e, E_IO, "descriptor %d", fd);
	else
		rc = loop_fd_add(l, &ln->lf, fd, LOOP_READ, acceptable, e);
	if (rc < 0) {
		close(fd);
		free(ln);
		return rc;
	}
	*ln_r = ln;
	return 0;
}

int listener_new_tcp(struct loop *l, const char *addr, uint16_t port, int backlog,
		     void (*on_accept)(void *arg, int fd), void *arg, struct listener **ln_r,
		     struct err *e)
{
	int fd, rc = listen_open_tcp(addr, port, backlog, &fd, e);

	return rc < 0 ? rc : listener_new_fd(l, fd, on_accept, arg, ln_r, e);
}

int listener_new_unix(struct loop *l, const char *path, unsigned mode,
		      void (*on_accept)(void *arg, int fd), void *arg, struct listener **ln_r,
		      struct err *e)
{
	int fd, rc = listen_open_unix(path, mode, &fd, e);

	return rc < 0 ? rc : listener_new_fd(l, fd, on_accept, arg, ln_r, e);
}

void listener_pause(struct listener *ln)
{
	ln->paused = true;
	want(ln);
}

void listener_resume(struct listener *ln)
{
	ln->paused = false;
	want(ln);
}

void listener_free(struct listener **lnp)
{
	struct listener *ln = *lnp;

	if (!ln)
		return;
	*lnp = NULL;
	ln->freed = true;
	if (!ln->accepting)
		release(ln);
}
