package drover

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"
)

const stopTimeout = 10 * time.Second

// stop ends p's ctx and waits for p: nil, or ErrStuck with the stacks of its goroutines.
func (p *part) stop() error {
	p.cancel(ErrStopping)
	limit := p.stopTimeout()
	timer := p.g.env.Clock.After(limit)
	if p.gone(timer) {
		return nil
	}
	dump := stacksOf(p.path)
	p.g.mu.Lock()
	p.enter("failing")
	p.err = ErrStuck
	p.g.mu.Unlock()
	p.g.stuck.Add(p.ctx, 1, p.attrs())
	p.g.env.Logger.Error("component.stuck", "component", p.path, "node", p.g.env.Node, "after", limit, "stacks", string(dump))
	return named(p.name, fmt.Errorf("%w (%v)\n%s", ErrStuck, limit, dump))
}

// gone waits for the goroutines of p: its Run, and after it what Drain and Health have asked.
func (p *part) gone(limit <-chan time.Time) bool {
	for {
		cs := p.pending()
		if len(cs) == 0 {
			return true
		}
		select {
		case <-cs[0]:
		case <-limit:
			return len(p.pending()) == 0
		}
	}
}

// pending lists what is still going on in p.
func (p *part) pending() (cs []<-chan struct{}) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	if !isClosed(p.done) {
		cs = append(cs, p.done)
	}
	if p.drain != nil && !isClosed(p.drain.done) {
		cs = append(cs, p.drain.done)
	}
	if p.asked != nil && !isClosed(p.asked.done) {
		cs = append(cs, p.asked.done)
	}
	return cs
}

// stopTimeout is the option, else the component's own, else 10 s.
func (p *part) stopTimeout() (d time.Duration) {
	if p.opt.stop > 0 {
		return p.opt.stop
	}
	p.g.mu.Lock()
	c := p.comp
	p.g.mu.Unlock()
	defer func() {
		if recover() != nil || d <= 0 {
			d = cmpOr(p.g.stopAfter, stopTimeout)
		}
	}()
	if s, ok := c.(Stopper); ok {
		return s.StopTimeout()
	}
	return 0
}

// StopTimeout is what the components' stops may take together, and a second: a Group around this one waits that long.
func (g *Group) StopTimeout() time.Duration {
	g.mu.Lock()
	parts := slices.Clone(g.parts)
	g.mu.Unlock()
	sum := time.Second
	for _, p := range parts {
		sum += p.stopTimeout()
	}
	return sum
}

// stacksOf is the goroutine profile cut down to the goroutines of a component, at most 16 KiB of it.
func stacksOf(path string) []byte {
	var all, own bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return []byte(err.Error())
	}
	exact := []byte(`"drover.component":` + strconv.Quote(path))
	below := []byte(`"drover.component":` + strconv.Quote(path + "/")[:len(strconv.Quote(path+"/"))-1])
	for stack := range bytes.SplitSeq(all.Bytes(), []byte("\n\n")) {
		if (bytes.Contains(stack, exact) || bytes.Contains(stack, below)) && own.Len() < 16<<10 {
			own.Write(stack)
			own.WriteString("\n\n")
		}
	}
	return bytes.TrimSpace(own.Bytes())
}
