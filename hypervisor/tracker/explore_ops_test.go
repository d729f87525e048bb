package tracker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// fleet is what two hosts report, shared by all nodes of a world.
type fleet struct {
	mu    sync.Mutex
	hosts map[string]map[string]bool // VMs with a process
}

func newFleet() *fleet { return &fleet{hosts: map[string]map[string]bool{"h1": {}, "h2": {}}} }

func (f *fleet) set(host, vm string, runs bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hosts[host][vm] = runs; !runs {
		delete(f.hosts[host], vm)
	}
}

type seat struct {
	hypervisor.Driver
	f  *fleet
	id string
}

func (s seat) Resources(context.Context) (hypervisor.Resources, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	r := hypervisor.Resources{VCPUs: 64, MemoryMiB: 8 * 128, DiskMiB: 1 << 20, Devices: map[string][]string{"gpu": {"0", "1", "2"}},
		PerVM: map[string]hypervisor.Resources{}}
	for vm := range s.f.hosts[s.id] {
		r.PerVM[vm] = hypervisor.Resources{VCPUsUsed: 1, MemoryMiBUsed: 128}
	}
	return r, nil
}

func (f *fleet) config(n *testkit.Node) tracker.Config {
	return tracker.Config{
		Env: n.Env, Tx: n.Store, Store: n.Store.Tracker(), Reserved: &tracker.Amount{},
		Hosts: func(context.Context) ([]tracker.Host, error) {
			return []tracker.Host{{ID: "h1", Driver: seat{f: f, id: "h1"}}, {ID: "h2", Driver: seat{f: f, id: "h2"}}}, nil
		},
		Workloads: func(_ context.Context, host string) (all []string, _ error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for vm := range f.hosts[host] {
				all = append(all, vm)
			}
			return all, nil
		},
	}
}

// exploreProperty: whatever three nodes do to two hosts, and whatever becomes of them, sums are right at each commit and no claim goes
// over its bound; TrackerInvariants looks.
func exploreProperty(t *testing.T) {
	testkit.Explore(t, seeds(30), func(w *testkit.World) {
		w.TrackerInvariants()
		f := newFleet()
		var nodes []*testkit.Node
		for i := range 3 {
			nodes = append(nodes, w.Node(fmt.Sprint("n", i), func(n *testkit.Node) drover.Component {
				tr, err := tracker.New(f.config(n))
				if err != nil {
					w.T.Fatal(err)
				}
				g := &drover.Group{Env: n.Env}
				g.Add("tracker", tr)
				g.Add("user", drover.Func(func(ctx context.Context) error {
					u := &user{w: w, f: f, tr: tr, env: n.Env, r: rand.New(n.Env.Rand)}
					for k := range 40 {
						u.act(ctx, k)
						if n.Env.Sleep(ctx, time.Duration(u.r.IntN(90))*time.Second) != nil {
							break
						}
					}
					<-ctx.Done()
					return nil
				}))
				return g
			}))
		}
		r := w.Rand("faults")
		nodes[0].FailAfter("store.tx.commit", 0.05, nil)
		nodes[1].Fail("store.tracker.*", 0.05, nil)
		nodes[2].Serialize(0.1)
		for range 10 {
			w.Advance(time.Duration(r.IntN(300)) * time.Second)
			switch n := nodes[r.IntN(3)]; r.IntN(4) {
			case 0:
				n.Crash()
			case 1:
				n.Restart()
			case 2:
				n.Freeze(time.Duration(r.IntN(60)) * time.Second)
			case 3:
				w.StoreJump(time.Duration(r.IntN(600)) * time.Second)
			}
		}
	}, testkit.Horizon(48*time.Hour))
}

// user does what jobs do.
type user struct {
	w   *testkit.World
	f   *fleet
	tr  *tracker.Tracker
	env drover.Env
	r   *rand.Rand
}

func (u *user) act(ctx context.Context, k int) {
	hosts := []string{"h1", "h2"}
	from, to := hosts[u.r.IntN(2)], hosts[u.r.IntN(2)]
	vm, epoch := fmt.Sprint("vm", u.r.IntN(10)), u.r.Int64N(50)+1
	amount := tracker.Amount{VCPUs: 1, MemoryMiB: 128 * (1 + u.r.Int64N(3))}
	id := fmt.Sprintf("%s-%d", vm, u.r.IntN(5))
	var err error
	switch u.r.IntN(10) {
	case 0, 1, 2:
		req := tracker.Request{ID: id, Host: from, Workload: vm, Amount: amount, Epoch: epoch}
		if u.r.IntN(4) == 0 {
			req.Devices = map[string]int{"gpu": 1 + u.r.IntN(2)}
		}
		_, err = u.tr.Claim(ctx, req)
	case 3:
		if err = u.tr.Commit(ctx, id, epoch); err == nil {
			u.f.set(from, vm, true)
		}
	case 4:
		err = u.tr.Abort(ctx, id, epoch)
	case 5:
		err = u.tr.Renew(ctx, id, epoch)
	case 6:
		_, err = u.tr.ClaimMove(ctx, tracker.MoveRequest{ID: "move-" + id, Workload: vm, From: from, To: to, Amount: amount, Epoch: epoch})
	case 7:
		err = u.tr.Confirm(ctx, "move-"+id, epoch, tracker.ConfirmOptions{KeepSource: u.r.IntN(2) == 0})
	case 8:
		err = u.tr.Revert(ctx, "move-"+id, epoch)
	case 9:
		u.f.set(from, vm, false)
		err = u.tr.Release(ctx, from, vm, epoch)
	}
	if err == nil {
		return
	}
	for _, ok := range []error{tracker.ErrNoRoom, tracker.ErrNotFound, tracker.ErrMismatch, tracker.ErrExpired, tracker.ErrStaleEpoch, tracker.ErrInvalid,
		testkit.ErrStore, testkit.ErrCrashed, store.ErrConflict, context.Canceled, hypervisor.ErrOutcomeUnknown} {
		if errors.Is(err, ok) {
			return
		}
	}
	u.w.T.Errorf("%d: %v", k, err)
}

// exploreMoves: a workload that moves to and fro has one place at each instant, while both hosts are audited; the audits lose nothing.
func exploreMoves(t *testing.T) {
	testkit.Explore(t, seeds(30), func(w *testkit.World) {
		w.TrackerInvariants()
		f := newFleet()
		n := w.Node("n", nil)
		mover, err := tracker.New(f.config(n))
		if err != nil {
			w.T.Fatal(err)
		}
		a := w.Node("a", nil)
		auditor, err := tracker.New(f.config(a))
		if err != nil {
			w.T.Fatal(err)
		}
		ctx := n.Context()
		must := func(err error) {
			if err != nil {
				w.T.Fatal(err)
			}
		}
		_, err = mover.Step(ctx)
		must(err)
		one := tracker.Amount{VCPUs: 1, MemoryMiB: 128}
		_, err = mover.Claim(ctx, tracker.Request{ID: "c", Host: "h1", Workload: "vm", Amount: one, Epoch: 1})
		must(err)
		must(mover.Commit(ctx, "c", 1))
		done := false
		reader := w.Node("r", nil)
		reader.Env.Go("reader", func() {
			for !done {
				places := 0
				err := reader.Store.InTx(reader.Context(), func(ctx context.Context, tx store.Tx) error {
					for _, h := range []string{"h1", "h2"} {
						_, rows, err := reader.Store.Tracker().LoadHost(ctx, tx, h)
						if err != nil {
							return err
						}
						for _, r := range rows {
							if r.Role == tracker.Current && r.Counted() {
								places++
							}
						}
					}
					return nil
				})
				if err != nil {
					return
				}
				if places != 1 {
					w.T.Errorf("trk-22: %d places", places)
				}
			}
		})
		a.Env.Go("audits", func() {
			for !done {
				f.set("h1", fmt.Sprint("stranger", w.Rand("x").IntN(3)), true)
				for _, h := range []string{"h1", "h2"} {
					_, _ = auditor.Audit(a.Context(), h)
				}
			}
		})
		from, to := "h1", "h2"
		for i := range int64(6) {
			id := fmt.Sprint("m", i)
			_, err := mover.ClaimMove(ctx, tracker.MoveRequest{ID: id, Workload: "vm", From: from, To: to, Amount: one, Epoch: 2 + i})
			must(err)
			if i%3 == 2 {
				must(mover.Revert(ctx, id, 2+i))
				continue
			}
			must(mover.Confirm(ctx, id, 2+i, tracker.ConfirmOptions{}))
			from, to = to, from
		}
		done = true
	})
}

// exploreLocks: the world fails if a tracker's lock has a holder at a store call; here the drivers and whoever looks in between do.
func exploreLocks(t *testing.T) {
	testkit.Explore(t, 20, func(w *testkit.World) {
		var trackers []*tracker.Tracker
		w.Never("a lock is held at a shared operation", func() bool {
			for _, tr := range trackers {
				if len(tr.Status().Locks) > 0 {
					return true
				}
			}
			return false
		})
		f := newFleet()
		for i := range 3 {
			w.Node(fmt.Sprint("n", i), func(n *testkit.Node) drover.Component {
				cfg := f.config(n)
				tr, err := tracker.New(cfg)
				if err != nil {
					w.T.Fatal(err)
				}
				trackers = append(trackers, tr)
				g := &drover.Group{Env: n.Env}
				g.Add("tracker", tr)
				g.Add("user", drover.Func(func(ctx context.Context) error {
					u := &user{w: w, f: f, tr: tr, env: n.Env, r: rand.New(n.Env.Rand)}
					for k := range 30 {
						u.act(ctx, k)
					}
					<-ctx.Done()
					return nil
				}))
				return g
			})
		}
		w.Advance(10 * time.Minute)
	})
}

// exploreCrashes: a node that dies at any call of a claim, a commit, a move or an audit leaves exact totals, and the retried job gets to
// its goal.
func exploreCrashes(t *testing.T) {
	testkit.Explore(t, 1, func(w *testkit.World) {
		w.TrackerInvariants()
		f := newFleet()
		survivor := w.Node("survivor", nil)
		other, err := tracker.New(f.config(survivor))
		if err != nil {
			w.T.Fatal(err)
		}
		if _, err := other.Step(survivor.Context()); err != nil {
			w.T.Fatal(err)
		}
		one := tracker.Amount{VCPUs: 1, MemoryMiB: 128}
		steps := []func(ctx context.Context, tr *tracker.Tracker, epoch int64) error{ // as of a job: one that is done is not done again
			func(ctx context.Context, tr *tracker.Tracker, _ int64) error {
				_, err := tr.Audit(ctx, "h1")
				return err
			},
			func(ctx context.Context, tr *tracker.Tracker, epoch int64) error {
				_, err := tr.Claim(ctx, tracker.Request{ID: "job/place", Host: "h1", Workload: "vm", Amount: one, Epoch: epoch})
				return err
			},
			func(ctx context.Context, tr *tracker.Tracker, epoch int64) error {
				return tr.Commit(ctx, "job/place", epoch)
			},
			func(ctx context.Context, tr *tracker.Tracker, epoch int64) error {
				_, err := tr.ClaimMove(ctx, tracker.MoveRequest{ID: "job/move", Workload: "vm", From: "h1", To: "h2", Amount: one, Epoch: epoch})
				return err
			},
			func(ctx context.Context, tr *tracker.Tracker, epoch int64) error {
				return tr.Confirm(ctx, "job/move", epoch, tracker.ConfirmOptions{})
			},
		}
		done, epoch := 0, int64(0)
		victim := w.Node("victim", func(n *testkit.Node) drover.Component {
			tr, err := tracker.New(f.config(n))
			if err != nil {
				w.T.Fatal(err)
			}
			return drover.Func(func(ctx context.Context) error {
				for epoch++; done < len(steps); done++ {
					if err := steps[done](ctx, tr, epoch); err != nil {
						if ctx.Err() == nil {
							w.T.Errorf("epoch %d, step %d: %v", epoch, done, err)
						}
						return nil
					}
				}
				<-ctx.Done()
				return nil
			})
		})
		w.CrashPoints(victim, func() { w.Settle() })
		if done < len(steps) {
			victim.Restart()
			w.Settle()
		}
		if done < len(steps) {
			w.T.Errorf("the retried job stands at step %d", done)
		}
		f.set("h2", "vm", true)
		for i, want := range []int64{0, 128} {
			host := fmt.Sprint("h", i+1)
			r, err := other.Audit(survivor.Context(), host)
			if err != nil || r.Usage.Used.MemoryMiB != want || len(r.Notes) > 0 {
				w.T.Errorf("%s: %+v, %v", host, r, err)
			}
		}
	})
}
