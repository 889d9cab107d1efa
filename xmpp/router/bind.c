/* bind.c - sessions of users: a resource is bound, and ends (RFC 6120 section 7). */
#include "xmpp/router/router_int.h"

void session_init(struct session *s)
{
	list_init(&s->user_node);
	list_init(&s->directed);
}

/* It is no longer one of the user's: what services know of it ends; it may still hand back mail. */
static void leave(struct session *s)
{
	struct user *u = s->user;

	if (!list_linked(&s->user_node))
		return;
	s->ending = true;
	for (const struct service *const *svc = u->w->services->list; *svc; svc++)
		if ((*svc)->session_ended)
			(*svc)->session_ended(s);
	list_remove(&s->user_node);
	u->nsessions--;
}

void session_bind_now(struct user *u, struct session *s, void (*bound)(struct session *s, int rc))
{
	struct session *old = user_session(u, s->jid.resource);

	if (old) { /* RFC 6120 7.7.2.2: the newer wins */
		old->ops->close(old, "conflict",
				SL("the resource was bound by another connection"));
		leave(old);
	}
	if (u->nsessions >= u->w->cfg->lim.sessions_per_user) {
		s->user = NULL;
		bound(s, E_LIMIT);
		return;
	}
	s->user = u;
	user_hold(u);
	u->nsessions++;
	list_append(&u->sessions, &s->user_node);
	count(u->w, CNT_SESSIONS_BOUND);
	for (const struct service *const *svc = u->w->services->list; *svc; svc++)
		if ((*svc)->session_bound)
			(*svc)->session_bound(s);
	bound(s, 0);
}

void session_bind(struct session *s, void (*bound)(struct session *s, int rc))
{
	struct user *u = user_get(s->w, s->jid.bare);

	if (u && user_ready(u))
		session_bind_now(u, s, bound);
	else if (!u || !user_wait_bind(u, s, bound))
		bound(s, E_NOMEM);
}

void session_ended(struct session *s)
{
	struct user *u = s->user;

	if (!u)
		return;
	user_wait_forget(u, s);
	leave(s);
	inbound_session_ended(s, NULL);
	s->user = NULL;
	user_release(u);
}
