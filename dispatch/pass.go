package dispatch

import (
	"context"
	"log/slog"
	"strings"

	"github.com/drover-cloud/drover/job"
)

// pass is what the stages of one dispatch share. It is the context that they and the command run under, so that nothing of it
// is left anywhere afterwards.
type pass struct {
	context.Context
	reg       *Registry
	cmd       *command
	c         Command // the caller's own stays as it was
	values    values
	used      int      // of values: names that the command has, as Bind found
	unknown   []string // members of structures that the command does not have
	entities  []Entity
	executing bool
	ran       bool            // the stages are through, f was reached
	entity    string          // in the job: what create made
	job       context.Context // of its run
	debug     bool            // a span per stage
	id        map[string]string
	caps      map[string]bool
}

type passKey struct{}

// Value answers the pass itself, or what the caller's context has.
func (p *pass) Value(key any) any {
	if _, own := key.(passKey); own {
		return p
	}
	return p.Context.Value(key)
}

// unwinding has the values of the stages and the end of a run whose context has ended before it began.
type unwinding struct {
	context.Context // the run's
	stages          context.Context
}

// Value asks the stages first.
func (u unwinding) Value(key any) any {
	if v := u.stages.Value(key); v != nil {
		return v
	}
	return u.Context.Value(key)
}

func passOf(ctx context.Context) *pass {
	p, _ := ctx.Value(passKey{}).(*pass)
	return p
}

// need is passOf for stages, which make sense only inside a Registry's Dispatch.
func need(ctx context.Context, stage string) (*pass, error) {
	if p := passOf(ctx); p != nil {
		return p, nil
	}
	return nil, Errorf(Internal, "dispatch: stage %s outside of a Registry", stage)
}

// Executing tells whether this is the pass in the job, in which stages and f run for the second time.
func Executing(ctx context.Context) bool {
	p := passOf(ctx)
	return p != nil && p.executing
}

// Caller is who dispatched the command: in a job, who submitted it, as Registry.Restore gives it today.
func Caller(ctx context.Context) any {
	if p := passOf(ctx); p != nil {
		return p.c.Caller
	}
	return nil
}

// Name is the command that ctx belongs to, with its version; empty outside of one.
func Name(ctx context.Context) (name, version string) {
	if p := passOf(ctx); p != nil && p.cmd != nil {
		return p.cmd.name, p.cmd.version
	}
	return "", ""
}

// StartID is, in the job of a command, the ID that its three events have; else "".
func StartID(ctx context.Context) string {
	if p := passOf(ctx); p != nil && p.executing {
		return eventID(p.c.JobID)
	}
	return ""
}

// EntityID is, in the job of an async-create command, the entity that create made; else "".
func EntityID(ctx context.Context) string {
	if p := passOf(ctx); p != nil {
		return p.entity
	}
	return ""
}

// EntitiesOf lists what the command touches: ids of parameters tagged entity=, those of its Entities method and, when the
// command creates something, the account that will own it (Type "account", Access "own").
func EntitiesOf(ctx context.Context) []Entity {
	if p := passOf(ctx); p != nil {
		return p.entities
	}
	return nil
}

// Logger is the Registry's logger with the attributes command, caller and, in a job, job; outside of a command slog.Default.
func Logger(ctx context.Context) *slog.Logger {
	p := passOf(ctx)
	if p == nil {
		return slog.Default()
	}
	lg := p.reg.env().Logger.With("command", p.c.Name, "caller", p.callerName())
	if p.executing {
		lg = lg.With("job", p.c.JobID)
	}
	return lg
}

// identity is the caller's, or nil if it has none.
func (p *pass) identity() map[string]string {
	if p.id == nil {
		if p.id, _ = p.reg.identify(p.c.Caller); p.id == nil {
			p.id = map[string]string{}
		}
	}
	return p.id
}

// callerName is what logs call the caller.
func (p *pass) callerName() string {
	id := p.identity()
	for _, k := range [...]string{"user", "username", "userid", "account"} {
		if id[k] != "" {
			return id[k]
		}
	}
	return ""
}

// roles are the caller's, from the identity's well-known key.
func (p *pass) roles() map[string]bool {
	if p.caps == nil {
		p.caps = map[string]bool{}
		for r := range strings.SplitSeq(p.identity()["roles"], ",") {
			if r = strings.TrimSpace(r); r != "" {
				p.caps[r] = true
			}
		}
	}
	return p.caps
}

// allowed tells whether the caller has one of the roles.
func (p *pass) allowed(roles []string) bool {
	if len(roles) == 0 {
		return true
	}
	have := p.roles()
	for _, r := range roles {
		if have[r] {
			return true
		}
	}
	return false
}

// inherit makes the caller of a command that is dispatched inside a job, and has none, that of the job.
func (p *pass) inherit() error {
	if p.c.Caller != nil || p.executing {
		return nil
	}
	if outer := passOf(p.Context); outer != nil {
		p.c.Caller = outer.c.Caller
		return nil
	}
	if j, inJob := job.FromContext(p.Context); inJob && len(j.Identity) > 0 {
		caller, err := p.reg.restore(p.Context, j.Identity)
		p.c.Caller = caller
		return err
	}
	return nil
}
