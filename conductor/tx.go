package conductor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/internal/chance"
	"github.com/drover-cloud/drover/store"
)

const (
	maxTries      = 5 // of a body that meets conflicts
	maxMisses     = 8 // of one whose expectations were wrong
	firstConflict = 10 * time.Millisecond
)

var (
	errMissed   = errors.New("conductor: the body runs again")
	errDeviated = errors.New("conductor: the body does something else when it runs again with the same results")
	errEnded    = errors.New("conductor: transaction has ended")
)

// entry is an operation of a transaction, with its result as the body has it.
type entry struct {
	m    *method
	kind Kind
	raw  json.RawMessage
	save *diff
	a, r any
	err  error // of a read
}

// stamp is what the server's result is compared with; nil: nothing.
func (e *entry) stamp() *string {
	if e.kind == X {
		return nil
	}
	s := stampOf(e.m, e.a, e.r, e.err)
	if s == "" {
		return nil
	}
	return &s
}

// stampOf is the same on both ends.
func stampOf(m *method, a, r any, err error) string {
	if err != nil {
		return fmt.Sprint("error ", failureOf(err, 0).Is)
	}
	return m.stamp(a, r)
}

// tx is one run of a body.
type tx struct {
	c      *Client
	ctx    context.Context
	now    time.Time
	ops    []entry
	script []entry // results that are known from the run before
	final  bool    // script is that of the commit: nothing is sent any more
	hints  []string
	writes int
	shape  shape

	broken    error // why it cannot commit
	missed    []entry
	committed bool
	lost      bool // a commit was a conflict
	done      bool
}

type txKey struct{ c *Client }

// InTx runs fn and sends what it has written as one commit. fn runs again after a conflict, 5 times at most, if it does more
// than one operation; when the server's result of a write differs from what was expected; and once after a commit that has
// drawn values. An error of fn means that nothing was sent, unless an operation that commits had run before.
//
// Errors: [store.ErrConflict] and the stores' own as *[OpError]; [ErrShape]; [ErrDenied]; [ErrUnknown] if nobody said whether
// it has happened; [ErrNoConductor] if surely not; [bus.ErrInvalid] beyond 200 operations or 512 KiB.
func (c *Client) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	if ctx.Value(txKey{c}) != nil {
		return errors.New("conductor: InTx inside InTx")
	}
	if ctx.Err() != nil {
		return fmt.Errorf("conductor: not begun: %w", context.Cause(ctx))
	}
	var script []entry
	var now time.Time
	for tries, misses, wait := 1, 0, firstConflict; ; {
		t := &tx{c: c, ctx: ctx, now: now, script: script}
		err := t.run(fn)
		switch {
		case t.committed:
			return t.told(fn, err)
		case t.missed != nil && misses < maxMisses:
			script, now = t.missed, t.now
			misses++
			continue
		case t.missed != nil:
			return fmt.Errorf("conductor: %d runs with other results each: %w", misses, store.ErrConflict)
		case !t.lost || len(t.ops) < 2 || tries == maxTries:
			return err
		}
		script, now = nil, time.Time{}
		tries++
		c.meters.conflicts.Add(ctx, 1)
		if c.env.Sleep(ctx, chance.Around(c.env.Rand, wait, 0.5)) != nil {
			return err
		}
		wait *= 2
	}
}

// run is one run of the body, and the commit of what it wrote.
func (t *tx) run(fn func(ctx context.Context, tx store.Tx) error) (err error) {
	defer func() { t.done = true }() // also when fn panics: then nothing is sent
	err = fn(context.WithValue(t.ctx, txKey{t.c}, true), t)
	switch {
	case t.committed:
		if err == nil {
			err = t.broken
		}
		return err
	case t.broken != nil && (err == nil || t.missed != nil):
		return t.broken
	case err != nil || t.writes == 0 && len(t.hints) == 0 || t.final:
		return err
	case t.ctx.Err() != nil:
		return fmt.Errorf("conductor: not committed: %w", context.Cause(t.ctx))
	}
	return t.commit(t.ctx)
}

// told runs the body a last time if only the commit could know what its writes have drawn.
func (t *tx) told(fn func(ctx context.Context, tx store.Tx) error, err error) error {
	drew := false
	for i := range t.ops {
		drew = drew || t.ops[i].kind == W && t.ops[i].m.drawn
	}
	if !drew || err != nil {
		return err
	}
	last := &tx{c: t.c, ctx: t.ctx, now: t.now, script: t.ops, final: true}
	if err := last.run(fn); err != nil {
		t.c.log.Warn("a body deviates after its commit", "err", err)
	}
	return nil
}

// Now is the store's, as the first answer told it; if none has come, it is asked for.
func (t *tx) Now() time.Time {
	if t.now.IsZero() && t.broken == nil && !t.done {
		var rep reply
		if rep, t.broken = t.c.read(t.ctx, spaceTx, callNow, request{}); t.broken == nil {
			t.now = rep.Now
		}
	}
	return t.now
}

// Hint travels with the commit.
func (t *tx) Hint(topic string) {
	if n := len(t.hints); n == 0 || t.hints[n-1] != topic {
		t.hints = append(t.hints, topic)
	}
}

func (c *Client) do(ctx context.Context, x store.Tx, m *method, a any) (any, error) {
	t, ok := x.(*tx)
	if !ok || t.c != c {
		return nil, store.ErrForeign
	}
	if t.done {
		return nil, errEnded
	}
	if t.broken != nil {
		return nil, t.broken
	}
	e, err := t.do(ctx, m, a)
	if err != nil {
		t.broken = err
		return nil, err
	}
	return e.r, e.err
}

// do is one operation; its error ends the transaction.
func (t *tx) do(ctx context.Context, m *method, a any) (e *entry, err error) {
	e = &entry{m: m, kind: m.kind(a), a: a}
	if err := t.shape.next(m, e.kind, a); err != nil {
		return nil, err
	}
	if m.save != nil {
		err = t.c.copies.diff(e)
	} else {
		e.raw, err = encode(a)
	}
	if err != nil {
		return nil, fmt.Errorf("conductor: %s: %w", m, err)
	}
	switch known, err := t.known(e); {
	case err != nil:
		return nil, err
	case known != nil:
		e = known
	case e.kind == R:
		if e.r, e.err, err = t.read(ctx, e); err != nil {
			return nil, err
		}
	case e.kind == W:
		e.r = m.guess(a)
	case e.save != nil && e.save.empty():
		e.kind, e.r = R, t.c.copies.row(m, e.save.Key) // nothing has changed: no call
		return e, nil
	}
	if t.ops = append(t.ops, *e); e.kind != R {
		t.writes++
	}
	if e.kind == X && !t.final {
		if err := t.commit(ctx); err != nil {
			return nil, err
		}
		e = &t.ops[len(t.ops)-1]
	}
	t.shape.did(m, e.kind, a, e.r)
	return e, nil
}

// known is the result that the run before has got, or an earlier read of this one.
func (t *tx) known(e *entry) (*entry, error) {
	if i := len(t.ops); i < len(t.script) {
		if k := &t.script[i]; k.m.String() == e.m.String() && k.kind == e.kind && bytes.Equal(k.raw, e.raw) && (k.save == nil) == (e.save == nil) {
			return k, nil
		}
		if !t.final {
			t.script = t.script[:i] // another way this time
		}
	}
	if t.final {
		return nil, errDeviated
	}
	for i := range t.ops {
		if k := &t.ops[i]; e.kind == R && k.kind == R && k.m.String() == e.m.String() && bytes.Equal(k.raw, e.raw) {
			return k, nil
		}
	}
	return nil, nil
}

// read asks a server; an error of the store is the operation's result.
func (t *tx) read(ctx context.Context, e *entry) (r any, of, err error) {
	rep, err := t.c.read(ctx, "store."+e.m.store, e.m.name, request{Ops: []op{e.op()}, Speaks: t.c.speaks(e.m.store)})
	if err != nil {
		return nil, nil, err
	}
	if t.now.IsZero() {
		t.now = rep.Now
	}
	if rep.Err != nil {
		return nil, rep.Err.read(), nil
	}
	if len(rep.Results) != 1 {
		return nil, nil, fmt.Errorf("%w: %d results of a read", errInvalid, len(rep.Results))
	}
	if r, err = e.m.result(rep.Results[0].Value); err != nil {
		return nil, nil, err
	}
	t.c.copies.keep(e.m, r)
	return r, nil, nil
}

func (e *entry) op() op { return op{Store: e.m.store, Method: e.m.name, Args: e.raw, Save: e.save} }

// commit sends everything.
func (t *tx) commit(ctx context.Context) error {
	req := request{Hints: t.hints, Speaks: spoken{}}
	if len(t.ops) > maxOps {
		return fmt.Errorf("%w: %d operations, at most %d", errInvalid, len(t.ops), maxOps)
	}
	live := len(t.ops) > 0
	for i := range t.ops {
		e := &t.ops[i]
		o := e.op()
		if o.Stamp = e.stamp(); e.kind == R && o.Stamp == nil {
			o = op{} // nothing to validate: its place stays
		}
		req.Ops = append(req.Ops, o)
		for s, v := range t.c.speaks(e.m.store) {
			req.Speaks[s] = v
		}
		live = live && e.m.live
	}
	t.c.meters.commits.Record(ctx, int64(len(req.Ops)))
	rep, err := t.c.send(ctx, live, req)
	if err != nil {
		return err
	}
	if t.now.IsZero() {
		t.now = rep.Now
	}
	switch {
	case rep.Missed > 0:
		return t.miss(rep)
	case rep.Err != nil:
		err := rep.Err.read()
		t.lost = errors.Is(err, store.ErrConflict)
		return err
	}
	t.committed = true
	if len(rep.Results) != len(t.ops) {
		return fmt.Errorf("%w: %d results of %d operations", errInvalid, len(rep.Results), len(t.ops))
	}
	return t.take(rep.Results)
}

// take puts the results of a commit, or of what was tried, in the place of those expected.
func (t *tx) take(results []result) (err error) {
	for i, r := range results {
		e := &t.ops[i]
		switch {
		case r.Diff != nil && e.save != nil:
			e.r, err = t.c.copies.patch(e, r.Diff)
		case r.Value != nil:
			e.r, err = e.m.result(r.Value)
		}
		if err != nil {
			return fmt.Errorf("conductor: %s: %w", e.m, err)
		}
		if t.committed && e.kind != R {
			t.c.copies.keep(e.m, e.r)
		}
	}
	return nil
}

// miss makes the body run again with the results that the server has got.
func (t *tx) miss(rep reply) error {
	if len(rep.Results) > len(t.ops) || rep.Missed != len(rep.Results) {
		return fmt.Errorf("%w: %d results, missed at %d of %d", errInvalid, len(rep.Results), rep.Missed, len(t.ops))
	}
	if err := t.take(rep.Results); err != nil {
		return err
	}
	t.missed = t.ops[:rep.Missed]
	return errMissed
}
