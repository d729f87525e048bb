package memory

import (
	"encoding/json"
	"math"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// mostSpare bounds the images that are kept for new rows.
const mostSpare = 4096

// packed is a final row as it is kept between transactions: a quarter of the size, and little for the garbage collector to
// follow. Rows that have what it has no room for are not packed.
type packed struct {
	id, session, resource string
	sync                  syncqueue.Key
	args, result          json.RawMessage
	err                   *job.Error
	identity              map[string]string

	seq, place, rev, epoch, sessionEpoch                      int64
	timeout                                                   time.Duration
	runAt, deadline, created, started, ended, updated, joined int64 // in microseconds; never for the zero time
	attempt, maxAttempts, runs, lost, priority                int32
	percent                                                   int32
	state                                                     job.State
	flags                                                     job.Flag
	account                                                   bool // Identity has it
}

const never = math.MinInt64

func packTime(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMicro()
}

func unpackTime(at int64) time.Time {
	if at == never {
		return time.Time{}
	}
	return time.UnixMicro(at).UTC()
}

// row is the row of id, nil if there is none.
func (j *jobTables) row(id string) *rec {
	r := j.rows[id]
	if r == nil {
		return nil
	}
	return r.open()
}

// open makes all of r readable until the end of the transaction.
func (r *rec) open() *rec {
	if r.image == nil {
		j := r.bucket.of
		r.image = j.newImage()
		r.packed.into(r.image, r.bucket)
		r.packed = nil
		j.loose = append(j.loose, r)
	}
	return r
}

// newImage is an empty one, if there is one from a row that was packed.
func (j *jobTables) newImage() *image {
	if n := len(j.spare); n > 0 {
		i := j.spare[n-1]
		j.spare = j.spare[:n-1]
		return i
	}
	return &image{}
}

// pack ends a transaction: the rows that it made final or opened are packed.
func (j *jobTables) pack() {
	for _, r := range j.loose {
		if r.image == nil || !final(r.State) || !r.packable() {
			continue
		}
		r.packed = r.image.pack()
		if i := r.image; len(j.spare) < mostSpare {
			*i = image{}
			j.spare = append(j.spare, i)
		}
		r.image = nil
	}
	clear(j.loose)
	if cap(j.loose) > mostSpare {
		j.loose = nil
	}
	j.loose = j.loose[:0]
}

// packable says that packed has room for all that r has.
func (r *rec) packable() bool {
	i := r.image
	return i.Root == i.ID && i.Kind == r.bucket.kind && i.Queue == r.bucket.queue && (i.Account == "" || i.Account == i.Identity["account"]) &&
		i.Name == "" && i.Parent == "" && i.RetryOf == "" && i.Idem == "" && i.Unique == "" && i.Print == "" && i.Lender == "" && i.Met == "" && i.Trace == "" &&
		i.CancelBy == "" && i.CancelReason == "" && i.CancelAt.IsZero() && i.RunUntil.IsZero() && i.WakeAt.IsZero() && i.since.IsZero() &&
		i.Wakes == nil && i.Steps == nil && i.Conditions == nil && i.Joins == nil && i.Inbox == nil && i.waits == nil &&
		i.Depth == 0 && i.ParentEpoch == 0 && !i.Detached && !i.Joined && !i.Replayed && !i.Turn &&
		i.Progress.Step == "" && i.Progress.Note == "" &&
		small(i.Attempt) && small(i.MaxAttempts) && small(i.Runs) && small(i.Lost) && small(i.Priority) && small(i.Progress.Percent)
}

func small(n int) bool { return n == int(int32(n)) }

func (i *image) pack() *packed {
	return &packed{
		id: i.ID, session: i.Session, resource: i.Resource, sync: i.Sync, args: i.Args, result: i.Result, err: i.Error, identity: i.Identity,
		seq: i.Seq, place: i.Place, rev: i.Rev, epoch: i.Epoch, sessionEpoch: i.SessionEpoch, timeout: i.Timeout,
		runAt: packTime(i.RunAt), deadline: packTime(i.Deadline), created: packTime(i.Created), started: packTime(i.Started),
		ended: packTime(i.Ended), updated: packTime(i.Updated), joined: packTime(i.enqueued),
		attempt: int32(i.Attempt), maxAttempts: int32(i.MaxAttempts), runs: int32(i.Runs), lost: int32(i.Lost),
		priority: int32(i.Priority), percent: int32(i.Progress.Percent), state: i.State, flags: i.Flags, account: i.Account != "",
	}
}

func (p *packed) into(i *image, b *bucket) {
	i.ID, i.Root, i.Kind, i.Queue, i.Session, i.Resource, i.Sync = p.id, p.id, b.kind, b.queue, p.session, p.resource, p.sync
	i.Args, i.Result, i.Error, i.Identity = p.args, p.result, p.err, p.identity
	i.Seq, i.Place, i.Rev, i.Epoch, i.SessionEpoch, i.Timeout = p.seq, p.place, p.rev, p.epoch, p.sessionEpoch, p.timeout
	i.RunAt, i.Deadline, i.Created, i.Started = unpackTime(p.runAt), unpackTime(p.deadline), unpackTime(p.created), unpackTime(p.started)
	i.Ended, i.Updated, i.enqueued = unpackTime(p.ended), unpackTime(p.updated), unpackTime(p.joined)
	i.Attempt, i.MaxAttempts, i.Runs, i.Lost = int(p.attempt), int(p.maxAttempts), int(p.runs), int(p.lost)
	i.Priority, i.Progress.Percent, i.State, i.Flags = int(p.priority), int(p.percent), p.state, p.flags
	if p.account {
		i.Account = p.identity["account"]
	}
}
