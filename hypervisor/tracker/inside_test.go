package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/internal/watchlock"
	"github.com/drover-cloud/drover/store"
)

// line is a store of one host whose claims follow each other by generation; it is its own Runner.
type line struct {
	Store
	rec  Record
	rows []Row
}

func (l *line) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	return f(ctx, instant{})
}

// instant is a transaction.
type instant struct{ store.Tx }

func (instant) Now() time.Time { return time.Unix(1, 0) }

func (l *line) LoadHost(context.Context, store.Tx, string) (Record, []Row, error) {
	return l.rec, l.rows, nil
}

func (l *line) PutClaim(_ context.Context, _ store.Tx, p Put) (Row, Record, error) {
	l.rec.Generation++
	l.rec.InFlight++
	l.rec.Used = l.rec.Used.Plus(p.Row.Amount)
	p.Row.State, p.Row.Expires = Held, time.Unix(1000, 0)
	l.rows = append(l.rows, p.Row)
	return p.Row, l.rec, nil
}

func (l *line) SaveHost(_ context.Context, _ store.Tx, r Record) (Record, error) {
	if r.Generation != l.rec.Generation {
		return Record{}, store.ErrConflict
	}
	r.Generation++
	l.rec = r
	return r, nil
}

type steady struct{ hypervisor.Driver }

func (steady) Resources(context.Context) (hypervisor.Resources, error) {
	return hypervisor.Resources{VCPUs: 1000, MemoryMiB: 1 << 20, DiskMiB: 1 << 20}, nil
}

func newLine(t *testing.T, log *strings.Builder) (*Tracker, *line) {
	t.Helper()
	db := &line{rec: Record{Host: "h", Enabled: true, Generation: 1, Capacity: Amount{VCPUs: 1000, MemoryMiB: 1 << 20, DiskMiB: 1 << 20}}}
	env := drover.Env{Logger: slog.New(slog.NewTextHandler(log, nil)), Meter: noop.NewMeterProvider()}
	tr, err := New(Config{Env: env, Tx: db, Store: db, Reserved: &Amount{},
		Hosts: func(context.Context) ([]Host, error) { return []Host{{"h", steady{}}}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Refresh(t.Context()); err == nil {
		t.Fatal("a line lists hosts")
	}
	tr.publish(t.Context(), watchlock.Holder{Op: "test"}, db.rec)
	return tr, db
}

func (l *line) Hosts(context.Context, store.Tx) ([]Record, error) { return nil, errors.New("no list") }

// hold keeps the lock until the test calls what it answers.
func hold(t *testing.T, tr *Tracker, by watchlock.Holder) (release func()) {
	t.Helper()
	free, held := make(chan struct{}), make(chan struct{})
	go func() {
		_ = tr.lock.Do(context.Background(), by, func() {
			close(held)
			<-free
		})
	}()
	<-held
	return func() { close(free); synctest.Wait() }
}

func TestLock(t *testing.T) {
	t.Run("trk-42 order of arrival", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, db := newLine(t, &strings.Builder{})
			release := hold(t, tr, watchlock.Holder{Op: "test"})
			var got []string
			probe := func(want int64) { // sees what is published when its turn comes
				_ = tr.lock.Do(context.Background(), watchlock.Holder{Op: "probe"}, func() {
					s, _ := tr.snapshot("h")
					if s.Generation != want {
						got = append(got, fmt.Sprintf("generation %d, want %d", s.Generation, want))
					}
				})
			}
			left, audits := make(chan error, 100), make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 100 {
				with := t.Context()
				if i%10 == 3 {
					with = ctx
				}
				go func() {
					_, err := tr.Claim(with, Request{ID: fmt.Sprint(i), Host: "h", Workload: fmt.Sprint(i), Amount: Amount{VCPUs: 1}})
					left <- err
				}()
				synctest.Wait()
				if i%10 != 3 {
					generation := db.rec.Generation
					go probe(generation)
					synctest.Wait()
				}
				if i == 50 {
					go func() { _, err := tr.Audit(t.Context(), "h"); audits <- err }()
					synctest.Wait()
				}
			}
			if s := tr.Status(); len(s.Locks) != 1 || s.Locks[0].Waiting != 100+90+1 || s.Locks[0].Operation != "test" {
				t.Fatalf("%+v", s.Locks)
			}
			at := time.Now()
			cancel()
			synctest.Wait()
			if len(left) != 10 || time.Since(at) != 0 {
				t.Errorf("%d of 10 waiters left", len(left))
			}
			release()
			for range 100 {
				if err := <-left; err != nil {
					t.Error(err)
				}
			}
			if err := <-audits; err != nil {
				t.Error(err)
			}
			if len(got) > 0 {
				t.Errorf("%d turns out of order: %v", len(got), got)
			}
			if u, _ := tr.Usage("h"); u.InFlight != 100 || u.Generation != db.rec.Generation {
				t.Errorf("%+v", u)
			}
		})
	})
	t.Run("trk-47 a long hold is told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log := &strings.Builder{}
			tr, _ := newLine(t, log)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- tr.Run(ctx) }()
			synctest.Wait()
			for _, c := range []struct {
				held  time.Duration
				lines int
			}{{900 * time.Millisecond, 0}, {3500 * time.Millisecond, 3}} {
				log.Reset()
				release := hold(t, tr, watchlock.Holder{Op: "audit", Host: "h", Claim: "c7"})
				time.Sleep(c.held)
				if s := tr.Status().Locks; len(s) != 1 || s[0].Operation != "audit" || s[0].Host != "h" || s[0].Claim != "c7" || s[0].Age != c.held {
					t.Errorf("%+v", s)
				}
				release()
				lines := strings.Split(strings.TrimSpace(log.String()), "\n")
				if log.Len() == 0 {
					lines = nil
				}
				if len(lines) != c.lines {
					t.Fatalf("held %v: %q", c.held, lines)
				}
				for i, l := range lines {
					if !strings.Contains(l, "audit") || !strings.Contains(l, "host=h") || !strings.Contains(l, "c7") || !strings.Contains(l, fmt.Sprintf("=%ds", i+1)) {
						t.Errorf("line %d: %s", i, l)
					}
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("trk-48 ended context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, db := newLine(t, &strings.Builder{})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			before := db.rec
			check := func() {
				t.Helper()
				for name, f := range map[string]func() error{
					"Claim": func() error { _, err := tr.Claim(ctx, Request{ID: "a", Host: "h", Workload: "w"}); return err },
					"ClaimTx": func() error {
						_, err := tr.ClaimTx(ctx, instant{}, Request{ID: "a", Host: "h", Workload: "w"})
						return err
					},
					"ClaimMove": func() error {
						_, err := tr.ClaimMove(ctx, MoveRequest{ID: "a", From: "g", To: "h", Workload: "w"})
						return err
					},
					"ClaimMoveTx": func() error { _, err := tr.ClaimMoveTx(ctx, instant{}, MoveRequest{}); return err },
					"Commit":      func() error { return tr.Commit(ctx, "a", 1) },
					"CommitTx":    func() error { return tr.CommitTx(ctx, instant{}, "a", 1) },
					"Abort":       func() error { return tr.Abort(ctx, "a", 1) },
					"Renew":       func() error { return tr.Renew(ctx, "a", 1) },
					"Release":     func() error { return tr.Release(ctx, "h", "w", 1) },
					"Confirm":     func() error { return tr.Confirm(ctx, "a", 1, ConfirmOptions{}) },
					"ConfirmTx":   func() error { return tr.ConfirmTx(ctx, instant{}, "a", 1, ConfirmOptions{}) },
					"Revert":      func() error { return tr.Revert(ctx, "a", 1) },
					"Audit":       func() error { _, err := tr.Audit(ctx, "h"); return err },
					"Step":        func() error { _, err := tr.Step(ctx); return err },
					"Disable":     func() error { return tr.Disable(ctx, "h", "x") },
					"Enable":      func() error { return tr.Enable(ctx, "h") },
					"AutoDisable": func() error { return tr.AutoDisable(ctx, "h", "x") },
					"AutoEnable":  func() error { return tr.AutoEnable(ctx, "h") },
					"SetCapacity": func() error { return tr.SetCapacity(ctx, "h", Amount{VCPUs: 1}) },
					"Remove":      func() error { return tr.Remove(ctx, "h") },
					"Refresh":     func() error { return tr.Refresh(ctx) },
					"Claims":      func() error { _, err := tr.Claims(ctx, "h"); return err },
				} {
					if err := f(); !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			check()
			release := hold(t, tr, watchlock.Holder{Op: "test"})
			check()
			release()
			if db.rec.Generation != before.Generation {
				t.Error("something was written")
			}
		})
	})
}
