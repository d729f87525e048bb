package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/syncqueue"
)

// harness is one run.
type harness struct {
	o      *options
	errs   io.Writer
	began  time.Time
	server *testkit.PostgresServer
	proxy  *testkit.Proxy
	bun    *bun.DB
	store  *postgres.Store
	jobs   *job.Manager // submits only
	crew   *crew
	dir    string
	room   int64

	next, fed, open, acted atomic.Int64

	mu   sync.Mutex
	sent []*sent
	err  error // that ended the run early
	quit context.CancelFunc

	told   int           // offences explained
	did    torments      // by the tormentor alone
	away   time.Duration // longest absence of PostgreSQL
	tasked time.Duration // feeding and torments
	dried  time.Duration // drain
}

// kill runs the harness of that name. The report is nil if nothing was run.
func kill(ctx context.Context, o *options, errs io.Writer) (rep *report, err error) {
	h := &harness{o: o, errs: errs, began: time.Now(), room: int64(10 * o.Workers * o.Slots)}
	fmt.Fprintf(errs, "chaos kill: profile %s, seed %d\n", o.Name, o.seed)
	defer fmt.Fprintf(errs, "chaos kill: seed %d\n", o.seed)
	defer func() { err = errors.Join(err, h.close(rep)) }()
	if err := h.prepare(ctx); err != nil {
		return nil, err
	}
	if err := h.crew.start(); err != nil {
		return nil, err
	}
	h.run(ctx)
	if ctx.Err() == nil && h.err == nil {
		h.drain(ctx)
	}
	h.crew.stop()
	cut := ctx.Err() != nil || h.err != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour) // a busy machine takes its time
	defer cancel()
	if rep, err = h.verdict(ctx); rep != nil {
		rep.Cut = cut
	}
	return rep, errors.Join(err, h.err)
}

// prepare starts the server, makes the schemas, and sets what all share.
func (h *harness) prepare(ctx context.Context) (err error) {
	dsn := h.o.dsn
	if dsn == "" {
		if h.server = h.o.server; h.server == nil {
			if h.server, err = testkit.StartPostgres(testkit.FsyncOn, "max_connections=400"); err != nil {
				return err
			}
		}
		if dsn, _, err = h.server.Create(ctx); err != nil {
			return err
		}
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return errors.New("-dsn: is no URL")
	}
	if h.proxy, err = testkit.StartProxy(u.Host); err != nil {
		return err
	}
	if h.o.Idle > 0 {
		q := u.Query()
		q.Set("idle_in_transaction_session_timeout", strconv.FormatInt(h.o.Idle.Milliseconds(), 10))
		u.RawQuery = q.Encode()
		dsn = u.String()
	}
	u.Host = h.proxy.Addr()
	if h.bun, err = postgres.Open(dsn, 8); err != nil {
		return err
	}
	h.store = postgres.New(h.bun, postgres.Config{})
	if err := h.store.Migrate(ctx); err != nil {
		return err
	}
	if _, err := h.bun.DB.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if h.jobs, err = job.New(job.Config{DB: h.store, Queues: map[string]int{}}); err != nil {
		return err
	}
	job.Declare[args, done](h.jobs, kind, kindOptions...)
	q, err := syncqueue.New(syncqueue.Config{Tx: h.store, Store: h.store.Queues()})
	if err != nil {
		return err
	}
	if err := q.SetLimit(ctx, kindSome, 3); err != nil {
		return err
	}
	return h.prepareCrew(dsn, u.String())
}

func (h *harness) prepareCrew(dsn, proxied string) (err error) {
	if h.dir, err = os.MkdirTemp("", "drover-chaos"); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(h.dir, "workers.log"))
	if err != nil {
		return err
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	h.crew = &crew{
		cfg:   workerConfig{Store: dsn, Ledger: dsn, Lease: h.o.Lease, Slots: h.o.Slots, Seed: h.o.seed},
		proxy: proxied, size: h.o.Workers, ledger: &ledger{db: h.bun.DB}, log: log, path: path,
	}
	return nil
}

// run feeds and torments until both are done, or time is up.
func (h *harness) run(ctx context.Context) {
	ctx, h.quit = context.WithTimeout(ctx, h.o.most)
	defer h.quit()
	began := time.Now()
	side, stop := context.WithCancel(context.WithoutCancel(ctx))
	var aside, work sync.WaitGroup
	aside.Go(func() { h.grantWishes(side) })
	aside.Go(func() { h.count(side) })
	for i := range feeders {
		work.Go(func() { h.feed(ctx, i) })
	}
	work.Go(func() { h.torment(ctx) })
	work.Wait()
	h.crew.frozen.Wait()
	h.proxy.Heal()
	stop()
	aside.Wait()
	h.tasked = time.Since(began)
}

// count keeps the number of open jobs.
func (h *harness) count(ctx context.Context) {
	for last := time.Now(); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		var n int64
		if err := h.bun.QueryRowContext(ctx, open).Scan(&n); err == nil {
			h.open.Store(n)
		}
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			h.say("%d fed, %d open, %d of %d torments", h.fed.Load(), n, h.acted.Load(), h.o.plan.all())
		}
	}
}

// drain waits until every job has ended, or none has for too long.
func (h *harness) drain(ctx context.Context) {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go h.grantWishes(ctx)
	patience := max(10*h.o.Lease, 30*time.Second)
	for least, last := int64(-1), time.Now(); ctx.Err() == nil && time.Since(last) < patience; time.Sleep(50 * time.Millisecond) {
		var n int64
		if err := h.bun.QueryRowContext(ctx, open).Scan(&n); err != nil {
			continue
		}
		if n < least || least < 0 {
			least, last = n, time.Now()
		}
		if n == 0 {
			break
		}
	}
	h.dried = time.Since(began)
}

// fail ends the run.
func (h *harness) fail(err error) {
	h.mu.Lock()
	h.err = errors.Join(h.err, err)
	h.mu.Unlock()
	h.quit()
}

func (h *harness) say(format string, a ...any) {
	if h.o.verbose {
		fmt.Fprintf(h.errs, "%6.1fs "+format+"\n", append([]any{time.Since(h.began).Seconds()}, a...)...)
	}
}

// close ends what is left. The workers' log stays if the run was not good.
func (h *harness) close(rep *report) error {
	if h.crew != nil {
		h.crew.stop()
		h.crew.log.Close()
	}
	if h.bun != nil {
		h.bun.Close()
	}
	if h.proxy != nil {
		h.proxy.Close()
	}
	if h.server != nil && h.o.server == nil {
		h.server.Stop()
	}
	if h.dir == "" {
		return nil
	}
	if rep == nil || rep.code() != met {
		fmt.Fprintln(h.errs, "chaos kill: the workers' log is", filepath.Join(h.dir, "workers.log"))
		return nil
	}
	return os.RemoveAll(h.dir)
}
