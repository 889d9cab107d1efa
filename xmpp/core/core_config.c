/* core_config.c - from the configuration document to what tandem-core works with. */
#include <unistd.h>

#include "appliance/base/log.h"
#include "appliance/loop/conn.h"
#include "appliance/loop/tls.h"
#include "xmpp/core/program.h"

#ifdef CONFIG_ACCESS_C2S_DIRECT_TLS
#define HAVE_DIRECT_TLS true
#else
#define HAVE_DIRECT_TLS false
#endif
#ifdef CONFIG_ACCESS_COMPONENT
#define HAVE_COMPONENTS true
#else
#define HAVE_COMPONENTS false
#endif

#define BACKLOG         1024
#define PREAUTH_NODES   256u
#define BOUND_NODES     8192u
#define COMPONENT_NODES 16384u
#define DAY_S           86400
#define WARN_DAYS       14
#define OWN_SLACK       (64u << 10)

static struct xml_limits xml_limits_of(const struct config *cfg, uint32_t octets, uint32_t nodes)
{
	return (struct xml_limits){ .stanza_octets = octets,
				    .depth = cfg->limits.depth,
				    .attrs = cfg->limits.attributes,
				    .nodes = nodes };
}

static void limits_from(const struct config *cfg, struct core_limits *l)
{
	l->preauth = xml_limits_of(cfg, cfg->limits.preauth_stanza_octets, PREAUTH_NODES);
	l->bound = xml_limits_of(cfg, cfg->limits.stanza_octets, BOUND_NODES);
	l->component = xml_limits_of(cfg, cfg->limits.component_stanza_octets, COMPONENT_NODES);
	l->own = l->component;
	l->own.stanza_octets += OWN_SLACK;
	l->conns = cfg->limits.connections;
	l->conns_per_addr = cfg->limits.connections_per_address;
	l->unauth_s = cfg->limits.unauthenticated_seconds;
	l->auth_failures = cfg->limits.auth_failures;
	l->stanza_rate = cfg->limits.stanzas_per_second;
	l->stanza_burst = cfg->limits.stanza_burst;
	l->octet_rate = cfg->limits.octets_per_second;
	l->out_octets = cfg->limits.output_queue_octets;
	l->sm_queue = cfg->limits.sm_queue;
	l->sm_resume_s = cfg->limits.resumption_seconds;
	l->mail_per_user = cfg->limits.offline_messages;
	l->mail_expiry_s = (uint64_t)cfg->limits.offline_days * 86400;
	l->component_expiry_s = cfg->components.expiry_seconds;
	l->roster_items = cfg->limits.roster_items;
	l->sessions_per_user = cfg->limits.sessions_per_account;
	l->seen_window_s = cfg->limits.duplicate_window_hours * 3600;
}

static int mechanisms_from(const struct config *cfg, struct core_config *c)
{
	struct buf b;
	int rc = 0;

	buf_init(&b, 4096);
	for (uint32_t i = 0; i < cfg->sasl.mechanisms.n && rc == 0; i++)
		rc = buf_addf(&b, "%s" SLFMT, i ? " " : "", SLARG(cfg->sasl.mechanisms.v[i]));
	if (rc == 0 && b.n) {
		c->mechanisms = arena_dup(c->arena, buf_sl(&b));
		rc = c->mechanisms.n ? 0 : E_NOMEM;
	}
	buf_free(&b);
	return rc;
}

static void warn_of_end(const struct config_host *h, const struct tls_ctx *t)
{
	int64_t left = tls_ctx_valid_s(t);

	if (left < 0)
		log_ev(LOG_L_WARN, "certificate.expired", KS("host", h->name),
		       KI("days_ago", -left / DAY_S));
	else if (left < WARN_DAYS * DAY_S)
		log_ev(LOG_L_WARN, "certificate.expires", KS("host", h->name),
		       KI("days_left", left / DAY_S));
}

static int host_from(const struct config_host *h, struct core_config *c, struct err *e)
{
	struct domain d = { .name = h->name, .kind = DOMAIN_HOST };
	struct err why = { 0, NULL, "" };
	int rc = tls_ctx_server(h->certificate, h->key, "xmpp-client", &d.tls, &why);

	if (rc < 0)
		err_set(e, rc, NULL, "host[" SLFMT "]: certificate_file, key_file: %s",
			SLARG(h->name), why.text);
	else
		warn_of_end(h, d.tls);
	if (rc == 0)
		rc = core_config_add_domain(c, &d);
	tls_ctx_unref(&d.tls);
	return rc;
}

/* Where TLS comes first, the client says whom it wants inside the handshake. */
static int first_from(const struct config *cfg, struct core_config *c, struct err *e)
{
	const struct domain *d;
	int rc;

	if (cfg->nhost == 0)
		return 0;
	rc = tls_ctx_server(cfg->host[0].certificate, cfg->host[0].key, "xmpp-client",
			    &c->tls_first, e);
	for (uint32_t i = 1; i < cfg->nhost && rc == 0; i++) {
		d = core_domain(c, cfg->host[i].name);
		rc = d ? tls_ctx_add_host(c->tls_first, d->name, d->tls) : 0;
	}
	return rc;
}

#ifdef CONFIG_TRANSLATOR_SMS
#define HAVE_SMS true
#else
#define HAVE_SMS false /* nobody would ever come for what waits for that domain */
#endif

static int domains_from(const struct config *cfg, struct core_config *c, struct err *e)
{
	struct domain sms = { .name = cfg->sms.domain,
			      .kind = DOMAIN_COMPONENT,
			      .custody = true,
			      .local_only = true };
	int rc = 0;

	for (uint32_t i = 0; i < cfg->nhost && rc == 0; i++)
		rc = host_from(&cfg->host[i], c, e);
	for (uint32_t i = 0; i < cfg->ncomponent && rc == 0; i++) {
		const struct config_component *k = &cfg->component[i];

		rc = core_config_add_domain(c, &(struct domain){ .name = k->name,
								 .kind = DOMAIN_COMPONENT,
								 .secret = k->secret,
								 .custody = k->custody });
	}
	if (rc == 0)
		rc = first_from(cfg, c, e);
	if (rc == 0 && HAVE_SMS && cfg->sms.domain.n)
		rc = core_config_add_domain(c, &sms);
	return rc;
}

static enum component_tls component_tls_from(uint32_t setting)
{
	switch (setting) {
	case CONFIG_COMPONENT_TLS_OPTIONAL:
		return COMPONENT_TLS_OPTIONAL;
	case CONFIG_COMPONENT_TLS_OFF:
		return COMPONENT_TLS_OFF;
	default:
		return COMPONENT_TLS_REQUIRED;
	}
}

int core_config_from(const struct config *cfg, const struct core_config **c_r, struct err *e)
{
	struct core_config *c;
	int rc = core_config_new(&c);

	if (rc != 0)
		return err_set(e, rc, NULL, "no memory for the configuration");
	limits_from(cfg, &c->lim);
	c->tls_required = cfg->c2s.tls == CONFIG_C2S_TLS_REQUIRED;
	c->component_tls = component_tls_from(cfg->components.tls);
	c->scram_iterations = cfg->sasl.scram_iterations;
	rc = mechanisms_from(cfg, c);
	if (rc == 0)
		rc = domains_from(cfg, c, e);
	if (rc != 0) {
		core_config_unref(c);
		if (e && !e->code)
			err_set(e, rc, NULL, "a domain is there twice, or no memory: %s",
				e_name(rc));
		return rc;
	}
	*c_r = c;
	return 0;
}

/* ---- listeners ------------------------------------------------------------------------------- */

static int one_more(struct core_setup *s, enum access_port port, struct core_listen **l_r,
		    struct err *e)
{
	if (s->nlisten == CORE_LISTEN_MAX)
		return err_set(e, E_LIMIT, NULL, "more than %u addresses to listen on",
			       CORE_LISTEN_MAX);
	*l_r = &s->listen[s->nlisten];
	(*l_r)->port = port;
	return 0;
}

static int listen_list(struct core_setup *s, const struct config_list *list, enum access_port port,
		       const char *name, json_t *listening, struct err *e)
{
	char host[CONFIG_HOST_MAX];
	struct core_listen *l = NULL;
	uint16_t number;
	int rc = 0;

	for (uint32_t i = 0; i < list->n && rc == 0; i++) {
		rc = config_split_address(list->v[i], host, &number);
		if (rc != 0)
			return err_set(e, rc, NULL, "\"" SLFMT "\" is no address",
				       SLARG(list->v[i]));
		rc = one_more(s, port, &l, e);
		if (rc == 0)
			rc = listen_open_tcp(host, number, BACKLOG, &l->fd, e);
		if (rc == 0) {
			s->nlisten++;
			json_array_append_new(listening,
					      json_pack("{s:s,s:s%}", "name", name, "address",
							list->v[i].p, list->v[i].n));
		}
	}
	return rc;
}

static int listen_unix(struct core_setup *s, const struct config *cfg, json_t *listening,
		       struct err *e)
{
	char path[128];
	struct core_listen *l = NULL;
	int rc = jail_core_socket(cfg, CONFIG_SMS, path, sizeof(path), e);

	if (rc == 0)
		rc = one_more(s, ACCESS_COMPONENT_UNIX, &l, e);
	if (rc == 0)
		rc = listen_open_unix(path, 0666, &l->fd, e);
	if (rc != 0)
		return rc;
	s->nlisten++;
	json_array_append_new(listening,
			      json_pack("{s:s,s:s}", "name", "translators", "address", path));
	return 0;
}

static bool built_in(bool have, const struct config_list *list, const char *key)
{
	if (!have && list->n)
		log_ev(LOG_L_WARN, "core.not_built_in", KC("option", key));
	return have;
}

static enum loop_backend backend_of(uint32_t setting)
{
	switch (setting) {
	case CONFIG_EVENTS_EPOLL:
		return LOOP_BACKEND_EPOLL;
	case CONFIG_EVENTS_SELECT:
		return LOOP_BACKEND_SELECT;
	default:
		return LOOP_BACKEND_DEFAULT;
	}
}

int core_setup_from(const struct config *cfg, struct core_setup *s, json_t *listening,
		    struct err *e)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t gid;
	int rc;

	s->workers = (uint16_t)(cfg->workers ? cfg->workers : cpus > 0 ? (uint32_t)cpus : 1);
	if (s->workers > BUS_MAX_WORKERS)
		s->workers = BUS_MAX_WORKERS;
	s->backend = backend_of(cfg->event_backend);
	jail_user(cfg, CONFIG_SMS, &s->uid[0], &gid);
	s->nuids = 1;
	rc = listen_list(s, &cfg->c2s.listen, ACCESS_C2S, "c2s", listening, e);
	if (rc == 0 && built_in(HAVE_DIRECT_TLS, &cfg->c2s.listen_tls, "c2s.listen_tls"))
		rc = listen_list(s, &cfg->c2s.listen_tls, ACCESS_C2S_TLS, "c2s_tls", listening, e);
	if (rc == 0 && built_in(HAVE_COMPONENTS, &cfg->components.listen, "components.listen"))
		rc = listen_list(s, &cfg->components.listen, ACCESS_COMPONENT, "component",
				 listening, e);
	if (rc == 0 &&
	    built_in(HAVE_COMPONENTS, &cfg->components.listen_tls, "components.listen_tls"))
		rc = listen_list(s, &cfg->components.listen_tls, ACCESS_COMPONENT_TLS,
				 "component_tls", listening, e);
	if (rc == 0)
		rc = listen_unix(s, cfg, listening, e);
	return rc;
}
