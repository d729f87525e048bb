package periodic_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store/postgres"
)

// TestMain lets the binary be one of its own worker processes.
func TestMain(m *testing.M) {
	if name := os.Getenv("DROVER_TEST_WORKER"); name != "" {
		if err := work(name, os.Getenv("DROVER_TEST_DSN")); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(fixture.Main(m))
}

// work runs a singleton each second that writes its due time; the first process is preferred.
func work(name, dsn string) error {
	db, err := postgres.Open(dsn, 2)
	if err != nil {
		return err
	}
	env := drover.Env{Node: name, Logger: quiet}
	st := postgres.New(db, postgres.Config{Env: env})
	s, err := lease.New(lease.Config{Env: env, Tx: st, Store: st.Leases()})
	if err != nil {
		return err
	}
	var tasks periodic.Set
	tasks.Env = env
	err = tasks.Every(time.Second, "tick", func(ctx context.Context) error {
		r := periodic.RunOf(ctx)
		return run(ctx, db, `INSERT INTO ticks (due, epoch, node) VALUES (?, ?, ?)`, r.Due.UTC(), r.Epoch, name)
	}, periodic.Singleton(lease.NewLedger(s, st.Ledger()), periodic.Prefer(func() bool { return name == "n0" })))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	g := drover.Group{Env: env}
	g.Add("node", s)
	g.Add("tasks", &tasks)
	return g.Run(ctx)
}

func run(ctx context.Context, db *bun.DB, query string, args ...any) error {
	_, err := db.NewRaw(query, args...).Exec(ctx)
	return err
}

func TestPostgres(t *testing.T) {
	t.Run("periodic-61 eight processes", func(t *testing.T) {
		seconds := 10
		if os.Getenv("DROVER_LONG") != "" {
			seconds = 60
		}
		dsn := fixture.Postgres(t).Database(t)
		db := fixture.OpenPostgres(t, dsn, 2)
		if err := postgres.New(db, postgres.Config{}).Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), db, `CREATE TABLE ticks (id bigserial PRIMARY KEY, due timestamptz NOT NULL, epoch bigint NOT NULL, node text NOT NULL)`); err != nil {
			t.Fatal(err)
		}
		var procs []*exec.Cmd
		for i := range 8 {
			cmd := exec.Command(os.Args[0]) //nolint:gosec // itself
			cmd.Env = append(os.Environ(), fmt.Sprint("DROVER_TEST_WORKER=n", i), "DROVER_TEST_DSN="+dsn)
			cmd.Stderr = os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			procs = append(procs, cmd)
		}
		one := func(query string) (n int) {
			t.Helper()
			if err := db.NewRaw(query).Scan(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for end := time.Now().Add(time.Minute); one(`SELECT count(*) FROM ticks`) < seconds; {
			if time.Now().After(end.Add(time.Duration(seconds) * time.Second)) {
				t.Fatalf("%d runs", one(`SELECT count(*) FROM ticks`))
			}
			<-time.After(50 * time.Millisecond)
		}
		for _, p := range procs {
			_ = p.Process.Signal(syscall.SIGTERM)
		}
		for _, p := range procs {
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		}
		runs, dues := one(`SELECT count(*) FROM ticks`), one(`SELECT count(DISTINCT due) FROM ticks`)
		span := one(`SELECT extract(epoch FROM max(due) - min(due))::int + 1 FROM ticks`)
		same(t, "due times run twice", runs-dues, 0)
		if runs < span-1 || runs > span+1 {
			t.Errorf("%d runs in %d due times", runs, span)
		}
		same(t, "epochs that fall", one(`SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY due) before FROM ticks) x WHERE epoch <= before`), 0)
		// A write is a new version of the one row; the server counts them when a session ends.
		writes := one(`SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'drover_ledger'`)
		if writes > 2*runs+10 || writes < runs {
			t.Errorf("%d writes to the ledger for %d runs", writes, runs)
		}
	})
}
