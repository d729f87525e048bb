package dispatch

import (
	"context"
	"strings"
)

// Page is the answer of a List command.
type Page[R any] struct {
	Items []R                   `json:"items"`
	Total int                   `json:"total"`          // all matches, not only those on the page
	Next  string                `json:"next,omitempty"` // cursor, "" on the last page
	Jobs  map[string]PendingJob `json:"jobs,omitempty"` // by the item's Resource(): its oldest live job
}

// PendingJob is a live job of a listed item.
type PendingJob struct {
	JobID   string `json:"job_id"`
	State   string `json:"state"`
	Command string `json:"command"`
}

const annotateBatch = 500

// annotate finds the oldest live job of each item that has a Resource; jobs of other accounts are left out, unless the
// caller's roles have admin.
func annotate[R any](ctx context.Context, r *Registry, items []R) map[string]PendingJob {
	var resources []string
	for _, item := range items {
		if x, ok := any(item).(interface{ Resource() string }); ok && x.Resource() != "" {
			resources = append(resources, x.Resource())
		}
	}
	p := passOf(ctx)
	account := p.identity()["account"]
	if p.roles()["admin"] {
		account = ""
	}
	out := map[string]PendingJob{}
	for len(resources) > 0 {
		n := min(len(resources), annotateBatch)
		jobs, err := r.Jobs.ByResource(ctx, resources[:n])
		if err != nil {
			r.env().Logger.WarnContext(ctx, "list is answered without its jobs", "error", err)
			return nil
		}
		for res, j := range jobs {
			if account == "" || j.Identity["account"] == account {
				out[res] = PendingJob{JobID: j.ID, State: string(j.State), Command: commandOf(j.Kind)}
			}
		}
		resources = resources[n:]
	}
	return out
}

// commandOf is the command name in a job's kind, or the kind itself.
func commandOf(kind string) string {
	name, is := strings.CutPrefix(kind, "cmd.")
	if !is || name == "" {
		return kind
	}
	name, _, _ = strings.Cut(name, "@")
	return name
}
