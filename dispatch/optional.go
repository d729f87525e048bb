package dispatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxRated is how many callers a Rate stage remembers before it forgets those that are idle.
const maxRated = 10_000

// Rate lets each caller (by identity) have n commands per d on this node, in bursts of up to n; more are RateLimited, with
// RetryAfter. Jobs and commands of jobs are not counted. Put it behind the stage trace. It panics unless n and d are positive.
func Rate(n int, d time.Duration) Stage {
	if n <= 0 || d <= 0 {
		panic(fmt.Sprintf("dispatch: Rate(%d, %v) must be positive", n, d))
	}
	l := &limiter{gap: d / time.Duration(n), burst: d, due: map[string]time.Time{}}
	return stage("rate", func(_ context.Context, p *pass, _ *Command) error {
		if p.executing {
			return nil
		}
		wait := l.take(fmt.Sprint(p.identity()), p.reg.telemetry().clock.Now()) // maps print in order
		if wait > 0 {
			e := Errorf(RateLimited, "more than %d commands per %v", n, d)
			e.RetryAfter = wait
			return e
		}
		return nil
	})
}

// limiter is the generic cell rate algorithm: a caller's due time runs ahead of the clock by at most burst.
type limiter struct {
	gap, burst time.Duration
	mu         sync.Mutex
	due        map[string]time.Time
}

// take counts one command, or says how long to wait for it.
func (l *limiter) take(caller string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.due[caller]
	if due.Before(now) {
		due = now
	}
	if ahead := due.Add(l.gap).Sub(now); ahead > l.burst {
		return ahead - l.burst
	}
	if len(l.due) >= maxRated {
		maps.DeleteFunc(l.due, func(_ string, t time.Time) bool { return t.Before(now) })
	}
	l.due[caller] = due.Add(l.gap)
	return 0
}

// Audit calls f once per command and pass, when its outcome is known, with a copy of the command in which secret parameters are
// redacted. Commands that nobody has are told without parameters.
func Audit(f func(ctx context.Context, c *Command, err error)) Stage {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Command) (any, error) {
			p, err := need(ctx, "audit")
			if err != nil {
				return nil, err
			}
			r, err := next.Dispatch(ctx, c)
			told := *c
			told.Value, told.Params = nil, p.told()
			f(ctx, &told, err)
			return r, err
		})
	}
}

// told are the parameters as sent, without secrets and without what the command does not have.
func (p *pass) told() map[string]string {
	told := map[string]string{}
	if p.cmd == nil {
		return told
	}
	for sent, value := range p.c.Params {
		name, member, _ := strings.Cut(strings.ToLower(sent), "[")
		x := p.cmd.schema.byName[name]
		if x != nil && x.sub != nil {
			_, member, _ = strings.Cut(member, ".")
			x = x.sub.byName[member]
		}
		switch {
		case x == nil:
		case x.secret:
			told[sent] = redacted
		default:
			told[sent] = value
		}
	}
	return told
}

// Freeze refuses the commands of these names to everybody, as Draining. Jobs that were accepted before are let through.
func Freeze(names ...string) Stage {
	return stage("freeze", func(_ context.Context, p *pass, c *Command) error {
		if !p.executing && slices.Contains(names, c.Name) {
			return Errorf(Draining, "command %s is frozen", c.Name)
		}
		return nil
	})
}
