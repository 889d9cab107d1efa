/* client.c - see client.h. */
#include "appliance/ctl/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "appliance/child/frame.h"

static const char *unreachable_hint(int why)
{
	if (why == EACCES || why == EPERM)
		return "; its owner may, and the group that control_group names";
	return "; is it running, and is that the socket (--control PATH)?";
}

int client_open(struct client *c, const char *path, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	*c = (struct client){ .fd = -1 };
	buf_init(&c->in, FRAME_CONTROL_MAX + 4);
	if (sl_to_cstr(sl_cstr(path), un.sun_path, sizeof(un.sun_path)) < 0)
		return err_set(e, E_CLOSED, NULL,
			       "%.60s...: a socket's path has at most 107 octets", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0)
		return err_errno(e, E_CLOSED, "socket");
	fcntl(c->fd, F_SETFD, FD_CLOEXEC);
	if (connect(c->fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		err_set(e, E_CLOSED, NULL, "cannot reach tandemd at %s: %s%s", path,
			strerror(errno), unreachable_hint(errno));
		client_close(c);
		return E_CLOSED;
	}
	return 0;
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	frame_buf_free(&c->in);
}

static int send_msg(struct client *c, json_t *msg, struct err *e)
{
	struct buf b;
	int rc;

	buf_init(&b, FRAME_CONTROL_MAX + 4);
	rc = msg ? frame_put(&b, msg, FRAME_CONTROL_MAX) : E_SYNTAX;
	json_decref(msg);
	if (rc < 0)
		err_set(e, rc, NULL, "the request cannot be sent: %s",
			rc == E_SYNTAX ? "an argument is not UTF-8" : e_name(rc));
	for (size_t off = 0; rc == 0 && off < b.n;) {
		ssize_t n = send(c->fd, buf_sl(&b).p + off, b.n - off, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = err_errno(e, E_CLOSED, "tandemd has closed the connection");
		else
			off += (size_t)n;
	}
	frame_buf_free(&b);
	return rc;
}

uint64_t client_send(struct client *c, const char *command, json_t *args, struct err *e)
{
	json_t *msg = json_pack("{s:I,s:s,s:o}", "id", (json_int_t)++c->last_id, "command", command,
				"args", args ? args : json_object());

	return send_msg(c, msg, e) < 0 ? 0 : c->last_id;
}

int client_cancel(struct client *c, uint64_t id, struct err *e)
{
	return send_msg(c, json_pack("{s:I}", "cancel", (json_int_t)id), e);
}

int client_receive(struct client *c, int wait_ms, json_t **msg_r, struct err *e)
{
	char chunk[16384];
	int rc;

	while ((rc = frame_take(&c->in, FRAME_CONTROL_MAX, msg_r, e)) == 0) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		size_t room = c->in.max - c->in.n;
		int n = poll(&p, 1, wait_ms);
		if (n == 0)
			return err_set(e, E_TIMEOUT, NULL, "tandemd does not answer");
		if (n < 0)
			return err_errno(e, errno == EINTR ? E_AGAIN : E_CLOSED, "poll");
		ssize_t got = read(c->fd, chunk, room < sizeof(chunk) ? room : sizeof(chunk));
		if (got <= 0)
			return err_set(e, E_CLOSED, NULL, "tandemd has closed the connection");
		if (buf_add(&c->in, sl_mk(chunk, (size_t)got)) < 0)
			return err_set(e, E_NOMEM, NULL, "out of memory");
	}
	return rc < 0 ? rc : 0;
}

int client_call(struct client *c, const char *command, json_t *args, int wait_ms, json_t **answer_r,
		struct err *e)
{
	uint64_t id = client_send(c, command, args, e);

	if (id == 0)
		return e->code;
	for (;;) {
		json_t *msg;
		int rc = client_receive(c, wait_ms, &msg, e);
		if (rc == E_AGAIN)
			continue;
		if (rc < 0)
			return rc;
		/* Without an id it is a refusal of the connection as such. */
		if ((frame_id(msg) == id && !json_object_get(msg, "event")) || frame_id(msg) == 0) {
			*answer_r = msg;
			return 0;
		}
		json_decref(msg);
	}
}
