package conductor_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/testkit"
	"github.com/drover-cloud/drover/testkit/storetest"
)

func show(v any) string { return fmt.Sprintf("%+v", v) }

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) After(time.Duration) <-chan time.Time { return nil }

// remote is a client as a store package.
type remote struct {
	*conductor.Client
	*clock
	db *memory.Store
}

func (r *remote) Records() drover.RecordStore { return r.db.Records() }

// Agents are not served: calls of agents are the controllers'.
func (r *remote) Agents() agent.Store { return r.db.Agents() }

// Commits are the servers' own.
func (r *remote) Commits() conductor.Store { return r.db.Commits() }

// Remote tells storetest that no transaction is ever open.
func (*remote) Remote() {}

// Notifier is the store's: what is told to hosts has a test of its own.
func (r *remote) Notifier() store.Notifier { return r.db.Notifier() }

// unfit are the checks of storetest that do what a remote body cannot, by why.
var unfit = map[string][]string{
	"reads a row that it has written": {
		"tx/st-01_commit_visible,_rollback_not", "waits/st-132_a_signal_and_a_park_overlap",
	},
	"goes on after an operation that commits, or rolls it back": {
		"tx/st-02_error_rolls_back", "tx/st-03_panic_rolls_back_and_passes_on", "queues/st-74_policy:_rollback",
		"places/st-90_move:_a_gap_used_up", "places/st-90_move:_journal_and_rollback",
		"items/st-93_items:_one_at_a_time,_returned,_released", "items/st-93_items:_of_dead_holders,_once", "items/st-93_items:_limits",
		"leases/rollback_leaves_nothing", "ledger/take_2:_the_store's_future", "tracker/trk-49_in_the_caller's_transaction",
		"settings/st-80_settings:_kept,_answered,_hinted",
	},
	"reads several rows as of one moment": {"tracker/trk-22_move"},
	"judges a result before the commit":   {"tx/st-05_now", "waits/st-123_joins:_the_end_is_told"},
	"sends more than 512 KiB":             {"tx/st-10_values"},
	"wants a store that is not served":    {"agents/", "commits/"},
	"wants turns steered by a job":        {"queues/st-70_queues_of_the_job_store"},
}

func TestStore(t *testing.T) {
	t.Run("conductor-01 storetest over a client and a server", overClient)
}

func overClient(t *testing.T) {
	met := map[string]bool{}
	storetest.Run(t, func(t testing.TB) testkit.Stores {
		_, name, _ := strings.Cut(t.Name(), "/")
		_, name, _ = strings.Cut(name, "/")
		for why, names := range unfit {
			for _, u := range names {
				if u == name || strings.HasSuffix(u, "/") && strings.HasPrefix(name, u) {
					met[u] = true
					t.Skip("remote: " + why)
				}
			}
		}
		c := &clock{now: time.Unix(1_800_000_000, 0)}
		n := newNet(t)
		n.db.Env.Clock = c
		n.server("s1", all)
		return &remote{n.client("h1", nil).Client, c, n.db}
	})
	for why, names := range unfit {
		for _, u := range names {
			if !met[u] {
				t.Errorf("%q (%s) is no check of storetest any more", u, why)
			}
		}
	}
}
