/* core_rig.h - a whole tandem-core in a thread of this process, on loopback, with a real store in a
 * folder of its own. For scripts, tests and benchmarks of the core.
 *
 * core_rig_new; accounts and settings; core_rig_start, core_rig_stop again and again on the same
 * data; core_rig_free. A failure of the rig itself ends the program. */
#ifndef TANDEM_TESTS_UNIT_CORE_RIG_H
#define TANDEM_TESTS_UNIT_CORE_RIG_H

#include <pthread.h>

#include "tests/unit/store_rig.h"
#include "xmpp/core/core.h"

struct core_rig {
	struct store_rig store;
	struct core_config *cfg; /* may be changed before start */
	uint16_t workers;
	pthread_t thread;
	struct core *core;
	bool running;
	int start_rc;
	uint16_t port[ACCESS_PORTS]; /* 0: not served */
	char unix_path[160];
};

/* Hosts "localhost" and "other.test" with TLS, TLS required or not; components "sms.localhost"
 * (ours), "echo.localhost" (secret "secret") and "far.localhost" (with custody, secret
 * "distance"). */
void core_rig_new(struct core_rig *r, bool tls_required);
/* Derives all verifiers; fast enough for a few. Not while it runs. */
void core_rig_account(struct core_rig *r, const char *host, const char *user, const char *password);
void core_rig_verifiers(struct core_rig *r, const char *host, const char *user,
			const struct sl *verifier, unsigned n);
void core_rig_start(struct core_rig *r);
void core_rig_stop(struct core_rig *r);
void core_rig_free(struct core_rig *r);
/* Sum over the workers. */
uint64_t core_rig_count(struct core_rig *r, enum core_counter c);

#endif
