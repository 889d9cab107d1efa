/* test_core_reload.c - a reload is through when every worker works with the new configuration, and
 * not before: who was told so may rely on it. */
#include "tests/unit/core_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <semaphore.h>
#include <unistd.h>

#include "appliance/base/log.h"

static struct core_rig rig;
static sem_t through;
static uint32_t seen[2];
static int result;

static void dropped(struct bus_msg *m)
{
	UNUSED(m);
}

static void post(struct core_ask *a, uint16_t worker)
{
	a->msg.type = CORE_MSG_CONTROL;
	a->msg.free = dropped;
	a->msg.to = (struct bus_addr){ .node = BUS_NODE_SELF, .worker = worker };
	bus_post(core_worker(rig.core, 0)->bus, &a->msg);
}

/* Worker 1 has something else to do. */
static void sleep_long(struct core_ask *a, struct worker *w)
{
	UNUSED(a);
	UNUSED(w);
	usleep(300000);
}

static void nothing(struct core_ask *a)
{
	UNUSED(a);
}

static void changed(void *arg, int rc)
{
	UNUSED(arg);
	result = rc;
	for (uint16_t i = 0; i < 2; i++)
		seen[i] = core_worker(rig.core, i)->cfg->lim.conns_per_addr;
	sem_post(&through);
}

static void begin(struct core_ask *a)
{
	struct core_config *now;

	UNUSED(a);
	assert_int_equal(core_config_copy(core_base_config(rig.core), &now), 0);
	now->lim.conns_per_addr = 77;
	core_reload(rig.core, now);
	core_config_unref(now);
	core_components_changed(rig.core, changed, NULL);
}

static void test_every_worker(void **state)
{
	struct core_ask busy = { .at = 1, .ask = sleep_long, .done = nothing };
	struct core_ask start = { .at = 2, .done = begin };

	UNUSED(state);
	core_rig_new(&rig, false);
	core_rig_start(&rig);
	sem_init(&through, 0, 0);
	post(&busy, 1);
	post(&start, 0);
	sem_wait(&through);
	assert_int_equal(result, 0);
	assert_int_equal(seen[0], 77);
	assert_int_equal(seen[1], 77);
	core_rig_free(&rig);
	sem_destroy(&through);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_worker) };

	log_set_level(LOG_L_ERROR);
	return cmocka_run_group_tests_name("core_reload", tests, NULL, NULL);
}
