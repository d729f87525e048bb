package postgres_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// A batch of jobs that are alike is written by a statement of its own: what is stored must be what one job alone leaves.
func TestInsertAlike(t *testing.T) {
	h := newHost(t)
	row := func(n int, change func(*job.Row)) job.Row {
		id := jobID(n)
		r := job.Row{Job: job.Job{ID: id, Root: id, Kind: "x", Queue: "q", MaxAttempts: 5, Args: json.RawMessage(`{"n":1}`)}}
		change(&r)
		return r
	}
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	n := 0
	for name, change := range map[string]func(*job.Row){
		"plain":     func(*job.Row) {},
		"scheduled": func(r *job.Row) { r.RunAt = later },
		"past":      func(r *job.Row) { r.RunAt = later.Add(-2 * time.Hour) },
		"full": func(r *job.Row) {
			r.Priority, r.Timeout, r.Deadline, r.Detached, r.Print = -3, time.Minute, later, true, "p"
			r.Identity, r.Account, r.Resource, r.Flags = map[string]string{"account": "a", "user": "u"}, "a", "vm/1", job.Locked
			r.RetryOf, r.Depth = jobID(1), 2
		},
		"no args": func(r *job.Row) { r.Args = nil },
	} {
		t.Run(name, func(t *testing.T) {
			n += 10
			batch := []job.Row{row(n, change), row(n+1, change), row(n+2, change)}
			batch[2].Args = json.RawMessage(`{"n":2}`)
			answered := h.insert(batch...)
			alone := h.insert(row(n+3, change))[0]
			var found job.Found
			h.in(func(ctx context.Context, tx store.Tx) (err error) {
				found, err = h.Jobs().List(ctx, tx, job.Find{IDs: []string{jobID(n), jobID(n + 1), jobID(n + 2), jobID(n + 3)}})
				return err
			})
			if len(found.Rows) != 4 || string(found.Rows[2].Args) != `{"n":2}` {
				t.Fatalf("stored: %+v", found.Rows)
			}
			for i := range 3 {
				if i > 0 && answered[i].Seq <= answered[i-1].Seq || answered[i].Seq != found.Rows[i].Seq {
					t.Error("order of", i)
				}
				if got, want := bare(found.Rows[i], alone), bare(found.Rows[3], alone); i < 2 && !reflect.DeepEqual(got, want) {
					t.Errorf("in a batch\n%+v\nalone\n%+v", got, want)
				}
				if got, want := bare(answered[i], alone), bare(alone, alone); i < 2 && !reflect.DeepEqual(got, want) {
					t.Errorf("answered in a batch\n%+v\nalone\n%+v", got, want)
				}
			}
		})
	}
}

// bare is r without what differs between any two jobs.
func bare(r, as job.Row) job.Row {
	r.ID, r.Root, r.Seq, r.Place = as.ID, as.Root, as.Seq, as.Place
	r.Created, r.Updated = as.Created, as.Updated
	if r.RunAt.Before(time.Now()) {
		r.RunAt = as.RunAt
	}
	return r
}
