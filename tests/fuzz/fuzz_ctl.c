/* fuzz_ctl.c - frames and requests of the control socket, fed in pieces as a socket would; lines of
 * an import. */
#include "appliance/child/frame.h"
#include "appliance/ctl/commands.h"
#include "appliance/ctl/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void request(const json_t *msg)
{
	const char *name = json_string_value(json_object_get(msg, "command"));
	const struct command *c = name ? command_find(sl_cstr(name)) : NULL;
	const json_t *args = json_object_get(msg, "args");
	struct err e;
	json_t *answer;

	if (!c || !json_is_object(args))
		return;
	if (command_check(c, args, &e) < 0)
		answer = frame_error(frame_id(msg), e.code, e.text);
	else
		answer = frame_result(frame_id(msg), NULL);
	struct buf b;
	buf_init(&b, FRAME_CONTROL_MAX + 4);
	if (!answer || frame_put(&b, answer, FRAME_CONTROL_MAX) < 0)
		abort();
	json_decref(answer);
	frame_buf_free(&b);
}

static void lines(struct sl all)
{
	for (size_t i = 0, end; i < all.n; i = end + 1) {
		struct import_line l;
		struct err e;
		end = sl_find(all, '\n', i);
		if (import_parse(sl_sub(all, i, end), &l, &e) > 0)
			json_decref(import_json(&l));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct buf in;
	struct err e;
	json_t *msg;
	int rc = 0;
	size_t step = n ? data[0] % 64u + 1u : 1;

	frame_init();
	lines(sl_mk((const char *)data, n));
	buf_init(&in, FRAME_CONTROL_MAX + 4);
	for (size_t i = 1; i < n && rc >= 0; i += step) {
		rc = buf_add(&in, sl_mk((const char *)data + i, n - i < step ? n - i : step));
		while (rc >= 0 && (rc = frame_take(&in, FRAME_CONTROL_MAX, &msg, &e)) > 0) {
			request(msg);
			json_decref(msg);
		}
	}
	frame_buf_free(&in);
	return 0;
}
