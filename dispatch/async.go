package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Accepted is the answer of an async command: what was made of it will be the job's result.
type Accepted struct {
	JobID    string `json:"job_id"`
	Entity   string `json:"entity,omitempty"`   // what create made, else the job's resource
	Replayed bool   `json:"replayed,omitempty"` // the same request came before; this is the first answer
	Joined   bool   `json:"joined,omitempty"`   // a live job of the same unique name is joined
}

// UncertainError says that the answer of a commit was lost and the store could not be asked again in time: the job, and
// the entity, may exist. Its code is Lost.
type UncertainError struct{ JobID, Entity string }

func (e *UncertainError) Error() string { return "dispatch: outcome unknown of job " + e.JobID }

// ErrorCode is Lost.
func (e *UncertainError) ErrorCode() string { return string(Lost) }

// How long a lost commit is looked for while the caller's context has no end of its own, and how often.
const (
	settleTime = 30 * time.Second
	askTime    = 5 * time.Second
	askEvery   = 100 * time.Millisecond
)

var errReplayed = errors.New("dispatch: replayed") // rolls back what create did for a request that came before

// submission is one async command on its way to a job.
type submission struct {
	p       *pass
	c       *Command
	req     job.Request
	args    jobArgs
	secrets map[string]string
	chosen  bool // the caller chose the id
}

// submit makes the job, and with create the entity.
func (r *Registry) submit(ctx context.Context, p *pass, c *Command) (Accepted, error) {
	s, err := p.submission(ctx, c)
	if err != nil {
		return Accepted{}, err
	}
	if s.chosen {
		if a, found, err := s.replay(ctx); found || err != nil {
			return a, err
		}
	}
	if p.cmd.outside != nil {
		return s.outside(ctx)
	}
	return s.run(ctx, c.Value, "")
}

// submission is what does not depend on the entity.
func (p *pass) submission(ctx context.Context, c *Command) (*submission, error) {
	identity, err := p.reg.identify(p.c.Caller)
	if err != nil {
		return nil, err
	}
	s := &submission{p: p, c: c, chosen: c.JobID != "" || c.Idem != ""}
	s.args = jobArgs{Command: p.cmd.name, Version: p.cmd.version}
	s.args.Params, s.secrets = p.canonical()
	s.args.Print = fingerprint(identity["account"], &s.args)
	if err := s.seal(ctx); err != nil {
		return nil, err
	}
	s.req = job.Request{Kind: p.cmd.kind, Identity: identity, Fingerprint: s.args.Print}
	switch {
	case c.JobID != "":
		if !isUUID(c.JobID) {
			return nil, fieldsError([]*FieldError{{Field: "jobid", Reason: BadType, Value: printable(c.JobID), Limit: "a UUID"}})
		}
		s.req.ID = strings.ToLower(c.JobID)
	case c.Idem != "":
		s.req.ID = idemID(identity["account"], p.cmd.name, c.Idem)
	default: // drawn here, so that an uncertain commit can be settled by looking for it
		s.req.ID = p.reg.env().NewID()
	}
	return s, nil
}

// replay answers for a job that is there already: the first answer, or idempotency-mismatch.
func (s *submission) replay(ctx context.Context) (a Accepted, found bool, err error) {
	j, err := s.p.cmd.jobs.Get(ctx, s.req.ID)
	switch {
	case errors.Is(err, job.ErrNotFound):
		return a, false, nil
	case err != nil:
		return a, false, err
	}
	same, err := s.same(ctx, j)
	switch {
	case err != nil:
		return a, true, err
	case !same:
		return a, true, Errorf(IdempotencyMismatch, "id or idempotency key is in use by another request")
	}
	count(ctx, s.p.reg.telemetry().replayed)
	a = accepted(j)
	a.Replayed = true
	return a, true, nil
}

// same tells whether j was made by the same request.
func (s *submission) same(ctx context.Context, j *job.Job) (bool, error) {
	args := argsOf(j)
	if args.Print != s.args.Print {
		return false, nil
	}
	return s.sameSecrets(ctx, &args)
}

// run submits the job, with the entity that Outside has made or create makes. Where the caller chose the id, a loss of the race
// for it shows as any error of create, since the winner's entity is there too: then the winner's answer counts.
func (s *submission) run(ctx context.Context, value any, entity string) (Accepted, error) {
	var a Accepted
	var inner error // fn's own; an error without it is the commit's
	body := func(ctx context.Context, tx store.Tx) error {
		a, inner = s.inTx(ctx, tx, value, entity)
		return inner
	}
	var err error
	if s.p.reg.Tx != nil {
		err = s.p.reg.Tx.InTx(ctx, body)
	} else if err = body(ctx, nil); perhapsOfCommit(err) { // the manager's own transaction
		inner, a = nil, Accepted{JobID: s.req.ID, Entity: entity}
	}
	switch {
	case err == nil:
		return a, nil
	case inner != nil:
		if s.chosen {
			if a, found, err := s.replay(context.WithoutCancel(ctx)); found {
				return a, err
			}
		}
		return Accepted{}, err
	case a.JobID == "": // the transaction did not even begin
		return Accepted{}, err
	}
	return s.settle(ctx, a, err)
}

// perhapsOfCommit tells whether an error of job.Submit may be one of its commit.
func perhapsOfCommit(err error) bool {
	switch CodeOf(err) {
	case Internal, TimedOut, Cancelled:
		return !errors.Is(err, errReplayed)
	}
	return false
}

// inTx makes entity and job; without tx, in a transaction of the manager's.
func (s *submission) inTx(ctx context.Context, tx store.Tx, value any, entity string) (a Accepted, err error) {
	if err := s.p.accepting(); err != nil { // a drain may have begun since the stage admit, or the stage may be removed
		return a, err
	}
	cmd := s.p.cmd
	if cmd.create != nil {
		value = cmd.clone(value) // create may change it, and the transaction may be retried
		if entity, err = cmd.create(ctx, tx, value); err != nil {
			return a, err
		}
	}
	req, args := s.req, s.args
	args.Entity = entity
	req.Args, req.Resource = args, entity
	if cmd.key != nil {
		req.Sync = cmd.key(value)
	}
	if cmd.resource != nil {
		req.Resource = cmd.resource(value)
	}
	var j *job.Job
	if tx != nil {
		j, err = cmd.jobs.SubmitTx(ctx, tx, req)
	} else {
		j, err = cmd.jobs.Submit(ctx, req)
	}
	switch {
	case err != nil:
		return a, err
	case j.Replayed:
		return a, errReplayed
	}
	return accepted(j), nil
}

// settle asks the store what became of a commit whose answer was lost, until it answers or the caller's context ends.
func (s *submission) settle(ctx context.Context, a Accepted, cause error) (Accepted, error) {
	wait, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		j, err := s.p.cmd.jobs.Get(ask, a.JobID)
		cancel()
		switch {
		case err == nil:
			same, err := s.same(context.WithoutCancel(ctx), j)
			if err == nil && !same {
				err = cause
			}
			return accepted(j), err
		case errors.Is(err, job.ErrNotFound):
			return Accepted{}, cause
		}
		if s.p.reg.env().Sleep(wait, askEvery) != nil {
			break
		}
	}
	t := s.p.reg.telemetry()
	count(ctx, t.uncertain)
	s.p.reg.env().Logger.ErrorContext(ctx, "outcome of a submission is unknown", "command", s.p.cmd.name, "job", a.JobID, "entity", a.Entity, "error", cause)
	return Accepted{}, errors.Join(&UncertainError{JobID: a.JobID, Entity: a.Entity}, cause)
}

func accepted(j *job.Job) Accepted {
	a := Accepted{JobID: j.ID, Entity: j.Resource, Replayed: j.Replayed, Joined: j.Joined}
	a.Entity = cmp.Or(argsOf(j).Entity, a.Entity)
	return a
}

// handle registers the kind of c's jobs.
func handle[R any](r *Registry, c *command, o *options) {
	opts := []job.HandleOption{job.Retry(nil, 1)}
	if !o.cancellable {
		opts = append(opts, job.NotCancellable())
	}
	if o.timeout > 0 {
		opts = append(opts, job.Timeout(o.timeout))
	}
	if r.Events != nil {
		opts = append(opts, job.Events(eventSink{r.Events}))
	}
	job.Handle(c.jobs, c.kind, func(ctx context.Context, a jobArgs) (R, error) { return runInJob[R](ctx, r, a) }, slices.Concat(opts, o.job)...)
}

// runInJob takes the command through the stages again, as who submitted it, and runs it.
func runInJob[R any](ctx context.Context, r *Registry, a jobArgs) (result R, err error) {
	r.seal()
	j, ok := job.FromContext(ctx)
	if !ok {
		return result, job.Permanent(Errorf(Internal, "dispatch: command %s outside of a job", a.Command))
	}
	params, err := r.open(ctx, &a)
	if err != nil {
		return result, job.Permanent(err)
	}
	checks := ctx
	if ctx.Err() != nil { // a run that unwinds: the checks need a context that can still ask the store
		var stop context.CancelFunc
		checks, stop = context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer stop()
	}
	caller, err := r.restore(checks, j.Identity)
	if err != nil {
		return result, job.Permanent(err)
	}
	p := &pass{Context: checks, reg: r, executing: true, entity: a.Entity, job: ctx}
	p.c = Command{Name: a.Command, Version: a.Version, Params: params, Caller: caller, JobID: j.ID}
	out, err := r.execute.Dispatch(p, &p.c)
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
