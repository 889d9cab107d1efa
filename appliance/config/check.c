/* check.c - settings that contradict each other. See config.h.
 *
 * Called on every path (file, socketpair), so a process that sees only its part of the document
 * must not miss what it did not get: each check looks at options that go to the same processes. */
#include "appliance/config/schema.h"

#include <stdarg.h>

static int PRINTF_LIKE(5, 6)
	wrong(char *where, struct err *e, const char *key, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_vset(e, code, NULL, fmt, ap);
	va_end(ap);
	snprintf(where, WHERE_MAX, "%s", key);
	return code;
}

static int wrong_in(char *where, struct err *e, const char *section, struct sl title,
		    const char *key, const char *text)
{
	char at[WHERE_MAX];

	snprintf(at, sizeof(at), "%s[" SLFMT "]%s%s", section, SLARG(sl_sub(title, 0, 253)),
		 *key ? "." : "", key);
	return wrong(where, e, at, E_STATE, "%s", text);
}

/* ---- domains ---- */

static int check_domains(const struct config *c, char *where, struct err *e)
{
	if (c->nhost == 0)
		return wrong(where, e, "", E_STATE, "no host section: which domain is served?");
	for (uint32_t i = 0; i < c->nhost; i++) {
		for (uint32_t k = 0; k < i; k++)
			if (sl_eq(c->host[i].name, c->host[k].name))
				return wrong_in(where, e, "host", c->host[i].name, "",
						"this host is there twice");
		if (sl_eq(c->host[i].name, c->sms.domain))
			return wrong(where, e, "sms.domain", E_STATE,
				     "is also a host: the translator needs a domain of its own");
	}
	for (uint32_t i = 0; i < c->ncomponent; i++) {
		struct sl name = c->component[i].name;
		if (sl_eq(name, c->sms.domain))
			return wrong_in(where, e, "component", name, "",
					"is the domain of the SMS translator (sms.domain)");
		for (uint32_t k = 0; k < c->nhost; k++)
			if (sl_eq(name, c->host[k].name))
				return wrong_in(where, e, "component", name, "", "is also a host");
		for (uint32_t k = 0; k < i; k++)
			if (sl_eq(name, c->component[k].name))
				return wrong_in(where, e, "component", name, "",
						"this component is there twice");
	}
	return 0;
}

/* With the contents (tandem-core) or the paths (tandemd) at hand. */
static bool host_has_tls(const struct config_host *h)
{
	return (h->certificate.n && h->key.n) || (h->certificate_file.n && h->key_file.n);
}

static bool host_has_half(const struct config_host *h)
{
	return (h->certificate.n != 0) != (h->key.n != 0) ||
	       (h->certificate_file.n != 0) != (h->key_file.n != 0);
}

static int check_tls(const struct config *c, enum config_who who, char *where, struct err *e)
{
	if (!(who & (CONFIG_TANDEMD | CONFIG_CORE)))
		return 0;
	for (uint32_t i = 0; i < c->nhost; i++) {
		const struct config_host *h = &c->host[i];
		if (host_has_half(h))
			return wrong_in(where, e, "host", h->name, "",
					"certificate and key belong together: one is missing");
		if (!host_has_tls(h) && (c->c2s.tls == CONFIG_C2S_TLS_REQUIRED ||
					 c->c2s.listen_tls.n || c->components.listen_tls.n))
			return wrong_in(where, e, "host", h->name, "",
					"no certificate_file and key_file, but TLS is wanted");
	}
	return 0;
}

/* ---- listeners ---- */

struct listener_list {
	const char *key;
	const struct config_list *l;
};

static int check_listeners(const struct config *c, char *where, struct err *e)
{
	const struct listener_list all[] = {
		{ "c2s.listen", &c->c2s.listen },
		{ "c2s.listen_tls", &c->c2s.listen_tls },
		{ "components.listen", &c->components.listen },
		{ "components.listen_tls", &c->components.listen_tls },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		for (size_t k = 0; k < i; k++)
			for (uint32_t x = 0; x < all[i].l->n; x++)
				for (uint32_t y = 0; y < all[k].l->n; y++)
					if (sl_eq(all[i].l->v[x], all[k].l->v[y]))
						return wrong(where, e, all[i].key, E_STATE,
							     SLFMT " is also in %s",
							     SLARG(all[i].l->v[x]), all[k].key);
	return 0;
}

/* ---- numbers that depend on each other
 * ------------------------------------------------------------ */

static int check_limits(const struct config *c, char *where, struct err *e)
{
	if (c->limits.preauth_stanza_octets > c->limits.stanza_octets)
		return wrong(where, e, "limits.preauth_stanza_octets", E_STATE,
			     "is more than limits.stanza_octets");
	if (c->limits.component_stanza_octets < c->limits.stanza_octets)
		return wrong(where, e, "limits.component_stanza_octets", E_STATE,
			     "is less than limits.stanza_octets");
	if (c->limits.output_queue_octets < c->limits.component_stanza_octets + 1024)
		return wrong(where, e, "limits.output_queue_octets", E_STATE,
			     "is less than one stanza (limits.component_stanza_octets)");
	if (c->limits.stanzas_per_second && c->limits.stanza_burst < c->limits.stanzas_per_second)
		return wrong(where, e, "limits.stanza_burst", E_STATE,
			     "is less than limits.stanzas_per_second");
	if (c->limits.connections_per_address > c->limits.connections)
		return wrong(where, e, "limits.connections_per_address", E_STATE,
			     "is more than limits.connections");
	if (c->sasl.mechanisms.n == 0)
		return wrong(where, e, "sasl.mechanisms", E_STATE, "none: nobody could log in");
	return 0;
}

static int check_sms(const struct config *c, char *where, struct err *e)
{
	if (c->sms.domain.n == 0)
		return wrong(where, e, "sms.domain", E_STATE, "is empty");
	if (c->sms.server.n && !c->sms.server_secret.n && !c->sms.server_secret_file.n)
		return wrong(where, e, "sms.server_secret_file", E_STATE,
			     "is missing: sms.server wants a secret");
	if (c->sms.retry_max_seconds < c->sms.retry_min_seconds)
		return wrong(where, e, "sms.retry_max_seconds", E_STATE,
			     "is less than sms.retry_min_seconds");
	return 0;
}

int config_check_link(const struct config_link *l, char where[WHERE_MAX], struct err *e)
{
	if (l->reconnect_max_seconds < l->reconnect_min_seconds)
		return wrong_in(where, e, "link", l->name, "reconnect_max_seconds",
				"is less than reconnect_min_seconds");
	if (l->tls != CONFIG_LINK_TLS_VERIFY && (l->ca.n || l->ca_file.n))
		return wrong_in(where, e, "link", l->name, "ca_file",
				"is of no use without tls = verify");
	return 0;
}

static int check_titles(const struct config *c, char *where, struct err *e)
{
	for (uint32_t i = 0; i < c->nlink; i++) {
		int rc = config_check_link(&c->link[i], where, e);
		if (rc < 0)
			return rc;
		for (uint32_t k = 0; k < i; k++)
			if (sl_eq(c->link[i].name, c->link[k].name))
				return wrong_in(where, e, "link", c->link[i].name, "",
						"this link is there twice");
	}
	for (uint32_t i = 0; i < c->nhandset; i++)
		for (uint32_t k = 0; k < i; k++)
			if (sl_eq(c->handset[i].name, c->handset[k].name))
				return wrong_in(where, e, "handset", c->handset[i].name, "",
						"this handset is there twice");
	return 0;
}

static int check_secrets(const struct config *c, enum config_who who, char *where, struct err *e)
{
	for (uint32_t i = 0; i < c->ncomponent && (who & (CONFIG_TANDEMD | CONFIG_CORE)); i++)
		if (c->component[i].secret.n == 0 && c->component[i].secret_file.n == 0)
			return wrong_in(where, e, "component", c->component[i].name, "secret_file",
					"is missing: a component without a secret cannot connect");
	return 0;
}

int config_check(const struct config *c, enum config_who who, char where[WHERE_MAX], struct err *e)
{
	int rc = check_domains(c, where, e);

	if (rc == 0)
		rc = check_tls(c, who, where, e);
	if (rc == 0)
		rc = check_listeners(c, where, e);
	if (rc == 0)
		rc = check_limits(c, where, e);
	if (rc == 0)
		rc = check_sms(c, where, e);
	if (rc == 0)
		rc = check_titles(c, where, e);
	if (rc == 0)
		rc = check_secrets(c, who, where, e);
	return rc;
}
