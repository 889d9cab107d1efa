/* print.c - results as text for people. See ctl.h.
 *
 * Everything from tandemd may carry what a peer chose (a resource, an error of an SMS centre):
 * control characters are shown as dots, so that nobody writes on the operator's terminal. */
#include <time.h>

#include "appliance/base/enc.h"
#include "appliance/ctl/ctl.h"

#define CELL_MAX 80

static void put_text(FILE *out, const char *text)
{
	struct sl s = sl_cstr(text);

	while (s.n) {
		uint32_t cp;
		size_t n = utf8_next(s, &cp);
		if (n == 0 || cp < ' ' || (cp >= 0x7f && cp < 0xa0))
			fputc('.', out);
		else
			fwrite(s.p, 1, n, out);
		s = sl_sub(s, n ? n : 1, s.n);
	}
}

/* A value as one short text. */
static void cell(const json_t *v, const char *key, char *dst, size_t cap)
{
	size_t n = strlen(key);

	*dst = '\0';
	if (json_is_string(v)) {
		snprintf(dst, cap, "%s", json_string_value(v));
	} else if (json_is_integer(v) && n > 3 && strcmp(key + n - 3, "_ms") == 0 &&
		   json_integer_value(v) > 0) {
		time_t t = (time_t)(json_integer_value(v) / 1000);
		struct tm tm;
		if (localtime_r(&t, &tm))
			strftime(dst, cap, "%Y-%m-%d %H:%M:%S", &tm);
	} else if (json_is_integer(v)) {
		snprintf(dst, cap, "%lld", (long long)json_integer_value(v));
	} else if (json_is_boolean(v)) {
		snprintf(dst, cap, "%s", json_is_true(v) ? "yes" : "no");
	} else if (json_is_array(v)) {
		size_t used = 0;
		for (size_t i = 0; i < json_array_size(v) && used < cap; i++) {
			const char *s = json_string_value(json_array_get(v, i));
			int k = snprintf(dst + used, cap - used, "%s%s", i ? ", " : "",
					 s ? s : "...");
			used += k > 0 ? (size_t)k : 0;
		}
	}
}

/* A heading for a key: "since_ms" -> "since". */
static void heading(const char *key, char *dst, size_t cap)
{
	size_t n = strlen(key);

	if (n > 3 && strcmp(key + n - 3, "_ms") == 0)
		n -= 3;
	snprintf(dst, cap, "%.*s", (int)n, key);
	for (char *p = dst; *p; p++)
		if (*p == '_')
			*p = ' ';
}

static size_t width_of(const char *text)
{
	size_t w = 0;

	for (const char *p = text; *p; p++)
		w += (*p & 0xc0) != 0x80;
	return w;
}

/* Columns: keys separated by spaces. */
static void table(const json_t *rows, const char *keys)
{
	char key[16][32], text[CELL_MAX];
	size_t width[16] = { 0 }, n = 0, i;
	struct sl k = sl_cstr(keys);
	json_t *row;

	for (size_t from = 0, end; from < k.n && n < 16; from = end + 1, n++) {
		end = sl_find(k, ' ', from);
		sl_to_cstr(sl_sub(k, from, end), key[n], sizeof(key[n]));
		heading(key[n], text, sizeof(text));
		width[n] = width_of(text);
	}
	json_array_foreach(rows, i, row) for (size_t c = 0; c < n; c++)
	{
		cell(json_object_get(row, key[c]), key[c], text, sizeof(text));
		if (width_of(text) > width[c])
			width[c] = width_of(text);
	}
	for (size_t r = 0; r <= json_array_size(rows); r++) {
		for (size_t c = 0; c < n; c++) {
			if (r == 0)
				heading(key[c], text, sizeof(text));
			else
				cell(json_object_get(json_array_get(rows, r - 1), key[c]), key[c],
				     text, sizeof(text));
			put_text(stdout, text);
			if (c + 1 < n)
				printf("%*s", (int)(width[c] - width_of(text) + 2), "");
		}
		putchar('\n');
	}
}

/* key: value, nested objects indented. */
static void plain(const json_t *o, int depth)
{
	const char *key;
	json_t *v;
	char text[400], name[100];

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
	{
		heading(key, name, sizeof(name));
		if (json_is_object(v) && json_object_size(v)) {
			printf("%*s%s:\n", depth * 2, "", name);
			plain(v, depth + 1);
			continue;
		}
		if (json_is_array(v) && json_is_object(json_array_get(v, 0))) {
			for (size_t i = 0; i < json_array_size(v); i++) {
				printf("%*s%s %zu:\n", depth * 2, "", name, i + 1);
				plain(json_array_get(v, i), depth + 1);
			}
			continue;
		}
		cell(v, key, text, sizeof(text));
		printf("%*s%s: ", depth * 2, "", name);
		put_text(stdout, text);
		putchar('\n');
	}
}

static void print_listen(const json_t *processes)
{
	json_t *p, *l;
	size_t i, k;

	json_array_foreach(processes, i, p) json_array_foreach(json_object_get(p, "listen"), k, l)
	{
		const char *n = json_string_value(json_object_get(l, "name"));
		const char *a = json_string_value(json_object_get(l, "address"));
		printf("  %-16s ", n ? n : "");
		put_text(stdout, a ? a : "");
		putchar('\n');
	}
}

static void print_status(const json_t *r)
{
	const json_t *processes = json_object_get(r, "processes"), *v;

	printf("tandem %s: %s, up %lld s\n\n", json_string_value(json_object_get(r, "version")),
	       json_is_true(json_object_get(r, "ready")) ? "ready" : "NOT ready",
	       (long long)json_integer_value(json_object_get(r, "uptime_s")));
	table(processes, "name pid state uptime_s restarts error");
	puts("\nlistening:");
	print_listen(processes);
	if (json_object_size(v = json_object_get(r, "restart_needed"))) {
		puts("\nneeds a restart:");
		plain(v, 1);
	}
	if (json_is_object(v = json_object_get(r, "core"))) {
		puts("\ncore:");
		plain(v, 1);
	}
	if (json_is_object(v = json_object_get(r, "sms"))) {
		puts("\nsms:");
		plain(v, 1);
	}
}

static void print_counters(const json_t *r)
{
	const char *process, *name;
	json_t *all, *v;

	json_object_foreach(json_object_get(r, "counters"), process, all)
		json_object_foreach(all, name, v)
			printf("%-48s %lld\n", name, (long long)json_integer_value(v));
}

static const struct {
	const char *command, *array, *keys;
} tables[] = {
	{ "user list", "users", "jid numbers online" },
	{ "sessions", "sessions", "jid peer tls mechanism sm queue priority attached since_ms" },
	{ "link list", "links",
	  "name type source host port system_id enabled state since_ms in_flight submitted error" },
	{ "component list", "components", "domain ours source streams waiting" },
	{ "queue list", "messages",
	  "message state from_number to_number link attempts parts created_ms ambiguous error" },
};

static void print_rest(const json_t *result, const char *array)
{
	const json_t *counts = json_object_get(result, "counts"),
		     *next = json_object_get(result, "next");

	UNUSED(array);
	if (counts) {
		putchar('\n');
		plain(counts, 0);
	}
	if (next) {
		fputs("\nThere are more: --after ", stdout);
		put_text(stdout, json_is_string(next) ? json_string_value(next) : "");
		putchar('\n');
	}
}

void print_result(const struct command *cmd, const json_t *result)
{
	if (strcmp(cmd->name, "status") == 0) {
		print_status(result);
		return;
	}
	if (strcmp(cmd->name, "counters") == 0) {
		print_counters(result);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		if (strcmp(tables[i].command, cmd->name) == 0) {
			table(json_object_get(result, tables[i].array), tables[i].keys);
			print_rest(result, tables[i].array);
			return;
		}
	if (json_object_size(result) == 0)
		puts("done");
	else
		plain(result, 0);
}
