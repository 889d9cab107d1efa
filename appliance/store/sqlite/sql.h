/* sql.h - every prepared statement of the engine, by name (the set-up and the migrations are in
 * conn.c and schema.c). Parameters are numbered where they are used twice. */
#ifndef TANDEM_STORE_SQLITE_SQL_H
#define TANDEM_STORE_SQLITE_SQL_H

#define SQL_QUEUE_COLS \
	"q.id,p.state,q.parts,p.attempts,p.ambiguous,q.receipt,q.stamp_ms,p.not_before_ms," \
	"q.expires_ms,p.changed_ms,p.ref,q.custody_id,q.from_jid,q.to_jid,q.from_number," \
	"q.to_number,q.stanza_id,q.origin_id,q.thread,q.body,p.link,p.error," \
	"p.part_state,p.part_ambiguous,p.message_id,p.key"

#define SQL_MOVE_COLS \
	"state=?2,attempts=?3,ambiguous=?4,not_before_ms=?5,changed_ms=?6,ref=?7,link=?8,error=?9"

#define SQL_LIST(X) \
	X(BEGIN_WRITE, "BEGIN IMMEDIATE") \
	X(BEGIN_READ, "BEGIN") \
	X(COMMIT, "COMMIT") \
	X(ROLLBACK, "ROLLBACK") \
	/* owners */ \
	X(OWNER_FIND, "SELECT oid FROM owner WHERE host=? AND node=?") \
	X(OWNER_ADD, "INSERT INTO owner(host,node) VALUES(?,?)") \
	X(OWNER_DEL, "DELETE FROM owner WHERE oid=?") \
	/* accounts */ \
	X(ACCOUNT_GET, "SELECT created_ms,v0,v1,v2,v3 FROM account WHERE host=? AND node=?") \
	X(ACCOUNT_HAS, "SELECT 1 FROM account WHERE host=? AND node=?") \
	X(ACCOUNT_ADD, "INSERT INTO account(host,node,v0,v1,v2,v3,created_ms) " \
		       "VALUES(?,?,?,?,?,?,?)") \
	X(ACCOUNT_SET, "UPDATE account SET v0=?3,v1=?4,v2=?5,v3=?6 WHERE host=?1 AND node=?2") \
	X(ACCOUNT_DEL, "DELETE FROM account WHERE host=? AND node=?") \
	X(ACCOUNT_LIST, "SELECT host,node FROM account WHERE (host,node)>(?,?) " \
			"ORDER BY host,node LIMIT ?") \
	X(ACCOUNT_LIST_HOST, "SELECT host,node FROM account WHERE host=? AND node>? " \
			     "ORDER BY node LIMIT ?") \
	/* rosters */ \
	X(ROSTER_LOAD, "SELECT jid,name,in_groups,sub,flags,request FROM roster WHERE oid=? " \
		       "ORDER BY jid") \
	X(ROSTER_PUT, "INSERT OR REPLACE INTO roster(oid,jid,name,in_groups,sub,flags,request) " \
		      "VALUES(?,?,?,?,?,?,?)") \
	X(ROSTER_DEL, "DELETE FROM roster WHERE oid=? AND jid=?") \
	X(ROSTER_DEL_OWNER, "DELETE FROM roster WHERE oid=?") \
	/* mail */ \
	X(MAIL_PUT, "INSERT OR IGNORE INTO mail(id,oid,stamp_ms,expires_ms,sender,stanza) " \
		    "VALUES(?,?,?,?,?,?)") \
	X(MAIL_DEL, "DELETE FROM mail WHERE id=?") \
	X(MAIL_DEL_OWNER, "DELETE FROM mail WHERE oid=?") \
	X(MAIL_LOAD, "SELECT id,stamp_ms,expires_ms,sender,stanza FROM mail " \
		     "WHERE oid=? AND id>? ORDER BY id LIMIT ?") \
	X(MAIL_COUNT, "SELECT count(*) FROM mail WHERE oid=?") \
	X(MAIL_COUNT_ALL, "SELECT count(*) FROM mail") \
	X(MAIL_EXPIRED, "SELECT m.id,m.stamp_ms,m.expires_ms,m.sender,m.stanza,o.host,o.node " \
			"FROM mail m INDEXED BY mail_expires JOIN owner o ON o.oid=m.oid " \
			"WHERE m.expires_ms>0 AND m.expires_ms<=? " \
			"ORDER BY m.expires_ms LIMIT ?") \
	X(MAIL_MAXID, "SELECT max(id) FROM mail") \
	/* duplicate marks */ \
	X(SEEN_ADD, "INSERT OR FAIL INTO seen(seq,stamp_ms,n,marks) VALUES(?,?,?,?)") \
	X(SEEN_GET, "SELECT marks FROM seen WHERE seq=?") \
	X(SEEN_OLDEST, "SELECT seq,stamp_ms,n FROM seen ORDER BY seq") \
	X(SEEN_ALL, "SELECT seq,marks FROM seen ORDER BY seq") \
	X(SEEN_DEL, "DELETE FROM seen WHERE seq<=?") \
	X(SEEN_KEY, "SELECT k FROM seen_key") \
	/* XEP-0198 */ \
	X(SM_PUT, "INSERT OR REPLACE INTO sm(sm_id,oid,resource,h,touched_ms) VALUES(?,?,?,?,?)") \
	X(SM_H, "UPDATE OR FAIL sm SET h=?2,touched_ms=max(touched_ms,?3) WHERE sm_id=?1") \
	X(SM_GET, "SELECT s.h,s.resource,o.host,o.node FROM sm s JOIN owner o ON o.oid=s.oid " \
		  "WHERE s.sm_id=?") \
	X(SM_DEL, "DELETE FROM sm WHERE sm_id=?") \
	X(SM_DEL_OWNER, "DELETE FROM sm WHERE oid=?") \
	X(SM_PURGE, "DELETE FROM sm WHERE sm_id IN " \
		    "(SELECT sm_id FROM sm WHERE touched_ms<? LIMIT ?)") \
	/* components, meta */ \
	X(COMPONENT_PUT, "INSERT INTO component(domain,secret) VALUES(?1,?2) " \
			 "ON CONFLICT(domain) DO UPDATE SET secret=?2") \
	X(COMPONENT_HAS, "SELECT 1 FROM component WHERE domain=?") \
	X(COMPONENT_DEL, "DELETE FROM component WHERE domain=?") \
	X(COMPONENT_LIST, "SELECT domain,secret FROM component ORDER BY domain") \
	X(META_PUT, "INSERT INTO meta(key,value) VALUES(?1,?2) " \
		    "ON CONFLICT(key) DO UPDATE SET value=?2") \
	X(META_ADD, "INSERT INTO meta(key,value) VALUES(?,?) ON CONFLICT(key) DO NOTHING") \
	X(META_GET, "SELECT value FROM meta WHERE key=?") \
	/* numbers, links */ \
	X(NUMBER_GET, "SELECT jid FROM number WHERE number=?") \
	X(NUMBER_PUT, "INSERT INTO number(number,jid,link) VALUES(?1,?2,?3) " \
		      "ON CONFLICT(number) DO UPDATE SET link=?3") \
	X(NUMBER_DEL, "DELETE FROM number WHERE number=?") \
	X(NUMBER_DEL_JID, "DELETE FROM number WHERE jid=?") \
	X(NUMBER_LIST, "SELECT age,number,jid,link FROM number WHERE age>? " \
		       "ORDER BY age LIMIT ?") \
	X(LINK_HAS, "SELECT 1 FROM link WHERE name=?") \
	X(LINK_PUT, "INSERT INTO link(name,settings) VALUES(?1,?2) " \
		    "ON CONFLICT(name) DO UPDATE SET settings=?2") \
	X(LINK_DEL, "DELETE FROM link WHERE name=?") \
	X(LINK_LIST, "SELECT name,settings FROM link ORDER BY name") \
	/* the queue */ \
	X(QUEUE_PUT, "INSERT OR IGNORE INTO queue(id,parts,receipt,stamp_ms,expires_ms," \
		     "custody_id,from_jid,to_jid,from_number,to_number,stanza_id,origin_id," \
		     "thread,body) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)") \
	X(PROGRESS_PUT, "INSERT OR FAIL INTO progress(id,open,state,attempts,ambiguous," \
			"not_before_ms,changed_ms,ref,link,error,part_state,part_ambiguous," \
			"message_id,key) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,'','')") \
	/* open is in an index condition: naming it only where it changes spares the indexes */ \
	X(PROGRESS_SET, "UPDATE OR FAIL progress SET " SQL_MOVE_COLS " WHERE id=?1 AND open=1") \
	X(PROGRESS_SET_OPEN, "UPDATE OR FAIL progress SET " SQL_MOVE_COLS ",open=?10 WHERE id=?1") \
	X(BOTH_STATE, "UPDATE OR FAIL progress SET " SQL_MOVE_COLS ",part_state=?11," \
		      "part_ambiguous=?12 WHERE id=?1 AND open=?10 " \
		      "AND message_id=?13 AND key=?14") \
	X(BOTH_STATE_OPEN, "UPDATE OR FAIL progress SET " SQL_MOVE_COLS ",open=?10," \
			   "part_state=?11,part_ambiguous=?12 WHERE id=?1 " \
			   "AND message_id=?13 AND key=?14") \
	X(BOTH_KEY, "UPDATE OR FAIL progress SET " SQL_MOVE_COLS ",part_state=?11," \
		    "part_ambiguous=?12,message_id=?13,key=?14 WHERE id=?1 AND open=?10") \
	X(QUEUE_LOAD_OPEN, "SELECT " SQL_QUEUE_COLS " FROM progress p INDEXED BY progress_open " \
			   "CROSS JOIN queue q ON q.id=p.id " \
			   "WHERE p.open=1 AND p.id>?1 AND (1<<p.state)&?2 " \
			   "ORDER BY p.id LIMIT ?3") \
	X(QUEUE_LOAD, "SELECT " SQL_QUEUE_COLS " FROM progress p CROSS JOIN queue q ON q.id=p.id " \
		      "WHERE p.id>?1 AND (1<<p.state)&?2 ORDER BY p.id LIMIT ?3") \
	X(QUEUE_GET, "SELECT " SQL_QUEUE_COLS " FROM queue q JOIN progress p ON p.id=q.id " \
		     "WHERE q.id=?") \
	X(QUEUE_GET_CUSTODY, "SELECT " SQL_QUEUE_COLS " FROM queue q JOIN progress p " \
			     "ON p.id=q.id WHERE q.custody_id=? AND q.custody_id<>''") \
	X(QUEUE_GET_KEY, "SELECT " SQL_QUEUE_COLS " FROM queue q JOIN progress p ON p.id=q.id " \
			 "WHERE q.id=max(ifnull((SELECT max(id) FROM progress " \
			 "WHERE key=?1 AND key<>'' AND part_state<>3),0)," \
			 "ifnull((SELECT max(id) FROM part " \
			 "WHERE key=?1 AND key<>'' AND part_state<>3),0))") \
	X(QUEUE_COUNT_OPEN, "SELECT state,count(*) FROM progress INDEXED BY progress_open " \
			    "WHERE open=1 GROUP BY state") \
	X(QUEUE_COUNT_DONE, "SELECT state,count(*) FROM progress INDEXED BY progress_done " \
			    "WHERE open=0 GROUP BY state") \
	X(QUEUE_OLD, "SELECT id FROM progress INDEXED BY progress_done " \
		     "WHERE open=0 AND changed_ms<? ORDER BY changed_ms LIMIT 1") \
	X(QUEUE_PARTS, "UPDATE OR FAIL queue SET parts=?2 WHERE id=?1") \
	X(PART_CUT, "DELETE FROM part WHERE id=?1 AND number>?2") \
	X(QUEUE_DEL, "DELETE FROM queue WHERE id=?") \
	X(PROGRESS_DEL, "DELETE FROM progress WHERE id=?") \
	X(PART_DEL, "DELETE FROM part WHERE id=?") \
	X(FIRST_STATE, "UPDATE OR FAIL progress SET part_state=?2,part_ambiguous=?3 " \
		       "WHERE id=?1 AND message_id=?4 AND key=?5") \
	X(FIRST_SET, "UPDATE OR FAIL progress SET part_state=?2,part_ambiguous=?3," \
		     "message_id=?4,key=?5 WHERE id=?1") \
	X(PART_STATE, "UPDATE OR FAIL part SET part_state=?3,part_ambiguous=?4 " \
		      "WHERE id=?1 AND number=?2 AND message_id=?5 AND key=?6") \
	X(PART_SET, "INSERT OR REPLACE INTO part(id,number,part_state,part_ambiguous," \
		    "message_id,key) VALUES(?,?,?,?,?,?)") \
	X(PART_LOAD, "SELECT number,part_state,part_ambiguous,message_id,key FROM part " \
		     "WHERE id=? ORDER BY number") \
	/* outbox, fragments */ \
	X(OUTBOX_PUT, "INSERT OR IGNORE INTO outbox(id,key,stanza) VALUES(?,?,?)") \
	X(OUTBOX_HAS, "SELECT 1 FROM outbox WHERE key=? AND key<>''") \
	X(OUTBOX_DEL, "DELETE FROM outbox WHERE id=?") \
	X(OUTBOX_LOAD, "SELECT id,stanza FROM outbox WHERE id>? ORDER BY id LIMIT ?") \
	X(FRAG_PUT, "INSERT OR REPLACE INTO frag(grp,number,total,stamp_ms,meta,payload," \
		    "joined_ms) VALUES(?,?,?,?,?,?,0)") \
	X(FRAG_JOINED, "SELECT 1 FROM frag WHERE grp=? AND number=? AND payload=? " \
		       "AND joined_ms>0 AND joined_ms>=?") \
	X(FRAG_COUNT, "SELECT count(*) FROM frag WHERE grp=? AND joined_ms=0") \
	X(FRAG_LOAD, "SELECT grp,meta,payload,number,total,stamp_ms FROM frag " \
		     "WHERE grp=? AND joined_ms=0 ORDER BY grp,number") \
	X(FRAG_LOAD_OLD, "SELECT grp,meta,payload,number,total,stamp_ms FROM frag " \
			 "WHERE joined_ms=0 AND (?1=0 OR grp IN (SELECT grp FROM frag " \
			 "WHERE joined_ms=0 GROUP BY grp HAVING max(stamp_ms)<?1)) " \
			 "ORDER BY grp,number LIMIT ?2") \
	X(FRAG_DEL, "DELETE FROM frag WHERE grp=?") \
	X(FRAG_JOIN, "UPDATE OR FAIL frag SET joined_ms=?3 WHERE grp=?1 AND number=?2") \
	X(FRAG_PURGE, "DELETE FROM frag WHERE (grp,number) IN (SELECT grp,number FROM frag " \
		      "WHERE joined_ms>0 AND joined_ms<? LIMIT ?)")

#define SQL_ENUM(name, text) SQL_##name,
enum sql_id { SQL_LIST(SQL_ENUM) SQL_MAX };
#undef SQL_ENUM

#endif
