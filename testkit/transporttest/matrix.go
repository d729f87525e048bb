package transporttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/bus"
)

// ask is one message of the matrix, and who must run it: all of these, or one of them.
type ask struct {
	m    *bus.Message
	call bool
	all  []string
	one  bool
}

// matrix sends one message of each form into each of two networks of the same names: {network} × {topic} × {any one, node a, node b,
// fanout} × {call, cast} × {one, two endpoints}. Each runs where it is addressed, and nowhere else.
func matrix(r *rig) {
	var ran list
	nets := []string{"p", "q"}
	clients := map[string]*node{}
	for i, p := range nets {
		x := r
		if i > 0 {
			x = r.another()
		}
		for _, name := range []string{"a", "b"} {
			x.start(name, nil, func(b *bus.Bus) {
				for _, topic := range []string{"t1", "t2"} {
					for _, ns := range spaces(topic) {
						ep := &bus.Endpoint{Namespace: ns}
						bus.HandleFunc(ep, "handle", func(_ context.Context, m *bus.Message) ([]byte, error) {
							ran.add("%s", string(m.Body)+" at "+p+"/"+name+"/"+topic+"/"+ns)
							return []byte(name), nil
						})
						b.Serve(topic, ep)
					}
				}
			})
		}
		clients[p] = x.start("client", nil)
	}
	var want []string
	once := map[string][]string{}
	for _, p := range nets {
		for _, x := range asks(p) {
			var err error
			if x.call {
				_, err = clients[p].Call(context.Background(), x.m)
			} else {
				err = clients[p].Cast(context.Background(), x.m)
			}
			if x.call && x.m.Fanout {
				r.is(err, bus.ErrInvalid)
				continue
			}
			if err != nil {
				r.Errorf("%s: %v", x.m.Body, err)
			}
			if x.one {
				once[string(x.m.Body)] = x.all
				continue
			}
			for _, at := range x.all {
				want = append(want, string(x.m.Body)+" at "+at)
			}
		}
	}
	r.eventually(5*time.Second, "all arrive", func() bool { return len(ran.all()) >= len(want)+len(once) })
	r.settle()
	left := ran.all()
	for _, s := range want {
		i := slices.Index(left, s)
		if i < 0 {
			r.Errorf("missing: %s", s)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, body := range slices.Sorted(maps.Keys(once)) {
		i := slices.IndexFunc(left, func(s string) bool {
			return slices.ContainsFunc(once[body], func(at string) bool { return s == body+" at "+at })
		})
		if i < 0 {
			r.Errorf("missing: %s at one of %v", body, once[body])
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		r.Errorf("leaked, or ran twice: %v", left)
	}
}

// spaces are the namespaces of a topic: t1 has one endpoint, t2 has two.
func spaces(topic string) []string {
	if topic == "t1" {
		return []string{""}
	}
	return []string{"", "ns"}
}

func asks(net string) (out []ask) {
	for _, topic := range []string{"t1", "t2"} {
		for _, ns := range spaces(topic) {
			for _, to := range []string{"", "a", "b", "*"} {
				for _, call := range []bool{false, true} {
					x := ask{m: &bus.Message{Topic: topic, Namespace: ns, Node: to}, call: call, one: to == ""}
					if to == "*" {
						x.m.Node, x.m.Fanout = "", true
					}
					x.m.Body = []byte(fmt.Sprintf("%s/%s/%s to %q call %v", net, topic, ns, to, call))
					for _, name := range []string{"a", "b"} {
						if to == "" || to == "*" || to == name {
							x.all = append(x.all, net+"/"+name+"/"+topic+"/"+ns)
						}
					}
					out = append(out, x)
				}
			}
		}
	}
	return out
}
