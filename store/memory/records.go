package memory

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Records keeps what services remember between their lives.
func (s *Store) Records() drover.RecordStore { return records{s} }

type records struct{ s *Store }

type recordKey struct{ host, topic string }

func (r records) Load(ctx context.Context, host, topic string) (rec drover.Record, found bool, err error) {
	err = r.s.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		rec, found, err = r.LoadTx(ctx, tx, host, topic)
		return err
	})
	return rec, found, err
}

func (r records) Create(ctx context.Context, rec drover.Record) error {
	return r.s.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return r.CreateTx(ctx, tx, rec) })
}

func (r records) Save(ctx context.Context, rec drover.Record) error {
	return r.s.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return r.SaveTx(ctx, tx, rec) })
}

// LoadTx, CreateTx and SaveTx are for simulators, which open the transaction themselves.
func (r records) LoadTx(_ context.Context, x store.Tx, host, topic string) (drover.Record, bool, error) {
	if _, err := r.s.of(x); err != nil {
		return drover.Record{}, false, err
	}
	if rec := r.s.tables.records[recordKey{host, topic}]; rec != nil {
		return *rec, true, nil
	}
	return drover.Record{}, false, nil
}

func (r records) CreateTx(_ context.Context, x store.Tx, rec drover.Record) error {
	t, err := r.s.of(x)
	if err != nil {
		return err
	}
	if r.s.tables.records[recordKey{rec.Host, rec.Topic}] != nil {
		return fmt.Errorf("memory: %s of %s: %w", rec.Topic, rec.Host, drover.ErrExists)
	}
	put(t, &r.s.tables.records, recordKey{rec.Host, rec.Topic}, &rec)
	return nil
}

func (r records) SaveTx(_ context.Context, x store.Tx, rec drover.Record) error {
	t, err := r.s.of(x)
	if err != nil {
		return err
	}
	put(t, &r.s.tables.records, recordKey{rec.Host, rec.Topic}, &rec)
	return nil
}
