-- Lending: a job with a lender borrows that job's turn. drover_job.line of such a job: 4 waits for it, 5 has it.
ALTER TABLE drover_job ADD COLUMN lender TEXT NOT NULL DEFAULT '';
CREATE INDEX drover_job_lender ON drover_job (lender, line, place) WHERE lender <> '';

-- Turns that belong to the borrowers of a job that gave its own up.
CREATE TABLE drover_legacy (
	lender   TEXT PRIMARY KEY,
	key_kind TEXT NOT NULL,
	key_id   TEXT NOT NULL,
	origin   TEXT NOT NULL -- '': a turn of the key; else lent by this job
) WITHOUT ROWID;
CREATE INDEX drover_legacy_key ON drover_legacy (key_kind, key_id);
CREATE INDEX drover_legacy_origin ON drover_legacy (origin) WHERE origin <> '';
