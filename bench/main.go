// Command bench runs drover and its alternatives on the same PostgreSQL in the same run, by turns, and prints ratios.
//
//	cd bench && go run . [-only P1,P3] [-quick] [-rounds 3]
//
// Machines are noisy: only ratios and counts mean anything. A round during which other load on the machine took more than
// 15 % of a core is run again. Results go to results.json with the conditions of the run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	only := flag.String("only", "", "comma-separated ids; empty = all")
	quick := flag.Bool("quick", false, "smaller sizes, fewer rounds")
	rounds := flag.Int("rounds", 3, "turns of each side (quick: 2)")
	out := flag.String("o", "results.json", "file of the results; empty = none")
	noise := flag.Float64("noise", 0.15, "other load allowed during a round, in cores")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if *quick {
		*rounds = min(*rounds, 2)
	}
	b := &bench{ctx: ctx, quick: *quick, rounds: *rounds, noise: *noise}
	if err := b.run(os.Stdout, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	ctx    context.Context
	pg     *testkit.PostgresServer
	quick  bool
	rounds int
	noise  float64
	p1     []float64 // drover's own P1 of this run, for bars relative to it
}

// row is a line of the table.
type row struct {
	ID          string             `json:"id"`
	Workload    string             `json:"workload"`
	Unit        string             `json:"unit"`
	Drover      []float64          `json:"drover"`
	Alternative []float64          `json:"alternative,omitempty"`
	Limit       []float64          `json:"limit,omitempty"`
	Ratio       float64            `json:"ratio,omitempty"` // of medians; above 1 is better for drover
	Bar         string             `json:"bar"`
	Met         bool               `json:"met"`
	More        map[string]float64 `json:"more,omitempty"`
}

// workload measures one row.
type workload struct {
	id  string
	run func(b *bench) (row, error)
}

var workloads = []workload{{"P1", p1}, {"P2", p2}, {"P3", p3}, {"P4", p4}, {"P5", p5}, {"P6", p6}, {"P7", p7}, {"P8", p8}}

func (b *bench) run(w io.Writer, only, out string) (err error) {
	if b.pg, err = testkit.StartPostgres(testkit.FsyncOn); err != nil {
		return err
	}
	defer b.pg.Stop()
	var wanted []string
	if only != "" {
		wanted = strings.Split(only, ",")
		for _, id := range wanted {
			if !slices.ContainsFunc(workloads, func(w workload) bool { return w.id == id }) {
				return fmt.Errorf("no workload %q", id)
			}
		}
	}
	var rows []row
	for _, l := range workloads {
		if wanted != nil && !slices.Contains(wanted, l.id) {
			continue
		}
		r, err := l.run(b)
		if err != nil {
			return fmt.Errorf("%s: %w", l.id, err)
		}
		rows = append(rows, r)
		fmt.Fprintf(os.Stderr, "%s done\n", l.id)
	}
	print(w, rows)
	if out == "" {
		return nil
	}
	return save(out, rows, b)
}

func print(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "id\tdrover\talternative\tratio\tlimit\tshare of limit\tbar\tmet\tworkload")
	for _, r := range rows {
		share := "-"
		if len(r.Limit) > 0 {
			share = fmt.Sprintf("%.2f", median(r.Drover)/median(r.Limit))
		}
		ratio := "-"
		if r.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%v\t%s\n", r.ID, figure(r.Drover, r.Unit), figure(r.Alternative, r.Unit), ratio, figure(r.Limit, r.Unit), share, r.Bar, r.Met, r.Workload)
		for _, k := range slices.Sorted(mapKeys(r.More)) {
			fmt.Fprintf(t, "\t%s: %.4g\n", k, r.More[k])
		}
	}
	_ = t.Flush()
}

func mapKeys(m map[string]float64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func figure(v []float64, unit string) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.4g %s", median(v), unit)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func save(path string, rows []row, b *bench) error {
	data, err := json.MarshalIndent(map[string]any{
		"time": time.Now().UTC().Format(time.RFC3339), "go": runtime.Version(), "cpus": runtime.NumCPU(), "quick": b.quick, "rounds": b.rounds,
		"server": "PostgreSQL, fsync on, default configuration, same machine", "rows": rows,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// side is one contestant of a comparison: it measures once on a fresh database.
type side func(ctx context.Context, dsn string) (float64, error)

// byTurns runs the sides A B A B …, each on a fresh database, and repeats a round that other load disturbed.
func (b *bench) byTurns(sides ...side) ([][]float64, error) {
	got := make([][]float64, len(sides))
	for range b.rounds {
		for i, s := range sides {
			v, err := b.quietly(s)
			if err != nil {
				return nil, err
			}
			got[i] = append(got[i], v)
		}
	}
	return got, nil
}

func (b *bench) quietly(s side) (v float64, err error) {
	for try := 0; ; try++ {
		dsn, drop, err := b.pg.Create(b.ctx)
		if err != nil {
			return 0, err
		}
		before := readLoad(b.pg.Pid())
		v, err = s(b.ctx, dsn)
		other := readLoad(b.pg.Pid()).otherSince(before)
		if err = errors.Join(err, drop(b.ctx)); err != nil {
			return 0, err
		}
		if other <= b.noise {
			return v, nil
		}
		fmt.Fprintf(os.Stderr, "other load took %.2f cores: once more\n", other)
		if try == 5 {
			return 0, errors.New("the machine is not quiet enough for a ratio; try later, or allow more with -noise")
		}
	}
}
