// Package broker has what transports over a broker share.
package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
)

// awaitUp is how long a sender waits for a connection.
const awaitUp = time.Second

// Line is the connection to a broker: there, or not now. The zero Line has none. Methods may be called concurrently.
type Line[C any] struct {
	mu     sync.Mutex
	state  State[C]
	change chan struct{} // closed and replaced when state changes
}

// State of a Line.
type State[C any] struct {
	Conn  C
	Up    bool
	Times int // it has come up so far
}

// Up says that c is the connection now.
func (l *Line[C]) Up(c C) { l.set(func(s *State[C]) { *s = State[C]{c, true, s.Times + 1} }) }

// Down says that there is none.
func (l *Line[C]) Down() { l.set(func(s *State[C]) { *s = State[C]{Times: s.Times} }) }

func (l *Line[C]) set(f func(s *State[C])) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.state)
	if l.change != nil {
		close(l.change)
		l.change = nil
	}
}

// Look gives the state, and a channel that is closed when it has changed.
func (l *Line[C]) Look() (State[C], <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change == nil {
		l.change = make(chan struct{})
	}
	return l.state, l.change
}

// Wait gives the connection as soon as it is up: a receiver waits until ctx ends, a sender, brief, for at most a second. The error
// is bus.ErrNotSent; peer names what is not there.
func (l *Line[C]) Wait(ctx context.Context, clock drover.Clock, brief bool, peer string) (c C, err error) {
	var timer <-chan time.Time
	for {
		s, change := l.Look()
		if s.Up {
			return s.Conn, nil
		}
		if brief && timer == nil {
			timer = clock.After(awaitUp)
		}
		select {
		case <-change:
		case <-timer:
			return c, fmt.Errorf("%w: no connection to the %s", bus.ErrNotSent, peer)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return c, fmt.Errorf("%w: no connection to the %s: %w", bus.ErrNotSent, peer, context.Cause(ctx))
		}
	}
}

// Escape writes all but [A-Za-z0-9_-] as =XX.
func Escape(s string) string {
	plain := 0
	for plain < len(s) && isPlain(s[plain]) {
		plain++
	}
	if plain == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:plain])
	for i := plain; i < len(s); i++ {
		if isPlain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "=%02X", s[i])
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
