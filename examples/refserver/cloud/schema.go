package cloud

import (
	"context"
	"errors"
	"fmt"
)

// version of our tables; the statements of each are applied once, in order.
var schema = [][]string{{
	`CREATE TABLE rs_counter (name TEXT PRIMARY KEY, n BIGINT NOT NULL)`,
	`CREATE TABLE rs_zone (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL)`,
	`CREATE TABLE rs_pod (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, zone TEXT NOT NULL)`,
	`CREATE TABLE rs_cluster (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, pod TEXT NOT NULL)`,
	`CREATE TABLE rs_host (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL UNIQUE,
		cluster TEXT NOT NULL, address TEXT NOT NULL, cpus BIGINT NOT NULL, mhz BIGINT NOT NULL, memory_mib BIGINT NOT NULL)`,
	`CREATE TABLE rs_offering (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
		cpus BIGINT NOT NULL, mhz BIGINT NOT NULL, memory_mib BIGINT NOT NULL)`,
	`CREATE TABLE rs_template (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
		display TEXT NOT NULL, os TEXT NOT NULL, zone TEXT NOT NULL, size_mib BIGINT NOT NULL, root_gib BIGINT NOT NULL)`,
	`CREATE TABLE rs_network (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, zone TEXT NOT NULL,
		cidr TEXT NOT NULL, gateway TEXT NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL)`,
	`CREATE TABLE rs_ip (network TEXT NOT NULL, address TEXT NOT NULL, nic TEXT NOT NULL, PRIMARY KEY (network, address))`,
	`CREATE TABLE rs_vm (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, seq BIGINT NOT NULL,
		name TEXT NOT NULL, display TEXT NOT NULL, account TEXT NOT NULL, zone TEXT NOT NULL, template TEXT NOT NULL, offering TEXT NOT NULL,
		state TEXT NOT NULL, host TEXT NOT NULL, last_host TEXT NOT NULL, job TEXT NOT NULL, before TEXT NOT NULL,
		group_name TEXT NOT NULL, user_data TEXT NOT NULL, details TEXT NOT NULL, updated BIGINT NOT NULL)`,
	`CREATE INDEX rs_vm_created ON rs_vm (created, id)`,
	`CREATE INDEX rs_vm_name ON rs_vm (name)`,
	`CREATE TABLE rs_nic (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, vm TEXT NOT NULL, network TEXT NOT NULL,
		address TEXT NOT NULL, mac TEXT NOT NULL, device BIGINT NOT NULL)`,
	`CREATE INDEX rs_nic_vm ON rs_nic (vm)`,
	`CREATE TABLE rs_volume (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, vm TEXT NOT NULL, name TEXT NOT NULL,
		state TEXT NOT NULL, size_mib BIGINT NOT NULL)`,
	`CREATE INDEX rs_volume_vm ON rs_volume (vm)`,
	`CREATE TABLE rs_owner (account TEXT PRIMARY KEY, account_id TEXT NOT NULL, domain TEXT NOT NULL, domain_id TEXT NOT NULL,
		username TEXT NOT NULL, user_id TEXT NOT NULL)`,
	`CREATE TABLE rs_apikey (id TEXT PRIMARY KEY, created BIGINT NOT NULL, account TEXT NOT NULL, sealed TEXT NOT NULL)`,
	`CREATE TABLE rs_node (name TEXT PRIMARY KEY, id TEXT NOT NULL, label TEXT NOT NULL, created BIGINT NOT NULL)`,
	`CREATE TABLE rs_sim (host TEXT PRIMARY KEY, state TEXT NOT NULL)`,
	`INSERT INTO rs_counter (name, n) VALUES ('vm', 0), ('node', 0), ('host', 0), ('key', 0)`,
}, {
	`CREATE TABLE rs_account (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL UNIQUE,
		kind BIGINT NOT NULL, domain TEXT NOT NULL, domain_id TEXT NOT NULL)`,
	`CREATE TABLE rs_user (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL UNIQUE,
		account TEXT NOT NULL, password TEXT NOT NULL)`,
	`INSERT INTO rs_account (id, created, version, name, kind, domain, domain_id) SELECT account_id, 1, 1, account, 1, domain, domain_id FROM rs_owner`,
	`INSERT INTO rs_user (id, created, version, name, account, password) SELECT user_id, 1, 1, username, account_id, '' FROM rs_owner`,
	`ALTER TABLE rs_apikey ADD COLUMN owner TEXT NOT NULL DEFAULT ''`,
	`UPDATE rs_apikey SET owner = (SELECT user_id FROM rs_owner WHERE rs_owner.account = rs_apikey.account)`,
	`DROP TABLE rs_owner`,
	`CREATE TABLE rs_session (id TEXT PRIMARY KEY, token TEXT NOT NULL, owner TEXT NOT NULL, created BIGINT NOT NULL, seen BIGINT NOT NULL)`,
	`CREATE TABLE rs_event (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, type TEXT NOT NULL, level TEXT NOT NULL,
		state TEXT NOT NULL, description TEXT NOT NULL, account TEXT NOT NULL, username TEXT NOT NULL, resource_type TEXT NOT NULL,
		resource TEXT NOT NULL, job TEXT, parent TEXT NOT NULL)`,
	`CREATE INDEX rs_event_created ON rs_event (created, id)`,
	`CREATE UNIQUE INDEX rs_event_job ON rs_event (job, state)`,
	`CREATE TABLE rs_tag (kind TEXT NOT NULL, resource TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, account TEXT NOT NULL,
		PRIMARY KEY (resource, name))`,
	`ALTER TABLE rs_vm ADD COLUMN ha_enable BOOLEAN NOT NULL DEFAULT FALSE`,
	`ALTER TABLE rs_vm ADD COLUMN target TEXT NOT NULL DEFAULT ''`,
	`CREATE INDEX rs_vm_host ON rs_vm (host)`,
	`CREATE INDEX rs_vm_lower_name ON rs_vm (lower(name))`,
	`DROP INDEX rs_vm_name`,
	`ALTER TABLE rs_host ADD COLUMN resource_state TEXT NOT NULL DEFAULT 'Enabled'`,
	`ALTER TABLE rs_host ADD COLUMN disabled BOOLEAN NOT NULL DEFAULT FALSE`,
	`ALTER TABLE rs_host ADD COLUMN tags TEXT NOT NULL DEFAULT ''`,
	`ALTER TABLE rs_host ADD COLUMN annotation TEXT NOT NULL DEFAULT ''`,
	`ALTER TABLE rs_host ADD COLUMN job TEXT NOT NULL DEFAULT ''`,
	`ALTER TABLE rs_node ADD COLUMN draining BOOLEAN NOT NULL DEFAULT FALSE`,
}, {
	`CREATE TABLE rs_schedule (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, vm TEXT NOT NULL, action TEXT NOT NULL,
		schedule TEXT NOT NULL, zone TEXT NOT NULL, description TEXT NOT NULL, enabled BOOLEAN NOT NULL, start_at BIGINT NOT NULL, end_at BIGINT NOT NULL)`,
	`CREATE INDEX rs_schedule_vm ON rs_schedule (vm)`,
}, {
	`ALTER TABLE rs_host ADD COLUMN url TEXT NOT NULL DEFAULT ''`,
}}

// ErrSchema means that our tables are not there, or of a newer program.
var ErrSchema = errors.New("cloud: schema")

// migrate makes or updates our tables; several nodes may do it at once.
func (t *tables) migrate(ctx context.Context, apply bool) error {
	return t.in(ctx, func(ctx context.Context, q *tx) error {
		if apply {
			if _, err := q.exec(ctx, `CREATE TABLE IF NOT EXISTS rs_schema (one BIGINT PRIMARY KEY, version BIGINT NOT NULL)`); err != nil {
				return err
			}
			if _, err := q.exec(ctx, `INSERT INTO rs_schema (one, version) VALUES (1, 0) ON CONFLICT (one) DO NOTHING`); err != nil {
				return err
			}
			if _, err := q.exec(ctx, `UPDATE rs_schema SET version = version WHERE one = 1`); err != nil { // the others wait here
				return err
			}
		}
		var have int
		if err := q.NewRaw(`SELECT version FROM rs_schema`).Scan(ctx, &have); err != nil {
			return fmt.Errorf("%w: not there: %w", ErrSchema, err)
		}
		switch {
		case have > len(schema):
			return fmt.Errorf("%w: the database is at version %d, this program knows %d: start a newer program", ErrSchema, have, len(schema))
		case have < len(schema) && !apply:
			return fmt.Errorf("%w: the database is at version %d, this program needs %d: start it with -migrate auto", ErrSchema, have, len(schema))
		}
		for _, statements := range schema[have:] {
			for _, s := range statements {
				if _, err := q.exec(ctx, s); err != nil {
					return err
				}
			}
		}
		if have == len(schema) {
			return nil
		}
		_, err := q.exec(ctx, `UPDATE rs_schema SET version = ?`, len(schema))
		return err
	})
}
