/* streams.c - see streams.h. Rules COMP-19, CUST-13. */
#include "translators/common/streams.h"

#include "appliance/base/hash.h"
#include "appliance/base/log.h"
#include "appliance/loop/tls.h"

struct lane {
	struct streams *all;
	struct component *c;
};

struct streams {
	struct loop *loop;
	struct resolver *resolver;
	struct component_cfg cfg; /* the texts are borrowed from keep */
	struct buf keep;
	const struct streams_ops *ops;
	void *arg;
	unsigned most, n;
	struct lane lane[STREAMS_MAX];
};

static unsigned number(const struct lane *l)
{
	return (unsigned)(l - l->all->lane);
}

static void on_stanza(void *arg, struct stanza *st, struct component_ticket t)
{
	struct lane *l = arg;

	l->all->ops->on_stanza(l->all->arg, st, t);
}

static void on_down(void *arg, const char *reason)
{
	struct lane *l = arg;

	l->all->ops->on_down(l->all->arg, number(l), reason);
}

static void on_acked(void *arg, uint64_t cookie)
{
	struct lane *l = arg;

	l->all->ops->on_acked(l->all->arg, number(l), cookie);
}

static void on_up(void *arg, bool custody);

static const struct component_ops lane_ops = { on_up, on_down, on_stanza, on_acked };

static int lane_open(struct streams *s, unsigned i, struct err *e)
{
	struct component_cfg cfg = s->cfg;

	cfg.index = (uint8_t)i;
	s->lane[i].all = s;
	return component_new(s->loop, s->resolver, &cfg, &lane_ops, &s->lane[i], &s->lane[i].c, e);
}

/* The first stream has learnt how many there may be. */
static void resize(struct streams *s, unsigned n)
{
	struct err e = { 0 };

	for (unsigned i = 1; i < s->n; i++) {
		bool was_up = component_is_up(s->lane[i].c);

		component_free(&s->lane[i].c);
		if (was_up)
			s->ops->on_down(s->arg, i, "the number of streams changes");
	}
	s->n = 1;
	while (s->n < n) {
		if (lane_open(s, s->n, &e) < 0) {
			log_ev(LOG_L_ERROR, "component.streams", KU("stream", s->n), KE(&e));
			break;
		}
		s->n++;
	}
	s->ops->on_count(s->arg, s->n);
}

static void on_up(void *arg, bool custody)
{
	struct lane *l = arg;
	struct streams *s = l->all;
	unsigned n = custody ? component_streams(l->c) : 1;

	if (n > s->most)
		n = s->most;
	if (number(l) == 0 && n != s->n)
		resize(s, n);
	s->ops->on_up(s->arg, number(l), l->c, custody);
}

static struct sl keep(struct streams *s, struct sl text)
{
	size_t at = s->keep.n;

	if (text.n == 0 || buf_add(&s->keep, text) < 0 || buf_addc(&s->keep, 0) < 0)
		return SL_NULL;
	return sl_mk(buf_sl(&s->keep).p + at, text.n);
}

int streams_new(struct loop *l, struct resolver *r, const struct component_cfg *cfg, unsigned most,
		const struct streams_ops *ops, void *arg, struct streams **s_r, struct err *e)
{
	struct streams *s = calloc(1, sizeof(*s));
	size_t room = cfg->domain.n + cfg->unix_path.n + cfg->host.n + cfg->secret.n + 4;
	int rc;

	if (!s)
		return err_set(e, E_NOMEM, NULL, "out of memory");
	s->loop = l;
	s->resolver = r;
	s->ops = ops;
	s->arg = arg;
	s->n = 1;
	s->most = most < 1 ? 1 : most > STREAMS_MAX ? STREAMS_MAX : most;
	s->cfg = *cfg;
	s->cfg.tls_ctx = cfg->tls_ctx ? tls_ctx_ref(cfg->tls_ctx) : NULL;
	buf_init(&s->keep, room);
	rc = buf_reserve(&s->keep, room) ? 0 : E_NOMEM; /* it does not move from now on */
	s->cfg.domain = keep(s, cfg->domain);
	s->cfg.unix_path = keep(s, cfg->unix_path);
	s->cfg.host = keep(s, cfg->host);
	s->cfg.secret = keep(s, cfg->secret);
	s->ops->on_count(arg, 1);
	if (rc == 0)
		rc = lane_open(s, 0, e);
	if (rc < 0) {
		streams_free(&s);
		return rc;
	}
	*s_r = s;
	return 0;
}

void streams_free(struct streams **sp)
{
	struct streams *s = *sp;

	*sp = NULL;
	if (!s)
		return;
	for (unsigned i = 0; i < STREAMS_MAX; i++)
		component_free(&s->lane[i].c);
	tls_ctx_unref(&s->cfg.tls_ctx);
	wipe(s->keep.p, s->keep.cap);
	buf_free(&s->keep);
	free(s);
}

bool streams_up(const struct streams *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!component_is_up(s->lane[i].c))
			return false;
	return true;
}

unsigned streams_count(const struct streams *s)
{
	return s->n;
}

/* The bare JID in an attribute of the start tag: what we wrote ourselves, so it is well-formed, and
 * what is escaped in a JID is so each time. */
static struct sl bare_of(struct sl xml, struct sl attribute)
{
	size_t at = sl_find(xml, ' ', 0);

	while (at < xml.n) {
		size_t equals = sl_find(xml, '=', at), end;
		struct sl name = sl_trim(sl_sub(xml, at, equals)), value;

		if (equals + 1 >= xml.n)
			break;
		end = sl_find(xml, xml.p[equals + 1], equals + 2);
		value = sl_sub(xml, equals + 2, end);
		if (sl_eq(name, attribute))
			return sl_sub(value, 0, sl_find(value, '/', 0));
		at = end + 1;
	}
	return SL_NULL;
}

unsigned streams_choose(struct sl xml, unsigned n)
{
	uint64_t h;

	if (n < 2)
		return 0;
	h = hash_more(hash_bytes(bare_of(xml, SL("from"))), bare_of(xml, SL("to")));
	return (unsigned)(h % n);
}

int streams_send(struct streams *s, struct sl xml, uint64_t cookie)
{
	return component_send(s->lane[streams_choose(xml, s->n)].c, xml, cookie);
}

void streams_done(struct streams *s, struct component_ticket t)
{
	if (t.index < s->n)
		component_done(s->lane[t.index].c, t);
}

void streams_again(struct streams *s, struct component_ticket t)
{
	if (t.index < s->n)
		component_again(s->lane[t.index].c, t);
}
