package dispatch

import "context"

// Page is the answer of a List command.
type Page[R any] struct {
	Items []R
	Total int                   // all matches, not only those on the page
	Next  string                // cursor, "" on the last page
	Jobs  map[string]PendingJob // by the item's Resource(): its oldest live job
}

// PendingJob is a live job of a listed item.
type PendingJob struct{ JobID, State, Command string }

const annotateBatch = 500

// annotate finds the oldest live job of each item that has a Resource; jobs of other accounts are left out, unless the
// caller's roles have admin.
func annotate[R any](ctx context.Context, r *Registry, items []R) map[string]PendingJob {
	var resources []string
	for _, item := range items {
		if x, ok := any(item).(interface{ Resource() string }); ok {
			resources = append(resources, x.Resource())
		}
	}
	p := passOf(ctx)
	account := ""
	if id, err := r.identify(p.caller); err == nil && !p.roles()["admin"] {
		account = id["account"]
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
	const prefix = "cmd."
	if len(kind) <= len(prefix) || kind[:len(prefix)] != prefix {
		return kind
	}
	kind = kind[len(prefix):]
	for i := range len(kind) {
		if kind[i] == '@' {
			return kind[:i]
		}
	}
	return kind
}
