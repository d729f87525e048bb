package nats_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/nats"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/internal/testkit/busrig"
)

// sampled reports the median of f.
func sampled(b *testing.B, f func() error) {
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-us")
}

// BenchmarkP23Bare is a request of the client alone, between two connections.
func BenchmarkP23Bare(b *testing.B) {
	s := fixture.NATS(b)
	var ends []*client.Conn
	for range 2 {
		nc, err := client.Connect("nats://" + s.Addr)
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		ends = append(ends, nc)
	}
	if _, err := ends[1].Subscribe("bare", func(m *client.Msg) { _ = m.Respond(m.Data) }); err != nil {
		b.Fatal(err)
	}
	if err := ends[1].Flush(); err != nil {
		b.Fatal(err)
	}
	sampled(b, func() error {
		_, err := ends[0].Request("bare", []byte(`{"id":"vm-1"}`), time.Minute)
		return err
	})
}

// BenchmarkP23Bus is a call of the bus on the same server: at most 25 % more at the median.
func BenchmarkP23Bus(b *testing.B) {
	n := open(fixture.NATS(b))
	end := func(node string, serve ...func(b *bus.Bus)) *busrig.Node {
		t, err := nats.New(nats.Config{Env: drover.Env{Node: node, Logger: slog.New(slog.DiscardHandler)}, URL: "nats://" + n.Server.Addr, Prefix: n.Prefix})
		if err != nil {
			b.Fatal(err)
		}
		return busrig.Start(b, t, node, nil, serve...)
	}
	end("b", busrig.Serving("svc", busrig.Echo))
	a := end("a")
	m := &bus.Message{Topic: "svc", Body: []byte(`{"id":"vm-1"}`)}
	sampled(b, func() error {
		_, err := a.Call(context.Background(), m)
		return err
	})
}
