package conductor

import (
	"bytes"
	"container/list"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/drover-cloud/drover/store"
)

const maxCopies = 10_000

// copies are rows as this client has read or saved them last, so that a save sends what has changed. It forgets the one used
// longest ago.
type copies struct {
	mu    sync.Mutex
	by    map[string]*list.Element
	order list.List // of *kept, the latest first
	saved func(bytes int)
}

type kept struct {
	key string
	row any
}

func (c *copies) get(key string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept).row
}

func (c *copies) put(key string, row any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]*list.Element{}
	}
	if e := c.by[key]; e != nil {
		e.Value.(*kept).row = row
		c.order.MoveToFront(e)
		return
	}
	c.by[key] = c.order.PushFront(&kept{key, row})
	if c.order.Len() > maxCopies {
		last := c.order.Back()
		delete(c.by, last.Value.(*kept).key)
		c.order.Remove(last)
	}
}

func (c *copies) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by)
}

// keep takes over what a result shows of a row. What is kept shares nothing with the caller's.
func (c *copies) keep(m *method, r any) {
	if m.keep == nil || r == nil {
		return
	}
	key, row := m.keep(r)
	if raw, err := encode(row); err == nil {
		c.put(m.store+"/"+key, raw)
	}
}

// diff fills in what e sends: what has changed since the row was read, or all of it.
func (c *copies) diff(e *entry) error {
	raw, err := encode(e.a)
	if err != nil {
		return err
	}
	s := e.m.save
	key, version := s.key(e.a), s.version(e.a)
	old, _ := c.get(e.m.store + "/" + key).(json.RawMessage)
	if old == nil {
		e.raw = raw
		return nil
	}
	was, err := e.m.args(old, false)
	if err != nil || s.version(was) != version {
		e.raw = raw
		return nil //nolint:nilerr // a copy that cannot be read is none
	}
	e.save = &diff{Key: key, Version: version}
	if err := e.save.between(old, raw); err != nil {
		return err
	}
	if c.saved != nil {
		small, _ := json.Marshal(e.save)
		c.saved(max(0, len(raw)-len(small)))
	}
	return nil
}

// row is the copy, as the result of m.
func (c *copies) row(m *method, key string) any {
	raw, _ := c.get(m.store + "/" + key).(json.RawMessage)
	r, err := m.result(raw)
	if err != nil {
		return nil
	}
	return r
}

// patch makes the server's row of the one that was saved.
func (c *copies) patch(e *entry, d *diff) (any, error) {
	raw, err := encode(e.a)
	if err != nil {
		return nil, err
	}
	if raw, err = d.apply(raw); err != nil {
		return nil, err
	}
	return e.m.result(raw)
}

// between is what makes the struct b of the struct a, both encoded.
func (d *diff) between(a, b json.RawMessage) error {
	var was, is map[string]json.RawMessage
	if err := json.Unmarshal(a, &was); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &is); err != nil {
		return err
	}
	d.Set = map[string]json.RawMessage{}
	for _, f := range sorted(is) {
		if !bytes.Equal(was[f], is[f]) {
			d.Set[f] = is[f]
		}
	}
	for _, f := range sorted(was) {
		if is[f] == nil {
			d.Unset = append(d.Unset, f)
		}
	}
	return nil
}

// apply is the encoded struct with d's fields.
func (d *diff) apply(raw json.RawMessage) (json.RawMessage, error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return nil, fmt.Errorf("%w: a diff of no row", errInvalid)
	}
	if parts == nil {
		parts = map[string]json.RawMessage{}
	}
	for f, v := range d.Set { // each for itself
		parts[f] = v
	}
	for _, f := range d.Unset {
		delete(parts, f)
	}
	return json.Marshal(parts)
}

// stale says that the row is not the one the client has read.
func (d *diff) stale(version int64) error {
	if version == d.Version {
		return nil
	}
	return fmt.Errorf("conductor: %s is at version %d, not %d: %w", d.Key, version, d.Version, store.ErrConflict)
}
