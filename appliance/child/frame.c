/* frame.c - see frame.h. */
#include "appliance/child/frame.h"

#include <malloc.h>

#include "appliance/base/cursor.h"

static void free_wiped(void *p)
{
	if (p)
		wipe(p, malloc_usable_size(p));
	free(p);
}

void frame_init(void)
{
	json_set_alloc_funcs(malloc, free_wiped);
}

void frame_buf_free(struct buf *b)
{
	if (b->p)
		wipe(b->p, b->cap);
	buf_free(b);
}

int frame_put(struct buf *out, const json_t *msg, size_t max)
{
	size_t n = json_dumpb(msg, NULL, 0, JSON_COMPACT);
	unsigned char head[4];
	struct wr w = wr_init(head, sizeof(head));
	char *p;

	if (n == 0)
		return E_NOMEM;
	if (n > max)
		return E_TOOBIG;
	p = buf_reserve(out, n + sizeof(head));
	if (!p)
		return E_TOOBIG;
	wr_u32(&w, (uint32_t)n);
	memcpy(p, head, sizeof(head));
	if (json_dumpb(msg, p + sizeof(head), n, JSON_COMPACT) != n)
		return E_NOMEM;
	buf_commit(out, n + sizeof(head));
	return 0;
}

int frame_take(struct buf *in, size_t max, json_t **msg_r, struct err *e)
{
	struct rd r = rd_init(buf_sl(in));
	size_t n = rd_u32(&r);
	json_error_t why;
	json_t *msg;

	if (r.bad)
		return 0;
	if (n == 0 || n > max)
		return err_set(e, E_TOOBIG, NULL,
			       "a frame of %zu octets: from 1 to %zu are possible", n, max);
	struct sl text = rd_bytes(&r, n);
	if (r.bad)
		return 0;
	msg = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &why);
	if (msg && !json_is_object(msg)) {
		json_decref(msg);
		msg = NULL;
		snprintf(why.text, sizeof(why.text), "not an object");
	}
	wipe(in->p + in->off, n + 4);
	buf_consume(in, n + 4);
	if (!msg)
		return err_set(e, E_SYNTAX, NULL, "not one JSON object: %.100s", why.text);
	*msg_r = msg;
	return 1;
}

json_t *frame_error(uint64_t id, int code, const char *text)
{
	/* "s%" would refuse a text that is not UTF-8; then the name of the code has to do. */
	json_t *t = json_string(text);

	if (!t)
		t = json_string(e_name(code));
	if (id == 0)
		return json_pack("{s:{s:s,s:o}}", "error", "code", e_name(code), "text", t);
	return json_pack("{s:I,s:{s:s,s:o}}", "id", (json_int_t)id, "error", "code", e_name(code),
			 "text", t);
}

json_t *frame_result(uint64_t id, json_t *result)
{
	return json_pack("{s:I,s:o}", "id", (json_int_t)id, "result",
			 result ? result : json_object());
}

uint64_t frame_id(const json_t *msg)
{
	const json_t *id = json_object_get(msg, "id");

	return json_is_integer(id) && json_integer_value(id) > 0 ? (uint64_t)json_integer_value(id)
								 : 0;
}

int frame_error_code(const char *name)
{
	for (int c = E_NOMEM; c >= E_INTERNAL; c--)
		if (strcmp(e_name(c), name) == 0)
			return c;
	return E_INTERNAL;
}
