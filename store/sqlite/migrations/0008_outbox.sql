-- What is to be sent after commit, in order of seq within ord. due: of the next try after a failure, 0 at once; died: given up.
CREATE TABLE drover_outbox (
	seq   INTEGER PRIMARY KEY AUTOINCREMENT,
	id    TEXT    NOT NULL UNIQUE,
	ord   TEXT    NOT NULL,
	data  BLOB    NOT NULL,
	added INTEGER NOT NULL,
	tries INTEGER NOT NULL,
	due   INTEGER NOT NULL,
	text  TEXT    NOT NULL,
	died  INTEGER NOT NULL
);
CREATE INDEX drover_outbox_live ON drover_outbox (seq) WHERE died = 0;
CREATE INDEX drover_outbox_due ON drover_outbox (due, ord) WHERE died = 0 AND due > 0;
CREATE INDEX drover_outbox_dead ON drover_outbox (seq, died) WHERE died > 0;

-- Who sends it.
CREATE TABLE drover_relay (
	name   TEXT PRIMARY KEY,
	holder TEXT    NOT NULL,
	epoch  INTEGER NOT NULL,
	until  INTEGER NOT NULL
) WITHOUT ROWID;
