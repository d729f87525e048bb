package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/robfig/cron/v3"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/testkit"
)

// tasksVar makes this program a process that does nothing but P20's tasks, so that its CPU time is theirs.
const tasksVar = "DROVER_BENCH_TASKS"

// timetable is what such a process runs.
type timetable struct {
	Side   string // drover, gocron, cron
	Tasks  int
	Warm   time.Duration // not measured
	Window time.Duration
}

// ticked is what it answers.
type ticked struct {
	CPU     float64 // seconds, in the window
	Runs    int64
	LateP99 float64 // ms, drover only
}

// spacing is 10 s for 1 % of the tasks, a minute for 19 %, 10 minutes for 40 %, an hour for the rest.
func spacing(i int) time.Duration {
	switch i %= 100; {
	case i < 1:
		return 10 * time.Second
	case i < 20:
		return time.Minute
	case i < 60:
		return 10 * time.Minute
	}
	return time.Hour
}

// tick is the process.
func tick(text string) error {
	var tt timetable
	if err := json.Unmarshal([]byte(text), &tt); err != nil {
		return err
	}
	var runs atomic.Int64
	var late lateness
	stop, err := map[string]func(timetable, *atomic.Int64, *lateness) (func(), error){
		"drover": tickDrover, "gocron": tickGocron, "cron": tickCron,
	}[tt.Side](tt, &runs, &late)
	if err != nil {
		return err
	}
	time.Sleep(tt.Warm)
	cpu, before := cpuTime(), runs.Load()
	late.on.Store(true)
	time.Sleep(tt.Window)
	out := ticked{CPU: cpuTime() - cpu, Runs: runs.Load() - before, LateP99: late.p99()}
	stop()
	return json.NewEncoder(os.Stdout).Encode(out)
}

func tickDrover(tt timetable, runs *atomic.Int64, late *lateness) (func(), error) {
	var s periodic.Set
	tasks := make([]periodic.Task, 0, tt.Tasks)
	for i := range tt.Tasks {
		tasks = append(tasks, periodic.Every(spacing(i), fmt.Sprint("task-", i), func(ctx context.Context) error {
			runs.Add(1)
			late.note(ctx)
			return nil
		}))
	}
	if err := s.Add(tasks...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() { cancel(); <-done }, nil
}

func tickGocron(tt timetable, runs *atomic.Int64, _ *lateness) (func(), error) {
	s, err := gocron.NewScheduler()
	if err != nil {
		return nil, err
	}
	for i := range tt.Tasks {
		first := gocron.WithStartAt(gocron.WithStartDateTime(time.Now().Add(time.Second + phase(i))))
		if _, err := s.NewJob(gocron.DurationJob(spacing(i)), gocron.NewTask(func() { runs.Add(1) }), first); err != nil {
			return nil, err
		}
	}
	s.Start()
	return func() { _ = s.Shutdown() }, nil
}

func tickCron(tt timetable, runs *atomic.Int64, _ *lateness) (func(), error) {
	c, begun := cron.New(), time.Now()
	for i := range tt.Tasks {
		c.Schedule(every{begun.Add(phase(i)), spacing(i)}, cron.FuncJob(func() { runs.Add(1) }))
	}
	c.Start()
	return func() { <-c.Stop().Done() }, nil
}

// phase spreads the tasks over their spacing, as package periodic does by itself: else all of them were due at once.
func phase(i int) time.Duration {
	return time.Duration(rand.New(rand.NewPCG(uint64(i), 20)).Int64N(int64(spacing(i))))
}

// every is a cron.Schedule with a phase, which cron.Every has not.
type every struct {
	first time.Time
	d     time.Duration
}

func (e every) Next(t time.Time) time.Time {
	if t.Before(e.first) {
		return e.first
	}
	return e.first.Add((t.Sub(e.first)/e.d + 1) * e.d)
}

// lateness counts starts by how late they were, in steps of 50 µs.
type lateness struct {
	on    atomic.Bool
	steps [20_000]atomic.Int64 // the last one: a second, or more
}

func (l *lateness) note(ctx context.Context) {
	if !l.on.Load() {
		return
	}
	r := periodic.RunOf(ctx)
	l.steps[min(max(int(r.Started.Sub(r.Due)/(50*time.Microsecond)), 0), len(l.steps)-1)].Add(1)
}

// p99 is in ms.
func (l *lateness) p99() float64 {
	var all, sum int64
	for i := range l.steps {
		all += l.steps[i].Load()
	}
	for i := range l.steps {
		if sum += l.steps[i].Load(); sum*100 >= all*99 {
			return float64(i+1) * 0.05
		}
	}
	return 0
}

func cpuTime() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// p20 compares the CPU time that it takes to keep the tasks and to run them when they are due.
func p20(b *bench) (figures, error) {
	var late []float64
	side := func(name string) side {
		return func(ctx context.Context, _ string) (float64, error) {
			got, err := b.tasks(ctx, name)
			if name == "drover" && err == nil {
				late = append(late, got.LateP99)
			}
			if err == nil && got.Runs == 0 {
				err = fmt.Errorf("%s ran nothing", name)
			}
			return got.CPU / b.window().Seconds() * 1000, err
		}
	}
	got, err := b.byTurns(side("drover"), side("gocron"), side("cron"))
	if err != nil {
		return figures{}, err
	}
	off, err := drift()
	if err != nil {
		return figures{}, err
	}
	better := got[1]
	if median(got[2]) < median(better) {
		better = got[2]
	}
	return figures{drover: got[0], alternative: better, more: map[string]float64{
		"share of the better's CPU": median(got[0]) / median(better), "gocron": median(got[1]), "robfig/cron": median(got[2]),
		"start lateness p99 ms": median(late), "drift over 1 000 runs, ns": float64(off),
	}}, nil
}

// window holds, in full, one due time of each task of a minute.
func (b *bench) window() time.Duration { return time.Duration(b.size(60, 20)) * time.Second }

func (b *bench) tasks(ctx context.Context, name string) (got ticked, err error) {
	text, err := json.Marshal(timetable{Side: name, Tasks: b.size(100_000, 20_000), Warm: 3 * time.Second, Window: b.window()})
	if err != nil {
		return got, err
	}
	self, err := os.Executable()
	if err != nil {
		return got, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), tasksVar+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return got, fmt.Errorf("%s: %w", name, err)
	}
	return got, json.Unmarshal(out, &got)
}

// drift is by how much 1 000 runs of 30 s each, due every minute, leave their grid, by a manual clock.
func drift() (time.Duration, error) {
	env, clock := testkit.Inline()
	env.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	s := periodic.Set{Env: drover.Env{Clock: clock, Logger: env.Logger, Rand: env.Rand}}
	var at []time.Time
	err := s.Every(time.Minute, "task", func(context.Context) error {
		at = append(at, clock.Now())
		clock.Add(30 * time.Second)
		return nil
	})
	for err == nil && len(at) < 1000 {
		var next time.Time
		if next, err = s.Step(context.Background()); err == nil && next.After(clock.Now()) {
			clock.Add(next.Sub(clock.Now()))
		}
	}
	if err != nil {
		return 0, err
	}
	var off time.Duration
	for i, t := range at {
		off = max(off, (t.Sub(at[0]) - time.Duration(i)*time.Minute).Abs())
	}
	return off, nil
}
