-- Instants are microseconds since 1970 (NULL: none), durations nanoseconds, structures JSON.

CREATE TABLE drover_meta (
	one         INTEGER PRIMARY KEY CHECK (one = 1),
	id          TEXT    NOT NULL,           -- of this database
	incarnation INTEGER NOT NULL,           -- raised when commits may have been lost
	seq         INTEGER NOT NULL DEFAULT 0, -- the last number given to a job or a place
	epoch       INTEGER NOT NULL DEFAULT 0  -- the last epoch given out
);
INSERT INTO drover_meta (one, id, incarnation) VALUES (1, lower(hex(randomblob(16))), 1);

-- Sessions: one row per incarnation of a node, dead ones are kept for an hour.
CREATE TABLE drover_session (
	epoch       INTEGER PRIMARY KEY,
	name        TEXT    NOT NULL,
	incarnation INTEGER NOT NULL,
	store       TEXT    NOT NULL,
	process     TEXT    NOT NULL,
	until       INTEGER NOT NULL,
	state       TEXT    NOT NULL, -- active, draining, dead
	kinds       TEXT    NOT NULL,
	queues      TEXT    NOT NULL,
	marked      INTEGER NOT NULL
);
CREATE UNIQUE INDEX drover_session_live ON drover_session (name) WHERE state <> 'dead';
CREATE INDEX drover_session_name  ON drover_session (name, incarnation);
CREATE INDEX drover_session_until ON drover_session (until) WHERE state <> 'dead';
CREATE INDEX drover_session_dead  ON drover_session (epoch) WHERE state = 'dead';

CREATE TABLE drover_lease (
	name    TEXT PRIMARY KEY,
	session INTEGER NOT NULL, -- drover_session.epoch
	epoch   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX drover_lease_session ON drover_lease (session);

CREATE TABLE drover_ledger (
	name     TEXT PRIMARY KEY,
	due      INTEGER NOT NULL,
	session  INTEGER NOT NULL,
	epoch    INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	done     INTEGER NOT NULL,
	outcome  TEXT    NOT NULL
) WITHOUT ROWID;

-- A job: what changes, and what is searched for.
CREATE TABLE drover_job (
	seq           INTEGER PRIMARY KEY,
	id            TEXT    NOT NULL,
	kind          TEXT    NOT NULL,
	queue         TEXT    NOT NULL,
	state         TEXT    NOT NULL,
	name          TEXT    NOT NULL,
	parent        TEXT    NOT NULL,
	root          TEXT    NOT NULL,
	retry_of      TEXT    NOT NULL,
	rev           INTEGER NOT NULL DEFAULT 1,
	priority      INTEGER NOT NULL,
	attempt       INTEGER NOT NULL,
	max_attempts  INTEGER NOT NULL,
	runs          INTEGER NOT NULL DEFAULT 0,
	lost          INTEGER NOT NULL DEFAULT 0,
	epoch         INTEGER NOT NULL DEFAULT 0,
	session       TEXT    NOT NULL DEFAULT '',
	session_epoch INTEGER NOT NULL DEFAULT 0,
	key_kind      TEXT,
	key_id        TEXT,
	line          INTEGER,                    -- NULL: no key, or final; 0: waiting; 1: holds a turn; 2: needs or has none now
	place         INTEGER NOT NULL DEFAULT 0,
	joined        INTEGER,                    -- the line
	since         INTEGER,                    -- has its turn
	resource      TEXT    NOT NULL,
	account       TEXT    NOT NULL,
	idem          TEXT    NOT NULL,
	uniq          TEXT    NOT NULL,
	print         TEXT    NOT NULL,
	depth         INTEGER NOT NULL,
	detached      INTEGER NOT NULL,
	flags         INTEGER NOT NULL,
	timeout       INTEGER NOT NULL,
	run_at        INTEGER NOT NULL,
	run_until     INTEGER,
	deadline      INTEGER,
	created       INTEGER NOT NULL,
	started       INTEGER,
	ended         INTEGER,
	updated       INTEGER NOT NULL,
	cancel_at     INTEGER,
	cancel_by     TEXT    NOT NULL DEFAULT '',
	cancel_reason TEXT    NOT NULL DEFAULT '',
	progress      TEXT,
	wakes         TEXT,
	error         TEXT,
	result        BLOB
);
CREATE UNIQUE INDEX drover_job_id     ON drover_job (id);
CREATE UNIQUE INDEX drover_job_idem   ON drover_job (kind, account, idem) WHERE idem <> '';
CREATE UNIQUE INDEX drover_job_unique ON drover_job (kind, uniq) WHERE uniq <> '' AND ended IS NULL;
CREATE UNIQUE INDEX drover_job_name   ON drover_job (parent, name) WHERE name <> '';
CREATE INDEX drover_job_ready    ON drover_job (queue, kind, priority, run_at) WHERE state = 'ready';
CREATE INDEX drover_job_line     ON drover_job (key_kind, key_id, line, place) WHERE line IS NOT NULL;
CREATE INDEX drover_job_due      ON drover_job (run_at) WHERE state = 'scheduled';
CREATE INDEX drover_job_deadline ON drover_job (deadline) WHERE deadline IS NOT NULL AND ended IS NULL AND state <> 'running' AND flags & 8 = 0;
CREATE INDEX drover_job_running  ON drover_job (session_epoch) WHERE state = 'running';
CREATE INDEX drover_job_cancel   ON drover_job (session_epoch) WHERE state = 'running' AND cancel_at IS NOT NULL;
CREATE INDEX drover_job_live     ON drover_job (seq) WHERE ended IS NULL;
CREATE INDEX drover_job_ended    ON drover_job (ended) WHERE ended IS NOT NULL;
CREATE INDEX drover_job_parent   ON drover_job (parent) WHERE parent <> '';
CREATE INDEX drover_job_root     ON drover_job (root) WHERE parent <> '';
CREATE INDEX drover_job_resource ON drover_job (resource) WHERE resource <> '';

-- What a job was given: written once, so that a change of the job does not copy it.
CREATE TABLE drover_body (
	seq      INTEGER PRIMARY KEY,
	args     BLOB,
	identity TEXT
);

CREATE TABLE drover_step (
	n     INTEGER PRIMARY KEY,
	seq   INTEGER NOT NULL,
	name  TEXT    NOT NULL,
	epoch INTEGER NOT NULL,
	node  TEXT    NOT NULL,
	at    INTEGER NOT NULL,
	data  BLOB,
	UNIQUE (seq, name)
);

CREATE TABLE drover_journal (
	seq     INTEGER NOT NULL,
	n       INTEGER NOT NULL,
	epoch   INTEGER NOT NULL,
	node    TEXT    NOT NULL,
	at      INTEGER NOT NULL,
	text    TEXT    NOT NULL,
	data    BLOB,
	failure INTEGER NOT NULL,
	PRIMARY KEY (seq, n)
) WITHOUT ROWID;

-- Keys whose line somebody joined: the next claim looks whether a turn is free.
CREATE TABLE drover_arrival (
	n        INTEGER PRIMARY KEY,
	key_kind TEXT NOT NULL,
	key_id   TEXT NOT NULL,
	UNIQUE (key_kind, key_id)
);

CREATE TABLE drover_policy (
	kind   TEXT    NOT NULL,
	id     TEXT    NOT NULL, -- '': of the kind
	lim    INTEGER NOT NULL, -- 0: unlimited
	paused INTEGER NOT NULL,
	PRIMARY KEY (kind, id)
) WITHOUT ROWID;
