-- What hosts have left: a record per host, JSON, whose generation rises with every change of it or its claims. Whoever changes a
-- host's claims locks its row first. Instants are microseconds since 1970.
CREATE TABLE drover_host (
  host       text COLLATE "C" PRIMARY KEY,
  record     text   NOT NULL,
  generation bigint NOT NULL,
  at         bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE drover_claim (
  id       text COLLATE "C" PRIMARY KEY,
  host     text COLLATE "C" NOT NULL,
  workload text   NOT NULL,
  state    text   NOT NULL, -- held, committed, expired
  amount   text   NOT NULL, -- JSON
  epoch    bigint NOT NULL,
  owner    text   NOT NULL,
  created  bigint NOT NULL,
  expires  bigint NOT NULL
);
CREATE INDEX drover_claim_host ON drover_claim (host, workload);
CREATE INDEX drover_claim_over ON drover_claim (host, expires) WHERE state <> 'committed';
