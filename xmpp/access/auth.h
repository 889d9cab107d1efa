/* auth.h - the auth pool: threads for what takes milliseconds or blocks (PBKDF2).
 *
 * A worker submits a job; an auth thread runs it and posts it back (CORE_MSG_AUTH) to the worker
 * that submitted. Logins go before bulk work (imports), so that an import of many accounts does not
 * lock everybody out. */
#ifndef TANDEM_XMPP_AUTH_H
#define TANDEM_XMPP_AUTH_H

#include "appliance/base/base.h"
#include "appliance/bus/bus.h"

struct auth_pool;

struct auth_job {
	struct bus_msg msg; /* first; the bus's */
	struct auth_job *next;
	uint16_t worker;                  /* who gets the answer */
	bool bulk;                        /* after all logins */
	void (*run)(struct auth_job *j);  /* on an auth thread; touches nothing but the job */
	void (*done)(struct auth_job *j); /* in the worker; owns the job again */
	void (*drop)(struct auth_job *j); /* instead of done, when the worker is gone: any thread;
					     frees it */
};

/* Cyrus SASL's process-wide set-up (plug-ins are loaded here). Once, before threads and chroot.
 * E_INTERNAL. */
int auth_global_init(struct err *e);

/* threads 1..16. Registers the handler of CORE_MSG_AUTH on the bus. 0, E_NOMEM, E_IO. */
int auth_pool_new(unsigned threads, struct bus *bus, struct auth_pool **p_r, struct err *e);
/* Finishes what runs, drops what waits, joins the threads. */
void auth_pool_free(struct auth_pool **p);
/* Any worker. Never blocks for longer than a queue's lock. Takes the job until done or drop. */
void auth_submit(struct auth_pool *p, struct auth_job *j);
/* Jobs that wait or run now, for the limit of bulk work. */
unsigned auth_backlog(struct auth_pool *p);

#endif
