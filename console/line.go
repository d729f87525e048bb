package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// moveBody says which waiter goes where: "first", "last" or {"before": job}.
type moveBody struct {
	Job  string          `json:"job"`
	To   json.RawMessage `json:"to"`
	Back string          `json:"back"`
}

// where reads To.
func (in *moveBody) where() (word, before string, err error) {
	if json.Unmarshal(in.To, &word) == nil {
		if word == "first" || word == "last" {
			return word, "", nil
		}
		return "", "", bad(`to: must be "first", "last" or {"before": job}`)
	}
	var to struct {
		Before string `json:"before"`
	}
	d := json.NewDecoder(bytes.NewReader(in.To))
	d.DisallowUnknownFields()
	if err := d.Decode(&to); err != nil || to.Before == "" {
		return "", "", bad(`to: must be "first", "last" or {"before": job}`)
	}
	return "", to.Before, nil
}

// waiter is the Seq of a job that the principal may see; a job that is not there, or not on k, is not found.
func (c *Console) waiter(ctx context.Context, k syncqueue.Key, id string) (int64, error) {
	j, err := c.get(ctx, id)
	if err != nil {
		return 0, err
	}
	if j.Sync != k {
		return 0, fmt.Errorf("%s is not in the line of %s: %w", short(id), k, job.ErrNotFound)
	}
	return j.Seq, nil
}

func (c *Console) moveQueue(r *http.Request) (*answer, error) {
	var in moveBody
	if err := body(r, &in); err != nil {
		return nil, err
	}
	k, err := keyFrom(r)
	if err != nil {
		return nil, err
	}
	word, other, err := in.where()
	if err != nil {
		return nil, err
	}
	seq, err := c.waiter(r.Context(), k, in.Job)
	if err != nil {
		return nil, err
	}
	before := int64(0)
	if other != "" {
		if before, err = c.waiter(r.Context(), k, other); err != nil {
			return nil, err
		}
	}
	if word == "first" {
		err = c.cfg.Queues.MoveFirst(r.Context(), seq)
	} else {
		err = c.cfg.Queues.Move(r.Context(), seq, before)
	}
	if err != nil {
		return nil, c.lost(r, k, err)
	}
	return c.queueNow(r, "move")
}

// lost words a move that came too late, with the line as it is.
func (c *Console) lost(r *http.Request, k syncqueue.Key, err error) error {
	p := problemOf(err)
	switch p.Status {
	case http.StatusConflict:
		p.Code, p.Detail = "wrong-state", "it has the turn already: only who waits is moved"
	case http.StatusNotFound:
		p.Detail = "it does not wait any more"
	default:
		return err
	}
	c.forget()
	if l, lerr := c.line(r.Context(), k); lerr == nil {
		p.Current = l
	}
	return p
}

// pausing is a route that pauses or resumes a key or a kind.
func pausing(on bool) func(*Console, *http.Request) (*answer, error) {
	return func(c *Console, r *http.Request) (*answer, error) {
		if err := body(r, &emptyBody{}); err != nil {
			return nil, err
		}
		if who(r.Context()).Account != "" {
			return nil, &problem{Status: http.StatusNotFound, Code: "not-found", Detail: store.ErrNotFound.Error()}
		}
		if err := c.pauseLine(r, on); err != nil {
			return nil, err
		}
		if on {
			return c.queueNow(r, "pause")
		}
		return c.queueNow(r, "resume")
	}
}

func (c *Console) pauseLine(r *http.Request, on bool) error {
	ctx, kind := r.Context(), r.PathValue("kind")
	if r.PathValue("id") == "" {
		if on {
			return c.cfg.Queues.PauseKind(ctx, kind)
		}
		return c.cfg.Queues.ResumeKind(ctx, kind)
	}
	k, err := keyFrom(r)
	if err != nil {
		return err
	}
	if on {
		return c.cfg.Queues.Pause(ctx, k)
	}
	return c.cfg.Queues.Resume(ctx, k)
}
