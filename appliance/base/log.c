/* log.c - see log.h. A line is built on the stack; a long one is cut and marked with "...". */
#include "appliance/base/log.h"
#include "appliance/base/clock.h"
#include "appliance/base/enc.h"

#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_MAX_OCTETS 2048

static _Atomic int level = LOG_L_INFO;
static const char *program = "tandem";
static bool use_syslog;
static void (*capture)(void *, struct sl);
static void *capture_arg;

static const char *const names[] = { "error", "warn", "notice", "info", "debug" };

void log_open(const char *name, bool to_syslog)
{
	program = name;
	use_syslog = to_syslog;
	if (to_syslog)
		openlog(name, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void log_set_level(enum log_level l)
{
	atomic_store(&level, (int)l);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&level, memory_order_relaxed);
}

int log_level_parse(struct sl name, enum log_level *l_r)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (sl_eq(name, sl_cstr(names[i]))) {
			*l_r = (enum log_level)i;
			return 0;
		}
	return E_NOTFOUND;
}

const char *log_level_name(enum log_level l)
{
	return names[l];
}

struct line {
	char b[LINE_MAX_OCTETS];
	size_t n;
	bool cut;
};

static void put(struct line *l, struct sl s)
{
	size_t room = sizeof(l->b) - 5 - l->n; /* "...\n" and a NUL */

	if (s.n > room) {
		s.n = room;
		l->cut = true;
	}
	if (s.n)
		memcpy(l->b + l->n, s.p, s.n);
	l->n += s.n;
}

static bool plain(struct sl s)
{
	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c >= 0x7f)
			return false;
	}
	return true;
}

static void put_value(struct line *l, struct sl s)
{
	if (plain(s)) {
		put(l, s);
		return;
	}
	put(l, SL("\""));
	while (s.n && !l->cut) {
		uint32_t cp;
		size_t n = utf8_next(s, &cp);
		char esc[5];
		if (n == 1 && (cp == '"' || cp == '\\'))
			put(l, sl_mk((char[]){ '\\', (char)cp }, 2));
		else if (n == 0 || cp < ' ' || (cp >= 0x7f && cp < 0xa0)) {
			/* Not UTF-8, or a control character (C1 too: terminals act on it): byte by
			 * byte. */
			n = n ? n : 1;
			for (size_t i = 0; i < n; i++)
				put(l, sl_mk(esc, (size_t)snprintf(esc, sizeof(esc), "\\x%02x",
								   (unsigned char)s.p[i])));
		} else
			put(l, sl_mk(s.p, n));
		s = sl_sub(s, n, s.n);
	}
	put(l, SL("\""));
}

static void put_kv(struct line *l, const struct log_kv *kv)
{
	char num[32];

	put(l, SL(" "));
	put(l, sl_cstr(kv->key));
	put(l, SL("="));
	switch (kv->kind) {
	case LOG_K_STR:
		put_value(l, kv->s);
		break;
	case LOG_K_INT:
		put(l, sl_mk(num, (size_t)snprintf(num, sizeof(num), "%lld", (long long)kv->i)));
		break;
	case LOG_K_UINT:
		put(l, sl_mk(num, (size_t)snprintf(num, sizeof(num), "%llu",
						   (unsigned long long)kv->i)));
		break;
	case LOG_K_ERR:
		put_value(l, sl_cstr(kv->e && kv->e->code ? kv->e->text : "none"));
		if (kv->e && kv->e->clause) {
			put(l, SL(" rule="));
			put_value(l, sl_cstr(kv->e->clause));
		}
		break;
	case LOG_K_END:
		break;
	}
}

static int syslog_priority(enum log_level l)
{
	static const int map[] = { LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

	return map[l];
}

void log_ev_(enum log_level l, const char *event, const struct log_kv *kv)
{
	struct line line;
	char stamp[CLOCK_STAMP_MAX];

	line.n = 0;
	line.cut = false;
	if (!use_syslog || capture) {
		clock_stamp(clock_wall_ms(), stamp);
		put(&line, sl_cstr(stamp));
		put(&line, SL(" "));
		put(&line, sl_cstr(names[l]));
		put(&line, SL(" "));
		put(&line, sl_cstr(program));
		put(&line, SL(" "));
	}
	put(&line, SL("ev="));
	put(&line, sl_cstr(event));
	for (; kv->kind != LOG_K_END; kv++)
		put_kv(&line, kv);
	if (line.cut) {
		memcpy(line.b + line.n, "...", 3);
		line.n += 3;
	}
	if (capture) {
		capture(capture_arg, sl_mk(line.b, line.n));
		return;
	}
	if (use_syslog) {
		syslog(syslog_priority(l), "%.*s", (int)line.n, line.b);
		return;
	}
	line.b[line.n++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line.b, line.n);
	UNUSED(ignored);
}

void log_capture(void (*fn)(void *arg, struct sl line), void *arg)
{
	capture = fn;
	capture_arg = arg;
}
