package conductor_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func TestPurge(t *testing.T) {
	bubble(t, "conductor-27 10 000 commit records are purged", func(n *net) {
		n.server("s1", all)
		c := n.client("h1", nil)
		rec := tracker.Record{Host: "h1", Enabled: true}
		for i := range 10_000 {
			rec.Running = i + 1
			n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
				rec, err = c.Tracker().SaveHost(ctx, tx, rec)
				return err
			})
		}
		n.same("records", n.records(), 10_000)
		time.Sleep(9 * time.Minute)
		n.same("records after 9 minutes", n.records(), 10_000)
		time.Sleep(2 * time.Minute) // they are looked at once a minute
		n.same("records after 11 minutes", n.records(), 0)
	})
	bubble(t, "conductor-27 a commit comes again after 10 minutes", lateCommits)
	bubble(t, "conductor-27 a host has slept for an hour", func(n *net) {
		n.server("s1", all)
		rest := &sleeper{}
		c := n.client("h1", func(c *conductor.Config) { c.Env.Clock = rest })
		n.insert(row("a", "q"))
		for i := range 3 {
			if err := n.bump(c, i); err != nil {
				n.Fatal(err)
			}
			rest.sleep(time.Hour)
			time.Sleep(time.Hour)
			n.in(c, func(ctx context.Context, tx store.Tx) error { // it knows no time but an old one
				_, err := c.Jobs().Move(ctx, tx, []job.Move{{ID: "a", From: job.Ready, To: job.Ready, Priority: &i}})
				return err
			})
		}
		n.same("stored", n.get("a").Rev, 7)
	})
}

// sleeper is the clock of a host that does not count the time it was suspended.
type sleeper struct {
	mu   sync.Mutex
	lost time.Duration
}

func (s *sleeper) sleep(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += d
}

func (s *sleeper) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(-s.lost)
}

func (s *sleeper) After(d time.Duration) <-chan time.Time { return time.After(d) }

// records counts the commit records, and leaves them.
func (n *net) records() (left int) {
	n.Helper()
	errLook := errors.New("looked")
	err := n.db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) (err error) {
		if left, err = n.db.Commits().Purge(ctx, tx, -time.Hour, 100_000); err != nil {
			return err
		}
		return errLook
	})
	if !errors.Is(err, errLook) {
		n.Fatal(err)
	}
	return left
}

// lateCommits: what a host has done is delivered again when its record is gone, as it was, and without its time.
func lateCommits(n *net) {
	n.server("s1", all)
	c := n.client("h1", nil)
	tok := n.session(c, "h1")
	n.insert(row("run", "h1"), row("next", "h1"))
	claimed := n.claim(c, tok, "h1", 2)
	n.same("claimed", len(claimed), 2)
	ran, runs := claimed[0], claimed[1]
	rec := tracker.Record{Host: "h1", Enabled: true}
	var commits []*bus.Message
	c.wire.bend(func(m *bus.Message) bool {
		if m.Wire.Kind == bus.KindCall && m.Method == "commit" {
			commits = append(commits, &bus.Message{Topic: m.Topic, Namespace: m.Namespace, Method: m.Method, Version: m.Version, Body: slices.Clone(m.Body)})
		}
		return false
	})
	for _, f := range []func(ctx context.Context, tx store.Tx) error{
		func(ctx context.Context, tx store.Tx) (err error) {
			rec, err = c.Tracker().SaveHost(ctx, tx, rec)
			return err
		},
		func(ctx context.Context, tx store.Tx) (err error) {
			rec.Running = 3
			_, err = c.Tracker().SaveHost(ctx, tx, rec)
			return err
		},
		func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Insert(ctx, tx, []job.Row{row("new", "h2")})
			return err
		},
		func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Move(ctx, tx, []job.Move{{ID: ran.ID, From: job.Running, To: job.Succeeded, Epoch: ran.Epoch}})
			return err
		},
		func(ctx context.Context, tx store.Tx) error { // these two have neither epoch nor version of a row: their time tells
			return c.Jobs().Log(ctx, tx, []job.Entry{{JobID: runs.ID, Epoch: runs.Epoch, Text: "once"}})
		},
		func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Claim(ctx, tx, claimOf(tok, "h9", 1))
			return err
		},
	} {
		n.in(c, f)
	}
	c.wire.bend(nil)
	n.insert(row("later", "h9"))
	time.Sleep(12 * time.Minute)
	n.same("records", n.records(), 0)
	look := func() string {
		var at tracker.Record
		n.in(n.db, func(ctx context.Context, tx store.Tx) (err error) {
			at, _, err = n.db.Tracker().LoadHost(ctx, tx, "h1")
			return err
		})
		return show(at) + show(n.get("run")) + show(n.get("next")) + show(n.get("new")) + show(n.get("later"))
	}
	before := look()
	n.same("commits", len(commits), 6)
	for i, m := range commits {
		n.refused(c, m)
		switch m.Body = without(n, m.Body, "At"); {
		case i < 3:
			n.refused(c, m)
		case i == 3: // the same end at the same epoch is what there is already
			_, _ = c.Bus.Call(context.Background(), m)
		}
	}
	n.same("rows", look(), before)
}

// refused sends a commit call, which must not be done.
func (n *net) refused(c *client, m *bus.Message) {
	n.Helper()
	m.ID = ""
	raw, err := c.Bus.Call(context.Background(), m)
	var rep struct {
		Missed int
		Err    *struct{ Is []string }
	}
	if err == nil {
		err = json.Unmarshal(raw, &rep)
	}
	if err != nil || rep.Missed == 0 && (rep.Err == nil || !slices.Contains(rep.Err.Is, "store.conflict")) {
		n.Errorf("%s was answered with %s, %v", m.Body, raw, err)
	}
}

func without(n *net, body []byte, field string) []byte {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil {
		n.Fatal(err)
	}
	if parts[field] == nil {
		n.Errorf("%s has no %s", body, field)
	}
	delete(parts, field)
	out, err := json.Marshal(parts)
	if err != nil {
		n.Fatal(err)
	}
	return out
}
