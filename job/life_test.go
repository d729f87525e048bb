package job_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

func TestLife(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-66 pages while jobs come and go", run: pages},
		{name: "job-71 what goes with a job", stores: "ms", run: removal},
	})
}

func pages(w *world) {
	n := w.idle("a")
	job.Declare[int, int](n.Manager, "x")
	submit := func(k int) (ids []string) {
		rs := make([]job.Request, k)
		for i := range rs {
			rs[i] = job.Request{Kind: "x", Args: i}
		}
		js, err := n.SubmitMany(w.Context(), rs)
		w.must(err)
		for _, j := range js {
			ids = append(ids, j.ID)
		}
		return ids
	}
	first := submit(3000)
	for _, newest := range []bool{false, true} {
		live := map[string]bool{}
		for i, id := range first {
			live[id] = i%60 != 0 // these end meanwhile, if they have not yet
		}
		seen := map[string]int{}
		q := job.Query{Limit: 100, Newest: newest}
		for page := 0; ; page++ {
			js, next, err := n.Page(w.Context(), q)
			w.must(err)
			for _, j := range js {
				seen[j.ID]++
			}
			if q.After = next; next == "" {
				break
			}
			submit(3)
			if id := first[page%50*60]; page < 50 {
				_, err := n.Cancel(w.Context(), id)
				if !newest {
					w.must(err)
				}
			}
		}
		for id, yes := range live {
			if yes && seen[id] != 1 {
				w.Fatalf("newest %v: a live job was seen %d times", newest, seen[id])
			}
		}
		for id, k := range seen {
			if k > 1 {
				w.Fatalf("%s was seen %d times", id, k)
			}
		}
	}
}

func removal(w *world) {
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int64, error) {
			if _, err := job.Step(ctx, "s", func(context.Context) (int, error) { return 1, nil }); err != nil {
				return 0, err
			}
			j, _ := job.FromContext(ctx)
			if err := m.Wake(context.Background(), "job/"+j.ID); err != nil {
				return 0, err
			}
			if err := job.Subscribe(ctx, "t"); err != nil {
				return 0, err
			}
			return job.Token(ctx).Epoch, job.Note(ctx, fmt.Sprint("run ", j.Runs), nil)
		})
	}, with(func(c *job.Config) { c.Retain = time.Minute }))
	const id = "01890000-0000-7000-8000-000000000001"
	last := int64(0)
	for range 2 {
		j := w.wait(n, w.submit(n, job.Request{Kind: "x", ID: id}))
		epoch, err := job.Result[int64](j)
		w.must(err)
		if epoch <= last || j.Replayed {
			w.Fatalf("epoch %d after %d", epoch, last)
		}
		last = epoch
		k := 0
		for e, err := range n.Journal(w.Context(), id) {
			if w.must(err); e.Text != "" {
				k++
			}
		}
		if k != 1 {
			w.Fatalf("%d rows in the journal", k)
		}
		w.eventually(5*time.Minute, "removed", func() bool {
			_, err := n.Get(w.Context(), id)
			return err != nil
		})
		if reached, err := n.WakeWith(w.Context(), "t", nil); reached != 0 || err != nil {
			w.Fatal("a removed job heard it", reached, err)
		}
	}
}
