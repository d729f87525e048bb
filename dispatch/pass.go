package dispatch

import (
	"context"
	"strings"
)

// pass is what the stages of one dispatch share; it travels in the context and is gone afterwards.
type pass struct {
	reg       *Registry
	cmd       *command
	caller    any
	values    values
	entities  []Entity
	executing bool
	ran       bool   // the stages are through, f was reached
	entity    string // in the job: what create made
	caps      map[string]bool
}

type passKey struct{}

func passOf(ctx context.Context) *pass {
	p, _ := ctx.Value(passKey{}).(*pass)
	return p
}

// need is passOf for stages, which make sense only inside a Registry's Dispatch.
func need(ctx context.Context, stage string) (*pass, error) {
	if p := passOf(ctx); p != nil {
		return p, nil
	}
	return nil, Errorf(Internal, "dispatch: stage %s outside of a Registry", stage)
}

// Executing tells whether this is the pass in the job, in which stages and f run for the second time.
func Executing(ctx context.Context) bool {
	p := passOf(ctx)
	return p != nil && p.executing
}

// Caller is who dispatched the command: in a job, who submitted it, as Registry.Restore gives it today.
func Caller(ctx context.Context) any {
	if p := passOf(ctx); p != nil {
		return p.caller
	}
	return nil
}

// EntityID is, in the job of an async-create command, the entity that create made; else "".
func EntityID(ctx context.Context) string {
	if p := passOf(ctx); p != nil {
		return p.entity
	}
	return ""
}

// EntitiesOf lists what the command touches: ids of parameters tagged entity=, and those of its Entities method.
func EntitiesOf(ctx context.Context) []Entity {
	if p := passOf(ctx); p != nil {
		return p.entities
	}
	return nil
}

// roles are the caller's, from the identity's well-known key.
func (p *pass) roles() map[string]bool {
	if p.caps == nil {
		p.caps = map[string]bool{}
		id, _ := p.reg.identify(p.caller)
		for r := range strings.SplitSeq(id["roles"], ",") {
			if r = strings.TrimSpace(r); r != "" {
				p.caps[r] = true
			}
		}
	}
	return p.caps
}

// allowed tells whether the caller has one of the roles.
func (p *pass) allowed(roles []string) bool {
	if len(roles) == 0 {
		return true
	}
	have := p.roles()
	for _, r := range roles {
		if have[r] {
			return true
		}
	}
	return false
}
