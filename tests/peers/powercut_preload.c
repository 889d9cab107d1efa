/* powercut_preload.c - LD_PRELOAD shim of the power-cut tests: remembers what each write has
 * overwritten until it is synced, so that powercut_restore can bring files back to what a disk
 * would hold after the power failed.
 *
 *   TANDEM_POWERCUT_DIR=/abs/dir TANDEM_POWERCUT_LOG=/abs/log LD_PRELOAD=.../powercut_preload.so
 * program ... kill -9 program; powercut_restore /abs/dir /abs/log
 *
 * Files below TANDEM_POWERCUT_DIR are followed through open, write, pwrite, ftruncate, fallocate,
 * fsync, fdatasync, rename and unlink, also after chroot and in children. Undo data is appended
 * before the write is made, and dropped when the sync has returned, so a kill at any instruction
 * leaves a state that can be restored. A directory entry is durable when its directory was synced
 * (TANDEM_POWERCUT_ENTRIES=file: or the file itself, as ext4 and xfs do it). Not followed: stdio,
 * mmap (a shared writable map of a followed file ends the process, as it would be missed), making
 * and removing directories, links; *-shm (rebuilt) and *.log (for people). Log and directory are on
 * one file system. */
#include "tests/peers/powercut.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOG_FD_MIN 700 /* out of the way of programs that close what they do not know */
#define CHUNK      65536u

static char dir[PATH_MAX], root[PATH_MAX]; /* followed folder; where chroot has led us, "" for / */
static dev_t dir_dev;
static int log_fd = -1, names_fd = -1;
static bool entry_by_file;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) ((__typeof__(&name))next_symbol(#name))

static void *next_symbol(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static void fatal(const char *what)
{
	fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
	abort();
}

static int move_up(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);

	if (high < 0)
		fatal("descriptor");
	NEXT(close)(fd);
	return high;
}

__attribute__((constructor)) static void start(void)
{
	const char *d = getenv("TANDEM_POWERCUT_DIR"), *l = getenv("TANDEM_POWERCUT_LOG"),
		   *by = getenv("TANDEM_POWERCUT_ENTRIES");
	struct stat st;
	int fd;

	if (!d || !l)
		return;
	if (!realpath(d, dir) || stat(dir, &st) < 0)
		fatal(d);
	dir_dev = st.st_dev;
	entry_by_file = by && strcmp(by, "file") == 0;
	fd = NEXT(open)(l, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		fatal(l);
	log_fd = move_up(fd);
	fd = NEXT(openat)(log_fd, "names", O_WRONLY | O_APPEND | O_CREAT, 0666);
	if (fd < 0)
		fatal("names");
	names_fd = move_up(fd);
}

static bool on(void)
{
	return log_fd >= 0;
}

static bool ours(int fd)
{
	return on() && (fd == log_fd || fd == names_fd);
}

/* ---- which files ---- */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* The whole path of what `path` names, its folder's links resolved, as seen from outside any
 * chroot. */
static bool whole_path(const char *path, char out[PATH_MAX], char folder[PATH_MAX])
{
	char copy[PATH_MAX], *slash;
	const char *name;

	if (strlen(path) >= sizeof(copy))
		return false;
	memcpy(copy, path, strlen(path) + 1);
	slash = strrchr(copy, '/');
	name = slash ? path + (slash - copy) + 1 : path;
	if (slash)
		slash[slash == copy] = '\0';
	if (!realpath(slash ? copy : ".", folder))
		return false;
	return snprintf(out, PATH_MAX, "%s%s%s%s", root, strcmp(folder, "/") == 0 ? "" : folder,
			"/", name) < PATH_MAX;
}

static bool followed_path(const char *path, char out[PATH_MAX], char folder[PATH_MAX])
{
	size_t n = strlen(dir);

	if (!on() || !whole_path(path, out, folder))
		return false;
	return strncmp(out, dir, n) == 0 && out[n] == '/' && !ends_with(out, "-shm") &&
	       !ends_with(out, ".log");
}

static void log_name(char name[40], ino_t ino, const char *kind)
{
	snprintf(name, 40, "%llx.%s", (unsigned long long)ino, kind);
}

/* A regular file is followed if it has an undo log: made when it was opened by its name. */
static bool followed_fd(int fd, struct stat *st)
{
	char name[40];

	if (!on() || fstat(fd, st) < 0 || !S_ISREG(st->st_mode) || st->st_dev != dir_dev)
		return false;
	log_name(name, st->st_ino, "undo");
	return faccessat(log_fd, name, F_OK, 0) == 0;
}

/* ---- writing the logs ---- */

static void put_all(int fd, const struct iovec *v, int n)
{
	size_t want = 0;

	for (int i = 0; i < n; i++)
		want += v[i].iov_len;
	ssize_t got = NEXT(writev)(fd, v, n);
	if (got < 0 || (size_t)got != want)
		fatal("log");
}

static int undo_open(ino_t ino, int flags)
{
	char name[40];
	int fd;

	log_name(name, ino, "undo");
	fd = NEXT(openat)(log_fd, name, O_WRONLY | flags, 0666);
	if (fd < 0)
		fatal(name);
	return fd;
}

static int saved_open(ino_t ino)
{
	char name[40];
	int fd;

	log_name(name, ino, "file");
	fd = NEXT(openat)(log_fd, name, O_RDONLY);
	if (fd < 0)
		fatal(name);
	return fd;
}

static void undo_put(const struct stat *st, enum powercut_kind kind, uint64_t off, uint64_t len)
{
	struct powercut_rec r = { .magic = POWERCUT_MAGIC,
				  .kind = kind,
				  .ino = st->st_ino,
				  .off = off,
				  .old_size = (uint64_t)st->st_size,
				  .write_len = kind == PC_WRITE ? (uint32_t)len : 0 };
	uint64_t end = kind == PC_WRITE ? off + len : r.old_size;
	static char old[CHUNK];
	int fd = undo_open(st->st_ino, O_APPEND), file = saved_open(st->st_ino);

	if (end > r.old_size)
		end = r.old_size;
	/* in portions; each portion undoes its part, and each restores the size */
	do {
		uint64_t n = off < end ? end - off : 0;
		if (n > sizeof(old))
			n = sizeof(old);
		if (n && pread(file, old, n, (off_t)off) != (ssize_t)n)
			fatal("pre-image");
		r.data_len = (uint32_t)n;
		struct iovec v[2] = { { &r, sizeof(r) }, { old, n } };
		put_all(fd, v, 2);
		off += n;
		r.off = off;
		r.write_len = r.write_len > n ? r.write_len - (uint32_t)n : 0;
	} while (off < end);
	NEXT(close)(file);
	NEXT(close)(fd);
}

static void names_put(struct powercut_rec *r, const char *a, const char *b)
{
	size_t n = strlen(a) + 1, m = b ? strlen(b) + 1 : 0;
	struct iovec v[3] = { { r, sizeof(*r) },
			      { (void *)(uintptr_t)a, n },
			      { (void *)(uintptr_t)b, m } };

	r->magic = POWERCUT_MAGIC;
	r->data_len = (uint32_t)(n + m);
	put_all(names_fd, v, 3);
}

static void forget_undo(ino_t ino)
{
	NEXT(close)(undo_open(ino, O_TRUNC));
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* A second name for each followed file: to read what it held when the program's descriptor cannot,
 * to keep it when it loses its name, and so that its inode number is not used again. */
static void save(const char *path, ino_t ino)
{
	char name[40];

	log_name(name, ino, "file");
	if (linkat(AT_FDCWD, path, log_fd, name, 0) < 0 && errno != EEXIST)
		fatal(path);
}

/* ---- open ---- */

typedef int (*open_fn)(const char *, int, ...);

static void note_trunc(const char *path, const struct stat *st)
{
	if (st->st_size == 0)
		return;
	save(path, st->st_ino);
	NEXT(close)(undo_open(st->st_ino, O_CREAT));
	undo_put(st, PC_RESIZE, 0, 0);
}

static int open_followed(open_fn real, const char *path, int flags, mode_t mode, const char *whole,
			 const char *folder)
{
	struct stat st;
	bool there = stat(path, &st) == 0;
	int fd;

	if (there && !S_ISREG(st.st_mode))
		return real(path, flags, mode);
	if (there && flags & O_TRUNC)
		note_trunc(path, &st);
	fd = real(path, flags, mode);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fd;
	if (!there) {
		struct powercut_rec r = { .kind = PC_CREATE,
					  .ino = st.st_ino,
					  .dir = inode_of(folder) };
		names_put(&r, whole, NULL);
	}
	save(path, st.st_ino);
	NEXT(close)(undo_open(st.st_ino, O_CREAT));
	return fd;
}

static int open_any(open_fn real, const char *path, int flags, mode_t mode)
{
	char whole[PATH_MAX], folder[PATH_MAX];
	int fd;

	if ((flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC)))
		return real(path, flags, mode);
	if (!followed_path(path, whole, folder))
		return real(path, flags, mode);
	pthread_mutex_lock(&mutex);
	fd = open_followed(real, path, flags, mode, whole, folder);
	pthread_mutex_unlock(&mutex);
	return fd;
}

#define MODE_ARG(flags, mode) \
	mode_t mode = 0; \
	if ((flags)&O_CREAT) { \
		va_list ap; \
		va_start(ap, flags); \
		mode = va_arg(ap, mode_t); \
		va_end(ap); \
	}

int open(const char *path, int flags, ...)
{
	MODE_ARG(flags, mode)
	return open_any(NEXT(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE_ARG(flags, mode)
	return open_any(NEXT(open64), path, flags, mode);
}

int creat(const char *path, mode_t mode)
{
	return open_any(NEXT(open), path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int openat(int at, const char *path, int flags, ...)
{
	MODE_ARG(flags, mode)
	if (at == AT_FDCWD || *path == '/')
		return open_any(NEXT(open), path, flags, mode);
	return NEXT(openat)(at, path, flags, mode);
}

/* ---- write, resize ---- */

static uint64_t write_at(int fd, const struct stat *st)
{
	off_t at = fcntl(fd, F_GETFL) & O_APPEND ? st->st_size : lseek(fd, 0, SEEK_CUR);

	return at < 0 ? 0 : (uint64_t)at;
}

ssize_t write(int fd, const void *p, size_t n)
{
	struct stat st;
	ssize_t rc;

	if (!followed_fd(fd, &st))
		return NEXT(write)(fd, p, n);
	pthread_mutex_lock(&mutex);
	if (fstat(fd, &st) == 0)
		undo_put(&st, PC_WRITE, write_at(fd, &st), n);
	rc = NEXT(write)(fd, p, n);
	pthread_mutex_unlock(&mutex);
	return rc;
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	struct stat st;
	size_t sum = 0;
	ssize_t rc;

	if (!followed_fd(fd, &st))
		return NEXT(writev)(fd, v, n);
	for (int i = 0; i < n; i++)
		sum += v[i].iov_len;
	pthread_mutex_lock(&mutex);
	if (fstat(fd, &st) == 0)
		undo_put(&st, PC_WRITE, write_at(fd, &st), sum);
	rc = NEXT(writev)(fd, v, n);
	pthread_mutex_unlock(&mutex);
	return rc;
}

static ssize_t pwrite_any(int fd, const void *p, size_t n, off_t at)
{
	struct stat st;
	ssize_t rc;

	if (!followed_fd(fd, &st))
		return NEXT(pwrite)(fd, p, n, at);
	pthread_mutex_lock(&mutex);
	if (fstat(fd, &st) == 0)
		undo_put(&st, PC_WRITE, (uint64_t)at, n);
	rc = NEXT(pwrite)(fd, p, n, at);
	pthread_mutex_unlock(&mutex);
	return rc;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	return pwrite_any(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	return pwrite_any(fd, p, n, at);
}

static int resize_any(int fd, off_t size)
{
	struct stat st;
	int rc;

	if (!followed_fd(fd, &st))
		return NEXT(ftruncate)(fd, size);
	pthread_mutex_lock(&mutex);
	if (fstat(fd, &st) == 0)
		undo_put(&st, PC_RESIZE, (uint64_t)size, 0);
	rc = NEXT(ftruncate)(fd, size);
	pthread_mutex_unlock(&mutex);
	return rc;
}

int ftruncate(int fd, off_t size)
{
	return resize_any(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
	return resize_any(fd, size);
}

static int allocate_any(int fd, int mode, off_t at, off_t n, bool posix)
{
	struct stat st;
	int rc;

	if (followed_fd(fd, &st)) {
		if (mode)
			fatal("fallocate with a mode is not followed");
		pthread_mutex_lock(&mutex);
		if (fstat(fd, &st) == 0 && at + n > st.st_size)
			undo_put(&st, PC_RESIZE, (uint64_t)(at + n), 0);
		pthread_mutex_unlock(&mutex);
	}
	rc = posix ? NEXT(posix_fallocate)(fd, at, n) : NEXT(fallocate)(fd, mode, at, n);
	return rc;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
	return allocate_any(fd, mode, at, n, false);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
	return allocate_any(fd, 0, at, n, true);
}

void *mmap(void *addr, size_t n, int prot, int flags, int fd, off_t at)
{
	struct stat st;

	if (fd >= 0 && flags & MAP_SHARED && prot & PROT_WRITE && followed_fd(fd, &st)) {
		errno = ENOTSUP;
		fatal("a shared writable map is not followed");
	}
	return NEXT(mmap)(addr, n, prot, flags, fd, at);
}

/* ---- sync ---- */

static void synced(int fd)
{
	struct stat st;

	if (!on() || fstat(fd, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode) && st.st_dev == dir_dev) {
		struct powercut_rec r = { .kind = PC_SYNC_DIR, .ino = st.st_ino };
		names_put(&r, "", NULL);
	} else if (followed_fd(fd, &st)) {
		struct powercut_rec r = { .kind = PC_SYNC_FILE, .ino = st.st_ino };
		forget_undo(st.st_ino);
		if (entry_by_file)
			names_put(&r, "", NULL);
	}
}

static int sync_any(int fd, int (*real)(int))
{
	int rc;

	pthread_mutex_lock(&mutex);
	rc = real(fd);
	if (rc == 0)
		synced(fd);
	pthread_mutex_unlock(&mutex);
	return rc;
}

int fsync(int fd)
{
	return sync_any(fd, NEXT(fsync));
}

int fdatasync(int fd)
{
	return sync_any(fd, NEXT(fdatasync));
}

/* ---- names ---- */

int unlink(const char *path)
{
	char whole[PATH_MAX], folder[PATH_MAX];
	ino_t ino;
	int rc;

	if (!followed_path(path, whole, folder) || !(ino = inode_of(path)))
		return NEXT(unlink)(path);
	pthread_mutex_lock(&mutex);
	struct powercut_rec r = { .kind = PC_UNLINK, .ino = ino, .dir = inode_of(folder) };
	save(path, ino);
	names_put(&r, whole, NULL);
	rc = NEXT(unlink)(path);
	pthread_mutex_unlock(&mutex);
	return rc;
}

int remove(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return rmdir(path);
	return unlink(path);
}

int unlinkat(int at, const char *path, int flags)
{
	if (!(flags & AT_REMOVEDIR) && (at == AT_FDCWD || *path == '/'))
		return unlink(path);
	return NEXT(unlinkat)(at, path, flags);
}

int rename(const char *from, const char *to)
{
	char whole[PATH_MAX], folder[PATH_MAX], whole_to[PATH_MAX], folder_to[PATH_MAX];
	ino_t gone;
	int rc;

	if (!followed_path(from, whole, folder) || !followed_path(to, whole_to, folder_to))
		return NEXT(rename)(from, to);
	pthread_mutex_lock(&mutex);
	gone = inode_of(to);
	struct powercut_rec r = {
		.kind = PC_RENAME, .ino = inode_of(from), .dir = inode_of(folder_to), .off = gone
	};
	if (gone)
		save(to, gone);
	names_put(&r, whole, whole_to);
	rc = NEXT(rename)(from, to);
	pthread_mutex_unlock(&mutex);
	return rc;
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
	if ((from_at == AT_FDCWD || *from == '/') && (to_at == AT_FDCWD || *to == '/'))
		return rename(from, to);
	return NEXT(renameat)(from_at, from, to_at, to);
}

/* ---- what would lose us ---- */

int chroot(const char *path)
{
	char full[PATH_MAX], before[PATH_MAX];
	int rc;

	if (!realpath(path, full))
		return -1;
	memcpy(before, root, sizeof(before));
	rc = NEXT(chroot)(path);
	if (rc == 0 && strcmp(full, "/") != 0 &&
	    snprintf(root, sizeof(root), "%s%s", before, full) >= (int)sizeof(root))
		fatal("chroot: the path is too long");
	return rc;
}

int close(int fd)
{
	return ours(fd) ? 0 : NEXT(close)(fd);
}

int close_range(unsigned first, unsigned last, int flags)
{
	if (!on() || last < (unsigned)LOG_FD_MIN || first > (unsigned)names_fd)
		return NEXT(close_range)(first, last, flags);
	if (first < (unsigned)log_fd && NEXT(close_range)(first, (unsigned)log_fd - 1, flags) < 0)
		return -1;
	for (int fd = log_fd + 1; fd < names_fd; fd++)
		NEXT(close)(fd);
	return last > (unsigned)names_fd ? NEXT(close_range)((unsigned)names_fd + 1, last, flags)
					 : 0;
}
