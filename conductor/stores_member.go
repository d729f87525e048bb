package conductor

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/drover-cloud/drover/servicegroup"
)

// The methods of membership: each is a call of its own, which may be repeated.
const (
	callJoin    = "join"
	callBeat    = "beat"
	callLeave   = "leave"
	callMembers = "members"
)

// memberArgs are those of all four.
type memberArgs struct {
	Member servicegroup.Member
	Group  string
}

type members struct{ c *Client }

var _ servicegroup.Driver = members{}

func (m members) call(ctx context.Context, method string, a memberArgs, to any) error {
	raw, err := encode(a)
	if err != nil {
		return err
	}
	rep, err := m.c.call(ctx, m.c.live, spaceMember, method, request{Ops: []op{{Args: raw}}})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", servicegroup.ErrUnavailable, err)
	case rep.Err != nil:
		return rep.Err.read()
	case to == nil:
		return nil
	case len(rep.Results) != 1:
		return fmt.Errorf("%w: %d results", errInvalid, len(rep.Results))
	}
	return decode(rep.Results[0].Value, to, false)
}

func (m members) Join(ctx context.Context, who servicegroup.Member) (got servicegroup.Member, err error) {
	err = m.call(ctx, callJoin, memberArgs{Member: who}, &got)
	return got, err
}

func (m members) Beat(ctx context.Context, who servicegroup.Member) error {
	return m.call(ctx, callBeat, memberArgs{Member: who}, nil)
}

func (m members) Leave(ctx context.Context, who servicegroup.Member) error {
	return m.call(ctx, callLeave, memberArgs{Member: who}, nil)
}

func (m members) Members(ctx context.Context, group string) (got []servicegroup.Member, err error) {
	err = m.call(ctx, callMembers, memberArgs{Group: group}, &got)
	return got, err
}

// doMember is the server's side.
func doMember(ctx context.Context, d servicegroup.Driver, g *grant, method string, raw json.RawMessage) (any, error) {
	var a memberArgs
	if err := decode(raw, &a, true); err != nil {
		return nil, err
	}
	if err := g.member(method, &a); err != nil {
		return nil, err
	}
	switch method {
	case callJoin:
		return d.Join(ctx, a.Member)
	case callBeat:
		return nil, d.Beat(ctx, a.Member)
	case callLeave:
		return nil, d.Leave(ctx, a.Member)
	}
	return d.Members(ctx, a.Group)
}
