/* machines.c - the table of all machines, and their pages in docs/fsm/. See machines.h. */
#include "appliance/supervisor/machines.h"
#include "appliance/supervisor/process.h"
#include "translators/common/component.h"
#include "translators/sms/smpp_machine.h"
#include "xmpp/access/asession.h"
#include "xmpp/access/c2s.h"
#include "xmpp/access/component.h"
#include "xmpp/router/router.h"

#include <errno.h>
#include <sys/stat.h>

/* One line a machine, in the order of the index. */
const struct fsm_def *const machines[] = {
	&child_fsm,
	&c2s_fsm,
	&as_fsm,
	&comp_fsm,
	&user_fsm,
	&component_fsm,
#ifdef CONFIG_SMS_SMPP
	&smpp_machine_def,
#endif
	NULL,
};

#define PAGE_MAX_OCTETS (1u << 20)

int machines_check(struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && machines[i]; i++)
		rc = fsm_def_prepare(machines[i], e);
	return rc;
}

static int page_write(const char *path, struct sl text, struct err *e)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return err_errno(e, E_IO, "cannot write %s", path);
	size_t n = fwrite(text.p, 1, text.n, f);
	if (fclose(f) != 0 || n != text.n)
		return err_errno(e, E_IO, "cannot write %s", path);
	return 0;
}

static int page_compare(const char *path, struct sl text, struct err *e)
{
	FILE *f = fopen(path, "r");
	char chunk[4096];
	size_t off = 0, n;
	bool same = true;

	if (!f)
		return err_errno(e, E_IO, "cannot read %s", path);
	while (same && (n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
		same = sl_eq(sl_mk(chunk, n), sl_sub(text, off, off + n));
		off += n;
	}
	fclose(f);
	if (!same || off != text.n)
		return err_set(e, E_STATE, NULL, "%s is not what the tables say: run make docs",
			       path);
	return 0;
}

static int page(const char *dir, const char *name, const char *suffix, struct buf *b, bool check,
		struct err *e)
{
	char path[1024];

	if (snprintf(path, sizeof(path), "%s/%s%s", dir, name, suffix) >= (int)sizeof(path))
		return err_set(e, E_TOOBIG, NULL, "path too long: %s", dir);
	return check ? page_compare(path, buf_sl(b), e) : page_write(path, buf_sl(b), e);
}

static int machine_pages(const struct fsm_def *d, const char *dir, bool check, struct err *e)
{
	struct buf b;
	int rc;

	buf_init(&b, PAGE_MAX_OCTETS);
	rc = fsm_print_dot(d, &b);
	if (rc == 0)
		rc = page(dir, d->name, ".dot", &b, check, e);
	else
		err_set(e, rc, NULL, "machine %s: drawing too big", d->name);
	buf_reset(&b);
	if (rc == 0) {
		rc = fsm_print_matrix(d, &b);
		if (rc < 0)
			err_set(e, rc, NULL, "machine %s: matrix too big", d->name);
	}
	if (rc == 0)
		rc = page(dir, d->name, ".md", &b, check, e);
	buf_free(&b);
	return rc;
}

int machines_document(const char *dir, bool check, struct err *e)
{
	struct buf index;
	int rc = machines_check(e);

	if (rc < 0)
		return rc;
	if (!check && mkdir(dir, 0777) < 0 && errno != EEXIST)
		return err_errno(e, E_IO, "cannot make %s", dir);
	buf_init(&index, PAGE_MAX_OCTETS);
	rc = buf_add(
		&index,
		SL("# State machines\n\nMade by `make docs` from the row tables; do not edit.\n\n"
		   "| machine | states | rows | drawing |\n|---|---|---|---|\n"));
	for (size_t i = 0; rc == 0 && machines[i]; i++) {
		const struct fsm_def *d = machines[i];
		rc = machine_pages(d, dir, check, e);
		if (rc == 0)
			rc = buf_addf(&index, "| [%s](%s.md) | %u | %u | [%s.dot](%s.dot) |\n",
				      d->name, d->name, d->nstates, d->nrows, d->name, d->name);
	}
	if (rc == 0)
		rc = page(dir, "README", ".md", &index, check, e);
	buf_free(&index);
	return rc;
}
