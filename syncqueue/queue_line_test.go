package syncqueue_test

import (
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// line shows a key: holders in brackets, then waiters.
func (c *cluster) line(k syncqueue.Key, js []*job.Job) (out []string) {
	c.t.Helper()
	items, err := c.q.List(c.t.Context(), k)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, it := range items {
		n := slices.IndexFunc(js, func(j *job.Job) bool { return j.ID == it.Content })
		if it.Since.IsZero() {
			out = append(out, fmt.Sprint(n+1))
		} else {
			out = append(out, fmt.Sprintf("[%d]", n+1))
		}
	}
	return out
}

// lineIs waits for a line.
func (c *cluster) lineIs(k syncqueue.Key, js []*job.Job, want ...string) {
	c.t.Helper()
	var got []string
	c.until(fmt.Sprintf("line %v", want), func() bool {
		got = c.line(k, js)
		return slices.Equal(got, want)
	}, func() any { return got })
}
