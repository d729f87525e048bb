package libvirt

import (
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

// What a migration is given, as in Nova: a guest's downtime grows in steps, so that most guests notice little and busy ones arrive at all.
const (
	defaultDowntime = 500 * time.Millisecond
	downtimeSteps   = 10
	downtimeDelay   = 75 * time.Second  // between steps, for each GiB
	perGiB          = 800 * time.Second // of the whole, at least for two
)

// downtime is a limit that holds from a time on.
type downtime struct{ at, limit time.Duration }

// downtimes are the limits of a guest with so much memory, in order.
func downtimes(most time.Duration, steps int, delay time.Duration, memoryMiB int64) []downtime {
	base, every := int64(most)/int64(steps), int64(delay)*gib(memoryMiB)
	list := make([]downtime, steps+1)
	for i := range list {
		n := int64(i)
		list[i] = downtime{at: time.Duration(n * every), limit: time.Duration(base + n*(int64(most)-base)/int64(steps))}
	}
	return list
}

func gib(memoryMiB int64) int64 { return max(1, (memoryMiB+1023)/1024) }

// timeLimit is how long a migration may take.
func timeLimit(asked time.Duration, memoryMiB int64) time.Duration {
	if asked > 0 {
		return asked
	}
	return perGiB * time.Duration(max(2, gib(memoryMiB)))
}

// sight is what is seen of a migration.
type sight struct {
	calling   bool // the request has not been answered
	job       bool // the source says that a job is under way
	source    hypervisor.Power
	absent    bool // the source does not have the VM
	elapsed   time.Duration
	limit     time.Duration
	onTimeout hypervisor.OnTimeout
	mayPost   bool // post-copy is allowed
	post      bool // and under way
	forced    bool // the guest was paused already
}

// step is what to do about a migration.
type step string

const (
	stepWait     step = "wait"
	stepStarting step = "starting"
	stepAbort    step = "abort"
	stepPostCopy step = "post-copy"
	stepPause    step = "pause"
	stepFailed   step = "failed"
	stepDone     step = "done"
	stepUnknown  step = "unknown"
)

// decide is the whole judgement of a migration, with the source alone in sight.
func decide(s sight) step {
	switch {
	case s.calling && !s.job:
		return stepStarting
	case s.calling:
		if s.post || s.forced || s.elapsed < s.limit {
			return stepWait
		}
		switch {
		case s.onTimeout != hypervisor.Force:
			return stepAbort
		case s.mayPost:
			return stepPostCopy
		}
		return stepPause
	case s.absent || s.source == hypervisor.Off:
		return stepDone
	case s.source == hypervisor.Unknown:
		return stepUnknown
	}
	return stepFailed
}
