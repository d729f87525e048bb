// Package lease says who may act: a node's session and named leases, with epochs kept in the store.
package lease

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Session is this process's standing in the store. One row, renewed by one small update.
type Session struct{ _ int }

type Config struct {
	Env    drover.Env
	Tx     store.Runner
	Store  Store
	Notify store.Notifier // nil = poll only
	Name   string         // default Env.Node
	TTL    time.Duration  // default 30s
	Renew  time.Duration  // default TTL/3
	Margin time.Duration  // trust ends TTL-Margin after the renewal STARTED; default TTL/6
}

func New(cfg Config) (*Session, error)                                    { return nil, nil } // ErrConfig
func (s *Session) Run(ctx context.Context) error                          { return nil }
func (s *Session) Step(ctx context.Context) (time.Time, error)            { return time.Time{}, nil }
func (s *Session) Token() Token                                           { return Token{} }
func (s *Session) Held() (<-chan struct{}, error)                         { return nil, nil } // closed when trust ends; ErrLost while none is open
func (s *Session) Serve(kinds, queues []string)                           {}
func (s *Session) Announce(ctx context.Context, accepting bool) error     { return nil }
func (s *Session) Dead(ctx context.Context, tx store.Tx) ([]Token, error) { return nil, nil }
func (s *Session) List(ctx context.Context) ([]Info, error)               { return nil, nil }

// With gives a ctx that ends with cause ErrLost when trust in the session ends.
func (s *Session) With(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, nil }

// Token fences: whoever receives one refuses any lower (Store, Epoch) for the same name.
type Token struct {
	Node        string
	Incarnation int64
	Store       string // store incarnation, sortable: rises when a database was restored or failed over with loss
	Epoch       int64
}

func (t Token) Less(u Token) bool { return false } // by (Store, Epoch)

// Named is a lease on a name ("ha/zone-1", "periodic/gc"), held by a session.
type Named struct{ _ int }

func (s *Session) Acquire(ctx context.Context, name string) (*Named, error) { return nil, nil } // ErrHeld, at once
func (n *Named) Token() Token                                               { return Token{} }
func (n *Named) Held() (<-chan struct{}, error)                             { return nil, nil }
func (n *Named) Release(ctx context.Context) error                          { return nil }

// Lead runs f whenever and as long as s holds name, until ctx ends or f returns.
func Lead(ctx context.Context, s *Session, name string, f func(context.Context, Token) error) error {
	return nil
}

// Ledger remembers due times for cluster-wide periodic tasks; it satisfies periodic.Ledger.
type Ledger struct{ _ int }

func NewLedger(s *Session, st LedgerStore) *Ledger { return nil }
func (l *Ledger) Take(ctx context.Context, name string, due time.Time) (epoch int64, wait time.Duration, err error) {
	return
}
func (l *Ledger) Held() (<-chan struct{}, error) { return nil, nil }
func (l *Ledger) Done(ctx context.Context, name string, epoch int64, outcome string) error {
	return nil
}
func (l *Ledger) Last(ctx context.Context, name string) (time.Time, error) { return time.Time{}, nil }

// Info is a row as it is seen: a session (Name = node) or a named lease.
type Info struct {
	Name          string
	Named         bool
	Holder        Token
	State         string // active, draining, dead
	Until         time.Time
	Kinds, Queues []string
}

type Store interface {
	// Open starts the next incarnation of i.Name and ends an older one at once.
	Open(ctx context.Context, tx store.Tx, i Info, ttl time.Duration) (Token, error)
	// Renew moves Until on and stores state, kinds, queues. ErrConflict: over, replaced or dead.
	Renew(ctx context.Context, tx store.Tx, t Token, i Info, ttl time.Duration) error
	// Close ends the session and frees its named leases, with hints.
	Close(ctx context.Context, tx store.Tx, t Token) error
	// Sweep marks at most max sessions that are over dead, re-checking inside the update, and returns all dead rows kept.
	Sweep(ctx context.Context, tx store.Tx, max int) ([]Token, error)
	List(ctx context.Context, tx store.Tx) ([]Info, error)
	// Acquire gives the lease its next epoch, or returns the own one. *HeldError otherwise.
	Acquire(ctx context.Context, tx store.Tx, t Token, name string) (Token, error)
	// Release frees it if t's epoch holds it, with a hint on "lease/<name>". ErrConflict otherwise.
	Release(ctx context.Context, tx store.Tx, t Token, name string) error
}

// LedgerStore: each method is one compare-and-set.
type LedgerStore interface {
	Take(ctx context.Context, tx store.Tx, t Token, name string, due time.Time) (epoch int64, wait time.Duration, err error)
	Done(ctx context.Context, tx store.Tx, name string, epoch int64, outcome string) error
	Last(ctx context.Context, tx store.Tx, name string) (time.Time, error)
}

type HeldError struct {
	Name   string
	Holder Token
}

func (e *HeldError) Error() string        { return "lease: " + e.Name + " is held by " + e.Holder.Node }
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

var (
	ErrLost   = errors.New("lease: session lost")
	ErrHeld   = errors.New("lease: held by another session")
	ErrConfig = errors.New("lease: bad configuration")
)
