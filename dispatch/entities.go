package dispatch

import (
	"context"
	"fmt"
	"reflect"
	"slices"
)

// note collects the entities that a bound field names.
func (b *binder) note(p *param, v reflect.Value, at int, prefix string) {
	if p.pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	add := func(field, id string) {
		if id != "" && id != "-1" {
			b.refs = append(b.refs, ref{at, p, prefix + field, id})
		}
	}
	if p.kind != kList {
		add(p.name, v.String())
		return
	}
	for i := range v.Len() {
		add(fmt.Sprintf("%s[%d]", p.name, i), v.Index(i).String())
	}
}

// lookup asks the host about the entities that parameters name, one call per type.
func (b *binder) lookup(ctx context.Context) error {
	p := b.pass
	ids := map[string][]string{}
	for _, r := range b.refs {
		if of := ids[r.p.entity]; !slices.Contains(of, r.id) {
			ids[r.p.entity] = append(of, r.id)
		}
	}
	found := map[string]map[string]Entity{}
	for _, r := range b.refs {
		typ := r.p.entity
		if _, asked := found[typ]; !asked && p.reg.Entities != nil {
			all, err := p.reg.Entities(ctx, typ, ids[typ])
			if err != nil {
				return err
			}
			found[typ] = all
		}
		e, ok := found[typ][r.id]
		if p.reg.Entities != nil && (!ok || e.Removed && !r.p.removed) {
			b.bad = append(b.bad, fault{r.at, &FieldError{Field: r.field, Reason: NoSuchEntity, Value: r.id}})
			continue
		}
		if e.ID == "" {
			e.Type, e.ID = typ, r.id
		}
		if e.Access == "" {
			e.Access = r.p.access
		}
		p.entities = append(p.entities, e)
	}
	return nil
}
