-- What is to be sent after commit, in order of seq within ord. due: of the next try after a failure, 0 at once; died: given up.
-- Instants are microseconds since 1970.
CREATE TABLE drover_outbox (
  seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id    text COLLATE "C" NOT NULL UNIQUE,
  ord   text COLLATE "C" NOT NULL,
  data  bytea  NOT NULL,
  added bigint NOT NULL,
  tries bigint NOT NULL,
  due   bigint NOT NULL,
  text  text   NOT NULL,
  died  bigint NOT NULL
);
CREATE INDEX drover_outbox_live ON drover_outbox (seq) WHERE died = 0;
CREATE INDEX drover_outbox_due ON drover_outbox (due, ord) WHERE died = 0 AND due > 0;
CREATE INDEX drover_outbox_dead ON drover_outbox (seq, died) WHERE died > 0;

-- Who sends it.
CREATE TABLE drover_relay (
  name   text COLLATE "C" PRIMARY KEY,
  holder text   NOT NULL,
  epoch  bigint NOT NULL,
  until  bigint NOT NULL
) WITH (fillfactor = 50);
