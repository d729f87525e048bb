package job_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

var errTorn = errors.New("connection lost before the commit")

// torn rolls one finish back, and lets the node hear of it when its session is over.
type torn struct {
	*faults
	finishes int // that are torn
}

func (t *torn) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	before := t.ops("finish")
	err := t.faults.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := fn(ctx, tx); err != nil || t.finishes == 0 || t.ops("finish") == before {
			return err
		}
		t.finishes--
		return errTorn
	})
	if errors.Is(err, errTorn) {
		t.down(true)
		time.Sleep(40 * time.Second)
		t.down(false)
	}
	return err
}

func TestTorn(t *testing.T) {
	eachStore(t, []spec{{name: "job-21 a hand-on that was rolled back starts nothing", run: tornHandOn}})
}

func tornHandOn(w *world) {
	var mu sync.Mutex
	var runs []string
	n := w.idle("a", with(func(c *job.Config) { c.Tx = &torn{c.Tx.(*faults), 1} }))
	job.Handle(n.Manager, "x", func(_ context.Context, name string) (struct{}, error) {
		mu.Lock()
		defer mu.Unlock()
		runs = append(runs, name)
		return struct{}{}, nil
	})
	js, err := n.SubmitMany(w.Context(), []job.Request{{Kind: "x", Args: "1", Sync: vm("1")}, {Kind: "x", Args: "2", Sync: vm("1")}})
	w.must(err)
	n.run()
	for _, j := range js {
		w.wait(n, j)
	}
	if want := []string{"1", "1", "2"}; !slices.Equal(runs, want) {
		w.Errorf("runs %v, want %v", runs, want)
	}
}
