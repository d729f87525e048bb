package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Registry is a Handler that finds the command by name and version and takes it through the stages. The zero value is
// ready; nil hooks let all pass. Fields are set before commands are registered, and commands before the first Dispatch; after
// it a Registry is safe for concurrent use.
type Registry struct {
	Env    drover.Env
	Tx     store.Runner // required for Async with create: the submitting transaction
	Jobs   *job.Manager // annotates the items of List commands; nil = no annotation
	Stages Stages       // zero = Standard()
	Events Sink         // gets three events per async command; nil = none
	Cipher Cipher       // required for async commands with secret parameters

	// Permit may refuse a command to a caller before its parameters are looked at; plain errors become Forbidden.
	Permit func(ctx context.Context, caller any, info CommandInfo) error
	// Authorize may refuse the bound command (c.Value) and the entities it names (EntitiesOf); asked again in the job.
	Authorize func(ctx context.Context, c *Command) error
	// Entities tells which of the ids of a type exist, for parameters tagged entity=; one call per type and command.
	Entities func(ctx context.Context, typ string, ids []string) (map[string]Entity, error)
	// Identify makes the job's identity of a caller. Default: a map[string]string itself, or the caller's Identity() method.
	// Dispatch reads its keys account (scope of Idem, owner of what is created), roles (comma-separated) and, for logs, user.
	Identify func(caller any) map[string]string
	// Restore makes the caller again when the job runs, with the roles of that day. Default: the identity itself.
	Restore func(ctx context.Context, identity map[string]string) (any, error)
	// Known are parameters that are never reported as unknown, in addition to those of CloudStack's clients. They are kept
	// with the job, for stages of the host that read them.
	Known []string

	once     sync.Once
	mu       sync.Mutex
	sealed   bool
	commands map[string][]*command // by name, newest version first
	known    map[string]bool       // Known in lower case
	accept   Handler               // the chain in the caller
	execute  Handler               // the chain in the job
	envOnce  sync.Once
	ready    drover.Env
	tel      *telemetry
}

// command is one registered name and version.
type command struct {
	name, version string
	span          string // its spans' name
	info          CommandInfo
	schema        *schema
	fresh         func() any // a pointer to a new C
	clone         func(value any) any
	entities      func(value any) []Entity // nil: C has no such method
	validate      func(ctx context.Context, value any) error
	hidden        bool
	timeout       time.Duration
	jobs          *job.Manager // async only
	kind          string       // of its jobs
	create        func(ctx context.Context, tx store.Tx, value any) (entity string, err error)
	outside       func(ctx context.Context, value any) (entity string, err error)
	undo          func(ctx context.Context, value any) error // of outside
	key           func(value any) syncqueue.Key
	resource      func(value any) string
	run           func(ctx context.Context, value any) (any, error)
}

func (c *command) creates() bool { return c.create != nil || c.outside != nil }

func (r *Registry) env() *drover.Env {
	r.envOnce.Do(func() {
		r.ready = r.Env.Defaults()
		r.tel = newTelemetry(r.ready)
	})
	return &r.ready
}

func (r *Registry) telemetry() *telemetry {
	r.env()
	return r.tel
}

// Dispatch takes a copy of c through the stages and runs it: a sync or list command answers its result, an async one Accepted.
// Inside a job, an async command makes a child of that job and, without a Caller, acts as the job's; with an Idem, a job that runs
// again finds the child it has made. The error is fit for Public and CodeOf.
func (r *Registry) Dispatch(ctx context.Context, c *Command) (any, error) {
	r.seal()
	p := &pass{Context: ctx, reg: r, c: *c}
	if err := p.inherit(); err != nil {
		return nil, err
	}
	return r.accept.Dispatch(p, &p.c)
}

// seal composes the chains at the first use; nothing can be registered afterwards.
func (r *Registry) seal() {
	r.once.Do(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sealed = true
		r.known = map[string]bool{}
		for _, k := range r.Known {
			r.known[strings.ToLower(k)] = true
		}
		stages := r.Stages
		if len(stages.list) == 0 {
			stages = Standard()
		}
		r.accept = stages.chain(HandlerFunc(r.start))
		r.execute = stages.chain(HandlerFunc(r.inJob), "admit")
	})
}

// start is the innermost handler in the caller.
func (r *Registry) start(ctx context.Context, c *Command) (any, error) {
	p, err := ready(ctx, c)
	if err != nil {
		return nil, err
	}
	if p.cmd.jobs != nil {
		a, err := r.submit(ctx, p, c)
		if err != nil {
			return nil, err
		}
		return a, nil
	}
	bound := withTimeout(ctx, r.telemetry().clock, p.cmd.timeout)
	defer bound.end()
	return p.cmd.run(bound, c.Value)
}

// inJob is the innermost handler in the job.
func (r *Registry) inJob(ctx context.Context, c *Command) (any, error) {
	p, err := ready(ctx, c)
	if err != nil {
		return nil, err
	}
	p.ran = true
	if p.job.Err() != nil {
		ctx = unwinding{p.job, ctx}
	}
	return p.cmd.run(ctx, c.Value)
}

// ready is the pass of a command that can be run.
func ready(ctx context.Context, c *Command) (*pass, error) {
	p, err := need(ctx, "run")
	if err == nil && (p.cmd == nil || c.Value == nil) {
		err = Errorf(Internal, "dispatch: the stages lookup and bind are needed to run a command")
	}
	return p, err
}

// spanName is the span of a command; names nobody has are the caller's text and share one.
func (r *Registry) spanName(name string) string {
	if versions := r.commands[name]; len(versions) > 0 {
		return versions[0].span
	}
	return "dispatch other"
}

// knows tells whether the host has named the parameter, in lower case, as known.
func (r *Registry) knows(lower string) bool { return r.known[lower] }

func unknownCommand(name, version string) error {
	if version != "" {
		return Errorf(UnknownCommand, "unknown command %q version %q", printable(name), printable(version))
	}
	return Errorf(UnknownCommand, "unknown command %q", printable(name))
}

func (r *Registry) find(name, version string) (*command, error) {
	for _, c := range r.commands[name] {
		if version == c.version || version == "" && c.info.Deprecated == "" {
			return c, nil
		}
	}
	return nil, unknownCommand(name, version)
}

// identify is the job's identity of a caller; an error if there is none.
func (r *Registry) identify(caller any) (map[string]string, error) {
	if caller == nil {
		return nil, nil
	}
	if r.Identify != nil {
		if id := r.Identify(caller); id != nil {
			return id, nil
		}
	} else if id, ok := caller.(map[string]string); ok {
		return id, nil
	} else if i, ok := caller.(interface{ Identity() map[string]string }); ok {
		return i.Identity(), nil
	}
	return nil, Errorf(Internal, "dispatch: no identity for a caller of type %T", caller)
}

func (r *Registry) restore(ctx context.Context, identity map[string]string) (any, error) {
	if r.Restore == nil {
		return identity, nil
	}
	caller, err := r.Restore(ctx, identity)
	if err != nil {
		return nil, Errorf(Forbidden, "caller cannot be restored: %w", err)
	}
	return caller, nil
}

// add registers c; a mistake in the host's wiring panics, naming the command.
func (r *Registry) add(c *command) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sealed {
		panic(fmt.Sprintf("dispatch: command %s registered after the first Dispatch", c.name))
	}
	if r.commands == nil {
		r.commands = map[string][]*command{}
	}
	for _, other := range r.commands[c.name] {
		if other.version == c.version {
			panic(fmt.Sprintf("dispatch: command %s version %s registered twice", c.name, c.version))
		}
	}
	r.commands[c.name] = append(r.commands[c.name], c)
	slices.SortFunc(r.commands[c.name], func(a, b *command) int { return compareVersions(b.version, a.version) })
}

// compareVersions compares numbers as numbers and everything else as text.
func compareVersions(a, b string) int {
	x, err1 := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	if err1 == nil && err2 == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a, b)
}
