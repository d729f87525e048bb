package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	world "github.com/drover-cloud/drover/testkit"
)

// The whole server in the simulator: its nodes are those of a world on SQLite, and requests go to the handler, past any socket.
// The database is a file, since one in memory lives in one connection: an open transaction would keep it from readers, and a
// query that a crash cuts off would close it.

// simStore is the world's store.
type simStore struct {
	*sqlite.Store
	bun *bun.DB
	dsn string
}

// migrated is a file with drover's schema, made once.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "refserver")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing of worth is in it
	path := filepath.Join(dir, "drover.db")
	dsn, err := sqlite.DSN(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	err = sqlite.New(bun.NewDB(db, sqlitedialect.New()), sqlite.Config{}).Migrate(context.Background())
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func openSim(t testing.TB, env drover.Env) (world.Stores, error) {
	path := testkit.SQLiteFile(t)
	b, err := migrated()
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	db := testkit.OpenSQLite(t, path)
	dsn, err := sqlite.DSN(path)
	return &simStore{sqlite.New(db, sqlite.Config{Env: env}), db, dsn + "&_pragma=synchronous(OFF)"}, err
}

// simDB is that store as a node reaches it.
type simDB struct {
	world.Stores
	own *simStore
}

func (d simDB) Bun(x store.Tx) (bun.IDB, error)              { return d.own.Bun(world.Inner(x)) }
func (d simDB) Migrate(context.Context) error                { return nil }
func (d simDB) Schema(ctx context.Context) (int, int, error) { return d.own.Schema(ctx) }
func (d simDB) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := d.Driver().Open(d.own.dsn)
	return simConn{c}, err
}
func (d simDB) Driver() driver.Driver { return d.own.bun.Driver() }

// BeforeQuery makes what a node asks outside of transactions a shared operation. No connection is held meanwhile: one that a crash
// finds in use would not come back.
func (d simDB) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	return context.WithValue(ctx, simRead{}, world.Read(ctx, d.Stores, ""))
}

// AfterQuery does nothing.
func (d simDB) AfterQuery(context.Context, *bun.QueryEvent) {}

type simRead struct{}

// simConn is a connection on which the reads fail that the world has fail.
type simConn struct{ driver.Conn }

func (c simConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	if err, _ := ctx.Value(simRead{}).(error); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, q, args)
}

// quiet is a listener that nobody calls.
type quiet struct {
	ctx  context.Context
	once sync.Once
	done chan struct{}
}

func (q *quiet) Accept() (net.Conn, error) {
	select {
	case <-q.done:
	case <-q.ctx.Done():
	}
	return nil, net.ErrClosed
}
func (q *quiet) Close() error   { q.once.Do(func() { close(q.done) }); return nil }
func (q *quiet) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// simulation is a cluster of servers in a world.
type simulation struct {
	w     *world.World
	db    *simStore
	cfg   Config
	nodes map[string]*node
	spy   *world.Node // a process that is no server, for what happens to hosts
	admin cloud.DB    // as the spy reaches it
}

func simulate(w *world.World, args ...string) *simulation {
	cfg := parsed(w.T, append([]string{"-db", "postgres://simulated", "-sim-latency", "300ms", "-master-key", filepath.Join(w.T.TempDir(), "key")}, args...)...)
	if err := os.WriteFile(cfg.MasterKey, []byte(cloud.NewMasterKeyText()), 0o600); err != nil {
		w.T.Fatal(err)
	}
	return &simulation{w: w, db: w.Store().(*simStore), cfg: cfg, nodes: map[string]*node{}}
}

// node starts a server, and waits until it is ready.
func (x *simulation) node(name string) *world.Node {
	n := x.w.Node(name, func(n *world.Node) drover.Component {
		return drover.Func(func(ctx context.Context) error {
			for { // as whoever supervises a process does
				err := x.serve(ctx, n)
				if ctx.Err() != nil || n.Env.Sleep(ctx, time.Second) != nil {
					return err
				}
			}
		})
	})
	x.ready(name)
	return n
}

func (x *simulation) ready(names ...string) {
	x.w.T.Helper()
	for range 600 {
		up := 0
		for _, name := range names {
			if s := x.nodes[name]; s != nil && s.service.State() == "running" {
				up++
			}
		}
		if up == len(names) {
			return
		}
		x.w.Advance(100 * time.Millisecond)
	}
	x.w.T.Fatalf("not ready: %v", names)
}

// serve is New and Run, without what is the machine's: locks, sockets and signals.
func (x *simulation) serve(ctx context.Context, n *world.Node) error {
	db := simDB{n.Store, x.db}
	pool := sql.OpenDB(db)
	defer pool.Close() //nolint:errcheck // read only
	s := &Server{cfg: x.cfg, env: n.Env, db: db, bun: bun.NewDB(pool, sqlitedialect.New()).WithQueryHook(db), listener: &quiet{ctx: ctx, done: make(chan struct{})}}
	s.cfg.Env = n.Env
	seed, err := cloud.ParseSeed(x.cfg.Seed)
	if err != nil {
		return err
	}
	if s.key, err = x.cfg.masterKey(); err != nil {
		return err
	}
	if err := s.prepare(ctx, seed); err != nil {
		return err
	}
	if err := s.wire(); err != nil {
		return err
	}
	x.nodes[n.Name()] = &node{Server: s, t: x.w.T, handler: s.http.Handler}
	return s.service.Run(ctx)
}

// count looks at the rows past all faults.
func (x *simulation) count(query string, args ...any) (n int) {
	x.w.T.Helper()
	if err := x.db.bun.NewRaw(query, args...).Scan(context.Background(), &n); err != nil {
		x.w.T.Fatal(err)
	}
	return n
}

// text is one column of one row, "" if there is none.
func (x *simulation) text(query string, args ...any) (s string) {
	x.w.T.Helper()
	if err := x.db.bun.NewRaw(query, args...).Scan(context.Background(), &s); err != nil && !errors.Is(err, sql.ErrNoRows) {
		x.w.T.Fatal(err)
	}
	return s
}

func (x *simulation) operator() {
	if x.spy == nil {
		x.spy = x.w.Node("spy", nil)
		x.admin = simDB{x.spy.Store, x.db}
	}
}

// host is the simulated machine of that id, of which something can happen.
func (x *simulation) host(id string) *sim.Host {
	x.w.T.Helper()
	x.operator()
	h, err := sim.NewHost(sim.Config{Env: x.spy.Env, ID: id, Times: sim.Times{Define: -1, Start: -1, Stop: -1, Reboot: -1}, State: x})
	if err != nil {
		x.w.T.Fatal(err)
	}
	return h
}

// Update is what the servers' sim.State does, by the spy.
func (x *simulation) Update(ctx context.Context, host string, f func(old []byte) ([]byte, error)) error {
	return x.admin.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		q, err := x.admin.Bun(tx)
		if err != nil {
			return err
		}
		var old string
		if err := q.NewRaw(`SELECT state FROM rs_sim WHERE host = ?`, host).Scan(ctx, &old); err != nil {
			return err
		}
		b, err := f([]byte(old))
		if err != nil || b == nil {
			return err
		}
		_, err = q.NewRaw(`UPDATE rs_sim SET state = ? WHERE host = ?`, string(b), host).Exec(ctx)
		return err
	})
}

// set writes a state into the only machine's row, as a failure would have left it.
func (x *simulation) set(state string) {
	x.w.T.Helper()
	x.operator()
	err := x.admin.InTx(x.w.T.Context(), func(ctx context.Context, tx store.Tx) error {
		q, err := x.admin.Bun(tx)
		if err == nil {
			_, err = q.NewRaw(`UPDATE rs_vm SET state = ?, version = version + 1`, state).Exec(ctx)
		}
		return err
	})
	if err != nil {
		x.w.T.Fatal(err)
	}
}
