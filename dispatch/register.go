package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Sync registers a command that f answers at once, in the caller's goroutine, with a deadline (Timeout, 30 s by default).
// C is a struct whose fields carry param tags; see the package documentation. It panics on a mistake: a name that is
// taken or malformed, a bad tag, an option of async commands, a registration after the first Dispatch.
func Sync[C, R any](r *Registry, name string, f func(ctx context.Context, c C) (R, error), opts ...Option) {
	c, _ := newCommand[C, R](name, "sync", opts)
	c.run = runner(f)
	r.add(c)
}

// List is Sync whose items are annotated with their oldest live job, if they have a Resource() string method and
// Registry.Jobs is set. An annotation that fails is logged, and the list is answered without it.
func List[C, R any](r *Registry, name string, f func(ctx context.Context, c C) (Page[R], error), opts ...Option) {
	c, _ := newCommand[C, R](name, "list", opts)
	c.run = func(ctx context.Context, value any) (any, error) {
		page, err := f(ctx, *value.(*C))
		if err != nil {
			return nil, err
		}
		if page.Jobs == nil && r.Jobs != nil {
			page.Jobs = annotate(ctx, r, page.Items)
		}
		return page, nil
	}
	r.add(c)
}

// Async registers a command that answers Accepted and runs f later in a job of m, of kind cmd.<name> (cmd.<name>@<version>
// for versions other than "1"). create, if not nil, runs in the submitting transaction (Registry.Tx) and may allocate the
// entity: command, entity and job are committed together or not at all. It may be called again when the transaction is
// retried, so its effects stay inside tx; changes it makes to *C are seen by SyncKey and ResourceOf, not by f, which gets
// the entity by EntityID(ctx). An entity of another system is made by the option Outside instead.
//
// The stages run twice: in the caller, so that its mistakes are its own, and in the job, since things change meanwhile.
// A failure of a stage in the job fails it for good, but for Unavailable, RateLimited and Draining, which the job's policy may
// retry. Jobs have one attempt unless Job(job.Retry(…)) says otherwise; after the loss of its node f runs again, unless
// Job(job.OnLost(job.Fail)).
func Async[C, R any](r *Registry, m *job.Manager, name string,
	create func(ctx context.Context, tx store.Tx, c *C) (entity string, err error),
	f func(ctx context.Context, c C) (R, error), opts ...Option) {
	mode := "async"
	if create != nil {
		mode = "async-create"
	}
	c, o := newCommand[C, R](name, mode, opts)
	c.kind = "cmd." + name
	if c.version != "1" {
		c.kind += "@" + c.version
	}
	c.jobs, c.run, c.outside, c.undo = m, runner(f), o.outside, o.undo
	if create != nil {
		c.create = func(ctx context.Context, tx store.Tx, value any) (string, error) { return create(ctx, tx, value.(*C)) }
	}
	if why := c.unfit(r); why != "" {
		panic(fmt.Sprintf("dispatch: command %s %s", name, why))
	}
	if c.outside != nil {
		c.info.Mode = "async-create"
	}
	r.add(c)
	handle[R](r, c, o)
}

// unfit says what an async command lacks, or "".
func (c *command) unfit(r *Registry) string {
	switch {
	case c.jobs == nil:
		return "is async and has no job manager"
	case c.create != nil && c.outside != nil:
		return "creates its entity both in the transaction and outside"
	case c.create != nil && r.Tx == nil:
		return "creates an entity, so the Registry needs Tx"
	case c.outside != nil && c.undo == nil:
		return "creates its entity outside and has no undo"
	case c.outside == nil && c.undo != nil:
		return "has an undo and nothing made outside"
	case c.schema.secret && r.Cipher == nil:
		return "is async and has a secret parameter, so the Registry needs Cipher"
	}
	return ""
}

func runner[C, R any](f func(ctx context.Context, c C) (R, error)) func(ctx context.Context, value any) (any, error) {
	return func(ctx context.Context, value any) (any, error) { return f(ctx, *value.(*C)) }
}

var validName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]{0,127}$`)

// newCommand compiles C's tags and the options; what does not fit panics.
func newCommand[C, R any](name, mode string, opts []Option) (*command, *options) {
	o := &options{version: "1"}
	for _, opt := range opts {
		opt(o)
	}
	if !validName.MatchString(name) {
		panic(fmt.Sprintf("dispatch: bad command name %q", name))
	}
	typ := reflect.TypeFor[C]()
	s, err := compile(name, typ)
	if err != nil {
		panic(err.Error())
	}
	if why := o.unfit(typ, mode); why != "" {
		panic(fmt.Sprintf("dispatch: command %s: %s", name, why))
	}
	c := &command{
		name: name, version: o.version, span: "dispatch " + name, schema: s, hidden: o.hidden, timeout: cmp.Or(o.timeout, 30*time.Second),
		key: o.key, resource: o.resource, fresh: func() any { return new(C) },
		clone: func(value any) any { v := *value.(*C); return &v },
		info:  describe(name, mode, o, s, reflect.TypeFor[R]()),
	}
	methods[C](c)
	return c, o
}

// methods finds the optional methods of C.
func methods[C any](c *command) {
	switch any(new(C)).(type) {
	case interface{ Validate() error }:
		c.validate = func(_ context.Context, v any) error { return v.(interface{ Validate() error }).Validate() }
	case interface {
		Validate(ctx context.Context) error
	}:
		c.validate = func(ctx context.Context, v any) error {
			return v.(interface {
				Validate(ctx context.Context) error
			}).Validate(ctx)
		}
	}
	if _, has := any(new(C)).(interface{ Entities() []Entity }); has {
		c.entities = func(v any) []Entity { return v.(interface{ Entities() []Entity }).Entities() }
	}
	if _, has := any(new(C)).(interface{ Sync() syncqueue.Key }); has && c.key == nil {
		c.key = func(v any) syncqueue.Key { return v.(interface{ Sync() syncqueue.Key }).Sync() }
	}
}
