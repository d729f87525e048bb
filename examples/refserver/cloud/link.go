package cloud

import (
	"context"
	"strings"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
)

// Link is how the nodes of the cluster call each other over a bus that others may reach too: who has not the master key can
// neither read nor make nor answer a call. One that was recorded can be sent again, once the bus has forgotten its id.
type Link struct {
	Env     drover.Env
	Bus     *bus.Bus
	Members bus.Members
	Key     *MasterKey
}

const linkSpace = "refserver"

// Call sends m with its body sealed, and opens what is answered.
func (l *Link) Call(ctx context.Context, m *bus.Message, opts ...bus.CallOption) ([]byte, error) {
	m.ID, m.Namespace = l.Env.NewID(), linkSpace
	m.Body = l.Key.wrap(purpose(m), m.Body)
	sealed, err := l.Bus.Call(ctx, m, opts...)
	if err != nil {
		return nil, err
	}
	return l.Key.unwrap("answer "+m.ID, sealed)
}

// Handle serves a method for the other nodes.
func (l *Link) Handle(topic, method string, f func(ctx context.Context, body []byte) ([]byte, error)) {
	ep := &bus.Endpoint{Namespace: linkSpace}
	bus.HandleFunc(ep, method, func(ctx context.Context, m *bus.Message) ([]byte, error) {
		body, err := l.Key.unwrap(purpose(m), m.Body)
		if err != nil {
			return nil, bus.Expected(err)
		}
		answer, err := f(ctx, body)
		if err != nil {
			return nil, err
		}
		return l.Key.wrap("answer "+m.ID, answer), nil
	})
	l.Bus.Serve(topic, ep)
}

// purpose is what a sealed body is good for. The node of a keyed message is found by the bus.
func purpose(m *bus.Message) string {
	to := "@" + m.Node
	if m.Key != "" {
		to = "#" + m.Key
	}
	return strings.Join([]string{"call", m.ID, m.Topic, m.Method, to}, " ")
}
