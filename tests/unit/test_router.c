/* Routing and delivery: rules DELIV-1 to DELIV-10 (docs/rules/xmpp.md). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/router_harness.h"

static struct rh *begin(unsigned workers)
{
	static const char *const jids[] = { "alice@localhost", "bob@localhost", "carol@localhost", "dave@localhost",
					    NULL };
	struct rh *h = rh_new(workers);

	rh_accounts(h, jids);
	return h;
}

static void test_chat_between_users(void **state)
{
	struct rh *h = begin(1);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "login bob/b\n"
		  "bob/b > <presence/>\n"
		  "bob/b < <presence from='bob@localhost/b' to='bob@localhost/b'/>\n"
		  "alice/a > <message to='bob@localhost' type='chat' id='1'><body>hi</body></message>\n"
		  "bob/b < <message from='alice@localhost/a' to='bob@localhost' type='chat' id='1'><body>hi</body></message>\n"
		  "bob/b -\n"
		  "alice/a -\n"
		  "rows bob@localhost 0\n");
	rh_free(&h);
}

static void test_two_workers(void **state)
{
	struct rh *h = begin(2);

	(void)state;
	RH_RUN(h, "login alice/a\n"
		  "login bob/b\n"
		  "login carol/c\n"
		  "login dave/d\n"
		  "bob/b > <presence/>\n"
		  "carol/c > <presence/>\n"
		  "dave/d > <presence/>\n"
		  "alice/a > <message to='bob@localhost' type='chat'><body>1</body></message>\n"
		  "alice/a > <message to='carol@localhost' type='chat'><body>2</body></message>\n"
		  "alice/a > <message to='dave@localhost' type='chat'><body>3</body></message>\n"
		  "bob/b ~ <message type='chat'><body>1</body></message>\n"
		  "carol/c ~ <message type='chat'><body>2</body></message>\n"
		  "dave/d ~ <message type='chat'><body>3</body></message>\n");
	rh_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chat_between_users),
		cmocka_unit_test(test_two_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
