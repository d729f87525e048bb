package job

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/lease"
)

const (
	reportPause = 10 * time.Second // between looks at who handles what
	reportLines = 20
)

// reporter is what the one node that reports for the cluster knows; guarded by Manager.mu.
type reporter struct {
	looked, told time.Time
	cost         time.Duration        // of the last look
	unhandled    map[[2]string]int    // by kind and queue
	logged       map[string]time.Time // kinds
}

// report looks, on one node of the cluster, for jobs that nobody handles, and once per Config.ReportAfter for all that do not get
// on.
func (m *Manager) report(ctx context.Context) error {
	now := m.env.Clock.Now()
	m.mu.Lock()
	r := &m.reporter
	if r.looked.IsZero() {
		r.looked, r.told = now, now
	}
	look, tell := now.Sub(r.looked) >= max(reportPause, 50*r.cost), now.Sub(r.told) >= m.cfg.ReportAfter
	if look {
		r.looked = now
	}
	if tell {
		r.told = now
	}
	token := m.bound.token
	m.mu.Unlock()
	if !look {
		return nil
	}
	infos, err := m.session.List(ctx)
	if err != nil {
		return err
	}
	if !reports(infos, token) {
		m.noteUnhandled(now, nil)
		return nil
	}
	rows, err := m.unhandled(ctx, infos, dueBatch)
	if err != nil {
		return err
	}
	m.mu.Lock()
	r.cost = m.env.Clock.Now().Sub(now) // long where an old snapshot keeps the entries of what is gone
	m.mu.Unlock()
	m.noteUnhandled(now, rows)
	if !tell {
		return nil
	}
	list, err := m.blockedJobs(ctx)
	if err != nil || len(list) == 0 {
		return err
	}
	m.log.Warn("jobs blocked", "n", len(list))
	for i := range list[:min(len(list), reportLines)] {
		m.log.Warn("job blocked", list[i].attrs()...)
	}
	return nil
}

// reports says that token's is the first of the live sessions, which speaks for all.
func reports(infos []lease.Info, token lease.Token) bool {
	for _, i := range infos { // by name
		if !i.Named && i.State != lease.Dead {
			return i.Holder == token
		}
	}
	return false
}

// noteUnhandled keeps the numbers for the meters, and tells of each kind once per Config.ReportAfter.
func (m *Manager) noteUnhandled(now time.Time, rows []Row) {
	n := map[[2]string]int{}
	for i := range rows {
		n[[2]string{rows[i].Kind, rows[i].Queue}]++
	}
	var tell []*Row
	m.mu.Lock()
	m.reporter.unhandled = n
	if m.reporter.logged == nil || len(rows) == 0 {
		m.reporter.logged = map[string]time.Time{}
	}
	for i := range rows {
		k := rows[i].Kind
		if at, ok := m.reporter.logged[k]; !ok || now.Sub(at) >= m.cfg.ReportAfter {
			m.reporter.logged[k] = now
			tell = append(tell, &rows[i])
		}
	}
	m.mu.Unlock()
	for _, r := range tell {
		m.log.Warn("job unhandled: no live node handles its kind", "kind", r.Kind, "queue", r.Queue, "job", r.ID, "since", r.RunAt)
	}
}
