package conductor_test

import (
	"context"
	"testing"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

// BenchmarkSave is a commit of one changed number, over the memory bus and without it.
func BenchmarkSave(b *testing.B) {
	n := newNet(b)
	n.server("s1", all)
	for name, db := range map[string]interface {
		store.Runner
		Tracker() tracker.Store
	}{"local": n.db, "remote": n.client("h1", nil).Client} {
		b.Run(name, func(b *testing.B) {
			rec := tracker.Record{Host: name, Enabled: true}
			for b.Loop() {
				err := db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) (err error) {
					rec.Running++
					rec, err = db.Tracker().SaveHost(ctx, tx, rec)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
