package lease_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
)

// pool is worker processes on one database.
type pool struct {
	t     *testing.T
	dsn   string
	ttl   time.Duration
	hold  bool
	db    *bun.DB
	procs []*exec.Cmd
	mu    sync.Mutex
	out   bytes.Buffer
}

func (p *pool) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func newPool(t *testing.T, n int, ttl time.Duration, hold bool) *pool {
	t.Helper()
	dsn := fixture.Postgres(t).Database(t)
	fixture.PostgresStore(t, dsn, drover.Env{Logger: quiet})
	p := &pool{t: t, dsn: dsn, ttl: ttl, hold: hold, db: fixture.OpenPostgres(t, dsn, 2)}
	if _, err := p.db.ExecContext(t.Context(), workerTables); err != nil {
		t.Fatal(err)
	}
	p.procs = make([]*exec.Cmd, n)
	for i := range n {
		p.start(i)
	}
	t.Cleanup(func() {
		for i := range p.procs {
			p.kill(i, syscall.SIGKILL)
		}
		if p.out.Len() > 0 {
			t.Log(p.out.String())
		}
	})
	return p
}

func (p *pool) start(i int) {
	cmd := exec.Command(os.Args[0]) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), fmt.Sprint("DROVER_TEST_WORKER=n", i), "DROVER_TEST_DSN="+p.dsn, "DROVER_TEST_TTL="+p.ttl.String())
	if p.hold {
		cmd.Env = append(cmd.Env, "DROVER_TEST_HOLD=1")
	}
	cmd.Stderr = p
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.procs[i] = cmd
}

func (p *pool) signal(i int, sig syscall.Signal) { _ = p.procs[i].Process.Signal(sig) }

// kill ends a process and waits for it.
func (p *pool) kill(i int, sig syscall.Signal) {
	p.signal(i, sig)
	p.signal(i, syscall.SIGCONT)
	_ = p.procs[i].Wait()
}

// one reads a number.
func (p *pool) one(query string, args ...any) (n int64) {
	p.t.Helper()
	if err := p.db.NewRaw(query, args...).Scan(context.Background(), &n); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// until waits for a query to answer at least n.
func (p *pool) until(within time.Duration, n int64, query string) {
	p.t.Helper()
	end := time.Now().Add(within)
	for p.one(query) < n {
		if time.Now().After(end) {
			p.t.Fatalf("%s is %d after %v, want %d", query, p.one(query), within, n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const countReigns = `SELECT count(*) FROM reigns`

func TestPostgres(t *testing.T) {
	t.Run("lease-12 lease-01 lease-11 SIGKILL and SIGSTOP", killWorkers)
	t.Run("lease-12 lease-03 fail-over", failOver)
	t.Run("lease-12 lease-05 rows deleted, database copied", copied)
}

func killWorkers(t *testing.T) {
	changes := int64(500)
	if os.Getenv("DROVER_LONG") != "" {
		changes = 10_000
	}
	p := newPool(t, 8, time.Second, false)
	p.until(30*time.Second, 1, countReigns)
	end := time.Now().Add(10 * time.Minute)
	for faults := 0; faults < 40 || p.one(countReigns) < changes; faults++ {
		if time.Now().After(end) {
			t.Fatalf("%d changes of holder in 10 min", p.one(countReigns))
		}
		i := rand.IntN(len(p.procs))
		if faults%3 == 0 { // longer than it is trusted
			p.signal(i, syscall.SIGSTOP)
			frozen := p.procs[i].Process
			time.AfterFunc(1500*time.Millisecond, func() { _ = frozen.Signal(syscall.SIGCONT) })
		} else {
			p.kill(i, syscall.SIGKILL)
			p.start(i)
		}
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
	}
	for i := range p.procs {
		p.kill(i, syscall.SIGTERM)
	}
	for what, query := range map[string]string{
		"epochs with two holders":         `SELECT count(*) FROM (SELECT epoch FROM reigns GROUP BY epoch HAVING count(DISTINCT node) > 1) x`,
		"epochs that fall":                `SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY id) before FROM reigns) x WHERE epoch < before`,
		"writes of an old holder":         `SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY n) before FROM numbers) x WHERE epoch < before`,
		"numbers missing":                 `SELECT coalesce(max(n) + 1, 0) - count(*) FROM numbers`,
		"numbers not counted":             `SELECT (SELECT next FROM guard) - count(*) FROM numbers`,
		"due times finished out of order": `SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY due) before FROM finished) x WHERE epoch < before`,
	} {
		if n := p.one(query); n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
	reigns, numbers, finished := p.one(countReigns), p.one(`SELECT count(*) FROM numbers`), p.one(`SELECT count(*) FROM finished`)
	if t.Logf("%d changes of holder, %d numbers, %d due times", reigns, numbers, finished); numbers == 0 || finished == 0 {
		t.Error("nothing was tested")
	}
	if s := p.out.String(); strings.Contains(s, "twice") || strings.Contains(s, "panic") {
		t.Error(s)
	}
}

// failOver measures how long nobody leads.
func failOver(t *testing.T) {
	const ttl = 3 * time.Second
	p := newPool(t, 8, ttl, true)
	p.until(30*time.Second, 1, countReigns)
	gap := func(sig syscall.Signal, within time.Duration) time.Duration {
		time.Sleep(500 * time.Millisecond)
		n := p.one(countReigns)
		pid := int(p.one(`SELECT pid FROM reigns ORDER BY id DESC LIMIT 1`))
		i := slices.IndexFunc(p.procs, func(c *exec.Cmd) bool { return c.Process.Pid == pid })
		begin := time.Now()
		if p.signal(i, sig); sig == syscall.SIGKILL {
			_ = p.procs[i].Wait()
		}
		p.until(within, n+1, countReigns)
		took := time.Since(begin)
		if sig == syscall.SIGKILL {
			p.start(i)
		}
		return took
	}
	var killed, resigned []time.Duration
	for range 3 {
		killed = append(killed, gap(syscall.SIGKILL, time.Minute))
	}
	for range 9 {
		resigned = append(resigned, gap(syscall.SIGUSR1, time.Minute))
	}
	slices.Sort(killed)
	slices.Sort(resigned)
	t.Logf("after a kill %v, after a resignation %v", killed, resigned)
	if most := killed[len(killed)-1]; most > ttl+time.Second {
		t.Errorf("fail-over took %v, at most TTL + 1s = %v", most, ttl+time.Second)
	}
	if half := resigned[len(resigned)/2]; half > 200*time.Millisecond {
		t.Errorf("resignation took %v, at most 200ms", half)
	}
}

// copied deletes rows by hand, then goes on with a copy of the database.
func copied(t *testing.T) {
	src := fixture.Postgres(t)
	dsn, drop, err := src.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = drop(context.Background()) })
	db, err := postgres.Open(dsn, 4)
	if err != nil {
		t.Fatal(err)
	}
	st := postgres.New(db, postgres.Config{})
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := session(t, st, "a")
	x := mustAcquire(t, s)
	for _, table := range []string{"drover_lease", "drover_session"} {
		if _, err := db.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Announce(t.Context(), true); !errors.Is(err, lease.ErrLost) {
		t.Errorf("row deleted: %v", err)
	}
	step(t, s)
	y := mustAcquire(t, s)
	if !x.Less(y) || y.Incarnation != x.Incarnation+1 {
		t.Errorf("%+v after %+v, whose rows are gone", y, x)
	}
	db.Close()

	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	admin := fixture.OpenPostgres(t, src.Database(t), 1)
	if _, err := admin.ExecContext(t.Context(), fmt.Sprintf("CREATE DATABASE %s_copy TEMPLATE %s", name, name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = admin.ExecContext(context.Background(), fmt.Sprintf("DROP DATABASE %s_copy", name)) })
	u.Path += "_copy"
	two, err := postgres.Open(u.String(), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	st = postgres.New(two, postgres.Config{})
	b := session(t, st, "b")
	err = st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return st.Leases().Renew(ctx, tx, s.Token(), lease.Info{Name: "a", State: lease.Active}, time.Minute)
	})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("the old session in the copy: %v", err)
	}
	if z := mustAcquire(t, b); z.Store == y.Store || !y.Less(z) || z.Epoch <= y.Epoch {
		t.Errorf("in the copy %+v, before %+v", z, y)
	}
}

func session(t *testing.T, st *postgres.Store, name string) *lease.Session {
	t.Helper()
	s, err := lease.New(lease.Config{Env: drover.Env{Node: name, Logger: quiet}, Tx: st, Store: st.Leases()})
	if err != nil {
		t.Fatal(err)
	}
	step(t, s)
	return s
}

func step(t *testing.T, s *lease.Session) {
	t.Helper()
	if _, err := s.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mustAcquire(t *testing.T, s *lease.Session) lease.Token {
	t.Helper()
	n, err := s.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return n.Token()
}
