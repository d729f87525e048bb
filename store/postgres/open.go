package postgres

import (
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// Open is a *bun.DB on dsn as drover likes it: the pgx driver, which prepares statements and can LISTEN, and, unless dsn sets
// them, statement_timeout 10 s, lock_timeout 5 s, idle_in_transaction_session_timeout 10 s, TCP keepalive after 5 s and a TCP
// user time-out of 10 s, so that a server that fell silent is noticed. conns is the size of the pool, idle ones included;
// ≤ 0 means 10. Nothing is connected yet. The caller closes it.
func Open(dsn string, conns int) (*bun.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: DSN: %w", err) // pgx leaves the password out
	}
	for name, value := range map[string]string{
		"statement_timeout": "10s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s", "application_name": "drover",
	} {
		if _, ok := cfg.RuntimeParams[name]; !ok {
			cfg.RuntimeParams[name] = value
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	d := &net.Dialer{
		Timeout:         cfg.ConnectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2},
		ControlContext:  userTimeout(10 * time.Second),
	}
	cfg.DialFunc = d.DialContext
	db := stdlib.OpenDB(*cfg)
	if conns <= 0 {
		conns = 10
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return bun.NewDB(db, pgdialect.New()), nil
}
