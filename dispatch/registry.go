package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Registry is a Handler that finds the command by name and version and takes it through the stages. The zero value is
// ready; nil hooks let all pass. Fields are set, and commands registered, before the first Dispatch; after it a
// Registry is safe for concurrent use.
type Registry struct {
	Env    drover.Env
	Tx     store.Runner // required for Async with create: the submitting transaction
	Jobs   *job.Manager // annotates the items of List commands; nil = no annotation
	Stages Stages       // zero = Standard()

	// Permit may refuse a command to a caller before its parameters are looked at; plain errors become Forbidden.
	Permit func(ctx context.Context, caller any, info CommandInfo) error
	// Authorize may refuse the bound command (c.Value) and the entities it names (EntitiesOf); asked again in the job.
	Authorize func(ctx context.Context, c *Command) error
	// Entities tells which of the ids of a type exist, for parameters tagged entity=; one call per type and command.
	Entities func(ctx context.Context, typ string, ids []string) (map[string]Entity, error)
	// Identify makes the job's identity of a caller. Default: a map[string]string itself, or the caller's Identity() method.
	Identify func(caller any) map[string]string
	// Restore makes the caller again when the job runs, with the roles of that day. Default: the identity itself.
	Restore func(ctx context.Context, identity map[string]string) (any, error)
	// Known are parameters that are never reported as unknown, in addition to those of CloudStack's clients.
	Known []string

	once     sync.Once
	mu       sync.Mutex
	sealed   bool
	commands map[string][]*command // by name, newest version first
	accept   Handler               // the chain in the caller
	execute  Handler               // the chain in the job
	envOnce  sync.Once
	ready    drover.Env
	tel      *telemetry
}

// command is one registered name and version.
type command struct {
	name, version string
	info          CommandInfo
	typ           reflect.Type
	schema        *schema
	hidden        bool
	timeout       time.Duration
	jobs          *job.Manager // async only
	kind          string       // of its jobs
	create        func(ctx context.Context, tx store.Tx, value any) (entity string, err error)
	key           func(value any) syncqueue.Key
	resource      func(value any) string
	run           func(ctx context.Context, value any) (any, error)
}

type telemetry struct {
	clock    drover.Clock
	tracer   trace.Tracer
	duration metric.Float64Histogram
}

const scope = "github.com/drover-cloud/drover/dispatch"

func (r *Registry) env() drover.Env {
	r.envOnce.Do(func() {
		r.ready = r.Env.Defaults()
		h, err := r.ready.Meter.Meter(scope).Float64Histogram("drover.dispatch.duration", metric.WithUnit("s"), metric.WithDescription("time from a command's arrival to its answer"))
		if err != nil {
			r.ready.Logger.Warn("metric refused", "error", err)
		}
		r.tel = &telemetry{clock: r.ready.Clock, tracer: r.ready.Tracer.Tracer(scope), duration: h}
	})
	return r.ready
}

func (r *Registry) telemetry() *telemetry {
	r.env()
	return r.tel
}

// Dispatch takes c through the stages and runs it: a sync or list command answers its result, an async one Accepted. The
// error is fit for Public and CodeOf.
func (r *Registry) Dispatch(ctx context.Context, c *Command) (any, error) {
	r.seal()
	p := &pass{reg: r, caller: c.Caller}
	return r.accept.Dispatch(context.WithValue(ctx, passKey{}, p), c)
}

// seal composes the chains at the first use; nothing can be registered afterwards.
func (r *Registry) seal() {
	r.once.Do(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sealed = true
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
	p, err := need(ctx, "run")
	if err != nil {
		return nil, err
	}
	if p.cmd == nil || c.Value == nil {
		return nil, Errorf(Internal, "dispatch: the stages lookup and bind are needed to run a command")
	}
	if p.cmd.jobs != nil {
		return r.submit(ctx, p, c)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cmd.timeout)
	defer cancel()
	return p.cmd.run(ctx, c.Value)
}

// inJob is the innermost handler in the job.
func (r *Registry) inJob(ctx context.Context, c *Command) (any, error) {
	p, err := need(ctx, "run")
	if err != nil {
		return nil, err
	}
	if p.cmd == nil || c.Value == nil {
		return nil, Errorf(Internal, "dispatch: the stages lookup and bind are needed to run a command")
	}
	p.ran = true
	return p.cmd.run(ctx, c.Value)
}

func (r *Registry) has(name string) bool { return len(r.commands[name]) > 0 }

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
