package job

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// storeTimeout bounds one transaction of the manager's own, so that a store that hangs is noticed.
const storeTimeout = 30 * time.Second

// remoteBatch bounds claims and finishes on a store that is far away.
const remoteBatch = 100

// Manager is one node's part of the asynchronous job manager. It is a [drover.Component], [drover.Stepper],
// [drover.Drainer] and [drover.Stopper]; its methods may be called from anywhere, before and while it runs. One that does
// not run still submits, looks, waits and steers.
type Manager struct {
	cfg     Config
	env     drover.Env
	log     *slog.Logger
	store   Store
	fin     Finisher       // nil: Store.Move does it
	one     oner           // nil: every call is a transaction
	reader  reader         // nil: reads are like other calls
	prompt  bool           // the store is a prompter
	session *lease.Session // nil: submits only
	own     *lease.Session // session, when this manager opened it
	turns   *syncqueue.Queue
	keyed   bool // the Store takes turns
	remote  bool // it is far away; see ClaimOnly
	meters  meters
	waits   waits
	crew    *crew // nil: a goroutine per job
	spare   spare

	wake   chan struct{} // for the round: there is something to do
	pump   chan struct{} // for the pump: outcomes are pending
	alarms chan struct{} // for the watch over deadlines: an earlier one has come
	idle   chan struct{} // for whoever waits for the node to be empty

	mu           sync.Mutex // held for memory only
	kinds        map[string]*kind
	types        map[reflect.Type][]*kind
	keeps        []*kind         // handled kinds with their own Keep, by name
	served       []string        // handled kinds, sorted
	attached     map[string]any  // by package flow
	sinks        atomic.Bool     // some kind has a sink of its own
	life         int             // 0 not yet, 1 running, 2 has run
	base, values context.Context // for the manager's own work, which ends with Run; for handlers, which are ended one by one
	bound        binding
	settings     settings
	waiting      waiting
	counted      counted
	reporter     reporter
	round
	slots
	logs logs
}

// spare is memory to be used again; guarded by Manager.mu.
type spare struct {
	rows []Row // of the last claim
}

// binding is the incarnation of the session that this node works under.
type binding struct {
	token   lease.Token
	held    <-chan struct{}
	release func()
}

// round is what the next round has to look at.
type round struct {
	more     bool      // a claim is worth its while
	cancels  bool      // a running job may have a cancel request
	adopt    bool      // the outcome of a claim is unknown: jobs may run in the store only
	tick     time.Time // of the next full round
	due      time.Time // when something falls due; zero: nothing known
	tidied   time.Time // last retention
	claims   int       // so far; every tenth takes the oldest
	empties  int       // polls in a row that found nothing
	draining bool
	stopping bool
}

// New checks cfg. A bad field is a *[FieldError], which is [drover.ErrConfig] wrapped; a bad Env.Node a *[drover.FieldError].
func New(cfg Config) (*Manager, error) {
	reuse := cfg.Env.Go == nil
	cfg = cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, env: cfg.Env, store: cfg.Store, session: cfg.Session, turns: cfg.Turns,
		log:    cfg.Env.Logger.With("component", "job", "node", cfg.Env.Node),
		wake:   make(chan struct{}, 1),
		pump:   make(chan struct{}, 1),
		alarms: make(chan struct{}, 1),
		idle:   make(chan struct{}, 1),
		kinds:  map[string]*kind{},
		types:  map[reflect.Type][]*kind{},
		base:   context.Background(),
		values: context.Background(),
	}
	if reuse {
		m.crew = &crew{start: m.env.Go}
	}
	m.fin, _ = cfg.Store.(Finisher)
	if far, ok := cfg.Store.(ClaimOnly); ok && far.ClaimOnly() {
		m.remote = true
		m.cfg.ClaimBatch, m.cfg.FinishBatch = min(m.cfg.ClaimBatch, remoteBatch), min(m.cfg.FinishBatch, remoteBatch)
	}
	m.one, _ = cfg.Tx.(oner)
	m.reader, _ = cfg.Tx.(reader)
	_, m.prompt = cfg.Tx.(prompter)
	m.slots.init(cfg.Queues)
	m.waits.init()
	m.more = true
	if err := m.meters.init(m); err != nil {
		return nil, err
	}
	if err := m.openTurns(); err != nil {
		return nil, err
	}
	return m, m.openSession()
}

// openTurns takes the Store's own turns where none were given.
func (m *Manager) openTurns() (err error) {
	t, ok := m.store.(Turner)
	m.keyed = ok || m.remote
	if m.turns != nil || !ok {
		return nil
	}
	m.turns, err = syncqueue.New(syncqueue.Config{Env: m.env, Tx: m.cfg.Tx, Store: t.Turns()})
	return err
}

// fillTurns stores the configured policies of keys before the first job takes a turn under them.
func (m *Manager) fillTurns(ctx context.Context) error {
	if m.turns == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return m.turns.Fill(ctx)
}

// openSession makes a session of the manager's own for the short form of Config.
func (m *Manager) openSession() (err error) {
	if m.session != nil || m.cfg.DB == nil || len(m.cfg.Queues) == 0 {
		return nil
	}
	m.own, err = lease.New(lease.Config{Env: m.env, Tx: m.cfg.Tx, Store: m.cfg.DB.Leases(), Notify: m.cfg.Notify})
	m.session = m.own
	return err
}

// StopTimeout is Config.StopTimeout and 5 s more: what a [drover.Group] should allow Run after its ctx has ended.
func (m *Manager) StopTimeout() time.Duration { return m.cfg.StopTimeout + 5*time.Second }

// inTx runs fn in a transaction of the manager's own, with a bound on how long the store may take.
func (m *Manager) inTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	if m.prompt {
		return m.cfg.Tx.InTx(ctx, fn)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return m.cfg.Tx.InTx(ctx, fn)
}

// prompter is a store in the memory of this process: it cannot hang, and a transaction costs little.
type prompter interface{ Prompt() }

// oner is the ability of a store to do without BEGIN and COMMIT where one call of a method, fn's last act, needs one
// statement only. Hints given before the call count; the store's now is not to be had, except from a probe.
type oner interface {
	InOne(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error
}

// lean says that nobody stands between the manager and its store who may keep what passes.
func (m *Manager) lean() bool { return m.prompt || m.one != nil }

// inOne is inTx for one call.
func (m *Manager) inOne(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	if m.one == nil {
		return m.inTx(ctx, fn)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return m.one.InOne(ctx, fn)
}

// reader is the ability of a store to read beside its writers, where those take turns.
type reader interface {
	Read(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error
}

// inRead is inOne for a call that only reads.
func (m *Manager) inRead(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	if m.reader == nil {
		return m.inOne(ctx, fn)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return m.reader.Read(ctx, fn)
}

// poke wakes who waits on c; the wake is not lost if he is busy.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// nudge makes the round claim.
func (m *Manager) nudge() {
	m.mu.Lock()
	m.more = true
	m.mu.Unlock()
	poke(m.wake)
}

// dueAt tells the round that something falls due d from now.
func (m *Manager) dueAt(d time.Duration) {
	at := m.env.Clock.Now().Add(d)
	m.mu.Lock()
	earlier := m.due.IsZero() || at.Before(m.due)
	if earlier {
		m.due = at
	}
	m.mu.Unlock()
	if earlier {
		poke(m.wake)
	}
}

// key names a run: a job may run here twice at once, the older run being lost.
type key struct {
	id    string
	epoch int64
}

// pool is the workers of a queue.
type pool struct {
	queue     string
	workers   int
	executing int // handlers
	reserved  int // for claims under way
	unflushed int // returned, not finished in the store
	blocked   int // handlers in Wait, not counted as executing
}

// free is how many jobs the pool can take: never more handlers than workers, and what waits for the store is bounded too.
func (p *pool) free() int {
	return max(0, p.workers-p.reserved-max(p.executing, p.executing+p.unflushed-p.workers))
}

// slots is what runs here; guarded by Manager.mu.
type slots struct {
	pools     map[string]*pool
	queues    []string // names of pools, sorted
	runs      map[key]*run
	clock     alarmClock
	pending   []*outcome // handlers that returned, not yet taken by a flush
	flushes   int        // under way
	taken     int        // by the largest of the last flushes, about
	filling   bool       // the pump waits for a batch to fill
	untaken   int        // flushes under way that have not taken their batch yet
	starting  int        // flushes under way that may start jobs
	starts    int        // flushes that have started jobs
	hold      bool       // the last claim was full: what is more urgent comes first, so hand-ons start nothing
	executing int        // handlers, of all pools
	blocked   int        // of these, in Wait
}

func (s *slots) init(queues map[string]int) {
	s.runs = map[key]*run{}
	s.pools = map[string]*pool{}
	s.queues = slices.Sorted(maps.Keys(queues))
	for _, q := range s.queues {
		s.pools[q] = &pool{queue: q, workers: queues[q]}
	}
}

// take reserves at most most slots.
func (s *slots) take(most int) (free map[string]int, n int) {
	for _, q := range s.queues {
		k := min(s.pools[q].free(), most-n)
		if k <= 0 {
			continue
		}
		if free == nil {
			free = make(map[string]int, len(s.queues))
		}
		free[q] = k
		s.pools[q].reserved += k
		n += k
	}
	return free, n
}

func (s *slots) giveBack(free map[string]int) {
	for _, q := range s.queues {
		s.pools[q].reserved -= free[q]
	}
}

// empty says that nothing runs, nothing waits for the store and no claim is under way.
func (s *slots) empty() bool {
	for _, q := range s.queues {
		if s.pools[q].reserved > 0 {
			return false
		}
	}
	return len(s.runs) == 0 && s.flushes == 0
}

func (s *slots) anyFree() bool {
	for _, q := range s.queues {
		if s.pools[q].free() > 0 {
			return true
		}
	}
	return false
}
