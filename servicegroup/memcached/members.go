package memcached

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/drover-cloud/drover/servicegroup"
)

func (d *Driver) now() time.Time { return d.cfg.Env.Clock.Now().Round(0).UTC() }

// Join draws an incarnation, writes the key and enters it into the index.
func (d *Driver) Join(ctx context.Context, m servicegroup.Member) (servicegroup.Member, error) {
	var again record
	err := d.read(ctx, m, func(r record) { again = r })
	if err != nil {
		return m, err
	}
	if again.Instance == m.Instance && !again.Left && again.Incarnation > 0 {
		return d.joined(m, again), d.enter(ctx, m, again.Incarnation)
	}
	incarnation, err := d.draw(ctx, m)
	if err != nil {
		return m, err
	}
	now := d.now()
	r := record{ID: m.ID, Instance: m.Instance, Incarnation: incarnation, Beat: 1, Addr: m.Addr, Version: m.Version, Joined: now, Seen: now}
	r.tell(m)
	err = d.change(ctx, key(m.Group, m.ID), d.ttl, func(old []byte) ([]byte, error) {
		if old != nil {
			if was, err := decode(old); err != nil || was.Incarnation > incarnation { // the next beat says so
				return nil, err
			}
		}
		return json.Marshal(r)
	})
	if err != nil {
		return m, err
	}
	return d.joined(m, r), d.enter(ctx, m, incarnation)
}

func (d *Driver) joined(m servicegroup.Member, r record) servicegroup.Member {
	m.Incarnation, m.Beat, m.Joined, m.Seen = r.Incarnation, r.Beat, r.Joined, r.Seen
	return m
}

// draw is the next incarnation. One that the server has forgotten starts at the time in ms.
func (d *Driver) draw(ctx context.Context, m servicegroup.Member) (n int64, err error) {
	err = d.change(ctx, counter(m.Group, m.ID), maxTTL, func(old []byte) ([]byte, error) {
		n = d.cfg.Env.Clock.Now().UnixMilli()
		if old != nil {
			if n, err = strconv.ParseInt(strings.TrimSpace(string(old)), 10, 64); err != nil {
				return nil, unavailable(fmt.Errorf("counter: %w", err))
			}
		}
		n = max(n, m.Incarnation) + 1
		return strconv.AppendInt(nil, n, 10), nil
	})
	return n, err
}

// enter writes the member into the index.
func (d *Driver) enter(ctx context.Context, m servicegroup.Member, incarnation int64) error {
	gone := d.absent(ctx, m.Group)
	return d.index(ctx, m.Group, func(ids map[string]entry) bool {
		was := len(ids)
		for key, e := range gone {
			if ids[key] == e {
				delete(ids, key)
			}
		}
		e := entry{m.ID, incarnation, d.now().Unix()}
		if old, ok := ids[servicegroup.Fold(m.ID)]; ok && old.Incarnation >= incarnation {
			return len(ids) != was
		}
		ids[servicegroup.Fold(m.ID)] = e
		return true
	})
}

// read calls f with the record, if there is one.
func (d *Driver) read(ctx context.Context, m servicegroup.Member, f func(r record)) error {
	return d.change(ctx, key(m.Group, m.ID), d.ttl, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, nil
		}
		r, err := decode(old)
		if err == nil {
			f(r)
		}
		return nil, err
	})
}

// Beat renews the key.
func (d *Driver) Beat(ctx context.Context, m servicegroup.Member) error {
	return d.change(ctx, key(m.Group, m.ID), d.ttl, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, fmt.Errorf("%w: %s in %s", servicegroup.ErrGone, m.ID, m.Group)
		}
		r, err := decode(old)
		switch {
		case err != nil:
			return nil, err
		case r.Incarnation != m.Incarnation || r.Instance != m.Instance:
			return nil, fmt.Errorf("%w: %s is incarnation %d now", servicegroup.ErrFenced, m.ID, r.Incarnation)
		case r.Left:
			return nil, fmt.Errorf("%w: %s has left %s", servicegroup.ErrGone, m.ID, m.Group)
		}
		r.Beat++
		r.Seen = d.now()
		r.tell(m)
		return json.Marshal(r)
	})
}

// Leave writes into the key that the member has left, and lets it expire, so that watchers can tell that from a crash.
func (d *Driver) Leave(ctx context.Context, m servicegroup.Member) error {
	return d.change(ctx, key(m.Group, m.ID), d.ttl, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, nil
		}
		r, err := decode(old)
		if err != nil || r.Incarnation != m.Incarnation || r.Instance != m.Instance || r.Left {
			return nil, err
		}
		r.Left = true
		return json.Marshal(r)
	})
}

// Members reads the index, and all its keys at once.
func (d *Driver) Members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	var ids map[string]entry
	var item *memcache.Item
	err := d.try(ctx, func() (err error) { item, err = d.c.Get(index(group)); return err })
	switch {
	case errors.Is(err, memcache.ErrCacheMiss):
	case err != nil:
		return nil, err
	default:
		if ids, err = decodeIndex(item.Value); err != nil {
			return nil, err
		}
	}
	keys := make([]string, 0, len(ids))
	for _, e := range ids {
		keys = append(keys, key(group, e.ID))
	}
	slices.Sort(keys)
	items := map[string]*memcache.Item{}
	if len(keys) > 0 {
		if err := d.try(ctx, func() (err error) { items, err = d.c.GetMulti(keys); return err }); err != nil {
			return nil, err
		}
	}
	all := make([]servicegroup.Member, 0, len(ids))
	for _, e := range ids {
		m := servicegroup.Member{Group: group, ID: e.ID, Incarnation: e.Incarnation, Age: servicegroup.Forever}
		if item := items[key(group, e.ID)]; item != nil {
			r, err := decode(item.Value)
			if err != nil {
				return nil, err
			}
			m = r.member(group)
		}
		all = append(all, m)
	}
	if err := d.marked(ctx, group, &all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b servicegroup.Member) int {
		return strings.Compare(servicegroup.Fold(a.ID), servicegroup.Fold(b.ID))
	})
	return all, nil
}

// marked adds the marks that are kept elsewhere.
func (d *Driver) marked(ctx context.Context, group string, all *[]servicegroup.Member) error {
	if d.cfg.Marks == nil {
		return nil
	}
	kept, err := d.cfg.Marks.Members(ctx, group)
	if err != nil {
		return err
	}
	at := make(map[string]int, len(*all))
	for i, m := range *all {
		at[servicegroup.Fold(m.ID)] = i
	}
	for _, k := range kept {
		if i, ok := at[servicegroup.Fold(k.ID)]; ok {
			(*all)[i].Mark = k.Mark
		} else if k.Mark != "" {
			*all = append(*all, servicegroup.Member{Group: group, ID: k.ID, Mark: k.Mark})
		}
	}
	return nil
}
