package hypervisor

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/chance"
)

// PoolConfig of a Pool. Open is required.
type PoolConfig struct {
	Env  drover.Env
	Open func(ctx context.Context, host string) (Driver, error)
	Idle time.Duration // after which a driver that nobody has is closed; default 10m
}

// Pool keeps one driver per host, opened when first asked for. Hosts never wait for each other.
type Pool struct {
	cfg PoolConfig
	env drover.Env

	mu     sync.Mutex // guards memory only
	hosts  map[string]*pooled
	closed bool
	end    chan struct{} // closed by Close
}

// pooled is a host's driver.
type pooled struct {
	driver  Driver
	users   int
	used    time.Time     // when the last one gave it back
	opening chan struct{} // closed when the try under way has ended; nil = none is
	err     error         // of the last try
	retry   time.Time     // not tried again before
	wait    *backoff.ExponentialBackOff
}

// NewPool checks cfg, with a *FieldError, and opens nothing.
func NewPool(cfg PoolConfig) (*Pool, error) {
	switch {
	case cfg.Open == nil:
		return nil, &FieldError{"Open", "is missing"}
	case cfg.Idle < 0:
		return nil, &FieldError{"Idle", "is negative"}
	case cfg.Idle == 0:
		cfg.Idle = 10 * time.Minute
	}
	return &Pool{cfg: cfg, env: cfg.Env.Defaults(), hosts: map[string]*pooled{}, end: make(chan struct{})}, nil
}

// Get gives the host's driver, opening it if need be; whoever asks meanwhile waits for the same try. give it back when done. After a
// failed try the next one waits 100 ms × 2 up to 5 s, ±20 %; until then the failure is the answer, with ErrGone.
func (p *Pool) Get(ctx context.Context, host string) (d Driver, give func(), err error) {
	for {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		h, opening, err := p.ask(host)
		if err != nil {
			return nil, nil, err
		}
		if opening == nil {
			var once sync.Once
			return h.driver, func() { once.Do(func() { p.give(h) }) }, nil
		}
		select {
		case <-opening:
		case <-ctx.Done():
		}
	}
}

// ask takes the host's driver, or gives what to wait for.
func (p *Pool) ask(host string) (h *pooled, opening chan struct{}, err error) {
	now := p.env.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, &Error{Class: ErrClosed, Op: "open", Host: host}
	}
	if h = p.hosts[host]; h == nil {
		h = &pooled{}
		p.hosts[host] = h
	}
	switch {
	case h.driver != nil:
		h.users++
		return h, nil, nil
	case h.opening != nil:
		return h, h.opening, nil
	case h.err != nil && now.Before(h.retry):
		return nil, nil, &Error{Class: ErrGone, Op: "open", Host: host, Err: h.err}
	}
	h.opening = make(chan struct{})
	p.env.Go("hypervisor/open/"+host, func() { p.open(host, h) })
	return h, h.opening, nil
}

// open is one try.
func (p *Pool) open(host string, h *pooled) {
	ctx, cancel := context.WithTimeout(context.Background(), PingLimit)
	defer cancel()
	d, err := p.cfg.Open(ctx, host)
	now := p.env.Clock.Now()
	p.mu.Lock()
	if err == nil && p.closed {
		err = ErrClosed
		defer shut(d)
	}
	if h.err = err; err == nil {
		h.driver, h.used, h.wait = d, now, nil
	} else {
		if h.wait == nil {
			h.wait = &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, Multiplier: 2, MaxInterval: 5 * time.Second,
				Clock: p.env.Clock, Stop: backoff.Stop}
			h.wait.Reset()
		}
		h.retry = now.Add(chance.Around(p.env.Rand, h.wait.NextBackOff(), 0.2))
	}
	opening := h.opening
	h.opening = nil
	p.mu.Unlock()
	close(opening)
	if err == nil {
		p.env.Go("hypervisor/idle/"+host, func() { p.mind(host, h, d) })
	}
}

func (p *Pool) give(h *pooled) {
	now := p.env.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	h.users--
	h.used = now
}

// mind closes a driver that nobody has had for Idle.
func (p *Pool) mind(host string, h *pooled, d Driver) {
	for {
		now := p.env.Clock.Now()
		p.mu.Lock()
		left := p.cfg.Idle
		if h.users == 0 {
			left = h.used.Add(p.cfg.Idle).Sub(now)
		}
		over := p.closed || left <= 0
		if over && p.hosts[host] == h {
			delete(p.hosts, host)
		}
		p.mu.Unlock()
		if over {
			shut(d)
			return
		}
		select {
		case <-p.end:
		case <-p.env.Clock.After(left):
		}
	}
}

// Close closes all drivers, those in use too, and refuses what comes with ErrClosed.
func (p *Pool) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.end)
	}
	var ds []Driver
	for _, h := range p.hosts {
		if h.driver != nil {
			ds = append(ds, h.driver)
		}
	}
	p.mu.Unlock()
	var errs []error
	for _, d := range ds {
		if c, ok := d.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
