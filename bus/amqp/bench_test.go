package amqp_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	client "github.com/rabbitmq/amqp091-go"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/amqp"
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

// BenchmarkP23Bare is a request of the client alone: a publishing to a queue, answered to an exclusive one, both ends with confirms
// that nobody waits for.
func BenchmarkP23Bare(b *testing.B) {
	s := fixture.RabbitMQ(b)
	end := func(queue string, exclusive bool) (*client.Channel, string, <-chan client.Delivery) {
		ch := channel(b, s)
		q, err := ch.QueueDeclare(queue, false, true, exclusive, false, nil)
		if err == nil {
			err = ch.Confirm(false)
		}
		if err != nil {
			b.Fatal(err)
		}
		in, err := ch.Consume(q.Name, "", false, false, false, false, nil)
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for range ch.NotifyPublish(make(chan client.Confirmation)) { //nolint:revive // confirms are taken
			}
		}()
		return ch, q.Name, in
	}
	far, queue, calls := end("", true)
	go func() {
		for d := range calls {
			_ = far.PublishWithContext(context.Background(), "", d.ReplyTo, true, false, client.Publishing{Body: d.Body})
			_ = d.Ack(false)
		}
	}()
	near, inbox, replies := end("", true)
	sampled(b, func() error {
		err := near.PublishWithContext(context.Background(), "", queue, true, false, client.Publishing{ReplyTo: inbox, Body: []byte(`{"id":"vm-1"}`)})
		if err == nil {
			err = (<-replies).Ack(false)
		}
		return err
	})
}

// BenchmarkP23Bus is a call of the bus on the same broker: at most 25 % more at the median.
func BenchmarkP23Bus(b *testing.B) {
	n := open(fixture.RabbitMQ(b))
	end := func(node string, serve ...func(b *bus.Bus)) *busrig.Node {
		t, err := amqp.New(amqp.Config{Env: drover.Env{Node: node, Logger: slog.New(slog.DiscardHandler)}, URL: url(n.Server.Addr), Prefix: n.Prefix})
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
