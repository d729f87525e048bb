package drover

import "time"

// Health is how a component is, from its own view.
type Health struct {
	Name  string
	State string // starting, ready, degraded, failing, draining or stopped
	Err   error  // what is wrong, nil when ready
	Since time.Time
}

// Worst is the worst of hs, the first among equals: failing, degraded, starting, draining, stopped, ready, where a state
// of any other name counts as degraded. Of none it is the zero Health.
func Worst(hs []Health) Health {
	var w Health
	for i, h := range hs {
		if i == 0 || badness(h.State) > badness(w.State) {
			w = h
		}
	}
	return w
}

func badness(state string) int {
	switch state {
	case "ready":
		return 0
	case "stopped":
		return 1
	case "draining":
		return 2
	case "starting":
		return 3
	case "failing":
		return 5
	}
	return 4
}

// Status is what a Group knows of a component.
type Status struct {
	Name     string // of a component in a Group in a Group: joined with /
	State    string // as of Health; "" before its start
	Since    time.Time
	Next     time.Time // next Step of its Loop; zero: only when woken, or not a Stepper
	Restarts int
	Err      error // the last one
	Health   Health
}
