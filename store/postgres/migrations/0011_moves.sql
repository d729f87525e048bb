-- Claims of moves and of devices. role is current, incoming or outgoing; source is the host that a move comes from, devices JSON
-- or empty.
ALTER TABLE drover_claim
  ADD COLUMN role    text NOT NULL DEFAULT 'current',
  ADD COLUMN source  text NOT NULL DEFAULT '',
  ADD COLUMN devices text NOT NULL DEFAULT '';
