package conductor_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

// bodies are calls that nobody should send.
var bodies = []string{
	`{}`, `{"ID":"x"}`, `{"ID":"x","Ops":[{}]}`, `{"ID":"x","Ops":[{"Store":"job","Method":"insert","Args":[{"Job":{"ID":"a"}}]}]}`,
	`{"ID":"x","Ops":[{"Store":"job","Method":"move","Args":[{"ID":"a","From":"ready","To":""}],"Stamp":"1"}],"Hints":["x"]}`,
	`{"ID":"x","Ops":[{"Store":"tracker","Method":"save-host","Save":{"Key":"h1","Version":1,"Set":{"Running":3},"Unset":["Seen"]}}]}`,
	`{"ID":"x","Ops":[{"Store":"lease","Method":"open","Args":{"Info":{"Name":"h2"},"TTL":1}}],"Speaks":{"lease":"2.0"}}`,
	`{"ID":"x","Ops":[{"Store":"job","Method":"claim","Args":{"Session":{"Node":"h1","Epoch":1},"Free":{"h1":-1},"Max":-5}}]}`,
	`{"ID":"x","Ops":[{"Store":"outbox","Method":"add","Args":[{"ID":"e","Data":"e30="}]}]}`,
	`[[[[[`, `{"Ops":[{"Store":"job","Method":"log","Args":[{"Error":{"Causes":[{"Causes":[{}]}]}}]}]}`,
}

func FuzzCommit(f *testing.F) {
	for _, s := range bodies {
		f.Add([]byte(s))
	}
	try := target(f)
	f.Fuzz(func(t *testing.T, body []byte) { try(t, body) })
}

func TestFuzz(t *testing.T) {
	t.Run("conductor-32 bodies cut and bent", func(t *testing.T) {
		try := target(t)
		rnd := rand.New(rand.NewPCG(1, 32))
		for _, s := range bodies {
			for range 40 {
				b := []byte(s)
				for range 1 + rnd.IntN(3) {
					b[rnd.IntN(len(b))] = "{}[]\",:0-x"[rnd.IntN(10)]
				}
				try(t, b[:1+rnd.IntN(len(b))])
				try(t, b)
			}
		}
	})
}

// target sends a body wherever a server takes one, and looks whether anything was written.
func target(f testing.TB) func(t testing.TB, body []byte) {
	n := newNet(f)
	n.server("s1", nil)
	c := n.client("h1", nil)
	n.insert(row("a", "q"))
	before := show(n.get("a"))
	return func(t testing.TB, body []byte) {
		n := &net{TB: t, db: n.db, log: n.log}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, m := range []*bus.Message{
			{Topic: "conductor", Namespace: "store.tx", Method: "commit", Body: body},
			{Topic: "conductor", Namespace: "store.job", Method: "list", Body: body},
			{Topic: "conductor.live", Namespace: "store.member", Method: "beat", Body: body},
		} {
			_, _ = c.Bus.Call(ctx, m)
		}
		if n.log.count("panicked") > 0 {
			t.Fatal("a panic")
		}
		if after := show(n.get("a")); after != before {
			t.Fatalf("written: %s", after)
		}
		n.in(n.db, func(ctx context.Context, tx store.Tx) error { return ctx.Err() })
	}
}
