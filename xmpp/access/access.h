/* access.h - the access layer: listeners, streams of clients and components, and what its workers
 * share.
 *
 * Worker 0 accepts and hands descriptors round (CORE_MSG_CONN); a stream is negotiated where it
 * landed and moves to the worker that owns the account, or the component's domain, when its login
 * has succeeded. Each file's own header says more: stream.h (what all streams have), c2s.h,
 * component.h, asession.h (what the router delivers to), sm.h (XEP-0198), login.h and auth.h
 * (SASL). */
#ifndef TANDEM_XMPP_ACCESS_H
#define TANDEM_XMPP_ACCESS_H

#include "xmpp/router/worker.h"

struct access;

enum access_port {
	ACCESS_C2S,            /* STARTTLS */
	ACCESS_C2S_TLS,        /* direct TLS, XEP-0368 */
	ACCESS_COMPONENT,      /* XEP-0114 */
	ACCESS_COMPONENT_TLS,  /* the same inside TLS */
	ACCESS_COMPONENT_UNIX, /* our translators: SASL EXTERNAL from the socket's peer credentials
				*/
	ACCESS_PORTS
};

#define ACCESS_UIDS_MAX      4u
#define ACCESS_SECRET_OCTETS 32u

struct access_cfg {
	unsigned char secret[ACCESS_SECRET_OCTETS]; /* makes the verifiers of users who do not
						       exist; kept in the store */
	uint32_t uid[ACCESS_UIDS_MAX]; /* who may be a component over the Unix socket, beside root
					  and ourselves */
	unsigned nuids;
};

/* Once in a process, before threads: prepares the machines, registers CORE_MSG_CONN. */
int access_new(const struct access_cfg *cfg, struct bus *bus, struct access **a_r, struct err *e);
void access_free(struct access **a); /* after the workers' */

/* In each worker's thread or before it starts. w->access is set. */
int access_worker_init(struct access *a, struct worker *w, struct err *e);
/* Ends every stream with system-shutdown; sessions that can be resumed keep their counts in the
 * store. Their ends come by and by: access_worker_idle says when all are gone. */
void access_worker_shutdown(struct worker *w);
bool access_worker_idle(const struct worker *w);
/* Drops what is left. */
void access_worker_free(struct worker *w);

/* Serve a descriptor that listens, from worker 0. The listener lives until access_worker_free of
 * that worker. On error fd is closed. */
int access_listen(struct worker *w0, enum access_port port, int fd, struct err *e);
/* As if fd had been accepted; it stays in this worker. Tests, and connections that are handed over.
 */
int access_adopt(struct worker *w, enum access_port port, int fd);

/* For the control commands. */
/* sessions: of accounts, detached ones too; components: sessions of components. */
struct access_totals {
	uint32_t streams, sessions, components, detached;
};
struct access_totals access_worker_totals(const struct worker *w);
uint32_t access_worker_streams(const struct worker *w); /* any thread */
struct session;
/* Each session of this worker, detached ones and those of components (user NULL) too. fn may close
 * it. */
void access_each_session(struct worker *w, void (*fn)(void *arg, const struct session *s),
			 void *arg);
/* Ends all sessions of an account of this worker with a stream error; returns how many. */
unsigned access_close_account(struct worker *w, struct sl bare, const char *stream_error,
			      struct sl text);

#endif
