-- Calls of agents that are outstanding, and their results until an hour after the deadline. Instants are microseconds since 1970.
CREATE TABLE drover_agent (
	task     TEXT    PRIMARY KEY,
	url      TEXT    NOT NULL,
	agent    TEXT    NOT NULL,
	key      BLOB    NOT NULL,
	deadline INTEGER NOT NULL,
	done     INTEGER NOT NULL,
	reply    BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX drover_agent_deadline ON drover_agent (deadline, task);
