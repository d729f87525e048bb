package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/servicegroup"
)

// p21 has a server of its own, whose processor time is all these members'.
func p21(b *bench) (figures, error) {
	server, err := testkit.StartPostgres(testkit.FsyncOn)
	if err != nil {
		return figures{}, err
	}
	defer server.Stop()
	other := *b
	other.pg = server
	more := map[string]float64{}
	got, err := other.once(func(ctx context.Context, dsn string) (float64, error) {
		return b.members(ctx, dsn, server.Pid(), more)
	})
	b.other = other.other
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], more: more}, nil
}

// members gives the share of a core that PostgreSQL needs for the beats, and for one node that watches.
func (b *bench) members(ctx context.Context, dsn string, pid int, more map[string]float64) (float64, error) {
	count, window := b.size(10_000, 2_000), time.Duration(b.size(60, 20))*time.Second
	d, err := openDrover(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer d.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	env := drover.Env{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	watcher, err := servicegroup.New(servicegroup.Config{Env: env, Driver: d.store.Members(), ID: "watcher", Interval: -1})
	if err != nil {
		return 0, err
	}
	var all sync.WaitGroup
	errs := make([]error, count+1)
	all.Go(func() { errs[count] = watcher.Run(ctx) })
	for i := range count {
		g, err := servicegroup.New(servicegroup.Config{Env: env, Driver: d.store.Members(), ID: fmt.Sprintf("n%05d", i), BeatOnly: true})
		if err != nil {
			return 0, err
		}
		all.Go(func() { errs[i] = g.Run(ctx) })
	}
	defer all.Wait()
	defer stop()
	for deadline := time.Now().Add(2 * time.Minute); len(watcher.View().Up) < count; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%d of %d members are up", len(watcher.View().Up), count)
		}
	}
	time.Sleep(10 * time.Second) // until all are on their grid
	share, err := cpuShare(pid, window)
	if err != nil {
		return 0, err
	}
	var took []float64
	for range 50 {
		begin := time.Now()
		if _, err := watcher.Members(ctx); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(begin).Microseconds())/1000)
	}
	slices.Sort(took)
	more["view refresh p50 ms"], more["view refresh p99 ms"] = took[len(took)/2], took[len(took)-1]
	more["members up"] = float64(len(watcher.View().Up))
	stop()
	all.Wait()
	return share, errors.Join(errs...)
}

// cpuShare is what the process pid and its children use of a core.
func cpuShare(pid int, d time.Duration) (float64, error) {
	was, err := hundredths(pid)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	time.Sleep(d)
	is, err := hundredths(pid)
	return float64(is-was) / 100 / time.Since(begin).Seconds(), err
}

// hundredths are the hundredths of a second that pid, its children and those that have ended have used.
func hundredths(pid int) (sum int64, err error) {
	pids := []string{strconv.Itoa(pid)}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, f := range tasks {
		if b, err := os.ReadFile(f); err == nil {
			pids = append(pids, strings.Fields(string(b))...)
		}
	}
	for i, p := range pids {
		b, err := os.ReadFile("/proc/" + p + "/stat")
		_, rest, ok := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if err != nil || !ok || len(f) < 15 {
			continue // it has just ended
		}
		n := 13 // utime, stime
		if i == 0 {
			n = 15 // and those of children that have ended
		}
		for _, v := range f[11:n] {
			t, _ := strconv.ParseInt(v, 10, 64)
			sum += t
		}
	}
	return sum, nil
}
