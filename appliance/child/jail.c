/* jail.c - giving up rights. See child.h.
 *
 * The folder is entered by its descriptor before the user changes: a checkout below a home
 * directory of mode 0700 could not be reached afterwards. */
#include "appliance/child/child.h"
#include "appliance/child/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/base/log.h"
#include "appliance/child/sys.h"

/* What a predecessor may take to commit and exit. */
#define LOCK_WAIT_MS 20000
#define LOCK_TELL_MS 500
#define LOCK_STEP_MS 20

static const char *who_name(enum config_who who)
{
	return who == CONFIG_CORE ? "core" : "sms";
}

void jail_user(const struct config *cfg, enum config_who who, uint32_t *uid_r, uint32_t *gid_r)
{
	struct sl name = who == CONFIG_CORE ? cfg->run_as.core_user : cfg->run_as.sms_user;
	const struct passwd *pw = name.n ? getpwnam(name.p) : NULL;

	if (geteuid() != 0) {
		*uid_r = geteuid();
		*gid_r = getegid();
	} else if (pw) {
		*uid_r = pw->pw_uid;
		*gid_r = pw->pw_gid;
	} else {
		*uid_r = cfg->run_as.first_uid + (who == CONFIG_CORE ? 0 : 1);
		*gid_r = *uid_r;
	}
}

/* ---- the folder
 * ---------------------------------------------------------------------------------- */

/* nftw has no argument: what chown_tree is doing. One thread at that time. */
static uint32_t tree_uid, tree_gid;

static int chown_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	UNUSED(st);
	UNUSED(type);
	UNUSED(f);
	return lchown(path, tree_uid, tree_gid);
}

/* Only from root's folder, or from one that an earlier run as another user left: never a folder
 * that its present owner could be playing with. */
static int give_folder(const char *dir, uint32_t uid, uint32_t gid, struct err *e)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return err_errno(e, E_IO, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, E_IO, NULL, "%s is not a folder", dir);
	if (geteuid() != 0 || st.st_uid == uid)
		return 0;
	tree_uid = uid;
	tree_gid = gid;
	if (nftw(dir, chown_one, 16, FTW_PHYS) != 0)
		return err_errno(e, E_IO, "cannot give %s to user %u", dir, uid);
	return 0;
}

/* errno with what to do about it: an ordinary user who meets what another one has left. */
static int refused(struct err *e, const char *what, const char *path)
{
	if (errno != EACCES && errno != EPERM)
		return err_errno(e, E_IO, "cannot %s %s", what, path);
	return err_set(
		e, E_DENIED, NULL,
		"cannot %s %s: Permission denied: it belongs to another user; start tandemd as "
		"that user or as root, or give it to user %u (chown -R)",
		what, path, (unsigned)geteuid());
}

static int make_folder(const char *dir, mode_t mode, struct err *e)
{
	if (mkdir(dir, mode) < 0 && errno != EEXIST)
		return refused(e, "make", dir);
	return 0;
}

static int own_folder(const struct config *cfg, enum config_who who, char *dst, size_t cap,
		      struct err *e)
{
	uint32_t uid, gid;
	int rc;

	if ((size_t)snprintf(dst, cap, "%s/%s", cfg->state_dir.p, who_name(who)) >= cap)
		return err_set(e, E_TOOBIG, NULL, "state_dir is too long");
	jail_user(cfg, who, &uid, &gid);
	rc = make_folder(cfg->state_dir.p, 0755, e);
	if (rc == 0)
		rc = make_folder(dst, 0700, e);
	return rc < 0 ? rc : give_folder(dst, uid, gid, e);
}

int jail_core_socket(const struct config *cfg, enum config_who translator, char *dst, size_t cap,
		     struct err *e)
{
	char dir[256];
	int rc = own_folder(cfg, translator, dir, sizeof(dir), e);

	if (rc < 0)
		return rc;
	if ((size_t)snprintf(dst, cap, "%s/%s", dir, JAIL_CORE_SOCKET) >= cap)
		return err_set(e, E_TOOBIG, NULL, "state_dir is too long for a socket in it");
	return 0;
}

/* Try until the predecessor lets go, or too long. */
static int wait_lock(int fd, const char *path, struct err *e)
{
	for (int waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_STEP_MS) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_errno(e, E_IO, "cannot lock %s", path);
		if (waited_ms >= LOCK_WAIT_MS)
			return err_set(
				e, E_BUSY, NULL,
				"%s is in use: does a second Tandem run with this state_dir?",
				path);
		if (waited_ms == LOCK_TELL_MS)
			log_ev(LOG_L_WARN, "jail.lock.wait", KC("path", path),
			       KI("seconds", LOCK_WAIT_MS / 1000));
		poll(NULL, 0, LOCK_STEP_MS);
	}
	return 0;
}

int jail_lock(const struct config *cfg, enum config_who who, int *fd_r, struct err *e)
{
	char path[256];
	int fd, rc = own_folder(cfg, who, path, sizeof(path) - 8, e);

	if (rc < 0)
		return rc;
	snprintf(path + strlen(path), 8, "/lock");
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return refused(e, "open", path);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	rc = wait_lock(fd, path, e);
	if (rc < 0)
		close(fd);
	else
		*fd_r = fd;
	return rc;
}

static void copy_file(const char *name)
{
	char from[64], to[64], chunk[4096];
	size_t n;

	snprintf(from, sizeof(from), "/etc/%s", name);
	snprintf(to, sizeof(to), "etc/%s", name);
	FILE *in = fopen(from, "r");
	if (!in)
		return;
	unlink(to); /* perhaps it belongs to another user */
	FILE *out = fopen(to, "w");
	while (out && (n = fread(chunk, 1, sizeof(chunk), in)) > 0)
		if (fwrite(chunk, 1, n, out) != n)
			break;
	fclose(in);
	if (!out || fclose(out) != 0)
		log_ev(LOG_L_WARN, "jail.copy.failed", KC("file", to));
	else
		chmod(to, 0644);
}

static int copy_resolver(struct err *e)
{
	static const char *const files[] = { "resolv.conf", "hosts", "nsswitch.conf", "services" };
	int rc = make_folder("etc", 0755, e);

	if (rc < 0)
		return rc;
	chmod("etc", 0755);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		copy_file(files[i]);
	return 0;
}

/* ---- rights
 * ----------------------------------------------------------------------------------------- */

static int drop_user(uint32_t uid, uint32_t gid, struct err *e)
{
	if (chroot(".") < 0 || chdir("/") < 0)
		return err_errno(e, E_IO, "chroot");
	if (setgroups(1, (const gid_t[]){ gid }) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
		return err_errno(e, E_IO, "cannot become user %u", uid);
	if (setuid(0) == 0 || geteuid() != uid || getegid() != gid)
		return err_set(e, E_DENIED, NULL, "root's rights came back");
	/* The change of user has cleared it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	return 0;
}

int jail_enter(const struct config *cfg, enum config_who who, bool resolver, struct err *e)
{
	bool root = geteuid() == 0;
	uint32_t uid, gid;
	char dir[256];
	int rc = own_folder(cfg, who, dir, sizeof(dir), e);

	if (rc < 0)
		return rc;
	jail_user(cfg, who, &uid, &gid);
	umask(0077);
	if (chdir(dir) < 0)
		return err_errno(e, E_IO, "cannot enter %s", dir);
	if (resolver)
		rc = copy_resolver(e);
	if (rc == 0 && root)
		rc = drop_user(uid, gid, e);
	if (rc < 0)
		return rc;
	bool no_new = sys_no_new_privs();
	bool no_dump = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
	if (root && no_new && no_dump)
		log_ev(LOG_L_INFO, "jail.entered", KC("dir", dir), KU("uid", uid));
	else
		log_ev(LOG_L_NOTICE, "jail.partial", KC("dir", dir), KU("uid", uid),
		       KC("missing_chroot", root ? "no" : "yes"),
		       KC("missing_user", root ? "no" : "yes"),
		       KC("missing_no_new_privs", no_new ? "no" : "yes"),
		       KC("missing_dump_lock", no_dump ? "no" : "yes"));
	return 0;
}
