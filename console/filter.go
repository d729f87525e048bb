package console

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// filters are the parameters that select jobs, in the API and in the page's address.
var filters = []string{
	"state", "kind", "pool", "key", "resource", "parent", "root", "node", "account", "created_after", "created_before",
	"finished_after", "finished_before", "longer", "q", "id", "text", "sort", "limit", "after",
}

var (
	liveStates  = []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked}
	finalStates = []job.State{job.Succeeded, job.Failed, job.Cancelled}
	allStates   = append(append([]job.State{}, liveStates...), finalStates...)
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	pageOfStore  = 500 // of job.Query
)

// queryOf reads the filters. An account of the principal wins over one asked for.
func queryOf(v url.Values, p Principal) (q job.Query, limit int, err error) {
	limit = defaultLimit
	for _, name := range sortedKeys(v) {
		for _, s := range v[name] {
			if s == "" {
				continue
			}
			if err := setFilter(&q, &limit, name, s); err != nil {
				return q, 0, bad(fmt.Sprintf("%s: %v", name, err))
			}
		}
	}
	if len(q.States) == 0 && q.Ended != (job.Range{}) {
		q.States = finalStates
	}
	if p.Account != "" {
		q.Account = p.Account
	}
	q.Limit = min(limit, pageOfStore)
	return q, limit, nil
}

func setFilter(q *job.Query, limit *int, name, s string) (err error) {
	switch name {
	case "state":
		q.States, err = addStates(q.States, s)
	case "kind":
		q.Kinds = append(q.Kinds, s)
	case "pool":
		q.Queues = append(q.Queues, s)
	case "key":
		q.Key, err = parseKey(s)
	case "resource":
		q.Resource = s
	case "parent":
		q.Parent = s
	case "root":
		q.Root = s
	case "node":
		q.Session = s
	case "account":
		q.Account = s
	case "created_after":
		q.Created.From, err = instant(s)
	case "created_before":
		q.Created.To, err = instant(s)
	case "finished_after":
		q.Ended.From, err = instant(s)
	case "finished_before":
		q.Ended.To, err = instant(s)
	case "longer":
		if q.Older, err = time.ParseDuration(s); err == nil && q.Older <= 0 {
			err = fmt.Errorf("%q is not positive", s)
		}
	case "q":
		search(q, s)
	case "id": // or the end of one
		q.Suffix = strings.ToLower(s)
	case "text":
		q.Text = s
	case "sort":
		if q.Newest = s == "-created"; s != "created" && !q.Newest {
			err = fmt.Errorf("%q: must be created or -created", s)
		}
	case "limit":
		if *limit, err = strconv.Atoi(s); err != nil || *limit < 1 || *limit > maxLimit {
			err = fmt.Errorf("%q: must be 1 to %d", s, maxLimit)
		}
	case "after":
		q.After = s
	default:
		err = fmt.Errorf("no such filter; there are: %s", strings.Join(filters, ", "))
	}
	return err
}

func addStates(states []job.State, s string) ([]job.State, error) {
	for one := range strings.SplitSeq(s, ",") {
		switch one {
		case "live":
			states = append(states, liveStates...)
		case "final":
			states = append(states, finalStates...)
		case "all":
			states = append(states, allStates...)
		default:
			known := false
			for _, st := range allStates {
				known = known || string(st) == one
			}
			if !known {
				return nil, fmt.Errorf("%q is no state", one)
			}
			states = append(states, job.State(one))
		}
	}
	return states, nil
}

// search: what looks like an id, or the end of one, is looked for at the end of ids (which begin with the time), anything else
// in texts.
func search(q *job.Query, s string) {
	s = strings.TrimSpace(s)
	hex := strings.Trim(strings.ToLower(s), "0123456789abcdef-") == ""
	if hex && len(s) >= 6 && len(s) <= 36 && strings.ContainsAny(s, "0123456789") {
		q.Suffix = strings.ToLower(s)
		return
	}
	q.Text = s
}

func instant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q: must be an instant like 2026-01-02T15:04:05Z", s)
	}
	return t, nil
}

func parseKey(s string) (syncqueue.Key, error) {
	kind, id, found := strings.Cut(s, "/")
	k := syncqueue.Key{Kind: kind, ID: id}
	if !found || kind == "" || id == "" {
		return k, fmt.Errorf("%q: must be kind/id", s)
	}
	return k, k.Validate()
}
