package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
)

// elsewhere is another system in which machines are made.
type elsewhere struct {
	made, undone atomic.Int32
	during       func()        // of create
	failUndo     error         // what undo answers
	undoCtx      chan error    // ctx.Err() in undo
	let          chan struct{} // create waits for it
}

func newElsewhere() *elsewhere { return &elsewhere{undoCtx: make(chan error, 100)} }

func (e *elsewhere) option() dispatch.Option {
	return dispatch.Outside(func(_ context.Context, c *deploy) (string, error) {
		n := e.made.Add(1)
		if e.let != nil {
			<-e.let
		}
		if e.during != nil {
			e.during()
		}
		c.Name = fmt.Sprint("made-", n)
		return c.Name, nil
	}, func(ctx context.Context, c *deploy) error {
		e.undone.Add(1)
		e.undoCtx <- ctx.Err()
		if c.Name == "web" {
			return errors.New("undo does not see what create changed")
		}
		return e.failUndo
	})
}

func TestOutside(t *testing.T) {
	setup := func(t *testing.T) (*dispatch.Registry, *job.Manager, *shaky, *elsewhere) {
		db, e := newShaky(), newElsewhere()
		r := &dispatch.Registry{Tx: db}
		m := manager(t, db, func(m *job.Manager) {
			dispatch.Async(r, m, "deploy", nil, func(ctx context.Context, c deploy) (deployed, error) {
				return deployed{ID: dispatch.EntityID(ctx), Name: c.Name}, nil
			}, e.option())
		})
		return r, m, db, e
	}
	cmd := dispatch.Command{Name: "deploy", Params: map[string]string{"name": "web"}}
	t.Run("dispatch-27 all is well", func(t *testing.T) {
		r, m, _, e := setup(t)
		a := accept(t, r, cmd)
		d, err := job.Result[deployed](final(t, m, a.JobID))
		if err != nil || a.Entity != "made-1" || d.ID != "made-1" || d.Name != "web" || e.undone.Load() != 0 {
			t.Errorf("%+v %+v %v", a, d, err)
		}
	})
	t.Run("dispatch-27 submit fails", func(t *testing.T) {
		r, _, db, e := setup(t)
		e.during = func() { db.down.Store(true) }
		if _, err := r.Dispatch(t.Context(), &cmd); !errors.Is(err, errDown) || e.made.Load() != 1 || e.undone.Load() != 1 || <-e.undoCtx != nil {
			t.Errorf("%v, made %d, undone %d", err, e.made.Load(), e.undone.Load())
		}
		db.down.Store(false)
	})
	t.Run("dispatch-27 the caller is gone", func(t *testing.T) {
		r, m, _, e := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		e.during = cancel
		if _, err := r.Dispatch(ctx, &cmd); err == nil || e.undone.Load() != 1 || <-e.undoCtx != nil {
			t.Errorf("%v, undone %d", err, e.undone.Load())
		}
		if n := jobsStored(t, m); n != 0 {
			t.Errorf("%d jobs", n)
		}
	})
	t.Run("dispatch-27 undo fails too", func(t *testing.T) {
		r, _, db, e := setup(t)
		e.during = func() { db.down.Store(true) }
		e.failUndo = errors.New("cannot undo")
		if _, err := r.Dispatch(t.Context(), &cmd); !errors.Is(err, errDown) || !errors.Is(err, e.failUndo) {
			t.Errorf("%v", err)
		}
		db.down.Store(false)
	})
	t.Run("dispatch-27 a race for one Idem", func(t *testing.T) {
		r, m, _, e := setup(t)
		e.let = make(chan struct{})
		same := cmd
		same.Idem = "once"
		var wg sync.WaitGroup
		answers := make(chan dispatch.Accepted, 10)
		for range 10 {
			wg.Go(func() {
				again := same
				out, err := r.Dispatch(t.Context(), &again)
				if err != nil {
					t.Error(err)
					return
				}
				answers <- out.(dispatch.Accepted)
			})
		}
		eventually(t, "all have made one", func() bool { return e.made.Load() == 10 })
		close(e.let)
		wg.Wait()
		first := <-answers
		for range 9 {
			if a := <-answers; a.JobID != first.JobID || a.Entity != first.Entity {
				t.Errorf("%+v and %+v", a, first)
			}
		}
		if e.undone.Load() != 9 || jobsStored(t, m) != 1 {
			t.Errorf("undone %d, %d jobs", e.undone.Load(), jobsStored(t, m))
		}
	})
	t.Run("dispatch-28 answer lost, job found", func(t *testing.T) {
		r, m, db, e := setup(t)
		e.during = func() { db.lost.Store(true) }
		a := accept(t, r, cmd)
		if j := final(t, m, a.JobID); j.State != job.Succeeded || a.Entity != "made-1" || e.undone.Load() != 0 {
			t.Errorf("%+v %s", a, j.State)
		}
	})
	t.Run("dispatch-28 answer lost, store away", func(t *testing.T) {
		r, m, db, e := setup(t)
		e.during = func() { db.downNext.Store(true); db.lost.Store(true) }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := r.Dispatch(ctx, &cmd)
		var u *dispatch.UncertainError
		if !errors.As(err, &u) || u.Entity != "made-1" || !errors.Is(err, errLost) || e.undone.Load() != 0 || dispatch.CodeOf(err) != dispatch.Lost {
			t.Fatalf("%v, undone %d", err, e.undone.Load())
		}
		db.down.Store(false)
		if j := final(t, m, u.JobID); j.State != job.Succeeded {
			t.Errorf("%s", j.State)
		}
	})
	t.Run("dispatch-45 wiring", func(t *testing.T) {
		f := func(context.Context, deploy) (int, error) { return 0, nil }
		make := func(context.Context, *deploy) (string, error) { return "", nil }
		undo := func(context.Context, *deploy) error { return nil }
		m, err := job.New(job.Config{DB: newShaky()})
		if err != nil {
			t.Fatal(err)
		}
		for name, register := range map[string]func(r *dispatch.Registry){
			"after the first Dispatch": func(r *dispatch.Registry) {
				_, _ = r.Dispatch(t.Context(), &dispatch.Command{Name: "x"})
				dispatch.Async(r, m, "cmd", nil, f)
			},
			"Outside without undo": func(r *dispatch.Registry) { dispatch.Async(r, m, "cmd", nil, f, dispatch.Outside(make, nil)) },
			"undo of nothing":      func(r *dispatch.Registry) { dispatch.Async(r, m, "cmd", nil, f, dispatch.Undo(undo)) },
			"m nil":                func(r *dispatch.Registry) { dispatch.Async(r, nil, "cmd", nil, f) },
			"create on a sync one": func(r *dispatch.Registry) { dispatch.Sync(r, "cmd", f, dispatch.Outside(make, undo)) },
			"of another command": func(r *dispatch.Registry) {
				dispatch.Async(r, m, "cmd", nil, f, dispatch.ResourceOf(func(c verb) string { return c.VM }))
			},
			"create without Tx": func(r *dispatch.Registry) {
				dispatch.Async(r, m, "cmd", func(context.Context, store.Tx, *deploy) (string, error) { return "", nil }, f)
			},
			"both creates": func(r *dispatch.Registry) {
				r.Tx = newShaky()
				dispatch.Async(r, m, "cmd", func(context.Context, store.Tx, *deploy) (string, error) { return "", nil }, f, dispatch.Outside(make, undo))
			},
		} {
			if text := panicText(func() { register(new(dispatch.Registry)) }); text == "" {
				t.Errorf("%s: no panic", name)
			}
		}
	})
	t.Run("dispatch-02 no create on a sync command", func(t *testing.T) {
		text := panicText(func() {
			dispatch.Sync(new(dispatch.Registry), "cmd", func(context.Context, deploy) (int, error) { return 0, nil }, newElsewhere().option())
		})
		if text == "" {
			t.Error("no panic")
		}
	})
	t.Run("dispatch-50 without admit", func(t *testing.T) {
		st, db := disk(t)
		r := &dispatch.Registry{Tx: st, Stages: dispatch.Standard().Remove("admit")}
		var created atomic.Int32
		m := manager(t, st, func(m *job.Manager) {
			dispatch.Async(r, m, "deploy", insertVM(st, &created), func(context.Context, deploy) (deployed, error) { return deployed{}, nil })
		})
		if err := m.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Dispatch(t.Context(), &cmd); !errors.Is(err, dispatch.ErrDraining) || created.Load() != 0 || countRows(t, db, "vm") != 0 {
			t.Errorf("%v, created %d times", err, created.Load())
		}
	})
}

// eventLog is a sink that writes into the host's own table.
type eventLog struct{ st *sqlite.Store }

func (l eventLog) Publish(ctx context.Context, tx store.Tx, e dispatch.Event) error {
	db, err := l.st.Bun(tx)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO event (start, command, phase, job, entity, code) VALUES (?, ?, ?, ?, ?, ?)", e.ID, e.Command, e.Phase, e.JobID, e.Entity, e.Code)
	return err
}

func countRows(t *testing.T, db *bun.DB, table string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEvents(t *testing.T) {
	st, db := disk(t)
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE event (n INTEGER PRIMARY KEY, start TEXT, command TEXT, phase TEXT, job TEXT, entity TEXT, code TEXT)"); err != nil {
		t.Fatal(err)
	}
	r := dispatch.Registry{Tx: st, Events: eventLog{st}}
	var created atomic.Int32
	var refuse, draining atomic.Bool
	starts := make(chan string, 10)
	m := manager(t, st, func(m *job.Manager) {
		dispatch.Async(&r, m, "deploy", func(ctx context.Context, tx store.Tx, c *deploy) (string, error) {
			if draining.Load() {
				return "", dispatch.Errorf(dispatch.Allocation, "none left")
			}
			return insertVM(st, &created)(ctx, tx, c)
		}, func(ctx context.Context, c deploy) (deployed, error) {
			starts <- dispatch.StartID(ctx)
			if c.Name == "bad" {
				return deployed{}, dispatch.Errorf(dispatch.InUse, "no")
			}
			return deployed{}, nil
		}, dispatch.Job(job.Retry(nil, 2)))
	}, func(c *job.Config) { c.Store = full{st.Jobs(), &refuse} })
	events := func(id string) (phases []string, ids map[string]bool) {
		ids = map[string]bool{}
		rows, err := db.QueryContext(t.Context(), "SELECT start, command || ' ' || phase || ' ' || entity || ' ' || code FROM event WHERE job = ? ORDER BY n", id)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var start, phase string
			if err := rows.Scan(&start, &phase); err != nil {
				t.Fatal(err)
			}
			phases, ids[start] = append(phases, phase), true
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return phases, ids
	}
	t.Run("dispatch-29 three events", func(t *testing.T) {
		for name, code := range map[string]string{"good": "", "bad": "in-use"} {
			a := accept(t, &r, dispatch.Command{Name: "deploy", Params: map[string]string{"name": name}})
			final(t, m, a.JobID)
			phases, ids := events(a.JobID)
			want := []string{"deploy scheduled " + a.Entity + " ", "deploy started " + a.Entity + " ", "deploy completed " + a.Entity + " " + code}
			if !slices.Equal(phases, want) || len(ids) != 1 {
				t.Errorf("%q with ids %v, want %q", phases, ids, want)
			}
			for range len(starts) {
				if id := <-starts; !ids[id] {
					t.Errorf("f saw start id %q", id)
				}
			}
		}
	})
	t.Run("dispatch-29 none of what is rolled back", func(t *testing.T) {
		before := countRows(t, db, "event")
		refuse.Store(true)
		if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "deploy", Params: map[string]string{"name": "x"}}); err == nil {
			t.Error("no error")
		}
		refuse.Store(false)
		draining.Store(true)
		if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "deploy", Params: map[string]string{"name": "x"}}); dispatch.CodeOf(err) != dispatch.Allocation {
			t.Error(err)
		}
		if n := countRows(t, db, "event"); n != before {
			t.Errorf("%d events more", n-before)
		}
	})
}
