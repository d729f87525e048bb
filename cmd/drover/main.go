package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole command; the answer is its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := newApp(stdin, stdout, stderr)
	defer a.close()
	return a.exit(ctx, a.root().Run(ctx, append([]string{"drover"}, negatives(args)...)))
}

// minus stands for the sign of a number that is an argument: -10 would be a flag.
const minus = "\u2212"

// negatives makes arguments of the negative numbers behind reprioritise, whose range has them.
func negatives(args []string) []string {
	args = slices.Clone(args)
	at := slices.IndexFunc(args, func(s string) bool { return s == "reprioritise" || s == "reprioritize" })
	for i := range args {
		if n, ok := strings.CutPrefix(args[i], "-"); ok && at >= 0 && i > at && n != "" && strings.Trim(n, "0123456789") == "" {
			args[i] = minus + n
		}
	}
	return args
}
