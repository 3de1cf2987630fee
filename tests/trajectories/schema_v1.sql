PRAGMA auto_vacuum = INCREMENTAL;
BEGIN TRANSACTION;
CREATE TABLE blob_refs (
  trajectory INTEGER NOT NULL REFERENCES trajectories(seq) ON DELETE CASCADE,
  digest TEXT NOT NULL, PRIMARY KEY (trajectory, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (
  digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, content BLOB NOT NULL, touched_at REAL NOT NULL
) STRICT;
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL
) STRICT;
INSERT INTO "messages" VALUES(1,X'E57D1EF21A87AF392778B05A6FD54E4A3A1D173B56C411C9B997CF1A45FA7DC1','{"role":"system","content":"Be brief."}');
INSERT INTO "messages" VALUES(2,X'E40794665CC019649D975E25E05FB10D410202E6DEA7F4C6C5E3F32D861B81A8','{"role":"user","content":"It is dark."}');
CREATE TABLE nodes (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE,
  parent INTEGER REFERENCES nodes(id), message INTEGER NOT NULL REFERENCES messages(id)
) STRICT;
INSERT INTO "nodes" VALUES(1,X'04329D27321E70C478F5B31E94E6F375225087A35167F890A367D729C2E89076',NULL,1);
INSERT INTO "nodes" VALUES(2,X'4413E70910A12E8A7F3858F358F9E17AB764F367D106551B1C30BF8EFE785631',1,2);
CREATE TABLE refs (
  trajectory INTEGER NOT NULL REFERENCES trajectories(seq) ON DELETE CASCADE,
  position INTEGER NOT NULL, slot INTEGER NOT NULL,
  node INTEGER REFERENCES nodes(id), toolset INTEGER REFERENCES toolsets(id),
  PRIMARY KEY (trajectory, position, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO "refs" VALUES(1,0,-1,NULL,1);
INSERT INTO "refs" VALUES(1,0,0,2,NULL);
INSERT INTO "refs" VALUES(1,1,0,1,1);
CREATE TABLE runs (
  id TEXT PRIMARY KEY, config TEXT NOT NULL, created_at REAL NOT NULL
) STRICT;
CREATE TABLE steps (
  trajectory INTEGER NOT NULL REFERENCES trajectories(seq) ON DELETE CASCADE,
  position INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
INSERT INTO "steps" VALUES(1,0,'{"index":0,"observation":{"text":"It is dark."},"action":{"text":"look"},"answerer":"teacher","calls":[{"model":"m","answerer":"teacher"}]}');
INSERT INTO "steps" VALUES(1,1,'{"index":1,"observation":{"text":"A lamp."},"action":{"text":"take lamp"},"answerer":"student","calls":[{"model":"m","answerer":"student"}]}');
INSERT INTO "steps" VALUES(2,0,'{"index":0,"observation":{},"action":{"text":"wait"},"answerer":"nobody"}');
CREATE TABLE toolsets (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL
) STRICT;
INSERT INTO "toolsets" VALUES(1,X'0308A14C0A8D9C819D5F648C9C7942EDB5E44E580CB50B1520A7DD078C49D095','[{"name":"ls"}]');
CREATE TABLE trajectories (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, schema INTEGER NOT NULL,
  namespace TEXT NOT NULL, run_id TEXT NOT NULL, environment TEXT NOT NULL, task_id TEXT NOT NULL,
  split TEXT NOT NULL, arm TEXT NOT NULL, kind TEXT NOT NULL, seed INTEGER NOT NULL, success INTEGER,
  started_at REAL NOT NULL, segment INTEGER NOT NULL, header TEXT NOT NULL, outcome TEXT
) STRICT;
INSERT INTO "trajectories" VALUES(1,'old',X'AECAC75A838E449A46891A0639E3B5DC57D03ACA1086E4909F1E94DBCBA228E7',1,'default','','house','t1','train','','teacher',0,1,1790000000.0,20717,'{"id":"old","task":{"id":"t1","environment":"house","split":"train"},"kind":"teacher","started_at":1790000000.0}','{"success":true}');
INSERT INTO "trajectories" VALUES(2,'older',X'78E258E77C0AA2661EF1575065E110440E404856D9F994D6F12287658B0FC7EA',1,'default','','house','t1','train','','student',0,NULL,0.0,19675,'{"id":"older","task":{"id":"t1","environment":"house","split":"train"},"kind":"student"}',NULL);
CREATE INDEX nodes_parent ON nodes(parent);
CREATE INDEX nodes_message ON nodes(message);
CREATE INDEX trajectories_run ON trajectories(namespace, run_id, arm);
CREATE INDEX trajectories_segment ON trajectories(segment);
CREATE UNIQUE INDEX steps_position ON steps(trajectory, position);
CREATE INDEX refs_node ON refs(node);
CREATE INDEX refs_toolset ON refs(toolset);
CREATE INDEX blob_refs_digest ON blob_refs(digest);
COMMIT;
PRAGMA application_id = 1349481587;
PRAGMA user_version = 1;
