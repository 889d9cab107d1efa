/* rnd.h - random octets from /dev/urandom (works on every target), buffered per thread. */
#ifndef TANDEM_BASE_RND_H
#define TANDEM_BASE_RND_H

#include "appliance/base/base.h"

/* Open the source; call once before chroot. Exits the process with a message if there is none:
 * nothing here can work without. rnd_bytes opens it by itself when this was not called. */
void rnd_init(void);
/* Fit for keys and session ids. Any thread. */
void rnd_bytes(void *p, size_t n);
uint64_t rnd_u64(void);
/* n characters of [a-z0-9] (32-letter alphabet, 5 bits each) and a NUL: cap must be > n. */
void rnd_token(char *dst, size_t n);

#endif
