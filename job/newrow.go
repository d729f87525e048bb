package job

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"

	"github.com/drover-cloud/drover/syncqueue"
)

// row makes what is to be stored, without what the transaction decides.
func (s *submission) row(ctx context.Context, r *Request, trace string) (Row, error) {
	if err := r.check(); err != nil {
		return Row{}, err
	}
	k, err := s.m.kindOf(r)
	if err != nil {
		return Row{}, err
	}
	if r.Sync != (syncqueue.Key{}) && !s.m.keyed {
		return Row{}, invalid("Sync", "the store takes no turns")
	}
	most := s.m.cfg.MaxArgs
	if r.roomy {
		most = maxBytes
	}
	args, err := encodeArgs(r.Args, most)
	if err != nil {
		return Row{}, err
	}
	row := Row{Job: Job{
		ID: r.ID, Kind: k.name, Queue: cmp.Or(r.Queue, k.opt.queue), Name: r.Name, Parent: r.Parent, Args: args,
		MaxAttempts: cmp.Or(r.MaxAttempts, k.opt.attempts), Sync: r.Sync, Priority: cmp.Or(r.Priority, k.opt.priority),
		Identity: maps.Clone(r.Identity), Resource: r.Resource,
		RunAt: micro(r.RunAt), Deadline: micro(r.Deadline),
	}}
	row.Idem, row.Unique, row.Detached = r.Idem, r.Unique, r.Detached
	row.Timeout = max(0, cmp.Or(r.Timeout, k.opt.timeout)) // NoTimeout is stored as none
	if k.opt.unwinds {
		row.Flags |= Unwinder
	}
	if k.opt.locked {
		row.Flags |= Locked
	}
	if err := s.inherit(&row); err != nil {
		return Row{}, err
	}
	row.Account = row.Identity["account"]
	if trace != "" {
		row.Identity = with(row.Identity, traceKey, trace)
	}
	if r.ID != "" || r.Idem != "" || r.Unique != "" {
		row.Print = cmp.Or(r.Fingerprint, print(&row))
	}
	row.Args, err = s.m.seal(ctx, k, row.Args)
	return row, err
}

// inherit takes over what a child has from the running job.
func (s *submission) inherit(row *Row) error {
	p := s.parent
	if p == nil || row.Detached || row.Parent != "" && row.Parent != p.row.ID {
		if row.Name != "" && row.Parent == "" {
			return invalid("Name", "needs a parent")
		}
		return nil
	}
	row.Parent, row.Root, row.ParentEpoch = p.row.ID, p.row.Root, p.row.Epoch
	row.Depth = p.row.Depth + 1
	for k, v := range p.row.Identity {
		if _, own := row.Identity[k]; !own {
			row.Identity = with(row.Identity, k, v)
		}
	}
	return row.below(p.row.Deadline)
}

// below bounds the row by its parent.
func (r *Row) below(deadline time.Time) error {
	if r.Depth > maxDepth {
		return invalid("Parent", "the job would be %d generations deep, most are %d", r.Depth, maxDepth)
	}
	if r.Deadline.IsZero() || !deadline.IsZero() && deadline.Before(r.Deadline) {
		r.Deadline = deadline
	}
	return nil
}

// print is the default fingerprint: account, kind, key, parent and args.
func print(r *Row) string {
	h := sha256.New()
	for _, s := range []string{r.Account, r.Kind, r.Sync.Kind, r.Sync.ID, r.Parent} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	h.Write(canonical(r.Args))
	return hex.EncodeToString(h.Sum(nil))
}

// canonical sorts the keys of objects, so that two encoders of one value agree, a database that keeps JSON its own way
// included.
func canonical(raw json.RawMessage) []byte {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return raw
	}
	b, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return b
}

// public is the job without what only the manager sees.
func (r *Row) public() *Job {
	j := r.Job
	if span, ok := j.Identity[traceKey]; ok {
		if sc := remoteSpan(span); sc.IsValid() {
			j.Trace = sc.TraceID().String()
		}
		j.Identity = maps.Clone(j.Identity)
		delete(j.Identity, traceKey)
	}
	return &j
}

// own is public of a row that belongs to nobody else.
func (r *Row) own() *Job {
	if _, ok := r.Identity[traceKey]; ok {
		return r.public()
	}
	return &r.Job
}

func with(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

// micro is t as every store keeps it.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.Round(0).UTC().Truncate(time.Microsecond)
}
