package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// goBench runs benchmarks of a package of drover, b.rounds times, and gives their figures: name → unit → one per round.
func (b *bench) goBench(pkg, pattern string) (map[string]map[string][]float64, error) {
	return b.goBenchIn("..", pkg, pattern)
}

// goBenchIn is goBench in a module's directory.
func (b *bench) goBenchIn(dir, pkg, pattern string) (map[string]map[string][]float64, error) {
	got := map[string]map[string][]float64{}
	for range b.rounds {
		_, err := b.quietly(func(ctx context.Context, _ string) (float64, error) {
			cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchmem", pkg)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				return 0, fmt.Errorf("go test -bench: %w\n%s", err, out)
			}
			parseBench(string(out), got)
			return 0, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return got, nil
}

// parseBench reads lines like "BenchmarkSync-2  1000000  1021 ns/op  336 B/op  9 allocs/op".
func parseBench(out string, got map[string]map[string][]float64) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		if got[name] == nil {
			got[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				got[name][f[i+1]] = append(got[name][f[i+1]], v)
			}
		}
	}
}

func p18(b *bench) (figures, error) {
	got, err := b.goBench("./syncqueue", "LocalGo")
	if err != nil {
		return figures{}, err
	}
	one, many := got["LocalGoOneKey"], got["LocalGo10000Keys"]
	return figures{drover: one["ns/op"], more: map[string]float64{
		"ns with 10 000 keys": median(many["ns/op"]), "allocations": max(median(one["allocs/op"]), median(many["allocs/op"])),
	}}, nil
}

func p19(b *bench) (figures, error) {
	got, err := b.goBench("./dispatch", "P19")
	if err != nil {
		return figures{}, err
	}
	ours := got["P19Sync"]
	if ours == nil {
		return figures{}, errors.New("no BenchmarkP19Sync")
	}
	return figures{drover: ours["ns/op"], alternative: got["P19Middleware"]["ns/op"], more: map[string]float64{"allocations": median(ours["allocs/op"])}}, nil
}

func p22(b *bench) (figures, error) {
	got, err := b.goBench("./ring", "P22")
	if err != nil {
		return figures{}, err
	}
	few, many := got["P22Owner/10"], got["P22Owner/100"]
	return figures{drover: few["ns/op"], more: map[string]float64{
		"ns with 100 members": median(many["ns/op"]), "allocations": max(median(few["allocs/op"]), median(many["allocs/op"])),
	}}, nil
}

// p23 is the bus over memory; over NATS and RabbitMQ it is compared with the bare client on the same server.
func p23(b *bench) (figures, error) {
	got, err := b.goBench("./bus", "P23")
	if err != nil {
		return figures{}, err
	}
	var rate []float64
	for _, ns := range got["P23Memory/parallel"]["ns/op"] {
		rate = append(rate, 1e9/ns)
	}
	more := map[string]float64{"allocations": median(got["P23Memory/sequential"]["allocs/op"])}
	for name, pkg := range map[string]string{"NATS": "./bus/nats", "RabbitMQ": "./bus/amqp"} {
		over, err := b.goBench(pkg, "P23")
		if err != nil {
			return figures{}, err
		}
		more["overhead over bare "+name+", %"] = 100 * (median(over["P23Bus"]["p50-us"])/median(over["P23Bare"]["p50-us"]) - 1)
	}
	return figures{drover: rate, more: more}, nil
}

func p27(b *bench) (figures, error) {
	got, err := b.goBench("./testkit", "Explore$")
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got["Explore"]["points/s"]}, nil
}

// p26 has clients and server in one process.
func p26(b *bench) (figures, error) {
	got, err := b.goBench("./examples/refserver/server", "P26")
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got["P26List/ByName"]["requests/s"], more: map[string]float64{
		"MiB of 1 000 holds": median(got["P26Holds"]["MiB"]), "queries/s of 1 000 holds": median(got["P26Holds"]["queries/s"]),
	}}, nil
}

// p24 has both clients in one process, by turns, on one daemon.
func p24(b *bench) (figures, error) {
	got, err := b.goBenchIn(".", "./libvirtbench", "P24")
	if err != nil {
		return figures{}, err
	}
	of := func(who, what, unit string) float64 { return median(got["P24/"+who+"/"+what][unit]) }
	share := func(what string) float64 { return of("drover", what, "cpu-us") / of("go-libvirt", what, "cpu-us") }
	return figures{drover: got["P24/drover/all"]["cpu-us"], alternative: got["P24/go-libvirt/all"]["cpu-us"], more: map[string]float64{
		"share of CPU, state": share("state"), "share of CPU, all": share("all"),
		"allocations, state": of("drover", "state", "allocs/op"), "allocations, all": of("drover", "all", "allocs/op"),
	}}, nil
}
