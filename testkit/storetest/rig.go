package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

const patience = 10 * time.Second // for what must come; only a failing check waits so long

var (
	vm    = syncqueue.Key{Kind: "vm", ID: "42"}
	other = syncqueue.Key{Kind: "vm", ID: "43"}
	free  = syncqueue.Key{Kind: "free", ID: "42"} // of a kind that checks make unlimited
)

// rig wraps each method of the job and queue stores in a transaction of its own, with a live session at hand.
type rig struct {
	testkit.Stores
	t    testing.TB
	node lease.Token
}

func newRig(t testing.TB, open func(t testing.TB) testkit.Stores) *rig {
	r := &rig{Stores: open(t), t: t}
	r.node = r.session("n1", time.Hour)
	return r
}

// session is over at once with a ttl of 0.
func (r *rig) session(name string, ttl time.Duration) (tok lease.Token) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		tok, err = r.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, name+"'s process", ttl)
		return err
	})
	return tok
}

func id(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", n) }

// plain is an unkeyed job of kind "k" in queue "q".
func plain(n int) job.Row {
	return job.Row{Print: "p", Job: job.Job{
		ID: id(n), Root: id(n), Kind: "k", Queue: "q", Args: json.RawMessage(`{"n":1}`), MaxAttempts: 5,
	}}
}

func keyed(n int, k syncqueue.Key) job.Row { return with(plain(n), func(r *job.Row) { r.Sync = k }) }

func with(r job.Row, f func(r *job.Row)) job.Row {
	f(&r)
	return r
}

// keyedRows are jobs from…to on one key.
func keyedRows(k syncqueue.Key, from, to int) (rows []job.Row) {
	for n := from; n <= to; n++ {
		rows = append(rows, keyed(n, k))
	}
	return rows
}

func plainRows(from, to int) (rows []job.Row) {
	for n := from; n <= to; n++ {
		rows = append(rows, plain(n))
	}
	return rows
}

func (r *rig) insert(rows ...job.Row) (out []job.Row) {
	r.t.Helper()
	out, err := r.tryInsert(rows...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) tryInsert(rows ...job.Row) (out []job.Row, err error) {
	err = r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		out, err = r.Jobs().Insert(ctx, tx, rows)
		return err
	})
	if err == nil && len(out) != len(rows) {
		err = fmt.Errorf("%d rows answered for %d", len(out), len(rows))
	}
	return out, err
}

// all is a claim of anything the checks make.
func (r *rig) all(most int) job.Claim {
	return job.Claim{Session: r.node, Kinds: []string{"k"}, Free: map[string]int{"q": most}, Max: most}
}

func (r *rig) claim(c job.Claim) job.Claimed {
	r.t.Helper()
	out, err := r.tryClaim(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) tryClaim(c job.Claim) (out job.Claimed, err error) {
	err = r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		out, err = r.Jobs().Claim(ctx, tx, c)
		return err
	})
	return out, err
}

// start claims until these jobs run, in this order, and nothing else.
func (r *rig) start(want ...int) []job.Row {
	r.t.Helper()
	rows := r.claim(r.all(100)).Rows
	if got := numbers(rows); !slices.Equal(got, want) {
		r.t.Fatalf("claimed %v, want %v", got, want)
	}
	return rows
}

// startSoon claims until want comes: a turn that came free while another transaction had locked who stands first is handed on by one of
// the next rounds.
func (r *rig) startSoon(want int) job.Row {
	r.t.Helper()
	for until := time.Now().Add(patience); ; {
		rows := r.claim(r.all(100)).Rows
		if len(rows) == 1 && numbers(rows)[0] == want {
			return rows[0]
		}
		if len(rows) > 0 || time.Now().After(until) {
			r.t.Fatalf("claimed %v, want %d", numbers(rows), want)
		}
	}
}

func (r *rig) move(ms ...job.Move) []bool {
	r.t.Helper()
	done, err := r.tryMove(ms...)
	if err != nil {
		r.t.Fatal(err)
	}
	return done
}

func (r *rig) tryMove(ms ...job.Move) (done []bool, err error) {
	err = r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
		done, err = r.Jobs().Move(ctx, tx, ms)
		return err
	})
	if err == nil && len(done) != len(ms) {
		err = fmt.Errorf("%d answers for %d moves", len(done), len(ms))
	}
	return done, err
}

// must makes one move that has to be done.
func (r *rig) must(m job.Move) {
	r.t.Helper()
	if done := r.move(m); !done[0] {
		r.t.Fatalf("move of %s from %s to %s at %d was refused", m.ID, m.From, m.To, m.Epoch)
	}
}

// end moves a running row to a state.
func end(row job.Row, to job.State) job.Move {
	return job.Move{ID: row.ID, From: job.Running, To: to, Epoch: row.Epoch}
}

// from moves a row as it was read.
func from(row job.Row, to job.State) job.Move {
	return job.Move{ID: row.ID, From: row.State, To: to, Epoch: row.Epoch}
}

func (r *rig) find(f job.Find) (out job.Found) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		out, err = r.Jobs().List(ctx, tx, f)
		return err
	})
	return out
}

func (r *rig) get(n int) job.Row {
	r.t.Helper()
	rows := r.find(job.Find{IDs: []string{id(n)}}).Rows
	if len(rows) != 1 {
		r.t.Fatalf("job %d: %d rows", n, len(rows))
	}
	return rows[0]
}

// is checks states, job by job from number 1 on ("" = skip).
func (r *rig) is(want ...job.State) {
	r.t.Helper()
	for i, w := range want {
		if w == "" {
			continue
		}
		if row := r.get(i + 1); row.State != w {
			r.t.Fatalf("job %d is %s (turn %v, place %d), want %s", i+1, row.State, row.Turn, row.Place, w)
		}
	}
}

func (r *rig) log(es ...job.Entry) error {
	return r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error { return r.Jobs().Log(ctx, tx, es) })
}

func (r *rig) finisher() job.Finisher {
	r.t.Helper()
	f, ok := r.Jobs().(job.Finisher)
	if !ok {
		r.t.Skip("no Finisher")
	}
	return f
}

func (r *rig) finish(f job.Finish) (out job.Finished) {
	r.t.Helper()
	fin := r.finisher()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		out, err = fin.Finish(ctx, tx, f)
		return err
	})
	return out
}

// limit sets the limit of a kind, or of one key, and answers all rows.
func (r *rig) limit(k syncqueue.Key, n int) (rows []syncqueue.PolicyRow) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		row := syncqueue.PolicyRow{Kind: k.Kind, ID: k.ID, Policy: syncqueue.Policy{Limit: n}}
		rows, err = r.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{row})
		return err
	})
	return rows
}

func kindOf(k syncqueue.Key) syncqueue.Key { return syncqueue.Key{Kind: k.Kind} }

func (r *rig) items(f syncqueue.Filter) (items []syncqueue.Item) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		items, err = r.Queues().List(ctx, tx, f)
		return err
	})
	return items
}

func (r *rig) audit() (n int) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		n, err = r.Queues().Audit(ctx, tx, 1000)
		return err
	})
	return n
}

// soon is a time from now that no check takes to get to its next line.
func (r *rig) soon() time.Duration {
	if _, ok := r.Stores.(interface{ Advance(d time.Duration) }); ok {
		return 50 * time.Millisecond
	}
	return time.Second
}

// pass lets the store's clock go on, in real time if it cannot be moved.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	if a, ok := r.Stores.(interface{ Advance(d time.Duration) }); ok {
		a.Advance(d)
		return
	}
	if d > r.soon() {
		r.t.Skip("this store's clock cannot be moved")
	}
	for target := r.now().Add(d); r.now().Before(target); {
		<-time.After(d / 10)
	}
}

func (r *rig) now() (now time.Time) {
	r.t.Helper()
	in(r.t, r, func(_ context.Context, tx store.Tx) error {
		now = tx.Now()
		return nil
	})
	return now
}

func receive(t testing.TB, c <-chan struct{}, topic string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("no hint on %s", topic)
	}
}

// fence waits until the hints of earlier transactions have passed.
func (r *rig) fence() {
	r.t.Helper()
	c, stop := r.Notifier().Wake("storetest/fence")
	defer stop()
	in(r.t, r, func(_ context.Context, tx store.Tx) error {
		tx.Hint("storetest/fence")
		return nil
	})
	receive(r.t, c, "storetest/fence")
}

// hinted checks that f's transactions wake sleepers on topic.
func (r *rig) hinted(topic string, f func()) {
	r.t.Helper()
	r.fence()
	c, stop := r.Notifier().Wake(topic)
	defer stop()
	f()
	receive(r.t, c, topic)
}

// concurrent tells whether two transactions may be open at once.
func (r *rig) concurrent() bool {
	r.t.Helper()
	if _, ok := r.Stores.(interface{ Remote() }); ok {
		return false
	}
	inside, entered := make(chan struct{}), make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		<-inside
		failed <- r.InTx(context.WithoutCancel(r.t.Context()), func(ctx context.Context, tx store.Tx) error {
			select {
			case <-entered:
			default:
				close(entered)
			}
			_, err := r.Jobs().Insert(ctx, tx, []job.Row{plain(999_002)})
			return errors.Join(err, errUndo)
		})
	}()
	both := false
	err := r.InTx(r.t.Context(), func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Insert(ctx, tx, []job.Row{plain(999_001)}); err != nil {
			return err
		}
		select {
		case <-inside:
		default:
			close(inside)
		}
		select {
		case <-entered:
			both = true
		case <-time.After(300 * time.Millisecond):
		}
		return errUndo
	})
	if second := <-failed; !errors.Is(err, errUndo) || !errors.Is(second, errUndo) {
		r.t.Fatal(err, second)
	}
	return both
}

var errUndo = errors.New("storetest: roll back")

func numbers(rows []job.Row) []int {
	ns := make([]int, len(rows))
	for i, row := range rows {
		if _, err := fmt.Sscanf(row.ID[len(row.ID)-12:], "%d", &ns[i]); err != nil {
			ns[i] = -1
		}
	}
	return ns
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %+v, want %+v", what, got, want)
	}
}

func sameRow(t testing.TB, what string, got, want job.Row) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func sameJSON(t testing.TB, what string, got, want json.RawMessage) {
	t.Helper()
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal(want, &w)); err != nil || !reflect.DeepEqual(g, w) {
		t.Fatalf("%s: got %.200s, want %.200s (%v)", what, got, want, err)
	}
}
