/* test_config.c - tandem.conf: every refusal with its line and reason, defaults, the document,
 * comparison. */
#include "appliance/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "appliance/base/buf.h"
#include "appliance/base/log.h"

static char dir[64];

static void put_file(const char *name, const char *text, unsigned mode)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(path, (mode_t)mode);
}

static int load(const char *text, const struct config **c_r, struct err *e)
{
	char path[256];

	put_file("t.conf", text, 0600);
	snprintf(path, sizeof(path), "%s/t.conf", dir);
	return config_load(path, c_r, e);
}

static int setup(void **state)
{
	UNUSED(state);
	snprintf(dir, sizeof(dir), "/tmp/test_config.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	put_file("crt", "-----BEGIN CERTIFICATE-----\nx\n", 0644);
	put_file("key", "-----BEGIN PRIVATE KEY-----\nx\n", 0600);
	put_file("openkey", "-----BEGIN PRIVATE KEY-----\nx\n", 0644);
	put_file("open", "secret\n", 0644);
	put_file("secret", "secret78\r\n", 0600);
	put_file("empty", "", 0600);
	put_file("long", "123456789\n", 0600);
	put_file("latin1", "sch\xf6n\n", 0600);
	return 0;
}

static int teardown(void **state)
{
	char cmd[100];
	static const char *const names[] = { "crt",   "key",  "openkey", "open",  "secret",
					     "empty", "long", "latin1",  "t.conf" };

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(cmd, sizeof(cmd), "%s/%s", dir, names[i]);
		unlink(cmd);
	}
	return rmdir(dir);
}

#define HOST "host \"a.test\" {\n certificate_file = crt\n key_file = key\n}\n"

/* ---- refusals
 * ------------------------------------------------------------------------------------- */

static const struct refusal {
	int code, line;
	const char *why, *text;
} refusals[] = {
	/* names */
	{ E_SYNTAX, 5, "colour", HOST "colour = red\n" },
	{ E_SYNTAX, 5, "no such option 'limit'; did you mean limits?",
	  HOST "limit { depth = 5 }\n" },
	{ E_SYNTAX, 6, "'listn_tls' in c2s; did you mean listen_tls?",
	  HOST "c2s {\nlistn_tls = {\"*:1\"}\n}\n" },
	{ E_SYNTAX, 5, "'stanza_octets'; limits { } has one", HOST "stanza_octets = 5000\n" },
	{ E_SYNTAX, 3,
	  "'limits' in host; it belongs to the top of the file: is the } of host missing?",
	  "host \"a.test\" {\ncertificate_file = crt\nlimits { depth = 5 }\n" },
	{ E_SYNTAX, 6, "tls: is set twice, first in line 5",
	  HOST "c2s { tls = required\ntls = optional }\n" },
	{ E_SYNTAX, 5, "goes on in the next line",
	  HOST "sms { domain = \"sms.a.test }\nlog { level = \"info\" }\n" },
	{ E_SYNTAX, 6, "speed", HOST "limits {\nspeed = 5\n}\n" },
	{ E_SYNTAX, 5, "certificate", HOST "certificate = x\n" },
	{ E_SYNTAX, 2, "certificate", "host \"a.test\" {\ncertificate = \"-----BEGIN \"\n}\n" },
	{ E_SYNTAX, 5, "garden", HOST "garden { }\n" },
	{ E_SYNTAX, 1, "colour", "colour = red\n# a comment\n\n" HOST },
	{ E_SYNTAX, 2, "no such option 'speed'",
	  "limits {\nspeed = 5 # of speed\n# speed\n}\n" HOST },
	{ E_SYNTAX, 1, "garden", "garden { }\n\n" HOST },
	/* types */
	{ E_SYNTAX, 1, "workers: \"many\" is not",
	  "workers = \"many\"\n# comment\n\nsyslog = yes\n" HOST },
	{ E_SYNTAX, 3, "\"b:port\" is not ADDRESS",
	  "c2s {\nlisten = {\"*:1\",\n\"b:port\"\n}\n# c\n}\n" HOST },
	{ E_SYNTAX, 1, "c2s.tls", "c2s { tls = \"perhaps\" }\n# c\nsyslog = yes\n" HOST },
	{ E_SYNTAX, 6, "limits.depth: \"deep\" is not a number",
	  HOST "limits {\ndepth = deep\n}\n" },
	{ E_SYNTAX, 6, "limits.depth: \"-5\" is not a number", HOST "limits {\ndepth = -5\n}\n" },
	{ E_SYNTAX, 6, "limits.depth: \"0x20\" is not a number",
	  HOST "limits {\ndepth = 0x20\n}\n" },
	{ E_SYNTAX, 6, "limits.depth: \"\" is not a number", HOST "limits {\ndepth = \"\"\n}\n" },
	{ E_SYNTAX, 5, "neither true nor false", HOST "syslog = maybe\n" },
	{ E_SYNTAX, 5, "is none of: error, warn, notice, info, debug", HOST "log_level = loud\n" },
	{ E_SYNTAX, 6, "c2s.tls: \"no\" is none of: required, optional",
	  HOST "c2s {\ntls = no\n}\n" },
	{ E_SYNTAX, 6, "", HOST "limits {\ndepth = {1, 2}\n}\n" },
	{ E_SYNTAX, 5, "", HOST "limits = 5\n" },
	{ E_SYNTAX, 5, "", HOST "host { }\n" },
	/* ranges */
	{ E_SYNTAX, 6, "limits.depth: 7 is out of range: from 8 to 1000",
	  HOST "limits {\ndepth = 7\n}\n" },
	{ E_SYNTAX, 6, "1001 is out of range", HOST "limits {\ndepth = 1001\n}\n" },
	{ E_SYNTAX, 6, "is out of range", HOST "limits {\ndepth = 99999999999999999999999\n}\n" },
	{ E_SYNTAX, 5, "65 is out of range: from 0 to 64", HOST "workers = 65\n" },
	{ E_SYNTAX, 6, "from 4096", HOST "sasl {\nscram_iterations = 1000\n}\n" },
	/* syntax of values */
	{ E_SYNTAX, 6, "\"*\" is not ADDRESS:PORT", HOST "c2s {\nlisten = {\"*\"}\n}\n" },
	{ E_SYNTAX, 6, "is not ADDRESS:PORT", HOST "c2s {\nlisten = {\"*:0\"}\n}\n" },
	{ E_SYNTAX, 6, "is not ADDRESS:PORT", HOST "c2s {\nlisten = {\"*:65536\"}\n}\n" },
	{ E_SYNTAX, 6, "is not ADDRESS:PORT", HOST "c2s {\nlisten = {\"::1:5222\"}\n}\n" },
	{ E_SYNTAX, 6, "is not ADDRESS:PORT", HOST "c2s {\nlisten = {\":5222\"}\n}\n" },
	{ E_SYNTAX, 6, "is not ADDRESS:PORT", HOST "c2s {\nlisten = {\"[::1]\"}\n}\n" },
	{ E_SYNTAX, 6, "is not ADDRESS:PORT", HOST "c2s {\nlisten = {\"[1.2.3.4]:1\"}\n}\n" },
	{ E_SYNTAX, 6, "not a mechanism",
	  HOST "sasl {\nmechanisms = {\"SCRAM-SHA-1\", \"ANONYMOUS\"}\n}\n" },
	{ E_SYNTAX, 5, "absolute path", HOST "state_dir = here\n" },
	{ E_SYNTAX, 5, "absolute path", HOST "state_dir = \"\"\n" },
	{ E_SYNTAX, 1, "lower case", "host \"A.test\" { }\n" },
	{ E_SYNTAX, 1, "is not a domain", "host \"a test\" { }\n" },
	{ E_SYNTAX, 1, "a domain has 1", "host \"\" { }\n" },
	{ E_SYNTAX, 1, "with a dot", "host \"a.\" { }\n" },
	{ E_SYNTAX, 1, "empty labels", "host \"a..b\" { }\n" },
	{ E_SYNTAX, 5, "a name has", HOST "link \"two words\" { host = h system_id = s }\n" },
	{ E_SYNTAX, 5, "international form", HOST "handset \"5550100\" { }\n" },
	{ E_SYNTAX, 5, "international form", HOST "handset \"+0155501\" { }\n" },
	{ E_SYNTAX, 5, "international form", HOST "handset \"+1\" { }\n" },
	{ E_SYNTAX, 5, "longer than 15 octets",
	  HOST "link \"l\" { host = h system_id = 1234567890123456 }\n" },
	{ E_SYNTAX, 5, "beginning of a number",
	  HOST "link \"l\" { host = h system_id = s prefixes = {\"49\"} }\n" },
	{ E_SYNTAX, 6, "country code", HOST "sms {\ncountry_code = \"+49\"\n}\n" },
	{ E_SYNTAX, 6, "begin with 0", HOST "sms {\ncountry_code = \"049\"\n}\n" },
	{ E_SYNTAX, 5, "is none of: answer, report",
	  HOST "handset \"+15550100\" { behaviour = rude }\n" },
	/* twice */
	{ E_SYNTAX, 6, "workers: is set twice, first in line 5",
	  HOST "workers = 1\nworkers = 2\n" },
	{ E_SYNTAX, 7, "limits.depth: is set twice, first in line 5",
	  HOST "limits { depth = 9\n}\nlimits { depth = 9 }\n" },
	{ E_SYNTAX, 6, "c2s.listen: is set twice",
	  HOST "c2s { listen = {\"*:1\"}\nlisten = {\"*:2\"} }\n" },
	{ E_SYNTAX, 5, "a.test", HOST "host \"a.test\" { }\n" },
	{ E_EXISTS, 5, "is there twice", HOST "c2s { listen = {\"*:1\", \"*:1\"} }\n" },
	/* missing */
	{ E_STATE, 0, "no host section", "" },
	{ E_STATE, 1, "host[a.test]: no certificate_file and key_file, but TLS",
	  "host \"a.test\" { }\n" },
	{ E_STATE, 1, "one is missing", "host \"a.test\" { certificate_file = crt }\n" },
	{ E_NOTFOUND, 5, "link[l].host: is missing", HOST "link \"l\" { system_id = s }\n" },
	{ E_NOTFOUND, 5, "link[l].system_id: is missing", HOST "link \"l\" { host = h }\n" },
	{ E_STATE, 5, "component without a secret", HOST "component \"c.test\" { }\n" },
	/* contradictions */
	{ E_STATE, 5, "sms.domain: is also a host", HOST "sms { domain = a.test }\n" },
	{ E_STATE, 5, "component[a.test]: is also a host",
	  HOST "component \"a.test\" { secret_file = secret }\n" },
	{ E_STATE, 5, "domain of the SMS translator",
	  HOST "component \"sms.localhost\" { secret_file = secret }\n" },
	{ E_STATE, 7, "c2s.listen_tls: *:1 is also in c2s.listen",
	  HOST "c2s {\nlisten = {\"*:1\"}\nlisten_tls = {\"*:1\"}\n}\n" },
	{ E_STATE, 6, "is more than limits.stanza_octets",
	  HOST "limits {\npreauth_stanza_octets = 500000\n}\n" },
	{ E_STATE, 6, "is less than limits.stanza_octets",
	  HOST "limits {\ncomponent_stanza_octets = 10000\n}\n" },
	{ E_STATE, 6, "is less than one stanza",
	  HOST "limits {\noutput_queue_octets = 65536\n}\n" },
	{ E_STATE, 6, "is less than limits.stanzas_per_second",
	  HOST "limits {\nstanza_burst = 10\n}\n" },
	{ E_STATE, 6, "is more than limits.connections",
	  HOST "limits {\nconnections_per_address = 200000\n}\n" },
	{ E_STATE, 7, "nobody could log in", HOST "sasl {\nmechanisms = {}\n}\n" },
	{ E_STATE, 6, "is less than sms.retry_min",
	  HOST "sms { retry_min_seconds = 60\nretry_max_seconds = 30 }\n" },
	{ E_STATE, 6, "is less than reconnect_min",
	  HOST "link \"l\" { host = h system_id = s reconnect_min_seconds = "
	       "9\nreconnect_max_seconds = 8 }\n" },
	{ E_STATE, 5, "no use without tls = verify",
	  HOST "link \"l\" { host = h system_id = s ca_file = crt }\n" },
	{ E_STATE, 5, "sms.server wants a secret", HOST "sms { server = \"127.0.0.1:5347\" }\n" },
	{ E_SYNTAX, 5, "sms.server: \"prosody\" is not", HOST "sms { server = prosody }\n" },
	/* files */
	{ E_NOTFOUND, 2, "No such file", "host \"a.test\" {\ncertificate_file = missing\n}\n" },
	{ E_SYNTAX, 2, "not a PEM text", "host \"a.test\" {\ncertificate_file = secret\n}\n" },
	{ E_IO, 2, "not a plain file", "host \"a.test\" {\ncertificate_file = \"/dev/zero\"\n}\n" },
	{ E_IO, 2, "not a plain file", "host \"a.test\" {\ncertificate_file = \"/tmp\"\n}\n" },
	{ E_DENIED, 3, "can be read by everyone",
	  "host \"a.test\" {\ncertificate_file = crt\nkey_file = openkey\n}\n" },
	{ E_DENIED, 5, "can be read by everyone",
	  HOST "component \"c.test\" { secret_file = open }\n" },
	{ E_SYNTAX, 5, "is empty", HOST "component \"c.test\" { secret_file = empty }\n" },
	{ E_TOOBIG, 5, "longer than 8 octets",
	  HOST "link \"l\" { host = h system_id = s password_file = long }\n" },
	{ E_SYNTAX, 5, "UTF-8", HOST "component \"c.test\" { secret_file = latin1 }\n" },
	/* the grammar */
	{ E_SYNTAX, 5, "", HOST "limits {\n" },
	{ E_SYNTAX, 5, "", HOST "/* open\n" },
	{ E_SYNTAX, 5, "", HOST "handset \"+15550100\" {\n" },
	{ E_SYNTAX, 5, "", HOST "end-of-configuration = yes\nlimits {\n" },
	{ E_SYNTAX, 5, "", HOST "}\n" },
	{ E_SYNTAX, 5, "", HOST "log_level = \"unclosed\n" },
	{ E_SYNTAX, 5, "", HOST "=\n" },
	{ E_SYNTAX, 5, "UTF-8", HOST "control_group = \"\xff\"\n" },
};

static void every_refusal(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		const struct refusal *r = &refusals[i];
		const struct config *c = NULL;
		struct err e = { 0, NULL, "" };
		char place[100];
		int rc = load(r->text, &c, &e);

		if (rc == 0)
			fail_msg("accepted: %s", r->text);
		assert_null(c);
		snprintf(place, sizeof(place), r->line ? "%s/t.conf:%d: " : "%s/t.conf: ", dir,
			 r->line);
		if (r->line == 5 &&
		    !*r->why) /* where a broken grammar ends depends on the parser */
			snprintf(place, sizeof(place), "%s/t.conf:", dir);
		if (rc != r->code || strncmp(e.text, place, strlen(place)) != 0 ||
		    !strstr(e.text, r->why))
			fail_msg("case %zu\n%s\nwanted %s at %s \"%s\"\ngot %s \"%s\"", i, r->text,
				 e_name(r->code), place, r->why, e_name(rc), e.text);
	}
}

static void missing_file(void **state)
{
	const struct config *c;
	struct err e;

	UNUSED(state);
	assert_int_equal(config_load("/nowhere/tandem.conf", &c, &e), E_NOTFOUND);
	assert_string_equal(e.text, "cannot read /nowhere/tandem.conf: No such file or directory; "
				    "tandemctl config sample prints one to begin with");
}

/* tandemd must not wait for what a FIFO's other end has to say. */
static void no_plain_file(void **state)
{
	char fifo[] = "/tmp/tandem-config-XXXXXX";
	const char *const paths[] = { fifo, "/tmp", "/dev/zero" };
	const struct config *c;
	struct err e;

	UNUSED(state);
	assert_non_null(mkdtemp(fifo));
	rmdir(fifo);
#ifdef SYS_mknod /* glibc's mkfifo is mknodat, which AS 4 does not have */
	assert_int_equal(syscall(SYS_mknod, fifo, S_IFIFO | 0600, 0), 0);
#else
	assert_int_equal(mkfifo(fifo, 0600), 0);
#endif
	alarm(10); /* rather than for ever */
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		assert_int_equal(config_load(paths[i], &c, &e), E_IO);
		assert_non_null(strstr(e.text, ": not a plain file"));
	}
	alarm(0);
	unlink(fifo);
}

/* ---- what is accepted
 * ------------------------------------------------------------------------------- */

static void defaults(void **state)
{
	const struct config *c;
	struct err e;

	UNUSED(state);
	if (load(HOST, &c, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(c->state_dir.p, "/var/lib/tandem");
	assert_string_equal(c->control_group.p, "");
	assert_int_equal(c->log_level, LOG_L_INFO);
	assert_int_equal(c->c2s.tls, CONFIG_C2S_TLS_REQUIRED);
	assert_int_equal(c->c2s.listen.n, 1);
	assert_string_equal(c->c2s.listen.v[0].p, "*:5222");
	assert_int_equal(c->components.listen.n, 0);
	assert_int_equal(c->sasl.mechanisms.n, 7);
	assert_string_equal(c->sasl.mechanisms.v[6].p, "PLAIN");
	assert_int_equal(c->limits.stanza_octets, 262144);
	assert_int_equal(c->nhost, 1);
	assert_string_equal(c->host[0].name.p, "a.test");
	assert_string_equal(c->host[0].certificate.p, "-----BEGIN CERTIFICATE-----\nx\n");
	assert_string_equal(c->host[0].key.p, "-----BEGIN PRIVATE KEY-----\nx\n");
	assert_int_equal(c->nlink, 0);
	config_unref(&c);
	assert_null(c);
}

static const char full[] = HOST
	"# a comment\n"
	"log_level = debug // another\n"
	"syslog = yes\n"
	"workers = 3\n"
	"host \"b.test\" { certificate_file = crt key_file = key }\n"
	"c2s { listen = {} listen_tls = {\"[::1]:5223\", \"127.0.0.1:5223\"} }\n"
	"component \"irc.test\" { secret_file = secret custody = on }\n"
	"sms { domain = \"sms.a.test\" country_code = \"49\" default_link = l1 }\n"
	"link \"l1\" { host = \"smsc.test\" port = 1234 system_id = me password_file = "
	"secret window = 7\n"
	"  tls = verify ca_file = crt prefixes = {\"+1\", \"+4930\"} alphabet = latin1 "
	"enabled = false }\n"
	"link \"l2\" { host = \"::1\" system_id = \"\" }\n"
	"handset \"+15550100\" { behaviour = report }\n"
	"handset \"+15550101\" { answer = \"no: %s\" delay_ms = 0 }\n";

static const struct config *load_full(void)
{
	const struct config *c = NULL;
	struct err e = { 0, NULL, "" };

	if (load(full, &c, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

static void everything(void **state)
{
	const struct config *c = load_full();

	UNUSED(state);
	assert_int_equal(c->log_level, LOG_L_DEBUG);
	assert_true(c->syslog);
	assert_int_equal(c->workers, 3);
	assert_int_equal(c->nhost, 2);
	assert_int_equal(c->c2s.listen.n, 0); /* {} is not the default */
	assert_int_equal(c->c2s.listen_tls.n, 2);
	assert_string_equal(c->c2s.listen_tls.v[1].p, "127.0.0.1:5223");
	assert_string_equal(c->component[0].secret.p, "secret78");
	assert_true(c->component[0].custody);
	assert_int_equal(c->nlink, 2);
	const struct config_link *l = &c->link[0];
	assert_string_equal(l->host.p, "smsc.test");
	assert_int_equal(l->port, 1234);
	assert_string_equal(l->password.p, "secret78");
	assert_int_equal(l->tls, CONFIG_LINK_TLS_VERIFY);
	assert_int_equal(l->ca.n, strlen("-----BEGIN CERTIFICATE-----\nx\n"));
	assert_int_equal(l->prefixes.n, 2);
	assert_int_equal(l->alphabet, CONFIG_ALPHABET_LATIN1);
	assert_false(l->enabled);
	assert_true(c->link[1].enabled);
	assert_int_equal(c->link[1].port, 2775);
	assert_int_equal(c->link[1].source_ton, 255);
	assert_int_equal(c->handset[0].behaviour, CONFIG_HANDSET_REPORT);
	assert_string_equal(c->handset[1].answer.p, "no: %s");
	config_unref(&c);
}

static void add_to_a_list(void **state)
{
	const struct config *c = NULL;
	struct err e = { 0, NULL, "" };

	UNUSED(state);
	if (load(HOST "c2s { listen = {\"*:1\"} listen += {\"*:2\"} }\n", &c, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(c->c2s.listen.n, 2);
	config_unref(&c);
}

static void optional_tls(void **state)
{
	const struct config *c;
	struct err e;

	UNUSED(state);
	assert_int_equal(load("host \"a.test\" { }\nc2s { tls = optional listen_tls = {} listen = "
			      "\"*:7\" }\n",
			      &c, &e),
			 0);
	assert_int_equal(c->c2s.tls, CONFIG_C2S_TLS_OPTIONAL);
	assert_int_equal(c->c2s.listen.n, 1); /* one member needs no braces */
	assert_string_equal(c->c2s.listen.v[0].p, "*:7");
	config_unref(&c);
}

/* ---- the document
 * ------------------------------------------------------------------------------------ */

static void round_trip(const struct config *c, enum config_who who)
{
	const struct config *back;
	struct err e = { 0, NULL, "" };
	json_t *doc = config_to_json(c, who), *again;

	assert_non_null(doc);
	if (config_from_json(doc, who, &back, &e) < 0)
		fail_msg("%s", e.text);
	again = config_to_json(back, who);
	assert_true(json_equal(doc, again));
	json_decref(doc);
	json_decref(again);
	config_unref(&back);
}

static void documents(void **state)
{
	const struct config *c = load_full();

	UNUSED(state);
	round_trip(c, CONFIG_ALL);
	round_trip(c, CONFIG_CORE);
	round_trip(c, CONFIG_SMS);
	json_t *core_doc = config_to_json(c, CONFIG_CORE), *sms_doc = config_to_json(c, CONFIG_SMS);
	char *core = json_dumps(core_doc, JSON_COMPACT), *sms = json_dumps(sms_doc, JSON_COMPACT);
	/* nobody gets what he does not need */
	assert_non_null(strstr(core, "PRIVATE KEY"));
	assert_null(strstr(core, "smsc.test"));
	assert_null(strstr(sms, "PRIVATE KEY"));
	assert_null(strstr(sms, "irc.test"));
	assert_null(strstr(core, "certificate_file"));
	assert_non_null(strstr(sms, "smsc.test"));
	assert_non_null(strstr(sms, "a.test"));
	free(core);
	free(sms);
	json_decref(core_doc);
	json_decref(sms_doc);
	config_unref(&c);
}

static void refuse_doc(const char *text, enum config_who who, const char *why)
{
	const struct config *c = NULL;
	struct err e = { 0, NULL, "" };
	json_t *doc = json_loads(text, JSON_ALLOW_NUL, NULL);

	assert_non_null(doc);
	assert_true(config_from_json(doc, who, &c, &e) < 0);
	if (!strstr(e.text, why))
		fail_msg("wanted \"%s\" in \"%s\"", why, e.text);
	assert_null(c);
	json_decref(doc);
}

static void bad_documents(void **state)
{
	UNUSED(state);
	refuse_doc("[]", CONFIG_CORE, "must be an object");
	refuse_doc("{\"host\": {}}", CONFIG_SMS, "host: must be a list");
	refuse_doc("{\"host\": [5]}", CONFIG_SMS, "with a name");
	refuse_doc("{\"host\": [{}]}", CONFIG_SMS, "with a name");
	refuse_doc("{\"host\": [{\"name\": \"A\"}]}", CONFIG_SMS,
		   "host[A]: domains are written in lower");
	refuse_doc("{\"host\": [{\"name\": \"a\"}, {\"name\": \"a\"}]}", CONFIG_SMS, "there twice");
	refuse_doc("{\"host\": [{\"name\": \"a\", \"key\": \"x\"}]}", CONFIG_SMS,
		   "host[a].key: unknown option");
	refuse_doc("{\"host\": [{\"name\": \"a\"}], \"limits\": {}}", CONFIG_SMS,
		   "limits: is not for this process");
	refuse_doc("{\"host\": [{\"name\": \"a\"}], \"link\": []}", CONFIG_CORE,
		   "link: is not for this process");
	refuse_doc("{\"workers\": \"5\"}", CONFIG_CORE, "workers: must be a number");
	refuse_doc("{\"workers\": -1}", CONFIG_CORE, "workers: must be a number");
	refuse_doc("{\"workers\": 65}", CONFIG_CORE, "out of range");
	refuse_doc("{\"workers\": 1.5}", CONFIG_CORE, "workers: must be a number");
	refuse_doc("{\"syslog\": 1}", CONFIG_CORE, "syslog: must be true or false");
	refuse_doc("{\"log_level\": 3}", CONFIG_CORE, "log_level: must be a word");
	refuse_doc("{\"log_level\": \"loud\"}", CONFIG_CORE, "none of");
	refuse_doc("{\"state_dir\": null}", CONFIG_CORE, "must be a text");
	refuse_doc("{\"c2s\": 5}", CONFIG_CORE, "c2s: must be an object");
	refuse_doc("{\"c2s\": {\"listen\": \"x\"}}", CONFIG_CORE, "must be a list");
	refuse_doc("{\"c2s\": {\"listen\": [5]}}", CONFIG_CORE, "must be a text");
	refuse_doc("{\"generation\": -1}", CONFIG_CORE, "generation: must be a number");
	refuse_doc("{\"state_dir\": \"/a\\u0000b\"}", CONFIG_CORE, "not a text in UTF-8");
	refuse_doc("{\"host\": [{\"name\": \"a\"}]}", CONFIG_CORE, "no certificate_file");
	refuse_doc("{}", CONFIG_SMS, "no host section");
	refuse_doc("{\"host\": [{\"name\": \"a\"}], \"link\": [{\"name\": \"l\"}]}", CONFIG_SMS,
		   "host: is missing");
}

static void lone_links(void **state)
{
	struct config_link *l = NULL;
	struct err e;
	json_t *j =
		json_loads("{\"name\": \"l\", \"host\": \"h\", \"port\": 1, \"system_id\": \"s\","
			   "\"password\": \"p\", \"prefixes\": [\"+1\"]}",
			   0, NULL);

	UNUSED(state);
	assert_int_equal(config_link_from_json(j, &l, &e), 0);
	assert_string_equal(l->password.p, "p");
	assert_int_equal(l->window, 10);
	assert_int_equal(l->prefixes.n, 1);
	config_link_free(&l);
	assert_null(l);
	json_object_set_new(j, "password", json_string("123456789"));
	assert_true(config_link_from_json(j, &l, &e) < 0);
	assert_string_equal(e.text, "link[l].password: longer than 8 octets");
	json_object_set_new(j, "password_file", json_string("/etc/shadow"));
	assert_true(config_link_from_json(j, &l, &e) < 0);
	assert_string_equal(e.text, "link[l].password_file: unknown option");
	json_decref(j);
}

/* ---- comparison
 * --------------------------------------------------------------------------------------- */

static char seen[1000];

static void differs(void *arg, const char *key, bool restart)
{
	size_t n = strlen(seen);

	UNUSED(arg);
	snprintf(seen + n, sizeof(seen) - n, "%s%s ", key, restart ? "!" : "");
}

static void compare(void **state)
{
	const struct config *a = load_full(), *b, *same = load_full();
	struct err e = { 0, NULL, "" };
	char text[sizeof(full) + 200], *p;

	UNUSED(state);
	seen[0] = '\0';
	config_compare(a, same, CONFIG_ALL, differs, NULL);
	assert_string_equal(seen, "");
	snprintf(text, sizeof(text), "%slimits { depth = 99 }\nhandset \"+15550199\" { }\n", full);
	p = strstr(text, "workers = 3");
	memcpy(p, "workers = 2", 11);
	p = strstr(text, "window = 7");
	memcpy(p, "window = 8", 10);
	p = strstr(text, "link \"l2\"");
	memcpy(p, "link \"l9\"", 9);
	if (load(text, &b, &e) < 0)
		fail_msg("%s", e.text);
	config_compare(a, b, CONFIG_ALL, differs, NULL);
	assert_string_equal(
		seen, "workers! limits.depth link[l1] link[l9] link[l2] handset[+15550199]! ");
	seen[0] = '\0';
	config_compare(a, b, CONFIG_CORE, differs, NULL);
	assert_string_equal(seen, "workers! limits.depth ");
	seen[0] = '\0';
	config_compare(a, b, CONFIG_SMS, differs, NULL);
	assert_string_equal(seen, "link[l1] link[l9] link[l2] handset[+15550199]! ");
	const struct config *r = config_ref(a);
	config_unref(&a);
	assert_string_equal(r->host[1].name.p, "b.test");
	config_unref(&r);
	config_unref(&b);
	config_unref(&same);
}

static void addresses(void **state)
{
	char h[CONFIG_HOST_MAX];
	uint16_t port;

	UNUSED(state);
	assert_int_equal(config_split_address(SL("[2001:db8::1]:5222"), h, &port), 0);
	assert_string_equal(h, "2001:db8::1");
	assert_int_equal(port, 5222);
	assert_int_equal(config_split_address(SL("*:1"), h, &port), 0);
	assert_string_equal(h, "*");
	assert_int_equal(config_split_address(SL("a:0"), h, &port), E_RANGE);
	assert_int_equal(config_split_address(SL("[::1"), h, &port), E_SYNTAX);
	assert_int_equal(config_split_address(SL("["), h, &port), E_SYNTAX);
	assert_int_equal(config_split_address(SL_NULL, h, &port), E_SYNTAX);
}

/* ---- what is printed
 * ------------------------------------------------------------------------------------ */

static void compare_page(const char *path, struct buf *b)
{
	static char text[100000];
	FILE *f = fopen(path, "r");

	if (!f)
		fail_msg("%s is missing: tandemctl config sample / reference makes it", path);
	size_t n = fread(text, 1, sizeof(text), f);
	fclose(f);
	if (!sl_eq(sl_mk(text, n), buf_sl(b)))
		fail_msg("%s is not what the schema says", path);
}

static char *replaced(char *text_take, const char *from, const char *to)
{
	struct buf b;
	char *p = text_take, *hit;

	buf_init(&b, 200000);
	for (; (hit = strstr(p, from)) != NULL; p = hit + strlen(from)) {
		buf_add(&b, sl_mk(p, (size_t)(hit - p)));
		buf_add(&b, sl_cstr(to));
	}
	buf_add(&b, sl_cstr(p));
	free(text_take);
	p = sl_dup(buf_sl(&b));
	buf_free(&b);
	return p;
}

/* The sample is a configuration; so it is with every commented-out line in force (all: the defaults
 * that it shows are values that are accepted). */
static void sample_loads(const char *sample, bool all)
{
	const struct config *c = NULL, *plain = NULL;
	struct err e = { 0, NULL, "" };
	char *text = strdup(sample);

	text = replaced(text, "/etc/tandem/example.com.crt", "crt");
	text = replaced(text, "/etc/tandem/example.com.key", "key");
	text = replaced(text, "/etc/tandem/irc.secret", "secret");
	text = replaced(text, "/etc/tandem/sms-server.secret", "secret");
	text = replaced(text, "/etc/tandem/carrier-a.password", "secret");
	for (char *p = text; all && *p; p++)
		if (*p == '#' && p[1] != ' ' && p[1] != '#')
			*p = ' ';
	if (load(text, &c, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(c->host[0].name.p, "example.com");
	assert_int_equal(c->nlink, all ? 1 : 0);
	if (all) {
		assert_int_equal(c->nhandset, 1);
		assert_int_equal(c->ncomponent, 1);
	}
	assert_int_equal(load("host \"example.com\" { certificate_file = crt key_file = key }\n",
			      &plain, &e),
			 0);
	seen[0] = '\0';
	config_compare(plain, c, CONFIG_ALL, differs, NULL);
	assert_string_equal(
		seen, all ? "component[irc.example.com] sms.server_secret_file sms.server_secret "
			    "link[carrier-a] handset[+15550100]! "
			  : "");
	config_unref(&plain);
	config_unref(&c);
	free(text);
}

static void pages(void **state)
{
	struct buf b;

	UNUSED(state);
	buf_init(&b, 100000);
	assert_int_equal(config_print_reference(&b), 0);
	compare_page("docs/configuration.md", &b);
	buf_reset(&b);
	assert_int_equal(config_print_sample(&b), 0);
	compare_page("appliance/config/tandem.conf.sample", &b);
	buf_addc(&b, '\0');
	sample_loads(buf_sl(&b).p, false);
	sample_loads(buf_sl(&b).p, true);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_refusal), cmocka_unit_test(missing_file),
		cmocka_unit_test(no_plain_file), cmocka_unit_test(defaults),
		cmocka_unit_test(everything),    cmocka_unit_test(add_to_a_list),
		cmocka_unit_test(optional_tls),  cmocka_unit_test(documents),
		cmocka_unit_test(bad_documents), cmocka_unit_test(lone_links),
		cmocka_unit_test(compare),       cmocka_unit_test(addresses),
		cmocka_unit_test(pages),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
