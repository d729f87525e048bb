package server

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
)

// Config of a node; Parse makes one of flags. Defaults fills zero fields that have one.
type Config struct {
	Env        drover.Env
	Listen     string        // host:port
	Data       string        // directory, made 0700
	DB         string        // sqlite:FILE, sqlite::memory: or postgres://…
	Bus        string        // memory, nats://…, amqp://…
	Membership string        // db, memory, zk://…, memcached://…
	Beat, Down time.Duration // of membership
	Hosts      []cloud.RealHost
	SimHosts   int
	SimLatency time.Duration
	SimFaults  []cloud.SimFault
	Workers    int
	Hold       time.Duration
	MaxHolds   int
	Retention  time.Duration
	DrainDelay time.Duration // between not being ready and refusing work
	Drain      time.Duration // for what runs, before it is handed back
	Console    string        // off, readonly, admin
	Timestamps bool
	Login      bool // sessions
	Rate       int  // requests per second of a key; 0 = no limits
	Burst      int
	Expunge    time.Duration // of destroyed machines
	TLS        TLS
	Proxies    []netip.Prefix // whose X-Forwarded-For counts
	DevKey     cloud.Credentials
	MasterKey  string   // file; "" = <data>/master.key
	Seed       []byte   // of seed.json
	Migrate    string   // auto, off, only
	FromEnv    []string // variables that stood in for flags, for the log
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
func Parse(args []string, getenv func(string) string, seed []byte, usage io.Writer) (cfg Config, err error) {
	cfg = Config{Seed: seed, Stdout: os.Stdout}
	fs := flag.NewFlagSet("refserver", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:8080", "address of the HTTP faces; one that is not loopback needs TLS or -insecure-http")
	fs.StringVar(&cfg.Data, "data", "./refserver-data", "directory of the SQLite file, master key and credentials")
	fs.StringVar(&cfg.DB, "db", "", "sqlite:FILE, sqlite::memory: or postgres://… (default sqlite:<data>/drover.db)")
	fs.StringVar(&cfg.Bus, "bus", busMemory, "how nodes reach each other: memory (not at all), nats://HOST:PORT,… or amqp://HOST:PORT[/VHOST] (RabbitMQ)")
	fs.StringVar(&cfg.Membership, "membership", "db", "where nodes tell each other that they live: db, memory, zk://HOST:PORT,…[/PATH] or memcached://HOST:PORT,…")
	fs.DurationVar(&cfg.Beat, "beat", 10*time.Second, "how often a node says that it lives")
	fs.DurationVar(&cfg.Down, "down", time.Minute, "a node that was silent for longer is down")
	simulated := false // beside others
	fs.Func("hypervisor", "sim, or NAME=URI,… of hosts that libvirt runs, as a=qemu+unix:///system or b=qemu+tcp://HOST/system; repeatable (default sim)", func(s string) error {
		if s == "sim" {
			simulated = true
			return nil
		}
		hosts, err := cloud.ParseHosts(s)
		cfg.Hosts = append(cfg.Hosts, hosts...)
		return err
	})
	fs.Func("libvirt", "URI of one host that libvirt runs, as qemu:///system; its name is made of that", func(s string) error {
		host, err := cloud.NameHost(s)
		cfg.Hosts = append(cfg.Hosts, host)
		return err
	})
	fs.IntVar(&cfg.SimHosts, "sim-hosts", 2, "simulated hosts")
	fs.DurationVar(&cfg.SimLatency, "sim-latency", 300*time.Millisecond, "how long a simulated host takes to start, stop or reboot a machine")
	fs.Func("sim-fault", "op:match:effect, as start:name=fail*:capacity; repeatable", func(s string) error {
		f, err := cloud.ParseSimFault(s)
		cfg.SimFaults = append(cfg.SimFaults, f)
		return err
	})
	fs.StringVar(&cfg.Env.Node, "node", "", "unique name of this node (default host/pid/random; with SQLite the one kept in <data>/node)")
	fs.IntVar(&cfg.Workers, "workers", 16, "jobs at once")
	fs.DurationVar(&cfg.Hold, "hold", 20*time.Second, "how long an unfinished result is waited for, 0 to 25s")
	fs.IntVar(&cfg.MaxHolds, "max-holds", 4096, "results waited for at once")
	fs.DurationVar(&cfg.DrainDelay, "drain-delay", 2*time.Second, "how long a node that stops is not ready before it refuses work")
	fs.DurationVar(&cfg.Drain, "drain", 30*time.Second, "how long running jobs have when the node stops, before they are handed back")
	fs.DurationVar(&cfg.Retention, "job-retention", 168*time.Hour, "how long finished jobs are kept")
	fs.StringVar(&cfg.Console, "console", "admin", "the operations page at /console/, for this machine only: off, readonly or admin")
	fs.BoolVar(&cfg.Timestamps, "enforce-timestamps", false, "require signature version 3, expires within 15 min, POST for changes")
	fs.BoolVar(&cfg.Login, "session-login", false, "allow login with user and password")
	fs.IntVar(&cfg.Rate, "rate", 50, "requests per second of one key; 0 = no limits")
	fs.IntVar(&cfg.Burst, "burst", 100, "requests of one key at once")
	fs.DurationVar(&cfg.Expunge, "expunge-delay", 24*time.Hour, "how long destroyed machines can be recovered")
	fs.StringVar(&cfg.TLS.Cert, "tls-cert", "", "file with the certificate, in PEM")
	fs.StringVar(&cfg.TLS.Key, "tls-key", "", "file with the certificate's key, in PEM")
	fs.StringVar(&cfg.TLS.ClientCA, "tls-client-ca", "", "file with the authorities of client certificates, in PEM")
	fs.BoolVar(&cfg.TLS.Insecure, "insecure-http", false, "listen on any address without TLS")
	fs.Func("trusted-proxy", "address or network whose X-Forwarded-For is believed; repeatable", func(s string) (err error) {
		cfg.Proxies, err = addProxy(cfg.Proxies, s)
		return err
	})
	devKey := fs.String("dev-key", "", "KEY:SECRET accepted for admin, for tests")
	fs.StringVar(&cfg.MasterKey, "master-key", "", "file with 64 hex digits (default <data>/master.key); required with PostgreSQL")
	seedFile := fs.String("seed", "", "file instead of the built-in seed")
	fs.StringVar(&cfg.Migrate, "migrate", "auto", "auto, off (refuse a schema that is behind) or only (migrate and exit)")
	if cfg.FromEnv, err = parse(fs, args, getenv); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(usage)
			fs.PrintDefaults()
		}
		return cfg, err
	}
	if len(cfg.Hosts) > 0 && !simulated {
		cfg.SimHosts = 0
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

// parse reads the flags and the environment, and files behind an @. It answers the variables that were used.
func parse(fs *flag.FlagSet, args []string, getenv func(string) string) (used []string, err error) {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, badFlag(fs, err)
	}
	if fs.NArg() > 0 {
		return nil, flagError(fs.Arg(0), "unexpected argument")
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		value, from, variable := f.Value.String(), "", "DROVER_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if env := getenv(variable); !given[f.Name] && env != "" {
			used, value, from = append(used, variable), env, variable+": "
		}
		var bad error
		if file, ok := strings.CutPrefix(value, "@"); ok {
			var b []byte
			if b, bad = os.ReadFile(file); bad == nil { // #nosec G304 -- the operator names it
				value, from = strings.TrimSpace(string(b)), file+": "
			}
		}
		if bad == nil && from != "" {
			if bad = f.Value.Set(value); bad != nil {
				bad = fmt.Errorf("%s%s", from, reason(f, value, bad))
			}
		}
		if bad != nil && err == nil {
			err = &FlagError{f.Name, bad}
		}
	})
	return used, err
}

// reason says what a flag wants, where package flag knows only that it does not parse.
func reason(f *flag.Flag, value string, err error) string {
	g, ok := f.Value.(flag.Getter)
	if !ok {
		return err.Error()
	}
	switch g.Get().(type) {
	case int:
		return fmt.Sprintf("%q: want a whole number", value)
	case time.Duration:
		return fmt.Sprintf("%q: want a duration such as 300ms, 20s or 1h30m", value)
	case bool:
		return fmt.Sprintf("%q: want true or false", value)
	}
	return err.Error()
}

var invalidValue = regexp.MustCompile(`^invalid (?:boolean )?value ("(?:[^"\\]|\\.)*") for (?:flag )?-([^:]*): (.*)$`)

// badFlag finds the name in a message of package flag.
func badFlag(fs *flag.FlagSet, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return flagError(name, "is no flag")
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return flagError(name, "needs a value")
	}
	if m := invalidValue.FindStringSubmatch(text); m != nil && fs.Lookup(m[2]) != nil {
		if value, err := strconv.Unquote(m[1]); err == nil {
			return flagError(m[2], "%s", reason(fs.Lookup(m[2]), value, errors.New(m[3])))
		}
	}
	return flagError("flags", "%s", text)
}

// check refuses what cannot work, naming the flag.
func (c *Config) check() error {
	host, port, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil || port == "":
		return flagError("listen", "%q: want host:port", c.Listen)
	case !loopback(host) && c.TLS.Cert == "" && !c.TLS.Insecure:
		return flagError("listen", "%q is not loopback: it needs -tls-cert and -tls-key, or -insecure-http", c.Listen)
	case !loopback(host) && c.DevKey.Key != "":
		return flagError("dev-key", "only with a loopback -listen")
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return flagError("tls-key", "-tls-cert and -tls-key go together")
	case c.TLS.ClientCA != "" && c.TLS.Cert == "":
		return flagError("tls-client-ca", "needs -tls-cert and -tls-key")
	case c.Rate < 0 || c.Rate > 1_000_000:
		return flagError("rate", "%d: want 0 to 1000000", c.Rate)
	case c.Burst < 1:
		return flagError("burst", "%d: want at least 1", c.Burst)
	case c.Expunge < 0:
		return flagError("expunge-delay", "%v is negative", c.Expunge)
	case c.Data == "":
		return flagError("data", "is empty")
	case c.SimHosts < 1 && len(c.Hosts) == 0 || c.SimHosts < 0 || c.SimHosts > 1000:
		return flagError("sim-hosts", "%d: want 1 to 1000", c.SimHosts)
	case c.SimLatency < 0 || c.SimLatency > time.Minute:
		return flagError("sim-latency", "%v: want 0 to 1m", c.SimLatency)
	case c.Membership != "db" && c.Membership != "memory" && c.members() == nil:
		return flagError("membership", "%q: want db, memory, zk://HOST:PORT,…[/PATH] or memcached://HOST:PORT,…", c.Membership)
	case c.Beat < 100*time.Millisecond:
		return flagError("beat", "%v: want at least 100ms", c.Beat)
	case c.Down <= c.Beat:
		return flagError("down", "%v: want more than -beat, %v", c.Down, c.Beat)
	case c.Workers < 1 || c.Workers > 10_000:
		return flagError("workers", "%d: want 1 to 10000", c.Workers)
	case c.Hold < 0 || c.Hold > 25*time.Second:
		return flagError("hold", "%v: want 0 to 25s", c.Hold)
	case c.MaxHolds < 1:
		return flagError("max-holds", "%d: want at least 1", c.MaxHolds)
	case c.DrainDelay < 0 || c.DrainDelay > time.Minute:
		return flagError("drain-delay", "%v: want 0 to 1m", c.DrainDelay)
	case c.Drain < 0 || c.Drain > time.Hour:
		return flagError("drain", "%v: want 0 to 1h", c.Drain)
	case c.Retention < time.Minute:
		return flagError("job-retention", "%v: want at least 1m", c.Retention)
	case c.Console != "off" && c.Console != "readonly" && c.Console != "admin":
		return flagError("console", "%q: want off, readonly or admin", c.Console)
	case c.Migrate != "auto" && c.Migrate != "off" && c.Migrate != "only":
		return flagError("migrate", "%q: want auto, off or only", c.Migrate)
	}
	if err := c.checkBus(); err != nil {
		return err
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

// drainTimeout is what a Service makes of the flags.
func (c *Config) drainTimeout() time.Duration {
	if all := c.DrainDelay + c.Drain; all > 0 {
		return all
	}
	return -1
}

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

func addProxy(all []netip.Prefix, s string) ([]netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); aerr == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	return append(all, p), err
}

func (c *Config) postgres() bool {
	return strings.HasPrefix(c.DB, "postgres://") || strings.HasPrefix(c.DB, "postgresql://")
}
