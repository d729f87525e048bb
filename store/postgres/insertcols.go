package postgres

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
)

// skip turns on the clauses that leave out ids in use.
func skip(q string) string {
	return strings.NewReplacer("/*skip", "", "skip*/", "").Replace(q)
}

// cols are the arguments of sqlInsert.
type cols struct {
	id, queue, kind, print                                         []string
	key, args, parent, root, retry, name, account, res, idem, uniq []*string
	identity                                                       []*string
	prio, bits, attempts, flags                                    []int64
	timeout                                                        []int64
	at, deadline                                                   []*time.Time
}

func columns(rows []job.Row, todo []int) *cols {
	c := &cols{}
	for _, i := range todo {
		c.add(&rows[i])
	}
	return c
}

func (c *cols) add(r *job.Row) {
	bits, root := r.Depth<<depthShift, r.Root
	if r.Detached {
		bits |= bitDetached
	}
	if root == r.ID {
		bits, root = bits|bitRootSelf, ""
	}
	flags := int64(r.Flags)
	if r.Unique != "" {
		flags |= flagUnique
	}
	var identity *string
	if len(r.Identity) > 0 {
		b, _ := json.Marshal(r.Identity) // strings only: cannot fail
		identity = nullJSON(b)
	}
	c.id, c.queue, c.kind, c.print = append(c.id, r.ID), append(c.queue, r.Queue), append(c.kind, r.Kind), append(c.print, r.Print)
	c.key, c.args = append(c.key, nullText(keyText(r.Sync))), append(c.args, nullJSON(r.Args))
	c.parent, c.root, c.retry = append(c.parent, nullText(r.Parent)), append(c.root, nullText(root)), append(c.retry, nullText(r.RetryOf))
	c.name, c.account, c.res = append(c.name, nullText(r.Name)), append(c.account, nullText(r.Account)), append(c.res, nullText(r.Resource))
	c.idem, c.uniq, c.identity = append(c.idem, nullText(r.Idem)), append(c.uniq, nullText(r.Unique)), append(c.identity, identity)
	c.prio, c.bits, c.attempts = append(c.prio, int64(r.Priority)), append(c.bits, int64(bits)), append(c.attempts, int64(r.MaxAttempts))
	c.flags, c.timeout = append(c.flags, flags), append(c.timeout, int64(r.Timeout))
	c.at, c.deadline = append(c.at, nullTime(r.RunAt)), append(c.deadline, nullTime(r.Deadline))
}

func (c *cols) all() []any {
	return []any{c.id, c.queue, c.kind, c.key, c.prio, c.at, c.args, c.bits, c.attempts, c.timeout, c.print,
		c.deadline, c.parent, c.root, c.retry, c.name, c.account, c.res, c.idem, c.uniq, c.identity, c.flags}
}

func (c *cols) one() []any {
	return []any{c.id[0], c.queue[0], c.kind[0], c.key[0], c.prio[0], c.at[0], c.args[0], c.bits[0], c.attempts[0], c.timeout[0], c.print[0],
		c.deadline[0], c.parent[0], c.root[0], c.retry[0], c.name[0], c.account[0], c.res[0], c.idem[0], c.uniq[0], c.identity[0], c.flags[0]}
}

// alike tells whether rows have no key and differ in nothing that is stored but id and args.
func alike(rows []job.Row, todo []int) bool {
	a := &rows[todo[0]]
	for _, i := range todo {
		b := &rows[i]
		if b.Sync.Kind != "" || b.Queue != a.Queue || b.Kind != a.Kind || b.Priority != a.Priority || b.MaxAttempts != a.MaxAttempts || b.Timeout != a.Timeout ||
			b.Detached != a.Detached || b.Depth != a.Depth || b.Flags != a.Flags || b.Print != a.Print || !b.RunAt.Equal(a.RunAt) || !b.Deadline.Equal(a.Deadline) ||
			b.Parent != a.Parent || (b.Root == b.ID) != (a.Root == a.ID) || b.Root != b.ID && b.Root != a.Root || b.RetryOf != a.RetryOf || b.Name != a.Name ||
			b.Account != a.Account || b.Resource != a.Resource || b.Idem != a.Idem || b.Unique != a.Unique || !maps.Equal(b.Identity, a.Identity) {
			return false
		}
	}
	return true
}

// columnsAlike are the arguments of sqlInsertSame.
func columnsAlike(rows []job.Row, todo []int) []any {
	ids, args := make([]uuid, len(todo)), make([]*string, len(todo))
	for k, i := range todo {
		ids[k], args[k] = asUUID(rows[i].ID), nullJSON(rows[i].Args)
	}
	c := columns(rows, todo[:1])
	return []any{ids, c.queue[0], c.kind[0], c.prio[0], c.at[0], args, c.bits[0], c.attempts[0], c.timeout[0], c.print[0],
		c.deadline[0], c.parent[0], c.root[0], c.retry[0], c.name[0], c.account[0], c.res[0], c.idem[0], c.uniq[0], c.identity[0], c.flags[0]}
}
