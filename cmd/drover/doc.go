// Command drover shows and steers a running cluster from a shell, by the API of a console in it or directly on its database.
//
//	drover migrate up -db sqlite:/var/lib/app/drover.db
//	drover jobs list -db postgres://app@db/app
//	drover members -server https://cloud.example/console
//	drover jobs cancel -wait 3f2a1c9e
//	drover jobs list -state failed -o id | drover jobs retry -
//
// The cluster is named by -server or -db, else by DROVER_SERVER or DROVER_DB, else by "server" or "db" in
// ~/.config/drover/config.json (mode 0600); of one rank the server counts. A server is an address with a console at it, or with its
// API at /v1; the bearer token for it stands in the file that -token-file names, in DROVER_TOKEN, or as "token" in the configuration.
// What only a live process knows (periodic tasks, events, verbs on members) needs a server, what only the store knows (migrations,
// maintenance) a database; all else answers the same of both. A database is sqlite:FILE,
// postgres://…, or @FILE with one of these in it. sqlite:FILE?prefix=app_ is a store with a prefix, postgres://…?search_path=app one
// with a schema. Flags may stand before or after the noun. A job is named by its id, or by the last 6 or more characters of it.
//
// # Guarantees
//
// Stdout carries what was asked for and nothing else: with -o json one document, with -o ndjson one per line. Errors, notes, questions
// and progress go to stderr. No password of a database is printed. The exit code says what happened:
//
//	0    done
//	1    it ended badly: a job failed or was cancelled, the schema is behind (-check), a part of several failed
//	2    usage
//	3    not found
//	4    refused: the state does not allow it, the caller may not, or the schema is not this program's
//	5    the server or the store cannot be reached, or has no schema
//	6    -timeout passed
//	130  interrupted; what was waited for goes on
//
// # Not guaranteed
//
// With -db the command writes to the store past the host: a host's job.Sink gets no event of what it does.
package main
