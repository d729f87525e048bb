package flow

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
)

// States of a step in a [StepRecord].
const (
	StateSkipped    = "skipped"     // not needed
	StateStarted    = "started"     // under way, or interrupted
	StateDone       = "done"        //
	StateFailed     = "failed"      //
	StateUndone     = "undone"      //
	StateUndoFailed = "undo-failed" // owed, if the job is a debt
	StateOwed       = "owed"        // of a debt: not tried yet
	StateForgiven   = "forgiven"    // of a debt that was cancelled
)

// StepRecord is what became of a step of a durable flow.
type StepRecord struct {
	Path           string // "create-vm/attach/nic": flow, step, step of the flow within; "attach#2" is the second try of such a flow
	State, Cause   string // Cause: the error of the step, or of its undo; of one forgiven, who did it
	Tries          int    // that have begun, as far as stored: of do, in a debt of undo
	Started, Ended time.Time
}

// Journal lists what is stored of the flows in a job, or of a debt, in the order the steps began. Steps that have not begun are
// not in it; nor is the first one before it has ended. Started is zero where that was not stored, which it is not for a first
// step; Ended is the last change. [job.ErrNotFound] when the job is unknown.
func Journal(ctx context.Context, m *job.Manager, jobID string) iter.Seq2[StepRecord, error] {
	return func(yield func(StepRecord, error) bool) {
		list, err := journal(ctx, m, jobID)
		if err != nil {
			yield(StepRecord{}, err)
			return
		}
		for _, s := range list {
			if !yield(*s, nil) {
				return
			}
		}
	}
}

func journal(ctx context.Context, m *job.Manager, id string) ([]*StepRecord, error) {
	j, err := m.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	stored, err := steps.Of(m).Stored(ctx, id)
	if err != nil {
		return nil, err
	}
	recs := make(map[string]record, len(stored))
	for _, s := range stored {
		var rec record
		if strings.Contains(s.Name, "/") && json.Unmarshal(s.Data, &rec) == nil {
			recs[s.Name] = rec
		}
	}
	slices.SortStableFunc(stored, func(a, b steps.Stored) int { return recs[a.Name].N - recs[b.Name].N })
	h := &history{at: map[string]*StepRecord{}}
	name, isDebt := strings.CutPrefix(j.Kind, "flow-undo:")
	if isDebt {
		h.owed(j, name)
	}
	for _, s := range stored {
		if rec, ok := recs[s.Name]; ok && rec.N > 0 {
			h.take(s, rec)
		}
	}
	if isDebt && j.State == job.Cancelled {
		h.forgive(j)
	}
	return h.list, nil
}

// history is a journal in the making.
type history struct {
	at   map[string]*StepRecord
	list []*StepRecord
}

func (h *history) step(path string) *StepRecord {
	s := h.at[path]
	if s == nil {
		s = &StepRecord{Path: path, State: StateStarted}
		h.at[path], h.list = s, append(h.list, s)
	}
	return s
}

// take adds what one stored step tells.
func (h *history) take(st steps.Stored, rec record) {
	path, mark, _ := strings.Cut(st.Name, ":")
	flow := path[:strings.LastIndex(path, "/")+1]
	switch mark = ":" + mark; {
	case mark == ":":
		h.ended(h.step(path), st.At, rec)
	case mark == startMark:
		h.step(path).Started = st.At
	case mark == undoMark:
		s := h.step(path)
		s.State, s.Ended = StateUndone, st.At
		if rec.Err != nil {
			s.State, s.Cause = StateUndoFailed, cause(rec.Err)
		}
	case strings.HasPrefix(mark, tryMark):
		s := h.step(path)
		n, _ := strconv.Atoi(mark[len(tryMark):])
		s.Tries, s.Cause, s.Ended = n+1, cause(rec.Err), st.At
		if rec.Job != "" {
			s.Tries, s.State = n, StateUndoFailed
		}
	default: // about the flow
		return
	}
	for _, name := range rec.Skipped {
		h.step(flow + name).State = StateSkipped
	}
	if rec.Next != "" {
		h.step(flow + rec.Next).Started = st.At
	}
}

func (h *history) ended(s *StepRecord, at time.Time, rec record) {
	s.State, s.Ended, s.Tries = StateDone, at, max(s.Tries, 1)
	if rec.State == OutcomeFailed {
		s.State = StateFailed
	}
	if s.Cause = ""; rec.Err != nil {
		s.Cause = cause(rec.Err)
	}
}

// owed adds what a debt has to undo.
func (h *history) owed(j *job.Job, flow string) {
	var d debt
	if json.Unmarshal(j.Args, &d) != nil {
		return
	}
	for _, o := range d.Steps {
		h.step(flow + "/" + o.Step).State = StateOwed
	}
}

func (h *history) forgive(j *job.Job) {
	for _, s := range h.list {
		if s.State != StateUndone {
			s.State, s.Cause, s.Ended = StateForgiven, forgiven(j.CancelBy, j.CancelReason), j.Ended
		}
	}
}

// cause is the text of a stored error.
func cause(data json.RawMessage) string {
	e := new(job.Error)
	if err := json.Unmarshal(data, e); err != nil {
		return string(data)
	}
	return e.Text
}
