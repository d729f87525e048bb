package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

// opened is a migrated store and the database under it.
func opened(t testing.TB, path string, cfg sqlite.Config) (*bun.DB, *sqlite.Store) {
	t.Helper()
	db := fixture.OpenSQLite(t, path)
	s := sqlite.New(db, cfg)
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db, s
}

func insert(s *sqlite.Store, id string) func(ctx context.Context, tx store.Tx) error {
	return func(ctx context.Context, tx store.Tx) error {
		_, err := s.Jobs().Insert(ctx, tx, []job.Row{row(id, syncqueue.Key{})})
		return err
	}
}

// count is how many jobs there are.
func count(t testing.TB, s *sqlite.Store) (n int) {
	t.Helper()
	in(t, s, func(ctx context.Context, tx store.Tx) error {
		f, err := s.Jobs().List(ctx, tx, job.Find{Query: &job.Query{}})
		n = len(f.Rows)
		return err
	})
	return n
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, end := range map[string]func(context.CancelFunc) error{
		"st-02 error":           func(context.CancelFunc) error { return boom },
		"st-03 panic":           func(context.CancelFunc) error { panic(boom) },
		"st-03 Goexit":          func(context.CancelFunc) error { runtime.Goexit(); return nil },
		"st-08 ended in the fn": func(cancel context.CancelFunc) error { cancel(); return nil },
	} {
		t.Run(name+" undoes everything and frees the writer", func(t *testing.T) {
			t.Parallel()
			_, s := opened(t, fixture.SQLiteFile(t), sqlite.Config{})
			wake, stop := s.Notifier().Wake(job.QueueTopic("default"))
			defer stop()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				done <- s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
					if err := insert(s, "a")(ctx, tx); err != nil {
						return err
					}
					return end(cancel)
				})
			}()
			if err, ok := <-done; ok && err == nil {
				t.Error("no error")
			}
			if n := count(t, s); n != 0 {
				t.Errorf("%d jobs stayed", n)
			}
			select {
			case <-wake:
				t.Error("hint of a transaction that did not commit")
			default:
			}
			in(t, s, insert(s, "a"))
			<-wake
		})
	}
	t.Run("st-11 nested is refused", func(t *testing.T) {
		t.Parallel()
		_, s := opened(t, fixture.SQLiteFile(t), sqlite.Config{})
		in(t, s, func(ctx context.Context, tx store.Tx) error {
			if err := s.InTx(ctx, insert(s, "a")); err == nil || !strings.Contains(err.Error(), "InTx inside InTx") {
				t.Errorf("nested: %v", err)
			}
			return nil
		})
	})
	t.Run("st-07 foreign and ended transactions", func(t *testing.T) {
		t.Parallel()
		_, s := opened(t, fixture.SQLiteFile(t), sqlite.Config{})
		in(t, &memory.Store{}, func(ctx context.Context, tx store.Tx) error {
			if err := insert(s, "a")(ctx, tx); !errors.Is(err, store.ErrForeign) {
				t.Errorf("foreign: %v", err)
			}
			return nil
		})
		var kept store.Tx
		in(t, s, func(_ context.Context, tx store.Tx) error { kept = tx; return nil })
		if err := insert(s, "a")(t.Context(), kept); err == nil {
			t.Error("an ended transaction was used")
		}
	})
	t.Run("epochs of a transaction that rolled back are not given out again", func(t *testing.T) {
		t.Parallel()
		_, s := opened(t, fixture.SQLiteFile(t), sqlite.Config{})
		var seen int64
		_ = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			token := sessionIn(ctx, t, tx, s, "n")
			seen = token.Epoch
			return boom
		})
		if token := session(t, s, "n"); token.Epoch <= seen {
			t.Errorf("epoch %d after %d", token.Epoch, seen)
		}
	})
}

func TestLocked(t *testing.T) {
	t.Parallel()
	path := fixture.SQLiteFile(t)
	db, s := opened(t, path, sqlite.Config{})
	_, other := opened(t, path, sqlite.Config{})
	t.Run("st-08 waits for the lock as long as ctx lasts", func(t *testing.T) {
		btx, err := db.BeginTx(t.Context(), nil) // begins with the write lock
		do(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := other.InTx(ctx, insert(other, "x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		got := make(chan error)
		go func() { got <- other.InTx(context.Background(), insert(other, "y")) }()
		do(t, btx.Commit())
		do(t, <-got)
		if n := count(t, s); n != 1 {
			t.Errorf("%d jobs", n)
		}
	})
	t.Run("st-04 a conflict in the midst runs fn again, at most 10 times", func(t *testing.T) {
		for _, c := range []struct{ fail, want int }{{3, 4}, {100, 10}} {
			n := 0
			err := s.InTx(t.Context(), func(context.Context, store.Tx) error {
				if n++; n <= c.fail {
					return coded(5 | 2<<8) // SQLITE_BUSY_SNAPSHOT
				}
				return nil
			})
			if n != c.want || (err == nil) != (c.fail < 10) {
				t.Errorf("%d failures: ran %d times, %v", c.fail, n, err)
			}
		}
	})
}

// coded is an error as drivers of SQLite have it.
type coded int

func (c coded) Error() string { return "busy" }
func (c coded) Code() int     { return int(c) }

func TestJoin(t *testing.T) {
	t.Parallel()
	db, s := opened(t, fixture.SQLiteFile(t), sqlite.Config{})
	_, err := db.Exec(`CREATE TABLE host (id TEXT PRIMARY KEY)`)
	do(t, err)
	hostRows := func() (n int) {
		do(t, db.NewRaw(`SELECT count(*) FROM host`).Scan(t.Context(), &n))
		return n
	}
	submit := func(id string, fail error) error {
		return db.RunInTx(t.Context(), &sql.TxOptions{}, func(ctx context.Context, btx bun.Tx) error {
			if _, err := btx.NewRaw(`INSERT INTO host (id) VALUES (?)`, id).Exec(ctx); err != nil {
				return err
			}
			if err := insert(s, id)(ctx, s.Join(btx)); err != nil {
				return err
			}
			return fail
		})
	}
	t.Run("job-04 commit: host row and job", func(t *testing.T) {
		do(t, submit("a", nil))
		if hostRows() != 1 || count(t, s) != 1 {
			t.Errorf("%d rows, %d jobs", hostRows(), count(t, s))
		}
	})
	t.Run("job-04 rollback: neither", func(t *testing.T) {
		if err := submit("b", errors.New("no")); err == nil {
			t.Error("no error")
		}
		if hostRows() != 1 || count(t, s) != 1 {
			t.Errorf("%d rows, %d jobs", hostRows(), count(t, s))
		}
	})
	t.Run("job-04 transaction of another store", func(t *testing.T) {
		other := fixture.SQLite(t, drover.Env{})
		do(t, db.RunInTx(t.Context(), nil, func(ctx context.Context, btx bun.Tx) error {
			if err := insert(other, "c")(ctx, s.Join(btx)); !errors.Is(err, store.ErrForeign) {
				t.Errorf("got %v", err)
			}
			return nil
		}))
	})
}

// A single node may live in a bubble, with its database in memory.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := opened(t, ":memory:", sqlite.Config{})
		defer func() { do(t, db.Close()) }()
		start := time.Now()
		go func() {
			time.Sleep(time.Hour)
			in(t, s, insert(s, "a"))
		}()
		wake, stop := s.Notifier().Wake(job.QueueTopic("default"))
		defer stop()
		<-wake
		in(t, s, func(_ context.Context, tx store.Tx) error {
			if d := tx.Now().Sub(start); d != time.Hour {
				t.Errorf("now is %v later", d)
			}
			return nil
		})
	})
}

func TestDSN(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#d%.db")
	_, s := opened(t, path, sqlite.Config{})
	in(t, s, insert(s, "a"))
	files, err := filepath.Glob(filepath.Dir(path) + "/*")
	do(t, err)
	if len(files) < 2 {
		t.Errorf("no write-ahead log: %q", files)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		do(t, err)
		if st.Mode().Perm() != 0o600 || !strings.HasPrefix(f, path) {
			t.Errorf("%s has mode %v", f, st.Mode())
		}
	}
	for _, bad := range []string{"", "a\x00b", filepath.Join(t.TempDir(), "no", "such", "dir.db")} {
		if _, err := sqlite.DSN(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
