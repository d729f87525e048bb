package bus_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/drover-cloud/drover/bus"
)

func TestRingChanged(t *testing.T) {
	bubble(t, "ring-13 another ring is told of in the process", func(c *cluster) {
		up := []bus.Peer{{Node: "a"}, {Node: "b"}}
		var changed func()
		m := bus.Ringed(func() (_, _ []bus.Peer) { return up, nil }, func(f func()) func() { changed = f; return func() {} })
		n := c.start("a", func(cfg *bus.Config) { cfg.Members = m })
		var got []string
		defer n.Subscribe("ring.changed", func(_ context.Context, e bus.Event) { got = append(got, string(e.Data)) })()
		before := m.View().Ring.Fingerprint()
		changed() // nothing has
		up = up[:1]
		changed()
		synctest.Wait()
		if want := fmt.Sprintf(`{"old":"%016x","new":"%016x"}`, before, m.View().Ring.Fingerprint()); len(got) != 1 || got[0] != want {
			c.Errorf("%v, want %s", got, want)
		}
	})
}
