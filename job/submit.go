package job

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/drover-cloud/drover/store"
)

// Submit hands in one job and answers it as stored: the new one, or one that was there already (Replayed for an ID or Idem
// in use by the same request, Joined for a Unique).
//
// Inside a handler the job is a child of the running one unless Detached; it inherits Identity, trace and the earlier
// Deadline. Errors: [ErrInvalid] with a *[FieldError], [ErrTooLarge], [ErrDuplicate], [ErrDraining] (never for children),
// [ErrLost] when the parent's claim is lost, else the store's. After an error nothing is stored, except that an error of
// the store's commit may be uncertain: repeat with the same ID or Idem.
func (m *Manager) Submit(ctx context.Context, r Request) (*Job, error) {
	js, err := m.submit(ctx, nil, []Request{r})
	return one(js, err)
}

// SubmitTx is Submit in the host's transaction: the job exists if and when that commits. A tx of another store gives
// [store.ErrForeign].
func (m *Manager) SubmitTx(ctx context.Context, tx store.Tx, r Request) (*Job, error) {
	js, err := m.submit(ctx, tx, []Request{r})
	return one(js, err)
}

func one(js []*Job, err error) (*Job, error) {
	if err != nil {
		if b := new(BatchError); errors.As(err, &b) {
			err = b.Err
		}
		return nil, err
	}
	return js[0], nil
}

// SubmitMany hands in 1 to 10 000 jobs, all or none, in their order; the answers are in that order too. A refused one is
// named by a *[BatchError].
func (m *Manager) SubmitMany(ctx context.Context, rs []Request) ([]*Job, error) {
	return m.submit(ctx, nil, rs)
}

// SubmitManyTx is SubmitMany in the host's transaction, which the host rolls back on an error.
func (m *Manager) SubmitManyTx(ctx context.Context, tx store.Tx, rs []Request) ([]*Job, error) {
	return m.submit(ctx, tx, rs)
}

func (m *Manager) submit(ctx context.Context, tx store.Tx, rs []Request) ([]*Job, error) {
	if len(rs) == 0 || len(rs) > maxBatch {
		return nil, invalid("Requests", "%d requests, must be 1 to %d", len(rs), maxBatch)
	}
	parent := runOf(ctx)
	if parent == nil && slices.ContainsFunc(rs, func(r Request) bool { return r.Parent == "" }) {
		if err := m.Accepting(); err != nil {
			return nil, err
		}
	}
	outer := ctx
	ctx, end := m.meters.submitting(ctx, len(rs))
	s := submission{m: m, parent: parent, asked: rs, trace: traceOf(outer, ctx)}
	give := s.room(tx)
	js, err := s.run(ctx, tx)
	give()
	if err != nil && ctx.Err() != nil && parent != nil && parent.isLost() {
		err = parent.lostCause()
	}
	end(err)
	return js, err
}

// submission is one call.
type submission struct {
	m      *Manager
	parent *run
	asked  []Request
	rows   []Row
	named  bool // ids are drawn
	trace  string

	admitted bool
	grown    int // children that the running job has got
}

// rooms are for the rows of submissions, which are large.
var rooms = sync.Pool{New: func() any { return new([]Row) }}

// room makes room for the rows, which the answer gives back: then nobody has any of them.
func (s *submission) room(tx store.Tx) (give func()) {
	if tx != nil || !s.m.lean() || s.m.heard() {
		s.rows = make([]Row, len(s.asked))
		return func() {}
	}
	p := rooms.Get().(*[]Row)
	*p = slices.Grow((*p)[:0], len(s.asked))
	s.rows = (*p)[:len(s.asked)]
	return func() {
		clear(s.rows)
		rooms.Put(p)
	}
}

func (s *submission) run(ctx context.Context, tx store.Tx) (js []*Job, err error) {
	for i := range s.asked {
		if s.rows[i], err = s.row(ctx, &s.asked[i], s.trace); err != nil {
			return nil, &BatchError{i, err}
		}
	}
	if s.parent != nil {
		defer func() {
			if err == nil {
				s.parent.mu.Lock()
				s.parent.more().children += s.grown
				s.parent.mu.Unlock()
			}
		}()
	}
	if tx != nil {
		return s.insert(ctx, tx)
	}
	if slices.ContainsFunc(s.rows, func(r Row) bool { return r.Sync.Kind != "" }) {
		if err := s.m.fillTurns(ctx); err != nil {
			return nil, err
		}
	}
	in := s.m.inTx
	if s.plain() {
		in = s.m.inOne
		if err := in(ctx, s.admit); err != nil { // it reads once in a while
			return nil, err
		}
	}
	err = in(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		js, err = s.insert(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.m.submitted(js)
	return js, nil
}

// plain says that Insert is all there is to do, and that no row can meet another one without failing it: then it needs no
// BEGIN and COMMIT.
func (s *submission) plain() bool {
	return s.m.one != nil && !s.m.heard() && !slices.ContainsFunc(s.rows, func(r Row) bool {
		return r.Parent != "" || r.Idem != "" || r.Unique != "" || r.Name != ""
	})
}

// submitted tells this node what it has just committed.
func (m *Manager) submitted(js []*Job) {
	m.meters.submitted(js)
	claimable := false
	for _, j := range js {
		if m.pools[j.Queue] == nil || j.Joined || j.Replayed {
			continue
		}
		if j.State == Scheduled {
			m.dueAt(j.RunAt.Sub(j.Created))
		} else {
			claimable = true
		}
	}
	if claimable {
		m.nudge()
	}
}

// insert stores the rows and judges those that met another.
func (s *submission) insert(ctx context.Context, tx store.Tx) ([]*Job, error) {
	if !s.named {
		for i := range s.rows {
			if s.rows[i].ID == "" {
				s.rows[i].ID = s.m.env.NewID()
			}
		}
		s.named = true
	}
	if err := s.admit(ctx, tx); err != nil {
		return nil, err
	}
	if err := s.adopt(ctx, tx); err != nil {
		return nil, err
	}
	if err := s.borrow(ctx, tx); err != nil {
		return nil, err
	}
	rows, err := s.m.store.Insert(ctx, tx, s.rows)
	if err != nil {
		if errors.Is(err, store.ErrConflict) && s.parent != nil {
			return nil, ErrLost
		}
		return nil, err
	}
	js := make([]*Job, len(rows))
	for i := range rows {
		if err := s.judge(ctx, &rows[i], &s.rows[i], s.asked[i].OnDuplicate); err != nil {
			return nil, &BatchError{i, err}
		}
		js[i] = rows[i].public()
		if rows[i].Met == "" {
			if err := s.m.publish(ctx, tx, "submit", &rows[i]); err != nil {
				return nil, err
			}
		}
	}
	return js, s.bound(ctx, tx, rows)
}

// bound refuses more children than a job may have. Those of the running job are counted once per run.
func (s *submission) bound(ctx context.Context, tx store.Tx, rows []Row) error {
	s.grown = 0
	others := map[string]bool{}
	for i := range rows {
		if p := rows[i].Parent; rows[i].Met != "" || p == "" {
			continue
		} else if s.parent != nil && p == s.parent.row.ID {
			s.grown++
		} else if !others[p] {
			others[p] = true
			if n, err := s.m.countChildren(ctx, tx, p); err != nil || n > maxChildren {
				return cmp.Or(err, error(&BatchError{i, tooMany(p)}))
			}
		}
	}
	if s.grown == 0 {
		return nil
	}
	r := s.parent
	r.mu.Lock()
	n, counted := r.more().children, r.counted || r.row.Runs <= 1
	r.mu.Unlock()
	if !counted {
		all, err := s.m.countChildren(ctx, tx, r.row.ID)
		if err != nil {
			return err
		}
		n = all - s.grown
		r.mu.Lock()
		r.more().children, r.counted = n, true
		r.mu.Unlock()
	}
	if n+s.grown > maxChildren {
		return &BatchError{len(rows) - 1, tooMany(r.row.ID)}
	}
	return nil
}

func tooMany(parent string) error {
	return invalid("Parent", "job %s has %d children, which is the most", parent, maxChildren)
}

// adopt completes rows whose parent is not the running job; a parent has to be live.
func (s *submission) adopt(ctx context.Context, tx store.Tx) error {
	for i := range s.rows {
		row := &s.rows[i]
		if row.Parent == "" {
			row.Root = row.ID
			continue
		}
		if row.ParentEpoch != 0 {
			continue
		}
		p, err := s.m.load(ctx, tx, row.Parent)
		if errors.Is(err, ErrNotFound) || err == nil && p.State.Final() {
			return &BatchError{i, invalid("Parent", "%.64q is no live job", row.Parent)}
		}
		if err != nil {
			return err
		}
		row.Root, row.Depth = p.Root, p.Depth+1
		if err := row.below(p.Deadline); err != nil {
			return &BatchError{i, err}
		}
	}
	return nil
}

// judge says whether the stored row may be answered for the one asked for.
func (s *submission) judge(ctx context.Context, got, asked *Row, policy DuplicatePolicy) error {
	switch got.Met {
	case "", "name":
		return nil
	case "unique":
		got.Joined = true
	default:
		got.Replayed = true
	}
	if got.Print == "" {
		plain := *got
		if k := s.m.kindNamed(got.Kind); k != nil {
			var err error
			if plain.Args, err = s.m.open(ctx, k, got.Args); err != nil {
				return err
			}
		}
		got.Print = print(&plain)
	}
	if got.Print != asked.Print || got.Met == "unique" && policy == Refuse {
		return &DuplicateError{ID: got.ID, Field: got.Met}
	}
	return nil
}
