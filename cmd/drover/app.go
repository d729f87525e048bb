package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v3"

	"github.com/drover-cloud/drover"
)

// app is one invocation.
type app struct {
	stdin          *bufio.Reader
	stdout, stderr io.Writer
	inTTY          bool // questions can be asked
	outTTY, errTTY bool
	color          bool

	format          string
	quiet, utc, yes bool
	env             drover.Env
	now             time.Time
	ctx             context.Context // of the command, bounded by -timeout
	cancel          context.CancelFunc
	target          *target

	dsn, address, tokenFile string
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	env := drover.Env{}.Defaults()
	return &app{
		stdin: bufio.NewReader(stdin), stdout: stdout, stderr: stderr,
		inTTY: terminal(stdin) && terminal(stderr), outTTY: terminal(stdout), errTTY: terminal(stderr),
		env: env, now: env.Clock.Now(), cancel: func() {},
	}
}

func terminal(v any) bool {
	f, ok := v.(interface{ Fd() uintptr })
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

func (a *app) close() {
	a.cancel()
	if a.target != nil && a.target.db != nil {
		_ = a.target.db.Close()
	}
}

var formats = []string{"table", "wide", "json", "ndjson", "id"}

// root is the tree of commands.
func (a *app) root() *cli.Command {
	root := &cli.Command{
		Name:        "drover",
		Usage:       "see and steer a drover cluster, by a server of it or directly on its database",
		Description: example("drover jobs list -server https://cloud.example/console"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "server", Usage: "the `URL` of a console, or of a server that has its API at /v1 (DROVER_SERVER)"},
			&cli.StringFlag{Name: "token-file", Usage: "the `FILE` with the bearer token for -server (DROVER_TOKEN: the token)", TakesFile: true},
			&cli.StringFlag{Name: "db", Usage: "the `DATABASE`: sqlite:FILE, postgres://…, or @FILE with that in it (DROVER_DB)"},
			&cli.StringFlag{Name: "o", Usage: "output `FORMAT`: " + strings.Join(formats, ", "), Value: "table"},
			&cli.BoolFlag{Name: "utc", Usage: "times in UTC, not local"},
			&cli.BoolFlag{Name: "no-color", Usage: "no colours, as with NO_COLOR"},
			&cli.DurationFlag{Name: "timeout", Usage: "give up after `TIME`: exit 6", HideDefault: true},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "q", Usage: "no progress, notes and warnings"},
		},
		Before:                          a.begin,
		Commands:                        []*cli.Command{a.migrate(), a.jobs(), a.queues(), a.pools(), a.maintenance(), a.members(), a.leases(), a.periodic(), a.events(), a.host(), a.version()},
		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: completion,
		DisableSliceFlagSeparator:       true,
		HideVersion:                     true,
		Writer:                          output{a}, ErrWriter: a.stderr,
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run answers the code
	}
	finish(root)
	return root
}

func example(lines ...string) string { return "Example:\n   " + strings.Join(lines, "\n   ") }

func completion(c *cli.Command) {
	c.Hidden = false
	c.Description = "Load it, or write it where the shell looks.\n\n" + example("source <(drover completion bash)")
	for _, s := range c.Commands {
		s.Description = example("drover completion " + s.Name)
	}
}

// finish gives every command what all have: errors of usage as ours, and for a noun the answer to a missing or unknown verb.
func finish(c *cli.Command) {
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
		return usage("%w; see drover %s -h", err, path(c))
	}
	for _, sub := range c.Commands {
		sub.HideHelpCommand = true
		finish(sub)
	}
	if c.Action == nil && len(c.Commands) > 0 {
		c.Action = noVerb
	}
}

// noVerb is the answer to a noun without a verb, or with one that it does not have.
func noVerb(_ context.Context, c *cli.Command) error {
	var names []string
	for _, sub := range c.Commands {
		if !sub.Hidden {
			names = append(names, sub.Name)
		}
	}
	what := "needs a command"
	if c.Args().Present() {
		what = fmt.Sprintf("has no command %q", c.Args().First())
	}
	return usage("%s; there are %s", strings.TrimSpace(path(c)+" "+what), strings.Join(names, ", "))
}

// begin reads the flags that all commands have.
func (a *app) begin(ctx context.Context, c *cli.Command) (context.Context, error) {
	a.format, a.quiet, a.utc, a.yes, a.dsn = c.String("o"), c.Bool("q"), c.Bool("utc"), c.Bool("yes"), c.String("db")
	a.address, a.tokenFile = c.String("server"), c.String("token-file")
	a.color = a.outTTY && !c.Bool("no-color") && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	d := c.Duration("timeout")
	switch {
	case !slices.Contains(formats, a.format):
		return ctx, usage("-o %s: must be one of %s", a.format, strings.Join(formats, ", "))
	case c.IsSet("timeout") && d <= 0:
		return ctx, usage("-timeout %v: must be positive", d)
	}
	a.ctx, a.cancel = withTimeout(ctx, d)
	return a.ctx, nil
}

// path is the command without the program: jobs list.
func path(c *cli.Command) string {
	_, p, _ := strings.Cut(c.FullName(), " ")
	return p
}

// want is the command's arguments, at least min and at most max of them (max < 0: any number).
func want(c *cli.Command, min, max int) ([]string, error) {
	args := c.Args().Slice()
	switch {
	case len(args) < min:
		return nil, usage("%s: %s is missing", path(c), c.ArgsUsage)
	case max >= 0 && len(args) > max:
		return nil, usage("%s: unexpected argument %q", path(c), args[max])
	}
	return args, nil
}

// confirm asks for a yes, or for word if that is not "yes". Where nobody can answer, -yes is required.
func (a *app) confirm(what, word string) error {
	if a.yes {
		return nil
	}
	if !a.inTTY {
		return usage("%s: needs -yes where no terminal is", what)
	}
	fmt.Fprintf(a.stderr, "%s? Type %s to go on: ", what, word)
	line, err := a.stdin.ReadString('\n')
	if err != nil && line == "" || strings.TrimSpace(line) != word {
		return failure(badEnd, "nothing done")
	}
	return nil
}
