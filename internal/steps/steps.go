// Package steps is what package flow needs to know of the job it runs in, and package job does not show to everybody.
package steps

import (
	"context"
	"encoding/json"
	"time"

	"github.com/drover-cloud/drover"
)

// Run is one run of a job, found in its handler's ctx.
type Run interface {
	// Base is the handler's own ctx: its cause tells a lost claim, a cancel, a deadline and a stopping node apart.
	Base() context.Context
	// Env is the manager's.
	Env() drover.Env
	// First says whether the job runs for the first time, Lost how often a node died under it.
	First() bool
	Lost() int
	// Use marks a name as used in this run; false if it is already.
	Use(name string) bool
	// Load gives the steps stored under names that begin with prefix.
	Load(ctx context.Context, prefix string) (map[string]json.RawMessage, error)
	// Save stores a step in one write, with the progress (0…100, scaled by job.Stage) if percent ≥ 0. One stored already
	// stays as it is. An error that is job.ErrLost says that the run is another's now.
	Save(ctx context.Context, name string, data json.RawMessage, percent int) error
	// Leaves says whether err is no failure but the wish to run again later.
	Leaves(err error) bool
	// Permanent says whether err is marked as not worth a retry.
	Permanent(err error) bool
	// Encode and Decode keep an error: its code, its text, what is registered for it.
	Encode(err error) json.RawMessage
	Decode(data json.RawMessage) error
	// Stage scales progress within ctx to from…to.
	Stage(ctx context.Context, from, to int) context.Context
	// Owe seals the run's failure and submits a job for what it leaves behind, once per unique, in one transaction. The job is
	// nobody's child and takes over identity and resource. A run sealed before is no error.
	Owe(ctx context.Context, failure error, kind, unique string, args any) error
	// CancelledBy says who has asked for the job's end, and why.
	CancelledBy(ctx context.Context) (by, reason string, err error)
	// Unwind gives a ctx with ctx's values that ends, with cause job.ErrLost, only when the claim is lost.
	Unwind(ctx context.Context) (context.Context, context.CancelFunc)
}

// Manager is what package flow needs of a manager beside what everybody sees.
type Manager interface {
	Env() drover.Env
	// Attach gives what is kept under name, made the first time.
	Attach(name string, make func() any) any
	// Stored gives a job's durable steps in the order of their writing.
	Stored(ctx context.Context, id string) ([]Stored, error)
}

// Stored is a durable step as the store has it.
type Stored struct {
	Name string
	Data json.RawMessage
	At   time.Time
}

// Of finds the Manager behind a *job.Manager; package job sets it.
var Of func(m any) Manager

// Key is where a ctx keeps its Run.
type Key struct{}

// From finds the run, nil outside a job.
func From(ctx context.Context) Run {
	r, _ := ctx.Value(Key{}).(Run)
	return r
}
