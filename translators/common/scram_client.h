/* scram_client.h - the client's side of SCRAM (RFC 5802, 7677): SHA-256 and SHA-512, with and
 * without channel binding, for the component client.
 *
 * scram_client_final derives a key (PBKDF2): some milliseconds at the usual 4096 iterations, once a
 * login. Any thread; no state outside. */
#ifndef TANDEM_TRANSLATORS_SCRAM_CLIENT_H
#define TANDEM_TRANSLATORS_SCRAM_CLIENT_H

#include "appliance/base/base.h"

#define SCRAM_CLIENT_ITER_MIN 4096u
#define SCRAM_CLIENT_ITER_MAX 1000000u

struct scram_client;

struct scram_binding {
	char flag;        /* 'n': none; 'y': we could, the server does not offer it; 'p' */
	const char *name; /* with 'p': "tls-exporter" */
	unsigned char data[64];
	size_t n;
};

/* mech: "SCRAM-SHA-256" or "-512", with "-PLUS" when b->flag is 'p'. Texts are copied; the password
 * is prepared here (RFC 8265). 0, E_UNSUPPORTED (mechanism), E_SYNTAX (password), E_NOMEM. */
int scram_client_new(struct sl mech, struct sl user, struct sl password,
		     const struct scram_binding *b, struct scram_client **c_r);
struct sl scram_client_first(const struct scram_client *c);
/* From the server's first message to the answer; *final_r lives as long as c. 0; E_SYNTAX; E_AUTH
 * (not our nonce); E_RANGE (iterations outside SCRAM_CLIENT_ITER_*); E_NOMEM; E_STATE (again). */
int scram_client_final(struct scram_client *c, struct sl server_first, struct sl *final_r);
/* Does the server know the password? */
bool scram_client_verify(const struct scram_client *c, struct sl server_final);
void scram_client_free(struct scram_client **c);

#endif
