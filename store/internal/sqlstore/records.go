package sqlstore

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Records is a drover.RecordStore on the table drover_service.
type Records struct {
	Dialect
	Tx store.Runner
}

// Load reads the record of host and topic.
func (r Records) Load(ctx context.Context, host, topic string) (rec drover.Record, found bool, err error) {
	err = r.in(ctx, func(ctx context.Context, o *open) (err error) {
		rec = drover.Record{Host: host, Topic: topic}
		found, err = o.row(ctx, `SELECT version FROM drover_service WHERE host = ? AND topic = ?`, []any{host, topic}, &rec.Version)
		return err
	})
	if err != nil || !found {
		return drover.Record{}, false, err
	}
	return rec, true, nil
}

// Create writes a record that is not there, else drover.ErrExists.
func (r Records) Create(ctx context.Context, rec drover.Record) error {
	return r.in(ctx, func(ctx context.Context, o *open) error {
		n, err := o.exec(ctx, `INSERT INTO drover_service (host, topic, version) VALUES (?, ?, ?) ON CONFLICT (host, topic) DO NOTHING`, rec.Host, rec.Topic, rec.Version)
		if err == nil && n == 0 {
			err = fmt.Errorf("store: %s of %s: %w", rec.Topic, rec.Host, drover.ErrExists)
		}
		return err
	})
}

// Save writes a record, whether it is there or not.
func (r Records) Save(ctx context.Context, rec drover.Record) error {
	return r.in(ctx, func(ctx context.Context, o *open) error {
		_, err := o.exec(ctx, `INSERT INTO drover_service (host, topic, version) VALUES (?, ?, ?) ON CONFLICT (host, topic) DO UPDATE SET version = excluded.version`, rec.Host, rec.Topic, rec.Version)
		return err
	})
}

func (r Records) in(ctx context.Context, f func(ctx context.Context, o *open) error) error {
	return r.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		o, err := r.open(tx)
		if err != nil {
			return err
		}
		return f(ctx, o)
	})
}
