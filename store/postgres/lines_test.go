package postgres_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// long is n with DROVER_LONG, else n/50.
func long(n int) int {
	if os.Getenv("DROVER_LONG") != "" {
		return n
	}
	return n / 50
}

func jobID(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", n) }

func TestLines(t *testing.T) {
	t.Run("queue-58 idle keys", func(t *testing.T) {
		h := newHost(t)
		h.in(func(ctx context.Context, tx store.Tx) error {
			_, err := h.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: 2}}})
			return err
		})
		n := 0
		claim := func() time.Duration { // the fastest of ten
			best := time.Hour
			for range 10 {
				n++
				h.insert(keyed(n, syncqueue.Key{Kind: "vm", ID: fmt.Sprint("busy", n)}))
				began := time.Now()
				if rows := h.claim(1); len(rows) != 1 {
					t.Fatal("nothing claimed")
				}
				best = min(best, time.Since(began))
			}
			return best
		}
		claim()
		before := claim()
		most := long(1_000_000)
		_, err := h.db.Exec(`INSERT INTO drover.drover_line (key, used) SELECT 'vm' || chr(31) || i, now() - interval '9 min' FROM generate_series(1, ?) i`, most)
		if err != nil {
			t.Fatal(err)
		}
		after := claim()
		t.Logf("%d idle keys: a claim takes %v, %v without", most, after, before)
		if after > 2*before+5*time.Millisecond {
			t.Errorf("a claim takes %v, %v without idle keys", after, before)
		}
		rows := func() (n int) {
			if err := h.db.NewRaw(`SELECT count(*) FROM drover.drover_line WHERE used < now() - interval '5 min'`).Scan(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		audit := func() {
			h.in(func(ctx context.Context, tx store.Tx) error { _, err := h.Queues().Audit(ctx, tx, 1000); return err })
		}
		if audit(); rows() != most {
			t.Errorf("%d rows are left after nine minutes", rows())
		}
		if _, err := h.db.Exec(`UPDATE drover.drover_line SET used = used - interval '2 min' WHERE used < now() - interval '5 min'`); err != nil {
			t.Fatal(err)
		}
		if audit(); rows() != 0 {
			t.Errorf("%d rows are left after eleven minutes", rows())
		}
	})

	t.Run("queue-59 a long line", func(t *testing.T) {
		h := newHost(t)
		n := 0
		fill := func(k syncqueue.Key, most int) {
			for most > 0 {
				var rows []job.Row
				for range min(most, 5000) {
					n++
					rows = append(rows, keyed(n, k))
				}
				h.insert(rows...)
				most -= len(rows)
			}
		}
		short, deep := syncqueue.Key{Kind: "vm", ID: "short"}, syncqueue.Key{Kind: "vm", ID: "long"}
		fill(short, 10)
		fill(deep, long(100_000))
		if _, err := h.db.Exec(`ANALYZE`); err != nil {
			t.Fatal(err)
		}
		holder := map[syncqueue.Key]job.Row{}
		for _, r := range h.claim(2) {
			holder[r.Sync] = r
		}
		if len(holder) != 2 {
			t.Fatal(holder)
		}
		measure := func() (p99 map[syncqueue.Key]time.Duration) {
			took := map[syncqueue.Key][]time.Duration{}
			for range 300 {
				fill(short, 1)
				for _, k := range []syncqueue.Key{short, deep} {
					began := time.Now()
					next := h.finish([]job.Row{holder[k]})
					took[k] = append(took[k], time.Since(began))
					if len(next) != 1 || next[0].Sync != k {
						t.Fatalf("handed on: %v", next)
					}
					holder[k] = next[0]
				}
			}
			p99 = map[syncqueue.Key]time.Duration{}
			for k, d := range took {
				slices.Sort(d)
				p99[k] = d[len(d)*99/100]
			}
			return p99
		}
		for try := 1; ; try++ {
			p99 := measure()
			t.Logf("hand-off p99: %v in a line of 10, %v in one of %d", p99[short], p99[deep], long(100_000))
			if p99[deep] <= 2*p99[short] {
				return
			}
			if try == 3 {
				t.Fatalf("hand-off p99 %v in a long line, %v in a short one", p99[deep], p99[short])
			}
		}
	})
}

func keyed(n int, k syncqueue.Key) job.Row {
	return job.Row{Print: "p", Job: job.Job{ID: jobID(n), Root: jobID(n), Kind: "k", Queue: "q", Sync: k, MaxAttempts: 1}}
}
