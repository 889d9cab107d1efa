/* sys.h - what differs between targets when a process gives up its rights. */
#ifndef TANDEM_CHILD_SYS_H
#define TANDEM_CHILD_SYS_H

#include <stdbool.h>
#include <sys/prctl.h>

/* Neither we nor what we would execute can gain rights again. false: this kernel (or the RHEL AS 4
 * target, whose kernel is older than that) cannot. */
static inline bool sys_no_new_privs(void)
{
#ifdef CONFIG_TARGET_MODERN
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
#else
	return false;
#endif
}

#endif
