/* schema.c - the numbered migrations of both schemas. sql[i] leads from version i to i + 1; a step
 * that has been released is never edited, a change is a new step (and a new fixture in
 * tests/fixtures/store/).
 *
 * Why the tables look as they do is in docs/store.md. */
#include "appliance/store/sqlite/sqlite.h"

static const char *const core_sql[] = {
	/* 1 */
	"CREATE TABLE owner(oid INTEGER PRIMARY KEY, host TEXT NOT NULL, node TEXT NOT NULL,"
	" UNIQUE(host,node));"
	"CREATE TABLE account(host TEXT NOT NULL, node TEXT NOT NULL, created_ms INTEGER NOT NULL,"
	" v0 TEXT NOT NULL, v1 TEXT NOT NULL, v2 TEXT NOT NULL, v3 TEXT NOT NULL,"
	" PRIMARY KEY(host,node)) WITHOUT ROWID;"
	"CREATE TABLE roster(oid INTEGER NOT NULL, jid TEXT NOT NULL, name TEXT NOT NULL,"
	" in_groups TEXT NOT NULL, sub INTEGER NOT NULL, flags INTEGER NOT NULL,"
	" request TEXT NOT NULL,"
	" PRIMARY KEY(oid,jid)) WITHOUT ROWID;"
	"CREATE TABLE mail(id INTEGER PRIMARY KEY, oid INTEGER NOT NULL, stamp_ms INTEGER NOT NULL,"
	" expires_ms INTEGER NOT NULL, sender TEXT NOT NULL, stanza TEXT NOT NULL);"
	"CREATE INDEX mail_owner ON mail(oid);" /* and by id, which every index ends with */
	"CREATE INDEX mail_expires ON mail(expires_ms) WHERE expires_ms>0;"
	"CREATE TABLE seen(seq INTEGER PRIMARY KEY, stamp_ms INTEGER NOT NULL, n INTEGER NOT NULL,"
	" marks BLOB NOT NULL);"
	"CREATE TABLE seen_key(k BLOB NOT NULL);"
	"INSERT INTO seen_key VALUES(randomblob(16));"
	"CREATE TABLE sm(sm_id TEXT PRIMARY KEY, oid INTEGER NOT NULL, resource TEXT NOT NULL,"
	" h INTEGER NOT NULL, touched_ms INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX sm_owner ON sm(oid);"
	"CREATE TABLE component(domain TEXT PRIMARY KEY, secret TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;",
};

static const char *const sms_sql[] = {
	/* 1 */
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE number(number TEXT PRIMARY KEY, jid TEXT NOT NULL, link TEXT NOT NULL)"
	" WITHOUT ROWID;"
	"CREATE INDEX number_jid ON number(jid);"
	"CREATE TABLE link(name TEXT PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE queue(id INTEGER PRIMARY KEY, parts INTEGER NOT NULL,"
	" receipt INTEGER NOT NULL,"
	" stamp_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, custody_id TEXT NOT NULL,"
	" from_jid TEXT NOT NULL, to_jid TEXT NOT NULL, from_number TEXT NOT NULL,"
	" to_number TEXT NOT NULL, stanza_id TEXT NOT NULL, origin_id TEXT NOT NULL,"
	" thread TEXT NOT NULL, body TEXT NOT NULL);"
	"CREATE UNIQUE INDEX queue_custody ON queue(custody_id) WHERE custody_id<>'';"
	/* what changes, apart from what does not; with the first part */
	"CREATE TABLE progress(id INTEGER PRIMARY KEY, open INTEGER NOT NULL,"
	" state INTEGER NOT NULL,"
	" attempts INTEGER NOT NULL, ambiguous INTEGER NOT NULL, not_before_ms INTEGER NOT NULL,"
	" changed_ms INTEGER NOT NULL, ref INTEGER NOT NULL, link TEXT NOT NULL,"
	" error TEXT NOT NULL,"
	" part_state INTEGER NOT NULL, part_ambiguous INTEGER NOT NULL, message_id TEXT NOT NULL,"
	" key TEXT NOT NULL);"
	"CREATE INDEX progress_open ON progress(id) WHERE open=1;"
	"CREATE INDEX progress_done ON progress(changed_ms,state) WHERE open=0;"
	/* a part that is delivered (3) leaves the index, which so has only what is in flight */
	"CREATE INDEX progress_key ON progress(key) WHERE key<>'' AND part_state<>3;"
	/* the further parts of long messages */
	"CREATE TABLE part(id INTEGER NOT NULL, number INTEGER NOT NULL,"
	" part_state INTEGER NOT NULL,"
	" part_ambiguous INTEGER NOT NULL, message_id TEXT NOT NULL, key TEXT NOT NULL,"
	" PRIMARY KEY(id,number)) WITHOUT ROWID;"
	"CREATE INDEX part_key ON part(key) WHERE key<>'' AND part_state<>3;"
	"CREATE TABLE outbox(id INTEGER PRIMARY KEY, key TEXT NOT NULL, stanza TEXT NOT NULL);"
	"CREATE UNIQUE INDEX outbox_key ON outbox(key) WHERE key<>'';"
	"CREATE TABLE frag(grp TEXT NOT NULL, number INTEGER NOT NULL, total INTEGER NOT NULL,"
	" stamp_ms INTEGER NOT NULL, meta TEXT NOT NULL, payload BLOB NOT NULL,"
	" PRIMARY KEY(grp,number)) WITHOUT ROWID;",
	/* 2: a fragment stays for a while after it was joined, so that a copy is known as one */
	"ALTER TABLE frag ADD COLUMN joined_ms INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX frag_joined ON frag(joined_ms) WHERE joined_ms>0;",
	/* 3: the oldest number of an account is its sender, so their order is kept */
	"CREATE TABLE number3(age INTEGER PRIMARY KEY, number TEXT NOT NULL UNIQUE,"
	" jid TEXT NOT NULL, link TEXT NOT NULL);"
	"INSERT INTO number3(number,jid,link) SELECT number,jid,link FROM number ORDER BY number;"
	"DROP TABLE number;"
	"ALTER TABLE number3 RENAME TO number;"
	"CREATE INDEX number_jid ON number(jid);",
};

const struct migration_list sq_migrations[] = {
	[STORE_CORE] = { "core", 0x54444d43, core_sql, ARRAY_LEN(core_sql) }, /* TDMC */
	[STORE_SMS] = { "sms", 0x54444d53, sms_sql, ARRAY_LEN(sms_sql) },     /* TDMS */
};
