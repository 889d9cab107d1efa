/* schema.c - every option of tandem.conf: type, range, default, who needs it, help.
 *
 * To add one: a member in config.h and a row here. tandem.conf.sample and docs/configuration.md are
 * made from this table (tandemctl config sample, tandemctl config reference); a test compares. */
#include "appliance/config/schema.h"

#include "appliance/base/enc.h"

#define TOP(f)          offsetof(struct config, f)
#define HOST(f)         offsetof(struct config_host, f)
#define COMP(f)         offsetof(struct config_component, f)
#define LINK(f)         offsetof(struct config_link, f)
#define SIM(f)          offsetof(struct config_handset_sim, f)
#define D               CONFIG_TANDEMD
#define CORE            CONFIG_CORE
#define SMS             CONFIG_SMS
#define ALL             CONFIG_ALL
#define PATH_MAX_OCTETS 1000u
#define PEM_MAX_OCTETS  262144u
#define KIB             1024u
#define MIB             1048576u

/* ---- syntax of single values ---- */

static int check_domain(struct sl v, struct err *e)
{
	if (v.n == 0 || v.n > 253)
		return err_set(e, E_SYNTAX, NULL, "a domain has 1 to 253 octets");
	if (v.p[0] == '.' || v.p[v.n - 1] == '.')
		return err_set(e, E_SYNTAX, NULL, "a domain neither begins nor ends with a dot");
	for (size_t i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];
		if (c >= 'A' && c <= 'Z')
			return err_set(e, E_SYNTAX, NULL, "domains are written in lower case");
		if (!(c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
		      c == '.'))
			return err_set(e, E_SYNTAX, NULL, "\"" SLFMT "\" is not a domain",
				       SLARG(sl_sub(v, 0, 100)));
		if (c == '.' && v.p[i - 1] == '.')
			return err_set(e, E_SYNTAX, NULL, "a domain has no empty labels");
	}
	return 0;
}

static int check_digits(struct sl v, size_t min, size_t max, const char *what, struct err *e)
{
	bool ok = v.n >= min && v.n <= max;

	for (size_t i = 0; ok && i < v.n; i++)
		ok = v.p[i] >= '0' && v.p[i] <= '9';
	return ok ? 0
		  : err_set(e, E_SYNTAX, NULL, "\"" SLFMT "\" is not %s", SLARG(sl_sub(v, 0, 60)),
			    what);
}

static int check_number(struct sl v, struct err *e)
{
	if (v.n < 2 || v.p[0] != '+' || v.p[1] == '0' ||
	    check_digits(sl_sub(v, 1, v.n), 3, 15, "", NULL) < 0)
		return err_set(e, E_SYNTAX, NULL,
			       "\"" SLFMT "\" is not a number in international form (+15550100)",
			       SLARG(sl_sub(v, 0, 60)));
	return 0;
}

static int check_prefix(struct sl v, struct err *e)
{
	if (v.n < 2 || v.p[0] != '+' || check_digits(sl_sub(v, 1, v.n), 1, 15, "", NULL) < 0)
		return err_set(e, E_SYNTAX, NULL,
			       "\"" SLFMT "\" is not the beginning of a number (+1, +4930)",
			       SLARG(sl_sub(v, 0, 60)));
	return 0;
}

static int check_country(struct sl v, struct err *e)
{
	if (v.n && v.p[0] == '0')
		return err_set(e, E_SYNTAX, NULL, "a country code does not begin with 0");
	return check_digits(v, 0, 3, "a country code (digits without +)", e);
}

static int check_dial_prefix(struct sl v, struct err *e)
{
	return check_digits(v, 0, 6, "a dialling prefix (digits)", e);
}

static int check_name(struct sl v, struct err *e)
{
	bool ok = v.n >= 1 && v.n <= 64;

	for (size_t i = 0; ok && i < v.n; i++) {
		char c = v.p[i];
		ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		     c == '-' || c == '_' || c == '.';
	}
	return ok ? 0
		  : err_set(e, E_SYNTAX, NULL,
			    "a name has 1 to 64 of the characters a-z A-Z 0-9 - _ .");
}

static int check_address(struct sl v, struct err *e)
{
	char host[CONFIG_HOST_MAX];
	uint16_t port;

	if (config_split_address(v, host, &port) < 0)
		return err_set(e, E_SYNTAX, NULL,
			       "\"" SLFMT "\" is not ADDRESS:PORT, [IPV6]:PORT or *:PORT",
			       SLARG(sl_sub(v, 0, 80)));
	return 0;
}

static int check_host_name(struct sl v, struct err *e)
{
	if (v.n == 0 || v.n > 253 || memchr(v.p, ' ', v.n) || memchr(v.p, '/', v.n))
		return err_set(e, E_SYNTAX, NULL, "not a host name or address");
	return 0;
}

static int check_mechanism(struct sl v, struct err *e)
{
	static const char *const known[] = { "SCRAM-SHA-512-PLUS",
					     "SCRAM-SHA-512",
					     "SCRAM-SHA-256-PLUS",
					     "SCRAM-SHA-256",
					     "SCRAM-SHA-1-PLUS",
					     "SCRAM-SHA-1",
					     "PLAIN" };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (sl_eq(v, sl_cstr(known[i])))
			return 0;
	return err_set(e, E_SYNTAX, NULL, "\"" SLFMT "\" is not a mechanism that we have",
		       SLARG(sl_sub(v, 0, 60)));
}

static int check_absolute(struct sl v, struct err *e)
{
	return v.n && v.p[0] == '/' ? 0 : err_set(e, E_SYNTAX, NULL, "must be an absolute path");
}

/* sun_path has 108 octets. */
static int check_socket(struct sl v, struct err *e)
{
	if (v.n > 107)
		return err_set(e, E_TOOBIG, NULL, "a socket's path has at most 107 octets");
	return check_absolute(v, e);
}

static int check_pem(struct sl v, struct err *e)
{
	for (size_t i = 0; i + 11 <= v.n; i++)
		if (memcmp(v.p + i, "-----BEGIN ", 11) == 0)
			return 0;
	return err_set(e, E_SYNTAX, NULL, "not a PEM text");
}

/* ---- the table ---- */

static const char *const levels[] = { "error", "warn", "notice", "info", "debug", NULL };
static const char *const backends[] = { "default", "epoll", "select", NULL };
static const char *const c2s_tls[] = { "required", "optional", NULL };
static const char *const component_tls[] = { "required", "optional", "off", NULL };
static const char *const server_tls[] = { "optional", "required", "direct", "off", NULL };
static const char *const link_tls[] = { "off", "unverified", "verify", NULL };
static const char *const link_types[] = { "smpp", NULL };
static const char *const alphabets[] = { "gsm7", "latin1", "ascii", NULL };
static const char *const behaviours[] = { "answer", "report", "silent", "refuse", "absent", NULL };

#define UINT_(k, f, d, lo, hi, w, r, h) \
	{ \
		.key = k, .kind = OPT_UINT, .offset = f, .def = d, .min = lo, .max = hi, .who = w, \
		.restart = r, .help = h \
	}
#define BOOL_(k, f, d, w, r, h) \
	{ \
		.key = k, .kind = OPT_BOOL, .offset = f, .def = d, .max = 1, .who = w, \
		.restart = r, .help = h \
	}
#define ENUM_(k, f, d, n, w, r, h) \
	{ \
		.key = k, .kind = OPT_ENUM, .offset = f, .def = d, .names = n, .who = w, \
		.restart = r, .help = h \
	}
#define STR_(k, f, d, hi, c, w, r, h) \
	{ \
		.key = k, .kind = OPT_STR, .offset = f, .def_text = d, .max = hi, .check = c, \
		.who = w, .restart = r, .help = h \
	}
#define LIST_(k, f, d, hi, c, w, r, h) \
	{ \
		.key = k, .kind = OPT_LIST, .offset = f, .def_text = d, .max = hi, .check = c, \
		.who = w, .restart = r, .help = h \
	}
#define FILE_(k, f, into, s, ex, h) \
	{ \
		.key = k, .kind = OPT_FILE, .offset = f, .def_text = "", .max = PATH_MAX_OCTETS, \
		.content = into, .secret = s, .sample = ex, .who = D, .help = h \
	}
#define CONTENT_(k, f, hi, c, s, w) \
	{ \
		.key = k, .kind = OPT_CONTENT, .offset = f, .def_text = "", .max = hi, .check = c, \
		.secret = s, .who = w, .help = "" \
	}

static const struct opt top_opts[] = {
	STR_("state_dir", TOP(state_dir), "/var/lib/tandem", 90, check_absolute, ALL, true,
	     "Where the data is: a folder of its own for each process is made in it."),
	STR_("control_socket", TOP(control_socket), "/run/tandem/control", 107, check_socket, D,
	     true, "The socket that tandemctl talks to."),
	STR_("control_group", TOP(control_group), "", 64, NULL, D, true,
	     "Members of this group may use the control socket; empty: only the user of tandemd."),
	ENUM_("log_level", TOP(log_level), 3, levels, ALL, false,
	      "The least important events that are logged."),
	BOOL_("syslog", TOP(syslog), false, ALL, true, "Log to syslog instead of standard error."),
	UINT_("stop_seconds", TOP(stop_seconds), 15, 1, 600, D, false,
	      "How long a process may take to commit and end before it is killed."),
	UINT_("workers", TOP(workers), 0, 0, 64, CORE, true,
	      "Event loops of tandem-core; 0: one for each CPU."),
	ENUM_("event_backend", TOP(event_backend), 0, backends, ALL, true,
	      "How a loop waits for descriptors."),
};

static const struct opt run_as_opts[] = {
	STR_("core_user", TOP(run_as.core_user), "tandem-core", 32, NULL, ALL, true,
	     "The user of tandem-core (when tandemd is started by root)."),
	STR_("sms_user", TOP(run_as.sms_user), "tandem-sms", 32, NULL, ALL, true,
	     "The user of tandem-sms."),
	UINT_("first_uid", TOP(run_as.first_uid), 61184, 1, 4000000000u, ALL, true,
	      "Where such a user does not exist: this number for tandem-core, the next one for\n"
	      "tandem-sms."),
};

static const struct opt host_opts[] = {
	FILE_("certificate_file", HOST(certificate_file), "certificate", false,
	      "/etc/tandem/example.com.crt",
	      "PEM: the host's certificate, then the intermediate ones."),
	FILE_("key_file", HOST(key_file), "key", true, "/etc/tandem/example.com.key",
	      "PEM: its private key. Must not be readable by everyone."),
	CONTENT_("certificate", HOST(certificate), PEM_MAX_OCTETS, check_pem, false, CORE),
	CONTENT_("key", HOST(key), PEM_MAX_OCTETS, check_pem, false, CORE),
};

static const struct opt c2s_opts[] = {
	LIST_("listen", TOP(c2s.listen), "*:5222", 16, check_address, CORE, true,
	      "Where clients connect (STARTTLS). * is every IPv4 and IPv6 address."),
	LIST_("listen_tls", TOP(c2s.listen_tls), "*:5223", 16, check_address, CORE, true,
	      "Where clients connect with TLS from the first octet (XEP-0368)."),
	ENUM_("tls", TOP(c2s.tls), CONFIG_C2S_TLS_REQUIRED, c2s_tls, CORE, false,
	      "optional lets clients log in without TLS: for tests on a closed network only."),
};

static const struct opt components_opts[] = {
	LIST_("listen", TOP(components.listen), "", 16, check_address, CORE, true,
	      "Where components connect. XEP-0114 has no TLS here: keep it on loopback, unless\n"
	      "all that connect use STARTTLS (version='1.0' streams, as our translators do)."),
	LIST_("listen_tls", TOP(components.listen_tls), "", 16, check_address, CORE, true,
	      "The same with TLS from the first octet."),
	ENUM_("tls", TOP(components.tls), CONFIG_COMPONENT_TLS_REQUIRED, component_tls, CORE, false,
	      "Of version='1.0' streams at listen. optional lets them log in without TLS; off:\n"
	      "none is offered, and XEP-0114 alone is spoken, for libraries that say\n"
	      "version='1.0' and cannot stand stream features."),
	UINT_("expiry_seconds", TOP(components.expiry_seconds), 259200, 60, 2592000, CORE, false,
	      "How long a message waits for a component with custody that is not there."),
};

static const struct opt component_opts[] = {
	FILE_("secret_file", COMP(secret_file), "secret", true, "/etc/tandem/irc.secret",
	      "Its secret, in a file that is not readable by everyone."),
	CONTENT_("secret", COMP(secret), 1024, NULL, true, CORE),
	BOOL_("custody", COMP(custody), false, CORE, false,
	      "Messages wait in the journal while the component is away, instead of being "
	      "refused."),
};

static const struct opt limits_opts[] = {
	UINT_("preauth_stanza_octets", TOP(limits.preauth_stanza_octets), 10000, 2000, MIB, CORE,
	      false, "Largest element before the login is complete."),
	UINT_("stanza_octets", TOP(limits.stanza_octets), 256 * KIB, 10000, 16 * MIB, CORE, false,
	      "Largest stanza of a client (RFC 6120 13.12: at least 10000)."),
	UINT_("component_stanza_octets", TOP(limits.component_stanza_octets), MIB, 10000, 16 * MIB,
	      CORE, false, "Largest stanza of a component."),
	UINT_("depth", TOP(limits.depth), 64, 8, 1000, CORE, false, "Nesting of elements."),
	UINT_("attributes", TOP(limits.attributes), 64, 8, 1000, CORE, false,
	      "Attributes of one element."),
	UINT_("connections", TOP(limits.connections), 100000, 1, 10000000, CORE, false,
	      "Client connections, all together; component connections, too, counted apart."),
	UINT_("connections_per_address", TOP(limits.connections_per_address), 200, 1, 10000000,
	      CORE, false,
	      "Connections from one address (IPv6: from one /64), of clients and, counted apart, "
	      "of components."),
	UINT_("unauthenticated_seconds", TOP(limits.unauthenticated_seconds), 60, 5, 3600, CORE,
	      false, "Time for TLS and login."),
	UINT_("auth_failures", TOP(limits.auth_failures), 5, 1, 100, CORE, false,
	      "Failed or aborted logins before the connection is closed."),
	UINT_("stanzas_per_second", TOP(limits.stanzas_per_second), 500, 0, 1000000, CORE, false,
	      "Of one session, in the long run; 0: no limit. Above it, we read more slowly. "
	      "Elements of XEP-0198 count as stanzas."),
	UINT_("stanza_burst", TOP(limits.stanza_burst), 2000, 0, 10000000, CORE, false,
	      "So many may come at once."),
	UINT_("octets_per_second", TOP(limits.octets_per_second), MIB, 0, 1000 * MIB, CORE, false,
	      "Of one connection; 0: no limit. Above it, we read more slowly."),
	UINT_("output_queue_octets", TOP(limits.output_queue_octets), 2 * MIB, 64 * KIB, 256 * MIB,
	      CORE, false, "Who does not read so much is detached."),
	UINT_("sm_queue", TOP(limits.sm_queue), 1000, 10, 100000, CORE, false,
	      "Stanzas of a session that wait for its acknowledgement (XEP-0198)."),
	UINT_("resumption_seconds", TOP(limits.resumption_seconds), 300, 0, 86400, CORE, false,
	      "How long a session that lost its connection can be resumed."),
	UINT_("offline_messages", TOP(limits.offline_messages), 1000, 0, 1000000, CORE, false,
	      "Stored for one account."),
	UINT_("offline_days", TOP(limits.offline_days), 0, 0, 3650, CORE, false,
	      "After which stored messages are returned to their senders; 0: never."),
	UINT_("roster_items", TOP(limits.roster_items), 2000, 10, 100000, CORE, false,
	      "Contacts of one account."),
	UINT_("sessions_per_account", TOP(limits.sessions_per_account), 32, 1, 10000, CORE, false,
	      "Resources of one account at a time."),
	UINT_("duplicate_window_hours", TOP(limits.duplicate_window_hours), 48, 1, 8760, CORE,
	      false, "How long a message that comes again with its origin-id is recognised."),
};

static const struct opt sasl_opts[] = {
	LIST_("mechanisms", TOP(sasl.mechanisms),
	      "SCRAM-SHA-512-PLUS SCRAM-SHA-512 SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS "
	      "SCRAM-SHA-1 PLAIN",
	      7, check_mechanism, CORE, false,
	      "Offered in this order. -PLUS needs TLS; PLAIN is never offered without it."),
	UINT_("scram_iterations", TOP(sasl.scram_iterations), 4096, 4096, 1000000, CORE, false,
	      "Of new verifiers (RFC 7677: at least 4096). More makes guessing dearer, and "
	      "logins too."),
};

static const struct opt sms_opts[] = {
	STR_("domain", TOP(sms.domain), "sms.localhost", 253, check_domain, SMS | CORE, true,
	     "A message to +15550100@DOMAIN is an SMS to that number."),
	STR_("server", TOP(sms.server), "", 253, check_address, SMS, true,
	     "ADDRESS:PORT of another XMPP server (Tandem on another box, or a foreign one) that\n"
	     "has the domain as a component; empty: our own core."),
	FILE_("server_secret_file", TOP(sms.server_secret_file), "server_secret", true,
	      "/etc/tandem/sms-server.secret", "The component's secret there."),
	CONTENT_("server_secret", TOP(sms.server_secret), 1024, NULL, true, SMS),
	ENUM_("server_tls", TOP(sms.server_tls), CONFIG_SERVER_TLS_OPTIONAL, server_tls, SMS, true,
	      "required: STARTTLS and SCRAM, as another Tandem has them; direct: TLS from the\n"
	      "first octet; optional: what the server offers, XEP-0114 in the clear otherwise;\n"
	      "off: that at once. required and direct want a server that proves itself: by SCRAM\n"
	      "with channel binding (another Tandem does), or by a certificate that\n"
	      "server_ca_file can check."),
	FILE_("server_ca_file", TOP(sms.server_ca_file), "server_ca", false, NULL,
	      "PEM: who may have signed the server's certificate, which must be for its name in\n"
	      "server. Empty: the certificate is not checked."),
	CONTENT_("server_ca", TOP(sms.server_ca), PEM_MAX_OCTETS, check_pem, false, SMS),
	STR_("default_link", TOP(sms.default_link), "", 64, NULL, SMS, false,
	     "The link for numbers that no prefix of a link begins; empty: the cheapest one "
	     "without prefixes."),
	STR_("country_code", TOP(sms.country_code), "", 3, check_country, SMS, false,
	     "Of numbers written in national form (49); empty: only international ones are taken."),
	STR_("international_prefix", TOP(sms.international_prefix), "00", 6, check_dial_prefix, SMS,
	     false, "What people dial instead of +."),
	STR_("national_prefix", TOP(sms.national_prefix), "0", 6, check_dial_prefix, SMS, false,
	     "What people dial before a national number; empty: nothing."),
	UINT_("max_parts", TOP(sms.max_parts), 10, 1, 255, SMS, false, "A longer text is refused."),
	UINT_("retry_min_seconds", TOP(sms.retry_min_seconds), 10, 1, 3600, SMS, false,
	      "Pause before the first repetition; doubled each time."),
	UINT_("retry_max_seconds", TOP(sms.retry_max_seconds), 900, 1, 86400, SMS, false,
	      "The longest pause."),
	UINT_("expiry_hours", TOP(sms.expiry_hours), 72, 1, 720, SMS, false,
	      "After which a message that could not be submitted is returned to its sender."),
	UINT_("receipt_hours", TOP(sms.receipt_hours), 96, 1, 720, SMS, false,
	      "After which a submitted message without a delivery receipt is settled as unknown."),
	UINT_("keep_days", TOP(sms.keep_days), 7, 1, 365, SMS, false,
	      "How long settled messages stay in the record (queue list)."),
	UINT_("messages_per_minute", TOP(sms.messages_per_minute), 0, 0, 1000000, SMS, false,
	      "Of one account; 0: no limit."),
};

static const struct opt link_opts[] = {
	ENUM_("type", LINK(type), CONFIG_LINK_SMPP, link_types, SMS, false, "The protocol."),
	BOOL_("enabled", LINK(enabled), true, SMS, false, "no: configured, but not connected."),
	{ .key = "host",
	  .kind = OPT_STR,
	  .offset = LINK(host),
	  .max = 253,
	  .required = true,
	  .check = check_host_name,
	  .who = SMS,
	  .sample = "smsc.example.net",
	  .help = "The SMS centre's name or address." },
	UINT_("port", LINK(port), 2775, 1, 65535, SMS, false, "Its TCP port."),
	{ .key = "system_id",
	  .kind = OPT_STR,
	  .offset = LINK(system_id),
	  .max = 15,
	  .required = true,
	  .who = SMS,
	  .sample = "tandem",
	  .help = "Our name there." },
	FILE_("password_file", LINK(password_file), "password", true,
	      "/etc/tandem/carrier-a.password",
	      "Our password there, in a file that is not readable by everyone."),
	CONTENT_("password", LINK(password), 8, NULL, true, SMS),
	STR_("system_type", LINK(system_type), "", 12, NULL, SMS, false,
	     "What some centres want to see (VMA, SMPP, ...)."),
	ENUM_("tls", LINK(tls), CONFIG_LINK_TLS_OFF, link_tls, SMS, false,
	      "unverified encrypts without knowing to whom."),
	FILE_("ca_file", LINK(ca_file), "ca", false, NULL,
	      "PEM: the certificate authorities to trust with tls = verify; none: the system's."),
	CONTENT_("ca", LINK(ca), PEM_MAX_OCTETS, check_pem, false, SMS),
	UINT_("window", LINK(window), 10, 1, 1000, SMS, false,
	      "Messages on their way without an answer."),
	UINT_("bind_seconds", LINK(bind_seconds), 30, 1, 600, SMS, false,
	      "Time for connection and bind."),
	UINT_("response_seconds", LINK(response_seconds), 60, 1, 600, SMS, false,
	      "Time for an answer; then the outcome is unknown and the message is sent again."),
	UINT_("enquire_link_seconds", LINK(enquire_link_seconds), 30, 1, 3600, SMS, false,
	      "Silence after which we ask whether the other side is there."),
	UINT_("inactivity_seconds", LINK(inactivity_seconds), 0, 0, 86400, SMS, false,
	      "The link is made anew when nothing at all was received for so long; 0: never."),
	UINT_("reconnect_min_seconds", LINK(reconnect_min_seconds), 1, 1, 3600, SMS, false,
	      "Pause before a new connection; doubled each time, with some chance in it."),
	UINT_("reconnect_max_seconds", LINK(reconnect_max_seconds), 60, 1, 3600, SMS, false,
	      "The longest pause."),
	UINT_("throttle_seconds", LINK(throttle_seconds), 5, 1, 600, SMS, false,
	      "Longest pause after the centre said that we are too fast (50 ms, doubling)."),
	UINT_("rate", LINK(rate), 0, 0, 100000, SMS, false,
	      "Messages a second; 0: as fast as it answers."),
	ENUM_("alphabet", LINK(alphabet), CONFIG_ALPHABET_GSM7, alphabets, SMS, false,
	      "What data_coding 0 means there."),
	UINT_("source_ton", LINK(source_ton), 255, 0, 255, SMS, false,
	      "Type of number of our senders; 255: by its form."),
	UINT_("source_npi", LINK(source_npi), 255, 0, 255, SMS, false,
	      "Numbering plan of our senders; 255: by its form."),
	UINT_("destination_ton", LINK(destination_ton), 255, 0, 255, SMS, false,
	      "The same for recipients."),
	UINT_("destination_npi", LINK(destination_npi), 255, 0, 255, SMS, false,
	      "The same for recipients."),
	LIST_("prefixes", LINK(prefixes), "", 1000, check_prefix, SMS, false,
	      "The numbers that it serves begin so (+1, +4930); none: all numbers."),
	UINT_("cost", LINK(cost), 100, 0, 1000000, SMS, false,
	      "Of several links that serve a number, the cheapest is used."),
};

static const struct opt handset_opts[] = {
	ENUM_("behaviour", SIM(behaviour), CONFIG_HANDSET_ANSWER, behaviours, SMS, true,
	      "answer: reports delivery and answers; report: reports only; silent: does neither;\n"
	      "refuse: reports failure; absent: is never reached."),
	STR_("answer", SIM(answer), "You wrote: %s", 200, NULL, SMS, true,
	     "What it answers; %s stands for the text that it got."),
	UINT_("delay_ms", SIM(delay_ms), 300, 0, 600000, SMS, true,
	      "How long it takes to report and to answer."),
};

#define PLAIN(n, o, w, h) \
	{ \
		.name = n, .opt = o, .nopt = ARRAY_LEN(o), .who = w, .help = h \
	}

const struct section config_schema[] = {
	PLAIN("", top_opts, ALL,
	      "Tandem's configuration. Made from the schema; lines that begin with # show "
	      "defaults.\n"
	      "Check it with: tandemctl config check FILE\n"
	      "Apply changes with: tandemctl reload (it says what needs a restart)"),
	PLAIN("run_as", run_as_opts, ALL, "The users that the processes become."),
	{ .name = "host",
	  .opt = host_opts,
	  .nopt = ARRAY_LEN(host_opts),
	  .who = ALL,
	  .titled = true,
	  .array = TOP(host),
	  .count = TOP(nhost),
	  .size = sizeof(struct config_host),
	  .max = 1000,
	  .check_title = check_domain,
	  .sample_title = "example.com",
	  .sample_on = true,
	  .help = "A domain whose accounts are here. One section for each." },
	PLAIN("c2s", c2s_opts, CORE, "Clients."),
	PLAIN("components", components_opts, CORE,
	      "Foreign components (gateways, bots): where they connect."),
	{ .name = "component",
	  .opt = component_opts,
	  .nopt = ARRAY_LEN(component_opts),
	  .who = CORE,
	  .titled = true,
	  .array = TOP(component),
	  .count = TOP(ncomponent),
	  .size = sizeof(struct config_component),
	  .max = 1000,
	  .check_title = check_domain,
	  .sample_title = "irc.example.com",
	  .help = "One foreign component. Others can be added with tandemctl component add." },
	PLAIN("limits", limits_opts, CORE,
	      "What one peer may use. Reaching a limit is counted (counters)."),
	PLAIN("sasl", sasl_opts, CORE, "Login."),
	PLAIN("sms", sms_opts, SMS | CORE, "The SMS translator."),
	{ .name = "link",
	  .opt = link_opts,
	  .nopt = ARRAY_LEN(link_opts),
	  .who = SMS,
	  .titled = true,
	  .array = TOP(link),
	  .count = TOP(nlink),
	  .size = sizeof(struct config_link),
	  .max = 200,
	  .check_title = check_name,
	  .sample_title = "carrier-a",
	  .help = "A connection to an SMS centre. Others can be added with tandemctl link add." },
	{ .name = "handset",
	  .opt = handset_opts,
	  .nopt = ARRAY_LEN(handset_opts),
	  .who = SMS,
	  .titled = true,
	  .restart = true,
	  .array = TOP(handset),
	  .count = TOP(nhandset),
	  .size = sizeof(struct config_handset_sim),
	  .max = 1000,
	  .check_title = check_number,
	  .sample_title = "+15550100",
	  .help = "A simulated telephone, for trying things out." },
};
const size_t config_schema_n = ARRAY_LEN(config_schema);

/* ---- look-up and checks ---- */

const struct section *schema_section(const char *name)
{
	for (size_t i = 0; i < config_schema_n; i++)
		if (strcmp(config_schema[i].name, name) == 0)
			return &config_schema[i];
	return NULL;
}

const struct opt *schema_opt(const struct section *s, const char *key)
{
	for (size_t i = 0; i < s->nopt; i++)
		if (strcmp(s->opt[i].key, key) == 0)
			return &s->opt[i];
	return NULL;
}

int schema_check_uint(const struct opt *o, uint64_t v, struct err *e)
{
	if (v < o->min || v > o->max)
		return err_set(e, E_RANGE, NULL, "%llu is out of range: from %u to %u",
			       (unsigned long long)v, o->min, o->max);
	return 0;
}

int schema_check_text(const struct opt *o, struct sl v, struct err *e)
{
	if (o->kind != OPT_LIST && v.n > o->max)
		return err_set(e, E_TOOBIG, NULL, "longer than %u octets", o->max);
	if (v.n && (memchr(v.p, 0, v.n) || !utf8_valid(v)))
		return err_set(e, E_SYNTAX, NULL, "not a text in UTF-8");
	/* An empty string is the default of what may be left out; what may not says so itself. */
	if (v.n == 0 && o->kind != OPT_LIST && !o->required && o->def_text && !*o->def_text)
		return 0;
	return o->check ? o->check(v, e) : 0;
}

int schema_enum(const struct opt *o, struct sl v, uint32_t *v_r, struct err *e)
{
	char all[120] = "";
	size_t n = 0;

	for (uint32_t i = 0; o->names[i]; i++) {
		if (sl_eq(v, sl_cstr(o->names[i]))) {
			*v_r = i;
			return 0;
		}
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", o->names[i]);
	}
	return err_set(e, E_SYNTAX, NULL, "\"" SLFMT "\" is none of: %s", SLARG(sl_sub(v, 0, 40)),
		       all);
}

static int check_bool(struct sl v, bool *b_r, struct err *e)
{
	static const char *const yes[] = { "true", "yes", "on" }, *const no[] = { "false", "no",
										  "off" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (sl_eq(v, sl_cstr(yes[i])) || sl_eq(v, sl_cstr(no[i]))) {
			*b_r = sl_eq(v, sl_cstr(yes[i]));
			return 0;
		}
	return err_set(e, E_SYNTAX, NULL, "\"" SLFMT "\" is neither true nor false",
		       SLARG(sl_sub(v, 0, 40)));
}

static int check_uint(const struct opt *o, struct sl v, uint64_t *v_r, struct err *e)
{
	int rc = sl_to_u64(v, UINT64_MAX, v_r);

	if (rc == E_SYNTAX)
		return err_set(e, rc, NULL, "\"" SLFMT "\" is not a number",
			       SLARG(sl_sub(v, 0, 40)));
	return schema_check_uint(o, rc == E_RANGE ? UINT64_MAX : *v_r, e);
}

int schema_check_value(const struct opt *o, struct sl v, struct err *e)
{
	uint64_t u;
	uint32_t n;
	bool b;

	switch (o->kind) {
	case OPT_BOOL:
		return check_bool(v, &b, e);
	case OPT_UINT:
		return check_uint(o, v, &u, e);
	case OPT_ENUM:
		return schema_enum(o, v, &n, e);
	default:
		return schema_check_text(o, v, e);
	}
}

json_t *schema_value_json(const struct opt *o, struct sl v)
{
	uint64_t u = 0;
	bool b = false;

	switch (o->kind) {
	case OPT_BOOL:
		check_bool(v, &b, NULL);
		return json_boolean(b);
	case OPT_UINT:
		check_uint(o, v, &u, NULL);
		return json_integer((json_int_t)u);
	default:
		return json_stringn(v.n ? v.p : "", v.n);
	}
}

static json_t *list_json(const struct opt *o, struct sl text, struct err *e)
{
	json_t *a = json_array();

	for (size_t i = 0, end; i < text.n; i = end + 1) {
		end = sl_find(text, ',', i);
		struct sl v = sl_trim(sl_sub(text, i, end));
		if (schema_check_value(o, v, e) < 0) {
			json_decref(a);
			return NULL;
		}
		json_array_append_new(a, json_stringn(v.p, v.n));
	}
	return a;
}

json_t *config_option_json(const char *section, const char *key, struct sl text, struct err *e)
{
	const struct section *s = schema_section(section);
	const struct opt *o = s ? schema_opt(s, key) : NULL;
	struct err why = { 0, NULL, "" };
	json_t *v;

	if (!o || o->kind == OPT_FILE) {
		const char *near = s ? schema_nearest(s, sl_cstr(key)) : NULL;
		err_set(e, E_NOTFOUND, NULL, "there is no option %s%s%s", key,
			near ? "; did you mean " : "", near ? near : "");
		return NULL;
	}
	if (o->kind == OPT_LIST)
		v = list_json(o, text, &why);
	else
		v = schema_check_value(o, text, &why) < 0 ? NULL : schema_value_json(o, text);
	if (!v)
		err_set(e, why.code, NULL, "%s: %s", key, why.text);
	return v;
}

int config_split_address(struct sl text, char host_r[CONFIG_HOST_MAX], uint16_t *port_r)
{
	struct sl host, port;
	uint64_t v;

	if (text.n && text.p[0] == '[') {
		size_t close = sl_find(text, ']', 0);
		if (close + 1 >= text.n || text.p[close + 1] != ':')
			return E_SYNTAX;
		host = sl_sub(text, 1, close);
		port = sl_sub(text, close + 2, text.n);
		if (sl_find(host, ':', 0) == host.n)
			return E_SYNTAX;
	} else {
		size_t colon = sl_find(text, ':', 0);
		if (colon == text.n || sl_find(text, ':', colon + 1) != text.n)
			return E_SYNTAX;
		host = sl_sub(text, 0, colon);
		port = sl_sub(text, colon + 1, text.n);
	}
	if (host.n == 0 || sl_find(host, ' ', 0) != host.n)
		return E_SYNTAX;
	int rc = sl_to_u64(port, 65535, &v);
	if (rc < 0)
		return rc;
	if (v == 0)
		return E_RANGE;
	rc = sl_to_cstr(host, host_r, CONFIG_HOST_MAX);
	if (rc == 0)
		*port_r = (uint16_t)v;
	return rc;
}
