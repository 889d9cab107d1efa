/* The router without memory: the n-th allocation fails, for every n. Nothing crashes, nothing leaks, and afterwards
 * the worker serves as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "tests/unit/router_harness.h"

static pthread_t me;
static unsigned countdown; /* 0: none fails */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);

static bool fails(void)
{
	return countdown && rh_inside && pthread_equal(pthread_self(), me) && --countdown == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

/* Every path once; nothing is expected but to survive. */
static const char everything[] =
	"login alice/a sm\nlogin bob/b\n"
	"alice/a > <iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>\n"
	"alice/a > <presence/>\n"
	"bob/b > <presence><priority>1</priority></presence>\n"
	"alice/a > <message to='bob@localhost' type='chat'><body>1</body></message>\n"
	"alice/a > <message to='bob@localhost' type='chat'><body>2</body><origin-id xmlns='urn:xmpp:sid:0' id='o'/></message>\n"
	"alice/a > <message to='carol@localhost' type='chat'><body>3</body></message>\n"
	"bob/b > <message to='carol@localhost' type='chat'><body>4</body></message>\n"
	"bob/b > <message to='+1@gw.localhost' type='chat'><body>5</body></message>\n"
	"alice/a > <message to='nobody@localhost' type='chat'><body>6</body></message>\n"
	"alice/a > <iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='carol@localhost' name='C'><group>g</group></item></query></iq>\n"
	"alice/a > <presence to='bob@localhost' type='subscribe'/>\n"
	"bob/b > <presence to='alice@localhost' type='subscribed'/>\n"
	"alice/a > <presence to='carol@localhost/x'/>\n"
	"alice/a > <iq to='localhost' type='get' id='d'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>\n"
	"alice/a > <iq to='nobody@localhost' type='get' id='n'><ping xmlns='urn:xmpp:ping'/></iq>\n"
	"ack bob/b 1\n"
	"end bob/b\n"
	"login carol/c\n"
	"carol/c > <presence/>\n"
	"settle\n"
	"ack carol/c\n"
	"alice/a > <iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='bob@localhost' subscription='remove'/></query></iq>\n"
	"settle\n"
	"end carol/c\n"
	"ack alice/a\n"
	"end alice/a\n"
	"ack gw.localhost\n"
	"detach gw.localhost\n";

/* What must always work again. */
static const char sanity[] =
	"login alice/ok\nlogin bob/ok\n"
	"bob/ok > <presence/>\n"
	"settle\nclear bob/ok\n"
	"alice/ok > <message to='bob@localhost/ok' type='chat' id='ok'><body>ok</body></message>\n"
	"bob/ok < <message type='chat' id='ok'/>\n"
	"ack bob/ok\nack alice/ok\nend alice/ok\nend bob/ok\n";

static void test_every_allocation(void **state)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", "carol@localhost", NULL };
	struct rh *h = rh_new(1);
	unsigned n;

	(void)state;
	me = pthread_self();
	rh_accounts(h, jids);
	for (n = 1; n < 2000; n++) {
		rh_forgiving(h, true);
		RH_RUN(h, "attach gw.localhost sm\n");
		countdown = n;
		RH_RUN(h, everything);
		bool all = countdown > 0;

		countdown = 0;
		rh_forgiving(h, false);
		RH_RUN(h, sanity);
		if (all)
			break;
	}
	assert_in_range(n, 50, 1999);
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
