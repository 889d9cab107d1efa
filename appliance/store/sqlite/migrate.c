/* migrate.c - brings a database file forward to the version of this program, or refuses it. */
#include "appliance/base/log.h"
#include "appliance/store/sqlite/sqlite.h"

static int read_marks(struct store_conn *c, uint64_t *app_r, uint64_t *version_r,
		      uint64_t *tables_r, struct err *e)
{
	int rc = sq_db_exec_u64(c, "PRAGMA application_id", app_r, e);

	if (rc == 0)
		rc = sq_db_exec_u64(c, "PRAGMA user_version", version_r, e);
	if (rc == 0)
		rc = sq_db_exec_u64(c, "SELECT count(*) FROM sqlite_master", tables_r, e);
	return rc;
}

static int check(struct store_conn *c, const struct migration_list *list, uint64_t *version_r,
		 struct err *e)
{
	uint64_t app, tables;
	int rc = read_marks(c, &app, version_r, &tables, e);

	if (rc < 0)
		return rc;
	if (tables == 0 && app == 0) {
		*version_r = 0;
		return 0;
	}
	if (app != list->application_id)
		return err_set(e, E_IO, NULL,
			       "%s is a database, but not a \"%s\" store of Tandem: wrong path?",
			       c->path, list->name);
	if (*version_r > list->n)
		return err_set(e, E_VERSION, NULL,
			       "%s has \"%s\" schema version %llu, this program knows up to %u: "
			       "use the newer program, or the backup made before the upgrade",
			       c->path, list->name, (unsigned long long)*version_r, list->n);
	return 0;
}

static int steps(struct store_conn *c, const struct migration_list *list, struct err *e)
{
	char pragma[96];
	uint64_t version;
	/* Once more inside the transaction: what was read before it may be old. */
	int rc = check(c, list, &version, e);

	for (unsigned v = (unsigned)version; rc == 0 && v < list->n; v++)
		rc = sq_db_exec(c, list->sql[v], e);
	if (rc < 0)
		return rc;
	snprintf(pragma, sizeof(pragma), "PRAGMA application_id=%u; PRAGMA user_version=%u",
		 list->application_id, list->n);
	return sq_db_exec(c, pragma, e);
}

int sq_migrate(struct store_conn *c, const struct migration_list *list, struct err *e)
{
	uint64_t version;
	int rc = check(c, list, &version, e);

	if (rc < 0 || version == list->n)
		return rc;
	rc = sq_db_exec(c, "BEGIN IMMEDIATE", e);
	if (rc < 0)
		return rc;
	rc = steps(c, list, e);
	if (rc == 0)
		rc = sq_db_exec(c, "COMMIT", e);
	if (rc < 0) {
		sq_db_exec(c, "ROLLBACK", NULL);
		return rc;
	}
	log_ev(LOG_L_NOTICE, "store.migrated", KC("path", c->path), KC("schema", list->name),
	       KU("from", version), KU("to", list->n));
	return 0;
}
