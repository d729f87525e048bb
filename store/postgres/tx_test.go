package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/syncqueue"
)

// host is a store, the pool below it, and a live session.
type host struct {
	*postgres.Store
	t   *testing.T
	db  *bun.DB
	tok lease.Token
}

func newHost(t *testing.T) *host {
	h := &host{t: t, db: fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 10)}
	h.Store = migrated(t, h.db, postgres.Config{Schema: "drover"})
	h.in(func(ctx context.Context, tx store.Tx) (err error) {
		h.tok, err = h.Leases().Open(ctx, tx, lease.Info{Name: "n1", State: lease.Active}, "p", time.Hour)
		return err
	})
	return h
}

func (h *host) in(f func(ctx context.Context, tx store.Tx) error) {
	h.t.Helper()
	if err := h.InTx(context.Background(), f); err != nil {
		h.t.Error(err)
	}
}

func (h *host) insert(rows ...job.Row) (stored []job.Row) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) (err error) {
		stored, err = h.Jobs().Insert(ctx, tx, rows)
		return err
	})
	return stored
}

func (h *host) claim(n int) (rows []job.Row) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) error {
		c, err := h.Jobs().Claim(ctx, tx, job.Claim{Session: h.tok, Kinds: []string{"k"}, Free: map[string]int{"q": n}, Max: n})
		rows = c.Rows
		return err
	})
	return rows
}

func (h *host) finish(rows []job.Row) (started []job.Row) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) error {
		var ms []job.Move
		for _, r := range rows {
			ms = append(ms, job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch})
		}
		f, err := h.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: ms, Start: job.Claim{Session: h.tok, Kinds: []string{"k"}, Free: map[string]int{"q": 9}, Max: 9}})
		started = f.Started
		return err
	})
	return started
}

func newRow(key string) job.Row {
	return job.Row{Print: "p", Job: job.Job{ID: drover.Env{}.Defaults().NewID(), Kind: "k", Queue: "q", Sync: syncqueue.Key{Kind: "vm", ID: key}}}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	t.Run("job-04 the host's transaction", func(t *testing.T) {
		h := newHost(t)
		if _, err := h.db.Exec(`CREATE TABLE vm (id text)`); err != nil {
			t.Fatal(err)
		}
		count := func() (vms, jobs int) {
			if err := h.db.QueryRow(`SELECT (SELECT count(*) FROM vm), (SELECT count(*) FROM drover.drover_job)`).Scan(&vms, &jobs); err != nil {
				t.Fatal(err)
			}
			return vms, jobs
		}
		for _, commit := range []bool{false, true} {
			wake, stop := h.Notifier().Wake(job.QueueTopic("q"))
			time.Sleep(200 * time.Millisecond) // until it listens
			tx, err := h.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			joined := h.Join(tx)
			if _, err := tx.Exec(`INSERT INTO vm VALUES ('42')`); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Jobs().Insert(t.Context(), joined, []job.Row{newRow("42")}); err != nil {
				t.Fatal(err)
			}
			if joined.Now().IsZero() || len(wake) > 0 {
				t.Fatal("no now, or a hint before the commit")
			}
			end, want := tx.Rollback, 0
			if commit {
				end, want = tx.Commit, 1
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if vms, jobs := count(); vms != want || jobs != want {
				t.Fatalf("commit %v: %d rows of the host, %d jobs", commit, vms, jobs)
			}
			select {
			case <-wake:
				if !commit {
					t.Fatal("a hint of what was rolled back")
				}
			case <-time.After(map[bool]time.Duration{true: 10 * time.Second, false: 100 * time.Millisecond}[commit]):
				if commit {
					t.Fatal("no hint of the host's commit")
				}
			}
			stop()
		}
		other := newHost(t)
		other.in(func(ctx context.Context, tx store.Tx) error {
			if _, err := h.Jobs().Insert(ctx, tx, []job.Row{newRow("42")}); !errors.Is(err, store.ErrForeign) {
				t.Errorf("got %v, want store.ErrForeign", err)
			}
			return nil
		})
		again := newRow("1")
		h.insert(again)
		tx, err := h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := h.Jobs().Insert(t.Context(), h.Join(tx), []job.Row{again})
		if err != nil || rows[0].Met != "id" {
			t.Fatalf("an id in use in the host's transaction: %v, met %q", err, rows[0].Met)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal("a duplicate broke the host's transaction: ", err)
		}
	})
	t.Run("job-05 queue-51 open for long", func(t *testing.T) {
		h := newHost(t)
		h.insert(newRow("42"))
		run := h.claim(9)
		tx, err := h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Jobs().Insert(t.Context(), h.Join(tx), []job.Row{newRow("42")}); err != nil {
			t.Fatal(err)
		}
		for n := range 20 {
			start := time.Now()
			h.insert(newRow("42"))
			if n == 0 {
				h.claim(9)
			}
			if run = h.finish(run); len(run) == 0 {
				run = h.claim(9)
			}
			if d := time.Since(start); d > 2*time.Second || len(run) != 1 {
				t.Fatalf("round %d: %d started in %v", n, len(run), d)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if len(run) > 0 {
				run = h.finish(run)
			} else {
				run = h.claim(9)
			}
		}
		if left := h.claim(9); len(left) != 0 {
			t.Fatal("jobs left in line")
		}
	})
}

func TestOne(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx := t.Context()
	err := h.InOne(ctx, func(ctx context.Context, tx store.Tx) error {
		if _, err := h.Jobs().Insert(ctx, tx, []job.Row{newRow("1")}); err != nil {
			return err
		}
		if _, err := h.Jobs().Insert(ctx, tx, []job.Row{newRow("1")}); err == nil {
			t.Error("a second call in InOne")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dup := newRow("2")
	h.insert(dup)
	err = h.InOne(ctx, func(ctx context.Context, tx store.Tx) error {
		rows, err := h.Jobs().Insert(ctx, tx, []job.Row{dup})
		if err == nil && rows[0].Met != "id" {
			t.Errorf("met %q", rows[0].Met)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = h.InOne(ctx, func(ctx context.Context, tx store.Tx) error {
		now := tx.Now()
		rows, err := h.Jobs().Insert(ctx, tx, []job.Row{newRow("3")})
		if err == nil && !rows[0].Created.Equal(now) {
			t.Errorf("created %v, now %v", rows[0].Created, now)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(h.claim(9)); got != 3 {
		t.Fatalf("%d jobs, want 3", got)
	}
}

func TestBadSchemaName(t *testing.T) {
	db, err := postgres.Open("postgres://127.0.0.1:1/none", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, name := range []string{"Upper", "1a", `a"b`, "a;b", "a-b", strings.Repeat("a", 64), "ä", "a b"} {
		s := postgres.New(db, postgres.Config{Schema: name})
		if err := s.Migrate(t.Context()); !errors.Is(err, drover.ErrConfig) || !strings.Contains(err.Error(), "Schema") {
			t.Errorf("%q: %v", name, err)
		}
		if err := s.InTx(t.Context(), func(context.Context, store.Tx) error { return nil }); !errors.Is(err, drover.ErrConfig) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNotifierAcrossProcesses(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	var mu sync.Mutex
	pg := fixture.Postgres(t)
	dsn := pg.Database(t)
	proxy, through := pg.Proxied(t, dsn)
	a := migrated(t, fixture.OpenPostgres(t, dsn, 4), postgres.Config{})
	b := postgres.New(fixture.OpenPostgres(t, through, 4), postgres.Config{Env: drover.Env{Logger: slog.New(slog.NewTextHandler(locked{&mu, &logged}, nil))}})
	wake, stop := b.Notifier().Wake("t")
	defer stop()
	hint := func() {
		if err := a.InTx(t.Context(), func(_ context.Context, tx store.Tx) error { tx.Hint("t"); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func() {
		t.Helper()
		for until := time.Now().Add(20 * time.Second); ; {
			hint()
			select {
			case <-wake:
				return
			case <-time.After(50 * time.Millisecond):
				if time.Now().After(until) {
					t.Fatal("no hint from the other store")
				}
			}
		}
	}
	arrives()
	proxy.Reset()
	arrives()
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(logged.String(), "no notifications, polling"); n != 1 {
		t.Errorf("%d warnings of one outage: %s", n, logged.String())
	}
}

type locked struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// TestOneClaims: a claim is a call of several statements that each stand for themselves, and what it leaves is settled after.
func TestOneClaims(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	claim := func(n int) (rows []job.Row) {
		t.Helper()
		err := h.InOne(t.Context(), func(ctx context.Context, tx store.Tx) error {
			c, err := h.Jobs().Claim(ctx, tx, job.Claim{Session: h.tok, Kinds: []string{"k"}, Free: map[string]int{"q": n, "q2": n}, Max: n})
			rows = c.Rows
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	var rows []job.Row
	for n := range 12 {
		r := newRow([]string{"a", "b", "c"}[n%3])
		r.Queue, r.Priority = []string{"q", "q2"}[n%2], n%4
		if n > 8 {
			r.Sync = syncqueue.Key{}
		}
		rows = append(rows, r)
	}
	h.insert(rows...)
	h.in(func(ctx context.Context, tx store.Tx) error {
		_, err := h.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", ID: "c", Policy: syncqueue.Policy{Limit: 2}}})
		return err
	})
	done := 0
	for range 100 {
		run := claim(2)
		done += len(run)
		for len(run) > 0 {
			run = h.finish(run)
			done += len(run)
		}
		if done == len(rows) {
			return
		}
	}
	t.Fatalf("%d of %d ran", done, len(rows))
}
