/* play.c - see play.h and README.md. */
#include "tests/scripts/play.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/base/log.h"
#include "tests/unit/core_rig.h"
#include "tests/unit/xmpp_client.h"

#define PEERS_MAX       16
#define LINE_MAX_OCTETS 65536

struct peer {
	char name[32];
	struct xc c;
};

struct play {
	const char *path;
	unsigned line;
	struct core_rig rig;
	enum xc_cut cut;
	struct vars vars;
	struct peer peer[PEERS_MAX];
	unsigned npeers;
	uint64_t clock_ms;
	char error[4096];
	struct buf log;
};

static int fail(struct play *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int fail(struct play *p, const char *fmt, ...)
{
	int n = snprintf(p->error, sizeof(p->error), "%s:%u: ", p->path, p->line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->error + n, sizeof(p->error) - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

/* The next word of *s, which goes on behind it. */
static struct sl word(struct sl *s)
{
	struct sl w;
	size_t end;

	*s = sl_trim(*s);
	end = sl_find(*s, ' ', 0);
	w = sl_sub(*s, 0, end);
	*s = sl_trim(sl_sub(*s, end, s->n));
	return w;
}

static const char *cstr(struct sl s, char *dst, size_t cap)
{
	return sl_to_cstr(s, dst, cap) == 0 ? dst : "";
}

/* ---- settings ----------------------------------------------------------------------------------
 */

static int set_limit(struct play *p, struct sl key, uint64_t v)
{
	struct core_limits *l = &p->rig.cfg->lim;
	const struct {
		const char *name;
		uint32_t *at;
	} names[] = {
		{ "conns_per_addr", &l->conns_per_addr },
		{ "unauth_s", &l->unauth_s },
		{ "auth_failures", &l->auth_failures },
		{ "stanza_rate", &l->stanza_rate },
		{ "stanza_burst", &l->stanza_burst },
		{ "octet_rate", &l->octet_rate },
		{ "sm_queue", &l->sm_queue },
		{ "sm_resume_s", &l->sm_resume_s },
		{ "sessions_per_user", &l->sessions_per_user },
		{ "preauth_octets", &l->preauth.stanza_octets },
		{ "preauth_depth", &l->preauth.depth },
		{ "bound_octets", &l->bound.stanza_octets },
		{ "bound_depth", &l->bound.depth },
		{ "bound_attrs", &l->bound.attrs },
		{ "conns", &l->conns },
	};

	if (sl_eq(key, SL("out_octets"))) {
		l->out_octets = v;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (sl_eq(key, sl_cstr(names[i].name))) {
			*names[i].at = (uint32_t)v;
			return 0;
		}
	}
	return fail(p, "no such limit");
}

static int setting(struct play *p, struct sl cmd, struct sl rest)
{
	char a[256], b[256], c[256];
	struct sl w = word(&rest), x = word(&rest);
	uint64_t v = 0;

	if (sl_eq(cmd, SL("account"))) {
		core_rig_account(&p->rig, rest.n ? cstr(rest, c, sizeof(c)) : "localhost",
				 cstr(w, a, sizeof(a)), cstr(x, b, sizeof(b)));
		return 0;
	}
	if (sl_eq(cmd, SL("tls"))) {
		p->rig.cfg->tls_required = sl_eq(w, SL("required"));
		return 0;
	}
	if (sl_eq(cmd, SL("components"))) {
		p->rig.cfg->component_tls = sl_eq(w, SL("off"))        ? COMPONENT_TLS_OFF
					    : sl_eq(w, SL("optional")) ? COMPONENT_TLS_OPTIONAL
								       : COMPONENT_TLS_REQUIRED;
		return 0;
	}
	if (sl_eq(cmd, SL("mechanisms"))) {
		p->rig.cfg->mechanisms = arena_printf(p->rig.cfg->arena, SLFMT " " SLFMT " " SLFMT,
						      SLARG(w), SLARG(x), SLARG(rest));
		return 0;
	}
	if (sl_to_u64(x, UINT32_MAX, &v) != 0)
		return fail(p, "a number is needed");
	return set_limit(p, w, v);
}

/* ---- peers -------------------------------------------------------------------------------------
 */

static struct peer *peer_find(struct play *p, struct sl name)
{
	for (unsigned i = 0; i < p->npeers; i++)
		if (sl_eq(sl_cstr(p->peer[i].name), name))
			return &p->peer[i];
	return NULL;
}

static int connect_peer(struct play *p, struct sl rest)
{
	static const char *const ports[ACCESS_PORTS] = { "c2s", "c2s_tls", "component",
							 "component_tls", "unix" };
	struct sl name = word(&rest), port = word(&rest);
	struct peer *peer = peer_find(p, name);
	unsigned i = 0;
	int rc;

	if (!p->rig.running)
		core_rig_start(&p->rig);
	if (!peer) {
		if (p->npeers == PEERS_MAX)
			return fail(p, "too many peers");
		peer = &p->peer[p->npeers++];
		sl_to_cstr(name, peer->name, sizeof(peer->name));
		xc_init(&peer->c);
	}
	xc_close(&peer->c);
	peer->c.cut = p->cut;
	peer->c.seed = p->line;
	while (i < ACCESS_PORTS && !sl_eq(port, sl_cstr(ports[i])))
		i++;
	if (i == ACCESS_PORTS)
		return fail(p, "no such port");
	if (i == ACCESS_COMPONENT_UNIX)
		rc = xc_connect_unix(&peer->c, p->rig.unix_path);
	else
		rc = xc_connect(&peer->c, p->rig.port[i]);
	if (rc == 0 && (i == ACCESS_C2S_TLS || i == ACCESS_COMPONENT_TLS))
		rc = xc_tls(&peer->c, i == ACCESS_C2S_TLS ? "xmpp-client" : NULL, true);
	return rc == 0 ? 0 : fail(p, "%s", peer->c.error);
}

static int say(struct play *p, struct peer *peer, struct sl text)
{
	static char line[LINE_MAX_OCTETS];
	size_t n;

	if (var_expand(&p->vars, text, line, sizeof(line), &n) != 0)
		return fail(p, "a variable has no value");
	/* Whom the server has hung up on notices when it listens. */
	xc_send(&peer->c, sl_mk(line, n));
	return 0;
}

static void skip_space(struct xc *c)
{
	while (c->in.n && strchr(" \n\r\t", c->in.p[c->in.off]))
		buf_consume(&c->in, 1);
}

static int hear(struct play *p, struct peer *peer, struct sl pattern)
{
	struct xc *c = &peer->c;

	for (;;) {
		struct sl in;
		long rc;

		skip_space(c);
		in = buf_sl(&c->in);
		rc = in.n ? pattern_match(&p->vars, pattern, in) : 0;
		if (rc > 0) {
			buf_consume(&c->in, (size_t)rc);
			return 0;
		}
		if (rc == 0 && xc_more(c, XC_WAIT_MS) > 0)
			continue;
		in = buf_sl(&c->in);
		return fail(p, "%s was told\n#   %.*s\n# and not\n#   %.*s", peer->name,
			    (int)(in.n > 1500 ? 1500 : in.n), in.p ? in.p : "(nothing)",
			    (int)(pattern.n > 1000 ? 1000 : pattern.n), pattern.p);
	}
}

static int hear_end(struct play *p, struct peer *peer)
{
	int rc;

	do
		rc = xc_more(&peer->c, XC_WAIT_MS);
	while (rc > 0);
	skip_space(&peer->c);
	if (rc < 0)
		return fail(p, "%s is still connected", peer->name);
	if (peer->c.in.n)
		return fail(p, "before the end %s was told\n#   " SLFMT, peer->name,
			    SLARG(buf_sl(&peer->c.in)));
	xc_close(&peer->c);
	return 0;
}

static int hear_nothing(struct play *p, struct peer *peer, struct sl rest)
{
	uint64_t ms = 0;

	sl_to_u64(rest, 60000, &ms);
	skip_space(&peer->c);
	if (peer->c.in.n == 0 && xc_more(&peer->c, (int)ms) < 0)
		return 0;
	return fail(p, "%s was told\n#   " SLFMT, peer->name, SLARG(buf_sl(&peer->c.in)));
}

static int scram(struct play *p, struct peer *peer, struct sl rest)
{
	char user[128], pass[128], binding[64];
	struct sl hash = word(&rest), u = word(&rest), w = word(&rest);
	uint64_t h = 0;

	sl_to_u64(hash, 1000, &h);
	if (xc_scram(&peer->c, (int)h, rest.n ? cstr(rest, binding, sizeof(binding)) : NULL,
		     cstr(u, user, sizeof(user)), cstr(w, pass, sizeof(pass))) != 0)
		return fail(p, "%s: %s", peer->name, peer->c.error);
	return 0;
}

/* scramsalt USER VAR: the salt and count that the server tells for this user match $VAR (taken the
 * first time). */
static int scramsalt(struct play *p, struct peer *peer, struct sl rest)
{
	struct sl user = word(&rest), answer, salt;
	char raw[512], text[1024], b64[800];
	const char *known = var_get(&p->vars, rest), *at;
	int n = snprintf(raw, sizeof(raw), "n,,n=" SLFMT ",r=abcdef", SLARG(user));

	EVP_EncodeBlock((unsigned char *)b64, (unsigned char *)raw, n);
	snprintf(
		text, sizeof(text),
		"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>%s</auth>",
		b64);
	if (xc_send(&peer->c, sl_cstr(text)) != 0 ||
	    xc_until(&peer->c, "</challenge>", &answer) != 0)
		return fail(p, "%s", peer->c.error);
	answer = sl_sub(answer, sl_find(answer, '>', 0) + 1, answer.n - strlen("</challenge>"));
	n = EVP_DecodeBlock((unsigned char *)raw, (const unsigned char *)answer.p, (int)answer.n);
	raw[n > 0 ? n : 0] = '\0';
	at = strstr(raw, ",s=");
	salt = sl_trim(sl_cstr(at ? at : ""));
	if (salt.n == 0 ||
	    (known && !sl_starts(salt, sl_cstr(known)) && !sl_starts(sl_cstr(known), salt)))
		return fail(p, "salt and count are '%s', not '%s'", at ? at : "",
			    known ? known : "");
	return var_set(&p->vars, rest, salt) == 0 ? 0 : fail(p, "too many variables");
}

/* login USER PASSWORD RESOURCE [tls]: sets $PEER to the full JID. */
static int login(struct play *p, struct peer *peer, struct sl rest)
{
	char user[128], pass[128], resource[128], jid[512];
	struct sl u = word(&rest), w = word(&rest), r = word(&rest);

	if (xc_login(&peer->c, "localhost", cstr(u, user, sizeof(user)),
		     cstr(w, pass, sizeof(pass)), cstr(r, resource, sizeof(resource)),
		     sl_eq(rest, SL("tls")), jid, sizeof(jid)) != 0)
		return fail(p, "%s: %s", peer->name, peer->c.error);
	return var_set(&p->vars, sl_cstr(peer->name), sl_cstr(jid));
}

static int handshake(struct play *p, struct peer *peer, struct sl secret)
{
	const char *id = var_get(&p->vars, SL("id"));
	char text[512], hex[41];
	unsigned char d[20];

	snprintf(text, sizeof(text), "%s" SLFMT, id ? id : "", SLARG(secret));
	EVP_Digest(text, strlen(text), d, NULL, EVP_sha1(), NULL);
	for (int i = 0; i < 20; i++)
		snprintf(hex + 2 * i, 3, "%02x", d[i]);
	snprintf(text, sizeof(text), "<handshake>%s</handshake>", hex);
	return xc_send(&peer->c, sl_cstr(text)) == 0 ? 0 : fail(p, "%s", peer->c.error);
}

static int peer_line(struct play *p, struct peer *peer, struct sl rest)
{
	struct sl verb = word(&rest);

	if (sl_eq(verb, SL(">")))
		return say(p, peer, rest);
	if (sl_eq(verb, SL("<")))
		return hear(p, peer, rest);
	if (sl_eq(verb, SL("closed")))
		return hear_end(p, peer);
	if (sl_eq(verb, SL("silent")))
		return hear_nothing(p, peer, rest);
	if (sl_eq(verb, SL("scram")))
		return scram(p, peer, rest);
	if (sl_eq(verb, SL("scramsalt")))
		return scramsalt(p, peer, rest);
	if (sl_eq(verb, SL("login")))
		return login(p, peer, rest);
	if (sl_eq(verb, SL("handshake")))
		return handshake(p, peer, rest);
	if (sl_eq(verb, SL("starttls")))
		return xc_tls(&peer->c, NULL, !sl_eq(rest, SL("1.2"))) == 0
			       ? 0
			       : fail(p, "%s", peer->c.error);
	if (sl_eq(verb, SL("whole"))) { /* too much to cut it up */
		peer->c.cut = XC_WHOLE;
		return 0;
	}
	if (sl_eq(verb, SL("drop"))) {
		xc_close(&peer->c);
		return 0;
	}
	return fail(p, "what shall %s do?", peer->name);
}

/* ---- other commands
 * ------------------------------------------------------------------------------ */

/* let NAME b64 TEXT: \0 is a zero octet. */
static int let(struct play *p, struct sl rest)
{
	struct sl name = word(&rest);
	unsigned char raw[1024], text[2048];
	size_t n = 0;

	if (!sl_starts(rest, SL("b64 "))) {
		static char value[2048];
		size_t len;

		if (var_expand(&p->vars, rest, value, sizeof(value), &len) != 0)
			return fail(p, "a variable has no value");
		rest = sl_mk(value, len);
	}
	if (!sl_starts(rest, SL("b64 ")))
		return var_set(&p->vars, name, rest) == 0 ? 0 : fail(p, "too many variables");
	word(&rest);
	for (size_t i = 0; i < rest.n && n < sizeof(raw); i++) {
		bool zero = rest.p[i] == '\\' && i + 1 < rest.n && rest.p[i + 1] == '0';

		raw[n++] = zero ? 0 : (unsigned char)rest.p[i];
		i += zero;
	}
	EVP_EncodeBlock(text, raw, (int)n);
	return var_set(&p->vars, name, sl_cstr((char *)text)) == 0 ? 0
								   : fail(p, "too many variables");
}

/* count NAME N: a counter of the core has reached N (waited for). */
static int counter(struct play *p, struct sl rest)
{
	static const char *const names[CNT_MAX] = {
#define X(id, name, help) [id] = (name),
#include "xmpp/router/counters.def"
#undef X
	};
	struct sl name = word(&rest);
	uint64_t want = 0, got = 0;
	unsigned i = 0;

	sl_to_u64(rest, UINT64_MAX, &want);
	while (i < CNT_MAX && !sl_eq(name, sl_cstr(names[i])))
		i++;
	if (i == CNT_MAX)
		return fail(p, "no such counter");
	for (int k = 0; k < 200; k++) {
		got = core_rig_count(&p->rig, (enum core_counter)i);
		if (got >= want)
			break;
		usleep(10000);
	}
	return got == want ? 0 : fail(p, "counter %s is %llu", names[i], (unsigned long long)got);
}

static int command(struct play *p, struct sl line);

/* repeat N LINE: with $i from 0. */
static int repeat(struct play *p, struct sl rest)
{
	struct sl times = word(&rest);
	uint64_t n = 0;
	char number[24];
	int rc = 0;

	sl_to_u64(times, 1000000, &n);
	for (uint64_t i = 0; i < n && rc == 0; i++) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)i);
		var_set(&p->vars, SL("i"), sl_cstr(number));
		rc = command(p, rest);
	}
	return rc;
}

static int command(struct play *p, struct sl line)
{
	struct sl rest = line, cmd = word(&rest);
	struct peer *peer = peer_find(p, cmd);
	uint64_t ms = 0;

	if (peer)
		return peer_line(p, peer, rest);
	if (sl_eq(cmd, SL("connect")))
		return connect_peer(p, rest);
	if (sl_eq(cmd, SL("let")))
		return let(p, rest);
	if (sl_eq(cmd, SL("count")))
		return counter(p, rest);
	if (sl_eq(cmd, SL("repeat")))
		return repeat(p, rest);
	if (sl_eq(cmd, SL("wait"))) {
		sl_to_u64(rest, 60000, &ms);
		usleep((useconds_t)ms * 1000);
		return 0;
	}
	if (sl_eq(cmd, SL("clock"))) {
		p->clock_ms = clock_mono_ms();
		return 0;
	}
	if (sl_eq(cmd, SL("atleast"))) {
		sl_to_u64(rest, 60000, &ms);
		return clock_mono_ms() - p->clock_ms >= ms ? 0 : fail(p, "that was too fast");
	}
	if (sl_eq(cmd, SL("restart"))) {
		core_rig_stop(&p->rig);
		core_rig_start(&p->rig);
		return 0;
	}
	if (!p->rig.running)
		return setting(p, cmd, rest);
	return fail(p, "no such command");
}

/* ---- a script
 * ------------------------------------------------------------------------------------ */

/* Every thread of the core logs. */
static void log_line(void *arg, struct sl line)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct play *p = arg;

	pthread_mutex_lock(&lock);
	buf_add(&p->log, SL("#   "));
	buf_add(&p->log, sl_trim(line));
	buf_addc(&p->log, '\n');
	pthread_mutex_unlock(&lock);
}

static int play_lines(struct play *p, FILE *f)
{
	static char text[LINE_MAX_OCTETS];
	int rc = 0;

	while (rc == 0 && fgets(text, sizeof(text), f)) {
		struct sl line = sl_trim(sl_cstr(text));

		p->line++;
		if (line.n && line.p[0] != '#')
			rc = command(p, line);
	}
	return rc;
}

/* What many lines would repeat. */
static void common_vars(struct play *p)
{
	static const char *const vars[][2] = {
		{ "open", "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
			  "xmlns:stream='http://etherx.jabber.org/streams'>" },
		{ "copen", "<stream:stream to='echo.localhost' xmlns='jabber:component:accept' "
			   "xmlns:stream='http://etherx.jabber.org/streams'>" },
		{ "uopen", "<stream:stream to='sms.localhost' version='1.0' "
			   "xmlns='jabber:component:accept' "
			   "xmlns:stream='http://etherx.jabber.org/streams'>" },
		{ "copen1", "<stream:stream to='echo.localhost' version='1.0' "
			    "xmlns='jabber:component:accept' "
			    "xmlns:stream='http://etherx.jabber.org/streams'>" },
		{ "fopen", "<stream:stream to='far.localhost' version='1.0' "
			   "xmlns='jabber:component:accept' "
			   "xmlns:stream='http://etherx.jabber.org/streams'>" },
		{ "serr", "xmlns='urn:ietf:params:xml:ns:xmpp-streams'" },
		{ "sterr", "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'" },
		{ "sasl", "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'" },
		{ "tls", "xmlns='urn:ietf:params:xml:ns:xmpp-tls'" },
		{ "sm", "xmlns='urn:xmpp:sm:3'" },
		{ "bind", "xmlns='urn:ietf:params:xml:ns:xmpp-bind'" },
		{ "end", "</stream:error></stream:stream>" },
	};

	for (size_t i = 0; i < ARRAY_LEN(vars); i++)
		var_set(&p->vars, sl_cstr(vars[i][0]), sl_cstr(vars[i][1]));
}

static bool play_one(const char *path, enum xc_cut cut, const char *cut_name)
{
	static unsigned number;
	struct play *p = calloc(1, sizeof(*p));
	FILE *f = fopen(path, "r");
	uint64_t start = clock_mono_ms();
	const char *base = strrchr(path, '/');
	int rc;

	p->path = path;
	p->cut = cut;
	buf_init(&p->log, 1u << 20);
	log_capture(log_line, p);
	core_rig_new(&p->rig, false);
	common_vars(p);
	rc = f ? play_lines(p, f) : fail(p, "cannot be read");
	for (unsigned i = 0; i < p->npeers; i++)
		xc_close(&p->peer[i].c);
	core_rig_free(&p->rig);
	log_capture(NULL, NULL);
	printf("%s %u - %s (%s, %llu ms)\n", rc == 0 ? "ok" : "not ok", ++number,
	       base ? base + 1 : path, cut_name, (unsigned long long)(clock_mono_ms() - start));
	if (rc != 0)
		printf("# %s\n" SLFMT, p->error, SLARG(buf_sl(&p->log)));
	fflush(stdout);
	buf_free(&p->log);
	if (f)
		fclose(f);
	free(p);
	return rc == 0;
}

int play_all(int n, char **paths)
{
	static const char *const names[] = { "whole", "octets", "random" };
	const char *only = getenv("CUT");
	bool ok = n > 0;

	for (int i = 0; i < n; i++)
		for (int cut = 0; cut < 3; cut++)
			if (!only || strcmp(only, names[cut]) == 0)
				ok = play_one(paths[i], (enum xc_cut)cut, names[cut]) && ok;
	return ok ? 0 : 1;
}
