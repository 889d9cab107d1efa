/* accept.c - listeners in worker 0, and the way of descriptors and streams between workers
 * (CORE_MSG_CONN). */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "appliance/base/log.h"
#include "xmpp/access/c2s.h"
#include "xmpp/access/component.h"

#define FD_SPARE 64

struct conn_msg {
	struct bus_msg msg;
	struct stream *stream; /* a stream that moves; else a new descriptor: */
	int fd;
	enum access_port port;
	struct addr_slot *addr;
	struct addr_table *addrs;
};

static void undelivered(struct bus_msg *m)
{
	struct conn_msg *cm = container_of(m, struct conn_msg, msg);

	if (cm->stream) {
		cm->stream->kind->drop(cm->stream);
	} else if (cm->fd >= 0) {
		close(cm->fd);
		addr_leave(cm->addrs, cm->addr);
	}
	free(cm);
}

static struct conn_msg *msg_new(uint16_t worker)
{
	struct conn_msg *cm = calloc(1, sizeof(*cm));

	if (!cm)
		return NULL;
	cm->msg.to = (struct bus_addr){ .node = BUS_NODE_SELF, .worker = worker };
	cm->msg.type = CORE_MSG_CONN;
	cm->msg.free = undelivered;
	cm->fd = -1;
	return cm;
}

/* A peer that vanished without a word is found out in the end, also where nothing is sent to it. */
static void keep_alive(int fd)
{
	int on = 1, idle_s = 300, every_s = 60, probes = 5;

	/* A Unix socket has no such thing: nothing depends on these. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void serve(struct worker *w, enum access_port port, int fd, struct addr_slot *addr)
{
	struct err e = { 0 };
	int rc;

	if (port != ACCESS_COMPONENT_UNIX)
		keep_alive(fd);
	if (port <= ACCESS_C2S_TLS)
		rc = c2s_accept(w, port, fd, addr, &e);
	else
		rc = comp_accept(w, port, fd, addr, &e);
	if (rc != 0)
		log_ev(LOG_L_WARN, "access.accept_failed", KE(&e));
}

static void stream_came(struct worker *w, struct stream *s)
{
	struct err e = { 0 };

	if (access_of(w)->stopping || stream_attach(s, w, &e) != 0) {
		log_ev(LOG_L_WARN, "access.move_failed", KE(&e));
		s->kind->drop(s);
		return;
	}
	s->kind->arrived(s);
}

static void on_conn_msg(void *worker_arg, struct bus_msg *m_take)
{
	struct conn_msg *cm = container_of(m_take, struct conn_msg, msg);
	struct worker *w = worker_arg;

	if (cm->stream)
		stream_came(w, cm->stream);
	else
		serve(w, cm->port, cm->fd, cm->addr);
	free(cm);
}

void access_bus_register(struct bus *bus)
{
	bus_on(bus, CORE_MSG_CONN, on_conn_msg);
}

int access_move(struct stream *s, uint16_t to_worker)
{
	struct worker *w = s->w;
	struct conn_msg *cm = msg_new(to_worker);
	int rc;

	if (!cm)
		return E_NOMEM;
	rc = stream_detach(s);
	if (rc != 0) {
		free(cm);
		return rc;
	}
	cm->stream = s;
	bus_post(w->bus, &cm->msg); /* what cannot be delivered is dropped by it */
	return 0;
}

/* ---- accepting
 * ----------------------------------------------------------------------------------- */

/* Say why, if that can be done without reading or waiting, and hang up. */
static void refuse(struct worker *w, enum access_port port, int fd)
{
	static const char text[] =
		"<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
		"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'><stream:error>"
		"<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
		"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>"
		"too many connections</text>"
		"</stream:error></stream:stream>";

	count(w, CNT_C2S_REFUSED);
	if (port == ACCESS_C2S && send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		shutdown(fd, SHUT_WR);
	close(fd);
}

/* The last descriptors are for our translators and for what we open ourselves. The system gives the
 * lowest one that is free: so its number tells how many are in use. */
static bool too_few_left(const struct worker *w, int fd)
{
	int end = loop_fd_end(w->loop), spare = end / 2 < FD_SPARE ? end / 2 : FD_SPARE;

	return fd >= end - spare;
}

/* Counted; false: refused and closed. Our translators are let in, whoever else is there. */
static bool admit(struct worker *w, enum access_port port, int fd, struct addr_slot **addr_r)
{
	static const enum addr_kind kinds[ACCESS_PORTS] = {
		[ACCESS_C2S] = ADDR_CLIENT,          [ACCESS_C2S_TLS] = ADDR_CLIENT,
		[ACCESS_COMPONENT] = ADDR_COMPONENT, [ACCESS_COMPONENT_TLS] = ADDR_COMPONENT,
		[ACCESS_COMPONENT_UNIX] = ADDR_OWN,
	};
	const struct core_limits *lim = &w->cfg->lim;
	enum addr_kind kind = kinds[port];
	bool own = kind == ADDR_OWN;

	if (!access_of(w)->stopping && (own || !too_few_left(w, fd)) &&
	    addr_enter(access_of(w)->shared->addrs, fd, kind, own ? 0 : lim->conns_per_addr,
		       own ? 0 : lim->conns, addr_r) == 0)
		return true;
	refuse(w, port, fd);
	return false;
}

static void accepted(void *arg, int fd)
{
	struct access_listener *l = arg;
	struct worker *w = l->w;
	struct access_worker *aw = access_of(w);
	uint16_t to = aw->next_worker;
	struct addr_slot *addr = NULL;
	struct conn_msg *cm;

	if (!admit(w, l->port, fd, &addr))
		return;
	aw->next_worker = (uint16_t)((to + 1) % bus_workers(w->bus));
	if (to == w->id) {
		serve(w, l->port, fd, addr);
		return;
	}
	cm = msg_new(to);
	if (!cm) {
		close(fd);
		addr_leave(aw->shared->addrs, addr);
		return;
	}
	cm->fd = fd;
	cm->port = l->port;
	cm->addr = addr;
	cm->addrs = aw->shared->addrs;
	bus_post(w->bus, &cm->msg);
}

int access_listen(struct worker *w0, enum access_port port, int fd, struct err *e)
{
	struct access_worker *aw = access_of(w0);
	struct access_listener *l = &aw->listener[aw->nlisteners];
	int rc;

	if (aw->nlisteners == ACCESS_LISTENERS_MAX) {
		close(fd);
		return err_set(e, E_LIMIT, NULL, "more than %u listeners", ACCESS_LISTENERS_MAX);
	}
	*l = (struct access_listener){ .w = w0, .port = port };
	rc = listener_new_fd(w0->loop, fd, accepted, l, &l->ln, e);
	if (rc == 0)
		aw->nlisteners++;
	return rc;
}

int access_adopt(struct worker *w, enum access_port port, int fd)
{
	struct addr_slot *addr = NULL;

	if (!admit(w, port, fd, &addr))
		return E_LIMIT;
	serve(w, port, fd, addr);
	return 0;
}
