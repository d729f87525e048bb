package console_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/console"
)

func TestBus(t *testing.T) {
	var hub memory.Hub
	var near, far *bus.Bus
	all := map[string]*console.Console{}
	inRig(t, func(c *console.Config) {
		near = bus.New(hub.Open("ms1"), bus.Config{Env: c.Env})
		far = bus.New(hub.Open("ms2"), bus.Config{Env: drover.Env{Node: "ms2", Logger: quiet.Logger}})
		other, err := console.New(console.Config{Env: drover.Env{Node: "ms2", Logger: quiet.Logger}, Bus: far})
		if err != nil {
			t.Fatal(err)
		}
		all["ms2"], all["ms3"] = other, nil
		c.Bus, c.Nodes = near, mesh{"ms1", all, map[string]bool{"ms3": true}}
	}, func(r *rig) {
		ctx, stop := context.WithCancel(context.Background())
		defer func() { stop(); synctest.Wait(); time.Sleep(time.Minute) }()
		for _, b := range []*bus.Bus{near, far} {
			go func() { _ = b.Run(ctx) }()
		}
		slow := bus.Topic[string, string]{Name: "slow", Method: "work"}
		slow.Handle(far, func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		defer near.Subscribe("job.{kind}", func(context.Context, bus.Event) {})()
		_ = near.Ready(ctx)
		call, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = slow.Call(call, near, "ms2", "<secret>") }()
		time.Sleep(2 * time.Second) // it says that it runs
		v := items(r.ask(200, "GET", "/v1/bus", ""))
		if len(v) != 3 || text(v[0], "node") != "ms1" || text(v[1], "node") != "ms2" || text(v[2], "error") != "no answer" {
			t.Fatalf("%v", v)
		}
		waiting, lanes := v[0]["waiting"].([]any), v[0]["lanes"].([]any)
		if len(waiting) != 1 || text(waiting[0].(map[string]any), "target") != "slow@ms2" || text(waiting[0].(map[string]any), "node") != "ms2" || v[0]["calls"] != 1.0 {
			t.Errorf("%v", waiting)
		}
		if len(lanes) != 1 || !strings.HasSuffix(text(lanes[0].(map[string]any), "to"), "@ms2") {
			t.Errorf("%v", lanes)
		}
		if v[0]["sent"] != 1.0 || v[0]["received"] != 1.0 || v[1]["running"] != 1.0 || v[0]["subscriptions"].([]any)[0] != "job.{kind}" {
			t.Errorf("%v", v)
		}
		cancel()
		<-ended
		time.Sleep(time.Second)
		if v := items(r.ask(200, "GET", "/v1/bus", ""))[0]; v["out_per_s"].(float64) <= 0 || len(v["waiting"].([]any)) != 0 {
			t.Errorf("%v", v)
		}
		page := r.do("GET", "/bus", "").Body.String()
		for _, want := range []string{`id="bus-ms1"`, `id="bus-ms2"`, "ms3: no answer", "job.{kind}", "slow 1.0: work"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %q", want)
			}
		}
		if strings.Contains(page, "secret") {
			t.Error("the page shows a body")
		}
		if !strings.Contains(r.do("GET", "/", "").Body.String(), `data-key="g b"`) {
			t.Error("no way leads to the page")
		}
	})
}
