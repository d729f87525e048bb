package agent

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/drover-cloud/drover/internal/alarm"
)

// forgetAfter is how long a result that nobody has asked for is kept, and how long that a task has ended.
const forgetAfter = 10 * time.Minute

// entry is a task that this node waits for. Exactly one finisher gives it its result.
type entry struct {
	alarm.Alarm
	c        *Client
	task     Task
	url      *url.URL
	key      [32]byte
	began    time.Time
	deadline time.Time
	ctx      context.Context // ends with the result
	end      context.CancelFunc

	// Guarded by Client.tab.
	waiters  int
	started  bool // its result is kept until somebody has waited for it
	flying   int  // requests under way
	sent     bool // the agent may have been reached
	accepted bool
	secret   string // what key is the hash of; "" if the task was sent elsewhere, or need not be sent any more
	agent    string // boot id of who accepted it
	next     time.Time
	ended    bool
	res      result
}

// enter joins the entry of a task, or makes one; the caller leaves it in the end.
func (c *Client) enter(task Task, make func(e *entry)) (e *entry, joined bool) {
	c.tab.Lock()
	defer c.tab.Unlock()
	if e = c.tasks[task]; e != nil && !e.ended {
		e.waiters++
		return e, true
	}
	e = &entry{c: c, task: task, waiters: 1, began: c.env.Clock.Now()}
	make(e)
	e.Owner = e
	e.ctx, e.end = context.WithCancel(context.Background())
	c.tasks[task] = e
	c.open++
	c.past.forget(task)
	c.alarms.Set(&e.Alarm, e.deadline)
	return e, false
}

// entry is what is outstanding or kept of a task; nil: nothing.
func (c *Client) entry(task Task) *entry {
	c.tab.Lock()
	defer c.tab.Unlock()
	return c.tasks[task]
}

// outstanding lists tasks without a result, sorted.
func (c *Client) outstanding() (tasks []string) {
	c.tab.Lock()
	defer c.tab.Unlock()
	for _, e := range c.tasks {
		if !e.ended {
			tasks = append(tasks, string(e.task))
		}
	}
	slices.Sort(tasks)
	return tasks
}

// finish gives e its result; false if it has one, and this one is dropped.
func (c *Client) finish(e *entry, r result) bool {
	c.tab.Lock()
	if e.ended {
		c.dropped++
		c.tab.Unlock()
		return false
	}
	e.ended, e.res = true, r
	c.open--
	c.past.add(e.task, e.key, c.env.Clock.Now())
	if e.started {
		c.alarms.Set(&e.Alarm, e.deadline.Add(forgetAfter))
	} else {
		c.alarms.Unset(&e.Alarm)
		c.remove(e)
	}
	c.tab.Unlock()
	e.end()
	c.stir()
	return true
}

// remove takes e out of the table, unless another has its place. The caller holds c.tab.
func (c *Client) remove(e *entry) {
	if c.tasks[e.task] == e {
		delete(c.tasks, e.task)
	}
}

// leave is a caller's end of waiting, claimed: with the result; last says that nobody waits for one that is still to come.
func (e *entry) leave(claimed bool) (last bool) {
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	e.waiters--
	if e.ended && claimed {
		e.c.alarms.Unset(&e.Alarm)
		e.c.remove(e)
	}
	return e.waiters == 0 && !e.ended && !e.started
}

// keepResult makes e one whose result is kept for a Wait, or no more.
func (e *entry) keepResult(on bool) {
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	e.started = on
}

// toSend is the key to send the task with; "" if it need not be sent.
func (e *entry) toSend() string {
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	return e.secret
}

// host is where e's exchanges go to.
func (e *entry) host() string { return origin(e.url) }

// result is that of an entry that has ended.
func (e *entry) result() result {
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	return e.res
}

// flies and landed are around a request: while it is under way, and after it unless it surely reached nobody, the agent may have
// the task.
func (e *entry) flies() {
	if e == nil {
		return
	}
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	e.flying++
}

func (e *entry) landed(arrived bool) {
	if e == nil {
		return
	}
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	e.flying--
	e.sent = e.sent || arrived
}

func (e *entry) reached() bool {
	e.c.tab.Lock()
	defer e.c.tab.Unlock()
	return e.sent || e.flying > 0
}

// accept notes that the agent with this boot id has the task, and begins the polling.
func (e *entry) accept(agent string) {
	c := e.c
	c.tab.Lock()
	defer c.tab.Unlock()
	e.accepted, e.sent, e.agent, e.secret = true, true, agent, ""
	if e.ended || c.cfg.Compat == ZStack {
		return
	}
	e.next = c.env.Clock.Now().Add(c.cfg.Poll)
	e.again()
}

// again sets the alarm for what comes next. The caller holds c.tab.
func (e *entry) again() {
	at := e.deadline
	if !e.next.IsZero() && e.next.Before(at) {
		at = e.next
	}
	e.c.alarms.Set(&e.Alarm, at)
}

// Fire is the deadline, the time to poll, or to forget a result that nobody asked for.
func (e *entry) Fire() {
	c := e.c
	now := c.env.Clock.Now()
	c.tab.Lock()
	if e.ended {
		c.remove(e)
		c.tab.Unlock()
		return
	}
	over, sent := !now.Before(e.deadline), e.sent || e.flying > 0
	if !over {
		e.next = now.Add(c.cfg.Poll)
		e.again()
	}
	c.tab.Unlock()
	switch {
	case !over:
		c.errands.add(e.host(), e.poll)
	case !sent:
		c.finish(e, result{err: errNoTime})
	case c.finish(e, result{err: errTimeout}):
		c.cancelLater(e)
	}
}

// poll asks the agent about a task that it has accepted.
func (e *entry) poll() {
	c := e.c
	ctx, cancel := context.WithTimeout(e.ctx, max(c.cfg.Poll, time.Second))
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	a, err := c.exchange(ctx, &question{method: http.MethodGet, url: taskURL(e.url, string(e.task)), host: e.host()})
	if err != nil {
		return
	}
	c.meters.polled.Add(ctx, 1)
	e.c.tab.Lock()
	agent := e.agent
	e.c.tab.Unlock()
	heard := agentOf(a.header)
	switch {
	case a.status == http.StatusNotFound, agent != "" && heard != "" && heard != agent:
		c.lost(ctx, e)
	case a.status == http.StatusOK:
		if env, ok := a.envelope(); ok && env.State == stateDone {
			c.reply(ctx, e, a.body)
		}
	}
}

// lost ends e, whose agent knows nothing of it, unless its result has come to another node.
func (c *Client) lost(ctx context.Context, e *entry) {
	if c.cfg.Pending != nil {
		if err := c.look(ctx, []string{string(e.task)}); err != nil {
			return
		}
	}
	if c.finish(e, result{err: ErrTaskLost}) {
		c.meters.lost.Add(ctx, 1)
		c.log.Warn("the agent has lost a task", "task", string(e.task), "host", e.url.Host, "path", e.url.Path)
	}
}

// reply gives e the agent's reply, by way of the store where there is one.
func (c *Client) reply(ctx context.Context, e *entry, body []byte) {
	r := parseResult(body)
	if len(r.body) > c.cfg.MaxBody {
		r, body = result{err: errTooLarge}, nil
	}
	if c.cfg.Pending != nil {
		v, stored, err := c.settle(ctx, e.task, "", storable(body))
		if err != nil {
			return // the next poll tries again
		}
		if v == late {
			r = stored
		}
	}
	c.finish(e, r)
}

// cancelLater tells the agent, within 5 s, that nobody waits any more.
func (c *Client) cancelLater(e *entry) {
	if c.cfg.Compat == ZStack {
		return
	}
	until := c.env.Clock.Now().Add(cancelWithin)
	c.errands.add(e.host(), func() {
		left := until.Sub(c.env.Clock.Now())
		if left <= 0 {
			return
		}
		ctx, cancel := context.WithTimeout(c.ctx, left)
		defer cancel()
		_, _ = c.exchange(ctx, e.cancelling()) // best effort
	})
}

const cancelWithin = 5 * time.Second

func (e *entry) cancelling() *question {
	return &question{method: http.MethodDelete, url: taskURL(e.url, string(e.task)), host: e.host()}
}

// past remembers tasks that have ended, with the hashes of their keys: at most 10 000, for 10 minutes.
type past struct {
	m     map[Task]ending
	order []ending
}

type ending struct {
	task Task
	key  [32]byte
	at   time.Time
}

const pastMost = 10_000

func (p *past) add(task Task, key [32]byte, now time.Time) {
	if p.m == nil {
		p.m = map[Task]ending{}
	}
	e := ending{task, key, now}
	p.m[task] = e
	p.order = append(p.order, e)
	for len(p.order) > pastMost || p.order[0].at.Before(now.Add(-forgetAfter)) {
		old := p.order[0]
		p.order = p.order[1:]
		if kept, ok := p.m[old.task]; ok && kept.at.Equal(old.at) {
			delete(p.m, old.task)
		}
	}
}

func (p *past) forget(task Task) { delete(p.m, task) }

func (p *past) get(task Task) (ending, bool) {
	e, ok := p.m[task]
	return e, ok
}
