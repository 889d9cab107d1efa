/* powercut_writer.c - stores mail as fast as the disk lets it and says on its standard output which
 * ids were answered; killed by the power-cut test. Its second form says what is there.
 *
 *   powercut_writer put FILE [--sync-off]      prints "ID\n" of each answered MAIL_PUT, without end
 * ("0\n" first) powercut_writer list FILE                  prints "ID FIRST N\n" of each row and
 * "duplicate-marks N\n"
 *
 * Every second submission is a group of three puts; FIRST is the id of the first of its group of N.
 */
#include "tests/unit/store_rig.h"

#include <unistd.h>

#define WINDOW 40u

struct message {
	struct store_mail_put put;
	char owner[24], origin[24], stanza[600];
};

static struct store_rig rig;
static uint64_t next_id;

static void say(uint64_t id)
{
	char line[32];
	int n = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)id);

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(0);
}

static void start_some(void);

static void answered(struct store_op *op)
{
	struct message *m = op->arg;

	if (op->rc == 0)
		say(m->put.id);
	free(m);
	if (op->group_next == NULL)
		start_some();
}

static struct message *message_new(uint64_t first, unsigned n)
{
	struct message *m = calloc(1, sizeof(*m));
	uint64_t id = ++next_id;

	if (!m)
		_exit(3);
	memset(m->stanza, 'x', sizeof(m->stanza));
	m->stanza[snprintf(m->stanza, 40, "%llu %u ", (unsigned long long)first, n)] = 'x';
	m->put.id = id;
	m->put.owner = sl_mk(m->owner, (size_t)snprintf(m->owner, sizeof(m->owner), "u%llu@h",
							(unsigned long long)id % 997));
	m->put.sender = SL("s@h");
	m->put.origin_id = sl_mk(m->origin, (size_t)snprintf(m->origin, sizeof(m->origin), "o%llu",
							     (unsigned long long)id));
	m->put.stanza = sl_mk(m->stanza, 40 + id % 560);
	store_op_init(&m->put.op, STORE_MAIL_PUT, answered, m);
	return m;
}

static void start_some(void)
{
	static unsigned turn;
	unsigned n = turn++ % 2 ? 3 : 1;
	uint64_t id = next_id + 1;
	struct message *first = message_new(id, n), *last = first;

	for (unsigned i = 1; i < n; i++) {
		struct message *m = message_new(id, n);
		last->put.op.group_next = &m->put.op;
		last = m;
	}
	store_submit(rig.store, &first->put.op);
}

static void list_row(const struct store_mail_row *row)
{
	size_t one = sl_find(row->stanza, ' ', 0), two = sl_find(row->stanza, ' ', one + 1);

	printf("%llu " SLFMT "\n", (unsigned long long)row->id, SLARG(sl_sub(row->stanza, 0, two)));
}

static int list(void)
{
	struct store_stats st = store_stats(rig.store);
	uint64_t after = 0;
	char owner[24];

	for (unsigned u = 0; u < 997; u++, after = 0)
		for (;;) {
			struct store_mail_load l = { .op = RIG_OP(STORE_MAIL_LOAD),
						     .after = after,
						     .limit = 500 };
			l.owner = sl_mk(owner, (size_t)snprintf(owner, sizeof(owner), "u%u@h", u));
			if (rig_do(&rig, &l.op) < 0)
				return 1;
			for (unsigned i = 0; i < l.n_r; i++)
				list_row(&l.row_r[i]);
			if (l.n_r)
				after = l.row_r[l.n_r - 1].id;
			store_op_fini(&l.op);
			if (l.n_r == 0)
				break;
		}
	printf("duplicate-marks %u\n", st.seen_now);
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	struct store_mail_maxid m = { .op = RIG_OP(STORE_MAIL_MAXID) };
	struct err e = { 0 };

	if (argc < 3)
		return 2;
	rig_new(&rig, STORE_CORE);
	rig.cfg.path = argv[2];
	rig.cfg.sync_off = argc > 3 && strcmp(argv[3], "--sync-off") == 0;
	if (rig_open(&rig, &e) < 0) {
		fprintf(stderr, "powercut_writer: %s\n", e.text);
		return 1;
	}
	if (strcmp(argv[1], "list") == 0) {
		int rc = list();
		rig_free(&rig);
		return rc;
	}
	rmdir(rig.dir);
	if (rig_do(&rig, &m.op) < 0)
		return 1;
	next_id = m.id_r;
	say(0); /* ready */
	for (unsigned i = 0; i < WINDOW; i++)
		start_some();
	for (;;)
		rig_turn(&rig);
}
