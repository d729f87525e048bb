package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
)

// Config of a node; Parse makes one of flags. Defaults fills zero fields that have one.
type Config struct {
	Env        drover.Env
	Listen     string // host:port
	Data       string // directory, made 0700
	DB         string // sqlite:FILE, sqlite::memory: or postgres://…
	SimHosts   int
	SimLatency time.Duration
	SimFaults  []cloud.SimFault
	Workers    int
	Hold       time.Duration
	MaxHolds   int
	Retention  time.Duration
	Timestamps bool
	DevKey     cloud.Credentials
	MasterKey  string // file; "" = <data>/master.key
	Seed       []byte // of seed.json
	Migrate    string // auto, off, only
	Stdout     io.Writer
}

// FlagError is bad configuration, with the flag that says it.
type FlagError struct {
	Flag string // without dash
	Err  error
}

// Error is one line.
func (e *FlagError) Error() string {
	return "-" + e.Flag + ": " + oneLine.Replace(e.Err.Error())
}

var oneLine = strings.NewReplacer("\n\t", " ", "\n", "; ")

// Unwrap gives the reason.
func (e *FlagError) Unwrap() error { return e.Err }

func flagError(name, format string, args ...any) error {
	return &FlagError{name, fmt.Errorf(format, args...)}
}

// Parse reads flags, and for those not given the environment: DROVER_SIM_HOSTS for -sim-hosts. A value @file is read from that
// file. seed is the seed unless -seed names another. The error is flag.ErrHelp or a *FlagError.
func Parse(args []string, getenv func(string) string, seed []byte, usage io.Writer) (Config, error) {
	cfg := Config{Seed: seed, Stdout: os.Stdout}
	fs := flag.NewFlagSet("refserver", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:8080", "address of the HTTP faces, loopback only")
	fs.StringVar(&cfg.Data, "data", "./refserver-data", "directory of the SQLite file, master key and credentials")
	fs.StringVar(&cfg.DB, "db", "", "sqlite:FILE, sqlite::memory: or postgres://… (default sqlite:<data>/drover.db)")
	hypervisor := fs.String("hypervisor", "sim", "sim")
	fs.IntVar(&cfg.SimHosts, "sim-hosts", 2, "simulated hosts")
	fs.DurationVar(&cfg.SimLatency, "sim-latency", 300*time.Millisecond, "how long a simulated host takes to start, stop or reboot a machine")
	fs.Func("sim-fault", "op:match:effect, as start:name=fail*:capacity; repeatable", func(s string) error {
		f, err := cloud.ParseSimFault(s)
		cfg.SimFaults = append(cfg.SimFaults, f)
		return err
	})
	fs.StringVar(&cfg.Env.Node, "node", "", "unique name of this node (default host/pid/random)")
	fs.IntVar(&cfg.Workers, "workers", 16, "jobs at once")
	fs.DurationVar(&cfg.Hold, "hold", 20*time.Second, "how long an unfinished result is waited for, 0 to 25s")
	fs.IntVar(&cfg.MaxHolds, "max-holds", 4096, "results waited for at once")
	fs.DurationVar(&cfg.Retention, "job-retention", 168*time.Hour, "how long finished jobs are kept")
	fs.BoolVar(&cfg.Timestamps, "enforce-timestamps", false, "require signature version 3, expires within 15 min, POST for changes")
	devKey := fs.String("dev-key", "", "KEY:SECRET accepted for admin, for tests")
	fs.StringVar(&cfg.MasterKey, "master-key", "", "file with 64 hex digits (default <data>/master.key); required with PostgreSQL")
	seedFile := fs.String("seed", "", "file instead of the built-in seed")
	fs.StringVar(&cfg.Migrate, "migrate", "auto", "auto, off (refuse a schema that is behind) or only (migrate and exit)")
	if err := parse(fs, args, getenv); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(usage)
			fs.PrintDefaults()
		}
		return cfg, err
	}
	if *hypervisor != "sim" {
		return cfg, flagError("hypervisor", "%q: only sim is built in", *hypervisor)
	}
	if key, secret, ok := strings.Cut(*devKey, ":"); ok && key != "" && secret != "" {
		cfg.DevKey = cloud.Credentials{Key: key, Secret: secret}
	} else if *devKey != "" {
		return cfg, flagError("dev-key", "want KEY:SECRET")
	}
	if *seedFile != "" {
		b, err := os.ReadFile(*seedFile)
		if err != nil {
			return cfg, &FlagError{"seed", err}
		}
		cfg.Seed = b
	}
	return cfg, cfg.check()
}

// parse reads the flags and the environment, and files behind an @.
func parse(fs *flag.FlagSet, args []string, getenv func(string) string) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return badFlag(err)
	}
	if fs.NArg() > 0 {
		return flagError(fs.Arg(0), "unexpected argument")
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var bad error
	fs.VisitAll(func(f *flag.Flag) {
		value := f.Value.String()
		if env := getenv("DROVER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))); !given[f.Name] && env != "" {
			value = env
			if err := f.Value.Set(env); err != nil && bad == nil && !strings.HasPrefix(env, "@") {
				bad = &FlagError{f.Name, err}
			}
		}
		if file, ok := strings.CutPrefix(value, "@"); ok {
			b, err := os.ReadFile(file) // #nosec G304 -- the operator names it
			if err == nil {
				err = f.Value.Set(strings.TrimSpace(string(b)))
			}
			if err != nil && bad == nil {
				bad = &FlagError{f.Name, err}
			}
		}
	})
	return bad
}

// badFlag finds the name in a message of package flag.
func badFlag(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, "-"); strings.HasPrefix(text, "flag provided but not defined: -") {
		return flagError(text[i+1:], "is no flag")
	}
	if _, rest, ok := strings.Cut(text, "for flag -"); ok {
		name, reason, _ := strings.Cut(rest, ": ")
		return flagError(name, "%s", reason)
	}
	if head, rest, ok := strings.Cut(text, " for -"); ok { // of a boolean flag
		name, reason, _ := strings.Cut(rest, ": ")
		return flagError(name, "%s: %s", head, reason)
	}
	if _, name, ok := strings.Cut(text, "flag needs an argument: -"); ok {
		return flagError(name, "needs a value")
	}
	return flagError("flags", "%s", text)
}

// check refuses what cannot work, naming the flag.
func (c *Config) check() error {
	host, port, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil || port == "":
		return flagError("listen", "%q: want host:port", c.Listen)
	case host != "localhost" && !net.ParseIP(host).IsLoopback():
		return flagError("listen", "%q: only loopback, there is no TLS here", c.Listen)
	case c.Data == "":
		return flagError("data", "is empty")
	case c.SimHosts < 1 || c.SimHosts > 1000:
		return flagError("sim-hosts", "%d: want 1 to 1000", c.SimHosts)
	case c.SimLatency < 0 || c.SimLatency > time.Minute:
		return flagError("sim-latency", "%v: want 0 to 1m", c.SimLatency)
	case c.Workers < 1 || c.Workers > 10_000:
		return flagError("workers", "%d: want 1 to 10000", c.Workers)
	case c.Hold < 0 || c.Hold > 25*time.Second:
		return flagError("hold", "%v: want 0 to 25s", c.Hold)
	case c.MaxHolds < 1:
		return flagError("max-holds", "%d: want at least 1", c.MaxHolds)
	case c.Retention < time.Minute:
		return flagError("job-retention", "%v: want at least 1m", c.Retention)
	case c.Migrate != "auto" && c.Migrate != "off" && c.Migrate != "only":
		return flagError("migrate", "%q: want auto, off or only", c.Migrate)
	}
	if c.DB == "" {
		c.DB = "sqlite:" + filepath.Join(c.Data, "drover.db")
	}
	switch {
	case strings.HasPrefix(c.DB, "sqlite:") && len(c.DB) > len("sqlite:"):
	case c.postgres() && c.MasterKey == "":
		return flagError("master-key", "is required with PostgreSQL: the same file on all nodes")
	case c.postgres():
	default:
		return flagError("db", "%q: want sqlite:FILE, sqlite::memory: or postgres://…", c.DB)
	}
	if c.MasterKey == "" {
		c.MasterKey = filepath.Join(c.Data, "master.key")
	}
	return nil
}

func (c *Config) postgres() bool {
	return strings.HasPrefix(c.DB, "postgres://") || strings.HasPrefix(c.DB, "postgresql://")
}
