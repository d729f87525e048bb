package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

var errDead = errors.New("the node is dead")

// process is a node on a real store; a dead one reaches nothing.
type process struct {
	testkit.Stores
	jobs *job.Manager
	dead atomic.Bool
	logs atomic.Int64
}

func (p *process) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	return p.Stores.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if p.dead.Load() {
			return errDead
		}
		return fn(ctx, tx)
	})
}

func (p *process) Jobs() job.Store { return &counted{p.Stores.Jobs(), p} }

// counted counts boundaries.
type counted struct {
	job.Store
	p *process
}

func (c *counted) Log(ctx context.Context, tx store.Tx, es []job.Entry) error {
	c.p.logs.Add(1)
	return c.Store.Log(ctx, tx, es)
}

func (c *counted) Finish(ctx context.Context, tx store.Tx, f job.Finish) (job.Finished, error) {
	return c.Store.(job.Finisher).Finish(ctx, tx, f)
}

func (c *counted) Turns() syncqueue.Store { return c.Store.(job.Turner).Turns() }

// farm is processes on one store that run letters, whose steps take 30 ms; undo of b fails if stuck.
type farm struct {
	*testing.T
	db    testkit.Stores
	stuck bool
	mu    sync.Mutex
	made  map[string]map[string]bool // by job and step
}

func (f *farm) start(name string) *process {
	f.Helper()
	p := &process{Stores: f.db}
	env := drover.Env{Node: name, Logger: slog.New(slog.DiscardHandler)}
	s, err := lease.New(lease.Config{Env: env, Tx: p, Store: f.db.Leases(), TTL: 2 * time.Second})
	if err != nil {
		f.Fatal(err)
	}
	cfg := job.Config{Env: env, Tx: p, Store: p.Jobs(), Notify: f.db.Notifier(), Session: s, Poll: 200 * time.Millisecond}
	if p.jobs, err = job.New(cfg); err != nil {
		f.Fatal(err)
	}
	letters := flow.New[plan]("letters")
	for _, step := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		letters.Then(step, f.work(p, step, true), f.work(p, step, false), flow.NoRetryUndo())
	}
	flow.Register(p.jobs, letters)
	var g drover.Group
	g.Add("node", s)
	g.Add("jobs", p.jobs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

func (f *farm) work(p *process, step string, made bool) func(context.Context, *plan) error {
	return func(ctx context.Context, s *plan) error {
		j, _ := job.FromContext(ctx)
		time.Sleep(15 * time.Millisecond)
		if p.dead.Load() {
			return errDead
		}
		if f.stuck && !made && step == "b" {
			return errBoom
		}
		f.mu.Lock()
		if f.made[j.ID] == nil {
			f.made[j.ID] = map[string]bool{}
		}
		f.made[j.ID][step] = made
		f.mu.Unlock()
		time.Sleep(15 * time.Millisecond)
		if made && s.Fail == step {
			return errBoom
		}
		return nil
	}
}

// left is what steps of a job have made.
func (f *farm) left(id string) (left string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		if f.made[id][s] {
			left += s
		}
	}
	return left
}

func (f *farm) submit(p *process, fail string) string {
	f.Helper()
	j, err := p.jobs.Submit(f.Context(), job.Request{Kind: "flow:letters", Args: plan{Fail: fail}})
	if err != nil {
		f.Fatal(err)
	}
	return j.ID
}

func (f *farm) final(p *process, id string) *job.Job {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	defer cancel()
	j, err := p.jobs.Wait(ctx, id)
	if err != nil {
		f.Fatalf("%v: %+v", err, j)
	}
	return j
}

// crashes runs many flows on nodes that die under them, and answers the last node.
func (f *farm) crashes(fails []string) (p *process, ids []string) {
	r := rand.New(rand.NewPCG(1, 2))
	p = f.start("n0")
	for i := range 3 {
		for k := range 10 {
			ids = append(ids, f.submit(p, fails[k%len(fails)]))
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
		}
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		p.dead.Store(true)
		p = f.start(fmt.Sprint("n", i+1))
	}
	return p, ids
}

func TestStores(t *testing.T) {
	for name, on := range map[string]func(*testing.T, func(*farm)){
		"postgres": func(t *testing.T, run func(*farm)) {
			pg := postgres.New(fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 5), postgres.Config{})
			if err := pg.Migrate(context.Background()); err != nil {
				t.Fatal(err)
			}
			run(&farm{T: t, db: pg, made: map[string]map[string]bool{}})
		},
		"sqlite": func(t *testing.T, run func(*farm)) {
			synctest.Test(t, func(t *testing.T) {
				run(&farm{T: t, db: fixture.SQLite(t, drover.Env{}), made: map[string]map[string]bool{}})
			})
		},
	} {
		t.Run("flow-49 flow-20 on "+name, func(t *testing.T) {
			on(t, func(f *farm) {
				p, ids := f.crashes([]string{"", "g", "", "c", "a"})
				for _, id := range ids {
					j := f.final(p, id)
					if want := map[job.State]string{job.Succeeded: "abcdefg", job.Failed: ""}; f.left(id) != want[j.State] || !j.State.Final() {
						f.Errorf("%s (%v) with %q", j.State, j.Error, f.left(id))
					}
				}
			})
		})
		t.Run("flow-49 flow-25 on "+name, func(t *testing.T) {
			on(t, func(f *farm) {
				p := f.start("n")
				if j := f.final(p, f.submit(p, "")); j.State != job.Succeeded || p.logs.Load() != 7 {
					f.Errorf("%s, %d writes for 7 steps", j.State, p.logs.Load())
				}
				f.final(p, f.submit(p, "c"))
				if n := p.logs.Load() - 7; n != 6 {
					f.Errorf("%d writes for 3 steps and their undo", n)
				}
			})
		})
		t.Run("flow-49 flow-31 on "+name, func(t *testing.T) {
			on(t, func(f *farm) {
				f.stuck = true
				p, ids := f.crashes([]string{"c", "d"})
				owed := map[string]int{}
				for _, id := range ids {
					if j := f.final(p, id); j.State != job.Failed || f.left(id) != "b" {
						f.Errorf("%s (%v) with %q", j.State, j.Error, f.left(id))
					}
				}
				for j, err := range p.jobs.List(f.Context(), job.Query{Kinds: []string{"flow-undo:letters"}}) {
					if err != nil {
						f.Fatal(err)
					}
					var d struct {
						Job   string
						Steps []struct{ Step string }
					}
					if err := json.Unmarshal(j.Args, &d); err != nil || len(d.Steps) != 1 || d.Steps[0].Step != "b" {
						f.Errorf("%s, %v", j.Args, err)
					}
					owed[d.Job]++
				}
				for _, id := range ids {
					if owed[id] != 1 {
						f.Errorf("%d debts of %s", owed[id], id)
					}
				}
				for s, err := range flow.Journal(f.Context(), p.jobs, ids[0]) {
					if err != nil || s.Path == "letters/b" && s.State != flow.StateUndoFailed || s.Ended.IsZero() {
						f.Errorf("%+v, %v", s, err)
					}
				}
			})
		})
	}
}
