package memcached

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"syscall"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/drover-cloud/drover/internal/chance"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/internal/stored"
)

// record is the value of a member's key, JSON.
type record struct {
	ID          string            `json:"id"`
	Instance    string            `json:"instance"`
	Incarnation int64             `json:"incarnation"`
	Beat        int64             `json:"beat"`
	Addr        string            `json:"addr,omitempty"`
	Version     string            `json:"version,omitempty"`
	Meta        map[string]string `json:"meta,omitempty"`
	Health      stored.Health     `json:"health"`
	Joined      time.Time         `json:"joined"`
	Seen        time.Time         `json:"seen"`
	Left        bool              `json:"left,omitempty"`
}

func (r *record) tell(m servicegroup.Member) {
	r.Meta, r.Health = m.Meta, stored.HealthOf(m.Health)
}

func (r *record) member(group string) servicegroup.Member {
	m := servicegroup.Member{
		Group: group, ID: r.ID, Addr: r.Addr, Version: r.Version, Incarnation: r.Incarnation, Instance: r.Instance, Meta: r.Meta,
		Beat: r.Beat, Joined: r.Joined, Seen: r.Seen,
		Health: r.Health.Health(),
	}
	if r.Left {
		m.State, m.Reason = servicegroup.Down, servicegroup.Left
	}
	return m
}

// entry of a group's index.
type entry struct {
	ID          string `json:"id"`
	Incarnation int64  `json:"incarnation"`
	At          int64  `json:"at,omitempty"` // when it joined, s
}

// name makes a key of at most 250 bytes without spaces; a longer one is hashed.
func name(prefix string, parts ...string) string {
	k := prefix
	for _, p := range parts {
		k += ":" + url.PathEscape(p)
	}
	if len(k) > 250 {
		sum := sha256.Sum256([]byte(k))
		k = prefix + ":#" + hex.EncodeToString(sum[:])
	}
	return k
}

func key(group, id string) string { return name("drover", group, servicegroup.Fold(id)) }
func counter(group, id string) string {
	return name("drover-incarnation", group, servicegroup.Fold(id))
}
func index(group string) string { return name("drover-index", group) }

// try runs one operation, once more where the server had closed an idle connection.
func (d *Driver) try(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return unavailable(context.Cause(ctx))
	}
	err := f()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		err = f()
	}
	switch {
	case err == nil, errors.Is(err, memcache.ErrCacheMiss), errors.Is(err, memcache.ErrCASConflict), errors.Is(err, memcache.ErrNotStored):
		return err
	}
	return unavailable(err)
}

func unavailable(err error) error {
	return fmt.Errorf("%w: memcached: %w", servicegroup.ErrUnavailable, err)
}

const tries = 200 // of a compare-and-set

// change reads a key and writes what f makes of it, by compare-and-set. f gets nil for a miss, and answers nil to write nothing.
func (d *Driver) change(ctx context.Context, k string, ttl int32, f func(old []byte) ([]byte, error)) error {
	for i := range tries {
		var item *memcache.Item
		err := d.try(ctx, func() (err error) { item, err = d.c.Get(k); return err })
		var old []byte
		switch {
		case errors.Is(err, memcache.ErrCacheMiss):
			item = nil
		case err != nil:
			return err
		default:
			old = item.Value
		}
		b, err := f(old)
		if err != nil || b == nil {
			return err
		}
		err = d.try(ctx, func() error {
			if item == nil {
				return d.c.Add(&memcache.Item{Key: k, Value: b, Expiration: ttl})
			}
			item.Value, item.Expiration = b, ttl
			return d.c.CompareAndSwap(item)
		})
		if !errors.Is(err, memcache.ErrCASConflict) && !errors.Is(err, memcache.ErrNotStored) && !errors.Is(err, memcache.ErrCacheMiss) {
			return err
		}
		if err := d.cfg.Env.Sleep(ctx, time.Duration(chance.Unit(d.cfg.Env.Rand)*float64(min(i+1, 10))*float64(time.Millisecond))); err != nil {
			return unavailable(err)
		}
	}
	return unavailable(fmt.Errorf("%s changes all the time", k))
}

// index changes the list of a group's members; f answers false to leave it.
func (d *Driver) index(ctx context.Context, group string, f func(ids map[string]entry) bool) error {
	return d.change(ctx, index(group), 0, func(old []byte) ([]byte, error) {
		ids, err := decodeIndex(old)
		if err != nil || !f(ids) {
			return nil, err
		}
		return json.Marshal(ids)
	})
}

func decodeIndex(b []byte) (map[string]entry, error) {
	ids := map[string]entry{}
	if b == nil {
		return ids, nil
	}
	if err := json.Unmarshal(b, &ids); err != nil {
		return nil, unavailable(fmt.Errorf("index: %w", err))
	}
	return ids, nil
}

func decode(b []byte) (r record, err error) {
	if err = json.Unmarshal(b, &r); err != nil {
		err = unavailable(fmt.Errorf("record: %w", err))
	}
	return r, err
}
