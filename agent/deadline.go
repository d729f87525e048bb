package agent

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/internal/alarm"
)

const (
	echoEvery  = time.Second
	echoWithin = 5 * time.Second
)

// deadline ends a context by Env.Clock.
type deadline struct {
	alarm.Alarm
	cancel context.CancelCauseFunc
}

// Fire ends it.
func (d *deadline) Fire() { d.cancel(context.DeadlineExceeded) }
