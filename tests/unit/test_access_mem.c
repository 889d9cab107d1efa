/* test_access_mem.c - what an idle client costs the access layer: stream, session, connection and
 * the parser's remains, in octets of the allocator. */
#include "tests/unit/access_rig.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CLIENTS     300
#define PLAIN_LIMIT 1536
#define SM_LIMIT    2048

/* Our objects' calls are linked to these (Kbuild: --wrap); the allocator's own figures count what
 * it keeps in its caches as used. */
static long used;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static long weight(void *p)
{
	return p ? (long)malloc_usable_size(p) + 8 : 0;
}

void *__wrap_malloc(size_t n)
{
	void *p = __real_malloc(n);

	used += weight(p);
	return p;
}

void *__wrap_calloc(size_t n, size_t m)
{
	void *p = __real_calloc(n, m);

	used += weight(p);
	return p;
}

void *__wrap_realloc(void *p, size_t n)
{
	long before = weight(p);

	p = __real_realloc(p, n);
	used += weight(p) - (p ? before : 0);
	return p;
}

void __wrap_free(void *p)
{
	used -= weight(p);
	__real_free(p);
}

static int fd[2 * CLIENTS];

static void clients(int from, int n, bool sm)
{
	struct c2s *c;

	for (int i = from; i < from + n; i++) {
		fd[i] = ar_bound(&c);
		if (sm)
			ar_talk(fd[i], "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
		ar_talk(fd[i], "<presence/><message to='bob@localhost' type='chat'><body>x</body>"
			       "</message>");
	}
	clock_fake_advance_ms(20000); /* idle: parsers go back to the pool */
	ar_turn();
}

/* The first ones fill pools and tables. */
static long idle_cost(bool sm)
{
	long before;

	clients(0, CLIENTS, sm);
	before = used;
	clients(CLIENTS, CLIENTS, sm);
	before = used - before;
	for (int i = 0; i < 2 * CLIENTS; i++)
		close(fd[i]);
	ar_turn();
	return before / CLIENTS;
}

static void measure(bool sm, long limit)
{
	long n;

	log_set_level(LOG_L_ERROR);
	clock_fake(true, 1000000, 1700000000000);
	ar_new();
	n = idle_cost(sm);
	print_message("an idle session %s XEP-0198: %ld octets (struct c2s %zu, asession %zu)\n",
		      sm ? "with" : "without", n, sizeof(struct c2s), sizeof(struct asession));
	ar_free();
	clock_fake(false, 0, 0);
	/* Sanitizers have allocators of their own. */
	if (getenv("BUILD") && strstr(getenv("BUILD"), "san"))
		return;
	assert_true(n < limit);
}

static void test_plain(void **state)
{
	UNUSED(state);
	measure(false, PLAIN_LIMIT);
}

static void test_sm(void **state)
{
	UNUSED(state);
	measure(true, SM_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_sm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
