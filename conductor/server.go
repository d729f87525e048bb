package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
)

const (
	purgeEvery = time.Minute
	purgeMost  = 1000
	keepFor    = 10 * time.Minute // a commit record
)

// Commit is what a server keeps of a commit, so that a repeat has the same answer.
type Commit struct {
	ID, Host string
	Result   []byte
}

// Store keeps commits, in the caller's transaction; tx of another store gives [store.ErrForeign].
type Store interface {
	// Get finds a commit, or [store.ErrNotFound].
	Get(ctx context.Context, tx store.Tx, id string) (Commit, error)
	// Put keeps c as of now. An ID that is there: [store.ErrConflict], also for the second of two transactions at once.
	Put(ctx context.Context, tx store.Tx, c Commit) error
	// Purge removes at most most commits that are older than age, oldest first, and says how many.
	Purge(ctx context.Context, tx store.Tx, age time.Duration, most int) (int, error)
}

// ServerConfig of a Server. Bus, Tx and Commits are required.
type ServerConfig struct {
	Env drover.Env
	Bus *bus.Bus // run by the host
	Tx  store.Runner
	// Commits of the same store; default Tx's Commits().
	Commits Store
	// Stores are served by their accessors (Jobs, Queues, Leases, Ledger, Tracker, Outbox, Members), as of store/memory; default
	// Tx. What is missing answers bus.ErrUnsupported.
	Stores any
	// Notify tells of hints, which hosts that want them are told; default that of Tx, if it has one.
	Notify store.Notifier
	Policy Policy
	// Topic, "conductor"; beats and renewals come by Topic.live.
	Topic string
	// Workers do commits and reads, 64 at once, PerHost for one host, 8; 32 more of it wait.
	Workers, PerHost int
}

// Server does for hosts what they may do. Any number of them, on nodes with the store, share the topic. It has no state but
// the store's.
type Server struct {
	cfg    ServerConfig
	env    drover.Env
	log    *slog.Logger
	tx     store.Runner
	inner  inner
	tables map[string]table
	serves map[string]string // versions of stores
	nodes  nodes
	lane   *gate
	live   *gate
	meters meters
	hints  hints
	said   said

	mu    sync.Mutex
	run   int
	stops []func() // what is served
}

// NewServer checks cfg; ErrConfig names the field.
func NewServer(cfg ServerConfig) (*Server, error) {
	switch {
	case cfg.Bus == nil:
		return nil, badField("Bus", "is required")
	case cfg.Tx == nil:
		return nil, badField("Tx", "is required")
	case cfg.Workers < 0 || cfg.PerHost < 0:
		return nil, badField("Workers, PerHost", "negative")
	}
	if cfg.Topic == "" {
		cfg.Topic = defaultTopic
	}
	if !isTopic(cfg.Topic) {
		return nil, badField("Topic", "want [a-z0-9][a-z0-9._-]{0,48}")
	}
	if c, ok := cfg.Tx.(interface{ Commits() Store }); ok && cfg.Commits == nil {
		cfg.Commits = c.Commits()
	}
	if cfg.Commits == nil {
		return nil, badField("Commits", "is required, or a Tx that has them")
	}
	if cfg.Stores == nil {
		cfg.Stores = cfg.Tx
	}
	if n, ok := cfg.Tx.(interface{ Notifier() store.Notifier }); ok && cfg.Notify == nil {
		cfg.Notify = n.Notifier()
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.PerHost == 0 {
		cfg.PerHost = defaultPerHost
	}
	cfg.Env = cfg.Env.Defaults()
	s := &Server{cfg: cfg, env: cfg.Env, tx: cfg.Tx, inner: innerOf(cfg.Stores), tables: map[string]table{}, serves: map[string]string{},
		log:  cfg.Env.Logger.With("component", "conductor", "node", cfg.Env.Node),
		lane: newGate(cfg.Workers, cfg.PerHost, hostQueue), live: newGate(liveWorkers, liveWorkers, hostQueue)}
	for _, name := range sorted(tables) {
		s.tables[name], s.serves[name] = tables[name], version
	}
	s.hints.s = s
	if err := s.meters.init(cfg.Env); err != nil {
		return nil, err
	}
	return s, s.meters.watch(s.lane, s.live)
}

// RegisterStore serves a Store of the host's own by the same rules; before Run. ver is its version, "major.minor".
func RegisterStore(s *Server, name, ver string, methods ...Served) error {
	if _, err := parseVersion(ver); err != nil {
		return badField("version", err.Error())
	}
	if !isName(name) || s.tables[name] != nil || name == "tx" || name == "member" {
		return badField("name", fmt.Sprintf("%q: want [a-z0-9-]+, and not one that is served already", name))
	}
	t := table{}
	for _, m := range methods {
		if m.method == nil || m.store != name {
			return badField("methods", fmt.Sprintf("%v is not one of store %s", m.method, name))
		}
		if err := m.validate(); err != nil {
			return err
		}
		if t[m.name] != nil {
			return badField("methods", m.String()+" twice")
		}
		t[m.name] = m.method
	}
	s.tables[name], s.serves[name], s.inner[name] = t, ver, t
	return nil
}

// Run serves until ctx ends; then calls under way are still answered.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	was := s.run
	if was == 0 {
		s.run = 1
	}
	s.mu.Unlock()
	switch was {
	case 1:
		return drover.ErrRunning
	case 2:
		return drover.ErrUsed
	}
	s.serve()
	for ctx.Err() == nil {
		if s.env.Sleep(ctx, purgeEvery) == nil {
			s.purge(ctx)
		}
	}
	s.unserve()
	s.hints.close()
	s.mu.Lock()
	s.run = 2
	s.mu.Unlock()
	return nil
}

// serve offers the endpoints.
func (s *Server) serve() {
	tx := s.endpoint(spaceTx)
	s.handle(tx, callCommit, s.lane, s.commit)
	s.handle(tx, callNow, s.lane, s.now)
	bus.HandleFunc(tx, callWatch, s.hints.watch)
	eps := []*bus.Endpoint{tx}
	for _, name := range sorted(s.tables) {
		ep := s.endpoint("store." + name)
		for _, m := range sorted(s.tables[name]) {
			s.handle(ep, m, s.lane, s.read)
		}
		eps = append(eps, ep)
	}
	lv, mem := s.endpoint(spaceTx), s.endpoint(spaceMember)
	s.handle(lv, callCommit, s.live, s.commit)
	for _, m := range []string{callJoin, callBeat, callLeave, callMembers} {
		s.handle(mem, m, s.live, func(ctx context.Context, host string, req *request) reply { return s.member(ctx, host, m, req) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops = []func(){s.cfg.Bus.Serve(s.cfg.Topic, eps...), s.cfg.Bus.Serve(s.cfg.Topic+liveSuffix, lv, mem)}
}

func (s *Server) endpoint(space string) *bus.Endpoint {
	return &bus.Endpoint{Namespace: space, Version: version, Unbound: true,
		Expect: []error{bus.ErrBusy, context.Canceled, context.DeadlineExceeded}}
}

func (s *Server) unserve() {
	s.mu.Lock()
	stops := s.stops
	s.stops = nil
	s.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// Drain takes no more calls, which go to other servers, and waits until those under way are answered.
func (s *Server) Drain(ctx context.Context) error {
	s.unserve()
	for _, g := range []*gate{s.lane, s.live} {
		select {
		case <-g.drained():
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// handle makes f a method: who asks, whether there is room, what it answers.
func (s *Server) handle(ep *bus.Endpoint, name string, g *gate, f func(ctx context.Context, host string, req *request) reply) {
	bus.HandleFunc(ep, name, func(ctx context.Context, m *bus.Message) ([]byte, error) {
		host, err := s.peer(ctx)
		var req request
		if err == nil {
			if err = json.Unmarshal(m.Body, &req); err != nil {
				err = fmt.Errorf("%w: %w", errInvalid, err)
			}
		}
		if err != nil {
			s.tellDenied(ctx, host, m.Namespace+"/"+m.Method, err)
			return json.Marshal(reply{Err: failureOf(err, 0)})
		}
		leave, err := g.enter(ctx, host)
		if err != nil {
			return nil, err
		}
		defer leave()
		done := s.meters.call(ctx, m.Namespace, m.Method)
		rep := f(ctx, host, &req)
		if rep.Err != nil {
			s.log.DebugContext(ctx, "a call failed", "host", host, "method", m.Namespace+"/"+m.Method, "op", rep.Err.Op, "err", rep.Err.Text)
			done(rep.Err.read())
		} else {
			done(nil)
		}
		return json.Marshal(rep)
	})
}

// peer is the host that calls.
func (s *Server) peer(ctx context.Context) (string, error) {
	p, ok := bus.PeerFrom(ctx)
	if !ok || p.Node == "" || !p.Proven && p.Node != s.env.Node && !s.cfg.Policy.TrustNames {
		return p.Node, fmt.Errorf("%w: %q is not proven to be who it says", ErrDenied, p.Node)
	}
	return p.Node, nil
}

func (s *Server) grant(ctx context.Context, tx store.Tx, host string) *grant {
	return &grant{host: host, policy: &s.cfg.Policy, nodes: &s.nodes, inner: s.inner, tx: tx, ctx: ctx,
		ended: map[string]bool{}, woken: map[string]bool{}}
}

func (s *Server) now(ctx context.Context, _ string, _ *request) (rep reply) {
	err := s.tx.InTx(ctx, func(_ context.Context, tx store.Tx) error {
		rep.Now = tx.Now()
		return nil
	})
	if err != nil {
		rep.Err = failureOf(err, 0)
	}
	return rep
}

func (s *Server) member(ctx context.Context, host, method string, req *request) (rep reply) {
	d, _ := s.inner["member"].(servicegroup.Driver)
	if d == nil || len(req.Ops) != 1 {
		rep.Err = failureOf(fmt.Errorf("conductor: members: %w", bus.ErrUnsupported), 0)
		return rep
	}
	got, err := doMember(ctx, d, s.grant(ctx, nil, host), method, req.Ops[0].Args)
	if err == nil && got != nil {
		var raw json.RawMessage
		raw, err = encode(got)
		rep.Results = []result{{Value: raw}}
	}
	if err != nil {
		s.tellDenied(ctx, host, "member."+method, err)
		rep.Err = failureOf(err, 0)
	}
	return rep
}

// purge removes commit records that nobody will ask for any more.
func (s *Server) purge(ctx context.Context) {
	for n := purgeMost; n == purgeMost && ctx.Err() == nil; {
		err := s.tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			n, err = s.cfg.Commits.Purge(ctx, tx, keepFor, purgeMost)
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("commit records not purged", "err", err)
			}
			return
		}
	}
}

// said is when a denial was logged last, by host and operation.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

const maxSaid = 10_000

// tellDenied counts denials, and logs each kind once a minute.
func (s *Server) tellDenied(ctx context.Context, host, op string, err error) {
	if !errors.Is(err, ErrDenied) {
		return
	}
	s.meters.denied.Add(ctx, 1)
	now := s.env.Clock.Now()
	s.said.mu.Lock()
	if s.said.at == nil || len(s.said.at) >= maxSaid {
		s.said.at = map[string]time.Time{}
	}
	last := s.said.at[host+" "+op]
	fresh := last.IsZero() || now.Sub(last) >= time.Minute
	if fresh {
		s.said.at[host+" "+op] = now
	}
	s.said.mu.Unlock()
	if fresh {
		s.log.WarnContext(ctx, "denied", "host", host, "op", op, "err", err)
	}
}
