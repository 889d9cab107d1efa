/* resolve.c - see resolve.h.
 *
 * Every answer, also one that is known at once, is given by an end-of-turn task: the owner is never
 * called within resolve(), and c-ares is never entered from one of its own callbacks. c-ares cannot
 * take back a single query, so a cancelled request stays until c-ares is done with it. */
#include "appliance/loop/resolve.h"
#include "appliance/base/log.h"
#include "appliance/loop/hosts.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>

#define DEFAULT_TRY_MS 2000
#define DEFAULT_TRIES  3

struct resolver {
	struct loop *loop;
	ares_channel ch;
	struct loop_timer timer;
	struct list fds;  /* struct res_fd */
	struct list reqs; /* struct resolve_req */
	struct hosts hosts;
};

struct res_fd {
	struct list node;
	struct loop_fd lf;
	struct resolver *r;
};

struct resolve_req {
	struct list node;
	struct resolver *r;
	struct loop_task task;
	void (*cb)(void *arg, int rc, const struct addrinfo *addr); /* NULL: cancelled */
	void *arg;
	struct addrinfo *addr;
	int rc;
	uint16_t port;
	bool asked; /* c-ares holds it */
};

/* --- address lists -------------------------------------------------------------------------- */

struct entry {
	struct addrinfo ai;
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} sa;
};

static void list_free(struct addrinfo *a)
{
	while (a) {
		struct addrinfo *next = a->ai_next;

		free(container_of(a, struct entry, ai));
		a = next;
	}
}

static struct entry *list_add(struct addrinfo **list, int family)
{
	struct entry *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->ai.ai_family = family;
	x->ai.ai_socktype = SOCK_STREAM;
	x->ai.ai_protocol = IPPROTO_TCP;
	x->ai.ai_addrlen = family == AF_INET ? sizeof(x->sa.in) : sizeof(x->sa.in6);
	x->ai.ai_addr = (struct sockaddr *)&x->sa;
	while (*list)
		list = &(*list)->ai_next;
	*list = &x->ai;
	return x;
}

static int list_add_raw(struct addrinfo **list, int family, const void *addr, uint16_t port)
{
	struct entry *x = list_add(list, family);

	if (!x)
		return E_NOMEM;
	if (family == AF_INET) {
		x->sa.in.sin_family = AF_INET;
		x->sa.in.sin_port = htons(port);
		memcpy(&x->sa.in.sin_addr, addr, 4);
	} else {
		x->sa.in6.sin6_family = AF_INET6;
		x->sa.in6.sin6_port = htons(port);
		memcpy(&x->sa.in6.sin6_addr, addr, 16);
	}
	return 0;
}

static int list_from_ares(struct addrinfo **list, const struct ares_addrinfo *in, uint16_t port)
{
	int rc = 0;

	for (const struct ares_addrinfo_node *n = in->nodes; n && rc == 0; n = n->ai_next) {
		const void *sa = n->ai_addr;

		if (n->ai_family == AF_INET)
			rc = list_add_raw(list, AF_INET,
					  &((const struct sockaddr_in *)sa)->sin_addr, port);
		else if (n->ai_family == AF_INET6)
			rc = list_add_raw(list, AF_INET6,
					  &((const struct sockaddr_in6 *)sa)->sin6_addr, port);
	}
	if (rc == 0 && !*list)
		rc = E_NOTFOUND;
	return rc;
}

/* --- c-ares in the loop --------------------------------------------------------------------- */

static void rearm(struct resolver *r);

static void sock_ready(struct loop_fd *lf, unsigned ready)
{
	struct resolver *r = container_of(lf, struct res_fd, lf)->r;
	ares_socket_t fd = lf->fd;

	ares_process_fd(r->ch, ready & LOOP_READ ? fd : ARES_SOCKET_BAD,
			ready & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
	rearm(r);
}

static void time_out(struct loop_timer *t)
{
	struct resolver *r = container_of(t, struct resolver, timer);

	ares_process_fd(r->ch, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	rearm(r);
}

static void rearm(struct resolver *r)
{
	struct timeval tv;

	if (!ares_timeout(r->ch, NULL, &tv)) {
		loop_timer_clear(&r->timer);
		return;
	}
	/* The next millisecond: c-ares measures in microseconds. */
	loop_timer_set(r->loop, &r->timer,
		       (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1, time_out);
}

static struct res_fd *sock_find(struct resolver *r, ares_socket_t fd)
{
	LIST_FOREACH(n, tmp, &r->fds)
	{
		struct res_fd *f = LIST_ENTRY(n, struct res_fd, node);

		if (f->lf.fd == fd)
			return f;
	}
	return NULL;
}

static void sock_add(struct resolver *r, ares_socket_t fd, unsigned want)
{
	struct res_fd *f = calloc(1, sizeof(*f));
	struct err e;

	if (!f)
		return; /* the query times out */
	f->r = r;
	if (loop_fd_add(r->loop, &f->lf, fd, want, sock_ready, &e) < 0) {
		log_ev(LOG_L_WARN, "dns.socket.unwatched", KE(&e));
		free(f);
		return;
	}
	list_append(&r->fds, &f->node);
}

static void sock_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = arg;
	struct res_fd *f = sock_find(r, fd);
	unsigned want = (readable ? LOOP_READ : 0u) | (writable ? LOOP_WRITE : 0u);

	if (f && !want) {
		loop_fd_del(&f->lf);
		list_remove(&f->node);
		free(f);
	} else if (f) {
		loop_fd_want(&f->lf, want);
	} else if (want) {
		sock_add(r, fd, want);
	}
}

static int library_rc;

static void library_init(void)
{
	library_rc = ares_library_init(ARES_LIB_INIT_ALL);
}

static int ares_error(struct err *e, int rc, const char *what)
{
	int code = rc == ARES_ENOMEM ? E_NOMEM : rc == ARES_EBADSTR ? E_SYNTAX : E_IO;

	return err_set(e, code, NULL, "%s: %s", what, ares_strerror(rc));
}

static int channel_open(struct resolver *r, int try_ms, int tries, ares_channel *ch_r,
			struct err *e)
{
	static char from_dns_only[] = "b";
	struct ares_options o = { .timeout = try_ms,
				  .tries = tries,
				  .lookups = from_dns_only,
				  .sock_state_cb = sock_state,
				  .sock_state_cb_data = r };
	int rc = ares_init_options(ch_r, &o,
				   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
					   ARES_OPT_SOCK_STATE_CB);

	return rc == ARES_SUCCESS ? 0 : ares_error(e, rc, "resolver");
}

int resolver_new(struct loop *l, struct resolver **r_r, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct resolver *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(e, E_NOMEM, NULL, "no memory for a resolver");
	r->loop = l;
	list_init(&r->fds);
	list_init(&r->reqs);
	pthread_once(&once, library_init);
	if (library_rc != ARES_SUCCESS)
		rc = ares_error(e, library_rc, "resolver");
	else
		rc = hosts_read(&r->hosts, "/etc/hosts", e);
	if (rc == 0) {
		rc = channel_open(r, DEFAULT_TRY_MS, DEFAULT_TRIES, &r->ch, e);
		if (rc < 0)
			hosts_free(&r->hosts);
	}
	if (rc < 0) {
		free(r);
		return rc;
	}
	*r_r = r;
	return 0;
}

int resolver_tune(struct resolver *r, const char *servers, int try_ms, int tries, struct err *e)
{
	ares_channel ch;
	int rc;

	if (!list_empty(&r->reqs))
		return err_set(e, E_STATE, NULL, "name queries are under way");
	rc = channel_open(r, try_ms, tries, &ch, e);
	if (rc < 0)
		return rc;
	rc = servers ? ares_set_servers_ports_csv(ch, servers) : ARES_SUCCESS;
	if (rc != ARES_SUCCESS) {
		ares_destroy(ch);
		return ares_error(e, rc, servers);
	}
	ares_destroy(r->ch);
	r->ch = ch;
	return 0;
}

/* --- requests ------------------------------------------------------------------------------- */

static void req_free(struct resolve_req *q)
{
	loop_task_clear(&q->task);
	list_remove(&q->node);
	list_free(q->addr);
	free(q);
}

static void answer(struct resolve_req *q)
{
	if (q->cb)
		q->cb(q->arg, q->rc, q->rc == 0 ? q->addr : NULL);
}

/* Off the resolver's list first: the owner may free the resolver in its callback. */
static void answer_task(struct loop_task *t)
{
	struct resolve_req *q = container_of(t, struct resolve_req, task);

	list_remove(&q->node);
	answer(q);
	req_free(q);
}

static void answer_later(struct resolve_req *q, int rc)
{
	q->rc = rc;
	loop_defer(q->r->loop, &q->task, answer_task);
}

static int code_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return 0;
	case ARES_ENOMEM:
		return E_NOMEM;
	case ARES_ETIMEOUT:
		return E_TIMEOUT;
	case ARES_ECANCELLED:
	case ARES_EDESTRUCTION:
		return E_CLOSED;
	case ARES_ECONNREFUSED:
	case ARES_ESERVFAIL:
	case ARES_EREFUSED:
	case ARES_ENOTIMP:
	case ARES_EBADRESP:
		return E_AGAIN;
	default: /* no such name, no address, a name that cannot be one */
		return E_NOTFOUND;
	}
}

static void ares_answer(void *arg, int status, int timeouts, struct ares_addrinfo *res)
{
	struct resolve_req *q = arg;
	int rc = code_of(status);

	UNUSED(timeouts);
	q->asked = false;
	if (rc == 0 && res)
		rc = list_from_ares(&q->addr, res, q->port);
	if (res)
		ares_freeaddrinfo(res);
	answer_later(q, rc);
}

/* Answers that need no server. 0: q->addr is filled; E_NOTFOUND: ask. */
static int known(struct resolve_req *q, const char *host, struct sl name)
{
	static const unsigned char loop6[16] = { [15] = 1 }, loop4[4] = { 127, 0, 0, 1 };
	unsigned char raw[16];
	int rc = 0;

	if (inet_pton(AF_INET, host, raw) == 1)
		return list_add_raw(&q->addr, AF_INET, raw, q->port);
	if (inet_pton(AF_INET6, host, raw) == 1)
		return list_add_raw(&q->addr, AF_INET6, raw, q->port);
	for (const struct host_addr *a = hosts_find(&q->r->hosts, name); a && rc == 0; a = a->next)
		rc = list_add_raw(&q->addr, a->family, a->addr, q->port);
	if (rc < 0 || q->addr)
		return rc;
	if (!sl_ieq(name, SL("localhost"))) /* RFC 6761 section 6.3 */
		return E_NOTFOUND;
	rc = list_add_raw(&q->addr, AF_INET6, loop6, q->port);
	return rc < 0 ? rc : list_add_raw(&q->addr, AF_INET, loop4, q->port);
}

static void ask(struct resolve_req *q, const char *host)
{
	const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
						   .ai_socktype = SOCK_STREAM };
	struct resolver *r = q->r;

	q->asked = true;
	ares_getaddrinfo(r->ch, host, NULL, &hints, ares_answer, q);
	rearm(r);
}

struct resolve_req *resolve(struct resolver *r, const char *host, uint16_t port,
			    void (*cb)(void *arg, int rc, const struct addrinfo *addr), void *arg)
{
	struct resolve_req *q = calloc(1, sizeof(*q));
	struct sl name = sl_cstr(host);
	int rc;

	if (!q)
		return NULL;
	q->r = r;
	q->cb = cb;
	q->arg = arg;
	q->port = port;
	list_append(&r->reqs, &q->node);
	if (name.n && name.p[name.n - 1] == '.')
		name.n--;
	rc = known(q, host, name);
	if (rc == E_NOTFOUND && name.n > 0 && name.n < 254)
		ask(q, host);
	else
		answer_later(q, rc);
	return q;
}

void resolve_cancel(struct resolve_req *q)
{
	q->cb = NULL;
	if (!q->asked)
		req_free(q);
}

void resolver_free(struct resolver **rp)
{
	struct resolver *r = *rp;
	struct list *n;

	if (!r)
		return;
	*rp = NULL;
	ares_destroy(r->ch); /* answers E_CLOSED to all that it holds */
	loop_timer_clear(&r->timer);
	while ((n = list_pop(&r->reqs)) != NULL) {
		struct resolve_req *q = LIST_ENTRY(n, struct resolve_req, node);

		loop_task_clear(&q->task);
		q->rc = E_CLOSED;
		answer(q);
		req_free(q);
	}
	hosts_free(&r->hosts);
	free(r);
}
