package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

const (
	// halted is true of a queue, text, from which nothing starts but what a claim asks for by name; stopped, from which nothing does.
	halted  = `EXISTS (SELECT 1 FROM @setting WHERE name IN ('` + job.Maintenance + `', 'paused/' || `
	stopped = `EXISTS (SELECT 1 FROM @setting WHERE name IN ('paused/' || `

	sqlSetOn  = `INSERT INTO @setting (name) VALUES ($1) ON CONFLICT DO NOTHING`
	sqlSetOff = `DELETE FROM @setting WHERE name = $1`
)

// Set lets what had begun to start jobs end before its InTx returns: that holds its session's row until its commit.
func (j jobs) Set(ctx context.Context, x store.Tx, set []job.Setting) (on []string, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return nil, err
	}
	forbids := false
	for _, s := range set {
		q := sqlSetOff
		if s.On {
			q = sqlSetOn
		}
		n, err := t.exec(ctx, q, s.Name)
		if err != nil {
			return nil, fmt.Errorf("postgres: set: %w", err)
		}
		if n > 0 {
			t.Hint(job.SettingsTopic)
			forbids = forbids || s.On
		}
	}
	err = t.only(ctx, `SELECT name FROM @setting ORDER BY name`, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		on = append(on, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: settings: %w", err)
	}
	if forbids {
		t.later = append(t.later, t.s.outwait)
	}
	return on, nil
}

// outwait lets claims under way end, one session after the other: who held several rows could deadlock with them.
func (s *Store) outwait(ctx context.Context) error {
	var live []int64
	err := s.apart(ctx, func(ctx context.Context, x store.Tx) error {
		return x.(*tx).query(ctx, `SELECT epoch FROM @session WHERE NOT dead ORDER BY epoch`, func(scan func(...any) error) error {
			var e int64
			err := scan(&e)
			live = append(live, e)
			return err
		})
	})
	for _, e := range live {
		if err != nil {
			break
		}
		err = s.apart(ctx, func(ctx context.Context, x store.Tx) error {
			_, err := x.(*tx).exec(ctx, `SELECT 1 FROM @session WHERE epoch = $1 FOR UPDATE`, e)
			return err
		})
	}
	return err
}

// countSources: of ready and waiting jobs by drover_pend_ready and drover_pend_line; running ones are few; the others, all of
// drover_pend.
var countSources = map[job.State]string{
	job.Ready:     `SELECT queue, 'ready', count(*), min(run_at) FROM @pend WHERE mode < 2 AND mode IN (-1, 0) GROUP BY queue`,
	job.Waiting:   `SELECT queue, 'waiting', count(*), min(run_at) FROM @pend WHERE mode IN (1, 2) GROUP BY queue`,
	job.Scheduled: `SELECT queue, 'scheduled', count(*), min(run_at) FROM @pend WHERE mode = 3 GROUP BY queue`,
	job.Parked:    `SELECT queue, 'parked', count(*), min(run_at) FROM @pend WHERE mode = 5 GROUP BY queue`,
	job.Running: `SELECT j.queue, 'running', count(*), min(coalesce(a.run_at, j.run_at)) FROM @active a
CROSS JOIN LATERAL (SELECT queue, run_at FROM @job WHERE @job.id = a.id OFFSET 0) j WHERE a.session IS NOT NULL GROUP BY j.queue`,
}

// counts is one statement on one snapshot.
func (t *tx) counts(ctx context.Context, states []job.State) (all []job.Count, err error) {
	var parts []string
	for _, s := range slices.Compact(slices.Sorted(slices.Values(states))) {
		if q := countSources[s]; q != "" {
			parts = append(parts, q)
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	err = t.only(ctx, strings.Join(parts, "\nUNION ALL\n")+"\nORDER BY 1, 2", func(scan func(...any) error) error {
		var c job.Count
		err := scan(&c.Queue, &c.State, &c.N, &c.Oldest)
		c.Oldest = c.Oldest.UTC()
		all = append(all, c)
		return err
	})
	return all, err
}
