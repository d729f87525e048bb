package zk

import "time"

// purge removes the nodes of absent members that were last written longer than Config.Retain before now, ms by the servers' clock,
// but for marks and bans. What fails, or somebody joins, is left for another join.
func (d *Driver) purge(group string, now int64) {
	at := d.cfg.Env.Clock.Now()
	d.mu.Lock()
	due := d.cfg.Retain > 0 && (d.purged.IsZero() || at.Sub(d.purged) >= time.Hour)
	if due {
		d.purged = at
	}
	d.mu.Unlock()
	if !due {
		return
	}
	path := d.groupPath(group)
	ids, _, err := d.conn.Children(path)
	for _, id := range ids {
		if err != nil {
			return
		}
		r, stat, e := d.load(path + "/" + id)
		if e != nil || r == nil || r.Banned || r.Mark != "" || stat.NumChildren > 0 || now-stat.Mtime <= d.cfg.Retain.Milliseconds() {
			continue
		}
		_ = d.conn.Delete(path+"/"+id, stat.Version) // refused if it has changed, or has an instance again
	}
}
