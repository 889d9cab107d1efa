/* base.h - what every file of Tandem may rely on: slices, error codes, attributes, banned calls.
 *
 * Included first everywhere. Depends on libc only.
 *
 * Writable globals of the whole product (STYLE section 9) are: the log level and sinks (log.c),
 * the fake clock (clock.c) and the failing allocation (base.c), both tests only, the hash key
 * (hash.c, set once at start), and signal flags of a program's main loop.
 */
#ifndef TANDEM_BASE_BASE_H
#define TANDEM_BASE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRINTF_LIKE(f, a)             __attribute__((format(printf, f, a)))
#define MUST_CHECK                    __attribute__((warn_unused_result))
#define ARRAY_LEN(a)                  (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define UNUSED(x)                     ((void)(x))

/* A slice: bytes that somebody else owns. Never NUL-terminated, never freed; an empty slice may
 * hold NULL, so test n before doing pointer arithmetic. Passed by value. */
struct sl {
	const char *p;
	size_t n;
};

#define SL(lit)  ((struct sl){ (lit), sizeof(lit) - 1 })
#define SL_NULL  ((struct sl){ NULL, 0 })
#define SLFMT    "%.*s"
#define SLARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct sl sl_mk(const char *p, size_t n)
{
	return (struct sl){ p, n };
}

static inline struct sl sl_cstr(const char *s)
{
	return s ? (struct sl){ s, strlen(s) } : SL_NULL;
}

static inline bool sl_eq(struct sl a, struct sl b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool sl_empty(struct sl a)
{
	return a.n == 0;
}

/* [from, to) of s, clamped to its bounds. */
static inline struct sl sl_sub(struct sl s, size_t from, size_t to)
{
	if (to > s.n)
		to = s.n;
	if (from >= to)
		return SL_NULL;
	return (struct sl){ s.p + from, to - from };
}

static inline bool sl_starts(struct sl s, struct sl prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* ASCII case-insensitive comparison. */
bool sl_ieq(struct sl a, struct sl b);
/* <0, 0, >0 in byte order, shorter first. */
int sl_cmp(struct sl a, struct sl b);
/* Index of the first c at or after from, or s.n. */
size_t sl_find(struct sl s, char c, size_t from);
/* How many octets of a word must change, go or come to make the other (Levenshtein); a word over
 * SL_DISTANCE_MAX octets is that far from all. For "did you mean". */
#define SL_DISTANCE_MAX 40u
unsigned sl_distance(struct sl a, struct sl b);
/* Trim ASCII white space on both ends. */
struct sl sl_trim(struct sl s);
/* Unsigned decimal that fills the whole slice. Returns 0, E_SYNTAX, E_RANGE (> max). */
int sl_to_u64(struct sl s, uint64_t max, uint64_t *v_r);
/* Copy into a fixed array, always NUL-terminated. Returns 0 or E_TOOBIG (then dst is ""). */
int sl_to_cstr(struct sl s, char *dst, size_t cap);
/* malloc'ed NUL-terminated copy, owned by the caller (free). NULL when out of memory. */
char *sl_dup(struct sl s);
/* Compares without a data-dependent branch; lengths may leak. For secrets. */
bool sl_eq_const_time(struct sl a, struct sl b);

/* Errors: 0 is success, these are negative. I/O calls return < 0, 0 (no progress) or > 0. */
enum {
	E_NOMEM = -1,  /* out of memory, or an arena or buffer reached its cap */
	E_SYNTAX = -2, /* bytes that do not parse */
	E_TOOBIG = -3, /* over a limit */
	E_RANGE = -4,  /* a number or index out of range */
	E_NOTFOUND = -5,
	E_EXISTS = -6,
	E_DENIED = -7,  /* not allowed */
	E_AUTH = -8,    /* credentials refused */
	E_AGAIN = -9,   /* try later */
	E_CLOSED = -10, /* the other side is gone */
	E_IO = -11,     /* system call failed; errno is in the text */
	E_TIMEOUT = -12,
	E_STATE = -13, /* not possible in this state */
	E_UNSUPPORTED = -14,
	E_LIMIT = -15,   /* a configured limit was reached */
	E_VERSION = -16, /* a newer format than this program knows */
	E_BUSY = -17,
	E_INTERNAL = -18,
};

/* Stable lower-case name of a code, for logs ("toobig"); "ok" for 0, "unknown" otherwise. */
const char *e_name(int code);

#define ERR_TEXT_MAX 512

/* Filled by the call that fails; may be passed as NULL. Text is for a person: what is wrong and,
 * where possible, what to do; one that does not fit ends after a whole word and " ...".
 * clause names the spec clause or rule ("RFC 6120 4.9.3.1"), may be NULL. */
struct err {
	int code;
	const char *clause;
	char text[ERR_TEXT_MAX];
};

/* Set *e (if any) and return code, so that `return err_set(e, E_SYNTAX, NULL, "...")` reads well.
 */
int err_set(struct err *e, int code, const char *clause, const char *fmt, ...) PRINTF_LIKE(4, 5);
int err_vset(struct err *e, int code, const char *clause, const char *fmt, va_list ap)
	PRINTF_LIKE(4, 0);
/* The same with strerror(errno) appended. */
int err_errno(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* malloc and calloc for base's own containers and whoever wants to be tested with failing
 * allocations. */
void *base_malloc(size_t n) __attribute__((malloc));
void *base_calloc(size_t count, size_t n) __attribute__((malloc));
/* Tests: make the n-th base_malloc or base_calloc from now fail once (0: never). */
extern unsigned base_fail_nth_alloc;

/* Wipe memory in a way that the compiler keeps (explicit_bzero is newer than our oldest target). */
void wipe(void *p, size_t n);

/* A secret: own type so that no formatter takes it by accident. Wiped by secret_clear. */
struct secret {
	char *p;
	size_t n;
};
int secret_set(struct secret *s, struct sl value);
void secret_clear(struct secret *s);

/* Banned calls: unbounded, or hide errors. Their headers are included above, before the poison. */
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol gets

#endif
