package testkit

import (
	"context"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

func (s *stores) Records() drover.RecordStore {
	d := s.life.node.w.db.Records()
	if tx, ok := d.(recordsTx); ok {
		return records{s, tx}
	}
	return wholeRecords{s, d}
}

// wholeRecords are those of a store that opens its own transactions: each call is one operation.
type wholeRecords struct {
	s *stores
	d drover.RecordStore
}

func (r wholeRecords) Load(ctx context.Context, host, topic string) (rec drover.Record, found bool, err error) {
	rec, err = outside(r.s, ctx, "store.records.load", host, func() (drover.Record, error) {
		rec, ok, err := r.d.Load(ctx, host, topic)
		found = ok
		return rec, err
	})
	return rec, found && err == nil, err
}

func (r wholeRecords) Create(ctx context.Context, rec drover.Record) error {
	_, err := outside(r.s, ctx, "store.records.create", rec.Host, func() (struct{}, error) { return struct{}{}, r.d.Create(ctx, rec) })
	return err
}

func (r wholeRecords) Save(ctx context.Context, rec drover.Record) error {
	_, err := outside(r.s, ctx, "store.records.save", rec.Host, func() (struct{}, error) { return struct{}{}, r.d.Save(ctx, rec) })
	return err
}

// recordsTx is the memory store's records within a transaction.
type recordsTx interface {
	LoadTx(ctx context.Context, x store.Tx, host, topic string) (drover.Record, bool, error)
	CreateTx(ctx context.Context, x store.Tx, r drover.Record) error
	SaveTx(ctx context.Context, x store.Tx, r drover.Record) error
}

type records struct {
	s *stores
	d recordsTx
}

func (r records) Load(ctx context.Context, host, topic string) (rec drover.Record, found bool, err error) {
	err = r.do(ctx, "store.records.load", host, func(in store.Tx) (err error) {
		rec, found, err = r.d.LoadTx(ctx, in, host, topic)
		return err
	})
	if err != nil {
		return drover.Record{}, false, err
	}
	return rec, found, nil
}

func (r records) Create(ctx context.Context, rec drover.Record) error {
	return r.do(ctx, "store.records.create", rec.Host, func(in store.Tx) error { return r.d.CreateTx(ctx, in, rec) })
}

func (r records) Save(ctx context.Context, rec drover.Record) error {
	return r.do(ctx, "store.records.save", rec.Host, func(in store.Tx) error { return r.d.SaveTx(ctx, in, rec) })
}

func (r records) do(ctx context.Context, op, key string, f func(in store.Tx) error) error {
	return r.s.InTx(ctx, func(ctx context.Context, x store.Tx) error {
		_, err := call(r.s, x, op, key, func(in store.Tx) (struct{}, error) { return struct{}{}, f(in) }, nil)
		return err
	})
}
