package console

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

const (
	ringSize   = 10_000
	ringAge    = 10 * time.Minute
	maxLag     = 1024 // frames that a stream may be behind
	maxStreams = 256
	maxPerName = 8
)

// frame is one event of the stream.
type frame struct {
	seq   int64
	at    time.Time
	topic string
	data  []byte
	job   jobFrame // of topic job: what filters look at
	who   string   // account
}

// jobFrame is what a frame says of a job. Never arguments or results.
type jobFrame struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	State    job.State `json:"state"`
	Rev      int64     `json:"rev"`
	Percent  int       `json:"percent"`
	Step     string    `json:"step,omitempty"`
	Note     string    `json:"note,omitempty"`
	Attempt  int       `json:"attempt"`
	Key      string    `json:"key,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Node     string    `json:"node,omitempty"`
	At       stamp     `json:"at"`
}

// hub keeps the last events. One goroutine fills the ring; streams read it by position and are woken by one broadcast.
type hub struct {
	env   drover.Env
	name  string // of this ring: ids of another are unknown here
	mu    sync.Mutex
	ring  []frame // by seq, of which the last is next-1
	next  int64
	woken chan struct{} // closed and replaced when there is news
	open  bool          // fed by Run
	dirty map[string]*dirtyJob
	dirt  chan struct{} // capacity 1
	at    map[string]int
	total int
	done  [60]minute // finished jobs by minute
}

// dirtyJob is one whose row is to be read again.
type dirtyJob struct {
	rev   int64 // to be seen
	tries int
}

type minute struct {
	at               int64 // unix minute
	finished, failed int
}

func newHub(env drover.Env) *hub {
	return &hub{
		env: env, name: env.NewID(), next: 1, woken: make(chan struct{}), dirty: map[string]*dirtyJob{}, dirt: make(chan struct{}, 1),
		at: map[string]int{},
	}
}

// note remembers that a job has changed, or will have when a transaction commits.
func (h *hub) note(id string, rev int64) {
	h.mu.Lock()
	if d := h.dirty[id]; d == nil {
		h.dirty[id] = &dirtyJob{rev: rev}
	} else if d.rev < rev {
		d.rev, d.tries = rev, 0
	}
	h.mu.Unlock()
	select {
	case h.dirt <- struct{}{}:
	default:
	}
}

// add appends frames and wakes the streams.
func (h *hub) add(fs ...frame) {
	if len(fs) == 0 {
		return
	}
	now := h.env.Clock.Now()
	h.mu.Lock()
	for _, f := range fs {
		f.seq, f.at = h.next, now
		h.next++
		h.ring = append(h.ring, f)
	}
	drop := max(0, len(h.ring)-ringSize)
	for drop < len(h.ring) && now.Sub(h.ring[drop].at) > ringAge {
		drop++
	}
	if drop > 0 {
		h.ring = append(h.ring[:0:0], h.ring[drop:]...)
	}
	h.wake()
	h.mu.Unlock()
}

func (h *hub) wake() {
	close(h.woken)
	h.woken = make(chan struct{})
}

// setOpen says whether the hub is fed. Streams end when it is not.
func (h *hub) setOpen(open bool) {
	h.mu.Lock()
	h.open = open
	h.wake()
	h.mu.Unlock()
}

// since gives the frames from seq on, a channel that closes when there are more, and what is wrong: lost when some of them are
// gone or the reader is too far behind, closed when nothing comes any more.
func (h *hub) since(seq int64) (fs []frame, more <-chan struct{}, lost, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.next - int64(len(h.ring))
	if seq < oldest || h.next-seq > maxLag {
		return nil, h.woken, true, !h.open
	}
	if n := seq - oldest; n < int64(len(h.ring)) {
		fs = append(fs, h.ring[n:]...)
	}
	return fs, h.woken, false, !h.open
}

// id of a frame on the wire.
func (h *hub) id(seq int64) string { return h.name + "." + strconv.FormatInt(seq, 10) }

// oldest is the id of the first frame that is held.
func (h *hub) oldest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id(h.next - int64(len(h.ring)))
}

// resume is the position after the frame with that id, and whether it is still held. "" begins now.
func (h *hub) resume(id string) (next int64, held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id == "" {
		return h.next, true
	}
	name, text, _ := strings.Cut(id, ".")
	seq, err := strconv.ParseInt(text, 10, 64)
	oldest := h.next - int64(len(h.ring))
	if err != nil || name != h.name || seq < oldest-1 || seq >= h.next || h.next-seq > maxLag {
		return h.next, false
	}
	return seq + 1, true
}

// enter takes one of the streams there may be.
func (h *hub) enter(name string) *problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.open:
		return &problem{Status: 503, Code: "unavailable", Detail: "there is no live stream now: poll"}
	case h.total >= maxStreams:
		return &problem{Status: 503, Code: "unavailable", Detail: fmt.Sprintf("%d streams are open here, which is all there may be", h.total)}
	case h.at[name] >= maxPerName:
		return &problem{Status: 429, Code: "too-many", Detail: fmt.Sprintf("%d streams are open for %q, which is all there may be", h.at[name], name)}
	}
	h.total++
	h.at[name]++
	return nil
}

func (h *hub) leave(name string) {
	h.mu.Lock()
	h.total--
	if h.at[name]--; h.at[name] == 0 {
		delete(h.at, name)
	}
	h.mu.Unlock()
}

// streams is how many are open.
func (h *hub) streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

func frameOf(j *job.Job) frame {
	f := jobFrame{
		ID: j.ID, Kind: j.Kind, State: j.State, Rev: j.Rev, Percent: j.Progress.Percent, Step: j.Progress.Step, Note: j.Progress.Note,
		Attempt: j.Attempt, Resource: j.Resource, Node: j.Session, At: stamp(j.Updated),
	}
	if j.Sync.Kind != "" {
		f.Key = j.Sync.String()
	}
	if len(f.Note) > 256 {
		f.Note = "" // a frame has 1 KiB; the page reads the rest
	}
	data, err := json.Marshal(f)
	if err != nil {
		data = []byte(`{}`)
	}
	return frame{topic: "job", data: data, job: f, who: j.Identity["account"]}
}

// count adds an end to the minutes.
func (h *hub) count(j *job.Job) {
	m := j.Ended.Unix() / 60
	h.mu.Lock()
	defer h.mu.Unlock()
	slot := &h.done[m%60]
	if slot.at > m {
		return
	}
	if slot.at < m {
		*slot = minute{at: m}
	}
	slot.finished++
	if j.State == job.Failed {
		slot.failed++
	}
}

// minutes are the last 60, oldest first.
func (h *hub) minutes(now time.Time) []minute {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]minute, 60)
	for i := range out {
		at := now.Unix()/60 - 59 + int64(i)
		if out[i].at = at; h.done[at%60].at == at {
			out[i] = h.done[at%60]
		}
	}
	return out
}
