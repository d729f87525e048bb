package tracker_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

const hostID = "33333333-0000-4000-8000-00000000000a"

func ExampleTracker_Claim() {
	host, _ := sim.New(sim.Config{ID: hostID, VCPUs: 4, MemoryMiB: 1536})
	db := &memory.Store{}
	t, err := tracker.New(tracker.Config{
		Tx: db, Store: db.Tracker(),
		Hosts: func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: hostID, Driver: host}}, nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	_, _ = t.Step(ctx) // in production: Run

	for _, vm := range []string{"web-1", "web-2"} {
		claim, err := t.Claim(ctx, tracker.Request{
			ID: "job-of-" + vm, Host: hostID, Workload: vm, Amount: tracker.Amount{VCPUs: 1, MemoryMiB: 1024}, Epoch: 1,
		})
		if err != nil {
			fmt.Println(err)
			continue
		}
		// … start the VM, then:
		fmt.Println(vm, t.Commit(ctx, claim.ID, 1), "free:", claim.Usage.Free.MemoryMiB)
	}
	// Output:
	// web-1 <nil> free: 0
	// tracker: no room on 33333333-0000-4000-8000-00000000000a: memory: free 0 MiB < requested 1024 MiB
}

func TestCompute(t *testing.T) {
	f1 := tracker.Amount{VCPUs: 1, MemoryMiB: 128, DiskMiB: 1 << 10}
	node := hypervisor.Resources{VCPUs: 4, MemoryMiB: 512, DiskMiB: 6 << 10}
	one := map[string]float64{tracker.VCPUs: 1}
	t.Run("trk-02 reserved", func(t *testing.T) {
		u, _ := tracker.Compute(tracker.Inputs{Resources: node, Ratios: one,
			Reserved: tracker.Amount{VCPUs: 1, MemoryMiB: 512, DiskMiB: 1 << 10}})
		if !u.Free.Equal(tracker.Amount{VCPUs: 3, DiskMiB: 5 << 10}) {
			t.Fatalf("%+v", u.Free)
		}
	})
	t.Run("trk-05 negative free", func(t *testing.T) {
		u, _ := tracker.Compute(tracker.Inputs{
			Resources: hypervisor.Resources{VCPUs: 4, MemoryMiB: 1024, DiskMiB: 10 << 10}, Ratios: one,
			Reserved: tracker.Amount{MemoryMiB: 2048, DiskMiB: 11 << 10},
		})
		if u.Free.MemoryMiB != -1024 || u.Free.DiskMiB != -1<<10 {
			t.Fatalf("%+v", u.Free)
		}
	})
	t.Run("rows", func(t *testing.T) {
		now := time.Unix(1000, 0)
		u, notes := tracker.Compute(tracker.Inputs{
			Record:    tracker.Record{Host: "h", Used: f1.Plus(f1), Running: 1, InFlight: 1},
			Resources: hypervisor.Resources{VCPUs: 4, MemoryMiB: 512, PerVM: map[string]hypervisor.Resources{"b": {}, "z": {MemoryMiBUsed: 7}}},
			Rows: []tracker.Row{
				{ID: "1", Workload: "a", Role: tracker.Current, Amount: f1, State: tracker.Committed},
				{ID: "2", Workload: "b", Role: tracker.Current, Amount: f1, State: tracker.Held, Expires: now.Add(-1)},
				{ID: "3", Workload: "c", Role: tracker.Current, Amount: f1, State: tracker.Expired, Expires: now.Add(-1)},
			},
			Suspects: []string{"b", "z"}, Now: now,
		})
		if u.Running != 1 || u.InFlight != 1 || !u.Used.Equal(f1.Plus(f1)) || u.Orphans.MemoryMiB != 7 {
			t.Errorf("%+v", u)
		}
		if len(notes) != 2 || notes[0].Kind != tracker.Adopted || notes[1].Kind != tracker.Orphan || notes[1].Workload != "z" {
			t.Errorf("%+v", notes)
		}
	})
}

// stuck is a host that does not answer.
type stuck struct{ hypervisor.Driver }

func (stuck) Resources(ctx context.Context) (hypervisor.Resources, error) {
	<-ctx.Done()
	return hypervisor.Resources{}, ctx.Err()
}

func quiet() drover.Env { return drover.Env{Logger: slog.New(slog.DiscardHandler)} }

func TestAudit(t *testing.T) {
	t.Run("trk-32 one host hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := &memory.Store{}
			good, err := sim.New(sim.Config{ID: hostID})
			if err != nil {
				t.Fatal(err)
			}
			tr, err := tracker.New(tracker.Config{
				Env: quiet(), Tx: db, Store: db.Tracker(), Reserved: &tracker.Amount{},
				Hosts: func(context.Context) ([]tracker.Host, error) {
					return []tracker.Host{{ID: "bad", Driver: stuck{}}, {ID: hostID, Driver: good}}, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = tr.Step(t.Context())
			}()
			synctest.Wait()
			if u, ok := tr.Usage(hostID); !ok || u.Free.MemoryMiB != 65536 {
				t.Fatalf("%v %+v", ok, u)
			}
			start := time.Now()
			if _, err := tr.Claim(t.Context(), tracker.Request{ID: "a", Host: hostID, Workload: "w", Amount: tracker.Amount{VCPUs: 1}}); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d != 0 {
				t.Fatalf("a claim waited %v for an audit", d)
			}
			<-done
			if d := time.Since(start); d != 50*time.Second {
				t.Fatalf("audit ended after %v", d)
			}
			if _, ok := tr.Usage("bad"); ok {
				t.Fatal("a host that never answered has a record")
			}
		})
	})
	t.Run("trk-06 no memory reported", func(t *testing.T) {
		db := &memory.Store{}
		tr, err := tracker.New(tracker.Config{
			Env: quiet(), Tx: db, Store: db.Tracker(),
			Hosts: func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h", Driver: empty{}}}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Audit(t.Context(), "h"); err == nil {
			t.Fatal("no error")
		}
		err = db.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			rs, err := db.Tracker().Hosts(ctx, tx)
			if len(rs) != 0 {
				t.Errorf("records %+v", rs)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

type empty struct{ hypervisor.Driver }

func (empty) Resources(context.Context) (hypervisor.Resources, error) {
	return hypervisor.Resources{VCPUs: 4}, nil
}
