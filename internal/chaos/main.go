// Command chaos runs harnesses that try to break drover's promises on real servers, and judges what happened.
//
//	go run ./internal/chaos kill [-profile short|long] [-seed N] [-jobs N] [-stops N] [-for D] [-dsn DSN] [-mutant ID] [-json FILE] [-history FILE] [-v]
//
// kill: worker processes with real job managers on a private PostgreSQL are killed, frozen past their lease and woken, and
// cut off from the store; PostgreSQL is killed; a ledger that the handlers write over connections of their own, and triggers
// that note every change of a job's epoch, tell afterwards whether a job was lost, done twice, done by a superseded run, or
// run out of its turn.
//
// With -history, internal/linear judges the same run once more, by linearizability; make chaos does both.
//
// It exits with 0 when the goal is met, 1 when it is missed, and 2 when the run is invalid: it did not exercise what it
// claims to, or could not be run at all. Invalid is never green. Of a run with -mutant, 1 is the answer to hope for.
//
// # Guarantees
//
// One seed gives one order of torments. Children end with the harness, also when it is killed. -jobs scales the torments
// with the jobs, and what a valid run must have seen.
//
// # Not guaranteed
//
// One seed does not give one history: processes and the server run in real time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

// Exit codes.
const (
	met     = 0
	missed  = 1
	invalid = 2
)

// workerEnv holds a workerConfig: this process is a worker.
const workerEnv = "DROVER_CHAOS_WORKER"

func main() {
	if cfg := os.Getenv(workerEnv); cfg != "" {
		os.Exit(work(cfg))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 || args[0] != "kill" {
		fmt.Fprintln(errs, "usage: chaos kill [flags]")
		return invalid
	}
	o, err := parse(args[1:], errs)
	if err != nil {
		fmt.Fprintln(errs, "chaos:", err)
		return invalid
	}
	if o.mutant != "" {
		return runMutant(ctx, o.mutant, args, out, errs)
	}
	rep, err := kill(ctx, o, errs)
	if err != nil {
		fmt.Fprintln(errs, "chaos:", err)
	}
	if rep == nil {
		return invalid
	}
	rep.print(out)
	if o.json != "" {
		if err := rep.save(o.json); err != nil {
			fmt.Fprintln(errs, "chaos:", err)
			return invalid
		}
	}
	return rep.code()
}

// options of a run.
type options struct {
	profile
	seed    uint64
	most    time.Duration // 0: the profile's
	dsn     string
	mutant  string
	json    string
	history string
	verbose bool
	server  *testkit.PostgresServer // of a test; nil: start one
}

func parse(args []string, errs io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("kill", flag.ContinueOnError)
	f.SetOutput(errs)
	name := f.String("profile", "short", "short or long")
	f.Uint64Var(&o.seed, "seed", 0, "of the torments; 0 draws one")
	jobs := f.Int("jobs", 0, "instead of the profile's; torments are scaled with them")
	stops := f.Int("stops", -1, "SIGSTOPs instead of the profile's; what a valid run needs stays")
	f.DurationVar(&o.most, "for", 0, "most time for feeding and torment")
	f.StringVar(&o.dsn, "dsn", "", "a PostgreSQL database instead of a private server; it cannot be killed, so the run is invalid")
	f.StringVar(&o.mutant, "mutant", "", "build with this guard removed, see internal/mutants")
	f.StringVar(&o.json, "json", "", "write the figures to this file")
	f.StringVar(&o.history, "history", "", "write what happened to this file, for internal/linear")
	f.BoolVar(&o.verbose, "v", false, "tell the torments")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q: no such argument", f.Arg(0))
	}
	p, ok := profiles[*name]
	switch {
	case !ok:
		return nil, fmt.Errorf("-profile %q: short or long", *name)
	case *jobs < 0 || *jobs > 10_000_000:
		return nil, fmt.Errorf("-jobs %d: must be 1 to 10000000", *jobs)
	case o.most < 0:
		return nil, errors.New("-for: is negative")
	}
	o.profile = p
	if *jobs > 0 {
		o.profile = p.scaled(*jobs)
	}
	o.plan = o.torments
	if *stops >= 0 {
		o.plan.Stops = *stops
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	if o.most == 0 {
		o.most = p.Most
	}
	return o, nil
}

// workerConfig is what a worker process is told.
type workerConfig struct {
	Name   string
	Store  string // DSN, for one worker through a proxy
	Ledger string // DSN
	Lease  time.Duration
	Slots  int
	Seed   uint64
	Asleep bool // its clock stands still while the process is frozen, as that of a suspended VM does
}

func (c workerConfig) env() string {
	b, _ := json.Marshal(c)
	return workerEnv + "=" + string(b)
}
