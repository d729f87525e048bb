package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Set is strict by itself: one transaction runs at a time.
func (j jobs) Set(_ context.Context, x store.Tx, set []job.Setting) ([]string, error) {
	t, err := j.s.of(x)
	if err != nil {
		return nil, err
	}
	on := j.s.jobs.settings
	for _, s := range set {
		if on[s.Name] == s.On {
			continue
		}
		put := func(yes bool) {
			if on[s.Name] = yes; !yes {
				delete(on, s.Name)
			}
		}
		put(s.On)
		t.onRollback(func() { put(!s.On) })
		t.Hint(job.SettingsTopic)
	}
	return j.s.jobs.settingsOn(), nil
}

func (j *jobTables) settingsOn() []string { return slices.Sorted(maps.Keys(j.settings)) }

// counts goes through the index of each state; parked ones have none.
func (j *jobTables) counts(states []job.State) []job.Count {
	at := map[[2]string]*job.Count{}
	add := func(r *rec) {
		k := [2]string{r.Queue, string(r.State)}
		c := at[k]
		if c == nil {
			c = &job.Count{Queue: r.Queue, State: r.State, Oldest: r.RunAt}
			at[k] = c
		}
		c.N++
		if r.RunAt.Before(c.Oldest) {
			c.Oldest = r.RunAt
		}
	}
	for _, s := range states {
		j.inState(s, add)
	}
	all := make([]job.Count, 0, len(at))
	for _, c := range at {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b job.Count) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
	})
	return all
}

// inState calls f for each live row in a state, in no order that matters.
func (j *jobTables) inState(s job.State, f func(r *rec)) {
	each := func(rows *set) {
		for r := range rows.all() {
			if r.State == s {
				f(r)
			}
		}
	}
	switch s {
	case job.Scheduled:
		each(&j.due)
	case job.Ready:
		for _, b := range j.buckets {
			for _, l := range b.levels {
				each(l.rows)
			}
		}
	case job.Waiting:
		for _, l := range j.lines {
			each(&l.waiters)
		}
	case job.Running:
		for _, h := range j.sessions {
			each(&h.rows)
		}
	case job.Parked:
		each(&j.bySeq)
	}
}

// unhandled are ready rows of other kinds that have been due since then, oldest first.
func (j *jobTables) unhandled(f *job.Find) []*rec {
	var rows []*rec
	for _, b := range j.buckets {
		if slices.Contains(f.NotKinds, b.kind) {
			continue
		}
		for _, l := range b.levels {
			for r := range until(l.rows, micros(f.Before)) {
				if r.State == job.Ready {
					rows = append(rows, r)
				}
			}
		}
	}
	slices.SortFunc(rows, func(a, b *rec) int { return cmp.Or(a.RunAt.Compare(b.RunAt), cmp.Compare(a.Seq, b.Seq)) })
	return rows[:min(len(rows), f.Limit)]
}
