package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/examples/refserver/server"
)

// command signs a command of the CloudStack face and sends it.
func command(t *testing.T, base string, p map[string]string) map[string]any {
	t.Helper()
	p["apiKey"], p["response"] = "testkey", "json"
	p["signature"] = csapi.Sign(p, []byte("testsecret"))
	q := url.Values{}
	for k, v := range p {
		q.Set(k, v)
	}
	r := must[*http.Response](t)(http.Get(base + "/client/api?" + q.Encode()))
	defer r.Body.Close()
	var v map[string]map[string]any
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil || r.StatusCode != 200 {
		t.Fatalf("%s: %d %v %v", p["command"], r.StatusCode, v, err)
	}
	for _, body := range v {
		return body
	}
	return nil
}

func TestRefserver(t *testing.T) {
	t.Run("console-40 console-41 a deploy at the reference server", func(t *testing.T) {
		seed := must[[]byte](t)(os.ReadFile("../../examples/refserver/seed.json"))
		cfg := must[server.Config](t)(server.Parse([]string{
			"-listen", "127.0.0.1:0", "-data", t.TempDir(), "-db", "sqlite::memory:", "-dev-key", "testkey:testsecret", "-sim-latency", "2s", "-node", "ms1",
		}, func(string) string { return "" }, seed, io.Discard))
		cfg.Stdout, cfg.Env.Logger = io.Discard, slog.New(slog.DiscardHandler)
		s := must[*server.Server](t)(server.New(context.Background(), cfg))
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
		})
		for range 1000 {
			if r, err := http.Get(s.URL() + "/readyz"); err == nil {
				r.Body.Close()
				if r.StatusCode == 200 {
					break
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		b := browse(t, s.URL())
		b.open(s.URL() + "/console/")
		if title := eval[string](b, `document.title`); title != "Overview · refserver" {
			t.Errorf("title %q", title)
		}
		same := `fetch("v1/jobs/stats").then(r => r.json()).then(s => [...document.querySelectorAll("[data-count]")].every(e => Number(e.textContent) === (s.counts[e.dataset.count] || 0)))`
		if !eval[bool](b, same) {
			t.Error("the counts are not those of the API")
		}
		b.open(s.URL() + "/console/jobs?state=all")
		id := command(t, s.URL(), map[string]string{
			"command": "deployVirtualMachine", "zoneid": "22222222-0000-4000-8000-000000000001", "serviceofferingid": "22222222-0000-4000-8000-000000000002",
			"templateid": "22222222-0000-4000-8000-000000000003", "name": "web-1",
		})["jobid"].(string)
		row := "#j-" + id
		b.until(fmt.Sprintf(`document.querySelector(%q)`, row))
		b.until(has(row, "running"))
		b.click(row + " a.open")
		b.until(has("#timeline .w-step", "start"))
		b.both("refserver-deploy")
		b.until(has("#lead", "succeeded"))
		b.both("refserver-deployed")
	})
}
