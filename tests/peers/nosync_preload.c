/* nosync_preload.c - LD_PRELOAD shim: a disk that says "synced" and is not. Before powercut_preload.so in
 * LD_PRELOAD it makes of every program one with synchronous=OFF: the power-cut test must then find losses
 * (tests/integration/crash.py). */
#include <unistd.h>

int fsync(int fd)
{
	(void)fd;
	return 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return 0;
}
