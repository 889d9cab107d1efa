/* log.h - structured logging: one event, one line.
 *
 *   log_ev(LOG_INFO, "smpp.bind.refused", KS("link", name), KI("status", st), KE(&e));
 *   -> 2026-11-24T22:48:19.123Z info tandem-sms ev=smpp.bind.refused link=carrier-a status=13 ...
 *
 * Event names are stable and listed in docs/log-events.md. Values from a peer are quoted and
 * escaped by KS; never log message text above LOG_DEBUG and never log a secret. Writes one line
 * with one write(2) to stderr, or to syslog when log_open was told so; safe from any thread. */
#ifndef TANDEM_BASE_LOG_H
#define TANDEM_BASE_LOG_H

#include "appliance/base/base.h"

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_NOTICE, LOG_L_INFO, LOG_L_DEBUG };

enum log_kind { LOG_K_END, LOG_K_STR, LOG_K_INT, LOG_K_UINT, LOG_K_ERR };

struct log_kv {
	enum log_kind kind;
	const char *key;
	struct sl s;
	int64_t i;
	const struct err *e;
};

#define KS(k, v) ((struct log_kv){ .kind = LOG_K_STR, .key = (k), .s = (v) })
#define KC(k, v) ((struct log_kv){ .kind = LOG_K_STR, .key = (k), .s = sl_cstr(v) })
#define KI(k, v) ((struct log_kv){ .kind = LOG_K_INT, .key = (k), .i = (int64_t)(v) })
#define KU(k, v) ((struct log_kv){ .kind = LOG_K_UINT, .key = (k), .i = (int64_t)(v) })
#define KE(err)  ((struct log_kv){ .kind = LOG_K_ERR, .key = "err", .e = (err) })

/* program: stays borrowed for the process's life. */
void log_open(const char *program, bool to_syslog);
void log_set_level(enum log_level l);
enum log_level log_get_level(void);
/* 0 and *l_r, or E_NOTFOUND. Names: error warn notice info debug. */
int log_level_parse(struct sl name, enum log_level *l_r);
const char *log_level_name(enum log_level l);

void log_ev_(enum log_level l, const char *event, const struct log_kv *kv);

#define log_on(l) ((l) <= log_get_level())
#define log_ev(l, event, ...) \
	do { \
		if (log_on(l)) \
			log_ev_((l), (event), \
				(const struct log_kv[]){ \
					__VA_ARGS__ __VA_OPT__(, ){ .kind = LOG_K_END } }); \
	} while (0)

/* Tests: lines go to this function instead; NULL: normal again. */
void log_capture(void (*fn)(void *arg, struct sl line), void *arg);

#endif
