package zk

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/internal/stored"
)

// record is the data of a member's node, JSON.
type record struct {
	Drover      int               `json:"drover"` // 1: this is one of ours
	ID          string            `json:"id"`
	Instance    string            `json:"instance,omitempty"`
	Incarnation int64             `json:"incarnation,omitempty"`
	Addr        string            `json:"addr,omitempty"`
	Version     string            `json:"version,omitempty"`
	Meta        map[string]string `json:"meta,omitempty"`
	Health      stored.Health     `json:"health"`
	Joined      int64             `json:"joined,omitempty"` // ms, by the servers' clock
	Left        bool              `json:"left,omitempty"`
	Banned      bool              `json:"banned,omitempty"`
	Mark        string            `json:"mark,omitempty"`
}

func (r *record) tell(m servicegroup.Member) {
	r.Meta, r.Health = m.Meta, stored.HealthOf(m.Health)
}

// member is the record as Members answers it; alive is how many of its instances have a session.
func (r *record) member(group string, alive int32) servicegroup.Member {
	m := servicegroup.Member{
		Group: group, ID: r.ID, Addr: r.Addr, Version: r.Version, Incarnation: r.Incarnation, Instance: r.Instance, Meta: r.Meta,
		Mark: servicegroup.Mark(r.Mark), Health: r.Health.Health(),
	}
	if r.Incarnation > 0 {
		m.Joined = time.UnixMilli(r.Joined).UTC()
		m.Seen = m.Joined
	}
	switch {
	case r.Left:
		m.Age, m.State, m.Reason = servicegroup.Forever, servicegroup.Down, servicegroup.Left
	case alive == 0 && r.Incarnation > 0:
		m.Age, m.Lapsed = servicegroup.Forever, true
	}
	return m
}

// name makes a path component of any text.
func name(s string) string {
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

func (d *Driver) groupPath(group string) string { return d.cfg.Prefix + "/" + name(group) }

func (d *Driver) idPath(group, id string) string {
	return d.groupPath(group) + "/" + name(servicegroup.Fold(id))
}

// load answers the record at path, nil if there is none.
func (d *Driver) load(path string) (*record, *zk.Stat, error) {
	b, stat, err := d.conn.Get(path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil || r.Drover != 1 {
		return nil, stat, fmt.Errorf("%s is not a member's node", path)
	}
	return r, stat, nil
}

// create makes a persistent node and its parents; one that is there already is fine.
func (d *Driver) create(path string, data []byte) error {
	for try := 0; ; try++ {
		_, err := d.conn.Create(path, data, 0, zk.WorldACL(zk.PermAll))
		switch {
		case errors.Is(err, zk.ErrNodeExists):
			return nil
		case errors.Is(err, zk.ErrNoNode) && try < 10:
			parent := path[:strings.LastIndexByte(path, '/')]
			if parent == "" {
				return err
			}
			if err := d.create(parent, nil); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

const tries = 50 // of a compare-and-set

// update changes the record at path by compare-and-set, and makes one if there is none. change answers false to leave it.
func (d *Driver) update(path, id string, change func(r *record) bool) error {
	for range tries {
		r, stat, err := d.load(path)
		if err != nil {
			return err
		}
		missing := r == nil
		if missing {
			r = &record{Drover: 1, ID: id}
		}
		if !change(r) {
			return nil
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if len(b) > 64<<10 {
			return fmt.Errorf("record of %s has %d bytes, must be at most 64 KiB", id, len(b))
		}
		if missing {
			empty, _ := json.Marshal(record{Drover: 1, ID: id}) // plain fields always encode
			if err := d.create(path, empty); err != nil {
				return err
			}
			if stat, err = d.stat(path); err != nil {
				return err
			}
			if stat == nil || stat.Version != 0 {
				continue
			}
		}
		_, err = d.conn.Set(path, b, stat.Version)
		if err == nil || !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	return fmt.Errorf("%s changes all the time", path)
}

// stat is nil if there is no node. The library answers true with an error: look at that first.
func (d *Driver) stat(path string) (*zk.Stat, error) {
	ok, stat, err := d.conn.Exists(path)
	if err != nil || !ok {
		return nil, err
	}
	return stat, nil
}
