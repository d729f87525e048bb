package lease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// rig is one memory store and processes on it, inside a synctest bubble.
type rig struct {
	t     *testing.T
	store *memory.Store
	start time.Time
	procs []*proc
}

// bubble runs f; every process must have ended with it.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, store: &memory.Store{}, start: time.Now()}
		defer func() {
			for _, p := range r.procs {
				p.stop()
			}
		}()
		f(t, r)
	})
}

func (r *rig) at() time.Duration { return time.Since(r.start) }

// pass lets time pass until everything has come to rest.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// proc is a process with a session: what stands between it and the store can fail.
type proc struct {
	*lease.Session
	r      *rig
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu    sync.Mutex
	fail  error // every transaction
	after bool  // fail after the commit
	dead  bool
	calls int // transactions
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func (r *rig) proc(name string, change ...func(*lease.Config)) *proc {
	r.t.Helper()
	p := &proc{r: r, done: make(chan struct{})}
	cfg := lease.Config{Env: drover.Env{Node: name, Logger: quiet}, Tx: p, Store: r.store.Leases(), Notify: r.store.Notifier()}
	for _, f := range change {
		f(&cfg)
	}
	s, err := lease.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	p.Session = s
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(r.t.Context())
	go func() {
		defer close(p.done)
		p.err = s.Run(ctx)
	}()
	r.procs = append(r.procs, p)
	synctest.Wait()
	return p
}

// InTx is the process's way to the store.
func (p *proc) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	p.mu.Lock()
	p.calls++
	fail, after, dead := p.fail, p.after, p.dead
	p.mu.Unlock()
	if dead {
		return errors.New("dead")
	}
	if fail != nil && !after {
		return fail
	}
	if err := p.r.store.InTx(ctx, f); err != nil {
		return err
	}
	return fail
}

func (p *proc) failing(err error, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail, p.after = err, after
}

func (p *proc) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// crash ends it without a word to the store.
func (p *proc) crash() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.stop()
}

func (p *proc) stop() {
	p.cancel()
	<-p.done
	synctest.Wait()
}

func (p *proc) acquire(name string) *lease.Named {
	p.r.t.Helper()
	n, err := p.Acquire(p.r.t.Context(), name)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return n
}

// leader is a Lead with what can be seen of it.
type leader struct {
	started chan lease.Token
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
	causes  []error // of f's ctx, at each end of f
}

// lead runs f, or waits for the end of ctx.
func (p *proc) lead(name string, f func(context.Context, lease.Token) error) *leader {
	l := &leader{started: make(chan lease.Token, 100), done: make(chan struct{})}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(p.r.t.Context())
	go func() {
		defer close(l.done)
		l.err = lease.Lead(ctx, p.Session, name, func(ctx context.Context, tok lease.Token) error {
			l.started <- tok
			if f != nil {
				return f(ctx, tok)
			}
			<-ctx.Done()
			l.causes = append(l.causes, context.Cause(ctx))
			return nil
		})
	}()
	synctest.Wait()
	return l
}

func (l *leader) stop() {
	l.cancel()
	<-l.done
}

// began waits for the next start of f, d at most.
func (l *leader) began(t *testing.T, d time.Duration) lease.Token {
	t.Helper()
	synctest.Wait()
	select {
	case tok := <-l.started:
		return tok
	default:
	}
	select {
	case tok := <-l.started:
		return tok
	case <-time.After(d):
		t.Fatalf("does not lead within %v", d)
		return lease.Token{}
	}
}

func (l *leader) idle(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case tok := <-l.started:
		t.Fatalf("leads with %+v", tok)
	default:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
