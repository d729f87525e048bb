package flow

import "context"

// Phases and outcomes of a step, as [Current] tells them.
const (
	PhaseDo   = "do"
	PhaseUndo = "undo"

	OutcomeDone        = "done"
	OutcomeFailed      = "failed"
	OutcomeInterrupted = "interrupted" // the node died, or had to let go, while do ran
)

// Info says where in a flow a function runs.
type Info struct {
	Flow, Step string
	Index, Of  int    // from 0; number of steps
	Phase      string // do, undo
	Outcome    string // in undo: what became of do
	Cause      error  // in undo: why the flow is rolled back
	Try        int    // from 1
}

// Current tells a do or undo which step it is; the zero Info outside a flow.
func Current(ctx context.Context) Info {
	c, _ := ctx.Value(currentKey{}).(*stepCtx)
	if c == nil {
		return Info{}
	}
	return Info{
		Flow: c.flow, Step: c.step, Index: c.index, Of: c.of,
		Phase: c.phase, Outcome: c.outcome, Cause: c.cause, Try: c.try,
	}
}

type currentKey struct{}

// stepCtx carries Info, and where names of stored steps go on.
type stepCtx struct {
	context.Context
	flow, step     string
	path           string // of the step, durable only
	index, of, try int
	phase, outcome string
	cause          error
}

func (c *stepCtx) Value(key any) any {
	if key == (currentKey{}) {
		return c
	}
	return c.Context.Value(key)
}
