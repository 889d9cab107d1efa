/* powercut_restore.c - after the processes died: brings files back to what the disk would hold if
 * the power had failed then. See powercut_preload.c.
 *
 *   powercut_restore DIR LOG [--torn SEED]
 *
 * Everything that was not synced is discarded; with --torn each sector (512 octets) of an unsynced
 * write is kept or discarded at random, as a disk may have written some of them. *-shm files are
 * removed. LOG is emptied, so that the processes may start again with it. Prints what was
 * discarded. */
#include "tests/peers/powercut.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u

static const char *log_dir;
static bool torn;
static unsigned writes, files, entries, kept;

static void die(const char *what)
{
	fprintf(stderr, "powercut_restore: %s: %s\n", what, strerror(errno));
	exit(1);
}

struct bytes {
	char *p;
	size_t n;
};

static struct bytes slurp(const char *path)
{
	struct bytes b = { NULL, 0 };
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return b;
	if (fstat(fd, &st) < 0)
		die(path);
	b.n = (size_t)st.st_size;
	b.p = calloc(1, b.n + 1);
	if (!b.p || (b.n && read(fd, b.p, b.n) != st.st_size))
		die(path);
	close(fd);
	return b;
}

/* The records of a log: offsets of the whole ones. The last may be cut: its write was not made yet.
 */
static size_t *index_of(struct bytes log, size_t *n_r)
{
	size_t cap = 64, n = 0, *at = malloc(cap * sizeof(*at));
	struct powercut_rec r;

	for (size_t off = 0; at && off + sizeof(r) <= log.n; off += sizeof(r) + r.data_len) {
		memcpy(&r, log.p + off, sizeof(r));
		if (r.magic != POWERCUT_MAGIC || log.n - off - sizeof(r) < r.data_len)
			break;
		if (n == cap)
			at = realloc(at, (cap *= 2) * sizeof(*at));
		if (at)
			at[n++] = off;
	}
	if (!at)
		die("memory");
	*n_r = n;
	return at;
}

static struct powercut_rec rec_at(struct bytes log, size_t off)
{
	struct powercut_rec r;

	memcpy(&r, log.p + off, sizeof(r));
	return r;
}

/* ---- one file ---- */

static void resize(struct bytes *img, size_t n)
{
	char *p = realloc(img->p, n + 1);

	if (!p)
		die("memory");
	if (n > img->n)
		memset(p + img->n, 0, n - img->n);
	img->p = p;
	img->n = n;
}

static struct bytes synced_image(struct bytes now, struct bytes log, const size_t *at, size_t n)
{
	struct bytes img = { NULL, 0 };

	resize(&img, now.n);
	memcpy(img.p, now.p, now.n);
	while (n-- > 0) {
		struct powercut_rec r = rec_at(log, at[n]);
		resize(&img, r.old_size);
		if (r.data_len && r.off + r.data_len <= img.n)
			memcpy(img.p + r.off, log.p + at[n] + sizeof(r), r.data_len);
	}
	return img;
}

/* Some sectors of what was written did reach the disk. */
static void keep_some(struct bytes *img, struct bytes now, struct bytes log, const size_t *at,
		      size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct powercut_rec r = rec_at(log, at[i]);
		uint64_t len = r.write_len > r.data_len ? r.write_len : r.data_len;
		if (r.kind != PC_WRITE)
			continue;
		for (uint64_t s = r.off / SECTOR * SECTOR; s < r.off + len; s += SECTOR) {
			size_t end = s + SECTOR < now.n ? s + SECTOR : now.n;
			if (s >= now.n || random() & 1)
				continue;
			if (end > img->n)
				resize(img, end);
			memcpy(img->p + s, now.p + s, end - s);
			kept++;
		}
	}
}

static void restore_file(const char *path, ino_t ino)
{
	char name[PATH_MAX + 32];
	struct bytes log, now, img;
	size_t n, *at;
	int fd;

	snprintf(name, sizeof(name), "%s/%llx.undo", log_dir, (unsigned long long)ino);
	log = slurp(name);
	if (log.n == 0) {
		free(log.p);
		return;
	}
	at = index_of(log, &n);
	now = slurp(path);
	img = synced_image(now, log, at, n);
	if (torn)
		keep_some(&img, now, log, at, n);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0 || write(fd, img.p, img.n) != (ssize_t)img.n)
		die(path);
	close(fd);
	writes += (unsigned)n;
	files++;
	free(at);
	free(log.p);
	free(now.p);
	free(img.p);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static void restore_tree(const char *folder)
{
	DIR *d = opendir(folder);
	struct dirent *de;
	char path[PATH_MAX + 260];
	struct stat st;

	if (!d)
		die(folder);
	while ((de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, de->d_name);
		if (strcmp(path, log_dir) == 0 || lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			restore_tree(path);
		else if (S_ISREG(st.st_mode) && ends_with(path, "-shm"))
			unlink(path);
		else if (S_ISREG(st.st_mode))
			restore_file(path, st.st_ino);
	}
	closedir(d);
}

/* ---- names ---- */

/* Is the entry of record i durable? A later sync of its folder, or (where the shim logs those) of
 * the file. */
static bool durable(struct bytes log, const size_t *at, size_t n, size_t i)
{
	struct powercut_rec r = rec_at(log, at[i]);

	for (size_t k = i + 1; k < n; k++) {
		struct powercut_rec s = rec_at(log, at[k]);
		if (s.kind == PC_SYNC_DIR && s.ino == r.dir)
			return true;
		if (s.kind == PC_SYNC_FILE && s.ino == r.ino && r.kind == PC_CREATE)
			return true;
	}
	return false;
}

static void bring_back(uint64_t ino, const char *path)
{
	char saved[PATH_MAX + 32];

	snprintf(saved, sizeof(saved), "%s/%llx.file", log_dir, (unsigned long long)ino);
	if (link(saved, path) < 0 && errno != EEXIST)
		die(path);
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

/* A record is written before its call is made, so each step looks whether it happened. */
static void undo_name(const struct powercut_rec *r, const char *path)
{
	const char *to = path + strlen(path) + 1;

	if (r->kind == PC_CREATE && inode_of(path) == r->ino)
		unlink(path);
	if (r->kind == PC_UNLINK && inode_of(path) == 0)
		bring_back(r->ino, path);
	if (r->kind == PC_RENAME && inode_of(to) == r->ino && inode_of(path) != r->ino) {
		if (rename(to, path) < 0)
			die(path);
		if (r->off)
			bring_back(r->off, to);
	}
	entries++;
}

static void restore_names(void)
{
	char name[PATH_MAX + 32];
	struct bytes log;
	size_t n, *at;

	snprintf(name, sizeof(name), "%s/names", log_dir);
	log = slurp(name);
	at = index_of(log, &n);
	for (size_t i = n; i-- > 0;) {
		struct powercut_rec r = rec_at(log, at[i]);
		bool entry = r.kind == PC_CREATE || r.kind == PC_UNLINK || r.kind == PC_RENAME;
		if (entry && !durable(log, at, n, i))
			undo_name(&r, log.p + at[i] + sizeof(r));
	}
	free(at);
	free(log.p);
}

static void empty_log(void)
{
	DIR *d = opendir(log_dir);
	struct dirent *de;

	if (!d)
		die(log_dir);
	while ((de = readdir(d)))
		if (de->d_name[0] != '.')
			unlinkat(dirfd(d), de->d_name, 0);
	closedir(d);
}

int main(int argc, char **argv)
{
	char dir[PATH_MAX], log[PATH_MAX];

	if ((argc != 3 && argc != 5) || (argc == 5 && strcmp(argv[3], "--torn") != 0)) {
		fprintf(stderr, "usage: powercut_restore DIR LOG [--torn SEED]\n");
		return 2;
	}
	if (!realpath(argv[1], dir) || !realpath(argv[2], log))
		die(argv[1]);
	log_dir = log;
	torn = argc == 5;
	if (torn)
		srandom((unsigned)strtoul(argv[4], NULL, 10));
	restore_names();
	restore_tree(dir);
	empty_log();
	printf("discarded %u writes in %u files and %u directory entries, kept %u sectors\n",
	       writes, files, entries, kept);
	return 0;
}
