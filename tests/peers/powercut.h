/* powercut.h - the format of the logs that powercut_preload.so writes and powercut_restore reads.
 *
 * $TANDEM_POWERCUT_LOG/<inode>.undo   what each write since the file's last sync has overwritten
 * $TANDEM_POWERCUT_LOG/names          directory entries made, removed and renamed, and syncs of
 * directories $TANDEM_POWERCUT_LOG/<inode>.file   a second link of each followed file, which keeps it when
 * it is removed */
#ifndef TANDEM_TESTS_PEERS_POWERCUT_H
#define TANDEM_TESTS_PEERS_POWERCUT_H

#include <stdint.h>

#define POWERCUT_MAGIC 0x50574354u
#define POWERCUT_NAME  4096u

enum powercut_kind {
	PC_WRITE = 1, /* undo log: octets off.. were written; data: what was there below old_size */
	PC_RESIZE,    /* undo log: the size became off; data: what was cut off */
	PC_CREATE,    /* names: data: path; ino */
	PC_UNLINK,    /* names: data: path; ino */
	PC_RENAME,    /* names: data: old path, NUL, new path; off: inode of what was replaced,
			 or 0 */
	PC_SYNC_DIR,  /* names: ino is a directory that was synced */
	PC_SYNC_FILE, /* names: ino is a file that was synced: makes its entry durable where that is
			 the rule */
};

struct powercut_rec {
	uint32_t magic, kind;
	uint64_t ino, dir, off, old_size;
	uint32_t data_len, write_len;
};

#endif
