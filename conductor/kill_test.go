package conductor_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/amqp"
	"github.com/drover-cloud/drover/bus/nats"
	"github.com/drover-cloud/drover/conductor"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
)

// TestKills: a host without a store on real servers, which are killed in turns: for some seconds, with DROVER_LONG for 10 minutes.
func TestKills(t *testing.T) {
	t.Run("conductor-30 PostgreSQL and NATS", func(t *testing.T) {
		n := newNet(t)
		pg, broker := fixture.FreshPostgres(t), fixture.FreshNATS(t)
		n.open = func(name string) bus.Transport {
			x, err := nats.New(nats.Config{Env: n.env(name), URL: "nats://" + broker.Addr})
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		n.kills(pg, broker)
	})
	t.Run("conductor-30 PostgreSQL and RabbitMQ", func(t *testing.T) {
		if !long {
			t.Skip("a broker that starts slowly: DROVER_LONG=1")
		}
		n := newNet(t)
		pg, broker := fixture.FreshPostgres(t), fixture.FreshRabbitMQ(t)
		n.open = func(name string) bus.Transport {
			x, err := amqp.New(amqp.Config{Env: n.env(name), URL: "amqp://guest:guest@" + broker.Addr + "/"})
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		n.kills(pg, broker)
	})
}

// ran counts the runs of jobs, by id and epoch.
type ran struct {
	mu sync.Mutex
	by map[string]int
}

func (r *ran) one(ctx context.Context, a startVM) (string, error) {
	j, _ := job.FromContext(ctx)
	r.mu.Lock()
	r.by[fmt.Sprint(j.ID, "/", j.Epoch)]++
	r.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	return a.ID, nil
}

func (r *ran) times(id string, epoch int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[fmt.Sprint(id, "/", epoch)]
}

// kills submits jobs while server after server dies and comes back.
func (n *net) kills(pg *fixture.PostgresServer, broker *fixture.Server) {
	n.Helper()
	dsn := pg.Database(n)
	on := func(db *postgres.Store) func(c *conductor.ServerConfig) {
		return func(c *conductor.ServerConfig) { c.Tx, c.Policy.TrustNames = db, true }
	}
	db1, db2 := fixture.PostgresStore(n, dsn, n.env("s1")), fixture.PostgresStore(n, dsn, n.env("s2"))
	b1 := n.node("s1")
	s1 := n.serverOn(b1, "s1", on(db1))
	n.server("s2", on(db2))
	ctl, err := job.New(job.Config{Env: n.env("ctl"), DB: fixture.PostgresStore(n, dsn, n.env("ctl")), Queues: map[string]int{"ctl": 1}})
	if err != nil {
		n.Fatal(err)
	}
	job.Declare[startVM, string](ctl, "vm.start")
	n.run(ctl)
	r := &ran{by: map[string]int{}}
	n.worker(n.client("h1", nil), r.one)

	victims := []func(){
		func() { broker.Kill(n); broker.Restart(n) },
		func() { s1.stop(); s1 = n.serverOn(b1, "s1", on(db1)) },
		func() { pg.Kill(n); pg.Restart(n) },
	}
	rounds := 3
	if long {
		rounds = 240 // of 2.5 s
	}
	ids := make(chan []string)
	ctx, stop := context.WithCancel(context.Background())
	go func() { ids <- n.submits(ctx, ctl) }()
	for i := range rounds {
		time.Sleep(2500 * time.Millisecond)
		victims[i%len(victims)]()
	}
	time.Sleep(time.Second)
	stop()
	all := <-ids
	end, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for i, id := range all {
		j, err := ctl.Wait(end, id)
		for err != nil && end.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			j, err = ctl.Wait(end, id)
		}
		if err != nil {
			n.Fatalf("job %d of %d is lost: %v", i, len(all), err)
		}
		if times := r.times(id, j.Epoch); j.State != job.Succeeded || string(j.Result) != fmt.Sprintf("%q", fmt.Sprint(i)) || times != 1 {
			n.Errorf("job %d: %s, %s; its epoch %d ran %d times", i, j.State, j.Result, j.Epoch, times)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, times := range r.by {
		if times > 1 {
			n.Errorf("%s ran %d times", k, times)
		}
	}
	n.Logf("%d jobs, %d runs, %d kills", len(all), len(r.by), rounds)
	if len(all) < 20*rounds {
		n.Errorf("only %d jobs", len(all))
	}
}

// submits a job each 40 ms until ctx ends; what has failed is submitted again.
func (n *net) submits(ctx context.Context, ctl *job.Manager) (ids []string) {
	for i := 0; ctx.Err() == nil; i++ {
		for tries := 0; ; tries++ {
			one, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			j, err := ctl.Submit(one, job.Request{Kind: "vm.start", Queue: "h1", Idem: fmt.Sprint(i), Args: startVM{fmt.Sprint(i)}})
			cancel()
			if err == nil {
				ids = append(ids, j.ID)
				break
			}
			if tries == 100 {
				n.Errorf("not submitted: %v", err)
				return ids
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(40 * time.Millisecond)
	}
	return ids
}
