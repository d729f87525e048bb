package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

// viewer reads a stream in the bubble, without a network.
type viewer struct {
	mu     sync.Mutex
	header http.Header
	status int
	text   strings.Builder
	stuck  chan struct{} // not nil: writes wait for it
	cancel context.CancelFunc
	done   chan struct{}
}

type event struct {
	ID, Name string
	Data     map[string]any
}

func (v *viewer) Header() http.Header { return v.header }
func (v *viewer) WriteHeader(s int)   { v.status = s }
func (v *viewer) Flush()              {}
func (v *viewer) Write(b []byte) (int, error) {
	if v.stuck != nil {
		<-v.stuck
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.text.Write(b)
}

// view opens a stream.
func view(h http.Handler, query string, header ...string) *viewer {
	v := &viewer{header: http.Header{}, status: 200, done: make(chan struct{})}
	v.start(h, query, header...)
	synctest.Wait()
	return v
}

func (v *viewer) start(h http.Handler, query string, header ...string) {
	q := request("GET", "/v1/events?"+query, "", header...)
	ctx, cancel := context.WithCancel(q.Context())
	v.cancel = cancel
	go func() {
		defer close(v.done)
		h.ServeHTTP(v, q.WithContext(ctx))
	}()
}

func (v *viewer) close() { v.cancel(); <-v.done }

func (v *viewer) events() (es []event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var e event
	for s := bufio.NewScanner(strings.NewReader(v.text.String())); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ": ")
		switch name {
		case "id":
			e.ID = value
		case "event":
			e.Name = value
		case "data":
			_ = json.Unmarshal([]byte(value), &e.Data)
		case "":
			es = append(es, e)
			e = event{}
		}
	}
	return es
}

func (v *viewer) names() (out []string) {
	for _, e := range v.events() {
		out = append(out, e.Name)
	}
	return out
}

func named(es []event, name string) (out []event) {
	for _, e := range es {
		if e.Name == name {
			out = append(out, e)
		}
	}
	return out
}

func TestLive(t *testing.T) {
	t.Run("console-05 every final state, four frames a second, on two nodes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db, all := &memory.Store{}, map[string]*console.Console{}
			var rigs []*rig
			for _, name := range []string{"ms1", "ms2"} {
				r := newRig(t, db, name, func(c *console.Config) { c.Nodes = mesh{name, all, nil} })
				all[name], rigs = r.c, append(rigs, r)
			}
			rigs[1].idle = true // it has no workers, and a viewer
			for _, r := range rigs {
				r.run()
				defer r.end()
			}
			every(t, rigs[0], view(rigs[0].c, "topics=job"), view(rigs[1].c, "topics=job"))
		})
	})
	t.Run("console-05 the last within 250 ms", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			v := view(r.c, "topics=job")
			defer v.close()
			j := r.submit("work", args{Name: "a"})
			time.Sleep(2 * time.Second)
			r.open("a")
			time.Sleep(250 * time.Millisecond)
			synctest.Wait()
			es := named(v.events(), "job")
			if last := es[len(es)-1]; last.Data["id"] != j.ID || last.Data["state"] != "succeeded" {
				t.Errorf("250 ms after the end: %v", es)
			}
		})
	})
	t.Run("console-06 resume", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			v := view(r.c, "")
			for i := range 5 {
				r.submit("work", args{Name: "!" + strconv.Itoa(i)})
				time.Sleep(time.Second)
			}
			first := named(v.events(), "job")
			v.close()
			if len(first) < 5 {
				t.Fatalf("%v", first)
			}
			again := view(r.c, "", "Last-Event-ID", first[1].ID)
			defer again.close()
			var ids []string
			for _, e := range named(again.events(), "job") {
				ids = append(ids, e.ID)
			}
			if len(ids) != len(first)-2 || ids[0] != first[2].ID {
				t.Errorf("resumed after %s: %v", first[1].ID, ids)
			}
			for _, id := range []string{"other.7", "nonsense", first[0].ID + "9999"} {
				lost := view(r.c, "after="+id)
				if n := len(named(lost.events(), "gone")); n != 1 {
					t.Errorf("%s: %d gone, want 1", id, n)
				}
				lost.close()
			}
		})
	})
	t.Run("console-06 drained and restarted", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			c, err := console.New(console.Config{Env: r.env, Jobs: r.jobs})
			if err != nil {
				t.Fatal(err)
			}
			if w := do(c, request("GET", "/v1/events", "")); w.Code != 503 || w.Header().Get("Retry-After") == "" {
				t.Errorf("without Run: %d", w.Code)
			}
			for range 2 { // console-26: it may run again
				ctx, stop := context.WithCancel(context.Background())
				ended := make(chan error)
				go func() { ended <- c.Run(ctx) }()
				synctest.Wait()
				v := view(c, "")
				stop()
				<-v.done
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if names := v.names(); names[len(names)-1] != "bye" {
					t.Errorf("%v", names)
				}
			}
		})
	})
	t.Run("console-26 cancelled under load", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			ctx, stop := context.WithCancel(context.Background())
			c, err := console.New(console.Config{Env: r.env, Jobs: r.jobs, Leases: r.session})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() { ended <- c.Run(ctx) }()
			synctest.Wait()
			j := r.submit("work", args{Name: "a"})
			var vs []*viewer
			for i := range 6 {
				vs = append(vs, view(c, []string{"", "job=" + j.ID}[i%2]))
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for _, v := range vs {
				<-v.done // and the bubble ends only when no goroutine is left
			}
		})
	})
	t.Run("console-07 limits", func(t *testing.T) {
		name := "a"
		inRig(t, func(c *console.Config) {
			c.Auth = func(*http.Request) (console.Principal, error) { return console.Principal{Name: name}, nil }
		}, func(r *rig) {
			var vs []*viewer
			open := func() *viewer { v := view(r.c, ""); vs = append(vs, v); return v }
			for range 8 {
				if v := open(); v.status != 200 {
					t.Fatalf("%d", v.status)
				}
			}
			if v := open(); v.status != 429 || v.header.Get("Retry-After") == "" {
				t.Errorf("the 9th of a principal: %d", v.status)
			}
			for i := range 248 {
				name = fmt.Sprint("p", i)
				open()
			}
			if v := open(); v.status != 503 {
				t.Errorf("the 257th: %d", v.status)
			}
			for _, v := range vs {
				v.close()
			}
			if v := open(); v.status != 200 {
				t.Errorf("after all have left: %d", v.status)
			}
			vs[len(vs)-1].close()
		})
	})
	t.Run("console-07 a reader that stops", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			slow := &viewer{header: http.Header{}, stuck: make(chan struct{}), done: make(chan struct{})}
			slow.start(r.c, "")
			v := view(r.c, "")
			defer v.close()
			for i := range 1100 {
				r.submit("work", args{Name: "!" + strconv.Itoa(i)})
				if i%10 == 0 {
					time.Sleep(300 * time.Millisecond)
				}
			}
			time.Sleep(10 * time.Second)
			close(slow.stuck)
			<-slow.done
			if names := slow.names(); names[len(names)-1] != "gone" {
				t.Errorf("%v", names)
			}
			done := map[string]bool{}
			for _, e := range named(v.events(), "job") {
				if e.Data["state"] == "succeeded" {
					done[e.Data["id"].(string)] = true
				}
			}
			if len(done) != 1100 {
				t.Errorf("the other reader saw %d ends", len(done))
			}
		})
	})
	t.Run("console-08 many viewers, few reads", func(t *testing.T) {
		var n atomic.Int64
		inRig(t, func(c *console.Config) {
			c.Jobs, c.Leases = countedJobs{c.Jobs, &n}, countedLeases{c.Leases, &n}
			c.Auth = func(q *http.Request) (console.Principal, error) { return console.Principal{Name: q.RemoteAddr}, nil }
		}, func(r *rig) {
			look := func(seconds int, each time.Duration) float64 {
				was := n.Load()
				for range int(time.Duration(seconds) * time.Second / each) {
					go r.c.ServeHTTP(httptest.NewRecorder(), request("GET", "/jobs", ""))
					time.Sleep(each)
				}
				time.Sleep(time.Second) // the last of them read
				return float64(n.Load()-was) / float64(seconds)
			}
			v := view(r.c, "")
			defer v.close()
			if got := look(120, 300*time.Millisecond); got > 1 { // 100 viewers look every 30 s
				t.Errorf("idle: %.2f reads/s", got)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond): // two changes each
						_, _ = r.jobs.Submit(context.Background(), job.Request{Kind: "work", Args: args{Name: "!" + strconv.Itoa(i)}})
					}
				}
			}()
			if got := look(10, 10*time.Millisecond); got > 10 { // 100 viewers look every second
				t.Errorf("busy: %.2f reads/s", got)
			}
			close(stop)
			<-stopped
		})
	})
	t.Run("console-22 revoked during a stream", func(t *testing.T) {
		var revoked atomic.Bool
		inRig(t, func(c *console.Config) {
			c.Auth = func(*http.Request) (console.Principal, error) {
				if revoked.Load() {
					return console.Principal{}, fmt.Errorf("%w: revoked", console.ErrForbidden)
				}
				return console.Principal{Name: "a"}, nil
			}
		}, func(r *rig) {
			v := view(r.c, "")
			time.Sleep(30 * time.Second)
			revoked.Store(true)
			at := time.Now()
			<-v.done
			if d := time.Since(at); d > 75*time.Second {
				t.Errorf("closed after %v", d)
			}
		})
	})
	t.Run("console-22 an account sees its own", func(t *testing.T) {
		inRig(t, func(c *console.Config) {
			c.Auth = func(q *http.Request) (console.Principal, error) {
				return console.Principal{Name: "u", Account: q.Header.Get("X-Account")}, nil
			}
		}, func(r *rig) {
			v := view(r.c, "", "X-Account", "other")
			defer v.close()
			mine := r.submit("work", args{Name: "m"}, on("1"), func(q *job.Request) { q.Identity = map[string]string{"account": "other"} })
			foreign := r.submit("work", args{Name: "f"}, on("1"))
			time.Sleep(time.Second)
			get := func(path string) *http.Response { return r.do("GET", path, "", "X-Account", "other").Result() }
			if s := get("/v1/jobs/" + foreign.ID).StatusCode; s != 404 {
				t.Errorf("foreign: %d", s)
			}
			if s := get("/v1/jobs/" + mine.ID).StatusCode; s != 200 {
				t.Errorf("mine: %d", s)
			}
			for _, path := range []string{"/v1/jobs", "/v1/overview", "/v1/jobs/stats", "/v1/queues/vm/1", "/jobs", "/queues/vm/1", "/"} {
				if body := r.do("GET", path, "", "X-Account", "other").Body.String(); strings.Contains(body, foreign.ID) || strings.Contains(path, "jobs") && !strings.Contains(path, "stats") && !strings.Contains(body, mine.ID) {
					t.Errorf("%s: %.600s", path, body)
				}
			}
			for _, verb := range []string{"cancel", "hold", "wake", "retry"} {
				if w := r.do("POST", "/v1/jobs/"+foreign.ID+"/"+verb, "{}", "X-Account", "other"); w.Code != 404 {
					t.Errorf("%s: %d", verb, w.Code)
				}
			}
			r.do("POST", "/v1/jobs/bulk", `{"verb":"cancel","ids":["`+foreign.ID+`"]}`, "X-Account", "other")
			r.do("POST", "/v1/jobs/bulk", `{"verb":"cancel","filter":{"state":"all","account":"acme"}}`, "X-Account", "other")
			time.Sleep(time.Second)
			if !r.get(foreign.ID).CancelAt.IsZero() || r.get(foreign.ID).State == job.Cancelled {
				t.Error("a bulk cancelled what belongs to another")
			}
			if r.get(mine.ID).CancelAt.IsZero() && !r.get(mine.ID).State.Final() {
				t.Error("a bulk left what is its own")
			}
			for _, e := range named(v.events(), "job") {
				if e.Data["id"] == foreign.ID {
					t.Error("the stream told of another's job")
				}
			}
			if len(named(v.events(), "job")) == 0 {
				t.Error("the stream told nothing")
			}
		})
	})
}
