package server

import (
	"context"
	"slices"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/servicegroup"
)

const consoleTopic = "console"

// nodes are the other nodes' consoles, over the bus.
type nodes struct{ s *Server }

// Others are those that are not known to be down.
func (n nodes) Others(context.Context) (names []string, err error) {
	v := n.s.members.View()
	for _, ms := range [][]servicegroup.Member{v.Up, v.Unknown} {
		for i := range ms {
			if name := nodeName(&ms[i]); name != n.s.env.Node {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// Ask calls that node.
func (n nodes) Ask(ctx context.Context, node string, question []byte) ([]byte, error) {
	return n.s.link.Call(ctx, &bus.Message{Topic: consoleTopic, Method: "ask", Node: node, Body: question})
}
