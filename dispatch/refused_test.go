package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

// broken is a store whose transactions fail as told.
type broken struct {
	*sqlite.Store
	down  atomic.Bool // every transaction fails
	twice atomic.Bool // fn runs once for nothing, as after a serialization failure
}

var errDown = errors.New("store is down")

func (b *broken) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	if b.down.Load() {
		return errDown
	}
	if b.twice.Load() {
		again := errors.New("again")
		err := b.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			if err := fn(ctx, tx); err != nil {
				return err
			}
			return again
		})
		if !errors.Is(err, again) {
			return err
		}
	}
	return b.Store.InTx(ctx, fn)
}

// full refuses to insert jobs.
type full struct {
	job.Store
	refuse *atomic.Bool
}

func (f full) Turns() syncqueue.Store { return f.Store.(job.Turner).Turns() }

func (f full) Insert(ctx context.Context, tx store.Tx, rows []job.Row) ([]job.Row, error) {
	if f.refuse.Load() {
		return nil, errors.New("disk full")
	}
	return f.Store.Insert(ctx, tx, rows)
}

func TestRefused(t *testing.T) {
	setup := func(t *testing.T) (*dispatch.Registry, *job.Manager, *broken, *bun.DB, *atomic.Int32, *atomic.Bool) {
		st, db := disk(t)
		b := &broken{Store: st}
		r := &dispatch.Registry{Tx: b}
		var created atomic.Int32
		var refuse atomic.Bool
		m := manager(t, st, func(m *job.Manager) {
			dispatch.Async(r, m, "deploy", insertVM(st, &created), func(ctx context.Context, c deploy) (deployed, error) { return deployed{}, nil })
		}, func(c *job.Config) { c.Store = full{st.Jobs(), &refuse} })
		dispatch.Sync(r, "ping", func(context.Context, empty) (string, error) { return "pong", nil })
		return r, m, b, db, &created, &refuse
	}
	cmd := &dispatch.Command{Name: "deploy", Params: map[string]string{"name": "web"}}
	t.Run("dispatch-24 store down", func(t *testing.T) {
		r, m, b, db, _, _ := setup(t)
		b.down.Store(true)
		out, err := r.Dispatch(t.Context(), cmd)
		if out != nil || dispatch.CodeOf(err) != dispatch.Internal || !errors.Is(err, errDown) {
			t.Errorf("%v, %v", out, err)
		}
		if jobsStored(t, m) != 0 || count(t, db) != 0 {
			t.Error("something is left behind")
		}
	})
	t.Run("dispatch-25 draining", func(t *testing.T) {
		r, m, _, db, created, _ := setup(t)
		if err := m.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		out, err := r.Dispatch(t.Context(), cmd)
		if out != nil || !errors.Is(err, dispatch.ErrDraining) || !errors.Is(err, drover.ErrStopping) || dispatch.CodeOf(err) != dispatch.Draining || created.Load() != 0 {
			t.Errorf("%v, %v, created %d times", out, err, created.Load())
		}
		if out, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "ping"}); out != "pong" || err != nil {
			t.Errorf("a sync command while draining: %v, %v", out, err)
		}
		if count(t, db) != 0 {
			t.Error("a row is left behind")
		}
	})
	t.Run("dispatch-25 drain begins in between", func(t *testing.T) {
		st, db := disk(t)
		var r dispatch.Registry
		var m *job.Manager
		r.Tx = st
		r.Stages = dispatch.Standard().After("admit", "drain-now", func(next dispatch.Handler) dispatch.Handler {
			return dispatch.HandlerFunc(func(ctx context.Context, c *dispatch.Command) (any, error) {
				if err := m.Drain(ctx); err != nil {
					return nil, err
				}
				return next.Dispatch(ctx, c)
			})
		})
		var created atomic.Int32
		m = manager(t, st, func(m *job.Manager) {
			dispatch.Async(&r, m, "deploy", insertVM(st, &created), func(ctx context.Context, c deploy) (deployed, error) { return deployed{}, nil })
		})
		if out, err := r.Dispatch(t.Context(), cmd); out != nil || !errors.Is(err, dispatch.ErrDraining) || count(t, db) != 0 {
			t.Errorf("%v, %v, %d rows", out, err, count(t, db))
		}
	})
	t.Run("dispatch-26 insert fails after create", func(t *testing.T) {
		r, m, _, db, created, refuse := setup(t)
		refuse.Store(true)
		if out, err := r.Dispatch(t.Context(), cmd); out != nil || err == nil || created.Load() != 1 || count(t, db) != 0 {
			t.Errorf("%v, %v, created %d times, %d rows", out, err, created.Load(), count(t, db))
		}
		if jobsStored(t, m) != 0 {
			t.Error("a job is left behind")
		}
	})
	t.Run("dispatch-26 transaction retried", func(t *testing.T) {
		r, _, b, db, created, _ := setup(t)
		b.twice.Store(true)
		if out, err := r.Dispatch(t.Context(), cmd); err != nil || created.Load() != 2 || count(t, db) != 1 || out.(dispatch.Accepted).Entity != "vm-web-2" {
			t.Errorf("%v, %v, created %d times, %d rows", out, err, created.Load(), count(t, db))
		}
	})
}

func TestIdempotency(t *testing.T) {
	st, db := disk(t)
	r := dispatch.Registry{Tx: st}
	var created atomic.Int32
	m := manager(t, st, func(m *job.Manager) {
		dispatch.Async(&r, m, "deploy", insertVM(st, &created), func(ctx context.Context, c deploy) (deployed, error) { return deployed{}, nil })
	})
	for name, c := range map[string]dispatch.Command{
		"dispatch-32 JobID": {Name: "deploy", Params: map[string]string{"name": "a"}, JobID: "6F9619FF-8b86-4011-b42d-00c04fc964ff"},
		"dispatch-32 Idem":  {Name: "deploy", Params: map[string]string{"name": "b"}, Idem: "key 1"},
	} {
		t.Run(name, func(t *testing.T) {
			before := count(t, db)
			var mu sync.Mutex
			var first []dispatch.Accepted
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					again := c
					out, err := r.Dispatch(t.Context(), &again)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					first = append(first, out.(dispatch.Accepted))
					mu.Unlock()
				})
			}
			wg.Wait()
			replays := 0
			for _, a := range first {
				if a.JobID != first[0].JobID || a.Entity != first[0].Entity {
					t.Errorf("%+v differs from %+v", a, first[0])
				}
				if a.Replayed {
					replays++
				}
			}
			if replays != len(first)-1 || count(t, db) != before+1 {
				t.Errorf("%d replays of %d, %d rows more", replays, len(first), count(t, db)-before)
			}
			calls := created.Load()
			if _, err := r.Dispatch(t.Context(), &c); err != nil || created.Load() != calls {
				t.Errorf("after the first commit create was called again: %v", err)
			}
			other := c
			other.Params = map[string]string{"name": "z"}
			if _, err := r.Dispatch(t.Context(), &other); dispatch.CodeOf(err) != dispatch.IdempotencyMismatch {
				t.Errorf("other parameters: %v", err)
			}
		})
	}
	if _, err := r.Dispatch(t.Context(), &dispatch.Command{Name: "deploy", Params: map[string]string{"name": "a"}, JobID: "x"}); dispatch.CodeOf(err) != dispatch.Invalid {
		t.Errorf("bad job id: %v", err)
	}
	if jobsStored(t, m) != 2 {
		t.Errorf("%d jobs", jobsStored(t, m))
	}
}

func TestTaxonomy(t *testing.T) {
	rows := map[dispatch.Code][4]int{ // errorcode, cserrorcode, status, retryable
		"malformed": {430, 9999, 400, 0}, "invalid": {431, 4350, 400, 0}, "idempotency-mismatch": {431, 4350, 422, 0}, "not-found": {431, 4350, 404, 0},
		"too-large": {413, 9999, 413, 0}, "unknown-command": {432, 9999, 404, 0}, "unauthenticated": {401, 0, 401, 0}, "forbidden": {531, 4365, 403, 0},
		"limit": {532, 9999, 403, 0}, "insufficient-capacity": {533, 4335, 409, 1}, "resource-unavailable": {534, 4380, 503, 1}, "allocation": {535, 4370, 409, 0},
		"in-use": {536, 9999, 409, 0}, "wrong-state": {530, 4250, 409, 0}, "conflict": {530, 4300, 409, 1}, "rate": {429, 4545, 429, 1}, "draining": {503, 9999, 503, 1},
		"timeout": {530, 4560, 504, 1}, "cancelled": {530, 9999, 409, 0}, "lost": {530, 4250, 500, 0}, "fenced": {530, 4250, 500, 0}, "unsupported": {530, 4250, 501, 0},
		"internal": {530, 4250, 500, 0},
	}
	var db memory.Store
	var r dispatch.Registry
	type failing struct {
		Code string `param:"code"`
	}
	inner := errors.New("100% inner")
	m := manager(t, &db, func(m *job.Manager) {
		dispatch.Async(&r, m, "fail", nil, func(ctx context.Context, c failing) (int, error) {
			return 0, fmt.Errorf("outer: %w", dispatch.Errorf(dispatch.Code(c.Code), "100%% %s: %w", "wrong", inner))
		})
	})
	var listed []dispatch.Code
	for _, i := range dispatch.Codes() {
		listed = append(listed, i.Code)
	}
	for _, code := range listed {
		if _, known := rows[code]; !known && !strings.HasPrefix(string(code), "test-") { // what another test has registered
			t.Errorf("code %q has no row", code)
		}
	}
	for code, want := range rows {
		t.Run("dispatch-33 "+string(code), func(t *testing.T) {
			if !slices.Contains(listed, code) {
				t.Fatal("not listed")
			}
			a := submit(t, &r, "fail", map[string]string{"code": string(code)})
			j, err := m.Wait(t.Context(), a.JobID)
			if err != nil || j.State != job.Failed {
				t.Fatalf("%+v %v", j, err)
			}
			_, err = job.Result[int](j)
			p := dispatch.Public(err, true)
			i := p.Code.Info()
			retry := 0
			if p.Retryable {
				retry = 1
			}
			if got := [4]int{i.ErrorCode, i.CSErrorCode, i.Status, retry}; p.Code != code || got != want {
				t.Errorf("%s %v, want %v", p.Code, got, want)
			}
			if p.Text != "outer: 100% wrong: 100% inner" {
				t.Errorf("text %q", p.Text)
			}
			if n := chain(j.Error); n < 3 {
				t.Errorf("a chain of %d, want 3: %+v", n, j.Error)
			}
		})
	}
}
