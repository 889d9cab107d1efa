/* hosts.h - the hosts file, read once into memory. c-ares would open it for each query, which does
 * not work after chroot. Used by resolve.c only. */
#ifndef TANDEM_LOOP_HOSTS_H
#define TANDEM_LOOP_HOSTS_H

#include "appliance/base/arena.h"
#include "appliance/base/hash.h"

struct host_addr {
	struct host_addr *next; /* of the same name, in the order of the file */
	int family;             /* AF_INET, AF_INET6 */
	unsigned char addr[16];
};

struct hosts {
	struct htable names;
	struct arena *a;
};

/* text: the file's; lines that do not parse are passed over, as the C library does. 0, E_NOMEM. */
int hosts_parse(struct hosts *h, struct sl text);
/* No file is as good as an empty one. 0, E_NOMEM, E_TOOBIG (64 MiB), E_IO. */
int hosts_read(struct hosts *h, const char *path, struct err *e);
/* Any case. NULL: not in the file. */
const struct host_addr *hosts_find(const struct hosts *h, struct sl name);
void hosts_free(struct hosts *h);

#endif
