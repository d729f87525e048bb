package zk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/drover-cloud/drover/servicegroup"
)

const readers = 16 // requests under way while a group is read

// Join creates the instance's node, and then the record, which names the latest instance.
func (d *Driver) Join(ctx context.Context, m servicegroup.Member) (servicegroup.Member, error) {
	path := d.idPath(m.Group, m.ID)
	node := path + "/" + name(m.Instance)
	var out servicegroup.Member
	err := d.do(ctx, "join", func() error {
		r, _, err := d.load(path)
		if err != nil {
			return err
		}
		if r != nil && r.Banned {
			return fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
		}
		if err := d.update(path, m.ID, func(r *record) bool { return false }); err != nil {
			return err
		}
		stat, err := d.own(path, node)
		if err != nil {
			return err
		}
		banned := false
		err = d.update(path, m.ID, func(r *record) bool {
			if banned = r.Banned; banned || r.Incarnation > stat.Czxid || r.Incarnation == stat.Czxid && !r.Left {
				out = r.member(m.Group, 1)
				return false
			}
			*r = record{Drover: 1, ID: m.ID, Instance: m.Instance, Incarnation: stat.Czxid, Addr: m.Addr, Version: m.Version, Joined: stat.Ctime, Mark: r.Mark}
			r.tell(m)
			out = r.member(m.Group, 1)
			return true
		})
		if banned {
			return fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
		}
		if err == nil {
			d.purge(m.Group, stat.Ctime)
		}
		if err == nil && out.Incarnation != stat.Czxid { // another joined meanwhile: the next beat says so
			out = m
			out.Incarnation, out.Joined = stat.Czxid, time.UnixMilli(stat.Ctime).UTC()
		}
		out.Beat = 0
		return err
	})
	if err != nil {
		return m, err
	}
	d.remember(node, m)
	return out, nil
}

// own is the instance's ephemeral node in this session; one of an earlier session of ours is removed.
func (d *Driver) own(path, node string) (*zk.Stat, error) {
	for range tries {
		stat, err := d.stat(node)
		if err != nil {
			return nil, err
		}
		if stat != nil && stat.EphemeralOwner == d.conn.SessionID() {
			return stat, nil
		}
		if stat != nil {
			if err := d.conn.Delete(node, stat.Version); err != nil && !errors.Is(err, zk.ErrNoNode) {
				return nil, err
			}
		}
		_, err = d.conn.Create(node, nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
		switch {
		case errors.Is(err, zk.ErrNoNode): // forgotten meanwhile
			if err := d.create(path, []byte(`{"drover":1}`)); err != nil {
				return nil, err
			}
		case err != nil && !errors.Is(err, zk.ErrNodeExists):
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s cannot be created", node)
}

// told is what a beat would write of m, with the day: it writes once a day at least.
func (d *Driver) told(m servicegroup.Member) string {
	var r record
	r.tell(m)
	r.Joined = d.cfg.Env.Clock.Now().Unix() / (24 * 3600)
	b, _ := json.Marshal(r) // text and a time always encode
	return string(b)
}

func (d *Driver) remember(node string, m servicegroup.Member) {
	d.mu.Lock()
	d.written[node] = d.told(m)
	d.mu.Unlock()
}

// Beat checks that the node and the session live; it writes only what has changed.
func (d *Driver) Beat(ctx context.Context, m servicegroup.Member) error {
	path := d.idPath(m.Group, m.ID)
	node := path + "/" + name(m.Instance)
	return d.do(ctx, "beat", func() error {
		stat, err := d.stat(node)
		if err != nil {
			return err
		}
		r, _, err := d.load(path)
		switch {
		case err != nil:
			return err
		case r != nil && r.Banned:
			return fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
		case r != nil && r.Incarnation > m.Incarnation:
			if stat != nil {
				_ = d.conn.Delete(node, stat.Version)
			}
			return fmt.Errorf("%w: %s is incarnation %d now", servicegroup.ErrFenced, m.ID, r.Incarnation)
		case r == nil, stat == nil, stat.Czxid != m.Incarnation, stat.EphemeralOwner != d.conn.SessionID():
			return fmt.Errorf("%w: %s in %s: its session has ended", servicegroup.ErrGone, m.ID, m.Group)
		}
		d.mu.Lock()
		same := d.written[node] == d.told(m)
		d.mu.Unlock()
		if same {
			return nil
		}
		err = d.update(path, m.ID, func(r *record) bool {
			if r.Incarnation != m.Incarnation {
				return false
			}
			r.tell(m)
			return true
		})
		if err == nil {
			d.remember(node, m)
		}
		return err
	})
}

// Leave says so in the record and deletes the node, at once.
func (d *Driver) Leave(ctx context.Context, m servicegroup.Member) error {
	path := d.idPath(m.Group, m.ID)
	node := path + "/" + name(m.Instance)
	d.mu.Lock()
	delete(d.written, node)
	d.mu.Unlock()
	return d.do(ctx, "leave", func() error {
		r, _, err := d.load(path)
		if err == nil && r != nil {
			err = d.update(path, m.ID, func(r *record) bool {
				if r.Incarnation != m.Incarnation || r.Left {
					return false
				}
				r.Left = true
				return true
			})
		}
		if err != nil {
			return err
		}
		if err := d.conn.Delete(node, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		return nil
	})
}

// Members reads the group: one request, and one for each member.
func (d *Driver) Members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	var all []servicegroup.Member
	err := d.do(ctx, "members", func() (err error) { all, err = d.members(ctx, group); return err })
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (d *Driver) members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	path := d.groupPath(group)
	watch := d.watched(group)
	ids, err := d.children(path, watch)
	if errors.Is(err, zk.ErrNoNode) {
		if !watch {
			return nil, nil
		}
		if err = d.create(path, nil); err == nil { // to have something to watch
			ids, err = d.children(path, watch)
		}
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	found := make([]servicegroup.Member, len(ids))
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for w := range min(readers, len(ids)) {
		wg.Add(1)
		d.cfg.Env.Go(fmt.Sprintf("servicegroup/zk/reader/%d", w), func() {
			defer wg.Done()
			for i := w; i < len(ids) && ctx.Err() == nil; i += readers {
				found[i], errs[i] = d.member(group, path+"/"+ids[i], watch)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(m servicegroup.Member) bool { return m.ID == "" }), nil
}

// watched: somebody wants hints about the group.
func (d *Driver) watched(group string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sleeps[group]) > 0
}

// arm tells whether a watch is to be set, and notes that it is.
func (d *Driver) arm(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed[key] {
		return false
	}
	d.armed[key] = true
	return true
}

func (d *Driver) disarm(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.armed, key)
}

func (d *Driver) children(path string, watch bool) (names []string, err error) {
	if !watch || !d.arm("c"+path) {
		names, _, err = d.conn.Children(path)
		return names, err
	}
	names, _, _, err = d.conn.ChildrenW(path)
	if err != nil {
		d.disarm("c" + path)
	}
	return names, err
}

// member reads one; the zero Member is no member.
func (d *Driver) member(group, path string, watch bool) (m servicegroup.Member, err error) {
	if watch && d.arm("c"+path) { // its instances; the record is read after that watch is set
		if _, _, _, err := d.conn.ChildrenW(path); err != nil {
			d.disarm("c" + path)
			if errors.Is(err, zk.ErrNoNode) {
				return m, nil
			}
			return m, err
		}
	}
	var b []byte
	var stat *zk.Stat
	if watch && d.arm("d"+path) {
		if b, stat, _, err = d.conn.GetW(path); err != nil {
			d.disarm("d" + path)
		}
	} else {
		b, stat, err = d.conn.Get(path)
	}
	if errors.Is(err, zk.ErrNoNode) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	var r record
	if json.Unmarshal(b, &r) != nil || r.Drover != 1 {
		d.foreign(path)
		return m, nil //nolint:nilerr // not drover's: told, and left alone
	}
	if r.ID == "" || r.Incarnation == 0 && r.Mark == "" {
		return m, nil
	}
	return r.member(group, stat.NumChildren), nil
}

// foreign logs the first node under the prefix that is not ours.
func (d *Driver) foreign(path string) {
	d.mu.Lock()
	first := !d.strange
	d.strange = true
	d.mu.Unlock()
	if first {
		d.cfg.Env.Logger.Warn("zk: foreign nodes under the prefix are ignored", "path", path)
	}
}

// Mark sets an operator's mark.
func (d *Driver) Mark(ctx context.Context, group, id string, m servicegroup.Mark) error {
	return d.do(ctx, "mark", func() error {
		return d.update(d.idPath(group, id), id, func(r *record) bool { r.Mark = string(m); return true })
	})
}

// Forget removes the nodes; those of a banned ID stay, to say so.
func (d *Driver) Forget(ctx context.Context, group, id string, ban bool) error {
	path := d.idPath(group, id)
	return d.do(ctx, "forget", func() error {
		if ban {
			err := d.update(path, id, func(r *record) bool { *r = record{Drover: 1, ID: r.ID, Banned: true}; return true })
			if err != nil {
				return err
			}
		}
		for range tries {
			names, _, err := d.conn.Children(path)
			for _, n := range names {
				if e := d.conn.Delete(path+"/"+n, -1); e != nil && !errors.Is(e, zk.ErrNoNode) {
					return e
				}
			}
			if err == nil && !ban {
				err = d.conn.Delete(path, -1)
			}
			if !errors.Is(err, zk.ErrNotEmpty) {
				if errors.Is(err, zk.ErrNoNode) {
					err = nil
				}
				return err
			}
		}
		return fmt.Errorf("%s is joined again and again", strings.TrimPrefix(path, d.cfg.Prefix))
	})
}
