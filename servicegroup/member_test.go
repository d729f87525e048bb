package servicegroup_test

import (
	"testing"
	"time"

	"github.com/drover-cloud/drover/servicegroup"
)

func TestSpecMember(t *testing.T) {
	bubble(t, "servicegroup-05 grid", func(t *testing.T) {
		d := newFake()
		begin := time.Now()
		n := start(t, d, "n1")
		if m := n.Self(); m.Incarnation != 1 || m.Joined.Sub(begin) > time.Millisecond {
			t.Fatalf("%+v", m)
		}
		advance(65 * time.Second)
		if len(d.beats) < 6 || d.beats[0].Sub(begin) > 10*time.Second {
			t.Fatalf("beats %v since %v", d.beats, begin)
		}
		for i := 1; i < len(d.beats); i++ {
			if gap := d.beats[i].Sub(d.beats[i-1]); gap != 10*time.Second {
				t.Errorf("beat %d after %v", i, gap)
			}
		}
		n.is(t, "n1", servicegroup.Up, servicegroup.Beat)
		if !n.View().Self {
			t.Fatal("not self")
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
