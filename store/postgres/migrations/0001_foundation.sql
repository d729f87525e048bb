-- Names are unqualified: the migrator sets search_path. Released migrations are never edited.

-- One row: which database this is. n rises, and the epochs with it, when commits may have been lost.
CREATE TABLE drover_meta (
  one    bool PRIMARY KEY DEFAULT true CHECK (one),
  id     text   NOT NULL,
  n      bigint NOT NULL,
  origin text   NOT NULL -- system identifier, timeline, database
);
CREATE SEQUENCE drover_epoch; -- jobs, sessions, leases, ledger
CREATE SEQUENCE drover_seq;

-- Sessions, named by their epoch. gone: forgotten by lease.Store, kept so that old jobs can name it.
CREATE TABLE drover_session (
  epoch       bigint PRIMARY KEY,
  name        text COLLATE "C" NOT NULL,
  incarnation bigint      NOT NULL,
  store       text        NOT NULL,
  process     text        NOT NULL,
  until       timestamptz NOT NULL,
  state       text        NOT NULL,
  kinds       text[]      NOT NULL,
  queues      text[]      NOT NULL,
  dead        bool        NOT NULL DEFAULT false,
  marked      timestamptz,
  swept       bool        NOT NULL DEFAULT false, -- dead, and nothing runs under it any more
  gone        bool        NOT NULL DEFAULT false,
  UNIQUE (name, incarnation)
) WITH (fillfactor = 50);
CREATE INDEX drover_session_live ON drover_session (epoch) WHERE NOT dead;
CREATE INDEX drover_session_kept ON drover_session (epoch) WHERE dead AND NOT gone;
CREATE INDEX drover_session_dirty ON drover_session (epoch) WHERE dead AND NOT swept;

CREATE TABLE drover_lease (
  name    text COLLATE "C" PRIMARY KEY,
  session bigint NOT NULL,
  epoch   bigint NOT NULL
);
CREATE INDEX drover_lease_session ON drover_lease (session);

CREATE TABLE drover_ledger (
  name     text COLLATE "C" PRIMARY KEY,
  due      timestamptz NOT NULL,
  session  bigint      NOT NULL,
  epoch    bigint      NOT NULL,
  attempts int         NOT NULL,
  done     bool        NOT NULL DEFAULT false,
  outcome  text        NOT NULL DEFAULT ''
);

-- A job is one row in drover_job, as good as never updated, and exactly one of: a row in drover_pend (does not run), a row
-- in drover_active with a session (runs), a row in drover_done (final). A keyed job that holds its turn without running has
-- a row in drover_pend and one in drover_active without session.
CREATE TABLE drover_job (
  id           uuid PRIMARY KEY,
  seq          bigint      NOT NULL,
  created      timestamptz NOT NULL,
  run_at       timestamptz NOT NULL,
  priority     int         NOT NULL,
  bits         int         NOT NULL, -- 1 detached, 2 its root is itself, from bit 8 on its depth
  max_attempts int         NOT NULL,
  timeout      bigint      NOT NULL, -- ns
  queue        text COLLATE "C" NOT NULL,
  kind         text COLLATE "C" NOT NULL,
  key          text COLLATE "C", -- kind, U+001F, id
  print        text        NOT NULL,
  args         text,
  deadline     timestamptz,
  parent       uuid,
  root         uuid,
  retry_of     uuid,
  name         text COLLATE "C",
  account      text COLLATE "C",
  resource     text COLLATE "C",
  idem         text COLLATE "C",
  uniq         text COLLATE "C",
  identity     text
);
CREATE INDEX drover_job_resource ON drover_job (resource, seq) WHERE resource IS NOT NULL;
CREATE INDEX drover_job_parent ON drover_job (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX drover_job_root ON drover_job (root, seq) WHERE root IS NOT NULL;

-- Names that two live or stored jobs must not share: scope i(dem), u(nique), n(ame).
CREATE TABLE drover_ident (
  name text COLLATE "C" PRIMARY KEY,
  id   uuid NOT NULL
);
CREATE INDEX drover_ident_job ON drover_ident (id);

-- mode: -1 ready, keyed, without turn (no limit) · 0 ready (no key, or its turn is held) · 1 arrival (waits for its turn, to
--       be looked at by a claim) · 2 waits for its turn behind others · 3 scheduled · 5 parked
CREATE TABLE drover_pend (
  run_at   timestamptz NOT NULL,
  seq      bigint      NOT NULL,
  id       uuid        NOT NULL,
  place    bigint,
  priority int         NOT NULL,
  rev      int         NOT NULL DEFAULT 1,
  mode     smallint    NOT NULL,
  back     bool        NOT NULL DEFAULT false, -- in line before the place of the holder
  queue    text COLLATE "C" NOT NULL,
  kind     text COLLATE "C" NOT NULL,
  key      text COLLATE "C",
  deadline timestamptz,
  flags    int,    -- from here on NULL until it has run or was changed
  epoch    bigint,
  session  bigint,
  started  timestamptz,
  updated  timestamptz,
  attempt  int,
  runs     int,
  lost     int
);
CREATE INDEX drover_pend_ready ON drover_pend (queue, priority, run_at, seq) WHERE mode < 2;
CREATE UNIQUE INDEX drover_pend_seq ON drover_pend (seq);
CREATE INDEX drover_pend_line ON drover_pend (key, place) WHERE mode IN (1, 2);
CREATE INDEX drover_pend_back ON drover_pend (key, place) WHERE back AND mode IN (1, 2);
CREATE INDEX drover_pend_loose ON drover_pend (key) WHERE key IS NOT NULL AND mode IN (-1, 5);
CREATE INDEX drover_pend_due ON drover_pend (run_at) WHERE mode = 3;
CREATE INDEX drover_pend_deadline ON drover_pend (deadline) WHERE deadline IS NOT NULL;

-- Never updated but by a change of policy: inserted and deleted. session NULL: holds a turn, does not run. key NULL: needs
-- none, or gave it up. slot NULL with a key: its kind had no limit.
CREATE TABLE drover_active (
  id      uuid PRIMARY KEY,
  seq     bigint      NOT NULL,
  epoch   bigint      NOT NULL,
  session bigint,
  place   bigint,
  started timestamptz NOT NULL,
  rev     int         NOT NULL,
  runs    int         NOT NULL,
  slot    int,
  key     text COLLATE "C",
  flags   int,
  attempt int,
  lost    int,
  run_at  timestamptz -- of a later run
);
CREATE UNIQUE INDEX drover_active_turn ON drover_active (key, slot) WHERE key IS NOT NULL;

CREATE TABLE drover_done (
  seq     bigint PRIMARY KEY,
  id      uuid        NOT NULL,
  epoch   bigint      NOT NULL,
  session bigint,
  place   bigint,
  started timestamptz,
  ended   timestamptz NOT NULL,
  rev     int         NOT NULL,
  runs    int         NOT NULL,
  state   smallint    NOT NULL,
  flags   int,
  attempt int,
  lost    int,
  run_at  timestamptz,
  result  text,
  error   text
);
CREATE INDEX drover_done_ended ON drover_done (ended);

-- What few jobs have: progress, a cancel request, a sealed outcome, wakes. rev adds to the row's.
CREATE TABLE drover_extra (
  id            uuid PRIMARY KEY,
  rev           int NOT NULL DEFAULT 0,
  flags         int NOT NULL DEFAULT 0,
  notes         bigint NOT NULL DEFAULT 0, -- the last position in the journal
  updated       timestamptz,
  percent       int,
  step          text,
  note          text,
  cancel_at     timestamptz,
  cancel_by     text,
  cancel_reason text,
  cancel_open   bool NOT NULL DEFAULT false, -- the job may still run
  seal_state    smallint,
  result        text, -- of a seal, or of a live job
  error         text,
  wakes         text
);
CREATE INDEX drover_extra_cancel ON drover_extra (id) WHERE cancel_open;

CREATE TABLE drover_step (
  id    uuid NOT NULL,
  name  text COLLATE "C" NOT NULL,
  n     bigint NOT NULL,
  at    timestamptz NOT NULL,
  epoch bigint NOT NULL,
  node  text NOT NULL,
  data  text,
  PRIMARY KEY (id, name)
);

CREATE TABLE drover_journal (
  id      uuid NOT NULL,
  n       bigint NOT NULL,
  at      timestamptz NOT NULL,
  epoch   bigint NOT NULL,
  node    text NOT NULL,
  text    text NOT NULL,
  data    text,
  failure bool NOT NULL,
  PRIMARY KEY (id, n)
);

-- id '': of the kind. Kinds without a row: limit 1.
CREATE TABLE drover_policy (
  kind   text COLLATE "C" NOT NULL,
  id     text COLLATE "C" NOT NULL,
  lim    int  NOT NULL,
  paused bool NOT NULL,
  PRIMARY KEY (kind, id)
);

-- The kinds whose turns are not simply one at a time. Read by every claim, finish and move, so that a lock on it parts those
-- under the old rules from those under the new.
CREATE TABLE drover_regime (
  kind text COLLATE "C" PRIMARY KEY,
  free bool NOT NULL -- no limit, no pause, no rows of single keys
);

-- Lock rows of the keys of these kinds.
CREATE TABLE drover_line (
  key  text COLLATE "C" PRIMARY KEY,
  used timestamptz NOT NULL
);
CREATE INDEX drover_line_used ON drover_line (used);

ALTER TABLE drover_pend   SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE drover_active SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- These tables begin with some empty pages and never give them back: on a table of no pages the planner reads it from end to
-- end rather than by ctid or index, and a prepared statement would keep that plan while the table grows.
ALTER TABLE drover_job SET (vacuum_truncate = off, fillfactor = 10);
ALTER TABLE drover_pend SET (vacuum_truncate = off, fillfactor = 10);
ALTER TABLE drover_active SET (vacuum_truncate = off, fillfactor = 10);
ALTER TABLE drover_done SET (vacuum_truncate = off, fillfactor = 10);
ALTER TABLE drover_extra SET (vacuum_truncate = off, fillfactor = 10);
ALTER TABLE drover_ident SET (vacuum_truncate = off, fillfactor = 10);
INSERT INTO drover_job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, print)
  SELECT gen_random_uuid(), 0, now(), now(), 0, 0, 0, 0, '', '', repeat(' ', 900) FROM generate_series(1, 60);
INSERT INTO drover_pend (run_at, seq, id, priority, mode, queue, kind)
  SELECT now(), -i, gen_random_uuid(), 0, 9, repeat(' ', 900), '' FROM generate_series(1, 60) i;
INSERT INTO drover_active (id, seq, epoch, started, rev, runs, key)
  SELECT gen_random_uuid(), 0, 0, now(), 0, 0, repeat(' ', 900) FROM generate_series(1, 60);
INSERT INTO drover_done (seq, id, epoch, ended, rev, runs, state, result)
  SELECT -i, gen_random_uuid(), 0, now(), 0, 0, 0, repeat(' ', 900) FROM generate_series(1, 60) i;
INSERT INTO drover_extra (id, note) SELECT gen_random_uuid(), repeat(' ', 900) FROM generate_series(1, 60);
INSERT INTO drover_ident (name, id) SELECT repeat(' ', 900) || i, gen_random_uuid() FROM generate_series(1, 60) i;
DELETE FROM drover_job;
DELETE FROM drover_pend;
DELETE FROM drover_active;
DELETE FROM drover_done;
DELETE FROM drover_extra;
DELETE FROM drover_ident;
ALTER TABLE drover_job RESET (fillfactor);
ALTER TABLE drover_pend RESET (fillfactor);
ALTER TABLE drover_active RESET (fillfactor);
ALTER TABLE drover_done RESET (fillfactor);
ALTER TABLE drover_extra RESET (fillfactor);
ALTER TABLE drover_ident RESET (fillfactor);

INSERT INTO drover_meta (id, n, origin) VALUES (substr(md5(random()::text || clock_timestamp()::text), 1, 12), 1, '');
