package job

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// DB is what a store package offers to a Manager; memory, sqlite and postgres stores are one.
type DB interface {
	store.Runner
	Jobs() Store
	Leases() lease.Store
	Notifier() store.Notifier
}

// QueueTopic is the topic of hints that a job of the queue may be claimable. A store hints it for whatever one of its
// methods made claimable; the Manager hints the other topics.
func QueueTopic(queue string) string { return "queue/" + queue }

// JobTopic is the topic of hints that a job changed in a way its waiters want to know.
func JobTopic(id string) string { return "job/" + id }

// SettingsTopic is the topic of hints that a setting of the cluster changed.
const SettingsTopic = "settings"

// Maintenance is the setting under which nothing but the descendants of running jobs starts; see Store.Set.
const Maintenance = "maintenance"

// Paused is the setting under which no job of the queue starts; see Store.Set.
func Paused(queue string) string { return "paused/" + queue }

// SessionTopic is the topic of hints that there is a cancel request for a job the session runs.
func SessionTopic(session int64) string { return "session/" + strconv.FormatInt(session, 10) }

// Store keeps jobs, their lines and their turns (see package syncqueue), in the caller's transaction.
//
// For all methods: tx of another store gives store.ErrForeign. Time is tx.Now() only. Epochs and Seq come from one
// counter each per store, rising, never reused, also after rows are deleted. Every change of a row adds 1 to Rev and sets
// Updated. Methods are set-based and touch no row but those they name, except that a turn that becomes free is handed on in
// the same transaction: the first in line gets it and becomes ready, without being looked at again by anybody.
//
// Turns. A job with a Sync key whose policy limit is n > 0 needs a turn: at most n jobs hold one per key, granted in order
// of Place. Jobs without key or with an unlimited kind need none. A turn is kept in ready, running, scheduled (after a
// retry) and parked, whatever happens to a session, until the job is final, deleted, or moved with Free.
//
// Lending. A row with a Lender, an ancestor of the same key that holds a turn or borrows one, does not enter the line of its key:
// it borrows. (If that ancestor has no turn, it borrows from whom that borrows from; if there is none, Lender is cleared and it
// waits like others. This is settled at Insert and whenever it comes to wait.) Who borrows a turn stands in line for it, one at a
// time in order of Place, and gets it only while the lender lends: Parked, Running with the flag Lending and not Recalled, or
// after it has given its turn up. What then holds of turns holds of the lent one too; Row.Turn says that it has it, and may be lent
// further. A lender that is moved to Ready while a borrower has its turn is Waiting, with its Turn, and becomes Ready when that
// gives it back, before the next borrower. Unmark Lending then sets Recalled instead; both flags end with the borrower's turn,
// with a hint on JobTopic of the lender. Leaving Running ends both flags. A turn given up while somebody waits for it or has it as
// a borrower goes to nobody in the key's line: it is theirs, and is handed on after the last of them. A pause takes no turn from
// who lends it.
type Store interface {
	// Insert adds rows in slice order and answers them as stored, perhaps in that slice.
	// 1. Seq is drawn per row, rising in slice order; Created = Updated = Now, Rev 1, Epoch 0. Zero RunAt means Now.
	// 2. State: RunAt > Now: Scheduled. Else, needing a turn: Waiting, Place = Seq * syncqueue.Gap. Else Ready, with a hint for the queue
	//    (Waiting too: an arrival must be met by a claim).
	// 3. A row that meets a stored one, or an earlier one of the same call, by ID, by Idem (scope: account, kind), by
	//    Unique (scope: kind; live jobs only) or by Name (scope: parent) is not inserted: the stored row is answered with Met
	//    naming the field ("id", "idem", "unique", "name"). The Manager compares prints. Two transactions that race for
	//    one such name: the second waits for the first and then meets its row, or is retried by InTx.
	// 4. ParentEpoch != 0: the parent must be running at that epoch, else store.ErrConflict and nothing is written.
	// 5. It locks no row of a key, a line or a holder and waits for no claim, finish or other Insert of the same key.
	// 6. Steps of a new row are stored with it.
	// 7. The answer may be rows itself, filled in so that the same call can be repeated.
	Insert(ctx context.Context, tx store.Tx, rows []Row) ([]Row, error)

	// List finds rows. See Find. A missing id is simply absent from the answer.
	List(ctx context.Context, tx store.Tx, f Find) (Found, error)

	// Claim starts at most c.Max jobs for the session c.Session, which must be live by Now, else store.ErrConflict.
	// 1. Candidates: Ready, or Waiting and first in line of a key with a free turn (which it then holds), of a queue with
	//    c.Free > 0 (at most so many of it) and one of c.Kinds.
	// 2. Order within a queue: Priority (lower first), RunAt, Seq; with c.Oldest: RunAt, Seq. Inside a key nothing overtakes.
	// 3. Each gets State Running, Session, the next Epoch (one per call will do), Started = Now, Runs + 1,
	//    RunUntil = min(Now + Timeout, Deadline), zero = none. Wakes are answered and cleared.
	// 4. A Ready job that needs a turn and holds none (its kind became limited meanwhile) goes to Waiting instead.
	// 5. No job is ever claimed by two calls, however many run at once; rows locked by others are skipped, not waited for.
	// 6. A line whose head cannot be claimed here (kind, queue) still gets its free turn: the head becomes Ready.
	// 7. Settings: nothing of a paused queue starts; under Maintenance only what c.Seqs names does. That is no error.
	// 8. The answer says what else a round should do; with Max 0 that is all it does, as one cheap read (the probe of an idle
	//    node): its cost does not grow with waiting, scheduled or finished jobs, keys or nodes.
	Claim(ctx context.Context, tx store.Tx, c Claim) (Claimed, error)

	// Move applies each transition whose guard holds and says which did; distinct ids. See Move.
	Move(ctx context.Context, tx store.Tx, ms []Move) (done []bool, err error)

	// Log writes what running handlers leave behind. If the job of any entry is not running at the entry's Epoch:
	// store.ErrConflict, nothing is written. For the journal see MaxJournal.
	Log(ctx context.Context, tx store.Tx, es []Entry) error

	// Signal tells jobs of what they may wait for, and answers those that may wake. See Signal.
	Signal(ctx context.Context, tx store.Tx, s Signal) (Signalled, error)

	// Set changes settings of the whole cluster, of which none is on at first, and answers the names of all that are on, sorted.
	// Changes are hinted on SettingsTopic. When the transaction has committed and its InTx returned, nothing starts any more that
	// a setting forbids, also by a Claim or Finish that had begun before.
	Set(ctx context.Context, tx store.Tx, set []Setting) (on []string, err error)
}

// Setting holds for the whole cluster until it is changed.
type Setting struct {
	Name string // Maintenance or Paused(queue)
	On   bool
}

// Turner is the ability of a Store to take turns; all shipped ones have it. Without it keyed requests are ErrInvalid.
type Turner interface{ Turns() syncqueue.Store }

// Finisher fuses what the end of a batch of runs needs: Move and hand-off, and starting the next in line at once.
// Same obligations as Move and Claim, settings included; all or nothing per job. All shipped stores have it.
type Finisher interface {
	Finish(ctx context.Context, tx store.Tx, f Finish) (Finished, error)
}

// ClaimOnly is the ability of a Store to be far away: a Manager on one that answers true claims, finishes and parks, and leaves
// sweeps, promotion, admission, retention, reports and audits to nodes with the store. Its transactions read, then write.
type ClaimOnly interface{ ClaimOnly() bool }

// Finish is a batch of moves away from Running. At most Start.Max jobs that get a handed-on turn (and match Start's
// kinds and queues) start at once for Start.Session; the others become ready.
type Finish struct {
	Moves []Move
	Start Claim
	Turns []Turn // what the jobs of Moves were claimed with, if the caller knows, so that a store need not look first
}

// Turn is the key and the place in line that a job was claimed with; zero: it has no turn, or gave it up.
type Turn struct {
	Key   syncqueue.Key
	Place int64
}

type Finished struct {
	Done    []bool
	Started []Row
	Awaited bool  // a job of Moves that is final now may have been joined: Signal, in this transaction, finds out by whom
	Parked  []Row // of Moves with Park that are done, the rows as they are now, with Waits; nil: List tells
}

// Row is a Job with what only the Manager sees.
type Row struct {
	Job
	Idem, Unique, Print string
	Account             string // scope of Idem: Identity["account"]
	Depth               int    // generations above it
	Detached            bool
	Timeout             time.Duration // per run; 0 = none
	RunUntil            time.Time     // end of this run; zero = none
	ParentEpoch         int64         // Insert's guard
	Lender              string        // id of the job whose turn it borrows; see Store
	Turn                bool          // holds its turn
	Flags               Flag
	Steps               []Entry         // only if asked for
	Conditions          json.RawMessage // of Parking; these four only if asked for by Find.Waits, and from Signal
	WakeAt              time.Time       // of Parking
	Joins               []string        // jobs it has joined that are not final, in order of id
	Inbox               []Wake          // signals, in order of arrival: Why is "topic"
	Met                 string          // Insert's answer
}

// Flag marks of a job, kept until cleared.
type Flag uint16

const (
	Sealed    Flag = 1 << iota // FinishTx stored the outcome; Result, Error and SealedState hold it
	NoReturn                   // NoCancel was called
	Abandoned                  // lost with OnLost(Fail): the next claimer runs the Abandon hook
	Unwinding                  // cancelled or overdue after it has run, and its kind Unwinds: the next run compensates
	Overdue                    // Unwinding because of Deadline
	Poisoned                   // parked after MaxLost losses
	Held                       // parked by Hold
	Unwinder                   // its kind has Unwinds: known to every node
	Locked                     // its kind is NotCancellable: known to every node
	Lending                    // runs, but its handler blocks in Wait: who borrows its turn may run
	Recalled                   // Lending, but wants to go on after the present borrower
)

// Find selects rows; the zero fields select nothing by themselves, so one of IDs, Query, Due, Sessions, Resources or
// Parents is set, or Count, which answers no rows.
type Find struct {
	IDs       []string
	Resources []string // live rows about any of these, oldest first
	Parents   []string // live rows with any of these as Parent, oldest first
	Query     *Query   // by its filters and order, one page
	// Due: "scheduled" (RunAt <= Now), "deadline" (Scheduled, Waiting, Ready or Parked, Deadline <= Now, not Unwinding),
	// "cancel" (Running in Sessions with a cancel request), "retain" (final, Ended <= Before; oldest first;
	// no live parent; Kinds and NotKinds apply), "parked" (Parked, WakeAt <= Now), "unhandled" (Ready, RunAt <= Before, NotKinds
	// applies; oldest first).
	Due             string
	Before          time.Time
	Kinds, NotKinds []string
	Sessions        []int64 // alone: rows Running under these sessions
	Steps, Journal  bool    // bring these parts
	Waits           bool    // bring what parked rows wait for, and inboxes
	SkipLocked      bool    // for sweepers: rows that another transaction changes are left out
	Limit           int     // 0 = 1000
	Count           []State // live ones: Found.Counts of the jobs in these states. Of Waiting and Ready it costs no more than these are many
}

type Found struct {
	Rows    []Row
	Journal []Entry // of Find.IDs, in order
	Next    string  // cursor of Query, "" = last page
	Counts  []Count // of Find.Count, by queue and state; none is 0
}

// Count is how many jobs of a queue are in a state, and the RunAt of the oldest.
type Count struct {
	Queue  string
	State  State
	N      int
	Oldest time.Time
}

type Claim struct {
	Session lease.Token
	Kinds   []string
	Free    map[string]int // free slots per queue
	Max     int
	Oldest  bool
	Seqs    []int64 // not nil: only these jobs, Maintenance or not
	Into    []Row   // empty; its capacity may hold the rows of the answer
}

type Claimed struct {
	Rows    []Row
	More    bool      // claiming again at once is worth while
	Sweep   bool      // sessions are over, or dead ones have running jobs
	Due     bool      // scheduled rows are due, a parked one's WakeAt has come, or a live one is past its Deadline
	Cancels bool      // c.Session runs a job with a cancel request
	Next    time.Time // when Due will be true next; zero = unknown or never

	Settings []string // that are on, sorted; of a probe
}

// Move is one transition, guarded by (ID, From, Epoch).
//
//  1. Guard: the row is in From at Epoch and, with Uncancelled, has no cancel request. Else false, nothing written.
//     A move away from Running is true again, and changes nothing, for a row that left Running at this very Epoch:
//     so a commit whose answer was lost may be repeated.
//  2. To final: Ended = Now, Unique is free again, the turn is handed on.
//  3. Free: the turn, or the wait for it, is given up; Place is kept.
//  4. To Ready: if the row needs a turn and holds none it is Waiting at its Place (drawn now if it has none). From Waiting
//     to Ready is not for callers: only stores grant turns.
//  5. Raise: the row gets the next epoch.
//  6. To "": a final row is deleted with its steps, journal, inbox and subscriptions.
//  7. To == From: only the other fields change.
//  8. Zero values leave a field as it is; ResetLost sets Lost to 0.
//  9. Park, with To Parked: see Parking. Leaving Parked ends it and what it joined and subscribed to. If Wakes are given,
//     the inbox is emptied too, and the subscriptions to the topics that were in it end.
//  10. Notes are added to the row's journal if the move is done now, not if it was before.
type Move struct {
	ID            string
	From, To      State
	Epoch         int64
	Uncancelled   bool
	Raise, Free   bool
	RunAt         time.Time
	Attempt, Lost int
	ResetLost     bool
	Result        json.RawMessage
	Error         *Error
	Progress      *Progress
	Wakes         []Wake
	Mark, Unmark  Flag
	Priority      *int
	Cancel        *CancelRequest // kept if there is one already: the first reason stays
	Park          *Parking
	Notes         []Entry // JobID may be left out; only the fields of a journal's row count
}

// Parking is what may wake a parked job. Conditions, which only the Manager reads, and WakeAt replace those of an earlier one;
// Jobs and Topics are added to its.
type Parking struct {
	Conditions json.RawMessage
	Jobs       []string  // to join: those that are final, or not there, are left out
	Topics     []string  // to subscribe to
	WakeAt     time.Time // Due "parked" from then on; zero = never
}

// MaxInbox is how many signals wait for a job at most.
const MaxInbox = 64

// Signal is Ended or a Topic.
//
//  1. Ended are jobs that became final in this transaction; nobody joins them any more. The answer is the Parked rows that had
//     joined any of them, by Seq. Of a transaction that joins a job and one that ends it, whichever overlap, either the first
//     sees it final or the second finds the join.
//  2. Topic "job/<id>" goes to that job's inbox in whatever live state it is. The row is answered, a final one with nothing
//     written; no row: there is no such job.
//  3. Another Topic goes to the inboxes of the first Limit live jobs, by Seq, after After that have subscribed to it; the Parked
//     ones are answered.
//  4. A signal that equals one in the inbox by Topic and Payload is not added, and none to a full inbox.
//  5. Rows answered are as they are now, with Waits, and nobody else moves them before the end of the transaction. Of a Signal to
//     a job and a Move of it to Parked, whichever overlap, one sees the other.
type Signal struct {
	Ended   []string
	Topic   string
	Payload []byte
	After   int64
	Limit   int // 0 = 500
}

type Signalled struct {
	Rows    []Row
	Reached int   // jobs that got the signal, or had it
	Next    int64 // After of the next batch, 0 = that was the last
	Full    bool  // the inbox of "job/<id>" was
}

// CancelRequest is stored with a job until it is final.
type CancelRequest struct {
	At         time.Time
	By, Reason string
}

// MaxJournal is how many rows a job's journal has at most, of all writers together. Those that come later are dropped: one more
// row, with the position MaxJournal + 1, the Text DroppedText and their number as Data, stands for them.
const MaxJournal = 1000

// DroppedText is the Text of the row that stands for those a full journal has no room for.
const DroppedText = "journal full: rows dropped"

// Entry is a row of a job's journal, a stored step, or a change a running handler makes to its own job.
type Entry struct {
	JobID    string
	Epoch    int64
	Node     string
	At       time.Time // zero = Now
	N        int64     // position in the journal, from 1, set by the store
	Step     string    // != "": Data is this step's stored value; an existing step of that name is kept
	Text     string    // != "": a journal row
	Data     json.RawMessage
	Failure  bool
	Progress *Progress // stored with the job
	Resource string    // Attach
	Mark     Flag      // NoReturn
	Topic    string    // Subscribe: signals to it go to the job's inbox from now on
	Seal     *Seal     // FinishTx
}

// Seal is an outcome stored before the handler returns. A job sealed twice: store.ErrConflict.
type Seal struct {
	State  State
	Result json.RawMessage
	Error  *Error
}
