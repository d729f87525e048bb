package bus_test

import (
	"context"
	"errors"
	"maps"
	"os/exec"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/bus"
)

func FuzzParse(f *testing.F) {
	f.Add("id", "1", "kind", "call", []byte("x"))
	f.Add("deadline", "1e9", "chain", "%zz", []byte(nil))
	f.Add("kind", "nothing", "ring", "xyz", []byte("{"))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, body []byte) {
		m, err := bus.Parse(maps.All(map[string]string{"id": "7", "from": "x", "topic": "svc", "method": "handle", k1: v1, k2: v2}), body)
		if err != nil {
			if !errors.Is(err, bus.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := bus.Parse(m.Headers(), m.Body)
		if err != nil || again.ID != m.ID || again.Wire.Kind != m.Wire.Kind || again.Wire.Deadline != m.Wire.Deadline {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

func TestGarbage(t *testing.T) {
	bubble(t, "bus-91 garbage", func(c *cluster) {
		a := c.start("a", nil, serving("svc", echo))
		end := c.hub.Open("evil")
		for _, m := range []*bus.Message{
			{ID: "1", Topic: "svc", Wire: bus.Wire{Kind: bus.KindCall}},
			{ID: "2", Topic: "svc", Method: "handle", Version: "x.y", Wire: bus.Wire{Kind: bus.KindCall}},
			{ID: "3", Topic: "svc", Method: "handle", Key: "\xff", Node: "", Wire: bus.Wire{Kind: bus.KindCast}},
			{Topic: "svc", Method: "handle", Wire: bus.Wire{Kind: bus.KindCast}},
			{ID: "4", Topic: "svc", Method: "handle", Body: make([]byte, 600<<10), Wire: bus.Wire{Kind: bus.KindCall}},
			{ID: "5", Node: "a", Wire: bus.Wire{Kind: bus.KindReply, To: a.Incarnation(), Err: "{"}},
			{ID: "6", Topic: "svc", Wire: bus.Wire{Kind: 99}},
			{ID: "7", Topic: "svc", Wire: bus.Wire{Kind: bus.KindCancel}},
			{ID: "8", Topic: "svc", Method: "handle", Wire: bus.Wire{Kind: bus.KindCall, Sent: 1 << 62, Deadline: -1 << 62}},
		} {
			m.Wire.From = "evil"
			_ = end.Send(context.Background(), m)
		}
		if a.Stats().Garbage == 0 {
			c.Error("nothing was counted")
		}
		if got, err := a.Call(context.Background(), msg("svc", "x")); string(got) != "x" || err != nil {
			c.Errorf("%q, %v", got, err)
		}
		for _, m := range []map[string]string{
			{}, {"id": "1", "kind": "?"}, {"id": "1", "sent": "x"}, {"id": strings.Repeat("x", 256)},
			{"id": "1", "x-k": strings.Repeat("x", 1<<20)}, {"id": "1", "chain": strings.Repeat("a,", 20)},
		} {
			if _, err := bus.Parse(maps.All(m), nil); !errors.Is(err, bus.ErrInvalid) {
				c.Errorf("%.60v: %v", m, err)
			}
		}
	})
}

// TestImports: a host of bus and bus/memory builds without any broker's client.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/drover-cloud/drover/bus", "github.com/drover-cloud/drover/bus/memory",
		"github.com/drover-cloud/drover/ring", "github.com/drover-cloud/drover/store/memory").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, client := range []string{"nats-io", "rabbitmq", "go-zookeeper", "gomemcache", "uptrace/bun", "jackc/pgx", "net/http/httptest"} {
		if strings.Contains(string(out), client) {
			t.Errorf("bus or bus/memory imports %s", client)
		}
	}
}
