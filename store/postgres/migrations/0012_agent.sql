-- Calls of agents that are outstanding, and their results until an hour after the deadline. Instants are microseconds since 1970.
CREATE TABLE drover_agent (
  task     text COLLATE "C" PRIMARY KEY,
  url      text   NOT NULL,
  agent    text   NOT NULL,
  key      bytea  NOT NULL,
  deadline bigint NOT NULL,
  done     bigint NOT NULL,
  reply    bytea  NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX drover_agent_deadline ON drover_agent (deadline, task);
