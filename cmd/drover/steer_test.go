package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// line is the jobs of a key as queues show lists them: holders, then waiters.
func (c *cluster) line(key string) []string {
	c.Helper()
	return strings.Fields(c.drover("queues", "show", "-o", "id", key).is(c, 0).out)
}

func (c *cluster) lineIs(key string, js ...*job.Job) {
	c.Helper()
	want := []string{}
	for _, j := range js {
		want = append(want, j.ID)
	}
	if got := c.line(key); fmt.Sprint(got) != fmt.Sprint(want) {
		c.Fatalf("line of %s is %v, want %v", key, got, want)
	}
}

func TestQueues(t *testing.T) {
	t.Parallel()
	vm := syncqueue.Key{Kind: "vm", ID: "1"}
	inBubble(t, "cli-10 move", func(c *cluster) {
		n := c.node("n1", kinds)
		var js []*job.Job
		for range 5 {
			js = append(js, c.submit(n, job.Request{Kind: "hang", Sync: vm}))
			c.until(n, js[0].ID, job.Running)
		}
		c.lineIs("vm/1", js...)
		c.drover("-o", "id", "queues", "move", "vm/1", js[4].ID, "-first").is(c, 0)
		c.lineIs("vm/1", js[0], js[4], js[1], js[2], js[3])
		c.drover("-o", "id", "queues", "move", "-before", js[2].ID[24:], "vm/1", js[4].ID).is(c, 0)
		c.lineIs("vm/1", js[0], js[1], js[4], js[2], js[3])
		out := c.drover("queues", "move", "vm/1", js[1].ID, "-last").is(c, 0).out
		c.lineIs("vm/1", js[0], js[4], js[2], js[3], js[1])
		if strings.Count(out, "\n") != 6 || !strings.Contains(out, "holding") {
			c.Errorf("the line is not shown: %s", out)
		}
		c.drover("queues", "move", "vm/1", js[0].ID, "-last").is(c, refused, "holds a turn")
		c.drover("queues", "move", "vm/2", js[1].ID, "-last").is(c, notFound, "not in the line of vm/2")
		c.drover("queues", "move", "vm/1", js[1].ID).is(c, badUsage, "-first, -last")
		c.drover("queues", "move", "vm/1", js[1].ID, "-first", "-last").is(c, badUsage, "one of")
		c.drover("queues", "move", "vm", js[1].ID, "-first").is(c, badUsage, "KIND/ID")
		for i, next := range []int{4, 2, 3, 1} {
			c.drover("-q", "jobs", "cancel", js[[]int{0, 4, 2, 3}[i]].ID).is(c, 0)
			c.until(n, js[next].ID, job.Running)
		}
	})
	inBubble(t, "cli-10 pause, of a key and of a kind", func(c *cluster) {
		n := c.node("n1", kinds)
		for _, what := range []string{"vm/1", "vm"} {
			if out := c.drover("queues", "pause", what).is(c, 0).out; !strings.Contains(out, "paused") {
				c.Error(out)
			}
			c.drover("queues", "pause", what).is(c, 0)
			j := c.submit(n, job.Request{Kind: "ok", Sync: vm})
			time.Sleep(time.Minute)
			c.until(n, j.ID, job.Waiting)
			c.drover("queues", "resume", what).is(c, 0)
			c.until(n, j.ID, job.Succeeded)
		}
		c.drover("queues", "pause", "vm/").is(c, badUsage, "KIND/ID")
		c.drover("queues", "pause").is(c, badUsage, "missing")
	})
	inBubble(t, "cli-10 limit 0", func(c *cluster) {
		n := c.node("n1", kinds)
		a, b := c.submit(n, job.Request{Kind: "hang", Sync: vm}), c.submit(n, job.Request{Kind: "hang", Sync: vm})
		c.until(n, a.ID, job.Running)
		c.drover("queues", "limit", "vm", "0").is(c, 0)
		c.until(n, b.ID, job.Running)
	})
	inBubble(t, "cli-10 clear", func(c *cluster) {
		n := c.node("n1", kinds)
		hold, a, b := c.submit(n, job.Request{Kind: "hang", Sync: vm}), c.submit(n, job.Request{Kind: "ok", Sync: vm}), c.submit(n, job.Request{Kind: "ok", Sync: vm})
		c.until(n, hold.ID, job.Running)
		c.drover("queues", "clear", "vm/1").is(c, badUsage, "-yes")
		c.lineIs("vm/1", hold, a, b)
		out := c.drover("-o", "id", "queues", "clear", "-yes", "-reason", "gone", "vm/1").is(c, 0).out
		if out != a.ID+"\n"+b.ID+"\n" {
			c.Errorf("cleared %q", out)
		}
		c.lineIs("vm/1", hold)
		if j := c.until(n, a.ID, job.Cancelled); j.CancelReason != "gone" {
			c.Errorf("%+v", j)
		}
		c.until(n, hold.ID, job.Running)
		c.drover("queues", "clear", "-yes", "vm/1").is(c, 0, "ID") // an empty list
	})
	inBubble(t, "blocked", func(c *cluster) {
		n := c.node("n1", kinds)
		hold, wait := c.submit(n, job.Request{Kind: "hang", Sync: vm}), c.submit(n, job.Request{Kind: "ok", Sync: vm})
		c.until(n, hold.ID, job.Running)
		time.Sleep(11 * time.Minute)
		out := c.drover("queues", "blocked").is(c, 0).out
		if !strings.Contains(out, wait.ID) || !strings.Contains(out, hold.ID) || !strings.Contains(out, "vm/1") {
			c.Error(out)
		}
		c.drover("queues", "blocked", "-older", "1h").is(c, 0, "KEY")
		c.drover("queues", "blocked", "-older", "0s").is(c, badUsage, "older")
		got := document[struct {
			Items []blockedRow
		}](c, c.drover("-o", "json", "jobs", "blocked").is(c, 0))
		if len(got.Items) != 1 || got.Items[0].Why != "turn" || got.Items[0].Job.ID != wait.ID || got.Items[0].Holder != hold.ID || got.Items[0].Line != 1 {
			c.Errorf("%+v", got)
		}
		if out := c.drover("jobs", "blocked").is(c, 0).out; !strings.Contains(out, "behind "+hold.ID+" on n1") {
			c.Error(out)
		}
	})
}

type blockedRow struct {
	Why    string
	Line   int
	Job    struct{ ID string }
	Holder string
}

func TestAdjust(t *testing.T) {
	t.Parallel()
	inBubble(t, "cli-03 hold, wake, priority, time, fence", func(c *cluster) {
		n := c.node("n1", kinds)
		later := c.submit(n, job.Request{Kind: "ok", RunAt: time.Now().Add(time.Hour)})
		c.drover("jobs", "reprioritise", later.ID, "-10").is(c, 0)
		if j := c.until(n, later.ID, job.Scheduled); j.Priority != -10 {
			c.Errorf("priority %d", j.Priority)
		}
		c.drover("jobs", "reprioritise", later.ID, "-o", "json", "101").is(c, badUsage, "-100 to 100")
		c.drover("jobs", "reprioritise", later.ID, "high").is(c, badUsage, "whole number")
		c.drover("jobs", "hold", later.ID).is(c, 0)
		c.until(n, later.ID, job.Parked)
		c.drover("jobs", "reschedule", later.ID, "now").is(c, refused, "parked")
		c.drover("jobs", "wake", later.ID).is(c, 0)
		c.until(n, later.ID, job.Succeeded)
		c.drover("jobs", "hold", later.ID).is(c, refused, "final")
		c.drover("jobs", "wake", "00000000-0000-7000-8000-000000000000").is(c, notFound, "not found")

		soon := c.submit(n, job.Request{Kind: "ok", RunAt: time.Now().Add(time.Hour)})
		for _, at := range []string{"2h", time.Now().Add(3 * time.Hour).UTC().Format(time.RFC3339)} {
			c.drover("jobs", "reschedule", soon.ID, at).is(c, 0)
			if j := c.until(n, soon.ID, job.Scheduled); time.Until(j.RunAt) < 119*time.Minute {
				c.Errorf("%s: due at %v", at, j.RunAt)
			}
		}
		c.drover("jobs", "reschedule", soon.ID, "soon").is(c, badUsage, "2026-01-02")
		c.drover("jobs", "reschedule", soon.ID, "now").is(c, 0)
		c.until(n, soon.ID, job.Succeeded)

		hang := c.submit(n, job.Request{Kind: "hang"})
		c.until(n, hang.ID, job.Running)
		c.drover("jobs", "fence", hang.ID).is(c, badUsage, "-yes")
		out := c.drover("-q", "jobs", "fence", "-yes", "-reason", "host is off", hang.ID).is(c, 0).out
		if !strings.Contains(out, "fenced: host is off") {
			c.Error(out)
		}
		c.drover("jobs", "fence", "-yes", hang.ID).is(c, refused, "final")
	})
	inBubble(t, "several, from a pipe", func(c *cluster) {
		n := c.node("n1", kinds)
		a, b := c.submit(n, job.Request{Kind: "ok", RunAt: time.Now().Add(time.Hour)}), c.submit(n, job.Request{Kind: "ok", RunAt: time.Now().Add(time.Hour)})
		r := invoke(c.Context(), a.ID+"\n00000000-0000-7000-8000-000000000000\n"+b.ID, "-db", c.dsn, "-o", "id", "jobs", "hold", "-")
		if r.code != badEnd || r.out != a.ID+"\n"+b.ID+"\n" || !strings.Contains(r.err, "1 of 3 failed") {
			c.Errorf("%+v", r)
		}
	})
}

func TestPools(t *testing.T) {
	t.Parallel()
	inBubble(t, "pause, resume, stats", func(c *cluster) {
		n := c.node("n1", kinds)
		c.drover("pools", "pause", "default").is(c, 0)
		j := c.submit(n, job.Request{Kind: "ok"})
		time.Sleep(time.Minute)
		c.until(n, j.ID, job.Ready)
		got := document[struct {
			Items []jobjson.Pool
		}](c, c.drover("-o", "json", "pools", "list").is(c, 0))
		if len(got.Items) != 1 || !got.Items[0].Paused || got.Items[0].Depth[job.Ready] != 1 || got.Items[0].Oldest < 50_000 {
			c.Errorf("%+v", got)
		}
		if out := c.drover("pools", "list").is(c, 0).out; !strings.Contains(out, "paused") {
			c.Error(out)
		}
		if out := c.drover("jobs", "stats").is(c, 0).out; !strings.Contains(out, "ready         1") {
			c.Error(out)
		}
		c.drover("pools", "resume", "default").is(c, 0)
		c.until(n, j.ID, job.Succeeded)
		c.drover("pools", "list").is(c, 0, "POOL")
		c.drover("pools", "pause", strings.Repeat("x", 200)).is(c, badUsage, "Queue")
		c.drover("pools", "halt").is(c, badUsage, "there are list, pause, resume")
	})
	inBubble(t, "maintenance", func(c *cluster) {
		n := c.node("n1", kinds)
		hang := c.submit(n, job.Request{Kind: "hang"})
		c.until(n, hang.ID, job.Running)
		got := document[maintenanceObject](c, c.drover("-o", "json", "maintenance", "on").is(c, 0))
		if !got.On || got.Running != 1 {
			c.Errorf("%+v", got)
		}
		time.Sleep(time.Second)
		if _, err := n.Submit(c.Context(), job.Request{Kind: "ok"}); !errors.Is(err, job.ErrDraining) {
			c.Errorf("submitted: %v", err)
		}
		if out := c.drover("maintenance", "status", "-o", "id").is(c, 0).out; out != "on\n" {
			c.Error(out)
		}
		c.drover("maintenance", "off").is(c, 0)
		time.Sleep(time.Second)
		c.until(n, c.submit(n, job.Request{Kind: "ok"}).ID, job.Succeeded)
	})
}

type trip struct{ From, To string }

func TestFlow(t *testing.T) {
	t.Parallel()
	inBubble(t, "jobs flow", func(c *cluster) {
		n := c.node("n1", func(m *job.Manager) {
			ok := func(context.Context, *trip) error { return nil }
			f := flow.New[trip]("trip").Then("book", ok, ok).
				Then("pay", func(context.Context, *trip) error { return job.Permanent(errors.New("no money")) }, nil)
			flow.Register(m, f)
		})
		j := c.submit(n, job.Request{Kind: "flow:trip", Args: trip{"a", "b"}})
		c.until(n, j.ID, job.Failed)
		out := c.drover("jobs", "flow", j.ID).is(c, 0).out
		for _, words := range []string{"trip/book  undone", "trip/pay   failed", "no money"} {
			if !strings.Contains(out, words) {
				c.Errorf("no %q in\n%s", words, out)
			}
		}
		got := document[struct {
			Items []struct {
				State, Cause string
				Tries        int
			}
		}](c, c.drover("-o", "json", "jobs", "flow", j.ID).is(c, 0))
		if len(got.Items) != 2 || got.Items[1].State != "failed" || got.Items[1].Cause != "no money" || got.Items[0].Tries != 1 {
			c.Errorf("%+v", got)
		}
		c.drover("jobs", "flow", "00000000-0000-7000-8000-000000000000").is(c, notFound, "not found")
	})
}
