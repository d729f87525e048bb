package drover_test

import (
	"go/ast"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/servicegroup"
	members "github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/store/memory"
)

// steppers makes every Stepper of the library on one memory store, ready to be stepped without its loop.
var steppers = map[string]func(t *testing.T, e drover.Env) drover.Stepper{
	"tracker.Tracker": func(t *testing.T, e drover.Env) drover.Stepper {
		db := &memory.Store{Env: e}
		m, err := tracker.New(tracker.Config{Env: e, Tx: db, Store: db.Tracker()})
		if err != nil {
			t.Fatal(err)
		}
		return m
	},
	"job.Manager": func(t *testing.T, e drover.Env) drover.Stepper {
		db := &memory.Store{Env: e}
		m, err := job.New(job.Config{Env: e, Tx: db, Store: db.Jobs(), Session: newSession(t, e, db)})
		if err != nil {
			t.Fatal(err)
		}
		return m
	},
	"servicegroup.Group": func(t *testing.T, e drover.Env) drover.Stepper {
		g, err := servicegroup.New(servicegroup.Config{Env: e, Driver: &members.Driver{Env: e}})
		if err != nil {
			t.Fatal(err)
		}
		return g
	},
	"periodic.Set":  func(_ *testing.T, e drover.Env) drover.Stepper { return &periodic.Set{Env: e} },
	"lease.Session": func(t *testing.T, e drover.Env) drover.Stepper { return newSession(t, e, &memory.Store{Env: e}) },
}

func newSession(t *testing.T, e drover.Env, db *memory.Store) *lease.Session {
	s, err := lease.New(lease.Config{Env: e, Tx: db, Store: db.Leases()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpecStep(t *testing.T) {
	t.Run("service-32 every Stepper is here", func(t *testing.T) {
		found := map[string]bool{}
		for _, s := range sources(t) {
			if s.test {
				continue
			}
			for _, d := range s.ast.Decls {
				if recv := stepReceiver(d); recv != "" {
					found[s.ast.Name.Name+"."+recv] = true
				}
			}
		}
		if a, b := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(steppers)); !slices.Equal(a, b) {
			t.Errorf("the library's Steppers are %q, tested are %q", a, b)
		}
	})
	for name, build := range steppers {
		t.Run("service-32 "+name, func(t *testing.T) {
			now := &manualClock{time.Unix(1e9, 0)}
			e := quiet()
			e.Clock, e.Go = now, func(name string, f func()) { t.Errorf("goroutine %q started", name) }
			s := build(t, e)
			steps := 0
			for end := now.Now().Add(24 * time.Hour); now.Now().Before(end); steps++ {
				next, err := s.Step(t.Context())
				if err != nil {
					t.Fatalf("step %d at %v: %v", steps, now.Now(), err)
				}
				if next.IsZero() {
					next = end
				}
				if d := next.Sub(now.t); d > time.Millisecond {
					now.t = next
				} else {
					now.t = now.t.Add(time.Millisecond)
				}
			}
			t.Logf("%d steps in 24 h", steps)
		})
	}
}

// manualClock moves between Steps only: nothing in a Step may wait for it.
type manualClock struct{ t time.Time }

func (c *manualClock) Now() time.Time { return c.t }
func (c *manualClock) After(d time.Duration) <-chan time.Time {
	ch := make(chan time.Time, 1)
	if d <= 0 {
		ch <- c.t
	}
	return ch
}

// stepReceiver is the receiver's type of a method Step(ctx) (time, error), "" for other declarations.
func stepReceiver(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Name.Name != "Step" || f.Recv == nil || f.Type.Params.NumFields() != 1 || f.Type.Results.NumFields() != 2 {
		return ""
	}
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, _ := typ.(*ast.Ident)
	if id == nil || !id.IsExported() {
		return ""
	}
	return id.Name
}
