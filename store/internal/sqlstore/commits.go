package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
)

// Commits is a conductor.Store on the table drover_commit.
type Commits struct{ Dialect }

// Get finds a commit; see conductor.Store.
func (k Commits) Get(ctx context.Context, tx store.Tx, id string) (c conductor.Commit, err error) {
	o, err := k.open(tx)
	if err != nil {
		return c, err
	}
	c.ID = id
	found, err := o.row(ctx, `SELECT host, result FROM drover_commit WHERE id = ?`, []any{id}, &c.Host, &c.Result)
	if err == nil && !found {
		err = fmt.Errorf("store: commit %s: %w", id, store.ErrNotFound)
	}
	return c, err
}

// Put keeps a commit; see conductor.Store.
func (k Commits) Put(ctx context.Context, tx store.Tx, c conductor.Commit) error {
	o, err := k.open(tx)
	if err != nil {
		return err
	}
	n, err := o.exec(ctx, `INSERT INTO drover_commit (id, host, result, at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`, c.ID, c.Host, c.Result, o.now)
	if err == nil && n == 0 {
		err = fmt.Errorf("store: commit %s: %w", c.ID, store.ErrConflict)
	}
	return err
}

// Purge removes old commits; see conductor.Store.
func (k Commits) Purge(ctx context.Context, tx store.Tx, age time.Duration, most int) (int, error) {
	o, err := k.open(tx)
	if err != nil {
		return 0, err
	}
	n, err := o.exec(ctx, `DELETE FROM drover_commit WHERE id IN (SELECT id FROM drover_commit WHERE at < ? ORDER BY at LIMIT ?)`, o.now-age.Microseconds(), most)
	return int(n), err
}
