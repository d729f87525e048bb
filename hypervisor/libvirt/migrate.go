package libvirt

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

var _ hypervisor.Migrator = (*Driver)(nil)

const (
	migrateLive       = 1 << 0 // VIR_MIGRATE_
	migratePeer2Peer  = 1 << 1
	migratePersist    = 1 << 3
	migrateUndefine   = 1 << 4
	migratePostCopy   = 1 << 15
	watchEvery        = 500 * time.Millisecond
	abortAgain        = 100 * time.Millisecond
	durationOfVerdict = 30 * time.Second
)

// Migrate moves a running guest to another daemon, which the source daemon connects to. The epoch is recorded at the source and moves
// along. The work goes on when ctx ends; see hypervisor.Migration. A VM that runs at the target already is moved.
func (d *Driver) Migrate(ctx context.Context, id string, s hypervisor.MigrateSpec) (hypervisor.Migration, error) {
	m := &migration{d: d, id: id, spec: s, done: make(chan struct{})}
	err := d.alter(ctx, "migrate", id, hypervisor.ChangeLimit, m.begin)
	if err != nil {
		return nil, err
	}
	if m.over() {
		return m, nil
	}
	d.moves.add(m)
	d.tasks.Add(1)
	d.env.Go("libvirt/migrate/"+id, func() {
		defer d.tasks.Done()
		defer d.moves.remove(m)
		m.run()
	})
	return m, nil
}

// migration is a move under way.
type migration struct {
	d      *Driver
	id     string
	spec   hypervisor.MigrateSpec
	dom    rpc.Domain
	memory int64
	began  time.Time

	mu       sync.Mutex
	progress hypervisor.Progress
	aborted  bool
	forced   bool
	post     bool

	done chan struct{}
	err  error // after done
}

func (m *migration) check(c *call) error {
	s := &m.spec
	bad := func(field, reason string) error { return &hypervisor.FieldError{Field: field, Reason: reason} }
	odd := func(uri string) bool {
		return strings.HasPrefix(uri, "-") || strings.ContainsFunc(uri, unicode.IsControl)
	}
	h, err := c.met()
	if err != nil {
		return err
	}
	if to, ours := s.Target.(*Driver); ours && s.To == "" {
		if s.To = to.remoteURI(); s.To != "" {
			s.TransferURI = cmp.Or(s.TransferURI, "tcp://127.0.0.1") // a socket is on the same machine
		}
	}
	switch {
	case hypervisor.ValidID(s.ToHost) != nil:
		return bad("ToHost", "is no lower-case UUID")
	case s.ToHost == h.id:
		return bad("ToHost", "is the source")
	case s.To == "":
		return bad("To", "is needed: the target cannot say how to reach it")
	case odd(s.To):
		return bad("To", "is no URI")
	case odd(s.TransferURI):
		return bad("TransferURI", "is no URI")
	case s.Bandwidth < 0:
		return bad("Bandwidth", "is negative")
	case s.MaxDowntime < 0:
		return bad("MaxDowntime", "is negative")
	case s.Timeout < 0:
		return bad("Timeout", "is negative")
	case s.OnTimeout != "" && s.OnTimeout != hypervisor.Abort && s.OnTimeout != hypervisor.Force:
		return bad("OnTimeout", "must be abort or force")
	}
	s.MaxDowntime = cmp.Or(s.MaxDowntime, defaultDowntime)
	return nil
}

// remoteURI is how another daemon on the same machine reaches this driver's; "" if that is not known.
func (d *Driver) remoteURI() string {
	if d.socket == "" {
		return ""
	}
	scheme, rest, _ := strings.Cut(d.cfg.URI, ":")
	return scheme + "+unix:" + rest + "?socket=" + d.socket
}

// begin records the epoch at the source.
func (m *migration) begin(c *call) error {
	if err := m.check(c); err != nil {
		return err
	}
	vm, dom, rec, err := c.get()
	if errors.Is(err, hypervisor.ErrNotFound) && m.arrived(c.ctx) {
		close(m.done)
		return nil
	}
	if err != nil {
		return err
	}
	if err := rec.refuses(m.spec.Epoch); err != nil {
		return err
	}
	if vm.Power != hypervisor.On {
		return c.state(vm)
	}
	if to := m.spec.Target; to != nil {
		info, err := to.Info(c.ctx)
		if err != nil {
			return err
		}
		if info.ID != m.spec.ToHost {
			return &hypervisor.FieldError{Field: "ToHost", Reason: "is not the target, which is " + info.ID}
		}
	}
	m.dom, m.memory, m.began = dom, vm.MemoryMiB, c.d.env.Clock.Now()
	m.progress = hypervisor.Progress{Total: vm.MemoryMiB, Remaining: vm.MemoryMiB}
	if m.spec.Epoch == rec.Epoch {
		return nil
	}
	return c.record(dom, record{Epoch: m.spec.Epoch, Mode: modeStarted}, c.everywhere(vm))
}

// arrived says whether the target runs the VM.
func (m *migration) arrived(ctx context.Context) bool {
	if m.spec.Target == nil {
		return false
	}
	vm, err := m.spec.Target.Get(ctx, m.id)
	return err == nil && vm.Power == hypervisor.On
}

func (m *migration) over() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// call is an operation on the VM that lasts no longer than ctx.
func (m *migration) call(ctx context.Context, change bool) *call {
	return &call{ctx: ctx, d: m.d, op: "migrate", vm: m.id, change: change}
}

// run sends the request, watches, and judges how it ended.
func (m *migration) run() {
	ctx, cancel := context.WithCancel(m.d.life)
	defer cancel()
	answer := make(chan error, 1)
	m.d.env.Go("libvirt/migrate/"+m.id+"/perform", func() { answer <- m.perform(ctx) })
	err := m.watch(ctx, answer)
	m.err = m.verdict(err)
	result := className(m.err)
	count(m.d.meters.done, "result", result)
	close(m.done)
}

func (m *migration) perform(ctx context.Context) error {
	s := m.spec
	flags := uint32(migrateLive | migratePeer2Peer | migratePersist | migrateUndefine)
	if s.PostCopy {
		flags |= migratePostCopy
	}
	var params []rpc.Param
	if s.TransferURI != "" {
		params = append(params, rpc.Param{Field: "migrate_uri", Value: rpc.String(s.TransferURI)})
	}
	if s.Bandwidth > 0 {
		params = append(params, rpc.Param{Field: "bandwidth", Value: rpc.Uint64(uint64(s.Bandwidth))})
	}
	args := rpc.Args{}.Dom(m.dom).Opt(s.To).Params(params...).Bytes(nil).U32(flags)
	return m.call(ctx, true).alone(func(conn *rpc.Conn) error {
		_, err := conn.Call(ctx, rpc.DomainMigratePerform3Params, args)
		return err
	})
}

// watch looks after the migration until the request is answered.
func (m *migration) watch(ctx context.Context, answer <-chan error) error {
	clock := m.d.env.Clock
	limits := downtimes(m.spec.MaxDowntime, downtimeSteps, downtimeDelay, m.memory)
	for {
		select {
		case err := <-answer:
			return err
		case <-clock.After(watchEvery):
		}
		job, err := m.look(ctx)
		if err != nil {
			continue // nothing is known: the request decides, or the keepalive of its connection
		}
		elapsed := clock.Now().Sub(m.began)
		for job && len(limits) > 0 && elapsed >= limits[0].at {
			m.tune(ctx, limits[0].limit)
			limits = limits[1:]
		}
		m.mu.Lock()
		s := sight{
			calling: true, job: job, elapsed: elapsed, limit: timeLimit(m.spec.Timeout, m.memory), onTimeout: m.spec.OnTimeout,
			mayPost: m.spec.PostCopy, post: m.post, forced: m.forced || m.aborted,
		}
		m.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, hypervisor.QueryLimit)
		switch decide(s) { // what fails is tried again
		case stepAbort:
			_ = m.Abort(limited)
		case stepPostCopy, stepPause:
			_ = m.ForceComplete(limited)
		}
		cancel()
	}
}

// look reads the figures of the job.
func (m *migration) look(ctx context.Context) (job bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, hypervisor.QueryLimit)
	defer cancel()
	r, err := m.call(ctx, false).ask(rpc.DomainGetJobStats, rpc.Args{}.Dom(m.dom).U32(0))
	if err != nil {
		return false, err
	}
	job = r.I32() != 0
	var total, remaining int64
	r.Params(func(field []byte, v rpc.Value) {
		switch string(field) {
		case "memory_total":
			total = v.Int()
		case "memory_remaining":
			remaining = v.Int()
		}
	})
	if err := r.Err(); err != nil {
		return false, err
	}
	if job && total > 0 {
		m.mu.Lock()
		m.progress = hypervisor.Progress{Total: (total + 1<<20 - 1) >> 20, Remaining: (remaining + 1<<20 - 1) >> 20}
		m.mu.Unlock()
	}
	return job, nil
}

// tune sets the downtime limit; a source that refuses goes on with its own.
func (m *migration) tune(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, hypervisor.QueryLimit)
	defer cancel()
	_, err := m.call(ctx, true).do(rpc.DomainMigrateSetMaxDowntime, rpc.Args{}.Dom(m.dom).U64(uint64(limit.Milliseconds())).U32(0))
	if err != nil {
		m.d.env.Logger.Debug("hypervisor: the limit of downtime was not set", "host", m.d.hostID(), "err", err)
	}
}

// Progress reads how much there is to move.
func (m *migration) Progress(ctx context.Context) (p hypervisor.Progress, err error) {
	if ctx.Err() != nil {
		return p, m.call(ctx, false).name(context.Cause(ctx))
	}
	if !m.over() {
		if _, err := m.look(ctx); err != nil && !m.over() && !errors.Is(err, hypervisor.ErrNotFound) {
			return p, m.call(ctx, false).name(err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over() {
		m.progress.Remaining = 0
	}
	return m.progress, nil
}

// Abort ends the job at the source. One that has not begun is waited for.
func (m *migration) Abort(ctx context.Context) error {
	m.mu.Lock()
	m.aborted = true
	m.mu.Unlock()
	return m.urge(ctx, rpc.DomainAbortJob, rpc.Args{}.Dom(m.dom))
}

// ForceComplete starts post-copy where that is allowed, else it pauses the guest.
func (m *migration) ForceComplete(ctx context.Context) error {
	p, args := rpc.DomainSuspend, rpc.Args{}.Dom(m.dom)
	if m.spec.PostCopy {
		p, args = rpc.DomainMigrateStartPostCopy, args.U32(0)
	}
	err := m.urge(ctx, p, args)
	if err == nil {
		m.mu.Lock()
		m.forced, m.post = true, m.spec.PostCopy
		m.mu.Unlock()
	}
	return err
}

// urge sends a request about the job until it is taken, or the migration is over.
func (m *migration) urge(ctx context.Context, p rpc.Proc, args rpc.Args) error {
	c := m.call(ctx, true)
	if ctx.Err() != nil {
		return c.name(context.Cause(ctx))
	}
	for !m.over() {
		if job, err := m.look(ctx); err != nil || job {
			_, err = c.send(m.d.query, p, args)
			if err == nil || classify(err, true).Code != codeOperationInvalid {
				return c.name(err)
			}
		}
		select {
		case <-m.done:
		case <-m.d.env.Clock.After(abortAgain):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return c.name(context.Cause(ctx))
		}
	}
	return nil
}

// Wait gives the verdict.
func (m *migration) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
	}
	return m.call(ctx, false).name(context.Cause(ctx))
}

// moves are the migrations under way.
type moves struct {
	mu  sync.Mutex
	all map[*migration]struct{}
}

func (l *moves) add(m *migration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*migration]struct{}{}
	}
	l.all[m] = struct{}{}
}

func (l *moves) remove(m *migration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, m)
}

// remaining is in MiB.
func (l *moves) remaining() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.all { // a sum
		m.mu.Lock()
		n += m.progress.Remaining
		m.mu.Unlock()
	}
	return n
}
