package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"text/tabwriter"
	"time"
)

// row is one figure. Kind: "figure" only tells; "goal" must be 0; "validity" must be at least Bound.
type row struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Value int64  `json:"value"`
	Bound int64  `json:"bound"`
	OK    bool   `json:"ok"`
}

// report is what a run found, with its conditions.
type report struct {
	Goal    string    `json:"goal"`
	Date    time.Time `json:"date"`
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Profile string    `json:"profile"`
	Seed    uint64    `json:"seed"`
	Verdict string    `json:"verdict"`
	Torment float64   `json:"torment_seconds"`
	Drain   float64   `json:"drain_seconds"`
	Away    float64   `json:"postgres_away_seconds"`
	Rows    []row     `json:"rows"`
	Cut     bool      `json:"cut,omitempty"` // interrupted, or broken off: it proves nothing
}

func newReport(h *harness) *report {
	r := &report{
		Goal: "fenced completion", Date: time.Now().UTC(), Profile: h.o.Name, Seed: h.o.seed,
		Machine: fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Torment: round(h.tasked).Seconds(), Drain: round(h.dried).Seconds(), Away: round(h.away).Seconds(),
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				r.Commit = s.Value
			}
		}
	}
	return r
}

func (r *report) figure(name string, n int64) {
	r.Rows = append(r.Rows, row{"figure", name, n, 0, true})
}
func (r *report) zero(name string, n int64) { r.Rows = append(r.Rows, row{"goal", name, n, 0, n == 0}) }
func (r *report) atLeast(name string, n, bound int64) {
	r.Rows = append(r.Rows, row{"validity", name, n, bound, n >= bound})
}

func (r *report) value(name string) int64 {
	i := slices.IndexFunc(r.Rows, func(w row) bool { return w.Name == name })
	return r.Rows[i].Value
}

// code is what the run exits with. An offence counts however little else was done.
func (r *report) code() int {
	bad := func(kind string) bool {
		return slices.ContainsFunc(r.Rows, func(w row) bool { return w.Kind == kind && !w.OK })
	}
	switch {
	case r.Cut:
		return invalid
	case bad("goal"):
		return missed
	case bad("validity"):
		return invalid
	}
	return met
}

func (r *report) word() string {
	return [...]string{met: "met", missed: "MISSED", invalid: "INVALID"}[r.code()]
}

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "chaos kill: %s, profile %s, seed %d: %.1f s of torment, drained in %.1f s, PostgreSQL away %.1f s at most\n", r.Goal, r.Profile, r.Seed, r.Torment, r.Drain, r.Away)
	w := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	for _, row := range r.Rows {
		bound, verdict := "", ""
		switch row.Kind {
		case "goal":
			bound, verdict = "= 0", "met"
			if !row.OK {
				verdict = "MISSED"
			}
		case "validity":
			bound, verdict = fmt.Sprint("≥ ", row.Bound), "valid"
			if !row.OK {
				verdict = "INVALID"
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", row.Name, row.Value, bound, verdict)
	}
	_ = w.Flush()
	fmt.Fprintf(out, "%s (seed %d)\n", r.word(), r.Seed)
}

func (r *report) save(path string) error {
	r.Verdict = r.word()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
