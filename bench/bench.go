package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

// bench is one run.
type bench struct {
	ctx    context.Context
	pg     *testkit.PostgresServer
	only   []string // nil = all
	quick  bool
	rounds int
	noise  float64 // other load allowed, in cores
	out    string
	other  float64 // most other load during a measurement that counts, of the workload under way
}

// side is one contestant of a comparison: it measures once on a fresh database.
type side func(ctx context.Context, dsn string) (float64, error)

// run measures workload after workload; one that fails is a row with its error, and the rest go on.
func (b *bench) run(w io.Writer) (err error) {
	for _, id := range b.only {
		if !slices.ContainsFunc(workloads, func(w workload) bool { return w.id == id }) {
			return fmt.Errorf("no workload %q", id)
		}
	}
	if b.pg, err = testkit.StartPostgres(testkit.FsyncOn); err != nil {
		return err
	}
	defer b.pg.Stop()
	res := results{Conditions: b.conditions()}
	var errs []error
	for _, l := range workloads {
		if b.only != nil && !slices.Contains(b.only, l.id) {
			continue
		}
		r := b.measure(l)
		if r.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", l.id, r.Error))
		}
		res.Rows = append(res.Rows, r)
		fmt.Fprintf(os.Stderr, "%s done in %.0f s\n", l.id, r.Seconds)
		res.Conditions.finish()
		if err := res.save(b.out); err != nil { // after each: a run takes long
			return err
		}
		if b.ctx.Err() != nil {
			break
		}
	}
	res.print(w)
	return errors.Join(errs...)
}

func (b *bench) measure(l workload) row {
	start := time.Now()
	b.other = 0
	r := row{ID: l.id, Workload: l.text, Unit: l.unit}
	f, err := l.run(b)
	if err != nil {
		r.Error = err.Error()
	} else {
		r.judge(f, l.bars)
	}
	r.Seconds, r.Other = time.Since(start).Seconds(), b.other
	return r
}

// size is full, or quick with -quick.
func (b *bench) size(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// byTurns runs the sides A B A B …, each on a fresh database.
func (b *bench) byTurns(sides ...side) ([][]float64, error) {
	got := make([][]float64, len(sides))
	for range b.rounds {
		for i, s := range sides {
			if s == nil { // a limit that cannot be measured here
				continue
			}
			v, err := b.quietly(s)
			if err != nil {
				return nil, err
			}
			got[i] = append(got[i], v)
		}
	}
	return got, nil
}

// once is byTurns for what takes minutes whatever the machine.
func (b *bench) once(sides ...side) ([][]float64, error) {
	short := *b
	short.rounds = 1
	got, err := short.byTurns(sides...)
	b.other = max(b.other, short.other)
	return got, err
}

// quietly measures again what other load disturbed.
func (b *bench) quietly(s side) (v float64, err error) {
	for range 6 {
		if err := b.ctx.Err(); err != nil {
			return 0, err
		}
		dsn, drop, err := b.pg.Create(b.ctx)
		if err != nil {
			return 0, err
		}
		before := readLoad()
		v, err = s(b.ctx, dsn)
		other := readLoad().otherSince(before)
		if err = errors.Join(err, drop(context.WithoutCancel(b.ctx))); err != nil {
			return 0, err
		}
		if other <= b.noise {
			b.other = max(b.other, other)
			return v, nil
		}
		fmt.Fprintf(os.Stderr, "other load took %.2f cores: once more\n", other)
	}
	return 0, errors.New("the machine is not quiet enough for a ratio; try later, or allow more with -noise")
}
