package memory

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// leaseTables are guarded by turn.
type leaseTables struct {
	incarnation int64 // of the store, above 1; see storeID
	sessions    map[int64]*session
	open        map[int64]*session // those not marked dead
	named       map[string]*named
	ledger      map[string]*due
}

type session struct {
	lease.Info        // State is Dead only once marked
	process    string // which one opened it
	marked     time.Time
}

type named struct {
	name           string
	session, epoch int64
}

type due struct {
	at             time.Time
	session, epoch int64
	attempts       int
	done           bool
	outcome        string
}

// Leases keeps sessions and named leases.
func (s *Store) Leases() lease.Store { return leases{s} }

type leases struct{ s *Store }

// AfterFailover raises the store's incarnation, as after a restore that may have lost commits: every session is over and
// every token handed out before is lower than any that follows.
func (s *Store) AfterFailover(ctx context.Context) error {
	return s.InTx(ctx, func(ctx context.Context, x store.Tx) error {
		t, err := s.of(x)
		if err != nil {
			return err
		}
		s.leases.incarnation++
		t.onRollback(func() { s.leases.incarnation-- })
		return nil
	})
}

func (s *Store) storeID() string {
	return "memory." + strconv.FormatInt(s.leases.incarnation+1, 10)
}

// sessionLive tells whether the session named by epoch may act at now.
func (s *Store) sessionLive(epoch int64, now time.Time) bool {
	r := s.leases.sessions[epoch]
	return r != nil && s.isLive(r, now)
}

func (s *Store) isLive(r *session, now time.Time) bool {
	return r.State != lease.Dead && r.Until.After(now) && r.Holder.Store == s.storeID()
}

// sessionRows are all kept, by epoch.
func (s *Store) sessionRows() []*session {
	rows := make([]*session, 0, len(s.leases.sessions))
	for _, r := range s.leases.sessions {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *session) int { return cmp.Compare(a.Holder.Epoch, b.Holder.Epoch) })
	return rows
}

func (s *Store) namedRows() []*named {
	rows := make([]*named, 0, len(s.leases.named))
	for _, n := range s.leases.named {
		rows = append(rows, n)
	}
	slices.SortFunc(rows, func(a, b *named) int { return cmp.Compare(a.name, b.name) })
	return rows
}

// put sets m[k], or deletes it if v is nil, until the transaction rolls back.
func put[K comparable, V any](t *tx, m *map[K]*V, k K, v *V) {
	old := (*m)[k]
	set := func(v *V) {
		if v == nil {
			delete(*m, k)
			return
		}
		if *m == nil {
			*m = map[K]*V{}
		}
		(*m)[k] = v
	}
	set(v)
	t.onRollback(func() { set(old) })
}

// change alters a row until the transaction rolls back.
func change[V any](t *tx, r *V, f func(r *V)) {
	old := *r
	f(r)
	t.onRollback(func() { *r = old })
}

func (l leases) Open(_ context.Context, x store.Tx, i lease.Info, process string, ttl time.Duration) (lease.Token, error) {
	t, err := l.s.of(x)
	if err != nil {
		return lease.Token{}, err
	}
	incarnation := i.Holder.Incarnation
	var live []*session
	for _, r := range l.s.sessionRows() {
		if r.Name != i.Name {
			continue
		}
		if i.Holder.Epoch != 0 && r.Holder.Epoch > i.Holder.Epoch && r.process != process {
			return lease.Token{}, &lease.HeldError{Name: i.Name, Holder: r.Holder}
		}
		if r.State != lease.Dead {
			live = append(live, r)
		}
		incarnation = max(incarnation, r.Holder.Incarnation)
	}
	for _, r := range live {
		markDead(t, r)
	}
	i.Named, i.Until = false, t.now.Add(ttl)
	i.Kinds, i.Queues = slices.Clone(i.Kinds), slices.Clone(i.Queues)
	i.Holder = lease.Token{Node: i.Name, Incarnation: incarnation + 1, Store: l.s.storeID(), Epoch: t.nextEpoch()}
	r := &session{Info: i, process: process}
	put(t, &l.s.leases.sessions, i.Holder.Epoch, r)
	put(t, &l.s.leases.open, i.Holder.Epoch, r)
	return i.Holder, nil
}

func markDead(t *tx, r *session) {
	put(t, &t.s.leases.open, r.Holder.Epoch, nil)
	change(t, r, func(r *session) { r.State, r.marked = lease.Dead, t.now })
}

func (l leases) Renew(_ context.Context, x store.Tx, tok lease.Token, i lease.Info, ttl time.Duration) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	if r := l.own(tok); r != nil && l.s.isLive(r, t.now) {
		change(t, r, func(r *session) {
			r.Until, r.State = t.now.Add(ttl), i.State
			r.Kinds, r.Queues = slices.Clone(i.Kinds), slices.Clone(i.Queues)
		})
		return nil
	}
	for _, r := range l.s.sessionRows() {
		if r.Name == tok.Node && r.Holder.Incarnation > tok.Incarnation {
			return &lease.HeldError{Name: tok.Node, Holder: r.Holder}
		}
	}
	return store.ErrConflict
}

// own is the session's row, whatever its state.
func (l leases) own(tok lease.Token) *session {
	if r := l.s.leases.sessions[tok.Epoch]; r != nil && r.Holder == tok {
		return r
	}
	return nil
}

func (l leases) Close(_ context.Context, x store.Tx, tok lease.Token) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	r := l.own(tok)
	if r == nil || !l.s.isLive(r, t.now) {
		return nil
	}
	markDead(t, r)
	for _, n := range l.s.namedRows() {
		if n.session == tok.Epoch {
			put(t, &l.s.leases.named, n.name, nil)
			t.Hint(lease.Topic(n.name))
		}
	}
	return nil
}

func (l leases) Sweep(_ context.Context, x store.Tx, limit int) ([]lease.Token, error) {
	t, err := l.s.of(x)
	if err != nil {
		return nil, err
	}
	var dead []lease.Token
	for _, r := range l.s.sessionRows() {
		if r.State != lease.Dead && !l.s.isLive(r, t.now) && limit > 0 {
			limit--
			markDead(t, r)
			l.hintNamed(t, r.Holder.Epoch)
		}
		switch {
		case r.State != lease.Dead:
		case !r.marked.Add(lease.Keep).After(t.now) && !l.s.sessionBusy(r.Holder.Epoch):
			l.remove(t, r.Holder.Epoch)
		default:
			dead = append(dead, r.Holder)
		}
	}
	return dead, nil
}

func (l leases) hintNamed(t *tx, epoch int64) {
	for _, n := range l.s.namedRows() {
		if n.session == epoch {
			t.Hint(lease.Topic(n.name))
		}
	}
}

func (l leases) remove(t *tx, epoch int64) {
	put(t, &l.s.leases.sessions, epoch, nil)
	for _, n := range l.s.namedRows() {
		if n.session == epoch {
			put(t, &l.s.leases.named, n.name, nil)
		}
	}
}

func (l leases) List(_ context.Context, x store.Tx) ([]lease.Info, error) {
	t, err := l.s.of(x)
	if err != nil {
		return nil, err
	}
	var all []lease.Info
	for _, r := range l.s.sessionRows() {
		i := r.Info
		i.Kinds, i.Queues = slices.Clone(i.Kinds), slices.Clone(i.Queues)
		if !l.s.isLive(r, t.now) {
			i.State, i.Closed = lease.Dead, r.State == lease.Dead && r.marked.Before(r.Until)
		}
		all = append(all, i)
	}
	slices.SortStableFunc(all, func(a, b lease.Info) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Holder.Incarnation, b.Holder.Incarnation))
	})
	for _, n := range l.s.namedRows() {
		i := lease.Info{Name: n.name, Named: true, Holder: l.token(n), State: lease.Dead}
		if r := l.s.leases.sessions[n.session]; r != nil {
			i.Until = r.Until
			if l.s.isLive(r, t.now) {
				i.State = r.State
			}
		}
		all = append(all, i)
	}
	return all, nil
}

// token of a named lease: its holder's, with its own epoch.
func (l leases) token(n *named) lease.Token {
	tok := lease.Token{Epoch: n.epoch}
	if r := l.s.leases.sessions[n.session]; r != nil {
		tok = r.Holder
		tok.Epoch = n.epoch
	}
	return tok
}

func (l leases) Acquire(_ context.Context, x store.Tx, tok lease.Token, name string) (lease.Token, error) {
	t, err := l.s.of(x)
	if err != nil {
		return lease.Token{}, err
	}
	r := l.own(tok)
	if r == nil || !l.s.isLive(r, t.now) {
		return lease.Token{}, store.ErrConflict
	}
	if n := l.s.leases.named[name]; n != nil {
		if n.session == tok.Epoch {
			return l.token(n), nil
		}
		if l.s.sessionLive(n.session, t.now) {
			return lease.Token{}, &lease.HeldError{Name: name, Holder: l.token(n)}
		}
	}
	n := &named{name: name, session: tok.Epoch, epoch: t.nextEpoch()}
	put(t, &l.s.leases.named, name, n)
	return l.token(n), nil
}

func (l leases) Release(_ context.Context, x store.Tx, tok lease.Token, name string) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	n := l.s.leases.named[name]
	if n == nil || l.token(n) != tok || !l.s.sessionLive(n.session, t.now) {
		return store.ErrConflict
	}
	put(t, &l.s.leases.named, name, nil)
	t.Hint(lease.Topic(name))
	return nil
}
