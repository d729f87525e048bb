package dispatch

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// Option tells more about a command.
type Option func(*options)

type options struct {
	doc, since, version, deprecated string
	roles                           []string
	timeout                         time.Duration
	key                             func(value any) syncqueue.Key
	resource                        func(value any) string
	outside                         func(ctx context.Context, value any) (string, error)
	undo                            func(ctx context.Context, value any) error
	typed                           []reflect.Type // that options with a C were made for
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

// Timeout bounds a sync or list command, default 30 s, or each run of an async one's job, default the job package's.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// SyncKey gives the key whose turns the command's jobs take; a method Sync() syncqueue.Key of C does the same.
func SyncKey[C any](f func(C) syncqueue.Key) Option {
	return func(o *options) {
		o.key, o.typed = func(v any) syncqueue.Key { return f(*v.(*C)) }, append(o.typed, reflect.TypeFor[C]())
	}
}

// ResourceOf says what the command's job is about ("vm/42"), for listing and for Accepted.Entity.
func ResourceOf[C any](f func(C) string) Option {
	return func(o *options) {
		o.resource, o.typed = func(v any) string { return f(*v.(*C)) }, append(o.typed, reflect.TypeFor[C]())
	}
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

// Outside makes the entity of an async command in another system: create runs once, before the submitting transaction. If the
// submission then fails, or loses a race for its Idem, undo takes the entity back, under a context that outlives the caller's
// by 30 s; its error is joined to the submission's. A submission whose outcome cannot be found out is an *UncertainError, and
// is not undone. What create changes in *C is seen by undo, SyncKey and ResourceOf.
func Outside[C any](create func(ctx context.Context, c *C) (entity string, err error), undo func(ctx context.Context, c *C) error) Option {
	return func(o *options) {
		o.typed = append(o.typed, reflect.TypeFor[C]())
		o.outside = func(ctx context.Context, v any) (string, error) { return create(ctx, v.(*C)) }
		if undo != nil {
			Undo(undo)(o)
		}
	}
}

// Undo gives the undo of Outside on its own.
func Undo[C any](f func(ctx context.Context, c *C) error) Option {
	return func(o *options) {
		o.typed = append(o.typed, reflect.TypeFor[C]())
		o.undo = func(ctx context.Context, v any) error { return f(ctx, v.(*C)) }
	}
}

// unfit says why the options do not go with a command of that type and mode, or "".
func (o *options) unfit(c reflect.Type, mode string) string {
	for _, t := range o.typed {
		if t != c {
			return fmt.Sprintf("an option is for a %s, the command is a %s", t, c)
		}
	}
	switch {
	case o.timeout < 0 || o.version == "":
		return "timeout and version must not be empty"
	case mode != "sync" && mode != "list":
		return ""
	case o.outside != nil || o.undo != nil || o.key != nil || o.resource != nil || o.job != nil || o.cancellable:
		return "Outside, Undo, SyncKey, ResourceOf, Job and Cancellable are for async commands"
	}
	return ""
}
