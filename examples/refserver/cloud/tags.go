package cloud

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/syncqueue"
)

type tagRow struct {
	bun.BaseModel `bun:"table:rs_tag"`
	Kind          string `bun:"kind"` // UserVm, Volume, Network or Template
	Resource      string `bun:"resource"`
	Key           string `bun:"name"`
	Value         string `bun:"value"`
	Account       string `bun:"account"` // id
}

// Tag is a tag as answers show it.
type Tag struct {
	Key          string `json:"key"`
	Value        string `json:"value"`
	ResourceID   string `json:"resourceid"`
	ResourceType string `json:"resourcetype"`
	Account      string `json:"account"`
	Domain       string `json:"domain"`
	DomainID     string `json:"domainid"`
}

// ObjectName is the key of a list of them.
func (Tag) ObjectName() string { return "tag" }

func (s *stock) showTags(rows []tagRow) []Tag {
	out := []Tag{}
	for _, r := range rows {
		a := s.account(r.Account)
		out = append(out, Tag{r.Key, r.Value, r.Resource, r.Kind, a.Name, a.Domain, a.DomainID})
	}
	return out
}

// tagsOf gives the tags of things, by thing, in order of their keys.
func tagsOf(ctx context.Context, q bun.IDB, ids ...string) (map[string][]tagRow, error) {
	out := map[string][]tagRow{}
	for part := range slices.Chunk(ids, 500) {
		var rows []tagRow
		err := q.NewSelect().Model(&rows).Where("resource IN (?)", bun.List(part)).OrderExpr("resource, name").Scan(ctx)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("cloud: tags: %w", err)
		}
		for _, r := range rows {
			out[r.Resource] = append(out[r.Resource], r)
		}
	}
	return out, nil
}

// tagged are the things that may have tags, by CloudStack's name of the kind: as an entity, the kind of their turns, and in jobs.
var tagged = map[string]struct{ entity, turn, resource string }{
	"UserVm": {"virtualmachine", "vm", "VirtualMachine"}, "Volume": {"volume", "volume", "Volume"},
	"Network": {"network", "network", "Network"}, "Template": {"template", "template", "Template"},
}

type createTags struct {
	Resources []dispatch.UUID   `param:"resourceids,required,entity=taggable"`
	Kind      string            `param:"resourcetype,required,oneof=UserVm|Volume|Network|Template"`
	Tags      map[string]string `param:"tags,required"`
}

type deleteTags struct {
	Resources []dispatch.UUID   `param:"resourceids,required,entity=taggable"`
	Kind      string            `param:"resourcetype,required,oneof=UserVm|Volume|Network|Template"`
	Tags      map[string]string `param:"tags" doc:"a value that is given must be the tag's; default all tags"`
}

// tagging is what both have in common.
type tagging interface {
	about() (kind string, ids []dispatch.UUID)
}

func (p createTags) about() (string, []dispatch.UUID) { return p.Kind, p.Resources }
func (p deleteTags) about() (string, []dispatch.UUID) { return p.Kind, p.Resources }

// tagJob registers a command on tags; its jobs take turns on the first thing they name.
func tagJob[P tagging](c *Cloud, name string, f func(context.Context, P) (Success, error), opts ...dispatch.Option) {
	first := func(p P) string { _, ids := p.about(); return string(slices.Min(ids)) }
	dispatch.Async(c.registry, c.jobs, name, nil, f, append([]dispatch.Option{
		dispatch.SyncKey(func(p P) syncqueue.Key {
			kind, _ := p.about()
			return syncqueue.Key{Kind: tagged[kind].turn, ID: first(p)}
		}),
		dispatch.ResourceOf(func(p P) string { kind, _ := p.about(); return csapi.ResourceOf(tagged[kind].resource, first(p)) }),
		takes(time.Minute),
	}, opts...)...)
}

// Success is the result of a job that made no object.
type Success struct {
	Success     bool   `json:"success"`
	DisplayText string `json:"displaytext,omitempty"`
}

func (c *Cloud) createTags(ctx context.Context, p createTags) (Success, error) {
	owners := map[dispatch.UUID]string{}
	for _, id := range p.Resources {
		owner, err := c.ownerOf(ctx, tagged[p.Kind].entity, string(id))
		if err != nil {
			return Success{}, err
		}
		owners[id] = cmp.Or(owner, CallerOf(ctx).AccountID)
	}
	return Success{true, "tags created"}, c.in(ctx, func(ctx context.Context, q *tx) error {
		for _, id := range p.Resources {
			for _, key := range slices.Sorted(maps.Keys(p.Tags)) {
				n, err := q.exec(ctx, `INSERT INTO rs_tag (kind, resource, name, value, account) VALUES (?, ?, ?, ?, ?) ON CONFLICT (resource, name) DO NOTHING`,
					p.Kind, string(id), key, p.Tags[key], owners[id])
				if err == nil && n == 0 {
					err = c.hasTag(ctx, q, string(id), key, p.Tags[key])
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// hasTag refuses a tag that is there with another value; the same one may be by an earlier run of this job.
func (c *Cloud) hasTag(ctx context.Context, q *tx, id, key, value string) error {
	n, err := q.NewSelect().Model((*tagRow)(nil)).Where("resource = ? AND name = ? AND value = ?", id, key, value).Count(ctx)
	if err == nil && n == 0 {
		return dispatch.Errorf(dispatch.WrongState, "tag %s of %s is there already, with another value", key, id)
	}
	return err
}

func (c *Cloud) deleteTags(ctx context.Context, p deleteTags) (Success, error) {
	return Success{true, "tags deleted"}, c.in(ctx, func(ctx context.Context, q *tx) error {
		for _, id := range p.Resources {
			if len(p.Tags) == 0 {
				if _, err := q.exec(ctx, `DELETE FROM rs_tag WHERE resource = ?`, string(id)); err != nil {
					return err
				}
			}
			for _, key := range slices.Sorted(maps.Keys(p.Tags)) {
				if _, err := q.exec(ctx, `DELETE FROM rs_tag WHERE resource = ? AND name = ? AND (? = '' OR value = ?)`, string(id), key, p.Tags[key], p.Tags[key]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

type listTags struct {
	csapi.Paging
	Key        string        `param:"key"`
	Value      string        `param:"value"`
	ResourceID dispatch.UUID `param:"resourceid,entity=taggable"`
	Kind       string        `param:"resourcetype,oneof=UserVm|Volume|Network|Template"`
	Keyword    string        `param:"keyword"`
}

func (c *Cloud) listTags(ctx context.Context, p listTags) (out dispatch.Page[Tag], err error) {
	var rows []tagRow
	me := CallerOf(ctx)
	out.Total, err = pageOf(ctx, p.Paging, func() *bun.SelectQuery {
		q := equals(c.bun.NewSelect().Model(&rows), map[string]string{
			"name": p.Key, "value": p.Value, "resource": string(p.ResourceID), "kind": p.Kind,
		})
		if !me.Admin {
			q = q.Where("account = ?", me.AccountID)
		}
		return like(q, p.Keyword, "name", "value")
	}, "resource, name", &rows)
	if err != nil {
		return out, err
	}
	out.Items = c.inv.now().showTags(rows)
	return out, nil
}
