package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func agents(t *testing.T, open func(t testing.TB) testkit.Stores) {
	for _, c := range []struct {
		name  string
		check func(d *desk)
	}{
		{"add and get", deskAdd},
		{"add replaces what is not done", deskReplace},
		{"the first result stays", deskDone},
		{"rolled back", deskRollback},
		{"expire", deskExpire},
		{"foreign transaction", deskForeign},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(&desk{t, open(t), open}) })
	}
}

// desk wraps each method of an agent.Store in a transaction of its own.
type desk struct {
	*testing.T
	testkit.Stores
	open func(t testing.TB) testkit.Stores
}

func deskRow(task string) agent.Row {
	return agent.Row{Task: task, URL: "https://h1:7070/vm/" + task, Agent: "boot-1", Key: [32]byte{0, 1, 0xff, 31: 7}}
}

// add stores rows due an hour after the store's time plus late.
func (d *desk) add(late time.Duration, rows ...agent.Row) (kept []agent.Row) {
	d.Helper()
	in(d, d, func(ctx context.Context, tx store.Tx) error {
		kept = nil
		for _, r := range rows {
			r.Deadline = tx.Now().Add(late)
			k, err := d.Agents().Add(ctx, tx, r)
			if err != nil {
				return err
			}
			kept = append(kept, k)
		}
		return nil
	})
	return kept
}

func (d *desk) done(task, reply string) (first bool) {
	d.Helper()
	in(d, d, func(ctx context.Context, tx store.Tx) (err error) {
		first, err = d.Agents().Done(ctx, tx, task, []byte(reply))
		return err
	})
	return first
}

func (d *desk) get(done bool, tasks ...string) (rows []agent.Row) {
	d.Helper()
	in(d, d, func(ctx context.Context, tx store.Tx) (err error) {
		rows, err = d.Agents().Get(ctx, tx, tasks, done)
		return err
	})
	return rows
}

// holds wants these tasks, in this order.
func (d *desk) holds(rows []agent.Row, want ...string) {
	d.Helper()
	var got []string
	for _, r := range rows {
		got = append(got, r.Task)
	}
	if !slices.Equal(got, want) {
		d.Fatalf("rows %v, want %v", got, want)
	}
}

func deskAdd(d *desk) {
	kept := d.add(time.Minute, deskRow("b/1"), deskRow("a"))
	if len(kept) != 2 || kept[0].Done || kept[0].Task != "b/1" {
		d.Fatalf("kept %+v", kept)
	}
	d.holds(d.get(false))
	d.holds(d.get(true, "a", "b/1"))
	rows := d.get(false, "b/1", "none", "a", "a")
	d.holds(rows, "a", "b/1")
	want := deskRow("b/1")
	if r := rows[1]; r.URL != want.URL || r.Agent != want.Agent || r.Key != want.Key || r.Done || len(r.Reply) != 0 || !r.Deadline.Equal(kept[0].Deadline) {
		d.Errorf("row %+v", r)
	}
}

func deskReplace(d *desk) {
	d.add(time.Minute, deskRow("a"))
	r := deskRow("a")
	r.URL, r.Agent, r.Key[5] = "http://h2/", "boot-2", 9
	kept := d.add(time.Hour, r)
	rows := d.get(false, "a")
	d.holds(rows, "a")
	if got := rows[0]; got.URL != r.URL || got.Agent != r.Agent || got.Key != r.Key || !got.Deadline.Equal(kept[0].Deadline) || got.Done {
		d.Errorf("row %+v", got)
	}
}

func deskDone(d *desk) {
	d.add(time.Minute, deskRow("a"), deskRow("b"))
	if !d.done("a", `{"result":"ó"}`) || d.done("a", `{"result":2}`) || !d.done("b", "") {
		d.Error("not the first result only")
	}
	rows := d.get(true, "a", "b")
	d.holds(rows, "a", "b")
	if string(rows[0].Reply) != `{"result":"ó"}` || !rows[0].Done || len(rows[1].Reply) != 0 || !rows[1].Done {
		d.Errorf("rows %+v", rows)
	}
	again := deskRow("a")
	again.Agent = "boot-2"
	if kept := d.add(time.Hour, again); !kept[0].Done || string(kept[0].Reply) != `{"result":"ó"}` || kept[0].Agent != "boot-1" {
		d.Errorf("a finished task was added again: %+v", kept)
	}
	if err := failing(d, d, func(ctx context.Context, tx store.Tx) error {
		_, err := d.Agents().Done(ctx, tx, "none", nil)
		return err
	}); !errors.Is(err, store.ErrNotFound) {
		d.Errorf("a task that is not there: %v", err)
	}
}

func deskRollback(d *desk) {
	d.add(time.Minute, deskRow("a"))
	stop := errors.New("stop")
	err := failing(d, d, func(ctx context.Context, tx store.Tx) error {
		if _, err := d.Agents().Add(ctx, tx, deskRow("b")); err != nil {
			return err
		}
		if _, err := d.Agents().Done(ctx, tx, "a", []byte("{}")); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		d.Fatal(err)
	}
	d.holds(d.get(false, "a", "b"), "a")
	d.holds(d.get(true, "a"))
}

func deskExpire(d *desk) {
	expire := func() (n int) {
		d.Helper()
		in(d, d, func(ctx context.Context, tx store.Tx) (err error) {
			n, err = d.Agents().Expire(ctx, tx)
			return err
		})
		return n
	}
	d.add(-agent.KeepFor+time.Minute, deskRow("young"))
	d.add(-agent.KeepFor-time.Minute, deskRow("old"), deskRow("older"))
	d.done("old", "{}")
	if n := expire(); n != 2 {
		d.Errorf("%d rows expired, want 2", n)
	}
	d.holds(d.get(false, "old", "older", "young"), "young")
	var many []agent.Row
	for i := range agent.ExpireMost + 5 {
		many = append(many, deskRow(fmt.Sprint("many/", i)))
	}
	d.add(-2*agent.KeepFor, many...)
	if a, b, c := expire(), expire(), expire(); a != agent.ExpireMost || b != 5 || c != 0 {
		d.Errorf("%d, %d and %d rows expired", a, b, c)
	}
	d.holds(d.get(false, "young"), "young")
}

func deskForeign(d *desk) {
	other := d.open(d.T)
	in(d, other, func(ctx context.Context, tx store.Tx) error {
		k := d.Agents()
		_, err1 := k.Add(ctx, tx, deskRow("a"))
		_, err2 := k.Done(ctx, tx, "a", nil)
		_, err3 := k.Get(ctx, tx, []string{"a"}, false)
		_, err4 := k.Expire(ctx, tx)
		for i, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, store.ErrForeign) {
				d.Errorf("method %d: %v", i, err)
			}
		}
		return nil
	})
}
