/* addr.c - who is at the other end: addresses as text, Unix peers by user id. */
#include "appliance/loop/conn_int.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

void conn_peer_set(struct conn *c, const struct sockaddr *sa)
{
	struct conn_peer *p = &c->peer;

	*p = (struct conn_peer){ 0 };
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;

		p->family = AF_INET;
		p->port = ntohs(in->sin_port);
		memcpy(p->addr, &in->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

		/* A dual-stack listener shows IPv4 peers as mapped; people and limits want IPv4. */
		p->family = mapped ? AF_INET : AF_INET6;
		p->port = ntohs(in6->sin6_port);
		p->scope = in6->sin6_scope_id;
		memcpy(p->addr, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
	} else if (sa->sa_family == AF_UNIX) {
		p->family = AF_UNIX;
	}
}

void conn_peer_host(const struct conn *c, char dst[CONN_ADDR_MAX])
{
	const struct conn_peer *p = &c->peer;

	if (p->family == AF_INET || p->family == AF_INET6) {
		if (!inet_ntop(p->family, p->addr, dst, CONN_ADDR_MAX))
			snprintf(dst, CONN_ADDR_MAX, "?");
		size_t n = strlen(dst);
		if (p->scope)
			snprintf(dst + n, CONN_ADDR_MAX - n, "%%%u", (unsigned)p->scope);
	} else {
		snprintf(dst, CONN_ADDR_MAX, "%s", p->family == AF_UNIX ? "unix" : "?");
	}
}

void conn_peer_text(const struct conn *c, char dst[CONN_ADDR_MAX])
{
	char host[CONN_ADDR_MAX];

	conn_peer_host(c, host);
	/* The longest IPv6 address with scope and port has 63 characters. */
	if (c->peer.family == AF_INET6)
		snprintf(dst, CONN_ADDR_MAX, "[%.55s]:%u", host, (unsigned)c->peer.port);
	else if (c->peer.family == AF_INET)
		snprintf(dst, CONN_ADDR_MAX, "%.55s:%u", host, (unsigned)c->peer.port);
	else
		snprintf(dst, CONN_ADDR_MAX, "%s", host);
}

int conn_peer_uid(const struct conn *c, uint32_t *uid_r)
{
	struct ucred uc;
	socklen_t len = sizeof(uc);

	if (c->peer.family != AF_UNIX || c->lf.fd < 0)
		return E_UNSUPPORTED;
	if (getsockopt(c->lf.fd, SOL_SOCKET, SO_PEERCRED, &uc, &len) < 0)
		return E_IO;
	*uid_r = (uint32_t)uc.uid;
	return 0;
}
