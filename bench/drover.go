package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/syncqueue"
)

// conns is the size of every contestant's pool.
const conns = 20

// args is the trivial job on drover's side.
type args struct {
	Num int `json:"num"`
}

// work is a handler.
type work func(ctx context.Context, num int) error

func noWork(context.Context, int) error { return nil }

// droverSide is drover on a fresh database.
type droverSide struct {
	db    *bun.DB
	store *postgres.Store
	jobs  *job.Manager
	done  sync.WaitGroup
	stop  context.CancelFunc
	err   error
}

// tuned matches River's benchmark settings: 2 000 workers, larger batches.
func tuned(c *job.Config) {
	c.Queues = map[string]int{"default": 2_000}
	c.ClaimBatch, c.FinishBatch = 1_000, 1_000
}

func submitOnly(c *job.Config) { c.Queues = map[string]int{} }

func workers(n int) func(*job.Config) {
	return func(c *job.Config) { c.Queues = map[string]int{"default": n} }
}

func openDrover(ctx context.Context, dsn string) (*droverSide, error) {
	db, err := postgres.Open(dsn, conns)
	if err != nil {
		return nil, err
	}
	st := postgres.New(db, postgres.Config{})
	if err := st.Migrate(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &droverSide{db: db, store: st}, nil
}

func newDrover(ctx context.Context, dsn string, w work, tune ...func(*job.Config)) (*droverSide, error) {
	d, err := openDrover(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := d.manage(w, tune...); err != nil {
		return nil, errors.Join(err, d.db.Close())
	}
	return d, nil
}

// manage gives the side a manager.
func (d *droverSide) manage(w work, tune ...func(*job.Config)) (err error) {
	jc := job.Config{DB: d.store}
	for _, t := range tune {
		t(&jc)
	}
	if d.jobs, err = job.New(jc); err != nil {
		return err
	}
	job.Handle(d.jobs, "bench", func(ctx context.Context, a args) (struct{}, error) { return struct{}{}, w(ctx, a.Num) }, job.Timeout(job.NoTimeout))
	return nil
}

// start runs the manager; finish stops it after what runs is stored.
func (d *droverSide) start(ctx context.Context) {
	ctx, d.stop = context.WithCancel(ctx)
	d.done.Go(func() { d.err = d.jobs.Run(ctx) })
}

func (d *droverSide) finish() error {
	if d.stop != nil {
		d.stop()
		d.done.Wait()
	}
	return d.err
}

// close ends what still runs, too.
func (d *droverSide) close() {
	_ = d.finish()
	d.db.Close()
}

// fill submits n jobs in batches of 10 000; shape, if not nil, is asked about each.
func (d *droverSide) fill(ctx context.Context, n int, shape func(i int, r *job.Request)) error {
	for at := 0; at < n; at += 10_000 {
		rs := make([]job.Request, min(10_000, n-at))
		for i := range rs {
			rs[i] = job.Request{Kind: "bench", Args: args{at + i}}
			if shape != nil {
				shape(at+i, &rs[i])
			}
		}
		if _, err := d.jobs.SubmitMany(ctx, rs); err != nil {
			return err
		}
	}
	return vacuum(ctx, d.db.DB)
}

// vacuum leaves what was loaded as autovacuum would, so that it does not come in the middle of a measurement.
func vacuum(ctx context.Context, db *sql.DB) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "SET statement_timeout = 0"); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "VACUUM ANALYZE"); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "RESET statement_timeout")
	return err
}

// distinct gives job i the key i % n.
func distinct(n int) func(int, *job.Request) {
	return func(i int, r *job.Request) { r.Sync = syncqueue.Key{Kind: "k", ID: fmt.Sprint(i % n)} }
}

// succeeded checks that every job succeeded, once: a rate of lost jobs is none.
func (d *droverSide) succeeded(ctx context.Context, n int) error {
	stored, bad := 0, 0
	for j, err := range d.jobs.List(ctx, job.Query{States: []job.State{job.Failed, job.Cancelled}, Limit: 10}) {
		if err != nil {
			return err
		}
		if bad++; bad == 1 {
			return fmt.Errorf("job %s is %s: %v", j.ID, j.State, j.Error)
		}
	}
	if err := d.db.QueryRowContext(ctx, "SELECT count(*) FROM drover_done").Scan(&stored); err != nil {
		return err
	}
	if stored != n {
		return fmt.Errorf("%d of %d jobs are stored as done", stored, n)
	}
	return nil
}

// backlog is waiting jobs that one node works off.
type backlog struct {
	n     int
	shape func(i int, r *job.Request)
	work  work                                           // default: nothing
	tune  func(*job.Config)                              // default: none
	there func(ctx context.Context, d *droverSide) error // makes what is there before
	after func(ctx context.Context, d *droverSide) error // looks at what is there afterwards; default: all n succeeded
}

// side measures jobs per second, until the last is stored.
func (l backlog) side(ctx context.Context, dsn string) (float64, error) {
	var worked atomic.Int64
	tune := []func(*job.Config){}
	if l.tune != nil {
		tune = append(tune, l.tune)
	}
	d, err := newDrover(ctx, dsn, func(ctx context.Context, num int) error {
		defer worked.Add(1)
		if l.work == nil {
			return nil
		}
		return l.work(ctx, num)
	}, tune...)
	if err != nil {
		return 0, err
	}
	defer d.close()
	if l.there != nil {
		if err := l.there(ctx, d); err != nil {
			return 0, err
		}
	}
	if err := d.fill(ctx, l.n, l.shape); err != nil {
		return 0, err
	}
	start := time.Now()
	d.start(ctx)
	if err := reaches(ctx, &worked, l.n); err != nil {
		return 0, err
	}
	if err := d.finish(); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if l.after != nil {
		err = l.after(ctx, d)
	} else {
		err = d.succeeded(ctx, l.n)
	}
	return float64(l.n) / took.Seconds(), err
}

// reaches waits until the counter has reached n; a contestant that stands still for 30 s has failed.
func reaches(ctx context.Context, count *atomic.Int64, n int) error {
	return reachesIn(ctx, count, n, 30*time.Second)
}

func reachesIn(ctx context.Context, count *atomic.Int64, n int, patience time.Duration) error {
	last, since := int64(-1), time.Now()
	for {
		now := count.Load()
		if now >= int64(n) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > patience {
			return fmt.Errorf("%d of %d after %v without progress", now, n, patience)
		}
		time.Sleep(time.Millisecond)
	}
}
