-- Keys whose line is to be looked at: a turn of theirs may be free, and who stands first was locked when that was noticed. Nobody
-- waits to add a row.
CREATE TABLE drover_arrival (
  n   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key text COLLATE "C" NOT NULL
);
