package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// waits is what a job waits for and has been told, nil for most. It is replaced, never changed.
type waits struct {
	conditions json.RawMessage
	wakeAt     time.Time
	joins      []string   // live jobs, sorted
	topics     []string   // until it leaves parked
	subs       []string   // until consumed
	inbox      []job.Wake // at most job.MaxInbox
}

func (w *waits) clone() *waits {
	if w == nil {
		return &waits{}
	}
	c := *w
	return &c
}

// kept is w, or nil if nothing is left in it.
func (w *waits) kept() *waits {
	if w.conditions == nil && w.wakeAt.IsZero() && len(w.joins)+len(w.topics)+len(w.subs)+len(w.inbox) == 0 {
		return nil
	}
	return w
}

// indexWaits adds a live row where its waits say; unindexWaits is the reverse.
func (j *jobTables) indexWaits(r *rec) {
	for _, id := range r.waits.joins {
		addTo(j.joiners, id, r)
	}
	for _, list := range [][]string{r.waits.topics, r.waits.subs} {
		for _, t := range list {
			addTo(j.topics, t, r)
		}
	}
	if r.State == job.Parked && !r.waits.wakeAt.IsZero() {
		j.wakes.add(micros(r.waits.wakeAt), r)
	}
}

func (j *jobTables) unindexWaits(r *rec) {
	for _, id := range r.waits.joins {
		removeFrom(j.joiners, id, r)
	}
	for _, list := range [][]string{r.waits.topics, r.waits.subs} {
		for _, t := range list {
			removeFrom(j.topics, t, r)
		}
	}
	if r.State == job.Parked && !r.waits.wakeAt.IsZero() {
		j.wakes.remove(micros(r.waits.wakeAt), r)
	}
}

// park adds a Parking to what r waits for.
func (r *rec) park(t *tx, p *job.Parking) {
	w := r.waits.clone()
	w.conditions, w.wakeAt = p.Conditions, normal(p.WakeAt)
	joins := slices.Clone(w.joins)
	for _, id := range p.Jobs {
		if o := t.s.jobs.row(id); o != nil && !final(o.State) {
			joins = append(joins, id)
		}
	}
	slices.Sort(joins)
	w.joins = slices.Compact(joins)
	w.topics = slices.Clone(w.topics)
	for _, topic := range p.Topics {
		if !slices.Contains(w.topics, topic) && !slices.Contains(w.subs, topic) {
			w.topics = append(w.topics, topic)
		}
	}
	r.waits = w
}

// unpark ends what r waited for; consumed, also what it was told.
func (r *rec) unpark(consumed bool) {
	if r.waits == nil {
		return
	}
	w := &waits{subs: r.waits.subs, inbox: r.waits.inbox}
	if consumed {
		w.subs = slices.DeleteFunc(slices.Clone(w.subs), func(topic string) bool {
			return slices.ContainsFunc(w.inbox, func(s job.Wake) bool { return s.Name == topic })
		})
		w.inbox = nil
	}
	r.waits = w.kept()
}

func (j jobs) Signal(_ context.Context, x store.Tx, s job.Signal) (out job.Signalled, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	id, own := strings.CutPrefix(s.Topic, "job/")
	switch {
	case s.Topic == "":
		out.Rows = t.ended(s.Ended)
	case own:
		t.signalOne(id, &s, &out)
	default:
		t.signalTopic(&s, &out)
	}
	return out, nil
}

// ended takes jobs out of all joins.
func (t *tx) ended(ids []string) []job.Row {
	met := map[*rec]bool{}
	for _, id := range ids {
		if s := t.s.jobs.joiners[id]; s != nil {
			for _, r := range slices.Collect(s.all()) {
				t.revise(r, func(r *rec) {
					w := r.waits.clone()
					w.joins = slices.DeleteFunc(slices.Clone(w.joins), func(o string) bool { return o == id })
					r.waits = w
				})
				met[r] = met[r] || r.State == job.Parked
			}
		}
	}
	var rows []job.Row
	for _, r := range slices.SortedFunc(maps.Keys(met), bySeq) {
		if met[r] {
			rows = append(rows, r.withWaits())
		}
	}
	return rows
}

func (t *tx) signalOne(id string, s *job.Signal, out *job.Signalled) {
	r := t.s.jobs.row(id)
	if r == nil {
		return
	}
	if !final(r.State) {
		if out.Full = !t.tell(r, s); !out.Full {
			out.Reached = 1
		}
	}
	out.Rows = []job.Row{r.withWaits()}
}

func (t *tx) signalTopic(s *job.Signal, out *job.Signalled) {
	all, limit := t.s.jobs.topics[s.Topic], s.Limit
	if all == nil {
		return
	}
	if limit <= 0 {
		limit = 500
	}
	for _, r := range take(nil, all.after(s.After, 1<<62), limit+1) {
		if out.Reached == limit {
			return
		}
		t.tell(r, s)
		out.Reached, out.Next = out.Reached+1, r.Seq
		if r.State == job.Parked {
			out.Rows = append(out.Rows, r.withWaits())
		}
	}
	out.Next = 0
}

// tell puts a signal in an inbox; false if that is full.
func (t *tx) tell(r *rec, s *job.Signal) bool {
	if r.waits != nil {
		for _, old := range r.waits.inbox {
			if old.Name == s.Topic && bytes.Equal(old.Payload, s.Payload) {
				return true
			}
		}
		if len(r.waits.inbox) >= job.MaxInbox {
			return false
		}
	}
	t.revise(r, func(r *rec) {
		w := r.waits.clone()
		w.inbox = append(slices.Clip(w.inbox), job.Wake{Why: "topic", Name: s.Topic, Payload: slices.Clone(s.Payload)})
		r.waits = w
	})
	return true
}

// subscribe makes signals to topic go to r's inbox.
func (r *rec) subscribe(topic string) {
	w := r.waits.clone()
	if !slices.Contains(w.subs, topic) {
		w.subs = append(slices.Clip(w.subs), topic)
	}
	r.waits = w
}

// withWaits is out with what the row waits for.
func (r *rec) withWaits() job.Row {
	row := r.out()
	if w := r.waits; w != nil {
		row.Conditions, row.WakeAt = w.conditions, w.wakeAt
		row.Joins, row.Inbox = slices.Clone(w.joins), slices.Clone(w.inbox)
	}
	return row
}
