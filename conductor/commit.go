package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

const maxRaces = 3 // of two servers with one commit

// opError is the failure of an operation: everything is rolled back.
type opError struct {
	at   int // from 1
	what string
	err  error
}

func (e *opError) Error() string { return e.err.Error() }
func (e *opError) Unwrap() error { return e.err }

var errStale = fmt.Errorf("conductor: the commit's id is older than records are kept: %w", store.ErrConflict)

var errRace = errors.New("conductor: another server does the same commit")

// read does one operation that writes nothing.
func (s *Server) read(ctx context.Context, host string, req *request) reply {
	if len(req.Ops) != 1 || req.ID != "" {
		return reply{Err: failureOf(fmt.Errorf("%w: a read is one operation", errInvalid), 0)}
	}
	var rep reply
	decided := false
	err := s.tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		w := &work{s: s, tx: tx, g: s.grant(ctx, tx, host), speaks: req.Speaks}
		rep = reply{Now: tx.Now()}
		o := &done{op: &req.Ops[0]}
		err := w.prepare(ctx, o)
		if err == nil && o.kind != R {
			err = fmt.Errorf("%w: %s is no read", errInvalid, o.m)
		}
		if err == nil {
			err = w.run(ctx, o)
		}
		if decided = true; err != nil {
			return &opError{1, o.name(), err}
		}
		v, err := w.value(o, o.r)
		rep.Results = []result{{Value: v}}
		return err
	})
	return s.answer(ctx, host, rep, err, decided)
}

// commit does a request in one transaction, exactly once per id.
func (s *Server) commit(ctx context.Context, host string, req *request) reply {
	if req.ID == "" || len(req.ID) > 128 || len(req.Ops) > maxOps {
		return reply{Err: failureOf(fmt.Errorf("%w: a commit has an id of at most 128 bytes and at most %d operations", errInvalid, maxOps), 0)}
	}
	for race := 1; ; race++ {
		rep, err, decided := s.try(ctx, host, req)
		if !errors.Is(err, errRace) || race == maxRaces {
			return s.answer(ctx, host, rep, err, decided)
		}
	}
}

// try is one transaction. decided says that err, if any, is why it was rolled back; else nobody knows.
func (s *Server) try(ctx context.Context, host string, req *request) (rep reply, err error, decided bool) { //nolint:staticcheck // the answer and its error first
	err = s.tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		decided = false
		defer func() { decided = err != nil }()
		rep = reply{Now: tx.Now()}
		w := &work{s: s, tx: tx, g: s.grant(ctx, tx, host), speaks: req.Speaks}
		kept, err := s.cfg.Commits.Get(ctx, tx, req.ID)
		switch {
		case err == nil && kept.Host != host:
			return &opError{0, callCommit, w.g.denied("repeat the commit", req.ID)}
		case err == nil:
			s.meters.replays.Add(ctx, 1)
			rep, err = w.again(ctx, req, kept)
			return err
		case !errors.Is(err, store.ErrNotFound):
			return err
		case req.At != 0 && tx.Now().Sub(time.UnixMilli(req.At)) > keepFor: // it may have happened, and been forgotten
			rep.Stale = true
			return &opError{0, callCommit, errStale}
		}
		ops, err := w.all(ctx, req, &rep)
		if err != nil || rep.Missed > 0 {
			if err == nil {
				err = errMissed
			}
			return err
		}
		for _, h := range req.Hints {
			tx.Hint(h)
		}
		return w.record(ctx, req, &rep, ops, host)
	})
	if errors.Is(err, errMissed) {
		err = nil
	}
	return rep, err, decided
}

// answer tells what came of it.
func (s *Server) answer(ctx context.Context, host string, rep reply, err error, decided bool) reply {
	if err == nil {
		return rep
	}
	var o *opError
	switch {
	case errors.As(err, &o):
		s.tellDenied(ctx, host, o.what, err)
		return reply{Now: rep.Now, Err: failureOf(o.err, o.at), Stale: rep.Stale}
	case decided:
		return reply{Now: rep.Now, Err: failureOf(err, 0)}
	}
	return reply{Doubt: err.Error()}
}

// work is the transaction of a request.
type work struct {
	s      *Server
	tx     store.Tx
	g      *grant
	speaks spoken
}

// done is an operation on its way.
type done struct {
	op    *op
	m     *method
	inner any
	kind  Kind
	a, r  any
	err   error
	minor int             // of an older client; -1: as it is
	free  bool            // OwnRows was not asked
	saved json.RawMessage // the row of a Save
}

func (d *done) name() string { return d.op.Store + "." + d.op.Method }

// prepare finds the method, reads the arguments, and decides whether the host may.
func (w *work) prepare(ctx context.Context, d *done) error {
	d.m = w.s.tables[d.op.Store][d.op.Method]
	if d.m == nil {
		return fmt.Errorf("conductor: %.100q: %w", d.name(), bus.ErrUnsupported)
	}
	if d.inner = w.s.inner[d.op.Store]; d.inner == nil {
		return missing(d.m)
	}
	minor, err := fits(w.s.serves[d.op.Store], w.speaks[d.op.Store])
	if err != nil {
		return err
	}
	d.minor = minor
	raw := d.op.Args
	if d.op.Save != nil {
		if raw, err = w.load(ctx, d); err != nil {
			return err
		}
	} else if d.m.save != nil && minor >= 0 && raw != nil {
		if raw, err = w.whole(ctx, d, raw); err != nil {
			return err
		}
	}
	if raw == nil {
		return fmt.Errorf("%w: %s without arguments", errInvalid, d.m)
	}
	if d.a, err = d.m.args(raw, true); err != nil {
		return fmt.Errorf("%s: %w", d.m, err)
	}
	d.kind = d.m.kind(d.a)
	d.free, err = w.g.may(d.m, d.a)
	return err
}

// load is the row of a Save with the fields that the client has changed.
func (w *work) load(ctx context.Context, d *done) (json.RawMessage, error) {
	s := d.m.save
	if s == nil {
		return nil, fmt.Errorf("%w: %s saves no row", errInvalid, d.m)
	}
	row, err := s.load(ctx, d.inner, w.tx, d.op.Save.Key)
	if err != nil {
		return nil, err
	}
	if err := d.op.Save.stale(s.version(row)); err != nil {
		return nil, err
	}
	raw, err := encode(row)
	if err != nil {
		return nil, err
	}
	if d.saved, err = d.op.Save.apply(raw); err == nil {
		d.saved, err = d.m.back.restore(raw, d.saved, d.minor)
	}
	return d.saved, err
}

// whole is a row that an older client has sent in full, with the fields of the stored one that it does not know.
func (w *work) whole(ctx context.Context, d *done, sent json.RawMessage) (json.RawMessage, error) {
	s := d.m.save
	a, err := d.m.args(sent, true)
	if err != nil || s.version(a) == 0 { // a new row
		return sent, err
	}
	row, err := s.load(ctx, d.inner, w.tx, s.key(a))
	if err != nil {
		return nil, err
	}
	raw, err := encode(row)
	if err != nil {
		return nil, err
	}
	return d.m.back.restore(raw, sent, d.minor)
}

// run does it, and looks whether the host may have what was found.
func (w *work) run(ctx context.Context, d *done) error {
	d.r, d.err = d.m.run(ctx, d.inner, w.tx, d.a)
	if d.err != nil {
		return d.err
	}
	if d.m.check != nil && !d.free {
		return d.m.check(w.g, d.a, d.r)
	}
	return nil
}

// all does the operations in their order. One with another result than its body has decided by ends it.
func (w *work) all(ctx context.Context, req *request, rep *reply) ([]*done, error) {
	ops := make([]*done, len(req.Ops))
	for i := range req.Ops {
		d := &done{op: &req.Ops[i]}
		if ops[i] = d; d.op.Store == "" {
			continue
		}
		err := w.prepare(ctx, d)
		if err == nil {
			err = w.run(ctx, d)
		}
		if d.kind == R && d.err != nil && d.op.Stamp != nil && *d.op.Stamp == stampOf(d.m, d.a, nil, d.err) {
			continue // it failed when the body asked, too
		}
		switch {
		case d.kind == R && err == nil && (d.op.Stamp == nil || *d.op.Stamp == d.m.stamp(d.a, d.r)):
		case d.kind == R && !errors.Is(err, ErrDenied):
			return nil, &opError{i + 1, d.name(), fmt.Errorf("conductor: %s: what was read has changed: %w", d.name(), store.ErrConflict)}
		case err != nil:
			return nil, &opError{i + 1, d.name(), err}
		case d.kind == W && d.op.Stamp != nil && *d.op.Stamp != d.m.stamp(d.a, d.r):
			rep.Missed = i + 1
			return nil, w.results(rep, ops[:i+1], true)
		}
	}
	return ops, w.results(rep, ops, false)
}

// results are those that the client cannot know, or those of all writes.
func (w *work) results(rep *reply, ops []*done, all bool) error {
	rep.Results = make([]result, len(ops))
	for i, d := range ops {
		if d.op.Store == "" || d.kind == R || !all && d.kind == W && !d.m.drawn {
			continue
		}
		v, err := w.value(d, d.r)
		if err != nil {
			return &opError{i + 1, d.name(), err}
		}
		if d.saved == nil {
			rep.Results[i].Value = v
			continue
		}
		change := &diff{}
		if err := change.between(d.saved, v); err != nil {
			return err
		}
		rep.Results[i].Diff = change
	}
	return nil
}

// value is r as the client understands it.
func (w *work) value(d *done, r any) (json.RawMessage, error) {
	raw, err := encode(r)
	if err != nil || d.minor < 0 {
		return raw, err
	}
	w.s.meters.backports.Add(w.g.ctx, 1)
	return d.m.back.port(raw, d.minor)
}

// record keeps the answer with what it answers. A result that is too large is kept as what it can be read again by.
func (w *work) record(ctx context.Context, req *request, rep *reply, ops []*done, host string) error {
	kept := *rep
	kept.Results = append([]result(nil), rep.Results...)
	for i, r := range kept.Results {
		if len(r.Value) <= maxResult {
			continue
		}
		if ops[i].m.brief == nil {
			return &opError{i + 1, ops[i].name(), fmt.Errorf("%w: a result of %d bytes, at most %d", errInvalid, len(r.Value), maxResult)}
		}
		b := ops[i].m.brief(ops[i].r)
		kept.Results[i] = result{Brief: &b}
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	err = w.s.cfg.Commits.Put(ctx, w.tx, Commit{ID: req.ID, Host: host, Result: raw})
	if errors.Is(err, store.ErrConflict) {
		return errRace
	}
	return err
}

// again is the answer that was given, or should have been.
func (w *work) again(ctx context.Context, req *request, kept Commit) (rep reply, err error) {
	if err := json.Unmarshal(kept.Result, &rep); err != nil {
		return rep, fmt.Errorf("%w: a commit record that cannot be read: %w", errInvalid, err)
	}
	for i, r := range rep.Results {
		if r.Brief == nil {
			continue
		}
		if i >= len(req.Ops) {
			return rep, fmt.Errorf("%w: a repeat with other operations", errInvalid)
		}
		d := &done{op: &req.Ops[i]}
		if err := w.prepare(ctx, d); err != nil {
			return rep, &opError{i + 1, d.name(), err}
		}
		if d.m.replay == nil {
			return rep, fmt.Errorf("%w: a repeat with other operations", errInvalid)
		}
		got, err := d.m.replay(ctx, d.inner, w.tx, d.a, *r.Brief)
		if err != nil {
			return rep, err
		}
		if rep.Results[i].Value, err = w.value(d, got); err != nil {
			return rep, err
		}
		rep.Results[i].Brief = nil
	}
	return rep, nil
}
