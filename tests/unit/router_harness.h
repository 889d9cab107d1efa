/* router_harness.h - a router with one or more workers in the test's thread, a real store in a folder of its own, and
 * sessions that record what is delivered to them.
 *
 * Tests are conversations, one line an action:
 *
 *   login alice/a [sm]         bind alice@localhost/a; sm: its messages take custody places
 *   attach gw.localhost [sm]   a component's stream is up; detach NAME: it goes; gw.localhost#2 is a second one,
 *                              gw.localhost#+1 one in the worker after that of the domain
 *   alice/a > XML              send
 *   alice/a < XML              the next thing that was delivered matches
 *   alice/a ~ XML              one of the things that were delivered matches (and is taken out)
 *   alice/a ! XML              none of them matches
 *   alice/a -                  nothing (more) was delivered
 *   clear alice/a              forget what was delivered
 *   ack alice/a                it acknowledges all mail that it holds; ack alice/a 2: the two oldest
 *   end alice/a                it ends, handing back what it has not acknowledged
 *   h alice/a 3                its server's count is 3
 *   rows alice@localhost 1     so many rows are in the store
 *   hold | release             commits wait | go on
 *   fail N | heal              the next N commits fail | none
 *   hold load | release        pages of rows are read, but not answered | go on (needs 2 readers)
 *   hold count | release       a user's rows are not counted | go on (the same)
 *   settle                     wait until nothing is going on
 *
 * XML matches when every attribute and child of the expected one is there; "*" as a value matches anything. */
#ifndef TANDEM_TESTS_UNIT_ROUTER_HARNESS_H
#define TANDEM_TESTS_UNIT_ROUTER_HARNESS_H

#include "xmpp/router/router_int.h"

#define RH_WORKERS_MAX 4u

struct fake;

struct rh {
	unsigned nworkers, readers; /* readers: from the next rh_restart on */
	struct worker w[RH_WORKERS_MAX];
	struct loop *loop[RH_WORKERS_MAX];
	struct bus *bus;
	struct store *store;
	struct core_config *cfg;
	struct list fakes;
	unsigned ready;
	bool forgiving;
	char dir[128], path[160];
	char where[96]; /* for messages */
};

/* Is set to true while the router's own code runs (and not the harness's): for tests that fail
 * allocations. */
extern bool rh_inside;

/* localhost is served, gw.localhost is a component of ours, irc.localhost a foreign one. */
struct rh *rh_new(unsigned workers);
void rh_free(struct rh **h);
/* Kill -9 and start again with the same file: sessions vanish without a word. */
void rh_restart(struct rh *h);
void rh_account(struct rh *h, const char *jid);
void rh_accounts(struct rh *h, const char *const *jids);
/* Runs the conversation; a mismatch fails the test with file and line. */
void rh_run_at(struct rh *h, const char *file, int line, const char *script);
#define RH_RUN(h, script) rh_run_at((h), __FILE__, __LINE__, (script))
/* Sessions that could not bind take part in the conversation as if they did not say a word. */
void rh_forgiving(struct rh *h, bool on);
void rh_settle(struct rh *h);
void rh_turn(struct rh *h, int wait_ms);
uint64_t rh_rows(struct rh *h, const char *owner);
uint64_t rh_counter(const struct rh *h, enum core_counter c);
/* XEP-0198 as the access layer does it: the session's id is stored (and copied out); what is stored of an id (the caller
 * calls store_op_fini). */
void rh_sm_begin(struct rh *h, const char *name, char id[32]);
void rh_sm_get(struct rh *h, const char *id, struct store_sm_get *g);
/* A write of the test's own; op->kind says which. */
void rh_write(struct rh *h, struct store_op *op);
/* Sleep so long, then look for expired rows. */
void rh_expire(struct rh *h, unsigned ms);
/* A roster item into the store; the roster from there (the caller calls store_op_fini). */
void rh_put(struct rh *h, struct store_roster_put *p);
void rh_roster(struct rh *h, const char *owner, struct store_roster_load *l);

/* Bind a full JID under another name. */
void rh_login_as(struct rh *h, const char *name, const char *jid);
struct session *rh_session(struct rh *h, const char *name);
/* Of a session: how many things are in its inbox; its stream was closed with this error (or NULL). */
bool rh_read(struct rh *h, const char *name, unsigned at, char id[32]); /* the id of one of them; false: no more */
void rh_forget(struct rh *h, const char *name, unsigned count);        /* the oldest */
unsigned rh_inbox(struct rh *h, const char *name);
const char *rh_closed(struct rh *h, const char *name);
/* It was told to stop reading. */
bool rh_stopped(struct rh *h, const char *name);
int rh_bound_rc(struct rh *h, const char *name);

#endif
