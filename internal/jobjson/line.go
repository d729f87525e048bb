package jobjson

import (
	"cmp"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// Line is a key with a line.
type Line struct {
	Key     Key   `json:"key"`
	Limit   int   `json:"limit"` // turns at once; 0 = unlimited
	Paused  bool  `json:"paused"`
	Holders int   `json:"holders"`
	Waiting int   `json:"waiting"`
	Oldest  int64 `json:"oldest_ms"` // the longest present wait
}

// Kind is the policy of a kind of keys.
type Kind struct {
	Kind   string `json:"kind"`
	Limit  int    `json:"limit"`
	Paused bool   `json:"paused"`
}

// Item is one that holds or waits for a turn.
type Item struct {
	Job      *Job   `json:"job,omitempty"` // nil: no job known here, or not the viewer's
	Content  string `json:"content,omitempty"`
	Seq      int64  `json:"seq"`
	Place    int    `json:"place,omitempty"` // of a waiter, from 1
	Holder   string `json:"holder,omitempty"`
	Epoch    int64  `json:"epoch,omitempty"`
	Enqueued Stamp  `json:"enqueued"`
	Since    Stamp  `json:"since,omitzero"`
}

// KeyLine is a key and who stands there.
type KeyLine struct {
	Key     Key    `json:"key"`
	Limit   int    `json:"limit"`
	Paused  bool   `json:"paused"`
	Why     string `json:"paused_by,omitempty"` // key, kind
	Holders []Item `json:"holders"`
	Waiters []Item `json:"waiters"`
}

// Policies are limits and pauses by key; of a kind the ID is "".
type Policies map[syncqueue.Key]syncqueue.Policy

// PoliciesOf makes them of a store's rows.
func PoliciesOf(rows []syncqueue.PolicyRow) Policies {
	m := make(Policies, len(rows))
	for _, r := range rows {
		m[syncqueue.Key{Kind: r.Kind, ID: r.ID}] = r.Policy
	}
	return m
}

// Of a key: its own limit beats its kind's, either pauses it.
func (m Policies) Of(k syncqueue.Key) (limit int, pausedBy string) {
	kind, known := m[syncqueue.Key{Kind: k.Kind}]
	if limit = kind.Limit; !known || limit < 0 {
		limit = 1
	}
	own, set := m[k]
	if set && own.Limit >= 0 {
		limit = own.Limit
	}
	switch {
	case set && own.Paused:
		pausedBy = "key"
	case kind.Paused:
		pausedBy = "kind"
	}
	return limit, pausedBy
}

// LineOf is a key with its policy.
func LineOf(s syncqueue.Stat, m Policies) Line {
	limit, paused := m.Of(s.Key)
	return Line{Key{s.Key.Kind, s.Key.ID}, limit, paused != "", s.Running, s.Pending, s.Oldest.Milliseconds()}
}

// KeyLineOf is the line of a key. What belongs to a job that is not among those visible, is counted but not told unless all is.
func KeyLineOf(k syncqueue.Key, m Policies, items []syncqueue.Item, visible map[string]*job.Job, all bool) *KeyLine {
	l := &KeyLine{Key: Key{k.Kind, k.ID}, Holders: []Item{}, Waiters: []Item{}}
	l.Limit, l.Why = m.Of(k)
	l.Paused = l.Why != ""
	for _, it := range items {
		o := Item{Seq: it.Seq, Holder: it.Holder, Epoch: it.Epoch, Enqueued: Stamp(it.Enqueued), Since: Stamp(it.Since)}
		if j := visible[it.Content]; j != nil {
			jo := Of(j)
			o.Job, o.Content = &jo, it.Content
		} else if all {
			o.Content = it.Content
		}
		if it.Since.IsZero() {
			o.Place = len(l.Waiters) + 1
			l.Waiters = append(l.Waiters, o)
		} else {
			l.Holders = append(l.Holders, o)
		}
	}
	return l
}

// SortLines orders by key, waiting or oldest, the most first; false: by is none of them.
func SortLines(ls []Line, by string) bool {
	key := func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.ID, b.Key.ID))
	}
	switch by {
	case "", "key":
		slices.SortStableFunc(ls, key)
	case "waiting":
		slices.SortStableFunc(ls, func(a, b Line) int { return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), key(a, b)) })
	case "oldest":
		slices.SortStableFunc(ls, func(a, b Line) int { return cmp.Or(cmp.Compare(b.Oldest, a.Oldest), key(a, b)) })
	default:
		return false
	}
	return true
}
