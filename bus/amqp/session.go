package amqp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	client "github.com/rabbitmq/amqp091-go"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/internal/broker"
	"github.com/drover-cloud/drover/internal/fair"
)

const (
	consumer     = "drover" // of a channel that has no other
	prefetch     = 64
	queueLength  = 10_000
	topicExpires = 30 * time.Minute
	nodeExpires  = time.Minute
	refusedAgain = 50 * time.Millisecond
	consumeAgain = 200 * time.Millisecond
)

// session is a pair of connections: one to publish, one to consume.
type session struct {
	t    *Transport
	pub  *client.Connection
	con  *client.Connection
	ch   *client.Channel // for publishing, with confirms
	lost chan error

	turn fair.Lock // of publishing: tags are given in order

	mu      sync.Mutex
	waiting map[uint64]chan error // by tag
	tags    map[string]uint64     // by message id
	over    bool
}

func (t *Transport) dial(ctx context.Context) (*session, error) {
	s := &session{t: t, lost: make(chan error, 4), waiting: map[uint64]chan error{}, tags: map[string]uint64{}}
	cfg := client.Config{Heartbeat: heartbeat, Dial: client.DefaultDial(dialTimeout), TLSClientConfig: t.cfg.TLS,
		Properties: client.Table{"connection_name": "drover " + t.env.Node}}
	var err error
	if s.pub, err = client.DialConfig(t.cfg.URL, cfg); err != nil {
		return nil, hidden(err)
	}
	if s.con, err = client.DialConfig(t.cfg.URL, cfg); err == nil {
		err = s.open()
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		s.close()
		return nil, hidden(err)
	}
	return s, nil
}

// hidden is err without what may hold a password.
func hidden(err error) error {
	var e *client.Error
	if errors.As(err, &e) {
		return fmt.Errorf("%d %s", e.Code, e.Reason)
	}
	return err
}

// open declares the exchanges and begins to listen for confirms.
func (s *session) open() error {
	var err error
	if s.ch, err = s.pub.Channel(); err != nil {
		return err
	}
	p := s.t.cfg.Prefix
	for _, x := range [][2]string{{p + ".rpc", "direct"}, {p + ".all", "direct"}, {p + ".events", "topic"}} {
		if err := s.ch.ExchangeDeclare(x[0], x[1], true, false, false, false, nil); err != nil {
			return err
		}
	}
	if err := s.ch.Confirm(false); err != nil {
		return err
	}
	// One goroutine takes returns and confirms, unbuffered: a return is dealt with before the confirm that follows it.
	returns, confirms := s.ch.NotifyReturn(make(chan client.Return)), s.ch.NotifyPublish(make(chan client.Confirmation))
	s.t.env.Go("amqp/confirms", func() { s.listen(returns, confirms) })
	closed := []chan *client.Error{s.pub.NotifyClose(make(chan *client.Error, 1)), s.con.NotifyClose(make(chan *client.Error, 1)), s.ch.NotifyClose(make(chan *client.Error, 1))}
	for i, c := range closed {
		s.t.env.Go("amqp/closed/"+strconv.Itoa(i), func() {
			e := <-c
			err := errors.New("closed")
			if e != nil {
				err = hidden(e)
			}
			select {
			case s.lost <- err:
			default:
			}
		})
	}
	return nil
}

func (s *session) close() {
	for _, c := range []*client.Connection{s.pub, s.con} {
		if c != nil {
			_ = c.CloseDeadline(s.t.env.Clock.Now().Add(dialTimeout))
		}
	}
}

func (s *session) listen(returns chan client.Return, confirms chan client.Confirmation) {
	for returns != nil || confirms != nil {
		select {
		case r, ok := <-returns:
			if !ok {
				returns = nil
				continue
			}
			s.mu.Lock()
			if tag, known := s.tags[r.MessageId]; known {
				s.settle(tag, fmt.Errorf("%w: %s", bus.ErrNoRoute, r.RoutingKey))
			}
			s.mu.Unlock()
		case c, ok := <-confirms:
			if !ok {
				confirms = nil
				continue
			}
			s.mu.Lock()
			if c.Ack {
				s.settle(c.DeliveryTag, nil)
			} else {
				s.settle(c.DeliveryTag, &bus.BusyError{What: "the queue at the broker is full", RetryAfter: time.Second})
			}
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, tag := range slices.Sorted(maps.Keys(s.waiting)) {
		s.settle(tag, fmt.Errorf("%w: the connection was lost before the broker confirmed", bus.ErrNodeLost))
	}
}

// settle answers who waits for tag. The caller holds s.mu.
func (s *session) settle(tag uint64, err error) {
	if c := s.waiting[tag]; c != nil {
		delete(s.waiting, tag)
		c <- err
	}
}

// Send publishes m and waits for the broker's confirm.
func (t *Transport) Send(ctx context.Context, m *bus.Message) error {
	s, err := t.line.Wait(ctx, t.env.Clock, true, "broker")
	if err != nil {
		return err
	}
	a := m.Address()
	exchange, key := t.route(a)
	p := client.Publishing{MessageId: m.ID + "/" + m.Wire.Kind.String(), Body: broker.Append(nil, m), DeliveryMode: client.Transient}
	if t.cfg.Proof {
		p.UserId = t.env.Node
	}
	if left := time.Duration(m.Wire.Deadline - m.Wire.Sent); m.Wire.Deadline != 0 {
		p.Expiration = strconv.FormatInt(max(1, left.Milliseconds()), 10)
	}
	if err := s.turn.Lock(ctx); err != nil {
		return fmt.Errorf("%w: %w", bus.ErrNotSent, err)
	}
	answer := make(chan error, 1)
	tag := s.ch.GetNextPublishSeqNo()
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		s.turn.Unlock()
		return fmt.Errorf("%w: the connection was lost", bus.ErrNotSent)
	}
	s.waiting[tag], s.tags[p.MessageId] = answer, tag
	s.mu.Unlock()
	err = s.ch.PublishWithContext(ctx, exchange, key, !a.Events && !a.Fanout, false, p)
	s.turn.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, tag)
		if s.tags[p.MessageId] == tag {
			delete(s.tags, p.MessageId)
		}
	}()
	switch {
	case errors.Is(err, client.ErrClosed):
		return fmt.Errorf("%w: the connection was lost", bus.ErrNotSent)
	case err != nil:
		return fmt.Errorf("%w: %w", bus.ErrNodeLost, hidden(err)) // part of it may have left
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: not confirmed: %w", bus.ErrNodeLost, context.Cause(ctx))
	}
}

// Receive consumes what comes to a until ctx ends; a lost connection, channel or queue is made anew.
func (t *Transport) Receive(ctx context.Context, a bus.Address, h bus.Handler) error {
	for ctx.Err() == nil {
		s, err := t.line.Wait(ctx, t.env.Clock, false, "broker")
		if err != nil {
			break
		}
		if err := s.consume(ctx, a, h); err != nil && ctx.Err() == nil {
			t.log.Warn("consuming ended, trying again", "at", a.String(), "error", hidden(err))
			_ = t.env.Sleep(ctx, consumeAgain)
		}
	}
	return context.Cause(ctx)
}

// consume declares a's queue and takes from it until ctx or the channel ends.
func (s *session) consume(ctx context.Context, a bus.Address, h bus.Handler) error {
	ch, err := s.con.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return err
	}
	queue, err := s.declare(ch, a)
	if err != nil {
		return err
	}
	in, err := ch.Consume(queue, consumer, false, a.Inbox, false, false, nil)
	if err != nil {
		return err
	}
	bus.Standing(h)
	for ctx.Err() == nil {
		select {
		case d, ok := <-in:
			if !ok {
				return errors.New("the channel was closed")
			}
			s.take(ctx, d, a, h)
		case <-ctx.Done():
		}
	}
	if err := ch.Cancel(consumer, false); err != nil {
		return err
	}
	for d := range in { // what came already is refused by name: nothing of it has run
		s.take(ctx, d, a, h)
	}
	return nil
}

func (s *session) declare(ch *client.Channel, a bus.Address) (string, error) {
	own := a.Events || a.Fanout || a.Inbox
	args := client.Table{"x-max-length": int64(queueLength)}
	switch {
	case own:
		args["x-overflow"] = "drop-head"
	case a.Node != "":
		args["x-overflow"], args["x-single-active-consumer"], args["x-expires"] = "reject-publish", true, nodeExpires.Milliseconds()
	default:
		args["x-overflow"], args["x-expires"] = "reject-publish", topicExpires.Milliseconds()
	}
	q, err := ch.QueueDeclare(s.t.queue(a), !own, own, own, false, args)
	if err != nil {
		return "", err
	}
	if exchange, key := s.t.route(a); exchange != "" {
		if a.Events && (key == ">" || len(key) > 2 && key[len(key)-2:] == ".>") {
			key = key[:len(key)-1] + "#"
		}
		err = ch.QueueBind(q.Name, key, exchange, false, nil)
	}
	return q.Name, err
}

// take gives a delivery to h. A cast that h has no room for stays with the broker: it is not acknowledged, and offered again.
func (s *session) take(ctx context.Context, d client.Delivery, a bus.Address, h bus.Handler) {
	m, err := broker.Decode(d.Body)
	if err != nil {
		s.t.log.Warn("a message that cannot be read", "at", a.String(), "error", err)
		_ = d.Reject(false)
		return
	}
	if s.t.cfg.Proof && d.UserId != m.Wire.From {
		s.t.log.Warn("a message of a false sender was refused", "claims", m.Wire.From, "user", d.UserId, "at", a.String())
		_ = d.Reject(false)
		return
	}
	m.Wire.Again = d.Redelivered
	for {
		err := h.Handle(ctx, m)
		if err == nil {
			_ = d.Ack(false)
			return
		}
		if !errors.Is(err, bus.ErrBusy) {
			_ = d.Reject(false)
			return
		}
		if s.t.env.Sleep(ctx, refusedAgain) != nil {
			_ = d.Reject(true)
			return
		}
	}
}
