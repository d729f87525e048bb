// Package memory is the servicegroup driver for members in one process: tests, examples, and single-node programs.
//
// # Guarantees
//
// It keeps every obligation of [servicegroup.Driver], and all optional abilities. Ages are by Env.Clock.
//
// # Not guaranteed
//
// Anything after the process has ended, and of members silent for longer than [servicegroup.Retain].
package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// Driver is ready to use as its zero value.
type Driver struct {
	Env drover.Env // only Clock is used; nil means real time

	once   sync.Once
	mu     sync.Mutex
	purged time.Time // when silent members' records were last looked for
	rows   map[key]*row
	sleeps map[string][]chan struct{} // by group
}

// New makes a driver on real time.
func New() *Driver { return &Driver{} }

type key struct{ group, id string }

type row struct {
	servicegroup.Member
	present, left, banned bool
}

// lock answers the time of the clock.
func (d *Driver) lock() time.Time {
	d.once.Do(func() {
		d.Env = d.Env.Defaults()
		d.rows, d.sleeps = map[key]*row{}, map[string][]chan struct{}{}
	})
	now := d.Env.Clock.Now().Round(0).UTC()
	d.mu.Lock()
	return now
}

func keyOf(group, id string) key { return key{group, servicegroup.Fold(id)} }

// Join records m.
func (d *Driver) Join(ctx context.Context, m servicegroup.Member) (servicegroup.Member, error) {
	if err := ctx.Err(); err != nil {
		return m, fmt.Errorf("memory: %w", err)
	}
	now := d.lock()
	defer d.mu.Unlock()
	d.purge(now)
	r := d.row(m.Group, m.ID)
	switch {
	case r.banned:
		return m, fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
	case r.present && !r.left && r.Instance == m.Instance:
		return r.copy(now), nil
	}
	mark, incarnation := r.Mark, max(r.Incarnation, m.Incarnation)+1
	r.Member, r.present, r.left = m, true, false
	r.Mark, r.Incarnation, r.Beat, r.Joined, r.Seen = mark, incarnation, 1, now, now
	r.Meta = maps.Clone(m.Meta)
	d.hint(m.Group)
	return r.copy(now), nil
}

// purge removes what members left that are silent for longer than [servicegroup.Retain]. The caller holds mu.
func (d *Driver) purge(now time.Time) {
	if !d.purged.IsZero() && now.Sub(d.purged) < time.Hour {
		return
	}
	d.purged = now
	maps.DeleteFunc(d.rows, func(_ key, r *row) bool { return now.Sub(r.Seen) > servicegroup.Retain && !r.banned && r.Mark == "" })
}

// row is that of the ID; the caller holds mu.
func (d *Driver) row(group, id string) *row {
	k := keyOf(group, id)
	if d.rows[k] == nil {
		d.rows[k] = &row{Member: servicegroup.Member{Group: group, ID: id}}
	}
	return d.rows[k]
}

func (r *row) copy(now time.Time) servicegroup.Member {
	m := r.Member
	m.Meta, m.Age, m.State, m.Reason = maps.Clone(m.Meta), now.Sub(m.Seen), 0, ""
	switch {
	case !r.present:
		m.Incarnation = 0
	case r.left:
		m.State, m.Reason = servicegroup.Down, servicegroup.Left
	}
	return m
}

// own is the row of the incarnation m. The caller holds mu.
func (d *Driver) own(m servicegroup.Member) (*row, error) {
	r := d.rows[keyOf(m.Group, m.ID)]
	switch {
	case r != nil && r.banned:
		return nil, fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
	case r == nil || !r.present:
		return nil, fmt.Errorf("%w: %s in %s", servicegroup.ErrGone, m.ID, m.Group)
	case r.Instance != m.Instance || r.Incarnation != m.Incarnation:
		return nil, fmt.Errorf("%w: %s is incarnation %d now", servicegroup.ErrFenced, m.ID, r.Incarnation)
	case r.left:
		return nil, fmt.Errorf("%w: %s has left %s", servicegroup.ErrGone, m.ID, m.Group)
	}
	return r, nil
}

// Beat counts one.
func (d *Driver) Beat(ctx context.Context, m servicegroup.Member) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	now := d.lock()
	defer d.mu.Unlock()
	r, err := d.own(m)
	if err != nil {
		return err
	}
	if !maps.Equal(r.Meta, m.Meta) || r.Health.State != m.Health.State {
		d.hint(m.Group)
	}
	r.Beat++
	r.Seen, r.Health, r.Meta = now, m.Health, maps.Clone(m.Meta)
	return nil
}

// Leave marks the record left.
func (d *Driver) Leave(ctx context.Context, m servicegroup.Member) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	d.lock()
	defer d.mu.Unlock()
	if r, err := d.own(m); err == nil {
		r.left = true
		d.hint(m.Group)
	}
	return nil
}

// Members answers all records of the group, by ID.
func (d *Driver) Members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	now := d.lock()
	defer d.mu.Unlock()
	var all []servicegroup.Member
	for k, r := range d.rows {
		if k.group == group && (r.present || r.Mark != "") {
			all = append(all, r.copy(now))
		}
	}
	slices.SortFunc(all, func(a, b servicegroup.Member) int {
		return cmp.Compare(servicegroup.Fold(a.ID), servicegroup.Fold(b.ID))
	})
	return all, nil
}

// Watch hints each change that is not a mere beat.
func (d *Driver) Watch(ctx context.Context, group string) (<-chan struct{}, error) {
	c := make(chan struct{}, 1)
	d.lock()
	d.sleeps[group] = append(d.sleeps[group], c)
	d.mu.Unlock()
	context.AfterFunc(ctx, func() {
		d.lock()
		defer d.mu.Unlock()
		d.sleeps[group] = slices.DeleteFunc(d.sleeps[group], func(x chan struct{}) bool { return x == c })
	})
	return c, nil
}

// hint wakes the watchers of a group; the caller holds mu.
func (d *Driver) hint(group string) {
	for _, c := range d.sleeps[group] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Mark sets an operator's mark.
func (d *Driver) Mark(ctx context.Context, group, id string, m servicegroup.Mark) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	d.lock()
	defer d.mu.Unlock()
	d.row(group, id).Mark = m
	d.hint(group)
	return nil
}

// Forget removes a record; its incarnations rise on.
func (d *Driver) Forget(ctx context.Context, group, id string, ban bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	d.lock()
	defer d.mu.Unlock()
	r := d.row(group, id)
	r.present, r.banned, r.Mark = false, ban, ""
	d.hint(group)
	return nil
}

var _ interface {
	servicegroup.Driver
	servicegroup.Watcher
	servicegroup.Marker
	servicegroup.Forgetter
} = (*Driver)(nil)
