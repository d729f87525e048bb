package testkit

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on loopback with faults. All verbs act at once, on open and on new connections.
type Proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	change chan struct{} // closed and replaced when a setting changes
	hole   bool
	delay  time.Duration
	cut    [2]int64 // bytes still let through of each connection, by direction; < 0 = all
	conns  map[net.Conn]struct{}
	closed bool
}

// NewProxy listens on a free port of 127.0.0.1 and forwards to target until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy is NewProxy for programs that are no tests: the caller closes it.
func StartProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, change: make(chan struct{}), cut: [2]int64{-1, -1}, conns: map[net.Conn]struct{}{}}
	go p.accept()
	return p, nil
}

// Addr is host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// BlackHole swallows everything: no data, no reset, also for connections made meanwhile.
func (p *Proxy) BlackHole() { p.set(func() { p.hole = true }) }

// Delay holds back each chunk by d in each direction.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// CutRequests lets n more bytes of each connection pass to the server, then breaks it.
func (p *Proxy) CutRequests(n int64) { p.set(func() { p.cut[requests] = n }) }

// CutAnswers lets n more bytes of each connection pass to the client, then breaks it.
func (p *Proxy) CutAnswers(n int64) { p.set(func() { p.cut[answers] = n }) }

const (
	requests = iota
	answers
)

// Heal ends all faults; what a black hole swallowed stays lost, so its connections are reset.
func (p *Proxy) Heal() {
	p.set(func() {
		if p.hole {
			p.resetLocked()
		}
		p.hole, p.delay, p.cut = false, 0, [2]int64{-1, -1}
	})
}

// Reset breaks all open connections.
func (p *Proxy) Reset() { p.set(p.resetLocked) }

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.set(func() { p.closed = true; p.resetLocked() })
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.change)
	p.change = make(chan struct{})
}

func (p *Proxy) resetLocked() {
	for c := range p.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) keep(cs ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		if p.closed {
			_ = c.Close()
			continue
		}
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

func (p *Proxy) serve(client net.Conn) {
	if !p.keep(client) {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	if !p.keep(server) {
		return
	}
	go p.pump(server, client, requests)
	p.pump(client, server, answers)
}

// pump copies from src to dst, bent by the faults of the moment, and closes both at the end.
func (p *Proxy) pump(dst, src net.Conn, direction int) {
	defer func() {
		p.mu.Lock()
		delete(p.conns, dst)
		delete(p.conns, src)
		p.mu.Unlock()
		_ = dst.Close()
		_ = src.Close()
	}()
	var passed int64
	since := int64(-1) // bytes passed when the present cut was set
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		hole, delay, cut, closed := p.hole, p.delay, p.cut[direction], p.closed
		p.mu.Unlock()
		if closed {
			return
		}
		if cut >= 0 && since < 0 {
			since = passed
		} else if cut < 0 {
			since = -1
		}
		if delay > 0 && n > 0 {
			time.Sleep(delay)
		}
		if hole {
			n = 0
		}
		last := cut >= 0 && passed+int64(n) >= since+cut
		if last {
			n = int(since + cut - passed)
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
			passed += int64(n)
		}
		if last {
			return
		}
		if err != nil {
			if hole && errors.Is(err, io.EOF) { // the other side must not learn that this one left
				p.wait()
				continue
			}
			return
		}
	}
}

// wait sleeps until a setting changes.
func (p *Proxy) wait() {
	p.mu.Lock()
	c, closed := p.change, p.closed
	p.mu.Unlock()
	if !closed {
		<-c
	}
}
