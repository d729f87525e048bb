-- Settings of the whole cluster that are on: maintenance, paused/<queue>.
CREATE TABLE drover_setting (
	name TEXT PRIMARY KEY
) WITHOUT ROWID;
