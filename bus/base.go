package bus

import (
	"context"
	"encoding/json"
)

const baseNamespace = "drover.base"

// Pong is what ping answers.
type Pong struct {
	Node        string          `json:"node"`
	Incarnation int64           `json:"incarnation"`
	Arg         json.RawMessage `json:"arg,omitempty"`
}

// base answers what every topic serves, without a worker.
func (b *Bus) base(t *topic, r *request) error {
	if r.m.Wire.Kind != KindCall {
		return nil
	}
	var answer any
	switch r.m.Method {
	case "ping":
		p := Pong{Node: b.node, Incarnation: b.inc}
		if json.Valid(r.m.Body) {
			p.Arg = r.m.Body
		}
		answer = p
	case "describe":
		answer = t.describe()
	default:
		return b.refuse(r.m, &DispatchError{r.m.Topic, r.m.Namespace, r.m.Method, r.m.Version, true})
	}
	body, failure := b.written(answer)
	b.reply(r.m, body, failure, r.deadline)
	return nil
}

// written is v as a reply.
func (b *Bus) written(v any) (body []byte, failure string) {
	body, err := json.Marshal(v)
	if err != nil || len(body) > b.cfg.MaxBody {
		return nil, wireError{Code: CodeTooLarge, Node: b.node, Text: "the answer is too large"}.json()
	}
	return body, ""
}

// Ping asks whoever to names: compute (any one), compute@n1, compute#key. It needs no worker there.
func Ping(ctx context.Context, b *Bus, to string, opts ...CallOption) (Pong, error) {
	m, err := ParseTo(to)
	if err != nil {
		return Pong{}, err
	}
	m.Namespace, m.Method = baseNamespace, "ping"
	var p Pong
	body, err := b.Call(ctx, m, opts...)
	if err == nil {
		if err := json.Unmarshal(body, &p); err != nil {
			return p, invalid("ping: %v", err)
		}
	}
	return p, err
}
