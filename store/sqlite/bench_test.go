package sqlite_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

// BenchmarkWork submits, claims and finishes jobs in batches of 100; one op is one job.
func BenchmarkWork(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
	}{{"unkeyed", 0}, {"100000 keys", 100_000}, {"100 keys", 100}} {
		b.Run(c.name, func(b *testing.B) { work(b, fixture.SQLite(b, drover.Env{}), c.keys) })
	}
}

func work(b *testing.B, s *sqlite.Store, keys int) {
	token := session(b, s, "n1")
	submitted := 0
	for submitted < b.N {
		rows := make([]job.Row, min(1000, b.N-submitted))
		for i := range rows {
			rows[i] = row(fmt.Sprintf("%036d", submitted), syncqueue.Key{})
			if keys > 0 {
				rows[i].Sync = syncqueue.Key{Kind: "vm", ID: fmt.Sprint(submitted % keys)}
			}
			submitted++
		}
		in(b, s, func(ctx context.Context, tx store.Tx) error {
			_, err := s.Jobs().Insert(ctx, tx, rows)
			return err
		})
	}
	submits := float64(b.N) / b.Elapsed().Seconds()
	b.ResetTimer()
	claim := job.Claim{Session: token, Kinds: []string{"k"}, Free: map[string]int{"default": 100}, Max: 100}
	var running []job.Row
	for done := 0; done < b.N; {
		var moves []job.Move
		for _, r := range running {
			moves = append(moves, job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch, Result: []byte(`{"ok":true}`)})
		}
		in(b, s, func(ctx context.Context, tx store.Tx) error {
			f, err := s.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: moves, Start: claim})
			running = f.Started
			return err
		})
		done += len(moves)
		in(b, s, func(ctx context.Context, tx store.Tx) error {
			c := claim
			c.Max = 100 - len(running)
			got, err := s.Jobs().Claim(ctx, tx, c)
			running = append(running, got.Rows...)
			return err
		})
	}
	b.ReportMetric(submits, "submits/s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// in runs f in a transaction that must commit.
func in(t testing.TB, s store.Runner, f func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := s.InTx(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

func session(t testing.TB, s *sqlite.Store, node string) (token lease.Token) {
	t.Helper()
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		token = sessionIn(ctx, t, tx, s, node)
		return nil
	})
	return token
}

func sessionIn(ctx context.Context, t testing.TB, tx store.Tx, s *sqlite.Store, node string) lease.Token {
	t.Helper()
	token, err := s.Leases().Open(ctx, tx, lease.Info{Name: node, State: lease.Active}, node, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func row(id string, key syncqueue.Key) job.Row {
	return job.Row{Job: job.Job{ID: id, Kind: "k", Queue: "default", Sync: key, Args: []byte(`{"vm":"42"}`)}, Timeout: time.Hour}
}
