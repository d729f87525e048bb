package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/periodic"
)

// Periodic is what the console needs of *[periodic.Set]: the tasks of this node.
type Periodic interface {
	Status() []periodic.Status
	Trigger(name string) error
	Enable(name string) error
	Disable(name string) error
}

func (c *Console) tasks() []jobjson.Task {
	ts := []jobjson.Task{}
	if c.cfg.Periodic == nil {
		return ts
	}
	for _, s := range c.cfg.Periodic.Status() {
		ts = append(ts, jobjson.TaskOf(s))
	}
	return ts
}

// steerTask does a verb on a task of this node.
func (c *Console) steerTask(verb, name string) (err error) {
	if c.cfg.Periodic == nil {
		return notFound("task " + name)
	}
	switch verb {
	case "trigger":
		err = c.cfg.Periodic.Trigger(name)
	case "enable":
		err = c.cfg.Periodic.Enable(name)
	case "disable":
		err = c.cfg.Periodic.Disable(name)
	default:
		return bad(fmt.Sprintf("%q cannot be done here", verb))
	}
	if errors.Is(err, periodic.ErrUnknown) {
		return &problem{Status: http.StatusNotFound, Code: "not-found", Detail: err.Error()}
	}
	return err
}

// tasksOf are the tasks by node. What belongs to no account is not told to one.
func (c *Console) tasksOf(ctx context.Context, fresh bool) ([]jobjson.Tasks, error) {
	if who(ctx).Account != "" {
		return []jobjson.Tasks{}, nil
	}
	facts, err := c.facts(ctx, fresh)
	if err != nil {
		return nil, err
	}
	out := make([]jobjson.Tasks, len(facts))
	for i, f := range facts {
		out[i] = jobjson.Tasks{Node: f.node, Items: f.Tasks}
		if f.err != nil {
			out[i].Error = noAnswer
		}
		if f.Tasks == nil {
			out[i].Items = []jobjson.Task{}
		}
	}
	return out, nil
}

// tasksObject is what /periodic answers.
type tasksObject struct {
	Items []jobjson.Tasks `json:"items"` // by node
	Alone bool            `json:"alone"` // only this node is known
}

func (c *Console) listTasks(r *http.Request) (*answer, error) {
	ts, err := c.tasksOf(r.Context(), true)
	if err != nil {
		return nil, err
	}
	return ok(tasksObject{ts, c.cfg.Nodes == nil})
}

type nodeBody struct {
	Node string `json:"node"` // "" = all nodes
	Back string `json:"back"`
}

// doneObject is how a verb went on a node.
type doneObject struct {
	Node  string `json:"node"`
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
}

// onTask is a route that steers a task, on one node or on all that have it.
func onTask(verb string) func(*Console, *http.Request) (*answer, error) {
	return func(c *Console, r *http.Request) (*answer, error) {
		var in nodeBody
		if err := body(r, &in); err != nil {
			return nil, err
		}
		ctx, q := r.Context(), question{Do: verb, Name: r.PathValue("task"), By: who(r.Context()).Name}
		if who(ctx).Account != "" {
			return nil, notFound("the task")
		}
		if in.Node != "" {
			if _, err := c.tellNode(ctx, in.Node, q); err != nil {
				return nil, err
			}
			return c.taskDone(verb, list[doneObject]{Items: []doneObject{{Node: in.Node, Done: true}}})
		}
		_, err := c.answer(ctx, q)
		all := []nodeReply{{node: c.env.Node, err: err}}
		if c.cfg.Nodes != nil {
			others, err := c.cfg.Nodes.Others(ctx)
			if err != nil {
				return nil, err
			}
			all = append(all, c.scatter(ctx, others, q)...)
		}
		var out list[doneObject]
		done := false
		for _, a := range all {
			o := doneObject{Node: a.node, Done: a.err == nil}
			if done = done || o.Done; a.err != nil {
				o.Error = problemOf(a.err).Detail
			}
			out.Items = append(out.Items, o)
		}
		if !done {
			return nil, all[0].err
		}
		return c.taskDone(verb, out)
	}
}

func (c *Console) taskDone(verb string, out list[doneObject]) (*answer, error) {
	c.forget()
	c.hub.add(frame{topic: "periodic", data: []byte(`{}`)})
	return &answer{body: out, notice: verb}, nil
}

// changedTasks sends a frame when this node's tasks are not as they were.
func (c *Console) changedTasks(last []jobjson.Task) []jobjson.Task {
	now := c.tasks()
	if last != nil && !reflect.DeepEqual(last, now) {
		c.hub.add(frame{topic: "periodic", data: fmt.Appendf(nil, `{"node":%q}`, c.env.Node)})
	}
	return now
}

// badTask is a task that needs somebody to look at it.
type badTask struct {
	Node string `json:"node"`
	jobjson.Task
}

func badTasks(all []jobjson.Tasks) []badTask {
	out := []badTask{}
	for _, n := range all {
		for _, t := range n.Items {
			if t.Bad() {
				out = append(out, badTask{n.Node, t})
			}
		}
	}
	return out
}

// taskRow is a task on the page: one row per name, with what each node has of it.
type taskRow struct {
	Name, Schedule string
	On             []badTask
}

// byTask turns tasks by node into nodes by task.
func byTask(all []jobjson.Tasks) (rows []taskRow) {
	at := map[string]int{}
	for _, n := range all {
		for _, t := range n.Items {
			i, has := at[t.Name]
			if !has {
				i = len(rows)
				at[t.Name] = i
				rows = append(rows, taskRow{Name: t.Name, Schedule: t.Schedule})
			}
			rows[i].On = append(rows[i].On, badTask{n.Node, t})
		}
	}
	slices.SortFunc(rows, func(a, b taskRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}
