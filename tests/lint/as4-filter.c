/* as4-filter PROGRAM [ARG...]: run a program as if on the kernel of RHEL AS 4.
 *
 * Linux 2.6.9-EL on x86_64 has the system calls up to 250 (keyctl).  A seccomp filter answers
 * ENOSYS to every later one, but for six that today's C library and OpenSSL need for calls that the
 * old ones made in another way (that our own objects do not call those directly is as4_symbols.py's
 * part).  Called by "make check-as4" (tests/run) on the unit programs. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#ifndef __x86_64__
#error "the numbers in this file are those of x86_64"
#endif

#define LAST_OF_2_6_9 250

#define ALLOW_CALL(nr)                                   \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static const struct sock_filter filter[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST_OF_2_6_9, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	ALLOW_CALL(SYS_openat),     /* open() */
	ALLOW_CALL(SYS_newfstatat), /* stat() */
	ALLOW_CALL(SYS_getrandom),  /* OpenSSL's seed */
	ALLOW_CALL(SYS_prlimit64),  /* getrlimit(), setrlimit() */
	ALLOW_CALL(SYS_pselect6),   /* select() */
	ALLOW_CALL(SYS_pipe2),      /* popen() */
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
};

int main(int argc, char **argv)
{
	const struct sock_fprog prog = {
		.len = sizeof(filter) / sizeof(filter[0]),
		.filter = (struct sock_filter *)filter,
	};

	if (argc < 2) {
		fputs("usage: as4-filter PROGRAM [ARG...]\n", stderr);
		return 2;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0) {
		perror("as4-filter: seccomp");
		return 2;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
