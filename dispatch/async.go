package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Accepted is the answer of an async command: what was made of it will be the job's result.
type Accepted struct {
	JobID    string
	Entity   string // what create made, else the job's resource
	Replayed bool   // the same request came before; this is the first answer
	Joined   bool   // a live job of the same unique name is joined
}

// UncertainError says that the answer of a commit was lost and the store could not be asked again in time: the job, and
// the entity, may exist.
type UncertainError struct{ JobID, Entity string }

func (e *UncertainError) Error() string { return "dispatch: outcome unknown of job " + e.JobID }

// jobArgs is what a command's job keeps: enough to take it through the stages again.
type jobArgs struct {
	Command string            `json:"command"`
	Version string            `json:"version"`
	Params  map[string]string `json:"params,omitempty"`
	Entity  string            `json:"entity,omitempty"`
}

var errReplayed = errors.New("dispatch: replayed") // rolls back what create did for a request that came before

// submit makes the job, and with create the entity, in one transaction.
func (r *Registry) submit(ctx context.Context, p *pass, c *Command) (any, error) {
	identity, err := r.identify(p.caller)
	if err != nil {
		return nil, err
	}
	req := job.Request{Kind: p.cmd.kind, Identity: identity, Fingerprint: fingerprint(identity["account"], p.cmd, c.Params)}
	chosen := c.JobID != "" || c.Idem != ""
	switch {
	case c.JobID != "":
		if !isUUID(c.JobID) {
			return nil, fieldsError([]*FieldError{{Field: "jobid", Reason: BadType, Value: printable(c.JobID), Limit: "a UUID"}})
		}
		req.ID = strings.ToLower(c.JobID)
	case c.Idem != "":
		req.ID = idemID(identity["account"], p.cmd.kind, c.Idem)
	default: // drawn here, so that an uncertain commit can be settled by looking for it
		req.ID = r.env().NewID()
	}
	if chosen {
		if a, found, err := p.replay(ctx, req); found || err != nil {
			return a, err
		}
	}
	if r.Tx == nil {
		return p.submitAlone(ctx, c, req)
	}
	return p.submitInTx(ctx, c, req, chosen)
}

// replay answers for a job that is there already: the first answer, or idempotency-mismatch.
func (p *pass) replay(ctx context.Context, req job.Request) (a Accepted, found bool, err error) {
	if _, err := p.cmd.jobs.Get(ctx, req.ID); errors.Is(err, job.ErrNotFound) {
		return a, false, nil
	} else if err != nil {
		return a, false, err
	}
	req.Args = jobArgs{Command: p.cmd.name, Version: p.cmd.version}
	j, err := p.cmd.jobs.Submit(ctx, req) // compares fingerprints; never makes a job, since the id is taken
	if err != nil {
		return a, true, err
	}
	return accepted(j), true, nil
}

func (p *pass) submitAlone(ctx context.Context, c *Command, req job.Request) (any, error) {
	p.complete(&req, c, c.Value, "")
	j, err := p.cmd.jobs.Submit(ctx, req)
	if err != nil {
		return nil, err
	}
	return accepted(j), nil
}

// submitInTx makes entity and job. Where the caller chose the id, a loss of the race for it shows as any error of create,
// since the winner's entity is there too: then the winner's answer counts.
func (p *pass) submitInTx(ctx context.Context, c *Command, req job.Request, chosen bool) (any, error) {
	var a Accepted
	var inner error // fn's own; an error without it is the commit's
	err := p.reg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		a, inner = p.createAndSubmit(ctx, tx, c, req)
		return inner
	})
	switch {
	case err == nil:
		return a, nil
	case inner != nil:
		if chosen {
			if a, found, err := p.replay(ctx, req); found {
				return a, err
			}
		}
		return nil, err
	}
	return p.settle(ctx, a, err)
}

func (p *pass) createAndSubmit(ctx context.Context, tx store.Tx, c *Command, req job.Request) (Accepted, error) {
	if err := p.cmd.jobs.Accepting(); err != nil { // a drain may have begun since the stage admit
		return Accepted{}, err
	}
	value := reflect.New(p.cmd.typ) // create may change it, and the transaction may be retried
	value.Elem().Set(reflect.ValueOf(c.Value).Elem())
	entity := ""
	if p.cmd.create != nil {
		var err error
		if entity, err = p.cmd.create(ctx, tx, value.Interface()); err != nil {
			return Accepted{}, err
		}
	}
	p.complete(&req, c, value.Interface(), entity)
	j, err := p.cmd.jobs.SubmitTx(ctx, tx, req)
	if err != nil {
		return Accepted{}, err
	}
	if j.Replayed {
		return Accepted{}, errReplayed
	}
	return accepted(j), nil
}

// complete fills what depends on the bound value.
func (p *pass) complete(req *job.Request, c *Command, value any, entity string) {
	req.Args = jobArgs{Command: p.cmd.name, Version: p.cmd.version, Params: c.Params, Entity: entity}
	if p.cmd.key != nil {
		req.Sync = p.cmd.key(value)
	}
	req.Resource = entity
	if p.cmd.resource != nil {
		req.Resource = p.cmd.resource(value)
	}
}

// settle asks the store what became of a commit whose answer was lost.
func (p *pass) settle(ctx context.Context, a Accepted, cause error) (any, error) {
	if a.JobID == "" {
		return nil, cause
	}
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	j, err := p.cmd.jobs.Get(ask, a.JobID)
	switch {
	case err == nil:
		return accepted(j), nil
	case errors.Is(err, job.ErrNotFound):
		return nil, cause
	}
	return nil, errors.Join(&UncertainError{JobID: a.JobID, Entity: a.Entity}, cause)
}

func accepted(j *job.Job) Accepted {
	a := Accepted{JobID: j.ID, Entity: j.Resource, Replayed: j.Replayed, Joined: j.Joined}
	var args jobArgs
	if json.Unmarshal(j.Args, &args) == nil && args.Entity != "" {
		a.Entity = args.Entity
	}
	return a
}

// fingerprint is what "the same request" means: account, command, version and parameters.
func fingerprint(account string, c *command, params map[string]string) string {
	h := sha256.New()
	put := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	put(account)
	put(c.name)
	put(c.version)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		put(strings.ToLower(name))
		put(params[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// idemID makes an id (UUID version 8) of an idempotency key, so that one look by id finds the first request.
func idemID(account, kind, idem string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%d:%s%s", len(account), account, len(kind), kind, idem))
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// handle registers the kind of c's jobs.
func handle[R any](r *Registry, c *command, o *options) {
	opts := []job.HandleOption{job.Retry(nil, 1)}
	if !o.cancellable {
		opts = append(opts, job.NotCancellable())
	}
	job.Handle(c.jobs, c.kind, func(ctx context.Context, a jobArgs) (R, error) { return runInJob[R](ctx, r, a) }, append(opts, o.job...)...)
}

// runInJob takes the command through the stages again, as who submitted it, and runs it.
func runInJob[R any](ctx context.Context, r *Registry, a jobArgs) (result R, err error) {
	r.seal()
	j, ok := job.FromContext(ctx)
	if !ok {
		return result, job.Permanent(Errorf(Internal, "dispatch: command %s outside of a job", a.Command))
	}
	caller, err := r.restore(ctx, j.Identity)
	if err != nil {
		return result, job.Permanent(err)
	}
	p := &pass{reg: r, caller: caller, executing: true, entity: a.Entity}
	out, err := r.execute.Dispatch(context.WithValue(ctx, passKey{}, p), &Command{Name: a.Command, Version: a.Version, Params: a.Params, Caller: caller, JobID: j.ID})
	if err != nil {
		if code := CodeOf(err); !p.ran && code != Unavailable && code != RateLimited && code != Draining {
			err = job.Permanent(err)
		}
		return result, err
	}
	if out != nil {
		result, ok = out.(R)
		if !ok {
			return result, job.Permanent(Errorf(Internal, "dispatch: command %s: a stage answered a %T", a.Command, out))
		}
	}
	return result, nil
}
