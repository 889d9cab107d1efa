/* rnd.c - see rnd.h. */
#include "appliance/base/rnd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int urandom = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static unsigned generation = 1; /* counts forks: a child must not use its parent's pool */

static void forked(void)
{
	generation++;
}

static void open_source(void)
{
	urandom = open("/dev/urandom", O_RDONLY);
	if (urandom < 0) {
		perror("tandem: cannot open /dev/urandom");
		_exit(70);
	}
	fcntl(urandom, F_SETFD, FD_CLOEXEC);
	pthread_atfork(NULL, NULL, forked);
}

void rnd_init(void)
{
	pthread_once(&once, open_source);
}

static void read_source(unsigned char *p, size_t n)
{
	while (n) {
		ssize_t r = read(urandom, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			fputs("tandem: /dev/urandom gives nothing\n", stderr);
			_exit(70);
		}
		p += r;
		n -= (size_t)r;
	}
}

void rnd_bytes(void *p, size_t n)
{
	static __thread unsigned char pool[256];
	static __thread size_t left;
	static __thread unsigned owner;

	rnd_init();
	if (n > sizeof(pool)) {
		read_source(p, n);
		return;
	}
	if (left < n || owner != generation) {
		read_source(pool, sizeof(pool));
		left = sizeof(pool);
		owner = generation;
	}
	memcpy(p, pool + sizeof(pool) - left, n);
	wipe(pool + sizeof(pool) - left, n);
	left -= n;
}

uint64_t rnd_u64(void)
{
	uint64_t v;

	rnd_bytes(&v, sizeof(v));
	return v;
}

void rnd_token(char *dst, size_t n)
{
	static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789";

	rnd_bytes(dst, n);
	for (size_t i = 0; i < n; i++)
		dst[i] = alphabet[(unsigned char)dst[i] & 31];
	dst[n] = '\0';
}
