/* jail.h - private to appliance/child: one process a state folder. */
#ifndef TANDEM_CHILD_JAIL_H
#define TANDEM_CHILD_JAIL_H

#include "appliance/config/config.h"

/* Two processes must never write one state folder: a successor waits here until its predecessor,
 * whose tandemd was killed, has committed and gone. The folder is made; the lock lasts as long as
 * fd. E_BUSY: still held. */
int jail_lock(const struct config *cfg, enum config_who who, int *fd_r, struct err *e);

#endif
