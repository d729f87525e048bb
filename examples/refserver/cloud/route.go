package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
)

// A command on a machine is taken, checked and then handed to the node that owns the machine by the ring of the members: that one
// makes the job, and hears of it first. This places work; that jobs of one machine exclude each other is their turns' doing. So
// the node that was asked makes the job itself if the owner cannot be reached. If nobody knows whether the owner has made it,
// the job's id, which was drawn before, keeps it from being made twice.

const (
	commandTopic = "command"
	commandTime  = 10 * time.Second // for making a job
)

// routed is a command on its way to the owner of its machine.
type routed struct {
	Name, Version string
	Params        map[string]string
	Identity      map[string]string
	JobID, Idem   string
}

// routedAnswer is what became of it: a job, or an error.
type routedAnswer struct {
	Job   dispatch.Accepted
	Error *dispatch.Error `json:",omitempty"`
}

// RingKey is what a machine is called on the ring.
func RingKey(vm string) string { return "vm/" + vm }

// Connect has commands routed over l; call it before Registry.
func (c *Cloud) Connect(l *Link) {
	c.link = l
	l.Handle(commandTopic, "dispatch", c.dispatchRouted)
}

// route is the stage that hands a command on. It is behind all checks: whoever is refused, is refused here.
func (c *Cloud) route(next dispatch.Handler) dispatch.Handler {
	return dispatch.HandlerFunc(func(ctx context.Context, cmd *dispatch.Command) (any, error) {
		key := c.routeOf(ctx, cmd)
		if key == "" {
			return next.Dispatch(ctx, cmd)
		}
		drawn := cmd.JobID == "" && cmd.Idem == ""
		if drawn {
			cmd.JobID = c.env.NewID()
		}
		answer, err := c.atOwner(ctx, key, cmd, next)
		if a, made := answer.(dispatch.Accepted); made && drawn {
			a.Replayed = false // it was made again, but not asked for again
			answer = a
		}
		return answer, err
	})
}

// atOwner dispatches at the owner, or else here.
func (c *Cloud) atOwner(ctx context.Context, key string, cmd *dispatch.Command, here dispatch.Handler) (any, error) {
	for range 2 { // the second time it is who the ring has made the owner meanwhile
		if c.owns(key) {
			break
		}
		a, err := c.askOwner(ctx, key, cmd)
		switch {
		case err == nil:
			return a, nil
		case ctx.Err() != nil || errors.As(err, new(*dispatch.Error)):
			return nil, err
		}
		c.env.Logger.WarnContext(ctx, "cloud: the owner of a machine has not taken a command", "command", cmd.Name, "machine", key, "job", cmd.JobID, "err", err)
		if !bus.Unknown(err) {
			break
		}
	}
	return here.Dispatch(ctx, cmd)
}

// routeOf is the ring's key of the machine that an async command is about; "": it is dispatched here.
func (c *Cloud) routeOf(ctx context.Context, cmd *dispatch.Command) (key string) {
	if _, child := job.FromContext(ctx); child || c.link == nil || ctx.Value(routedKey{}) != nil || !c.async()[cmd.Name] {
		return ""
	}
	for _, e := range dispatch.EntitiesOf(ctx) {
		if e.Type == "virtualmachine" && key == "" {
			key = RingKey(e.ID)
		}
	}
	return key
}

// owns tells whether this node owns the key, or nobody is known who does.
func (c *Cloud) owns(key string) bool {
	owner, ok := c.link.Members.View().Ring.Owner(key)
	return !ok || owner == c.env.Node
}

func (c *Cloud) askOwner(ctx context.Context, key string, cmd *dispatch.Command) (made dispatch.Accepted, err error) {
	body, err := json.Marshal(routed{cmd.Name, cmd.Version, cmd.Params, CallerOf(ctx).Identity(), cmd.JobID, cmd.Idem})
	if err != nil {
		return made, err
	}
	body, err = c.link.Call(ctx, &bus.Message{Topic: commandTopic, Method: "dispatch", Key: key, Body: body}, bus.Timeout(commandTime))
	var a routedAnswer
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err == nil && a.Error != nil {
		err = a.Error
	}
	if dispatch.CodeOf(err) == dispatch.Draining { // there, not here
		err = errors.New(err.Error())
	}
	return a.Job, err
}

type routedKey struct{}

// dispatchRouted is the owner's side.
func (c *Cloud) dispatchRouted(ctx context.Context, body []byte) ([]byte, error) {
	var r routed
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, err
	}
	caller, err := c.restore(ctx, r.Identity)
	var made any
	if err == nil {
		made, err = c.registry.Dispatch(context.WithValue(ctx, routedKey{}, true), &dispatch.Command{
			Name: r.Name, Version: r.Version, Params: r.Params, Caller: caller, JobID: r.JobID, Idem: r.Idem,
		})
	}
	a := routedAnswer{Error: dispatch.Public(err, true)}
	a.Job, _ = made.(dispatch.Accepted)
	return json.Marshal(a)
}
