-- What a service remembers between its lives.
CREATE TABLE drover_service (
  host    text NOT NULL,
  topic   text NOT NULL,
  version text NOT NULL,
  PRIMARY KEY (host, topic)
);
