package job_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

// onPostgres is a world in real time on five connections, with leases of 2 s.
func onPostgres(t *testing.T) *world {
	t.Helper()
	pg := postgres.New(fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 5), postgres.Config{})
	if err := pg.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return &world{T: t, db: pg, ttl: 2 * time.Second, poll: time.Second, real: true}
}

func TestPostgres(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-05 a submission's transaction stays open", stores: "p", run: openSubmission},
		{name: "job-73 server away", stores: "p", run: serverAway},
		{name: "steps share commits", stores: "p", run: sharedCommits},
	})
}

func openSubmission(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") })
	k := vm("1")
	for range 10 { // the statements are planned once per connection
		a, b := w.submit(n, job.Request{Kind: "x", Sync: vm("warm")}), w.submit(n, job.Request{Kind: "x", Sync: vm("warm")})
		for _, j := range []*job.Job{a, b} {
			<-g.started
			g.let <- nil
			w.wait(n, j)
		}
	}
	first := w.submit(n, job.Request{Kind: "x", Sync: k})
	<-g.started
	bound := 100 * time.Millisecond
	for range 20 { // on a busy machine a submission to another key is what 100 ms stand for
		at := time.Now()
		w.submit(n, job.Request{Kind: "x", Sync: vm("other"), RunAt: at.Add(time.Hour)})
		bound = max(bound, 5*time.Since(at))
	}
	in, out := make(chan *job.Job), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		w.must(w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
			j, err := n.SubmitTx(ctx, tx, job.Request{Kind: "x", Sync: k})
			if err != nil {
				return err
			}
			in <- j
			<-out
			return nil
		}))
	})
	late := <-in
	start := time.Now()
	prev := first
	for i := range 20 {
		at := time.Now()
		next := w.submit(n, job.Request{Kind: "x", Sync: k})
		if d := time.Since(at); d > bound {
			w.Errorf("submission %d took %v", i, d)
		}
		at = time.Now()
		g.let <- nil
		<-g.started // the next one, by hand-off
		if d := time.Since(at); d > bound {
			w.Errorf("hand-off %d took %v", i, d)
		}
		if j := w.wait(n, prev); j.State != job.Succeeded {
			w.Fatal(j.State)
		}
		prev = next
	}
	time.Sleep(5*time.Second - time.Since(start))
	close(out)
	wg.Wait()
	g.let <- nil
	w.wait(n, prev)
	g.let <- nil
	if j := w.wait(n, late); j.State != job.Succeeded {
		w.Fatal(j.State)
	}
}

// sharedCommits: the entries of many handlers go together; one that is refused, of a run that was fenced, takes nobody with it.
func sharedCommits(w *world) {
	const all = 200
	w.ttl = 30 * time.Second // nothing dies here
	entered, in, refused := make(chan struct{}, all), make(chan struct{}), make(chan error, all)
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, i int) (int, error) {
			entered <- struct{}{}
			<-in
			v, err := job.Step(context.WithoutCancel(ctx), "one", func(context.Context) (int, error) { return i, nil })
			if err != nil {
				refused <- err
				return 0, err
			}
			return v, job.Note(ctx, "noted", nil)
		})
	}, workers(all))
	js := make([]*job.Job, all)
	for i := range js {
		js[i] = w.submit(n, job.Request{Kind: "x", Args: i})
	}
	for range js {
		<-entered
	}
	pg := w.db.(*postgres.Store)
	for i := 0; i < all; i += 50 { // these runs are over, and their node does not know it
		w.must(pg.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
			done, err := pg.Jobs().Move(ctx, tx, []job.Move{{ID: js[i].ID, From: job.Running, To: job.Failed, Epoch: w.get(n, js[i].ID).Epoch}})
			if err == nil && !done[0] {
				err = store.ErrConflict
			}
			return err
		}))
	}
	close(in)
	for i, j := range js {
		j = w.wait(n, j)
		entries := 0
		for _, err := range n.Journal(w.Context(), j.ID) {
			w.must(err)
			entries++
		}
		if want := i%50 != 0; (j.State == job.Succeeded) != want || want && entries == 0 {
			w.Errorf("job %d is %s with %d entries", i, j.State, entries)
		}
	}
	for range all / 50 {
		if err := <-refused; !errors.Is(err, job.ErrLost) {
			w.Error(err)
		}
	}
}

// serverAway: jobs go on when the server comes back, those that ran meanwhile run again.
func serverAway(w *world) {
	server := fixture.FreshPostgres(w)
	pg := postgres.New(fixture.OpenPostgres(w, server.Database(w), 5), postgres.Config{})
	w.must(pg.Migrate(context.Background()))
	w.db = pg
	ends := make(chan error, 100)
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "long", func(ctx context.Context, _ struct{}) (int, error) {
			if j, _ := job.FromContext(ctx); j.Runs > 1 {
				return 1, nil
			}
			<-ctx.Done()
			ends <- context.Cause(ctx)
			return 0, ctx.Err()
		})
	})
	before := thousand(w, n)
	long := w.submit(n, job.Request{Kind: "long"})
	w.eventually(5*time.Second, "runs", func() bool { return w.get(n, long.ID).State == job.Running })
	server.Kill(w)
	if err := <-ends; err == nil {
		w.Error("no cause")
	}
	server.Restart(w)
	if j := w.wait(n, long); j.State != job.Succeeded || j.Lost != 1 {
		w.Errorf("%s, lost %d", j.State, j.Lost)
	}
	if after := thousand(w, n); after > max(2*time.Second, 2*before) {
		w.Errorf("a thousand jobs took %v, before it was %v", after, before)
	}
}

// thousand is how long a thousand jobs take.
func thousand(w *world, n *node) time.Duration {
	start := time.Now()
	var rs []job.Request
	for i := range 1000 {
		rs = append(rs, job.Request{Kind: "noop", Sync: vm(fmt.Sprint(i))})
	}
	js, err := n.SubmitMany(w.Context(), rs)
	w.must(err)
	for _, j := range js {
		w.wait(n, j)
	}
	return time.Since(start)
}
