package libvirt

import (
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

func TestSteer(t *testing.T) {
	t.Run("virt-20 downtime in steps", func(t *testing.T) {
		list := downtimes(400*time.Millisecond, 10, 30*time.Second, 3072)
		want := []int64{40, 76, 112, 148, 184, 220, 256, 292, 328, 364, 400}
		if len(list) != len(want) {
			t.Fatal(list)
		}
		for i, s := range list {
			if s.at != time.Duration(i)*90*time.Second || s.limit.Milliseconds() != want[i] {
				t.Errorf("step %d: %v", i, s)
			}
		}
	})
	t.Run("virt-21 judgement", func(t *testing.T) {
		limit := timeLimit(0, 1024)
		if limit != 1600*time.Second || timeLimit(0, 5*1024) != 4000*time.Second || timeLimit(time.Second, 1) != time.Second {
			t.Error(limit)
		}
		for _, c := range []struct {
			s    sight
			want step
		}{
			{sight{calling: true}, stepStarting},
			{sight{calling: true, elapsed: 2 * limit}, stepStarting},
			{sight{calling: true, job: true}, stepWait},
			{sight{calling: true, job: true, elapsed: limit}, stepAbort},
			{sight{calling: true, job: true, elapsed: limit, onTimeout: hypervisor.Abort, mayPost: true}, stepAbort},
			{sight{calling: true, job: true, elapsed: limit, onTimeout: hypervisor.Force, mayPost: true}, stepPostCopy},
			{sight{calling: true, job: true, elapsed: limit, onTimeout: hypervisor.Force}, stepPause},
			{sight{calling: true, job: true, elapsed: limit, onTimeout: hypervisor.Force, forced: true}, stepWait},
			{sight{calling: true, job: true, elapsed: 9 * limit, onTimeout: hypervisor.Abort, post: true}, stepWait},
			{sight{source: hypervisor.On}, stepFailed},
			{sight{source: hypervisor.Paused}, stepFailed},
			{sight{source: hypervisor.Off}, stepDone},
			{sight{absent: true}, stepDone},
			{sight{}, stepUnknown},
		} {
			c.s.limit = limit
			if got := decide(c.s); got != c.want {
				t.Errorf("%+v: %s, want %s", c.s, got, c.want)
			}
		}
	})
}
