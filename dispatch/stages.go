package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
)

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

// Trace opens a span, counts, and writes one log line per command.
func Trace() Stage {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Command) (any, error) {
			p, err := need(ctx, "trace")
			if err != nil {
				return nil, err
			}
			t := p.reg.telemetry()
			name := "other" // an unknown name is the caller's text and must not become a metric's attribute
			if p.reg.has(c.Name) {
				name = c.Name
			}
			start := t.clock.Now()
			ctx, span := t.tracer.Start(ctx, "dispatch "+name)
			defer span.End()
			r, err := next.Dispatch(ctx, c)
			took := t.clock.Now().Sub(start)
			code := CodeOf(err)
			if span.IsRecording() {
				span.SetAttributes(attribute.String("command", name), attribute.String("version", c.Version), attribute.String("code", string(code)))
				if err != nil {
					span.SetStatus(otelcodes.Error, string(code))
				}
			}
			if t.duration.Enabled(ctx) {
				t.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("command", name), attribute.String("code", string(code))))
			}
			if lg := p.reg.env().Logger; lg.Enabled(ctx, slog.LevelInfo) {
				attrs := []slog.Attr{slog.String("command", name), slog.String("code", string(code)), slog.Duration("took", took), slog.Bool("executing", p.executing)}
				if a, ok := r.(Accepted); ok {
					attrs = append(attrs, slog.String("job", a.JobID))
				}
				attrs = append(attrs, reasonFor(err)...)
				lg.LogAttrs(ctx, slog.LevelInfo, "command", attrs...)
			}
			return r, traced(err, span.SpanContext())
		})
	}
}

// reasonFor is what the log says of a failure: of bad parameters the name and the reason, not the value.
func reasonFor(err error) []slog.Attr {
	var fe *FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fe):
		return []slog.Attr{slog.String("parameter", fe.Field), slog.String("reason", fe.Reason)}
	}
	return []slog.Attr{slog.String("error", err.Error())}
}

// traced notes the trace id in the error, so that a caller who gets only a general text can be helped.
func traced(err error, sc trace.SpanContext) error {
	if err == nil || !sc.HasTraceID() {
		return err
	}
	var e *Error
	if !errors.As(err, &e) {
		e = wrap(err)
		e.Trace = sc.TraceID().String()
		return e
	}
	if e.Trace == "" {
		copied := *e
		copied.Trace = sc.TraceID().String()
		if err != error(e) { //nolint:errorlint // is it wrapped at all
			copied.err = err // what wraps it may steer the job, as job.Permanent does
		}
		return &copied
	}
	return err
}

// Lookup finds the command by name (with letter case) and version ("" = the newest not deprecated): ErrUnknown.
func Lookup() Stage {
	return stage("lookup", func(ctx context.Context, p *pass, c *Command) (err error) {
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
		err = f(ctx, p.caller, cmd.info)
	}
	switch {
	case err == nil:
		return nil
	case CodeOf(err) == Internal:
		return Errorf(Forbidden, "%w", err)
	}
	return err
}

// Unpack checks names and texts and sorts name[index].field into structures: ErrMalformed, ErrInvalid.
func Unpack() Stage {
	return stage("unpack", func(ctx context.Context, p *pass, c *Command) (err error) {
		p.values, err = unpack(c.Params)
		return err
	})
}

// Bind fills the command's struct by its tags, and looks up the entities that parameters name: ErrInvalid with a
// *FieldError for each fault, at most 16.
func Bind() Stage {
	return stage("bind", func(ctx context.Context, p *pass, c *Command) error {
		v := reflect.New(p.cmd.typ)
		allowed := func(x *param) bool { return p.allowed(x.roles) }
		bad := p.cmd.schema.bind(&p.values, v.Elem(), allowed)
		if p.cmd.schema.entities {
			missing, err := p.entitiesOf(ctx, v.Elem(), bad)
			if err != nil {
				return err
			}
			bad = append(bad, missing...)
		}
		if len(bad) > 0 {
			p.cmd.schema.inOrder(bad)
			return fieldsError(bad)
		}
		c.Value = v.Interface()
		return nil
	})
}

// inOrder sorts faults by the order of the fields they belong to.
func (s *schema) inOrder(bad []*FieldError) {
	at := func(fe *FieldError) int {
		name, _, _ := strings.Cut(fe.Field, "[")
		return slices.IndexFunc(s.params, func(p *param) bool { return p.name == name })
	}
	slices.SortStableFunc(bad, func(a, b *FieldError) int { return at(a) - at(b) })
}

// entitiesOf collects the ids of parameters tagged entity= and asks the host about them, one call per type.
func (p *pass) entitiesOf(ctx context.Context, v reflect.Value, bad []*FieldError) (missing []*FieldError, err error) {
	ids := map[string][]string{}
	type ref struct {
		p  *param
		id string
	}
	var refs []ref
	for _, x := range p.cmd.schema.params {
		if x.entity == "" || slices.ContainsFunc(bad, func(fe *FieldError) bool { return strings.HasPrefix(fe.Field, x.name) }) {
			continue
		}
		for _, id := range x.ids(v.FieldByIndex(x.index)) {
			refs = append(refs, ref{x, id})
			ids[x.entity] = append(ids[x.entity], id)
		}
	}
	found := map[string]map[string]Entity{}
	for _, r := range refs {
		typ := r.p.entity
		if _, asked := found[typ]; !asked && p.reg.Entities != nil {
			if found[typ], err = p.reg.Entities(ctx, typ, ids[typ]); err != nil {
				return nil, err
			}
		}
		e, ok := found[typ][r.id]
		if p.reg.Entities != nil && !ok {
			missing = append(missing, &FieldError{Field: r.p.name, Reason: NoSuchEntity, Value: r.id})
			continue
		}
		if e.ID == "" {
			e = Entity{Type: typ, ID: r.id}
		}
		if e.Access == "" {
			e.Access = r.p.access
		}
		p.entities = append(p.entities, e)
	}
	return missing, nil
}

// ids are the entity ids in a bound field.
func (p *param) ids(v reflect.Value) (ids []string) {
	if p.pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if p.kind == kList {
		for i := range v.Len() {
			ids = append(ids, v.Index(i).String())
		}
		return ids
	}
	if s := v.String(); s != "" && s != "-1" {
		ids = append(ids, s)
	}
	return ids
}

// Authorize asks f, or with nil the Registry's Authorize, once, with c.Value bound and EntitiesOf(ctx) complete.
func Authorize(f func(ctx context.Context, c *Command) error) Stage {
	return stage("authorize", func(ctx context.Context, p *pass, c *Command) error {
		if e, ok := c.Value.(interface{ Entities() []Entity }); ok {
			p.entities = append(p.entities, e.Entities()...)
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

// Generic warns once about parameters that nobody knows, and goes on.
func Generic() Stage {
	return stage("generic", func(ctx context.Context, p *pass, c *Command) error {
		if p.executing {
			return nil
		}
		var unknown []string
		note := func(name string) {
			x := p.cmd.schema.byName[name]
			if x != nil && p.allowed(x.roles) || alwaysKnown[name] || slices.ContainsFunc(p.reg.Known, func(k string) bool { return strings.EqualFold(k, name) }) {
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
		if len(unknown) > 0 {
			slices.Sort(unknown)
			p.reg.env().Logger.WarnContext(ctx, "unknown parameters", "command", c.Name, "parameters", unknown)
		}
		return nil
	})
}

// alwaysKnown are what CloudStack's clients add to any command.
var alwaysKnown = map[string]bool{
	"command": true, "response": true, "apikey": true, "signature": true, "signatureversion": true, "expires": true,
	"sessionkey": true, "page": true, "pagesize": true, "listall": true, "filter": true, "keyword": true, "projectid": true,
	"account": true, "domainid": true, "customid": true, "customjobid": true, "details": true,
}

// Validate calls the command's own Validate() error or Validate(ctx) error, once per pass. A plain error counts as Invalid.
func Validate() Stage {
	return stage("validate", func(ctx context.Context, p *pass, c *Command) (err error) {
		switch v := c.Value.(type) {
		case interface{ Validate() error }:
			err = v.Validate()
		case interface {
			Validate(ctx context.Context) error
		}:
			err = v.Validate(ctx)
		}
		if err != nil && CodeOf(err) == Internal {
			return Errorf(Invalid, "%w", err)
		}
		return err
	})
}

// Admit refuses async commands while their manager drains, before anything is created: ErrDraining.
func Admit() Stage {
	return stage("admit", func(ctx context.Context, p *pass, c *Command) error {
		if p.cmd.jobs == nil || p.executing {
			return nil
		}
		return p.cmd.jobs.Accepting()
	})
}

// stage makes a Stage of a check that runs before the next.
func stage(name string, check func(ctx context.Context, p *pass, c *Command) error) Stage {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Command) (any, error) {
			p, err := need(ctx, name)
			if err != nil {
				return nil, err
			}
			if err := check(ctx, p, c); err != nil {
				return nil, err
			}
			return next.Dispatch(ctx, c)
		})
	}
}
