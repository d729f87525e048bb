package job

import (
	"context"
	"iter"
	"time"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Query selects jobs; zero fields select nothing by themselves. Authorisation is the host's: it sets Account.
type Query struct {
	States                     []State // default: the live ones
	Kinds, Queues              []string
	Key                        syncqueue.Key
	Resource, Session, Account string
	Parent, Root               string
	Created, Updated, Ended    Range
	Older                      time.Duration // running longer than
	Text                       string        // found, in any case, in kind, resource, an identity value or the error's text; at most 128 bytes
	Suffix                     string        // the id ends so; at most 36 bytes
	Newest                     bool          // order; default oldest first
	After                      string        // cursor of an earlier page
	Limit                      int           // jobs per page, default 100, at most 500
}

// Range of times, From included, To not; a zero one is open.
type Range struct{ From, To time.Time }

const (
	defaultPage = 100
	maxPage     = 500
	maxText     = 128
)

func (q *Query) check() error {
	switch {
	case q.Limit < 0 || q.Limit > maxPage:
		return invalid("Limit", "%d, must be 1 to %d", q.Limit, maxPage)
	case len(q.Text) > maxText:
		return invalid("Text", "has %d bytes, most are %d", len(q.Text), maxText)
	case len(q.Suffix) > 36:
		return invalid("Suffix", "has %d bytes, most are 36", len(q.Suffix))
	case q.Older < 0:
		return invalid("Older", "%v is negative", q.Older)
	}
	fill(&q.Limit, defaultPage)
	if len(q.States) == 0 {
		q.States = []State{Scheduled, Waiting, Ready, Running, Parked}
	}
	for _, s := range q.States {
		switch s {
		case Scheduled, Waiting, Ready, Running, Parked, Succeeded, Failed, Cancelled:
		default:
			return invalid("States", "%q is no state", s)
		}
	}
	return nil
}

// Page answers one page of the jobs that match and the cursor of the next, "" after the last. Pages are stable: a job that
// matches throughout is in exactly one. [ErrInvalid] for a bad query.
func (m *Manager) Page(ctx context.Context, q Query) (js []*Job, next string, err error) {
	if err := q.check(); err != nil {
		return nil, "", err
	}
	var found Found
	err = m.inRead(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		found, err = m.store.List(ctx, tx, Find{Query: &q, Limit: q.Limit})
		return err
	})
	for i := range found.Rows {
		if found.Rows[i].Queue != syncqueue.ItemQueue { // those are a host's
			js = append(js, found.Rows[i].public())
		}
	}
	return js, found.Next, err
}

// List goes through all the jobs that match, page by page; it ends after an error.
func (m *Manager) List(ctx context.Context, q Query) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) {
		for {
			js, next, err := m.Page(ctx, q)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, j := range js {
				if !yield(j, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			q.After = next
		}
	}
}

// Get answers a job. [ErrNotFound] when there is none.
func (m *Manager) Get(ctx context.Context, id string) (j *Job, err error) {
	err = m.inRead(ctx, func(ctx context.Context, tx store.Tx) error {
		row, err := m.load(ctx, tx, id)
		if err == nil {
			j = row.own()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return j, nil
}

// ByResource answers the oldest live job of each of the resources that has one.
func (m *Manager) ByResource(ctx context.Context, resources []string) (map[string]*Job, error) {
	js := map[string]*Job{}
	if len(resources) == 0 {
		return js, nil
	}
	var found Found
	err := m.inRead(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		found, err = m.store.List(ctx, tx, Find{Resources: resources, Limit: maxWorkers})
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range found.Rows {
		if r := &found.Rows[i]; js[r.Resource] == nil {
			js[r.Resource] = r.public()
		}
	}
	return js, nil
}

// load reads one row.
func (m *Manager) load(ctx context.Context, tx store.Tx, id string) (*Row, error) {
	found, err := m.find(ctx, tx, Find{IDs: []string{id}})
	if err != nil {
		return nil, err
	}
	return &found.Rows[0], nil
}

// find is List for one id.
func (m *Manager) find(ctx context.Context, tx store.Tx, f Find) (Found, error) {
	id, ok := canonicalID(f.IDs[0])
	if !ok {
		return Found{}, ErrNotFound
	}
	f.IDs = []string{id}
	found, err := m.store.List(ctx, tx, f)
	if err == nil && len(found.Rows) == 0 {
		err = ErrNotFound
	}
	return found, err
}
