-- Who is in a group: a record per member. Beats write seen and beat, which stand in no index, into the half of each page that is
-- left free, so that no index ever changes. Instants are microseconds since 1970, by the server's clock.
CREATE TABLE drover_members (
  grp         text COLLATE "C" NOT NULL,
  key         text COLLATE "C" NOT NULL, -- id, in lower case
  id          text   NOT NULL,
  instance    text   NOT NULL,
  incarnation bigint NOT NULL,
  addr        text   NOT NULL,
  version     text   NOT NULL,
  meta        text   NOT NULL, -- JSON, or empty
  health      text   NOT NULL, -- JSON, or empty: ready
  beat        bigint NOT NULL,
  joined      bigint NOT NULL,
  seen        bigint NOT NULL,
  state       text   NOT NULL, -- joined, left, none: only its mark, ban or incarnation is kept
  mark        text   NOT NULL,
  banned      integer NOT NULL,
  PRIMARY KEY (grp, key)
) WITH (fillfactor = 50);
