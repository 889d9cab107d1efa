/* conn.h - opening and closing a database file (see store_engine.h for the contract). */
#ifndef TANDEM_STORE_SQLITE_CONN_H
#define TANDEM_STORE_SQLITE_CONN_H

#include "appliance/store/sqlite/sqlite.h"

int sq_open(const struct store_cfg *cfg, bool writer, struct store_conn **c_r, struct err *e);
/* A plain connection for checkpoint.c. */
int sq_open_checkpointer(const struct store_cfg *cfg, struct store_conn **c_r, struct err *e);
void sq_close(struct store_conn **c);

#endif
