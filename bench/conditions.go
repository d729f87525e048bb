package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// conditions are the circumstances of a run, without which its figures mean nothing.
type conditions struct {
	Time     string            `json:"time"`
	Seconds  float64           `json:"seconds"`
	Quick    bool              `json:"quick"`
	Rounds   int               `json:"rounds"`
	Noise    float64           `json:"noise_allowed_cores"`
	Load     string            `json:"load_average_before"`
	LoadEnd  string            `json:"load_average_after"`
	Other    float64           `json:"other_load_cores"` // mean of the whole run
	Nice     int               `json:"nice"`
	CPU      string            `json:"cpu"`
	CPUs     int               `json:"cpus"`
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Drover   string            `json:"drover"` // commit
	Versions map[string]string `json:"versions"`
	Server   string            `json:"server"`
	Settings map[string]string `json:"settings"`

	began load
}

// compared are the modules whose versions matter.
var compared = []string{"github.com/riverqueue/river", "github.com/dbos-inc/dbos-transact-golang", "github.com/jackc/pgx/v5", "github.com/uptrace/bun", "go.opentelemetry.io/otel/sdk",
	"github.com/go-co-op/gocron/v2", "github.com/robfig/cron/v3"}

func (b *bench) conditions() *conditions {
	c := &conditions{
		Time: time.Now().UTC().Format(time.RFC3339), Quick: b.quick, Rounds: b.rounds, Noise: b.noise, Load: loadAverage(), CPU: cpuModel(),
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Versions: map[string]string{}, Settings: map[string]string{}, began: readLoad(),
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	c.Kernel = strings.TrimSpace(string(kernel))
	if p, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil {
		c.Nice = 20 - p // as the kernel answers it
	}
	commit, _ := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	c.Drover = strings.TrimSpace(string(commit))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			for _, name := range compared {
				if m.Path == name {
					c.Versions[name] = m.Version
				}
			}
		}
	}
	c.askServer(b)
	return c
}

func (c *conditions) askServer(b *bench) {
	dsn, drop, err := b.pg.Create(b.ctx)
	if err != nil {
		return
	}
	defer func() { _ = drop(context.WithoutCancel(b.ctx)) }()
	conn, err := pgx.Connect(b.ctx, dsn)
	if err != nil {
		return
	}
	defer conn.Close(b.ctx)
	_ = conn.QueryRow(b.ctx, "SELECT 'PostgreSQL ' || current_setting('server_version')").Scan(&c.Server)
	for _, s := range []string{"fsync", "synchronous_commit", "shared_buffers", "wal_level", "max_wal_size", "max_connections", "autovacuum"} {
		var v string
		if conn.QueryRow(b.ctx, "SELECT current_setting($1)", s).Scan(&v) == nil {
			c.Settings[s] = v
		}
	}
}

func (c *conditions) finish() {
	now := readLoad()
	c.Seconds, c.Other, c.LoadEnd = now.at.Sub(c.began.at).Seconds(), now.otherSince(c.began), loadAverage()
}

// String is one line below the table.
func (c *conditions) String() string {
	size := "full sizes"
	if c.Quick {
		size = "-quick"
	}
	return fmt.Sprintf("%s, %s, %d rounds, %.0f s, %s, %d × %s, %s, drover %s, nice %d, other load %.2f cores on average (load average %s before, %s after)",
		c.Time, size, c.Rounds, c.Seconds, c.Server, c.CPUs, c.CPU, c.Go, c.Drover, c.Nice, c.Other, c.Load, c.LoadEnd)
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
