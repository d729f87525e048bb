-- What hosts have left: a record per host, JSON, whose generation rises with every change of it or its claims.
CREATE TABLE drover_host (
	host       TEXT PRIMARY KEY,
	record     TEXT    NOT NULL,
	generation INTEGER NOT NULL,
	at         INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE drover_claim (
	id       TEXT PRIMARY KEY,
	host     TEXT    NOT NULL,
	workload TEXT    NOT NULL,
	state    TEXT    NOT NULL, -- held, committed, expired
	amount   TEXT    NOT NULL, -- JSON
	epoch    INTEGER NOT NULL,
	owner    TEXT    NOT NULL,
	created  INTEGER NOT NULL,
	expires  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX drover_claim_host ON drover_claim (host, workload);
CREATE INDEX drover_claim_over ON drover_claim (host, expires) WHERE state <> 'committed';
