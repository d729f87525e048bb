-- Settings of the whole cluster that are on: maintenance, paused/<queue>. Read by every claim and hand-on.
CREATE TABLE drover_setting (
  name text COLLATE "C" PRIMARY KEY
);
