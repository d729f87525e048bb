-- What a conductor has done for hosts, so that a repeated commit has the same answer; kept for ten minutes.
CREATE TABLE drover_commit (
  id     text   NOT NULL PRIMARY KEY,
  host   text   NOT NULL,
  result blob   NOT NULL,
  at     bigint NOT NULL
);
CREATE INDEX drover_commit_at ON drover_commit (at);
