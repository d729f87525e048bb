package dispatch

import (
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
// taken or malformed, a bad tag, a registration after the first Dispatch.
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
// the entity by EntityID(ctx).
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
	switch {
	case m == nil:
		panic(fmt.Sprintf("dispatch: async command %s without a job manager", name))
	case create != nil && r.Tx == nil:
		panic(fmt.Sprintf("dispatch: command %s creates an entity, so the Registry needs Tx", name))
	case c.schema.secret:
		panic(fmt.Sprintf("dispatch: async command %s has a secret parameter, and jobs cannot seal their arguments yet", name))
	}
	c.jobs, c.run, c.kind = m, runner(f), "cmd."+name
	if c.version != "1" {
		c.kind += "@" + c.version
	}
	if create != nil {
		c.create = func(ctx context.Context, tx store.Tx, value any) (string, error) { return create(ctx, tx, value.(*C)) }
	}
	r.add(c)
	handle[R](r, c, o)
}

func runner[C, R any](f func(ctx context.Context, c C) (R, error)) func(ctx context.Context, value any) (any, error) {
	return func(ctx context.Context, value any) (any, error) { return f(ctx, *value.(*C)) }
}

// Option tells more about a command.
type Option func(*options)

type options struct {
	doc, since, version, deprecated string
	roles                           []string
	timeout                         time.Duration
	key                             func(value any) syncqueue.Key
	resource                        func(value any) string
	job                             []job.HandleOption
	cancellable, hidden             bool
	errors                          []Code
}

// Doc is the command's description in the catalogue.
func Doc(s string) Option { return func(o *options) { o.doc = s } }

// Since is the release that brought the command.
func Since(v string) Option { return func(o *options) { o.since = v } }

// Version is the command's version, default "1". Several may be registered; "" asks for the newest not deprecated.
func Version(v string) Option { return func(o *options) { o.version = v } }

// Deprecated keeps a version for those who ask for it by number; use says what to call instead.
func Deprecated(use string) Option { return func(o *options) { o.deprecated = use } }

// Roles restricts the command to callers whose identity's "roles" (comma-separated) has one of these.
func Roles(r ...string) Option { return func(o *options) { o.roles = r } }

// Timeout bounds a sync or list command; default 30 s. For async commands use Job(job.Timeout(d)).
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// SyncKey gives the key whose turns the command's jobs take; a method Sync() syncqueue.Key of C does the same.
func SyncKey[C any](f func(C) syncqueue.Key) Option {
	return func(o *options) { o.key = func(v any) syncqueue.Key { return f(*v.(*C)) } }
}

// ResourceOf says what the command's job is about ("vm/42"), for listing and for Accepted.Entity.
func ResourceOf[C any](f func(C) string) Option {
	return func(o *options) { o.resource = func(v any) string { return f(*v.(*C)) } }
}

// Job passes options to the job's kind.
func Job(o ...job.HandleOption) Option {
	return func(all *options) { all.job = append(all.job, o...) }
}

// Cancellable lets a running job of the command be cancelled; without it only one that has not started can be.
func Cancellable() Option { return func(o *options) { o.cancellable = true } }

// Errors lists codes the command may give beside those of the stages, for the catalogue.
func Errors(c ...Code) Option { return func(o *options) { o.errors = append(o.errors, c...) } }

// Hidden makes the command unknown to callers who may not use it.
func Hidden() Option { return func(o *options) { o.hidden = true } }

var validName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]{0,127}$`)

// newCommand compiles C's tags and the options.
func newCommand[C, R any](name, mode string, opts []Option) (*command, *options) {
	o := &options{version: "1", timeout: 30 * time.Second}
	for _, opt := range opts {
		opt(o)
	}
	if !validName.MatchString(name) {
		panic(fmt.Sprintf("dispatch: bad command name %q", name))
	}
	if o.timeout <= 0 || o.version == "" {
		panic(fmt.Sprintf("dispatch: command %s: timeout and version must not be empty", name))
	}
	typ := reflect.TypeFor[C]()
	s, err := compile(name, typ)
	if err != nil {
		panic(err.Error())
	}
	if o.key == nil && typ.Implements(reflect.TypeFor[interface{ Sync() syncqueue.Key }]()) {
		o.key = func(v any) syncqueue.Key { return any(*v.(*C)).(interface{ Sync() syncqueue.Key }).Sync() }
	}
	return &command{
		name: name, version: o.version, typ: typ, schema: s, hidden: o.hidden, timeout: o.timeout, key: o.key, resource: o.resource,
		info: describe(name, mode, o, s, reflect.TypeFor[R]()),
	}, o
}
