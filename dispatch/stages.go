package dispatch

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

// stage makes a Stage of a check that runs before the next.
func stage(name string, check func(ctx context.Context, p *pass, c *Command) error) Stage {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Command) (any, error) {
			p, err := need(ctx, name)
			if err != nil {
				return nil, err
			}
			if p.debug {
				err = p.spanned(ctx, name, c, check)
			} else {
				err = check(ctx, p, c)
			}
			if err != nil {
				p.reg.telemetry().rejected(ctx, name, err)
				return nil, err
			}
			return next.Dispatch(ctx, c)
		})
	}
}

// Recover turns a panic of later stages or of the command into Internal; the stack goes to the log, never into the answer.
func Recover() Stage {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Command) (r any, err error) {
			defer func() {
				v := recover()
				if v == nil {
					return
				}
				stack := debug.Stack()
				if p := passOf(ctx); p != nil {
					p.reg.env().Logger.ErrorContext(ctx, "command panicked", "command", c.Name, "panic", fmt.Sprint(v), "stack", string(stack))
				}
				r, err = nil, &Error{Code: Internal, Text: "internal error", err: &drover.PanicError{Value: v, Stack: stack}}
			}()
			return next.Dispatch(ctx, c)
		})
	}
}

// Lookup finds the command by name (with letter case) and version ("" = the newest not deprecated): ErrUnknown.
func Lookup() Stage {
	return stage("lookup", func(_ context.Context, p *pass, c *Command) (err error) {
		p.cmd, err = p.reg.find(c.Name, c.Version)
		return err
	})
}

// Permit asks f, or with nil the Registry's Permit, whether this caller may use this command at all. A hidden command that
// is not permitted, or lies outside the caller's roles, answers as if it did not exist.
func Permit(f func(ctx context.Context, caller any, info CommandInfo) error) Stage {
	return stage("permit", func(ctx context.Context, p *pass, c *Command) error {
		err := p.permit(ctx, f, p.cmd)
		if err != nil && p.cmd.hidden {
			return unknownCommand(c.Name, c.Version) // the very answer of a name that does not exist
		}
		return err
	})
}

func (p *pass) permit(ctx context.Context, f func(context.Context, any, CommandInfo) error, cmd *command) error {
	if f == nil {
		f = p.reg.Permit
	}
	var err error
	if !p.allowed(cmd.info.Roles) {
		err = Errorf(Forbidden, "command %s needs one of the roles %s", cmd.name, strings.Join(cmd.info.Roles, ", "))
	} else if f != nil {
		err = f(ctx, p.c.Caller, cmd.info)
	}
	switch CodeOf(err) {
	case "":
		return nil
	case Internal, Forbidden:
		return &Error{Code: Forbidden, Text: err.Error(), notYours: true, err: err}
	}
	return err
}

// Unpack checks names and texts and sorts name[index].field into structures: ErrMalformed, ErrInvalid.
func Unpack() Stage {
	return stage("unpack", func(_ context.Context, p *pass, c *Command) (err error) {
		p.values, err = unpack(c.Params)
		return err
	})
}

// Bind fills the command's struct by its tags, and looks up the entities that parameters name: ErrInvalid with a
// *FieldError for each fault, at most 16, in the order of the fields.
func Bind() Stage {
	return stage("bind", func(ctx context.Context, p *pass, c *Command) error {
		value, err := p.bind(ctx)
		c.Value = value
		return err
	})
}

// Authorize asks f, or with nil the Registry's Authorize, once, with c.Value bound and EntitiesOf(ctx) complete.
func Authorize(f func(ctx context.Context, c *Command) error) Stage {
	return stage("authorize", func(ctx context.Context, p *pass, c *Command) error {
		if p.cmd.entities != nil {
			p.entities = append(p.entities, p.cmd.entities(c.Value)...)
		}
		if owner := p.owner(c.Value); owner != "" {
			p.entities = append(p.entities, Entity{Type: "account", ID: owner, Access: "own"})
		}
		ask := f
		if ask == nil {
			ask = p.reg.Authorize
		}
		if ask == nil {
			return nil
		}
		err := ask(ctx, c)
		if err != nil && CodeOf(err) == Internal {
			return Errorf(Forbidden, "%w", err)
		}
		return err
	})
}

// owner is the account that what the command creates will belong to: what its method Owner says, else the caller's.
func (p *pass) owner(value any) string {
	if !p.cmd.creates() {
		return ""
	}
	if o, ok := value.(interface{ Owner() string }); ok {
		if name := o.Owner(); name != "" {
			return name
		}
	}
	return p.identity()["account"]
}

// Generic warns once about parameters that nobody knows, and goes on; if the command is Strict, it refuses them: ErrInvalid.
func Generic() Stage {
	return stage("generic", func(ctx context.Context, p *pass, c *Command) error {
		if p.executing || p.used == len(p.values.plain)+len(p.values.lists) && len(p.unknown) == 0 {
			return nil
		}
		unknown := p.strangers(c.Strict)
		switch {
		case len(unknown) == 0:
			return nil
		case c.Strict:
			bad := make([]*FieldError, len(unknown))
			for i, name := range unknown {
				bad[i] = &FieldError{Field: name, Reason: Unknown}
			}
			return fieldsError(bad)
		}
		if t := p.reg.telemetry(); t.unknown.Enabled(ctx) {
			t.unknown.Add(ctx, int64(len(unknown)), metric.WithAttributes(attribute.String("command", p.cmd.name)))
		}
		p.reg.env().Logger.WarnContext(ctx, "unknown parameters", "command", c.Name, "parameters", unknown)
		return nil
	})
}

// strangers are the parameters that nobody knows, sorted. To a strict face only those of the command are known.
func (p *pass) strangers(strict bool) []string {
	unknown := slices.Clone(p.unknown)
	note := func(name string) {
		x := p.cmd.schema.byName[name]
		if x != nil && p.allowed(x.roles) || p.reg.knows(name) || !strict && alwaysKnown[name] {
			return
		}
		unknown = append(unknown, printable(name))
	}
	for name := range p.values.plain {
		note(name)
	}
	for name := range p.values.lists {
		note(name)
	}
	slices.Sort(unknown)
	return unknown
}

// alwaysKnown are what CloudStack's clients add to any command.
var alwaysKnown = map[string]bool{
	"command": true, "response": true, "apikey": true, "signature": true, "signatureversion": true, "expires": true,
	"sessionkey": true, "page": true, "pagesize": true, "listall": true, "filter": true, "keyword": true, "projectid": true,
	"account": true, "domainid": true, "customid": true, "customjobid": true, "details": true,
}

// Validate calls the command's own Validate() error or Validate(ctx) error, once per pass. A plain error counts as Invalid.
func Validate() Stage {
	return stage("validate", func(ctx context.Context, p *pass, c *Command) error {
		if p.cmd.validate == nil {
			return nil
		}
		err := p.cmd.validate(ctx, c.Value)
		if err != nil && CodeOf(err) == Internal {
			return Errorf(Invalid, "%w", err)
		}
		return err
	})
}

// Admit refuses async commands while their manager drains, before anything is created: ErrDraining. Commands of running jobs
// are children of theirs, and let through.
func Admit() Stage {
	return stage("admit", func(_ context.Context, p *pass, _ *Command) error {
		if p.cmd.jobs == nil || p.executing {
			return nil
		}
		return p.accepting()
	})
}

func (p *pass) accepting() error {
	if _, child := job.FromContext(p.Context); child {
		return nil
	}
	return p.cmd.jobs.Accepting()
}
