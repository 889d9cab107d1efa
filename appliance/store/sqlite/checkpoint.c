/* checkpoint.c - copies the write-ahead log into the database file beside the writer.
 *
 * SQLite would do it within a commit: thousands of pages and a sync, while everybody waits. Here a
 * thread with a connection of its own copies what is there while commits go on behind it; what came
 * meanwhile is little, and the writer copies that itself, whereupon the log starts again at its
 * beginning. If the thread cannot keep up the writer does all of it, so the log stays bounded.
 *
 *   log shorter than START      nothing
 *   START pages                 the thread is woken once
 *   the thread is done          the writer copies the rest after its next commit
 *   LIMIT pages                 the writer copies everything after its commit */
#include "appliance/base/log.h"
#include "appliance/store/sqlite/conn.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define START_PAGES 2000
#define LIMIT_PAGES 16000
#define STACK       (256u << 10)

enum state { IDLE, WANTED, COPYING, COPIED };

struct checkpointer {
	struct store_conn *conn;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	_Atomic int state;
	bool stop, runs;
};

/* Failures leave the log as it is; the next attempt, or the next start, copies it. */
static void copy(struct store_conn *c)
{
	int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	if (rc != SQLITE_OK && rc != SQLITE_BUSY)
		log_ev(LOG_L_WARN, "store.checkpoint.failed", KC("path", c->path), KI("code", rc),
		       KC("err", sqlite3_errmsg(c->db)));
}

static void *checkpointer_main(void *arg)
{
	struct checkpointer *k = arg;

	pthread_mutex_lock(&k->mutex);
	while (!k->stop) {
		if (k->state != WANTED) {
			pthread_cond_wait(&k->cond, &k->mutex);
			continue;
		}
		k->state = COPYING;
		pthread_mutex_unlock(&k->mutex);
		copy(k->conn);
		pthread_mutex_lock(&k->mutex);
		k->state = COPIED;
	}
	pthread_mutex_unlock(&k->mutex);
	return NULL;
}

static void want(struct checkpointer *k)
{
	pthread_mutex_lock(&k->mutex);
	k->state = WANTED;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
}

/* After each commit, in the writer. */
static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct store_conn *c = arg;
	struct checkpointer *k = c->checkpointer;

	UNUSED(db);
	UNUSED(name);
	if (k->state == COPIED || pages >= LIMIT_PAGES) {
		copy(c);
		if (k->state == COPIED)
			k->state = IDLE;
	} else if (k->state == IDLE && pages >= START_PAGES) {
		want(k);
	}
	return SQLITE_OK;
}

static int start_thread(struct checkpointer *k, struct err *e)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&k->thread, &attr, checkpointer_main, k);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc)
		return err_set(e, E_IO, NULL, "cannot start a store thread: %s", strerror(rc));
	k->runs = true;
	return 0;
}

int sq_checkpointer_new(struct store_conn *c, const struct store_cfg *cfg, struct err *e)
{
	struct checkpointer *k = base_calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return err_set(e, E_NOMEM, NULL, "out of memory for the store");
	pthread_mutex_init(&k->mutex, NULL);
	pthread_cond_init(&k->cond, NULL);
	c->checkpointer = k;
	rc = sq_open_checkpointer(cfg, &k->conn, e);
	if (rc == 0)
		rc = start_thread(k, e);
	if (rc == 0)
		sqlite3_wal_hook(c->db, on_commit, c);
	return rc;
}

void sq_checkpointer_free(struct checkpointer **kp)
{
	struct checkpointer *k = *kp;

	*kp = NULL;
	if (!k)
		return;
	pthread_mutex_lock(&k->mutex);
	k->stop = true;
	pthread_cond_signal(&k->cond);
	pthread_mutex_unlock(&k->mutex);
	if (k->runs)
		pthread_join(k->thread, NULL);
	sq_close(&k->conn);
	pthread_cond_destroy(&k->cond);
	pthread_mutex_destroy(&k->mutex);
	free(k);
}
