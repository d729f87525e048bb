package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/examples/refserver/limits"
	"github.com/drover-cloud/drover/examples/refserver/native"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/syncqueue"
)

// What stopping takes beside the flags -drain-delay and -drain: jobs that are handed back, then connections that are closed.
const (
	stopTime  = 5 * time.Second
	closeTime = 2 * time.Second
)

// Server is one node.
type Server struct {
	cfg      Config
	env      drover.Env
	db       cloud.DB
	bun      *bun.DB
	cloud    *cloud.Cloud
	admin    cloud.Credentials
	service  drover.Service
	session  *lease.Session
	members  *servicegroup.Group
	life     int64 // of this node: what tells it from earlier ones of its name
	bus      *bus.Bus
	link     *cloud.Link // to the other nodes; nil = the bus reaches none
	key      *cloud.MasterKey
	tasks    periodic.Set
	jobs     *job.Manager
	turns    *syncqueue.Queue
	console  *console.Console // nil = off
	registry *dispatch.Registry
	face     *csapi.Face
	native   *native.Face
	rate     *limits.Buckets  // of the requests of a key, on all faces; nil = none
	refused  *limits.Failures // failed authentications of an address; nil = none
	locks    locks
	named    bool // the node's name outlives the process
	listener net.Listener
	http     *http.Server
	health   health
}

// New opens the store, brings it up to date and listens; Run serves. Bad configuration is a *FlagError.
func New(ctx context.Context, cfg Config) (s *Server, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s = &Server{}
	defer func(s *Server) {
		if err != nil {
			s.close() // the error that ends the start is the one to tell
		}
	}(s)
	if err := s.settle(&cfg); err != nil {
		return nil, err
	}
	s.named = cfg.Env.Node != ""
	cfg.Env = cfg.Env.Defaults()
	s.cfg, s.env = cfg, cfg.Env
	seed, err := cloud.ParseSeed(cfg.Seed)
	if err != nil {
		return nil, &FlagError{"seed", err}
	}
	if s.key, err = cfg.masterKey(); err != nil {
		return nil, err
	}
	if s.db, s.bun, err = cfg.openDB(ctx); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, seed); err != nil {
		return nil, err
	}
	if cfg.Migrate == "only" {
		return s, nil
	}
	if s.listener, err = cfg.listen(ctx); err != nil {
		return nil, err
	}
	if err := s.wire(); err != nil {
		_ = s.listener.Close()
		return nil, err
	}
	return s, nil
}

// settle makes the data directory, and takes it and the node's name.
func (s *Server) settle(cfg *Config) (err error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return &FlagError{"data", err}
	}
	if cfg.Migrate != "only" {
		if s.locks, err = cfg.take(); err != nil {
			return err
		}
	}
	if err := cfg.name(); err != nil {
		return err
	}
	if err := cfg.Env.Check(); err != nil {
		return &FlagError{"node", err}
	}
	return nil
}

// close gives back what New took.
func (s *Server) close() {
	if s.bun != nil {
		_ = s.bun.Close() // nothing is left to write
	}
	s.locks.release()
}

// prepare brings schema, seed and hosts into place.
func (s *Server) prepare(ctx context.Context, seed *cloud.Seed) (err error) {
	if err := s.schema(ctx); err != nil {
		return &FlagError{"db", err}
	}
	latency := s.cfg.SimLatency
	if latency == 0 {
		latency = -1 // none
	}
	s.cloud, err = cloud.Open(ctx, cloud.Config{
		Env: s.env, DB: s.db, Bun: s.bun, Seed: seed, MasterKey: s.key, DevKey: s.cfg.DevKey,
		Hosts: s.cfg.Hosts, SimHosts: s.cfg.SimHosts, SimFaults: s.cfg.SimFaults, RateLimit: s.cfg.Rate, Expunge: s.cfg.Expunge, Migrate: s.cfg.Migrate != "off", Single: !s.cfg.postgres(),
		SimTimes: sim.Times{Define: -1, Start: latency, Stop: latency, Reboot: latency, Migrate: latency},
	})
	if errors.As(err, new(*cloud.HostError)) {
		return &FlagError{"hypervisor", err}
	}
	if err != nil {
		return &FlagError{"db", err}
	}
	if s.admin, err = s.cloud.Admin(ctx); err != nil {
		return &FlagError{"master-key", err}
	}
	return nil
}

// schema brings drover's tables up to date, or with -migrate off refuses those that are not.
func (s *Server) schema(ctx context.Context) error {
	if s.cfg.Migrate != "off" {
		return s.db.Migrate(ctx)
	}
	have, want, err := s.db.Schema(ctx)
	switch {
	case err != nil:
		return err
	case have < want:
		return fmt.Errorf("schema: the database is at version %d, this program needs %d: start it with -migrate auto", have, want)
	case have > want:
		return fmt.Errorf("schema: the database is at version %d, this program knows %d: start a newer program", have, want)
	}
	return nil
}

// wire makes the components.
func (s *Server) wire() (err error) {
	c := s.cfg
	if s.session, err = lease.New(lease.Config{Env: s.env, Tx: s.db, Store: s.db.Leases(), Notify: s.db.Notifier()}); err != nil {
		return err
	}
	if err := s.join(); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	if s.turns, err = syncqueue.New(syncqueue.Config{Env: s.env, Tx: s.db, Store: s.db.Queues()}); err != nil {
		return err
	}
	s.jobs, err = job.New(job.Config{
		Env: s.env, DB: s.db, Session: s.session, Turns: s.turns, Events: s, Queues: map[string]int{"default": c.Workers}, Retain: c.Retention, StopTimeout: stopTime,
	})
	if err != nil {
		return err
	}
	s.registry = s.cloud.Registry(s.jobs, s.session)
	s.rate, s.refused = limits.NewBuckets(s.env.Clock, c.Rate, c.Burst), c.refused(s.env.Clock)
	s.face, err = csapi.New(csapi.Config{
		Env: s.env, Registry: s.registry, Jobs: s.jobs, Keys: s.cloud, Nodes: s.cloud,
		Hold: c.Hold, MaxHolds: c.MaxHolds, EnforceTimestamps: c.Timestamps, Sessions: c.sessions(s.cloud), Address: c.address,
		Rate: s.rate, Refused: s.refused,
	})
	if err != nil {
		return err
	}
	s.tasks.Env = s.env
	if err := s.tasks.Add(s.cloud.Tasks(s.jobs, periodic.Singleton(lease.NewLedger(s.session, s.db.Ledger()), periodic.Prefer(s.leads)))...); err != nil {
		return err
	}
	s.health.s = s
	mux := http.NewServeMux()
	mux.Handle("/client/", s.face)
	if err := s.page(mux); err != nil {
		return err
	}
	if err := s.mountNative(mux, s.registry); err != nil {
		return err
	}
	if c.Login {
		mux.Handle("/login", http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.signIn)))
	}
	mux.HandleFunc("/healthz", s.health.alive)
	mux.HandleFunc("/readyz", s.health.ready)
	mux.HandleFunc("/version", s.health.version)
	s.compose()
	s.http = &http.Server{
		Handler: c.secure(mux), MaxHeaderBytes: 1 << 20, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 75 * time.Second, IdleTimeout: 120 * time.Second, // body, hold and answer
	}
	return nil
}

// URL is where the server answers.
func (s *Server) URL() string {
	if s.cfg.TLS.Cert != "" {
		return "https://" + s.listener.Addr().String()
	}
	return "http://" + s.listener.Addr().String()
}

// Run serves until ctx ends, then drains and stops. It closes the store.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	if s.cfg.Migrate == "only" {
		return nil
	}
	if err := s.unique(ctx); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	if err := s.sameBus(ctx); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	defer context.AfterFunc(ctx, func() { _ = s.service.Shutdown(context.Background()) })()
	err := s.service.Run(context.WithoutCancel(ctx))
	_ = s.listener.Close() // unless it was served
	left := new(drover.DrainError)
	only := errors.As(err, &left) && err == error(left)              //nolint:errorlint // nothing else went wrong
	if only || ctx.Err() != nil && errors.Is(err, drover.ErrStuck) { // a step that outlasts the drain ends with the process
		s.env.Logger.Warn("refserver: jobs are handed back", "err", err)
		return nil
	}
	return err
}

// compose puts the components in the order in which they start; they stop in reverse.
func (s *Server) compose() {
	s.service = drover.Service{
		Env: s.env, Topic: "refserver", Version: version(), DrainTimeout: s.cfg.drainTimeout(),
		PostStart: func(context.Context) error { return s.welcome(s.admin) },
		Drain: func(ctx context.Context) error {
			s.unready(ctx)
			return nil
		},
	}
	if s.named {
		s.service.Record = s.db.Records()
	}
	g := &s.service.Components
	g.Add("session", s.session)
	g.Add("members", s.members)
	g.Add("bus", drover.Func(s.bus.Run)) // stops after the jobs, whose last events it sends
	g.Add("tracker", s.cloud.Tracker())
	g.Add("jobs", s.jobs)
	g.Add("schedules", s.cloud.Schedules())
	g.Add("drain", drover.Func(s.obey))
	g.Add("http", drover.Func(s.serve), drover.StopTimeout(closeTime+time.Second))
	g.Add("console", s.console) // stops before HTTP, so that its streams say bye
	g.Add("tasks", &s.tasks, drover.AfterReady())
}

// version is the program's.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// unready tells whoever balances load, gives him time to notice, and lets held answers go.
func (s *Server) unready(ctx context.Context) {
	s.health.draining.Store(true)
	_ = s.env.Sleep(ctx, s.cfg.DrainDelay) // cut short where all ends
	s.face.Drain()
	s.native.Drain()
}

// obey drains this node when an operator says so (prepareForShutdown), and takes work again when it is taken back.
func (s *Server) obey(ctx context.Context) error {
	drained := false
	for s.env.Sleep(ctx, time.Second) == nil {
		on, err := s.cloud.Draining(ctx)
		if err != nil || on == drained {
			continue // a store that does not answer is told by others
		}
		drained = on
		_, _ = s.session.Announce(ctx, !on), s.members.Announce(ctx, !on) // told again with the next beat
		if !on {
			s.jobs.Reopen(ctx)
			s.face.Reopen()
			s.native.Reopen()
			s.health.draining.Store(false)
			continue
		}
		s.unready(ctx)
		s.env.Go("drain", func() { _ = s.jobs.Drain(ctx) }) // whoever waits for it asks readyForShutdown
	}
	return nil
}

// serve is the HTTP component.
func (s *Server) serve(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	failed := make(chan error, 1)
	s.env.Go("http", func() { failed <- s.http.Serve(s.listener) })
	select {
	case <-ctx.Done():
	case err := <-failed:
		return fmt.Errorf("refserver: http: %w", err)
	}
	s.face.Drain()
	s.native.Drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	if err := s.http.Shutdown(stop); err != nil {
		return s.http.Close()
	}
	return nil
}
