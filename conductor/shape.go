package conductor

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/store"
)

// shape follows what a transaction does: R*, W*, at most one X.
type shape struct {
	x     *method            // has run: the transaction is over
	wrote map[string]*method // rows
}

// next refuses an operation that could not run remotely.
func (s *shape) next(m *method, k Kind, a any) error {
	if s.x != nil {
		return fmt.Errorf("%w: %s after %s, which commits", ErrShape, m, s.x)
	}
	if k != R || len(s.wrote) == 0 {
		return nil
	}
	for _, row := range m.rows(a) {
		if w := s.wrote[row]; w != nil {
			return fmt.Errorf("%w: %s of %s after %s", ErrShape, m, row, w)
		}
	}
	return nil
}

// did notes an operation.
func (s *shape) did(m *method, k Kind, a, r any) {
	switch k {
	case X:
		s.x = m
	case W:
		written := m.rows(a)
		if m.wrote != nil {
			written = m.wrote(a, r)
		}
		if s.wrote == nil {
			s.wrote = map[string]*method{}
		}
		for _, row := range written {
			s.wrote[row] = m
		}
	}
}

// Checked are local stores whose transactions fail with ErrShape if they could not run remotely. It is for tests of components.
type Checked struct {
	faces
	tx    store.Runner
	inner inner
}

// CheckShape wraps a store and its accessors (Jobs, Leases, …, as of store/memory); what is left over from inner is not
// checked. All stores of one transaction come from the same Checked.
func CheckShape(stores store.Runner) *Checked {
	c := &Checked{tx: stores, inner: innerOf(stores)}
	c.faces = faces{c}
	return c
}

// checkedTx is a transaction of a Checked.
type checkedTx struct {
	store.Tx
	c     *Checked
	shape shape
	err   error
}

// InTx runs fn in a transaction of the store, which fails if fn was refused an operation, whatever fn made of that.
func (c *Checked) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	return c.tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		t := &checkedTx{Tx: tx, c: c}
		err := fn(ctx, t)
		if t.err != nil {
			return t.err
		}
		return err
	})
}

func (c *Checked) do(ctx context.Context, tx store.Tx, m *method, a any) (any, error) {
	t, ok := tx.(*checkedTx)
	if !ok || t.c != c {
		return nil, store.ErrForeign
	}
	s := c.inner[m.store]
	if s == nil {
		return nil, missing(m)
	}
	k := m.kind(a)
	if err := t.shape.next(m, k, a); err != nil {
		t.err = err
		return nil, err
	}
	r, err := m.run(ctx, s, t.Tx, a)
	if err == nil {
		t.shape.did(m, k, a, r)
	}
	return r, err
}

// Notifier is the store's.
func (c *Checked) Notifier() store.Notifier {
	if n, ok := c.tx.(interface{ Notifier() store.Notifier }); ok {
		return n.Notifier()
	}
	return nil
}
