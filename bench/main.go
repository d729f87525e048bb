// Command bench runs drover and its alternatives on the same PostgreSQL in the same run, by turns, and prints ratios.
//
//	cd bench && go run . [-only P1,P3] [-quick] [-rounds 3] [-noise 0.15] [-o results.json]
//
// Machines are noisy: only ratios and counts mean anything. What was measured while other load took more than -noise of a
// core is measured again. README.md says how to read the table, NOTES.md what was tried.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))) // nodes are killed: they warn
	if order := os.Getenv(orderVar); order != "" {                                                          // a node of P12 or P13
		fail(serve(ctx, order))
		return
	}
	if tasks := os.Getenv(tasksVar); tasks != "" { // a side of P20
		fail(tick(tasks))
		return
	}
	only := flag.String("only", "", "comma-separated ids; empty = all")
	quick := flag.Bool("quick", false, "smaller sizes, at most 2 rounds")
	rounds := flag.Int("rounds", 3, "turns of each side")
	noise := flag.Float64("noise", 0.15, "other load allowed during a measurement, in cores")
	out := flag.String("o", "results.json", "file of the results; empty = none; with -only none unless given")
	flag.Parse()
	b := &bench{ctx: ctx, quick: *quick, rounds: *rounds, noise: *noise, out: *out}
	if *quick {
		b.rounds = min(b.rounds, 2)
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
		if !given("o") {
			b.out = ""
		}
	}
	fail(b.run(os.Stdout))
}

// given tells whether the flag was set.
func given(name string) (ok bool) {
	flag.Visit(func(f *flag.Flag) { ok = ok || f.Name == name })
	return ok
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
