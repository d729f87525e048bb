-- Claims of moves and of devices. role is current, incoming or outgoing; source is the host that a move comes from, devices JSON
-- or empty.
ALTER TABLE drover_claim ADD COLUMN role    TEXT NOT NULL DEFAULT 'current';
ALTER TABLE drover_claim ADD COLUMN source  TEXT NOT NULL DEFAULT '';
ALTER TABLE drover_claim ADD COLUMN devices TEXT NOT NULL DEFAULT '';
