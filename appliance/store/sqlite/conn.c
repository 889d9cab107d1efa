/* conn.c - opening and closing a database file: the lock, the settings, the writer's caches.
 *
 * One process has the file: it holds an flock on FILE.lock, which the kernel releases when it dies,
 * however it dies. (A lock on the database file itself would be dropped with SQLite's own
 * descriptors.) */
#include "appliance/store/sqlite/conn.h"
#include "appliance/store/sqlite/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#define BUSY_MS 5000

static void configure_once(void)
{
	/* The statistics cost a process-wide mutex at every allocation. Fails harmlessly if
	 * somebody else has started SQLite. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static int lock_refused(const char *path, int fd, struct err *e)
{
	char pid[16];
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? n : 0] = '\0';
	pid[strcspn(pid, "\n")] = '\0';
	return err_set(e, E_BUSY, NULL, "%s is in use by another process (pid %s): stop it first",
		       path, *pid ? pid : "unknown");
}

static int lock_file(const char *path, int *fd_r, struct err *e)
{
	char name[512], pid[16];
	int fd, n, rc;

	if (snprintf(name, sizeof(name), "%s.lock", path) >= (int)sizeof(name))
		return err_set(e, E_TOOBIG, NULL, "the store's path is longer than %zu octets",
			       sizeof(name) - 6);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return err_errno(e, E_IO, "cannot open %s", name);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK ? lock_refused(path, fd, e)
					  : err_errno(e, E_IO, "cannot lock %s", name);
		close(fd);
		return rc;
	}
	n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	/* For people only: a full disk must not keep us from starting. */
	if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)n, 0) < 0)
		errno = 0;
	*fd_r = fd;
	return 0;
}

/* SQLite would make it readable for all; the log and its index get the mode of the database file.
 */
static int create_private(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return err_errno(e, E_IO, "cannot open %s", path);
	close(fd);
	return 0;
}

static int open_db(struct store_conn *c, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
	int rc;

	pthread_once(&once, configure_once);
	rc = sqlite3_open_v2(c->path, &c->db, flags, NULL);
	if (rc != SQLITE_OK)
		return sq_db_error(c, rc, "open", e);
	sqlite3_extended_result_codes(c->db, 1);
	sqlite3_busy_timeout(c->db, BUSY_MS);
	return 0;
}

static int set_up(struct store_conn *c, const struct store_cfg *cfg, struct err *e)
{
	/* Checkpoints are made by checkpoint.c; deleted text need not be overwritten, the disk is
	 * ours. */
	int rc = sq_db_exec(
		c,
		"PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF;"
		"PRAGMA secure_delete=OFF; PRAGMA wal_autocheckpoint=0",
		e);

	if (rc == 0 && cfg->sync_off)
		rc = sq_db_exec(c, "PRAGMA synchronous=OFF", e);
	else if (rc == 0)
		rc = sq_db_exec(c, "PRAGMA synchronous=FULL", e);
	if (rc < 0)
		return rc;
	return sq_db_exec(c, c->writer ? "PRAGMA cache_size=-16000" : "PRAGMA cache_size=-2000", e);
}

/* The journal mode is a property of the file; a file that cannot have it (read-only, odd file
 * system) is not for us. */
static int use_wal(struct store_conn *c, struct err *e)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode=WAL", -1, &st, NULL);
	bool wal;

	if (rc != SQLITE_OK)
		return sq_db_error(c, rc, "journal_mode", e);
	rc = sqlite3_step(st);
	wal = rc == SQLITE_ROW && sl_eq(sq_col_peek(st, 0), SL("wal"));
	if (!wal)
		rc = sq_db_error(c, rc, "cannot use the write-ahead log", e);
	sqlite3_finalize(st);
	return wal ? 0 : rc;
}

static int damaged(struct store_conn *c, struct err *e)
{
	int rc = c->db ? sqlite3_extended_errcode(c->db) & 0xff : SQLITE_OK;

	if (rc == SQLITE_NOTADB)
		return err_set(e, E_IO, NULL,
			       "%s is not a database: wrong path, or damaged; restore a backup",
			       c->path);
	return err_set(e, E_IO, NULL, "%s is damaged (%s): restore a backup", c->path,
		       sqlite3_errmsg(c->db));
}

static bool looks_damaged(const struct store_conn *c)
{
	int rc = c->db ? sqlite3_extended_errcode(c->db) & 0xff : SQLITE_OK;

	return rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT;
}

static int writer_caches(struct store_conn *c, const struct store_cfg *cfg, struct err *e)
{
	if (c->schema == STORE_SMS && sq_progress_new(&c->progress) < 0)
		return err_set(e, E_NOMEM, NULL, "out of memory for the store");
	if (c->schema != STORE_CORE)
		return 0;
	if (sq_owners_new(&c->owners) < 0 || sq_sm_buffer_new(&c->sm) < 0)
		return err_set(e, E_NOMEM, NULL, "out of memory for the store");
	return sq_seen_new(c, cfg->seen_max, e);
}

static int open_writer(struct store_conn *c, const struct store_cfg *cfg, struct err *e)
{
	int rc = lock_file(c->path, &c->lock_fd, e);

	if (rc == 0)
		rc = create_private(c->path, e);
	if (rc == 0)
		rc = open_db(c, e);
	if (rc == 0)
		rc = set_up(c, cfg, e);
	if (rc == 0)
		rc = use_wal(c, e);
	if (rc == 0)
		rc = sq_migrate(c, &sq_migrations[c->schema], e);
	if (rc == 0)
		rc = writer_caches(c, cfg, e);
	if (rc == 0)
		rc = sq_checkpointer_new(c, cfg, e);
	if (rc < 0 && looks_damaged(c))
		rc = damaged(c, e);
	return rc;
}

static int open_reader(struct store_conn *c, const struct store_cfg *cfg, struct err *e)
{
	int rc = open_db(c, e);

	if (rc == 0)
		rc = set_up(c, cfg, e);
	return rc < 0 ? rc : sq_db_exec(c, "PRAGMA query_only=1", e);
}

static int open_helper(struct store_conn *c, const struct store_cfg *cfg, struct err *e)
{
	int rc = open_db(c, e);

	return rc < 0 ? rc : set_up(c, cfg, e);
}

static int open_with(const struct store_cfg *cfg, bool writer,
		     int (*open_as)(struct store_conn *c, const struct store_cfg *cfg,
				    struct err *e),
		     struct store_conn **c_r, struct err *e)
{
	struct store_conn *c = base_calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, E_NOMEM, NULL, "out of memory for the store");
	c->lock_fd = -1;
	c->path = cfg->path;
	c->schema = cfg->schema;
	c->writer = writer;
	rc = open_as(c, cfg, e);
	if (rc < 0) {
		sq_close(&c);
		return rc;
	}
	*c_r = c;
	return 0;
}

int sq_open(const struct store_cfg *cfg, bool writer, struct store_conn **c_r, struct err *e)
{
	return open_with(cfg, writer, writer ? open_writer : open_reader, c_r, e);
}

int sq_open_checkpointer(const struct store_cfg *cfg, struct store_conn **c_r, struct err *e)
{
	return open_with(cfg, false, open_helper, c_r, e);
}

void sq_close(struct store_conn **cp)
{
	struct store_conn *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	sq_checkpointer_free(&c->checkpointer);
	for (unsigned i = 0; i < SQL_MAX; i++)
		sqlite3_finalize(c->stmt[i]);
	sqlite3_close(c->db);
	sq_owners_free(&c->owners);
	sq_seen_free(&c->seen);
	sq_sm_buffer_free(&c->sm);
	sq_progress_free(&c->progress);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
	free(c);
}
