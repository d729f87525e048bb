package memcached

import (
	"context"
	"errors"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// absent gives the entries of a group's index that joined longer than Config.Retain ago and have no key: once an hour. What fails
// is left for another join.
func (d *Driver) absent(ctx context.Context, group string) map[string]entry {
	now := d.now()
	d.mu.Lock()
	due := d.cfg.Retain > 0 && (d.purged.IsZero() || now.Sub(d.purged) >= time.Hour)
	if due {
		d.purged = now
	}
	d.mu.Unlock()
	var item *memcache.Item
	if !due || d.try(ctx, func() (err error) { item, err = d.c.Get(index(group)); return err }) != nil {
		return nil
	}
	ids, err := decodeIndex(item.Value)
	if err != nil {
		return nil
	}
	gone := map[string]entry{}
	for id, e := range ids {
		if now.Sub(time.Unix(e.At, 0)) <= d.cfg.Retain {
			continue
		}
		err := d.try(ctx, func() error { _, err := d.c.Get(key(group, e.ID)); return err })
		if errors.Is(err, memcache.ErrCacheMiss) {
			gone[id] = e
		}
	}
	return gone
}
