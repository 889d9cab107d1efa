/* config.h - what the operator set: one immutable, reference-counted object.
 *
 * It is read from tandem.conf by tandemd (config_load: libconfuse and our schema) or from the
 * configuration document by its children (config_from_json: the same schema, so the same checks).
 * One table, schema.c, says for every option its type, range, default, who needs it, whether a
 * change needs a restart, and its help; it drives the parser, both checks, the document, the
 * comparison at a reload, tandem.conf.sample and docs/configuration.md.
 *
 * All text lives in the object's arena and is followed by a NUL (so .p is a C string); it is wiped
 * when the last reference goes. Reading is safe from every thread; references are atomic. */
#ifndef TANDEM_CONFIG_CONFIG_H
#define TANDEM_CONFIG_CONFIG_H

#include <jansson.h>

#include "appliance/base/base.h"

enum config_who { CONFIG_TANDEMD = 1, CONFIG_CORE = 2, CONFIG_SMS = 4, CONFIG_ALL = 7 };

struct config_list {
	struct sl *v;
	uint32_t n;
};

enum config_event_backend { CONFIG_EVENTS_DEFAULT, CONFIG_EVENTS_EPOLL, CONFIG_EVENTS_SELECT };
enum config_c2s_tls { CONFIG_C2S_TLS_REQUIRED, CONFIG_C2S_TLS_OPTIONAL };
enum config_component_tls {
	CONFIG_COMPONENT_TLS_REQUIRED,
	CONFIG_COMPONENT_TLS_OPTIONAL,
	CONFIG_COMPONENT_TLS_OFF
};
enum config_link_tls { CONFIG_LINK_TLS_OFF, CONFIG_LINK_TLS_UNVERIFIED, CONFIG_LINK_TLS_VERIFY };
enum config_server_tls {
	CONFIG_SERVER_TLS_OPTIONAL,
	CONFIG_SERVER_TLS_REQUIRED,
	CONFIG_SERVER_TLS_DIRECT,
	CONFIG_SERVER_TLS_OFF
};
enum config_link_type { CONFIG_LINK_SMPP };
enum config_alphabet { CONFIG_ALPHABET_GSM7, CONFIG_ALPHABET_LATIN1, CONFIG_ALPHABET_ASCII };
enum config_handset {                        /* what a simulated handset does with a message */
		      CONFIG_HANDSET_ANSWER, /* receives, reports delivery, answers with a text */
		      CONFIG_HANDSET_REPORT, /* receives, reports delivery */
		      CONFIG_HANDSET_SILENT, /* receives, reports nothing */
		      CONFIG_HANDSET_REFUSE, /* reports failure */
		      CONFIG_HANDSET_ABSENT, /* is never reached: the message expires */
};

struct config_host { /* host "example.com" { } */
	struct sl name;
	struct sl certificate_file, key_file; /* tandemd only */
	struct sl certificate, key;           /* PEM */
};

struct config_component { /* component "irc.example.com" { }: a foreign XEP-0114 component */
	struct sl name;
	struct sl secret_file;
	struct sl secret;
	bool custody;
};

struct config_link { /* link "carrier-a" { } */
	struct sl name;
	uint32_t type; /* enum config_link_type */
	bool enabled;
	struct sl host;
	uint32_t port;
	struct sl system_id;
	struct sl password_file;
	struct sl password;
	struct sl system_type;
	uint32_t tls; /* enum config_link_tls */
	struct sl ca_file;
	struct sl ca; /* PEM; empty: the system's */
	uint32_t window;
	uint32_t bind_seconds, response_seconds, enquire_link_seconds, inactivity_seconds;
	uint32_t reconnect_min_seconds, reconnect_max_seconds;
	uint32_t throttle_seconds; /* pause after a throttling answer */
	uint32_t rate;             /* messages a second, 0: as the SMSC likes */
	uint32_t alphabet;         /* enum config_alphabet: what data_coding 0 means to the SMSC */
	uint32_t source_ton, source_npi, destination_ton,
		destination_npi;     /* 255: from the number */
	struct config_list prefixes; /* numbers that it serves: "+1", "+4930"; empty: all */
	uint32_t cost;               /* of several links for a number the cheapest that is bound */
};

struct config_handset_sim { /* handset "+15550100" { } */
	struct sl name;     /* number, E.164 */
	uint32_t behaviour; /* enum config_handset */
	struct sl answer;   /* text of the answer; %s is replaced by the text received */
	uint32_t delay_ms;
};

struct config {
	/* top of the file */
	struct sl state_dir, control_socket, control_group;
	uint32_t log_level; /* enum log_level */
	bool syslog;
	uint32_t stop_seconds;
	uint32_t workers;       /* 0: one a CPU */
	uint32_t event_backend; /* enum config_event_backend */

	struct {
		struct sl core_user, sms_user;
		uint32_t first_uid;
	} run_as;

	struct config_host *host;
	uint32_t nhost;

	struct {
		struct config_list listen, listen_tls; /* "address:port", "[v6]:port", "*:port" */
		uint32_t tls;                          /* enum config_c2s_tls */
	} c2s;

	struct {
		struct config_list listen, listen_tls;
		uint32_t tls; /* enum config_component_tls */
		uint32_t
			expiry_seconds; /* a message waits this long for a component with custody */
	} components;

	struct config_component *component;
	uint32_t ncomponent;

	struct {
		uint32_t preauth_stanza_octets, stanza_octets, component_stanza_octets;
		uint32_t depth, attributes;
		uint32_t connections, connections_per_address;
		uint32_t unauthenticated_seconds, auth_failures;
		uint32_t stanzas_per_second, stanza_burst, octets_per_second;
		uint32_t output_queue_octets;
		uint32_t sm_queue, resumption_seconds;
		uint32_t offline_messages, offline_days;
		uint32_t roster_items, sessions_per_account;
		uint32_t duplicate_window_hours;
	} limits;

	struct {
		struct config_list mechanisms; /* in the order in which they are offered */
		uint32_t scram_iterations;
	} sasl;

	struct {
		struct sl domain; /* "sms.localhost" */
		struct sl server; /* "192.0.2.1:5347": a foreign XMPP server; empty: our core */
		struct sl server_secret_file, server_secret;
		uint32_t server_tls; /* enum config_server_tls */
		uint32_t streams;    /* to the core; 0: as many as it takes */
		struct sl server_ca_file, server_ca; /* empty: its certificate is not checked */
		struct sl default_link;              /* empty: any that serves the number */
		struct sl country_code; /* of national numbers, "49"; empty: only international ones
					 */
		struct sl international_prefix, national_prefix; /* "00", "0" */
		uint32_t max_parts;
		uint32_t retry_min_seconds, retry_max_seconds;
		uint32_t expiry_hours;
		uint32_t receipt_hours; /* a message without its delivery receipt is settled after
					   this */
		uint32_t keep_days;     /* settled messages stay in the queue's record */
		uint32_t messages_per_minute; /* an account's limit; 0: none */
	} sms;

	struct config_link *link;
	uint32_t nlink;

	struct config_handset_sim *handset;
	uint32_t nhandset;

	uint64_t generation; /* set by tandemd: 1, 2, ... */
	struct config_mem *mem;
};

/* Read and check a file. E_SYNTAX, E_RANGE, E_NOTFOUND (file), E_STATE (settings that contradict
 * each other); e->text has "FILE:LINE: reason". Files that it names (certificates, secrets) are
 * read and checked for readability and size too. */
int config_load(const char *path, const struct config **c_r, struct err *e);
/* The document for one process: without what does not concern it. New reference; NULL: out of
 * memory. */
json_t *config_to_json(const struct config *c, enum config_who who);
/* The same checks on a document from a socketpair. who: as it was made. */
int config_from_json(const json_t *doc, enum config_who who, const struct config **c_r,
		     struct err *e);

const struct config *config_ref(const struct config *c);
void config_unref(const struct config **c);

/* Compare: calls differs(arg, "limits.depth", needs_restart) for every option that who cares for
 * and that differs. Of titled sections "link[carrier-a]" once, also when it was added or removed.
 */
void config_compare(const struct config *old, const struct config *now, enum config_who who,
		    void (*differs)(void *arg, const char *key, bool needs_restart), void *arg);

/* One link from {"name": ..., "host": ..., "password": ...}: what `link add` brings and what a
 * store keeps. All text is in one allocation: free with config_link_free. */
int config_link_from_json(const json_t *settings, struct config_link **l_r, struct err *e);
/* A copy of its own, to be freed the same way. */
int config_link_copy(const struct config_link *from, struct config_link **l_r, struct err *e);
void config_link_free(struct config_link **l);

/* "192.0.2.1:5222", "[2001:db8::1]:5222", "*:5222": host (without brackets) into dst. 0, E_SYNTAX,
 * E_RANGE. */
#define CONFIG_HOST_MAX 256
int config_split_address(struct sl text, char host_r[CONFIG_HOST_MAX], uint16_t *port_r);

/* A value from a command line, typed as the schema says and checked; lists have commas between
 * their members. NULL with e: no such option, or a bad value. New reference. */
json_t *config_option_json(const char *section, const char *key, struct sl text, struct err *e);

/* The documented sample and the reference page, made from the schema. */
struct buf;
int config_print_sample(struct buf *out);
int config_print_reference(struct buf *out);

#endif
