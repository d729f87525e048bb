-- What parked jobs wait for, and what jobs have been told. Rows of drover_topic and drover_inbox may outlive the end of their
-- job, but not the job.
CREATE TABLE drover_park (
  id         uuid PRIMARY KEY,
  seq        bigint NOT NULL,
  wake_at    timestamptz,
  conditions text
);
CREATE INDEX drover_park_wake ON drover_park (wake_at) WHERE wake_at IS NOT NULL;

-- waiter is parked until target is final. The row of target in drover_pend or drover_active is marked (flags), so that its end
-- looks here.
CREATE TABLE drover_join (
  target uuid   NOT NULL,
  waiter uuid   NOT NULL,
  seq    bigint NOT NULL, -- of waiter
  PRIMARY KEY (target, waiter)
);
CREATE INDEX drover_join_waiter ON drover_join (waiter);

CREATE TABLE drover_topic (
  topic  text COLLATE "C" NOT NULL,
  seq    bigint NOT NULL,
  id     uuid   NOT NULL,
  parked bool   NOT NULL, -- ends when the job leaves parked
  PRIMARY KEY (topic, seq)
);
CREATE INDEX drover_topic_job ON drover_topic (id);

CREATE TABLE drover_inbox (
  id      uuid NOT NULL,
  n       bigint GENERATED ALWAYS AS IDENTITY,
  topic   text COLLATE "C" NOT NULL,
  payload bytea,
  PRIMARY KEY (id, n)
);
