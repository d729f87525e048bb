package job_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/uptrace/bun"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/store/postgres"
)

// TestSoak is job-79: nothing grows. In full it is an hour at 300 jobs/s on PostgreSQL; without DROVER_LONG that is a few seconds,
// too short for retention, which a run in virtual time looks at.
func TestSoak(t *testing.T) {
	t.Run("job-79 virtual time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			db := &memory.Store{}
			s := &soak{world: virtual(t, db), length: 20 * time.Minute, rate: 10, retain: time.Minute}
			s.sizes = s.rows
			s.run()
		})
	})
	t.Run("job-79 postgres", func(t *testing.T) {
		dsn := fixture.Postgres(t).Database(t)
		db := postgres.New(fixture.OpenPostgres(t, dsn, 8), postgres.Config{})
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := &soak{world: &world{T: t, db: db, ttl: 2 * time.Second, poll: time.Second, real: true}, length: 12 * time.Second, rate: 100, retain: time.Minute}
		if long {
			s.length, s.rate, s.retain = time.Hour, 300, 2*time.Minute
			s.sizes = tableSizes(t, fixture.OpenPostgres(t, dsn, 1))
		}
		s.connections = serverConnections(t, fixture.OpenPostgres(t, dsn, 1))
		s.run()
	})
}

// tableSizes are the bytes of drover's tables and their indexes.
func tableSizes(t *testing.T, db *bun.DB) func() int64 {
	return func() (n int64) {
		err := db.NewRaw(`SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relname LIKE 'drover%'`).Scan(t.Context(), &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func serverConnections(t *testing.T, db *bun.DB) func() int64 {
	return func() (n int64) {
		if err := db.NewRaw(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`).Scan(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// soak is a load with faults.
type soak struct {
	*world
	length, retain     time.Duration
	rate               int // jobs per second
	sizes, connections func() int64

	mu   sync.Mutex
	ran  map[int]int
	sent int
}

// usage is what must not grow.
type usage struct{ goroutines, heap, connections, size int64 }

func (s *soak) look() (u usage) {
	if s.connections != nil {
		u.connections = s.connections()
	}
	if s.sizes != nil {
		u.size = s.sizes()
	}
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap, u.goroutines = int64(m.HeapInuse), int64(runtime.NumGoroutine())
	return u
}

func (s *soak) register(m *job.Manager) {
	job.Handle(m, "work", func(ctx context.Context, n int) (int, error) {
		s.mu.Lock()
		s.ran[n]++
		first := s.ran[n] == 1
		s.mu.Unlock()
		if first && n%50 == 0 {
			return 0, errBoom
		}
		if n%20 == 0 {
			if _, err := job.Step(ctx, "a", func(context.Context) (int, error) { return n, nil }); err != nil {
				return 0, err
			}
		}
		return n, ctx.Err()
	}, job.Retry(constant(100*time.Millisecond), 20), job.MaxLost(1000))
}

func (s *soak) start(name string) *node {
	n := s.node(name, s.register, workers(50), with(func(c *job.Config) { c.Retain = s.retain }))
	n.faults.set(func(f *faults) { // one commit in 200 fails although it happened
		var calls atomic.Int64 // InTx is called by many at once
		f.after = func(string) error {
			if rand.New(rand.NewPCG(uint64(calls.Add(1)), uint64(len(name)))).IntN(200) == 0 {
				return errors.New("answer lost")
			}
			return nil
		}
	})
	return n
}

func (s *soak) run() {
	s.ran = map[int]int{}
	names := []string{"a", "b", "c"}
	var nodes []*node
	for _, name := range names {
		nodes = append(nodes, s.start(name))
	}
	client := s.idle("client")
	job.Declare[int, int](client.Manager, "work")
	var mid usage
	begin, faults := time.Now(), 0
	nextFault, frozen := s.length/8, (*node)(nil)
	for tick := 0; ; tick++ {
		at := time.Duration(tick) * 100 * time.Millisecond
		if at >= s.length {
			break
		}
		if d := at - time.Since(begin); d > 0 {
			time.Sleep(d)
		}
		s.submitSome(client, s.rate/10)
		if mid == (usage{}) && at >= s.length/2 {
			mid = s.look()
		}
		if at >= nextFault {
			nextFault += s.length / 8
			if frozen != nil {
				frozen.thawStore()
				frozen.thawClock()
				frozen = nil
			}
			i := faults % len(nodes)
			if faults++; faults%2 == 0 {
				frozen = nodes[i]
				frozen.freeze()
			} else {
				s.must(nodes[i].stop())
				nodes[i] = s.start(names[i])
			}
		}
	}
	if frozen != nil {
		frozen.thawStore()
		frozen.thawClock()
	}
	s.settleLoad(client)
	end := s.look()
	s.Logf("%d jobs, %d faults: half way %+v, at the end %+v", s.sent, faults, mid, end)
	for _, g := range []struct {
		what     string
		mid, end int64
		slack    int64
	}{
		{"goroutines", mid.goroutines, end.goroutines, 60}, {"connections", mid.connections, end.connections, 3},
		{"heap", mid.heap, end.heap, 16 << 20}, {"table size", mid.size, end.size, 1 << 20},
	} {
		if g.end > g.mid+g.mid/4+g.slack {
			s.Errorf("%s grew from %d to %d", g.what, g.mid, g.end)
		}
	}
}

// rows are all that are stored, at a kilobyte each.
func (s *soak) rows() (n int64) {
	all := []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded, job.Failed, job.Cancelled}
	s.must(s.db.InTx(s.Context(), func(ctx context.Context, tx store.Tx) error {
		q := job.Query{States: all, Limit: 500}
		for {
			found, err := s.db.Jobs().List(ctx, tx, job.Find{Query: &q})
			if err != nil {
				return err
			}
			if n, q.After = n+int64(len(found.Rows)), found.Next; q.After == "" {
				return nil
			}
		}
	}))
	return n << 10
}

func (s *soak) submitSome(client *node, n int) {
	rs := make([]job.Request, n)
	for i := range rs {
		rs[i] = job.Request{Kind: "work", Args: s.sent + i}
		if i%2 == 0 {
			rs[i].Sync = vm(fmt.Sprint((s.sent + i) % 97))
		}
	}
	_, err := client.SubmitMany(s.Context(), rs)
	s.must(err)
	s.sent += n
}

// settleLoad waits until nothing is live, and checks that every job has run.
func (s *soak) settleLoad(client *node) {
	s.eventually(5*time.Minute, "all final", func() bool {
		time.Sleep(1100 * time.Millisecond)
		st, err := client.Stats(s.Context())
		s.must(err)
		return len(st.Queues["default"].Depth) == 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ran) != s.sent {
		s.Errorf("%d of %d jobs ran", len(s.ran), s.sent)
	}
}
