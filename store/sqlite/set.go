package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Set changes settings; see job.Store. It is strict by itself: one transaction writes at a time.
func (j jobs) Set(ctx context.Context, x store.Tx, set []job.Setting) ([]string, error) {
	t, err := j.s.of(x)
	if err != nil {
		return nil, err
	}
	for _, s := range set {
		q := `DELETE FROM drover_setting WHERE name = ?`
		if s.On {
			q = `INSERT INTO drover_setting (name) VALUES (?) ON CONFLICT DO NOTHING`
		}
		n, err := t.exec(ctx, q, s.Name)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			t.Hint(job.SettingsTopic)
		}
	}
	return t.settings(ctx)
}

// settings are the names of those that are on.
func (t *tx) settings(ctx context.Context) (on []string, err error) {
	err = t.each(ctx, `SELECT name FROM drover_setting WHERE name > '' ORDER BY name`, nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		on = append(on, name)
		return err
	})
	return on, err
}

// startable is what of a claim the settings that are on let start.
func startable(c job.Claim, on []string) job.Claim {
	if len(on) == 0 {
		return c
	}
	free := map[string]int{}
	for q, n := range c.Free {
		if !slices.Contains(on, job.Paused(q)) && (c.Seqs != nil || !slices.Contains(on, job.Maintenance)) {
			free[q] = n
		}
	}
	c.Free = free
	return c
}

// count is how many live jobs are in these states; by drover_job_ready, drover_job_line, drover_job_due, drover_job_running, or all
// live ones.
func (t *tx) count(ctx context.Context, states []job.State) (all []job.Count, err error) {
	for _, s := range slices.Compact(slices.Sorted(slices.Values(states))) {
		from := map[job.State]string{
			job.Ready:     `drover_job INDEXED BY drover_job_ready WHERE state = 'ready'`,
			job.Waiting:   `drover_job INDEXED BY drover_job_line WHERE line IS NOT NULL AND line = 0 AND state = 'waiting'`,
			job.Scheduled: `drover_job INDEXED BY drover_job_due WHERE state = 'scheduled'`,
			job.Running:   `drover_job INDEXED BY drover_job_running WHERE state = 'running'`,
			job.Parked:    `drover_job INDEXED BY drover_job_live WHERE ended IS NULL AND state = 'parked'`,
		}[s]
		if from == "" {
			continue
		}
		err := t.each(ctx, `SELECT queue, count(*), min(run_at) FROM `+from+` GROUP BY queue`, nil, func(scan func(...any) error) error {
			c := job.Count{State: s}
			var oldest sql.NullInt64
			err := scan(&c.Queue, &c.N, &oldest)
			c.Oldest = fromUS(oldest)
			all = append(all, c)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b job.Count) int { return strings.Compare(a.Queue, b.Queue) })
	return all, nil
}
