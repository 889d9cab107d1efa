/* client.h - tandemctl's side of the control socket: blocking, one thread. */
#ifndef TANDEM_CTL_CLIENT_H
#define TANDEM_CTL_CLIENT_H

#include <jansson.h>

#include "appliance/base/buf.h"

struct client {
	int fd; /* -1: not connected */
	struct buf in;
	uint64_t last_id;
};

/* E_CLOSED: nobody there. */
int client_open(struct client *c, const char *path, struct err *e);
void client_close(struct client *c);
/* The request's id, or 0 with e. args_take: an object or NULL. */
uint64_t client_send(struct client *c, const char *command, json_t *args_take, struct err *e);
int client_cancel(struct client *c, uint64_t id, struct err *e);
/* The next message of any request. E_CLOSED, E_SYNTAX, E_AGAIN (a signal came; see errno),
 * E_TIMEOUT. */
int client_receive(struct client *c, int wait_ms, json_t **msg_r, struct err *e);
/* Send and wait for the answer: *answer_r has "result" or "error". wait_ms < 0: for ever. */
int client_call(struct client *c, const char *command, json_t *args_take, int wait_ms,
		json_t **answer_r, struct err *e);

#endif
