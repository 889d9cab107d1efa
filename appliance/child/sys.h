/* sys.h - what differs between targets when a process gives up its rights. */
#ifndef TANDEM_CHILD_SYS_H
#define TANDEM_CHILD_SYS_H

#include <stdbool.h>
#include <sys/prctl.h>

/* Neither we nor what we would execute can gain rights again. false: this kernel (or the RHEL AS 4
 * target, whose kernel is older than that) cannot. */
#ifdef CONFIG_TARGET_MODERN
static inline bool sys_no_new_privs(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}
#else
static inline bool sys_no_new_privs(void)
{
	return false;
}
#endif

#endif
