package testkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a private PostgreSQL, or the one of DROVER_POSTGRES_DSN.
type PostgresServer struct {
	dsn      string // of the database "postgres", superuser
	external bool
	dir, bin string
	port     int
	args     []string
	cred     *syscall.Credential
	proc     *process
	mu       sync.Mutex
	next     atomic.Int64
}

var shared struct {
	sync.Mutex
	pg  *PostgresServer
	err error
}

// Postgres gives the server that this test binary shares; it is started at first use and ends with the process.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.pg == nil && shared.err == nil {
		shared.pg, shared.err = StartPostgres()
	}
	if shared.err != nil {
		postgresFailed(t, shared.err)
	}
	s := shared.pg
	t.Cleanup(func() {
		if t.Failed() && s.proc != nil {
			t.Logf("end of PostgreSQL's log:\n%s", s.proc.log.lines(50))
		}
	})
	return s
}

// FreshPostgres starts a server of the test's own, for tests that kill or freeze it. settings are "name=value".
func FreshPostgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	if os.Getenv("DROVER_POSTGRES_DSN") != "" {
		t.Skip("DROVER_POSTGRES_DSN names a server that is not ours to kill or freeze")
	}
	s, err := StartPostgres(settings...)
	if err != nil {
		postgresFailed(t, err)
	}
	t.Cleanup(s.Stop)
	return s
}

// FsyncOn makes a FreshPostgres durable, as in production.
const FsyncOn = "fsync=on"

// Main runs a test binary's tests and then stops the servers they shared: func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }.
// Without it the parent-death signal ends the servers, but their directories stay behind.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	StopShared()
	return code
}

// StopShared stops the servers that Postgres, ZooKeeper and Memcached started.
func StopShared() {
	stopAll()
	shared.Lock()
	defer shared.Unlock()
	if shared.pg != nil {
		shared.pg.Stop()
		shared.pg = nil
	}
}

// ErrNoPostgres is StartPostgres' answer where PostgreSQL is not installed.
var ErrNoPostgres = errors.New("no initdb (apt-get install postgresql, or set DROVER_PG_BIN or DROVER_POSTGRES_DSN)")

func postgresFailed(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNoPostgres) {
		Missing(t, "postgres", err.Error())
	}
	t.Fatalf("PostgreSQL does not start: %v", err)
}

// StartPostgres is FreshPostgres for programs that are no tests: the caller stops it. With DROVER_POSTGRES_DSN it gives that
// server, and the settings are ignored.
func StartPostgres(settings ...string) (*PostgresServer, error) {
	if dsn := os.Getenv("DROVER_POSTGRES_DSN"); dsn != "" {
		return &PostgresServer{dsn: dsn, external: true}, nil
	}
	s := &PostgresServer{bin: postgresBin(), cred: unprivileged("postgres")}
	if s.bin == "" {
		return nil, ErrNoPostgres
	}
	var err error
	if s.dir, err = tempDir(s.cred); err != nil {
		return nil, err
	}
	init := exec.Command(filepath.Join(s.bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")
	init.Dir, init.Env = s.dir, append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	init.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if out, err := init.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), os.RemoveAll(s.dir))
	}
	s.args = []string{"-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-h", "127.0.0.1"}
	for _, v := range append([]string{"fsync=off", "max_connections=200", "timezone=UTC"}, settings...) {
		s.args = append(s.args, "-c", v)
	}
	for range 10 { // a port that was free may be taken by the time the server binds it
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		s.dsn = "postgres://postgres@127.0.0.1:" + strconv.Itoa(s.port) + "/postgres?sslmode=disable"
		if err = s.start(); err == nil || !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

var errPortTaken = errors.New("port taken")

// start runs the server on its data and port, and waits until it answers.
func (s *PostgresServer) start() error {
	p, err := start(s.cred, s.dir, filepath.Join(s.bin, "postgres"), append(s.args, "-p", strconv.Itoa(s.port))...)
	if err != nil {
		return err
	}
	s.proc = p
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = s.ping(); err == nil {
			return nil
		}
		if !p.alive() && strings.Contains(p.log.lines(50), "Address already in use") {
			return errPortTaken
		}
		if !p.alive() || time.Now().After(deadline) {
			p.stop(syscall.SIGQUIT)
			return fmt.Errorf("%w; the end of its log:\n%s", err, p.log.lines(50))
		}
	}
}

func (s *PostgresServer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return s.exec(ctx, "SELECT 1")
}

func (s *PostgresServer) exec(ctx context.Context, q string) error {
	c, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, q)
	return err
}

// Database creates an empty database for the test, drops it at the end, and gives its DSN.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dsn, drop, err := s.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := drop(ctx); err != nil && (s.external || s.Alive()) {
			t.Log(err)
		}
	})
	return dsn
}

// Create makes an empty database and gives its DSN and what drops it.
func (s *PostgresServer) Create(ctx context.Context) (dsn string, drop func(context.Context) error, err error) {
	name := fmt.Sprintf("t%d_%d", os.Getpid(), s.next.Add(1))
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	u, err := url.Parse(s.dsn)
	if err != nil {
		return "", nil, fmt.Errorf("DSN: %w", err)
	}
	u.Path = "/" + name
	drop = func(ctx context.Context) error {
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop database: %w", err)
		}
		return nil
	}
	return u.String(), drop, nil
}

// Bin is the folder of the server's programs (pgbench, psql), "" for a server that is not ours.
func (s *PostgresServer) Bin() string { return s.bin }

// Pid is the server's process, 0 for a server that is not ours.
func (s *PostgresServer) Pid() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Proxied starts a Proxy in front of the server and gives dsn as reached through it.
func (s *PostgresServer) Proxied(t testing.TB, dsn string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// Alive tells whether the server's process runs.
func (s *PostgresServer) Alive() bool { return s.proc != nil && s.proc.alive() }

// Stop ends the server and removes its files.
func (s *PostgresServer) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.external || s.proc == nil {
		return
	}
	s.proc.stop(syscall.SIGINT)
	_ = os.RemoveAll(s.dir)
}

// Kill ends all its processes by SIGKILL.
func (s *PostgresServer) Kill(t testing.TB) {
	t.Helper()
	s.ours(t)
	if err := s.Crash(); err != nil {
		t.Fatal(err)
	}
}

// Crash is Kill for programs that are no tests.
func (s *PostgresServer) Crash() error {
	if s.proc == nil {
		return errors.New("not a server of ours")
	}
	if err := s.proc.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.proc.exited
	return nil
}

// Restart starts it again after Kill: same data, same port.
func (s *PostgresServer) Restart(t testing.TB) {
	t.Helper()
	s.ours(t)
	if err := s.Revive(); err != nil {
		t.Fatalf("PostgreSQL does not start again: %v", err)
	}
}

// Revive is Restart for programs that are no tests.
func (s *PostgresServer) Revive() error {
	if s.proc == nil {
		return errors.New("not a server of ours")
	}
	if s.proc.alive() {
		s.proc.stop(syscall.SIGINT)
	}
	return s.start()
}

// Freeze stops all its processes by SIGSTOP; Thaw lets them go on.
func (s *PostgresServer) Freeze(t testing.TB) { t.Helper(); s.send(t, syscall.SIGSTOP) }
func (s *PostgresServer) Thaw(t testing.TB)   { t.Helper(); s.send(t, syscall.SIGCONT) }

func (s *PostgresServer) send(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.ours(t)
	if err := s.proc.signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *PostgresServer) ours(t testing.TB) {
	t.Helper()
	if s.external {
		t.Skip("DROVER_POSTGRES_DSN names a server that is not ours to harm")
	}
}

// postgresBin is the folder of the server's programs, "" if there is none.
func postgresBin() string {
	has := func(dir string) bool {
		_, err1 := os.Stat(filepath.Join(dir, "initdb"))
		_, err2 := os.Stat(filepath.Join(dir, "postgres"))
		return dir != "" && err1 == nil && err2 == nil
	}
	if dir := os.Getenv("DROVER_PG_BIN"); dir != "" {
		if has(dir) {
			return dir
		}
		return ""
	}
	if path, err := exec.LookPath("initdb"); err == nil && has(filepath.Dir(path)) {
		return filepath.Dir(path)
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return !has(d) })
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(pgVersion(a), pgVersion(b)) })
	if len(dirs) == 0 {
		return ""
	}
	return dirs[len(dirs)-1]
}

func pgVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}
