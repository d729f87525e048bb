package browsertest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/chromedp"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
)

// nodesAndTasks has a node freeze, a task run and a host die, and looks how the pages follow.
func nodesAndTasks(t *testing.T) {
	w := newFull(t)
	up := console.Member{ID: "ms1", State: "up", Reason: "beat"}
	w.group.set(console.MemberView{Members: []console.Member{up, {ID: "ms2", State: "up", Reason: "beat"}}})
	w.hosts.set(console.Host{Name: "host-a", State: "up"}, console.Host{Name: "host-b", State: "up"})
	b := browse(t, w.url)
	is := func(row, state string) string {
		return has(row+" .c-state", state) + fmt.Sprintf(` && document.querySelector("%s use").getAttribute("href") === "#i-%s"`, row, state)
	}
	b.open(w.url + "members")
	b.until(is("#m-ms2", "up"))
	w.group.set(console.MemberView{Members: []console.Member{up, {ID: "ms2", State: "unknown", Reason: "mass", Age: time.Minute, Meta: map[string]string{"rack": `<img src=x onerror="window.pwned=1">`}}}, Frozen: true})
	b.until(is("#m-ms2", "unknown") + ` && document.getElementById("frozen")`)
	if eval[bool](b, `Boolean(window.pwned) || document.querySelector("img") !== null`) {
		t.Error("console-51: what a member says of itself ran, or is an element")
	}
	b.both("nodes-unknown")
	w.group.set(console.MemberView{Members: []console.Member{up, {ID: "ms2", State: "down", Reason: "late", Age: 2 * time.Minute}}})
	b.until(is("#m-ms2", "down") + ` && !document.getElementById("frozen")`)
	b.open(w.url + "periodic")
	row := "#t-ms1-audit\\\\.claims"
	b.until(fmt.Sprintf(`document.querySelector("%s [data-f=last]").innerText === "–"`, row))
	b.both("periodic")
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector("%s form[data-verb=trigger] button").click()`, row)))
	b.until(fmt.Sprintf(`document.querySelector("%s [data-f=last] time")`, row))
	b.open(w.url + "hosts")
	for _, state := range []string{"suspect", "fencing", "fenced"} {
		w.hosts.set(console.Host{Name: "host-a", State: "up"}, console.Host{Name: "host-b", State: state, Reason: "no heartbeat for 40 s", Since: time.Now()})
		b.until(has("#h-host-b", state))
	}
	b.both("hosts")
	b.open(w.url)
	b.until(has(".attention", "host-b") + " && " + has(".attention", "images.refresh") + " && " + has(".attention", "ms2"))
	b.both("overview-attention")
}

func TestMany(t *testing.T) {
	t.Run("console-52 fifty thousand jobs, two hundred updates a second", func(t *testing.T) {
		n, window := 10_000, 4*time.Second
		if os.Getenv("DROVER_LONG") != "" {
			n, window = 50_000, 30*time.Second
		}
		w := newWorld(t, nil)
		var ids []string
		for i := 0; i < n; i += 500 {
			var rs []job.Request
			for k := range 500 {
				rs = append(rs, job.Request{Kind: "vm.reboot", Args: work{Name: fmt.Sprint("m", i+k)}, Resource: fmt.Sprint("vm/m", i+k), RunAt: time.Now().Add(time.Hour)})
			}
			for _, j := range must[[]*job.Job](t)(w.jobs.SubmitMany(context.Background(), rs)) {
				ids = append(ids, j.ID)
			}
		}
		b := browse(t, w.url)
		paint := 1e9
		for range 3 {
			b.open(w.url + "jobs?state=scheduled")
			b.until(`performance.getEntriesByName("first-contentful-paint").length`)
			paint = min(paint, eval[float64](b, `performance.getEntriesByName("first-contentful-paint")[0].startTime`))
		}
		if rows := eval[int](b, `document.querySelectorAll("#rows tr").length`); rows != 50 {
			t.Errorf("%d rows", rows)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				id := ids[len(ids)-1-i%50] // those that are shown
				if i%4 == 0 {
					id = ids[i%len(ids)]
				}
				_ = w.jobs.SetPriority(context.Background(), id, i%100)
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}()
		b.do(chromedp.Evaluate[chromedp.Void](`window.long = []; new PerformanceObserver((l) => window.long.push(...l.getEntries().map((e) => e.duration))).observe({ type: "longtask" })`))
		best, before := []float64{1e9}, b.heap()
		for range 3 {
			b.do(chromedp.Evaluate[chromedp.Void](`window.long.length = 0`))
			time.Sleep(window)
			if got := append(eval[[]float64](b, `window.long`), 0); slices.Max(got) < slices.Max(best) {
				best = got
			}
		}
		grown := b.heap() - before
		close(stop)
		<-stopped
		t.Logf("%d jobs: first paint %.0f ms, main thread blocked %.0f ms at most, heap %+.1f MiB", n, paint, slices.Max(best), grown/(1<<20))
		if paint > 1000 || slices.Max(best) > 50 || grown > 10<<20 || grown < -10<<20 {
			t.Errorf("first paint %.0f ms, blocked %v ms, heap %+.1f MiB", paint, best, grown/(1<<20))
		}
	})
}

// heap is what the page's objects take, in bytes, after a collection.
func (b *tab) heap() float64 {
	b.t.Helper()
	call(b, heapprofiler.CollectGarbage, cdp.Empty{})
	return eval[float64](b, `performance.memory.usedJSHeapSize`)
}
