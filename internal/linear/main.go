// Command linear judges histories of jobs and of their keys by linearizability: is there one order of what happened, in which
// each thing takes effect between its beginning and its end, that a single honest server could have produced?
//
//	go run ./internal/chaos kill -history FILE && cd internal/linear && go run . FILE
//
// It is a module of its own, so that porcupine does not reach those who use drover.
//
// # Guarantees
//
// A job is claimed with rising epochs, written to by its last run alone, ends once, and shows the result of that run. The jobs of
// a key hold no more turns than there are, and with one turn get it in the order in which they were submitted.
//
// # Not guaranteed
//
// A history that takes longer than the budget to judge is unknown, which is not good.
//
// It exits with 0 for a good history, 1 for one that is not, 2 for one that could not be judged.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	fs := flag.NewFlagSet("linear", flag.ContinueOnError)
	fs.SetOutput(errs)
	budget := fs.Duration("budget", 10*time.Second, "for one job or key")
	if err := fs.Parse(args); err != nil || fs.NArg() != 1 {
		fmt.Fprintln(errs, "usage: linear [-budget 10s] FILE")
		return 2
	}
	f, err := os.Open(fs.Arg(0))
	if err != nil {
		fmt.Fprintln(errs, "linear:", err)
		return 2
	}
	defer f.Close()
	h, err := read(f)
	if err != nil {
		fmt.Fprintln(errs, "linear:", err)
		return 2
	}
	v := h.judge(*budget)
	for _, b := range v.bad[:min(10, len(v.bad))] {
		fmt.Fprintln(errs, "linear: not linearizable:", b)
	}
	for _, name := range v.unknown[:min(10, len(v.unknown))] {
		fmt.Fprintln(errs, "linear: not judged in time:", name)
	}
	fmt.Fprintf(out, "linear: %d jobs, %d keys, %d operations: %d not linearizable, %d unknown\n", len(h.jobs), len(h.keys), h.ops, len(v.bad), len(v.unknown))
	switch {
	case len(v.bad) > 0:
		return 1
	case len(v.unknown) > 0 || h.ops == 0:
		return 2
	}
	return 0
}

// read takes a history as the chaos harness writes it: a JSON document per line.
func read(r io.Reader) (*history, error) {
	h := newHistory()
	for d := json.NewDecoder(bufio.NewReader(r)); ; {
		var o op
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", h.ops+1, err)
		}
		h.add(o)
	}
}
