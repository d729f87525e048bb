package memory_test

import (
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/testkit"
	"github.com/drover-cloud/drover/testkit/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(testing.TB) testkit.Stores {
		c := &clock{now: time.Unix(1_800_000_000, 0)}
		return &advancing{Store: &memory.Store{Env: drover.Env{Clock: c}}, clock: c}
	})
}

type advancing struct {
	*memory.Store
	*clock
}

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
