-- Who is in a group: a record per member. Instants are microseconds since 1970.
CREATE TABLE drover_members (
	grp         TEXT    NOT NULL,
	key         TEXT    NOT NULL, -- id, in lower case
	id          TEXT    NOT NULL,
	instance    TEXT    NOT NULL,
	incarnation INTEGER NOT NULL,
	addr        TEXT    NOT NULL,
	version     TEXT    NOT NULL,
	meta        TEXT    NOT NULL, -- JSON, or empty
	health      TEXT    NOT NULL, -- JSON, or empty: ready
	beat        INTEGER NOT NULL,
	joined      INTEGER NOT NULL,
	seen        INTEGER NOT NULL,
	state       TEXT    NOT NULL, -- joined, left, none: only its mark, ban or incarnation is kept
	mark        TEXT    NOT NULL,
	banned      INTEGER NOT NULL,
	PRIMARY KEY (grp, key)
) WITHOUT ROWID;
