-- What parked jobs wait for, and what jobs have been told. Rows of jobs that are final are left until these are deleted.
CREATE TABLE drover_park (
	seq        INTEGER PRIMARY KEY,
	conditions TEXT,
	wake_at    INTEGER
);
CREATE INDEX drover_park_wake ON drover_park (wake_at) WHERE wake_at IS NOT NULL;

-- seq waits for the job target, which is live.
CREATE TABLE drover_join (
	target TEXT    NOT NULL,
	seq    INTEGER NOT NULL,
	PRIMARY KEY (target, seq)
) WITHOUT ROWID;
CREATE INDEX drover_join_seq ON drover_join (seq);

CREATE TABLE drover_topic (
	topic  TEXT    NOT NULL,
	seq    INTEGER NOT NULL,
	parked INTEGER NOT NULL, -- ends when the job leaves parked
	PRIMARY KEY (topic, seq)
) WITHOUT ROWID;
CREATE INDEX drover_topic_seq ON drover_topic (seq);

CREATE TABLE drover_inbox (
	n       INTEGER PRIMARY KEY,
	seq     INTEGER NOT NULL,
	topic   TEXT    NOT NULL,
	payload BLOB
);
CREATE INDEX drover_inbox_seq ON drover_inbox (seq);
