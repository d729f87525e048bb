package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"
)

// fill makes machines that are off.
func (n *node) fill(from, to int) {
	n.t.Helper()
	for i := from; i < to; i++ {
		_, err := n.bun.Exec(`INSERT INTO rs_vm (id, created, version, seq, name, display, account, zone, template, offering, state, host, last_host, job,
			before, group_name, user_data, details, updated) VALUES (?, ?, 1, ?, ?, '', '', ?, ?, ?, 'Stopped', '', '', '', '', '', '', '', 0)`,
			fmt.Sprintf("00000000-0000-4000-8000-%012d", i), i+1, i, fmt.Sprintf("p%d", i), zone1, debian12, small)
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// BenchmarkP26List is signed requests over 1 000 machines, clients and server in one process.
func BenchmarkP26List(b *testing.B) {
	n := start(b, "-data", b.TempDir(), "-db", "")
	n.fill(0, 1000)
	for _, c := range []struct {
		name string
		p    params
	}{
		{"ByName", params{"name": "p700"}}, {"Page20", params{"page": "3", "pagesize": "20"}}, {"Page500", nil},
	} {
		b.Run(c.name, func(b *testing.B) { n.lists(b, c.p) })
	}
}

// lists sends the same request for machines over and over.
func (n *node) lists(b *testing.B, more params) {
	p := params{"command": "listVirtualMachines"}
	for k, v := range more {
		p[k] = v
	}
	url := n.URL() + "/client/api?" + form(sign(p, "testsecret"))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := client.Get(url)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// TestSpeed is P26 as a check, where the machine is given to it.
func TestSpeed(t *testing.T) {
	if os.Getenv("DROVER_LONG") == "" {
		t.Skip("DROVER_LONG is not set")
	}
	best := 0.0
	for range 3 {
		r := testing.Benchmark(func(b *testing.B) {
			n := start(b, "-data", b.TempDir(), "-db", "")
			n.fill(0, 1000)
			b.ResetTimer()
			n.lists(b, params{"name": "p700"})
		})
		best = max(best, float64(r.N)/r.T.Seconds())
	}
	t.Logf("%.0f requests/s", best)
	if best < 3000 {
		t.Errorf("%.0f requests/s, want 3000", best)
	}
}

// queries counts statements.
type queries struct{ n atomic.Int64 }

func (q *queries) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	q.n.Add(1)
	return ctx
}

func (q *queries) AfterQuery(context.Context, *bun.QueryEvent) {}

// A thousand results that are waited for cost little memory, and no queries: P26.
func TestThousandHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, which runs the short tests, takes memory of its own")
	}
	used, queries := thousandHolds(t)
	if used > 40<<20 {
		t.Errorf("%d MiB", used>>20)
	}
	if queries > 1 {
		t.Errorf("%.1f queries per second", queries)
	}
}

// BenchmarkP26Holds tells the same figures.
func BenchmarkP26Holds(b *testing.B) {
	for range b.N {
		used, queries := thousandHolds(b)
		b.ReportMetric(float64(used)/(1<<20), "MiB")
		b.ReportMetric(queries, "queries/s")
	}
}

// thousandHolds are the bytes that a thousand waiting clients cost, and the queries per second beyond those of an idle server.
func thousandHolds(t testing.TB) (used int64, polls float64) {
	const clients = 1000
	n := start(t, "-data", t.TempDir(), "-db", "", "-hold", "20s", "-sim-latency", "0", "-sim-fault", "start:*:slow=5m")
	_, job := n.deploy("slow", nil)
	var all queries
	n.bun.AddQueryHook(&all) //nolint:staticcheck // a copy of it would count nothing of what the stores do
	rest := func() int64 {
		before := all.n.Load()
		time.Sleep(2 * time.Second)
		return all.n.Load() - before
	}
	n.until(func() bool { return n.count(`SELECT count(*) FROM rs_vm WHERE host <> ''`) == 1 })
	idle := rest()
	memory := func() int64 {
		for range 4 { // stacks shrink by half in each
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := memory()
	request := "GET /client/api?" + form(sign(params{"command": "queryAsyncJobResult", "jobid": job}, "testsecret")) + " HTTP/1.1\r\nHost: x\r\n\r\n"
	var conns []net.Conn
	for range clients {
		c, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // nothing is written any more
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	n.until(func() bool { return n.face.Holds() == clients })
	used = memory() - before
	waiting := rest()
	for range 2 { // what the server does every few seconds falls into one time or the other
		if waiting > idle+2 {
			waiting = min(waiting, rest())
		}
	}
	t.Logf("%d KiB for %d waiting clients; %d queries in 2 s, %d without them", used>>10, clients, waiting, idle)
	n.call("cancelAsyncJob", params{"jobid": job}).ok(t)
	for _, c := range conns {
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	return used, float64(waiting-idle) / 2
}
