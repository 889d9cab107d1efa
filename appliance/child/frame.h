/* frame.h - the frames of docs/control-protocol.md: 4 octets of length, then one JSON object.
 *
 * Control messages carry passwords, so buffers are wiped before they are freed, and frame_init
 * makes jansson do the same. */
#ifndef TANDEM_CHILD_FRAME_H
#define TANDEM_CHILD_FRAME_H

#include <jansson.h>

#include "appliance/base/base.h"
#include "appliance/base/buf.h"

#define FRAME_CONTROL_MAX (1u << 20) /* on the control socket */
#define FRAME_CHILD_MAX   (8u << 20) /* between tandemd and a child */

/* Once, before the first JSON value of the process. */
void frame_init(void);

/* Append msg as a frame. 0, E_TOOBIG (over max, or the buffer's limit), E_NOMEM. */
int frame_put(struct buf *out, const json_t *msg, size_t max);
/* Take one whole frame from the front of in. 1 and *msg_r (a new reference), 0 (not all there yet),
 * or E_TOOBIG, E_SYNTAX, E_NOMEM: the peer does not speak our language. */
int frame_take(struct buf *in, size_t max, json_t **msg_r, struct err *e);
/* Wipe and free. */
void frame_buf_free(struct buf *b);

/* {"id": id, "error": {"code", "text"}}; id 0: without. New reference, NULL: out of memory. */
json_t *frame_error(uint64_t id, int code, const char *text);
json_t *frame_result(uint64_t id, json_t *result_take); /* NULL result: {} */
/* "id" of a message, or 0. */
uint64_t frame_id(const json_t *msg);
/* E_* of a name in an error message; E_INTERNAL when unknown. */
int frame_error_code(const char *name);

#endif
