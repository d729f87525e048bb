package conductor_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
)

// A store of a host's own: notes, kept in memory.
type note struct {
	ID, Text, Color string
	Rev             int
	State           string
}

var (
	putNote = conductor.Method[note, note]{Store: "notes", Name: "put", Kind: conductor.X, Bounded: true, Allow: ownNotes}
	getNote = conductor.Method[string, note]{Store: "notes", Name: "get", Kind: conductor.R,
		Rows:  func(id string) []string { return []string{"note/" + id} },
		Stamp: func(id string, r note) string { return id + string(rune('0'+r.Rev)) }, Allow: func(string, string) bool { return true }}
	dropNote = conductor.Method[string, struct{}]{Store: "notes", Name: "drop", Kind: conductor.W,
		Rows: func(id string) []string { return []string{"note/" + id} }, Allow: func(host, id string) bool { return strings.HasPrefix(id, host) }}
)

func ownNotes(host string, n note) bool { return strings.HasPrefix(n.ID, host) }

type notes map[string]note

func (ns notes) served() []conductor.Served {
	return []conductor.Served{
		putNote.Serve(func(_ context.Context, _ store.Tx, n note) (note, error) {
			n.Rev = ns[n.ID].Rev + 1
			ns[n.ID] = n
			return n, nil
		}),
		getNote.Serve(func(_ context.Context, _ store.Tx, id string) (note, error) {
			n, ok := ns[id]
			if !ok {
				return n, store.ErrNotFound
			}
			return n, nil
		}).Versioned(conductor.Back{Since: map[string]int{"Color": 7}, Values: map[string]map[string]conductor.Older{
			"State": {"pinned": {Since: 5, As: "open"}, "secret": {Since: 6}},
		}}),
		dropNote.Serve(func(_ context.Context, _ store.Tx, id string) (struct{}, error) {
			delete(ns, id)
			return struct{}{}, nil
		}),
	}
}

// noted is a server with notes.
func (n *net) noted(version string) notes {
	n.Helper()
	ns := notes{}
	b := n.node("s1")
	srv := n.newServer(b, "s1", nil)
	if err := conductor.RegisterStore(srv, "notes", version, ns.served()...); err != nil {
		n.Fatal(err)
	}
	n.run(srv)
	n.served(b, "conductor")
	return ns
}

func speaking(v string) func(c *conductor.Config) {
	return func(c *conductor.Config) { c.Versions = map[string]string{"notes": v} }
}

func TestOwn(t *testing.T) {
	bubble(t, "conductor-31 an own store", func(n *net) {
		ns := n.noted("1.0")
		c := n.client("h1", nil)
		var got note
		n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
			if _, err := getNote.Call(ctx, c.Client, tx, "h1/a"); !errors.Is(err, store.ErrNotFound) {
				n.Errorf("absent: %v", err)
			}
			got, err = putNote.Call(ctx, c.Client, tx, note{ID: "h1/a", Text: "x"})
			return err
		})
		n.same("put", got, ns["h1/a"])
		err := c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
			_, err := putNote.Call(ctx, c.Client, tx, note{ID: "h2/a"})
			return err
		})
		if !errors.Is(err, conductor.ErrDenied) {
			n.Errorf("another's note: %v", err)
		}
		n.in(c, func(ctx context.Context, tx store.Tx) error {
			_, err := dropNote.Call(ctx, c.Client, tx, "h1/a")
			return err
		})
		n.same("notes", len(ns), 0)
		srv := n.newServer(n.node("s9"), "s9", nil)
		large := conductor.Method[int, string]{Store: "large", Name: "read", Kind: conductor.X}
		err = conductor.RegisterStore(srv, "large", "1.0", large.Serve(func(context.Context, store.Tx, int) (string, error) { return "", nil }))
		if !errors.Is(err, conductor.ErrConfig) || !strings.Contains(err.Error(), "Replay") {
			n.Errorf("no replay rule: %v", err)
		}
		if err := conductor.RegisterStore(srv, "job", "1.0"); !errors.Is(err, conductor.ErrConfig) {
			n.Errorf("a name that is taken: %v", err)
		}
	})
	bubble(t, "conductor-12 versions", versions)
}

func versions(n *net) {
	ns := n.noted("1.10")
	ns["h1/a"] = note{ID: "h1/a", Text: "x", Color: "red", State: "pinned"}
	read := func(c *client) (got note, err error) {
		err = c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) (err error) {
			got, err = getNote.Call(ctx, c.Client, tx, "h1/a")
			return err
		})
		return got, err
	}
	for i, x := range []struct {
		speaks string
		want   note
		err    error
	}{
		{"1.10", ns["h1/a"], nil},
		{"1.11", ns["h1/a"], nil},
		{"1.2", note{ID: "h1/a", Text: "x", State: "open"}, nil},
		{"1.2.3", note{ID: "h1/a", Text: "x", State: "open"}, nil},
		{"1.6", note{ID: "h1/a", Text: "x", State: "pinned"}, nil},
		{"2.0", note{}, bus.ErrUnsupported},
	} {
		c := n.client("h"+string(rune('a'+i)), speaking(x.speaks))
		got, err := read(c)
		if got != x.want || !errors.Is(err, x.err) {
			n.Errorf("%s: %+v, %v; want %+v, %v", x.speaks, got, err, x.want, x.err)
		}
		n.same("calls", len(c.wire.sent()), 1)
	}
	ns["h1/a"] = note{ID: "h1/a", State: "secret"}
	if _, err := read(n.client("old", speaking("1.2"))); !errors.Is(err, conductor.ErrVersion) || !strings.Contains(err.Error(), "secret") {
		n.Errorf("a value without mapping: %v", err)
	}
}
